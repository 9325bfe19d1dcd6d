"""Threads in extreme cases: too many, none available, forks, and settings that they inherit."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import sklearn

import fastlsgd
from fastlsgd import LeastSquaresRegressor, _threads
from fastlsgd import kernels as dispatcher
from fastlsgd.kernels import reference
from fastlsgd.solvers import orthogonal
from fastlsgd.solvers.system import System
from fastlsgd.streaming.prefetch import prefetched

LINUX = sys.platform.startswith("linux")


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


# ------------------------------------------------------------------- more than processors


@pytest.mark.parametrize("n_threads", [10**6, 10**11, 10**30])
def test_no_more_threads_than_processors(n_threads, monkeypatch):
    usable = dispatcher.usable_processors()
    assert dispatcher.resolve_threads(n_threads) == usable
    with fastlsgd.config_context(n_threads=n_threads):
        assert dispatcher.resolve_threads() == usable
        assert dispatcher.resolve()[1] == usable
        assert fastlsgd.get_config()["n_threads"] == n_threads
    monkeypatch.setenv("FASTLSGD_NUM_THREADS", str(n_threads))
    assert dispatcher.resolve_threads() == usable


@pytest.mark.parametrize("backend", ["native", "numba", "reference"])
def test_huge_n_jobs(backend):
    X = np.random.default_rng(0).normal(size=(500, 40))
    for n_jobs in (10**11, -(10**11)):
        model = LeastSquaresRegressor(n_jobs=n_jobs, backend=backend).fit(X, X[:, 0])
        assert np.abs(model.coef_ - np.eye(40)[0]).max() < 1e-9


def test_quota_of_a_control_group(tmp_path):
    def share(text):
        (tmp_path / "cpu.max").write_text(text)
        return _threads._share(tmp_path / "cpu.max")

    assert share("150000 100000\n") == 2
    assert share("10000 100000\n") == 1
    assert share("max 100000\n") == sys.maxsize
    assert share("-1 100000\n") == sys.maxsize
    assert _threads._share(tmp_path / "missing") == sys.maxsize


# ------------------------------------------------------------------ what threads inherit


def test_another_thread_takes_the_settings_along():
    def seen():
        return (
            fastlsgd.get_config(),
            np.geterr()["over"],
            sklearn.get_config()["assume_finite"],
        )

    with (
        fastlsgd.config_context(backend="reference", n_threads=3),
        np.errstate(over="raise"),
        sklearn.config_context(assume_finite=True),
        ThreadPoolExecutor(2) as pool,
    ):
        call = _threads.carried(seen)
        here = seen()
        assert [future.result() for future in [pool.submit(call) for _ in range(4)]] == [here] * 4
        assert pool.submit(seen).result() != here


def test_limit_of_threadpoolctl_holds_in_another_thread():
    native = pytest.importorskip("fastlsgd.kernels.native")
    threadpoolctl = pytest.importorskip("threadpoolctl")
    with threadpoolctl.threadpool_limits(1, "openmp"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(_threads.carried(native.max_threads)).result() == 1


# ------------------------------------------------------------------- where none can start


def refuses(function, args):
    raise RuntimeError("can't start new thread")


def dies(function, args):
    """A thread that has no memory for its first step: threading.Thread.start waits for ever."""


@pytest.mark.parametrize("start", [refuses, dies])
def test_work_is_done_where_threads_do_not_start(start, monkeypatch):
    monkeypatch.setattr(_threads._thread, "start_new_thread", start)
    monkeypatch.setattr(_threads, "START_SECONDS", 0.01)
    assert _threads.call_all([lambda k=k: k for k in range(5)]) == list(range(5))
    assert _threads.interruptible(lambda a: a + 1, a=2) == 3
    assert list(prefetched(iter(range(5)))) == list(range(5))


def test_folds_of_sgd_where_threads_do_not_start(monkeypatch):
    X = np.random.default_rng(0).normal(size=(60, 3))
    models = [
        fastlsgd.SGDRegressorCV(fastlsgd.SGDRegressor(random_state=0), alphas=[1.0, 0.1], cv=3)
        for _ in range(2)
    ]
    expected = models[0].fit(X, X[:, 0])
    monkeypatch.setattr(_threads._thread, "start_new_thread", refuses)
    monkeypatch.setattr(threading.Thread, "start", lambda thread: refuses(None, ()))
    found = models[1].set_params(n_jobs=2).fit(X, X[:, 0])
    assert found.alpha_ == expected.alpha_
    assert np.allclose(found.coef_, expected.coef_, rtol=1e-12)


def test_a_pool_has_no_more_threads_than_processors():
    for _ in range(3):
        assert _threads.call_all([lambda k=k: k for k in range(200)]) == list(range(200))
    assert _threads._pool._running <= os.cpu_count()


def test_an_error_in_one_call_is_raised_when_all_have_ended():
    ended = []

    def fails():
        raise ZeroDivisionError

    for calls in ([fails, lambda: ended.append(1)], [lambda: ended.append(1), fails]):
        with pytest.raises(ZeroDivisionError):
            _threads.call_all(calls)


@pytest.mark.skipif(not LINUX, reason="limits of Linux")
@pytest.mark.parametrize("limit", ["RLIMIT_NPROC", "RLIMIT_AS"])
@pytest.mark.parametrize("backend", ["native", "numba"])
def test_fewer_threads_than_asked_for(backend, limit):
    """A user may have too many processes already, or a process no memory for a stack."""
    if dispatcher.available_backends()[backend] != "available":
        pytest.skip(backend)
    result = run_python(
        f"""
        import os, resource
        import numpy as np
        import fastlsgd
        from fastlsgd.kernels import load_backend
        kernels = load_backend({backend!r})
        X = np.random.default_rng(0).normal(size=(8000, 20))
        y = X[:, :1] + 1.0
        w, b = np.zeros((1, 20)), np.zeros(1)

        def solve():
            for solver in ("gram", "sketch", "qr"):
                coef = fastlsgd.lstsq(X, X[:, 0], solver=solver, backend={backend!r})
                assert abs(coef[0] - 1.0) < 1e-12, solver

        solve()  # what OpenBLAS allocates for itself, it does now: later it would try for ever
        expected = kernels.loss_gradient(X, y, w, b, None, 1)
        kernels.gram(X[:100], y[:100], None, None, 1)
        kernels.predict(X[:100], w, b, 1)
        if {limit!r} == "RLIMIT_NPROC":  # of which root knows nothing
            if os.getuid() == 0:
                os.setgroups([]), os.setgid(65534), os.setuid(65534)
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        else:
            pages = int(open("/proc/self/statm").read().split()[0])
            limit = pages * resource.getpagesize() + 2**26  # less than 8 stacks of 8 MB
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        kernels.gram(X, y, None, None, 16)
        kernels.predict(X, w, b, 16)
        for n_threads in (16, 3, 16, 2):
            got = kernels.loss_gradient(X, y, w, b, None, n_threads)
            assert np.abs(got.coef - expected.coef).max() < 1e-12
        solve()
        print("went on")
        """,
        OPENBLAS_NUM_THREADS="1",
        OMP_NUM_THREADS="16",
    )
    assert result.stdout.strip() == "went on", result.stdout + result.stderr


# ------------------------------------------------------------------------------ forks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
@pytest.mark.parametrize("lock", ["ours", "Numba's"])
def test_a_fork_waits_for_a_compilation(lock):
    compiling = pytest.importorskip("fastlsgd.kernels.numba_cpu.compile")
    numbas = pytest.importorskip("numba.core.compiler_lock").global_compiler_lock
    lock = compiling.lock if lock == "ours" else numbas
    held, released = threading.Event(), threading.Event()

    def compile_for_a_while():
        with lock:
            held.set()
            released.wait(0.2)

    thread = threading.Thread(target=compile_for_a_while)
    thread.start()
    held.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about forks of processes with threads
        child = os.fork()
    if child == 0:
        taken = compiling.lock.acquire(timeout=60) and numbas._lock.acquire(timeout=60)
        os._exit(0 if taken else 1)
    released.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert compiling.lock.acquire(timeout=1)  # and nothing has changed in the parent
    compiling.lock.release()


# ------------------------------------------------------------------- bad environments


def test_an_unknown_instruction_set_is_reported():
    result = run_python(
        """
        import numpy as np, fastlsgd
        fastlsgd.show_versions()
        assert "FASTLSGD_ISA" in fastlsgd.available_backends()["native"]
        for backend in ("auto", "native"):
            try:
                fastlsgd.gram(np.eye(2), backend=backend)
            except ValueError as error:
                assert "FASTLSGD_ISA" in str(error) and "nonsense" in str(error)
            else:
                raise AssertionError(backend)
        assert fastlsgd.gram(np.eye(2), backend="reference").weight == 2
        """,
        FASTLSGD_ISA="nonsense",
    )
    assert result.returncode == 0, result.stderr
    assert "in use        error: " in result.stdout
    assert "got 'nonsense'" in result.stdout


# ------------------------------------------------------------------------- sketches


def small_system(n_threads: int, n: int = 3000) -> System:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 12))
    return System(reference, X, X[:, :2] + 1.0, None, fit_intercept=False, n_threads=n_threads)


def test_a_sketch_has_the_same_bits_for_any_number_of_threads():
    expected = orthogonal._mixed_triangle(small_system(1), 3)
    for n_threads in (2, 3, 16):
        assert np.array_equal(orthogonal._mixed_triangle(small_system(n_threads), 3), expected)
    assert not np.array_equal(orthogonal._mixed_triangle(small_system(1), 4), expected)


@pytest.mark.parametrize("block", [orthogonal.MIXED_NUMBERS, 12 * 40])
def test_a_sketch_is_a_good_metric(block, monkeypatch):
    """The metric is good whether blocks have more rows than a part of the sketch, or fewer."""
    monkeypatch.setattr(orthogonal, "MIXED_NUMBERS", block)
    system = small_system(1, 20000)
    sketch = orthogonal.sketch_factor(system, 0)
    whitened = sketch.factor.whiten(sketch.factor.whiten(system.X.T @ system.X).T)
    values = np.linalg.eigvalsh(whitened)
    # 1 / (1 +- sqrt(1 / 32))^2, with a margin since columns are few
    assert values[0] > 0.6
    assert values[-1] < 1.7


@pytest.mark.parametrize("n", [5000, 30000])
def test_memory_of_a_sketch_does_not_grow_with_threads(n):
    d = 100
    X = np.random.default_rng(0).normal(size=(n, d))
    peaks = []
    for n_threads in (1, 32):
        system = System(reference, X, X[:, :1], None, fit_intercept=False, n_threads=n_threads)
        tracemalloc.start()
        orthogonal.sketch_factor(system, 0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    whole = orthogonal.SKETCH_ROWS * d * (d + 1) * 8
    blocks = 8 * max(orthogonal.MIXED_NUMBERS, orthogonal.QR_BLOCK_NUMBERS // 4) * 8
    assert max(peaks) < 2 * whole + blocks


def test_folds_in_threads_have_the_settings(monkeypatch):
    X = np.random.default_rng(0).normal(size=(60, 3))
    seen = set()
    kernel = reference.loss_gradient
    monkeypatch.setattr(reference, "loss_gradient", lambda *a: seen.add("reference") or kernel(*a))
    native = pytest.importorskip("fastlsgd.kernels.native")
    monkeypatch.setattr(native, "loss_gradient", lambda *a: seen.add("native") or kernel(*a))
    with fastlsgd.config_context(backend="reference"):
        fastlsgd.SGDRegressorCV(alphas=[0.1], cv=2, n_jobs=2).fit(X, X[:, 0])
    assert seen == {"reference"}
