"""An epoch on dense rows."""

from __future__ import annotations

import numpy as np

from .compile import dense_types, fast_helper, helper, kernel
from .prefetch import AHEAD, prefetch_row, prefetch_target
from .rows import (
    Affine,
    Rows,
    block_rows,
    dot4,
    fetch_targets,
    locate,
    project,
    rows_ahead,
    spread,
)
from .sgd import (
    TINY_SCALE,
    BatchSums,
    Model,
    Plan,
    Proximal,
    VisitedRows,
    add_coefficients,
    add_intercepts,
    dampen,
    pay_l1,
    proximal_step,
    proximal_types,
    sgd_types,
    shift_intercept,
    shrunk,
    take_steps,
    unscale,
)

SAFE_SHRINKAGE = 0.5  # rate * alpha below which 4 factors 1 - rate * alpha may be divided by


@kernel(lambda f, g: [*dense_types(f), *sgd_types(f, g), *proximal_types(f)])
def dense_sgd(
    X, flat, offset, stride,
    y, s, order, visits, rates, batch_size, l2, l1, fit_intercept, skipped,
    w, b, paid, coef_sum, intercept_sum, due, implicit, soft, shrink, group,
):  # fmt: skip
    """The updates of an epoch, mini-batch by mini-batch; returns the loss and the L1 due.

    Reads d numbers per row, from cache the second time; 4 d t flops per row. For each update more:
    2 d t numbers of w; with averages, L1 or a mini-batch above 1, t d numbers of each of those.
    """
    size, t = block_rows(X, flat), w.shape[0]
    scratch = np.empty(0 if flat.size > 0 else size * X.shape[1], X.dtype)
    rows = Rows(X, flat, offset, stride, scratch, flat if flat.size > 0 else scratch)
    at = np.empty(size + (AHEAD if order.size > 0 else 0), np.uintp)
    block = VisitedRows(at, np.empty((size, t)), np.empty((size, t)), np.empty(size))
    step = BatchSums(np.zeros(w.shape if batch_size > 1 else (0, 0)), np.zeros(t))
    plan = Plan(order, visits, rates, batch_size, l2, l1, fit_intercept, skipped)
    model = Model(w, b, paid, coef_sum, intercept_sum)
    prox = Proximal(implicit, soft, shrink, group)
    return _updates(rows, (y, s), plan, prox, model, block, step, due)


@helper
def _updates(rows, targets, plan, prox, model, block, step, due):
    """`dense_sgd` with its work space."""
    (y, s), n_block = targets, block.S.size
    in_order, d, visits = plan.order.size == 0, model.w.shape[1], plan.visits
    ahead = rows_ahead(rows.A, d, rows.stride) if in_order else block.at.size - n_block
    loss, scale, pending, grouped, k = 0.0, 1.0, 0.0, 0, 0
    quads = plan.batch_size == 1 and plan.l1 == 0.0 and prox.soft.size == 0
    quads = quads and plan.skipped >= plan.rates.size
    size, left = min(plan.batch_size, visits), min(plan.batch_size, visits)  # left of mini-batch k
    for first in range(0, visits, n_block):
        count = min(n_block, visits - first)
        locate(rows, plan.order, first, count, block.at)
        fetch_targets(y, s, plan.order, first, count, block.Y, block.S)
        for i in range(first + count, min(first + count + n_block, plan.order.size)):
            prefetch_target(y, plan.order[i])
        i = 0
        while i < count:
            safe = quads and i + 4 <= count and _shrinks_safely(plan.rates, np.uintp(k), plan.l2)
            if safe and (s.size == 0 or _all_count(block.S, np.uintp(i))):
                ask_for_rows(rows.A, block.at, (i, 4), d, rows.stride, ahead, in_order)
                part, scale = _quad(
                    rows.A, block, plan, prox.implicit, model, np.uintp(i), np.uintp(k), scale
                )
                loss += part
                i += 4
                k += 4
                continue
            span = i, min(left, count - i)
            ask_for_rows(rows.A, block.at, span, d, rows.stride, ahead, in_order)
            project(rows.A, block.at, span, Affine(model.w, scale, model.b), block.R, 0)
            rate = plan.rates[k] / size
            if prox.implicit:
                dampen(rows.A, block.at, span, d, rate, plan.fit_intercept, block.S)
            loss += take_steps(block.R, block.Y, block.S, span, rate, step.db)
            if size > 1:
                spread(rows.A, block.at, span, block.R, step.G)
            left -= span[1]
            i += span[1]
            if left > 0:
                continue
            scale = _descend(rows.A, plan, model, block, step, (i - 1, k, size), scale)
            pending += plan.rates[k]
            grouped += size
            at_end = prox.soft.size > 0 and (grouped >= prox.group or first + i == visits)
            scale, due = _penalize(plan, prox, model, k, scale, due, pending, at_end)
            if at_end:
                pending, grouped = 0.0, 0
            k += 1
            size = left = min(plan.batch_size, visits - first - i)
    unscale(model.w, scale)
    return loss, due


