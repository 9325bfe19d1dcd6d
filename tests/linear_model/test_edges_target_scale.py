"""The scale of y makes no difference to the stochastic estimators, up to the ends of float64."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from fastlsgd import LeastSquaresCV, LeastSquaresRegressor, SGDRegressor, SGDRegressorCV
from fastlsgd.streaming import scan

# A power of two makes no difference but for numbers that are not normal.
SCALES = [2.0**1000, 2.0**540, 2.0**-540, 2.0**-1000]
WIDE, VERY_WIDE = 520, 2050  # methods change beyond 512 and 2,048 columns
ROWS = 200


def problem(d):
    rng = np.random.default_rng(d)
    X = rng.normal(size=(ROWS, d))
    return X, X @ rng.normal(size=(d, 2)) / np.sqrt(d) + rng.normal(size=(ROWS, 2))


def fitted(X, y, penalty, alpha):
    return SGDRegressor(penalty=penalty, alpha=alpha).fit(X, y)


def in_calls(X, y, penalty, alpha):
    model = SGDRegressor(penalty=penalty, alpha=alpha)
    for rows in np.array_split(np.arange(ROWS // 4), 2):
        model.partial_fit(X[rows], y[rows])
    return model


def fitted_and_continued(X, y, penalty, alpha):
    model = SGDRegressor(penalty=penalty, alpha=alpha, warm_start=True)
    return model.fit(X, y).fit(X, y).partial_fit(X[:20], y[:20])


def stopped_early(X, y, penalty, alpha):
    model = SGDRegressor(penalty=penalty, alpha=alpha, early_stopping=True, random_state=0)
    return model.fit(X, y)


FITS = [fitted, in_calls, fitted_and_continued, stopped_early]


@pytest.mark.parametrize("penalty", ["l1", "l2"])
@pytest.mark.parametrize(
    ("d", "fit"), [(3, fit) for fit in FITS] + [(WIDE, fit) for fit in FITS] + [(VERY_WIDE, fitted)]
)
def test_weights_follow_the_scale_of_y(d, fit, penalty):
    X, Y = problem(d)
    y = Y[:, 0]
    expected = fit(X, y, penalty, 1e-3)
    for unit in SCALES if d == 3 else SCALES[::3]:
        model = fit(X, y * unit, penalty, 1e-3 * (unit if penalty == "l1" else 1.0))
        np.testing.assert_allclose(model.coef_ / unit, expected.coef_, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(model.intercept_ / unit, expected.intercept_, rtol=1e-9)


@pytest.mark.parametrize("d", [3, WIDE])
def test_targets_of_one_fit_may_differ_in_scale(d):
    X, Y = problem(d)
    expected = SGDRegressor(alpha=1e-2).fit(X, Y).coef_
    for unit in (SCALES[0], SCALES[-1]):
        model = SGDRegressor(alpha=1e-2).fit(X, Y * [1.0, unit])
        np.testing.assert_allclose(model.coef_ / [[1.0], [unit]], expected, atol=1e-9)
        model.partial_fit(X, Y * [1.0, unit])
        # The same rows twice, as in `fit`, but for what moments of many columns leave out.
        np.testing.assert_allclose(model.coef_ / [[1.0], [unit]], expected, atol=0.2)


def test_cross_validation_chooses_alike():
    X, Y = problem(20)
    expected = SGDRegressorCV(alphas=[1e-3, 0.1, 100.0]).fit(X, Y)
    assert expected.alpha_ < expected.alphas_[0]  # the first, if all scores were the same
    for unit in SCALES:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = SGDRegressorCV(alphas=[1e-3, 0.1, 100.0]).fit(X, Y * unit)
        assert model.alpha_ == expected.alpha_
        np.testing.assert_allclose(model.coef_ / unit, expected.coef_, rtol=1e-9)


def test_losses_are_those_of_y():
    X, Y = problem(3)
    losses = []
    model = SGDRegressor()
    model.fit(X, Y[:, 0] * 2.0**200, callback=lambda report: losses.append(report.loss))
    assert losses == model.loss_curve_
    expected = SGDRegressor().fit(X, Y[:, 0]).loss_curve_
    np.testing.assert_allclose(losses, np.ldexp(expected, 400), rtol=1e-12)


@pytest.mark.parametrize("make", [SGDRegressor, LeastSquaresRegressor])
@pytest.mark.parametrize("unit", [1e-50, 1e-300, 5e-324])
def test_weights_that_vanish_in_float32_are_refused(make, unit):
    X, Y = problem(3)
    with pytest.raises(ValueError, match="underflow float32"):
        make().fit(X.astype(np.float32), 100.0 * Y[:, 0] * unit)


def test_passes_over_a_stream_refuse_losses_that_overflow():
    X, Y = problem(VERY_WIDE)
    with pytest.raises(ValueError, match="Squares of y overflow"):
        SGDRegressor().fit_stream(scan(X, target=Y[:, 0] * SCALES[0], batch_rows=50))


@pytest.mark.parametrize("exponent", [-990, -600, 600, 900])
@pytest.mark.parametrize("cv", [None, 4])
def test_cross_validation_of_l2_penalties_on_targets_of_any_scale(cv, exponent):
    """The squares of y left float64, and the fit was refused."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 5))
    y = X[:, :2] + rng.normal(size=(40, 2))
    model = LeastSquaresCV(cv=cv).fit(X, y)
    scaled = LeastSquaresCV(cv=cv).fit(X, np.ldexp(y, exponent))
    assert scaled.alpha_ == model.alpha_
    np.testing.assert_allclose(np.ldexp(scaled.coef_, -exponent), model.coef_, rtol=1e-12)
