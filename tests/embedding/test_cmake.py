"""CMake's package: of the installed library, and of one that is built without Python or OpenMP."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from installed import HERE, check_bits, expected, needs_native, parsed, run, tool

import fastlsgd

ROOT = HERE.parents[1]

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="knows the names of files on Linux"
)


def build_caller(source: Path, folder: Path, *options: str) -> Path:
    """Build caller.c against the package that find_package finds; the program's path."""
    cmake = tool("cmake")
    run(cmake, "-S", source, "-B", folder, *options)
    run(cmake, "--build", folder)
    return folder / "caller"


@needs_native
def test_a_project_finds_the_installed_library(tmp_path):
    package = Path(fastlsgd.get_library_dir(), "cmake", "fastlsgd")
    check_bits(run(build_caller(HERE, tmp_path, f"-Dfastlsgd_DIR={package}")))


def build_alone(folder: Path, optimization: str) -> tuple[list[str], Path, list[str]]:
    """Install the library alone, for aarch64 if there is a compiler: options, prefix, emulator."""
    cross, emulator = "aarch64-linux-gnu", shutil.which("qemu-aarch64")
    options, launcher = ["-DCMAKE_BUILD_TYPE=Release"], []
    if emulator and shutil.which(f"{cross}-gcc"):
        options += [f"-DCMAKE_C_COMPILER={cross}-gcc", "-DCMAKE_SYSTEM_NAME=Linux"]
        options += ["-DCMAKE_SYSTEM_PROCESSOR=aarch64"]
        launcher = [emulator, "-L", f"/usr/{cross}"]
    build = ["-DFASTLSGD_PYTHON=OFF", "-DFASTLSGD_OPENMP=OFF", "-DFASTLSGD_ISAS=baseline"]
    build += [f"-DFASTLSGD_OPTIMIZATION={optimization}", "-DCMAKE_INSTALL_LIBDIR=lib"]
    cmake, prefix = tool("cmake"), folder / "prefix"
    run(cmake, "-S", ROOT, "-B", folder / "build", *options, *build)
    run(cmake, "--build", folder / "build")
    run(cmake, "--install", folder / "build", "--strip", "--prefix", prefix)
    return options, prefix, launcher


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    return build_alone(tmp_path_factory.mktemp("edge"), "-O0")


def test_the_library_alone_is_complete(edge):
    _, prefix, _ = edge
    files = {path.relative_to(prefix).as_posix(): path for path in prefix.rglob("*")}
    assert files["lib/libfastlsgd.so"].is_symlink()
    assert {"include/fastlsgd.h", "include/fastlsgd.hpp", "lib/pkgconfig/fastlsgd.pc"} <= set(files)
    assert {"lib/cmake/fastlsgd/fastlsgdConfig.cmake", "share/licenses/fastlsgd/LICENSE"} <= {
        *files
    }
    assert [name for name in files if "python" in name or name.endswith((".py", ".pyx"))] == []


@pytest.mark.long  # half a minute of compilation
def test_the_library_alone_is_smaller_than_a_megabyte(tmp_path):
    _, prefix, _ = build_alone(tmp_path, "-O2")
    assert (prefix / "lib" / "libfastlsgd.so").resolve().stat().st_size < 1_000_000


def test_the_library_alone_computes_the_same(edge, tmp_path):
    options, prefix, launcher = edge
    caller = build_caller(HERE, tmp_path, *options, f"-Dfastlsgd_DIR={prefix}/lib/cmake/fastlsgd")
    lines = parsed(run(*launcher, caller))
    assert lines["isa"] == ["neon"] if launcher else lines["isa"]
    assert lines["failed"] == ["0"]
    assert lines["invalid"] == ["9"]
    assert lines["whole"] == ["3"]
    for name, value in expected().items():
        found = np.array(lines[name], float)
        if name == "gram":
            found = found.reshape(8, 8)[:5, :5]
        np.testing.assert_allclose(found.ravel(), np.ravel(value), rtol=1e-12, atol=1e-12)
