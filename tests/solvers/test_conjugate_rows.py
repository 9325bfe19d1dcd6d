"""Sparse rows that are fewer than the columns, with a ridge penalty, by conjugate gradients."""

import tracemalloc
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from fits import close
from scipy.linalg import cho_factor, cho_solve
from sklearn.exceptions import ConvergenceWarning
from small_problems import random_csr

import fastlsgd
from fastlsgd import LeastSquaresClassifier, LeastSquaresRegressor
from fastlsgd.kernels import available_backends, load_backend
from fastlsgd.kernels.contract import CSR
from fastlsgd.solvers.conjugate import exceeds
from fastlsgd.solvers.row_products import RowProducts, ScipyProducts

N, D = 400, 2000


def problem(targets=2, seed=0):
    rng = np.random.default_rng(seed)
    X = random_csr((N, D), 8 / D, rng)
    return X, X @ rng.normal(size=(D, targets)) + 0.1 * rng.normal(size=(N, targets)) + 3.0, rng


def truth(X, Y, s=None, alpha=0.0, fit_intercept=True):
    """Weights (t, d) and intercepts from A A^T + alpha I, with residuals in long doubles."""
    s = np.ones(len(X)) if s is None else s
    kept = s > 0.0
    X, Y, s = (np.asarray(a[kept], np.longdouble) for a in (X, Y, s))
    x_mean, y_mean = np.zeros(X.shape[1]), np.zeros(Y.shape[1])
    if fit_intercept:
        x_mean, y_mean = s @ X / s.sum(), s @ Y / s.sum()
    root = np.sqrt(s)[:, None]
    A, b = root * (X - x_mean), root * (Y - y_mean)
    K = np.float64(A) @ np.float64(A).T + alpha * np.eye(len(A))
    D = 1.0 / np.sqrt(np.diag(K))[:, None]
    factor = cho_factor(D * K * D.T)
    u = np.zeros_like(b)
    for _ in range(3):
        e = b - A @ (A.T @ u) - alpha * u
        u += D * cho_solve(factor, np.float64(D * e))
    w = (A.T @ u).T
    return w, y_mean - w @ x_mean


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_weights_are_those_of_long_doubles(dtype, weighted, fit_intercept):
    X, Y, rng = problem()
    X, s = X.astype(dtype), None
    if weighted:
        s = rng.uniform(0.1, 2.0, N)
        s[::7] = 0.0
        X.data[X.indptr[7] : X.indptr[8]] = 1e30 if dtype == "float32" else 1e200  # of weight zero
    alpha = 0.7
    total = N if s is None else s.sum()
    model = LeastSquaresRegressor(alpha=alpha / total, fit_intercept=fit_intercept, tol=0.0)
    model.fit(X, Y, s)
    w, b = truth(X.toarray(), Y, s, alpha, fit_intercept)
    assert model.solver_ == "cg"
    tolerance = 1e-6 if dtype == "float32" else 1e-12
    close(model.coef_, w, tolerance)
    close(model.intercept_, b, tolerance)


def test_the_fit_ends_at_tol_and_reports_its_passes():
    X, Y, _ = problem(1)
    passes, errors = [], []
    w, _ = truth(X.toarray(), Y, None, 0.1)
    for tol in (1e-3, 1e-6, 1e-9):
        model = LeastSquaresRegressor(alpha=0.1 / N, tol=tol).fit(X, Y[:, 0])
        assert model.solver_ == "cg"
        assert model.relative_gradient_ <= tol
        assert model.n_iter_ == len(model.loss_curve_)
        passes.append(model.n_iter_)
        errors.append(np.linalg.norm(model.coef_ - w) / np.linalg.norm(w))
        w64, b64 = model.coef_, model.intercept_
        objective = 0.5 * np.mean((X @ w64 + b64 - Y[:, 0]) ** 2) + 0.05 / N * w64 @ w64
        assert model.loss_curve_[-1] == pytest.approx(objective, rel=1e-6)
        if tol > 1e-9:
            assert all(np.diff(model.loss_curve_)[2:] < 1e-6)
    assert passes == sorted(passes)
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-8


def test_too_few_passes_end_in_a_warning():
    X, Y, _ = problem(1)
    with pytest.warns(ConvergenceWarning, match="max_iter=5 ended the fit"):
        model = LeastSquaresRegressor(alpha=0.1 / N, max_iter=5).fit(X, Y[:, 0])
    assert model.n_iter_ == 5


