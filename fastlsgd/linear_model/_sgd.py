"""Stochastic gradient descent behind scikit-learn's contract: parameters and fitted attributes."""

from __future__ import annotations

import copy
import warnings
from functools import partial as partial_call

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import ShuffleSplit
from sklearn.utils import check_random_state

from .. import _validation as check
from ..kernels import resolve_backend
from ..optimizers import Course, Optimizer, Schedule, as_optimizer, as_schedule
from ..solvers.automatic import AutomaticDescent, AutomaticMemory
from ..solvers.rows import take_rows
from ..solvers.stochastic import (
    Descent,
    Holdout,
    PlainDescent,
    PlainMemory,
    fit_stochastic,
    penalty_value,
)
from ._base import (
    LinearModel,
    LinearRegressor,
    all_or_nothing,
    backend_name,
    cast_coef,
    check_flag,
    overflow_explained,
)

OTHER_LOSSES = ("huber", "epsilon_insensitive", "squared_epsilon_insensitive")


class BaseSGD(LinearModel):
    """What the stochastic estimators share: from their parameters to a descent, and back."""

    def _fit(self, X, y, sample_weight, coef_init=None, intercept_init=None, *, go_on, partial):
        """`go_on`: from where the last call ended, its count of updates included."""
        self._check_parameters()
        kernels, n_threads = resolve_backend(self.backend, X), self._n_threads()
        warm = go_on or (self.warm_start and not partial and hasattr(self, "coef_"))
        X, y, s, one_target = self._validate(X, y, sample_weight, reset=not warm, ravel=True)
        random_state = check_random_state(self.random_state)
        rows, score = None, None
        if self.early_stopping:
            rows, holdout = self._hold_out(X, y, s)
            score = partial_call(holdout.r_squared, kernels, n_threads=n_threads)
        coef, intercept = self._start(X, y.shape[1], warm, coef_init, intercept_init)
        updates_done = int(self.t_) - 1 if go_on else 0
        with overflow_explained(X, y):
            descent = self._descent(
                kernels,
                X,
                y,
                coef,
                intercept,
                memory=self._memory_to_go_on_with(
                    go_on, warm and coef_init is None and intercept_init is None
                ),
                updates_done=updates_done,
                sample_weight=s,
                n_threads=n_threads,
            )
            result = fit_stochastic(
                descent,
                X,
                y,
                sample_weight=s,
                rows=rows,
                max_iter=1 if partial else self.max_iter,
                tol=None if partial else self.tol,
                n_iter_no_change=self.n_iter_no_change,
                random_state=random_state if self.shuffle else None,
                penalty=partial_call(penalty_value, alpha=self._alpha, l1_ratio=self._l1_ratio),
                score=score,
                fit_intercept=bool(self.fit_intercept),
                described=self._rates_in_words(),
                report=print if self.verbose else None,
            )
        n_visits = X.shape[0] if rows is None else len(rows)
        n_updates = result.n_iter * -(-n_visits // self.batch_size)
        before = self.loss_curve_ if go_on else []
        self._set_weights(result.coef, result.intercept, X.dtype, one_target)
        self.n_iter_ = result.n_iter
        self.t_ = 1.0 + updates_done + n_updates
        self.loss_curve_ = before + result.loss_curve
        self.backend_ = backend_name(kernels)
        self._take_to(X)
        self._memory = descent.memory
        if self.early_stopping:
            self.validation_scores_ = result.validation_scores
        else:
            vars(self).pop("validation_scores_", None)
        if not (partial or result.converged or self.tol is None):
            warnings.warn(
                f"The loss still falls after max_iter={self.max_iter} epochs (the last: "
                f"{result.loss_curve[-1]:.6g}). Raise max_iter, or tol={self.tol}.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self

    def _set_weights(self, coef, intercept, dtype, one_target: bool) -> None:
        coef = cast_coef(coef, dtype)
        self.coef_ = coef[0] if one_target else coef
        self.intercept_ = np.array(intercept)

    def _start(self, X, n_targets: int, warm: bool, coef_init, intercept_init):
        """Weights to begin from, (t, d) and (t,), of the shapes that the data ask for."""
        d = X.shape[1]
        coef, intercept = np.zeros((n_targets, d)), np.zeros(n_targets)
        if warm:
            coef, intercept = check.as_coefficients(self.coef_, self.intercept_, d)
            if len(coef) != n_targets:
                raise ValueError(
                    f"y has {n_targets} targets, but the weights so far are for {len(coef)}."
                )
        if coef_init is not None:
            coef = _given(coef_init, "coef_init", (n_targets, d))
        if intercept_init is not None:
            intercept = _given(intercept_init, "intercept_init", (n_targets,))
        return coef.astype(X.dtype), intercept

    def _memory_to_go_on_with(self, go_on: bool, warm: bool):
        """What the last call left for this one, if the parameters still ask for that method.

        A copy: a descent may write to it, and this call may yet be interrupted.
        """
        memory = getattr(self, "_memory", None)
        kind = AutomaticMemory if self._automatic else PlainMemory
        if not (go_on or warm) or not isinstance(memory, kind):
            return None
        memory = copy.deepcopy(memory)
        if go_on:
            return memory
        # As in scikit-learn: on from the weights themselves, with a new average of them.
        return memory._replace(sums=None) if isinstance(memory, PlainMemory) else None

    def _descent(self, kernels, X, y, coef, intercept, *, memory, updates_done, **rest) -> Descent:
        rest |= {
            "batch_size": int(self.batch_size),
            "alpha": self._alpha,
            "l1_ratio": self._l1_ratio,
            "fit_intercept": bool(self.fit_intercept),
            "memory": memory,
        }
        if self._automatic:
            return AutomaticDescent(kernels, X, y, coef, intercept, **rest)
        return PlainDescent(
            kernels,
            X,
            y,
            coef,
            intercept,
            optimizer=self._optimizer,
            schedule=self._schedule,
            course=Course(self._eta0, float(self.alpha), int(self.max_iter)),
            clip_norm=self.clip_norm,
            average=int(self.average),
            updates_done=updates_done,
            **rest,
        )

    def _hold_out(self, X, y, s) -> tuple[np.ndarray, Holdout]:
        """The rows to descend on, and those that are kept to judge."""
        n = X.shape[0]
        split = ShuffleSplit(test_size=self.validation_fraction, random_state=self.random_state)
        try:
            train, held = next(split.split(np.empty((n, 1))))
        except ValueError as error:
            raise ValueError(
                f"early_stopping can't split {n} rows with validation_fraction="
                f"{self.validation_fraction}: {error}"
            ) from error
        train, held = np.sort(train), np.sort(held)
        if len(held) < 2:
            raise ValueError(
                f"early_stopping needs two held-out rows for R2, but validation_fraction="
                f"{self.validation_fraction} of {n} rows is {len(held)}."
            )
        for rows, which in ((held, "held-out rows"), (train, "rows to fit")):
            if s is not None and not s[rows].any():
                raise ValueError(
                    f"sample_weight is all zero on the {which} of early_stopping: take another "
                    f"random_state."
                )
        return train, Holdout(take_rows(X, held), y[held], None if s is None else s[held])

    # What the parameters come to.

    @property
    def _automatic(self) -> bool:
        """Whether rates come from the data: the default, until a rate or an optimizer is given."""
        return self._left_to_us and self.eta0 is None and self._optimizer.rule == "sgd"

    @property
    def _left_to_us(self) -> bool:
        return isinstance(self.learning_rate, str) and self.learning_rate == "auto"

    @property
    def _optimizer(self) -> Optimizer:
        return as_optimizer(self.optimizer)

    @property
    def _schedule(self) -> Schedule:
        if self._left_to_us:  # scikit-learn's default, torch's with its optimizers
            name = "invscaling" if self._optimizer.rule == "sgd" else "constant"
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
        return {"l1": 1.0, "elasticnet": self.l1_ratio}.get(self.penalty, 0.0)

    def _rates_in_words(self) -> str:
        if self._automatic:
            return "learning_rate='auto'"
        schedule, rule = self._schedule, self._optimizer.rule
        name = repr(schedule.name) if isinstance(self.learning_rate, str) else repr(schedule)
        rate = f"alpha={self.alpha:g}" if schedule.name == "optimal" else f"eta0={self._eta0:g}"
        optimizer = "" if rule == "sgd" else f"optimizer={rule!r}, "
        return f"{optimizer}learning_rate={name}, {rate}"

    def _check_parameters(self) -> None:
        if self.loss in OTHER_LOSSES:
            raise ValueError(
                f"loss must be 'squared_error', got {self.loss!r}: scikit-learn's SGDRegressor "
                f"(sklearn.linear_model.SGDRegressor) has that loss."
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
        check.check_whole(self.batch_size, "batch_size", 1)
        for name in ("fit_intercept", "shuffle", "early_stopping", "warm_start"):
            check_flag(getattr(self, name), name)
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
        Above 0, print a line for each epoch.
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
        exact. On sparse X an update costs n_features numbers, whatever the row holds.
    clip_norm : float > 0 or None, default=None
        Largest norm of the gradient of a mini-batch and target, the intercept's part included
        and the penalty's not; a longer one is scaled down, as by torch's ``clip_grad_norm_``.
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
        warm_start=False,
        average=False,
        batch_size=1,
        optimizer="sgd",
        clip_norm=None,
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
        self.warm_start = warm_start
        self.average = average
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.clip_norm = clip_norm
        self.backend = backend
        self.n_jobs = n_jobs

    def fit(self, X, y, coef_init=None, intercept_init=None, sample_weight=None):
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
        with all_or_nothing(self):
            return self._fit(
                X, y, sample_weight, coef_init, intercept_init, go_on=False, partial=False
            )

    def partial_fit(self, X, y, sample_weight=None):
        """Do one epoch on these rows, from where the last call ended.

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
        if self.early_stopping:
            raise ValueError("early_stopping must be False for partial_fit, which does one epoch.")
        with all_or_nothing(self):
            return self._fit(X, y, sample_weight, go_on=hasattr(self, "coef_"), partial=True)


def _given(value, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A start that the user gave; one target may leave out its axis."""
    array = check.as_float_array(value, name, np.float64)
    if array.shape != shape and not (shape[0] == 1 and array.shape == shape[1:]):
        raise ValueError(f"{name} must have shape {shape}, got shape {array.shape}.")
    check.explain_non_finite(**{name: array})
    return array.reshape(shape)
