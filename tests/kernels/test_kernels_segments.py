"""The conformance suite of `fit_segments`, and its accuracy beside numpy's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import ON_PTX_MACHINE, SIMULATED
from test_kernels import LAYOUTS, freeze, in_memory_like, too_much_to_simulate

from fastlsgd.kernels import reference
from fastlsgd.kernels.contract import SegmentErrors, Segments, SegmentStatus

WITHOUT_GPU = SIMULATED or ON_PTX_MACHINE
# Of the CUDA kernel one number of columns goes by warps, another by larger blocks.
COLUMNS = [1, 5, 17] if WITHOUT_GPU else [1, 2, 5, 7, 8, 17]
THREADS = (1,) if WITHOUT_GPU else (1, 3)


@pytest.fixture
def fit(kernels):
    return kernels.fit_segments


@pytest.fixture
def fit_windows(kernels):
    if not kernels.MAKES_WINDOWS:
        pytest.skip("this backend has groups only")
    return kernels.fit_segments


def make(seed, n, d, dtype=np.float64, target_dtype=np.float64, layout="C"):
    rng = np.random.default_rng(seed)
    X = in_memory_like(rng.standard_normal((n, d)).astype(dtype), layout)
    y = in_memory_like(rng.standard_normal((n, 1)).astype(target_dtype), "column steps")
    s = (rng.random(n) * (rng.random(n) < 0.8)).astype(target_dtype)
    freeze(X, y, s)
    return X, y, s, rng


def cuts(rng, n, k):
    """Ranges without common positions; some are empty, and there are gaps between them."""
    bounds = np.sort(rng.integers(0, n + 1, 2 * k))
    return bounds[::2].copy(), bounds[1::2].copy()


def windows(n, length):
    stop = np.arange(1, n + 1)
    return np.maximum(stop - length, 0), stop


def check(fit, X, y, s, segments, rtol=1e-9):
    expected = reference.fit_segments(X, y, s, segments, 1)
    for n_threads in THREADS:
        found = fit(X, y, s, segments, n_threads)
        for name, a, b in zip(found._fields, found, expected, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                assert a.dtype == b.dtype
                np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-11, err_msg=name)


every_size = [
    pytest.mark.parametrize("d", COLUMNS),
    pytest.mark.parametrize("fit_intercept", [True, False]),
    pytest.mark.parametrize(("dtype", "target_dtype"), [("f8", "f8"), ("f4", "f4")]),
]


def of_every_size(test):
    for mark in every_size:
        test = mark(test)
    return test


@of_every_size
def test_groups(fit, d, fit_intercept, dtype, target_dtype):
    if WITHOUT_GPU and dtype == "f4" and d > 5:
        pytest.skip("compilation would take longer than the rest")
    X, y, s, rng = make(d, 90, d, dtype, target_dtype)
    order, penalty = rng.permutation(90), rng.random(d)
    groups = Segments(None, *cuts(rng, 90, 5), d + fit_intercept, fit_intercept, inverse=True)
    check(fit, X, y, s, groups)
    check(fit, X, y, None, replace(groups, order=order, penalty=penalty, min_rows=1))
    for kind in (SegmentErrors.HC0, SegmentErrors.HC2, SegmentErrors.HC3):
        check(fit, X, y, s, replace(groups, order=order, inverse=False, robust=int(kind)))


@of_every_size
def test_windows(fit_windows, d, fit_intercept, dtype, target_dtype):
    X, y, s, rng = make(d, 90, d, dtype, target_dtype)
    order, penalty = rng.permutation(90), rng.random(d)
    rolling = Segments(None, *windows(90, 40), 25, fit_intercept, inverse=True)
    check(fit_windows, X, y, None, rolling)
    part = {"stop": rolling.stop[:80], "start": rolling.start[:80]}
    check(fit_windows, X, y, s, replace(rolling, order=order[:80], penalty=penalty, **part))
    check(fit_windows, X, y, None, replace(rolling, inverse=False, robust=int(SegmentErrors.HC3)))


@too_much_to_simulate
@pytest.mark.parametrize("d", [1, 6, 14])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_groups_of_many_rows(fit, d, layout):
    n = 700
    X, y, s, rng = make(d, n, d, layout=layout)
    X, y = X.copy(order="K"), y.copy()
    order, bounds = rng.permutation(n), np.array([0, 0, 121, 300, 301, 460, 508, 609, 690, n])
    groups = Segments(None, bounds[:-1].copy(), bounds[1:].copy(), d + 2, inverse=True)
    check(fit, X, y, None, groups)
    check(fit, X, y, s, replace(groups, order=order, fit_intercept=False))
    X[rng.integers(0, n, 20), rng.integers(0, d, 20)] = np.nan
    y[::50] = np.nan
    check(fit, X, y, None, replace(groups, skip_nan=True))
    check(fit, X, y, s, replace(groups, skip_nan=True, order=order, penalty=rng.random(d)))


@too_much_to_simulate
def test_groups_larger_than_a_block(fit):
    X, y, s, _ = make(1, 9_000, 5)
    start = np.array([0, 5_000, 5_100])
    check(fit, X, y, s, Segments(None, start, np.append(start[1:], 9_000), 8))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(fit, layout):
    X, y, s, rng = make(3, 60, 3, layout=layout)
    check(fit, X, y, s, Segments(None, *cuts(rng, 60, 3), 4))
    check(fit, X, y, None, Segments(rng.permutation(60), *cuts(rng, 60, 3), 4))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_windows(fit_windows, layout):
    X, y, s, rng = make(3, 60, 3, layout=layout)
    check(fit_windows, X, y, s, Segments(rng.permutation(60), *windows(60, 20), 4))


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_forgetting_and_initial_moments(fit_windows, fit_intercept):
    X, y, s, rng = make(4, 70, 3)
    decay = 1.0 - 0.1 * rng.random(70)
    start, stop = np.zeros(70, np.int64), np.arange(1, 71)
    forgetting = Segments(None, start, stop, 4, fit_intercept, decay=decay, inverse=True)
    check(fit_windows, X, y, s, forgetting)
    for kind in (SegmentErrors.HC0, SegmentErrors.HC3):
        check(fit_windows, X, y, s, replace(forgetting, inverse=False, robust=int(kind)))
    Z = rng.standard_normal((9, 5))
    check(fit_windows, X, y, s, Segments(None, start, stop, 0, fit_intercept, initial=Z.T @ Z))


def with_nan():
    X, y, s, rng = make(5, 80, 3)
    X, y, s = X.copy(), y.copy(), s.copy()
    X[rng.integers(0, 80, 8), rng.integers(0, 3, 8)] = np.nan
    y[::13] = np.nan
    X[5], s[5] = np.inf, 0.0
    return X, y, s, rng


def test_nan_rows_and_rows_without_weight_are_not_there(fit):
    X, y, s, rng = with_nan()
    check(fit, X, y, s, Segments(None, *cuts(rng, 80, 4), 5, skip_nan=True))


def test_nan_rows_of_windows_are_not_there(fit_windows):
    X, y, s, _ = with_nan()
    check(fit_windows, X, y, s, Segments(None, *windows(80, 30), 5, skip_nan=True))


def test_short_singular_and_out_of_range(fit):
    X, y, _, _ = make(6, 60, 2)
    X = X.copy()
    X[10:20, 1] = 3.0 * X[10:20, 0]
    X[20:30, 0] = 0.0
    X[30:40] *= 1e160
    X[40:50, 1] *= 1e-160
    X[50:60, 1] = 7.0
    start = np.array([0, 3, 10, 20, 30, 40, 50])
    stop = np.array([2, 10, 20, 30, 40, 50, 60])
    found = fit(X, y, None, Segments(None, start, stop, 3), 2)
    S = SegmentStatus
    assert found.status.tolist() == [
        S.SHORT, S.FITTED, S.SINGULAR, S.SINGULAR, S.OUT_OF_RANGE, S.OUT_OF_RANGE, S.SINGULAR
    ]  # fmt: skip
    assert np.isnan(found.coef[found.status != 0]).all()
    assert np.isfinite(found.coef[1]).all()
    assert found.n_rows.tolist() == [2, 7, *[10] * 5]


def test_a_penalty_determines_columns_of_float32_that_depend_on_each_other(fit):
    """Its share of their squares is less than what numbers of float32 hold."""
    X, y, _, _ = make(6, 40, 1, np.float32)
    X = np.hstack([X, X]) + np.float32(1e4)
    segments = Segments(None, np.array([0]), np.array([40]), 1, penalty=np.full(2, 1e-4))
    A = X[:, :1] - X[:, :1].mean(axis=0, dtype=np.float64)
    w = (A.T @ (y - y.mean())).item() / (2.0 * (A.T @ A).item() + 1e-4)
    np.testing.assert_allclose(fit(X, y, None, segments, 1).coef, [[w, w]], rtol=1e-6)


def solution_in_extended_precision(A, b):
    """Modified Gram-Schmidt of [A, b], twice, in long double."""
    Q, m = np.column_stack([A, b]).astype(np.longdouble), A.shape[1]
    R = np.zeros((m, m + 1), np.longdouble)
    for j in range(m):
        norm = np.sqrt(Q[:, j] @ Q[:, j])
        Q[:, j] /= norm
        R[j, j] = norm
        for k in range(j + 1, m + 1):
            for _ in range(2):
                part = Q[:, j] @ Q[:, k]
                R[j, k] += part
                Q[:, k] -= part * Q[:, j]
    w = np.zeros(m, np.longdouble)
    for j in range(m - 1, -1, -1):
        w[j] = (R[j, m] - R[j, j + 1 : m] @ w[j + 1 :]) / R[j, j]
    return w


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="no extended precision here")
@pytest.mark.parametrize("window", [False, True])
def test_every_segment_is_as_accurate_as_numpy(kernels, fit, window):
    if window and not kernels.MAKES_WINDOWS:
        pytest.skip("this backend has groups only")
    if fit is reference.fit_segments:
        pytest.skip("the reference is NumPy itself, with scaled columns")
    rng = np.random.default_rng(7)
    blocks = []
    for condition in np.repeat(10.0 ** np.arange(11), 2):
        U, V = np.linalg.qr(rng.standard_normal((30, 4)))[0], np.linalg.qr(rng.random((4, 4)))[0]
        blocks.append(U * np.geomspace(1.0, 1.0 / condition, 4) @ V)
    X = np.vstack(blocks)
    y = X @ rng.standard_normal((4, 1)) + 1e-3 * rng.standard_normal((len(X), 1))
    stop = np.arange(30, len(X) + 1, 1 if window else 30)
    found = fit(X, y, None, Segments(None, stop - 30, stop, 5, False), 2)
    for k in range(0, len(stop), 7 if window else 1):
        rows = slice(stop[k] - 30, stop[k])
        exact = solution_in_extended_precision(X[rows], y[rows, 0])
        of_numpy = np.linalg.lstsq(X[rows], y[rows, 0], rcond=None)[0]
        bound = 10 * max(np.abs(of_numpy - exact).max(), 1e-16 * float(np.abs(exact).max()))
        assert np.abs(found.coef[k] - exact).max() <= bound


def test_rounding_of_windows_does_not_grow(fit_windows):
    X, y, _, _ = make(8, 3_000, 2)
    X = X.copy()
    X[1000:1003] *= 1e12  # what has left the window leaves no trace
    segments = Segments(None, *windows(3_000, 10), 10)
    found = fit_windows(X, y, None, segments, 1)
    for k in (9, 1005, 1012, 1013, 2999):
        rows = segments.start[k], segments.stop[k]
        alone = Segments(None, *(np.array([at]) for at in rows), 3)
        wanted = fit_windows(X, y, None, alone, 1).coef[0]
        np.testing.assert_allclose(found.coef[k], wanted, rtol=1e-13)


def test_groups_do_not_depend_on_threads(fit):
    n = 400 if WITHOUT_GPU else 20_000
    X, y, s, rng = make(9, n, 3)
    start = np.arange(0, n, 20)
    segments = Segments(rng.permutation(n), start, start + 20, 4)
    one, many = (fit(X, y, s, segments, n_threads) for n_threads in (1, 4))
    for a, b in zip(one, many, strict=True):
        assert a is b is None or np.array_equal(a, b, equal_nan=True)
