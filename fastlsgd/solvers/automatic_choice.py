"""learning_rate="auto": the choice of a descent, by the cost of an epoch."""

from __future__ import annotations

import numpy as np

from ..kernels.contract import CSR, Matrix
from . import metric
from .accelerated_epochs import AcceleratedDescent
from .automatic import AutomaticDescent
from .conjugate_epochs import ConjugateDescent
from .rows import stored_numbers
from .scaled_problem import ScaledProblem
from .training import Objective, TrainingData

# A number of a row that is moved to other coordinates costs this share of a stored one, or more.
MOVED_SHARE = 1.0 / 8.0


def automatic_descent(
    data: TrainingData,
    objective: Objective,
    rows: np.ndarray | None,
    batch_size: int,
    coef: np.ndarray,
    intercept: np.ndarray,
) -> AutomaticDescent | ConjugateDescent | AcceleratedDescent:
    """Return a descent for these data.

    For up to `FULL_METRIC_FEATURES` features it transforms the rows to coordinates in which the
    problem is well conditioned, and takes stochastic steps there. For more, it leaves the rows as
    they are, and takes one step per epoch on all of them.

    Parameters
    ----------
    rows : ndarray of int64, optional
        Numbers of the rows that will be visited. Default: all.
    data, objective, batch_size, coef, intercept
        As `AutomaticDescent` has them.
    """
    if data.X.shape[1] <= metric.FULL_METRIC_FEATURES and not _is_mostly_zeros(data.X):
        return AutomaticDescent(data, objective, batch_size, coef, intercept, rows)
    problem = ScaledProblem(data, objective, rows)
    kind = ConjugateDescent if objective.l1 == 0.0 else AcceleratedDescent
    return kind(problem, coef)


def _is_mostly_zeros(X: Matrix) -> bool:
    n, d = X.shape
    return isinstance(X, CSR) and stored_numbers(X) <= MOVED_SHARE * n * d
