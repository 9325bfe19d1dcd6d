"""L1 penalties and signs on few numbers, in one call of a backend that has `small_lasso`.

For 20 rows of 3 columns, the general path (`proximal_newton.py`) makes some 200 calls of NumPy and
LAPACK, which took 540 microseconds of a lasso's 640; scikit-learn's takes 370. Here the backend
finds the weights and their gradient, and they are certified as elsewhere. Only solutions that meet
the tolerance, with columns so well-conditioned that their sums suffice, are returned; all others
are left to the general path. Fewer rows than columns are solved by working sets there, as
`working_sets.py` does with larger ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..kernels.contract import SmallLassos
from ..kernels.optional import has_small_kernels
from .problem import Penalty
from .proximal_newton import ROUND_CONDITION, judged, objective_of, optimality_of
from .small import ORDINARY, is_small_problem
from .solution import Solution
from .system import EPS_OF
from .training import TrainingData
from .weights import WEIGHT_EXPONENT
from .working_sets import SET_SUMS_CONDITION

# X is copied in float64, 2 MB at most; the weights that are not zero are as many as rows.
WIDE_NUMBERS, WIDE_ROWS = 2**18, 512


@dataclass(frozen=True)
class _FoundSums:
    """What certificates ask of a `System` and of a path, from the results of the call."""

    fits: SmallLassos
    eps: float

    def __post_init__(self) -> None:
        fits = self.fits
        set_once = object.__setattr__
        set_once(self, "system", self)
        set_once(self, "c", fits.slope)
        set_once(self, "scale", fits.size)  # no column is left out
        for name in ("size", "centre", "y_centre", "variance", "weight"):
            set_once(self, name, getattr(fits, name))

    def intercept_for(self, coef: np.ndarray) -> np.ndarray:
        return self.fits.y_centre - coef @ self.fits.centre


def solve_small_lasso(
    data: TrainingData, penalties: list[Penalty], *, fit_intercept: bool, tol: float
) -> list[Solution] | None:
    """Return the solutions of `fit_path`, or None to leave the problem to that."""
    X, kernels = data.X, data.kernels
    if not has_small_kernels(kernels):
        return None
    is_wide = _is_wide(data, penalties)
    if not is_wide and not is_small_problem(data):
        return None
    assert isinstance(X, np.ndarray)
    fits = kernels.small_lasso(
        X,
        data.y,
        data.sample_weight,
        fit_intercept,
        ORDINARY[X.dtype],
        np.array([penalty.l1 for penalty in penalties]),
        np.array([penalty.l2 for penalty in penalties]),
        penalties[0].positive,
        SET_SUMS_CONDITION if is_wide else ROUND_CONDITION,
    )
    if fits is None:
        return None
    sums, points = _FoundSums(fits, EPS_OF[X.dtype]), []
    for k, penalty in enumerate(penalties):
        point = _certified(sums, k, penalty, tol)
        if point is None:
            return None
        point.n_iter = int(fits.n_solves[k]) if len(penalties) > 1 else 1
        points.append(point)
    return points


def _is_wide(data: TrainingData, penalties: list[Penalty]) -> bool:
    """Return whether few numbers in fewer rows than columns have an L1 penalty."""
    X, s = data.X, data.sample_weight
    if type(X) is not np.ndarray or not X.shape[0] < X.shape[1] or X.dtype not in EPS_OF:
        return False
    if X.size > WIDE_NUMBERS or X.shape[0] > WIDE_ROWS or type(data.y) is not np.ndarray:
        return False
    if s is not None and not 2.0**-WEIGHT_EXPONENT < s.max() < 2.0**WEIGHT_EXPONENT:
        return False
    return all(penalty.l1 > 0.0 for penalty in penalties)


def _certified(sums: _FoundSums, k: int, penalty: Penalty, tol: float) -> Solution | None:
    """Return the k-th solution, if it meets the tolerance."""
    fits = sums.fits
    coef, gradient, squares = fits.coef[k], fits.gradient[k], fits.squares[k]
    point = judged(sums, penalty, coef, gradient, squares, fits.slope)
    point.intercept, point.condition = fits.intercept[k], float(fits.condition[k])
    if not optimality_of(sums, penalty, point, gradient, squares, tol).is_tight:
        return None
    point.losses = [objective_of(sums.fits.weight, penalty, coef, squares)]
    return point
