"""Input validation: arguments become arrays that the kernels trust, or a clear ValueError.

An X of any real dtype passes as it is, without a copy. Lists and frames are converted to arrays
once, and other sparse formats to CSR.

The checks do not read X: whether X is finite shows in the residuals that a kernel computes from
it, so that `explain_non_finite` searches for the cause only once a result is not finite. The
exceptions are CSR indices, since a kernel would otherwise read outside of its arrays, and arrays of
objects, since each may be anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np

from ._sparse_structure import LOOKED_AT, check_indptr, check_range, check_structure, has_duplicates
from .kernels.contract import CSR, Matrix, working_dtype
from .kernels.device import (
    DeviceArray,
    as_device_array,
    converted,
    extremes,
    is_device_array,
    is_device_sparse,
    lives_on_device,
)

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_NO_NUMBERS = (bool, np.timedelta64)  # Python and NumPy regard these as whole numbers
_WHOLE_LIMIT = 2**63  # loops and kernels count in 64 bits


class NotNumbers(ValueError, TypeError):
    """An argument is not an array of real numbers.

    It is a ValueError, like all errors of validation, and also a TypeError, which `float` raises
    for some such arguments and which scikit-learn's estimator checks expect.
    """


def as_float_array(value, name: str, dtype=None) -> Any:
    """`value` as a float32 or float64 array in native byte order and aligned.

    float32 and float64 arrays pass without a copy; float16 and bfloat16 become float32, all other
    real numbers float64, big-endian numbers are converted. Arrays on a GPU stay there.
    """
    if type(value) is np.ndarray and value.dtype in FLOATS and value.flags.aligned:
        array = value
    elif is_device_array(value):
        return _device_floats(value, name, dtype)
    else:
        array = as_real_array(value, name)
        with np.errstate(over="ignore"):  # long doubles beyond float64 become infinite
            array = np.require(array, working_dtype(array.dtype), "A")
    if dtype is not None and array.dtype != dtype:
        array = array.astype(dtype)
    return array


def as_real_array(value, name: str) -> np.ndarray:
    """`value` as an array of real numbers of any dtype; an array is never copied.

    Objects that hold numbers pass too, and become float64 where `value` was not an array.
    """
    array = as_array(value, name, "an array of numbers")
    if array.dtype.kind == "O":
        _check_objects(array, name, getattr(value, "columns", None))
        return array if isinstance(value, np.ndarray) else array.astype(np.float64)
    _check_real_dtype(array.dtype, name)
    return array


def as_array(value, name: str, what: str = "an array") -> np.ndarray:
    """`value` as an array of any dtype, which is not copied if it is one; otherwise ValueError.

    It must be dense and have no masked elements.
    """
    if hasattr(value, "toarray"):
        raise ValueError(f"{name} must be a dense array, got a sparse {type(value).__name__}.")
    refuse_masked(value, name)
    try:
        return np.asarray(value)
    except MemoryError:
        raise
    except Exception as error:  # a foreign __array__ may raise anything
        raise ValueError(f"{name} must be {what}: {error}") from error


def refuse_masked(value, name: str) -> None:
    """Refuse masked arrays: NumPy drops masks silently, and masked values would be fitted."""
    parts = value if isinstance(value, (list, tuple)) else (value,)
    for part in parts:
        if isinstance(part, np.ma.MaskedArray) and np.ma.is_masked(part):
            raise ValueError(
                f"{name} has masked elements: fill them, or drop their rows (also where "
                f"sample_weight is 0)."
            )


def _check_real_dtype(dtype: np.dtype, name: str) -> None:
    if dtype.kind in "fbiu" or dtype.name == "bfloat16":
        return
    advice = {
        "M": ". Give times as numbers of a fixed unit: (t - t0) / np.timedelta64(1, 'D').",
        "m": ". Give durations as numbers of a fixed unit: t / np.timedelta64(1, 'D').",
        "c": ". Complex data not supported.",
        "U": f": could not convert strings to numbers unasked, use {name}.astype(float)"
        + (", or a classifier if they are labels." if name == "y" else "."),
        "S": f": could not convert bytes to numbers unasked, use {name}.astype(float).",
    }.get(dtype.kind, ".")
    raise NotNumbers(f"{name} must hold real numbers, got dtype {dtype}{advice}")


def _check_objects(array: np.ndarray, name: str, columns=None) -> None:
    """Refuse objects that are not real numbers, or are beyond float64's range."""
    start = 0
    for chunk in _chunks(array):
        for kind in set(map(type, chunk.flat)):
            if not _is_real_type(kind):
                at = next(place for place, item in np.ndenumerate(chunk) if type(item) is kind)
                where = _place((start + at[0], *at[1:]), columns)
                raise NotNumbers(
                    f"{name} must hold real numbers, got objects: {_why_no_number(chunk[at], name)}"
                    + (f" It is in {where}." if array.ndim else "")
                )
        start += len(chunk)
        try:
            chunk.astype(np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise NotNumbers(f"{name} must hold real numbers, got objects: {error}.") from error


def _is_real_type(kind: type) -> bool:
    if issubclass(kind, np.generic) and not issubclass(kind, Real):
        dtype = np.dtype(kind)
        return dtype.kind in "fbiu" or dtype.name == "bfloat16"
    return issubclass(kind, (Real, Decimal)) and kind.__name__ != "timedelta64"


def _why_no_number(item: object, name: str) -> str:
    kind = type(item).__name__
    if item is None or kind == "NAType":
        return f"{item!r} is a missing value. Fill it, or leave its row out."
    if isinstance(item, (np.datetime64, np.timedelta64)) or hasattr(item, "isoformat"):
        return f"a {kind} has no unit. Give times as numbers of a fixed unit, such as days."
    if hasattr(item, "total_seconds"):
        return f"a {kind} has no unit. Give durations as numbers of a fixed unit, such as days."
    if isinstance(item, (str, bytes)):
        advice = {
            "X": ", or encode columns of categories, as by sklearn.preprocessing.OneHotEncoder",
            "y": ", or use a classifier if they are labels",
        }
        return f"{item!r:.40} is a {kind}. Convert it to a number first{advice.get(name, '')}."
    try:
        float(item)  # type: ignore[arg-type]
    except Exception as error:
        # Python's own message names the type. `check_dtype_object` of scikit-learn asks for it.
        return f"{error}."
    return f"a {kind} is none."


def _place(index: tuple[int, ...], columns=None) -> str:
    """Say where an element of an array is: by its row, and its column where there are several."""
    if len(index) == 1:
        return f"row {index[0]}"
    column = index[1] if columns is None else repr(columns[index[1]])
    return f"row {index[0]}, column {column}"


def _chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Views of an array, a few rows at a time."""
    if array.ndim == 0:
        yield array.reshape(1)
        return
    step = max(1, LOOKED_AT // max(1, array[:1].size))
    for start in range(0, len(array), step):
        yield array[start : start + step]


def _device_floats(value, name: str, dtype) -> DeviceArray:
    array = as_device_array(value, name)
    if array.dtype.kind not in "fbiu" or array.dtype.itemsize > 8:
        raise ValueError(f"{name} must hold real numbers, got dtype {array.dtype}.")
    if dtype is None and array.dtype in FLOATS:
        return array
    if dtype is None:
        small = array.dtype.kind == "f" and array.dtype.itemsize <= 4
        dtype = np.float32 if small else np.float64
    return array if array.dtype == dtype else converted(value, name, dtype)


def on_host(value, name: str = "array"):
    """`value`, copied to the host if it is on a GPU; for small arrays."""
    return np.asarray(as_device_array(value, name)) if is_device_array(value) else value


def all_finite(result) -> bool:
    """Whether all of a result is finite; on a GPU, the array's own library checks it."""
    if not is_device_array(result):
        return bool(np.isfinite(result).all())
    return bool(np.isfinite(extremes(result)).all())


def check_same_place(X, **others) -> None:
    """Raise ValueError where X is on a GPU and another argument is not, or the reverse."""
    on_device = lives_on_device(X)
    for name, array in others.items():
        if array is not None and is_device_array(array) != on_device:
            here, there = ("a GPU", "the host") if on_device else ("the host", "a GPU")
            raise ValueError(f"X is on {here} but {name} is on {there}: both must be on one.")


def as_matrix(X, name: str = "X", *, for_predictions: bool = False) -> Matrix:
    """X as a matrix of the contract: an ndarray of two dimensions, or CSR with checked indices.

    X may have any real dtype. Dense arrays and CSR are never copied. `for_predictions` alone, CSR
    may list a column twice in a row.
    """
    if type(X) is not np.ndarray or X.dtype not in FLOATS:
        if hasattr(X, "tocsr"):
            if is_device_sparse(X):
                return as_device_csr(X, name)
            return as_csr(X, name, for_predictions=for_predictions)
        if is_device_array(X):
            X = _device_floats(X, name, None)
        elif _is_sparse_frame(X):
            return as_csr(X.sparse.to_coo(), name, for_predictions=for_predictions)
        else:
            X = as_real_array(X, name)
    if X.ndim != 2:
        raise ValueError(
            f"{name} must have 2 dimensions (rows, features), got shape {X.shape}: expected 2D "
            f"array, got dim {X.ndim}."
            + (
                f" Reshape your data: one feature with {name}.reshape(-1, 1), one row with "
                f"{name}.reshape(1, -1)."
                if X.ndim == 1
                else ""
            )
        )
    _check_not_empty(X.shape, name)
    return X


def _check_not_empty(shape, name: str) -> None:
    n, d = shape
    if n == 0 or d == 0:
        raise ValueError(
            f"{name} must have at least one row and one feature, got shape {(n, d)}: found array "
            f"with {d if n else n} {'feature' if n else 'sample'}(s) (shape={(n, d)}) while a "
            f"minimum of 1 is required."
        )


def _is_sparse_frame(X) -> bool:
    """Whether X is a pandas DataFrame all of whose columns are sparse."""
    if not hasattr(X, "sparse") or getattr(X, "ndim", 0) != 2:
        return False
    return all(hasattr(dtype, "fill_value") for dtype in X.dtypes)


def as_csr(X, name: str = "X", *, for_predictions: bool = False) -> CSR:
    """A SciPy sparse matrix or array as `CSR`; the user's own matrix is left as it is.

    CSR passes without a copy, whatever the order of its indices. Only where a row has a column
    twice, which kernels do not allow, the numbers are added up in a copy. `predict` adds up the
    terms of such a column itself, and looking for one takes as long as the predictions.
    """
    check_structure(X, name)
    if getattr(X, "format", None) != "csr":
        try:
            X = _converted_to_csr(X, name)
        except (TypeError, ValueError, OverflowError) as error:
            if isinstance(error, NotNumbers):
                raise
            raise NotNumbers(f"{name} must hold real numbers, got objects: {error}.") from error
        check_structure(X, name)
    data = X.data
    if type(data) is not np.ndarray or data.dtype not in FLOATS:
        data = as_real_array(data, name)
    shape = int(X.shape[0]), int(X.shape[1])
    _check_not_empty(shape, name)
    # A copy, small beside the indices: no other thread can change it once it has been checked.
    indices, indptr = np.asarray(X.indices), np.array(X.indptr)
    check_indptr(indptr, shape[0], min(len(data), len(indices)), name)
    if not for_predictions and has_duplicates(indices, indptr, shape[1]):
        return _without_duplicates(data, indices, indptr, shape)
    return CSR(data, indices, indptr, shape)


def _converted_to_csr(X, name: str):
    """A matrix of another format as CSR, after its structure has been checked."""
    stored = getattr(X, "data", None)
    refuse_masked(stored, name)
    if isinstance(stored, np.ndarray) and stored.dtype != object:
        _check_real_dtype(stored.dtype, name)
    if X.dtype in FLOATS or X.dtype.kind in "biu":
        return X.tocsr()
    # SciPy does not convert float16, bfloat16 or objects.
    if X.dtype == object:
        X = X.tocoo()
        _check_objects(np.asarray(X.data), name)
    else:
        _check_real_dtype(X.dtype, name)
    return X.astype(working_dtype(X.dtype)).tocsr()


def checked_after(callback, X: Matrix):
    """The callback, with a check after each call that X's indices are still in range."""
    if callback is None or not isinstance(X, CSR) or lives_on_device(X):
        return callback

    def called(report):
        stop = callback(report)
        stored = min(len(X.data), len(X.indices))
        check_indptr(X.indptr, X.shape[0], stored, "X, changed by callback")
        indices = X.indices[: int(X.indptr[-1])]
        check_range(indices, X.shape[1], "CSR column indices", "X, changed by callback")
        return stop

    return called


def _without_duplicates(data, indices, indptr, shape) -> CSR:
    from scipy.sparse import csr_array

    X = csr_array((data.astype(working_dtype(data)), indices, indptr), shape, copy=True)
    X.sum_duplicates()
    return CSR(X.data, X.indices, X.indptr, shape)


def as_device_csr(X, name: str = "X") -> CSR:
    """A CuPy sparse matrix as `CSR` on its device."""
    X = X.tocsr()
    if not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    low, high = (0, 0) if X.nnz == 0 else extremes(X.indices)
    if low < 0 or high >= X.shape[1]:
        raise ValueError(
            f"{name}: CSR column indices must lie in [0, {X.shape[1]}), got {low:g} to {high:g}."
        )
    shape = int(X.shape[0]), int(X.shape[1])
    parts = as_device_array(X.data), as_device_array(X.indices), as_device_array(X.indptr)
    check_indptr(np.asarray(parts[2]), shape[0], X.nnz, name)
    _check_not_empty(shape, name)
    return CSR(*parts, shape)  # type: ignore[arg-type]


def as_targets_and_weights(
    X: Matrix, y, sample_weight, name: str = "y", *, some_weight: bool = True
) -> tuple[np.ndarray, np.ndarray | None]:
    """y and sample_weight in one dtype, independent of that of X.

    It is float32 if all given ones are float32 or narrower floats, and float64 otherwise, so that y
    keeps its own precision.
    """
    n = X.shape[0]
    targets = as_targets(y, n, None, name)
    s = as_sample_weight(sample_weight, n, some_weight=some_weight)
    if s is None or s.dtype == targets.dtype:
        return targets, s
    if targets.dtype == np.float64:
        return targets, as_sample_weight(sample_weight, n, np.float64, some_weight=some_weight)
    return as_targets(y, n, np.float64, name), s


def as_targets(y, n: int, dtype, name: str = "y") -> np.ndarray:
    """y as (n, n_targets) of this dtype (None: its own); a view where possible."""
    y = as_float_array(y, name, dtype)
    if y.ndim not in (1, 2) or y.shape[0] != n:
        raise ValueError(
            f"{name} must have shape ({n},) or ({n}, n_targets) to go with the {n} rows of "
            f"{'X' if name == 'y' else 'A'}, got shape {y.shape}"
            + (": inconsistent numbers of samples." if y.ndim in (1, 2) else ".")
        )
    if y.ndim == 1:
        return y[:, None]
    if y.shape[1] == 0:
        raise ValueError(f"{name} must have at least one target, got shape {y.shape}.")
    return y


def as_coefficients(coef, intercept, d: int, dtype=np.float64) -> tuple[np.ndarray, np.ndarray]:
    """coef as C-contiguous (n_targets, d), and intercept as float64 (n_targets,), both checked."""
    coef = as_float_array(on_host(coef), "coef", dtype)
    if coef.ndim not in (1, 2) or coef.shape[-1] != d or coef.shape[0] == 0:
        raise ValueError(
            f"coef must have shape ({d},) or (n_targets, {d}) to go with the {d} features of X, "
            f"got shape {coef.shape}."
        )
    coef = coef if coef.ndim == 2 else coef[None, :]
    if not coef.flags.c_contiguous:
        coef = np.ascontiguousarray(coef)
    if type(intercept) is float and coef.shape[0] == 1:
        return coef, np.array([intercept])
    b = as_float_array(on_host(intercept), "intercept", np.float64)
    if b.shape not in ((), (coef.shape[0],)) and not (b.shape == (1,)):
        raise ValueError(
            f"intercept must be a number or have shape ({coef.shape[0]},), got shape {b.shape}."
        )
    if b.shape != (coef.shape[0],):
        b = np.full(coef.shape[0], float(b.reshape(())) if b.size == 1 else b)
    return coef, np.ascontiguousarray(b)


def as_sample_weight(
    sample_weight, n: int, dtype=None, *, some_weight: bool = True
) -> np.ndarray | None:
    """Weights as a contiguous array (n,): finite, none negative, and not all zero.

    A number is the weight of every row. Without `some_weight`, all may be zero.
    """
    if sample_weight is None:
        return None
    s = as_float_array(sample_weight, "sample_weight", dtype)
    if s.ndim == 0:
        s = np.full(n, np.asarray(s))
    if s.shape != (n,):
        raise ValueError(f"sample_weight must have shape ({n},), got shape {s.shape}.")
    low, high = extremes(s) if isinstance(s, DeviceArray) else (s.min(), s.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("sample_weight contains NaN or infinity.")
    if low < 0:
        raise ValueError(f"sample_weight must not be negative, got {low}.")
    if high == 0 and some_weight:
        raise ValueError("sample_weight is all zero: there is nothing to fit.")
    if isinstance(s, DeviceArray):
        return converted(sample_weight, "sample_weight", s.dtype)  # type: ignore[return-value]
    return np.ascontiguousarray(s)


def check_real(value, name: str, low: float, high: float = np.inf, *, open_low=False) -> float:
    """`value` as a float in [low, high] (or (low, high]), else ValueError."""
    if type(value) is float or (isinstance(value, Real) and not isinstance(value, _NO_NUMBERS)):
        try:
            number = float(value)
        except OverflowError:  # a whole number or fraction beyond float64
            number = np.inf if bool(value > 0) else -np.inf  # type: ignore[operator]
        if (low < number if open_low else low <= number) and number <= high and number < np.inf:
            return number
    bracket = "(" if open_low else "["
    end = "inf)" if high == np.inf else f"{high:g}]"
    raise ValueError(f"{name} must be a number in {bracket}{low:g}, {end}, got {shown(value)}.")


def check_flag(value, name: str) -> bool:
    """`value` as a bool, else ValueError."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise ValueError(f"{name} must be True or False, got {shown(value)}.")


def is_whole(value) -> bool:
    """Whether `value` is a whole number by its type, be it NumPy's."""
    return type(value) is int or (
        isinstance(value, Integral) and not isinstance(value, _NO_NUMBERS)
    )


def check_whole(value, name: str, low: int, *, high: int | None = _WHOLE_LIMIT) -> int:
    """`value` as an int with low <= value < high, else ValueError; None is no upper limit."""
    if is_whole(value):
        number = int(value)
        if number >= low and (high is None or number < high):
            return number
        if number >= low:
            raise ValueError(
                f"{name} must be a whole number >= {low} and below {high}, got {shown(value)}."
            )
    raise ValueError(f"{name} must be a whole number >= {low}, got {shown(value)}.")


def shown(value) -> str:
    """repr, also of whole numbers with thousands of digits, which Python refuses to print."""
    try:
        text = repr(value)
    except ValueError:
        return f"a {type(value).__name__} of very many digits"
    return text if len(text) <= 200 else f"{text[:200]}..."


def check_n_jobs(value) -> int | None:
    """`value` as a number of threads, negative to count down from all processors, or None."""
    if value is None or (is_whole(value) and value != 0):
        return None if value is None else int(value)
    raise ValueError(
        f"n_jobs must be None, a whole number >= 1, or negative to count down from all "
        f"processors (-1), got {shown(value)}."
    )


def check_choice(value, name: str, allowed) -> str:
    """`value` if it is one of `allowed`, else ValueError naming them."""
    for choice in allowed:
        if value is choice or (isinstance(value, str) and value == choice):
            return choice
    listed = ", ".join(repr(choice) for choice in allowed)
    raise ValueError(f"{name} must be one of {listed}, got {shown(value)}.")


def explain_non_finite(**arrays) -> None:
    """Raise ValueError for the first of these named arrays with NaN or infinity in it."""
    for name, array in arrays.items():
        if array is None:
            continue
        is_few = type(array) is np.ndarray and array.size <= LOOKED_AT
        if is_few and array.dtype in FLOATS and np.isfinite(array).all():
            continue
        values = array.data if isinstance(array, CSR) else array
        values = values if isinstance(values, DeviceArray) else np.asarray(values)
        if isinstance(array, CSR):
            ends = np.asarray(array.indptr)
            values = values[int(ends[0]) : int(ends[-1])]
        if isinstance(values, np.ndarray) and values.dtype.kind in "biu":
            continue
        if values.ndim == 0 and not np.isfinite(values):
            raise ValueError(f"{name} is {values}.")
        # A chunk at a time: np.isfinite of all of X would allocate a byte per number.
        parts = _chunks(values) if isinstance(values, np.ndarray) else _slices(values)
        start = 0
        for part in parts:
            chunk = part if part.dtype in FLOATS else _as_float64(part)
            if not np.isfinite(chunk).all():
                kind = "NaN" if np.isnan(chunk).any() else "infinity"
                wrong = np.isnan(chunk) if kind == "NaN" else ~np.isfinite(chunk)
                first = np.unravel_index(int(wrong.argmax()), wrong.shape)
                where = _where(array, (start + int(first[0]), *map(int, first[1:])))
                raise ValueError(
                    f"{name} contains {kind} (dtype {values.dtype}), first in {where}."
                    f"{_ADVICE.get((name, kind), '')}"
                )
            start += len(part)


_ADVICE = {
    (name, "NaN"): " Leave such rows out, or fill the gaps, as by sklearn.impute.SimpleImputer."
    for name in ("X", "A")
} | {(name, "NaN"): " Leave such rows out." for name in ("y", "b")}


def _where(array, index: tuple[int, ...]) -> str:
    """Say where an element of an array, or of the stored numbers of CSR, is."""
    if isinstance(array, CSR):
        indptr = np.asarray(array.indptr)
        stored = index[0] + int(indptr[0])
        row = int(np.searchsorted(indptr, stored, side="right")) - 1
        index = row, int(np.asarray(array.indices[stored : stored + 1])[0])
    return _place(index[:1] if array.shape[1:] == (1,) else index)


def _slices(values: DeviceArray) -> Iterator[np.ndarray]:
    for start in range(0, len(values), LOOKED_AT):
        yield np.asarray(values[start : start + LOOKED_AT])


def _as_float64(chunk: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return chunk.astype(np.float64)
