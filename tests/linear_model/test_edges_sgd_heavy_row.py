"""SGDRegressor's defaults beside one row that outweighs all others together."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from fastlsgd import LeastSquaresRegressor, SGDRegressor


def heavy_problem(size, d, dtype, seed=0, n=300):
    """X, y without noise in one row of this size, and which rows are the others."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    heavy = int(rng.integers(n))
    X[heavy] = size * rng.normal(size=d)
    X = X.astype(dtype)
    noise = 0.1 * rng.normal(size=n)
    noise[heavy] = 0.0
    y = X.astype(np.float64) @ rng.normal(size=d) + noise
    return X, y.astype(dtype), np.arange(n) != heavy


@pytest.mark.parametrize("batch_size", [1, 32])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("d", [2, 10, 30, 100])
def test_the_other_rows_are_explained(d, dtype, batch_size):
    for seed, size in enumerate([1e3, 1e4, 1e6, 1e8, 1e10]):
        X, y, others = heavy_problem(size, d, dtype, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = SGDRegressor(random_state=0, batch_size=batch_size).fit(X, y)
        # In float64, since rounding the weights of a float32 fit moves its intercept.
        exact = LeastSquaresRegressor().fit(X.astype(np.float64), y)
        explained = exact.score(X[others].astype(np.float64), y[others])
        assert model.score(X[others], y[others]) >= 0.99 * explained, size


def test_the_start_knows_nothing_of_held_out_rows():
    X, y, others = heavy_problem(1e10, 10, np.float64)
    model = SGDRegressor(random_state=0, early_stopping=True).fit(X, y)
    assert model.score(X[others], y[others]) >= 0.99
    rng = np.random.default_rng(1)
    spoilt = np.where(others, rng.normal(size=len(y)), y)
    model.fit(X, spoilt)  # targets without a cause
    assert model.validation_scores_[0] < 0.05


def test_float32_predictions_beside_a_huge_target():
    """Where they are rounded as distances from the mean of the targets, R2 is 0.979."""
    X, y, others = heavy_problem(1e10, 3, np.float32, seed=3)
    X[0], y[0] = X[~others][0], y[~others][0]
    others[0] = False
    model = SGDRegressor(random_state=0).fit(X, y)
    assert model.score(X[others], y[others]) >= 0.99


@pytest.mark.parametrize("solver", ["sgd", "cg", "auto"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("spread", [0.0, 1e-3, 1.0])
def test_as_many_huge_rows_as_columns_are_not_few(solver, fit_intercept, spread):
    """Where they are nearly equal, the weights of the default had R2 -1.2 on the others."""
    rng = np.random.default_rng(0)
    for d, size in [(1, 1e12), (2, 1e8), (2, 1e12), (3, 1e10), (3, 1e12)]:
        n = 12 + 2 * d
        X = rng.normal(size=(n, d))
        X[: d + 1] = size * (1.0 + spread * rng.normal(size=(d + 1, d)))
        coef = np.array([1.0, -1.0, 2.0])[:d]  # no multiple of a huge row
        y = X @ coef + 0.1 * rng.normal(size=n)
        model = LeastSquaresRegressor(solver=solver, fit_intercept=fit_intercept)
        if solver == "sgd":
            model = SGDRegressor(alpha=0.0, fit_intercept=fit_intercept)
        model.fit(X, y)
        others = slice(d + 1, None)
        error = X[others] @ (model.coef_ - coef) + model.intercept_
        assert np.sqrt(np.mean(error**2)) < 0.15, (d, size)
