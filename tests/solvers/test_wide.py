"""Fewer rows than columns: the dual against solutions in long doubles, and its fallbacks."""

from __future__ import annotations

import tracemalloc
import warnings
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from fits import BACKENDS, close
from sklearn.linear_model import LinearRegression, RidgeClassifier, RidgeCV
from small_problems import random_csr

from fastlsgd import (
    LeastSquaresClassifier,
    LeastSquaresCV,
    LeastSquaresRegressor,
    lstsq,
)
from fastlsgd.kernels import resolve_backend
from fastlsgd.solvers.moved_weights import move_dense

ON_HOST = [name for name in BACKENDS if name != "cuda"]


def problem(n=14, d=40, targets=2, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) + 2.0 * rng.normal(size=d)
    return X, X @ rng.normal(size=(d, targets)) + rng.normal(size=(n, targets)) + 3.0, rng


def truth(X, Y, s=None, alpha=0.0, fit_intercept=True):
    """Weights (t, d) and intercepts in long doubles, by elimination in A A^T, a null row filled."""
    X, Y = np.asarray(X, np.longdouble), np.asarray(Y, np.longdouble).reshape(len(Y), -1)
    s = np.ones(len(X), np.longdouble) if s is None else np.asarray(s, np.longdouble)
    X, Y, s = X[s > 0], Y[s > 0], s[s > 0]
    x_mean, y_mean = np.zeros(X.shape[1]), np.zeros(Y.shape[1])
    if fit_intercept:
        x_mean, y_mean = s @ X / s.sum(), s @ Y / s.sum()
    root = np.sqrt(s)[:, None]
    A, b = root * (X - x_mean), root * (Y - y_mean)
    K = A @ A.T + alpha * np.eye(len(A), dtype=np.longdouble)
    if fit_intercept:
        K += np.trace(K) / (len(K) * s.sum()) * (root * root.T)
    w = (A.T @ eliminated(K, b)).T
    return w, y_mean - w @ x_mean


def eliminated(K, b):
    """K^-1 b with exchanges of rows, in the arrays' own precision; rows scaled first."""
    scale = 1.0 / np.sqrt(np.diag(K))[:, None]
    M = np.hstack([scale * K * scale.T, scale * b])
    n = len(K)
    for i in range(n):
        pivot = i + int(np.argmax(np.abs(M[i:, i])))
        M[[i, pivot]] = M[[pivot, i]]
        M[i] /= M[i, i]
        for r in range(n):
            if r != i:
                M[r] -= M[r, i] * M[i]
    return scale * M[:, n:]


def exact(X, Y, s=None, alpha=0.0, fit_intercept=True):
    """Weights (t, d), rounded once: X X^T v + alpha v / s + b = y, sum v = 0 in fractions."""
    n, s = len(X), np.ones(len(X)) if s is None else s
    X, Y, s = fractions(X), fractions(Y), fractions(s)
    M = X @ X.T + np.diag(Fraction(alpha) / s)
    right = Y
    if fit_intercept:
        ones = fractions(np.ones((n, 1)))
        M = np.block([[M, ones], [ones.T, fractions(np.zeros((1, 1)))]])
        right = np.vstack([Y, fractions(np.zeros((1, Y.shape[1])))])
    M = np.hstack([M, right])
    for i in range(len(M)):
        pivot = next(r for r in range(i, len(M)) if M[r, i] != 0)
        M[[i, pivot]] = M[[pivot, i]]
        M[i] /= M[i, i]
        for r in range(len(M)):
            if r != i:
                M[r] = M[r] - M[r, i] * M[i]
    return (X.T @ M[:n, len(M) :]).T.astype(np.float64)


def fractions(values):
    return np.vectorize(Fraction, otypes=[object])(np.asarray(values, np.float64))


KINDS = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "every second": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "CSR": sp.csr_array,
}


