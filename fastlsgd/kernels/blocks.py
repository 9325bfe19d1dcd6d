"""Conversion of X, a block of rows at a time, where kernels cannot read its numbers directly.

`Blocks` extends a backend to every real dtype of NumPy (float16, long double, whole numbers, bool,
objects), to bfloat16, to numbers in the other byte order or at unaligned addresses, and to CSR with
such index arrays. A block holds about a megabyte of converted numbers, or `GROUP_ROWS` rows where
those are more. Nothing of the size of X is allocated.

Cost: NumPy converts in the calling thread, and the kernels find the block in cache. A pass of
`loss_gradient` processes 0.25 (float16, long double), 0.5 (int8, bool) or 0.9 (bfloat16) billion
numbers per second, compared with 1.6 of float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal, cast

import numpy as np

from . import reference
from .contract import (
    CSR,
    GROUP_ROWS,
    Epoch,
    Epochs,
    Gram,
    Kernels,
    Matrix,
    SegmentFits,
    SegmentKernels,
    Segments,
    SGDState,
    TargetGradients,
    empty_fits,
    epochs_by_calls,
    rows_per_group,
    runs_of_segments,
    stored_in_rows,
    working_dtype,
)

__all__ = ["Blocks", "converting", "takes"]

BLOCK_NUMBERS = 2**17  # of a converted block: at most a megabyte, which stays in cache
GRAM_NUMBERS = 2**22  # for `gram`, which adds d^2 sums once per block
NOTHING = 1e-300  # smaller sums of weights have no reciprocal, and are negligible
COUNTED_ROWS = 2**16  # rows of CSR whose stored numbers are counted at a time


def takes(X: Matrix) -> bool:
    """Whether backends can read X directly: native, aligned float32 or float64."""
    if isinstance(X, CSR):
        return (
            _is_plain(X.data)
            and X.data.flags.c_contiguous
            and X.indices.dtype == X.indptr.dtype
            and _are_plain_indices(X.indices)
            and _are_plain_indices(X.indptr)
        )
    return _is_plain(X)


def _is_plain(array: np.ndarray) -> bool:
    dtype, size, flags = array.dtype, array.itemsize, array.flags
    return (
        dtype.kind == "f"
        and size in (4, 8)
        and dtype.isnative
        and flags.aligned
        and (flags.c_contiguous or all(stride % size == 0 for stride in array.strides))
    )


def _are_plain_indices(array: np.ndarray) -> bool:
    dtype, flags = array.dtype, array.flags
    return (
        dtype.kind == "i"
        and dtype.itemsize in (4, 8)
        and dtype.isnative
        and flags.aligned
        and flags.c_contiguous
    )


def converting(kernels: Kernels) -> Blocks:
    """The backend's kernels, with conversion of X where needed."""
    return kernels if isinstance(kernels, Blocks) else Blocks(kernels)


