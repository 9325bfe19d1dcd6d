"""L1 penalties and sign constraints where Gram matrices fail: low rank, bad condition, odd weights.

The expected values come from many iterations of scikit-learn's coordinate descent, and from the
NNLS of SciPy (Lawson and Hanson).
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import nnls
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet

from fastlsgd import LeastSquaresRegressor
from fastlsgd.solvers.active_set import Lasso, minimise
from fastlsgd.solvers.problem import Penalty
from fastlsgd.solvers.quadratic import Quadratic

KINDS = ("plain", "twice the same column", "rank one", "whole numbers", "nearly one column")


def rows(kind, n, d, rng):
    X = rng.normal(size=(n, d)) * 10.0 ** rng.uniform(-2, 2, size=d)
    if kind == "twice the same column":
        X[:, -1] = X[:, 0]
    elif kind == "rank one":
        X = np.outer(X[:, 0], X[0])
    elif kind == "whole numbers":
        X = np.round(X)
    elif kind == "nearly one column":
        X = X[:, :1] + 1e-6 * X
    return X, rng.normal(size=n) + X[:, 0]


def objective(X, y, s, w, alpha, l1_ratio, has_intercept):
    if has_intercept:
        X, y = X - np.average(X, axis=0, weights=s), y - np.average(y, weights=s)
    ridge = 0.5 * (1.0 - l1_ratio) * (w @ w)
    fit = 0.5 * np.average((X @ w - y) ** 2, weights=s)
    return fit + alpha * (l1_ratio * np.abs(w).sum() + ridge)


def peer(X, y, s, alpha, l1_ratio, positive, has_intercept):
    """The weights by scikit-learn, or by SciPy where there is no L1 penalty."""
    if has_intercept:
        X, y = X - np.average(X, axis=0, weights=s), y - np.average(y, weights=s)
    scale = np.sqrt(s * len(s) / s.sum())
    X, y = X * scale[:, None], y * scale
    if l1_ratio > 0.0:
        model = ElasticNet(alpha=alpha, l1_ratio=l1_ratio, positive=positive, fit_intercept=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return model.set_params(tol=1e-14, max_iter=5000).fit(X, y).coef_
    ridge = np.sqrt(alpha * len(y)) * np.eye(X.shape[1])
    return nnls(np.vstack([X, ridge]), np.append(y, np.zeros(len(ridge))), maxiter=10000)[0]


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(2, 16),
    d=st.integers(2, 16),
    alpha=st.floats(-8, 1).map(lambda power: 10.0**power),
    l1_ratio=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    positive=st.booleans(),
    has_intercept=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_never_above_the_peers_objective(
    kind, n, d, alpha, l1_ratio, positive, has_intercept, seed
):
    rng = np.random.default_rng(seed)
    X, y = rows(kind, n, d, rng)
    s = rng.uniform(0.5, 2.0, size=n) if seed % 2 else np.ones(n)
    positive = positive or l1_ratio == 0.0
    chosen = {"l1_ratio": l1_ratio, "positive": positive, "fit_intercept": has_intercept}
    given_X = sparse.csr_array(X) if seed % 3 == 0 else X
    theirs = peer(X, y, s, alpha, l1_ratio, positive, has_intercept)
    best = objective(X, y, s, theirs, alpha, l1_ratio, has_intercept)
    zero = objective(X, y, s, np.zeros(d), alpha, l1_ratio, has_intercept)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        single = LeastSquaresRegressor(alpha=alpha, **chosen).fit(given_X, y, s)
        path = LeastSquaresRegressor(alpha=[10.0 * alpha, alpha], **chosen).fit(given_X, y, s)
    for w in (single.coef_, path.coef_):
        mine = objective(X, y, s, w, alpha, l1_ratio, has_intercept)
        assert mine <= best * (1.0 + 1e-9) + 1e-13 * zero
    assert not positive or min(single.coef_.min(), path.coef_.min()) >= 0.0
    if l1_ratio > 0.0:
        # Where large weights cancel, the gradient is wrong by the rounding of |X| |w|, and the gap
        # multiplies such an error by |w|_1.
        w = np.abs(single.coef_)
        sizes = np.abs(X) @ w + np.abs(y) + abs(single.intercept_)
        rounding = 10.0 * np.finfo(float).eps * np.average(np.abs(X), axis=0, weights=s * sizes)
        allowed = 1e-6 * zero + w.sum() * rounding.max() * np.average(sizes, weights=s)
        assert -1e-9 * zero <= single.dual_gap_ <= allowed


@pytest.mark.parametrize("seed", range(20))
def test_sets_of_as_many_columns_as_rows(seed):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(10, 12)), rng.normal(size=10)
    model = LeastSquaresRegressor(alpha=1e-3, l1_ratio=1.0).fit(X, y)
    theirs = peer(X, y, np.ones(10), 1e-3, 1.0, False, True)
    mine = objective(X, y, None, model.coef_, 1e-3, 1.0, True)
    assert mine <= objective(X, y, None, theirs, 1e-3, 1.0, True) * (1.0 + 1e-9)


@pytest.mark.parametrize("seed", range(30))
def test_quadratics_without_rows_never_rise(seed):
    """Cross-validation has such problems: it keeps sums, but no rows."""
    rng = np.random.default_rng(seed)
    X, y = rows(KINDS[seed % len(KINDS)], 8, 10, rng)
    quadratic, penalty = Quadratic(X.T @ X / 8, X.T @ y / 8), Penalty(1e-4, 0.0, seed % 2 == 0)
    w, _ = quadratic.minimise(penalty, np.zeros(10), 1e-12)
    theirs = peer(X, y, np.ones(8), 1e-4, 1.0, seed % 2 == 0, False)
    best = objective(X, y, None, theirs, 1e-4, 1.0, False)
    mine = objective(X, y, None, w, 1e-4, 1.0, False)
    zero = objective(X, y, None, np.zeros(10), 1e-4, 1.0, False)
    assert mine <= best * (1.0 + 1e-6) + 1e-10 * zero


def test_correlated_columns_need_no_path_of_guesses(monkeypatch):
    """From afar, guesses of the active set run in circles: 1,500 x 1,100 took 9 s in place of 0.05.

    The neighbours' correlation is 0.95.
    """
    monkeypatch.delattr(Quadratic, "_from_above")
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(150, 120)), rng.normal(size=150)
    for j in range(1, 120):
        X[:, j] = 0.95 * X[:, j - 1] + 0.3 * X[:, j]
    y += X[:, ::10].sum(axis=1)
    model = LeastSquaresRegressor(alpha=0.05, l1_ratio=1.0).fit(X, y)
    theirs = peer(X, y, np.ones(150), 0.05, 1.0, False, True)
    mine = objective(X, y, None, model.coef_, 0.05, 1.0, True)
    assert mine <= objective(X, y, None, theirs, 0.05, 1.0, True) * (1.0 + 1e-9)


@pytest.mark.parametrize("order", ["C", "CSR"])
def test_nnls_of_condition_1e16(order):
    K = np.exp(-np.outer(np.linspace(0, 1, 200), np.logspace(0, 3, 40)))
    b = K @ np.exp(-0.5 * ((np.arange(40) - 15) / 4) ** 2)
    X = sparse.csr_array(K) if order == "CSR" else K
    model = LeastSquaresRegressor(positive=True, fit_intercept=False).fit(X, b)
    assert model.coef_.min() >= 0.0
    assert np.linalg.norm(K @ model.coef_ - b) <= 1e-13
    assert model.solver_ == "qr"


def test_the_lasso_of_condition_1e16():
    K = np.exp(-np.outer(np.linspace(0, 1, 200), np.logspace(0, 3, 40)))
    b = K @ np.exp(-0.5 * ((np.arange(40) - 15) / 4) ** 2)
    for alpha in (1e-3, 1e-6, 1e-9):
        model = LeastSquaresRegressor(alpha=alpha, l1_ratio=1.0, fit_intercept=False).fit(K, b)
        path = LeastSquaresRegressor(alpha=[1.0, alpha], l1_ratio=1.0, fit_intercept=False)
        assert model.dual_gap_ <= 1e-7 * alpha * np.abs(model.coef_).sum()
        mine = objective(K, b, None, model.coef_, alpha, 1.0, False)
        again = objective(K, b, None, path.fit(K, b).coef_, alpha, 1.0, False)
        np.testing.assert_allclose(again, mine, rtol=1e-9)


@pytest.mark.parametrize("power", [-160, -100, 100, 160])
@pytest.mark.parametrize("chosen", [{"positive": True}, {"alpha": 0.1, "l1_ratio": 1.0}], ids=str)
def test_units_whose_squares_leave_the_range(power, chosen):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4))
    y = X @ [1.0, 2.0, 0.0, 3.0] + 0.1 * rng.normal(size=60)
    unit = 10.0**power
    scaled = {**chosen, "alpha": chosen.get("alpha", 0.0) * unit}
    model = LeastSquaresRegressor(**scaled).fit(X * unit, y)
    expected = LeastSquaresRegressor(**chosen).fit(X, y)
    np.testing.assert_allclose(model.coef_ * unit, expected.coef_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model.intercept_, expected.intercept_, rtol=1e-9)


@pytest.mark.parametrize("chosen", [{"positive": True}, {"alpha": 0.1, "l1_ratio": 1.0}], ids=str)
def test_far_targets_and_columns_need_no_warning(chosen):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 3))
    y = X.sum(axis=1) + rng.normal(size=100)
    expected = LeastSquaresRegressor(**chosen).fit(X, y).coef_
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(
            LeastSquaresRegressor(**chosen).fit(X, y + 1.7e9).coef_, expected, atol=1e-6
        )
        np.testing.assert_allclose(
            LeastSquaresRegressor(**chosen).fit(X + 1e7, y).coef_, expected, atol=1e-7
        )


def test_a_path_has_an_objective_for_each_penalty():
    rng = np.random.default_rng(0)
    X, y = rows("plain", 40, 5, rng)
    alphas = [1.0, 0.1, 0.01]
    path = LeastSquaresRegressor(alpha=alphas, l1_ratio=0.5).fit(X, y)
    expected = [
        objective(X, y, None, w, alpha, 0.5, True)
        for alpha, w in zip(alphas, path.coef_path_, strict=True)
    ]
    np.testing.assert_allclose(path.loss_curve_, expected, rtol=1e-9)


def test_what_float32_weights_cannot_hold_is_said():
    rng = np.random.default_rng(1)
    X = np.outer(rng.normal(size=12), rng.normal(size=15) * 30.0).astype(np.float32)
    with pytest.warns(ConvergenceWarning, match="Pass X as float64"):
        model = LeastSquaresRegressor(positive=True).fit(X, rng.normal(size=12))
    assert np.abs(model.coef_).max() < 1e3


def test_max_iter_is_advised_where_it_helps():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 40)), rng.normal(size=50)
    with pytest.warns(ConvergenceWarning, match="max_iter=2 ended the fit: raise it, or tol"):
        LeastSquaresRegressor(alpha=1e-3, l1_ratio=1.0, solver="nesterov", max_iter=2).fit(X, y)


def test_the_search_starts_from_weights_on_columns_that_depend_on_each_other():
    rng = np.random.default_rng(0)
    R = rng.normal(size=(6, 4))
    R = np.hstack([R, R, R[:, :1]])
    R /= np.linalg.norm(R, axis=0)
    q = rng.normal(size=6)
    for l1, positive in ((0.1, False), (0.1, True), (0.0, True)):
        lasso = Lasso(R, q, np.full(9, l1), positive)
        cold = minimise(lasso, np.zeros(9))
        warm = minimise(lasso, rng.uniform(1.0, 2.0, size=9))
        assert cold.settled
        assert warm.settled
        np.testing.assert_allclose(lasso.value(warm.u), lasso.value(cold.u), rtol=1e-12)


CHOICES = [{}, {"positive": True}, {"alpha": 0.1, "l1_ratio": 1.0}]


def slopes(n=300, seed=1):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    return X, X @ [1.0, 2.0, 0.0, -1.0] + rng.normal(size=n)


@pytest.mark.parametrize("power", [-160, -100, 100, 160])
@pytest.mark.parametrize("chosen", CHOICES, ids=str)
def test_descent_in_any_unit(power, chosen):
    X, y = slopes()
    unit = 10.0**power
    scaled = {**chosen, "alpha": chosen.get("alpha", 0.0) * unit}
    model = LeastSquaresRegressor(solver="nesterov", **scaled).fit(X * unit, y)
    expected = LeastSquaresRegressor(**chosen).fit(X, y).coef_
    np.testing.assert_allclose(model.coef_ * unit, expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("chosen", CHOICES, ids=str)
def test_descent_of_far_targets_and_columns_needs_no_warning(chosen):
    X, y = slopes()
    expected = LeastSquaresRegressor(**chosen).fit(X, y).coef_
    model = LeastSquaresRegressor(solver="nesterov", **chosen)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(model.fit(X, y + 1.7e9).coef_, expected, atol=1e-6)
        np.testing.assert_allclose(model.fit(X + 1e7, y).coef_, expected, atol=1e-6)


def test_descent_is_not_judged_by_the_gradient_at_zero():
    rng = np.random.default_rng(0)
    A, w = rng.normal(size=(500, 60)), rng.normal(size=60)
    b = A @ w + rng.normal(size=500)
    A[:5] *= 1e6
    b[:5] *= 1e6
    Q, R = np.linalg.qr(A)
    least = np.linalg.norm(A @ np.linalg.solve(R, Q.T @ b) - b)
    model = LeastSquaresRegressor(solver="nesterov", fit_intercept=False).fit(A, b)
    assert np.linalg.norm(A @ model.coef_ - b) <= least * (1.0 + 1e-6)
    # With the diagonal metric that a penalty needs, the condition number would still be 1e6.
    signed = {"positive": True, "fit_intercept": False}
    found = LeastSquaresRegressor(solver="nesterov", max_iter=50, **signed).fit(A, b)
    exact = LeastSquaresRegressor(**signed).fit(A, b)
    np.testing.assert_allclose(found.coef_, exact.coef_, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("chosen", CHOICES, ids=str)
@pytest.mark.parametrize("solver", ["auto", "nesterov"])
def test_rows_of_zero_weight_are_not_there(chosen, solver):
    X, y = slopes()
    s = np.ones(300)
    s[:100] = 0.0
    far = X.copy()
    far[:100] = 1e3 + np.arange(100)[:, None]
    model = LeastSquaresRegressor(solver=solver, **chosen).fit(far, y, s)
    expected = LeastSquaresRegressor(**chosen).fit(X[100:], y[100:])
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("power", [-200, 200])
@pytest.mark.parametrize("solver", ["auto", "nesterov"])
@pytest.mark.parametrize("chosen", CHOICES[1:], ids=str)
def test_targets_whose_squares_leave_the_range(power, solver, chosen):
    X, y = slopes(40)
    unit = 10.0**power
    scaled = {**chosen, "alpha": chosen.get("alpha", 0.0) * unit}
    model = LeastSquaresRegressor(solver=solver, **scaled).fit(X, y * unit)
    expected = LeastSquaresRegressor(**chosen).fit(X, y)
    np.testing.assert_allclose(model.coef_ / unit, expected.coef_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model.residual_norm_ / unit, expected.residual_norm_, rtol=1e-9)


@pytest.mark.parametrize("size", [1e10, 1e12])
@pytest.mark.parametrize("l1_ratio", [0.0, 0.5])
def test_nesterov_beside_one_huge_row(size, l1_ratio):
    """The gradient of a huge row would hide those of the other rows."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(40, 2))
    X[0] *= size
    y = X / np.abs(X).max(0) @ [1.0, 2.0] + 0.1 * rng.normal(size=40)
    chosen = {"alpha": 1e-6 * (l1_ratio > 0.0), "l1_ratio": l1_ratio, "fit_intercept": False}
    found = LeastSquaresRegressor(solver="nesterov", **chosen).fit(X, y)
    exact = LeastSquaresRegressor(**chosen).fit(X, y)
    np.testing.assert_allclose(found.coef_, exact.coef_, rtol=1e-5)


@pytest.mark.parametrize("kind", ["wide", "units", "dependent"])
def test_nesterov_without_a_penalty_gives_the_least_norm(kind):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5, 50))
    if kind == "units":
        X = rng.normal(size=(10, 80)) * 10.0 ** rng.integers(-6, 7, size=80)
    if kind == "dependent":
        X = rng.normal(size=(50, 2)) * [1.0, 10.0]
        X = np.column_stack([X, 5.0 * X[:, 0]])
    y = rng.normal(size=len(X))
    least = np.linalg.lstsq(X, y, rcond=1e-15)[0]
    coef = LeastSquaresRegressor(fit_intercept=False, solver="nesterov").fit(X, y).coef_
    np.testing.assert_allclose(coef, least, rtol=1e-6, atol=1e-9 * np.abs(least).max())
