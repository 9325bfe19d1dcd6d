"""The conformance suite of the kernel contract: every backend against `reference.py`.

A test that takes the fixture `kernels` runs for each backend, and for the native one with each
instruction set of the machine. Inputs are surrounded by NaN and outputs by marks, so that the tests
notice reads and writes outside of an array.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from conftest import ALLOW_MISSING, ON_PTX_MACHINE, SIMULATED
from hypothesis import given
from hypothesis import strategies as st

from fastlsgd.kernels import BACKENDS, load_backend, reference
from fastlsgd.kernels.contract import (
    CSR,
    Epoch,
    OptimizerRule,
    OptimizerState,
    Prox,
    SGDState,
)

# ----------------------------------------------------------------------------------------------
# Arrays in every layout
# ----------------------------------------------------------------------------------------------


def in_memory_like(values, layout):
    """The same numbers in this layout; all memory between and around them is NaN."""
    n, d = values.shape
    if layout == "C":
        return values.copy(order="C")
    if layout == "F":
        return values.copy(order="F")
    shape, view = {
        "row steps": ((2 * n, d), np.s_[::2]),
        "column steps": ((n, 2 * d), np.s_[:, ::2]),
        "some columns": ((n, d + 3), np.s_[:, 1 : d + 1]),
        "rows backwards": ((n, d), np.s_[::-1]),
        "columns backwards": ((n, d), np.s_[:, ::-1]),
        "backwards in steps": ((3 * n, 2 * d), np.s_[::-3, ::-2]),
        "transposed": ((n, d + 1), np.s_[:, :d]),
        "odd start": ((n, d), np.s_[:]),
    }[layout]
    memory = np.full(int(np.prod(shape)) + 1, np.nan, values.dtype)
    memory = memory[1:].reshape(shape, order="F" if layout == "transposed" else "C")
    out = memory[view]
    out[:] = values
    return out


LAYOUTS = [
    "C", "F", "row steps", "column steps", "some columns", "rows backwards", "columns backwards",
    "backwards in steps", "transposed", "odd start",
]  # fmt: skip


def as_csr(values, index_dtype, rng):
    """CSR of these numbers with a few explicit zeros; the rows before and after it are NaN."""
    n, d = values.shape
    listed = (values != 0) | (rng.random((n, d)) < 0.05)
    data, indices, indptr = [np.full(4, np.nan)], [np.zeros(4, int)], [4]
    for row in range(n):
        columns = rng.permutation(np.flatnonzero(listed[row]))
        data.append(values[row, columns])
        indices.append(columns)
        indptr.append(indptr[-1] + len(columns))
    data.append(np.full(3, np.nan))
    indices.append(np.zeros(3, int))
    return CSR(
        np.concatenate(data).astype(values.dtype),
        np.concatenate(indices).astype(index_dtype),
        np.array(indptr, index_dtype),
        (n, d),
    )


def guarded(values):
    """A copy of `values` in the middle of marked memory, and a check that the marks are intact."""
    mark, pad = 12345.0, 17
    memory = np.full(values.size + 2 * pad, mark, values.dtype)
    inner = memory[pad : pad + values.size].reshape(values.shape)
    inner[...] = values

    def check():
        assert (memory[:pad] == mark).all()
        assert (memory[-pad:] == mark).all()

    return inner, check


def freeze(*arrays):
    for array in arrays:
        for part in array[:3] if isinstance(array, CSR) else (array,):
            if part is not None:
                part.flags.writeable = False


# ----------------------------------------------------------------------------------------------
# Problems
# ----------------------------------------------------------------------------------------------


class Problem(NamedTuple):
    X: np.ndarray | CSR
    y: np.ndarray
    w: np.ndarray
    b: np.ndarray
    s: np.ndarray | None

    @property
    def dense(self) -> np.ndarray:
        """X in float64."""
        return reference._dense_rows(self.X, np.arange(self.X.shape[0]))


def make_problem(seed, n, d, t, dtype, layout="C", weighted=True, density=1.0, y_layout="C"):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, d)) * (rng.random((n, d)) < density)
    values = values.astype(dtype)
    X = as_csr(values, layout, rng) if layout in (np.int32, np.int64) else None
    if X is None:
        X = in_memory_like(values, layout)
    y = in_memory_like(rng.standard_normal((n, t)).astype(dtype), y_layout)
    s = None
    if weighted:
        s = (rng.random(n) * (rng.random(n) < 0.8)).astype(dtype)
        s[rng.integers(n)] = 0.5  # not all zero
    freeze(X, y, s)
    return Problem(X, y, rng.standard_normal((t, d)), rng.standard_normal(t), s)


sizes = st.one_of(st.integers(1, 20), st.integers(1, 70))
problems = st.builds(
    make_problem,
    seed=st.integers(0, 2**31),
    n=sizes,
    d=sizes,
    t=st.integers(1, 4),
    dtype=st.sampled_from([np.float32, np.float64]),
    layout=st.sampled_from([*LAYOUTS, np.int32, np.int64]),
    weighted=st.booleans(),
    density=st.sampled_from([1.0, 0.3, 0.05]),
    y_layout=st.sampled_from(LAYOUTS),
)
threads = st.integers(1, 4)

# The emulator has 3 multiprocessors, whose blocks go several times over a tenth of the longest.
LONGEST = 4_000 if ON_PTX_MACHINE else 40_000
LARGE = [(5000, 33, 1), (3, 5000, 2), (300, 1000, 10), (LONGEST, 17, 3)]
EVERY_KIND = ["C", "F", "rows backwards", np.int32]


def large_problem(n, d, t, dtype, layout):
    density = 0.1 if layout is np.int32 else 1.0
    return make_problem(n + d, n, d, t, dtype, layout, density=density)


large = pytest.mark.parametrize(("n", "d", "t"), LARGE)
# The shapes for which all combinations of options are tested.
MIDDLING = (27, 9) if SIMULATED else (93, 21)
too_much_to_simulate = pytest.mark.skipif(SIMULATED, reason="too much for a simulator")
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
every_kind = pytest.mark.parametrize("layout", EVERY_KIND, ids=str)


def assert_close(actual, expected, magnitude, rtol):
    """Assert |actual - expected| <= rtol magnitude, with the magnitude of the terms of the sums."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all()
    error = np.abs(actual.astype(float) - expected) - rtol * (np.asarray(magnitude) + 1e-30)
    assert (error <= 0).all(), f"too far by {error.max():.3g} of {np.max(magnitude):.3g}"


