"""Stochastic gradient descent with an optimizer and the rates of a schedule that the user chose.

An epoch costs one pass over X, in calls of `sgd_epoch` that each last a fraction of a second, so
that Ctrl-C is handled between them. A call also takes 8 bytes per update, for the rates. Epochs of
small data are made several per call, of `sgd_epochs`: an epoch of 1,000 rows of one feature takes
2 microseconds, and what surrounds a call takes 20.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ..kernels.contract import (
    CSR,
    Epoch,
    Epochs,
    Matrix,
    OptimizerState,
    SGDState,
    rows_per_group,
    working_dtype,
)
from ..optimizers import Course, Optimizer, Schedule
from .interrupt import call_long
from .rows import row_slice
from .stochastic import Visits
from .training import Objective, TrainingData
from .weights import rows_that_count

# Limits on one call of a kernel: updates (whose rates take 8 bytes each), and numbers of X.
CALL_UPDATES = 2**16
CALL_NUMBERS = 2**23
# The same of a call of several epochs, so that their orders and weights stay in cache.
EPOCHS_VISITS = 2**15
EPOCHS_NUMBERS = 2**20


@dataclass(frozen=True)
class Steps:
    """How a plain descent moves.

    Attributes
    ----------
    optimizer : Optimizer
    schedule : Schedule
    course : Course
        What the schedule goes by; `PlainDescent.epoch` fills in the updates of an epoch.
    batch_size : int
    clip_norm : float or None
        Largest norm of the gradient of a mini-batch.
    average : int
        0, or the number of the first update whose weights enter the average, which is then what
        the descent reports.
    """

    optimizer: Optimizer
    schedule: Schedule
    course: Course
    batch_size: int
    clip_norm: float | None = None
    average: int = 0


class PlainMemory(NamedTuple):
    """What the weights alone do not tell of a descent with averaging or an optimizer."""

    coef: np.ndarray  # (t, d)
    intercept: np.ndarray  # (t,)
    # Sums of coef and intercept after each averaged update, float64, and how many there were.
    sums: tuple[np.ndarray, np.ndarray, int] | None = None
    optimizer: OptimizerState | None = None


class PlainDescent:
    """A `stochastic.Descent` whose rates follow a `Schedule`.

    Parameters
    ----------
    data : TrainingData
    objective : Objective
    steps : Steps
    coef, intercept : ndarray of shape (t, d) and (t,)
        Where to start, left unchanged. A `memory` with an average replaces them.
    updates_done : int
        Updates before this descent, from which the schedule counts on.
    memory : PlainMemory, optional
        What an earlier descent left, to go on with its average and the moments of its optimizer.
    """

    loss_scale = 1.0
    shuffles = True
    gap = math.inf
    value = None

    def __init__(
        self,
        data: TrainingData,
        objective: Objective,
        steps: Steps,
        coef: np.ndarray,
        intercept: np.ndarray,
        *,
        updates_done: int = 0,
        memory: PlainMemory | None = None,
    ):
        self.data, self.objective, self.steps = data, objective, steps
        self.course, self.rate, self.updates_done = steps.course, 0.0, updates_done
        if steps.average and memory is not None:
            coef, intercept = memory.coef, memory.intercept
        self._n_with_loss: int | None = None
        # A kernel writes to these. They are copies, so that an interrupted fit leaves the caller's
        # arrays as they were.
        self.coef = np.array(coef, dtype=working_dtype(data.X), order="C")
        self.intercept = np.array(intercept, dtype=np.float64)
        # The L1 account starts anew with each descent, as it does in scikit-learn.
        self.state = SGDState(l1_paid=np.zeros_like(self.coef) if objective.l1 > 0 else None)
        if steps.optimizer.rule != "sgd" or steps.clip_norm is not None:
            t, d = self.coef.shape
            start = steps.optimizer.state(t, d, steps.clip_norm)
            self.state.optimizer = _moments_of(memory, start)
        if steps.average:
            self._start_average(memory)

    def _start_average(self, memory: PlainMemory | None) -> None:
        state, sums = self.state, None if memory is None else memory.sums
        state.average_after = max(0, self.steps.average - 1 - self.updates_done)
        coef_sum, intercept_sum, state.n_summed = sums or (
            np.zeros(self.coef.shape),
            np.zeros(self.intercept.shape),
            0,
        )
        state.coef_sum, state.intercept_sum = coef_sum.copy(), intercept_sum.copy()

    def epoch(self, order: np.ndarray | None) -> float:
        """Visit these rows (None: all); return the mean of r^2/2, summed over targets."""
        batch_size = self.steps.batch_size
        total = 0.0
        n_visits = len(self.data.y) if order is None else len(order)
        rows = self.data.X, self.data.y, self.data.sample_weight
        dense_updates = self.state.optimizer is not None
        for chunk in chunks(*rows, order, batch_size, dense_updates=dense_updates):
            rates = self._next_rates(-(-chunk.n_rows // batch_size), n_visits)
            total += self._update(chunk, rates)
            if not math.isfinite(total):
                return math.inf
        return math.inf if self._squares_overflowed else total / self._rows_of_loss(order)

    def epochs_at_once(self, visits: Visits) -> int:
        """Return how many epochs `epochs` makes in a call, at most."""
        if self.steps.average:  # the weights to report are not those of the kernels
            return 1
        n_visits, (t, d) = visits.n_visits, self.coef.shape
        numbers = n_visits * _numbers_per_row(self.data.X) * t
        if self.state.optimizer is not None:
            numbers += d * t * -(-n_visits // self.steps.batch_size)
        return min(EPOCHS_VISITS // max(n_visits, d * t), EPOCHS_NUMBERS // max(numbers, 1))

    def epochs(self, visits: Visits, count: int) -> Epochs:
        """Make so many epochs, at most `epochs_at_once`; `losses` are what `epoch` returns."""
        data, n_visits = self.data, visits.n_visits
        n_updates = -(-n_visits // self.steps.batch_size)
        rates = self._next_rates(count * n_updates, n_visits)
        order = visits.orders(count)
        epoch = self._options(order, rates.reshape(count, n_updates))
        arrays = data.X, data.y, self.coef, self.intercept, data.sample_weight
        done = data.kernels.sgd_epochs(*arrays, epoch, self.state, data.n_threads)
        losses = done.losses / self._rows_of_loss(None if order is None else order[0])
        if self._squares_overflowed:
            losses[-1] = math.inf
        return done._replace(losses=losses)

    def _rows_of_loss(self, order: np.ndarray | None) -> int:
        """Return how many rows the mean of the losses is over; all epochs visit the same rows."""
        if self._n_with_loss is None:
            data = self.data
            self._n_with_loss = rows_that_count(data.sample_weight, order, len(data.y))
        return self._n_with_loss

    @property
    def _squares_overflowed(self) -> bool:
        """Whether a moment of squared gradients is no longer finite, as it then stays.

        Some backends divide by its root, so that the steps are 0 and the loss stays finite.
        """
        o = self.state.optimizer
        moments = () if o is None else (o.coef_second, o.intercept_second)
        return not all(moment is None or np.isfinite(moment).all() for moment in moments)

    def _next_rates(self, n_updates: int, n_visits: int) -> np.ndarray:
        """Return the rates of so many updates, in epochs of `n_visits` rows, and count them."""
        course = self.course._replace(updates_per_epoch=-(-n_visits // self.steps.batch_size))
        t = np.arange(self.updates_done + 1.0, self.updates_done + 1.0 + n_updates)
        rates = np.ascontiguousarray(self.steps.schedule.rates(t, course), dtype=np.float64)
        self.updates_done += n_updates
        self.rate = float(rates[-1])
        return rates

    def _options(self, order: np.ndarray | None, rates: np.ndarray) -> Epoch:
        objective = self.objective
        return Epoch(
            order,
            rates,
            self.steps.batch_size,
            objective.alpha,
            objective.l1_ratio,
            objective.fit_intercept,
        )

    def _update(self, chunk: Chunk, rates: np.ndarray) -> float:
        return call_long(  # a single batch may be most of X
            chunk.n_rows * _numbers_per_row(self.data.X),
            self.data.kernels.sgd_epoch,
            2 * len(self.coef),
            chunk.X,
            chunk.y,
            self.coef,
            self.intercept,
            chunk.sample_weight,
            self._options(chunk.order, rates),
            self.state,
            self.data.n_threads,
        )

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the average of the weights where there is one, else the last weights."""
        state = self.state
        if not state.n_summed:
            return self.coef, self.intercept
        assert state.coef_sum is not None
        assert state.intercept_sum is not None
        coef = (state.coef_sum / state.n_summed).astype(self.coef.dtype)
        return coef, state.intercept_sum / state.n_summed

    def lower_rate(self) -> bool:
        """Take the schedule's next lower eta0; return False where it has none."""
        eta0 = self.steps.schedule.lowered(self.course.eta0)
        if eta0 is None:
            return False
        self.course = self.course._replace(eta0=eta0)
        return True

    @property
    def memory(self) -> PlainMemory | None:
        state, sums = self.state, None
        if state.coef_sum is not None and state.intercept_sum is not None:
            sums = state.coef_sum, state.intercept_sum, state.n_summed
        if sums is None and state.optimizer is None:
            return None
        return PlainMemory(self.coef, self.intercept, sums, state.optimizer)


