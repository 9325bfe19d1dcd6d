"""Descent on the true residual in the metric of a factor, until the residual stops falling.

Each stage computes the gradient from the residuals of the current weights and solves for a
correction in the factor's coordinates: with a single step where the factor is sharp (iterative
refinement of the seminormal equations, Bjorck 1987, Linear Algebra Appl. 88/89), else by conjugate
gradients. The first stage brings the weights near the solution; a later one removes the errors that
rounding has left in them. With two stages, preconditioned iterations are as stable as Householder
QR (Epperly, Meier and Nakatsukasa 2024, arXiv 2406.03468; their inner iteration is heavy-ball
descent, whose rates conjugate gradients find by themselves).

Convergence is judged by the gradient of the actual residuals, z = R^-T A^T r, against |r| (Stewart
1977, SIAM Rev. 19; the second test of LSMR) as well as against the gradient at zero weights: with a
sharp R, |z| is the part of r that A could still explain. Where |z| no longer falls, it is compared
with what the rounding of the residuals can account for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
from scipy.linalg import eigvalsh_tridiagonal

from .factors import EPS, TINY
from .system import System

# Below this gradient, relative to that at zero, weights of X's dtype no longer change.
ROUNDING = {"float64": EPS, "float32": 1e-9}
# How far the conjugate gradients of one stage reduce the gradient.
STAGE_REDUCTION = {"float64": 1e-8, "float32": 5e-10}
SHARP = 0.1  # a factor that reduces the gradient to this share needs no conjugate gradients
UNSEEN = 0.01  # a standard normal number is seldom smaller
LOOK_BACK = 10  # iterations, or half of all, whose rate predicts how many are still to come
SPENT_SHARE = 1.0 / 16.0  # of a budget, before which the rate does not count
# Where rounding ends the descent, the gradient may be this many times the size of its terms.
FLOOR_EPS = {"float64": 100.0 * EPS, "float32": float(np.finfo(np.float32).eps)}
# Beyond this condition, in the metric of the norms of columns or rows, a gradient says little.
CG_CONDITION = 1e6
ROUND = 100.0  # up to this condition, columns of norm 1 are as good as a sharp R
# A step that is expected to end this far below the goal is not checked by another pass.
SAFETY = 1e3
# Where residuals are this many times less than the gradient at zero, `ROUNDING` is too coarse.
SMALL_RESIDUAL = 1e3


class Factor(Protocol):
    """A change of coordinates, v = R w."""

    condition: float
    scale: np.ndarray  # the reciprocals of the columns' norms

    def whiten(self, gradient: np.ndarray) -> np.ndarray:
        """Return R^-T g."""

    def unwhiten(self, v: np.ndarray) -> np.ndarray:
        """Return R^-1 v."""


@dataclass
class Iterate:
    """The state of a descent after a pass."""

    coef: np.ndarray  # (t, d)
    intercept: np.ndarray  # (t,)
    squares: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (t,) sum s r^2
    relative_gradient: float = np.inf
    losses: list[float] = field(default_factory=list)  # the objective before each pass
    condition: float = np.nan  # in the factor's coordinates, estimated by conjugate gradients
    converged: bool = False
    has_stalled: bool = False  # whether a stage no longer halved the gradient, due to rounding
    at_floor: bool = False  # whether the gradient is no larger than rounding makes it
    is_slow: bool = False  # whether conjugate gradients gave up because they would take too long


@dataclass(frozen=True)
class Goal:
    """How far to descend, and at what cost.

    Attributes
    ----------
    tol : float
        The gradient to reach, relative to that at zero and to |r|. 0 means as far as rounding
        allows.
    max_iter : int
        The largest number of passes.
    certify : bool
        Whether the gradient is computed once more after a last step that is safe.
    budget : int or None
        The descent gives up where it expects to need more passes than this.
    grade : float
        The factor by which the largest rows may hide the gradient of the others.
    """

    tol: float
    max_iter: int
    certify: bool = True
    budget: int | None = None
    grade: float = 1.0


def descend(
    system: System,
    factor: Factor,
    start: Iterate,
    scale: np.ndarray | None,
    goal: Goal,
    *,
    sharp: bool,
) -> Iterate:
    """Descend until the gradient reaches the goal, or stops falling.

    Parameters
    ----------
    system, factor
    start : Iterate
        Where to start. If its weights come from the factor too, its `relative_gradient` is the
        one at zero weights.
    scale : ndarray of shape (t,) or None
        Norm of the whitened gradient at zero, which is the unit of the relative gradient. None
        says that the start is zero.
    goal : Goal
    sharp : bool
        Whether a single step of the factor is expected to be enough in each stage.
    """
    descent = _Stages(system, factor, start, scale, goal, sharp)
    while descent.advance():
        pass
    return descent.end()


class _Stages:
    """A descent, one gradient and one correction at a time."""

    def __init__(
        self, system: System, factor: Factor, start: Iterate, scale, goal: Goal, sharp: bool
    ) -> None:
        self.system, self.factor, self.scale, self.goal = system, factor, scale, goal
        self.coef, self.intercept = start.coef, start.intercept
        self.best, self.last = start, start.relative_gradient
        self.losses, self.condition = list(start.losses), np.nan
        self.sharp = self.was_sharp = sharp
        self.first_share = np.nan  # to which the first step of a sharp factor has come
        self.first_pass, self.dtype = system.passes, system.precision
        self.stage = 0

    def advance(self) -> bool:
        """Take the gradient and a step; return whether there is more to do."""
        z, ratio = self._judge()
        if self.stage == 0 and self.sharp and self.last < np.inf:
            self.first_share = ratio / self.last
        asked = self._asked()
        best, last = self.best, self.last
        best.converged = best.relative_gradient <= asked
        left = self.goal.max_iter - (self.system.passes - self.first_pass)
        best.has_stalled = self.stage > 0 and (not ratio <= 0.5 * last or self._is_rounding(ratio))
        is_first = self.stage == 0 and last == np.inf
        self.sharp = self.sharp and (is_first or ratio <= SHARP * last)
        done = best.converged or best.has_stalled or not np.isfinite(ratio)
        if done or left <= (0 if self.sharp else 1):  # a product and the gradient after it
            if self.sharp and best.coef is self.coef:  # one more step costs nothing
                best.coef, best.intercept = self._moved(z)
            return False
        if self.sharp:
            # The rest will shrink as it just did; in the weights it may count `condition` times.
            left_over = ratio * ratio / last * self.factor.condition
            step, safe = z, not self.goal.certify and SAFETY * left_over <= asked
        else:
            step, safe = self._solve(z, asked / ratio, left), False
            if best.is_slow:
                return False
        self.coef, self.intercept = self._moved(step)
        if safe:
            squares = np.maximum(best.squares - (step * step).sum(axis=1), 0.0)
            reached = ratio * ratio / last
            self.best = Iterate(self.coef, self.intercept, squares, reached, converged=True)
            return False
        self.last = ratio
        self.stage += 1
        return True

    def _judge(self) -> tuple[np.ndarray, float]:
        """Return the whitened gradient here, and its size relative to that at zero."""
        system, coef = self.system, self.coef
        gradient = system.gradient(coef, self.intercept)
        z = self.factor.whiten(gradient.coef)
        if self.scale is None:
            self.scale = _norms(z)
        self.intercept = self.intercept - gradient.intercept
        penalty = system.alpha * (coef * coef).sum(axis=1)
        self.losses.append(0.5 * system.total(gradient.squares + penalty))
        ratio = _relative(z, self.scale)
        if self.stage == 0 or ratio < self.best.relative_gradient:
            squares = gradient.squares - system.weight * gradient.intercept**2
            self.best = Iterate(coef, self.intercept, np.maximum(squares, 0.0), ratio)
        return z, ratio

    def _is_rounding(self, ratio: float) -> bool:
        """Whether a sharp step has left what rounding explains, and far more than the first did.

        Another would leave as much. In float32, a step leaves 1e-6 of the gradient at zero, and
        the second one 1e-7, where it promised 1e-12.
        """
        if self.scale is None or not ratio > SAFETY * self.first_share * self.last:
            return False
        return ratio <= _floor(self.system, self.factor, self.best, self.scale)

    def _asked(self) -> float:
        """Return the relative gradient to reach."""
        rounding = ROUNDING[self.dtype]
        # Without a sharp R, |z| may say `condition` times less than the weights still lack.
        seen = self.condition if np.isnan(self.factor.condition) else self.factor.condition
        hidden = 1.0 if self.was_sharp else max(1.0, seen / ROUND)
        share = max(self.goal.tol, rounding) / (hidden if np.isfinite(hidden) else 1.0)
        assert self.scale is not None
        asked = _asked(self.best, self.system.alpha, self.scale, share, rounding)
        return asked / self.goal.grade

    def _solve(self, z: np.ndarray, reduction: float, left: int) -> np.ndarray:
        """Return a correction by conjugate gradients, whose losses and condition are kept."""
        reduction = max(STAGE_REDUCTION[self.dtype], 0.5 * reduction)
        # The first stage shows the rate; the next ones need a part of what it was promised.
        budget = self.goal.budget if self.stage == 0 else None
        before = self.losses[-1]

        def note(_v: np.ndarray, _r: np.ndarray, gained: np.ndarray) -> None:
            self.losses.append(before - 0.5 * self.system.total(gained))

        apply = partial(_apply, self.system, self.factor)
        inner = conjugate_gradients(apply, z, reduction, left - 1, budget, note)
        if self.stage == 0:
            self.condition = inner.condition
            # Conjugate gradients that "auto" tries are for data on which they take many steps.
            may_hide = inner.n_seen < LOOK_BACK or (budget is None and self.condition < ROUND)
            if np.isnan(self.factor.condition) and may_hide and left > LOOK_BACK:
                before_probe = self.system.passes
                image = self.factor.whiten(self.system.random_image())
                least = max(UNSEEN / CG_CONDITION, STAGE_REDUCTION[self.dtype])
                most = max(LOOK_BACK, 2 * inner.n_iter)
                at_random = condition_seen_at_random(apply, image, least, most)
                self.system.passes = before_probe  # these passes are not counted as the descent's
                self.condition = max(self.condition, at_random)
        self.best.is_slow = inner.is_slow
        return inner.v

    def _moved(self, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return weights less a step, and the intercept that keeps the residuals' mean."""
        move = self.factor.unwhiten(step)
        return self.coef - move, self.intercept + move @ self.system.centre

    def end(self) -> Iterate:
        best = self.best
        best.losses, best.condition = self.losses, self.condition
        if best.has_stalled and self.scale is not None:
            floor = _floor(self.system, self.factor, best, self.scale)
            best.at_floor = best.relative_gradient <= floor
        return best


