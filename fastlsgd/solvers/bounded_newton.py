"""Bounded least squares with linear equalities on a Gram matrix: guesses of the active set.

    minimise  1/2 w^T H w - c^T w + sum_j (l1_j |w_j| + l2_j/2 w_j^2)
    over      lower <= w <= upper,     E w = e

As in `proximal_newton.py`, the set is guessed by a proximal step, and the weights in it are solved
for together with the multipliers of the equalities (the Schur complement of the set's Cholesky
factor), until a guess repeats itself and so is the solution. Where guesses cycle, or a set is
singular to rounding, `augmented.py` continues on a root of H from the best weights.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import lapack

from . import augmented
from .augmented import Bounded
from .constraints import Constraints
from .factors import EPS, LONG, TINY, reciprocal_condition
from .interrupt import LONG_WORK, interruptible
from .problem import Terms
from .quadratic import root_of, scaled_factor
from .serial_blas import serial_blas
from .threaded_products import product

# The number of guesses: where they end, that takes 5 to 15.
MOST_SETS = 40
# States of a weight: free where the penalty falls, is flat or rises; at a bound; at zero by L1.
FALLS, FLAT, RISES, LOWER, UPPER, ZERO = -1, 0, 1, 2, 3, 4


def states(terms: Terms, w: np.ndarray) -> np.ndarray:
    """Return where each weight is, as the numbers above."""
    state = np.where(terms.l1 == 0.0, FLAT, np.sign(w)).astype(np.int8)
    state[(terms.l1 > 0.0) & (w == 0.0)] = ZERO
    state[w >= terms.upper] = UPPER
    state[w <= terms.lower] = LOWER
    return state


def guess(terms: Terms, u: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Return the states after the proximal step at u."""
    soft = np.sign(u) * np.maximum(np.abs(u) - terms.l1 * step, 0.0)
    return states(terms, np.clip(soft, terms.lower, terms.upper))


class Found(NamedTuple):
    w: np.ndarray  # (d,)
    multipliers: np.ndarray  # (r,)
    is_free: np.ndarray  # (d,)
    condition: float  # of the scaled columns of the set, with their penalty
    settled: bool


