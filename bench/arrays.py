"""The arrays of the benchmarks, and the results of the reference kernels on them.

All dense shapes of a dtype are views of one buffer of standard normal numbers: drawing new numbers
for each shape would take longer than the benchmarks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property, lru_cache

import numpy as np
from scipy import sparse

from fastlsgd import _validation as check
from fastlsgd.datasets import house_sales_transformer, load_house_sales
from fastlsgd.kernels import reference
from fastlsgd.kernels.contract import Epoch, Gram, SGDState, TargetGradients

DTYPES = ("float32", "float64")

# At scale 1. `pytest bench` uses a quarter of it, and a fortieth with --quick.
X_BYTES = 400e6
SGD_SHAPES = {
    "1M x 100": (1_000_000, 100),
    "4M x 10": (4_000_000, 10),
    "20k x 4096": (20_000, 4096),
}
CSR_SHAPE = (500_000, 100_000)
CSR_PER_ROW = 50

LAYOUTS = ("C", "F", "every second row", "100 of 128 columns")


@dataclass(eq=False)
class Problem:
    """The data and weights of a benchmark."""

    X: np.ndarray | sparse.csr_array
    y: np.ndarray  # (n,) or (n, t)
    coef: np.ndarray  # (d,) or (t, d)  X's dtype
    intercept: float = 0.25

    @property
    def shape(self) -> tuple[int, int]:
        return self.X.shape

    @property
    def dtype(self) -> str:
        return self.X.dtype.name

    @property
    def nbytes(self) -> int:
        """The size of X in bytes."""
        X = self.X
        if isinstance(X, np.ndarray):
            return X.nbytes
        return X.data.nbytes + X.indices.nbytes + X.indptr.nbytes

    @property
    def rate(self) -> float:
        """A learning rate at which every step reduces the error, since |x|^2 is close to d."""
        return 0.01 if sparse.issparse(self.X) else 0.1 / self.shape[1]

    def head(self, n_rows: int) -> Problem:
        """The problem of the first rows, in the same memory layout."""
        return Problem(self.X[:n_rows], self.y[:n_rows], self.coef, self.intercept)

    def arguments(self) -> tuple:
        """X, y, w, b as the kernels take them."""
        X = check.as_matrix(self.X)
        y = check.as_targets(self.y, X.shape[0], X.dtype)
        w, b = check.as_coefficients(self.coef, np.full(y.shape[1], self.intercept), X.shape[1])
        return X, y, w, b

    @cached_property
    def gradient(self) -> TargetGradients:
        """The gradient of all rows by the reference: NumPy in float64, a block at a time."""
        return reference.loss_gradient(*self.arguments(), None, 1)

    @cached_property
    def moments(self) -> Gram:
        X, y, _, _ = self.arguments()
        return reference.gram(X, y, None, None, 1)

    @cached_property
    def predictions(self) -> np.ndarray:
        X, _, w, b = self.arguments()
        return reference.predict(X, w, b, 1)[:, 0]

    def epoch(self, batch_size: int, alpha: float, order: np.ndarray | None = None) -> np.ndarray:
        """The weights after an epoch of the reference from zero, without an intercept."""
        X, y, w, b = self.arguments()
        w, b = np.zeros(w.shape, X.dtype), np.zeros_like(b)
        rates = np.full(-(-X.shape[0] // batch_size), self.rate)
        epoch = Epoch(order, rates, batch_size, alpha, fit_intercept=False)
        reference.sgd_epoch(X, y, w, b, None, epoch, SGDState(), 1)
        return w[0]


@lru_cache(maxsize=2)
def dense(n: int, d: int, dtype: str, layout: str = "C", n_targets: int = 1) -> Problem:
    """A problem with about this many rows, whose X is a view in any layout."""
    rng = np.random.default_rng(n + d)
    # The count is a power of two, so that most shapes share one buffer.
    numbers = _normal(1 << (n * d - 1).bit_length(), dtype)
    X = _laid_out(numbers, n, d, layout)
    y = rng.standard_normal((len(X), n_targets), dtype=dtype)
    coef = rng.standard_normal((n_targets, d)) / np.sqrt(d)
    if n_targets == 1:
        return Problem(X, y[:, 0], coef[0].astype(dtype))
    return Problem(X, y, coef.astype(dtype))


def dense_of_bytes(
    nbytes: float, d: int, dtype: str, layout: str = "C", n_targets: int = 1
) -> Problem:
    n = int(nbytes / (d * np.dtype(dtype).itemsize))
    return dense(n, d, dtype, layout, n_targets)


@lru_cache(maxsize=1)
def csr(n: int, d: int, dtype: str) -> Problem:
    """`CSR_PER_ROW` stored numbers per row, one in each of as many equal ranges of columns."""
    rng = np.random.default_rng(n)
    width = d // CSR_PER_ROW
    indices = rng.integers(0, width, (n, CSR_PER_ROW), dtype=np.int32)
    indices += width * np.arange(CSR_PER_ROW, dtype=np.int32)
    data = rng.standard_normal(n * CSR_PER_ROW, dtype=dtype)
    indptr = np.arange(0, n * CSR_PER_ROW + 1, CSR_PER_ROW, dtype=np.int32)
    X = sparse.csr_array((data, indices.ravel(), indptr), shape=(n, d))
    coef = rng.standard_normal(d).astype(dtype)
    return Problem(X, rng.standard_normal(n, dtype=dtype), coef)


@lru_cache(maxsize=2)
def house_sales(dtype: str) -> Problem:
    """The bundled house sales, standardised so that a constant rate suits every column."""
    sales, price = load_house_sales(return_X_y=True)
    X = house_sales_transformer().fit_transform(sales)
    X = (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-12)
    y = np.log(price) - np.log(price).mean()
    return Problem(X.astype(dtype), y.astype(dtype), np.zeros(X.shape[1], dtype))


@cache
def _normal(size: int, dtype: str) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(size, dtype=dtype)


def _laid_out(numbers: np.ndarray, n: int, d: int, layout: str) -> np.ndarray:
    if layout == "C":
        return numbers[: n * d].reshape(n, d)
    if layout == "F":
        return numbers[: n * d].reshape(d, n).T
    if layout == "every second row":  # of n rows: reads as much as the others
        return numbers[: n * d].reshape(n, d)[::2]
    if layout == "100 of 128 columns":
        assert d == 100
        return numbers[: n // 128 * 100 * 128].reshape(-1, 128)[:, :100]
    raise ValueError(f"unknown layout {layout!r}")
