"""The contract's `predict`: X w + b, one warp per row, or one thread where columns lie together."""

from __future__ import annotations

import numpy as np

from ..device import DeviceArray, empty_like
from .blocks import blocks
from .compile import Kernel, cuda, launch
from .context import lock, multiprocessors, on_device_of
from .memory import allocate, native, reserve
from .rows import Block, Dense, Sparse, entry, matrix_of, stream_for
from .transfer import download, upload
from .warp import THREADS, WARP, WARPS, sum_of_lanes


def predict(X, w, b, n_threads):
    """The contract's `predict`; for an X on the device, the result is there too."""
    n, t = X.shape[0], w.shape[0]
    matrix = matrix_of(X)
    with lock, on_device_of(matrix):
        stream = stream_for(X)
        weights = upload("weights", np.concatenate([w.reshape(-1), b]), stream)
        if isinstance(matrix, DeviceArray):
            out = empty_like((n, t), X.dtype, matrix) or allocate((n, t), X.dtype)
            for block in blocks(X, None, None, stream):
                _predict_block(block, weights, t, out)
            stream.synchronize()
            return out
        host = np.empty((n, t), X.dtype)
        for block in blocks(X, None, None, stream):
            out = reserve("predictions", block.n * t, X.dtype)
            _predict_block(block, weights, t, out)
            host[block.first : block.first + block.n] = download(out, stream).reshape(-1, t)
        return host


def _predict_block(block: Block, weights: DeviceArray, t: int, out: DeviceArray) -> None:
    n, d = block.X.shape
    if isinstance(block.X, Sparse):
        kernel = _predict_csr
    else:
        kernel = _predict_columns if block.X.column_major else _predict_rows
    per_block = THREADS if kernel is _predict_columns else WARPS
    grid = max(1, min(16 * multiprocessors(), -(-n // per_block)))
    launch(kernel, grid, THREADS, block.stream)(
        *block.X.arguments, n, d, t, native(weights), native(out.reshape(n * t))
    )


@Kernel
def _predict_rows(flat, start, row_stride, column, n, d, t, w, out):
    """One warp per row. Reads d numbers per row, and again for each target, from a cache."""
    X = Dense(flat, start, row_stride, column)
    scratch = cuda.shared.array(THREADS, np.float64)
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    apart = cuda.gridDim.x * WARPS
    for step in range((n + apart - 1) // apart):
        i = step * apart + cuda.blockIdx.x * WARPS + warp
        for c in range(t):
            dot = 0.0
            if i < n:
                for j in range(lane, d, WARP):
                    dot += np.float64(entry(X, i, j)) * w[c * d + j]
            dot = sum_of_lanes(dot, WARP, scratch)
            if i < n and lane == 0:
                out[i * t + c] = dot + w[t * d + c]


@Kernel
def _predict_columns(flat, start, row_stride, column, n, d, t, w, out):
    """One thread per row, for columns that lie together."""
    X = Dense(flat, start, row_stride, column)
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        for c in range(t):
            dot = 0.0
            for j in range(d):
                dot += np.float64(entry(X, i, j)) * w[c * d + j]
            out[i * t + c] = dot + w[t * d + c]


@Kernel
def _predict_csr(data, indices, indptr, n, d, t, w, out):
    """One warp per row of CSR entries."""
    scratch = cuda.shared.array(THREADS, np.float64)
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    apart = cuda.gridDim.x * WARPS
    for step in range((n + apart - 1) // apart):
        i = step * apart + cuda.blockIdx.x * WARPS + warp
        for c in range(t):
            dot = 0.0
            if i < n:
                for k in range(indptr[i] + lane, indptr[i + 1], WARP):
                    dot += np.float64(data[k]) * w[c * d + indices[k]]
            dot = sum_of_lanes(dot, WARP, scratch)
            if i < n and lane == 0:
                out[i * t + c] = dot + w[t * d + c]
