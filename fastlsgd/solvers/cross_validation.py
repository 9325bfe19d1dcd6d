"""Cross-validation of least squares from sums, so that most folds need no fit of their rows.

The Gram matrix of the rows outside a fold is that of all rows minus the fold's. Each fit costs d^3,
whatever the number of rows, and is judged by the fold's own sums:
|X w + b - y|^2 = w^T X^T X w - 2 w^T X^T y + y^T y, about the mean of all rows.

Differences of sums cancel. Where one is small compared with its terms, or the columns are too
ill-conditioned for a Gram matrix, the fold is fitted from its rows (`refits.py`). An error that is
small compared with its terms is computed from the residuals. Leave-one-out is in
`leave_one_out.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..kernels.contract import Kernels
from ..kernels.device import lives_on_device
from .coordinate_descent import DescentQuadratic
from .factors import EPS, TINY, NotTrustworthy, cholesky_factor
from .interrupt import call_gram
from .least_squares import column_squares
from .leave_one_out import gram_bases, in_range
from .problem import Penalty, Problem
from .quadratic import Quadratic
from .refits import (
    ACCURACY,
    Task,
    is_division,
    pieces,
    refit_errors,
    restricted,
    squared_errors,
)
from .regression import make_system, working_sets_pay
from .system import System
from .wide_cross_validation import is_wide, wide_folds

# Penalties follow from mean squares above this, and below its inverse.
LEAST_MEAN_SQUARE = 1e-280
# A difference that is this many times smaller than its terms has lost too many digits.
CANCELLED = 10.0
# A column of weight zero is tied if its gradient is so near to the penalty, in its unit. The second
# number is that of a gradient's rounding.
TIED, ROUNDED = 1e-8, 1e-12
# The relative error of weights from sums, divided by the condition's square. In 144 random problems
# of few wide rows it was up to 16 EPS.
SUMS_NOISE = 32.0 * EPS


def default_alphas(
    kernels: Kernels, problem: Problem, n_threads: int, count: int = 100
) -> np.ndarray:
    """Return the penalties to try, strong ones first.

    With L1 they range from the one at which all weights are zero down to 1e-3 of it, else from far
    above the mean square of the largest column to far below that of the smallest.

    Raises
    ------
    ValueError
        If squares of X overflow or underflow.
    numpy.linalg.LinAlgError
        If penalties overflow, since the share of L1 is tiny.
    """
    system = make_system(kernels, problem, n_threads)
    try:
        total, xy = _column_sums(system)
    except NotTrustworthy as error:
        raise _no_scale("overflow") from error
    squares = total / system.weight
    varies = system.columns_scale(total) > 0.0
    if problem.penalty_factor is not None:  # as if the columns were divided by their factors
        squares, xy, varies = _per_factor(problem, squares, xy, varies)
    known = squares[varies]
    is_known = bool(((known > LEAST_MEAN_SQUARE) & (known < 1.0 / LEAST_MEAN_SQUARE)).all())
    if not (is_known and _rest_is_constant(system, squares)):
        raise _no_scale("overflow or underflow")
    if problem.l1_ratio > 0.0:
        slope = xy if problem.positive else np.abs(xy)
        largest = float(slope.max(initial=0.0)) / (system.weight * problem.l1_ratio)
        largest = float(np.ldexp(largest, problem.y_exponent))
        if not np.isfinite(largest):
            raise np.linalg.LinAlgError("penalties that are not finite")
        # Where all weights are zero whatever the penalty, all penalties are equally good.
        return (max(largest, TINY) if largest > 0.0 else 1.0) * np.geomspace(1.0, 1e-3, count)
    squares = squares[varies]
    if len(squares) == 0:
        return np.geomspace(1.0, 1e-3, count)
    return np.geomspace(1e2 * float(squares.max()), 1e-4 * float(squares.min()), count)


def _per_factor(problem: Problem, squares, xy, varies):
    """Return the sums in the columns' units in which their penalties are equal.

    Columns without a penalty have none, and are left out.
    """
    factor = problem.penalty_factor
    assert factor is not None
    varies = varies & (factor > 0.0)
    share = np.where(varies, 1.0 / np.where(varies, factor, 1.0), 0.0)
    return np.where(varies, squares * share, squares), xy * share[:, None], varies


def _column_sums(system: System) -> tuple[np.ndarray, np.ndarray]:
    """Squares of the columns of A, and A^T y; of few rows without the columns' products."""
    if system.n >= system.d or lives_on_device(system.X):
        xx, xy = system.centred_gram()
        return np.diag(xx), xy
    system.find_centre()
    with np.errstate(over="ignore", invalid="ignore"):
        squares = column_squares(system, system.n)
        zero = np.zeros((system.t, system.d))
        xy = -system.gradient(zero, system.intercept_for(zero)).coef.T
    if not (np.isfinite(squares).all() and np.isfinite(xy).all()):
        raise NotTrustworthy("squares overflow")
    return squares, xy


