"""`grouped_lstsq`, `rolling_lstsq`, `expanding_lstsq` and `recursive_lstsq`."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest

import fastlsgd
from fastlsgd import expanding_lstsq, grouped_lstsq, recursive_lstsq, rolling_lstsq
from fastlsgd._group_labels import find_groups


def problem(n=120, d=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = X @ rng.standard_normal(d) + 2.0 + 0.3 * rng.standard_normal(n)
    return X, y, rng


def numpy_fit(X, y, s=None):
    root = np.ones(len(y)) if s is None else np.sqrt(s)
    A = root[:, None] * np.column_stack([X, np.ones(len(X))])
    return np.linalg.lstsq(A, root * y, rcond=None)[0]


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def without_order(rng):
    """Frozen sets, of which some are less than others."""
    kinds = np.array([frozenset(own) for own in ("a", "b", "ab")], object)
    return rng.choice(kinds, 120)


LABELS = {
    "sorted": lambda rng: np.sort(rng.integers(0, 6, 120)),
    "whole": lambda rng: rng.integers(-3, 3, 120),
    "far apart": lambda rng: rng.integers(0, 6, 120) * 10**15,
    "floats": lambda rng: rng.integers(0, 6, 120) / 7,
    "bools": lambda rng: rng.random(120) < 0.5,
    "strings": lambda rng: rng.choice(["a", "bb", "c"], 120),
    "objects": lambda rng: rng.choice(np.array(["a", "bb", "c"], object), 120),
    "mixed": lambda rng: rng.choice(np.array([1, "b", (2, 3)], object), 120),
    "sets": without_order,
    "dates": lambda rng: np.datetime64("2026-01-01") + rng.integers(0, 6, 120),
    "list": lambda rng: rng.integers(0, 6, 120).tolist(),
}


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("has_pandas", [True, False])
def test_groups_of_any_label(kind, has_pandas, monkeypatch):
    if not has_pandas:
        monkeypatch.delitem(sys.modules, "pandas")
    X, y, rng = problem()
    labels = LABELS[kind](rng)
    result = grouped_lstsq(X, y, labels, predictions=True)
    (keys,) = result.keys.values()
    assert len(keys) == len(set(np.asarray(labels).tolist()))
    for k, key in enumerate(keys):
        own = np.array([label == key for label in labels])
        w = numpy_fit(X[own], y[own])
        close(result.coef[k], w[:-1])
        close(result.intercept[k], w[-1])
        close(result.fitted[own], X[own] @ w[:-1] + w[-1])
        assert result.n_samples[k] == own.sum()


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int64, np.uint64])
def test_labels_at_the_ends_of_their_type(dtype):
    """Their difference does not fit into the type."""
    ends = np.iinfo(dtype)
    groups = np.array([ends.max, ends.min], dtype)[np.arange(40_000) % 2]
    x = np.arange(40_000.0)[:, None]
    result = grouped_lstsq(x, np.where(groups > 0, 2.0, 3.0) * x[:, 0], groups)
    assert result.keys["group"].tolist() == [ends.min, ends.max]
    np.testing.assert_allclose(result.coef[:, 0], [3.0, 2.0])


# NumPy 2 has strings of any length as a dtype.
STRINGS = np.dtypes.StringDType() if hasattr(np.dtypes, "StringDType") else "U1"


@pytest.mark.parametrize(
    ("groups", "keys"),
    [
        ([1, "1"], [1, "1"]),
        (np.array(["b", "a"], STRINGS), ["a", "b"]),
        ([(1, "b"), (1, "a")], [1, 1]),
        (pd.Series(pd.Categorical(["b", "a"] * 3, ["c", "b", "a"])), ["b", "a"]),
        (pd.Categorical(["b", "a"] * 3, ["c", "b", "a"]), ["b", "a"]),
        (pd.DataFrame({"k": pd.Categorical(["b", "a"] * 3, ["b", "a"]), "n": 1}), ["b", "a"]),
    ],
)
def test_labels_stay_what_they_are(groups, keys):
    every = groups * 3 if isinstance(groups, list) else groups
    every = np.tile(groups, 3) if isinstance(groups, np.ndarray) else every
    result = grouped_lstsq(np.arange(6.0)[:, None], np.arange(6.0), every)
    assert next(iter(result.keys.values())).tolist() == keys


def test_statistics_are_those_of_statsmodels():
    sm = pytest.importorskip("statsmodels.api")
    X, y, rng = problem()
    labels, s = rng.integers(0, 4, 120), rng.random(120)
    result = grouped_lstsq(X, y, labels, sample_weight=s, standard_errors=True)
    for k in range(4):
        own = labels == k
        model = sm.WLS(y[own], sm.add_constant(X[own]), s[own]).fit()
        close(result.r2[k], model.rsquared)
        close(result.residual_std[k], np.sqrt(model.scale))
        close(result.standard_error[k], model.bse[1:])
        close(result.intercept_standard_error[k], model.bse[0])


@pytest.mark.parametrize("cov_type", ["HC0", "HC1", "HC2", "HC3"])
def test_robust_errors_are_those_of_statsmodels(cov_type):
    sm = pytest.importorskip("statsmodels.api")
    X, y, rng = problem()
    labels, s = rng.integers(0, 4, 120), rng.random(120)
    found = grouped_lstsq(X, y, labels, sample_weight=s, cov_type=cov_type)
    windows = rolling_lstsq(X, y, 30, cov_type=cov_type)
    far = grouped_lstsq(X * 1e160, y * 1e130, labels, sample_weight=s, cov_type=cov_type)
    for k in range(4):
        own = labels == k
        fit = sm.WLS(y[own], sm.add_constant(X[own]), s[own]).fit(cov_type=cov_type)
        close(found.standard_error[k], fit.bse[1:])
        close(far.standard_error[k] * 1e30, fit.bse[1:])
        close(found.intercept_standard_error[k], fit.bse[0])
    fit = sm.OLS(y[-30:], sm.add_constant(X[-30:])).fit(cov_type=cov_type)
    close(windows.standard_error[-1], fit.bse[1:])
    so_far = expanding_lstsq(X, y, cov_type=cov_type)
    forgetting = recursive_lstsq(X, y, half_life=20, cov_type=cov_type)
    everything = recursive_lstsq(X, y, cov_type=cov_type)
    np.testing.assert_array_equal(so_far.standard_error, everything.standard_error)
    for row in (30, 119):
        A, b, s = sm.add_constant(X[: row + 1]), y[: row + 1], 0.5 ** (np.arange(row, -1, -1) / 20)
        close(so_far.standard_error[row], sm.OLS(b, A).fit(cov_type=cov_type).bse[1:])
        close(forgetting.standard_error[row], sm.WLS(b, A, s).fit(cov_type=cov_type).bse[1:])
    exact = grouped_lstsq(X[:4], y[:4], np.zeros(4), cov_type=cov_type)
    assert np.isnan(exact.standard_error).all()  # no residual degrees of freedom


def test_rolling_is_that_of_statsmodels():
    rolling = pytest.importorskip("statsmodels.regression.rolling")
    X, y, _ = problem()
    A = np.column_stack([np.ones(120), X])
    expected = rolling.RollingOLS(y, A, window=20).fit().params
    result = rolling_lstsq(X, y, 20, predictions=True)
    close(result.coef, expected[:, 1:])
    close(result.intercept, expected[:, 0])
    close(result.predicted[1:], (A[1:] * expected[:-1]).sum(axis=1))
    close(result.fitted, (A * expected).sum(axis=1))
    assert result.n_short == 19
    begins = rolling.RollingOLS(y, A, window=20, min_nobs=9, expanding=True).fit().params
    close(rolling_lstsq(X, y, 20, min_samples=9).coef, begins[:, 1:])
    growing = rolling.RollingOLS(y, A, window=120, min_nobs=9, expanding=True).fit().params
    close(expanding_lstsq(X, y, min_samples=9).coef, growing[:, 1:])


def test_windows_of_time_are_those_of_pandas():
    X, y, rng = problem(d=1)
    times = np.datetime64("2026-01-01") + np.sort(rng.integers(0, 60, 120))
    labels = rng.integers(0, 3, 120)
    result = rolling_lstsq(X, y, "7D", times=times, groups=labels)
    frame = pd.DataFrame({"x": X[:, 0], "y": y, "xy": X[:, 0] * y, "xx": X[:, 0] ** 2})
    frame["t"] = times.astype("datetime64[ns]")  # in other units, pandas 2.0 has other windows
    for key in range(3):
        part = frame[labels == key].set_index("t")
        window = part.rolling("7D")
        x, y_mean, xy, xx = window.mean().to_numpy().T
        slope = (xy - x * y_mean) / (xx - x * x)
        count = window["x"].count().to_numpy()
        own = result.coef[labels == key, 0]
        np.testing.assert_allclose(own[count >= 2], slope[count >= 2], rtol=1e-7)
        assert np.isnan(own[count < 2]).all()
        assert (result.n_samples[labels == key] == count).all()
    paris = pd.Series(times).dt.tz_localize("Europe/Paris")
    in_paris = rolling_lstsq(X, y, "168h", times=paris, groups=labels)
    for own in (pd.DatetimeIndex(paris), [time.to_pydatetime() for time in paris]):
        again = rolling_lstsq(X, y, "168h", times=own, groups=labels)
        np.testing.assert_array_equal(again.coef, in_paris.coef)
    in_utc = paris.dt.tz_convert("UTC").dt.tz_localize(None)
    utc = rolling_lstsq(X, y, "168h", times=in_utc, groups=labels)
    np.testing.assert_array_equal(utc.coef, in_paris.coef)
    days = (times - times[0]).astype(float)
    close(rolling_lstsq(X, y, 7.0, times=days, groups=labels).coef, result.coef)


@pytest.mark.parametrize(
    ("times", "window"),
    [
        (1_700_000_000_000_000_000 + np.arange(6), 2),  # float64 would round them
        (np.array([*range(6)], object), 2),
        (1e9 + np.arange(6.0), 2.0),
        (np.datetime64("2262-04-09") + np.arange(6), "2D"),  # beyond nanoseconds since 1970
        (np.datetime64("2026-01-01T00", "ns") + np.arange(6), pd.Timedelta(2, "ns")),
    ],
)
@pytest.mark.parametrize("groups", [None, np.zeros(6), np.array([0, 1, 0, 1, 0, 1])])
def test_windows_of_two_times(times, window, groups):
    result = rolling_lstsq(np.eye(6)[:, :1], np.arange(6.0), window, times=times, groups=groups)
    full = 1 if groups is not None and groups.any() else 2
    assert result.n_samples.tolist() == [1] + [full] * 5


def test_a_window_too_short_for_its_times_has_its_own_row():
    times = 1e9 + np.array([0.0, 0.0, 1.0])
    for groups in (None, [1, 1, 1], [0, 0, 1]):
        result = rolling_lstsq(np.eye(3), np.arange(3.0), 1e-9, times=times, groups=groups)
        assert result.n_samples.tolist() == [1, 2, 1]


def test_expanding_in_groups_keeps_the_order_of_rows():
    X, y, rng = problem()
    labels = rng.integers(0, 3, 120)
    result = expanding_lstsq(X, y, groups=labels)
    for row in range(0, 120, 11):
        own = np.flatnonzero(labels[: row + 1] == labels[row])
        if len(own) >= 4:
            close(result.coef[row], numpy_fit(X[own], y[own])[:-1])
        else:
            assert np.isnan(result.coef[row]).all()


def test_recursive_forgets_and_predicts_before_it_learns():
    X, y, _ = problem()
    result = recursive_lstsq(X, y, half_life=10)
    ages = np.arange(120)[::-1]
    for k in (30, 119):
        w = numpy_fit(X[: k + 1], y[: k + 1], 0.5 ** (ages[119 - k :] / 10))
        close(result.coef[k], w[:-1])
        if k < 119:
            close(result.predicted[k + 1], X[k + 1] @ w[:-1] + w[-1])
    days = np.datetime64("2026-01-01") + np.arange(120)
    close(recursive_lstsq(X, y, half_life="10D", times=days).coef, result.coef)
    filtered = pytest.importorskip("statsmodels.api").RecursiveLS(y, np.column_stack([X]))
    plain = recursive_lstsq(X, y, fit_intercept=False)
    expected = filtered.fit().recursive_coefficients.filtered.T
    np.testing.assert_allclose(plain.coef[10:], expected[10:], rtol=1e-5, atol=1e-6)


def test_initial_weights_are_rows_that_would_have_said_so():
    X, y, _ = problem(d=2)
    coef, precision = np.array([1.0, -1.0, 0.5]), np.array([2.0, 3.0, 4.0])
    result = recursive_lstsq(X, y, initial=(coef, precision))
    rows, targets = np.diag(np.sqrt(precision)), np.sqrt(precision) * coef
    A = np.column_stack([X, np.ones(120)])
    for k in (0, 1, 50):
        w = np.linalg.lstsq(np.vstack([rows, A[: k + 1]]), np.append(targets, y[: k + 1]))[0]
        close(np.append(result.coef[k], result.intercept[k]), w)


def test_missing_rows_are_skipped_or_refused():
    X, y, rng = problem()
    labels = rng.integers(0, 3, 120).astype(float)
    X[7, 1] = y[20] = labels[30] = np.nan
    with pytest.raises(ValueError, match=r"groups has 1 missing labels, the first in row 30"):
        grouped_lstsq(X, y, labels)
    with pytest.raises(ValueError, match="X contains NaN"):
        rolling_lstsq(X, y, 10)
    there = np.isfinite(X).all(axis=1) & np.isfinite(y) & np.isfinite(labels)
    skipped = grouped_lstsq(X, y, labels, missing="skip")
    close(skipped.coef, grouped_lstsq(X[there], y[there], labels[there]).coef)
    windows = rolling_lstsq(X, y, 10, missing="skip")
    assert np.isnan(windows.coef[7:17]).all()  # as pandas, which counts the rows that are there
    assert np.isfinite(windows.coef[17:20]).all()
    X[3, 0] = np.inf
    for missing in ("raise", "skip"):
        with pytest.raises(ValueError, match="X contains"):
            expanding_lstsq(X, np.zeros(120), missing=missing)


def test_numbers_that_are_not_finite_are_refused_before_anything_is_fitted_again(monkeypatch):
    X, y, _ = problem()
    X[1, 0] = np.nan  # in nearly every segment
    monkeypatch.setattr(fastlsgd.segments, "mend_out_of_range", pytest.fail)
    with pytest.raises(ValueError, match="X contains NaN"):
        expanding_lstsq(X, y)


def test_segments_beyond_the_range_of_squares():
    X, y, _ = problem(d=2)
    labels = np.repeat([0, 1, 2], 40)
    expected = grouped_lstsq(X, y, labels, standard_errors=True)
    scales = np.array([1e200, 1e-180])
    found = grouped_lstsq(X * scales, y * 1e100, labels, standard_errors=True)
    close(found.coef * scales / 1e100, expected.coef)
    close(found.intercept / 1e100, expected.intercept)
    close(found.r2, expected.r2)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_weights_whose_products_leave_the_range(scale):
    rng = np.random.default_rng(0)
    X, y, s = rng.normal(size=(60, 2)), rng.normal(size=60), rng.uniform(1.0, 2.0, 60)
    groups = np.repeat([0, 1], 30)
    for alpha in (0.0, 3.0):
        want = grouped_lstsq(X, y, groups, sample_weight=s, alpha=alpha)
        got = grouped_lstsq(X, y, groups, sample_weight=s * scale, alpha=alpha * scale)
        np.testing.assert_allclose(got.coef, want.coef, rtol=1e-12)
        np.testing.assert_allclose(got.r2, want.r2, rtol=1e-12)
        np.testing.assert_allclose(got.residual_std, want.residual_std * scale**0.5, rtol=1e-12)
    want = grouped_lstsq(X, y, groups, sample_weight=s, standard_errors=True)
    got = grouped_lstsq(X, y, groups, sample_weight=s * scale, standard_errors=True)
    np.testing.assert_allclose(got.standard_error, want.standard_error, rtol=1e-12)


@pytest.mark.parametrize("names", [["a", "a"], ["a", "intercept"]])
def test_a_frame_with_two_columns_of_one_name_is_refused(names):
    X = pd.DataFrame(np.eye(6)[:, :2], columns=names)
    with pytest.raises(ValueError, match=f"two columns '{names[1]}'"):
        expanding_lstsq(X, np.arange(6.0)).frame()


def test_short_and_singular_are_counted_or_take_alpha():
    X, y, _ = problem(n=20)
    X[10:16, 1] = X[10:16, 0]
    labels = np.repeat([0, 1, 2, 3], [10, 6, 3, 1])
    result = grouped_lstsq(X, y, labels)
    assert (result.n_short, result.n_singular) == (2, 1)
    assert np.isnan(result.coef).all(axis=1).tolist() == [False, True, True, True]
    assert np.isfinite(grouped_lstsq(X, y, labels, alpha=1e-3).coef).all()
    A, b = X[10:16] - X[10:16].mean(axis=0), y[10:16] - y[10:16].mean()
    ridge = np.linalg.solve(A.T @ A + 0.5 * np.eye(3), A.T @ b)
    close(grouped_lstsq(X, y, labels, alpha=0.5).coef[1], ridge)


@pytest.mark.parametrize("dtype", [np.float16, np.int8, bool, object, ">f8"])
def test_any_dtype(dtype):
    X, y, rng = problem()
    X = (4 * X).astype(np.int8).astype(dtype)
    labels = rng.integers(0, 3, 120)
    as_floats = X.astype(np.float64)
    for call in (grouped_lstsq, rolling_lstsq):
        second = labels if call is grouped_lstsq else 40
        np.testing.assert_allclose(
            call(X, y, second).coef, call(as_floats, y, second).coef, rtol=1e-9, atol=1e-12
        )


def test_pandas_in_pandas_out():
    X, y, rng = problem()
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    keys = pd.DataFrame(
        {"city": rng.choice(["Rome", "Oslo"], 120), "year": rng.integers(0, 2, 120)}
    )
    result = grouped_lstsq(frame, pd.Series(y), keys, standard_errors=True).frame()
    assert list(result.index.names) == ["city", "year"]
    assert list(result.columns) == [
        "a", "b", "c", "intercept", "n_samples", "r2", "residual_std", "a_standard_error",
        "b_standard_error", "c_standard_error", "intercept_standard_error",
    ]  # fmt: skip
    own = ((keys.city == "Oslo") & (keys.year == 1)).to_numpy()
    close(result.loc[("Oslo", 1), ["a", "b", "c"]], numpy_fit(X[own], y[own])[:-1])
    frame.index = pd.date_range("2026-01-01", periods=120)
    assert rolling_lstsq(frame, y, "9D", times=frame.index).frame().index.equals(frame.index)
    nullable = frame.astype("Float64")
    nullable.iloc[3, 0] = pd.NA
    assert rolling_lstsq(nullable, y, 10, missing="skip").n_short == 13


def test_polars_in_polars_out():
    pl = pytest.importorskip("polars")
    X, y, rng = problem()
    frame = pl.DataFrame(X, schema=["a", "b", "c"])
    keys = pl.Series("city", rng.choice(["Rome", "Oslo"], 120))
    result = grouped_lstsq(frame, pl.Series(y), keys).frame()
    assert result.columns[:4] == ["city", "a", "b", "c"]
    assert result["city"].to_list() == ["Oslo", "Rome"]


X, Y = np.eye(6)[:, :2], np.arange(6.0)
DAYS = np.datetime64("2026-01-01") + np.arange(6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rolling_lstsq(X, Y, 9), r"window=9 is longer than the data \(6 rows\)"),
        (lambda: rolling_lstsq(X, Y, 2), "window=2 is shorter than the 3 weights"),
        (lambda: rolling_lstsq(X, Y, 4, min_samples=5), "min_samples=5 is more than window=4"),
        (lambda: rolling_lstsq(X, Y, "3D"), "window='3D' needs times"),
        (lambda: rolling_lstsq(X, Y, "3 days", times=DAYS), "window must be a length of time"),
        (lambda: rolling_lstsq(X, Y, "0D", times=DAYS), "window must be positive"),
        (lambda: rolling_lstsq(X, Y, 3, times=DAYS), "window must be a length of time"),
        (lambda: rolling_lstsq(X, Y, "1M", times=DAYS), "window must be a length of time"),
        (lambda: rolling_lstsq(X, Y, "200000D", times=DAYS), "window must not span more than 292"),
        (lambda: rolling_lstsq(X, Y, np.timedelta64(3), times=DAYS), "a unit of fixed length"),
        (lambda: rolling_lstsq(X, Y, "3D", times=DAYS + 10**5 * (DAYS - DAYS[0])), "292 years"),
        (lambda: rolling_lstsq(X, Y, "3D", times=DAYS[::-1]), "does in row 1: sort X"),
        (lambda: grouped_lstsq(X, Y, [1, 2]), "groups must have a label for each of the 6 rows"),
        (lambda: grouped_lstsq(X, Y, ["a", np.nan] * 3), "3 missing labels, the first in row 1"),
        (lambda: grouped_lstsq(X, Y, np.ma.masked_equal([1, 2] * 3, 2)), "3 missing labels"),
        (lambda: grouped_lstsq(X, Y, Y, min_samples=0), "min_samples must be a whole number"),
        (lambda: grouped_lstsq(X, Y, Y, missing="drop"), "missing must be one of"),
        (lambda: grouped_lstsq(X, Y, Y, alpha=-1), "alpha must be a number"),
        (lambda: grouped_lstsq(X, Y, Y, alpha=1, standard_errors=True), "without a penalty"),
        (lambda: grouped_lstsq(X, Y, Y, alpha=1, cov_type="HC1"), "without a penalty"),
        (lambda: rolling_lstsq(X, Y, 4, cov_type="HAC"), "cov_type must be one of 'nonrobust'"),
        (lambda: grouped_lstsq(X, np.eye(6), Y), "y must have one target"),
        (lambda: grouped_lstsq(np.ones((6, 513)), Y, Y), "at most 512 features"),
        (lambda: recursive_lstsq(X, Y, half_life=0), "half_life must be a number"),
        (lambda: recursive_lstsq(X, Y, initial=([1.0], 1.0)), "initial must have 3 weights"),
        (
            lambda: recursive_lstsq(X, Y, initial=([1.0, 1.0, 0.0], 1.0), cov_type="HC0"),
            "cov_type='HC0' needs the errors of all rows",
        ),
        (lambda: expanding_lstsq(X, Y, predictions=1), "predictions must be True or False"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_sparse_is_refused():
    from scipy.sparse import csr_array

    with pytest.raises(ValueError, match="X must be dense"):
        fastlsgd.grouped_lstsq(csr_array(X), Y, Y)


@pytest.mark.parametrize("exponent", [-996, 996])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_units_do_not_matter_where_rows_are_forgotten(known, fit_intercept, exponent):
    """Weights of 1e300 with `half_life` gave NaN for every row."""
    X, y, _ = problem()
    n, d = X.shape
    s = np.random.default_rng(1).uniform(0.5, 1.0, n)
    same = {"half_life": 7.0, "fit_intercept": fit_intercept}
    k, unit = d + fit_intercept, 2.0**exponent
    initial = (np.ones(k), 3.0) if known else None
    wanted = recursive_lstsq(X, y, sample_weight=s, initial=initial, **same)
    weighted = (np.ones(k), 3.0 * unit) if known else None
    found = recursive_lstsq(X, y, sample_weight=s * unit, initial=weighted, **same)
    for name in ("coef", "intercept", "predicted", "r2"):
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), rtol=1e-9)


@pytest.mark.parametrize("unit", [2.0**-990, 3.0, 2.0**990])
@pytest.mark.parametrize("labels", [None, np.arange(120) % 3])
@pytest.mark.parametrize("half_life", [None, 7.0])
def test_a_factor_of_the_weights_leaves_standard_errors(half_life, labels, unit):
    X, y, _ = problem()
    s = np.random.default_rng(1).uniform(0.0, 1.0, len(y)).round(1)  # some are 0
    same = {"half_life": half_life, "groups": labels, "standard_errors": True}
    wanted = recursive_lstsq(X, y, sample_weight=s, **same)
    found = recursive_lstsq(X, y, sample_weight=s * unit, **same)
    close(found.standard_error, wanted.standard_error)
    close(found.residual_std, wanted.residual_std * np.sqrt(unit))
    if labels is None and half_life is None:
        A, row = np.column_stack([X, np.ones(len(y))]), -1
        peer = pytest.importorskip("statsmodels.api").WLS(y, A, weights=s * unit).fit()
        close(found.standard_error[row], peer.bse[:-1] * _lost_rows(s, A))


def _lost_rows(s, A):
    """How much smaller standard errors of statsmodels are, which counts rows of weight 0."""
    n, k = A.shape
    return np.sqrt((n - k) / (np.count_nonzero(s) - k))


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8",
                                   ">i4", "M8[s]", "?", "U2"])  # fmt: skip
def test_bounds_of_sorted_labels(dtype):
    labels = np.repeat([0, 1, 3, 4, 6, 9], [1, 30, 8, 1, 17, 40]).astype(dtype)
    keys, counts = np.unique(labels, return_counts=True)
    for own in (labels, labels.repeat(2)[::2], labels[:1], labels[:0]):
        found = find_groups(own, len(own), False)
        assert found.order is None
        np.testing.assert_array_equal(found.keys[0], np.unique(own))
        bounds = np.append(0, np.cumsum(counts)) if len(own) > 1 else np.arange(len(own) + 1)
        np.testing.assert_array_equal(found.bounds, bounds)
    if len(keys) > 2:
        backwards = labels.copy()
        backwards[50:] = labels[0]
        assert find_groups(backwards, len(labels), False).order is not None


@pytest.mark.parametrize("dtype", ["f4", "f8", "M8[s]"])
@pytest.mark.parametrize("at", [[0], [4], [0, 1, 2, 3, 4]])
def test_missing_labels_are_not_sorted(dtype, at):
    labels = np.array([1, 1, 2, 2, 3]).astype(dtype)
    labels[at] = "nat" if dtype[0] == "M" else np.nan
    with pytest.raises(ValueError, match=f"{len(at)} missing labels, the first in row {at[0]}"):
        find_groups(labels, 5, False)
    assert find_groups(labels, 5, True).bounds[-1] == 5 - len(at)
