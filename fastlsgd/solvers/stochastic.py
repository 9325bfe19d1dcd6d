"""The loop over epochs that all stochastic fits share, and its stopping rules.

`fit_stochastic` runs epochs of a `Descent` until the loss stops falling. Descents are
`PlainDescent` (rates that the user chose), those of `automatic_choice.py` and `StreamingDescent`
(rates from the data), and `TargetByTarget` (one of these per target).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast

import numpy as np

from ..kernels.contract import Epochs
from .divergence import Diverged
from .rows import counted_rows

# A fit ends where the objective cannot fall by this share of the tolerance any more.
GAP_SHARE = 0.1

# Of several epochs, a fall of the objective by this share is rounding.
ROUNDED_FALL = 1e-12

# A fit that ends with this many times the loss of predicting zero has diverged, not converged.
RUNAWAY = 1e3


class Descent(Protocol):
    """What `fit_stochastic` needs to know of a descent.

    Attributes
    ----------
    loss_scale : float
        Unit in which `tol` is measured; 1.0 makes it absolute.
    shuffles : bool
        Whether the order in which rows are visited makes a difference.
    gap : float
        How much the objective can still fall at most; infinite where that is not known.
    rate : float
        Learning rate of the last update.
    value : float or None
        J at the weights whose loss the last epoch returned, with the sample weights and the
        penalty, summed over targets, by which the fit is then judged. None: by what `epoch`
        returned, and the penalty at the weights to report.
    memory : object
        What a later descent needs in order to continue this one (`partial_fit`).
    """

    loss_scale: float
    shuffles: bool

    @property
    def gap(self) -> float: ...

    @property
    def rate(self) -> float: ...

    @property
    def value(self) -> float | None: ...

    @property
    def memory(self) -> object: ...

    def epoch(self, order: np.ndarray | None) -> float:
        """Visit these rows (None: all); return the mean of r^2/2, summed over targets."""

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the weights to report at this moment: coef (t, d) and intercept (t,)."""

    def lower_rate(self) -> bool:
        """Take a smaller rate if the schedule is adaptive; return False where it cannot."""


class DescentOfSeveral(Protocol):
    """What a `Descent` may also have: several epochs in one call of a kernel."""

    def epochs_at_once(self, visits: Visits) -> int:
        """Return how many epochs `epochs` makes in a call, at most."""

    def epochs(self, visits: Visits, count: int) -> Epochs:
        """Make so many epochs, at most `epochs_at_once`; `losses` are what `epoch` returns."""


@dataclass(frozen=True)
class Visits:
    """Which rows an epoch visits, and in which order."""

    n_rows: int  # of X
    rows: np.ndarray | None = None  # numbers of the rows to visit; None: all
    random_state: np.random.RandomState | None = None  # shuffles the rows; None: no shuffling
    # A backend's, which shuffles as a RandomState does; None: there is none.
    permute: Callable[[np.random.BitGenerator, np.ndarray], None] | None = None

    @property
    def n_visits(self) -> int:
        return self.n_rows if self.rows is None else len(self.rows)

    def order(self) -> np.ndarray | None:
        """Return the order of the next epoch; None stands for all rows as they are stored."""
        if self.random_state is None:
            return self.rows
        orders = self.orders(1)
        return None if orders is None else orders[0]

    def orders(self, count: int) -> np.ndarray | None:
        """Return the orders (count, n_visits) of the next epochs, as `order` would one by one."""
        if self.random_state is None and self.rows is None:
            return None
        orders = np.empty((count, self.n_visits), dtype=np.int64)
        orders[:] = np.arange(self.n_rows) if self.rows is None else self.rows
        if self.random_state is None:
            return orders
        if self.permute is not None:
            self.permute(self.random_state._bit_generator, orders)
            return orders
        for order in orders:
            self.random_state.shuffle(order)
        return orders


