"""The CUDA backend where there is no GPU: conformance, streaming, and arrays that live on a device.

Twice: compiled for a GPU and run by the machine in `ptx/`, and on Numba's simulator. Both must be
asked for before Numba is imported, hence in processes of their own, as many at a time as there are
processors; with -P, since the sources in the current folder would hide the installed package.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import ON_PTX_MACHINE, SIMULATED

pytestmark = pytest.mark.skipif(
    ON_PTX_MACHINE or SIMULATED, reason="it is what started this process"
)


def no_ptx_machine() -> str | None:
    """Why it can't be built here."""
    if importlib.util.find_spec("numba_cuda") is None:
        return "numba-cuda is not installed"
    if shutil.which(os.environ.get("CC", "gcc")) is None:
        return "no C compiler"
    if not sys.platform.startswith("linux"):
        return "the machine is written for Linux"
    return None


def runs():
    """(switch, suite), the longest first."""
    missing = no_ptx_machine()
    marks = pytest.mark.skipif(missing is not None, reason=str(missing))
    for suite in ("test_kernels.py", "test_device_arrays.py", "test_ptx_machine.py"):
        yield pytest.param(("FASTLSGD_TEST_PTX", suite), id=f"PTX-{suite}", marks=marks)
    for suite in ("test_kernels.py", "test_device_arrays.py"):
        yield pytest.param(("NUMBA_ENABLE_CUDASIM", suite), id=f"simulator-{suite}")


def start(run):
    switch, suite = run
    return subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--disable-warnings",
         str(Path(__file__).parent / suite)],
        env=os.environ | {switch: "1"},
        capture_output=True,
        text=True,
        timeout=1800,
    )  # fmt: skip


@pytest.fixture(scope="module")
def results(request):
    """What each of the tests that were asked for waits for."""
    wanted = [item for item in request.session.items if item.module is request.module]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {
            run: pool.submit(start, run)
            for run in (item.callspec.params["run"] for item in wanted)
            if run[0] != "FASTLSGD_TEST_PTX" or no_ptx_machine() is None
        }


@pytest.mark.parametrize("run", runs())
def test_cuda(run, results):
    finished = results[run].result()
    assert finished.returncode == 0, finished.stdout[-5000:] + finished.stderr[-2000:]
    assert " passed" in finished.stdout
