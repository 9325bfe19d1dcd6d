"""The examples run as a reader would run them."""

import subprocess
import sys
from pathlib import Path

import pytest

import fastlsgd


def no_gpu() -> bool:
    return fastlsgd.available_backends()["cuda"] != "available"


EXAMPLES = Path(__file__).parents[2] / "examples"

# The options of each script, and a line that it prints.
RUNS = {
    "house_prices.py": ([], "R2 of the price in each fold"),
    "inference.py": ([], "ridge by leave-one-out"),
    "large_gradient.py": (["--rows", "20000"], "fastlsgd, one pass"),
    "optimizers.py": ([], "exact least squares"),
    "on_a_gpu.py": (["--rows", "20000"], "GPU" if no_gpu() else "on the backend cuda"),
}


@pytest.mark.parametrize("script", RUNS)
def test_example_runs(script, tmp_path):
    options, expected = RUNS[script]
    finished = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    assert expected in finished.stdout
    assert "Warning" not in finished.stderr


def test_every_example_is_run():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(RUNS)
