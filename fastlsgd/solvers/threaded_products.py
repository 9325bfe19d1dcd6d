"""Products of large matrices on fastlsgd's own threads, in each of which BLAS has one thread.

After a product, the threads of OpenBLAS go on waiting for the next one by spinning, for some 25 ms.
In a fit they take the processors from the threads of the kernels: a ridge of 200 x 5,000 float32
took 18 ms with two threads of either kind, and 6.5 with one. fastlsgd's threads sleep while they
wait.

Cost: that of BLAS on one thread, divided by the number of threads. Memory: the result.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Sequence
from ctypes import byref, c_int
from functools import cache, partial
from itertools import pairwise

import numpy as np

from .._threads import FEW_THREADED_PRODUCTS, call_all, carried, interruptible
from ..kernels import resolve_threads
from .interrupt import LONG_WORK
from .serial_blas import blas_threads, serial_blas

# Rows and columns of a part: BLAS is slower with fewer.
LEAST_PART = 64
C_NUMBERS = {"f": ("s", ctypes.c_float), "d": ("d", ctypes.c_double)}  # by the dtype's character

Calls = Sequence[Callable[[], object]]


def product(A: np.ndarray, B: np.ndarray, n_threads: int | None = None) -> np.ndarray:
    """Return A B of two matrices from so many threads at most; Ctrl-C does not wait for it.

    Few multiply-adds are made by one thread; there are never more than BLAS itself may have.
    """
    work = float(A.shape[0]) * A.shape[1] * B.shape[1]
    n_parts = n_parts_of(max(A.shape[0], B.shape[1]), work, n_threads)
    if n_parts == 1:
        return interruptible(np.matmul, A, B) if work >= LONG_WORK else A @ B
    out = np.empty((A.shape[0], B.shape[1]), np.result_type(A, B))
    if A.shape[0] >= B.shape[1]:
        calls = [partial(np.matmul, A[own], B, out=out[own]) for own in cut(len(A), n_parts)]
    else:
        columns = cut(B.shape[1], n_parts)
        calls = [partial(np.matmul, A, B[:, own], out=out[:, own]) for own in columns]
    make(calls, n_parts, work)
    return out


def square(A: np.ndarray, n_threads: int | None = None) -> np.ndarray:
    """Return A A^T as `product` does, with half of its multiply-adds."""
    n = len(A)
    work = 0.5 * n * n * A.shape[1]
    n_parts = n_parts_of(n, work, n_threads)
    if n_parts == 1:
        return product(A, A.T, 1)
    out = np.empty((n, n), A.dtype)

    def part(rows: slice, columns: slice) -> None:
        np.matmul(A[rows], A[columns].T, out=out[rows, columns])
        if rows != columns:
            out[columns, rows] = out[rows, columns].T

    make([partial(part, *own) for own in _triangle(n, n_parts)], n_parts, work)
    return out


def add_square(K: np.ndarray, B: np.ndarray, n_threads: int | None = None) -> None:
    """Add B^T B to the upper triangle of K, which is in the order of LAPACK, in place.

    Parameters
    ----------
    K : ndarray of shape (d, d)
        In Fortran order, of B's dtype, float32 or float64.
    B : ndarray of shape (n, d)
        In C or Fortran order.
    n_threads : int, optional
    """
    n, d = B.shape
    work = 0.5 * n * d * d

    def part(rows: slice, columns: slice) -> None:
        factors = (B[:, rows],) if rows == columns else (B[:, rows], B[:, columns])
        _add_part(K[rows, columns], *factors)

    n_parts = n_parts_of(d, work, n_threads)
    make([partial(part, *own) for own in _triangle(d, n_parts)], n_parts, work)


def n_parts_of(length: int, work: float, n_threads: int | None) -> int:
    """In how many parts to divide so many multiply-adds on rows or columns of this number."""
    if work <= FEW_THREADED_PRODUCTS:
        return 1
    return max(1, min(resolve_threads(n_threads), blas_threads(), length // LEAST_PART))


def cut(length: int, n_parts: int) -> list[slice]:
    """Divide a range of this length into parts that differ by one at most."""
    ends = [length * k // n_parts for k in range(n_parts + 1)]
    return [slice(start, stop) for start, stop in pairwise(ends)]


def _triangle(length: int, n_parts: int) -> list[tuple[slice, slice]]:
    """The upper triangle in blocks; those on the diagonal, which are half of the work, are last.

    As many threads as parts then end at the same time.
    """
    own = cut(length, n_parts)
    pairs = [(i, j) for i in range(n_parts) for j in range(i, n_parts)]
    return [(own[i], own[j]) for i, j in sorted(pairs, key=lambda pair: pair[0] == pair[1])]


def in_parts(calls: Calls, n_threads: int) -> None:
    """Make the calls on so many threads, each of which takes the next call that is left.

    BLAS has one thread in each. Where a call raises, the others are finished first.
    """
    left = deque(calls)

    def some() -> None:
        with serial_blas():  # an OpenMP library counts for each thread
            while True:
                try:
                    call = left.popleft()
                except IndexError:
                    return
                call()

    with serial_blas():  # OpenBLAS counts for the process
        call_all([some, *(carried(some) for _ in range(min(n_threads, len(calls)) - 1))])


def make(calls: Calls, n_threads: int, work: float) -> None:
    """Make the calls `in_parts`; Ctrl-C does not wait for them where they take long."""
    if work >= LONG_WORK:
        interruptible(in_parts, calls, n_threads)
    else:
        in_parts(calls, n_threads)


# ---------------------------------------------------------------------- BLAS without the GIL


def _add_part(K: np.ndarray, *factors: np.ndarray) -> None:
    """K += B^T C by gemm, or the upper triangle of K += B^T B by syrk.

    To BLAS, arrays in C order are their transposes. Parts of arrays are not copied.
    """
    first, (kind, number) = factors[0], C_NUMBERS[K.dtype.char]
    is_c = first.strides[1] == K.itemsize
    if len(factors) == 1:
        name, options, sizes = "syrk", (b"U", b"N" if is_c else b"T"), K.shape[:1]
    else:
        name, options, sizes = "gemm", (b"N", b"T") if is_c else (b"T", b"N"), K.shape
    least = first.shape[is_c]
    one = byref(number(1.0))
    arguments = [*options, *(byref(c_int(k)) for k in (*sizes, len(first))), one]
    for B in factors:
        arguments += [B.ctypes.data, byref(c_int(max(least, max(B.strides) // K.itemsize)))]
    arguments += [one, K.ctypes.data, byref(c_int(K.strides[1] // K.itemsize))]
    _routine(kind + name, len(arguments))(*arguments)


@cache
def _routine(name: str, n_arguments: int) -> Callable[..., None]:
    """A routine of SciPy's BLAS, called without the GIL and without copies.

    SciPy's Python functions hold the GIL, and copy parts of arrays. The pointers of its Cython
    interface do neither. Numba takes BLAS from them, too.
    """
    from scipy.linalg import cython_blas

    capsule = cython_blas.__pyx_capi__[name]
    api, one = ctypes.pythonapi, ctypes.py_object
    name_of = ctypes.PYFUNCTYPE(ctypes.c_char_p, one)(("PyCapsule_GetName", api))
    pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, one, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", api)
    )
    prototype = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * n_arguments)
    return prototype(pointer_of(capsule, name_of(capsule)))
