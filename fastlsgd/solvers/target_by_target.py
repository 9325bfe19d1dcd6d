"""Targets that weigh the rows differently, or whose scales differ by more than a float64 holds the
squares of: one descent per target, one after the other.

The kernels take one weight per row, since the updates of all targets share the inner products of a
block's rows. Where a class weighs only its own rows by a factor, as in a weighted one-vs-rest fit,
each target has its own pass over X. That is exact, at n_targets times the cost.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .rows import counted_rows
from .stochastic import Descent


class TargetByTarget:
    """A `stochastic.Descent` that consists of one descent per target.

    Parameters
    ----------
    descents : sequence of Descent
        One per target, all with the same schedule.
    loss_scale : float
        The unit of a tolerance for the sum of their losses.
    sample_weight : ndarray of shape (n, t), optional
        If it is given, no target visits its own rows of zero weight.
    y_exponents : ndarray of shape (t,), optional
        The power of two that each target is divided by. Losses are in units of the largest one's.
    """

    def __init__(
        self,
        descents: Sequence[Descent],
        loss_scale: float,
        sample_weight: np.ndarray | None = None,
        y_exponents: np.ndarray | None = None,
    ) -> None:
        self.descents, self.loss_scale = descents, loss_scale
        self.sample_weight = sample_weight
        self.shares = np.ones(len(descents))
        if y_exponents is not None:
            self.shares = np.ldexp(1.0, 2 * (y_exponents - y_exponents.max()))
        self.shuffles = descents[0].shuffles

    @property
    def gap(self) -> float:
        return sum(descent.gap for descent in self.descents)

    def epoch(self, order: np.ndarray | None) -> float:
        orders = [order] * len(self.descents)
        if self.sample_weight is not None:
            orders = [counted_rows(weights, order) for weights in self.sample_weight.T]
        each = zip(self.descents, orders, self.shares, strict=True)
        return sum(share * descent.epoch(own) for descent, own, share in each)

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        coefs, intercepts = zip(*(descent.weights() for descent in self.descents), strict=True)
        return np.vstack(coefs), np.concatenate(intercepts)

    def lower_rate(self) -> bool:
        # All have the same schedule, so that all of them can be lowered or none.
        lowered = [descent.lower_rate() for descent in self.descents]
        return all(lowered)

    @property
    def value(self) -> float | None:
        values = [descent.value for descent in self.descents]
        known = [value for value in values if value is not None]
        return sum(known) if len(known) == len(values) else None

    @property
    def rate(self) -> float:
        return self.descents[0].rate

    @property
    def memory(self) -> list[object]:
        return [descent.memory for descent in self.descents]
