"""A stream as another one: some of its rows, or other targets, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .source import Source
from .stream import Stream

# X, y, weights and place.
Parts = tuple[Any, Any, Any, str]


class ViewSource:
    """The blocks of a source, each changed by a function of its place in the source.

    Parameters
    ----------
    source : Source
    change : callable
        Of the number of the piece, that of the block in it, and the parts of the block; returns
        the parts of the new block.
    """

    is_ready = False

    def __init__(self, source: Source, change: Callable[[int, int, Parts], Parts]) -> None:
        self.source, self.change = source, change
        self.names, self.n_features = source.names, source.n_features

    def pieces(self) -> Sequence[str]:
        return self.source.pieces()

    def read(self, piece: int) -> Iterator[Parts]:
        for number, parts in enumerate(self.source.read(piece)):
            changed = self.change(piece, number, parts)
            if changed[0].shape[0]:
                yield changed

    def labels(self) -> np.ndarray:
        return self.source.labels()


def view_of(stream: Stream, change: Callable[[int, int, Parts], Parts], **told: Any) -> Stream:
    """Return a stream with changed blocks; what is told of the change goes to checkpoints."""
    return Stream(ViewSource(stream.source, change), {**stream.selection, **told}, stream.memory)


def held_out_rows(seed: int, share: float, piece: int, number: int, n: int) -> np.ndarray:
    """Return which rows of a block are held out, drawn by its place, the same in each pass."""
    return np.random.default_rng([seed, piece, number]).random(n) < share


def without_held_out(stream: Stream, seed: int, share: float) -> Stream:
    """Return the stream of the rows that are not held out."""

    def rest(piece: int, number: int, parts: Parts) -> Parts:
        X, y, s, place = parts
        kept = ~held_out_rows(seed, share, piece, number, X.shape[0])
        return X[kept], y[kept], s[kept] if np.ndim(s) else s, place

    return view_of(stream, rest, held_out=[seed, share])