def test_heavy_rows_hide_no_others():
    X, Y, _ = problem(1)
    rows = np.ones(N)
    rows[:5] = 1e6
    X, Y = sp.diags(rows) @ X, rows[:, None] * Y
    w, b = truth(X.toarray(), Y, None, 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = LeastSquaresRegressor(alpha=0.5 / N).fit(X.tocsr(), Y[:, 0])
    missed = X @ (model.coef_ - w[0]) + (model.intercept_ - b[0])
    assert np.abs(missed[5:]).max() < 1e-6 * np.abs(Y[5:]).max()


def test_rows_and_columns_without_numbers():
    X, Y, _ = problem(1)
    keep, columns = np.ones(N), np.ones(D)
    keep[::9], columns[::11] = 0.0, 0.0
    X = (sp.diags(keep) @ X @ sp.diags(columns)).tocsr()
    X.eliminate_zeros()
    for fit_intercept in (False, True):
        model = LeastSquaresRegressor(alpha=0.5 / N, fit_intercept=fit_intercept).fit(X, Y[:, 0])
        w, _ = truth(X.toarray(), Y, None, 0.5, fit_intercept)
        assert model.solver_ == "cg"
        assert not model.coef_[::11].any()
        close(model.coef_, w[0], 1e-9)


def test_many_classes_share_the_products():
    X, _, rng = problem(1)
    labels = rng.integers(0, 70, N)
    model = LeastSquaresClassifier(alpha=1.0 / N).fit(X, labels)
    A, y = X.toarray() - X.mean(axis=0), np.where(labels[:, None] == np.arange(70), 1.0, -1.0)
    u = np.linalg.solve(A @ A.T + np.eye(N), y - y.mean(axis=0))
    assert model.solver_ == "cg"
    close(model.coef_, u.T @ A, 1e-9)


def test_rows_that_nearly_repeat_go_to_another_solver():
    """The condition number is beyond what conjugate gradients can do in the time of a factor."""
    X, Y, _ = problem(1)
    twice = sp.vstack([X, X]).tocsr()
    y = np.concatenate([Y, Y + 0.1])
    x, info = fastlsgd.lstsq(twice, y[:, 0], alpha=1e-9, return_info=True)
    w, _ = truth(X.toarray(), Y + 0.05, None, 0.5e-9, fit_intercept=False)
    close(x, w[0], 1e-6)
    assert info.solver_ != "cg"


def test_memory_is_that_of_a_copy_at_most():
    rng = np.random.default_rng(0)
    indices = np.concatenate([rng.choice(60_000, 100, replace=False) for _ in range(20_000)])
    data = rng.random(len(indices), dtype=np.float32)
    X = sp.csr_array((data, indices, np.arange(0, len(indices) + 1, 100)), shape=(20_000, 60_000))
    y = X[:, :10].sum(axis=1)
    tracemalloc.start()
    LeastSquaresRegressor(alpha=1.0, tol=1e-3).fit(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64e6


@pytest.mark.skipif(
    available_backends()["native"] != "available", reason="the native kernels are not built"
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("index", ["int32", "int64"])
def test_compiled_products_are_those_of_scipy(dtype, index):
    rng = np.random.default_rng(0)
    A = random_csr((51, 30), 0.2, rng).astype(dtype)
    A.data[A.indptr[4] : A.indptr[5]] = 0.0
    whole = CSR(A.data, A.indices.astype(index), A.indptr.astype(index), A.shape)
    rows = CSR(whole.data, whole.indices, whole.indptr[3:], (48, 30))  # does not start at 0
    kernels = load_backend("native")
    before = kernels.isa()
    try:
        for isa in kernels.isas():
            kernels.set_isa(isa)
            for count in (1, 2, 3, 7, 8, 9, 19):
                X = rows if count % 2 else whole
                u, w = rng.normal(size=(count, X.shape[0])), rng.normal(size=(count, 30))
                found, expected = RowProducts(kernels, X, count), ScipyProducts(X)
                close(found.squares(), expected.squares(), 1e-12)
                for name, vectors in (("sums", u), ("dots", w), ("both", u), ("sums", u[:, ::-1])):
                    close(getattr(found, name)(vectors), getattr(expected, name)(vectors), 1e-12)
    finally:
        kernels.set_isa(before)


def test_backends_without_compiled_products_give_the_same_weights():
    X, Y, _ = problem()
    fits = [
        LeastSquaresRegressor(alpha=1e-3, backend=backend).fit(X, Y)
        for backend in ("auto", "reference")
    ]
    assert [fit.solver_ for fit in fits] == ["cg", "cg"]
    close(fits[0].coef_, fits[1].coef_, 1e-9)


@pytest.mark.skipif(
    available_backends()["native"] != "available", reason="the native kernels are not built"
)
@pytest.mark.parametrize("targets", [1, 3, 9])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_the_compiled_loop_is_that_of_products(targets, dtype, fit_intercept, monkeypatch):
    X, Y, rng = problem(targets)
    X, s = X.astype(dtype), rng.uniform(0.1, 2.0, N) if targets == 3 else None
    s = s if s is None else np.where(np.arange(N) % 7, s, 0.0)
    kernels = load_backend("native")
    before, models = kernels.isa(), []

    def fit():
        return LeastSquaresRegressor(alpha=1e-3, tol=1e-8, fit_intercept=fit_intercept).fit(X, Y, s)

    try:
        for isa in kernels.isas():
            kernels.set_isa(isa)
            models.append(fit())
    finally:
        kernels.set_isa(before)
    monkeypatch.setattr("fastlsgd.solvers.conjugate_rows.has_row_kernels", lambda _: False)
    expected = fit()
    for model in models:
        close(model.coef_, expected.coef_, 1e-6)
        assert model.solver_ == expected.solver_ == "cg"
        assert model.relative_gradient_ <= 1e-8
        assert 0 <= expected.n_iter_ - model.n_iter_ <= 10
        close(model.loss_curve_[:8], expected.loss_curve_[:8], 1e-6)
        assert model.condition_ == pytest.approx(expected.condition_, rel=1e-3)


def test_residuals_that_rise_for_a_while_end_no_cheap_iteration():
    """A sparse ridge of 5,000 x 8,000 gave up 110 iterations for a factor that costs 8,000."""
    rising = list(np.exp(np.linspace(0.0, 3.0, 13)))
    assert exceeds(40, rising)
    assert not exceeds(8_000, rising)
    falling = list(np.exp(-0.1 * np.arange(600.0)))
    assert not exceeds(8_000, falling)
    assert exceeds(650, falling)


def test_rows_of_many_numbers_need_no_product_of_all_pairs():
    """2,000 x 20,000 with 900 numbers per row took 0.85 s, most of it X X^T, in place of 0.12."""
    rng = np.random.default_rng(0)
    X = random_csr((300, 3000), 0.1, rng)
    y = X @ rng.normal(size=3000)
    model = LeastSquaresRegressor(alpha=0.01).fit(X, y)
    assert model.solver_ == "cg"
    close(model.coef_, truth(X.toarray(), y[:, None], alpha=3.0)[0][0], 1e-8)


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_independent_rows_without_a_penalty_have_the_least_weights(dtype, fit_intercept):
    """Only the n x n matrix did this before: 2,200 x 20,000 took 0.26 s in place of 0.015."""
    X, Y, _ = problem()
    X = X.astype(dtype)
    model = LeastSquaresRegressor(fit_intercept=fit_intercept).fit(X, Y)
    A, y = X.toarray().astype(np.float64), Y
    if fit_intercept:
        A, y = A - A.mean(axis=0), Y - Y.mean(axis=0)
    w = y.T @ np.linalg.pinv(A @ A.T, rcond=1e-12, hermitian=True) @ A
    assert model.solver_ == "cg"
    close(model.coef_, w, 1e-6 if dtype == "float32" else 1e-11)
    close(model.predict(X.astype(np.float64)), Y, 1e-6 if dtype == "float32" else 1e-11)


@pytest.mark.parametrize("moved", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["repeated", "empty", "sum"])
def test_dependent_rows_without_a_penalty_go_to_another_solver(kind, moved):
    """Their targets may agree, so that conjugate gradients end without having seen it."""
    rng = np.random.default_rng(0)
    A = np.zeros((250, 800))
    for row in A:
        row[rng.choice(800, 4, replace=False)] = rng.normal(size=4)
    A[7] = {"repeated": A[8], "empty": 0.0, "sum": A[9] + A[10]}[kind]
    y = A @ rng.normal(size=800)
    y[7] += moved
    x, info = fastlsgd.lstsq(sp.csr_array(A), y, return_info=True)
    assert info.solver_ != "cg"
    close(x, np.linalg.lstsq(A, y)[0], 1e-9)


def test_a_penalty_that_bounds_the_condition_needs_no_look_at_random(monkeypatch):
    """It cost as much as a fit of fewer than ten iterations, such as those of these rows."""
    X, looks = sp.csr_array(sp.eye(N, D)), []

    def look(*args):
        looks.append(args)
        return 1.0

    monkeypatch.setattr("fastlsgd.solvers.conjugate_rows.condition_seen_at_random", look)
    for alpha, expected in ((1.0, 0), (1e-5, 1)):
        fastlsgd.lstsq(X, np.arange(float(N)), alpha=alpha)
        assert len(looks) == expected


def test_the_solver_cg_is_on_the_rows_where_these_are_few():
    X, Y, _ = problem(1)
    named = LeastSquaresRegressor(alpha=1e-3, solver="cg").fit(X, Y[:, 0])
    chosen = LeastSquaresRegressor(alpha=1e-3).fit(X, Y[:, 0])
    assert np.array_equal(named.coef_, chosen.coef_)
    assert named.n_iter_ == chosen.n_iter_
