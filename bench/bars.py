"""The rows of the page: what each one measures, and the bars that it should reach.

A row yields one sample per case and dtype. All calls of a sample take turns with the read probe
(`timing.interleave`), so that its ratios and its share of the bandwidth come from one run. Every
call is checked against kernels/reference.py before it is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import arrays
import memory
import numpy as np
import peers
from arrays import DTYPES, Problem
from checks import check_epoch, check_gradient
from probe import PROBE_BYTES, gemm_rate, reader
from timing import Call, Timing, interleave, per_call

from fastlsgd.kernels import load_backend, resolve_threads

BACKENDS = ("native", "numba")
EPOCHS = 6  # the time of an epoch is that of a fit of 6 less that of a fit of 1, over 5


class Settings(NamedTuple):
    scale: float  # rows as a share of those that the bars ask for
    rounds: int  # rounds, in which each contender has one turn


@dataclass
class Sample:
    """One case of a row, in one dtype."""

    case: str
    dtype: str
    values: dict[str, float]  # the best value of each library, in the row's unit
    medians: dict[str, float] = field(default_factory=dict)
    nbytes: int = 0  # of X
    nbytes_read: int = 0  # of X and y, each counted once
    bandwidth: float | None = None  # of the probe, bytes per second; None where X fits in a cache
    limit: float | None = None  # what the bar allows for this case, in the row's unit


@dataclass(frozen=True)
class Row:
    """A set of cases that are measured together."""

    title: str
    measure: Callable[[Settings], Iterator[Sample]]
    unit: str = "s"
    note: str = ""


# -------------------------------------------------------------------------------- gradients


def _checked_gradients(problem: Problem, libraries) -> dict[str, Call]:
    calls = {}
    for library in libraries:
        try:
            call = peers.gradient(library, problem)
        except peers.NotInstalled:
            continue  # the page reports what is missing
        check_gradient(call(), problem, exact=library in BACKENDS)
        calls[library] = call
    return calls


def _timed(
    case: str, problem: Problem, calls: dict[str, Call], n_threads: int, settings: Settings
) -> tuple[Sample, dict[str, Timing]]:
    """The times of the calls, and a sample of this problem whose values are still to be set."""
    times = interleave({"read": reader(n_threads), **calls}, settings.rounds)
    bandwidth = PROBE_BYTES / times.pop("read").best
    read = problem.nbytes + problem.y.nbytes
    sample = Sample(case, problem.dtype, {}, {}, problem.nbytes, read, bandwidth)
    return sample, times


def _gradient_sample(case: str, problem: Problem, settings: Settings, libraries) -> Sample:
    calls = _checked_gradients(problem, libraries)
    sample, times = _timed(case, problem, calls, resolve_threads(), settings)
    sample.values = {name: t.best for name, t in times.items()}
    sample.medians = {name: t.median for name, t in times.items()}
    return sample


def _gradient_c(settings: Settings) -> Iterator[Sample]:
    for d in (8, 10, 100, 256, 1000, 4096):
        for dtype in DTYPES:
            problem = arrays.dense_of_bytes(arrays.X_BYTES * settings.scale, d, dtype)
            yield _gradient_sample(f"d={d}", problem, settings, (*BACKENDS, *peers.GRADIENTS))


def _gradient_layouts(layouts: tuple[str, ...], settings: Settings) -> Iterator[Sample]:
    """JAX does not take part: it has no strides, and would get a C-ordered copy."""
    for layout in layouts:
        for dtype in DTYPES:
            problem = arrays.dense_of_bytes(arrays.X_BYTES * settings.scale, 100, dtype, layout)
            yield _gradient_sample(layout, problem, settings, (*BACKENDS, "numpy", "torch"))


def _gradient_targets(settings: Settings) -> Iterator[Sample]:
    n_targets = 10
    for dtype in DTYPES:
        problem = arrays.dense_of_bytes(
            arrays.X_BYTES * settings.scale, 100, dtype, n_targets=n_targets
        )
        sample = _gradient_sample(
            "d=100, 10 targets", problem, settings, (*BACKENDS, *peers.GRADIENTS)
        )
        assert sample.bandwidth is not None
        operations = 4.0 * n_targets * problem.X.size
        reading = sample.nbytes_read / (0.6 * sample.bandwidth)
        sample.limit = max(reading, operations / (0.7 * gemm_rate(dtype)))
        yield sample


# ------------------------------------------------------------------------------- stochastic


def _marginal(times: dict[str, Timing], library: str) -> tuple[float, float]:
    """Seconds per epoch, from the best and from the median times of fits."""
    one, more = times[f"{library}, 1"], times[f"{library}, {EPOCHS}"]
    return tuple((b - a) / (EPOCHS - 1) for a, b in zip(one, more, strict=True))


def _fits(problem: Problem, library: str, **how) -> dict[str, Call]:
    """A fit of one epoch and a fit of several, after a check of the library's weights."""

    def unshuffled(head: Problem) -> Call:
        checked = {**how, "shuffle": False, "fit_intercept": False}
        return partial(_one_epoch, peers.sgd_fit(library, head, **checked))

    check_epoch(unshuffled, problem, how.get("batch_size", 1))
    fit = peers.sgd_fit(library, problem, **how)
    return {f"{library}, {epochs}": partial(fit, epochs) for epochs in (1, EPOCHS)}


