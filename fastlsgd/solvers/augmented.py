"""Bounded least squares with linear equalities, by the method of multipliers on active sets.

    minimise  1/2 |R w - q|^2 + sum_j l1_j |w_j|,     lower <= w <= upper,     E w = e

The equalities become rows of large weight omega, whose targets move: after each minimum of

    1/2 |R w - q|^2 + sum_j l1_j |w_j| + omega^2/2 |E w - e + mu / omega^2|^2

within the bounds, mu grows by omega^2 (E w - e) (Hestenes 1969 and Powell 1969; for least squares
with heavy rows see Haskell and Hanson 1981, Math. Program. 21). In columns of norm 1 and with
orthonormal rows E, each round divides |E w - e| by at least omega^2 |E_F|^2 / d, whatever the
condition of R is, where E_F has the columns that are free. Where that is slow, since these have
small numbers in E, omega grows. Each round begins at the active set of the one before. Neither
dependent columns nor vertices at which more bounds hold than there are weights matter to the search
of `active_set.py`, which solves each round. Heavy rows cost digits, which the weights of the last
set get back from its own problem, solved in the null space of E_F.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import qr, solve_triangular

from . import active_set
from .active_set import DEPENDENT, Lasso
from .factors import EPS, TINY, column_scale
from .threaded_products import product

# The weight of the rows of E, times the root of the number of columns.
HEAVY = 1e3
# Its growth where a round divides |E w - e| by less than `PROMISED`, and its largest value.
HEAVIER, PROMISED, HEAVIEST = 1e2, 1e2, 1e9
MOST_ROUNDS = 20
# Singular values below this share of the largest count as zero.
SMALL = 1e-12
# The weights of the last set must not raise J by more than this share.
NOT_WORSE = 1e-9
FEW_DEPENDENT = 300  # columns, of which singular values take little time


@dataclass(frozen=True)
class Bounded:
    """The problem above, in any units of the columns."""

    R: np.ndarray  # (k, d)
    q: np.ndarray  # (k,)
    l1: np.ndarray  # (d,)
    lower: np.ndarray  # (d,)
    upper: np.ndarray  # (d,)
    E: np.ndarray  # (r, d)
    e: np.ndarray  # (r,)
    dependent: float = DEPENDENT
    rounding: float = 0.0  # of e, beside the rounding of its own size


@dataclass(frozen=True)
class BoundedMinimum:
    w: np.ndarray  # (d,)
    multipliers: np.ndarray  # (r,)  of E w = e
    moves: int
    settled: bool
    has_refused: bool  # a column would lower J, but is too nearly dependent
    is_free: np.ndarray  # (d,)  which weights are at no knot


def minimise(problem: Bounded, start: np.ndarray) -> BoundedMinimum:
    """Minimise from weights within the bounds."""
    squares = np.einsum("ij,ij->j", problem.R, problem.R)
    scale = column_scale(squares)
    rounds = _Rounds(problem, np.where(scale > 0.0, scale, 1.0))
    return rounds.run(start)


class _Rounds:
    """The rounds, in coordinates v = w / D in which the columns of R have norm 1."""

    def __init__(self, problem: Bounded, D: np.ndarray) -> None:
        self.problem, self.D = problem, D
        r, d = problem.E.shape
        self.omega = HEAVY * d**0.5
        self.E, self.T = np.zeros((0, d)), np.zeros((0, 0))
        self.e, self.mu = np.zeros(0), np.zeros(r)
        if r:
            Q, self.T = np.linalg.qr((problem.E * D).T)
            Q[~problem.E.any(axis=0)] = 0.0  # rounding would be a column of its own
            self.E, self.e = Q.T, solve_triangular(self.T, problem.e, trans="T")
        self.moves = 0
        self._weigh()

    def _weigh(self) -> None:
        """Make the rows of all columns, of norm 1, for the present omega."""
        rows = np.vstack([self.omega * self.E, self.problem.R * self.D])
        own = column_scale(np.einsum("ij,ij->j", rows, rows))
        self.rows = rows * own
        self.unit = self.D * np.where(own > 0.0, own, 1.0)  # w = unit u

    def run(self, start: np.ndarray) -> BoundedMinimum:
        w, least = start, np.inf
        for _ in range(MOST_ROUNDS):
            found, w = self._round(w)
            if len(self.e) == 0:
                break
            off = self.E @ (w / self.D) - self.e
            self.mu = self.mu + self.omega**2 * off
            size = float((np.abs(off) / self._allowed(w)).max())
            if size <= 1.0:
                break
            if size * PROMISED > least:
                if self.omega >= HEAVIEST * len(w) ** 0.5:
                    break
                self.omega *= HEAVIER
                self._weigh()
            least = min(size, least)
        is_free = self._lasso().is_free(found.u) & (np.abs(self.rows).max(axis=0) > 0.0)
        multipliers = np.zeros(0)
        if len(self.e):
            w = self._corrected(self._polished(w, np.flatnonzero(is_free)), np.flatnonzero(is_free))
            multipliers = solve_triangular(self.T, self.mu)
        return BoundedMinimum(w, multipliers, self.moves, found.settled, found.has_refused, is_free)

    def _value(self, w: np.ndarray) -> float:
        r = self.problem.R @ w - self.problem.q
        return 0.5 * float(r @ r) + float(self.problem.l1 @ np.abs(w))

    def _allowed(self, w: np.ndarray) -> float:
        """Return what each |E v - e| may be by rounding."""
        size = np.abs(self.e) + np.abs(self.E) @ np.abs(w / self.D)
        shrunk = np.abs(np.linalg.inv(self.T)).max() * self.problem.rounding
        return max(4.0 * (EPS * float(size.max()) + shrunk), TINY)

    def _corrected(self, w: np.ndarray, free: np.ndarray) -> np.ndarray:
        """Return weights at which E w = e, in its own units, up to rounding.

        Where columns differ in size by much, rows that are orthonormal in other units hold to their
        own rounding only. The change is the least one in columns of norm 1.
        """
        p, E, D = self.problem, self.problem.E[:, free] * self.D[free], self.D[free]
        off = p.E @ w - p.e
        for _ in range(2):
            following = w.copy()
            following[free] -= D * np.linalg.lstsq(E, off, rcond=SMALL)[0]
            following = np.clip(following, p.lower, p.upper)
            rest = p.E @ following - p.e
            if not np.abs(rest).max() < np.abs(off).max():
                break
            w, off = following, rest
        return w

    def _polished(self, w: np.ndarray, free: np.ndarray) -> np.ndarray:
        """Return the minimum of the free weights under the equalities, if their knots allow it.

        The multipliers follow it.
        """
        p, left = self.problem, w.copy()
        left[free] = 0.0
        R, E, D = p.R[:, free] * self.D[free], self.E[:, free], self.D[free]
        ends, target = self.e - self.E @ (left / self.D), p.q - p.R @ left
        slope = p.l1[free] * D * np.sign(w[free])
        z = _in_null_space(R, target, slope, E, ends - E @ (w[free] / D), w[free] / D)
        if z is None:
            return w
        polished = left
        polished[free] = D * z
        fits = (polished >= p.lower) & (polished <= p.upper)
        fits[free] &= (p.l1[free] == 0.0) | (np.sign(z) == np.sign(w[free]))
        if self._value(polished) > self._value(w) * (1.0 + NOT_WORSE):
            return w
        before, after = (np.abs(self.E @ (x / self.D) - self.e).max() for x in (w, polished))
        if not fits.all() or after > max(self._allowed(w), before):
            return w
        gradient = R.T @ (R @ z - target) + slope + self.mu @ E
        self.mu = self.mu - np.linalg.lstsq(E.T, gradient, rcond=SMALL)[0]
        return polished

    def _lasso(self) -> Lasso:
        p, unit = self.problem, self.unit
        with np.errstate(over="ignore"):
            lower, upper = p.lower / unit, p.upper / unit
        q = np.append(self.omega * self.e - self.mu / self.omega, p.q)
        return Lasso(self.rows, q, p.l1 * unit, dependent=p.dependent, lower=lower, upper=upper)

    def _round(self, start: np.ndarray) -> tuple[active_set.Minimum, np.ndarray]:
        p, lasso = self.problem, self._lasso()
        u = start / self.unit
        u = np.where(start == p.lower, lasso.least, np.where(start == p.upper, lasso.most, u))
        found = active_set.minimise(lasso, u)
        self.moves += found.moves
        w = np.clip(found.u * self.unit, p.lower, p.upper)  # at a bound, exactly
        w = np.where(found.u == lasso.least, p.lower, w)
        return found, np.where(found.u == lasso.most, p.upper, w)


def _in_null_space(R, target, slope, E, off, z) -> np.ndarray | None:
    """Return the minimum of 1/2 |R z - target|^2 + slope z where E z is `off` more than at this z.

    Where columns depend on each other, it is the one nearest to z, and None if they are many.
    """
    if R.shape[1] == 0:
        return None
    Q, T, order = qr(E.T, pivoting=True)
    sizes = np.abs(np.diag(T))
    rank = int((sizes > SMALL * sizes.max(initial=0.0)).sum())
    z = z + Q[:, :rank] @ solve_triangular(T[:rank, :rank], off[order[:rank]], trans="T")
    N = Q[:, rank:]
    if N.shape[1] == 0:
        return z
    B = product(R, N)
    Q, T = np.linalg.qr(B)
    diagonal = np.abs(np.diag(T))
    if len(diagonal) == N.shape[1] and diagonal.min() > SMALL * diagonal.max():
        paid = solve_triangular(T, N.T @ slope, trans="T")
        for _ in range(2):  # the second time, refined
            z = z + N @ solve_triangular(T, Q.T @ (target - R @ z) - paid)
    elif N.shape[1] <= FEW_DEPENDENT:
        U, values, Vt = np.linalg.svd(B, full_matrices=False)
        keep = values > SMALL * values.max(initial=0.0)
        U, values, V = U[:, keep], values[keep], Vt[keep].T
        for _ in range(2):
            step = (U.T @ (target - R @ z) - (V.T @ (N.T @ slope)) / values) / values
            z = z + N @ (V @ step)
    else:
        return None
    return z if np.isfinite(z).all() else None
