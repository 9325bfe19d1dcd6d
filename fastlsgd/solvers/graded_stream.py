"""Least squares of a stream of rows of very different sizes, after each of them.

The triangle of `recursive.py` is updated row by row, and loses what light rows say as soon as a
heavy one is added: the rounding of each of its rows is relative to the largest number in it. Beside
a row of 1e4 to 1e16, or a weight of 1e4 to 1e20, 97 of 300 streams had weights that were wrong
without a warning, and 122 of 300 with an L1 penalty. So where rows differ that much, each call
decomposes the triangle and its own rows anew, sorted by size and with columns pivoted
(`graded.py`). That costs some d^3 per call where the triangle takes 2 d^2 per row. A stream in
which no row is large never comes here, and one that has come here stays.
"""

from __future__ import annotations

import warnings
from copy import copy
from typing import NamedTuple

import numpy as np
from scipy.linalg import qr
from sklearn.exceptions import ConvergenceWarning

from .graded import GradedTriangle, norms_of, ordinary_units
from .graded_sets import GRADED_COLUMNS, NOT_SEEN, graded_minimum
from .problem import Penalty, Terms
from .quadratic import minima
from .rows import random_rows
from .training import Objective

# Beside rows of so many times the size of ordinary ones, the triangle loses digits. Of very few
# rows, one may be small by chance.
LARGE, LARGE_OF_FEW, FEW = 1e4, 1e6, 8
LARGE_FOR_SUMS = 1e3  # the same with an L1 penalty, where sums of squares are taken
# Rows that are all smaller than those before by this factor are light beside them, where a wrong
# guess makes all further calls slower.
LIGHT, LIGHT_BESIDE_FEW = 1e-8, 1e-6
# A spread of a column that is this share of its mean is rounding.
FLAT = 1e-12
ORDINARY_ROWS = 64  # which show the size of ordinary rows


class RowsSoFar(NamedTuple):
    """What `recursive.py` knows of a stream, but for rows that are not in the triangle yet."""

    R: np.ndarray  # of the rows [1, x, y]
    rows: int
    weight: float
    last: np.ndarray  # (d,): the last row
    varies: np.ndarray  # (d,): which columns have varied
    stored: np.ndarray  # (d,): which have not been zero


def differ_in_size(
    R: np.ndarray, rows: int, X: np.ndarray, s: np.ndarray, objective: Objective
) -> bool:
    """Return whether some of these rows hide others, among them or in the triangle of `rows` more.

    Those in the triangle are known not to hide each other.
    """
    root, centred = np.sqrt(s)[:, None], objective.fit_intercept
    large = LARGE_FOR_SUMS if objective.l1 > 0.0 else LARGE
    if rows == 0:
        return _hide_each_other(X, root, centred, large if len(X) >= FEW else LARGE_OF_FEW)
    A = R[:, : 1 + X.shape[1]]
    norms = _norms(A)
    middle, spread = np.zeros(X.shape[1]), norms
    sizes = _largest(X, root, middle)
    if _are_light(sizes, norms[1:] / np.sqrt(rows), rows):
        return True
    if centred:
        middle = A[0, 1:] / A[0, 0]
        sizes = _largest(X, root, middle)
        spread = np.append(norms[0], _norms(A[1:, 1:]))
        spread[1:][spread[1:] <= FLAT * np.abs(A[0, 1:])] = 0.0
    sizes, spread = np.append(root.max(), sizes), spread / np.sqrt(rows)
    heavy = (sizes > large * spread) & (spread > 0.0)
    return bool(heavy.any()) or _are_light(sizes, spread, rows)


