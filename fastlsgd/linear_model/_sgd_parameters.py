"""The parameters of the stochastic estimators: their checks and their meaning."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import numpy as np

from .. import _validation as check
from ..optimizers import Course, Optimizer, Schedule, as_optimizer, as_schedule
from ..solvers.plain_descent import Steps
from ..solvers.training import Objective

# Schedules with which fits give scikit-learn's weights.
SCIKIT_LEARN_SCHEDULES = ("constant", "invscaling", "optimal", "adaptive")
# What `_check_parameters` looks at, and the sets of plain values that have passed it.
_CHECKED_PARAMETERS = attrgetter(
    "loss",
    "penalty",
    "alpha",
    "eta0",
    "power_t",
    "learning_rate",
    "optimizer",
    "clip_norm",
    "l1_ratio",
    "max_iter",
    "tol",
    "n_iter_no_change",
    "batch_size",
    "fit_intercept",
    "shuffle",
    "early_stopping",
    "warm_start",
    "keep_interrupted",
    "restore_best_weights",
    "verbose",
    "average",
    "validation_fraction",
)
_PLAIN = {bool, int, float, str, type(None)}
_passed: set[tuple] = set()
MOST_PASSED = 1000


class SGDParameters:
    """The parameters that `SGDRegressor` and `SGDClassifier` have in common."""

    loss: Any
    penalty: Any
    alpha: Any
    l1_ratio: Any
    fit_intercept: Any
    max_iter: Any
    tol: Any
    shuffle: Any
    verbose: Any
    random_state: Any
    learning_rate: Any
    eta0: Any
    power_t: Any
    early_stopping: Any
    validation_fraction: Any
    n_iter_no_change: Any
    restore_best_weights: Any
    warm_start: Any
    average: Any
    batch_size: Any
    optimizer: Any
    clip_norm: Any
    keep_interrupted: Any

    # The losses of scikit-learn's estimator of the same name besides squared error.
    _other_losses: tuple[str, ...] = ("huber", "epsilon_insensitive", "squared_epsilon_insensitive")
    # The schedule for `eta0` alone: scikit-learn's default for this estimator.
    _default_schedule = "invscaling"

    @property
    def _automatic(self) -> bool:
        """Whether rates come from the data, as they do unless a rate or an optimizer is given."""
        if self.eta0 is not None or not self._left_to_us:
            return False
        name = self.optimizer
        return (type(name) is str and name == "sgd") or self._optimizer.rule == "sgd"

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
        if self._left_to_us:  # scikit-learn's default, or torch's with its optimizers
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

    def _objective(self, y_exponent: int = 0) -> Objective:
        return Objective(self._alpha, self._l1_ratio, bool(self.fit_intercept), int(y_exponent))

    def _steps(self, batch_size: int) -> Steps:
        """Return the steps of a descent whose rates do not come from the data."""
        return Steps(
            self._optimizer,
            self._schedule,
            Course(self._eta0, float(self.alpha), int(self.max_iter)),
            batch_size,
            self.clip_norm,
            int(self.average),
        )

    @property
    def _restores_best(self) -> bool:
        """Whether early stopping goes back to the best weights, which scikit-learn does not do."""
        if self.restore_best_weights is not None:
            return bool(self.restore_best_weights)
        scikit_learns = (
            not self._automatic
            and self._optimizer.rule == "sgd"
            and self._schedule.name in SCIKIT_LEARN_SCHEDULES
        )
        return not scikit_learns

    def _rates_in_words(self) -> str | None:
        """Return the user's rates as text for error messages; None where the data decide."""
        if self._automatic:
            return None
        schedule, rule = self._schedule, self._optimizer.rule
        name = repr(schedule.name) if isinstance(self.learning_rate, str) else repr(schedule)
        rate = f"alpha={self.alpha:g}" if schedule.name == "optimal" else f"eta0={self._eta0:g}"
        optimizer = "" if rule == "sgd" else f"optimizer={rule!r}, "
        return f"{optimizer}learning_rate={name}, {rate}"

    def _check_parameters(self) -> None:
        """Check all parameters; plain values that have passed before are not checked again.

        The checks take 60 microseconds, which is a sixth of what `partial_fit` of a row takes.
        """
        values = _CHECKED_PARAMETERS(self)
        kinds = tuple(map(type, values))
        key = (type(self), values, kinds) if _PLAIN.issuperset(kinds) else None
        if key is not None and key in _passed:
            return
        self._check_each_parameter()
        if key is not None:
            if len(_passed) >= MOST_PASSED:
                _passed.clear()
            _passed.add(key)

    def _check_each_parameter(self) -> None:
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
            check.check_flag(getattr(self, name), name)
        check.check_flag(self.keep_interrupted, "keep_interrupted")
        if self.restore_best_weights is not None:
            check.check_flag(self.restore_best_weights, "restore_best_weights")
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
        """Check the optimizer, the schedule, and that the other parameters are compatible."""
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
