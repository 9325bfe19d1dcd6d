"""Epochs over blocks of rows, as `partial_fit` makes them, for a model that nobody else sees.

Each call of `partial_fit` looks up parameters, kernels and settings, makes the weights attributes,
and can be undone. Of 610 microseconds for 10,000 x 100 float32, the kernel takes 240 and the order
of the rows 75. In a pass over a stream, a block goes on from what the last one has found: 480.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ..kernels import resolve_backend
from ..kernels.blocks import takes
from ..kernels.contract import Kernels, Matrix, working_dtype
from ..kernels.device import lives_on_device
from ..kernels.optional import has_order_kernels
from ..solvers.divergence import weighted_excess
from ..solvers.plain_descent import PlainDescent
from ..solvers.rows import counted_rows
from ..solvers.seen_rows import with_seen
from ..solvers.training import TrainingData
from ._base import backend_name, refuse_underflow
from ._stochastic import Call, TrainingRows


class BlockEpochs:
    """Does to a model what calls of `partial_fit` would do to it, in all bits.

    `partial_fit` itself gets the blocks that have nothing to go on from: the first one, and all
    where rates come from the data, class weights make a descent for each target, or epochs are
    printed.

    Parameters
    ----------
    model : SGDRegressor or SGDClassifier
        It lags behind until `publish`, and is of no use after an error.
    more : dict
        Further arguments for `partial_fit`.
    """

    def __init__(self, model, more: dict[str, Any]) -> None:
        self.model, self.more = model, more
        self.kept: _Kept | None = None
        has_class_weight = getattr(model, "class_weight", None) is not None
        self.may_keep = not (model._automatic or model.verbose or has_class_weight)

    def visit(self, X, y, sample_weight) -> float:
        """Make an epoch over the rows; return its mean loss, which is 0.0 if no row has weight."""
        model = self.model
        if self.kept is not None:
            loss = self.kept.visit(X, y, sample_weight)
            if loss is not None:
                return loss
            self.kept.publish()
        model.partial_fit(X, y, sample_weight=sample_weight, **self.more)
        losses, model.loss_curve_ = model.loss_curve_, []  # else each call would copy them
        self.kept = _Kept(model) if self.may_keep else None
        return losses[-1] if losses else 0.0

    def publish(self) -> None:
        """Give the model the attributes that calls of `partial_fit` would have left."""
        if self.kept is not None:
            self.kept.publish()


class _Kept:
    """What an epoch leaves to the next one."""

    def __init__(self, model) -> None:
        self.model, self.call = model, Call.partial_fit(model)
        self.coef, self.intercept = model._coefficients(model.n_features_in_)
        self.dtype, self.one_target = model.coef_.dtype, model.coef_.ndim == 1
        self.memory, self.seen = model._memory, model._seen
        self.exponents, self.updates_done = model._y_exponents, int(model.t_) - 1
        self.batch_size = int(model.batch_size)
        self.objective, self.steps = model._objective(), model._steps(self.batch_size)
        self.kernels: Kernels | None = None
        self.kind: tuple | None = None  # of the last X

    def visit(self, X, y, sample_weight) -> float | None:
        """Make an epoch over the rows; return its loss, or None where `partial_fit` has to."""
        model = self.model
        X, y, s, one_target = model._validate(
            X, y, sample_weight, reset=False, ravel=True, some_weight=False
        )
        if lives_on_device(X) or not takes(X) or y.shape[1] != len(self.coef):
            return None
        kind = type(X), working_dtype(X), X.shape
        if kind != self.kind:
            self.kind, self.kernels = kind, resolve_backend(model.backend, X)
            self.n_threads = model._n_threads(X, y.shape[1])
        if not has_order_kernels(self.kernels):  # others call BLAS, which needs `serial_blas`
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            return self._epoch(X, y, s, one_target)

    def _epoch(self, X: Matrix, y: np.ndarray, s: np.ndarray | None, one_target: bool) -> float:
        kernels: Any = self.kernels
        visited = None if s is None or np.any(s) else counted_rows(s, None)
        data = TrainingData(kernels, X, y, s, self.n_threads)
        steps = self.steps
        if X.shape[0] < self.batch_size:
            steps = replace(steps, batch_size=X.shape[0])
        descent = PlainDescent(
            data,
            self.objective,
            steps,
            self.coef,
            self.intercept,
            updates_done=self.updates_done,
            memory=self.memory,
        )
        rows = TrainingRows(X, y, s, visited, None, one_target, self.exponents)
        excess = None if s is None else partial(weighted_excess, data, visited)
        result = self.model._descended(kernels, descent, rows, self.call, excess)
        refuse_underflow(result.coef, X, y, s)
        self.coef, self.intercept, self.memory = result.coef, result.intercept, descent.memory
        self.dtype, self.one_target = working_dtype(X), one_target
        self.updates_done += -(-rows.n_visits // self.batch_size)
        self.seen = with_seen(kernels, self.seen, X, s, visited)
        return result.loss_curve[-1] if rows.n_visits else 0.0

    def publish(self) -> None:
        model = self.model
        model._set_weights(self.coef, self.intercept, self.dtype, self.one_target)
        model.t_ = 1.0 + self.updates_done
        model._memory, model._seen = self.memory, self.seen
        if self.kernels is not None:
            model.backend_ = backend_name(self.kernels)
