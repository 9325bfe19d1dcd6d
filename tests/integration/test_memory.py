"""No public entry point allocates anything of the size of X, whatever its dtype.

The peak of the resident set beyond X is measured in a separate process (memory_of_calls.py). Issue
12, N, asks for less than 64 MB + O(threads x d). An X of 24 MB allows a stricter test: the limit is
16 MB, for the blocks of two threads and sums of 100 columns, plus 40 bytes per row, for targets,
residuals and an order of visits, so that a float32 copy of X exceeds it. QR needs two more
blocks of 16 MB (orthogonal.QR_BLOCK_NUMBERS), and the sketch twice 32 d (d + 1) float64 per thread.

All entry points are called with float32, some with float16 and CSR, two with every other dtype: an
absolute limit holds whoever allocates. test_memory_of_dtypes.py calls all of them with all dtypes.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import memory_of_calls
import pytest
from memory_of_calls import COLUMNS, KINDS, MB, names_of

SCRIPT = Path(memory_of_calls.__file__)
LIMIT, LIMIT_PER_ROW, THREADS = 16 * MB, 40, 2
MORE = {"fit, qr": 2 * 16 * MB, "fit, sketch": 2 * THREADS * 32 * COLUMNS * (COLUMNS + 1) * 8}

pytestmark = pytest.mark.skipif(not memory_of_calls.MARK.exists(), reason="Linux alone can tell")


@cache
def measured(kind: str) -> dict:
    """The rows of X, and the bytes that each entry point needed."""
    quiet = {"MALLOC_MMAP_THRESHOLD_": "1048576", "OMP_NUM_THREADS": str(THREADS)}
    answer = subprocess.run([sys.executable, "-P", SCRIPT, kind], capture_output=True, text=True,
                            env=os.environ | quiet, timeout=600)  # fmt: skip
    assert answer.returncode == 0, answer.stderr[-3000:]
    return json.loads(answer.stdout)


def cases():
    for kind in KINDS:
        for name in names_of(kind):
            yield kind, name


@pytest.mark.parametrize(("kind", "name"), list(cases()))
def test_growth(kind, name):
    if kind == "bfloat16" and importlib.util.find_spec("ml_dtypes") is None:
        pytest.skip("ml_dtypes is not installed")
    line = measured(kind)
    assert line["growth"][name] <= LIMIT + MORE.get(name, 0) + LIMIT_PER_ROW * line["rows"]
