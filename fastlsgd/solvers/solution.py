"""The result of a least-squares solver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from ..kernels.contract import CSR, Matrix, working_dtype
from .factors import SingularFactor, TriangularFactor
from .rows import CHUNK_NUMBERS, as_dense, as_scipy, random_rows, take_rows

CHECKED_ROWS = 64  # whose predictions show whether an underflow matters
# Weights that underflow may change predictions by this share of the targets' spread.
UNDERFLOW_SHARE = 1e-3
# A target that varies by this many eps of its own dtype may be constant, but for rounding.
ROUNDED_EPS = 64.0
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
    targets = np.asarray(y[rows], np.float64)[:, small]
    unit = np.abs(targets).max(axis=0)  # squares of y itself may vanish
    unit[unit == 0.0] = 1.0
    lost = (coef[small] - coef[small].astype(dtype)) / unit[:, None]
    change = (as_dense(take_rows(X, rows)) @ lost.T).std(axis=0)
    # The weights for a target that is constant are rounding.
    rounding = ROUNDED_EPS * float(np.finfo(y.dtype).eps)
    least = UNDERFLOW_SHARE * (targets / unit).std(axis=0) + rounding
    return bool((change > least).any())


class MostRows:
    """Where most rows of X lie: the inner four fifths of random rows, for X on the host."""

    def __init__(self, X: Matrix, sample_weight) -> None:
        s = None if sample_weight is None else np.asarray(sample_weight)
        rows = take_rows(X, random_rows(X.shape[0], CHECKED_ROWS, s))
        self.columns: np.ndarray | None = None  # None is all of them
        self.numbers: Any = rows
        if isinstance(rows, CSR):  # zeros are in the middle of columns that have few other numbers
            counts = np.bincount(rows.indices, minlength=rows.shape[1])
            self.columns = np.flatnonzero(counts > rows.shape[0] // 10)
            if len(self.columns):
                self.numbers = as_scipy(rows)[:, self.columns]
        self._last: tuple[np.ndarray, np.ndarray] | None = None

    def shift(self, change: np.ndarray, point: np.ndarray) -> np.ndarray:
        """Return the products of changed weights (t, d) with the point that is nearest to this one.

        An L1 penalty leaves most weights at zero, whose columns need not be looked at.
        """
        columns = np.flatnonzero(change.any(axis=0))
        if 2 * len(columns) > len(point) or not isinstance(self.numbers, np.ndarray):
            return change @ self.nearest_to(point)
        return change[:, columns] @ _clipped(self.numbers[:, columns], point[columns])

    def nearest_to(self, point: np.ndarray) -> np.ndarray:
        """Return the point of their range, column by column, that is nearest to this one."""
        if self._last is None or self._last[0] is not point:
            if self.columns is None:
                near = self._clipped(point)
            else:
                near = np.zeros(len(point))
                near[self.columns] = self._clipped(point[self.columns])
            self._last = point, near
        return self._last[1]

    def _clipped(self, at: np.ndarray) -> np.ndarray:
        out, step = np.empty(len(at)), max(1, CHUNK_NUMBERS // max(self.numbers.shape[0], 1))
        for start in range(0, len(at), step):
            some = slice(start, start + step)
            part = self.numbers[:, some]
            out[some] = _clipped(part.toarray() if sparse.issparse(part) else part, at[some])
        return out


def _clipped(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return `at`, brought into the range of the inner four fifths of each column.

    Columns in whose range it is already are found by counting, which takes a tenth of sorting. Of
    most columns, every second number shows it.
    """
    tenth = len(values) // 10
    own = at.astype(values.dtype) if values.dtype == np.float32 else at
    doubtful = _outside(values[::2], own, tenth)
    outside = doubtful[_outside(values[:, doubtful], own[doubtful], tenth)]
    out = at.copy()
    ordered = np.sort(values[:, outside].astype(np.float64), axis=0)
    out[outside] = np.clip(at[outside], ordered[tenth], ordered[-1 - tenth])
    return out


def _outside(values: np.ndarray, at: np.ndarray, tenth: int) -> np.ndarray:
    """Return the columns in which at most so many numbers are beyond `at`, on one of its sides."""
    # As bytes: truth values would first be converted.
    below = np.add.reduce((values <= at).view(np.uint8), axis=0, dtype=np.uint8)
    above = np.add.reduce((values >= at).view(np.uint8), axis=0, dtype=np.uint8)
    return np.flatnonzero((below <= tenth) | (above <= tenth))


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
    # `residual_norm` for sample weights brought near 1, where these were not; it does not overflow.
    near_norm: np.ndarray | None = None

    def intercept_with(self, coef: np.ndarray, most_rows: MostRows | None) -> np.ndarray:
        """Return the intercept that fits these weights, which are `coef` rounded.

        What rounding has changed is made up for at the origin, brought to where `most_rows` are. At
        the mean itself, which one heavy row sets, it would spoil the predictions for all others.
        """
        if self.centre is None:
            return self.intercept
        change = self.coef - coef
        if most_rows is None:
            return self.intercept + change @ self.centre
        return self.intercept + most_rows.shift(change, self.centre)
