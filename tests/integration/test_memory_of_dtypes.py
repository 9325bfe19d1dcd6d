"""Every public entry on every dtype allocates a fixed number of numbers, and none of X's size.

tracemalloc sees what NumPy allocates, which is where a conversion of X would lie; what kernels in C
allocate does not depend on the dtype, and test_memory.py has it in the resident set. Blocks of rows
have a fixed size, most of 1 to 16 MB. So that an X of 4 MB tells, they are made smaller here by
`SHRUNK`: what then is allocated beyond them goes with X. The limit is 1 MB for blocks, and 40 bytes
a row for targets, residuals and an order of visits: less than X as float32, and less than the
indices of a CSR alone. QR holds two blocks more, and a sketch 32 d (d + 1) float64 and a quarter.

CSR in which rows have a column twice is not here: it is the one matrix that is copied. Kernels
square single entries (norms of rows, Gram matrices), so that the entries of a column must be added
up first, and SciPy adds them up in a copy, since X is the user's (docs/architecture.md).

BLAS has one thread here. With two, each of the thousands of small products waits for the other
processor: on a loaded machine this file then took 422 s, instead of 128 s (37 s of CPU time).
"""

from __future__ import annotations

import importlib.util
import sys
import threading
import tracemalloc
import warnings

import memory_of_calls
import pytest
from memory_of_calls import MB, dtype_of, problem
from threadpoolctl import threadpool_limits

import fastlsgd

COLUMNS, DENSE_SIZE, CSR_SIZE, SHRUNK = 60, 4 * MB, 5 * MB, 32
LIMIT, LIMIT_PER_ROW = 1 * MB, 40
MORE = {
    "fit, qr": 1 * MB,
    "fit, sketch": 5 * 32 * COLUMNS * (COLUMNS + 1) * 8 // 4,
    # Blocks of 1,024 rows as float64, and folds of few enough rows to be copied: fixed too.
    "partial_fit": 1 * MB,
    "partial_fit, SGDClassifier": 1 * MB,
    "SGDRegressorCV": 1 * MB,
    "SGDRegressorCV, constant": 1 * MB,
}
KINDS = ("bool", "int8", "uint8", "int16", "int64", "uint64", "float16", "bfloat16", "float32",
         "float64", "big-endian", "longdouble", "Fortran", "CSR", "CSR unsorted", "CSR float16",
         "CSR int8")  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def small_blocks():
    """Blocks of rows of a `SHRUNK`-th of their size, wherever a constant says what that is."""
    with (
        pytest.MonkeyPatch.context() as patch,
        fastlsgd.config_context(n_threads=1),
        threadpool_limits(1, "blas"),
    ):
        modules = [m for name, m in list(sys.modules.items()) if name.startswith("fastlsgd.")]
        for module in modules:
            for name, value in list(vars(module).items()):
                is_size = name.endswith(("_NUMBERS", "_ROWS")) or name == "_CHUNK"
                if is_size and isinstance(value, int) and value >= 2**15:
                    # No smaller: more blocks would take more time.
                    patch.setattr(module, name, max(2**13, value // SHRUNK))
        yield


def peak(call) -> int:
    """What `call` allocates, with what other threads of the process allocate in the meantime.

    Such a thread may be left by a test before this one: an interrupted call runs to its end.
    """
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_the_size_of_x_is_allocated(kind):
    if "bfloat16" in kind and importlib.util.find_spec("ml_dtypes") is None:
        pytest.skip("ml_dtypes is not installed")
    as_float32 = max(4, dtype_of(kind).itemsize) // 4  # how many times as large as this X is
    size = CSR_SIZE if kind.startswith("CSR") else DENSE_SIZE * as_float32
    X, y = problem(kind, size, COLUMNS)
    small = problem(kind, 0, COLUMNS)
    too_large = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for (name, call), (_, warm_up) in zip(
            memory_of_calls.entries(X, y), memory_of_calls.entries(*small), strict=True
        ):
            warm_up()  # what is loaded and compiled once does not count
            limit = LIMIT + LIMIT_PER_ROW * len(y) + MORE.get(name, 0)
            found = peak(call)
            if found > limit:
                found = min(peak(call) for _ in range(3))
            if found > limit:
                too_large[name] = f"{found / MB:.1f} MB"
    assert not too_large, threading.enumerate()
