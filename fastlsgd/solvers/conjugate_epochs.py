"""learning_rate="auto" for wide rows and for sparse ones: conjugate gradients, an epoch a step.

On squared error, the best combination of the gradients of k epochs lowers J by more than any k
epochs of steps whose lengths are chosen beforehand, and costs as much: one pass over X each
(Hestenes and Stiefel 1952). The columns are scaled by their own curvature (Jacobi), which takes
out their units and how rare they are. What is left to gain is bounded from above after each epoch,
from the penalty, which is a lower bound of the curvature (the Gauss-Radau rule: Golub and Meurant
2010, chapter 12; in the form of Meurant and Tichy 2013, Numer. Algorithms 62(2)): with it a fit
ends when no epoch could lower J by `tol` any more, in place of some epochs that show it.

Rows are visited in the order in which they lie, whatever `shuffle` and `batch_size`: the sums do
not depend on it. Cost of an epoch: one pass over the stored numbers, and some 15 over the weights.
Measured beside averaged implicit steps in scaled columns, with the same metric (20,000 x 50,000,
55 stored numbers a row, R2 on held-out rows within 0.001 of exact): 6 epochs here, 40 there.
"""

from __future__ import annotations

import numpy as np

from .automatic import AutomaticMemory
from .scaled_problem import ScaledProblem

# Where the recurrence has lowered the squared gradient so far, it is taken from the residuals anew.
REFRESH = 1e-14


class ConjugateDescent:
    """The protocol of `stochastic.Descent`, for L2 or no penalty.

    Parameters
    ----------
    problem : ScaledProblem
    coef : ndarray of shape (t, d)
        Start; left as it is.

    Attributes
    ----------
    loss_scale : float
        Loss of predicting the mean of y: the unit of a tolerance.
    gap : float
        What J, summed over targets, can still fall at most; infinite while nothing is known.
    rate : float
        Length of the last step in scaled columns, of the first target.
    """

    shuffles = False

    def __init__(self, problem: ScaledProblem, coef: np.ndarray) -> None:
        self.problem, self.loss_scale = problem, problem.loss_scale
        self.gap, self.rate = np.inf, 0.0
        # A constant column says nothing.
        self.coef = np.where(problem.squared_scale > 0.0, coef, 0.0).astype(np.float64)
        t = len(coef)
        self.objective, self.gradient = np.zeros(t), np.zeros_like(self.coef)
        self.direction = np.zeros_like(self.coef)
        self.rho, self.first_rho = np.zeros(t), np.zeros(t)
        self.radau = _Radau(problem.least_curvature, t)
        self.begun = False

    def epoch(self, order: np.ndarray | None) -> float:
        """One step for all targets; the mean loss before it, summed over them."""
        if not self.begun or (self.rho <= REFRESH * self.first_rho).all():
            self._restart()
        problem, coef = self.problem, self.coef
        penalty = 0.5 * problem.objective.l2 * float(np.einsum("td,td->", coef, coef))
        loss = max(float(self.objective.sum()) - penalty, 0.0)
        loss = problem.unweighted_loss(coef, loss)
        if self.rho.any():
            self._step()
        return loss

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Float64, of X as it was given."""
        return self.coef, self.problem.intercept(self.coef)

    @property
    def memory(self) -> AutomaticMemory:
        return AutomaticMemory(self.problem.moments, self.problem.weight_unit)

    def lower_rate(self) -> bool:
        """There is none to lower."""
        return False

    def _restart(self) -> None:
        """From the residuals of the weights as they are, along the scaled gradient."""
        self.begun = True
        self.objective, self.gradient = self.problem.gradient(self.coef)
        scale = self.problem.squared_scale
        for part in self.problem.blocks():
            np.multiply(self.gradient[part], scale, out=self.direction[part])
            self.rho[part] = np.einsum("td,td->t", self.direction[part], self.gradient[part])
        self.first_rho = self.rho.copy()
        self.radau = _Radau(self.problem.least_curvature, len(self.rho))

    def _step(self) -> None:
        p, product = self.direction, self.problem.product(self.direction)
        scale, before = self.problem.squared_scale, self.rho.copy()
        length = np.zeros_like(before)
        for part in self.problem.blocks():
            curvature = np.einsum("td,td->t", p[part], product[part])
            length[part] = _quotient(before[part], curvature)
            a = length[part, None]
            self.coef[part] -= a * p[part]
            gradient = self.gradient[part]
            product[part] *= a
            gradient -= product[part]
            scaled = np.multiply(gradient, scale, out=product[part])
            self.rho[part] = np.einsum("td,td->t", scaled, gradient)
            p[part] *= _quotient(self.rho[part], before[part])[:, None]
            p[part] += scaled
        self.objective -= 0.5 * length * before
        self.rate = float(length[0])
        self.gap = float(self.radau.bound(length, before, self.rho).sum())


class _Radau:
    """Upper bounds of what each target's objective can still fall."""

    def __init__(self, least_curvature: float, t: int) -> None:
        self.least = least_curvature
        self.value = np.full(t, 1.0 / least_curvature if least_curvature > 0.0 else np.inf)

    def bound(self, length: np.ndarray, before: np.ndarray, rho: np.ndarray) -> np.ndarray:
        """After a step of this length, from the squared scaled gradients before and after it."""
        if self.least == 0.0:
            return np.where(rho > 0.0, np.inf, 0.0)
        # Rounding may leave nothing, or less, of what is above the curvature seen.
        beyond = np.maximum(self.value - length, 0.0)
        ratio = _quotient(rho, before)
        below = self.least * beyond + ratio
        value = np.divide(beyond, below, out=np.full_like(rho, 1.0 / self.least), where=below > 0.0)
        self.value = np.where(before > 0.0, value, self.value)
        return 0.5 * self.value * rho


def _quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, and 0 where b is not positive."""
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0.0)