@dataclass(frozen=True)
class Stopping:
    """When a fit ends, and with which weights.

    Attributes
    ----------
    max_iter, n_iter_no_change : int
    tol : float or None
        In units of ``descent.loss_scale``, but absolute for `score`. None: all of `max_iter`.
    penalties : callable, optional
        From several coef (k, t, d) to what the objective has beyond the loss at each (k,).
    score : callable, optional
        From coef and intercept to a score that decides instead of the objective.
    restore_best : bool
        Whether to end with the weights of the epoch with the best score.
    keep_interrupted : bool
        Whether KeyboardInterrupt ends the fit after the last complete epoch, if there is one.
    """

    max_iter: int = 1000
    tol: float | None = 1e-3
    n_iter_no_change: int = 5
    penalties: Callable[[np.ndarray], np.ndarray] | None = None
    score: Callable[[np.ndarray, np.ndarray], float] | None = None
    restore_best: bool = False
    keep_interrupted: bool = False


class EpochReport(NamedTuple):
    """What there is to tell after an epoch.

    Attributes
    ----------
    epoch : int
        1, 2, ...
    loss : float
        Mean of half the squared residuals as they were met, over the rows of positive weight and
        summed over targets.
    validation_score : float or None
        Score of the weights on the held-out rows; None where there are none.
    rate : float
        Learning rate of the last update.
    seconds : float
        Time that the epoch took.
    """

    epoch: int
    loss: float
    validation_score: float | None
    rate: float
    seconds: float


@dataclass(frozen=True)
class Listeners:
    """Who is called around each epoch."""

    before_epoch: Callable[[], None] | None = None
    # Gets the weights as they are then; True ends the fit.
    after_epoch: Callable[[EpochReport, np.ndarray, np.ndarray], bool] | None = None

    @property
    def hear(self) -> bool:
        return self.before_epoch is not None or self.after_epoch is not None


class StochasticResult(NamedTuple):
    """The weights of a fit, and the way there."""

    coef: np.ndarray  # (t, d)  X's dtype
    intercept: np.ndarray  # (t,)  float64
    n_iter: int
    loss_curve: list[float]
    validation_scores: list[float]
    ended: str  # "converged", "max_iter", "stopped" or "interrupted"
    is_last: bool  # whether these are the weights of the descent as it stands


def fit_stochastic(
    descent: Descent,
    visits: Visits,
    stopping: Stopping,
    *,
    zero_loss: Callable[[], float] = lambda: math.inf,
    weighted_excess: Callable[[np.ndarray, np.ndarray], float] | None = None,
    listeners: Listeners | None = None,
) -> StochasticResult:
    """Run epochs of `descent` until nothing improves any more, as scikit-learn's SGD does.

    An epoch is without improvement if its objective is not `tol` below the best so far, or,
    with `score`, the score not `tol` above the best so far. After `n_iter_no_change` of them
    in a row the rate is lowered where the schedule allows that, else the fit has converged. It has
    also converged, without `score`, where the descent knows that no epoch could lower the objective
    by a tenth of `tol` any more.

    Parameters
    ----------
    descent : Descent
    visits : Visits
    stopping : Stopping
    zero_loss : callable, optional
        Returns the mean loss of predicting zero (`loss_at_zero`), against which a runaway fit is
        judged.
    weighted_excess : callable, optional
        From coef and intercept to their weighted loss, divided by that of predicting zero. Losses
        of epochs are not weighted, and the best weights may leave a light row of huge numbers with
        any loss. Default: all sample weights are equal.
    listeners : Listeners, optional

    Raises
    ------
    Diverged
        If the loss or a weight is no longer finite, or the fit ends with a loss, and a weighted
        loss, a thousand times those of predicting zero.
    """
    from_zero = not any(np.any(part) for part in descent.weights())
    fit = _Fit(descent, stopping, listeners or Listeners())
    # The loop itself looks for overflow, so NumPy need not warn of it.
    with np.errstate(over="ignore", invalid="ignore"):
        try:
            ended = fit.run(visits)
        except KeyboardInterrupt:
            if not (stopping.keep_interrupted and fit.scored):
                raise
            ended = "interrupted"
    last, first = fit.curve[-1], 0.0 if from_zero else fit.curve[0]
    if _runs_away(last, first, fit.weights, zero_loss, weighted_excess):
        raise fit.diverged()
    return fit.result(ended)


