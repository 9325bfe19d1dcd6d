"""What the defaults reach on sparse rows, and how long they take: the second table of defaults.py.

Text-like rows have columns by Zipf's law, counts damped and weighted as tf-idf does, and norm 1.
One-hot rows have a 1 for each of ten variables, whose levels are equally frequent or follow Zipf's
law. Targets are linear in 30 % of the columns, with noise of half the signal's size; classes are
the sign or the largest of such targets.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
from sklearn.linear_model import SGDClassifier as SklearnClassifier
from sklearn.linear_model import SGDRegressor as SklearnRegressor
from threadpoolctl import threadpool_limits

from fastlsgd import SGDClassifier, SGDRegressor

CLASSES = (None, 2, 20)
REPEATS = 3
LONG_SECONDS = 1.0  # a fit that takes longer is not repeated
HEAD = """## Sparse rows

Held-out R2 or accuracy, epochs in brackets, and seconds of one thread (processor time, the best of
three), scikit-learn's defaults beside ours: its SGDClassifier has the hinge loss. The last column
is its time divided by ours. `bench/sparse_defaults.py` describes the data. With 20 classes and many
more rows than columns, squared error itself ranks classes less well than the hinge loss does:
scikit-learn's RidgeClassifier, which minimises the same objective, has 0.499 and 0.416 in the two
cells where ours is below.

| data | targets | dtype | scikit-learn | s | fastlsgd | s | ratio |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def zipf(levels: int, exponent: float) -> np.ndarray:
    p = 1.0 / np.arange(1, levels + 1) ** exponent
    return p / p.sum()


def text(n: int, d: int, length: int) -> sp.csr_array:
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.4 * length, n) + 1
    rows = np.repeat(np.arange(n), counts)
    columns = rng.permutation(d)[rng.choice(d, len(rows), p=zipf(d, 1.1))]
    X = sp.coo_array((np.ones(len(rows)), (rows, columns)), shape=(n, d)).tocsr()
    frequency = np.log((1 + n) / (1 + np.bincount(X.indices, minlength=d))) + 1.0
    X.data = (1.0 + np.log(X.data)) * frequency[X.indices]
    norms = np.sqrt(np.asarray(X.multiply(X).sum(axis=1)).ravel())
    X.data /= np.repeat(norms, np.diff(X.indptr))
    X.indices, X.indptr = X.indices.astype(np.int32), X.indptr.astype(np.int32)  # scikit-learn's
    return X


def one_hot(n: int, d: int, variables: int, exponent: float) -> sp.csr_array:
    rng, levels = np.random.default_rng(0), d // variables
    p = zipf(levels, exponent)
    parts = [rng.choice(levels, n, p=p) + k * levels for k in range(variables)]
    columns = np.stack(parts, axis=1).astype(np.int32).ravel()
    ends = np.arange(0, n * variables + 1, variables, dtype=np.int32)
    return sp.csr_array((np.ones(n * variables), columns, ends), shape=(n, d))


def problems() -> Iterator[tuple[str, sp.csr_array, int]]:
    """Name, rows, and how many of them are fitted."""
    yield "text, 2,000 x 20,000, 50 per row", text(8_000, 20_000, 50), 2_000
    yield "text, 20,000 x 50,000, 55 per row", text(25_000, 50_000, 55), 20_000
    yield "text, 100,000 x 1,000, 20 per row", text(125_000, 1_000, 20), 100_000
    yield "one-hot, 100,000 x 20,000, 10 per row", one_hot(125_000, 20_000, 10, 0.0), 100_000
    yield "one-hot, levels by Zipf's law", one_hot(125_000, 20_000, 10, 1.0), 100_000


def targets(X: sp.csr_array, n_classes: int | None) -> np.ndarray:
    rng, t = np.random.default_rng(1), n_classes if (n_classes or 0) > 2 else 1
    signal = X @ (rng.normal(size=(X.shape[1], t)) * (rng.random((X.shape[1], t)) < 0.3))
    signal = (signal - signal.mean(axis=0)) / signal.std(axis=0)
    signal += 0.5 * rng.normal(size=signal.shape)
    if n_classes is None:
        return 3.0 * signal[:, 0] + 10.0
    return (signal[:, 0] > 0).astype(int) if n_classes == 2 else signal.argmax(axis=1)


def measured(model, X, y, X_test, y_test) -> tuple[float, float, int]:
    """Held-out score, seconds and epochs."""
    seconds = np.inf
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        for _ in range(REPEATS):
            start = time.process_time()
            model.fit(X, y)
            seconds = min(seconds, time.process_time() - start)
            if seconds > LONG_SECONDS:
                break
    return model.score(X_test, y_test), seconds, model.n_iter_


def lines() -> Iterator[str]:
    """The lines of the table."""
    for name, X, n in problems():
        for n_classes in CLASSES:
            y = targets(X, n_classes)
            for dtype in (np.float32, np.float64):
                A = X.astype(dtype)
                data = A[:n], y[:n], A[n:], y[n:]
                theirs = SklearnRegressor if n_classes is None else SklearnClassifier
                ours = SGDRegressor if n_classes is None else SGDClassifier
                a, t, e = measured(theirs(random_state=0), *data)
                b, s, k = measured(ours(random_state=0, n_jobs=1), *data)
                what = "1" if n_classes is None else f"{n_classes} classes"
                yield (
                    f"| {name} | {what} | {np.dtype(dtype).name} | {a:.4f} ({e}) | {t:.3f} | "
                    f"{b:.4f} ({k}) | {s:.3f} | {t / s:.1f} |"
                )


if __name__ == "__main__":
    for row in lines():
        print(row, flush=True)
