"""`lstsq`: as accurate as LAPACK by extended precision, and right or refused on bad input."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp
from fits import BACKENDS
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

import fastlsgd
from fastlsgd import _lstsq, lstsq
from fastlsgd.kernels import load_backend
from fastlsgd.solvers import least_squares, system

SOLVERS = [name for name in least_squares.DIRECT_SOLVERS if name != "auto"]
EPS = np.finfo(np.float64).eps
extended_only = pytest.mark.skipif(
    np.finfo(np.longdouble).eps > 1e-18, reason="long double is no longer than double here"
)


def relative(x, exact):
    return float(np.linalg.norm(x - exact) / np.linalg.norm(exact))


def close(a, b, rtol=1e-10):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * max(1e-300, np.abs(b).max()))


def of_condition(n, d, condition, noise, seed=0):
    """A with singular values from 1 down to 1/condition, and b with some noise."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.normal(size=(n, d)))[0]
    V = np.linalg.qr(rng.normal(size=(d, d)))[0]
    A = (Q * np.geomspace(1.0, 1.0 / condition, d)) @ V.T
    r = rng.normal(size=n)
    return A, A @ rng.normal(size=d) + noise * r / np.linalg.norm(r)


def extended_solution(A, b):
    """The solution to all digits: refinement of the augmented system with long double residuals.

    Each step reduces the error by the condition number times eps, not its square (Bjorck 1967,
    BIT 7).
    """
    Q, R = np.linalg.qr(A)
    A, b = A.astype(np.longdouble), b.astype(np.longdouble)
    x, r = np.zeros(A.shape[1], np.longdouble), np.zeros(len(b), np.longdouble)
    for _ in range(10):
        f, g = (b - r - A @ x).astype(np.float64), (-(A.T @ r)).astype(np.float64)
        h = scipy.linalg.solve_triangular(R, g, trans="T")
        x = x + scipy.linalg.solve_triangular(R, Q.T @ f - h)
        r = r + (f - Q @ (Q.T @ f) + Q @ h)
    return x.astype(np.float64)


def backward_error(A, b, x):
    """Relative to A: Karlson and Walden's estimate (BIT 37, 1997), within a factor of two."""
    wide = A.astype(np.longdouble)
    r = b.astype(np.longdouble) - wide @ x.astype(np.longdouble)
    slope = (wide.T @ r).astype(np.float64)
    _, sigma, Vt = np.linalg.svd(A, full_matrices=False)
    size, mu = np.linalg.norm(x), float(np.linalg.norm(r.astype(np.float64)) / np.linalg.norm(x))
    return np.linalg.norm(Vt @ slope / np.sqrt(sigma**2 + mu**2)) / size / np.linalg.norm(sigma)


# ------------------------------------------------------------------------------ as good as LAPACK


@extended_only
@pytest.mark.parametrize("noise", [1e-6, 1e-2])
@pytest.mark.parametrize("condition", [1.0, 1e4, 1e6, 1e8, 1e12])
def test_errors_are_those_of_qr(condition, noise):
    ours, lapack = [], []
    for seed in range(3):
        A, b = of_condition(3000, 30, condition, noise, seed)
        exact = extended_solution(A, b)
        for errors, x in (
            (ours, lstsq(A, b)),
            (lapack, scipy.linalg.lstsq(A, b, lapack_driver="gelsy", cond=EPS)[0]),
        ):
            errors.append((relative(x, exact), backward_error(A, b, x)))
    forward, backward = np.max(ours, axis=0) / np.maximum(np.max(lapack, axis=0), EPS)
    assert forward <= 10.0
    assert backward <= 10.0


@extended_only
def test_error_is_as_small_as_numpys():
    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(20_000, 100)), rng.normal(size=20_000)
    exact = extended_solution(A, b)
    assert relative(lstsq(A, b), exact) <= 4.0 * relative(np.linalg.lstsq(A, b)[0], exact)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", [np.ascontiguousarray, np.asfortranarray, sp.csr_array])
def test_every_solver_is_numpys(backend, solver, kind):
    rng = np.random.default_rng(0)
    A = rng.normal(size=(400, 8)) * (rng.random((400, 8)) < 0.6) * np.geomspace(1e-3, 1e3, 8)
    B, s = rng.normal(size=(400, 3)), rng.uniform(0.0, 2.0, size=400)
    root = np.sqrt(s)[:, None]
    for alpha in (0.0, 3.0):
        rows = np.vstack([root * A, np.sqrt(alpha) * np.eye(8)])
        right = np.vstack([root * B, np.zeros((8, 3))])
        exact = np.linalg.lstsq(rows, right)[0]
        x, info = lstsq(
            kind(A), B, alpha=alpha, sample_weight=s, solver=solver, backend=backend,
            return_info=True,
        )  # fmt: skip
        np.testing.assert_allclose(x, exact, rtol=1e-9, atol=1e-13)
        assert info.solver_ == solver
        close(info.residual_norm_, np.linalg.norm(root * (A @ x - B), axis=0))
        assert 1.0 <= info.condition_ < 100.0


