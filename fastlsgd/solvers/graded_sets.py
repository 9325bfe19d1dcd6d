"""L1 penalties and bounds where rows differ so much in size that sums hold nothing of the small.

The search is that of `active_set.py`: weights are free between two knots or rest at one, each step
moves towards the least squares of the free ones until the first reaches a knot, and then the weight
joins that violates optimality most. But beside a row of 1e12, the rounding of a gradient hides the
others. So each step decomposes the rows anew, sorted by size and with the free columns pivoted
(`graded.py`), and the slopes of the other columns come from what is left of them outside of the
free columns' span, row by row. Of 60 lassos and 60 problems with bounds beside a row of 1e4 to
1e16, 28 and 17 had other weights without it.

Cost: d^3 operations per step, some of them in Python. The search starts from the weights that a
solver without this care has found.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from .active_set import MOVES_PER_WEIGHT, Lasso
from .constrained import duality_gap
from .factors import EPS, TINY, NotTrustworthy, solve_upper
from .graded import GradedRows, GradedTriangle, pivoted
from .interrupt import interruptible
from .light_rows import hidden_in
from .orthogonal import rank_tolerance
from .problem import Problem, Terms
from .proximal_newton import RowsTriangle
from .solution import Solution
from .system import System

# For more columns, or more work, the solution is returned with a warning.
GRADED_COLUMNS, GRADED_WORK = 256, 2e10
# Slopes are sums of terms with rounding errors of so many eps.
SLOPE_EPS = 64.0
NOT_SEEN = (
    "Rows differ so much in size, or in weight, that rounding beside the largest may hide what the "
    "others say. Scale these rows down, or leave them out."
)


def with_light_rows(
    system: System, problem: Problem, alphas: Sequence, solutions: list[Solution]
) -> list[Solution]:
    """Return the solutions corrected for rows beside which others are rounding, if there are any.

    Where that would take too long, or columns depend on each other, they are returned as they are,
    but as not converged if next to nothing of most rows is in sums.
    """
    constraints = problem.constraints
    if constraints is not None and constraints.has_equalities:
        return solutions
    hidden = hidden_in(system)
    if not hidden.numbers:
        return solutions
    n, d = system.n, system.d
    path = None
    if d <= GRADED_COLUMNS and float(n) * d * d <= GRADED_WORK:
        try:
            with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
                path = _GradedPath(system)
        except (NotTrustworthy, np.linalg.LinAlgError):
            pass
    points = []
    for alpha, solution in zip(alphas, solutions, strict=True):
        terms = problem.terms(alpha, system.t)
        found = None
        if path is not None:
            with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
                found = path.corrected(solution, terms)
        if found is None and hidden.rows:
            found = replace(solution, converged=False, why_not=NOT_SEEN)
        points.append(found or solution)
    return points


class GradedMinimum(NamedTuple):
    v: np.ndarray  # (width,)
    slope: np.ndarray  # (width,)  minus the gradient of the squares, of data and L2 penalty
    squares: float  # of the residuals of the data alone


class _GradedPath:
    """The triangle of the sorted rows, in units of powers of two."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.rows = GradedRows(system, RowsTriangle(system).scale > 0.0)
        self.triangle = GradedTriangle(self.rows.width, system.t)
        for block in self.rows.blocks():
            self.triangle.append(*self.rows.take(block))

    def corrected(self, solution: Solution, terms: list[Terms]) -> Solution | None:
        """Return the solution with the weights at which the search from it ends, if it does."""
        rows, system, columns = self.rows, self.system, self.rows.columns
        coef = np.array(solution.coef, dtype=np.float64)
        intercept = np.zeros(system.t)
        value, gap, squares = 0.0, 0.0, np.zeros(system.t)
        for k, own in enumerate(terms):
            w = coef[k]
            found = self._minimum(k, own, w)
            if found is None:
                return None
            by = rows.units - rows.y_units[k]
            w[columns] = np.ldexp(found.v[: len(columns)], -by)
            np.clip(w, own.lower, own.upper, out=w)
            if system.fit_intercept:
                shift = np.ldexp(found.v[-1] * rows.one, rows.y_units[k])
                intercept[k] = rows.y_origin[k] + shift - w[columns] @ rows.origin
            squares[k] = np.ldexp(found.squares, 2 * rows.y_units[k])
            value += 0.5 * squares[k] + system.weight * own.value(w)
            slope = np.zeros(system.d)
            slope[columns] = np.ldexp(found.slope[: len(columns)], rows.units + rows.y_units[k])
            slope = slope / system.weight + own.l2 * w
            gap += duality_gap(w, own, slope, squares[k] / system.weight)
        return replace(
            solution,
            coef=coef,
            intercept=intercept,
            solver="qr",
            residual_norm=np.sqrt(squares),
            losses=[*solution.losses[:-1], value / system.weight],
            relative_gradient=0.0,
            converged=True,
            dual_gap=None if solution.dual_gap is None else gap,
        )

    def _minimum(self, k: int, terms: Terms, start: np.ndarray) -> GradedMinimum | None:
        """Return the minimum for target k, in the units v = 2^units w / 2^y_unit."""
        rows, system, columns = self.rows, self.system, self.rows.columns
        triangle = self.triangle
        if terms.l2.any():
            triangle = copy(triangle)
            d = len(columns)
            below = np.zeros((d, rows.width))
            below[:, :d] = np.diag(
                np.ldexp(np.sqrt(system.weight * terms.l2[columns]), -rows.units)
            )
            triangle.append(below, np.zeros((d, system.t)))
        own = Terms(*(part[columns] for part in vars(terms).values()))
        y_unit = int(rows.y_units[k])
        return graded_minimum(triangle, k, own, (rows.units, y_unit), system.weight, start[columns])


