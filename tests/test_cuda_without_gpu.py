"""The CUDA backend where there is no GPU: conformance, streaming, and arrays that live on a device.

Twice: compiled for a GPU and run by the machine in `ptx/`, and on Numba's simulator. Both must be
asked for before Numba is imported, hence in processes of their own; with -P, since the sources in
the current folder would hide the installed package.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ON_PTX_MACHINE, SIMULATED

SUITES = ("test_kernels.py", "test_device_arrays.py")

pytestmark = pytest.mark.skipif(
    ON_PTX_MACHINE or SIMULATED, reason="it is what started this process"
)


def run(suite: str, **environment: str) -> None:
    finished = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--disable-warnings",
         str(Path(__file__).parent / suite)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout[-5000:] + finished.stderr[-2000:]
    assert " passed" in finished.stdout


def no_ptx_machine() -> str | None:
    """Why it can't be built here."""
    if importlib.util.find_spec("numba_cuda") is None:
        return "numba-cuda is not installed"
    if shutil.which(os.environ.get("CC", "gcc")) is None:
        return "no C compiler"
    if not sys.platform.startswith("linux"):
        return "the machine is written for Linux"
    return None


@pytest.mark.skipif(no_ptx_machine() is not None, reason=str(no_ptx_machine()))
@pytest.mark.parametrize("suite", ["test_ptx_machine.py", *SUITES])
def test_compiled_code_on_the_ptx_machine(suite):
    run(suite, FASTLSGD_TEST_PTX="1")


@pytest.mark.parametrize("suite", SUITES)
def test_on_numbas_simulator(suite):
    run(suite, NUMBA_ENABLE_CUDASIM="1")
