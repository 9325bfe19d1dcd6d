"""Targets keep their own precision in fit, predict and score, whatever the dtype of X."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse as sp

import fastlsgd
from fastlsgd import (
    LeastSquaresClassifier,
    LeastSquaresCV,
    LeastSquaresRegressor,
    SGDRegressor,
    SGDRegressorCV,
)

FAR = 1.7e9  # the nearest number of float32 is 64 away


def problem():
    X = np.random.default_rng(0).uniform(0.0, 1000.0, size=(3000, 1)).astype(np.float32)
    return X, FAR + 0.5 * X[:, 0].astype(np.float64)


MODELS = {
    "auto": LeastSquaresRegressor(),
    "qr": LeastSquaresRegressor(solver="qr"),
    "cg": LeastSquaresRegressor(solver="cg"),
    "cv": LeastSquaresCV(alphas=[1e-9], cv=3),
    "leave-one-out": LeastSquaresCV(alphas=[1e-9]),
    "sgd": SGDRegressor(random_state=0),
    "sgd, early stopping": SGDRegressor(early_stopping=True, random_state=0),
    "sgd cv": SGDRegressorCV(SGDRegressor(random_state=0), alphas=[1e-9], cv=3),
}


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("name", MODELS)
def test_float64_targets_of_float32_rows(name, kind):
    X, y = problem()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MODELS[name].fit(kind(X), y)
    assert model.coef_.dtype == np.float32
    np.testing.assert_allclose(model.coef_, [0.5], rtol=1e-6)
    assert model.score(kind(X), y) > 1.0 - 1e-9
    predicted = model.predict(kind(X))
    assert predicted.dtype == np.float64
    # The weight of 500 is rounded to float32, by 3e-8 of it.
    np.testing.assert_allclose(predicted - FAR, y - FAR, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_float32_stays_float32(dtype):
    X, y = problem()
    for model in (LeastSquaresRegressor(), SGDRegressor(random_state=0)):
        model.fit(X.astype(dtype), (y - FAR).astype(np.float32))
        assert model.predict(X).dtype == np.float32
        assert model.predict(X.astype(np.float64)).dtype == np.float64
        assert model.score(X, y - FAR) > 0.999


def test_functions_take_targets_of_their_own_dtype():
    X, y = problem()
    x = fastlsgd.lstsq(np.c_[X, np.ones_like(X)], y)
    np.testing.assert_allclose(x[0], 0.5, rtol=1e-4)
    loss = fastlsgd.loss_gradient(X, y, [0.5], FAR)
    assert loss.loss < 1e-9
    assert abs(loss.intercept) < 1e-6
    moments = fastlsgd.gram(X, y, shift=X.mean(axis=0))
    exact = (X.astype(float) - X.mean(axis=0)).T @ y
    np.testing.assert_allclose(moments.xy, exact, rtol=1e-6)


def test_weights_and_targets_have_the_wider_dtype():
    X, y = problem()
    w = np.full(len(y), 1e-310)
    with_y = LeastSquaresRegressor().fit(X, (y - FAR).astype(np.float32), sample_weight=w)
    np.testing.assert_allclose(with_y.coef_, [0.5], rtol=1e-6)


def test_an_overflow_of_float32_predictions_names_float32():
    X = np.random.default_rng(0).normal(size=(50, 4))
    model = LeastSquaresRegressor().fit(X, X @ [1e110, 2e110, 0.0, 1e110])
    with pytest.raises(ValueError, match="The prediction overflows float32"):
        model.predict(X.astype(np.float32))


def test_the_refusal_of_continuous_labels_is_short():
    y = np.where(np.arange(300) % 2, -1.5, 2.0)
    with pytest.raises(ValueError, match="Unknown label type: continuous") as caught:
        LeastSquaresClassifier().fit(np.ones((300, 2)), y)
    assert len(str(caught.value)) < 300


def test_weights_that_vanish_in_float32_are_refused():
    X = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    y = X @ [1e-60, 2e-60, 3e-60, 4e-60]
    for model in (
        LeastSquaresRegressor(),
        LeastSquaresRegressor(alpha=1e-66, l1_ratio=1.0),
        LeastSquaresCV(),
        SGDRegressor(),
    ):
        with pytest.raises(ValueError, match="The weights underflow float32"):
            model.fit(X, y)
        model.fit(X.astype(np.float64), y)
    with pytest.raises(ValueError, match="x underflows float32"):
        fastlsgd.lstsq(X, y)
    LeastSquaresRegressor().fit(X, np.full(300, 1e-30))
    assert not LeastSquaresRegressor(alpha=1e100).fit(X, 1e60 * y).coef_.any()


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("unit", [1e-300, 1e-60, 1e-44, [1.0, 1e-60]])
def test_float32_rows_predict_targets_that_vanish_in_float32(kind, unit):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 5)).astype(np.float32)
    Y = X.astype(np.float64) @ rng.normal(size=(5, 2)) + 3.0
    ordinary = LeastSquaresRegressor().fit(X.astype(np.float64), Y)
    model = LeastSquaresRegressor().fit(X.astype(np.float64), Y)
    unit = np.broadcast_to(unit, 2)
    model.coef_, model.intercept_ = model.coef_ * unit[:, None], model.intercept_ * unit
    model._origin = model._target_origin() * unit
    predicted = model.predict(kind(X))
    np.testing.assert_allclose(predicted / unit, ordinary.predict(kind(X)), rtol=0, atol=1e-5)
