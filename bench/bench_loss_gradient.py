"""The full-batch gradient: the public call of fastlsgd, and the calls that it replaces."""

import arrays
import peers
import pytest
from checks import check_gradient

BACKENDS = ("native", "numba")
LIBRARIES = (*BACKENDS, *peers.GRADIENTS)


def _compare(library, problem, measure, group):
    measure(
        lambda: peers.gradient(library, problem),
        lambda result: check_gradient(result, problem, exact=library in BACKENDS),
        problem,
        f"loss_gradient, {group}",
    )


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("d", [8, 10, 100, 256, 1000, 4096], ids="d{}".format)
def bench_loss_gradient(d, dtype, library, x_bytes, measure):
    problem = arrays.dense_of_bytes(x_bytes, d, dtype)
    _compare(library, problem, measure, f"d={d}")


# JAX has no strides, and would get a C-ordered copy.
@pytest.mark.parametrize("library", [*BACKENDS, "numpy", "torch"])
@pytest.mark.parametrize("layout", arrays.LAYOUTS[1:])
def bench_loss_gradient_layout(layout, dtype, library, x_bytes, measure):
    problem = arrays.dense_of_bytes(x_bytes, 100, dtype, layout)
    _compare(library, problem, measure, f"d=100, {layout}")


@pytest.mark.parametrize("library", LIBRARIES)
def bench_loss_gradient_10_targets(dtype, library, x_bytes, measure):
    problem = arrays.dense_of_bytes(x_bytes, 100, dtype, n_targets=10)
    _compare(library, problem, measure, "d=100, 10 targets")
