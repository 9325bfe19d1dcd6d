"""Many regressions at once, beside statsmodels, polars-ols, polars-ds and a loop of NumPy's lstsq.

Each library's weights are first compared with those of NumPy for some segments.
"""

from __future__ import annotations

import numpy as np
import pytest

import fastlsgd

GROUP_ROWS, WINDOW, COLUMNS = 50, 250, 5
NAMES = [f"x{j}" for j in range(COLUMNS)]


def _problem(n: int):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, COLUMNS)), rng.standard_normal(n)


def _frame(X, y, groups):
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(X, schema=NAMES)
    return polars, frame.with_columns(polars.Series("y", y), polars.Series("g", groups))


def _numpy_fit(X, y):
    A = np.column_stack([X, np.ones(len(X))])
    return np.linalg.lstsq(A, y, rcond=None)[0]


def _fastlsgd_groups(X, y, groups):
    return lambda: fastlsgd.grouped_lstsq(X, y, groups).coef


def _numpy_groups(X, y, groups):
    cuts = np.flatnonzero(np.diff(groups)) + 1
    pairs = list(zip(np.split(X, cuts), np.split(y, cuts), strict=True))
    return lambda: np.array([_numpy_fit(*pair)[:-1] for pair in pairs])


def _polars_ds_groups(X, y, groups):
    pds = pytest.importorskip("polars_ds")
    _, frame = _frame(X, y, groups)
    fit = pds.lin_reg(*NAMES, target="y", add_bias=True).alias("w")
    return lambda: frame.group_by("g", maintain_order=True).agg(fit)["w"].to_list()


def _polars_ols_groups(X, y, groups):
    pytest.importorskip("polars_ols")
    polars, frame = _frame(X, y, groups)
    columns = [polars.col(name) for name in NAMES]
    fit = polars.col("y").least_squares.ols(*columns, mode="coefficients", add_intercept=True)
    return lambda: frame.group_by("g", maintain_order=True).agg(fit.first().alias("w"))["w"]


GROUPED = {
    "fastlsgd": _fastlsgd_groups,
    "polars-ds": _polars_ds_groups,
    "polars-ols": _polars_ols_groups,
    "numpy, a loop": _numpy_groups,
}


@pytest.mark.parametrize("library", GROUPED)
def bench_grouped(library, scale, benchmark):
    """Regressions of 50 rows and 5 columns, for 100,000 groups at full scale."""
    n = GROUP_ROWS * int(100_000 * scale)
    X, y = _problem(n)
    groups = np.repeat(np.arange(n // GROUP_ROWS), GROUP_ROWS)
    benchmark.group = f"grouped, {n // GROUP_ROWS:,} groups x {GROUP_ROWS} x {COLUMNS}"
    call = GROUPED[library](X, y, groups)
    found = call()
    if library != "polars-ols":  # whose results are structures
        own = np.asarray(list(found[0]))[:COLUMNS]
        expected = _numpy_fit(X[:GROUP_ROWS], y[:GROUP_ROWS])
        np.testing.assert_allclose(own, expected[:COLUMNS], rtol=1e-6)
    benchmark.pedantic(call, rounds=3)


def _fastlsgd_windows(X, y):
    return lambda: fastlsgd.rolling_lstsq(X, y, WINDOW).coef


def _statsmodels_windows(X, y):
    rolling = pytest.importorskip("statsmodels.regression.rolling")
    A = np.column_stack([X, np.ones(len(X))])
    return lambda: rolling.RollingOLS(y, A, WINDOW).fit(params_only=True).params


def _polars_ds_windows(X, y):
    pds = pytest.importorskip("polars_ds")
    _, frame = _frame(X, y, np.zeros(len(y)))
    fit = pds.rolling_lin_reg(*NAMES, target="y", window_size=WINDOW, add_bias=True)
    return lambda: frame.select(fit.alias("fit")).unnest("fit")["coeffs"]


ROLLING = {
    "fastlsgd": _fastlsgd_windows,
    "polars-ds": _polars_ds_windows,
    "statsmodels": _statsmodels_windows,
}


@pytest.mark.parametrize("library", ROLLING)
def bench_rolling(library, scale, benchmark):
    """Windows of 250 rows and 5 columns; statsmodels has a twentieth of the million rows."""
    n = int(1_000_000 * scale) // (20 if library == "statsmodels" else 1)
    X, y = _problem(n)
    benchmark.group = f"rolling, window {WINDOW} x {COLUMNS}"
    call = ROLLING[library](X, y)
    own = np.asarray(list(call()[-1]))[:COLUMNS]
    np.testing.assert_allclose(own, _numpy_fit(X[-WINDOW:], y[-WINDOW:])[:COLUMNS], rtol=1e-6)
    benchmark.extra_info["rows"] = n
    benchmark.pedantic(call, rounds=3)
