"""Weights of fewer rows than columns moved along the rows, with their products, in one pass over X.

A compiled kernel takes rows as they are, and adds up in float64 (`csrc/moved_weights.c`); BLAS on
blocks of columns that are converted to float64 stands in for it. Milliseconds of float32 X for 1
and 10 targets, with one thread:

    200 x 5,000       BLAS 0.57,  2.1     compiled 0.26,  1.1
    1,000 x 4,000     BLAS 3.1,   9.5     compiled 1.4,   6.1
    500 x 20,000      BLAS 9.0,  23       compiled 3.5,  13
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeGuard

import numpy as np

from ..kernels.contract import Kernels
from ..kernels.optional import WideKernels, has_wide_kernels
from .threaded_products import cut, make, n_parts_of

MOVED_NUMBERS = 2**17  # of a block that is converted: 1 MB, which takes less than a larger one
# Of a number of X, a pass costs as much as products with so many targets.
PASS_WORK = 16

Moved = Callable[[slice, np.ndarray], None]  # moves the weights of these columns; adds to products


def move_dense(
    X: np.ndarray,
    rows: np.ndarray | None,
    coef: np.ndarray,
    u: np.ndarray,
    centre: np.ndarray,
    constant: np.ndarray,
    kernels: Kernels,
    n_threads: int,
) -> np.ndarray:
    """Add (X - 1 centre^T)^T u to coef (t, d), in place, and return X coef^T, (n, t).

    Parameters
    ----------
    X : ndarray of shape (m, d)
    rows : ndarray of shape (n,) or None
        The rows of X that count; all of them if None.
    coef : ndarray of shape (t, d)
        float64, each row of it contiguous.
    u : ndarray of shape (n, t)
    centre : ndarray of shape (d,)
    constant : ndarray of shape (k,)
        Columns whose weights become zero, in ascending order.
    kernels : Kernels
    n_threads : int
        Each thread takes blocks of columns.
    """
    n, d = len(u), X.shape[1]
    work = float(n) * d * max(u.shape[1], PASS_WORK)
    parts = cut(d, n_parts_of(d, work, n_threads))
    out = np.zeros((len(parts), *u.shape))
    problem = coef, np.ascontiguousarray(u), centre, constant.astype(np.int64, copy=False)
    if rows is None and takes_long_rows(kernels, X):
        moved = _by_kernel(kernels, X, *problem)
    else:
        moved = _by_blas(X, rows, *problem)
    make([partial(moved, *own) for own in zip(parts, out, strict=True)], len(parts), work)
    return out.sum(axis=0)


def takes_long_rows(kernels: Kernels, X: np.ndarray) -> TypeGuard[WideKernels]:
    """Return whether a compiled kernel can read X as it is."""
    return has_wide_kernels(kernels) and X.dtype.char in "fd" and X.strides[1] == X.itemsize


def _within(constant: np.ndarray, columns: slice) -> np.ndarray:
    """Return where the constant columns are among these."""
    first, last = np.searchsorted(constant, (columns.start, columns.stop))
    return constant[first:last] - columns.start


def _by_kernel(kernels: WideKernels, X: np.ndarray, coef, u, centre, constant) -> Moved:
    total = u.sum(axis=0)

    def moved(own: slice, out: np.ndarray) -> None:
        some = _within(constant, own)
        kernels.move_weights(X[:, own], coef[:, own], u, total, centre[own], some, out)

    return moved


def _by_blas(X: np.ndarray, rows: np.ndarray | None, coef, u, centre, constant) -> Moved:
    total, step = u.sum(axis=0), max(8, MOVED_NUMBERS // len(u))

    def moved(own: slice, out: np.ndarray) -> None:
        buffer = np.empty(len(u) * min(step, own.stop - own.start))
        for columns in _slices(own, step):
            B = X[:, columns] if rows is None else X[rows, columns]
            if B.dtype != np.float64:  # into memory that is there: new pages take as long
                copy = buffer[: B.size].reshape(B.shape)
                copy[:] = B
                B = copy
            part = coef[:, columns] + u.T @ B - np.outer(total, centre[columns])
            part[:, _within(constant, columns)] = 0.0
            coef[:, columns] = part
            out += B @ part.T

    return moved


def _slices(columns: slice, step: int) -> Iterator[slice]:
    for first in range(columns.start, columns.stop, step):
        yield slice(first, min(first + step, columns.stop))
