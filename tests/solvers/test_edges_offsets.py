"""Columns of exact steps on a large offset: what varies in X counts, however little it is."""

from __future__ import annotations

import numpy as np
import pytest

from fastlsgd import LeastSquaresCV, LeastSquaresRegressor, SGDRegressor


def exact_steps(offset: float, dtype, n: int = 200):
    """Rows of a column of steps of 1 at an offset, and targets of slope 3 with noise."""
    rng = np.random.default_rng(0)
    steps = rng.integers(0, 2, (n, 1))
    X = (steps + offset).astype(dtype)
    assert np.array_equal(X - X.dtype.type(offset), steps)  # they are exact
    return steps.astype(float), X, 3.0 * steps[:, 0] + 0.1 * rng.normal(size=n)


# Near 1e15 a float64 mean rounds by up to 1/16, an eighth of the steps' standard deviation.
@pytest.mark.parametrize(
    ("offset", "dtype", "rtol"),
    [(4e6, np.float32, 1e-6), (1e6, np.float32, 1e-6), (1e13, float, 1e-5), (1e15, float, 0.05)],
)
@pytest.mark.parametrize("solver", ["auto", "gram", "sketch", "cg", "qr", "nesterov"])
def test_exact_steps_at_a_large_offset_are_seen(offset, dtype, rtol, solver):
    steps, X, y = exact_steps(offset, dtype)
    expected = LeastSquaresRegressor().fit(steps, y).coef_
    coef = LeastSquaresRegressor(solver=solver).fit(X, y).coef_
    np.testing.assert_allclose(coef, expected, rtol=rtol)


@pytest.mark.parametrize(("offset", "dtype"), [(4e6, np.float32), (1e15, float)])
def test_exact_steps_at_a_large_offset_are_seen_by_other_estimators(offset, dtype):
    steps, X, y = exact_steps(offset, dtype)
    expected = LeastSquaresRegressor().fit(steps, y).coef_
    for model in (
        LeastSquaresRegressor(alpha=1e-9, l1_ratio=1.0),
        LeastSquaresCV(alphas=[1e-9]),
        SGDRegressor(alpha=0.0, random_state=0),
    ):
        np.testing.assert_allclose(
            model.fit(X, y).coef_, expected, rtol=2e-3 if offset < 1e15 else 0.05
        )


def test_wide_rows_of_exact_steps_at_a_large_offset():
    steps = np.random.default_rng(0).integers(0, 2, (30, 60)).astype(float)
    y = 3.0 * steps[:, 0]
    expected = LeastSquaresRegressor().fit(steps, y).coef_
    coef = LeastSquaresRegressor().fit((steps + 4e6).astype(np.float32), y).coef_
    np.testing.assert_allclose(coef, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("solver", ["auto", "sketch", "cg", "qr", "nesterov"])
def test_a_float32_column_that_is_constant_stays_so(solver):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5000, 3)).astype(np.float32)
    X[:, 1] = 0.1
    X[:, 2] += 1e5
    coef = LeastSquaresRegressor(solver=solver).fit(X, X[:, 0] + 1e-3 * rng.normal(size=5000)).coef_
    assert coef[1] == 0.0
    np.testing.assert_allclose(coef[0], 1.0, rtol=1e-3)


def test_many_float32_columns_beside_one_at_a_large_offset():
    """Kernels read these rows as they are: the column is left out, not fitted to its rounding."""
    _, X, y = exact_steps(4e6, np.float32, 300)
    others = np.random.default_rng(1).normal(size=(300, 599)).astype(np.float32)
    X = np.column_stack([X, others])
    assert SGDRegressor(random_state=0).fit(X, y).score(X, y) > 0.9


@pytest.mark.parametrize("offset", [100.0, 1e4, 1e8])
@pytest.mark.parametrize("solver", ["auto", "gram", "sketch", "qr"])
def test_no_more_distinct_rows_than_columns_at_an_offset_give_the_least_norm(offset, solver):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(5, 5)) + offset, rng.normal(size=5)
    expected = np.linalg.pinv(X - X.mean(axis=0), rcond=1e-6) @ (y - y.mean())
    weights = np.r_[np.ones(5), np.zeros(10)]
    for rows, sample_weight in [(1, None), (3, None), (3, weights), (200, None)]:
        model = LeastSquaresRegressor(solver=solver)
        model.fit(np.tile(X, (rows, 1)), np.tile(y, rows), sample_weight)
        np.testing.assert_allclose(model.coef_, expected, rtol=1e-6 * max(1.0, offset / 1e6))


@pytest.mark.parametrize("shape", [(100, 3), (6000, 5)])
def test_float64_weights_far_from_zero_are_right_to_rounding(shape):
    rng = np.random.default_rng(0)
    X = rng.normal(size=shape) + 1e7
    y = X[:, 0] - 1e7 + rng.normal(size=len(X))
    expected = LeastSquaresRegressor().fit(X - 1e7, y).coef_  # a difference that is exact
    np.testing.assert_allclose(LeastSquaresRegressor().fit(X, y).coef_, expected, atol=1e-14)
