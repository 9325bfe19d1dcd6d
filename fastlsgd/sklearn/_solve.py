"""fastlsgd's estimators, made to refuse where scikit-learn should fit instead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..kernels import resolve_backend
from ..linear_model import LeastSquaresCV, LeastSquaresRegressor
from ..linear_model._base import overflow_explained
from ..solvers.leave_one_out import leave_one_out
from ..solvers.refits import Task
from ..solvers.solution import Solution

NOT_CONVERGED = "rounding or max_iter ended the fit before it had converged"


class ConvergedRegressor(LeastSquaresRegressor):
    """`LeastSquaresRegressor` that keeps the solution, and refuses one that has not converged."""

    def _warn_where_not_converged(self, solutions: list[Solution]) -> None:
        if not all(found.converged for found in solutions):
            raise ValueError(NOT_CONVERGED)
        self._found = solutions[-1]

    def singular_values(self) -> np.ndarray | None:
        """Return those of the centred and weighted X; None where the solver did not need R."""
        factor = self._found.factor or self._found.singular
        if factor is None:
            return None
        if not factor.scale.all():
            return np.zeros(1)  # a column that is left out, since it is constant
        return np.linalg.svd(factor.upper / factor.scale, compute_uv=False)


class ConvergedCV(LeastSquaresCV):
    """`LeastSquaresCV` that refuses a last fit that has not converged."""

    def _warn_where_not_converged(self, solutions: list[Solution]) -> None:
        if not all(found.converged for found in solutions):
            raise ValueError(NOT_CONVERGED)


def ridge_leave_one_out(X, y, sample_weight, penalties: np.ndarray, fit_intercept: bool):
    """Find the penalty on the sum over the rows with the least leave-one-out error, and fit.

    Returns
    -------
    model : ConvergedRegressor
        Fitted to all rows with the best penalty.
    best : int
        The number of that penalty.
    errors : ndarray of shape (n_penalties,)
        Mean squared errors of the rows left out, each fitted with the same penalty on the sum.
    """
    model = ConvergedRegressor(fit_intercept=fit_intercept)
    X, targets, s, one_target = model._validate(X, y, sample_weight, reset=True)
    kernels = resolve_backend(None, X)
    n_threads = model._n_threads(X, targets.shape[1])
    x_mean = model._refuse_non_finite(kernels, X)
    problem = replace(model._problem(X, targets, s, x_mean), row_grams={})
    normalised, _ = problem.normalised()
    task = Task(kernels, normalised, model.tol, model.max_iter, n_threads, penalises_sum=True)
    falling = np.argsort(-penalties, kind="stable")
    alphas = penalties[falling] / problem.weight
    errors = np.empty(len(alphas))
    with overflow_explained(X, targets):
        errors[falling] = leave_one_out(task, alphas.tolist())
    if not np.isfinite(errors).all():
        raise ValueError("the errors of rows left out are not finite")
    best = int(np.argmin(errors))
    alpha = float(penalties[best]) / problem.weight
    return model._solve(kernels, problem, [alpha], None, one_target), best, errors
