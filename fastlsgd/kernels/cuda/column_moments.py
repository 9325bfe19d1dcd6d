"""The contract's `column_moments`: weighted sums of x - c and of its squares, for each column."""

from __future__ import annotations

import numpy as np

from .centred_rows import Centred
from .compile import Kernel, cuda, launch
from .context import lock, multiprocessors, on_device_of
from .loss_gradient import TILE_ROWS, csr_sums_that_fit
from .memory import native, reserve
from .rows import Sparse, Weights, matrix_of, resident, rows_of_stretch, stream_for, weight_of
from .transfer import copy_beside
from .warp import THREADS, WARP, WARPS, clear, sum_of_blocks, sync_warp


def column_moments(X, sample_weight, shift) -> tuple[np.ndarray, np.ndarray]:
    """The contract's `column_moments`."""
    matrix, d = matrix_of(X), X.shape[1]
    with lock, on_device_of(matrix):
        stream = stream_for(X, sample_weight)
        s = None if sample_weight is None else copy_beside(sample_weight, matrix, stream)
        rows = resident(X, stream)
        if isinstance(rows, Sparse):
            sums = _moments_of_csr(rows, s, stream)
        else:
            change = Centred.of(rows, shift, matrix, stream)
            sums = _moments_of_dense(change, s, stream)
    return sums[:d], sums[d:]


def _moments_of_dense(change: Centred, s, stream) -> np.ndarray:
    """A stretch of rows at a time: centred, then summed."""
    n, d = change.rows.shape
    step = min(n, rows_of_stretch(d))
    across = -(-d // THREADS)
    splits = max(1, min(8 * multiprocessors() // across, step // 8))
    parts = reserve("parts", splits * 2 * d)
    for first in range(0, n, step):
        rows = min(step, n - first)
        A = reserve("centred rows", rows * d)
        change.write_into(A, first, rows, stream)
        weights = A if s is None else s[first : first + rows]
        launch(_column_sums, (across, splits), THREADS, stream)(
            native(A), rows, d, native(weights), int(s is not None), int(first == 0), native(parts)
        )
    return sum_of_blocks(parts, splits, 2 * d, stream)


@Kernel
def _column_sums(A, rows, d, s, weighted, fresh, parts):
    """parts[split] += sums of s a and s a^2 over the split's rows, one thread per column."""
    j = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
    split, splits = cuda.blockIdx.y, cuda.gridDim.y
    if j < d:
        at = split * 2 * d + j
        first = 0.0 if fresh else parts[at]
        second = 0.0 if fresh else parts[at + d]
        for r in range(split, rows, splits):
            a = A[r * d + j]
            weight = weight_of(Weights(s, weighted), r)
            first += weight * a
            second += weight * a * a
        parts[at] = first
        parts[at + d] = second


def _moments_of_csr(rows: Sparse, s, stream) -> np.ndarray:
    n, d = rows.shape
    grid = max(1, min(2 * multiprocessors(), -(-n // TILE_ROWS), csr_sums_that_fit(2 * d)))
    parts = reserve("parts", grid * 2 * d)
    weights = rows.data if s is None else s
    launch(_csr_column_sums, grid, THREADS, stream)(
        *rows.arguments, n, d, native(weights), int(s is not None), native(parts)
    )
    return sum_of_blocks(parts, grid, 2 * d, stream)


@Kernel
def _csr_column_sums(data, indices, indptr, n, d, s, weighted, parts):
    """Each block's sums of s x and s x^2; each warp owns every `WARPS`-th column of them.

    As in `gradient_of_csr`, all warps go through all entries.
    """
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    base = cuda.blockIdx.x * 2 * d
    clear(parts, base, 2 * d)
    for i in range(cuda.blockIdx.x, n, cuda.gridDim.x):
        weight = weight_of(Weights(s, weighted), i)
        for e in range(indptr[i] + lane, indptr[i + 1], WARP):
            j = indices[e]
            if j % WARPS == warp:
                x = np.float64(data[e])
                parts[base + j] += weight * x
                parts[base + d + j] += weight * x * x
        sync_warp()  # the next row's entries of these columns may be other lanes'
