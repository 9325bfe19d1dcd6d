"""Second moments of the rows, in one pass over X."""

from __future__ import annotations

import numpy as np
from numba import types

from ..contract import CSR, Gram
from .compile import SUMS, TABLE, csr_types, dense_types, fast_helper, helper, kernel, read
from .rows import Rows, dense, locate, weights_or_none
from .threads import add_up, chunk_bounds, in_chunks

GRAM_ROWS = 32  # a panel of 32 rows and 64 columns of float64 is 16 KiB
GRAM_COLUMNS = 64
DENSE_SHARE = 4  # rows are made dense that store more than one in so many numbers
MOST_SUMS = 2**22  # in the sums of all threads, where d may be large
_FULL_COLUMNS = [read(types.int64, 1, "C"), read(types.intp, 1, "C")]


def gram(X, y, sample_weight, shift, n_threads) -> Gram:
    """The contract's `gram`: the upper triangle by chunks of rows, mirrored at the end."""
    if isinstance(X, CSR):
        found = _gram_of_numbers(X, y, sample_weight, shift, n_threads)
        if found is not None:
            return found
    (n, d), t = X.shape, y.shape[1]
    s = weights_or_none(sample_weight, y.dtype)
    c = np.zeros(d) if shift is None else shift
    matrix: tuple
    if isinstance(X, CSR):
        compiled = csr_dense_gram[X.dtype, X.indices.dtype, y.dtype]
        matrix, work = (X.data, X.indices, X.indptr), d
    else:
        compiled, matrix, work = dense_gram[X.dtype, y.dtype], dense(X), d

    def chunk(low, high):
        sums = _zero_sums(d, t)
        compiled(*matrix, y, s, c, low, high, *sums)
        return sums

    n_threads = min(n_threads, n // GRAM_ROWS)  # each has d^2 sums of its own
    return _mirrored(*add_up(in_chunks(chunk, chunk_bounds(X, max(1, work), n_threads))))


def _gram_of_numbers(X: CSR, y, sample_weight, shift, n_threads) -> Gram | None:
    """`gram` from products of stored numbers alone; None where dense rows are quicker.

    What becomes of the shift, and why, is said in csrc/gram_sparse.inc.
    """
    (n, d), t = X.shape, y.shape[1]
    entries = int(X.indptr[-1] - X.indptr[0])
    if entries >= n * d // DENSE_SHARE:
        return None
    later, full = np.zeros(0), np.zeros(0, np.int64)
    if shift is not None:
        weights = np.ones(n) if sample_weight is None else sample_weight.astype(np.float64)
        of_rows = np.repeat(weights, np.diff(X.indptr))
        indices = X.indices[int(X.indptr[0]) : int(X.indptr[-1])]
        stored = np.bincount(indices, of_rows, minlength=d)
        is_full = (shift != 0.0) & (2.0 * stored > weights.sum())
        full, later = np.flatnonzero(is_full), np.where(is_full, 0.0, shift)
        if entries + n * len(full) >= n * d // DENSE_SHARE:
            return None
    place, own = np.full(d, -1), np.zeros(0) if shift is None else shift[full]
    place[full] = np.arange(len(full))
    compiled = csr_gram[X.dtype, X.indices.dtype, y.dtype]
    s = weights_or_none(sample_weight, y.dtype)

    def chunk(low, high):
        sums = _zero_sums(d, t)
        compiled(*X[:3], y, s, own, low, high, *sums, full, place)
        return sums

    n_threads = max(1, min(n_threads, n // GRAM_ROWS, MOST_SUMS // d**2))
    bounds = chunk_bounds(X, max(1, entries // n + len(full)), n_threads)
    xx, sides, sums = add_up(in_chunks(chunk, bounds))
    if len(later):
        xx -= np.outer(later, sides[t])
        xx -= np.outer(sides[t] - sums[t] * later, later)
        xx = np.triu(xx)
        sides -= np.outer(sums, later)
    return _mirrored(xx, sides, sums)


def _zero_sums(d: int, t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The sums of a chunk of rows: xx (d, d), sides (t + 1, d), and those of y and 1 (t + 1,)."""
    return np.zeros((d, d)), np.zeros((t + 1, d)), np.zeros(t + 1)


def _mirrored(xx: np.ndarray, sides: np.ndarray, sums: np.ndarray) -> Gram:
    t = len(sums) - 1
    xx += np.triu(xx, 1).T
    return Gram(xx, np.ascontiguousarray(sides[:t].T), sides[t], sums[:t], float(sums[t]))


def _common_types(g):
    """The arguments after the matrix: y, s, shift, low, high, xx, sides, sums."""
    return [
        read(g, 2), read(g, 1, "C"), read(types.float64, 1), types.intp, types.intp,
        TABLE, TABLE, SUMS,
    ]  # fmt: skip


@kernel(lambda f, g: [*dense_types(f), *_common_types(g)])
def dense_gram(X, flat, offset, stride, y, s, shift, low, high, xx, sides, sums):
    """xx += sum_i s_i (x_i - c)(x_i - c)^T, upper triangle; sides = (xy^T, x), sums = (y, S).

    A block of rows becomes panels of float64 (`_panels_shape`), of which `_add_panels` takes all
    pairs. Reads d numbers per row, d^2 flops for xx and 2 d (t + 1) for the sides.
    """
    scratch = np.empty(0 if flat.size > 0 else GRAM_ROWS * X.shape[1], X.dtype)
    A = flat if flat.size > 0 else scratch
    rows = Rows(X, flat, offset, stride, scratch, A)
    at, every_row = np.empty(GRAM_ROWS, np.uintp), np.empty(0, np.int64)
    panels, K = np.zeros(_panels_shape(X.shape[1])), np.zeros((GRAM_ROWS, sums.size))
    tile = np.empty((4, GRAM_COLUMNS))
    where = rows, every_row, at
    _add_blocks(where, (y, s), shift, (low, high), (panels, K, tile), (xx, sides, sums))


@helper
def _add_blocks(where, targets, shift, between, work, out):
    """`dense_gram` with its work space."""
    (rows, every_row, at), (y, s), (low, high) = where, targets, between
    (panels, K, tile), (xx, sides, sums) = work, out
    for first in range(low, high, GRAM_ROWS):
        count = min(GRAM_ROWS, high - first)
        locate(rows, every_row, first, count, at)
        _fill_panels(rows.A, at, count, shift, panels)
        _gram_factors(y, s, first, count, K, sums)
        _clear_rows_without_weight(panels, K)
        _add_panels(panels, K, count, tile, xx, sides)


@helper
def _fill_panels(A, at, rows, shift, panels):
    """panels = x_i - c."""
    for i in range(rows):
        for p in range(panels.shape[0]):
            first = p * GRAM_COLUMNS
            for j in range(min(GRAM_COLUMNS, shift.size - first)):
                panels[p, i, j] = A[at[i] + np.uintp(first + j)] - shift[first + j]


@kernel(lambda f, i, g: [*csr_types(f, i), *_common_types(g)])
def csr_dense_gram(data, indices, indptr, y, s, shift, low, high, xx, sides, sums):
    """`dense_gram` of CSR rows made dense a block at a time: x_i - c has no zeros."""
    panels, K = np.zeros(_panels_shape(shift.size)), np.zeros((GRAM_ROWS, sums.size))
    tile = np.empty((4, GRAM_COLUMNS))
    for first in range(low, high, GRAM_ROWS):
        rows = min(GRAM_ROWS, high - first)
        _fill_panels_sparse(data, indices, indptr, first, rows, shift, panels)
        _gram_factors(y, s, first, rows, K, sums)
        _clear_rows_without_weight(panels, K)
        _add_panels(panels, K, rows, tile, xx, sides)


@helper
def _fill_panels_sparse(data, indices, indptr, first, rows, shift, panels):
    """panels = x_i - c for rows `first` and on of a CSR matrix."""
    for i in range(rows):
        for j in range(shift.size):
            panels[j // GRAM_COLUMNS, i, j % GRAM_COLUMNS] = -shift[j]
        for k in range(indptr[first + i], indptr[first + i + 1]):
            j = indices[k]
            panels[j // GRAM_COLUMNS, i, j % GRAM_COLUMNS] += data[k]


@kernel(lambda f, i, g: [*csr_types(f, i), *_common_types(g), *_FULL_COLUMNS])
def csr_gram(data, indices, indptr, y, s, shift, low, high, xx, sides, sums, full, place):
    """`dense_gram` of CSR rows without making them dense: k^2 flops per row of k numbers.

    Only the columns `full` (k,) are less their shift (k,), in every row; `place` (d,) is where a
    column is among them, or -1.
    """
    K, longest = np.zeros((1, sums.size)), 0
    for i in range(low, high):
        longest = max(longest, indptr[i + 1] - indptr[i])
    columns, values = np.empty(longest + full.size, np.int64), np.empty(longest + full.size)
    for k in range(full.size):
        columns[k] = full[k]
    for i in range(low, high):
        _gram_factors(y, s, i, 1, K, sums)
        if K[0, sums.size - 1] == 0.0:  # the products of its numbers may be infinite
            continue
        count = _fill_row(data, indices, indptr[i], indptr[i + 1], shift, place, columns, values)
        _add_products(columns, values, count, K, xx, sides)


@helper
def _fill_row(data, indices, begin, end, shift, place, columns, values):
    """The numbers of a row, of full columns first and less their shift; returns their count."""
    count = shift.size
    for k in range(count):
        values[k] = -shift[k]
    for q in range(begin, end):
        j = indices[q]
        if place[j] >= 0:
            values[place[j]] += data[q]
        else:
            columns[count], values[count] = j, data[q]
            count += 1
    return count


@helper
def _add_products(columns, values, count, K, xx, sides):
    """xx += s x x^T, upper triangle, and sides += K[0] x^T for one row."""
    for k in range(count):
        x, j = values[k], columns[k]
        for c in range(sides.shape[0]):
            sides[c, j] += K[0, c] * x
        x *= K[0, sides.shape[0] - 1]
        for other in range(k, count):  # in any order: rows need not be sorted
            j2 = columns[other]
            xx[min(j, j2), max(j, j2)] += x * values[other]


@helper
def _panels_shape(d):
    """Panels [p, i, j] of GRAM_COLUMNS columns: rows at a constant distance, as LLVM wants it."""
    return (d + GRAM_COLUMNS - 1) // GRAM_COLUMNS, GRAM_ROWS, GRAM_COLUMNS


@helper
def _gram_factors(y, s, start, rows, K, sums):
    """K[i] = (s_i y_i, s_i), zero for rows beyond the last; sums += K[i]."""
    t = y.shape[1]
    for i in range(K.shape[0]):
        si = 0.0
        if i < rows:
            si = np.float64(s[start + i]) if s.size > 0 else 1.0
        for c in range(t):
            K[i, c] = si * y[start + i, c] if i < rows else 0.0
            sums[c] += K[i, c]
        K[i, t] = si
        sums[t] += si


@helper
def _clear_rows_without_weight(panels, K):
    """Zeros in place of rows of weight 0: what they hold less the shift may be infinite."""
    for i in range(K.shape[0]):
        if K[i, K.shape[1] - 1] == 0.0:
            for p in range(panels.shape[0]):
                for j in range(GRAM_COLUMNS):
                    panels[p, i, j] = 0.0


@helper
def _add_panels(panels, K, rows, tile, xx, sides):
    """All pairs of panels p <= q into xx, and each panel into the sides.

    Rows beyond the last are left from an earlier block; their weights in K are 0.
    """
    d = xx.shape[0]
    for q in range(panels.shape[0]):
        width = min(GRAM_COLUMNS, d - q * GRAM_COLUMNS)
        for c in range(sides.shape[0]):
            for i in range(rows):
                for j in range(width):
                    sides[c, q * GRAM_COLUMNS + j] += K[i, c] * panels[q, i, j]
        for first in range(0, min(d, (q + 1) * GRAM_COLUMNS), 4):
            left = panels[first // GRAM_COLUMNS]
            _gram_tile(left, first % GRAM_COLUMNS, panels[q], K, width, tile)
            for i in range(first, min(d, first + 4)):
                for j in range(max(0, i - q * GRAM_COLUMNS), width):
                    xx[i, q * GRAM_COLUMNS + j] += tile[i - first, j]


@fast_helper
def _gram_tile(left, column, right, K, width, tile):
    """tile[a, j] = sum_i s_i left[i, column + a] right[i, j], for 4 columns and 4 rows at a time.

    16 multiply-adds for 4 loads of rows and 4 loads and stores of the tile.
    """
    tile[:, :] = 0.0
    for i in range(0, GRAM_ROWS, 4):
        a = _weighted(left, K, i, column)
        b = _weighted(left, K, i, column + 1)
        c = _weighted(left, K, i, column + 2)
        d = _weighted(left, K, i, column + 3)
        for j in range(np.uintp(width)):
            x0, x1, x2, x3 = right[i, j], right[i + 1, j], right[i + 2, j], right[i + 3, j]
            tile[0, j] += a[0] * x0 + a[1] * x1 + a[2] * x2 + a[3] * x3
            tile[1, j] += b[0] * x0 + b[1] * x1 + b[2] * x2 + b[3] * x3
            tile[2, j] += c[0] * x0 + c[1] * x1 + c[2] * x2 + c[3] * x3
            tile[3, j] += d[0] * x0 + d[1] * x1 + d[2] * x2 + d[3] * x3


@fast_helper
def _weighted(left, K, i, column):
    """s left[:, column] for 4 rows from i on; the weights s are K's last column."""
    s = K.shape[1] - 1
    return (
        K[i, s] * left[i, column],
        K[i + 1, s] * left[i + 1, column],
        K[i + 2, s] * left[i + 2, column],
        K[i + 3, s] * left[i + 3, column],
    )
