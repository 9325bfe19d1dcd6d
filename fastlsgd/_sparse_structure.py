"""Checks of the structure of sparse matrices, before native code follows their indices.

SciPy's conversions and our kernels trust the index arrays of a matrix, and a single wrong number
among them can crash the process. SciPy checks part of them when a matrix is made, but the arrays
may be changed later. Its flags (`has_canonical_format`, `has_sorted_indices`) are claims, not
proofs, so that nothing here relies on them.

Cost: one read of the indices, in chunks, at about 0.5 ns per index. Unsorted rows are allowed; they
cost a sort of each chunk of rows, to find out whether a column occurs twice in a row.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

__all__ = ["check_indptr", "check_range", "check_structure", "has_duplicates"]

LOOKED_AT = 65536  # indices checked together, so that temporaries stay in cache


def check_structure(X: Any, name: str = "X") -> None:
    """Raise ValueError if the parts of a SciPy sparse matrix do not fit together.

    Of a format that is not SciPy's nothing is known, and nothing is said.
    """
    if len(X.shape) != 2:
        raise ValueError(f"{name} must have 2 dimensions (rows, features), got shape {X.shape}.")
    check = _CHECKS.get(getattr(X, "format", None))
    if check is not None:
        check(X, name)


def _check_csr(X, name: str) -> None:
    data = X.data
    if type(data) is not np.ndarray or data.ndim != 1:
        _one_dimension(data, "CSR", name)
    _check_compressed(X, "CSR", "column", X.shape, len(data), name)


def _check_csc(X, name: str) -> None:
    _one_dimension(X.data, "CSC", name)
    try:
        _check_compressed(X, "CSC", "row", X.shape[::-1], len(X.data), name)
    except ValueError as error:
        detail = str(error).removeprefix(f"{name}: ")
        raise ValueError(f"{name}: CSC indices or indptr are not valid: {detail}") from error


def _check_bsr(X, name: str) -> None:
    data = _stored(X.data, "BSR", name)
    if data.ndim != 3:
        raise ValueError(f"{name}: BSR data must have 3 dimensions, got shape {data.shape}.")
    height, width = data.shape[1:]
    if not (height and width) or X.shape[0] % height or X.shape[1] % width:
        raise ValueError(
            f"{name}: BSR blocks of shape {(height, width)} do not divide shape {X.shape}."
        )
    blocks = X.shape[0] // height, X.shape[1] // width
    _check_compressed(X, "BSR", "block column", blocks, data.shape[0], name)


def _check_compressed(X, kind: str, what: str, shape, n_stored: int, name: str) -> None:
    """Check indptr and indices of CSR, CSC or BSR; `shape` is (slices, entries of a slice)."""
    indices, indptr = X.indices, X.indptr
    if not (isinstance(indices, np.ndarray) and isinstance(indptr, np.ndarray)):
        raise ValueError(f"{name}: {kind} indices and indptr must be arrays of integers.")
    check_indptr(indptr, shape[0], min(n_stored, indices.size), name, kind)
    if indices.dtype.kind not in "iu" or indices.ndim != 1:
        raise ValueError(f"{name}: {kind} indices and indptr must be integers.")
    check_range(indices[: int(indptr[-1])], shape[1], f"{kind} {what} indices", name)


def check_indptr(indptr: np.ndarray, n: int, n_stored: int, name: str, kind: str = "CSR") -> None:
    """Check the ends of the rows: one per row, non-decreasing, within the stored numbers."""
    if indptr.dtype.kind not in "iu" or indptr.ndim != 1:
        raise ValueError(f"{name}: {kind} indices and indptr must be integers.")
    if len(indptr) != n + 1 or indptr[0] != 0 or _falls(indptr):
        raise ValueError(
            f"{name}: {kind} indptr must have {n} + 1 = {n + 1} entries, start at 0 and never "
            f"decrease."
        )
    if indptr[-1] > n_stored:
        raise ValueError(
            f"{name}: {kind} indptr ends at {indptr[-1]}, beyond the {n_stored} entries of data "
            f"and indices."
        )


def _falls(numbers: np.ndarray) -> bool:
    for start in range(0, len(numbers) - 1, LOOKED_AT):
        part = numbers[start : start + LOOKED_AT + 1]
        if (part[1:] < part[:-1]).any():
            return True
    return False


def _check_coo(X, name: str) -> None:
    _one_dimension(X.data, "COO", name)
    # Before SciPy 1.13 there were only row and col.
    coords = X.coords if hasattr(X, "coords") else (X.row, X.col)
    if not isinstance(coords, (tuple, list)) or len(coords) != 2:
        raise ValueError(f"{name}: COO coords must be a pair of arrays, got {coords!r:.200}.")
    for what, places, size in zip(("row", "column"), coords, X.shape, strict=True):
        places = np.asarray(places)
        if places.dtype.kind not in "iu" or places.shape != np.asarray(X.data).shape:
            raise ValueError(
                f"{name}: COO {what} indices must be integers, one for each of the "
                f"{len(X.data)} stored numbers, got dtype {places.dtype} and shape {places.shape}."
            )
        check_range(places, size, f"COO {what} indices", name)


def _check_dia(X, name: str) -> None:
    data, offsets = np.asarray(X.data), np.asarray(X.offsets)
    if data.ndim != 2 or offsets.shape != data.shape[:1] or offsets.dtype.kind not in "iu":
        raise ValueError(
            f"{name}: DIA data must have a row for each of the offsets, which must be integers, "
            f"got shapes {data.shape} and {offsets.shape}."
        )
    n, d = X.shape
    if offsets.size and (offsets.min() <= -n or offsets.max() >= d):
        raise ValueError(
            f"{name}: DIA offsets must lie in ({-n}, {d}), got {offsets.min()} to {offsets.max()}."
        )
    if len(np.unique(offsets)) != len(offsets):
        raise ValueError(f"{name}: DIA offsets must differ from each other.")


def _check_lil(X, name: str) -> None:
    if not len(X.rows) == len(X.data) == X.shape[0]:
        raise ValueError(
            f"{name}: LIL rows and data must have {X.shape[0]} lists, got {len(X.rows)} and "
            f"{len(X.data)}."
        )
    for i, (columns, numbers) in enumerate(zip(X.rows, X.data, strict=True)):
        if not isinstance(columns, list) or not isinstance(numbers, list):
            raise ValueError(f"{name}: LIL row {i} is not a pair of lists.")
        if len(columns) != len(numbers):
            raise ValueError(
                f"{name}: LIL row {i} has {len(columns)} columns for {len(numbers)} numbers."
            )
        if columns:
            check_range(_whole(columns, f"LIL row {i}", name), X.shape[1], f"LIL row {i}", name)


def _check_dok(X, name: str) -> None:
    keys = list(X.keys())
    if not keys:
        return
    places = _whole(keys, "DOK keys", name)
    if places.ndim != 2 or places.shape[1] != 2:
        raise ValueError(f"{name}: DOK keys must be pairs of row and column.")
    check_range(places[:, 0], X.shape[0], "DOK row indices", name)
    check_range(places[:, 1], X.shape[1], "DOK column indices", name)


_CHECKS: dict[Any, Any] = {
    "csr": _check_csr,
    "csc": _check_csc,
    "bsr": _check_bsr,
    "coo": _check_coo,
    "dia": _check_dia,
    "lil": _check_lil,
    "dok": _check_dok,
}


def _stored(data, kind: str, name: str) -> np.ndarray:
    """The stored numbers, checked to be an array, as SciPy's conversions assume."""
    if not isinstance(data, np.ndarray):
        raise ValueError(f"{name}: {kind} data must be an array, got type {type(data).__name__}.")
    return data


