"""Factors R with R^T R near A^T A + alpha I: the metric in which a direct solver descends.

Columns are first scaled to norm 1, so that their units do not make the problem ill-conditioned (van
der Sluis 1969, Numer. Math. 14). In the coordinates v = R w the condition number is as close to 1
as R^T R is to A^T A + alpha I. R need not be accurate itself, since the residuals are.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import blas, lapack, solve_triangular

from .interrupt import LONG_WORK, interruptible
from .serial_blas import blas_for_decomposition

TINY = np.finfo(np.float64).tiny
EPS = np.finfo(np.float64).eps
# From this number of columns on, eigenvectors take so long that Ctrl-C must not wait for them, and
LONG = 700
# from this one on Cholesky factors: 0.07 s in float32 and 0.13 s in float64, for which NumPy's
# routine, the only one that releases the GIL, takes 0.21 and 0.20.
LONG_CHOLESKY = 2500
# The triangular solves of at most this many numbers are made by BLAS.
SMALL_RIGHT_SIDE = 10_000
# Up to this condition a float64 Gram matrix is a good metric: eps times its square is small.
GRAM_CONDITION = 3e6
# The inverse of a Gram matrix has errors of eps times the squared condition: 8 digits up to here.
INVERSE_CONDITION = 3e3


class NotTrustworthy(ArithmeticError):
    """Raised for a factor, or an answer, that rounding has spoilt or may have spoilt."""


class TriangularFactor:
    """An upper triangular R of columns that were multiplied by `scale`.

    Parameters
    ----------
    upper : ndarray of shape (d, d)
        R of the scaled columns.
    scale : ndarray of shape (d,)
        0 for a column that is left out, whose weight stays 0.
    condition : float, optional
        Where it is known.

    Attributes
    ----------
    condition : float
        Condition of the scaled columns, as LAPACK estimates it from R in the 1-norm.
    """

    def __init__(
        self, upper: np.ndarray, scale: np.ndarray, condition: float | None = None
    ) -> None:
        self.upper, self.scale = upper, scale
        if condition is None:
            reciprocal = reciprocal_condition(upper)
            if not reciprocal > 0.0:
                raise NotTrustworthy("R is singular")
            condition = 1.0 / reciprocal
        self.condition = condition

    def whiten(self, gradient: np.ndarray) -> np.ndarray:
        """Return R^-T g for each row g."""
        scaled = (gradient * self.scale).T
        return solve_upper(self.upper, scaled, trans="T").T

    def unwhiten(self, v: np.ndarray) -> np.ndarray:
        """Return R^-1 v for each row v."""
        return solve_upper(self.upper, v.T).T * self.scale

    def colour(self, v: np.ndarray) -> np.ndarray:
        """Return the g of which each row v is R^-T g; 0 for columns that are left out."""
        return _without_scale(v @ self.upper, self.scale)


def reciprocal_condition(upper: np.ndarray) -> float:
    """Return the reciprocal of the 1-norm condition of a triangular R; 0 if R is singular.

    LAPACK's own estimate is used where SciPy has it (1.15 and later), else the same algorithm in
    Python (Higham 1988, ACM Trans. Math. Softw. 14(4)).
    """
    if hasattr(lapack, "dtrcon"):
        reciprocal, info = lapack.dtrcon(upper)
        return float(reciprocal) if info == 0 else 0.0
    if not np.all(np.diag(upper)):
        return 0.0
    with np.errstate(all="ignore"):
        product = float(np.abs(upper).sum(axis=0).max()) * _inverse_norm(upper)
    return 1.0 / product if np.isfinite(product) and product > 0.0 else 0.0


def _inverse_norm(upper: np.ndarray) -> float:
    """Return a lower bound of the 1-norm of R^-1 that is seldom far off."""
    d = len(upper)
    x, estimate = np.full(d, 1.0 / d), 0.0
    for _ in range(5):
        y = solve_triangular(upper, x, check_finite=False)
        z = solve_triangular(upper, np.copysign(1.0, y), trans="T", check_finite=False)
        estimate = max(estimate, float(np.abs(y).sum()))
        j = int(np.argmax(np.abs(z)))
        if not np.abs(z[j]) > z @ x:
            break
        x = np.zeros(d)
        x[j] = 1.0
    alternating = (1.0 + np.arange(d) / max(d - 1, 1)) * (-1.0) ** np.arange(d)
    y = solve_triangular(upper, alternating, check_finite=False)
    return max(estimate, 2.0 * float(np.abs(y).sum()) / (3.0 * d))


class SingularFactor:
    """R of linearly dependent columns that were multiplied by `scale`, which has no inverse.

    Parameters
    ----------
    upper : ndarray of shape (k, d)
    scale : ndarray of shape (d,)
        0 for a column that is left out.
    """

    def __init__(self, upper: np.ndarray, scale: np.ndarray) -> None:
        self.upper, self.scale = upper, scale


class DiagonalFactor:
    """Scales each column by its own norm, where a full factor would cost too much."""

    condition = np.nan

    def __init__(self, scale: np.ndarray) -> None:
        self.scale = scale

    def whiten(self, gradient: np.ndarray) -> np.ndarray:
        return gradient * self.scale

    def unwhiten(self, v: np.ndarray) -> np.ndarray:
        return v * self.scale

    def colour(self, v: np.ndarray) -> np.ndarray:
        return _without_scale(v, self.scale)


def _without_scale(scaled: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.divide(scaled, scale, out=np.zeros_like(scaled), where=scale > 0.0)


def cholesky_factor(
    xx: np.ndarray, alpha: float | np.ndarray, scale: np.ndarray
) -> TriangularFactor:
    """Return the factor of D (A^T A + alpha I) D, where D is the scale; alpha may be (d,).

    Its rounding error is eps times the *square* of the condition of A; `condition` tells when that
    is too much.

    Raises
    ------
    NotTrustworthy
        If the matrix is not positive definite to rounding.
    """
    own = scale.astype(xx.dtype)
    scaled = xx * own
    scaled *= own[:, None]
    # A column that is left out gets a row and a column of the identity.
    scaled.flat[:: len(scale) + 1] += np.where(scale > 0.0, alpha * scale**2, 1.0)
    upper = upper_of(scaled)
    if upper is None:
        raise NotTrustworthy("the Gram matrix is not positive definite")
    return TriangularFactor(upper.astype(np.float64, copy=False), scale)


def upper_of(A: np.ndarray) -> np.ndarray | None:
    """Return R with R^T R = A, which is overwritten; None if A is not positive definite.

    The lower triangle of A is read, and is best C-contiguous.
    """
    if len(A) <= LONG_CHOLESKY:
        potrf = lapack.spotrf if A.dtype == np.float32 else lapack.dpotrf
        upper, info = potrf(A.T, lower=0, clean=1, overwrite_a=1)
        return upper if info == 0 else None
    try:  # NumPy's routine releases the GIL
        with blas_for_decomposition(A):
            return interruptible(np.linalg.cholesky, A).T
    except np.linalg.LinAlgError:
        return None


def solve_upper(R: np.ndarray, B: np.ndarray, trans: str = "N") -> np.ndarray:
    """Return R^-1 B or R^-T B, in parts that are short enough for Ctrl-C to be handled between."""
    if len(R) == 0:  # which SciPy 1.11 refuses
        return np.zeros(B.shape)
    step = max(1, int(LONG_WORK) // len(R) ** 2)
    if B.ndim == 2 and 0 < B.size <= SMALL_RIGHT_SIDE and R.diagonal().all():
        # solve_triangular calls LAPACK's dtrtrs, in which OpenBLAS divides even 5 right-hand sides
        # of 3 numbers among threads: 50 ms beside a busy process, where dtrsm takes 1 microsecond.
        if B.shape[1] == 1:  # in a third of the time
            return blas.dtrsv(R, B[:, 0], trans=trans == "T")[:, None]
        return blas.dtrsm(1.0, R, B, trans_a=trans == "T")
    if B.ndim == 1 or B.shape[1] <= step:
        return solve_triangular(R, B, trans=trans, check_finite=False)
    out = np.empty(B.shape, order="F")
    for start in range(0, B.shape[1], step):
        part = slice(start, start + step)
        out[:, part] = solve_triangular(R, B[:, part], trans=trans, check_finite=False)
    return out


def column_scale(squares: np.ndarray, noise: np.ndarray | float = 0.0) -> np.ndarray:
    """Return the reciprocals of columns' norms; 0 where the square is at most `noise`, or tiny."""
    counts = squares > np.maximum(noise, TINY)
    return np.where(counts, 1.0 / np.sqrt(np.where(counts, squares, 1.0)), 0.0)
