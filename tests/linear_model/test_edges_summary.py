"""`summary()` of degenerate problems prints NaN for what is not defined, as R does.

The expected numbers are those of statsmodels 0.14, which the tests do not need.
"""

from __future__ import annotations

import pickle
import re
import warnings

import numpy as np
import pytest

from fastlsgd import LeastSquaresRegressor

# OLS(y, add_constant(X)).fit(): bse, and the numbers below the table.
ERRORS = [0.1698766837890446, 0.19165867891507307, 0.19757397655402043, 0.20452603882064938]


@pytest.fixture
def data():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(40, 3))
    return X, X.sum(axis=1) + rng.normal(size=40)


def summary_of(X, y, s=None, **chosen):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summary = LeastSquaresRegressor(**chosen).fit(X, y, s).summary()
        assert "coef" in repr(summary)
        assert "<table>" in summary._repr_html_()
    return summary


def same(left, right, rtol=1e-8):
    for name in ("coef", "standard_error", "t", "p_value", "confidence_interval"):
        np.testing.assert_allclose(getattr(left, name), getattr(right, name), rtol=rtol)
    for name in ("n_samples", "df_model", "df_residual", "sigma", "r_squared", "f_statistic",
                 "adjusted_r_squared", "f_p_value", "log_likelihood", "aic", "bic"):  # fmt: skip
        np.testing.assert_allclose(getattr(left, name), getattr(right, name), rtol=rtol)


@pytest.mark.parametrize("solver", ["auto", "qr"])
@pytest.mark.parametrize("value", [3.0, 0.1, 1.7e9, 1e-300])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_constant_target(data, solver, value, dtype):
    summary = summary_of(data[0].astype(dtype), np.full(40, value), solver=solver)
    assert summary.sigma == 0.0
    assert summary.df_residual == 36
    np.testing.assert_allclose(summary.coef, [value, 0.0, 0.0, 0.0], atol=1e-15 * value)
    for name in ("r_squared", "adjusted_r_squared", "f_statistic", "f_p_value"):
        assert np.isnan(getattr(summary, name))
    assert summary.t[0] == np.inf
    assert np.isnan(summary.t[1:]).all()
    assert np.isnan(summary.p_value[1:]).all()
    assert "The target is constant" in repr(summary)


def test_a_zero_target_without_intercept(data):
    summary = summary_of(data[0], np.zeros(40), fit_intercept=False)
    assert np.isnan(summary.t).all()
    assert np.isnan(summary.r_squared)


@pytest.mark.parametrize("solver", ["auto", "gram", "qr"])
@pytest.mark.parametrize("value", [1.0, 0.0, 1e-3])
def test_a_constant_column_is_left_out(data, solver, value):
    X, y = data
    summary = summary_of(np.column_stack([X, np.full(40, value)]), y, solver=solver)
    plain = summary_of(X, y)
    np.testing.assert_allclose(summary.standard_error[:4], ERRORS, rtol=1e-9)
    np.testing.assert_allclose(summary.coef[:4], plain.coef, rtol=1e-9)
    assert np.isnan(summary.coef[4])
    assert np.isnan(summary.standard_error[4])
    assert (summary.df_model, summary.df_residual) == (3, 36)
    np.testing.assert_allclose(summary.f_statistic, 28.9882392425821, rtol=1e-9)
    assert summary.notes == ["Left out, since they are constant: x3."]
    assert summary.remarks == ["", "", "", "", "constant: not estimable"]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(summary)).covariance[4], np.nan)
    assert re.search(r"^x3 +constant: not estimable$", repr(summary), re.M)
    assert '<th>x3</th><td colspan="6">constant: not estimable</td>' in summary._repr_html_()


@pytest.mark.parametrize("solver", ["auto", "qr"])
def test_columns_that_depend_on_each_other(data, solver):
    X, y = data
    redundant = np.column_stack([X, X[:, 0] - 2.0 * X[:, 1]])
    summary, plain = summary_of(redundant, y, solver=solver), summary_of(X, y)
    has_none = [False, True, True, False, True]
    np.testing.assert_array_equal(np.isnan(summary.coef), has_none)
    np.testing.assert_array_equal(np.isnan(summary.standard_error), has_none)
    np.testing.assert_allclose(summary.standard_error[[0, 3]], np.take(ERRORS, [0, 3]), rtol=1e-9)
    np.testing.assert_allclose(summary.p_value[[0, 3]], plain.p_value[[0, 3]], rtol=1e-8)
    assert (summary.df_model, summary.df_residual) == (3, 36)
    np.testing.assert_allclose(summary.adjusted_r_squared, plain.adjusted_r_squared, rtol=1e-9)
    np.testing.assert_allclose(summary.f_statistic, plain.f_statistic, rtol=1e-9)
    assert summary.notes == ["Not estimable, since they depend on each other: x0, x1, x3."]
    told = "depends on other columns: not estimable"
    assert summary.remarks == ["", told, told, "", told]


def test_units_do_not_decide_what_is_estimable(data):
    X, y = data
    redundant = np.column_stack([X, 1e9 * (X[:, 0] + X[:, 1])])
    summary = summary_of(redundant, y)
    np.testing.assert_array_equal(np.isnan(summary.coef), [False, True, True, False, True])


