"""`LeastSquaresRegressor` and `LeastSquaresCV` over Dask collections."""

from __future__ import annotations

from typing import Any, Self

import dask
import numpy as np

from .. import linear_model
from .._column_totals import ColumnTotals
from ..linear_model._base import all_or_nothing
from ..linear_model._from_passes import adopt_path, needs_passes, path_of
from ..moments import Moments
from ..solvers.pass_descent import PathDescent
from ._blocks import DaskBlocks, blocks_of, is_lazy
from ._predictions import LazyRegressor
from ._sums import (
    WorkerSetting,
    folds_of_block,
    gradient_of_block,
    groups_of,
    moments_of_block,
    setting_of,
    summed,
    totals_of_block,
)

# Moments of a block may take so many bytes on a worker; with more columns, descents make passes.
MOMENTS_MEMORY = 2**29


def collected(blocks: DaskBlocks, setting: WorkerSetting, solver: str, prepare=None) -> Moments:
    """Return the moments of all blocks."""
    factor = "qr" if solver == "qr" else "gram"
    found = dask.compute(summed(blocks, setting, moments_of_block, factor, prepare))[0]
    return named_sums(found, blocks)


def named_sums(found, blocks: DaskBlocks):
    """Return sums that have rows, with the names of the columns."""
    if found is None or found.n_samples == 0:
        raise ValueError("There are no rows of positive sample_weight.")
    if blocks.names is not None:
        found.feature_names_in_ = np.array(blocks.names, dtype=object)
    return found


def named_folds(found: dict[int, Moments], n_folds: int, blocks: DaskBlocks) -> list[Moments]:
    """Return the moments of all folds, each of which must have rows of positive weight."""
    has_rows = [k in found and found[k].n_samples > 0 for k in range(n_folds)]
    if any(has_rows) and not all(has_rows):
        raise ValueError(
            f"sample_weight is all zero in a fold or outside it: on the rows to be judged of fold "
            f"{has_rows.index(False)}."
        )
    return [named_sums(found.get(k), blocks) for k in range(n_folds)]


def descend(
    regressor, blocks: DaskBlocks, setting: WorkerSetting, prepare=None
) -> tuple[ColumnTotals, PathDescent]:
    """Fit a regressor by gradients, each of which is a step of all workers."""
    alphas = regressor._check_parameters()
    groups = groups_of(blocks.parts)
    found = dask.compute(summed(blocks, setting, totals_of_block, prepare, groups=groups))[0]
    totals = named_sums(found, blocks)
    path = path_of(regressor, totals, alphas)
    while not path.has_ended:
        request = dask.delayed(path.request(), traverse=False)
        sums = summed(blocks, setting, gradient_of_block, request, prepare, groups=groups)
        found = dask.compute(sums)[0]
        path.take(found.sums.means())
    adopt_path(regressor, totals, path)
    return totals, path


class LazyLeastSquares(LazyRegressor):
    """`fit` by sums over blocks."""

    def fit(self, X, y, sample_weight=None) -> Self:
        """Fit the model to the rows of Dask collections.

        Parameters
        ----------
        X : dask.array.Array of shape (n_samples, n_features), or dask.dataframe.DataFrame
            In blocks of whole rows, dense or SciPy sparse; their lengths need not be known. Where
            a fit takes several passes, or several fits are made, ``X.persist()`` keeps the rows in
            the memory of the workers.
        y : dask array, series or dataframe of shape (n_samples,) or (n_samples, n_targets)
            In blocks of the same rows; an array in memory, where the lengths are known.
        sample_weight : dask array or series of shape (n_samples,), optional
            Not negative, not all zero. Default: ones.

        Returns
        -------
        self : object
            The estimator; its fitted attributes are in memory.

        Raises
        ------
        ValueError
            If a parameter or the collections are not allowed, or rows; then the message names the
            number of the block and the column.

        Notes
        -----
        A task uses one thread; with ``n_jobs=k``, k, for workers of one thread on several
        processors. The sums are added up by a tree, that of each worker's own blocks first if they
        are in its memory. So results are the same for any blocks but for rounding.
        """
        estimator: Any = self
        with all_or_nothing(self):
            estimator._check_parameters()
            blocks = blocks_of(X, y, sample_weight)
            setting = setting_of(estimator.backend, estimator.n_jobs, blocks)
            if needs_passes(estimator.solver, blocks.n_features, MOMENTS_MEMORY):
                descend(self, blocks, setting)
            else:
                estimator.fit_moments(collected(blocks, setting, estimator.solver))
        return self

    def predict(self, X, return_std: bool = False):
        """Predict the rows of a Dask collection lazily, or those of an array at once.

        Parameters
        ----------
        X : dask array or dataframe, or array-like, of shape (n_samples, n_features)
        return_std : bool, default=False
            As of the estimator for rows in memory, and for these only.

        Returns
        -------
        y : dask.array.Array or ndarray of shape (n_samples,) or (n_samples, n_targets)
            As of the estimator for rows in memory. The blocks are those of X.

        Raises
        ------
        ValueError
            If the columns are not those of the fit.
        """
        if not is_lazy(X):
            return self.in_memory().predict(X, return_std)
        if return_std:
            raise ValueError("return_std is for rows in memory: in_memory() has the model for it.")
        return self._mapped(X, "predict")


