"""Epochs with an optimizer: the kernels of `sgd_dense` and `sgd_sparse`, with its rule.

The mean gradients G (t, d + 1), the intercept's last, are written out before the first weight
moves, since clipping needs the norm of all of them. So all meet three times per update.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from .. import formulas
from ..contract import OptimizerRule, OptimizerState
from ..device import DeviceArray
from ..formulas import ADAGRAD, ADAM, ADAMW, CLIP_UNIT, MOMENTUM, NESTEROV, RMSPROP, SGD
from .compile import Kernel, cuda, device_function
from .lanes import LanePlan
from .memory import native, reserve
from .rows import Dense, Entries, Order, Weights, row_of
from .sgd import (
    BatchRows,
    Data,
    LazyPenalty,
    Model,
    Update,
    finish_weight,
    shrinkage,
    store_results,
    sync_block,
    sync_grid,
)
from .sgd_dense import (
    Registers,
    SumMemory,
    dense_steps,
    numbers_of_shares,
    parts_of_batch,
    total_of_parts,
)
from .sgd_sparse import csr_steps
from .transfer import download, upload
from .warp import THREADS, WARP, WARPS, sum_of_lanes, sync_warp


class OptimizerArrays(NamedTuple):
    """An `OptimizerState` on the device."""

    rule: OptimizerRule
    first: DeviceArray  # (t, d + 1)  moments, the intercept's last
    second: DeviceArray
    gradients: DeviceArray
    beta1: float
    beta2: float
    eps: float
    max_norm: float
    steps: int

    @classmethod
    def begin(cls, o: OptimizerState, t: int, d: int, stream) -> OptimizerArrays:
        """Upload the state."""

        def moments(name, coef, intercept):
            values = np.zeros((t, d + 1))
            if coef is not None:
                values[:, :d], values[:, d] = coef, intercept
            return upload(f"sgd {name} moments", values, stream)

        return cls(
            o.rule,
            moments("first", o.coef_first, o.intercept_first),
            moments("second", o.coef_second, o.intercept_second),
            reserve("sgd gradients", t * (d + 1)),
            o.beta1,
            o.beta2,
            o.eps,
            o.max_norm,
            o.steps,
        )

    def end(self, o: OptimizerState, updates: int, stream) -> None:
        """Download what the updates left, into the state."""
        o.steps += updates
        for there, coef, intercept in (
            (self.first, o.coef_first, o.intercept_first),
            (self.second, o.coef_second, o.intercept_second),
        ):
            if coef is not None and intercept is not None:
                t, d = coef.shape
                values = download(there[: t * (d + 1)], stream).reshape(t, d + 1)
                coef[...] = values[:, :d]
                intercept[...] = values[:, d]

    def arguments(self) -> tuple:
        return (*(native(part) for part in self[1:4]), *self[4:])

    def dense_updates(self, targets: int, alone: bool) -> Kernel:
        return _dense_optimizer_updates(int(self.rule), targets, alone)

    def row_updates(self, scalar, of_target, plan: LanePlan, alone: bool) -> Kernel:
        return _row_optimizer_updates(int(self.rule), scalar, of_target, plan, alone)

    def csr_updates(self) -> Kernel:
        return _csr_optimizer_updates(int(self.rule))


# ----------------------------------------------------------------------------------------------
# The rules
# ----------------------------------------------------------------------------------------------

_momentum = device_function(formulas.momentum)
_squares = device_function(formulas.squares)
_adam = device_function(formulas.adam)
_l1_gain = device_function(formulas.l1_gain)
_clip_factor = device_function(formulas.clip_factor)
_soft_threshold = device_function(formulas.soft_threshold)


class Rule(NamedTuple):
    """An optimizer at one update; `rule` is a constant of the kernel."""

    rule: int
    first: Any  # (t, d + 1)
    second: Any
    gradients: Any
    beta1: float
    beta2: float
    eps: float
    max_norm: float


class Now(NamedTuple):
    """What an update's number and rate make of the rule."""

    rate: float
    step: float  # the rate, over Adam's 1 - beta1^k
    root: float  # 1 / sqrt(1 - beta2^k)
    gain: float  # c of `OptimizerState`


