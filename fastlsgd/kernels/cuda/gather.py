"""Rows in any order and with any strides, packed into C order on the device.

Random order and gaps cost one more pass over the rows; the kernels then read whole lines of memory.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from ..device import DeviceArray
from .compile import Kernel, cuda, launch
from .context import lock, on_device_of, stream_of
from .memory import allocate, native, reserve
from .rows import Dense, Order, Rows, order_arguments, row_of
from .transfer import upload
from .warp import THREADS, WARP, grid_for

TRANSFER_BYTES = 64 << 20  # of rows that are packed, or are on their way from the host, at a time


def rows_of_block(d: int, itemsize: int, multiple: int = 1) -> int:
    """Rows of a block, a multiple of `multiple`."""
    return max(1, TRANSFER_BYTES // max(1, d * itemsize) // multiple) * multiple


def copy_to_host(array: DeviceArray) -> np.ndarray:
    """The numbers of an array on the device, in C order."""
    if array.size == 0:
        return np.empty(array.shape, array.dtype)
    with lock, on_device_of(array):
        stream = stream_of(array.stream)
        if array.c_contiguous:
            out = np.empty(array.shape, array.dtype)
            native(array).copy_to_host(out, stream=stream)
            stream.synchronize()
            return out
        rows = array if array.ndim == 2 else array[:, None]
        out = np.empty(rows.shape, array.dtype)
        step = rows_of_block(rows.shape[1], array.itemsize)
        for first in range(0, len(rows), step):
            part = rows[first : first + step]
            packed = gathered(Rows.of(part), None, 0, len(part), stream)
            out[first : first + step] = copy_to_host(packed)
        return out.reshape(array.shape)


def take(array: DeviceArray, rows: np.ndarray) -> DeviceArray:
    """These rows, in this order, as a new array on the device."""
    matrix = array if array.ndim == 2 else array[:, None]
    with lock, on_device_of(array):
        stream = stream_of(array.stream)
        out = allocate((len(rows), matrix.shape[1]), array.dtype)
        if out.size:
            order = upload("order", rows, stream, np.int64)
            _gather_into(out, Rows.of(matrix), order, 0, stream)
        stream.synchronize()
    return out if array.ndim == 2 else out.reshape(len(rows))


def gathered(rows: Rows, order, first: int, visits: int, stream, purpose="gathered rows"):
    """The rows of these visits in C order, in the workspace."""
    d = rows.shape[1]
    out = reserve(purpose, visits * d, rows.flat.dtype).reshape(visits, d)
    _gather_into(out, rows, order, first, stream)
    return out


def _gather_into(out: DeviceArray, rows: Rows, order, first: int, stream) -> None:
    visits, d = out.shape
    if out.size == 0:
        return
    grid = grid_for(visits * (1 if rows.column_major else WARP))
    launch(_gather(rows.column_major, rows.scalar), grid, THREADS, stream)(
        *rows.arguments, d, *order_arguments(order), first, visits, native(out.reshape(out.size))
    )


@cache
def _gather(column_major: bool, scalar):
    @Kernel
    def gather(flat, start, row, column, d, order_rows, ordered, first, visits, out):
        """out[i, j] = X[order[first + i], j], reading along the smaller of X's strides.

        Four numbers are requested before the first is written: the compiler would not reorder them
        itself, since a store might change what the next load reads.
        """
        X, order = Dense(flat, start, row, column), Order(order_rows, ordered, first)
        held = cuda.local.array(4, scalar)
        lane, mine = 0, cuda.grid(1)
        apart, ahead = cuda.gridsize(1), 1
        if not column_major:  # one warp per row
            lane, mine = mine % WARP, mine // WARP
            apart, ahead = apart // WARP, WARP
        for i in range(mine, visits, apart):
            at = X.start + row_of(order, i) * X.row
            for j0 in range(lane, d, 4 * ahead):
                for k in range(4):
                    j = j0 + k * ahead
                    if j < d:
                        held[k] = X.flat[at + j * X.column]
                for k in range(4):
                    j = j0 + k * ahead
                    if j < d:
                        out[i * d + j] = held[k]

    return gather
