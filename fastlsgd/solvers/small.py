"""Least squares of few numbers: what `least_squares.py` does by its Gram matrix, in few calls.

For 20 rows of 3 columns the arithmetic takes less than a microsecond, and each call of NumPy or
LAPACK one or two. So this module makes the calls that the answer needs and no others: the moments
about the mean, the Cholesky factor of the scaled columns and its condition, and one or two passes
over the true residual (the refinement and the certificate of `conjugate.py`). A backend may have
all of that as one function, `small_least_squares`, as `native` does, and `small_weights` for those
who ask for nothing but the weights: lstsq takes 9 microseconds with both, 20 with the former alone,
and 57 with neither. Problems that are out of the ordinary (units of extreme size, constant columns,
a large condition, a descent that rounding ends early) are left to the general path, since this one
has no remedies.

float32 rows are computed with in float64, since a copy of so few numbers costs nothing: their sums
need no allowance for the rounding of float32 products.

Nothing here starts a thread: the kernels get one, and BLAS does not divide such small work.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import sub, truediv
from typing import NamedTuple, TypeGuard

import numpy as np
from scipy.linalg import lapack

from ..kernels.contract import Kernels, Matrix
from ..kernels.optional import has_small_kernels
from .conjugate import ROUNDING, SAFETY, SHARP, Goal
from .factors import EPS, GRAM_CONDITION, NotTrustworthy, TriangularFactor, upper_of
from .solution import Solution
from .system import EPS_OF, FAR, FAR_SHARE
from .training import TrainingData
from .weights import WEIGHT_EXPONENT

# How many numbers X may have, how many columns, and how many targets. For more of them BLAS would
# use threads, and the calls of the general path are no longer what takes the time.
SMALL_NUMBERS = 20_000
SMALL_COLUMNS = 64
SMALL_TARGETS = 16
# Sums of squares between these are far from overflow and underflow, and so are their products.
LEAST_SQUARE, MOST_SQUARE = 1e-190, 1e190
SMALL_DTYPES = (np.dtype(np.float64), np.dtype(np.float32))
ROUNDING_OF = {dtype: ROUNDING[dtype.name] for dtype in SMALL_DTYPES}  # `name` takes a microsecond
# In an ordinary problem, one step corrects the weights and one more verifies them.
MOST_CORRECTIONS = 2


class Ordinary(NamedTuple):
    """What counts as ordinary, for one dtype of X."""

    least_square: float
    most_square: float
    far: float  # the mean of a target, in its standard deviations
    noise: float  # the least deviation of a column, relative to its mean


class Limits(NamedTuple):
    """How far a compiled `small_least_squares` descends, for one dtype of X."""

    most_condition: float
    sharp: float
    safety: float
    rounding: float
    most_corrections: int


# Columns that may be constant are not ordinary, nor, in float64, those that are far from zero.
LEAST_DEVIATION = {
    np.dtype(np.float32): 4.0 * EPS_OF[np.dtype(np.float32)],
    np.dtype(np.float64): EPS / FAR_SHARE[np.dtype(np.float64)],
}
ORDINARY = {
    dtype: Ordinary(LEAST_SQUARE, MOST_SQUARE, FAR, LEAST_DEVIATION[dtype])
    for dtype in SMALL_DTYPES
}
LIMITS = {
    dtype: Limits(GRAM_CONDITION, SHARP, SAFETY, ROUNDING_OF[dtype], MOST_CORRECTIONS)
    for dtype in SMALL_DTYPES
}
# The same as plain tuples, which compiled code reads at once.
AS_TUPLES = {dtype: (tuple(ORDINARY[dtype]), tuple(LIMITS[dtype])) for dtype in SMALL_DTYPES}


def small_weights(
    kernels: Kernels, X: Matrix, y: np.ndarray, s: np.ndarray | None, alpha: float, goal: Goal
) -> np.ndarray | None:
    """Return the weights (d, t) in X's dtype, without an intercept; None as `solve_small` does.

    None also without compiled kernels, and where a weight is zero or not normal in X's dtype.
    """
    if not (has_small_kernels(kernels) and _is_small(X, y, s)):
        return None
    ordinary, limits = AS_TUPLES[X.dtype]
    return kernels.small_weights(X, y, s, alpha, ordinary, limits, goal.tol, goal.max_iter)


def solve_small(
    data: TrainingData, alphas: Sequence[float], goal: Goal, *, fit_intercept: bool
) -> list[Solution] | None:
    """Return the solutions of `solve_least_squares`, or None to leave the problem to that."""
    X, kernels = data.X, data.kernels
    if not _is_small(X, data.y, data.sample_weight):
        return None
    ordinary, limits = ORDINARY[X.dtype], LIMITS[X.dtype]
    if not has_small_kernels(kernels):
        with np.errstate(over="ignore", invalid="ignore"):
            return _solutions(data, alphas, goal, fit_intercept)
    fits = kernels.small_least_squares(
        X,
        data.y,
        data.sample_weight,
        alphas,
        fit_intercept,
        ordinary,
        limits,
        goal.tol,
        goal.max_iter,
        goal.certify,
    )
    return None if fits is None else [_solution_of(fit) for fit in fits]


def _solution_of(fit: tuple) -> Solution:
    coef, intercept, residual, upper, scale, centre, losses, condition, ratio, n_iter = fit
    factor = TriangularFactor(upper, scale, condition)
    return Solution(coef, intercept, "gram", n_iter, condition, np.sqrt(residual), losses,
                    ratio, True, factor, centre)  # fmt: skip


def _solutions(
    data: TrainingData, alphas: Sequence[float], goal: Goal, fit_intercept: bool
) -> list[Solution] | None:
    """Return what compiled kernels do, in NumPy."""
    ordinary, limits = ORDINARY[data.X.dtype], LIMITS[data.X.dtype]
    data = data._replace(X=np.asarray(data.X).astype(np.float64, copy=False))
    moments = _moments_about_mean(data, ordinary) if fit_intercept else _moments(data)
    if moments is None:
        return None
    solutions = []
    for alpha in alphas:
        found = _solution(data, moments, alpha, goal, limits)
        if found is None:
            return None
        solutions.append(found)
    return solutions


def is_small_problem(data: TrainingData) -> bool:
    return _is_small(data.X, data.y, data.sample_weight)


def _is_small(X: Matrix, y: np.ndarray, s: np.ndarray | None) -> TypeGuard[np.ndarray]:
    if type(X) is not np.ndarray or type(y) is not np.ndarray or X.size > SMALL_NUMBERS:
        return False
    n, d = X.shape
    if not (
        d <= n and d <= SMALL_COLUMNS and y.shape[1] <= SMALL_TARGETS and X.dtype in SMALL_DTYPES
    ):
        return False
    return s is None or 2.0**-WEIGHT_EXPONENT < s.max() < 2.0**WEIGHT_EXPONENT


class _Moments(NamedTuple):
    xx: np.ndarray  # (d, d)  A^T A
    yx: np.ndarray  # (t, d)  y^T A
    squares: np.ndarray  # (d,)  the diagonal of A^T A
    centre: np.ndarray | None  # (d,)  None without an intercept
    y_centre: np.ndarray  # (t,)
    weight: float


def _moments(data: TrainingData) -> _Moments | None:
    """Return the moments about zero; None where a column or a target is out of the ordinary."""
    X, y, s = data.X, data.y, data.sample_weight
    assert isinstance(X, np.ndarray)
    xx, xy, _, y_sum, weight = data.kernels.gram(X, y, s, None, 1)
    squares = xx.diagonal()
    if not _are_ordinary(squares, _squared_targets(y, s)):
        return None
    return _Moments(xx, xy.T, squares, None, np.zeros(len(y_sum)), weight)


def _moments_about_mean(data: TrainingData, ordinary: Ordinary) -> _Moments | None:
    """Return the moments about the mean; None as `_moments` does, and for constant columns."""
    X, y, s = data.X, data.y, data.sample_weight
    assert isinstance(X, np.ndarray)
    y_squares = _squared_targets(y, s)
    if s is None:
        origin = np.add.reduce(X, axis=0, dtype=np.float64) / len(X)
    else:
        shares = s.astype(np.float64)
        origin = shares @ X / shares.sum()
    xx, xy, x, y_sum, weight = data.kernels.gram(X, y, s, origin, 1)
    off = x / weight
    centre, y_centre = origin + off, y_sum / weight
    xx, yx = xx - np.multiply.outer(x, off), xy.T - np.multiply.outer(y_sum, off)
    squares, noise = xx.diagonal(), ordinary.noise
    if not _are_ordinary(squares, y_squares):
        return None
    # The mean of y may be at most `FAR` standard deviations.
    is_near = (FAR**2 + 1.0) * y_centre * y_centre < FAR**2 / weight * y_squares
    if not is_near.all() or not (squares > weight * noise**2 * centre * centre).all():
        return None
    return _Moments(xx, yx, squares, centre, y_centre, weight)


def _squared_targets(y: np.ndarray, s: np.ndarray | None) -> np.ndarray:
    if s is None and y.shape[1] == 1 and y.dtype == np.float64:
        return y[:, 0] @ y
    if s is None:
        return np.einsum("nt,nt->t", y, y, dtype=np.float64)
    return np.einsum("nt,nt,n->t", y, y, s, dtype=np.float64)


def _are_ordinary(squares: np.ndarray, y_squares: np.ndarray) -> bool:
    """Return whether no sum of squares is near the ends of float64's range, zero or NaN."""
    # For so few numbers, lists are quicker than reductions.
    both = squares.tolist() + y_squares.tolist()
    return all(LEAST_SQUARE < square < MOST_SQUARE for square in both)


