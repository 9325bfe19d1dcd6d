"""How rows are divided among threads, around kernels that release the GIL.

Numba's own threading layers are not used: its workqueue aborts the process when two threads call
it at once (numba issue 10565). Chunks depend on the shape and on n_threads alone, and their sums
are added up in order, so that results are bit-identical for a fixed n_threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numba.core.compiler_lock import global_compiler_lock

from ..._threads import call_all
from ..contract import CSR, Matrix
from .compile import lock

SERIAL_WORK = 200_000  # multiply-adds below which handing work to a thread costs more than it gains
MOST_CHUNKS = 1_024  # no machine has more threads to gain by, and each chunk has sums of its own


def _wait_for_compilers() -> None:
    """Before a fork: a compilation in another thread, ours or not, would never end in the child."""
    lock.acquire()
    global_compiler_lock.acquire()


def _release_compilers() -> None:
    """After a fork, in both processes."""
    global_compiler_lock.release()
    lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_wait_for_compilers,
        after_in_parent=_release_compilers,
        after_in_child=_release_compilers,
    )


def in_chunks(chunk: Callable[[int, int], Any], bounds: list[int]) -> list:
    """[chunk(bounds[0], bounds[1]), chunk(bounds[1], bounds[2]), ...], the first in this thread."""
    if len(bounds) == 2:
        return [chunk(*bounds)]
    return call_all([partial(chunk, low, high) for low, high in pairwise(bounds)])


def chunk_bounds(X: Matrix, work_per_element: int, n_threads: int) -> list[int]:
    """Where to cut the rows, by shape and n_threads alone; CSR rows by their number of entries."""
    n, d = X.shape
    elements = int(X.indptr[-1] - X.indptr[0]) if isinstance(X, CSR) else n * d
    # Each chunk has sums of its own, of d numbers for each target, which only as many entries or
    # more are worth.
    chunks = min(n_threads, elements // d, elements * work_per_element // SERIAL_WORK, MOST_CHUNKS)
    if chunks <= 1:
        return [0, n]
    cuts = [k * elements // chunks for k in range(1, chunks)]
    if not isinstance(X, CSR):
        return [0, *(cut // d for cut in cuts), n]
    first = int(X.indptr[0])
    return [0, *np.searchsorted(X.indptr, [first + cut for cut in cuts]).tolist(), n]


def add_up(parts: list[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    """The sums of the chunks' arrays, in order, in those of the first chunk."""
    for part in parts[1:]:
        for total, summand in zip(parts[0], part, strict=True):
            total += summand
    return parts[0]


def sums(count: int) -> np.ndarray:
    """Zeros on cache lines of their own: shared with another thread's they halved both speeds."""
    return np.zeros(count + 16)[8:-8]