def _one_epoch(fit: Callable[[int], np.ndarray]) -> np.ndarray:
    return fit(1)


def _sgd_sample(case: str, problem: Problem, settings: Settings, **how) -> Sample:
    """SGD next to scikit-learn, all on one thread, since its loop has no threads."""
    libraries = (*BACKENDS, "scikit-learn")
    calls: dict[str, Call] = {}
    for library in libraries:
        calls |= _fits(problem, library, n_jobs=1, **how)
    sample, times = _timed(case, problem, calls, 1, settings)
    for library in libraries:
        sample.values[library], sample.medians[library] = _marginal(times, library)
    return sample


def _sgd_dense(shape: str, settings: Settings) -> Iterator[Sample]:
    n, d = arrays.SGD_SHAPES[shape]
    for dtype in DTYPES:
        problem = arrays.dense(int(n * settings.scale), d, dtype)
        yield _sgd_sample(f"{shape}, batch 1", problem, settings, shuffle=False)


def _sgd_csr(settings: Settings) -> Iterator[Sample]:
    """Without intercept: on CSR scikit-learn multiplies its steps by 0.01; weights would differ."""
    n, d = arrays.CSR_SHAPE
    for dtype in DTYPES:
        problem = arrays.csr(int(n * settings.scale), d, dtype)
        for shuffle in (False, True):
            case = "CSR, shuffled" if shuffle else "CSR, in order"
            yield _sgd_sample(case, problem, settings, shuffle=shuffle, fit_intercept=False)


def _fit_house_sales(settings: Settings) -> Iterator[Sample]:
    for dtype in DTYPES:
        problem = arrays.house_sales(dtype)
        calls: dict[str, Call] = {}
        for library in BACKENDS:
            calls |= _fits(problem, library, shuffle=True, batch_size=32)
        try:
            calls["torch"] = peers.torch_epoch(problem, shuffle=True)
        except peers.NotInstalled:
            pass
        else:
            unshuffled = partial(peers.torch_epoch, shuffle=False, fit_intercept=False)
            check_epoch(unshuffled, problem, 32)
        sample, times = _timed("house sales, batch 32", problem, calls, 1, settings)
        sample.bandwidth = None
        for library in BACKENDS:
            sample.values[library], sample.medians[library] = _marginal(times, library)
        if "torch" in times:
            sample.values["torch"], sample.medians["torch"] = times["torch"]
        yield sample


# ---------------------------------------------------------------------------------- overheads


def _validation(settings: Settings) -> Iterator[Sample]:
    for dtype in DTYPES:
        problem = arrays.dense(int(1_000_000 * settings.scale), 100, dtype)
        n_threads = resolve_threads()
        calls: dict[str, Call] = {}
        for backend in BACKENDS:
            calls[backend] = peers.gradient(backend, problem)
            kernel = load_backend(backend).loss_gradient
            calls[f"{backend} kernel"] = partial(kernel, *problem.arguments(), None, n_threads)
        sample, times = _timed("loss_gradient", problem, calls, n_threads, settings)
        assert sample.bandwidth is not None
        one_read = sample.nbytes / sample.bandwidth
        sample.values = {
            backend: (times[backend].best - times[f"{backend} kernel"].best) / one_read
            for backend in BACKENDS
        }
        yield sample

        fits: dict[str, Call] = {}
        for backend in BACKENDS:
            fits |= _fits(problem, backend, shuffle=False, n_jobs=1)
        sample, times = _timed("SGDRegressor.fit", problem, fits, 1, settings)
        assert sample.bandwidth is not None
        one_read = sample.nbytes / sample.bandwidth
        for backend in BACKENDS:
            epoch, _ = _marginal(times, backend)
            sample.values[backend] = (times[f"{backend}, 1"].best - epoch) / one_read
        yield sample


