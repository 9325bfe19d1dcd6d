"""For the property tests: small problems, all estimators, and solutions in extended precision.

A fit here is a pair (weights, intercept) of float64 whichever estimator made it, so that a property
is written once and tested for all of them.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from hypothesis import Phase, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from fastlsgd import (
    LeastSquaresClassifier,
    LeastSquaresCV,
    LeastSquaresRegressor,
    SGDClassifier,
    SGDRegressor,
    lstsq,
)

ALPHAS = [0.3, 0.01]


class Lstsq:
    """`lstsq` as an estimator; it adds the column of ones, which callers of `lstsq` have to add."""

    def __init__(self, solver: str = "auto") -> None:
        self.solver = solver

    def fit(self, X, y, sample_weight=None):
        ones = np.ones((X.shape[0], 1), dtype=np.float64)
        A = sp.hstack([X, ones], format="csr") if sp.issparse(X) else np.hstack([X, ones])
        x = lstsq(A, y, sample_weight=sample_weight, solver=self.solver)
        self.coef_, self.intercept_ = x[:-1], x[-1]
        return self


# Exact to rounding: they minimise the sum of squares, or that with a penalty.
PLAIN = {
    **{
        f"LeastSquaresRegressor, {solver}": LeastSquaresRegressor(solver=solver)
        for solver in ("auto", "gram", "sketch", "cg", "qr")
    },
    "lstsq": Lstsq(),
    "lstsq, qr": Lstsq("qr"),
}
PENALISED = {
    "ridge": LeastSquaresRegressor(alpha=0.1),
    "lasso": LeastSquaresRegressor(alpha=0.05, l1_ratio=1.0),
    "elastic net": LeastSquaresRegressor(alpha=0.05, l1_ratio=0.5),
    "LeastSquaresCV": LeastSquaresCV(alphas=ALPHAS),
}
SIGNED = {"positive": LeastSquaresRegressor(positive=True)}
CLASSES = {"LeastSquaresClassifier": LeastSquaresClassifier()}
EXACT = PLAIN | PENALISED | SIGNED | CLASSES
# Stochastic: the answers depend on the order of the rows, and are as good as the exact ones, but
# not equal to them. They have no penalty: in small units the default of 1e-4 outweighs the data.
STOCHASTIC = {
    "SGDRegressor": SGDRegressor(alpha=0.0, random_state=0),
    "SGDClassifier": SGDClassifier(alpha=0.0, random_state=0),
}
EVERY = EXACT | STOCHASTIC

# Fits with L1 stop at a duality gap of 1e-10 of the objective, and are right to its square root.
# The others are right to rounding times the condition number, which is below 1e4 in `problems`.
TOLERANCE = {"lasso": 1e-5, "elastic net": 1e-5}
ROUNDING = 1e-9


def tolerance(name: str) -> float:
    return TOLERANCE.get(name, ROUNDING)


def fitted(name: str, X, y, sample_weight=None) -> tuple[np.ndarray, float]:
    """(weights, intercept) of a fit; classifiers are fitted to whether y exceeds its median."""
    model = EVERY[name]
    model = Lstsq(model.solver) if isinstance(model, Lstsq) else clone(model)
    if "Classifier" in name:
        y = classes_of(y)
    with warnings.catch_warnings():
        if name in STOCHASTIC:
            warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y, sample_weight=sample_weight)
    return np.ravel(model.coef_).astype(np.float64), float(np.ravel(model.intercept_)[0])


def classes_of(y: np.ndarray) -> np.ndarray:
    return y > 0.0


def predicted(fit: tuple[np.ndarray, float], X) -> np.ndarray:
    return X @ fit[0] + fit[1]


class Problem(NamedTuple):
    """What defines a problem; it is short, so that failures are readable."""

    seed: int
    n: int
    d: int
    alike: bool

    def data(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """X, y and sample weights: columns of various units, off centre, some alike; noise in y."""
        rng = np.random.default_rng(self.seed)
        X = rng.normal(size=(self.n, self.d))
        if self.alike and self.d > 2:
            X[:, 1] = X[:, 0] + 0.1 * X[:, 1]
        y = X @ rng.normal(size=self.d) + 0.5 * rng.normal(size=self.n)
        X += rng.uniform(-3.0, 3.0, size=self.d)
        return X * rng.choice([0.1, 1.0, 10.0], size=self.d), y, rng.uniform(0.2, 2.0, size=self.n)


def problems(least_rows: int = 20, most_columns: int = 5):
    """Problems of at least four rows per column, so that condition numbers stay below 1e4."""
    rows = st.integers(max(least_rows, 4 * most_columns), max(60, least_rows))
    columns = st.integers(1, most_columns)
    return st.builds(Problem, st.integers(0, 2**20), rows, columns, st.booleans())


def few(examples: int):
    """Settings: this many examples, and no search for a smaller one, since seeds have no order."""
    return settings(max_examples=examples, phases=[Phase.explicit, Phase.generate])


def householder(A: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The least-squares solution by Householder QR in extended precision (64 bits or more)."""
    R, c = A.astype(np.longdouble), b.astype(np.longdouble)
    scale = np.sqrt((R * R).sum(axis=0))
    R = R / scale
    d = R.shape[1]
    for k in range(d):
        v = R[k:, k].copy()
        v[0] += np.copysign(np.sqrt(v @ v), v[0])
        v /= np.sqrt(v @ v)
        R[k:, k:] -= 2 * np.outer(v, v @ R[k:, k:])
        c[k:] -= 2 * v * (v @ c[k:])
    x = np.zeros(d, dtype=np.longdouble)
    for k in reversed(range(d)):
        x[k] = (c[k] - R[k, k + 1 : d] @ x[k + 1 :]) / R[k, k]
    return x / scale


def random_csr(shape: tuple[int, int], density: float, seed) -> sp.csr_array:
    """Rows whose stored numbers lie between 0 and 1; `scipy.sparse.random_array` is too new."""
    rng = np.random.default_rng(seed)
    return sp.csr_array(sp.random(*shape, density=density, format="csr", random_state=rng))
