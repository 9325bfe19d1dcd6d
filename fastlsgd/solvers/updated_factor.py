"""The triangular factor of all rows of a stream and of their penalty, kept up to date.

    min over u of  |C u - Y|^2 + p |w|^2,     C the rows [1, x] (or x), p = l2 S,  u = (b, w) (or w)

R and Q^T Y of the rows [C; sqrt(p) D], where D leaves the intercept out, are updated by Householder
reflections that know that R is triangular (Golub and Van Loan 2013, section 6.5): 2 d^2
multiply-adds per row, however few come at a time. The native backend has them, which take 50
microseconds for 20 rows of 200 columns; elsewhere LAPACK's dtpqrt is used, which takes 150. The
penalty grows with the total weight S of the rows. So only the penalty p_0 of an earlier S is in R,
and the rest is left to fixed-point steps, each of which reduces the error by (p - p_0) / p or more.
Whenever that exceeds a third, the rest is added to R, at d^3 / 3 (`with_penalty`), or R is made
anew of fewer rows than that, which happens a logarithmic number of times.

Where the rows alone curve the objective far more than the penalty does, R holds none of it
(`without_penalty`), and each step reduces the error by p |D R^-1|^2. Such an R is that of the rows,
so that a stream which keeps that one too need not update both.

`recursive.py` uses this factor where its condition allows it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import blas, lapack

from ..kernels.contract import Kernels
from ..kernels.optional import has_triangle_kernels
from .factors import EPS, reciprocal_condition, solve_upper

BLOCK = 16  # columns of a block reflection: of 8, 16 and 32 the quickest for most shapes
PENALTY_ROWS = 48  # of a diagonal matrix, which are added to R at a time
# The weight may grow by this share before the penalty in R is brought up to date.
MOST_UNPENALISED = 0.5
# By how much a fixed-point step may fall short of removing the error, by an estimate that is rarely
# a third of the truth.
MOST_PULL = 0.1
PULL_STEPS = 8  # of the power method, in that estimate
# Beyond this condition of the scaled columns, rounding may decide which columns are dependent.
WORST_CONDITION = 1e8
MOST_STEPS = 40
TOLERANCE = 4.0 * EPS  # of the steps, relative to the weights


class UpdatedFactor(NamedTuple):
    """R, in which k = d columns of x follow one of ones where an intercept is fitted.

    The arrays are never written to.
    """

    joint: np.ndarray  # (k, k + t): [R, Q^T Y]
    squares: np.ndarray  # (k,): squared norms of the columns of R
    l2: float
    weight: float  # of the rows
    penalised: float  # the weight whose penalty is in R
    has_intercept: bool
    trusted: np.ndarray | None = None  # the squares with which the condition was last estimated
    # |D R^-1|^2, estimated when R had fewer rows, if no penalty is in R: more rows never raise it.
    inverse: float | None = None

    @classmethod
    def of_rows(
        cls, A: np.ndarray, l2: float, weight: float, k: int, *, has_intercept: bool,
        kernels: Kernels | None = None,
    ) -> UpdatedFactor:  # fmt: skip
        """Return the factor of rows [C, Y], which were multiplied by the roots of their weights.

        C has k columns.
        """
        squares = np.full(k, l2 * weight)
        if has_intercept:
            squares[0] = 0.0
        joint = np.zeros((k, A.shape[1]))
        joint[:, :k].flat[:: k + 1] = np.sqrt(squares)
        factor = cls(joint, squares, l2, weight, weight, has_intercept)
        return factor.with_rows(A, 0.0, kernels)

    @classmethod
    def without_penalty(
        cls, joint: np.ndarray, l2: float, weight: float, *, has_intercept: bool
    ) -> UpdatedFactor | None:
        """Return [R, Q^T Y] of the rows alone as a factor, if few steps make up for the penalty."""
        R = joint[:, : len(joint)]
        inverse = _inverse_square(R, has_intercept) if l2 > 0.0 else 0.0
        if not l2 * weight * inverse <= MOST_PULL:
            return None
        squares = np.einsum("ij,ij->j", R, R)
        return cls(joint, squares, l2, weight, 0.0, has_intercept, inverse=inverse)

    @property
    def upper(self) -> np.ndarray:
        return self.joint[:, : len(self.joint)]

    @property
    def right(self) -> np.ndarray:
        return self.joint[:, len(self.joint) :]

    @property
    def is_of_rows(self) -> bool:
        """Whether R is that of the rows alone."""
        return self.inverse is not None

    def with_rows(
        self, A: np.ndarray, weight: float, kernels: Kernels | None = None
    ) -> UpdatedFactor:
        """Return the factor with these rows [C, Y] added, of this weight together.

        `kernels` may have a compiled `update_triangle`, as `native` has.
        """
        C = A[:, : len(self.joint)]
        return UpdatedFactor(
            updated(self.joint, A, kernels),
            self.squares + np.einsum("ij,ij->j", C, C),
            self.l2,
            self.weight + weight,
            self.penalised,
            self.has_intercept,
            self.trusted,
            self.inverse,
        )

    def with_penalty(self, kernels: Kernels | None = None) -> UpdatedFactor:
        """Return the factor with all of the penalty in R, at k^3 / 3.

        What is missing is a diagonal matrix, of which each block of rows is zero up to its own
        columns. The least singular value grows, so that what is trusted stays so.
        """
        joint, k = self.joint.copy(), len(self.joint)
        missing = np.full(k, self.l2 * (self.weight - self.penalised))
        if self.has_intercept:
            missing[0] = 0.0
        rows = np.zeros_like(joint)
        rows.flat[:: joint.shape[1] + 1] = np.sqrt(missing)
        for start in range(0, k, PENALTY_ROWS):
            block = rows[start : start + PENALTY_ROWS, start:]
            joint[start:, start:] = updated(joint[start:, start:], block, kernels)
        return self._replace(
            joint=joint, squares=self.squares + missing, penalised=self.weight, inverse=None
        )

    @property
    def is_current(self) -> bool:
        """Whether few fixed-point steps account for the penalty that is not in R."""
        if self.inverse is not None:
            return self.l2 * self.weight * self.inverse <= MOST_PULL
        if self.l2 == 0.0 and not self.has_intercept:
            return True
        # With an intercept and no penalty, R may since have come to suffice by itself.
        return self.weight <= (1.0 + MOST_UNPENALISED) * self.penalised

    @property
    def is_trusted(self) -> bool:
        """Whether no column has doubled in size since the condition was last estimated."""
        return self.trusted is not None and bool((self.squares <= 4.0 * self.trusted).all())

    def examined(self) -> UpdatedFactor | None:
        """Return the factor if its condition allows a solution, else None.

        More rows never reduce the least singular value of R. So the condition of the scaled columns
        grows by no more than their norms do, and is only estimated again where one has doubled.
        """
        if self.is_trusted:
            return self
        size = np.sqrt(self.squares)
        if not (np.isfinite(size).all() and size.all()):
            return None
        if not 0.5 * WORST_CONDITION * reciprocal_condition(self.upper / size) >= 1.0:
            return None
        return self._replace(trusted=self.squares)

    def solution(self, kernels: Kernels | None = None) -> np.ndarray:
        """Return u of all targets, (t, k); `kernels` may have a compiled `solve_triangle`."""
        rest, size = self.l2 * (self.weight - self.penalised), np.sqrt(self.squares)
        if not has_triangle_kernels(kernels):
            return self._solution(rest, size[:, None])
        steps = rest, self.has_intercept, TOLERANCE, MOST_STEPS
        return kernels.solve_triangle(self.joint, size, *steps)

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


def updated(joint: np.ndarray, A: np.ndarray, kernels: Kernels | None = None) -> np.ndarray:
    """Return [R, Q^T Y] (k, k + t), brought up to date with rows [C, Y] (m, k + t)."""
    if has_triangle_kernels(kernels):
        return kernels.update_triangle(joint, A)
    k = len(joint)
    upper, V, T, _ = lapack.dtpqrt(0, min(BLOCK, k), joint[:, :k], A[:, :k])
    right, _, _ = lapack.dtpmqrt(0, V, T, joint[:, k:], A[:, k:], trans="T")
    return np.hstack([upper, right])


def _inverse_square(R: np.ndarray, has_intercept: bool) -> float:
    """Return |D R^-1|^2, which the power method estimates from below; infinity for a singular R."""
    if not (np.isfinite(R).all() and R.diagonal().all()):
        return np.inf
    R = np.asfortranarray(R)  # as BLAS takes it without a copy
    z = np.random.default_rng(0).standard_normal(len(R))
    z[0] *= not has_intercept
    size = float(np.linalg.norm(z))
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(PULL_STEPS):
            z = blas.dtrsv(R, blas.dtrsv(R, z / size, trans=1))
            z[0] *= not has_intercept
            size = float(np.linalg.norm(z))
    return size if size < np.inf else np.inf
