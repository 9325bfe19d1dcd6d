"""Small problems with L1 penalties or signs: one call answers as the general path does."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from small_problems import random_csr

from fastlsgd import LeastSquaresRegressor
from fastlsgd.kernels import load_backend
from fastlsgd.solvers import regression
from fastlsgd.solvers.light_rows import FEW_HIDDEN, HIDDEN, LIGHT_ROWS, hidden_by_sums
from fastlsgd.solvers.problem import Penalty
from fastlsgd.solvers.rows import random_rows
from fastlsgd.solvers.small_lasso import solve_small_lasso
from fastlsgd.solvers.training import TrainingData

pytestmark = pytest.mark.skipif(
    not hasattr(load_backend("auto"), "small_lasso"), reason="the backend has no small_lasso"
)


def data_of(n=60, d=8, t=1, dtype="float64", weighted=False, seed=0):
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(n, d)) * np.geomspace(0.3, 3.0, d) + 1.0).astype(dtype)
    y = (X[:, :3] @ rng.normal(size=(3, t)) + rng.normal(size=(n, t))).astype(dtype)
    s = rng.integers(0, 4, size=n).astype(dtype) if weighted else None
    return X, y, s


def short(X, y, l1=0.1, tol=1e-10):
    data = TrainingData(load_backend("auto"), X, y, None, 1)
    return solve_small_lasso(data, [Penalty(l1, 0.0)], fit_intercept=True, tol=tol)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize(("n", "d", "order"), [(20, 3, "C"), (60, 8, "F"), (90, 130, "C")])
def test_hidden_numbers_are_those_that_numpy_finds(dtype, weighted, fit_intercept, n, d, order):
    kernels, seen = load_backend("native"), set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        X, y, s = data_of(n, d, 1, dtype, weighted, seed)
        some = rng.random((n, d)) < rng.choice([0.1, 0.2, 0.3])  # of columns, 1 in 16 is a limit
        X = np.array(np.where(some, X, 1e-6 * X), dtype, order=order)
        rows = random_rows(n, LIGHT_ROWS, s)
        asked = (X, y, s, fit_intercept, (0.0, np.inf, 1e6, 0.0), np.ones(1), np.zeros(1))
        ends = (False, np.inf, d < n, rows)
        fits = kernels.small_lasso(*asked, *ends, (0.0, FEW_HIDDEN))
        squares = fits.size**2 * fits.weight
        found = hidden_by_sums(X[rows], None if s is None else s[rows], squares, n, fit_intercept)
        seen.add(found.numbers)
        hides = kernels.small_lasso(*asked, *ends, (HIDDEN, FEW_HIDDEN)) is None
        assert hides == found.numbers
    assert True in seen


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize(
    "asked",
    [
        {"alpha": 0.1, "l1_ratio": 1.0},
        {"alpha": 0.3, "l1_ratio": 0.5},
        {"alpha": 0.05, "l1_ratio": 1.0, "positive": True},
        {"alpha": 0.0, "positive": True},
        {"alpha": 100.0, "l1_ratio": 1.0},
        {"alpha": [1.0, 0.1, 0.01], "l1_ratio": 0.9},
    ],
    ids=["lasso", "elastic net", "positive", "nnls", "all zero", "path"],
)
@pytest.mark.parametrize(("n", "d", "t"), [(60, 8, 1), (60, 8, 2), (100, 130, 2), (150, 100, 1)])
def test_answers_are_those_of_the_general_path(
    dtype, weighted, fit_intercept, asked, n, d, t, monkeypatch
):
    if d > 64 and min(np.atleast_1d(asked["alpha"])) == 0.0:
        pytest.skip("without an L1 penalty, more columns are left to other solvers")
    if n >= d > 64 and len(np.atleast_1d(asked["alpha"])) > 1:
        pytest.skip("paths of so many columns are left to other solvers")
    X, y, s = data_of(n, d, t, dtype, weighted)
    model = LeastSquaresRegressor(**asked, fit_intercept=fit_intercept)
    quick = vars(model.fit(X, y, s)).copy()
    monkeypatch.setattr(regression, "solve_small_lasso", lambda *args, **kwargs: None)
    general = vars(model.fit(X.astype(np.float64), y, s))  # float32 rows are computed with so
    assert quick["solver_"] == "gram"
    assert np.array_equal(quick["coef_"] != 0.0, general["coef_"] != 0.0)
    rtol = 1e-9 if dtype == "float64" else 1e-5
    for name in ("coef_", "intercept_", "residual_norm_"):
        np.testing.assert_allclose(quick[name], general[name], rtol=rtol, atol=1e-7, err_msg=name)
    np.testing.assert_allclose(quick["loss_curve_"][-1], general["loss_curve_"][-1], rtol=1e-9)
    assert np.max(quick["relative_gradient_"]) <= model.tol
    if "l1_ratio" in asked:
        assert np.max(np.abs(quick["dual_gap_"])) <= 1e-9 * np.max(quick["loss_curve_"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("l1_ratio", [0.5, 1.0])
def test_sparse_rows_and_many_dense_ones_meet_the_optimality_conditions(dtype, l1_ratio):
    rng = np.random.default_rng(0)
    wide = random_csr((90, 40), 0.3, 0).astype(dtype)
    tall = (rng.normal(size=(700, 300)) + 1.0).astype(dtype)
    for X, n_weights in ((wide, 5), (tall, 3), (tall, 200)):
        w = np.zeros(X.shape[1])
        w[:n_weights] = rng.normal(size=n_weights)
        y = X @ w + 0.1 * rng.normal(size=X.shape[0])
        dense = np.asarray(X.todense() if sparse.issparse(X) else X, np.float64)
        A, b = dense - dense.mean(axis=0), y - y.mean()
        steepest = np.abs(A.T @ b).max() / len(y)
        alpha = 0.03 * steepest / l1_ratio
        model = LeastSquaresRegressor(alpha=alpha, l1_ratio=l1_ratio).fit(X, y)
        found = model.coef_.astype(np.float64)
        slope = A.T @ (A @ found - b) / len(y)
        penalty = Penalty(alpha * l1_ratio, alpha * (1.0 - l1_ratio))
        violation = penalty.violation(found, slope + penalty.l2 * found).max()
        assert violation <= (1e-5 if dtype == "float32" else 1e-10) * steepest
        assert 0 < np.count_nonzero(found) < len(found)


def test_the_condition_is_that_of_the_columns_with_weights():
    X, y, _ = data_of()
    (found,) = short(X, y)
    A = X[:, np.flatnonzero(found.coef[0])]
    A = A - A.mean(axis=0)
    A /= np.linalg.norm(A, axis=0)
    assert found.condition == pytest.approx(np.sqrt(np.linalg.cond(A.T @ A, 1)))


@pytest.mark.parametrize("n_targets", [1, 9])
@pytest.mark.parametrize("share", [0.5, 0.2, 0.05])
def test_wide_problems_are_solved_by_working_sets(share, n_targets):
    """Nine targets have more columns with weights, together, than products are kept of."""
    X, y, _ = data_of(60, 300, n_targets)
    A = X - X.mean(axis=0)
    slope = np.abs(A.T @ (y - y.mean(axis=0))).max() / len(X)
    (found,) = short(X, y, l1=share * slope)
    for k, w in enumerate(found.coef):
        gradient = A.T @ (X @ w + found.intercept[k] - y[:, k]) / len(X)
        where = w != 0.0
        assert not where.all()
        np.testing.assert_allclose(gradient[where], -share * slope * np.sign(w[where]), rtol=1e-9)
        assert np.abs(gradient[~where]).max() <= share * slope * (1.0 + 1e-9)
    assert found.dual_gap <= 1e-12 * float((y * y).sum())
    if n_targets == 9 and share < 0.1:
        assert np.count_nonzero(found.coef.any(axis=0)) > 60 + 64


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda X, y: X.__setitem__((3, 1), np.nan), id="NaN in X"),
        pytest.param(lambda X, y: y.__setitem__((3, 0), np.inf), id="infinity in y"),
        pytest.param(lambda X, y: X.__setitem__((..., 0), 7.0), id="constant column"),
        pytest.param(lambda X, y: X.__setitem__((..., 1), X[:, 2]), id="dependent columns"),
        pytest.param(lambda X, y: X.__imul__(1e200), id="huge"),
        pytest.param(lambda X, y: y.__imul__(0.0), id="zero"),
        pytest.param(lambda X, y: y.__iadd__(1e12), id="far from zero"),
    ],
)
def test_out_of_the_ordinary_is_left_to_the_general_path(change):
    X, y, _ = data_of()
    change(X, y)
    assert short(X, y, l1=1e-3) is None


def test_ill_conditioned_columns_and_strict_tolerances_are_left_to_the_general_path():
    X, y, _ = data_of()
    X[:, 1] = X[:, 2] + 0.03 * X[:, 1]
    assert short(X, y, l1=1e-5) is None
    X, y, _ = data_of()
    assert short(X, y, tol=0.0) is None


@pytest.mark.parametrize("is_small", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(("n", "d"), [(60, 8), (60, 300), (300, 100)])
def test_x_that_is_not_finite_is_refused_where_it_is(n, d, bad, is_small, monkeypatch):
    if not is_small:
        monkeypatch.setattr(regression, "solve_small_lasso", lambda *args, **kwargs: None)
    X, y, _ = data_of(n, d)
    X[3, d - 1] = bad
    s = np.ones(n)
    s[3] = 0.0  # which hides it from sums that leave such rows out
    for weights in (None, s):
        with pytest.raises(ValueError, match=f"row 3, column {d - 1}"):
            LeastSquaresRegressor(alpha=0.1, l1_ratio=1.0).fit(X, y, sample_weight=weights)
