"""learning_rate="auto": the choice of a descent, by the cost of an epoch."""

from __future__ import annotations

import numpy as np

from ..kernels.contract import CSR, Matrix
from . import metric
from .accelerated_epochs import AcceleratedDescent
from .conjugate_epochs import ConjugateDescent
from .newton_epochs import NewtonDescent, ProximalNewtonDescent
from .rows import stored_numbers
from .scaled_problem import ScaledProblem
from .stochastic import Descent
from .training import Objective, TrainingData

# A number of a row that is moved to other coordinates costs this share of a stored one, or more.
MOVED_SHARE = 1.0 / 8.0


def automatic_descent(
    data: TrainingData,
    objective: Objective,
    rows: np.ndarray | None,
    coef: np.ndarray,
    intercept: np.ndarray,
) -> Descent:
    """Return a descent for these data, which takes one step per epoch on all rows.

    For up to `FULL_METRIC_FEATURES` features the steps are Newton's, from the moments of the rows.
    For more, they cost the numbers that X stores.

    Parameters
    ----------
    data : TrainingData
    objective : Objective
    rows : ndarray of int64, optional
        Numbers of the rows that count. Default: all.
    coef, intercept : ndarrays of shape (t, d) and (t,)
        Where to start, left unchanged. Newton steps start at the minimum that the moments show.
    """
    if data.X.shape[1] <= metric.FULL_METRIC_FEATURES and not _is_mostly_zeros(data.X):
        newton = NewtonDescent if objective.l1 == 0.0 else ProximalNewtonDescent
        return newton(data, objective, rows, (coef, intercept))
    problem = ScaledProblem(data, objective, rows)
    kind = ConjugateDescent if objective.l1 == 0.0 else AcceleratedDescent
    return kind(problem, coef)


def _is_mostly_zeros(X: Matrix) -> bool:
    n, d = X.shape
    return isinstance(X, CSR) and stored_numbers(X) <= MOVED_SHARE * n * d
