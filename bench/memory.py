"""The memory that one call needs beyond its inputs, measured in a separate process.

    python bench/memory.py KERNEL LAYOUT DTYPE BACKEND

prints the growth in bytes: the highest resident set size during the call less that before it. This
needs Linux, where the record of the highest can be reset once X has been made.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

STATUS, MARK = Path("/proc/self/status"), Path("/proc/self/clear_refs")

# Kernel and layout. "wide" has 50 rows of a million columns: there w is the large array.
CASES = (
    ("loss_gradient", "C"),
    ("loss_gradient", "F"),
    ("loss_gradient", "every second row"),
    ("loss_gradient", "10 targets"),
    ("loss_gradient", "wide"),
    ("loss_gradient", "CSR"),
    ("sgd_epoch", "C"),
    ("sgd_epoch", "F"),
    ("sgd_epoch", "wide"),
    ("sgd_epoch", "CSR"),
    ("SGDRegressor.fit", "C"),
)
X_NUMBERS = 50_000_000
WIDE = 1_000_000


def n_features(layout: str) -> int:
    return {"wide": WIDE, "CSR": 100_000}.get(layout, 100)


def can_measure() -> bool:
    return MARK.exists()


def growth_of(kernel: str, layout: str, dtype: str, backend: str) -> int:
    """The growth in bytes, in a new process: memory that an earlier call left would hide some."""
    command = [sys.executable, __file__, kernel, layout, dtype, backend]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(answer.stdout)


def _problem(layout: str, dtype: str, n_numbers: int, wide: int):
    import arrays

    if layout == "CSR":
        return arrays.csr(n_numbers // arrays.CSR_PER_ROW, n_features(layout), dtype)
    if layout == "10 targets":
        return arrays.dense(n_numbers // 100, 100, dtype, n_targets=10)
    if layout == "wide":
        return arrays.dense(n_numbers // wide, wide, dtype)
    return arrays.dense(n_numbers // 100, 100, dtype, layout)


def _call(kernel: str, problem, backend: str) -> Callable[[], object]:
    import peers

    import fastlsgd

    if kernel == "loss_gradient":
        return peers.gradient(backend, problem)
    if kernel == "sgd_epoch":
        X, y, w = problem.X, problem.y, np.zeros_like(problem.coef)
        return lambda: fastlsgd.sgd_epoch(X, y, w, learning_rate=problem.rate, backend=backend)
    fit = peers.sgd_fit(backend, problem, shuffle=True)
    return lambda: fit(2)


def resident(key: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {key} in {STATUS}")


def main(kernel: str, layout: str, dtype: str, backend: str) -> None:
    # A tiny call comes first, since loading and compiling code is not to be measured.
    _call(kernel, _problem(layout, dtype, 20_000, wide=1_000), backend)()
    problem = _problem(layout, dtype, X_NUMBERS, WIDE)
    call = _call(kernel, problem, backend)
    MARK.write_text("5")
    before = resident("VmRSS:")
    result = call()
    print(resident("VmHWM:") - before)
    del result


if __name__ == "__main__":
    main(*sys.argv[1:])
