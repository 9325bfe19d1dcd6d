"""`SGDRegressor` and `SGDClassifier` over Dask collections.

Rows stay where they are: a model, of n_features numbers per target, goes from worker to worker,
each of which makes the updates of its own blocks. That is one sequence of updates, as of the same
rows in memory. Where a rate comes from the data, the minimum is found by moments, on all workers at
once.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import groupby
from typing import Any, NamedTuple, Self

import dask
import numpy as np
from sklearn.utils import check_random_state

from .. import linear_model
from .._threads import usable_processors
from ..linear_model._base import all_or_nothing, classes_of_calls, refuse_balanced
from ..linear_model._streamed_sgd import (
    fit_to_moments,
    forget_fit,
    is_solved_by_moments,
    loss_after,
    order_of_pass,
    passes_have_ended,
    rows_of_weight,
)
from ._blocks import DaskBlocks, blocks_of, is_lazy
from ._classifier import SignedTargets, class_weights, label_counts
from ._predictions import LazyClassifier, LazyRegressor
from ._regressors import collected
from ._sums import (
    WorkerSetting,
    holders_of,
    of_block,
    prepared,
    setting_of,
    threads_of_workers,
)

# Blocks in the workers' memory of which the tasks are handed in together. Each set waits for the
# last one, which takes as long as a few tasks; graphs of chains are built in quadratic time.
HELD_AT_ONCE = 64


class Learned(NamedTuple):
    """What a pass hands from block to block."""

    model: Any
    loss: float = 0.0  # the sum over the rows of the pass so far
    n_rows: int = 0


def learned_from(
    setting: WorkerSetting, rows: list, before: Learned, more: dict[str, Any]
) -> Learned:
    """Return what is learned after some blocks (X, y, sample_weight, number).

    What was learned before stays as it is, since a task may have to be repeated.
    """
    learned = before._replace(model=copy.deepcopy(before.model))
    for block in rows:
        if block[0].shape[0]:
            learned = of_block(setting, block, learned_from_rows, learned, more)
    return learned


def learned_from_rows(X, y, s, learned: Learned, more: dict[str, Any]) -> Learned:
    model = learned.model
    y, s = prepared(X, y, s, None)
    model.partial_fit(X, y, sample_weight=s, **more)
    n = rows_of_weight(X.shape[0], s)
    mean_loss = model.loss_curve_[-1] if n else 0.0  # without a row, there may be none yet
    return Learned(model, loss_after(learned.loss, mean_loss, n), learned.n_rows + n)


class Chain:
    """Passes of a model over the blocks of collections."""

    def __init__(self, blocks: DaskBlocks, setting: WorkerSetting, more: dict[str, Any]) -> None:
        self.parts, self.setting, self.more = blocks.parts, setting, more
        self.holders = holders_of(blocks.parts)
        threads = sum(threads_of_workers().values()) or usable_processors()
        # Blocks that are still to be made would else wait in memory for those before them.
        self.at_once = 2 * threads if None in self.holders else HELD_AT_ONCE

    def after_pass(self, model, order: list[int]) -> Learned:
        """Return what is learned from all blocks in this order."""
        learned = Learned(model)
        for start in range(0, len(order), self.at_once):
            delayed = dask.delayed(learned, traverse=False)
            for rows in self._runs(order[start : start + self.at_once]):
                task = dask.delayed(learned_from, pure=False)
                delayed = task(self.setting, rows, delayed, self.more)
            learned = dask.compute(delayed)[0]
        if learned.n_rows == 0:
            raise ValueError("X has no rows of positive sample_weight.")
        return learned

    def _runs(self, numbers: list[int]) -> Iterator[list[tuple]]:
        """Yield blocks that follow each other in one worker's memory: a task costs milliseconds."""
        for worker, run in groupby(numbers, key=self.holders.__getitem__):
            rows = [tuple(self.parts[number]) for number in run]
            if worker is None:
                yield from ([row] for row in rows)
            else:
                yield rows


