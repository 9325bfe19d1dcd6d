"""One pass over a stream: the moments of its rows, or of folds of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from os import PathLike
from typing import Any, NamedTuple

import numpy as np

from ..moments import Moments
from .block_sums import BlockSums, FoldRows
from .checkpoint import MomentsCheckpoint, check_path, description
from .source import RowBlock, StreamError
from .stream import Meter, Stream, StreamProgress

# What is fitted to the rows of a block: y and the weights.
Prepared = tuple[Any, Any]


class Collection(NamedTuple):
    """How the moments of a stream are collected."""

    factor: str = "gram"
    n_folds: int = 1
    backend: str | None = None
    checkpoint: str | PathLike | None = None
    progress: bool | Callable[[StreamProgress], None] = False
    kind: Any = None  # what else makes the fit, for checkpoints


def as_it_is(block: RowBlock) -> Prepared:
    """Return the targets and weights of a block for a regressor."""
    return block.y, block.sample_weight


def collect(
    stream: Stream, task: Collection, prepare: Callable[[RowBlock], Prepared] = as_it_is
) -> list[Moments]:
    """Return the moments of each fold.

    The rows of a block are divided among the folds in runs of equal length.

    Raises
    ------
    ValueError
        If rows are not allowed; the message names their place.
    """
    check_path(task.checkpoint)
    parts = [Moments(factor=task.factor) for _ in range(task.n_folds)]
    start, file = (0, 0), None
    if task.checkpoint is not None:
        told = description(stream, factor=task.factor, n_folds=task.n_folds, kind=task.kind)
        file = MomentsCheckpoint(task.checkpoint, told)
        start, parts = file.load(task.factor, task.n_folds)
    meter = Meter(task.progress)

    def rows_of(block: RowBlock) -> list[FoldRows]:
        y, s = prepare(block)
        return divided(block, y, s, task.n_folds)

    sums = BlockSums(parts, rows_of, stream.feature_names, task.backend)
    for block in sums.add(stream.blocks(start=start)):
        if file is not None:
            file.save((block.position, block.number + 1), parts)
        meter.count(block)
    empty = [part.n_samples == 0 for part in parts]
    if all(empty):
        raise StreamError("The stream has no rows of positive weight.")
    if any(empty):
        raise StreamError(f"The stream has too few rows of positive weight for {len(parts)} folds.")
    if stream.feature_names is not None:
        for part in parts:
            part.feature_names_in_ = np.array(stream.feature_names, dtype=object)
    if file is not None:
        file.remove()
    return parts


def divided(block: RowBlock, y, s, n_folds: int) -> list[FoldRows]:
    """Return the rows of each fold that has some in this block."""
    if n_folds == 1:
        return [FoldRows(0, block.X, y, s)]
    found = []
    for fold, rows in enumerate(dealt(block.X.shape[0], n_folds)):
        if rows.stop > rows.start:
            own = s[rows] if s is not None and np.ndim(s) else s
            found.append(FoldRows(fold, block.X[rows], y[rows], own))
    return found


def dealt(n: int, n_folds: int) -> list[slice]:
    """Return the rows of each fold among the n of a block."""
    cuts = np.linspace(0, n, n_folds + 1).astype(int).tolist()
    return [slice(*cut) for cut in pairwise(cuts)]
