"""Cross-validation of least squares from sums: no fold is ever fitted by itself.

Leave-one-out for an L2 penalty is exact from one fit: the residual of row i, were it left out, is
r_i / (1 - h_i) with h_i = x_i^T (X^T X + alpha I)^-1 x_i the leverage (Allen 1974, Technometrics
16(1); Golub, Heath and Wahba 1979, Technometrics 21(2)). Weighted rows: h_i times s_i, plus the
intercept's s_i / S.

Folds: the Gram matrix of the rows outside a fold is that of all rows less the fold's. Each is
fitted in d^3, whatever the number of rows, and judged by the fold's own sums:
|X w + b - y|^2 = w^T X^T X w - 2 w^T X^T y + y^T y, about the mean of all rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..kernels.contract import Kernels, working_dtype
from .eigen import eigh
from .factors import EPS, TINY
from .metric import RANK_TOLERANCE
from .proximal_newton import Quadratic
from .regression import Problem, make_system
from .rows import take_rows
from .system import System


def default_alphas(
    kernels: Kernels, problem: Problem, n_threads: int, count: int = 100
) -> np.ndarray:
    """Strong penalties first. With L1, from the one at which all weights are zero down to 1e-3
    of it; else from far above the mean square of the largest column to far below the least's."""
    system = make_system(kernels, problem, n_threads)
    xx, xy = system.centred_gram()
    if problem.l1_ratio > 0.0:
        slope = xy if problem.positive else np.abs(xy)
        largest = float(slope.max(initial=0.0)) / (system.weight * problem.l1_ratio)
        return max(largest, TINY) * np.geomspace(1.0, 1e-3, count)
    squares = np.diag(xx) / system.weight
    squares = squares[system.columns_scale(np.diag(xx)) > 0.0]
    if len(squares) == 0:
        return np.geomspace(1.0, 1e-3, count)
    return np.geomspace(1e2 * float(squares.max()), 1e-4 * float(squares.min()), count)


def leave_one_out(
    kernels: Kernels, problem: Problem, alphas: Sequence[float], n_threads: int
) -> np.ndarray:
    """Mean squared error of each row's prediction without it, (n_alphas,), mean over targets.

    Cost: a Gram matrix, its eigenvalues, and one pass with 2 n d^2 flops for all alphas.
    """
    system = make_system(kernels, problem, n_threads)
    xx, xy = system.centred_gram()
    U, values, shrink = _diagonalised(xx, system.columns_scale(np.diag(xx)))
    slopes = U.T @ xy  # (k, t)
    shrunk = values[:, None] + np.multiply.outer(shrink, system.weight * np.asarray(alphas))
    errors = np.zeros(len(alphas))
    for start, stop, A, y in system.chunks():
        own = np.full(stop - start, 1.0 / system.weight if problem.fit_intercept else 0.0)
        if problem.sample_weight is not None:
            own *= problem.sample_weight[start:stop]
        Z = A @ U
        leverage = (Z * Z) @ (1.0 / shrunk) + own[:, None]  # (rows, n_alphas)
        for k in range(len(alphas)):
            left_out = y - Z @ (slopes / shrunk[:, k : k + 1])
            left_out /= np.maximum(1.0 - leverage[:, k : k + 1], EPS)
            errors[k] += float((left_out**2).sum())
    return errors / (system.weight * system.t)


def _diagonalised(H: np.ndarray, scale: np.ndarray):
    """U, values, shrink: U^T H U = diag(values) and U^T U = diag(shrink), for any alpha at once.

    Of columns scaled to norm 1, so that units don't count as rounding; where columns depend on
    each other, of H itself, whose null space then stays out.
    """
    scaled = scale[:, None] * H * scale
    values, vectors = eigh(scaled)
    counts = int((scale > 0.0).sum())
    keep = values > RANK_TOLERANCE * max(float(values[-1]), TINY)
    if keep.sum() == counts:
        whiten = vectors[:, keep] / np.sqrt(values[keep])
        shrink, turn = eigh((whiten.T * scale**2) @ whiten)
        return scale[:, None] * (whiten @ turn), np.ones(counts), shrink
    values, vectors = eigh(np.where(np.outer(scale, scale) > 0.0, H, 0.0))
    keep = values > EPS * len(values) * max(float(values[-1]), TINY)
    return vectors[:, keep], values[keep], np.ones(int(keep.sum()))


