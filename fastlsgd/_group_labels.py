"""Labels of rows become ranges of positions: which rows belong to each group, and in which order.

Cost: one comparison per row, compiled, where the labels are sorted, and otherwise a counting sort
of their codes. The codes are the labels themselves where these are whole numbers of a small range;
other labels are sorted, or hashed where pandas has been imported, which took half the time for 5M
floats.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.sparse import csc_array

from ._validation import as_array, shown
from .kernels import load_backend
from .kernels.optional import has_order_kernels

# Whole numbers of a range of at most this many times the rows are codes as they are.
DENSE_CODES = 4
# The types of labels whose order a compiled pass looks at; of others it sees where they change.
COMPARED = "bhilqBHILQfd"


class Groups(NamedTuple):
    """The positions of each group; positions are rows where `order` is None."""

    order: np.ndarray | None  # (p,) int64
    bounds: np.ndarray  # (g + 1,) int64
    keys: list[np.ndarray]  # a column per key, (g,) each
    names: list[str]


def one_group(n: int) -> Groups:
    """All rows, in their order."""
    return Groups(None, np.array([0, n], np.int64), [], [])


def find_groups(groups, n: int, skip_missing: bool) -> Groups:
    """The groups of these labels, in the order of their keys.

    Parameters
    ----------
    groups : array-like of shape (n,), or frame or array of several columns
    skip_missing : bool
        Whether rows whose label is missing belong to no group; otherwise they are refused.

    Raises
    ------
    ValueError
        For another number of rows, and for missing labels.
    """
    columns, names, categories = _columns(groups, n)
    bounds = _bounds_of_sorted(columns[0]) if len(columns) == 1 else None
    missing, rows = _missing_rows(columns, categories, bounds), None
    if missing is not None:
        if not skip_missing:
            raise ValueError(
                f"groups has {int(missing.sum())} missing labels, the first in row "
                f"{int(np.argmax(missing))}: fill them, or leave those rows out by missing='skip'."
            )
        rows = np.flatnonzero(~missing)
        columns = [column[rows] for column in columns]
        bounds = _bounds_of_sorted(columns[0]) if len(columns) == 1 else None
    order = None
    if bounds is None:
        codes, count = _joint_codes(columns)
        order, bounds = _counting_sort(codes, count)
    firsts = bounds[:-1] if order is None else order[bounds[:-1]]
    keys = [
        column[firsts] if own is None else own[column[firsts]]
        for column, own in zip(columns, categories, strict=True)
    ]
    if rows is not None:
        order = rows if order is None else rows[order]
    return Groups(order, bounds, keys, names)


def clusters_of(groups, n: int) -> tuple[np.ndarray, ...]:
    """A number for the cluster of each row, in one way or in two; for two, of the pairs too.

    Raises
    ------
    ValueError
        For another number of rows, for missing labels, and for more than two columns of labels.
    """
    ways = [_codes(column)[0] for column in _label_columns(groups, n)]
    if len(ways) == 2:
        ways.append(_ranks(_pairs(*ways))[0])
    return tuple(ways)


class RunningClusters:
    """`clusters_of` for labels that come a block at a time."""

    def __init__(self) -> None:
        self.known: list[dict] = [{}, {}, {}]

    def of(self, groups, n: int) -> tuple[np.ndarray, ...]:
        columns = _label_columns(groups, n)
        ways = [_numbered(*pair) for pair in zip(columns, self.known, strict=False)]
        if len(ways) == 2:
            ways.append(_numbered(_pairs(*ways), self.known[2]))
        return tuple(ways)


def _numbered(labels: np.ndarray, known: dict) -> np.ndarray:
    """The numbers of labels, of which those that are not known yet are given the next."""
    try:
        values, codes = np.unique(labels, return_inverse=True)
    except TypeError:  # labels without an order
        values, codes = labels, np.arange(len(labels))
    own = [known.setdefault(value, len(known)) for value in values.tolist()]
    return np.array(own, np.int64)[codes.ravel()]


def _pairs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A number for each pair of numbers below 2^31."""
    return first.astype(np.int64) * 2**31 + second