@device_function
def _now(rule, number, rate):
    step, root = rate, 1.0
    if rule.rule in (ADAM, ADAMW):
        step = rate / (1.0 - rule.beta1**number)
        root = 1.0 / math.sqrt(1.0 - rule.beta2**number)
    return Now(rate, step, root, _l1_gain(rule.rule, rule.beta1, number))


@device_function
def _stepped(v, g, at, rule, now, l2, l1):
    """`OptimizerState`'s step of one weight, decay and proximal step included."""
    kind, u, q = rule.rule, rule.first, rule.second
    if kind in (SGD, ADAMW):
        v *= shrinkage(now.rate, l2)
    else:
        g += l2 * v
    p, D = g, 1.0
    if kind == MOMENTUM:
        u[at], p = _momentum(g, u[at], rule.beta1, 0.0, 1.0)
    elif kind == NESTEROV:
        u[at], p = _momentum(g, u[at], rule.beta1, 1.0, rule.beta1)
    elif kind == ADAGRAD:
        q[at], D = _squares(g, q[at], 1.0, 1.0, rule.eps)
    elif kind == RMSPROP:
        q[at], D = _squares(g, q[at], rule.beta2, 1.0 - rule.beta2, rule.eps)
    elif kind in (ADAM, ADAMW):
        u[at], q[at], D = _adam(g, u[at], q[at], rule.beta1, rule.beta2, rule.eps, now.root)
        p = u[at]
    v -= now.step * p / D
    if kind != SGD and l1 > 0.0:
        v = _soft_threshold(v, now.rate * l1 * now.gain / D)
    return v


@device_function
def _square_of_gradient(gradients, c, d, lane, unit, scratch):
    """The squared norm of unit times target c's gradient, by one warp."""
    square = 0.0
    for j in range(lane, d + 1, WARP):
        g = unit * gradients[c * (d + 1) + j]
        square += g * g
    return sum_of_lanes(square, WARP, scratch)


@device_function
def _step_weights(rule, now, model, penalty, l2, due, averaged, scratch):
    """The step of all weights from their gradients; each thread of the grid has some of them.

    The norms are added up by each warp for itself, in the same order.
    """
    lane, d = cuda.threadIdx.x % WARP, model.d
    update = Update(1.0, averaged, due, False, 0.0)
    for c in range(model.t):
        clip, unit = 1.0, 1.0
        if rule.max_norm < math.inf:
            square = _square_of_gradient(rule.gradients, c, d, lane, unit, scratch)
            if not square < math.inf:
                unit = CLIP_UNIT
                square = _square_of_gradient(rule.gradients, c, d, lane, unit, scratch)
            clip = _clip_factor(square, rule.max_norm, unit)
        for j in range(cuda.grid(1), d + 1, cuda.gridsize(1)):
            at = c * (d + 1) + j
            g = clip * (unit * rule.gradients[at])
            if j == d:
                model.b[c] = _stepped(model.b[c], g, at, rule, now, 0.0, 0.0)
                if averaged:
                    model.intercept_sum[c] += model.b[c]
            else:
                v = _stepped(model.w[c * d + j], g, at, rule, now, l2, penalty.l1)
                if rule.rule == SGD:
                    v = finish_weight(v, c * d + j, j, model, penalty, update)
                elif averaged:
                    model.coef_sum[c * d + j] += v
                model.w[c * d + j] = v


# ----------------------------------------------------------------------------------------------
# Dense rows
# ----------------------------------------------------------------------------------------------


