"""Build, check and time the CUDA backend: one call, under 8 minutes, on a fresh machine with a GPU.

    python bench/gpu_check.py [--out FOLDER] [--rows 4000000] [--checks 150] [--quick]
    python bench/gpu_check.py --compile [NAME ...]     # without a GPU: registers, stack, spills

It runs from a checkout, with what is installed, and reports what is missing instead of failing. It
writes gpu_check.json and gpu_check.md. It does the following in order, each with its own share of
the time:

1. It builds the native module for this Python, where there is none, and lists what is installed.
2. It compares every kernel with `reference.py` on fresh random inputs, on the device with their
   strides and on the host, with NaN in the workspace (gpu/checks.py).
3. It takes medians of times by CUDA events, for an X larger than the second-level cache
   (gpu/times.py): the bandwidth of a copy; loss_gradient beside CuPy, PyTorch (two passes, and
   torch.compile) and JAX; sgd_epoch of batch 1,024 beside a torch.optim loop; exact batch-1 SGD
   beside the native backend on this machine's processor; a fit of least squares beside CuPy's
   lstsq; regressions of groups beside the native backend; cuML where it is installed.
4. It runs compute-sanitizer over small cases, where it is installed, and the tests marked `cuda`
   (gpu/sanitizers.py).

The bars are `BARS` in gpu/report.py. `--compile` is gpu/compiled.py.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The modules below import suites of tests/, whose conftest must come before that of bench/.
sys.path[:0] = [str(ROOT / "tests" / folder) for folder in (".", "support", "kernels", "cuda")]
sys.path.append(str(ROOT / "bench"))  # where Python is started with -P
if importlib.util.find_spec("fastlsgd") is None:
    sys.path.insert(0, str(ROOT))
# JAX would take three quarters of the GPU's memory, and leave the others too little.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

from gpu.checks import check_all  # noqa: E402
from gpu.compiled import compile_all  # noqa: E402
from gpu.report import DEADLINE, MEASUREMENTS, Report, versions  # noqa: E402
from gpu.sanitizers import run_tests, sanitize, small_run  # noqa: E402
from gpu.times import time_all  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "gpu_check")))
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--columns", type=int, default=256)
    parser.add_argument(
        "--checks", type=float, default=150.0, metavar="SECONDS",
        help="for comparing with the reference, where compiling takes most of the time",
    )  # fmt: skip
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the rows, no compute-sanitizer, no tests"
    )
    parser.add_argument(
        "--compile", nargs="*", metavar="NAME",
        help="compile only, the kernels whose names have these in them; needs a C compiler, no GPU",
    )  # fmt: skip
    parser.add_argument("--small", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.small:
        small_run()
        return 0
    report = Report(arguments.out)
    report.note("versions", versions())
    if arguments.compile is not None:
        compile_all(report, arguments.compile)
    else:
        measure(report, arguments)
    report.note("failed", report.failed, ", ".join(report.failed) or "nothing")
    return 1 if report.failed else 0


def build(report: Report) -> None:
    """The package with its native module, for this Python, without a network."""
    site = report.folder.resolve() / "site"
    command = [
        sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--upgrade",
        "--no-build-isolation", "--target", site, ROOT,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode == 0:
        sys.path.insert(0, str(site))
        os.environ["PYTHONPATH"] = str(site)
        report.note("build", "built")
    else:  # not a failure: the checkout itself has all but the native backend
        report.note("build", done.stderr[-500:], f"from the checkout: {done.stderr[-200:]!r}")


def measure(report: Report, arguments) -> None:
    package = Path(importlib.util.find_spec("fastlsgd").origin).parent
    if not (package / "kernels" / f"native{EXTENSION_SUFFIXES[0]}").exists():
        with report.part("build", 130.0) as go:
            if go:
                build(report)
    from fastlsgd.kernels import available_backends, load_backend

    report.note("backends", available_backends())
    try:
        report.note("device", load_backend("cuda").isa())
    except ImportError as error:
        report.failed.append("no GPU")
        report.note("device", str(error))
        return
    rows = arguments.rows // 10 if arguments.quick else arguments.rows
    with report.part("checks", 0.0):
        left = DEADLINE - sum(MEASUREMENTS.values()) - (time.perf_counter() - report.begun)
        check_all(report, time.time_ns() % 2**31, rows, min(arguments.checks, left))
    time_all(report, rows, arguments.columns)
    if arguments.quick:
        return
    for tool in ("memcheck", "racecheck"):
        with report.part(f"compute-sanitizer {tool}", 100.0) as go:
            if go:
                sanitize(report, tool)
    with report.part("tests", 30.0) as go:
        if go:
            run_tests(report)


if __name__ == "__main__":
    raise SystemExit(main())
