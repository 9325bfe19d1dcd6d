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
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.sparse import csr_array

from ..kernels.contract import CSR, GROUP_ROWS, Epoch, Kernels, Prox, SGDState
from . import metric
from .automatic import AutomaticMemory
from .graded_stream import GradedMemory, GradedStream
from .recursive import RecursiveLeastSquares, RecursiveMemory, recursive_memory
from .rows import CHUNK_NUMBERS, rows_on_host
from .streamed_moments import MomentMemory, MomentStream, moment_memory
from .training import Objective, TrainingData
from .weights import power_of_two

# In the columns' scales, a row counts at most this many times as much as a typical one.
LARGEST_SHARE = 100.0
# Up to this number of features, a stream keeps the moments of its rows. In calls of 200 rows,
# a row of 2,000 features takes 0.8 ms, and by steps 0.05; but these end at an R2 of 0.83 after two
# such rows per feature, and of 0.91 to 0.94 after ten, where a fit has 0.97 and 0.95.
MOMENT_FEATURES = 2048
GROWTH = 1.1
# A step, relative to the inverse of the rows' mean square. R2 of 10 normal rows per feature, whose
# least squares have 0.935, is 0.928 with it and 0.921 with half of it; of 5, it is 0.922 and 0.890
# of 0.951. Steps of twice this length take 0.015 from R2 of noisy rows.
RATE = 1.0
# How much later rows count in the mean. With 1.0, R2 of these 5 rows per feature is 0.902.
AVERAGE_POWER = 3.0
# Rows of which this share is not zero are centred, and made dense if they are not.
CENTRED_SHARE = 0.25
# Of sparse rows, an update costs the stored numbers, and an L2 penalty of each column by itself all
# d. It is due so many times in as many rows as there are features, which changes the weights by at
# most a sixteenth at a time.
PENALTIES = 16


class StreamMemory(NamedTuple):
    """What `partial_fit` keeps between calls."""

    weight_unit: float  # a power of two, near the weight of the first row
    part: RecursiveMemory | GradedMemory | MomentMemory | DiagonalMemory

    def of_target(self, t: int) -> StreamMemory:
        """Return the memory of a stream of target t alone."""
        return self._replace(part=self.part.of_target(t))


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
        triangle = None if fitted is None else fitted.triangle(*start)
        if isinstance(triangle, GradedMemory):
            return StreamMemory(
                unit, triangle._replace(start=start, coef=start[0], intercept=start[1])
            )
        return StreamMemory(unit, recursive_memory(*start, self.objective, triangle))

    def _stream(
        self, part, n_rows: int
    ) -> RecursiveLeastSquares | GradedStream | MomentStream | DiagonalStream:
        if isinstance(part, RecursiveMemory):
            return RecursiveLeastSquares(part, self.objective, n_rows, self.kernels)
        if isinstance(part, GradedMemory):
            return GradedStream(part, self.objective)
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
        sparse = not isinstance(part, RecursiveMemory | GradedMemory)
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
    y_mean: np.ndarray  # (t,)
    squares: np.ndarray  # (d,), about x_mean
    segment: _Segment
    # The rows of an incomplete group.
    waiting: tuple[np.ndarray | csr_array, np.ndarray, np.ndarray]

    @property
    def is_new(self) -> bool:
        return self.rows == 0 and len(self.waiting[2]) == 0

    def of_target(self, t: int) -> DiagonalMemory:
        """Return the memory of a stream of target t alone."""
        X, y, s = self.waiting
        segment = replace(
            self.segment,
            coef_sum=self.segment.coef_sum[[t]],
            intercept_sum=self.segment.intercept_sum[[t]],
        )
        return replace(
            self,
            moving=(self.moving[0][[t]], self.moving[1][[t]]),
            mean=(self.mean[0][[t]], self.mean[1][[t]]),
            coef=self.coef[[t]],
            intercept=self.intercept[[t]],
            y_mean=self.y_mean[[t]],
            segment=segment,
            waiting=(X, y[:, [t]], s),
        )


@dataclass(frozen=True)
class _Segment:
    """A range of rows for which the columns have the same scales."""

    scale: np.ndarray  # (d,)
    shift: np.ndarray  # (d,); all zero where rows are mostly zeros, which so stay zeros
    is_sparse: bool
    # By how much an implicit step of an ordinary row is shorter than an explicit one. The penalty's
    # are made so, too.
    shortened: float
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
    segment = _Segment(nothing, nothing, False, 1.0, 1.0, 0, np.zeros((t, d)), np.zeros(t))
    waiting = np.zeros((0, d)), np.zeros((0, t)), np.zeros(0)
    memory = DiagonalMemory(
        start, start, *start, 0, 0.0, 0.0, nothing, np.zeros(t), nothing, segment, waiting
    )
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
        y_mean=intercept + coef @ moments.x_mean(),
        squares=moments.weight * np.maximum(moments.variances(), 0.0),
    )


