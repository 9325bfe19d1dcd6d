"""An epoch on CSR rows: an update touches the entries of its rows alone.

What the penalties and the averages do to the other weights is made up for when such a weight is
next touched, and every TRAIL_LENGTH updates. docs/lazy_updates.md derives it, and names the columns
of the trail: line k holds P, U, V, A and B after update k since the last flush.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .. import formulas
from .compile import csr_types, fast_helper, helper, kernel
from .prefetch import AHEAD, LINE_BYTES, prefetch, prefetch_row, prefetch_target
from .rows import fetch_targets, sparse_spread, visited_row
from .sgd import (
    TINY_SCALE,
    BatchSums,
    Model,
    Plan,
    Proximal,
    VisitedRows,
    add_intercepts,
    dampen,
    proximal_step,
    proximal_types,
    sgd_types,
    shift_intercept,
    shrinkage,
    take_steps,
    unscale,
)

MAX_ENTRIES_AHEAD = 256  # of a CSR row that is prefetched
TRAIL_LENGTH = 65_536  # updates after which every weight is brought up to date
P, U, V, A, B = range(5)  # columns of the trail

_offset = helper(formulas.lazy_offset)
_average = helper(formulas.lazy_average)


class Lazy(NamedTuple):
    """What is overdue, and for which weights."""

    trail: np.ndarray  # (lines, 5)
    seen: np.ndarray  # (d,) the line that each weight has reached; empty: nothing is ever overdue


class Touched(NamedTuple):
    """The weights that a mini-batch of more than one row touches."""

    columns: np.ndarray  # (d,) those of this update
    last: np.ndarray  # (d,) the last update to touch each


@kernel(lambda f, i, g: [*csr_types(f, i), *sgd_types(f, g), *proximal_types(f)])
def csr_sgd(
    data, indices, indptr,
    y, s, order, visits, rates, batch_size, l2, l1, fit_intercept, skipped,
    w, b, paid, coef_sum, intercept_sum, due, implicit, soft, shrink, group,
):  # fmt: skip
    """`dense_sgd` at the cost of a row's entries: 4 t flops each, and what is overdue.

    A `Prox` has its own shrinkage for each weight, which has no such trail: it touches every
    weight at the end of each group, t d numbers as for a dense X.
    """
    t, d = w.shape
    batch = batch_size > 1
    trail = np.zeros((min(rates.size, TRAIL_LENGTH) + 1, 5))
    trail[0, P], trail[0, U] = 1.0, due
    lazy = Lazy(trail, np.zeros(d if l1 > 0.0 or skipped < rates.size else 0, np.int64))
    touched = Touched(np.empty(d if batch else 0, np.int64), np.full(d if batch else 0, -1))
    at = np.empty(1, np.uintp)
    block = VisitedRows(at, np.empty((1, t)), np.empty((1, t)), np.empty(1))
    step = BatchSums(np.zeros((d, t) if batch else (0, 0)), np.zeros(t))
    plan = Plan(order, visits, rates, batch_size, l2, l1, fit_intercept, skipped)
    model = Model(w, b, paid, coef_sum, intercept_sum)
    prox = Proximal(implicit, soft, shrink, group)
    X = data, indices, indptr
    return _updates(X, (y, s), plan, prox, model, lazy, touched, (block, step))


@helper
def _updates(X, targets, plan, prox, model, lazy, touched, work):
    """`csr_sgd` with its work space."""
    block, step = work
    loss, pending, grouped, now = 0.0, 0.0, 0, 0
    for k in range(plan.rates.size):
        first = k * plan.batch_size
        size, n_touched, begin, end = min(plan.batch_size, plan.visits - first), 0, 0, 0
        for visit in range(first, first + size):
            rate = plan.rates[k] / size
            at = visit, now, rate
            part, begin, end = _row_steps(X, targets, plan, prox, model, lazy, work, at)
            loss += part
            if plan.batch_size > 1:
                n_touched = _add_row(X, (begin, end), block.R, step.G, touched, k, n_touched)
        now = _next_line(model, lazy, plan, now, k)
        if plan.batch_size > 1:
            _descend_by_sums(model.w, step.G, touched.columns, n_touched, lazy.trail[now, P])
        else:
            _descend_along(X, (begin, end), model.w, block.R, lazy.trail[now, P])
        shift_intercept(model.b, step.db, plan.fit_intercept)
        if k >= plan.skipped:
            add_intercepts(model.b, model.intercept_sum)
        pending += plan.rates[k]
        grouped += size
        if prox.soft.size > 0 and (grouped >= prox.group or first + size == plan.visits):
            _flush(model, lazy, now, 1.0)
            proximal_step(model, prox, pending, k >= plan.skipped)
            pending, grouped, now = 0.0, 0, 0
    due = lazy.trail[now, U]
    _flush(model, lazy, now, 1.0)
    return loss, due


@helper
def _row_steps(X, targets, plan, prox, model, lazy, work, at):
    """The steps of one row, in the block's R and the step's db; its r^2 / 2, and its entries."""
    (data, indices, indptr), (y, s), (block, step), (visit, now, rate) = X, targets, work, at
    row = visited_row(plan.order, visit)
    begin, end = indptr[row], indptr[row + 1]
    _ask_for_entries(X, y, plan.order, visit)
    if lazy.seen.size > 0:
        _catch_up_row(indices, begin, end, model, lazy, now)
    sparse_predict(X, begin, end, model.w, lazy.trail[now, P], model.b, block.R)
    fetch_targets(y, s, plan.order, visit, 1, block.Y, block.S)
    if prox.implicit:
        block.at[0] = begin
        dampen(data, block.at, (0, 1), end - begin, rate, plan.fit_intercept, block.S)
    return take_steps(block.R, block.Y, block.S, (0, 1), rate, step.db), begin, end


@helper
def _ask_for_entries(X, y, order, visit):
    """Prefetch what rows to come in random order hold; rows in order come by themselves."""
    data, indices, indptr = X
    if visit + AHEAD < order.size:
        prefetch(indptr, np.uintp(order[visit + AHEAD]))
        prefetch_target(y, order[visit + AHEAD])
    if visit + AHEAD // 2 < order.size:
        row = np.uintp(order[visit + AHEAD // 2])
        begin, count = np.uintp(indptr[row]), indptr[row + np.uintp(1)] - indptr[row]
        count = min(count, MAX_ENTRIES_AHEAD)
        prefetch_row(data, begin, count + LINE_BYTES // data.itemsize)
        prefetch_row(indices, begin, count + LINE_BYTES // indices.itemsize)


@fast_helper
def sparse_predict(X, begin, end, w, scale, b, R):
    """R[0] = scale x v + b for w of shape (t, d)."""
    data, indices, _ = X
    for c in range(b.size):
        total = 0.0
        for k in range(np.uintp(begin), np.uintp(end)):
            total += np.float64(data[k]) * w[c, np.uintp(indices[k])]
        R[0, c] = scale * total + b[c]


@helper
def _add_row(X, entries, R, G, touched, k, n_touched):
    """The mini-batch takes in the steps of one row; the number of weights that it has touched."""
    (data, indices, _), (begin, end), (columns, last) = X, entries, touched
    sparse_spread(data, indices, begin, end, R, G)
    for place in range(begin, end):
        j = indices[place]
        if last[j] != k:
            last[j] = k
            columns[n_touched] = j
            n_touched += 1
    return n_touched


@helper
def _descend_by_sums(w, G, columns, n_touched, scale):
    """v -= G / scale for the touched weights, whose G is zero again."""
    for i in range(n_touched):
        j = np.uintp(columns[i])
        for c in range(w.shape[0]):
            w[c, j] -= G[j, c] / scale
            G[j, c] = 0.0


@helper
def _descend_along(X, entries, w, R, scale):
    """v_c -= R[0, c] / scale x."""
    (data, indices, _), (begin, end) = X, entries
    for c in range(w.shape[0]):
        step = R[0, c] / scale
        for k in range(np.uintp(begin), np.uintp(end)):
            w[c, np.uintp(indices[k])] -= step * data[k]


# -------------------------------------------------------------------------------- the trail


@helper
def _next_line(model, lazy, plan, now, k):
    """Write the trail's line of update k, after a flush where there is no going on; its number."""
    trail, rate = lazy.trail, plan.rates[k]
    factor = shrinkage(rate, plan.l2)
    if now + 1 == trail.shape[0] or trail[now, P] * factor < TINY_SCALE:
        _flush(model, lazy, now, factor)
        now, factor = 0, 1.0
    before, line = trail[now], trail[now + 1]
    a = 1.0 if k >= plan.skipped else 0.0
    line[P] = before[P] * factor
    line[U] = before[U] + rate * plan.l1
    line[V] = before[V] + rate * plan.l1 / line[P]
    line[A] = before[A] + a * line[P]
    line[B] = before[B] + a * line[P] * before[V]
    return now + 1


