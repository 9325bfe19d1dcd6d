"""The CUDA backend without a GPU: conformance, streaming, and arrays on a device.

The suites run twice: compiled for a GPU and run by the PTX emulator in `ptx/`, and on Numba's
simulator. Either must be chosen before Numba is imported, so that the suites need separate
processes. They run with -P, since the sources in the current directory would hide the installed
package. `pytest -n auto tests/cuda` runs as many of them at a time as there are processors.

They need what the extra "test-cuda" installs, and skip without it; with FASTLSGD_TEST_CUDA=1, as
in .ci/run, they fail.

The PTX emulator also runs bench/gpu_check.py on small data, which would otherwise never run without
a GPU.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ON_PTX_MACHINE, SIMULATED

pytestmark = pytest.mark.skipif(
    ON_PTX_MACHINE or SIMULATED, reason="it is what started this process"
)


TESTS = Path(__file__).resolve().parents[1]


INSTALL = 'pip install ".[test-cuda]"'
REQUIRED = os.environ.get("FASTLSGD_TEST_CUDA") == "1"


def no_ptx_machine() -> str | None:
    """Why the PTX emulator can't be built here, or None if it can."""
    if not sys.platform.startswith("linux"):
        return "the emulator is written for Linux"
    if importlib.util.find_spec("numba_cuda") is None:
        return f"numba-cuda is not installed: {INSTALL}"
    if shutil.which(os.environ.get("CC", "gcc")) is None:
        return "no C compiler"
    return None


def no_simulator() -> str | None:
    """Why Numba's simulator can't be used here, or None if it can."""
    for name in ("numba", "greenlet"):
        if importlib.util.find_spec(name) is None:
            return f"{name} is not installed: {INSTALL}"
    return None


def needs(why_not: str | None):
    """Skip for this reason, except where nothing may be missing."""
    return pytest.mark.skipif(why_not is not None and not REQUIRED, reason=str(why_not))


needs_ptx_machine, needs_simulator = needs(no_ptx_machine()), needs(no_simulator())

# A part of the longest suite: the SGD kernels take minutes to compile; `pytest -m long` has them.
PARTS = {
    "optimizers": [needs_ptx_machine, pytest.mark.long],
    "epoch and not optimizers": [needs_ptx_machine, pytest.mark.long],
    "not (epoch or optimizers)": [needs_ptx_machine],
}


KERNELS = tuple(f"kernels/test_kernels{what}.py" for what in ("", "_sgd", "_segments", "_threads"))
ON_DEVICE = tuple(f"cuda/test_device_{what}.py" for what in ("kernels", "functions", "classifiers"))


def runs():
    """(switch, suites, selection of tests) of each run.

    On the simulator each suite is a run of its own: two runs of several minutes would be the last
    to start, and leave the other processors idle.
    """
    for suites, part, marks in (
        *((KERNELS, part, marks) for part, marks in PARTS.items()),
        (ON_DEVICE, "", [needs_ptx_machine]),
        (("cuda/test_ptx_machine.py",), "", [needs_ptx_machine]),
    ):
        run = "FASTLSGD_TEST_PTX", suites, part
        yield pytest.param(run, id=f"PTX-{suites[0]} {part}", marks=marks)
    for suite in (*KERNELS, *ON_DEVICE):
        run = "NUMBA_ENABLE_CUDASIM", (suite,), ""
        yield pytest.param(run, id=f"simulator-{suite}", marks=needs_simulator)


