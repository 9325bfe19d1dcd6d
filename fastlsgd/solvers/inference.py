"""The uncertainty of a least-squares fit, by the classical linear model.

The model is y = X w + b + e with independent normal errors of variance sigma^2 / s_i (Seber and Lee
2003, Linear Regression Analysis, chapters 3 and 4). Where columns are linearly dependent, weights
that are the same in every least-squares solution have an estimate, and the others have none. What
is not defined is NaN, as in R's lm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import stats

from ..kernels.contract import Kernels
from ..kernels.device import DeviceArray
from .eigen import svd
from .factors import EPS, INVERSE_CONDITION, TINY, SingularFactor, TriangularFactor, solve_upper
from .interrupt import call_loss_gradient
from .many_classes import ClassTargets
from .orthogonal import rank_tolerance
from .problem import Problem
from .solution import Solution

# A target whose spread relative to its mean, or residuals whose size relative to the target, is at
# most this consists of rounding.
CONSTANT = 8.0 * EPS
PERFECT = 32.0 * EPS
# A weight (of columns of norm 1) with more than this share in the null space has no estimate.
NOT_ESTIMABLE = 1e-6


@dataclass(frozen=True)
class Evidence:
    """What a fit keeps for `infer`, at most about d^2 numbers."""

    coef: np.ndarray  # (d,)
    intercept: float | None  # None if no intercept was fitted
    factor: TriangularFactor | SingularFactor
    centre: np.ndarray  # (d,)  weighted mean of X
    n_rows: int  # of positive weight
    weight: float
    log_weights: float  # sum of the logarithms of the weights
    residual_norm: float  # (sum s r^2)^(1/2)
    target_norm: float  # (sum s (y - mean)^2)^(1/2); about zero without an intercept
    sigma_exponent: int = 0  # power of two by which the roots of the weights were divided


@dataclass(frozen=True)
class Spread:
    """Standard errors for sigma = 1, and which weights can be estimated at all."""

    coef: np.ndarray  # (d,)  NaN where there is no estimate
    intercept: float
    rank: int  # of the centred columns
    constant: np.ndarray  # (d,)  columns that are left out
    dependent: np.ndarray  # (d,)  others that have no estimate


class Covariance(NamedTuple):
    """A covariance of weights, whose numbers are as large as squares of standard errors.

    Where these leave the range of float64, standard errors and tests do not.
    """

    core: np.ndarray  # (k, k)  of the weights times 2^-exponents
    exponents: np.ndarray  # (k,) of int

    def plain(self) -> np.ndarray:
        """Return the covariance itself, in which numbers may overflow or vanish."""
        exponents = self.exponents
        with np.errstate(over="ignore", under="ignore"):
            return np.ldexp(np.ldexp(self.core, exponents), exponents[:, None])

    def roots(self) -> np.ndarray:
        """Return the standard errors."""
        return np.ldexp(np.sqrt(self.core.diagonal()), self.exponents)


@dataclass(frozen=True)
class Inference:
    """The statistics of a fit; arrays hold the intercept, if there is one, then the weights."""

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
    constant: np.ndarray  # (d,)  columns that are left out
    dependent: np.ndarray  # (d,)  others without an estimate
    is_constant: bool  # the target
    is_perfect: bool  # residuals are rounding
    variance_inflation: np.ndarray  # (d,)
    use_t: bool = True  # else the normal distribution
    df_test: int | None = None  # of the t distribution, if not `df_residual`

    def interval(self, level: float) -> np.ndarray:
        """Return two-sided confidence intervals, (k, 2)."""
        share = 0.5 * (1.0 + level)
        reach = stats.t.ppf(share, self.degrees) if self.use_t else stats.norm.ppf(share)
        reach = reach * self.standard_error
        return np.column_stack([self.estimate - reach, self.estimate + reach])

    @property
    def degrees(self) -> int:
        """Degrees of freedom of tests."""
        return self.df_residual if self.df_test is None else self.df_test

    def with_covariance(self, covariance: Covariance, use_t: bool, df_test: int) -> Inference:
        """Return the statistics by another covariance of the weights, with its degrees of freedom.

        F is that of Wald's test that all weights but the intercept are zero.
        """
        with np.errstate(all="ignore"):
            error = np.where(np.isnan(self.standard_error), np.nan, covariance.roots())
            t = self.estimate / error
        found = np.isfinite(self.estimate)
        found[: len(found) - len(self.constant)] = False
        f, f_p = np.nan, np.nan
        if found.any():
            value = np.ldexp(self.estimate[found], -covariance.exponents[found])
            f, _ = wald_statistic(value, covariance.core[np.ix_(found, found)])
            f_p = float(stats.f.sf(f, int(found.sum()), df_test))
        p = 2.0 * (stats.t.sf(np.abs(t), df_test) if use_t else stats.norm.sf(np.abs(t)))
        return replace(
            self, standard_error=error, t=t, p=p, f=f, f_p=f_p, use_t=use_t, df_test=df_test
        )


def wald_statistic(value: np.ndarray, covariance: np.ndarray) -> tuple[float, int]:
    """Return v^T C^-1 v / rank of C, and the rank."""
    scale = np.sqrt(np.maximum(covariance.diagonal(), 0.0))
    scale = np.where(scale > 0.0, scale, 1.0)
    sigma, V = np.linalg.eigh(covariance / np.multiply.outer(scale, scale))
    keep = np.abs(sigma) > len(value) * EPS * np.abs(sigma).max(initial=0.0)
    part = V[:, keep].T @ (value / scale)
    rank = int(keep.sum())
    return (float(part @ (part / sigma[keep])) / rank, rank) if rank else (np.nan, 0)


def gather_evidence(
    kernels: Kernels, problem: Problem, solution: Solution, n_threads: int
) -> list[Evidence] | None:
    """Return what `infer` needs, for each target; None where no factor is accurate enough.

    Classes have none either: their targets of -1 and 1 do not have errors of one variance.
    """
    factor, x_mean = solution.factor or solution.singular, solution.centre
    if factor is None or x_mean is None or isinstance(problem.y, ClassTargets):
        return None
    if solution.solver == "gram" and solution.condition > INVERSE_CONDITION:
        return None
    # The solver's factor belongs to weights that were scaled, perhaps more than once.
    (problem, exponent), more = problem.normalised(), 1
    while more:
        problem, more = problem.normalised()
        exponent += more
    n_rows, weight, log_weights, s = len(problem.y), float(len(problem.y)), 0.0, None
    if problem.sample_weight is not None:
        s = problem.sample_weight.astype(np.float64)
        counted = s[s > 0.0]
        n_rows, weight, log_weights = len(counted), float(s.sum()), float(np.log(counted).sum())
    residual = solution.residual_norm if solution.near_norm is None else solution.near_norm
    sizes: Sequence[float] | np.ndarray
    if problem.y.shape[1] > 1:
        sizes = _norms_of_targets(solution.coef, factor, residual)
    elif isinstance(problem.y, DeviceArray):
        sizes = [np.sqrt(_squares_on_device(kernels, problem, solution, weight, n_threads))]
    else:
        sizes = [weighted_norm(problem.y[:, 0].astype(np.float64), s, problem.fit_intercept)]
    return [
        Evidence(
            coef,
            float(b) if problem.fit_intercept else None,
            factor,
            x_mean,
            n_rows,
            weight,
            log_weights,
            float(own),
            float(size),
            exponent // 2,
        )
        for coef, b, own, size in zip(
            solution.coef, solution.intercept, residual, sizes, strict=True
        )
    ]


def _norms_of_targets(
    coef: np.ndarray, factor: TriangularFactor | SingularFactor, residual: np.ndarray
) -> np.ndarray:
    """Return (sum s (y - mean)^2)^(1/2) of each target, by Pythagoras.

    Many targets cost as much to read as X does, and predictions are orthogonal to residuals.
    """
    scale = factor.scale
    scaled = np.where(scale > 0.0, coef / np.where(scale > 0.0, scale, 1.0), 0.0)
    explained = scaled @ factor.upper.T
    unit = np.maximum(np.abs(explained).max(axis=1, initial=0.0), TINY)
    return np.hypot(residual, unit * np.linalg.norm(explained / unit[:, None], axis=1))


def weighted_norm(values: np.ndarray, s: np.ndarray | None, centred: bool) -> float:
    """Return (sum s y^2)^(1/2), about the mean if `centred`; the values are overwritten.

    Rows of zero weight may hold any numbers.
    """
    if s is not None:
        values, s = values[s > 0.0], s[s > 0.0]
    unit = float(np.abs(values).max())
    values /= unit if unit > 0.0 else 1.0
    if centred:
        values -= values.mean() if s is None else np.average(values, weights=s)
    np.square(values, out=values)
    if s is not None:
        values *= s
    # BLAS would divide even 20,000 numbers among threads, which took 25 ms on a busy machine.
    return unit * float(np.sqrt(values.sum()))


def _squares_on_device(
    kernels: Kernels, problem: Problem, solution: Solution, weight: float, n_threads: int
) -> float:
    """Return sum s y^2 for y on a GPU, about the mean if there is an intercept, by a kernel.

    The pass at zero weights gives the squares about the mean of the predictions. That is the mean
    of y but for rounding, which is then subtracted.
    """
    near = np.zeros(1)
    if problem.fit_intercept:
        near = solution.intercept + solution.coef @ solution.centre
    zero, s = np.zeros_like(solution.coef), problem.sample_weight
    loss, _, off = call_loss_gradient(kernels, problem.X, problem.y, zero, near, s, n_threads)
    apart = off[0] ** 2 if problem.fit_intercept else 0.0
    return float(max(weight * (2.0 * loss[0] - apart), 0.0))


def _spread(evidence: Evidence) -> Spread:
    """Return the standard errors from R^-1 of scaled columns, or from its pseudo-inverse."""
    factor, scale = evidence.factor, evidence.factor.scale
    constant, centre = scale == 0.0, evidence.centre * scale
    own = 1.0 / np.sqrt(evidence.weight)
    if isinstance(factor, TriangularFactor):
        inverse = solve_upper(factor.upper, np.eye(len(scale)))
        rank, outside, off = int((~constant).sum()), constant.astype(float), 0.0
    else:
        _, sigma, Vt = svd(factor.upper)
        keep = sigma > rank_tolerance(len(scale)) * sigma.max(initial=0.0)
        rank, V = int(keep.sum()), Vt[keep]
        inverse = V.T / sigma[keep]
        outside = np.sqrt(np.maximum(1.0 - (V * V).sum(axis=0), 0.0))
        off = float(np.linalg.norm(centre - (V @ centre) @ V))
        off /= max(float(np.linalg.norm(centre)), own)
    has_none = outside > NOT_ESTIMABLE
    of_centre = float(np.linalg.norm(centre @ inverse))
    return Spread(
        np.where(has_none, np.nan, np.linalg.norm(inverse, axis=1) * scale),
        float(np.hypot(own, of_centre)) if off <= NOT_ESTIMABLE else np.nan,
        rank,
        constant,
        has_none & ~constant,
    )


def _variance_inflation(evidence: Evidence, spread: Spread) -> np.ndarray:
    """Return the variance of each weight over what it is in a fit of that column alone."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (spread.coef / evidence.factor.scale) ** 2


