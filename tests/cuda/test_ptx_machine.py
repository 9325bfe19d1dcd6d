"""The PTX emulator itself (`ptx/`): it runs correct kernels and detects each kind of mistake.

`test_cuda_without_gpu.py` runs these tests in a separate process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ON_PTX_MACHINE

if not ON_PTX_MACHINE:
    pytest.skip("needs FASTLSGD_TEST_PTX=1", allow_module_level=True)

from numba import cuda
from ptx import machine

pytestmark = [pytest.mark.cuda, pytest.mark.filterwarnings("ignore:Grid size")]


@cuda.jit
def sums_of_warps(x, out):
    total = x[cuda.grid(1)]
    for k in range(5):
        total += cuda.shfl_xor_sync(0xFFFFFFFF, total, 16 >> k)
    if cuda.threadIdx.x % 32 == 0:
        out[cuda.grid(1) // 32] = total


@cuda.jit
def reversed_in_blocks(x, out, with_barrier):
    shared = cuda.shared.array(64, np.float64)
    thread = cuda.threadIdx.x
    shared[thread] = x[cuda.grid(1)]
    if with_barrier:
        cuda.syncthreads()
    out[cuda.grid(1)] = shared[63 - thread]


@cuda.jit
def passed_on(x, with_barrier):
    """Each block reads what the next one has written."""
    block, blocks = cuda.blockIdx.x, cuda.gridDim.x
    if cuda.threadIdx.x == 0:
        x[block] = block + 1.0
    if with_barrier:
        cuda.cg.this_grid().sync()
    if cuda.threadIdx.x == 0:
        x[blocks + block] = x[(block + 1) % blocks]


@cuda.jit
def shifted(x, by):
    x[cuda.grid(1) + by] = 1.0


@cuda.jit
def half_meet(x):
    if cuda.threadIdx.x < 16:
        return
    cuda.syncthreads()
    x[cuda.threadIdx.x] = 1.0


@cuda.jit
def doubled(x, out):
    i = cuda.grid(1)
    if i < x.size:
        out[i] = 2.0 * x[i]


def test_shuffles():
    x = np.arange(128.0)
    out = cuda.device_array(4)
    sums_of_warps[2, 64](cuda.to_device(x), out)
    np.testing.assert_array_equal(out.copy_to_host(), x.reshape(4, 32).sum(axis=1))


def test_barriers_of_a_block():
    x, out = np.arange(128.0), cuda.device_array(128)
    reversed_in_blocks[2, 64](cuda.to_device(x), out, True)
    np.testing.assert_array_equal(out.copy_to_host(), x.reshape(2, 64)[:, ::-1].ravel())


def test_barriers_of_the_grid():
    x = cuda.device_array(6)
    passed_on[3, 32](x, True)
    np.testing.assert_array_equal(x.copy_to_host(), [1, 2, 3, 2, 3, 1])


def fails(launch) -> str:
    launch()
    with pytest.raises(cuda.cudadrv.driver.CudaAPIError):
        cuda.synchronize()
    return machine.failure()


def test_races_in_shared_memory_are_found():
    x = cuda.to_device(np.arange(64.0))
    assert "race in shared memory" in fails(lambda: reversed_in_blocks[1, 64](x, x, False))


def test_races_between_blocks_are_found():
    x = cuda.device_array(6)
    assert "race in global memory" in fails(lambda: passed_on[3, 32](x, False))


@pytest.mark.parametrize("by", [-1, 1, 100])
def test_accesses_out_of_bounds_are_found(by):
    x = cuda.device_array(64)
    if by == -1:  # Numba counts negative indices from the end
        by = -65
    assert "which nobody allocated" in fails(lambda: shifted[1, 64](x, by))


def test_meetings_that_some_threads_miss_are_found():
    x = cuda.device_array(32)
    assert "have ended" in fails(lambda: half_meet[1, 32](x))


def test_more_blocks_than_can_meet_are_refused():
    with pytest.raises(ValueError, match="exceeds the limit"):
        passed_on[4, 32](cuda.device_array(8), True)


@pytest.mark.parametrize("wait", [True, False])
def test_work_on_streams_is_late(wait):
    """A pinned buffer must not be filled again before it has been copied."""
    copies, late = cuda.stream(), 0
    for _ in range(20):
        pinned, there = cuda.pinned_array(8), cuda.device_array(8)
        pinned[:] = 1.0
        there.copy_to_device(pinned, stream=copies)
        if wait:
            copies.synchronize()
        pinned[:] = 2.0
        late += there.copy_to_host(stream=copies)[0] == 2.0
    assert late == 0 if wait else late > 0


@pytest.mark.parametrize("wait", [True, False])
def test_streams_wait_for_events_alone(wait):
    one, other, late = cuda.external_stream(_independent()), cuda.external_stream(_independent()), 0
    for _ in range(20):
        x, out = cuda.device_array(8), cuda.device_array(8)
        x.copy_to_device(np.ones(8), stream=one)
        done = cuda.event()
        done.record(one)
        if wait:
            done.wait(other)
        doubled[1, 32, other](x, out)
        late += np.isnan(out.copy_to_host(stream=other)[0])
    assert late == 0 if wait else late > 0


def _independent() -> int:
    """A stream that does not wait for the default stream."""
    from cuda.bindings import driver

    error, stream = driver.cuStreamCreate(driver.CUstream_flags.CU_STREAM_NON_BLOCKING)
    assert int(error) == 0
    return int(stream)


ALL_KERNELS = """
import gc, sys
sys.path[:0] = {folders!r}
import conftest, test_kernels as suite
from fastlsgd.kernels import load_backend
from numba.cuda.dispatcher import CUDADispatcher
kernels = load_backend("cuda")
for targets in (1, 2):
    problem = suite.make_problem(0, 40, 9, targets, "f8", "C")
    suite.all_kernels(kernels, problem, 1)
    for batch, options in ((1, {{}}), (30, {{}}), (30, {{"optimizer": suite.OPTIMIZERS["adam"]}})):
        suite.check_epochs(kernels, problem, [suite.make_epoch(problem, batch, True, **options)])
found = [kernel.stats for kernel in gc.get_objects() if isinstance(kernel, CUDADispatcher)]
print(*(sum(sum(getattr(stats, which).values()) for stats in found)
        for which in ("cache_hits", "cache_misses")))
"""


def test_a_second_process_compiles_nothing(tmp_path):
    cuda = Path(__file__).resolve().parent
    folders = [str(folder) for folder in (cuda, cuda.parent, cuda.parent / "kernels")]
    script = ALL_KERNELS.format(folders=folders)
    environment = os.environ | {"FASTLSGD_TEST_PTX": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    hits, misses = [], []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-P", "-W", "ignore", "-c", script],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        hit, miss = map(int, done.stdout.split())
        hits.append(hit)
        misses.append(miss)
    assert misses[0] == hits[1] > 5
    assert misses[1] == 0
