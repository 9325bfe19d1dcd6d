"""learning_rate="auto" for up to `FULL_METRIC_FEATURES` features: Newton steps, one per epoch.

1. One pass takes the moments of the rows (`metric.py`), in which the minimum of J lies open: it is
   where descent starts. For many rows and columns, the moments are those of a sample, and so is
   this start.
2. Each epoch is one pass over all rows: the loss and the exact gradient at the present weights.
   They verify the weights, and a step along the gradient, in the metric of the moments, refines
   them. In the metric of all rows that is a Newton step, which leaves rounding; in that of a sample
   it leaves a part. So steps are made conjugate (Hestenes and Stiefel 1952), and their lengths are
   exact in hindsight: two gradients show the curvature along the step between them.
3. From the gradient follows how far J may be above its minimum. The fit ends as soon as that is a
   tenth of `tol`, which it mostly is after one epoch.
4. With L1, the step goes to the minimum of the quadratic model and the penalty
   (`proximal_newton.py`), so that zeros are exact.
5. Where a few rows or weights are so large that float64 moments may hold nothing else, the weights
   are those of the exact solvers (`regression.py`), and the only epoch reports their loss. Steps
   from the rounded gradient of such rows would spoil them, also from the minimum of a triangular
   factor of the rows: 27 of 60 fits beside a row of 1e4 to 1e16 had weights off by up to 100 %.

Neither the order of the rows nor `batch_size` makes a difference. Stochastic steps in this metric,
whose mean the weights were before, took 7 to 10 epochs, each of which had to transform its rows, at
d^2 multiply-adds per row. On 100,000 x 100 float32 numbers and one thread that was 366 ms; the
moments and the pass that verifies them take 40.

Rows are read where they are, and nothing of the size of X is allocated. Weights are float64.
"""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from .._threads import pass_threads
from ..kernels.contract import TargetGradients, working_dtype
from .automatic import AutomaticMemory
from .factors import EPS, GRAM_CONDITION, NotTrustworthy, TriangularFactor, cholesky_factor
from .graded_stream import GradedMemory
from .interrupt import call_loss_gradient
from .metric import (
    SAMPLE_RATIO,
    ColumnMoments,
    Coordinates,
    standard_scale,
    take_moments,
    whitening,
)
from .ordinary_rows import ruled_by_few
from .problem import Penalty, Problem
from .quadratic import minima
from .recursive import Triangle, rows_of_fit
from .regression import fit_regression
from .rows import centred_rows, counted_rows, rows_on_host, stored_numbers
from .system import hides_spread
from .training import Objective, TrainingData
from .weights import equal_counts, normalised_weights, weights_of_visited

# If a column's root mean square is this many times its spread, an exact solver finds the weights.
# From moments, a row of 1e3 to 1e4 among 400 to 1,000 had R2 of the others fall to -2.
EXACT_RATIO = 30.0
# In the metric of a sample, all rows have at least this curvature: `take_moments` takes no sample
# in which a column's mean square differs by more.
LEAST_CURVATURE = 1.0 / SAMPLE_RATIO
# Lengths of steps beyond these can only come from rounding.
LEAST_LENGTH, MOST_LENGTH = 0.25, 4.0
# A rise of J by this share is rounding.
ROUNDED_RISE = 1e-12
# Residuals have rounding errors of some eps of the targets.
TARGET_EPS = 8.0
# The tolerance of an exact solver with L1, and the number of its passes.
EXACT_TOL, EXACT_PASSES = 1e-10, 1000
# Columns of less spread than this many eps of their mean are constant: see `standard_scale`.
NOISE_EPS = 0.25 * EPS


class _Step(NamedTuple):
    """The last step, and the gradient before it."""

    coef: np.ndarray  # (t, d)
    intercept: np.ndarray  # (t,)
    gradient: np.ndarray  # (t, d)
    db: np.ndarray  # (t,)
    rho: np.ndarray  # (t,): the squared gradient in the metric


