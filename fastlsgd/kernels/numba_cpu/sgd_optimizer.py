"""An epoch with an optimizer, on dense and on CSR rows.

The rules of `OptimizerState` are four loops over the features: "momentum" and "nesterov" differ in
two factors, "rmsprop" and "adagrad" too, "adam" and "adamw" in where the decay goes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types

from .. import formulas
from ..contract import OptimizerState
from ..formulas import ADAGRAD, ADAMW, CLIP_UNIT, MOMENTUM, NESTEROV, RMSPROP, SGD
from .compile import SUMS, TABLE, csr_types, dense_types, fast_helper, helper, kernel
from .prefetch import AHEAD
from .rows import (
    Affine,
    Rows,
    block_rows,
    fetch_targets,
    locate,
    project,
    rows_ahead,
    spread,
    visited_row,
)
from .sgd import (
    BatchSums,
    Model,
    Plan,
    VisitedRows,
    add_coefficients,
    add_intercepts,
    pay_l1,
    sgd_types,
    shrinkage,
    take_steps,
)
from .sgd_dense import ask_for_rows
from .sgd_sparse import sparse_predict

_l1_gain = helper(formulas.l1_gain)
_soft = helper(formulas.soft_threshold)
_clip = fast_helper(formulas.clip_factor)
_momentum = fast_helper(formulas.momentum)
_squares = fast_helper(formulas.squares)
_adam = fast_helper(formulas.adam)

OPTIMIZER_TYPES = [
    types.intp, *[types.float64] * 4, types.int64, TABLE, TABLE, SUMS, SUMS,
]  # fmt: skip


class OptimizerArrays(NamedTuple):
    """An `OptimizerState` as kernels take it; moments that the rule does not have are empty."""

    rule: int
    beta1: float
    beta2: float
    eps: float
    max_norm: float
    steps: int
    u: np.ndarray  # (t, d)
    v: np.ndarray  # (t, d)
    ub: np.ndarray  # (t,)
    vb: np.ndarray  # (t,)


class Target(NamedTuple):
    """The weights of one target, or one intercept, with their gradient and moments."""

    w: np.ndarray  # X's dtype
    w64: np.ndarray  # the same numbers in float64
    g: np.ndarray
    u: np.ndarray
    v: np.ndarray


class OptimizerStep(NamedTuple):
    """What one update does to all weights of a target."""

    clip: float
    rate: float
    l2: float
    cut: float  # of the L1 step, before it is divided by D


def optimizer_arguments(o: OptimizerState, t: int) -> OptimizerArrays:
    """What OPTIMIZER_TYPES declares."""
    no_coef, no_intercept = np.empty((t, 0)), np.empty(0)
    return OptimizerArrays(
        int(o.rule),
        o.beta1,
        o.beta2,
        o.eps,
        o.max_norm,
        o.steps,
        no_coef if o.coef_first is None else o.coef_first,
        no_coef if o.coef_second is None else o.coef_second,
        no_intercept if o.intercept_first is None else o.intercept_first,
        no_intercept if o.intercept_second is None else o.intercept_second,
    )


# ----------------------------------------------------------------------------------- rows


@kernel(lambda f, g: [*dense_types(f), *sgd_types(f, g), *OPTIMIZER_TYPES])
def dense_optimizer(
    X, flat, offset, stride,
    y, s, order, visits, rates, batch_size, l2, l1, fit_intercept, skipped,
    w, b, paid, coef_sum, intercept_sum, due,
    rule, beta1, beta2, eps, max_norm, steps, u, v, ub, vb,
):  # fmt: skip
    """The updates of an epoch by a rule; returns the loss and the L1 due.

    Reads d numbers per row, from cache the second time; 4 d t flops per row. For each update some
    6 arrays of (t, d) float64 are read or written.
    """
    size, t = block_rows(X, flat), w.shape[0]
    scratch = np.empty(0 if flat.size > 0 else size * X.shape[1], X.dtype)
    rows = Rows(X, flat, offset, stride, scratch, flat if flat.size > 0 else scratch)
    at = np.empty(size + (AHEAD if order.size > 0 else 0), np.uintp)
    block = VisitedRows(at, np.empty((size, t)), np.empty((size, t)), np.empty(size))
    step = BatchSums(np.zeros(w.shape), np.zeros(t))
    plan = Plan(order, visits, rates, batch_size, l2, l1, fit_intercept, skipped)
    model = Model(w, b, paid, coef_sum, intercept_sum), w.astype(np.float64)
    optimizer = OptimizerArrays(rule, beta1, beta2, eps, max_norm, steps, u, v, ub, vb)
    return _dense_updates(rows, (y, s), plan, model, optimizer, block, step, due)


@helper
def _dense_updates(rows, targets, plan, model, optimizer, block, step, due):
    """`dense_optimizer` with its work space."""
    (y, s), (weights, w64), n_block = targets, model, block.S.size
    in_order, d, visits = plan.order.size == 0, w64.shape[1], plan.visits
    ahead = rows_ahead(rows.A, d, rows.stride) if in_order else block.at.size - n_block
    affine = Affine(w64, 1.0, weights.b)
    loss, k = 0.0, 0
    size, left = min(plan.batch_size, visits), min(plan.batch_size, visits)  # left of mini-batch k
    for first in range(0, visits, n_block):
        count = min(n_block, visits - first)
        locate(rows, plan.order, first, count, block.at)
        fetch_targets(y, s, plan.order, first, count, block.Y, block.S)
        i = 0
        while i < count:
            span = i, min(left, count - i)
            ask_for_rows(rows.A, block.at, span, d, rows.stride, ahead, in_order)
            project(rows.A, block.at, span, affine, block.R, 0)
            loss += take_steps(block.R, block.Y, block.S, span, 1.0 / size, step.db)
            spread(rows.A, block.at, span, block.R, step.G)
            left -= span[1]
            i += span[1]
            if left > 0:
                continue
            due = _update(weights, w64, step, plan, optimizer, k, due)
            k += 1
            size = left = min(plan.batch_size, visits - first - i)
    return loss, due


@kernel(lambda f, i, g: [*csr_types(f, i), *sgd_types(f, g), *OPTIMIZER_TYPES])
def csr_optimizer(
    data, indices, indptr,
    y, s, order, visits, rates, batch_size, l2, l1, fit_intercept, skipped,
    w, b, paid, coef_sum, intercept_sum, due,
    rule, beta1, beta2, eps, max_norm, steps, u, v, ub, vb,
):  # fmt: skip
    """`dense_optimizer` of CSR rows: a row costs its entries, an update all (t, d) weights."""
    t = w.shape[0]
    block = VisitedRows(np.empty(0, np.uintp), np.empty((1, t)), np.empty((1, t)), np.empty(1))
    step = BatchSums(np.zeros(w.shape), np.zeros(t))
    plan = Plan(order, visits, rates, batch_size, l2, l1, fit_intercept, skipped)
    model = Model(w, b, paid, coef_sum, intercept_sum), w.astype(np.float64)
    optimizer = OptimizerArrays(rule, beta1, beta2, eps, max_norm, steps, u, v, ub, vb)
    X = data, indices, indptr
    return _csr_updates(X, (y, s), plan, model, optimizer, block, step, due)


@helper
def _csr_updates(X, targets, plan, model, optimizer, block, step, due):
    """`csr_optimizer` with its work space."""
    (y, s), (weights, w64), (_, R, Y, S) = targets, model, block
    loss = 0.0
    for k in range(plan.rates.size):
        first = k * plan.batch_size
        size = min(plan.batch_size, plan.visits - first)
        for visit in range(first, first + size):
            row = visited_row(plan.order, visit)
            begin, end = X[2][row], X[2][row + 1]
            sparse_predict(X, begin, end, w64, 1.0, weights.b, R)
            fetch_targets(y, s, plan.order, visit, 1, Y, S)
            loss += take_steps(R, Y, S, (0, 1), 1.0 / size, step.db)
            _sparse_add(X, begin, end, R, step.G)
        due = _update(weights, w64, step, plan, optimizer, k, due)
    return loss, due


@helper
def _sparse_add(X, begin, end, R, G):
    """G[c] += R[0, c] x, for G of shape (t, d)."""
    data, indices, _ = X
    for c in range(G.shape[0]):
        for k in range(np.uintp(begin), np.uintp(end)):
            G[c, np.uintp(indices[k])] += R[0, c] * data[k]


# -------------------------------------------------------------------------------- updates


@helper
def _update(model, w64, step, plan, o, k, due):
    """Update k of the epoch from its gradients, which are zero again; the L1 due."""
    w, b, paid, coef_sum, intercept_sum = model
    (G, db), rate, number = step, plan.rates[k], o.steps + k + 1
    cut = 0.0 if o.rule == SGD else rate * plan.l1 * _l1_gain(o.rule, o.beta1, number)
    for c in range(w.shape[0]):
        gb = db[c] if plan.fit_intercept else 0.0
        clip = _clip_of_target(G, db, c, gb, o.max_norm)
        target = Target(w[c], w64[c], G[c], o.u[c], o.v[c])
        _step(target, OptimizerStep(clip, rate, plan.l2, cut), o, number)
        if plan.fit_intercept:
            one = slice(c, c + 1)
            target = Target(b[one], b[one], db[one], o.ub[one], o.vb[one])
            _step(target, OptimizerStep(clip, rate, 0.0, 0.0), o, number)
        db[c] = 0.0
    if k >= plan.skipped:
        add_coefficients(w, coef_sum)
        add_intercepts(b, intercept_sum)
    if o.rule == SGD and plan.l1 > 0.0:
        due += rate * plan.l1
        pay_l1(w, paid, due)
        for c in range(w.shape[0]):
            for j in range(np.uintp(w.shape[1])):
                w64[c, j] = w[c, j]
    return due


@helper
def _clip_of_target(G, db, c, gb, max_norm):
    """The factor of target c's gradients, gb that of its intercept.

    Gradients whose squares overflow are brought to the unit of the factor.
    """
    if max_norm == np.inf:
        return 1.0
    total = _square_of_target(G, c, gb)
    if total < np.inf:
        return _clip(total, max_norm, 1.0)
    for j in range(np.uintp(G.shape[1])):
        G[c, j] *= CLIP_UNIT
    db[c] *= CLIP_UNIT
    return _clip(_square_of_target(G, c, gb * CLIP_UNIT), max_norm, CLIP_UNIT)


@fast_helper
def _square_of_target(G, c, gb):
    """The squared norm of target c's gradients."""
    total = gb * gb
    for j in range(np.uintp(G.shape[1])):
        total += G[c, j] * G[c, j]
    return total


