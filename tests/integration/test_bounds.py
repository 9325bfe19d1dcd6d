"""The oldest versions that are tested are the lower bounds that pyproject.toml declares."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]


def test_oldest_versions_are_those_of_pyproject():
    project = tomllib.loads((TESTS.parent / "pyproject.toml").read_text("utf-8"))["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    bounds = dict(re.match(r"([\w-]+)[^>]*>=([\d.]+)", line).groups() for line in declared)
    del bounds["numba-cuda"]  # one version: the machine of ptx/ runs that version's own path
    oldest = dict(re.findall(r"^([\w-]+)==([\d.]+)$", (TESTS / "oldest.txt").read_text(), re.M))
    assert oldest.keys() == bounds.keys()
    for name, version in oldest.items():
        assert f"{version}.".startswith(f"{bounds[name]}."), name
    assert project["requires-python"] == ">=3.11"  # the Python of .ci/bounds
