"""Epochs over CSR rows: one block of threads does all updates of a block of rows, in one launch.

Weights are kept as ``scale v``, so that L2 alone costs no visit of all of them; L1, a prox and
averages do, t d numbers per update. Each warp owns every `WARPS`-th column, as in
`gradient_of_csr`.
"""

from __future__ import annotations

import numpy as np

from .compile import Kernel, cuda, device_function, launch
from .memory import native, reserve
from .rows import Block, Dense, Entries, Order, Sparse, Weights, order_arguments, row_of
from .sgd import (
    BatchRows,
    Data,
    EpochOnDevice,
    LazyPenalty,
    Model,
    Update,
    add_losses,
    ends_group,
    finish_weight,
    shrinkage,
    step_of_row,
    store_results,
)
from .warp import THREADS, WARP, WARPS, sum_of_lanes, sync_warp

TINY_SCALE = 1e-4  # a smaller common scale is multiplied into the weights


def run(block: Block, descent: EpochOnDevice, first_update: int, t: int, optimizer=None) -> None:
    """All updates along these rows."""
    assert isinstance(block.X, Sparse)
    order, d = block.X.order, block.X.shape[1]
    n = block.n if order is None else len(order)
    steps = reserve("sgd steps", min(descent.batch, n) * t)
    losses = reserve("sgd losses", WARPS)
    kernel, more = _csr_updates, ()
    if optimizer is not None:
        kernel, more = optimizer.csr_updates(), optimizer.arguments()
    launch(kernel, 1, THREADS, block.stream)(
        *block.X.arguments, *order_arguments(order), n, d, t, *block.targets.arguments,
        *block.weights, *descent.arguments(first_update), native(steps), native(losses), *more,
    )  # fmt: skip
    add_losses(losses, WARPS, descent, block)


@device_function
def csr_steps(data, batch, model, scale, steps, scratch):
    """steps[r] = g_r r_r of a mini-batch's rows, one warp per row; weights are ``scale w``.

    Returns this lane's loss.
    """
    X, d, t = data.X, model.d, model.t
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    loss = 0.0
    for step in range((batch.size + WARPS - 1) // WARPS):
        r = step * WARPS + warp
        i = row_of(data.order, batch.first + r if r < batch.size else batch.first)
        begin, end = X.indptr[i], X.indptr[i + 1]
        norm = 0.0
        for e in range(begin + lane, end, WARP):
            norm += np.float64(X.data[e]) * np.float64(X.data[e])
        norm = sum_of_lanes(norm, WARP, scratch)
        for c in range(t):
            dot = 0.0
            for e in range(begin + lane, end, WARP):
                dot += np.float64(X.data[e]) * model.w[c * d + X.indices[e]]
            dot = sum_of_lanes(dot, WARP, scratch)
            if r < batch.size and lane == 0:
                y = data.y.flat[data.y.start + i * data.y.row + c * data.y.column]
                residual = scale * dot + model.b[c] - y
                g, residual = step_of_row(residual, norm, data.s, i, batch, model.fit_intercept)
                loss += 0.5 * residual * residual
                steps[r * t + c] = g * residual
    return loss


@Kernel
def _csr_updates(
    data, indices, indptr, order, ordered, n, d, t, y, y_start, y_row, y_column, s, weighted,
    w, b, rates, paid, coef_sum, intercept_sum, soft, shrink, scalars,
    batch, l2, l1, fit_intercept, implicit, group, skipped, first_update, steps, losses,
):  # fmt: skip
    """All mini-batches of these rows, one after the other: their steps, then their weights."""
    X, y_of = Entries(data, indices, indptr), Dense(y, y_start, y_row, y_column)
    rows = Data(X, y_of, Weights(s, weighted), Order(order, ordered, 0))
    model = Model(w, b, coef_sum, intercept_sum, fit_intercept, d, t)
    penalty = LazyPenalty(l1, paid, soft, shrink)
    scratch = cuda.shared.array(THREADS, np.float64)
    due, pending, loss, scale = scalars[0], 0.0, 0.0, 1.0
    for k in range((n + batch - 1) // batch):
        first = k * batch
        size = min(batch, n - first)
        rate = rates[first_update + k]
        visits = BatchRows(first, size, rate, implicit)
        loss += csr_steps(rows, visits, model, scale, steps, scratch)
        cuda.syncthreads()
        scale *= shrinkage(rate, l2)
        due += rate * l1
        pending += rate
        if scale < TINY_SCALE:
            scale = _unscale(model, scale)
            cuda.syncthreads()
        _subtract_steps(rows, visits, model, scale, steps)
        at_group_end = ends_group(first + size, n, group)
        averaged = first_update + k >= skipped
        _step_intercepts(visits, model, steps, averaged)
        cuda.syncthreads()
        if l1 > 0.0 or averaged or at_group_end:
            update = Update(scale, averaged, due, at_group_end, pending)
            for place in range(cuda.threadIdx.x, t * d, THREADS):
                w[place] = finish_weight(w[place] * scale, place, place % d, model, penalty, update)
            scale = 1.0
            cuda.syncthreads()
        if at_group_end:
            pending = 0.0
    _unscale(model, scale)
    store_results(loss, due, losses, scalars)


@device_function
def _unscale(model, scale):
    """Multiply the common scale into the weights; the new one is 1."""
    for place in range(cuda.threadIdx.x, model.t * model.d, THREADS):
        model.w[place] *= scale
    return 1.0


@device_function
def _subtract_steps(data, batch, model, scale, steps):
    """w -= the mini-batch's steps along its rows, in the scaled space."""
    X, d, t = data.X, model.d, model.t
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    inverse = 1.0 / scale
    for r in range(batch.size):
        i = row_of(data.order, batch.first + r)
        for e in range(X.indptr[i] + lane, X.indptr[i + 1], WARP):
            j = X.indices[e]
            if j % WARPS == warp:
                x = inverse * X.data[e]
                for c in range(t):
                    model.w[c * d + j] -= steps[r * t + c] * x
        sync_warp()


@device_function
def _step_intercepts(batch, model, steps, averaged):
    """b -= the mini-batch's steps, one thread per target."""
    for c in range(cuda.threadIdx.x, model.t, THREADS):
        if model.fit_intercept:
            total = 0.0
            for r in range(batch.size):
                total += steps[r * model.t + c]
            model.b[c] -= total
        if averaged:
            model.intercept_sum[c] += model.b[c]
