"""The T of each block of rows: what an epoch in small mini-batches prepares on all multiprocessors.

`sgd_blocks` derives it. T depends on X, the weights of the rows and the rates, but not on w.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .compile import SIMULATED, Kernel, cuda, device_function
from .products import DEPTH, PITCH, SIDE
from .rows import Dense, Weights
from .sgd import shrinkage

TRIANGLE = 8 if SIMULATED else 32  # rows of a block
TRIANGLE_PITCH = TRIANGLE + 1  # the 1 is for the banks of shared memory
TRIANGLE_NUMBERS = TRIANGLE * TRIANGLE_PITCH
TRIANGLE_STRIP = TRIANGLE * PITCH
PER_SIDE = TRIANGLE // SIDE  # products of a thread, of each side
PRODUCTS = PER_SIDE * PER_SIDE

# What `triangles` leaves of each row k, in this order, and of each block behind them.
BEFORE, STEP, AFTER, AVERAGED, COUNTED = range(5)  # P_k, g_k, g_k prod f, and for the averages
OF_ROWS = 5 * TRIANGLE
SHRUNK, AVERAGED_START, COUNTED_START, RATES = range(OF_ROWS, OF_ROWS + 4)
OF_BLOCK = OF_ROWS + 4


class Updates(NamedTuple):
    """The updates of a block of rows, inside a kernel."""

    rates: Any
    first: int
    batch: int
    l2: float
    fit_intercept: int
    implicit: int
    skipped: int  # updates from the first of the epoch that are not averaged


class BlockRows(NamedTuple):
    """The rows of a block, inside a kernel."""

    X: Any  # Dense
    s: Any  # Weights
    base: int
    rows: int
    d: int


class RowSteps(NamedTuple):
    """Of each row, in shared memory: g, f of its update, and the number of the update."""

    g: Any
    factor: Any
    number: Any


@Kernel
def triangles(
    flat, start, row_stride, column, first, n, d, s, weighted, rates, update, batch, per_block,
    l2, fit_intercept, implicit, skipped, T, scales,
):  # fmt: skip
    """T of each block of rows, and its scales.

    A block of threads has a block of rows: A A^T by a few products per thread, then one thread per
    column of T, by forward substitution. B d + B^2 / 6 multiply-adds per row.
    """
    X, weights = Dense(flat, start, row_stride, column), Weights(s, weighted)
    strip = cuda.shared.array(TRIANGLE_STRIP, np.float64)
    L = cuda.shared.array(TRIANGLE_NUMBERS, np.float64)
    g = cuda.shared.array(TRIANGLE, np.float64)
    factor = cuda.shared.array(TRIANGLE, np.float64)
    number = cuda.shared.array(TRIANGLE, np.int32)
    total = cuda.local.array(PRODUCTS, np.float64)
    steps = RowSteps(g, factor, number)
    for q in range(cuda.blockIdx.x, (n + per_block - 1) // per_block, cuda.gridDim.x):
        rows = min(per_block, n - q * per_block)
        block = BlockRows(X, weights, first + q * per_block, rows, d)
        at_update = update + q * per_block // batch
        updates = Updates(rates, at_update, batch, l2, fit_intercept, implicit, skipped)
        _products_of_rows(block, strip, total, L)
        cuda.syncthreads()
        _steps_of_rows(block, updates, steps, L)
        cuda.syncthreads()
        _scales_of_block(block, updates, steps, scales, q * OF_BLOCK)
        _couple_rows(rows, fit_intercept, steps, L)
        cuda.syncthreads()
        _invert(rows, L)
        cuda.syncthreads()
        _write_triangle(q, rows, L, T)
        cuda.syncthreads()


@device_function
def _products_of_rows(block, strip, total, L):
    """L = A A^T, rows of weight 0 as zeros."""
    thread = cuda.threadIdx.x
    tx, ty = thread % SIDE, thread // SIDE
    X, base, d = block.X, block.base, block.d
    for k in range(PRODUCTS):
        total[k] = 0.0
    for j0 in range(0, d, DEPTH):
        for place in range(thread, TRIANGLE * DEPTH, SIDE * SIDE):
            r, j = place // DEPTH, place % DEPTH
            value = 0.0
            if r < block.rows and j0 + j < d and (
                not block.s.given or block.s.values[base + r] != 0.0
            ):  # fmt: skip
                value = np.float64(X.flat[X.start + (base + r) * X.row + (j0 + j) * X.column])
            strip[r * PITCH + j] = value
        cuda.syncthreads()
        for j in range(DEPTH):
            for a in range(PER_SIDE):
                left = strip[(ty + a * SIDE) * PITCH + j]
                for b in range(PER_SIDE):
                    total[PER_SIDE * a + b] += left * strip[(tx + b * SIDE) * PITCH + j]
        cuda.syncthreads()
    for a in range(PER_SIDE):
        for b in range(PER_SIDE):
            L[(ty + a * SIDE) * TRIANGLE_PITCH + tx + b * SIDE] = total[PER_SIDE * a + b]


@device_function
def _steps_of_rows(block, updates, steps, L):
    """g, factor and number of each row, one thread per row; |x|^2 is on the diagonal of L."""
    s, batch = block.s, updates.batch
    for r in range(cuda.threadIdx.x, block.rows, SIDE * SIDE):
        u = r // batch
        rate = updates.rates[updates.first + u]
        g = rate / min(batch, block.rows - u * batch)
        if s.given:
            g *= np.float64(s.values[block.base + r])
        if updates.implicit:
            g /= 1.0 + g * (L[r * TRIANGLE_PITCH + r] + updates.fit_intercept)
        steps.g[r] = g
        steps.factor[r] = shrinkage(rate, updates.l2)
        steps.number[r] = u


@device_function
def _scales_of_block(block, updates, steps, scales, at):
    """What `BEFORE` to `RATES` name: one thread per row, and one for the block."""
    rows, batch = block.rows, updates.batch
    count = (rows + batch - 1) // batch
    skipped = updates.skipped - updates.first
    for r in range(cuda.threadIdx.x, TRIANGLE, SIDE * SIDE):
        before, after, averaged, counted, g = 1.0, 1.0, 0.0, 0.0, 0.0
        if r < rows:
            g = steps.g[r]
            for u in range(count):
                if u < steps.number[r]:
                    before *= steps.factor[u * batch]
                elif u > steps.number[r]:
                    after *= steps.factor[u * batch]
                if u >= steps.number[r] and u >= skipped:
                    averaged += after
                    counted += 1.0
        scales[at + BEFORE * TRIANGLE + r] = before
        scales[at + STEP * TRIANGLE + r] = g
        scales[at + AFTER * TRIANGLE + r] = g * after
        scales[at + AVERAGED * TRIANGLE + r] = g * averaged
        scales[at + COUNTED * TRIANGLE + r] = g * counted
        if r == 0:
            shrunk, averaged, counted, pending = 1.0, 0.0, 0.0, 0.0
            for u in range(count):
                shrunk *= steps.factor[u * batch]
                pending += updates.rates[updates.first + u]
                if u >= skipped:
                    averaged += shrunk
                    counted += 1.0
            scales[at + SHRUNK] = shrunk
            scales[at + AVERAGED_START] = averaged
            scales[at + COUNTED_START] = counted
            scales[at + RATES] = pending
    if block.s.given:  # P_k < 0 says that a row has weight 0, whatever it holds
        for r in range(cuda.threadIdx.x, rows, SIDE * SIDE):
            if block.s.values[block.base + r] == 0.0:
                scales[at + BEFORE * TRIANGLE + r] = -1.0


@device_function
def _couple_rows(rows, fit_intercept, steps, L):
    """The lower part of L, from A A^T, one thread per column."""
    for j in range(cuda.threadIdx.x, rows, SIDE * SIDE):
        between = 1.0
        for k in range(j + 1, rows):
            value = 0.0
            number = steps.number[k]
            if number > steps.number[j]:
                if number > steps.number[k - 1] and steps.number[k - 1] > steps.number[j]:
                    between *= steps.factor[k - 1]
                value = steps.g[j] * (between * L[k * TRIANGLE_PITCH + j] + fit_intercept)
            L[k * TRIANGLE_PITCH + j] = value


@device_function
def _invert(rows, L):
    """Column j of T, above the diagonal of L: in row j, which only this thread writes."""
    for j in range(cuda.threadIdx.x, rows, SIDE * SIDE):
        for k in range(j + 1, rows):
            value = -L[k * TRIANGLE_PITCH + j]
            for i in range(j + 1, k):
                value -= L[k * TRIANGLE_PITCH + i] * L[j * TRIANGLE_PITCH + i]
            L[j * TRIANGLE_PITCH + k] = value


@device_function
def _write_triangle(q, rows, L, T):
    """T of block q, zero beyond its rows."""
    for place in range(cuda.threadIdx.x, TRIANGLE * TRIANGLE, SIDE * SIDE):
        k, j = place // TRIANGLE, place % TRIANGLE
        value = 0.0
        if j < k and k < rows:
            value = L[j * TRIANGLE_PITCH + k]
        elif j == k and k < rows:
            value = 1.0
        T[(q * TRIANGLE + k) * TRIANGLE + j] = value