def _memory(settings: Settings) -> Iterator[Sample]:
    if not memory.can_measure():
        return
    for kernel, layout in memory.CASES:
        for dtype in DTYPES:
            growth = {b: memory.growth_of(kernel, layout, dtype, b) / 1e6 for b in BACKENDS}
            limit = 32.0 + 4 * 8 * resolve_threads() * memory.n_features(layout) / 1e6
            yield Sample(f"{kernel}, {layout}", dtype, growth, limit=limit)


def _small_calls(settings: Settings) -> Iterator[Sample]:
    for dtype in DTYPES:
        problem = arrays.dense(100, 10, dtype)
        public = _checked_gradients(problem, (*BACKENDS, "reference", *peers.GRADIENTS))
        kernels = {
            backend: partial(load_backend(backend).loss_gradient, *problem.arguments(), None, 1)
            for backend in BACKENDS
        }
        for case, calls in (("public call", public), ("kernel call", kernels)):
            times = {name: per_call(call) for name, call in calls.items()}
            yield Sample(
                case,
                dtype,
                {name: t.best * 1e6 for name, t in times.items()},
                {name: t.median * 1e6 for name, t in times.items()},
            )


# ------------------------------------------------------------------------------ rows and bars

_STRIDED = ("every second row", "100 of 128 columns")

ROWS: dict[str, Row] = {
    "loss_gradient_c": Row("loss_gradient, C order", _gradient_c),
    "loss_gradient_f": Row("loss_gradient, F order", partial(_gradient_layouts, ("F",))),
    "loss_gradient_strided": Row(
        "loss_gradient, strided rows", partial(_gradient_layouts, _STRIDED)
    ),
    "loss_gradient_targets": Row(
        "loss_gradient, 10 targets",
        _gradient_targets,
        note="The limit is the time that a read of X takes at 0.6 of the bandwidth, or that the "
        "flops take at 0.7 of the rate of NumPy's 2,048 x 2,048 product in the same dtype, "
        "whichever is longer.",
    ),
    "sgd_1m_x_100": Row("SGD, 1M x 100", partial(_sgd_dense, "1M x 100")),
    "sgd_4m_x_10": Row("SGD, 4M x 10", partial(_sgd_dense, "4M x 10")),
    "sgd_20k_x_4096": Row("SGD, 20k x 4096", partial(_sgd_dense, "20k x 4096")),
    "sgd_csr": Row(
        "SGD, CSR 500k x 100k, 50 a row",
        _sgd_csr,
        note="No intercept is fitted: on CSR scikit-learn multiplies the steps of the intercept "
        "by 0.01, so that weights could not be compared.",
    ),
    "fit_house_sales": Row(
        "SGDRegressor.fit, batch 32, house sales",
        _fit_house_sales,
        note="Rows are shuffled. PyTorch runs a Linear layer and torch.optim.SGD on batches that "
        "are slices of a shuffled copy of the tensors, which takes a fraction of the time of a "
        "DataLoader.",
    ),
    "validation": Row(
        "Checks of the input",
        _validation,
        unit="reads of X",
        note="For loss_gradient, the time of the public call less that of the kernel; for "
        "SGDRegressor.fit, that of a fit of one epoch less that of a marginal epoch. The unit is "
        "the time of a read of X at the speed of the probe with the same number of threads (2 for "
        "the former, 1 for the latter).",
    ),
    "memory": Row(
        "Memory beyond the inputs",
        _memory,
        unit="MB",
        note="The highest resident set size during the call less that before it. The limit is "
        "32 MB, and 4 float64 numbers per thread and column. X has 50 million numbers.",
    ),
    "small_calls": Row("loss_gradient on 100 x 10", _small_calls, unit="µs"),
}


