"""Time robust covariances beside statsmodels and pyfixest, for docs/inference.md.

    python bench/inference.py                   1,000,000 x 20 float32, a minute; 2 GB of memory
    python bench/inference.py --rows 10000000 --only fastlsgd

A call fits and finds the standard errors; those of the peers are compared with ours first. Seconds
are of the processor, of all threads, and by the clock: the machine may be shared. pyfixest's HC3 is
called so, and has a factor n / (n - k), which is 1.002 for the 9,999 rows that are compared; its
"hetero" is HC1. Peers that are not installed are left out: pip install statsmodels pyfixest.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from collections.abc import Callable

import numpy as np

from fastlsgd import LeastSquaresRegressor
from fastlsgd.kernels import resolve_threads

COLUMNS, CLUSTERS, ROUNDS = 20, 5_000, 2


def problem(n: int):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, COLUMNS), dtype=np.float32)
    y = X[:, 0] + rng.standard_normal(n, dtype=np.float32)
    return X, y, rng.integers(0, CLUSTERS, n)


def ours(X, y, groups) -> dict[str, Callable[[], np.ndarray]]:
    def errors(cov_type, cov_kwds=None):
        model = LeastSquaresRegressor().fit(X, y)
        return model.summary(cov_type=cov_type, cov_kwds=cov_kwds, X=X, y=y).standard_error

    return {
        "HC1": lambda: errors("HC1"),
        "HC3": lambda: errors("HC3"),
        "cluster": lambda: errors("cluster", {"groups": groups}),
    }


def by_statsmodels(X, y, groups) -> dict[str, Callable[[], np.ndarray]]:
    import statsmodels.api as sm

    def errors(cov_type, cov_kwds=None):
        return sm.OLS(y, sm.add_constant(X)).fit(cov_type=cov_type, cov_kwds=cov_kwds).bse

    return {
        "HC1": lambda: errors("HC1"),
        "HC3": lambda: errors("HC3"),
        "cluster": lambda: errors("cluster", {"groups": groups}),
    }


def by_pyfixest(X, y, groups) -> dict[str, Callable[[], np.ndarray]]:
    import pandas
    import pyfixest

    names = [f"x{j}" for j in range(COLUMNS)]
    frame = pandas.DataFrame(X, columns=names).assign(y=y, g=groups)

    def errors(vcov):
        return pyfixest.feols("y ~ " + " + ".join(names), frame, vcov=vcov).se().to_numpy()

    return {
        "HC1": lambda: errors("hetero"),
        "HC3": lambda: errors("HC3"),
        "cluster": lambda: errors({"CRV1": "g"}),
    }


def processor_seconds() -> float:
    return sum(os.times()[:4])


def best_seconds(call: Callable[[], np.ndarray]) -> tuple[float, float]:
    """Return the least seconds of the processor, and by the clock, of a few calls."""
    found = []
    for _ in range(ROUNDS):
        busy, begun = processor_seconds(), time.perf_counter()
        call()
        found.append((processor_seconds() - busy, time.perf_counter() - begun))
    return min(busy for busy, _ in found), min(clock for _, clock in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", choices=("fastlsgd", "statsmodels", "pyfixest"))
    options = parser.parse_args()
    makers = {"fastlsgd": ours, "statsmodels": by_statsmodels, "pyfixest": by_pyfixest}
    X, y, groups = problem(options.rows)
    expected = {name: call() for name, call in ours(X[:9999], y[:9999], groups[:9999]).items()}
    shape = f"{options.rows:,} x {COLUMNS} float32, {CLUSTERS:,} clusters"
    print(f"{shape}, {resolve_threads()} threads")
    print("\n| | library | seconds of the processor | by the clock |\n| --- | --- | --- | --- |")
    for library, make in makers.items():
        is_there = library == "fastlsgd" or importlib.util.find_spec(library) is not None
        if not is_there or options.only not in (None, library):
            continue
        for name, call in make(X[:9999], y[:9999], groups[:9999]).items():
            np.testing.assert_allclose(call(), expected[name], rtol=2e-3)
        for name, call in make(X, y, groups).items():
            busy, clock = best_seconds(call)
            print(f"| {name} | {library} | {busy:.2f} | {clock:.2f} |", flush=True)


if __name__ == "__main__":
    main()
