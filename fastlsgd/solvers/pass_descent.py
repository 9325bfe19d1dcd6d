"""Least squares by gradients alone, each of which is one pass over rows that are anywhere.

For d so large that d^2 numbers are too many: rows from a stream, or on many machines. A descent
says at which weights it wants a gradient (`request`), and goes on from the answer (`take`), so that
whoever has the rows makes the pass, and may save the descent between two of them.

Columns are scaled by their own spread and penalty (Jacobi), and centred by a correction of the
sums. With L2 or no penalty the method is that of conjugate gradients (Hestenes and Stiefel 1952),
whose recurrence ends with a pass for the true gradient. With L1 or a sign constraint it is
accelerated proximal descent (Beck and Teboulle 2009, SIAM J. Imaging Sci. 2(1)) with restarts by
the gradient (O'Donoghue and Candes 2015, Found. Comput. Math. 15). Both end by the test of
`full_batch.py`. A pass costs the stored numbers, and moves d numbers per part and target.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..kernels.contract import TargetGradients
from .accelerated_epochs import CURVATURE_SAFETY, POWER_STEPS
from .column_sums import GradientRequest
from .conjugate_epochs import REFRESH
from .factors import NotTrustworthy
from .full_batch import Rounding
from .metric import ColumnMoments, diagonal_metric, standard_scale
from .problem import Penalty
from .proximal_newton import dual_gap
from .solution import Solution

# A true gradient that is not this much smaller than the one before shows that rounding rules.
LEAST_PROGRESS = 0.5


@dataclass(frozen=True)
class PassTask:
    """What is to be minimised, and how well."""

    alphas: tuple[float, ...]  # a path, each fit started from the one before
    l1_ratio: float
    positive: bool
    fit_intercept: bool
    tol: float
    max_iter: int  # most passes per fit
    eps: float  # of the numbers that X has
    accelerated: bool = False  # rather than conjugate gradients

    def penalty(self, alpha: float) -> Penalty:
        return Penalty(alpha * self.l1_ratio, alpha * (1.0 - self.l1_ratio), self.positive)


class PassDescent:
    """What both methods share: the problem in scaled columns, and the test of convergence.

    Parameters
    ----------
    moments : ColumnMoments
    task : PassTask
    penalty : Penalty
    coef : ndarray of shape (t, d)
        The start, at which no gradient is known.
    slope : ndarray of shape (t, d) or None
        The gradient at zero weights; None if the start is zero.
    """

    solver = ""

    def __init__(
        self,
        moments: ColumnMoments,
        task: PassTask,
        penalty: Penalty,
        coef: np.ndarray,
        slope: np.ndarray | None,
    ) -> None:
        centred = task.fit_intercept
        variance = moments.curvature(centred)
        scale = standard_scale(moments, variance, task.eps)
        metric = diagonal_metric(moments, penalty.l2, centred, task.eps)
        self.task, self.penalty, self.centre = task, penalty, metric.shift
        self.squared_scale = metric.transform**2
        if penalty.l2 == 0.0 and moments.rows <= len(scale) and scale.any():
            # PassDescent from zero ends at the weights of least norm in its metric.
            one = float(np.mean(variance[scale > 0.0]))
            self.squared_scale = np.where(scale > 0.0, 1.0 / one, 0.0)
        self.rounding = Rounding.of(moments, scale, variance, centred, task.eps)
        self.y_mean = np.zeros(len(moments.y))
        if centred:
            self.y_mean = moments.y_mean()
        self.coef = np.where(self.squared_scale > 0.0, coef, 0.0)
        self.slope, self.n_passes = slope, 0
        self.losses: list[float] = []
        self.norm = self.residual = self.allowed = np.inf
        self.loss = np.zeros(len(self.y_mean))  # of each target, at the last gradient
        self.gradient = np.zeros_like(self.coef)  # of loss and L2 there
        self.has_ended = self.has_converged = False

    def _asked(self, coef: np.ndarray, has_targets: bool) -> GradientRequest:
        at_centre = coef @ self.centre
        intercept = self.y_mean - at_centre if has_targets else -at_centre
        return GradientRequest(np.ascontiguousarray(coef), intercept, has_targets)

    def _centred(self, found: TargetGradients, at: np.ndarray) -> np.ndarray:
        """Return the gradient of loss and L2 for centred rows."""
        return found.coef - np.outer(found.intercept, self.centre) + self.penalty.l2 * at

    def _note(self, found: TargetGradients, at: np.ndarray) -> None:
        """Keep the gradient at these weights, of a pass with targets."""
        self.n_passes += 1
        if not (np.isfinite(found.loss).all() and np.isfinite(found.coef).all()):
            raise NotTrustworthy("squares of residuals overflow")
        self.gradient = self._centred(found, at)
        if self.task.fit_intercept:  # the mean residual is not zero, because of rounding
            self.y_mean = self.y_mean - found.intercept
        self.loss = found.loss
        self.losses.append(float(found.loss.sum()) + self.penalty.value(at))
        if self.slope is None:
            self.slope = self.gradient
        self.residual = float(np.sqrt(2.0 * found.loss.sum()))
        least = self.rounding.of_gradient(at, self.y_mean - at @ self.centre, self.residual)
        self.allowed = max(self.task.tol * min(self._norm_at_zero(), self.residual), least)

    def _norm_at_zero(self) -> float:
        assert self.slope is not None
        excess = self.penalty.violation(np.zeros_like(self.slope), self.slope)
        return self._length(self.squared_scale * excess)

    def _length(self, move: np.ndarray) -> float:
        """Return the norm of a move of the weights in scaled columns."""
        return float(np.sqrt(self._product(move, move)))

    def _product(self, a: np.ndarray, b: np.ndarray) -> float:
        scale = self.squared_scale
        inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0.0)
        return float(np.einsum("td,td,d->", a, b, inverse))

    def solution(self, weight: float) -> Solution:
        """Return the weights and their certificates, for rows of this weight."""
        assert self.slope is not None
        unit = self._norm_at_zero()
        if not self.has_converged:
            unit = min(unit, self.residual)
        gap = None
        if self.penalty.l1 > 0.0:
            slope = self.gradient - self.penalty.l2 * self.coef
            rows = zip(self.coef, slope, 2.0 * self.loss, strict=True)
            gap = float(sum(dual_gap(w, g, q, self.penalty) for w, g, q in rows))
        return Solution(
            self.coef,
            self.y_mean - self.coef @ self.centre,
            self.solver,
            self.n_passes,
            float("nan"),
            np.sqrt(2.0 * self.loss * weight),
            self.losses,
            self.norm / unit if unit > 0.0 else 0.0,
            self.has_converged,
            centre=self.centre,
            dual_gap=gap,
        )


class ConjugateGradients(PassDescent):
    """For L2 or no penalty; each target has directions of its own."""

    solver = "cg"

    def __init__(self, *problem) -> None:
        super().__init__(*problem)
        t = len(self.coef)
        self.direction, self.rho = np.zeros_like(self.coef), np.zeros(t)
        self.first_rho = np.zeros(t)
        self.wants_product = False

    def request(self) -> GradientRequest:
        if self.wants_product:
            return self._asked(self.direction, False)
        return self._asked(self.coef, True)

    def take(self, found: TargetGradients) -> None:
        if not self.wants_product:
            self._begin(found)
            return
        self.n_passes += 1
        product, before = self._centred(found, self.direction), self.rho
        length = _quotient(before, np.einsum("td,td->t", self.direction, product))[:, None]
        self.coef = self.coef - length * self.direction
        self.gradient = self.gradient - length * product
        scaled = self._rescale()
        self.direction = scaled + _quotient(self.rho, before)[:, None] * self.direction
        is_small = np.sqrt(self.rho.sum()) <= 0.5 * self.allowed
        is_old = bool((self.rho <= REFRESH * self.first_rho).all())
        is_late = self.n_passes >= self.task.max_iter - 1
        self.wants_product = not (is_small or is_old or is_late)

    def _begin(self, found: TargetGradients) -> None:
        """Begin anew along the true gradient, or end."""
        before = self.norm
        self._note(found, self.coef)
        scaled = self._rescale()
        self.first_rho, self.direction = self.rho, scaled
        self.norm = float(np.sqrt(self.rho.sum()))
        self.has_converged = self.norm <= self.allowed
        has_stalled = self.norm > LEAST_PROGRESS * before
        is_late = self.n_passes >= self.task.max_iter
        self.has_ended = self.has_converged or has_stalled or is_late
        self.wants_product = not self.has_ended

    def _rescale(self) -> np.ndarray:
        scaled = self.squared_scale * self.gradient
        self.rho = np.einsum("td,td->t", scaled, self.gradient)
        return scaled


class ProximalSteps(PassDescent):
    """For L1, sign constraints, and where conjugate gradients are not wanted."""

    solver = "nesterov"

    def __init__(self, *problem) -> None:
        super().__init__(*problem)
        self.ahead, self.momentum = self.coef, 1.0  # `ahead` is the point of the next gradient
        self.last: tuple[np.ndarray, np.ndarray] | None = None  # that of the last, and it
        self.curvature, self.power_left = 0.0, POWER_STEPS
        self.is_final = False
        d = self.coef.shape[1]
        self.probe = np.random.default_rng(0).normal(size=(1, d)) * np.sqrt(self.squared_scale)

    def request(self) -> GradientRequest:
        if self.is_final:
            return self._asked(self.coef, True)
        if self.power_left and self._length(self.probe) > 0.0:
            self.probe = self.probe / self._length(self.probe)
            return self._asked(self.probe, False)
        return self._asked(self.ahead, True)

    def take(self, found: TargetGradients) -> None:
        if self.is_final:
            self._note(found, self.coef)
            self.has_ended = True
        elif self.power_left and self.probe.any():
            self.n_passes += 1
            self.power_left -= 1
            product = self._centred(found, self.probe)
            most = CURVATURE_SAFETY * float(np.einsum("td,td->", self.probe, product))
            self.curvature, self.probe = max(self.curvature, most), self.squared_scale * product
        else:
            self._note(found, self.ahead)
            self._step()

    def _step(self) -> None:
        """Take the proximal step from the point of the gradient."""
        ahead, gradient = self.ahead, self.gradient
        if self.last is not None:  # the curvature along the last move costs no pass
            move, change = ahead - self.last[0], gradient - self.last[1]
            square = self._product(move, move)
            if square > 0.0:
                along = float(np.einsum("td,td->", move, change)) / square
                self.curvature = max(self.curvature, along)
        self.last = ahead, gradient
        curvature = self.curvature if self.curvature > 0.0 else 1.0
        length = self.squared_scale / curvature
        following = self.penalty.soften(ahead - length * gradient, self.penalty.l1 * length)
        mapping = ahead - following
        self.norm = curvature * self._length(mapping)
        self.has_converged = self.norm <= self.allowed
        self.is_final = self.has_converged or self.n_passes >= self.task.max_iter - 1
        move = following - self.coef
        if self._product(mapping, move) > 0.0:  # uphill: the momentum has overshot
            self.momentum = 1.0
        later = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * self.momentum**2))
        self.ahead = following + (self.momentum - 1.0) / later * move
        self.coef, self.momentum = following, later


class PathDescent:
    """One descent after another, along a path of penalties.

    Parameters
    ----------
    moments : ColumnMoments
        Of all rows.
    task : PassTask

    Raises
    ------
    NotTrustworthy
        If squares of columns overflow.
    """

    def __init__(self, moments: ColumnMoments, task: PassTask) -> None:
        if not np.isfinite(moments.curvature(task.fit_intercept)).all():
            raise NotTrustworthy("squares overflow")
        self.moments, self.task = moments, task
        self.solutions: list[Solution] = []
        zero = np.zeros((len(moments.y), len(moments.x)))
        self.descent: ConjugateGradients | ProximalSteps | None = self._descent(zero, None)

    def _descent(
        self, coef: np.ndarray, slope: np.ndarray | None
    ) -> ConjugateGradients | ProximalSteps:
        penalty = self.task.penalty(self.task.alphas[len(self.solutions)])
        is_smooth = penalty.l1 == 0.0 and not penalty.positive and not self.task.accelerated
        kind = ConjugateGradients if is_smooth else ProximalSteps
        return kind(self.moments, self.task, penalty, coef, slope)

    @property
    def has_ended(self) -> bool:
        return self.descent is None

    def request(self) -> GradientRequest:
        assert self.descent is not None
        return self.descent.request()

    def take(self, found: TargetGradients) -> None:
        """Go on from the gradient that was requested."""
        descent = self.descent
        assert descent is not None
        with np.errstate(over="ignore", invalid="ignore"):
            descent.take(found)
        if descent.has_ended:
            self.solutions.append(descent.solution(self.moments.weight))
            has_more = len(self.solutions) < len(self.task.alphas)
            self.descent = self._descent(descent.coef, descent.slope) if has_more else None


def _quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a / b, or 0 where b is not positive."""
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0.0)