@dataclass(frozen=True)
class Bar:
    """What the worst sample of a row must reach."""

    row: str
    what: str
    target: dict[str, float]  # by dtype
    value: Callable[[Sample], float | None]
    applies: Callable[[Sample], bool] = lambda sample: True
    at_most: bool = False
    peer: str = ""  # where the value is a ratio to a peer

    def worst(self, samples: list[Sample], dtype: str) -> tuple[float, str] | None:
        """The worst value and its case; None where nothing could be measured."""
        values = [
            (value, sample.case)
            for sample in samples
            if sample.dtype == dtype and self.applies(sample)
            if (value := self.value(sample)) is not None
        ]
        if not values:
            return None
        return max(values) if self.at_most else min(values)

    def is_met(self, value: float, dtype: str) -> bool:
        return value <= self.target[dtype] if self.at_most else value >= self.target[dtype]


def both(target: float) -> dict[str, float]:
    return dict.fromkeys(DTYPES, target)


_SKLEARN_TARGETS = {
    "sgd_1m_x_100": {"float32": 10.0, "float64": 5.0},
    "sgd_4m_x_10": both(8.0),
    "sgd_20k_x_4096": both(8.0),
    "sgd_csr": both(3.0),
}


def share(library: str) -> Callable[[Sample], float | None]:
    """The share of the probe's bandwidth at which X and y are read."""

    def value(sample: Sample) -> float | None:
        if library not in sample.values or sample.bandwidth is None:
            return None
        return sample.nbytes_read / sample.values[library] / sample.bandwidth

    return value


def ratio(peer: str, library: str = "native") -> Callable[[Sample], float | None]:
    """How many times as long as ours the peer's call takes."""

    def value(sample: Sample) -> float | None:
        if peer not in sample.values or library not in sample.values:
            return None
        return sample.values[peer] / sample.values[library]

    return value


def _of(library: str) -> Callable[[Sample], float | None]:
    return lambda sample: sample.values.get(library)


def _of_limit(library: str) -> Callable[[Sample], float | None]:
    return lambda sample: sample.values[library] / sample.limit if sample.limit else None


def _narrow(sample: Sample) -> bool:
    return int(sample.case.removeprefix("d=")) <= 256


def _wide(sample: Sample) -> bool:
    return not _narrow(sample)


def _against(row: str, peer: str, name: str, target: dict[str, float], **more) -> Bar:
    return Bar(row, f"x {name}", target, ratio(peer), peer=peer, **more)


def _bars() -> Iterator[Bar]:
    c = "loss_gradient_c"
    yield Bar(c, "share of the read bandwidth", both(0.9), share("native"))
    yield _against(c, "numpy", "NumPy, d <= 256", both(2.2), applies=_narrow)
    yield _against(c, "numpy", "NumPy, d > 256", both(1.5), applies=_wide)
    yield _against(c, "torch", "PyTorch", both(2.0))
    yield _against(c, "jax", "JAX", both(2.0))
    for row in ("loss_gradient_f", "loss_gradient_strided"):
        yield Bar(row, "share of the read bandwidth", both(0.6), share("native"))
    targets = "loss_gradient_targets"
    yield Bar(targets, "time over its limit", both(1.0), _of_limit("native"), at_most=True)
    for row, target in _SKLEARN_TARGETS.items():
        yield _against(row, "scikit-learn", "scikit-learn", target)
    yield _against("fit_house_sales", "torch", "PyTorch loop", both(100.0))
    for row in (key for key in ROWS if ROWS[key].unit == "s"):
        yield Bar(row, "Numba, share of native's speed", both(0.7), ratio("native", "numba"))
    for backend in BACKENDS:
        reads = f"{backend}, reads of X"
        yield Bar("validation", reads, both(1.0), _of(backend), at_most=True)
    for backend in BACKENDS:
        yield Bar("memory", f"{backend}, of its limit", both(1.0), _of_limit(backend), at_most=True)
    yield Bar("small_calls", "public call, µs", both(10.0), _of("native"), _is_public, True)
    yield Bar("small_calls", "kernel call, µs", both(2.0), _of("native"), _is_kernel, True)


def _is_public(sample: Sample) -> bool:
    return sample.case == "public call"


def _is_kernel(sample: Sample) -> bool:
    return sample.case == "kernel call"


BARS: tuple[Bar, ...] = tuple(_bars())


def targets_of(row: str, sample: Sample) -> dict[str, float]:
    """For the plots: the required ratio to each peer."""
    return {
        bar.peer: bar.target[sample.dtype]
        for bar in BARS
        if bar.row == row and bar.peer and bar.applies(sample)
    }
