"""The door: what the user gave becomes what the kernels trust, or a clear ValueError.

The checks here cost no read of X: that X is finite shows in the residuals that a kernel makes
of it, so `explain_non_finite` looks for the culprit only once a result is not finite.
CSR indices alone are read, since a kernel would otherwise reach outside its arrays.
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np

from .kernels.contract import CSR, Matrix
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


def as_float_array(value, name: str, dtype=None) -> Any:
    """`value` as a float32 or float64 array in native byte order and aligned.

    float32 and float64 arrays pass without a copy; integers and booleans become float64,
    float16 becomes float32, big-endian numbers are converted. Arrays on a GPU stay there.
    """
    if type(value) is np.ndarray and value.dtype in FLOATS and value.flags.aligned:
        array = value
    elif is_device_array(value):
        return _device_floats(value, name, dtype)
    else:
        array = _convert(value, name)
    if dtype is not None and array.dtype != dtype:
        array = array.astype(dtype)
    return array


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
    """`value`, copied to the host if it is on a GPU: what is small works there."""
    return np.asarray(as_device_array(value, name)) if is_device_array(value) else value


def all_finite(result) -> bool:
    """Whether all of a result is finite; on a GPU, its own library looks."""
    if not is_device_array(result):
        return bool(np.isfinite(result).all())
    return bool(np.isfinite(extremes(result)).all())


def check_same_place(X, **others) -> None:
    """Raise ValueError where X is on a GPU and one of the others is not, or the other way round."""
    on_device = lives_on_device(X)
    for name, array in others.items():
        if array is not None and is_device_array(array) != on_device:
            here, there = ("a GPU", "the host") if on_device else ("the host", "a GPU")
            raise ValueError(f"X is on {here} but {name} is on {there}: both must be on one.")


def _convert(value, name: str) -> np.ndarray:
    if hasattr(value, "toarray"):
        raise ValueError(f"{name} must be a dense array, got a sparse {type(value).__name__}.")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} must be an array of numbers: {error}") from error
    kind = array.dtype.kind
    if kind == "f" and array.dtype.itemsize <= 4:
        dtype: np.dtype = np.dtype(np.float32)
    elif kind in "fbiu":
        dtype = np.dtype(np.float64)
    elif kind == "O":
        try:
            return array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} must hold real numbers, got objects: {error}") from error
    else:
        raise ValueError(f"{name} must hold real numbers, got dtype {array.dtype}.")
    return np.require(array, dtype=dtype, requirements="A")


def as_matrix(X, name: str = "X") -> Matrix:
    """X as the contract's matrix: an ndarray of two dimensions, or CSR with checked indices."""
    if type(X) is not np.ndarray and hasattr(X, "tocsr"):
        X = as_device_csr(X, name) if is_device_sparse(X) else as_csr(X, name)
    else:
        X = as_float_array(X, name)
        if X.ndim != 2:
            raise ValueError(
                f"{name} must have 2 dimensions (rows, features), got shape {X.shape}."
                + (" Reshape one feature with X.reshape(-1, 1)." if X.ndim == 1 else "")
            )
    if X.shape[0] == 0 or X.shape[1] == 0:
        raise ValueError(
            f"{name} must have at least one row and one feature, got shape {tuple(X.shape)}."
        )
    return X


def as_csr(X, name: str = "X") -> CSR:
    """A SciPy sparse matrix or array as `CSR`; the user's own matrix is left as it is."""
    if len(X.shape) != 2:
        raise ValueError(f"{name} must have 2 dimensions (rows, features), got shape {X.shape}.")
    check_sparse_indices(X, name)
    X = X.tocsr()
    data = as_float_array(X.data, name)
    indices, indptr = np.asarray(X.indices), np.asarray(X.indptr)
    _check_csr_structure(indices, indptr, len(data), X.shape, name)
    if not X.has_canonical_format:
        X = X.copy()
        X.data = data.copy()
        X.sum_duplicates()
        data, indices, indptr = X.data, X.indices, X.indptr
    if indices.dtype not in (np.int32, np.int64) or indices.dtype != indptr.dtype:
        indices, indptr = indices.astype(np.int64), indptr.astype(np.int64)
    return CSR(
        np.ascontiguousarray(data),
        np.ascontiguousarray(indices),
        np.ascontiguousarray(indptr),
        (int(X.shape[0]), int(X.shape[1])),
    )


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
    _check_csr_structure(np.zeros(0, int), np.asarray(parts[2]), X.nnz, shape, name, X.nnz)
    return CSR(*parts, shape)  # type: ignore[arg-type]


def check_sparse_indices(X, name: str = "X") -> None:
    """Refuse CSC whose indices lie outside, before SciPy converts it: it would write there.

    Anything else passes: CSR is checked when it becomes `CSR`, other formats by SciPy.
    """
    if getattr(X, "format", None) == "csc" and len(X.shape) == 2:
        try:
            X.check_format(full_check=True)
        except ValueError as error:
            raise ValueError(f"{name}: CSC indices or indptr are not valid: {error}") from error


