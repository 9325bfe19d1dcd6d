"""The factor of a stream's rows and penalty, brought up to date a few rows at a time."""

from __future__ import annotations

import numpy as np
import pytest

from fastlsgd import LeastSquaresRegressor, SGDRegressor
from fastlsgd.kernels import load_backend
from fastlsgd.solvers import recursive
from fastlsgd.solvers.updated_factor import UpdatedFactor


def rows_of(n, d, t=2, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * np.geomspace(0.1, 10.0, d) + 2.0
    return X, X @ rng.normal(size=(d, t)) + 3.0 + rng.normal(size=(n, t))


@pytest.mark.parametrize("l2", [0.0, 1e-4, 1.0, 1e4])
@pytest.mark.parametrize("has_intercept", [True, False])
@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("of_rows", [False, True])
def test_few_rows_at_a_time_are_all_rows(l2, has_intercept, backend, of_rows):
    kernels = load_backend(backend)
    X, Y = rows_of(200, 12)
    C = np.hstack([np.ones((200, 1)), X]) if has_intercept else X
    A = np.hstack([C, Y])
    k = C.shape[1]
    factor = UpdatedFactor.of_rows(
        A[:130], l2, 130.0, k, has_intercept=has_intercept, kernels=kernels
    )
    if of_rows:
        joint = np.linalg.qr(A[:130], mode="r")[:k]
        factor = UpdatedFactor.without_penalty(joint, l2, 130.0, has_intercept=has_intercept)
        if l2 > 1e-3:
            assert factor is None
            return
    start = 130
    for m in (1, 7, 20, 1, 13, 20):
        factor, start = factor.with_rows(A[start : start + m], float(m), kernels), start + m
    assert factor.is_current
    D = np.eye(C.shape[1])
    D[0, 0] = 1.0 - has_intercept
    wanted = np.linalg.solve(C[:start].T @ C[:start] + l2 * start * D, C[:start].T @ Y[:start])
    examined = factor.examined()
    assert examined is not None
    assert examined.examined() is examined
    np.testing.assert_allclose(factor.solution(kernels), wanted.T, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("exponent", [-200, 0, 200])
@pytest.mark.parametrize(("k", "m", "t"), [(1, 1, 1), (7, 3, 2), (33, 100, 1), (64, 49, 3)])
def test_compiled_updates_are_lapacks(exponent, k, m, t):
    kernels = load_backend("auto")
    if not hasattr(kernels, "update_triangle"):
        pytest.skip("no compiled one")
    rng = np.random.default_rng(0)
    R, C = np.triu(rng.normal(size=(k, k))), rng.normal(size=(m, k))
    q, Y = rng.normal(size=(k, t)), rng.normal(size=(m, t))
    C[:, k // 2] = 0.0
    scale = np.ldexp(1.0, exponent)
    joint, rows = np.hstack([scale * R, q]), np.hstack([scale * C, Y])
    updated = kernels.update_triangle(joint, rows)
    upper, right = updated[:, :k], updated[:, k:]
    # Results lie in memory as they are needed, and are not written to by the next call.
    before, zeros = updated.copy(), 0.0 * rows
    assert np.array_equal(kernels.update_triangle(updated, zeros), before)
    kernels.update_triangle(updated, rows)
    assert np.array_equal(updated, before)
    assert not np.tril(upper, -1).any()
    both, targets = np.vstack([R, C]), np.vstack([q, Y])
    upper = upper / scale
    np.testing.assert_allclose(upper.T @ upper, both.T @ both, atol=1e-11)
    np.testing.assert_allclose(upper.T @ right, both.T @ targets, atol=1e-11)


def test_dependent_columns_are_left_to_singular_values():
    X, Y = rows_of(50, 4)
    X[:, 3] = X[:, 0]
    for rows in (X, np.hstack([X[:, :3], np.zeros((50, 1))]), X[:2], 1e200 * X):
        A = np.hstack([rows, Y[: len(rows)]])
        factor = UpdatedFactor.of_rows(A, 0.0, 50.0, rows.shape[1], has_intercept=False)
        with np.errstate(over="ignore"):
            assert factor.examined() is None


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("cut", [1, 9])
@pytest.mark.parametrize("alpha", [0.0, 1e-5, 0.5])
def test_streams_whose_parameters_change_are_exact(monkeypatch, fit_intercept, cut, alpha):
    X, y = rows_of(150, 10)
    if alpha > 0.0:
        monkeypatch.setattr(recursive, "_corrected", None)  # the factor suffices
    model = SGDRegressor(alpha=alpha, fit_intercept=fit_intercept)
    for start in range(0, 150, cut):
        if start == 90:
            wanted = LeastSquaresRegressor(alpha=alpha, fit_intercept=fit_intercept)
            wanted.fit(X[:90], y[:90])
            np.testing.assert_allclose(model.coef_, wanted.coef_, rtol=1e-8, atol=1e-10)
            # With an intercept and little penalty, the factor is R itself.
            memory = model._memory.part
            assert memory.factor.is_of_rows == (fit_intercept and alpha < 0.1)
            model.set_params(alpha=5.0)
        model.partial_fit(X[start : start + cut], y[start : start + cut])
    wanted = LeastSquaresRegressor(alpha=5.0, fit_intercept=fit_intercept).fit(X, y)
    np.testing.assert_allclose(model.coef_, wanted.coef_, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(model.intercept_, wanted.intercept_, rtol=1e-8)
