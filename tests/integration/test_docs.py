"""The Markdown pages: links and paths lead somewhere, and the examples of some run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from optional import required

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in (ROOT, ROOT / "docs", ROOT / "fastlsgd" / "data")
    for path in folder.glob("*.md")
)
TOP = ("bench", "csrc", "docs", "examples", "fastlsgd", "tests")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page):
    text = (ROOT / page).read_text("utf-8")
    links = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", text)
    missing = [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_paths_in_code_are_those_of_files(page):
    """Such as `tests/conftest.py`, with the root of the clone in front."""
    text = (ROOT / page).read_text("utf-8")
    paths = re.findall(rf"`((?:{'|'.join(TOP)})/[\w./-]+)`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(
    "code",
    [
        code
        for page in ("README.md", "docs/segments.md", "docs/inference.md", "docs/model_files.md")
        for code in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.S)
    ],
)
def test_examples_of_pages_run(code, tmp_path):
    run(code, tmp_path)


@pytest.mark.parametrize(
    "code",
    re.findall(r"```python\n(.*?)```", (ROOT / "docs/frameworks.md").read_text("utf-8"), re.S),
)
def test_examples_of_other_frameworks_run(code, tmp_path):
    for package in ("torch", "jax", "onnxruntime"):
        if f"import {package}\n" in code:
            required(package)
    run(code, tmp_path)


def run(code, tmp_path):
    finished = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
