"""The lasso for a triangular factor, by an active set whose steps never raise the objective.

    J(u) = 1/2 |R u - q|^2 + sum_j l1_j |u_j|,     u >= 0 where `positive`

R comes from a QR decomposition of the rows (or, where only sums are known, from the eigenvalues of
the Gram matrix), so that the condition number is not squared. Columns join the set one at a time:
the next is the one that violates optimality most. Then the least-squares problem of the columns in
the set is solved; where a weight would change its sign, the step ends there and its column leaves.
That is the NNLS of Lawson and Hanson (1974, Solving Least Squares Problems, chapter 23) extended to
signs and an L1 penalty: J falls with each step, whatever the rank. A column that depends on those
in the set replaces one of them, along the direction that changes no residual.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import qr_delete, solve_triangular

from .factors import EPS

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
MOVES_PER_WEIGHT = 30
COLUMNS = 256
REJECTIONS = 200  # the search ends after this many successive candidates without effect


@dataclass(frozen=True)
class Lasso:
    """The problem in columns of norm 1, or 0 if they are left out."""

    R: np.ndarray  # (m, d)
    q: np.ndarray  # (m,)
    l1: np.ndarray  # (d,)
    positive: bool
    dependent: float = DEPENDENT

    def residual(self, u: np.ndarray) -> np.ndarray:
        where = np.flatnonzero(u)
        return self.q - self.R[:, where] @ u[where]

    def value(self, u: np.ndarray) -> float:
        r = self.residual(u)
        return 0.5 * float(r @ r) + float(self.l1 @ np.abs(u))

    def rounding(self, u: np.ndarray) -> float:
        """The rounding error of r, whatever u is."""
        return EPS * float(np.linalg.norm(self.q) + np.abs(u).sum())


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
    """R[:, columns] = Q T, with a sign per column. Arrays are replaced, never changed."""

    lasso: Lasso
    Q: np.ndarray
    T: np.ndarray
    columns: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))
    signs: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def copy(self) -> _Set:
        return _Set(self.lasso, self.Q, self.T, self.columns, self.signs)

    def projected(self, j: int) -> tuple[np.ndarray, np.ndarray]:
        """R_j = Q h + v with v orthogonal to Q, by two rounds of Gram-Schmidt."""
        v = self.lasso.R[:, j]
        h = self.Q.T @ v
        v = v - self.Q @ h
        again = self.Q.T @ v
        return h + again, v - self.Q @ again

    def insert(self, j: int, sign: float) -> np.ndarray | None:
        """Insert column j, or return the weights that combine the others to it if it depends."""
        h, v = self.projected(j)
        size = float(np.linalg.norm(v))
        p = len(self.columns)
        if size <= self.lasso.dependent or p == len(v):
            return solve_triangular(self.T, h, check_finite=False) if p else np.zeros(0)
        T = np.zeros((p + 1, p + 1))
        T[:p, :p], T[:p, p], T[p, p] = self.T, h, size
        self.T, self.Q = T, np.column_stack([self.Q, v / size])
        self.columns, self.signs = np.append(self.columns, j), np.append(self.signs, sign)
        return None

    def fill(self, columns: np.ndarray, signs: np.ndarray) -> bool:
        """Take all of these columns at once if they are clearly independent, else none."""
        if not 0 < len(columns) <= len(self.lasso.R):
            return False
        Q, T = np.linalg.qr(self.lasso.R[:, columns])
        if not np.abs(np.diag(T)).min() > CLEAR * self.lasso.dependent:
            return False
        self.Q, self.T, self.columns, self.signs = Q, T, columns, signs
        return True

    def delete(self, where: np.ndarray) -> None:
        for k in where[::-1]:
            p = len(self.columns) - 1
            Q, T = qr_delete(self.Q, self.T, int(k), which="col", check_finite=False)
            self.Q, self.T = Q[:, :p], T[:p]
            self.columns, self.signs = np.delete(self.columns, k), np.delete(self.signs, k)

    def paid(self) -> np.ndarray:
        """Q^T r at the minimum: the residual in the span, which is due to the penalty."""
        slope = self.lasso.l1[self.columns] * self.signs
        return solve_triangular(self.T, slope, trans="T", check_finite=False)

    def solve(self) -> np.ndarray:
        """The weights of the set's columns that minimise J with these signs, refined once."""
        q, paid = self.lasso.q, self.paid()
        z = solve_triangular(self.T, self.Q.T @ q - paid, check_finite=False)
        r = q - self.lasso.R[:, self.columns] @ z
        return z + solve_triangular(self.T, self.Q.T @ r - paid, check_finite=False)

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
    violation = search.violation(r).max(initial=0.0)
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
        self.u = np.maximum(start, 0.0) if lasso.positive else start.copy()
        m, d = lasso.R.shape
        self.active = _Set(lasso, np.zeros((m, 0)), np.zeros((0, 0)))
        self.moves, self.most, self.settled = 0, MOVES_PER_WEIGHT * d + 100, False
        self.counts = np.einsum("ij,ij->j", lasso.R, lasso.R) > 0.0
        self.u[~self.counts] = 0.0
        first = np.argsort(-np.abs(self.u), kind="stable")[: np.count_nonzero(self.u)]
        if not self.active.fill(first, np.sign(self.u[first])):
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
            j, sign = found
            u, active = self.u, self.active.copy()
            self.u = u.copy()
            tried[j] = True
            better = self._join(j, sign)
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
        violation = self.violation(r)
        violation[self.active.columns] = 0.0
        violation[tried] = 0.0
        j = int(np.argmax(violation))
        if violation[j] > max(VIOLATION * size, NOISE * rounding):
            return j, float(np.sign(lasso.R[:, j] @ r))
        if NOISE * rounding <= VIOLATION * size:
            return None
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
        at_zero = (slope if lasso.positive else np.abs(slope)) - lasso.l1[others]
        gain = np.where(outside > dependent, at_zero / np.maximum(outside, dependent), 0.0)
        k = int(np.argmax(gain))
        return (int(others[k]), float(np.sign(slope[k]))) if gain[k] > least else None

    def violation(self, r: np.ndarray) -> np.ndarray:
        """How far |R_j^T r| exceeds l1_j, or for columns of nonzero weight differs from it."""
        slope = self.lasso.R.T @ r
        at_zero = (slope if self.lasso.positive else np.abs(slope)) - self.lasso.l1
        apart = np.abs(slope - self.lasso.l1 * np.sign(self.u))
        return np.where(self.u != 0.0, apart, np.maximum(at_zero, 0.0)) * self.counts

    def _join(self, j: int, sign: float) -> bool:
        """Let column j join if its weight then has this sign; returns whether it has."""
        if not self._take_in(j, sign):
            return False
        if self.u[j] == 0.0:
            z = self.active.solve()[self.active.columns == j]
            if not z * sign > 0.0:
                return False
        self._solve_set()
        return True

    def _take_in(self, j: int, direction: float) -> bool:
        """Insert column j. If it depends on the set, weights move along the dependence.

        They move so that the L1 penalty falls; without one, `direction` is that of u_j.
        """
        while True:
            self.moves += 1
            sign = np.sign(self.u[j]) if self.u[j] != 0.0 else direction
            dependence = self.active.insert(j, sign)
            if dependence is None:
                return True
            columns = np.append(self.active.columns, j)
            move = np.append(-dependence, 1.0) * direction
            signs = np.append(self.active.signs, sign)
            slope = float(self.lasso.l1[columns] @ (signs * move))
            if self.u[j] == 0.0 and not slope < 0.0:
                return False
            move = -move if slope > 0.0 else move
            crossed = self._step(columns, move, np.inf)
            if crossed is None:
                return False
            self.active.delete(crossed[crossed < len(columns) - 1])
            if len(columns) - 1 in crossed:
                return False

    def _solve_set(self) -> None:
        """Move to the least J of the set's columns; those whose weights reach zero leave."""
        while len(self.active.columns):
            self.moves += 1
            columns = self.active.columns
            crossed = self._step(columns, self.active.solve() - self.u[columns], 1.0)
            if crossed is None:
                return
            self.active.delete(crossed)

    def _step(self, columns: np.ndarray, move: np.ndarray, most: float) -> np.ndarray | None:
        """Move these weights until the first reach zero (returned), but at most `most` times."""
        here = self.u[columns]
        signs = np.append(self.active.signs, np.sign(here[-1]))[: len(columns)]
        falls = move * signs < 0.0
        share = np.full(len(columns), np.inf)
        share[falls] = np.abs(here[falls]) / np.abs(move[falls])
        first = float(share.min(initial=np.inf))
        if not np.isfinite(move).all():
            return None
        if first >= most:
            if np.isfinite(most):
                self.u[columns] = here + most * move
            return None
        self.u[columns] = here + first * move
        crossed = np.flatnonzero(share <= first)
        self.u[columns[crossed]] = 0.0
        return crossed
