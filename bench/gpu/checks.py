"""Compare every kernel with `reference.py`, on fresh random inputs."""

from __future__ import annotations

import itertools
import time

import numpy as np

from .report import Report, library

SHAPES = ((257, 100, 1), (1000, 256, 1), (3001, 33, 3), (70, 3000, 2), (4000, 512, 1))
MOST_COLUMNS = 40  # of groups: their sums are float64 pairs, of which 2,000 columns have millions
LAYOUTS = ("C", "F", "row steps", "backwards in steps", "odd start", np.int32, np.int64)


def check_all(report: Report, seed: int, rows: int, seconds: float) -> None:
    """Run the checks of the conformance suite on new random numbers and on larger shapes.

    Every second problem lies on the device, in the arrays of each library in turn, with the strides
    it has on the host, and the others on the host. In such an order that each dtype and layout has
    its turn before the time is up.
    """
    if library("pytest") is None or library("hypothesis") is None:
        report.note("checks passed", 0, "none: pytest or hypothesis is not installed")
        return
    import device_arrays
    from test_kernels import make_problem

    from fastlsgd.kernels import load_backend

    kernels, begun, tried, passed = load_backend("cuda"), time.perf_counter(), 0, 0
    rng, senders = np.random.default_rng(seed), itertools.cycle(device_arrays.libraries().items())
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
            backend = device_arrays.Sent(kernels, send)
        n = min(n, rows)
        tried += 1
        what = f"check {n} x {d} x {targets} {np.dtype(dtype)} {layout} {where}"
        with report.part(what, 0.0):
            density = 0.1 if layout in (np.int32, np.int64) else 1.0
            drawn = int(rng.integers(2**31))
            check_one(
                kernels, backend, drawn,
                make_problem(drawn, n, d, targets, dtype, layout, True, density),
            )  # fmt: skip
            passed += 1
    left_out = f"; no time for {len(turns) - tried} others" if tried < len(turns) else ""
    report.note("checks passed", passed, f"{passed} of {tried} problems{left_out}")


def check_one(kernels, backend, seed: int, problem) -> None:
    """Compare each kernel with the reference; `backend` may move the problem first."""
    import test_kernels as suite
    import test_kernels_segments as groups

    _poison(kernels)
    suite.check_loss_gradient(backend, problem, 1)
    _poison(kernels)
    suite.check_predict(backend, problem, 1)
    _poison(kernels)
    suite.check_gram(backend, problem, problem.w[0].copy(), 1)
    n, d = problem.X.shape
    if d <= MOST_COLUMNS and not isinstance(problem.X, tuple):
        _poison(kernels)
        X, y, s, cuts = *problem[:2], problem.s, np.arange(4) * (n // 3)
        segments = groups.Segments(None, cuts[:-1], cuts[1:], min(d, 30), penalty=np.ones(d))
        groups.check(backend.fit_segments, X, y[:, :1], s, segments, 1e-7)
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
    """Fill the workspace with NaN (all bits 1), so that reads of what was never written show."""
    from numba.cuda.cudadrv.driver import device_memset

    for array in kernels.memory.workspace.values():
        if hasattr(array, "address") and array.dtype.kind == "f":
            device_memset(kernels.memory.native(array), 0xFF, array.nbytes)
