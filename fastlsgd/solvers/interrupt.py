"""Long calls of LAPACK, BLAS and kernels that Ctrl-C must not wait for.

Python runs signal handlers between its own instructions, and a single call of LAPACK on 4,096
columns takes many seconds. Such a call is made by `interruptible`. That helps only if the call
releases the GIL: kernels, NumPy's linear algebra and SciPy's `dgeqrf` do, but SciPy's `dpotrf`,
`svd`, `eigh` and `solve_triangular` do not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from .._threads import FEW_GRAM_PRODUCTS, interruptible, is_small
from ..kernels.contract import CSR, Gram, Kernels, Matrix, TargetGradients
from ..kernels.device import lives_on_device
from .rows import gram_products, stored_numbers

T = TypeVar("T")

# These multiply-adds take about 0.1 s, compared with which starting a thread costs nothing.
LONG_WORK = 1e9
# Memory takes as long to deliver these numbers. Under load both take ten times as long.
LONG_READ = 5e7


def call_kernel(kernel: Callable[..., T], per_number: int, X: Matrix, *args) -> T:
    """Return `kernel(X, *args)`, called by `interruptible` if it takes long.

    It takes `per_number` multiply-adds per number of X. For X on a GPU it is always called
    directly: each thread would have a stream of its own there, and kernels are quick.
    """
    return call_long(stored_numbers(X), kernel, per_number, X, *args)


def call_long(numbers: float, kernel: Callable[..., T], per_number: int, X: Matrix, *args) -> T:
    """Return `kernel(X, *args)` as `call_kernel` does, where the call reads so many numbers.

    They may be a part of X, or X several times.
    """
    is_short = numbers < LONG_READ and numbers * max(per_number, 1) < LONG_WORK
    if is_short or lives_on_device(X):
        return kernel(X, *args)
    return interruptible(kernel, X, *args)


def call_gram(
    kernels: Kernels,
    X: Matrix,
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    shift: np.ndarray | None,
    n_threads: int,
) -> Gram:
    """Return the sums of `kernels.gram`, which takes (d + t)^2 multiply-adds per dense row.

    Few of them are made by one thread. Of sparse rows, it takes those of the stored numbers.
    """
    d, t = X.shape[1], y.shape[1]
    per_number = (d + t) * (d + t) // d
    if isinstance(X, CSR):
        stored, products = max(stored_numbers(X), 1), gram_products(X)
        per_number = t + int(2.0 * products / stored)
        few = products + t * stored <= FEW_GRAM_PRODUCTS
    else:
        few = is_small(X.shape, t, FEW_GRAM_PRODUCTS)
    n_threads = 1 if few else n_threads
    return call_kernel(kernels.gram, per_number, X, y, sample_weight, shift, n_threads)


def call_loss_gradient(
    kernels: Kernels,
    X: Matrix,
    y: np.ndarray,
    coef: np.ndarray,
    intercept: np.ndarray,
    sample_weight: np.ndarray | None,
    n_threads: int,
) -> TargetGradients:
    """Return the result of `kernels.loss_gradient`, for weights (t, d) in any memory order."""
    w = np.ascontiguousarray(coef)
    return call_kernel(
        kernels.loss_gradient, 2 * len(w), X, y, w, intercept, sample_weight, n_threads
    )
