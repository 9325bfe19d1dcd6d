"""What a call costs where there is next to nothing to compute: loss_gradient on 100 x 10."""

import arrays
import peers
import pytest
from checks import check_gradient

from fastlsgd.kernels import load_backend

BACKENDS = ("native", "numba", "reference")
LIBRARIES = (*BACKENDS, *peers.GRADIENTS)


def _time(benchmark, call, problem, *, exact):
    """Calibrated by pytest-benchmark: one call is shorter than a clock's tick."""
    check_gradient(call(), problem, exact=exact)
    benchmark(call)


@pytest.mark.benchmark(max_time=0.3)
@pytest.mark.parametrize("library", LIBRARIES)
def bench_public_call(dtype, library, benchmark):
    """fastlsgd.loss_gradient, its checks included, and the peers, which have none."""
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
    """The lower-level entry: a backend's own function, on arrays shaped as the contract says."""
    problem = arrays.dense(100, 10, dtype)
    benchmark.group = f"kernel loss_gradient, 100 x 10, {dtype}"
    X, y, w, b = problem.arguments()
    kernel = load_backend(backend).loss_gradient
    _time(benchmark, lambda: kernel(X, y, w, b, None, 1), problem, exact=True)
