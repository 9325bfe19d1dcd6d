"""Least squares to one target per class, where the classes are many: no array of rows x classes.

A target is 1 in the rows of its class and -1 elsewhere, so that X^T Y consists of the sums of the
rows of each class, in n d additions in place of n d K multiplications. With the Cholesky factor of
A^T A, the weights take d^2 K operations more.

Other solvers correct and certify each target by passes over X. Here a few random combinations of
all targets are solved in that way, each target weighed by its size. Solutions are linear in the
targets, so that the same combinations of the weights must agree with these: if one class were
wrong, its error would be in all of them. Where they do not agree to the tolerance, or the factor is
not good enough, the general way takes over, with dense targets.

Cost: A^T A, d^2 K, and a few passes over X of `COMBINATIONS` targets. Memory: O(K d), and A^T A.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import sparse

from .._threads import FEW_THREADED_PRODUCTS, is_small
from ..kernels.contract import CSR, Kernels, Matrix, working_dtype
from ..kernels.device import lives_on_device
from .conjugate import ROUNDING
from .factors import NotTrustworthy
from .least_squares import FACTOR_FEATURES, ROUGH_CONDITION, Request, from_gram
from .solution import Solution
from .system import DENSE_NUMBERS, System
from .threaded_products import cut, in_parts
from .weights import WEIGHT_EXPONENT

FEW_CLASSES = 16  # up to so many, dense targets are as quick
# Where A^T A has more columns per class, conjugate gradients on all targets may be quicker.
COLUMNS_PER_CLASS = 80
COMBINATIONS = 4
# From so many classes on, BLAS has scores sooner than the `predict` kernel.
MANY_CLASSES = {"float32": 48, "float64": 500}
CANCELLED, SOME_CLASSES = 16.0, 32
LARGEST_TERM = 1e37  # no sum of float32 numbers that are bounded by it overflows
SCORES_AT_A_TIME = 2**21
# Residuals smaller than this share of the targets would be lost in a difference of squares.
LEAST_RESIDUAL = 1e-6


@dataclass(frozen=True)
class ClassTargets:
    """The targets of -1 and 1 as the number of each row's class; rows of it are made on demand."""

    codes: np.ndarray  # (n,)
    count: int
    dtype: np.dtype

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.codes), self.count

    def __getitem__(self, rows) -> np.ndarray:
        out = np.full((len(self.codes[rows]), self.count), -1, self.dtype)
        out[np.arange(len(out)), self.codes[rows]] = 1
        return out


def solve_classes(
    kernels: Kernels,
    X: Matrix,
    targets: ClassTargets,
    sample_weight: np.ndarray | None,
    alpha: float,
    *,
    fit_intercept: bool,
    request: Request,
    n_threads: int,
) -> Solution | None:
    """Minimise 1/2 sum_i s_i (x_i . w + b - y_i)^2 + alpha/2 |w|^2 for each class.

    Return None where the general way has to do it, or is as quick.
    """
    if not _is_suited(X, targets, sample_weight):
        return None
    counts = np.bincount(targets.codes, sample_weight, targets.count).astype(np.float64)
    weight = float(counts.sum())
    mean = 2.0 * counts / weight - 1.0
    squares = weight * (1.0 - mean * mean) if fit_intercept else np.full(targets.count, weight)
    if not squares.min() > 0.0:
        return None
    Z = np.random.default_rng(request.seed).normal(size=(targets.count, COMBINATIONS))
    Z /= np.sqrt(squares)[:, None]
    combined = 2.0 * Z[targets.codes] - Z.sum(axis=0)
    s = None if sample_weight is None else sample_weight.astype(np.float64)
    system = System(
        kernels, X, combined, s, alpha=alpha, fit_intercept=fit_intercept, n_threads=n_threads
    )
    system.is_far = True  # float32 products would be rounded more coarsely than the comparison
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            xx, xy = system.centred_gram()
            most = ROUGH_CONDITION * np.sqrt(system.d)
            found = from_gram(system, request, xx, xy, most)
            return _of_all(system, found, targets, (mean, squares), Z, request)
    except NotTrustworthy:
        return None


def _is_suited(X: Matrix, targets: ClassTargets, sample_weight: np.ndarray | None) -> bool:
    n, d = X.shape
    if lives_on_device(X) or isinstance(X, CSR) or n < d or targets.count <= FEW_CLASSES:
        return False
    if d > min(FACTOR_FEATURES, COLUMNS_PER_CLASS * targets.count):
        return False
    if sample_weight is None:
        return True
    return bool(2.0**-WEIGHT_EXPONENT < sample_weight.max() < 2.0**WEIGHT_EXPONENT)


