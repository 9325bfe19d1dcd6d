"""Rows of a dense X, wherever they lie, and the two halves of a pass over them.

Rows that are contiguous are read where they lie. Others are copied a block at a time into a scratch
of a few thousand numbers (`locate`); nothing of the size of X is ever allocated.

Array offsets in hot loops are unsigned. Numba lets a signed index count from the end of an array;
that test turns each load of ``A[i + j]`` into a gather.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .compile import fast_helper, helper
from .prefetch import AHEAD_BYTES, prefetch_row

BLOCK_BYTES = 16_384  # rows that are read twice stay in half of a 32 KiB L1 cache in between
MAX_BLOCK_ROWS = 64
MIN_PACKED_ROWS = 16  # of an F-ordered X: 16 float32 are a cache line


class Rows(NamedTuple):
    """A dense X as kernels read it: ``A[at[i]:][:d]`` is row i of a block, once `locate` ran."""

    X: np.ndarray  # (n, d)
    flat: np.ndarray  # all of X's memory, or empty where its rows must be packed
    offset: int  # row i of X is flat[offset + i stride:][:d]
    stride: int
    scratch: np.ndarray  # a block of packed rows, or empty
    A: np.ndarray  # flat or scratch


class Affine(NamedTuple):
    """The map x -> scale w x + b."""

    w: np.ndarray  # (t, d)
    scale: float
    b: np.ndarray  # (t,)


def dense(X: np.ndarray) -> tuple[np.ndarray, np.ndarray, int, int]:
    """X, flat, offset, stride: row i is flat[offset + i stride:][:d], or flat is empty.

    It is empty where the numbers of a row are not contiguous; `locate` packs such rows.
    """
    n, d = X.shape
    if X.flags.c_contiguous:
        return X, X.reshape(-1), 0, d
    size = X.itemsize
    stride, rest = divmod(X.strides[0], size)
    if rest or (d > 1 and X.strides[1] != size):
        return X, np.empty(0, X.dtype), 0, 0
    span = (n - 1) * abs(stride) + d
    lowest = X if stride >= 0 else X[::-1]
    flat = np.lib.stride_tricks.as_strided(lowest, (span,), (size,), writeable=False)
    return X, flat, (0 if stride >= 0 else (1 - n) * stride), stride


def weights_or_none(sample_weight: np.ndarray | None, dtype: np.dtype) -> np.ndarray:
    """Sample weights; an empty array stands for all ones."""
    return np.empty(0, dtype) if sample_weight is None else sample_weight


# --------------------------------------------------------------------- where the rows are


@helper
def block_rows(X, flat):
    """Rows per block: as many as `BLOCK_BYTES` holds, a multiple of 4."""
    fit = BLOCK_BYTES // (X.shape[1] * X.itemsize) // 4 * 4
    return max(4 if flat.size > 0 else MIN_PACKED_ROWS, min(MAX_BLOCK_ROWS, fit))


@helper
def rows_ahead(A, d, stride):
    """How many rows further on AHEAD_BYTES reach; none where rows are packed."""
    return max(4, min(128, AHEAD_BYTES // (d * A.itemsize))) if stride != 0 else 0


@helper
def visited_row(order, i):
    """The row number of visit i; an empty order is 0, 1, 2, ..."""
    return order[i] if order.size > 0 else i


@helper
def locate(rows, order, first, count, at):
    """Find `count` rows of visits `first` and on: at[i] is where row i starts in rows.A.

    Where `at` has room for more than these rows and there is an order, it also says where the rows
    after them start, for a later prefetch.
    """
    if rows.flat.size == 0:
        _pack(rows, order, first, count, at)
        return
    offset, stride = rows.offset, rows.stride
    for i in range(count):
        at[i] = np.uintp(offset + visited_row(order, first + i) * stride)
    for i in range(count, at.size if order.size > 0 else 0):
        at[i] = np.uintp(offset + order[min(first + i, order.size - 1)] * stride)


@helper
def _pack(rows, order, first, count, at):
    """Copy rows into the scratch, along the smaller of their strides."""
    X, scratch = rows.X, rows.scratch
    d = np.uintp(X.shape[1])
    for i in range(count):
        at[i] = np.uintp(visited_row(order, first + i))
    if abs(X.strides[0]) < abs(X.strides[1]):
        for j in range(d):
            for i in range(np.uintp(count)):
                scratch[i * d + j] = X[at[i], j]
    else:
        for i in range(np.uintp(count)):
            for j in range(d):
                scratch[i * d + j] = X[at[i], j]
    for i in range(np.uintp(count)):
        at[i] = i * d
    at[count:] = 0


@helper
def fetch_targets(y, s, order, first, count, Y, S):
    """Targets and weights of a block of visits, in float64: Y (count, t) and S (count,)."""
    for i in range(np.uintp(count)):
        row = np.uintp(visited_row(order, first + i))
        S[i] = s[row] if s.size > 0 else 1.0
        Y[i, np.uintp(0)] = y[row, np.uintp(0)]  # one target is the common case: no loop
    for i in range(np.uintp(count if Y.shape[1] > 1 else 0)):
        row = np.uintp(visited_row(order, first + i))
        for c in range(np.uintp(1), np.uintp(Y.shape[1])):
            Y[i, c] = y[row, c]


# ----------------------------------------------------------------- the two halves of a pass
#
# Predictions of a block, then its share of X^T R. Four rows at a time, so that each weight, and
# each entry of the gradient, is loaded once for four rows.


@fast_helper
def _dot(A, start, w, c):
    """x . w_c in the arithmetic of w."""
    total = w.dtype.type(0)
    for j in range(np.uintp(w.shape[1])):
        total += A[start + j] * w[c, j]
    return total


@fast_helper
def dot4(A, p0, p1, p2, p3, w, c):
    """x . w_c of the four rows that start there."""
    zero = w.dtype.type(0)
    r0, r1, r2, r3 = zero, zero, zero, zero
    for j in range(np.uintp(w.shape[1])):
        wj = w[c, j]
        r0 += A[p0 + j] * wj
        r1 += A[p1 + j] * wj
        r2 += A[p2 + j] * wj
        r3 += A[p3 + j] * wj
    return r0, r1, r2, r3


@helper
def project(A, at, span, affine, P, ahead):
    """P[i, c] = scale x_i . w_c + b_c for the rows of a span (first, count).

    2 flops per number and target. Meanwhile asks for what lies `ahead` numbers further on, unless
    that is 0: four rows side by side came from memory at 8 to 15 GB/s without.
    """
    first, count = span
    w, scale, b = affine
    quads = first + count // 4 * 4
    for c in range(np.uintp(w.shape[0])):
        _project_by_four(A, at, (first, quads), affine, c, P, ahead if c == 0 else 0)
        for i in range(np.uintp(quads), np.uintp(first + count)):
            P[i, c] = scale * _dot(A, at[i], w, c) + b[c]


@helper
def _project_by_four(A, at, between, affine, c, P, ahead):
    """`project` for target c and the rows from between[0] to before between[1]."""
    one, two, three = np.uintp(1), np.uintp(2), np.uintp(3)
    w, scale, b = affine
    bc = b[c]
    i, end = np.uintp(between[0]), np.uintp(between[1])
    while i < end:
        p0, p1, p2, p3 = at[i], at[i + one], at[i + two], at[i + three]
        if ahead != 0:
            prefetch_row(A, p0 + np.uintp(ahead), w.shape[1])
            prefetch_row(A, p1 + np.uintp(ahead), w.shape[1])
            prefetch_row(A, p2 + np.uintp(ahead), w.shape[1])
            prefetch_row(A, p3 + np.uintp(ahead), w.shape[1])
        dots = dot4(A, p0, p1, p2, p3, w, c)
        P[i, c] = scale * dots[0] + bc
        P[i + one, c] = scale * dots[1] + bc
        P[i + two, c] = scale * dots[2] + bc
        P[i + three, c] = scale * dots[3] + bc
        i += np.uintp(4)


@fast_helper
def _add4(A, starts, steps, G, c):
    """G_c += the sum of four rows times their steps."""
    p0, p1, p2, p3 = starts
    r0, r1, r2, r3 = steps
    for j in range(np.uintp(G.shape[1])):
        G[c, j] += r0 * A[p0 + j] + r1 * A[p1 + j] + r2 * A[p2 + j] + r3 * A[p3 + j]


@fast_helper
def _add(A, start, step, G, c):
    """G_c += step x."""
    for j in range(np.uintp(G.shape[1])):
        G[c, j] += step * A[start + j]


@helper
def spread(A, at, span, R, G):
    """G[c] += sum_i R[i, c] x_i over a span (first, count); 2 flops per number and target."""
    one, two, three, four = np.uintp(1), np.uintp(2), np.uintp(3), np.uintp(4)
    first, count = span
    quads = first + count // 4 * 4
    for c in range(np.uintp(G.shape[0])):
        i = np.uintp(first)
        while i < np.uintp(quads):
            starts = at[i], at[i + one], at[i + two], at[i + three]
            _add4(A, starts, (R[i, c], R[i + one, c], R[i + two, c], R[i + three, c]), G, c)
            i += four
        for r in range(np.uintp(quads), np.uintp(first + count)):
            _add(A, at[r], R[r, c], G, c)


# -------------------------------------------------------------------------------- CSR rows


@fast_helper
def sparse_project(data, indices, begin, end, w, b, P):
    """P[0] = x w + b for the entries [begin, end) and w of shape (d, t)."""
    if w.shape[1] == 1:
        total = 0.0
        for k in range(np.uintp(begin), np.uintp(end)):
            total += data[k] * w[np.uintp(indices[k]), 0]
        P[0, 0] = total + b[0]
        return
    for c in range(b.size):
        P[0, c] = b[c]
    for k in range(np.uintp(begin), np.uintp(end)):
        x, j = np.float64(data[k]), np.uintp(indices[k])
        for c in range(np.uintp(b.size)):
            P[0, c] += x * w[j, c]


@fast_helper
def sparse_spread(data, indices, begin, end, R, G):
    """G += x^T R[0] for the entries [begin, end) and G of shape (d, t)."""
    if G.shape[1] == 1:
        r = R[0, 0]
        for k in range(np.uintp(begin), np.uintp(end)):
            G[np.uintp(indices[k]), 0] += data[k] * r
        return
    for k in range(np.uintp(begin), np.uintp(end)):
        x, j = np.float64(data[k]), np.uintp(indices[k])
        for c in range(np.uintp(G.shape[1])):
            G[j, c] += x * R[0, c]
