"""learning_rate="auto" for rows that come in calls of `partial_fit`.

The result of a call depends on the rows seen so far and on their order, but not on how they were
cut into calls. For up to `MOMENT_FEATURES` features the weights are those of least squares on all
these rows: by a triangular factor of them for up to `FULL_METRIC_FEATURES` (`recursive.py`), else
by their moments (`streamed_moments.py`). For more features, `DiagonalStream` takes steps that
depend on the number of rows alone: it visits groups of `GROUP_ROWS` rows, whichever calls they came
in, and measures the columns anew whenever there are a tenth more rows. An incomplete group, of at
most seven rows, waits for the next call, and its effect on the weights is provisional.

The cost of a call depends on its own rows: a call of one row does not read earlier ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ..kernels.contract import GROUP_ROWS, Epoch, Kernels, Prox, SGDState
from . import metric
from .automatic import AutomaticMemory
from .recursive import RecursiveLeastSquares, RecursiveMemory, recursive_memory
from .rows import rows_on_host
from .streamed_moments import MomentMemory, MomentStream, moment_memory
from .training import Objective, TrainingData
from .weights import power_of_two

# In the columns' scales, a row counts at most this many times as much as a typical one.
LARGEST_SHARE = 100.0
# Up to this number of features, a stream keeps the moments of its rows.
MOMENT_FEATURES = 1024
GROWTH = 1.1


@dataclass(frozen=True)
class StreamMemory:
    """What `partial_fit` keeps between calls."""

    weight_unit: float  # a power of two, near the weight of the first row
    part: RecursiveMemory | MomentMemory | DiagonalMemory


class StreamingDescent:
    """A `stochastic.Descent` for one visit of new rows, in the order given.

    Parameters
    ----------
    data : TrainingData
        Rows of zero weight must not be visited.
    objective : Objective
    coef, intercept : ndarrays of shape (t, d) and (t,)
        The weights so far, left unchanged.
    memory : StreamMemory, AutomaticMemory or None
        What the stream so far, or a fit to continue, has left.
    """

    loss_scale = 1.0
    shuffles = True
    gap = math.inf
    value = None
    rate = 1.0  # the length of a step in the stream's own coordinates

    def __init__(
        self,
        data: TrainingData,
        objective: Objective,
        coef: np.ndarray,
        intercept: np.ndarray,
        memory: StreamMemory | AutomaticMemory | None = None,
    ) -> None:
        self.kernels, self.X, self.y, self.sample_weight, self.n_threads = data
        self.objective = objective
        self.coef = np.array(coef, np.float64)
        self.intercept = np.array(intercept, np.float64)
        if memory is None or isinstance(memory, AutomaticMemory):
            memory = self._begin(memory)
        self.memory: StreamMemory = memory

    def _begin(self, fitted: AutomaticMemory | None) -> StreamMemory:
        """Return the memory of an empty stream, or of one that continues a fit."""
        unit = 1.0 if fitted is None else fitted.weight_unit
        d, start = self.X.shape[1], (self.coef, self.intercept)
        if d > max(metric.FULL_METRIC_FEATURES, MOMENT_FEATURES):
            return StreamMemory(unit, diagonal_memory(*start, fitted))
        if d > metric.FULL_METRIC_FEATURES:
            return StreamMemory(unit, moment_memory(*start, self.objective, fitted))
        triangle = None if fitted is None else fitted.triangle(*start, self.objective)
        return StreamMemory(unit, recursive_memory(*start, self.objective, triangle))

    def _stream(self, part, n_rows: int) -> RecursiveLeastSquares | MomentStream | DiagonalStream:
        if isinstance(part, RecursiveMemory):
            return RecursiveLeastSquares(part, self.objective, n_rows)
        if isinstance(part, MomentMemory):
            return MomentStream(part, self.objective)
        return DiagonalStream(self.kernels, part, self.objective, self.n_threads)

    def epoch(self, order: np.ndarray | None) -> float:
        n = self.X.shape[0] if order is None else len(order)
        if n == 0:
            return 0.0
        unit, part = self.memory.weight_unit, self.memory.part
        if part.is_new and self.sample_weight is not None:
            unit = power_of_two(float(self.sample_weight[0 if order is None else order[0]]))
        stream, total = self._stream(part, n), 0.0
        sparse = isinstance(part, MomentMemory)
        for X, y, s in rows_on_host(self.X, self.y, self.sample_weight, order, sparse=sparse):
            r = X @ self.coef.T + self.intercept - y
            total += 0.5 * float(np.vdot(r, r))
            stream.add(X, y, s / unit)
        stream.finish()
        self.memory = StreamMemory(unit, stream.memory)
        self.coef, self.intercept = stream.memory.coef, stream.memory.intercept
        return total / n

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        return self.coef, self.intercept

    def lower_rate(self) -> bool:
        return False


# ------------------------------------------------------------------------------ many features


@dataclass(frozen=True)
class DiagonalMemory:
    """The state of a descent in scaled columns. Its arrays are never written to."""

    # The weights as they move, in the columns' own units, and their mean over past segments.
    moving: tuple[np.ndarray, np.ndarray]
    mean: tuple[np.ndarray, np.ndarray]
    # The weights to report.
    coef: np.ndarray  # (t, d)
    intercept: np.ndarray  # (t,)
    # Sums over complete groups. In the moments no row counts as more than LARGEST_SHARE others.
    rows: int
    weight_roots: float  # sum of fourth roots of the weights
    weight: float
    x_mean: np.ndarray  # (d,)
    squares: np.ndarray  # (d,), about x_mean
    segment: _Segment
    # The rows of an incomplete group.
    waiting: tuple[np.ndarray, np.ndarray, np.ndarray]

    @property
    def is_new(self) -> bool:
        return self.rows == 0 and len(self.waiting[2]) == 0


@dataclass(frozen=True)
class _Segment:
    """A range of rows for which the columns have the same scales."""

    scale: np.ndarray  # (d,)
    shift: np.ndarray  # (d,)
    unit: float  # by which the rows' weights are divided
    end: int  # the number of rows at which the segment ends
    # Sums of the weights after each update, in z.
    coef_sum: np.ndarray
    intercept_sum: np.ndarray
    n_summed: int = 0


def diagonal_memory(coef, intercept, fitted: AutomaticMemory | None) -> DiagonalMemory:
    """Return the memory before the first row, or after a fit."""
    (t, d), start = coef.shape, (coef, intercept)
    nothing = np.zeros(d)
    segment = _Segment(nothing, nothing, 1.0, 0, np.zeros((t, d)), np.zeros(t))
    waiting = np.zeros((0, d)), np.zeros((0, t)), np.zeros(0)
    memory = DiagonalMemory(start, start, *start, 0, 0.0, 0.0, nothing, nothing, segment, waiting)
    if fitted is None:
        return memory
    moments = fitted.moments
    rows = -(-moments.rows // GROUP_ROWS) * GROUP_ROWS
    return replace(
        memory,
        rows=rows,
        weight_roots=rows * (moments.weight / moments.rows) ** 0.25,
        weight=moments.weight,
        x_mean=moments.x_mean(),
        squares=moments.weight * np.maximum(moments.variances(), 0.0),
    )


class DiagonalStream:
    """Implicit descent in columns of unit variance, at a constant rate, with averaged weights.

    A constant rate with averaging converges as fast as a single pass can (Bach and Moulines 2013,
    NIPS 26; Jain et al. 2018). In the mean, rows are weighted by the number of rows before them, so
    that the first weights are forgotten.
    """

    def __init__(
        self, kernels: Kernels, memory: DiagonalMemory, objective: Objective, n_threads: int
    ) -> None:
        self.kernels, self.memory, self.objective = kernels, memory, objective
        self.n_threads = n_threads

    def add(self, X: np.ndarray, y: np.ndarray, s: np.ndarray) -> None:
        waiting = self.memory.waiting
        X, y, s = (np.concatenate(both) for both in zip(waiting, (X, y, s), strict=True))
        start, whole = 0, len(s) // GROUP_ROWS * GROUP_ROWS
        memory = self.memory
        while start < whole:
            if memory.rows >= memory.segment.end:
                memory = _next_segment(memory, X[start : start + GROUP_ROWS], self.objective)
            stop = min(whole, start + memory.segment.end - memory.rows)
            part = slice(start, stop)
            memory = self._stepped(memory, X[part], y[part], s[part])
            start = stop
        self.memory = replace(memory, waiting=(X[whole:], y[whole:], s[whole:]))

    def finish(self) -> None:
        """Find the weights to report, in which the waiting rows count provisionally."""
        memory, (X, y, s) = self.memory, self.memory.waiting
        if len(s):
            if memory.rows >= memory.segment.end:
                memory = _next_segment(memory, X, self.objective)
            memory = self._stepped(memory, X, y, s)
        coef, intercept = _mean(memory)
        self.memory = replace(self.memory, coef=coef, intercept=intercept)

    def _stepped(self, memory: DiagonalMemory, X, y, s) -> DiagonalMemory:
        """Return the memory after updates by these rows of a segment."""
        segment, objective = memory.segment, self.objective
        scale, Z = segment.scale, (X - segment.shift) * segment.scale
        v, b = _inwards(memory)
        state = SGDState(average_after=0, n_summed=segment.n_summed)
        state.coef_sum, state.intercept_sum = segment.coef_sum.copy(), segment.intercept_sum.copy()
        features = np.count_nonzero(scale) + float(objective.fit_intercept)
        prox = Prox(objective.l1 * scale, objective.l2 * scale**2)
        epoch = Epoch(
            order=None,
            rates=np.full(len(s), 0.5 / max(features, 1.0)),
            batch_size=1,
            fit_intercept=objective.fit_intercept,
            prox=prox if objective.l1 > 0.0 or objective.l2 > 0.0 else None,
            implicit=True,
        )
        self.kernels.sgd_epoch(Z, y, v, b, s / segment.unit, epoch, state, self.n_threads)
        segment = replace(
            segment,
            coef_sum=state.coef_sum,
            intercept_sum=state.intercept_sum,
            n_summed=state.n_summed,
        )
        moved = _outwards(memory, v, b)
        return replace(_measured(memory, X, Z, s), moving=moved, segment=segment)


def _measured(memory: DiagonalMemory, X, Z, s) -> DiagonalMemory:
    """Return the memory with the moments of these rows added, each up to its largest share."""
    size = np.einsum("ij,ij->i", Z, Z) / max(1, np.count_nonzero(memory.segment.scale))
    u = s * np.minimum(1.0, LARGEST_SHARE / np.maximum(size, LARGEST_SHARE))
    added = float(u.sum())
    weight = memory.weight + added
    mean = u @ X / added
    step, squares = mean - memory.x_mean, u @ (X - mean) ** 2
    return replace(
        memory,
        rows=memory.rows + len(s),
        weight_roots=memory.weight_roots + float(np.sqrt(np.sqrt(s)).sum()),
        weight=weight,
        x_mean=memory.x_mean + step * (added / weight),
        squares=memory.squares + squares + step**2 * (memory.weight * added / weight),
    )


def _next_segment(memory: DiagonalMemory, X: np.ndarray, objective: Objective) -> DiagonalMemory:
    """Return the memory at a new segment, whose scales come from the rows before it.

    The first segment takes them from medians of its own rows.
    """
    mean, segment = _mean(memory), memory.segment
    shift, unit, rows = memory.x_mean, 1.0, memory.rows
    if rows:
        variance = memory.squares / memory.weight
        unit = (memory.weight_roots / rows) ** 4
    else:
        shift = np.median(X, axis=0)
        squares = (X - shift) ** 2
        variance = np.median(squares, axis=0)
        variance = np.where(variance > 0.0, 2.2 * variance, squares.mean(axis=0))
    if not objective.fit_intercept:
        variance, shift = variance + shift**2, np.zeros_like(shift)
    noise = (1e-15 * np.abs(shift)) ** 2
    varies = variance > np.maximum(noise, np.finfo(np.float64).tiny)
    variance = np.where(varies, variance, 1.0)
    end = max(rows + GROUP_ROWS, int(GROWTH * rows) // GROUP_ROWS * GROUP_ROWS)
    segment = _Segment(
        np.where(varies, 1.0 / np.sqrt(variance + objective.l2), 0.0),
        shift,
        unit,
        end,
        np.zeros_like(segment.coef_sum),
        np.zeros_like(segment.intercept_sum),
    )
    return replace(memory, mean=mean, segment=segment)


def _inwards(memory: DiagonalMemory) -> tuple[np.ndarray, np.ndarray]:
    coef, intercept = memory.moving
    scale = memory.segment.scale
    v = np.where(scale > 0.0, coef / np.where(scale > 0.0, scale, 1.0), 0.0)
    return np.ascontiguousarray(v), intercept + coef @ memory.segment.shift


def _outwards(memory: DiagonalMemory, v, b) -> tuple[np.ndarray, np.ndarray]:
    """Return weights in the columns' own units; those of constant columns stay as they are."""
    scale = memory.segment.scale
    coef = np.where(scale > 0.0, v * scale, memory.moving[0])
    return coef, b - coef @ memory.segment.shift


def _mean(memory: DiagonalMemory) -> tuple[np.ndarray, np.ndarray]:
    segment, n = memory.segment, memory.segment.n_summed
    if n == 0:
        return memory.mean
    part = _outwards(memory, segment.coef_sum / n, segment.intercept_sum / n)
    share = 2.0 * n / (memory.rows + n)
    coef, intercept = (
        mean + share * (new - mean) for mean, new in zip(memory.mean, part, strict=True)
    )
    return coef, intercept
