"""L1 penalties and weights that may not be negative: active sets on the Gram matrix, then on rows.

    J(w) = 1/(2 S) |A w - y|^2 + l1 |w|_1 + l2/2 |w|^2,     w >= 0 where `positive`

Once H = A^T A / S is known, J is minimised over w without X: guesses of which weights are not zero
and their signs (`quadratic.py`), which coordinate descent begins (`coordinate_descent.py`). Where
they end nowhere, or a set is singular to rounding, `active_set.py` continues from the best weights
and never raises J. Sets are small at strong penalties, and each solve has a set's size.

The gradient of the data at the result then corrects H w - c, and w is solved for again: the effect
of rounding in H and c is gone after a pass or two. Where the columns are too ill-conditioned for a
Gram matrix, the same search ends on the triangle of a QR decomposition of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..kernels.contract import working_dtype
from . import active_set
from .active_set import Lasso
from .coordinate_descent import DescentQuadratic
from .factors import EPS, TINY, NotTrustworthy, cholesky_factor, column_scale
from .least_squares import FACTOR_FEATURES, GRAM_CONDITION
from .orthogonal import triangle
from .problem import Penalty
from .quadratic import SLACK, divided, unit_of
from .solution import Solution
from .system import System

# H takes d^2 numbers of memory, and the largest set d^3 multiply-adds.
GRAM_FEATURES = 4096
# Beyond this condition of a path's set, sums leave too few digits without the data's gradient.
PATH_SUMS_CONDITION = 1e4
# The rounding of the data's gradient enters the weights times the square of the condition, and that
# of a triangle times the condition. From the first of these conditions on, the triangle is used if
# it takes at most the second number of multiply-adds.
ROUND_CONDITION = 30.0
CHEAP_TRIANGLE = 2.0**26


def fit_path(
    system: System,
    penalties: list[Penalty],
    start: np.ndarray | None,
    *,
    tol: float,
    max_iter: int,
) -> list[Solution]:
    """Return the solutions for these penalties, each started from the one before.

    A single solution is refined by passes over X until the violation of optimality is `tol`. Those
    of a path are taken from the Gram matrix, if their columns are so well-conditioned that this is
    as good. Where a Gram matrix cannot be trusted, the triangle of the rows is used.

    Raises
    ------
    NotTrustworthy
        If sums overflow, and there are too many columns for a triangle.
    """
    coef = np.zeros((system.t, system.d)) if start is None else start.astype(np.float64)
    sums: _GramPath | None = None
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            sums = _GramPath(system)
    except NotTrustworthy:
        if system.d > FACTOR_FEATURES:
            raise
    rows: _TrianglePath | None = None
    points: list[Solution] = []
    for penalty in penalties:
        point = None
        if sums is not None:
            point, is_solved = sums.solution(penalty, coef, tol, max_iter, len(penalties) > 1)
            is_better = point.condition > ROUND_CONDITION and is_cheap(system)
            if (is_better or not is_solved) and system.d <= FACTOR_FEATURES:
                coef, point = point.coef, None
        if point is None:
            rows = rows or _TrianglePath(system)
            point = rows.solution(penalty, coef)
        points.append(point)
        coef = point.coef
    return points


def is_cheap(system: System) -> bool:
    """Return whether the triangle of the rows takes few multiply-adds."""
    return float(system.n + system.d) * system.d**2 <= CHEAP_TRIANGLE


@dataclass(frozen=True)
class Optimality:
    is_tight: bool  # whether each violation is within the tolerance
    holds: bool  # whether each is within the tolerance or the rounding of the gradient
    has_no_residual: bool  # whether the residual consists of rounding
    relative: float  # the largest violation, in units of the tolerance


class _GramPath:
    """Solutions from H and c, corrected by passes over the data."""

    def __init__(self, system: System) -> None:
        self.system = system
        xx, xy = system.centred_gram()
        system.refuse_underflow(np.diag(xx))
        refuse_target_range(system)
        self.H, self.c = xx / system.weight, xy.T / system.weight
        self.scale = system.columns_scale(np.diag(xx))
        self.H[self.scale == 0.0] = 0.0
        self.H[:, self.scale == 0.0] = 0.0
        self.c[:, self.scale == 0.0] = 0.0
        self.size = np.sqrt(np.diag(self.H))  # root mean square of each column
        self.variance = system.target_squares() / system.weight
        self.on_path: list[DescentQuadratic] = []

    def solution(
        self, penalty: Penalty, coef: np.ndarray, tol: float, max_iter: int, is_path: bool
    ) -> tuple[Solution, bool]:
        """Return a solution, and whether it is good enough without the triangle of the rows."""
        kernels = self.system.kernels
        if is_path:
            if not self.on_path:
                self.on_path = [
                    DescentQuadratic(self.H, row, kernels, is_path=True) for row in self.c
                ]
            coef, n_iter, condition = solve_all(self.on_path, penalty, coef, tol)
            if condition <= PATH_SUMS_CONDITION:
                point = self._from_sums(self.on_path, penalty, coef, n_iter)
                if point.relative_gradient <= max(tol, SLACK):
                    return point, True
        problems = [DescentQuadratic(self.H, row, kernels) for row in self.c]
        return self._refined(problems, penalty, coef, tol, max_iter)

    def _from_sums(self, problems, penalty: Penalty, coef, n_iter: int) -> Solution:
        gradient = np.array([p.gradient(w) for p, w in zip(problems, coef, strict=True)])
        squares = np.maximum(self.variance + ((gradient - self.c) * coef).sum(axis=1), 0.0)
        point = judged(self.system, penalty, coef, gradient, squares, self.c, n_iter)
        point.losses = [objective_of(self.system.weight, penalty, coef, squares)]
        return point

    def _refined(self, problems, penalty, coef, tol, max_iter) -> tuple[Solution, bool]:
        """Correct by the gradient of the data until the solution is optimal up to rounding."""
        system = self.system
        losses: list[float] = []
        best: Solution | None = None
        while True:
            coef, _, condition = solve_all(problems, penalty, coef, min(tol, 1e-12))
            found = system.gradient(coef, system.intercept_for(coef))
            gradient = found.coef / system.weight
            squares = np.maximum(found.squares / system.weight - found.intercept**2, 0.0)
            losses.append(objective_of(system.weight, penalty, coef, squares))
            point = judged(system, penalty, coef, gradient, squares, self.c)
            point.intercept = point.intercept - found.intercept
            point.condition = condition
            optimality = optimality_of(self, penalty, point, gradient, squares, tol)
            point.converged = optimality.holds
            if not point.converged:
                point.relative_gradient = max(point.relative_gradient, optimality.relative)
            falls = best is None or point.relative_gradient <= 0.5 * best.relative_gradient
            if best is None or falls or point.converged:
                best = point
            if point.converged or not falls or len(losses) >= max_iter:
                break
            for problem, w, g in zip(problems, coef, gradient, strict=True):
                problem.c = problem.H @ w - np.where(problem.diagonal > 0.0, g, 0.0)
        best.losses, best.n_iter = losses, len(losses)
        is_solved = best.condition <= GRAM_CONDITION and (falls or best.converged)
        hides_more = self._hides_more(penalty, optimality, coef, gradient)
        return best, is_solved and not hides_more

    def _hides_more(self, penalty: Penalty, optimality: Optimality, coef, gradient) -> bool:
        """Return whether rounding can hide columns that would still lower J.

        That happens with ill-conditioned columns only, if the residual is far above its rounding
        though the gradient is not.
        """
        if optimality.is_tight or not optimality.holds or optimality.has_no_residual:
            return False
        near = hidden_columns(penalty, optimality, self.c, coef, gradient)
        return near is not None and is_ill_conditioned(self.H[np.ix_(near, near)], penalty)


def hidden_columns(
    penalty: Penalty, optimality: Optimality, c, coef, gradient
) -> np.ndarray | None:
    """Return the columns with weights, and those that may need one but for rounding.

    Only columns whose gradient reaches l1 but for rounding can lower J, and only if they are nearly
    dependent on those of nonzero weight. None if there are no others than these, whose condition is
    known.
    """
    noise = 2.0 * optimality.relative * max(unit_of(penalty, row) for row in c)
    slope = -(gradient + penalty.l2 * coef)
    slope = (slope if penalty.positive else np.abs(slope)).max(axis=0)
    is_active = coef.any(axis=0)
    near = is_active | (slope >= penalty.l1 - noise)
    return np.flatnonzero(near) if (near & ~is_active).any() else None


def is_ill_conditioned(H: np.ndarray, penalty: Penalty) -> bool:
    """Return whether a Gram matrix and its penalty are too ill-conditioned for sums."""
    try:
        factor = cholesky_factor(H, penalty.l2, column_scale(np.diag(H) + penalty.l2))
    except NotTrustworthy:
        return True
    return factor.condition > GRAM_CONDITION


def optimality_of(path, penalty: Penalty, point: Solution, gradient, squares, tol) -> Optimality:
    """Compare the violation of each weight with the tolerance, and with its rounding.

    The tolerance is a backward error: `tol` times |A_j| |r|, and times the largest gradient at
    zero. The rounding of residuals, and of sums over them, is proportional to their terms. `path`
    has the system, c, `variance`, and the `scale` and `size` of the columns.
    """
    counts = path.scale > 0.0
    violation = np.array(
        [
            penalty.violation(w, g + penalty.l2 * w)
            for w, g in zip(point.coef, gradient, strict=True)
        ]
    )
    rho = np.sqrt(squares)
    rounding, amplitude = residual_rounding(path, point.coef, point.intercept, rho)
    unit = np.array([[unit_of(penalty, row)] for row in path.c])
    unit = np.minimum(np.outer(rho, path.size), unit)
    allowed = tol * unit
    return Optimality(
        bool((violation <= allowed)[:, counts].all()),
        bool((violation <= np.maximum(allowed, rounding))[:, counts].all()),
        bool((rho <= 8.0 * amplitude).all()),
        float((violation / np.maximum(unit, TINY))[:, counts].max(initial=0.0)),
    )


def residual_rounding(path, coef: np.ndarray, intercept: np.ndarray, rho: np.ndarray):
    """Return what rounding may make of gradients (t, d), and of residuals of root mean square rho.

    `path` has the system, the `variance` of the targets, and the root mean square `size` of each
    column.
    """
    system, eps = path.system, path.system.eps
    far = np.abs(system.centre)
    amplitude = np.sqrt(path.variance + system.y_centre**2) + np.abs(intercept)
    amplitude = 4.0 * eps * (amplitude + np.abs(coef) @ np.hypot(path.size, far))
    return np.outer(amplitude, path.size) + 4.0 * eps * np.outer(rho, far), amplitude


def refuse_target_range(system: System) -> None:
    """Raise NotTrustworthy for targets whose squares leave the range of float64."""
    largest = system.largest_target()
    if np.isfinite(largest) and largest > 0.0 and not 1e-100 < largest < 1e100:
        raise NotTrustworthy("squares of y overflow or underflow")


def solve_all(problems, penalty: Penalty, coef: np.ndarray, tol: float):
    """Return the weights, the largest number of linear solves, and the worst condition."""
    solutions = [
        problem.minimise(penalty, w, tol) for problem, w in zip(problems, coef, strict=True)
    ]
    worst = max(problem.condition for problem in problems)
    return np.array([w for w, _ in solutions]), max(k for _, k in solutions), worst


def objective_of(weight: float, penalty: Penalty, coef, squares) -> float:
    """Return J as a sum over rows."""
    return weight * (0.5 * float(squares.sum()) + penalty.value(coef))


class RowsTriangle:
    """The triangle of a QR decomposition of [A, y], and the units of its columns."""

    def __init__(self, system: System) -> None:
        self.system = system
        with np.errstate(over="ignore", invalid="ignore"):
            self._prepare(system)

    def _prepare(self, system: System) -> None:
        """Decompose; `scale` (d,) makes columns of norm 1, and is 0 for those that are left out."""
        d = system.d
        system.find_centre()
        self.upper, exponents = triangle(system)
        self.units, self.y_units = exponents[:d], exponents[d:]
        squares = np.einsum("ij,ij->j", self.upper[:, :d], self.upper[:, :d])
        noise = np.ldexp(4.0 * EPS * np.abs(system.centre), -self.units)
        self.scale = column_scale(squares, system.weight * noise**2)
        self.R = self.upper[:d, :d] * self.scale


class _TrianglePath(RowsTriangle):
    """Solutions on the triangle."""

    def solution(self, penalty: Penalty, start: np.ndarray) -> Solution:
        with np.errstate(over="ignore", invalid="ignore"):
            found = [self._minimum(k, penalty, w) for k, w in enumerate(start)]
            return self._judged(penalty, found)

    def _minimum(self, k: int, penalty: Penalty, start: np.ndarray) -> active_set.Minimum:
        """Minimise for target k, in the units u = 2^units w / scale / 2^y_unit."""
        system, d, y_unit = self.system, self.system.d, self.y_units[k]
        R, q = self.R, self.upper[:d, d + k]
        if penalty.l2 > 0.0:
            root = np.sqrt(system.weight * penalty.l2) * np.ldexp(self.scale, -self.units)
            stretch = column_scale(1.0 + root**2)
            R, q = np.vstack([R * stretch, np.diag(root * stretch)]), np.append(q, np.zeros(d))
        else:
            stretch = np.ones(d)
        l1 = np.ldexp(system.weight * penalty.l1 * self.scale * stretch, -self.units - y_unit)
        unit = self.scale * stretch
        u = divided(np.ldexp(start, self.units - y_unit), unit)
        dependent = 10.0 * float(np.finfo(working_dtype(system.X)).eps)
        found = active_set.minimise(Lasso(R, q, l1, penalty.positive, dependent), u)
        return replace(found, u=np.ldexp(found.u * unit, y_unit - self.units))

    def _judged(self, penalty: Penalty, found: list[active_set.Minimum]) -> Solution:
        """Return the solution, certified by a pass over the data, or the triangle on overflow."""
        system, d = self.system, self.system.d
        coef = np.array([minimum.u for minimum in found])
        v = np.ldexp(coef, self.units - self.y_units[:, None])
        residual = self.upper[:, :d] @ v.T - self.upper[:, d:]
        norms = np.ldexp(np.linalg.norm(residual, axis=0), self.y_units)
        scale = np.where(self.scale > 0.0, 1.0, 0.0) / system.weight
        out = self.units + self.y_units[:, None]
        c = scale * np.ldexp((self.upper[:, :d].T @ self.upper[:, d:]).T, out)
        seen = system.gradient(coef, system.intercept_for(coef))
        gradient = scale * seen.coef
        if not np.isfinite(gradient).all():
            gradient = scale * np.ldexp((self.upper[:, :d].T @ residual).T, out)
        squares = norms**2 / system.weight
        point = judged(system, penalty, coef, gradient, squares, c, 1, "qr")
        if np.isfinite(seen.intercept).all():
            point.intercept = point.intercept - seen.intercept
        point.residual_norm = norms
        point.losses = [objective_of(system.weight, penalty, coef, squares)]
        point.condition = max(minimum.condition for minimum in found)
        point.converged = all(minimum.settled and not minimum.has_refused for minimum in found)
        if any(minimum.has_refused for minimum in found):
            point.why_not = (
                f"The columns depend on each other to the rounding of {working_dtype(system.X)}: "
                f"weights of that type cannot hold the minimum. What is returned is the minimum "
                f"of columns that do not. Pass X as float64."
            )
        elif not point.converged:
            point.why_not = (
                f"The active set still changes after {max(m.moves for m in found)} moves: the "
                f"columns are too ill-conditioned (condition {point.condition:.2g})."
            )
        return point


def judged(system, penalty, coef, gradient, squares, c, n_iter=0, solver="gram") -> Solution:
    """Return a solution with its certificates.

    `gradient` (t, d) is that of the loss alone, `squares` (t,) the mean of r^2, and `c` (t, d)
    minus the gradient at zero.
    """
    squares = np.maximum(squares, 0.0)
    violation = [
        penalty.violation(w, g + penalty.l2 * w).max(initial=0.0) / max(unit_of(penalty, row), TINY)
        for w, g, row in zip(coef, gradient, c, strict=True)
    ]
    gaps = [dual_gap(w, g, q, penalty) for w, g, q in zip(coef, gradient, squares, strict=True)]
    return Solution(
        coef,
        system.intercept_for(coef),
        solver,
        n_iter,
        float("nan"),
        np.sqrt(squares * system.weight),
        [],
        float(np.max(violation)),
        True,
        centre=system.centre,
        dual_gap=float(np.sum(gaps)) if penalty.l1 > 0.0 else None,
    )


def dual_gap(w: np.ndarray, gradient: np.ndarray, squares: float, penalty: Penalty) -> float:
    """Return J(w) minus the dual objective at the residual, scaled until it is feasible.

    The L2 part counts as further rows of A (Zou and Hastie 2005, JRSS B 67(2), lemma 1), so that
    the dual is the lasso's: 1/2 |y|^2 - 1/2 |y - theta|^2 with |A^T theta| <= l1. It is computed
    from sums: with r = y - A w, <r, y> = |r|^2 + <A^T r, w>. `gradient` is that of the loss alone,
    and `squares` the mean of r^2. The gap says nothing without an L1 penalty.
    """
    slope = -(gradient + penalty.l2 * w)  # A^T r of the extended rows
    norm = float((slope if penalty.positive else np.abs(slope)).max(initial=0.0))
    share = 1.0 if norm <= penalty.l1 else penalty.l1 / norm
    own = squares + penalty.l2 * float(w @ w)  # |r|^2 of the extended rows
    product = own + float(slope @ w)  # <r, y>
    return 0.5 * (1.0 + share**2) * own - share * product + penalty.l1 * float(np.abs(w).sum())
