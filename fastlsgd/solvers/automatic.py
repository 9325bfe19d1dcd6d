"""learning_rate="auto": stochastic descent whose step sizes come from the data.

1. One pass takes the moments of X, from which a metric follows (`metric.py`). Where each column's
   own scale is enough to converge within an epoch, the metric is diagonal; else, for up to
   `FULL_METRIC_FEATURES` features, it is full and the condition number becomes 1.
2. Rates. For mini-batches of m rows with mean square norm R^2 and largest curvature L, descent is
   stable below 2 m / (R^2 + (m - 1) L) (Jain et al. 2018, JMLR 18(223), theorem 1). Epoch e takes
   m / (2 (1 + e) R^2 + (m - 1) L), in which only the part that makes noise decays. Each row's step
   is implicit, rate / (1 + rate |z|^2), so that no outlier can throw the weights far off (Toulis
   and Airoldi 2017, Annals of Statistics 45(4)).
3. The weights reported are a mean over the updates, in which later epochs count more
   (polynomial-decay averaging, Shamir and Zhang 2013, ICML), so that the noise of steps cancels.
4. The exact gradient at the mean of the previous epoch is summed while a chunk is in cache, like an
   SVRG snapshot (Johnson and Zhang 2013, NIPS). One proximal step along it removes the bias and
   noise that the mean still has: rows of high leverage, whose implicit steps are short, then count
   in full, and zeros under L1 are exact. In a full metric it is a Newton step.
5. If an epoch diverges all the same, it is undone and repeated with smaller rates.
6. Where a few rows or weights are so large that float64 moments hold nothing else, the full metric
   comes from the rows themselves (`recursive.py`), and descent starts at their solution, which
   comes with it. From zero weights, the residual of such a row has to fall by ten decades before
   the others count, and the loss, in which they are lost, ends the fit before that: with a row of
   1e10 among 300 x 30, R2 of the others was -0.2. With L1, where columns are only scaled, the
   weight of such a row is capped at that of so many ordinary rows.

`partial_fit` has a method of its own, in `streaming.py`.

The rows of X are moved to the metric's coordinates a chunk at a time, where X is. Nothing of the
size of X is allocated. Weights and chunks are float64 whatever X's dtype.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..kernels.contract import (
    GROUP_ROWS,
    Epoch,
    Kernels,
    Prox,
    SGDState,
    rows_per_group,
    working_dtype,
)
from .batches import Batch
from .eigen import eigh
from .factors import EPS
from .metric import ColumnMoments, Metric, diagonal_metric, full_metric, take_moments
from .ordinary_rows import capped_shares, ruled_by_few
from .recursive import (
    Triangle,
    empty_triangle,
    recursive_memory,
    triangle_of_moments,
    with_rows,
)
from .rows import counted_rows, row_slice, rows_on_host, sum_of_squares, transformed_rows
from .training import Objective, TrainingData
from .weights import normalised_weights

AVERAGE_POWER = 3.0
# A direction that explains less of the target's variance than this need not converge.
NEGLIGIBLE_R2 = 1e-4
MAX_RETRIES = 20
# A mini-batch of more numbers than this is read in parts.
BATCH_NUMBERS = 2**20
# If a column's root mean square is this many times its spread, the metric is a triangle of the
# rows. From moments, a row of 1e3 to 1e4 among 400 to 1,000 had R2 of the others fall to -2.
TRIANGLE_RATIO = 30.0
# The rows of an X of at most this many numbers are transformed once, and not in each epoch.
KEPT_NUMBERS = 2**16


@dataclass(frozen=True)
class AutomaticMemory:
    """What `partial_fit` continues from: what a fit knows of its rows."""

    moments: ColumnMoments
    weight_unit: float  # a power of two, by which the weights in the moments were divided
    rows: Triangle | None = None  # where a few rows dominate the moments

    def triangle(self, coef: np.ndarray, intercept: np.ndarray, objective: Objective) -> Triangle:
        """Return the triangle of rows with these moments, of which these weights are the best."""
        if self.rows is not None:
            return self.rows
        return triangle_of_moments(self.moments, coef, intercept, objective)


class AutomaticDescent:
    """A `stochastic.Descent` whose rates come from the data.

    Parameters
    ----------
    data : TrainingData
        The scale of the sample weights does not matter. Rows of zero weight must not be visited.
    objective : Objective
    batch_size : int
        A number beyond that of the rows means all of them.
    coef, intercept : ndarrays of shape (t, d) and (t,)
        Where to start, left unchanged.
    rows : ndarray of int64, optional
        Numbers of the rows that will be visited. Default: all.

    Attributes
    ----------
    memory : AutomaticMemory
        For a stream of further rows.
    loss_scale : float
        Loss of predicting the mean of y, which is the unit of a tolerance.
    """

    shuffles = True
    gap = np.inf
    weighted_loss = None

    def __init__(
        self,
        data: TrainingData,
        objective: Objective,
        batch_size: int,
        coef: np.ndarray,
        intercept: np.ndarray,
        rows: np.ndarray | None = None,
    ) -> None:
        kernels, X, y, sample_weight, n_threads = data
        self.kernels, self.n_threads = kernels, n_threads
        self.X, self.y, self.objective = X, y, objective
        self.fit_intercept = fit_intercept = objective.fit_intercept
        self.sample_weight, exponent = normalised_weights(sample_weight, X)
        self.weight_unit = 2.0**exponent
        self.capped = False
        self.triangle: Triangle | None = None
        self.rows, self.start = rows, (coef.astype(np.float64), intercept.astype(np.float64))
        self.moments = take_moments(kernels, X, y, self.sample_weight, n_threads)
        self.batch_size = min(batch_size, self.moments.rows)
        self.metric = self._choose_metric()
        moments, l1 = self.moments, self.objective.l1
        # Sample weights count relative to each other: with mean 1, they leave the rates unchanged.
        self.mean_weight = moments.weight / moments.rows
        self.loss_scale = 0.5 * float(moments.y_variance().sum())
        self.soft = l1 * self.metric.transform if l1 > 0.0 else None
        self.prox = self._penalty()
        self.v, self.b = self._inwards(*self.start)
        self.mean_v, self.mean_b = self.v.copy(), self.b.copy()
        if fit_intercept and self.triangle is None:
            # Since the rows are centred, this is the best intercept whatever the weights.
            self.b = moments.y_origin + moments.y / moments.weight
        self.reported = self.mean_v, self.mean_b
        self.epochs, self.damping = 0, 1.0  # damping multiplies rates that did not hold
        self.kept: tuple | None = None  # the rows in the metric's coordinates, if X is small
        self.visited = False  # whether mean_v comes from these rows
        self.last_loss = np.inf
        self.last_rate = 0.0

    def epoch(self, order: np.ndarray | None) -> float:
        """Visit the rows; return the mean loss, summed over targets.

        In the first epoch it is the loss of the weights as they moved, later that of the mean
        weights of the previous epoch.
        """
        start_v, start_b = self.v.copy(), self.b.copy()
        # Implicit steps cannot diverge. Where rows are capped, their loss may be large, although
        # they do not count for that much.
        limit = np.inf if self.capped else 10.0 * max(self.loss_scale, self.last_loss)
        for _ in range(MAX_RETRIES):
            rate = _rate(self.metric, self.batch_size, self.fit_intercept, self.epochs)
            self.last_rate = self.damping * rate
            loss, state, gradient = self._visit(order)
            if np.isfinite(loss) and loss <= limit:
                break
            self.damping *= 0.25
            self.v, self.b = start_v.copy(), start_b.copy()
        self.last_loss = loss
        if gradient is not None:
            loss = gradient.loss
            self.reported = gradient.step(self.metric, self.soft)
        self._average(state)
        if gradient is None:
            self.reported = self.mean_v, self.mean_b
        self.visited = True
        self.epochs += 1
        return loss

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the averaged weights for X as it was given, in float64."""
        return self._outwards(*self.reported)

    @property
    def rate(self) -> float:
        """The rate of the last epoch, in the metric's coordinates."""
        return self.last_rate

    @property
    def memory(self) -> AutomaticMemory:
        return AutomaticMemory(self.moments, self.weight_unit, self.triangle)

    def lower_rate(self) -> bool:
        """Return False: the schedule belongs to the method, and is not lowered from outside."""
        return False

    def _choose_metric(self) -> Metric:
        """Return the diagonal metric for L1 or if it converges in an epoch, else the full one."""
        moments, objective, centred = self.moments, self.objective, self.fit_intercept
        l2 = objective.l2
        # Chunks are float64 less the mean of X, and full moments are about an origin amid the rows.
        eps = 0.25 * EPS if moments.is_full else float(np.finfo(working_dtype(self.X)).eps)
        if moments.is_full and objective.l1 == 0.0:
            if ruled_by_few(moments, self.sample_weight, TRIANGLE_RATIO):
                return self._metric_of_rows()
        elif ruled_by_few(moments, self.sample_weight):
            self._cap_rows()
            moments = self.moments
        diagonal = diagonal_metric(moments, l2, centred, eps)
        slope = moments.slope(centred)
        if objective.l1 > 0.0 or slope is None:
            return diagonal
        rate = _rate(diagonal, self.batch_size, centred, 1)
        epoch = rate * moments.rows / self.batch_size
        slowest = _slowest_curvature(diagonal, moments, slope, centred)
        if epoch * slowest >= 3.0:
            return diagonal
        return full_metric(moments, l2, centred, eps)

    def _metric_of_rows(self) -> Metric:
        """Return the full metric from the rows, since a few of them dominate the moments.

        Their solution, which comes with it, replaces the start. So held-out rows are left out.
        """
        X, y, s = self.X, self.y, self.sample_weight
        triangle = empty_triangle(X.shape[1], y.shape[1])
        for block in rows_on_host(X, y, s, counted_rows(s, self.rows)):
            triangle = with_rows(triangle, *block)
        self.triangle = triangle
        solution = recursive_memory(*self.start, self.objective, triangle).solution
        assert solution is not None
        self.start = solution.coef, solution.intercept
        return solution.metric

    def _cap_rows(self) -> None:
        """Cap the weight of large rows at that of so many ordinary rows."""
        X, y, s = self.X, self.y, self.sample_weight
        share = capped_shares(X, self.moments)
        self.sample_weight = share if s is None else share * np.asarray(s, dtype=np.float64)
        self.capped = True
        self.moments = take_moments(self.kernels, X, y, self.sample_weight, self.n_threads)
        self.moments.refuse_extreme_squares()

    def _penalty(self) -> Prox | None:
        """Return L2 in the metric's coordinates, and L1 where these are scaled columns."""
        shrink = self.metric.shrink
        if self.soft is None and not shrink.any():
            return None
        return Prox(np.zeros_like(shrink) if self.soft is None else self.soft, shrink)

    def _inwards(self, coef: np.ndarray, intercept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        v = np.ascontiguousarray(self.metric.to_weights(coef))
        return v, intercept + self.metric.to_coef(v) @ self.metric.shift

    def _outwards(self, v: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        coef = self.metric.to_coef(v)
        return coef, b - coef @ self.metric.shift

    def _visit(self, order: np.ndarray | None) -> tuple[float, SGDState, _Gradient | None]:
        n, batch = self.X.shape[0] if order is None else len(order), self.batch_size
        n_updates = -(-n // batch)
        state = SGDState(
            average_after=n_updates // 2 if self.epochs == 0 else 0,
            coef_sum=np.zeros_like(self.v),
            intercept_sum=np.zeros_like(self.b),
        )
        gradient = None
        if self.visited:
            gradient = _Gradient(
                self.kernels, self.n_threads, self.mean_v, self.mean_b, self.fit_intercept
            )
            gradient.capped = self.capped
        group = rows_per_group(batch)
        width = max(self.X.shape[1], self.metric.transform.shape[0])
        if group > GROUP_ROWS and group * width > BATCH_NUMBERS:
            return self._visit_by_parts(order, n, state, gradient), state, gradient
        if type(self.X) is np.ndarray and self.X.size <= KEPT_NUMBERS and n == len(self.X):
            return self._visit_kept(order, state, gradient) / n, state, gradient
        total = 0.0
        for Z, y, s in self._chunks(order, group):
            if gradient is not None:
                gradient.add(Z, y, s)
            total += self._updates(Z, y, s, state)
            if not np.isfinite(total):
                break
        return total / n, state, gradient

    def _visit_kept(
        self, order: np.ndarray | None, state: SGDState, gradient: _Gradient | None
    ) -> float:
        """Visit all rows of a small X, which are transformed once and kept; return the sum."""
        if self.kept is None:
            n = self.X.shape[0]
            (self.kept,) = self._transformed(self.X, self.y, self.sample_weight, None, n)
        Z, y, s = self.kept
        if gradient is not None:
            gradient.add(Z, y, s)
        return self._updates(Z, y, s, state, order)

    def _visit_by_parts(self, order, n: int, state: SGDState, gradient: _Gradient | None) -> float:
        """Visit the rows where a mini-batch would take much memory, by sums over its parts."""
        total, X, y, s = 0.0, self.X, self.y, self.sample_weight
        for start in range(0, n, self.batch_size):
            stop = min(start + self.batch_size, n)
            if order is None:
                weights = None if s is None else s[start:stop]
                rows = row_slice(X, start, stop), y[start:stop], weights, None
            else:
                rows = X, y, s, order[start:stop]
            batch = Batch(self.v, self.b, self.last_rate / (stop - start), self.fit_intercept)
            for Z, y_part, s_part in self._transformed(*rows, GROUP_ROWS):
                if gradient is not None:
                    gradient.add(Z, y_part, s_part)
                total += batch.add(self.kernels, Z, y_part, s_part, self.n_threads)
            batch.step(self.v, self.b, self.last_rate, self.prox, state)
            if not np.isfinite(total):
                break
        return total / n

    def _chunks(self, order: np.ndarray | None, group: int):
        """Yield rows in the metric's coordinates, with targets and weights, a chunk at a time.

        A chunk consists of whole groups of rows, so that results do not depend on its size.
        """
        return self._transformed(self.X, self.y, self.sample_weight, order, group)

    def _transformed(self, X, y, s, order, multiple: int):
        metric = self.metric
        return transformed_rows(
            self.kernels,
            (X, y, s),
            order,
            multiple,
            metric.shift,
            metric.transform,
            self.mean_weight,
        )

    def _updates(self, Z, y, s, state: SGDState, order: np.ndarray | None = None) -> float:
        rates = np.full(-(-len(y) // self.batch_size), self.last_rate)
        epoch = Epoch(
            order,
            rates,
            self.batch_size,
            fit_intercept=self.fit_intercept,
            prox=self.prox,
            implicit=True,
        )
        return self.kernels.sgd_epoch(Z, y, self.v, self.b, s, epoch, state, self.n_threads)

    def _average(self, state: SGDState) -> None:
        """Average with polynomial decay, an epoch at a time; epoch 0 replaces the start."""
        assert state.coef_sum is not None
        assert state.intercept_sum is not None
        e = self.epochs
        share = (AVERAGE_POWER + 1.0) / (e + 1.0 + AVERAGE_POWER)
        self.mean_v += share * (state.coef_sum / state.n_summed - self.mean_v)
        self.mean_b += share * (state.intercept_sum / state.n_summed - self.mean_b)


class _Gradient:
    """Loss and gradient at fixed weights, summed a chunk at a time."""

    def __init__(
        self, kernels: Kernels, n_threads: int, v: np.ndarray, b: np.ndarray, fit_intercept: bool
    ) -> None:
        self.kernels, self.n_threads = kernels, n_threads
        self.v, self.b, self.fit_intercept = v.copy(), b.copy(), fit_intercept
        self.dv, self.db = np.zeros_like(v), np.zeros_like(b)
        self.weight = self.rows = 0.0
        self.square = 0.0
        self.capped = False  # whether the reported loss weights the rows

    def add(self, Z: np.ndarray, y: np.ndarray, s: np.ndarray | None) -> None:
        weight = float(len(y) if s is None else s.sum())
        self.rows += len(y)
        if s is not None and not self.capped:
            # The reported loss does not weight the rows.
            self.square += sum_of_squares(self.kernels, Z, y, self.v, self.b, self.n_threads)
        if weight == 0.0:
            return
        loss, dv, db = self.kernels.loss_gradient(Z, y, self.v, self.b, s, self.n_threads)
        if s is None or self.capped:
            self.square += 2.0 * weight * float(loss.sum())
        self.weight += weight
        self.dv += weight * dv
        self.db += weight * db

    @property
    def loss(self) -> float:
        return 0.5 * self.square / self.rows

    def step(self, metric: Metric, soft: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the weights after a proximal step, of length 1 / (largest curvature)."""
        curvature = max(metric.curvature_bound, float(self.fit_intercept))
        v = self.v - (self.dv / self.weight + metric.shrink * self.v) / curvature
        if soft is not None:
            v = np.sign(v) * np.maximum(np.abs(v) - soft / curvature, 0.0)
        return v, self.b - self.db / self.weight / curvature if self.fit_intercept else self.b


def _rate(metric: Metric, batch_size: int, fit_intercept: bool, epoch: int) -> float:
    """Return the rate of an epoch, at most half the largest stable one (Jain et al. 2018)."""
    square_norm = metric.trace + fit_intercept or 1.0  # if all is zero, any rate will do
    largest = max(metric.largest, float(fit_intercept))
    return batch_size / (2.0 * (1.0 + epoch) * square_norm + (batch_size - 1) * largest)


def _slowest_curvature(
    diagonal: Metric, moments: ColumnMoments, slope: np.ndarray, centred: bool
) -> float:
    """Return the smallest curvature in the diagonal metric of directions that matter for R2."""
    t = diagonal.transform
    H = t[:, None] * moments.curvature(centred) * t + np.diag(diagonal.shrink)
    values, vectors = eigh(H)
    keep = values > 1e-10 * values[-1]
    gain = (vectors[:, keep].T @ (t[:, None] * slope)) ** 2 / values[keep, None]
    variance = np.maximum(moments.y_variance(), np.finfo(np.float64).tiny)
    matters = (gain / variance > NEGLIGIBLE_R2).any(axis=1)
    return float(values[keep][matters].min()) if matters.any() else 1.0
