"""What a fit with learning_rate="auto" leaves for `partial_fit`, which continues from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .metric import ColumnMoments
from .recursive import Triangle, triangle_of_moments
from .training import Objective


@dataclass(frozen=True)
class AutomaticMemory:
    """What a fit knows of its rows."""

    moments: ColumnMoments
    weight_unit: float  # a power of two, by which the weights in the moments were divided
    rows: Triangle | None = None  # where a few rows dominate the moments

    def triangle(self, coef: np.ndarray, intercept: np.ndarray, objective: Objective) -> Triangle:
        """Return the triangle of rows with these moments, of which these weights are the best."""
        if self.rows is not None:
            return self.rows
        return triangle_of_moments(self.moments, coef, intercept, objective)
