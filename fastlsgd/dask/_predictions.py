"""Predictions and scores of Dask collections, computed when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import dask
import dask.array as da
import numpy as np
from sklearn.utils.validation import check_is_fitted

from .. import _validation as check
from ..linear_model._base import DRAFT, as_published, check_labels
from ._blocks import blocks_of, blocks_of_x, fitted_columns, is_array, is_lazy
from ._sums import WorkerSetting, of_block, prepared, setting_of, summed

# The names of the columns are compared before blocks are read.
NOT_FOR_PREDICTIONS = ("_moments", "_evidence", "loss_curve_", "coef_path_", "intercept_path_",
                       "feature_names_in_")  # fmt: skip


class LazyModel:
    """`predict`, `score` and what else maps blocks of rows, for a mixin of an estimator."""

    _plain: Any  # the class of the same estimator for rows in memory

    def in_memory(self):
        """Return the fitted model as the estimator of fastlsgd itself, for rows in memory.

        Returns
        -------
        model : estimator
            With the same parameters and fitted attributes.

        Examples
        --------
        >>> import dask.array as da
        >>> from fastlsgd.dask import LeastSquaresRegressor
        >>> X = da.arange(8, chunks=4).astype(float)[:, None]
        >>> model = LeastSquaresRegressor().fit(X, 2.0 * X[:, 0] + 1.0).in_memory()
        >>> model.predict([[10.0]]).round(6).tolist()
        [21.0]
        """
        estimator: Any = self
        model = self._plain(**estimator.get_params(deep=False))
        model.__dict__.update(vars(as_published(self)))
        model.__dict__.pop(DRAFT, None)
        return model

    def _light(self):
        """Return the model with what predictions need, which is sent to the workers."""
        model = self.in_memory()
        for name in NOT_FOR_PREDICTIONS:
            model.__dict__.pop(name, None)
        return model

    def _mapped(self, X, method: str):
        """Return a dask array of what a method gives for the rows of X."""
        check_is_fitted(self)
        fitted_columns(self, X)
        estimator: Any = self
        model, blocks = self._light(), blocks_of_x(X)
        setting = setting_of(estimator.backend, estimator.n_jobs, blocks)
        example = getattr(model, method)(np.zeros((1, blocks.n_features), blocks.dtype))
        light = dask.delayed(model, traverse=False)
        options = {"method": method, "setting": setting, "nothing": example[:0]}
        if is_array(X):
            has_columns = example.ndim == 2
            return X.map_blocks(
                predicted,
                model=light,
                **options,
                meta=example[:0],
                drop_axis=None if has_columns else 1,
                chunks=(X.chunks[0], example.shape[1:]) if has_columns else None,
            )
        call, shape = dask.delayed(predicted, pure=False), (np.nan, *example.shape[1:])
        arrays = [
            da.from_delayed(
                call(part.X, model=light, **options, block_id=(part.number,)),
                shape,
                meta=example[:0],
            )
            for part in blocks.parts
        ]
        return da.concatenate(arrays, allow_unknown_chunksizes=True)

    def _scored(self, X, y, sample_weight, compute: Callable, finish: Callable):
        """Return a dask array without dimensions, of a score from sums over blocks."""
        check_is_fitted(self)
        fitted_columns(self, X)
        estimator: Any = self
        blocks = blocks_of(X, y, sample_weight, labels=True)
        setting = setting_of(estimator.backend, estimator.n_jobs, blocks)
        light = dask.delayed(self._light(), traverse=False)
        total = summed(blocks, setting, compute, light)
        return da.from_delayed(dask.delayed(finish)(total), (), meta=np.zeros(()))


def predicted(
    X, *, model, method: str, setting: WorkerSetting, nothing, block_id: tuple[int, ...]
) -> np.ndarray:
    """Return what a method of the model gives for a block, whose number begins `block_id`."""
    if X.shape[0] == 0:
        return nothing
    block = X, None, None, block_id[0]
    return of_block(setting, block, lambda rows, y, s: getattr(model, method)(rows))


class Squares(NamedTuple):
    """Weight, mean of y, its squares about that, and squares of residuals; of each target."""

    n_rows: int
    weight: float
    mean: np.ndarray  # (t,)
    spread: np.ndarray  # (t,)
    error: np.ndarray  # (t,)

    def __add__(self, other) -> Squares:  # type: ignore[override]
        weight = self.weight + other.weight
        step = other.mean - self.mean
        spread = self.spread + other.spread + step**2 * (self.weight * other.weight / weight)
        mean = self.mean + step * (other.weight / weight)
        rows = self.n_rows + other.n_rows
        return Squares(rows, weight, mean, spread, self.error + other.error)


def squares_of_block(X, y, s, model) -> Squares | None:
    """Return the sums for R2."""
    if X.shape[0] == 0:
        return None
    y, s = prepared(X, y, s, None)
    y = check.as_targets(y, X.shape[0], np.float64)
    check.explain_non_finite(y=y)
    out = model.predict(X).reshape(y.shape)
    weights = _weights(s, len(y))
    weight = float(weights.sum())
    if not weight > 0.0:
        return None
    mean = weights @ y / weight
    return Squares(len(y), weight, mean, weights @ (y - mean) ** 2, weights @ (y - out) ** 2)


def _weights(s, n: int) -> np.ndarray:
    weights = check.as_sample_weight(s, n, np.float64, some_weight=False)
    if weights is None:
        return np.ones(n)
    if not np.isfinite(weights.sum()):
        raise ValueError("The sum of sample_weight overflows: rescale the weights.")
    return weights


def r2_of(total: Squares | None) -> np.ndarray:
    """Return R2, the mean over targets, as scikit-learn defines it for targets that never vary."""
    if total is None or total.n_rows < 2:
        return np.array(np.nan)
    varies, is_exact = total.spread > 0.0, total.error == 0.0
    share = np.divide(total.error, total.spread, out=np.zeros_like(total.error), where=varies)
    return np.array(np.where(varies, 1.0 - share, np.where(is_exact, 1.0, 0.0)).mean())


class Hits(NamedTuple):
    """Weight of the rows, and of those whose prediction is right."""

    weight: float
    right: float

    def __add__(self, other) -> Hits:  # type: ignore[override]
        return Hits(self.weight + other.weight, self.right + other.right)


def labels_in_one_column(y) -> np.ndarray:
    """Return labels (n,) of those of shape (n,) or (n, 1).

    Raises
    ------
    ValueError
        If they have another shape, or labels are missing.
    """
    check_labels(y, "y")
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ValueError(f"y must have one label per row, got shape {labels.shape}.")
    if labels.dtype.kind == "f":
        check.explain_non_finite(y=labels)
    return labels


def hits_of_block(X, y, s, model) -> Hits | None:
    """Return the sums for the accuracy."""
    if X.shape[0] == 0:
        return None
    y, s = prepared(X, y, s, None)
    right = model.predict(X) == labels_in_one_column(y)
    weights = _weights(s, len(right))
    return Hits(float(weights.sum()), float(weights @ right))


def accuracy_of(total: Hits | None) -> np.ndarray:
    return np.array(np.nan if total is None or not total.weight else total.right / total.weight)


class LazyRegressor(LazyModel):
    """R2, lazily."""

    def score(self, X, y, sample_weight=None):
        """R2 of the predictions, the mean over targets, lazily for Dask collections.

        Parameters
        ----------
        X, y, sample_weight
            As of `fit`; or in memory.

        Returns
        -------
        score : dask.array.Array of shape (), or float
            ``float(score)`` and ``score.compute()`` make the pass.
        """
        if not is_lazy(X):
            return self.in_memory().score(X, y, sample_weight)
        return self._scored(X, y, sample_weight, squares_of_block, r2_of)


class LazyClassifier(LazyModel):
    """Labels, scores of the classes and accuracy, lazily."""

    def predict(self, X):
        """Predict the rows of a Dask collection lazily, or those of an array at once.

        Parameters
        ----------
        X : dask array or dataframe, or array-like, of shape (n_samples, n_features)

        Returns
        -------
        y : dask.array.Array or ndarray of shape (n_samples,)
            Labels, as in `classes_`. The blocks are those of X.

        Raises
        ------
        ValueError
            If the columns are not those of the fit.
        """
        return self._mapped(X, "predict") if is_lazy(X) else self.in_memory().predict(X)

    def decision_function(self, X):
        """Scores of the classes, lazily for Dask collections.

        Parameters
        ----------
        X : dask array or dataframe, or array-like, of shape (n_samples, n_features)

        Returns
        -------
        scores : dask.array.Array or ndarray of shape (n_samples,) or (n_samples, n_classes)
        """
        if not is_lazy(X):
            return self.in_memory().decision_function(X)
        return self._mapped(X, "decision_function")

    def score(self, X, y, sample_weight=None):
        """Accuracy of the predictions, lazily for Dask collections.

        Parameters
        ----------
        X, y, sample_weight
            As of `fit`; or in memory.

        Returns
        -------
        score : dask.array.Array of shape (), or float
            ``float(score)`` and ``score.compute()`` make the pass.
        """
        if not is_lazy(X):
            return self.in_memory().score(X, y, sample_weight)
        return self._scored(X, y, sample_weight, hits_of_block, accuracy_of)
