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
    value : float
        J at the weights of the last epoch's loss, summed over targets.
    gap : float
        How much J, summed over targets, can still fall at most; infinite while unknown.
    """

    shuffles = False

    def __init__(self, problem: ScaledProblem, coef: np.ndarray) -> None:
        self.problem, self.loss_scale = problem, problem.loss_scale
        self.value = self.gap = np.inf
        # Constant columns have no curvature.
        self.coef = np.where(problem.squared_scale > 0.0, coef, 0.0).astype(np.float64)

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Float64, of X as it was given."""
        return self.coef, self.problem.intercept(self.coef)

    @property
    def memory(self) -> AutomaticMemory:
        problem = self.problem
        return AutomaticMemory(
            problem.remembered_moments(),
            problem.weight_unit,
            problem.objective,
            correlated=problem.correlated_rows(),
        )

    def lower_rate(self) -> bool:
        """Return False: there is no rate to lower."""
        return False

    def loss_at(self, coef: np.ndarray, objective: np.ndarray) -> float:
        """Return the unweighted mean loss, summed over targets, where J without L1 is this."""
        l1, l2 = self.problem.objective.l1, self.problem.objective.l2
        penalty = 0.5 * l2 * float(np.einsum("td,td->", coef, coef))
        weighted = max(float(objective.sum()) - penalty, 0.0)
        self.value = weighted + penalty + (l1 * float(np.abs(coef).sum()) if l1 > 0.0 else 0.0)
        return self.problem.unweighted_loss(coef, weighted)
