"""What a least-squares fit says about its own uncertainty: the classical linear model.

Seber and Lee (2003), Linear Regression Analysis, chapters 3 and 4: y = X w + b + e, errors
independent and normal, of variance sigma^2 / s_i.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from .factors import TriangularFactor
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
    solution: Solution,
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    fit_intercept: bool,
) -> Evidence | None:
    """None where the solver has no factor that is accurate enough for standard errors."""
    factor, x_mean = solution.factor, solution.centre
    if factor is None or x_mean is None or y.shape[1] != 1 or not np.all(factor.scale > 0.0):
        return None
    if solution.solver == "gram" and factor.condition > GRAM_CONDITION:
        return None
    s = np.ones(len(y)) if sample_weight is None else sample_weight.astype(np.float64)
    values = y[:, 0].astype(np.float64)
    if fit_intercept:
        values -= np.average(values, weights=s)
    counts = s > 0.0
    return Evidence(
        solution.coef[0],
        float(solution.intercept[0]) if fit_intercept else None,
        factor,
        x_mean,
        int(counts.sum()),
        float(s.sum()),
        float(np.log(s[counts]).sum()),
        float(solution.residual_norm[0] ** 2),
        float(s @ values**2),
    )


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
