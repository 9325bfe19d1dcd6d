"""X, y and weights as blocks on the device, wherever they are.

Rows that are on the device already are one block. Host rows travel in blocks of
`gather.TRANSFER_BYTES` through two pinned buffers, so that copies overlap kernels and X may be
larger than the device's memory; visits in random order are packed into such blocks on the device.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contract import CSR, stored_in_rows
from ..device import is_device_array
from .compile import cuda
from .gather import gathered, rows_of_block
from .memory import reserve_stream
from .rows import Block, Rows, Sparse, matrix_of
from .transfer import stage, upload, upload_if_host, upload_order


def blocks(X, y, s, stream, order=None, multiple: int = 1, packed: bool = False):
    """The rows of X, or the visits of `order`, as blocks on the device.

    The sizes of all blocks but the last are multiples of `multiple`. `packed`: rows with gaps
    between their numbers are packed too, even where no order asks for it.
    """
    on_device = is_device_array(matrix_of(X))
    if on_device:
        y, s = upload_if_host("targets", y, stream), upload_if_host("weights", s, stream)
    if isinstance(X, CSR):
        if on_device:
            return _csr_on_device(X, y, s, stream, order)
        return _csr_on_host(X, y, s, stream, order, multiple)
    if not on_device:
        return _rows_on_host(X, y, s, stream, order, multiple)
    if order is None and (Rows.of(X).contiguous_rows or not packed):
        targets = None if y is None else Rows.of(y)
        return iter([Block(Rows.of(X), targets, s, 0, stream)])
    return _packed_rows(X, y, s, stream, order, multiple)


def _packed_rows(X, y, s, stream, order, multiple):
    n = len(X) if order is None else len(order)
    order = upload_order(order, stream)
    step = rows_of_block(X.shape[1], X.itemsize, multiple)
    for first in range(0, n, step):
        visits = min(step, n - first)
        A = gathered(Rows.of(X), order, first, visits, stream)
        targets = weights = None
        if y is not None:
            part = gathered(Rows.of(y), order, first, visits, stream, "gathered targets")
            targets = Rows.of(part)
        if s is not None:
            column = Rows(s, 0, 1, 1, (len(s), 1))
            weights = gathered(column, order, first, visits, stream, "gathered weights").reshape(-1)
        yield Block(Rows.of(A), targets, weights, first, stream)


def _rows_on_host(X, y, s, stream, order, multiple):
    """Rows of host memory in blocks of one size."""
    n, d = X.shape if order is None else (len(order), X.shape[1])
    step = min(rows_of_block(d, X.itemsize, multiple), -(-n // multiple) * multiple)
    spans = [(first, min(n, first + step)) for first in range(0, n, step)]
    return host_blocks(X, y, s, stream, order, spans)


def host_blocks(X, y, s, stream, order, spans):
    """Spans of host rows by way of pinned buffers, two of each, so that copies overlap kernels.

    While the kernels work on one block, the host packs the next and starts its copy on a stream of
    its own.
    """
    copies = reserve_stream("copies")
    used = [cuda.event(), cuda.event()]
    waiting = None
    for k, (first, last) in enumerate(spans):
        turn = k % 2
        if k >= 2:
            used[turn].synchronize()
        rows = slice(first, last) if order is None else order[first:last]
        A = Rows.of(stage(X, rows, f"host rows {turn}", copies))
        targets = None if y is None else Rows.of(stage(y, rows, f"host targets {turn}", copies))
        weights = None if s is None else stage(s, rows, f"host weights {turn}", copies)
        copied = cuda.event()
        copied.record(copies)
        if waiting is not None:
            yield from _once_copied(*waiting)
        block = Block(A, targets, weights, first, stream)
        waiting = block, copied, used[turn], stream
    assert waiting is not None
    yield from _once_copied(*waiting)


def _once_copied(block: Block, copied, used, stream):
    copied.wait(stream)
    yield block
    used.record(stream)


def _csr_on_device(X: CSR, y, s, stream, order):
    ends: Any = upload_if_host("indptr", X.indptr, stream)  # on the host where rows were selected
    data: Any = X.data
    indices: Any = X.indices
    matrix = Sparse(data, indices, ends, X.shape, upload_order(order, stream))
    yield Block(matrix, None if y is None else Rows.of(y), s, 0, stream)


def _csr_on_host(X: CSR, y, s, stream, order, multiple):
    """A CSR matrix in blocks of rows, in the order of the visits."""
    n = X.shape[0] if order is None else len(order)
    entries = X.indptr[1:] - X.indptr[:-1] if order is None else _entries(X.indptr, order)
    ends = np.concatenate([[0], np.cumsum(entries, dtype=np.int64)])
    most = rows_of_block(1, X.data.itemsize + X.indices.itemsize)
    first = 0
    while first < n:
        last = int(np.searchsorted(ends, ends[first] + most, side="right")) - 1
        last = min(n, first + max(1, (last - first) // multiple) * multiple)
        rows = slice(first, last) if order is None else order[first:last]
        data, indices, indptr = (
            upload(f"csr {name}", values, stream, values.dtype)
            for name, values in zip(("data", "indices", "indptr"), _csr_rows(X, rows), strict=True)
        )
        targets = weights = None
        if y is not None:
            part = np.ascontiguousarray(y[rows])
            there = upload("csr targets", part, stream, y.dtype)
            targets = Rows.of(there[: part.size].reshape(*part.shape))
        if s is not None:
            weights = upload("csr weights", s[rows], stream, s.dtype)
        matrix = Sparse(data, indices, indptr, (last - first, X.shape[1]), None)
        yield Block(matrix, targets, weights, first, stream)
        stream.synchronize()  # the next block is uploaded into the same memory
        first = last


def _entries(indptr: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return indptr[rows + 1] - indptr[rows]


def _csr_rows(X: CSR, rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """data, indices and indptr of these rows; indptr begins at 0."""
    if isinstance(rows, slice):
        ends = X.indptr[rows.start : rows.stop + 1]
        span = slice(int(ends[0]), int(ends[-1]))
        return X.data[span], X.indices[span], ends - ends[0]
    where, ends = stored_in_rows(X.indptr[rows], _entries(X.indptr, rows))
    return X.data[where], X.indices[where], ends
