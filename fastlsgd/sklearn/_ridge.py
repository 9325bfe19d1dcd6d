"""Ordinary least squares and ridge, with scikit-learn's penalty on the sum over the rows."""

from __future__ import annotations

from numbers import Real
from typing import Self

import numpy as np
from scipy import sparse
from sklearn import linear_model

from .._sklearn_compat import fit_context
from ._dispatch import (
    KEPT_DTYPES,
    fit_or_fall_back,
    penalties_of_targets,
    require,
    require_no_metadata,
    set_weights,
    solve,
    validated,
    weights_of_rows,
)

# Singular values as small as this, relative to the largest, are left to LAPACK.
SMALL_VALUE = 1e-5


class LinearRegression(linear_model.LinearRegression):
    """scikit-learn's LinearRegression, fitted by fastlsgd where it gives the same result.

    See Also
    --------
    sklearn.linear_model.LinearRegression : Parameters, attributes and methods.

    Examples
    --------
    >>> from fastlsgd.sklearn import LinearRegression
    >>> model = LinearRegression().fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])
    >>> model.coef_.round(9).tolist(), model.rank_
    ([2.0], 1)
    """

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None) -> Self:
        """Fit the model; as scikit-learn's method."""
        return fit_or_fall_back(
            self,
            X,
            lambda: self._fit_by_fastlsgd(X, y, sample_weight),
            lambda: super(LinearRegression, self).fit(X, y, sample_weight),
        )

    def _fit_by_fastlsgd(self, X, y, sample_weight):
        require(not (self.positive and sparse.issparse(X)), "positive=True is for dense X")
        # Unlike the other classes, scikit-learn's does not make numbers of strings.
        X, y = validated(self, X, y, multi_output=True, dtype="numeric")
        X = X if X.dtype in KEPT_DTYPES else X.astype(np.float64)
        s, _ = weights_of_rows(sample_weight, X)
        n = X.shape[0] if s is None else np.count_nonzero(s)
        require(
            n > X.shape[1] + self.fit_intercept,
            "without more rows than columns, the solution depends on the rank",
        )
        found = solve(X, y, s, positive=self.positive, fit_intercept=self.fit_intercept)
        if not (self.positive or sparse.issparse(X)):
            self._set_singular_values(found)
        set_weights(self, found, ravel=False)

    def _set_singular_values(self, found) -> None:
        """Set `rank_` and `singular_` as LAPACK would find them.

        scikit-learn drops singular values of at most `tol` times the largest, and Gram matrices
        have lost half of the digits of small ones.
        """
        values = found.singular_values()
        require(values is not None, "the solver has found no singular values")
        least = max(SMALL_VALUE, 10.0 * getattr(self, "tol", 0.0))  # new in scikit-learn 1.7
        require(values[-1] > least * values[0], "columns are dependent, or nearly so")
        self.singular_ = values.astype(found.coef_.dtype)
        self.rank_ = len(values)


def _fit_ridge(estimator, X, y, sample_weight) -> None:
    """Fit y, (n,) or (n, t), and set all that `Ridge` and `RidgeClassifier` have in common."""
    s, total = weights_of_rows(sample_weight, X)
    found = solve(
        X,
        y,
        s,
        alpha=penalties_of_targets(estimator.alpha, "alpha", y) / total,
        positive=estimator.positive,
        fit_intercept=estimator.fit_intercept,
    )
    set_weights(estimator, found, ravel=True)
    estimator.n_iter_ = None  # as of scikit-learn's direct solvers
    estimator.solver_ = f"fastlsgd-{found.solver_}"


def _require_auto(estimator) -> None:
    """Raise Unsupported for a solver that is asked for by name, which `solver_` has to be."""
    require(estimator.solver == "auto", f"solver={estimator.solver!r} is asked for by name")


class Ridge(linear_model.Ridge):
    """scikit-learn's Ridge, fitted by fastlsgd where it gives the same result.

    `alpha` belongs to the sum over the rows: it is n_samples times that of
    :class:`fastlsgd.LeastSquaresRegressor`.

    See Also
    --------
    sklearn.linear_model.Ridge : Parameters, attributes and methods.

    Examples
    --------
    >>> from fastlsgd.sklearn import Ridge
    >>> model = Ridge(alpha=2.0).fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])
    >>> model.coef_.round(9).tolist(), round(float(model.intercept_), 9)
    ([1.0], 2.0)
    """

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None) -> Self:
        """Fit the model; as scikit-learn's method."""
        return fit_or_fall_back(
            self,
            X,
            lambda: self._fit_by_fastlsgd(X, y, sample_weight),
            lambda: super(Ridge, self).fit(X, y, sample_weight),
        )

    def _fit_by_fastlsgd(self, X, y, sample_weight):
        _require_auto(self)
        X, y = validated(self, X, y, multi_output=True)
        _fit_ridge(self, X, y, sample_weight)


