"""X of every dtype, converted a block of rows at a time, against the reference.

The blocks are small here, so that a few rows make many blocks, and a mini-batch more than one.
"""

from __future__ import annotations

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from test_kernels import (
    OPTIMIZERS,
    PENALTIES,
    Problem,
    as_csr,
    check_epochs,
    check_gram,
    check_loss_gradient,
    check_predict,
    in_memory_like,
    make_epoch,
)

from fastlsgd.kernels import blocks, reference, resolve_backend
from fastlsgd.kernels.contract import CSR, working_dtype

try:
    from ml_dtypes import bfloat16
except ImportError:
    bfloat16 = None

N, D = 61, 9  # rows, features: few, since the reference is slow
NAMES = """
float16 longdouble bool int8 uint8 int16 int32 uint32 int64 uint64 >f4 >f8 >i4 object
"""
DTYPES = {name: np.dtype(name) for name in NAMES.split()}
if bfloat16 is not None:
    DTYPES["bfloat16"] = np.dtype(bfloat16)
# Every dtype in one layout, some in every layout, and unusual layouts of ordinary dtypes.
CASES = [(dtype, "C") for dtype in DTYPES.values()]
CASES += [
    (DTYPES[name], layout)
    for name in ("float16", "int8", ">f8")
    for layout in ("F", "backwards in steps", "odd start", "unaligned", np.int32, np.int64)
]
CASES += [(DTYPES["object"], np.int32), (np.dtype(np.float32), "unaligned")]
CASES += [(np.dtype(np.float64), np.uint16), (np.dtype(np.float64), "unaligned")]


def numbers(rng, dtype):
    """Small whole numbers, which every dtype holds exactly; half of them are zero."""
    low, high = (0, 2) if dtype.kind == "b" else (0, 5) if dtype.kind == "u" else (-4, 5)
    values = rng.integers(low, high, (N, D)) * (rng.random((N, D)) < 0.7)
    if dtype.kind == "O":
        return np.array([[Fraction(int(v)) for v in row] for row in values], dtype=object)
    return values.astype(dtype)


def unaligned(values):
    memory = np.zeros(values.nbytes + 1, np.uint8)
    out = memory[1:].view(values.dtype).reshape(values.shape)
    out[:] = values
    return out


def laid_out(values, layout, rng):
    if layout == "unaligned":
        return unaligned(values)
    if isinstance(layout, str):
        return values.copy(order=layout) if layout in "CF" else in_steps(values, layout)
    plain = as_csr(values.astype(np.float64), np.int64, rng)
    inside = slice(plain.indptr[0], plain.indptr[-1])  # integers can't hold the NaN around these
    data = plain.data[inside]
    data = np.array([Fraction(v) for v in data], object) if values.dtype.kind == "O" else data
    indptr = (plain.indptr - plain.indptr[0]).astype(layout)
    return CSR(data.astype(values.dtype), plain.indices[inside].astype(layout), indptr, (N, D))


def in_steps(values, layout):
    if values.dtype.kind in "fV" and values.dtype.isnative:
        return in_memory_like(values, layout)
    memory = np.zeros((3 * N, 2 * D), values.dtype)
    view = memory[::-3, ::-2] if layout == "backwards in steps" else memory[1 : N + 1, 1 : D + 1]
    view[:] = values
    return view


def problem_of(dtype, layout, t=2, weighted=True):
    rng = np.random.default_rng(7)
    values = numbers(rng, dtype)
    X, kind = laid_out(values, layout, rng), working_dtype(dtype)
    y = rng.standard_normal((N, t)).astype(kind)
    s = (rng.random(N) * (rng.random(N) < 0.8)).astype(kind) if weighted else None
    return Problem(X, y, rng.standard_normal((t, D)), rng.standard_normal(t), s)


def as_reference(problem):
    """The same problem, with X in the dtype that kernels compute with."""
    kind = working_dtype(problem.X)
    if isinstance(problem.X, CSR):
        X = problem.X
        X = CSR(X.data.astype(kind), X.indices.astype(np.int64), X.indptr.astype(np.int64), X.shape)
        return problem._replace(X=X)
    return problem._replace(X=problem.X.astype(kind))


class Converted:
    """Kernels that get the X in question instead of the plain X with the same numbers."""

    def __init__(self, kernels, X):
        self.kernels, self.X = blocks.converting(kernels), X

    def loss_gradient(self, X, *rest):
        return self.kernels.loss_gradient(self.X, *rest)

    def predict(self, X, *rest):
        return self.kernels.predict(self.X, *rest)

    def gram(self, X, *rest):
        return self.kernels.gram(self.X, *rest)

    def sgd_epoch(self, X, *rest):
        return self.kernels.sgd_epoch(self.X, *rest)


@pytest.fixture
def small_blocks(monkeypatch):
    """Makes blocks small: most have 8 rows."""
    monkeypatch.setattr(blocks, "BLOCK_NUMBERS", 8 * D)
    monkeypatch.setattr(blocks, "GRAM_NUMBERS", 8 * D)
    monkeypatch.setattr(blocks, "COUNTED_ROWS", 24)