def _no_scale(what: str) -> ValueError:
    return ValueError(
        f"alphas=None goes by the mean squares of X's columns, which {what}: rescale X, or give "
        f"alphas."
    )


def _rest_is_constant(system: System, squares: np.ndarray) -> bool:
    """Return whether the columns whose squares are tiny are constant, but for rounding."""
    small = np.flatnonzero(squares < LEAST_MEAN_SQUARE)
    return len(small) == 0 or not system.varies(small, EPS)


def k_fold(
    task: Task, alphas: Sequence[float], folds: Iterable[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    """Return the mean squared error on each fold, (n_alphas, n_folds), as the mean over targets.

    `folds` has the numbers of the rows to fit and of those to judge, in which rows may repeat.
    """
    penalties = np.asarray(alphas, dtype=np.float64)
    counted = _counted(task, folds)
    if is_wide(task) and task.problem.is_smooth(alphas):
        found = _wide_errors(task, penalties, list(counted))
    elif task.problem.constraints is not None or (
        is_wide(task) and working_sets_pay(task.problem, alphas)
    ):
        found = _refitted(task, penalties, counted)
    else:
        found = _tall_errors(task, penalties, counted)
    t = task.problem.y.shape[1]
    return np.array([errors / (task.weights[test].sum() * t) for test, errors in found]).T


def _counted(task: Task, folds):
    """The folds, each of which must have weight on either side."""
    for k, (train, test) in enumerate(folds):
        for rows, which in ((train, "fitted"), (test, "judged")):
            if not task.weights[rows].any():
                raise ValueError(
                    f"sample_weight is all zero in a fold or outside it: on the rows to be "
                    f"{which} of fold {k}."
                )
        yield train, test


def _tall_errors(task: Task, penalties: np.ndarray, folds):
    """Rows to judge and sums of squared errors of each fold, by sums over rows."""
    whole = make_system(task.kernels, task.problem, task.n_threads)
    whole.find_centre()
    total = _sums(task, np.arange(whole.n), whole)
    for train, test in folds:
        yield test, _Fold(task, whole, train, test).errors(total, penalties)


def _refitted(task: Task, penalties: np.ndarray, folds):
    """The same from a path on each fold's own rows."""
    for train, test in folds:
        counts = np.bincount(train, minlength=len(task.weights))
        yield test, refit_errors(task, counts, test, penalties)


def _wide_errors(task: Task, penalties: np.ndarray, folds):
    """The same from the rows' own matrix; by refits where that leaves too much to rounding."""
    for (train, test), errors in zip(folds, wide_folds(task, penalties, folds), strict=True):
        open_alphas = np.flatnonzero(np.isnan(errors))
        if len(open_alphas):
            counts = np.bincount(train, minlength=len(task.weights))
            errors[open_alphas] = refit_errors(task, counts, test, penalties[open_alphas])
        yield test, errors


@dataclass
class _FoldSums:
    """Sums over some rows, about the mean of all rows, so that little cancels."""

    xx: np.ndarray  # (d, d)
    xy: np.ndarray  # (d, t)
    x: np.ndarray  # (d,)
    y: np.ndarray  # (t,)
    yy: np.ndarray  # (t,)
    weight: float

    def __sub__(self, other: _FoldSums) -> _FoldSums:
        return _FoldSums(*(a - b for a, b in zip(self.parts(), other.parts(), strict=True)))

    def __add__(self, other: _FoldSums) -> _FoldSums:
        return _FoldSums(*(a + b for a, b in zip(self.parts(), other.parts(), strict=True)))

    def parts(self) -> tuple:
        return self.xx, self.xy, self.x, self.y, self.yy, self.weight

    def moments(self, fit_intercept: bool) -> _FitMoments:
        xx, xy = self.xx / self.weight, self.xy / self.weight
        x, y = self.x / self.weight, self.y / self.weight
        if fit_intercept:
            xx, xy = xx - np.outer(x, x), xy - np.outer(x, y)
        return _FitMoments(xx, xy, x, y)

    def errors(self, coefs: np.ndarray, intercepts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the squared residuals of weights (k, t, d), summed over rows and targets.

        The second value has the sums of the absolute terms.
        """
        quadratic = np.einsum("ktd,ktd->kt", coefs @ self.xx, coefs)
        cross = 2.0 * np.einsum("ktd,dt->kt", coefs, self.xy)
        slope, offset = 2.0 * intercepts * (coefs @ self.x), 2.0 * intercepts * self.y
        squares = self.weight * intercepts**2
        errors = quadratic - cross + self.yy + slope - offset + squares
        terms = (quadratic, cross, self.yy, slope, offset, squares)
        sizes = np.zeros_like(errors)
        for term in terms:
            sizes = sizes + np.abs(term)
        return errors.sum(axis=1), sizes.sum(axis=1)


@dataclass
class _FitMoments:
    """Means of squares and products of the rows to fit; with an intercept, about their mean."""

    xx: np.ndarray  # (d, d)
    xy: np.ndarray  # (d, t)
    x: np.ndarray  # (d,)  their mean, about that of all rows
    y: np.ndarray  # (t,)


def _sums(task: Task, rows: np.ndarray, whole: System) -> _FoldSums:
    """Return the sums over these rows, of which a few are copied at a time."""
    total = None
    for X, y, where in pieces(task.problem, rows):
        weights = task.weights[rows[where]]
        s = None
        if task.problem.sample_weight is not None:
            s = weights.astype(task.problem.y.dtype)
        y = np.asarray(y)
        if y.dtype == np.float64:  # float32 numbers would be rounded by the subtraction
            y = y - whole.y_centre
        found = call_gram(task.kernels, X, y, s, whole.centre, task.n_threads)
        xy, centred = found.xy, y
        if y.dtype != np.float64:
            xy = xy - np.outer(found.x, whole.y_centre)
            centred = y.astype(np.float64) - whole.y_centre
        y_sums = weights @ centred, weights @ (centred * centred)
        part = _FoldSums(found.xx, xy, found.x, *y_sums, found.weight)
        total = part if total is None else total + part
    assert total is not None
    return total


class _Fold:
    """One division of the rows into those to fit and those to judge."""

    def __init__(self, task: Task, whole: System, train: np.ndarray, test: np.ndarray) -> None:
        self.task, self.whole, self.train, self.test = task, whole, train, test

    def errors(self, total: _FoldSums, alphas: np.ndarray) -> np.ndarray:
        """Return the sum of squared errors for each alpha, from sums, residuals or refits."""
        judged = _sums(self.task, self.test, self.whole)
        moments = self._moments(total, judged)
        errors = np.full(len(alphas), np.nan)
        if moments is not None:
            which, coefs, noise = self._fits(moments, alphas)
            if len(which):
                errors[which] = self._judged(moments, judged, coefs, noise)
        open_alphas = np.flatnonzero(np.isnan(errors))
        if len(open_alphas):
            counts = np.bincount(self.train, minlength=self.whole.n)
            errors[open_alphas] = refit_errors(self.task, counts, self.test, alphas[open_alphas])
        return errors

    def _moments(self, total: _FoldSums, judged: _FoldSums) -> _FitMoments | None:
        """Return the moments of the rows to fit; None where their squares overflow."""
        whole, task = self.whole, self.task
        if is_division(whole.n, self.train, self.test):
            moments = self._subtracted(total, judged)
            if moments is not None:
                return moments
        counts = np.bincount(self.train, minlength=whole.n)
        part = make_system(task.kernels, restricted(task.problem, counts), task.n_threads)
        try:
            xx, xy = part.centred_gram()
        except NotTrustworthy:
            return None
        x, y = part.centre - whole.centre, part.y_centre - whole.y_centre
        return _FitMoments(xx / part.weight, xy / part.weight, x, y)

    def _subtracted(self, total: _FoldSums, judged: _FoldSums) -> _FitMoments | None:
        """Return the moments of all rows less the fold's; None where too much cancels."""
        rest = total - judged
        if not rest.weight * CANCELLED > total.weight:
            return None
        moments = rest.moments(self.whole.fit_intercept)
        left = np.diag(moments.xx) * rest.weight
        before = np.diag(total.xx)
        if not (left[before > 0.0] * CANCELLED > before[before > 0.0]).all():
            return None
        return moments

    def _fits(self, moments: _FitMoments, alphas: np.ndarray):
        """Return for which alphas the moments suffice, weights (k, t, d), and relative noise."""
        weight = float(self.task.weights[self.train].sum())
        squares = np.diag(moments.xx).copy()
        if not in_range(squares):
            return np.zeros(0, dtype=int), np.zeros(0), 0.0
        squares[self.whole.columns_scale(weight * squares) == 0.0] = 0.0
        if self.task.problem.is_smooth(alphas):
            return _ridge_fits(moments, squares, alphas)
        return _sparse_fits(self.task, moments, squares, alphas)

    def _judged(self, moments: _FitMoments, judged: _FoldSums, coefs: np.ndarray, noise):
        """Return the errors of these fits; NaN where the moments' rounding would show.

        `noise`, relative, is that of each fit, or of all.
        """
        whole = self.whole
        intercepts = np.zeros(coefs.shape[:2])
        if whole.fit_intercept:
            intercepts = moments.y - coefs @ moments.x
        errors, terms = judged.errors(coefs, intercepts)
        cancelled = np.flatnonzero(~(errors * ACCURACY > 100.0 * EPS * terms))
        if len(cancelled):
            shifted = intercepts[cancelled] + whole.y_centre - coefs[cancelled] @ whole.centre
            errors[cancelled] = squared_errors(self.task, self.test, coefs[cancelled], shifted)
        errors[errors * (ACCURACY / noise) ** 2 < 0.25 * terms] = np.nan
        return errors


def _ridge_fits(moments: _FitMoments, squares: np.ndarray, alphas: np.ndarray):
    order = np.argsort(-alphas, kind="stable")
    which: list[int] = []
    coefs: list[np.ndarray] = []
    noise = 0.0
    for part, basis in gram_bases(moments.xx, moments.xy, squares, alphas[order]):
        F = basis.factors(alphas[order[part]])  # (k, n_alphas)
        turned = F.T[:, :, None] * basis.slopes  # (n_alphas, k, t)
        which.extend(order[part].tolist())
        coefs.extend((basis.U @ turned).transpose(0, 2, 1))
        noise = max(noise, basis.noise)
    return np.array(which, dtype=int), np.array(coefs), noise


def _sparse_fits(task: Task, moments: _FitMoments, squares: np.ndarray, alphas: np.ndarray):
    """Fit a path, each alpha from the one before.

    A solution is trusted where the columns of nonzero weight are well-conditioned, and where it is
    clear which columns have one.
    """
    out = squares == 0.0
    H, c = moments.xx.copy(), moments.xy.T.copy()
    H[out], H[:, out], c[:, out] = 0.0, 0.0, 0.0
    problems = [DescentQuadratic(H, row, task.kernels, is_path=True) for row in c]
    coef, coefs, conditions = np.zeros_like(c), [], []
    for alpha in alphas:
        penalty, worst = task.problem.penalty(alpha), np.inf
        pairs = zip(problems, coef, strict=True)
        coef = np.array([q.minimise(penalty, w, min(task.tol, 1e-12))[0] for q, w in pairs])
        if not task.problem.is_smooth([alpha]) and _is_clear(problems, penalty, coef):
            worst = max(_condition(H, squares, np.flatnonzero(w), penalty.l2) for w in coef)
        coefs.append(coef)
        conditions.append(worst)
    noise = SUMS_NOISE * np.array(conditions) ** 2
    which = np.flatnonzero(noise <= ACCURACY)
    return which, np.array(coefs)[which], noise[which]


def _is_clear(problems: Sequence[Quadratic], penalty: Penalty, coef: np.ndarray) -> bool:
    """Return whether it is clear which weights are zero.

    Without an L2 penalty, a column that meets its bound at zero may replace others. With one there
    is a single solution, but rounding of the gradient may exceed a very small L1 penalty.
    """
    tied = TIED if penalty.l2 == 0.0 else ROUNDED
    for quadratic, w in zip(problems, coef, strict=True):
        slope = -quadratic.gradient(w)  # of a column of weight zero, with any penalty
        slope = slope if penalty.positive else np.abs(slope)
        limit = penalty.l1 - tied * quadratic.units(penalty)
        if (slope > limit)[(w == 0.0) & (quadratic.diagonal > 0.0)].any():
            return False
    return True


def _condition(H: np.ndarray, squares: np.ndarray, where: np.ndarray, l2: float) -> float:
    """Return the condition of these scaled columns with the penalty; infinite if singular."""
    if len(where) == 0:
        return 1.0
    scale = 1.0 / np.sqrt(squares[where] + l2)
    try:
        return cholesky_factor(H[np.ix_(where, where)], l2, scale).condition
    except NotTrustworthy:
        return np.inf
