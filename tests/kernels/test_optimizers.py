"""Optimizers and schedules agree with torch, as recorded and side by side; their parameters."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import record_torch_trajectories as record
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

import fastlsgd
from fastlsgd import SGDRegressor, optimizers
from fastlsgd.kernels.contract import CSR, Epoch, SGDState
from fastlsgd.optimizers import Course
from fastlsgd.solvers import plain_descent

RECORDED = np.load(record.FILE)


def our_trajectory(kernels, case, X, y, s, updates):
    """Our weights and intercept after each of these updates."""
    name, parameters = case.ours
    optimizer = getattr(optimizers, name)(**parameters)
    state = SGDState(optimizer=optimizer.state(1, X.shape[1], case.clip_norm))
    w, b, path, done = np.zeros((1, X.shape[1])), np.zeros(1), [], 0
    for update in updates:
        order = np.concatenate([record.batch(k) for k in range(done, update)])
        rates = np.full(update - done, case.rate)
        epoch = Epoch(order, rates, record.BATCH_SIZE, case.decay)
        kernels.sgd_epoch(X, y[:, None], w, b, s, epoch, state, 1)
        path.append([*w[0], *b])
        done = update
    assert state.optimizer.steps == done
    return np.array(path)


def as_csr(X):
    csr = sp.csr_array(X)
    return CSR(csr.data, csr.indices, csr.indptr, csr.shape)


@pytest.mark.parametrize("name", record.CASES)
def test_steps_are_torchs(kernels, name):
    X, y, s = (RECORDED[part] for part in "Xys")
    for rows in (X, np.asfortranarray(X), as_csr(X)):
        path = our_trajectory(kernels, record.CASES[name], rows, y, s, record.RECORDED)
        np.testing.assert_allclose(path, RECORDED[name], rtol=1e-6, atol=1e-14)


@pytest.mark.parametrize("name", record.CASES)
def test_steps_are_those_of_the_torch_that_is_here(kernels, name):
    pytest.importorskip("torch")
    problem = record.make_problem()
    expected = record.torch_trajectory(record.CASES[name], **problem)
    updates = range(1, record.UPDATES + 1)
    path = our_trajectory(kernels, record.CASES[name], **problem, updates=updates)
    np.testing.assert_allclose(path, expected, rtol=1e-6, atol=1e-14)


OUR_SCHEDULES = {
    "step": optimizers.StepDecay(step_size=3, gamma=0.5),
    "cosine": optimizers.Cosine(eta_min=0.01),
    "one_cycle": optimizers.OneCycle(),
}


def rates_of(schedule, epochs=record.EPOCHS, per_epoch=record.PER_EPOCH, eta0=record.ETA0):
    t = np.arange(1.0, epochs * per_epoch + 1.0)
    return schedule.rates(t, Course(eta0, 1e-4, epochs, per_epoch))


@pytest.mark.parametrize("name", record.SCHEDULES)
def test_rates_are_torchs(name):
    rates = rates_of(OUR_SCHEDULES[name])
    np.testing.assert_allclose(rates, RECORDED[f"schedule {name}"], rtol=1e-9)
    if name == "step":
        assert len(np.unique(rates)) == 3


def test_defaults_are_torchs():
    torch = pytest.importorskip("torch")
    theirs = {
        "momentum": ("SGD", {}),
        "nesterov": ("SGD", {}),
        "rmsprop": ("RMSprop", {"rho": "alpha", "eps": "eps"}),
        "adagrad": ("Adagrad", {"eps": "eps"}),
        "adam": ("Adam", {"eps": "eps"}),
        "adamw": ("AdamW", {"eps": "eps"}),
    }
    for rule, (name, same) in theirs.items():
        ours = optimizers.OPTIMIZERS[rule]()
        defaults = getattr(torch.optim, name)([torch.zeros(1)]).defaults
        assert ours.default_rate == defaults["lr"]
        for our_name, their_name in same.items():
            assert getattr(ours, our_name) == defaults[their_name]
        if rule.startswith("adam"):
            assert (ours.beta1, ours.beta2) == defaults["betas"]


# ---------------------------------------------------------------------------- as parameters


def problem(n=200, d=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.8)
    return X, X @ np.arange(1.0, d + 1.0) + 0.5 + 0.1 * rng.normal(size=n)


@pytest.mark.parametrize("rule", optimizers.OPTIMIZERS)
@pytest.mark.parametrize("schedule", ["auto", "constant", "cosine", "one_cycle", "step"])
def test_every_optimizer_with_every_schedule(rule, schedule):
    X, y = problem()
    rate = {"adagrad": 0.5}.get(rule, 0.05)
    model = SGDRegressor(
        optimizer=rule, learning_rate=schedule, eta0=None if rule == "sgd" else rate,
        batch_size=8, max_iter=40, tol=None, random_state=0,
    )  # fmt: skip
    assert model.fit(X, y).score(X, y) > 0.95
    again = clone(model).set_params(optimizer=optimizers.OPTIMIZERS[rule]()).fit(X, y)
    np.testing.assert_array_equal(again.coef_, model.coef_)


def test_parameters_behave_as_scikit_learns():
    adam = optimizers.Adam(beta1=0.8)
    model = SGDRegressor(optimizer=adam, learning_rate=optimizers.OneCycle(pct_start=0.2))
    assert repr(adam) == "Adam(beta1=0.8, beta2=0.999, eps=1e-08)"
    assert clone(model).optimizer == adam
    assert clone(model).optimizer is not adam
    assert pickle.loads(pickle.dumps(model)).learning_rate == optimizers.OneCycle(pct_start=0.2)
    assert adam != optimizers.AdamW(beta1=0.8)
    X, y = problem()
    model.set_params(optimizer__beta1=0.7, max_iter=5, tol=None, eta0=0.1)
    search = GridSearchCV(model, {"optimizer__beta2": [0.9, 0.99]}, cv=2).fit(X, y)
    assert search.best_estimator_.optimizer.beta1 == 0.7
    assert fastlsgd.optimizers is optimizers


def test_rates_where_the_user_gave_none():
    X, y = problem()
    chosen = {"shuffle": False, "tol": None, "max_iter": 3}
    for rule, rate in (("momentum", 1e-3), ("rmsprop", 0.01), ("adagrad", 0.01), ("adam", 1e-3)):
        left = SGDRegressor(optimizer=rule, **chosen).fit(X, y)
        given = SGDRegressor(optimizer=rule, learning_rate="constant", eta0=rate, **chosen)
        np.testing.assert_array_equal(left.coef_, given.fit(X, y).coef_)


def test_rate_of_an_epoch_by_a_callable():
    X, y = problem(n=40)
    epochs = []

    def rate(epoch):
        epochs.append(epoch)
        return 0.1 / (1 + epoch)

    chosen = {"shuffle": False, "tol": None, "batch_size": 8}
    model = SGDRegressor(learning_rate=rate, max_iter=3, **chosen).fit(X, y)
    assert epochs == [0, 1, 2]
    steps = SGDRegressor(learning_rate="constant", **chosen)
    for epoch in range(3):
        steps.set_params(eta0=0.1 / (1 + epoch)).partial_fit(X, y)
    np.testing.assert_allclose(model.coef_, steps.coef_, rtol=1e-12)
    for bad in (-1.0, math.nan, math.inf, "fast", None):
        with pytest.raises(ValueError, match=r"learning_rate\(0\) must be a number"):
            SGDRegressor(learning_rate=lambda epoch, bad=bad: bad).fit(X, y)


def test_schedule_instances_have_their_own_parameters():
    X, y = problem()
    chosen = {"shuffle": False, "tol": None, "max_iter": 3, "eta0": 0.1}
    by_name = SGDRegressor(learning_rate="invscaling", power_t=0.4, **chosen).fit(X, y)
    instance = optimizers.InvScaling(power_t=0.4)
    by_instance = SGDRegressor(learning_rate=instance, **chosen).fit(X, y)
    np.testing.assert_array_equal(by_name.coef_, by_instance.coef_)


@pytest.mark.parametrize("epochs", [1, 2, 3, 7])
@pytest.mark.parametrize("name", optimizers.SCHEDULES)
def test_rates_are_positive_and_finite_to_the_end_and_beyond(name, epochs):
    schedule = optimizers.SCHEDULES[name]()
    t = np.arange(1.0, 2 * epochs + 1.0)
    rates = schedule.rates(t, Course(0.1, 0.01, epochs, 1))
    assert np.isfinite(rates).all()
    assert (rates[:epochs] > 0.0).all()
    if name in ("cosine", "one_cycle"):
        np.testing.assert_array_equal(rates[epochs:], rates[-1])
        assert rates.max() <= 0.1


# ------------------------------------------------------------------- state that is kept


@pytest.mark.parametrize("average", [False, 10])
@pytest.mark.parametrize("schedule", ["constant", "one_cycle", "step"])
@pytest.mark.parametrize("rule", optimizers.OPTIMIZERS)
def test_partial_fits_are_a_fit(rule, schedule, average):
    """Moments, counts of updates, schedule and average are kept between calls."""
    X, y = problem(n=60)
    model = SGDRegressor(
        optimizer=rule, learning_rate=schedule, eta0=0.05, batch_size=7, shuffle=False, tol=None,
        max_iter=12, clip_norm=2.0, average=average,
    )  # fmt: skip
    whole, parts = clone(model).fit(X, y), clone(model)
    for _ in range(12):
        parts.partial_fit(X, y)
        parts = pickle.loads(pickle.dumps(parts))
    np.testing.assert_allclose(parts.coef_, whole.coef_, rtol=1e-10)
    np.testing.assert_allclose(parts.intercept_, whole.intercept_, rtol=1e-10)


@pytest.mark.parametrize("rule", ["momentum", "adam"])
def test_moments_go_on_with_warm_start_but_not_from_a_given_start(rule):
    X, y = problem(n=60)
    model = SGDRegressor(
        optimizer=rule, eta0=0.02, batch_size=8, shuffle=False, tol=None, max_iter=4,
        warm_start=True,
    )  # fmt: skip
    whole = clone(model).set_params(max_iter=8).fit(X, y)
    halves = clone(model).fit(X, y)
    fresh = clone(halves).fit(X, y, coef_init=halves.coef_, intercept_init=halves.intercept_)
    halves.fit(X, y)
    np.testing.assert_allclose(halves.coef_, whole.coef_, rtol=1e-10)
    assert np.abs(fresh.coef_ - whole.coef_).max() > 1e-6


@pytest.mark.parametrize("rule", ["SGD", "Momentum", "Adam"])
def test_gradients_whose_squares_overflow_are_clipped(kernels, rule):
    """With X times c and a norm of 1/c, weights are those of X over c, beyond 1e154 as below."""
    X, y, s = (RECORDED[part] for part in "Xys")

    def path(exponent, as_rows, updates=(1, 3, 8)):
        scale = 2.0**exponent
        case = record.CASES["momentum, clipped"]._replace(
            ours=(rule, {}), clip_norm=0.7 if rule == "Adam" else 0.7 / scale
        )
        rows = as_rows(X * scale)
        found = our_trajectory(kernels, case, rows, y, s, updates)
        return found if rule == "Adam" else found * scale

    for as_rows in (np.asarray, as_csr):
        updates = (1,) if rule == "Adam" else (1, 3, 8)  # Adam's steps depend on the scale of g
        far, near = path(600, as_rows, updates), path(100, as_rows, updates)
        np.testing.assert_allclose(far[:, :-1], near[:, :-1], rtol=1e-12)
        assert np.abs(near).max() > 1e-3
        with np.errstate(over="ignore", invalid="ignore"):
            assert np.isnan(path(1023, as_rows, (1,))).any()  # the gradient itself overflows


def test_another_optimizer_begins_anew():
    X, y = problem()
    model = SGDRegressor(optimizer="adam", eta0=0.05, batch_size=8, random_state=0)
    for rule in ("adam", "momentum", "sgd", "adagrad", "adam", "rmsprop"):
        model.set_params(optimizer=rule).partial_fit(X, y)
        assert np.isfinite(model.coef_).all()
    model.set_params(optimizer="sgd", eta0=None, learning_rate="auto").partial_fit(X, y)
    assert model.score(X, y) > 0.9


def test_float32_then_float64_goes_on():
    X, y = problem()
    model = SGDRegressor(optimizer="adam", eta0=0.05, batch_size=8)
    model.partial_fit(X.astype(np.float32), y).partial_fit(X, y)
    assert model.coef_.dtype == np.float64


@pytest.mark.parametrize("rule", optimizers.OPTIMIZERS)
def test_l1_gives_exact_zeros(rule):
    X, y = problem(n=400, d=8)
    y = X[:, :2] @ [3.0, -2.0] + 0.01 * y
    rate = {"adagrad": 0.5, "rmsprop": 0.02}.get(rule, 0.05 if "adam" in rule else 0.01)
    model = SGDRegressor(
        optimizer=rule, learning_rate="invscaling", eta0=rate, penalty="l1", alpha=0.3,
        batch_size=50, tol=None, max_iter=100, random_state=0,
    ).fit(X, y)  # fmt: skip
    assert (model.coef_[2:] == 0.0).all()
    assert (np.abs(model.coef_[:2]) > 1.0).all()


def test_calls_are_short_where_each_update_takes_all_features():
    """Rows have 3 numbers in 20,000 columns: a kernel call ends after 2^26 / 20,000 updates."""
    X = as_csr(sp.random(5000, 20_000, density=1e-4, random_state=0))
    y = np.zeros((5000, 1))
    rows = [part.n_rows for part in plain_descent.chunks(X, y, None, None, 1, dense_updates=True)]
    assert sum(rows) == 5000
    assert max(rows) * 20_000 <= plain_descent.CALL_NUMBERS
    assert len(list(plain_descent.chunks(X, y, None, None, 1))) == 1


# ------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"optimizer": "newton"}, "optimizer must be one of 'sgd', 'momentum'"),
        ({"optimizer": None}, "optimizer must be one of"),
        ({"optimizer": optimizers.Adam}, "optimizer must be one of"),
        ({"optimizer": optimizers.Adam(beta1=1.0)}, "beta1 must be below 1"),
        ({"optimizer": optimizers.Adam(beta2=-0.1)}, "beta2 must be a number in"),
        ({"optimizer": optimizers.Adam(eps=0.0)}, "eps must be a number in"),
        ({"optimizer": optimizers.Momentum("big")}, "momentum must be a number in"),
        ({"optimizer": optimizers.RMSprop(rho=math.nan)}, "rho must be a number in"),
        ({"learning_rate": "warm"}, "learning_rate must be one of 'auto', 'constant'"),
        ({"learning_rate": optimizers.OneCycle(pct_start=2.0)}, "pct_start must be a number in"),
        ({"learning_rate": optimizers.StepDecay(step_size=0)}, "step_size must be a whole"),
        ({"learning_rate": optimizers.Cosine(eta_min=-1.0)}, "eta_min must be a number in"),
        ({"clip_norm": 1.0}, "clip_norm=1.0 needs an optimizer or a learning_rate"),
        ({"clip_norm": 0.0, "eta0": 0.1}, "clip_norm must be a number in"),
        ({"clip_norm": math.inf, "eta0": 0.1}, "clip_norm must be a number in"),
        ({"clip_norm": "tight", "optimizer": "adam"}, "clip_norm must be a number in"),
        ({"optimizer": "adam", "learning_rate": "optimal"}, "for optimizer='sgd' alone"),
    ],
)
def test_bad_parameters(chosen, message):
    X, y = problem(n=10)
    for call in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match=message):
            getattr(SGDRegressor(**chosen), call)(X, y)


def test_divergence_names_the_optimizer():
    X, y = problem()
    model = SGDRegressor(optimizer="momentum", eta0=5.0, max_iter=20, random_state=0)
    with pytest.raises(ValueError, match="optimizer='momentum', learning_rate='constant', eta0=5"):
        model.fit(X * 10, y)


@pytest.mark.parametrize("max_iter", [1, 4])
@pytest.mark.parametrize("rule", ["rmsprop", "adagrad", "adam", "adamw"])
def test_gradients_whose_squares_overflow_are_refused(backend, rule, max_iter):
    X, y = problem()
    chosen = {"optimizer": rule, "eta0": 1e37, "max_iter": max_iter, "tol": None}
    model = SGDRegressor(**chosen, backend=backend[0])
    for heard in ({}, {"callback": lambda report: False}):  # several epochs per call, and one
        with pytest.raises(ValueError, match="diverges with optimizer"):
            model.fit(X * 1e60, y * 1e100, **heard)
    with pytest.raises(ValueError, match="diverges with optimizer"):
        model.partial_fit(X * 1e60, y * 1e100)
