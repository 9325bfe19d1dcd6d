"""`ColumnTotals`: what `Moments` has, less the products: d numbers in place of d^2."""

from __future__ import annotations

import numpy as np

from . import _validation as check
from .kernels import resolve
from .moments import Moments
from .solvers.column_sums import (
    DiagonalSums,
    GradientRequest,
    GradientSums,
    gradient_sums,
    read_columns,
)
from .solvers.training import TrainingData


class ColumnTotals(Moments):
    """Means and squares of columns and targets, which can be merged as `Moments` can."""

    sums: DiagonalSums | None  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.factor = "diagonal"

    def _read(self, data: TrainingData, origin: np.ndarray | None):
        return read_columns(data, origin)

    def _empty(self) -> ColumnTotals:
        return ColumnTotals()


def gradient_of_rows(X, y, sample_weight, request: GradientRequest, backend) -> GradientSums | None:
    """Return the sums over rows for the gradient that a descent has asked for.

    Raises
    ------
    ValueError
        If the rows are not allowed, or the sums are not finite.
    """
    if X.shape[0] == 0:
        return None
    X = check.as_matrix(X)
    targets, s = check.as_targets_and_weights(X, y, sample_weight, some_weight=False)
    kernels, n_threads = resolve(backend, X)
    found = gradient_sums(TrainingData(kernels, X, targets, s, n_threads), request)
    if found is not None and not np.isfinite(found.loss).all():
        check.explain_non_finite(X=X, y=targets)
        raise ValueError("The squares of residuals are out of range: rescale X or y.")
    return found