def graded_minimum(
    triangle: GradedTriangle,
    k: int,
    terms: Terms,
    units: tuple[np.ndarray, int],
    weight: float,
    start: np.ndarray,
) -> GradedMinimum | None:
    """Return the minimum for target k of a triangle, in the units v = 2^units w / 2^y_unit.

    Parameters
    ----------
    triangle : GradedTriangle
        Of rows of this weight and of their L2 penalty; the intercept has the last column, if there
        is one.
    terms : Terms
        Of the columns but for the intercept's.
    units : ndarray of int and int
        Powers of two of the columns and of the target.
    start : ndarray
        The weights w to begin with.
    """
    d = len(start)
    more = np.zeros(triangle.upper.shape[1] - d)
    by = units[0] - units[1]
    lasso = Lasso(
        triangle.upper,
        triangle.right[:, k],
        np.append(np.ldexp(weight * terms.l1, -units[0] - units[1]), more),
        lower=np.append(np.ldexp(terms.lower, by), more - np.inf),
        upper=np.append(np.ldexp(terms.upper, by), more + np.inf),
    )
    v = np.append(np.ldexp(start, by), more)
    search = _GradedSearch(lasso, np.clip(v, lasso.least, lasso.most))
    if not search.run():
        return None
    squares = triangle.dropped[k] ** 2 + search.squares
    if terms.l2.any():
        paid = np.ldexp(np.sqrt(weight * terms.l2), -units[0]) * search.v[:d]
        squares = max(squares - float(paid @ paid), 0.0)
    return GradedMinimum(search.v, search.slope, squares)


