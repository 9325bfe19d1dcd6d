"""Numbers of twice the precision of a double, hi + lo with |lo| at most half a unit of hi.

csrc/double_double.inc has the sources of the formulas. Helpers with `fastmath` would undo them.
"""

from __future__ import annotations

from numba import types
from numba.extending import intrinsic

from .. import formulas
from .compile import helper


@intrinsic
def fused(typing_context, a, b, c):
    """a b + c, rounded once."""

    def emit(context, builder, signature, arguments):
        return builder.fma(*arguments)

    return types.float64(types.float64, types.float64, types.float64), emit


exact_sum = helper(formulas.exact_sum)
normalised = helper(formulas.normalised)


@helper
def less_product(c, a, b):
    """c - a b for three pairs."""
    p = a[0] * b[0]
    error = fused(a[0], b[0], -p) + (a[0] * b[1] + a[1] * b[0])
    s, lost = exact_sum(c[0], -p)
    return normalised(s, lost + (c[1] - error))


@helper
def quotient(a, b):
    """a / b for two pairs."""
    q = a[0] / b[0]
    left = less_product(a, (q, 0.0), b)
    return normalised(q, left[0] / b[0])
