"""Run the Python blocks of Markdown pages, each by itself, in one process.

python code_blocks.py PAGE... prints a line for each block that fails, and exits with 1 if one does.
A block that imports a package which is not installed is left out if that is one of OPTIONAL.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import fastlsgd

# Packages that the extra `test` does not bring.
OPTIONAL = {"cupy", "dask", "distributed", "duckdb", "fastapi", "jax", "onnx", "onnxruntime"}
OPTIONAL |= {"polars", "pyspark", "ray", "skl2onnx", "torch"}


def blocks(text: str) -> Iterator[tuple[int, str]]:
    """Yield each Python block with the number of its first line."""
    for match in re.finditer(r"^```python\n(.*?)^```", text, re.S | re.M):
        yield text.count("\n", 0, match.start(1)) + 1, match.group(1)


def is_left_out(code: str) -> bool:
    names = re.findall(r"^\s*(?:import|from) (?:fastlsgd\.)?(\w+)", code, re.M)
    return any(name in OPTIONAL and importlib.util.find_spec(name) is None for name in names)


def run(page: Path) -> list[str]:
    """Return a description of each block that fails."""
    failures = []
    for line, code in blocks(page.read_text("utf-8")):
        if is_left_out(code):
            continue
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile("\n" * (line - 1) + code, str(page), "exec"), {"__name__": "__main__"})
        except Exception:
            failures.append(f"{page}:{line}\n{traceback.format_exc(limit=-2)}")
        finally:
            fastlsgd.unpatch_sklearn()  # what one block patches, another does not see
    return failures


if __name__ == "__main__":
    found = [failure for page in sys.argv[1:] for failure in run(Path(page))]
    print("\n".join(found))
    sys.exit(bool(found))
