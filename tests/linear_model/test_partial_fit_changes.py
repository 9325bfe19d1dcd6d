"""`partial_fit` of few rows after many, where parameters have changed in between.

No parameter may have a handful of rows take away what thousands have shown.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp

from fastlsgd import LeastSquaresRegressor, SGDClassifier, SGDRegressor
from fastlsgd.solvers import streaming

D = [3, 40, 520, 1030]


@pytest.fixture(autouse=True)
def steps_of_1030_columns(monkeypatch):
    """Smaller problems than those of 2,049 columns test the method of the latter."""
    monkeypatch.setattr(streaming, "MOMENT_FEATURES", 1024)


def regression(d, seed=0, rank=None):
    rng = np.random.default_rng(seed)
    n = 4 * d + 300
    X = rng.normal(size=(n, d))
    if rank is not None:
        X = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, d)) + 0.01 * X
    X = X * np.exp(rng.normal(size=d)) + rng.normal(size=d)
    y = (X - X.mean(axis=0)) @ (rng.normal(size=d) / X.std(axis=0))
    return X, y / y.std() + 0.3 * rng.normal(size=n) + 2.0


def rated(d, **parameters):
    """A model at a rate of its own, which suits columns of these sizes."""
    return SGDRegressor(learning_rate="constant", eta0=0.02 / d, random_state=0, **parameters)


@pytest.mark.parametrize(
    ("kind", "fit_intercept"), [(np.asarray, True), (np.asarray, False), (sp.csr_array, True)]
)
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("d", D)
def test_a_few_rows_at_rates_from_the_data(d, whole, fit_intercept, kind):
    """R2 was below -10 after the first row."""
    X, y = regression(d)
    s = np.random.default_rng(1).uniform(0.5, 2.0, len(y)) * 1e5
    scale = 1.0 / np.abs(X).mean(axis=0)
    X, y = kind(X * scale), y if fit_intercept else y - y.mean()
    model = rated(d, fit_intercept=fit_intercept, max_iter=20, tol=None)
    parts = np.array_split(np.arange(len(y) - 20), 4)
    if whole:
        model.fit(X[:-20], y[:-20], sample_weight=s[:-20] / 1e5)
    else:
        for part in parts * 3:
            model.partial_fit(X[part], y[part], sample_weight=s[part] / 1e5)
    before = model.score(X, y)
    model.set_params(learning_rate="auto")
    for row in range(len(y) - 20, len(y)):
        model.partial_fit(X[[row]], y[[row]], sample_weight=s[[row]] / 1e5)
        assert model.score(X, y) > before - 0.05
    assert before > 0.4


def test_correlated_columns_are_not_taken_for_independent_ones():
    X, y = regression(40, seed=2, rank=5)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    model = rated(40, max_iter=30, tol=None).fit(X[:-30], y[:-30])
    before = model.score(X, y)
    model.set_params(learning_rate="auto").partial_fit(X[-30:], y[-30:])
    assert model.score(X, y) > before - 0.02


@pytest.mark.parametrize("d", D)
def test_rates_may_change_there_and_back(d):
    X, y = regression(d, seed=3)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    model = SGDRegressor(random_state=0).partial_fit(X[:-20], y[:-20])
    before = model.score(X, y)
    for start in range(len(y) - 20, len(y), 4):
        rate = "constant" if start % 8 else "auto"
        model.set_params(learning_rate=rate, eta0=1e-3 / d)
        model.partial_fit(X[start : start + 4], y[start : start + 4])
        assert model.score(X, y) > before - 0.05


@pytest.mark.parametrize("cut", [1, 3, 50])
def test_cuts_before_the_change_make_no_difference(cut):
    X, y = regression(40, seed=4)
    models = []
    for size in (cut, len(y)):
        model = rated(40)
        for start in range(0, 300, size):
            stop = min(start + size, 300)
            model.set_params(shuffle=False).partial_fit(X[start:stop], y[start:stop])
        model.set_params(learning_rate="auto")
        models.append(model.partial_fit(X[300:310], y[300:310]))
    np.testing.assert_allclose(models[0].coef_, models[1].coef_, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("d", D)
def test_class_weights_may_be_set_and_taken_back(d, whole):
    """Accuracy fell to chance after one row: the targets had shared what was known of the rows."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(5 * d + 300, d))
    y = np.argmax(X @ rng.normal(size=(d, 4)), axis=1)
    model = SGDClassifier(random_state=0)
    if whole:
        model.fit(X[:-30], y[:-30])
    else:
        model.partial_fit(X[:-30], y[:-30], classes=np.arange(4))
    before = model.score(X, y)
    for start in range(len(y) - 30, len(y), 5):
        model.set_params(class_weight={0: 1.5} if start % 10 else None)
        model.partial_fit(X[start : start + 5], y[start : start + 5])
        assert model.score(X, y) > before - 0.1
    assert before > 0.5


