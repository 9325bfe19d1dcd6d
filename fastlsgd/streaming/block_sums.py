"""The moments of blocks, which several threads take: each has the sums of some rows to itself.

Threads that share a call of the `gram` kernel wait for one another, and where the decoder of the
next block keeps one of them from its processor, the others idle. So each part of a block is a job
of one thread, and the parts of a block begin before those of the last one have ended. Sums are
added in the order of the rows, so that the result depends on the number of threads, but not on
which of them is quicker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .._config import config_context
from .._threads import FEW_PRODUCTS, Job, begin, carried
from ..kernels import resolve_threads
from ..moments import Moments
from .source import RowBlock, named

# Of more columns, each part's matrix of sums would take too long to add.
SHARED_COLUMNS = 256
# Multiply-adds of a part, at most: some 50 milliseconds, for which Ctrl-C has to wait.
PART_PRODUCTS = 2**30


class FoldRows(NamedTuple):
    """Some rows of a block, and the number of the moments that they are added to."""

    to: int
    X: Any
    y: Any
    s: Any


def whole_block(block: RowBlock) -> list[FoldRows]:
    """Return all rows of a block, for moments number 0."""
    return [FoldRows(0, block.X, block.y, block.sample_weight)]


class Added(NamedTuple):
    """A block whose sums have begun."""

    block: RowBlock
    jobs: list[tuple[int, Job]]


class BlockSums:
    """Adds blocks to moments.

    Parameters
    ----------
    moments : list of Moments
        They have no rows, or those of blocks before.
    rows_of : callable
        Divides a block into rows for each of the moments.
    names : list of str or None
        Of the columns, for errors.
    backend : str or None
    """

    def __init__(
        self,
        moments: list[Moments],
        rows_of: Callable[[RowBlock], list[FoldRows]],
        names: list[str] | None,
        backend: str | None,
    ) -> None:
        self.moments, self.rows_of, self.names, self.backend = moments, rows_of, names, backend
        self.n_threads = resolve_threads()
        self.begun: deque[Added] = deque()

    def add(self, blocks: Iterable[RowBlock]) -> Iterator[RowBlock]:
        """Add the blocks, and yield each one when the moments have its rows, and no later ones.

        Raises
        ------
        ValueError
            If rows are not allowed; the message names their place.
        """
        try:
            for block in blocks:
                with named(block, self.names):
                    rows = self.rows_of(block)
                    is_shared = self._is_shared(block)
                    if is_shared:
                        self._begin(block, rows)
                while len(self.begun) > int(is_shared):
                    yield self._finish()
                if not is_shared:
                    with named(block, self.names):
                        for part in rows:
                            own = self.moments[part.to]
                            own.update(part.X, part.y, part.s, backend=self.backend)
                    yield block
            while self.begun:
                yield self._finish()
        finally:
            for added in self.begun:
                for _, job in added.jobs:
                    job.cancel()

    def _is_shared(self, block: RowBlock) -> bool:
        """Return whether threads are worth while, and each can have sums of its own."""
        X = block.X
        if self.n_threads == 1 or not isinstance(X, np.ndarray) or X.ndim != 2:
            return False
        if self.moments[0].factor != "gram" or not 0 < X.shape[1] <= SHARED_COLUMNS:
            return False
        return isinstance(block.y, np.ndarray) and _products(X) > FEW_PRODUCTS

    def _begin(self, block: RowBlock, rows: list[FoldRows]) -> None:
        jobs = []
        for part in rows:
            n = part.X.shape[0]
            count = max(self.n_threads, -(-_products(part.X) // PART_PRODUCTS))
            for start, stop in pairwise(np.linspace(0, n, count + 1).astype(int).tolist()):
                if stop > start:
                    s = part.s[start:stop] if np.ndim(part.s) else part.s
                    X, y = part.X[start:stop], part.y[start:stop]
                    jobs.append((part.to, Job(carried(partial(self._sums, X, y, s)))))
        self.begun.append(Added(block, jobs))
        begin([job for _, job in jobs])

    def _sums(self, X, y, s) -> Moments:
        with config_context(n_threads=1):
            return Moments().update(X, y, s, backend=self.backend)

    def _finish(self) -> RowBlock:
        """Add the sums of the first block that has begun."""
        block, jobs = self.begun[0]
        with named(block, self.names):
            for to, job in jobs:
                job.make_here()
                self.moments[to] = self.moments[to] + job.result()
        self.begun.popleft()
        return block


def _products(X: np.ndarray) -> int:
    return X.shape[0] * X.shape[1] * (X.shape[1] + 1) // 2
