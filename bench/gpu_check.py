"""Build, check and time the CUDA backend: one call, under 8 minutes, on a fresh machine with a GPU.

    python bench/gpu_check.py [--out FOLDER] [--rows 4000000] [--checks 150] [--quick]
    python bench/gpu_check.py --compile [NAME ...]     # without a GPU: registers, stack, spills

Runs from a checkout, with what is installed: says what is missing instead of failing. Writes
gpu_check.json and gpu_check.md. In this order, each part with its own share of the time:

1. a build of this Python's own native module, where it isn't there, and what is installed;
2. every kernel against `reference.py` on fresh random inputs, on the device as they lie and on the
   host, outputs poisoned before; the bandwidth of a device-to-device copy;
3. times by CUDA events, medians, X larger than the second-level cache: loss_gradient beside CuPy,
   PyTorch (two passes, and torch.compile) and JAX; sgd_epoch of batch 1,024 beside a torch.optim
   loop; exact batch-1 SGD beside the native backend on this machine's processor; a fit of least
   squares beside CuPy's lstsq; cuML where it is installed;
4. compute-sanitizer over small cases, where it is installed, and the tests marked `cuda`.

The bars are those of the issue: see `BARS`.
"""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import itertools
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "cuda"))
if importlib.util.find_spec("fastlsgd") is None:
    sys.path.insert(0, str(ROOT))
# JAX would take three quarters of the GPU's memory, and leave the others too little.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

