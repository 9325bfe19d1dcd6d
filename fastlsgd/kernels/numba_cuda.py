"""The contract on a GPU. The shared pieces are in `cuda/`, where the families are moving."""

from __future__ import annotations

import math
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from .contract import CSR, Epoch, OptimizerRule, SGDState, rows_per_group
from .cuda import gather
from .cuda.blocks import blocks as _blocks
from .cuda.column_moments import column_moments
from .cuda.compile import SIMULATED, cuda
from .cuda.compile import Kernel as _Kernel
from .cuda.compile import device_function as _helper
from .cuda.compile import launch as _launch
from .cuda.context import build_info, isa
from .cuda.context import lock as _lock
from .cuda.context import multiprocessors as _multiprocessors
from .cuda.context import on_device_of as _on
from .cuda.gather import copy_to_host, take
from .cuda.gram import gram
from .cuda.loss_gradient import loss_gradient
from .cuda.memory import free_workspace
from .cuda.memory import native as _native
from .cuda.memory import reserve as _room
from .cuda.memory import workspace as _workspace
from .cuda.predict import predict
from .cuda.rows import Block as _Block
from .cuda.rows import Rows as _Rows
from .cuda.rows import Sparse as _Sparse
from .cuda.rows import matrix_of as _matrix
from .cuda.rows import order_arguments
from .cuda.rows import stream_for as _stream_for
from .cuda.transfer import copy_to_device as send_as_device_array
from .cuda.transfer import download as _get
from .cuda.transfer import to_numba_array as send
from .cuda.transfer import upload as _put
from .cuda.transformed_rows import transformed_rows
from .cuda.warp import THREADS, WARP, WARPS
from .cuda.warp import from_lane as _from_lane
from .cuda.warp import load_16_bytes as _load_16_bytes
from .cuda.warp import sum_of_lanes as _sum_of_lanes
from .cuda.warp import sync_warp as _sync_warp
from .device import DeviceArray

__all__ = [
    "build_info", "column_moments", "copy_to_host", "free_workspace", "gram", "isa",
    "loss_gradient", "predict", "send", "send_as_device_array", "sgd_epoch", "take",
    "transformed_rows", "_workspace",
]  # fmt: skip

SUMS_ARE_SPLIT = True  # over the threads of many blocks

MOST_PER_LANE = 16  # numbers of a row that a lane holds in registers, in `_gradient_of_rows`
ROWS_IN_FLIGHT = 32  # numbers that a lane has asked for at a time: several rows
TARGETS = 4  # of many targets, so many at a time go over a tile of rows
TILE_ROWS = 8 if SIMULATED else 32
MOST_PARTS = 8 if SIMULATED else 256  # of a mini-batch's gradient, each of some of its rows
TILE_BYTES = 65_536  # a tile is read again from the first-level cache, or the second
CSR_SUMS_BYTES = 512 << 20  # all blocks' own sums of a CSR gradient

TRIANGLE = 8 if SIMULATED else 32  # rows that `_solve_blocks` takes at a time
TRIANGLE_PITCH = TRIANGLE + 1  # the 1 is for the banks of shared memory
SQUARE = TRIANGLE * TRIANGLE_PITCH
CHAIN_THREADS = 16 if SIMULATED else 512  # of its one block
TRIANGLE_SIDE = TRIANGLE // (2 if SIMULATED else 16)  # products of a thread, of each side
TRIANGLE_PRODUCTS = TRIANGLE_SIDE * TRIANGLE_SIDE
CHAIN_PER_LANE = 8  # numbers of a row that a lane holds, in `_solve_blocks`
CHAIN_WEIGHTS = 1_024  # and intercepts, that shared memory holds
DEEP = TRIANGLE // WARPS  # rows of a block that a warp has, in `_solve_wide_blocks`
SIDE = 2 if SIMULATED else 16  # gram: SIDE x SIDE threads, of 4 x 4 products each
GRAM_DEPTH = 4 if SIMULATED else 16  # rows of a tile in shared memory
GRAM_PITCH = GRAM_DEPTH + 1  # the 1 is for the banks of shared memory
TRIANGLE_STRIP = TRIANGLE * GRAM_PITCH
GRAM_TILE = 4 * SIDE  # columns of a tile
GRAM_STRIP = GRAM_DEPTH * GRAM_TILE
GRAM_BYTES = 128 << 20  # rows made float64 at a time: enough for the device to be the slower one
TURNED = WARP * (WARP + 1)  # a square of numbers in shared memory; the 1 is for its banks
LEFT_STRIP = GRAM_TILE * GRAM_PITCH

# Of `transformed_rows`. A chunk costs some 30 launches and small copies, of 10 microseconds each.
CHUNK_BYTES = 256 << 20
CUBLAS_PRODUCTS = 1e8  # multiply-adds from which cuBLAS is worth its call
TINY_SCALE = 1e-4

