"""Lengths of time, and which rows lie within one of them before each row."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from numbers import Integral, Real
from typing import Any, cast

import numpy as np

from ._group_labels import Groups
from ._validation import as_array, as_float_array, check_real, shown

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
        found = re.fullmatch(r"\s*(\d{1,18})?\s*([A-Za-z]+)\s*", value)
        # "M" is months elsewhere, which have no fixed length.
        unit = UNITS.get(found[2].lower()) if found and found[2] != "M" else None
        if found is None or unit is None:
            raise ValueError(
                f"{name} must be a length of time such as '30D', '12h', '5min' or '250ms', "
                f"got {shown(value)}."
            )
        length = np.timedelta64(int(found[1] or 1), cast(Any, unit))
    elif hasattr(value, "to_timedelta64"):  # pandas', which may have nanoseconds
        length = value.to_timedelta64()
    length = np.timedelta64(length)
    if np.datetime_data(length.dtype)[0] in ("Y", "M", "generic"):
        raise ValueError(f"{name} must have a unit of fixed length, got {shown(value)}.")
    if not length > np.timedelta64(0):
        raise ValueError(f"{name} must be positive, got {shown(value)}.")
    return _in_nanoseconds(length, name)


def _in_nanoseconds(lengths, name: str):
    """Timedeltas in nanoseconds; ValueError for those that int64 can't hold."""
    out = lengths.astype("timedelta64[ns]")
    # A conversion that overflows wraps around without a word.
    if not np.all(out.astype(lengths.dtype) == lengths):
        raise ValueError(f"{name} must not span more than 292 years.")
    return out


def as_times(times, length, name: str, n: int) -> tuple[np.ndarray, float | int]:
    """Times of the rows and a length, as numbers of one unit.

    Raises
    ------
    ValueError
        If they don't go together, or times are missing.
    """
    if times is None:
        raise ValueError(f"{name}={shown(length)} needs times, a time for each row.")
    array = as_array(_without_zone(times), "times")
    if array.shape != (n,):
        raise ValueError(f"times must have shape ({n},), got shape {array.shape}.")
    if array.dtype.kind == "O":
        array = _of_objects(array)
    if array.dtype.kind == "M":
        if not is_length_of_time(length):
            raise ValueError(f"{name} must be a length of time, as times are, got {shown(length)}.")
        if np.isnat(array).any():
            raise ValueError(f"times has no time in row {int(np.argmax(np.isnat(array)))}.")
        since_first = _in_nanoseconds(array - array.min(), "times").astype(np.int64)
        return since_first, int(as_timedelta(length, name).astype(np.int64))
    numbers = as_float_array(array, "times", np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError("times contains NaN or infinity.")
    own = check_real(length, name, 0.0, open_low=True)
    if array.dtype.kind in "iu" and own.is_integer():  # float64 rounds times beyond 2^53
        first = array.min()
        if int(array.max()) - int(first) < 2**63:
            wide = array.astype(np.int64) if array.dtype.kind == "i" else array
            return (wide - wide.dtype.type(first)).astype(np.int64), min(int(length), 2**63 - 1)
    return numbers, own


def _of_objects(array: np.ndarray) -> np.ndarray:
    """Times that are objects as numbers, if they are numbers, else as datetimes."""
    array = np.array([_without_zone(time) for time in array], object)
    if any(isinstance(time, Real) for time in array):
        whole = all(isinstance(time, Integral) for time in array)
        try:
            return array.astype(np.int64) if whole else array
        except OverflowError:
            return array
    try:
        fine, coarse = array.astype("datetime64[ns]"), array.astype("datetime64[us]")
    except (TypeError, ValueError) as error:
        raise ValueError(f"times must be datetimes or numbers: {error}.") from None
    fits = np.isnat(coarse) | (fine.astype(coarse.dtype) == coarse)
    return fine if fits.all() else coarse


def _without_zone(times):
    """Times of a zone, of pandas or of Python, as they are in UTC: NumPy knows no zones."""
    own = getattr(times, "dt", times)  # of a Series
    if getattr(own, "tzinfo", None) is None and getattr(own, "tz", None) is None:
        return times
    if hasattr(own, "tz_convert"):
        in_utc = own.tz_convert("UTC")
        return getattr(in_utc, "dt", in_utc).tz_localize(None)
    return times.astimezone(UTC).replace(tzinfo=None) if isinstance(times, datetime) else times


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
    ends = at - length
    if at.dtype.kind == "f":  # a row is in its own window, however short that is
        ends = np.minimum(ends, np.nextafter(at, -np.inf))
    if len(bounds) == 2:
        return np.searchsorted(at, ends, side="right")
    sizes = np.diff(bounds)
    group = np.repeat(np.arange(len(sizes)), sizes)
    n = len(at)
    # Where each end falls among the times of its own group: equal times come before ends.
    order = np.lexsort((np.repeat([0, 1], n), np.concatenate([at, ends]), np.tile(group, 2)))
    before = np.cumsum(order < n)
    starts = np.empty(n, np.int64)
    is_end = order >= n
    starts[order[is_end] - n] = before[is_end]
    return starts
