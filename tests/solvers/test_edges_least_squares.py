"""Least squares in extreme cases: heavy rows, extreme weights, rows of zero weight.

The expected values are exact: normal equations solved in fractions.
"""

from __future__ import annotations

import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from fits import heavy_first_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlsgd import LeastSquaresClassifier, LeastSquaresRegressor, SGDRegressor, lstsq
from fastlsgd.solvers import factors, least_squares

SOLVERS = least_squares.DIRECT_SOLVERS
KINDS = [np.asarray, sp.csr_array]


def exact(X, y, s, fit_intercept):
    """Weights followed by the intercept, and the norm of the residuals, exact to float64."""
    rows = [[Fraction(float(v)) for v in row] + [Fraction(1)] * fit_intercept for row in X]
    right, weights = [Fraction(float(v)) for v in y], [Fraction(float(v)) for v in s]
    k = len(rows[0])
    M = [
        [sum(w * a[i] * a[j] for w, a in zip(weights, rows, strict=True)) for j in range(k)]
        + [sum(w * a[i] * b for w, a, b in zip(weights, rows, right, strict=True))]
        for i in range(k)
    ]
    for i in range(k):
        pivot = next(r for r in range(i, k) if M[r][i] != 0)
        M[i], M[pivot] = M[pivot], M[i]
        for r in range(k):
            if r != i:
                share = M[r][i] / M[i][i]
                M[r] = [u - share * v for u, v in zip(M[r], M[i], strict=True)]
    x = [M[i][k] / M[i][i] for i in range(k)]
    squares = sum(
        w * (sum(u * v for u, v in zip(a, x, strict=True)) - b) ** 2
        for w, a, b in zip(weights, rows, right, strict=True)
    )
    return np.array([float(v) for v in x]), root(squares)


def root(q: Fraction) -> float:
    half = (q.numerator.bit_length() - q.denominator.bit_length()) // 2
    return math.ldexp(math.sqrt(float(q / Fraction(4) ** half)), half) if q else 0.0


def problem(seed=0, n=25, d=3):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) + 2.0 * rng.normal(size=d)
    return X, X @ rng.normal(size=d) + 3.0 + rng.normal(size=n), rng


WEIGHTS = {
    "heavy 1e14": lambda rng, n: np.where(np.arange(n) < 2, 1e14, 1.0),
    "heavy 1e20": lambda rng, n: np.where(np.arange(n) < 2, 1e20, 1.0),
    "many heavy": lambda rng, n: np.where(np.arange(n) < n // 2, 1e20, 1.0),
    "heavy 1e40": lambda rng, n: np.where(np.arange(n) < 2, 1e40, 1.0),
    "spread": lambda rng, n: 10.0 ** rng.uniform(-150.0, 150.0, n),
    "5e-324": lambda rng, n: np.full(n, 5e-324),
    "1e-310": lambda rng, n: np.full(n, 1e-310),
    "1e308": lambda rng, n: np.full(n, 1e308),
}


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_any_weights(weights, solver, kind, fit_intercept):
    X, y, rng = problem()
    s = WEIGHTS[weights](rng, len(y))
    truth, norm = exact(X, y, s, fit_intercept)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = LeastSquaresRegressor(solver=solver, fit_intercept=fit_intercept)
        model.fit(kind(X), y, sample_weight=s)
    found = np.append(model.coef_, model.intercept_) if fit_intercept else model.coef_
    # A residual is rounded to eps times its target, and scaled by the root of its weight.
    rounding = 1e-14 * math.sqrt(s.max()) * np.abs(y).max()
    np.testing.assert_allclose(found, truth, rtol=1e-8, atol=1e-9 * np.abs(truth).max())
    assert abs(model.residual_norm_ - norm) <= 1e-8 * norm + rounding


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_heavy_rows_of_many_columns(solver, kind):
    A, b, best = heavy_first_rows(240, 110)
    x, info = lstsq(kind(A), b, solver=solver, return_info=True)
    assert float(((A @ x - b) ** 2).sum()) <= 1.000001 * best
    assert info.condition_ > 1e5


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("x_shift", "y_shift"), [(0.0, 1.7e9), (1e7, 0.0), (1e7, 1.7e9)])
def test_far_from_zero_is_no_reason_for_a_warning(solver, x_shift, y_shift):
    X, y, _ = problem(n=100)
    reference = LeastSquaresRegressor().fit((X + x_shift) - x_shift, (y + y_shift) - y_shift)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = LeastSquaresRegressor(solver=solver).fit(X + x_shift, y + y_shift)
        LeastSquaresRegressor(solver=solver).fit((X + x_shift).astype(np.float32), y)
    # The bound is 1e7 eps for a residual, and the corresponding one for weights of unit columns.
    np.testing.assert_allclose(model.coef_, reference.coef_, rtol=0.0, atol=1e-7)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**16), solver=st.sampled_from(SOLVERS), sparse=st.booleans())
