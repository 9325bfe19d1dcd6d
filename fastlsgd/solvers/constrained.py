"""Least squares with bounds, linear equalities, penalties per feature and penalties per target.

    J(w) = 1/(2 S) |A w - y|^2 + sum_j (l1_j |w_j| + l2_j/2 w_j^2),    lower <= w <= upper, E w = e

As in `proximal_newton.py`, J is minimised on the Gram matrix (`bounded_newton.py`), whose rounding
the gradient of the data then corrects. Where the columns are too ill-conditioned for that, or
there are fewer rows than columns, the triangle of a QR decomposition of the rows takes its place
(`augmented.py`). The answer is judged by a last pass over the data: how far each weight is from
optimality, how far each equality is from holding and, where it is finite, the duality gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ..kernels.contract import working_dtype
from . import active_set, augmented
from .active_set import Lasso
from .augmented import Bounded
from .bounded_newton import BoundedQuadratic, Found, condition_of
from .constraints import Constraints
from .factors import EPS, GRAM_CONDITION, TINY, NotTrustworthy, cholesky_factor, column_scale
from .orthogonal import solve_triangle_of_rows
from .problem import Problem, Terms
from .proximal_newton import (
    GRAM_FEATURES,
    ROUND_CONDITION,
    RowsTriangle,
    is_cheap,
    refuse_target_range,
    residual_rounding,
)
from .solution import Solution
from .system import System

# A violation of optimality, relative to |A_j| |r|, times the condition of all columns: J may exceed
# its minimum by the square of this, relative to |r|^2.
HIDDEN = 1e-6
# Weights of the sums are no start for the rows if their terms exceed the target so many times:
# along dependent columns they are rounding, and would leave the residual few digits.
LARGE_START = 1e4
# For so few features, the multipliers that fit best are looked for where a violation exceeds this
# share of the largest column.
FEW_VIOLATIONS, ROUNDED = 300, 1e-13

# A minimum, and whether the solver refused columns that depend on others.
_Answer = tuple[Found, bool]


def fit_constrained(
    system: System,
    problem: Problem,
    alphas: Sequence[Any],
    start: np.ndarray | None,
    *,
    solver: str,
    tol: float,
    max_iter: int,
) -> list[Solution]:
    """Return the solutions for these penalties, each started from the one before.

    The weights of features that are constant, or have no data, are as small as constraints and
    penalties let them be.

    Raises
    ------
    NotTrustworthy
        If sums overflow.
    """
    constraints = problem.constraints
    assert constraints is not None
    sums: _SumsPath | None = None
    rows: _RowsPath | None = None
    if solver != "qr" and system.n >= system.d and system.d <= GRAM_FEATURES:
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                sums = _SumsPath(system, constraints)
        except NotTrustworthy:
            sums = None
    coef = None if start is None else np.clip(start, constraints.lower, constraints.upper)
    points = []
    for alpha in alphas:
        terms = problem.terms(alpha, system.t)
        point = None
        if sums is not None:
            point, is_solved = sums.solution(terms, coef, tol, max_iter)
            coef = point.coef
            is_better = point.condition > ROUND_CONDITION and is_cheap(system)
            point = None if is_better or not is_solved else point
        if point is None:
            rows = rows or _RowsPath(system, constraints)
            point = rows.solution(terms, coef, tol)
        points.append(point)
        coef = point.coef
    return points


class _SumsPath:
    """Solutions from H and c, corrected by passes over the data."""

    def __init__(self, system: System, constraints) -> None:
        self.system, self.constraints = system, constraints
        xx, xy = system.centred_gram()
        system.refuse_underflow(np.diag(xx))
        refuse_target_range(system)
        scale = system.columns_scale(np.diag(xx))
        out = scale == 0.0
        if constraints.E[:, out].any():
            raise NotTrustworthy("equalities rule columns that the Gram matrix does not show")
        self.H, self.c = xx / system.weight, xy.T / system.weight
        self.H[out], self.H[:, out], self.c[:, out] = 0.0, 0.0, 0.0
        self.size = np.sqrt(np.diag(self.H))
        self.variance = system.target_squares() / system.weight
        self.whole_condition: float | None = None  # of all columns, where it is known

    def solution(self, terms: list[Terms], coef, tol: float, max_iter: int):
        """Return a solution, and whether it is good enough without the triangle of the rows."""
        system, judge = self.system, _Judge(self, tol)
        problems = [BoundedQuadratic(self.H, c, self.constraints) for c in self.c]
        best: Solution | None = None
        losses: list[float] = []
        while True:
            starts = [None] * system.t if coef is None else list(coef)
            found = [
                quadratic.minimise(own, at)
                for quadratic, own, at in zip(problems, terms, starts, strict=True)
            ]
            coef = np.array([minimum.w for minimum in found])
            point, gradient, hidden = judge.point(found, terms)
            point.condition = max(minimum.condition for minimum in found)
            losses.append(point.losses[-1])
            falls = best is None or point.relative_gradient < 0.5 * best.relative_gradient
            if best is None or falls or point.converged:
                best, least = point, hidden
            if point.converged or not falls or len(losses) >= max_iter:
                break
            for problem, w, g in zip(problems, coef, gradient, strict=True):
                problem.c = problem.H @ w - np.where(self.size > 0.0, g, 0.0)
        best.losses, best.n_iter = losses, len(losses)
        self.whole_condition = problems[0].whole_condition or self.whole_condition
        sound = best.condition <= GRAM_CONDITION and best.converged
        return best, sound and all(
            self._shows_all(t, violation) for t, violation in zip(terms, least, strict=True)
        )

    def _shows_all(self, terms: Terms, violation: float) -> bool:
        """Return whether no column can lower J by more than rounding, given its violation.

        Nor may they depend on each other where the optimum of least norm is looked for.
        """
        if self.whole_condition is not None and violation * self.whole_condition <= HIDDEN:
            return True
        is_unique = asks_more_than_bounds(self.constraints, terms)
        if violation == 0.0 and is_unique:
            return True
        squares = np.diag(self.H) + terms.l2
        H = self.H + np.diag(terms.l2)
        try:
            factor = cholesky_factor(H, 0.0, column_scale(squares))
        except NotTrustworthy:
            return False
        is_unique |= factor.condition <= GRAM_CONDITION
        return is_unique and violation * factor.condition <= HIDDEN


def asks_more_than_bounds(constraints: Constraints, terms: Terms) -> bool:
    """Return whether there are equalities or penalties."""
    return bool(constraints.has_equalities or terms.l1.any() or terms.l2.any())


class _RowsPath(RowsTriangle):
    """Solutions on the triangle of a QR decomposition of [A, y]."""

    def __init__(self, system: System, constraints) -> None:
        super().__init__(system)
        self.constraints = constraints
        with np.errstate(over="ignore", invalid="ignore"):
            norms = np.ldexp(np.linalg.norm(self.upper[:, : system.d], axis=0), self.units)
            self.size = np.where(self.scale > 0.0, norms, 0.0) / np.sqrt(system.weight)
            targets = np.linalg.norm(self.upper[:, system.d :], axis=0)
            self.variance = np.ldexp(targets, self.y_units) ** 2 / system.weight

    def solution(self, terms: list[Terms], start, tol: float) -> Solution:  # type: ignore[override]
        with np.errstate(over="ignore", invalid="ignore"):
            if start is None:
                start = np.tile(self.constraints.start, (self.system.t, 1))
            least_norm = [self._free(k, own) for k, own in enumerate(terms)]
            found, point = self._judged(least_norm, terms, start, tol)
            if any(least_norm) and not point.converged:
                # Where they interpolate, their rounding is larger than what is left of y.
                others = self._judged([None] * len(terms), terms, start, tol)
                found, point = others if others[1].converged else (found, point)
        point.solver, point.n_iter = "qr", 1
        point.condition = max(minimum.condition for minimum, _ in found)
        if any(refused for _, refused in found):
            point.converged = False
            point.why_not = (
                f"The columns depend on each other to the rounding of "
                f"{working_dtype(self.system.X)}: weights of that type cannot hold the minimum. "
                f"What is returned is the minimum of columns that do not. Pass X as float64."
            )
        elif not all(minimum.settled for minimum, _ in found):
            point.converged = False
            point.why_not = (
                f"The active set still changes: the columns are too ill-conditioned (condition "
                f"{point.condition:.2g})."
            )
        return point

    def _judged(
        self, known: list[_Answer | None], terms: list[Terms], start: np.ndarray, tol: float
    ) -> tuple[list[_Answer], Solution]:
        """Return the minima of the targets, found where they are not known, and their judgement."""
        found = [
            answer or self._found(k, own, at)
            for k, (answer, own, at) in enumerate(zip(known, terms, start, strict=True))
        ]
        return found, _Judge(self, tol).point([minimum for minimum, _ in found], terms)[0]

    @cached_property
    def _least_norm(self) -> np.ndarray | None:
        """The weights of least norm without bounds, if columns depend on each other."""
        exponents = np.concatenate([self.units, self.y_units])
        found = solve_triangle_of_rows(self.system, self.upper, exponents)
        return found.coef if found.rank < self.system.d else None

    def _free(self, k: int, terms: Terms) -> _Answer | None:
        """Return the weights of least norm of target k if they minimise J and are within bounds.

        So does scipy.optimize.lsq_linear.
        """
        if asks_more_than_bounds(self.constraints, terms):
            return None
        w = None if self._least_norm is None else self._least_norm[k]
        if w is None or not ((terms.lower <= w) & (w <= terms.upper)).all():
            return None
        is_free = (terms.lower < w) & (w < terms.upper)
        return Found(w, np.zeros(len(self.constraints.e)), is_free, np.inf, True), False

    def _found(self, k: int, terms: Terms, start: np.ndarray) -> _Answer:
        """Minimise for target k, in the units v = 2^units w / 2^y_unit."""
        system, d, y_unit = self.system, self.system.d, int(self.y_units[k])
        R, q = self.upper[:d, :d] * (self.scale > 0.0), self.upper[:d, d + k]
        if terms.l2.any():
            root = np.ldexp(np.sqrt(system.weight * terms.l2), -self.units)
            R, q = np.vstack([R, np.diag(root)]), np.append(q, np.zeros(d))
        by = self.units - y_unit
        bounded = Bounded(
            R,
            q,
            np.ldexp(system.weight * terms.l1, -self.units - y_unit),
            np.ldexp(terms.lower, by),
            np.ldexp(terms.upper, by),
            np.ldexp(self.constraints.E, -self.units),
            np.ldexp(self.constraints.e, -y_unit),
            self._dependent(),
            np.ldexp(self.constraints.rounding, -y_unit),
        )
        at = np.ldexp(start, by)
        if np.abs(at) @ np.linalg.norm(R, axis=0) > LARGE_START * np.linalg.norm(q):
            at = np.ldexp(self.constraints.start, by)
        found = augmented.minimise(bounded, at)
        w = np.clip(np.ldexp(found.w, -by), terms.lower, terms.upper)
        multipliers = np.ldexp(found.multipliers, y_unit) / system.weight
        condition = condition_of(R, bounded.E, found.is_free)
        minimum = Found(w, multipliers, found.is_free, condition, found.settled)
        return minimum, found.has_refused

    def _dependent(self) -> float:
        """Return the share of a column outside of others below which it depends on them.

        Where equalities hold, heavy rows make all columns nearly parallel.
        """
        if self.constraints.has_equalities:
            return augmented.DEPENDENT
        return 10.0 * float(np.finfo(working_dtype(self.system.X)).eps)


class _Judge:
    """Certificates of weights, from a pass over the data.

    `path` has the system, the constraints, the root mean square `size` of each column, and the
    `variance` of the targets.
    """

    def __init__(self, path: _SumsPath | _RowsPath, tol: float) -> None:
        self.path, self.tol = path, tol

    def point(self, found: list[Found], terms: list[Terms]):
        """Return the solution, the loss's gradient (t, d), and what its columns may hide, (t,)."""
        system, constraints = self.path.system, self.path.constraints
        coef = np.array([minimum.w for minimum in found])
        seen = system.gradient(coef, system.intercept_for(coef))
        gradient = np.where(self.path.size > 0.0, seen.coef / system.weight, 0.0)
        if not np.isfinite(gradient).all():
            raise NotTrustworthy("the gradient overflows")
        squares = np.maximum(seen.squares / system.weight - seen.intercept**2, 0.0)
        intercept = system.intercept_for(coef)
        rounding, amplitude = residual_rounding(self.path, coef, intercept, np.sqrt(squares))
        largest = float(self.path.size.max(initial=0.0)) or 1.0
        unit = np.where(self.path.size > 0.0, self.path.size, largest)
        reach = np.sqrt(np.maximum(self.path.variance, squares)) * 2.0
        worst, gaps, multipliers, hidden, holds = 0.0, [], [], [], True
        for k, (minimum, own) in enumerate(zip(found, terms, strict=True)):
            mu, violation = self._violation(minimum, own, gradient[k])
            rho = float(np.sqrt(squares[k]))
            worst = max(worst, float((violation / np.maximum(unit * reach[k], TINY)).max()))
            allowed = np.maximum(self.tol * unit * rho, self._noise(rounding[k], own, minimum, mu))
            off = np.abs(constraints.E @ minimum.w - constraints.e)
            holds &= bool((violation <= allowed).all())
            typical = np.where(self.path.size > 0.0, reach[k], 0.0) / unit
            holds &= bool((off <= constraints.allowed(minimum.w, typical)).all())
            holds &= minimum.settled
            relative = float((violation / np.maximum(unit * rho, TINY)).max())
            hidden.append(0.0 if rho <= 8.0 * amplitude[k] else relative)
            near = _dual_feasible(mu, -gradient[k], own, constraints.E)
            slope = -gradient[k] - near @ constraints.E
            gap = duality_gap(minimum.w, own, slope, float(squares[k]))
            gaps.append(gap + float(np.abs(near) @ off))
            multipliers.append(-constraints.back @ mu)
        value = 0.5 * float(squares.sum())
        value += sum(own.value(minimum.w) for minimum, own in zip(found, terms, strict=True))
        point = Solution(
            coef,
            system.intercept_for(coef) - seen.intercept,
            "gram",
            1,
            float("nan"),
            np.sqrt(squares * system.weight),
            [system.weight * value],
            worst,
            holds,
            centre=system.centre,
            dual_gap=float(np.sum(gaps)) if np.isfinite(gaps).all() else None,
        )
        point.multipliers = np.array(multipliers)
        return point, gradient, hidden

    def _noise(self, rounding, terms: Terms, minimum: Found, mu: np.ndarray) -> np.ndarray:
        """Return the rounding in each column's optimality, from residuals, penalty, multipliers."""
        size = np.abs(mu) @ np.abs(self.path.constraints.E) if len(mu) else 0.0
        return rounding + 64.0 * EPS * (terms.l1 + terms.l2 * np.abs(minimum.w) + size)

    def _violation(self, minimum: Found, terms: Terms, gradient: np.ndarray):
        """Return multipliers, and how far each weight is from optimality with them.

        Those of the solver are corrected by the gradient of the data at the weights in the set.
        """
        E, mu, size = self.path.constraints.E, minimum.multipliers, self.path.size
        unit = np.where(size > 0.0, size, float(size.max(initial=0.0)) or 1.0)
        violation = terms.violation(minimum.w, -gradient - mu @ E)
        free = minimum.is_free
        if len(mu) == 0:
            return mu, violation
        slope = gradient + terms.l2 * minimum.w + terms.l1 * np.sign(minimum.w)
        for start in (mu, np.zeros(len(mu))):
            change = np.zeros(len(mu))
            if free.any():
                wanted = -(slope + start @ E)[free] / unit[free]
                change = np.linalg.lstsq((E[:, free] / unit[free]).T, wanted, rcond=1e-10)[0]
            better = terms.violation(minimum.w, -gradient - (start + change) @ E)
            if (better / unit).max() < (violation / unit).max():
                mu, violation = start + change, better
        if len(slope) <= FEW_VIOLATIONS and (violation / unit).max() > ROUNDED * size.max():
            best = _least_violating(minimum.w, terms, -gradient, E, mu, unit)
            better = terms.violation(minimum.w, -gradient - best @ E)
            if (better / unit).max() < (violation / unit).max():
                mu, violation = best, better
        return mu, violation


