"""`lstsq` for JAX: the solver's answer, with the derivatives of `_pseudo_inverse.py`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from .._pseudo_inverse import gradients
from ._arguments import as_columns, as_matrix
from ._handlers import call


def lstsq(A, b) -> jax.Array:
    """Solve a linear least-squares problem to rounding, also under ``jax.jit``.

    Minimises ``|A x - b|^2``. Where many x do, as for fewer rows than columns, the one of least
    norm is returned.

    Parameters
    ----------
    A : Array of shape (n_samples, n_features)
        float32, or float64 where JAX has 64 bits (``jax_enable_x64``).
    b : Array of shape (n_samples,) or (n_samples, n_targets)
        Converted to A's dtype.

    Returns
    -------
    x : Array of shape (n_features,) or (n_features, n_targets), of A's dtype

    Raises
    ------
    ValueError
        If a shape or a dtype is not allowed, while the function is traced.
    ValueError or jax.errors.JaxRuntimeError
        If NaN or infinity is found, or x overflows, when the program runs.

    See Also
    --------
    fastlsgd.lstsq : The same outside of compiled functions, with sample weights, a ridge penalty
        and diagnostics, and for arrays on a GPU.

    Notes
    -----
    Derivatives in reverse mode (`jax.grad`, `jax.vjp`, `jax.jacrev`) work, to any order; those in
    forward mode don't. They are those of the pseudo-inverse at constant rank, as of
    :func:`fastlsgd.torch.lstsq`. ``jax.vmap`` makes one call for all problems: small ones (20,000
    numbers of A and 64 rows or columns) are solved in C, others one after the other, and those that
    share A are targets of one problem. The solver takes Python's lock while the program waits.
    Compiled programs can call it on the CPU only.

    The numbers of A count as exact: as by :func:`numpy.linalg.lstsq`, float32 columns that depend
    on each other only to float32's rounding are of full rank, and x has large numbers of opposite
    signs. ``jax.numpy.linalg.lstsq`` leaves out singular values below float32's rounding.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from fastlsgd.jax import lstsq
    >>> A, b = jnp.array([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]]), jnp.array([3.0, 5.0, 8.0])
    >>> [round(number, 4) for number in jax.jit(lstsq)(A, b).tolist()]
    [0.3333, 2.5]
    >>> [round(number, 4) for number in jax.grad(lambda b: lstsq(A, b)[0])(b).tolist()]
    [1.3333, 0.3333, -0.6667]
    """
    A = as_matrix(A, "A")
    b, one_target = as_columns(b, "b", A.shape[0])
    x = solution(A, b.astype(A.dtype))
    return x[:, 0] if one_target else x


@jax.custom_vjp
def solution(A, b):
    """x (d, t) for A (n, d) and b (n, t)."""
    return call("lstsq", [(A.shape[1], b.shape[1])], A, b)[0]


def _forward(A, b):
    x = solution(A.value, b.value)
    return x, (A.value, b.value, x, () if A.perturbed else None)


def _backward(residuals, g):
    A, b, x, wanted = residuals
    g = jnp.zeros(g.shape, g.dtype) if isinstance(g, SymbolicZero) else g
    if wanted is None:
        return None, solution(A.mT, g)
    return gradients(solution, jnp, A, b, x, g)


solution.defvjp(_forward, _backward, symbolic_zeros=True)
