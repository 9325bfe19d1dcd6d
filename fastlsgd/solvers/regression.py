"""Least squares with any penalty that the estimators offer: which solver minimises it.

    J = 1/(2 S) sum_i s_i (x_i . w + b - y_i)^2 + alpha (l1_ratio |w|_1 + (1 - l1_ratio)/2 |w|_2^2)

Without L1 and sign constraints that is `least_squares.py`; with them, `proximal_newton.py` where
the Gram matrix fits into memory, else `full_batch.py`. Bounds, linear equalities, and penalties
that differ by feature or by target are for `constrained.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..kernels.contract import CSR, Kernels, Matrix
from ..kernels.device import lives_on_device
from .constrained import fit_constrained
from .factors import NotTrustworthy
from .full_batch import FullBatchResult, fit_full_batch
from .graded_sets import with_light_rows
from .least_squares import (
    DIRECT_SOLVERS,
    Request,
    is_ruled_by_few_rows,
    solve_least_squares,
    weights_undone,
)
from .problem import Problem
from .proximal_newton import GRAM_FEATURES, fit_path, judged, refuse_target_range
from .rows import stored_numbers
from .small_lasso import solve_small_lasso
from .solution import Solution
from .system import System
from .training import TrainingData
from .working_sets import LEAST_COLUMNS, fit_working_sets

CONSTRAINED_SOLVERS = ("auto", "gram", "qr")
SOLVERS = (*DIRECT_SOLVERS, "nesterov")
NONSMOOTH_SOLVERS = ("auto", "gram", "nesterov")

# If the Gram matrix of a CSR X takes more multiply-adds per stored number, descent is quicker.
SPARSE_GRAM_COST = 3e4
# From so many columns on, a few of them cost less than the Gram matrix of all.
TALL_COLUMNS = 192


def fit_regression(
    kernels: Kernels,
    problem: Problem,
    alphas: Sequence[Any],
    coef: np.ndarray | None,
    *,
    solver: str,
    tol: float,
    max_iter: int,
    n_threads: int,
) -> list[Solution]:
    """Return a solution for each alpha, each started from the one before, the first from `coef`.

    The `losses` of a solution are means over rows, as J is.

    Raises
    ------
    numpy.linalg.LinAlgError
        If sums overflow, or X or y hold NaN or infinity.
    ValueError
        If `problem.look` finds NaN or infinity in X.
    """
    if problem.look is not None and problem.is_smooth(alphas):
        problem = problem.looked_at()
    problem, exponent = problem.normalised()
    problem, lightened_by = problem.lightened(alphas)
    exponent += lightened_by
    start = None if coef is None else coef.astype(np.float64)
    request = Request(
        tol=tol,
        max_iter=max_iter,
        start=start,
        row_grams=problem.row_grams,
        x_mean=problem.x_mean,
    )
    if problem.constraints is not None:
        solutions = _constrained(kernels, problem.looked_at(), alphas, request, solver, n_threads)
    elif solver != "nesterov" and problem.is_smooth(alphas):
        solutions = solve_least_squares(
            TrainingData(kernels, problem.X, problem.y, problem.sample_weight, n_threads),
            [alpha * problem.weight for alpha in alphas],
            fit_intercept=problem.fit_intercept,
            solver=solver,
            request=request,
        )
        solutions = _means(solutions, problem.weight)
    else:
        solutions = _nonsmooth(kernels, problem, alphas, request, solver, n_threads)
    return [weights_undone(found, exponent, 0) for found in solutions]


def _constrained(
    kernels, problem: Problem, alphas, request: Request, solver: str, n_threads: int
) -> list[Solution]:
    try:
        solutions = fit_constrained(
            make_system(kernels, problem, n_threads),
            problem,
            alphas,
            request.start,
            solver=solver,
            tol=request.tol,
            max_iter=request.max_iter,
        )
    except NotTrustworthy as error:
        raise np.linalg.LinAlgError(str(error)) from error
    solutions = _means(solutions, problem.weight)
    return with_light_rows(make_system(kernels, problem, n_threads), problem, alphas, solutions)


def _means(solutions: list[Solution], weight: float) -> list[Solution]:
    """Return the solutions with losses that are means over rows instead of sums."""
    scale = 1.0 / weight
    for found in solutions:
        found.losses = [loss * scale for loss in found.losses]
    return solutions


def _nonsmooth(
    kernels, problem: Problem, alphas, request: Request, solver: str, n_threads: int
) -> list[Solution]:
    """Solve few numbers in one call, and others in ways that see to rows which others hide."""
    if solver in ("auto", "gram"):
        data = TrainingData(kernels, problem.X, problem.y, problem.sample_weight, 1)
        found = solve_small_lasso(
            data,
            [problem.penalty(alpha) for alpha in alphas],
            fit_intercept=problem.fit_intercept,
            tol=request.tol,
        )
        if found is not None:
            return _means(found, problem.weight)
    problem = problem.looked_at()
    request = replace(request, x_mean=problem.x_mean)
    found = _nonsmooth_of_any_size(kernels, problem, alphas, request, solver, n_threads)
    return with_light_rows(make_system(kernels, problem, n_threads), problem, alphas, found)


def _nonsmooth_of_any_size(
    kernels, problem: Problem, alphas, request: Request, solver: str, n_threads: int
) -> list[Solution]:
    """Solve by working sets where they pay, and by the Gram matrix or descent where not."""
    points: list[Solution] = []
    if solver == "auto" and working_sets_pay(problem, alphas):
        points, start = fit_working_sets(
            make_system(kernels, problem, n_threads),
            [problem.penalty(alpha) for alpha in alphas],
            request.start,
            tol=request.tol,
            max_iter=request.max_iter,
        )
        points = _means(points, problem.weight)
        if len(points) == len(alphas):
            return points
        request = replace(request, start=start)
    left = alphas[len(points) :]
    if solver != "nesterov" and (solver == "gram" or _gram_pays(problem.X)):
        try:
            found = _by_gram(kernels, problem, left, request, n_threads)
        except NotTrustworthy as error:
            raise np.linalg.LinAlgError(str(error)) from error
        return points + _means(found, problem.weight)
    return points + _by_descent(kernels, problem, left, request, n_threads)


def working_sets_pay(problem: Problem, alphas: Sequence[float]) -> bool:
    """Return whether weights are found by working sets of columns.

    Where the Gram matrix of all columns is cheap, its set-up is their equal and a path is faster.
    Of more rows than columns, `fit_working_sets` itself leaves those to it that are dense.
    """
    n, d = problem.X.shape
    if problem.constraints is not None:
        return False
    if not (problem.l1_ratio > 0.0 and min(alphas) > 0.0) or lives_on_device(problem.X):
        return False
    is_tall = d >= TALL_COLUMNS and len(alphas) == 1 and not isinstance(problem.X, CSR)
    return d >= LEAST_COLUMNS and (n < d or is_tall or not _gram_pays(problem.X))


def _gram_pays(X: Matrix) -> bool:
    n, d = X.shape
    if isinstance(X, CSR):
        stored = max(stored_numbers(X), 1)
        return d <= GRAM_FEATURES and float(n) * d * d <= SPARSE_GRAM_COST * stored
    return d <= GRAM_FEATURES


def make_system(kernels: Kernels, problem: Problem, n_threads: int) -> System:
    system = System(
        kernels,
        problem.X,
        problem.y,
        problem.sample_weight,
        fit_intercept=problem.fit_intercept,
        n_threads=n_threads,
        row_grams=problem.row_grams,
    )
    system.x_mean = problem.x_mean
    return system


def _by_gram(kernels, problem: Problem, alphas, request: Request, n_threads) -> list[Solution]:
    return fit_path(
        make_system(kernels, problem, n_threads),
        [problem.penalty(alpha) for alpha in alphas],
        request.start,
        tol=request.tol,
        max_iter=request.max_iter,
    )


def _by_descent(
    kernels, problem: Problem, alphas, request: Request, n_threads: int
) -> list[Solution]:
    """Solve by Nesterov's descent, or directly where squares overflow or hide directions."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            return _descended(kernels, problem, alphas, request, n_threads)
    except NotTrustworthy as error:
        if problem.X.shape[1] > GRAM_FEATURES and not _is_wide_without_penalty(problem, alphas):
            raise np.linalg.LinAlgError(str(error)) from error
    solver = "qr" if problem.X.shape[1] <= GRAM_FEATURES else "auto"
    return fit_regression(
        kernels,
        problem,
        alphas,
        request.start,
        solver=solver if problem.is_smooth(alphas) else "gram",
        tol=request.tol,
        max_iter=request.max_iter,
        n_threads=n_threads,
    )


