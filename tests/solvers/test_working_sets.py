"""L1 penalties on wide data, which working sets of columns solve, beside scikit-learn's descent."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from fits import BACKENDS
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet
from small_problems import random_csr

from fastlsgd import LeastSquaresCV, LeastSquaresRegressor, config_context
from fastlsgd.kernels import available_backends, load_backend
from fastlsgd.kernels.contract import CSR
from fastlsgd.solvers import coordinate_descent, working_sets
from fastlsgd.solvers.factors import NotTrustworthy
from fastlsgd.solvers.problem import Penalty

KINDS = ("plain", "copies", "one direction", "many units", "far from zero", "zeros")


def wide(kind, n=60, d=200, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    if kind == "copies":
        X[:, d // 2 :] = X[:, : d - d // 2]
    elif kind == "one direction":
        X = X[:, :1] + 0.1 * X
    elif kind == "many units":
        X *= 10.0 ** rng.uniform(-3, 3, size=d)
    elif kind == "far from zero":
        X += 100.0
    elif kind == "zeros":
        X *= rng.random((n, d)) < 0.2
        X[:, 5] = 0.0
    return X, X[:, :3].sum(axis=1) + rng.normal(size=n)


def strongest(X, y, l1_ratio):
    """The alpha from which all weights are zero."""
    return float(np.abs((X - X.mean(axis=0)).T @ (y - y.mean())).max()) / (len(y) * l1_ratio)


def objective(X, y, w, alpha, l1_ratio, s=None):
    s = np.ones(len(y)) if s is None else s
    r = X @ w - y
    r -= np.average(r, weights=s)
    penalty = l1_ratio * np.abs(w).sum() + 0.5 * (1.0 - l1_ratio) * (w @ w)
    return 0.5 * np.average(r * r, weights=s) + alpha * penalty


def peer(X, y, s=None, **chosen):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return ElasticNet(tol=1e-12, max_iter=20_000, **chosen).fit(X, y, s).coef_


@pytest.fixture
def solved_by_sets(monkeypatch):
    """The numbers of penalties that working sets have solved, a number per fit."""
    counts = []
    fit = working_sets.fit_working_sets

    def counted(*args, **kwargs):
        points, start = fit(*args, **kwargs)
        counts.append(len(points))
        return points, start

    monkeypatch.setattr("fastlsgd.solvers.regression.fit_working_sets", counted)
    _leave_out_the_small_path(monkeypatch)
    return counts


def _leave_out_the_small_path(monkeypatch):
    """Let sets solve problems that are so small that one call solves them."""
    none = lambda *args, **kwargs: None  # noqa: E731
    monkeypatch.setattr("fastlsgd.solvers.regression.solve_small_lasso", none)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("l1_ratio", [0.3, 1.0])
@pytest.mark.parametrize("share", [0.5, 0.05, 0.002])
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("in_one_call", [False, True])
def test_objectives_are_those_of_coordinate_descent(
    kind, l1_ratio, share, positive, in_one_call, monkeypatch
):
    if not in_one_call:
        _leave_out_the_small_path(monkeypatch)
    X, y = wide(kind)
    alpha = share * strongest(X, y, l1_ratio)
    chosen = {"alpha": alpha, "l1_ratio": l1_ratio, "positive": positive}
    best = objective(X, y, peer(X, y, **chosen), alpha, l1_ratio)
    for given in (X,) if in_one_call else (X, np.asfortranarray(X), sparse.csr_array(X)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = LeastSquaresRegressor(**chosen).fit(given, y)
        found = objective(X, y, model.coef_, alpha, l1_ratio)
        assert found <= best * (1.0 + 1e-10)
        assert -1e-9 * found <= model.dual_gap_ <= 1e-8 * found
        np.testing.assert_allclose(model.loss_curve_[-1], found, rtol=1e-9)


def test_wide_fits_are_those_of_sets(solved_by_sets):
    X, y = wide("plain")
    alpha = strongest(X, y, 1.0)
    path = LeastSquaresRegressor(alpha=[0.5 * alpha, 0.1 * alpha], l1_ratio=1.0).fit(X, y)
    assert solved_by_sets == [2]
    assert path.n_iter_ < 20
    LeastSquaresRegressor(alpha=0.1 * alpha, l1_ratio=1.0).fit(sparse.csr_array(X), y)
    assert solved_by_sets == [2, 1]
    LeastSquaresRegressor(alpha=0.1, l1_ratio=1.0, solver="gram").fit(X, y)
    LeastSquaresRegressor(positive=True).fit(X, y)
    assert solved_by_sets == [2, 1]


@pytest.mark.parametrize("dtype", ["float32", "float16", ">f4", "int16"])
@pytest.mark.parametrize("is_sparse", [False, True])
def test_any_dtype(dtype, is_sparse):
    X, y = wide("zeros")
    X = np.round(8.0 * X).astype(dtype)
    alpha = 0.05 * strongest(X.astype(float), y, 1.0)
    given = sparse.csr_array(X.astype(float)) if is_sparse else X
    if is_sparse and dtype != "float16":  # SciPy has no float16
        given.data = given.data.astype(dtype)
    model = LeastSquaresRegressor(alpha=alpha, l1_ratio=1.0).fit(given, y)
    theirs = peer(X.astype(float), y, alpha=alpha, l1_ratio=1.0)
    best = objective(X.astype(float), y, theirs, alpha, 1.0)
    found = objective(X.astype(float), y, model.coef_.astype(float), alpha, 1.0)
    assert found <= best * (1.0 + 1e-9)


@pytest.mark.parametrize("is_sparse", [False, True])
def test_weighted_rows_and_many_targets(is_sparse):
    X, y = wide("zeros")
    Y = np.column_stack([y, np.roll(y, 3), np.zeros(len(y))])
    s = np.random.default_rng(1).uniform(0.5, 2.0, size=len(y))
    s[:5] = 0.0
    alpha = 0.1 * strongest(X, y, 0.5)
    given = sparse.csr_array(X) if is_sparse else X
    model = LeastSquaresRegressor(alpha=alpha, l1_ratio=0.5).fit(given, Y, s)
    for target, w in zip(Y.T, model.coef_, strict=True):
        theirs = peer(X, target, s, alpha=alpha, l1_ratio=0.5)
        best = objective(X, target, theirs, alpha, 0.5, s)
        assert objective(X, target, w, alpha, 0.5, s) <= best * (1.0 + 1e-10) + 1e-15


def test_paths_of_penalties_in_any_order():
    X, y = wide("plain")
    alphas = strongest(X, y, 1.0) * np.array([2.0, 1.0, 0.1, 0.3, 0.01, 0.5])
    path = LeastSquaresRegressor(alpha=list(alphas), l1_ratio=1.0).fit(X, y)
    for alpha, w in zip(alphas, path.coef_path_, strict=True):
        one = LeastSquaresRegressor(alpha=alpha, l1_ratio=1.0).fit(X, y)
        np.testing.assert_allclose(w, one.coef_, atol=1e-10)
    assert not path.coef_path_[0].any()


def test_a_warm_start_ends_where_a_cold_one_does():
    X, y = wide("plain")
    alpha = 0.05 * strongest(X, y, 1.0)
    model = LeastSquaresRegressor(alpha=2.0 * alpha, l1_ratio=1.0, warm_start=True).fit(X, y)
    warm = model.set_params(alpha=alpha).fit(X, y)
    cold = LeastSquaresRegressor(alpha=alpha, l1_ratio=1.0).fit(X, y)
    np.testing.assert_allclose(warm.coef_, cold.coef_, atol=1e-10)


def test_folds_are_their_fits():
    X, y = wide("plain")
    alphas = [float(share * strongest(X, y, 1.0)) for share in (0.5, 0.1)]
    folds = [(np.arange(20, 60), np.arange(20)), (np.arange(40), np.arange(40, 60))]
    model = LeastSquaresCV(alphas=alphas, l1_ratio=1.0, cv=folds).fit(X, y)
    for k, (train, test) in enumerate(folds):
        for alpha, error in zip(alphas, model.mse_path_[:, k], strict=True):
            one = LeastSquaresRegressor(alpha=alpha, l1_ratio=1.0).fit(X[train], y[train])
            expected = np.mean((one.predict(X[test]) - y[test]) ** 2)
            np.testing.assert_allclose(error, expected, rtol=1e-8)


def test_what_sets_cannot_solve_is_solved_as_before(solved_by_sets):
    X, y = wide("plain")
    alpha = 0.05 * strongest(X, y, 1.0)
    expected = LeastSquaresRegressor(alpha=alpha, l1_ratio=1.0).fit(X, y).coef_
    hurried = LeastSquaresRegressor(alpha=alpha, l1_ratio=1.0, max_iter=2).fit(X, y)
    unit = 1e-160
    tiny = LeastSquaresRegressor(alpha=alpha * unit, l1_ratio=1.0).fit(X * unit, y)
    assert solved_by_sets == [1, 0, 0]
    np.testing.assert_allclose(hurried.coef_, expected, atol=1e-10)
    np.testing.assert_allclose(tiny.coef_ * unit, expected, atol=1e-9)


def test_a_stage_that_fails_while_columns_join_leaves_nothing_behind(solved_by_sets, monkeypatch):
    """Otherwise, numbers of `np.empty` stood for the products of the columns that had joined."""
    X, y = wide("plain", n=8, d=40)
    alpha = 1e-4 * strongest(X, y, 1.0)
    expected = LeastSquaresRegressor(alpha=alpha, l1_ratio=1.0).fit(X, y)
    products, calls, failing = working_sets._Path._products, [], 0

    def fails_once(*args):
        calls.append(args)
        if len(calls) == failing:
            raise NotTrustworthy("as where means outweigh columns")
        return products(*args)

    monkeypatch.setattr(working_sets._Path, "_products", fails_once)
    while failing <= len(calls):
        calls.clear()
        failing += 1
        model = LeastSquaresRegressor(alpha=alpha, l1_ratio=1.0).fit(sparse.csr_array(X), y)
        np.testing.assert_allclose(model.loss_curve_[-1], expected.loss_curve_[-1], rtol=1e-8)
    assert solved_by_sets


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend(backend):
    X, y = wide("zeros")
    alpha = 0.05 * strongest(X, y, 1.0)
    expected = LeastSquaresRegressor(alpha=alpha, l1_ratio=1.0).fit(X, y).coef_
    with config_context(backend=backend):
        for given in (X, sparse.csr_array(X)):
            found = LeastSquaresRegressor(alpha=alpha, l1_ratio=1.0).fit(given, y)
            np.testing.assert_allclose(found.coef_, expected, atol=1e-10)


native = pytest.mark.skipif(
    available_backends()["native"] != "available", reason="needs the native backend"
)


@native
@pytest.mark.parametrize("positive", [False, True])
def test_compiled_descent_is_that_of_numpy(positive):
    kernels = load_backend("native")
    rng = np.random.default_rng(0)
    A = rng.normal(size=(30, 20))
    space = np.zeros((25, 25))
    space[:20, :20] = A.T @ A
    H, c = space[:20, :20], A.T @ rng.normal(size=30)
    before = kernels.isa()
    try:
        for isa in kernels.isas():
            kernels.set_isa(isa)
            for tol, epochs in ((0.0, 3), (1e-8, 1000)):
                w, q = np.zeros(20), -c
                v, p = np.zeros(20), -c
                done = kernels.coordinate_descent(H, w, q, 1.0, 0.1, positive, tol, epochs)
                expected = coordinate_descent.coordinate_descent(
                    H, v, p, 1.0, 0.1, positive, tol, epochs
                )
                assert done == expected
                np.testing.assert_allclose(w, v, rtol=1e-12, atol=1e-14)
                np.testing.assert_allclose(q, H @ w - c, atol=1e-12)
    finally:
        kernels.set_isa(before)


@native
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize(("n", "k"), [(9, 6), (70, 41)])
def test_compiled_descent_on_columns_is_that_on_their_products(n, k, positive):
    kernels = load_backend("native")
    rng = np.random.default_rng(0)
    A = rng.normal(size=(k, n)).astype(np.float32)
    A[1] = 0.0
    y = rng.normal(size=n).astype(np.float32)
    H, c = A.astype(np.float64) @ A.T / n, A.astype(np.float64) @ y / n
    before = kernels.isa()
    try:
        for isa in kernels.isas():
            kernels.set_isa(isa)
            w, r, v = np.zeros(k), -y, np.zeros(k)
            done = kernels.column_descent(A, None, w, r, float(n), 0.02, 0.1, positive, 0.0, 7)
            coordinate_descent.coordinate_descent(H, v, -c, 0.02, 0.1, positive, 0.0, 7)
            assert done == 7
            assert v.any()
            np.testing.assert_allclose(w, v, atol=1e-5)
            np.testing.assert_allclose(r, w @ A - y, atol=1e-5)
            assert kernels.column_descent(A, None, w, r, float(n), 0.02, 0.1, positive, 1.0, 7) == 1
            u, apart = np.zeros(k), np.zeros(n, np.float32)  # from the gradient, in place of y
            kernels.column_descent(A, -c, u, apart, float(n), 0.02, 0.1, positive, 0.0, 7)
            np.testing.assert_allclose(u, v, atol=1e-5)
    finally:
        kernels.set_isa(before)


@native
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("index", ["int32", "int64"])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_compiled_products_are_those_of_scipy(dtype, index, is_weighted):
    rng = np.random.default_rng(0)
    A = random_csr((50, 30), 0.2, rng).astype(dtype)
    X = CSR(A.data, A.indices.astype(index), A.indptr.astype(index), A.shape)
    s = rng.uniform(size=50) if is_weighted else None
    place = np.full(30, -1)
    place[rng.permutation(30)[:12]] = np.arange(12)
    for first in (0, 5, 12):
        found = load_backend("native").column_products(X, s, place, 12, first)
        expected = working_sets.column_products(X, s, place, 12, first)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@native
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("l2", [0.0, 0.05])
@pytest.mark.parametrize("kind", ["plain", "correlated", "dependent"])
def test_compiled_walks_end_at_the_minimum(kind, l2, positive):
    kernels = load_backend("native")
    rng = np.random.default_rng(0)
    A = rng.normal(size=(40, 70))
    if kind == "correlated":
        A = A[:, :1] + 0.1 * np.cumsum(A, axis=1)
    elif kind == "dependent":
        A[:, 35:] = A[:, :35] @ rng.normal(size=(35, 35))
        A[:, 3] = 0.0
    H, c = A.T @ A / 40, A.T @ rng.normal(size=40) / 40
    c = np.stack([c, -c], axis=1)[:, 0]  # one of several targets, with a stride
    penalty = Penalty(0.02 * float(np.abs(c).max()), l2, positive)
    before = kernels.isa()
    try:
        for isa in kernels.isas():
            kernels.set_isa(isa)
            for start in (np.zeros(70), rng.normal(size=70)):
                problem = coordinate_descent.DescentQuadratic(H, c, kernels)
                start = np.abs(start) if positive else start
                w, is_at_end, _ = problem._walk(penalty, start, 1e-12)
                assert is_at_end
                violation = penalty.violation(w, H @ w - c + l2 * w) * (np.diag(H) > 0.0)
                assert violation.max() <= 1e-9 * np.abs(c).max()
                where = np.flatnonzero(w)
                part = H[np.ix_(where, where)] + l2 * np.eye(len(where))
                scale = 1.0 / np.sqrt(np.diag(part))
                values = np.linalg.eigvalsh(part * scale * scale[:, None])
                expected = np.sqrt(values[-1] / values[0])
                assert 0.2 * expected <= problem.condition <= 10.0 * expected
    finally:
        kernels.set_isa(before)


@native
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("t", [1, 2])
def test_elastic_nets_of_many_weights_need_no_factor(dtype, t, monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(550, 700)).astype(dtype)
    Y = (X[:, :40] @ rng.normal(size=(40, t)) + rng.normal(size=(550, t))).astype(dtype)
    Y = Y[:, 0] if t == 1 else Y
    alpha = 0.05 * strongest(X.astype(float), Y.reshape(550, -1)[:, 0].astype(float), 0.3)
    model = LeastSquaresRegressor(alpha=alpha, l1_ratio=0.3)

    def refused(*args):
        raise AssertionError("no factor is needed")

    with monkeypatch.context() as patch:
        patch.setattr(working_sets._Path, "_end_descent", refused)
        found = vars(model.fit(X, Y)).copy()
    monkeypatch.setattr(working_sets, "MOST_ROUGH_EPOCHS", 0)
    exact = model.fit(X, Y)
    assert np.count_nonzero(exact.coef_) > 100 * t
    atol = (1e-5 if dtype == "float32" else 1e-8) * np.abs(exact.coef_).max()
    np.testing.assert_allclose(found["coef_"], exact.coef_, atol=atol)
    np.testing.assert_allclose(found["loss_curve_"][-1], exact.loss_curve_[-1], rtol=1e-10)
    assert abs(found["dual_gap_"]) <= (1e-5 if dtype == "float32" else 1e-8) * exact.loss_curve_[-1]
    assert exact.condition_ <= found["condition_"] <= 300.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_correlated_columns_of_several_targets(backend):
    """Guesses of the active set cycle here: with a new factor per step, walks took 20 s."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 120))
    for j in range(1, 120):
        X[:, j] += 3.0 * X[:, j - 1]
    X /= np.linalg.norm(X, axis=0)
    Y = X[:, [5, 60]] + 0.02 * rng.normal(size=(50, 2))
    alpha = 0.01 * strongest(X, Y[:, 0], 1.0)
    with config_context(backend=backend), warnings.catch_warnings():
        warnings.simplefilter("error")
        model = LeastSquaresRegressor(alpha=alpha, l1_ratio=1.0).fit(X, Y)
    for y, w in zip(Y.T, model.coef_, strict=True):
        best = objective(X, y, peer(X, y, alpha=alpha, l1_ratio=1.0), alpha, 1.0)
        assert objective(X, y, w, alpha, 1.0) <= best * (1.0 + 1e-10)


def test_float32_descent_is_for_targets_whose_weights_float32_holds(monkeypatch):
    kernels, calls = load_backend("native"), []
    descent = kernels.column_descent
    monkeypatch.setattr(
        kernels, "column_descent", lambda *given: calls.append(given) or descent(*given)
    )
    X, y = wide("plain", n=100, d=12_000)
    found = []
    for unit in (0, -330):
        calls.clear()
        alpha = 0.1 * np.ldexp(strongest(X, y, 1.0), unit)
        model = LeastSquaresRegressor(l1_ratio=1.0, alpha=alpha).fit(X, np.ldexp(y, unit))
        assert bool(calls) == (unit == 0)
        found.append(np.ldexp(model.coef_, -unit))
    np.testing.assert_allclose(found[1], found[0], rtol=0.0, atol=1e-9)