@helper
def _flush(model, lazy, now, factor):
    """Bring every weight to line `now`, then multiply it by P and `factor`: the trail is at 0."""
    trail, seen = lazy
    for j in range(seen.size):
        _catch_up(model, trail, j, seen[j], now)
        seen[j] = 0
    unscale(model.w, trail[now, P] * factor)
    due = trail[now, U]
    trail[0] = 0.0
    trail[0, P], trail[0, U] = 1.0, due


@helper
def _catch_up_row(indices, begin, end, model, lazy, now):
    """Bring the weights of a row's entries to line `now`."""
    trail, seen = lazy
    for k in range(begin, end):
        j = indices[k]
        if seen[j] != now:
            _catch_up(model, trail, j, seen[j], now)
            seen[j] = now


@helper
def _catch_up(model, trail, j, then, now):
    """What updates then + 1 to now did to the weights of feature j, which had no entry in them."""
    if now == then:
        return
    w, paid, coef_sum = model.w, model.paid, model.coef_sum
    for c in range(w.shape[0]):
        v = np.float64(w[c, j])
        if v == 0.0:
            continue
        last = now
        if paid.size == 0:
            coef_sum[c, j] += v * (trail[last, A] - trail[then, A])
            continue
        z = 1.0 if v > 0.0 else -1.0
        size, q = abs(v), np.float64(paid[c, j])
        offset = _offset(trail[then, U], trail[then, V], trail[then + 1, P], z * q)
        if not offset + trail[now, V] >= size:  # or it is NaN, and stays so
            w[c, j] = z * (size - (offset + trail[now, V]))
            paid[c, j] = -z * trail[now, U]
        else:
            last = _reaches_zero(trail, offset, size, then, now)
            if last > then + 1:
                q = -z * trail[last - 1, U]
                rest = size - (offset + trail[last - 1, V])
            else:
                rest = size
            w[c, j] = 0.0
            paid[c, j] = q - z * rest * trail[last, P]
        if coef_sum.size > 0:
            a_sums = trail[then, A], trail[then + 1, A], trail[last, A]
            coef_sum[c, j] += z * _average(
                size, offset, a_sums, (trail[then + 1, B], trail[last, B])
            )


@helper
def _reaches_zero(trail, offset, size, then, now):
    """The first line i in (then, now] with offset + V_i >= size; `now` is known to be one."""
    low, high = then + 1, now
    while low < high:
        middle = (low + high) // 2
        if offset + trail[middle, V] >= size:
            high = middle
        else:
            low = middle + 1
    return low
