"""Least squares of a stream of rows, after each of them, from a triangular factor.

The rows [1, x, y], each times the root of its weight, are kept as their triangular factor R (Golub
and Van Loan 2013, section 5.3; Gentleman 1974). R depends on the rows and not on how they were cut
into calls. Nothing is squared: beside a row of 1e10, the other rows keep digits that a matrix of
second moments would have lost.

The weights come from a factor that holds the penalty too and is kept up to date, at 2 d^2 per row
(`updated_factor.py`). Where that is too ill-conditioned, they come from the singular values of R
(the coordinates z of `metric.py`), which cost O(d^3). These are found whenever the number of rows
has grown by an eighth (`next_border`), however the rows are cut. The rows since then wait, as z,
and correct the weights by Woodbury's identity, at d^2 per row.

As long as the factor gives the weights, R is not needed: rows are added to it `most_waiting` at a
time, which takes a third of the time that as many single rows would. Where the rows curve the
objective far more than the penalty does, the factor is R itself, and the one at the last border, or
before the call that reached it, is kept as it was there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ..kernels.contract import Kernels
from ..kernels.optional import has_triangle_kernels
from .eigen import eigh, svd
from .graded_stream import (
    GradedMemory,
    GradedStream,
    RowsSoFar,
    differ_in_size,
    graded_memory,
)
from .metric import RANK_TOLERANCE, ColumnMoments, Metric, factor_metric
from .problem import Penalty
from .quadratic import minima
from .serial_blas import blas_for_decomposition, serial_blas
from .training import Objective
from .updated_factor import UpdatedFactor, updated

# Relative to a unit vector, or to the mean, a part of this size is rounding.
FLAT_NOISE = 1e-9
# The curvature of directions in which no row before the last border varies, times their number.
FLAT_CURVATURE = 1e-8


Rows = tuple[np.ndarray, np.ndarray, np.ndarray]  # X, y and the weights


class Triangle(NamedTuple):
    """R, (1 + d, 1 + d + t), and sums that distinguish ordinary rows from a few large ones."""

    R: np.ndarray  # of the rows [1, x, y]; it has at most 1 + d rows
    rows: int
    weight: float
    last: np.ndarray  # (d,): the last row
    # Sums of the fourth roots of distances between successive rows, and of the weights. A single
    # row among many, however large, hardly changes them.
    roughness: np.ndarray  # (d,)
    weight_roots: float
    sizes: np.ndarray  # (d,): sums of the fourth roots of |x|

    @property
    def n_features(self) -> int:
        return len(self.last)

    def so_far(self) -> RowsSoFar:
        varies, stored = self.roughness > 0.0, self.sizes > 0.0
        return RowsSoFar(self.R, self.rows, self.weight, self.last, varies, stored)

    def of_target(self, t: int) -> Triangle:
        """Return the triangle of the rows [1, x, y_t]."""
        k = 1 + self.n_features
        return self._replace(R=np.hstack([self.R[:, :k], self.R[:, [k + t]]]))

    def ordinary_scale(self, centred: bool) -> np.ndarray:
        """Return the reciprocal of each column's spread; 0 where it never varied.

        Without an intercept, the spread is about zero: a column of ones takes the place of one.
        """
        spread = ((self.roughness if centred else self.sizes) / max(self.rows, 1)) ** 4
        return np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0.0)

    def ordinary_weight(self) -> float:
        """Return the total weight if all rows were like most; at most the true weight."""
        return min(self.weight, self.rows * (self.weight_roots / max(self.rows, 1)) ** 4)

    def rounding(self) -> float:
        """Return the rounding of R, relative to its largest number.

        It is that of one QR, and grows like a random walk.
        """
        d = self.n_features
        return 4.0 * d * float(np.finfo(np.float64).eps) * np.sqrt(1.0 + self.rows / max(32, d))


def empty_triangle(d: int, t: int) -> Triangle:
    nothing = np.zeros(d)
    return Triangle(np.zeros((0, 1 + d + t)), 0, 0.0, nothing, nothing, 0.0, nothing)


def with_rows(
    triangle: Triangle,
    X: np.ndarray,
    y: np.ndarray,
    s: np.ndarray,
    kernels: Kernels | None = None,
) -> Triangle:
    """Return the triangle with these rows added, which are float64 and of positive weight."""
    if len(y) == 0:
        return triangle
    R = _with_rows(triangle.R, _joint(X, y, s), 1 + X.shape[1], kernels)
    return _with_sums(triangle, R, X, y, s)


def _with_sums(
    triangle: Triangle, R: np.ndarray, X: np.ndarray, y: np.ndarray, s: np.ndarray
) -> Triangle:
    """Return the triangle with these rows in its sums, and R, which has them already."""
    apart = np.empty_like(X)
    np.subtract(X[:1], triangle.last if triangle.rows else X[0], out=apart[:1])
    np.subtract(X[1:], X[:-1], out=apart[1:])
    roughness = triangle.roughness + _fourth_roots(apart).sum(axis=0)
    apart[:] = X
    return Triangle(
        R,
        triangle.rows + len(y),
        triangle.weight + float(s.sum()),
        X[-1].copy(),
        roughness,
        triangle.weight_roots + float(np.sqrt(np.sqrt(s)).sum()),
        triangle.sizes + _fourth_roots(apart).sum(axis=0),
    )


def rows_of_fit(
    blocks: Iterable[Rows], start: tuple[np.ndarray, np.ndarray], objective: Objective
) -> Triangle | GradedMemory:
    """Return what a stream goes on from after a fit of these rows, which began at `start`."""
    triangle, graded = empty_triangle(start[0].shape[1], len(start[0])), None
    for X, y, s in blocks:
        if graded is None and differ_in_size(triangle.R, triangle.rows, X, s, objective):
            memory = graded_memory(start, objective, triangle.so_far(), X, y)
            graded = GradedStream(memory, objective)
        if graded is None:
            triangle = with_rows(triangle, X, y, s)
        else:
            graded.add(X, y, s)
    return triangle if graded is None else graded.memory


def _fourth_roots(A: np.ndarray) -> np.ndarray:
    """Return the fourth roots of |A|, in its place."""
    np.abs(A, out=A)
    np.sqrt(A, out=A)
    return np.sqrt(A, out=A)


def _joint(X: np.ndarray, y: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Return the rows [1, x, y], each times the root of its weight."""
    root, d = np.sqrt(s)[:, None], X.shape[1]
    A = np.empty((len(y), 1 + d + y.shape[1]))
    A[:, :1] = root
    np.multiply(root, X, out=A[:, 1 : 1 + d])
    np.multiply(root, y, out=A[:, 1 + d :])
    return A


