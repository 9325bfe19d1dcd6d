"""The contract's `loss_gradient`: one pass over X.

Three kernels, by how the rows lie:

==================================================  ================================================
one target, short rows without gaps                 `gradient_of_rows`: a row is in registers from
                                                    its residual to its share of the gradient
any other dense X                                   `gradient_of_tiles`: a tile of rows is read
                                                    twice, the second time from a cache
CSR                                                 `gradient_of_csr`: likewise
==================================================  ================================================

Each block of threads keeps sums of its own, m = t d + 2 t + 1 numbers: the gradient (t, d), the
losses (t,), the residuals (t,) and the weights. `warp.sum_of_blocks` adds them up in order.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ..contract import TargetGradients
from ..device import DeviceArray
from .blocks import blocks
from .compile import SIMULATED, Kernel, cuda, device_function, launch
from .context import lock, multiprocessors, on_device_of
from .lanes import LanePlan, column_of, load_row
from .memory import native, reserve
from .rows import (
    Block,
    Dense,
    Entries,
    Rows,
    Sparse,
    Weights,
    entry,
    matrix_of,
    stream_for,
    weight_of,
)
from .transfer import upload
from .warp import THREADS, WARP, WARPS, clear, sum_of_blocks, sum_of_lanes, sync_warp

SUMS_ARE_SPLIT = True  # over the threads of many blocks
TARGETS = 4  # of many targets, so many at a time go over a tile of rows
TILE_ROWS = 8 if SIMULATED else 32
TILE_BYTES = 65_536  # a tile is read again from the first-level cache, or the second
CSR_SUMS_BYTES = 512 << 20  # the sums of all blocks of a CSR gradient


def loss_gradient(X, y, w, b, sample_weight, n_threads) -> TargetGradients:
    """The contract's `loss_gradient`."""
    t, d = w.shape
    m = t * d + 2 * t + 1
    total = np.zeros(m)
    with lock, on_device_of(matrix_of(X)):
        stream = stream_for(X, y, sample_weight)
        weights = upload("weights", np.concatenate([w.reshape(-1), b]), stream)
        for block in blocks(X, y, sample_weight, stream):
            total += _sums_of_block(block, weights, t, m)
    coef, loss, intercept = np.split(total[:-1], [t * d, t * d + t])
    coef = coef.reshape(t, d)
    return TargetGradients(loss / total[-1], coef / total[-1], intercept / total[-1])


