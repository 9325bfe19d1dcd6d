"""Predictions X w + b, and Gram matrices X^T X."""

import arrays
import pytest
from checks import check_moments, check_predictions

import fastlsgd

BACKENDS = ("native", "numba")


@pytest.mark.parametrize("library", [*BACKENDS, "numpy"])
@pytest.mark.parametrize("d", [10, 100, 1000], ids="d{}".format)
def bench_predict(d, dtype, library, x_bytes, measure):
    problem = arrays.dense_of_bytes(x_bytes, d, dtype)
    X, w, b = problem.X, problem.coef, problem.intercept

    def own():
        return fastlsgd.predict(X, w, b, backend=library)

    def with_numpy():
        return X @ w + X.dtype.type(b)

    def check(result):
        # In float32, NumPy's rounding is as small as ours only for short rows.
        if library in BACKENDS:
            check_predictions(result, problem)

    make = own if library in BACKENDS else with_numpy
    measure(lambda: make, check, problem, f"predict, d={d}")


@pytest.mark.parametrize("library", [*BACKENDS, "numpy"])
@pytest.mark.parametrize("d", [10, 100], ids="d{}".format)
def bench_gram(d, dtype, library, x_bytes, measure):
    """Gram matrices. NumPy sums in the dtype of X, and fastlsgd in float64."""
    problem = arrays.dense_of_bytes(x_bytes, d, dtype)
    X, y = problem.X, problem.y

    def own():
        return fastlsgd.gram(X, y, backend=library)

    def with_numpy():
        return fastlsgd.functional.Moments(X.T @ X, X.T @ y, X.sum(axis=0), y.sum(), float(len(y)))

    measure(
        lambda: own if library in BACKENDS else with_numpy,
        lambda result: check_moments(result, problem) if library in BACKENDS else None,
        problem,
        f"gram, d={d}",
    )