class _GradedSearch:
    """The search over sets of free weights.

    Attributes
    ----------
    v, slope : ndarrays of shape (p,)
    squares : float
        |R v - q|^2.
    """

    def __init__(self, lasso: Lasso, start: np.ndarray) -> None:
        self.lasso, self.v = lasso, start
        self.slope, self.squares = np.zeros(len(start)), 0.0
        self.free = lasso.is_free(start)
        self.segments = np.zeros((len(start), 3))
        for j in np.flatnonzero(self.free):
            self.segments[j] = lasso.segment(int(j), float(start[j]), 1.0)

    def run(self) -> bool:
        """Search; return whether it has ended at a minimum, and found no dependent columns."""
        tried = np.zeros(len(self.v), dtype=bool)
        joined = -1
        for _ in range(MOVES_PER_WEIGHT * len(self.v) + 100):
            step = self._step()
            if step is None:
                if joined < 0:
                    return False
                # The column that joined depends on the others.
                self.free[joined], tried[joined], joined = False, True, -1
                continue
            free, z, slope, rounding, outside = step
            moved, stopped = self._moved(free, z)
            if stopped and not moved and joined >= 0 and not self.free[joined]:
                tried[joined] = True
            elif moved:
                tried[:] = False
            if stopped:
                joined = -1 if joined >= 0 and not self.free[joined] else joined
                continue
            others = np.flatnonzero(~self.free)
            violation, direction = self.lasso.apart(self.v[others], slope, others)
            gain = np.where(violation > rounding, violation / np.maximum(outside, TINY), 0.0)
            gain[tried[others]] = 0.0
            k = int(np.argmax(gain)) if len(gain) else 0
            if len(gain) == 0 or not gain[k] > 0.0:
                self.slope[others], self.slope[free] = slope, self.segments[free, 2]
                return not tried.any()
            joined = int(others[k])
            self.free[joined] = True
            self.segments[joined] = self.lasso.segment(
                joined, float(self.v[joined]), float(direction[k])
            )
        return False

    def _step(self):
        """Return the free columns, their best weights, and of the others: slopes, their rounding,
        and their norms outside of the free columns' span; None where free columns depend.
        """
        free, others = np.flatnonzero(self.free), np.flatnonzero(~self.free)
        R, q, v = self.lasso.R, self.lasso.q, self.v
        fixed = others[v[others] != 0.0]
        rest = q - R[:, fixed] @ v[fixed]
        noise = EPS * (np.abs(R) @ np.abs(v) + np.abs(q))
        sizes = np.abs(R).max(axis=1)
        order = np.argsort(-sizes, kind="stable")
        right = np.column_stack([R[:, others], rest])[order]
        p = len(free)
        if p > len(order):
            return None
        T, pivots, right = interruptible(pivoted, R[np.ix_(order, free)], right)
        least = rank_tolerance(len(v)) * np.sqrt(len(order)) * sizes[order][:p]
        if p and not (np.linalg.norm(T, axis=1) > least).all():
            return None
        slopes = self.segments[free[pivots], 2]
        paid = solve_upper(T, slopes, trans="T")
        z = np.zeros(p)
        z[pivots] = solve_upper(T, right[:p, -1] - paid)
        H, V, r = right[:p, :-1], right[p:, :-1], right[p:, -1]
        slope = H.T @ paid + V.T @ r
        terms = np.abs(H).T @ np.abs(paid) + np.abs(V).T @ np.abs(r)
        rounding = SLOPE_EPS * (EPS * terms + np.abs(V).T @ noise[order][p:])
        self.squares = float(paid @ paid + r @ r)
        return free, z, slope, rounding, np.linalg.norm(V, axis=0)

    def _moved(self, free: np.ndarray, z: np.ndarray) -> tuple[bool, bool]:
        """Move towards z; return whether a weight has moved, and whether a knot ended that."""
        here, segments = self.v[free], self.segments[free]
        move = z - here
        ends = np.where(move < 0.0, segments[:, 0], segments[:, 1])
        share = np.full(len(free), np.inf)
        moves = move != 0.0
        share[moves] = np.abs(ends[moves] - here[moves]) / np.abs(move[moves])
        first = float(share.min(initial=np.inf))
        if first >= 1.0:
            self.v[free] = z
            return True, False
        self.v[free] = np.clip(here + first * move, segments[:, 0], segments[:, 1])
        crossed = free[share <= first]
        self.v[crossed] = ends[share <= first]
        self.free[crossed] = False
        return first > 0.0, True