@given(
    n=st.integers(1, 40),
    d=st.integers(1, 12),
    targets=st.sampled_from([None, 1, 3]),
    rank=st.integers(1, 12),
    seed=st.integers(0, 2**16),
)
def test_any_shape_and_rank_is_numpys(n, d, targets, rank, seed):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, d))
    b = rng.normal(size=n if targets is None else (n, targets))
    x, exact = lstsq(A, b), np.linalg.lstsq(A, b, rcond=1e-13)[0]
    assert x.shape == exact.shape
    sigma = np.linalg.svd(A, compute_uv=False)
    condition = sigma[0] / sigma[sigma > 1e-13 * sigma[0]][-1]
    assert relative(x, exact) <= 1e-13 * condition**2 or np.linalg.norm(exact) == 0.0


def test_a_wide_ridge_is_its_closed_form():
    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(20, 300)), rng.normal(size=20)
    close(lstsq(A, b, alpha=2.0), A.T @ np.linalg.solve(A @ A.T + 2.0 * np.eye(20), b))


def test_float32_is_as_good_as_its_format():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(5000, 40)).astype(np.float32)
    b = rng.normal(size=5000).astype(np.float32)
    exact = np.linalg.lstsq(A.astype(float), b.astype(float))[0]
    for solver in least_squares.DIRECT_SOLVERS:
        x = lstsq(A, b, solver=solver)
        assert x.dtype == np.float32
        assert relative(x, exact) < 1e-7


# --------------------------------------------------------------------------- which solver, and why


def solver_of(A, b, **more):
    return lstsq(A, b, return_info=True, **more)[1].solver_


def test_auto_takes_the_cheapest_that_can_be_trusted(monkeypatch):
    A, b = of_condition(3000, 30, 10.0, 0.1)
    assert solver_of(A, b) == "gram"
    assert solver_of(*of_condition(3000, 30, 1e9, 0.1)) == "sketch"
    assert solver_of(np.hstack([A, A]), b) == "gram"
    assert solver_of(np.hstack([A, A])[:1500], b[:1500]) == "qr"  # so few rows cost little
    assert solver_of(A[:20], b[:20]) == "dual"
    assert solver_of(np.vstack([A[:20], A[:2]]), b[:22]) == "qr"
    assert solver_of(1e170 * A, b) == "qr"
    monkeypatch.setattr(least_squares, "PATIENCE", 0.0)
    monkeypatch.setattr(least_squares, "GRAM_PASSES", 10.0)
    assert solver_of(np.random.default_rng(0).normal(size=(3000, 30)), b) == "cg"
    ill = of_condition(3000, 30, 1e5, 0.1)
    assert solver_of(*ill) == "gram"  # conjugate gradients would need too many steps


def test_condition_is_estimated():
    for condition in (1e2, 1e5, 1e9):
        A, b = of_condition(3000, 30, condition, 0.1)
        scaled = A / np.linalg.norm(A, axis=0)
        ratio = lstsq(A, b, return_info=True)[1].condition_ / np.linalg.cond(scaled)
        assert 0.3 < ratio < 30.0


def test_sketch_is_seeded():
    A, b = of_condition(3000, 30, 1e9, 0.1)
    assert np.array_equal(lstsq(A, b), lstsq(A, b))


def test_tolerance_saves_passes():
    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(2000, 200)), rng.normal(size=2000)
    x, coarse = lstsq(A, b, solver="cg", tol=1e-3, return_info=True)
    exact, fine = lstsq(A, b, solver="cg", return_info=True)
    assert coarse.n_iter_ < fine.n_iter_ / 2
    assert 1e-9 < relative(x, exact) < 1e-2


@pytest.mark.parametrize("solver", ["gram", "sketch", "cg"])
def test_nothing_of_the_size_of_A_is_kept(solver, monkeypatch):
    """Rows are made dense and float64 a chunk at a time, even if chunks are tiny."""
    A, b = of_condition(3000, 30, 10.0, 0.1)
    x = lstsq(A, b, solver=solver)
    monkeypatch.setattr(system, "DENSE_NUMBERS", 100)
    close(lstsq(A, b, solver=solver), x)
    close(lstsq(A, b, solver="qr"), x)


# ------------------------------------------------------------------------------- right or refused


@pytest.mark.parametrize(
    ("scale", "target_scale"),
    [
        (1e150, 1.0),
        (1e-150, 1e-150),
        (1e160, 1e160),
        (1e-170, 1e-160),
        (1.0, 1e200),
        (1.0, 1e-200),
        (1e-305, 1e-305),
        (1e155, 1e-150),
    ],
)
@pytest.mark.parametrize("solver", least_squares.DIRECT_SOLVERS)
def test_scales_whose_squares_overflow(scale, target_scale, solver):
    A, b = of_condition(500, 5, 10.0, 1e-3)
    exact = lstsq(A, b)
    x = lstsq(scale * A, target_scale * b, solver=solver)
    close(x * scale / target_scale, exact, 1e-9)


