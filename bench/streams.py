"""Moments and streams beside their peers: `python bench/streams.py [--gigabytes 2]`.

Each speed is in bytes of X per second, beside the peer in the same run; the best of some runs that
take turns. "CPU s/GB" is the processor time of this process, which does not count other programs.
Files are written in chunks, and read once before, so that they come from the page cache
where there is room. Peak memory is that of a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

GROUP_NUMBERS = 25_000_000  # in a row group


class Times(NamedTuple):
    """Least seconds of each call, of the clock and of this process."""

    wall: dict[str, float]
    cpu: dict[str, float]

    def row(self, n_bytes: float) -> dict[str, dict[str, float]]:
        """Return speeds for so many bytes, and processor time per GB."""
        gigabytes = n_bytes * 1e-9
        return {
            "GB/s": {name: round(gigabytes / s, 3) for name, s in self.wall.items()},
            "CPU s/GB": {name: round(s / gigabytes, 3) for name, s in self.cpu.items()},
        }


def best_of(
    calls: dict[str, Callable[[], object]],
    runs: int,
    processor_time: Callable[[], float] = time.process_time,
) -> Times:
    """Return the times of each call; the calls take turns."""
    best = Times(dict.fromkeys(calls, np.inf), dict.fromkeys(calls, np.inf))
    for _ in range(runs):
        for name, call in calls.items():
            used, begun = processor_time(), time.perf_counter()
            call()
            seconds, used = time.perf_counter() - begun, processor_time() - used
            best.wall[name] = min(best.wall[name], seconds)
            best.cpu[name] = min(best.cpu[name], used)
    return best


def chunks(n: int, d: int):
    """Yield (X, y) of float32, the same in each call."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=d).astype(np.float32)
    step = GROUP_NUMBERS // d
    for start in range(0, n, step):
        X = rng.standard_normal((min(step, n - start), d), np.float32)
        yield X, X @ w


def make_parquet(path: Path, n: int, d: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(f"c{j}", pa.float32()) for j in range(d)] + [("y", pa.float32())])
    with pq.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for X, y in chunks(n, d):
            columns = [pa.array(np.ascontiguousarray(X[:, j])) for j in range(d)]
            writer.write_table(pa.Table.from_arrays([*columns, pa.array(y)], schema=schema))


def make_npy(path: Path, n: int, d: int) -> None:
    array = np.lib.format.open_memmap(path, "w+", np.float32, (n, d + 1))
    start = 0
    for X, y in chunks(n, d):
        array[start : start + len(X), :d], array[start : start + len(X), d] = X, y
        start += len(X)
    array.flush()


def decode(path: Path) -> int:
    """Decode the whole file by PyArrow, a batch at a time."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return sum(batch.num_rows for batch in file.iter_batches(65536))


def parquet_row(folder: Path, gigabytes: float, d: int, memory: int, runs: int) -> dict:
    from fastlsgd.streaming import scan

    n = int(gigabytes * 1e9 / 4 / d)
    path = folder / f"bench_{d}.parquet"
    make_parquet(path, n, d)
    part = next(chunks(GROUP_NUMBERS // d, d))
    calls = {
        "pyarrow's decoding": lambda: decode(path),
        "stream alone": lambda: sum(len(y) for _, y, _ in scan(path, "y", memory=memory)),
        "moments": lambda: scan(path, "y", memory=memory).moments(),
    }
    calls["moments of rows in memory"] = lambda: in_memory(part, n)
    times = best_of(calls, runs)
    peak = peak_memory(path, memory)
    path.unlink()
    return {"d": d, **times.row(n * d * 4), "peak MB": peak}


def in_memory(part, n: int) -> None:
    """Take the moments of n rows that are the same few again and again."""
    from fastlsgd import Moments

    moments = Moments()
    for _ in range(-(-n // len(part[1]))):
        moments.update(*part)


PEAK = """
import re, sys
from fastlsgd.streaming import scan
target = sys.argv[2] if sys.argv[2] == "y" else int(sys.argv[2])
scan(sys.argv[1], target, memory=int(sys.argv[3])).moments()
print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024)
"""


def peak_memory(path: Path, memory: int, target: str = "y") -> float:
    command = [sys.executable, "-c", PEAK, str(path), target, str(memory)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def read_file(path: Path) -> int:
    total = 0
    with open(path, "rb", buffering=0) as file:
        buffer = bytearray(2**24)
        while count := file.readinto(buffer):
            total += count
    return total


def npy_row(folder: Path, gigabytes: float, memory: int, runs: int) -> dict:
    from fastlsgd.streaming import scan

    d = 100
    n = int(gigabytes * 1e9 / 4 / d)
    path = folder / "bench.npy"
    make_npy(path, n, d)
    part = next(chunks(100_000, d))
    calls = {
        "reading the file": lambda: read_file(path),
        "moments": lambda: scan(path, d, memory=memory).moments(),
        "moments of rows in memory": lambda: in_memory(part, n),
    }
    times = best_of(calls, runs)
    peak = peak_memory(path, memory, str(d))
    path.unlink()
    return {"d": d, **times.row(n * d * 4), "peak MB": peak}


def update_row(runs: int, dtype) -> dict:
    """Ten chunks of 100,000 x 100 in memory, beside scikit-learn-intelex where it is installed."""
    from fastlsgd import Moments

    X, y = next(chunks(100_000, 100))
    X, y = X.astype(dtype), y.astype(dtype)

    def ours():
        moments = Moments()
        for _ in range(10):
            moments.update(X, y)

    calls = {"Moments.update": ours}
    try:
        from sklearnex.linear_model import IncrementalLinearRegression
    except ImportError:
        pass
    else:

        def intel():
            model = IncrementalLinearRegression()
            for _ in range(10):
                model.partial_fit(X, y)
            return model.coef_

        calls["IncrementalLinearRegression"] = intel
    return {"dtype": np.dtype(dtype).name, **best_of(calls, runs).row(10 * X.nbytes)}


def sgd_row(runs: int, learning_rate: str) -> dict:
    """One pass of SGD over 50 chunks of 10,000 x 100, beside scikit-learn's partial_fit."""
    from sklearn.linear_model import SGDRegressor as ScikitLearn

    from fastlsgd import SGDRegressor
    from fastlsgd.streaming import scan

    X, y = (part[:10_000] for part in next(chunks(100_000, 100)))
    batches = [(X, y)] * 50
    options = {"alpha": 0.0, "random_state": 0}
    own = {"learning_rate": learning_rate, "max_iter": 1}
    if learning_rate != "auto":
        own["eta0"] = 1e-4

    def theirs():
        model = ScikitLearn(learning_rate="constant", eta0=1e-4, **options)
        for batch in batches:
            model.partial_fit(*batch)

    calls = {
        "fit_stream": lambda: SGDRegressor(**options, **own).fit_stream(scan(batches)),
        "scikit-learn's partial_fit": theirs,
    }
    return {"learning_rate": learning_rate, **best_of(calls, runs).row(50 * X.nbytes)}


