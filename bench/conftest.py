"""`pytest bench` times fastlsgd and its peers side by side.

Benchmarks of the same work on the same arrays form one group, with one benchmark per library. Each
first checks its result against kernels/reference.py. It records in ``extra_info`` the GB/s at which
X is read, and at which share of the bandwidth of `probe.py`, measured in the same session, X and y
are read.

    pytest bench             X of 100 MB, some three minutes on 2 cores
    pytest bench --quick     X of 10 MB, which fits in a cache: for a try, not for results
    pytest bench --full      the sizes of the table of bars, X of 400 MB
    pytest bench -k "loss_gradient and d100"

Timings never fail a test. `python bench/report.py` measures the bars themselves.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from arrays import DTYPES, X_BYTES, Problem
from peers import NotInstalled
from probe import read_bandwidth
from timing import seconds_of

import fastlsgd
from fastlsgd.kernels import resolve_threads

SCALES = {"--quick": 1 / 40, "--full": 1.0}
DEFAULT_SCALE = 1 / 4
SECONDS = 0.3  # about, of timed rounds per benchmark
ROWS = pytest.StashKey[list[tuple]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastlsgd")
    group.addoption("--quick", action="store_true", help="small arrays, to try a benchmark")
    group.addoption("--full", action="store_true", help="arrays of the sizes in the table of bars")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []


@pytest.fixture(scope="session")
def scale(pytestconfig: pytest.Config) -> float:
    """The number of rows, as a share of that in the table of bars."""
    chosen = [SCALES[name] for name in SCALES if pytestconfig.getoption(name)]
    return chosen[0] if chosen else DEFAULT_SCALE


@pytest.fixture(scope="session")
def x_bytes(scale: float) -> float:
    return X_BYTES * scale


@pytest.fixture(params=DTYPES)
def dtype(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def one_thread():
    with fastlsgd.config_context(n_threads=1):
        yield


@pytest.fixture
def measure(benchmark, request: pytest.FixtureRequest) -> Callable:
    """Check the result of a call, time it, and record how fast it read X.

    ``measure(make, check, problem, group)``: `make` returns the call, or raises `NotInstalled`.
    """

    def run(make: Callable, check: Callable, problem: Problem, group: str) -> None:
        benchmark.group = f"{group}, {problem.dtype}"
        try:
            call = make()
        except NotInstalled as missing:
            pytest.skip(str(missing))
        check(call())
        # The first call compiled code and started threads; the second shows how long a call takes.
        rounds = min(100, max(3, int(SECONDS / seconds_of(call))))
        benchmark.pedantic(call, rounds=rounds)
        if benchmark.stats is not None:  # --benchmark-disable
            _record(benchmark, problem, request)

    return run


def _record(benchmark, problem: Problem, request: pytest.FixtureRequest) -> None:
    bandwidth = read_bandwidth(resolve_threads())
    best = benchmark.stats.stats.min
    info = {
        "GB/s of X": problem.nbytes / best / 1e9,
        "read bandwidth, GB/s": bandwidth / 1e9,
        "share of bandwidth": (problem.nbytes + problem.y.nbytes) / best / bandwidth,
    }
    benchmark.extra_info.update(info)
    request.config.stash[ROWS].append((benchmark.group, request.node.name, *info.values()))


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    """Print ``extra_info`` in a table of its own: pytest-benchmark's have no column for it."""
    rows = config.stash[ROWS]
    if not rows:
        return
    width = max(len(name) for _, name, *_ in rows)
    terminalreporter.section("GB/s of X, and X and y as a share of the read bandwidth")
    last_group = None
    for group, name, speed, bandwidth, share in rows:
        if group != last_group:
            terminalreporter.write_line(f"{group}  (the probe reads {bandwidth:.1f} GB/s)")
        last_group = group
        terminalreporter.write_line(f"  {name:<{width}}  {speed:>7.2f} GB/s  {share:>5.0%}")
