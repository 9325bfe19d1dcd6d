"""Estimators, problems and comparisons for the tests of the estimators."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from fastlsgd import LeastSquaresRegressor, SGDRegressor, available_backends

BACKENDS = [name for name, status in available_backends().items() if status == "available"]
BOTH = [SGDRegressor, LeastSquaresRegressor]
TIGHT = {np.float64: 1e-9, np.float32: 2e-4}


def problem(n=60, d=4, targets=None, dtype=np.float64, seed=0):
    """Rows with a third of zeros, and targets with noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.67)
    w = rng.normal(size=(d,) if targets is None else (d, targets))
    y = X @ w + 0.5 + 0.1 * rng.normal(size=(n,) if targets is None else (n, targets))
    return X.astype(dtype), y.astype(dtype), rng.uniform(0.5, 2.0, size=n)


def heavy_first_rows(n, d):
    """Rows, the first five 1e6 times as large, their targets, and the least sum of squares."""
    rng = np.random.default_rng(0)
    A = rng.normal(size=(n, d))
    b = A @ rng.normal(size=d) + rng.normal(size=n)
    A[:5] *= 1e6
    b[:5] *= 1e6
    Q, R = np.linalg.qr(A)
    return A, b, float(((A @ np.linalg.solve(R, Q.T @ b) - b) ** 2).sum())


def quiet(model, *data, **more):
    """Fit without the warning that a few epochs are not enough."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(*data, **more)


def close(a, b, rtol=1e-9):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * max(1e-300, np.abs(b).max()))