def _one_dimension(data, kind: str, name: str) -> None:
    data = _stored(data, kind, name)
    if data.ndim != 1:
        raise ValueError(f"{name}: {kind} data must have 1 dimension, got shape {data.shape}.")


def _whole(places: list, what: str, name: str) -> np.ndarray:
    try:
        array = np.asarray(places)
    except ValueError as error:
        raise ValueError(f"{name}: {what} must be integers: {error}") from error
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name}: {what} must be integers, got dtype {array.dtype}.")
    return array


def check_range(indices: np.ndarray, size: int, what: str, name: str) -> None:
    low, high = 0, -1
    for start in range(0, len(indices), LOOKED_AT):
        part = indices[start : start + LOOKED_AT]
        low, high = min(low, int(part.min())), max(high, int(part.max()))
    if low < 0 or high >= size:
        raise ValueError(f"{name}: {what} must lie in [0, {size}), got {low} to {high}.")


def has_duplicates(indices: np.ndarray, indptr: np.ndarray, n_columns: int) -> bool:
    """Whether a column occurs twice in a row of CSR, whose indices are known to be in range."""
    return not _all_sorted(indices, indptr) and _any_twice(indices, indptr, n_columns)


def _all_sorted(indices: np.ndarray, indptr: np.ndarray) -> bool:
    """Whether the indices of each row are strictly increasing: the common case, and quick to check.

    SciPy has a loop for this, which reads the indices themselves. It exists if X is SciPy's.
    """
    if indices.dtype == indptr.dtype and indices.dtype.char in "ilq" and indices.dtype.isnative:
        loops = sys.modules.get("scipy.sparse._sparsetools")
        ask = getattr(loops, "csr_has_canonical_format", None)
        if ask is not None and indices.flags.c_contiguous and indptr.flags.c_contiguous:
            return bool(ask(len(indptr) - 1, indptr, indices))
    end = int(indptr[-1])
    for begin in range(0, end - 1, LOOKED_AT):
        part = indices[begin : min(begin + LOOKED_AT + 1, end)]
        rises = part[1:] > part[:-1]
        # The first index of a row may be any.
        bounds = np.array([begin + 1, begin + len(part)], dtype=indptr.dtype)
        first, last = indptr.searchsorted(bounds)
        rises[indptr[first:last] - np.array(begin + 1, indptr.dtype)] = True
        if not rises.all():
            return False
    return True


def _any_twice(indices: np.ndarray, indptr: np.ndarray, n_columns: int) -> bool:
    row, n = 0, len(indptr) - 1
    while row < n:
        begin = int(indptr[row])
        limit = np.array(min(begin + LOOKED_AT, int(indptr[-1])), indptr.dtype)
        stop = int(indptr.searchsorted(limit, side="right")) - 1
        stop = min(max(stop, row + 1), row + LOOKED_AT, n)
        part = indices[begin : int(indptr[stop])]
        if stop == row + 1:
            if _comes_twice(part, n_columns):
                return True
        else:
            rows = np.repeat(np.arange(stop - row), np.diff(indptr[row : stop + 1]).astype(np.intp))
            places = rows * n_columns + part.astype(np.int64)
            places.sort()
            if (places[1:] == places[:-1]).any():
                return True
        row = stop
    return False


def _comes_twice(columns: np.ndarray, n_columns: int) -> bool:
    """Whether a column occurs twice in a single, possibly long row: marks the columns seen."""
    if len(columns) > n_columns:
        return True
    if len(columns) < LOOKED_AT:
        return len(np.unique(columns)) < len(columns)
    seen = np.zeros(n_columns, dtype=bool)
    for start in range(0, len(columns), LOOKED_AT):
        seen[columns[start : start + LOOKED_AT]] = True
    return int(np.count_nonzero(seen)) < len(columns)