class RidgeClassifier(linear_model.RidgeClassifier):
    """scikit-learn's RidgeClassifier, fitted by fastlsgd where it gives the same result.

    See Also
    --------
    sklearn.linear_model.RidgeClassifier : Parameters, attributes and methods.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from fastlsgd.sklearn import RidgeClassifier
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> round(RidgeClassifier().fit(X, y).score(X, y), 3)
    0.96
    """

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None) -> Self:
        """Fit the model; as scikit-learn's method."""
        return fit_or_fall_back(
            self,
            X,
            lambda: self._fit_by_fastlsgd(X, y, sample_weight),
            lambda: super(RidgeClassifier, self).fit(X, y, sample_weight),
        )

    def _fit_by_fastlsgd(self, X, y, sample_weight):
        _require_auto(self)
        X, _, s, targets = self._prepare_data(X, y, sample_weight, self.solver)
        _fit_ridge(self, X, targets, s)


def _fit_leave_one_out(estimator, X, y, sample_weight) -> None:
    """Choose `alpha_` by leave-one-out errors, and fit, for `RidgeCV` and `RidgeClassifierCV`."""
    from ._solve import ridge_leave_one_out

    penalties = np.asarray(estimator.alphas, dtype=np.float64).reshape(-1)
    s, total = weights_of_rows(sample_weight, X)
    found, best, errors = ridge_leave_one_out(X, y, s, penalties, estimator.fit_intercept)
    estimator.alpha_ = float(penalties[best])
    # scikit-learn's errors have the weights of their rows, and their mean does not.
    estimator.best_score_ = np.float64(-errors[best] * (total / X.shape[0]))
    set_weights(estimator, found, ravel=True)


def _require_leave_one_out(estimator, X, params) -> None:
    """Raise Unsupported for all but the choice of one `alpha` by squared errors."""
    require(
        not (sparse.issparse(X) and estimator.gcv_mode == "svd"),
        "gcv_mode='svd' is not for sparse X",
    )
    require(estimator.cv is None, "cv is given")
    require(estimator.scoring is None, "scoring is given")
    require(not estimator.store_cv_results, "store_cv_results is on")
    require(not estimator.alpha_per_target, "alpha_per_target is on")
    require_no_metadata(params)
    alphas = estimator.alphas
    penalties = [alphas] if isinstance(alphas, Real) else list(alphas)
    require(
        penalties
        and all(isinstance(alpha, Real) and 0.0 < float(alpha) < np.inf for alpha in penalties),
        "alphas are not positive numbers",
    )


class RidgeCV(linear_model.RidgeCV):
    """scikit-learn's RidgeCV, fitted by fastlsgd where it gives the same result.

    Leave-one-out errors (``cv=None``) are found by fastlsgd; folds are left to scikit-learn.

    See Also
    --------
    sklearn.linear_model.RidgeCV : Parameters, attributes and methods.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from fastlsgd.sklearn import RidgeCV
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = RidgeCV(alphas=[1e-3, 1e-2, 1e-1, 1]).fit(X, y)
    >>> model.alpha_, round(model.score(X, y), 3)
    (0.01, 0.517)
    """

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, **params) -> Self:
        """Fit the model; as scikit-learn's method."""
        return fit_or_fall_back(
            self,
            X,
            lambda: self._fit_by_fastlsgd(X, y, sample_weight, params),
            lambda: super(RidgeCV, self).fit(X, y, sample_weight, **params),
        )

    def _fit_by_fastlsgd(self, X, y, sample_weight, params):
        _require_leave_one_out(self, X, params)
        X, y = validated(self, X, y, multi_output=True)
        _fit_leave_one_out(self, X, y, sample_weight)


class RidgeClassifierCV(linear_model.RidgeClassifierCV):
    """scikit-learn's RidgeClassifierCV, fitted by fastlsgd where it gives the same result.

    Leave-one-out errors (``cv=None``) are found by fastlsgd; folds are left to scikit-learn.

    See Also
    --------
    sklearn.linear_model.RidgeClassifierCV : Parameters, attributes and methods.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from fastlsgd.sklearn import RidgeClassifierCV
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = RidgeClassifierCV(alphas=[1e-3, 1e-2, 1e-1, 1]).fit(X, y)
    >>> round(model.score(X, y), 3)
    0.963
    """

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, **params) -> Self:
        """Fit the model; as scikit-learn's method."""
        return fit_or_fall_back(
            self,
            X,
            lambda: self._fit_by_fastlsgd(X, y, sample_weight, params),
            lambda: super(RidgeClassifierCV, self).fit(X, y, sample_weight, **params),
        )

    def _fit_by_fastlsgd(self, X, y, sample_weight, params):
        _require_leave_one_out(self, X, params)
        X, _, s, targets = self._prepare_data(X, y, sample_weight, solver="eigen")
        _fit_leave_one_out(self, X, targets, s)
