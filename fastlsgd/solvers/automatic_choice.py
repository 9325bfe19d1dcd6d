"""learning_rate="auto": which descent, by what an epoch of it would cost."""

from __future__ import annotations

import numpy as np

from ..kernels.contract import Kernels, Matrix
from . import metric
from .accelerated_epochs import AcceleratedDescent
from .automatic import AutomaticDescent
from .conjugate_epochs import ConjugateDescent
from .recursive import Objective
from .scaled_problem import Rows, ScaledProblem


def automatic_descent(
    kernels: Kernels,
    X: Matrix,
    y: np.ndarray,
    coef: np.ndarray,
    intercept: np.ndarray,
    *,
    sample_weight: np.ndarray | None,
    rows: np.ndarray | None,
    batch_size: int,
    alpha: float,
    l1_ratio: float,
    fit_intercept: bool,
    n_threads: int,
) -> AutomaticDescent | ConjugateDescent | AcceleratedDescent:
    """A descent for these data.

    For up to `FULL_METRIC_FEATURES` features stochastic steps in coordinates in which the problem
    is round, to which rows are moved; for more, one step an epoch on all rows, which stay as they
    are.

    Parameters
    ----------
    rows : ndarray of int64, optional
        Numbers of those that will be visited. Default: all.
    kernels, X, y, coef, intercept, sample_weight, batch_size, alpha, l1_ratio, fit_intercept, \
n_threads
        As `AutomaticDescent` has them.
    """
    if X.shape[1] <= metric.FULL_METRIC_FEATURES:
        return AutomaticDescent(
            kernels,
            X,
            y,
            coef,
            intercept,
            sample_weight=sample_weight,
            batch_size=batch_size,
            alpha=alpha,
            l1_ratio=l1_ratio,
            fit_intercept=fit_intercept,
            n_threads=n_threads,
        )
    objective = Objective(alpha * l1_ratio, alpha * (1.0 - l1_ratio), fit_intercept)
    problem = ScaledProblem(Rows(kernels, X, y, sample_weight, n_threads), objective, rows)
    kind = ConjugateDescent if objective.l1 == 0.0 else AcceleratedDescent
    return kind(problem, coef)
