"""Ranges and selections of the rows of a matrix, for solvers that read X in chunks.

Operations that would otherwise copy X from a GPU to the host are left to the backend. Apart from
them, no solver needs to know where X is.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike
from scipy.sparse import csr_array

from .._threads import FEW_DENSE_NUMBERS, FEW_PASS_NUMBERS, pass_threads
from ..kernels.contract import (
    CSR,
    DeviceKernels,
    Kernels,
    Matrix,
    stored_in_rows,
)
from ..kernels.device import lives_on_device

# Nanoseconds of a multiply-add of dense rows, of each of the d^2 sums of a Gram matrix, and of a
# stored number in a pass.
PRODUCT, SQUARE, STORED = 0.045, 5.0, 2.0
ESTIMATE_ROWS = 4096  # rows whose numbers are counted to estimate a cost
FEW_DRAWN = 1024  # rows whose numbers are remembered
CHUNK_NUMBERS = 2**17  # numbers in a chunk of rows: a megabyte, which stays in cache
MOST_ROWS_ON_HOST = 1024  # in a chunk of `rows_on_host`


def row_slice(X: Matrix, start: int, stop: int) -> Matrix:
    """Return rows start <= i < stop, as a view."""
    if isinstance(X, CSR):
        stop = min(stop, X.shape[0])
        return CSR(X.data, X.indices, X.indptr[start : stop + 1], (stop - start, X.shape[1]))
    return X[start:stop]


def stored_numbers(X: Matrix) -> int:
    """Return how many numbers X stores."""
    if not isinstance(X, CSR):
        return X.shape[0] * X.shape[1]
    ends = np.asarray(
        X.indptr[:: max(X.shape[0], 1)]
    ).tolist()  # copies at most two numbers from a GPU
    return ends[-1] - ends[0]


def useful_threads(X: Matrix, n_targets: int, n_threads: int) -> int:
    """Return how many of these threads are useful in a pass of an exact solver over X."""
    few = FEW_PASS_NUMBERS if isinstance(X, CSR) else FEW_DENSE_NUMBERS
    return pass_threads(stored_numbers(X) * n_targets, n_threads, few)


def gram_products(X: CSR) -> float:
    """Estimate the cost of X^T X for a sparse X, in multiply-adds of dense rows.

    A product of two stored numbers takes as long as 13 of these with AVX-512, and a stored number
    as long as 65 (csrc/gram_sparse.inc).
    """
    n, d = X.shape
    if lives_on_device(X):  # whose kernels make the rows dense
        return 0.5 * n * float(d) * d
    ends = np.asarray(X.indptr)
    step = max(1, n // ESTIMATE_ROWS)
    counts = (ends[1::step] - ends[:-1:step]).astype(np.float64)
    share = stored_numbers(X) / max(counts.sum(), 1.0)
    sparse = share * (6.5 * float(counts @ counts) + 65.0 * float(counts.sum()))
    return min(0.5 * n * float(d) * d, sparse)


def sparse_gram_passes(X: CSR) -> float:
    """Estimate the cost of X^T X for a sparse X, in passes over its stored numbers."""
    sums = PRODUCT * gram_products(X) + SQUARE * float(X.shape[1]) ** 2
    return sums / (STORED * max(stored_numbers(X), 1))


def take_rows(X: Matrix, rows: np.ndarray) -> Matrix:
    """Return these rows, in this order, as a copy."""
    if not isinstance(X, CSR):
        return X[rows]
    ends = np.asarray(X.indptr)  # a copy where X is on a GPU, whose other parts stay there
    where, indptr = stored_in_rows(ends[rows], ends[rows + 1] - ends[rows])
    return CSR(X.data[where], X.indices[where], indptr, (len(rows), X.shape[1]))


def random_rows(n: int, count: int, sample_weight: np.ndarray | None, seed: int = 0) -> np.ndarray:
    """Return the sorted numbers of at most `count` random rows of positive weight.

    Rows at regular distances would see only one phase of a column that alternates. Rows of zero
    weight must be as if they were absent.

    Parameters
    ----------
    n, count : int
        How many rows there are, and how many are wanted.
    sample_weight : ndarray of shape (n,) or None
        On the host.
    seed : int
        The same seed draws the same rows.
    """
    counted = None if sample_weight is None else np.flatnonzero(sample_weight)
    available = n if counted is None else len(counted)
    if available <= count:
        return np.arange(n, dtype=np.int64) if counted is None else counted
    if count > FEW_DRAWN:
        drawn = _drawn(available, count, seed)
    else:  # a copy, since callers may change it
        drawn = _known_draws(available, count, seed).copy()
    return drawn if counted is None else counted[drawn]


def _drawn(available: int, count: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).choice(available, count, replace=False, shuffle=False)
    drawn.sort()
    return drawn


# A generator takes 30 microseconds to be seeded, and a small fit draws rows two or three times.
_known_draws = lru_cache(maxsize=64)(_drawn)


def counted_rows(
    sample_weight: np.ndarray | None, rows: np.ndarray | None = None
) -> np.ndarray | None:
    """Return those of these rows (None: all) whose weight is not zero for every target."""
    if sample_weight is None:
        return rows
    s = np.asarray(sample_weight)
    counts = s != 0.0 if s.ndim == 1 else (s != 0.0).any(axis=1)
    if counts.all():
        return rows
    return np.flatnonzero(counts) if rows is None else rows[counts[rows]]


def in_float64(X: CSR) -> CSR:
    """Return a chunk of sparse rows on the host in float64; the structure is not copied."""
    ends = np.asarray(X.indptr)
    span = slice(int(ends[0]), int(ends[-1]))
    data = np.asarray(X.data[span]).astype(np.float64)
    return CSR(data, X.indices[span], ends - ends[0], X.shape)


def as_dense(X: Matrix) -> np.ndarray:
    """Return a chunk of rows as a new float64 array on the host."""
    if not isinstance(X, CSR):
        return X.astype(np.float64)
    out, ends = np.zeros(X.shape), np.asarray(X.indptr)
    span = slice(int(ends[0]), int(ends[-1]))
    rows = np.repeat(np.arange(X.shape[0]), np.diff(ends))
    out[rows, np.asarray(X.indices[span])] = np.asarray(X.data[span])
    return out


def _visited(
    X: Matrix, order: np.ndarray | None, start: int, stop: int
) -> tuple[slice | np.ndarray, Matrix]:
    """Return which rows the visits start to stop are, and the rows themselves."""
    if order is None:
        return slice(start, stop), row_slice(X, start, stop)
    return order[start:stop], take_rows(X, order[start:stop])


def rows_on_host(
    X: Matrix,
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    order: np.ndarray | None,
    *,
    sparse: bool = False,
) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
    """Yield the visited rows, their targets and weights in float64, a few rows at a time.

    With `sparse`, rows of CSR stay sparse, as arrays of SciPy's, which may share memory with X.
    """
    sparse = sparse and isinstance(X, CSR)
    numbers = stored_numbers(X) // max(X.shape[0], 1) if sparse else X.shape[1]
    step = max(8, min(MOST_ROWS_ON_HOST, 4 * CHUNK_NUMBERS // max(numbers, 1)))
    n = X.shape[0] if order is None else len(order)
    for start in range(0, n, step):
        stop = min(start + step, n)
        rows, chunk = _visited(X, order, start, stop)
        s = np.ones(stop - start)
        if sample_weight is not None:
            s = sample_weight[rows].astype(np.float64)
        # What is dense is a copy, since a stream keeps rows and its caller may reuse an array.
        yield as_scipy(chunk) if sparse else as_dense(chunk), y[rows].astype(np.float64), s


def centred_rows(
    kernels: Kernels, X: Matrix, y: np.ndarray, sample_weight: np.ndarray | None, shift: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    """Yield x - shift, y and weights of a few rows at a time, where X is; see `DeviceKernels`."""
    if lives_on_device(X):
        yield from cast(DeviceKernels, kernels).centred_rows(X, y, sample_weight, shift)
        return
    step = max(1, CHUNK_NUMBERS // X.shape[1])
    for start in range(0, X.shape[0], step):
        rows = slice(start, start + step)
        s = None if sample_weight is None else sample_weight[rows].astype(np.float64)
        Z = as_dense(row_slice(X, start, min(start + step, X.shape[0])))
        Z -= shift
        yield Z, y[rows].astype(np.float64), s


def stored_by_chunks(X: CSR) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the rows, columns and float64 values of a sparse X on the host, in chunks."""
    n, ends = X.shape[0], np.asarray(X.indptr)
    step = max(1, CHUNK_NUMBERS * n // max(n, X.shape[1], int(ends[-1]) - int(ends[0])))
    for start in range(0, n, step):
        part = ends[start : min(start + step, n) + 1]
        span = slice(int(part[0]), int(part[-1]))
        rows = np.repeat(np.arange(start, start + len(part) - 1), np.diff(part))
        yield rows, np.asarray(X.indices[span]), np.asarray(X.data[span], dtype=np.float64)


def range_of_stored(X: CSR) -> tuple[float, float]:
    """Return the least and the largest |x| of the nonzero numbers of a sparse X on the host."""
    least, largest = np.inf, 0.0
    first, last = np.asarray(X.indptr[:: X.shape[0]]).tolist()
    for start in range(first, last, CHUNK_NUMBERS):
        span = slice(start, min(start + CHUNK_NUMBERS, last))
        size = np.abs(np.asarray(X.data[span], dtype=np.float64))  # that of int8's -128 is negative
        largest = max(largest, float(size.max()))
        smallest = float(size.min())
        if smallest == 0.0:
            smallest = float(size.min(where=size > 0.0, initial=np.inf))
        least = min(least, smallest)
    return least, largest


def as_scipy(X: Matrix, dtype: DTypeLike = np.float64) -> csr_array:
    """Return sparse rows as an array of SciPy's, which may share memory with X."""
    assert isinstance(X, CSR)
    ends = np.asarray(X.indptr)
    span = slice(int(ends[0]), int(ends[-1]))
    values = np.asarray(X.data[span], dtype)
    return csr_array((values, np.asarray(X.indices[span]), ends - ends[0]), X.shape)


def row_squares(X: CSR) -> np.ndarray:
    """Return the sum of the squares of each row, (n,)."""
    ends, squares = np.asarray(X.indptr), np.zeros(X.shape[0])
    step = max(1, CHUNK_NUMBERS * X.shape[0] // max(stored_numbers(X), 1))
    for start in range(0, X.shape[0], step):
        own = ends[start : start + step + 1]
        values = np.asarray(X.data[int(own[0]) : int(own[-1])], np.float64)
        # SciPy's product takes a fifth of the time of `reduceat`.
        one_column = np.zeros(len(values), np.int32)
        shape = (len(own) - 1, 1)
        rows = csr_array((values * values, one_column, own - own[0]), shape)
        squares[start : start + shape[0]] = rows @ np.ones(1)
    return squares


def _add_sparse_moments(
    X: CSR, s: np.ndarray | None, first: np.ndarray, second: np.ndarray
) -> None:
    """Add the sums by SciPy's products with the transpose, for a few rows at a time."""
    n, d = X.shape
    ends = np.asarray(X.indptr)
    step = max(1, max(CHUNK_NUMBERS, 4 * d) * n // max(n, int(ends[-1]) - int(ends[0])))
    for start in range(0, n, step):
        rows = as_scipy(row_slice(X, start, start + step))
        weights = np.ones(rows.shape[0])
        if s is not None:
            weights = np.asarray(s[start : start + step], dtype=np.float64)
        first += rows.T @ weights
        rows.data = rows.data**2  # in memory of their own
        second += rows.T @ weights


def add_column_moments(
    kernels: Kernels,
    X: Matrix,
    s: np.ndarray | None,
    shift: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
) -> None:
    """Add sums of s (x - shift) and s (x - shift)^2 to `first` and `second`; of CSR about zero."""
    if lives_on_device(X):
        sums = cast(DeviceKernels, kernels).column_moments(X, s, shift)
        first += sums[0]
        second += sums[1]
        return
    d = X.shape[1]
    if isinstance(X, CSR):
        _add_sparse_moments(X, s, first, second)
        return
    step = max(1, CHUNK_NUMBERS // d)
    for start in range(0, X.shape[0], step):
        A = as_dense(X[start : start + step]) - shift
        sA = A if s is None else A * s[start : start + step, None]
        first += sA.sum(axis=0)
        second += np.einsum("ij,ij->j", sA, A)
