"""Full-batch descent in the metric of the data, to a tolerance that is checked.

Nesterov's accelerated proximal gradient (Beck and Teboulle 2009, SIAM J. Imaging Sci. 2(1)) with
gradient restarts (O'Donoghue and Candes 2015, Found. Comput. Math. 15), on J in the coordinates of
`metric.py`. One iteration is one call of `loss_gradient`: one pass over X. In a full metric the
problem is round and a few iterations reach rounding; in a diagonal one their number goes with the
square root of the condition of the scaled columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..kernels.contract import Kernels, Matrix, working_dtype
from .metric import (
    Metric,
    Moments,
    add_moments,
    diagonal_metric,
    full_metric,
    standard_scale,
)


@dataclass
class FullBatchResult:
    """Where the descent ended."""

    coef: np.ndarray  # (t, d), float64
    intercept: np.ndarray  # (t,)
    n_iter: int
    loss_curve: list[float]  # J with its penalty, before each iteration
    relative_gradient: float  # norm of the gradient in the metric, over its norm at zero
    converged: bool


@dataclass
class _Point:
    """Weights v (t, k) and b (t,) of centred rows, as one vector."""

    v: np.ndarray
    b: np.ndarray

    def __sub__(self, other: _Point) -> _Point:
        return _Point(self.v - other.v, self.b - other.b)

    def plus(self, scale: float, other: _Point) -> _Point:
        return _Point(self.v + scale * other.v, self.b + scale * other.b)

    def dot(self, other: _Point) -> float:
        return float(np.vdot(self.v, other.v) + np.vdot(self.b, other.b))


class _Objective:
    """J, its gradient and its proximal step, in the coordinates of a metric."""

    def __init__(self, kernels, X, y, sample_weight, metric: Metric, l1: float, positive: bool,
                 fit_intercept, n_threads) -> None:  # fmt: skip
        self.kernels, self.X, self.y, self.sample_weight = kernels, X, y, sample_weight
        self.metric, self.fit_intercept, self.n_threads = metric, fit_intercept, n_threads
        self.soft = l1 * metric.transform if l1 > 0.0 else None
        self.positive = positive

    def smooth(self, at: _Point) -> tuple[float, _Point]:
        """Loss with the L2 penalty, and gradient."""
        coef, intercept = self.outwards(at)
        loss, dw, db = self.kernels.loss_gradient(
            self.X, self.y, coef, intercept, self.sample_weight, self.n_threads
        )
        dz = dw - np.outer(db, self.metric.shift)
        t = self.metric.transform
        dv = (dz * t if self.metric.is_diagonal else dz @ t.T) + self.metric.shrink * at.v
        penalty = 0.5 * float((self.metric.shrink * at.v**2).sum())
        return float(loss.sum()) + penalty, _Point(dv, db if self.fit_intercept else 0.0 * db)

    def penalty(self, at: _Point) -> float:
        return 0.0 if self.soft is None else float((self.soft * np.abs(at.v)).sum())

    def proximal(self, at: _Point, step: float) -> _Point:
        if self.positive:
            soft = 0.0 if self.soft is None else step * self.soft
            return _Point(np.maximum(at.v - soft, 0.0), at.b)
        if self.soft is None:
            return at
        return _Point(np.sign(at.v) * np.maximum(np.abs(at.v) - step * self.soft, 0.0), at.b)

    def outwards(self, at: _Point) -> tuple[np.ndarray, np.ndarray]:
        coef = np.ascontiguousarray(self.metric.to_coef(at.v))
        return coef, at.b - coef @ self.metric.shift


def fit_full_batch(
    kernels: Kernels,
    X: Matrix,
    y: np.ndarray,
    coef: np.ndarray | None,
    intercept: np.ndarray | None,
    *,
    sample_weight: np.ndarray | None,
    alpha: float,
    l1_ratio: float,
    positive: bool = False,
    fit_intercept: bool,
    tol: float,
    max_iter: int,
    n_threads: int,
) -> FullBatchResult:
    """Minimise J from `coef` and `intercept` (None: zero) until the relative gradient is `tol`.

    The gradient is measured in the metric and relative to the one at zero weights and the mean
    intercept; under L1 it is the proximal gradient mapping. A `tol` below what rounding allows
    counts as that. `positive`: weights may not be negative.
    """
    l1, l2 = alpha * l1_ratio, alpha * (1.0 - l1_ratio)
    moments = add_moments(kernels, X, y, sample_weight, n_threads)
    metric = choose_metric(moments, l1, l2, positive, fit_intercept, working_dtype(X))
    objective = _Objective(
        kernels, X, y, sample_weight, metric, l1, positive, fit_intercept, n_threads
    )
    zero = _Point(np.zeros((y.shape[1], len(metric.shrink))), np.zeros(y.shape[1]))
    if fit_intercept:
        zero.b = moments.y_origin + moments.y / moments.weight
    start = zero
    if coef is not None:
        start = _Point(metric.to_weights(coef.astype(np.float64)), zero.b)
        if not fit_intercept:
            start.b = np.zeros(y.shape[1])
    scale = _mapping_norm(objective, zero, _first_curvature(metric))
    tol = max(tol, _rounding_floor(moments, fit_intercept, X))
    return _accelerate(objective, start, scale, tol, max_iter)


def _rounding_floor(moments: Moments, centred: bool, X: Matrix) -> float:
    """What rounding leaves of the relative gradient, so that no descent gets below.

    Products in X's dtype are off by eps of their size, at random; columns far from zero count
    with their offset in standard deviations, since the gradient of the centred column is what
    is left of theirs.
    """
    eps = float(np.finfo(working_dtype(X)).eps)
    offset = 1.0
    if centred:
        curvature = moments.curvature(True)
        scale = standard_scale(moments, np.diag(curvature) if moments.is_full else curvature, eps)
        offset = max(1.0, float(np.abs(moments.x_mean() * scale).max()))
    return 2.0 * eps * offset / np.sqrt(X.shape[0])


def choose_metric(
    moments: Moments, l1: float, l2: float, positive: bool, centred: bool, dtype
) -> Metric:
    """The full metric where d allows it; L1 and signs are separable in a diagonal one only."""
    eps = float(np.finfo(dtype).eps)
    if moments.is_full and l1 == 0.0 and not positive:
        return full_metric(moments, l2, centred, eps)
    return diagonal_metric(moments, l2, centred, eps)


def _first_curvature(metric: Metric) -> float:
    """The descent raises it if it meets a larger one; the intercept's is one."""
    return max(metric.curvature_bound, 1.0)


