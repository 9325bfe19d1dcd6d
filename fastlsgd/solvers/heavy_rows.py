"""A few rows far larger than the others: a term of J of their own, of low rank.

    J(w) = W/S J_1(w) + 1/2 |V w - T|^2,    W, S the total weights of J_1 and of J

In J_1 the weights of heavy rows are capped (`ordinary_rows.py`). What the cap removes, E_i of row
i, comes back in the second term: with the rows K and targets of the heavy rows about the means of
J_1, V = (I - a q q^T) diag(E / S)^(1/2) K, where q_i^2 = E_i / (W + sum E) and
(I - a q q^T)^2 = I - q q^T accounts for the best intercept of all rows. Nothing of the other rows
is lost in sums that heavy rows dominate, and conjugate gradients in the metric D + V^T V take about
as many epochs as those of J_1 in its own metric D.

Cost of an epoch: some six products with V, (m, d) for m heavy rows, per target.
"""

from __future__ import annotations

import numpy as np

from .eigen import svd
from .factors import DiagonalFactor, TriangularFactor

# No more rows than this have a term of their own, nor more numbers than this; others keep their
# weights in J_1.
MOST_HEAVY_ROWS = 128
MOST_NUMBERS = 2**22
# A row counts as no farther from the others than this many spreads: beyond, float64 weights can't
# fit it any better.
FARTHEST = 1e8


def heaviest(share: np.ndarray, sample_weight: np.ndarray | None, d: int) -> np.ndarray:
    """Return the numbers of the rows that get a term of their own: those of the least shares."""
    capped = share < 1.0
    if sample_weight is not None:
        capped &= sample_weight > 0.0
    rows = np.flatnonzero(capped)
    most = max(1, min(MOST_HEAVY_ROWS, MOST_NUMBERS // d))
    return np.sort(rows[np.argsort(share[rows], kind="stable")[:most]])


class HeavyRows:
    """The term of low rank, and its part in the metric.

    Parameters
    ----------
    rows : ndarray of shape (m, d)
        About the mean of the other rows, where an intercept is fitted.
    targets : ndarray of shape (m, t)
        About their mean.
    excess : ndarray of shape (m,)
        The weight of each row that J_1 does not hold.
    own, total : float
        The weights W of J_1 and S of J.
    centred : bool
        Whether an intercept is fitted.
    metric : DiagonalFactor or TriangularFactor
        Of D.
    """

    def __init__(
        self,
        rows: np.ndarray,
        targets: np.ndarray,
        excess: np.ndarray,
        own: float,
        total: float,
        *,
        centred: bool,
        metric: DiagonalFactor | TriangularFactor,
    ) -> None:
        root = np.sqrt(excess / total)[:, None]
        self.V, self.T = root * rows, root * targets
        self.to_intercept = np.zeros(len(rows))
        if centred:
            whole = own + float(excess.sum())
            q, rest = np.sqrt(excess / whole), np.sqrt(own / whole)
            square = 1.0 - own / whole
            a = (1.0 - rest) / square if square > 0.0 else 0.0
            self.V -= np.outer(a * q, q @ self.V)
            self.T -= np.outer(a * q, q @ self.T)
            self.to_intercept = np.sqrt(total / own) * q
        self.take_metric(metric)

    def take_metric(self, metric: DiagonalFactor | TriangularFactor) -> None:
        """Take another D."""
        _, values, basis = svd(metric.whiten(self.V))
        self.least = 1.0 / (1.0 + values**2)
        self.outwards, self.inwards = metric.unwhiten(basis), metric.colour(basis)

    def residual(self, coef: np.ndarray) -> np.ndarray:
        """Return V w - T of each target, (t, m)."""
        return self.product(coef) - self.T.T

    def product(self, coef: np.ndarray) -> np.ndarray:
        """Return V w of each target, (t, m)."""
        return np.einsum("td,md->tm", coef, self.V)

    def gradient(self, residual: np.ndarray) -> np.ndarray:
        """Return V^T r of each target, (t, d)."""
        return np.einsum("tm,md->td", residual, self.V)

    def intercept(self, coef: np.ndarray) -> np.ndarray:
        """Return how much the best intercept is above that of J_1, (t,)."""
        return -self.residual(coef) @ self.to_intercept

    def precondition(self, scaled: np.ndarray) -> None:
        """Turn D^-1 g (t, d) into (D + V^T V)^-1 g, in place."""
        along = np.zeros((len(scaled), len(self.least)))
        for _ in range(2):  # the first leaves rounding errors of g, along rows of 1e8
            part = np.einsum("td,md->tm", scaled, self.inwards)
            scaled -= np.einsum("tm,md->td", part, self.outwards)
            along += part
        scaled += np.einsum("tm,md->td", along * self.least, self.outwards)