class LazySGD:
    """`fit` and `partial_fit`, for a mixin of a stochastic estimator."""

    _plain: Any

    def _fit_blocks(self, blocks: DaskBlocks, setting: WorkerSetting, model, more) -> None:
        """Make passes until the loss stops falling, and take over what the model has learned."""
        chain = Chain(blocks, setting, more)
        losses: list[float] = []
        model.random_state = check_random_state(model.random_state)
        while not passes_have_ended(model, losses):
            order = order_of_pass(model, model.random_state, len(blocks.parts))
            learned = chain.after_pass(model, order)
            model = learned.model
            losses.append(learned.loss / learned.n_rows)
        model.loss_curve_, model.n_iter_ = losses, len(losses)
        forget_fit(self)
        self._take_over(model, blocks)

    def _add_blocks(self, blocks: DaskBlocks, setting: WorkerSetting, model, more) -> None:
        """Make one pass in the order of the rows, from where the last call ended."""
        chain = Chain(blocks, setting, more)
        learned = chain.after_pass(model, list(range(len(blocks.parts))))
        self._take_over(learned.model, blocks)

    def _take_over(self, model, blocks: DaskBlocks) -> None:
        params = model.get_params(deep=False)
        self.__dict__ |= {name: value for name, value in vars(model).items() if name not in params}
        if blocks.names is not None:
            self.feature_names_in_ = np.array(blocks.names, dtype=object)

    def _new_model(self):
        """Return the estimator for rows in memory, with the same parameters and not fitted."""
        estimator: Any = self
        return self._plain(**estimator.get_params(deep=False))


class SGDRegressor(LazySGD, LazyRegressor, linear_model.SGDRegressor):
    """Linear least squares by stochastic gradient descent, over Dask arrays and dataframes.

    Parameters, fitted attributes and results are those of :class:`fastlsgd.SGDRegressor`; `fit`
    and `partial_fit` take Dask collections, and `predict` and `score` of them are lazy.

    With ``learning_rate="auto"`` and at most 2,048 features, all workers take the moments of their
    blocks at once, and the weights are those that minimise the objective. Else the descent is
    sequential, as it is anywhere: the model goes from block to block, and each worker makes the
    updates of the blocks that it holds, with ``batch_size`` rows each, in up to `max_iter` passes.
    With `shuffle`, the blocks are visited in a new random order in each pass, and so are the rows
    within a block. The weights do not depend on the number of workers, and are those of
    :meth:`fit_stream` for a stream with the same blocks, bit for bit.

    Parameters
    ----------
    loss, penalty, alpha, l1_ratio, fit_intercept, max_iter, tol, shuffle, verbose, epsilon, \
random_state, learning_rate, eta0, power_t, early_stopping, validation_fraction, n_iter_no_change, \
restore_best_weights, warm_start, average, batch_size, optimizer, clip_norm, keep_interrupted, \
backend
        As of :class:`fastlsgd.SGDRegressor`, but that `early_stopping` is refused, and `warm_start`
        has no effect.
    n_jobs : int or None, default=None
        Threads of each task; None is one.

    See Also
    --------
    LeastSquaresRegressor : Its minimum in one pass, also with other penalties.

    Examples
    --------
    >>> import dask.array as da
    >>> from fastlsgd.dask import SGDRegressor
    >>> X = da.random.default_rng(0).normal(size=(1000, 3), chunks=(250, 3))
    >>> y = X @ [1.0, 2.0, 3.0]
    >>> SGDRegressor(alpha=0.0).fit(X, y).coef_.round(6).tolist()
    [1.0, 2.0, 3.0]
    >>> model = SGDRegressor(alpha=0.0, learning_rate="constant", eta0=0.01, random_state=0)
    >>> round(float(model.fit(X, y).score(X, y)), 3)
    1.0
    """

    _plain = linear_model.SGDRegressor

    def fit(self, X, y, sample_weight=None) -> Self:  # type: ignore[override]
        """Fit the model to the rows of Dask collections.

        Parameters
        ----------
        X, y, sample_weight
            As of :meth:`LeastSquaresRegressor.fit`.

        Returns
        -------
        self : SGDRegressor

        Raises
        ------
        ValueError
            As of :meth:`LeastSquaresRegressor.fit`; if the rates are too large; or if
            `early_stopping` is on.
        """
        with all_or_nothing(self):
            self._check_parameters()
            self._check_partial_fit()
            blocks = blocks_of(X, y, sample_weight)
            setting = setting_of(self.backend, self.n_jobs, blocks)
            if is_solved_by_moments(self, blocks.n_features):
                fit_to_moments(self, collected(blocks, setting, "auto"))
            else:
                self._fit_blocks(blocks, setting, self._new_model(), {})
        return self

    def partial_fit(self, X, y, sample_weight=None) -> Self:
        """Do one epoch on the rows of Dask collections, in their order, or on rows in memory.

        Parameters
        ----------
        X, y, sample_weight
            As of `fit`, or in memory.

        Returns
        -------
        self : SGDRegressor

        Raises
        ------
        ValueError
            As of `fit`.
        """
        if not is_lazy(X):
            return super().partial_fit(X, y, sample_weight)
        self._check_partial_fit()
        with all_or_nothing(self):
            self._check_parameters()
            blocks = blocks_of(X, y, sample_weight)
            setting = setting_of(self.backend, self.n_jobs, blocks)
            self._add_blocks(blocks, setting, self.in_memory(), {})
        return self

    def predict(self, X):
        """Predict the rows of a Dask collection lazily, or those of an array at once.

        Parameters
        ----------
        X : dask array or dataframe, or array-like, of shape (n_samples, n_features)

        Returns
        -------
        y : dask.array.Array or ndarray of shape (n_samples,) or (n_samples, n_targets)
            The blocks are those of X.

        Raises
        ------
        ValueError
            If the columns are not those of the fit.
        """
        return self._mapped(X, "predict") if is_lazy(X) else self.in_memory().predict(X)


