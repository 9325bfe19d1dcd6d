"""A few of all rows that an estimator has seen: what "auto" goes on from after other rates.

Weights that came from a constant rate, say, tell nothing of the rows that they were fitted to. If
"auto" took them for a start and nothing else, its first row would be all that it knows, and would
take the fit away. So a random sample of the rows is kept across calls, and stands for their number,
their means and their covariances.

Which rows are kept depends on their numbers in order of arrival, not on how calls cut them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.sparse import csr_array

from ..kernels.contract import CSR, Kernels, Matrix
from ..kernels.optional import has_order_kernels
from . import metric
from .automatic import AutomaticMemory
from .metric import ColumnMoments, correlated_rows
from .rows import as_dense, as_scipy, counted_rows, random_rows, take_rows
from .training import Objective
from .weights import power_of_two

# How many rows are kept at most, and how many numbers.
MOST_ROWS, MOST_NUMBERS = 64, 2**20
KEYS_AT_ONCE = 2**14
ROWS_PER_CALL = 2**18  # of the kernel, which has space for the keys of all of them
STEP = 0x9E3779B97F4A7C15  # of splitmix64, modulo 2^64
_STEPS = np.arange(1, KEYS_AT_ONCE + 1, dtype=np.uint64) * np.uint64(STEP)


class SeenRows(NamedTuple):
    """The arrays are never written to."""

    rows: int  # that have been seen
    weight: float  # of all of them
    X: np.ndarray | csr_array  # (m, d): those that are kept
    s: np.ndarray  # (m,): their weights
    keys: np.ndarray  # (m,): random numbers in [0, 1), those of kept rows being the smallest

    def as_fitted(
        self, coef: np.ndarray, intercept: np.ndarray, objective: Objective
    ) -> AutomaticMemory:
        """Return what a fit of these rows would have left, if these are its weights."""
        A, d = self.X if isinstance(self.X, np.ndarray) else self.X.toarray(), coef.shape[1]
        share, unit = self.s / self.s.sum(), power_of_two(self.weight / self.rows)
        mean = share @ A
        variance = share @ (A - mean) ** 2
        weight = self.weight / unit
        moments = ColumnMoments(
            mean, intercept + coef @ mean, self.rows, weight, np.zeros(d), variance * weight,
            np.zeros(len(coef)), np.zeros(len(coef)), np.sqrt(variance),
        )  # fmt: skip
        correlated = correlated_rows(A, None, moments)
        if d <= metric.FULL_METRIC_FEATURES:
            correlation = np.eye(d) + correlated.T @ correlated
            deviation = np.sqrt(variance)
            moments.xx = weight * deviation[:, None] * correlation * deviation
        return AutomaticMemory(moments, unit, objective, correlated=correlated)


def with_seen(
    kernels: Kernels,
    before: SeenRows | None,
    X: Matrix,
    sample_weight: Any,
    visited: np.ndarray | None,
) -> SeenRows | None:
    """Return what is kept after a call with these rows; None if no row has been seen.

    Parameters
    ----------
    kernels : Kernels
    before : SeenRows, optional
        From the calls before.
    X, sample_weight : Matrix, ndarray of shape (n,) or (n, t) or None
    visited : ndarray of int64, optional
        Numbers of the rows that count. Default: all.
    """
    counted = counted_rows(sample_weight, visited)
    n = X.shape[0] if counted is None else len(counted)
    if n == 0:
        return before
    most = max(1, min(MOST_ROWS, MOST_NUMBERS // X.shape[1]))
    weight = float(n)
    if sample_weight is not None:
        each = np.asarray(sample_weight, dtype=np.float64)
        each = each if each.ndim == 1 else each.mean(axis=1)
        weight = float(each.sum() if counted is None else each[counted].sum())
    if before is None and n > most:
        places = random_rows(n, most, None)
        keys = np.arange(1, most + 1) / (n + 1.0)  # as large as the smallest of n are in the mean
    else:
        limit = 1.0 if before is None or len(before.keys) < most else float(before.keys.max())
        start = 0 if before is None else before.rows
        places, keys = _random_numbers_below(kernels, limit, start, n)
        if len(keys) > most:
            best = _smallest(keys, most)
            places, keys = places[best], keys[best]
    if before is not None and len(places) == 0:  # mostly so for calls of few rows
        return before._replace(rows=before.rows + n, weight=before.weight + weight)
    total = n, weight
    if before is not None:
        total = before.rows + n, before.weight + weight
        stay, new, keys = _without_largest(before.keys, keys, most)
        places = places[new]
    numbers = places if counted is None else counted[places]
    s = np.ones(len(numbers)) if sample_weight is None else each[numbers]
    kept = take_rows(X, numbers)
    rows = as_scipy(kept) if isinstance(kept, CSR) else as_dense(kept)
    if before is None:
        return SeenRows(*total, rows, s, keys)
    return SeenRows(
        *total,
        _one_below_another(before.X, stay, rows),
        np.concatenate([before.s[stay], s]),
        keys,
    )


def _without_largest(
    before: np.ndarray, keys: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which rows before and which new ones have the smallest keys of all, and these keys."""
    joint = np.concatenate([before, keys])
    best = _smallest(joint, most)
    first = int(np.searchsorted(best, len(before)))
    return best[:first], best[first:] - len(before), joint[best]


