"""What the stochastic estimators share: they turn data and parameters into a descent, and back."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import ShuffleSplit
from sklearn.utils import check_random_state

from .. import _validation as check
from .._sklearn_compat import CallbackSupportMixin, SparseCoefMixin, has_callbacks
from ..kernels import resolve_backend
from ..kernels.contract import Kernels, Matrix, working_dtype
from ..kernels.device import placed_beside
from ..kernels.optional import has_order_kernels
from ..solvers.automatic import AutomaticMemory
from ..solvers.automatic_choice import automatic_descent
from ..solvers.divergence import Diverged, divergence_explained, weighted_excess
from ..solvers.holdout import Holdout
from ..solvers.plain_descent import PlainDescent, PlainMemory
from ..solvers.rows import counted_rows, take_rows
from ..solvers.seen_rows import with_seen
from ..solvers.serial_blas import serial_blas
from ..solvers.stochastic import (
    Descent,
    EpochReport,
    Listeners,
    StochasticResult,
    Stopping,
    Visits,
    fit_stochastic,
    loss_at_zero,
    one_pass,
)
from ..solvers.streaming import StreamingDescent, StreamMemory
from ..solvers.target_by_target import TargetByTarget
from ..solvers.target_scale import (
    listener_unscaled,
    result_unscaled,
    scaled_targets,
    target_exponents,
    unscaled,
)
from ..solvers.training import TrainingData
from ._base import (
    LinearModel,
    all_or_nothing,
    backend_name,
    cast_coef,
    overflow_explained,
    refuse_underflow,
)
from ._listeners import Progress, ScikitLearnCallbacks
from ._sgd_parameters import SGDParameters


class Start(NamedTuple):
    """The weights to start from, as the user gave them."""

    coef: Any = None
    intercept: Any = None

    @property
    def is_given(self) -> bool:
        return self.coef is not None or self.intercept is not None


NO_START = Start()


class Call(NamedTuple):
    """The options of a call of `fit` or `partial_fit`, besides the data."""

    partial: bool = False  # one epoch, without a stopping rule
    go_on: bool = False  # continues where the last call ended, with its count of updates
    start: Start = NO_START
    rows: np.ndarray | None = None  # numbers of the rows to visit; None: all
    callback: Callable[[EpochReport], object] | None = None
    callbacks: ScikitLearnCallbacks | None = None

    @classmethod
    def partial_fit(cls, estimator) -> Call:
        return cls(partial=True, go_on=hasattr(estimator, "coef_"))


class TrainingRows(NamedTuple):
    """Validated data, and the rows of them to fit."""

    X: Matrix
    y: np.ndarray  # (n, t)
    weights: np.ndarray | None  # (n,), or (n, t) where they differ from target to target
    visited: np.ndarray | None  # numbers of the rows to fit; None: all
    score: Callable[[np.ndarray, np.ndarray], float] | None  # of weights, on held-out rows
    one_target: bool  # whether y had one dimension
    y_exponents: np.ndarray  # (t,): y is what the user gave times 2^-y_exponents

    @property
    def n_visits(self) -> int:
        return self.X.shape[0] if self.visited is None else len(self.visited)

    @property
    def largest_weights(self) -> np.ndarray | None:
        """The weights (n,): for each row, the largest over the targets."""
        if self.weights is None or np.ndim(self.weights) < 2:
            return self.weights
        return self.weights.max(axis=1)


class BaseSGD(SGDParameters, SparseCoefMixin, CallbackSupportMixin, LinearModel):
    """A stochastic estimator without its constructor and the kind of its targets.

    A subclass defines how rows are split for early stopping (`_splits`) and the score on held-out
    rows (`_score`), and may weight the rows for each target (`_weights`).
    """

    coef_: Any
    intercept_: Any
    t_: float
    loss_curve_: list[float]

    # Whether `warm_start` starts from the mean of the weights where there is one, as in
    # scikit-learn's classifier, or from the last ones, as in its regressor.
    _warm_start_is_averaged = False

    def _fit_heard(self, X, y, sample_weight, start=NO_START, callback=None, *, rows=None):
        """Do what `fit` does, with scikit-learn's callbacks around it.

        `rows` are the numbers of the rows to visit, where the rate does not come from the data and
        no rows are held out.
        """
        if callback is not None and not callable(callback):
            raise ValueError(f"callback must be a callable or None, got {callback!r}.")
        callbacks = None
        if has_callbacks(self):
            self._check_parameters()
            callbacks = ScikitLearnCallbacks(self, X, y, sample_weight)
        call = Call(start=start, rows=rows, callback=callback, callbacks=callbacks)
        with all_or_nothing(self), serial_blas():
            self._forget()
            self._fit(X, y, sample_weight, call)
        if callbacks is not None:
            callbacks.end()
        return self

    def _fit(self, X, y, sample_weight, call: Call):
        """Validate, choose the kernels, hold rows out, descend, and record the result."""
        self._check_parameters()
        warm = call.go_on or (self.warm_start and not call.partial and hasattr(self, "coef_"))
        X, y, s, one_target = self._validate(
            X, y, sample_weight, reset=not warm, ravel=True, some_weight=not call.partial
        )
        call = call._replace(callback=check.checked_after(call.callback, X))
        kernels, n_threads = resolve_backend(self.backend, X), self._n_threads(X, y.shape[1])
        self._refuse_non_finite(kernels, X)
        _check_random_state(self.random_state)
        y_exponents = self._target_exponents(y, s, call.go_on)
        y = scaled_targets(y, X, y_exponents)
        visited, score = call.rows, None
        if self.early_stopping:
            visited, holdout = self._hold_out(X, y, s)
            score = partial(self._score(holdout), kernels, n_threads=n_threads)
        weights = self._weights(y, s)
        if not call.partial and weights is not None and not np.any(weights, axis=0).all():
            raise ValueError("class_weight and sample_weight are zero together in all rows.")
        if self._automatic or (call.partial and weights is not None and not np.any(weights)):
            # Momentum and penalty would move the weights even in rows of zero weight.
            visited = counted_rows(weights, visited)
        rows = TrainingRows(X, y, weights, visited, score, one_target, y_exponents)
        with overflow_explained(X, y):
            descent = self._descent(kernels, rows, call, warm, n_threads)
            data = TrainingData(kernels, X, y, weights, n_threads)
            excess = None if weights is None else partial(weighted_excess, data, visited)
            result = self._descended(kernels, descent, rows, call, excess)
        result = result_unscaled(result, y_exponents)
        self._record(result, rows, call)
        self.backend_ = backend_name(kernels)
        # An optimizer's moments and sums that belong to other weights are of no use. What "auto"
        # knows of the rows of a fit is, whichever epoch's weights were kept.
        of_rows = self._automatic and not call.partial
        before = getattr(self, "_seen", None) if call.go_on else None
        self._seen = with_seen(kernels, before, X, weights, visited)
        self._memory = descent.memory if result.is_last or of_rows else None
        self._y_exponents = y_exponents
        if not call.partial:
            self._warn_unless_converged(result)
        return self

    def _target_exponents(self, y, s, go_on: bool) -> np.ndarray:
        """Return the powers of two (t,) to divide y by, which are those of the rows so far, if any.

        Rates that the user chose are for y as it is.
        """
        n_targets = y.shape[1]
        if not self._automatic:
            return np.zeros(n_targets, dtype=int)
        before = getattr(self, "_y_exponents", None) if go_on else None
        if before is None or len(before) != n_targets:
            return target_exponents(y, s)
        return before

    def _hold_out(self, X, y, s) -> tuple[np.ndarray, Holdout]:
        """Return the rows to fit, and those to judge by; all of them have positive weight."""
        counted = np.arange(X.shape[0]) if s is None else np.flatnonzero(s)
        n, share = len(counted), self.validation_fraction
        what = "rows" if n == X.shape[0] else "rows of positive weight"
        try:
            train, held = next(
                self._splits(y[counted], test_size=share, random_state=self.random_state)
            )
        except ValueError as error:
            raise ValueError(
                f"early_stopping can't split {n} {what} with validation_fraction={share}: {error}"
            ) from error
        if len(held) < 2:
            raise ValueError(
                f"early_stopping needs two held-out rows for R2, but validation_fraction="
                f"{share} of {n} {what} is {len(held)}."
            )
        train, held = np.sort(counted[train]), np.sort(counted[held])
        s_held = None if s is None else np.asarray(s[held])
        return train, Holdout(take_rows(X, held), np.asarray(y[held]), s_held)

    # ------------------------------------------------------------------ from data to a descent

    def _descent(
        self, kernels: Kernels, rows: TrainingRows, call: Call, warm: bool, n_threads: int
    ) -> Descent:
        """Return one descent for all targets, or one per target if they weight rows differently."""
        coef, intercept = self._start(rows, warm, call.start)
        go_on_with_memory = call.go_on or (warm and not call.start.is_given)
        memory = (
            self._memory_of_last_call(call.go_on, coef, intercept, rows.y_exponents)
            if go_on_with_memory
            else None
        )
        X, y, weights = rows.X, rows.y, rows.weights
        shared = weights is None or np.ndim(weights) < 2
        exponents = rows.y_exponents
        is_apart = isinstance(memory, list) or bool((exponents != exponents[0]).any())
        if self._automatic and is_apart and shared:
            # The rows so far had weights for each target (class_weight), which these have not, or
            # the targets differ too much in scale.
            each = np.ones(len(y), y.dtype) if weights is None else np.asarray(weights)
            weights = np.broadcast_to(each[:, None], y.shape)
        if weights is None or np.ndim(weights) < 2:
            data = TrainingData(kernels, X, y, weights, n_threads)
            memory = None if isinstance(memory, list) else memory
            return self._one_descent(data, rows, 0, coef, intercept, memory, call)
        if isinstance(memory, list):
            memories = memory
        elif isinstance(memory, AutomaticMemory | StreamMemory):
            # So far, all targets weighted the rows alike.
            memories = [memory.of_target(t) for t in range(y.shape[1])]
        else:
            memories = [None] * y.shape[1]
        descents = []
        for t, part in enumerate(memories):
            own = np.ascontiguousarray(weights[:, t])
            data = TrainingData(kernels, X, y[:, [t]], own, n_threads)
            descents.append(self._one_descent(data, rows, t, coef[[t]], intercept[[t]], part, call))
        loss_scale = 1.0
        if self._automatic and not call.partial:
            loss_scale = sum(descent.loss_scale for descent in descents)
        if not self._automatic:
            return TargetByTarget(descents, loss_scale)
        return TargetByTarget(descents, loss_scale, weights, rows.y_exponents)

    def _one_descent(
        self, data: TrainingData, rows: TrainingRows, t: int, coef, intercept, memory, call: Call
    ) -> Descent:
        """Return the descent for targets of the scale of target t."""
        objective, automatic = self._objective(rows.y_exponents[t]), self._automatic
        if automatic and call.partial:
            return StreamingDescent(data, objective, coef, intercept, memory)
        if automatic:
            return automatic_descent(data, objective, rows.visited, coef, intercept)
        batch_size = min(int(self.batch_size), data.X.shape[0])  # a larger batch means all rows
        # A kernel would copy y and the weights to the device in each epoch: copy them once.
        y, weights = placed_beside(data.y, data.X), placed_beside(data.sample_weight, data.X)
        return PlainDescent(
            data._replace(y=y, sample_weight=weights),
            objective,
            self._steps(batch_size),
            coef,
            intercept,
            updates_done=self._updates_done(call),
            memory=memory,
        )

    def _updates_done(self, call: Call) -> int:
        return int(self.t_) - 1 if call.go_on else 0

    def _start(self, rows: TrainingRows, warm: bool, given: Start) -> tuple[np.ndarray, np.ndarray]:
        """Return the weights to start from, (t, d) and (t,), in the shapes that the data need."""
        n_targets, d = rows.y.shape[1], rows.X.shape[1]
        coef, intercept = np.zeros((n_targets, d)), np.zeros(n_targets)
        if warm:
            coef, intercept = self._coefficients(d)
            if len(coef) != n_targets:
                raise ValueError(
                    f"y has {n_targets} targets, but the weights so far are for {len(coef)}."
                )
        if given.coef is not None:
            coef = _given(given.coef, "coef_init", (n_targets, d))
        if given.intercept is not None:
            intercept = _given(given.intercept, "intercept_init", (n_targets,))
        if not self._automatic:
            return coef.astype(working_dtype(rows.X)), intercept
        # With "auto", weights are float64 until the end.
        coef = coef.astype(np.float64)
        return unscaled(coef, intercept, -rows.y_exponents)

    def _memory_of_last_call(self, go_on: bool, coef, intercept, y_exponents: np.ndarray):
        """Return what the last call left for this one, if the parameters still select its method.

        It is a copy, since a descent may write to it, and this call may be interrupted.
        """
        memory: Any = getattr(self, "_memory", None)
        kind = (AutomaticMemory, StreamMemory) if self._automatic else PlainMemory
        parts = memory if isinstance(memory, list) else [memory]
        if not all(isinstance(part, kind) for part in parts):
            seen = getattr(self, "_seen", None)
            if not (self._automatic and go_on and seen is not None):
                return None
            return seen.as_fitted(coef, intercept, self._objective(y_exponents.max()))
        if self._automatic:
            return memory if go_on else None  # its arrays are never written to
        memory = copy.deepcopy(memory)
        if go_on:
            return memory
        # As in scikit-learn, a warm start continues from the last weights or from their mean, and
        # begins a new average.
        if not isinstance(memory, list):
            return self._without_average(memory, coef, intercept)
        return [
            self._without_average(part, coef[[t]], intercept[[t]]) for t, part in enumerate(memory)
        ]

    def _without_average(self, memory: PlainMemory, coef, intercept) -> PlainMemory:
        if self._warm_start_is_averaged:
            memory = memory._replace(coef=coef, intercept=intercept)
        return memory._replace(sums=None)

    def _descended(
        self, kernels: Kernels, descent: Descent, rows: TrainingRows, call: Call, excess
    ) -> StochasticResult:
        """Run the descent to its end; if it fails, the error names the cause.

        `excess` is what `fit_stochastic` calls `weighted_excess`.
        """
        s = rows.largest_weights
        shuffles = descent.shuffles and self._shuffles(call.partial)
        random_state = check_random_state(self.random_state) if shuffles else None
        permute = kernels.permute if has_order_kernels(kernels) else None
        visits = Visits(len(rows.y), rows.visited, random_state, permute)
        zero_loss = partial(loss_at_zero, rows.y, s, rows.visited)
        is_heard = self.verbose or call.callback is not None or call.callbacks is not None
        max_iter = 1 if call.partial else self.max_iter
        progress = Progress(max_iter, self.verbose) if self.verbose else None
        try:
            if call.partial and not is_heard:
                judged = {} if self._automatic else {"zero_loss": zero_loss}
                return one_pass(descent, visits, weighted_excess=excess, **judged)
            listeners = self._listeners(progress, rows, call) if is_heard else None
            with progress or nullcontext():
                return fit_stochastic(
                    descent,
                    visits,
                    self._stopping(call.partial, rows),
                    zero_loss=zero_loss,
                    weighted_excess=excess,
                    listeners=listeners,
                )
        except Diverged as diverged:
            check.explain_non_finite(X=rows.X, y=rows.y, sample_weight=s)
            data = rows.X, rows.y, s, bool(self.fit_intercept)
            raise divergence_explained(diverged, *data, self._rates_in_words()) from diverged

    def _listeners(self, progress: Progress | None, rows: TrainingRows, call: Call) -> Listeners:
        fitted = partial(
            self._as_if_fitted, dtype=working_dtype(rows.X), one_target=rows.one_target
        )
        tell = listener_unscaled(partial(_tell, progress, call, fitted), rows.y_exponents)
        begin_epoch = None if call.callbacks is None else call.callbacks.begin_epoch
        return Listeners(begin_epoch, tell)

    def _stopping(self, is_partial: bool, rows: TrainingRows) -> Stopping:
        return Stopping(
            max_iter=1 if is_partial else self.max_iter,
            tol=None if is_partial else self.tol,
            n_iter_no_change=self.n_iter_no_change,
            penalties=self._objective(rows.y_exponents.max()).penalties,
            score=rows.score,
            restore_best=self._restores_best,
            keep_interrupted=bool(self.keep_interrupted),
        )

    # ----------------------------------------------------------------- from a descent to attributes

    def _record(self, result: StochasticResult, rows: TrainingRows, call: Call) -> None:
        n_visits = rows.n_visits
        n_updates = result.n_iter * -(-n_visits // int(self.batch_size))
        before = self.loss_curve_ if call.go_on else []
        updates_done = self._updates_done(call)
        s = rows.weights if rows.weights is None or rows.weights.ndim == 1 else None
        y = scaled_targets(rows.y, rows.X, -rows.y_exponents)
        refuse_underflow(result.coef, rows.X, y, s)
        self._set_weights(result.coef, result.intercept, working_dtype(rows.X), rows.one_target)
        self.n_iter_ = result.n_iter
        self.t_ = 1.0 + updates_done + n_updates
        self.loss_curve_ = before + (result.loss_curve if n_visits else [])
        self._take_to(rows.X)
        if self.early_stopping:
            self.validation_scores_ = result.validation_scores
        else:
            self.__dict__.pop("validation_scores_", None)

    def _set_weights(self, coef, intercept, dtype, one_target: bool) -> None:
        coef = cast_coef(coef, dtype)
        self.coef_ = coef[0] if one_target else coef
        self.intercept_ = np.array(intercept)

    def _as_if_fitted(self, coef, intercept, n_iter: int, *, dtype, one_target: bool):
        """Return a copy of the estimator as if the fit had ended with these weights."""
        fitted = copy.copy(self)
        fitted._set_weights(coef, intercept, dtype, one_target)
        fitted.n_iter_ = n_iter
        return fitted

    def _warn_unless_converged(self, result: StochasticResult) -> None:
        loss = f"(the last: {result.loss_curve[-1]:.6g})"
        if result.ended == "interrupted":
            message = (
                f"The fit was interrupted; kept are weights of its {result.n_iter} complete "
                f"epochs {loss}."
            )
        elif result.ended == "max_iter" and self.tol is not None:
            message = (
                f"The loss still falls after max_iter={self.max_iter} epochs {loss}. "
                f"{self._more_progress()}"
            )
        else:
            return
        warnings.warn(message, ConvergenceWarning, stacklevel=6)

    def _more_progress(self) -> str:
        """Say what may help where a fit ends before its loss has settled."""
        rates = self._rates_in_words()
        if rates is None:
            return f"Raise max_iter, or tol={self.tol}."
        return (
            f"Raise max_iter, or tol={self.tol}. If it falls slowly, the rate is too small "
            f"({rates}): scale the columns of X, and raise it."
        )

    def _coefficients(self, d: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the weights so far, dense, as (t, d) and (t,)."""
        coef = self.coef_.toarray() if hasattr(self.coef_, "toarray") else self.coef_
        return check.as_coefficients(coef, self.intercept_, d)

    def _check_partial_fit(self) -> None:
        if self.early_stopping:
            raise ValueError(
                "early_stopping must be False for partial_fit, streams and Dask collections, of "
                "which no rows are held out."
            )

    def _shows_non_finite(self) -> bool:
        """Whether it does: the first loss is of all rows unless some are sampled or held out."""
        return not (self._automatic or self.early_stopping)

    # -------------------------------------------------------------------- what a subclass defines

    def _forget(self) -> None:
        """Remove what a fit from the start has to find anew."""

    def _weights(self, y, s):
        """Return the weights of rows: (n,), (n, t) where they differ between targets, or None."""
        return s

    def _splits(self, y, **how):
        """Return pairs of row numbers: those to fit, and those to score on."""
        return ShuffleSplit(**how).split(y)

    def _score(self, holdout: Holdout):
        """Return a function that scores weights on the held-out rows."""
        return holdout.r_squared


def _tell(progress, call: Call, fitted, report: EpochReport, coef, intercept) -> bool:
    """Tell all listeners of an epoch; return whether one of them ends the fit."""
    if progress is not None:
        progress(report)
    stop = call.callback is not None and bool(call.callback(report))
    if call.callbacks is not None:
        stop |= call.callbacks.end_epoch(partial(fitted, coef, intercept, report.epoch))
    return stop


def _given(value, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return a start that the user gave, checked; a single target may omit its axis."""
    array = check.as_float_array(check.on_host(value, name), name, np.float64)
    if array.shape != shape and not (shape[0] == 1 and array.shape == shape[1:]):
        raise ValueError(f"{name} must have shape {shape}, got shape {array.shape}.")
    check.explain_non_finite(**{name: array})
    return array.reshape(shape)


def _check_random_state(random_state) -> None:
    """Raise ValueError where scikit-learn's `check_random_state` would, naming the parameter.

    That function takes 100 microseconds to seed a generator, which few descents use.
    """
    if check.is_whole(random_state) and 0 <= random_state < 2**32:
        return
    try:
        check_random_state(random_state)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"random_state must be None, a whole number in [0, 2**32) or a "
            f"numpy.random.RandomState, got {check.shown(random_state)}."
        ) from error