@helper
def _step(target, change, o, k):
    """The weights of one target (or one intercept) by one update; g is zero again."""
    clip, rate, l2, cut = change
    decoupled = o.rule == SGD or o.rule == ADAMW
    keep = shrinkage(rate, l2) if decoupled else 1.0
    coupled = OptimizerStep(clip, rate, 0.0 if decoupled else l2, cut)
    if o.rule == SGD:
        _step_plain(target, coupled, keep)
    elif o.rule == MOMENTUM:
        _step_momentum(target, coupled, (o.beta1, 0.0, 1.0))
    elif o.rule == NESTEROV:
        _step_momentum(target, coupled, (o.beta1, 1.0, o.beta1))
    elif o.rule == RMSPROP:
        _step_squares(target, coupled, (o.beta2, 1.0 - o.beta2, o.eps))
    elif o.rule == ADAGRAD:
        _step_squares(target, coupled, (1.0, 1.0, o.eps))
    else:
        rate = rate / (1.0 - o.beta1**k)
        root = 1.0 / np.sqrt(1.0 - o.beta2**k)
        coupled = OptimizerStep(clip, rate, coupled.l2, cut)
        _step_adam(target, coupled, keep, (o.beta1, o.beta2, o.eps, root))


@fast_helper
def _step_plain(target, change, keep):
    """w <- keep w - rate g."""
    w, w64, g, _, _ = target
    for j in range(np.uintp(w.size)):
        w[j] = keep * w64[j] - change.rate * (change.clip * g[j])
        w64[j] = w[j]
        g[j] = 0.0