class _Descent:
    """The protocol of `stochastic.Descent` but for `epoch`.

    Parameters
    ----------
    data : TrainingData
        The scale of the sample weights does not matter.
    objective : Objective
    visited : ndarray of int64, optional
        Numbers of the rows that count; the others have no effect. Default: all.

    Attributes
    ----------
    memory : AutomaticMemory
        For a stream of further rows.
    loss_scale : float
        Loss of predicting the mean of y, which is the unit of a tolerance.
    """

    shuffles = False
    rate = 1.0  # the length of a step in units of Newton's

    def __init__(
        self, data: TrainingData, objective: Objective, visited: np.ndarray | None
    ) -> None:
        self.kernels, self.X, self.y, _, self.n_threads = data
        numbers = stored_numbers(self.X) * self.y.shape[1]
        self.pass_threads = pass_threads(numbers, self.n_threads)
        self.objective, self.triangle = objective, None
        weights = weights_of_visited(data.sample_weight, visited, data.y)
        self.sample_weight, exponent = normalised_weights(weights, self.X)
        self.weight_unit = 2.0**exponent
        self.counts = equal_counts(self.sample_weight, self.y)
        self._take_moments()
        self.gap = self.value = np.inf
        self.is_exact = False

    coef: np.ndarray  # (t, d)
    b: np.ndarray  # (t,): the intercept at the centre
    triangle: Triangle | GradedMemory | None

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the weights for X as it was given, in float64."""
        return self.coef, self.b - self.coef @ self.centre

    @property
    def memory(self) -> AutomaticMemory:
        return AutomaticMemory(self.moments, self.weight_unit, self.objective, self.triangle)

    def lower_rate(self) -> bool:
        """Return False: there is no rate to lower."""
        return False

    def _take_moments(self) -> None:
        X, y, s = self.X, self.y, self.sample_weight
        self.moments = take_moments(self.kernels, X, y, s, self.n_threads)
        moments, variance = self.moments, self.moments.y_variance()
        self.loss_scale = 0.5 * float(variance.sum())
        square = variance + moments.y_mean() ** 2
        self.rounded_loss = (TARGET_EPS * EPS) ** 2 * float(square.sum())

    def _set_centre(self, intercept: np.ndarray) -> None:
        """Choose the centre, about which the intercept is independent of the weights.

        An intercept that is not fitted stays as it is.
        """
        moments, centred = self.moments, self.objective.fit_intercept
        self.centre = moments.shift(centred)
        assert moments.y_of_x is not None
        mean = moments.y_origin + moments.y_of_x / moments.weight
        self.b = mean if centred else intercept.astype(np.float64)

    def _slope(self) -> np.ndarray:
        """Return minus the gradient of the loss at zero weights, (t, d), by the moments."""
        moments = self.moments
        slope = moments.slope(self.objective.fit_intercept)
        assert slope is not None
        if not self.objective.fit_intercept:
            slope = slope - np.multiply.outer(moments.x_mean(), self.b)
        return slope.T

    def _pass(self) -> tuple[float, np.ndarray, np.ndarray]:
        """Return the mean loss, summed over targets, and the gradients of coef and of b.

        That of coef is of the loss alone. The mean loss does not weight the rows, except where some
        are capped.
        """
        loss, dw, db = self._read(self.sample_weight)
        weighted = float(loss.sum())
        self.value = weighted + self.objective.penalty(self.coef)
        if not self.objective.fit_intercept:
            db = np.zeros(len(db))
        if self.counts is None:
            return weighted, dw, db
        return float(self._read(self.counts).loss.sum()), dw, db

    def _read(self, sample_weight: Any) -> TargetGradients:
        """Return loss and gradients about the centre, with these weights of the rows."""
        if self._is_far:
            return self._read_centred(sample_weight)
        coef, intercept = self.weights()
        loss, dw, db = call_loss_gradient(
            self.kernels, self.X, self.y, coef, intercept, sample_weight, self.pass_threads
        )
        return TargetGradients(loss, dw - np.multiply.outer(db, self.centre), db)

    @cached_property
    def _is_far(self) -> bool:
        """Return whether residuals of rows as they are would lose digits that matter."""
        spread = np.sqrt(np.maximum(self.moments.variances(), 0.0))
        known = spread > 0.0
        spreads = np.abs(self.centre[known]) / spread[known]
        return hides_spread(float(spreads.max(initial=0.0)), working_dtype(self.X))

    def _read_centred(self, sample_weight: Any) -> TargetGradients:
        """Return the same from rows less the centre, which is exact, a chunk at a time."""
        coef, b, total = np.ascontiguousarray(self.coef), self.b, 0.0
        sums = [np.zeros_like(b), np.zeros_like(coef), np.zeros_like(b)]
        for Z, y, s in centred_rows(self.kernels, self.X, self.y, sample_weight, self.centre):
            weight = float(len(y) if s is None else s.sum())
            if weight > 0.0:
                found = self.kernels.loss_gradient(Z, y, coef, b, s, self.n_threads)
                sums = [part + weight * mean for part, mean in zip(sums, found, strict=True)]
                total += weight
        return TargetGradients(*(part / total for part in sums))

    def _solve_exactly(self, start: tuple[np.ndarray, np.ndarray]) -> None:
        """Take the weights from an exact solver, and what a stream goes on from.

        From zero weights, the residual of a row of 1e10 has to fall by ten decades before the
        others count, and the loss, in which they are lost, ends the fit before that: among
        300 x 30, R2 of the others was -0.2.
        """
        X, y, s = self.X, self.y, self.sample_weight
        self.triangle = rows_of_fit(rows_on_host(X, y, s, counted_rows(s)), start, self.objective)
        self.is_exact, self.gap = True, 0.0
        objective, fixed = self.objective, start[1]
        if not objective.fit_intercept and fixed.any():
            y = np.asarray(y, np.float64) - fixed
        alpha = objective.l1 + objective.l2
        l1_ratio = objective.l1 / alpha if alpha > 0.0 else 0.0
        problem = Problem(X, y, s, l1_ratio, False, objective.fit_intercept)
        (solution,) = fit_regression(
            self.kernels,
            problem,
            [alpha],
            None,
            solver="auto",
            tol=EXACT_TOL,
            max_iter=EXACT_PASSES,
            n_threads=self.n_threads,
        )
        self.coef = solution.coef
        if objective.fit_intercept:
            self.b = solution.intercept + self.coef @ self.centre
        if not solution.converged and solution.why_not:
            warnings.warn(solution.why_not, UserWarning, stacklevel=2)

    def _bound_gap(self, fall: float) -> None:
        """Bound the gap by how much J falls in its model; an exact fit has none."""
        self.gap = 0.0 if self.value <= self.rounded_loss else fall / LEAST_CURVATURE


class NewtonDescent(_Descent):
    """For L2 or no penalty; parameters as for `_Descent`, and an intercept that may stay."""

    def __init__(
        self,
        data: TrainingData,
        objective: Objective,
        visited: np.ndarray | None,
        start: tuple[np.ndarray, np.ndarray],
    ) -> None:
        super().__init__(data, objective, visited)
        self.last: _Step | None = None
        self._set_centre(start[1])
        if ruled_by_few(self.moments, self.sample_weight, EXACT_RATIO):
            self._solve_exactly(start)
        else:
            self.metric = _metric(self.moments, objective)
            self.coef = self.metric.unwhiten(self.metric.whiten(self._slope()))

    def epoch(self, order: np.ndarray | None) -> float:
        """Take one step; return the mean loss before it, summed over targets."""
        loss, gradient, db = self._pass()
        if self.is_exact:
            return loss
        gradient += self.objective.l2 * self.coef
        if self.last is not None:
            gradient, db = self._settled(gradient, db, self.last)
        white = self.metric.whiten(gradient)
        rho = np.einsum("tk,tk->t", white, white) + db * db
        self._bound_gap(0.5 * float(rho.sum()))
        step, db_step = self.metric.unwhiten(white), db
        if self.last is not None:
            share = _share(rho, self.last.rho)
            step, db_step = step + share[:, None] * self.last.coef, db + share * self.last.intercept
        self.coef, self.b = self.coef - step, self.b - db_step
        self.last = _Step(step, db_step, gradient, db, rho)
        return loss

    def _settled(self, gradient, db, last: _Step) -> tuple[np.ndarray, np.ndarray]:
        """Give the last step its best length; return the gradient there, which is linear in it."""
        change, db_change = last.gradient - gradient, last.db - db
        slope = np.einsum("td,td->t", last.coef, last.gradient) + last.intercept * last.db
        curvature = np.einsum("td,td->t", last.coef, change) + last.intercept * db_change
        length = np.divide(slope, curvature, out=np.ones_like(slope), where=curvature > 0.0)
        more = np.clip(length, LEAST_LENGTH, MOST_LENGTH) - 1.0
        self.coef = self.coef - more[:, None] * last.coef
        self.b = self.b - more * last.intercept
        return gradient - more[:, None] * change, db - more * db_change


class ProximalNewtonDescent(_Descent):
    """For L1, with L2 or without; parameters as for `NewtonDescent`."""

    def __init__(
        self,
        data: TrainingData,
        objective: Objective,
        visited: np.ndarray | None,
        start: tuple[np.ndarray, np.ndarray],
    ) -> None:
        super().__init__(data, objective, visited)
        self._set_centre(start[1])
        if ruled_by_few(self.moments, self.sample_weight, EXACT_RATIO):
            self._solve_exactly(start)
            return
        self.penalty = Penalty(objective.l1, objective.l2)
        H = self.moments.curvature(objective.fit_intercept)
        varies = standard_scale(self.moments, np.diag(H), NOISE_EPS) > 0.0
        self.H = np.where(np.multiply.outer(varies, varies), H, 0.0)
        self.stretch = 1.0  # of H, where that of a sample was too small
        self.coef = self._minimum(self._slope(), np.zeros((self.y.shape[1], len(H))))
        self.best: tuple[float, np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None = None

    def epoch(self, order: np.ndarray | None) -> float:
        """Take one step; return the mean loss before it, summed over targets."""
        loss, gradient, db = self._pass()
        if self.is_exact:
            return loss
        if self.best is not None and self.value > self.best[0] * (1.0 + ROUNDED_RISE):
            self.stretch *= 2.0
            _, self.coef, self.b, gradient, db = self.best
        else:
            self.best = self.value, self.coef, self.b, gradient, db
        product = self.stretch * (self.coef @ self.H)
        following = self._minimum(product - gradient, self.coef)
        move = following - self.coef
        curvature = self.stretch * np.einsum("td,td->", move @ self.H, move)
        rise = self.objective.penalty(following) - self.objective.penalty(self.coef)
        fall = -float(np.vdot(gradient, move)) - 0.5 * float(curvature) - rise
        self._bound_gap(max(fall, 0.0) + 0.5 * float(db @ db))
        self.coef, self.b = following, self.b - db
        return loss

    def _minimum(self, slope: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return the minimum of J's model, whose loss has this slope (t, d) at zero weights."""
        return minima(self.stretch * self.H, slope, self.penalty, start)


def _metric(moments: ColumnMoments, objective: Objective) -> TriangularFactor | Coordinates:
    """Return the metric of J: Cholesky's where that is accurate, else by eigenvectors."""
    centred, l2 = objective.fit_intercept, objective.l2
    H = moments.curvature(centred)
    try:
        factor = cholesky_factor(H, l2, standard_scale(moments, np.diag(H), NOISE_EPS))
        if factor.condition <= GRAM_CONDITION:
            return factor
    except NotTrustworthy:
        pass
    white, scale = whitening(moments, l2, centred, NOISE_EPS)
    return Coordinates(white * scale)


def _share(rho: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Return the share of the last step in a conjugate one; 0 where the gradient has not fallen."""
    falls = (rho < before) & (before > 0.0)
    return np.divide(rho, before, out=np.zeros_like(rho), where=falls)
