"""The speed map's other tables: fits beside busy processes, and how time grows with the numbers.

`beside_busy_processes` times small fits with all threads, first alone and then with a process per
core that computes without end. Each of those is owed half of a core, so that a fit on one thread
may take twice its time; one that waits for threads which do not run takes 10 to 400 times as long.

`slopes` fits the exponent of time against n, d or the stored numbers, over three decades.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.linear_model import ElasticNet, LinearRegression, Ridge
from sklearn.linear_model import SGDRegressor as SklearnRegressor
from timing import seconds_of

from fastlsgd import LeastSquaresRegressor, SGDClassifier, SGDRegressor, lstsq
from fastlsgd.kernels import usable_processors

Call = Callable[[], object]

REPEATS = 25
LONGEST = 2.0  # seconds for all repeats of a call
SHARE = 2.0  # by how much a busy process per core may lengthen a thread's work


class Crowded(NamedTuple):
    """Medians in seconds, alone and beside busy processes."""

    job: str
    alone: float
    beside: float


# ------------------------------------------------------------------------------ busy processes


@contextmanager
def a_busy_process_per_core() -> Iterator[None]:
    others = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(usable_processors())
    ]
    time.sleep(0.3)
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def median_of(call: Call) -> float:
    once = seconds_of(call)
    repeats = int(np.clip(LONGEST / max(once, 1e-9), 3, REPEATS))
    return float(np.median([seconds_of(call) for _ in range(repeats)]))


def data(n: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    return X, X[:, : min(d, 3)].sum(axis=1) + rng.standard_normal(n)


def small_jobs() -> dict[str, Call]:
    """fastlsgd's fits, and scikit-learn's of the same."""
    jobs: dict[str, Call] = {}
    X, y = data(20, 3)
    Y = np.column_stack([y] * 5)
    jobs["ridge, 5 targets, 20 x 3"] = partial(LeastSquaresRegressor(alpha=0.05).fit, X, Y)
    jobs["Ridge, the same"] = partial(Ridge(1.0).fit, X, Y)
    X, y = data(200, 50)
    jobs["SGDRegressor, 200 x 50"] = partial(SGDRegressor(random_state=0).fit, X, y)
    jobs["scikit-learn's SGDRegressor, the same"] = partial(
        SklearnRegressor(random_state=0).fit, X, y
    )
    X, y = data(1_000, 20)
    jobs["lstsq, 1,000 x 20"] = partial(lstsq, X, y)
    jobs["numpy.linalg.lstsq, the same"] = partial(np.linalg.lstsq, X, y)
    X, y = data(200, 1_000)
    jobs["ridge, 200 x 1,000"] = partial(LeastSquaresRegressor(alpha=0.1).fit, X, y)
    jobs["Ridge, 200 x 1,000"] = partial(Ridge(20.0).fit, X, y)
    jobs["lasso, 200 x 1,000"] = partial(LeastSquaresRegressor(alpha=0.3, l1_ratio=1.0).fit, X, y)
    jobs["Lasso, 200 x 1,000"] = partial(ElasticNet(alpha=0.3, l1_ratio=1.0).fit, X, y)
    X, y = data(20_000, 20)
    jobs["least squares, 20,000 x 20"] = partial(LeastSquaresRegressor().fit, X, y)
    jobs["LinearRegression, the same"] = partial(LinearRegression().fit, X, y)
    return jobs


def beside_busy_processes() -> list[Crowded]:
    jobs = small_jobs()
    for call in jobs.values():
        call()
    alone = {job: median_of(call) for job, call in jobs.items()}
    with a_busy_process_per_core():
        beside = {job: median_of(call) for job, call in jobs.items()}
    return [Crowded(job, alone[job], beside[job]) for job in jobs]


def crowded_lines(found: list[Crowded]) -> list[str]:
    lines = [
        "## Beside busy processes",
        "",
        f"With all threads, alone and beside a busy process per core ({usable_processors()}); a"
        f" thread then gets half of its core, so that {SHARE:g} is its share.",
        "",
        "| job | alone, ms | beside, ms | times as long |",
        "| --- | --- | --- | --- |",
    ]
    for job, alone, beside in found:
        lines.append(f"| {job} | {1e3 * alone:.2f} | {1e3 * beside:.2f} | {beside / alone:.1f} |")
    return [*lines, ""]


# ---------------------------------------------------------------------------------- slopes


def slope_of(sizes: list[int], calls: list[Call]) -> tuple[float, list[float]]:
    """Return the exponent that fits the times best, and the least times."""
    times = []
    for call in calls:
        call()
        once = seconds_of(call)
        times.append(min(once, *(seconds_of(call) for _ in range(2 if once > 0.3 else 5))))
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0]), times


def stored(per_row: int) -> tuple[sp.csr_array, np.ndarray]:
    """2,000 CSR rows of 20,000 columns."""
    rng = np.random.default_rng(0)
    X = sp.random_array((2_000, 20_000), density=per_row / 20_000, format="csr", rng=rng)
    return X, X @ rng.standard_normal(20_000) + rng.standard_normal(2_000)


def slopes() -> Iterator[tuple[str, str, list[int], float, list[float]]]:
    """Yield the job, what grows, its values, the exponent and the times."""
    fits: dict[str, Callable] = {
        "least squares": lambda X, y: LeastSquaresRegressor().fit(X, y),
        "default SGDRegressor": lambda X, y: SGDRegressor(random_state=0).fit(X, y),
        "default SGDClassifier": lambda X, y: SGDClassifier(random_state=0).fit(X, y > 0.0),
    }
    rows = [1_000, 10_000, 100_000, 1_000_000]
    tall = [data(n, 20) for n in rows]
    for job, fit in fits.items():
        yield job, "n, 20 columns", rows, *slope_of(rows, [partial(fit, *part) for part in tall])
    del tall
    columns = [8, 80, 800, 8_000]
    short = [data(500, d) for d in columns]
    ridge = lambda X, y: LeastSquaresRegressor(alpha=0.1).fit(X, y)  # noqa: E731
    for job, fit in {"ridge": ridge, **fits}.items():
        if job != "least squares":
            calls = [partial(fit, *part) for part in short]
            yield job, "d, 500 rows", columns, *slope_of(columns, calls)
    numbers = [2_000, 20_000, 200_000, 2_000_000]
    sparse = [stored(nnz // 2_000) for nnz in numbers]
    for job, fit in {"ridge": ridge, **fits}.items():
        if job != "least squares":
            calls = [partial(fit, *part) for part in sparse]
            yield job, "stored numbers, 2,000 x 20,000", numbers, *slope_of(numbers, calls)


def slope_lines(found) -> list[str]:
    lines = [
        "## How time grows",
        "",
        "The exponent of time against what grows, fitted over three decades, with one thread; the"
        " work of a small fit is mostly its fixed cost, so that exponents below 1 are usual.",
        "",
        "| job | what grows | from | to | exponent | ms at each |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for job, what, sizes, exponent, times in found:
        each = ", ".join(f"{1e3 * seconds:.3g}" for seconds in times)
        ends = f"{sizes[0]:,} | {sizes[-1]:,}"
        lines.append(f"| {job} | {what} | {ends} | {exponent:.2f} | {each} |")
    return [*lines, ""]
