"""L1 penalties and signs on few numbers, in one call of a backend that has `small_lasso`.

For 20 rows of 3 columns, the general path (`proximal_newton.py`) makes some 200 calls of NumPy and
LAPACK, which took 540 microseconds of a lasso's 640; scikit-learn's takes 370. Here the backend
finds the weights and their gradient, and they are certified as elsewhere. Only solutions that meet
the tolerance, with columns so well-conditioned that their sums suffice, and of rows that sums do
not hide, are returned; all others are left to the general path. Where sums of all columns would be
dear, among others of fewer rows than columns, the backend finds the weights by working sets, as
`working_sets.py` does with larger problems.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..kernels.blocks import takes
from ..kernels.contract import CSR, SmallLassos
from ..kernels.optional import has_small_kernels
from .light_rows import FEW_HIDDEN, HIDDEN, LIGHT_ROWS
from .problem import Penalty
from .proximal_newton import ROUND_CONDITION, judged, objective_of, optimality_of
from .rows import as_dense, random_rows
from .small import ORDINARY, SMALL_TARGETS
from .solution import Solution
from .system import EPS_OF
from .training import TrainingData
from .weights import WEIGHT_EXPONENT
from .working_sets import LEAST_COLUMNS, SET_SUMS_CONDITION

# X is copied in float64: 8 MB at most, and 2 MB where working sets of fewer rows than columns may
# have as many weights as rows.
NUMBERS, WIDE_NUMBERS, WIDE_ROWS = 2**20, 2**18, 512
# Sums of all columns cost n d^2. They are quicker for so few columns, and for so many rows of some
# more: 300 x 90 numbers take 0.4 to 1 ms by working sets and 0.5 to 5 by sums, 4,000 x 130 take 3
# to 11 and 3 to 4. Through NumPy they take 1 to 6 and 4 to 5, by scikit-learn 0.5 to 2 and 3 to 10.
SUMS_COLUMNS, MORE_SUMS_COLUMNS, ROWS_PER_COLUMN = 64, 192, 12
# So few numbers of sparse rows are made dense in less time than a pass over them takes in NumPy.
MADE_DENSE = 2**16
# Working sets of each target have products of their own, sums are the same for all.
SETS_TARGETS = 4


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
    if not has_small_kernels(data.kernels):
        return None
    X = data.X
    if isinstance(X, CSR) and X.shape[0] * X.shape[1] <= MADE_DENSE and takes(X):
        data = data._replace(X=as_dense(X).astype(X.dtype, copy=False))
    if not _is_ordinary(data):
        return None
    if _are_sums_cheap(data, len(penalties)):
        found = _solved(data, penalties, fit_intercept, tol, ROUND_CONDITION, as_sums=True)
        if found is not None:
            return found
    if _do_sets_pay(data, penalties):
        return _solved(data, penalties, fit_intercept, tol, SET_SUMS_CONDITION, as_sums=False)
    return None


def _is_ordinary(data: TrainingData) -> bool:
    """Return whether these are few numbers of dense rows, with weights of ordinary size."""
    X, y, s = data.X, data.y, data.sample_weight
    if type(X) is not np.ndarray or type(y) is not np.ndarray or X.dtype not in EPS_OF:
        return False
    if X.size > NUMBERS or y.shape[1] > SMALL_TARGETS:
        return False
    return s is None or bool(2.0**-WEIGHT_EXPONENT < s.max() < 2.0**WEIGHT_EXPONENT)


def _are_sums_cheap(data: TrainingData, n_penalties: int) -> bool:
    n, d = data.X.shape
    is_tall = d <= MORE_SUMS_COLUMNS and n_penalties * n >= ROWS_PER_COLUMN * d
    return d <= n and (d <= SUMS_COLUMNS or is_tall)


def _do_sets_pay(data: TrainingData, penalties: list[Penalty]) -> bool:
    """Return whether working sets, which need an L1 penalty, are quicker than the general path."""
    n, d = data.X.shape
    if any(penalty.l1 == 0.0 for penalty in penalties):
        return False
    if n < d:
        return n * d <= WIDE_NUMBERS and n <= WIDE_ROWS
    return d >= LEAST_COLUMNS and len(penalties) == 1 and data.y.shape[1] <= SETS_TARGETS


def _solved(
    data: TrainingData,
    penalties: list[Penalty],
    fit_intercept: bool,
    tol: float,
    most_condition: float,
    *,
    as_sums: bool,
) -> list[Solution] | None:
    X, kernels = data.X, data.kernels
    assert isinstance(X, np.ndarray)
    assert has_small_kernels(kernels)
    fits = kernels.small_lasso(
        X,
        data.y,
        data.sample_weight,
        fit_intercept,
        ORDINARY[X.dtype],
        np.array([penalty.l1 for penalty in penalties]),
        np.array([penalty.l2 for penalty in penalties]),
        penalties[0].positive,
        most_condition,
        as_sums,
        random_rows(len(data.y), LIGHT_ROWS, data.sample_weight),
        (HIDDEN, FEW_HIDDEN),
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