@pytest.mark.parametrize(("dtype", "layout"), CASES, ids=str)
def test_every_kernel_takes_every_dtype(kernels, small_blocks, dtype, layout):
    problem = problem_of(dtype, layout)
    plain, converted = as_reference(problem), Converted(kernels, problem.X)
    assert not blocks.takes(problem.X)
    for weighted in (plain, plain._replace(s=None)):
        check_loss_gradient(converted, weighted, 2)
        check_gram(converted, weighted, np.full(D, 0.5), 2)
    check_gram(converted, plain, None, 2)
    check_predict(converted, plain, 2)
    for batch_size in (3, N):
        check_epochs(converted, plain, [make_epoch(plain, batch_size, True, alpha=0.1)], 2)


@pytest.mark.parametrize("layout", ["C", np.int32], ids=str)
@pytest.mark.parametrize("batch_size", [5, 20])  # within a block, and larger than one
@pytest.mark.parametrize("name", ["L1", "average, elastic net", "no intercept", "everything"])
def test_an_epoch_in_blocks_with_each_option(kernels, small_blocks, name, batch_size, layout):
    problem = problem_of(np.dtype(np.int8), layout)
    plain, options = as_reference(problem), PENALTIES[name]
    epochs = [make_epoch(plain, batch_size, k > 0, seed=k, **options) for k in range(2)]
    check_epochs(Converted(kernels, problem.X), plain, epochs)
    check_epochs(Converted(kernels, problem.X), plain._replace(s=None), epochs)


@pytest.mark.parametrize("batch_size", [1, 30])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_optimizers_in_blocks(kernels, small_blocks, optimizer, batch_size):
    problem = problem_of(np.dtype(np.int8), "C")
    plain, options = as_reference(problem), {"alpha": 0.3, "l1_ratio": 0.4, "average_after": 7}
    epochs = [
        make_epoch(plain, batch_size, k > 0, seed=k, optimizer=optimizer, **options)
        for k in range(2)
    ]
    check_epochs(Converted(kernels, problem.X), plain, epochs)


@pytest.mark.parametrize("scale", [1e-300, 5e-324, 1e300])
def test_weights_at_the_ends_of_their_range(kernels, small_blocks, scale):
    problem = problem_of(np.dtype(np.int8), "C")
    plain = as_reference(problem)._replace(s=np.full(N, 1.0))
    tiny = Converted(kernels, problem.X).loss_gradient(
        None, plain.y, plain.w, plain.b, np.full(N, scale), 1
    )
    for actual, wanted in zip(tiny, reference.loss_gradient(*plain, 1), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-9)


@pytest.mark.parametrize("layout", ["C", "F", np.int32], ids=str)
@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.bool_], ids=str)
def test_nothing_of_the_size_of_x_is_allocated(layout, dtype):
    """X has 2 MB and blocks about 1 MB; that holds even where a mini-batch is all of X."""
    n, d, rng = 20_000, 100, np.random.default_rng(0)
    values = rng.integers(0, 2, (n, d)).astype(dtype)
    X = values.copy(order=layout) if isinstance(layout, str) else None
    if X is None:
        indices = np.tile(np.arange(d, dtype=layout), n)
        X = CSR(values.ravel(), indices, np.arange(0, n * d + 1, d, dtype=layout), (n, d))
    kernels, kind = resolve_backend("reference", X), working_dtype(X)
    y, w, b = np.zeros((n, 1), kind), np.zeros((1, d)), np.zeros(1)
    calls = [
        lambda: kernels.loss_gradient(X, y, w, b, None, 1),
        lambda: kernels.gram(X, y, None, None, 1),
    ]
    for batch_size in (16, n):
        rates = np.zeros(-(-n // batch_size))
        problem = Problem(X, y, w, b, None)
        calls.append(
            lambda batch_size=batch_size, rates=rates, problem=problem: check_run(
                kernels, problem, batch_size, rates, rng.permutation(n)
            )
        )
    for call in calls:
        tracemalloc.start()
        call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8e6  # X takes 16e6 in float64, and the rows of the reference half of that


def check_run(kernels, problem, batch_size, rates, order):
    from test_kernels import EpochCase, fresh_state, run

    epoch = EpochCase(order, rates, batch_size)
    w = problem.w.astype(problem.y.dtype)
    run(kernels, problem, epoch, w, problem.b.copy(), fresh_state(epoch, w))


def test_the_dispatcher_converts_where_it_must():
    for dtype in (np.float32, np.float64):
        assert isinstance(resolve_backend("reference", np.ones((3, 2), dtype)), type(reference))
    for dtype in (np.float16, np.int64, ">f8"):
        kernels = resolve_backend("reference", np.ones((3, 2), dtype))
        assert isinstance(kernels, blocks.Blocks)
        assert kernels.__name__ == reference.__name__
        assert kernels.isa() == "numpy"
    assert isinstance(resolve_backend("reference", unaligned(np.ones((3, 2)))), blocks.Blocks)
