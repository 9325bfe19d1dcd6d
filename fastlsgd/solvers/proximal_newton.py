"""L1 penalties and weights that may not be negative: proximal Newton steps with the Gram matrix.

    J(w) = 1/(2 S) |A w - y|^2 + l1 |w|_1 + l2/2 |w|^2,     w >= 0 where `positive`

With H = A^T A / S at hand, J is minimised over w alone, without X, by an active-set method: guess
which weights are not zero and their signs, solve for those, guess anew (the primal-dual active set,
which is a semismooth Newton method: Hintermueller, Ito and Kunisch 2002, SIAM J. Optim. 13(3)). The
guess is that of a proximal step, so that a set that repeats itself is the solution. Where it runs
in circles, Newton steps that never raise J go on from the best guess. Sets are small at strong
penalties, and each solve is of a set's size only.

The gradient of the data at what comes out then corrects H w - c, and w is solved for again: what
rounding has done to H and c is gone after a pass or two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack

from .factors import EPS, TINY
from .solution import Solution
from .system import System

# d^2 numbers of H, and d^3 multiply-adds of the largest set.
GRAM_FEATURES = 4096
SETS = 20  # guesses before J itself is watched
STEPS_PER_WEIGHT = 10
# A violation of optimality that rounding may leave, relative to that of zero weights.
ROUNDING = {"float64": 1e-9, "float32": 1e-5}


@dataclass(frozen=True)
class Penalty:
    """l1 |w|_1 + l2/2 |w|^2, and whether w must not be negative."""

    l1: float
    l2: float
    positive: bool = False

    def value(self, w: np.ndarray) -> float:
        return float(self.l1 * np.abs(w).sum() + 0.5 * self.l2 * (w * w).sum())

    def soften(self, u: np.ndarray, threshold: np.ndarray) -> np.ndarray:
        """The proximal step of l1 |w|_1 and the sign constraint."""
        if self.positive:
            return np.maximum(u - threshold, 0.0)
        return np.sign(u) * np.maximum(np.abs(u) - threshold, 0.0)

    def violation(self, w: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """How far `gradient`, of the loss and l2, is from what optimality of each w_j asks."""
        at_zero = np.maximum((-gradient if self.positive else np.abs(gradient)) - self.l1, 0.0)
        violation = np.where(w != 0.0, np.abs(gradient + self.l1 * np.sign(w)), at_zero)
        return np.where(w < 0.0, np.inf, violation) if self.positive else violation


class Quadratic:
    """1/2 w^T H w - c^T w for one target, in columns scaled to H_jj = 1 (0: left out)."""

    def __init__(self, H: np.ndarray, c: np.ndarray) -> None:
        self.H, self.c = H, c
        self.diagonal = np.diag(H).copy()

    def gradient(self, w: np.ndarray) -> np.ndarray:
        """H w - c, from the columns where w is not zero."""
        where = np.flatnonzero(w)
        if len(where) * 2 > len(w):
            return self.H @ w - self.c
        return w[where] @ self.H[where] - self.c

    def minimise(self, penalty: Penalty, start: np.ndarray, tol: float) -> tuple[np.ndarray, int]:
        """Weights that violate optimality by at most `tol`, or as little as rounding allows.

        The second value counts linear solves.
        """
        w, done, n_solves = self._active_sets(penalty, start, tol)
        if not done:
            w, more = self._signed_steps(penalty, w, tol)
            n_solves += more
        return w, n_solves

    def _active_sets(self, penalty, w, tol) -> tuple[np.ndarray, bool, int]:
        """Guess and solve, `SETS` times at most; whether a set was its own successor.

        What violates optimality least is returned.
        """
        counts = self.diagonal + penalty.l2 > TINY
        step = np.where(counts, 1.0 / np.where(counts, self.diagonal + penalty.l2, 1.0), 0.0)
        best, least, last = w, np.inf, None
        for k in range(SETS):
            gradient = self.gradient(w) + penalty.l2 * w
            violation = float(penalty.violation(w, gradient).max(initial=0.0))
            if violation < least:
                best, least = w, violation
            signs = np.sign(penalty.soften(w - step * gradient, penalty.l1 * step))
            if violation <= tol or (last is not None and np.array_equal(signs, last)):
                return best, violation <= max(tol, least), k
            solved = self._solve(penalty, signs)
            if solved is None:
                break
            w, last = solved, signs
        return best, False, SETS

    def _solve(self, penalty: Penalty, signs: np.ndarray) -> np.ndarray | None:
        """w with these signs held: zero outside, (H + l2) w = c - l1 signs inside."""
        where = np.flatnonzero(signs)
        w = np.zeros(len(signs))
        if len(where) == 0:
            return w
        part = self.H[np.ix_(where, where)]
        part[np.diag_indices(len(where))] += penalty.l2
        right = self.c[where] - penalty.l1 * signs[where]
        upper, info = lapack.dpotrf(part.T, lower=0, overwrite_a=1)
        if info != 0:
            return None
        w[where] = lapack.dpotrs(upper, right, lower=0)[0]
        return w if np.isfinite(w).all() else None

    def _signed_steps(self, penalty: Penalty, w: np.ndarray, tol: float) -> tuple[np.ndarray, int]:
        """Newton steps that never raise J, one weight at a time joining those that are not zero.

        Feature-sign search (Lee, Battle, Raina and Ng 2006, NIPS 19): it ends, since J falls with
        each step and a set of signs comes once.
        """
        for k in range(STEPS_PER_WEIGHT * len(w) + 100):
            gradient = self.gradient(w) + penalty.l2 * w
            violation, signs = penalty.violation(w, gradient), np.sign(w)
            if violation.max(initial=0.0) <= tol:
                return w, k
            if violation[signs != 0.0].max(initial=0.0) <= tol:
                j = int(np.argmax(violation))
                signs[j] = -np.sign(gradient[j])
            where = np.flatnonzero(signs)
            move = self._newton(penalty, where, gradient[where] + penalty.l1 * signs[where])
            following = self._best_on_segment(penalty, w, gradient, where, move)
            if following is None:
                return w, k
            w = following
        return w, k

    def _newton(self, penalty: Penalty, where: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """-(H + l2)^-1 slope on these weights; a little more on the diagonal if it is singular."""
        part = self.H[np.ix_(where, where)]
        diagonal = np.diag_indices(len(where))
        part[diagonal] += penalty.l2
        for share in (0.0, 1e-12, 1e-9, 1e-6):
            trial = part.copy()
            trial[diagonal] += share * part[diagonal].max()
            upper, info = lapack.dpotrf(trial.T, lower=0, overwrite_a=1)
            if info == 0:
                return -lapack.dpotrs(upper, slope, lower=0)[0]
        return -slope / max(float(np.trace(part)), TINY)

    def _best_on_segment(self, penalty, w, gradient, where, move) -> np.ndarray | None:
        """Where J is least among the end of the segment and its crossings of zero; None: nowhere
        less than at w."""
        start = w[where]
        crosses = start * move < 0.0
        share = np.full(len(where), np.inf)
        share[crosses] = -start[crosses] / move[crosses]
        ends = np.append(np.unique(share[share < 1.0]), 1.0)
        if penalty.positive:
            ends = ends[:1]  # beyond the first crossing a weight is negative
        curvature = move @ (self.H[np.ix_(where, where)] @ move) + penalty.l2 * (move @ move)
        size = np.abs(start + np.multiply.outer(ends, move)).sum(axis=1) - np.abs(start).sum()
        change = ends * (gradient[where] @ move) + 0.5 * ends**2 * curvature + penalty.l1 * size
        best = int(np.argmin(change))
        if not change[best] < 0.0:
            return None
        following = w.copy()
        following[where] = np.where(share == ends[best], 0.0, start + ends[best] * move)
        return following


def fit_path(
    system: System,
    penalties: list[Penalty],
    start: np.ndarray | None,
    *,
    tol: float,
    max_iter: int,
) -> list[Solution]:
    """The solutions for these penalties, each from the one before.

    A single one is refined by passes over X until the violation of optimality is `tol`; those of
    a path have what the Gram matrix gives, which is as good but for ill-conditioned columns.
    """
    xx, xy = system.centred_gram()
    H, c = xx / system.weight, xy.T / system.weight
    scale = system.columns_scale(np.diag(xx))
    H[scale == 0.0] = 0.0
    H[:, scale == 0.0] = 0.0
    c[:, scale == 0.0] = 0.0
    problems = [Quadratic(H, row) for row in c]
    variance = system.target_squares() / system.weight
    coef = np.zeros_like(c) if start is None else start.astype(np.float64).copy()
    points = []
    for penalty in penalties:
        if len(penalties) == 1:
            points.append(_refined(system, problems, penalty, coef, tol, max_iter))
        else:
            coef, n_iter = _solve_all(problems, penalty, coef, tol)
            gradient = np.array([p.gradient(w) for p, w in zip(problems, coef, strict=True)])
            squares = variance + ((gradient - c) * coef).sum(axis=1)
            point = judged(system, penalty, coef, gradient, squares, c, n_iter)
            point.converged = point.relative_gradient <= max(tol, ROUNDING["float64"])
            points.append(point)
    return points


def _solve_all(problems, penalty: Penalty, coef: np.ndarray, tol: float):
    solutions = [
        problem.minimise(penalty, w, tol * _unit(penalty, problem.c))
        for problem, w in zip(problems, coef, strict=True)
    ]
    return np.array([w for w, _ in solutions]), max(k for _, k in solutions)


def _unit(penalty: Penalty, c: np.ndarray) -> float:
    """The largest gradient at zero, of which a violation of optimality is a share."""
    return float(np.maximum(np.abs(c).max(initial=0.0), penalty.l1))


def _refined(system, problems, penalty, coef, tol, max_iter) -> Solution:
    """Proximal Newton steps on the data's own gradient, until optimality or rounding."""
    c = np.array([problem.c for problem in problems])
    rounding = ROUNDING[system.X.dtype.name]
    best: Solution | None = None
    losses: list[float] = []
    while True:
        coef, _ = _solve_all(problems, penalty, coef, min(tol, 1e-12))
        found = system.gradient(coef, system.intercept_for(coef))
        gradient = found.coef / system.weight
        squares = found.squares / system.weight - found.intercept**2
        losses.append(system.weight * (0.5 * float(squares.sum()) + penalty.value(coef)))
        point = judged(system, penalty, coef, gradient, squares, c)
        point.intercept = point.intercept - found.intercept
        has_stalled = False
        if best is None or point.relative_gradient <= 0.5 * best.relative_gradient:
            best = point
        else:
            has_stalled = True
        best.converged = best.relative_gradient <= (max(tol, rounding) if has_stalled else tol)
        if (
            best.converged
            or has_stalled
            or best.relative_gradient <= EPS
            or len(losses) >= max_iter
        ):
            break
        for problem, w, g in zip(problems, coef, gradient, strict=True):
            problem.c = problem.H @ w - np.where(problem.diagonal > 0.0, g, 0.0)
    best.losses, best.n_iter = losses, len(losses)
    return best


