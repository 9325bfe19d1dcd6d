"""`SGDRegressor`: stochastic gradient descent for numeric targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import numpy as np

from .._sklearn_compat import with_callbacks
from ..optimizers import Optimizer, Schedule
from ..solvers.serial_blas import serial_blas
from ..solvers.stochastic import EpochReport
from ._base import LinearRegressor, all_or_nothing
from ._stochastic import BaseSGD, Call, Start
from ._streamed_sgd import StreamedSGD


class SGDRegressor(StreamedSGD, LinearRegressor, BaseSGD):
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
        as in scikit-learn; with "auto" it is relative to the scale of the loss on these data, and
        the fit also ends when no further epoch could lower the objective by a tenth of it. None:
        always `max_iter` epochs.
    shuffle : bool, default=True
        Whether to visit the rows in a new random order in each epoch. With "auto", neither their
        order nor `batch_size` makes a difference.
    verbose : int >= 0, default=0
        1: a bar that follows the epochs in terminals and notebooks, a line for each in files
        and pipes. 2 or more: always lines.
    epsilon : float, default=0.1
        Not used: squared error has no use for it. Accepted since scikit-learn has it.
    random_state : int, RandomState or None, default=None
        For shuffling, and for choosing the rows held out by `early_stopping`.
    learning_rate : str, :class:`fastlsgd.optimizers.Schedule` or callable, default="auto"
        - "auto": the steps come from the data, so that columns need not be scaled first. An
          epoch is one step along the gradient of all rows. For up to 512 features it is Newton's
          (with L1, proximal Newton's), from the moments of the rows, and mostly one epoch
          verifies the minimum. For more, and for rows that are mostly zeros, it is a step of
          conjugate gradients (with L1, of accelerated proximal descent), and the fit ends where
          the objective can, by an estimate, not fall by `tol` any more. Give `eta0` and "auto"
          stands for "invscaling"; give an `optimizer` other than "sgd" and it stands for
          "constant".
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
    feature_names_in_ : ndarray of shape (n_features,)
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
    - With learning_rate="auto", an L1 penalty and more than 512 features (or X that is mostly
      zeros), some rows count for less than their weights say, if a column's root mean square is
      more than 1e3 times its spread in ordinary rows, or the mean weight more than 1e6 times the
      median: a row that is k > 10 spreads from the others counts with a share (10 / k)^2 of its
      weight. Without L1, rows count in full up to 1e8 spreads, and of up to 512 features always.
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
        loss: str = "squared_error",
        *,
        penalty: str | None = "l2",
        alpha: float = 0.0001,
        l1_ratio: float | None = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        shuffle: bool = True,
        verbose: int = 0,
        epsilon: float = 0.1,
        random_state: int | np.random.RandomState | None = None,
        learning_rate: str | Schedule | Callable[[int], float] = "auto",
        eta0: float | None = None,
        power_t: float = 0.25,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        restore_best_weights: bool | None = None,
        warm_start: bool = False,
        average: bool | int = False,
        batch_size: int = 1,
        optimizer: str | Optimizer = "sgd",
        clip_norm: float | None = None,
        keep_interrupted: bool = False,
        backend: str | None = None,
        n_jobs: int | None = None,
    ) -> None:
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
    def fit(
        self,
        X,
        y,
        coef_init=None,
        intercept_init=None,
        sample_weight=None,
        *,
        callback: Callable[[EpochReport], object] | None = None,
    ) -> Self:
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
        start = Start(coef_init, intercept_init)
        return self._fit_heard(X, y, sample_weight, start, callback)

    def partial_fit(self, X, y, sample_weight=None) -> Self:
        """Do one epoch on these rows, from where the last call ended.

        With ``learning_rate="auto"`` the rows are taken in the order given, and how they are cut
        into calls makes no difference beyond rounding. For up to 2,048 features the weights are
        those that minimise the objective over all rows seen so far, if `partial_fit` has seen them
        all; `batch_size` and `shuffle` play no part. After a `fit`, this holds for up to 512
        features. For more, the rows of that `fit` count by a summary, and the weights are
        approximate: the largest were wrong by 0.2 to 1.7 % for up to 1,024 features, and by 2 to
        60 % above. For exact weights call `partial_fit` from the start, or `fit` on all rows.
        With any other learning rate a call is one epoch over its own rows.

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
        with all_or_nothing(self), serial_blas():
            return self._fit(X, y, sample_weight, Call.partial_fit(self))
