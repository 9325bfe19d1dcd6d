"""Run compute-sanitizer over small cases, and the tests marked `cuda`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from .report import DEADLINE, ROOT, Report, library


def sanitize(report: Report, tool: str) -> None:
    """Run a tool of compute-sanitizer over a small run of every kernel."""
    program = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(program).exists():
        report.note(f"compute-sanitizer {tool}", "not installed")
        return
    command = [
        program, "--tool", tool, "--error-exitcode", "9", sys.executable,
        str(ROOT / "bench" / "gpu_check.py"), "--small",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    except subprocess.TimeoutExpired:
        report.note(f"compute-sanitizer {tool}", "ran out of time")
        return
    shown = done.stdout.strip().splitlines()[-1:] or done.stderr.strip().splitlines()[-1:]
    if done.returncode:
        report.failed.append(f"compute-sanitizer {tool}")
    report.note(f"compute-sanitizer {tool}", done.returncode, f"exit {done.returncode}: {shown}")


def small_run() -> None:
    """Call every kernel on small data, for the sanitizer to watch."""
    import test_kernels as suite

    from fastlsgd.kernels import load_backend

    kernels = load_backend("cuda")
    for layout in ("C", "F", np.int32):
        for targets in (1, 2):
            problem = suite.make_problem(7, 300, 36, targets, np.float32, layout, True, 0.5)
            suite.check_loss_gradient(kernels, problem, 1)
            suite.check_predict(kernels, problem, 1)
            suite.check_gram(kernels, problem, None, 1)
            for batch in (1, 32, 256):
                suite.check_epochs(kernels, problem, [suite.make_epoch(problem, batch, True)])
            rows_that_stay(kernels, problem)


def rows_that_stay(kernels, problem) -> None:
    """Call what learning_rate="auto" needs for an X on the device."""
    from fastlsgd.kernels.contract import CSR
    from fastlsgd.kernels.device import as_device_array

    def send(part):
        if isinstance(part, CSR):
            return CSR(*(send(array) for array in part[:3]), part.shape)
        return as_device_array(kernels.to_numba_array(part, 0))

    X, y, s = send(problem.X), send(problem.y), send(problem.s)
    d = X.shape[1]
    for _ in kernels.centred_rows(X, y, s, np.ones(d)):
        pass
    kernels.column_moments(X, s, np.ones(d))


def run_tests(report: Report) -> None:
    if library("pytest") is None or library("hypothesis") is None:
        report.note("pytest -m cuda", "pytest or hypothesis is not installed")
        return
    command = [
        sys.executable, "-P", "-m", "pytest", "-q", "-m", "cuda", "--disable-warnings", "-x",
        "-p", "no:cacheprovider", str(ROOT / "tests"),
    ]  # fmt: skip
    left = DEADLINE - (time.perf_counter() - report.begun)
    path = os.environ.get("PYTHONPATH", str(ROOT))
    environment = os.environ | {"PYTHONPATH": path, "FASTLSGD_TEST_ALLOW_MISSING": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=max(30.0, left), env=environment
        )
    except subprocess.TimeoutExpired:
        report.note("pytest -m cuda", "ran out of time")
        return
    (report.folder / "pytest.log").write_text(done.stdout + done.stderr)
    if done.returncode:
        report.failed.append("pytest -m cuda")
    report.note("pytest -m cuda", done.returncode, (done.stdout.strip().splitlines() or ["?"])[-1])
