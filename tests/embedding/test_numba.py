"""The kernels inside functions that Numba compiles: the same results, also from its cache."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from installed import HERE, needs_native
from scipy import sparse

import fastlsgd

pytestmark = needs_native
numba = pytest.importorskip("numba")

# The example of the documentation, which has a parallel loop and is cached.
EXAMPLE = re.search(
    "```python\n(.*?)```", (HERE.parents[1] / "docs" / "embedding.md").read_text("utf-8"), re.S
)[1]
CHECK = "print(np.allclose(coef, 1.0), sum(fit_each.stats.cache_hits.values()))"


@pytest.fixture(scope="module")
def compiled():
    """All four kernels, compiled once per kind of arguments."""
    from fastlsgd import numba as kernels

    @numba.njit
    def call_all(X, y, coef, intercept, s, order):
        return (
            kernels.loss_gradient(X, y, coef, intercept, s, n_threads=1),
            kernels.gram(X, y, sample_weight=s),
            kernels.predict(X, coef, intercept),
            kernels.sgd_epoch(X, y, coef, intercept, 0.05, 3, order, s, alpha=0.1, l1_ratio=0.5),
        )

    return call_all


def flat(result) -> list:
    """The numbers of nested named tuples."""
    if isinstance(result, tuple):
        return [number for part in result for number in flat(part)]
    return np.ravel(result).tolist()


def same_from_python(X, y, coef, intercept, s, order):
    """The same calls of the functions that validate; one thread, for the same bits."""
    with fastlsgd.config_context(n_threads=1, backend="native"):
        return (
            fastlsgd.loss_gradient(X, y, coef, intercept, sample_weight=s),
            fastlsgd.gram(X, y, sample_weight=s),
            fastlsgd.predict(X, coef, intercept),
            fastlsgd.sgd_epoch(
                X, y, coef, intercept, learning_rate=0.05, batch_size=3, order=order,
                sample_weight=s, alpha=0.1, l1_ratio=0.5,
            ),
        )  # fmt: skip


def test_many_targets_strides_weights_and_float32(compiled):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(40, 8)).astype(np.float32)[::-2, ::2]
    y, coef, intercept = rng.normal(size=(20, 3)), rng.normal(size=(3, 4)), rng.normal(size=3)
    s, order = rng.random(20) * (np.arange(20) % 3 > 0), rng.permutation(20)[:11]
    args = X, y, np.asfortranarray(coef), intercept, s, order
    found = compiled(*args)
    assert flat(found) == flat(same_from_python(*args))
    assert found[0].coef.dtype == found[2].dtype == found[3].coef.dtype == np.float32


def test_csr_and_one_target(compiled):
    from fastlsgd.numba import CSR

    rng = np.random.default_rng(2)
    X = sparse.csr_array(rng.normal(size=(20, 4)) * (rng.random((20, 4)) < 0.4))
    y, coef = rng.normal(size=20), rng.normal(size=4)
    found = compiled(CSR(X.data, X.indices, X.indptr, X.shape), y, coef, 0.5, None, None)
    assert flat(found) == flat(same_from_python(X, y, coef, 0.5, None, None))
    assert type(found[0]).__name__ == "LossGradient"


def test_wrong_shapes_are_refused(compiled):
    from fastlsgd.numba import CSR

    X = CSR(np.ones(3), np.zeros(3, np.int32), np.arange(4, dtype=np.int32), (3, 4))
    y, coef = np.ones(3), np.ones(4)
    with pytest.raises(ValueError, match="the same number of rows"):
        compiled(X, y[1:].copy(), coef, 0.5, None, None)
    with pytest.raises(ValueError, match="a weight for each column of X"):
        compiled(X, y, coef[1:].copy(), 0.5, None, None)
    with pytest.raises(numba.TypingError, match="y must be an array of float32 or float64"):
        compiled(X, y.astype(np.int64), coef, 0.5, None, None)
    with pytest.raises(
        numba.TypingError, match="sample_weight must be an array of real numbers of"
    ):
        compiled(X, y, coef, 0.5, np.ones((3, 1)), None)
    for wrong in (
        X._replace(indptr=X.indptr[:-1]),
        X._replace(indices=X.indices[:-1]),
        X._replace(indptr=X.indptr + np.int32(1)),
        X._replace(indptr=X.indptr - np.int32(1)),
        X._replace(shape=(4, 4)),
    ):
        with pytest.raises(ValueError, match="CSR"):
            compiled(wrong, y, coef, 0.5, None, None)


def test_orders_that_are_no_vectors_of_integers_are_refused():
    from fastlsgd.numba import sgd_epoch

    epoch = numba.njit(lambda X, y, order: sgd_epoch(X, y, np.zeros(2), order=order))
    for order in (np.zeros(3), np.zeros((1, 3), np.int64)):
        with pytest.raises(numba.TypingError, match="order must be an array of integers of 1 dim"):
            epoch(np.ones((3, 2)), np.ones(3), order)


def test_code_from_the_cache_runs_in_another_process(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(EXAMPLE + CHECK)
    environment = os.environ | {
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
        "NUMBA_NUM_THREADS": "2",
    }
    printed = [
        subprocess.run(
            [sys.executable, "-P", script], env=environment, capture_output=True, text=True
        )
        for _ in range(2)
    ]
    assert [done.stdout.split() for done in printed] == [["True", "0"], ["True", "1"]], printed
