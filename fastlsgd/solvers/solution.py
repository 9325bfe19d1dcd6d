"""The result of a least-squares solver."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .factors import SingularFactor, TriangularFactor


@dataclass
class Solution:
    """The weights, how they were found, and how good they are."""

    coef: np.ndarray  # (t, d), float64
    intercept: np.ndarray  # (t,)
    solver: str
    n_iter: int  # passes over X after the set-up
    condition: float  # estimated, of the scaled columns, penalty included; NaN where not known
    residual_norm: np.ndarray  # (t,)  sqrt(sum s r^2)
    losses: list[float]  # the objective, as a sum over rows, before each iteration
    relative_gradient: float  # distance from optimality, relative to zero weights
    converged: bool
    factor: TriangularFactor | None = None  # R, accurate to rounding, if there is one
    centre: np.ndarray | None = None  # (d,)  the origin of the rows; None is zero
    rank: int | None = None  # None where the solver does not find it
    singular: SingularFactor | None = None  # replaces the factor where columns are dependent
    why_not: str = ""  # the reason for not having converged, and what helps
    dual_gap: float | None = None  # with L1: of the objective as a mean over rows

    def intercept_with(self, coef: np.ndarray) -> np.ndarray:
        """Return the intercept that fits these weights, which are `coef` rounded."""
        if self.centre is None:
            return self.intercept
        return self.intercept + (self.coef - coef) @ self.centre
