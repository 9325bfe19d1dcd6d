"""What a stream reads: pieces of a source, each a few blocks of rows, and how they are named.

A source knows its columns and its pieces before it reads any row. A piece (a row group, a file, a
range of rows) can be read by itself, so that pieces can be visited in any order and a reader can
begin in the middle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from .._validation import explain_non_finite


class StreamError(ValueError):
    """What is wrong with the rows of a source; the message names the file, place and column."""


class RowBlock(NamedTuple):
    """Some rows of a stream."""

    X: Any  # (n, d) array or SciPy CSR
    y: np.ndarray  # (n,) or (n, t); labels of any dtype
    sample_weight: np.ndarray | None  # (n,)
    place: str  # such as "sales.parquet, row group 3"
    position: int  # of its piece in the order of reading
    number: int  # of this block in the piece
    n_bytes: int  # of X


class named:
    """Have errors in the rows of a block name its place, and the column if it has NaN."""

    def __init__(self, block: RowBlock, names: list[str] | None) -> None:
        self.block, self.names = block, names

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind, error, traceback) -> None:
        if isinstance(error, ValueError) and not isinstance(error, StreamError):
            column = self._column()
            raise StreamError(f"{self.block.place}: {column or error}") from error

    def _column(self) -> str | None:
        """Say which column has the first number that is not finite."""
        X = self.block.X
        if not isinstance(X, np.ndarray) or X.ndim != 2 or X.dtype.kind != "f":
            return None
        for j in range(X.shape[1]):
            try:
                explain_non_finite(X=X[:, j])
            except ValueError:
                row = int(np.flatnonzero(~np.isfinite(X[:, j]))[0])
                name = repr(self.names[j]) if self.names is not None else j
                kind = "NaN" if np.isnan(X[row, j]) else "infinity"
                return f"X contains {kind}: column {name}, row {row} of block {self.block.number}."
        return None


class Source(Protocol):
    """Where rows come from."""

    names: list[str] | None  # of the columns of X
    n_features: int | None  # None where only the first block tells

    @property
    def is_ready(self) -> bool:
        """Whether blocks are arrays in memory, so that nothing is gained by reading ahead."""
        ...

    def pieces(self) -> Sequence[str]:
        """Return the places of all pieces, in the order of the rows."""
        ...

    def read(self, piece: int) -> Iterator[tuple[Any, Any, Any, str]]:
        """Yield X, y, weights and the place of each block of a piece."""
        ...

    def labels(self) -> np.ndarray:
        """Return the different values of y, sorted, by a pass."""
        ...


def rows_per_block(batch_rows: int | None, memory: int, bytes_per_row: int) -> int:
    """Return how many rows a block has.

    About six blocks are in memory at a time: two that are computed with, one that waits, one that
    is being made, and for that one what it is made from.
    """
    if batch_rows is not None:
        return batch_rows
    return max(1, min(memory // 6, MOST_BYTES) // max(bytes_per_row, 1))


# Larger blocks bring nothing: merging the sums of two takes d^2 operations.
MOST_BYTES = 2**25


def distinct(parts: Iterator[np.ndarray]) -> np.ndarray:
    """Return the sorted values of some arrays, of which a few are in memory at a time."""
    found: np.ndarray | None = None
    for part in parts:
        values = np.unique(part)
        found = values if found is None else np.unique(np.concatenate([found, values]))
    if found is None:
        raise StreamError("The stream has no rows.")
    return found
