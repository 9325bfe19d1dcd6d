"""What the estimators share: validation of X and y, predictions, and fits that fail cleanly."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from threading import get_ident

import numpy as np
import scipy.sparse as sp
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from .. import _validation as check
from .._sklearn_compat import check_feature_names, check_n_features, check_y
from .._sparse_structure import check_structure
from .._threads import FEW_PREDICTIONS, is_small
from .._version import __version__
from ..kernels import BACKENDS, resolve_backend, resolve_threads, usable_processors
from ..kernels.contract import CSR, Kernels, Matrix, working_dtype
from ..kernels.device import (
    handed_back,
    has_functions,
    is_device_array,
    is_device_sparse,
    lives_on_device,
    ndim,
)
from ..solvers.eigen import NoEigenvalues
from ..solvers.factors import NotTrustworthy
from ..solvers.holdout import class_numbers
from ..solvers.interrupt import call_kernel, call_loss_gradient
from ..solvers.many_classes import scores_by_blas
from ..solvers.rows import stored_numbers, useful_threads
from ..solvers.serial_blas import serial_blas
from ..solvers.solution import weights_underflow
from ..solvers.weights import normalised_weights

# Float32 predictions of which none is larger than this have lost digits, or soon will.
LEAST_PREDICTION = 1e-25
# NumPy finds NaN and infinity among at most so many numbers before a kernel has begun.
FEW_LOOKED_AT = 2**14
# More labels than this are left to scikit-learn's checks, which take less time than the fit then.
MANY_LABELS = 10_000
# Types of missing values: None, pandas.NA and pandas.NaT.
MISSING_LABELS = ("NoneType", "NAType", "NaTType")


# During a fit, the attribute of this name has the thread that fits, and the attributes before.
DRAFT = "_draft"


class VersionWarning(InconsistentVersionWarning):
    """The pickle was written by another version of fastlsgd; a kind of scikit-learn's warning."""

    def __str__(self):
        return (
            f"{self.estimator_name} was pickled by fastlsgd {self.original_sklearn_version}, and "
            f"this is {self.current_sklearn_version}: its predictions are what the weights in it "
            f"give, but partial_fit begins anew from these weights. Fit it again to be sure."
        )


