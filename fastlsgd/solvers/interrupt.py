"""Long calls of LAPACK, BLAS and kernels that Ctrl-C must not wait for.

Python runs signal handlers between its own instructions, and a single call of LAPACK on 4,096
columns takes many seconds. Such a call is made in a thread of its own. That helps only if the call
releases the GIL: kernels, NumPy's linear algebra and SciPy's `dgeqrf` do, but SciPy's `dpotrf`,
`svd`, `eigh` and `solve_triangular` do not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from .._threads import carried
from ..kernels.contract import Gram, Kernels, Matrix, TargetGradients
from ..kernels.device import lives_on_device
from .rows import stored_numbers

T = TypeVar("T")

POLL_SECONDS = 0.1
# These multiply-adds take about 0.1 s, compared with which starting a thread costs nothing.
LONG_WORK = 1e9
# Memory takes as long to deliver these numbers. Under load both take ten times as long.
LONG_READ = 5e7


def interruptible(function: Callable[..., T], *args, **kwargs) -> T:
    """Call `function` in a thread of its own, so that KeyboardInterrupt is raised here at once.

    After an interrupt the call runs to its end in the background, and its result is dropped. So it
    must own its arguments or only read them, and it must release the GIL. The new thread inherits
    this thread's settings.

    Signals reach the main thread only; in any other thread, `function` is called directly.
    """
    if threading.current_thread() is not threading.main_thread():
        return function(*args, **kwargs)
    outcome: list[Any] = []
    error: list[BaseException] = []
    call = carried(function)

    def work() -> None:
        try:
            outcome.append(call(*args, **kwargs))
        except BaseException as raised:
            error.append(raised)

    worker = threading.Thread(target=work, name="fastlsgd-interruptible", daemon=True)
    try:
        worker.start()
    except RuntimeError:  # no thread can be started: answer Ctrl-C late rather than fail
        return function(*args, **kwargs)
    while worker.is_alive():
        worker.join(POLL_SECONDS)
    if error:
        raise error[0]
    return outcome[0]


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
    """Return the sums of `kernels.gram`, which takes (d + t)^2 multiply-adds per dense row."""
    d, t = X.shape[1], y.shape[1]
    per_number = (d + t) * (d + t) // d
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


def product(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return A B of two matrices, computed by `interruptible` if it takes long."""
    long = float(A.shape[0]) * A.shape[1] * B.shape[1] >= LONG_WORK
    return interruptible(np.matmul, A, B) if long else A @ B
