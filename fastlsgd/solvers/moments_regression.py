"""Least squares from sums over rows: the solvers fit a few rows that have the same sums.

Let R^T R be the products of the columns about their mean, q = R^-T X^T S y, and e the norm of the
residual that is left of y. Then |X w - y|^2, weighted and about the means, is |R w - q|^2 + e^2 for
all w: the rows (R, q) and (0, e) stand for the data in every solver and for every penalty. Without
an intercept, the mean joins them as one row more.

These rows are exact, but the sums that they come from are rounded. With R from a Gram matrix, the
weights have a relative error of some `EPS` times the square of the condition of the columns that
take part, which `Fit.condition` is to tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ..kernels.contract import Kernels
from .constraints import Constraints
from .cross_validation import default_alphas
from .factors import EPS, INVERSE_CONDITION
from .inference import Evidence
from .moments import MOST_SQUARE, Sums, about_zero, varying
from .problem import Problem
from .regression import fit_regression
from .solution import Solution
from .threaded_products import product
from .weights import even_exponent

# Three columns whose correlations are this close to 1 differ by few digits of a Gram matrix.
LEAST_APART = 1e-9
# Sums of squares may be off by this many times the rounding of their largest terms.
ROUNDINGS = 100.0


@dataclass(frozen=True)
class SurrogateRows:
    """A few rows with the same sums as the data, to be fitted without an intercept."""

    sums: Sums  # about the mean, or about zero if no intercept is fitted
    problem: Problem
    share: float  # of the weight of the data that falls on each of these rows
    fit_intercept: bool
    # A power of two, mostly 0, by which the weights of the data were divided.
    weight_exponent: int = 0

    @classmethod
    def of(
        cls,
        sums: Sums,
        l1_ratio: float,
        positive: bool,
        fit_intercept: bool,
        constraints: Constraints | None = None,
        penalty_factor: np.ndarray | None = None,
    ) -> SurrogateRows:
        d = sums.n_features
        R, q, rest = sums.root()
        if not fit_intercept:
            # The mean is a row of its own: sums about zero would hold little of how columns vary.
            mean = np.sqrt(sums.place.weight) * sums.place.mean
            R, q = np.vstack([R, mean[:d]]), np.vstack([q, mean[d:]])
            sums = about_zero(sums)
        X, y = np.zeros((len(R) + 1, sums.n_features)), np.zeros((len(R) + 1, len(rest)))
        columns, exponent = varying(sums), even_exponent(sums.place.weight)
        units = sums.place.units - exponent // 2
        X[:-1, columns], y[:-1], y[-1] = R[:, columns], q, np.sqrt(rest)
        X, y = np.ldexp(X, units[: sums.n_features]), np.ldexp(y, units[sums.n_features :])
        problem = Problem(
            X,
            y,
            None,
            l1_ratio,
            positive,
            fit_intercept=False,
            constraints=constraints,
            penalty_factor=penalty_factor,
        )
        share = float(np.ldexp(sums.place.weight, -exponent)) / len(X)
        return cls(sums, problem, share, fit_intercept, exponent)

    def alphas(self, kernels: Kernels) -> list[float]:
        """Return the penalties that cross-validation tries by default."""
        return (default_alphas(kernels, self.problem, 1) / self.share).tolist()

    def condition(self, alpha: float, coef: np.ndarray) -> float:
        """Return the condition of the scaled columns that take part in a fit, with its penalty."""
        columns, place = varying(self.sums), self.sums.place
        weight = np.ldexp(place.weight, -self.weight_exponent)
        l2 = self.problem.penalty(alpha).l2 * weight
        with np.errstate(over="ignore"):
            l2 = np.ldexp(l2, self.weight_exponent - 2 * place.units[: self.sums.n_features])
        l2 = np.minimum(l2, MOST_SQUARE)
        if self.problem.is_smooth([alpha]):
            sets = [columns]
        else:
            sets = [np.intersect1d(np.flatnonzero(w), columns) for w in coef]
        found = (self.sums.condition(some, l2[some]) for some in sets if len(some))
        return max(found, default=1.0)

    def restored(self, solution: Solution, alpha) -> Solution:
        """Return a solution for these rows as one for the data."""
        d, mean = self.sums.n_features, self.sums.place.plain_mean
        gap, multipliers, condition = solution.dual_gap, solution.multipliers, solution.condition
        if self.problem.constraints is None:
            condition = self.condition(alpha, solution.coef)
        return replace(
            solution,
            intercept=mean[d:] - solution.coef @ mean[:d],
            centre=mean[:d],
            condition=condition,
            losses=[loss / self.share for loss in solution.losses],
            dual_gap=None if gap is None else gap / self.share,
            multipliers=None if multipliers is None else multipliers / self.share,
        )


class Options(NamedTuple):
    """How a solver goes about it."""

    solver: str
    tol: float
    max_iter: int


def fit_rows(
    kernels: Kernels,
    rows: SurrogateRows,
    alphas: Sequence[float],
    start: np.ndarray | None,
    options: Options,
) -> list[Solution]:
    """Return a solution for each alpha, as `fit_regression` does for the data themselves.

    `condition` of each is that of the columns that take part in it.

    Raises
    ------
    numpy.linalg.LinAlgError
        If sums overflow.
    """
    solver, tol, max_iter = options
    if solver == "auto" and rows.sums.factor == "qr" and rows.problem.is_smooth(alphas):
        solver = "qr"  # of so few rows it costs next to nothing, and leaves a factor for errors
    found = fit_regression(
        kernels,
        rows.problem,
        [alpha * rows.share for alpha in alphas],
        start,
        solver=solver,
        tol=tol,
        max_iter=max_iter,
        n_threads=1,
    )
    pairs = zip(found, alphas, strict=True)
    return [rows.restored(solution, alpha) for solution, alpha in pairs]


def evidence_from(rows: SurrogateRows, solution: Solution) -> list[Evidence] | None:
    """Return what `infer` needs, for each target; None where no factor is accurate enough."""
    sums, d = rows.sums, rows.sums.n_features
    factor = solution.factor or solution.singular
    rounded = "gram" in (sums.factor, solution.solver) and solution.condition > INVERSE_CONDITION
    if factor is None or rounded:
        return None
    place, exponent = sums.place, rows.weight_exponent
    norms = np.ldexp(np.sqrt(sums.products()[2]), place.units[d:] - exponent // 2)
    found = zip(solution.coef, solution.intercept, solution.residual_norm, norms, strict=True)
    return [
        Evidence(
            coef,
            float(b) if rows.fit_intercept else None,
            factor,
            place.plain_mean[:d],
            place.n_rows,
            float(np.ldexp(place.weight, -exponent)),
            place.log_weights - place.n_rows * exponent * float(np.log(2.0)),
            float(residual),
            float(target),
            exponent // 2,
        )
        for coef, b, residual, target in found
    ]


def has_one_direction(sums: Sums) -> bool:
    """Return whether all columns, or three of them, have one direction as far as sums can tell.

    It is so beside a row so large that its square holds no digits of those of the others. Two
    columns among others may well be multiples of each other, as a dummy and its opposite are.
    """
    columns = varying(sums)
    if sums.place.n_rows <= 2 or len(columns) < 2:
        return False
    xx = sums.products()[0][np.ix_(columns, columns)]
    norms = np.sqrt(np.diag(xx))
    least = LEAST_APART if sums.factor == "gram" else 4.0 * EPS * len(xx)
    alike = np.abs(xx) / norms / norms[:, None] >= 1.0 - least
    return int(alike.sum(axis=0).max()) >= min(len(columns), 3)


def unit_of_errors(sums: Sums) -> int:
    """Return a power of two near the targets' size where their squares are far from 1, else 0."""
    return int(sums.place.units[sums.n_features :].max()) - even_exponent(sums.place.weight) // 2