class LinearModel(BaseEstimator):
    """Validation of X, the number of threads, and decisions X w + b."""

    def _decide(self, X, target_dtype=None, origin=0.0) -> np.ndarray:
        """X w + b, of shape (n_samples, n_targets), in the wider of X's dtype and `target_dtype`.

        Kernels round their sums to the dtype of X, and float32 is too coarse for targets near 1e9:
        so predictions are rounded as distances from `origin`, a number amid the targets. On a GPU
        predictions have the dtype of X.
        """
        check_is_fitted(self)
        like, X = X, self._matrix(X, reset=False, for_predictions=True)
        coef, intercept = self._coefficients(X.shape[1])
        kernels = resolve_backend(self.backend, X)
        dtype = working_dtype(X)
        is_near = lives_on_device(X) or target_dtype is None or dtype == target_dtype
        b = intercept if is_near else intercept - origin
        predict = partial(call_kernel, kernels.predict, len(coef), X)
        n_threads = self._n_threads(X, len(coef))
        if stored_numbers(X) * len(coef) <= FEW_PREDICTIONS:
            n_threads = 1
        out = scores_by_blas(X, coef, b, n_threads) if target_dtype is None else None
        is_finite = out is not None and dtype == np.float32
        if out is None:
            out = predict(coef, b, n_threads)
        if not is_near and np.abs(out).max(axis=0, initial=0.0).min() < LEAST_PREDICTION:
            # They vanish in X's dtype, but not in the wider one.
            exponent = np.frexp(np.maximum(np.abs(coef).max(axis=1, initial=0.0), np.abs(b)))[1]
            small = predict(np.ldexp(coef, -exponent[:, None]), np.ldexp(b, -exponent), n_threads)
            out = np.ldexp(small.astype(np.result_type(dtype, target_dtype)), exponent)
        overflows = not is_finite and not check.all_finite(out)
        if not is_near:
            out = out.astype(np.result_type(dtype, target_dtype), copy=False)
            out += origin
        if lives_on_device(X):
            out = handed_back(out, like)
        if overflows or not (is_near or check.all_finite(out)):
            check.explain_non_finite(X=X, coef_=coef, intercept_=intercept)
            raise ValueError(f"The prediction overflows {dtype if overflows else out.dtype}.")
        return out

    def _coefficients(self, d: int) -> tuple[np.ndarray, np.ndarray]:
        """The fitted weights as (t, d) and (t,), after a check of their shapes."""
        return check.as_coefficients(self.coef_, self.intercept_, d)

    def __getstate__(self):
        state = super(LinearModel, as_published(self)).__getstate__()
        state.pop(DRAFT, None)
        return {**state, "_fastlsgd_version": __version__}

    def __setstate__(self, state):
        """Restore a pickle; of another version's, with a warning, only what this one can use."""
        state = dict(state)
        origin = state.pop("_fastlsgd_version", "unknown")
        if origin != __version__:
            warnings.warn(
                VersionWarning(
                    estimator_name=type(self).__name__,
                    current_sklearn_version=__version__,
                    original_sklearn_version=origin,
                ),
                stacklevel=2,
            )
            # Newer parameters get their defaults. What `partial_fit` keeps between its calls is
            # valid for its own version only.
            state = {**type(self)().get_params(deep=False), **state}
            state.pop("_memory", None)
            state.pop("_y_exponents", None)
            state.pop("_seen", None)
            state.pop("_moments", None)
        super().__setstate__(state)

    def _matrix(self, X, *, reset: bool, for_predictions: bool = False) -> Matrix:
        """X as the kernels read it, with scikit-learn's checks of names and number of columns.

        Whether its numbers are finite shows in the results of the kernels.
        """
        is_nameless = type(X) is np.ndarray or sp.issparse(X)
        if is_nameless and "feature_names_in_" not in vars(self):
            pass  # no names, neither now nor before: scikit-learn takes 40 microseconds to find out
        elif not lives_on_device(X):
            check_feature_names(self, X, reset=reset)
        elif reset:
            self.__dict__.pop("feature_names_in_", None)
        X = check.as_matrix(X, for_predictions=for_predictions)
        check_n_features(self, X, reset=reset)
        return X

    def _refuse_non_finite(self, kernels: Kernels, X: Matrix) -> np.ndarray | None:
        """Raise ValueError for NaN and infinity in X where the fit itself would not notice them.

        This reads X once, with all threads: they show in the loss of zero weights. For targets of
        -1, the gradient there is the mean of the rows, which is returned unless X has few numbers.
        """
        if lives_on_device(X) or self._shows_non_finite() or get_config()["assume_finite"]:
            return None
        if type(X) is np.ndarray and X.size <= FEW_LOOKED_AT and X.dtype in check.FLOATS:
            if not np.isfinite(X).all():
                check.explain_non_finite(X=X)
            return None
        n, d = X.shape
        targets = np.broadcast_to(np.full(1, -1.0, working_dtype(X)), (n, 1))
        w, b = np.zeros((1, d)), np.zeros(1)
        n_threads = useful_threads(X, 1, self._n_threads(X))
        at_zero = call_loss_gradient(kernels, X, targets, w, b, None, n_threads)
        if not np.isfinite(at_zero.loss[0]):
            check.explain_non_finite(X=X)
        return at_zero.coef[0]

    def _shows_non_finite(self) -> bool:
        """Return whether the fit itself notices NaN and infinity in X before it uses them."""
        return False

    def _take_to(self, X) -> None:
        """Move the fitted weights to where the data are, as scikit-learn's array API rules ask."""
        if not lives_on_device(X):
            return
        like = X.data if isinstance(X, CSR) else X
        for name in ("coef_", "intercept_"):
            value = getattr(self, name)
            if isinstance(value, np.ndarray):
                setattr(self, name, handed_back(value, like))

    def _n_threads(self, X: Matrix, n_targets: int = 1) -> int:
        """Return how many threads may work on X, which is one where more would hold it up."""
        n_jobs = check.check_n_jobs(self.n_jobs)
        if is_small(X.shape, n_targets):
            return 1
        if n_jobs is not None and n_jobs < 0:
            n_jobs = max(1, usable_processors() + 1 + n_jobs)
        return resolve_threads(n_jobs)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class LinearRegressor(RegressorMixin, LinearModel):
    """Validation of one or many numeric targets, `predict` and `score`."""

    def predict(self, X) -> np.ndarray:
        """Predict with the linear model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
            Predicted values: float32 if X and the fitted targets both were float32 or narrower
            floats, else float64, so that predictions are as precise as the targets were. On a GPU
            of X's dtype.
        """
        model = as_published(self)
        out = model._decide(X, getattr(model, "_target_dtype", None), model._target_origin())
        return out[:, 0] if model._has_one_target() else out

    def score(self, X, y, sample_weight=None) -> float:
        """R2 of the predictions, the mean over targets.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            True values.
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        score : float
            1 is perfect, 0 what the mean of y gets.
        """
        model = as_published(self)
        predicted = model._decide(X, np.dtype(np.float64), model._target_origin())
        if model._has_one_target():
            predicted = predicted[:, 0]
        y = check.as_float_array(check.on_host(y, "y"), "y", np.float64)
        check.as_targets(y, len(predicted), np.float64)
        return _judged(r2_score, y, predicted, sample_weight)

    def _target_origin(self):
        """A number amid the values of each fitted target; see `_decide`."""
        return getattr(self, "_origin", 0.0)

    def _has_one_target(self) -> bool:
        """Whether y had one dimension, so that predictions have one too."""
        return self.coef_.ndim == 1

    def _validate(
        self, X, y, sample_weight, *, reset: bool, ravel: bool = False, some_weight: bool = True
    ):
        """X, y (n, t) and sample_weight as the kernels read them, and whether y has one target."""
        check.check_same_place(X, y=y, sample_weight=sample_weight)
        check_y_is_there(self, y)
        X = self._matrix(X, reset=reset)
        y = y if lives_on_device(y) else check.as_float_array(y, "y")
        targets, s = check.as_targets_and_weights(X, y, sample_weight, some_weight=some_weight)
        one_target = ndim(y) == 1
        if ravel and not one_target and targets.shape[1] == 1:
            one_target = True
            if not lives_on_device(X):
                column_or_1d(targets, warn=True)  # for its warning
        if not lives_on_device(X) and not get_config()["assume_finite"]:
            check.explain_non_finite(y=targets)
        self._remember(targets, s, go_on=not reset)
        return X, targets, s, one_target

    def _remember(self, targets, s, *, go_on: bool) -> None:
        """Keep what makes predictions as precise as the targets: their dtype and an origin.

        The origin is the middle one of some targets of positive weight. Any number near them would
        do, but a single target of 1e10 would take their mean far from all the others.
        """
        before = getattr(self, "_target_dtype", targets.dtype) if go_on else targets.dtype
        self._target_dtype = np.result_type(before, targets.dtype)
        if s is None:
            few = targets[:: 1 + len(targets) // 256]
        else:
            counted = np.flatnonzero(check.on_host(s))
            few = targets[counted[:: 1 + len(counted) // 256]]
        origin = np.zeros(targets.shape[1:])
        if len(few):
            origin = np.sort(np.asarray(few, dtype=np.float64), axis=0)[len(few) // 2]
        self._origin = np.where(np.isfinite(origin), origin, 0.0)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class LinearClassifier(ClassifierMixin, LinearModel):
    """Decisions: one score per class, or for two classes a single score whose sign decides."""

    def decision_function(self, X) -> np.ndarray:
        """Scores of the classes: how far the fit is from -1, what a class is not, to 1.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        scores : ndarray of shape (n_samples,) or (n_samples, n_classes)
            Of X's dtype. With two classes one score, positive where ``classes_[1]`` is predicted.
        """
        out = as_published(self)._decide(X)
        return out[:, 0] if out.shape[1] == 1 else out

    def predict(self, X) -> np.ndarray:
        """Predict the class with the highest score.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Labels, as in `classes_`. Where X is; strings are on the host.
        """
        model = as_published(self)
        scores = model._decide(X)
        labels = check.on_host(model.classes_)
        if has_functions(scores) and labels.dtype.kind in NUMBERS:
            return handed_back(labels, scores)[class_numbers(scores)]
        return beside(labels[class_numbers(check.on_host(scores))], scores)

    def score(self, X, y, sample_weight=None) -> float:
        """Accuracy of the predictions; of many labels a row, all of them must be right.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            True labels.
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        score : float
            Share of the rows, by weight, whose prediction is right.
        """
        y = check.on_host(y, "y")
        check_labels(y, "y")
        return _judged(accuracy_score, y, self.predict(X), sample_weight)

    def __getattr__(self, name: str):
        # Python calls this only for missing attributes.
        if name in ("predict_proba", "predict_log_proba"):
            raise AttributeError(
                f"This {type(self).__name__!r} has no attribute {name!r}"
            ) from AttributeError(
                "probability estimates are not available for loss='squared_error'; "
                "sklearn.calibration.CalibratedClassifierCV makes some from decision_function"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _validate_labels(self, X, y, sample_weight, *, reset: bool, multi_output: bool = False):
        """X as the kernels read it, and the labels on the host, where they are compared.

        Labels may be on the host though X is on a GPU, which has no strings; all other arguments
        have to be in one place.
        """
        check.check_same_place(X, sample_weight=sample_weight)
        if not lives_on_device(X):
            check.check_same_place(X, y=y)
        check_y_is_there(self, y)
        X = self._matrix(X, reset=reset)
        if is_device_sparse(y):
            raise ValueError(f"y on a GPU must be a dense array, got type {type(y).__name__}.")
        if has_plain_labels(y) and len(y) == X.shape[0]:
            return X, y
        y = check.on_host(y, "y")
        if hasattr(y, "tocsr"):
            check_structure(y, "y")
        check_labels(y, "y")
        try:
            y = check_y(_for_sklearn(y), multi_output=multi_output, estimator=self)
        except TypeError as error:  # of what can't be labels
            raise check.NotNumbers(str(error)) from error
        check_consistent_length(X, y)
        return X, y


def _for_sklearn(labels):
    """Labels of a dtype that scikit-learn does not support as one that it does."""
    dtype = getattr(labels, "dtype", None)
    if isinstance(dtype, np.dtype) and dtype.isbuiltin == 2:  # of ml_dtypes
        return np.asarray(labels, np.float64)
    if isinstance(dtype, np.dtype) and dtype.kind == "T":  # strings of any length
        return np.asarray(labels, object)
    return labels


def check_y_is_there(estimator, y) -> None:
    if y is None:
        raise ValueError(
            f"{type(estimator).__name__} requires y to be passed, but the target y is None."
        )


def has_plain_labels(y) -> bool:
    """Return whether y is an array of whole numbers or truth values, one per row.

    Any such array holds labels, which scikit-learn takes 200 microseconds to find out.
    """
    return type(y) is np.ndarray and y.ndim == 1 and y.dtype.kind in "biu"


def check_targets_are_classes(labels) -> None:
    """Do what `check_classification_targets` does, without it where nothing could be wrong.

    It warns of more than 20 rows of which more than half have a label of their own.
    """
    if has_plain_labels(labels) and len(labels) <= MANY_LABELS:
        n = len(labels)
        if n <= 20 or len(np.unique(labels)) <= 0.5 * n:
            return
    check_classification_targets(labels)


def check_labels(labels, name: str) -> None:
    """Raise ValueError for labels that are missing or masked, or that cannot be sorted."""
    check.refuse_masked(labels, name)
    if hasattr(labels, "tocsr"):
        return
    array = check.as_array(labels, name)
    if array.dtype.kind in "SV" and array.dtype.isbuiltin != 2:
        raise check.NotNumbers(
            f"{name} must hold labels, got dtype {array.dtype}"
            + (f": use {name}.astype(str)." if array.dtype.kind == "S" else ".")
        )
    if array.dtype.kind in "mM" and np.isnat(array).any():
        raise ValueError(f"{name} has missing labels (NaT): fill them, or leave their rows out.")
    if array.dtype.kind == "O":
        kinds = set(map(type, array.flat))
        missing = [kind.__name__ for kind in kinds if kind.__name__ in MISSING_LABELS]
        if float in kinds and any(isinstance(v, float) and v != v for v in array.flat):
            missing.append("NaN")  # what pandas puts between strings
        if missing:
            raise ValueError(
                f"{name} has missing labels ({missing[0]}): fill them, or leave their rows out."
            )
        try:
            np.unique(array)
        except TypeError as error:
            raise ValueError(
                f"{name} must hold labels of one kind, which sort, got "
                f"{', '.join(sorted(kind.__name__ for kind in kinds))}: Unknown label type."
            ) from error


def beside(labels, like):
    """Labels as an array of the same kind as `like`, or on the host if a GPU can't hold them."""
    if is_device_array(like) and isinstance(labels, np.ndarray) and labels.dtype.kind in NUMBERS:
        return handed_back(labels, like)
    return labels


def _judged(metric, y, predicted, sample_weight) -> float:
    """The score by a metric of scikit-learn, which needs its arguments on the host."""
    s = check.on_host(sample_weight, "sample_weight")
    if s is not None:
        s = check.as_sample_weight(s, len(predicted), np.float64)
        s, _ = normalised_weights(s, predicted)  # their sum may overflow
    return float(metric(y, check.on_host(predicted), sample_weight=s))


def check_classes(classes: np.ndarray) -> None:
    if len(classes) == 0:
        raise ValueError("classes is empty: a classifier needs two classes or more.")
    if len(classes) < 2:
        raise ValueError(
            f"y has one class, {classes.tolist()[0]!r}: a classifier needs two classes or more."
        )
    if classes.dtype.kind == "f" and (classes != np.floor(classes)).any():
        check_classification_targets(classes)


def classes_of_calls(estimator, classes) -> np.ndarray:
    """The labels that `partial_fit` was told in its first call, on the host, sorted.

    They never change between its calls.
    """
    if classes is None:
        if not hasattr(estimator, "classes_"):
            raise ValueError("classes must be given in the first call of partial_fit.")
        return check.on_host(estimator.classes_)
    labels = check.on_host(classes, "classes")
    check_labels(labels, "classes")
    labels = np.unique(np.asarray(labels))
    check_classes(labels)
    if hasattr(estimator, "classes_"):
        before = check.on_host(estimator.classes_)
        if not np.array_equal(before, labels):
            raise ValueError(
                f"classes must stay as in the first call of partial_fit, {before.tolist()}, "
                f"got {labels.tolist()}."
            )
    return labels


def refuse_balanced(class_weight) -> None:
    """Refuse "balanced" in `partial_fit`."""
    if isinstance(class_weight, str) and class_weight == "balanced":
        raise ValueError(
            "class_weight='balanced' is not for partial_fit, whose rows need not have the "
            "classes in their shares: give the dict of weights that "
            "sklearn.utils.class_weight.compute_class_weight('balanced', ...) finds for all "
            "rows or many of them."
        )


def check_class_weight(class_weight) -> None:
    if isinstance(class_weight, dict):
        for label, factor in class_weight.items():
            check.check_real(factor, f"class_weight[{label!r}]", 0.0)
    elif class_weight is not None and not (
        isinstance(class_weight, str) and class_weight == "balanced"
    ):
        raise ValueError(f"class_weight must be a dict, 'balanced' or None, got {class_weight!r}.")


def signed_targets(y, classes: np.ndarray, dtype) -> np.ndarray:
    """Labels as (n, t): 1 in the rows of a class and -1 elsewhere; one column for two classes."""
    numbers = _class_numbers_of(y, classes)
    if len(classes) == 2:
        return (2 * numbers - 1).astype(dtype)[:, None]
    targets = np.full((len(y), len(classes)), -1.0, dtype=dtype)
    targets[np.arange(len(y)), numbers] = 1.0
    return targets


def _class_numbers_of(y: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the number of each label's class; raise ValueError for labels of no class."""
    if y.dtype.kind in NUMBERS and classes.dtype.kind in NUMBERS:
        numbers = np.searchsorted(classes, y)
        if (classes.take(numbers, mode="clip") == y).all():  # a set of y would have to be sorted
            return numbers
    try:
        unknown = np.setdiff1d(y, classes)
    except TypeError as error:
        raise ValueError(
            f"y holds labels of another kind than the classes {classes.tolist()}: {error}."
        ) from error
    if len(unknown):
        raise ValueError(
            f"y holds labels that are not among the classes {classes.tolist()}: "
            f"{unknown[:10].tolist()}."
        )
    return np.searchsorted(classes, y)


# Kinds of labels that a GPU can hold.
NUMBERS = "biuf"


def backend_name(kernels) -> str:
    return next(name for name, line in BACKENDS.items() if line.module == kernels.__name__)


def refuse_underflow(coef: np.ndarray, X: Matrix, y, sample_weight) -> None:
    """Raise ValueError for weights that vanish in X's dtype and would predict nothing."""
    if weights_underflow(coef, X, y, sample_weight):
        raise ValueError(
            f"The weights underflow {working_dtype(X)}: rescale X or y, or give X as float64."
        )


def cast_coef(coef: np.ndarray, dtype) -> np.ndarray:
    """Weights in the dtype of X, as an array that nothing but the estimator refers to."""
    with np.errstate(over="ignore"):
        coef = np.array(coef, dtype=dtype)
    if not np.isfinite(coef).all():
        raise ValueError(
            f"The weights overflow {np.dtype(dtype)}: rescale X, or give it as float64."
        )
    return coef


class overflow_explained:
    """Where sums overflow, say so instead of naming the factorisation that failed on them.

    BLAS has one thread in the block.
    """

    def __init__(self, X, y) -> None:
        self.X, self.y = X, y
        self.state = np.errstate(over="ignore", invalid="ignore")
        self.blas = serial_blas()

    def __enter__(self) -> None:
        self.blas.__enter__()
        self.state.__enter__()

    def __exit__(self, kind, error, traceback) -> None:
        self.state.__exit__(kind, error, traceback)
        self.blas.__exit__(kind, error, traceback)
        if isinstance(error, NoEigenvalues):
            raise ValueError(f"The fit failed: {error}. Rescale the columns of X.") from error
        if isinstance(error, np.linalg.LinAlgError | NotTrustworthy):
            check.explain_non_finite(X=self.X, y=self.y)
            raise ValueError(
                f"Sums of squares of X or y, or those that alpha and l1_ratio penalise, overflow "
                f"or vanish ({error}): rescale X or y, or choose another alpha or l1_ratio."
            ) from error


@contextmanager
def all_or_nothing(estimator) -> Iterator[None]:
    """Leave the estimator as it was if the block raises anything, even KeyboardInterrupt.

    Until the block ends, other threads find it as it was (`as_published`).
    """
    before = dict(vars(estimator))
    draft = {DRAFT: (get_ident(), before), **before}  # of a block around this one, if there is one
    estimator.__dict__ = draft
    try:
        yield
    except BaseException:
        # A single call, so that a second Ctrl-C comes either before or after it.
        estimator.__dict__ = before
        raise
    if DRAFT not in before:
        estimator.__dict__.pop(DRAFT, None)


def as_published(estimator):
    """Return the estimator as it is between fits, for a method that reads several attributes.

    While a fit sets them one by one, other threads read those of the fit before. A fit begins with
    attributes of its own, so that those read here do not change any more.
    """
    state = estimator.__dict__
    if DRAFT in state:
        thread, before = state.get(DRAFT, (None, state))  # the fit may end just now
        if thread == get_ident():  # callbacks see what the fit has found so far
            return estimator
        state = before
    seen = object.__new__(estimator.__class__)
    object.__setattr__(seen, "__dict__", state)
    return seen
