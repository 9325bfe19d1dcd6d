"""learning_rate="auto" for few features: Newton steps, which start from the moments."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from fastlsgd import LeastSquaresRegressor, SGDRegressor
from fastlsgd.kernels import load_backend
from fastlsgd.solvers import metric, newton_epochs
from fastlsgd.solvers.newton_epochs import NewtonDescent
from fastlsgd.solvers.training import Objective, TrainingData


def rows_of(n=400, d=6, t=2, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * np.geomspace(1e-2, 1e2, d) + 5.0
    return X, X @ rng.normal(size=(d, t)) + 3.0 + rng.normal(size=(n, t))


PENALTIES = [
    {"alpha": 0.0},
    {"alpha": 0.1},
    {"penalty": "l1", "alpha": 0.1},
    {"penalty": "elasticnet", "l1_ratio": 0.5, "alpha": 0.1},
]


def exact(parameters, X, y, s=None):
    l1_ratio = {"l1": 1.0, "elasticnet": 0.5}.get(parameters.get("penalty"), 0.0)
    return LeastSquaresRegressor(
        alpha=parameters["alpha"],
        l1_ratio=l1_ratio,
        fit_intercept=parameters.get("fit_intercept", True),
        tol=1e-10,
    ).fit(X, y, s)


@pytest.mark.parametrize("parameters", PENALTIES, ids=str)
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_one_epoch_verifies_the_exact_weights(parameters, kind, fit_intercept):
    X, y = rows_of()
    s = np.random.default_rng(1).uniform(0.0, 2.0, len(y))
    s[::3] = 0.0
    parameters = {**parameters, "fit_intercept": fit_intercept}
    wanted = exact(parameters, X, y, s)
    model = SGDRegressor(**parameters).fit(kind(X), y, sample_weight=s)
    assert model.n_iter_ == len(model.loss_curve_) == 1
    np.testing.assert_allclose(model.coef_, wanted.coef_, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(model.intercept_, wanted.intercept_, rtol=1e-6, atol=1e-8)
    squares = (model.predict(X) - y)[s > 0.0] ** 2
    np.testing.assert_allclose(model.loss_curve_, 0.5 * squares.sum(axis=1).mean(), rtol=1e-6)


@pytest.mark.parametrize("parameters", PENALTIES, ids=str)
def test_epochs_correct_what_a_sample_leaves(monkeypatch, parameters):
    monkeypatch.setattr(metric, "GRAM_BUDGET", 1000.0)
    X, y = rows_of(n=4000)
    wanted = exact(parameters, X, y)
    first = SGDRegressor(max_iter=1, tol=None, **parameters).fit(X, y)
    model = SGDRegressor(tol=1e-12, **parameters).fit(X, y)
    assert 2 <= model.n_iter_ <= 25
    far = np.abs(first.coef_ - wanted.coef_).max()
    assert np.abs(model.coef_ - wanted.coef_).max() <= 1e-3 * far
    np.testing.assert_allclose(model.intercept_, wanted.intercept_, rtol=1e-4)


def test_steps_in_a_poor_metric_are_conjugate():
    """The metric is that of the first rows, whose columns are up to twice as large."""
    X, y = rows_of(n=2000, t=1)
    X = X - X.mean(axis=0)
    part = slice(0, 100)
    X[part] *= np.linspace(1.0, 2.0, X.shape[1])
    data = TrainingData(load_backend("native"), X, y, None, 1)
    objective = Objective(0.0, 0.0, True)
    start = np.zeros((1, X.shape[1])), np.zeros(1)
    descent = NewtonDescent(data, objective, None, start)
    few = NewtonDescent(data._replace(X=X[part], y=y[part]), objective, None, start)
    best = descent.coef.copy()
    descent.metric, descent.coef = few.metric, few.coef
    gaps = []
    for _ in range(X.shape[1] + 2):
        descent.epoch(None)
        gaps.append(descent.gap)
    assert gaps[-1] <= 1e-12 * gaps[0]
    np.testing.assert_allclose(descent.coef, best, rtol=1e-8)


def test_the_gap_bounds_how_far_j_can_fall(monkeypatch):
    monkeypatch.setattr(metric, "GRAM_BUDGET", 1000.0)
    X, y = rows_of(n=4000, t=1)

    def objective(model):
        r = model.predict(X) - y[:, 0]
        return 0.5 * float(r @ r) / len(y) + 0.05 * float(model.coef_ @ model.coef_)

    least = objective(exact({"alpha": 0.1}, X, y[:, 0]))
    scale = 0.5 * y.var()
    for tol in (1e-2, 1e-4, 1e-6):
        model = SGDRegressor(alpha=0.1, tol=tol).fit(X, y[:, 0])
        assert objective(model) <= least + 0.1 * tol * scale + 1e-12 * scale


@pytest.mark.parametrize("parameters", PENALTIES, ids=str)
def test_rows_about_their_centre_are_the_same_rows(monkeypatch, parameters):
    X, y = rows_of()
    s = np.random.default_rng(1).uniform(0.5, 2.0, len(y))
    plain = SGDRegressor(**parameters).fit(X, y, sample_weight=s)
    monkeypatch.setattr(newton_epochs, "hides_spread", lambda spreads, dtype: True)
    centred = SGDRegressor(**parameters).fit(X, y, sample_weight=s)
    np.testing.assert_allclose(centred.coef_, plain.coef_, rtol=1e-9)
    np.testing.assert_allclose(centred.loss_curve_, plain.loss_curve_, rtol=1e-9)


def test_order_and_batches_make_no_difference():
    X, y = rows_of()
    plain = SGDRegressor(random_state=0).fit(X, y)
    for parameters in ({"batch_size": 16}, {"shuffle": False}, {"random_state": 1}):
        model = SGDRegressor(**parameters).fit(X, y)
        np.testing.assert_array_equal(model.coef_, plain.coef_)
