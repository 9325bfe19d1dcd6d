"""The derivative of a least-squares solution, for arrays of any library that differentiates.

With the pseudo-inverse P of A (n, d), x = P b (d, t), r = b - A x and a perturbation dA that keeps
the rank, Golub and Pereyra (1973) give::

    dx = P (db - dA x) + P P^T dA^T r + (I - P A) dA^T P^T x

The transposed map takes a gradient g (d, t) with regard to x to those with regard to b and A::

    v = P^T g,  u = P v,  z = P^T x,  p = g - A^T v
    b: v                    A: -v x^T + r u^T + z p^T

P^T and P are two least-squares problems, with A^T and with A. So no normal equations are formed,
and the error grows with the condition of A, not with its square. Where A has full column rank, p
is rounding and is set to zero. Each derivative is written in terms of solutions, so that it can be
differentiated again.

Cost: one problem with A^T of 2 t targets, one with A, and the writing of a gradient of A's size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# A gradient counts as made of A's rows if no more than this many times their rounding is left.
ROUNDINGS_OF_ROWS = 1e3


def gradients(solve: Callable, xp: Any, A, b, x, g) -> tuple[Any, Any]:
    """The gradients with regard to A (..., n, d) and b (..., n, t) for g, that of x (..., d, t).

    `solve` is the least-squares solver of the library whose namespace is `xp`: torch or jax.numpy.
    """
    t = g.shape[-1]
    both = solve(A.mT, xp.concatenate((g, x), axis=-1))
    v, z = both[..., :t], both[..., t:]
    u, r = solve(A, v), b - A @ x
    p = g - A.mT @ v
    noise = ROUNDINGS_OF_ROWS * float(xp.finfo(A.dtype).eps) * max(A.shape[-2:])
    left, whole = (xp.amax(abs(part), axis=-2, keepdims=True) for part in (p, g))
    p = xp.where(left <= noise * whole, xp.zeros_like(p), p)
    left_factor = xp.concatenate((-v, r, z), axis=-1)
    right_factor = xp.concatenate((x, u, p), axis=-1)
    return left_factor @ right_factor.mT, v
