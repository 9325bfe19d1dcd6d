"""``fastlsgd fit --standardize``: columns of like spread for the penalty, coefficients as if not.

One more pass finds the standard deviation of each column. The fit reads the columns divided by
these, in float64, so that the division does not round; then its weights are divided by them too.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np

from .._column_totals import ColumnTotals
from ..kernels.contract import working_dtype
from ..linear_model._base import cast_coef
from ..streaming import Stream, StreamError
from ..streaming.source import named
from ..streaming.stream import Meter
from ..streaming.views import Parts, view_of
from .console import ProgressLine


class Spreads(NamedTuple):
    """Standard deviations of columns; 1 for one that does not vary."""

    values: np.ndarray  # (d,)
    dtype: np.dtype  # that weights of a fit to the columns have


def spreads_of(stream: Stream, backend: str | None) -> Spreads:
    """Return the standard deviation of each column, by a pass."""
    totals, progress = ColumnTotals(), ProgressLine("spreads")
    meter = Meter(progress)
    for block in stream.blocks():
        with named(block, stream.feature_names):
            targets = np.zeros(block.X.shape[0], working_dtype(block.X))
            totals.update(block.X, targets, block.sample_weight, backend=backend)
        meter.count(block)
    progress.clear()
    if totals.sums is None:
        raise StreamError("The stream has no rows of positive weight.")
    sums = totals.sums
    is_constant = sums.place.is_constant(sums.squares)[: sums.n_features]
    spread = np.sqrt(sums.squares[: sums.n_features] / sums.place.weight)
    return Spreads(np.where(is_constant, 1.0, spread), totals.dtype)


def standardized(stream: Stream, spreads: Spreads) -> Stream:
    """Return the stream of the columns divided by their spreads."""

    def divided(piece: int, number: int, parts: Parts) -> Parts:
        X, *others = parts
        return X / spreads.values, *others

    told = hashlib.sha256(spreads.values.tobytes()).hexdigest()
    return view_of(stream, divided, standardize=told)


def take_own_units(estimator: Any, spreads: Spreads) -> None:
    """Make the weights of a fit to standardized columns those of the columns as they are."""
    estimator.coef_ = cast_coef(estimator.coef_ / spreads.values, spreads.dtype)
    for name in ("_evidence", "_memory", "_seen"):  # they are of the columns that were fitted
        estimator.__dict__.pop(name, None)
    best = getattr(estimator, "best_estimator_", None)
    if best is not None:
        take_own_units(best, spreads)
