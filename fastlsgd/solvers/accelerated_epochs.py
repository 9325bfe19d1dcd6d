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

from .scaled_descent import ScaledDescent, remaining_fall
from .scaled_problem import ScaledProblem

POWER_STEPS = 4  # products with the curvature before the first step
CURVATURE_SAFETY = 1.05  # a factor on the largest curvature that they show
# Momentum takes some root of the largest curvature of epochs to move a column that is correlated
# with no other. Only after so many times that do falls tell how much J can still fall: rows with a
# few large common factors ended after 8 epochs, 0.05 of y's variance above the minimum.
MOMENTUM_EPOCHS = 3.0


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
        self.least, self.falls = np.inf, list[float]()  # of J, and how it fell
        self.dual = np.full(len(coef), -np.inf)  # the largest dual objective of each target so far

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
        self.dual = np.maximum(self.dual, self._dual_objective(ahead, objective, gradient))
        self.gap = max(self.value - float(self.dual.sum()), 0.0)
        self.falls.append(max(self.least - self.value, 0.0))
        self.least = min(self.least, self.value)
        if len(self.falls) > MOMENTUM_EPOCHS * np.sqrt(self.curvature):
            self.gap = min(self.gap, remaining_fall(self.falls[1:]))
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

    def _dual_objective(
        self, at: np.ndarray, objective: np.ndarray, gradient: np.ndarray
    ) -> np.ndarray:
        """Return a lower bound (t,) of J's minimum: its dual at a multiple of the residuals.

        The multiple has to bring the gradient of each column within the L1 penalty. An L2 penalty
        counts as further rows of X, which `objective` and `gradient` contain.
        """
        varies = self.problem.squared_scale > 0.0
        steepest = np.abs(gradient).max(axis=1, initial=0.0, where=varies)
        most = np.divide(
            self.problem.objective.l1, steepest, out=np.full_like(steepest, np.inf),
            where=steepest > 0.0,
        )  # fmt: skip
        along = 2.0 * objective - np.einsum("td,td->t", at, gradient)
        best = np.divide(along, 2.0 * objective, out=np.zeros_like(along), where=objective > 0.0)
        share = np.clip(best, -most, most)
        return share * along - share * share * objective

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
