"""The contract in NumPy, short and plain; every other backend is checked against it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .contract import (
    CSR,
    Epoch,
    Epochs,
    Gram,
    Matrix,
    OptimizerRule,
    OptimizerState,
    Prox,
    SegmentErrors,
    SegmentFits,
    Segments,
    SegmentStatus,
    SGDState,
    TargetGradients,
    empty_fits,
    epochs_by_calls,
    rows_per_group,
)
from .formulas import CLIP_UNIT

__all__ = [
    "MAKES_WINDOWS",
    "SUMS_ARE_SPLIT",
    "fit_segments",
    "gram",
    "isa",
    "loss_gradient",
    "predict",
    "sgd_epoch",
    "sgd_epochs",
]

BLOCK_ROWS = 1024  # rows are made dense a block at a time: nothing of the size of X is allocated
MAKES_WINDOWS = True
SUMS_ARE_SPLIT = False


def isa() -> str:
    """The instruction set in use; NumPy chooses it, and does not say which."""
    return "numpy"


def loss_gradient(X, y, w, b, sample_weight, n_threads) -> TargetGradients:
    n, d = X.shape
    t = y.shape[1]
    loss, coef, intercept = np.zeros(t), np.zeros((t, d)), np.zeros(t)
    total = 0.0
    for rows, s in _blocks(n, sample_weight):
        A = _dense_rows(X, rows)
        r = A @ w.T + b - y[rows]
        sr = s[:, None] * r
        loss += 0.5 * (sr * r).sum(axis=0)
        coef += sr.T @ A
        intercept += sr.sum(axis=0)
        total += s.sum()
    return TargetGradients(loss / total, coef / total, intercept / total)


def predict(X, w, b, n_threads) -> np.ndarray:
    out = np.empty((X.shape[0], w.shape[0]), dtype=X.dtype)
    for rows, _ in _blocks(X.shape[0], None):
        out[rows] = _dense_rows(X, rows) @ w.T + b
    return out


def gram(X, y, sample_weight, shift, n_threads) -> Gram:
    n, d = X.shape
    t = y.shape[1]
    xx, xy, x_sum, y_sum = np.zeros((d, d)), np.zeros((d, t)), np.zeros(d), np.zeros(t)
    total = 0.0
    for rows, s in _blocks(n, sample_weight):
        A = _dense_rows(X, rows)
        if shift is not None:
            A -= shift
        sA = s[:, None] * A
        xx += sA.T @ A
        xy += sA.T @ y[rows]
        x_sum += sA.sum(axis=0)
        y_sum += s @ y[rows]
        total += s.sum()
    return Gram(xx, xy, x_sum, y_sum, float(total))


def sgd_epoch(X, y, w, b, sample_weight, epoch: Epoch, state: SGDState, n_threads) -> float:
    order = np.arange(X.shape[0]) if epoch.order is None else epoch.order
    batch_size, group = epoch.batch_size, rows_per_group(epoch.batch_size)
    pending = loss = 0.0  # pending: sum of rates since the last proximal step
    for k, start in enumerate(range(0, len(order), batch_size)):
        batch = order[start : start + batch_size]
        rows, s = _counted(batch, sample_weight)
        A, rate = _dense_rows(X, rows), epoch.rates[k]
        r = A @ w.T.astype(np.float64) + b - y[rows]
        loss += 0.5 * float((r * r).sum())
        g = (rate if state.optimizer is None else 1.0) / len(batch) * s
        if epoch.implicit:
            g = g / (1.0 + g * ((A * A).sum(axis=1) + epoch.fit_intercept))
        c = g[:, None] * r
        pending += rate
        end = start + len(batch)
        at_group_end = epoch.prox is not None and (end % group == 0 or end == len(order))
        step = Step(c.T @ A, c.sum(axis=0), rate, pending if at_group_end else None)
        take_step(w, b, step, epoch, state)
        pending = 0.0 if at_group_end else pending
    return loss


def sgd_epochs(X, y, w, b, sample_weight, epoch: Epoch, state, n_threads) -> Epochs:
    data = X, y, w, b, sample_weight
    return epochs_by_calls(sgd_epoch, data, epoch, state, n_threads)


class Step(NamedTuple):
    """The sums of one mini-batch, from which `take_step` computes an update."""

    coef: np.ndarray  # (t, d)  sum_i g_i r_i x_i; with an optimizer the mean gradient
    intercept: np.ndarray  # (t,)  sum_i g_i r_i, likewise
    rate: float
    group_rate: float | None  # sum of the rates of the group that ends here; None if none does


def take_step(w: np.ndarray, b: np.ndarray, step: Step, epoch: Epoch, state: SGDState) -> None:
    """Update w, b and state by the sums of a mini-batch."""
    if state.optimizer is not None:
        _optimized_step(w, b, step, epoch, state)
        return
    w *= max(0.0, 1.0 - step.rate * epoch.l2)
    w -= step.coef.astype(w.dtype)
    if epoch.fit_intercept:
        b -= step.intercept
    averaged = _average(w, b, state)
    if epoch.l1 > 0.0:
        _cumulative_l1(w, step.rate * epoch.l1, state)
    if epoch.prox is not None and step.group_rate is not None:
        before = w.copy()
        _proximal_step(w, epoch.prox, step.group_rate)
        if averaged:
            state.coef_sum += w - before


def _optimized_step(w: np.ndarray, b: np.ndarray, step: Step, epoch: Epoch, state) -> None:
    """Update w, b and state by an optimizer."""
    o, g, gb = state.optimizer, step.coef, step.intercept * epoch.fit_intercept
    clip, unit = _clip_factor(g, gb, o.max_norm)
    g, gb = clip[:, None] * (unit[:, None] * g), clip * (unit * gb)
    _optimizer_step(o, w, b, g, gb, step.rate, epoch.l2, epoch.l1)
    _average(w, b, state)
    if o.rule == OptimizerRule.SGD and epoch.l1 > 0.0:
        _cumulative_l1(w, step.rate * epoch.l1, state)


def _clip_factor(g: np.ndarray, gb: np.ndarray, max_norm: float) -> tuple[np.ndarray, np.ndarray]:
    """Factors (t,) of unit times the gradients, and the units, which are 1 but for huge ones."""

    def square(unit):
        with np.errstate(over="ignore"):
            return ((unit[:, None] * g) ** 2).sum(axis=1) + (unit * gb) ** 2

    unit = np.where(square(np.ones(len(gb))) < np.inf, 1.0, CLIP_UNIT)
    return np.minimum(1.0 / unit, max_norm / (np.sqrt(square(unit)) + 1e-6 * unit)), unit


def _optimizer_step(o: OptimizerState, w, b, g, gb, rate: float, l2: float, l1: float) -> None:
    o.steps += 1
    v = w.astype(np.float64)
    if o.rule in (OptimizerRule.SGD, OptimizerRule.ADAMW):
        v *= max(0.0, 1.0 - rate * l2)
    else:
        g = g + l2 * v
    p, D = _direction(o, g, o.coef_first, o.coef_second)
    v -= rate * p / D
    if o.rule != OptimizerRule.SGD and l1 > 0.0:
        cut = rate * l1 * _gain(o) / D
        v -= np.clip(v, -cut, cut)
    w[:] = v
    p, D = _direction(o, gb, o.intercept_first, o.intercept_second)
    b -= rate * p / D


def _direction(o: OptimizerState, g: np.ndarray, u, v):
    """p and D of the rule's step w <- w - rate p / D; the moments u and v are updated with g."""
    if o.rule == OptimizerRule.SGD:
        return g, 1.0
    if o.rule in (OptimizerRule.MOMENTUM, OptimizerRule.NESTEROV):
        u[:] = o.beta1 * u + g
        return u if o.rule == OptimizerRule.MOMENTUM else g + o.beta1 * u, 1.0
    if o.rule == OptimizerRule.ADAGRAD:
        v += g * g
        return g, np.sqrt(v) + o.eps
    v[:] = o.beta2 * v + (1.0 - o.beta2) * g * g
    if o.rule == OptimizerRule.RMSPROP:
        return g, np.sqrt(v) + o.eps
    u[:] = o.beta1 * u + (1.0 - o.beta1) * g
    D = np.sqrt(v / (1.0 - o.beta2**o.steps)) + o.eps
    return u / (1.0 - o.beta1**o.steps), D


