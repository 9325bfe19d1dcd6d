"""learning_rate="auto" beyond 512 columns: how far the default fit may end above the minimum of J.

The unit is half the variance of y in ordinary rows. A fit may end a tenth of `tol` above the
minimum where it can tell, and `tol` itself where it estimates.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp

from fastlsgd import LeastSquaresRegressor, SGDRegressor
from fastlsgd.solvers import sampled_factor, scaled_descent

TOL = 1e-3  # the default


def normal(rng, n, d):
    return rng.normal(size=(n, d))


def correlated(rng, n, d):
    return normal(rng, n, d) @ (np.eye(d) + 0.5 * normal(rng, d, d))


def common_factors(rng, n, d):
    return normal(rng, n, d) + 5.0 * normal(rng, n, 5) @ normal(rng, 5, d)


def decaying(rng, n, d):
    turned = normal(rng, n, d) @ scipy.linalg.qr(normal(rng, d, d))[0]
    return turned / np.arange(1, d + 1) @ scipy.linalg.qr(normal(rng, d, d))[0]


def low_rank(rng, n, d):
    return normal(rng, n, d // 3) @ normal(rng, d // 3, d)


def units_and_offsets(rng, n, d):
    return normal(rng, n, d) * np.exp(3.0 * rng.normal(size=d)) + 10.0 * rng.normal(size=d)


def problem(kind, n, d, seed):
    rng = np.random.default_rng(seed)
    X = kind(rng, n, d)
    signal = X @ (rng.normal(size=d) / X.std(axis=0))
    return X, signal + 0.5 * signal.std() * rng.normal(size=n)


def objective(X, y, s, coef, intercept, l1=0.0, l2=0.0):
    loss = 0.5 * float(np.average((X @ coef + intercept - y) ** 2, weights=s))
    return loss + l1 * float(np.abs(coef).sum()) + 0.5 * l2 * float(coef @ coef)


def minimum(X, y, s, l2, fit_intercept):
    """Least squares by QR with pivoting, the largest rows first, which no row's size spoils."""
    n, d = X.shape
    A = np.hstack([X, np.ones((n, int(fit_intercept)))]) * np.sqrt(s / s.sum())[:, None]
    A = np.vstack([A, np.sqrt(l2) * np.eye(d, A.shape[1])])
    right = np.concatenate([y * np.sqrt(s / s.sum()), np.zeros(d)])
    size = np.abs(A).max(axis=0)
    A /= size
    order = np.argsort(-np.abs(A).max(axis=1))
    u = scipy.linalg.lstsq(A[order], right[order], cond=1e-13, lapack_driver="gelsy")[0] / size
    return u[:d], float(u[d]) if fit_intercept else 0.0


def excess(model, X, y, s=None, l2=1e-4, ordinary=slice(None)):
    s = np.ones(len(y)) if s is None else s
    best = objective(X, y, s, *minimum(X, y, s, l2, model.fit_intercept), l2=l2)
    own = objective(X, y, s, model.coef_, float(model.intercept_[0]), l2=l2)
    return (own - best) / (0.5 * y[ordinary].var())


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize(
    "kind", [normal, correlated, common_factors, decaying, low_rank, units_and_offsets]
)
def test_the_default_ends_near_the_minimum(kind, fit_intercept):
    """In scaled columns, descent ended up to 0.44 of y's variance above it."""
    for seed, (n, d) in enumerate([(900, 520), (300, 530)]):
        X, y = problem(kind, n, d, seed)
        model = SGDRegressor(fit_intercept=fit_intercept).fit(X, y)
        assert model.n_iter_ < 200, (n, d)
        assert excess(model, X, y) < TOL, (n, d)


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
def test_weights_change_what_is_best(kind):
    X, y = problem(correlated, 900, 540, 3)
    s = np.random.default_rng(0).exponential(size=len(y)) ** 3 * 1e-5
    s[::4] = 0.0
    y[::4] = 1e6
    model = SGDRegressor().fit(kind(X), y, sample_weight=s)
    assert excess(model, X[s > 0.0], y[s > 0.0], s[s > 0.0]) < TOL


