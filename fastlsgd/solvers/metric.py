"""The metric: coordinates in which the least-squares problem has a condition number near 1.

The number of steps of plain descent grows with the condition number of X^T X. In the coordinates
z = T (x - shift) with T (H + alpha I) T^T = I, where H is the covariance of x, it needs a handful:
the columns' units, offsets and correlations no longer matter.

A full T costs d^2 per gradient and is built from one `gram` pass. A diagonal T (the reciprocal of
each column's standard deviation) costs d, and is used where d is large.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from ..kernels.contract import CSR, Kernels, Matrix
from ..kernels.device import lives_on_device
from .eigen import eigh, eigvalsh, minimum_norm, svd
from .factors import EPS
from .interrupt import call_gram
from .rows import (
    add_column_moments,
    as_dense,
    as_scipy,
    random_rows,
    range_of_stored,
    row_slice,
    stored_by_chunks,
    stored_numbers,
    take_rows,
)

FULL_METRIC_FEATURES = 512
# If the gram pass of a metric costs more multiply-adds than this, it takes a sample of the rows.
GRAM_BUDGET = 8e9
# Numbers in a chunk of the sample, which is a copy.
GRAM_CHUNK_NUMBERS = 2**20
# How many rows, and numbers in them, are looked at to see what ordinary rows are like.
SAMPLE_ROWS = 256
SAMPLE_NUMBERS = 2**20
# A sample does not represent a column whose mean square over all rows is this many times its own.
SAMPLE_RATIO = 4.0
# A few rows dominate a column whose root mean square is this many times its spread in most rows.
FEW_ROWS_RATIO = 1e3
# Stored numbers of the rows whose sparse products are made at a time.
PRODUCT_NUMBERS = 2**20
# Rows that show the columns' correlations where these are too many for a matrix.
CORRELATED_ROWS = 64
# Distances whose root mean square is this many times their geometric mean are of two kinds.
HIDING_RATIO = 1e5
LEAST_ROOT = 1e-140  # the square of this is still far from underflow
# Eigenvalues of the correlation matrix below this share of the largest are rounding, not data.
RANK_TOLERANCE = 1e-12
EXTREME_SQUARES = "Squares of columns of X leave the range of float64: rescale its columns."


@dataclass
class ColumnMoments:
    """Weighted sums over the rows of positive weight, about the origins c of x and e of y."""

    x_origin: np.ndarray  # (d,)
    y_origin: np.ndarray  # (t,)
    rows: int
    weight: float
    x: np.ndarray  # (d,)   sum s (x - c)
    xx: np.ndarray  # (d, d), or (d,) its diagonal
    y: np.ndarray  # (t,)
    yy: np.ndarray  # (t,)
    # Distance of ordinary rows from c, from a sample; 0 where the sample does not show it.
    spread: np.ndarray  # (d,)
    xy: np.ndarray | None = None  # (d, t) sum s (x - c)(y - e), with the full xx only
    # (t,) sum s (y - e) over the rows of x, xx and xy, which may be a sample that is scaled up.
    y_of_x: np.ndarray | None = None

    @property
    def is_full(self) -> bool:
        return self.xx.ndim == 2

    def of_target(self, t: int) -> ColumnMoments:
        """Return the moments of X and of target t alone."""
        return replace(
            self,
            y_origin=self.y_origin[[t]],
            y=self.y[[t]],
            yy=self.yy[[t]],
            xy=None if self.xy is None else self.xy[:, [t]],
            y_of_x=None if self.y_of_x is None else self.y_of_x[[t]],
        )

    def x_mean(self) -> np.ndarray:
        return self.x_origin + self.x / self.weight

    def y_mean(self) -> np.ndarray:
        return self.y_origin + self.y / self.weight

    def shift(self, centred: bool) -> np.ndarray:
        """Return the mean of x, or zeros if the rows are not `centred`."""
        return self.x_mean() if centred else np.zeros_like(self.x)

    def ruled_by_few(self, ratio: float = FEW_ROWS_RATIO) -> bool:
        """Return whether a few rows dominate a second moment, so that float64 loses the others.

        They do where a column's root mean square is more than `ratio` times its spread. This also
        holds where the squares leave the range of float64.
        """
        variance = np.diag(self.xx) if self.is_full else self.xx
        with np.errstate(over="ignore", invalid="ignore"):
            root = np.sqrt(variance / self.weight)
        known = self.spread > 0.0
        return bool(
            not np.isfinite(root).all()
            or (root[known] > ratio * self.spread[known]).any()
            or (root[known] < LEAST_ROOT).any()
        )

    def refuse_extreme_squares(self) -> None:
        """Raise ValueError where squares of columns overflow, or vanish though columns do not."""
        squares = np.diag(self.xx) if self.is_full else self.xx
        vanish = (squares < LEAST_ROOT**2) & (self.x != 0.0)
        if not np.isfinite(squares).all() or vanish.any():
            raise ValueError(EXTREME_SQUARES)

    def variances(self) -> np.ndarray:
        """Return the variances (d,) of x."""
        return (np.diag(self.xx) if self.is_full else self.xx) / self.weight - (
            self.x / self.weight
        ) ** 2

    def y_variance(self) -> np.ndarray:
        return np.maximum(self.yy / self.weight - (self.y / self.weight) ** 2, 0.0)

    def curvature(self, centred: bool) -> np.ndarray:
        """Return the covariance (d, d) or the variances (d,) of x; about zero if not `centred`."""
        x, w = self.x / self.weight, self.weight
        outer = np.multiply.outer if self.is_full else np.multiply
        if centred:
            return self.xx / w - outer(x, x)
        c = self.x_origin
        return self.xx / w + outer(x, c) + outer(c, x) + outer(c, c)

    def slope(self, centred: bool) -> np.ndarray | None:
        """Return the covariance (d, t) of x and y, about zero if not `centred`."""
        if self.xy is None:
            return None
        assert self.y_of_x is not None
        x, y, w = self.x / self.weight, self.y_of_x / self.weight, self.weight
        if centred:
            return self.xy / w - np.outer(x, y)
        c, e = self.x_origin, self.y_origin
        return self.xy / w + np.outer(x, e) + np.outer(c, y) + np.outer(c, e)


def take_moments(
    kernels: Kernels,
    X: Matrix,
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    n_threads: int,
    *,
    full: bool | None = None,
) -> ColumnMoments:
    """Return the moments of the rows of positive weight.

    By default they are full for at most `FULL_METRIC_FEATURES` features. If a sample of the rows is
    used, its sums are scaled up to the weight of all rows, after a check of each column's mean
    square against all of them.
    """
    d, s = X.shape[1], sample_weight
    rows, total = X.shape[0], float(X.shape[0])
    if s is not None:
        rows, total = int(np.count_nonzero(s)), float(np.sum(s, dtype=np.float64))
    full, t = d <= FULL_METRIC_FEATURES if full is None else full, y.shape[1]
    x_origin, spread, y_origin = _of_a_few(X, y, s, full)
    if isinstance(X, CSR) and not full and not lives_on_device(X):
        spread = _spread_of_stored(X, rows)
    moments = ColumnMoments(x_origin, y_origin, rows, total, np.zeros(d),
                            np.zeros(d), np.zeros(t), np.zeros(t), spread)  # fmt: skip
    with np.errstate(over="ignore", invalid="ignore"):
        if full:
            _add_gram(kernels, X, y, s, n_threads, moments)
        else:
            add_column_moments(kernels, X, s, x_origin, moments.x, moments.xx)
        _add_targets(y, s, moments)
    return moments


def _of_a_few(X: Matrix, y, s, full: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the origin and spread of x, and the origin of y, from medians of random rows."""
    n, d = X.shape
    few = random_rows(n, min(SAMPLE_ROWS, max(16, SAMPLE_NUMBERS // d)), s)
    y_origin = _medians(np.sort(np.asarray(y[few], dtype=np.float64), axis=0))
    if isinstance(X, CSR) and not full:
        return np.zeros(d), np.zeros(d), y_origin  # so that zeros stay zeros
    A = as_dense(take_rows(X, few))
    origin = _medians(np.sort(A, axis=0))
    A = np.sort(np.abs(A - origin), axis=0)
    # The largest 2 percent, or up to three of few rows, may be outliers. A column that is constant
    # without them has a spread of zero.
    A = A[: len(A) - max(len(A) // 50, min(3, len(A) // 8))]
    return origin, _ordinary_spread(A), y_origin


def _ordinary_spread(A: np.ndarray) -> np.ndarray:
    """Return the root mean square of sorted distances: of the ordinary ones, if many are huge.

    Three rows of 1e12 among 14 are not few, but sums that hold them hold nothing of the others.
    """
    largest = A[-1]
    A = A / np.where(largest > 0.0, largest, 1.0)
    root = np.sqrt(np.mean(A * A, axis=0))
    if np.min(A[len(A) // 4], initial=1.0) * HIDING_RATIO > 1.0:
        return largest * root  # a quarter of the distances at most is small
    counted = A > 0.0
    counts = np.maximum(np.count_nonzero(counted, axis=0), 1)
    logs = np.log(A, out=np.zeros_like(A), where=counted).sum(axis=0) / counts
    typical = np.exp(logs) * np.sqrt(counts / max(len(A), 1))
    return largest * np.where(root > HIDING_RATIO * typical, typical, root)


def _medians(A: np.ndarray) -> np.ndarray:
    """Return the medians of sorted columns; np.median takes 50 microseconds more for a few rows."""
    middle = len(A) // 2
    return A[middle] if len(A) % 2 else 0.5 * (A[middle - 1] + A[middle])


def _spread_of_stored(X: CSR, n_rows: int) -> np.ndarray:
    """The spread of sparse columns about zero, from the mean fourth root of what is stored.

    0 throughout where all numbers are of like size, so that no few of them can rule a column.
    """
    d = X.shape[1]
    least, largest = range_of_stored(X)
    if least > LEAST_ROOT and largest <= min(FEW_ROWS_RATIO * least, 1.0 / LEAST_ROOT):
        return np.zeros(d)
    roots, counts = np.zeros(d), np.zeros(d)
    for _, column, values in stored_by_chunks(X):
        roots += np.bincount(column, np.sqrt(np.sqrt(np.abs(values))), minlength=d)
        counts += np.bincount(column, values != 0.0, minlength=d)
    return (roots / np.maximum(counts, 1.0)) ** 4 * np.sqrt(np.minimum(counts / n_rows, 1.0))


def _add_gram(kernels, X, y, s, n_threads, moments: ColumnMoments) -> None:
    """Add the sums of `gram`, over a sample of the rows where that is enough."""
    d, n = X.shape[1], moments.rows
    every = max(1, min(int(n * d * d / GRAM_BUDGET), n // (20 * d)))
    if every > 1:
        _empty_products(moments)
        rows = random_rows(X.shape[0], n // every, s)
        step, seen = max(1, GRAM_CHUNK_NUMBERS // d), 0.0
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            weights = None if s is None else np.ascontiguousarray(s[part])
            seen += _add_rows(kernels, take_rows(X, part), y[part], weights, n_threads, moments)
        if seen > 0.0 and _sees_all(kernels, X, s, moments, moments.weight / seen):
            return
    _empty_products(moments)
    _add_rows(kernels, X, y, s, n_threads, moments)


def _empty_products(moments: ColumnMoments) -> None:
    """Set the sums of products, and those that belong to them, to zero."""
    d, t = len(moments.x), len(moments.y)
    moments.x, moments.xx = np.zeros(d), np.zeros((d, d))
    moments.xy, moments.y_of_x = np.zeros((d, t)), np.zeros(t)


def _add_rows(kernels, X, y, s, n_threads, moments: ColumnMoments) -> float:
    xx, xy, x, y_sum, weight = call_gram(kernels, X, y, s, moments.x_origin, n_threads)
    assert moments.xy is not None
    assert moments.y_of_x is not None
    moments.xx += xx
    moments.x += x
    moments.xy += xy - np.outer(x, moments.y_origin)
    moments.y_of_x += y_sum - weight * moments.y_origin
    return float(weight)


def _sees_all(kernels, X, s, moments: ColumnMoments, scale: float) -> bool:
    """Scale the sums over a sample up to all rows; return whether the sample represents them.

    It does if each column has the same size in the sample as in all rows. A sample may miss a
    column that hardly ever varies, or a few rows of another size.
    """
    sampled = np.diag(moments.xx)
    first, second = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    origin = moments.x_origin
    add_column_moments(kernels, X, s, origin, first, second)
    if isinstance(X, CSR):  # about zero
        second = second - 2.0 * origin * first + moments.weight * origin**2
        second = np.where(second > 1e-12 * moments.weight * origin**2, second, 0.0)
    ratio = np.divide(second, scale * sampled, out=np.full(len(second), np.inf),
                      where=sampled > 0.0)  # fmt: skip
    same = (second == sampled) | ((ratio < SAMPLE_RATIO) & (ratio > 1.0 / SAMPLE_RATIO))
    assert moments.xy is not None
    assert moments.y_of_x is not None
    for sums in (moments.x, moments.xx, moments.xy, moments.y_of_x):
        sums *= scale
    return bool(same.all())


def _add_targets(y: np.ndarray, s: np.ndarray | None, moments: ColumnMoments) -> None:
    for start in range(0, len(y), 65536):
        r = y[start : start + 65536].astype(np.float64) - moments.y_origin
        sr = r if s is None else r * s[start : start + 65536, None]
        moments.y += sr.sum(axis=0)
        moments.yy += (sr * r).sum(axis=0)


def with_products(
    moments: ColumnMoments, X: Matrix, y: np.ndarray, s: np.ndarray | None
) -> ColumnMoments:
    """Return full moments of a CSR X from those of its columns about zero, by sparse products.

    Cost: the sum over rows of the squares of their stored numbers.
    """
    (n, d), t = X.shape, y.shape[1]
    xx, xy = np.zeros((d, d)), np.zeros((d, t))
    step = max(1, PRODUCT_NUMBERS * n // max(n, stored_numbers(X)))
    for start in range(0, n, step):
        stop = min(start + step, n)
        A, weights = as_scipy(row_slice(X, start, stop)), np.ones(stop - start)
        if s is not None:
            weights = np.asarray(s[start:stop], dtype=np.float64)
        weighted = sp.csr_array(A.multiply(weights[:, None])).T
        xx += (weighted @ A).toarray()
        xy += weighted @ (np.asarray(y[start:stop], dtype=np.float64) - moments.y_origin)
    return replace(moments, xx=xx, xy=xy, y_of_x=moments.y)


def correlated_rows(X: Matrix, s: np.ndarray | None, moments: ColumnMoments) -> np.ndarray:
    """Return A (m, d) such that I + A^T A stands for the columns' correlations, from a few rows.

    A^T A is what these rows show, times the share of it that is not chance (Ledoit and Wolf 2004,
    J. Multivariate Anal. 88(2)). There, the identity counts for the rest only; but next to a few
    large directions it would then nearly vanish in the others. Each row counts the same, however
    large it is.
    """
    few = random_rows(X.shape[0], CORRELATED_ROWS, s)
    scale, tiny = standard_scale(moments, moments.variances(), EPS), np.finfo(np.float64).tiny
    d, m = np.count_nonzero(scale), len(few)
    Z = (as_dense(take_rows(X, few)) - moments.x_mean()) * scale
    Z /= np.maximum(np.abs(Z).max(axis=1, keepdims=True), tiny)
    Z *= np.sqrt(d) / np.maximum(np.linalg.norm(Z, axis=1, keepdims=True), tiny)
    # Squared products of two rows are tr(C^2) in the mean, and of a row with itself, d^2.
    between = float(np.square(Z @ Z.T)[~np.eye(m, dtype=bool)].mean()) if m > 1 else 0.0
    excess = max(between - d, 0.0)
    share = excess / (excess + (d * d - between) / m) if excess > 0.0 else 0.0
    return np.sqrt(share / m) * Z


@dataclass
class Coordinates:
    """Coordinates z = T x, in which weights are v, with coef = T^T v."""

    transform: np.ndarray  # T: (k, d), or (d,) where diagonal

    @property
    def is_diagonal(self) -> bool:
        return self.transform.ndim == 1

    def whiten(self, gradient: np.ndarray) -> np.ndarray:
        """Return the gradient of the weights, (t, d), as that of v, (t, k)."""
        return gradient * self.transform if self.is_diagonal else gradient @ self.transform.T

    def unwhiten(self, v: np.ndarray) -> np.ndarray:
        """Return the weights (t, d) of v, (t, k)."""
        return v * self.transform if self.is_diagonal else v @ self.transform


@dataclass
class Metric(Coordinates):
    """Coordinates z = T (x - shift), and how curved J is along them."""

    shift: np.ndarray  # (d,), all zero where no intercept is fitted
    shrink: np.ndarray  # (k,): the L2 penalty in z is sum_j shrink_j / 2 v_j^2
    largest: float  # largest eigenvalue of the covariance of z

    @property
    def curvature_bound(self) -> float:
        """A bound on the largest curvature of J in z, penalty included; 1 in a full metric."""
        return self.largest + float(self.shrink.max(initial=0.0)) if self.is_diagonal else 1.0

    def to_weights(self, coef: np.ndarray) -> np.ndarray:
        """Return v with coef = T^T v, in the least-squares sense where T has dropped directions."""
        if self.is_diagonal:
            scale = np.where(self.transform > 0.0, self.transform, 1.0)
            return np.where(self.transform > 0.0, coef / scale, 0.0)
        return minimum_norm(self.transform.T, coef.T).T


def standard_scale(moments: ColumnMoments, variance: np.ndarray, eps: float) -> np.ndarray:
    """Return the reciprocal of each column's standard deviation; 0 for a constant column.

    A spread of at most 4 eps of the mean counts as none. eps is that of the numbers with which the
    caller computes: of X's dtype where kernels read X itself, since they would round such a spread
    away, and a quarter of float64's where rows are read about their mean, which is exact.
    """
    noise = (4.0 * eps * np.abs(moments.x_mean())) ** 2
    varies = variance > np.maximum(noise, np.finfo(np.float64).tiny)
    return np.where(varies, 1.0 / np.sqrt(np.where(varies, variance, 1.0)), 0.0)


def diagonal_metric(moments: ColumnMoments, l2: float, centred: bool, eps: float) -> Metric:
    """Return the metric that scales each column by its own standard deviation and penalty."""
    curvature = moments.curvature(centred)
    variance = np.diag(curvature) if moments.is_full else curvature
    scale = standard_scale(moments, variance, eps)
    transform = np.where(scale > 0.0, 1.0 / np.sqrt(variance + l2 + (scale == 0.0)), 0.0)
    spread = variance * transform**2
    if moments.is_full:
        largest = float(eigvalsh(transform[:, None] * curvature * transform)[-1])
    else:
        largest = float(spread.sum())  # the trace bounds it
    return Metric(
        transform,
        moments.shift(centred),
        l2 * transform**2,
        max(largest, np.finfo(np.float64).tiny),
    )


def full_metric(moments: ColumnMoments, l2: float, centred: bool, eps: float) -> Metric:
    """Return T with T (H + l2 I) T^T = I and T T^T diagonal, so that the penalty separates in z."""
    whiten, scale = whitening(moments, l2, centred, eps)
    shift, penalty = moments.shift(centred), l2 * scale**2
    if not whiten.any():
        return Metric(whiten, shift, np.zeros(1), 1.0)
    shrink, turn = eigh((whiten * penalty) @ whiten.T)
    shrink = np.clip(shrink, 0.0, 1.0)
    return Metric((turn.T @ whiten) * scale, shift, shrink, float(1.0 - shrink.min()))


def whitening(
    moments: ColumnMoments, l2: float, centred: bool, eps: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return W and the scale s of each column, with T = W diag(s) and T (H + l2 I) T^T = I.

    The columns are scaled first: the eigenvalues of the correlation matrix are accurate to
    rounding, while those of H would have errors relative to the column of the largest unit.
    """
    H = moments.curvature(centred)
    scale = standard_scale(moments, np.diag(H), eps)
    correlation = scale[:, None] * H * scale
    correlation.flat[:: len(scale) + 1] += l2 * scale**2
    values, vectors = eigh(correlation)
    keep = values > RANK_TOLERANCE * max(values[-1], np.finfo(np.float64).tiny)
    if not keep.any():
        # No column varies. One coordinate stays, always zero, since kernels need a feature.
        return np.zeros((1, len(H))), scale
    return (vectors[:, keep] / np.sqrt(values[keep])).T, scale


def factor_metric(
    A: np.ndarray,
    scale: np.ndarray,
    l2: float,
    shift: np.ndarray,
    ordinary: float,
    rounding: float,
) -> tuple[Metric, np.ndarray]:
    """Return the full metric of H = A^T A, and U with T A^T = U^T over the rows of A.

    With a penalty, U has d more rows: those of sqrt(l2) I below A. Nothing is squared, so that a
    row of 1e10 does not wipe out directions that are small beside it. The rank counts singular
    values above `rounding`, the error of A relative to its largest singular value and mean. Which
    columns are constant is decided by `scale`, the reciprocal of each column's size in ordinary
    rows, and by the share `ordinary` of such rows in the weight.
    """
    d = A.shape[1]
    rows = A * scale
    size = np.sqrt(np.einsum("ij,ij->j", rows, rows))
    # A spread that rounding alone would leave does not count.
    scale = np.where(size > 4.0 * EPS * scale * np.abs(shift) * np.sqrt(ordinary), scale, 0.0)
    rows = A * scale
    if l2 > 0.0:
        rows = np.vstack([rows, np.diag(np.sqrt(l2) * scale)])
    basis, values, vectors = svd(rows)
    largest = max(values.max(initial=0.0), float((scale * np.abs(shift)).max(initial=0.0)))
    keep = values > max(rounding * largest, np.finfo(np.float64).tiny)
    if not keep.any():
        return Metric(np.zeros((1, d)), shift, np.zeros(1), 1.0), np.zeros((len(rows), 1))
    basis, whiten = basis[:, keep], vectors[keep] / values[keep, None]
    shrink = np.zeros(len(whiten))
    if l2 > 0.0:
        root = whiten * (np.sqrt(l2) * scale)  # l2 / |x|^2 may overflow, this is 1 at most
        shrink, turn = eigh(root @ root.T)
        shrink = np.clip(shrink, 0.0, 1.0)
        basis, whiten = basis @ turn, turn.T @ whiten
    return Metric(whiten * scale, shift, shrink, float(1.0 - shrink.min())), basis