def _gain(o: OptimizerState) -> float:
    """The sum of the rule's weights on all gradients so far."""
    if o.rule not in (OptimizerRule.MOMENTUM, OptimizerRule.NESTEROV):
        return 1.0
    k = o.steps + (o.rule == OptimizerRule.NESTEROV)
    return (1.0 - o.beta1**k) / (1.0 - o.beta1)


def _average(w: np.ndarray, b: np.ndarray, state: SGDState) -> bool:
    """Add the weights to the average if this update is averaged; returns whether it is."""
    if state.average_after is None:
        return False
    if state.average_after > 0:
        state.average_after -= 1
        return False
    assert state.coef_sum is not None
    assert state.intercept_sum is not None
    state.coef_sum += w
    state.intercept_sum += b
    state.n_summed += 1
    return True


def _cumulative_l1(w: np.ndarray, due: float, state: SGDState) -> None:
    """Each weight pays the L1 it owes (Tsuruoka, Tsujii and Ananiadou 2009, section 3.2)."""
    assert state.l1_paid is not None
    q = state.l1_paid
    state.l1_due += due
    before = w.copy()
    w[:] = np.where(
        before > 0,
        np.maximum(0, before - (state.l1_due + q)),
        np.where(before < 0, np.minimum(0, before + (state.l1_due - q)), before),
    )
    q += w - before