def _with_rows(R: np.ndarray, A: np.ndarray, k: int, kernels: Kernels | None = None) -> np.ndarray:
    """Return the first k rows of the triangle of R and A; those below hold residuals of y alone."""
    if has_triangle_kernels(kernels) and len(R) < k <= len(R) + len(A):  # LAPACK's QR takes longer
        R, A = np.zeros((k, A.shape[1])), np.vstack([R, A])
    if len(R) == k:
        return updated(R, A, kernels)
    stacked = np.vstack([R, A])
    with blas_for_decomposition(stacked):
        return np.asarray(np.linalg.qr(stacked, mode="r"))[:k]


class _Waiting(NamedTuple):
    """The rows that are not in R."""

    X: np.ndarray  # (m, d)
    y: np.ndarray  # (m, t)
    s: np.ndarray  # (m,)
    Z: np.ndarray  # (m, k): the rows in the coordinates of the solution

    @property
    def rows(self) -> int:
        return len(self.s)


class _Solution(NamedTuple):
    """The weights at the last border, and coordinates in which the Hessian of J is 1 there."""

    metric: Metric
    coef: np.ndarray  # (t, d)
    intercept: np.ndarray  # (t,)


class RecursiveMemory(NamedTuple):
    """What is kept of a stream. The arrays are never written to."""

    start: tuple[np.ndarray, np.ndarray]  # weights before the first row
    triangle: Triangle  # of rows up to the last border, or of fewer as long as it is not needed
    border: int  # the first border after those rows
    waiting: _Waiting
    coef: np.ndarray  # (t, d): of all rows
    intercept: np.ndarray  # (t,)
    objective: Objective
    solution: _Solution | None = None  # at the last border, where it was asked for
    factor: UpdatedFactor | None = None  # of all rows
    # With an L1 penalty: squared norms of the columns when rows were last compared in size.
    compared: np.ndarray | None = None

    @property
    def is_new(self) -> bool:
        return self.triangle.rows == 0 and self.waiting.rows == 0

    def of_target(self, t: int) -> RecursiveMemory:
        """Return the memory of a stream of target t alone."""
        solution = self.solution
        if solution is not None:
            solution = solution._replace(coef=solution.coef[[t]], intercept=solution.intercept[[t]])
        return self._replace(
            start=_of_target(self.start, t),
            triangle=self.triangle.of_target(t),
            waiting=self.waiting._replace(y=self.waiting.y[:, [t]]),
            coef=self.coef[[t]],
            intercept=self.intercept[[t]],
            solution=solution,
            factor=None,
        )