def sums_tolerance(problem):
    """The bound for sums, which are float64: only the rounding of float32 products is left."""
    return 1e-6 if problem.X.dtype == np.float32 else 1e-12


# ----------------------------------------------------------------------------------------------
# The list of backends
# ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "cuda"])
def test_backend_can_be_imported(name):
    if ALLOW_MISSING:
        pytest.skip("FASTLSGD_TEST_ALLOW_MISSING=1")
    load_backend(name)


def test_isa_is_named(kernels, backend):
    assert isinstance(kernels.isa(), str)
    assert backend[1] in (None, kernels.isa())


# ----------------------------------------------------------------------------------------------
# loss_gradient
# ----------------------------------------------------------------------------------------------


def check_loss_gradient(kernels, problem, n_threads):
    X, y, w, b, s = problem
    w, check_w = guarded(w)
    b, check_b = guarded(b)
    actual = kernels.loss_gradient(X, y, w, b, s, n_threads)
    check_w()
    check_b()
    expected = reference.loss_gradient(X, y, problem.w, problem.b, s, 1)
    A, weight = np.abs(problem.dense), np.ones(len(y)) if s is None else s.astype(float)
    r = A @ np.abs(w).T + np.abs(b) + np.abs(y)
    total, rtol = weight.sum(), sums_tolerance(problem)
    assert_close(actual.loss, expected.loss, weight @ (r * r) / total, rtol)
    assert_close(actual.coef, expected.coef, (weight[:, None] * r).T @ A / total, rtol)
    assert_close(actual.intercept, expected.intercept, weight @ r / total, rtol)
    for part in actual:
        assert part.dtype == np.float64