@fast_helper
def _step_momentum(target, change, factors):
    """`formulas.momentum`, whose factors are (beta1, of_gradient, of_moment)."""
    (w, w64, g, u, _), (clip, rate, l2, cut) = target, change
    for j in range(np.uintp(w.size)):
        gj = clip * g[j] + l2 * w64[j]
        u[j], p = _momentum(gj, u[j], factors[0], factors[1], factors[2])
        w[j] = _soft(w64[j] - rate * p, cut)
        w64[j] = w[j]
        g[j] = 0.0


@fast_helper
def _step_squares(target, change, factors):
    """`formulas.squares`, whose factors are (old, new, eps)."""
    (w, w64, g, _, v), (clip, rate, l2, cut) = target, change
    for j in range(np.uintp(w.size)):
        gj = clip * g[j] + l2 * w64[j]
        v[j], D = _squares(gj, v[j], factors[0], factors[1], factors[2])
        w[j] = _soft(w64[j] - rate * gj / D, cut / D)
        w64[j] = w[j]
        g[j] = 0.0


@fast_helper
def _step_adam(target, change, keep, factors):
    """`formulas.adam`, whose factors are (beta1, beta2, eps, root); the rate is corrected too."""
    (w, w64, g, u, v), (clip, rate, l2, cut) = target, change
    beta1, beta2, eps, root = factors
    for j in range(np.uintp(w.size)):
        gj = clip * g[j] + l2 * w64[j]
        u[j], v[j], D = _adam(gj, u[j], v[j], beta1, beta2, eps, root)
        w[j] = _soft(keep * w64[j] - rate * u[j] / D, cut / D)
        w64[j] = w[j]
        g[j] = 0.0
