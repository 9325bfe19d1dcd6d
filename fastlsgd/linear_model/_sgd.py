"""Stochastic gradient descent behind scikit-learn's contract: parameters and fitted attributes."""

from __future__ import annotations

import copy
import warnings
from contextlib import nullcontext
from functools import partial as partial_call
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model._base import SparseCoefMixin
from sklearn.model_selection import ShuffleSplit
from sklearn.utils import check_random_state

from .. import _validation as check
from ..kernels import resolve_backend
from ..kernels.contract import working_dtype
from ..kernels.device import sent_to
from ..optimizers import Course, Optimizer, Schedule, as_optimizer, as_schedule
from ..solvers.automatic import AutomaticMemory
from ..solvers.automatic_choice import automatic_descent
from ..solvers.rows import counted_rows, take_rows
from ..solvers.stochastic import (
    Descent,
    Holdout,
    PlainDescent,
    PlainMemory,
    StochasticResult,
    fit_stochastic,
    penalty_value,
)
from ..solvers.streaming import StreamingDescent, StreamMemory
from ..solvers.target_by_target import TargetByTarget
from ._base import (
    LinearModel,
    LinearRegressor,
    all_or_nothing,
    backend_name,
    cast_coef,
    check_flag,
    overflow_explained,
)
from ._listeners import CallbackSupportMixin, Progress, ScikitLearnCallbacks, with_callbacks

# Schedules whose fits are scikit-learn's, to the weights.
SCIKIT_LEARN_SCHEDULES = ("constant", "invscaling", "optimal", "adaptive")