@pytest.mark.parametrize(("scale", "target_scale"), [(1e80, 1e-200), (1.0, 1e200), (1.0, 1e-200)])
def test_scales_of_dependent_rows_whose_squares_overflow(scale, target_scale):
    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(20, 30)), rng.normal(size=20)
    A[1] = A[0]
    exact, known = lstsq(A, b, return_info=True)
    x, info = lstsq(scale * A, target_scale * b, return_info=True)
    close(x * scale / target_scale, exact, 1e-12)
    assert info.residual_norm_ == pytest.approx(target_scale * known.residual_norm_, rel=1e-9)


def test_columns_in_units_of_their_own():
    A, b = of_condition(500, 6, 10.0, 1e-3)
    units = np.array([1e-170, 1e-100, 1e-8, 1.0, 1e90, 1e160])
    with np.errstate(all="raise"):
        close(lstsq(A * units, b) * units, lstsq(A, b), 1e-9)


def test_float32_near_the_ends_of_its_range():
    A, b = of_condition(500, 5, 10.0, 1e-3)
    exact = lstsq(A, b)
    for scale, target_scale in ((1e-30, 1e-20), (1e35, 1e37), (1e-38, 1e-38)):
        x = lstsq((scale * A).astype(np.float32), (target_scale * b).astype(np.float32))
        close(x.astype(float) * scale / target_scale, exact, 1e-3)


def test_degenerate_problems():
    A, b = of_condition(300, 6, 10.0, 1e-3)
    exact = lstsq(A, b)
    assert not lstsq(A, np.zeros(300)).any()
    assert not lstsq(np.zeros((5, 3)), np.ones(5)).any()
    holes = A.copy()
    holes[:, 2] = 0.0
    close(lstsq(holes, b), np.linalg.lstsq(holes, b)[0])
    w = np.arange(6.0)
    x, info = lstsq(A, A @ w, return_info=True)
    close(x, w)
    assert info.residual_norm_ <= 1e-13 * np.linalg.norm(A @ w)
    close(lstsq(np.eye(3), [1.0, 2.0, 3.0]), [1.0, 2.0, 3.0])
    close(lstsq([[2.0]], [4.0]), [2.0])
    close(lstsq(np.vstack([A, np.ones((1, 6))]), np.append(b, 1e3),
                sample_weight=np.append(np.ones(300), 0.0)), exact)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"A": np.ones(3)}, "A must have 2 dimensions"),
        ({"A": np.empty((0, 2))}, "A must have at least one row"),
        ({"A": np.array([["x"]])}, "A must hold real numbers"),
        ({"b": np.ones(4)}, r"b must have shape \(3,\) or \(3, n_targets\)"),
        ({"b": np.empty((3, 0))}, "b must have at least one target"),
        ({"b": np.array([1.0, np.nan, 0.0])}, "b contains NaN"),
        ({"A": np.array([[1.0], [np.inf], [0.0]])}, "A contains infinity"),
        ({"A": np.array([[1.0], [np.nan], [0.0]])}, "A contains NaN"),
        ({"alpha": -1.0}, "alpha must be a number"),
        ({"tol": -1.0}, "tol must be a number"),
        ({"solver": "svd"}, "solver must be one of 'auto', 'gram'"),
        ({"sample_weight": np.zeros(3)}, "sample_weight is all zero"),
        ({"A": 1e-300 * np.ones((3, 1)), "b": 1e300 * np.ones(3)}, "x overflows float64"),
    ],
)
@pytest.mark.parametrize("solver", least_squares.DIRECT_SOLVERS)
def test_bad_input(change, message, solver):
    given_arguments = {"A": np.ones((3, 1)), "b": np.ones(3), "solver": solver, **change}
    with pytest.raises(ValueError, match=message):
        lstsq(given_arguments.pop("A"), given_arguments.pop("b"), **given_arguments)


def test_input_is_left_alone():
    A, b = of_condition(300, 6, 1e9, 1e-3)
    before = A.copy(), b.copy()
    for solver in least_squares.DIRECT_SOLVERS:
        lstsq(A, b, solver=solver)
    assert np.array_equal(A, before[0])
    assert np.array_equal(b, before[1])
    A.setflags(write=False)
    big = A.astype(">f8")
    close(lstsq(big, b.tolist()), lstsq(A, b))


def test_a_descent_that_does_not_end_warns(monkeypatch):
    A, b = of_condition(3000, 30, 1e5, 0.1)
    monkeypatch.setattr(_lstsq, "MOST_PASSES", 5)
    with pytest.warns(
        ConvergenceWarning, match="'cg' ended with a relative gradient of .* after 5"
    ):
        lstsq(A, b, solver="cg")


def test_number_of_threads_does_not_matter():
    A, b = of_condition(3000, 30, 1e3, 1e-3)
    for solver in least_squares.DIRECT_SOLVERS:
        with fastlsgd.config_context(n_threads=1):
            one = lstsq(A, b, solver=solver)
        close(lstsq(A, b, solver=solver), one, 1e-9)


def test_an_interrupt_goes_through(monkeypatch):
    kernels = load_backend("reference")

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(kernels, "loss_gradient", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lstsq(np.eye(3), np.ones(3), backend="reference")
