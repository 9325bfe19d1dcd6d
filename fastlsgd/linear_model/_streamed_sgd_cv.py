"""`fit_stream` of `SGDRegressorCV`: folds of the rows of each block."""

from __future__ import annotations

from os import PathLike
from typing import Any, Self

import numpy as np
from sklearn.base import clone

from .. import _validation as check
from ..streaming.collect import Collection, collect
from ..streaming.folds import fold_of
from ..streaming.source import StreamError
from ..streaming.stream import Stream
from ._base import all_or_nothing
from ._from_streams import Report, check_stream, n_features_of
from ._least_squares_cv import LeastSquaresCV
from ._streamed_sgd import fit_to_moments, is_solved_by_moments

# What validation of rows would have found.
DATA_ATTRIBUTES = ("feature_names_in_", "_target_dtype", "_origin")


class StreamedSGDCV:
    """`fit_stream` of a cross-validated stochastic regressor."""

    def fit_stream(
        self,
        stream: Stream,
        *,
        checkpoint: str | PathLike | None = None,
        progress: Report = False,
    ) -> Self:
        """Find `alpha_` by folds of a stream, and fit with it to all rows.

        Parameters
        ----------
        stream : Stream
            As :func:`fastlsgd.streaming.scan` makes it.
        checkpoint : path, optional
            As of :meth:`SGDRegressor.fit_stream`, where one pass serves all folds and strengths.
        progress : bool or callable, default=False
            Called with a :class:`~fastlsgd.streaming.StreamProgress` after each block; True prints
            it.

        Returns
        -------
        self : SGDRegressorCV

        Raises
        ------
        ValueError
            As for :meth:`SGDRegressor.fit_stream`; if `cv` is no number of folds, `scoring` is not
            None, or `checkpoint` is given where it can't be used.

        Notes
        -----
        The rows of each block are dealt to the folds in runs of equal length. With
        ``learning_rate="auto"`` and at most 2,048 features, one pass collects the moments of all
        folds. Else each strength and fold is a fit of its own, from zero, with as many passes as
        :meth:`SGDRegressor.fit_stream` makes.

        Examples
        --------
        >>> import numpy as np
        >>> from fastlsgd import SGDRegressorCV
        >>> from fastlsgd.streaming import scan
        >>> X = np.random.default_rng(0).normal(size=(1000, 3))
        >>> stream = scan(X, target=X @ [1.0, 2.0, 3.0], batch_rows=100)
        >>> SGDRegressorCV(alphas=[1.0, 1e-3]).fit_stream(stream).alpha_
        0.001
        """
        check_stream(stream)
        estimator: Any = self
        with all_or_nothing(self):
            alphas, model = estimator._falling_alphas(), estimator._checked_model()
            model._check_parameters()
            model._check_partial_fit()
            if estimator.scoring is not None:
                raise ValueError(
                    "scoring must be None for fit_stream: minus the mean squared error."
                )
            n_folds = _n_folds(estimator.cv)
            if is_solved_by_moments(model, n_features_of(stream)):
                task = Collection("gram", n_folds, model.backend, checkpoint, progress, "sgd cv")
                _choose_by_moments(estimator, model, alphas, collect(stream, task))
            elif checkpoint is not None:
                raise ValueError(
                    "checkpoint is for fits by moments (learning_rate='auto', up to 2,048 "
                    "features): here each strength and fold is a fit of its own."
                )
            else:
                _choose_by_fits(estimator, model, alphas, stream, n_folds, progress)
            estimator._take_best()
            for name in DATA_ATTRIBUTES:
                self.__dict__.pop(name, None)
                if hasattr(estimator.best_estimator_, name):
                    setattr(self, name, getattr(estimator.best_estimator_, name))
        return self


def _n_folds(cv) -> int:
    cv = 5 if cv is None else cv
    if not check.is_whole(cv):
        raise ValueError(f"cv must be a number of folds for fit_stream, got {check.shown(cv)}.")
    return check.check_whole(cv, "cv", 2)


def _choose_by_moments(estimator, model, alphas: np.ndarray, parts: list) -> None:
    judge = LeastSquaresCV(
        alphas=alphas.tolist(),
        l1_ratio=float(model._l1_ratio),
        fit_intercept=model.fit_intercept,
        backend=model.backend,
        n_jobs=model.n_jobs,
    ).fit_moments(parts)
    best = estimator._choose(alphas, -judge.mse_path_)
    estimator.best_estimator_ = clone(model).set_params(alpha=best)
    fit_to_moments(estimator.best_estimator_, sum(parts))


def _choose_by_fits(estimator, model, alphas, stream: Stream, n_folds: int, progress) -> None:
    scores = np.empty((len(alphas), n_folds))
    for k in range(n_folds):
        rest, own = (fold_of(stream, k, n_folds, held=held) for held in (False, True))
        for j, alpha in enumerate(alphas):
            fitted = clone(model).set_params(alpha=float(alpha))
            scores[j, k] = -_mean_squared_error(fitted.fit_stream(rest, progress=progress), own)
    best = estimator._choose(alphas, scores)
    estimator.best_estimator_ = clone(model).set_params(alpha=best)
    estimator.best_estimator_.fit_stream(stream, progress=progress)


def _mean_squared_error(model, stream: Stream) -> float:
    total = weight = 0.0
    for X, y, s in stream:
        error = np.square(model.predict(X) - np.asarray(y, np.float64))
        each = error if error.ndim == 1 else error.mean(axis=1)
        total += float(each.sum() if s is None else (s * each).sum())
        weight += float(len(each) if s is None else np.sum(s * np.ones(len(each))))
    if not weight > 0.0:
        raise StreamError("A fold of the stream has no rows of positive weight.")
    return total / weight
