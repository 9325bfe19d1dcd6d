"""Whether some rows are so large or heavy that sums over all hold next to nothing of the others.

Sums have rounding errors relative to their largest terms, and so have Gram matrices, gradients, and
QR of rows in any order. `graded.py` and `graded_sets.py` do not, and take longer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..kernels.contract import CSR
from ..kernels.device import lives_on_device
from .rows import as_dense, random_rows, range_of_stored, take_rows
from .system import EPS_OF, System

LIGHT_ROWS = 32  # a sample, which shows whether others hide it
# Rows hide numbers of less than this share of a column's root mean square, if these are more than
# one in so many.
HIDDEN, FEW_HIDDEN = 1e-4, 16


class Hidden(NamedTuple):
    """What sums over all rows hide, as a sample of them shows."""

    numbers: bool  # of a column, how rows differ
    rows: bool  # all that most rows say


def hidden_by_sums(
    A: np.ndarray, s: np.ndarray | None, squares: np.ndarray, n: int, centred: bool
) -> Hidden:
    """Return what sums of n rows hide of the sample A, where columns have these squares.

    Successive rows are compared, since large ones move the mean far from all others.
    """
    A = np.abs(np.diff(A, axis=0) if centred else A)
    if s is not None:
        root = np.sqrt(s.astype(np.float64))
        A *= (np.minimum(root[1:], root[:-1]) if centred else root)[:, None]
    size = np.sqrt(squares / n)
    hidden = np.count_nonzero((A > 0.0) & (HIDDEN * size > A), axis=0)
    if not (FEW_HIDDEN * hidden > max(len(A), FEW_HIDDEN)).any():
        return Hidden(False, False)
    largest = np.divide(A, size, out=np.zeros_like(A), where=size > 0.0).max(axis=1, initial=0.0)
    return Hidden(True, bool(2 * np.count_nonzero(largest < HIDDEN**2) > len(A)))


def hidden_in(system: System) -> Hidden:
    """Return what sums over the rows of a system hide, at the cost of a pass for columns' squares.

    Numbers are hidden where rows differ in a column, but by a `HIDDEN` share of its root mean
    square; without an intercept, where they are of that size themselves.
    """
    X, s = system.X, system.host_weights
    if lives_on_device(X):
        return Hidden(False, False)
    if s is None and isinstance(X, CSR):
        least, largest = range_of_stored(X)
        if largest * HIDDEN < least:
            return Hidden(False, False)
    rows = random_rows(system.n, LIGHT_ROWS, s)
    with np.errstate(over="ignore", invalid="ignore"):
        # About zero, squares are at least as large. Those of small integers would overflow.
        if isinstance(X, np.ndarray) and X.dtype in EPS_OF and s is None:
            found = _hidden_by(system, rows, np.einsum("ij,ij->j", X, X))
            if not found.numbers:
                return found
        system.find_centre()
        return _hidden_by(system, rows, system.squares_of(np.arange(system.d)))


def _hidden_by(system: System, rows: np.ndarray, squares: np.ndarray) -> Hidden:
    few = as_dense(take_rows(system.X, rows))
    s = None if system.host_weights is None else system.host_weights[rows]
    return hidden_by_sums(few, s, squares, system.n, system.fit_intercept)
