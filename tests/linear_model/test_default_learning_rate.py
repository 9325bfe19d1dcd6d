"""The default learning rate converges on unscaled data and on hostile columns."""

from __future__ import annotations

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import datasets
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from fastlsgd import LeastSquaresRegressor, SGDRegressor
from fastlsgd.datasets import house_sales_transformer, load_house_sales

WITHIN = 0.005  # of the R2 of exact least squares on held-out rows


@pytest.fixture(scope="module")
def house_sales():
    """(raw numeric and one-hot columns, the raw numeric columns, log of the price)."""
    X, y = load_house_sales(return_X_y=True)
    features = house_sales_transformer()
    raw = np.asarray(features.fit_transform(X), dtype=np.float64)
    # Numeric columns are those that hold other numbers than zeros and ones.
    numeric = raw[:, [len(np.unique(column)) > 2 for column in raw.T]]
    return raw, numeric, np.log(y)


def polynomial(numeric: np.ndarray) -> np.ndarray:
    """All squares and pairwise products of the columns."""
    return PolynomialFeatures(2, include_bias=False).fit_transform(numeric)


_exact: dict[str, float] = {}


def exact_r2(X, y, X_test, y_test) -> float:
    """R2 of exact least squares; cached, since the tests of several batch sizes need the same."""
    key = joblib.hash((X, y))
    if key not in _exact:
        _exact[key] = _exact_r2(X, y, X_test, y_test)
    return _exact[key]


def _exact_r2(X, y, X_test, y_test) -> float:
    """R2 of least squares on standardised columns: exact, since units no longer matter."""
    scaler = StandardScaler().fit(X)
    A = np.column_stack([scaler.transform(X), np.ones(len(X))])
    w = np.linalg.lstsq(A, y, rcond=1e-13)[0]
    return r2_score(y_test, np.column_stack([scaler.transform(X_test), np.ones(len(X_test))]) @ w)


def assert_default_is_exact(X, y, dtype, batch_size=1):
    X, y = X.astype(dtype), y.astype(dtype)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.2, random_state=0)
    wanted = exact_r2(X.astype(np.float64), y.astype(np.float64), X_test, y_test)
    model = SGDRegressor(random_state=0, batch_size=batch_size).fit(X, y)
    assert model.n_iter_ <= 50
    assert model.coef_.dtype == dtype
    assert r2_score(y_test, model.predict(X_test)) >= wanted - WITHIN


@pytest.mark.parametrize("batch_size", [1, 32, 1024])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_house_sales_raw(house_sales, dtype, batch_size):
    raw, _, y = house_sales
    assert_default_is_exact(raw, y, dtype, batch_size)


@pytest.mark.parametrize("batch_size", [1, 32, 1024])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_house_sales_squares_and_products(house_sales, dtype, batch_size):
    _, numeric, y = house_sales
    X = polynomial(StandardScaler().fit_transform(numeric))
    assert_default_is_exact(X, y, dtype, batch_size)


@pytest.mark.parametrize("batch_size", [1, 32, 1024])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_house_sales_raw_squares_and_products(house_sales, dtype, batch_size):
    _, numeric, y = house_sales
    assert_default_is_exact(polynomial(numeric), y, dtype, batch_size)


def low_rank():
    X = datasets.make_low_rank_matrix(2000, 50, effective_rank=10, random_state=0)
    rng = np.random.default_rng(0)
    target = X @ rng.normal(size=50)
    return X, target + 0.1 * target.std() * rng.normal(size=2000)


@pytest.mark.parametrize("batch_size", [1, 32, 1024])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "make",
    [
        lambda: datasets.load_diabetes(return_X_y=True),
        lambda: datasets.make_regression(2000, 50, noise=10.0, random_state=0),
        lambda: datasets.make_friedman1(2000, noise=1.0, random_state=0),
        lambda: datasets.make_friedman2(2000, noise=50.0, random_state=0),
        lambda: datasets.make_friedman3(2000, noise=0.1, random_state=0),
        lambda: datasets.make_sparse_uncorrelated(2000, random_state=0),
        low_rank,
    ],
    ids=[
        "diabetes",
        "regression",
        "friedman1",
        "friedman2",
        "friedman3",
        "sparse_uncorrelated",
        "low_rank",
    ],
)
def test_standard_problems(make, dtype, batch_size):
    X, y = make()
    X, X_test, y, y_test = train_test_split(X.astype(dtype), y.astype(dtype), random_state=0)
    wanted = exact_r2(X, y, X_test, y_test)
    # A penalty acts on weights in units of the columns, and those of diabetes are about 0.05.
    model = SGDRegressor(alpha=0.0, batch_size=batch_size, random_state=0).fit(X, y)
    assert model.n_iter_ <= 50
    assert r2_score(y_test, model.predict(X_test)) >= wanted - WITHIN


