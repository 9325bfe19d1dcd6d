"""How fast this machine reads memory and multiplies matrices, as limits for the kernels.

The read probe adds up 512 MB of float32 (16 times the last-level cache of the machine for which
the bars were set); each thread adds up a contiguous part. Numba compiles the sum to vector
additions into several accumulators, so that their latency is hidden by the wait for memory. On that
machine, a C loop over four AVX-512 registers was no faster with 1 or 2 threads, and np.add.reduce
was a tenth slower.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numba
import numpy as np
from timing import best_of

PROBE_BYTES = 512 * 2**20


@numba.njit(nogil=True, fastmath={"reassoc", "nsz"})
def _sum(numbers):
    total = np.float32(0)
    for i in range(numbers.size):
        total += numbers[i]
    return total


@cache
def _numbers() -> np.ndarray:
    return np.ones(PROBE_BYTES // 4, np.float32)  # written to, so that every page is mapped


@cache
def reader(n_threads: int) -> Callable[[], object]:
    """A call that reads `PROBE_BYTES` once, with this many threads."""
    parts = np.array_split(_numbers(), n_threads)
    _sum(parts[0][:16])  # compiles
    if n_threads == 1:
        return lambda: _sum(parts[0])
    pool = ThreadPoolExecutor(n_threads)
    return lambda: list(pool.map(_sum, parts))


@cache
def read_bandwidth(n_threads: int) -> float:
    """Bytes per second: the best of 15 reads, measured once per session."""
    return PROBE_BYTES / best_of(reader(n_threads), 15)


@cache
def gemm_rate(dtype: str) -> float:
    """Floating-point operations per second in NumPy's product of 2,048 x 2,048 matrices."""
    size = 2048
    a = np.ones((size, size), dtype)
    out = np.empty_like(a)
    return 2.0 * size**3 / best_of(lambda: np.matmul(a, a, out=out), 7)
