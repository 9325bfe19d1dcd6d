"""The lasso for a triangular factor, by an active set whose steps never raise the objective.

    J(u) = 1/2 |R u - q|^2 + sum_j l1_j |u_j|,     lower_j <= u_j <= upper_j

R comes from a QR decomposition of the rows (or, where only sums are known, from the eigenvalues of
the Gram matrix), so that the condition number is not squared. The penalty and the bounds of a
column have a few knots: its bounds and, with an L1 penalty, zero. Between two of them they are
linear. Columns in the set are free between two neighbouring knots, and all others rest at a knot.
Columns join the set one at a time: the next is the one that violates optimality most. Then the
least-squares problem of the columns in the set is solved; where a weight would pass a knot, the
step ends there and its column leaves. That is the NNLS of Lawson and Hanson (1974, Solving Least
Squares Problems, chapter 23), and its extension to bounds by Stark and Parker (1995, Computational
Statistics 10), with an L1 penalty: J falls with each step, whatever the rank. A column that depends
on those in the set replaces one of them, along the direction that changes no residual.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.linalg import qr_delete

from .factors import EPS, LONG, solve_upper
from .interrupt import interruptible

# A column depends on the set if its part outside of the set's span is at most this share of it: in
# float64, and a larger share where the weights have a narrower dtype.
DEPENDENT = 10.0 * EPS
CLEAR = 1e3  # a column does not depend on the set if its part outside is so many times larger
# The tolerated violation of optimality as a share of |r|, for columns of norm 1.
VIOLATION = 1e-12
# If |r| is below this many times its rounding error, violations are computed from the parts of
# columns outside of the set's span, and count if they reach this share of |r|.
NOISE = 8.0
PROGRESS = 1e-6
# A refused column is worth a warning if its violation reaches this share of |r|.
REFUSED = 1e-3
# Smaller relative changes of J are rounding.
CHANGE = 1e-13
# Along a dependence, shares of the largest move below this are rounding.
STILL = 1e-10
MOVES_PER_WEIGHT = 30
COLUMNS = 256
REJECTIONS = 200  # the search ends after this many successive candidates without effect


def subgradients(
    u: np.ndarray, l1: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the derivatives of penalty and bounds to the left and to the right of u."""
    left = np.where(u <= lower, -np.inf, np.where(u > 0.0, l1, -l1))
    right = np.where(u >= upper, np.inf, np.where(u < 0.0, -l1, l1))
    return left, right


