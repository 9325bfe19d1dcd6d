"""Every entry point of the library, as a function of X, y and sample_weight."""

from __future__ import annotations

import functools

import numpy as np

import fastlsgd

N, D = 20, 4


def problem(n: int = N, d: int = D):
    """X, y and coefficients, which are the same each time."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d))
    w = np.arange(1.0, d + 1.0)
    return X, X @ w + 1.0 + 0.1 * rng.normal(size=n), w


MODELS = {
    "SGDRegressor": lambda: fastlsgd.SGDRegressor(max_iter=3, tol=None, random_state=0),
    "SGDClassifier": lambda: fastlsgd.SGDClassifier(max_iter=3, tol=None, random_state=0),
    "LeastSquaresRegressor": fastlsgd.LeastSquaresRegressor,
    "LeastSquaresClassifier": fastlsgd.LeastSquaresClassifier,
    "LeastSquaresCV": lambda: fastlsgd.LeastSquaresCV(alphas=[0.1]),
    "SGDRegressorCV": lambda: fastlsgd.SGDRegressorCV(
        fastlsgd.SGDRegressor(max_iter=3, tol=None, random_state=0), alphas=[0.1], cv=2
    ),
}


@functools.cache
def fitted(name: str, d: int = D):
    """A model fitted to clean data, for the methods that need a fit."""
    X, y, _ = problem(d=d)
    return MODELS[name]().fit(X, labels(name, y))


def labels(name: str, y):
    """y, or for a classifier its classes, where y is an array of finite numbers."""
    if not name.startswith(("SGDClassifier", "LeastSquaresClassifier")):
        return y
    usable = type(y) is np.ndarray and y.dtype.kind == "f" and np.isfinite(y).all()
    return y > np.median(y) if usable else y


def columns(X) -> int:
    shape = getattr(X, "shape", ())
    return int(shape[1]) if len(shape) == 2 and 1 <= shape[1] <= 8 else D


def _loss_gradient(X, y, s):
    return fastlsgd.loss_gradient(X, y, np.ones(columns(X)), sample_weight=s)


def _sgd_epoch(X, y, s):
    return fastlsgd.sgd_epoch(X, y, np.ones(columns(X)), learning_rate=1e-3, sample_weight=s)


def _fit(name, X, y, s):
    return MODELS[name]().fit(X, labels(name, y), sample_weight=s)


def _partial_fit(name, X, y, s):
    more = {"classes": [False, True]} if name.endswith("Classifier") else {}
    return MODELS[name]().partial_fit(X, labels(name, y), sample_weight=s, **more)


def _moments(X, y, s):
    moments = fastlsgd.Moments.from_data(X, y, s)
    return moments.xx, moments.xy, moments.yy, moments.x_mean, moments.y_mean


def _score(name, X, y, s):
    return fitted(name, columns(X)).score(X, labels(name, y), sample_weight=s)


# Functions of X, y and sample_weight, by name. Those in `ONLY_X` ignore the other two.
ENTRIES = {
    "loss_gradient": _loss_gradient,
    "sgd_epoch": _sgd_epoch,
    "gram": lambda X, y, s: fastlsgd.gram(X, y, sample_weight=s),
    "Moments": _moments,
    "lstsq": lambda X, y, s: fastlsgd.lstsq(X, y, sample_weight=s),
    "predict": lambda X, y, s: fastlsgd.predict(X, np.ones(columns(X))),
}
for _name in MODELS:
    ENTRIES[f"{_name}.fit"] = functools.partial(_fit, _name)
    ENTRIES[f"{_name}.score"] = functools.partial(_score, _name)
    ENTRIES[f"{_name}.predict"] = lambda X, y, s, name=_name: fitted(name, columns(X)).predict(X)
    if not _name.endswith("CV"):
        ENTRIES[f"{_name}.partial_fit"] = functools.partial(_partial_fit, _name)
ENTRIES["SGDClassifier.decision_function"] = lambda X, y, s: fitted(
    "SGDClassifier", columns(X)
).decision_function(X)
ONLY_X = [name for name in ENTRIES if name.endswith(("predict", "decision_function"))]
WITH_Y = [name for name in ENTRIES if name not in ONLY_X]


def numbers(result) -> np.ndarray:
    """The result of a call as a flat array, to be compared with that of another."""
    if hasattr(result, "coef_"):
        result = result.coef_, result.intercept_
    if isinstance(result, tuple):
        return np.concatenate([numbers(part) for part in result if part is not None])
    return np.ravel(np.asarray(result, dtype=np.float64))