class SGDClassifier(LazySGD, LazyClassifier, linear_model.SGDClassifier):
    """Linear classifier by stochastic gradient descent, over Dask arrays and dataframes.

    Parameters, fitted attributes and results are those of :class:`fastlsgd.SGDClassifier`; `fit`
    and `partial_fit` take Dask collections, and `predict`, `decision_function` and `score` of them
    are lazy. A first pass over y finds the classes; then the targets are fitted as by
    :class:`fastlsgd.dask.SGDRegressor`.

    Parameters
    ----------
    loss, penalty, alpha, l1_ratio, fit_intercept, max_iter, tol, shuffle, verbose, epsilon, \
random_state, learning_rate, eta0, power_t, early_stopping, validation_fraction, n_iter_no_change, \
restore_best_weights, class_weight, warm_start, average, batch_size, optimizer, clip_norm, \
keep_interrupted, backend
        As of :class:`fastlsgd.SGDClassifier`, but that `early_stopping` is refused, and
        `warm_start` has no effect.
    n_jobs : int or None, default=None
        Threads of each task; None is one.

    Examples
    --------
    >>> import dask.array as da
    >>> from sklearn.datasets import load_iris
    >>> from fastlsgd.dask import SGDClassifier
    >>> X, y = (da.from_array(part, chunks=50) for part in load_iris(return_X_y=True))
    >>> model = SGDClassifier().fit(X, y)
    >>> round(float(model.score(X, y)), 2) > 0.8
    True
    """

    _plain = linear_model.SGDClassifier

    def fit(self, X, y, sample_weight=None) -> Self:  # type: ignore[override]
        """Fit the model to the rows of Dask collections.

        Parameters
        ----------
        X, sample_weight
            As of :meth:`LeastSquaresRegressor.fit`.
        y : dask array or series of shape (n_samples,)
            Labels, of two classes or more, in blocks of the rows of X.

        Returns
        -------
        self : SGDClassifier

        Raises
        ------
        ValueError
            As of :meth:`SGDRegressor.fit`.
        """
        with all_or_nothing(self):
            self._check_parameters()
            self._check_partial_fit()
            blocks = blocks_of(X, y, sample_weight, labels=True)
            setting = setting_of(self.backend, self.n_jobs, blocks)
            found = label_counts(blocks, setting)
            if is_solved_by_moments(self, blocks.n_features):
                prepare = SignedTargets(linear_model.LeastSquaresClassifier(), found.labels)
                fit_to_moments(self, collected(blocks, setting, "auto", prepare), found.labels)
            else:
                model = self._new_model()
                model.class_weight = class_weights(self.class_weight, found)
                self._fit_blocks(blocks, setting, model, {"classes": found.labels})
        return self

    def partial_fit(self, X, y, classes=None, sample_weight=None) -> Self:
        """Do one epoch on the rows of Dask collections, in their order, or on rows in memory.

        Parameters
        ----------
        X, y, sample_weight
            As of `fit`, or in memory.
        classes : array-like of shape (n_classes,), optional
            All labels that there will be. Needed in the first call, then the same or left out.

        Returns
        -------
        self : SGDClassifier

        Raises
        ------
        ValueError
            As of `fit` and of :meth:`fastlsgd.SGDClassifier.partial_fit`.
        """
        if not is_lazy(X):
            return super().partial_fit(X, y, classes, sample_weight)
        self._check_partial_fit()
        refuse_balanced(self.class_weight)
        with all_or_nothing(self):
            self._check_parameters()
            if classes is not None or not hasattr(self, "classes_"):
                classes = classes_of_calls(self, classes)
            blocks = blocks_of(X, y, sample_weight, labels=True)
            setting = setting_of(self.backend, self.n_jobs, blocks)
            self._add_blocks(blocks, setting, self.in_memory(), {"classes": classes})
        return self
