"""`SGDClassifier`: one-vs-rest by stochastic gradient descent, with a target per class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.utils.class_weight import compute_class_weight

from .. import _validation as check
from .._sklearn_compat import with_callbacks
from ..kernels.contract import working_dtype
from ..optimizers import Optimizer, Schedule
from ..solvers.holdout import Holdout, class_numbers
from ..solvers.stochastic import EpochReport
from ._base import (
    LinearClassifier,
    all_or_nothing,
    beside,
    check_class_weight,
    check_classes,
    check_targets_are_classes,
    classes_of_calls,
    refuse_balanced,
    signed_targets,
)
from ._stochastic import BaseSGD, Call, Start
from ._streamed_sgd import StreamedSGD


class SGDClassifier(StreamedSGD, LinearClassifier, BaseSGD):
    """Linear classifier: least squares to one target per class, by stochastic gradient descent.

    Each class has a target that is 1 in its own rows and -1 in all others (one-vs-rest); with two
    classes there is one target, 1 for ``classes_[1]``. The targets are fitted as by
    :class:`SGDRegressor`, all of them in one pass over X an epoch, and the class with the highest
    score is predicted.

    A drop-in for :class:`sklearn.linear_model.SGDClassifier` with ``loss="squared_error"``: the
    same parameters, and with ``shuffle=False`` and an explicit `learning_rate` the same weights to
    rounding. What differs is named under Notes.

    Parameters
    ----------
    loss : {"squared_error"}, default="squared_error"
        scikit-learn's SGDClassifier has other losses; "hinge" is its default.
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
        The fit ends when the objective, summed over classes, has not fallen by `tol` below its
        best for `n_iter_no_change` epochs in a row. With an explicit `learning_rate` this is
        absolute, as in scikit-learn; with "auto" it is relative to the scale of the loss on these
        data, and the fit also ends when no further epoch could lower the objective by a tenth of
        it. None: always `max_iter` epochs.
    shuffle : bool, default=True
        Whether to visit the rows in a new random order in each epoch. With "auto", neither their
        order nor `batch_size` makes a difference.
    verbose : int >= 0, default=0
        1: a bar that follows the epochs in terminals and notebooks, a line for each in files
        and pipes. 2 or more: always lines.
    epsilon : float, default=0.1
        Not used: squared error has no use for it. Accepted since scikit-learn has it.
    n_jobs : int or None, default=None
        Most threads of a kernel; -1 for all processors. None: as set by
        :func:`fastlsgd.set_config`.
    random_state : int, RandomState or None, default=None
        For shuffling, and for choosing the rows held out by `early_stopping`.
    learning_rate : str, :class:`fastlsgd.optimizers.Schedule` or callable, default="auto"
        As in :class:`SGDRegressor`. With "auto", give `eta0` and it stands for "optimal",
        scikit-learn's default here, which does not use `eta0`.
    eta0 : float > 0 or None, default=None
        Rate of all schedules but "optimal". None: the default of the `optimizer`, which is
        0.01 for "sgd", "rmsprop" and "adagrad", 0.001 for the others.
    power_t : float >= 0, default=0.5
        Exponent of "invscaling".
    early_stopping : bool, default=False
        Whether to hold out some rows, the same share of each class, and let the accuracy on them
        decide when the fit ends.
    validation_fraction : float in (0, 1), default=0.1
        Share of the rows held out by `early_stopping`.
    n_iter_no_change : int >= 1, default=5
        Epochs without improvement after which the fit ends.
    restore_best_weights : bool or None, default=None
        Whether `early_stopping` ends with the weights of the epoch with the best score, not with
        the last ones. None: it does, but for optimizer="sgd" with scikit-learn's own schedules,
        where the last ones are scikit-learn's.
    class_weight : dict of label to float >= 0, "balanced" or None, default=None
        Factor of the gradient of a class's own rows, in the target of that class; with two
        classes each row has the factor of its own class. "balanced" stands for
        ``n_rows / (n_classes * n_rows_of_the_class)``. With more than two classes each then
        has a pass over X of its own, since it weighs the rows in its own way.
    warm_start : bool, default=False
        Whether `fit` begins from the weights of the fit before.
    average : bool or int >= 1, default=False
        Report the mean of the weights over all updates (True), or from update number
        `average` on. With learning_rate="auto" this is left to the method.
    batch_size : int >= 1, default=1
        Rows of an update, whose gradients are averaged. The last of an epoch may have fewer.
    optimizer : str or :class:`fastlsgd.optimizers.Optimizer`, default="sgd"
        As in :class:`SGDRegressor`.
    clip_norm : float > 0 or None, default=None
        Largest norm of the gradient of a mini-batch and class, as in :class:`SGDRegressor`.
    keep_interrupted : bool, default=False
        Whether Ctrl-C ends `fit` with the weights of the last complete epoch and a warning, where
        there is one. Else it leaves the estimator as it was.
    backend : {"auto", "native", "numba", "reference", "cuda"} or None, default=None
        Kernels to use. None: as set by :func:`fastlsgd.set_config`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted; where y was, if X and y were on a GPU.
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Weights, of X's dtype; one row of them where there are two classes.
    intercept_ : ndarray of shape (1,) or (n_classes,)
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
        Accuracy on the held-out rows after each epoch. Only with `early_stopping`.
    backend_ : str
        Name of the backend that did the work.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns, where X has names that are all strings.

    See Also
    --------
    LeastSquaresClassifier : The same targets by full-batch descent, to a tolerance.
    SGDRegressor : Targets that are numbers.

    Notes
    -----
    Differences from scikit-learn's SGDClassifier, beside those named in :class:`SGDRegressor`
    (among them, how far rows of huge numbers count with an L1 penalty):

    - Three classes or more stop together and see the rows in the same order. There each class is
      a fit of its own, with its own order and its own end, and `n_iter_` is the longest; here none
      stops before the sum of all has stopped falling. With ``tol=None`` and ``shuffle=False`` the
      weights are the same to rounding.
    - `early_stopping` watches the accuracy over all classes. There each class is held to its own.
    - Labels in a later call of `partial_fit` that are not in `classes_` are refused. There they
      count as none of the classes.
    - With `average`, each call of `partial_fit` goes on from the intercept that the last call ended
      with. There, from the second call on (with three classes or more: the third), that intercept
      is lost or mixed with its mean.
    - `class_weight="balanced"` is refused by each call of `partial_fit`, not the first one alone.

    Squared error gives no probabilities: `predict_proba` is not there, as in scikit-learn, and
    :class:`sklearn.calibration.CalibratedClassifierCV` makes some from `decision_function`.

    Targets of -1 and 1 take ``n_rows * n_classes`` numbers of the weights' dtype, or else of X's.

    An interrupted or failed fit leaves the estimator as it was.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from fastlsgd import SGDClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = SGDClassifier(random_state=0).fit(X, y)
    >>> model.coef_.shape, model.score(X, y) > 0.8
    ((3, 4), True)
    """

    _other_losses = (
        "hinge",
        "log_loss",
        "modified_huber",
        "squared_hinge",
        "perceptron",
        *BaseSGD._other_losses,
    )
    _default_schedule = "optimal"
    _warm_start_is_averaged = True

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
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        learning_rate: str | Schedule | Callable[[int], float] = "auto",
        eta0: float | None = None,
        power_t: float = 0.5,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        restore_best_weights: bool | None = None,
        class_weight: Mapping[Any, float] | str | None = None,
        warm_start: bool = False,
        average: bool | int = False,
        batch_size: int = 1,
        optimizer: str | Optimizer = "sgd",
        clip_norm: float | None = None,
        keep_interrupted: bool = False,
        backend: str | None = None,
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
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.learning_rate = learning_rate
        self.eta0 = eta0
        self.power_t = power_t
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.restore_best_weights = restore_best_weights
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.average = average
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.clip_norm = clip_norm
        self.keep_interrupted = keep_interrupted
        self.backend = backend

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
        y : array-like of shape (n_samples,)
            Labels: numbers that are whole, strings or others that sort; two of them or more. They
            may be on the host though X is on a GPU.
        coef_init : array-like of the shape of `coef_`, optional
            Weights to begin from. Default: zeros, or the last ones with `warm_start`.
        intercept_init : array-like of the shape of `intercept_`, optional
            Intercept to begin from.
        sample_weight : array-like of shape (n_samples,), optional
            Factor of each row's gradient, beside that of `class_weight`. Not negative, not all
            zero. Default: ones.
        callback : callable, optional
            Called after each epoch with an :class:`fastlsgd.EpochReport`: epoch, loss,
            validation_score, rate, seconds. True ends the fit.

        Returns
        -------
        self : SGDClassifier

        Raises
        ------
        ValueError
            If a parameter or the data are not allowed, or the rates are too large.
        ImportError
            If `backend` is not installed.
        """
        start = Start(coef_init, intercept_init)
        return self._fit_heard(X, y, sample_weight, start, callback)

    def partial_fit(self, X, y, classes=None, sample_weight=None) -> Self:
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
        y : array-like of shape (n_samples,)
            Not all labels need be there.
        classes : array-like of shape (n_classes,), optional
            All labels that there will be. Needed in the first call, then the same or left out.
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        self : SGDClassifier

        Raises
        ------
        ValueError
            As for `fit`; if `classes` is missing or not as before; or if `early_stopping` is on
            or `class_weight` is "balanced", neither of which a part of the data can serve.
        """
        self._check_partial_fit()
        refuse_balanced(self.class_weight)
        with all_or_nothing(self):
            call = Call.partial_fit(self)
            if not call.go_on or classes is not None:
                labels = classes_of_calls(self, classes)
                if not hasattr(self, "classes_"):
                    self.classes_ = beside(labels, classes)
            return self._fit(X, y, sample_weight, call)

    def _validate(
        self, X, y, sample_weight, *, reset: bool, ravel: bool = True, some_weight: bool = True
    ):
        """X, targets (n, t) of -1 and 1, and sample_weight, as the kernels read them."""
        X, labels = self._validate_labels(X, y, sample_weight, reset=reset)
        check_targets_are_classes(labels)
        if not hasattr(self, "classes_"):
            self.classes_ = beside(np.unique(labels), y)
        classes = check.on_host(self.classes_)
        check_classes(classes)
        n_targets = 1 if len(classes) == 2 else len(classes)
        if not reset and len(self.intercept_) != n_targets:
            raise ValueError(
                f"y has {len(classes)} classes, but the weights so far are for another "
                f"number of them: set warm_start=False."
            )
        s = check.as_sample_weight(sample_weight, X.shape[0], some_weight=some_weight)
        # The dtype is that of the weights, which class weights make float64.
        dtype = working_dtype(X) if s is None else s.dtype
        if self.class_weight is not None:
            dtype = np.dtype(np.float64)
            s = None if s is None else s.astype(dtype)
        return X, signed_targets(labels, classes, dtype), s, False

    def _weights(self, y, s):
        """One weight per row for two classes; for more, one per row and class."""
        if self.class_weight is None:
            return s
        numbers, classes = class_numbers(y), check.on_host(self.classes_)
        factors = compute_class_weight(self.class_weight, classes=classes, y=classes[numbers])
        if (factors == 1.0).all():
            return s  # with one weight per row, all classes share a pass
        two = len(classes) == 2
        weights = factors[numbers] if two else np.where(y > 0, factors, 1.0)
        if s is not None:
            s = check.on_host(s)
            weights = weights * (s if two else s[:, None])
        return weights.astype(y.dtype)

    def _forget(self) -> None:
        self.__dict__.pop("classes_", None)

    def _splits(self, y, **how):
        return StratifiedShuffleSplit(**how).split(np.empty((len(y), 1)), class_numbers(y))

    def _score(self, holdout: Holdout):
        return holdout.accuracy

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_class_weight(self.class_weight)