class Blocks:
    """The kernels of a backend, for an X of any real dtype."""

    def __init__(self, kernels: Kernels):
        self.kernels = kernels
        self.SUMS_ARE_SPLIT = kernels.SUMS_ARE_SPLIT
        self.__name__ = getattr(kernels, "__name__", type(kernels).__name__)

    def __getattr__(self, name: str):
        return getattr(self.kernels, name)

    def loss_gradient(
        self,
        X: Matrix,
        y: np.ndarray,
        w: np.ndarray,
        b: np.ndarray,
        sample_weight: np.ndarray | None,
        n_threads: int,
    ) -> TargetGradients:
        if takes(X):
            return self.kernels.loss_gradient(X, y, w, b, sample_weight, n_threads)
        sums, unit = _Sums(w.shape), _unit(sample_weight)
        for start, stop in _spans(X, None, X.shape[0], 1, _limit(X)):
            s = None if sample_weight is None else sample_weight[start:stop]
            s = s if s is None or unit == 1.0 else s / unit
            sums.add(self.kernels, _rows(X, start, stop), y[start:stop], w, b, s, n_threads)
        return TargetGradients(
            sums.loss / sums.weight, sums.coef / sums.weight, sums.intercept / sums.weight
        )

    def predict(self, X: Matrix, w: np.ndarray, b: np.ndarray, n_threads: int) -> np.ndarray:
        if takes(X):
            return self.kernels.predict(X, w, b, n_threads)
        out = np.empty((X.shape[0], w.shape[0]), working_dtype(X))
        for start, stop in _spans(X, None, X.shape[0], 1, _limit(X)):
            out[start:stop] = self.kernels.predict(_rows(X, start, stop), w, b, n_threads)
        return out

    def fit_segments(
        self,
        X: np.ndarray,
        y: np.ndarray,
        sample_weight: np.ndarray | None,
        segments: Segments,
        n_threads: int,
    ) -> SegmentFits:
        """Each call converts the rows of some segments, or of one that is larger than a block."""
        fit = cast(SegmentKernels, self.kernels).fit_segments
        if takes(X):
            return fit(X, y, sample_weight, segments, n_threads)
        parts, order, decay = [], segments.order, segments.decay
        for first, last in runs_of_segments(segments, _limit(X) // X.shape[1]):
            low, high = int(segments.start[first]), int(segments.stop[last - 1])
            rows = slice(low, max(low, high)) if order is None else order[low:high]
            own = replace(
                segments,
                order=None,
                start=segments.start[first:last] - low,
                stop=segments.stop[first:last] - low,
                decay=None if decay is None else decay[low:high],
            )
            s = None if sample_weight is None else sample_weight[rows]
            block = cast(np.ndarray, _selected(X, rows))
            parts.append(fit(block, y[rows], s, own, n_threads))
        if not parts:
            return empty_fits(segments, X.shape[1])
        joined: Any = (
            None if values[0] is None else np.concatenate(values)
            for values in zip(*parts, strict=True)
        )
        return SegmentFits(*joined)

    def gram(
        self,
        X: Matrix,
        y: np.ndarray,
        sample_weight: np.ndarray | None,
        shift: np.ndarray | None,
        n_threads: int,
    ) -> Gram:
        if takes(X):
            return self.kernels.gram(X, y, sample_weight, shift, n_threads)
        d = X.shape[1]
        total: Gram | None = None
        limit = max(_limit(X), min(d * d, GRAM_NUMBERS))
        for start, stop in _spans(X, None, X.shape[0], 1, limit):
            s = None if sample_weight is None else sample_weight[start:stop]
            part = self.kernels.gram(_rows(X, start, stop), y[start:stop], s, shift, n_threads)
            if total is None:
                total = part
                continue
            for sums, more in zip(total[:4], part[:4], strict=True):
                sums += more
            total = total._replace(weight=total.weight + part.weight)
        if total is None:  # there are no rows: zeros of the right shapes
            return self.kernels.gram(np.empty(X.shape), y, sample_weight, shift, n_threads)
        return total

    def sgd_epoch(
        self,
        X: Matrix,
        y: np.ndarray,
        w: np.ndarray,
        b: np.ndarray,
        sample_weight: np.ndarray | None,
        epoch: Epoch,
        state: SGDState,
        n_threads: int,
    ) -> float:
        if takes(X):
            return self.kernels.sgd_epoch(X, y, w, b, sample_weight, epoch, state, n_threads)
        order, batch_size = epoch.order, epoch.batch_size
        n_visits = X.shape[0] if order is None else len(order)
        group, limit, loss = rows_per_group(batch_size), _limit(X), 0.0
        for start, stop in _spans(X, order, n_visits, group, limit):
            rows: slice | np.ndarray = slice(start, stop) if order is None else order[start:stop]
            rates = epoch.rates[start // batch_size : -(-stop // batch_size)]
            part = replace(epoch, order=None, rates=rates)
            if stop - start <= batch_size and _is_large(X, rows, limit):
                data = X, y, sample_weight, rows
                loss += self._large_batch(data, w, b, part, state, n_threads)
                continue
            block = _selected(X, rows)
            s = None if sample_weight is None else sample_weight[rows]
            loss += self.kernels.sgd_epoch(block, y[rows], w, b, s, part, state, n_threads)
        return loss

    def sgd_epochs(
        self,
        X: Matrix,
        y: np.ndarray,
        w: np.ndarray,
        b: np.ndarray,
        sample_weight: np.ndarray | None,
        epoch: Epoch,
        state: SGDState,
        n_threads: int,
    ) -> Epochs:
        data = X, y, w, b, sample_weight
        if takes(X):
            return self.kernels.sgd_epochs(*data, epoch, state, n_threads)
        return epochs_by_calls(self.sgd_epoch, data, epoch, state, n_threads)

    def _large_batch(
        self, data, w: np.ndarray, b: np.ndarray, epoch: Epoch, state: SGDState, n_threads: int
    ) -> float:
        """The update by a mini-batch larger than a block: its gradient is summed over blocks."""
        X, y, sample_weight, rows = data
        order = None if isinstance(rows, slice) else rows
        first = rows.start if isinstance(rows, slice) else 0
        n = rows.stop - first if isinstance(rows, slice) else len(rows)
        w64 = w.astype(np.float64)
        sums, squares = _Sums(w.shape), _Sums(w.shape)
        rate = float(epoch.rates[0])
        share = (rate if state.optimizer is None else 1.0) / n
        for start, stop in _spans(_tail(X, first), order, n, 1, _limit(X)):
            some = slice(first + start, first + stop) if order is None else order[start:stop]
            block = _selected(X, some)
            s = None if sample_weight is None else sample_weight[some]
            weights = s
            if epoch.implicit:
                weights = _implicit_weights(block, y, s, share, epoch.fit_intercept)
            part = sums.add(self.kernels, block, y[some], w64, b, weights, n_threads)
            if weights is None:
                squares.loss += part
            else:  # in the loss, all rows of positive weight count alike
                counted = None if s is None else (s != 0).astype(s.dtype)
                squares.add(self.kernels, block, y[some], w64, b, counted, n_threads)
        step = reference.Step(share * sums.coef, share * sums.intercept, rate, rate)
        reference.take_step(w, b, step, epoch, state)
        return float(squares.loss.sum())


class _Sums:
    """Sums over rows of s r^2 / 2, s r x, s r and s, from `loss_gradient`'s means of blocks."""

    def __init__(self, shape: tuple[int, int]):
        self.loss, self.intercept = np.zeros(shape[0]), np.zeros(shape[0])
        self.coef, self.weight = np.zeros(shape), 0.0

    def add(self, kernels: Kernels, X, y, w, b, s, n_threads: int) -> np.ndarray:
        """Add a block; returns its own sum of s r^2 / 2."""
        weight = float(len(y) if s is None else s.sum(dtype=np.float64))
        if weight < NOTHING:
            return np.zeros(len(self.loss))
        part = kernels.loss_gradient(X, y, w, b, s, n_threads)
        self.loss += weight * part.loss
        self.coef += weight * part.coef
        self.intercept += weight * part.intercept
        self.weight += weight
        return weight * part.loss


def _unit(sample_weight: np.ndarray | None) -> float:
    """A power of two that brings extreme weights near 1, or 1 if they are not extreme."""
    highest = 1.0 if sample_weight is None else float(sample_weight.max(initial=0.0))
    if highest == 0.0 or 1e-30 < highest < 1e30:
        return 1.0
    return float(np.ldexp(1.0, min(1023, int(np.frexp(highest)[1]))))


def _implicit_weights(
    block: Matrix, y: np.ndarray, s: np.ndarray | None, share: float, fit_intercept: bool
) -> np.ndarray:
    """The weights of rows in an implicit step: s_i / (1 + g_i (|x_i|^2 + 1)), g_i = share s_i."""
    if isinstance(block, CSR):
        values = block.data.astype(np.float64)
        rows = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
        norms = np.bincount(rows, values * values, minlength=block.shape[0])
    else:
        norms = np.einsum("ij,ij->i", block, block, dtype=np.float64)
    weights = np.ones(len(norms)) if s is None else s.astype(np.float64)
    divisors = 1.0 + share * weights * (norms + fit_intercept)
    out = np.divide(weights, divisors, out=np.zeros_like(weights), where=weights != 0)
    return out.astype(y.dtype)


# ------------------------------------------------------------------------------- blocks of rows


def _limit(X: Matrix) -> int:
    """The numbers of a block: at least `GROUP_ROWS` rows, since a call costs d steps."""
    return max(BLOCK_NUMBERS, GROUP_ROWS * X.shape[1])


def _spans(
    X: Matrix, order: np.ndarray | None, n_visits: int, group: int, limit: int
) -> Iterator[tuple[int, int]]:
    """Cut the visits of rows into spans of whole groups, with at most `limit` numbers each.

    A group that is larger than that is a span by itself.
    """
    if not isinstance(X, CSR):
        rows = max(1, limit // max(1, X.shape[1]) // group) * group
        for start in range(0, n_visits, rows):
            yield start, min(start + rows, n_visits)
        return
    counted = max(1, COUNTED_ROWS // group) * group
    for start in range(0, n_visits, counted):
        stop = min(start + counted, n_visits)
        if group > COUNTED_ROWS:
            yield start, stop
            continue
        counts = _row_lengths(X, order, start, stop)
        ends = np.cumsum(np.add.reduceat(counts, np.arange(0, len(counts), group)))
        done = taken = 0
        while done < len(ends):
            cut = int(np.searchsorted(ends, taken + limit, side="right"))
            cut = max(cut, done + 1)
            yield start + done * group, min(start + cut * group, stop)
            done, taken = cut, int(ends[cut - 1])


def _row_lengths(X: CSR, order: np.ndarray | None, start: int, stop: int) -> np.ndarray:
    if order is None:
        return np.diff(X.indptr[start : stop + 1]).astype(np.int64)
    rows = order[start:stop]
    return (X.indptr[rows + 1] - X.indptr[rows]).astype(np.int64)


def _is_large(X: Matrix, rows: slice | np.ndarray, limit: int) -> bool:
    """Whether these rows exceed a block."""
    count = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
    if not isinstance(X, CSR) or count > COUNTED_ROWS:
        return count * X.shape[1] > limit
    if isinstance(rows, slice):
        return int(X.indptr[rows.stop]) - int(X.indptr[rows.start]) > limit
    return int(_row_lengths(X, rows, 0, count).sum()) > limit


def _tail(X: Matrix, first: int) -> Matrix:
    """A view of the rows from `first` on."""
    if isinstance(X, CSR):
        return X._replace(indptr=X.indptr[first:], shape=(X.shape[0] - first, X.shape[1]))
    return X[first:]


def _rows(X: Matrix, start: int, stop: int) -> Matrix:
    """Rows start <= i < stop, converted, in the memory order of X."""
    if not isinstance(X, CSR):
        return _converted(X[start:stop], working_dtype(X), "K")
    ends = X.indptr[start : stop + 1]
    span = slice(int(ends[0]), int(ends[-1]))
    indptr = (ends - ends[0]).astype(np.int64)
    return _csr(X.data[span], X.indices[span], indptr, X)


def _selected(X: Matrix, rows: slice | np.ndarray) -> Matrix:
    """The rows of a slice, or those with these numbers, converted."""
    return _rows(X, rows.start, rows.stop) if isinstance(rows, slice) else _gathered(X, rows)


def _gathered(X: Matrix, rows: np.ndarray) -> Matrix:
    """The rows with these numbers in their order, converted."""
    if not isinstance(X, CSR):
        return _converted(X[rows], working_dtype(X), "C")
    starts = X.indptr[rows].astype(np.int64)
    counts = X.indptr[rows + 1].astype(np.int64) - starts
    where, indptr = stored_in_rows(starts, counts)
    return _csr(X.data[where], X.indices[where], indptr, X)


def _csr(data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, X: CSR) -> CSR:
    """A block of CSR with arrays that kernels can read."""
    kind = np.int32 if indices.dtype.itemsize <= 4 and X.shape[1] <= 2**31 else np.int64
    if kind is np.int32 and indptr[-1] > np.iinfo(np.int32).max:
        kind = np.int64
    if not (_is_plain(data) and data.flags.c_contiguous):
        data = _converted(data, working_dtype(X), "C")
    return CSR(
        data,
        np.require(indices, kind, ["C", "A"]),
        indptr.astype(kind, copy=False),
        (len(indptr) - 1, X.shape[1]),
    )


def _converted(values: np.ndarray, dtype: np.dtype, order: Literal["C", "K"]) -> np.ndarray:
    """Values in `dtype`; those beyond its range become infinite, which shows in the results."""
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(dtype, order=order)