class BaseSGD(SparseCoefMixin, CallbackSupportMixin, LinearModel):
    """What the stochastic estimators share: from their parameters to a descent, and back.

    A subclass says how rows are split for early stopping (`_splits`) and what judges the weights
    on them (`_score`), and may weigh the rows of each target (`_weights`).
    """

    # What scikit-learn's estimator of the same name has beside squared error.
    _other_losses: tuple[str, ...] = ("huber", "epsilon_insensitive", "squared_epsilon_insensitive")
    # What `eta0` alone stands for: scikit-learn's default for this estimator.
    _default_schedule = "invscaling"
    # Whether `warm_start` begins from the mean of the weights where there is one, as scikit-learn's
    # classifier does, or from the last ones, as its regressor does.
    _warm_start_is_averaged = False

    def _fit_heard(
        self, X, y, sample_weight, coef_init=None, intercept_init=None, callback=None, *, rows=None
    ):
        """`fit`, with scikit-learn's callbacks around it; all of it, or nothing.

        `rows`: the numbers of those to visit, where the rate does not come from the data and no
        others are held out.
        """
        if callback is not None and not callable(callback):
            raise ValueError(f"callback must be a callable or None, got {callback!r}.")
        callbacks = None
        if hasattr(self, "_skl_callbacks") or hasattr(self, "_parent_callback_ctx"):
            self._check_parameters()
            callbacks = ScikitLearnCallbacks(self, X, y, sample_weight)
        with all_or_nothing(self):
            self._forget()
            self._fit(
                X,
                y,
                sample_weight,
                coef_init,
                intercept_init,
                go_on=False,
                partial=False,
                rows=rows,
                callback=callback,
                callbacks=callbacks,
            )
        if callbacks is not None:
            callbacks.end()
        return self

    def _fit(
        self,
        X,
        y,
        sample_weight,
        coef_init=None,
        intercept_init=None,
        *,
        go_on,
        partial,
        rows=None,
        callback=None,
        callbacks=None,
    ):
        """`go_on`: from where the last call ended, its count of updates included."""
        self._check_parameters()
        warm = go_on or (self.warm_start and not partial and hasattr(self, "coef_"))
        X, y, s, one_target = self._validate(
            X, y, sample_weight, reset=not warm, ravel=True, some_weight=not partial
        )
        callback = check.checked_after(callback, X)
        kernels, n_threads = resolve_backend(self.backend, X), self._n_threads()
        random_state = _random_numbers(self.random_state)
        score = None
        if self.early_stopping:
            rows, holdout = self._hold_out(X, y, s)
            score = partial_call(self._score(holdout), kernels, n_threads=n_threads)
        weights = self._weights(y, s)
        if not partial and weights is not None and not np.any(weights, axis=0).all():
            raise ValueError("class_weight and sample_weight are zero together in all rows.")
        if self._automatic:
            rows = counted_rows(weights, rows)
        coef, intercept = self._start(X, y.shape[1], warm, coef_init, intercept_init)
        updates_done = int(self.t_) - 1 if go_on else 0
        progress = Progress(1 if partial else self.max_iter, self.verbose) if self.verbose else None
        fitted = partial_call(self._as_if_fitted, dtype=working_dtype(X), one_target=one_target)
        with overflow_explained(X, y), progress or nullcontext():
            descent = self._descent(
                kernels,
                X,
                y,
                coef,
                intercept,
                memory=self._memory_to_go_on_with(
                    go_on, warm and coef_init is None and intercept_init is None, coef, intercept
                ),
                updates_done=updates_done,
                sample_weight=weights,
                n_threads=n_threads,
                partial=partial,
                rows=rows,
            )
            result = fit_stochastic(
                descent,
                X,
                y,
                sample_weight=weights if np.ndim(weights) < 2 else weights.max(axis=1),
                rows=rows,
                max_iter=1 if partial else self.max_iter,
                tol=None if partial else self.tol,
                n_iter_no_change=self.n_iter_no_change,
                # A stream of rows is taken as it comes, so that its cuts do not matter.
                random_state=random_state if descent.shuffles and self._shuffles(partial) else None,
                penalty=partial_call(penalty_value, alpha=self._alpha, l1_ratio=self._l1_ratio),
                score=score,
                restore_best=self._restores_best,
                keep_interrupted=bool(self.keep_interrupted),
                fit_intercept=bool(self.fit_intercept),
                described=self._rates_in_words(),
                before_epoch=callbacks and callbacks.begin_epoch,
                on_epoch=partial_call(_tell, progress, callback, callbacks, fitted),
            )
        n_visits = X.shape[0] if rows is None else len(rows)
        n_updates = result.n_iter * -(-n_visits // int(self.batch_size))
        before = self.loss_curve_ if go_on else []
        self._set_weights(result.coef, result.intercept, working_dtype(X), one_target)
        self.n_iter_ = result.n_iter
        self.t_ = 1.0 + updates_done + n_updates
        self.loss_curve_ = before + (result.loss_curve if n_visits else [])
        self.backend_ = backend_name(kernels)
        self._take_to(X)
        # The moments and sums of other weights than these are of no use.
        self._memory = descent.memory if result.is_last else None
        if self.early_stopping:
            self.validation_scores_ = result.validation_scores
        else:
            vars(self).pop("validation_scores_", None)
        if not partial:
            self._warn_unless_converged(result)
        return self

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
                f"Raise max_iter, or tol={self.tol}."
            )
        else:
            return
        warnings.warn(message, ConvergenceWarning, stacklevel=6)

    def _as_if_fitted(self, coef, intercept, n_iter: int, *, dtype, one_target: bool):
        """A copy of the estimator as if the fit had ended with these weights."""
        fitted = copy.copy(self)
        fitted._set_weights(coef, intercept, dtype, one_target)
        fitted.n_iter_ = n_iter
        return fitted

    def _set_weights(self, coef, intercept, dtype, one_target: bool) -> None:
        coef = cast_coef(coef, dtype)
        self.coef_ = coef[0] if one_target else coef
        self.intercept_ = np.array(intercept)

    def _start(self, X, n_targets: int, warm: bool, coef_init, intercept_init):
        """Weights to begin from, (t, d) and (t,), of the shapes that the data ask for."""
        d = X.shape[1]
        coef, intercept = np.zeros((n_targets, d)), np.zeros(n_targets)
        if warm:
            coef, intercept = self._coefficients(d)
            if len(coef) != n_targets:
                raise ValueError(
                    f"y has {n_targets} targets, but the weights so far are for {len(coef)}."
                )
        if coef_init is not None:
            coef = _given(coef_init, "coef_init", (n_targets, d))
        if intercept_init is not None:
            intercept = _given(intercept_init, "intercept_init", (n_targets,))
        # For "auto" all is float64 until the end.
        return coef.astype(np.float64 if self._automatic else working_dtype(X)), intercept

    def _memory_to_go_on_with(self, go_on: bool, warm: bool, coef, intercept):
        """What the last call left for this one, if the parameters still ask for that method.

        A copy: a descent may write to it, and this call may yet be interrupted.
        """
        memory: Any = getattr(self, "_memory", None)
        kind = (AutomaticMemory, StreamMemory) if self._automatic else PlainMemory
        parts = memory if isinstance(memory, list) else [memory]
        if not (go_on or warm) or not all(isinstance(part, kind) for part in parts):
            return None
        if self._automatic:
            return memory if go_on else None  # nothing in it is ever written to
        memory = copy.deepcopy(memory)
        if go_on:
            return memory
        # As in scikit-learn: on from the weights themselves, or from their mean, with a new
        # average of them.
        if not isinstance(memory, list):
            return self._without_average(memory, coef, intercept)
        return [
            self._without_average(part, coef[[t]], intercept[[t]]) for t, part in enumerate(memory)
        ]

    def _without_average(self, memory, coef, intercept) -> PlainMemory:
        if self._warm_start_is_averaged:
            memory = memory._replace(coef=coef, intercept=intercept)
        return memory._replace(sums=None)

    def _descent(self, kernels, X, y, coef, intercept, *, memory, sample_weight, **rest) -> Descent:
        """One descent for all targets, or one for each if each weighs the rows in its own way."""
        if np.ndim(sample_weight) < 2:
            rest |= {
                "memory": None if isinstance(memory, list) else memory,
                "sample_weight": sample_weight,
            }
            return self._one_descent(kernels, X, y, coef, intercept, **rest)
        memory = memory if isinstance(memory, list) else [None] * y.shape[1]
        descents = [
            self._one_descent(
                kernels,
                X,
                y[:, [t]],
                coef[[t]],
                intercept[[t]],
                memory=memory[t],
                sample_weight=np.ascontiguousarray(sample_weight[:, t]),
                **rest,
            )
            for t in range(y.shape[1])
        ]
        scales = [descent.loss_scale for descent in descents]
        if not self._automatic or rest["partial"]:
            scales = [1.0]
        return TargetByTarget(descents, sum(scales), sample_weight if self._automatic else None)

    def _one_descent(
        self,
        kernels,
        X,
        y,
        coef,
        intercept,
        *,
        memory,
        sample_weight,
        updates_done,
        partial,
        rows,
        **rest,
    ) -> Descent:
        rest |= {
            "alpha": self._alpha,
            "l1_ratio": self._l1_ratio,
            "fit_intercept": bool(self.fit_intercept),
        }
        if self._automatic:
            rest["sample_weight"] = sample_weight
            if partial:
                return StreamingDescent(kernels, X, y, coef, intercept, memory=memory, **rest)
            rest["batch_size"] = min(int(self.batch_size), X.shape[0])  # beyond: all rows
            return automatic_descent(kernels, X, y, coef, intercept, rows=rows, **rest)
        rest |= {"batch_size": min(int(self.batch_size), X.shape[0]), "memory": memory}
        return PlainDescent(
            kernels,
            X,
            sent_to(y, X),  # once: a kernel would fetch them from the host in each epoch
            coef,
            intercept,
            sample_weight=sent_to(sample_weight, X),
            optimizer=self._optimizer,
            schedule=self._schedule,
            course=Course(self._eta0, float(self.alpha), int(self.max_iter)),
            clip_norm=self.clip_norm,
            average=int(self.average),
            updates_done=updates_done,
            **rest,
        )

    def _hold_out(self, X, y, s) -> tuple[np.ndarray, Holdout]:
        """The rows to descend on, and those that are kept to judge; of positive weight, all."""
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

    def _coefficients(self, d: int) -> tuple[np.ndarray, np.ndarray]:
        """The weights so far, dense, as (t, d) and (t,)."""
        coef = self.coef_.toarray() if hasattr(self.coef_, "toarray") else self.coef_
        return check.as_coefficients(coef, self.intercept_, d)

    def _check_partial_fit(self) -> None:
        if self.early_stopping:
            raise ValueError("early_stopping must be False for partial_fit, which does one epoch.")

    def _shows_non_finite(self) -> bool:
        """The loss of the first epoch is of all rows; the others are sampled, or held out."""
        return not (self._automatic or self.early_stopping)

    # What a subclass decides.

    def _forget(self) -> None:
        """Drop what a fit from the start must find anew."""

    def _weights(self, y, s):
        """Weights of the rows: (n,), (n, t) where they differ from target to target, or None."""
        return s

    def _splits(self, y, **how):
        """Pairs of row numbers: to fit, to judge."""
        return ShuffleSplit(**how).split(y)

    def _score(self, holdout: Holdout):
        """What tells how good the weights are on these rows."""
        return holdout.r_squared

    # What the parameters come to.

    @property
    def _automatic(self) -> bool:
        """Whether rates come from the data: the default, until a rate or an optimizer is given."""
        return self._left_to_us and self.eta0 is None and self._optimizer.rule == "sgd"

    @property
    def _left_to_us(self) -> bool:
        return isinstance(self.learning_rate, str) and self.learning_rate == "auto"

    def _shuffles(self, partial: bool) -> bool:
        return bool(self.shuffle) and not (partial and self._automatic)

    @property
    def _optimizer(self) -> Optimizer:
        return as_optimizer(self.optimizer)

    @property
    def _schedule(self) -> Schedule:
        if self._left_to_us:  # scikit-learn's default, torch's with its optimizers
            name = self._default_schedule if self._optimizer.rule == "sgd" else "constant"
            return as_schedule(name, self.power_t)
        return as_schedule(self.learning_rate, self.power_t)

    @property
    def _eta0(self) -> float:
        return self._optimizer.default_rate if self.eta0 is None else float(self.eta0)

    @property
    def _alpha(self) -> float:
        return 0.0 if self.penalty is None else float(self.alpha)

    @property
    def _l1_ratio(self) -> float:
        if self.penalty == "elasticnet":
            return float(self.l1_ratio)
        return 1.0 if self.penalty == "l1" else 0.0

    @property
    def _restores_best(self) -> bool:
        """Whether early stopping goes back to the best weights, where scikit-learn does not."""
        if self.restore_best_weights is not None:
            return bool(self.restore_best_weights)
        scikit_learns = (
            not self._automatic
            and self._optimizer.rule == "sgd"
            and self._schedule.name in SCIKIT_LEARN_SCHEDULES
        )
        return not scikit_learns

    def _rates_in_words(self) -> str:
        if self._automatic:
            return "learning_rate='auto'"
        schedule, rule = self._schedule, self._optimizer.rule
        name = repr(schedule.name) if isinstance(self.learning_rate, str) else repr(schedule)
        rate = f"alpha={self.alpha:g}" if schedule.name == "optimal" else f"eta0={self._eta0:g}"
        optimizer = "" if rule == "sgd" else f"optimizer={rule!r}, "
        return f"{optimizer}learning_rate={name}, {rate}"

    def _check_parameters(self) -> None:
        if isinstance(self.loss, str) and self.loss in self._other_losses:
            name = type(self).__name__
            raise ValueError(
                f"loss must be 'squared_error', got {self.loss!r}: scikit-learn's {name} "
                f"(sklearn.linear_model.{name}) has that loss."
            )
        check.check_choice(self.loss, "loss", ("squared_error",))
        check.check_choice(self.penalty, "penalty", ("l2", "l1", "elasticnet", None))
        check.check_real(self.alpha, "alpha", 0.0)
        if self.eta0 is not None:
            check.check_real(self.eta0, "eta0", 0.0, open_low=True)
        check.check_real(self.power_t, "power_t", 0.0)
        self._check_rates()
        if self.l1_ratio is not None or self.penalty == "elasticnet":
            check.check_real(self.l1_ratio, "l1_ratio", 0.0, 1.0)
        check.check_whole(self.max_iter, "max_iter", 1)
        if self.tol is not None:
            check.check_real(self.tol, "tol", 0.0)
        check.check_whole(self.n_iter_no_change, "n_iter_no_change", 1)
        check.check_whole(self.batch_size, "batch_size", 1, high=None)
        for name in ("fit_intercept", "shuffle", "early_stopping", "warm_start"):
            check_flag(getattr(self, name), name)
        check_flag(self.keep_interrupted, "keep_interrupted")
        if self.restore_best_weights is not None:
            check_flag(self.restore_best_weights, "restore_best_weights")
        if not isinstance(self.verbose, (bool, np.bool_)):
            check.check_whole(self.verbose, "verbose", 0)
        if not isinstance(self.average, (bool, np.bool_)):
            check.check_whole(self.average, "average", 1)
        if self.early_stopping:
            check.check_real(
                self.validation_fraction, "validation_fraction", 0.0, 1.0, open_low=True
            )
            if self.validation_fraction == 1.0:
                raise ValueError("validation_fraction must be below 1: no row is left to fit.")

    def _check_rates(self) -> None:
        """The optimizer, the schedule, and what does not go together with them."""
        schedule, optimizer = self._schedule, self._optimizer
        if self.clip_norm is not None:
            check.check_real(self.clip_norm, "clip_norm", 0.0, open_low=True)
            if self._automatic:
                raise ValueError(
                    f"clip_norm={self.clip_norm} needs an optimizer or a learning_rate of your "
                    f"own: learning_rate='auto' takes steps that can't be too long."
                )
        if self._automatic:
            return
        if schedule.name == "optimal":
            if self.alpha == 0.0:
                raise ValueError(
                    "alpha must be > 0 for learning_rate='optimal', whose rates go by it."
                )
            if optimizer.rule != "sgd":
                raise ValueError(
                    f"learning_rate='optimal' is a rate for optimizer='sgd' alone, not for "
                    f"{optimizer.rule!r}: take 'constant', 'cosine' or 'one_cycle'."
                )


