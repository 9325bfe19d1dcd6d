"""The door: what the user gave becomes what the kernels trust, or a clear ValueError.

The checks here cost no read of X: that X is finite shows in the residuals that a kernel makes
of it, so `explain_non_finite` looks for the culprit only once a result is not finite.
CSR indices alone are read, since a kernel would otherwise reach outside its arrays.
"""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np

from .kernels.contract import CSR, Matrix

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def as_float_array(value, name: str, dtype=None) -> np.ndarray:
    """`value` as a float32 or float64 array in native byte order and aligned.

    float32 and float64 arrays pass without a copy; integers and booleans become float64,
    float16 becomes float32, big-endian numbers are converted.
    """
    if type(value) is np.ndarray and value.dtype in FLOATS and value.flags.aligned:
        array = value
    else:
        array = _convert(value, name)
    if dtype is not None and array.dtype != dtype:
        array = array.astype(dtype)
    return array


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
        X = as_csr(X, name)
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


def check_sparse_indices(X, name: str = "X") -> None:
    """Refuse CSC whose indices lie outside, before SciPy converts it: it would write there.

    Anything else passes: CSR is checked when it becomes `CSR`, other formats by SciPy.
    """
    if getattr(X, "format", None) == "csc" and len(X.shape) == 2:
        try:
            X.check_format(full_check=True)
        except ValueError as error:
            raise ValueError(f"{name}: CSC indices or indptr are not valid: {error}") from error


def _check_csr_structure(indices, indptr, nnz, shape, name) -> None:
    if indices.dtype.kind not in "iu" or indptr.dtype.kind not in "iu":
        raise ValueError(f"{name}: CSR indices and indptr must be integers.")
    if len(indptr) != shape[0] + 1 or indptr[0] != 0 or np.any(indptr[1:] < indptr[:-1]):
        raise ValueError(
            f"{name}: CSR indptr must have n_rows + 1 = {shape[0] + 1} entries, "
            f"start at 0 and never decrease."
        )
    if indptr[-1] > min(nnz, len(indices)):
        raise ValueError(
            f"{name}: CSR indptr ends at {indptr[-1]}, beyond the {min(nnz, len(indices))} "
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
    coef = as_float_array(coef, "coef", dtype)
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
    b = as_float_array(intercept, "intercept", np.float64)
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
    if not np.isfinite(s).all():
        raise ValueError("sample_weight contains NaN or infinity.")
    if s.min() < 0:
        raise ValueError(f"sample_weight must not be negative, got {s.min()}.")
    if s.max() == 0:
        raise ValueError("sample_weight is all zero: there is nothing to fit.")
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
        values = array.data if isinstance(array, CSR) else np.asarray(array)
        if isinstance(array, CSR):
            values = values[array.indptr[0] : array.indptr[-1]]
        # A chunk at a time: np.isfinite of all of X would allocate a byte for each number.
        for start in range(0, len(values), 65536) if values.ndim else ():
            chunk = values[start : start + 65536]
            if not np.isfinite(chunk).all():
                kind = "NaN" if np.isnan(chunk).any() else "infinity"
                raise ValueError(f"{name} contains {kind} (dtype {values.dtype}).")
        if values.ndim == 0 and not np.isfinite(values):
            raise ValueError(f"{name} is {values}.")
