"""learning_rate="auto" for rows that come in calls of `partial_fit`.

The result of a call depends on the rows seen so far and on their order, but not on how they were
cut into calls. For up to `MOMENT_FEATURES` features the weights are those of least squares on all
these rows: by a triangular factor of them for up to `FULL_METRIC_FEATURES` (`recursive.py`), else
by their moments (`streamed_moments.py`). For more features, `DiagonalStream` takes steps that
depend on the rows alone: it visits groups of `GROUP_ROWS` rows, whichever calls they came
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
# The variance of the signal, as a multiple of that of the noise: before there are rows to estimate
# it from, and the limits of the estimate. Of 5,000 text rows with as much noise as signal, the
# held-out R2 is 0.13 with a lower limit of 0.3, and 0.145 with this one.
SIGNAL, LEAST_SIGNAL, MOST_SIGNAL = 3.0, 1.0, 300.0
ESTIMATING_ROWS = 64  # how many rows the first estimate takes
# How much later rows count in the mean.
AVERAGE_POWER = 3.0
# Rows of which this share is not zero are centred, and made dense if they are not.
CENTRED_SHARE = 0.25


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
    present: np.ndarray  # (d,): the weight of rows in which a column is not zero
    # Sums of w x^2 and of w, where a row's w is its weight over 1 + the variance of its prediction.
    # None: a fit has left the other sums, and these follow from them.
    information: tuple[np.ndarray, float] | None
    # Discounted: the squared errors of moving, mean and constant weights in rows they had not met,
    # 1 + the variance of predictions, and the weight of these rows.
    judged: np.ndarray  # (5,)
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
            moving=_of_target(self.moving, t),
            mean=_of_target(self.mean, t),
            coef=self.coef[[t]],
            intercept=self.intercept[[t]],
            y_mean=self.y_mean[[t]],
            segment=replace(segment, begin=_of_target(segment.begin, t)),
            waiting=(X, y[:, [t]], s),
        )


def _of_target(weights: tuple[np.ndarray, np.ndarray], t: int) -> tuple[np.ndarray, np.ndarray]:
    return weights[0][[t]], weights[1][[t]]


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
    rate: float
    begin: tuple[np.ndarray, np.ndarray]  # the moving weights at its first row
    judged: np.ndarray  # (5,): of its rows
    # Sums of the weights after each update, in z.
    coef_sum: np.ndarray
    intercept_sum: np.ndarray
    n_summed: int = 0


def diagonal_memory(coef, intercept, fitted: AutomaticMemory | None) -> DiagonalMemory:
    """Return the memory before the first row, or after a fit."""
    (t, d), start = coef.shape, (coef, intercept)
    nothing = np.zeros(d)
    segment = _Segment(
        nothing, nothing, False, 1.0, 1.0, 0, 1.0, start, np.zeros(5), np.zeros((t, d)), np.zeros(t)
    )
    waiting = np.zeros((0, d)), np.zeros((0, t)), np.zeros(0)
    memory = DiagonalMemory(
        start, start, *start, 0, 0.0, 0.0, nothing, np.zeros(t), nothing,
        nothing, (nothing, 0.0), np.zeros(5), segment, waiting,
    )  # fmt: skip
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
        information=None,
    )


class DiagonalStream:
    """A Kalman filter whose covariance is kept diagonal, and the mean of its weights.

    In a row's own step, each weight moves in proportion to its variance, which falls with the rows
    in which its column is not zero (Crammer, Kulesza and Dredze 2009, NIPS 22). The variances are
    those at the beginning of a segment. How much the signal varies beside the noise is estimated
    from the errors in rows that the weights had not met. So is whether the weights as they move or
    their mean is better: where columns are correlated, it is the mean. There, rows are weighted by
    a power of the number of rows before them, so that the first weights are forgotten. The
    intercept comes from the means of x and y. Rows that are mostly zeros are not centred, and cost
    their stored numbers.
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
        judged = self.memory.judged
        coef, intercept = memory.moving if judged[0] <= judged[1] else _mean(memory)
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
        penalised = objective.l1 > 0.0 or (objective.l2 > 0.0 and not segment.is_sparse)
        shortened = segment.shortened
        prox = Prox(shortened * objective.l1 * scale, shortened * objective.l2 * scale**2)
        epoch = Epoch(
            order=None,
            rates=np.full(len(s), segment.rate),
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
    segment, rate, s = memory.segment, memory.segment.rate, np.asarray(s)
    q = rate * (_row_squares(Z) + 1.0)  # the variance of the prediction, relative to the noise's
    expected = 1.0 / segment.shortened - 1.0
    size = q / max(expected, rate)
    capped = np.minimum(s, LARGEST_SHARE * segment.unit)
    u = capped * np.minimum(1.0, LARGEST_SHARE / np.maximum(size, LARGEST_SHARE))
    added = float(u.sum())
    weight = memory.weight + added
    mean = X.T @ u / added
    step = mean - memory.x_mean
    relative = s / segment.unit
    told = s / (1.0 + relative * q)
    if isinstance(X, csr_array):
        about_zero = csr_array((X.data**2, X.indices, X.indptr), X.shape).T @ u
        squares = np.maximum(about_zero - added * mean**2, 0.0)
        present = csr_array((np.float64(X.data != 0.0), X.indices, X.indptr), X.shape).T @ u
        rows = np.repeat(np.arange(len(s)), np.diff(X.indptr))
        own = rate * Z.data**2
        parts = s[rows] * X.data**2 / (1.0 + relative[rows] * np.maximum(q[rows] - own, 0.0))
        information = np.bincount(X.indices, parts, minlength=X.shape[1])
    else:
        squares = u @ (X - mean) ** 2
        if segment.is_sparse:
            present = u @ (X != 0.0)
            rest = np.maximum(q[:, None] - rate * Z**2, 0.0)
            information = s @ (X**2 / (1.0 + relative[:, None] * rest))
        else:
            present = np.full(len(mean), added)
            information = told @ (X - segment.shift) ** 2
    judged = [_squared_errors(u, X, y, *part) for part in (segment.begin, memory.mean)]
    judged += [float(u @ ((y - memory.y_mean) ** 2).sum(axis=1)), float(u @ (1.0 + q)), added]
    before, total = memory.information or (0.0, 0.0)
    return replace(
        memory,
        rows=memory.rows + len(s),
        weight_roots=memory.weight_roots + float(np.sqrt(np.sqrt(capped)).sum()),
        weight=weight,
        x_mean=memory.x_mean + step * (added / weight),
        y_mean=memory.y_mean + (u @ y / added - memory.y_mean) * (added / weight),
        squares=memory.squares + squares + step**2 * (memory.weight * added / weight),
        present=memory.present + present,
        information=(before + information, total + float(told.sum())),
        segment=replace(segment, judged=segment.judged + judged),
    )


def _squared_errors(u: np.ndarray, X, y: np.ndarray, coef: np.ndarray, intercept) -> float:
    return float(u @ ((y - X @ coef.T - intercept) ** 2).sum(axis=1))


class _Columns(NamedTuple):
    """What is known of the columns at the beginning of a segment."""

    size: np.ndarray  # (d,): the mean square of a column where it is present; 0: it never varied
    shift: np.ndarray  # (d,)
    square: np.ndarray  # (d,): its mean square in all rows, about the shift
    typical: float  # the mean number of columns that are present in a row


def _columns_of(memory: DiagonalMemory, X: np.ndarray, is_sparse: bool, centred: bool) -> _Columns:
    """Return the columns as the rows so far show them, or as the first rows X do."""
    if memory.rows:
        shift, variance = memory.x_mean, memory.squares / memory.weight
    else:
        shift = np.median(X, axis=0)
        squares = (X - shift) ** 2
        variance = np.median(squares, axis=0)
        variance = np.where(variance > 0.0, 2.2 * variance, squares.mean(axis=0))
    noise = (1e-15 * np.abs(shift)) ** 2
    if is_sparse or not centred:
        variance, shift = variance + shift**2, np.zeros_like(shift)
    varies = variance > np.maximum(noise, np.finfo(np.float64).tiny)
    square = np.where(varies, variance, 0.0)
    if not is_sparse:
        return _Columns(square, shift, square, max(float(np.count_nonzero(varies)), 1.0))
    if memory.rows:
        share = memory.present / memory.weight
    else:
        share, square = (X != 0.0).mean(axis=0), (X**2).mean(axis=0)
    size = np.divide(square, share, out=np.zeros_like(square), where=share > 0.0)
    usual = float(np.median(size[size > 0.0])) if np.any(size > 0.0) else 0.0
    return _Columns(np.where(size > 0.0, size, usual), shift, square, max(float(share.sum()), 1.0))


def _after_fit(memory: DiagonalMemory, X: np.ndarray, is_sparse: bool) -> DiagonalMemory:
    """Return the memory with the sums that a fit has not left; X are the first rows after it."""
    present = np.full(len(memory.squares), memory.weight)
    if is_sparse:  # columns are as large as those of the new rows
        stored = X[X != 0.0] ** 2
        usual = float(np.median(stored)) if len(stored) else 1.0
        present = np.minimum((memory.squares + memory.weight * memory.x_mean**2) / usual, present)
    return replace(memory, present=present)


def _next_segment(memory: DiagonalMemory, X, y, objective: Objective) -> DiagonalMemory:
    """Return the memory at a new segment, whose variances come from the rows before it.

    The first segment takes them from medians of its own rows, of which X is the first group.
    """
    mean, segment, moving, rows = _mean(memory), memory.segment, memory.moving, memory.rows
    if segment.is_sparse and objective.l1 == 0.0:
        h = segment.n_summed * segment.rate * segment.shortened
        moving = moving[0] / (1.0 + h * objective.l2 * segment.scale**2), moving[1]
    X = X.toarray() if isinstance(X, csr_array) else X
    is_sparse = np.count_nonzero(X) < CENTRED_SHARE * X.size
    if memory.information is None:
        memory = _after_fit(memory, X, is_sparse)
    columns = _columns_of(memory, X, is_sparse, objective.fit_intercept)
    unit = (memory.weight_roots / rows) ** 4 if rows else 1.0
    kept = ((rows - segment.n_summed) / rows) ** 2 if rows else 0.0
    judged = kept * memory.judged + segment.judged
    variance, told = _variances(memory, columns, unit, _signal(judged, unit), objective.l2)
    expected = float(variance @ columns.square)
    rate = 1.0 / (told / unit + 1.0) if objective.fit_intercept else 1.0
    end = max(rows + GROUP_ROWS, int(GROWTH * rows) // GROUP_ROWS * GROUP_ROWS)
    if objective.fit_intercept and not rows:
        moving = moving[0], np.median(y - X @ moving[0].T, axis=0)
    segment = _Segment(
        np.sqrt(variance / rate),
        columns.shift,
        is_sparse,
        1.0 / (1.0 + expected),
        unit,
        end,
        rate,
        moving,
        np.zeros(5),
        np.zeros_like(segment.coef_sum),
        np.zeros_like(segment.intercept_sum),
    )
    if memory.information is None:
        share = 1.0 / (1.0 + expected)
        memory = replace(
            memory,
            information=(memory.weight * share * columns.square, memory.weight * share),
        )
    return replace(memory, moving=moving, mean=mean, judged=judged, segment=segment)


def _signal(judged: np.ndarray, unit: float) -> float:
    """Return the variance of the signal over that of the noise, as errors in new rows show it.

    Their mean square is that of the noise times 1 + the variance of the prediction.
    """
    moving, _, constant, variance, weight = judged
    if not weight >= ESTIMATING_ROWS * unit:
        return SIGNAL
    with np.errstate(all="ignore"):
        estimate = constant * (variance / weight) / moving - 1.0
    return float(min(max(estimate, LEAST_SIGNAL), MOST_SIGNAL)) if estimate == estimate else SIGNAL


def _variances(
    memory: DiagonalMemory, columns: _Columns, unit: float, signal: float, l2: float
) -> tuple[np.ndarray, float]:
    """Return each weight's variance, relative to the noise, and the weight that rows told."""
    prior = columns.size * (columns.typical / signal)

    def of(information, told):
        precision = (information + told * l2) / unit + prior
        varies = columns.size > 0.0
        return np.divide(1.0, precision, out=np.zeros_like(precision), where=varies)

    if memory.information is not None:
        return of(*memory.information), memory.information[1]
    told = memory.weight
    for _ in range(20):  # how much rows have told depends on the variances, and these on it
        expected = float(of(told * columns.square, told) @ columns.square)
        told = memory.weight / (1.0 + expected)
    return of(told * columns.square, told), told


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
