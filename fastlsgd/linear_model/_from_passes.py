"""Least squares fitted by passes over rows that are elsewhere: in a stream, or on a cluster."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._column_totals import ColumnTotals
from ..kernels import resolve_backend
from ..solvers.factors import NotTrustworthy
from ..solvers.pass_descent import PassTask, PathDescent
from ._base import backend_name

# Products of so few columns are always taken: 2 MB, and as much for each copy.
FEW_FEATURES = 512
# Matrices of d x d that are in memory at a time where moments are collected.
MATRICES = 4
SOLVERS_OF_PASSES, SOLVERS_OF_MOMENTS = ("cg", "nesterov"), ("gram", "qr", "sketch")


def needs_passes(solver: str, d: int, memory: int) -> bool:
    """Return whether a descent by passes fits d columns, rather than one pass for moments."""
    if solver in SOLVERS_OF_PASSES:
        return True
    if solver in SOLVERS_OF_MOMENTS or d <= FEW_FEATURES:
        return False
    return 8 * MATRICES * d * d > memory


def path_of(estimator, totals: ColumnTotals, alphas: list[float]) -> PathDescent:
    """Return the descent that fits an estimator to rows with these totals.

    Raises
    ------
    ValueError
        If squares overflow.
    """
    task = PassTask(
        tuple(alphas),
        float(estimator.l1_ratio),
        bool(estimator.positive),
        bool(estimator.fit_intercept),
        float(estimator.tol),
        int(estimator.max_iter),
        float(np.finfo(totals.dtype).eps),
        accelerated=estimator.solver == "nesterov",
    )
    sums: Any = totals.required_sums()
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            return PathDescent(sums.column_moments(), task)
    except NotTrustworthy as error:
        raise ValueError(f"The sums are out of range ({error}): rescale X or y.") from error


def adopt_path(estimator, totals: ColumnTotals, path: PathDescent) -> None:
    """Set the fitted attributes of a regressor, and warn where a fit has not converged."""
    estimator._take_columns(totals)
    estimator.__dict__.pop("_moments", None)
    estimator._set_weights(path.solutions, totals.dtype, None, totals.has_one_target)
    estimator._set_certificates(path.solutions)
    estimator.backend_ = backend_name(resolve_backend(estimator.backend))
    estimator._evidence, estimator._evidence_advice = None, "Fit with solver='qr'"
    estimator._warn_where_not_converged(path.solutions)