def _asked(at: Iterate, alpha: float, scale: np.ndarray, tol: float, rounding: float) -> float:
    """Return the relative gradient to reach: `tol` of that at zero, and of the residuals' norm.

    It is at least `rounding`, since residuals that vanish consist of rounding. Float32 products
    round in proportion to the residuals, so that less is asked where these are small: a column of
    1e-9 of the size that the targets take from another had no weight at all.
    """
    residual = np.sqrt(at.squares + alpha * (at.coef * at.coef).sum(axis=1))
    share = residual / np.where(scale > 0.0, scale, np.inf)
    share = float(np.where(scale > 0.0, share, 1.0).min())
    return max(tol * min(share, 1.0), rounding * min(SMALL_RESIDUAL * share, 1.0), EPS)


def _floor(system: System, factor: Factor, at: Iterate, scale: np.ndarray) -> float:
    """Return the relative gradient that the rounding of the residuals can account for.

    A residual is a difference of numbers as large as y, b, c . w and the terms of x . w. The sums
    of the gradient add eps |A| |r|, which R^-1 multiplies by up to its condition: not at all where
    R holds norms, whose condition is NaN.
    """
    condition = factor.condition if np.isfinite(factor.condition) else 1.0
    terms = np.abs(at.coef) @ np.where(factor.scale > 0.0, 1.0 / (factor.scale + TINY), 0.0)
    shift = np.abs(system.y_centre) + np.abs(at.intercept) + np.abs(at.coef) @ np.abs(system.centre)
    summed = max(condition, np.sqrt(system.d)) * np.sqrt(at.squares)
    size = np.sqrt(system.weight) * shift + scale + terms + summed
    with np.errstate(over="ignore"):
        floor = FLOOR_EPS[system.precision] * size
    return float((floor / np.where(scale > 0.0, scale, 1.0)).max())


