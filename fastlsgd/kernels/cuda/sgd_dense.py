"""Epochs over dense rows whose mini-batches are large, or have L1: all updates in one launch.

Many blocks of threads meet twice per update, at a barrier of the grid; where an update is small,
one block does them all. The order of every sum depends on the size of a mini-batch alone, not on
the number of blocks.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from .compile import SIMULATED, Kernel, cuda, device_function, launch
from .context import multiprocessors
from .lanes import LanePlan, column_of, load_row
from .loss_gradient import TARGETS
from .memory import native, reserve
from .rows import Block, Dense, Weights
from .sgd import (
    BatchRows,
    Data,
    EpochOnDevice,
    LazyPenalty,
    Model,
    Update,
    add_losses,
    ends_group,
    finish_column,
    shrinkage,
    step_of_row,
    store_results,
    sync_block,
    sync_grid,
)
from .warp import THREADS, WARP, WARPS, sum_of_lanes

MOST_PARTS = 8 if SIMULATED else 256  # of a mini-batch's gradient, each of some of its rows
SMALL_UPDATE = 16_384  # numbers; below, one block is quicker than a barrier, of a microsecond


def run(block: Block, descent: EpochOnDevice, first_update: int, t: int, optimizer=None) -> None:
    """All updates along these rows."""
    n, d = block.X.shape
    batch = min(descent.batch, n)
    plan = LanePlan.of(block.dense) if t == 1 else None
    rows_of_part: tuple[int, ...] = ()
    if plan is None:
        most, scratch = max(-(-batch // WARPS), -(-d // WARP)), batch * t
    else:
        rows_of_part = (_rows_of_part(descent.batch, plan),)
        most = -(-batch // rows_of_part[0])
        scratch = most * (d + 1)
    alone = SIMULATED or most == 1 or batch * d * t < SMALL_UPDATE
    grid = 1 if alone else min(multiprocessors(), most)
    steps, losses = reserve("sgd steps", scratch), reserve("sgd losses", grid * WARPS)
    kernel, more = _kernel(block, plan, min(t, TARGETS), alone, optimizer), ()
    if optimizer is not None:
        more = optimizer.arguments()
    launch(kernel, grid, THREADS, block.stream)(
        *block.X.arguments, n, d, t, *block.targets.arguments, *block.weights,
        *descent.arguments(first_update), *rows_of_part, native(steps), native(losses), *more,
    )  # fmt: skip
    add_losses(losses, grid * WARPS, descent, block)


def _rows_of_part(batch: int, plan: LanePlan) -> int:
    """Rows of a mini-batch that a block of threads adds up alone: it depends on batch alone."""
    groups = THREADS // plan.lanes
    return groups * max(1, -(-batch // (groups * MOST_PARTS)))


def _kernel(block: Block, plan: LanePlan | None, targets: int, alone: bool, optimizer):
    if plan is None:
        if optimizer is None:
            return _dense_updates(targets, alone)
        return optimizer.dense_updates(targets, alone)
    layout = block.dense.scalar, block.targets.scalar, plan, alone
    return _row_updates(*layout) if optimizer is None else optimizer.row_updates(*layout)


# ----------------------------------------------------------------------------------------------
# Rows of any kind
# ----------------------------------------------------------------------------------------------


@device_function
def dense_steps(data, batch, model, steps, sums, targets, scratch):
    """steps[r] = g_r r_r of a mini-batch's rows, one warp per row; returns this lane's loss."""
    X, d, t = data.X, model.d, model.t
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    my_warp, warps = cuda.blockIdx.x * WARPS + warp, cuda.gridDim.x * WARPS
    loss = 0.0
    for step in range((batch.size + warps - 1) // warps):
        r = step * warps + my_warp
        i = batch.first + r
        at = X.start + i * X.row
        norm = 0.0
        if batch.implicit:
            if r < batch.size:
                for j in range(lane, d, WARP):
                    x = np.float64(X.flat[at + j * X.column])
                    norm += x * x
            norm = sum_of_lanes(norm, WARP, scratch)
        for c0 in range(0, t, targets):
            for c in range(targets):
                sums[c] = 0.0
            if r < batch.size:
                for j in range(lane, d, WARP):
                    x = np.float64(X.flat[at + j * X.column])
                    for c in range(targets):
                        sums[c] += x * model.w[min(c0 + c, t - 1) * d + j]
            for c in range(targets):
                dot = sum_of_lanes(sums[c], WARP, scratch)
                if r < batch.size and c0 + c < t and lane == 0:
                    y = data.y.flat[data.y.start + i * data.y.row + (c0 + c) * data.y.column]
                    residual = dot + model.b[c0 + c] - y
                    g, residual = step_of_row(residual, norm, data.s, i, batch, model.fit_intercept)
                    loss += 0.5 * residual * residual
                    steps[r * t + c0 + c] = g * residual
    return loss


@cache
def _dense_updates(targets: int, alone: bool):
    @Kernel
    def dense_updates(
        flat, start, row_stride, column, n, d, t, y, y_start, y_row, y_column, s, weighted,
        w, b, rates, paid, coef_sum, intercept_sum, soft, shrink, scalars,
        batch, l2, l1, fit_intercept, implicit, group, skipped, first_update, steps, losses,
    ):  # fmt: skip
        """All mini-batches of these rows, one after the other.

        For each: warps make the steps g_i r_i of its rows (steps, (batch, t)); all meet; blocks
        take slices of columns, sum their rows' steps and finish those weights; all meet. The
        intercept is column d, of ones. A row is read from memory once, then from a cache, by
        another multiprocessor. 4 d t flops per row.
        """
        X, y_of = Dense(flat, start, row_stride, column), Dense(y, y_start, y_row, y_column)
        data = Data(X, y_of, Weights(s, weighted), 0)
        model = Model(w, b, coef_sum, intercept_sum, fit_intercept, d, t)
        penalty = LazyPenalty(l1, paid, soft, shrink)
        scratch = cuda.shared.array(THREADS, np.float64)
        sums = cuda.local.array(targets, np.float64)
        due, pending, loss = scalars[0], 0.0, 0.0
        for k in range((n + batch - 1) // batch):
            first = k * batch
            size = min(batch, n - first)
            rate = rates[first_update + k]
            rows = BatchRows(first, size, rate, implicit)
            loss += dense_steps(data, rows, model, steps, sums, targets, scratch)
            if alone:
                sync_block()
            else:
                sync_grid()
            due += rate * l1
            pending += rate
            at_group_end = ends_group(first + size, n, group)
            averaged = first_update + k >= skipped
            update = Update(shrinkage(rate, l2), averaged, due, at_group_end, pending)
            _finish_slices(X, rows, model, penalty, update, steps, (sums, scratch), targets)
            if at_group_end:
                pending = 0.0
            if alone:
                sync_block()
            else:
                sync_grid()
        # Every thread has read the due of the start: a grid that met in the loop, or one block.
        store_results(loss, due, losses, scalars)

    return dense_updates


@device_function
def _finish_slices(X, batch, model, penalty, update, steps, memory, targets):
    """Sum the steps of a mini-batch and finish its weights, a slice of columns per block."""
    (sums, scratch), d, t = memory, model.d, model.t
    thread = cuda.threadIdx.x
    lane, warp = thread % WARP, thread // WARP
    for q in range(cuda.blockIdx.x, (d + WARP) // WARP, cuda.gridDim.x):
        j = q * WARP + lane
        for c0 in range(0, t, targets):
            for c in range(targets):
                sums[c] = 0.0
            if j < d:
                for r in range(warp, batch.size, WARPS):
                    x = np.float64(X.flat[X.start + (batch.first + r) * X.row + j * X.column])
                    for c in range(targets):
                        sums[c] += steps[r * t + min(c0 + c, t - 1)] * x
            elif j == d:
                for r in range(warp, batch.size, WARPS):
                    for c in range(targets):
                        sums[c] += steps[r * t + min(c0 + c, t - 1)]
            for c in range(targets):
                scratch[thread] = sums[c]
                cuda.syncthreads()
                if warp == c % WARPS and j <= d and c0 + c < t:
                    total = 0.0
                    for other in range(WARPS):
                        total += scratch[other * WARP + lane]
                    finish_column(c0 + c, j, total, model, penalty, update)
                cuda.syncthreads()


# ----------------------------------------------------------------------------------------------
# One target, rows in registers
# ----------------------------------------------------------------------------------------------


class Registers(NamedTuple):
    """What a lane holds of a row and of its sums."""

    v: Any  # weights
    g: Any  # its share of the gradient
    x: Any
    beside: Any  # target and weight of the row


class SumMemory(NamedTuple):
    """SumMemory memory of a block that adds rows up."""

    scratch: Any  # (THREADS,)
    shares: Any  # each group's share of each column, then of the intercept


@device_function
def parts_of_batch(data, batch, model, rows_of_part, parts, held, shared, plan):
    """parts[p] = sum of steps g_i r_i (x_i, 1) over part p of a mini-batch's rows.

    As in `gradient_of_rows`, `lanes` threads share a row, in registers from its residual to its
    share of the step; a block's groups of threads meet once per part. Returns this lane's loss.
    """
    per_lane, groups = plan.vector * plan.chunks, THREADS // plan.lanes
    lane = cuda.threadIdx.x % plan.lanes
    for e in range(per_lane):
        j = column_of(e, lane, plan)
        held.v[e] = model.w[j] if j < model.d else 0.0
    intercept = model.b[0]
    loss = 0.0
    count = (batch.size + rows_of_part - 1) // rows_of_part
    for p in range(cuda.blockIdx.x, count, cuda.gridDim.x):
        for e in range(per_lane):
            held.g[e] = 0.0
        total = 0.0
        for step in range(rows_of_part // groups):
            r = p * rows_of_part + step * groups + cuda.threadIdx.x // plan.lanes
            _load_with_target(data, batch.first + r, r < batch.size, lane, model.d, held, plan)
            dot = 0.0
            norm = 0.0
            for e in range(per_lane):
                dot += held.v[e] * held.x[e]
                norm += np.float64(held.x[e]) * held.x[e]
            dot = sum_of_lanes(dot, plan.lanes, shared.scratch)
            if batch.implicit:
                norm = sum_of_lanes(norm, plan.lanes, shared.scratch)
            if r < batch.size and held.beside[1] != 0.0:
                residual = dot + intercept - np.float64(held.beside[0])
                if lane == 0:
                    loss += 0.5 * residual * residual
                c = batch.rate / batch.size * np.float64(held.beside[1])
                if batch.implicit:
                    c /= 1.0 + c * (norm + model.fit_intercept)
                c *= residual
                total += c
                for e in range(per_lane):
                    held.g[e] += c * held.x[e]
        _add_part(p, total, held.g, parts, model.d, shared.shares, plan)
    return loss


@device_function
def _load_with_target(data, i, inside, lane, d, held, plan):
    """Row i, its target and its weight, into registers."""
    load_row(data.X.flat, data.X.start + i * data.X.row, lane, d, inside, held.x, 0, plan)
    held.beside[0] = 0.0
    held.beside[1] = 1.0
    if inside:
        held.beside[0] = data.y.flat[data.y.start + i * data.y.row]
        if data.s.given:
            held.beside[1] = data.s.values[i]


@device_function
def _add_part(p, total, g, parts, d, shares, plan):
    """parts[p], from each lane's shares g and each group's share of the intercept."""
    thread, per_lane, groups = cuda.threadIdx.x, plan.vector * plan.chunks, THREADS // plan.lanes
    lane, group, width = thread % plan.lanes, thread // plan.lanes, plan.lanes * per_lane
    for e in range(per_lane):
        shares[group * width + column_of(e, lane, plan)] = g[e]
    if lane == 0:
        shares[groups * width + group] = total
    cuda.syncthreads()
    for j in range(thread, d + 1, THREADS):
        added = 0.0
        for k in range(groups):
            added += shares[k * width + j if j < d else groups * width + k]
        parts[p * (d + 1) + j] = added
    cuda.syncthreads()


@device_function
def total_of_parts(parts, count, j, d, scratch):
    """The sum of all parts' column j (0 beyond them), by a warp."""
    total = 0.0
    if j <= d:
        for p in range(cuda.threadIdx.x % WARP, count, WARP):
            total += parts[p * (d + 1) + j]
    return sum_of_lanes(total, WARP, scratch)


