"""Lasso and elastic net, alone and with cross-validation by folds."""

from __future__ import annotations

from numbers import Integral, Number, Real
from typing import Self

import numpy as np
from sklearn import linear_model
from sklearn.model_selection import check_cv

from .._sklearn_compat import fit_context
from ._dispatch import (
    fit_or_fall_back,
    require,
    require_no_metadata,
    set_weights,
    solve,
    solve_cv,
    validated,
    weights_of_rows,
)

# Fewer epochs of coordinate descent ask for a fit that has not converged.
LEAST_ITERATIONS = 1000
# The least penalty of a grid, as in scikit-learn.
LEAST_ALPHA = np.finfo(np.float64).resolution


def _require_descent_to_the_end(estimator) -> None:
    """Raise Unsupported where the course of the descent is asked for, not only its end."""
    require(
        estimator.max_iter >= LEAST_ITERATIONS,
        f"max_iter={estimator.max_iter} may end the descent early",
    )
    precompute = estimator.precompute
    require(isinstance(precompute, (bool, np.bool_, str)), "a Gram matrix is given as precompute")


def _set_certificates(estimator, found) -> None:
    estimator.dual_gap_ = found.coef_.dtype.type(found.dual_gap_)
    estimator.n_iter_ = max(1, int(found.n_iter_))


def _fit_elastic_net(estimator, X, y, sample_weight, check_input: bool) -> None:
    _require_descent_to_the_end(estimator)
    require(check_input, "check_input is off")
    require(not estimator.warm_start, "warm_start is on")
    require(estimator.alpha > 0.0, "alpha=0 is LinearRegression's problem")
    require(estimator.l1_ratio > 0.0, "l1_ratio=0 is Ridge's problem")
    X, y = validated(estimator, X, y, multi_output=True)
    require(y.ndim == 1 or y.shape[1] == 1, "there are several targets")
    s, _ = weights_of_rows(None if isinstance(sample_weight, Number) else sample_weight, X)
    found = solve(
        X,
        y,
        s,
        alpha=float(estimator.alpha),
        l1_ratio=float(estimator.l1_ratio),
        positive=estimator.positive,
        fit_intercept=estimator.fit_intercept,
    )
    set_weights(estimator, found, ravel=True)
    _set_certificates(estimator, found)


class ElasticNet(linear_model.ElasticNet):
    """scikit-learn's ElasticNet, fitted by fastlsgd where it gives the same result.

    The fit ends far closer to the optimum than `tol` asks for.

    See Also
    --------
    sklearn.linear_model.ElasticNet : Parameters, attributes and methods.

    Examples
    --------
    >>> from fastlsgd.sklearn import ElasticNet
    >>> model = ElasticNet(alpha=0.5).fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])
    >>> model.coef_.round(6).tolist()
    [1.181818]
    """

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, check_input=True) -> Self:
        """Fit the model; as scikit-learn's method."""
        return fit_or_fall_back(
            self,
            X,
            lambda: _fit_elastic_net(self, X, y, sample_weight, check_input),
            lambda: super(ElasticNet, self).fit(X, y, sample_weight, check_input),
        )


class Lasso(linear_model.Lasso):
    """scikit-learn's Lasso, fitted by fastlsgd where it gives the same result.

    The fit ends far closer to the optimum than `tol` asks for.

    See Also
    --------
    sklearn.linear_model.Lasso : Parameters, attributes and methods.

    Examples
    --------
    >>> from fastlsgd.sklearn import Lasso
    >>> model = Lasso(alpha=0.5).fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])
    >>> model.coef_.round(6).tolist()
    [1.25]
    """

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, check_input=True) -> Self:
        """Fit the model; as scikit-learn's method."""
        return fit_or_fall_back(
            self,
            X,
            lambda: _fit_elastic_net(self, X, y, sample_weight, check_input),
            lambda: super(Lasso, self).fit(X, y, sample_weight, check_input),
        )


