"""The choice between fastlsgd and scikit-learn for a call of `fit`, and what both kinds share.

The solvers are imported in the first fit, so that the patch itself costs next to nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from numbers import Number
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.utils.validation import validate_data

from .._sparse_structure import check_structure

logger = logging.getLogger("fastlsgd.sklearn")

KEPT_DTYPES = [np.float64, np.float32]


class Unsupported(Exception):
    """The reason for which scikit-learn has to fit the model."""


def require(condition: Any, reason: str) -> None:
    if not condition:
        raise Unsupported(reason)


def require_no_metadata(params) -> None:
    require(
        not params and not get_config()["enable_metadata_routing"],
        "metadata are routed to scorers or splitters",
    )


def fit_or_fall_back(estimator, X, ours: Callable[[], None], theirs: Callable[[], Any]):
    """Fit by fastlsgd, or by scikit-learn if `ours` cannot, and log which.

    A ValueError of `ours` says that fastlsgd or the validation refuses the data. scikit-learn then
    fits them or explains what is wrong in its own words. A failed attempt leaves no attributes
    behind. Of a sparse X whose indices are wrong, scikit-learn's code would end the process.
    """
    if hasattr(X, "tocsr"):
        check_structure(X)
    name, before = type(estimator).__name__, dict(vars(estimator))
    try:
        require(not get_config()["array_api_dispatch"], "array_api_dispatch is on")
        ours()
    except (Unsupported, ValueError) as reason:
        estimator.__dict__ = before
        logger.info("%s.fit: by scikit-learn, since %s", name, reason)
        return theirs()
    logger.info("%s.fit: by fastlsgd", name)
    return estimator


def validated(estimator, X, y, **checks):
    """Return X and y after scikit-learn's own checks, with its messages.

    Whether X is finite shows in the fit, and scikit-learn's own fit then names what is not. Arrays
    that need no conversion are checked here, since scikit-learn takes 110 microseconds for them.
    """
    if _are_plain(X, y) and "feature_names_in_" not in vars(estimator):
        estimator.n_features_in_ = X.shape[1]
        return X, y
    checks = {"accept_sparse": "csr", "dtype": KEPT_DTYPES, "y_numeric": True, **checks}
    return validate_data(estimator, X, y, ensure_all_finite=False, **checks)


def _are_plain(X, y) -> bool:
    """Whether scikit-learn's checks would accept these arrays, and change nothing about them."""
    if not (type(X) is np.ndarray and type(y) is np.ndarray and X.ndim == 2 and y.ndim == 1):
        return False
    return (
        X.dtype in KEPT_DTYPES
        and X.dtype.isnative
        and y.dtype.kind in "fiu"
        and len(X) == len(y)
        and X.size > 0
        and bool(np.isfinite(y).all())
    )


def weights_of_rows(sample_weight, X):
    """Return the sample weights as an array of float64, or None, and their sum."""
    n = X.shape[0]
    if sample_weight is None:
        return None, float(n)
    if isinstance(sample_weight, Number):
        sample_weight = np.full(n, sample_weight)
    weights = np.asarray(sample_weight, dtype=np.float64)
    total = float(weights.sum())
    require(
        weights.shape == (n,) and weights.min(initial=0.0) >= 0.0 and 0.0 < total < np.inf,
        "sample_weight is not one number >= 0 per row, some of them positive",
    )
    return weights, total


def penalties_of_targets(value, name: str, y) -> np.ndarray:
    """Return a penalty for all targets, or shaped (1, n_targets) one for each of them."""
    array = np.asarray(value)
    require(array.dtype.kind in "fiu" and array.size > 0, f"{name} is not a number")
    array = array.astype(np.float64).ravel()
    if (array == array[0]).all() and array.size in (1, *y.shape[1:]):
        return array[0]
    require(y.shape[1:] == array.shape, f"{name} is not one number, or one per target")
    return array[np.newaxis]


def solve(X, y, sample_weight, **parameters):
    """Return a `LeastSquaresRegressor` that was fitted, and has converged."""
    from ._solve import ConvergedRegressor

    return ConvergedRegressor(**parameters).fit(X, y, sample_weight)


def solve_cv(X, y, sample_weight, **parameters):
    """Return a `LeastSquaresCV` that was fitted, and has converged."""
    from ._solve import ConvergedCV

    return ConvergedCV(**parameters).fit(X, y, sample_weight)


def set_weights(estimator, found, *, ravel: bool) -> None:
    """Set `coef_` and `intercept_` in scikit-learn's shapes and dtypes.

    With `ravel`, a single target has one dimension of weights even if y had two.
    """
    coef, intercept = found.coef_, found.intercept_
    estimator.coef_ = coef[0] if ravel and coef.ndim == 2 and len(coef) == 1 else coef
    if not estimator.fit_intercept:
        estimator.intercept_ = 0.0
    elif np.ndim(intercept) == 0:
        estimator.intercept_ = coef.dtype.type(intercept)
    else:
        estimator.intercept_ = intercept.astype(coef.dtype)
