"""Fits near the ends of float64's range: a power of two of y, of columns or of weights is exact.

With y times c, and penalties and bounds as the objective demands, weights are c times
as large; with a column times c they are its c-th part; with sample weights times c they stay. The
scales are powers of two, so that the data are the same but for exponents, and what differs is the
rounding of another way to solve. Nothing but that may differ, from 2^-900 to 2^900.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import fastlsgd
from fastlsgd import (
    LeastSquaresCV,
    LeastSquaresRegressor,
    Moments,
    SGDRegressor,
    SGDRegressorCV,
    grouped_lstsq,
    lstsq,
    recursive_lstsq,
)
from fastlsgd.streaming import scan

N, D = 40, 3
PARTS = (slice(0, 25), slice(25, N))


class Rows(NamedTuple):
    X: np.ndarray
    y: np.ndarray
    s: np.ndarray
    c: float  # by which y was multiplied


def rows() -> Rows:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, D))
    y = X @ [1.0, 2.0, -3.0] + 0.3 * rng.normal(size=N) + 0.5
    return Rows(X, y, rng.uniform(0.5, 2.0, size=N), 1.0)


def weights_of(model) -> np.ndarray:
    return np.append(model.coef_, model.intercept_)


def fitted(model):
    return lambda r: weights_of(model(r.c).fit(r.X, r.y, sample_weight=r.s))


def from_moments(model, factor="gram"):
    def fit(r):
        parts = [Moments.from_data(r.X[p], r.y[p], r.s[p], factor=factor) for p in PARTS]
        is_cv = hasattr(model(r.c), "cv")
        return weights_of(model(r.c).fit_moments(parts if is_cv else sum(parts)))

    return fit


def from_stream(model):
    return lambda r: weights_of(
        model(r.c).fit_stream(scan(r.X, target=r.y, weight=r.s, batch_rows=15))
    )


def in_parts(model):
    def fit(r):
        own = model(r.c)
        for part in PARTS:
            own.partial_fit(r.X[part], r.y[part], sample_weight=r.s[part])
        return weights_of(own)

    return fit


def of_segments(call, **options):
    def fit(r):
        found = call(r.X, r.y, sample_weight=r.s, **options)
        return np.append(found.coef[-1], found.intercept[-1])

    return fit


def by_function(r):
    return lstsq(np.column_stack([r.X, np.ones(N)]), r.y, sample_weight=r.s)


def lasso(c, **options):
    return LeastSquaresRegressor(alpha=0.1 * c, l1_ratio=1.0, **options)


def bounded(c, **options):
    return LeastSquaresRegressor(bounds=(-1.0 * c, 1.5 * c), **options)


def cv_of_lasso(c, **options):
    return LeastSquaresCV(alphas=[1.0 * c, 0.1 * c, 0.01 * c], l1_ratio=1.0, **options)


def plain(c, **options):
    return LeastSquaresRegressor(**options)


def cv(c, **options):
    return LeastSquaresCV(alphas=[1.0, 0.1, 0.01], **options)


# Fits whose weights go by the units of the columns, and those of a penalty, which do not.
FREE = {
    **{solver: fitted(lambda c, solver=solver: plain(c, solver=solver))
       for solver in ("auto", "gram", "qr", "cg", "sketch", "nesterov")},
    "lstsq": by_function,
    "positive": fitted(lambda c: plain(c, positive=True)),
    "moments": from_moments(plain),
    "moments, qr": from_moments(plain, "qr"),
    "partial_fit": in_parts(plain),
    "stream": from_stream(plain),
    "groups": of_segments(grouped_lstsq, groups=np.repeat([0, 1], N // 2)),
    "recursive": of_segments(recursive_lstsq, half_life=10),
    "SGD": fitted(lambda c: SGDRegressor(alpha=0.0, random_state=0)),
    "SGD, stream": from_stream(lambda c: SGDRegressor(alpha=0.0, random_state=0, max_iter=2)),
}  # fmt: skip
PENALISED = {
    "ridge": fitted(lambda c: plain(c, alpha=0.1)),
    "lasso": fitted(lasso),
    "lasso, nesterov": fitted(lambda c: lasso(c, solver="nesterov")),
    "bounds": fitted(bounded),
    "constraints": fitted(lambda c: plain(c, constraints=([[1.0, 1.0, 1.0]], [c]))),
    "leave-one-out": fitted(cv),
    "folds": fitted(lambda c: cv(c, cv=3)),
    "folds of a lasso": fitted(cv_of_lasso),
    "penalties by default": fitted(lambda c: LeastSquaresCV(l1_ratio=1.0, cv=2)),
    "folds with bounds": fitted(lambda c: cv(c, cv=2, bounds=(-1.0 * c, 1.5 * c))),
    "moments, ridge": from_moments(lambda c: plain(c, alpha=0.1)),
    "moments, lasso": from_moments(lasso),
    "moments, bounds": from_moments(bounded),
    "moments of folds": from_moments(cv),
    "moments of folds, lasso": from_moments(cv_of_lasso, "qr"),
    "stream, lasso": from_stream(lasso),
    "SGD, ridge": fitted(lambda c: SGDRegressor(alpha=0.1, random_state=0)),
    "SGDCV": fitted(lambda c: SGDRegressorCV(SGDRegressor(random_state=0), alphas=[0.1, 0.01])),
}
ENTRIES = FREE | PENALISED


@pytest.mark.parametrize("name", ENTRIES)
@settings(max_examples=3)
@given(st.integers(-900, 900), st.integers(-900, 900), st.integers(-900, 900))
@example(900, -90, 900)
@example(-900, 90, -900)
@example(0, 850, 100)
def test_powers_of_two_change_exponents_alone(name, of_y, of_column, of_weights):
    r, fit = rows(), ENTRIES[name]
    if name in PENALISED or not abs(of_y - of_column) < 1000:
        of_column = 0
    columns = np.ldexp(np.ones(D), [0, of_column, 0])
    c = float(np.ldexp(1.0, of_y))
    given_rows = Rows(r.X * columns, r.y * c, np.ldexp(r.s, of_weights), c)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected, found = fit(r), fit(given_rows)
    found = np.ldexp(found, -of_y) * np.append(columns, 1.0)
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("name", ["cg", "nesterov"])
@pytest.mark.parametrize("scales", [(1e-230, 1.0), (1e230, 1.0), (1.0, 1e-230), (1.0, 1e230)])
def test_passes_refuse_what_their_sums_cannot_hold(name, scales):
    """Squares that had vanished made weights of zero, in silence."""
    r, (of_x, of_y) = rows(), scales
    stream = scan(r.X * [1.0, of_x, 1.0], target=r.y * of_y)
    with pytest.raises(ValueError, match=r"out of range .*rescale"):
        plain(1.0, solver=name).fit_stream(stream)


COVARIANCES = {
    "nonrobust": {},
    "HC1": {},
    "HC3": {},
    "cluster": {"groups": np.arange(N) // 5},
    "HAC": {"maxlags": 3},
}


@pytest.mark.parametrize("kind", COVARIANCES)
@pytest.mark.parametrize("scales", [(300, -600, 0), (-900, 0, 900), (900, 200, -900)])
def test_standard_errors_and_tests_near_the_ends(kind, scales):
    """Squares of standard errors below 1e-154 or above 1e154 were 0 or infinite."""
    (of_y, of_column, of_weights), r = scales, rows()
    unit = np.ldexp(np.ones(D), [0, of_column, 0])
    y, s = np.ldexp(r.y, of_y), np.ldexp(r.s, of_weights)

    def described(X, y, s):
        model = LeastSquaresRegressor().fit(X, y, s)
        robust = {} if kind == "nonrobust" else {"X": X, "y": y, "sample_weight": s}
        table = model.summary(cov_type=kind, cov_kwds=COVARIANCES[kind] or None, **robust)
        return table, model.influence(X, y, s)

    expected, rows_before = described(*r[:3])
    found, rows_found = described(r.X * unit, y, s)
    error = np.ldexp(found.standard_error * np.append(1.0, unit), -of_y)
    np.testing.assert_allclose(error, expected.standard_error, rtol=1e-12)
    np.testing.assert_allclose(found.t, expected.t, rtol=1e-12)
    np.testing.assert_allclose(found.f_statistic, expected.f_statistic, rtol=1e-12)
    R = np.array([[0.0, 1.0, -1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    statistic = found.wald_test(R * np.append(1.0, unit)).statistic
    np.testing.assert_allclose(statistic, expected.wald_test(R).statistic, rtol=1e-11)
    np.testing.assert_allclose(rows_found.cooks_distance, rows_before.cooks_distance, rtol=1e-10)
    with pytest.raises(ValueError, match="covariance has numbers out of the range"):
        _ = found.covariance


def test_moments_in_units_are_written_merged_and_taken_apart(tmp_path):
    pytest.importorskip("safetensors")
    r = rows()
    far = [Moments.from_data(r.X[p] * [1.0, 1e-200, 1.0], r.y[p] * 1e80, r.s[p]) for p in PARTS]
    near = Moments.from_data(r.X * [1.0, 1e-3, 1.0], r.y, r.s)
    far[0].save(tmp_path / "part")
    both = Moments.load(tmp_path / "part") + far[1]
    model = LeastSquaresRegressor().fit_moments(both)
    expected = LeastSquaresRegressor().fit(r.X, r.y, r.s).coef_
    np.testing.assert_allclose(model.coef_ / 1e80 * [1.0, 1e-200, 1.0], expected, rtol=1e-12)
    left = LeastSquaresRegressor().fit_moments(both - far[1])
    alone = LeastSquaresRegressor().fit_moments(far[0])
    np.testing.assert_allclose(left.coef_, alone.coef_, rtol=1e-12)
    # Beside rows that are 1e80 times as large, those of ordinary size add nothing.
    merged = LeastSquaresRegressor().fit_moments(near + both)
    assert np.isfinite(merged.coef_).all()
    # A column that was zero so far has no unit of its own.
    empty = Moments.from_data(r.X[:20] * [1.0, 0.0, 1.0], r.y[:20])
    tiny = Moments.from_data(r.X[20:] * [1.0, 1e-200, 1.0], r.y[20:])
    X = np.concatenate([r.X[:20] * [1.0, 0.0, 1.0], r.X[20:]])
    expected = LeastSquaresRegressor().fit(X, r.y).coef_
    for both in (empty + tiny, tiny + empty):
        coef = LeastSquaresRegressor().fit_moments(both).coef_ * [1.0, 1e-200, 1.0]
        np.testing.assert_allclose(coef, expected, rtol=1e-12)


@pytest.mark.parametrize("weight", [1e25, 1e40, 1e60, 1e100, 1e250])
def test_one_weight_outweighs_all_others_in_fits_and_segments(weight):
    """Beside 1e60, weights were off by 1e-4 without a word; beside 1e100, by 1e16 times their size.

    In the limit, the fit goes through the heavy row, and the others decide about the rest.
    """
    r = rows()
    s = r.s.copy()
    s[7] = weight
    through = LeastSquaresRegressor(fit_intercept=False)
    others = np.arange(N) != 7
    through.fit((r.X - r.X[7])[others], (r.y - r.y[7])[others], r.s[others])
    expected = np.append(through.coef_, r.y[7] - r.X[7] @ through.coef_)
    for solver in ("auto", "qr"):
        model = LeastSquaresRegressor(solver=solver).fit(r.X, r.y, s)
        np.testing.assert_allclose(weights_of(model), expected, rtol=1e-12)
    for call, options in (
        (grouped_lstsq, {"groups": np.zeros(N)}),
        (fastlsgd.rolling_lstsq, {"window": N}),
        (fastlsgd.expanding_lstsq, {}),
    ):
        found = call(r.X, r.y, sample_weight=s, cov_type="HC0", **options)
        own = np.append(found.coef[-1], found.intercept[-1])
        np.testing.assert_allclose(own, expected, rtol=1e-12)
        assert found.n_singular == 0
