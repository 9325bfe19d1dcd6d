"""`Stream`: blocks of rows from a source, in any order of its pieces, and sums over them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..moments import Moments
from .block_sums import BlockSums, whole_block
from .prefetch import prefetched
from .source import RowBlock, Source, StreamError


class StreamProgress(NamedTuple):
    """How far a fit has read.

    Attributes
    ----------
    rows : int
        Rows so far, of all epochs.
    n_bytes : int
        Bytes of X so far.
    seconds : float
    epoch : int
        Number of the pass, from 0.
    """

    rows: int
    n_bytes: int
    seconds: float
    epoch: int

    def __str__(self) -> str:
        speed = self.n_bytes / max(self.seconds, 1e-9) / 1e9
        return f"{self.rows:,} rows, {speed:.2f} GB/s, pass {self.epoch + 1}"


DEFAULT_MEMORY = 2**28


class Stream:
    """Rows that are read a block at a time; :func:`scan` makes it.

    Iterating gives tuples (X, y, sample_weight), and may be repeated.

    Attributes
    ----------
    feature_names : list of str or None
        Names of the columns of X, where they have names.
    n_features : int or None
        None where only the first block tells.
    memory : int
        How many bytes the blocks may take, and what is made of them.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlsgd.streaming import scan
    >>> stream = scan([(np.ones((3, 2)), np.zeros(3)), (np.ones((4, 2)), np.ones(4))])
    >>> [len(y) for X, y, sample_weight in stream]
    [3, 4]
    """

    def __init__(
        self,
        source: Source,
        selection: dict[str, Any] | None = None,
        memory: int = DEFAULT_MEMORY,
    ) -> None:
        self.source, self.selection, self.memory = source, selection or {}, memory

    def __repr__(self) -> str:
        features = "unknown" if self.n_features is None else self.n_features
        return f"Stream({type(self.source).__name__}, n_features={features}, memory={self.memory})"

    @property
    def feature_names(self) -> list[str] | None:
        return self.source.names

    @property
    def n_features(self) -> int | None:
        return self.source.n_features

    def told(self) -> dict[str, Any]:
        """Return what was chosen from the source, with all that takes a look at its rows."""
        return {
            name: value() if callable(value) else value for name, value in self.selection.items()
        }

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "selection": self.told()}  # not the rows that have to be looked at

    def __iter__(self) -> Iterator[tuple[Any, np.ndarray, np.ndarray | None]]:
        for block in self.blocks():
            yield block.X, block.y, block.sample_weight

    def blocks(
        self, order: Sequence[int] | None = None, start: tuple[int, int] = (0, 0)
    ) -> Iterator[RowBlock]:
        """Yield the blocks; the next one is read while the caller works on the last.

        Blocks that are in memory are yielded as they are: of 10,000 x 100 float32, a thread for
        each took as long as a tenth of an epoch of stochastic gradient descent.

        Parameters
        ----------
        order : sequence of int, optional
            Numbers of the pieces, in the order in which they are to be read.
        start : (int, int)
            The position in this order, and the number of the block there, to begin with.
        """
        blocks = self._read(order, start)
        return blocks if self.source.is_ready else prefetched(blocks)

    def _read(self, order: Sequence[int] | None, start: tuple[int, int]) -> Iterator[RowBlock]:
        pieces = range(len(self.source.pieces())) if order is None else order
        for position in range(start[0], len(pieces)):
            for number, parts in enumerate(self.source.read(pieces[position])):
                if position > start[0] or number >= start[1]:
                    X, y, s, place = parts
                    n_bytes = getattr(X, "nbytes", 0) or getattr(
                        getattr(X, "data", None), "nbytes", 0
                    )
                    yield RowBlock(X, y, s, place, position, number, n_bytes)

    def moments(self, *, factor: str = "gram", backend: str | None = None) -> Moments:
        """Return the moments of all rows, from one pass.

        Parameters
        ----------
        factor, backend
            As in :meth:`Moments.from_data`.

        Returns
        -------
        moments : Moments

        Raises
        ------
        ValueError
            If rows are not allowed; the message names the place and the column.

        Examples
        --------
        >>> import numpy as np
        >>> from fastlsgd.streaming import scan
        >>> scan([(np.eye(3), np.ones(3)), (np.eye(3), np.zeros(3))]).moments().n_samples
        6
        """
        parts = [Moments(factor=factor)]
        sums = BlockSums(parts, whole_block, self.feature_names, backend)
        for _ in sums.add(self.blocks()):
            pass
        moments = parts[0]
        if moments.n_samples == 0:
            raise StreamError("The stream has no rows of positive weight.")
        if self.feature_names is not None:
            moments.feature_names_in_ = np.array(self.feature_names, dtype=object)
        return moments


class Meter:
    """Counts rows and bytes, and reports them."""

    def __init__(self, report: bool | Callable[[StreamProgress], None]) -> None:
        self.report = print if report is True else report or None
        self.rows = self.n_bytes = 0
        self.begun = time.perf_counter()

    def count(self, block: RowBlock, epoch: int = 0) -> None:
        self.rows += len(block.y)
        self.n_bytes += block.n_bytes
        if self.report is not None:
            seconds = time.perf_counter() - self.begun
            self.report(StreamProgress(self.rows, self.n_bytes, seconds, epoch))
