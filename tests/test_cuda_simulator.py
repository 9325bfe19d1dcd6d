"""The CUDA backend on Numba's simulator: conformance, streaming, and arrays that live on a device.

The simulator must be asked for before Numba is imported, hence a process of its own; with -P, since
the sources in the current folder would hide the installed package.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SIMULATED

SUITES = ("test_kernels.py", "test_device_arrays.py")


@pytest.mark.skipif(SIMULATED, reason="it is what started this process")
@pytest.mark.parametrize("suite", SUITES)
def test_cuda_conforms(suite):
    finished = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--disable-warnings",
         str(Path(__file__).parent / suite)],
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout[-5000:] + finished.stderr[-2000:]
    assert " passed" in finished.stdout
