"""Wheels as they are built where the native kernels can't be: without them, and with a warning."""

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("scikit_build_core", "Cython")),
    reason='needs what builds wheels: pip install ".[dev]"',
)


PRINT = """
import sys
sys.path.insert(0, "installed")
sys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != "ScikitBuildRedirectingFinder"]
import fastlsgd.kernels
"""


def build(folder: Path, *defines: str, **environment: str) -> tuple[int, str]:
    """`pip wheel` of the sources, into `installed`; its exit status and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-v", "--no-build-isolation", "--no-deps",
         f"--config-settings=build-dir={folder / 'build'}",
         *(f"--config-settings=cmake.define.{define}" for define in defines), str(ROOT)],
        env=os.environ | environment, text=True, cwd=folder,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "installed")
    return done.returncode, " ".join(done.stdout.split())


def run(folder: Path, code: str) -> tuple[str, str]:
    """What a Python prints that imports what was built."""
    done = subprocess.run(
        [sys.executable, "-c", PRINT + code], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


def test_without_a_compiler_the_other_backends_are_installed(tmp_path):
    status, printed = build(tmp_path, CC="/bin/false")
    assert status == 0, printed[-5000:]
    assert "is built without its native kernels" in printed
    assert "no C compiler that works was found" in printed
    built = (tmp_path / "installed").rglob("native*")
    assert not [path for path in built if path.suffix not in (".pyi", ".pxd")]
    backend, warning = run(
        tmp_path,
        """
print(fastlsgd.kernels.load_backend("auto").__name__)
fastlsgd.LeastSquaresRegressor(backend="reference").fit([[0.0], [1.0]], [1.0, 2.0])
""",
    )
    assert backend in ("fastlsgd.kernels.numba_cpu", "fastlsgd.kernels.reference")
    assert "native is not available here" in warning
    without, _ = run(
        tmp_path,
        """
try:
    fastlsgd.get_include()
except RuntimeError as error:
    print(error)
""",
    )
    assert "installed without its native kernels" in without


def test_without_a_compiler_native_kernels_that_are_required_are_an_error(tmp_path):
    status, printed = build(tmp_path, "FASTLSGD_REQUIRE_NATIVE=ON", CC="/bin/false")
    assert status != 0
    assert "native kernels can't be built: no C compiler" in printed


@pytest.fixture(scope="module")
def without_openmp(tmp_path_factory):
    """The folder of a wheel that is built without OpenMP, and what was printed meanwhile."""
    folder = tmp_path_factory.mktemp("wheel")
    without = "CMAKE_DISABLE_FIND_PACKAGE_OpenMP=ON", "FASTLSGD_OPTIMIZATION=-O0"
    status, printed = build(folder, *without, "FASTLSGD_ISAS=baseline")
    assert status == 0, printed[-5000:]
    return folder, printed


def test_without_openmp_native_kernels_have_one_thread(without_openmp):
    folder, printed = without_openmp
    assert "is built without OpenMP" in printed
    found, _ = run(
        folder,
        """
print(fastlsgd.kernels.load_backend("native").build_info()["openmp"])
print(fastlsgd.loss_gradient([[1.0]], [2.0], [0.0])[0])
""",
    )
    assert found.split() == ["no", "2.0"]


def test_a_wheel_has_what_other_programs_are_built_with(without_openmp):
    folder, _ = without_openmp
    found, _ = run(folder, "print(fastlsgd.get_include(), fastlsgd.get_library_dir())")
    include, library = map(Path, found.split())
    assert include.is_relative_to(folder)
    assert {path.name for path in include.iterdir()} == {"fastlsgd.h", "fastlsgd.hpp"}
    assert (library / "cmake" / "fastlsgd" / "fastlsgdConfig.cmake").exists()
    assert (library / "pkgconfig" / "fastlsgd.pc").exists()
    assert (library.parent / "kernels" / "native.pxd").exists()
