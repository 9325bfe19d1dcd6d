"""The result of a least-squares solver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from ..kernels.contract import CSR, Matrix, working_dtype
from ..kernels.device import lives_on_device
from .factors import SingularFactor, TriangularFactor
from .rows import CHUNK_NUMBERS, as_dense, as_scipy, random_rows, take_rows

CHECKED_ROWS = 64  # whose predictions show whether an underflow matters
# Weights that underflow may change predictions by this share of the targets' spread.
UNDERFLOW_SHARE = 1e-3
# The least normal numbers; np.finfo takes microseconds.
TINY_OF = {np.dtype(name): float(np.finfo(name).tiny) for name in ("float32", "float64")}


def weights_underflow(coef: np.ndarray, X: Matrix, y: np.ndarray, sample_weight) -> bool:
    """Return whether weights (t, d) of a target vanish in X's dtype, though y depends on them.

    Under a large penalty, weights of next to nothing are right, and may vanish.
    """
    dtype = working_dtype(X)
    sizes = np.abs(coef)
    if np.minimum.reduce(sizes, axis=None) >= TINY_OF[dtype]:
        return False
    largest = sizes.max(axis=1)
    small = (largest > 0.0) & (largest < np.finfo(dtype).tiny)
    if not small.any():
        return False
    s = None if sample_weight is None else np.asarray(sample_weight)
    rows = random_rows(X.shape[0], CHECKED_ROWS, s)
    lost = coef[small] - coef[small].astype(dtype)
    change = (as_dense(take_rows(X, rows)) @ lost.T).std(axis=0)
    targets = np.asarray(y[rows], np.float64)[:, small]
    # The weights for a target that is constant are rounding.
    rounding = float(np.finfo(dtype).eps) * np.abs(targets).max(axis=0)
    return bool((change > UNDERFLOW_SHARE * targets.std(axis=0) + rounding).any())


def range_of_most_rows(X: Matrix, sample_weight) -> np.ndarray | None:
    """Return where the inner four fifths of random rows lie, (2, d); None for X on a GPU."""
    if lives_on_device(X):
        return None
    s = None if sample_weight is None else np.asarray(sample_weight)
    rows = take_rows(X, random_rows(X.shape[0], CHECKED_ROWS, s))
    (n, d), tenth = rows.shape, rows.shape[0] // 10
    inner, columns = np.zeros((2, d)), np.arange(d)
    sample: Any = rows
    if isinstance(rows, CSR):  # zeros are in the middle of columns that have few other numbers
        columns = np.flatnonzero(np.bincount(rows.indices, minlength=d) > tenth)
        sample = as_scipy(rows)
    step = max(1, CHUNK_NUMBERS // n)
    for start in range(0, len(columns), step):
        some = columns[start : start + step]
        part = sample[:, some]
        values = part.toarray() if sparse.issparse(part) else part
        ordered = np.sort(np.asarray(values, np.float64), axis=0)
        inner[:, some] = ordered[[tenth, -1 - tenth]]
    return inner


@dataclass
class Solution:
    """The weights, how they were found, and how good they are."""

    coef: np.ndarray  # (t, d), float64
    intercept: np.ndarray  # (t,)
    solver: str
    n_iter: int  # passes over X after the set-up
    condition: float  # estimated, of the scaled columns, penalty included; NaN where not known
    residual_norm: np.ndarray  # (t,)  sqrt(sum s r^2)
    losses: list[float]  # the objective, as a sum over rows, before each iteration
    relative_gradient: float  # distance from optimality, relative to zero weights
    converged: bool
    factor: TriangularFactor | None = None  # R, accurate to rounding, if there is one
    centre: np.ndarray | None = None  # (d,)  the origin of the rows; None is zero
    rank: int | None = None  # None where the solver does not find it
    singular: SingularFactor | None = None  # replaces the factor where columns are dependent
    why_not: str = ""  # the reason for not having converged, and what helps
    dual_gap: float | None = None  # with L1: of the objective as a mean over rows
    # With linear equalities A w = b: the derivatives of the least objective by b, (t, m).
    multipliers: np.ndarray | None = None

    def intercept_with(self, coef: np.ndarray, most_rows: np.ndarray | None) -> np.ndarray:
        """Return the intercept that fits these weights, which are `coef` rounded.

        What rounding has changed is made up for at the origin, brought to `most_rows`, the range
        where most rows are. At the mean itself, which one heavy row sets, it would spoil the
        predictions for all others.
        """
        if self.centre is None:
            return self.intercept
        at = self.centre if most_rows is None else np.clip(self.centre, *most_rows)
        return self.intercept + (self.coef - coef) @ at
