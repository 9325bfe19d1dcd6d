"""Programs in C and C++ that call the installed library, and what the library exports."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from installed import HERE, check_bits, needs_native, parsed, run, tool

import fastlsgd

pytestmark = [
    needs_native,
    pytest.mark.skipif(sys.platform == "win32", reason="calls compilers as Unix has them"),
]


def exported() -> set[str]:
    header = Path(fastlsgd.get_include(), "fastlsgd.h").read_text("utf-8")
    return set(re.findall(r"^FASTLSGD_API [\w \*]+?(fastlsgd_\w+)\(", header, re.M))


def library() -> Path:
    """The file of the library, which has its ABI version in its name."""
    folder = Path(fastlsgd.get_library_dir())
    return next(path for path in folder.glob("libfastlsgd.*") if re.search(r"\.\d", path.name))


def link_options() -> list[str]:
    folder = fastlsgd.get_library_dir()
    return [f"-I{fastlsgd.get_include()}", f"-L{folder}", f"-Wl,-rpath,{folder}", "-lfastlsgd"]


def test_the_library_exports_the_interface_and_nothing_else():
    if not sys.platform.startswith("linux"):
        pytest.skip("reads ELF files")
    printed = run(tool("nm"), "-D", "--defined-only", library())
    assert {line.split()[-1] for line in printed.splitlines()} == exported()
    assert len(exported()) >= 16
    printed = run(tool("readelf"), "-d", library())
    assert f"[{library().name}]" in next(line for line in printed.splitlines() if "SONAME" in line)


def test_the_module_is_linked_to_the_library_beside_it():
    import fastlsgd.kernels.native as native

    if not sys.platform.startswith("linux"):
        pytest.skip("reads ELF files")
    printed = run(tool("readelf"), "-d", native.__file__)
    assert f"[{library().name}]" in printed
    assert "$ORIGIN/../lib" in printed
    with open("/proc/self/maps") as maps:
        assert str(library().resolve()) in maps.read()


def test_a_program_in_c_gets_the_same_bits(tmp_path):
    compiler = tool(os.environ.get("CC", "cc"), "gcc", "clang")
    program = tmp_path / "caller"
    strict = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic")
    run(compiler, *strict, HERE / "caller.c", "-o", program, *link_options())
    printed = run(program)
    check_bits(printed)
    lines = parsed(printed)
    assert lines["abi"][0] == lines["abi"][1]
    assert lines["version"] == [fastlsgd.__version__]
    assert int(lines["cases"][0]) >= 324
    assert lines["failed"] == ["0"]  # sizes of 0, in every kernel
    assert lines["invalid"] == ["9"]
    assert lines["whole"] == ["3"]


def test_a_program_in_cpp_gets_the_same_bits(tmp_path):
    compiler, program = tool("c++", "g++", "clang++"), tmp_path / "caller"
    folder = Path(fastlsgd.get_library_dir(), "pkgconfig")
    found = os.environ | {"PKG_CONFIG_PATH": str(folder)}
    options = run(tool("pkg-config"), "--cflags", "--libs", "fastlsgd", env=found).split()
    strict = ("-std=c++20", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wsign-conversion")
    run(compiler, *strict, HERE / "caller.cpp", "-o", program, *options)
    printed = run(program)
    check_bits(printed)
    assert parsed(printed)["averages"] == ["10"]
    assert parsed(printed)["epochs"] == ["1"]  # several in one call are as many calls
    assert re.findall("refused (.*)", printed) == [
        "y has 74 elements, and needs 111",
        "X is larger than any array",
        "X has a negative size",
        "rates has 37 elements, and needs 74",
        "order must have as many visits for each epoch",
        "coef and intercept must keep the sizes that they were made with",
    ]