def _grid(estimator, X, y, sample_weight, l1_ratio: float) -> np.ndarray:
    """Return penalties from the least one with weights of zero downwards, as scikit-learn does."""
    from ..functional import loss_gradient

    centre = np.average(y, weights=sample_weight) if estimator.fit_intercept else 0.0
    at_zero = loss_gradient(
        X, y - centre, np.zeros(X.shape[1], X.dtype), sample_weight=sample_weight
    )
    products = -np.asarray(at_zero.coef, np.float64)
    largest = products.max() if estimator.positive else np.abs(products).max()
    largest = max(0.0, float(largest)) / l1_ratio
    if largest <= LEAST_ALPHA:
        return np.full(estimator.alphas, LEAST_ALPHA)
    return np.geomspace(largest, largest * estimator.eps, num=estimator.alphas)


def _fit_cv(estimator, X, y, sample_weight, params) -> None:
    """Choose `alpha_` and, of an elastic net, `l1_ratio_`, by folds, and fit."""
    _require_descent_to_the_end(estimator)
    require_no_metadata(params)
    require(not estimator.verbose, "verbose is on")
    ratios = np.atleast_1d(getattr(estimator, "l1_ratio", 1.0))
    require(all(ratio > 0.0 for ratio in ratios), "l1_ratio=0 is RidgeCV's problem")
    given = estimator.alphas
    is_count = isinstance(given, Integral)
    require(
        is_count
        or (np.ndim(given) == 1 and all(isinstance(a, Real) and float(a) > 0.0 for a in given)),
        "alphas are neither a count nor positive numbers",
    )
    X, y = validated(estimator, X, y)
    require(y.ndim == 1, "y has two dimensions")
    s, _ = weights_of_rows(None if isinstance(sample_weight, Number) else sample_weight, X)
    folds = list(check_cv(estimator.cv).split(X, y))
    fits = []
    for ratio in ratios:
        alphas = _grid(estimator, X, y, s, ratio) if is_count else np.sort(given)[::-1]
        fits.append(
            solve_cv(
                X,
                y,
                s,
                alphas=alphas.tolist(),
                l1_ratio=float(ratio),
                positive=estimator.positive,
                fit_intercept=estimator.fit_intercept,
                cv=folds,
            )
        )
    k = int(np.argmin([-found.best_score_ for found in fits]))
    if hasattr(estimator, "l1_ratio"):
        estimator.l1_ratio_ = ratios[k]
    _take_best(estimator, fits[k], fits, is_count)


def _take_best(estimator, best, fits: list, is_count: bool) -> None:
    """Set the attributes of the best of these fits, one for each ratio, and of all of them."""
    estimator.mse_path_ = np.squeeze([found.mse_path_ for found in fits])
    estimator.alpha_ = np.float64(best.alpha_)
    grids = np.array([found.alphas_ for found in fits])
    estimator.alphas_ = grids if is_count and len(fits) > 1 else grids[0]
    set_weights(estimator, best, ravel=True)
    _set_certificates(estimator, best)


class ElasticNetCV(linear_model.ElasticNetCV):
    """scikit-learn's ElasticNetCV, fitted by fastlsgd where it gives the same result.

    See Also
    --------
    sklearn.linear_model.ElasticNetCV : Parameters, attributes and methods.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from fastlsgd.sklearn import ElasticNetCV
    >>> X, y = load_diabetes(return_X_y=True)
    >>> round(ElasticNetCV(l1_ratio=0.9).fit(X, y).score(X, y), 3)
    0.512
    """

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, **params) -> Self:
        """Fit the model; as scikit-learn's method."""
        return fit_or_fall_back(
            self,
            X,
            lambda: _fit_cv(self, X, y, sample_weight, params),
            lambda: super(ElasticNetCV, self).fit(X, y, sample_weight, **params),
        )


class LassoCV(linear_model.LassoCV):
    """scikit-learn's LassoCV, fitted by fastlsgd where it gives the same result.

    See Also
    --------
    sklearn.linear_model.LassoCV : Parameters, attributes and methods.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from fastlsgd.sklearn import LassoCV
    >>> X, y = load_diabetes(return_X_y=True)
    >>> round(LassoCV().fit(X, y).score(X, y), 3)
    0.517
    """

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, **params) -> Self:
        """Fit the model; as scikit-learn's method."""
        return fit_or_fall_back(
            self,
            X,
            lambda: _fit_cv(self, X, y, sample_weight, params),
            lambda: super(LassoCV, self).fit(X, y, sample_weight, **params),
        )
