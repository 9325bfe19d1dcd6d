"""What all kinds of epoch share: the arguments of their kernels, and the rules of an update.

Weights, intercepts and state are float64 on the device for the length of a call, and are rounded to
X's dtype when it ends. Comparisons are such that NaN stays NaN: a fit that diverges must show it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import formulas
from ..contract import Epoch, SGDState, rows_per_group
from ..device import DeviceArray
from .compile import Kernel, cuda, device_function, launch
from .memory import native
from .rows import Block
from .transfer import download, upload
from .warp import WARP

shrinkage = device_function(formulas.shrinkage)
proximal = device_function(formulas.proximal)
_pay_l1 = device_function(formulas.pay_l1)


class EpochOnDevice(NamedTuple):
    """What the kernels of an epoch share: arrays on the device, and numbers."""

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

    @classmethod
    def begin(cls, w, b, epoch: Epoch, state: SGDState, stream) -> EpochOnDevice:
        """Upload what an epoch starts from."""
        rates, prox, updates = epoch.rates, epoch.prox, len(epoch.rates)
        skipped = updates if state.average_after is None else min(state.average_after, updates)

        def there(purpose, values, needed=True):
            return upload(f"sgd {purpose}", values if needed else np.zeros(1), stream)

        return cls(
            there("w", w),
            there("b", b),
            there("rates", rates),
            there("paid", state.l1_paid, epoch.l1 > 0.0),
            there("coef_sum", state.coef_sum, skipped < updates),
            there("intercept_sum", state.intercept_sum, skipped < updates),
            there("soft", None if prox is None else prox.soft, prox is not None),
            there("shrink", None if prox is None else prox.shrink, prox is not None),
            there("scalars", np.array([state.l1_due, 0.0])),
            epoch.batch_size,
            epoch.l2,
            epoch.l1,
            int(epoch.fit_intercept),
            int(epoch.implicit),
            0 if prox is None else rows_per_group(epoch.batch_size),
            skipped,
        )

    def end(self, w, b, epoch: Epoch, state: SGDState, stream) -> float:
        """Download what the updates left, into w, b and the state; returns the loss."""
        updates, d = len(epoch.rates), w.shape[1]
        w[...] = download(self.w[: w.size], stream).reshape(w.shape)
        b[...] = download(self.b[: b.size], stream)
        if self.l1 > 0.0:
            paid = download(self.paid[: w.size], stream)
            state.l1_paid[...] = paid.reshape(w.shape)  # type: ignore[index]
        if self.skipped < updates:
            sums = download(self.coef_sum[: w.size], stream)
            state.coef_sum[...] = sums.reshape(-1, d)  # type: ignore[index]
            intercepts = download(self.intercept_sum[: b.size], stream)
            state.intercept_sum[...] = intercepts  # type: ignore[index]
        due, loss = download(self.scalars[:2], stream)
        state.l1_due = float(due)
        if state.average_after is not None:
            state.n_summed += updates - self.skipped
            state.average_after -= self.skipped
        return float(loss)

    def arguments(self, first_update: int) -> tuple:
        arrays = tuple(native(part) for part in self[:9])
        return (*arrays, *self[9:], first_update)


def add_losses(losses: DeviceArray, count: int, descent: EpochOnDevice, block: Block) -> None:
    """Add the losses of so many warps to the loss of the epoch."""
    launch(_add_losses, 1, WARP, block.stream)(native(losses), count, native(descent.scalars))


@Kernel
def _add_losses(losses, count, scalars):
    if cuda.threadIdx.x == 0:
        total = 0.0
        for k in range(count):
            total += losses[k]
        scalars[1] += total


# ----------------------------------------------------------------------------------------------
# Inside kernels
# ----------------------------------------------------------------------------------------------


class Data(NamedTuple):
    """The rows of a block; `order` is of CSR rows alone."""

    X: Any  # Dense or Entries
    y: Any  # Dense
    s: Any  # Weights
    order: Any


class BatchRows(NamedTuple):
    """The rows of one update."""

    first: int
    size: int
    rate: float
    implicit: int


class Model(NamedTuple):
    """What the updates change."""

    w: Any  # (t, d)
    b: Any  # (t,)
    coef_sum: Any  # (t, d)
    intercept_sum: Any  # (t,)
    fit_intercept: int
    d: int
    t: int


class LazyPenalty(NamedTuple):
    """What follows the gradient steps of an epoch."""

    l1: float
    paid: Any  # (t, d)
    soft: Any  # (d,)
    shrink: Any  # (d,)


class Update(NamedTuple):
    """Where an epoch is after the gradient step of one update."""

    factor: float  # by which L2 shrinks the weights
    averaged: bool  # whether the average takes in the weights
    due: float  # L1 that each weight should have paid so far
    at_group_end: bool  # whether a proximal step follows
    pending: float  # the rates of the group, which that step has


@device_function
def sync_block():
    cuda.syncthreads()


@device_function
def sync_grid():
    cuda.cg.this_grid().sync()


@device_function
def ends_group(last, n, group):
    """Whether a proximal step follows the update whose rows end before row `last` of n."""
    return group > 0 and (last % group == 0 or last == n)


@device_function
def store_results(loss, due, losses, scalars):
    """Write each warp's loss, and the L1 due, which every thread must have read before."""
    if cuda.threadIdx.x % WARP == 0:
        losses[cuda.grid(1) // WARP] = loss
    if cuda.grid(1) == 0:
        scalars[0] = due


@device_function
def step_of_row(residual, norm, s, i, batch, fit_intercept):
    """(g, r) of row i, whose update is g r x: 0 where the weight is 0, whatever the row holds."""
    g = batch.rate / batch.size
    if s.given:
        g *= np.float64(s.values[i])
    if batch.implicit:
        g /= 1.0 + g * (norm + fit_intercept)
    if s.given and s.values[i] == 0.0:
        residual = 0.0
        g = 0.0
    return g, residual


@device_function
def finish_weight(v, at, j, model, penalty, update):
    """What follows the gradient step of weight v, of column j: average, L1 and prox.

    Returns the new weight; `at` is its place among all targets' weights.
    """
    if update.averaged:
        model.coef_sum[at] += v
    if penalty.l1 > 0.0:
        before = v
        v = _pay_l1(before, penalty.paid[at], update.due)
        penalty.paid[at] += v - before
    if update.at_group_end:
        before = v
        v = proximal(before, update.pending, penalty.soft[j], penalty.shrink[j])
        if update.averaged:
            model.coef_sum[at] += v - before
    return v


@device_function
def finish_column(c, j, total, model, penalty, update):
    """Weight j of target c, or its intercept (j = d), once its mini-batch's step is added up."""
    if j < model.d:
        at = c * model.d + j
        stepped = model.w[at] * update.factor - total
        model.w[at] = finish_weight(stepped, at, j, model, penalty, update)
    else:
        if model.fit_intercept:
            model.b[c] -= total
        if update.averaged:
            model.intercept_sum[c] += model.b[c]
