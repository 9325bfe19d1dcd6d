"""The report that `gpu_check.py` writes, its time limits and its bars."""

from __future__ import annotations

import json
import platform
import statistics
import time
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

DEADLINE = 450.0  # seconds in all; parts that would begin later are left out, and named
# Seconds that each measurement may take. The checks before them leave as many in all.
MEASUREMENTS = {
    "copy": 20.0, "gradients": 40.0, "epochs": 40.0, "learning_rate='auto'": 20.0,
    "least squares": 30.0, "groups": 15.0, "cuML": 20.0, "streaming": 20.0,
}  # fmt: skip
BARS = {
    "loss_gradient, share of the read bandwidth that the copy implies": 0.85,
    "loss_gradient, times faster than CuPy": 1.7,
    "loss_gradient, times faster than PyTorch": 1.7,
    "sgd_epoch of batch 1,024, times faster than torch.optim": 20.0,
    "exact batch-1 SGD, times faster than native on the CPU": 3.0,
    "least squares to 1e-6, times faster than CuPy's lstsq": 5.0,
}


PACKAGES = (
    "numba", "numba-cuda", "cuda-core", "cuda-bindings", "cupy-cuda13x", "cupy-cuda12x", "torch",
    "jax", "cuml", "numpy", "scipy", "scikit-learn", "hypothesis", "pytest", "greenlet",
)  # fmt: skip


class Report:
    """The results in order. They are written after each part, so that a killed run leaves them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.begun = folder, time.perf_counter()
        self.parts: dict[str, object] = {}
        self.rows: list[tuple[str, str]] = []
        self.failed: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)

    def note(self, name: str, value: object, shown: str | None = None) -> None:
        self.parts[name] = value
        self.rows.append((name, str(value) if shown is None else shown))
        print(f"{time.perf_counter() - self.begun:6.1f} s  {name}: {self.rows[-1][1]}", flush=True)
        self.write()

    def write(self) -> None:
        result = {"parts": self.parts, "failed": self.failed}
        (self.folder / "gpu_check.json").write_text(json.dumps(result, indent=1, default=str))
        lines = ["| what | found |", "| --- | --- |", *(f"| {a} | {b} |" for a, b in self.rows)]
        (self.folder / "gpu_check.md").write_text("\n".join(lines) + "\n")

    @contextmanager
    def part(self, name: str, seconds: float):
        """A part that may take so many seconds; its failure does not end the others."""
        left = DEADLINE - (time.perf_counter() - self.begun)
        self.skip = left < seconds
        try:
            if self.skip:
                self.note(name, "left out", f"left out: {left:.0f} s left")
            yield not self.skip
        except Exception as error:
            self.failed.append(name)
            self.note(name, repr(error), f"FAILED: {type(error).__name__}: {str(error)[:600]}")


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def library(name: str):
    """The module, or None where it is missing or does not load."""
    try:
        return __import__(name)
    except Exception:
        return None


def device_seconds(call, repeats: int = 7) -> float:
    """Median seconds between two CUDA events around a call, after two calls that warm up."""
    from numba import cuda

    call()
    call()
    cuda.synchronize()
    spans = []
    for _ in range(repeats):
        start, end = cuda.event(timing=True), cuda.event(timing=True)
        start.record()
        call()
        cuda.synchronize()
        end.record()
        end.synchronize()
        spans.append(cuda.event_elapsed_time(start, end) / 1e3)
    return statistics.median(spans)


def ratio(report: Report, name: str, value: float) -> None:
    bar = BARS[name]
    verdict = "meets" if value >= bar else "misses"
    report.note(name, value, f"{value:.2f}, {verdict} the bar of {bar:g}")
