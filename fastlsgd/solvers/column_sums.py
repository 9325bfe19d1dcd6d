"""Mean and spread of each column, and gradients, as sums over parts of the rows.

Where d^2 numbers are too many, a descent needs only these: one pass for the means and squares of
the columns, then one pass per gradient. Both add up over blocks of rows, wherever they are, at the
cost of d numbers per part and target. Means are merged as in `moments.py`, so that nothing cancels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from ..kernels.contract import CSR, TargetGradients
from ..kernels.device import repeated
from .factors import EPS, NotTrustworthy
from .interrupt import call_loss_gradient
from .metric import ColumnMoments
from .moments import Place
from .rows import add_column_moments, as_dense, random_rows, row_slice
from .training import TrainingData

# Rows whose targets give an origin near their mean.
CENTRE_ROWS = 64
# Numbers of the rows whose distances from an origin are made at a time: 256 KB.
WORK_NUMBERS = 2**15
# A sum of squares below this has lost digits to underflow, unless the column is constant.
LEAST_SUM = 1e-300


@dataclass(frozen=True)
class DiagonalSums:
    """Squares of columns and targets about their means."""

    factor: ClassVar[str] = "diagonal"

    place: Place
    squares: np.ndarray  # (d + t,)
    n_features: int

    def joined(self, other: DiagonalSums) -> DiagonalSums:
        squares = self.squares + other.squares + self.place.step(other.place) ** 2
        return DiagonalSums(self.place.joined(other.place), squares, self.n_features)

    def column_moments(self) -> ColumnMoments:
        """Return the sums in the form that metrics are made from."""
        d, place = self.n_features, self.place
        weight, offset = place.weight, place.offset
        squares = self.squares + weight * offset**2
        return ColumnMoments(place.origin[:d], place.origin[d:], place.n_rows, weight,
                             weight * offset[:d], squares[:d], weight * offset[d:], squares[d:],
                             np.zeros(d))  # fmt: skip


def read_columns(data: TrainingData, origin: np.ndarray | None) -> DiagonalSums:
    """Return the sums over these rows, of which at least one has weight.

    `origin` (d + t,) is a mean of other rows; None takes some of these.

    Raises
    ------
    NotTrustworthy
        If sums overflow or underflow.
    """
    X, s, d = data.X, data.sample_weight, data.X.shape[1]
    y = np.asarray(data.y, np.float64)
    if origin is None:
        few = random_rows(len(y), CENTRE_ROWS, s)
        centre = np.zeros(d) if isinstance(X, CSR) else np.asarray(X[few], np.float64).mean(axis=0)
        origin = np.append(centre, y[few].mean(axis=0))
    if isinstance(X, CSR):
        origin = np.append(np.zeros(d), origin[d:])  # so that zeros stay zeros
    n_rows, weight = len(y), float(len(y))
    if s is not None:
        n_rows, weight = int(np.count_nonzero(s)), float(s.sum(dtype=np.float64))
    first, second = np.zeros(d), np.zeros(d)
    if isinstance(X, np.ndarray):
        _add_dense(X, s, origin[:d], first, second)
    else:
        add_column_moments(data.kernels, X, s, origin[:d], first, second)
    apart = y - origin[d:]
    weighted = apart if s is None else apart * np.asarray(s, np.float64)[:, None]
    sums = np.append(first, weighted.sum(axis=0))
    raw = np.append(second, np.einsum("it,it->t", weighted, apart))
    if not (np.isfinite(sums).all() and np.isfinite(raw).all()):
        raise NotTrustworthy("overflow")
    _refuse_vanished(data, origin, raw)
    squares = raw - sums * (sums / weight)
    # What is left of a column that does not vary is the rounding of its squares.
    squares = np.where(squares > 64.0 * EPS * raw, squares, 0.0)
    units = np.zeros(len(origin), dtype=int)
    return DiagonalSums(Place(n_rows, weight, 0.0, origin, sums / weight, units), squares, d)


def _refuse_vanished(data: TrainingData, origin: np.ndarray, raw: np.ndarray) -> None:
    """Raise NotTrustworthy where columns or targets vary though their squares have underflowed."""
    X, s, d = data.X, data.sample_weight, data.X.shape[1]
    small, t = np.flatnonzero(raw[:d] < LEAST_SUM), np.flatnonzero(raw[d:] < LEAST_SUM)
    if len(small) and isinstance(X, CSR):
        stored = np.asarray(X.indices)[np.asarray(X.data) != 0.0]
        small = small[np.bincount(stored, minlength=d)[small] > 0]
    step = max(1, WORK_NUMBERS // d) if len(small) or len(t) else 1
    for start in range(0, X.shape[0] if len(small) or len(t) else 0, step):
        rows = slice(start, start + step)
        part = np.asarray(data.y[rows], np.float64)[:, t]
        if len(small):
            A = as_dense(row_slice(X, start, min(start + step, X.shape[0])))[:, small]
            part = np.hstack([A, part])
        where = np.concatenate([small, d + t]).astype(int)
        part = part if s is None else part[np.asarray(s[rows]) > 0.0]
        if (np.abs(part - origin[where]) > 4.0 * EPS * np.abs(origin[where])).any():
            raise NotTrustworthy("underflow")


def _add_dense(X: np.ndarray, s, shift: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    """Add sums of s (x - shift) and s (x - shift)^2, in memory that is allocated once.

    Workers of Dask have the C library give memory back at once. With arrays that were new for each
    chunk, their pages took five times as long as the sums (2.2 s per GB of float32, 0.4 elsewhere).
    """
    n, d = X.shape
    step = max(1, WORK_NUMBERS // d)
    apart, weighted = (np.empty((min(step, n), d)) for _ in range(2))
    for start in range(0, n, step):
        rows = X[start : start + step]
        A = apart[: len(rows)]
        np.subtract(
            rows if rows.dtype in (np.float32, np.float64) else as_dense(rows), shift, out=A
        )
        sA = A
        if s is not None:
            sA = np.multiply(A, s[start : start + step, None], out=weighted[: len(rows)])
        first += sA.sum(axis=0)
        second += np.einsum("ij,ij->j", sA, A)


class GradientRequest(NamedTuple):
    """The weights at which a descent wants the gradient."""

    coef: np.ndarray  # (t, d)
    intercept: np.ndarray  # (t,)
    has_targets: bool  # or products of the curvature with `coef` are wanted, for which y is zero


class GradientSums(NamedTuple):
    """Sums over rows of s r^2 / 2, s r x and s r, and of the weights s."""

    loss: np.ndarray  # (t,)
    coef: np.ndarray  # (t, d)
    intercept: np.ndarray  # (t,)
    weight: float

    def plus(self, other: GradientSums) -> GradientSums:
        return GradientSums(
            self.loss + other.loss,
            self.coef + other.coef,
            self.intercept + other.intercept,
            self.weight + other.weight,
        )

    def means(self) -> TargetGradients:
        weight = self.weight
        return TargetGradients(self.loss / weight, self.coef / weight, self.intercept / weight)


def gradient_sums(data: TrainingData, request: GradientRequest) -> GradientSums | None:
    """Return the sums over these rows, or None if they have no weight."""
    kernels, X, y, s, n_threads = data
    weight = float(X.shape[0] if s is None else s.sum(dtype=np.float64))
    if not weight > 0.0:
        return None
    if not request.has_targets:
        y = repeated(0.0, (X.shape[0], len(request.coef)), y)
    found = call_loss_gradient(kernels, X, y, request.coef, request.intercept, s, n_threads)
    return GradientSums(weight * found.loss, weight * found.coef, weight * found.intercept, weight)