def _runs_away(last: float, first: float, weights, zero_loss, weighted_excess) -> bool:
    """Return whether a fit ends with huge losses, which `fit_stochastic` describes."""
    if not (last > RUNAWAY * first and last > RUNAWAY * zero_loss()):
        return False
    return not (weighted_excess and weighted_excess(*weights) <= RUNAWAY)


def one_pass(
    descent: Descent,
    visits: Visits,
    *,
    zero_loss: Callable[[], float] = lambda: math.inf,
    weighted_excess: Callable[[np.ndarray, np.ndarray], float] | None = None,
) -> StochasticResult:
    """Run a single epoch without stopping rule and listeners, as `partial_fit` does.

    It ends as `fit_stochastic` with a single epoch does, without what that prepares for the next.

    Raises
    ------
    Diverged
        As `fit_stochastic` does.
    """
    coef, intercept = descent.weights()
    from_zero = not (coef.any() or intercept.any())
    with np.errstate(over="ignore", invalid="ignore"):
        loss = descent.epoch(visits.order())
    coef, intercept = descent.weights()
    if not (math.isfinite(loss) and np.isfinite(coef).all() and np.isfinite(intercept).all()):
        raise Diverged(1, loss)
    first = 0.0 if from_zero else loss
    if _runs_away(loss, first, (coef, intercept), zero_loss, weighted_excess):
        raise Diverged(1, loss)
    return StochasticResult(coef, intercept, 1, [loss], [], "max_iter", is_last=True)


def loss_at_zero(y: np.ndarray, sample_weight: np.ndarray | None, rows: np.ndarray | None) -> float:
    """Return the mean of y^2/2, summed over targets, over the visited rows of positive weight."""
    counted = counted_rows(sample_weight, rows)
    judged = y if counted is None else y[counted]
    if len(judged) == 0:
        return math.inf
    with np.errstate(over="ignore", invalid="ignore"):
        squares = float(np.einsum("nt,nt->", judged, judged, dtype=np.float64))
    return 0.5 * squares / len(judged)


@dataclass
class Patience:
    """Ends a fit after `limit` epochs in a row that do not improve by `threshold`."""

    threshold: float
    limit: int
    best: float = math.inf
    idle: int = 0

    @property
    def never_runs_out(self) -> bool:
        return self.threshold == -math.inf

    def improves(self, watched: float) -> bool:
        return watched < self.best

    def runs_out(self, watched: float) -> bool:
        self.idle = self.idle + 1 if watched >= self.best - self.threshold else 0
        self.best = min(self.best, watched)
        if self.idle < self.limit:
            return False
        self.idle = 0
        return True


