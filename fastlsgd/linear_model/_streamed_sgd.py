"""`fit_stream` of stochastic estimators, for rows that are read a block at a time.

Where the step sizes come from the data and there are few features, the result of any number of
epochs is the minimum of the objective, which one pass finds by the moments of the rows. Else blocks
are passed to `partial_fit`, in as many epochs as the stopping rule wants.
"""

from __future__ import annotations

import math
from os import PathLike
from typing import Any, Self

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state

from ..moments import Moments
from ..solvers.stochastic import Patience
from ..solvers.streaming import MOMENT_FEATURES
from ..streaming.checkpoint import StateCheckpoint, check_path, description
from ..streaming.collect import Collection, collect
from ..streaming.source import StreamError, named
from ..streaming.stream import Meter, Stream
from ._base import DRAFT, all_or_nothing
from ._block_epochs import BlockEpochs
from ._from_streams import Report, check_stream, n_features_of
from ._least_squares import LeastSquaresRegressor
from ._least_squares_classifier import LeastSquaresClassifier


class StreamedSGD:
    """`fit_stream` of stochastic estimators."""

    def fit_stream(
        self,
        stream: Stream,
        *,
        classes=None,
        checkpoint: str | PathLike | None = None,
        progress: Report = False,
    ) -> Self:
        """Fit the model to the rows of a stream, by as many passes as `fit` would make epochs.

        Parameters
        ----------
        stream : Stream
            As :func:`fastlsgd.streaming.scan` makes it.
        classes : array-like of shape (n_classes,), optional
            For a classifier all labels that there are. Default: found by a first pass.
        checkpoint : path, optional
            A file that is written after each block, and removed at the end. A fit of the same
            stream goes on from it after a crash, and ends with the same bits. Nothing in it is
            executed.
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
        With ``learning_rate="auto"`` and at most 2,048 features, one pass collects the moments of
        the rows, which have the weights that minimise the objective. Else there are up to
        `max_iter` passes, which end as those of `fit` do: when the mean loss has not fallen by
        `tol` below its best for `n_iter_no_change` passes in a row. With `shuffle` the pieces of
        the stream (row groups, files) are visited in a new random order in each pass, and so are
        the rows within a block. A mini-batch ends where its block ends (a row group, for example),
        so that `t_` and the weights differ slightly from those of `fit` where `batch_size` does not
        divide the rows of a block.

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
        estimator: Any = self
        estimator._check_parameters()
        estimator._check_partial_fit()
        if classes is not None and not hasattr(self, "decision_function"):
            raise ValueError("classes are for classifiers.")
        with all_or_nothing(self):
            if is_solved_by_moments(estimator, n_features_of(stream)):
                return _fit_by_moments(estimator, stream, classes, checkpoint, progress)
            fit = _StreamedFit(self, stream, classes)
            state = fit.run(checkpoint, Meter(progress))
            params = estimator.get_params(deep=False)
            forget_fit(estimator)
            self.__dict__ |= {name: value for name, value in state.items() if name not in params}
            if stream.feature_names is not None:
                self.feature_names_in_ = np.array(stream.feature_names, dtype=object)
        return self


def forget_fit(estimator) -> None:
    """Remove all that a fit has left."""
    for name in set(vars(estimator)) - {DRAFT, *estimator.get_params(deep=False)}:
        del estimator.__dict__[name]


def is_solved_by_moments(estimator, n_features: int) -> bool:
    """Return whether the minimum of the objective is what all epochs lead to, and moments have it.

    Class weights may weigh a row differently for each target, which moments do not.
    """
    if not estimator._automatic or getattr(estimator, "class_weight", None) is not None:
        return False
    return n_features <= MOMENT_FEATURES


def _fit_by_moments(estimator, stream: Stream, classes, checkpoint, progress: Report):
    """Fit the estimator to the moments of the rows."""
    labels = None
    if hasattr(estimator, "decision_function"):
        classifier = LeastSquaresClassifier(**_least_squares_options(estimator))
        labels, moments = classifier.moments_of_stream(stream, classes, checkpoint, progress)
    else:
        collection = Collection("gram", 1, estimator.backend, checkpoint, progress, "sgd")
        (moments,) = collect(stream, collection)
    return fit_to_moments(estimator, moments, labels)


def _least_squares_options(estimator) -> dict[str, Any]:
    """Return the parameters of least squares that minimise the estimator's objective."""
    return {
        "alpha": float(estimator._alpha),
        "l1_ratio": float(estimator._l1_ratio),
        "fit_intercept": estimator.fit_intercept,
        "backend": estimator.backend,
        "n_jobs": estimator.n_jobs,
    }