def _label_columns(groups, n: int) -> list[np.ndarray]:
    """One or two columns of labels; missing ones are refused."""
    columns, _, categories = _columns(groups, n)
    if len(columns) > 2:
        raise ValueError(f"groups must have one or two columns of labels, got {len(columns)}.")
    for column, own in zip(columns, categories, strict=True):
        missing = _is_missing(column) if own is None else column < 0
        if missing.any():
            raise ValueError(
                f"groups has {int(missing.sum())} missing labels, the first in row "
                f"{int(np.argmax(missing))}: fill them."
            )
    return columns


def _columns(groups, n: int) -> tuple[list[np.ndarray], list[str], list[np.ndarray | None]]:
    """The columns of labels as arrays, their names, and the categories of pandas' or None.

    Categoricals are codes of their categories, whose order is theirs, as in pandas' groupby.
    """
    categories: list[np.ndarray | None]
    if hasattr(groups, "columns"):  # a frame
        names = [str(name) for name in groups.columns]
        pairs = [_codes_and_categories(groups[name]) for name in groups.columns]
        columns, categories = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    else:
        array, own = _codes_and_categories(groups)
        if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[1] == 0):
            raise ValueError(f"groups must have 1 or 2 dimensions, got shape {array.shape}.")
        columns = [array] if array.ndim == 1 else list(array.T)
        categories = [own] * len(columns)
        name = getattr(groups, "name", None)
        names = [f"group{k or ''}" for k in range(len(columns))] if name is None else [str(name)]
    for column in columns:
        if column.shape != (n,):
            raise ValueError(
                f"groups must have a label for each of the {n} rows of X, got shape {column.shape}."
            )
        if column.dtype.kind == "c" or column.dtype.kind == "V":
            raise ValueError(f"groups can't have dtype {column.dtype}.")
    columns = [c.astype(object) if c.dtype.kind == "T" else c for c in columns]
    return columns, names, categories


def _codes_and_categories(part) -> tuple[np.ndarray, np.ndarray | None]:
    """Labels and None, or of pandas' categoricals the codes, -1 for missing, and the categories."""
    own = getattr(part, "cat", part)  # of a Series; Categorical and its index have their own
    if hasattr(own, "codes") and hasattr(own, "categories"):
        return np.asarray(own.codes), np.asarray(own.categories)
    return _as_labels(part), None


def _as_labels(groups) -> np.ndarray:
    """The labels as an array, each as it was given; masked ones are None."""
    if isinstance(groups, np.ma.MaskedArray) and np.ma.is_masked(groups):
        labels = groups.data.astype(object)
        labels[np.ma.getmaskarray(groups)] = None
        return labels
    array = as_array(groups, "groups")
    if array.dtype.kind in "US" and not hasattr(groups, "dtype"):
        # NumPy writes the numbers of a list with strings as strings, and NaN as "nan".
        own = np.array(groups, dtype=object)
        if not all(isinstance(label, (str, bytes)) for label in own.flat):
            return own
    return array


def _missing_rows(columns, categories, bounds: np.ndarray | None) -> np.ndarray | None:
    """Which rows lack a label, or None if none does; `bounds` are those of one sorted column."""
    if bounds is not None:  # missing labels would be neighbours
        starts = bounds[:-1]
        columns = [columns[0][starts]]
    found = [
        _is_missing(column) if own is None else column < 0
        for column, own in zip(columns, categories, strict=True)
        if own is not None or column.dtype.kind in "fmMO"
    ]
    missing = np.logical_or.reduce(found) if found else None
    if missing is None or not missing.any():
        return None
    return missing if bounds is None else np.repeat(missing, np.diff(bounds))


def _is_missing(labels: np.ndarray) -> np.ndarray:
    if labels.dtype.kind == "f":
        return np.isnan(labels)
    if labels.dtype.kind in "mM":
        return np.isnat(labels)
    if labels.dtype.kind != "O":
        return np.zeros(len(labels), bool)
    if "pandas" in sys.modules:
        return np.asarray(sys.modules["pandas"].isna(labels))
    # NaN and NaT differ from themselves.
    return np.array([label is None or bool(label != label) for label in labels], bool)


def _bounds_of_sorted(labels: np.ndarray) -> np.ndarray | None:
    """Where each label begins and the last one ends; None if they are not sorted."""
    if labels.dtype.kind == "O":
        return None
    kernels, flags = load_backend("auto"), labels.flags
    is_plain = flags.c_contiguous and flags.aligned and labels.dtype.isnative
    if is_plain and has_order_kernels(kernels):
        bounds = kernels.label_bounds(labels)
        if bounds is None or labels.dtype.char in COMPARED:
            return bounds
        firsts = labels[bounds[:-1]]
        return bounds if (firsts[1:] > firsts[:-1]).all() else None
    ends = np.flatnonzero(labels[1:] != labels[:-1]) + 1
    if not (labels[ends] > labels[ends - 1]).all():
        return None
    return np.concatenate([[0], ends, [len(labels)]] if len(labels) else [[0]]).astype(np.int64)


