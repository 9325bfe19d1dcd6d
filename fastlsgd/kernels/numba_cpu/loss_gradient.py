"""The loss and its gradient in one pass over X."""

from __future__ import annotations

import numpy as np
from numba import types

from ..contract import CSR, TargetGradients
from .compile import (
    SUMS,
    TABLE,
    csr_types,
    dense_types,
    fast_helper,
    helper,
    kernel,
    read,
)
from .rows import (
    MAX_BLOCK_ROWS,
    Affine,
    Rows,
    block_rows,
    dense,
    fetch_targets,
    locate,
    project,
    rows_ahead,
    sparse_project,
    sparse_spread,
    spread,
    weights_or_none,
)
from .threads import add_up, chunk_bounds, in_chunks, sums

NARROW = 12  # features up to which rows are turned into columns: they are short for vectors
COLUMN_BLOCK_BYTES = 262_144  # of columns that are read twice: they stay in the L2 cache
MAX_COLUMN_ROWS = 2_048


def loss_gradient(X, y, w, b, sample_weight, n_threads) -> TargetGradients:
    """The contract's `loss_gradient`: chunks of rows, their sums added up in order."""
    t, s = w.shape[0], weights_or_none(sample_weight, y.dtype)
    matrix: tuple
    if isinstance(X, CSR):
        compiled = csr_loss_gradient[X.dtype, X.indices.dtype, y.dtype]
        matrix, w = (X.data, X.indices, X.indptr), np.ascontiguousarray(w.T)
    else:
        compiled, matrix = dense_loss_gradient[X.dtype, y.dtype], dense(X)
        if matrix[1].size == 0 or X.shape[1] <= NARROW:
            compiled, matrix = column_loss_gradient[X.dtype, y.dtype], dense(X.T)

    def chunk(low, high):
        loss, coef, intercept = sums(t), sums(w.size).reshape(w.shape), sums(t)
        total = compiled(*matrix, y, w, b, s, low, high, loss, coef, intercept)
        return loss, coef, intercept, np.array(total)

    parts = in_chunks(chunk, chunk_bounds(X, t, n_threads))
    loss, coef, intercept, total = add_up(parts)
    coef = coef.T if isinstance(X, CSR) else coef
    return TargetGradients(loss / total, np.ascontiguousarray(coef / total), intercept / total)


def _common_types(g):
    """The arguments after the matrix: y, w, b, s, low, high, loss, coef, intercept."""
    return [
        read(g, 2), read(types.float64, 2, "C"), read(types.float64, 1, "C"), read(g, 1, "C"),
        types.intp, types.intp, SUMS, TABLE, SUMS,
    ]  # fmt: skip


@kernel(lambda f, g: [*dense_types(f), *_common_types(g)])
def dense_loss_gradient(X, flat, offset, stride, y, w, b, s, low, high, loss, coef, intercept):
    """r = X w + b - y, then loss += s r^2/2, coef += (s r)^T X, intercept += s r; returns sum s.

    One pass: a block of rows is still in the L1 cache when its share of coef is added.
    Reads d numbers per row, 4 d t flops.
    """
    block, t = block_rows(X, flat), w.shape[0]
    scratch = np.empty(0 if flat.size > 0 else block * X.shape[1], X.dtype)
    rows = Rows(X, flat, offset, stride, scratch, flat if flat.size > 0 else scratch)
    at, every_row = np.empty(block, np.uintp), np.empty(0, np.int64)
    work = np.empty((block, t)), np.empty((block, t)), np.empty(block)
    where, affine, out = (rows, every_row, at), Affine(w, 1.0, b), (loss, coef, intercept)
    return _add_blocks(where, (y, s), affine, (low, high), work, out)


@helper
def _add_blocks(where, targets, affine, between, work, out):
    """`dense_loss_gradient` with its work space."""
    (rows, every_row, at), (y, s), (low, high) = where, targets, between
    (R, Y, S), (loss, coef, intercept) = work, out
    ahead = rows_ahead(rows.A, rows.X.shape[1], rows.stride) * rows.stride
    total = 0.0
    for first in range(low, high, S.size):
        count = min(S.size, high - first)
        locate(rows, every_row, first, count, at)
        fetch_targets(y, s, every_row, first, count, Y, S)
        project(rows.A, at, (0, count), affine, R, ahead)
        total += _residuals(R, Y, S, count, loss, intercept)
        spread(rows.A, at, (0, count), R, coef)
    return total


@helper
def _residuals(R, Y, S, count, loss, intercept):
    """From predictions R to weighted residuals s r in their place; returns the sum of s."""
    for c in range(np.uintp(R.shape[1])):
        squares, steps = 0.0, 0.0
        for i in range(np.uintp(count)):
            r = R[i, c] - Y[i, c] if S[i] != 0.0 else 0.0  # else it may be infinite
            R[i, c] = S[i] * r
            squares += 0.5 * S[i] * r * r
            steps += S[i] * r
        loss[c] += squares
        intercept[c] += steps
    total = 0.0
    for i in range(np.uintp(count)):
        total += S[i]
    return total