def fit_to_moments(estimator, moments: Moments, labels=None):
    """Set the fitted attributes of a stochastic estimator to the minimum that moments have."""
    regressor = LeastSquaresRegressor(**_least_squares_options(estimator))
    regressor.fit_moments(moments)
    forget_fit(estimator)
    estimator.coef_, estimator.backend_ = regressor.coef_, regressor.backend_
    estimator.intercept_ = np.atleast_1d(regressor.intercept_)
    estimator.n_iter_ = 1
    estimator.t_ = 1.0 + -(-moments.n_samples // int(estimator.batch_size))
    loss = float(np.sum(np.square(regressor.residual_norm_))) / (2.0 * moments.weight)
    estimator.loss_curve_ = [loss]
    _take_data(estimator, moments, regressor, labels)
    return estimator


def _take_data(estimator, moments: Moments, regressor, labels) -> None:
    """Take over what validation of rows would have found."""
    estimator.n_features_in_ = moments.n_features
    if hasattr(moments, "feature_names_in_"):
        estimator.feature_names_in_ = moments.feature_names_in_
    if labels is None:
        estimator._target_dtype, estimator._origin = regressor._target_dtype, regressor._origin
    else:
        estimator.classes_ = labels


def loss_after(loss: float, mean_loss: float, n_rows: int) -> float:
    """Return the sum of the losses of a pass so far, with those of so many rows.

    Raises
    ------
    StreamError
        If they overflow.
    """
    if n_rows:  # else there was no epoch, and perhaps never one
        loss += n_rows * mean_loss
    if not math.isfinite(loss):
        raise StreamError("Squares of y overflow, by which passes are judged: rescale y.")
    return loss


def rows_of_weight(n: int, sample_weight) -> int:
    """Return how many rows the mean loss of a call of `partial_fit` is over."""
    return n if np.ndim(sample_weight) == 0 else int(np.count_nonzero(sample_weight))


def order_of_pass(model, rng: np.random.RandomState, n_pieces: int) -> list[int]:
    """Return the order in which a pass visits the pieces."""
    return rng.permutation(n_pieces).tolist() if model.shuffle else list(range(n_pieces))


def passes_have_ended(model, losses: list[float]) -> bool:
    """Return whether the loss of the last passes has not fallen below the best before them."""
    if not losses:
        return False
    if len(losses) >= model.max_iter:
        return True
    if model.tol is None:
        return False
    tol = model.tol * (losses[0] if model._automatic else 1.0)
    patience = Patience(tol, model.n_iter_no_change)
    return any(patience.runs_out(loss) for loss in losses)


class _StreamedFit:
    """Passes over a stream with a copy of an estimator."""

    def __init__(self, estimator, stream: Stream, classes) -> None:
        self.stream, self.estimator, self.model = stream, estimator, clone(estimator)
        self.rng = check_random_state(estimator.random_state)
        self.model.random_state = self.rng
        self.more: dict[str, Any] = {}
        if hasattr(estimator, "decision_function"):
            self.more["classes"] = stream.source.labels() if classes is None else classes
        self.losses: list[float] = []  # of complete passes
        self.start = (0, 0)
        self.order: list[int] | None = None
        self.loss, self.rows = 0.0, 0  # of the pass so far

    def run(self, checkpoint, meter: Meter) -> dict[str, Any]:
        """Make the passes, and return the attributes of the fitted model."""
        file = None
        if checkpoint is not None:
            file = StateCheckpoint(checkpoint, self._told())
            state = file.load()
            if state is not None:
                vars(self.model).update(state.pop("fitted"))
                vars(self).update(state)
                self.model.random_state = self.rng
        epochs = BlockEpochs(self.model, self.more)
        while not passes_have_ended(self.model, self.losses):
            self._pass(epochs, file, meter)
        epochs.publish()
        if file is not None:
            file.remove()
        self.model.loss_curve_ = list(self.losses)
        self.model.n_iter_ = len(self.losses)
        return vars(self.model)

    def _told(self) -> dict[str, Any]:
        """Return what makes the stream and the fit, for checkpoints."""
        labels = self.more.get("classes")
        classes = None if labels is None else [str(label) for label in labels]
        return description(self.stream, model=repr(self.estimator), classes=classes)

    def _pass(self, epochs: BlockEpochs, file: StateCheckpoint | None, meter: Meter) -> None:
        if self.order is None:
            n_pieces = len(self.stream.source.pieces())
            self.order = order_of_pass(self.model, self.rng, n_pieces)
        for block in self.stream.blocks(self.order, self.start):
            with named(block, self.stream.feature_names):
                mean_loss = epochs.visit(block.X, block.y, block.sample_weight)
            rows = rows_of_weight(len(block.y), block.sample_weight)
            self.loss = loss_after(self.loss, mean_loss, rows)
            self.rows += rows
            self.start = block.position, block.number + 1
            if file is not None:
                epochs.publish()
                file.save(self._state())
            meter.count(block, len(self.losses))
        if self.rows == 0:
            raise StreamError("The stream has no rows of positive weight.")
        self.losses.append(self.loss / self.rows)
        self.loss, self.rows, self.start, self.order = 0.0, 0, (0, 0), None

    def _state(self) -> dict[str, Any]:
        names = ("rng", "losses", "start", "order", "loss", "rows")
        params = self.model.get_params(deep=False)
        fitted = {name: value for name, value in vars(self.model).items() if name not in params}
        return {name: getattr(self, name) for name in names} | {"fitted": fitted}
