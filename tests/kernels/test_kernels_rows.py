"""Targets have their own dtype, and rows of weight 0 may hold any numbers."""

from __future__ import annotations

import numpy as np
import pytest
from test_kernels import (
    OPTIMIZERS,
    PENALTIES,
    Problem,
    check_epochs,
    check_gram,
    check_loss_gradient,
    check_predict,
    every_kind,
    fresh_state,
    make_epoch,
    make_problem,
    run,
)

from fastlsgd.kernels.contract import CSR

LAYOUTS = ["C", "F", "row steps", np.int32, np.int64]
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def with_targets(problem, dtype):
    s = None if problem.s is None else problem.s.astype(dtype)
    return problem._replace(y=problem.y.astype(dtype), s=s)


@pytest.mark.parametrize(("x", "y"), [(np.float32, np.float64), (np.float64, np.float32)])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize(("d", "t"), [(5, 1), (10, 1), (37, 1), (21, 3)])
def test_targets_of_another_dtype(kernels, x, y, layout, d, t):
    problem = with_targets(make_problem(d, 45, d, t, x, layout), y)
    for weights in (problem.s, None):
        case = problem._replace(s=weights)
        check_loss_gradient(kernels, case, 2)
        check_gram(kernels, case, np.full(d, 0.5), 2)
        check_predict(kernels, case, 2)
        for batch_size in (1, 20):
            check_epochs(kernels, case, [make_epoch(case, batch_size, k > 0) for k in range(2)])
    optimizer = OPTIMIZERS["adam"]
    check_epochs(kernels, problem, [make_epoch(problem, 4, optimizer=optimizer)])


@every_kind
def test_targets_keep_their_own_precision(kernels, layout):
    """y is near 1.7e9, like seconds since 1970, where float32 rounds to multiples of 128."""
    X, y, w, _, s = with_targets(make_problem(0, 40, 6, 1, np.float32, layout), np.float64)
    far, b = y + 1.7e9, np.array([1.7e9])
    near = kernels.loss_gradient(X, y, w, np.zeros(1), s, 1)
    for actual, expected in zip(kernels.loss_gradient(X, far, w, b, s, 1), near, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
    weights = np.ones((1, 6), np.float32)
    for case in (Problem(X, far, w, b, s), Problem(X, y, w, np.zeros(1), s)):
        v, c = weights.copy(), case.b.copy()
        epoch = make_epoch(case, 1)
        run(kernels, case, epoch, v, c, fresh_state(epoch, v))
        if case.b[0]:
            moved, shifted = v, c - b
    np.testing.assert_allclose(moved, v, atol=1e-4)
    np.testing.assert_allclose(shifted, c, atol=1e-4)


def with_wild_rows(problem, dtype):
    """A problem with rows of weight 0, which hold numbers whose squares are infinite."""
    rng = np.random.default_rng(5)
    n, d = problem.X.shape
    s = (0.5 + rng.random(n)).astype(dtype)
    s[rng.permutation(n)[: n // 3]] = 0.0
    s[:2] = 0.0
    wild, y = np.flatnonzero(s == 0), problem.y.copy()
    big = np.finfo(dtype).max / 4
    if isinstance(problem.X, CSR):
        X = problem.X._replace(data=problem.X.data.copy())
        for row in wild:
            X.data[X.indptr[row] : X.indptr[row + 1]] = big
    else:
        X = problem.X.copy(order="K")
        X[wild] = big * rng.choice([-1.0, 1.0], (len(wild), d)).astype(dtype)
    y[wild] = big
    return problem._replace(X=X, y=y, s=s)


def tamed(problem):
    """The same problem with ones in the rows of weight 0."""
    wild, y = np.flatnonzero(problem.s == 0), problem.y.copy()
    y[wild] = 1.0
    if isinstance(problem.X, CSR):
        X = problem.X._replace(data=problem.X.data.copy())
        for row in wild:
            X.data[X.indptr[row] : X.indptr[row + 1]] = 1.0
    else:
        X = problem.X.copy(order="K")
        X[wild] = 1.0
    return problem._replace(X=X, y=y)


def assert_as_if_tame(kernels, problem, epochs):
    results = []
    for case in (problem, tamed(problem)):
        X, y, w, b, s = case
        parts = [*kernels.loss_gradient(X, y, w, b, s, 2), *kernels.gram(X, y, s, None, 2)]
        parts += kernels.gram(X, y, s, np.full(X.shape[1], -0.5), 2)
        for epoch in epochs:
            v, c = w.astype(X.dtype), b.copy()
            state = fresh_state(epoch, v)
            parts += [v, c, run(kernels, case, epoch, v, c, state, 2)]
            parts += [] if state.coef_sum is None else [state.coef_sum, state.intercept_sum]
        results.append(parts)
    for actual, expected in zip(*results, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@both_dtypes
@every_kind
@pytest.mark.parametrize(("d", "t"), [(5, 1), (10, 1), (37, 1), (21, 3)])
def test_rows_of_weight_0_add_nothing(kernels, dtype, layout, d, t):
    problem = with_wild_rows(make_problem(d, 50, d, t, dtype, layout, density=0.6), dtype)
    epochs = [make_epoch(problem, batch_size, batch_size != 3) for batch_size in (1, 3, 8, 20)]
    epochs += [make_epoch(problem, 1)]
    assert_as_if_tame(kernels, problem, epochs)


@both_dtypes
@pytest.mark.parametrize("layout", ["C", "F", np.int32], ids=str)
def test_rows_of_weight_0_with_each_option(kernels, dtype, layout):
    problem = with_wild_rows(make_problem(3, 50, 7, 2, dtype, layout, density=0.6), dtype)
    for options in PENALTIES.values():
        epochs = [make_epoch(problem, batch_size, True, **options) for batch_size in (1, 5)]
        assert_as_if_tame(kernels, problem, epochs)


@pytest.mark.parametrize("layout", ["C", np.int32], ids=str)
def test_rows_of_weight_0_with_an_optimizer(kernels, layout):
    problem = with_wild_rows(make_problem(3, 50, 7, 2, np.float64, layout), np.float64)
    for optimizer in OPTIMIZERS.values():
        epochs = [make_epoch(problem, size, optimizer=optimizer) for size in (1, 6)]
        assert_as_if_tame(kernels, problem, epochs)


@pytest.mark.parametrize("shape", [(0, 3), (5, 0), (0, 0)])
@both_dtypes
def test_nothing_at_all(backend, kernels, shape, dtype):
    """The functions of the native library return where there are no rows or no features."""
    if backend[0] != "native":
        pytest.skip("the contract asks for rows and features; C must not end the process")
    (n, d), t = shape, 2
    X, y = np.ones(shape, dtype), np.ones((n, t), dtype)
    w, b = np.zeros((t, d)), np.zeros(t)
    for matrix in (X, np.asfortranarray(X)):
        for targets in (1, 2):
            part = y[:, :targets], w[:targets], b[:targets]
            with np.errstate(invalid="ignore"):
                assert kernels.loss_gradient(matrix, *part, None, 2).coef.shape == (targets, d)
            assert kernels.predict(matrix, *part[1:], 2).shape == (n, targets)
            assert kernels.gram(matrix, part[0], None, None, 2).xx.shape == (d, d)
            for batch_size in (1, 32):
                case = Problem(matrix, *part, None)
                epoch = make_epoch(case, batch_size)
                v = part[1].astype(dtype)
                run(kernels, case, epoch, v, part[2].copy(), fresh_state(epoch, v))
