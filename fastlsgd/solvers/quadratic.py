"""An L1 penalty or signs on a quadratic: guesses of which weights are not zero.

    1/2 w^T H w - c^T w + l1 |w|_1 + l2/2 |w|^2,     w >= 0 where `positive`

The set of these weights is guessed with their signs by a proximal step, they are solved for, and
the set is guessed again (the primal-dual active set method, which is a semismooth Newton method:
Hintermueller, Ito and Kunisch 2002, SIAM J. Optim. 13(3)). A set that repeats itself is the
solution. Where the guesses run in circles, penalties that shrink lead to this one, and at last
`active_set.py` moves column by column.

Cost: k^3 / 3 per guess for k weights that are not zero. Memory: k^2.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.linalg import lapack

from . import active_set
from .active_set import Lasso
from .eigen import eigh
from .factors import EPS, TINY, column_scale, upper_of
from .problem import Penalty

SETS = 20  # the number of guesses before J itself is watched
# Steps of log(l1), on a path to a penalty at which the guesses fail.
PATH_STEP, LEAST_STEP = 0.5, 0.01
# How many levels may fail: with nearly collinear columns every other one does, endlessly.
MOST_FAILURES = 20
# The apparent rise of J, relative to its terms, that counts as rounding.
SLACK = 1e-10
# Of the minimum of a quadratic, relative to the gradient at zero weights.
QUADRATIC_TOLERANCE = 1e-11


class Quadratic:
    """1/2 w^T H w - c^T w for one target; columns of H_jj = 0 are left out."""

    def __init__(self, H: np.ndarray, c: np.ndarray) -> None:
        self.H, self.c = H, np.ascontiguousarray(c)  # compiled kernels know of no strides
        self.diagonal = np.diag(H).copy()
        self.condition = 1.0  # that of the scaled columns of the last set, with its penalty

    def gradient(self, w: np.ndarray) -> np.ndarray:
        """Return H w - c, from the columns where w is not zero."""
        where = np.flatnonzero(w)
        if len(where) * 2 > len(w):
            return self.H @ w - self.c
        return w[where] @ self.H[where] - self.c

    def minimise(self, penalty: Penalty, start: np.ndarray, tol: float) -> tuple[np.ndarray, int]:
        """Return weights that violate optimality by at most `tol` times its unit, or by rounding.

        The unit of column j is |A_j| times the largest |A_k^T y| / |A_k|, and at most the largest
        gradient at zero, so that columns in small units are as accurate as the others. J is never
        larger than at `start`. The second value is the number of linear solves.
        """
        w, done, n_solves = self._active_sets(penalty, start, tol)
        if done and n_solves == 0 and self._solve(penalty, np.sign(w)) is None:
            self.condition = np.inf  # the start was a minimum, of columns that may depend
        if not done and penalty.l1 > 0.0:
            w, done, more = self._from_above(penalty, w, tol)
            n_solves += more
        if not done:
            w, more = self._watched_steps(penalty, w)
            n_solves += more
        return w, n_solves

    def _from_above(self, penalty: Penalty, w, tol) -> tuple[np.ndarray, bool, int]:
        """Minimise along a path that begins at the l1 at which all weights are zero.

        A first guess of the set may be far too large, and more columns than rows are singular, but
        along a path the sets grow slowly. Where the path fails, the better of its end and w is
        returned.
        """
        c = self.c if penalty.positive else np.abs(self.c)
        left = float(np.log(max(float(c.max(initial=0.0)) / penalty.l1, 1.0)))
        u, n_solves, step, done = np.zeros_like(w), 0, PATH_STEP, False
        failures = 0
        while not done and step >= LEAST_STEP and failures <= MOST_FAILURES:
            level = replace(penalty, l1=penalty.l1 * float(np.exp(max(left - step, 0.0))))
            following, is_solved, more = self._active_sets(level, u, tol)
            n_solves += more
            if is_solved:
                done, left, u = left <= step, left - step, following
            failures += not is_solved
            step = min(2.0 * step, PATH_STEP) if is_solved else 0.5 * step
        if not done and self._objective(penalty, w) <= self._objective(penalty, u):
            return w, False, n_solves
        return u, done, n_solves

    def _objective(self, penalty: Penalty, w: np.ndarray) -> float:
        return self._value(penalty, w, self.gradient(w))[0]

    def _active_sets(self, penalty, w, tol, most_sets=SETS) -> tuple[np.ndarray, bool, int]:
        """Guess and solve, at most `most_sets` times; also return whether a set repeated itself.

        Of the weights at which J is not above its start, those that violate optimality least are
        returned.
        """
        curvature = self.diagonal + penalty.l2
        counts = curvature > TINY
        step = np.where(counts, 1.0 / np.where(counts, curvature, 1.0), 0.0)
        per_unit = np.where(counts, 1.0 / np.where(counts, self.units(penalty), 1.0), 1.0)
        best, least, last, most = w, np.inf, None, np.inf
        for k in range(most_sets):
            gradient = self.gradient(w)
            value, size = self._value(penalty, w, gradient)
            most = value if k == 0 else most
            gradient += penalty.l2 * w
            violation = float((penalty.violation(w, gradient) * per_unit).max(initial=0.0))
            if violation < least and value <= most + SLACK * size:
                best, least = w, violation
            signs = np.sign(penalty.soften(w - step * gradient, penalty.l1 * step))
            if violation <= tol or (last is not None and np.array_equal(signs, last)):
                return best, best is w, k
            solved = self._solve(penalty, signs)
            if solved is None:
                break
            w, last = solved, signs
        return best, False, most_sets

    def units(self, penalty: Penalty) -> np.ndarray:
        """Return the unit of each column's violation of optimality."""
        sizes = np.sqrt(self.diagonal)
        counts = sizes > 0.0
        steepest = float((np.abs(self.c)[counts] / sizes[counts]).max(initial=0.0))
        return np.maximum(np.minimum(sizes * steepest, unit_of(penalty, self.c)), TINY)

    def _value(self, penalty: Penalty, w, gradient) -> tuple[float, float]:
        """Return J less its value at zero, and the size of its terms. `gradient` is H w - c."""
        fit = 0.5 * float(w @ (gradient - self.c))
        paid = penalty.value(w)
        return fit + paid, abs(float(w @ gradient)) + float(np.abs(w) @ np.abs(self.c)) + paid

    def _solve(self, penalty: Penalty, signs: np.ndarray) -> np.ndarray | None:
        """Return w with (H + l2) w = c - l1 signs in the set of these signs, and zero outside.

        The result is None where the matrix is singular to rounding.
        """
        where = np.flatnonzero(signs)
        w = np.zeros(len(signs))
        self.condition = 1.0
        if len(where) == 0:
            return w
        factor = scaled_factor(self.H, where, penalty.l2)
        if factor is None:
            return None
        upper, scale, self.condition = factor
        right = (self.c[where] - penalty.l1 * signs[where]) * scale
        w[where] = lapack.dpotrs(upper, right, lower=0)[0] * scale
        return w if np.isfinite(w).all() else None

    def _watched_steps(self, penalty: Penalty, w: np.ndarray) -> tuple[np.ndarray, int]:
        """Minimise by `active_set.py`, in the range of H that exceeds rounding."""
        scale = column_scale(self.diagonal + np.where(self.diagonal > 0.0, penalty.l2, 0.0))
        R, q = root_of(self.H, self.c, penalty.l2)
        R *= scale
        lasso = Lasso(R, q, penalty.l1 * scale, penalty.positive)
        found = active_set.minimise(lasso, divided(w, scale))
        self.condition = found.condition
        return found.u * scale, found.moves


