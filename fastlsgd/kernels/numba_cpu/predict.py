"""X w + b."""

from __future__ import annotations

import numpy as np
from numba import types

from ..contract import CSR
from .compile import csr_types, dense_types, helper, kernel, read, written
from .rows import Affine, Rows, block_rows, dense, locate, project, rows_ahead, sparse_project
from .threads import chunk_bounds, in_chunks


def predict(X, w, b, n_threads) -> np.ndarray:
    """The contract's `predict`: each chunk of rows fills its own part of the result."""
    t = w.shape[0]
    matrix: tuple
    out = np.empty((X.shape[0], t), X.dtype)
    if isinstance(X, CSR):
        compiled = csr_predict[X.dtype, X.indices.dtype]
        matrix, w = (X.data, X.indices, X.indptr), np.ascontiguousarray(w.T)
    else:
        compiled, matrix = dense_predict[X.dtype], dense(X)
    in_chunks(
        lambda low, high: compiled(*matrix, w, b, low, high, out), chunk_bounds(X, t, n_threads)
    )
    return out


@kernel(
    lambda f: [
        *dense_types(f),
        read(types.float64, 2, "C"),
        read(types.float64, 1, "C"),
        types.intp,
        types.intp,
        written(f, 2),
    ]
)
def dense_predict(X, flat, offset, stride, w, b, low, high, out):
    """out = X w + b. Reads d numbers per row, 2 d t flops."""
    block, affine = block_rows(X, flat), Affine(w, 1.0, b)
    scratch = np.empty(0 if flat.size > 0 else block * X.shape[1], X.dtype)
    A = flat if flat.size > 0 else scratch
    rows = Rows(X, flat, offset, stride, scratch, A)
    at, every_row = np.empty(block, np.uintp), np.empty(0, np.int64)
    ahead = rows_ahead(A, X.shape[1], stride) * stride
    P = np.empty((block, w.shape[0]))
    for first in range(low, high, block):
        count = min(block, high - first)
        locate(rows, every_row, first, count, at)
        project(A, at, (0, count), affine, P, ahead)
        _round_rows(P, count, first, out)


@helper
def _round_rows(P, count, first, out):
    """out[first + i] = P[i], in out's dtype."""
    for i in range(count):
        for c in range(P.shape[1]):
            out[first + i, c] = P[i, c]


@kernel(
    lambda f, i: [
        *csr_types(f, i),
        read(types.float64, 2, "C"),
        read(types.float64, 1, "C"),
        types.intp,
        types.intp,
        written(f, 2),
    ]
)
def csr_predict(data, indices, indptr, w, b, low, high, out):
    """out = X w + b with w of shape (d, t). Reads a number and an index per entry, 2 t flops."""
    P = np.empty((1, w.shape[1]))
    for i in range(low, high):
        sparse_project(data, indices, indptr[i], indptr[i + 1], w, b, P)
        _round_rows(P, 1, i, out)
