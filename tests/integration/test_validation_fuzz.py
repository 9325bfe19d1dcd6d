"""Random calls of all entry points: a result, ValueError or TypeError, and unchanged arguments.

They run for ten seconds with the other tests, and for ten minutes with ``pytest -m fuzz``;
FASTLSGD_FUZZ_SECONDS sets another time. Hypothesis prints failing calls in their smallest form.
"""

from __future__ import annotations

import contextlib
import os
import time
import warnings

import entry_points
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

EXTREMES = (0, 1, -1, 2, 7, 100, 10**6, -(10**6), 2**31 - 1)
NUMBERS = (0.0, 1.0, -2.5, 3.0, 1e-300, 1e30, 1e300, np.nan, np.inf, -np.inf)
OBJECTS = (None, "1", b"1", 1j, {}, 10**400, np.datetime64("2020"), [1.0], True, 2, 0.5)
DTYPES = (
    "f8",
    "f4",
    "f2",
    ">f8",
    ">f4",
    "g",
    "?",
    "i1",
    "u8",
    ">i2",
    "O",
    "c16",
    "U8",
    "S8",
    "M8[s]",
)
FORMATS = ("csr_array", "csr_matrix", "csc_array", "coo_array", "bsr_matrix", "dia_array",
           "lil_array", "dok_array")  # fmt: skip
PARTS = {
    "csr": ("data", "indices", "indptr"),
    "csc": ("data", "indices", "indptr"),
    "bsr": ("data", "indices", "indptr"),
    "coo": ("data", "row", "col"),
    "dia": ("data", "offsets"),
    "lil": ("data", "rows"),
    "dok": (),
}


def numbers_of(draw, shape):
    """Ordinary numbers, sometimes with a few unusual ones."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    array = np.asarray(np.round(4 * rng.normal(size=shape)) / 2)
    if array.size and draw(st.booleans()):
        for _ in range(draw(st.integers(1, 3))):
            array.flat[rng.integers(array.size)] = draw(st.sampled_from(NUMBERS))
    return array


def dense(draw, shape):
    array = numbers_of(draw, shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = np.asarray(array.astype(draw(st.sampled_from(DTYPES))))
    if array.dtype == object and array.size:
        array.flat[draw(st.integers(0, array.size - 1))] = draw(st.sampled_from(OBJECTS))
    layout = draw(
        st.sampled_from(("C", "F", "reversed", "unaligned", "read-only", "list", "masked"))
    )
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "reversed" and array.ndim:
        return array[::-1]
    if layout == "unaligned" and array.dtype != object:
        raw = np.zeros(array.nbytes + 1, dtype=np.uint8)
        view = raw[1:].view(array.dtype).reshape(array.shape)
        view[...] = array
        return view
    if layout == "read-only" and array.ndim:
        array.flags.writeable = False
    if layout == "masked":
        return np.ma.masked_array(array, np.zeros(array.shape, bool) | draw(st.booleans()))
    return array.tolist() if layout == "list" else array


def sparse(draw, shape):
    with np.errstate(invalid="ignore"):
        array = numbers_of(draw, shape)
    matrix = getattr(sp, draw(st.sampled_from(FORMATS)))(sp.coo_array(array))
    parts = PARTS[matrix.format]
    if parts and draw(st.booleans()):
        damage(draw, matrix, draw(st.sampled_from(parts)))
    if matrix.format == "csr" and draw(st.booleans()):
        matrix.has_canonical_format = matrix.has_sorted_indices = True
    return matrix


def damage(draw, matrix, part: str) -> None:
    old = getattr(matrix, part)
    how = draw(st.sampled_from(("number", "shorter", "deeper", "dtype", "None")))
    if how == "number" and old.size and old.dtype != object:
        # Any float is a valid value.
        old.flat[draw(st.integers(0, old.size - 1))] = draw(st.sampled_from(EXTREMES))
    elif how == "number" and old.size:
        row = old[draw(st.integers(0, len(old) - 1))]
        row.append(draw(st.sampled_from(EXTREMES)))
    else:
        new = {
            "shorter": old[:-1],
            "deeper": old[:, None],
            "dtype": old.astype("f2") if old.dtype != object else old,
            "None": None,
            "number": old,
        }[how]
        with contextlib.suppress(ValueError, TypeError, IndexError):  # SciPy checks some itself
            setattr(matrix, part, new)


@st.composite
def calls(draw):
    entry = draw(st.sampled_from(sorted(entry_points.ENTRIES)))
    n, d = draw(st.integers(0, 12)), draw(st.integers(0, 4))
    X = draw(st.sampled_from((dense, sparse)))(draw, (n, d))
    y_shape = draw(st.sampled_from(((n,), (n,), (n,), (n, 1), (n, 2), (n + 1,), ())))
    y = dense(draw, y_shape) if draw(st.booleans()) else numbers_of(draw, (n,))
    s = draw(st.sampled_from((None, "array", "number")))
    if s == "array":
        s = dense(draw, (n,))
    elif s == "number":
        s = draw(st.sampled_from((*NUMBERS, *OBJECTS)))
    return entry, X, y, s


def snapshot(value):
    """All of an argument in which a caller could notice a change."""
    if sp.issparse(value):
        if value.format == "dok":
            return dict(value.items())
        return [snapshot(getattr(value, part)) for part in PARTS[value.format]]
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.dtype, value.shape, value.tobytes()
    return repr(value)


def ask(call) -> None:
    entry, X, y, s = call
    before = snapshot(X), snapshot(y), snapshot(s)
    note(f"{entry}: X={X if not sp.issparse(X) else (X.format, X.shape, before[0])!r}")
    note(f"y={y!r}\nsample_weight={s!r}")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        with contextlib.suppress(ValueError, TypeError):
            entry_points.ENTRIES[entry](X, y, s)
    assert (snapshot(X), snapshot(y), snapshot(s)) == before


QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}


@settings(max_examples=150, derandomize=True, **QUIET)
@given(calls())
def test_random_calls_are_answered_or_refused(call):
    ask(call)


@pytest.mark.fuzz
def test_ten_minutes_of_random_calls():
    end = time.monotonic() + float(os.environ.get("FASTLSGD_FUZZ_SECONDS", 600))

    @settings(max_examples=500, **QUIET)
    @given(calls())
    def some(call):
        ask(call)

    while time.monotonic() < end:
        some()
