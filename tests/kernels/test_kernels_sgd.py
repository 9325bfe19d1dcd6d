"""Conformance of `sgd_epoch`, with and without an optimizer, on every backend."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import ON_PTX_MACHINE, SIMULATED
from hypothesis import given
from hypothesis import strategies as st
from test_kernels import (
    MIDDLING,
    OPTIMIZERS,
    PENALTIES,
    EpochCase,
    Problem,
    as_csr,
    both_dtypes,
    check_epochs,
    every_kind,
    fresh_state,
    large_problem,
    make_epoch,
    make_problem,
    problems,
    run,
    threads,
    too_much_to_simulate,
)

from fastlsgd.kernels import reference
from fastlsgd.kernels.contract import (
    CSR,
    OptimizerRule,
    OptimizerState,
    Prox,
    SGDState,
    rows_per_group,
)


@st.composite
def sgd_cases(draw):
    """A problem and one or two epochs over it, at rates for which rounding errors do not grow."""
    problem = draw(problems)
    n, d = problem.X.shape
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    alpha = draw(st.sampled_from([0.0, 0.01, 0.5, 3.0]))
    prox = None
    if draw(st.booleans()):
        soft, shrink = rng.random((2, d)) * (rng.random((2, d)) < 0.7)
        prox = Prox(soft.astype(problem.X.dtype), shrink.astype(problem.X.dtype))
    common = EpochCase(
        None,
        np.empty(0),
        batch_size=draw(st.sampled_from([1, 1, 2, 3, 7, 8, 9, 32, 100])),
        alpha=alpha,
        l1_ratio=draw(st.sampled_from([0.0, 0.3, 1.0])),
        fit_intercept=draw(st.booleans()),
        prox=prox,
        implicit=draw(st.booleans()),
        average_after=draw(st.sampled_from([None, 0, 5])),
    )
    epochs = []
    for _ in range(draw(st.integers(1, 2))):
        order = draw(st.sampled_from([None, "permutation", "repeats"]))
        if order == "permutation":
            order = rng.permutation(n)
        elif order == "repeats":
            order = rng.integers(0, n, draw(st.integers(1, 2 * n)))
        visits = n if order is None else len(order)
        rates = rng.random(-(-visits // common.batch_size)) / (1 + d)
        epochs.append(common._replace(order=order, rates=rates))
    return problem, epochs


@given(case=sgd_cases(), n_threads=threads)
def test_sgd_epoch(kernels, case, n_threads):
    check_epochs(kernels, *case, n_threads)


@st.composite
def optimizer_cases(draw):
    problem, epochs = draw(sgd_cases())
    optimizer = OPTIMIZERS[draw(st.sampled_from(list(OPTIMIZERS)))]
    return problem, [
        epoch._replace(prox=None, implicit=False, optimizer=optimizer) for epoch in epochs
    ]


@given(case=optimizer_cases(), n_threads=threads)
def test_optimizers(kernels, case, n_threads):
    check_epochs(kernels, *case, n_threads)


# For the simulator, which runs the same Python for both dtypes, each kind of rows has one of them.
KINDS = [("C", np.float32), ("F", np.float64), (np.int32, np.float64), (np.int64, np.float32)]
if not SIMULATED:
    KINDS = [(layout, dtype) for layout, _ in KINDS for dtype in (np.float32, np.float64)]
with_each_kind = pytest.mark.parametrize(("layout", "dtype"), KINDS, ids=str)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("batch_size", [1, 5, 32])
@with_each_kind
def test_optimizers_with_every_option(kernels, optimizer, batch_size, layout, dtype):
    problem = make_problem(3, *MIDDLING, 2, dtype, layout, density=0.3)
    for options in ({}, {"alpha": 0.3, "l1_ratio": 0.4, "average_after": 7}):
        epochs = [
            make_epoch(problem, batch_size, k > 0, seed=k, optimizer=optimizer, **options)
            for k in range(2 if SIMULATED else 3)
        ]
        check_epochs(kernels, problem, epochs)


@too_much_to_simulate
@pytest.mark.parametrize("optimizer", [OPTIMIZERS["adam"], OPTIMIZERS["nesterov"]], ids=repr)
@pytest.mark.parametrize(("n", "d", "t", "batch_size"), [(3000, 33, 1, 32), (60, 1000, 10, 9)])
@both_dtypes
@every_kind
def test_optimizers_on_large_data(kernels, optimizer, n, d, t, batch_size, dtype, layout):
    problem = large_problem(n, d, t, dtype, layout)
    check_epochs(kernels, problem, [make_epoch(problem, batch_size, True, optimizer=optimizer)])


@every_kind
@pytest.mark.parametrize(("alpha", "l1_ratio"), [(0.3, 0.0), (0.1, 0.5)])
def test_clipping_at_a_norm_that_is_never_reached_changes_nothing(kernels, alpha, l1_ratio, layout):
    problem = make_problem(0, 60, 7, 2, np.float64, layout, density=0.6)
    results = []
    for optimizer in (None, OptimizerState(OptimizerRule.SGD, max_norm=1e9)):
        options = {"alpha": alpha, "l1_ratio": l1_ratio, "average_after": 3}
        epoch = make_epoch(problem, 4, optimizer=optimizer, **options)
        w, b = problem.w.copy(), problem.b.copy()
        state = fresh_state(epoch, w)
        loss = run(kernels, problem, epoch, w, b, state)
        results.append((w, b, loss, state.coef_sum, state.intercept_sum))
    for actual, expected in zip(*results, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-12)


@every_kind
def test_clipping_limits_the_step_of_each_target(kernels, layout):
    problem = make_problem(0, 30, 7, 2, np.float64, layout, density=0.6)
    problem = problem._replace(y=problem.y * [1.0, 1e3])
    w, b = problem.w.copy(), problem.b.copy()
    epoch = EpochCase(
        None, np.array([0.1]), 30, optimizer=OptimizerState(OptimizerRule.SGD, max_norm=2.0)
    )
    run(kernels, problem, epoch, w, b, fresh_state(epoch, w))
    step = np.hypot(np.linalg.norm(w - problem.w, axis=1), b - problem.b)
    gradient = kernels.loss_gradient(*problem[:2], problem.w, problem.b, problem.s, 1)
    size = np.hypot(np.linalg.norm(gradient.coef, axis=1), gradient.intercept)
    size *= problem.s.sum() / 30
    np.testing.assert_allclose(step, 0.1 * np.minimum(size, 2.0), rtol=1e-5)
    assert size[0] < 2.0 < size[1]


@too_much_to_simulate
@pytest.mark.parametrize("rule", ["momentum", "nesterov", "rmsprop", "adagrad", "adam"])
@pytest.mark.parametrize("layout", ["C", np.int32], ids=str)
def test_l1_balances_the_gradient_at_the_minimum(kernels, rule, layout):
    """Full batches of a problem with X^T X = n I, whose minimum is known: soft(c, l1)."""
    n, d, l1 = 32, 4, 0.3
    X = np.linalg.qr(np.random.default_rng(0).standard_normal((n, d)))[0] * np.sqrt(n)
    c = np.array([[1.0, -0.5, 0.2, -0.05]])
    y = X @ c.T
    rows = as_csr(X, layout, np.random.default_rng(1)) if layout is np.int32 else X
    problem = Problem(rows, y, np.ones((1, d)), np.zeros(1), None)
    optimizer = OptimizerState(OptimizerRule[rule.upper()], beta1=0.5, beta2=0.9)
    if rule in ("rmsprop", "adam"):  # whose steps have the size of the rate
        rates = 0.2 / (1.0 + np.arange(400.0)) ** 0.7
    else:
        rates = np.full(400, 1.0 if rule == "adagrad" else 0.05)
    epoch = EpochCase(None, rates[:1], n, l1, 1.0, fit_intercept=False, optimizer=optimizer)
    w, b = problem.w.copy(), problem.b.copy()
    state = fresh_state(epoch, w)
    for k in range(400):
        run(kernels, problem, epoch._replace(rates=rates[k : k + 1]), w, b, state)
    assert (w[0, 2:] == 0.0).all()
    np.testing.assert_allclose(w[0, :2], [0.7, -0.2], atol=5e-3)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_optimizers_in_pieces(kernels, optimizer):
    """The moments and the count of updates are the whole state that passes between epochs."""
    problem = make_problem(0, 96, 10, 2, np.float64)
    options = {"alpha": 0.3, "l1_ratio": 0.4, "average_after": 5, "optimizer": optimizer}
    whole = make_epoch(problem, 4, **options)._replace(order=np.arange(96))
    results = []
    for spans in ([slice(0, 96)], [slice(0, 40), slice(40, 96)]):
        w, b = problem.w.copy(), problem.b.copy()
        state = fresh_state(whole, w)
        for span in spans:
            rates = whole.rates[span.start // 4 : span.stop // 4]
            piece = whole._replace(order=whole.order[span], rates=rates)
            run(kernels, problem, piece, w, b, state)
        results.append((w, b, state.coef_sum, state.optimizer.steps))
    for actual, expected in zip(*results, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("batch_size", [1, 5, 64])
@with_each_kind
def test_sgd_epoch_with_each_option(kernels, options, batch_size, layout, dtype):
    problem = make_problem(3, *MIDDLING, 2, dtype, layout, density=0.3)
    n_epochs = 2 if SIMULATED else 3
    epochs = [make_epoch(problem, batch_size, k > 0, seed=k, **options) for k in range(n_epochs)]
    check_epochs(kernels, problem, epochs)


@too_much_to_simulate
@pytest.mark.parametrize(
    ("n", "d", "t", "batch_size"),
    [
        (3000, 33, 1, 1),
        (3000, 33, 2, 100),
        (3, 5000, 2, 1),
        (300, 1000, 10, 1),
        (300, 1000, 10, 300),
        (3000, 200, 2, 1700),  # batches that are large enough for several threads
    ],
)
@both_dtypes
@every_kind
@pytest.mark.parametrize("shuffled", [False, True])
def test_sgd_epoch_of_large_data(kernels, n, d, t, batch_size, dtype, layout, shuffled):
    problem = large_problem(n, d, t, dtype, layout)
    epoch = make_epoch(problem, batch_size, shuffled, alpha=0.01)
    check_epochs(kernels, problem, [epoch], n_threads=3)


@too_much_to_simulate
@pytest.mark.parametrize("layout", ["C", "F"])
@both_dtypes
def test_sgd_epoch_divides_a_batch_with_each_option(kernels, dtype, layout):
    problem = large_problem(2600, 120, 2, dtype, layout)
    epochs = [make_epoch(problem, 2000, k > 0, **PENALTIES["everything"]) for k in range(2)]
    check_epochs(kernels, problem, epochs, n_threads=3)


@too_much_to_simulate
def test_sgd_epoch_on_several_threads_repeats_its_bits(kernels):
    problem = large_problem(4000, 100, 1, np.float32, "C")
    epoch = make_epoch(problem, 3000, alpha=0.01)
    results = []
    for _ in range(3):
        w, b = problem.w.astype(np.float32), problem.b.copy()
        loss = run(kernels, problem, epoch, w, b, fresh_state(epoch, w), n_threads=2)
        results.append((w.tobytes(), b.tobytes(), loss))
    assert results[0] == results[1] == results[2]


@too_much_to_simulate
@pytest.mark.parametrize(("alpha", "l1_ratio"), [(0.0, 0.0), (5.0, 0.0), (0.02, 0.5), (0.02, 1.0)])
def test_sgd_epoch_of_many_updates(kernels, alpha, l1_ratio):
    """There are more updates than the buffers of a lazy CSR kernel hold; dense rows agree."""
    if kernels is reference:
        pytest.skip("the reference has no buffers, and is slow")
    sparse = make_problem(0, 1000, 12, 1, np.float64, np.int32, density=0.1)
    dense = sparse._replace(X=sparse.dense)
    visits = 7_001 if ON_PTX_MACHINE else 70_001
    order = np.random.default_rng(0).integers(0, 1000, visits)
    rates = np.linspace(0.03, 0.001, visits)
    epoch = EpochCase(order, rates, 1, alpha, l1_ratio, average_after=100)
    results = []
    for problem in (sparse, dense):
        w, b = problem.w.copy(), problem.b.copy()
        state = fresh_state(epoch, w)
        run(kernels, problem, epoch, w, b, state)
        paid = state.l1_paid if l1_ratio > 0 else 0.0
        results.append((w, b, paid, state.coef_sum / state.n_summed, state.intercept_sum))
    for actual, expected in zip(*results, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-10)


@too_much_to_simulate
@pytest.mark.parametrize("options", ["plain", "average, L2", "no intercept"])
@pytest.mark.parametrize("batch_size", [5, 32, 300])
@pytest.mark.parametrize("d", [1, 2, 3, 8])
@both_dtypes
def test_sgd_epoch_of_few_columns_and_one_target(kernels, d, batch_size, options, dtype):
    """Batches of 300 rows, in a visit of 330, are more than what is copied at a time."""
    layout = "backwards in steps" if d == 3 else "C"
    problem = make_problem(d, 330, d, 1, dtype, layout, weighted=options != "plain")
    epochs = [make_epoch(problem, batch_size, k > 0, seed=k, **PENALTIES[options]) for k in (0, 1)]
    check_epochs(kernels, problem, epochs)


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("optimizer", [None, OPTIMIZERS["adam"]], ids=repr)
@pytest.mark.parametrize("layout", ["C", np.int32], ids=str)
def test_epochs_of_a_call_are_those_of_several_calls(kernels, layout, optimizer, shuffled):
    problem = make_problem(0, 21, 3, 1, np.float64, layout, density=0.6)
    options = {"alpha": 0.3, "l1_ratio": 0.4, "optimizer": optimizer}
    epochs = [make_epoch(problem, 5, shuffled, seed=k, **options) for k in range(3)]
    w, b = problem.w.copy(), problem.b.copy()
    state, expected = fresh_state(epochs[0], w), []
    for epoch in epochs:
        loss = run(kernels, problem, epoch, w, b, state)
        expected.append((loss, w.copy(), b.copy()))
    order = np.stack([epoch.order for epoch in epochs]) if shuffled else None
    joint = epochs[0]._replace(order=order, rates=np.stack([epoch.rates for epoch in epochs]))
    v, c, other = problem.w.copy(), problem.b.copy(), fresh_state(epochs[0], w)
    arrays = problem.X, problem.y, v, c, problem.s
    done = kernels.sgd_epochs(*arrays, joint.epoch, other, 1)
    for k, (loss, coef, intercept) in enumerate(expected):
        assert done.losses[k] == loss
        assert (done.coef[k] == coef).all()
        assert (done.intercept[k] == intercept).all()
    assert (v == w).all()
    assert (c == b).all()
    assert (other.l1_due, repr(other.optimizer)) == (state.l1_due, repr(state.optimizer))


def test_epochs_in_pieces(kernels):
    """Cutting an epoch after a group changes nothing, since the state holds all that passes on."""
    problem = make_problem(0, 96, 10, 2, np.float64)
    options = {"alpha": 0.3, "l1_ratio": 0.4, "average_after": 5, "prox": True}
    whole = make_epoch(problem, 4, **options)._replace(order=np.arange(96))
    cut = 5 * rows_per_group(4)
    results = []
    for spans in ([slice(0, 96)], [slice(0, cut), slice(cut, 96)]):
        w, b = problem.w.copy(), problem.b.copy()
        state = fresh_state(whole, w)
        loss = 0.0
        for span in spans:
            rates = whole.rates[span.start // 4 : span.stop // 4]
            piece = whole._replace(order=whole.order[span], rates=rates)
            loss += run(kernels, problem, piece, w, b, state)
        results.append((w, b, loss, state.l1_paid, state.coef_sum, state.l1_due))
    for actual, expected in zip(*results, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


# Statements of the contract, computed here in a few lines instead of by the reference.


@every_kind
def test_one_batch_is_a_step_along_the_gradient(kernels, layout):
    problem = make_problem(0, 40, 7, 2, np.float64, layout, density=0.6)
    w, b = problem.w.copy(), problem.b.copy()
    gradient = kernels.loss_gradient(*problem[:2], w, b, problem.s, 1)
    share = problem.s.sum() / 40  # a batch divides by its number of rows, the loss by their weights
    loss = run(kernels, problem, EpochCase(None, np.array([0.1]), 40), w, b, SGDState())
    np.testing.assert_allclose(w, problem.w - 0.1 * share * gradient.coef)
    np.testing.assert_allclose(b, problem.b - 0.1 * share * gradient.intercept)
    r = problem.dense @ problem.w.T + problem.b - problem.y
    r[problem.s == 0] = 0.0  # such rows do not count
    assert loss == pytest.approx(0.5 * (r * r).sum())


@every_kind
def test_implicit_step_solves_for_the_residual_after_it(kernels, layout):
    """The step is w' = w - h r' x, where r' is the residual at w'."""
    problem = make_problem(0, 1, 7, 1, np.float64, layout, weighted=False)
    w, b = problem.w.copy(), problem.b.copy()
    epoch = EpochCase(None, np.array([5.0]), 1, implicit=True)
    run(kernels, problem, epoch, w, b, SGDState())
    after = problem.dense @ w.T + b - problem.y
    np.testing.assert_allclose(w, problem.w - 5.0 * after.T @ problem.dense, atol=1e-12)
    np.testing.assert_allclose(b, problem.b - 5.0 * after[0], atol=1e-12)


@every_kind
def test_averages_are_of_the_weights_after_each_update(kernels, layout):
    problem = make_problem(0, 20, 5, 2, np.float64, layout, density=0.5)
    epoch = make_epoch(problem, 1, alpha=0.5)._replace(average_after=8)
    w, b = problem.w.copy(), problem.b.copy()
    state = fresh_state(epoch, w)
    run(kernels, problem, epoch, w, b, state)
    assert (state.n_summed, state.average_after) == (12, 0)
    v, c, total, total_b = problem.w.copy(), problem.b.copy(), 0.0, 0.0
    for i in range(20):
        one = epoch._replace(order=np.array([i]), rates=epoch.rates[i : i + 1], average_after=None)
        run(kernels, problem, one, v, c, SGDState())
        if i >= 8:
            total, total_b = total + v, total_b + c
    np.testing.assert_allclose(state.coef_sum, total, atol=1e-12)
    np.testing.assert_allclose(state.intercept_sum, total_b, atol=1e-12)
    np.testing.assert_allclose(w, v, atol=1e-12)


@every_kind
def test_cumulative_l1_stops_at_zero(kernels, layout):
    """A weight whose feature is always 0 pays rate * alpha per update until it is 0."""
    problem = make_problem(0, 20, 3, 1, np.float64, layout)
    if isinstance(problem.X, CSR):
        problem = problem._replace(X=problem.X._replace(data=0.0 * problem.X.data))
    else:
        problem = problem._replace(X=np.zeros((20, 3)))
    w, b = np.array([[0.05, -0.0999, 1.0]]), np.zeros(1)
    epoch = EpochCase(None, np.full(20, 0.01), 1, alpha=1.0, l1_ratio=1.0)
    state = fresh_state(epoch, w)
    run(kernels, problem, epoch, w, b, state)
    np.testing.assert_allclose(w, [[0.0, 0.0, 0.8]], atol=1e-12)
    np.testing.assert_allclose(state.l1_paid, [[-0.05, 0.0999, -0.2]], atol=1e-12)
    assert state.l1_due == pytest.approx(0.2)


@pytest.mark.parametrize("batch_size", [1, 3, 8, 9])
@pytest.mark.parametrize("layout", ["C", np.int32], ids=str)
def test_prox_acts_once_a_group(kernels, batch_size, layout):
    """The features are always 0, so that the prox is the only change."""
    problem = make_problem(0, 20, 3, 1, np.float64, layout)
    if isinstance(problem.X, CSR):
        problem = problem._replace(X=problem.X._replace(data=0.0 * problem.X.data))
    else:
        problem = problem._replace(X=np.zeros((20, 3)))
    epoch = make_epoch(problem, batch_size, prox=True)
    w, b = problem.w.copy(), problem.b.copy()
    run(kernels, problem, epoch, w, b, SGDState())
    v, updates = problem.w.copy(), rows_per_group(batch_size) // batch_size
    for k in range(0, len(epoch.rates), updates):
        h = epoch.rates[k : k + updates].sum()
        v = np.sign(v) * np.maximum(0, np.abs(v) - h * epoch.prox.soft)
        v /= 1 + h * epoch.prox.shrink
    np.testing.assert_allclose(w, v, rtol=1e-12, atol=1e-15)
