"""The examples, of the folder and of the docstrings, run as a reader would run them."""

import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from optional import required

import fastlsgd


def no_gpu() -> bool:
    return fastlsgd.available_backends()["cuda"] != "available"


EXAMPLES = Path(__file__).parents[2] / "examples"

# The options of each script, and a line that it prints.
RUNS = {
    "fine_tuning.py": (["--small"], "wrote fine_tuning.png"),
    "from_the_formulas.py": (["--small"], "wrote from_the_formulas.png"),
    "handwritten_digits.py": (["--small"], "random convolutional features: accuracy 0.9"),
    "house_prices.py": (["--small"], "asked over HTTP: $"),
    "inference.py": ([], "ridge by leave-one-out"),
    "keras_program.py": (["--small"], "wrote keras_program.png"),
    "large_gradient.py": (["--rows", "20000"], "fastlsgd, one pass"),
    "on_a_gpu.py": (["--small"], "a GPU was not used" if no_gpu() else "on the backend cuda"),
    "optimizers.py": (["--small"], "from ridge"),
    "serve_http.py": ([], "a house of straw: 422, wall"),
    "synthetic_control.py": ([], "p-value by placebos"),
    "torch_head.py": ([], "LeastSquaresClassifier in the network: accuracy 0.9"),
    "troubleshooting.py": (["--small"], "in use: "),
}

# Packages that only an extra installs, of the scripts and modules that need them.
NEEDED = {
    "fine_tuning.py": "torch",
    "serve_http.py": "fastapi uvicorn",
    "torch_head.py": "torch",
    "fastlsgd.torch": "torch",
    "fastlsgd.jax": "jax",
    "fastlsgd._onnx": "skl2onnx",
}


@pytest.mark.parametrize("script", RUNS)
def test_example_runs(script, tmp_path):
    for package in NEEDED.get(script, "").split():
        required(package)
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


def modules_with_examples() -> list[str]:
    package = Path(fastlsgd.__file__).parent
    paths = [path for path in package.rglob("*.py") if ">>>" in path.read_text("utf-8")]
    names = [path.relative_to(package.parent).with_suffix("").parts for path in paths]
    return sorted(".".join(part for part in name if part != "__init__") for name in names)


@pytest.mark.parametrize("module", modules_with_examples())
def test_examples_in_docstrings(module):
    for prefix, package in NEEDED.items():
        if module.startswith(prefix):
            required(package)
    failed, attempted = doctest.testmod(importlib.import_module(module))
    assert attempted > 0
    assert failed == 0