@cache
def _dense_optimizer_updates(rule: int, targets: int, alone: bool):
    @Kernel
    def dense_optimizer_updates(
        flat, start, row_stride, column, n, d, t, y, y_start, y_row, y_column, s, weighted,
        w, b, rates, paid, coef_sum, intercept_sum, soft, shrink, scalars,
        batch, l2, l1, fit_intercept, implicit, group, skipped, first_update, steps, losses,
        first_moments, second_moments, gradients, beta1, beta2, eps, max_norm, done,
    ):  # fmt: skip
        """`dense_updates` with an optimizer."""
        X, y_of = Dense(flat, start, row_stride, column), Dense(y, y_start, y_row, y_column)
        data = Data(X, y_of, Weights(s, weighted), 0)
        model = Model(w, b, coef_sum, intercept_sum, fit_intercept, d, t)
        penalty = LazyPenalty(l1, paid, soft, shrink)
        o = Rule(rule, first_moments, second_moments, gradients, beta1, beta2, eps, max_norm)
        scratch = cuda.shared.array(THREADS, np.float64)
        sums = cuda.local.array(targets, np.float64)
        due, loss = scalars[0], 0.0
        for k in range((n + batch - 1) // batch):
            first, update = k * batch, first_update + k
            rows = BatchRows(first, min(batch, n - first), 1.0, 0)
            loss += dense_steps(data, rows, model, steps, sums, targets, scratch)
            if alone:
                sync_block()
            else:
                sync_grid()
            _write_gradients(X, rows, model, steps, gradients, scratch)
            if alone:
                sync_block()
            else:
                sync_grid()
            if rule == SGD:
                due += rates[update] * l1
            now = _now(o, done + update + 1, rates[update])
            _step_weights(o, now, model, penalty, l2, due, update >= skipped, scratch)
            if alone:
                sync_block()
            else:
                sync_grid()
        store_results(loss, due, losses, scalars)

    return dense_optimizer_updates


@device_function
def _write_gradients(X, batch, model, steps, gradients, scratch):
    """The mean gradients of a mini-batch, a slice of columns per block."""
    thread, d, t = cuda.threadIdx.x, model.d, model.t
    lane, warp = thread % WARP, thread // WARP
    for q in range(cuda.blockIdx.x, (d + WARP) // WARP, cuda.gridDim.x):
        j = q * WARP + lane
        for c in range(t):
            total = 0.0
            if j <= d:
                for r in range(warp, batch.size, WARPS):
                    x = np.float64(model.fit_intercept)
                    if j < d:
                        i = batch.first + r
                        x = np.float64(X.flat[X.start + i * X.row + j * X.column])
                    total += steps[r * t + c] * x
            scratch[thread] = total
            cuda.syncthreads()
            if warp == 0 and j <= d:
                total = 0.0
                for other in range(WARPS):
                    total += scratch[other * WARP + lane]
                gradients[c * (d + 1) + j] = total
            cuda.syncthreads()


@cache
def _row_optimizer_updates(rule: int, scalar, of_target, plan: LanePlan, alone: bool):
    per_lane, room = plan.per_lane, numbers_of_shares(plan)

    @Kernel
    def row_optimizer_updates(
        flat, start, row_stride, column, n, d, t, y, y_start, y_row, y_column, s, weighted,
        w, b, rates, paid, coef_sum, intercept_sum, soft, shrink, scalars,
        batch, l2, l1, fit_intercept, implicit, group, skipped, first_update,
        rows_of_part, parts, losses,
        first_moments, second_moments, gradients, beta1, beta2, eps, max_norm, done,
    ):  # fmt: skip
        """`row_updates` with an optimizer."""
        X, y_of = Dense(flat, start, row_stride, column), Dense(y, y_start, y_row, y_column)
        data = Data(X, y_of, Weights(s, weighted), 0)
        model = Model(w, b, coef_sum, intercept_sum, fit_intercept, d, t)
        penalty = LazyPenalty(l1, paid, soft, shrink)
        o = Rule(rule, first_moments, second_moments, gradients, beta1, beta2, eps, max_norm)
        scratch = cuda.shared.array(THREADS, np.float64)
        shares = cuda.shared.array(room, np.float64)
        v = cuda.local.array(per_lane, np.float64)
        g = cuda.local.array(per_lane, np.float64)
        x = cuda.local.array(per_lane, scalar)
        beside = cuda.local.array(2, of_target)
        held, shared = Registers(v, g, x, beside), SumMemory(scratch, shares)
        due, loss = scalars[0], 0.0
        for k in range((n + batch - 1) // batch):
            first, update = k * batch, first_update + k
            rows = BatchRows(first, min(batch, n - first), 1.0, 0)
            loss += parts_of_batch(data, rows, model, rows_of_part, parts, held, shared, plan)
            if alone:
                sync_block()
            else:
                sync_grid()
            count = (rows.size + rows_of_part - 1) // rows_of_part
            _add_gradients(parts, count, d, fit_intercept, gradients, scratch)
            if alone:
                sync_block()
            else:
                sync_grid()
            if rule == SGD:
                due += rates[update] * l1
            now = _now(o, done + update + 1, rates[update])
            _step_weights(o, now, model, penalty, l2, due, update >= skipped, scratch)
            if alone:
                sync_block()
            else:
                sync_grid()
        store_results(sum_of_lanes(loss, WARP, scratch), due, losses, scalars)

    return row_optimizer_updates


@device_function
def _add_gradients(parts, count, d, fit_intercept, gradients, scratch):
    """Add up the parts of a mini-batch, one warp per column."""
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    my_warp, warps = cuda.blockIdx.x * WARPS + warp, cuda.gridDim.x * WARPS
    for step in range((d + warps) // warps):
        j = step * warps + my_warp
        total = total_of_parts(parts, count, j, d, scratch)
        if j <= d and lane == 0:
            gradients[j] = total if j < d or fit_intercept else 0.0


# ----------------------------------------------------------------------------------------------
# CSR rows
# ----------------------------------------------------------------------------------------------


@cache
def _csr_optimizer_updates(rule: int):
    @Kernel
    def csr_optimizer_updates(
        data, indices, indptr, order, ordered, n, d, t, y, y_start, y_row, y_column, s, weighted,
        w, b, rates, paid, coef_sum, intercept_sum, soft, shrink, scalars,
        batch, l2, l1, fit_intercept, implicit, group, skipped, first_update, steps, losses,
        first_moments, second_moments, gradients, beta1, beta2, eps, max_norm, done,
    ):  # fmt: skip
        """All mini-batches of CSR rows, by one block of threads."""
        X, y_of = Entries(data, indices, indptr), Dense(y, y_start, y_row, y_column)
        rows = Data(X, y_of, Weights(s, weighted), Order(order, ordered, 0))
        model = Model(w, b, coef_sum, intercept_sum, fit_intercept, d, t)
        penalty = LazyPenalty(l1, paid, soft, shrink)
        o = Rule(rule, first_moments, second_moments, gradients, beta1, beta2, eps, max_norm)
        scratch = cuda.shared.array(THREADS, np.float64)
        due, loss = scalars[0], 0.0
        for k in range((n + batch - 1) // batch):
            first, update = k * batch, first_update + k
            visits = BatchRows(first, min(batch, n - first), 1.0, 0)
            for place in range(cuda.threadIdx.x, t * (d + 1), THREADS):
                gradients[place] = 0.0
            loss += csr_steps(rows, visits, model, 1.0, steps, scratch)
            cuda.syncthreads()
            _add_csr_gradients(rows, visits, model, steps, gradients)
            cuda.syncthreads()
            if rule == SGD:
                due += rates[update] * l1
            now = _now(o, done + update + 1, rates[update])
            _step_weights(o, now, model, penalty, l2, due, update >= skipped, scratch)
            cuda.syncthreads()
        store_results(loss, due, losses, scalars)

    return csr_optimizer_updates


@device_function
def _add_csr_gradients(data, batch, model, steps, gradients):
    """Add the mini-batch's rows to the gradients; each warp owns every `WARPS`-th column."""
    X, d, t = data.X, model.d, model.t
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    for r in range(batch.size):
        i = row_of(data.order, batch.first + r)
        for e in range(X.indptr[i] + lane, X.indptr[i + 1], WARP):
            j = X.indices[e]
            if j % WARPS == warp:
                for c in range(t):
                    gradients[c * (d + 1) + j] += steps[r * t + c] * X.data[e]
        sync_warp()
    for c in range(cuda.threadIdx.x, t, THREADS):
        total = 0.0
        if model.fit_intercept:
            for r in range(batch.size):
                total += steps[r * t + c]
        gradients[c * (d + 1) + d] = total
