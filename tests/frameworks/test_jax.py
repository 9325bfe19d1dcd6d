"""`fastlsgd.jax`: what `fastlsgd` computes, inside compiled and differentiated functions."""

from __future__ import annotations

import concurrent.futures

import numpy as np
import pytest
from installed import needs_native
from optional import required

import fastlsgd

pytestmark = needs_native
jax = required("jax")
import jax.numpy as jnp  # noqa: E402
from jax.test_util import check_grads  # noqa: E402

from fastlsgd.jax import loss_gradient, lstsq  # noqa: E402


@pytest.fixture(autouse=True)
def x64():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def problem(n=30, d=3, t=(2,), dtype=np.float64):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d)).astype(dtype)
    y, w, b = rng.normal(size=(n, *t)), rng.normal(size=(*t, d)), rng.normal(size=t)
    return X, y, w.astype(dtype), b.astype(dtype), rng.random(n)


# ------------------------------------------------------------------------------ loss_gradient


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("t", [(), (1,), (3,)])
@pytest.mark.parametrize("dtypes", [(np.float32,) * 2, (np.float64,) * 2, (np.float32, np.float64)])
def test_same_as_the_function(dtypes, t, weighted, compiled):
    X, y, w, b, s = problem(t=t, dtype=dtypes[0])
    y, s = y.astype(dtypes[1]), s.astype(dtypes[1]) if weighted else None
    call = jax.jit(loss_gradient) if compiled else loss_gradient
    found = call(X, y, w, b, sample_weight=s)
    expected = fastlsgd.loss_gradient(X, y, w, b, sample_weight=s)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == X.dtype
        assert ours.shape == np.shape(theirs)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6 if X.itemsize == 4 else 1e-12)


def test_only_32_bits_where_jax_has_no_more():
    jax.config.update("jax_enable_x64", False)
    X, y, w, b, _ = problem()
    found = jax.jit(loss_gradient)(X, y, w, b)
    assert found.loss.dtype == jnp.float32
    np.testing.assert_allclose(found.coef, fastlsgd.loss_gradient(X, y, w, b).coef, rtol=1e-5)
    assert lstsq(X, y).dtype == jnp.float32


@pytest.mark.parametrize(("t", "weighted", "order"), [((), False, 1), ((2,), True, 2)])
def test_derivatives_of_a_loss_and_of_its_gradient(t, weighted, order):
    X, y, w, b, s = problem(6, 2, t)

    def call(X, y, w, b, s):
        return loss_gradient(X, y, w, b, sample_weight=s if weighted else None)

    check_grads(jax.jit(call), (X, y, w, b, s), order=order, modes=["rev"])


def test_the_gradient_of_a_loss_is_that_of_the_kernel_itself():
    """It costs no second pass over X, and nothing of the size of X is computed."""
    X, y, w, b, _ = problem()

    def loss(w):
        return loss_gradient(X, y, w, b).loss

    value, gradient = jax.value_and_grad(loss)(w)
    assert value == loss(w)
    np.testing.assert_array_equal(gradient, loss_gradient(X, y, w, b).coef)
    text = str(jax.make_jaxpr(jax.grad(loss))(w))
    assert text.count("ffi_call[") == 1
    assert "dot_general" not in text


def test_hessians_and_batches():
    X, y, w, b, _ = problem(t=())
    hessian = jax.jacrev(jax.jacrev(lambda w: loss_gradient(X, y, w, b).loss))(w)
    np.testing.assert_allclose(hessian, X.T @ X / len(X), rtol=1e-10)
    many = np.stack([w, 2 * w, 3 * w])
    found = jax.jit(jax.vmap(loss_gradient, in_axes=(None, None, 0)))(X, y, many)
    expected = fastlsgd.loss_gradient(X, np.stack([y] * 3, 1), many)
    np.testing.assert_allclose(found.coef, expected.coef, rtol=1e-12)
    assert found.loss.shape == (3,)


def test_a_loop_that_is_compiled_as_a_whole():
    X, y, w, _, _ = problem(200, 3, ())

    @jax.jit
    def descend(w):
        return jax.lax.fori_loop(0, 200, lambda _, w: w - 0.5 * loss_gradient(X, y, w).coef, w)

    np.testing.assert_allclose(descend(w), fastlsgd.lstsq(X, y), rtol=1e-8)


# -------------------------------------------------------------------------------------- lstsq


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(30, 3), (3, 30)])
def test_same_solution(shape, dtype):
    X, y, *_ = problem(*shape, dtype=dtype)
    for b in (y, y[:, 0]):
        for call in (lstsq, jax.jit(lstsq)):
            x = call(X, b)
            assert x.dtype == dtype
            np.testing.assert_allclose(x, fastlsgd.lstsq(X, b.astype(dtype)), rtol=1e-6)


@pytest.mark.parametrize(("shape", "order"), [((5, 2), 2), ((2, 4), 1), ((3, 3), 1)])
def test_derivatives_of_solutions(shape, order):
    X, y, *_ = problem(*shape)
    A = 0.3 * X + np.eye(*shape)
    check_grads(jax.jit(lstsq), (A, y), order=order, modes=["rev"])


def test_derivatives_along_changes_that_keep_the_rank():
    rng = np.random.default_rng(0)
    B, C, b = rng.normal(size=(5, 2)), rng.normal(size=(2, 3)), rng.normal(size=5)
    check_grads(jax.jit(lambda B, C, b: lstsq(B @ C, b)), (B, C, b), order=1, modes=["rev"])


