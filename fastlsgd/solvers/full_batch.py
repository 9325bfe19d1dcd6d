"""Full-batch descent in the metric of the data, to a tolerance that is checked.

The method is Nesterov's accelerated proximal gradient (Beck and Teboulle 2009, SIAM J. Imaging Sci.
2(1)) with gradient restarts (O'Donoghue and Candes 2015, Found. Comput. Math. 15), on J in the
coordinates of `metric.py`. One iteration is one call of `loss_gradient`, which is one pass over X.
In a full metric the condition number is near 1 and a few iterations reach rounding; in a diagonal
metric their number grows with the square root of the condition of the scaled columns.

The descent ends when the gradient mapping is `tol` times the largest that the current residuals
could give, and not only `tol` times the gradient at zero weights: a few heavy rows may dominate the
latter and be fitted long before the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..kernels.contract import Kernels, Matrix, working_dtype
from .factors import EPS, NotTrustworthy
from .interrupt import call_loss_gradient
from .metric import (
    ColumnMoments,
    Metric,
    diagonal_metric,
    full_metric,
    standard_scale,
    take_moments,
)
from .problem import Penalty, Problem
from .rows import CHUNK_NUMBERS, as_dense, row_slice

# Below these variances, squares or float32's products with a residual may have underflowed.
LEAST_VARIANCE = {"float64": 1e-250, "float32": 1e-56}


@dataclass
class FullBatchResult:
    """The weights at which the descent ended, and how good they are."""

    coef: np.ndarray  # (t, d), float64
    intercept: np.ndarray  # (t,)
    n_iter: int
    loss_curve: list[float]  # J with its penalty, before each iteration
    # Norm of the gradient in the metric, over its norm at zero weights; without convergence, over
    # the smaller of that and the root mean square of the residuals.
    relative_gradient: float
    converged: bool
    scale: np.ndarray  # (d,)  the reciprocal of each column's standard deviation
    allowed: float  # the largest gradient of such columns that tol and rounding allow
    is_dependent: bool  # whether the metric has found that columns depend on each other


@dataclass
class _Point:
    """Weights v (t, k) and b (t,) of centred rows, treated as one vector."""

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

    def __init__(
        self, kernels: Kernels, problem: Problem, metric: Metric, l1: float, n_threads: int
    ) -> None:
        self.kernels, self.problem, self.n_threads = kernels, problem, n_threads
        self.metric = metric
        self.soft = l1 * metric.transform if l1 > 0.0 else None

    def smooth(self, at: _Point) -> tuple[float, _Point]:
        """Return the loss with the L2 penalty, and its gradient."""
        coef, intercept = self.outwards(at)
        X, y, s = self.problem.X, self.problem.y, self.problem.sample_weight
        loss, dw, db = call_loss_gradient(self.kernels, X, y, coef, intercept, s, self.n_threads)
        dz = dw - np.outer(db, self.metric.shift)
        dv = self.metric.whiten(dz) + self.metric.shrink * at.v
        penalty = 0.5 * float((self.metric.shrink * at.v**2).sum())
        if not self.problem.fit_intercept:
            db = 0.0 * db
        return float(loss.sum()) + penalty, _Point(dv, db)

    def residual(self, at: _Point, loss: float) -> float:
        """Return the root mean square of the residuals, over all targets together."""
        paid = float((self.metric.shrink * at.v**2).sum())
        return float(np.sqrt(max(2.0 * loss - paid, 0.0)))

    def penalty(self, at: _Point) -> float:
        return 0.0 if self.soft is None else float((self.soft * np.abs(at.v)).sum())

    def proximal(self, at: _Point, step: float) -> _Point:
        if self.problem.positive:
            soft = 0.0 if self.soft is None else step * self.soft
            return _Point(np.maximum(at.v - soft, 0.0), at.b)
        if self.soft is None:
            return at
        return _Point(np.sign(at.v) * np.maximum(np.abs(at.v) - step * self.soft, 0.0), at.b)

    def outwards(self, at: _Point) -> tuple[np.ndarray, np.ndarray]:
        coef = np.ascontiguousarray(self.metric.unwhiten(at.v))
        return coef, at.b - coef @ self.metric.shift


def fit_full_batch(
    kernels: Kernels,
    problem: Problem,
    alpha: float,
    coef: np.ndarray | None,
    *,
    tol: float,
    max_iter: int,
    n_threads: int,
) -> FullBatchResult:
    """Minimise J from `coef` (None: zero) until the relative gradient is `tol`.

    The gradient is measured in the metric, where columns have norm 1. It must be `tol` of the one
    at zero weights and the mean intercept, and of the residuals' root mean square; under L1 it is
    the proximal gradient mapping. A `tol` below what rounding allows counts as that.

    Raises
    ------
    NotTrustworthy
        If squares of a column or of residuals overflow or underflow.
    """
    X, y, fit_intercept = problem.X, problem.y, problem.fit_intercept
    penalty = problem.penalty(alpha)
    moments = take_moments(kernels, X, y, problem.sample_weight, n_threads)
    eps = float(np.finfo(working_dtype(X)).eps)
    variance = _variances(moments, fit_intercept)
    centre = moments.x_mean() * fit_intercept
    _refuse_underflow(X, problem.sample_weight, centre, variance, eps)
    scale = standard_scale(moments, variance, eps)
    metric = _choose_metric(moments, penalty, fit_intercept, eps)
    objective = _Objective(kernels, problem, metric, penalty.l1, n_threads)
    zero = _Point(np.zeros((y.shape[1], len(metric.shrink))), np.zeros(y.shape[1]))
    if fit_intercept:
        zero.b = moments.y_mean()
    start = zero
    if coef is not None:
        start = _Point(metric.to_weights(coef.astype(np.float64)), zero.b)
    test = _Test(
        tol,
        _mapping_norm(objective, zero, _first_curvature(metric)),
        Rounding.of(moments, scale, variance, fit_intercept, eps),
    )
    return _accelerate(objective, start, test, scale, max_iter)


def _variances(moments: ColumnMoments, centred: bool) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        curvature = moments.curvature(centred)
    variance = np.diag(curvature) if moments.is_full else curvature
    if not np.isfinite(curvature).all():
        raise NotTrustworthy("squares overflow")
    return variance


def _refuse_underflow(X: Matrix, sample_weight, mean, variance: np.ndarray, eps: float) -> None:
    """Raise NotTrustworthy where a column varies though its variance has underflowed."""
    small = np.flatnonzero(variance < LEAST_VARIANCE[working_dtype(X).name])
    step = max(1, CHUNK_NUMBERS // X.shape[1])
    for start in range(0, X.shape[0] if len(small) else 0, step):
        rows = as_dense(row_slice(X, start, min(start + step, X.shape[0])))[:, small]
        if sample_weight is not None:
            rows = rows[np.asarray(sample_weight[start : start + step]) > 0.0]
        if (np.abs(rows - mean[small]) > 4.0 * eps * np.abs(mean[small])).any():
            raise NotTrustworthy("squares underflow")


@dataclass(frozen=True)
class Rounding:
    """The size of the gradient in the metric that rounding alone causes.

    Products in X's dtype have random errors of eps times their size. A column far from zero counts
    with its offset in standard deviations, since the gradient of the centred column is a difference
    of larger numbers. Residuals have errors of float64's eps times the numbers whose difference
    they are.
    """

    products: float  # to be multiplied by the residuals' root mean square
    size: np.ndarray  # (d,)  root mean square of the columns, about zero
    targets: float  # root mean square of y

    @classmethod
    def of(cls, moments: ColumnMoments, scale, variance, centred: bool, eps: float) -> Rounding:
        mean, offset = moments.x_mean(), 1.0
        if centred:
            offset = max(1.0, float(np.abs(mean * scale).max()))
        size = np.sqrt(np.maximum(variance, 0.0) + (mean**2 if centred else 0.0))
        y_mean = moments.y_mean()
        targets = float(np.sqrt(np.sum(moments.y_variance() + y_mean**2)))
        return cls(2.0 * eps * offset / np.sqrt(moments.rows), size, targets)

    def of_gradient(self, coef: np.ndarray, intercept: np.ndarray, residual: float) -> float:
        summands = np.linalg.norm(np.abs(coef) @ self.size) + np.linalg.norm(intercept)
        return self.products * residual + 4.0 * EPS * float(summands + self.targets)


@dataclass(frozen=True)
class _Test:
    """The test of convergence: how small the gradient mapping must be."""

    tol: float
    at_zero: float  # norm of the gradient mapping at zero weights
    rounding: Rounding

    def allowed(self, objective: _Objective, at: _Point, loss: float) -> float:
        residual = objective.residual(at, loss)
        coef, intercept = objective.outwards(at)
        least = self.rounding.of_gradient(coef, intercept, residual)
        return max(self.tol * min(self.at_zero, residual), least)

    def relative(self, norm: float, converged: bool, residual: float) -> float:
        unit = self.at_zero if converged else min(self.at_zero, residual)
        return norm / unit if unit > 0.0 else 0.0


def _choose_metric(moments: ColumnMoments, penalty: Penalty, centred: bool, eps: float) -> Metric:
    """Return the full metric where d allows it; L1 and signs need a diagonal, separable one."""
    if moments.is_full and penalty.l1 == 0.0 and not penalty.positive:
        return full_metric(moments, penalty.l2, centred, eps)
    return diagonal_metric(moments, penalty.l2, centred, eps)


def _first_curvature(metric: Metric) -> float:
    """Return a first curvature, which the descent raises if it meets a larger one.

    The curvature along the intercept is 1.
    """
    return max(metric.curvature_bound, 1.0)


def _mapping_norm(objective: _Objective, at: _Point, curvature: float) -> float:
    _, gradient = objective.smooth(at)
    move = at - objective.proximal(at.plus(-1.0 / curvature, gradient), 1.0 / curvature)
    return curvature * float(np.sqrt(move.dot(move)))


def _accelerate(
    objective: _Objective, start: _Point, test: _Test, scale: np.ndarray, max_iter: int
) -> FullBatchResult:
    curvature = _first_curvature(objective.metric)
    here, ahead, momentum = start, start, 1.0
    last: tuple[_Point, _Point] | None = None  # the point of the last gradient, and it
    best, best_norm, losses, converged, allowed = start, np.inf, [], False, 0.0
    residual = 0.0  # at the best point
    for _ in range(max_iter):
        loss, gradient = objective.smooth(ahead)
        losses.append(loss + objective.penalty(ahead))
        if not np.isfinite(loss):
            raise NotTrustworthy("squares of residuals overflow")
        if last is not None:  # the curvature of the quadratic along the last move costs nothing
            move = ahead - last[0]
            square = move.dot(move)
            if square > 0.0:
                curvature = max(curvature, move.dot(gradient - last[1]) / square)
        last = ahead, gradient
        following = objective.proximal(ahead.plus(-1.0 / curvature, gradient), 1.0 / curvature)
        mapping = ahead - following
        norm = curvature * float(np.sqrt(mapping.dot(mapping)))
        allowed = test.allowed(objective, ahead, loss)
        converged = norm <= allowed
        if norm < best_norm or converged:
            best, best_norm = (following if converged else ahead), norm
            residual = objective.residual(ahead, loss)
        if converged:
            break
        if mapping.dot(following - here) > 0.0:  # uphill: the momentum has overshot
            momentum = 1.0
        later = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * momentum**2))
        ahead = following.plus((momentum - 1.0) / later, following - here)
        here, momentum = following, later
    coef, intercept = objective.outwards(best)
    relative = test.relative(best_norm, converged, residual)
    is_dependent = len(objective.metric.shrink) < int(np.count_nonzero(scale))
    return FullBatchResult(
        coef, intercept, len(losses), losses, relative, converged, scale, allowed, is_dependent
    )
