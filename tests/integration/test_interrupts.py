"""Ctrl-C takes effect at once, however long LAPACK or a kernel would still run."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import numpy as np
import pytest

import fastlsgd
from fastlsgd import LeastSquaresRegressor, SGDClassifier, SGDRegressor, _threads
from fastlsgd.kernels import reference
from fastlsgd.linear_model import _base
from fastlsgd.solvers import factors, interrupt, plain_descent

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

HANG = 60.0  # seconds of a slow call unless its test ends; no load delays a response so long


@pytest.fixture
def interrupted_after():
    """Send Ctrl-C after a delay in seconds; KeyboardInterrupt must come before the call's end."""

    def interrupted(call, seconds=0.3):
        sent = []

        def send():
            sent.append(time.perf_counter())
            os.kill(os.getpid(), signal.SIGINT)

        timer = threading.Timer(seconds, send)
        timer.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                call()
            assert time.perf_counter() - sent[0] < 0.5 * HANG
        finally:
            timer.cancel()
            timer.join()

    return interrupted


@pytest.fixture
def test_is_over():
    """An event for which slow calls wait, so that none outlives its test."""
    over = threading.Event()
    yield over
    over.set()


def slow(function, test_is_over):
    """`function` after a wait without the GIL, longer than LAPACK takes on many columns."""

    def waits(*args, **kwargs):
        if not test_is_over.wait(HANG):  # or it would allocate in the middle of the next test
            return function(*args, **kwargs)
        return None

    return waits


def test_a_long_call_is_left_to_itself(interrupted_after, test_is_over):
    interrupted_after(lambda: interrupt.interruptible(test_is_over.wait, HANG))


def test_a_compilation_is_left_to_itself(interrupted_after, test_is_over, monkeypatch):
    compiling = pytest.importorskip("fastlsgd.kernels.numba_cpu.compile")
    kernel, threads = compiling.Kernel(len, list), []

    def compiled(dtypes):
        threads.append(threading.current_thread())
        test_is_over.wait(HANG)
        return len

    monkeypatch.setattr(kernel, "_compile", compiled)
    interrupted_after(lambda: kernel[np.dtype(np.float64)])
    assert threads != [threading.main_thread()]
    test_is_over.set()
    assert kernel[np.dtype(np.float64)] is len
    assert len(threads) == 1


def test_what_a_long_call_returns_and_raises():
    assert interrupt.interruptible(lambda a, b: a + b, 1, b=2) == 3
    with pytest.raises(ZeroDivisionError):
        interrupt.interruptible(lambda: 1 / 0)


def test_a_long_call_has_the_settings_of_its_caller():
    def seen():
        return np.geterr()["over"], fastlsgd.get_config()["backend"]

    with np.errstate(over="raise"), fastlsgd.config_context(backend="reference"):
        assert interrupt.interruptible(seen) == ("raise", "reference")


def test_no_thread_for_a_short_call(monkeypatch):
    monkeypatch.setattr(_threads, "start_thread", None)
    X = np.random.default_rng(0).normal(size=(300, 30))
    fastlsgd.gram(X)
    LeastSquaresRegressor().fit(X, X[:, 0])


@pytest.mark.parametrize("solver", ["gram", "nesterov"])
@pytest.mark.parametrize("warm_start", [False, True])
def test_an_interrupted_fit_leaves_the_estimator_as_it_was(
    solver, warm_start, interrupted_after, test_is_over, monkeypatch
):
    X = np.random.default_rng(0).normal(size=(200, 5))
    model = LeastSquaresRegressor(solver=solver, warm_start=warm_start, backend="reference")
    model.fit(X, X[:, 0])
    before = dict(vars(model))
    values = {k: v.copy() for k, v in before.items() if isinstance(v, np.ndarray)}
    monkeypatch.setattr(interrupt, "LONG_WORK", 0.0)
    monkeypatch.setattr(reference, "loss_gradient", slow(reference.loss_gradient, test_is_over))
    interrupted_after(lambda: model.fit(2.0 * X, X[:, 1]))
    assert vars(model) is not before
    assert vars(model).keys() == before.keys()
    assert all(vars(model)[name] is value for name, value in before.items())
    assert all(np.array_equal(before[name], value) for name, value in values.items())


