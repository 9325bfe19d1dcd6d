"""Properties of every estimator for any data: equivalent problems have equivalent fits.

The properties are metamorphic and tested by Hypothesis: rows or columns are changed in a way whose
effect on the answer is known. Predictions are compared, in units of the spread of y. The bounds are
those of `small_problems.tolerance`, plus the rounding errors of the change itself.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from small_problems import (
    CLASSES,
    EVERY,
    EXACT,
    PLAIN,
    STOCHASTIC,
    classes_of,
    few,
    fitted,
    predicted,
    problems,
    tolerance,
)

from fastlsgd import SGDClassifier, SGDRegressor

every = pytest.mark.parametrize("name", EVERY)
exact = pytest.mark.parametrize("name", EXACT)
stochastic = pytest.mark.parametrize("name", STOCHASTIC)

# How far the R2 of a stochastic fit may be below that of the exact one. On real data the bound is
# 0.005 (test_default_learning_rate.py); here there are only 4 rows per weight, and tol=1e-3.
BY_CHANCE = 0.03


def same(name, found, expected, y, s=None, looser: float = 1.0):
    """Assert that two predictions are equal to rounding, or for stochastic fits as good."""
    if name in STOCHASTIC:
        # Classifiers have targets of -1 and 1.
        y = np.where(classes_of(y), 1.0, -1.0) if "Classifier" in name else y
        spread = np.average((y - np.average(y, weights=s)) ** 2, weights=s)
        worse = np.average((found - y) ** 2 - (expected - y) ** 2, weights=s)
        assert worse <= BY_CHANCE * spread
        return
    scale = np.ptp(y) if name not in CLASSES else 1.0
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=looser * tolerance(name) * scale)


def best(name, X, y, sample_weight=None):
    """The fit to compare with: for stochastic estimators the exact one, else its own."""
    stands_for = {"SGDRegressor": "LeastSquaresRegressor, qr",
                  "SGDClassifier": "LeastSquaresClassifier"}  # fmt: skip
    return fitted(stands_for.get(name, name), X, y, sample_weight)


@every
@few(10)
@given(problems(), st.integers(0, 99))
def test_rows_permuted(name, problem, seed):
    X, y, s = problem.data()
    order = np.random.default_rng(seed).permutation(len(y))
    found = fitted(name, X[order], y[order], s[order])
    same(name, predicted(found, X), predicted(best(name, X, y, s), X), y, s)


@every
@few(10)
@given(problems(), st.integers(0, 99))
def test_columns_permuted(name, problem, seed):
    X, y, s = problem.data()
    order = np.random.default_rng(seed).permutation(X.shape[1])
    found = fitted(name, X[:, order], y, s)
    same(name, predicted(found, X[:, order]), predicted(best(name, X, y, s), X), y, s)


@pytest.mark.parametrize("name", [*PLAIN, "positive", *CLASSES, *STOCHASTIC])
@few(10)
@given(problems(), st.sampled_from([2.0, 10.0]), st.integers(0, 99))
def test_columns_scaled(name, problem, base, seed):
    """Columns are scaled by 1e-6 to 1e6, without a penalty: weights change by the inverse."""
    X, y, s = problem.data()
    powers = np.random.default_rng(seed).integers(-6, 7, size=X.shape[1])
    scaled = X * base**powers
    found = fitted(name, scaled, y, s)
    same(name, predicted(found, scaled), predicted(best(name, X, y, s), X), y, s)


@every
@few(10)
@given(problems(), st.integers(0, 99))
def test_columns_shifted(name, problem, seed):
    """A shift by 1,000 changes the intercept only; rounding of X costs three digits."""
    X, y, s = problem.data()
    shifted = X + np.random.default_rng(seed).choice([-1e3, 0.0, 1e3], size=X.shape[1])
    found = fitted(name, shifted, y, s)
    same(name, predicted(found, shifted), predicted(best(name, X, y, s), X), y, s, looser=1e3)


@every
@few(10)
@given(problems(), st.integers(0, 99))
def test_whole_weights_repeat_rows(name, problem, seed):
    X, y, _ = problem.data()
    times = np.random.default_rng(seed).integers(1, 4, size=len(y))
    if name == "LeastSquaresCV":
        # Leave-one-out omits one row, not its copies, so that folds differ, and alpha_ may too.
        name = "ridge"
    weighted = best(name, X, y, times.astype(float))
    repeated = fitted(name, np.repeat(X, times, axis=0), np.repeat(y, times))
    if name in STOCHASTIC:
        weighted = fitted(name, X, y, times.astype(float))
        repeated = best(name, np.repeat(X, times, axis=0), np.repeat(y, times))
    same(name, predicted(weighted, X), predicted(repeated, X), y, times)


@every
@pytest.mark.parametrize("value", [0.0, 1e8, 1e300])
@few(10)
@given(problems(), st.integers(0, 99))
def test_rows_of_zero_weight_are_not_there(name, value, problem, seed):
    """They have no effect, whatever X and y hold there and wherever they are, even at the front."""
    X, y, s = problem.data()
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 30))
    at = np.zeros(count, dtype=int) if seed % 2 else rng.integers(0, len(y) + 1, size=count)
    rows = value * rng.choice([-1.0, 1.0], size=(count, X.shape[1]))
    X2, y2 = np.insert(X, at, rows, axis=0), np.insert(y, at, value)
    found = fitted(name, X2, y2, np.insert(s, at, 0.0))
    same(name, predicted(found, X), predicted(best(name, X, y, s), X), y, s)


@every
@pytest.mark.parametrize("scale", [5e-324, 1e-310, 1e-100, 1e20, 1e100, 1e306])
def test_scale_of_weights_is_nothing(name, scale):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 3))
    y = X @ [1.0, -2.0, 0.5] + 0.1 * rng.normal(size=50)
    # The weights are whole numbers, so that their products with the least float64 are exact.
    s = rng.integers(1, 5, size=50).astype(float)
    found = fitted(name, X, y, s * scale)
    same(name, predicted(found, X), predicted(best(name, X, y, s), X), y, s)


@every
@few(10)
@given(problems())
def test_sparse_rows_are_dense_rows(name, problem):
    X, y, s = problem.data()
    X = np.where(np.abs(X) < np.median(np.abs(X)), 0.0, X)
    if name == "positive" or name in STOCHASTIC or np.linalg.matrix_rank(X - X.mean(0)):
        found = fitted(name, sp.csr_array(X), y, s)
        same(name, predicted(found, X), predicted(best(name, X, y, s), X), y, s)


DTYPES = {"big-endian": ">f8", "big-endian float32": ">f4", "float16": "f2", "longdouble": "g",
          "int8": "i1", "uint16": "u2", "int64": "i8", "bool": "?", "object": "O"}  # fmt: skip


@every
@pytest.mark.parametrize("kind", DTYPES)
@few(5)
@given(problems(most_columns=3))
def test_dtype_is_float64_of_the_same_numbers(name, kind, problem):
    """float16 and float32 have answers of float32. Half of float32's seven digits are required,
    since the condition number costs up to three."""
    X, y, s = problem.data()
    whole = np.dtype(DTYPES[kind]).kind in "iub"
    X = np.round(10.0 * (X - X.min(axis=0)) / np.ptp(X, axis=0)) if whole else X
    X = (X > 4.0 if kind == "bool" else X).astype(DTYPES[kind])
    narrow = X.dtype.kind == "f" and X.dtype.itemsize < 8
    found = fitted(name, X, y, s)
    X = X.astype(np.float64)
    looser = 1e-4 / tolerance(name) if narrow else 1.0
    same(name, predicted(found, X), predicted(best(name, X, y, s), X), y, s, looser)


# ------------------------------------------------------------------------- one huge row


@stochastic
@pytest.mark.parametrize("size", [1e3, 1e6, 1e10])
@few(10)
@given(problems(), st.integers(0, 99))
def test_defaults_survive_one_huge_row(name, size, problem, seed):
    """The other rows are explained as well as by exact least squares on all rows."""
    X, y, _ = problem.data()
    k = seed % len(y)
    X = X.copy()
    X[k] *= size
    keep = np.arange(len(y)) != k
    found, exactly = fitted(name, X, y), best(name, X, y)
    assert np.isfinite(found[0]).all()
    same(name, predicted(found, X[keep]), predicted(exactly, X[keep]), y[keep])


# ----------------------------------------------------------------- rows cut into calls


def in_calls(model, X, y, rows: int, s=None):
    more = {"classes": [False, True]} if isinstance(model, SGDClassifier) else {}
    for i in range(0, len(y), rows):
        part = slice(i, i + rows)
        model.partial_fit(X[part], y[part], sample_weight=None if s is None else s[part], **more)
    return np.append(np.ravel(model.coef_), model.intercept_)


@pytest.mark.parametrize("rate", ["auto", "invscaling", "constant"])
@pytest.mark.parametrize("kind", [SGDRegressor, SGDClassifier])
@few(10)
@given(problems(least_rows=60), st.sampled_from([1, 3, 10, 17]), st.booleans())
def test_rows_cut_into_calls(kind, rate, problem, rows, weighted):
    """The order of rows is the same, and so are the weights up to rounding: sums are divided
    differently, which 60 steps do not magnify much."""
    X, y, s = problem.data()
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    y = classes_of(y) if kind is SGDClassifier else y / np.std(y)
    s = s if weighted else None
    options = {"learning_rate": rate, "eta0": None if rate == "auto" else 0.01, "shuffle": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = in_calls(kind(**options), X, y, len(y), s)
        cut = in_calls(kind(**options), X, y, rows, s)
    np.testing.assert_allclose(cut, whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 3, 10, 100])
@pytest.mark.parametrize("seed", range(3))
def test_stream_in_calls_is_as_good_as_one_call(rows, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(2000, 20)) * np.geomspace(0.1, 10.0, 20)
    y = X @ rng.normal(size=20) + 5.0 + rng.normal(size=2000)
    keep = SGDRegressor().partial_fit(X, y)
    cut = SGDRegressor()
    in_calls(cut, X, y, rows)
    assert cut.score(X, y) >= keep.score(X, y) - 0.005