DEADLINE = 450.0  # seconds in all; parts that would begin later are left out, and named
# What each measurement may take. Together they are kept free of the checks that come before.
MEASUREMENTS = {
    "copy": 20.0, "gradients": 40.0, "epochs": 40.0, "learning_rate='auto'": 20.0,
    "least squares": 30.0, "cuML": 20.0, "streaming": 20.0,
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
    """What was found, in order; written out after each part, so that a killed run leaves it."""

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


# ----------------------------------------------------------------------------------------------
# Without a GPU
# ----------------------------------------------------------------------------------------------

HOPPER = (9, 0, "a")
WIDTHS = (8, 33, 128, 256, 512, 1000)  # columns, for each way to lay a row over the lanes of a warp


def compile_all(report: Report, wanted: list[str]) -> None:
    """Each kernel that calls of the backend launch, as Numba builds it for compute capability 9.0.

    `wanted`: parts of the names of kernels; none is all. The driver is that of tests/cuda/ptx;
    nothing is run, and what the calls return is whatever lies in memory.
    """
    from ptx import machine

    machine.driver()
    from numba.cuda import dispatcher
    from numba.cuda.cudadrv import driver

    driver.LinkerOptions = partial(driver.LinkerOptions, verbose=True)
    built = set()

    def build_instead(kernel, arguments, launch) -> None:
        types = tuple(kernel.typeof_pyval(argument) for argument in arguments)
        name = name_of(kernel.py_func, types)
        if (kernel, types) in built or not all(part in name for part in wanted):
            return
        built.add((kernel, types))
        with report.part(name, 0.0):
            weigh(report, name, dispatcher._Kernel(kernel.py_func, types, **kernel.targetoptions))

    dispatcher.CUDADispatcher.call = build_instead
    from fastlsgd.kernels import numba_cuda

    for dtype in (np.float32, np.float64):
        call_everything(numba_cuda, dtype)
    if not built:
        report.failed.append("no kernel has such a name")


def name_of(function, types) -> str:
    """A kernel's name, what it is specialised for, and the dtypes of its arrays."""
    dtypes = [str(part.dtype) for part in types if hasattr(part, "dtype")]
    words = function.__name__, *specialised_for(function), ",".join(dict.fromkeys(dtypes))
    return " ".join(dict.fromkeys(words))


def specialised_for(function):
    """The constants and the functions that were chosen where it was made."""
    for name, value in inspect.getclosurevars(function).nonlocals.items():
        if isinstance(value, bool | int | str):
            yield f"{name}={value}"
        elif hasattr(value, "py_func"):
            if name != value.py_func.__name__:
                yield f"{name}={value.py_func.__name__}"
            yield from specialised_for(value.py_func)


def weigh(report: Report, name: str, kernel) -> None:
    """Link a kernel, and note what nvJitLink says of it.

    Spilt registers are a failure. So is a frame on the stack, where a local array is that did not
    become registers; what a call needs there, of the barrier of the grid or of pow, does not count
    as the kernel's frame.
    """
    library = kernel._codelibrary
    library.get_cubin(cc=HOPPER)
    told = library.get_linkerinfo(HOPPER)
    entry = re.search(r"Compiling entry function '(.*?)'", told)[1]
    frames = {
        function: [int(size) for size in sizes]
        for function, *sizes in re.findall(
            r"Function properties for (\S+)\n.*?(\d+) bytes stack frame, "
            r"(\d+) bytes spill stores, (\d+) bytes spill loads",
            told,
        )
    }
    shared = re.search(r"(\d+) bytes smem", told)
    found = {
        "registers": int(re.search(r"Used (\d+) registers", told)[1]),
        "stack": frames[entry][0],
        "spilt": sum(stores + loads for _, stores, loads in frames.values()),
        "shared": int(shared[1]) if shared else 0,
    }
    if found["spilt"]:
        report.failed.append(f"{name} spills registers")
    elif found["stack"]:
        report.failed.append(f"{name} has an array on the stack")
    report.note(name, found, ", ".join(f"{key} {value}" for key, value in found.items()))


def call_everything(kernels, dtype) -> None:
    """Calls that between them launch each kernel in each of its variants."""
    from fastlsgd.kernels.contract import CSR

    n = 1100
    for layout in ("C", "F", np.int32, np.int64):
        widths = WIDTHS if layout == "C" else (33,)
        for d, targets in [(d, 1) for d in widths] + [(33, 2), (33, 5)]:
            rows = np.ones((n, d), dtype, order=layout if layout in ("C", "F") else "C")
            X = kernels.send_as_device_array(rows, 0)
            if layout not in ("C", "F"):
                ends = np.arange(0, (n + 1) * d, d, dtype=layout)
                parts = rows.reshape(-1), np.tile(np.arange(d, dtype=layout), n), ends
                X = CSR(*(kernels.send_as_device_array(part, 0) for part in parts), (n, d))
            y = kernels.send_as_device_array(np.ones((n, targets), dtype), 0)
            w, b = np.zeros((targets, d)), np.zeros(targets)
            kernels.loss_gradient(X, y, w, b, None, 1)
            kernels.predict(X, w, b, 1)
            kernels.gram(X, y, None, None, 1)
            kernels.column_moments(X, None, np.zeros(d))
            for order in (None, np.arange(n)):
                for transform in (np.ones(d), np.eye(d)):
                    visit = kernels.transformed_rows(X, y, None, order, 8, w[0], transform, 1.0)
                    for _ in visit:
                        pass
                for options in EPOCHS:
                    run_epoch(kernels, X, y, order, **options)


EPOCHS = (
    {"batch": 1}, {"batch": 1, "averages": True}, {"batch": 3, "alpha": 0.1}, {"batch": 64},
    {"batch": 32, "l1_ratio": 0.5},
    {"batch": 1000}, {"batch": 1000, "l1_ratio": 0.5},
    *({"batch": batch, "rule": rule} for batch in (1, 1000) for rule in ("adam", "nesterov")),
)  # fmt: skip


def run_epoch(
    kernels, X, y, order, *, batch, alpha=0.1, l1_ratio=0.0, rule=None, averages=False
) -> None:
    from fastlsgd.kernels.contract import Epoch, OptimizerRule, OptimizerState, Prox, SGDState

    (n, d), t = X.shape, y.shape[1]
    w, b = np.zeros((t, d), X.dtype), np.zeros(t)
    state, prox = SGDState(l1_paid=np.zeros_like(w)), None
    if averages:
        state = SGDState(average_after=1, coef_sum=np.zeros((t, d)), intercept_sum=np.zeros(t))
        prox = Prox(np.zeros(d), np.ones(d))
    if rule is not None:
        moments = np.zeros((t, d)), np.zeros((t, d)), np.zeros(t), np.zeros(t)
        state.optimizer = OptimizerState(
            OptimizerRule[rule.upper()], 0.9, 0.9, 1e-8, np.inf, 0, *moments
        )
    epoch = Epoch(order, np.full(-(-n // batch), 0.01), batch, alpha, l1_ratio, prox=prox)
    kernels.sgd_epoch(X, y, w, b, None, epoch, state, 1)


# ----------------------------------------------------------------------------------------------
# Right
# ----------------------------------------------------------------------------------------------


SHAPES = ((257, 100, 1), (1000, 256, 1), (3001, 33, 3), (70, 3000, 2), (4000, 512, 1))
LAYOUTS = ("C", "F", "row steps", "backwards in steps", "odd start", np.int32, np.int64)


def check_all(report: Report, seed: int, rows: int, seconds: float) -> None:
    """The conformance suite's checks, with numbers that nobody has seen, on larger shapes.

    Every second problem lies on the device, in the arrays of each library in turn, with the strides
    it has on the host, and the others on the host. In such an order that each dtype and layout has
    its turn before the time is up.
    """
    if library("pytest") is None or library("hypothesis") is None:
        report.note("checks passed", 0, "none: pytest or hypothesis is not installed")
        return
    import test_device_arrays as suite

    from fastlsgd.kernels import load_backend

    kernels, begun, tried, passed = load_backend("cuda"), time.perf_counter(), 0, 0
    rng, senders = np.random.default_rng(seed), itertools.cycle(suite.libraries().items())
    kinds = list(itertools.product((np.float32, np.float64), LAYOUTS, (True, False)))
    turns = [
        (SHAPES[(turn + k) % len(SHAPES)], *kind)
        for turn in range(len(SHAPES))
        for k, kind in enumerate(kinds)
    ]
    for (n, d, targets), dtype, layout, on_device in turns:
        if time.perf_counter() - begun > seconds:
            break
        where, backend = "host", kernels
        if on_device:
            where, send = next(senders)
            backend = suite.Sent(kernels, send)
        n = min(n, rows)
        tried += 1
        what = f"check {n} x {d} x {targets} {np.dtype(dtype)} {layout} {where}"
        with report.part(what, 0.0):
            density = 0.1 if layout in (np.int32, np.int64) else 1.0
            drawn = int(rng.integers(2**31))
            check_one(
                kernels, backend, drawn,
                suite.make_problem(drawn, n, d, targets, dtype, layout, True, density),
            )  # fmt: skip
            passed += 1
    left_out = f"; no time for {len(turns) - tried} others" if tried < len(turns) else ""
    report.note("checks passed", passed, f"{passed} of {tried} problems{left_out}")


def check_one(kernels, backend, seed: int, problem) -> None:
    """Each kernel against the reference; `backend` is `kernels`, or sends the problem there."""
    import test_kernels as suite

    _poison(kernels)
    suite.check_loss_gradient(backend, problem, 1)
    _poison(kernels)
    suite.check_predict(backend, problem, 1)
    _poison(kernels)
    suite.check_gram(backend, problem, problem.w[0].copy(), 1)
    for batch, options in (
        (1, {}), (1, {"alpha": 0.3, "implicit": True}), (7, {"alpha": 0.3}),
        (1, {"average_after": 3, "implicit": True}), (2, {"average_after": 3, "prox": True}),
        (64, {"alpha": 0.3, "l1_ratio": 0.4, "average_after": 3, "prox": True}),
        (1000, {}), (16, {"optimizer": suite.OPTIMIZERS["adam"]}),
    ):  # fmt: skip
        _poison(kernels)
        epochs = [
            suite.make_epoch(problem, batch, shuffled, seed=seed + 1, **options)
            for shuffled in (False, True)
        ]
        suite.check_epochs(backend, problem, epochs)


def _poison(kernels) -> None:
    """NaN, whose bits are ones, into all workspace: reads of what was never written show."""
    from numba.cuda.cudadrv.driver import device_memset

    for array in kernels._workspace.values():
        if hasattr(array, "address") and array.dtype.kind == "f":
            device_memset(kernels._native(array), 0xFF, array.nbytes)


# ----------------------------------------------------------------------------------------------
# Fast
# ----------------------------------------------------------------------------------------------


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


def time_all(report: Report, rows: int, columns: int) -> None:
    moved = float("nan")
    with report.part("copy", MEASUREMENTS["copy"]) as go:
        if go:
            moved = copy_bandwidth(report, min(4 << 30, 4 * rows * columns))
    X, y = device_problem(rows, columns)
    for name, measure_it in (
        ("gradients", partial(time_gradient, report, X, y, moved)),
        ("epochs", partial(time_epochs, report, X, y)),
        ("learning_rate='auto'", partial(time_automatic, report, X, y)),
        ("least squares", partial(time_least_squares, report, X, y)),
        ("cuML", partial(time_cuml, report, X, y)),
        ("streaming", partial(time_streaming, report, rows, columns)),
    ):
        with report.part(name, MEASUREMENTS[name]) as go:
            if go:
                measure_it()


def copy_bandwidth(report: Report, nbytes: int) -> float:
    """GB/s read by a device-to-device copy: half of what it moves."""
    from numba import cuda

    source = cuda.device_array(nbytes // 4, np.float32)
    target = cuda.device_array(nbytes // 4, np.float32)
    seconds = device_seconds(lambda: target.copy_to_device(source))
    moved = 2 * nbytes / seconds / 1e9
    report.note("copy, GB/s read and written", moved, f"{moved:.0f}")
    return moved


def device_problem(rows: int, columns: int):
    """X, y, w on the device: of PyTorch if it is there, else of CuPy, else of Numba."""
    torch, cupy = library("torch"), library("cupy")
    if torch is not None and torch.cuda.is_available():
        generator = torch.Generator("cuda").manual_seed(time.time_ns() % 2**31)
        X = torch.randn(rows, columns, device="cuda", generator=generator)
        return X, torch.randn(rows, device="cuda", generator=generator)
    if cupy is not None:
        rng = cupy.random.default_rng(time.time_ns() % 2**31)
        return (
            rng.standard_normal((rows, columns), dtype=np.float32),
            rng.standard_normal(rows, dtype=np.float32),
        )
    from numba import cuda

    rng = np.random.default_rng(time.time_ns() % 2**31)
    X = rng.standard_normal((rows, columns), dtype=np.float32)
    return cuda.to_device(X), cuda.to_device(rng.standard_normal(rows, dtype=np.float32))


def time_gradient(report: Report, X, y, moved: float) -> None:
    from fastlsgd.kernels import load_backend
    from fastlsgd.kernels.device import as_device_array

    kernels, d = load_backend("cuda"), X.shape[1]
    A, targets = as_device_array(X), as_device_array(y)[:, None]
    w, b = np.random.default_rng(0).standard_normal((1, d)), np.zeros(1)
    ours = device_seconds(lambda: kernels.loss_gradient(A, targets, w, b, None, 1))
    rate = A.nbytes / ours / 1e9
    report.note("loss_gradient", ours, f"{1e3 * ours:.3f} ms, {rate:.0f} GB/s")
    # A pure read can go as fast as a copy moves both ways.
    name = "loss_gradient, share of the read bandwidth that the copy implies"
    ratio(report, name, rate / moved)
    exact = kernels.loss_gradient(A, targets, w, b, None, 1).coef[0]
    for peer, call in gradients_of_peers(X, y, w[0]).items():
        with report.part(f"gradient by {peer}", 20.0) as go:
            if not go:
                continue
            error = float(np.abs(to_numpy(call()) - exact).max() / np.abs(exact).max())
            theirs = device_seconds(call)
            report.note(
                f"gradient by {peer}", theirs,
                f"{1e3 * theirs:.3f} ms, {theirs / ours:.2f} x ours; off by {error:.1e}",
            )  # fmt: skip
            if f"loss_gradient, times faster than {peer}" in BARS:
                ratio(report, f"loss_gradient, times faster than {peer}", theirs / ours)


def to_numpy(value) -> np.ndarray:
    for name in ("get", "cpu"):
        if hasattr(value, name):
            value = getattr(value, name)()
            break
    return np.asarray(value, dtype=np.float64)


def gradients_of_peers(X, y, coef) -> dict:
    """Two passes over X, as one writes them in each library; ends when the device is done."""
    calls = {}
    torch, cupy, jax = library("torch"), library("cupy"), library("jax")
    n = X.shape[0]
    if torch is not None and torch.cuda.is_available():
        A, t = torch.as_tensor(X, device="cuda"), torch.as_tensor(y, device="cuda")
        w = torch.as_tensor(coef, device="cuda", dtype=A.dtype)

        def two_passes(A, t, w):
            return (A @ w - t) @ A / n

        calls["PyTorch"] = lambda: two_passes(A, t, w)
        compiled = torch.compile(two_passes)
        calls["torch.compile"] = lambda: compiled(A, t, w)
    if cupy is not None:
        B, u, v = cupy.asarray(X), cupy.asarray(y), cupy.asarray(coef, dtype=np.float32)
        calls["CuPy"] = lambda: (B @ v - u) @ B / n
    if jax is not None and any(device.platform == "gpu" for device in jax.devices()):
        # By DLPack: JAX takes no memory of its own for X.
        C, s = jax.dlpack.from_dlpack(X), jax.dlpack.from_dlpack(y)
        q = jax.numpy.asarray(coef, dtype=np.float32)
        step = jax.jit(lambda C, s, q: (C @ q - s) @ C / n)
        calls["JAX"] = lambda: step(C, s, q).block_until_ready()
    return calls


def time_epochs(report: Report, X, y) -> None:
    from fastlsgd.kernels import load_backend
    from fastlsgd.kernels.contract import Epoch, SGDState
    from fastlsgd.kernels.device import as_device_array

    kernels = load_backend("cuda")
    n, d = X.shape
    A, targets = as_device_array(X), as_device_array(y)[:, None]

    def epoch(kernels, A, targets, batch, rate):
        w, b = np.zeros((1, d), np.float32), np.zeros(1)
        rates = np.full(-(-A.shape[0] // batch), rate)
        kernels.sgd_epoch(A, targets, w, b, None, Epoch(None, rates, batch), SGDState(), 1)
        return w[0]

    ours = device_seconds(lambda: epoch(kernels, A, targets, 1024, 0.1), 3)
    report.note("sgd_epoch of batch 1,024", ours, f"{1e3 * ours:.1f} ms")
    torch = library("torch")
    if torch is not None and torch.cuda.is_available():
        rows = min(n, 400 * 1024)
        theirs = device_seconds(lambda: torch_epoch(torch, X, y, rows), 3) * n / rows
        report.note("the same by torch.optim", theirs, f"{1e3 * theirs:.0f} ms (of {rows} rows)")
        ratio(report, "sgd_epoch of batch 1,024, times faster than torch.optim", theirs / ours)
    rows = min(n, 1_000_000)
    few, t = A[:rows], targets[:rows]
    ours = device_seconds(lambda: epoch(kernels, few, t, 1, 1e-4), 3)
    report.note("batch-1 SGD of 1M rows", ours, f"{1e3 * ours:.1f} ms")
    for name in ("native", "numba"):
        try:
            other = load_backend(name)
        except ImportError as error:
            report.note(f"batch-1 SGD by {name}", "missing", str(error)[:200])
            continue
        B, u = np.asarray(few), np.asarray(t)
        spans = []
        for _ in range(4):
            start = time.perf_counter()
            wanted = epoch(other, B, u, 1, 1e-4)
            spans.append(time.perf_counter() - start)
        theirs, got = statistics.median(spans[1:]), epoch(kernels, few, t, 1, 1e-4)
        error = float(np.abs(got - wanted).max() / np.abs(wanted).max())
        report.note(
            f"batch-1 SGD by {name}", theirs,
            f"{1e3 * theirs:.1f} ms on the CPU; the weights differ by {error:.1e}",
        )  # fmt: skip
        if name == "native":
            ratio(report, "exact batch-1 SGD, times faster than native on the CPU", theirs / ours)
            break


def time_automatic(report: Report, X, y) -> None:
    """learning_rate="auto": the rows in its coordinates alone, then whole epochs."""
    from fastlsgd.kernels import load_backend
    from fastlsgd.kernels.device import as_device_array
    from fastlsgd.solvers.automatic import AutomaticDescent
    from fastlsgd.solvers.training import Objective, TrainingData

    kernels, d = load_backend("cuda"), X.shape[1]
    A, targets = as_device_array(X), as_device_array(y)[:, None]
    for name, transform in (("diagonal", np.ones(d)), ("full", np.eye(d))):

        def visit(transform=transform):
            chunks = kernels.transformed_rows(
                A, targets, None, None, 1024, np.zeros(d), transform, 1.0
            )
            for _ in chunks:
                pass

        seconds = device_seconds(visit, 3)
        rate = (A.nbytes + 8 * A.size) / seconds / 1e9
        report.note(
            f"rows in a {name} metric", seconds,
            f"{1e3 * seconds:.1f} ms, {rate:.0f} GB/s read and written",
        )  # fmt: skip
    for batch, rows in ((1024, len(A)), (1, 50_000)):
        descent = AutomaticDescent(
            TrainingData(kernels, A[:rows], targets[:rows], None, n_threads=1),
            Objective(alpha=1e-4, l1_ratio=0.0, fit_intercept=True),
            batch,
            np.zeros((1, d)),
            np.zeros(1),
        )
        seconds = device_seconds(lambda descent=descent: descent.epoch(None), 3)
        report.note(
            f"an epoch of learning_rate='auto', batch {batch}, {min(rows, len(A))} rows", seconds,
            f"{1e3 * seconds:.1f} ms",
        )  # fmt: skip


def torch_epoch(torch, X, y, rows: int):
    """An epoch as one writes it with torch.optim."""
    A, t = torch.as_tensor(X, device="cuda"), torch.as_tensor(y, device="cuda")
    model = torch.nn.Linear(A.shape[1], 1, device="cuda")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for start in range(0, rows, 1024):
        optimizer.zero_grad()
        residual = model(A[start : start + 1024])[:, 0] - t[start : start + 1024]
        (residual * residual).mean().backward()
        optimizer.step()
    return model.weight


def time_least_squares(report: Report, X, y) -> None:
    """A fit to a relative gradient of 1e-6, beside cupy.linalg.lstsq on the rows it bears."""
    import fastlsgd

    def fit():
        return fastlsgd.LeastSquaresRegressor(fit_intercept=False, tol=1e-6).fit(X, y)

    ours = device_seconds(fit, 3)
    report.note("least squares to 1e-6", ours, f"{1e3 * ours:.1f} ms, {fit().n_iter_} iterations")
    cupy = library("cupy")
    if cupy is None:
        return
    B, u = cupy.asarray(X), cupy.asarray(y)
    rows = min(X.shape[0], 1_000_000)  # its SVD takes several times the memory of X
    theirs = device_seconds(lambda: cupy.linalg.lstsq(B[:rows], u[:rows], rcond=None), 1)
    theirs *= X.shape[0] / rows
    report.note("the same by cupy.linalg.lstsq", theirs, f"{1e3 * theirs:.0f} ms (of {rows} rows)")
    ratio(report, "least squares to 1e-6, times faster than CuPy's lstsq", theirs / ours)


def time_cuml(report: Report, X, y) -> None:
    if library("cuml") is None:
        report.note("cuML", "not installed")
        return
    from cuml.linear_model import LinearRegression

    seconds = device_seconds(lambda: LinearRegression(fit_intercept=False).fit(X, y), 3)
    report.note("cuML LinearRegression", seconds, f"{1e3 * seconds:.1f} ms")


def time_streaming(report: Report, rows: int, columns: int) -> None:
    """Host rows by way of pinned buffers, beside what the bus gives."""
    from numba import cuda

    from fastlsgd.kernels import load_backend

    kernels = load_backend("cuda")
    X = np.random.default_rng(0).standard_normal((rows // 2, columns // 2), dtype=np.float32)
    y, w = X[:, :1].copy(), np.zeros((1, 128))
    seconds = device_seconds(lambda: kernels.loss_gradient(X, y, w, np.zeros(1), None, 1), 3)
    pinned, there = cuda.pinned_array(X.size, np.float32), cuda.device_array(X.size, np.float32)
    bus = pinned.nbytes / device_seconds(lambda: there.copy_to_device(pinned), 3) / 1e9
    rate = X.nbytes / seconds / 1e9
    report.note("loss_gradient of host rows", rate, f"{rate:.1f} GB/s; the bus gives {bus:.1f}")


# ----------------------------------------------------------------------------------------------
# Other judges
# ----------------------------------------------------------------------------------------------


def sanitize(report: Report, tool: str) -> None:
    """compute-sanitizer over a small run of every kernel."""
    program = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(program).exists():
        report.note(f"compute-sanitizer {tool}", "not installed")
        return
    command = [
        program, "--tool", tool, "--error-exitcode", "9", sys.executable, __file__, "--small",
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
    """What the sanitizer watches."""
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
    """What learning_rate="auto" asks for an X on the device, of random rows and of all."""
    from fastlsgd.kernels.contract import CSR
    from fastlsgd.kernels.device import as_device_array

    def send(part):
        if isinstance(part, CSR):
            return CSR(*(send(array) for array in part[:3]), part.shape)
        return as_device_array(kernels.send(part, 0))

    X, y, s = send(problem.X), send(problem.y), send(problem.s)
    n, d = X.shape
    for order in (None, np.random.default_rng(0).permutation(n)):
        for transform in (np.ones(d), np.eye(d)[: d // 2]):
            for _ in kernels.transformed_rows(X, y, s, order, 8, np.ones(d), transform, 1.0):
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
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
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