@pytest.mark.parametrize("size", [1e4, 1e8, 1e10])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_others_count_beside_a_huge_row(size, fit_intercept):
    """The unit of `tol` was the loss of predicting the mean, that of the huge row."""
    for seed, kind in enumerate([normal, correlated]):
        X, y = problem(kind, 800, 520, seed)
        huge = int(np.random.default_rng(seed).integers(len(y)))
        X[huge] *= size
        y[huge] *= size
        others = np.arange(len(y)) != huge
        model = SGDRegressor(fit_intercept=fit_intercept).fit(X, y)
        assert excess(model, X, y, ordinary=others) < TOL, kind.__name__


@pytest.mark.parametrize(
    ("kind", "fit_intercept"), [(normal, False), (low_rank, True), (common_factors, True)]
)
def test_lasso_ends_near_the_minimum(kind, fit_intercept):
    """Common factors ended 0.05 of y's variance above it before, after 8 epochs."""
    X, y = problem(kind, 900, 520, 5)
    l1 = 0.05 * float(np.abs(X.T @ (y - y.mean())).max()) / len(y)
    same = {"alpha": l1, "fit_intercept": fit_intercept}
    exact = LeastSquaresRegressor(l1_ratio=1.0, **same).fit(X, y)
    model = SGDRegressor(penalty="l1", **same).fit(X, y)
    values = [
        objective(X, y, np.ones(len(y)), each.coef_, float(np.ravel(each.intercept_)[0]), l1=l1)
        for each in (model, exact)
    ]
    assert values[0] - values[1] < 2.0 * TOL * 0.5 * y.var()


def test_the_factor_of_a_sample_brings_the_curvature_near_one():
    rng = np.random.default_rng(0)
    X = common_factors(rng, 3000, 40)
    X[:, 7] = 0.0
    X[:3, 8] *= 1e3  # hardly any sample sees these rows
    centre, deviation = X.mean(axis=0), X.std(axis=0)
    scale = np.divide(1.0, deviation, out=np.zeros(40), where=deviation > 0.0)
    factor = sampled_factor.sampled_factor(X, None, centre, scale, deviation**2, 0.0)
    white = factor.whiten(X - centre)
    values = np.linalg.eigvalsh(white.T @ white / len(X))
    assert values[1] >= sampled_factor.LEAST_CURVATURE  # the first is of the constant column
    assert values[-1] <= 6.0  # 4 in the limit
    np.testing.assert_allclose(
        factor.colour(factor.whiten(X[:5, :])), np.where(scale > 0, X[:5], 0)
    )


@pytest.mark.parametrize(
    "falls",
    [
        0.6 ** np.arange(60.0),
        np.arange(1.0, 200.0) ** -2.5,
        np.r_[[1e3, 1e2], 0.8 ** np.arange(60)],
    ],
)
def test_the_fall_that_is_left_is_estimated(falls):
    """Never above 20 times, nor below a third, from the sixth epoch on."""
    for k in range(8, len(falls) // 2):
        left = falls[k:].sum()
        assert left / 3.0 <= scaled_descent.remaining_fall(list(falls[:k])) <= 20.0 * left


def test_partial_fit_of_a_heavy_row_that_comes_again():
    rng = np.random.default_rng(0)
    X = 100.0 * rng.normal(size=(600, 908)) + 3.0
    X[0] *= 1e6
    y = X @ rng.normal(size=908) / 30.0 + rng.normal(size=600)
    model = SGDRegressor(random_state=0)
    for i in range(6):
        model.partial_fit(X[i % 2 :: 2], y[i % 2 :: 2])
    assert model.score(X[1:], y[1:]) > 0.999