@given(problem=problems, n_threads=threads)
def test_loss_gradient(kernels, problem, n_threads):
    check_loss_gradient(kernels, problem, n_threads)


@too_much_to_simulate
@large
@both_dtypes
@every_kind
def test_loss_gradient_of_large_data(kernels, n, d, t, dtype, layout):
    check_loss_gradient(kernels, large_problem(n, d, t, dtype, layout), n_threads=3)


@every_kind
def test_loss_gradient_is_the_derivative_of_the_loss(kernels, layout):
    n = 15 if SIMULATED else 60
    X, y, w, b, s = make_problem(0, n, 9, 2, np.float64, layout, density=0.7)

    def loss(w, b):
        return kernels.loss_gradient(X, y, w, b, s, 1).loss

    gradient, step = kernels.loss_gradient(X, y, w, b, s, 1), 1e-3
    for c in range(2):
        for j in range(9):
            e = np.zeros_like(w)
            e[c, j] = step
            slope = (loss(w + e, b) - loss(w - e, b))[c] / (2 * step)  # exact: J is quadratic
            assert gradient.coef[c, j] == pytest.approx(slope, abs=1e-9)
    slope = (loss(w, b + step) - loss(w, b - step)) / (2 * step)
    np.testing.assert_allclose(gradient.intercept, slope, atol=1e-9)


def test_every_row_the_same(kernels):
    """All rows are one row, repeated by a stride of 0."""
    X, y, w, b, _ = make_problem(0, 1, 13, 2, np.float32)
    X, y = np.broadcast_to(X, (50, 13)), np.broadcast_to(y, (50, 2))
    check_loss_gradient(kernels, Problem(X, y, w, b, None), 2)
    column = np.broadcast_to(np.float32(1.5), (50, 13))
    check_loss_gradient(kernels, Problem(column, y, w, b, None), 2)


@too_much_to_simulate
@pytest.mark.parametrize("t", range(2, 15))
@pytest.mark.parametrize("layout", ["C", "F", "row steps"])
@both_dtypes
def test_each_number_of_targets(kernels, t, dtype, layout):
    """Kernels may process targets in groups: each number of targets fills or exceeds one."""
    problem = make_problem(t, 45, 37, t, dtype, layout)
    check_loss_gradient(kernels, problem, 2)
    check_predict(kernels, problem, 2)
    check_epochs(kernels, problem, [make_epoch(problem, 1, alpha=0.3, average_after=7)])


@too_much_to_simulate
@pytest.mark.parametrize("t", [2, 3, 4, 5, 8, 10, 15, 16, 18, 23, 32, 43])
@pytest.mark.parametrize("layout", [np.int32, np.int64], ids=str)
@both_dtypes
def test_each_number_of_targets_of_sparse_rows(kernels, t, dtype, layout):
    problem = make_problem(t, 45, 37, t, dtype, layout)
    check_loss_gradient(kernels, problem, 2)
    check_predict(kernels, problem, 2)