def _sums_of_block(block: Block, weights: DeviceArray, t: int, m: int) -> np.ndarray:
    n, d = block.X.shape
    shape: tuple[int, ...]
    if isinstance(block.X, Sparse):
        pieces = min(-(-n // TILE_ROWS), csr_sums_that_fit(m))
        kernel, shape = _gradient_of_csr(min(t, TARGETS)), (n, d, t)
    elif t == 1 and (plan := LanePlan.of(block.X)) is not None:
        pieces = -(-n // (THREADS // plan.lanes * plan.rows))
        kernel, shape = _gradient_of_rows(block.X.scalar, block.targets.scalar, plan), (n, d)
    else:
        tile = _rows_of_tile(block.X)
        pieces = -(-n // tile)
        kernel = _gradient_of_tiles(block.X.column_major, min(t, TARGETS))
        shape = (n, d, t, tile)
    grid = max(1, min(2 * multiprocessors(), pieces))
    parts = reserve("parts", grid * m)
    launch(kernel, grid, THREADS, block.stream)(
        *block.X.arguments, *shape, *block.targets.arguments, *block.weights, native(weights),
        native(parts),
    )  # fmt: skip
    return sum_of_blocks(parts, grid, m, block.stream)


def csr_sums_that_fit(m: int) -> int:
    """How many blocks of threads may have m sums each."""
    return CSR_SUMS_BYTES // (8 * m)


def _rows_of_tile(X: Rows) -> int:
    if X.column_major:
        return THREADS
    row = X.shape[1] * X.flat.itemsize
    return max(1, min(TILE_ROWS, TILE_BYTES // row))


# ----------------------------------------------------------------------------------------------
# One target, rows in registers
# ----------------------------------------------------------------------------------------------


@cache
def _gradient_of_rows(scalar, of_target, plan: LanePlan):
    per_lane, groups = plan.per_lane, THREADS // plan.lanes
    rows, in_flight = plan.rows, plan.rows * per_lane

    @Kernel
    def gradient_of_rows(
        flat, start, row_stride, column, n, d,
        y, y_start, y_row, y_column, s, weighted, w, parts,
    ):  # fmt: skip
        """r = x . w + b - y, then the gradient's share s r x, from the same registers.

        A group of `lanes` threads shares a row, and requests `rows` of them before it uses the
        first, 16 bytes per thread where X is aligned for it. Weights and gradient stay in
        registers as float64. Reads d numbers per row, once; 4 d flops.
        """
        scratch = cuda.shared.array(THREADS, np.float64)
        v = cuda.local.array(per_lane, np.float64)
        g = cuda.local.array(per_lane, np.float64)
        x = cuda.local.array(in_flight, scalar)
        # Converted to float64 only where they are used: a conversion would wait for its load, and
        # the loads of x would wait for the conversion.
        target = cuda.local.array(rows, of_target)
        weight = cuda.local.array(rows, of_target)
        lane, group = cuda.threadIdx.x % plan.lanes, cuda.threadIdx.x // plan.lanes
        for e in range(per_lane):
            j = column_of(e, lane, plan)
            v[e] = w[j] if j < d else 0.0
            g[e] = 0.0
        intercept, loss, residuals, weights = w[d], 0.0, 0.0, 0.0
        apart = cuda.gridDim.x * groups
        mine = cuda.blockIdx.x * groups + group
        for step in range((n + apart * rows - 1) // (apart * rows)):
            for r in range(rows):
                i = (step * rows + r) * apart + mine
                inside = i < n
                target[r] = y[y_start + i * y_row] if inside else of_target(0.0)
                weight[r] = of_target(1.0) if inside else of_target(0.0)
                if weighted and inside:
                    weight[r] = s[i]
                at = start + i * row_stride
                load_row(flat, at, lane, d, inside, x, r * per_lane, plan)
            for r in range(rows):
                dot = 0.0
                for e in range(per_lane):
                    dot += v[e] * x[r * per_lane + e]
                dot = sum_of_lanes(dot, plan.lanes, scratch)
                # The residual of a row of weight 0 may be infinite.
                if (step * rows + r) * apart + mine < n and weight[r] != 0.0:
                    residual = dot + intercept - np.float64(target[r])
                    c = np.float64(weight[r]) * residual
                    loss += 0.5 * c * residual
                    residuals += c
                    weights += np.float64(weight[r])
                    for e in range(per_lane):
                        g[e] += c * x[r * per_lane + e]
        _add_groups(g, (loss, residuals, weights), d, parts, scratch, plan)

    return gradient_of_rows


@device_function
def _add_groups(g, totals, d, parts, scratch, plan):
    """The block's sums, from those of its groups of lanes, in order."""
    thread = cuda.threadIdx.x
    lane, group = thread % plan.lanes, thread // plan.lanes
    groups = THREADS // plan.lanes
    base = cuda.blockIdx.x * (d + 3)
    for e in range(plan.vector * plan.chunks):
        scratch[thread] = g[e]
        cuda.syncthreads()
        j = column_of(e, lane, plan)
        if group == 0 and j < d:
            total = 0.0
            for k in range(groups):
                total += scratch[k * plan.lanes + lane]
            parts[base + j] = total
        cuda.syncthreads()
    for which in range(3):
        scratch[thread] = totals[0] if which == 0 else (totals[1] if which == 1 else totals[2])
        cuda.syncthreads()
        if thread == 0:
            total = 0.0
            for k in range(groups):
                total += scratch[k * plan.lanes]
            parts[base + d + which] = total
        cuda.syncthreads()


# ----------------------------------------------------------------------------------------------
# A tile of rows at a time
# ----------------------------------------------------------------------------------------------


class RowData(NamedTuple):
    """What belongs to the rows, inside a kernel."""

    y: Any  # Dense
    s: Any  # Weights
    w: Any  # (t d + t)  the weights, then the intercepts
    d: int
    t: int


class Tile(NamedTuple):
    """Some rows and some targets, with what the block has made of them in shared memory."""

    first: int
    rows: int
    c0: int  # the first target
    targets: int  # a constant of the kernel; some may lie beyond the last
    c_of: Any  # (rows, targets)  s r
    q_of: Any  # (rows, targets)  s r^2 / 2


@device_function
def _store_residual(dot, r, c, tile, problem):
    """c_of and q_of of row r and target c of the tile, from x . w."""
    i = tile.first + r
    weight = weight_of(problem.s, i)
    intercept = problem.w[problem.t * problem.d + tile.c0 + c]
    residual = dot + intercept - entry(problem.y, i, tile.c0 + c)
    if weight == 0.0:  # it may be infinite
        residual = 0.0
    tile.c_of[r * tile.targets + c] = weight * residual
    tile.q_of[r * tile.targets + c] = 0.5 * weight * residual * residual


@device_function
def _tally(tile, problem, parts, base):
    """Add a tile's losses, residuals and weights to the block's sums, one thread per sum."""
    thread, targets, t = cuda.threadIdx.x, tile.targets, problem.t
    at = base + t * problem.d
    if thread < targets and tile.c0 + thread < t:
        loss = 0.0
        residuals = 0.0
        for r in range(tile.rows):
            loss += tile.q_of[r * targets + thread]
            residuals += tile.c_of[r * targets + thread]
        parts[at + tile.c0 + thread] += loss
        parts[at + t + tile.c0 + thread] += residuals
    elif thread == THREADS - 1 and tile.c0 == 0:
        weights = float(tile.rows)
        if problem.s.given:
            weights = 0.0
            for r in range(tile.rows):
                weights += np.float64(problem.s.values[tile.first + r])
        parts[at + 2 * t] += weights


@cache
def _gradient_of_tiles(column_major: bool, targets: int):
    room = (THREADS if column_major else TILE_ROWS) * targets

    @Kernel
    def gradient_of_tiles(
        flat, start, row_stride, column, n, d, t, rows_of_tile,
        y, y_start, y_row, y_column, s, weighted, w, parts,
    ):  # fmt: skip
        """Any strides, width and number of targets: a tile of rows at a time.

        First the residuals of the tile are made; then its share of the gradient is added to the
        block's sums in global memory, while the tile is in the nearest cache that holds it. Both
        follow the smaller stride: each row has a warp (a thread, where columns lie together), then
        each column has a thread (a warp). Reads d numbers per row from memory, 4 d t flops.
        """
        X, y_of = Dense(flat, start, row_stride, column), Dense(y, y_start, y_row, y_column)
        problem = RowData(y_of, Weights(s, weighted), w, d, t)
        scratch = cuda.shared.array(THREADS, np.float64)
        c_of = cuda.shared.array(room, np.float64)
        q_of = cuda.shared.array(room, np.float64)
        sums = cuda.local.array(targets, np.float64)
        m = t * d + 2 * t + 1
        base = cuda.blockIdx.x * m
        clear(parts, base, m)
        for number in range(
            cuda.blockIdx.x, (n + rows_of_tile - 1) // rows_of_tile, cuda.gridDim.x
        ):
            first = number * rows_of_tile
            rows = min(rows_of_tile, n - first)
            for c0 in range(0, t, targets):
                tile = Tile(first, rows, c0, targets, c_of, q_of)
                _residuals_of_tile(X, tile, problem, sums, scratch, column_major)
                cuda.syncthreads()
                _tally(tile, problem, parts, base)
                _add_gradient_of_tile(X, tile, (d, t), sums, scratch, parts, base, column_major)
                cuda.syncthreads()

    return gradient_of_tiles


@device_function
def _residuals_of_tile(X, tile, problem, sums, scratch, column_major):
    """c_of and q_of of the tile: each row has a warp, or a thread where columns lie together."""
    thread, d, targets = cuda.threadIdx.x, problem.d, tile.targets
    lane, warp = thread % WARP, thread // WARP
    for step in range(1 if column_major else (tile.rows + WARPS - 1) // WARPS):
        r = thread if column_major else step * WARPS + warp
        for c in range(targets):
            sums[c] = 0.0
        if r < tile.rows:
            at = X.start + (tile.first + r) * X.row
            for j in range(0 if column_major else lane, d, 1 if column_major else WARP):
                x = np.float64(X.flat[at + j * X.column])
                for c in range(targets):
                    sums[c] += x * problem.w[min(tile.c0 + c, problem.t - 1) * d + j]
        for c in range(targets):
            dot = sums[c]
            if not column_major:
                dot = sum_of_lanes(dot, WARP, scratch)
            if r < tile.rows and tile.c0 + c < problem.t and (column_major or lane == 0):
                _store_residual(dot, r, c, tile, problem)


@device_function
def _add_gradient_of_tile(X, tile, shape, sums, scratch, parts, base, column_major):
    """Add X^T c_of to the block's sums: each column has a thread, or a warp where they lie so."""
    d, t = shape
    thread, targets = cuda.threadIdx.x, tile.targets
    lane, warp = thread % WARP, thread // WARP
    width = WARPS if column_major else THREADS
    for step in range((d + width - 1) // width):
        j = step * width + (warp if column_major else thread)
        for c in range(targets):
            sums[c] = 0.0
        if j < d:
            at = X.start + tile.first * X.row + j * X.column
            for r in range(lane if column_major else 0, tile.rows, WARP if column_major else 1):
                x = np.float64(X.flat[at + r * X.row])
                for c in range(targets):
                    sums[c] += tile.c_of[r * targets + c] * x
        for c in range(targets):
            share = sums[c]
            if column_major:
                share = sum_of_lanes(share, WARP, scratch)
            if j < d and tile.c0 + c < t and (lane == 0 or not column_major):
                parts[base + (tile.c0 + c) * d + j] += share


@cache
def _gradient_of_csr(targets: int):
    room = TILE_ROWS * targets

    @Kernel
    def gradient_of_csr(
        data, indices, indptr, n, d, t,
        y, y_start, y_row, y_column, s, weighted, w, parts,
    ):  # fmt: skip
        """`gradient_of_tiles` for CSR: each warp owns every `WARPS`-th column.

        For the gradient every warp goes through all entries of the tile, row by row, and adds those
        of its own columns to the block's sums: no two threads write to one sum, and the order is
        fixed, without atomics. The entries come from memory once, then from the first-level cache.
        """
        X, y_of = Entries(data, indices, indptr), Dense(y, y_start, y_row, y_column)
        problem = RowData(y_of, Weights(s, weighted), w, d, t)
        scratch = cuda.shared.array(THREADS, np.float64)
        c_of = cuda.shared.array(room, np.float64)
        q_of = cuda.shared.array(room, np.float64)
        sums = cuda.local.array(targets, np.float64)
        m = t * d + 2 * t + 1
        base = cuda.blockIdx.x * m
        clear(parts, base, m)
        for number in range(cuda.blockIdx.x, (n + TILE_ROWS - 1) // TILE_ROWS, cuda.gridDim.x):
            first = number * TILE_ROWS
            rows = min(TILE_ROWS, n - first)
            for c0 in range(0, t, targets):
                tile = Tile(first, rows, c0, targets, c_of, q_of)
                _residuals_of_csr(X, tile, problem, sums, scratch)
                cuda.syncthreads()
                _tally(tile, problem, parts, base)
                _add_gradient_of_csr(X, tile, (d, t), parts, base)
                cuda.syncthreads()

    return gradient_of_csr


@device_function
def _residuals_of_csr(X, tile, problem, sums, scratch):
    """c_of and q_of of the tile, one warp per row."""
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    d, targets = problem.d, tile.targets
    for step in range((tile.rows + WARPS - 1) // WARPS):
        r = step * WARPS + warp
        for c in range(targets):
            sums[c] = 0.0
        if r < tile.rows:
            i = tile.first + r
            for k in range(X.indptr[i] + lane, X.indptr[i + 1], WARP):
                x = np.float64(X.data[k])
                for c in range(targets):
                    sums[c] += x * problem.w[min(tile.c0 + c, problem.t - 1) * d + X.indices[k]]
        for c in range(targets):
            dot = sum_of_lanes(sums[c], WARP, scratch)
            if r < tile.rows and tile.c0 + c < problem.t and lane == 0:
                _store_residual(dot, r, c, tile, problem)


@device_function
def _add_gradient_of_csr(X, tile, shape, parts, base):
    """Add X^T c_of to the block's sums."""
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    d, t = shape
    for r in range(tile.rows):
        i = tile.first + r
        for k in range(X.indptr[i] + lane, X.indptr[i + 1], WARP):
            j = X.indices[k]
            if j % WARPS == warp:
                x = np.float64(X.data[k])
                for c in range(tile.targets):
                    if tile.c0 + c < t:
                        parts[base + (tile.c0 + c) * d + j] += tile.c_of[r * tile.targets + c] * x
        sync_warp()  # the next row's entries of these columns may be other lanes'
