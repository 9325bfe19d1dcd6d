"""Matrix products Z^T Z in float64: by cuBLAS where CuPy is installed, else by tiles.

The kernel gives each thread 4 x 4 products of a tile; `DEPTH` rows of two strips lie in shared
memory. 2 loads from there for 4 multiply-adds.
"""

from __future__ import annotations

import numpy as np

from .compile import SIMULATED, Kernel, cuda

SIDE = 2 if SIMULATED else 16  # SIDE x SIDE threads, of 4 x 4 products each
TILE = 4 * SIDE  # rows or columns of a tile
DEPTH = 4 if SIMULATED else 16  # rows of a strip in shared memory
PITCH = DEPTH + 1  # the 1 is for the banks of shared memory
STRIP = DEPTH * TILE
CUBLAS_PRODUCTS = 1e8  # multiply-adds from which a call of cuBLAS pays


def cupy_for(products: float):
    """CuPy, for its cuBLAS; None where it isn't installed, or where its call does not pay."""
    if SIMULATED or products <= CUBLAS_PRODUCTS:
        return None
    try:
        import cupy
    except ImportError:
        return None
    return cupy


def cupy_stream(cupy, stream):
    """The same stream, for CuPy to work on."""
    return cupy.cuda.ExternalStream(int(getattr(stream.handle, "value", stream.handle) or 0))


@Kernel
def add_products(Z, rows, width, fresh, parts):
    """parts[split] += Z^T Z of the split's rows, in tiles on and above the diagonal.

    rows * width^2 flops in all.
    """
    left = cuda.shared.array(STRIP, np.float64)
    right = cuda.shared.array(STRIP, np.float64)
    total = cuda.local.array(16, np.float64)
    thread, split, splits = cuda.threadIdx.x, cuda.blockIdx.y, cuda.gridDim.y
    tx, ty = thread % SIDE, thread // SIDE
    q = 0  # the pair p <= q of tiles
    p = cuda.blockIdx.x
    while p > q:
        p -= q + 1
        q += 1
    for k in range(16):
        total[k] = 0.0
    for base in range(split * DEPTH, rows, splits * DEPTH):
        for place in range(thread, DEPTH * TILE, SIDE * SIDE):
            r, j = base + place // TILE, place % TILE
            inside = r < rows and p * TILE + j < width
            left[place] = Z[r * width + p * TILE + j] if inside else 0.0
            inside = r < rows and q * TILE + j < width
            right[place] = Z[r * width + q * TILE + j] if inside else 0.0
        cuda.syncthreads()
        for r in range(DEPTH):
            for a in range(4):
                x = left[r * TILE + ty + a * SIDE]
                for b in range(4):
                    total[4 * a + b] += x * right[r * TILE + tx + b * SIDE]
        cuda.syncthreads()
    for a in range(4):
        for b in range(4):
            i, j = p * TILE + ty + a * SIDE, q * TILE + tx + b * SIDE
            if i < width and j < width:
                at = (split * width + i) * width + j
                before = 0.0 if fresh else parts[at]
                parts[at] = before + total[4 * a + b]
