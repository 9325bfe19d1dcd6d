"""SGDRegressorCV: the path, the choice of alpha, and scikit-learn's contract."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.datasets import make_regression
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastlsgd import SGDRegressor, SGDRegressorCV

ALPHAS = [1e-4, 1e-2, 1.0, 10.0]
PLAIN = {"learning_rate": "constant", "eta0": 0.01, "random_state": 0, "max_iter": 200, "tol": 1e-6}


def problem():
    X, y = make_regression(120, 40, n_informative=5, noise=60.0, random_state=0)
    return X, y, np.random.default_rng(0).uniform(0.5, 2.0, 120)


@parametrize_with_checks([SGDRegressorCV(SGDRegressor(random_state=0), alphas=[1e-4, 1.0])])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
def test_chooses_what_a_grid_search_chooses(kind):
    X, y, _ = problem()
    model = SGDRegressorCV(SGDRegressor(random_state=0, tol=1e-6), alphas=ALPHAS).fit(kind(X), y)
    grid = GridSearchCV(
        SGDRegressor(random_state=0, tol=1e-6),
        {"alpha": ALPHAS},
        scoring="neg_mean_squared_error",
    ).fit(kind(X), y)
    assert model.alpha_ == grid.best_params_["alpha"]
    np.testing.assert_allclose(model.best_score_, grid.best_score_, rtol=0.02)
    np.testing.assert_array_equal(model.coef_, grid.best_estimator_.coef_)
    np.testing.assert_array_equal(model.predict(kind(X)), grid.predict(kind(X)))


def test_attributes_are_lasso_cvs():
    X, y, s = problem()
    model = SGDRegressorCV(alphas=ALPHAS, cv=3).fit(X, y, sample_weight=s)
    assert model.alphas_.tolist() == sorted(ALPHAS, reverse=True)
    assert model.mse_path_.shape == (4, 3)
    best = model.mse_path_.mean(axis=1).argmin()
    assert model.alpha_ == model.alphas_[best]
    np.testing.assert_array_equal(model.scores_, -model.mse_path_)
    assert model.set_params(scoring="r2").fit(X, y).scores_.max() <= 1.0
    assert not hasattr(model, "mse_path_")
    by_hand = model.set_params(scoring=lambda model, X, y: model.score(X, y))
    assert by_hand.fit(X, y, sample_weight=s).scores_.max() <= 1.0


def test_strength_is_near_ridge_cvs():
    X, y, _ = problem()
    alphas = np.geomspace(1e-3, 10.0, 9)
    cv = KFold(4)
    ridge = RidgeCV(alphas * 90, cv=cv).fit(X, y)  # its penalty is relative to the sum of squares
    model = SGDRegressorCV(SGDRegressor(random_state=0, tol=1e-6), alphas=alphas, cv=cv).fit(X, y)
    assert abs(np.log(model.alpha_ / (ridge.alpha_ / 90))) <= 1.2


@pytest.mark.parametrize("chosen", [{}, PLAIN])
def test_jobs_change_nothing(chosen):
    X, y, s = problem()
    chosen = {"random_state": 0, **chosen}
    fits = [
        SGDRegressorCV(SGDRegressor(**chosen), alphas=ALPHAS, cv=3, n_jobs=n_jobs).fit(X, y, s)
        for n_jobs in (None, 2)
    ]
    np.testing.assert_allclose(fits[0].scores_, fits[1].scores_, rtol=1e-9)


def test_many_targets_and_names():
    pandas = pytest.importorskip("pandas")
    X, y, _ = problem()
    frame = pandas.DataFrame(X, columns=[f"column {j}" for j in range(40)])
    model = SGDRegressorCV(alphas=ALPHAS, cv=3).fit(frame, np.column_stack([y, -y]))
    assert model.coef_.shape == (2, 40)
    assert model.feature_names_in_[0] == "column 0"
    assert model.predict(frame).shape == (120, 2)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"alphas": []}, "alphas must have shape"),
        ({"alphas": [[1.0]]}, "alphas must have shape"),
        ({"alphas": [-1.0]}, "alphas must be a number in"),
        ({"alphas": ["strong"]}, "alphas must"),
        ({"estimator": RidgeCV()}, "estimator must be an SGDRegressor or None"),
        ({"estimator": SGDRegressor(max_iter=0)}, "max_iter must be a whole number"),
        ({"cv": 1}, "at least one train/test split|n_splits"),
        ({"scoring": "beauty"}, "scoring"),
    ],
)
def test_bad_parameters(chosen, message):
    X, y, _ = problem()
    estimator = SGDRegressorCV(**chosen)
    with pytest.raises(ValueError, match=message):
        estimator.fit(X, y)
    assert not hasattr(estimator, "n_features_in_")
