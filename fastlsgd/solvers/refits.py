"""Cross-validation by refits: fits of some of the rows, and their errors on others.

The formulas of `cross_validation.py` and `leave_one_out.py` give the same errors at less cost, and
are replaced by these fits where rounding would spoil them. Nothing of X's size is copied: rows that
are left out of a large X have weight zero, and errors are added up a chunk of rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ..kernels.contract import Kernels, Matrix
from ..kernels.device import lives_on_device, placed_beside
from .factors import EPS, TINY, NotTrustworthy
from .problem import Problem
from .proximal_newton import fit_path
from .regression import fit_regression, make_system, working_sets_pay
from .rows import as_dense, row_slice, stored_numbers, take_rows

PIECE_NUMBERS = 2**20  # numbers that are copied or made dense at a time: 8 MB
COPIED_NUMBERS = 2**21  # numbers in rows that may be copied for a fit of their own: 16 MB
# The relative error that rounding may cause in a mean squared error.
ACCURACY = 1e-9
# All weights are zero with a penalty beyond this.
LARGEST_PENALTY = 1e280
MOST_TERMS = 12  # the largest number of terms in a power series over the rows' weights


@dataclass(frozen=True)
class Task:
    """What all fits of a cross-validation have in common."""

    kernels: Kernels
    problem: Problem
    tol: float
    max_iter: int
    n_threads: int
    # Whether the penalty on the sum over the rows, and not that on their mean, stays as it is where
    # rows are left out, as in scikit-learn's RidgeCV.
    penalises_sum: bool = False

    @cached_property
    def weights(self) -> np.ndarray:
        """The weights of the rows, (n,), float64, on the host."""
        s = self.problem.sample_weight
        return np.ones(len(self.problem.y)) if s is None else np.asarray(s).astype(np.float64)

    @cached_property
    def total_weight(self) -> float:
        return float(self.weights.sum())


def penalties_without(task: Task, alphas, weight) -> np.ndarray:
    """Return the penalties on the sum over the rows without one of this weight."""
    missing = 0.0 * weight if task.penalises_sum else weight
    return np.minimum(alphas * (task.total_weight - missing), LARGEST_PENALTY)


class PenaltySeries(NamedTuple):
    """Terms of a power series in the rows' penalties, about that of the middle weight.

    The penalty without row i is (1 + shift_i) times the one without a row of the middle weight.
    """

    middle: float
    shift: np.ndarray  # (n,)
    n_terms: int  # with which the remainder is rounding

    @property
    def is_short(self) -> bool:
        """Whether the series costs less than an evaluation at the penalty of each row."""
        return self.n_terms <= MOST_TERMS


def penalty_series(task: Task, weights: np.ndarray) -> PenaltySeries:
    """Return the power series for rows of these weights, which are left out one by one."""
    if task.penalises_sum:
        weights = np.zeros_like(weights)  # the penalty is the same for all rows
    middle = 0.5 * float(weights.max() + weights.min())
    shift = (middle - weights) / max(task.total_weight - middle, TINY)
    reach = float(np.abs(shift).max())
    n_terms = 1 if reach == 0.0 else 1 + int(np.log(0.1 * EPS) / np.log(min(reach, 0.99)))
    return PenaltySeries(middle, shift, n_terms)


def is_division(n: int, train: np.ndarray, test: np.ndarray) -> bool:
    """Return whether each of n rows is in exactly one of the two, and once."""
    seen = np.zeros(n, dtype=bool)
    seen[train] = seen[test] = True
    return len(train) + len(test) == n and bool(seen.all())


def restricted(problem: Problem, counts: np.ndarray) -> Problem:
    """Return the problem with each row as often as `counts` (n,) says; rows of weight 0 are out."""
    s, dtype = problem.sample_weight, problem.y.dtype
    own = counts.astype(np.float64) if s is None else counts * np.asarray(s)
    rows = np.flatnonzero(own)
    plain = bool((own[rows] == 1.0).all())
    first, stop = int(rows[0]), int(rows[-1]) + 1
    if stop - first == len(rows):
        X, y = row_slice(problem.X, first, stop), problem.y[first:stop]
    elif lives_on_device(problem.X) or _numbers(problem.X, rows) <= COPIED_NUMBERS:
        X, y = take_rows(problem.X, rows), problem.y[rows]
    else:
        return replace(problem, sample_weight=own.astype(dtype), row_grams=None, x_mean=None)
    s = None if plain else placed_beside(own[rows].astype(dtype), problem.X)
    return replace(problem, X=X, y=y, sample_weight=s, row_grams=None, x_mean=None)


def _numbers(X: Matrix, rows: np.ndarray) -> float:
    return len(rows) * (stored_numbers(X) / X.shape[0])


def pieces(problem: Problem, rows: np.ndarray) -> Iterator[tuple[Matrix, np.ndarray, slice]]:
    """Yield X and y of these rows, a few at a time, and which of `rows` they are.

    They are views where the rows are consecutive.
    """
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows) and (np.diff(rows) == 1).all():
        first, stop = int(rows[0]), int(rows[-1]) + 1
        yield row_slice(problem.X, first, stop), problem.y[first:stop], slice(0, len(rows))
        return
    step = max(1, PIECE_NUMBERS // problem.X.shape[1])
    for start in range(0, len(rows), step):
        where = slice(start, min(start + step, len(rows)))
        part = rows[where]
        yield take_rows(problem.X, part), problem.y[part], where


def squared_errors(
    task: Task, rows: np.ndarray, coefs: np.ndarray, intercepts: np.ndarray
) -> np.ndarray:
    """Return the sums of s r^2 over these rows and all targets, (k,), from the residuals.

    `coefs` is (k, t, d), `intercepts` (k, t).
    """
    k, t, d = coefs.shape
    flat, total = coefs.reshape(k * t, d).T, np.zeros(k)
    step = max(1, PIECE_NUMBERS // (d + k * t))
    for X, y, where in pieces(task.problem, rows):
        weights = task.weights[rows[where]]
        for start in range(0, len(weights), step):
            stop = min(start + step, len(weights))
            r = (as_dense(row_slice(X, start, stop)) @ flat).reshape(stop - start, k, t)
            r += intercepts
            r -= np.asarray(y[start:stop]).astype(np.float64)[:, None, :]
            total += np.einsum("ikt,ikt,i->k", r, r, weights[start:stop])
    return total


def refit_errors(
    task: Task, counts: np.ndarray, test: np.ndarray, alphas: np.ndarray
) -> np.ndarray:
    """Return the sums of squared errors on the rows `test`, of fits to rows by their `counts`."""
    problem = restricted(task.problem, counts)
    if task.penalises_sum:
        alphas = alphas * (task.total_weight / problem.weight)
    fits = list(_fits(task, problem, alphas.tolist()))
    coefs = np.array([coef for coef, _ in fits])
    return squared_errors(task, test, coefs, np.array([intercept for _, intercept in fits]))


def _fits(task: Task, problem: Problem, alphas: list[float]):
    """Yield weights and intercept for each alpha, as LeastSquaresRegressor would find them."""
    is_own = problem.is_smooth(alphas) or problem.constraints is not None
    if is_own or working_sets_pay(problem, alphas):
        for found in _regression(task, problem, alphas, None):
            yield found.coef, found.intercept
        return
    system = make_system(task.kernels, problem, task.n_threads)  # one Gram matrix for all
    start = None
    for alpha in alphas:
        if problem.is_smooth([alpha]):
            (found,) = _regression(task, problem, [alpha], start)
        else:
            try:
                penalties = [problem.penalty(alpha)]
                (found,) = fit_path(system, penalties, start, tol=task.tol, max_iter=task.max_iter)
            except NotTrustworthy:
                (found,) = _regression(task, problem, [alpha], start)
        start = found.coef
        yield found.coef, found.intercept


def _regression(task: Task, problem: Problem, alphas: list[float], start):
    return fit_regression(
        task.kernels,
        problem,
        alphas,
        start,
        solver="auto",
        tol=task.tol,
        max_iter=task.max_iter,
        n_threads=task.n_threads,
    )
