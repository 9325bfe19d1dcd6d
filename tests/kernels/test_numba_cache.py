"""Numba's cache on disk: what is compiled once, and when it is compiled again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastlsgd

pytest.importorskip("numba")

PREDICTS = """
import sys
sys.meta_path = [finder for finder in sys.meta_path if isinstance(finder, type)]
sys.path.insert(0, sys.argv[1])
import numpy as np
from fastlsgd.kernels import numba_cpu
from fastlsgd.kernels.contract import CSR
assert numba_cpu.__file__.startswith(sys.argv[1])
X = CSR(np.array([3.0]), np.array([0]), np.array([0, 1]), (1, 1))
print(numba_cpu.predict(X, np.array([[5.0]]), np.array([1.0]), 1).item())
"""


def test_a_changed_helper_is_compiled_again(tmp_path):
    """A kernel in one file, its helper in another: Numba itself looks at the first alone."""
    package, cache = tmp_path / "fastlsgd", tmp_path / "cache"
    shutil.copytree(
        Path(fastlsgd.__file__).parent,
        package,
        ignore=shutil.ignore_patterns("data", "__pycache__"),
    )

    def prediction() -> float:
        done = subprocess.run(
            [sys.executable, "-c", PREDICTS, str(tmp_path)],
            env=os.environ | {"NUMBA_CACHE_DIR": str(cache)},
            cwd=tmp_path, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return float(done.stdout)

    assert prediction() == 16.0
    compiled = sorted(cache.rglob("*.nbc"))
    assert compiled
    assert prediction() == 16.0
    assert sorted(cache.rglob("*.nbc")) == compiled

    helpers = package / "kernels" / "numba_cpu" / "rows.py"
    source = helpers.read_text()
    changed = source.replace("P[0, 0] = total + b[0]", "P[0, 0] = total - b[0]")
    assert changed != source
    helpers.write_text(changed)
    assert prediction() == 14.0
