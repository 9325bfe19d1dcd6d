"""A^T A of many columns by BLAS, a block of rows at a time.

The `gram` kernel reads X once and keeps d^2 sums in cache, which wins for few columns. From some
hundreds on, BLAS has more arithmetic per number that it loads. On an AMD EPYC (Zen 4), one thread,
milliseconds of the kernel and of `syrk`:

    5,000 x 250     float32 19, 12      float64 15, 24
    5,000 x 500     float32 80, 26      float64 84, 81
    5,000 x 1,000   float32 324, 150    float64 323, 314
    2,500 x 2,500   float32 2,828, 500  float64 2,453, 967

Float32 products are a metric for float32 data, whose solution is corrected by true residuals; they
are not the sums that cross-validation and L1 penalties compute with.
"""

from __future__ import annotations

import numpy as np

from .._threads import FEW_THREADED_PRODUCTS
from ..kernels.contract import CSR, Gram, Matrix, working_dtype
from ..kernels.device import lives_on_device
from .threaded_products import add_square

# The number of columns from which BLAS is quicker than the kernel, by the dtype of its products.
BLAS_COLUMNS = {"float32": 300, "float64": 1000}
# A block of rows has about as many numbers, or as many rows as BLAS is quick with, and takes at
# most so many multiply-adds, for which Ctrl-C waits.
BLAS_NUMBERS, THREADED_NUMBERS = 2**18, 2**21
GOOD_ROWS, LEAST_ROWS = 256, 32
MOST_WORK = 1e10
MIRRORED_ROWS = 64


def blas_dtype(X: Matrix, rough: bool) -> str | None:
    """Return the dtype of the products of X's columns for which BLAS is the quicker way, if any.

    `rough`: float32 products are good enough for float32 data.
    """
    if isinstance(X, CSR) or lives_on_device(X):
        return None
    dtype = "float32" if rough and working_dtype(X) == np.float32 else "float64"
    return dtype if X.shape[1] >= BLAS_COLUMNS[dtype] else None


def gram_by_blas(
    X: np.ndarray,
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    shift: np.ndarray | None,
    dtype: str,
    n_threads: int = 1,
) -> Gram:
    """Return the sums of the `gram` kernel in products of this dtype, which `xx` has too."""
    (n, d), t = X.shape, y.shape[1]
    origin = None if shift is None else shift.astype(dtype)
    xx, xy = np.zeros((d, d), dtype, order="F"), np.zeros((d, t))
    x, y_sum, weight = np.zeros(d), np.zeros(t), 0.0
    step = _rows_at_a_time(d, n_threads)
    memory = np.empty((min(step, n), d), dtype)  # new pages would take as long as the copies
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        B, targets = memory[: rows.stop - start], y[rows].astype(np.float64)
        B[:] = X[rows]
        own = np.ones(len(B)) if sample_weight is None else sample_weight[rows].astype(np.float64)
        if origin is not None:
            B -= origin
        if sample_weight is not None:
            B[own == 0.0] = 0.0  # whatever such a row holds
            targets[own == 0.0] = 0.0
        x += B.sum(axis=0, dtype=np.float64) if sample_weight is None else own @ B
        xy += (B.T @ (own[:, None] * targets).astype(dtype)).astype(np.float64)
        y_sum += own @ targets
        weight += float(own.sum())
        if sample_weight is not None:
            B *= np.sqrt(own).astype(dtype)[:, None]
        add_square(xx, B, n_threads)
    return Gram(_mirrored(xx), xy, x, y_sum, weight)


def _rows_at_a_time(d: int, n_threads: int) -> int:
    """Rows in a block; for several threads, as many as it takes to divide their products."""
    step = max(BLAS_NUMBERS // d, GOOD_ROWS)
    if n_threads > 1:
        step = max(step, min(4 * FEW_THREADED_PRODUCTS // d**2, THREADED_NUMBERS // d))
    return max(LEAST_ROWS, min(step, int(MOST_WORK / d**2)))


def _mirrored(upper: np.ndarray) -> np.ndarray:
    """Copy the upper triangle of a square array into the lower one."""
    for start in range(0, len(upper), MIRRORED_ROWS):
        stop = min(start + MIRRORED_ROWS, len(upper))
        upper[stop:, start:stop] = upper[start:stop, stop:].T
        corner = upper[start:stop, start:stop]
        corner += np.triu(corner, 1).T
    return upper
