"""Ranges and selections of the rows of a matrix, for solvers that go through X in chunks."""

from __future__ import annotations

import numpy as np

from ..kernels.contract import CSR, Matrix


def row_slice(X: Matrix, start: int, stop: int) -> Matrix:
    """Rows start <= i < stop, as a view."""
    if isinstance(X, CSR):
        stop = min(stop, X.shape[0])
        return CSR(X.data, X.indices, X.indptr[start : stop + 1], (stop - start, X.shape[1]))
    return X[start:stop]


def take_rows(X: Matrix, rows: np.ndarray) -> Matrix:
    """These rows, in this order, as a copy."""
    if not isinstance(X, CSR):
        return X[rows]
    ends = np.asarray(X.indptr)  # a copy where X is on a GPU, whose other parts stay there
    counts = ends[rows + 1] - ends[rows]
    indptr = np.zeros(len(rows) + 1, dtype=ends.dtype)
    np.cumsum(counts, out=indptr[1:])
    # Position of each stored number: its row's start, then onwards.
    where = np.repeat(ends[rows] - indptr[:-1], counts) + np.arange(indptr[-1])
    return CSR(X.data[where], X.indices[where], indptr, (len(rows), X.shape[1]))


def sample_rows(X: Matrix, every: int) -> Matrix:
    """Each `every`-th row: a view of a dense X, a copy of a sparse one."""
    if every == 1:
        return X
    if isinstance(X, CSR):
        return take_rows(X, np.arange(0, X.shape[0], every))
    return X[::every]


def as_dense(X: Matrix) -> np.ndarray:
    """A chunk of rows as a float64 array of its own, on the host."""
    if not isinstance(X, CSR):
        return X.astype(np.float64)
    out, ends = np.zeros(X.shape), np.asarray(X.indptr)
    span = slice(int(ends[0]), int(ends[-1]))
    rows = np.repeat(np.arange(X.shape[0]), np.diff(ends))
    out[rows, np.asarray(X.indices[span])] = np.asarray(X.data[span])
    return out