def _mapping_norm(objective: _Objective, at: _Point, curvature: float) -> float:
    _, gradient = objective.smooth(at)
    move = at - objective.proximal(at.plus(-1.0 / curvature, gradient), 1.0 / curvature)
    return curvature * float(np.sqrt(move.dot(move)))


def _accelerate(
    objective: _Objective, start: _Point, scale: float, tol: float, max_iter: int
) -> FullBatchResult:
    curvature = _first_curvature(objective.metric)
    here, ahead, momentum = start, start, 1.0
    last: tuple[_Point, _Point] | None = None  # where the last gradient was taken, and it
    best, best_norm, losses = start, np.inf, []
    for _ in range(max_iter):
        loss, gradient = objective.smooth(ahead)
        losses.append(loss + objective.penalty(ahead))
        if not np.isfinite(loss):
            break
        if last is not None:  # a quadratic's curvature along the last move, for free
            move = ahead - last[0]
            square = move.dot(move)
            if square > 0.0:
                curvature = max(curvature, move.dot(gradient - last[1]) / square)
        last = ahead, gradient
        following = objective.proximal(ahead.plus(-1.0 / curvature, gradient), 1.0 / curvature)
        mapping = ahead - following
        norm = curvature * float(np.sqrt(mapping.dot(mapping)))
        if norm < best_norm:
            best, best_norm = (ahead if norm > tol * scale else following), norm
        if norm <= tol * scale:
            break
        if mapping.dot(following - here) > 0.0:  # uphill: the momentum has overshot
            momentum = 1.0
        later = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * momentum**2))
        ahead = following.plus((momentum - 1.0) / later, following - here)
        here, momentum = following, later
    coef, intercept = objective.outwards(best)
    relative = best_norm / scale if scale > 0.0 else 0.0
    return FullBatchResult(coef, intercept, len(losses), losses, relative, relative <= tol)
