"""Measure times by CUDA events, beside other libraries in the same run."""

from __future__ import annotations

import statistics
import time
from functools import partial

import numpy as np

from .report import BARS, MEASUREMENTS, Report, device_seconds, library, ratio


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
        ("groups", partial(time_groups, report, rows, moved)),
        ("cuML", partial(time_cuml, report, X, y)),
        ("streaming", partial(time_streaming, report, rows, columns)),
    ):
        with report.part(name, MEASUREMENTS[name]) as go:
            if go:
                measure_it()


def copy_bandwidth(report: Report, nbytes: int) -> float:
    """GB/s that a copy from device to device reads and writes."""
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
    # A pure read can be as fast as a copy moves numbers both ways.
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
    """Gradients by two passes over X, as users of each library write them."""
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
    """Time learning_rate="auto": centred rows, then the moments, and an epoch."""
    from fastlsgd.kernels import load_backend
    from fastlsgd.kernels.device import as_device_array
    from fastlsgd.solvers.automatic_choice import automatic_descent
    from fastlsgd.solvers.training import Objective, TrainingData

    kernels, d = load_backend("cuda"), X.shape[1]
    A, targets = as_device_array(X), as_device_array(y)[:, None]

    def visit():
        for _ in kernels.centred_rows(A, targets, None, np.zeros(d)):
            pass

    seconds = device_seconds(visit, 3)
    rate = (A.nbytes + 8 * A.size) / seconds / 1e9
    report.note(
        "centred rows", seconds, f"{1e3 * seconds:.1f} ms, {rate:.0f} GB/s read and written"
    )

    def begin():
        return automatic_descent(
            TrainingData(kernels, A, targets, None, n_threads=1),
            Objective(alpha=1e-4, l1_ratio=0.0, fit_intercept=True),
            None,
            np.zeros((1, d)),
            np.zeros(1),
        )

    descent = begin()
    for name, call in (("start", begin), ("epoch", lambda: descent.epoch(None))):
        seconds = device_seconds(call, 3)
        report.note(f"the {name} of learning_rate='auto'", seconds, f"{1e3 * seconds:.1f} ms")


def torch_epoch(torch, X, y, rows: int):
    """An epoch as users of torch.optim write it."""
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
    """Time a fit to a relative gradient of 1e-6, beside cupy.linalg.lstsq on fewer rows."""
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


def time_groups(report: Report, rows: int, moved: float) -> None:
    """Time regressions of groups of 50 rows on 5 columns, beside those of the processor."""
    from fastlsgd.kernels import load_backend
    from fastlsgd.kernels.contract import Segments
    from fastlsgd.kernels.device import as_device_array

    kernels = load_backend("cuda")
    X, y = (as_device_array(part) for part in device_problem(rows, 5))
    start = np.arange(0, rows - 49, 50)
    segments = Segments(None, start, start + 50, 6)
    seconds = device_seconds(lambda: kernels.fit_segments(X, y[:, None], None, segments, 1), 3)
    rate = X.nbytes / seconds / 1e9
    report.note(
        "groups of 50 rows", seconds,
        f"{1e3 * seconds:.1f} ms for {len(start)}, {rate / moved:.2f} of the copy's bandwidth",
    )  # fmt: skip
    try:
        native = load_backend("native")
    except ImportError as error:
        report.note("groups by native", "missing", str(error)[:200])
        return
    A, b, begun = np.asarray(X), np.asarray(y)[:, None], time.perf_counter()
    wanted = native.fit_segments(A, b, None, segments, 64).coef
    theirs = time.perf_counter() - begun
    got = kernels.fit_segments(X, y[:, None], None, segments, 1).coef
    error = float(np.abs(got - wanted).max())
    report.note(
        "groups by native", theirs,
        f"{1e3 * theirs:.1f} ms on the CPU; the weights differ by {error:.1e}",
    )  # fmt: skip


def time_cuml(report: Report, X, y) -> None:
    if library("cuml") is None:
        report.note("cuML", "not installed")
        return
    from cuml.linear_model import LinearRegression

    seconds = device_seconds(lambda: LinearRegression(fit_intercept=False).fit(X, y), 3)
    report.note("cuML LinearRegression", seconds, f"{1e3 * seconds:.1f} ms")


def time_streaming(report: Report, rows: int, columns: int) -> None:
    """Time host rows that travel through pinned buffers, beside the speed of the bus."""
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