def _of_all(
    system: System,
    found: Solution,
    targets: ClassTargets,
    sizes: tuple[np.ndarray, np.ndarray],
    Z: np.ndarray,
    request: Request,
) -> Solution | None:
    """Return the solution for all classes, if its combinations are those that were `found`."""
    (mean, squares), factor, alpha = sizes, found.factor, system.alpha
    xx, _ = system.centred_gram()
    if factor is None or not found.converged:
        return None
    xy = _class_sums(system, targets)
    z = factor.whiten(xy)
    coef = factor.unwhiten(z)
    explained, penalty = (z * z).sum(axis=1), alpha * (coef * coef).sum(axis=1)
    residual = squares - explained - penalty
    if not (residual >= LEAST_RESIDUAL * squares).all():
        return None
    apart = Z.T @ coef - found.coef
    error = np.sqrt(((apart @ xx + alpha * apart) * apart).sum() / COMBINATIONS)
    unit = np.sqrt(explained)
    if not unit.min() > 0.0:
        return None
    relative = max(found.relative_gradient, float(error * (np.sqrt(squares) / unit).max()))
    rounding = ROUNDING[working_dtype(system.X).name]
    share = min(1.0, float((np.sqrt(residual + penalty) / unit).min()))
    if not relative <= max(request.tol * share, rounding):
        return None
    y_mean = mean if system.fit_intercept else np.zeros(targets.count)
    losses = [0.5 * float((residual + penalty).sum())]
    return Solution(
        coef,
        y_mean - coef @ system.centre,
        found.solver,
        found.n_iter,
        found.condition,
        np.sqrt(residual),
        losses,
        relative,
        True,
        factor,
        system.centre,
    )


def _class_sums(system: System, targets: ClassTargets) -> np.ndarray:
    """Return A^T Y of all classes, (K, d), from the sums of the rows of each class."""
    sums = np.zeros((targets.count, system.d))
    # Of a chunk with few rows per class, the zeros of its sums would take longer than the sums.
    for start, stop, A, _ in system.chunks(numbers=max(DENSE_NUMBERS, 4 * sums.size)):
        root = np.ones(stop - start)
        if system.host_weights is not None:
            root = np.sqrt(system.host_weights[start:stop].astype(np.float64))
        which = (root, targets.codes[start:stop], np.arange(stop - start + 1))
        sums += sparse.csc_array(which, (targets.count, stop - start)) @ A
    sums *= 2.0
    if not system.fit_intercept:  # else the rows' sum is zero
        sums -= 0.5 * sums.sum(axis=0)
    return sums


def _cancel(terms: np.ndarray, scores: np.ndarray) -> bool:
    """Return whether a row's terms (n,) are far larger than the largest of its scores (n, k).

    The root mean square is at most the largest, and takes a tenth of the time to find.
    """
    some = np.sqrt(np.einsum("ij,ij->i", scores, scores) / scores.shape[1])
    doubtful = np.flatnonzero(terms > CANCELLED * some)
    largest = np.abs(scores[doubtful]).max(axis=1, initial=0.0)
    return bool((terms[doubtful] > CANCELLED * largest).any())


def scores_by_blas(
    X: Matrix, coef: np.ndarray, intercept: np.ndarray, n_threads: int = 1
) -> np.ndarray | None:
    """Return X w + b of many classes, (n, K), in products of X's own dtype.

    BLAS takes half the time of the `predict` kernel for float32 rows, which adds up in float64:
    0.22 s in place of 0.47 for 20,000 x 512 and 1,000 classes. Scores are compared, not added, so
    that rounding may be that of a float32 sum, but for what cancels: None where terms may be
    `CANCELLED` times as large as the largest score of their row, or are not finite, and where the
    kernel is as quick. Scores of float32 are finite.
    """
    dtype = working_dtype(X)
    if lives_on_device(X) or isinstance(X, CSR) or X.dtype != dtype:
        return None
    if len(coef) < MANY_CLASSES[dtype.name]:
        return None
    score = _float32_scores(coef, intercept) if dtype == np.float32 else _scores(coef, intercept)
    out = np.empty((X.shape[0], len(coef)), dtype)
    spoilt: list[slice] = []

    def part(rows: slice) -> None:
        if not spoilt and not score(X[rows], out[rows]):
            spoilt.append(rows)

    if is_small(X.shape, len(coef), FEW_THREADED_PRODUCTS):
        n_threads = 1
    step = max(1, SCORES_AT_A_TIME // max(len(coef), X.shape[1]))
    n_parts = max(1, -(-X.shape[0] // step))
    n_parts += -n_parts % n_threads  # as many for each thread
    with np.errstate(over="ignore", invalid="ignore"):
        in_parts([partial(part, rows) for rows in cut(X.shape[0], n_parts)], n_threads)
    return None if spoilt else out


Scores = Callable[[np.ndarray, np.ndarray], bool]


def _scores(coef: np.ndarray, intercept: np.ndarray) -> Scores:
    """Return a function that writes the scores of float64 rows to an array."""

    def score(A: np.ndarray, out: np.ndarray) -> bool:
        np.matmul(A, coef.T, out=out)
        out += intercept
        return True

    return score


def _float32_scores(coef: np.ndarray, intercept: np.ndarray) -> Scores:
    """Return a function that writes the scores of float32 rows to an array.

    It returns whether they are finite, and no terms cancel.
    """
    W, b = coef.T.astype(np.float32), intercept.astype(np.float32)
    longest = float(np.sqrt(np.einsum("kj,kj->k", coef, coef).max()))
    offset = float(np.abs(intercept).max())

    def score(A: np.ndarray, out: np.ndarray) -> bool:
        np.matmul(A, W, out=out)
        out += b
        terms = longest * np.sqrt(np.einsum("ij,ij->i", A, A)) + offset
        return bool((terms <= LARGEST_TERM).all()) and not _cancel(terms, out[:, :SOME_CLASSES])

    return score