def test_rows_of_zero_weight_are_as_if_absent(seed, solver, sparse):
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(40, 500)), int(rng.integers(1, 6))
    X = rng.normal(size=(n, d)) + 3.0
    y = X @ rng.normal(size=d) + rng.normal(size=n)
    left_out = rng.random(n) < 0.3
    left_out[: n // 2] |= rng.random() < 0.5
    s = np.where(left_out, 0.0, rng.uniform(0.5, 2.0, n))
    X[left_out] *= rng.choice([1e3, 1e8, 1e300])
    y[left_out] *= rng.choice([1.0, 1e3, 1e200])
    X[~left_out, 0] = rng.choice([0.0, 0.1, 1e-3])
    kind = sp.csr_array if sparse else np.asarray
    model = LeastSquaresRegressor(solver=solver)
    whole = model.fit(kind(X), y, sample_weight=s)
    coef, intercept = whole.coef_, whole.intercept_
    part = model.fit(kind(X[~left_out]), y[~left_out], sample_weight=s[~left_out])
    assert coef[0] == 0.0  # the column is constant among rows of positive weight
    scale = max(1.0, float(np.abs(part.coef_).max()))
    np.testing.assert_allclose(coef, part.coef_, rtol=0.0, atol=1e-9 * scale)
    assert intercept == pytest.approx(part.intercept_, rel=1e-8, abs=1e-8 * scale)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("constant", [1e-3, 0.1, 7.0, 0.0])
def test_constant_columns_are_left_out_by_every_solver(constant, solver, kind):
    X, y, _ = problem(n=60)
    wide = np.column_stack([X[:, :1], np.full(60, constant), X[:, 1:]])
    reference = LeastSquaresRegressor().fit(X, y)
    model = LeastSquaresRegressor(solver=solver).fit(kind(wide), y)
    assert model.coef_[1] == 0.0
    np.testing.assert_allclose(np.delete(model.coef_, 1), reference.coef_, rtol=1e-9)


def test_a_classifier_with_a_heavy_row():
    X, y, _ = problem(n=40)
    s = np.where(np.arange(40) == 3, 1e20, 1.0)
    labels = y > np.median(y)
    truth, _ = exact(X, np.where(labels, 1.0, -1.0), s, True)
    for solver in SOLVERS:
        model = LeastSquaresClassifier(solver=solver).fit(X, labels, sample_weight=s)
        np.testing.assert_allclose(np.append(model.coef_, model.intercept_), truth, rtol=1e-8)


def test_the_condition_without_lapacks_own_routine(monkeypatch):
    """SciPy has that routine since 1.15."""
    rng = np.random.default_rng(0)
    for d in (1, 2, 10, 60):
        upper = np.asfortranarray(np.triu(rng.normal(size=(d, d))) + 3.0 * np.eye(d))
        own = factors.reciprocal_condition(upper)
        with monkeypatch.context() as patch:
            patch.delattr(factors.lapack, "dtrcon", raising=False)
            assert factors.reciprocal_condition(upper) == pytest.approx(own, rel=1e-10)


@pytest.mark.parametrize("units", [(1e150, 1e-180), (1.0, 1e-160), (1e-200, 1.0), (1e120, 0.0)])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("solver", SOLVERS)
def test_targets_of_very_different_units(solver, fit_intercept, units):
    X, y, rng = problem(n=60)
    s = rng.uniform(0.5, 2.0, 60)
    for alpha, weights in ((0.0, None), (0.3, s)):
        model = LeastSquaresRegressor(solver=solver, fit_intercept=fit_intercept, alpha=alpha)
        alone = model.fit(X, y, sample_weight=weights)
        known = np.append(alone.coef_, alone.intercept_), alone.residual_norm_, alone.loss_curve_
        for kind in KINDS:
            model.fit(kind(X), np.outer(y, units), sample_weight=weights)
            found = np.column_stack([model.coef_, np.broadcast_to(model.intercept_, 2)])
            for j, unit in enumerate(units):
                np.testing.assert_allclose(found[j], unit * known[0], rtol=1e-9)
                assert model.residual_norm_[j] == pytest.approx(unit * known[1], rel=1e-9, abs=0.0)
            loss = known[2][-1] * sum(unit * unit for unit in units)
            assert model.loss_curve_[-1] == pytest.approx(loss, rel=1e-9)


def test_a_row_of_zeros_counts_in_the_residual():
    """QR of rows of very different sizes had left it out."""
    X = np.vstack([np.diag([1e8, 1.0, 1e-3]) @ np.ones((3, 3)), np.eye(3), np.zeros((1, 3))])
    y = np.append(X.sum(axis=1)[:-1], 5.0)
    model = LeastSquaresRegressor(fit_intercept=False, solver="qr").fit(X, y)
    np.testing.assert_allclose(model.residual_norm_, 5.0)


def exact_predictions(X, y, fit_intercept, alpha):
    """Predictions of the best weights, by elimination with rational numbers."""
    one = [Fraction(1)] if fit_intercept else []
    A = [[Fraction(float(v)) for v in row] + one for row in X]
    b = [Fraction(float(v)) for v in y]
    k = len(A[0])
    M = [[sum(r[i] * r[j] for r in A) for j in range(k)] for i in range(k)]
    for i in range(k):
        M[i].append(sum(r[i] * v for r, v in zip(A, b, strict=True)))
        M[i][i] += Fraction(alpha) * len(A) if i < X.shape[1] else 0
    for i in range(k):  # positive definite: no pivoting
        for r in set(range(k)) - {i}:
            factor = M[r][i] / M[i][i]
            M[r] = [a - factor * c for a, c in zip(M[r], M[i], strict=True)]
    u = [M[i][k] / M[i][i] for i in range(k)]
    return np.array([float(sum(a * c for a, c in zip(r, u, strict=True))) for r in A])


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("size", [1e12, 1e16, 1e20, 1e30, 1e100])
def test_rows_beside_rows_of_any_size(size, dtype, fit_intercept):
    """Beside a row of 1e16, the intercept's ones hid the others, and so did that row as origin."""
    if size > 1e30 and dtype == np.float32:
        pytest.skip("beyond float32")
    for seed in range(12):
        rng = np.random.default_rng(seed)
        d = int(rng.integers(3, 6))
        n, k = 30, int(rng.integers(1, min(d, 4)))
        X = rng.normal(size=(n, d)) + (seed % 3) * rng.normal(size=d)
        huge = rng.choice(n, k, replace=False)
        huge[0] = 0 if seed % 2 else huge[0]
        X[huge] *= size * np.exp(2.0 * rng.normal(size=(k, 1)))
        X = X.astype(dtype)
        y = X @ rng.normal(size=d).astype(dtype)
        others = np.setdiff1d(np.arange(n), huge)
        y[others] += rng.normal(size=len(others)).astype(dtype)
        alpha = (0.0, 1e-3)[seed % 2]
        model = LeastSquaresRegressor(alpha=alpha, fit_intercept=fit_intercept).fit(X, y)
        wanted = exact_predictions(X, y, fit_intercept, alpha)[others]
        found = X[others].astype(np.float64) @ model.coef_.astype(np.float64) + model.intercept_
        bound = 1e-6 if dtype == np.float64 else 1e-3  # weights are rounded to X's dtype
        np.testing.assert_allclose(found, wanted, atol=bound * (1.0 + np.abs(wanted).max()))


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("apart", [1e-3, 1e-4, 1e-5, 1e-6])
def test_nearly_dependent_float32_columns(apart, fit_intercept, weighted):
    """Rounding of float32 products, magnified by the condition, left weights 0.1 off."""
    for seed, (n, d) in enumerate([(3000, 10), (6000, 30), (400, 5)]):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(n, d)) + 2.0
        X[:, 1] = X[:, 0] + apart * rng.normal(size=n)
        X = X.astype(np.float32)
        y = X.astype(np.float64) @ rng.normal(size=d) + 0.01 * rng.normal(size=n)
        s = rng.uniform(0.5, 2.0, n) if weighted else None
        model = LeastSquaresRegressor(fit_intercept=fit_intercept).fit(X, y, sample_weight=s)
        wanted = LeastSquaresRegressor(solver="qr", fit_intercept=fit_intercept)
        wanted.fit(X.astype(np.float64), y, sample_weight=s)
        size = np.abs(wanted.coef_).max()
        np.testing.assert_allclose(model.coef_, wanted.coef_, atol=1e-5 * size)


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
def test_cg_reads_nearly_dependent_float32_columns_in_float64(kind):
    for n, d, apart in [(5000, 20, 1e-4), (2000, 100, 1e-5), (300, 30, 1e-5)]:
        rng = np.random.default_rng(0)
        X = (rng.normal(size=(n, 1)) + apart * rng.normal(size=(n, d))).astype(np.float32)
        y = X.astype(np.float64) @ rng.normal(size=d) + 0.01 * rng.normal(size=n)
        model = LeastSquaresRegressor(solver="cg").fit(kind(X), y)
        wanted = LeastSquaresRegressor(solver="qr").fit(X.astype(np.float64), y).coef_
        np.testing.assert_allclose(model.coef_, wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("solver", ["auto", "cg", "sketch"])
def test_float32_read_in_float64_without_an_intercept(solver):
    """The mean of the residuals was taken for an intercept: weights were up to 0.2 off."""
    rng = np.random.default_rng(16)
    for apart in (10**-3.6, 1e-5):
        X = rng.normal(size=(2600, 8))
        X[:, 1] = X[:, 0] * (1.0 + apart * rng.normal(size=2600))
        X = X.astype(np.float32)
        y = X.astype(np.float64) @ rng.normal(size=8) + rng.normal(size=2600) + 1.0
        x = lstsq(X, y, solver=solver)
        wanted = np.linalg.lstsq(X.astype(np.float64), y)[0]
        np.testing.assert_allclose(x, wanted, atol=1e-6 * np.abs(wanted).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("apart", "columns"), [(1e-5, 4), (1e-5, 30), (3e-4, 40)])
def test_cg_sees_directions_in_which_targets_do_not_point(columns, apart, kind):
    rng = np.random.default_rng(columns)
    X = rng.normal(size=(600, columns)) * (rng.random((600, columns)) < 0.5)
    X[:, 1] = X[:, 0] * (1.0 + apart * rng.normal(size=600))
    X = X.astype(np.float32)
    y = X.astype(np.float64) @ rng.normal(size=columns) + 1e-4 * rng.normal(size=600)
    model = LeastSquaresRegressor(solver="cg", fit_intercept=False).fit(kind(X), y)
    wanted = np.linalg.lstsq(X.astype(np.float64), y)[0]
    np.testing.assert_allclose(model.coef_, wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("solver", ["auto", "cg", "gram"])
def test_sparse_columns_far_from_zero(solver):
    """1e10 spreads from zero, the kernels' sums left 4e-5 of the weights to rounding."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 5))[rng.integers(0, 30, 300)]
    X = np.round(X * 2.0**16) / 2.0**16
    y = X[:, 0] + rng.normal(size=300)
    X[:, 4] = 1.0  # a constant column is not far
    near = LeastSquaresRegressor().fit(X, y)
    X[:, :3] += 2.0**33
    far = LeastSquaresRegressor(solver=solver).fit(sp.csr_array(X), y)
    np.testing.assert_allclose(far.coef_, near.coef_, atol=1e-13)


@pytest.mark.parametrize("solver", ["auto", "gram", "sketch"])
def test_a_column_of_ones_beside_identical_huge_rows(solver):
    """The ones, as large in all rows, hid that the rows differ in size."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        n, d, k = int(rng.integers(8, 30)), int(rng.integers(1, 5)), int(rng.integers(1, 4))
        X = np.column_stack([np.ones(n), rng.normal(size=(n, d))])
        X[rng.choice(n, k, replace=False), 1:] = rng.normal(size=d) * 1e14
        y = rng.normal(size=n)
        wanted, _ = exact(X, y, np.ones(n), False)
        np.testing.assert_allclose(
            lstsq(X, y, solver=solver), wanted, atol=1e-11 * np.abs(wanted).max()
        )


def test_huge_rows_in_large_numbers_beside_ordinary_ones():
    """The intercept's ones were in the unit of the median row, and the origin was a huge one."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        d = int(rng.integers(2, 5))
        k = d + 5
        X = rng.normal(size=(k, d))
        X[:, 0] = 1.0 if seed % 3 == 0 and d > 2 else X[:, 0]
        X[: 1 + seed % 2] *= 10.0 ** rng.uniform(8, 14)
        s = rng.uniform(0.5, 2.0, k) if seed % 2 else np.ones(k)
        s[0] = s.max() * 1.5 if seed % 2 else 1.0
        y = rng.normal(size=k)
        is_constant = bool((X[:, 0] == X[0, 0]).all())
        wanted, _ = exact(X, y, s, not is_constant)
        rows = rng.permutation(np.tile(np.arange(k), 20))
        for solver, kind in [("auto", np.asarray), ("sketch", np.asarray), ("cg", sp.csr_array)]:
            model = LeastSquaresRegressor(solver=solver, fit_intercept=not is_constant)
            model.fit(kind(X[rows]), y[rows], sample_weight=s[rows])
            found = model.coef_ if is_constant else np.append(model.coef_, model.intercept_)
            np.testing.assert_allclose(found, wanted, atol=1e-9 * np.abs(wanted).max())


@pytest.mark.parametrize("solver", ["auto", "sketch", "cg"])
def test_a_float32_column_that_explains_a_billionth_of_the_targets(solver):
    """The gradient was 1e-9 of that at zero, and the weight of the column 0.2 for 1.1."""
    rng = np.random.default_rng(18)
    X = (rng.normal(size=(12000, 2)) * [1e-2, 2e7]).astype(np.float32)
    y = X.astype(np.float64) @ [1.1, 1.4] + 0.03 * rng.normal(size=12000)
    model = LeastSquaresRegressor(solver=solver).fit(X, y)
    wanted = LeastSquaresRegressor(solver="qr").fit(X.astype(np.float64), y)
    np.testing.assert_allclose(model.coef_, wanted.coef_, rtol=1e-5)


def test_dependent_columns_within_bounds_have_the_least_norm():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        d, k = int(rng.integers(3, 7)), int(rng.integers(1, 3))
        X = rng.normal(size=(30, k)) @ rng.normal(size=(k, d))
        y = X @ rng.normal(size=d) + rng.normal(size=30)
        free = LeastSquaresRegressor().fit(X, y).coef_
        room = (free.min() - 0.1, free.max() + 0.01)
        found = LeastSquaresRegressor(bounds=room).fit(X, y).coef_
        np.testing.assert_allclose(found, free, atol=1e-10 * np.abs(free).max())


@pytest.mark.parametrize("estimator", [LeastSquaresRegressor, SGDRegressor])
def test_weights_that_vanish_in_float32_beside_a_large_constant(estimator):
    X = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    y = 1e-197 + 1e-205 * (X.astype(np.float64) @ [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="weights underflow float32"):
        estimator().fit(X, y)
    assert not estimator().fit(X, np.full(50, 1e-197)).coef_.any()


def test_bounded_weights_that_interpolate_columns_of_all_sizes_are_certified():
    # Those of least norm leave residuals of 1e-13 of y: the rounding of large columns shows.
    for seed in range(10):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(19, 31)) * 10.0 ** rng.uniform(-4, 4, 31)
        y = rng.normal(size=19)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = LeastSquaresRegressor(bounds=(-1e6, 1e6)).fit(X, y)
        np.testing.assert_allclose(model.predict(X), y, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("solver", ["auto", "cg", "sketch", "sgd"])
def test_a_heavy_weight_on_a_row_far_from_zero(solver, dtype):
    """Its residual was rounded to more than what all other rows say: weights 50 times too large."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        d = int(rng.integers(1, 4))
        k = d + 5
        X = rng.normal(size=(k, d)) * 10.0 ** rng.uniform(-3, 3, size=d)
        X = (X + 10.0 ** rng.uniform(1, 4) * np.abs(X).max(axis=0)).astype(dtype)
        y, s = rng.normal(size=k) + 100.0, np.ones(k)
        s[rng.integers(k)] = 10.0 ** rng.uniform(8, 20)
        wanted, _ = exact(X, y, s, True)
        rows = rng.permutation(np.tile(np.arange(k), (1, 100)[seed % 2]))
        model = LeastSquaresRegressor(solver=solver)
        model = SGDRegressor(alpha=0.0) if solver == "sgd" else model
        model.fit(X[rows], y[rows], sample_weight=s[rows])
        rtol = 1e-5 if dtype == np.float32 else 1e-8
        np.testing.assert_allclose(model.coef_, wanted[:-1], rtol=rtol)


def test_a_column_that_is_zero_but_in_huge_rows():
    """In a unit of its own large numbers, it was rounding beside the other columns there."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        X = np.column_stack([np.ones(6), 1e5 * (1.0 + 1e-5 * rng.normal(size=6))])
        X[:2] *= 1e5
        y, alpha = 10.0 * rng.normal(size=6), 1e-5
        A, s = np.zeros((8, 3)), np.append(np.ones(6), [6 * alpha, 6 * alpha])
        A[:6, :2], A[:6, 2], A[6:, :2] = X, 1.0, np.eye(2)
        wanted, _ = exact(A, np.append(y, [0.0, 0.0]), s, False)
        model = LeastSquaresRegressor(alpha=alpha, solver="qr").fit(X, y)
        np.testing.assert_allclose(model.coef_, wanted[:-1], rtol=1e-6)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_far_smaller_than_the_rounding_of_dependent_columns(seed, dtype):
    """Weights of 2e15 were returned without a word, since rounding passed for a direction."""
    rng = np.random.default_rng(seed)
    X = rng.integers(-3, 4, size=(8, 6)).astype(dtype)
    X[:, 5], X[:, 4] = X[:, 0] + X[:, 1], X[:, 2]
    X[2] *= dtype(2.0**-17)
    y = rng.normal(size=8).astype(dtype)
    s = np.where(np.arange(8) == 3, dtype(1.6e9), dtype(1.0)) if seed % 2 else None
    found = LeastSquaresRegressor(solver="qr").fit(X, y, s)
    A, root = X.astype(np.float64), np.sqrt(np.ones(8) if s is None else s)[:, None]
    mean = np.average(A, axis=0, weights=s)
    right = (y - np.average(y.astype(np.float64), weights=s))[:, None]
    expected = np.linalg.lstsq((A - mean) * root, right * root, rcond=1e-9)[0][:, 0]
    np.testing.assert_allclose(found.coef_, expected, rtol=0.0, atol=1e-4 * abs(expected).max())