def _smallest(keys: np.ndarray, count: int) -> np.ndarray:
    """Return the places of so many of the smallest numbers, in the order of the numbers."""
    if len(keys) <= count:
        return np.arange(len(keys))
    return np.sort(np.argsort(keys, kind="stable")[:count])


def _one_below_another(A, stay: np.ndarray, B) -> np.ndarray | csr_array:
    """Return the rows of A that stay, and those of B below them."""
    if isinstance(A, np.ndarray) and isinstance(B, np.ndarray):
        joint = np.empty((len(stay) + len(B), A.shape[1]))
        np.take(A, stay, axis=0, out=joint[: len(stay)], mode="clip")  # "raise" makes a copy
        joint[len(stay) :] = B
        return joint
    return csr_array(sp.vstack([csr_array(A)[stay], csr_array(B)], format="csr"))


def _random_numbers_below(
    kernels: Kernels, limit: float, start: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return which of so many numbers in [0, 1) are less than a limit, and these.

    They belong to start, start + 1, ... (splitmix64, Steele 2014). For 10,000, the native kernel
    takes 20 us. NumPy takes 30, or 80 in a pass that has emptied the cache; calls of few rows find
    its numbers made.
    """
    if has_order_kernels(kernels):
        if count <= ROWS_PER_CALL:
            return kernels.keys_below(limit, start, count)
        parts = []
        for skipped in range(0, count, ROWS_PER_CALL):
            n = min(ROWS_PER_CALL, count - skipped)
            own, keys = kernels.keys_below(limit, start + skipped, n)
            parts.append((own + skipped, keys))
        places, numbers = zip(*parts, strict=True)
        return np.concatenate(places), np.concatenate(numbers)
    first = start // KEYS_AT_ONCE * KEYS_AT_ONCE
    if start + count > first + KEYS_AT_ONCE:
        return _made_below(limit, start, count)
    made = _made(first)[start - first : start - first + count]
    near = np.flatnonzero(made < limit)
    return near, made[near]


@lru_cache(maxsize=4)  # 128 KB each
def _made(start: int) -> np.ndarray:
    """Return `KEYS_AT_ONCE` numbers in [0, 1), which must not be written to."""
    return _made_below(2.0, start, KEYS_AT_ONCE)[1]


def _made_below(limit: float, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which of so many numbers in [0, 1) are less than a limit, and these.

    They belong to start, start + 1, ..., and are made in parts that fit into cache: 0.6 ms for
    250,000, where arrays of that length took 4.
    """
    # No number that is less than the limit is left out by what rounding adds here.
    most = min(int(limit * 2.0**64) + 2**12, 2**64 - 1)
    # The last step leaves the upper 31 bits as they are, so that few numbers have to take it.
    upper = np.uint64(most | (2**33 - 1))
    buffers = np.empty((2, min(KEYS_AT_ONCE, count)), dtype=np.uint64)
    places, keys = [], []
    for first in range(0, count, KEYS_AT_ONCE):
        z, shifted = buffers[:, : count - first]
        np.add(_STEPS[: len(z)], np.uint64((start + first) * STEP % 2**64), out=z)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            np.right_shift(z, np.uint64(shift), out=shifted)
            z ^= shifted
            z *= np.uint64(factor)
        near = np.flatnonzero(z <= upper)
        last = z[near]
        last ^= last >> np.uint64(31)
        numbers = last.astype(np.float64) / 2.0**64
        below = numbers < limit
        places.append(near[below] + first)
        keys.append(numbers[below])
    return np.concatenate(places), np.concatenate(keys)
