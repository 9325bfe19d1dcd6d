"""`fit_stream`: estimators fitted to rows that are read a block at a time."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state

from ..solvers.streaming import MOMENT_FEATURES
from ..streaming.checkpoint import FitCheckpoint, check_path, description
from ..streaming.collect import Collection, collect
from ..streaming.source import StreamError
from ..streaming.stream import Meter, Stream, StreamProgress, named
from ._base import all_or_nothing

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


class StreamedSGD:
    """`fit_stream` of stochastic estimators, by calls of `partial_fit`."""

    def fit_stream(
        self,
        stream: Stream,
        *,
        classes=None,
        checkpoint: str | PathLike | None = None,
        progress: Report = False,
    ):
        """Fit the model to the rows of a stream, by as many passes as `fit` would make epochs.

        Parameters
        ----------
        stream : Stream
            As :func:`fastlsgd.streaming.scan` makes it.
        classes : array-like of shape (n_classes,), optional
            For a classifier all labels that there are. Default: found by a first pass.
        checkpoint : path, optional
            A file that is written after each block, and removed at the end. A fit of the same
            stream goes on from it after a crash, and ends with the same bits. It is a pickle: give
            only files that this method has written.
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
            As for `partial_fit`; if rows are not allowed, the message names the file, the row
            group and the column; and if `checkpoint` is a file of another fit, or damaged.

        Notes
        -----
        With ``learning_rate="auto"`` and at most 1,024 features, one pass gives the weights that
        minimise the objective. Else there are up to `max_iter` passes, which end as those of `fit`
        do: when the mean loss has not fallen by `tol` below its best for `n_iter_no_change` passes
        in a row. With `shuffle` the pieces of the stream (row groups, files) are visited in a new
        random order in each pass, and so are the rows within a block.

        Examples
        --------
        >>> import numpy as np
        >>> from fastlsgd import SGDRegressor
        >>> from fastlsgd.streaming import scan
        >>> X = np.random.default_rng(0).normal(size=(1000, 3))
        >>> stream = scan(X, target=X @ [1.0, 2.0, 3.0], batch_rows=100)
        >>> SGDRegressor(alpha=0.0).fit_stream(stream).coef_.round(3).tolist()
        [1.0, 2.0, 3.0]
        """
        check_stream(stream)
        check_path(checkpoint)
        with all_or_nothing(self):
            fit = _StreamedFit(self, stream, classes)
            state = fit.run(checkpoint, Meter(progress))
            params = self.get_params(deep=False)  # type: ignore[attr-defined]
            for name in set(vars(self)) - set(params):
                del self.__dict__[name]
            self.__dict__ |= {name: value for name, value in state.items() if name not in params}
            if stream.feature_names is not None:
                self.feature_names_in_ = np.array(stream.feature_names, dtype=object)
        return self


class _StreamedFit:
    """Passes over a stream with a copy of an estimator."""

    def __init__(self, estimator, stream: Stream, classes) -> None:
        self.stream, self.model = stream, clone(estimator)
        self.rng = check_random_state(estimator.random_state)
        self.model.random_state = self.rng
        self.more: dict[str, Any] = {}
        if hasattr(estimator, "decision_function"):
            self.more["classes"] = stream.source.labels() if classes is None else classes
        elif classes is not None:
            raise ValueError("classes are for classifiers.")
        self.told = description(
            stream,
            model=repr(estimator),
            classes=None if not self.more else [str(label) for label in self.more["classes"]],
        )
        self.losses: list[float] = []  # of complete passes
        self.start = (0, 0)
        self.order: list[int] | None = None
        self.loss, self.rows = 0.0, 0  # of the pass so far

    def run(self, checkpoint, meter: Meter) -> dict[str, Any]:
        """Make the passes, and return the attributes of the fitted model."""
        file = None
        if checkpoint is not None:
            file = FitCheckpoint(checkpoint, self.told)
            state = file.load()
            if state is not None:
                vars(self).update(state)
        while not self._has_ended():
            self._pass(file, meter)
        if file is not None:
            file.remove()
        self.model.loss_curve_ = list(self.losses)
        self.model.n_iter_ = len(self.losses)
        return vars(self.model)

    def _pass(self, file: FitCheckpoint | None, meter: Meter) -> None:
        if self.order is None:
            n = len(self.stream.source.pieces())
            shuffled = self.model.shuffle and not self._needs_one_pass()
            self.order = self.rng.permutation(n).tolist() if shuffled else list(range(n))
        for block in self.stream.blocks(self.order, self.start):
            with named(block, self.stream.feature_names):
                self.model.partial_fit(
                    block.X, block.y, sample_weight=block.sample_weight, **self.more
                )
            rows = len(block.y)
            self.loss += rows * self.model.loss_curve_[-1]
            self.rows += rows
            self.start = block.piece, block.number + 1
            if file is not None:
                file.save(self._state())
            meter.count(block, len(self.losses))
        if self.rows == 0:
            raise StreamError("The stream has no rows.")
        self.losses.append(self.loss / self.rows)
        self.loss, self.rows, self.start, self.order = 0.0, 0, (0, 0), None

    def _state(self) -> dict[str, Any]:
        names = ("model", "rng", "losses", "start", "order", "loss", "rows")
        return {name: getattr(self, name) for name in names}

    def _needs_one_pass(self) -> bool:
        d = self.stream.n_features
        d = getattr(self.model, "n_features_in_", d)
        return self.model._automatic and d is not None and d <= MOMENT_FEATURES

    def _has_ended(self) -> bool:
        """Return whether the loss of the last passes has not fallen below the best before them."""
        passes, model = len(self.losses), self.model
        if passes == 0:
            return False
        if self._needs_one_pass() or passes >= model.max_iter:
            return True
        patience = model.n_iter_no_change
        if model.tol is None or passes <= patience:
            return False
        tol = model.tol * (self.losses[0] if model._automatic else 1.0)
        best, last = np.inf, 0
        for loss in self.losses:
            last = 0 if loss < best - tol else last + 1
            best = min(best, loss)
        return last >= patience
