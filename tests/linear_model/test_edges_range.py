"""Penalties, columns and rows at the ends of float64's range give usable weights, not errors."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.sparse import csr_array

from fastlsgd import (
    LeastSquaresClassifier,
    LeastSquaresCV,
    LeastSquaresRegressor,
    SGDClassifier,
    SGDRegressor,
)


def ordinary(n):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 4)) + 1.0
    return X, X @ [1.0, 2.0, 0.0, -1.0] + 3.0 + 0.1 * rng.normal(size=n)


@pytest.mark.parametrize("solver", ["auto", "gram", "cg", "qr", "sketch", "nesterov"])
@pytest.mark.parametrize("alpha", [1e20, 1e100, 1e300, 1e308])
def test_a_penalty_beside_which_the_data_are_nothing(solver, alpha):
    """The weights of ridge are then A^T y / (n alpha), however small these are.

    n alpha may overflow, and Q^T y of [A; sqrt(n alpha) I] holds no digit of them.
    """
    X, y = ordinary(200)
    expected = (X - X.mean(axis=0)).T @ (y - y.mean()) / len(y) / alpha
    model = LeastSquaresRegressor(alpha=alpha, solver=solver).fit(X, y)
    assert_allclose(model.coef_, expected, rtol=1e-9)
    assert_allclose(model.intercept_, y.mean())


def test_a_penalty_beside_which_the_data_are_nothing_elsewhere():
    X, y = ordinary(200)
    expected = (X - X.mean(axis=0)).T @ (y - y.mean()) / len(y) / 1e308
    weights = LeastSquaresRegressor(alpha=1e308).fit(X, y, np.full(len(y), 3.0)).coef_
    assert_allclose(weights, expected, rtol=1e-9)
    for cv in (None, 3):
        model = LeastSquaresCV(alphas=[1e308, 1e307], cv=cv).fit(X, y)
        assert_allclose(model.mse_path_[0].mean(), np.var(y), rtol=0.1)
    assert np.all(np.abs(LeastSquaresClassifier(alpha=1e308).fit(X, y > 0).coef_) < 1e-307)


@pytest.mark.parametrize("unit", [1e-160, 1e-300, 1e-308])
def test_columns_that_a_penalty_makes_nothing_of(unit):
    """The squares of the columns vanish beside SGD's default alpha of 1e-4."""
    X, y = ordinary(200)
    for model in (SGDRegressor(random_state=0), LeastSquaresRegressor(alpha=1.0)):
        assert abs(model.fit(X * unit, y).score(X * unit, y)) < 1e-12
        assert_allclose(model.predict(X * unit), y.mean())
    model = SGDRegressor().partial_fit(X * unit, y)
    assert_allclose(model.predict(X * unit), y.mean())
    labels = SGDClassifier(random_state=0).fit(X * unit, y > 0).decision_function(X * unit)
    assert_allclose(labels, 2.0 * np.mean(y > 0) - 1.0)


@pytest.mark.parametrize("make", [np.asarray, csr_array], ids=["dense", "csr"])
@pytest.mark.parametrize("size", [1e4, 1e7, 1e10])
@pytest.mark.parametrize("d", [3, 30])
def test_rounding_to_float32_is_made_up_for_beside_a_heavy_row(d, size, make):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, d))
    X[7] *= size
    X = X.astype(np.float32)
    y = X.astype(np.float64) @ rng.normal(size=d)
    y[np.arange(300) != 7] += 0.1 * rng.normal(size=299)
    model = LeastSquaresRegressor().fit(make(X), y)
    assert model.coef_.dtype == np.float32
    assert model.score(np.delete(X, 7, 0), np.delete(y, 7)) > 0.99


@pytest.mark.parametrize("exponent", [332, -332, 440, -440])
@pytest.mark.parametrize("l1_ratio", [0.0, 1.0])
def test_penalties_follow_units_of_any_size(l1_ratio, exponent):
    """X * 1e100 was refused, though its mean squares are within float64's range."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 4)) * np.geomspace(0.1, 10.0, 4)
    y = X @ rng.normal(size=4) + 0.3 * rng.normal(size=80)
    same = {"cv": 3, "l1_ratio": l1_ratio}
    wanted = LeastSquaresCV(**same).fit(X, y)
    found = LeastSquaresCV(**same).fit(np.ldexp(X, exponent), y)
    unit = exponent if l1_ratio else 2 * exponent
    assert found.alpha_ == pytest.approx(np.ldexp(wanted.alpha_, unit), rel=1e-9)
    np.testing.assert_allclose(np.ldexp(found.coef_, exponent), wanted.coef_, rtol=1e-9)