@pytest.mark.parametrize("t", [1, 3])
def test_float32_beyond_its_own_squares(kernels, t):
    """Sums are float64, since float32 overflows at 1e25 squared."""
    X, y, w, b, s = make_problem(0, 30, 7, t, np.float32)
    check_loss_gradient(kernels, Problem(X * np.float32(1e25), y, w, b, s), 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@both_dtypes
@pytest.mark.parametrize("layout", ["C", "F", np.int64], ids=str)
def test_what_is_not_finite_shows(kernels, bad, dtype, layout):
    X, y, w, b, s = make_problem(0, 30, 19, 1, dtype, layout, weighted=False)
    X = X._replace(data=X.data.copy()) if isinstance(X, CSR) else X.copy(order="K")
    if isinstance(X, CSR):
        X.data[X.indptr[12]] = bad
    else:
        X[12, 18] = bad
    assert not np.isfinite(kernels.loss_gradient(X, y, w, b, s, 1).loss).any()
    assert not np.isfinite(kernels.predict(X, w, b, 1)[12]).any()
    assert np.isfinite(kernels.predict(X, w, b, 1)[13:]).all()
    problem = Problem(X, y, w, b, s)
    optimized = [{"optimizer": optimizer} for optimizer in OPTIMIZERS.values()]
    batch_size = 10 if SIMULATED else 1  # single rows took the simulator 8 s of processor a case
    for options in (*PENALTIES.values(), *optimized):
        v, epoch = w.astype(dtype), make_epoch(problem, batch_size, **options)
        run(kernels, problem, epoch, v, b.copy(), fresh_state(epoch, v))
        assert not np.isfinite(v).all()


# ----------------------------------------------------------------------------------------------
# predict
# ----------------------------------------------------------------------------------------------


def check_predict(kernels, problem, n_threads):
    X, _, w, b, _ = problem
    w, check_w = guarded(w)
    actual = kernels.predict(X, w, b, n_threads)
    check_w()
    expected = reference.predict(X, problem.w, b, 1)
    assert actual.dtype == X.dtype
    magnitude = np.abs(problem.dense) @ np.abs(w).T + np.abs(b)
    assert_close(actual, expected, magnitude, sums_tolerance(problem))


@given(problem=problems, n_threads=threads)
def test_predict(kernels, problem, n_threads):
    check_predict(kernels, problem, n_threads)


@too_much_to_simulate
@large
@both_dtypes
@every_kind
def test_predict_of_large_data(kernels, n, d, t, dtype, layout):
    check_predict(kernels, large_problem(n, d, t, dtype, layout), n_threads=3)


# ----------------------------------------------------------------------------------------------
# gram
# ----------------------------------------------------------------------------------------------


def check_gram(kernels, problem, shift, n_threads):
    X, y, _, _, s = problem
    actual = kernels.gram(X, y, s, shift, n_threads)
    expected = reference.gram(X, y, s, shift, 1)
    A = np.abs(problem.dense - (0.0 if shift is None else shift))
    weight = np.ones(len(y)) if s is None else s.astype(float)
    sA, rtol = weight[:, None] * A, sums_tolerance(problem)
    assert_close(actual.xx, expected.xx, sA.T @ A, rtol)
    assert_close(actual.xy, expected.xy, sA.T @ np.abs(y), rtol)
    assert_close(actual.x, expected.x, sA.sum(axis=0), rtol)
    assert_close(actual.y, expected.y, weight @ np.abs(y), rtol)
    assert actual.weight == pytest.approx(expected.weight)
    assert isinstance(actual.weight, float)


@given(problem=problems, shifted=st.booleans(), n_threads=threads)
def test_gram(kernels, problem, shifted, n_threads):
    check_gram(kernels, problem, problem.w[0].copy() if shifted else None, n_threads)


@too_much_to_simulate
@pytest.mark.parametrize(("n", "d", "t"), [(5000, 33, 1), (3, 300, 2), (300, 200, 10)])
@both_dtypes
@every_kind
@pytest.mark.parametrize("shifted", [False, True])
def test_gram_of_large_data(kernels, n, d, t, dtype, layout, shifted):
    problem = large_problem(n, d, t, dtype, layout)
    check_gram(kernels, problem, problem.w[0].copy() if shifted else None, n_threads=3)


@pytest.mark.parametrize("layout", ["C", np.int32], ids=str)
def test_gram_without_targets(kernels, layout):
    X, y, _, _, s = make_problem(0, 40, 11, 1, np.float64, layout)
    actual = kernels.gram(X, y[:, :0], s, None, 2)
    assert actual.xy.shape == (11, 0)
    assert actual.y.shape == (0,)
    np.testing.assert_allclose(actual.xx, reference.gram(X, y, s, None, 1).xx, atol=1e-12)


@pytest.mark.parametrize("layout", ["C", np.int32], ids=str)
def test_gram_about_the_mean_loses_no_digits(kernels, layout):
    """The columns lie at 1e8, with a spread of 1."""
    X, y, _, _, s = make_problem(0, 50, 6, 1, np.float64, layout)
    far = X._replace(data=X.data + 1e8) if isinstance(X, CSR) else X + 1e8
    moments = kernels.gram(far, y, s, np.full(6, 1e8), 1)
    np.testing.assert_allclose(moments.xx, reference.gram(X, y, s, None, 1).xx, atol=1e-5)


# ----------------------------------------------------------------------------------------------
# sgd_epoch: its cases and checks, for tests of other files too
# ----------------------------------------------------------------------------------------------


class EpochCase(NamedTuple):
    """An `Epoch`, and the average and optimizer of its initial state."""

    order: np.ndarray | None
    rates: np.ndarray
    batch_size: int
    alpha: float = 0.0
    l1_ratio: float = 0.0
    fit_intercept: bool = True
    prox: Prox | None = None
    implicit: bool = False
    average_after: int | None = None
    optimizer: OptimizerState | None = None

    @property
    def epoch(self) -> Epoch:
        return Epoch(*self[:8])


MOMENTS = ("coef_first", "coef_second", "intercept_first", "intercept_second")


def fresh_optimizer(epoch, w):
    """A new state of the epoch's optimizer, with its own moments."""
    if epoch.optimizer is None:
        return None
    rule, shape = epoch.optimizer.rule, w.shape
    first, second = rule.has_first_moment, rule.has_second_moment
    return replace(
        epoch.optimizer,
        coef_first=np.zeros(shape) if first else None,
        intercept_first=np.zeros(shape[0]) if first else None,
        coef_second=np.zeros(shape) if second else None,
        intercept_second=np.zeros(shape[0]) if second else None,
    )


def fresh_state(epoch, w):
    averages = epoch.average_after is not None
    return SGDState(
        l1_paid=np.zeros_like(w) if epoch.alpha * epoch.l1_ratio > 0 else None,
        average_after=epoch.average_after,
        coef_sum=np.zeros(w.shape) if averages else None,
        intercept_sum=np.zeros(len(w)) if averages else None,
        optimizer=fresh_optimizer(epoch, w),
    )


def run(kernels, problem, epoch, w, b, state, n_threads=1):
    X, y, s = problem.X, problem.y, problem.s
    return kernels.sgd_epoch(X, y, w, b, s, epoch.epoch, state, n_threads)


def run_guarded(kernels, problem, epoch, w, b, state, n_threads):
    """Like `run`, but with marks around all arrays that are written to."""
    w_, check_w = guarded(w)
    b_, check_b = guarded(b)
    checks, inner = [check_w, check_b], replace(state)
    for name in ("l1_paid", "coef_sum", "intercept_sum"):
        if getattr(state, name) is not None:
            array, check = guarded(getattr(state, name))
            setattr(inner, name, array)
            checks.append(check)
    if state.optimizer is not None:
        inner.optimizer = replace(state.optimizer)
        for name in MOMENTS:
            if getattr(state.optimizer, name) is not None:
                array, check = guarded(getattr(state.optimizer, name))
                setattr(inner.optimizer, name, array)
                checks.append(check)
    loss = run(kernels, problem, epoch, w_, b_, inner, n_threads)
    for check in checks:
        check()
    w[...], b[...] = w_, b_
    return loss, inner


def check_epochs(kernels, problem, epochs, n_threads=1):
    """Assert that successive epochs by this backend give what the reference gives."""
    dtype = problem.X.dtype
    w, b = problem.w.astype(dtype), problem.b.copy()
    w_ref, b_ref = w.copy(), b.copy()
    state, state_ref = fresh_state(epochs[0], w), fresh_state(epochs[0], w)
    rtol = 5e-5 if dtype == np.float32 else 1e-11
    for epoch in epochs:
        freeze(epoch.rates, epoch.order, *(epoch.prox or ()))
        loss, state = run_guarded(kernels, problem, epoch, w, b, state, n_threads)
        loss_ref = run(reference, problem, epoch, w_ref, b_ref, state_ref)
        assert isinstance(loss, float)
        scale = 1.0 + np.abs(problem.w).max() + np.abs(w_ref).max()
        assert_close(w, w_ref, scale, rtol)
        assert_close(b, b_ref, scale + np.abs(b_ref).max(), rtol)
        assert_close(loss, loss_ref, loss_ref + len(epoch.rates), rtol)
        check_state(state, state_ref, scale + np.abs(b_ref).max(), rtol)


def check_state(state, expected, scale, rtol):
    assert state.average_after == expected.average_after
    assert state.n_summed == expected.n_summed
    assert state.l1_due == pytest.approx(expected.l1_due, rel=1e-9)
    if expected.l1_paid is not None:
        assert_close(state.l1_paid, expected.l1_paid, scale + expected.l1_due, rtol)
    if expected.optimizer is not None:
        assert state.optimizer.steps == expected.optimizer.steps
        for name in MOMENTS:
            if getattr(expected.optimizer, name) is not None:
                wanted = getattr(expected.optimizer, name)
                assert_close(getattr(state.optimizer, name), wanted, scale + wanted.max(), rtol)
    if expected.coef_sum is not None:
        assert_close(state.coef_sum, expected.coef_sum, scale * (1 + expected.n_summed), rtol)
        summed = scale * (1 + expected.n_summed)
        assert_close(state.intercept_sum, expected.intercept_sum, summed, rtol)


# eps is of the size of the gradients: with a tiny one, the first steps are the signs of gradients,
# and no two programs agree where rounding decides a sign.
OPTIMIZERS = {
    "clipped": OptimizerState(OptimizerRule.SGD, max_norm=0.5),
    "momentum": OptimizerState(OptimizerRule.MOMENTUM, beta1=0.8),
    "nesterov": OptimizerState(OptimizerRule.NESTEROV, beta1=0.8, max_norm=2.0),
    "rmsprop": OptimizerState(OptimizerRule.RMSPROP, beta2=0.9, eps=0.1),
    "adagrad": OptimizerState(OptimizerRule.ADAGRAD, eps=0.1),
    "adam": OptimizerState(OptimizerRule.ADAM, beta1=0.7, beta2=0.9, eps=0.1),
    "adamw": OptimizerState(OptimizerRule.ADAMW, beta1=0.7, beta2=0.9, eps=0.1, max_norm=1.0),
}


PENALTIES = {
    "plain": {},
    "L2": {"alpha": 0.3},
    "L1": {"alpha": 0.3, "l1_ratio": 1.0},
    "elastic net": {"alpha": 0.3, "l1_ratio": 0.4},
    "average": {"average_after": 7},
    "average, L2": {"alpha": 0.3, "average_after": 7},
    "average, elastic net": {"alpha": 0.3, "l1_ratio": 0.4, "average_after": 7},
    "implicit": {"implicit": True},
    "no intercept": {"fit_intercept": False},
    "prox": {"prox": True},
    "shrinks to zero": {"alpha": 200.0},
    "everything": {
        "alpha": 0.3, "l1_ratio": 0.4, "average_after": 7, "implicit": True, "prox": True,
    },
}  # fmt: skip


def make_epoch(problem, batch_size, shuffled=False, prox=False, seed=1, **options):
    n, d = problem.X.shape
    rng = np.random.default_rng(seed)
    order = rng.permutation(n) if shuffled else None
    rates = 0.7 * rng.random(-(-n // batch_size)) / (1 + d)
    if prox:
        soft, shrink = rng.random((2, d)).astype(problem.X.dtype)
        options["prox"] = Prox(soft, shrink)
    return EpochCase(order, rates, batch_size, **options)


def all_kernels(kernels, problem, n_threads):
    """The results of the four kernels."""
    X, y, w, b, s = problem
    v, c = w.astype(X.dtype), b.copy()
    epoch = make_epoch(problem, 32)
    loss = run(kernels, problem, epoch, v, c, SGDState(), n_threads)
    return [
        *kernels.loss_gradient(X, y, w, b, s, n_threads),
        kernels.predict(X, w, b, n_threads),
        *kernels.gram(X, y, s, w[0].copy(), n_threads),
        *(v, c, loss),
    ]
