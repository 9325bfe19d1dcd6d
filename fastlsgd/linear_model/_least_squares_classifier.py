"""`LeastSquaresClassifier`: one-vs-rest by LeastSquaresRegressor on targets of -1 and 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.validation import column_or_1d

from .. import _validation as check
from ..kernels import resolve_backend
from ..kernels.contract import working_dtype
from ..kernels.device import lives_on_device
from ..moments import Moments
from ..solvers.least_squares import Request
from ..solvers.many_classes import FEW_CLASSES, ClassTargets, solve_classes
from ..solvers.serial_blas import serial_blas
from ..streaming.collect import Collection, collect
from ..streaming.source import RowBlock
from ..streaming.stream import Stream
from ._base import (
    LinearClassifier,
    all_or_nothing,
    as_published,
    beside,
    check_class_weight,
    check_classes,
    check_labels,
    check_targets_are_classes,
    classes_of_calls,
    has_plain_labels,
    refuse_balanced,
    signed_targets,
)
from ._from_streams import (
    Report,
    check_stream,
    fit_by_passes,
    makes_passes,
    moments_task,
)
from ._least_squares import LeastSquaresRegressor

# Attributes of the fit of the targets that this estimator has too.
REGRESSOR_ATTRIBUTES = (
    "coef_",
    "intercept_",
    "n_iter_",
    "loss_curve_",
    "relative_gradient_",
    "residual_norm_",
    "condition_",
    "solver_",
    "backend_",
)


class LeastSquaresClassifier(LinearClassifier):
    """Linear classifier: least squares to one target per class, to a tolerance that is checked.

    Each class has a target that is 1 in its own rows and -1 in all others; with two classes there
    is one target, 1 for ``classes_[1]``. The targets are fitted together as by
    :class:`LeastSquaresRegressor`, and the class with the highest score is predicted. Where labels
    don't exclude each other (multilabel: y of zeros and ones, one column per label), each one is
    predicted where its score is positive.

    Parameters
    ----------
    alpha : float >= 0, default=0.0
        Strength of the penalty. The intercept is never penalised.
    l1_ratio : float in [0, 1], default=0.0
        Share of L1 in the penalty: 0 is ridge, 1 the lasso.
    positive : bool, default=False
        Whether weights may not be negative. The intercept may.
    bounds, constraints, penalty_factor
        As of :class:`LeastSquaresRegressor`, for the weights of each class alike.
    fit_intercept : bool, default=True
        Whether to fit an intercept.
    class_weight : dict of label to float >= 0, "balanced" or None, default=None
        Factor of the weights of each class's rows, in the targets of all classes. "balanced"
        stands for ``n_rows / (n_classes * n_rows_of_the_class)``.
    solver : {"auto", "gram", "sketch", "cg", "qr", "nesterov"}, default="auto"
        As of :class:`LeastSquaresRegressor`.
    tol : float >= 0, default=1e-10
        The fit ends when the norm of the gradient, relative to that at zero weights, is at
        most this.
    max_iter : int >= 1, default=1000
        Most iterations.
    warm_start : bool, default=False
        Whether `fit` begins from the weights of the fit before.
    backend : {"auto", "native", "numba", "reference", "cuda"} or None, default=None
        Kernels to use. None: as set by :func:`fastlsgd.set_config`.
    n_jobs : int or None, default=None
        Most threads of a kernel; -1 for all processors. None: as set by
        :func:`fastlsgd.set_config`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted; where y was, if X and y were on a GPU.
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Weights, of X's dtype; one row of them where there are two classes.
    intercept_ : ndarray of shape (1,) or (n_classes,)
        Intercept.
    n_iter_, loss_curve_, relative_gradient_, residual_norm_, condition_, solver_, backend_
        As of :class:`LeastSquaresRegressor`.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns, where X has names that are all strings.

    See Also
    --------
    SGDClassifier : The same targets by stochastic descent, for a few passes over more data.

    Notes
    -----
    With ``alpha = a / n`` the weights are those of :class:`sklearn.linear_model.RidgeClassifier`
    with ``alpha=a``, since the loss here is a mean; with weights, n is their sum.

    An interrupted or failed fit leaves the estimator as it was.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from fastlsgd import LeastSquaresClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LeastSquaresClassifier().fit(X, y)
    >>> model.coef_.shape, round(model.score(X, y), 3)
    ((3, 4), 0.847)
    """

    def __init__(
        self,
        *,
        alpha: float = 0.0,
        l1_ratio: float = 0.0,
        positive: bool = False,
        bounds: Any = None,
        constraints: Any = None,
        penalty_factor: ArrayLike | None = None,
        fit_intercept: bool = True,
        class_weight: Mapping[Any, float] | str | None = None,
        solver: str = "auto",
        tol: float = 1e-10,
        max_iter: int = 1000,
        warm_start: bool = False,
        backend: str | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.positive = positive
        self.bounds = bounds
        self.constraints = constraints
        self.penalty_factor = penalty_factor
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.warm_start = warm_start
        self.backend = backend
        self.n_jobs = n_jobs

    def fit(self, X, y, sample_weight=None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            float32 and float64 are used as they are, in any memory order, without a copy.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels, of two classes or more; or for each label whether a row has it (0 or 1). They
            may be on the host though X is on a GPU.
        sample_weight : array-like of shape (n_samples,), optional
            Not negative, not all zero. Default: ones.

        Returns
        -------
        self : LeastSquaresClassifier

        Raises
        ------
        ValueError
            If a parameter or the data are not allowed.
        ImportError
            If `backend` is not installed.
        """
        with all_or_nothing(self), serial_blas():
            return self._fit(X, y, sample_weight)

    def _fit(self, X, y, sample_weight):
        regressor, alphas = self._regressor()
        self.__dict__.pop("_moments", None)
        warm = self.warm_start and hasattr(self, "coef_")
        X, labels = self._validate_labels(X, y, sample_weight, reset=not warm, multi_output=True)
        classes, labels = self._find_classes(labels)
        kernels = resolve_backend(self.backend, X)
        x_mean = self._refuse_non_finite(kernels, X)
        self.classes_ = beside(classes, y)
        s = self._weights(labels, sample_weight, X)
        done = not warm and self._solve_many_classes(
            regressor, kernels, X, classes, labels, s, alphas
        )
        if not done:
            dtype = working_dtype(X) if s is None else s.dtype
            if self._is_multilabel():
                targets = self._label_binarizer.transform(labels).astype(dtype)
            else:
                targets = signed_targets(labels, classes, dtype)
            start = None
            if warm:
                before = {name: getattr(self, name) for name in REGRESSOR_ATTRIBUTES}
                regressor.__dict__.update(before)
                start = regressor._start(X.shape[1], targets.shape[1])
            # Its `fit` would check X a second time, and would need the targets on the host.
            problem = regressor._problem(X, targets, s, x_mean)
            regressor._solve(kernels, problem, alphas, start, one_target=False)
        for name in REGRESSOR_ATTRIBUTES:
            setattr(self, name, getattr(regressor, name))
        return self

    def _find_classes(self, labels) -> tuple[np.ndarray, np.ndarray]:
        """Return the classes on the host, and the labels in one dimension where each row has one.

        A binarizer is kept for multilabel rows. Labels that can be nothing but classes are not
        shown to scikit-learn, whose checks take 2 milliseconds.
        """
        self.__dict__.pop("_label_binarizer", None)
        if has_plain_labels(labels):
            classes = np.unique(labels)
            if 1 < len(classes) <= len(labels) // 2:  # of more classes scikit-learn warns
                return classes, labels
        check_targets_are_classes(labels)  # its message does not print all of y
        binarizer = LabelBinarizer(neg_label=-1, pos_label=1).fit(labels)
        if binarizer.y_type_.startswith("multilabel"):
            self._label_binarizer = binarizer
        else:
            labels = column_or_1d(labels, warn=True)
            check_classes(binarizer.classes_)
        return binarizer.classes_, labels

    def _solve_many_classes(self, regressor, kernels, X, classes, labels, s, alphas) -> bool:
        """Whether the regressor has got the weights of classes that exclude each other, without an
        array of rows by classes."""
        count = len(classes)
        if self._is_multilabel() or count <= FEW_CLASSES or lives_on_device(X):
            return False
        if len(alphas) > 1 or self.solver not in ("auto", "gram"):
            return False
        codes = np.searchsorted(classes, labels)
        targets = ClassTargets(codes, count, working_dtype(X) if s is None else s.dtype)
        problem = replace(regressor._problem(X, codes, s), y=targets)
        if not problem.is_smooth(alphas):
            return False
        found = solve_classes(
            kernels,
            problem.X,
            targets,
            s,
            alphas[0] * problem.weight,
            fit_intercept=problem.fit_intercept,
            request=Request(tol=float(self.tol), max_iter=int(self.max_iter)),
            n_threads=regressor._n_threads(X, count),
        )
        if found is not None:
            found.losses = [loss / problem.weight for loss in found.losses]
            regressor._adopt(kernels, problem, alphas, [found], one_target=False)
        return found is not None

    def _regressor(self) -> tuple[LeastSquaresRegressor, list[float]]:
        """The regressor that fits the targets, and `alpha` as a list, after all checks."""
        check_class_weight(self.class_weight)
        check.check_real(self.alpha, "alpha", 0.0)
        regressor = LeastSquaresRegressor(
            **{name: getattr(self, name) for name in LeastSquaresRegressor().get_params()}
        )
        return regressor, regressor._check_parameters()

    def partial_fit(self, X, y, classes=None, sample_weight=None) -> Self:
        """Add rows to those of the calls before, and fit the model to all of them.

        As :meth:`LeastSquaresRegressor.partial_fit` does for targets that are numbers. `fit` begins
        anew.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
            Not all labels need be there.
        classes : array-like of shape (n_classes,), optional
            All labels that there will be. Needed in the first call, if there was no `fit`; then the
            same or left out.
        sample_weight : array-like of shape (n_samples,), optional
            Not negative; if all are zero, nothing changes.

        Returns
        -------
        self : LeastSquaresClassifier

        Raises
        ------
        ValueError
            As for `fit`; if `classes` is missing or not as before; or if `class_weight` is
            "balanced", which a part of the data can't serve.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.datasets import load_iris
        >>> from fastlsgd import LeastSquaresClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = LeastSquaresClassifier()
        >>> for rows in np.split(np.arange(150), 3):
        ...     model = model.partial_fit(X[rows], y[rows], classes=[0, 1, 2])
        >>> round(model.score(X, y), 3)
        0.847
        """
        refuse_balanced(self.class_weight)
        with all_or_nothing(self), serial_blas():
            regressor, alphas = self._regressor()
            before, first = dict(vars(self)), not hasattr(self, "_moments")
            if first:
                was_multilabel = self.__dict__.pop("_label_binarizer", None) is not None
                if classes is not None or was_multilabel:
                    self.__dict__.pop("classes_", None)
            else:
                regressor._moments = self._moments
            labels = classes_of_calls(self, classes)
            X, y = self._validate_labels(X, y, sample_weight, reset=first)
            check_targets_are_classes(y)
            s = check.as_sample_weight(
                check.on_host(sample_weight, "sample_weight"), X.shape[0], some_weight=False
            )
            targets, s = self._signed(y, s, labels, working_dtype(X))
            if not regressor._add_and_solve(X, targets, s, alphas, one_target=False):
                self.__dict__ = before  # there was no row of positive weight yet
                return self
            for name in (*REGRESSOR_ATTRIBUTES, "_moments"):
                setattr(self, name, getattr(regressor, name))
            if not hasattr(self, "classes_"):
                self.classes_ = beside(labels, classes)
            return self

    def _signed(self, y, s, labels: np.ndarray, dtype):
        """Targets of -1 and 1 for these labels, and the weights multiplied by the classes' own."""
        if self.class_weight is None:
            return signed_targets(y, labels, dtype if s is None else s.dtype), s
        targets = signed_targets(y, labels, np.float64)
        factors = compute_class_weight(self.class_weight, classes=labels, y=labels)
        own = factors[np.searchsorted(labels, y)]
        return targets, own if s is None else s * own

    def fit_stream(
        self,
        stream: Stream,
        *,
        classes=None,
        checkpoint: str | PathLike | None = None,
        progress: Report = False,
    ) -> Self:
        """Fit the model to the rows of a stream, in one pass or several.

        Parameters
        ----------
        stream : Stream
            As :func:`fastlsgd.streaming.scan` makes it; its targets are labels.
        classes : array-like of shape (n_classes,), optional
            All labels that there are. Default: found by a first pass over the labels.
        checkpoint, progress
            As of :meth:`LeastSquaresRegressor.fit_stream`.

        Returns
        -------
        self : LeastSquaresClassifier

        Raises
        ------
        ValueError
            As for :meth:`LeastSquaresRegressor.fit_stream`, and if `class_weight` is "balanced",
            for which a pass over all labels would be needed first.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from fastlsgd import LeastSquaresClassifier
        >>> from fastlsgd.streaming import scan
        >>> X, y = load_iris(return_X_y=True)
        >>> model = LeastSquaresClassifier().fit_stream(scan(X, target=y, batch_rows=40))
        >>> model.coef_.shape, round(model.score(X, y), 3)
        ((3, 4), 0.847)
        """
        with all_or_nothing(self):
            regressor, _ = self._regressor()
            fitted: Moments
            if isinstance(stream, Stream) and makes_passes(self, stream):
                labels, prepare = self._labels_of_stream(stream, classes)
                task = self._stream_task(labels, checkpoint, progress)
                fitted = fit_by_passes(regressor, stream, task, prepare)
            else:
                labels, fitted = self.moments_of_stream(stream, classes, checkpoint, progress)
                regressor.fit_moments(fitted)
            for name in ("_label_binarizer", "_moments", "feature_names_in_"):
                self.__dict__.pop(name, None)
            for name in REGRESSOR_ATTRIBUTES:
                setattr(self, name, getattr(regressor, name))
            self.classes_, self.n_features_in_ = labels, fitted.n_features
            if hasattr(fitted, "feature_names_in_"):
                self.feature_names_in_ = fitted.feature_names_in_
        return self

    def moments_of_stream(
        self, stream: Stream, classes, checkpoint: str | PathLike | None, progress: Report
    ) -> tuple[np.ndarray, Moments]:
        """Return the sorted labels, and the moments of the rows with targets of -1 and 1."""
        labels, prepare = self._labels_of_stream(stream, classes)
        task = self._stream_task(labels, checkpoint, progress)
        (moments,) = collect(stream, task, prepare)
        return labels, moments

    def _stream_task(self, labels, checkpoint, progress: Report) -> Collection:
        kind = [str(label) for label in labels]
        return moments_task(self, checkpoint, progress, kind=kind)

    def _labels_of_stream(self, stream: Stream, classes):
        """Return the sorted labels, and what makes targets of -1 and 1 of a block."""
        check_stream(stream)
        refuse_balanced(self.class_weight)
        self._regressor()  # for its checks
        given = stream.source.labels() if classes is None else check.on_host(classes, "classes")
        check_labels(given, "classes")
        labels = np.unique(np.asarray(given))
        check_classes(labels)

        def prepare(block: RowBlock):
            n = block.X.shape[0]
            check_labels(block.y, "y")
            s = check.as_sample_weight(block.sample_weight, n, some_weight=False)
            return self._signed(np.asarray(block.y), s, labels, working_dtype(block.X.dtype))

        return labels, prepare

    def _weights(self, labels, sample_weight, X):
        """Weights of the rows on the host, multiplied by those of the classes."""
        n = X.shape[0]
        s = check.as_sample_weight(check.on_host(sample_weight, "sample_weight"), n)
        if self.class_weight is not None:
            factors = compute_sample_weight(self.class_weight, labels)
            s = factors if s is None else s * factors
        return check.as_sample_weight(s, n)

    def predict(self, X) -> np.ndarray:
        """Predict the class with the highest score, or all labels with a positive one.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_labels)
            Labels, as in `classes_`; or zeros and ones. Where X is; strings are on the host.
        """
        model = as_published(self)
        if not model._is_multilabel():
            return super(LeastSquaresClassifier, model).predict(X)
        scores = model._decide(X)
        signs = np.where(check.on_host(scores) > 0, 1, -1)
        return beside(model._label_binarizer.inverse_transform(signs), scores)

    def _is_multilabel(self) -> bool:
        binarizer = getattr(self, "_label_binarizer", None)  # older pickles have one of any kind
        return binarizer is not None and binarizer.y_type_.startswith("multilabel")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