def _joint_codes(columns: list[np.ndarray]) -> tuple[np.ndarray, int]:
    """Whole numbers that are in the order of the keys, and how many there may be."""
    codes, count = _codes(columns[0])
    for column in columns[1:]:
        more, size = _codes(column)
        if count * size > DENSE_CODES * len(codes) + 1024:
            codes, count = _ranks(codes)
        codes, count = codes * size + more, count * size
    return _ranks(codes) if count > DENSE_CODES * len(codes) + 1024 else (codes, count)


def _codes(labels: np.ndarray) -> tuple[np.ndarray, int]:
    if labels.dtype.kind == "b":
        return labels.astype(np.int64), 2
    if labels.dtype.kind in "mM":
        labels = labels.astype(labels.dtype.newbyteorder("=")).view(np.int64)
    if labels.dtype.kind in "iu" and len(labels):
        low, high = int(labels.min()), int(labels.max())
        if high - low < DENSE_CODES * len(labels) + 1024:
            # Differences of signed numbers may not fit into their own type, such as 127 - -128.
            wide = labels.astype(np.int64) if labels.dtype.kind == "i" else labels
            return (wide - wide.dtype.type(low)).astype(np.int64), high - low + 1
    if labels.dtype.kind == "O":
        return _codes_of_objects(labels)
    return _ranks(labels)


def _ranks(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """The rank of each label among the different ones, and how many there are."""
    if "pandas" in sys.modules and labels.dtype.isnative and labels.dtype.char in COMPARED + "U":
        codes, values = sys.modules["pandas"].factorize(labels, sort=True)
        return np.asarray(codes, np.int64), len(values)
    values, codes = np.unique(labels, return_inverse=True)
    return codes.astype(np.int64, copy=False), len(values)


def _codes_of_objects(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """In the order of the labels where they have one, else in that of their first appearance."""
    codes, values = _hashed(labels)
    try:
        order = sorted(range(len(values)), key=values.__getitem__)
        # Frozen sets, for example, have an order in which most of them are not before each other.
        is_ordered = all(values[k] < values[after] for k, after in pairwise(order))
    except (TypeError, ValueError):
        is_ordered = False
    if not is_ordered:
        return codes, len(values)
    ranks = np.empty(len(values), np.int64)
    ranks[order] = np.arange(len(values))
    return ranks[codes], len(values)


def _hashed(labels: np.ndarray) -> tuple[np.ndarray, list]:
    """Numbers of labels in the order of their first appearance, and the different ones."""
    try:
        if "pandas" in sys.modules:
            codes, values = sys.modules["pandas"].factorize(labels)
            return np.asarray(codes, np.int64), values.tolist()
        seen: dict = {}
        own = [seen.setdefault(label, len(seen)) for label in labels]
    except TypeError:
        culprit = next(label for label in labels if not _has_hash(label))
        raise ValueError(f"groups has a label without a hash: {shown(culprit)}.") from None
    return np.array(own, np.int64), list(seen)


def _has_hash(label) -> bool:
    try:
        hash(label)
    except TypeError:  # also of a tuple with a list in it
        return False
    return True


def _counting_sort(codes: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows in the order of their codes, and where each code that occurs begins and ends."""
    kernels = load_backend("auto")
    if has_order_kernels(kernels):
        order, starts = kernels.sort_codes(np.ascontiguousarray(codes), count)
        return order, starts[np.append(True, starts[1:] > starts[:-1])]
    # SciPy's conversion of CSC to CSR, with one number per column, is a stable counting sort.
    n = len(codes)
    index = np.int32 if max(n, count) < 2**31 else np.int64
    columns = csc_array(
        (np.zeros(n, np.int8), codes.astype(index), np.arange(n + 1, dtype=index)), (count, n)
    )
    rows = columns.tocsr()
    bounds = np.unique(rows.indptr).astype(np.int64)
    return rows.indices.astype(np.int64), bounds
