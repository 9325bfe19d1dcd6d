"""Cells of the speed map for small data: what a call costs where there is little to compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from sklearn.linear_model import (
    ElasticNet,
    LinearRegression,
    Ridge,
    RidgeClassifier,
    RidgeCV,
)
from sklearn.linear_model import SGDClassifier as SklearnClassifier
from sklearn.linear_model import SGDRegressor as SklearnRegressor

from fastlsgd import (
    LeastSquaresClassifier,
    LeastSquaresCV,
    LeastSquaresRegressor,
    SGDClassifier,
    SGDRegressor,
    lstsq,
)

SHAPES = ((20, 3), (200, 5), (1_000, 20))
LOOPS = 20  # calls that are timed together, since one takes less than a scheduler's tick
ALPHAS = np.array([0.1, 1.0, 10.0])
CALLS, ROWS = 50, 20  # of partial_fit

Pair = tuple[Callable[[], object], dict[str, Callable[[], object]]]


def looped(call: Callable[[], object]) -> Callable[[], object]:
    def many():
        for _ in range(LOOPS - 1):
            call()
        return call()

    return many


def problem(n: int, d: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d))
    y = X[:, :3].sum(axis=1) + rng.standard_normal(n)
    return X.astype(dtype), y.astype(dtype)


def fits(X: np.ndarray, y: np.ndarray) -> Iterator[tuple[str, Pair, Callable[[object], float]]]:
    """Yield jobs with fastlsgd's call, its peers and what judges an answer."""
    n, labels, Y = len(X), (y > 0.0).astype(int), np.column_stack([y] * 5)

    def excess(alpha: float, l1: float, targets: np.ndarray):
        def objective(model) -> float:
            w, b = (
                (model, 0.0) if isinstance(model, np.ndarray) else (model.coef_, model.intercept_)
            )
            w = np.asarray(w, np.float64)
            r = X.astype(np.float64) @ w.T + b - targets
            return 0.5 * float(np.vdot(r, r)) / n + alpha * float(
                l1 * np.abs(w).sum() + 0.5 * (1.0 - l1) * np.vdot(w, w)
            )

        return objective

    ours, alpha = LeastSquaresRegressor, 1.0 / n
    yield (
        "lstsq",
        (
            partial(lstsq, X, y),
            {"numpy": lambda: np.linalg.lstsq(X, y, rcond=None)[0]},
        ),
        excess(0.0, 0.0, y),
    )
    yield (
        "least squares",
        (partial(ours().fit, X, y), {"LinearRegression": partial(LinearRegression().fit, X, y)}),
        excess(0.0, 0.0, y),
    )
    yield (
        "ridge, 5 targets",
        (partial(ours(alpha=alpha).fit, X, Y), {"Ridge": partial(Ridge(1.0).fit, X, Y)}),
        excess(alpha, 0.0, Y),
    )
    for name, l1 in (("lasso", 1.0), ("elastic net", 0.5)):
        theirs = ElasticNet(alpha=0.1, l1_ratio=l1, tol=1e-5)
        yield (
            name,
            (
                partial(ours(alpha=0.1, l1_ratio=l1).fit, X, y),
                {"ElasticNet": partial(theirs.fit, X, y)},
            ),
            excess(0.1, l1, y),
        )
    yield (
        "leave-one-out, 3 alphas",
        (
            partial(LeastSquaresCV(alphas=ALPHAS / (n - 1)).fit, X, y),
            {"RidgeCV": partial(RidgeCV(ALPHAS).fit, X, y)},
        ),
        lambda model: -float(model.best_score_),
    )
    yield (
        "ridge, 2 classes",
        (
            partial(LeastSquaresClassifier(alpha=alpha).fit, X, labels),
            {"RidgeClassifier": partial(RidgeClassifier(1.0).fit, X, labels)},
        ),
        excess(alpha, 0.0, (2.0 * labels - 1.0)[:, None]),
    )


def streams(d: int, dtype: str) -> Iterator[tuple[str, Pair, Callable[[object], float]]]:
    """Yield `partial_fit` of few rows, in calls one after another."""
    X, y = problem(CALLS * ROWS, d, dtype)
    labels = (y > 0.0).astype(int)

    def partial_fits(model, target, **told):
        def run():
            fitted = model()
            for start in range(0, len(X), ROWS):
                part = slice(start, start + ROWS)
                fitted.partial_fit(X[part], target[part], **told)
            return fitted

        return run

    regressors = partial(SGDRegressor, random_state=0), partial(SklearnRegressor, random_state=0)
    classifiers = partial(SGDClassifier, random_state=0), partial(SklearnClassifier, random_state=0)
    for name, (ours, theirs), target, told in (
        ("partial_fit, 1 target", regressors, y, {}),
        ("partial_fit, 2 classes", classifiers, labels, {"classes": [0, 1]}),
    ):
        yield (
            name,
            (
                partial_fits(ours, target, **told),
                {"scikit-learn": partial_fits(theirs, target, **told)},
            ),
            lambda model, target=target: 1.0 - model.score(X, target),
        )