@pytest.mark.parametrize("run", list(runs()))
def test_cuda(run):
    switch, suites, part = run
    finished = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider",
         "--disable-warnings", "-k", part, *(str(TESTS / suite) for suite in suites)],
        env=os.environ | {switch: "1", "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout[-7000:]
    assert " passed" in finished.stdout


GPU_CHECK = TESTS.parent / "bench" / "gpu_check.py"


def run_gpu_check(*arguments: str) -> None:
    program = (
        "import runpy, sys; from ptx import machine; machine.install(); del sys.argv[0]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    finished = subprocess.run(
        [sys.executable, "-P", "-c", program, str(GPU_CHECK), *arguments],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert finished.returncode == 0, finished.stdout[-5000:] + finished.stderr[-2000:]


@needs_ptx_machine
def test_gpu_check_from_end_to_end(tmp_path):
    small = "--quick", "--rows", "5000", "--columns", "32", "--checks", "1"
    run_gpu_check("--out", str(tmp_path), *small)
    result = json.loads((tmp_path / "gpu_check.json").read_text())
    assert result["failed"] == []
    assert result["parts"]["checks passed"] >= 1
    for part in ("loss_gradient", "sgd_epoch of batch 1,024", "least squares to 1e-6",
                 "groups of 50 rows", "loss_gradient of host rows"):  # fmt: skip
        assert result["parts"][part] > 0.0


@needs_ptx_machine
def test_gpu_check_runs_what_a_sanitizer_watches():
    run_gpu_check("--small")


@needs_ptx_machine
def test_gpu_check_weighs_kernels(tmp_path):
    wanted = "gradient_of_rows", "chunks=1", "lanes=32", "float32"
    command = [sys.executable, "-P", GPU_CHECK, "--out", tmp_path, "--compile", *wanted]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert finished.returncode == 0, finished.stdout[-5000:] + finished.stderr[-2000:]
    parts = json.loads((tmp_path / "gpu_check.json").read_text())["parts"]
    (found,) = (value for name, value in parts.items() if name.startswith("gradient_of_rows"))
    assert 32 < found["registers"] <= 255
    assert found["shared"] == 2048  # one float64 per thread
    assert found["stack"] == found["spilt"] == 0


@pytest.fixture
def gpu_check():
    spec = importlib.util.spec_from_file_location("gpu_check", GPU_CHECK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)  # which puts the folder of its parts on the path
    return module


@pytest.fixture
def parts(gpu_check):
    """The parts of it that need no GPU."""
    return SimpleNamespace(
        Report=gpu_check.Report,
        weigh=importlib.import_module("gpu.compiled").weigh,
        sanitizers=importlib.import_module("gpu.sanitizers"),
    )


@pytest.mark.parametrize(
    ("frame", "spilt", "called", "failed"),
    [(0, 0, 0, []), (512, 0, 0, ["k has an array on the stack"]), (0, 0, 16, []),
     (16, 20, 0, ["k spills registers"])],
)  # fmt: skip
def test_gpu_check_finds_arrays_on_the_stack_and_spills(
    parts, tmp_path, frame, spilt, called, failed
):
    told = f"""ptxas info    : Compiling entry function '_Zk' for 'sm_90a'
ptxas info    : Function properties for _Zk
ptxas         .     {frame} bytes stack frame, {spilt} bytes spill stores, 0 bytes spill loads
ptxas info    : Function properties for pow
ptxas         .     {called} bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 167 registers, used 1 barriers, {frame + called} bytes cumulative stack size
"""
    library = SimpleNamespace(get_cubin=lambda cc: None, get_linkerinfo=lambda cc: told)
    report = parts.Report(tmp_path)
    parts.weigh(report, "k", SimpleNamespace(_codelibrary=library))
    assert report.failed == failed
    assert report.parts["k"]["registers"] == 167


def test_gpu_check_says_when_a_sanitizer_ran_out_of_time(parts, tmp_path, monkeypatch):
    def run(*args, timeout, **options):
        raise subprocess.TimeoutExpired(args, timeout)

    monkeypatch.setattr(parts.sanitizers.shutil, "which", lambda name: sys.executable)
    monkeypatch.setattr(parts.sanitizers.subprocess, "run", run)
    report = parts.Report(tmp_path)
    parts.sanitizers.sanitize(report, "memcheck")
    assert report.failed == []
    assert report.parts["compute-sanitizer memcheck"] == "ran out of time"
