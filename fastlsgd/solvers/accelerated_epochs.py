"""learning_rate="auto" with L1 for wide and for sparse rows: one proximal step per epoch.

The method is that of accelerated proximal gradients (Beck and Teboulle 2009, SIAM J. Imaging Sci.
2(1)) with restarts by the gradient (O'Donoghue and Candes 2015, Found. Comput. Math. 15), in scaled
columns, where L1 stays separable and zeros are exact. The length of a step is one over the largest
curvature, which is estimated by a few products with a random direction, and then by the steps
themselves. Rows are read where they are in memory, in their order. Cost of an epoch: one pass over
the stored numbers, and some 15 over the weights.
"""

from __future__ import annotations

import numpy as np

from .scaled_descent import ScaledDescent
from .scaled_problem import ScaledProblem

POWER_STEPS = 4  # products with the curvature before the first step
CURVATURE_SAFETY = 1.05  # a factor on the largest curvature that they show


class AcceleratedDescent(ScaledDescent):
    """For L1, with L2 or without.

    Attributes
    ----------
    rate : float
        The length of the last step in scaled columns.
    """

    def __init__(self, problem: ScaledProblem, coef: np.ndarray) -> None:
        super().__init__(problem, coef)
        self.ahead = self.coef  # the point of the next gradient
        self.momentum, self.curvature = 1.0, 0.0
        self.last: tuple[np.ndarray, np.ndarray] | None = None  # that point, and its gradient

    @property
    def rate(self) -> float:
        return 1.0 / self.curvature if self.curvature > 0.0 else 0.0

    def epoch(self, order: np.ndarray | None) -> float:
        """Do one step for all targets; returns the mean loss at the gradient's point, summed."""
        problem, ahead = self.problem, self.ahead
        if self.curvature == 0.0:
            self.curvature = CURVATURE_SAFETY * self._largest_curvature()
        objective, gradient = problem.gradient(ahead)
        loss = self.loss_at(ahead, objective)
        if self.last is not None:  # the curvature along the last move costs no product
            move, change = ahead - self.last[0], gradient - self.last[1]
            square = self._product(move, move)
            if square > 0.0:
                self.curvature = max(
                    self.curvature, float(np.einsum("td,td->", move, change)) / square
                )
        self.last = ahead, gradient
        following = self._proximal(ahead, gradient)
        move = following - self.coef
        if self._product(ahead - following, move) > 0.0:  # uphill: the momentum overshoots
            self.momentum = 1.0
        later = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * self.momentum**2))
        move *= (self.momentum - 1.0) / later
        self.ahead, self.coef, self.momentum = following + move, following, later
        return loss

    def _proximal(self, at: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        length = self.problem.squared_scale / self.curvature
        moved = at - length * gradient
        soft = self.problem.objective.l1 * length
        return moved - np.clip(moved, -soft, soft)

    def _product(self, a: np.ndarray, b: np.ndarray) -> float:
        """The inner product of two moves in scaled columns."""
        scale = self.problem.squared_scale
        inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0.0)
        return float(np.einsum("td,td,d->", a, b, inverse))

    def _largest_curvature(self) -> float:
        """The largest curvature of J without L1 in scaled columns, by the power method."""
        problem, scale = self.problem, self.problem.squared_scale
        v = np.random.default_rng(0).normal(size=(1, len(scale))) * np.sqrt(scale)
        largest = 0.0
        for _ in range(POWER_STEPS):
            size = np.sqrt(self._product(v, v))
            if size == 0.0:
                break
            v /= size
            product = problem.product(v)
            largest = max(largest, float(np.einsum("td,td->", v, product)))
            v = scale * product
        return largest if largest > 0.0 else 1.0
