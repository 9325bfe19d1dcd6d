"""`fit_stream` of least-squares estimators: one pass, which collects moments."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import Any

import numpy as np

from ..streaming.collect import Collection, collect
from ..streaming.stream import Stream, StreamProgress

Report = bool | Callable[[StreamProgress], None]


def check_stream(stream) -> None:
    if not isinstance(stream, Stream):
        raise ValueError(
            f"stream must be a Stream, got a {type(stream).__name__}: fastlsgd.streaming.scan "
            f"makes one of files, frames, arrays and batches."
        )


def moments_task(
    estimator, checkpoint: str | PathLike | None, progress: Report, n_folds: int = 1, kind=None
) -> Collection:
    """Return how an estimator collects the moments of a stream."""
    factor = "qr" if estimator.solver == "qr" else "gram"
    return Collection(factor, n_folds, estimator.backend, checkpoint, progress, kind)


class FromStreams:
    """`fit_stream` of least-squares regressors, by moments."""

    def fit_stream(
        self,
        stream: Stream,
        *,
        checkpoint: str | PathLike | None = None,
        progress: Report = False,
    ):
        """Fit the model to the rows of a stream, in one pass.

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
        The rows are collected as :class:`fastlsgd.Moments`, with ``factor="qr"`` if `solver` is
        "qr". LeastSquaresCV judges folds: `cv` of them, 5 by default, to which the rows of each
        block are dealt in runs of equal length.

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
        parts = collect(stream, moments_task(estimator, checkpoint, progress, n_folds))
        return estimator.fit_moments(parts if n_folds > 1 else parts[0])

    def _n_folds_of_streams(self) -> int:
        return 1
