"""Columns that depend on each other, from their Gram matrix: the row space of A and its complement.

The eigenvectors of D A^T A D, for columns scaled to norm 1, show directions in which A may vanish.
Sums of squares cannot tell one of 1e-8 from none, so each is corrected and confirmed by products
with the rows themselves. The weights are then sought among combinations of A's rows alone, which
makes them those of least norm in the columns' own units, as QR finds them from singular values.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .eigen import eigh
from .factors import EPS, INVERSE_CONDITION, NotTrustworthy, SingularFactor
from .orthogonal import rank_tolerance
from .system import System

# Eigenvalues of at most this share of the largest may be the rounding of the sums. Between that and
# those of `INVERSE_CONDITION`, whose directions are kept, there must be none.
ROUNDED_SHARE = 1e-13
# QR calls a direction dependent below `rank_tolerance`; here it must be so many times less.
MARGIN = 2.0
# In columns whose norms differ by more, what is of least norm is left to singular values.
MOST_UNITS = 1e7


class RowSpaceFactor:
    """Coordinates v of the combinations of A's rows, w = B v, in which A has condition 1.

    Parameters
    ----------
    basis : ndarray of shape (d, r)
        B, for which B^T A^T A B is I to rounding.
    scale : ndarray of shape (d,)
        The reciprocals of the columns' norms; 0 for a column that is left out.
    condition : float
        Condition of the scaled columns, the dependent directions left out.
    """

    def __init__(self, basis: np.ndarray, scale: np.ndarray, condition: float) -> None:
        self.basis, self.scale, self.condition = basis, scale, condition

    def whiten(self, gradient: np.ndarray) -> np.ndarray:
        """Return B^T g for each row g."""
        return gradient @ self.basis

    def unwhiten(self, v: np.ndarray) -> np.ndarray:
        """Return B v for each row v."""
        return v @ self.basis.T


class RowSpace(NamedTuple):
    """The metric of a descent in the row space, and what standard errors need."""

    factor: RowSpaceFactor
    singular: SingularFactor
    rank: int


def row_space(system: System, xx: np.ndarray, scale: np.ndarray) -> RowSpace:
    """Return the row space of A where columns depend on each other beyond doubt.

    Parameters
    ----------
    system : System
        Without a penalty.
    xx : ndarray of shape (d, d)
        A^T A in float64.
    scale : ndarray of shape (d,)
        The reciprocals of the columns' norms; 0 for a column that is left out.

    Raises
    ------
    NotTrustworthy
        If no direction is dependent, or one might be.
    """
    live = np.flatnonzero(scale)
    own = scale[live]
    if len(live) == 0 or own.max() > MOST_UNITS * own.min():
        raise NotTrustworthy("the columns' units differ too much")
    values, V = eigh(xx[np.ix_(live, live)] * own * own[:, None])
    kept = values * INVERSE_CONDITION**2 > values[-1]
    r = int(kept.sum())
    rounding = max(ROUNDED_SHARE, EPS * len(live)) * values[-1]
    if r == len(live) or np.abs(values[~kept]).max() > rounding:
        raise NotTrustworthy("no direction is clearly dependent")
    scaled = np.zeros((len(scale), len(live)))
    scaled[live] = V
    roots = np.sqrt(values[kept])
    null = _confirmed(system, scale, scaled[:, ~kept], scaled[:, kept] / roots)
    rows = _without(scaled[:, kept], np.linalg.qr(null)[0])
    N = np.linalg.qr((null * scale[:, None])[live])[0]
    basis = np.zeros_like(rows)
    basis[live] = _without((rows * scale[:, None])[live] / roots, N)
    condition = float(roots[-1] / roots[0])
    singular = SingularFactor(np.ascontiguousarray((rows * roots).T), scale)
    return RowSpace(RowSpaceFactor(basis, scale, condition), singular, r)


def _confirmed(
    system: System, scale: np.ndarray, null: np.ndarray, inverse: np.ndarray
) -> np.ndarray:
    """Return directions (d, k) in which A D vanishes to rounding, by the rows themselves.

    `inverse` is a T for which T T^T is the pseudo-inverse of D A^T A D. The rounding of the sums
    leaves eps times the condition of A D in `null`, which one correction takes away.

    Raises
    ------
    NotTrustworthy
        If A D does not vanish there.
    """
    least = np.inf
    for _ in range(2):
        back = (system.apply(null.T * scale, is_exact=True) * scale).T
        least = float(np.einsum("ij,ij->", null, back))
        if MARGIN**2 * least <= rank_tolerance(system.d) ** 2:
            return null
        null = null - inverse @ (inverse.T @ back)
    raise NotTrustworthy("a direction that only seems to be dependent")


def _without(vectors: np.ndarray, orthonormal: np.ndarray) -> np.ndarray:
    """Return the vectors less their parts in an orthonormal basis, to rounding."""
    for _ in range(2):
        vectors = vectors - orthonormal @ (orthonormal.T @ vectors)
    return vectors