def apart(
    u: np.ndarray, slope: np.ndarray, l1: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return how far each weight is from optimality, and the direction of descent, 1 or -1.

    `slope` is minus the derivative of J without its L1 penalty. At the optimum it lies between the
    derivatives of penalty and bounds to the left and to the right of u.
    """
    left, right = subgradients(u, l1, lower, upper)
    rise, fall = slope - right, left - slope
    return np.maximum(np.maximum(rise, fall), 0.0), np.where(rise >= fall, 1.0, -1.0)


@dataclass(frozen=True)
class Lasso:
    """The problem in columns of norm 1, or 0 if they are left out."""

    R: np.ndarray  # (m, d)
    q: np.ndarray  # (m,)
    l1: np.ndarray  # (d,)
    positive: bool = False
    dependent: float = DEPENDENT
    lower: np.ndarray | None = None  # (d,)  None: no bounds
    upper: np.ndarray | None = None

    @cached_property
    def least(self) -> np.ndarray:
        """The least weight that each column may have, (d,)."""
        least = np.full(len(self.l1), -np.inf) if self.lower is None else self.lower
        return np.maximum(least, 0.0) if self.positive else least

    @cached_property
    def most(self) -> np.ndarray:
        """The largest weight that each column may have, (d,)."""
        return np.full(len(self.l1), np.inf) if self.upper is None else self.upper

    def apart(self, u: np.ndarray, slope: np.ndarray, columns=slice(None)):
        """Return how far R_j^T r is from optimality at each weight, and the direction of descent.

        `slope` has R_j^T r. The direction is 1 or -1.
        """
        return apart(u, slope, self.l1[columns], self.least[columns], self.most[columns])

    def is_free(self, u: np.ndarray) -> np.ndarray:
        """Return which weights are at no knot."""
        return (u > self.least) & (u < self.most) & ((u != 0.0) | (self.l1 == 0.0))

    def segment(self, j: int, u: float, direction: float) -> Segment:
        """Return the two knots between which a weight is that moves from u in this direction."""
        knots = [float(self.least[j]), float(self.most[j])]
        l1 = float(self.l1[j])
        if l1 > 0.0 and knots[0] < 0.0 < knots[1]:
            knots.insert(1, 0.0)
        k = 0
        while k + 2 < len(knots) and (u > knots[k + 1] or (u == knots[k + 1] and direction > 0.0)):
            k += 1
        middle_sign = 1.0 if knots[k] >= 0.0 else -1.0
        return Segment(knots[k], knots[k + 1], middle_sign * l1)

    def residual(self, u: np.ndarray) -> np.ndarray:
        where = np.flatnonzero(u)
        return self.q - self.R[:, where] @ u[where]

    def value(self, u: np.ndarray) -> float:
        r = self.residual(u)
        return 0.5 * float(r @ r) + float(self.l1 @ np.abs(u))

    def rounding(self, u: np.ndarray) -> float:
        """The rounding error of r, whatever u is."""
        return EPS * float(np.linalg.norm(self.q) + np.abs(u).sum())


class Segment(NamedTuple):
    """Where a column in the set may move, and the slope of the penalty there."""

    left: float
    right: float
    slope: float


@dataclass(frozen=True)
class Minimum:
    """The end point of the search."""

    u: np.ndarray
    moves: int
    violation: float  # of optimality, divided by |r|
    condition: float  # of the set's columns
    settled: bool  # no column violates optimality by more than rounding
    has_refused: bool  # a column would lower J, but is too nearly dependent


@dataclass
class _Set:
    """R[:, columns] = Q T, with a segment per column. Arrays are replaced, never changed."""

    lasso: Lasso
    Q: np.ndarray
    T: np.ndarray
    columns: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))
    segments: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))  # as `Segment`

    def copy(self) -> _Set:
        return _Set(self.lasso, self.Q, self.T, self.columns, self.segments)

    def projected(self, j: int) -> tuple[np.ndarray, np.ndarray]:
        """R_j = Q h + v with v orthogonal to Q, by two rounds of Gram-Schmidt."""
        v = self.lasso.R[:, j]
        h = self.Q.T @ v
        v = v - self.Q @ h
        again = self.Q.T @ v
        return h + again, v - self.Q @ again

    def insert(self, j: int, segment: Segment) -> np.ndarray | None:
        """Insert column j, or return the weights that combine the others to it if it depends."""
        h, v = self.projected(j)
        size = float(np.linalg.norm(v))
        p = len(self.columns)
        if size <= self.lasso.dependent or p == len(v):
            return solve_upper(self.T, h)
        T = np.zeros((p + 1, p + 1))
        T[:p, :p], T[:p, p], T[p, p] = self.T, h, size
        self.T, self.Q = T, np.column_stack([self.Q, v / size])
        self.columns = np.append(self.columns, j)
        self.segments = np.vstack([self.segments, segment])
        return None

    def fill(self, columns: np.ndarray, segments: np.ndarray) -> bool:
        """Take all of these columns at once if they are clearly independent, else none."""
        if not 0 < len(columns) <= len(self.lasso.R):
            return False
        part = self.lasso.R[:, columns]
        Q, T = interruptible(np.linalg.qr, part) if len(columns) >= LONG else np.linalg.qr(part)
        if not np.abs(np.diag(T)).min() > CLEAR * self.lasso.dependent:
            return False
        self.Q, self.T, self.columns, self.segments = Q, T, columns, segments
        return True

    def delete(self, where: np.ndarray) -> None:
        for k in where[::-1]:
            p = len(self.columns) - 1
            Q, T = qr_delete(self.Q, self.T, int(k), which="col", check_finite=False)
            self.Q, self.T = Q[:, :p], T[:p]
            self.columns = np.delete(self.columns, k)
            self.segments = np.delete(self.segments, k, axis=0)

    def paid(self) -> np.ndarray:
        """Q^T r at the minimum: the residual in the span, which is due to the penalty."""
        return solve_upper(self.T, self.segments[:, 2], trans="T")

    def solve(self, u: np.ndarray) -> np.ndarray:
        """The weights of the set's columns that minimise J without their knots, refined once.

        The columns outside of the set keep their weights u.
        """
        outside = u.copy()
        outside[self.columns] = 0.0
        q, paid = self.lasso.residual(outside), self.paid()
        z = solve_upper(self.T, self.Q.T @ q - paid)
        r = q - self.lasso.R[:, self.columns] @ z
        return z + solve_upper(self.T, self.Q.T @ r - paid)

    def condition(self) -> float:
        """A lower bound of the columns' condition number, from the diagonal of T."""
        diagonal = np.abs(np.diag(self.T))
        return float(diagonal.max() / diagonal.min()) if len(diagonal) else 1.0


def minimise(lasso: Lasso, start: np.ndarray) -> Minimum:
    """Minimise J, starting from weights that satisfy the constraints."""
    search = _Search(lasso, start)
    search.run()
    r = lasso.residual(search.u)
    size = float(np.linalg.norm(r))
    violation = search.apart(r)[0].max(initial=0.0)
    rounding = lasso.rounding(search.u)
    return Minimum(
        search.u,
        search.moves,
        float(violation) / size if size > 0.0 else 0.0,
        search.active.condition(),
        bool(search.settled or violation <= max(VIOLATION * size, rounding)),
        bool(lasso.dependent > DEPENDENT)
        and search.hidden_candidate(r, REFUSED * size) is not None,
    )


class _Search:
    """The search, which moves from set to set."""

    def __init__(self, lasso: Lasso, start: np.ndarray) -> None:
        self.lasso = lasso
        self.u = np.clip(start, lasso.least, lasso.most)
        m, d = lasso.R.shape
        self.active = _Set(lasso, np.zeros((m, 0)), np.zeros((0, 0)))
        self.moves, self.most, self.settled = 0, MOVES_PER_WEIGHT * d + 100, False
        self.counts = np.einsum("ij,ij->j", lasso.R, lasso.R) > 0.0
        self.u[~self.counts] = np.clip(0.0, lasso.least, lasso.most)[~self.counts]
        is_free = lasso.is_free(self.u) & self.counts
        first = np.argsort(np.where(is_free, -np.abs(self.u), 1.0), kind="stable")
        first = first[: np.count_nonzero(is_free)]
        segments = [lasso.segment(int(j), float(self.u[j]), 1.0) for j in first]
        if not self.active.fill(first, np.array(segments).reshape(-1, 3)):
            for j in first:
                self._take_in(int(j), -np.sign(self.u[j]))

    def run(self) -> None:
        if len(self.active.columns):
            self._solve_set()
        value = self.lasso.value(self.u)
        tried, rejected = np.zeros(len(self.u), dtype=bool), 0
        while self.moves < self.most and rejected < REJECTIONS:
            found = self._candidate(tried)
            if found is None:
                self.settled = True
                return
            j, direction = found
            u, active = self.u, self.active.copy()
            self.u = u.copy()
            tried[j] = True
            better = self._join(j, direction)
            reached = self.lasso.value(self.u) if better else np.inf
            if not reached <= value * (1.0 + CHANGE):
                self.u, self.active = u, active
                rejected += 1
                continue
            if reached < value * (1.0 - CHANGE):
                tried[:], rejected = False, 0
            value = min(reached, value)

    def _candidate(self, tried: np.ndarray) -> tuple[int, float] | None:
        """The column outside of the set that violates optimality most, and its sign."""
        lasso = self.lasso
        r = lasso.residual(self.u)
        size, rounding = float(np.linalg.norm(r)), lasso.rounding(self.u)
        if size <= rounding:
            return None
        violation, direction = self.apart(r)
        violation[self.active.columns] = 0.0
        violation[tried] = 0.0
        j = int(np.argmax(violation))
        if violation[j] > max(VIOLATION * size, NOISE * rounding):
            return j, float(direction[j])
        return self.hidden_candidate(r, PROGRESS * size, tried, lasso.dependent)

    def hidden_candidate(
        self, r: np.ndarray, least: float, tried=False, dependent: float = DEPENDENT
    ) -> tuple[int, float] | None:
        """The candidate where rounding hides violations: by the columns' parts outside of the span.

        In the span, the residual is only what the penalty causes, so that these parts alone give
        R_j^T r, with a small relative error.
        """
        Q, lasso = self.active.Q, self.lasso
        is_other = self.counts & ~np.asarray(tried)
        is_other[self.active.columns] = False
        others = np.flatnonzero(is_other)
        if len(others) == 0:
            return None
        outside, slope, paid = np.empty(len(others)), np.empty(len(others)), self.active.paid()
        for start in range(0, len(others), COLUMNS):  # a few at a time, for Ctrl-C
            some = slice(start, start + COLUMNS)
            V = lasso.R[:, others[some]]
            h = Q.T @ V
            V -= Q @ h
            again = Q.T @ V
            V -= Q @ again
            outside[some] = np.linalg.norm(V, axis=0)
            slope[some] = V.T @ r + (h + again).T @ paid
        apart, direction = lasso.apart(self.u[others], slope, others)
        gain = np.where(outside > dependent, apart / np.maximum(outside, dependent), 0.0)
        k = int(np.argmax(gain))
        return (int(others[k]), float(direction[k])) if gain[k] > least else None

    def apart(self, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How far each column is from optimality at this residual, and the way of descent."""
        violation, direction = self.lasso.apart(self.u, self.lasso.R.T @ r)
        return violation * self.counts, direction

    def _join(self, j: int, direction: float) -> bool:
        """Let column j join if its weight then moves in this direction; returns whether it has.

        One that depends on the set may move to its next knot without joining.
        """
        before = self.u[j]
        if not self._take_in(j, direction):
            if self.u[j] == before:
                return False
            self._solve_set()
            return True
        segment = self.active.segments[-1]
        if self.u[j] in segment[:2]:
            z = self.active.solve(self.u)[self.active.columns == j]
            if not (z - self.u[j]) * direction > 0.0:
                return False
        self._solve_set()
        return True

    def _take_in(self, j: int, direction: float) -> bool:
        """Insert column j. If it depends on the set, weights move along the dependence.

        They move so that the penalty falls; without one, `direction` is that of u_j.
        """
        while True:
            self.moves += 1
            segment = self.lasso.segment(j, float(self.u[j]), direction)
            dependence = self.active.insert(j, segment)
            if dependence is None:
                return True
            columns = np.append(self.active.columns, j)
            segments = np.vstack([self.active.segments, segment])
            move = np.append(-dependence, 1.0) * direction
            slope = float(segments[:, 2] @ move)
            if self.u[j] in segment[:2] and not slope < 0.0:
                return False
            move = -move if slope > 0.0 else move
            crossed = self._step(columns, segments, move, np.inf)
            if crossed is None:
                return False
            self.active.delete(crossed[crossed < len(columns) - 1])
            if len(columns) - 1 in crossed:
                return False

    def _solve_set(self) -> None:
        """Move to the least J of the set's columns; those whose weights reach a knot leave."""
        while len(self.active.columns):
            self.moves += 1
            columns = self.active.columns
            move = self.active.solve(self.u) - self.u[columns]
            crossed = self._step(columns, self.active.segments, move, 1.0)
            if crossed is None:
                return
            self.active.delete(crossed)

    def _step(
        self, columns: np.ndarray, segments: np.ndarray, move: np.ndarray, most: float
    ) -> np.ndarray | None:
        """Move these weights until the first reach a knot (returned), but at most `most` times."""
        if not np.isfinite(move).all():
            return None
        here = self.u[columns]
        ends = np.where(move < 0.0, segments[:, 0], segments[:, 1])
        share = np.full(len(columns), np.inf)
        # Rounding of a dependence would carry weights that have no bounds to 1e16 before it ends.
        moves = np.abs(move) > (0.0 if np.isfinite(most) else STILL * np.abs(move).max())
        share[moves] = np.abs(ends[moves] - here[moves]) / np.abs(move[moves])
        first = float(share.min(initial=np.inf))
        if first >= most:
            if np.isfinite(most):
                self.u[columns] = np.clip(here + most * move, segments[:, 0], segments[:, 1])
            return None
        self.u[columns] = np.clip(here + first * move, segments[:, 0], segments[:, 1])
        crossed = np.flatnonzero(share <= first)
        self.u[columns[crossed]] = ends[crossed]
        return crossed
