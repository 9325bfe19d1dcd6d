"""Versions that stand in two files are the same in both."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import fastlsgd

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def bounds(lines: list[str], comparison: str) -> dict[str, str]:
    found = (re.match(rf"([\w-]+)(?:\[\w+\])?{comparison}([\d.]+)", line) for line in lines)
    return dict(match.groups() for match in found if match)


def test_oldest_versions_are_those_of_pyproject():
    extras = [line for name in ("plot", "streams", "dask", "test") for line in EXTRAS[name]]
    declared = bounds([*PROJECT["dependencies"], *extras], ">=")
    oldest = dict(
        re.findall(r"^([\w-]+)==([\d.]+)$", (ROOT / "tests" / "oldest.txt").read_text(), re.M)
    )
    assert oldest.keys() == declared.keys()
    for name, version in oldest.items():
        assert f"{version}.".startswith(f"{declared[name]}."), name
    assert PROJECT["requires-python"] == ">=3.11"
    assert '@nox.session(python="3.11")\ndef oldest' in (ROOT / "noxfile.py").read_text()


def test_tools_of_pre_commit_are_those_of_the_extra_dev():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    pinned = bounds(EXTRAS["dev"], "==")
    assert pinned.keys() == {"clang-format", "mypy", "ruff"}
    for name, version in pinned.items():
        assert set(re.findall(rf"\b{name}==([\d.]+)", hooks)) == {version}, name


def test_citation_has_the_version():
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.search(r"^version: (.*)$", citation, re.M)[1] == fastlsgd.__version__
