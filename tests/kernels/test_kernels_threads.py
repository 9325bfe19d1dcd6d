"""Kernels in several threads and processes: their bits, and callers at the same time."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import ON_PTX_MACHINE, SIMULATED
from test_kernels import all_kernels, make_problem, too_much_to_simulate

from fastlsgd.kernels import load_backend, reference


def assert_same_bits(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


# Enough for several threads. The emulator of a GPU takes a second and more for a thousand rows.
ROWS = 24 if SIMULATED else 300 if ON_PTX_MACHINE else 12_000


@pytest.fixture(scope="module", params=["C", "F", np.int32], ids=str)
def threaded_problem(request, kernels):
    """A problem that is large enough for several threads."""
    if kernels is reference:
        pytest.skip("the reference has no threads of its own")
    density = 0.4 if request.param is np.int32 else 1.0
    return make_problem(0, ROWS, 40, 2, np.float32, request.param, density=density)


@pytest.mark.parametrize("n_threads", [1, 2, 3, 4])
def test_bit_identical_for_as_many_threads(kernels, threaded_problem, n_threads):
    first = all_kernels(kernels, threaded_problem, n_threads)
    for _ in range(3):
        assert_same_bits(all_kernels(kernels, threaded_problem, n_threads), first)


def test_threads_differ_by_rounding_alone(kernels, threaded_problem):
    X, y, w, b, s = threaded_problem
    one, four = (kernels.loss_gradient(X, y, w, b, s, n_threads) for n_threads in (1, 4))
    for actual, expected in zip(four, one, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)


def test_concurrent_callers(kernels, threaded_problem):
    expected = all_kernels(kernels, threaded_problem, 2)
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(all_kernels, kernels, threaded_problem, 2) for _ in range(16)]
        for call in calls:
            assert_same_bits(call.result(timeout=120), expected)


def kernels_in_a_child(backend, problem):
    name, isa = backend
    kernels = load_backend(name)
    if isa is not None:
        kernels.set_isa(isa)
    return all_kernels(kernels, problem, 2)


@too_much_to_simulate
@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_worker_processes(kernels, backend, method):
    """Kernels work in child processes, with and without threads, after the parent used threads."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    if backend[0] == "cuda" and method == "fork":
        pytest.skip("CUDA does not work in a child that was forked from a process that uses it")
    problem = make_problem(0, ROWS, 40, 2, np.float32)
    expected = all_kernels(kernels, problem, 2)
    with multiprocessing.get_context(method).Pool(2) as pool:
        calls = [pool.apply_async(kernels_in_a_child, (backend, problem)) for _ in range(4)]
        for call in calls:
            for actual, wanted in zip(call.get(timeout=120), expected, strict=True):
                np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-5)
