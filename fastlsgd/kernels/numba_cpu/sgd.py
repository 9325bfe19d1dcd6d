"""What all kinds of epoch share: the arguments of their kernels, and the rules of an update.

Weights are kept as ``w = scale v``, v in w's own memory: L2 shrinkage then costs one product per
update, and is not lost to float32's rounding where rate * alpha is below 1e-8.

Each kernel takes its arguments one by one, as `sgd_types` declares them, and packs them into the
tuples below on its first lines.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types

from .. import formulas
from ..contract import Epoch, Matrix, SGDState, rows_per_group
from .compile import SUMS, TABLE, fast_helper, helper, read, written
from .rows import weights_or_none

TINY_SCALE = 1e-4  # a smaller common scale is multiplied into the weights

shrinkage = helper(formulas.shrinkage)
_pay = helper(formulas.pay_l1)
_proximal = helper(formulas.proximal)


class Plan(NamedTuple):
    """An `Epoch` as kernels take it."""

    order: np.ndarray  # (visits,) or empty for 0, 1, 2, ...
    visits: int
    rates: np.ndarray  # (k,)
    batch_size: int
    l2: float
    l1: float
    fit_intercept: bool
    skipped: int  # updates before the average begins; all of them where there is none


class Proximal(NamedTuple):
    """Implicit steps and a `Prox` as kernels take them."""

    implicit: bool
    soft: np.ndarray  # (d,) or empty where there is no `Prox`
    shrink: np.ndarray  # (d,)
    group: int  # rows between two proximal steps


class Model(NamedTuple):
    """What the updates change."""

    w: np.ndarray  # (t, d), scaled
    b: np.ndarray  # (t,)
    paid: np.ndarray  # (t, d) or empty where there is no L1
    coef_sum: np.ndarray  # (t, d) or empty where there is no average
    intercept_sum: np.ndarray  # (t,)


class VisitedRows(NamedTuple):
    """The rows of a block of visits."""

    at: np.ndarray  # where each row starts
    R: np.ndarray  # (rows, t)  predictions, then steps along the rows
    Y: np.ndarray  # (rows, t)  targets
    S: np.ndarray  # (rows,)  weights


class BatchSums(NamedTuple):
    """The sums of a mini-batch, zero between updates."""

    G: np.ndarray  # (t, d)
    db: np.ndarray  # (t,)


# ------------------------------------------------------------------------------ arguments


def sgd_types(f, g):
    """The arguments after the matrix: what `sgd_arguments` returns."""
    plan = [read(types.int64, 1), types.intp, read(types.float64, 1), types.intp,
            types.float64, types.float64, types.boolean, types.intp]  # fmt: skip
    model = [written(f, 2), SUMS, written(f, 2), TABLE, SUMS]
    return [read(g, 2), read(g, 1, "C"), *plan, *model, types.float64]


def sgd_arguments(
    X: Matrix,
    y: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    sample_weight: np.ndarray | None,
    epoch: Epoch,
    state: SGDState,
) -> list:
    """y, s, a `Plan`, a `Model` and the L1 due so far, one by one."""
    order, l1, n_updates = epoch.order, epoch.l1, len(epoch.rates)
    skipped = n_updates if state.average_after is None else min(state.average_after, n_updates)
    summed = skipped < n_updates
    return [
        y,
        weights_or_none(sample_weight, y.dtype),
        np.empty(0, np.int64) if order is None else order,
        X.shape[0] if order is None else len(order),
        epoch.rates,
        epoch.batch_size,
        epoch.l2,
        l1,
        epoch.fit_intercept,
        skipped,
        w,
        b,
        state.l1_paid if l1 > 0.0 else np.empty((0, 0), w.dtype),
        state.coef_sum if summed else np.empty((0, 0)),
        state.intercept_sum if summed else np.empty(len(b)),
        state.l1_due,
    ]


def proximal_types(f):
    """The arguments of plain descent besides: a `Proximal`, one by one."""
    return [types.boolean, read(f, 1), read(f, 1), types.intp]


def proximal_arguments(epoch: Epoch, dtype: np.dtype) -> tuple:
    """What `proximal_types` declares."""
    nothing = np.empty(0, dtype)
    soft, shrink = (nothing, nothing) if epoch.prox is None else epoch.prox
    return epoch.implicit, soft, shrink, rows_per_group(epoch.batch_size)


# -------------------------------------------------------------------- from rows to steps


@helper
def dampen(A, at, span, d, rate, fit_intercept, S):
    """Weights of an implicit update: s / (1 + g (|x|^2 + 1)) with g = rate s."""
    for i in range(span[0], span[0] + span[1]):
        if S[i] == 0.0:  # then the norm may be infinite
            continue
        S[i] /= 1.0 + rate * S[i] * (_squared_norm(A, at[i], d) + fit_intercept)


@fast_helper
def _squared_norm(A, start, d):
    """|x|^2 in float64."""
    total = 0.0
    for j in range(np.uintp(d)):
        total += np.float64(A[start + j]) * np.float64(A[start + j])
    return total


@helper
def take_steps(R, Y, S, span, rate, db):
    """From predictions R to steps rate s r along the rows; db takes their sum in.

    Returns the sum of r^2 / 2 over rows that count.
    """
    loss = 0.0
    for i in range(np.uintp(span[0]), np.uintp(span[0] + span[1])):
        for c in range(np.uintp(R.shape[1])):
            r = R[i, c] - Y[i, c] if S[i] != 0.0 else 0.0  # else it may be infinite
            loss += 0.5 * r * r
            R[i, c] = rate * S[i] * r
            db[c] += R[i, c]
    return loss


# ---------------------------------------------------------------------------- the weights


@helper
def shrunk(w, scale, rate, l2):
    """The scale after one more update; multiplied into the weights before it is too small."""
    scale *= shrinkage(rate, l2)
    return scale if scale >= TINY_SCALE else unscale(w, scale)


@helper
def unscale(w, scale):
    """Multiply the scale into the weights; the new one is 1. Scale 0 is zero weights."""
    if scale != 1.0:
        for c in range(w.shape[0]):
            for j in range(np.uintp(w.shape[1])):
                w[c, j] *= scale
    return 1.0


@helper
def shift_intercept(b, db, fit_intercept):
    """b -= db, and db is zero again."""
    for c in range(b.size):
        if fit_intercept:
            b[c] -= db[c]
        db[c] = 0.0


@helper
def add_intercepts(b, intercept_sum):
    """The average takes in b."""
    for c in range(b.size):
        intercept_sum[c] += b[c]


@helper
def add_coefficients(w, coef_sum):
    """The average takes in w."""
    for c in range(w.shape[0]):
        for j in range(np.uintp(w.shape[1])):
            coef_sum[c, j] += w[c, j]


@helper
def pay_l1(w, paid, due):
    """The cumulative L1 penalty of all weights, in float64."""
    for c in range(w.shape[0]):
        for j in range(np.uintp(w.shape[1])):
            before, q = np.float64(w[c, j]), np.float64(paid[c, j])
            after = _pay(before, q, due)
            w[c, j] = after
            paid[c, j] = q + (after - before)


@helper
def proximal_step(model, prox, rate, averaged):
    """The step of a `Prox` with the rates of a group; the sums of weights take the change in."""
    w, coef_sum = model.w, model.coef_sum
    for c in range(w.shape[0]):
        for j in range(np.uintp(w.shape[1])):
            before = np.float64(w[c, j])
            w[c, j] = _proximal(before, rate, prox.soft[j], prox.shrink[j])
            if averaged:
                coef_sum[c, j] += w[c, j] - before
