"""How much rows differ in size, which decides whether sums over all rows can be relied on."""

from __future__ import annotations

import numpy as np

from ..kernels.contract import CSR, Matrix
from .factors import NotTrustworthy
from .graded import GRADED
from .rows import as_dense, as_scipy, random_rows, take_rows
from .system import DENSE_NUMBERS, LEAST_SAMPLE, ORIGIN_ROWS, System


def grade_of(sizes: np.ndarray, share: float) -> float:
    """Return the rows' root mean square over the size that all but this share of them exceed.

    Rows of zeros do not count.
    """
    sizes = sizes[sizes > 0.0]
    if len(sizes) == 0:
        return 1.0
    sizes /= sizes.max()
    least = np.partition(sizes, k := int(share * (len(sizes) - 1)))[k]
    return float(np.sqrt(np.mean(sizes * sizes)) / least)


def hidden_grade(system: System, scale: np.ndarray) -> float:
    """Return how much larger a column's root mean square is than its spread in ordinary rows.

    Where large rows move the mean, all ordinary rows are about equally far from it, so that their
    sizes about it tell nothing of how they differ.
    """
    if not system.fit_intercept:
        return 1.0
    count = max(LEAST_SAMPLE, min(ORIGIN_ROWS, DENSE_NUMBERS // system.d))
    rows = random_rows(system.n, count, system.host_weights)
    A, scale = _often_stored(take_rows(system.X, rows), scale)
    A = np.abs(A - np.median(A, axis=0))
    counted = (A > 0.0) & (scale > 0.0)
    logs = np.log(A, out=np.zeros_like(A), where=counted).sum(axis=0)
    counts = np.count_nonzero(counted, axis=0)
    known = 4 * counts > len(A)
    if not known.any():
        return 1.0
    typical = np.exp(logs[known] / counts[known]) * scale[known]
    return float(1.0 / (typical.min() * np.sqrt(system.weight)))


def _often_stored(rows: Matrix, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows, dense, and the scale, of columns that have numbers in a quarter of them.

    The median of any other column is zero, and it has too few numbers to tell of ordinary rows. For
    295 x 3,319 sparse numbers, the medians of all columns took as long as the rest of the descent.
    """
    if not isinstance(rows, CSR):
        return as_dense(rows), scale
    stored = as_scipy(rows)
    often = np.flatnonzero(4 * np.bincount(stored.indices, minlength=len(scale)) > rows.shape[0])
    return stored[:, often].toarray(), scale[often]


def refuse_graded(system: System, scale: np.ndarray) -> None:
    """Raise NotTrustworthy where rows differ so much in size that QR may need to sort them."""
    sizes, s = system.row_sizes(scale), system.host_weights
    if system.fit_intercept:  # its column has a one in each row
        share = np.ones(system.n) if s is None else s.astype(np.float64)
        sizes = np.hypot(sizes, np.sqrt(share / system.weight))
    sizes = sizes[sizes > 0.0]
    if sizes.max(initial=0.0) > GRADED * sizes.min(initial=np.inf):
        raise NotTrustworthy("rows differ too much in size")
    if hidden_grade(system, scale) > GRADED:
        raise NotTrustworthy("a few rows hide the others")
