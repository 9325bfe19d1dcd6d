"""What the two descents for wide and for sparse rows share, which leave X as it lies."""

from __future__ import annotations

import numpy as np

from .automatic import AutomaticMemory
from .scaled_problem import ScaledProblem


class ScaledDescent:
    """The protocol of `stochastic.Descent` but for `epoch`, which the methods add.

    Parameters
    ----------
    problem : ScaledProblem
    coef : ndarray of shape (t, d)
        The start; it is not changed.

    Attributes
    ----------
    loss_scale : float
        The loss of predicting the mean of y: the unit of a tolerance.
    weighted_loss : float
        The loss of the last epoch, with the sample weights.
    gap : float
        How much J, summed over targets, can still fall at most; infinite while unknown.
    """

    shuffles = False

    def __init__(self, problem: ScaledProblem, coef: np.ndarray) -> None:
        self.problem, self.loss_scale = problem, problem.loss_scale
        self.weighted_loss = self.gap = np.inf
        # Constant columns have no curvature.
        self.coef = np.where(problem.squared_scale > 0.0, coef, 0.0).astype(np.float64)

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Float64, of X as it was given."""
        return self.coef, self.problem.intercept(self.coef)

    @property
    def memory(self) -> AutomaticMemory:
        return AutomaticMemory(self.problem.remembered_moments(), self.problem.weight_unit)

    def lower_rate(self) -> bool:
        """Return False: there is no rate to lower."""
        return False

    def loss_at(self, coef: np.ndarray, objective: np.ndarray) -> float:
        """Return the unweighted mean loss, summed over targets, where J without L1 is this."""
        penalty = 0.5 * self.problem.objective.l2 * float(np.einsum("td,td->", coef, coef))
        self.weighted_loss = max(float(objective.sum()) - penalty, 0.0)
        return self.problem.unweighted_loss(coef, self.weighted_loss)