@pytest.mark.parametrize("backend", ON_HOST)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "int8"])
def test_weights_are_those_of_long_doubles(dtype, kind, backend):
    X, Y, rng = problem()
    X = (X if dtype != "int8" else np.round(20 * X)).astype(dtype)
    tolerance = 1e-12 if dtype == "float64" else 2e-7
    zeros = rng.uniform(0.5, 2.0, len(X)) * (np.arange(len(X)) % 5 > 0)
    for s in (None, rng.uniform(0.5, 2.0, len(X)), zeros):
        for alpha in (0.0, 0.3):
            for fit_intercept in (True, False):
                total = len(X) if s is None else s.sum()
                model = LeastSquaresRegressor(
                    alpha=alpha / total, fit_intercept=fit_intercept, backend=backend
                )
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    model.fit(KINDS[kind](X), Y, sample_weight=s)
                w, b = truth(X, Y, s, alpha, fit_intercept)
                assert model.solver_ == "dual"
                close(model.coef_, w, tolerance)
                if fit_intercept:
                    close(model.intercept_, b, 20.0 * tolerance)


@pytest.mark.parametrize("alpha", [0.0, 0.3])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_rows_of_very_different_size(fit_intercept, alpha):
    X, Y, _ = problem()
    unit = np.where(np.arange(len(X)) < 3, 1e6, 1.0)[:, None]
    unit[5] = 1e-5
    model = LeastSquaresRegressor(alpha=alpha / len(X), fit_intercept=fit_intercept)
    model.fit(X * unit, Y * unit)
    # The mean outweighs the small rows, and has made their condition 4e6.
    tolerance = 1e-9 if fit_intercept else 1e-12
    close(model.coef_, exact(X * unit, Y * unit, None, alpha, fit_intercept), tolerance)


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_weights_of_very_different_size(alpha):
    X, Y, rng = problem()
    s = 10.0 ** rng.uniform(-9, 9, len(X))
    for fit_intercept in (False, True):
        model = LeastSquaresRegressor(alpha=alpha / s.sum(), fit_intercept=fit_intercept)
        model.fit(X, Y, sample_weight=s)
        close(model.coef_, exact(X, Y, s, alpha, fit_intercept), 1e-7)


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("agree", [True, False])
def test_rows_that_come_twice_have_the_answer_of_least_norm(agree, kind):
    X, Y, _ = problem()
    X[3], X[4] = X[2], 2.0 * X[2] - X[1]
    if agree:
        Y[3], Y[4] = Y[2], 2.0 * Y[2] - Y[1]
    x, info = lstsq(kind(X), Y, return_info=True)
    close(x, np.linalg.lstsq(X, Y)[0], 1e-11)
    assert info.solver_ == "qr"
    model = LeastSquaresRegressor().fit(kind(X), Y)
    close(model.coef_, LinearRegression().fit(X, Y).coef_, 1e-11)


@pytest.mark.parametrize("apart", [1e-5, 1e-8])
def test_nearly_dependent_rows_are_solved_backward_stably(apart):
    X, Y, rng = problem()
    X[3] = X[2] + apart * rng.normal(size=X.shape[1])
    x, info = lstsq(X, Y, return_info=True)
    size = np.linalg.norm(X, 2) * np.linalg.norm(x) + np.linalg.norm(Y)
    assert np.linalg.norm(X @ x - Y) <= 1e-13 * size
    assert info.condition_ > 0.01 / apart
    close(x.T, exact(X, Y, fit_intercept=False), 1e-13 / apart)


def test_constant_columns_have_no_weight():
    X, Y, _ = problem()
    wide = np.insert(X, [0, 7], 0.1, axis=1)
    model = LeastSquaresRegressor().fit(wide, Y)
    assert not model.coef_[:, [0, 8]].any()
    close(np.delete(model.coef_, [0, 8], axis=1), LeastSquaresRegressor().fit(X, Y).coef_, 1e-12)


def test_squares_beyond_float64_are_solved_all_the_same():
    X, Y, _ = problem()
    expected = LeastSquaresRegressor().fit(X, Y)
    for unit in (1e-170, 1e170):
        close(unit * LeastSquaresRegressor().fit(unit * X, Y).coef_, expected.coef_, 1e-10)