def _check_csr_structure(indices, indptr, nnz, shape, name, n_indices=None) -> None:
    n_indices = len(indices) if n_indices is None else n_indices
    if indices.dtype.kind not in "iu" or indptr.dtype.kind not in "iu":
        raise ValueError(f"{name}: CSR indices and indptr must be integers.")
    if len(indptr) != shape[0] + 1 or indptr[0] != 0 or np.any(indptr[1:] < indptr[:-1]):
        raise ValueError(
            f"{name}: CSR indptr must have n_rows + 1 = {shape[0] + 1} entries, "
            f"start at 0 and never decrease."
        )
    if indptr[-1] > min(nnz, n_indices):
        raise ValueError(
            f"{name}: CSR indptr ends at {indptr[-1]}, beyond the {min(nnz, n_indices)} "
            f"entries of data and indices."
        )
    if len(indices) and (indices.min() < 0 or indices.max() >= shape[1]):
        raise ValueError(
            f"{name}: CSR column indices must lie in [0, {shape[1]}), got "
            f"{indices.min()} to {indices.max()}."
        )


def as_targets(y, n: int, dtype, name: str = "y") -> np.ndarray:
    """y as (n, n_targets) of X's dtype; a view where it has that dtype already."""
    y = as_float_array(y, name, dtype)
    if y.ndim not in (1, 2) or y.shape[0] != n:
        raise ValueError(
            f"{name} must have shape ({n},) or ({n}, n_targets) to go with the {n} rows of "
            f"{'X' if name == 'y' else 'A'}, got shape {y.shape}."
        )
    if y.ndim == 1:
        return y[:, None]
    if y.shape[1] == 0:
        raise ValueError(f"{name} must have at least one target, got shape {y.shape}.")
    return y


def as_coefficients(coef, intercept, d: int, dtype=np.float64) -> tuple[np.ndarray, np.ndarray]:
    """coef as (n_targets, d), C-contiguous; intercept as float64 (n_targets,); both checked."""
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


def as_sample_weight(sample_weight, n: int, dtype) -> np.ndarray | None:
    """Weights as a contiguous (n,) array of X's dtype: finite, none negative, not all zero."""
    if sample_weight is None:
        return None
    s = as_float_array(sample_weight, "sample_weight", dtype)
    if s.shape != (n,):
        raise ValueError(f"sample_weight must have shape ({n},), got shape {s.shape}.")
    low, high = extremes(s) if isinstance(s, DeviceArray) else (s.min(), s.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("sample_weight contains NaN or infinity.")
    if low < 0:
        raise ValueError(f"sample_weight must not be negative, got {low}.")
    if high == 0:
        raise ValueError("sample_weight is all zero: there is nothing to fit.")
    if isinstance(s, DeviceArray):
        return converted(sample_weight, "sample_weight", dtype)  # type: ignore[return-value]
    return np.ascontiguousarray(s)


def check_real(value, name: str, low: float, high: float = np.inf, *, open_low=False) -> float:
    """`value` as a float in [low, high] (or (low, high]), else ValueError."""
    if type(value) is float or (isinstance(value, Real) and not isinstance(value, bool)):
        number = float(value)
        if (low < number if open_low else low <= number) and number <= high and number < np.inf:
            return number
    bracket = "(" if open_low else "["
    end = "inf)" if high == np.inf else f"{high:g}]"
    raise ValueError(f"{name} must be a number in {bracket}{low:g}, {end}, got {value!r}.")


def check_whole(value, name: str, low: int) -> int:
    """`value` as an int >= low, else ValueError."""
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= low:
        return int(value)
    raise ValueError(f"{name} must be a whole number >= {low}, got {value!r}.")


def check_choice(value, name: str, allowed) -> str:
    """`value` if it is one of `allowed`, else ValueError naming them."""
    if value in allowed:
        return value
    listed = ", ".join(repr(choice) for choice in allowed)
    raise ValueError(f"{name} must be one of {listed}, got {value!r}.")


def explain_non_finite(**arrays) -> None:
    """Raise ValueError for the first of these named arrays with NaN or infinity in it."""
    for name, array in arrays.items():
        if array is None:
            continue
        values = array.data if isinstance(array, CSR) else array
        values = values if isinstance(values, DeviceArray) else np.asarray(values)
        if isinstance(array, CSR):
            ends = np.asarray(array.indptr)
            values = values[int(ends[0]) : int(ends[-1])]
        # A chunk at a time: np.isfinite of all of X would allocate a byte for each number.
        for start in range(0, len(values), 65536) if values.ndim else ():
            chunk = values[start : start + 65536]
            if not np.isfinite(chunk).all():
                kind = "NaN" if np.isnan(chunk).any() else "infinity"
                raise ValueError(f"{name} contains {kind} (dtype {values.dtype}).")
        if values.ndim == 0 and not np.isfinite(values):
            raise ValueError(f"{name} is {values}.")