def _largest(X: np.ndarray, root: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Return the largest |x - middle| of each column, times the roots (n, 1) of the rows' weights.

    Where these are equal, that is where x is largest or smallest, which takes half the time.
    """
    if (root == root[0]).all():
        return np.maximum(X.max(axis=0) - middle, middle - X.min(axis=0)) * root[0]
    return (np.abs(X - middle) * root).max(axis=0)


def _norms(A: np.ndarray) -> np.ndarray:
    """Return the norms of columns, by squares where these are far within the range of float64."""
    squares = np.einsum("ij,ij->j", A, A)
    if ((squares > 1e-250) & (squares < 1e250)).all():
        return np.sqrt(squares)
    return norms_of(A)  # which takes 1.5 ms for 200 x 200, and einsum 20 us


def _are_light(most: np.ndarray, size: np.ndarray, rows: int) -> bool:
    """Return whether the largest numbers of a column are far below those of so many rows before."""
    limit = LIGHT if rows > ORDINARY_ROWS else LIGHT_BESIDE_FEW
    return bool(((most < limit * size) & (most > 0.0)).any())


def _hide_each_other(X: np.ndarray, root: np.ndarray, centred: bool, limit: float) -> bool:
    few = random_rows(len(X), ORDINARY_ROWS, None)
    sample, sampled_root, largest_root = X[few], root[few], float(root.max())
    if largest_root > limit * np.partition(sampled_root[:, 0], (len(few) - 1) // 4)[0]:
        return True
    highest, lowest = X.max(axis=0), X.min(axis=0)
    middles = [np.zeros(X.shape[1])]
    if centred:
        middles.append(np.sort(sample, axis=0)[len(few) // 2])
    for middle in middles:
        sizes = np.abs(sample - middle) * sampled_root
        counts = np.count_nonzero(sizes, axis=0)
        stored = np.sort(np.where(sizes > 0.0, sizes, np.inf), axis=0)
        ordinary = stored[np.maximum(counts - 1, 0) // 4, np.arange(X.shape[1])]
        ordinary[4 * counts <= len(few)] = np.inf  # too few to tell
        large = np.maximum(highest - middle, middle - lowest) * largest_root > limit * ordinary
        # That is where the largest number has the largest weight.
        for j in np.flatnonzero(large):
            if (np.abs(X[:, j] - middle[j]) * root[:, 0]).max() > limit * ordinary[j]:
                return True
    return False


class GradedMemory(NamedTuple):
    """What is kept of a stream. The arrays are never written to."""

    start: tuple[np.ndarray, np.ndarray]  # weights before the first row
    objective: Objective
    # Of the rows [(x - origin) / 2^units, 1] and (y - y_origin) / 2^y_units.
    triangle: GradedTriangle
    origin: np.ndarray  # (d,)
    y_origin: np.ndarray  # (t,)
    units: np.ndarray  # (d,)
    y_units: np.ndarray  # (t,)
    rows: int
    weight: float
    last: np.ndarray
    varies: np.ndarray
    stored: np.ndarray
    coef: np.ndarray  # (t, d): of all rows
    intercept: np.ndarray  # (t,)

    @property
    def is_new(self) -> bool:
        return False

    def of_target(self, t: int) -> GradedMemory:
        """Return the memory of a stream of target t alone."""
        triangle = GradedTriangle(self.triangle.upper.shape[1], 1)
        triangle.upper, triangle.right = self.triangle.upper, self.triangle.right[:, [t]]
        triangle.dropped = self.triangle.dropped[[t]]
        return self._replace(
            start=(self.start[0][[t]], self.start[1][[t]]),
            triangle=triangle,
            y_origin=self.y_origin[[t]],
            y_units=self.y_units[[t]],
            coef=self.coef[[t]],
            intercept=self.intercept[[t]],
        )


def graded_memory(
    start: tuple[np.ndarray, np.ndarray],
    objective: Objective,
    before: RowsSoFar,
    X: np.ndarray,
    y: np.ndarray,
) -> GradedMemory:
    """Return the memory of the rows before; X and y are the first to come after them."""
    (t, d), centred = start[0].shape, objective.fit_intercept
    few = random_rows(len(X), ORDINARY_ROWS, None)
    A, origin, y_origin, is_light = before.R, np.zeros(d), np.zeros(t), True
    if centred:
        typical = few[_most_typical(X[few])]
        origin, y_origin = X[typical].copy(), y[typical].copy()
    if centred and before.rows:
        mean = A[0] / A[0, 0]
        is_light = _is_lighter(mean[1 : 1 + d], origin)
        if is_light:
            origin, y_origin = mean[1 : 1 + d], mean[1 + d :]
    units = _units_of(X[few] - origin)
    ones, rows, right = A[:, :1], A[:, 1 : 1 + d], A[:, 1 + d :]
    if before.rows:
        rows, right = rows - ones * origin, right - ones * y_origin
        spread = norms_of(rows) / np.sqrt(before.weight)
        known = before.varies & (spread > 0.0) & is_light
        units = np.where(known, np.frexp(spread)[1], units)
    largest = np.abs(y[few] - y_origin).max(axis=0, initial=0.0)
    y_units = np.frexp(largest)[1]
    triangle = GradedTriangle(d + 1, t)
    if before.rows:
        left = np.hstack([np.ldexp(rows, -units), ones])
        triangle = triangle.with_rows(left, np.ldexp(right, -y_units))
    return GradedMemory(
        start, objective, triangle, origin, y_origin, units, y_units, before.rows, before.weight,
        before.last, before.varies, before.stored, *start,
    )  # fmt: skip


def _is_lighter(row: np.ndarray, other: np.ndarray) -> bool:
    """Return whether a row is not far larger than another in more columns than it is smaller in."""
    a, b = np.abs(row), np.abs(other)
    return bool(np.count_nonzero(a > LARGE * b) <= np.count_nonzero(b > LARGE * a))


def _most_typical(A: np.ndarray) -> int:
    """Return which of these rows is nearest to the middle of all; of very few, the smallest."""
    if len(A) < FEW:
        sizes = np.log(np.maximum(np.abs(A), np.finfo(np.float64).tiny))
        return int(np.argmin(sizes.sum(axis=1)))
    away = np.abs(A - np.sort(A, axis=0)[(len(A) - 1) // 2])
    typical = np.sort(away, axis=0)[len(away) // 2]
    np.divide(away, typical, out=away, where=typical > 0.0)
    return int(np.argmin(away.max(axis=1, initial=0.0)))


def _units_of(A: np.ndarray) -> np.ndarray:
    """Return the powers of two near the ordinary numbers of each column; 0 where all are 0."""
    A = np.abs(A)
    exponents = np.frexp(A.max(axis=0, initial=0.0))[1]
    return np.where(A.any(axis=0), ordinary_units(A, exponents), 0)


class GradedStream:
    """Takes rows, however they are cut; `memory` is what the next call continues from.

    Parameters
    ----------
    memory : GradedMemory
        It is left unchanged.
    objective : Objective
    """

    def __init__(self, memory: GradedMemory, objective: Objective) -> None:
        self.memory = memory._replace(objective=objective)

    def add(self, X: np.ndarray, y: np.ndarray, s: np.ndarray) -> None:
        """Add a block of rows, which are float64."""
        if len(s) == 0:
            return
        memory, root = self.memory, np.sqrt(s)[:, None]
        last = memory.last if memory.rows else X[0]
        varies = memory.varies | (X[0] != last) | (X[1:] != X[:-1]).any(axis=0)
        stored = memory.stored | X.any(axis=0)
        away, units, triangle = X - memory.origin, memory.units, memory.triangle
        # The first rows may be the heavy ones, and a column may have been constant so far.
        new = away.any(axis=0)
        if memory.rows > ORDINARY_ROWS:
            new &= ~(memory.varies | memory.stored)
        if new.any():
            few = random_rows(len(away), ORDINARY_ROWS, None)
            own, is_known = _units_of(away[few]), memory.varies | memory.stored
            own = np.where(is_known, np.minimum(own, units), own)
            units = np.where(new & away[few].any(axis=0), own, units)
            triangle = copy(triangle)
            triangle.upper = triangle.upper.copy()
            triangle.upper[:, :-1] = np.ldexp(triangle.upper[:, :-1], memory.units - units)
        left = np.hstack([np.ldexp(away, -units) * root, root])
        right = np.ldexp(y - memory.y_origin, -memory.y_units) * root
        with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
            triangle = triangle.with_rows(left, right)
        self.memory = memory._replace(
            triangle=triangle,
            units=units,
            rows=memory.rows + len(s),
            weight=memory.weight + float(s.sum()),
            last=X[-1].copy(),
            varies=varies,
            stored=stored,
        )

    def finish(self) -> None:
        """Find the weights of all rows so far."""
        memory, objective = self.memory, self.memory.objective
        columns = np.flatnonzero(memory.varies if objective.fit_intercept else memory.stored)
        with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
            triangle = _of_regression(memory, columns)
            find = _sparse_weights if objective.l1 > 0.0 else _weights
            v = find(memory, triangle, columns)
        coef = memory.start[0].copy() if objective.l2 == 0.0 else np.zeros_like(memory.coef)
        by = memory.y_units[:, None] - memory.units[columns]
        coef[:, columns] = np.ldexp(v[: len(columns)].T, by)
        intercept = memory.start[1]
        if objective.fit_intercept:
            shift = np.ldexp(v[-1], memory.y_units)
            intercept = memory.y_origin + shift - coef @ memory.origin
        self.memory = memory._replace(coef=coef, intercept=intercept)


def _of_regression(memory: GradedMemory, columns: np.ndarray) -> GradedTriangle:
    """Return the triangle of these columns, and of the intercept's where one is fitted."""
    objective, rows, width = memory.objective, memory.triangle, len(columns)
    units, upper, right = memory.units[columns], rows.upper[:, columns], rows.right
    ones = rows.upper[:, -1:]
    if objective.fit_intercept:
        upper = np.hstack([upper, ones])
    else:
        upper = upper + ones * np.ldexp(memory.origin[columns], -units)
        right = right - ones * np.ldexp(memory.start[1] - memory.y_origin, -memory.y_units)
    if objective.l2 > 0.0:
        below = np.zeros((width, upper.shape[1]))
        penalty = np.ldexp(np.sqrt(objective.l2 * memory.weight), -units)
        below[:, :width] = np.diag(penalty)
        upper = np.vstack([upper, below])
        right = np.vstack([right, np.zeros((width, right.shape[1]))])
    return GradedTriangle(upper.shape[1], right.shape[1]).with_rows(upper, right)


def _weights(memory: GradedMemory, triangle: GradedTriangle, columns: np.ndarray) -> np.ndarray:
    """Return v (width, t); where it is not determined, the nearest to the start."""
    start = np.zeros((triangle.upper.shape[1], len(memory.coef)))
    if memory.objective.l2 == 0.0:
        by = memory.units[columns, None] - memory.y_units
        start[: len(columns)] = np.ldexp(memory.start[0][:, columns].T, by)
    if start.any() and len(triangle.upper) < len(start):
        triangle = copy(triangle)
        triangle.right = triangle.right - triangle.upper @ start
    else:
        start[:] = 0.0
    shifts = np.zeros(len(columns), dtype=int)
    return start + triangle.solve(shifts, memory.objective.fit_intercept)[0]


def _sparse_weights(
    memory: GradedMemory, triangle: GradedTriangle, columns: np.ndarray
) -> np.ndarray:
    """Return v under L1, with a warning where the search for it would take long or has failed."""
    objective, found = memory.objective, []
    d = len(columns)
    terms = Terms(
        np.full(d, objective.l1), np.full(d, objective.l2), np.full(d, -np.inf), np.full(d, np.inf)
    )
    for k, coef in enumerate(memory.coef):
        units = memory.units[columns], int(memory.y_units[k])
        minimum = None
        if d <= GRADED_COLUMNS:
            minimum = graded_minimum(triangle, k, terms, units, memory.weight, coef[columns])
        if minimum is None:
            warnings.warn(NOT_SEEN, ConvergenceWarning, stacklevel=2)
            return _rough_sparse_weights(memory, triangle, columns)
        found.append(minimum.v)
    return np.column_stack(found)


def _rough_sparse_weights(
    memory: GradedMemory, triangle: GradedTriangle, columns: np.ndarray
) -> np.ndarray:
    """Return v under L1 from sums of products."""
    objective, d, b = memory.objective, len(columns), None
    R, q = triangle.upper, triangle.right
    if objective.fit_intercept:
        turn, beta = qr(R[:, -1:], check_finite=False)
        R, q = turn.T @ R, turn.T @ q
        (first, *_), (first_q, *_) = R, q
        R, q = R[1:], q[1:]
    units = memory.units[columns]
    A = np.ldexp(R[:, :d], units) / np.sqrt(memory.weight)
    right = np.ldexp(q, memory.y_units).T / np.sqrt(memory.weight)
    # The penalty's squares are in the triangle.
    coef = minima(A.T @ A, right @ A, Penalty(objective.l1, 0.0), memory.coef[:, columns])
    v = np.ldexp(coef.T, units[:, None] - memory.y_units)
    if objective.fit_intercept:
        b = (first_q - first[:d] @ v) / beta[0, 0]
    return v if b is None else np.vstack([v, b])
