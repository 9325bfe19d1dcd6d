"""The contract's `centred_rows`: x - shift in float64, so that solvers can leave X where it is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..device import DeviceArray
from .compile import Kernel, cuda, launch
from .context import lock, on_device_of
from .lanes import lanes_for
from .memory import allocate_beside, native
from .rows import Dense, Rows, Sparse, entry, matrix_of, resident, stream_for
from .transfer import copy_beside
from .warp import THREADS, WARP, WARPS, grid_for, sync_warp

# A chunk costs some 30 launches and small copies, of 10 microseconds each.
CHUNK_BYTES = 256 << 20
TRANSPOSED = WARP * (WARP + 1)  # numbers in shared memory; the 1 is for its banks


class Centred(NamedTuple):
    """Rows on the device, and what is subtracted from them in float64."""

    rows: Rows | Sparse
    shift: DeviceArray  # (d,)

    @classmethod
    def of(cls, rows, shift: np.ndarray, like: DeviceArray, stream) -> Centred:
        return cls(rows, copy_beside(shift, like, stream))

    @property
    def width(self) -> int:
        return self.rows.shape[1]

    def write_into(self, out: DeviceArray, first: int, n: int, stream) -> None:
        """out (flat) = the n rows from `first` on."""
        d = self.width
        lanes: tuple[int, ...] = ()
        if isinstance(self.rows, Sparse):
            kernel, work = _centre_csr, n * WARP
        elif self.rows.column_major:
            kernel, work = _centre_columns, -(-n // WARP) * -(-d // WARP) * THREADS
        else:
            kernel, lanes = _centre_rows, (lanes_for(d),)
            work = n * lanes[0]
        launch(kernel, grid_for(work), THREADS, stream)(
            *self.rows.arguments, d, first, n, *lanes, native(self.shift), native(out)
        )


def centred_rows(X, y, sample_weight, shift):
    """The contract's `centred_rows`.

    The memory of the chunks belongs to the visit and not to the workspace, since other calls, of
    other threads too, come in between.
    """
    matrix, n = matrix_of(X), X.shape[0]
    with lock, on_device_of(matrix):
        stream = stream_for(X, y, sample_weight)
        changes = _changes(X, y, sample_weight, shift, stream)
        width = sum(change.width for change in changes)
        step = min(n, max(1, CHUNK_BYTES // (8 * width)))
        memory = allocate_beside((step * width,), np.float64, matrix)
    for first in range(0, n, step):
        with lock, on_device_of(matrix):
            chunk = _chunk(changes, memory, step, first, min(step, n - first), stream)
        yield chunk


def _changes(X, y, sample_weight, shift, stream) -> list[Centred]:
    """What becomes of X, of y, and of the weights if there are any."""
    matrix = matrix_of(X)
    targets = Rows.of(copy_beside(y, matrix, stream))
    changes = [
        Centred.of(resident(X, stream), shift, matrix, stream),
        Centred.of(targets, np.zeros(y.shape[1]), matrix, stream),
    ]
    if sample_weight is not None:
        weights = Rows.of(copy_beside(sample_weight, matrix, stream)[:, None])
        changes.append(Centred.of(weights, np.zeros(1), matrix, stream))
    return changes


def _chunk(changes, memory, step: int, first: int, rows: int, stream):
    """The chunk of these rows, (Z, y, s or None), each in its own part of the memory."""
    begin, parts = 0, []
    for change in changes:
        out = memory[step * begin : step * begin + rows * change.width]
        change.write_into(out, first, rows, stream)
        parts.append(out.reshape(rows, change.width))
        begin += change.width
    stream.synchronize()  # from here on, other threads may use the workspace
    Z, y, *s = parts
    return Z, y, s[0].reshape(rows) if s else None


@Kernel
def _centre_rows(flat, start, row, column, d, first, n, lanes, shift, out):
    """out[i, j] = X[first + i, j] - shift[j]: `lanes` threads per row."""
    X = Dense(flat, start, row, column)
    lane, mine = cuda.grid(1) % lanes, cuda.grid(1) // lanes
    for i in range(mine, n, cuda.gridsize(1) // lanes):
        for j in range(lane, d, lanes):
            out[i * d + j] = np.float64(entry(X, first + i, j)) - shift[j]


@Kernel
def _centre_columns(flat, start, row, column, d, first, n, shift, out):
    """`_centre_rows` where columns lie together.

    A square of numbers is transposed in shared memory, so that a warp reads a stretch of a column
    and writes a stretch of a row.
    """
    X = Dense(flat, start, row, column)
    square = cuda.shared.array(TRANSPOSED, np.float64)
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    across = (d + WARP - 1) // WARP
    for q in range(cuda.blockIdx.x, (n + WARP - 1) // WARP * across, cuda.gridDim.x):
        i0, j0 = q // across * WARP, q % across * WARP
        i = i0 + lane
        for c in range(warp, WARP, WARPS):
            j = j0 + c
            if i < n and j < d:
                square[lane * (WARP + 1) + c] = np.float64(entry(X, first + i, j)) - shift[j]
        cuda.syncthreads()
        for r in range(warp, WARP, WARPS):
            if i0 + r < n and j0 + lane < d:
                out[(i0 + r) * d + j0 + lane] = square[r * (WARP + 1) + lane]
        cuda.syncthreads()


@Kernel
def _centre_csr(data, indices, indptr, d, first, n, shift, out):
    """`_centre_rows` for CSR, one warp per row: what zeros become, then the entries over it."""
    lane = cuda.threadIdx.x % WARP
    apart = cuda.gridDim.x * WARPS
    for step in range((n + apart - 1) // apart):
        i = step * apart + cuda.blockIdx.x * WARPS + cuda.threadIdx.x // WARP
        if i < n:
            for j in range(lane, d, WARP):
                out[i * d + j] = 0.0 - shift[j]
        sync_warp()
        if i < n:
            for e in range(indptr[first + i] + lane, indptr[first + i + 1], WARP):
                j = indices[e]
                out[i * d + j] = np.float64(data[e]) - shift[j]
