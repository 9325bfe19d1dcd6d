"""Scalar formulas that the kernels compiled by Numba share, for the CPU and for GPUs.

Each is a plain function of numbers. A backend compiles it in its own way: `numba_cpu` by
`numba.njit`, the CUDA kernels by `cuda.jit(device=True)`. A function compiled so can't call a plain
one, and so no formula calls another.

Numbers are cut off by comparisons that NaN fails, since a run that diverges must show: ``max(0,
NaN)`` is 0 in Numba.

The names are those of `OptimizerState` in `contract.py` and of docs/lazy_updates.md.
"""

from __future__ import annotations

import math

from .contract import OptimizerRule

# What a gradient whose squares overflow is multiplied by before its norm is taken: the largest
# float64 number is then 4e127, and what becomes 0 is 1e-290 of the norm or less.
CLIP_UNIT = 2.0**-600

# As integers, which compiled code takes for constants.
SGD, MOMENTUM, NESTEROV, RMSPROP, ADAGRAD, ADAM, ADAMW = map(int, OptimizerRule)


# ------------------------------------------------------------------------------ penalties


def shrinkage(rate, l2):
    """The factor max(0, 1 - rate l2) by which an update shrinks the weights."""
    factor = 1.0 - rate * l2
    return 0.0 if factor < 0.0 else factor


def soft_threshold(z, cut):
    """z less its part within +-cut."""
    low = z if z > -cut else -cut
    return z - (low if low < cut else cut)


def proximal(w, rate, soft, shrink):
    """soft(w, rate soft) / (1 + rate shrink): the step of a `Prox` for one weight."""
    size = abs(w) - rate * soft
    size = 0.0 if size < 0.0 else size / (1.0 + rate * shrink)
    return size if w > 0.0 else -size


def pay_l1(w, paid, due):
    """The weight after it has paid what it owes of `due`, but not beyond zero.

    Tsuruoka et al. (2009), section 3.2. The new `paid` is ``paid + (result - w)``.
    """
    after = w
    if w > 0.0:
        after = w - (due + paid)
        after = 0.0 if after < 0.0 else after
    elif w < 0.0:
        after = w + (due - paid)
        after = 0.0 if after > 0.0 else after
    return after


# ----------------------------------------------------------------------------- optimizers


def clip_factor(square, max_norm, unit):
    """The factor that brings unit times a gradient, of this squared norm, within `max_norm`.

    `unit` is 1 or, where the squares of the gradient overflow, `CLIP_UNIT`.
    """
    factor = max_norm / (math.sqrt(square) + 1e-6 * unit)
    return factor if factor < 1.0 / unit else 1.0 / unit


def l1_gain(rule, beta1, k):
    """c of `OptimizerState` after k updates: the sum of the rule's weights on all gradients."""
    if rule == MOMENTUM:
        return (1.0 - beta1**k) / (1.0 - beta1)
    if rule == NESTEROV:
        return (1.0 - beta1 ** (k + 1)) / (1.0 - beta1)
    return 1.0


def momentum(g, u, beta1, of_gradient, of_moment):
    """The new u, and p = of_gradient g + of_moment u: (0, 1) or, for "nesterov", (1, beta1)."""
    u = beta1 * u + g
    return u, of_gradient * g + of_moment * u


def squares(g, v, old, new, eps):
    """The new v = old v + new g^2, and D."""
    v = old * v + new * (g * g)
    return v, math.sqrt(v) + eps


def adam(g, u, v, beta1, beta2, eps, root):
    """The new u and v, and D, where `root` is 1 / sqrt(1 - beta2^k)."""
    u = beta1 * u + (1.0 - beta1) * g
    v = beta2 * v + (1.0 - beta2) * (g * g)
    return u, v, math.sqrt(v) * root + eps


# ------------------------------------------- lazy updates of CSR rows (docs/lazy_updates.md)


def lazy_offset(due, v_sum, next_scale, owed):
    """e - V_s of a weight that has owed `owed` and is at line s of the trail, with U_s and V_s."""
    return (due + owed) / next_scale - v_sum


def lazy_average(size, offset, a_sums, b_sums):
    """What the average takes in of a weight at line s of size |v|, up to line k.

    `a_sums` is (A_s, A_{s+1}, A_k), `b_sums` is (B_{s+1}, B_k).
    """
    total = size * (a_sums[2] - a_sums[0])
    total -= offset * (a_sums[2] - a_sums[1])
    return total - (b_sums[1] - b_sums[0])


# ----------------------------------- segments, and pairs (csrc/double_double.inc has sources)

# csrc/segments.inc, segments_solve.inc and segments_robust.inc say what these mean.
LEAST_SQUARE, MOST_SQUARE = 1e-220, 1e290
PAIR_NOISE = 2.0**-102
FLOAT32_NOISE = 2.0**-42
LEAST_LEFT = 1e-12  # of 1 - h, below which a row has a weight of its own


def exact_sum(a, b):
    """a + b as a pair hi + lo, where |lo| is at most half a unit of hi."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def normalised(a, b):
    """a + b as a pair, for |a| >= |b|."""
    s = a + b
    return s, b - (s - a)
