"""learning_rate="auto": which descent, by what an epoch of it would cost."""

from __future__ import annotations

import numpy as np

from . import metric
from .accelerated_epochs import AcceleratedDescent
from .automatic import AutomaticDescent
from .conjugate_epochs import ConjugateDescent
from .scaled_problem import ScaledProblem
from .training import Objective, TrainingData


def automatic_descent(
    data: TrainingData,
    objective: Objective,
    rows: np.ndarray | None,
    batch_size: int,
    coef: np.ndarray,
    intercept: np.ndarray,
) -> AutomaticDescent | ConjugateDescent | AcceleratedDescent:
    """Return a descent for these data.

    For up to `FULL_METRIC_FEATURES` features it takes stochastic steps in coordinates in which the
    problem is round, to which rows are moved; for more, one step per epoch on all rows, which stay
    as they are.

    Parameters
    ----------
    rows : ndarray of int64, optional
        Numbers of the rows that will be visited. Default: all.
    data, objective, batch_size, coef, intercept
        As `AutomaticDescent` has them.
    """
    if data.X.shape[1] <= metric.FULL_METRIC_FEATURES:
        return AutomaticDescent(data, objective, batch_size, coef, intercept)
    problem = ScaledProblem(data, objective, rows)
    kind = ConjugateDescent if objective.l1 == 0.0 else AcceleratedDescent
    return kind(problem, coef)
