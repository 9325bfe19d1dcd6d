"""Bounded least squares with linear equalities, by the method of multipliers on active sets.

    minimise  1/2 |R w - q|^2 + sum_j l1_j |w_j|,     lower <= w <= upper,     E w = e

The equalities become rows of large weight omega, whose targets move: after each minimum of

    1/2 |R w - q|^2 + sum_j l1_j |w_j| + omega^2/2 |E w - e + mu / omega^2|^2

within the bounds, mu grows by omega^2 (E w - e) (Hestenes 1969 and Powell 1969; for least squares
with heavy rows see Haskell and Hanson 1981, Math. Program. 21). In columns of norm 1 and with
orthonormal rows E, each round divides |E w - e| by at least omega^2 / d, whatever the condition of
R is, so that two or three rounds end at rounding. Each begins at the active set of the one before.
Neither dependent columns nor vertices at which more bounds hold than there are weights matter to
the search of `active_set.py`, which solves each round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from . import active_set
from .active_set import DEPENDENT, Lasso
from .factors import EPS, TINY, column_scale

# The weight of the rows of E, times the root of the number of columns.
HEAVY = 1e3
ROUNDS = 10


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
            self.E, self.e = Q.T, solve_triangular(self.T, problem.e, trans="T")
        rows = np.vstack([self.omega * self.E, problem.R * D])
        own = column_scale(np.einsum("ij,ij->j", rows, rows))
        self.rows = rows * own
        self.unit = D * np.where(own > 0.0, own, 1.0)  # w = unit u
        self.moves = 0

    def run(self, start: np.ndarray) -> BoundedMinimum:
        w, least = start, np.inf
        for _ in range(ROUNDS):
            found, w = self._round(w)
            if len(self.e) == 0:
                break
            v = w / self.D
            off = self.E @ v - self.e
            self.mu = self.mu + self.omega**2 * off
            allowed = 4.0 * EPS * (np.abs(self.e) + np.abs(self.E) @ np.abs(v))
            size = float((np.abs(off) / np.maximum(allowed, TINY)).max())
            if size <= 1.0 or not size <= 0.5 * least:
                break
            least = size
        multipliers = np.zeros(0)
        if len(self.e):
            multipliers = solve_triangular(self.T, self.mu)
        is_free = self._lasso().is_free(found.u) & (np.abs(self.rows).max(axis=0) > 0.0)
        return BoundedMinimum(w, multipliers, self.moves, found.settled, found.has_refused, is_free)

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
