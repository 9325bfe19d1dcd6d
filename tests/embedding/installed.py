"""What tests of callers share: the installed library, compilers, and the numbers of caller.c."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import fastlsgd
from fastlsgd.kernels import load_backend
from fastlsgd.kernels.contract import Epoch, SGDState

HERE = Path(__file__).parent

needs_native = pytest.mark.skipif(
    fastlsgd.available_backends()["native"] != "available", reason="native was not built"
)


def run(*command: str | Path, **options) -> str:
    """What a command prints; the test fails with its errors where it fails."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def tool(*names: str) -> str:
    """The path of the first of these programs that is installed; without any, skips the test."""
    for name in names:
        if path := shutil.which(name):
            return path
    pytest.skip(f"needs one of {', '.join(names)}")


def parsed(printed: str) -> dict[str, list[str]]:
    """The lines of a caller, by their first word."""
    return {line.split()[0]: line.split()[1:] for line in printed.splitlines()}


def number(k: np.ndarray) -> np.ndarray:
    return ((7 * k + 3) % 31 - 15) / 8.0


def expected() -> dict[str, np.ndarray]:
    """What caller.c must print, from this package's own calls of the same kernels."""
    n, d, t = 37, 5, 2
    native = load_backend("native")
    X = number(np.arange(n * d)).reshape(n, d)
    y = number(5 * np.arange(n * t) + 1).reshape(n, t)
    s, b = np.arange(n) % 4 * 1.0, np.array([0.5, -0.25])
    w = number(3 * np.arange(t * d) + 2).reshape(t, d)
    loss, coef, intercept = native.loss_gradient(X, y, w, b, s, 1)
    moments = native.gram(X, y, s, None, 1)
    results = {"loss": loss, "coef": coef, "intercept": intercept}
    results |= {"predict": native.predict(X, w, b, 1), "gram": moments.xx}
    epoch = Epoch(None, np.full(n, 0.0625), 4, 0.0, 0.0, True)
    results["total"] = np.array(native.sgd_epoch(X, y, w, b, s, epoch, SGDState(), 1))
    return results | {"sgd": w}


def check_bits(printed: str) -> None:
    """The numbers that a caller printed are those of this package, bit for bit."""
    lines = parsed(printed)
    for name, value in expected().items():
        found = np.array(lines[name], float)
        if name == "gram":
            found = found.reshape(8, 8)[:5, :5]
        np.testing.assert_array_equal(found, value.reshape(found.shape), err_msg=name)
