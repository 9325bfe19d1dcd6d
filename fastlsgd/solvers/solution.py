"""What every least-squares solver returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .factors import SingularFactor, TriangularFactor


@dataclass
class Solution:
    """Weights, how they were found, and how good they are."""

    coef: np.ndarray  # (t, d), float64
    intercept: np.ndarray  # (t,)
    solver: str
    n_iter: int  # passes over X after the set-up
    condition: float  # of the scaled columns, penalty included; an estimate, NaN: not known
    residual_norm: np.ndarray  # (t,)  sqrt(sum s r^2)
    losses: list[float]  # the objective, as a sum over rows, before each iteration
    relative_gradient: float  # what optimality lacks, relative to zero weights
    converged: bool
    factor: TriangularFactor | None = None  # R, accurate to rounding, where there is one
    centre: np.ndarray | None = None  # (d,)  where the rows are counted from; None: from 0
    rank: int | None = None  # where the solver finds it
    singular: SingularFactor | None = None  # in place of a factor, where columns are dependent
    why_not: str = ""  # where it has not converged: the reason, and what helps
    dual_gap: float | None = None  # of the objective as a mean over rows, with an L1 penalty

    def intercept_with(self, coef: np.ndarray) -> np.ndarray:
        """The intercept that goes with these weights after rounding, for columns off centre."""
        if self.centre is None:
            return self.intercept
        return self.intercept + (self.coef - coef) @ self.centre