class LeastSquaresRegressor(LazyLeastSquares, linear_model.LeastSquaresRegressor):
    """Linear least squares over Dask arrays and dataframes, with L2, L1 and sign constraints.

    Parameters, fitted attributes and results are those of :class:`fastlsgd.LeastSquaresRegressor`;
    `fit` takes Dask collections, and `predict` and `score` of them are lazy.

    Where moments of n_features x n_features numbers are small enough (up to 4,096 columns), one
    pass over the rows collects them, on each worker for its own blocks, and the solution is exact
    for any penalty or path. For more columns each gradient of a descent is a pass, by conjugate
    gradients, or with L1 or `positive` by accelerated proximal steps; a step moves n_features
    numbers per worker. ``solver="gram"``, "sketch" and "qr" choose moments in any case, "cg" and
    "nesterov" choose descents.

    Parameters
    ----------
    alpha, l1_ratio, positive, fit_intercept, solver, tol, max_iter, warm_start, backend
        As of :class:`fastlsgd.LeastSquaresRegressor`.
    n_jobs : int or None, default=None
        Threads of each task; None is one.

    See Also
    --------
    moments : What the exact fits are made from.

    Examples
    --------
    >>> import dask.array as da
    >>> from fastlsgd.dask import LeastSquaresRegressor
    >>> X = da.random.default_rng(0).normal(size=(1000, 3), chunks=(250, 3))
    >>> y = X @ [1.0, 2.0, 3.0]
    >>> model = LeastSquaresRegressor(alpha=[0.5, 0.1], l1_ratio=1.0).fit(X, y)
    >>> model.coef_path_.shape, float(model.score(X, y)).__round__(2)
    ((2, 3), 1.0)
    """

    _plain = linear_model.LeastSquaresRegressor

    def partial_fit(self, X, y, sample_weight=None):
        """Add the rows of Dask collections to those of the calls before, and fit to all of them.

        Parameters
        ----------
        X, y, sample_weight
            As of `fit`; or in memory.

        Returns
        -------
        self : LeastSquaresRegressor

        Raises
        ------
        ValueError
            As of `fit`, or if the columns or targets are others than before.
        """
        if not is_lazy(X):
            return super().partial_fit(X, y, sample_weight)
        with all_or_nothing(self):
            alphas = self._check_parameters()
            blocks = blocks_of(X, y, sample_weight)
            setting = setting_of(self.backend, self.n_jobs, blocks)
            moments = collected(blocks, setting, self.solver)
            if hasattr(self, "_moments"):
                moments = self._moments + moments
            self._take_columns(moments)
            self._moments = moments
            self._solve_moments(moments, alphas, None, refuse=False)
        return self


class LeastSquaresCV(LazyLeastSquares, linear_model.LeastSquaresCV):
    """Least squares over Dask collections, with `alpha` chosen by cross-validation.

    The folds are those of ``KFold(cv)``: runs of consecutive rows of nearly equal length, whatever
    the blocks are, by default five. One pass collects the moments of each fold, and each is judged
    by the fit to all others.

    Parameters
    ----------
    alphas, l1_ratio, positive, fit_intercept, solver, tol, max_iter, backend
        As of :class:`fastlsgd.LeastSquaresCV`.
    cv : int >= 2 or None, default=None
        How many folds there are; None is 5.
    n_jobs : int or None, default=None
        Threads of each task; None is one.

    Examples
    --------
    >>> import dask.array as da
    >>> from fastlsgd.dask import LeastSquaresCV
    >>> X = da.random.default_rng(0).normal(size=(1000, 3), chunks=(250, 3))
    >>> LeastSquaresCV(alphas=[1.0, 1e-4]).fit(X, X @ [1.0, 2.0, 3.0]).alpha_
    0.0001
    """

    _plain = linear_model.LeastSquaresCV

    def fit(self, X, y, sample_weight=None) -> Self:  # type: ignore[override]
        """Find `alpha_` by folds, and fit with it to all rows.

        Parameters
        ----------
        X, y, sample_weight
            As of :meth:`LeastSquaresRegressor.fit`. Where the lengths of blocks are not known, a
            first pass counts the rows.

        Returns
        -------
        self : LeastSquaresCV

        Raises
        ------
        ValueError
            As of :meth:`LeastSquaresRegressor.fit`, or if `cv` is no number of folds.
        """
        with all_or_nothing(self):
            alphas = [1.0] if self.alphas is None else self.alphas
            self._check_other_parameters(bool(np.any(alphas)))
            n_folds = self._n_folds_of_streams()
            blocks = blocks_of(X, y, sample_weight)
            lengths = blocks.lengths
            if lengths is None:
                lengths = dask.compute([dask.delayed(len)(part.X) for part in blocks.parts])[0]
            n = sum(lengths)
            if n < n_folds:
                raise ValueError(f"cv={n_folds} folds need as many rows, but X has {n}.")
            sizes = np.full(n_folds, n // n_folds) + (np.arange(n_folds) < n % n_folds)
            cuts = np.append(0, np.cumsum(sizes))
            starts = np.append(0, np.cumsum(lengths))[:-1].tolist()
            setting = setting_of(self.backend, self.n_jobs, blocks)
            factor = "qr" if self.solver == "qr" else "gram"
            total = summed(blocks, setting, folds_of_block, factor, cuts, of_each=starts)
            found = dask.compute(total)[0].parts
            self.fit_moments(named_folds(found, n_folds, blocks))
        return self
