"""From block to block of rows, on one multiprocessor: the part of an epoch in small mini-batches
where each step waits for the last.

`sgd_blocks` derives it: q = P A w + b - y, r = T q, w = P_B w - A^T (g r). Rows that registers hold
go by `solve_blocks`, others by `solve_wide_blocks`.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from .compile import SIMULATED, Kernel, cuda, device_function
from .lanes import LanePlan, column_of, load_row
from .rows import Dense
from .sgd import proximal
from .sgd_triangles import (
    AFTER,
    AVERAGED,
    AVERAGED_START,
    BEFORE,
    COUNTED,
    COUNTED_START,
    OF_BLOCK,
    RATES,
    SHRUNK,
    STEP,
    TRIANGLE,
)  # fmt: skip
from .warp import THREADS, WARP, WARPS, from_lane, sum_of_lanes, sync_warp

CHAIN_THREADS = 16 if SIMULATED else 512  # of the one block of `solve_blocks`
CHAIN_PER_LANE = 8  # numbers of a row that a lane holds there
CHAIN_WEIGHTS = 1_024  # weights and intercepts that shared memory holds there
DEEP = TRIANGLE // WARPS  # rows of a warp in `solve_wide_blocks`

# ----------------------------------------------------------------------------------------------
# Rows in registers
# ----------------------------------------------------------------------------------------------

# A block of `CHAIN_THREADS` shares the 65,536 registers of a multiprocessor.
_chain_kernel = partial(Kernel, max_registers=65_536 // CHAIN_THREADS)


class Chain(NamedTuple):
    """A layout of rows over the threads of `solve_blocks`: constants of the kernel."""

    vector: int  # as in `LanePlan`
    chunks: int
    lanes: int
    rows_each: int  # rows that a group of lanes has
    groups: int
    width: int  # columns that a group's registers have

    @classmethod
    def of(cls, plan: LanePlan) -> Chain:
        groups = CHAIN_THREADS // plan.lanes
        width = plan.lanes * plan.per_lane
        return cls(plan.vector, plan.chunks, plan.lanes, TRIANGLE // groups, groups, width)


class Held(NamedTuple):
    """The registers of a lane."""

    x: Any  # its numbers of its group's rows
    coming: Any  # those of the next block
    triangle: Any  # of T
    dots: Any  # a sum per row


class ChainMemory(NamedTuple):
    """ChainMemory memory of `solve_blocks`."""

    scratch: Any  # (CHAIN_THREADS,)
    weights: Any  # (t d + t)  the intercepts behind the weights
    shares: Any  # each group's share of each column, then of the intercept
    q_of: Any
    c_of: Any
    s_of: Any


class Here(NamedTuple):
    """The block at which `solve_blocks` is, and the row whose sums this lane gets."""

    mine: int  # that row
    tells: bool  # whether this lane speaks for it
    inside: bool  # whether it is a row of the block
    before: float  # scales of that row, loaded before the first of them is waited for
    after: float
    step: float
    shrunk: float
    scales: Any
    at: int  # where the block's scales begin


class Sums(NamedTuple):
    """What `solve_blocks` adds up of the weights, and the proximal step that moves them."""

    coef_sum: Any
    intercept_sum: Any
    soft: Any
    shrink: Any
    prox: int
    fit_intercept: int
    d: int
    t: int


@cache
def solving_blocks(scalar, of_target, plan: LanePlan, averages: bool):
    chain = Chain.of(plan)
    numbers, room = chain.rows_each * plan.per_lane, chain.groups * (chain.width + 1)
    rows_each, of_T = chain.rows_each, chain.rows_each * (TRIANGLE // chain.lanes)
    # Of the next block, while there are registers for both.
    ahead = numbers * np.dtype(scalar).itemsize <= (32 if averages else 64)

    @_chain_kernel
    def solve_blocks(
        flat, start, row_stride, column, first, n, d, y, y_start, y_row, y_column,
        w, b, t, per_block, fit_intercept, T, scales, scalars,
        coef_sum, intercept_sum, soft, shrink, prox,
    ):  # fmt: skip
        """From block to block of rows: q = P A w + b - y, r = T q, w = P_B w - A^T (g r).

        One block of threads, since each step needs the one before. `lanes` threads have
        `rows_each` rows, in registers for both products with A, and those of the next block are
        on their way meanwhile; weights are in shared memory. Reads B d numbers of X per block of
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
        X = Dense(flat, start, row_stride, column)
        held, shared = (
            Held(x, coming, triangle, dots),
            ChainMemory(scratch, weights, shares, q_of, c_of, s_of),
        )
        sums = Sums(coef_sum, intercept_sum, soft, shrink, prox, fit_intercept, d, t)
        lane, group = cuda.threadIdx.x % chain.lanes, cuda.threadIdx.x // chain.lanes
        mine = group * rows_each + lane * rows_each // chain.lanes
        tells = lane % (chain.lanes // rows_each) == 0
        loss = 0.0
        _load_weights(weights, w, b, d, t)
        _load_rows(X, first, min(per_block, n), d, coming, chain)
        cuda.syncthreads()
        for q in range((n + per_block - 1) // per_block):
            base, rows = first + q * per_block, min(per_block, n - q * per_block)
            left = min(per_block, n - (q + 1) * per_block)
            for k in range(numbers):
                x[k] = coming[k]
            if ahead and left > 0:
                _load_rows(X, base + per_block, left, d, coming, chain)
            _load_triangle(T, q, triangle, chain)
            here = _scales_here(scales, q * OF_BLOCK, mine, tells, mine < rows)
            for c in range(t):
                target = of_target(0.0)
                if mine < rows:
                    target = y[y_start + (base + mine) * y_row + c * y_column]
                loss += _solve_target(c, target, here, held, shared, sums, chain, averages)
            if not ahead and left > 0:
                _load_rows(X, base + per_block, left, d, coming, chain)
        _store_weights(weights, w, b, d, t)
        _add_to_loss(loss, scratch, scalars)

    return solve_blocks


@device_function
def _load_weights(weights, w, b, d, t):
    for place in range(cuda.threadIdx.x, t * (d + 1), CHAIN_THREADS):
        weights[place] = w[place] if place < t * d else b[place - t * d]


@device_function
def _store_weights(weights, w, b, d, t):
    for place in range(cuda.threadIdx.x, t * (d + 1), CHAIN_THREADS):
        if place < t * d:
            w[place] = weights[place]
        else:
            b[place - t * d] = weights[place]


@device_function
def _add_to_loss(loss, scratch, scalars):
    scratch[cuda.threadIdx.x] = loss
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        for k in range(CHAIN_THREADS):
            scalars[1] += scratch[k]


@device_function
def _load_rows(X, base, rows, d, x, chain):
    """This lane's numbers of its group's rows, of a block of rows that begins at `base`."""
    lane, group = cuda.threadIdx.x % chain.lanes, cuda.threadIdx.x // chain.lanes
    per_lane = chain.vector * chain.chunks
    for k in range(chain.rows_each):
        r = group * chain.rows_each + k
        load_row(X.flat, X.start + (base + r) * X.row, lane, d, r < rows, x, k * per_lane, chain)


@device_function
def _load_triangle(T, q, triangle, chain):
    """This lane's numbers of its group's rows of T."""
    lane, group = cuda.threadIdx.x % chain.lanes, cuda.threadIdx.x // chain.lanes
    across = TRIANGLE // chain.lanes
    for k in range(chain.rows_each):
        for i in range(across):
            at = (q * TRIANGLE + group * chain.rows_each + k) * TRIANGLE + i * chain.lanes + lane
            triangle[k * across + i] = T[at]


@device_function
def _scales_here(scales, at, mine, tells, inside):
    """The block whose scales begin at `at`."""
    before = scales[at + BEFORE * TRIANGLE + mine]
    after = scales[at + AFTER * TRIANGLE + mine]
    step = scales[at + STEP * TRIANGLE + mine]
    return Here(mine, tells, inside, before, after, step, scales[at + SHRUNK], scales, at)


@device_function
def _solve_target(c, target, here, held, shared, sums, chain, averages):
    """One target's residuals and weights along a block of rows; returns this lane's loss."""
    d, t, mine = sums.d, sums.t, here.mine
    _dots_with_weights(c, held, shared, d, chain)
    if here.tells:
        value = here.before * held.dots[0] + shared.weights[t * d + c] - np.float64(target)
        shared.q_of[mine] = value if here.inside and here.before >= 0.0 else 0.0
    cuda.syncthreads()
    _dots_with_triangle(held, shared, chain)
    residual = held.dots[0] if here.before >= 0.0 else 0.0
    loss = 0.0
    if here.tells:
        loss = 0.5 * residual * residual
    if averages:  # while the weights are those of the block's start
        if here.tells:
            at = here.at + mine
            shared.c_of[mine] = here.scales[at + AVERAGED * TRIANGLE] * residual
            shared.s_of[mine] = here.scales[at + COUNTED * TRIANGLE] * residual
        _shares_of_rows(held.x, shared, chain)
        _average_columns(c, shared, here, sums, chain)
        cuda.syncthreads()
    if here.tells:
        shared.c_of[mine] = here.after * residual
        shared.s_of[mine] = here.step * residual
    _shares_of_rows(held.x, shared, chain)
    _step_columns(c, shared, here, sums, chain, averages)
    cuda.syncthreads()
    return loss


@device_function
def _dots_with_weights(c, held, shared, d, chain):
    """dots[0] = a . w of the row whose sums this lane gets."""
    lane, per_lane = cuda.threadIdx.x % chain.lanes, chain.vector * chain.chunks
    for k in range(chain.rows_each):
        held.dots[k] = 0.0
    for e in range(per_lane):
        j = column_of(e, lane, chain)
        weight = shared.weights[c * d + j] if j < d else 0.0
        for k in range(chain.rows_each):
            held.dots[k] += weight * held.x[k * per_lane + e]
    _sums_of_rows(held.dots, chain.rows_each, chain.lanes, shared.scratch)


@device_function
def _dots_with_triangle(held, shared, chain):
    """dots[0] = the row of T q whose sums this lane gets."""
    lane, across = cuda.threadIdx.x % chain.lanes, TRIANGLE // chain.lanes
    for k in range(chain.rows_each):
        held.dots[k] = 0.0
    for i in range(across):
        value = shared.q_of[i * chain.lanes + lane]
        for k in range(chain.rows_each):
            held.dots[k] += value * held.triangle[k * across + i]
    _sums_of_rows(held.dots, chain.rows_each, chain.lanes, shared.scratch)


@device_function
def _sums_of_rows(values, count, lanes, scratch):
    """values[0] = the sum over a group's lanes of row ``lane * count // lanes`` of values.

    Half of the rows go to the other half of the lanes, and so on, until each lane has one row: 6
    exchanges for 4 rows of a warp, where one butterfly per row takes 20.
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
            values[i] = kept + from_lane(given, offset, scratch)
        offset //= 2
    while offset > 0:
        values[0] += from_lane(values[0], offset, scratch)
        offset //= 2


@device_function
def _shares_of_rows(x, shared, chain):
    """Each group's sums of c x_j over its rows, and of s; known to the block at the end."""
    lane, group = cuda.threadIdx.x % chain.lanes, cuda.threadIdx.x // chain.lanes
    per_lane = chain.vector * chain.chunks
    sync_warp()  # c and s come from other lanes
    for e in range(per_lane):
        share = 0.0
        for k in range(chain.rows_each):
            share += shared.c_of[group * chain.rows_each + k] * x[k * per_lane + e]
        shared.shares[group * chain.width + column_of(e, lane, chain)] = share
    if lane == 0:
        share = 0.0
        for k in range(chain.rows_each):
            share += shared.s_of[group * chain.rows_each + k]
        shared.shares[CHAIN_THREADS * per_lane + group] = share
    cuda.syncthreads()


@device_function
def _sum_of_shares(shares, j, d, chain):
    """The sum of all groups' shares of column j, or of the intercept's (j = d)."""
    total = 0.0
    for k in range(chain.groups):
        total += shares[k * chain.width + j if j < d else chain.groups * chain.width + k]
    return total


@device_function
def _average_columns(c, shared, here, sums, chain):
    """Add the weights after each update of a block to their sums, from those at its start."""
    d, weights = sums.d, shared.weights
    for j in range(cuda.threadIdx.x, d + 1, CHAIN_THREADS):
        total = _sum_of_shares(shared.shares, j, d, chain)
        if j < d:
            start = here.scales[here.at + AVERAGED_START]
            sums.coef_sum[c * d + j] += start * weights[c * d + j] - total
        else:
            v = here.scales[here.at + COUNTED_START] * weights[sums.t * d + c]
            sums.intercept_sum[c] += v - total if sums.fit_intercept else v


@device_function
def _step_columns(c, shared, here, sums, chain, averages):
    """The weights after a block, one thread per column."""
    d, weights = sums.d, shared.weights
    for j in range(cuda.threadIdx.x, d + 1, CHAIN_THREADS):
        total = _sum_of_shares(shared.shares, j, d, chain)
        if j < d:
            v = here.shrunk * weights[c * d + j] - total
            if sums.prox:
                rate = here.scales[here.at + RATES]
                moved = proximal(v, rate, sums.soft[j], sums.shrink[j])
                if averages and here.scales[here.at + COUNTED_START] > 0.0:
                    sums.coef_sum[c * d + j] += moved - v
                v = moved
            weights[c * d + j] = v
        elif sums.fit_intercept:
            weights[sums.t * d + c] -= total


# ----------------------------------------------------------------------------------------------
# Rows of any width
# ----------------------------------------------------------------------------------------------


@Kernel
def solve_wide_blocks(
    flat, start, row_stride, column, first, n, d, y, y_start, y_row, y_column,
    w, b, t, per_block, fit_intercept, T, scales, scalars,
):  # fmt: skip
    """`solve_blocks` for rows that are too wide for registers, or many targets.

    Reads B d numbers of X per block of rows, from memory and then from a cache, and B^2 of T.
    """
    X = Dense(flat, start, row_stride, column)
    scratch = cuda.shared.array(THREADS, np.float64)
    q_of = cuda.shared.array(TRIANGLE, np.float64)
    r_of = cuda.shared.array(TRIANGLE, np.float64)
    dots = cuda.local.array(DEEP, np.float64)
    places = cuda.local.array(DEEP, np.int64)
    thread = cuda.threadIdx.x
    lane, warp = thread % WARP, thread // WARP
    loss = 0.0
    for q in range((n + per_block - 1) // per_block):
        base = first + q * per_block
        rows = min(per_block, n - q * per_block)
        at = q * OF_BLOCK
        for c in range(t):
            _wide_dots(X, base, rows, w, (c, d), dots, places)
            for k in range(DEEP):
                r = warp * DEEP + k
                dot = sum_of_lanes(dots[k], WARP, scratch)
                if lane == 0:
                    value = 0.0
                    if r < rows and scales[at + BEFORE * TRIANGLE + r] >= 0.0:
                        target = y[y_start + (base + r) * y_row + c * y_column]
                        value = scales[at + BEFORE * TRIANGLE + r] * dot + b[c] - target
                    q_of[r] = value
            cuda.syncthreads()
            loss += _wide_residuals(T, q, q_of, r_of, scales, scratch)
            cuda.syncthreads()
            _step_wide_columns(X, (base, rows), w, (c, d), r_of, scales, at, scratch)
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


@device_function
def _wide_dots(X, base, rows, w, target, dots, places):
    """Each lane's share of a . w of its warp's rows."""
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    c, d = target
    for k in range(DEEP):
        dots[k] = 0.0
    for k in range(DEEP):  # beyond the last row: its sums are not used
        places[k] = X.start + (base + min(warp * DEEP + k, rows - 1)) * X.row
    for j in range(lane, d, WARP):
        weight = w[c * d + j]
        for k in range(DEEP):
            dots[k] += weight * X.flat[places[k] + j * X.column]


@device_function
def _wide_residuals(T, q, q_of, r_of, scales, scratch):
    """r = T q, one warp for some rows; returns this lane's loss."""
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    loss = 0.0
    for k in range(DEEP):
        r = warp * DEEP + k
        dot = 0.0
        for i in range(lane, TRIANGLE, WARP):
            dot += T[(q * TRIANGLE + r) * TRIANGLE + i] * q_of[i]
        dot = sum_of_lanes(dot, WARP, scratch)
        if lane == 0:
            if scales[q * OF_BLOCK + BEFORE * TRIANGLE + r] < 0.0:
                dot = 0.0
            r_of[r] = dot
            loss += 0.5 * dot * dot
    return loss


@device_function
def _step_wide_columns(X, span, w, target, r_of, scales, at, scratch):
    """The weights after a block: columns in slices of at most `THREADS`, with all threads."""
    (base, rows), (c, d), thread = span, target, cuda.threadIdx.x
    width = min(THREADS, (d + WARP - 1) // WARP * WARP)
    shares = THREADS // width
    share = thread // width
    for j0 in range(0, d, width):
        j = j0 + thread % width
        total = 0.0
        if share < shares and j < d:
            for r in range(share, rows, shares):
                x = X.flat[X.start + (base + r) * X.row + j * X.column]
                total += scales[at + AFTER * TRIANGLE + r] * r_of[r] * x
        scratch[thread] = total
        cuda.syncthreads()
        if share == 0 and j < d:
            total = 0.0
            for k in range(shares):
                total += scratch[k * width + thread % width]
            w[c * d + j] = scales[at + SHRUNK] * w[c * d + j] - total
        cuda.syncthreads()
