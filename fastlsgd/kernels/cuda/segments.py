"""The contract's `fit_segments` for groups: one block of threads per segment, sums in pairs.

Per segment of n rows, with z = sqrt(s) (1, x, y) of length m = d + 2:

    A = sum_i z_i z_i^T        upper triangle, in twice the precision of float64
    A = L D L^T                elimination in pairs: the solution but for a back substitution, and
                               the residual sum of squares as the last pivot

as in numba_cpu/segments.py, so that no segment has to be done again by QR: the errors of pairs are
the squared condition times 2^-104, those of QR the condition times 2^-53. Robust variances are
those of csrc/segments_robust.inc.

A tile of rows is read along the smaller of X's strides into shared memory; then each thread adds
the products of all its rows to its own entries of A, so that no sum depends on the order of
threads. A, L and the weights lie in the workspace, which the first-level cache holds for the small
m of most groups.

Cost: X, y and the weights are read once, and 8 bytes per row where rows are in an order; robust
variances read them once more. 10 float64 operations per row and entry, 5 n m^2 in all, and 3 m^3
per segment. For 5 columns of float64 that is 6 operations per byte; by the data sheets an H200 does
3.5 in the time in which its memory brings a byte, and consumer cards 0.6. None of this has been
measured: nothing has run on a GPU yet.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ..contract import SegmentFits, Segments, SegmentStatus, empty_fits, runs_of_segments
from ..device import DeviceArray, is_device_array
from ..formulas import (
    FLOAT32_NOISE,
    LEAST_LEFT,
    LEAST_SQUARE,
    MOST_SQUARE,
    PAIR_NOISE,
)
from .blocks import blocks, host_blocks
from .compile import SIMULATED, Kernel, cuda, device_function, launch
from .context import lock, multiprocessors, on_device_of
from .double_double import exact_product, exact_sum, less_product, normalised, quotient
from .gather import rows_of_block
from .memory import native, reserve
from .rows import (
    Block,
    Dense,
    Order,
    Weights,
    entry,
    order_arguments,
    row_of,
    stream_for,
    weight_of,
)
from .transfer import download, upload, upload_order
from .warp import THREADS, WARP

MAKES_WINDOWS = False

FITTED, SHORT, SINGULAR, OUT_OF_RANGE = map(int, SegmentStatus)
# Up to so many columns of A a block is one warp, whose barriers cost next to nothing. With 230
# registers per thread a multiprocessor holds 8 of these, or one block of 256 threads; with 128, 96
# and 64 registers 0.6, 1 and 1.8 KB spilt. Tiles of 4 KB leave the first-level cache room for A.
NARROW_WIDTH = 8 if SIMULATED else 16
NARROW_TILE, WIDE_TILE = (64, 600) if SIMULATED else (512, 5120)  # float64 in shared memory
TABLE_BYTES = 64 << 20  # of results on their way to the host, at a time
WORKSPACE_BYTES = 256 << 20  # of all blocks


class GroupChoice(NamedTuple):
    """What a call asks for, in kernels."""

    min_rows: int
    begin: int  # 0 with an intercept, 1 without: the first row of A that is eliminated
    skips_nan: int
    inverse: int
    robust: int
    penalty: Any
    penalised: int
    noise: float  # the least pivot of numbers of X's dtype


class GroupRows(NamedTuple):
    """The rows, in kernels."""

    X: Any
    y: Any
    s: Any
    order: Any
    columns_first: int  # whether the numbers of a column lie closer together than those of a row
    d: int


class GroupSums(NamedTuple):
    """Where the block's own numbers are in the workspace `at`, in kernels."""

    at: Any
    hi: int  # (m, m)  A, then D and L, and beside them what a float64 lacks
    lo: int  # (m, m)  at last W = D^-1/2 L^-1
    diagonal: int  # (m,)  of A
    w: int  # (2, m)
    seen: int  # (m,)  1 for columns with a number that is not zero
    q: int  # (tile,)
    m: int


class GroupFit(NamedTuple):
    """What is known of a segment, in kernels."""

    status: int
    total: float  # squares of y about its mean, or about zero without an intercept