def _norms(z: np.ndarray) -> np.ndarray:
    return np.sqrt((z * z).sum(axis=1))


def _relative(z: np.ndarray, scale: np.ndarray) -> float:
    """Return the largest ratio, over targets, of the gradient's norm to that at zero weights."""
    norms = _norms(z)
    return float(np.where(scale > 0.0, norms / np.where(scale > 0.0, scale, 1.0), norms).max())


def _apply(system: System, factor: Factor, p: np.ndarray) -> np.ndarray:
    """Return R^-T (A^T A + alpha I) R^-1 p."""
    return factor.whiten(system.apply(factor.unwhiten(p)))


@dataclass
class Inner:
    """The result of `conjugate_gradients`."""

    v: np.ndarray
    condition: float  # the square root of that of the matrix, as far as it was seen
    n_seen: int  # dimensions on which this estimate is based
    largest: float  # the largest eigenvalue of the matrix, as far as it was seen
    is_slow: bool
    n_iter: int


def conjugate_gradients(
    product: Callable[[np.ndarray], np.ndarray],
    z: np.ndarray,
    reduction: float,
    max_iter: int,
    budget: int | None = None,
    note: Callable[[np.ndarray, np.ndarray, np.ndarray], None] | None = None,
    spent: float = SPENT_SHARE,
) -> Inner:
    """Solve M v = z (Hestenes and Stiefel 1952) for each row z of (t, m), all at once.

    The iteration ends when the residual is `reduction` times z, or after `max_iter` products. With
    a `budget`, it gives up once the rate of the last iterations says that full accuracy would take
    more products than that.

    Parameters
    ----------
    product : callable
        Returns M p for each row p of (t, m), in an array that may be overwritten.
    note : callable, optional
        Called before each product with v, the residual, and by how much v^T M v / 2 - v^T z has
        fallen so far, times two.
    spent : float
        The share of the budget before which the rate does not count.
    """
    v, r, p, scratch = np.zeros_like(z), z.copy(), z.copy(), np.empty_like(z)
    rho, gained = dots(r, r, scratch), np.zeros(len(z))
    target, history = reduction**2 * rho, [float(rho.max())]
    steps, first = [], [float(rho[0])]  # of the first row, and the squares of its residuals
    is_slow = False
    for _ in range(max_iter):
        q = product(p)
        curvature = dots(p, q, scratch)
        a = np.where(curvature > 0.0, rho / np.where(curvature > 0.0, curvature, 1.0), 0.0)
        if note is not None:
            note(v, r, gained)
        gained += a * rho
        # In place: the pages of new arrays take longer than the arithmetic.
        v += np.multiply(p, a[:, None], out=scratch)
        q *= a[:, None]
        r -= q
        new = dots(r, r, scratch)
        beta = np.where(rho > 0.0, new / np.where(rho > 0.0, rho, 1.0), 0.0)
        steps.append(float(a[0]))
        first.append(float(new[0]))
        rho = new
        history.append(float(rho.max()))
        if np.all(new <= target) or not np.isfinite(history[-1]):
            break
        if budget is not None and exceeds(budget, history, spent):
            is_slow = True
            break
        p *= beta[:, None]
        p += r
    return Inner(v, *condition_seen(steps, first), is_slow, len(history) - 1)