def mean_squared_errors(
    sums: Sums, coefs: np.ndarray, intercepts: np.ndarray, unit: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean squared residuals of weights (k, t, d) over rows and targets, (k,).

    They are those of y times 2^-unit, of which `unit_of_errors` finds one. The second value is what
    the rounding of sums may add to each of them, the third what that of predictions may.
    """
    exponent = even_exponent(sums.place.weight)
    unit += exponent // 2
    d, place = sums.n_features, sums.place
    mean, by = place.plain_mean, place.units[d:] - unit
    off = np.sqrt(place.weight) * np.ldexp(intercepts + coefs @ mean[:d] - mean[d:], -unit)
    errors, rounding, predicted = (np.empty(len(coefs)) for _ in range(3))
    xx, xy, yy = sums.products()
    R, q, rest = sums.root() if sums.factor == "qr" else (xx, xy, yy)
    xy, q, yy, rest = (
        np.ldexp(*pair) for pair in ((xy, by), (q, by), (yy, 2 * by), (rest, 2 * by))
    )
    # Terms of predictions that are as large as y are rounded in any fit; these may be far larger.
    cancelled = np.abs(intercepts) + np.abs(coefs) @ np.abs(mean[:d]) + np.abs(mean[d:])
    cancelled = np.sqrt(place.weight) * np.ldexp(cancelled, -unit)
    for k, w in enumerate(np.ldexp(coefs, place.units[:d] - unit)):
        quadratic, cross = np.einsum("td,td->t", w @ xx, w), np.einsum("td,dt->t", w, xy)
        terms = float((quadratic + 2.0 * np.abs(cross) + yy).sum())
        if sums.factor == "qr":  # squares alone, in which nothing cancels
            own, rounding[k] = ((product(R, w.T) - q) ** 2).sum(axis=0) + rest, EPS**2 * terms
        else:
            own, rounding[k] = quadratic - 2.0 * cross + yy, EPS * terms
        errors[k] = float(own.sum()) + float((off[k] ** 2).sum())
        size = EPS * float(np.linalg.norm(np.maximum(cancelled[k] - 4.0 * np.sqrt(yy), 0.0)))
        predicted[k] = size * (2.0 * np.sqrt(max(errors[k], 0.0)) + size)
    weight = np.ldexp(place.weight, -exponent) * coefs.shape[1]
    return errors / weight, ROUNDINGS * rounding / weight, predicted / weight


def all_but_one(parts: Sequence[Sums]) -> list[Sums]:
    """Return for each part the sum of all others.

    They are added up from both ends, which costs two merges per part, as much as taking each part
    out of the whole does; but nothing cancels, whatever the parts are.
    """
    before: list[Sums | None] = [None]
    after: list[Sums | None] = [None]
    for part in parts[:-1]:
        before.append(_sum(before[-1], part))
    for part in parts[:0:-1]:
        after.append(_sum(part, after[-1]))
    pairs = zip(before, reversed(after), strict=True)
    found = [_sum(left, right) for left, right in pairs]
    return [sums for sums in found if sums is not None]


def _sum(left: Sums | None, right: Sums | None) -> Sums | None:
    if left is None or right is None:
        return right if left is None else left
    return left.joined(right)  # type: ignore[arg-type]
