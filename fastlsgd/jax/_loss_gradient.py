"""`loss_gradient` for JAX: one call of the C kernel, through XLA's foreign function interface.

The derivative of a loss is the gradient that was computed with it. That of the gradient in a
direction is the gradient of another problem, with that direction for weights and zero for targets:
so each order costs one more pass. With S = sum s, r = X w + b - y, cotangents c, cg, ch of loss,
dw, db, and q = X cg + ch::

    w: c dw + X^T S q / S          y: -s (c r + q) / S
    b: c db + sum s q / S          X: s (r (c w + cg)^T + q w^T) / S
    s: (c (r^2 / 2 - loss) + r q - cg . dw - ch db) / S

Those of y, X and s are products that XLA computes, where they are asked for.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from ..functional import LossGradient
from ._arguments import as_columns, as_floats, as_matrix, as_numbers
from ._handlers import call


def loss_gradient(X, y, coef, intercept=0.0, *, sample_weight=None) -> LossGradient:
    """Least-squares loss and its gradient in one pass over X, also under ``jax.jit``.

    With r_i = x_i . coef + intercept - y_i, weights s_i and S = sum s_i::

        loss = 1/(2 S) sum_i s_i r_i^2
        coef = 1/S sum_i s_i r_i x_i
        intercept = 1/S sum_i s_i r_i

    Parameters
    ----------
    X : Array of shape (n_samples, n_features)
        float32, or float64 where JAX has 64 bits (``jax_enable_x64``).
    y : Array of shape (n_samples,) or (n_samples, n_targets)
        float32 or float64; the dtype may differ from that of X.
    coef : Array of shape (n_features,) or (n_targets, n_features)
    intercept : float or Array of shape (n_targets,), default=0.0
    sample_weight : Array of shape (n_samples,), optional
        Not negative and not all zero. Default: ones.

    Returns
    -------
    result : fastlsgd.functional.LossGradient
        Named tuple of ``loss``, a scalar summed over targets, ``coef``, of the shape of `coef`, and
        ``intercept``, a scalar or of shape (n_targets,); all of X's dtype.

    Raises
    ------
    ValueError
        If a shape or a dtype is not allowed, while the function is traced. Numbers are not checked:
        NaN and infinity go through to the result, from rows of weight 0 too.

    See Also
    --------
    fastlsgd.loss_gradient : The same outside of compiled functions, for any dtype, for sparse
        matrices, and for arrays on a GPU.

    Notes
    -----
    Derivatives in reverse mode (`jax.grad`, `jax.vjp`, `jax.jacrev`) work, to any order; those in
    forward mode don't. ``jax.vmap`` calls the kernel for one problem after the other. Compiled
    programs can call it on the CPU only, and for arrays that are not divided among devices.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from fastlsgd.jax import loss_gradient
    >>> X, y = jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1.0, 2.0])
    >>> loss, coef, intercept = jax.jit(loss_gradient)(X, y, jnp.zeros(2))
    >>> loss.item(), coef.tolist(), intercept.item()
    (1.25, [-3.5, -5.0], -1.5)
    >>> jax.grad(lambda w: loss_gradient(X, y, w).loss)(jnp.zeros(2)).tolist()
    [-3.5, -5.0]
    """
    X = as_matrix(X, "X")
    n, d = X.shape
    y, _ = as_columns(y, "y", n)
    t = y.shape[1]
    coef = as_floats(coef, "coef")
    one_target = coef.ndim == 1
    if coef.shape != (t, d) and not (one_target and t == 1 and coef.shape == (d,)):
        raise ValueError(f"coef must have shape ({d},) or ({t}, {d}), got {coef.shape}.")
    intercept = as_numbers(intercept, "intercept").astype(X.dtype)
    if intercept.shape not in ((), (t,)):
        raise ValueError(f"intercept must be a number or have shape ({t},), got {intercept.shape}.")
    s = jnp.zeros(0, y.dtype)
    if sample_weight is not None:
        s = as_floats(sample_weight, "sample_weight")
        if s.shape != (n,):
            raise ValueError(f"sample_weight must have shape ({n},), got {s.shape}.")
        dtype = jnp.result_type(y, s)
        y, s = y.astype(dtype), s.astype(dtype)
    w, b = coef.astype(X.dtype).reshape(t, d), jnp.broadcast_to(intercept, (t,))
    loss, dw, db = kernel(X, y, w, b, s)
    return LossGradient(loss.sum(), dw.reshape(coef.shape), db[0] if one_target else db)


@jax.custom_vjp
def kernel(X, y, w, b, s):
    """loss (t,), dw (t, d) and db (t,) of X's dtype; without sample weights s has shape (0,)."""
    t, d = w.shape
    return call("loss_gradient", ((t,), (t, d), (t,)), X, y, w, b, s)


def _forward(X, y, w, b, s):
    given = (X, y, w, b, s)
    values = tuple(argument.value for argument in given)
    # None or an empty tuple: residuals may hold no Python values.
    wanted = tuple(() if argument.perturbed else None for argument in given)
    result = kernel(*values)
    return result, (values, result, wanted)


def _backward(residuals, cotangents):
    (X, y, w, b, s), (loss, dw, db), wanted = residuals
    c, cg, ch = (
        jnp.zeros(part.shape, part.dtype) if isinstance(part, SymbolicZero) else part
        for part in cotangents
    )
    gw, gb = c[:, None] * dw, c * db
    if not all(isinstance(part, SymbolicZero) for part in cotangents[1:]):
        _, hw, hb = kernel(X, jnp.zeros_like(y), cg, ch, s)
        gw, gb = gw + hw, gb + hb
    gX = gy = gs = None
    if not wanted[0] is wanted[1] is wanted[4] is None:
        total = s.sum() if s.size else X.shape[0]
        share = s[:, None] / total if s.size else 1.0 / total
        r, q = X @ w.T + b - y, X @ cg.T + ch
        gy = (-share * (c * r + q)).astype(y.dtype)
        gX = ((share * r) @ (c[:, None] * w + cg) + (share * q) @ w).astype(X.dtype)
        gs = (c * (r * r / 2.0 - loss) + r * q).sum(1) - (cg * dw).sum() - ch @ db
        gs = (gs / total).astype(s.dtype) if s.size else None
    return gX, gy, gw, gb, gs


kernel.defvjp(_forward, _backward, symbolic_zeros=True)
