"""The contract's `gram`: all of it is Z^T Z for rows z = sqrt(s) (x - c, y, 1).

A stretch of rows at a time becomes Z in float64, whose products `products.py` adds up.
"""

from __future__ import annotations

import math

import numpy as np

from ..contract import Gram
from ..device import DeviceArray
from .blocks import blocks
from .compile import Kernel, cuda, launch
from .context import lock, multiprocessors, on_device_of
from .memory import native, reserve
from .products import DEPTH, SIDE, TILE, add_products, cupy_for, cupy_stream
from .rows import (
    Block,
    Dense,
    Sparse,
    entry,
    matrix_of,
    rows_of_stretch,
    stream_for,
)
from .transfer import upload
from .warp import THREADS, WARP, WARPS, grid_for, sum_of_blocks, sync_warp


def gram(X, y, sample_weight, shift, n_threads) -> Gram:
    """The contract's `gram`."""
    d, t = X.shape[1], y.shape[1]
    width = d + t + 1
    total = np.zeros((width, width))
    with lock, on_device_of(matrix_of(X)):
        stream = stream_for(X, y, sample_weight)
        c = upload("shift", np.zeros(d) if shift is None else shift, stream)
        for block in blocks(X, y, sample_weight, stream):
            total += _products_of_block(block, c, width, stream)
    total = np.triu(total) + np.triu(total, 1).T
    xx, xy = np.ascontiguousarray(total[:d, :d]), np.ascontiguousarray(total[:d, d:-1])
    return Gram(xx, xy, total[:d, -1].copy(), total[d:-1, -1].copy(), float(total[-1, -1]))


def _products_of_block(block: Block, c: DeviceArray, width: int, stream) -> np.ndarray:
    n, step = block.n, rows_of_stretch(width)
    stretches = [(first, min(step, n - first)) for first in range(0, n, step)]
    Z = reserve("Z", min(step, n) * width)
    cupy = cupy_for(n * width * width)
    if cupy is not None:
        with cupy_stream(cupy, stream):
            total = cupy.zeros((width, width))
            for first, rows in stretches:
                _fill(block, c, first, rows, width, Z)
                part = cupy.asarray(Z[: rows * width].reshape(rows, width))
                total += part.T @ part
            return cupy.asnumpy(total)
    tiles = -(-width // TILE)
    pairs = tiles * (tiles + 1) // 2
    splits = max(1, min(4 * multiprocessors() // pairs, -(-min(step, n) // (4 * DEPTH))))
    parts = reserve("parts", splits * width * width)
    for k, (first, rows) in enumerate(stretches):
        _fill(block, c, first, rows, width, Z)
        launch(add_products, (pairs, splits), SIDE * SIDE, stream)(
            native(Z), rows, width, int(k == 0), native(parts)
        )
    return sum_of_blocks(parts, splits, width * width, stream).reshape(width, width)


def _fill(block: Block, c: DeviceArray, first: int, rows: int, width: int, Z: DeviceArray) -> None:
    """Z of these rows of the block."""
    kernel = _fill_csr if isinstance(block.X, Sparse) else _fill_dense
    launch(kernel, grid_for(rows * WARP), THREADS, block.stream)(
        *block.X.arguments, *block.targets.arguments, *block.weights, native(c), first, rows,
        block.X.shape[1], width, native(Z),
    )  # fmt: skip


@Kernel
def _fill_dense(
    flat, start, row_stride, column, y, y_start, y_row, y_column, s, weighted, shift,
    first, rows, d, width, Z,
):  # fmt: skip
    """Z[i] = sqrt(s_i) (x_i - c, y_i, 1) for some rows, one warp per row."""
    X, y_of = Dense(flat, start, row_stride, column), Dense(y, y_start, y_row, y_column)
    lane, mine = cuda.grid(1) % WARP, cuda.grid(1) // WARP
    for r in range(mine, rows, cuda.gridsize(1) // WARP):
        i = first + r
        root = 1.0
        if weighted:
            root = math.sqrt(np.float64(s[i]))
        for j in range(lane, width, WARP):
            value = 1.0
            if j < d:
                value = np.float64(entry(X, i, j)) - shift[j]
            elif j < width - 1:
                value = np.float64(entry(y_of, i, j - d))
            if root == 0.0:  # less the shift it may be infinite
                value = 0.0
            Z[r * width + j] = root * value


@Kernel
def _fill_csr(
    data, indices, indptr, y, y_start, y_row, y_column, s, weighted, shift,
    first, rows, d, width, Z,
):  # fmt: skip
    """Z as in `_fill_dense`, of CSR rows: what zeros become, then the entries over it."""
    y_of = Dense(y, y_start, y_row, y_column)
    lane = cuda.threadIdx.x % WARP
    apart = cuda.gridDim.x * WARPS
    for step in range((rows + apart - 1) // apart):
        r = step * apart + cuda.blockIdx.x * WARPS + cuda.threadIdx.x // WARP
        i = first + r
        root = 1.0
        if r < rows:
            if weighted:
                root = math.sqrt(np.float64(s[i]))
            for j in range(lane, width, WARP):
                value = 1.0
                if j < d:
                    value = -shift[j]
                elif j < width - 1:
                    value = np.float64(entry(y_of, i, j - d))
                Z[r * width + j] = root * value
        sync_warp()
        if r < rows:
            for k in range(indptr[i] + lane, indptr[i + 1], WARP):
                if root != 0.0:
                    Z[r * width + indices[k]] = root * (np.float64(data[k]) - shift[indices[k]])
