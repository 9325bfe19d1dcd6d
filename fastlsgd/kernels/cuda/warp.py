"""The threads of a warp and of a block: their numbers, their exchanges and their sums.

Every thread of a block goes through the same loops the same number of times, with what lies
outside the data masked, so that a warp's exchange and a block's barrier are met by all.

Numba's simulator has no warp shuffles; there `from_lane` goes by way of shared memory, in the same
order. Besides the numbers of threads, that is the only difference between the two.
"""

from __future__ import annotations

import numpy as np

from ..device import DeviceArray
from .compile import SIMULATED, Kernel, cuda, device_function, launch
from .context import multiprocessors
from .memory import native, reserve
from .transfer import download

# The simulator's threads are slow; the code is the same with few of them.
WARP = 4 if SIMULATED else 32
THREADS = 8 if SIMULATED else 256  # of a block
WARPS = THREADS // WARP
FULL = 0xFFFFFFFF  # all lanes of a warp

if SIMULATED:

    @device_function
    def from_lane(value, offset, scratch):
        """The value that the lane at ``lane ^ offset`` has; all lanes of the block call this."""
        thread = cuda.threadIdx.x
        scratch[thread] = value
        cuda.syncthreads()
        other = scratch[thread ^ offset]
        cuda.syncthreads()
        return other

    @device_function
    def sync_warp():
        cuda.syncthreads()

    @device_function
    def load_16_bytes(flat, at):
        return flat[at : at + 16 // flat.itemsize]

else:
    import numba
    from llvmlite import ir
    from numba.cuda.extending import intrinsic

    # Older versions of numba-cuda have no types of their own.
    types = cuda.types if hasattr(cuda.types, "UniTuple") else numba.types

    @device_function
    def from_lane(value, offset, scratch):
        """The value that the lane at ``lane ^ offset`` has; all lanes of the warp call this."""
        return cuda.shfl_xor_sync(FULL, value, offset)

    @device_function
    def sync_warp():
        cuda.syncwarp()

    @intrinsic
    def load_16_bytes(typing_context, flat, at):
        """flat[at : at + 4] (or 2 float64) in one load, from an address that 16 divides."""
        count = 128 // flat.dtype.bitwidth

        def emit(context, builder, signature, arguments):
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            vector = ir.VectorType(context.get_value_type(signature.args[0].dtype), count)
            place = builder.bitcast(builder.gep(data, [arguments[1]]), vector.as_pointer())
            numbers = builder.load(place, align=16)
            parts = [
                builder.extract_element(numbers, ir.Constant(ir.IntType(32), i))
                for i in range(count)
            ]
            return context.make_tuple(builder, signature.return_type, parts)

        return types.UniTuple(flat.dtype, count)(flat, types.intp), emit


@device_function
def sum_of_lanes(value, lanes, scratch):
    """The sum over each group of `lanes` neighbours, known to all of them: a butterfly."""
    offset = lanes // 2
    while offset > 0:
        value += from_lane(value, offset, scratch)
        offset //= 2
    return value


@device_function
def clear(sums, base, m):
    """Set the block's own m sums to zero."""
    for k in range(cuda.threadIdx.x, m, THREADS):
        sums[base + k] = 0.0
    cuda.syncthreads()


def grid_for(work: int) -> int:
    """Blocks for so many independent pieces of work; each thread strides over the grid."""
    return max(1, min(-(-work // THREADS), 16 * multiprocessors()))


@Kernel
def _add_up(parts, blocks, m, out):
    """out[j] = sum over blocks g of parts[g, j]: by warps, each a share of the blocks in order."""
    scratch = cuda.shared.array(THREADS, np.float64)
    thread = cuda.threadIdx.x
    lane, warp = thread % WARP, thread // WARP
    j = cuda.blockIdx.x * WARP + lane
    total = 0.0
    if j < m:
        for g in range(warp, blocks, WARPS):
            total += parts[g * m + j]
    scratch[thread] = total
    cuda.syncthreads()
    if warp == 0 and j < m:
        total = 0.0
        for k in range(WARPS):
            total += scratch[k * WARP + lane]
        out[j] = total


def sum_of_blocks(parts: DeviceArray, blocks: int, m: int, stream) -> np.ndarray:
    """The m sums of all blocks, added up in a fixed order, on the host."""
    out = reserve("sums", m)
    launch(_add_up, -(-m // WARP), THREADS, stream)(native(parts), blocks, m, native(out))
    return download(out, stream)