class RowTile(NamedTuple):
    """Rows z in shared memory, in kernels."""

    z: Any
    pitch: int
    first: int  # position of the first
    rows: int


# ------------------------------------------------------------------------------- on the host


def fit_segments(X, y, sample_weight, segments: Segments, n_threads) -> SegmentFits:
    """The contract's `fit_segments`, without decay and initial moments."""
    d = X.shape[1]
    out = empty_fits(segments, d)
    if len(segments.start) == 0:
        return out
    parts = [out.coef, out.intercept, out.weight, out.residual, out.total, out.n_rows, out.status]
    parts += [part for part in (out.inverse, out.robust) if part is not None]
    widths = [1 if part.ndim == 1 else part.shape[1] for part in parts]
    width = sum(widths)
    with lock, on_device_of((X, y)):
        stream = stream_for(X, y, sample_weight)
        penalty = np.zeros(d) if segments.penalty is None else segments.penalty
        there = upload("penalty", penalty, stream)
        most = max(1, TABLE_BYTES // (8 * width))
        for first, last, block, order in _runs(X, y, sample_weight, segments, most, stream):
            table = _fit_run(block, order, segments, (first, last), there, width)
            for part, columns in zip(parts, np.split(table, np.cumsum(widths), 1), strict=False):
                part[first:last] = columns if part.ndim == 2 else columns[:, 0]
    return out


def _runs(
    X, y, s, segments: Segments, most: int, stream
) -> Iterator[tuple[int, int, Block, DeviceArray | None]]:
    """Runs of at most so many segments: the first, the end, their rows, and the order of these."""
    n = len(segments.start)
    if is_device_array(X):
        (block,) = blocks(X, y, s, stream)
        order = upload_order(segments.order, stream)
        for first in range(0, n, most):
            yield first, min(n, first + most), block, order
        return
    step, runs, spans = rows_of_block(X.shape[1], X.itemsize), [], []
    positions = len(X) if segments.order is None else len(segments.order)
    for first, end in runs_of_segments(segments, step):
        for part in range(first, end, most):
            last = min(end, part + most)
            low = min(int(segments.start[part]), positions - 1)  # a span has a row at least
            runs.append((part, last))
            spans.append((low, max(int(segments.stop[last - 1]), low + 1)))
    for run, block in zip(runs, host_blocks(X, y, s, stream, segments.order, spans), strict=True):
        yield *run, block, None


def _fit_run(
    block: Block, order, segments: Segments, run: tuple[int, int], penalty: DeviceArray, width: int
) -> np.ndarray:
    """The results of a run of segments, a row for each: columns as in `fit_segments`."""
    first, last = run
    X, stream, n = block.dense, block.stream, last - first
    m = X.shape[1] + 2
    narrow = m <= NARROW_WIDTH
    tile, threads = (NARROW_TILE, WARP) if narrow else (WIDE_TILE, THREADS)
    own = 2 * m * m + 4 * m + tile
    grid = (16 if narrow else 2) * multiprocessors()
    grid = max(1, min(n, grid, WORKSPACE_BYTES // (8 * own)))
    bounds = np.concatenate([segments.start[first:last], segments.stop[first:last]]) - block.first
    there = upload("bounds of segments", bounds, stream, np.int64)
    choice = [segments.min_rows, not segments.fit_intercept, segments.skip_nan]
    choice += [segments.inverse, segments.robust]
    noise = FLOAT32_NOISE if X.flat.itemsize == 4 and segments.penalty is None else 0.0
    table = reserve("table of segments", n * width)
    launch(_fitting(tile), grid, threads, stream)(
        *X.arguments, *block.targets.arguments, *block.weights, *order_arguments(order),
        int(X.column_major), X.shape[1], native(there), n, native(penalty),
        int(segments.penalty is not None), *map(int, choice), noise,
        native(reserve("sums of segments", grid * own)), own, native(table), width,
    )  # fmt: skip
    return download(table, stream).reshape(n, width)


# ------------------------------------------------------------------------------------ kernel


@cache
def _fitting(tile: int):
    """The kernel with tiles of so many numbers."""

    @Kernel
    def fit_of_segments(
        flat, start, row, column, y, y_start, y_row, y_column, s, weighted, order_rows, ordered,
        columns_first, d, bounds, n_segments, penalty, penalised, min_rows, begin, skips_nan,
        inverse, robust, noise, work, own, out, width,
    ):  # fmt: skip
        z = cuda.shared.array(tile, np.float64)
        order = Order(order_rows, ordered, 0)
        X, target = Dense(flat, start, row, column), Dense(y, y_start, y_row, y_column)
        source = GroupRows(X, target, Weights(s, weighted), order, columns_first, d)
        choice = GroupChoice(
            min_rows, begin, skips_nan, inverse, robust, penalty, penalised, noise
        )  # fmt: skip
        m, at = d + 2, cuda.blockIdx.x * own
        after = at + 2 * m * m
        place = GroupSums(work, at, at + m * m, after, after + m, after + 3 * m, after + 4 * m, m)
        pitch = m | 1  # odd, for the banks of shared memory
        most = tile // pitch
        for k in range(cuda.blockIdx.x, n_segments, cuda.gridDim.x):
            first, last, to = bounds[k], bounds[n_segments + k], k * width
            clear_sums(place)
            kept, status = 0, FITTED
            for phase in range(2 if robust > 0 else 1):
                if status == FITTED:
                    for position in range(first, last, most):
                        block = RowTile(z, pitch, position, min(most, last - position))
                        counted = load_tile(source, block, choice)
                        cuda.syncthreads()
                        if phase == 0:
                            kept += counted
                            add_tile(place, block)
                        else:
                            add_variances(place, block, choice, out, to + width - d - 1)
                        cuda.syncthreads()
                    if phase == 0:
                        count = count_of_block(kept, last - first, source, choice, z)
                        status, total = solve(place, choice, count)
                        write(place, choice, GroupFit(status, total), count, out, to)
                        write_variances(place, choice, status, out, to + d + 6)
                        cuda.syncthreads()

    return fit_of_segments


@device_function
def clear_sums(place):
    """A and `seen` become zero."""
    m, at = place.m, place.at
    for j in range(cuda.threadIdx.x, 2 * m * m, cuda.blockDim.x):
        at[place.hi + j] = 0.0
    for j in range(cuda.threadIdx.x, m, cuda.blockDim.x):
        at[place.seen + j] = 0.0
    cuda.syncthreads()


@device_function
def load_tile(source, block, choice):
    """z of the tile's rows; zeros for rows that do not count. Returns how many of mine count."""
    z, pitch, d = block.z, block.pitch, source.d
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    lines, length = block.rows, d
    if source.columns_first:
        lines, length = d, block.rows
    line, j = thread // length, thread % length
    more_lines, more = threads // length, threads % length
    while line < lines:  # without a division per number
        r, c = line, j
        if source.columns_first:
            r, c = j, line
        i = row_of(source.order, block.first + r)
        z[r * pitch + 1 + c] = np.float64(entry(source.X, i, c))
        line, j = line + more_lines, j + more
        if j >= length:
            line, j = line + 1, j - length
    if source.s.given or choice.skips_nan:
        cuda.syncthreads()
    kept = 0
    for r in range(thread, block.rows, threads):
        base, i = r * pitch, row_of(source.order, block.first + r)
        target, weight = np.float64(entry(source.y, i, 0)), weight_of(source.s, i)
        z[base], z[base + d + 1] = 1.0, target
        if choice.skips_nan:
            is_nan = target != target
            for c in range(1, d + 1):
                is_nan |= z[base + c] != z[base + c]
            if is_nan:
                weight = 0.0
        if weight > 0.0:
            kept += 1
        if weight != 1.0:
            root = math.sqrt(weight)
            for c in range(d + 2):
                z[base + c] = root * z[base + c] if weight > 0.0 else 0.0
    return kept


@device_function
def add_tile(place, block):
    """A += z z^T over the rows of the tile: each thread its own entries of the triangle."""
    z, pitch, m, at = block.z, block.pitch, place.m, place.at
    i, k = 0, cuda.threadIdx.x  # an entry's row, and how far behind the diagonal it lies
    while i < m:
        if k >= m - i:
            k -= m - i
            i += 1
            continue
        entry_at = i * m + i + k
        hi, lo = at[place.hi + entry_at], at[place.lo + entry_at]
        for r in range(block.rows):
            p, lost = exact_product(z[r * pitch + i], z[r * pitch + i + k])
            hi, more = exact_sum(hi, p)
            lo += lost + more
        at[place.hi + entry_at], at[place.lo + entry_at] = hi, lo
        if k == 0 and hi < LEAST_SQUARE:  # zeros, or numbers whose squares underflow?
            for r in range(block.rows):
                if z[r * pitch + i] != 0.0:
                    at[place.seen + i] = 1.0
        k += cuda.blockDim.x


@device_function
def count_of_block(kept, rows, source, choice, z):
    """The rows that count, known to all threads."""
    if not source.s.given and not choice.skips_nan:
        return rows
    z[cuda.threadIdx.x] = kept
    cuda.syncthreads()
    count = 0
    for k in range(cuda.blockDim.x):
        count += int(z[k])
    return count


@device_function
def solve(place, choice, count):
    """D and L in place of A, and the weights in w; returns the numbers of a `GroupFit`."""
    m, at, hi, lo = place.m, place.at, place.hi, place.lo
    if count < choice.min_rows:
        return SHORT, 0.0
    for j in range(m):
        square = at[hi + j * m + j]
        if not square <= MOST_SQUARE or (square < LEAST_SQUARE and at[place.seen + j] != 0.0):
            return OUT_OF_RANGE, 0.0
    cuda.syncthreads()
    normalise(place, choice)
    cuda.syncthreads()
    tol = max(choice.noise, PAIR_NOISE * count)
    total = at[hi + m * m - 1]
    for j in range(choice.begin, m - 1):
        if at[hi + j * m + j] <= tol * at[place.diagonal + j]:
            return SINGULAR, 0.0
        eliminate(place, j)
        if j == 0:
            total = at[hi + m * m - 1]
    for k in range(choice.begin + cuda.threadIdx.x, m - 1, cuda.blockDim.x):
        at[place.w + k] = at[hi + (m - 1) * m + k]
        at[place.w + m + k] = at[lo + (m - 1) * m + k]
    cuda.syncthreads()
    for j in range(m - 2, choice.begin, -1):
        known = at[place.w + j], at[place.w + m + j]
        for i in range(choice.begin + cuda.threadIdx.x, j, cuda.blockDim.x):
            left = at[place.w + i], at[place.w + m + i]
            factor = at[hi + j * m + i], at[lo + j * m + i]
            at[place.w + i], at[place.w + m + i] = less_product(left, factor, known)
        cuda.syncthreads()
    return FITTED, total


@device_function
def normalise(place, choice):
    """A as pairs, with the penalty added, and its diagonal."""
    m, at, hi, lo = place.m, place.at, place.hi, place.lo
    for e in range(cuda.threadIdx.x, m * m, cuda.blockDim.x):
        at[hi + e], at[lo + e] = normalised(at[hi + e], at[lo + e])
    cuda.syncthreads()
    for j in range(cuda.threadIdx.x, m, cuda.blockDim.x):
        e = j * m + j
        if choice.penalised and j > 0 and j < m - 1:
            s, lost = exact_sum(at[hi + e], choice.penalty[j - 1])
            at[hi + e], at[lo + e] = normalised(s, lost + at[lo + e])
        at[place.diagonal + j] = at[hi + e]


@device_function
def eliminate(place, j):
    """Column j of L, and what row j leaves of the rows behind it."""
    m, at, hi, lo = place.m, place.at, place.hi, place.lo
    pivot = at[hi + j * m + j], at[lo + j * m + j]
    for k in range(j + 1 + cuda.threadIdx.x, m, cuda.blockDim.x):
        part = at[hi + j * m + k], at[lo + j * m + k]
        at[hi + k * m + j], at[lo + k * m + j] = quotient(part, pivot)
    cuda.syncthreads()
    i, k = j + 1, cuda.threadIdx.x
    while i < m:
        if k >= m - i:
            k -= m - i
            i += 1
            continue
        e = i * m + i + k
        factor = at[hi + i * m + j], at[lo + i * m + j]
        part = at[hi + j * m + i + k], at[lo + j * m + i + k]
        at[hi + e], at[lo + e] = less_product((at[hi + e], at[lo + e]), factor, part)
        k += cuda.blockDim.x
    cuda.syncthreads()


@device_function
def write(place, choice, fit, count, out, to):
    """out[to:] is w, b, the sum of the weights, residual, total, count, status; NaN without fit."""
    m, at = place.m, place.at
    d = m - 2
    for j in range(cuda.threadIdx.x, d, cuda.blockDim.x):
        out[to + j] = np.nan
        if fit.status == FITTED:
            out[to + j] = at[place.w + 1 + j] + at[place.w + m + 1 + j]
    if cuda.threadIdx.x == 0:
        intercept = residual = total = np.nan
        if fit.status == FITTED:
            intercept, residual, total = 0.0, at[place.hi + m * m - 1], max(fit.total, 0.0)
            if choice.begin == 0:
                intercept = at[place.w] + at[place.w + m]
            for j in range(1, m - 1):
                w = at[place.w + j] + at[place.w + m + j]
                residual -= choice.penalty[j - 1] * w * w
            residual = max(residual, 0.0)
        out[to + d] = intercept
        out[to + d + 1] = at[place.hi]
        out[to + d + 2] = residual
        out[to + d + 3] = total
        out[to + d + 4] = count
        out[to + d + 5] = fit.status


@device_function
def write_variances(place, choice, status, out, to):
    """W, a column per thread, and the diagonal of (L D L^T)^-1 in out[to:] where it is wanted.

    The intercept's entry is the last. The robust variances behind it become zero, to be added to.
    """
    m, at, L, W = place.m, place.at, place.hi, place.lo
    robust = to + (m - 1) * choice.inverse
    for c in range(cuda.threadIdx.x, m - 1, cuda.blockDim.x):
        j, fitted = m - 2 if c == 0 else c - 1, status == FITTED and c >= choice.begin
        if choice.robust:
            out[robust + j] = 0.0 if fitted else np.nan
        if choice.inverse:
            out[to + j] = np.nan
        if fitted and choice.inverse + choice.robust > 0:
            total = 0.0
            for i in range(c, m - 1):
                value = 1.0 if i == c else 0.0
                for k in range(c, i):
                    value -= at[L + i * m + k] * at[W + k * m + c]
                at[W + i * m + c] = value
                total += value * value / at[L + i * m + i]
            if choice.inverse:
                out[to + j] = total
            for i in range(c, m - 1):
                at[W + i * m + c] /= math.sqrt(at[L + i * m + i])


@device_function
def add_variances(place, block, choice, out, to):
    """out[to:] += f (B z)^2 over the rows of the tile; see csrc/segments_robust.inc."""
    z, pitch, m, at = block.z, block.pitch, place.m, place.at
    thread, threads, begin = cuda.threadIdx.x, cuda.blockDim.x, choice.begin
    for e in range(thread, block.rows * (m - 1), threads):
        r, i = e // (m - 1), e % (m - 1)
        dot = 0.0
        for k in range(begin, i + 1):
            dot += at[place.lo + i * m + k] * z[r * pitch + k]
        at[place.q + r * pitch + i] = dot
    cuda.syncthreads()
    for r in range(thread, block.rows, threads):
        residual, left = -z[r * pitch + m - 1], 1.0
        for i in range(begin, m - 1):
            q = at[place.q + r * pitch + i]
            left -= q * q
            residual += (at[place.w + i] + at[place.w + m + i]) * z[r * pitch + i]
        factor = residual * residual
        if choice.robust > 1:
            part = 1.0 / left if left > LEAST_LEFT else 0.0
            factor *= part if choice.robust == 2 else part * part
        at[place.q + r * pitch + m - 1] = factor
    cuda.syncthreads()
    for c in range(begin + thread, m - 1, threads):
        j = m - 2 if c == 0 else c - 1
        total = out[to + j]
        for r in range(block.rows):
            v = 0.0
            for i in range(c, m - 1):
                v += at[place.lo + i * m + c] * at[place.q + r * pitch + i]
            total += at[place.q + r * pitch + m - 1] * v * v
        out[to + j] = total
