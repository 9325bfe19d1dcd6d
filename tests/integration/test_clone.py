"""Started in a clone, Python runs the installed native kernels, unless they are stale."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastlsgd

ROOT = Path(__file__).resolve().parents[2]

# An editable install finds its modules by an importer of its own, which comes before the folder.
PRELUDE = """
import sys
sys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != "ScikitBuildRedirectingFinder"]
import fastlsgd
"""


@pytest.fixture
def clone(tmp_path):
    """What Python sees of a clone."""
    for folder in ("fastlsgd", "csrc", "cmake"):
        ignored = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(ROOT / "CMakeLists.txt", tmp_path)
    return tmp_path


def run(clone, code: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", PRELUDE + code], cwd=clone, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout + finished.stderr


needs_native = pytest.mark.skipif(
    fastlsgd.available_backends()["native"] != "available", reason="native was not built"
)


@needs_native
def test_sources_run_with_the_installed_kernels(clone):
    printed = run(
        clone,
        """
model = fastlsgd.LeastSquaresRegressor().fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])
print(fastlsgd.__file__, fastlsgd.kernels.native.__name__, model.backend_)
""",
    )
    file = clone / "fastlsgd" / "__init__.py"
    assert printed.strip() == f"{file} fastlsgd.kernels.native native"


@needs_native
@pytest.mark.parametrize("changed", ["csrc/rows.inc", "fastlsgd/kernels/native.pyx"])
def test_kernels_built_from_other_sources_are_not_loaded(clone, changed):
    with (clone / changed).open("a") as file:
        file.write("\n")
    printed = run(
        clone,
        """
print(fastlsgd.available_backends()["native"])
print(fastlsgd.kernels.load_backend("auto").__name__)
""",
    )
    status, *others = printed.splitlines()
    assert f"was made from other sources than those in {clone}" in status
    assert "pip install ." in status
    assert any("uses its slower backend" in line and "other sources" in line for line in others)
    assert "fastlsgd.kernels.native" not in others


def test_sources_without_an_installed_package_say_what_to_install(clone):
    printed = run(
        clone,
        """
from importlib import metadata
metadata.distributions = lambda **wanted: ()
print(fastlsgd.available_backends()["native"])
""",
    )
    assert "pip install ." in printed
    assert "No module named 'fastlsgd.kernels.native'" in printed