class BoundedQuadratic:
    """The problem above for one target; columns with H_jj = 0 and no penalty stay as they are."""

    def __init__(self, H: np.ndarray, c: np.ndarray, constraints: Constraints) -> None:
        self.H, self.c = H, c
        self.E, self.e, self.rounding = constraints.E, constraints.e, constraints.rounding
        # The condition of all scaled columns without a penalty, if a set had all of them.
        self.whole_condition: float | None = None

    def minimise(self, terms: Terms, start: np.ndarray | None) -> Found:
        with serial_blas():  # threads of BLAS would wait for each other in each solve
            found, best = self._guesses(terms, start)
        return self._searched(terms, best) if found is None else found

    def _guesses(self, terms: Terms, start) -> tuple[Found | None, np.ndarray]:
        """Guess and solve until a set repeats itself; else return the last weights within bounds.

        Without a start, all weights that L1 does not penalise are free at first.
        """
        curvature = np.diag(self.H) + terms.l2
        counts = curvature > TINY
        step = np.where(counts, 1.0 / np.where(counts, curvature, 1.0), 0.0)
        at_rest = np.clip(0.0, terms.lower, terms.upper)
        w, multipliers = (at_rest if start is None else start), np.zeros(len(self.e))
        state = states(terms, w)
        if start is None:
            state[(terms.l1 == 0.0) & counts & (terms.lower < terms.upper)] = FLAT
        seen: set[bytes] = set()
        for _ in range(MOST_SETS):
            state[~counts] = states(terms, at_rest)[~counts]
            still = ~counts & (state <= RISES)  # of no effect: left where it rests
            if state.tobytes() in seen:
                break
            seen.add(state.tobytes())
            solved = self._solve(terms, state, still)
            if solved is None:
                break
            w, multipliers, condition = solved
            gradient = self.H @ w - self.c + terms.l2 * w + multipliers @ self.E
            following = guess(terms, w - step * gradient, step)
            following[~counts] = state[~counts]
            if np.array_equal(following, state):
                is_free = (state <= RISES) & counts
                w = np.clip(w, terms.lower, terms.upper)  # a free weight may be off by rounding
                return Found(w, multipliers, is_free, condition, True), w
            state = following
        return None, np.clip(w, terms.lower, terms.upper)

    def _solve(self, terms: Terms, state: np.ndarray, still: np.ndarray):
        """Return weights, multipliers and condition for these states; None where singular."""
        free = (state <= RISES) & ~still
        where = np.flatnonzero(free)
        w = np.where(state == LOWER, terms.lower, np.where(state == UPPER, terms.upper, 0.0))
        w[free] = 0.0
        left = self.e - self.E @ w
        if len(where) == 0:
            return None if len(left) else (w, left, 1.0)
        factor = scaled_factor(self.H, where, terms.l2[where])
        if factor is None:
            return None
        upper, scale, condition = factor
        if len(where) == np.count_nonzero(np.diag(self.H)) and not terms.l2.any():
            self.whole_condition = condition
        right = self.c[where] - terms.l1[where] * state[where]
        fixed = np.flatnonzero(w)
        if len(fixed):
            right = right - w[fixed] @ self.H[np.ix_(fixed, where)]
        E = self.E[:, where] * scale
        solved = lapack.dpotrs(upper, np.column_stack([right * scale, E.T]), lower=0)[0]
        multipliers = np.zeros(len(left))
        if len(left):
            schur = E @ solved[:, 1:]
            size = np.sqrt(np.maximum(np.diag(schur), TINY))
            values, V = np.linalg.eigh(schur / size / size[:, None])
            if not values[0] > EPS * len(where) * condition:
                return None
            u = solved[:, 0]
            for _ in range(2):  # the second time, refined
                change = (V @ ((V.T @ ((E @ u - left) / size)) / values)) / size
                multipliers, u = multipliers + change, u - solved[:, 1:] @ change
            solved[:, 0] = u
        w[where] = solved[:, 0] * scale
        return (w, multipliers, condition) if np.isfinite(w).all() else None

    def _searched(self, terms: Terms, start: np.ndarray) -> Found:
        """Minimise on a root of H, in the range that exceeds rounding."""
        R, q = root_of(self.H, self.c, terms.l2)
        problem = Bounded(
            R, q, terms.l1, terms.lower, terms.upper, self.E, self.e, rounding=self.rounding
        )
        found = augmented.minimise(problem, start)
        condition = condition_of(R, self.E, found.is_free)
        return Found(found.w, found.multipliers, found.is_free, condition, found.settled)


def condition_of(R: np.ndarray, E: np.ndarray, is_free: np.ndarray) -> float:
    """Return the condition of the free columns, scaled to norm 1, along the equalities.

    It is LAPACK's estimate in the 1-norm, infinite where the columns depend on each other.
    """
    columns = R[:, is_free]
    norms = np.linalg.norm(columns, axis=0)
    columns = columns[:, norms > 0.0] / norms[norms > 0.0]
    if len(E):
        rows = E[:, is_free][:, norms > 0.0] / norms[norms > 0.0]
        rank = np.linalg.matrix_rank(rows) if rows.size else 0
        columns = product(columns, _qr(rows.T, "complete")[0][:, rank:])
    m, d = columns.shape
    if d == 0:
        return 1.0
    reciprocal = reciprocal_condition(_qr(columns, "r")) if m >= d else 0.0
    return 1.0 / reciprocal if reciprocal > 0.0 else np.inf


def _qr(A: np.ndarray, mode: Any) -> Any:
    """Return numpy's QR decomposition, during which Ctrl-C is handled."""
    is_long = float(A.shape[0]) * A.shape[1] * min(A.shape) >= LONG_WORK or max(A.shape) >= LONG
    return interruptible(np.linalg.qr, A, mode) if is_long else np.linalg.qr(A, mode)
