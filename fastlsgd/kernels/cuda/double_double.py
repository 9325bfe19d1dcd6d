"""Numbers of twice the precision of a double, for the kernels of segments.

The formulas are those of csrc/double_double.inc, which has their sources. A compiler that contracts
a product and a sum into one rounding would undo `exact_sum` of a product: `dmul_rn` forbids that.
"""

from __future__ import annotations

from .. import formulas
from .compile import SIMULATED, cuda, device_function

exact_sum = device_function(formulas.exact_sum)
normalised = device_function(formulas.normalised)

if SIMULATED:
    # The simulator has no fused multiply-add: its own rounds twice.

    @device_function
    def exact_product(a, b):
        """a b as a pair, by halves of 26 bits (Dekker 1971)."""
        p = a * b
        cut_a, cut_b = 134217729.0 * a, 134217729.0 * b  # 2^27 + 1
        high_a, high_b = cut_a - (cut_a - a), cut_b - (cut_b - b)
        low_a, low_b = a - high_a, b - high_b
        return p, low_a * low_b - (((p - high_a * high_b) - low_a * high_b) - high_a * low_b)

else:
    from numba.cuda import libdevice

    @device_function
    def exact_product(a, b):
        """a b as a pair."""
        p = libdevice.dmul_rn(a, b)
        return p, cuda.fma(a, b, -p)


@device_function
def less_product(c, a, b):
    """c - a b for three pairs."""
    p, lost = exact_product(a[0], b[0])
    error = lost + (a[0] * b[1] + a[1] * b[0])
    s, more = exact_sum(c[0], -p)
    return normalised(s, more + (c[1] - error))


@device_function
def quotient(a, b):
    """a / b for two pairs."""
    q = a[0] / b[0]
    left = less_product(a, (q, 0.0), b)
    return normalised(q, left[0] / b[0])
