"""Least squares over Dask arrays and dataframes: the estimators of fastlsgd, for many machines.

Each worker takes the sums of its own blocks of rows with fastlsgd's kernels, and a tree adds them
up: products of columns once, or where there are too many columns for that, one gradient per step.
Stochastic descents go from block to block. Rows stay where they are. See docs/scaling.md.

>>> import dask.array as da
>>> from fastlsgd.dask import LeastSquaresRegressor
>>> X = da.random.default_rng(0).normal(size=(1000, 3), chunks=(250, 3))
>>> model = LeastSquaresRegressor().fit(X, X @ [1.0, 2.0, 3.0] + 5.0)
>>> model.coef_.round(6).tolist(), round(model.intercept_, 6)
([1.0, 2.0, 3.0], 5.0)
>>> model.predict(X).chunks
((250, 250, 250, 250),)
"""

from __future__ import annotations

try:
    import dask as _dask  # noqa: F401
except ImportError as error:
    raise ImportError(
        'fastlsgd.dask needs the package dask: pip install "fastlsgd[dask]".'
    ) from error

from ._classifier import LeastSquaresClassifier
from ._regressors import LeastSquaresCV, LeastSquaresRegressor
from ._stochastic import SGDClassifier, SGDRegressor
from ._sums import moments

__all__ = [
    "LeastSquaresCV",
    "LeastSquaresClassifier",
    "LeastSquaresRegressor",
    "SGDClassifier",
    "SGDRegressor",
    "moments",
]