def dots(a: np.ndarray, b: np.ndarray, scratch: np.ndarray | None = None) -> np.ndarray:
    """Return the product of each row of a with the same row of b, as sums of pairs of sums.

    The plain sums of einsum round more coarsely: NIST's Wampler5 had 4.7 right digits with them,
    and 6.4 with these.
    """
    return np.multiply(a, b, out=scratch).sum(axis=1)


def condition_seen_at_random(
    product: Callable[[np.ndarray], np.ndarray], image: np.ndarray, least: float, most: int
) -> float:
    """Return the square root of the condition of M (m, m), as seen from a random direction.

    Conjugate gradients that end after a few steps have seen only the directions in which their
    targets point. Here they end once what is left is `least` times a typical component of `image`
    (1, m), which stands for a random vector of rows: a direction with a larger component would have
    kept its own. As A^T times such a vector, it has a component of 1/c in a direction of condition
    c; as M times a vector 1/c^2, of which 2e5 went unseen. A random vector itself would have
    components where M has none, and see every matrix of dependent columns as singular.
    """
    reduction = least / np.sqrt(image.shape[1])
    return conjugate_gradients(product, image, reduction, most).condition


def exceeds(budget: int, history: list[float], spent: float = SPENT_SHARE) -> bool:
    """Return whether full accuracy takes more iterations than this, at the rate of the last ones.

    Residuals may rise for a while before they fall, so that a share of a large budget is spent
    before the rate counts: after 56 iterations, a sparse ridge of 5,000 x 8,000 gave up what takes
    some hundreds, for a factor that costs as much as 8,000.
    """
    k = len(history) - 1
    if k < max(LOOK_BACK, spent * budget):
        return False
    back = max(LOOK_BACK, k // 2)
    rate = (np.log(history[-1]) - np.log(history[-1 - back])) / back
    left = np.log(EPS**2 * history[0]) - np.log(history[-1])
    return not rate < 0.0 or left / rate > budget - k


def condition_seen(steps: Sequence[float], squares: Sequence[float]) -> tuple[float, int, float]:
    """Return the condition of A that conjugate gradients have seen, and in how many dimensions.

    It is the square root of that of the Lanczos matrix, whose eigenvalues are those of the problem;
    the largest of these comes last.

    Parameters
    ----------
    steps : sequence of float
        The lengths of the steps.
    squares : sequence of float
        The squares of the residuals before the first step, and after each.
    """
    counts = np.cumprod(np.asarray(steps) > 0.0, dtype=bool)
    a = np.asarray(steps)[counts]
    if len(a) == 0:
        return np.nan, 0, np.nan
    rho = np.asarray(squares)[: len(a) + 1]
    beta = rho[1:] / rho[:-1]
    diagonal = 1.0 / a
    diagonal[1:] += beta[:-1] / a[:-1]
    values = eigvalsh_tridiagonal(diagonal, np.sqrt(beta[:-1]) / a[:-1])
    condition = float(np.sqrt(values[-1] / values[0])) if values[0] > 0.0 else np.inf
    return condition, len(a), float(values[-1])