def _unless_nan(spread, value):
    return np.where(np.isnan(spread), np.nan, value)


def _mean_of_target(evidence: Evidence) -> float:
    """Return the size of the target's mean if an intercept is fitted, else 0."""
    if evidence.intercept is None:
        return 0.0
    return abs(evidence.intercept + float(evidence.coef @ evidence.centre))


def infer(evidence: Evidence) -> Inference:
    """Return the usual statistics; NaN where they are not defined."""
    n, has_intercept = evidence.n_rows, evidence.intercept is not None
    spread = _spread(evidence)
    k = spread.rank + has_intercept
    df, residual, target = n - k, evidence.residual_norm, evidence.target_norm
    mean = _mean_of_target(evidence) * np.sqrt(evidence.weight)
    is_constant = bool(target <= CONSTANT * mean)
    if is_constant:  # its residuals are zero but for rounding
        residual = target = 0.0
    estimate = _unless_nan(spread.coef, evidence.coef)
    unscaled = spread.coef
    if evidence.intercept is not None:
        estimate = np.append(_unless_nan(spread.intercept, evidence.intercept), estimate)
        unscaled = np.append(spread.intercept, unscaled)
    with np.errstate(all="ignore"):
        sigma = np.float64(residual) / np.sqrt(df) if df > 0 else np.nan
        error = sigma * unscaled
        t = estimate / error
        if is_constant:
            t[has_intercept:] = np.nan  # weights of zero, but for rounding
        share = np.minimum(np.float64(residual) / target, 1.0) ** 2
        f = (1.0 - share) / share * df / spread.rank if df > 0 and spread.rank else np.nan
        log_likelihood = -0.5 * n * (np.log(2.0 * np.pi / n) + 2.0 * np.log(residual) + 1.0)
    log_likelihood += 0.5 * evidence.log_weights
    return Inference(
        estimate,
        error,
        t,
        2.0 * stats.t.sf(np.abs(t), df) if df > 0 else np.full(len(t), np.nan),
        n,
        spread.rank,
        df,
        float(np.ldexp(sigma, evidence.sigma_exponent)),
        float(1.0 - share),
        float(1.0 - (n - has_intercept) / df * share) if df > 0 else np.nan,
        float(f),
        float(stats.f.sf(f, spread.rank, df)) if df > 0 and spread.rank else np.nan,
        float(log_likelihood),
        float(-2.0 * log_likelihood + 2.0 * k),
        float(-2.0 * log_likelihood + np.log(n) * k),
        spread.constant,
        spread.dependent,
        is_constant,
        not is_constant and df > 0 and bool(residual <= PERFECT * np.hypot(target, mean)),
        _variance_inflation(evidence, spread),
    )