def test_sparse_rows_by_gradients_or_by_the_dual():
    X = random_csr((600, 3000), 0.01, 0)
    y = X @ np.ones(3000) + np.arange(600) % 7
    A = X.toarray()
    for alpha in (1e-6, 1.0):
        model = LeastSquaresRegressor(alpha=alpha / 600).fit(X, y)
        centred = A - A.mean(axis=0)
        u = np.linalg.solve(centred @ centred.T + alpha * np.eye(600), y - y.mean())
        close(model.coef_, centred.T @ u, 1e-7)


def test_a_classifier_of_many_classes_is_scikit_learns():
    X, _, rng = problem(n=60, d=300)
    labels = rng.integers(0, 5, 60)
    for dtype in (np.float64, np.float32):
        model = LeastSquaresClassifier(alpha=1.0 / 60).fit(X.astype(dtype), labels)
        peer = RidgeClassifier(1.0).fit(X, labels)
        close(model.coef_, peer.coef_, 1e-5 if dtype == np.float32 else 1e-11)


def test_leave_one_out_picks_scikit_learns_penalty():
    X, Y, _ = problem(n=60, d=300)
    alphas = np.geomspace(1e3, 1e-2, 6)
    model = LeastSquaresCV(alphas=alphas / 59).fit(X, Y)  # of fits to 59 rows
    peer = RidgeCV(alphas, store_cv_results=True).fit(X, Y)
    # scikit-learn leaves the mean of all rows to a fit without one of them: to O(1 / n).
    assert np.argmin(model.mse_path_) == np.argmin(peer.cv_results_.mean(axis=(0, 1)))


def test_nothing_of_the_size_of_x_is_allocated():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 60_000), dtype=np.float32)  # 72 MB
    y = X[:, 0] + rng.normal(size=300)
    fits = (
        lambda: LeastSquaresRegressor(alpha=0.1).fit(X, y),
        lambda: LeastSquaresRegressor().fit(X, y),
        lambda: LeastSquaresCV(alphas=[1.0, 0.1]).fit(X, y),
        lambda: LeastSquaresCV(alphas=[1.0, 0.1], cv=3).fit(X, y),
    )
    for fit in fits:
        tracemalloc.start()
        fit()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 40e6


@pytest.mark.parametrize("fit_intercept", [False, True])
def test_float32_products_of_many_columns_are_corrected(fit_intercept):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(900, 320)) + 1.0).astype(np.float32)
    y, s = X[:, :3].sum(axis=1) + rng.normal(size=900), rng.uniform(0.0, 2.0, 900)
    A, b = X.astype(np.float64), y
    if fit_intercept:
        A, b = A - s @ A / s.sum(), y - s @ y / s.sum()
    for alpha in (0.0, 0.1):
        model = LeastSquaresRegressor(alpha=alpha, fit_intercept=fit_intercept)
        model.fit(X, y, sample_weight=s)
        H = A.T @ (s[:, None] * A) + alpha * s.sum() * np.eye(320)
        assert model.solver_ == "gram"
        close(model.coef_, np.linalg.solve(H, A.T @ (s * b)), 2e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", ["rows", "every other row", "columns", "some rows"])
def test_weights_are_moved_along_the_rows_in_any_layout(dtype, layout):
    rng = np.random.default_rng(5)
    kernels = resolve_backend("native")
    for n, d, t in ((1, 3, 1), (9, 70, 1), (12, 65, 2), (17, 1030, 3), (8, 600, 4), (23, 131, 11)):
        X = rng.normal(size=(2 * n, d)).astype(dtype)
        rows = None
        if layout == "rows":
            X = X[:n]
        elif layout == "every other row":
            X = X[::-2]
        elif layout == "columns":
            X = np.asfortranarray(X[:n])
        else:
            rows = np.sort(rng.choice(2 * n, n, replace=False))
        A = (X if rows is None else X[rows]).astype(np.float64)
        coef, u, centre = rng.normal(size=(t, d)), rng.normal(size=(n, t)), rng.normal(size=d)
        constant = np.unique(rng.integers(0, d, 3))
        expected = coef + u.T @ A - np.outer(u.sum(axis=0), centre)
        expected[:, constant] = 0.0
        out = move_dense(X, rows, coef, u, centre, constant, kernels, 2)
        np.testing.assert_allclose(coef, expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(out, A @ expected.T, rtol=1e-11, atol=1e-11)
