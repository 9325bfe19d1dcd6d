"""A cost model of fits on many workers: `python bench/scaling.py [--gigabytes 1] [--picture FILE]`.

Measures the constants of the model on this machine, in seconds of processor time where work is
computed, so that other programs do not count; compares the model with fits on 1, 2 and 4 workers;
and draws it up to 1,000 workers and 10 TB. Constants of the network and the storage of a cluster
can't be measured here, and are stated as assumptions.
"""

from __future__ import annotations

import argparse
import json
import math
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

BLOCK_BYTES = 2**27
FAN_IN = 8
PASSES = 40  # of a descent
ROUND_TRIP = 5e-4  # s, assumed, between two machines


@dataclass(frozen=True)
class Constants:
    """What the model is made of; seconds per byte are of X in float32."""

    moments: float  # s / B, d = 100
    totals: float  # s / B
    gradient: float  # s / B
    per_task: float  # s, of the scheduler
    latency: float  # s, from a step's request to its result where nothing is computed
    merge: float  # s per number of a d x d matrix
    solve: float  # s per d^3
    # Assumed: a network of 10 Gbit/s, and storage that gives each worker 0.2 GB/s after decoding.
    network: float = 1.0 / 1.25e9  # s / B
    read: float = 1.0 / 0.2e9  # s / B


def cpu_seconds(call: Callable[[], object], runs: int = 5) -> float:
    """Return the least processor time of a call in this process."""
    best = np.inf
    for _ in range(runs):
        begun = time.process_time()
        call()
        best = min(best, time.process_time() - begun)
    return best


def measured(client) -> Constants:
    import dask

    from fastlsgd import LeastSquaresRegressor, Moments, config_context, loss_gradient
    from fastlsgd._column_totals import ColumnTotals

    X = np.random.default_rng(0).standard_normal((200_000, 100), np.float32)
    y, w = X[:, 0].copy(), np.zeros(100)
    with config_context(n_threads=1):
        moments = cpu_seconds(lambda: Moments.from_data(X, y)) / X.nbytes
        totals = cpu_seconds(lambda: ColumnTotals().update(X, y)) / X.nbytes
        gradient = cpu_seconds(lambda: loss_gradient(X, y, w)) / X.nbytes
        wide = Moments.from_data(np.random.default_rng(0).normal(size=(1200, 600)), np.zeros(1200))
        merge = cpu_seconds(lambda: pickle.loads(pickle.dumps(wide + wide))) / 600**2
        solve = cpu_seconds(lambda: LeastSquaresRegressor().fit_moments(wide), 2) / 600**3
    nothing = dask.delayed(int, pure=False)

    def step(tasks: int) -> float:
        """Return the processor time of client and scheduler, which share this process."""
        graphs = [dask.delayed(sum)([nothing(k) for k in range(tasks)]) for _ in range(5)]
        graph = iter(graphs)
        return cpu_seconds(lambda: client.compute(next(graph)).result())

    few, many = step(4), step(404)
    latency = few + 4 * ROUND_TRIP
    return Constants(moments, totals, gradient, (many - few) / 400, latency, merge, solve)


def moments_seconds(c: Constants, n_bytes: float, workers: float, d: int, in_memory=False) -> dict:
    """Return the parts of a fit by moments in one pass."""
    tasks = n_bytes / BLOCK_BYTES if not in_memory else workers
    levels = math.ceil(math.log(max(workers, 2), FAN_IN))
    send = 8.0 * d * d * c.network
    return {
        "reading": 0.0 if in_memory else n_bytes / workers * c.read,
        "computing": n_bytes / workers * c.moments * max(d / 100.0, 1.0),
        "scheduler": c.latency + 1.2 * tasks * c.per_task,
        "adding up": 0.0 if workers == 1 else levels * FAN_IN * (send + d * d * c.merge),
        "solving": c.solve * d**3,
    }


def descent_seconds(c: Constants, n_bytes: float, workers: float, d: int, passes: int) -> dict:
    """Return the parts of a descent over rows in the workers' memory."""
    levels = math.ceil(math.log(max(workers, 2), FAN_IN))
    hops = math.ceil(math.log2(max(workers, 2)))
    send = 8.0 * d * c.network
    step = {
        "reading": n_bytes / workers * c.read / passes,
        "computing": n_bytes / workers * c.gradient,
        "scheduler": c.latency + 1.2 * workers * c.per_task,
        "adding up": 0.0 if workers == 1 else (levels * FAN_IN + hops) * send,
    }
    found = {name: passes * seconds for name, seconds in step.items()}
    found["computing"] += n_bytes / workers * c.totals
    return found