@pytest.mark.parametrize(
    ("call", "n"),
    [
        (lambda A, R: np.linalg.cholesky(A), 1500),
        (lambda A, R: np.linalg.svd(R), 250),
        (lambda A, R: np.linalg.eigh(A), 250),
        (lambda A, R: np.linalg.qr(R), 500),
        (lambda A, R: A @ R, 1000),
    ],
    ids=["cholesky", "svd", "eigh", "qr", "matmul"],
)
def test_numpy_releases_the_gil(call, n):
    """If it did not, a separate thread would not help: it would get one turn per call, not four."""
    rng = np.random.default_rng(0)
    R = rng.normal(size=(n, n))
    A = R @ R.T + np.eye(n)
    stop, turns, during_a_call = threading.Event(), [0], 0

    def take_turns():
        while not stop.wait(0.0005):
            turns[0] += 1

    other = threading.Thread(target=take_turns)
    other.start()
    start = time.perf_counter()
    while during_a_call < 4 and time.perf_counter() - start < HANG:
        before = turns[0]
        call(A, R)
        during_a_call = turns[0] - before
    stop.set()
    other.join()
    assert during_a_call >= 4


@pytest.mark.parametrize("d", [50, factors.LONG])
def test_factors_are_the_same_by_either_way(d, monkeypatch):
    rng = np.random.default_rng(0)
    G = rng.normal(size=(2 * d, d))
    A = G.T @ G
    R = factors.upper_of(A.copy())
    assert np.abs(R.T @ R - A).max() < 1e-12 * np.abs(A).max() * d
    assert not np.tril(R, -1).any()
    assert factors.upper_of(-A) is None
    B = rng.normal(size=(d, 30))
    expected = [factors.solve_upper(R, B, trans=trans) for trans in "NT"]
    monkeypatch.setattr(factors, "LONG_WORK", 7.0 * d * d)
    for trans, whole in zip("NT", expected, strict=True):
        assert np.allclose(factors.solve_upper(R, B, trans=trans), whole, rtol=1e-12)


def fitted(kind, X):
    model = kind(backend="reference")
    model.coef_, model.intercept_ = np.ones((1, X.shape[1])), np.zeros(1)
    model.classes_, model.n_features_in_ = np.array([False, True]), X.shape[1]
    return model


CONSTANT = {"learning_rate": "constant", "eta0": 1e-3, "backend": "reference"}
LONG_READS = {
    "predict": lambda X, y: fitted(LeastSquaresRegressor, X).predict(X),
    "score": lambda X, y: fitted(LeastSquaresRegressor, X).score(X, y),
    "decision_function": lambda X, y: fitted(SGDClassifier, X).decision_function(X),
    "accuracy": lambda X, y: fitted(SGDClassifier, X).score(X, y > 0),
    "finite": lambda X, y: SGDRegressor(backend="reference").fit(X, y),
    "partial_fit": lambda X, y: SGDRegressor(backend="reference").partial_fit(X, y),
    "sizes of rows": lambda X, y: LeastSquaresRegressor(solver="cg", backend="reference").fit(X, y),
    "one batch": lambda X, y: SGDRegressor(batch_size=len(X), **CONSTANT).fit(X, y),
    "function": lambda X, y: fastlsgd.predict(X, X[0], backend="reference"),
}


@pytest.mark.parametrize("call", LONG_READS.values(), ids=LONG_READS)
def test_a_long_read_of_x_is_left_to_itself(call, monkeypatch):
    X = np.random.default_rng(0).normal(size=(300, 5))
    monkeypatch.setattr(interrupt, "LONG_READ", 0.0)
    monkeypatch.setattr(_base, "FEW_LOOKED_AT", 0)  # few numbers are not left to kernels
    monkeypatch.setattr(plain_descent, "EPOCHS_NUMBERS", 0)  # nor are they visited in one call
    callers = []

    def watched(function):
        def called(A, *args):
            if np.shares_memory(A, X):  # chunks of rows in other coordinates are short
                callers.append(threading.current_thread())
            return function(A, *args)

        return called

    for name in ("loss_gradient", "gram", "predict", "sgd_epoch"):
        monkeypatch.setattr(reference, name, watched(getattr(reference, name)))
    call(X, X[:, 0] + X[:, 1])
    assert callers
    assert threading.main_thread() not in callers