def _proximal_step(w: np.ndarray, prox: Prox, h: float) -> None:
    soft = np.sign(w) * np.maximum(0, np.abs(w) - h * prox.soft)
    w[:] = soft / (1 + h * prox.shrink)


def _blocks(n: int, sample_weight: np.ndarray | None):
    """Rows of positive weight, with their weights in float64, a block at a time."""
    for start in range(0, n, BLOCK_ROWS):
        yield _counted(np.arange(start, min(start + BLOCK_ROWS, n)), sample_weight)


def _counted(rows: np.ndarray, sample_weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The rows of positive weight, and their weights; other rows are never read."""
    if sample_weight is None:
        return rows, np.ones(len(rows))
    rows = rows[sample_weight[rows] != 0]
    return rows, sample_weight[rows].astype(np.float64)


def _dense_rows(X: Matrix, rows: np.ndarray) -> np.ndarray:
    """These rows of X as a dense float64 array."""
    if not isinstance(X, CSR):
        return X[rows].astype(np.float64)
    out = np.zeros((len(rows), X.shape[1]))
    for i, row in enumerate(rows):
        span = slice(X.indptr[row], X.indptr[row + 1])
        np.add.at(out[i], X.indices[span], X.data[span])
    return out


# ------------------------------------------------------------------------------------ segments


def fit_segments(X, y, sample_weight, segments: Segments, n_threads) -> SegmentFits:
    out = empty_fits(segments, X.shape[1])
    for k, (start, stop) in enumerate(zip(segments.start, segments.stop, strict=True)):
        Z, s = _rows_of_segment(X, y, sample_weight, segments, start, stop)
        _fit_segment(out, k, Z, s, segments, X.dtype)
    return out


def _rows_of_segment(X, y, sample_weight, segments: Segments, start, stop):
    """The rows [x, y, 1] that count, and their weights."""
    positions = np.arange(start, stop)
    rows = positions if segments.order is None else segments.order[positions]
    s = np.ones(len(rows)) if sample_weight is None else sample_weight[rows].astype(np.float64)
    Z = np.column_stack([X[rows], y[rows, 0], np.ones(len(rows))]).astype(np.float64)
    keep = s > 0.0
    if segments.skip_nan:
        keep &= ~np.isnan(Z).any(axis=1)
    if segments.decay is not None:
        later = np.append(segments.decay[start + 1 : stop], 1.0)
        s = s * np.cumprod(later[::-1])[::-1]
    return Z[keep], s[keep]


def _fit_segment(out: SegmentFits, k: int, Z, s, segments: Segments, dtype) -> None:
    """Write the fit of one segment, by QR of its rows and those that stand for the penalty."""
    d = Z.shape[1] - 2
    for part in (out.coef, out.intercept, out.residual, out.total, out.inverse, out.robust):
        if part is not None:
            part[k] = np.nan
    out.n_rows[k], out.weight[k] = len(s), s.sum()
    root = np.sqrt(s)[:, None] * Z
    if segments.initial is not None:
        root = np.vstack([_root_of(segments.initial), root])
        out.weight[k] += segments.initial[-1, -1]
    columns = [d + 1, *range(d)] if segments.fit_intercept else list(range(d))
    A, b = root[:, columns], root[:, d]
    if segments.penalty is not None:
        own = np.zeros((d, len(columns)))
        own[:, len(columns) - d :] = np.diag(np.sqrt(segments.penalty))
        A, b = np.vstack([A, own]), np.append(b, np.zeros(d))
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        squares = np.square(root).sum(axis=0)
    largest = np.abs(root).max(axis=0, initial=0.0)
    if len(s) < segments.min_rows:
        out.status[k] = SegmentStatus.SHORT
    elif not ((squares <= 1e290) & ((squares >= 1e-220) | (largest == 0.0))).all():
        out.status[k] = SegmentStatus.OUT_OF_RANGE
    elif _depends(A, dtype if segments.penalty is None else np.float64):
        out.status[k] = SegmentStatus.SINGULAR
    else:
        out.status[k] = SegmentStatus.FITTED
        norms = np.sqrt(np.square(A).sum(axis=0))
        w = np.linalg.lstsq(A / norms, b, rcond=0.0)[0] / norms
        r = root[:, d] - root[:, columns] @ w
        one = root[:, d + 1]
        about = root[:, d] - segments.fit_intercept * one * (one @ root[:, d]) / (one @ one)
        out.coef[k] = w[len(columns) - d :]
        out.intercept[k] = w[0] if segments.fit_intercept else 0.0
        out.residual[k], out.total[k] = r @ r, about @ about
        if out.inverse is not None:
            R = np.linalg.qr(A / norms, mode="r")
            own = np.square(np.linalg.inv(R)).sum(axis=1) / norms**2
            out.inverse[k] = np.append(own[len(columns) - d :], np.nan)
            if segments.fit_intercept:
                out.inverse[k, d] = own[0]
        if out.robust is not None:
            own = _robust_variances(A / norms, r, segments.robust) / norms**2
            out.robust[k] = np.append(own[len(columns) - d :], np.nan)
            if segments.fit_intercept:
                out.robust[k, d] = own[0]


def _robust_variances(A: np.ndarray, r: np.ndarray, kind: int) -> np.ndarray:
    """The diagonal of B A^T diag(f) A B, B = (A^T A)^-1, as csrc/segments_robust.inc has it."""
    Q, R = np.linalg.qr(A)
    left = 1.0 - np.square(Q).sum(axis=1)
    part = np.where(left > 1e-12, 1.0 / np.where(left > 1e-12, left, 1.0), 0.0)
    power = {SegmentErrors.HC0: 0, SegmentErrors.HC2: 1, SegmentErrors.HC3: 2}[SegmentErrors(kind)]
    V = np.linalg.solve(R, Q.T) * r * part ** (0.5 * power)
    return np.square(V).sum(axis=1)


def _depends(A: np.ndarray, dtype) -> bool:
    """Whether a column depends on those before it, but for rounding."""
    if A.shape[0] < A.shape[1]:
        return True
    norms = np.sqrt(np.square(A).sum(axis=0))
    if not norms.all():
        return True
    R = np.linalg.qr(A / norms, mode="r")
    noise = max(len(A) * 2.0**-102, 2.0**-42 if dtype == np.float32 else 2.0**-100)
    return bool((np.square(np.diagonal(R)) <= noise).any())


def _root_of(moments: np.ndarray) -> np.ndarray:
    """Rows whose second moments are these, given by their upper triangle."""
    whole = np.triu(moments) + np.triu(moments, 1).T
    value, vector = np.linalg.eigh(whole)
    return np.sqrt(np.maximum(value, 0.0))[:, None] * vector.T