def compared(gigabytes: float) -> list[dict]:
    """Fit on 1, 2 and 4 workers, each beside the model without storage and network."""
    import dask.array as da
    from distributed import Client, LocalCluster, wait

    from fastlsgd.dask import LeastSquaresRegressor

    d, rows = 100, []
    n = int(gigabytes * 1e9 / 4 / d)
    for workers in (1, 2, 4):
        options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
        with LocalCluster(**options) as cluster, Client(cluster) as client:
            c = replace(measured(client), network=1.0 / 1e9, read=0.0)
            generator = da.random.default_rng(0)
            size = -(-n // (8 * workers))
            X = generator.standard_normal((n, d), chunks=(size, d), dtype=np.float32).persist()
            y = X.sum(axis=1).persist()
            wait([X, y])
            for solver in ("gram", "cg"):
                model = LeastSquaresRegressor(solver=solver)
                model.fit(X, y)
                before = busy_seconds(client)
                begun = time.perf_counter()
                model.fit(X, y)
                wall = time.perf_counter() - begun
                busy = busy_seconds(client) - before
                at_once = min(workers, 2)  # processors of this machine
                if solver == "gram":
                    told = moments_seconds(c, X.nbytes, at_once, d, in_memory=True)
                else:
                    told = descent_seconds(c, X.nbytes, at_once, d, model.n_iter_)
                rows.append({
                    "workers": workers, "solver": solver, "passes": model.n_iter_,
                    "model s": round(sum(told.values()), 3), "wall s": round(wall, 3),
                    "model CPU s": round(told["computing"] * at_once, 3),
                    "workers' CPU s": round(busy, 3),
                })  # fmt: skip
                print(json.dumps(rows[-1]), flush=True)
    return rows


def busy_seconds(client) -> float:
    return sum(client.run(time.process_time).values())


def draw(c: Constants, path: Path) -> None:
    """Draw what binds, for 10 TB and up to 1,000 workers."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    workers = np.unique(np.geomspace(1, 1000, 60).astype(int))
    cases = {
        "10 TB from storage, d = 100\nmoments, one pass":
            lambda w: moments_seconds(c, 1e13, w, 100),
        "10 TB from storage, d = 2,000\nmoments, one pass":
            lambda w: moments_seconds(c, 1e13, w, 2000),
        f"10 TB in memory, d = 100,000\ndescent, {PASSES} passes":
            lambda w: descent_seconds(c, 1e13, w, 100_000, PASSES),
    }  # fmt: skip
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), sharey=True)
    for axis, (title, parts_of) in zip(axes, cases.items(), strict=True):
        parts = [parts_of(int(w)) for w in workers]
        for name in parts[0]:
            axis.plot(workers, [part[name] for part in parts], label=name)
        axis.plot(workers, [sum(part.values()) for part in parts], "k", lw=2, label="all")
        axis.set(xscale="log", yscale="log", title=title, xlabel="workers", ylim=(1e-2, 1e6))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("seconds")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def table(c: Constants) -> None:
    """Print what the picture shows at some numbers of workers."""
    for name, parts_of in {
        "moments, d=100": lambda w: moments_seconds(c, 1e13, w, 100),
        "moments, d=2000": lambda w: moments_seconds(c, 1e13, w, 2000),
        "descent, d=100000": lambda w: descent_seconds(c, 1e13, w, 100_000, PASSES),
    }.items():
        for workers in (10, 100, 1000):
            parts = {part: round(s, 1) for part, s in parts_of(workers).items()}
            print(json.dumps({"fit": name, "workers": workers, **parts,
                              "all": round(sum(parts.values()), 1)}))  # fmt: skip


def main() -> None:
    from distributed import Client, LocalCluster

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--picture", type=Path, default=Path("docs/scaling.png"))
    options = parser.parse_args()
    one = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**one) as cluster, Client(cluster) as client:
        constants = measured(client)
    print(json.dumps(vars(constants)), flush=True)
    table(constants)
    draw(constants, options.picture)
    compared(options.gigabytes)


if __name__ == "__main__":
    main()