def _solution(
    data: TrainingData, moments: _Moments, alpha: float, goal: Goal, limits: Limits
) -> Solution | None:
    """Return what Cholesky and at most two steps of refinement give, if that is certain."""
    kernels, X, y, s, _ = data
    assert isinstance(X, np.ndarray)
    xx, yx, squares, centre, y_centre, weight = moments
    factor = _factor(xx, squares, alpha)
    if factor is None:
        return None
    # R^-1 D: products with it take a quarter of the time of triangular solves. Refinement removes
    # its rounding as it does that of R.
    T = lapack.dtrtri(factor.upper)[0] * factor.scale[:, None]
    z = yx @ T
    units = _squares(z)
    if not min(units) > 0.0:
        return None
    coef, rounding = z @ T.T, limits.rounding
    intercept = y_centre if centre is None else y_centre - coef @ centre
    last, losses = 1.0, []
    for _ in range(min(goal.max_iter, MOST_CORRECTIONS)):
        loss, dw, db = kernels.loss_gradient(X, y, coef, intercept, s, 1)
        slope, residual = weight * dw, 2.0 * weight * loss
        total = residual
        if alpha > 0.0:
            slope += alpha * coef
            total = residual + alpha * (coef * coef).sum(axis=1)
        losses.append(0.5 * sum(total.tolist()))
        if centre is not None:
            slope -= np.multiply.outer(weight * db, centre)
            lost = weight * db * db
            residual, total = residual - lost, total - lost
            intercept = intercept - db
        z = slope @ T
        moved = _squares(z)
        ratios = list(map(truediv, moved, units))
        if not all(square <= (SHARP * last) ** 2 for square in ratios):  # nor NaN
            return None
        ratio = math.sqrt(max(ratios))
        share = math.sqrt(max(min(map(truediv, total.tolist(), units)), 0.0))
        asked = max(max(goal.tol, rounding) * min(share, 1.0), rounding)
        move = z @ T.T
        coef = coef - move
        if centre is not None:
            intercept = intercept + move @ centre
        # A step that is expected to end far below the goal is not checked by another pass.
        ahead = ratio * ratio / last
        is_safe = not goal.certify and SAFETY * ahead * factor.condition <= asked
        if ratio <= asked or is_safe:
            left = residual.tolist()
            if not max(left) < MOST_SQUARE:
                return None
            if ratio > asked:
                left, ratio = list(map(sub, left, moved)), ahead
            norm = np.array([math.sqrt(max(square, 0.0)) for square in left])
            centre = np.zeros(len(squares)) if centre is None else centre
            return Solution(coef, intercept, "gram", len(losses), factor.condition, norm, losses,
                            ratio, True, factor, centre)  # fmt: skip
        last = ratio
    return None


def _factor(xx: np.ndarray, squares: np.ndarray, alpha: float) -> TriangularFactor | None:
    """Return the factor that `cholesky_factor` would, or None where it cannot be trusted."""
    scale = 1.0 / np.sqrt(squares + alpha)
    scaled = xx * np.multiply.outer(scale, scale)
    if alpha > 0.0:
        scaled.flat[:: len(scale) + 1] = 1.0
    upper = upper_of(scaled)
    if upper is None:
        return None
    try:
        factor = TriangularFactor(upper, scale)
    except NotTrustworthy:
        return None
    return factor if factor.condition <= GRAM_CONDITION else None


def _squares(z: np.ndarray) -> list[float]:
    """Return the squared norm of each row."""
    if len(z) == 1:
        return [float(z[0] @ z[0])]
    return (z * z).sum(axis=1).tolist()