def hostile(kind: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X, y = datasets.make_regression(500, 12, noise=5.0, random_state=3)
    if kind == "scales differ by 1e12":
        X = X * 10.0 ** rng.uniform(-6, 6, X.shape[1])
    elif kind == "target in the billions":
        y = 1e9 * y + 5e9
    elif kind == "constant and duplicated columns":
        X = np.column_stack([X, np.full(len(X), 7.0), X[:, 0], X[:, 3], np.zeros(len(X))])
    elif kind == "heavy outliers":
        X[rng.random(len(X)) < 0.02] *= 100.0
    elif kind == "columns far from zero":
        X = X + 1e6 * rng.standard_normal(X.shape[1])
    return X, y


HOSTILE = [
    "scales differ by 1e12",
    "target in the billions",
    "constant and duplicated columns",
    "heavy outliers",
    "columns far from zero",
]


@pytest.mark.parametrize("batch_size", [1, 32, 1024])
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_columns(kind, batch_size):
    X, y = hostile(kind)
    A = np.column_stack([StandardScaler().fit_transform(X), np.ones(len(X))])
    wanted = r2_score(y, A @ np.linalg.lstsq(A, y, rcond=1e-13)[0])
    model = SGDRegressor(alpha=0.0, batch_size=batch_size, random_state=0).fit(X, y)
    assert model.score(X, y) >= wanted - WITHIN
    full = LeastSquaresRegressor().fit(X, y)
    assert full.score(X, y) >= wanted - 1e-6


@pytest.mark.parametrize("n", [1, 2, 5, 30])
def test_fewer_rows_than_features(n):
    X, y = datasets.make_regression(n, 60, random_state=0)
    y = np.atleast_1d(y)
    model = SGDRegressor(alpha=0.0, random_state=0).fit(X, y)
    assert np.isfinite(model.coef_).all()
    assert np.mean((model.predict(X) - y) ** 2) <= 0.01 * max(np.var(y), 1e-12)


def test_constant_target_and_constant_features():
    X = np.full((20, 3), 4.0)
    model = SGDRegressor(random_state=0).fit(X, np.full(20, 2.5))
    np.testing.assert_allclose(model.predict(X), 2.5, rtol=1e-6)


def test_penalty_is_the_one_of_the_documentation():
    """With a strong ridge penalty, the default rate reaches the minimum of J in w's own metric."""
    X, y = datasets.make_regression(3000, 8, noise=5.0, random_state=1)
    X = X * np.geomspace(0.1, 10.0, 8)
    alpha = 0.5
    Xc, yc = X - X.mean(0), y - y.mean()
    wanted = np.linalg.solve(Xc.T @ Xc / len(X) + alpha * np.eye(8), Xc.T @ yc / len(X))
    for batch_size in (1, 64):
        model = SGDRegressor(alpha=alpha, batch_size=batch_size, tol=1e-6, random_state=0)
        coef = model.fit(X, y).coef_
        assert np.linalg.norm(coef - wanted) <= 0.02 * np.linalg.norm(wanted)


def test_l1_finds_the_lasso():
    X, y = datasets.make_regression(2000, 20, n_informative=5, noise=5.0, random_state=1)
    lasso = LeastSquaresRegressor(alpha=5.0, l1_ratio=1.0, tol=1e-10).fit(X, y)
    model = SGDRegressor(penalty="l1", alpha=5.0, tol=1e-6, random_state=0).fit(X, y)
    assert np.linalg.norm(model.coef_ - lasso.coef_) <= 0.02 * np.linalg.norm(lasso.coef_)


def test_wide_sparse_data():
    X = sp.random(2000, 3000, density=0.01, format="csr", random_state=0)
    rng = np.random.default_rng(0)
    y = X @ rng.standard_normal(3000) + 3.0
    model = SGDRegressor(alpha=1e-6, random_state=0, max_iter=60).fit(X, y)
    assert model.score(X, y) > 0.9


def test_partial_fit_on_a_stream():
    X, y = datasets.make_regression(4000, 10, noise=5.0, random_state=0)
    X = X * np.geomspace(1e-3, 1e3, 10) + 100.0
    model = SGDRegressor(alpha=0.0)
    for start in range(0, 4000, 200):
        model.partial_fit(X[start : start + 200], y[start : start + 200])
    assert model.score(X, y) > 0.97


@pytest.mark.parametrize("batch_size", [1, 32])
def test_weights_of_the_rows_count_beside_each_other(batch_size):
    """The scale of sample weights changes neither the rates nor the strength of the penalty."""
    X, y = datasets.make_regression(1000, 8, noise=5.0, random_state=0)
    s = np.random.default_rng(0).uniform(0.5, 2.0, 1000)
    model = SGDRegressor(alpha=0.1, batch_size=batch_size, random_state=0)
    expected = model.fit(X, y, sample_weight=s).coef_
    for scale in (1e-6, 1e6):
        coef = model.fit(X, y, sample_weight=scale * s).coef_
        np.testing.assert_allclose(coef, expected, rtol=1e-9)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_nothing_but_zeros(fit_intercept):
    X, y = np.zeros((20, 3)), np.arange(20.0)
    for batch_size in (1, 32):
        model = SGDRegressor(fit_intercept=fit_intercept, batch_size=batch_size).fit(X, y)
        np.testing.assert_array_equal(model.coef_, 0.0)
        np.testing.assert_allclose(model.intercept_, 9.5 * fit_intercept)
