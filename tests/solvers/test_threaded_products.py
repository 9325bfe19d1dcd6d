"""What fastlsgd's own threads share is what one thread makes: products, and gradients of parts."""

import numpy as np
import pytest

from fastlsgd.kernels import reference
from fastlsgd.solvers import threaded_products
from fastlsgd.solvers.gradient_parts import part_gradients
from fastlsgd.solvers.threaded_products import add_square, in_parts, product, square


@pytest.fixture(params=[1, 2, 3])
def n_threads(request, monkeypatch):
    """Divide products of any size among so many threads."""
    monkeypatch.setattr(threaded_products, "FEW_THREADED_PRODUCTS", 0)
    monkeypatch.setattr(threaded_products, "LEAST_PART", 2)
    monkeypatch.setattr(threaded_products, "resolve_threads", lambda n_threads: n_threads)
    monkeypatch.setattr(threaded_products, "blas_threads", lambda: 9)
    return request.param


@pytest.mark.parametrize("long_work", [0.0, np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1), (7, 40), (40, 7), (33, 34)])
def test_products(shape, dtype, long_work, n_threads, monkeypatch):
    monkeypatch.setattr(threaded_products, "LONG_WORK", long_work)
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=shape).astype(dtype), rng.normal(size=(shape[1], 9)).astype(dtype)
    close = {"rtol": 0.0, "atol": 1e3 * np.finfo(dtype).eps}
    np.testing.assert_allclose(product(A, B, n_threads), A @ B, **close)
    np.testing.assert_allclose(product(B.T, A.T, n_threads), B.T @ A.T, **close)
    np.testing.assert_allclose(square(A, n_threads), A @ A.T, **close)
    before = rng.normal(size=(shape[1],) * 2).astype(dtype)
    for rows in (A, np.asfortranarray(A)):
        K = np.array(before, order="F")
        add_square(K, rows, n_threads)
        np.testing.assert_allclose(np.triu(K), np.triu(before + A.T @ A), **close)
        np.testing.assert_array_equal(np.tril(K, -1), np.tril(before, -1))


def test_a_part_that_fails_is_told():
    def fails():
        raise MemoryError("no memory")

    made = []
    with pytest.raises(MemoryError, match="no memory"):
        in_parts([fails, *[lambda k=k: made.append(k) for k in range(5)]], 2)
    assert len(made) in (0, 5)  # by the other thread, if there was one


@pytest.mark.parametrize("weighted", [False, True])
def test_threads_share_the_parts_of_a_gradient(weighted, n_threads):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 6)), rng.normal(size=(50, 2))
    s = np.where(np.arange(50) < 20, 0.0, rng.random(50)) if weighted else None
    asked = rng.normal(size=(2, 6)), rng.normal(size=2)
    found = list(part_gradients(reference, X, y, s, *asked, 5, n_threads))
    bounds = np.arange(20 if weighted else 0, 50, 10)
    assert len(found) == len(bounds)
    for (weight, gradients), start in zip(found, bounds, strict=True):
        part = slice(start, start + 10)
        of_part = None if s is None else s[part]
        assert weight == (10.0 if s is None else s[part].sum())
        alone = reference.loss_gradient(X[part], y[part], *asked, of_part, 1)
        for value, expected in zip(gradients, alone, strict=True):
            np.testing.assert_array_equal(value, expected)