def _moments_of(memory: PlainMemory | None, start: OptimizerState) -> OptimizerState:
    """Return the state that `memory` has of the same rule, with the parameters of `start`."""
    former = memory.optimizer if memory is not None else None
    if former is None or former.rule != start.rule:
        return start
    return replace(
        former, beta1=start.beta1, beta2=start.beta2, eps=start.eps, max_norm=start.max_norm
    )


class Chunk(NamedTuple):
    """The share of an epoch that one call of a kernel gets."""

    X: Matrix
    y: np.ndarray
    sample_weight: np.ndarray | None
    order: np.ndarray | None
    n_rows: int  # rows visited


def chunks(
    X: Matrix,
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    order: np.ndarray | None,
    batch_size: int,
    *,
    dense_updates: bool = False,
) -> Iterator[Chunk]:
    """Cut an epoch into calls of bounded length, at borders of groups of rows; nothing is copied.

    `dense_updates` says that an update passes over all features, whatever its rows hold.
    """
    n, d = X.shape
    n_visits = n if order is None else len(order)
    width = _numbers_per_row(X)
    if dense_updates:
        width += d // batch_size
    rows = min(CALL_UPDATES * batch_size, CALL_NUMBERS // (width * y.shape[1]))
    group = rows_per_group(batch_size)
    rows = max(1, rows // group) * group
    for start in range(0, n_visits, rows):
        stop = min(start + rows, n_visits)
        if order is not None:
            yield Chunk(X, y, sample_weight, order[start:stop], stop - start)
        else:
            s = None if sample_weight is None else sample_weight[start:stop]
            yield Chunk(row_slice(X, start, stop), y[start:stop], s, None, stop - start)


def _numbers_per_row(X: Matrix) -> int:
    return max(1, len(X.data) // X.shape[0]) if isinstance(X, CSR) else X.shape[1]
