"""learning_rate="auto": stochastic descent whose step sizes come from the data.

1. One pass takes the moments of X; they give a metric (`metric.py`). Where each column's own scale
   is enough to converge within an epoch, the metric is diagonal; else, for up to
   `FULL_METRIC_FEATURES` features, it is full and the problem becomes round.
2. Rates. For mini-batches of m rows with mean square norm R^2 and largest curvature L, descent is
   stable below 2 m / (R^2 + (m - 1) L) (Jain et al. 2018, JMLR 18(223), theorem 1). Epoch e takes
   m / (2 (1 + e) R^2 + (m - 1) L): the part that makes noise decays, the other does not.
   Each row's step is implicit, rate / (1 + rate |z|^2): an outlier cannot throw the weights
   (Toulis and Airoldi 2017, Annals of Statistics 45(4)).
3. The weights reported are a mean over the updates, in which later epochs count more
   (polynomial-decay averaging, Shamir and Zhang 2013, ICML): the noise of the steps cancels.
4. The exact gradient at the mean of the epoch before is summed while a chunk is in cache, as an
   SVRG snapshot would be (Johnson and Zhang 2013, NIPS). One proximal step along it takes out
   what bias and noise the mean still has: rows of high leverage, whose implicit steps are short,
   then count in full, and zeros under L1 are exact. In a full metric it is a Newton step.
5. Should an epoch diverge all the same, it is taken back and run again with smaller rates.

The rows of X are moved to the metric's coordinates a chunk at a time, where X is; nothing of the
size of X is ever allocated. Weights and chunks are float64 whatever X's dtype.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..kernels.contract import (
    Kernels,
    Matrix,
    Prox,
    SGDState,
    rows_per_group,
    working_dtype,
)
from .eigen import eigh
from .metric import Metric, Moments, add_moments, diagonal_metric, full_metric
from .rows import sum_of_squares, transformed_rows

AVERAGE_POWER = 3.0
# A direction that explains less of the target's variance than this need not converge.
NEGLIGIBLE_R2 = 1e-4
MAX_RETRIES = 20


@dataclass
class AutomaticMemory:
    """What `partial_fit` keeps between its calls."""

    moments: Moments
    coef: np.ndarray  # (t, d): the last weights, not averaged
    intercept: np.ndarray  # (t,)
    epochs: int = 0
    damping: float = 1.0  # share of the rates that held


class AutomaticDescent:
    """The protocol of `stochastic.Descent` with rates from the data.

    Parameters
    ----------
    kernels : Kernels
    X, y, sample_weight
        As in the kernel contract. The weights' scale does not matter: the loss is their mean.
    coef, intercept : ndarrays of shape (t, d) and (t,)
        Start; left as they are.
    batch_size : int
    alpha, l1_ratio : float
    fit_intercept : bool
    n_threads : int
    memory : AutomaticMemory or None
        Of an earlier descent on other rows of the same problem.

    Attributes
    ----------
    memory : AutomaticMemory
        For the next descent.
    loss_scale : float
        Loss of predicting the mean of y: the unit of a tolerance.
    """

    def __init__(
        self,
        kernels: Kernels,
        X: Matrix,
        y: np.ndarray,
        coef: np.ndarray,
        intercept: np.ndarray,
        *,
        sample_weight: np.ndarray | None,
        batch_size: int,
        alpha: float,
        l1_ratio: float,
        fit_intercept: bool,
        n_threads: int,
        memory: AutomaticMemory | None = None,
    ) -> None:
        self.kernels, self.n_threads = kernels, n_threads
        self.X, self.y, self.sample_weight = X, y, sample_weight
        self.batch_size, self.fit_intercept = batch_size, fit_intercept
        coef, intercept = coef.astype(np.float64), intercept.astype(np.float64)
        moments = add_moments(
            kernels, X, y, sample_weight, n_threads, memory.moments if memory else None
        )
        # Weights count beside each other: of mean 1, they leave the rates what they are.
        self.mean_weight = moments.weight / moments.rows
        self.loss_scale = 0.5 * float(moments.y_variance().sum())
        self.metric = self._choose_metric(moments, alpha * l1_ratio, alpha * (1.0 - l1_ratio))
        self.soft = alpha * l1_ratio * self.metric.transform if alpha * l1_ratio > 0.0 else None
        self.prox = self._penalty()
        self.memory = memory or AutomaticMemory(moments, coef, intercept)
        self.v, self.b = self._inwards(self.memory.coef, self.memory.intercept)
        self.mean_v, self.mean_b = self._inwards(coef, intercept)
        if memory is None and fit_intercept:
            # The rows are centred, so that this is the best intercept whatever the weights.
            self.b = moments.y_origin + moments.y / moments.weight
        self.reported = self.mean_v, self.mean_b
        self.visited = False  # whether mean_v is of these rows
        self.last_loss = np.inf
        self.rates = np.empty(-(-X.shape[0] // batch_size))

    def epoch(self, order: np.ndarray | None) -> float:
        """One visit of the rows; the mean loss, summed over targets.

        In the first epoch it is that of the weights as they moved, then that of the mean
        weights of the epoch before.
        """
        memory, start_v, start_b = self.memory, self.v.copy(), self.b.copy()
        limit = 10.0 * max(self.loss_scale, self.last_loss)
        for _ in range(MAX_RETRIES):
            rate = _rate(self.metric, self.batch_size, self.fit_intercept, memory.epochs)
            self.rates[:] = memory.damping * rate
            loss, state, gradient = self._visit(order)
            if np.isfinite(loss) and loss <= limit:
                break
            memory.damping *= 0.25
            self.v, self.b = start_v.copy(), start_b.copy()
        self.last_loss = loss
        if gradient is not None:
            loss = gradient.loss
            self.reported = gradient.step(self.metric, self.soft)
        self._average(state)
        if gradient is None:
            self.reported = self.mean_v, self.mean_b
        self.visited = True
        memory.epochs += 1
        memory.coef, memory.intercept = self._outwards(self.v, self.b)
        return loss

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """The averaged weights, float64, of X as it was given."""
        return self._outwards(*self.reported)

    @property
    def rate(self) -> float:
        """That of the last epoch, in the metric's coordinates."""
        return float(self.rates[0])

    def lower_rate(self) -> bool:
        """The schedule is its own: nothing to lower."""
        return False

    def _choose_metric(self, moments: Moments, l1: float, l2: float) -> Metric:
        """The diagonal one where it converges within an epoch, or for L1; else the full one."""
        eps = float(np.finfo(working_dtype(self.X)).eps)
        diagonal = diagonal_metric(moments, l2, self.fit_intercept, eps)
        slope = moments.slope(self.fit_intercept)
        if l1 > 0.0 or slope is None:
            return diagonal
        rate = _rate(diagonal, self.batch_size, self.fit_intercept, 1)
        epoch = rate * moments.rows / self.batch_size
        slowest = _slowest_curvature(diagonal, moments, slope, l2, self.fit_intercept)
        if epoch * slowest >= 3.0:
            return diagonal
        return full_metric(moments, l2, self.fit_intercept, eps)

    def _penalty(self) -> Prox | None:
        """L2 in the metric's coordinates; L1 too, where they are the columns', scaled."""
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
            average_after=n_updates // 2 if self.memory.epochs == 0 else 0,
            coef_sum=np.zeros_like(self.v),
            intercept_sum=np.zeros_like(self.b),
        )
        gradient = None
        if self.visited:
            gradient = _Gradient(
                self.kernels, self.n_threads, self.mean_v, self.mean_b, self.fit_intercept
            )
        total, start = 0.0, 0
        for Z, y, s in self._chunks(order):
            stop = start + len(y)
            rates = self.rates[start // batch : -(-stop // batch)]
            if gradient is not None:
                gradient.add(Z, y, s)
            total += self._updates(Z, y, s, rates, state)
            if not np.isfinite(total):
                break
            start = stop
        return total / n, state, gradient

    def _chunks(self, order: np.ndarray | None):
        """The rows in the metric's coordinates, their targets and weights, a chunk at a time.

        Of whole groups of rows each, so that results do not depend on the chunks' size.
        """
        return transformed_rows(
            self.kernels,
            self.X,
            self.y,
            self.sample_weight,
            order,
            rows_per_group(self.batch_size),
            self.metric.shift,
            self.metric.transform,
            self.mean_weight,
        )

    def _updates(self, Z, y, s, rates: np.ndarray, state: SGDState) -> float:
        return self.kernels.sgd_epoch(
            Z,
            y,
            self.v,
            self.b,
            None,
            rates,
            self.batch_size,
            s,
            0.0,
            0.0,
            self.fit_intercept,
            self.prox,
            True,
            state,
            self.n_threads,
        )

    def _average(self, state: SGDState) -> None:
        """Polynomial decay, an epoch at a time; epoch 0 takes the place of the start."""
        assert state.coef_sum is not None
        assert state.intercept_sum is not None
        e = self.memory.epochs
        share = (AVERAGE_POWER + 1.0) / (e + 1.0 + AVERAGE_POWER)
        self.mean_v += share * (state.coef_sum / state.n_summed - self.mean_v)
        self.mean_b += share * (state.intercept_sum / state.n_summed - self.mean_b)


class _Gradient:
    """Loss and gradient at weights that stay, summed a chunk at a time."""

    def __init__(
        self, kernels: Kernels, n_threads: int, v: np.ndarray, b: np.ndarray, fit_intercept: bool
    ) -> None:
        self.kernels, self.n_threads = kernels, n_threads
        self.v, self.b, self.fit_intercept = v.copy(), b.copy(), fit_intercept
        self.dv, self.db = np.zeros_like(v), np.zeros_like(b)
        self.weight = self.rows = 0.0
        self.square = 0.0

    def add(self, Z: np.ndarray, y: np.ndarray, s: np.ndarray | None) -> None:
        weight = float(len(y) if s is None else s.sum())
        self.rows += len(y)
        if s is not None:
            # The loss that is reported does not weigh the rows.
            self.square += sum_of_squares(self.kernels, Z, y, self.v, self.b, self.n_threads)
            if weight == 0.0:
                return
        loss, dv, db = self.kernels.loss_gradient(Z, y, self.v, self.b, s, self.n_threads)
        if s is None:
            self.square += 2.0 * weight * float(loss.sum())
        self.weight += weight
        self.dv += weight * dv
        self.db += weight * db

    @property
    def loss(self) -> float:
        return 0.5 * self.square / self.rows

    def step(self, metric: Metric, soft: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """The weights after a proximal step of one over the largest curvature along it."""
        curvature = max(metric.curvature_bound, float(self.fit_intercept))
        v = self.v - (self.dv / self.weight + metric.shrink * self.v) / curvature
        if soft is not None:
            v = np.sign(v) * np.maximum(np.abs(v) - soft / curvature, 0.0)
        return v, self.b - self.db / self.weight / curvature if self.fit_intercept else self.b


def _rate(metric: Metric, batch_size: int, fit_intercept: bool, epoch: int) -> float:
    """Rate of an epoch: at most half of the largest stable one (Jain et al. 2018)."""
    square_norm = metric.trace + fit_intercept or 1.0  # or: where all is zero, so is each step
    largest = max(metric.largest, float(fit_intercept))
    return batch_size / (2.0 * (1.0 + epoch) * square_norm + (batch_size - 1) * largest)


def _slowest_curvature(
    diagonal: Metric, moments: Moments, slope: np.ndarray, l2: float, centred: bool
) -> float:
    """Smallest curvature, in the diagonal metric, among the directions that matter for R2."""
    t = diagonal.transform
    H = t[:, None] * moments.curvature(centred) * t + np.diag(diagonal.shrink)
    values, vectors = eigh(H)
    keep = values > 1e-10 * values[-1]
    gain = (vectors[:, keep].T @ (t[:, None] * slope)) ** 2 / values[keep, None]
    variance = np.maximum(moments.y_variance(), np.finfo(np.float64).tiny)
    matters = (gain / variance > NEGLIGIBLE_R2).any(axis=1)
    return float(values[keep][matters].min()) if matters.any() else 1.0
