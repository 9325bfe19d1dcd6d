"""What a least-squares fit says about its own uncertainty: the classical linear model.

Seber and Lee (2003), Linear Regression Analysis, chapters 3 and 4: y = X w + b + e, errors
independent and normal, of variance sigma^2 / s_i.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from ..kernels.contract import Kernels
from ..kernels.device import DeviceArray
from .factors import TriangularFactor
from .regression import Problem
from .solution import Solution

# The inverse of a Gram matrix has eps times the condition squared: 8 digits up to here.
GRAM_CONDITION = 3e3


@dataclass(frozen=True)
class Evidence:
    """What a fit leaves for `infer`: of the size of d^2 at most."""

    coef: np.ndarray  # (d,)
    intercept: float | None  # None: not fitted
    factor: TriangularFactor
    centre: np.ndarray  # (d,)  weighted mean of X
    n_rows: int  # of positive weight
    weight: float
    log_weights: float  # sum of the logarithms of the weights
    residual_squares: float  # sum s r^2
    target_squares: float  # sum s (y - mean)^2; about zero without an intercept


@dataclass(frozen=True)
class Inference:
    """Of the intercept, where one is fitted, and then of each weight."""

    estimate: np.ndarray
    standard_error: np.ndarray
    t: np.ndarray
    p: np.ndarray
    n_rows: int
    df_model: int
    df_residual: int
    sigma: float  # estimated standard deviation of an error of weight 1
    r_squared: float
    adjusted_r_squared: float
    f: float
    f_p: float
    log_likelihood: float
    aic: float
    bic: float

    def interval(self, level: float) -> np.ndarray:
        """Two-sided confidence intervals, (k, 2)."""
        reach = stats.t.ppf(0.5 * (1.0 + level), self.df_residual) * self.standard_error
        return np.column_stack([self.estimate - reach, self.estimate + reach])


def gather_evidence(
    kernels: Kernels, problem: Problem, solution: Solution, n_threads: int
) -> Evidence | None:
    """None where the solver has no factor that is accurate enough for standard errors."""
    factor, x_mean = solution.factor, solution.centre
    one_target = problem.y.shape[1] == 1
    if factor is None or x_mean is None or not one_target or not np.all(factor.scale > 0.0):
        return None
    if solution.solver == "gram" and factor.condition > GRAM_CONDITION:
        return None
    n_rows, weight, log_weights, s = len(problem.y), float(len(problem.y)), 0.0, None
    if problem.sample_weight is not None:
        s = problem.sample_weight.astype(np.float64)
        counted = s[s > 0.0]
        n_rows, weight, log_weights = len(counted), float(s.sum()), float(np.log(counted).sum())
    if isinstance(problem.y, DeviceArray):
        squares = _squares_on_device(kernels, problem, solution, weight, n_threads)
    else:
        squares = _squares(problem.y[:, 0].astype(np.float64), s, problem.fit_intercept)
    return Evidence(
        solution.coef[0],
        float(solution.intercept[0]) if problem.fit_intercept else None,
        factor,
        x_mean,
        n_rows,
        weight,
        log_weights,
        float(solution.residual_norm[0] ** 2),
        squares,
    )


def _squares(values: np.ndarray, s: np.ndarray | None, centred: bool) -> float:
    """sum s y^2, of values that are changed; about their mean where they are to be centred."""
    if centred:
        values -= values.mean() if s is None else np.average(values, weights=s)
    np.square(values, out=values)
    return float((np.ones(len(values)) if s is None else s) @ values)


def _squares_on_device(
    kernels: Kernels, problem: Problem, solution: Solution, weight: float, n_threads: int
) -> float:
    """The same of y on a GPU, by a pass at zero weights: about the mean of the predictions.

    Which is that of y but for rounding; what is between them is taken out.
    """
    near = np.zeros(1)
    if problem.fit_intercept:
        near = solution.intercept + solution.coef @ solution.centre
    loss, _, off = kernels.loss_gradient(
        problem.X, problem.y, np.zeros_like(solution.coef), near, problem.sample_weight, n_threads
    )
    apart = off[0] ** 2 if problem.fit_intercept else 0.0
    return float(weight * (2.0 * loss[0] - apart))


def infer(evidence: Evidence) -> Inference:
    """The usual statistics.

    Raises
    ------
    ValueError
        If there are no more rows than weights to estimate.
    """
    n, has_intercept = evidence.n_rows, evidence.intercept is not None
    k = len(evidence.coef) + has_intercept
    df = n - k
    if df <= 0:
        raise ValueError(f"{n} rows leave nothing to estimate the error of {k} weights from.")
    variance = evidence.residual_squares / df
    inverse = evidence.factor.inverse_gram()
    estimate, unscaled = evidence.coef, np.diag(inverse)
    if evidence.intercept is not None:
        c = evidence.centre
        estimate = np.append(evidence.intercept, estimate)
        unscaled = np.append(1.0 / evidence.weight + c @ inverse @ c, unscaled)
    error = np.sqrt(variance * unscaled)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = estimate / error
        share = evidence.residual_squares / evidence.target_squares
        df_model = k - has_intercept
        f = (evidence.target_squares - evidence.residual_squares) / df_model / variance
        log_likelihood = -0.5 * n * (np.log(2 * np.pi * evidence.residual_squares / n) + 1.0)
    log_likelihood += 0.5 * evidence.log_weights
    return Inference(
        estimate,
        error,
        t,
        2.0 * stats.t.sf(np.abs(t), df),
        n,
        df_model,
        df,
        float(np.sqrt(variance)),
        1.0 - share,
        1.0 - (n - has_intercept) / df * share,
        float(f),
        float(stats.f.sf(f, df_model, df)),
        float(log_likelihood),
        float(-2.0 * log_likelihood + 2.0 * k),
        float(-2.0 * log_likelihood + np.log(n) * k),
    )
