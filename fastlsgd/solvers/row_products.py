"""X^T u and X z for CSR rows and a few vectors at once, for conjugate gradients on rows.

Compiled kernels read X as it is, whatever its dtype, and take vectors in tiles that lie together
(`csrc/row_products.c`); SciPy's products stand in for them where a backend has none, and need rows
of float64. With 55 numbers per row, milliseconds of both products for 1 and 10 vectors:

    2,000 x 20,000     SciPy 0.18,  0.95     compiled 0.15, 0.43
    20,000 x 50,000    SciPy 3.3,  15.7      compiled 1.8,  7.2
"""

from __future__ import annotations

from typing import TypeGuard

import numpy as np

from ..kernels.blocks import takes
from ..kernels.contract import CSR, Kernels
from ..kernels.optional import RowKernels, has_row_kernels
from .interrupt import call_long
from .rows import as_scipy, row_squares, stored_numbers

WIDTHS = (1, 2, 4, 8)
LINE = 8  # float64 numbers in a line of cache, on which tiles begin
# Vectors whose products SciPy computes in one call, for which Ctrl-C has to wait.
VECTORS_AT_A_TIME = 64


class RowProducts:
    """The products, by compiled kernels.

    Parameters
    ----------
    X : CSR of shape (n, d)
        As kernels can read it.
    count : int
        How many vectors there are.
    """

    def __init__(self, kernels: RowKernels, X: CSR, count: int) -> None:
        self.kernels, self.X = kernels, X
        self.numbers = stored_numbers(X)
        self.tiles = []
        for start in range(0, count, LINE):
            vectors = slice(start, min(start + LINE, count))
            width = next(w for w in WIDTHS if w >= vectors.stop - start)
            self.tiles.append((vectors, aligned(X.shape[1], width)))

    def sums(self, u: np.ndarray) -> np.ndarray:
        """Return X^T u, (count, d), for u (count, n)."""
        out = np.empty((len(u), self.X.shape[1]))
        for vectors, z in self.tiles:
            self._sum(u[vectors], z)
            out[vectors] = z.T[: len(out[vectors])]
        return out

    def dots(self, coef: np.ndarray) -> np.ndarray:
        """Return X w, (count, n), for each row w of coef (count, d)."""
        out = np.empty((len(coef), self.X.shape[0]))
        for vectors, z in self.tiles:
            part = coef[vectors]
            z[:, : len(part)] = part.T
            z[:, len(part) :] = 0.0
            self._dot(z, out[vectors])
        return out

    def both(self, u: np.ndarray) -> np.ndarray:
        """Return X X^T u, (count, n)."""
        out = np.empty(u.shape)
        for vectors, z in self.tiles:
            self._sum(u[vectors], z)
            self._dot(z, out[vectors])
        return out

    def squares(self) -> np.ndarray:
        """Return the squares of the rows, (n,)."""
        return call_long(self.numbers, self.kernels.row_squares, 1, self.X)

    def _sum(self, u: np.ndarray, z: np.ndarray) -> None:
        u = np.ascontiguousarray(u)
        call_long(self.numbers, self.kernels.row_sums, len(u), self.X, u, z)

    def _dot(self, z: np.ndarray, out: np.ndarray) -> None:
        call_long(self.numbers, self.kernels.row_dots, len(out), self.X, z, out)


def aligned(rows: int, width: int) -> np.ndarray:
    """Return memory for (rows, width) numbers that begins on a line of cache."""
    memory = np.empty(rows * width + LINE)
    first = -(memory.ctypes.data // memory.itemsize) % LINE
    return memory[first : first + rows * width].reshape(rows, width)


class ScipyProducts(RowProducts):
    """The same by SciPy."""

    def __init__(self, X: CSR) -> None:
        self.X, self.A = X, as_scipy(X)
        self.A_T = self.A.T

    def sums(self, u: np.ndarray) -> np.ndarray:
        return _product(self.A_T, u)

    def dots(self, coef: np.ndarray) -> np.ndarray:
        return _product(self.A, coef)

    def both(self, u: np.ndarray) -> np.ndarray:
        return self.dots(self.sums(u))

    def squares(self) -> np.ndarray:
        return row_squares(self.X)


def _product(A, vectors: np.ndarray) -> np.ndarray:
    """Return A v for each row v of vectors."""
    out = np.empty((len(vectors), A.shape[0]))
    for start in range(0, len(vectors), VECTORS_AT_A_TIME):
        part = vectors[start : start + VECTORS_AT_A_TIME]
        if len(part) == 1:  # quicker for a vector
            out[start] = A @ part[0]
        else:
            out[start : start + len(part)] = (A @ np.ascontiguousarray(part.T)).T
    return out


def has_row_products(kernels: Kernels, X: CSR) -> TypeGuard[RowKernels]:
    """Whether compiled kernels can read X."""
    return has_row_kernels(kernels) and takes(X)


def row_products(kernels: Kernels, X: CSR, count: int) -> RowProducts:
    return RowProducts(kernels, X, count) if has_row_products(kernels, X) else ScipyProducts(X)