def test_batches_of_problems():
    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(4, 6, 2)), rng.normal(size=(4, 6))
    found = jax.jit(jax.vmap(lstsq))(A, b)
    expected = [fastlsgd.lstsq(*pair) for pair in zip(A, b, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    gradients = jax.vmap(jax.grad(lambda A, b: lstsq(A, b).sum()))(A, b)
    np.testing.assert_allclose(gradients[1], jax.grad(lambda A: lstsq(A, b[1]).sum())(A[1]))
    assert jax.vmap(lstsq)(A[:0], b[:0]).shape == (0, 2)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
@pytest.mark.parametrize("shape", [(6, 2), (2, 6), (80, 70)])  # the last is too large for one call
def test_batches_of_batches(shape, axes):
    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(3, *shape)), rng.normal(size=(3, 4, shape[0], 2))
    if axes[0] is None:
        A = A[0]
    if axes[1] is None:
        b = b[0]
    many = jax.vmap(jax.vmap(lstsq, in_axes=(None, 0)), in_axes=axes)
    expected = [
        [fastlsgd.lstsq(A[k] if A.ndim == 3 else A, each) for each in (b[k] if b.ndim == 4 else b)]
        for k in range(3)
    ]
    np.testing.assert_allclose(jax.jit(many)(A, b), expected, rtol=1e-9)


def test_problems_of_a_batch_are_one_call(monkeypatch):
    import fastlsgd.jax._handlers as module

    seen = []
    each, one = module.lstsq_of_each, module.solve
    monkeypatch.setattr(module, "lstsq_of_each", lambda *pair: seen.append("each") or each(*pair))
    monkeypatch.setattr(module, "solve", lambda *pair: seen.append("one") or one(*pair))
    A, b = np.random.default_rng(0).normal(size=(2, 9, 6, 6))
    jax.block_until_ready(jax.vmap(lstsq)(A.reshape(9, 6, 6), b))
    jax.block_until_ready(jax.vmap(lstsq, in_axes=(None, 0))(A[0], b))
    assert seen == ["each", "one"]


def test_the_solver_reads_the_arrays_of_xla(monkeypatch):
    import fastlsgd.jax._handlers as module

    seen = []
    monkeypatch.setattr(module, "solve", lambda A, b: seen.append(A.ctypes.data) or np.ones((3, 2)))
    X, y = (jnp.asarray(array) for array in problem()[:2])
    np.testing.assert_array_equal(jax.jit(lstsq)(X, y), np.ones((3, 2)))
    assert seen == [X.unsafe_buffer_pointer()]


def test_programs_in_several_threads():
    """The solver takes Python's lock while others wait for XLA."""
    X, y, *_ = problem(20_000, 10)
    compiled = jax.jit(lambda X, y: (lstsq(X, y), loss_gradient(X, y, lstsq(X, y).T).loss))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: compiled(X, y), range(8)))
    for x, _ in found:
        np.testing.assert_allclose(x, fastlsgd.lstsq(X, y), rtol=1e-10)


# ------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones(3), np.ones(3), np.ones(3)), r"X must have shape \(rows, features\)"),
        ((np.ones((0, 3)), np.ones(0), np.ones(3)), "X must have shape"),
        ((np.ones((3, 2), int), np.ones(3), np.ones(2)), "X must be float32 or float64, got int"),
        ((np.ones((3, 2)), np.ones(4), np.ones(2)), r"y must have shape \(3,\) or \(3, targets\)"),
        ((np.ones((3, 2)), np.ones(3), np.ones(3)), r"coef must have shape \(2,\) or \(1, 2\)"),
        ((np.ones((3, 2)), np.ones((3, 2)), np.ones(2)), r"coef must have shape \(2,\) or \(2, 2"),
        ((np.ones((3, 2)), np.ones(3), np.ones(2), np.ones(2)), "intercept must be a number or"),
        ((np.ones((3, 2)), np.ones(3), np.ones(2), 1j), "intercept must have real numbers, got c"),
    ],
)
def test_errors_of_loss_gradient(arguments, message):
    with pytest.raises(ValueError, match=message):
        jax.jit(loss_gradient)(*arguments)


def test_errors_of_weights_and_solutions():
    X, y, w, b, _ = problem()
    with pytest.raises(ValueError, match=r"sample_weight must have shape \(30,\)"):
        loss_gradient(X, y, w, b, sample_weight=np.ones(3))
    with pytest.raises(ValueError, match=r"A must have shape .*jax\.vmap"):
        lstsq(np.ones((2, 3, 4)), np.ones((2, 3)))
    with pytest.raises(ValueError, match="b must be an array of numbers"):
        lstsq(X, "text")
    with pytest.raises(ValueError, match="A must be an array of numbers: None"):
        lstsq(None, y)
    with pytest.raises(ValueError, match="b must have shape"):
        lstsq(X, y[:3])
    errors = ValueError, jax.errors.JaxRuntimeError  # as JAX runs the program
    with pytest.raises(errors, match="ValueError: A contains NaN"):
        jax.block_until_ready(jax.jit(lstsq)(X * np.nan, y))
    assert np.isnan(loss_gradient(X * np.nan, y, w).loss)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda X: lstsq(X, y), (X,), (X,))
