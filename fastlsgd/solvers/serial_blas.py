"""BLAS and LAPACK on one thread, for work so small that waiting for threads would take longer.

OpenBLAS divides even the eigenvectors of a 50 x 50 matrix among threads. On two processors with one
busy process beside it, that takes 100 ms in place of 0.6, since each of the many steps waits until
the other thread runs again.

threadpoolctl finds the libraries, once. Its context managers take some 100 microseconds, which is
longer than the work; so the numbers of threads are set through its controllers here. Where they
belong to the whole process, as in OpenBLAS, BLAS calls that another Python thread makes meanwhile
have one thread too.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

from .._threads import FEW_BLAS_PRODUCTS, FEW_LAPACK_PRODUCTS, is_small
from ..kernels.contract import Matrix
from .moments_by_blas import BLAS_COLUMNS


class _SerialBlas(threading.local):
    """A context manager that may be entered again before it has been left, in each thread.

    Whichever thread finds more than one sets them to one, and sets them back. So it does not matter
    whether a library counts for each thread (OpenMP) or for the process, nor how threads overlap.
    """

    def __init__(self) -> None:
        self.entered = 0
        self.before: list[tuple[Any, int]] = []

    def __enter__(self) -> None:
        self.entered += 1
        if self.entered > 1:
            return
        for library in _libraries():
            n_threads = library.get_num_threads()
            if n_threads is not None and n_threads > 1:
                self.before.append((library, n_threads))
                library.set_num_threads(1)

    def __exit__(self, *error: object) -> None:
        self.entered -= 1
        while self.entered == 0 and self.before:
            library, n_threads = self.before.pop()
            library.set_num_threads(n_threads)


@cache
def _libraries() -> list[Any]:
    """The controllers of the BLAS libraries that NumPy and SciPy have loaded."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas").lib_controllers


serial_blas = _SerialBlas()


def blas_for(A: Matrix, n_targets: int = 1) -> AbstractContextManager[None]:
    """Return the context for products and factors of A: BLAS has one thread where A is small."""
    return serial_blas if is_small(A.shape, n_targets, FEW_BLAS_PRODUCTS) else nullcontext()


def blas_for_fit(A: Matrix, n_targets: int = 1) -> AbstractContextManager[None]:
    """Return the context for fits of A in which BLAS works on A^T A alone, where that is small.

    Where kernels make the products of rows (`moments_by_blas.py`), factors of 200 x 200 are all
    that is left to BLAS: 2,000 x 200 took 30 to 80 ms of processor time with two threads of it
    beside busy processes, and 4 with one.
    """
    n, d = A.shape
    is_left_to_kernels = d <= n and d < min(BLAS_COLUMNS.values())
    return serial_blas if is_left_to_kernels else blas_for(A, n_targets)


def blas_for_decomposition(A: Matrix, n_targets: int = 1) -> AbstractContextManager[None]:
    """Return the context for QR and eigenvectors of A: BLAS has one thread where they are quick."""
    return serial_blas if is_small(A.shape, n_targets, FEW_LAPACK_PRODUCTS) else nullcontext()


def blas_of(products: float) -> AbstractContextManager[None]:
    """Return the context for so many multiply-adds: BLAS has one thread if they are few."""
    return serial_blas if products <= FEW_BLAS_PRODUCTS else nullcontext()
