"""`SGDRegressorCV`: cross-validation of the penalty, by a path of warm starts in each fold."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from numpy.typing import ArrayLike
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.metrics import get_scorer

from .. import _validation as check
from .._sklearn_compat import safe_indexing
from .._threads import carried, start_thread
from ..kernels import resolve_backend, resolve_threads
from ..kernels.contract import CSR
from ..kernels.device import DeviceArray, lives_on_device
from ..solvers.refits import COPIED_NUMBERS, PIECE_NUMBERS
from ..solvers.rows import take_rows
from ..solvers.target_scale import target_exponents
from ..solvers.weights import normalised_weights
from ._base import LinearRegressor, all_or_nothing
from ._folds import RoutedSplitter, folds_of
from ._sgd import SGDRegressor
from ._streamed_sgd_cv import StreamedSGDCV

# Attributes of the fit on all rows that this estimator has too.
BEST_ATTRIBUTES = ("coef_", "intercept_", "n_iter_", "loss_curve_", "backend_", "n_features_in_")


class SGDRegressorCV(StreamedSGDCV, RoutedSplitter, LinearRegressor):
    """SGDRegressor whose `alpha` is chosen by cross-validation.

    In each fold the strengths are gone through from the largest to the smallest, each fit
    beginning from the weights of the one before. The best one on the held-out rows is then fitted
    to all rows.

    Parameters
    ----------
    estimator : SGDRegressor or None, default=None
        All other parameters; its `alpha` does not count. None: ``SGDRegressor()``.
    alphas : array-like of shape (n_alphas,), default=(1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
        Strengths to try, not negative.
    cv : int, splitter, iterable or None, default=None
        As in scikit-learn; None is 5 folds. An iterable has pairs of rows to fit and rows to judge,
        as row numbers, masks or slices.
    scoring : str, callable or None, default=None
        What to make large, as in scikit-learn. None: minus the mean squared error. A NaN ranks
        last.
    n_jobs : int or None, default=None
        Folds at a time, by joblib's threads: the kernels release the GIL, and X is shared. They
        divide the threads of the kernels among them, so that no processor has more than one.

    Attributes
    ----------
    alpha_ : float
        The best strength; the larger one where two are as good.
    alphas_ : ndarray of shape (n_alphas,)
        The strengths, falling.
    scores_ : ndarray of shape (n_alphas, n_folds)
        The score of each on the held-out rows of each fold.
    mse_path_ : ndarray of shape (n_alphas, n_folds)
        The mean squared error there. Only with ``scoring=None``.
    best_score_ : float
        Mean score of `alpha_`.
    best_estimator_ : SGDRegressor
        Fitted to all rows.
    coef_, intercept_, n_iter_, loss_curve_, backend_, n_features_in_, feature_names_in_
        Those of `best_estimator_`.

    See Also
    --------
    SGDRegressor : One strength.
    sklearn.model_selection.GridSearchCV : Other parameters too, each fit from zero.

    Notes
    -----
    The best of a path is the mean over folds, each counting the same, as in LassoCV. Weights of
    the rows count in the fits, and in the scores unless `scoring` is a callable.

    Of data on a GPU, the folds stay there, and the scores are computed on the host from predictions
    and y: a callable gets y there, and a model whose `predict` gives a host array.

    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> from fastlsgd import SGDRegressor, SGDRegressorCV
    >>> X, y = make_regression(200, 5, noise=1.0, random_state=0)
    >>> model = SGDRegressorCV(SGDRegressor(random_state=0), alphas=[1e-4, 1.0, 100.0]).fit(X, y)
    >>> model.alpha_
    0.0001
    """

    def __init__(
        self,
        estimator: SGDRegressor | None = None,
        *,
        alphas: ArrayLike = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
        cv: Any = None,
        scoring: str | Callable[..., float] | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.estimator = estimator
        self.alphas = alphas
        self.cv = cv
        self.scoring = scoring
        self.n_jobs = n_jobs

    def fit(self, X, y, sample_weight=None, *, groups=None, **params) -> Self:
        """Find `alpha_`, and fit with it.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
        sample_weight : array-like of shape (n_samples,), optional
        groups : array-like of shape (n_samples,), optional
            For a splitter that keeps groups of rows together.
        **params : dict
            Metadata for the splitter, where scikit-learn's `enable_metadata_routing` is set.

        Returns
        -------
        self : SGDRegressorCV

        Raises
        ------
        ValueError
            If a parameter, the data or a fold are not allowed, the rates are too large, or no
            strength has a score that is a number.

        Warns
        -----
        UserWarning
            If scores of some strengths are NaN: these rank last.
        """
        with all_or_nothing(self):
            return self._fit(X, y, sample_weight, self._split_params(groups, params))

    def _fit(self, X, y, sample_weight, split_params):
        alphas, model = self._falling_alphas(), self._checked_model()
        check.check_n_jobs(self.n_jobs)
        scorer = get_scorer("neg_mean_squared_error" if self.scoring is None else self.scoring)
        # X is checked once, with the names of its columns; folds are parts of the result.
        matrix, targets, s, one_target = self._validate(X, y, sample_weight, reset=True, ravel=True)
        self._refuse_non_finite(resolve_backend(self.backend, matrix), matrix)
        # Scorers and splitters get arrays on the host; X, y and s on a GPU stay there.
        y_judged = check.on_host(targets)
        y_judged = y_judged[:, 0] if one_target else y_judged
        on_device = lives_on_device(X)
        if not on_device:
            y = targets = y_judged
        rows = _divisible(X, matrix)
        folds = list(folds_of(self.cv, X, y_judged, matrix, split_params))
        n_workers = min(effective_n_jobs(self.n_jobs), len(folds))
        if n_workers > 1 and not start_thread(_nothing):
            n_workers = 1  # joblib would raise
        score = partial(_score_by_callable if callable(self.scoring) else _score_by_name, scorer)
        # Squares of y may overflow or vanish; those of errors in units near 1 do not.
        exponent = 0
        if self.scoring is None:
            exponent = int(target_exponents(y_judged.reshape(len(y_judged), -1), s).max())
        if exponent:
            y_judged = np.ldexp(y_judged, -exponent)
            score = partial(_score_by_name, scorer, exponent=exponent)
        path = clone(model).set_params(warm_start=True)
        if model.n_jobs is None:
            path.set_params(n_jobs=max(1, resolve_threads() // n_workers))
        # A callable need not accept weights.
        s_judged = None if callable(self.scoring) or s is None else check.on_host(s)
        if s_judged is not None:
            s_judged, _ = normalised_weights(s_judged, s_judged)  # their sum may overflow
        data = _Data(rows, targets, s, y_judged, s_judged)
        columns = Parallel(n_jobs=n_workers, require="sharedmem")(
            delayed(carried(_scores_of_path))(clone(path), data, alphas, fold, score)
            for fold in folds
        )
        best = self._choose(alphas, np.array(columns).T, exponent)
        self.best_estimator_ = clone(model).set_params(alpha=best)
        self.best_estimator_.fit(X, y, sample_weight=s)
        return self._take_best()

    def _checked_model(self) -> SGDRegressor:
        model = SGDRegressor() if self.estimator is None else self.estimator
        if not isinstance(model, SGDRegressor):
            raise ValueError(f"estimator must be an SGDRegressor or None, got {model!r}.")
        return model

    def _choose(self, alphas: np.ndarray, scores: np.ndarray, y_exponent: int = 0) -> float:
        """Keep the scores (n_alphas, n_folds), and return the alpha of the best.

        The scores are those of y times 2^-y_exponent, with which they are squared.
        """
        best = _best(scores.mean(axis=1), alphas)
        if y_exponent:
            with np.errstate(over="ignore"):
                scores = np.ldexp(scores, 2 * y_exponent)
        self.scores_ = scores
        self.alphas_, self.alpha_ = alphas, float(alphas[best])
        self.best_score_ = float(scores[best].mean())
        self.__dict__.pop("mse_path_", None)
        if self.scoring is None:
            self.mse_path_ = -scores
        return self.alpha_

    def _take_best(self):
        """Take over the attributes of the fit to all rows."""
        best = self.best_estimator_
        for name in BEST_ATTRIBUTES:
            setattr(self, name, getattr(best, name))
        return self

    def _falling_alphas(self) -> np.ndarray:
        alphas = check.as_float_array(self.alphas, "alphas", np.float64)
        if alphas.ndim != 1 or len(alphas) == 0:
            raise ValueError(
                f"alphas must have shape (n_alphas,) with n_alphas >= 1, got {alphas.shape}."
            )
        for alpha in alphas:
            check.check_real(float(alpha), "alphas", 0.0)
        return np.sort(alphas)[::-1]

    # Attributes of the fitted model, which makes the predictions.

    @property
    def backend(self) -> str | None:
        return None if self.estimator is None else self.estimator.backend

    def _has_one_target(self) -> bool:
        return len(self.intercept_) == 1


def _best(means: np.ndarray, alphas: np.ndarray) -> int:
    """The index of the first alpha with the largest mean score; NaN ranks last, with a warning."""
    known = np.flatnonzero(~np.isnan(means))
    if len(known) == 0:
        raise ValueError("The scores of all alphas are NaN: scoring must give numbers.")
    if len(known) < len(means):
        warnings.warn(
            f"The scores of alphas {alphas[np.isnan(means)].tolist()} are NaN: they rank last.",
            UserWarning,
            stacklevel=4,
        )
    return int(known[means[known].argmax()])


class _Judged:
    """The model for scikit-learn's named scorers, which need only predictions.

    X is handed to them as the numbers of its rows, which are predicted a few at a time; what is
    predicted of rows on a GPU is on the host, and divided by 2^y_exponent.
    """

    def __init__(self, model, X, y_exponent: int):
        self._model, self._X, self._y_exponent = model, X, y_exponent

    def predict(self, rows):
        step = max(1, PIECE_NUMBERS // self._X.shape[1])
        parts = (rows[start : start + step] for start in range(0, len(rows), step))
        predicted = np.concatenate(
            [check.on_host(self._model.predict(_rows_of(self._X, part))) for part in parts]
        )
        return np.ldexp(predicted, -self._y_exponent) if self._y_exponent else predicted

    def __getattr__(self, name: str):
        return getattr(self._model, name)


class _JudgedOnHost:
    """The model for callable scorers: its predictions for rows on a GPU are on the host."""

    def __init__(self, model):
        self._model = model

    def predict(self, X):
        return check.on_host(self._model.predict(X))

    def __getattr__(self, name: str):
        return getattr(self._model, name)


_SCIPY_DIVIDES = tuple(map(np.dtype, "?bBhHiIlL"))


def _nothing() -> None:
    """What a thread does that is started to see whether one can be."""


def _divisible(X, matrix):
    """X in the form that `_rows_of` divides into folds."""
    if hasattr(X, "tocsr"):
        return X.tocsr()
    return matrix if isinstance(matrix, DeviceArray) else np.asarray(X)


def _rows_of(X, rows: np.ndarray):
    """The rows with these numbers; a view where the numbers are consecutive."""
    if lives_on_device(X):
        return X[rows]
    if hasattr(X, "tocsr") and not (X.dtype in check.FLOATS or X.dtype in _SCIPY_DIVIDES):
        return _rows_of_other_dtype(X, rows)
    if rows[-1] - rows[0] + 1 == len(rows) and (np.diff(rows) == 1).all():
        return X[int(rows[0]) : int(rows[-1]) + 1]
    return safe_indexing(X, rows)


def _score_by_name(scorer, model, X, rows, y, *, exponent: int = 0, **more) -> float:
    """Return the score, where y and predictions are divided by 2^exponent."""
    return float(scorer(_Judged(model, X, exponent), rows, y, **more))


def _score_by_callable(scorer, model, X, rows, y, **more) -> float:
    judged = _JudgedOnHost(model) if lives_on_device(X) else model
    return float(scorer(judged, _rows_of(X, rows), y, **more))


def _rows_of_other_dtype(X, rows: np.ndarray):
    """`_rows_of` for CSR of dtypes that SciPy cannot slice: float16, big-endian, objects."""
    part = take_rows(CSR(X.data, X.indices, X.indptr, X.shape), rows)
    assert isinstance(part, CSR)
    out = csr_array(part.shape)
    out.data, out.indices, out.indptr = part.data, part.indices, part.indptr
    return out


class _Data(NamedTuple):
    """The data that are divided into folds."""

    X: Any
    y: Any
    sample_weight: Any
    y_judged: np.ndarray  # y for the scorers, on the host
    judged_weight: np.ndarray | None  # the weights for the scorers


def _scores_of_path(model, data: _Data, alphas, fold, score) -> list[float]:
    """Return the scores on the held-out rows of a fold, one per strength."""
    train, held = fold
    more = {} if data.judged_weight is None else {"sample_weight": data.judged_weight[held]}
    scores = []
    for alpha in alphas:
        _fit_rows(model.set_params(alpha=float(alpha)), data, train)
        scores.append(score(model, data.X, held, data.y_judged[held], **more))
    return scores


def _fit_rows(model, data: _Data, train) -> None:
    """Fit the model to these rows, without copying them where they are many.

    learning_rate="auto" then gets all rows, with weight zero for those not to be fitted, which have
    no effect on it. Descents at other rates get the numbers of the rows to visit. With
    early stopping the rows are always copied, since it would hold out some of the others.
    """
    X, y, s = data.X, data.y, data.sample_weight
    is_large = not lives_on_device(X) and _numbers(X) * len(train) > COPIED_NUMBERS * X.shape[0]
    if is_large and not model.early_stopping:
        if not model._automatic:
            model._fit_heard(X, y, s, rows=np.asarray(train, dtype=np.int64))
            return
        counts = np.bincount(train, minlength=X.shape[0])
        if counts.max() == 1:
            model.fit(X, y, sample_weight=counts.astype(np.float64) if s is None else counts * s)
            return
    model.fit(_rows_of(X, train), y[train], sample_weight=None if s is None else s[train])


def _numbers(X) -> int:
    return X.nnz if hasattr(X, "nnz") else X.size
