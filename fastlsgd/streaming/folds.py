"""Folds of a stream: each has a run of the rows of each block, as moments are dealt to folds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .collect import dealt
from .source import Source
from .stream import Stream


class FoldSource:
    """The rows of a fold, or all others.

    Parameters
    ----------
    source : Source
    fold, n_folds : int
    held : bool
        Whether the rows of the fold are read, or the others.
    """

    is_ready = False

    def __init__(self, source: Source, fold: int, n_folds: int, held: bool) -> None:
        self.source, self.fold, self.n_folds, self.held = source, fold, n_folds, held
        self.names, self.n_features = source.names, source.n_features

    def pieces(self) -> Sequence[str]:
        return self.source.pieces()

    def read(self, piece: int) -> Iterator[tuple[Any, Any, Any, str]]:
        for X, y, s, place in self.source.read(piece):
            own = dealt(X.shape[0], self.n_folds)[self.fold]
            chosen = np.zeros(X.shape[0], bool)
            chosen[own] = True
            rows = own if self.held else np.flatnonzero(~chosen)
            if chosen.all() if not self.held else not chosen.any():
                continue
            yield X[rows], y[rows], s[rows] if np.ndim(s) else s, place

    def labels(self) -> np.ndarray:
        return self.source.labels()


def fold_of(stream: Stream, fold: int, n_folds: int, *, held: bool) -> Stream:
    """Return the stream of a fold's rows, or of all others."""
    source = FoldSource(stream.source, fold, n_folds, held)
    told = {**stream.selection, "fold": [fold, n_folds, held]}
    return Stream(source, told, stream.memory)