class DiagonalStream:
    """Implicit descent in columns of unit size, at a constant rate, with averaged weights.

    A constant rate with averaging converges as fast as a single pass can (Bach and Moulines 2013,
    NIPS 26; Jain et al. 2018). In the mean, rows are weighted by a power of the number of rows
    before them, so that the first weights are forgotten. The intercept comes from the means of x
    and y. Rows that are mostly zeros are not centred, and cost their stored numbers.
    """

    def __init__(
        self, kernels: Kernels, memory: DiagonalMemory, objective: Objective, n_threads: int
    ) -> None:
        self.kernels, self.memory, self.objective = kernels, memory, objective
        self.n_threads = n_threads

    def add(self, X: np.ndarray | csr_array, y: np.ndarray, s: np.ndarray) -> None:
        before, *others = self.memory.waiting
        X = _one_below_another(before, X)
        y, s = (np.concatenate(both) for both in zip(others, (y, s), strict=True))
        start, whole = 0, len(s) // GROUP_ROWS * GROUP_ROWS
        memory = self.memory
        most = max(1, CHUNK_NUMBERS // X.shape[1] // GROUP_ROWS) * GROUP_ROWS
        while start < whole:
            if memory.rows >= memory.segment.end:
                first = slice(start, start + GROUP_ROWS)
                memory = _next_segment(memory, X[first], y[first], self.objective)
            stop = min(whole, start + memory.segment.end - memory.rows)
            if not memory.segment.is_sparse:
                stop = min(stop, start + most)  # sparse rows are made dense
            part = slice(start, stop)
            memory = self._stepped(memory, X[part], y[part], s[part])
            start = stop
        self.memory = replace(memory, waiting=(X[whole:], y[whole:], s[whole:]))

    def finish(self) -> None:
        """Find the weights to report, in which the waiting rows count provisionally."""
        memory, (X, y, s) = self.memory, self.memory.waiting
        if len(s):
            if memory.rows >= memory.segment.end:
                memory = _next_segment(memory, X, y, self.objective)
            memory = self._stepped(memory, X, y, s)
        coef, intercept = _mean(memory)
        if self.objective.fit_intercept:
            intercept = _best_intercept(memory, coef)
        self.memory = replace(self.memory, coef=coef, intercept=intercept)

    def _stepped(self, memory: DiagonalMemory, X, y, s) -> DiagonalMemory:
        """Return the memory after updates by these rows of a segment."""
        segment, objective = memory.segment, self.objective
        if isinstance(X, csr_array) and not segment.is_sparse:
            X = X.toarray()
        scale, Z = segment.scale, _scaled(X, segment)
        v, b = _inwards(memory)
        state = SGDState(average_after=0, n_summed=segment.n_summed)
        state.coef_sum, state.intercept_sum = segment.coef_sum.copy(), segment.intercept_sum.copy()
        features = np.count_nonzero(scale) + float(objective.fit_intercept)
        penalised = objective.l1 > 0.0 or (objective.l2 > 0.0 and not segment.is_sparse)
        shortened = segment.shortened
        prox = Prox(shortened * objective.l1 * scale, shortened * objective.l2 * scale**2)
        epoch = Epoch(
            order=None,
            rates=np.full(len(s), RATE / max(features, 1.0)),
            batch_size=1,
            fit_intercept=objective.fit_intercept,
            prox=prox if penalised else None,
            implicit=True,
        )
        rows = CSR(Z.data, Z.indices, Z.indptr, Z.shape) if isinstance(Z, csr_array) else Z
        self.kernels.sgd_epoch(rows, y, v, b, s / segment.unit, epoch, state, self.n_threads)
        segment = replace(
            segment,
            coef_sum=state.coef_sum,
            intercept_sum=state.intercept_sum,
            n_summed=state.n_summed,
        )
        moved = _outwards(memory, v, b)
        return replace(_measured(memory, X, Z, y, s), moving=moved, segment=segment)


def _one_below_another(A, B) -> np.ndarray | csr_array:
    """Return these rows in one array, which is sparse if B is."""
    if A.shape[0] == 0:
        return B
    if isinstance(B, csr_array):
        return csr_array(sp.vstack([csr_array(A), B], format="csr"))
    return np.concatenate([A.toarray() if isinstance(A, csr_array) else A, B])


def _scaled(X: np.ndarray | csr_array, segment: _Segment) -> np.ndarray | csr_array:
    if isinstance(X, csr_array):
        return csr_array((X.data * segment.scale[X.indices], X.indices, X.indptr), X.shape)
    return (X - segment.shift) * segment.scale


def _row_squares(Z: np.ndarray | csr_array) -> np.ndarray:
    if isinstance(Z, csr_array):
        return csr_array((Z.data**2, Z.indices, Z.indptr), Z.shape).sum(axis=1)
    return np.einsum("ij,ij->i", Z, Z)


def _measured(memory: DiagonalMemory, X, Z, y, s) -> DiagonalMemory:
    """Return the memory with the moments of these rows added, each up to its largest share."""
    size = _row_squares(Z) / max(1, np.count_nonzero(memory.segment.scale))
    u = s * np.minimum(1.0, LARGEST_SHARE / np.maximum(size, LARGEST_SHARE))
    added = float(u.sum())
    weight = memory.weight + added
    mean = X.T @ u / added
    step = mean - memory.x_mean
    if isinstance(X, csr_array):
        about_zero = csr_array((X.data**2, X.indices, X.indptr), X.shape).T @ u
        squares = np.maximum(about_zero - added * mean**2, 0.0)
    else:
        squares = u @ (X - mean) ** 2
    return replace(
        memory,
        rows=memory.rows + len(s),
        weight_roots=memory.weight_roots + float(np.sqrt(np.sqrt(s)).sum()),
        weight=weight,
        x_mean=memory.x_mean + step * (added / weight),
        y_mean=memory.y_mean + (u @ y / added - memory.y_mean) * (added / weight),
        squares=memory.squares + squares + step**2 * (memory.weight * added / weight),
    )


def _next_segment(memory: DiagonalMemory, X, y, objective: Objective) -> DiagonalMemory:
    """Return the memory at a new segment, whose scales come from the rows before it.

    The first segment takes them from medians of its own rows, of which X is the first group.
    """
    mean, segment, moving = _mean(memory), memory.segment, memory.moving
    if segment.is_sparse and objective.l1 == 0.0:
        features = max(int(np.count_nonzero(segment.scale)), 1)
        rate = segment.n_summed * RATE / features * segment.shortened
        moving = moving[0] / (1.0 + rate * objective.l2 * segment.scale**2), moving[1]
    X = X.toarray() if isinstance(X, csr_array) else X
    is_sparse = np.count_nonzero(X) < CENTRED_SHARE * X.size
    shift, unit, rows = memory.x_mean, 1.0, memory.rows
    if rows:
        variance = memory.squares / memory.weight
        unit = (memory.weight_roots / rows) ** 4
    else:
        shift = np.median(X, axis=0)
        squares = (X - shift) ** 2
        variance = np.median(squares, axis=0)
        variance = np.where(variance > 0.0, 2.2 * variance, squares.mean(axis=0))
    if is_sparse or not objective.fit_intercept:
        variance, shift = variance + shift**2, np.zeros_like(shift)
    noise = (1e-15 * np.abs(shift)) ** 2
    varies = variance > np.maximum(noise, np.finfo(np.float64).tiny)
    variance = np.where(varies, variance, 1.0)
    most = int(GROWTH * rows)
    if is_sparse and objective.l2 > 0.0:
        most = min(most, rows + int(np.count_nonzero(varies)) // PENALTIES)
    end = max(rows + GROUP_ROWS, most // GROUP_ROWS * GROUP_ROWS)
    scale = np.where(varies, 1.0 / np.sqrt(variance + objective.l2), 0.0)
    size = float((variance * scale**2).sum()) / max(int(np.count_nonzero(varies)), 1)
    segment = _Segment(
        scale,
        shift,
        is_sparse,
        1.0 / (1.0 + RATE * size),
        unit,
        end,
        np.zeros_like(segment.coef_sum),
        np.zeros_like(segment.intercept_sum),
    )
    if objective.fit_intercept and not rows:
        moving = moving[0], np.median(y - X @ moving[0].T, axis=0)
    elif objective.fit_intercept:
        # By steps, the intercept would take as many rows as there are features.
        moving = moving[0], _best_intercept(memory, moving[0])
    return replace(memory, moving=moving, mean=mean, segment=segment)


def _at(x: np.ndarray, coef: np.ndarray) -> np.ndarray:
    # BLAS is not used: synchronising its threads would take longer than the product.
    return np.einsum("td,d->t", coef, x)


def _best_intercept(memory: DiagonalMemory, coef: np.ndarray) -> np.ndarray:
    return memory.y_mean - _at(memory.x_mean, coef)


def _inwards(memory: DiagonalMemory) -> tuple[np.ndarray, np.ndarray]:
    coef, intercept = memory.moving
    scale = memory.segment.scale
    v = np.where(scale > 0.0, coef / np.where(scale > 0.0, scale, 1.0), 0.0)
    return np.ascontiguousarray(v), intercept + _at(memory.segment.shift, coef)


def _outwards(memory: DiagonalMemory, v, b) -> tuple[np.ndarray, np.ndarray]:
    """Return weights in the columns' own units; those of constant columns stay as they are."""
    scale = memory.segment.scale
    coef = np.where(scale > 0.0, v * scale, memory.moving[0])
    return coef, b - _at(memory.segment.shift, coef)


def _mean(memory: DiagonalMemory) -> tuple[np.ndarray, np.ndarray]:
    segment, n = memory.segment, memory.segment.n_summed
    if n == 0:
        return memory.mean
    part = _outwards(memory, segment.coef_sum / n, segment.intercept_sum / n)
    share = (1.0 + AVERAGE_POWER) * n / (memory.rows + AVERAGE_POWER * n)
    coef, intercept = (
        mean + share * (new - mean) for mean, new in zip(memory.mean, part, strict=True)
    )
    return coef, intercept
