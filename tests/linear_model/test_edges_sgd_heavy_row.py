"""SGDRegressor's defaults beside one row that outweighs all others together."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from small_problems import householder

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


def truth_beside_few(X, y, s):
    """Least squares of rows [x, 1] in extended precision, without a penalty."""
    order = np.argsort(-np.abs(X).max(axis=1) * np.sqrt(s))
    A = np.hstack([X, np.ones((len(y), 1))])[order].astype(np.longdouble)
    root = np.sqrt(s.astype(np.longdouble))[order]
    return householder(A * root[:, None], y[order] * root)


@pytest.mark.parametrize("cut", [1, 20])
@pytest.mark.parametrize("place", [0, 45])
@pytest.mark.parametrize(("size", "weight"), [(1e6, 1.0), (1e12, 1.0), (1e16, 1.0), (1.0, 1e12)])
def test_a_stream_keeps_what_light_rows_say(size, weight, place, cut):
    """97 of 300 streams beside such a row or weight were wrong without a warning."""
    rng = np.random.default_rng(place)
    X, s = rng.normal(size=(60, 4)), np.ones(60)
    X[place] *= size
    noise = 0.1 * rng.normal(size=60)
    noise[place], s[place] = 0.0, weight
    y = X @ np.array([1.0, -2.0, 0.5, 3.0]) + 2.0 + noise
    model = SGDRegressor(alpha=0.0)
    for start in range(0, 60, cut):
        rows = slice(start, start + cut)
        model.partial_fit(X[rows], y[rows], sample_weight=s[rows])
    wanted = truth_beside_few(X, y, s)
    found = np.append(model.coef_, model.intercept_)
    np.testing.assert_allclose(found, wanted.astype(float), rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [1e4, 1e8, 1e12])
def test_a_stream_goes_on_from_a_fit_beside_a_heavy_row(size):
    X, y, _ = heavy_problem(size, 4, np.float64, n=60)
    whole = SGDRegressor(alpha=0.0).partial_fit(X, y)
    model = SGDRegressor(alpha=0.0).fit(X[:30], y[:30]).partial_fit(X[30:], y[30:])
    np.testing.assert_allclose(model.coef_, whole.coef_, rtol=0, atol=1e-9)
    np.testing.assert_allclose(model.intercept_, whole.intercept_, rtol=0, atol=1e-9)


@pytest.mark.parametrize("cut", [1, 20])
@pytest.mark.parametrize("size", [1e5, 1e8, 1e12])
def test_lasso_of_a_stream_beside_a_heavy_row(size, cut):
    """122 of 300 were wrong without a warning; the exact solver's answers agree with mpmath."""
    X, y, _ = heavy_problem(size, 4, np.float64, n=60)
    exact = LeastSquaresRegressor(alpha=0.05, l1_ratio=1.0).fit(X, y)
    model = SGDRegressor(alpha=0.05, penalty="l1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for start in range(0, 60, cut):
            model.partial_fit(X[start : start + cut], y[start : start + cut])
    np.testing.assert_allclose(model.coef_, exact.coef_, rtol=0, atol=1e-8)
    np.testing.assert_allclose(model.intercept_, exact.intercept_, rtol=0, atol=1e-8)
