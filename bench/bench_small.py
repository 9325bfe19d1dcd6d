"""The overhead of a call: loss_gradient on 100 x 10, where there is little to compute."""

import arrays
import peers
import pytest
from checks import check_gradient

from fastlsgd.kernels import load_backend

BACKENDS = ("native", "numba", "reference")
LIBRARIES = (*BACKENDS, *peers.GRADIENTS)


def _time(benchmark, call, problem, *, exact):
    """Time a call, repeated as pytest-benchmark decides: it is shorter than a clock tick."""
    check_gradient(call(), problem, exact=exact)
    benchmark(call)


@pytest.mark.benchmark(max_time=0.3)
@pytest.mark.parametrize("library", LIBRARIES)
def bench_public_call(dtype, library, benchmark):
    """fastlsgd.loss_gradient with its checks, and the peers, which have none."""
    problem = arrays.dense(100, 10, dtype)
    benchmark.group = f"loss_gradient, 100 x 10, {dtype}"
    try:
        call = peers.gradient(library, problem)
    except peers.NotInstalled as missing:
        pytest.skip(str(missing))
    _time(benchmark, call, problem, exact=library in BACKENDS)


@pytest.mark.benchmark(max_time=0.3)
@pytest.mark.parametrize("backend", BACKENDS)
def bench_kernel_call(dtype, backend, benchmark):
    """The function of a backend itself, on arrays of the shapes that the contract requires."""
    problem = arrays.dense(100, 10, dtype)
    benchmark.group = f"kernel loss_gradient, 100 x 10, {dtype}"
    X, y, w, b = problem.arguments()
    kernel = load_backend(backend).loss_gradient
    _time(benchmark, lambda: kernel(X, y, w, b, None, 1), problem, exact=True)
