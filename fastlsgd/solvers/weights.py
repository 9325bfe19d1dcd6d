"""Sample weights near 1: a common factor of them changes no fit, but their sums could overflow."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ..kernels.contract import Matrix
from ..kernels.device import DeviceArray, extremes, placed_beside

# Weights whose largest is beyond this power of two, or below its inverse, are brought near 1.
WEIGHT_EXPONENT = 30


def normalised_weights(sample_weight: Any, X: Matrix, alpha: float = 0.0) -> tuple[Any, int]:
    """Return the sample weights times 2^-k, the largest of them near 1, and k.

    k is even, so that the weights' square roots are scaled exactly too; for most weights it is 0.
    A penalty `alpha` on the weighted sum has to be multiplied by 2^-k as well; k is chosen such
    that this does not overflow.
    """
    if sample_weight is None:
        return None, 0
    is_there = isinstance(sample_weight, DeviceArray)
    largest = extremes(sample_weight)[1] if is_there else float(sample_weight.max())
    exponent = int(np.frexp(largest)[1])
    if abs(exponent) <= WEIGHT_EXPONENT:
        return sample_weight, 0
    exponent = max(exponent, int(np.frexp(alpha)[1]) - 1000)
    exponent = min(exponent + exponent % 2, 1022)  # 2^k is a float
    given = np.asarray(sample_weight)
    weights = np.ldexp(given, -exponent)
    if np.count_nonzero(weights) < np.count_nonzero(given):
        warnings.warn(
            "The smallest sample weights are less than 1e-300 of the largest: they count as zero.",
            UserWarning,
            stacklevel=2,
        )
    return placed_beside(weights, X), exponent


def weights_of_visited(
    sample_weight: Any, visited: np.ndarray | None, y: np.ndarray
) -> np.ndarray | None:
    """Return the sample weights in a dtype of kernels, with zeros for rows that are not visited.

    Parameters
    ----------
    sample_weight : array of shape (n,) or None
    visited : ndarray of int64, optional
        Numbers of the rows that count. Default: all.
    y : ndarray of shape (n, t)
        In a dtype of kernels.
    """
    if visited is None or len(visited) == len(y):
        return sample_weight
    if sample_weight is not None and np.count_nonzero(sample_weight) == len(visited):
        return sample_weight  # they are zero already
    out = np.zeros(len(y), dtype=y.dtype)
    out[visited] = 1.0 if sample_weight is None else np.asarray(sample_weight)[visited]
    return out


def rows_that_count(sample_weight: Any, order: np.ndarray | None, n_rows: int) -> int:
    """Return how many of the visited rows (None: all n_rows) have a positive weight, at least 1.

    These are the rows whose losses a kernel adds up.
    """
    if sample_weight is None:
        return n_rows if order is None else len(order)
    weights = np.asarray(sample_weight)  # may be on a GPU
    return max(1, int(np.count_nonzero(weights if order is None else weights[order])))


def equal_counts(sample_weight: Any, y: np.ndarray) -> np.ndarray | None:
    """Return 1 for rows that count and 0 for others; None if the weights themselves will do."""
    if sample_weight is None:
        return None
    weights = np.asarray(sample_weight)  # may be on a GPU
    counts = weights > 0.0
    known = weights[counts]
    if known.min() == known.max():
        return None
    return counts.astype(y.dtype)


def even_exponent(weight: float) -> int:
    """Return an even power of two near a sum of weights that is far from 1, else 0."""
    exponent = int(np.frexp(weight)[1])
    return exponent + exponent % 2 if abs(exponent) > 2 * WEIGHT_EXPONENT else 0


def power_of_two(value: float) -> float:
    """Return the largest power of two that is not above a positive number."""
    return float(np.ldexp(1.0, int(np.frexp(value)[1]) - 1))