def _least_violating(
    w: np.ndarray, terms: Terms, slope: np.ndarray, E: np.ndarray, mu: np.ndarray, unit: np.ndarray
) -> np.ndarray:
    """Return the multipliers that violate optimality least, in the sum of squares.

    Where more bounds hold than there are weights, those of the solver are not the only ones, and
    have its rounding times the square of its heavy weight. With s_j between the derivatives to the
    left and right of w_j, the sum is that of (slope_j - l2_j w_j - (E^T mu)_j - s_j)^2.
    """
    left, right = active_set.subgradients(w, terms.l1, terms.lower, terms.upper)
    target = (slope - terms.l2 * w) / unit
    rows = np.hstack([E.T / unit[:, None], np.eye(len(w))])
    norms = np.maximum(np.linalg.norm(rows, axis=0), TINY)
    free = np.full(len(mu), np.inf)
    lower, upper = np.append(-free, left / unit), np.append(free, right / unit)
    problem = Lasso(rows / norms, target, np.zeros(len(norms)), lower=lower, upper=upper)
    start = np.append(mu * norms[: len(mu)], target - (mu @ E) / unit)
    return active_set.minimise(problem, start).u[: len(mu)] / norms[: len(mu)]


def _dual_feasible(mu: np.ndarray, slope: np.ndarray, terms: Terms, E: np.ndarray) -> np.ndarray:
    """Return multipliers near mu at which the conjugates below are finite, if it is easy.

    Where weights have no upper bounds, but equalities such as a sum bound them, rounding would
    leave z_j slightly above l1_j. A combination of equalities that is positive everywhere lowers
    all of them.
    """
    z = slope - mu @ E
    above = np.where(np.isinf(terms.upper) & (terms.l2 == 0.0), z - terms.l1, 0.0)
    if len(mu) == 0 or not (above > 0.0).any():
        return mu
    share = np.linalg.lstsq(E.T, np.ones(len(z)), rcond=None)[0]
    rise = share @ E
    if not ((rise > 0.0) | (terms.lower == terms.upper)).all():
        return mu
    return mu + share * float((above[above > 0.0] / rise[above > 0.0]).max())


