"""What the least-squares solvers are asked: the data, and a penalty on the weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..kernels.contract import Matrix
from ..kernels.device import placed_beside
from . import active_set
from .constraints import Constraints
from .target_scale import scaled_targets
from .training import l1_of_scaled
from .weights import normalised_weights

# The sum of the weights times alpha, a power of two to which squares of columns are added, may
# have this exponent.
MOST_EXPONENT = 1000
# The largest L1 term of targets that were tiny before they were brought near 1.
MOST_L1 = 1e300


@dataclass(frozen=True)
class Penalty:
    """l1 |w|_1 + l2/2 |w|^2, and whether w must not be negative."""

    l1: float
    l2: float
    positive: bool = False

    def value(self, w: np.ndarray) -> float:
        return float(self.l1 * np.abs(w).sum() + 0.5 * self.l2 * (w * w).sum())

    def soften(self, u: np.ndarray, threshold: np.ndarray) -> np.ndarray:
        """Return the proximal step of l1 |w|_1 and the sign constraint."""
        if self.positive:
            return np.maximum(u - threshold, 0.0)
        return np.sign(u) * np.maximum(np.abs(u) - threshold, 0.0)

    def violation(self, w: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Return how far `gradient`, of the loss and l2, is from optimality of each w_j."""
        at_zero = np.maximum((-gradient if self.positive else np.abs(gradient)) - self.l1, 0.0)
        violation = np.where(w != 0.0, np.abs(gradient + self.l1 * np.sign(w)), at_zero)
        return np.where(w < 0.0, np.inf, violation) if self.positive else violation


@dataclass(frozen=True)
class Terms:
    """sum_j (l1_j |w_j| + l2_j/2 w_j^2) of one target, and bounds; arrays of (d,)."""

    l1: np.ndarray
    l2: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    def value(self, w: np.ndarray) -> float:
        return float(self.l1 @ np.abs(w) + 0.5 * (self.l2 @ (w * w)))

    def violation(self, w: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """Return how far each weight is from optimality, (d,).

        `slope` is minus the gradient of the loss and of the equalities' multipliers.
        """
        return active_set.apart(w, slope - self.l2 * w, self.l1, self.lower, self.upper)[0]


@dataclass(frozen=True)
class Problem:
    """X and y as the kernels take them, and how the weights are penalised."""

    X: Matrix
    y: np.ndarray  # (n, t)
    sample_weight: np.ndarray | None
    l1_ratio: float
    positive: bool
    fit_intercept: bool
    # What `wide.row_gram` has found, where several fits share X and the weights.
    row_grams: dict[str, np.ndarray] | None = None
    # None: neither bounds nor equalities, nor penalties that differ by feature or by target.
    constraints: Constraints | None = None
    penalty_factor: np.ndarray | None = None  # (d,)
    # The mean of the rows, each of weight 1, where it is known.
    x_mean: np.ndarray | None = None
    # y, and the constraints, are the user's times 2^-y_exponent: L1 penalties have to be, too.
    y_exponent: int = 0
    # Raises ValueError for NaN and infinity in X, else returns x_mean; None after the call.
    look: Callable[[], np.ndarray | None] | None = None

    @cached_property
    def weight(self) -> float:
        s = self.sample_weight
        return float(self.X.shape[0] if s is None else s.sum(dtype=np.float64))

    def looked_at(self) -> Problem:
        """Return the problem with an X that is known to be finite.

        Raises
        ------
        ValueError
            If X has NaN or infinity.
        """
        return self if self.look is None else replace(self, x_mean=self.look(), look=None)

    def normalised(self) -> tuple[Problem, int]:
        """Return the problem with sample weights near 1, and the power of two taken from them."""
        weights, exponent = normalised_weights(self.sample_weight, self.X)
        if not exponent:
            return self, 0
        return replace(self, sample_weight=weights, row_grams=None), exponent

    def lightened(self, alphas: Sequence[Any]) -> tuple[Problem, int]:
        """Return the problem with weights whose sum times each alpha is a float64, as above."""
        largest = float(max(map(np.max, alphas)))
        if self.penalty_factor is not None:
            largest *= max(1.0, float(self.penalty_factor.max()))
        exponent = int(np.frexp(self.weight)[1] + np.frexp(largest)[1]) - MOST_EXPONENT
        if exponent <= 0:
            return self, 0
        exponent += exponent % 2
        s = self.sample_weight
        s = np.ones(len(self.y), self.y.dtype) if s is None else np.asarray(s)
        lighter = placed_beside(np.ldexp(s, -exponent), self.X)
        return replace(self, sample_weight=lighter, row_grams=None), exponent

    def in_unit(self, exponent: int) -> Problem:
        """Return the problem of y times 2^-exponent, whose weights are smaller by this factor."""
        if exponent == 0:
            return self
        constraints = None if self.constraints is None else self.constraints.in_unit(exponent)
        y = scaled_targets(self.y, self.X, np.full(self.y.shape[1], exponent))
        return replace(self, y=y, constraints=constraints, y_exponent=exponent)

    def penalty(self, alpha: float) -> Penalty:
        return Penalty(self._l1(alpha), alpha * (1.0 - self.l1_ratio), self.positive)

    def _l1(self, alpha: float) -> float:
        return l1_of_scaled(alpha * self.l1_ratio, self.y_exponent, MOST_L1)

    def terms(self, alpha: float | np.ndarray, n_targets: int) -> list[Terms]:
        """Return penalty and bounds of each target's weights; alpha may be an array of (t,)."""
        d = self.X.shape[1]
        if self.constraints is not None:
            lower, upper = self.constraints.lower, self.constraints.upper
        else:
            lower, upper = np.full(d, 0.0 if self.positive else -np.inf), np.full(d, np.inf)
        factor = np.ones(len(lower)) if self.penalty_factor is None else self.penalty_factor
        return [
            Terms(self._l1(own) * factor, own * (1.0 - self.l1_ratio) * factor, lower, upper)
            for own in np.broadcast_to(alpha, n_targets)
        ]

    def is_smooth(self, alphas: Any) -> bool:
        """Return whether neither L1 (at any of these alphas) nor constraints apply.

        Penalties that differ by feature or by target count as constraints.
        """
        is_free = not self.positive and self.constraints is None
        return is_free and (self.l1_ratio == 0.0 or not np.any(alphas))
