"""The memory that the public entry points need beyond X.

`python tests/support/memory_of_calls.py KIND ...` prints one line of JSON per kind of X: its rows,
and by how many bytes the resident set grew in each entry point. Each is called on a tiny X first,
since loading and compiling code is not to be measured. This needs Linux, where the record of the
highest resident set can be reset. Freed memory must return to the system at once
(MALLOC_MMAP_THRESHOLD_): otherwise a call could use what an earlier one has left, unnoticed.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import scipy.sparse as sp

sys.path.append(str(Path(__file__).resolve().parents[2] / "bench"))

from memory import MARK, resident
from sklearn.model_selection import ShuffleSplit

import fastlsgd
from fastlsgd import (
    LeastSquaresClassifier,
    LeastSquaresCV,
    LeastSquaresRegressor,
    SGDClassifier,
    SGDRegressor,
    SGDRegressorCV,
)

MB = 2**20
# Dense X has as many rows as fit into this many bytes of float32, so that a copy of it as float32
# exceeds the limit of the test whatever its own dtype. It has no more, since each call reads all.
SIZE = 24 * MB
COLUMNS = 100
NONZEROS = 20  # per row of CSR
DTYPES = {"big-endian": ">f8", "CSR": "float32", "Fortran": "float64"}
# What these dtypes share is the conversion of blocks of rows, which two entry points show.
KINDS_OF_TWO = ("bfloat16", "big-endian", "int8", "bool", "CSR float16")
TWO = ("gram", "SGDRegressor, constant")
# Of these, the entry points that take seconds rather than minutes on a loaded machine.
KINDS_OF_FEW = ("float16", "CSR unsorted")
FEW = ("loss_gradient", "gram", "predict", "sgd_epoch", "lstsq", "fit", "fit, ridge", "fit, lasso",
       "LeastSquaresClassifier", "SGDRegressor, constant", "partial_fit, constant")  # fmt: skip
SLOW = ("partial_fit", "partial_fit, SGDClassifier")  # 14 s of this X; in test_memory_of_dtypes.py
KINDS = ("float32", *KINDS_OF_FEW, *KINDS_OF_TWO)


def names_of(kind: str) -> list[str]:
    """The entry points that are called with this kind of X."""
    if kind in KINDS_OF_TWO:
        return list(TWO)
    if kind in KINDS_OF_FEW:
        return list(FEW)
    names = [name for name, _ in entries(np.zeros((2, 2)), np.zeros(2))]
    return [name for name in names if name not in SLOW]


def dtype_of(kind: str) -> np.dtype:
    if kind.endswith("bfloat16"):
        from ml_dtypes import bfloat16

        return np.dtype(bfloat16)
    name = kind.removeprefix("CSR ").replace("unsorted", "float32")
    return np.dtype(DTYPES.get(name, name))


def problem(kind: str, size: int, columns: int = COLUMNS):
    """X of this size in bytes, and targets that depend on it."""
    rng = np.random.default_rng(0)
    dtype = dtype_of(kind)
    if kind.startswith("CSR"):
        n = max(200, size // (NONZEROS * (max(4, dtype.itemsize) + 4)))
        X = _csr(rng, n, dtype, columns, sort="unsorted" not in kind)
    else:
        n = max(200, size // (columns * max(4, dtype.itemsize)))
        X = np.empty((n, columns), dtype, order="F" if kind == "Fortran" else "C")
        for i in range(0, len(X), 4096):
            part = rng.integers(-9, 10, size=X[i : i + 4096].shape, dtype=np.int8)
            part = np.abs(part) if dtype.kind == "u" else part
            X[i : i + 4096] = part > 0 if kind == "bool" else part.astype(dtype)
    y = fastlsgd.predict(X, np.r_[1.0, -1.0, 0.5, np.zeros(columns - 3)])
    return X, np.asarray(y, np.float64) + rng.normal(size=n)


def _csr(rng, n: int, dtype: np.dtype, columns: int, sort: bool):
    first = rng.integers(0, columns // NONZEROS, size=n, dtype=np.int32)
    # Each row has one column in each of NONZEROS equal ranges, in descending or ascending order.
    parts = np.arange(NONZEROS, dtype=np.int32) * (columns // NONZEROS)
    indices = (first[:, None] + (parts if sort else parts[::-1])).ravel()
    data = rng.integers(-9, 10, size=len(indices), dtype=np.int8).astype(dtype)
    if dtype.name in ("float16", "bfloat16"):  # SciPy makes no such array, but accepts one
        X = sp.csr_array((n, columns), dtype=np.float32)
        X.data, X.indices = data, indices
        X.indptr = np.arange(n + 1, dtype=np.int32) * NONZEROS
        return X
    return sp.csr_array((data, indices, np.arange(n + 1, dtype=np.int32) * NONZEROS),
                        shape=(n, columns))  # fmt: skip


def entries(X, y) -> Iterator[tuple[str, Callable[[], object]]]:
    n, d = X.shape
    w, labels = np.zeros(d), y > 0
    most = ShuffleSplit(1, test_size=0.05, random_state=0)  # nearly all rows to train on
    short = {"max_iter": 2, "tol": None, "random_state": 0}
    yield "loss_gradient", lambda: fastlsgd.loss_gradient(X, y, w)
    yield "gram", lambda: fastlsgd.gram(X, y)
    yield "predict", lambda: fastlsgd.predict(X, w)
    yield "sgd_epoch", lambda: fastlsgd.sgd_epoch(X, y, w, learning_rate=1e-5)
    yield "lstsq", lambda: fastlsgd.lstsq(X, y)
    yield "fit", lambda: LeastSquaresRegressor().fit(X, y)
    yield "fit, cg", lambda: LeastSquaresRegressor(solver="cg").fit(X, y)
    yield "fit, qr", lambda: LeastSquaresRegressor(solver="qr").fit(X, y)
    yield "fit, sketch", lambda: LeastSquaresRegressor(solver="sketch").fit(X, y)
    yield "fit, ridge", lambda: LeastSquaresRegressor(alpha=0.1).fit(X, y)
    yield "fit, lasso", lambda: LeastSquaresRegressor(alpha=0.1, l1_ratio=1.0).fit(X, y)
    yield "fit, positive", lambda: LeastSquaresRegressor(positive=True).fit(X, y)
    yield "summary", lambda: model_of(X, y).summary()
    yield "score", lambda: model_of(X, y).score(X, y)
    yield "LeastSquaresClassifier", lambda: LeastSquaresClassifier().fit(X, labels).predict(X)
    yield "leave-one-out", lambda: LeastSquaresCV(alphas=[0.1]).fit(X, y)
    yield "folds", lambda: LeastSquaresCV(alphas=[0.1], cv=3).fit(X, y)
    yield "SGDRegressor", lambda: SGDRegressor(**short).fit(X, y)
    yield "SGDRegressor, batches", lambda: SGDRegressor(batch_size=1024, **short).fit(X, y)
    yield "SGDRegressor, one batch", lambda: SGDRegressor(batch_size=n, **short).fit(X, y)
    yield (
        "SGDRegressor, constant",
        lambda: SGDRegressor(learning_rate="constant", eta0=1e-5, **short).fit(X, y),
    )
    yield (
        "partial_fit, constant",
        lambda: SGDRegressor(learning_rate="constant", eta0=1e-5).partial_fit(X, y),
    )
    yield "partial_fit", lambda: SGDRegressor().partial_fit(X, y)
    yield (
        "partial_fit, SGDClassifier",
        lambda: SGDClassifier().partial_fit(X, labels, [False, True]),
    )
    yield "decision_function", lambda: LeastSquaresClassifier().fit(X, labels).decision_function(X)
    yield "SGDClassifier", lambda: SGDClassifier(**short).fit(X, labels).predict(X)
    yield (
        "SGDRegressorCV",
        lambda: SGDRegressorCV(SGDRegressor(**short), alphas=[1e-4], cv=most).fit(X, y),
    )
    constant = SGDRegressor(learning_rate="constant", eta0=1e-5, **short)
    yield (
        "SGDRegressorCV, constant",
        lambda: SGDRegressorCV(constant, alphas=[1e-4], cv=most).fit(X, y),
    )


_models: dict[int, LeastSquaresRegressor] = {}


def model_of(X, y) -> LeastSquaresRegressor:
    return _models.setdefault(X.shape[0], LeastSquaresRegressor()).fit(X, y)


def growth(call: Callable[[], object]) -> int:
    MARK.write_text("5")
    before = resident("VmRSS:")
    result = call()
    after = resident("VmHWM:")
    del result
    return after - before


def main(*kinds: str) -> None:
    warnings.simplefilter("ignore")
    for kind in kinds:
        names = names_of(kind)
        for name, call in entries(*problem(kind, 0)):
            if name in names:
                call()
        X, y = problem(kind, SIZE)
        sizes = {name: growth(call) for name, call in entries(X, y) if name in names}
        print(json.dumps({"kind": kind, "rows": len(y), "growth": sizes}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
