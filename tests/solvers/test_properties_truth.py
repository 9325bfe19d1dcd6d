"""Answers agree with extended precision or brute force, or come with a warning that they do not.

Every solver is compared with Householder QR in extended precision, for rows of any weight and
nearly dependent columns; cross-validation is compared with the refits that it replaces.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import pytest
import scipy.sparse as sp
from fits import heavy_first_rows
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import KFold, LeaveOneOut, ShuffleSplit
from small_problems import few, householder, problems

from fastlsgd import LeastSquaresCV, LeastSquaresRegressor, lstsq

EPS = np.finfo(float).eps
SOLVERS = "auto", "gram", "sketch", "cg", "qr"


class Hard(NamedTuple):
    """A hard problem: columns of any scale, nearly dependent; rows of any weight; any residual."""

    seed: int
    n: int
    d: int
    near: float
    noise: float
    heavy: int
    weight: float

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(self.seed)
        A = rng.normal(size=(self.n, self.d))
        if self.d > 1:
            A[:, -1] = A[:, 0] + self.near * A[:, -1]
        b = A @ rng.normal(size=self.d) + self.noise * rng.normal(size=self.n)
        A[: self.heavy] *= self.weight
        b[: self.heavy] *= self.weight
        return A * 10.0 ** rng.integers(-5, 6, size=self.d), b


hard_problems = st.builds(
    Hard,
    seed=st.integers(0, 2**20),
    n=st.integers(7, 50),
    d=st.integers(1, 6),
    near=st.sampled_from([1.0, 1e-3, 1e-6]),
    noise=st.sampled_from([0.0, 1e-6, 1.0]),
    heavy=st.integers(0, 6),
    weight=st.sampled_from([1.0, 1e3, 1e6]),
)


def excess(A, b, x) -> float:
    """|A (x - x*)|: the distance of the fit from the best one."""
    A = A.astype(np.longdouble)
    return float(np.sqrt(((A @ (x - householder(A, b))) ** 2).sum()))


def allowed(A, b) -> float:
    """The bound: a thousandth of the residual, or the effect of rounding A and b, which is eps |b|
    for a backward stable solver, times the condition number for others (Higham, 20.2 to 20.4)."""
    scaled = A / np.linalg.norm(A, axis=0)
    residual = b - (A.astype(np.longdouble) @ householder(A, b))
    condition = float(np.linalg.cond(scaled))
    return 1e-3 * float(np.sqrt((residual**2).sum())) + 100 * EPS * condition * np.linalg.norm(b)


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("solver", SOLVERS)
@few(25)
@given(hard_problems)
def test_least_residual_or_a_warning(solver, kind, problem):
    A, b = problem.data()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        x = lstsq(kind(A), b, solver=solver)
        model = LeastSquaresRegressor(solver=solver, fit_intercept=False).fit(kind(A), b)
    if caught:
        return
    for weights in (x, model.coef_):
        assert excess(A, b, weights) <= allowed(A, b)


@pytest.mark.parametrize("solver", SOLVERS)
@few(15)
@given(hard_problems, st.sampled_from([1e-20, 1e-3, 1e3, 1e20]))
def test_least_residual_with_weights_or_a_warning(solver, problem, weight):
    """A few rows have any weight; the others must be solved in the directions that these leave."""
    A, b = problem.data()
    s = np.ones(len(b))
    s[: A.shape[1] // 2] = weight
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = LeastSquaresRegressor(solver=solver, fit_intercept=False)
        model.fit(A, b, sample_weight=s)
    if not caught:
        root = np.sqrt(s / s.max())
        A, b = root[:, None] * A, root * b
        assert excess(A, b, model.coef_) <= allowed(A, b)


@pytest.mark.parametrize("solver", ["auto", "gram", "sketch", "cg", "qr"])
def test_few_heavy_rows_of_many_columns(solver):
    """The example of issue 12: the first rows, times 1e6, decided alone what "converged" meant."""
    A, b, best = heavy_first_rows(300, 120)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = LeastSquaresRegressor(solver=solver, fit_intercept=False).fit(A, b)
    assert caught or ((A @ model.coef_ - b) ** 2).sum() <= 1.0001 * best


# --------------------------------------------------------------- cross-validation

SPLITS = {
    "5 folds": KFold(5),
    "shuffled": KFold(3, shuffle=True, random_state=0),
    "one by one": LeaveOneOut(),
    "halves": ShuffleSplit(3, test_size=0.5, random_state=0),
    "bootstrap": "bootstrap",
}


def split(cv, n):
    if cv != "bootstrap":
        return list(cv.split(np.zeros((n, 1))))
    rng = np.random.default_rng(n)
    trains = [rng.integers(0, n, size=n) for _ in range(3)]
    return [(train, np.setdiff1d(np.arange(n), train)) for train in trains]


def ridge_errors(X, y, s, folds, alpha, intercept):
    """Mean squared errors of the rows left out, by a separate fit per fold in extended precision:
    the penalty is additional rows with the root of alpha S on the diagonal."""
    X = np.column_stack([X, np.ones(len(y))]) if intercept else X
    for train, test in folds:
        root = np.sqrt(s[train])
        below = np.sqrt(alpha * s[train].sum()) * np.eye(X.shape[1])[: X.shape[1] - intercept]
        A = np.vstack([root[:, None] * X[train], below])
        w = householder(A, np.append(root * y[train], np.zeros(len(below))))
        yield float(np.average((y[test] - X[test] @ w) ** 2, weights=s[test]))


def lasso_errors(X, y, s, folds, alpha, l1_ratio):
    for train, test in folds:
        model = LeastSquaresRegressor(alpha=alpha, l1_ratio=l1_ratio, tol=1e-14)
        model.fit(X[train], y[train], sample_weight=s[train])
        yield np.average((y[test] - model.predict(X[test])) ** 2, weights=s[test])


@pytest.mark.parametrize("cv", SPLITS)
@few(15)
@given(problems(), st.sampled_from([0.0, 1e-3, 0.5]), st.booleans(), st.booleans())
def test_ridge_by_folds_is_its_refits(cv, problem, alpha, intercept, huge):
    """They agree to 1e-8: where a formula would lose more, the fold must be fitted again."""
    X, y, s = problem.data()
    if huge:
        X = X.copy()
        X[7] *= 1e6
    folds = split(SPLITS[cv], len(y))
    model = LeastSquaresCV(alphas=[alpha], cv=folds, fit_intercept=intercept)
    model.fit(X, y, sample_weight=s)
    expected = list(ridge_errors(X, y, s, folds, alpha, intercept))
    # The error of a fold that is fitted nearly exactly is a difference of rounded numbers.
    atol = 1e-8 * max(expected) if cv == "one by one" else 0.0
    np.testing.assert_allclose(model.mse_path_.ravel(), expected, rtol=1e-8, atol=atol)


@few(15)
@given(
    problems(least_rows=12, most_columns=3),
    st.sampled_from([0.0, 1e-3, 0.5]),
    st.booleans(),
    st.booleans(),
)
def test_leave_one_out_is_its_refits(problem, alpha, intercept, weighted):
    X, y, s = problem.data()
    s = s if weighted else np.ones(len(y))
    folds = list(LeaveOneOut().split(X))
    model = LeastSquaresCV(alphas=[alpha], fit_intercept=intercept).fit(X, y, sample_weight=s)
    expected = np.average(list(ridge_errors(X, y, s, folds, alpha, intercept)), weights=s)
    np.testing.assert_allclose(model.mse_path_, expected, rtol=1e-8)


@few(15)
@given(problems(), st.sampled_from([1e-3, 0.1]), st.sampled_from([0.5, 1.0]))
def test_lasso_by_folds_is_its_refits(problem, alpha, l1_ratio):
    """A duality gap of 1e-10 gives errors with half as many digits."""
    X, y, s = problem.data()
    folds = list(KFold(4).split(X))
    model = LeastSquaresCV(alphas=[alpha], l1_ratio=l1_ratio, cv=folds)
    model.fit(X, y, sample_weight=s)
    expected = list(lasso_errors(X, y, s, folds, alpha, l1_ratio))
    np.testing.assert_allclose(model.mse_path_.ravel(), expected, rtol=1e-5)