@dataclass
class _Sums:
    """About the mean of all rows, so that little cancels."""

    xx: np.ndarray  # (d, d)
    xy: np.ndarray  # (d, t)
    x: np.ndarray  # (d,)
    y: np.ndarray  # (t,)
    yy: np.ndarray  # (t,)
    weight: float

    def __sub__(self, other: _Sums) -> _Sums:
        return _Sums(
            self.xx - other.xx,
            self.xy - other.xy,
            self.x - other.x,
            self.y - other.y,
            self.yy - other.yy,
            self.weight - other.weight,
        )

    def centred(self, fit_intercept: bool) -> tuple[np.ndarray, np.ndarray]:
        """X^T X and X^T y about the rows' own mean, over their weight."""
        xx, xy = self.xx / self.weight, self.xy / self.weight
        if not fit_intercept:
            return xx, xy
        x, y = self.x / self.weight, self.y / self.weight
        return xx - np.outer(x, x), xy - np.outer(x, y)

    def error(self, coef: np.ndarray, intercept: np.ndarray) -> float:
        """Sum of squared residuals of weights (t, d), over targets."""
        quadratic = np.einsum("td,de,te->t", coef, self.xx, coef)
        cross = np.einsum("td,dt->t", coef, self.xy)
        linear = intercept * (coef @ self.x - self.y)
        squares = quadratic - 2.0 * cross + self.yy + 2.0 * linear + self.weight * intercept**2
        return float(np.maximum(squares, 0.0).sum())


def k_fold(
    kernels: Kernels,
    problem: Problem,
    alphas: Sequence[float],
    folds: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    tol: float,
    n_threads: int,
) -> np.ndarray:
    """Mean squared error on each fold, (n_alphas, n_folds), mean over targets.

    `folds`: row numbers to fit and row numbers to judge, as scikit-learn's splitters give them.
    """
    whole = make_system(kernels, problem, n_threads)
    whole.find_centre()
    n, errors = problem.X.shape[0], []
    total = _sums(kernels, problem, None, whole, n_threads)
    for train, test in folds:
        judged = _sums(kernels, problem, test, whole, n_threads)
        if len(train) + len(test) == n:
            fitted = total - judged
        else:
            fitted = _sums(kernels, problem, train, whole, n_threads)
        if not (fitted.weight > 0.0 and judged.weight > 0.0):
            raise ValueError("sample_weight is all zero in a fold or outside it.")
        scale = 1.0 / (judged.weight * problem.y.shape[1])
        fits = _fits(problem, whole, fitted, alphas, tol)
        errors.append([scale * judged.error(coef, intercept) for coef, intercept in fits])
    return np.array(errors).T


def _sums(kernels, problem: Problem, rows: np.ndarray | None, whole, n_threads: int) -> _Sums:
    """Of these rows (None: all); a fold's rows are copied, one fold at a time."""
    X, y, s = problem.X, problem.y, problem.sample_weight
    if rows is not None:
        X, y, s = take_rows(X, rows), y[rows], None if s is None else s[rows]
    y = y.astype(np.float64) - whole.y_centre
    weights = np.ones(len(y)) if s is None else s.astype(np.float64)
    moments = kernels.gram(X, np.asarray(y, working_dtype(X)), s, whole.centre, n_threads)
    sums = weights @ y, weights @ (y * y)
    return _Sums(moments.xx, moments.xy, moments.x, *sums, moments.weight)


def _fits(problem: Problem, whole: System, sums: _Sums, alphas, tol: float):
    """Weights and intercept (about the mean of all rows) for each alpha."""
    H, c = sums.centred(problem.fit_intercept)
    if problem.is_smooth(alphas):
        coefs = _ridge_fits(H, c, whole.columns_scale(sums.weight * np.diag(H)), alphas)
    else:
        coefs = _sparse_fits(problem, H, c.T, alphas, tol)
    mean_x, mean_y = sums.x / sums.weight, sums.y / sums.weight
    for coef in coefs:
        intercept = mean_y - coef @ mean_x if problem.fit_intercept else np.zeros(len(coef))
        yield coef, intercept


def _ridge_fits(H: np.ndarray, c: np.ndarray, scale: np.ndarray, alphas):
    U, values, shrink = _diagonalised(H, scale)
    slopes = U.T @ c
    for alpha in alphas:
        yield (U @ (slopes / (values + alpha * shrink)[:, None])).T


def _sparse_fits(problem: Problem, H: np.ndarray, c: np.ndarray, alphas, tol: float):
    problems = [Quadratic(H, row) for row in c]
    coef = np.zeros_like(c)
    for alpha in alphas:
        penalty = problem.penalty(alpha)
        coef = np.array(
            [
                quadratic.minimise(penalty, w, tol * max(float(np.abs(row).max()), penalty.l1))[0]
                for quadratic, w, row in zip(problems, coef, c, strict=True)
            ]
        )
        yield coef