def _is_wide_without_penalty(problem: Problem, alphas) -> bool:
    """Return whether many weights fit the rows equally well, of which those of least norm count."""
    s = problem.sample_weight
    rows = problem.X.shape[0] if s is None else np.count_nonzero(np.asarray(s))
    return problem.is_smooth(alphas) and not all(alphas) and rows <= problem.X.shape[1]


def _descended(kernels, problem: Problem, alphas, request: Request, n_threads) -> list[Solution]:
    """Descend for each alpha, and take the certificates from one more pass.

    Descent in scaled columns ends at the least norm in their metric, where least norm is asked for
    in the columns' own units: so that dependent columns without a penalty are not for it.
    """
    if _is_wide_without_penalty(problem, alphas):
        raise NotTrustworthy("fewer rows than columns have many solutions")
    system = make_system(kernels, problem, n_threads)
    refuse_target_range(system)
    if system.is_far and system.d <= GRAM_FEATURES:
        raise NotTrustworthy("the kernels' rounding hides how columns vary")
    system.find_centre()
    zero = np.zeros((system.t, system.d))
    c = -system.gradient(zero, system.intercept_for(zero)).coef / system.weight
    if not np.isfinite(c).all():
        raise NotTrustworthy("squares overflow")
    hides_rows = is_ruled_by_few_rows(system)
    if hides_rows and system.d <= GRAM_FEATURES:
        raise NotTrustworthy("rows differ too much in size")
    coef, solutions = request.start, []
    for alpha in alphas:
        result = fit_full_batch(
            kernels,
            problem,
            alpha,
            coef,
            tol=request.tol,
            max_iter=request.max_iter,
            n_threads=n_threads,
        )
        if result.is_dependent and alpha == 0.0 and problem.is_smooth(alphas):
            raise NotTrustworthy("columns depend on each other")
        coef, intercept = result.coef, result.intercept
        found = system.gradient(coef, intercept)
        if result.converged and problem.is_smooth([alpha]):
            _confirm(found.coef / system.weight + alpha * (1.0 - problem.l1_ratio) * coef, result)
        squares = found.squares / system.weight
        solution = judged(
            system, problem.penalty(alpha), coef, found.coef / system.weight, squares, c
        )
        solutions.append(
            replace(
                solution,
                intercept=intercept,
                solver="nesterov",
                n_iter=result.n_iter,
                losses=result.loss_curve,
                relative_gradient=result.relative_gradient,
                converged=result.converged and not hides_rows,
            )
        )
    return solutions


def _confirm(gradient: np.ndarray, result: FullBatchResult) -> None:
    """Check the gradient in the columns' own scales, since a metric may have dropped directions.

    Raises
    ------
    NotTrustworthy
        If it is larger than the descent allowed.
    """
    d = gradient.shape[1]
    if np.linalg.norm(gradient * result.scale) > 4.0 * np.sqrt(d) * result.allowed:
        raise NotTrustworthy("directions that a few rows made small")