def test_all_dummies_beside_an_intercept(data):
    X, y = data
    dummies = np.eye(3)[np.arange(40) % 3]
    summary = summary_of(np.column_stack([X[:, 0], dummies]), y)
    reduced = summary_of(np.column_stack([X[:, 0], dummies[:, 1:]]), y)
    np.testing.assert_array_equal(np.isnan(summary.coef), [True, False, True, True, True])
    np.testing.assert_allclose(summary.standard_error[1], reduced.standard_error[1], rtol=1e-9)
    np.testing.assert_allclose(summary.f_p_value, reduced.f_p_value, rtol=1e-8)
    assert "The intercept is not estimable" in repr(summary)
    assert summary.remarks[0] == "depends on columns: not estimable"


@pytest.mark.parametrize("n", [1, 2, 4])
def test_no_degrees_of_freedom(data, n):
    X, y = data
    summary = summary_of(X[:n], y[:n])
    assert summary.df_residual == 0
    for name in ("sigma", "adjusted_r_squared", "f_statistic", "f_p_value"):
        assert np.isnan(getattr(summary, name))
    for name in ("standard_error", "t", "p_value", "confidence_interval"):
        assert np.isnan(getattr(summary, name)).all()
    assert np.isfinite(summary.coef).all() == (n == 4)
    assert "No residual degrees of freedom" in repr(summary)
    if n > 1:
        np.testing.assert_allclose(summary.r_squared, 1.0)


@pytest.mark.parametrize("has_intercept", [True, False])
def test_nothing_but_zeros_in_X(data, has_intercept):
    X, y = data
    summary = summary_of(0.0 * X, y, fit_intercept=has_intercept)
    assert summary.df_model == 0
    assert summary.df_residual == 40 - has_intercept
    assert summary.r_squared == pytest.approx(0.0, abs=1e-15)
    assert np.isnan(summary.f_statistic)
    assert np.isnan(summary.coef[-3:]).all()
    if has_intercept:
        np.testing.assert_allclose(summary.coef[0], y.mean())
        np.testing.assert_allclose(summary.standard_error[0], y.std(ddof=1) / np.sqrt(40))


def test_a_perfect_fit_says_so(data):
    X, _ = data
    summary = summary_of(X, X.sum(axis=1) + 1.0)
    np.testing.assert_allclose(summary.coef, 1.0)
    assert summary.sigma < 1e-14
    assert summary.r_squared == 1.0
    assert "perfect but for rounding" in repr(summary)


@pytest.mark.parametrize("power", [-200, -100, 100, 200])
def test_units_of_any_size(data, power):
    X, y = data
    unit, plain = 10.0**power, summary_of(X, y)
    columns, target = summary_of(X * unit, y), summary_of(X, y * unit)
    for summary in (columns, target):
        np.testing.assert_allclose(summary.t, plain.t, rtol=1e-8)
        np.testing.assert_allclose(summary.p_value, plain.p_value, rtol=1e-6)
        np.testing.assert_allclose(summary.r_squared, plain.r_squared)
    np.testing.assert_allclose(columns.standard_error[1:] * unit, plain.standard_error[1:])
    np.testing.assert_allclose(target.sigma / unit, plain.sigma)


def test_rows_of_zero_weight_do_not_count(data):
    X, y = data
    s = np.ones(40)
    s[:10] = 0.0
    far, target = X.copy(), y.copy()
    far[:10], target[:10] = 1e3, -1e100
    same(summary_of(far, target, s), summary_of(X[10:], y[10:]))
    redundant = np.column_stack([X, X[:, 0]])
    redundant[:10, 3] = 7.0  # differs from column 0, but only in rows of weight 0
    summary = summary_of(redundant, y, s)
    np.testing.assert_array_equal(np.isnan(summary.coef), [False, True, False, False, True])
    assert summary.df_residual == 26


@pytest.mark.parametrize("solver", ["auto", "qr"])
def test_each_of_many_targets_has_its_own_summary(data, solver):
    X, y = data
    targets = [y, y * 1e-160, y * 1e140, np.full(40, 5.0), 2.0 * X[:, 0] + 1.0, y + 1e6]
    model = LeastSquaresRegressor(solver=solver).fit(X, np.column_stack(targets))
    for target, found in zip(targets, model.summary(), strict=True):
        expected = summary_of(X, target, solver=solver)
        assert found.notes == expected.notes
        if not expected.notes:
            np.testing.assert_allclose(found.standard_error, expected.standard_error, rtol=1e-7)
            np.testing.assert_allclose(found.r_squared, expected.r_squared, rtol=1e-8)
            np.testing.assert_allclose(found.f_statistic, expected.f_statistic, rtol=1e-7)


@pytest.mark.parametrize("power", [-300, -305, 100, 300])
@pytest.mark.parametrize("solver", ["auto", "qr"])
def test_sample_weights_of_any_size(data, power, solver):
    X, y = data
    s = np.random.default_rng(0).uniform(0.5, 2.0, size=40)
    scaled, plain = summary_of(X, y, s * 10.0**power, solver=solver), summary_of(X, y, s)
    np.testing.assert_allclose(scaled.standard_error, plain.standard_error, rtol=1e-9)
    np.testing.assert_allclose(scaled.log_likelihood, plain.log_likelihood, rtol=1e-9)
    np.testing.assert_allclose(scaled.sigma, plain.sigma * 10.0 ** (power / 2), rtol=1e-9)
