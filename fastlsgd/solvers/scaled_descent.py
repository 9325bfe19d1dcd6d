"""What the two descents for wide and for sparse rows share, which leave X as it lies."""

from __future__ import annotations

import numpy as np

from .automatic import AutomaticMemory
from .scaled_problem import ScaledProblem

# How many falls of the objective an estimate of those to come needs at least.
LEAST_FALLS = 4
# The falls since this share of the epochs decide how quickly falls get smaller.
RECENT_SHARE = 0.5
# How much larger than its estimate the fall that is left may be.
ESTIMATE_SAFETY = 2.0


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


def remaining_fall(falls: list[float]) -> float:
    """Estimate how much the objective can still fall, from its falls in the epochs so far.

    It is the larger of two estimates with some safety, and infinite while they are not known.
    """
    if len(falls) < LEAST_FALLS:
        return np.inf
    return ESTIMATE_SAFETY * max(_fall_by_ratio(falls), _fall_by_power(falls))


def _fall_by_ratio(falls: list[float]) -> float:
    """Take all that is left to the last fall as no more than it was to any fall before.

    So the steep falls along a few large directions do not hide that many small ones follow
    (Meurant, Papez and Tichy 2021, Numer. Algorithms 88). Of the last two falls the larger counts.
    """
    each = np.array(falls)
    later = np.cumsum(each[::-1])[::-1]
    ratio = np.divide(later, each, out=np.ones_like(each), where=each > 0.0)
    return float(ratio.max() * each[-2:].max())


def _fall_by_power(falls: list[float]) -> float:
    """Take falls to get smaller as a power of the number of epochs, that of the last ones.

    Where they get smaller by a factor per epoch, that power grows with the number of epochs, and
    the estimate is right too.
    """
    k = len(falls)
    m = max(2, int(RECENT_SHARE * k) // 2)
    earlier, later = sum(falls[k - 2 * m : k - m]), sum(falls[k - m :])
    if not later > 0.0:
        return 0.0
    # The middles of both ranges of epochs, counted from 1.
    before, now = k - 1.5 * m + 0.5, k - 0.5 * m + 0.5
    power = np.log(earlier / later) / np.log(now / before) if earlier > later else 0.0
    if power <= 1.0:
        return np.inf
    last = later / m * (now / (k + 0.5)) ** power
    return float(last * (k + 0.5) / (power - 1.0))