@helper
def ask_for_rows(A, at, span, d, stride, ahead, in_order):
    """Prefetch the rows that come `ahead` rows after those of a span (first, count).

    Rows that are not `in_order` are those that `at` names.
    """
    first, count = span
    for i in range(np.uintp(first), np.uintp(first + count if ahead > 0 else first)):
        start = at[i] + np.uintp(ahead * stride) if in_order else at[i + np.uintp(ahead)]
        prefetch_row(A, start, d)


@helper
def _descend(A, plan, model, block, step, update, scale):
    """Update k of `size` rows, of which `last` is the last: w and b before penalties; the scale."""
    last, k, size = update
    scale = shrunk(model.w, scale, plan.rates[k], plan.l2)
    if size > 1:
        _descend_by_sums(model.w, step.G, scale)
    else:
        _descend_along(A, block.at[last], model.w, block.R, last, scale)
    shift_intercept(model.b, step.db, plan.fit_intercept)
    return scale


@fast_helper
def _descend_by_sums(w, G, scale):
    """v -= G / scale, and G is zero again."""
    factor = 1.0 / scale
    for c in range(w.shape[0]):
        for j in range(np.uintp(w.shape[1])):
            w[c, j] -= factor * G[c, j]
            G[c, j] = 0.0


@fast_helper
def _descend_along(A, start, w, R, i, scale):
    """v_c -= R[i, c] / scale x, in w's arithmetic."""
    for c in range(w.shape[0]):
        step = w.dtype.type(R[i, c] * (1.0 / scale))
        for j in range(np.uintp(w.shape[1])):
            w[c, j] -= step * A[start + j]


@helper
def _penalize(plan, prox, model, k, scale, due, pending, at_end):
    """Average, L1 and `Prox` at the end of update k; the scale and the L1 due."""
    averaged = k >= plan.skipped
    if plan.l1 > 0.0 or averaged or at_end:
        scale = unscale(model.w, scale)
    if averaged:
        add_coefficients(model.w, model.coef_sum)
        add_intercepts(model.b, model.intercept_sum)
    if plan.l1 > 0.0:
        due += plan.rates[k] * plan.l1
        pay_l1(model.w, model.paid, due)
    if at_end:
        proximal_step(model, prox, pending, averaged)
    return scale, due


# Four updates of one row each as a triangular solve (csrc/sgd_dense.inc has the maths): the sums
# over a row no longer wait for the update before.


@helper
def _shrinks_safely(rates, k, l2):
    """Whether updates k to k + 3 leave weights that may be divided by their L2 factors."""
    one, three = np.uintp(1), np.uintp(3)
    highest = max(rates[k], rates[k + one], rates[k + one + one], rates[k + three])
    return highest * l2 < SAFE_SHRINKAGE


@helper
def _all_count(S, i):
    """Whether rows i to i + 3 have a weight: the products of others may be infinite."""
    one, three = np.uintp(1), np.uintp(3)
    return S[i] != 0.0 and S[i + one] != 0.0 and S[i + one + one] != 0.0 and S[i + three] != 0.0