def _of_target(weights: tuple[np.ndarray, np.ndarray], t: int) -> tuple[np.ndarray, np.ndarray]:
    return weights[0][[t]], weights[1][[t]]


def next_border(rows: int, d: int) -> int:
    """Return the number of rows at which R and the coordinates are next updated."""
    return rows + min(max(rows // 8, 1), max(32, d))


def _border_after(triangle: Triangle, border: int) -> int:
    """Return the first border after the rows of a triangle, from an earlier one."""
    while border <= triangle.rows:
        border = next_border(border, triangle.n_features)
    return border


def most_waiting(d: int) -> int:
    """Return how many rows may wait although a border has passed."""
    return max(64, d)


def recursive_memory(coef, intercept, objective, triangle=None) -> RecursiveMemory:
    """Return the memory before the first row, or after the rows of a given triangle."""
    (t, d), k = coef.shape, 0
    waiting = _Waiting(np.zeros((0, d)), np.zeros((0, t)), np.zeros(0), np.zeros((0, k)))
    triangle = empty_triangle(d, t) if triangle is None else triangle
    border = next_border(triangle.rows, d)
    start = np.array(coef, np.float64), np.array(intercept, np.float64)
    return RecursiveMemory(start, triangle, border, waiting, *start, objective)


class RecursiveLeastSquares:
    """Takes rows, however they are cut; `memory` is what the next call continues from.

    Parameters
    ----------
    memory : RecursiveMemory
        It is left unchanged.
    objective : Objective
    n_rows : int
        How many rows of positive weight will come, which determines the last border among them.
    kernels : Kernels, optional
        They may have compiled functions for triangles, as `native` has.
    """

    def __init__(
        self,
        memory: RecursiveMemory,
        objective: Objective,
        n_rows: int,
        kernels: Kernels | None = None,
    ) -> None:
        if memory.objective != objective:
            waiting = _without_coordinates(memory.waiting)
            memory = memory._replace(
                objective=objective, waiting=waiting, solution=None, factor=None
            )
        self.own, self.objective, self.kernels = memory, objective, kernels
        self.graded: GradedStream | None = None  # takes over where rows differ much in size
        self.total = memory.triangle.rows + memory.waiting.rows + n_rows

    def add(self, X: np.ndarray, y: np.ndarray, s: np.ndarray) -> None:
        """Add a block of rows, which are float64."""
        if self.graded is not None:
            self.graded.add(X, y, s)
            return
        before, factor = self.own, self.own.factor
        if factor is not None and factor.is_of_rows:
            self._add_to_both(X, y, s)
            factor = self.own.factor
            if not (factor is not None and factor.is_trusted) and _hide_others(before, X, s):
                self._grade(before, (X, y, s))
            return
        self._add(X, y, s)
        if self.own.waiting.rows > most_waiting(X.shape[1]):
            if _hide_others(self.own):
                self._grade(self.own)
            else:
                self.own = self._settled()

    def _grade(self, memory: RecursiveMemory, *blocks: Rows) -> None:
        """Go on with rows sorted by size: those of a memory, and these."""
        X, y, s = map(np.concatenate, zip(memory.waiting[:3], *blocks, strict=True))
        start = graded_memory(memory.start, self.objective, memory.triangle.so_far(), X, y)
        self.graded = GradedStream(start, self.objective)
        self.graded.add(X, y, s)

    def _add(self, X: np.ndarray, y: np.ndarray, s: np.ndarray) -> None:
        memory = self.own
        waiting, factor = _joined(memory.waiting, memory.solution, X, y, s), memory.factor
        if factor is not None:
            rows = _as_regression(memory, _joint(X, y, s))
            factor = factor.with_rows(rows, float(s.sum()), self.kernels)
        self.own = memory._replace(waiting=waiting, factor=factor)

    def _add_to_both(self, X: np.ndarray, y: np.ndarray, s: np.ndarray) -> None:
        """Add rows to a factor that is R, of which the triangle is as it was near a border."""
        memory, factor = self.own, self.own.factor
        triangle, waiting = memory.triangle, memory.waiting
        border, solution = memory.border, memory.solution
        seen, last = triangle.rows + waiting.rows, self._last_border()
        assert factor is not None
        if seen < last <= seen + len(s):
            # Few rows are added at once, and the triangle is the one before them: 20 rows of 200
            # columns take 60 to 70 us, but in two parts up to 340, of which most is new memory.
            share = last - seen if len(s) > most_waiting(triangle.n_features) else 0
            if share:
                A = _joint(X[:share], y[:share], s[:share])
                factor = factor.with_rows(A, float(s[:share].sum()), self.kernels)
                waiting = _joined(waiting, solution, X[:share], y[:share], s[:share])
                X, y, s = X[share:], y[share:], s[share:]
            if waiting.rows:
                triangle = _with_sums(triangle, factor.joint, waiting.X, waiting.y, waiting.s)
                waiting, border, solution = _emptied(waiting), _border_after(triangle, border), None
        if len(s):
            factor = factor.with_rows(_joint(X, y, s), float(s.sum()), self.kernels)
            waiting = _joined(waiting, solution, X, y, s)
        self.own = memory._replace(
            triangle=triangle, waiting=waiting, border=border, solution=solution, factor=factor
        )

    def _last_border(self) -> int:
        """Return the last border among all rows that will have come."""
        last, border = self.own.triangle.rows, self.own.border
        while border <= self.total:
            last, border = border, next_border(border, self.own.triangle.n_features)
        return last

    def _settled(self) -> RecursiveMemory:
        """Return the memory with all rows up to the last border in R, of those that have come."""
        memory = self.own
        triangle, waiting = memory.triangle, memory.waiting
        share = min(self._last_border() - triangle.rows, waiting.rows)
        if share == 0:
            return memory
        X, y, s, _ = _parts(waiting)
        triangle = with_rows(triangle, X[:share], y[:share], s[:share], self.kernels)
        border = _border_after(triangle, memory.border)
        left = _Waiting(X[share:].copy(), y[share:], s[share:], np.zeros((len(s) - share, 0)))
        return memory._replace(triangle=triangle, waiting=left, border=border, solution=None)

    @property
    def memory(self) -> RecursiveMemory | GradedMemory:
        return self.own if self.graded is None else self.graded.memory

    def finish(self) -> None:
        """Find the weights of all rows so far."""
        if self.graded is None:
            self._finish()
        if self.graded is not None:
            self.graded.finish()

    def _finish(self) -> None:
        memory = self.own
        if self.total == 0:
            coef, intercept = memory.coef, memory.intercept
        elif memory.objective.l1 > 0.0:
            if self.total > most_waiting(memory.triangle.n_features):
                memory = self._settled()
            triangle = with_rows(memory.triangle, *memory.waiting[:3])
            squares, known = np.einsum("ij,ij->j", triangle.R, triangle.R), memory.compared
            if known is None or (squares > 4.0 * known).any() or self.total <= most_waiting(0):
                if _hide_others(self.own):
                    self._grade(self.own)
                    return
                memory = memory._replace(compared=squares)
            coef, intercept = _sparse_weights(memory, triangle)
        else:
            with serial_blas():  # threads would wait for each other in such small steps
                self.own = memory = _up_to_date(memory, self.kernels)
                factor = memory.factor
                assert factor is not None
                if not factor.is_trusted:
                    if _hide_others(memory):
                        self._grade(memory)
                        return
                    factor = factor.examined()
                if factor is not None:
                    coef, intercept = _separated(memory, factor.solution(self.kernels))
                    self.own = memory._replace(coef=coef, intercept=intercept, factor=factor)
                    return
                memory = self._settled()
                memory = memory if memory.solution is not None else _solved(memory)
                coef, intercept = _corrected(memory)
        self.own = memory._replace(coef=coef, intercept=intercept)


def _hide_others(
    memory: RecursiveMemory, X: np.ndarray | None = None, s: np.ndarray | None = None
) -> bool:
    """Return whether these rows, or those that wait, differ too much in size from others."""
    waiting, triangle = memory.waiting, memory.triangle
    if X is None or s is None:
        X, s = waiting.X, waiting.s
    elif waiting.rows:
        X, s = np.concatenate([waiting.X, X]), np.concatenate([waiting.s, s])
    if len(s) == 0:
        return False
    return differ_in_size(triangle.R, triangle.rows, X, s, memory.objective)


def _as_regression(memory: RecursiveMemory, A: np.ndarray) -> np.ndarray:
    """Return rows [1, x, y] as those of a regression: with the ones, or less the intercept."""
    if memory.objective.fit_intercept:
        return A
    rows = A[:, 1:].copy()
    rows[:, memory.triangle.n_features :] -= A[:, :1] * memory.start[1]
    return rows


def _separated(memory: RecursiveMemory, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights and intercepts that are the columns of u."""
    if memory.objective.fit_intercept:
        return np.ascontiguousarray(u[:, 1:]), u[:, 0].copy()
    return u, memory.start[1]


def _up_to_date(memory: RecursiveMemory, kernels: Kernels | None) -> RecursiveMemory:
    """Return the memory with a factor that holds all rows, and nearly all of their penalty."""
    factor, waiting, objective = memory.factor, memory.waiting, memory.objective
    if factor is not None and factor.is_current:
        return memory
    has_intercept, l2 = objective.fit_intercept, objective.l2
    k = memory.triangle.n_features + has_intercept
    rows = memory.triangle.rows + waiting.rows
    weight = memory.triangle.weight + float(waiting.s.sum())
    # An R that is made of fewer rows would hardly ever do without the penalty.
    may_be_of_rows = has_intercept and rows >= 2 * k
    A = None
    if factor is not None and factor.is_of_rows:
        A = factor.joint
    elif may_be_of_rows:
        A = _with_rows(memory.triangle.R, _joint(*waiting[:3]), k, kernels)
    if may_be_of_rows and A is not None:
        of_rows = UpdatedFactor.without_penalty(A, l2, weight, has_intercept=True)
        if of_rows is not None:
            return memory._replace(factor=of_rows)
    if factor is not None and not factor.is_of_rows and 3 * rows > k:
        return memory._replace(factor=factor.with_penalty(kernels))
    if A is None:
        A = np.vstack([memory.triangle.R, _joint(*waiting[:3])])
    factor = UpdatedFactor.of_rows(
        _as_regression(memory, A), l2, weight, k, has_intercept=has_intercept, kernels=kernels
    )
    return memory._replace(factor=factor)


def _joined(waiting: _Waiting, solution: _Solution | None, X, y, s) -> _Waiting:
    """Return the waiting rows and these, in the coordinates of the solution where there is one."""
    Z = np.zeros((len(s), 0))
    if solution is not None:
        Z = (X - solution.metric.shift) @ solution.metric.transform.T
    if waiting.rows == 0:
        return _Waiting(X, y, s, Z)
    parts = ((waiting.X, X), (waiting.y, y), (waiting.s, s), (waiting.Z, Z))
    return _Waiting(*map(np.concatenate, parts))


def _split(triangle: Triangle, objective: Objective, intercept: np.ndarray):
    """Return R as a regression: the rows of x and of y, times 1 / sqrt(S), and the means of both.

    The first row of R belongs to the intercept, and the others do not depend on it.
    """
    d, root = triangle.n_features, 1.0 / np.sqrt(triangle.weight)
    ones, X, y = triangle.R[:, :1], triangle.R[:, 1 : 1 + d], triangle.R[:, 1 + d :]
    if objective.fit_intercept:
        unit = ones[0, 0]
        return X[1:] * root, y[1:] * root, X[0] / unit, y[0] / unit
    return X * root, (y - ones * intercept) * root, np.zeros(d), intercept


def _solved(memory: RecursiveMemory) -> RecursiveMemory:
    """Return the memory with the weights of the rows in R, by its singular values."""
    objective, triangle = memory.objective, memory.triangle
    start, b = memory.start
    A, right, x_mean, y_mean = _split(triangle, objective, b)
    metric, basis = _metric(triangle, objective, A, x_mean)
    # The change of the weights in z, due to the rows and to the penalty at the start.
    target = np.vstack([right - A @ start.T, -np.sqrt(objective.l2) * start.T])
    change = basis.T @ target[: len(basis)]
    coef = start + change.T @ metric.transform
    intercept = y_mean - coef @ x_mean if objective.fit_intercept else b
    memory = memory._replace(solution=_Solution(metric, coef, intercept))
    waiting = memory.waiting
    if waiting.rows:
        rows = waiting.X, waiting.y, waiting.s
        memory = memory._replace(waiting=_joined(_emptied(waiting), memory.solution, *rows))
    return memory


def _metric(triangle, objective, A, x_mean) -> tuple[Metric, np.ndarray]:
    share = triangle.ordinary_weight() / triangle.weight
    return factor_metric(
        A,
        triangle.ordinary_scale(objective.fit_intercept),
        objective.l2,
        x_mean,
        share,
        triangle.rounding(),
    )


def triangle_of_moments(
    moments: ColumnMoments, coef: np.ndarray, y_mean: np.ndarray, slope: np.ndarray
) -> Triangle:
    """Return the triangle of rows with these moments and this mean of y.

    Their residuals at the weights `coef` have the covariance `slope`, (t, d), with x.
    """
    H = moments.curvature(centred=True)
    d, weight, mean = len(H), moments.weight, moments.x_mean()
    deviation = np.sqrt(np.maximum(np.diag(H), 0.0))
    scale = np.divide(1.0, deviation, out=np.zeros(d), where=deviation > 0.0)
    values, vectors = eigh(scale[:, None] * H * scale)
    keep = values > RANK_TOLERANCE * max(values[-1], np.finfo(np.float64).tiny)
    root = np.sqrt(np.where(keep, values, 0.0))[:, None]
    A = root * vectors.T * deviation
    # A^T (q - A w) is the slope.
    inverse = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0.0)
    q = A @ coef.T + (inverse * vectors.T * scale) @ slope.T
    unit = np.sqrt(weight)
    top = np.concatenate([[1.0], mean, y_mean])
    rows = unit * np.vstack([top, np.hstack([np.zeros((d, 1)), A, q])])
    R = _with_rows(np.zeros((0, rows.shape[1])), rows, 1 + d)  # A is not triangular
    each = weight / moments.rows
    return Triangle(
        R,
        moments.rows,
        weight,
        mean,
        moments.rows * np.sqrt(np.sqrt(deviation)),
        moments.rows * each**0.25,
        moments.rows * np.sqrt(np.sqrt(np.hypot(deviation, mean))),
    )


def _parts(waiting: _Waiting):
    return waiting.X, waiting.y, waiting.s, waiting.Z


def _emptied(waiting: _Waiting) -> _Waiting:
    return _Waiting(*(part[:0] for part in _parts(waiting)))


def _without_coordinates(waiting: _Waiting) -> _Waiting:
    return waiting._replace(Z=np.zeros((waiting.rows, 0)))


def _corrected(memory: RecursiveMemory) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights at the border, corrected for the rows that wait.

    In z, J at the border is 1/2 |v - v0|^2. The waiting rows add their squared residuals and their
    share of the penalty, which is diagonal too.
    """
    waiting, solution, objective = memory.waiting, memory.solution, memory.objective
    assert solution is not None
    if waiting.rows == 0:
        return solution.coef, solution.intercept
    metric, weight = solution.metric, memory.triangle.weight
    share = float(waiting.s.sum()) / weight
    transform, shrink, rows = metric.transform, metric.shrink, waiting.Z
    flat = _flat_directions(memory)
    if len(flat):
        transform = np.vstack([transform, flat])
        shrink = np.concatenate([shrink, np.zeros(len(flat))])
        rows = np.hstack([rows, (waiting.X - metric.shift) @ flat.T])
    k = len(transform)
    curvature = np.concatenate([1.0 + share * shrink, [1.0]])
    root = np.sqrt(waiting.s / weight)[:, None]
    Z = root * np.hstack([rows, np.full((len(root), 1), float(objective.fit_intercept))])
    change = np.zeros((k + 1, len(solution.coef)))
    if objective.l2 > 0.0:
        change[:k] = -share * objective.l2 * (transform @ solution.coef.T)
    change /= curvature[:, None]
    residual = waiting.X @ solution.coef.T + solution.intercept - waiting.y
    residual = root * residual + Z @ change
    inner = Z / curvature
    K = inner @ Z.T
    K[np.diag_indices(len(K))] += 1.0
    # K is scaled to a unit diagonal, so that one large row does not make it look singular.
    unit = 1.0 / np.sqrt(np.diag(K))
    dual = unit[:, None] * np.linalg.solve(unit[:, None] * K * unit, unit[:, None] * residual)
    change -= inner.T @ dual
    moved = change[:k].T @ transform
    return solution.coef + moved, solution.intercept + change[k] - moved @ metric.shift


def _flat_directions(memory: RecursiveMemory) -> np.ndarray:
    """Return directions (p, d) in which only the waiting rows vary, where there is no penalty.

    Fewer rows than columns leave J flat in many directions, and each further row adds one. Along
    them the metric has none; here they get a curvature that is far below what one row adds.
    """
    waiting, solution = memory.waiting, memory.solution
    assert solution is not None
    transform, shift = solution.metric.transform, solution.metric.shift
    if memory.objective.l2 > 0.0 or len(transform) >= transform.shape[1]:
        return transform[:0]
    X = waiting.X - shift
    largest, seen = np.abs(X).max(axis=0), transform.any(axis=0)
    noise = FLAT_NOISE * np.abs(shift)
    scale = memory.triangle.ordinary_scale(memory.objective.fit_intercept)
    new = np.divide(1.0, largest, out=np.zeros_like(largest), where=largest > noise)
    scale = np.where(seen, scale, new)
    known = np.divide(transform, scale, out=np.zeros_like(transform), where=scale > 0.0)
    size = np.linalg.norm(known, axis=1, keepdims=True)
    known = np.divide(known, size, out=known, where=size > 0.0)  # its rows are orthogonal
    C = X * scale
    norm = np.linalg.norm(C, axis=1, keepdims=True)
    C = np.divide(C, norm, out=np.zeros_like(C), where=norm > 0.0)
    for _ in range(2):  # the first leaves rounding errors
        C -= (C @ known.T) @ known
    _, values, basis = svd(C)
    most = FLAT_CURVATURE / memory.triangle.rows
    return basis[values > FLAT_NOISE] * scale / np.sqrt(most)


def _sparse_weights(memory: RecursiveMemory, triangle: Triangle) -> tuple[np.ndarray, np.ndarray]:
    """Return the minimum under L1 of the quadratic that the triangle of all rows represents."""
    objective = memory.objective
    A, right, x_mean, y_mean = _split(triangle, objective, memory.start[1])
    coef = minima(A.T @ A, right.T @ A, Penalty(objective.l1, objective.l2), memory.coef)
    return coef, y_mean - coef @ x_mean if objective.fit_intercept else memory.start[1]
