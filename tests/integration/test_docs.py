"""The Markdown pages: links and paths lead somewhere, and their Python blocks run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from optional import required

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in (ROOT, ROOT / "docs", ROOT / "docs" / "zh", ROOT / "fastlsgd" / "data")
    for path in folder.glob("*.md")
)
TOP = ("bench", "csrc", "docs", "examples", "fastlsgd", "tests")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page):
    text = (ROOT / page).read_text("utf-8")
    links = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", text)
    missing = [link for link in links if not leads_somewhere((ROOT / page).parent, link)]
    assert missing == []


def leads_somewhere(folder: Path, link: str) -> bool:
    """Whether there is such a file, or the site will have such a page when it is built."""
    generated = re.fullmatch(r"(?:\.\./)?generated/programs/(\w+)\.rst", link)
    if generated and generated[1] != "index":
        return (ROOT / "examples" / f"{generated[1]}.py").exists()
    return bool(generated) or (folder / link).exists()


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_paths_in_code_are_those_of_files(page):
    """Such as `tests/conftest.py`, with the root of the clone in front."""
    text = (ROOT / page).read_text("utf-8")
    paths = re.findall(rf"`((?:{'|'.join(TOP)})/[\w./-]+)`", text)
    made = "docs/_build/"  # by docs/build
    missing = [path for path in paths if not (path.startswith(made) or (ROOT / path).exists())]
    assert missing == []


NOT_RUN = {
    "docs/cuda.md": "it needs a GPU",
    "docs/frameworks.md": "it has a test of its own, below",
    "docs/scaling.md": "tests/dask/test_recipes.py runs it beside the files that it reads",
}


def test_code_of_pages_runs(tmp_path):
    """Each Python block of the README and of docs/; Chinese pages have the same, by test_twins."""
    runner = ROOT / "tests" / "support" / "code_blocks.py"
    pages = ["README.md", *(page for page in PAGES if page.startswith("docs/"))]
    chosen = [page for page in pages if page not in NOT_RUN and not page.endswith(".zh.md")]
    run([str(runner), *(str(ROOT / page) for page in chosen)], tmp_path)


@pytest.mark.parametrize(
    "code",
    re.findall(r"```python\n(.*?)```", (ROOT / "docs/frameworks.md").read_text("utf-8"), re.S),
)
def test_examples_of_other_frameworks_run(code, tmp_path):
    for package in ("torch", "jax", "onnxruntime"):
        if f"import {package}\n" in code:
            required(package)
    run(["-c", code], tmp_path)


def run(arguments, folder):
    # Numba cannot load from its cache what was compiled from a block, which is no module.
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder)}
    finished = subprocess.run(
        [sys.executable, "-P", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
