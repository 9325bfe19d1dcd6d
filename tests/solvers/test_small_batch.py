"""Many small problems in one call: each answer is that of `lstsq`, or is left to it."""

from __future__ import annotations

import numpy as np
import pytest

from fastlsgd import lstsq
from fastlsgd._lstsq import lstsq_of_each
from fastlsgd.kernels import load_backend
from fastlsgd.solvers.small_batch import solve_small_batch

SHAPES = [(30, 5), (5, 30), (6, 6), (1, 4), (4, 1)]


def problems(n, d, t=2, condition=10.0, dtype="float64", p=7):
    """A (p, n, d) of this condition, and b (p, n, t)."""
    rng = np.random.default_rng(n * d)
    left = np.linalg.qr(rng.normal(size=(p, n, min(n, d))))[0]
    right = np.linalg.qr(rng.normal(size=(p, d, min(n, d))))[0]
    A = left * np.geomspace(1.0, 1.0 / condition, min(n, d)) @ right.transpose(0, 2, 1)
    return A.astype(dtype), rng.normal(size=(p, n, t)).astype(dtype)


def solved_in_one_call(A, b, n_threads=1):
    kernels = load_backend("native")
    if not hasattr(kernels, "solve_small_batch"):
        pytest.skip("native was not built")
    return solve_small_batch(kernels, A, b, n_threads)


def check(A, b, condition=10.0):
    x = lstsq_of_each(A, b)
    assert x.shape == (*A.shape[:-2], A.shape[-1], b.shape[-1])
    assert x.dtype == A.dtype
    rounding = max(np.finfo(A.dtype).eps, 30.0 * condition * np.finfo(np.float64).eps)
    for k in np.ndindex(*A.shape[:-2]):
        exact = np.linalg.lstsq(A[k].astype(float), b[k].astype(float), rcond=None)[0]
        np.testing.assert_allclose(x[k], exact, rtol=0, atol=rounding * np.abs(exact).max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("condition", [10.0, 1e6])
@pytest.mark.parametrize("shape", SHAPES)
def test_answers_are_exact(shape, condition, dtype):
    A, b = problems(*shape, condition=condition, dtype=dtype)
    check(A, b, condition)
    if condition == 10.0:
        assert solved_in_one_call(A, b)[1].all()


@pytest.mark.parametrize("shape", SHAPES[:2])
def test_strides_batches_and_threads(shape):
    A, b = problems(*shape, p=12)
    expected, solved = solved_in_one_call(A, b)
    assert solved.all()
    rearranged = A.transpose(2, 1, 0).copy().transpose(2, 1, 0), np.repeat(b, 2, axis=2)[..., ::2]
    for one, other in ((A[::-1].copy()[::-1], b), rearranged):
        np.testing.assert_allclose(solved_in_one_call(one, other)[0], expected, rtol=1e-12)
    np.testing.assert_array_equal(solved_in_one_call(A, b, 2)[0], expected)
    x, _ = solved_in_one_call(A.reshape(3, 4, *shape), b.reshape(3, 4, shape[0], 2))
    np.testing.assert_array_equal(x.reshape(expected.shape), expected)
    shared = np.broadcast_to(A[0], A.shape)
    np.testing.assert_allclose(solved_in_one_call(shared, b)[0][0], expected[0], rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES[:2])
def test_what_is_out_of_the_ordinary_is_left_to_lstsq(shape):
    A, b = problems(*shape)
    A[1, :, -1] = A[1, :, 0]  # dependent columns
    A[1, -1] = A[1, 0]  # dependent rows
    A[2] = 0.0
    b[3] = 0.0
    A[4] *= 1e200
    A, b = np.append(A, A[:1], axis=0), np.append(b, 1e-300 * b[:1], axis=0)
    x = lstsq_of_each(A, b)
    for k in range(len(A)):
        expected = lstsq(A[k], b[k])
        atol = 1e-12 * np.abs(expected).max()
        np.testing.assert_allclose(x[k], expected, rtol=0, atol=atol)
    solved = [True, False, False, True, False, True, True, False]
    assert solved_in_one_call(A, b)[1].tolist() == solved


@pytest.mark.parametrize("shape", SHAPES[:2])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_numbers_are_refused(shape, value):
    for where in (0, 1):
        given = problems(*shape)
        given[where][3, 0, 0] = value
        given[1 - where][3] *= where  # b of zeros beside an A that is not finite
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            lstsq_of_each(*given)


def test_answers_beyond_float32_are_refused():
    A, b = problems(30, 5, dtype="float32")
    for scale, problem in ((1e-20, "overflows"), (1e23, "underflows")):
        with pytest.raises(ValueError, match=problem):
            lstsq_of_each((A * scale).astype("float32"), (b / scale).astype("float32"))


def test_no_problems():
    assert lstsq_of_each(np.ones((0, 3, 2)), np.ones((0, 3, 1))).shape == (0, 2, 1)