def numbers_of_shares(plan: LanePlan) -> int:
    """The size of `SumMemory.shares`."""
    return THREADS // plan.lanes * (plan.lanes * plan.per_lane + 1)


@cache
def _row_updates(scalar, of_target, plan: LanePlan, alone: bool):
    per_lane, room = plan.per_lane, numbers_of_shares(plan)

    @Kernel
    def row_updates(
        flat, start, row_stride, column, n, d, t, y, y_start, y_row, y_column, s, weighted,
        w, b, rates, paid, coef_sum, intercept_sum, soft, shrink, scalars,
        batch, l2, l1, fit_intercept, implicit, group, skipped, first_update,
        rows_of_part, parts, losses,
    ):  # fmt: skip
        """`dense_updates` for one target and rows that registers hold.

        For each mini-batch: blocks add up its parts; all meet; warps add up columns of these and
        finish their weights; all meet. A row is read once. 4 d flops per row, and d numbers per
        part written and read again.
        """
        X, y_of = Dense(flat, start, row_stride, column), Dense(y, y_start, y_row, y_column)
        data = Data(X, y_of, Weights(s, weighted), 0)
        model = Model(w, b, coef_sum, intercept_sum, fit_intercept, d, t)
        penalty = LazyPenalty(l1, paid, soft, shrink)
        scratch = cuda.shared.array(THREADS, np.float64)
        shares = cuda.shared.array(room, np.float64)
        v = cuda.local.array(per_lane, np.float64)
        g = cuda.local.array(per_lane, np.float64)
        x = cuda.local.array(per_lane, scalar)
        beside = cuda.local.array(2, of_target)
        held, shared = Registers(v, g, x, beside), SumMemory(scratch, shares)
        due, pending, loss = scalars[0], 0.0, 0.0
        for k in range((n + batch - 1) // batch):
            first = k * batch
            size = min(batch, n - first)
            rate = rates[first_update + k]
            rows = BatchRows(first, size, rate, implicit)
            loss += parts_of_batch(data, rows, model, rows_of_part, parts, held, shared, plan)
            if alone:
                sync_block()
            else:
                sync_grid()
            due += rate * l1
            pending += rate
            at_group_end = ends_group(first + size, n, group)
            averaged = first_update + k >= skipped
            update = Update(shrinkage(rate, l2), averaged, due, at_group_end, pending)
            count = (size + rows_of_part - 1) // rows_of_part
            _finish_columns(parts, count, model, penalty, update, scratch)
            if at_group_end:
                pending = 0.0
            if alone:
                sync_block()
            else:
                sync_grid()
        store_results(sum_of_lanes(loss, WARP, scratch), due, losses, scalars)

    return row_updates


@device_function
def _finish_columns(parts, count, model, penalty, update, scratch):
    """Add up the parts of a mini-batch and finish its weights, one warp per column."""
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    my_warp, warps = cuda.blockIdx.x * WARPS + warp, cuda.gridDim.x * WARPS
    for step in range((model.d + warps) // warps):
        j = step * warps + my_warp
        total = total_of_parts(parts, count, j, model.d, scratch)
        if j <= model.d and lane == 0:
            finish_column(0, j, total, model, penalty, update)
