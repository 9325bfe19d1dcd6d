"""`LeastSquaresClassifier` over Dask collections."""

from __future__ import annotations

from typing import Any, Self

import dask
import numpy as np

from .. import _validation as check
from .. import linear_model
from ..kernels.contract import working_dtype
from ..linear_model._base import all_or_nothing, check_class_weight, check_classes
from ..linear_model._from_passes import needs_passes
from ..linear_model._least_squares_classifier import REGRESSOR_ATTRIBUTES
from ..streaming.source import distinct
from ._blocks import DaskBlocks, blocks_of, is_lazy
from ._predictions import LazyClassifier, labels_in_one_column
from ._regressors import MOMENTS_MEMORY, collected, descend
from ._sums import WorkerSetting, prepared, setting_of, summed


class LabelCounts:
    """How many rows have each label."""

    def __init__(self, labels: np.ndarray, counts: np.ndarray) -> None:
        self.labels, self.counts = labels, counts

    def __add__(self, other: LabelCounts) -> LabelCounts:
        labels = distinct(iter((self.labels, other.labels)))
        counts = np.zeros(len(labels), np.int64)
        for part in (self, other):
            counts[np.searchsorted(labels, part.labels)] += part.counts
        return LabelCounts(labels, counts)


def labels_of_block(X, y, s) -> LabelCounts | None:
    """Return the labels of a block."""
    y, _ = prepared(X, y, s, None)
    if len(y) == 0:
        return None
    return LabelCounts(*np.unique(labels_in_one_column(y), return_counts=True))


def label_counts(blocks: DaskBlocks, setting: WorkerSetting) -> LabelCounts:
    """Return how many rows have each label, by a pass over y.

    Raises
    ------
    ValueError
        If there are not two labels at least.
    """
    found = dask.compute(summed(blocks, setting, labels_of_block))[0]
    if found is None:
        raise ValueError("y has no rows.")
    check_classes(found.labels)
    return found


def class_weights(class_weight, found: LabelCounts) -> Any:
    """Return the weights of the classes; those that are balanced by all labels as a dict."""
    check_class_weight(class_weight)
    if not isinstance(class_weight, str):
        return class_weight
    # scikit-learn's compute_class_weight asks for all labels, which may be more than fit here.
    factors = found.counts.sum() / (len(found.labels) * found.counts)
    return dict(zip(found.labels.tolist(), factors.tolist(), strict=True))


class SignedTargets:
    """Makes targets of -1 and 1 of labels, and multiplies the weights by those of the classes."""

    def __init__(self, estimator, labels: np.ndarray) -> None:
        self.estimator, self.labels = estimator, labels

    def __call__(self, X, y, s):
        y = np.asarray(y).reshape(X.shape[0])
        s = check.as_sample_weight(s, X.shape[0], some_weight=False)
        dtype = working_dtype(np.result_type(*X.dtypes) if hasattr(X, "dtypes") else X.dtype)
        return self.estimator._signed(y, s, self.labels, dtype)


class LeastSquaresClassifier(LazyClassifier, linear_model.LeastSquaresClassifier):
    """Linear classifier over Dask arrays and dataframes: least squares to one target per class.

    Parameters, fitted attributes and results are those of :class:`fastlsgd.LeastSquaresClassifier`
    for labels that exclude each other; `fit` takes Dask collections, and `predict`,
    `decision_function` and `score` of them are lazy. One pass over y finds the classes, then the
    targets are fitted as by :class:`fastlsgd.dask.LeastSquaresRegressor`.

    Parameters
    ----------
    alpha, l1_ratio, positive, fit_intercept, class_weight, solver, tol, max_iter, warm_start, \
backend
        As of :class:`fastlsgd.LeastSquaresClassifier`.
    n_jobs : int or None, default=None
        Threads of each task; None is one.

    Examples
    --------
    >>> import dask.array as da
    >>> from sklearn.datasets import load_iris
    >>> from fastlsgd.dask import LeastSquaresClassifier
    >>> X, y = (da.from_array(part, chunks=50) for part in load_iris(return_X_y=True))
    >>> model = LeastSquaresClassifier().fit(X, y)
    >>> round(float(model.score(X, y)), 3)
    0.847
    """

    _plain = linear_model.LeastSquaresClassifier

    def fit(self, X, y, sample_weight=None) -> Self:
        """Fit the model to the rows of Dask collections.

        Parameters
        ----------
        X, sample_weight
            As of :meth:`LeastSquaresRegressor.fit`.
        y : dask array or series of shape (n_samples,)
            Labels, of two classes or more, in blocks of the rows of X.

        Returns
        -------
        self : LeastSquaresClassifier

        Raises
        ------
        ValueError
            As of :meth:`LeastSquaresRegressor.fit`.
        """
        with all_or_nothing(self):
            regressor, _ = self._regressor()
            blocks = blocks_of(X, y, sample_weight, labels=True)
            setting = setting_of(self.backend, self.n_jobs, blocks)
            found = label_counts(blocks, setting)
            weights = class_weights(self.class_weight, found)
            worker = linear_model.LeastSquaresClassifier(class_weight=weights)
            prepare = SignedTargets(worker, found.labels)
            self._fit_targets(regressor, blocks, setting, prepare)
            for name in ("_label_binarizer", "_moments", "feature_names_in_"):
                self.__dict__.pop(name, None)
            for name in REGRESSOR_ATTRIBUTES:
                setattr(self, name, getattr(regressor, name))
            self.classes_, self.n_features_in_ = found.labels, blocks.n_features
            if blocks.names is not None:
                self.feature_names_in_ = np.array(blocks.names, dtype=object)
        return self

    def _fit_targets(
        self, regressor, blocks: DaskBlocks, setting: WorkerSetting, prepare: SignedTargets
    ) -> None:
        if needs_passes(self.solver, blocks.n_features, MOMENTS_MEMORY):
            descend(regressor, blocks, setting, prepare)
        else:
            regressor.fit_moments(collected(blocks, setting, self.solver, prepare))

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Add rows in memory to those of the calls before, and fit the model to all of them.

        Parameters
        ----------
        X, y, classes, sample_weight
            As of :meth:`fastlsgd.LeastSquaresClassifier.partial_fit`.

        Returns
        -------
        self : LeastSquaresClassifier

        Raises
        ------
        ValueError
            If X is a Dask collection: these are for `fit`.
        """
        if is_lazy(X):
            raise ValueError("partial_fit takes rows in memory; fit takes Dask collections.")
        return super().partial_fit(X, y, classes, sample_weight)
