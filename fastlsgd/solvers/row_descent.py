"""Conjugate gradients on sparse rows in a compiled loop (`csrc/row_descent.inc`).

`conjugate_gradients` with the products of `row_products.py` takes up to half of its time between
these, in NumPy's calls and in vectors that leave the cache meanwhile. Milliseconds of a float64
ridge on a loaded machine, one thread, by calls of products and by this loop:

    1,000 x 3,000, 30 per row            1 target    7.7,   3.9
    2,000 x 20,000, 55 per row           1 target    8.6,   6.4    10 targets  24.6,  18.6
    5,000 x 8,000, 50 per row            1 target    395,   298
    20,000 x 50,000, 55 per row          1 target    162,   150    10 targets  630,   530

An iteration that reads X once was tried: with q = D A z + ..., A^T D q is added up row by row while
X z is found, and X^T D r follows by recurrence. It takes as long (2.2 ms and 2.0 on 20,000 x
50,000), since what limits both is fetching numbers of z, and not reading X. Neither are vectors of
float32 quicker. Adding four numbers to z at once, which is safe as no row has a column twice, saves
a seventh of X^T u.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..kernels.contract import CSR
from ..kernels.optional import RowKernels
from .conjugate import LOOK_BACK, Inner, condition_seen, exceeds
from .interrupt import LONG_WORK, call_long
from .row_products import LINE, WIDTHS, aligned
from .rows import stored_numbers

# What an iteration is asked for is this share of what its result has to pass: recurrences and
# rounding make the actual residuals larger. With a tenth, a twelfth of all iterations were for it.
HALF = 0.5


@dataclass(frozen=True)
class RowMatrix:
    """M = D (A A^T + alpha I) D of sparse rows X, where A is X about the mean, weighted."""

    kernels: RowKernels
    X: CSR  # (n, d), as kernels can read it
    alpha: float
    scale: np.ndarray  # (n,): D
    root: np.ndarray | None  # (n,): roots of the weights
    null: np.ndarray | None  # (n,): the unit vector to which the columns of A are orthogonal
    along_c: np.ndarray | None  # (n,): X c
    shift: np.ndarray | None  # (n,): X c - c . c


@dataclass(frozen=True)
class RowGoal:
    """When an iteration ends.

    Attributes
    ----------
    goal : float
        The share of their size at zero weights that residuals are asked to reach.
    rounding : float
        The share that rounding makes pointless.
    least : float
        The share of their size at the start below which residuals are not believed.
    max_iter, budget, spent
        As `conjugate_gradients` takes them.
    """

    goal: float
    rounding: float
    least: float
    max_iter: int
    budget: int | None
    spent: float


@dataclass(frozen=True)
class _TileFound:
    v: np.ndarray  # (n, w)
    steps: np.ndarray  # (k, w)
    residuals: np.ndarray  # (k + 1, w): their squares
    squares: np.ndarray  # (k + 1, w): |e|^2 before each iteration, and after the last
    products: np.ndarray  # (k + 1, w): u^T (e + y), less what the start of the stage has of it
    is_slow: bool


def descend_rows(
    M: RowMatrix, e: np.ndarray, y: np.ndarray, before: np.ndarray, limits: RowGoal,
    note: Callable[[np.ndarray], None],
) -> Inner:  # fmt: skip
    """Solve M v = D e for all columns of e (n, t) at once.

    Parameters
    ----------
    M : RowMatrix
    e, y, before : ndarrays of shape (n, t)
        The residuals, the targets, and what the stages before have found of u.
    limits : RowGoal
    note : callable
        Called for each iteration with |e|^2 + alpha u^T (e + y) of each target, (t,), before it.
    """
    t = e.shape[1]
    tiles = [slice(start, min(start + LINE, t)) for start in range(0, t, LINE)]
    found = [_tile(M, e[:, part], y[:, part], before[:, part], limits) for part in tiles]
    n_iter = max(len(tile.steps) for tile in found)
    paid = np.einsum("it,it->t", before, y)
    objective = np.hstack(
        [
            _lengthened(tile.squares + M.alpha * tile.products, n_iter)[:, : part.stop - part.start]
            for tile, part in zip(found, tiles, strict=True)
        ]
    )
    for row in objective:
        note(row + M.alpha * paid)
    v = np.hstack([tile.v for tile in found])[:, :t] if len(found) > 1 else found[0].v[:, :t]
    seen = condition_seen(found[0].steps[:, 0].tolist(), found[0].residuals[:, 0].tolist())
    return Inner(v.T, *seen, any(tile.is_slow for tile in found), n_iter)


def _lengthened(told: np.ndarray, count: int) -> np.ndarray:
    """Return the first `count` rows, of which the last stands for those that are missing."""
    return told[np.minimum(np.arange(count), len(told) - 1)]


def _tile(
    M: RowMatrix, e: np.ndarray, y: np.ndarray, before: np.ndarray, limits: RowGoal
) -> _TileFound:
    """Solve for as many columns as lie together in a line of cache."""
    (n, count), d = e.shape, M.X.shape[1]
    w = next(width for width in WIDTHS if width >= count)
    e, y, known = (_widened(columns, w) for columns in (e, y, before))
    r = M.scale[:, None] * e
    v, p, q, z = np.zeros((n, w)), np.zeros((n, w)), np.empty((n, w)), aligned(d, w)
    rho, products = _dots(r, r), _dots(known, e)
    told = [np.array([np.zeros(w), rho, _dots(e, e), products, np.zeros(w)])[None]]
    scaled_y = M.scale[:, None] * y
    ends = limits.least**2 * rho, (HALF * limits.goal) ** 2 * _dots(scaled_y, scaled_y)
    of_y = _dots(y, y), _dots(known, y)
    shares = (HALF * limits.goal) ** 2, (HALF * limits.rounding) ** 2
    vectors = v, r, p, q, z, y, known if before.any() else None
    per_row = M.scale, M.root, M.null, M.along_c, M.shift
    numbers, history, is_slow = 2.0 * stored_numbers(M.X), [float(rho.max())], False
    at_once = max(1, int(LONG_WORK / (w * max(numbers, 1.0))))
    first = LOOK_BACK if limits.budget is None else max(LOOK_BACK, limits.spent * limits.budget)
    beta = np.zeros(w)
    while len(history) - 1 < limits.max_iter and not is_slow:
        made = len(history) - 1
        most = int(max(first - made, LOOK_BACK // 2))
        most = min(most, at_once, limits.max_iter - made)
        call = vectors, per_row, (rho, beta), (*ends, *of_y), M.alpha, shares, most
        told.append(call_long(numbers * most, M.kernels.descend_rows, w, M.X, *call))
        history += told[-1][:, 1].max(axis=1).tolist()
        if len(told[-1]) < most or not np.isfinite(history[-1]):
            break
        is_slow = limits.budget is not None and exceeds(limits.budget, history, limits.spent)
    steps, residuals, squares, products, paid = np.concatenate(told).transpose(1, 0, 2)
    return _TileFound(v, steps[1:], residuals, squares, products + paid, is_slow)


def _dots(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the product of each column of a with the same column of b."""
    return (a * b).T.sum(axis=1)


def _widened(columns: np.ndarray, w: int) -> np.ndarray:
    """Return these columns side by side in memory, with zeros up to w of them."""
    out = np.zeros((len(columns), w))
    out[:, : columns.shape[1]] = columns
    return out