class _Fit:
    """What a fit has seen so far, and the weights that it may end with."""

    def __init__(self, descent: Descent, stopping: Stopping, listeners: Listeners) -> None:
        self.descent, self.stopping, self.listeners = descent, stopping, listeners
        self.several = cast(DescentOfSeveral, descent) if hasattr(descent, "epochs") else None
        unit = 1.0 if stopping.score else descent.loss_scale
        threshold = -math.inf if stopping.tol is None else stopping.tol * unit
        self.patience = Patience(threshold, stopping.n_iter_no_change)
        self.restore_best = stopping.restore_best and stopping.score is not None
        self.curve: list[float] = []
        self.scores: list[float] = []
        self.kept: tuple[np.ndarray, np.ndarray] | None = None  # the best, or the last complete
        self.scored = 0  # complete epochs
        self.kept_epoch = 0
        self.best_when_idle = math.inf  # the best objective when patience last ran out

    def run(self, visits: Visits) -> str:
        """Run epochs; return what ended them."""
        while len(self.curve) < self.stopping.max_iter:
            count = self.epochs_at_once(visits)
            if count > 1 and self.several is not None:
                runs_out = self.run_several(self.several, visits, count)
            else:
                if self.listeners.before_epoch is not None:
                    self.listeners.before_epoch()
                self.epoch(visits.order())
                if not self.finite:
                    raise self.diverged()
                watched = self.watch()
                if self.tell():
                    return "stopped"
                if self.nothing_is_left:
                    return "converged"
                runs_out = self.patience.runs_out(watched)
            if runs_out and not self.goes_on():
                return "converged"
        return "max_iter"

    def epochs_at_once(self, visits: Visits) -> int:
        """Return how many epochs may be made in a call: no rule can end the fit before the last."""
        if self.several is None or self.stopping.score is not None or self.listeners.hear:
            return 1
        most = min(self.stopping.max_iter - len(self.curve), self.several.epochs_at_once(visits))
        patience = self.patience
        return most if patience.never_runs_out else min(most, patience.limit - patience.idle)

    def run_several(self, descent: DescentOfSeveral, visits: Visits, count: int) -> bool:
        """Make so many epochs in a call; return whether patience runs out after the last."""
        done = descent.epochs(visits, count)
        finite = np.isfinite(done.losses) & np.isfinite(done.intercept).all(axis=1)
        finite &= np.isfinite(done.coef).all(axis=(1, 2))
        if not finite.all():
            first = int(np.argmin(finite))
            self.curve += done.losses[: first + 1].tolist()
            raise self.diverged()
        self.curve += done.losses.tolist()
        self.weights, self.scored = self.descent.weights(), len(self.curve)
        if self.stopping.keep_interrupted:
            self.kept, self.kept_epoch = (done.coef[-1], done.intercept[-1]), self.scored
        if self.patience.never_runs_out:
            return False
        watched = done.losses
        if self.stopping.penalties is not None:
            watched = watched + self.stopping.penalties(done.coef)
        runs_out = False
        for value in watched.tolist():
            runs_out = self.patience.runs_out(value)
        return runs_out

    def epoch(self, order: np.ndarray | None) -> None:
        self.start = time.perf_counter()
        loss = self.descent.epoch(order)
        self.curve.append(loss)
        self.weights = self.descent.weights()

    @property
    def finite(self) -> bool:
        return math.isfinite(self.curve[-1]) and all(
            np.isfinite(part).all() for part in self.weights
        )

    @property
    def nothing_is_left(self) -> bool:
        """Whether the descent knows that no epoch can improve the objective any more."""
        if self.stopping.score is not None:
            return False
        return self.descent.gap <= GAP_SHARE * self.patience.threshold

    def goes_on(self) -> bool:
        """Whether to go on after epochs without improvement, or else at a lower rate.

        Several small falls in a row do not show that those to come are few. A descent that knows
        its gap decides by this, unless J falls by no more than rounding.
        """
        before, self.best_when_idle = self.best_when_idle, self.patience.best
        known = self.stopping.score is None and self.descent.gap < math.inf
        if known and self.descent.gap > self.patience.threshold:
            return self.best_when_idle < before - ROUNDED_FALL * abs(self.best_when_idle)
        return self.descent.lower_rate()

    def diverged(self) -> Diverged:
        return Diverged(len(self.curve), self.curve[-1])

    def watch(self) -> float:
        """Return what the stopping rule goes by: the objective or the negative score."""
        coef, intercept = self.weights
        if self.stopping.score is not None:
            self.scores.append(self.stopping.score(coef, intercept))
            watched = -self.scores[-1]
        else:
            penalties, value = self.stopping.penalties, self.descent.value
            if value is None:
                value = self.curve[-1] + (float(penalties(coef[None])[0]) if penalties else 0.0)
            watched = value
        keep = self.stopping.keep_interrupted
        if self.restore_best:
            keep = self.patience.improves(watched)
        if keep:
            self.kept = coef.copy(), intercept.copy()
            self.kept_epoch = len(self.curve)
        self.scored = len(self.curve)
        return watched

    def tell(self) -> bool:
        """Report the epoch; return whether the listener wants the fit to end."""
        if self.listeners.after_epoch is None:
            return False
        report = EpochReport(
            len(self.curve),
            self.curve[-1],
            self.scores[-1] if self.scores else None,
            self.descent.rate,
            time.perf_counter() - self.start,
        )
        return bool(self.listeners.after_epoch(report, *self.weights))

    def result(self, ended: str) -> StochasticResult:
        n = self.scored
        last = ended != "interrupted" and (not self.restore_best or self.kept_epoch in (0, n))
        coef, intercept = self.weights if last or self.kept is None else self.kept
        return StochasticResult(
            coef, intercept, n, self.curve[:n], self.scores[:n], ended, is_last=last
        )
