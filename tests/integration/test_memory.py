"""Nothing of the size of X is allocated, whatever its dtype, by any public entry.

The peak of the resident set beyond X, in a process of its own (memory_of_calls.py). Issue 12, N,
asks for less than 64 MB + O(threads x d). An X of 24 MB tells more: the limit here is 16 MB, for
the blocks of two threads and for sums of 100 columns, and 40 bytes a row, for targets, residuals
and an order of visits, so that a copy of X as float32 is over it. QR holds two blocks of 16 MB more
(orthogonal.QR_BLOCK_NUMBERS), and the sketch 32 d (d + 1) float64 a thread, twice.

All entries are called on float32, some on float16 and CSR, two on every other dtype. Not measured:
partial_fit of learning_rate="auto", which takes 14 s of this X.
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
    """Rows of X, and bytes of each entry."""
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