@helper
def _quad(A, block, plan, implicit, model, i, k, scale):
    """Updates k to k + 3 along rows i to i + 3; returns their r^2 / 2, and the new scale.

    With P_m the scale before update m: r_m = P_m x_m . v + b - y_m - sum_{j < m} M_mj r_j, where
    M_mj = g_j (P_m / P_{j+1} x_m . x_j + 1), and v -= sum_m g_m r_m / P_{m+1} x_m.
    """
    i1, i2, i3 = i + np.uintp(1), i + np.uintp(2), i + np.uintp(3)
    k1, k2, k3 = k + np.uintp(1), k + np.uintp(2), k + np.uintp(3)
    (w, b, _, _, _), (at, _, Y, S), rates, l2 = model, block, plan.rates, plan.l2
    p0, p1, p2, p3 = at[i], at[i1], at[i2], at[i3]
    dots, pairs = _dots_and_pairs(A, p0, p1, p2, p3, w)
    if implicit:
        for m in range(np.uintp(4)):
            dampen(A, at, (i + m, np.uintp(1)), w.shape[1], rates[k + m], plan.fit_intercept, S)
    g0, g1, g2, g3 = rates[k] * S[i], rates[k1] * S[i1], rates[k2] * S[i2], rates[k3] * S[i3]
    P1 = scale * (1.0 - rates[k] * l2)
    P2 = P1 * (1.0 - rates[k1] * l2)
    P3 = P2 * (1.0 - rates[k2] * l2)
    P4 = P3 * (1.0 - rates[k3] * l2)
    u1, u2, u3, u4 = 1.0 / P1, 1.0 / P2, 1.0 / P3, 1.0 / P4
    one = 1.0 if plan.fit_intercept else 0.0
    M10 = g0 * (pairs[0] + one)
    M20, M21 = g0 * (P2 * u1 * pairs[1] + one), g1 * (pairs[2] + one)
    M30, M31 = g0 * (P3 * u1 * pairs[3] + one), g1 * (P3 * u2 * pairs[4] + one)
    M32 = g2 * (pairs[5] + one)
    loss = 0.0
    for c in range(np.uintp(w.shape[0])):
        if c > 0:
            dots = dot4(A, p0, p1, p2, p3, w, c)
        r0 = scale * dots[0] + (b[c] - Y[i, c])
        r1 = P1 * dots[1] + (b[c] - Y[i1, c]) - M10 * r0
        r2 = P2 * dots[2] + (b[c] - Y[i2, c]) - M20 * r0 - M21 * r1
        r3 = P3 * dots[3] + (b[c] - Y[i3, c]) - M30 * r0 - M31 * r1 - M32 * r2
        loss += 0.5 * (r0 * r0 + r1 * r1 + r2 * r2 + r3 * r3)
        b[c] -= one * (g0 * r0 + g1 * r1 + g2 * r2 + g3 * r3)
        steps = g0 * r0 * u1, g1 * r1 * u2, g2 * r2 * u3, g3 * r3 * u4
        _descend_along_four(A, (p0, p1, p2, p3), steps, w, c)
    return loss, P4 if P4 >= TINY_SCALE else unscale(w, P4)


@fast_helper
def _dots_and_pairs(A, p0, p1, p2, p3, w):
    """The four x_m . v of the first target, and the six x_m . x_j, in the arithmetic of w."""
    zero = w.dtype.type(0)
    r0, r1, r2, r3 = zero, zero, zero, zero
    x10, x20, x21, x30, x31, x32 = zero, zero, zero, zero, zero, zero
    for j in range(np.uintp(w.shape[1])):
        a0, a1, a2, a3, v = A[p0 + j], A[p1 + j], A[p2 + j], A[p3 + j], w[0, j]
        r0 += a0 * v
        r1 += a1 * v
        r2 += a2 * v
        r3 += a3 * v
        x10 += a1 * a0
        x20 += a2 * a0
        x21 += a2 * a1
        x30 += a3 * a0
        x31 += a3 * a1
        x32 += a3 * a2
    return (r0, r1, r2, r3), (x10, x20, x21, x30, x31, x32)


@fast_helper
def _descend_along_four(A, starts, steps, w, c):
    """v_c -= the sum of four rows times their steps, in w's arithmetic."""
    (p0, p1, p2, p3), (q0, q1, q2, q3), kind = starts, steps, w.dtype.type
    s0, s1, s2, s3 = kind(q0), kind(q1), kind(q2), kind(q3)
    for j in range(np.uintp(w.shape[1])):
        w[c, j] -= (s0 * A[p0 + j] + s1 * A[p1 + j]) + (s2 * A[p2 + j] + s3 * A[p3 + j])