@pytest.mark.parametrize("d", D)
def test_equal_class_weights_are_none(d):
    """A factor of 1 for every class changes nothing, in whichever call it comes."""
    rng = np.random.default_rng(6)
    X = rng.normal(size=(2 * d + 100, d))
    y = np.argmax(X @ rng.normal(size=(d, 3)), axis=1)
    for first in ("fit", "partial_fit"):
        models = []
        for weights in (None, {0: 1.0, 1: 1.0, 2: 1.0}):
            model = SGDClassifier(random_state=0)
            more = {} if first == "fit" else {"classes": np.arange(3)}
            getattr(model, first)(X[:-20], y[:-20], **more)
            model.set_params(class_weight=weights)
            for start in (20, 13, 4):
                stop = {20: -13, 13: -4, 4: None}[start]
                model.partial_fit(X[-start:stop], y[-start:stop])
            models.append(model)
        coef = models[0].coef_
        np.testing.assert_allclose(models[1].coef_, coef, rtol=0, atol=1e-7 * np.abs(coef).max())


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("d", [20, 100, 300])
def test_each_row_of_fewer_than_columns_is_fitted(d, fit_intercept):
    """Without a penalty, every row adds a direction; since the last border, none did."""
    rng = np.random.default_rng(7)
    n = int(0.8 * d)
    X = rng.normal(size=(n, d)) * np.exp(rng.normal(size=d))
    X[:, 0] = 1e8
    X[: n // 2, 1:4] = 0.0  # columns that only later rows know
    y = X[:, 1:] @ rng.normal(size=d - 1)
    model = SGDRegressor(penalty=None, fit_intercept=fit_intercept)
    model.partial_fit(X[: n // 2], y[: n // 2])
    for row in range(n // 2, n):
        model.partial_fit(X[[row]], y[[row]])
        if row % 9 == 0:
            seen = slice(0, row + 1)
            np.testing.assert_allclose(model.predict(X[seen]), y[seen], atol=1e-6 * y.std())


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("n", [1, 30])
@pytest.mark.parametrize("d", [300, 520])
def test_rows_after_rows_of_zeros(d, n, fit_intercept):
    """The columns had no scale before the next border, and weights stayed zero."""
    rng = np.random.default_rng(8)
    X, nothing = rng.normal(size=(7, d)), np.zeros((n, d))
    y = X @ rng.normal(size=d)
    model = SGDRegressor(penalty=None, fit_intercept=fit_intercept).fit(nothing, np.zeros(n))
    for row in range(len(y)):
        model.partial_fit(X[[row]], y[[row]])
        np.testing.assert_allclose(model.predict(X[: row + 1]), y[: row + 1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("alpha", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("d", [40, 520])
def test_a_stream_whose_weights_grow(d, alpha):
    """The penalty of rows since the last border was iterated, and the fit diverged."""
    rng = np.random.default_rng(9)
    X = rng.normal(size=(70, d)) + 5.0 * rng.normal(size=(70, 5)) @ rng.normal(size=(5, d))
    y, s = X @ rng.normal(size=d), np.geomspace(1e-6, 1e6, 70)
    whole = LeastSquaresRegressor(alpha=alpha).fit(X, y, sample_weight=s)
    for cuts in (range(0, 71, 1), range(0, 71, 7), (0, 70)):
        model = SGDRegressor(alpha=alpha)
        for start, stop in pairwise(cuts):
            part = slice(start, stop)
            model.partial_fit(X[part], y[part], sample_weight=s[part])
        np.testing.assert_allclose(model.predict(X), whole.predict(X), atol=1e-5 * y.std())