def duality_gap(w: np.ndarray, terms: Terms, slope: np.ndarray, squares: float) -> float:
    """Return J(w) minus the dual objective at a multiple s of the residual r = y - A w.

    By Fenchel's inequality, with z = A^T r / S - E^T mu (the `slope`) and the penalty and bounds
    p_j, J(w) - J* is at most

        (1 - s)^2/2 |r|^2 / S + sum_j (p_j(w_j) + p_j*(s z_j) - s z_j w_j) + |mu| |E w - e|

    where p_j* is the conjugate of p_j; the last term is left to the caller. s is the largest number
    up to 1 at which all conjugates are finite. A weight with neither a penalty nor bounds on both
    sides has none unless z_j is zero: the gap is then infinite, which says nothing.
    """
    l1, l2, lower, upper = terms.l1, terms.l2, terms.lower, terms.upper
    no_end = np.where(slope > 0.0, np.isinf(upper), np.isinf(lower)) & (l2 == 0.0)
    exceeds = no_end & (np.abs(slope) > l1)
    share = float((l1[exceeds] / np.abs(slope[exceeds])).min(initial=1.0))
    if not share > 0.0:
        return np.inf
    z = share * slope
    soft = np.sign(z) * np.maximum(np.abs(z) - l1, 0.0)
    soft[exceeds & (np.abs(z) <= l1 * (1.0 + 4.0 * EPS))] = 0.0
    far = np.where(soft > 0.0, upper, np.where(soft < 0.0, lower, 0.0))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        best = np.clip(np.where(l2 > 0.0, soft / l2, far), lower, upper)
        conjugate = z * best - l1 * np.abs(best) - 0.5 * l2 * best * best
        paid = l1 * np.abs(w) + 0.5 * l2 * w * w
        parts = np.maximum(paid + conjugate - z * w, 0.0)
    return float(0.5 * (1.0 - share) ** 2 * squares + parts.sum())
