"""The contract's `transformed_rows`: rows in other coordinates, so that solvers can leave X there.

((x - shift) scale) turn, where `turn` is a full matrix or is left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..device import DeviceArray
from .compile import Kernel, cuda, launch
from .context import lock, on_device_of
from .lanes import lanes_for
from .memory import allocate_beside, native, reserve
from .products import multiply_into
from .rows import (
    Dense,
    Order,
    Rows,
    Sparse,
    entry,
    matrix_of,
    order_arguments,
    resident,
    row_of,
    rows_of_stretch,
    stream_for,
)
from .transfer import copy_beside, upload_order
from .warp import THREADS, WARP, WARPS, grid_for, sync_warp

# A chunk costs some 30 launches and small copies, of 10 microseconds each.
CHUNK_BYTES = 256 << 20
TRANSPOSED = WARP * (WARP + 1)  # numbers in shared memory; the 1 is for its banks


class Transform(NamedTuple):
    """Rows on the device, and what they become in float64: ((x - shift) scale) turn."""

    rows: Rows | Sparse
    shift: DeviceArray  # (d,)
    scale: DeviceArray  # (d,)
    turn: DeviceArray | None  # (d, width), flat; None: no product
    width: int

    @classmethod
    def of(cls, matrix, shift, scale, like: DeviceArray, stream, turn=None) -> Transform:
        d = matrix.shape[1]
        both = copy_beside(np.stack([shift, scale]), like, stream).reshape(2 * d)
        if turn is None:
            return cls(matrix, both[:d], both[d:], None, d)
        flat = copy_beside(turn, like, stream).reshape(turn.size)
        return cls(matrix, both[:d], both[d:], flat, turn.shape[1])

    def write_into(self, out: DeviceArray, order, first: int, n: int, stream) -> None:
        """out (flat) = the n rows from `first` on: of the matrix, or those that `order` names."""
        if self.turn is None:
            self._scale_into(out, order, first, n, stream)
            return
        d = self.rows.shape[1]
        step = rows_of_stretch(d)
        for base in range(0, n, step):
            part = min(step, n - base)
            A = reserve("centred rows", part * d)
            self._scale_into(A, order, first + base, part, stream)
            turned = out[base * self.width : (base + part) * self.width]
            multiply_into(turned, A, self.turn, (part, d, self.width), stream)

    def _scale_into(self, out: DeviceArray, order, first: int, n: int, stream) -> None:
        d = self.rows.shape[1]
        visits = d, *order_arguments(order), first, n
        numbers = native(self.shift), native(self.scale), native(out)
        lanes: tuple[int, ...] = ()
        if isinstance(self.rows, Sparse):
            kernel, work = _scale_csr, n * WARP
        elif self.rows.column_major:
            kernel, work = _scale_columns, -(-n // WARP) * -(-d // WARP) * THREADS
        else:
            kernel, lanes = _scale_rows, (lanes_for(d),)
            work = n * lanes[0]
        launch(kernel, grid_for(work), THREADS, stream)(
            *self.rows.arguments, *visits, *lanes, *numbers
        )


def transformed_rows(X, y, sample_weight, order, multiple, shift, transform, weight_unit):
    """The contract's `transformed_rows`.

    The memory of the chunks belongs to the visit and not to the workspace, since other calls, of
    other threads too, come in between.
    """
    matrix, n = matrix_of(X), X.shape[0] if order is None else len(order)
    with lock, on_device_of(matrix):
        stream = stream_for(X, y, sample_weight, order)
        changes = _changes(X, y, sample_weight, (shift, transform, weight_unit), stream)
        width = sum(change.width for change in changes)
        step = min(n, max(1, CHUNK_BYTES // (8 * width) // multiple) * multiple)
        memory = allocate_beside((step * width,), np.float64, matrix)
    for first in range(0, n, step):
        rows = min(step, n - first)
        with lock, on_device_of(matrix):
            visits = None if order is None else order[first : first + rows]
            chunk = _chunk(changes, memory, step, visits, first, rows, stream)
        yield chunk


def _changes(X, y, sample_weight, coordinates, stream) -> list[Transform]:
    """What becomes of X, of y, and of the weights if there are any."""
    (shift, transform, weight_unit), matrix = coordinates, matrix_of(X)
    scale, turn, t = transform, None, y.shape[1]
    if transform.ndim == 2:
        scale, turn = np.ones(X.shape[1]), transform.T
    targets = Rows.of(copy_beside(y, matrix, stream))
    changes = [
        Transform.of(resident(X, stream), shift, scale, matrix, stream, turn),
        Transform.of(targets, np.zeros(t), np.ones(t), matrix, stream),
    ]
    if sample_weight is not None:
        weights = Rows.of(copy_beside(sample_weight, matrix, stream)[:, None])
        unit = np.full(1, 1.0 / weight_unit)
        changes.append(Transform.of(weights, np.zeros(1), unit, matrix, stream))
    return changes


def _chunk(changes, memory, step: int, visits, first: int, rows: int, stream):
    """The chunk of these rows, (Z, y, s or None), each in its own part of the memory."""
    order, begin, parts = None, 0, []
    if visits is not None:
        order, first = upload_order(visits, stream), 0
    for change in changes:
        out = memory[step * begin : step * begin + rows * change.width]
        change.write_into(out, order, first, rows, stream)
        parts.append(out.reshape(rows, change.width))
        begin += change.width
    stream.synchronize()  # from here on, other threads may use the workspace
    Z, y, *s = parts
    return Z, y, s[0].reshape(rows) if s else None


@Kernel
def _scale_rows(
    flat, start, row, column, d, order_rows, ordered, first, visits, lanes, shift, scale, out
):
    """out[i, j] = (X[order[first + i], j] - shift[j]) scale[j]: `lanes` threads per row."""
    X, order = Dense(flat, start, row, column), Order(order_rows, ordered, first)
    lane, mine = cuda.grid(1) % lanes, cuda.grid(1) // lanes
    for i in range(mine, visits, cuda.gridsize(1) // lanes):
        which = row_of(order, i)
        for j in range(lane, d, lanes):
            out[i * d + j] = (np.float64(entry(X, which, j)) - shift[j]) * scale[j]


@Kernel
def _scale_columns(
    flat, start, row, column, d, order_rows, ordered, first, visits, shift, scale, out
):
    """`_scale_rows` where columns lie together.

    A square of numbers is transposed in shared memory, so that a warp reads a stretch of a column
    and writes a stretch of a row.
    """
    X = Dense(flat, start, row, column)
    square = cuda.shared.array(TRANSPOSED, np.float64)
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    across = (d + WARP - 1) // WARP
    for q in range(cuda.blockIdx.x, (visits + WARP - 1) // WARP * across, cuda.gridDim.x):
        i0, j0 = q // across * WARP, q % across * WARP
        i = i0 + lane
        which = first + i
        if ordered and i < visits:
            which = order_rows[which]
        for c in range(warp, WARP, WARPS):
            j = j0 + c
            if i < visits and j < d:
                x = np.float64(entry(X, which, j))
                square[lane * (WARP + 1) + c] = (x - shift[j]) * scale[j]
        cuda.syncthreads()
        for r in range(warp, WARP, WARPS):
            if i0 + r < visits and j0 + lane < d:
                out[(i0 + r) * d + j0 + lane] = square[r * (WARP + 1) + lane]
        cuda.syncthreads()


@Kernel
def _scale_csr(data, indices, indptr, d, order_rows, ordered, first, visits, shift, scale, out):
    """`_scale_rows` for CSR, one warp per row: what zeros become, then the entries over it."""
    order = Order(order_rows, ordered, first)
    lane = cuda.threadIdx.x % WARP
    apart = cuda.gridDim.x * WARPS
    for step in range((visits + apart - 1) // apart):
        i = step * apart + cuda.blockIdx.x * WARPS + cuda.threadIdx.x // WARP
        which = first + i
        if i < visits:
            which = row_of(order, i)
            for j in range(lane, d, WARP):
                out[i * d + j] = (0.0 - shift[j]) * scale[j]
        sync_warp()
        if i < visits:
            for e in range(indptr[which] + lane, indptr[which + 1], WARP):
                j = indices[e]
                out[i * d + j] = (np.float64(data[e]) - shift[j]) * scale[j]
