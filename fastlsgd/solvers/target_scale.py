"""Targets near 1: the weights of c y are c times those of y, but squares of y leave float64.

Where the largest target is beyond 1e30 or below its inverse, a descent is given y times a power of
two, with the L1 term divided alike (`Objective.y_exponent`), and its weights are multiplied back.
Both are exact, so that the scale of y makes no difference. Targets whose scales differ as much get
powers of their own, and a descent each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..kernels.contract import Matrix
from ..kernels.device import placed_beside
from .rows import counted_rows
from .stochastic import EpochReport, StochasticResult

# Targets whose largest is beyond this power of two, or below its inverse, are brought near 1.
TARGET_EXPONENT = 100


def target_exponents(y: Any, sample_weight: np.ndarray | None) -> np.ndarray:
    """Return for each target a power of two near its largest |y| in rows of positive weight.

    It is the same for targets of like scale, and mostly 0.
    """
    judged, counted = np.asarray(y), counted_rows(sample_weight)
    judged = judged if counted is None else judged[counted]
    largest = np.maximum(judged.max(axis=0, initial=0.0), -judged.min(axis=0, initial=0.0))
    exponents = np.zeros(len(largest), dtype=int)
    if (largest > 2.0**-TARGET_EXPONENT).all() and (largest < 2.0**TARGET_EXPONENT).all():
        return exponents  # as those of most are
    known = np.isfinite(largest) & (largest > 0.0)
    if not known.any():
        return exponents
    exponents[known] = np.frexp(largest[known])[1]
    least, most = exponents[known].min(), exponents[known].max()
    if max(-least, most) <= TARGET_EXPONENT:
        return np.zeros_like(exponents)
    exponents[~known] = most
    return exponents if most - least > TARGET_EXPONENT else np.full_like(exponents, most)


def far_exponents(largest: np.ndarray) -> np.ndarray:
    """Return a power of two near each of these sizes whose square is far from 1, else 0."""
    exponents = np.frexp(largest)[1]
    return np.where(np.abs(exponents) > TARGET_EXPONENT, exponents, 0)


def scaled_targets(y: Any, X: Matrix, exponents: np.ndarray) -> Any:
    """Return y (n, t) times 2^-exponents."""
    if not exponents.any():
        return y
    with np.errstate(over="ignore"):
        return placed_beside(np.ldexp(np.asarray(y), -exponents), X)


def unscaled(
    coef: np.ndarray, intercept: np.ndarray, exponents: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights for y, given those for y times 2^-exponents."""
    if not exponents.any():
        return coef, intercept
    with np.errstate(over="ignore"):
        return np.ldexp(coef, exponents[:, None]), np.ldexp(intercept, exponents)


def result_unscaled(result: StochasticResult, exponents: np.ndarray) -> StochasticResult:
    """Return the weights and losses for y, given those for y times 2^-exponents."""
    if not exponents.any():
        return result
    coef, intercept = unscaled(result.coef, result.intercept, exponents)
    curve = [_loss_unscaled(loss, exponents) for loss in result.loss_curve]
    return result._replace(coef=coef, intercept=intercept, loss_curve=curve)


def listener_unscaled(
    listener: Callable[[EpochReport, np.ndarray, np.ndarray], bool], exponents: np.ndarray
) -> Callable[[EpochReport, np.ndarray, np.ndarray], bool]:
    """Return a listener to epochs on y times 2^-exponents, for one that expects those on y."""
    if not exponents.any():
        return listener

    def told(report: EpochReport, coef: np.ndarray, intercept: np.ndarray) -> bool:
        report = report._replace(loss=_loss_unscaled(report.loss, exponents))
        return listener(report, *unscaled(coef, intercept, exponents))

    return told


def _loss_unscaled(loss: float, exponents: np.ndarray) -> float:
    """Return the loss, in units of the largest target's square, as it is; it may overflow."""
    with np.errstate(over="ignore"):
        return float(np.ldexp(loss, 2 * int(exponents.max())))