@kernel(lambda f, i, g: [*csr_types(f, i), *_common_types(g)])
def csr_loss_gradient(data, indices, indptr, y, w, b, s, low, high, loss, coef, intercept):
    """`dense_loss_gradient` of CSR rows, with w and coef (d, t).

    An entry so meets all targets at once. Reads a number and an index per entry, 4 t flops.
    """
    R, Y, S = np.empty((1, w.shape[1])), np.empty((1, w.shape[1])), np.empty(1)
    every_row = np.empty(0, np.int64)
    total = 0.0
    for i in range(low, high):
        sparse_project(data, indices, indptr[i], indptr[i + 1], w, b, R)
        fetch_targets(y, s, every_row, i, 1, Y, S)
        total += _residuals(R, Y, S, 1, loss, intercept)
        sparse_spread(data, indices, indptr[i], indptr[i + 1], R, coef)
    return total


# ---------------------------------------------------------------------------- from columns


@kernel(lambda f, g: [*dense_types(f), *_common_types(g)])
def column_loss_gradient(Xt, flat, offset, stride, y, w, b, s, low, high, loss, coef, intercept):
    """`dense_loss_gradient` from columns: Xt is X's transpose, with what `dense` says of it.

    All loops run along the rows of a block. Columns that are contiguous are read where they lie;
    others, for rows too short for vectors of their own, are copied into a scratch.
    """
    d, t = Xt.shape[0], w.shape[0]
    block = min(MAX_COLUMN_ROWS, max(MAX_BLOCK_ROWS, COLUMN_BLOCK_BYTES // (d * Xt.itemsize)))
    block = block // 16 * 16 if flat.size > 0 else MAX_BLOCK_ROWS
    scratch = np.empty(0 if flat.size > 0 else block * d, Xt.dtype)
    A, at = flat if flat.size > 0 else scratch, np.empty(d, np.uintp)
    R, S = np.empty((t, block)), np.empty(block)
    total = 0.0
    for first in range(low, high, block):
        count = min(block, high - first)
        if flat.size == 0:
            _pack_columns(Xt, first, count, block, scratch)
        for j in range(d):
            start = offset + j * stride + first if flat.size > 0 else j * block
            at[j] = np.uintp(start)
        for i in range(np.uintp(count)):
            S[i] = s[np.uintp(first) + i] if s.size > 0 else 1.0
        for c in range(t):
            _negate_targets(y, first, count, b[c], c, R)
            _project_columns(A, at, count, w, c, R)
            part, shift = _column_residuals(R, S, count, c)
            loss[c] += part
            intercept[c] += shift
            _spread_columns(A, at, count, R, c, coef)
        for i in range(np.uintp(count)):
            total += S[i]
    return total


@helper
def _pack_columns(Xt, first, count, block, scratch):
    """scratch[j block + i] = x_ij for the rows i from `first` on."""
    d = np.uintp(Xt.shape[0])
    for i in range(np.uintp(count)):
        for j in range(d):
            scratch[j * np.uintp(block) + i] = Xt[j, np.uintp(first) + i]


@helper
def _negate_targets(y, first, count, bc, c, R):
    """R_c = b - y."""
    for i in range(np.uintp(count)):
        R[c, i] = bc - y[np.uintp(first) + i, np.uintp(c)]


@helper
def _project_columns(A, at, count, w, c, R):
    """R_c += X w_c, four columns at a time."""
    quads = at.size // 4 * 4
    for j in range(0, quads, 4):
        p0, p1, p2, p3 = at[j], at[j + 1], at[j + 2], at[j + 3]
        w0, w1, w2, w3 = w[c, j], w[c, j + 1], w[c, j + 2], w[c, j + 3]
        for i in range(np.uintp(count)):
            R[c, i] += (w0 * A[p0 + i] + w1 * A[p1 + i]) + (w2 * A[p2 + i] + w3 * A[p3 + i])
    for j in range(quads, at.size):
        p0, w0 = at[j], w[c, j]
        for i in range(np.uintp(count)):
            R[c, i] += w0 * A[p0 + i]


@fast_helper
def _column_residuals(R, S, count, c):
    """From residuals r to s r in their place; the sums of s r^2 / 2 and of s r."""
    loss, shift = 0.0, 0.0
    for i in range(np.uintp(count)):
        r = R[c, i] if S[i] != 0.0 else 0.0  # else it may be infinite
        R[c, i] = S[i] * r
        loss += 0.5 * S[i] * r * r
        shift += S[i] * r
    return loss, shift


@helper
def _spread_columns(A, at, count, R, c, G):
    """G_c += R_c X, four columns at a time."""
    quads = at.size // 4 * 4
    for j in range(0, quads, 4):
        g0, g1, g2, g3 = _dot_columns(A, (at[j], at[j + 1], at[j + 2], at[j + 3]), count, R, c)
        G[c, j] += g0
        G[c, j + 1] += g1
        G[c, j + 2] += g2
        G[c, j + 3] += g3
    for j in range(quads, at.size):
        G[c, j] += _dot_columns(A, (at[j], at[j], at[j], at[j]), count, R, c)[0]


@fast_helper
def _dot_columns(A, starts, count, R, c):
    """R_c x of four columns."""
    p0, p1, p2, p3 = starts
    g0, g1, g2, g3 = 0.0, 0.0, 0.0, 0.0
    for i in range(np.uintp(count)):
        r = R[c, i]
        g0 += r * A[p0 + i]
        g1 += r * A[p1 + i]
        g2 += r * A[p2 + i]
        g3 += r * A[p3 + i]
    return g0, g1, g2, g3
