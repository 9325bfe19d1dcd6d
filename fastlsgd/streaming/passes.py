"""Least squares fitted to a stream by gradients, each of which is one pass over it.

For so many columns that their products would not fit into memory. A first pass takes the means and
squares of the columns; the descent of `solvers/pass_descent.py` then asks for gradients. A
checkpoint has the descent as it was at the beginning of the pass, and the sums so far.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._column_totals import ColumnTotals, gradient_of_rows
from ..solvers.column_sums import GradientSums
from ..solvers.pass_descent import PathDescent
from .checkpoint import StateCheckpoint, check_path, description
from .collect import Collection, Prepared, as_it_is
from .source import RowBlock, StreamError, named
from .stream import Meter, Stream


class StreamDescent:
    """Passes over a stream, until a descent has ended.

    Parameters
    ----------
    stream : Stream
    task : Collection
        Its `kind` must tell the fit, for checkpoints.
    begin : callable
        Makes the descent from the totals of the columns.
    prepare : callable
        Makes targets and weights of a block.
    """

    def __init__(
        self,
        stream: Stream,
        task: Collection,
        begin: Callable[[ColumnTotals], PathDescent],
        prepare: Callable[[RowBlock], Prepared] = as_it_is,
    ) -> None:
        check_path(task.checkpoint)
        self.stream, self.task, self.begin, self.prepare = stream, task, begin, prepare
        self.totals = ColumnTotals()
        self.path: PathDescent | None = None
        self.sums: GradientSums | None = None  # of the pass so far
        self.start, self.n_passes = (0, 0), 0
        self.file: StateCheckpoint | None = None
        if task.checkpoint is not None:
            told = description(stream, passes=True, kind=task.kind)
            self.file = StateCheckpoint(task.checkpoint, told)

    def run(self) -> tuple[ColumnTotals, PathDescent]:
        """Return the totals of the columns, and the descent, which has ended.

        Raises
        ------
        ValueError
            If rows are not allowed; the message names their place.
        """
        state = None if self.file is None else self.file.load()
        vars(self).update(state or {})
        meter = Meter(self.task.progress)
        if self.path is None:
            self._pass(meter, self._add_to_totals)
            if self.totals.n_samples == 0:
                raise StreamError("The stream has no rows of positive weight.")
            if self.stream.feature_names is not None:
                names = np.array(self.stream.feature_names, dtype=object)
                self.totals.feature_names_in_ = names
            self.path = self.begin(self.totals)
        while not self.path.has_ended:
            self._pass(meter, self._add_to_gradient)
            if self.sums is None:
                raise StreamError("The stream has other rows than in the pass before.")
            self.path.take(self.sums.means())
            self.sums = None
        if self.file is not None:
            self.file.remove()
        return self.totals, self.path

    def _pass(self, meter: Meter, add: Callable[[RowBlock], None]) -> None:
        for block in self.stream.blocks(start=self.start):
            with named(block, self.stream.feature_names):
                add(block)
            self.start = block.position, block.number + 1
            if self.file is not None:
                self.file.save(self._state())
            meter.count(block, self.n_passes)
        self.start, self.n_passes = (0, 0), self.n_passes + 1

    def _add_to_totals(self, block: RowBlock) -> None:
        self.totals.update(block.X, *self.prepare(block), backend=self.task.backend)

    def _add_to_gradient(self, block: RowBlock) -> None:
        assert self.path is not None
        y, s = self.prepare(block)
        found = gradient_of_rows(block.X, y, s, self.path.request(), self.task.backend)
        if found is not None:
            self.sums = found if self.sums is None else self.sums.plus(found)

    def _state(self) -> dict[str, Any]:
        names = ("totals", "path", "sums", "start", "n_passes")
        return {name: getattr(self, name) for name in names}
