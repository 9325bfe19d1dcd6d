"""Whether a few rows dominate the moments of all, and how much such rows may count."""

from __future__ import annotations

import numpy as np

from ..kernels.contract import CSR, Matrix
from .metric import FEW_ROWS_RATIO, ColumnMoments
from .rows import CHUNK_NUMBERS, as_dense, random_rows, row_slice, stored_by_chunks

# Weights whose mean is more than this many times their median are dominated by a few rows.
FEW_WEIGHTS_RATIO = 1e6
# A variance of y that is more than this many times that of ordinary rows is due to a few others.
FEW_TARGETS_RATIO = 30.0
# Where rows are capped, a row counts as no farther from the others than this many spreads.
LARGEST_DISTANCE = 10.0


def ruled_by_few(
    moments: ColumnMoments, sample_weight: np.ndarray | None, ratio: float = FEW_ROWS_RATIO
) -> bool:
    """Return whether float64 moments may hold a few rows and nothing of the others."""
    if moments.ruled_by_few(ratio):
        return True
    if sample_weight is None:
        return False
    few = random_rows(len(sample_weight), 256, sample_weight)
    typical = float(np.median(np.asarray(sample_weight[few], dtype=np.float64)))
    return moments.weight > FEW_WEIGHTS_RATIO * typical * moments.rows


def ordinary_loss(y: np.ndarray, sample_weight: np.ndarray | None, variance: np.ndarray) -> float:
    """Return half the variance of y, summed over targets: of ordinary rows, if few dominate it.

    It is the unit of a tolerance. In that of a row of 1e4 among 1,100 others, any fit of these
    would do.
    """
    few = random_rows(len(y), 256, sample_weight)
    A = np.asarray(y[few], dtype=np.float64)
    squares = np.sort(np.square(A - np.median(A, axis=0)), axis=0)
    squares = squares[: len(few) - max(len(few) // 50, min(3, len(few) // 8))]
    ordinary = squares.mean(axis=0)
    few_dominate = (ordinary > 0.0) & (variance > FEW_TARGETS_RATIO * ordinary)
    return 0.5 * float(np.where(few_dominate, ordinary, variance).sum())


def capped_shares(X: Matrix, moments: ColumnMoments) -> np.ndarray:
    """Return the share of each row's weight that counts, (n,), which is 1 for all but a few.

    With it, no row counts as farther from the others than `LARGEST_DISTANCE` times their spread.
    """
    n, d = X.shape
    spread, origin = moments.spread, moments.x_origin
    known = spread > 0.0
    if not known.any():
        return np.ones(n)
    scale = np.divide(1.0, spread, out=np.zeros(d), where=known) / np.sqrt(known.sum())
    if isinstance(X, CSR) and not origin.any():
        size = _scaled_norms(X, scale)
    else:
        size, step = np.empty(n), max(1, CHUNK_NUMBERS // d)
        for start in range(0, n, step):
            stop = min(start + step, n)
            Z = as_dense(row_slice(X, start, stop)) - origin
            Z *= scale
            size[start:stop] = np.sqrt(np.einsum("ij,ij->i", Z, Z))
    return _shares(size)


def shares_beside(rows: np.ndarray, others: ColumnMoments, spread: np.ndarray) -> np.ndarray:
    """Return the shares of these rows (m, d), from the moments of all others.

    `spread` is that of columns which the others lack. A sparse column of few numbers has a spread
    that a heavy row itself raises: on 300 x 2,000 with six numbers per column, a row of 1e6 counted
    as one of 5e3, and conjugate gradients took 90 epochs instead of 6.
    """
    size = np.sqrt(np.maximum(others.variances(), 0.0))
    size = np.where(size > 0.0, size, spread)
    known = size > 0.0
    scale = np.divide(1.0, size, out=np.zeros(len(size)), where=known)
    Z = (rows - others.x_mean()) * (scale / np.sqrt(max(known.sum(), 1)))
    return _shares(np.sqrt(np.einsum("ij,ij->i", Z, Z)))


def _shares(size: np.ndarray) -> np.ndarray:
    """Return the shares of rows at these distances from the others, in spreads."""
    return 1.0 / np.maximum(size / LARGEST_DISTANCE, 1.0) ** 2


def _scaled_norms(X: CSR, scale: np.ndarray) -> np.ndarray:
    """Return the norm of each row with its columns scaled, from the stored numbers alone."""
    squares = np.zeros(X.shape[0])
    for rows, columns, values in stored_by_chunks(X):
        if len(rows):
            part = np.bincount(rows - rows[0], (values * scale[columns]) ** 2)
            squares[rows[0] : rows[0] + len(part)] += part
    return np.sqrt(squares)
