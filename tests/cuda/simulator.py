"""A stricter, quicker scheduler for Numba's CUDA simulator.

The simulator starts an operating system's thread for each CUDA thread and polls them, a
millisecond a barrier. Here they are greenlets, which run one at a time from barrier to barrier,
in a new random order each time, so that what depends on the order of threads shows. It is an
error where some threads of a block wait at one barrier while others wait at another, or have
ended: on a GPU that hangs, or worse.
"""

from __future__ import annotations

import random
import sys
from types import SimpleNamespace

import numpy as np
from greenlet import getcurrent, greenlet
from numba.cuda.simulator import kernel, kernelapi
from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray


class Thread(greenlet):
    """What the simulator's `cuda` module asks of the current thread."""

    def __init__(self, function, block, place, block_dim):
        super().__init__(function)
        self.blockIdx, self.threadIdx = kernelapi.Dim3(*block), kernelapi.Dim3(*place)
        self.thread_id = place[0] + block_dim[0] * (place[1] + block_dim[1] * place[2])
        self.barrier = None

    def syncthreads(self):
        self.barrier = _where(sys._getframe(1))
        self.parent.switch()


def _where(frame):
    """The lines of the kernel, and of its device functions, that lead here."""
    lines = []
    while frame is not None and frame.f_code is not run_block.__code__:
        if frame.f_code.co_filename.endswith("numba_cuda.py"):
            lines.append(frame.f_lineno)
        frame = frame.f_back
    return tuple(lines)


def run_block(manager, block, *arguments):
    """`BlockManager.run`: all threads of a block, from barrier to barrier."""
    function, dim = manager._f, manager._block_dim
    threads = [
        Thread(lambda: function(*arguments), block, place, dim) for place in np.ndindex(*dim)
    ]
    while threads:
        random.shuffle(threads)
        for thread in threads:
            thread.switch()
        waiting = [thread for thread in threads if not thread.dead]
        barriers = {thread.barrier for thread in waiting}
        assert len(barriers) <= 1, f"threads wait at different barriers, lines {barriers}"
        assert len(waiting) in (0, len(threads)), f"threads ended before the barrier {barriers}"
        threads = waiting


def _interface(array):
    """What Numba's arrays on a GPU say of themselves, and the simulator's don't."""
    interface = dict(array._ary.__array_interface__)
    return interface | {"strides": array._ary.strides, "version": 3, "stream": None}


def install():
    """Let the simulator use it."""
    FakeCUDAArray.__cuda_array_interface__ = property(_interface)
    kernelapi.threading = SimpleNamespace(current_thread=getcurrent)
    kernel.BlockManager.run = run_block
