"""Packages of other frameworks, whose tests are skipped where they are missing."""

from __future__ import annotations

import importlib
import os

import pytest

# As .github/workflows/tests.yml sets it: a test that is skipped for lack of a package fails.
REQUIRED = os.environ.get("FASTLSGD_TEST_FRAMEWORKS") == "1"


def required(name: str):
    """Return the module; skip the test, or module of tests, if it is not installed."""
    return importlib.import_module(name) if REQUIRED else pytest.importorskip(name)
