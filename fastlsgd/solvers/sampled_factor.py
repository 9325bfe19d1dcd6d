"""A full metric for hundreds of columns: the Cholesky factor of the curvature, from a few rows.

Scaled columns may still be correlated, and conjugate gradients then take hundreds of epochs. Four
times as many random rows as columns show the curvature to within a factor of 2.25 in every
direction (Marchenko and Pastur 1967), so that a handful of epochs is left, or one where these are
all rows. What a sample misses, such as a column that varies in few rows, only costs epochs.

Cost: m d^2 / 2 multiply-adds for m rows, and d^3 / 6. Memory: one d x d matrix, and a few rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import blas, lapack

from ..kernels.contract import Matrix
from .factors import NotTrustworthy, TriangularFactor
from .metric import GRAM_CHUNK_NUMBERS, SAMPLE_RATIO
from .rows import as_dense, random_rows, stored_numbers, take_rows

# The matrix has at most 32 megabytes.
MOST_FEATURES = 2048
ROWS_PER_FEATURE = 4
# In the metric of so many rows, the curvature is at least this, except for what they do not see.
LEAST_CURVATURE = 1.0 / SAMPLE_RATIO
# Curvature, in columns of curvature 1, of directions in which the rows do not vary.
RIDGE = 1e-10
# A multiply-add of BLAS takes this share of the time in which a pass reads a number.
MULTIPLY_SHARE = 1.0 / 8.0
# Epochs that conjugate gradients in scaled columns have in any case, and at most. A factor takes a
# tenth of a second, for which a few rows could be read thousands of times.
LEAST_EPOCHS, MOST_EPOCHS = 16, 128


def epochs_before(X: Matrix, n_rows: int) -> int | None:
    """Return in how many epochs the time of a factor passes; None if there should be none.

    A fit that changes to it then takes at most twice the time of the better choice.
    """
    d = X.shape[1]
    if d > MOST_FEATURES:
        return None
    products = 0.5 * d * d * (min(n_rows, ROWS_PER_FEATURE * d) + d / 3.0)
    passes = int(MULTIPLY_SHARE * products / max(stored_numbers(X), 1))
    return min(max(LEAST_EPOCHS, passes), MOST_EPOCHS)


def sampled_factor(
    X: Matrix,
    sample_weight: Any,
    centre: np.ndarray,
    scale: np.ndarray,
    squares: np.ndarray,
    l2: float,
) -> TriangularFactor | None:
    """Return R with R^T R the curvature in scaled columns; None if rounding has spoilt it.

    Parameters
    ----------
    X, sample_weight : Matrix, ndarray of shape (n,) or None
    centre : ndarray of shape (d,)
    scale : ndarray of shape (d,)
        Near the inverse root of each column's curvature; 0 for a constant column.
    squares : ndarray of shape (d,)
        The curvature of each column, without the penalty, over all rows.
    l2 : float
    """
    n, d = X.shape
    numbers = random_rows(n, ROWS_PER_FEATURE * d, sample_weight)
    H, step = np.zeros((d, d), order="F"), max(1, GRAM_CHUNK_NUMBERS // d)
    total = 0.0
    for start in range(0, len(numbers), step):
        part = numbers[start : start + step]
        Z = as_dense(take_rows(X, part)) - centre
        Z *= scale
        if sample_weight is not None:
            weights = np.asarray(sample_weight[part], dtype=np.float64)
            Z *= np.sqrt(weights)[:, None]
            total += float(weights.sum())
        H = blas.dsyrk(1.0, Z.T, beta=1.0, c=H, lower=0, overwrite_c=1)
    H /= len(numbers) if sample_weight is None else total
    penalty = np.where(scale > 0.0, l2 * scale**2, 1.0)
    # A large row may count too much among so few, or not be one of them.
    exact, sampled = np.maximum(squares, 0.0) * scale**2, H.diagonal().copy()
    seen = SAMPLE_RATIO * sampled > exact
    stretch = np.sqrt(np.divide(exact, sampled, out=np.ones(d), where=seen & (sampled > 0.0)))
    H *= stretch
    H *= stretch[:, None]
    missed = np.where(seen, 0.0, exact)
    H[np.diag_indices(d)] += penalty + missed + RIDGE
    upper, info = lapack.dpotrf(H, lower=0, clean=1, overwrite_a=1)
    if info != 0:
        return None
    try:
        return TriangularFactor(upper, scale)
    except NotTrustworthy:
        return None