def dask_row(gigabytes: float, runs: int) -> dict:
    """Fits on two worker processes, beside dask-ml where it is installed, and one process."""
    import dask.array as da
    from distributed import Client, LocalCluster, wait

    from fastlsgd import LeastSquaresRegressor, Moments, config_context
    from fastlsgd.dask import LeastSquaresRegressor as Distributed
    from fastlsgd.dask import SGDRegressor as Stochastic

    n, d, rows = int(gigabytes * 1e9 / 4 / 100), 100, 250_000
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    rate = {"learning_rate": "constant", "eta0": 1e-3}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        generator = da.random.default_rng(0)
        X = generator.standard_normal((n, d), chunks=(rows, d), dtype=np.float32).persist()
        y = (X.sum(axis=1) + generator.standard_normal(n, chunks=rows)).persist()
        wait([X, y])
        part = X.blocks[0].compute(), y.blocks[0].compute()

        def one_process():
            with config_context(n_threads=2):
                moments = Moments()
                for _ in range(len(X.chunks[0])):
                    moments.update(*part)
                LeastSquaresRegressor().fit_moments(moments)

        calls = {
            "one process, two threads": one_process,
            "fastlsgd.dask, moments": lambda: Distributed().fit(X, y),
            "fastlsgd.dask, descent": lambda: Distributed(solver="cg").fit(X, y),
            "fastlsgd.dask, SGD": lambda: Stochastic().fit(X, y),
            "fastlsgd.dask, SGD, one epoch": lambda: Stochastic(max_iter=1, **rate).fit(X, y),
        }
        try:
            from dask_ml.linear_model import LinearRegression
            from dask_ml.wrappers import Incremental
        except ImportError:
            pass
        else:
            from sklearn.linear_model import SGDRegressor

            calls["dask-ml LinearRegression"] = lambda: LinearRegression().fit(X, y)
            stochastic = Incremental(SGDRegressor(**rate), assume_equal_chunks=True)
            calls["dask-ml Incremental(SGDRegressor)"] = lambda: stochastic.fit(X, y)

        def busy() -> float:
            return time.process_time() + sum(client.run(time.process_time).values())

        return {"d": d, **best_of(calls, runs, busy).row(n * d * 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--folder", type=Path, default=Path("/tmp"))
    parser.add_argument("--memory", type=int, default=2**29)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    rows = {
        "parquet": lambda: parquet_row(
            options.folder, options.gigabytes, 100, options.memory, options.runs
        ),
        "wide parquet": lambda: parquet_row(
            options.folder, options.gigabytes, 1000, options.memory, options.runs
        ),
        "npy": lambda: npy_row(options.folder, options.gigabytes, options.memory, options.runs),
        "update float32": lambda: update_row(options.runs, np.float32),
        "update float64": lambda: update_row(options.runs, np.float64),
        "sgd": lambda: sgd_row(options.runs, "constant"),
        "sgd auto": lambda: sgd_row(options.runs, "auto"),
        "dask": lambda: dask_row(options.gigabytes, options.runs),
    }
    for name, row in rows.items():
        if options.only in ("", name):
            print(json.dumps({"row": name, **row()}), flush=True)


if __name__ == "__main__":
    main()