class SGDRegressor(LinearRegressor, BaseSGD):
    """Linear least squares by stochastic gradient descent.

    Minimises, over n rows of weights s_i::

        1/n sum_i s_i (x_i . coef + intercept - y_i)^2 / 2
            + alpha (l1_ratio |coef|_1 + (1 - l1_ratio)/2 |coef|_2^2)

    A drop-in for :class:`sklearn.linear_model.SGDRegressor` with its squared loss: the same
    parameters, and with ``shuffle=False`` and an explicit `learning_rate` the same weights to
    rounding. What differs is named under Notes.

    Parameters
    ----------
    loss : {"squared_error"}, default="squared_error"
        scikit-learn's SGDRegressor has other losses.
    penalty : {"l2", "l1", "elasticnet"} or None, default="l2"
        Kind of penalty. The intercept is never penalised.
    alpha : float >= 0, default=0.0001
        Strength of the penalty; learning_rate="optimal" derives its rates from it too.
    l1_ratio : float in [0, 1] or None, default=0.15
        Share of L1 in the "elasticnet" penalty; not used with the others.
    fit_intercept : bool, default=True
        Whether to fit an intercept.
    max_iter : int >= 1, default=1000
        Most epochs of `fit`; `partial_fit` always does one.
    tol : float >= 0 or None, default=1e-3
        The fit ends when the objective has not fallen by `tol` below its best for
        `n_iter_no_change` epochs in a row. With an explicit `learning_rate` this is absolute,
        as in scikit-learn; with "auto" it is relative to the scale of the loss on these data.
        None: always `max_iter` epochs.
    shuffle : bool, default=True
        Whether to visit the rows in a new random order in each epoch.
    verbose : int >= 0, default=0
        1: a bar that follows the epochs in terminals and notebooks, a line for each in files
        and pipes. 2 or more: always lines.
    epsilon : float, default=0.1
        Not used: squared error has no use for it. Accepted since scikit-learn has it.
    random_state : int, RandomState or None, default=None
        For shuffling, and for choosing the rows held out by `early_stopping`.
    learning_rate : str, :class:`fastlsgd.optimizers.Schedule` or callable, default="auto"
        - "auto": rates, and a scale for each column, come from the data, so that columns need
          not be scaled first. Give `eta0` and it stands for "invscaling"; give an `optimizer`
          other than "sgd" and it stands for "constant".
        - "constant": eta0
        - "invscaling": eta0 / t^power_t, where t = 1, 2, ... counts the updates
        - "optimal": 1 / (alpha (t0 + t - 1)), with t0 such that the first is alpha^(-1/4)
        - "adaptive": eta0, divided by 5 whenever the stopping rule would end the fit, until
          it is below 1e-6
        - "step": eta0, divided by 10 every 10 epochs
        - "cosine": half a cosine from eta0 to 0 over the updates of `max_iter` epochs
        - "one_cycle": up from eta0 / 25 to eta0 and down again, over the same updates
        - an instance from :mod:`fastlsgd.optimizers`, for other parameters than these
        - a callable: the rate of epoch 0, 1, ...

        t is counted on through `partial_fit`, where `max_iter` calls of equal size are what
        `max_iter` epochs are in `fit`: beyond, "cosine" and "one_cycle" stay at their end.
    eta0 : float > 0 or None, default=None
        Rate of all schedules but "optimal". None: the default of the `optimizer`, which is
        0.01 for "sgd", "rmsprop" and "adagrad", 0.001 for the others.
    power_t : float >= 0, default=0.25
        Exponent of "invscaling".
    early_stopping : bool, default=False
        Whether to hold out some rows, and let R2 on them decide when the fit ends.
    validation_fraction : float in (0, 1), default=0.1
        Share of the rows held out by `early_stopping`.
    n_iter_no_change : int >= 1, default=5
        Epochs without improvement after which the fit ends.
    restore_best_weights : bool or None, default=None
        Whether `early_stopping` ends with the weights of the epoch with the best score, not with
        the last ones. None: it does, but for optimizer="sgd" with scikit-learn's own schedules,
        where the last ones are scikit-learn's.
    warm_start : bool, default=False
        Whether `fit` begins from the weights of the fit before.
    average : bool or int >= 1, default=False
        Report the mean of the weights over all updates (True), or from update number
        `average` on. With learning_rate="auto" this is left to the method.
    batch_size : int >= 1, default=1
        Rows of an update, whose gradients are averaged. The last of an epoch may have fewer.
    optimizer : str or :class:`fastlsgd.optimizers.Optimizer`, default="sgd"
        "sgd", "momentum", "nesterov", "rmsprop", "adagrad", "adam", "adamw", or an instance from
        :mod:`fastlsgd.optimizers`. Its steps are torch.optim's, with the L2 penalty as
        `weight_decay`; columns should be of like scale. Its moments go on through `partial_fit`
        and `warm_start`. L1 is a proximal step in the optimizer's metric, so that zeros are
        exact. On sparse X an update costs n_features numbers, whatever its rows hold (see
        docs/optimizers.md for exceptions).
    clip_norm : float > 0 or None, default=None
        Largest norm of the gradient of a mini-batch and target, the intercept's part included
        and the penalty's not; a longer one is scaled down, as by torch's ``clip_grad_norm_``.
    keep_interrupted : bool, default=False
        Whether Ctrl-C ends `fit` with the weights of the last complete epoch and a warning, where
        there is one. Else it leaves the estimator as it was.
    backend : {"auto", "native", "numba", "reference", "cuda"} or None, default=None
        Kernels to use. None: as set by :func:`fastlsgd.set_config`.
    n_jobs : int or None, default=None
        Most threads of a kernel; -1 for all processors. None: as set by
        :func:`fastlsgd.set_config`.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
        Weights, of X's dtype.
    intercept_ : ndarray of shape (1,) or (n_targets,)
        Intercept, float64.
    n_iter_ : int
        Epochs of the last call.
    t_ : float
        1 + the number of updates since `fit` began.
    loss_curve_ : list of float
        For each epoch the mean of half the squared residuals as they were met, before the
        update that they led to; summed over targets, unweighted, without the penalty.
        `partial_fit` adds to it.
    validation_scores_ : list of float
        R2 on the held-out rows after each epoch. Only with `early_stopping`.
    backend_ : str
        Name of the backend that did the work.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where X has names that are all strings.

    See Also
    --------
    LeastSquaresRegressor : Full-batch descent, to a tolerance.

    Notes
    -----
    Differences from scikit-learn's SGDRegressor:

    - Sparse X gives the weights that the same numbers give as a dense X. There, the
      intercept's steps are multiplied by 0.01 for sparse X (issues 11178 and 25198).
    - Where the rates are too large, `fit` raises ValueError and names a rate that holds,
      instead of limiting the residuals to 1e12.
    - With learning_rate="auto" the weights of the rows count beside each other: they are divided
      by their mean, so that weights of 2 are rows that stand there twice.
    - The stopping rule takes the penalty at the weights after each epoch, not its mean over
      the epoch, and R2 on held-out rows is that of the weights that would be reported.
    - Shuffling uses another generator, so the weights differ with ``shuffle=True``.
    - y may have many targets; all of them see the rows in the same order.

    An interrupted or failed fit leaves the estimator as it was.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlsgd import SGDRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2)) * [1.0, 1000.0]
    >>> y = X @ [3.0, 0.002] + 1.0
    >>> model = SGDRegressor(random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.99
    True

    With a rate of one's own, on columns of like scale:

    >>> model = SGDRegressor(learning_rate="constant", eta0=0.01, random_state=0)
    >>> model.fit(X / [1.0, 1000.0], y).coef_.round(1).tolist()
    [3.0, 2.0]
    """

    def __init__(
        self,
        loss="squared_error",
        *,
        penalty="l2",
        alpha=0.0001,
        l1_ratio=0.15,
        fit_intercept=True,
        max_iter=1000,
        tol=1e-3,
        shuffle=True,
        verbose=0,
        epsilon=0.1,
        random_state=None,
        learning_rate="auto",
        eta0=None,
        power_t=0.25,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=5,
        restore_best_weights=None,
        warm_start=False,
        average=False,
        batch_size=1,
        optimizer="sgd",
        clip_norm=None,
        keep_interrupted=False,
        backend=None,
        n_jobs=None,
    ):
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.shuffle = shuffle
        self.verbose = verbose
        self.epsilon = epsilon
        self.random_state = random_state
        self.learning_rate = learning_rate
        self.eta0 = eta0
        self.power_t = power_t
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.restore_best_weights = restore_best_weights
        self.warm_start = warm_start
        self.average = average
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.clip_norm = clip_norm
        self.keep_interrupted = keep_interrupted
        self.backend = backend
        self.n_jobs = n_jobs

    def _has_one_target(self) -> bool:
        return len(self.intercept_) == 1  # sparsify gives coef_ two dimensions

    @with_callbacks
    def fit(self, X, y, coef_init=None, intercept_init=None, sample_weight=None, *, callback=None):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            float32 and float64 are used as they are, in any memory order, without a copy.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
        coef_init : array-like of shape (n_features,) or (n_targets, n_features), optional
            Weights to begin from. Default: zeros, or the last ones with `warm_start`.
        intercept_init : float or array-like of shape (1,) or (n_targets,), optional
            Intercept to begin from.
        sample_weight : array-like of shape (n_samples,), optional
            Factor of each row's gradient. Not negative, not all zero. Default: ones.
        callback : callable, optional
            Called after each epoch with an :class:`fastlsgd.EpochReport`: epoch, loss,
            validation_score, rate, seconds. True ends the fit.

        Returns
        -------
        self : SGDRegressor

        Raises
        ------
        ValueError
            If a parameter or the data are not allowed, or the rates are too large.
        ImportError
            If `backend` is not installed.
        """
        return self._fit_heard(X, y, sample_weight, coef_init, intercept_init, callback)

    def partial_fit(self, X, y, sample_weight=None):
        """Do one epoch on these rows, from where the last call ended.

        With ``learning_rate="auto"`` the rows are taken in the order given, and how they are cut
        into calls makes no difference beyond rounding. For up to 512 features the weights are then
        those that minimise the objective over all rows seen so far; `batch_size` and `shuffle`
        play no part. With any other learning rate a call is one epoch over its own rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        self : SGDRegressor

        Raises
        ------
        ValueError
            As for `fit`, or if `early_stopping` is on: one epoch leaves nothing to stop.
        """
        self._check_partial_fit()
        with all_or_nothing(self):
            return self._fit(X, y, sample_weight, go_on=hasattr(self, "coef_"), partial=True)


def _tell(progress, callback, callbacks, fitted, report, coef, intercept) -> bool:
    """Tell all who listen of an epoch; whether one of them ends the fit."""
    if progress is not None:
        progress(report)
    stop = callback is not None and bool(callback(report))
    if callbacks is not None:
        stop |= callbacks.end_epoch(partial_call(fitted, coef, intercept, report.epoch))
    return stop


def _given(value, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A start that the user gave; one target may leave out its axis."""
    array = check.as_float_array(check.on_host(value, name), name, np.float64)
    if array.shape != shape and not (shape[0] == 1 and array.shape == shape[1:]):
        raise ValueError(f"{name} must have shape {shape}, got shape {array.shape}.")
    check.explain_non_finite(**{name: array})
    return array.reshape(shape)


def _random_numbers(random_state) -> np.random.RandomState:
    """scikit-learn's `check_random_state`, with the parameter's name in what it says."""
    try:
        return check_random_state(random_state)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"random_state must be None, a whole number in [0, 2**32) or a "
            f"numpy.random.RandomState, got {check.shown(random_state)}."
        ) from error
