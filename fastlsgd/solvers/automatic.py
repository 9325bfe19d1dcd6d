"""What a fit with learning_rate="auto" leaves for `partial_fit`, which continues from it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .graded_stream import GradedMemory
from .metric import ColumnMoments
from .recursive import Triangle, triangle_of_moments
from .training import Objective


@dataclass(frozen=True)
class AutomaticMemory:
    """What a fit knows of its rows. Its weights minimise J of its own objective.

    A stream that goes on from it may have another objective: `partial_fit` after `set_params`.
    """

    moments: ColumnMoments
    weight_unit: float  # a power of two, by which the weights in the moments were divided
    objective: Objective
    rows: Triangle | GradedMemory | None = None  # where a few rows dominate the moments
    correlated: np.ndarray | None = None  # `correlated_rows`, where the moments are variances

    def of_target(self, t: int) -> AutomaticMemory:
        """Return what there is to know of target t."""
        rows = None if self.rows is None else self.rows.of_target(t)
        return replace(self, moments=self.moments.of_target(t), rows=rows)

    def triangle(self, coef: np.ndarray, intercept: np.ndarray) -> Triangle | GradedMemory:
        """Return the triangle of rows with these moments, of which these weights are the best."""
        if self.rows is not None:
            return self.rows
        y_mean, slope = self.y_mean(coef, intercept), self.slope(coef, intercept)
        return triangle_of_moments(self.moments, coef, y_mean, slope)

    def y_mean(self, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """Return the mean (t,) of y: where an intercept is fitted, that for which it is best."""
        moments = self.moments
        if self.objective.fit_intercept:
            return intercept + coef @ moments.x_mean()
        sums = moments.y if moments.y_of_x is None else moments.y_of_x
        return moments.y_origin + sums / moments.weight

    def slope(self, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """Return the covariance (t, d) of x and the residuals of y, which balances the penalty.

        Without an intercept, the penalty also balances the product of the means.
        """
        objective, mean = self.objective, self.moments.x_mean()
        slope = objective.l2 * coef
        if objective.l1 > 0.0:
            rest = np.clip(self._slope_at_zeros(coef, intercept), -objective.l1, objective.l1)
            slope = slope + np.where(coef == 0.0, rest, objective.l1 * np.sign(coef))
        return slope + np.outer(intercept + coef @ mean - self.y_mean(coef, intercept), mean)

    def _slope_at_zeros(self, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """Return minus the gradient (t, d) of the loss, as the moments show it; zeros if none do.

        Under L1 the condition of the minimum only bounds it where weights are zero.
        """
        moments, centred = self.moments, self.objective.fit_intercept
        slope = moments.slope(centred)
        if slope is None:
            return np.zeros_like(coef)
        slope = slope.T - coef @ moments.curvature(centred)
        return slope if centred else slope - np.outer(intercept, moments.x_mean())
