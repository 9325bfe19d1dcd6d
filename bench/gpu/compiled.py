"""Compile every kernel for a GPU and report registers, stack and spills. This needs no GPU."""

from __future__ import annotations

import inspect
import math
import re
from functools import partial
from typing import NamedTuple

import numpy as np

from .report import Report

HOPPER = (9, 0, "a")
WIDTHS = (8, 33, 128, 256, 512, 1000)  # columns, for each way to lay a row over the lanes of a warp


def compile_all(report: Report, wanted: list[str]) -> None:
    """Build each kernel that calls of the backend launch, as Numba does for compute capability 9.0.

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
        with report.part(name, -math.inf):  # without a deadline: no GPU is waiting
            weigh(report, name, dispatcher._Kernel(kernel.py_func, types, **kernel.targetoptions))

    dispatcher.CUDADispatcher.call = build_instead
    from fastlsgd.kernels import cuda

    for dtype in (np.float32, np.float64):
        call_everything(cuda, dtype)
    if not built:
        report.failed.append("no kernel has such a name")


def name_of(function, types) -> str:
    """A kernel's name, what it is specialised for, and the dtypes of its arrays."""
    dtypes = [str(part.dtype) for part in types if hasattr(part, "dtype")]
    words = function.__name__, *specialised_for(function), ",".join(dict.fromkeys(dtypes))
    return " ".join(dict.fromkeys(words))


def specialised_for(function):
    """The constants and the functions that it closes over."""
    for name, value in inspect.getclosurevars(function).nonlocals.items():
        if isinstance(value, bool | int | str):
            yield f"{name}={value}"
        elif hasattr(value, "_asdict"):
            yield from (f"{field}={part}" for field, part in value._asdict().items())
        elif hasattr(value, "py_func"):
            if name != value.py_func.__name__:
                yield f"{name}={value.py_func.__name__}"
            yield from specialised_for(value.py_func)


def weigh(report: Report, name: str, kernel) -> None:
    """Link a kernel, and note what nvJitLink reports of it.

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
    """Make calls that between them launch each kernel in each of its variants."""
    from fastlsgd.kernels.contract import CSR, Segments

    n = 1100
    for layout in ("C", "F", np.int32, np.int64):
        widths = WIDTHS if layout == "C" else (33,)
        for d, targets in [(d, 1) for d in widths] + [(33, 2), (33, 5)]:
            rows = np.ones((n, d), dtype, order=layout if layout in ("C", "F") else "C")
            X = kernels.copy_to_device(rows, 0)
            if layout not in ("C", "F"):
                ends = np.arange(0, (n + 1) * d, d, dtype=layout)
                parts = rows.reshape(-1), np.tile(np.arange(d, dtype=layout), n), ends
                X = CSR(*(kernels.copy_to_device(part, 0) for part in parts), (n, d))
            y = kernels.copy_to_device(np.ones((n, targets), dtype), 0)
            w, b = np.zeros((targets, d)), np.zeros(targets)
            kernels.loss_gradient(X, y, w, b, None, 1)
            kernels.predict(X, w, b, 1)
            kernels.gram(X, y, None, None, 1)
            kernels.column_moments(X, None, np.zeros(d))
            if targets == 1 and layout == "C":
                one = Segments(None, np.array([0]), np.array([n]), d)
                kernels.fit_segments(X, y, None, one, 1)
            for _ in kernels.centred_rows(X, y, None, w[0]):
                pass
            for order in (None, np.arange(n)):
                for variant in EPOCHS:
                    run_epoch(kernels, X, y, order, variant)


class Variant(NamedTuple):
    """An epoch, and an optimizer's rule if it has one."""

    batch: int
    alpha: float = 0.1
    l1_ratio: float = 0.0
    averages: bool = False  # with a proximal step
    rule: str | None = None


EPOCHS = (
    Variant(1),
    Variant(1, averages=True),
    Variant(3),
    Variant(64),
    Variant(32, l1_ratio=0.5),
    Variant(1000),
    Variant(1000, l1_ratio=0.5),
    *(Variant(batch, rule=rule) for batch in (1, 1000) for rule in ("adam", "nesterov")),
)


def run_epoch(kernels, X, y, order, variant: Variant) -> None:
    from fastlsgd.kernels.contract import Epoch, OptimizerRule, OptimizerState, Prox, SGDState

    (n, d), t = X.shape, y.shape[1]
    w, b = np.zeros((t, d), X.dtype), np.zeros(t)
    state, prox = SGDState(l1_paid=np.zeros_like(w)), None
    if variant.averages:
        state = SGDState(average_after=1, coef_sum=np.zeros((t, d)), intercept_sum=np.zeros(t))
        prox = Prox(np.zeros(d), np.ones(d))
    if variant.rule is not None:
        moments = np.zeros((t, d)), np.zeros((t, d)), np.zeros(t), np.zeros(t)
        rule = OptimizerRule[variant.rule.upper()]
        state.optimizer = OptimizerState(rule, 0.9, 0.9, 1e-8, np.inf, 0, *moments)
    rates = np.full(-(-n // variant.batch), 0.01)
    epoch = Epoch(order, rates, variant.batch, variant.alpha, variant.l1_ratio, prox=prox)
    kernels.sgd_epoch(X, y, w, b, None, epoch, state, 1)
