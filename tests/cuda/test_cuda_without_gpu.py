"""The CUDA backend without a GPU: conformance, streaming, and arrays on a device.

The suites run twice: compiled for a GPU and run by the PTX machine in `ptx/`, and on Numba's
simulator. Either must be chosen before Numba is imported, so that the suites need separate
processes. As many of these as there are processors run at a time, while all other tests do. They
run with -P, since the sources in the current directory would hide the installed package.

The PTX machine also runs bench/gpu_check.py on small data, which would otherwise never run without
a GPU.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ON_PTX_MACHINE, SIMULATED

pytestmark = pytest.mark.skipif(
    ON_PTX_MACHINE or SIMULATED, reason="it is what started this process"
)


TESTS = Path(__file__).resolve().parents[1]


def no_ptx_machine() -> str | None:
    """Why the PTX machine can't be built here, or None if it can."""
    if importlib.util.find_spec("numba_cuda") is None:
        return "numba-cuda is not installed"
    if shutil.which(os.environ.get("CC", "gcc")) is None:
        return "no C compiler"
    if not sys.platform.startswith("linux"):
        return "the machine is written for Linux"
    return None


needs_ptx_machine = pytest.mark.skipif(no_ptx_machine() is not None, reason=str(no_ptx_machine()))


# A part of the longest suite: the SGD kernels take minutes to compile; `pytest -m long` has them.
PARTS = {
    "optimizers": [needs_ptx_machine, pytest.mark.long],
    "epoch and not optimizers": [needs_ptx_machine, pytest.mark.long],
    "not (epoch or optimizers)": [needs_ptx_machine],
}


def runs():
    """(switch, suite, selection of tests) of each run, the longest first."""
    for suite, part, marks in (
        *(("kernels/test_kernels.py", part, marks) for part, marks in PARTS.items()),
        ("cuda/test_device_arrays.py", "", [needs_ptx_machine]),
        ("cuda/test_ptx_machine.py", "", [needs_ptx_machine]),
    ):
        run = "FASTLSGD_TEST_PTX", suite, part
        yield pytest.param(run, id=f"PTX-{suite} {part}", marks=marks)
    for suite in ("kernels/test_kernels.py", "cuda/test_device_arrays.py"):
        yield pytest.param(("NUMBA_ENABLE_CUDASIM", suite, ""), id=f"simulator-{suite}")


pool = ThreadPoolExecutor(os.cpu_count())
results: dict[tuple, Future] = {}
running: list[subprocess.Popen] = []


def begin(session) -> None:
    """Start the processes for which the selected tests wait (conftest.py)."""
    for item in session.items:
        if item.module.__name__ == __name__ and item.function.__name__ == "test_cuda":
            run = item.callspec.params["run"]
            if not any(mark.args[0] for mark in item.iter_markers("skipif")):
                results[run] = pool.submit(outcome, run)


def end() -> None:
    """End the processes if the session ends early."""
    pool.shutdown(wait=False, cancel_futures=True)
    for process in running:
        process.kill()


def outcome(run) -> tuple[int, str]:
    """Exit status and output of a suite, which runs at low priority."""
    switch, suite, part = run
    process = subprocess.Popen(
        ["nice", sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider",
         "--disable-warnings", "-k", part, str(TESTS / suite)],
        env=os.environ | {switch: "1", "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    running.append(process)
    output, _ = process.communicate(timeout=1800)
    return process.returncode, output


@pytest.mark.parametrize("run", list(runs()))
def test_cuda(run):
    status, output = results[run].result()
    assert status == 0, output[-7000:]
    assert " passed" in output


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
        timeout=600,
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
                 "loss_gradient of host rows"):  # fmt: skip
        assert result["parts"][part] > 0.0


@needs_ptx_machine
def test_gpu_check_runs_what_a_sanitizer_watches():
    run_gpu_check("--small")


@needs_ptx_machine
def test_gpu_check_weighs_kernels(tmp_path):
    wanted = "gradient_of_rows", "chunks=1", "lanes=32", "float32"
    command = [sys.executable, "-P", GPU_CHECK, "--out", tmp_path, "--compile", *wanted]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=600)
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
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("frame", "spilt", "called", "failed"),
    [(0, 0, 0, []), (512, 0, 0, ["k has an array on the stack"]), (0, 0, 16, []),
     (16, 20, 0, ["k spills registers"])],
)  # fmt: skip
def test_gpu_check_finds_arrays_on_the_stack_and_spills(
    gpu_check, tmp_path, frame, spilt, called, failed
):
    told = f"""ptxas info    : Compiling entry function '_Zk' for 'sm_90a'
ptxas info    : Function properties for _Zk
ptxas         .     {frame} bytes stack frame, {spilt} bytes spill stores, 0 bytes spill loads
ptxas info    : Function properties for pow
ptxas         .     {called} bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 167 registers, used 1 barriers, {frame + called} bytes cumulative stack size
"""
    library = SimpleNamespace(get_cubin=lambda cc: None, get_linkerinfo=lambda cc: told)
    report = gpu_check.Report(tmp_path)
    gpu_check.weigh(report, "k", SimpleNamespace(_codelibrary=library))
    assert report.failed == failed
    assert report.parts["k"]["registers"] == 167


def test_gpu_check_says_when_a_sanitizer_ran_out_of_time(gpu_check, tmp_path, monkeypatch):
    def run(*args, timeout, **options):
        raise subprocess.TimeoutExpired(args, timeout)

    monkeypatch.setattr(gpu_check.shutil, "which", lambda name: sys.executable)
    monkeypatch.setattr(gpu_check.subprocess, "run", run)
    report = gpu_check.Report(tmp_path)
    gpu_check.sanitize(report, "memcheck")
    assert report.failed == []
    assert report.parts["compute-sanitizer memcheck"] == "ran out of time"
