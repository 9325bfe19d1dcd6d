"""The triangular factor of all rows of a stream and of their penalty, kept up to date.

    min over u of  |C u - Y|^2 + p |w|^2,     C the rows [1, x] (or x), p = l2 S,  u = (b, w) (or w)

R and Q^T Y of the rows [C; sqrt(p) D], where D leaves the intercept out, are updated by Householder
reflections that know that R is triangular (Golub and Van Loan 2013, section 6.5): 2 d^2
multiply-adds per row, however few come at a time. The native backend has them, which take 35
microseconds for 20 rows of 200 columns; elsewhere LAPACK's dtpqrt is used, which takes 150. The
penalty grows with the total weight S of the rows. So only the penalty p_0 of an earlier S is in R,
and the rest is left to fixed-point steps, each of which reduces the error by (p - p_0) / p or more.
Whenever that exceeds a third, R is made anew, at d^3, which happens a logarithmic number of times.

`recursive.py` uses this factor where its condition allows it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import lapack

from ..kernels.contract import Kernels
from .factors import EPS, reciprocal_condition, solve_upper

BLOCK = 16  # columns of a block reflection: of 8, 16 and 32 the quickest for most shapes
# The weight may grow by this share before the penalty in R is brought up to date.
MOST_UNPENALISED = 0.5
# Beyond this condition of the scaled columns, rounding may decide which columns are dependent.
WORST_CONDITION = 1e8
MOST_STEPS = 40
TOLERANCE = 4.0 * EPS  # of the steps, relative to the weights


@dataclass(frozen=True)
class UpdatedFactor:
    """R, in which k = d columns of x follow one of ones where an intercept is fitted.

    The arrays are never written to.
    """

    upper: np.ndarray  # (k, k)
    right: np.ndarray  # (k, t): Q^T Y
    squares: np.ndarray  # (k,): squared norms of the columns of R
    l2: float
    weight: float  # of the rows
    penalised: float  # the weight whose penalty is in R
    has_intercept: bool
    trusted: np.ndarray | None = None  # the squares with which the condition was last estimated

    @classmethod
    def of_rows(
        cls,
        C: np.ndarray,
        Y: np.ndarray,
        l2: float,
        weight: float,
        *,
        has_intercept: bool,
        kernels: Kernels | None = None,
    ) -> UpdatedFactor:
        """Return the factor of these rows, which were multiplied by the roots of their weights."""
        squares = np.full(C.shape[1], l2 * weight)
        if has_intercept:
            squares[0] = 0.0
        upper = np.asfortranarray(np.diag(np.sqrt(squares)))
        right = np.zeros((C.shape[1], Y.shape[1]), order="F")
        factor = cls(upper, right, squares, l2, weight, weight, has_intercept)
        return factor.with_rows(C, Y, 0.0, kernels)

    def with_rows(
        self, C: np.ndarray, Y: np.ndarray, weight: float, kernels: Kernels | None = None
    ) -> UpdatedFactor:
        """Return the factor with these rows added, of this weight together.

        `kernels` may have a compiled `update_triangle`, as `native` has.
        """
        update = getattr(kernels, "update_triangle", with_reflected)
        upper, right = update(self.upper, self.right, C, Y)
        squares = self.squares + np.einsum("ij,ij->j", C, C)
        return replace(self, upper=upper, right=right, squares=squares, weight=self.weight + weight)

    @property
    def is_current(self) -> bool:
        """Whether few fixed-point steps account for the penalty that is not in R."""
        return self.l2 == 0.0 or self.weight <= (1.0 + MOST_UNPENALISED) * self.penalised

    def examined(self) -> UpdatedFactor | None:
        """Return the factor if its condition allows a solution, else None.

        More rows never reduce the least singular value of R. So the condition of the scaled columns
        grows by no more than their norms do, and is only estimated again where one has doubled.
        """
        if self.trusted is not None and (self.squares <= 4.0 * self.trusted).all():
            return self
        size = np.sqrt(self.squares)
        if not (np.isfinite(size).all() and size.all()):
            return None
        if not 0.5 * WORST_CONDITION * reciprocal_condition(self.upper / size) >= 1.0:
            return None
        return replace(self, trusted=self.squares)

    def solution(self, kernels: Kernels | None = None) -> np.ndarray:
        """Return u of all targets, (t, k); `kernels` may have a compiled `solve_triangle`."""
        rest, size = self.l2 * (self.weight - self.penalised), np.sqrt(self.squares)
        compiled = getattr(kernels, "solve_triangle", None)
        if compiled is None:
            return self._solution(rest, size[:, None])
        steps = rest, self.has_intercept, TOLERANCE, MOST_STEPS
        return compiled(self.upper, self.right, size, *steps)

    def _solution(self, rest: float, size: np.ndarray) -> np.ndarray:
        """Return what compiled kernels do, in LAPACK."""
        R, last = self.upper, 0.0
        first = u = solve_upper(R, self.right)
        for _ in range(MOST_STEPS if rest > 0.0 else 0):
            before, pull = u, rest * u
            if self.has_intercept:
                pull[0] = 0.0
            u = first - solve_upper(R, solve_upper(R, pull, trans="T"))
            moved = float(np.abs(size * (u - before)).max())
            # Steps shrink at least as fast from here on as they did so far.
            following = moved * min(moved / last, 1.0) if last > 0.0 else moved
            if following <= TOLERANCE * float(np.abs(size * u).max()):
                break
            last = moved
        return u.T


def with_reflected(
    upper: np.ndarray, right: np.ndarray, C: np.ndarray, Y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return R (k, k) and Q^T Y (k, t), brought up to date with rows C (m, k) and Y (m, t)."""
    upper, V, T, _ = lapack.dtpqrt(0, min(BLOCK, len(upper)), upper, C)
    right, _, _ = lapack.dtpmqrt(0, V, T, right, Y, trans="T")
    return upper, right
