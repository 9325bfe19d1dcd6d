"""Least squares of many small problems in one call, for tensors of frameworks.

A backend may have `solve_small_batch`, as `native` does: 1,000 problems of 100 x 5 then take some
5 microseconds each, where a call of `lstsq` per problem takes 60 for tall problems and 300 for wide
ones. The compiled function leaves problems that are out of the ordinary (as small.py has it) to the
general path.
"""

from __future__ import annotations

import math

import numpy as np

from ..kernels.contract import Kernels
from ..kernels.optional import has_small_kernels
from .small import LIMITS, ORDINARY, SMALL_COLUMNS, SMALL_DTYPES, SMALL_NUMBERS

# Products with each target are plain loops, which BLAS overtakes for more of them.
MOST_TARGETS = 64


def solve_small_batch(
    kernels: Kernels, A: np.ndarray, b: np.ndarray, n_threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """Solve min |A x - b|^2 for each A (..., n, d) and b (..., n, t), where that is certain.

    Returns
    -------
    x : ndarray of shape (..., d, t), float64
        Of least norm where n < d.
    solved : ndarray of shape (...,), bool
        Where it is False, x has no meaning.
    """
    batch, (n, d), t = A.shape[:-2], A.shape[-2:], b.shape[-1]
    is_small = (
        0 < n * d <= SMALL_NUMBERS
        and min(n, d) <= SMALL_COLUMNS
        and 0 < t <= MOST_TARGETS
        and A.dtype == b.dtype
        and A.dtype in SMALL_DTYPES
        and A.flags.aligned
        and b.flags.aligned
    )
    if not (is_small and has_small_kernels(kernels)):
        return np.empty((*batch, d, t)), np.zeros(batch, bool)
    p = math.prod(batch)
    A, b = A.reshape(p, n, d), b.reshape(p, n, t)
    ordinary, limits = ORDINARY[A.dtype], LIMITS[A.dtype]
    x, solved = kernels.solve_small_batch(A, b, ordinary, limits, n_threads)
    # A target of zeros is out of the ordinary, but not rare among gradients.
    for k in np.flatnonzero(~solved):
        if not b[k].any() and np.isfinite(A[k]).all():
            x[k], solved[k] = 0.0, True
    return x.transpose(0, 2, 1).reshape(*batch, d, t), solved.reshape(batch)
