"""Least squares of a stream of rows with hundreds of features, from their second moments.

The weights are those of the normal equations of all rows so far, in columns of unit curvature, by
Cholesky. A ridge takes the place of a rank: along directions in which the rows do not vary, the
weights stay where they started. A row costs d^2 / 2 multiply-adds, or the square of its stored
numbers where it is sparse, where the triangular factor of `recursive.py` would take 4 d^2.

Beside the squares of a row of 1e10, float64 holds nothing of the others. So rows of more than
`LARGEST_SIZE` spreads are not added to the moments; `MOST_HEAVY` of them are kept, and correct the
weights by Woodbury's identity. So do the rows since the last border, which is the number of rows at
which the factor was last updated. Borders depend on numbers of rows alone, and not on how these
were cut into calls.

Memory: three matrices of d^2 numbers, and twice `MOST_RECENT` + `MOST_HEAVY` rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array

from .automatic import AutomaticMemory
from .factors import EPS, TINY, solve_upper, upper_of
from .metric import EXTREME_SQUARES
from .problem import Penalty
from .quadratic import minima
from .running_moments import (
    RunningMoments,
    StreamedRows,
    joined,
    moments_of_first,
    moments_of_fit,
    no_rows,
)
from .serial_blas import serial_blas
from .training import Objective
from .updated_factor import MOST_UNPENALISED

FIRST_BORDER = 16
MOST_RECENT = 128
LARGEST_SIZE = 1e4
MOST_HEAVY = 64
# The spread of a column that has not varied, in units of the others, and rounding as a share of it.
LEAST_SPREAD, NOISE_SHARE = 1e-8, 1e-3
RIDGE = 1e-10  # of columns with curvature 1
SINGULAR = 1e-14  # a diagonal this small may leave a matrix of ones singular
STEP_TOLERANCE = 1e-10  # relative to the weights


@dataclass(frozen=True)
class _NormalSolution:
    """The weights of the rows in the moments, in z = scale (x - centre), and a factor there."""

    scale: np.ndarray  # (d,)
    centre: np.ndarray  # (d,), all zero where no intercept is fitted
    upper: np.ndarray | None  # R with R^T R = the Hessian of J in z; None: the identity
    v: np.ndarray  # (t, d)
    b: np.ndarray  # (t,): the prediction at the centre
    weight: float
    shrink: np.ndarray  # (d,): the penalty in z, per weight of the rows
    penalised: float  # the weight of rows whose penalty is in the factor

    def whiten(self, A: np.ndarray) -> np.ndarray:
        """Return R^-T a for each row a."""
        return A if self.upper is None else solve_upper(self.upper, A.T, trans="T").T

    def unwhiten(self, A: np.ndarray) -> np.ndarray:
        return A if self.upper is None else solve_upper(self.upper, A.T).T


@dataclass(frozen=True)
class _Correction:
    """What corrects a solution: rows in coordinates in which the Hessian of J is the identity."""

    solution: _NormalSolution
    B: np.ndarray  # (m, d + 1), each divided by its size; the last column is the intercept's
    inner: np.ndarray  # (m, m): B B^T
    size: np.ndarray  # (m,)
    residual: np.ndarray  # (m, t) at the solution, times the root of the weight, over the size
    weight: float

    def with_rows(self, rows: StreamedRows, fit_intercept: bool) -> _Correction:
        solution = self.solution
        Z = (rows.X - solution.centre) * solution.scale
        root = np.sqrt(rows.s / solution.weight)
        B = solution.whiten(Z) * root[:, None]
        B = np.hstack([B, root[:, None] * float(fit_intercept)])
        residual = root[:, None] * (Z @ solution.v.T + solution.b - rows.y)
        # Nothing large is squared.
        largest = np.maximum(np.abs(B).max(axis=1), 1.0)
        size = largest * np.hypot(np.linalg.norm(B / largest[:, None], axis=1), 1.0 / largest)
        B /= size[:, None]
        corner = self.B @ B.T
        return replace(
            self,
            B=np.concatenate([self.B, B]),
            inner=np.block([[self.inner, corner], [corner.T, B @ B.T]]),
            size=np.concatenate([self.size, size]),
            residual=np.concatenate([self.residual, residual / size[:, None]]),
            weight=self.weight + float(rows.s.sum()),
        )

    def corrected(self, l2: float) -> tuple[np.ndarray, np.ndarray]:
        """Return v and b of the solution, corrected for these rows and their share of the penalty.

        With B, the Hessian is I + B^T B, and its inverse is taken by Woodbury's identity. What the
        factor lacks of the penalty is not diagonal here. So its gradient is that at the last
        weights, time and again: each step reduces the error to that share of the penalty, which is
        `MOST_UNPENALISED` at most.
        """
        solution = self.solution
        K, share, factor = self.inner + np.diag(self.size**-2), 0.0, 0.0
        least = float(self.size.max(initial=1.0)) ** -2
        if solution.upper is not None and l2 > 0.0:
            rest = max(solution.weight + self.weight - solution.penalised, 0.0)
            share, factor = rest / solution.weight, rest / solution.penalised
        v = solution.v
        pull = np.zeros_like(v)
        while True:
            if share > 0.0:
                pull = solution.whiten(share * solution.shrink * v)
            right = self.residual - self.B[:, :-1] @ pull.T
            change = -(self.B.T @ _solved_inner(K, right, least)).T
            before, v = v, solution.v + solution.unwhiten(change[:, :-1] - pull)
            error = factor * np.abs(v - before).max(initial=0.0)
            if not error > STEP_TOLERANCE * np.abs(v).max(initial=TINY):
                return v, solution.b + change[:, -1]


@dataclass(frozen=True)
class MomentMemory:
    """What is kept of a stream. The arrays are never written to."""

    start: tuple[np.ndarray, np.ndarray]  # weights before the first row
    coef: np.ndarray  # (t, d): of all rows
    intercept: np.ndarray  # (t,)
    objective: Objective
    heavy: StreamedRows
    recent: StreamedRows  # since the last border
    border: int = FIRST_BORDER  # the next one
    moments: RunningMoments | None = None
    waiting: _Correction | None = None  # of the heavy and the recent rows

    @property
    def is_new(self) -> bool:
        return self.moments is None and len(self.recent) == 0

    def of_target(self, t: int) -> MomentMemory:
        """Return the memory of a stream of target t alone."""
        coef, intercept = self.start
        return replace(
            self,
            start=(coef[[t]], intercept[[t]]),
            coef=self.coef[[t]],
            intercept=self.intercept[[t]],
            heavy=self.heavy.of_target(t),
            recent=self.recent.of_target(t),
            moments=None if self.moments is None else self.moments.of_target(t),
            waiting=None,
        )


def moment_memory(coef, intercept, objective, fitted: AutomaticMemory | None) -> MomentMemory:
    """Return the memory before the first row, or after a fit."""
    start = np.array(coef, np.float64), np.array(intercept, np.float64)
    nothing = no_rows(coef.shape[1], len(coef))
    memory = MomentMemory(start, *start, objective, nothing, nothing)
    if fitted is None:
        return memory
    # By how much less penalty would enlarge the weights depends on the columns' correlations, which
    # are not known here. So no more than the penalty of the stream counts.
    l1 = min(objective.l1, fitted.objective.l1)
    alpha = l1 + min(objective.l2, fitted.objective.l2)
    share = l1 / alpha if alpha > 0.0 else 0.0
    own = replace(fitted.objective, alpha=alpha, l1_ratio=share, y_exponent=0)
    fitted = replace(fitted, objective=own)
    y_mean, slope = fitted.y_mean(*start), fitted.slope(*start)
    moments = moments_of_fit(fitted.moments, start[0], y_mean, slope, fitted.correlated)
    return replace(memory, moments=moments, border=_next_border(moments.rows))


def _next_border(rows: int) -> int:
    return rows + min(max(rows // 8, 8), MOST_RECENT)


class MomentStream:
    """Takes rows, however they are cut; `memory` is what the next call continues from.

    Parameters
    ----------
    memory : MomentMemory
        It is left unchanged.
    objective : Objective
    """

    def __init__(self, memory: MomentMemory, objective: Objective) -> None:
        if memory.objective != objective:
            memory = replace(memory, objective=objective, waiting=None)
        self.memory, self.moments = memory, memory.moments
        self.heavy, self.border, self.waiting = memory.heavy, memory.border, memory.waiting
        self.recent, self.n_recent = [memory.recent], len(memory.recent)
        self.owns_moments = False

    def add(self, X: np.ndarray | csr_array, y: np.ndarray, s: np.ndarray) -> None:
        """Add a block of rows, which are float64."""
        rows, start = StreamedRows(X, y, s), 0
        while start < len(rows):
            settled = 0 if self.moments is None else self.moments.rows
            part = rows.take(slice(start, start + self.border - settled - self.n_recent))
            start += len(part)
            self.recent.append(part)
            self.n_recent += len(part)
            if settled + self.n_recent == self.border:
                with serial_blas():  # threads of a busy machine would wait for one another
                    self._settle()
        self.recent = [each.dense() for each in self.recent]

    def finish(self) -> None:
        """Find the weights of all rows so far."""
        with serial_blas():
            self._finish()

    def _finish(self) -> None:
        recent, objective = joined(self.recent), self.memory.objective
        self.memory = replace(
            self.memory,
            heavy=self.heavy,
            recent=recent,
            border=self.border,
            moments=self.moments,
        )
        if objective.l1 > 0.0:
            coef, intercept = _sparse_weights(self.memory)
        elif self.moments is None:
            waiting = _nothing_waits(_before_any(self.memory))
            waiting = waiting.with_rows(recent, objective.fit_intercept)
            coef, intercept = _weights(self.memory, waiting)
        else:
            total = self.moments.weight + float(self.heavy.s.sum()) + float(recent.s.sum())
            if self.waiting is not None and objective.l2 > 0.0:
                known = self.waiting.solution.penalised
                if total > (1.0 + MOST_UNPENALISED) * known:
                    self.waiting = None
            if self.waiting is None:
                solved = _nothing_waits(_solved(self.memory, self.moments, total))
                self.waiting = solved.with_rows(self.heavy, objective.fit_intercept)
            waiting = self.waiting
            done = len(waiting.size) - len(self.heavy)
            new = recent.take(slice(done, None))
            waiting = waiting.with_rows(new, objective.fit_intercept) if len(new) else waiting
            coef, intercept = _weights(self.memory, waiting)
            self.memory = replace(self.memory, waiting=waiting)
        self.memory = replace(self.memory, coef=coef, intercept=intercept)

    def _settle(self) -> None:
        """Add the rows before a border to the moments, apart from heavy ones."""
        if self.moments is None:
            first = joined([each.dense() for each in self.recent])
            self.moments = moments_of_first(first, self.memory.objective.fit_intercept)
        elif not self.owns_moments:
            self.moments = self.moments.copy()
        self.owns_moments, moments = True, self.moments
        for part in self.recent:
            moments.measure(part)
        heavy, are_heavy = [self.heavy], [moments.sizes(p) > LARGEST_SIZE for p in self.recent]
        if 2 * sum(np.count_nonzero(each) for each in are_heavy) > self.n_recent:
            are_heavy = [np.zeros_like(each) for each in are_heavy]  # these are the ordinary ones
        for part, is_heavy in zip(self.recent, are_heavy, strict=True):
            if is_heavy.any():
                heavy.append(part.take(is_heavy).dense())
                part = part.take(~is_heavy)
            moments.add(part)
        self.heavy = joined(heavy)
        if len(self.heavy) > MOST_HEAVY:
            order = np.argsort(-moments.sizes(self.heavy), kind="stable")
            moments.add(self.heavy.take(np.sort(order[MOST_HEAVY:])))
            self.heavy = self.heavy.take(np.sort(order[:MOST_HEAVY]))
        self.recent, self.n_recent, self.waiting = [no_rows(*moments.xy.shape)], 0, None
        self.border = _next_border(self.border)


def _nothing_waits(solution: _NormalSolution) -> _Correction:
    t, d = solution.v.shape
    nothing = np.zeros(0)
    return _Correction(
        solution, np.zeros((0, d + 1)), np.zeros((0, 0)), nothing, np.zeros((0, t)), 0.0
    )


def _solved_inner(K: np.ndarray, right: np.ndarray, least: float) -> np.ndarray:
    """Return K^-1 right for K >= least I, of least norm where rounding makes K singular.

    It is singular where a row of very large size came twice, and what is left out, along the
    difference of equal rows, changes no weight.
    """
    if len(K) == 0:
        return right
    if least < SINGULAR * len(K):
        return np.linalg.lstsq(K, right, rcond=None)[0]
    return np.linalg.solve(K, right)


def _weights(memory: MomentMemory, waiting: _Correction) -> tuple[np.ndarray, np.ndarray]:
    solution = waiting.solution
    v, b = waiting.corrected(memory.objective.l2)
    coef = v * solution.scale
    return coef, b - coef @ solution.centre


def _scaled(memory: MomentMemory, moments: RunningMoments, variance, centre) -> tuple:
    """Return the scale of each column, the penalty and the start of the weights there.

    A column that has not varied yet gets the scale of a spread far below what one row may add, so
    that the first row in which it does decides its weight. The last value says which have varied.
    """
    unit, l2 = moments.unit, memory.objective.l2
    with np.errstate(over="ignore"):
        penalty = np.minimum(l2 / unit / unit, 1e300)
    noise = 4.0 * EPS * np.abs(centre / unit)
    varies = variance > np.maximum(noise**2, TINY)
    least = np.maximum(LEAST_SPREAD, noise / NOISE_SHARE) ** 2
    scale = 1.0 / np.sqrt(np.where(varies, variance, least) + penalty)
    v = memory.start[0] * unit / scale
    return scale, np.where(varies, penalty * scale**2, 0.0), v, varies


def _before_any(memory: MomentMemory) -> _NormalSolution:
    """Return the start as the solution of weak moments, since there are none yet."""
    rows, objective = memory.recent, memory.objective
    moments = moments_of_first(rows, objective.fit_intercept)
    centre = moments.origin
    Q = (rows.X - centre) / moments.unit
    scale, shrink, v, _ = _scaled(memory, moments, np.mean(Q * Q, axis=0), centre)
    # The penalty counts as much as the rows, and the start much less.
    curvature = np.sqrt(1.0 + shrink / RIDGE)
    b = moments.y_mean if objective.fit_intercept else memory.start[1]
    weight = RIDGE * float(rows.s.sum())
    v = v * curvature
    scale = scale / curvature / moments.unit
    return _NormalSolution(scale, centre, None, v, b, weight, shrink, weight)


def _solved(memory: MomentMemory, moments: RunningMoments, penalised: float) -> _NormalSolution:
    """Return the solution of the normal equations, with the penalty of rows of this weight."""
    centred = memory.objective.fit_intercept
    H = moments.covariance(centred)
    if not np.isfinite(np.diag(H)).all():
        raise ValueError(EXTREME_SQUARES)
    scale, shrink, start, varies = _scaled(memory, moments, np.diag(H).copy(), moments.x_mean())
    known = np.where(varies, scale, 0.0)
    H *= known[:, None]
    H *= known
    diagonal = np.where(varies, shrink * (penalised / moments.weight), 1.0)
    slope = np.where(varies, moments.slope(centred, memory.start[1]).T * scale, start)
    ridge, upper = RIDGE, None
    while upper is None:
        A = H.copy()
        A[np.diag_indices(len(A))] += diagonal + ridge
        upper, added = upper_of(A), ridge
        ridge *= 100.0
    v = solve_upper(upper, solve_upper(upper, (slope + added * start).T, trans="T")).T
    b = moments.y_mean if centred else memory.start[1]
    centre = moments.x_mean() if centred else np.zeros(len(scale))
    scale = scale / moments.unit
    return _NormalSolution(scale, centre, upper, v, b, moments.weight, shrink, penalised)


def _sparse_weights(memory: MomentMemory) -> tuple[np.ndarray, np.ndarray]:
    """Return the minimum under L1, for which heavy rows count as much as the largest others."""
    objective, rows = memory.objective, joined([memory.heavy, memory.recent])
    moments = memory.moments
    if moments is None:
        moments = moments_of_first(rows, objective.fit_intercept)
        moments.measure(rows)
    else:
        moments = moments.copy()
        moments.measure(memory.recent)
    size = np.maximum(moments.sizes(rows) / LARGEST_SIZE, 1.0)
    moments.add(replace(rows, s=rows.s / size**2))
    centred = objective.fit_intercept
    H = moments.covariance(centred) * np.multiply.outer(moments.unit, moments.unit)
    slopes = moments.slope(centred, memory.start[1]).T * moments.unit
    coef = minima(H, slopes, Penalty(objective.l1, objective.l2), memory.coef)
    return coef, moments.y_mean - coef @ moments.x_mean() if centred else memory.start[1]