def judged(system, penalty, coef, gradient, squares, c, n_iter=0, solver="gram") -> Solution:
    """A solution with its certificates.

    `gradient` (t, d) is of the loss alone, `squares` (t,) the mean of r^2, `c` (t, d) minus the
    gradient at zero.
    """
    squares = np.maximum(squares, 0.0)
    violation = [
        penalty.violation(w, g + penalty.l2 * w).max(initial=0.0) / max(_unit(penalty, row), TINY)
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
    """J(w) minus the dual objective at the residual, scaled until it is feasible.

    The L2 part counts as further rows of A (Zou and Hastie 2005, JRSS B 67(2), lemma 1), so that
    the dual is the lasso's: 1/2 |y|^2 - 1/2 |y - theta|^2 with |A^T theta| <= l1. All from sums:
    with r = y - A w, <r, y> = |r|^2 + <A^T r, w>. `gradient` is of the loss alone, `squares` the
    mean of r^2. Says nothing without an L1 penalty.
    """
    slope = -(gradient + penalty.l2 * w)  # A^T r of the extended rows
    norm = float((slope if penalty.positive else np.abs(slope)).max(initial=0.0))
    share = 1.0 if norm <= penalty.l1 else penalty.l1 / norm
    own = squares + penalty.l2 * float(w @ w)  # |r|^2 of the extended rows
    product = own + float(slope @ w)  # <r, y>
    return 0.5 * (1.0 + share**2) * own - share * product + penalty.l1 * float(np.abs(w).sum())
