"""The gradient of a loss in parts of the rows, whose sums are short and so round less.

Each part of few numbers is made by one thread. With two threads in each part, these waited for one
another 16 times in a pass over 1,000 x 4,000 float32 numbers, by spinning: beside busy processes, a
lasso took 27 to 250 ms of processor time, and 7 with one thread. Threads that take whole parts, and
sleep when none is left, wait once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from .._threads import pass_threads
from ..kernels.contract import Kernels, Matrix, TargetGradients
from .interrupt import call_loss_gradient
from .rows import row_slice, stored_numbers
from .threaded_products import in_parts

PartGradient = tuple[float, TargetGradients]  # with the sum of the part's weights


def part_gradients(
    kernels: Kernels,
    X: Matrix,
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    coef: np.ndarray,
    intercept: np.ndarray,
    parts: int,
    n_threads: int,
) -> Iterator[PartGradient]:
    """Yield the sum of weights of each part of the rows, and the mean loss and gradient there.

    Parts without weight are left out. The results do not depend on the number of threads, unless
    the parts are large.
    """
    t = y.shape[1]
    most = pass_threads(stored_numbers(X) * t // parts, n_threads)
    # All results are kept, which must not take more memory than X.
    are_shared = parts > 1 and most < n_threads and parts * t <= len(y)
    own_threads = most if are_shared else n_threads

    def call(start: int, stop: int, weight: float) -> PartGradient:
        s = None if sample_weight is None else sample_weight[start:stop]
        rows = row_slice(X, start, stop)
        asked = y[start:stop], coef, intercept, s, own_threads
        return weight, call_loss_gradient(kernels, rows, *asked)

    calls = []
    for start, stop in pairwise(np.linspace(0, len(y), parts + 1).astype(int).tolist()):
        s = None if sample_weight is None else sample_weight[start:stop]
        weight = float(stop - start if s is None else s.sum(dtype=np.float64))
        if weight != 0.0:
            calls.append(partial(call, start, stop, weight))
    return iter(_shared(calls, n_threads)) if are_shared else (call() for call in calls)


def _shared(calls: Sequence[Callable[[], PartGradient]], n_threads: int) -> list[PartGradient]:
    """Return the results of these calls, which so many threads share."""
    out: dict[int, PartGradient] = {}

    def keep(k: int, call: Callable[[], PartGradient]) -> None:
        out[k] = call()

    in_parts([partial(keep, k, call) for k, call in enumerate(calls)], n_threads)
    return [out[k] for k in range(len(calls))]
