"""Stochastic descent: the loop over epochs, its stopping rules, and rates that the user chose.

`fit_stochastic` turns epochs of a `Descent` until the loss stands still. `PlainDescent` is the
descent whose rates follow a `Schedule`; the one that finds its own rates is in `automatic.py`.

An epoch costs one pass over X in calls of `sgd_epoch` that each last a fraction of a second,
so that Ctrl-C is heard between them, and 8 bytes an update of that call for the rates.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np

from .._validation import explain_non_finite
from ..kernels.contract import (
    CSR,
    Epoch,
    Kernels,
    Matrix,
    OptimizerState,
    SGDState,
    rows_per_group,
    working_dtype,
)
from ..optimizers import Course, Optimizer, Schedule
from .interrupt import call_kernel, call_long
from .rows import counted_rows, row_slice

__all__ = [
    "Descent",
    "EpochReport",
    "Holdout",
    "PlainDescent",
    "PlainMemory",
    "StochasticResult",
    "chunks",
    "class_numbers",
    "fit_stochastic",
    "penalty_value",
    "rate_that_holds",
]

# Limits on one call of a kernel: updates (their rates take 8 bytes each) and numbers of X.
CALL_UPDATES = 2**16
CALL_NUMBERS = 2**23

# A fit ends where the objective can't fall by this share of the tolerance any more.
GAP_SHARE = 0.1

# A fit that ends with so many times the loss of predicting zero has run away, not converged.
RUNAWAY = 1e3
# A divergence is laid to the weights where they make the rate that holds so many times smaller.
WEIGHTS_RULE = 1e3


# ---------------------------------------------------------------------- what is iterated


class Descent(Protocol):
    """What `fit_stochastic` needs to know of a descent.

    Attributes
    ----------
    loss_scale : float
        Unit in which `tol` is measured; 1.0 makes it absolute.
    shuffles : bool
        Whether the order in which rows are visited makes a difference.
    gap : float
        What the objective can still fall at most; infinite where that is not known.
    rate : float
        Learning rate of the last update.
    memory : object
        What a later descent needs in order to carry on where this one is (`partial_fit`).
    """

    loss_scale: float
    shuffles: bool

    @property
    def gap(self) -> float: ...

    @property
    def rate(self) -> float: ...

    @property
    def memory(self) -> object: ...

    def epoch(self, order: np.ndarray | None) -> float:
        """Visit these rows (None: all of them); the mean of r^2/2 seen, summed over targets."""

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """The weights to report at this moment: coef (t, d) and intercept (t,)."""

    def lower_rate(self) -> bool:
        """Take a smaller rate if the schedule is one that adapts; False where it can't."""


# --------------------------------------------------------------------------- plain descent


class PlainMemory(NamedTuple):
    """Where a descent with averaging or an optimizer stands: what the weights alone don't tell."""

    coef: np.ndarray  # (t, d)
    intercept: np.ndarray  # (t,)
    # Sums of coef and intercept after each averaged update, float64, and how many there were.
    sums: tuple[np.ndarray, np.ndarray, int] | None = None
    optimizer: OptimizerState | None = None


