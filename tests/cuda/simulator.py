"""A stricter, quicker scheduler for Numba's CUDA simulator.

The simulator starts a thread of the operating system for each CUDA thread and polls them, which
takes a millisecond per barrier. Here they are greenlets, which run one at a time from barrier to
barrier, in a new random order each time, so that a dependence on the order of threads shows up. It
is an error if some threads of a block wait at one barrier while others wait at another or have
ended: a GPU would hang, or worse.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from greenlet import getcurrent, greenlet
from numba.cuda.simulator import kernel, kernelapi
from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

import fastlsgd.kernels

KERNELS = Path(fastlsgd.kernels.__file__).parent / "cuda"


class Thread(greenlet):
    """The attributes of the current thread that the simulator's `cuda` module needs."""

    def __init__(self, function, block, place, block_dim):
        super().__init__(function)
        self.blockIdx, self.threadIdx = kernelapi.Dim3(*block), kernelapi.Dim3(*place)
        self.thread_id = place[0] + block_dim[0] * (place[1] + block_dim[1] * place[2])
        self.barrier = None

    def syncthreads(self):
        self.barrier = _where(sys._getframe(1))
        self.parent.switch()


def _where(frame):
    """The line numbers of the kernel and its device functions on the call stack."""
    lines = []
    while frame is not None and frame.f_code is not run_block.__code__:
        file = Path(frame.f_code.co_filename)
        if file.parent == KERNELS:
            lines.append((file.name, frame.f_lineno))
        frame = frame.f_back
    return tuple(lines)


def run_block(manager, block, *arguments):
    """Replace `BlockManager.run`: run all threads of a block from barrier to barrier."""
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
    """``__cuda_array_interface__``, which Numba's device arrays have and the simulator's don't."""
    interface = dict(array._ary.__array_interface__)
    return interface | {"strides": array._ary.strides, "version": 3, "stream": None}


def install():
    """Make the simulator use this scheduler."""
    FakeCUDAArray.__cuda_array_interface__ = property(_interface)
    kernelapi.threading = SimpleNamespace(current_thread=getcurrent)
    kernel.BlockManager.run = run_block