def scaled_factor(
    H: np.ndarray, where: np.ndarray, l2
) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Return the Cholesky factor of D (H + l2) D in these columns, D, and the columns' condition.

    D makes the diagonal 1. The result is None where the matrix is singular to rounding.
    """
    # Rows and then columns take half the time of np.ix_.
    part = H.copy() if len(where) == len(H) else H[where].take(where, axis=1)
    part.flat[:: len(where) + 1] += l2
    scale = 1.0 / np.sqrt(np.maximum(np.diag(part), TINY))
    part *= scale
    part *= scale[:, None]
    norm = lapack.dlange("1", part.T)
    upper = upper_of(part)
    if upper is None:
        return None
    reciprocal, info = lapack.dpocon(upper, norm)
    if info != 0 or not reciprocal > EPS * len(where):
        return None
    return upper, scale, float(1.0 / np.sqrt(reciprocal))


def condition_of_factor(H: np.ndarray, where: np.ndarray, l2, scale, upper: np.ndarray) -> float:
    """Return the condition of these columns as `scaled_factor` does, from its other results."""
    if len(where) == 0:
        return 1.0
    part = np.abs(H[where].take(where, axis=1)) * scale
    norm = (part.sum(axis=1) * scale + l2 * scale**2).max()
    reciprocal, info = lapack.dpocon(np.asfortranarray(upper), norm)
    if info != 0 or not reciprocal > EPS * len(where):
        return np.inf
    return float(1.0 / np.sqrt(reciprocal))


def root_of(H: np.ndarray, c: np.ndarray, l2) -> tuple[np.ndarray, np.ndarray]:
    """Return R and q with R^T R = H + l2 and R^T q = c, in the range of H that exceeds rounding.

    Columns with H_jj = 0 have no penalty.
    """
    diagonal = np.diag(H)
    l2 = np.where(diagonal > 0.0, l2, 0.0)
    scale = column_scale(diagonal + l2)
    H = H * scale * scale[:, None]
    H[np.diag_indices_from(H)] += l2 * scale**2
    values, vectors = eigh(H)
    keep = values > EPS * len(values) * max(float(values[-1]), TINY)
    root = np.sqrt(values[keep])
    R = root[:, None] * vectors[:, keep].T
    R[:, scale == 0.0] = 0.0  # the rounding of columns that are left out would have no penalty
    return R * divided(np.ones(len(scale)), scale), (vectors[:, keep].T @ (c * scale)) / root


def minima(H: np.ndarray, slopes: np.ndarray, penalty: Penalty, starts: np.ndarray) -> np.ndarray:
    """Return the weights (t, d): for each target the minimum, where c is its row of `slopes`."""
    coef = np.empty_like(starts)
    for t, (c, start) in enumerate(zip(slopes, starts, strict=True)):
        coef[t] = Quadratic(H, c).minimise(penalty, start, QUADRATIC_TOLERANCE)[0]
    return coef


def divided(w: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return w / scale, and 0 for columns that are left out."""
    return np.where(scale > 0.0, w / np.where(scale > 0.0, scale, 1.0), 0.0)


def unit_of(penalty: Penalty, c: np.ndarray) -> float:
    """Return the largest gradient at zero, the unit of a violation of optimality."""
    return float(np.maximum(np.abs(c).max(initial=0.0), penalty.l1))
