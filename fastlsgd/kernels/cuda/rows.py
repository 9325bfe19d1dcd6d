"""Rows of X, with their targets and weights: on the host side of a launch, and inside kernels.

Host code holds `Rows` or `Sparse`, and a `Block` of them with targets and weights. A kernel takes
flat arguments and makes `Dense`, `Entries`, `Weights` and `Order` of them on its first lines;
device functions take these.

Rows are found by 64-bit arithmetic: a matrix may have more than 2^31 numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..contract import CSR
from ..device import DeviceArray
from .compile import device_function
from .context import stream_of
from .memory import native, reserve, reserve_stream
from .transfer import copy_beside

# Rows that become float64 in the workspace, at a time: enough for the device to be slower than the
# launches.
STRETCH_BYTES = 128 << 20


class Rows(NamedTuple):
    """A dense matrix on the device: entry (i, j) is flat[start + i * row + j * column]."""

    flat: DeviceArray
    start: int
    row: int
    column: int
    shape: tuple[int, int]

    @classmethod
    def of(cls, X: DeviceArray) -> Rows:
        if X.rows is None:
            flat, start = X.span()
            strides = [stride // X.itemsize for stride in X.strides]
            n, d = X.shape
            X.rows = cls(flat, start, strides[0], strides[1], (n, d))
        return X.rows

    @property
    def column_major(self) -> bool:
        return self.shape[1] > 1 and abs(self.row) < abs(self.column)

    @property
    def contiguous_rows(self) -> bool:
        return self.column == 1 or self.shape[1] == 1

    @property
    def arguments(self) -> tuple:
        return native(self.flat), self.start, self.row, self.column

    @property
    def scalar(self) -> Any:
        """The type of the numbers, as Numba's local arrays take it."""
        return self.flat.dtype.type

    def vector(self) -> int:
        """Numbers in a load of 16 bytes, where all rows are aligned for it; else 1."""
        wide = 16 // self.flat.itemsize
        aligned = (self.flat.address + self.start * self.flat.itemsize) % 16 == 0
        fits = aligned and self.row % wide == 0 and self.shape[1] % wide == 0
        return wide if fits and self.contiguous_rows else 1


class Sparse(NamedTuple):
    """A CSR matrix on the device."""

    data: DeviceArray
    indices: DeviceArray
    indptr: DeviceArray
    shape: tuple[int, int]
    order: DeviceArray | None  # of the visits; None where it is that of the rows

    @property
    def arguments(self) -> tuple:
        return native(self.data), native(self.indices), native(self.indptr)


class Block(NamedTuple):
    """Rows on the device, with their targets and weights."""

    X: Rows | Sparse
    y: Rows | None
    s: DeviceArray | None
    first: int  # the row, or visit, with which the block begins
    stream: Any

    @property
    def n(self) -> int:
        return self.X.shape[0]

    @property
    def dense(self) -> Rows:
        """X, of a block that is known to be dense."""
        assert isinstance(self.X, Rows)
        return self.X

    @property
    def targets(self) -> Rows:
        """y, of a block that is known to have targets."""
        assert self.y is not None
        return self.y

    @property
    def weights(self) -> tuple:
        """The weights and whether there are any; if not, an array of some type."""
        if self.s is not None:
            return native(self.s), 1
        return native(self.X.flat if isinstance(self.X, Rows) else self.X.data), 0


def matrix_of(X):
    """The array that tells where X is: X itself, or the numbers of a CSR matrix."""
    return X.data if isinstance(X, CSR) else X


def stream_for(X, *others):
    """The stream on which X is made, once the streams on which the others are made are done."""
    matrix = matrix_of(X)
    if not isinstance(matrix, DeviceArray):
        return reserve_stream("work")
    for other in others:
        if isinstance(other, DeviceArray) and other.stream != matrix.stream:
            stream_of(other.stream).synchronize()
    return stream_of(matrix.stream)


def resident(X, stream) -> Rows | Sparse:
    """X, which is on the device, as the kernels take it."""
    if not isinstance(X, CSR):
        return Rows.of(X)
    data: Any = X.data
    indices: Any = X.indices
    return Sparse(data, indices, copy_beside(X.indptr, data, stream), X.shape, None)


def order_arguments(order: DeviceArray | None) -> tuple:
    """What kernels take of an order: its numbers, and whether there are any."""
    if order is None:
        return native(reserve("no order", 1, np.int64)), 0
    return native(order), 1


def rows_of_stretch(width: int) -> int:
    """Rows of so many float64 that fit into a stretch."""
    return max(1, STRETCH_BYTES // (8 * width))


# ----------------------------------------------------------------------------------------------
# Inside kernels
# ----------------------------------------------------------------------------------------------


class Dense(NamedTuple):
    """A dense matrix: entry (i, j) is flat[start + i * row + j * column]."""

    flat: Any
    start: int
    row: int
    column: int


class Entries(NamedTuple):
    """A CSR matrix."""

    data: Any
    indices: Any
    indptr: Any


class Weights(NamedTuple):
    """Sample weights; `values` are not read where none are given."""

    values: Any
    given: int


class Order(NamedTuple):
    """The row of each visit from `first` on; `rows` is not read where no order is given."""

    rows: Any
    given: int
    first: int


@device_function
def entry(X, i, j):
    """X[i, j]."""
    return X.flat[X.start + i * X.row + j * X.column]


@device_function
def weight_of(s, i):
    """The weight of row i, in float64; 1 where no weights are given."""
    weight = 1.0
    if s.given:
        weight = np.float64(s.values[i])
    return weight


@device_function
def row_of(order, visit):
    """The row that is visited."""
    row = order.first + visit
    if order.given:
        row = order.rows[row]
    return row
