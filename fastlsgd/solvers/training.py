"""The input of every stochastic descent: the rows to fit, and the objective to minimise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..kernels.contract import Kernels, Matrix


class TrainingData(NamedTuple):
    """The rows to fit, and the kernels that read them, as in the kernel contract."""

    kernels: Kernels
    X: Matrix
    y: np.ndarray  # (n, t)
    sample_weight: np.ndarray | None  # (n,)
    n_threads: int


# The largest L1 term, 1e150, of targets that were tiny before they were brought near 1.
LARGEST_L1 = 2.0**500


def l1_of_scaled(l1: float, y_exponent: int, largest: float) -> float:
    """Return the L1 term for y times 2^-y_exponent, at most `largest`."""
    if y_exponent == 0:
        return l1
    with np.errstate(over="ignore"):
        return float(min(np.ldexp(l1, -y_exponent), largest))


@dataclass(frozen=True)
class Objective:
    """Mean of the squared residuals plus alpha (l1_ratio |w|_1 + (1 - l1_ratio)/2 |w|_2^2).

    The weights are those of y times 2^-y_exponent, for which the L1 term is divided likewise.
    """

    alpha: float
    l1_ratio: float
    fit_intercept: bool
    y_exponent: int = 0

    @property
    def l1(self) -> float:
        return l1_of_scaled(self.alpha * self.l1_ratio, self.y_exponent, LARGEST_L1)

    @property
    def l2(self) -> float:
        return self.alpha * (1.0 - self.l1_ratio)

    def penalty(self, coef: np.ndarray) -> float:
        """Return the penalty at these weights, summed over targets."""
        return float(self.penalties(coef[None])[0])

    def penalties(self, coefs: np.ndarray) -> np.ndarray:
        """Return the penalty at each of several weights (k, t, d), summed over targets."""
        penalties = np.zeros(len(coefs))
        if self.alpha == 0.0:
            return penalties
        w = np.asarray(coefs, dtype=np.float64)
        if self.l1_ratio > 0.0:
            penalties += self.l1 * np.abs(w).sum(axis=(1, 2))
        if self.l1_ratio < 1.0:
            # BLAS is not used: synchronising its threads would take longer than the sum.
            penalties += self.l2 * 0.5 * np.einsum("ktd,ktd->k", w, w)
        return penalties