_kernel = _Kernel
# 65,536 registers of a multiprocessor for a block of `CHAIN_THREADS`.
_small_kernel = partial(_Kernel, max_registers=65_536 // CHAIN_THREADS)


@_helper
def _sync_block():
    cuda.syncthreads()


@_helper
def _sync_grid():
    cuda.cg.this_grid().sync()


def _nothing():
    """An order, where there is none."""
    return order_arguments(None)[0]


class _Plan(NamedTuple):
    """How `_gradient_of_rows` lays a row over the lanes of a warp."""

    vector: int  # numbers in a load
    chunks: int  # loads of a lane
    lanes: int  # that share a row
    rows: int  # at a time


def _lanes_for(X: _Rows) -> _Plan | None:
    """The plan for rows that lie together and are not too long for registers."""
    if not X.contiguous_rows:
        return None
    vector = X.vector()
    loads = -(-X.shape[1] // vector)
    lanes = 1
    while lanes < min(WARP, loads):
        lanes *= 2
    chunks = -(-loads // lanes)
    if vector * chunks > MOST_PER_LANE:
        return None
    return _Plan(vector, chunks, lanes, min(8, max(2, ROWS_IN_FLIGHT // (vector * chunks))))


def _scalar(array: DeviceArray) -> Any:
    """The type of its numbers, as Numba's local arrays take it."""
    return array.dtype.type


@_helper
def _column_of(e, lane, vector, lanes):
    """The column of a lane's e-th number, where `_load_row` has laid out a row."""
    return (e // vector * lanes + lane) * vector + e % vector


@_helper
def _load_row(flat, at, lane, d, inside, x, base, vector, chunks, lanes):
    """x[base:] = this lane's numbers of the row at `at`, 0 where it or they are not there."""
    for k in range(chunks):
        j = (k * lanes + lane) * vector
        if inside and j < d:
            if vector > 1:
                numbers = _load_16_bytes(flat, at + j)
                for e in range(vector):
                    x[base + k * vector + e] = numbers[e]
            else:
                x[base + k] = flat[at + j]
        else:
            for e in range(vector):
                x[base + k * vector + e] = 0.0


# ----------------------------------------------------------------------------------------------
# sgd_epoch
# ----------------------------------------------------------------------------------------------
#
# One launch does all updates of a block of rows; weights, intercept and state are float64 on the
# device meanwhile, and rounded to X's dtype when the call ends. Three ways:
#
#   dense, no L1, prox or average, small batches   `_triangles`, then `_solve_blocks`
#   dense, the rest                                `_dense_updates`: many blocks that meet twice an
#                                                  update, or one where an update is small
#   CSR                                            `_csr_updates`, one block


class _Descent(NamedTuple):
    """What an epoch's kernels share, on the device but for the numbers."""

    w: DeviceArray  # (t, d)
    b: DeviceArray  # (t,)
    rates: DeviceArray  # (k,)
    paid: DeviceArray  # (t, d)
    coef_sum: DeviceArray  # (t, d)
    intercept_sum: DeviceArray  # (t,)
    soft: DeviceArray  # (d,)
    shrink: DeviceArray  # (d,)
    scalars: DeviceArray  # (2,)  L1 due; loss
    batch: int
    l2: float
    l1: float
    fit_intercept: int
    implicit: int
    group: int  # rows between two proximal steps; 0 for none
    skipped: int  # updates before the average begins

    def arguments(self, first_update: int) -> tuple:
        arrays = tuple(_native(part) for part in self[:9])
        return (*arrays, *self[9:], first_update)


def sgd_epoch(X, y, w, b, sample_weight, epoch: Epoch, state: SGDState, n_threads) -> float:
    """The contract's `sgd_epoch`."""
    t, d = w.shape
    l1, rates, prox = epoch.l1, epoch.rates, epoch.prox
    averages = state.average_after is not None
    skipped = min(state.average_after, len(rates)) if averages else len(rates)
    with _lock, _on(_matrix(X)):
        stream = _stream_for(X, y, sample_weight, epoch.order)

        def put(purpose, values, needed=True):
            return _put(f"sgd {purpose}", values if needed else np.zeros(1), stream)

        descent = _Descent(
            put("w", w),
            put("b", b),
            put("rates", rates),
            put("paid", state.l1_paid, l1 > 0.0),
            put("coef_sum", state.coef_sum, skipped < len(rates)),
            put("intercept_sum", state.intercept_sum, skipped < len(rates)),
            put("soft", None if prox is None else prox.soft, prox is not None),
            put("shrink", None if prox is None else prox.shrink, prox is not None),
            put("scalars", np.array([state.l1_due, 0.0])),
            epoch.batch_size,
            epoch.l2,
            l1,
            int(epoch.fit_intercept),
            int(epoch.implicit),
            0 if prox is None else rows_per_group(epoch.batch_size),
            skipped,
        )
        optimizer = None
        if state.optimizer is not None:
            optimizer = state.optimizer.rule, _put_optimizer(state.optimizer, t, d, stream)
        _run_updates(X, y, sample_weight, epoch.order, stream, descent, len(rates), optimizer)
        if optimizer is not None:
            _get_optimizer(state.optimizer, optimizer[1], len(rates), t, d, stream)
        w[...] = _get(descent.w[: w.size], stream).reshape(w.shape)
        b[...] = _get(descent.b[: b.size], stream)
        if l1 > 0.0:
            state.l1_paid[...] = _get(descent.paid[: w.size], stream).reshape(w.shape)
        if skipped < len(rates):
            state.coef_sum[...] = _get(descent.coef_sum[: w.size], stream).reshape(-1, d)
            state.intercept_sum[...] = _get(descent.intercept_sum[: b.size], stream)
        due, loss = _get(descent.scalars[:2], stream)
    state.l1_due = float(due)
    if averages:
        state.n_summed += len(rates) - skipped
        state.average_after -= skipped
    return float(loss)


def _run_updates(X, y, s, order, stream, descent: _Descent, updates: int, optimizer) -> None:
    """All visits, a launch or two for each block of rows."""
    batch, t = descent.batch, y.shape[1]
    d = X.shape[1]
    if isinstance(X, CSR):
        launch, multiple = _launch_csr, rows_per_group(batch)
    elif _takes_blocks(descent, updates, d, t, optimizer):
        launch, multiple = _launch_triangles, _rows_of_block(descent)
    else:
        launch, multiple = _launch_dense, rows_per_group(batch)
    for block in _blocks(X, y, s, stream, order, multiple, packed=True):
        launch(block, descent, block.first // batch, t, optimizer)


def _launch_dense(
    block: _Block, descent: _Descent, first_update: int, t: int, optimizer=None
) -> None:
    n, d = block.X.shape
    assert block.y is not None
    assert isinstance(block.X, _Rows)
    batch = min(descent.batch, n)
    plan = _lanes_for(block.X) if t == 1 else None
    rows_of_part: tuple[int, ...] = ()
    if plan is None:
        most, scratch = max(-(-batch // WARPS), -(-d // WARP)), batch * t
    else:
        rows_of_part = (_rows_of_part(descent.batch, plan),)
        most = -(-batch // rows_of_part[0])
        scratch = most * (d + 1)
    # A barrier of the grid costs a microsecond.
    alone = SIMULATED or most == 1 or batch * d * t < 16_384
    blocks = 1 if alone else min(_multiprocessors(), most)
    steps = _room("sgd steps", scratch)
    losses = _room("sgd losses", blocks * WARPS)
    targets = (_native(block.y.flat), block.y.start, block.y.row, block.y.column)
    rule, more = None, ()
    if optimizer is not None:
        rule, more = optimizer[0], optimizer[1].arguments()
    kernel = _kernel_of_updates(block, rule, plan, min(t, TARGETS), alone)
    _launch(kernel, blocks, THREADS, block.stream)(
        *block.X.arguments, n, d, t, *targets, *block.weights, *descent.arguments(first_update),
        *rows_of_part, _native(steps), _native(losses), *more,
    )  # fmt: skip
    _launch(_add_loss, 1, WARP, block.stream)(
        _native(losses), blocks * WARPS, _native(descent.scalars)
    )


def _rows_of_part(batch: int, plan: _Plan) -> int:
    """Rows of a mini-batch that a block of threads adds up alone: a number of batch alone."""
    groups = THREADS // plan.lanes
    return groups * max(1, -(-batch // (groups * MOST_PARTS)))


def _kernel_of_updates(block: _Block, rule, plan: _Plan | None, targets: int, alone: bool):
    if plan is None:
        if rule is None:
            return _dense_updates(targets, alone)
        return _dense_optimizer_updates(rule, targets, alone)
    assert isinstance(block.X, _Rows)
    assert block.y is not None
    kinds = _scalar(block.X.flat), _scalar(block.y.flat)
    lay_out = *kinds, plan.vector, plan.chunks, plan.lanes
    if rule is None:
        return _row_updates(*lay_out, alone)
    return _row_optimizer_updates(rule, *lay_out, alone)


@_kernel
def _add_loss(losses, count, scalars):
    if cuda.threadIdx.x == 0:
        total = 0.0
        for k in range(count):
            total += losses[k]
        scalars[1] += total


@_helper
def _shrinkage(rate, l2):
    factor = 1.0 - rate * l2
    return 0.0 if factor < 0.0 else factor


@_helper
def _proximal(v, pending, soft, shrink):
    """A weight after the proximal step of so much rate; NaN stays NaN."""
    size = abs(v) - pending * soft
    size = 0.0 if size < 0.0 else size / (1.0 + pending * shrink)
    return size if v > 0.0 else -size


@_helper
def _finish_weight(
    v, at, j, averaged, coef_sum, l1, due, paid, at_group_end, pending, soft, shrink
):
    """What follows the gradient step of a weight v: average, L1 and prox. The new weight.

    Comparisons are such that NaN stays NaN.
    """
    if averaged:
        coef_sum[at] += v
    if l1 > 0.0:  # Tsuruoka et al. (2009), section 3.2
        before = v
        if before > 0.0:
            v = before - (due + paid[at])
            v = 0.0 if v < 0.0 else v
        elif before < 0.0:
            v = before + (due - paid[at])
            v = 0.0 if v > 0.0 else v
        paid[at] += v - before
    if at_group_end:
        before = v
        v = _proximal(before, pending, soft[j], shrink[j])
        if averaged:
            coef_sum[at] += v - before
    return v


@_helper
def _finish_column(
    c, j, d, total, w, b, factor, averaged, coef_sum, intercept_sum, l1, due, paid, at_group_end,
    pending, soft, shrink, fit_intercept,
):  # fmt: skip
    """Weight j of target c, or its intercept (j = d), once its mini-batch's step is added up."""
    if j < d:
        where = c * d + j
        w[where] = _finish_weight(
            w[where] * factor - total, where, j, averaged, coef_sum, l1, due, paid,
            at_group_end, pending, soft, shrink,
        )  # fmt: skip
    else:
        if fit_intercept:
            b[c] -= total
        if averaged:
            intercept_sum[c] += b[c]


@_helper
def _dense_steps(
    flat, start, row_stride, column, first, size, d, t, y, y_start, y_row, y_column,
    s, weighted, w, b, rate, fit_intercept, implicit, steps, sums, targets, scratch,
):  # fmt: skip
    """steps[r] = g_r r_r of a mini-batch's rows, a warp a row; returns this lane's loss."""
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    my_warp, warps = cuda.blockIdx.x * WARPS + warp, cuda.gridDim.x * WARPS
    loss = 0.0
    for step in range((size + warps - 1) // warps):
        r = step * warps + my_warp
        i = first + r
        at = start + i * row_stride
        norm = 0.0
        if implicit:
            if r < size:
                for j in range(lane, d, WARP):
                    x = np.float64(flat[at + j * column])
                    norm += x * x
            norm = _sum_of_lanes(norm, WARP, scratch)
        for c0 in range(0, t, targets):
            for c in range(targets):
                sums[c] = 0.0
            if r < size:
                for j in range(lane, d, WARP):
                    x = np.float64(flat[at + j * column])
                    for c in range(targets):
                        sums[c] += x * w[min(c0 + c, t - 1) * d + j]
            for c in range(targets):
                dot = _sum_of_lanes(sums[c], WARP, scratch)
                if r < size and c0 + c < t and lane == 0:
                    residual = dot + b[c0 + c] - y[y_start + i * y_row + (c0 + c) * y_column]
                    g = rate / size
                    if weighted:
                        g *= np.float64(s[i])
                    if implicit:
                        g /= 1.0 + g * (norm + fit_intercept)
                    if weighted and s[i] == 0.0:  # whatever the row holds
                        residual = 0.0
                        g = 0.0
                    loss += 0.5 * residual * residual
                    steps[r * t + c0 + c] = g * residual
    return loss


@cache
def _dense_updates(targets: int, alone: bool):

    @_kernel
    def dense_updates(
        flat, start, row_stride, column, n, d, t, y, y_start, y_row, y_column, s, weighted,
        w, b, rates, paid, coef_sum, intercept_sum, soft, shrink, scalars,
        batch, l2, l1, fit_intercept, implicit, group, skipped, first_update, steps, losses,
    ):  # fmt: skip
        """All mini-batches of these rows, one after the other, in one launch.

        For each: warps make the steps g_i r_i of its rows (steps, (batch, t)); all meet; blocks
        take slices of columns, sum their rows' steps and finish those weights; all meet. The
        intercept is column d, of ones. A row is read from memory once, then from a cache, by
        another multiprocessor. 4 d t flops a row. The order of every sum depends on batch alone,
        not on the number of blocks.
        """
        scratch = cuda.shared.array(THREADS, np.float64)
        sums = cuda.local.array(targets, np.float64)
        thread = cuda.threadIdx.x
        lane, warp = thread % WARP, thread // WARP
        my_warp = cuda.blockIdx.x * WARPS + warp
        due, pending, loss = scalars[0], 0.0, 0.0
        for k in range((n + batch - 1) // batch):
            first = k * batch
            size = min(batch, n - first)
            rate = rates[first_update + k]
            averaged = first_update + k >= skipped
            loss += _dense_steps(
                flat, start, row_stride, column, first, size, d, t, y, y_start, y_row, y_column,
                s, weighted, w, b, rate, fit_intercept, implicit, steps, sums, targets, scratch,
            )  # fmt: skip
            if alone:
                _sync_block()
            else:
                _sync_grid()
            factor = _shrinkage(rate, l2)
            due += rate * l1
            pending += rate
            at_group_end = group > 0 and ((first + size) % group == 0 or first + size == n)
            for q in range(cuda.blockIdx.x, (d + WARP) // WARP, cuda.gridDim.x):
                j = q * WARP + lane
                for c0 in range(0, t, targets):
                    for c in range(targets):
                        sums[c] = 0.0
                    if j < d:
                        for r in range(warp, size, WARPS):
                            x = np.float64(flat[start + (first + r) * row_stride + j * column])
                            for c in range(targets):
                                sums[c] += steps[r * t + min(c0 + c, t - 1)] * x
                    elif j == d:
                        for r in range(warp, size, WARPS):
                            for c in range(targets):
                                sums[c] += steps[r * t + min(c0 + c, t - 1)]
                    for c in range(targets):
                        scratch[thread] = sums[c]
                        cuda.syncthreads()
                        if warp == c % WARPS and j <= d and c0 + c < t:
                            total = 0.0
                            for other in range(WARPS):
                                total += scratch[other * WARP + lane]
                            _finish_column(
                                c0 + c, j, d, total, w, b, factor, averaged, coef_sum,
                                intercept_sum, l1, due, paid, at_group_end, pending, soft, shrink,
                                fit_intercept,
                            )  # fmt: skip
                        cuda.syncthreads()
            if at_group_end:
                pending = 0.0
            if alone:
                _sync_block()
            else:
                _sync_grid()
        if lane == 0:
            losses[my_warp] = loss
        # Every thread has read the due of the start: a grid that met in the loop, or one block.
        if my_warp == 0 and lane == 0:
            scalars[0] = due

    return dense_updates


@_helper
def _parts_of_batch(
    flat, start, row_stride, first, size, d, y, y_start, y_row, s, weighted,
    w, b, rate, fit_intercept, implicit, rows_of_part, parts, scratch, v, g, x, beside, shares,
    vector, chunks, lanes,
):  # fmt: skip
    """parts[p] = sum of steps g_i r_i (x_i, 1) over part p of a mini-batch's rows.

    As in `gradient_of_rows`, `lanes` threads have a row, in registers (x, and `beside` it target
    and weight) from its residual to its share of the step; a block's groups of threads meet once
    a part, in `shares`. Returns this lane's loss.
    """
    per_lane, groups, width = vector * chunks, THREADS // lanes, lanes * vector * chunks
    thread = cuda.threadIdx.x
    lane, group = thread % lanes, thread // lanes
    for e in range(per_lane):
        j = _column_of(e, lane, vector, lanes)
        v[e] = w[j] if j < d else 0.0
    intercept = b[0]
    loss = 0.0
    for p in range(cuda.blockIdx.x, (size + rows_of_part - 1) // rows_of_part, cuda.gridDim.x):
        for e in range(per_lane):
            g[e] = 0.0
        total = 0.0
        for step in range(rows_of_part // groups):
            r = p * rows_of_part + step * groups + group
            i = first + r
            inside = r < size
            _load_row(flat, start + i * row_stride, lane, d, inside, x, 0, vector, chunks, lanes)
            beside[0] = 0.0
            beside[1] = 1.0
            if inside:
                beside[0] = y[y_start + i * y_row]
                if weighted:
                    beside[1] = s[i]
            dot = 0.0
            norm = 0.0
            for e in range(per_lane):
                dot += v[e] * x[e]
                norm += np.float64(x[e]) * x[e]
            dot = _sum_of_lanes(dot, lanes, scratch)
            if implicit:
                norm = _sum_of_lanes(norm, lanes, scratch)
            if inside and beside[1] != 0.0:
                residual = dot + intercept - np.float64(beside[0])
                if lane == 0:
                    loss += 0.5 * residual * residual
                c = rate / size * np.float64(beside[1])
                if implicit:
                    c /= 1.0 + c * (norm + fit_intercept)
                c *= residual
                total += c
                for e in range(per_lane):
                    g[e] += c * x[e]
        for e in range(per_lane):
            shares[group * width + _column_of(e, lane, vector, lanes)] = g[e]
        if lane == 0:
            shares[groups * width + group] = total
        cuda.syncthreads()
        for j in range(thread, d + 1, THREADS):
            total = 0.0
            for k in range(groups):
                total += shares[k * width + j if j < d else groups * width + k]
            parts[p * (d + 1) + j] = total
        cuda.syncthreads()
    return loss


@_helper
def _total_of_parts(parts, count, j, d, scratch):
    """The sum of all parts' column j (0 beyond them), by a warp."""
    total = 0.0
    if j <= d:
        for p in range(cuda.threadIdx.x % WARP, count, WARP):
            total += parts[p * (d + 1) + j]
    return _sum_of_lanes(total, WARP, scratch)


@cache
def _row_updates(scalar, of_target, vector: int, chunks: int, lanes: int, alone: bool):
    per_lane, groups = vector * chunks, THREADS // lanes
    room = groups * (lanes * per_lane + 1)

    @_kernel
    def row_updates(
        flat, start, row_stride, column, n, d, t, y, y_start, y_row, y_column, s, weighted,
        w, b, rates, paid, coef_sum, intercept_sum, soft, shrink, scalars,
        batch, l2, l1, fit_intercept, implicit, group, skipped, first_update,
        rows_of_part, parts, losses,
    ):  # fmt: skip
        """As `dense_updates`, of one target and rows that registers hold.

        For each mini-batch: blocks add up its parts; all meet; warps add up columns of these and
        finish their weights; all meet. A row is read once. 4 d flops a row, and d numbers a part
        written and read again. The order of every sum depends on batch alone.
        """
        scratch = cuda.shared.array(THREADS, np.float64)
        shares = cuda.shared.array(room, np.float64)
        v = cuda.local.array(per_lane, np.float64)
        g = cuda.local.array(per_lane, np.float64)
        x = cuda.local.array(per_lane, scalar)
        beside = cuda.local.array(2, of_target)
        lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
        my_warp, warps = cuda.blockIdx.x * WARPS + warp, cuda.gridDim.x * WARPS
        due, pending, loss = scalars[0], 0.0, 0.0
        for k in range((n + batch - 1) // batch):
            first = k * batch
            size = min(batch, n - first)
            rate = rates[first_update + k]
            averaged = first_update + k >= skipped
            loss += _parts_of_batch(
                flat, start, row_stride, first, size, d, y, y_start, y_row, s, weighted,
                w, b, rate, fit_intercept, implicit, rows_of_part, parts, scratch, v, g, x, beside,
                shares, vector, chunks, lanes,
            )  # fmt: skip
            if alone:
                _sync_block()
            else:
                _sync_grid()
            factor = _shrinkage(rate, l2)
            due += rate * l1
            pending += rate
            at_group_end = group > 0 and ((first + size) % group == 0 or first + size == n)
            count = (size + rows_of_part - 1) // rows_of_part
            for step in range((d + warps) // warps):
                j = step * warps + my_warp
                total = _total_of_parts(parts, count, j, d, scratch)
                if j <= d and lane == 0:
                    _finish_column(
                        0, j, d, total, w, b, factor, averaged, coef_sum, intercept_sum, l1, due,
                        paid, at_group_end, pending, soft, shrink, fit_intercept,
                    )  # fmt: skip
            if at_group_end:
                pending = 0.0
            if alone:
                _sync_block()
            else:
                _sync_grid()
        loss = _sum_of_lanes(loss, WARP, scratch)
        if lane == 0:
            losses[my_warp] = loss
        if my_warp == 0 and lane == 0:
            scalars[0] = due

    return row_updates


def _launch_csr(
    block: _Block, descent: _Descent, first_update: int, t: int, optimizer=None
) -> None:
    assert block.y is not None
    assert isinstance(block.X, _Sparse)
    order, d = block.X.order, block.X.shape[1]
    n = block.n if order is None else len(order)
    visit = _nothing() if order is None else _native(order)
    steps = _room("sgd steps", min(descent.batch, n) * t)
    losses = _room("sgd losses", WARPS)
    targets = (_native(block.y.flat), block.y.start, block.y.row, block.y.column)
    kernel, more = _csr_updates, ()
    if optimizer is not None:
        rule, on_device = optimizer
        kernel, more = _csr_optimizer_updates(rule), on_device.arguments()
    _launch(kernel, 1, THREADS, block.stream)(
        *block.X.arguments, visit, int(order is not None), n, d, t, *targets, *block.weights,
        *descent.arguments(first_update), _native(steps), _native(losses), *more,
    )  # fmt: skip
    _launch(_add_loss, 1, WARP, block.stream)(_native(losses), WARPS, _native(descent.scalars))


@_helper
def _csr_steps(
    data, indices, indptr, order, ordered, first, size, d, t, y, y_start, y_row, y_column,
    s, weighted, w, scale, b, rate, fit_intercept, implicit, steps, scratch,
):  # fmt: skip
    """As `dense_steps`, by one block; weights are ``scale w``."""
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    loss = 0.0
    for step in range((size + WARPS - 1) // WARPS):
        r = step * WARPS + warp
        i = first + r if r < size else first
        if ordered:
            i = order[i]
        begin, end = indptr[i], indptr[i + 1]
        norm = 0.0
        for e in range(begin + lane, end, WARP):
            norm += np.float64(data[e]) * np.float64(data[e])
        norm = _sum_of_lanes(norm, WARP, scratch)
        for c in range(t):
            dot = 0.0
            for e in range(begin + lane, end, WARP):
                dot += np.float64(data[e]) * w[c * d + indices[e]]
            dot = _sum_of_lanes(dot, WARP, scratch)
            if r < size and lane == 0:
                residual = scale * dot + b[c] - y[y_start + i * y_row + c * y_column]
                g = rate / size
                if weighted:
                    g *= np.float64(s[i])
                if implicit:
                    g /= 1.0 + g * (norm + fit_intercept)
                if weighted and s[i] == 0.0:  # whatever the row holds
                    residual = 0.0
                    g = 0.0
                loss += 0.5 * residual * residual
                steps[r * t + c] = g * residual
    return loss


@_kernel
def _csr_updates(
    data, indices, indptr, order, ordered, n, d, t, y, y_start, y_row, y_column, s, weighted,
    w, b, rates, paid, coef_sum, intercept_sum, soft, shrink, scalars,
    batch, l2, l1, fit_intercept, implicit, group, skipped, first_update, steps, losses,
):  # fmt: skip
    """As `dense_updates`, of CSR rows, by one block.

    Weights are kept as ``scale v``, so that L2 alone costs no visit of all of them; L1, a prox
    and averages do, t d numbers an update. A warp owns each so-many-th column, as in
    `gradient_of_csr`.
    """
    scratch = cuda.shared.array(THREADS, np.float64)
    thread = cuda.threadIdx.x
    lane, warp = thread % WARP, thread // WARP
    due, pending, loss, scale = scalars[0], 0.0, 0.0, 1.0
    for k in range((n + batch - 1) // batch):
        first = k * batch
        size = min(batch, n - first)
        rate = rates[first_update + k]
        averaged = first_update + k >= skipped
        loss += _csr_steps(
            data, indices, indptr, order, ordered, first, size, d, t, y, y_start, y_row, y_column,
            s, weighted, w, scale, b, rate, fit_intercept, implicit, steps, scratch,
        )  # fmt: skip
        cuda.syncthreads()
        scale *= _shrinkage(rate, l2)
        due += rate * l1
        pending += rate
        at_group_end = group > 0 and ((first + size) % group == 0 or first + size == n)
        if scale < TINY_SCALE:
            for place in range(thread, t * d, THREADS):
                w[place] *= scale
            scale = 1.0
            cuda.syncthreads()
        inverse = 1.0 / scale
        for r in range(size):
            i = first + r
            if ordered:
                i = order[i]
            for e in range(indptr[i] + lane, indptr[i + 1], WARP):
                j = indices[e]
                if j % WARPS == warp:
                    x = inverse * data[e]
                    for c in range(t):
                        w[c * d + j] -= steps[r * t + c] * x
            _sync_warp()
        for c in range(thread, t, THREADS):
            if fit_intercept:
                total = 0.0
                for r in range(size):
                    total += steps[r * t + c]
                b[c] -= total
            if averaged:
                intercept_sum[c] += b[c]
        cuda.syncthreads()
        if l1 > 0.0 or averaged or at_group_end:
            for place in range(thread, t * d, THREADS):
                w[place] = _finish_weight(
                    w[place] * scale, place, place % d, averaged, coef_sum, l1, due, paid,
                    at_group_end, pending, soft, shrink,
                )  # fmt: skip
            scale = 1.0
            cuda.syncthreads()
        if at_group_end:
            pending = 0.0
    for place in range(thread, t * d, THREADS):
        w[place] *= scale
    if lane == 0:
        losses[warp] = loss
    if thread == 0:
        scalars[0] = due


# With an optimizer the mean gradients G (t, d + 1), of the intercept last, are written out, since
# clipping needs the norm of all of them before the first weight moves.


class _Optimizer(NamedTuple):
    """An `OptimizerState` on the device, as the kernels take it."""

    first: DeviceArray  # (t, d + 1)  moments, the intercept's last
    second: DeviceArray
    gradients: DeviceArray
    beta1: float
    beta2: float
    eps: float
    max_norm: float
    steps: int

    def arguments(self) -> tuple:
        return (*(_native(part) for part in self[:3]), *self[3:])


def _put_optimizer(o, t: int, d: int, stream) -> _Optimizer:
    def moments(name):
        values = np.zeros((t, d + 1))
        if getattr(o, f"coef_{name}") is not None:
            values[:, :d], values[:, d] = (
                getattr(o, f"coef_{name}"),
                getattr(o, f"intercept_{name}"),
            )
        return _put(f"sgd {name} moments", values, stream)

    gradients = _room("sgd gradients", t * (d + 1))
    return _Optimizer(
        moments("first"), moments("second"), gradients, o.beta1, o.beta2, o.eps, o.max_norm, o.steps
    )


def _get_optimizer(o, on_device: _Optimizer, updates: int, t: int, d: int, stream) -> None:
    o.steps += updates
    for name in ("first", "second"):
        if getattr(o, f"coef_{name}") is not None:
            values = _get(getattr(on_device, name)[: t * (d + 1)], stream).reshape(t, d + 1)
            getattr(o, f"coef_{name}")[...] = values[:, :d]
            getattr(o, f"intercept_{name}")[...] = values[:, d]


# As kernels know them, since Numba keeps what it compiled of numbers on disk, not of functions.
SGD, MOMENTUM, NESTEROV, RMSPROP, ADAGRAD, ADAM, ADAMW = map(int, OptimizerRule)


@_helper
def _optimizer_step(rule, v, g, at, first, second, beta1, beta2, eps, number, rate, l2, l1):
    """`OptimizerState`'s step of one weight, decay and proximal step included."""
    if rule in (SGD, ADAMW):
        v *= _shrinkage(rate, l2)
    else:
        g += l2 * v
    p, D, gain = g, 1.0, 1.0
    if rule in (MOMENTUM, NESTEROV):
        p = beta1 * first[at] + g
        first[at] = p
        gain = (1.0 - beta1**number) / (1.0 - beta1)
        if rule == NESTEROV:
            p = g + beta1 * p
            gain = (1.0 - beta1 ** (number + 1)) / (1.0 - beta1)
    elif rule == ADAGRAD:
        second[at] += g * g
        D = math.sqrt(second[at]) + eps
    elif rule == RMSPROP:
        second[at] = beta2 * second[at] + (1.0 - beta2) * g * g
        D = math.sqrt(second[at]) + eps
    elif rule in (ADAM, ADAMW):
        first[at] = beta1 * first[at] + (1.0 - beta1) * g
        second[at] = beta2 * second[at] + (1.0 - beta2) * g * g
        p = first[at] / (1.0 - beta1**number)
        D = math.sqrt(second[at] / (1.0 - beta2**number)) + eps
    v -= rate * p / D
    if rule != SGD and l1 > 0.0:
        cut = rate * l1 * gain / D
        if v > cut:
            v -= cut
        elif v < -cut:
            v += cut
        elif v >= -cut:  # not where it is NaN
            v = 0.0
    return v


@_helper
def _optimized_weights(
    rule, place, apart, d, t, w, b, first, second, gradients, beta1, beta2, eps, max_norm, number,
    rate, l2, l1, due, paid, averaged, coef_sum, intercept_sum, scratch,
):  # fmt: skip
    """The step of all weights from their gradients; this thread's are place, place + apart.

    The norms are added up by each warp for itself, in the same order.
    """
    lane = cuda.threadIdx.x % WARP
    for c in range(t):
        clip = 1.0
        if max_norm < math.inf:
            square = 0.0
            for j in range(lane, d + 1, WARP):
                square += gradients[c * (d + 1) + j] * gradients[c * (d + 1) + j]
            square = _sum_of_lanes(square, WARP, scratch)
            clip = max_norm / (math.sqrt(square) + 1e-6)
            if clip > 1.0:
                clip = 1.0
        for j in range(place, d + 1, apart):
            at = c * (d + 1) + j
            g = clip * gradients[at]
            if j == d:
                b[c] = _optimizer_step(
                    rule, b[c], g, at, first, second, beta1, beta2, eps, number, rate, 0.0, 0.0
                )
                if averaged:
                    intercept_sum[c] += b[c]
            else:
                v = _optimizer_step(
                    rule, w[c * d + j], g, at, first, second, beta1, beta2, eps, number, rate,
                    l2, l1,
                )  # fmt: skip
                if rule == SGD:
                    v = _finish_weight(
                        v, c * d + j, j, averaged, coef_sum, l1, due, paid, False, 0.0, w, w
                    )
                elif averaged:
                    coef_sum[c * d + j] += v
                w[c * d + j] = v


@cache
def _dense_optimizer_updates(rule: OptimizerRule, targets: int, alone: bool):
    code, plain = int(rule), rule == SGD

    @_kernel
    def dense_optimizer_updates(
        flat, start, row_stride, column, n, d, t, y, y_start, y_row, y_column, s, weighted,
        w, b, rates, paid, coef_sum, intercept_sum, soft, shrink, scalars,
        batch, l2, l1, fit_intercept, implicit, group, skipped, first_update, steps, losses,
        first_moments, second_moments, gradients, beta1, beta2, eps, max_norm, done,
    ):  # fmt: skip
        """As `dense_updates` with an optimizer: all meet three times an update."""
        scratch = cuda.shared.array(THREADS, np.float64)
        sums = cuda.local.array(targets, np.float64)
        thread = cuda.threadIdx.x
        lane, warp = thread % WARP, thread // WARP
        due, loss = scalars[0], 0.0
        for k in range((n + batch - 1) // batch):
            first = k * batch
            size = min(batch, n - first)
            rate = rates[first_update + k]
            loss += _dense_steps(
                flat, start, row_stride, column, first, size, d, t, y, y_start, y_row, y_column,
                s, weighted, w, b, 1.0, fit_intercept, 0, steps, sums, targets, scratch,
            )  # fmt: skip
            if alone:
                _sync_block()
            else:
                _sync_grid()
            for q in range(cuda.blockIdx.x, (d + WARP) // WARP, cuda.gridDim.x):
                j = q * WARP + lane
                for c in range(t):
                    total = 0.0
                    if j <= d:
                        for r in range(warp, size, WARPS):
                            x = np.float64(fit_intercept)
                            if j < d:
                                x = np.float64(flat[start + (first + r) * row_stride + j * column])
                            total += steps[r * t + c] * x
                    scratch[thread] = total
                    cuda.syncthreads()
                    if warp == 0 and j <= d:
                        total = 0.0
                        for other in range(WARPS):
                            total += scratch[other * WARP + lane]
                        gradients[c * (d + 1) + j] = total
                    cuda.syncthreads()
            if alone:
                _sync_block()
            else:
                _sync_grid()
            if plain:
                due += rate * l1
            _optimized_weights(
                code, cuda.grid(1), cuda.gridsize(1), d, t, w, b, first_moments, second_moments,
                gradients, beta1, beta2, eps, max_norm, done + first_update + k + 1, rate, l2, l1,
                due, paid, first_update + k >= skipped, coef_sum, intercept_sum, scratch,
            )  # fmt: skip
            if alone:
                _sync_block()
            else:
                _sync_grid()
        if lane == 0:
            losses[cuda.blockIdx.x * WARPS + warp] = loss
        if cuda.grid(1) == 0:
            scalars[0] = due

    return dense_optimizer_updates


@cache
def _row_optimizer_updates(
    rule: OptimizerRule, scalar, of_target, vector: int, chunks: int, lanes: int, alone: bool
):
    per_lane, groups = vector * chunks, THREADS // lanes
    room = groups * (lanes * per_lane + 1)
    code, plain = int(rule), rule == SGD

    @_kernel
    def row_optimizer_updates(
        flat, start, row_stride, column, n, d, t, y, y_start, y_row, y_column, s, weighted,
        w, b, rates, paid, coef_sum, intercept_sum, soft, shrink, scalars,
        batch, l2, l1, fit_intercept, implicit, group, skipped, first_update,
        rows_of_part, parts, losses,
        first_moments, second_moments, gradients, beta1, beta2, eps, max_norm, done,
    ):  # fmt: skip
        """As `row_updates` with an optimizer: all meet three times an update."""
        scratch = cuda.shared.array(THREADS, np.float64)
        shares = cuda.shared.array(room, np.float64)
        v = cuda.local.array(per_lane, np.float64)
        g = cuda.local.array(per_lane, np.float64)
        x = cuda.local.array(per_lane, scalar)
        beside = cuda.local.array(2, of_target)
        lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
        my_warp, warps = cuda.blockIdx.x * WARPS + warp, cuda.gridDim.x * WARPS
        due, loss = scalars[0], 0.0
        for k in range((n + batch - 1) // batch):
            first = k * batch
            size = min(batch, n - first)
            rate = rates[first_update + k]
            loss += _parts_of_batch(
                flat, start, row_stride, first, size, d, y, y_start, y_row, s, weighted,
                w, b, 1.0, fit_intercept, 0, rows_of_part, parts, scratch, v, g, x, beside,
                shares, vector, chunks, lanes,
            )  # fmt: skip
            if alone:
                _sync_block()
            else:
                _sync_grid()
            count = (size + rows_of_part - 1) // rows_of_part
            for step in range((d + warps) // warps):
                j = step * warps + my_warp
                total = _total_of_parts(parts, count, j, d, scratch)
                if j <= d and lane == 0:
                    gradients[j] = total if j < d or fit_intercept else 0.0
            if alone:
                _sync_block()
            else:
                _sync_grid()
            if plain:
                due += rate * l1
            _optimized_weights(
                code, cuda.grid(1), cuda.gridsize(1), d, t, w, b, first_moments, second_moments,
                gradients, beta1, beta2, eps, max_norm, done + first_update + k + 1, rate, l2, l1,
                due, paid, first_update + k >= skipped, coef_sum, intercept_sum, scratch,
            )  # fmt: skip
            if alone:
                _sync_block()
            else:
                _sync_grid()
        loss = _sum_of_lanes(loss, WARP, scratch)
        if lane == 0:
            losses[my_warp] = loss
        if my_warp == 0 and lane == 0:
            scalars[0] = due

    return row_optimizer_updates


@cache
def _csr_optimizer_updates(rule: OptimizerRule):
    code, plain = int(rule), rule == SGD

    @_kernel
    def csr_optimizer_updates(
        data, indices, indptr, order, ordered, n, d, t, y, y_start, y_row, y_column, s, weighted,
        w, b, rates, paid, coef_sum, intercept_sum, soft, shrink, scalars,
        batch, l2, l1, fit_intercept, implicit, group, skipped, first_update, steps, losses,
        first_moments, second_moments, gradients, beta1, beta2, eps, max_norm, done,
    ):  # fmt: skip
        """As `dense_optimizer_updates`, of CSR rows, by one block."""
        scratch = cuda.shared.array(THREADS, np.float64)
        thread = cuda.threadIdx.x
        lane, warp = thread % WARP, thread // WARP
        due, loss = scalars[0], 0.0
        for k in range((n + batch - 1) // batch):
            first = k * batch
            size = min(batch, n - first)
            rate = rates[first_update + k]
            for place in range(thread, t * (d + 1), THREADS):
                gradients[place] = 0.0
            loss += _csr_steps(
                data, indices, indptr, order, ordered, first, size, d, t,
                y, y_start, y_row, y_column, s, weighted, w, 1.0, b, 1.0, fit_intercept, 0,
                steps, scratch,
            )  # fmt: skip
            cuda.syncthreads()
            for r in range(size):
                i = first + r
                if ordered:
                    i = order[i]
                for e in range(indptr[i] + lane, indptr[i + 1], WARP):
                    j = indices[e]
                    if j % WARPS == warp:
                        for c in range(t):
                            gradients[c * (d + 1) + j] += steps[r * t + c] * data[e]
                _sync_warp()
            for c in range(thread, t, THREADS):
                total = 0.0
                if fit_intercept:
                    for r in range(size):
                        total += steps[r * t + c]
                gradients[c * (d + 1) + d] = total
            cuda.syncthreads()
            if plain:
                due += rate * l1
            _optimized_weights(
                code, thread, THREADS, d, t, w, b, first_moments, second_moments, gradients,
                beta1, beta2, eps, max_norm, done + first_update + k + 1, rate, l2, l1, due, paid,
                first_update + k >= skipped, coef_sum, intercept_sum, scratch,
            )  # fmt: skip
            cuda.syncthreads()
        if lane == 0:
            losses[warp] = loss
        if thread == 0:
            scalars[0] = due

    return csr_optimizer_updates


# Small batches, exactly. For a block A of B rows, with updates u that shrink w by f_u and rows'
# steps g_i r_i, the residuals as the updates meet them satisfy
#
#     r_k = P_k a_k . w0 + b0 - y_k - sum over rows j of earlier updates of L_kj r_j
#     L_kj = g_j (a_k . a_j prod_{u_j < u < u_k} f_u + 1)          the 1 where there is an intercept
#
# with P_k the product of f_u for u < u_k. So r = T q, T = (1 + L)^-1 and q the first half of that
# line, and ``w = P_B w0 - sum_k g_k r_k a_k prod_{u > u_k} f_u``. The sum of the weights after each
# update, for their average, is such a sum too, with other numbers beside w0 and a_k. T does not
# depend on w: all multiprocessors make the T of all blocks (`_triangles`); one then goes from block
# to block with three products each, which is the only part where each step waits for the last.

# What `_triangles` leaves of each row k, in this order, and of each block behind them.
BEFORE, STEP, AFTER, AVERAGED, COUNTED = range(5)  # P_k, g_k, g_k prod f, and for the averages
OF_ROWS = 5 * TRIANGLE
SHRUNK, AVERAGED_START, COUNTED_START, RATES = range(OF_ROWS, OF_ROWS + 4)
OF_BLOCK = OF_ROWS + 4


def _takes_blocks(descent: _Descent, updates: int, d: int, t: int, optimizer) -> bool:
    """Whether dense rows go by blocks; with averages or a prox while registers hold the rows."""
    if descent.l1 > 0.0 or optimizer is not None or descent.batch > TRIANGLE:
        return False
    plain = descent.group == 0 and descent.skipped == updates
    return plain or (d <= CHAIN_PER_LANE * WARP and t * (d + 1) <= CHAIN_WEIGHTS)


def _rows_of_block(descent: _Descent) -> int:
    return descent.group or TRIANGLE // descent.batch * descent.batch


def _launch_triangles(
    block: _Block, descent: _Descent, first_update: int, t: int, optimizer=None
) -> None:
    """Stretch by stretch, so that the T of all blocks in flight take no more than `BLOCK_BYTES`."""
    n, d = block.X.shape
    assert block.y is not None
    assert isinstance(block.X, _Rows)
    dtype = block.X.flat.dtype
    per_block = _rows_of_block(descent)
    most = max(1, gather.BLOCK_BYTES // (TRIANGLE * TRIANGLE * dtype.itemsize))
    targets = (_native(block.y.flat), block.y.start, block.y.row, block.y.column)
    solve, threads, more = _solving(block.X, block.y, descent, t)
    for base in range(0, -(-n // per_block), most):
        first = base * per_block
        rows = min(most * per_block, n - first)
        count = -(-rows // per_block)
        T = _native(_room("sgd triangles", count * TRIANGLE * TRIANGLE, dtype))
        scales = _native(_room("sgd scales", count * OF_BLOCK))
        X = (*block.X.arguments, first, rows, d)
        update = first_update + first // descent.batch
        _launch(_triangles, min(count, 8 * _multiprocessors()), SIDE * SIDE, block.stream)(
            *X, *block.weights, _native(descent.rates), update, descent.batch, per_block,
            descent.l2, descent.fit_intercept, descent.implicit, descent.skipped, T, scales,
        )  # fmt: skip
        _launch(solve, 1, threads, block.stream)(
            *X, *targets, _native(descent.w), _native(descent.b), t, per_block,
            descent.fit_intercept, T, scales, _native(descent.scalars), *more,
        )  # fmt: skip


def _solving(X: _Rows, y: _Rows, descent: _Descent, t: int):
    """The kernel that goes from block to block, its threads, and what else it takes."""
    plan, d = _lanes_for(X), X.shape[1]
    if plan is None or plan.vector * plan.chunks > CHAIN_PER_LANE or t * (d + 1) > CHAIN_WEIGHTS:
        return _solve_wide_blocks, THREADS, ()
    lanes = max(plan.lanes, CHAIN_THREADS // TRIANGLE)
    averages = descent.skipped < descent.rates.size
    kinds = _scalar(X.flat), _scalar(y.flat)
    kernel = _solve_blocks(*kinds, plan.vector, plan.chunks, lanes, averages)
    more = (descent.coef_sum, descent.intercept_sum, descent.soft, descent.shrink)
    return kernel, CHAIN_THREADS, (*map(_native, more), int(descent.group > 0))


@_kernel
def _triangles(
    flat, start, row_stride, column, first, n, d, s, weighted, rates, update, batch, per_block,
    l2, fit_intercept, implicit, skipped, T, scales,
):  # fmt: skip
    """T of each block of rows, and its scales.

    A block of threads has a block of rows: A A^T by a few products a thread, then a thread a
    column of T by forward substitution. B d + B^2 / 6 multiply-adds a row.
    """
    strip = cuda.shared.array(TRIANGLE_STRIP, np.float64)
    L = cuda.shared.array(SQUARE, np.float64)
    step = cuda.shared.array(TRIANGLE, np.float64)
    factor = cuda.shared.array(TRIANGLE, np.float64)
    number = cuda.shared.array(TRIANGLE, np.int32)  # the update that a row belongs to
    total = cuda.local.array(TRIANGLE_PRODUCTS, np.float64)
    thread, threads = cuda.threadIdx.x, SIDE * SIDE
    tx, ty = thread % SIDE, thread // SIDE
    for q in range(cuda.blockIdx.x, (n + per_block - 1) // per_block, cuda.gridDim.x):
        base = first + q * per_block
        rows = min(per_block, n - q * per_block)
        for k in range(TRIANGLE_PRODUCTS):
            total[k] = 0.0
        for j0 in range(0, d, GRAM_DEPTH):
            for place in range(thread, TRIANGLE * GRAM_DEPTH, threads):
                r, j = place // GRAM_DEPTH, place % GRAM_DEPTH
                value = 0.0
                if r < rows and j0 + j < d and (not weighted or s[base + r] != 0.0):
                    value = np.float64(flat[start + (base + r) * row_stride + (j0 + j) * column])
                strip[r * GRAM_PITCH + j] = value
            cuda.syncthreads()
            for j in range(GRAM_DEPTH):
                for a in range(TRIANGLE_SIDE):
                    left = strip[(ty + a * SIDE) * GRAM_PITCH + j]
                    for b in range(TRIANGLE_SIDE):
                        total[TRIANGLE_SIDE * a + b] += (
                            left * strip[(tx + b * SIDE) * GRAM_PITCH + j]
                        )
            cuda.syncthreads()
        for a in range(TRIANGLE_SIDE):
            for b in range(TRIANGLE_SIDE):
                L[(ty + a * SIDE) * TRIANGLE_PITCH + tx + b * SIDE] = total[TRIANGLE_SIDE * a + b]
        cuda.syncthreads()
        at_update = update + q * per_block // batch
        for r in range(thread, rows, threads):
            u = r // batch
            rate = rates[at_update + u]
            g = rate / min(batch, rows - u * batch)
            if weighted:
                g *= np.float64(s[base + r])
            if implicit:
                g /= 1.0 + g * (L[r * TRIANGLE_PITCH + r] + fit_intercept)
            step[r] = g
            factor[r] = _shrinkage(rate, l2)
            number[r] = u
        cuda.syncthreads()
        _scales_of_block(
            rows, batch, step, factor, number, skipped - at_update, rates, at_update, scales,
            q * OF_BLOCK,
        )  # fmt: skip
        if weighted:  # P_k < 0 says that a row is of weight 0, whatever it holds
            for r in range(thread, rows, threads):
                if s[base + r] == 0.0:
                    scales[q * OF_BLOCK + BEFORE * TRIANGLE + r] = -1.0
        for j in range(thread, rows, threads):
            between = 1.0
            for k in range(j + 1, rows):
                value = 0.0
                if number[k] > number[j]:
                    if number[k] > number[k - 1] and number[k - 1] > number[j]:
                        between *= factor[k - 1]
                    value = step[j] * (between * L[k * TRIANGLE_PITCH + j] + fit_intercept)
                L[k * TRIANGLE_PITCH + j] = value
        cuda.syncthreads()
        # Column j of T, above the diagonal of L: row j, which is this thread's alone.
        for j in range(thread, rows, threads):
            for k in range(j + 1, rows):
                value = -L[k * TRIANGLE_PITCH + j]
                for i in range(j + 1, k):
                    value -= L[k * TRIANGLE_PITCH + i] * L[j * TRIANGLE_PITCH + i]
                L[j * TRIANGLE_PITCH + k] = value
        cuda.syncthreads()
        for place in range(thread, TRIANGLE * TRIANGLE, threads):
            k, j = place // TRIANGLE, place % TRIANGLE
            value = 0.0
            if j < k and k < rows:
                value = L[j * TRIANGLE_PITCH + k]
            elif j == k and k < rows:
                value = 1.0
            T[(q * TRIANGLE + k) * TRIANGLE + j] = value
        cuda.syncthreads()


@_helper
def _scales_of_block(rows, batch, step, factor, number, skipped, rates, at_update, scales, at):
    """What `BEFORE` to `RATES` name, a thread a row; `skipped` updates of it are not averaged."""
    updates = (rows + batch - 1) // batch
    for r in range(cuda.threadIdx.x, TRIANGLE, SIDE * SIDE):
        before, after, averaged, counted, g = 1.0, 1.0, 0.0, 0.0, 0.0
        if r < rows:
            g = step[r]
            for u in range(updates):
                if u < number[r]:
                    before *= factor[u * batch]
                elif u > number[r]:
                    after *= factor[u * batch]
                if u >= number[r] and u >= skipped:
                    averaged += after
                    counted += 1.0
        scales[at + BEFORE * TRIANGLE + r] = before
        scales[at + STEP * TRIANGLE + r] = g
        scales[at + AFTER * TRIANGLE + r] = g * after
        scales[at + AVERAGED * TRIANGLE + r] = g * averaged
        scales[at + COUNTED * TRIANGLE + r] = g * counted
        if r == 0:
            shrunk, averaged, counted, pending = 1.0, 0.0, 0.0, 0.0
            for u in range(updates):
                shrunk *= factor[u * batch]
                pending += rates[at_update + u]
                if u >= skipped:
                    averaged += shrunk
                    counted += 1.0
            scales[at + SHRUNK] = shrunk
            scales[at + AVERAGED_START] = averaged
            scales[at + COUNTED_START] = counted
            scales[at + RATES] = pending


@_helper
def _sums_of_rows(values, count, lanes, scratch):
    """values[0] = the sum over a group's lanes of row ``lane * count // lanes`` of values.

    Half of the rows go to the other half of the lanes, and so on, until each lane has one row: 6
    exchanges for 4 rows of a warp, where a butterfly a row takes 20.
    """
    lane = cuda.threadIdx.x % lanes
    offset = lanes // 2
    held = count
    while held > 1:
        held //= 2
        upper = lane & offset != 0
        for i in range(held):
            given = values[i] if upper else values[i + held]
            kept = values[i + held] if upper else values[i]
            values[i] = kept + _from_lane(given, offset, scratch)
        offset //= 2
    while offset > 0:
        values[0] += _from_lane(values[0], offset, scratch)
        offset //= 2


@cache
def _solve_blocks(scalar, of_target, vector: int, chunks: int, lanes: int, averages: bool):
    per_lane, groups = vector * chunks, CHAIN_THREADS // lanes
    rows_each, width = TRIANGLE // groups, lanes * per_lane
    numbers, room, across = rows_each * per_lane, groups * (width + 1), TRIANGLE // lanes
    of_T = rows_each * across
    # Of the next block, while there are registers for both.
    ahead = numbers * np.dtype(scalar).itemsize <= (32 if averages else 64)

    @_small_kernel
    def solve_blocks(
        flat, start, row_stride, column, first, n, d, y, y_start, y_row, y_column,
        w, b, t, per_block, fit_intercept, T, scales, scalars,
        coef_sum, intercept_sum, soft, shrink, prox,
    ):  # fmt: skip
        """From block to block of rows: q = P A w + b - y, r = T q, w = P_B w - A^T (g r).

        One block of threads, since each step needs the one before. `lanes` threads have
        `rows_each` rows, in registers for both products with A, and those of the next block are
        on their way meanwhile; weights are in shared memory. Reads B d numbers of X a block of
        rows, once, and B^2 of T; 4 B d + 2 B^2 flops, and B d + B^2 conversions of float32.
        """
        scratch = cuda.shared.array(CHAIN_THREADS, np.float64)
        weights = cuda.shared.array(CHAIN_WEIGHTS, np.float64)
        shares = cuda.shared.array(room, np.float64)
        q_of = cuda.shared.array(TRIANGLE, np.float64)
        c_of = cuda.shared.array(TRIANGLE, np.float64)
        s_of = cuda.shared.array(TRIANGLE, np.float64)
        x = cuda.local.array(numbers, scalar)
        coming = cuda.local.array(numbers, scalar)
        triangle = cuda.local.array(of_T, scalar)
        dots = cuda.local.array(rows_each, np.float64)
        thread = cuda.threadIdx.x
        lane, group = thread % lanes, thread // lanes
        mine = group * rows_each + lane * rows_each // lanes  # the row whose sums this lane gets
        tells = lane % (lanes // rows_each) == 0
        loss = 0.0
        for place in range(thread, t * (d + 1), CHAIN_THREADS):  # intercepts behind the weights
            weights[place] = w[place] if place < t * d else b[place - t * d]
        _load_block(
            flat, start, row_stride, first, min(per_block, n), d, coming, rows_each, vector, chunks,
            lanes,
        )  # fmt: skip
        cuda.syncthreads()
        for q in range((n + per_block - 1) // per_block):
            base = first + q * per_block
            rows = min(per_block, n - q * per_block)
            here = q * OF_BLOCK
            for k in range(numbers):
                x[k] = coming[k]
            left = min(per_block, n - (q + 1) * per_block)
            if ahead and left > 0:
                _load_block(
                    flat, start, row_stride, base + per_block, left, d, coming, rows_each, vector,
                    chunks, lanes,
                )  # fmt: skip
            for k in range(rows_each):
                for i in range(across):
                    at = (q * TRIANGLE + group * rows_each + k) * TRIANGLE + i * lanes + lane
                    triangle[k * across + i] = T[at]
            before = scales[here + BEFORE * TRIANGLE + mine]
            after = scales[here + AFTER * TRIANGLE + mine]
            step = scales[here + STEP * TRIANGLE + mine]
            shrunk = scales[here + SHRUNK]
            for c in range(t):
                target = of_target(0.0)
                if mine < rows:
                    target = y[y_start + (base + mine) * y_row + c * y_column]
                # q
                for k in range(rows_each):
                    dots[k] = 0.0
                for e in range(per_lane):
                    j = _column_of(e, lane, vector, lanes)
                    weight = weights[c * d + j] if j < d else 0.0
                    for k in range(rows_each):
                        dots[k] += weight * x[k * per_lane + e]
                _sums_of_rows(dots, rows_each, lanes, scratch)
                if tells:
                    value = before * dots[0] + weights[t * d + c] - np.float64(target)
                    q_of[mine] = value if mine < rows and before >= 0.0 else 0.0
                cuda.syncthreads()
                # r
                for k in range(rows_each):
                    dots[k] = 0.0
                for i in range(across):
                    value = q_of[i * lanes + lane]
                    for k in range(rows_each):
                        dots[k] += value * triangle[k * across + i]
                _sums_of_rows(dots, rows_each, lanes, scratch)
                residual = dots[0] if before >= 0.0 else 0.0
                if tells:
                    loss += 0.5 * residual * residual
                if averages:  # while the weights are those of the block's start
                    if tells:
                        c_of[mine] = scales[here + AVERAGED * TRIANGLE + mine] * residual
                        s_of[mine] = scales[here + COUNTED * TRIANGLE + mine] * residual
                    _shares_of_rows(x, c_of, s_of, shares, per_lane, rows_each, vector, lanes)
                    _average_columns(
                        c, d, t, weights, shares, groups, width, scales, here, fit_intercept,
                        coef_sum, intercept_sum,
                    )  # fmt: skip
                    cuda.syncthreads()
                # w
                if tells:
                    c_of[mine] = after * residual
                    s_of[mine] = step * residual
                _shares_of_rows(x, c_of, s_of, shares, per_lane, rows_each, vector, lanes)
                _step_columns(
                    c, d, t, weights, shares, groups, width, shrunk, scales, here, fit_intercept,
                    prox, soft, shrink, averages, coef_sum,
                )  # fmt: skip
                cuda.syncthreads()
            if not ahead and left > 0:
                _load_block(
                    flat, start, row_stride, base + per_block, left, d, coming, rows_each, vector,
                    chunks, lanes,
                )  # fmt: skip
        for place in range(thread, t * (d + 1), CHAIN_THREADS):
            if place < t * d:
                w[place] = weights[place]
            else:
                b[place - t * d] = weights[place]
        scratch[thread] = loss
        cuda.syncthreads()
        if thread == 0:
            for k in range(CHAIN_THREADS):
                scalars[1] += scratch[k]

    return solve_blocks


@_helper
def _load_block(
    flat, start, row_stride, base, rows, d, x, rows_each, vector, chunks, lanes
):  # fmt: skip
    """This lane's numbers of its group's rows, of a block of rows that begins at `base`."""
    lane, group = cuda.threadIdx.x % lanes, cuda.threadIdx.x // lanes
    for k in range(rows_each):
        r = group * rows_each + k
        at = start + (base + r) * row_stride
        _load_row(flat, at, lane, d, r < rows, x, k * vector * chunks, vector, chunks, lanes)


@_helper
def _shares_of_rows(x, c_of, s_of, shares, per_lane, rows_each, vector, lanes):
    """Each group's sums of c x_j over its rows, and of s; known to the block at the end."""
    lane, group = cuda.threadIdx.x % lanes, cuda.threadIdx.x // lanes
    _sync_warp()  # c and s are of other lanes
    for e in range(per_lane):
        share = 0.0
        for k in range(rows_each):
            share += c_of[group * rows_each + k] * x[k * per_lane + e]
        shares[group * lanes * per_lane + _column_of(e, lane, vector, lanes)] = share
    if lane == 0:
        share = 0.0
        for k in range(rows_each):
            share += s_of[group * rows_each + k]
        shares[CHAIN_THREADS * per_lane + group] = share
    cuda.syncthreads()


@_helper
def _sum_of_shares(shares, j, d, groups, width):
    """The sum of all groups' shares of column j, or of the intercept's (j = d)."""
    total = 0.0
    for k in range(groups):
        total += shares[k * width + j if j < d else groups * width + k]
    return total


@_helper
def _average_columns(
    c, d, t, weights, shares, groups, width, scales, here, fit_intercept, coef_sum, intercept_sum
):  # fmt: skip
    """Add the weights after each update of a block, from those at its start, a thread a column."""
    for j in range(cuda.threadIdx.x, d + 1, CHAIN_THREADS):
        total = _sum_of_shares(shares, j, d, groups, width)
        if j < d:
            coef_sum[c * d + j] += scales[here + AVERAGED_START] * weights[c * d + j] - total
        else:
            v = scales[here + COUNTED_START] * weights[t * d + c]
            intercept_sum[c] += v - total if fit_intercept else v


@_helper
def _step_columns(
    c, d, t, weights, shares, groups, width, shrunk, scales, here, fit_intercept, prox, soft,
    shrink, averages, coef_sum,
):  # fmt: skip
    """The weights after a block, a thread a column."""
    for j in range(cuda.threadIdx.x, d + 1, CHAIN_THREADS):
        total = _sum_of_shares(shares, j, d, groups, width)
        if j < d:
            v = shrunk * weights[c * d + j] - total
            if prox:
                moved = _proximal(v, scales[here + RATES], soft[j], shrink[j])
                if averages and scales[here + COUNTED_START] > 0.0:
                    coef_sum[c * d + j] += moved - v
                v = moved
            weights[c * d + j] = v
        elif fit_intercept:
            weights[t * d + c] -= total


@_kernel
def _solve_wide_blocks(
    flat, start, row_stride, column, first, n, d, y, y_start, y_row, y_column,
    w, b, t, per_block, fit_intercept, T, scales, scalars,
):  # fmt: skip
    """As `solve_blocks`, for rows that are too wide for registers, or many targets.

    Reads B d numbers of X a block of rows, from memory and then from a cache, and B^2 of T.
    """
    scratch = cuda.shared.array(THREADS, np.float64)
    q_of = cuda.shared.array(TRIANGLE, np.float64)
    r_of = cuda.shared.array(TRIANGLE, np.float64)
    dots = cuda.local.array(DEEP, np.float64)
    places = cuda.local.array(DEEP, np.int64)
    thread = cuda.threadIdx.x
    lane, warp = thread % WARP, thread // WARP
    width = min(THREADS, (d + WARP - 1) // WARP * WARP)
    shares = THREADS // width
    share = thread // width
    loss = 0.0
    for q in range((n + per_block - 1) // per_block):
        base = first + q * per_block
        rows = min(per_block, n - q * per_block)
        at = q * OF_BLOCK
        for c in range(t):
            for k in range(DEEP):
                dots[k] = 0.0
            for k in range(DEEP):  # beyond the last row: its sums go nowhere
                places[k] = start + (base + min(warp * DEEP + k, rows - 1)) * row_stride
            for j in range(lane, d, WARP):
                weight = w[c * d + j]
                for k in range(DEEP):
                    dots[k] += weight * flat[places[k] + j * column]
            for k in range(DEEP):
                r = warp * DEEP + k
                dot = _sum_of_lanes(dots[k], WARP, scratch)
                if lane == 0:
                    value = 0.0
                    if r < rows and scales[at + BEFORE * TRIANGLE + r] >= 0.0:
                        target = y[y_start + (base + r) * y_row + c * y_column]
                        value = scales[at + BEFORE * TRIANGLE + r] * dot + b[c] - target
                    q_of[r] = value
            cuda.syncthreads()
            for k in range(DEEP):
                r = warp * DEEP + k
                dot = 0.0
                for i in range(lane, TRIANGLE, WARP):
                    dot += T[(q * TRIANGLE + r) * TRIANGLE + i] * q_of[i]
                dot = _sum_of_lanes(dot, WARP, scratch)
                if lane == 0:
                    if scales[at + BEFORE * TRIANGLE + r] < 0.0:
                        dot = 0.0
                    r_of[r] = dot
                    loss += 0.5 * dot * dot
            cuda.syncthreads()
            for j0 in range(0, d, width):
                j = j0 + thread % width
                total = 0.0
                if share < shares and j < d:
                    for r in range(share, rows, shares):
                        x = flat[start + (base + r) * row_stride + j * column]
                        total += scales[at + AFTER * TRIANGLE + r] * r_of[r] * x
                scratch[thread] = total
                cuda.syncthreads()
                if share == 0 and j < d:
                    total = 0.0
                    for k in range(shares):
                        total += scratch[k * width + thread % width]
                    w[c * d + j] = scales[at + SHRUNK] * w[c * d + j] - total
                cuda.syncthreads()
            if fit_intercept and thread == THREADS - 1:
                total = 0.0
                for r in range(rows):
                    total += scales[at + STEP * TRIANGLE + r] * r_of[r]
                b[c] -= total
            cuda.syncthreads()
    scratch[thread] = loss
    cuda.syncthreads()
    if thread == 0:
        for k in range(WARPS):
            scalars[1] += scratch[k * WARP]