class PlainDescent:
    """Stochastic gradient descent with an optimizer and the rates of a `Schedule`.

    Parameters
    ----------
    kernels : Kernels
    X, y, sample_weight
        As in the contract.
    coef, intercept : ndarray of shape (t, d) and (t,)
        Start; left as they are. A `memory` brings its own start.
    batch_size, alpha, l1_ratio, fit_intercept, n_threads
        As in the contract.
    optimizer : Optimizer
    schedule : Schedule
    course : Course
        What the schedule goes by; the updates of an epoch are filled in by `epoch`.
    clip_norm : float, optional
        Largest norm of a mini-batch's gradient.
    average : int
        0, or the first update whose weights enter the average; that is then what is reported.
    updates_done : int
        Updates before this descent: what the schedule counts from.
    memory : PlainMemory, optional
        That of a former descent, to go on with its average and the moments of its optimizer.
    """

    loss_scale = 1.0
    shuffles = True
    gap = math.inf

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
        optimizer: Optimizer,
        schedule: Schedule,
        course: Course,
        clip_norm: float | None = None,
        average: int = 0,
        updates_done: int = 0,
        memory: PlainMemory | None = None,
    ):
        self.kernels, self.X, self.y, self.sample_weight = kernels, X, y, sample_weight
        self.batch_size, self.fit_intercept = batch_size, fit_intercept
        self.alpha, self.l1_ratio, self.n_threads = alpha, l1_ratio, n_threads
        self.schedule, self.course, self.rate = schedule, course, 0.0
        self.updates_done = updates_done
        if average and memory is not None:
            coef, intercept = memory.coef, memory.intercept
        # A kernel writes to these; the caller's stay as they are, so that an interrupted fit
        # leaves no trace.
        self.coef = np.array(coef, dtype=working_dtype(X), order="C")
        self.intercept = np.array(intercept, dtype=np.float64)
        # The L1 account starts anew with each descent, as it does in scikit-learn.
        self.state = SGDState(l1_paid=np.zeros_like(self.coef) if alpha * l1_ratio > 0 else None)
        if optimizer.rule != "sgd" or clip_norm is not None:
            start = optimizer.state(y.shape[1], X.shape[1], clip_norm)
            self.state.optimizer = _moments_of(memory, start)
        if average:
            self.state.average_after = max(0, average - 1 - updates_done)
            sums = memory.sums if memory is not None else None
            coef_sum, intercept_sum, n_summed = sums or (
                np.zeros(self.coef.shape),
                np.zeros(self.intercept.shape),
                0,
            )
            self.state.coef_sum = coef_sum.copy()
            self.state.intercept_sum = intercept_sum.copy()
            self.state.n_summed = n_summed

    def epoch(self, order: np.ndarray | None) -> float:
        total, n_rows = 0.0, 0
        n_visits = len(self.y) if order is None else len(order)
        course = self.course._replace(updates_per_epoch=-(-n_visits // self.batch_size))
        data = self.X, self.y, self.sample_weight
        dense_updates = self.state.optimizer is not None
        for chunk in chunks(*data, order, self.batch_size, dense_updates=dense_updates):
            n_updates = -(-chunk.n_rows // self.batch_size)
            t = np.arange(self.updates_done + 1.0, self.updates_done + 1.0 + n_updates)
            rates = np.asarray(self.schedule.rates(t, course), dtype=np.float64)
            # A single batch may be most of X.
            total += call_long(
                chunk.n_rows * _numbers_per_row(self.X),
                self.kernels.sgd_epoch,
                2 * len(self.coef),
                chunk.X,
                chunk.y,
                self.coef,
                self.intercept,
                chunk.sample_weight,
                Epoch(
                    chunk.order,
                    rates,
                    self.batch_size,
                    self.alpha,
                    self.l1_ratio,
                    self.fit_intercept,
                ),
                self.state,
                self.n_threads,
            )
            self.updates_done += n_updates
            self.rate = float(rates[-1])
            n_rows += chunk.n_rows
            if not math.isfinite(total):
                return math.inf
        return total / n_rows

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        state = self.state
        if not state.n_summed:
            return self.coef, self.intercept
        assert state.coef_sum is not None
        assert state.intercept_sum is not None
        coef = (state.coef_sum / state.n_summed).astype(self.coef.dtype)
        return coef, state.intercept_sum / state.n_summed

    def lower_rate(self) -> bool:
        eta0 = self.schedule.lowered(self.course.eta0)
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
    """`start`, going on from the moments of the descent before if its rule was the same."""
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
    """Cut an epoch into calls of bounded length, without a copy, on borders of groups of rows.

    `dense_updates`: an update takes a pass over all features, whatever its rows hold.
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


# ---------------------------------------------------------------------------------- the fit


class Holdout(NamedTuple):
    """Rows that are kept out of the descent, to stop it early."""

    X: Matrix
    y: np.ndarray  # (n, t)
    sample_weight: np.ndarray | None

    def r_squared(self, kernels: Kernels, coef, intercept, n_threads: int) -> float:
        """R2 of the weights on these rows, the mean over targets."""
        from sklearn.metrics import r2_score

        predicted = self._predict(kernels, coef, intercept, n_threads)
        if not np.isfinite(predicted).all():
            return -math.inf
        return float(r2_score(self.y, predicted, sample_weight=self.sample_weight))

    def accuracy(self, kernels: Kernels, coef, intercept, n_threads: int) -> float:
        """Share of rows whose class, the target that is 1 and not -1, has the highest score."""
        from sklearn.metrics import accuracy_score

        predicted = self._predict(kernels, coef, intercept, n_threads)
        if not np.isfinite(predicted).all():
            return -math.inf
        return float(
            accuracy_score(
                class_numbers(self.y), class_numbers(predicted), sample_weight=self.sample_weight
            )
        )

    def _predict(self, kernels: Kernels, coef, intercept, n_threads: int) -> np.ndarray:
        w = np.ascontiguousarray(coef, dtype=np.float64)
        # Of float32 rows as distances from a number in the midst of the targets, which may be of
        # 1e9 and float64. The metrics are scikit-learn's, which wants them on the host.
        origin = np.median(np.asarray(self.y, dtype=np.float64), axis=0)
        away = call_kernel(kernels.predict, len(w), self.X, w, intercept - origin, n_threads)
        return np.asarray(away, dtype=np.float64) + origin


def class_numbers(scores):
    """The class of each row: the sign of a single score, else which of them is the highest.

    In words that NumPy, PyTorch, CuPy and JAX have in common.
    """
    return 1 * (scores[:, 0] > 0) if scores.shape[1] == 1 else scores.argmax(1)


class EpochReport(NamedTuple):
    """What there is to tell after an epoch.

    Attributes
    ----------
    epoch : int
        1, 2, ...
    loss : float
        Mean of half the squared residuals as they were met, summed over targets.
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


class StochasticResult(NamedTuple):
    """Weights, and the way there."""

    coef: np.ndarray  # (t, d)  X's dtype
    intercept: np.ndarray  # (t,)  float64
    n_iter: int
    loss_curve: list[float]
    validation_scores: list[float]
    ended: str  # "converged", "max_iter", "stopped" or "interrupted"
    is_last: bool  # whether these are the weights of the descent as it stands


@dataclass
class _Patience:
    """The stopping rule: so many epochs without an improvement by the threshold end a fit."""

    threshold: float
    limit: int
    best: float = math.inf
    idle: int = 0

    def improves(self, watched: float) -> bool:
        return watched < self.best

    def runs_out(self, watched: float) -> bool:
        self.idle = self.idle + 1 if watched >= self.best - self.threshold else 0
        self.best = min(self.best, watched)
        if self.idle < self.limit:
            return False
        self.idle = 0
        return True


def fit_stochastic(
    descent: Descent,
    X: Matrix,
    y: np.ndarray,
    *,
    sample_weight: np.ndarray | None = None,
    rows: np.ndarray | None = None,
    max_iter: int = 1000,
    tol: float | None = 1e-3,
    n_iter_no_change: int = 5,
    random_state: np.random.RandomState | None = None,
    penalty: Callable[[np.ndarray], float] | None = None,
    score: Callable[[np.ndarray, np.ndarray], float] | None = None,
    restore_best: bool = False,
    keep_interrupted: bool = False,
    fit_intercept: bool = True,
    described: str = "this learning rate",
    before_epoch: Callable[[], None] | None = None,
    on_epoch: Callable[[EpochReport, np.ndarray, np.ndarray], bool] | None = None,
) -> StochasticResult:
    """Turn epochs of `descent` until nothing improves any more, as scikit-learn's SGD does.

    An epoch is without improvement if its objective is not `tol` below the best so far, or,
    with `score`, the score not `tol` above the best so far. After `n_iter_no_change` of them
    in a row the rate is lowered where the schedule allows that, else the fit has converged. So it
    has, without `score`, where the descent knows that no epoch could lower the objective by a
    tenth of `tol` any more.

    Parameters
    ----------
    descent : Descent
        It has X, y and sample_weight already; they are here for naming the culprit where it
        diverges.
    rows : ndarray of int64, optional
        Rows to visit. Default: all.
    max_iter, n_iter_no_change : int
    tol : float or None
        In units of ``descent.loss_scale``, but absolute for `score`. None: all of `max_iter`.
    random_state : RandomState, optional
        Shuffles the rows anew before each epoch. Default: no shuffling.
    penalty : callable, optional
        From coef to what the objective has beyond the loss.
    score : callable, optional
        From coef and intercept to a score that decides instead of the objective.
    restore_best : bool
        Whether to end with the weights of the epoch with the best score.
    keep_interrupted : bool
        Whether KeyboardInterrupt ends the fit after the last complete epoch, if there is one.
    described : str
        How the message of a divergence names the rates.
    before_epoch : callable, optional
        Called before each epoch.
    on_epoch : callable, optional
        Called after each epoch, with the weights as they are then; True ends the fit.

    Raises
    ------
    ValueError
        If the descent diverges: the loss or a weight is no longer finite, or the fit ends
        with a loss a thousand times that of predicting zero.
    """
    counted = counted_rows(sample_weight, rows)
    judged = y if counted is None else y[counted]
    squares = float(np.einsum("nt,nt->", judged, judged, dtype=np.float64))
    limit = RUNAWAY * 0.5 * squares / len(judged) if len(judged) else math.inf
    from_zero = not any(np.any(part) for part in descent.weights())
    unit = 1.0 if score else descent.loss_scale
    patience = _Patience(-math.inf if tol is None else tol * unit, n_iter_no_change)
    fit = _Fit(descent, penalty, score, patience, restore_best, keep_interrupted, on_epoch)

    def fail() -> ValueError:
        explain_non_finite(X=X, y=y, sample_weight=sample_weight)
        epoch, loss = len(fit.curve), fit.curve[-1]
        reached = f"reached {loss:.3g}" if math.isfinite(loss) else "overflowed"
        met = f"the mean loss {reached} in epoch {epoch}"
        return _divergence(X, sample_weight, fit_intercept, met, described)

    ended = "max_iter"
    # Overflow is looked for here; NumPy need not warn of it too.
    with np.errstate(over="ignore", invalid="ignore"):
        try:
            for _ in range(max_iter):
                if before_epoch is not None:
                    before_epoch()
                fit.epoch(_visit(rows, len(y), random_state))
                if not fit.finite:
                    raise fail()
                watched = fit.watch()
                if fit.tell():
                    ended = "stopped"
                    break
                nothing_left = score is None and descent.gap <= GAP_SHARE * patience.threshold
                if nothing_left or (patience.runs_out(watched) and not descent.lower_rate()):
                    ended = "converged"
                    break
        except KeyboardInterrupt:
            if not (keep_interrupted and fit.scored):
                raise
            ended = "interrupted"
        if fit.curve[-1] > (limit if from_zero else max(limit, RUNAWAY * fit.curve[0])):
            raise fail()
    return fit.result(ended)


class _Fit:
    """What a fit has seen so far, and the weights that it may end with."""

    def __init__(
        self, descent, penalty, score, patience, restore_best, keep_interrupted, on_epoch
    ) -> None:
        self.descent, self.penalty, self.score = descent, penalty, score
        self.patience, self.on_epoch = patience, on_epoch
        self.restore_best = restore_best and score is not None
        self.keep_interrupted = keep_interrupted
        self.curve: list[float] = []
        self.scores: list[float] = []
        self.kept: tuple[np.ndarray, np.ndarray] | None = None  # the best, or the last complete
        self.scored = 0  # complete epochs
        self.kept_epoch = 0

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

    def watch(self) -> float:
        """What the stopping rule goes by: the objective or the negative score."""
        coef, intercept = self.weights
        if self.score is not None:
            self.scores.append(self.score(coef, intercept))
            watched = -self.scores[-1]
        else:
            watched = self.curve[-1] + (self.penalty(coef) if self.penalty else 0.0)
        keep = self.patience.improves(watched) if self.restore_best else self.keep_interrupted
        if keep:
            self.kept = coef.copy(), intercept.copy()
            self.kept_epoch = len(self.curve)
        self.scored = len(self.curve)
        return watched

    def tell(self) -> bool:
        """Report the epoch; whether the listener wants the fit to end."""
        if self.on_epoch is None:
            return False
        report = EpochReport(
            len(self.curve),
            self.curve[-1],
            self.scores[-1] if self.scores else None,
            self.descent.rate,
            time.perf_counter() - self.start,
        )
        return bool(self.on_epoch(report, *self.weights))

    def result(self, ended: str) -> StochasticResult:
        n = self.scored
        last = ended != "interrupted" and (not self.restore_best or self.kept_epoch in (0, n))
        coef, intercept = self.weights if last or self.kept is None else self.kept
        return StochasticResult(
            coef, intercept, n, self.curve[:n], self.scores[:n], ended, is_last=last
        )


def _visit(rows, n: int, random_state) -> np.ndarray | None:
    """The order of the next epoch."""
    if random_state is None:
        return rows
    return random_state.permutation(n if rows is None else rows).astype(np.int64, copy=False)


def penalty_value(coef: np.ndarray, *, alpha: float, l1_ratio: float) -> float:
    """alpha R(w), summed over targets."""
    if alpha == 0.0:
        return 0.0
    w, penalty = np.asarray(coef, dtype=np.float64), 0.0
    if l1_ratio > 0.0:
        penalty += l1_ratio * float(np.abs(w).sum())
    if l1_ratio < 1.0:
        # Not by BLAS, whose threads take longer to meet than this takes.
        penalty += (1.0 - l1_ratio) * 0.5 * float(np.einsum("td,td->", w, w))
    return alpha * penalty


# ------------------------------------------------------------------------------- divergence


def _divergence(X, sample_weight, fit_intercept, met: str, described: str) -> ValueError:
    if described == "learning_rate='auto'":
        return ValueError(
            f"The fit diverges with {described}: {met}. X, y or sample_weight holds numbers whose "
            f"squares overflow, or nearly: rescale them."
        )
    rate = rate_that_holds(X, sample_weight, fit_intercept)
    unweighted = rate if sample_weight is None else rate_that_holds(X, None, fit_intercept)
    if unweighted > WEIGHTS_RULE * rate:
        largest = float(np.max(sample_weight))
        return ValueError(
            f"The fit diverges with {described}: {met}. The reason is sample_weight, by which the "
            f"rate is multiplied, as in scikit-learn, and whose largest is {largest:.3g}: divide "
            f"it by its mean."
        )
    if rate == 0.0:
        return ValueError(
            f"The fit diverges: {met}. X holds numbers whose squares overflow: rescale its columns."
        )
    return ValueError(
        f"The fit diverges with {described}: {met}. "
        f"A rate that holds on these rows is {rate:.2g} or less (optimizer='sgd', "
        f"learning_rate='constant', eta0={rate:.2g}). Larger ones hold once the columns of X are "
        f"scaled, which learning_rate='auto' does by itself."
    )


def rate_that_holds(X: Matrix, sample_weight: np.ndarray | None, fit_intercept: bool) -> float:
    """1 / max_i s_i (|x_i|^2 + 1): with it or less no update of any batch size can grow.

    An update multiplies the error of the weights by I - h s_i x_i x_i^T (or the mean of such
    matrices), whose eigenvalues lie in [0, 1] for these h. Rounded down to two digits.
    """
    largest = 0.0
    for start in range(0, X.shape[0], 4096):
        stop = min(start + 4096, X.shape[0])
        squares = _squared_norms(row_slice(X, start, stop)) + float(fit_intercept)
        if sample_weight is not None:
            s = np.asarray(sample_weight[start:stop], dtype=np.float64)
            squares = squares[s > 0.0] * s[s > 0.0]
        largest = max(largest, float(squares.max(initial=0.0)))
    if largest == 0.0 or not math.isfinite(largest):
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(1.0 / largest)) - 1)
    return math.floor(1.0 / largest / unit) * unit if unit > 0.0 else 0.0


def _squared_norms(X: Matrix) -> np.ndarray:
    with np.errstate(over="ignore"):
        if not isinstance(X, CSR):
            return np.einsum("nd,nd->n", X, X, dtype=np.float64)
        ends = np.asarray(X.indptr)
        span = slice(int(ends[0]), int(ends[-1]))
        row = np.repeat(np.arange(X.shape[0]), np.diff(ends))
        squares = X.data[span].astype(np.float64) ** 2
        return np.bincount(row, weights=squares, minlength=X.shape[0])
