"""Lengths of time, and which rows lie within one of them before each row."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, cast

import numpy as np

from ._group_labels import Groups
from ._validation import as_float_array, check_real, shown

# The codes of NumPy for the units that pandas and polars write.
UNITS = {
    "w": "W", "d": "D", "h": "h", "t": "m", "m": "m", "min": "m", "s": "s", "ms": "ms",
    "us": "us", "ns": "ns",
}  # fmt: skip


def is_length_of_time(value) -> bool:
    """Whether `value` is "30D", a timedelta or the like."""
    return isinstance(value, (str, timedelta, np.timedelta64))


def as_timedelta(value, name: str) -> np.timedelta64:
    """`value` in nanoseconds.

    Raises
    ------
    ValueError
        If it can't be read, or isn't positive.
    """
    length: Any = value
    if isinstance(value, str):
        found = re.fullmatch(r"\s*(\d+)?\s*([A-Za-z]+)\s*", value)
        unit = UNITS.get(found[2].lower()) if found else None
        if found is None or unit is None:
            raise ValueError(
                f"{name} must be a length of time such as '30D', '12h', '5min' or '250ms', "
                f"got {shown(value)}."
            )
        length = np.timedelta64(int(found[1] or 1), cast(Any, unit))
    length = np.timedelta64(length).astype("timedelta64[ns]")
    if not length > np.timedelta64(0, "ns"):
        raise ValueError(f"{name} must be positive, got {shown(value)}.")
    return length


def as_times(times, length, name: str, n: int) -> tuple[np.ndarray, float | int]:
    """Times of the rows and a length, as numbers of one unit.

    Raises
    ------
    ValueError
        If they don't go together, or times are missing.
    """
    if times is None:
        raise ValueError(f"{name}={shown(length)} needs times, a time for each row.")
    array = np.asarray(times)
    if array.shape != (n,):
        raise ValueError(f"times must have shape ({n},), got shape {array.shape}.")
    if array.dtype.kind == "O":
        array = array.astype("datetime64[ns]")
    if array.dtype.kind == "M":
        if not is_length_of_time(length):
            raise ValueError(f"{name} must be a length of time, as times are, got {shown(length)}.")
        if np.isnat(array).any():
            raise ValueError(f"times has no time in row {int(np.argmax(np.isnat(array)))}.")
        stamps = array.astype("datetime64[ns]").astype(np.int64)
        return stamps, int(as_timedelta(length, name).astype(np.int64))
    numbers = as_float_array(array, "times", np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError("times contains NaN or infinity.")
    return numbers, check_real(length, name, 0.0, open_low=True)


def check_sorted(times: np.ndarray, groups: Groups) -> np.ndarray:
    """The times at each position; ValueError if they decrease within a group."""
    at = times if groups.order is None else times[groups.order]
    falls = at[1:] < at[:-1]
    falls[groups.bounds[1:-1] - 1] = False
    if falls.any():
        p = int(np.argmax(falls)) + 1
        row = p if groups.order is None else int(groups.order[p])
        raise ValueError(f"times must not decrease within a group, but does in row {row}: sort X.")
    return at


def window_starts(at: np.ndarray, length, bounds: np.ndarray) -> np.ndarray:
    """The first position of each window: the first one that is later than `length` ago."""
    if len(bounds) == 2:
        return np.searchsorted(at, at - length, side="right")
    sizes = np.diff(bounds)
    group = np.repeat(np.arange(len(sizes)), sizes)
    n = len(at)
    # Where each end falls among the times of its own group: equal times come before ends.
    order = np.lexsort((np.repeat([0, 1], n), np.concatenate([at, at - length]), np.tile(group, 2)))
    before = np.cumsum(order < n)
    starts = np.empty(n, np.int64)
    is_end = order >= n
    starts[order[is_end] - n] = before[is_end]
    return starts
