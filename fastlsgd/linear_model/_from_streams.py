"""`fit_stream` of least-squares estimators: one pass for moments, or a descent in several."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import Any, Self

import numpy as np

from .._column_totals import ColumnTotals
from ..streaming.collect import Collection, Prepared, as_it_is, collect
from ..streaming.passes import StreamDescent
from ..streaming.source import RowBlock
from ..streaming.stream import Stream, StreamProgress
from ._base import all_or_nothing
from ._constraints import is_trivial
from ._from_passes import adopt_path, needs_passes, path_of

Report = bool | Callable[[StreamProgress], None]


def check_stream(stream) -> None:
    if not isinstance(stream, Stream):
        raise ValueError(
            f"stream must be a Stream, got type {type(stream).__name__}: fastlsgd.streaming.scan "
            f"makes one of files, frames, arrays and batches."
        )


def moments_task(
    estimator, checkpoint: str | PathLike | None, progress: Report, n_folds: int = 1, kind=None
) -> Collection:
    """Return how an estimator collects the moments of a stream."""
    factor = "qr" if estimator.solver == "qr" else "gram"
    return Collection(factor, n_folds, estimator.backend, checkpoint, progress, kind)


def makes_passes(estimator, stream: Stream) -> bool:
    """Return whether a descent fits the stream, as its columns, memory and the solver say.

    Constraints are for moments.
    """
    if not is_trivial(estimator):
        return False
    return needs_passes(estimator.solver, n_features_of(stream), stream.memory)


def n_features_of(stream: Stream) -> int:
    """Return the number of columns, for which the first block may have to be read."""
    if stream.n_features is not None:
        return stream.n_features
    first = next(stream.blocks(), None)
    return 0 if first is None else first.X.shape[1]


def fit_by_passes(
    regressor,
    stream: Stream,
    task: Collection,
    prepare: Callable[[RowBlock], Prepared] = as_it_is,
) -> ColumnTotals:
    """Fit a regressor by a descent, and return the totals of the columns."""
    alphas = regressor._check_parameters()
    params = {**regressor.get_params(deep=False), "n_jobs": None, "backend": None}
    task = task._replace(kind=[task.kind, repr(sorted(params.items()))])
    descent = StreamDescent(
        stream, task, lambda totals: path_of(regressor, totals, alphas), prepare
    )
    totals, path = descent.run()
    adopt_path(regressor, totals, path)
    return totals


class FromStreams:
    """`fit_stream` of least-squares regressors, by moments."""

    def fit_stream(
        self,
        stream: Stream,
        *,
        checkpoint: str | PathLike | None = None,
        progress: Report = False,
    ) -> Self:
        """Fit the model to the rows of a stream, in one pass or several.

        Parameters
        ----------
        stream : Stream
            As :func:`fastlsgd.streaming.scan` makes it.
        checkpoint : path, optional
            A file that is written after each block, and removed at the end. A fit of the same
            stream goes on from it after a crash, and ends with the same bits.
        progress : bool or callable, default=False
            Called with a :class:`~fastlsgd.streaming.StreamProgress` after each block; True prints
            it.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            As for `fit_moments`; if rows are not allowed, the message names the file, the row
            group and the column; and if `checkpoint` is a file of another fit, or damaged.

        Notes
        -----
        Where four matrices of n_features x n_features numbers fit into the `memory` of the stream,
        or there are at most 512 columns, one pass collects the rows as :class:`fastlsgd.Moments`,
        with ``factor="qr"`` if `solver` is "qr". Else each gradient of a descent is a pass, of at
        most `max_iter`: by conjugate gradients, or with L1 or `positive` by accelerated proximal
        steps. ``solver="gram"``, "sketch" and "qr" collect moments in any case, "cg" and "nesterov"
        make passes. Where columns depend on each other and nothing is penalised, passes end at the
        least norm in scaled columns.

        LeastSquaresCV always collects moments, and judges folds: `cv` of them, 5 by default, to
        which the rows of each block are dealt in runs of equal length.

        Examples
        --------
        >>> import numpy as np
        >>> from fastlsgd import LeastSquaresRegressor
        >>> from fastlsgd.streaming import scan
        >>> X = np.arange(8.0)[:, None]
        >>> model = LeastSquaresRegressor().fit_stream(scan(X, target=2 * X[:, 0] + 1))
        >>> model.coef_.round(6).tolist(), round(model.intercept_, 6)
        ([2.0], 1.0)
        """
        check_stream(stream)
        estimator: Any = self
        alphas = getattr(estimator, "alphas", None)
        estimator._check_other_parameters(alphas is None or np.any(alphas))
        n_folds = estimator._n_folds_of_streams()
        task = moments_task(estimator, checkpoint, progress, n_folds)
        if n_folds == 1 and makes_passes(estimator, stream):
            with all_or_nothing(estimator):
                fit_by_passes(estimator, stream, task)
            return self
        parts = collect(stream, task)
        return estimator.fit_moments(parts if n_folds > 1 else parts[0])

    def _n_folds_of_streams(self) -> int:
        return 1
