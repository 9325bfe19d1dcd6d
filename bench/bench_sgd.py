"""An epoch of stochastic gradient descent, row by row or in mini-batches.

The epoch of scikit-learn is a fit of one epoch without its check of X for NaN. An intercept is
fitted on dense rows only: on CSR scikit-learn multiplies the steps of the intercept by 0.01, so
that weights could not be compared.
"""

import arrays
import numpy as np
import peers
import pytest
from checks import check_epoch
from scipy import sparse

import fastlsgd

BACKENDS = ("native", "numba")


def _own_epoch(problem, backend, *, batch_size=1, order=None, fit_intercept=True):
    """An epoch of fastlsgd by its public function, from zero weights."""
    start = np.zeros_like(problem.coef)

    def call():
        result = fastlsgd.sgd_epoch(
            problem.X, problem.y, start, learning_rate=problem.rate, batch_size=batch_size,
            order=order, alpha=peers.ALPHA, fit_intercept=fit_intercept, backend=backend,
        )  # fmt: skip
        return result.coef

    return call


def _compare(library, problem, measure, group, *, batch_size=1, shuffle=False):
    def epoch(problem, *, shuffle=False, fit_intercept=False):
        if library in BACKENDS:
            rng = np.random.default_rng(0)
            order = rng.permutation(len(problem.y)) if shuffle else None
            return _own_epoch(
                problem, library, batch_size=batch_size, order=order, fit_intercept=fit_intercept
            )
        if library == "torch":
            return peers.torch_epoch(
                problem, shuffle=shuffle, batch_size=batch_size, fit_intercept=fit_intercept
            )
        return peers.sklearn_epoch(problem, shuffle=shuffle, fit_intercept=fit_intercept)

    measure(
        lambda: epoch(problem, shuffle=shuffle, fit_intercept=not sparse.issparse(problem.X)),
        lambda _: check_epoch(epoch, problem, batch_size),
        problem,
        f"sgd_epoch, {group}",
    )


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("library", [*BACKENDS, "scikit-learn"])
@pytest.mark.parametrize("shape", arrays.SGD_SHAPES)
def bench_sgd_batch_1(shape, dtype, library, scale, measure):
    n, d = arrays.SGD_SHAPES[shape]
    _compare(library, arrays.dense(int(n * scale), d, dtype), measure, f"batch 1, d={d}")


@pytest.mark.parametrize("library", BACKENDS)
def bench_sgd_batch_32(dtype, library, scale, measure):
    problem = arrays.dense(int(1_000_000 * scale), 100, dtype)
    _compare(library, problem, measure, "batch 32, d=100", batch_size=32)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("library", [*BACKENDS, "scikit-learn"])
@pytest.mark.parametrize("shuffle", [False, True], ids=["in_order", "shuffled"])
def bench_sgd_csr(shuffle, dtype, library, scale, measure):
    n, d = arrays.CSR_SHAPE
    problem = arrays.csr(int(n * scale), d, dtype)
    group = f"CSR of {d:,} columns, batch 1, {'shuffled' if shuffle else 'in order'}"
    _compare(library, problem, measure, group, shuffle=shuffle)


@pytest.mark.parametrize("library", [*BACKENDS, "torch"])
def bench_fit_house_sales(dtype, library, measure):
    """SGDRegressor.fit of 1 epoch in batches of 32, next to a loop over a torch.nn.Linear."""
    problem = arrays.house_sales(dtype)

    def make(problem, shuffle=True, fit_intercept=True):
        if library == "torch":
            return peers.torch_epoch(problem, shuffle=shuffle, fit_intercept=fit_intercept)
        fit = peers.sgd_fit(
            library, problem, shuffle=shuffle, batch_size=32, fit_intercept=fit_intercept
        )
        return lambda: fit(1)

    measure(
        lambda: make(problem),
        lambda _: check_epoch(lambda head: make(head, False, False), problem, 32),
        problem,
        "SGDRegressor.fit, batch 32, house sales, 1 epoch",
    )
