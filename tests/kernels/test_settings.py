"""The settings and the dispatcher: which setting wins, and what is installed."""

from __future__ import annotations

import asyncio
import threading

import pytest
from test_functional import CALLS, problem, with_any

import fastlsgd
from fastlsgd import kernels as dispatcher
from fastlsgd.kernels import contract

# --------------------------------------------------------------------------- who decides


@pytest.fixture
def used(monkeypatch):
    """The names of the backends that are called; all backends are made to exist."""
    names = []

    def load(name):
        names.append("native" if name == "auto" else name)
        return dispatcher._import_backend("reference")

    monkeypatch.setattr(dispatcher, "load_backend", load)
    monkeypatch.delenv("FASTLSGD_BACKEND", raising=False)
    monkeypatch.delenv("FASTLSGD_NUM_THREADS", raising=False)
    return names


@pytest.fixture(autouse=True)
def settings_as_they_were():
    with fastlsgd.config_context():
        yield


def test_environment_then_config_then_argument(used, monkeypatch):
    X, y, w, _ = problem()

    def backend_of_a_call(**more):
        used.clear()
        fastlsgd.loss_gradient(X, y, w, **more)
        return used[-1]

    assert backend_of_a_call() == "native"
    monkeypatch.setenv("FASTLSGD_BACKEND", "numba")
    assert backend_of_a_call() == "numba"
    fastlsgd.set_config(backend="reference")
    assert backend_of_a_call() == "reference"
    assert backend_of_a_call(backend="native") == "native"
    with fastlsgd.config_context(backend="native"):
        assert backend_of_a_call() == "native"
        assert backend_of_a_call(backend="numba") == "numba"
    assert backend_of_a_call() == "reference"
    fastlsgd.set_config(backend=None)
    assert backend_of_a_call() == "numba"
    monkeypatch.setenv("FASTLSGD_BACKEND", "")
    assert backend_of_a_call() == "native"


def test_threads_of_environment_and_config(monkeypatch):
    monkeypatch.setattr(dispatcher, "usable_processors", lambda: 8)
    monkeypatch.delenv("FASTLSGD_NUM_THREADS", raising=False)
    assert fastlsgd.get_config()["n_threads"] is None
    assert dispatcher.resolve_threads() >= 1
    monkeypatch.setenv("FASTLSGD_NUM_THREADS", "3")
    assert dispatcher.resolve_threads() == 3
    fastlsgd.set_config(n_threads=2)
    assert dispatcher.resolve_threads() == 2
    assert dispatcher.resolve_threads(5) == 5
    fastlsgd.set_config(n_threads=None)
    assert dispatcher.resolve_threads() == 3


def test_threads_reach_the_kernel(monkeypatch):
    X, y, w, _ = problem()
    seen = []
    reference = dispatcher._import_backend("reference")
    kernel = reference.loss_gradient
    monkeypatch.setattr(dispatcher, "usable_processors", lambda: 8)
    monkeypatch.setattr(reference, "loss_gradient", lambda *a: seen.append(a[-1]) or kernel(*a))
    with fastlsgd.config_context(n_threads=7):
        fastlsgd.loss_gradient(X, y, w, backend="reference")
    assert seen == [7]


def test_bad_settings():
    before = fastlsgd.get_config()
    for value in ("fortran", 1, "Native"):
        with pytest.raises(ValueError, match="backend must be one of"):
            fastlsgd.set_config(backend=value)
        with (
            pytest.raises(ValueError, match="backend must be one of"),
            fastlsgd.config_context(backend=value, n_threads=1),
        ):
            pass
    for value in (0, -1, 1.5, "2", True):
        with pytest.raises(ValueError, match="n_threads must be None or a whole number >= 1"):
            fastlsgd.set_config(backend="reference", n_threads=value)
    with pytest.raises(TypeError):
        fastlsgd.set_config("reference")
    assert fastlsgd.get_config() == before


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("FASTLSGD_BACKEND", "fortran", "FASTLSGD_BACKEND must be one of .* got 'fortran'"),
        ("FASTLSGD_NUM_THREADS", "many", "FASTLSGD_NUM_THREADS must be .* got 'many'"),
        ("FASTLSGD_NUM_THREADS", "0", "FASTLSGD_NUM_THREADS must be .* got 0"),
        ("FASTLSGD_NUM_THREADS", "-2", "FASTLSGD_NUM_THREADS must be"),
        ("FASTLSGD_NUM_THREADS", "1.5", "FASTLSGD_NUM_THREADS must be"),
    ],
)
def test_bad_environment(monkeypatch, variable, value, message):
    X, y, w, _ = problem()
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=message):
        fastlsgd.get_config()
    with pytest.raises(ValueError, match=message):
        fastlsgd.loss_gradient(X, y, w)


def test_context_is_left_after_an_error():
    before = fastlsgd.get_config()
    with pytest.raises(ZeroDivisionError), fastlsgd.config_context(backend="reference"):
        raise ZeroDivisionError
    assert fastlsgd.get_config() == before


def test_settings_are_of_a_thread():
    fastlsgd.set_config(backend="reference", n_threads=3)
    seen = {}

    def other():
        seen["at first"] = fastlsgd.get_config()["n_threads"]
        fastlsgd.set_config(n_threads=2)
        seen["then"] = fastlsgd.get_config()["n_threads"]

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen["then"] == 2
    assert fastlsgd.get_config()["n_threads"] == 3


def test_settings_are_of_a_task():
    async def task(n_threads):
        with fastlsgd.config_context(n_threads=n_threads):
            await asyncio.sleep(0.01)
            return fastlsgd.get_config()["n_threads"]

    async def tasks():
        return await asyncio.gather(*(task(n) for n in (1, 2, 3)))

    assert asyncio.run(tasks()) == [1, 2, 3]


# --------------------------------------------------------------------- what is installed


@pytest.fixture
def missing(monkeypatch):
    """The state in which native and numba can't be imported."""
    for name in ("native", "numba"):
        line = dispatcher.BACKENDS[name]
        monkeypatch.setitem(
            dispatcher.BACKENDS, name, line._replace(module=f"fastlsgd.kernels.no_{name}")
        )
    dispatcher._import_backend.cache_clear()
    yield
    dispatcher._import_backend.cache_clear()


@with_any
def test_a_missing_backend_says_what_to_install(missing, name):
    X, y, w, _ = problem()
    with pytest.raises(ImportError, match=r"'numba' is not available .* pip install numba"):
        CALLS[name](X, y, w, backend="numba")
    with pytest.raises(ImportError, match=r"'native' is not available .* C compiler"):
        fastlsgd.set_config(backend="native")
    assert fastlsgd.get_config()["backend"] != "native"


def test_auto_takes_the_first_that_is_there(missing, monkeypatch):
    with pytest.warns(RuntimeWarning, match="slower backend 'reference': native is not available"):
        assert dispatcher.load_backend("auto").__name__ == "fastlsgd.kernels.reference"
    status = fastlsgd.available_backends()
    assert list(status) == ["native", "numba", "reference", "cuda"]
    assert status["reference"] == "available"
    assert "pip install numba" in status["numba"]


def test_each_backend_that_is_there_has_the_contract():
    for name, status in fastlsgd.available_backends().items():
        if status == "available":
            module = dispatcher.load_backend(name)
            for kernel in ("loss_gradient", "sgd_epoch", "gram", "predict", "isa"):
                assert callable(getattr(module, kernel)), (name, kernel)
    assert contract.rows_per_group(1) == contract.GROUP_ROWS
