"""The metric: coordinates in which the least-squares problem is round.

Plain descent needs as many steps as the condition number of X^T X. In the coordinates
z = T (x - shift) with T (H + alpha I) T^T = I, H the covariance of x, it needs a handful:
the columns' units, offsets and correlations are all gone.

A full T costs d^2 a row and is built from one `gram` pass; a diagonal T (one over the standard
deviation of each column) costs d, and is what is left where d is large.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..kernels.contract import CSR, Kernels, Matrix
from .eigen import eigh, eigvalsh, minimum_norm
from .rows import add_column_moments, as_dense, row_slice, sample_rows

FULL_METRIC_FEATURES = 512
# Multiply-adds that the gram pass of a metric may cost: beyond it, over a sample of the rows.
GRAM_BUDGET = 8e9
# Eigenvalues of the correlation matrix below this share of the largest are rounding, not data.
RANK_TOLERANCE = 1e-12


@dataclass
class Moments:
    """Weighted sums over the rows seen so far; origins are fixed by the first rows."""

    x_origin: np.ndarray  # (d,)
    y_origin: np.ndarray  # (t,)
    rows: int = 0
    weight: float = 0.0
    x: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (d,)   sum s (x - c)
    xx: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (d, d), or (d,) its diagonal
    xy: np.ndarray | None = None  # (d, t) sum s (x - c)(y - e), with the full xx only
    y: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (t,)
    yy: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (t,)

    @property
    def is_full(self) -> bool:
        return self.xx.ndim == 2

    def x_mean(self) -> np.ndarray:
        return self.x_origin + self.x / self.weight

    def y_variance(self) -> np.ndarray:
        return np.maximum(self.yy / self.weight - (self.y / self.weight) ** 2, 0.0)

    def curvature(self, centred: bool) -> np.ndarray:
        """Covariance (d, d) or variances (d,) of x; about zero where not `centred`."""
        x, w = self.x / self.weight, self.weight
        outer = np.multiply.outer if self.is_full else np.multiply
        if centred:
            return self.xx / w - outer(x, x)
        c = self.x_origin
        return self.xx / w + outer(x, c) + outer(c, x) + outer(c, c)

    def slope(self, centred: bool) -> np.ndarray | None:
        """Covariance (d, t) of x and y, about zero where not `centred`."""
        if self.xy is None:
            return None
        x, y, w = self.x / self.weight, self.y / self.weight, self.weight
        if centred:
            return self.xy / w - np.outer(x, y)
        c, e = self.x_origin, self.y_origin
        return self.xy / w + np.outer(x, e) + np.outer(c, y) + np.outer(c, e)


def add_moments(
    kernels: Kernels,
    X: Matrix,
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    n_threads: int,
    moments: Moments | None = None,
) -> Moments:
    """The moments of these rows, added to those of earlier ones.

    Full for at most `FULL_METRIC_FEATURES` features. The sums over a sample are scaled up to
    the weight of all the rows.
    """
    n, d = X.shape
    if moments is None:
        head = as_dense(row_slice(X, 0, min(n, 256)))
        moments = Moments(head.mean(axis=0), y[:256].mean(axis=0, dtype=np.float64))
        if isinstance(X, CSR) and d > FULL_METRIC_FEATURES:
            moments.x_origin = np.zeros(d)  # so that zeros stay zeros
        moments.x, moments.y, moments.yy = np.zeros(d), np.zeros(y.shape[1]), np.zeros(y.shape[1])
        moments.xx = np.zeros((d, d) if d <= FULL_METRIC_FEATURES else d)
    total = float(n if sample_weight is None else sample_weight.sum(dtype=np.float64))
    every = 1
    if moments.is_full:
        every = max(1, min(int(n * d * d / GRAM_BUDGET), n // (20 * d)))
    s = None if sample_weight is None else np.ascontiguousarray(sample_weight[::every])
    if moments.is_full:
        _add_gram(kernels, sample_rows(X, every), y[::every], s, n_threads, total, moments)
    else:
        add_column_moments(kernels, X, s, moments.x_origin, moments.x, moments.xx)
    _add_targets(y, sample_weight, moments)
    moments.rows += n
    moments.weight += total
    return moments


def _add_gram(kernels, X, y, s, n_threads, total, moments: Moments) -> None:
    xx, xy, x, _, weight = kernels.gram(X, y, s, moments.x_origin, n_threads)
    if weight <= 0.0:
        return
    scale = total / weight
    moments.xx += scale * xx
    moments.x += scale * x
    if moments.xy is None:
        moments.xy = np.zeros_like(xy)
    moments.xy += scale * (xy - np.outer(x, moments.y_origin))


def _add_targets(y: np.ndarray, s: np.ndarray | None, moments: Moments) -> None:
    for start in range(0, len(y), 65536):
        r = y[start : start + 65536].astype(np.float64) - moments.y_origin
        sr = r if s is None else r * s[start : start + 65536, None]
        moments.y += sr.sum(axis=0)
        moments.yy += (sr * r).sum(axis=0)


@dataclass
class Metric:
    """z = T (x - shift). Weights of z are v, with coef = T^T v."""

    shift: np.ndarray  # (d,), all zero where no intercept is fitted
    transform: np.ndarray  # T: (k, d), or (d,) where diagonal
    shrink: np.ndarray  # (k,): the L2 penalty in z is sum_j shrink_j / 2 v_j^2
    trace: float  # mean |z|^2
    largest: float  # largest eigenvalue of the covariance of z

    @property
    def is_diagonal(self) -> bool:
        return self.transform.ndim == 1

    @property
    def curvature_bound(self) -> float:
        """Of the largest curvature of J in z, penalty included; 1 in a full metric."""
        return self.largest + float(self.shrink.max(initial=0.0)) if self.is_diagonal else 1.0

    def to_coef(self, v: np.ndarray) -> np.ndarray:
        return v * self.transform if self.is_diagonal else v @ self.transform

    def to_weights(self, coef: np.ndarray) -> np.ndarray:
        """v with coef = T^T v, in the least-squares sense where T has dropped directions."""
        if self.is_diagonal:
            scale = np.where(self.transform > 0.0, self.transform, 1.0)
            return np.where(self.transform > 0.0, coef / scale, 0.0)
        return minimum_norm(self.transform.T, coef.T).T


def standard_scale(moments: Moments, variance: np.ndarray, eps: float) -> np.ndarray:
    """One over the standard deviation of each column; 0 for a column that is constant.

    A variance that rounding alone would leave (eps: of X's dtype) counts as none.
    """
    noise = (4.0 * eps * np.abs(moments.x_mean())) ** 2
    varies = variance > np.maximum(noise, np.finfo(np.float64).tiny)
    return np.where(varies, 1.0 / np.sqrt(np.where(varies, variance, 1.0)), 0.0)


def diagonal_metric(moments: Moments, l2: float, centred: bool, eps: float) -> Metric:
    """Each column by its own standard deviation (and penalty)."""
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
        _shift(moments, centred),
        transform,
        l2 * transform**2,
        float(spread.sum()),
        max(largest, np.finfo(np.float64).tiny),
    )


def full_metric(moments: Moments, l2: float, centred: bool, eps: float) -> Metric:
    """T with T (H + l2 I) T^T = I and T T^T diagonal, so that the penalty is separable in z.

    Columns are scaled first: eigenvalues of the correlation matrix are accurate to rounding,
    those of H itself would drown in the largest column's unit.
    """
    H = moments.curvature(centred)
    scale = standard_scale(moments, np.diag(H), eps)
    correlation = scale[:, None] * H * scale
    penalty = l2 * scale**2
    values, vectors = eigh(correlation + np.diag(penalty))
    keep = values > RANK_TOLERANCE * max(values[-1], np.finfo(np.float64).tiny)
    if not keep.any():
        # No column varies. One coordinate stays, always zero: kernels take one feature or more.
        return Metric(_shift(moments, centred), np.zeros((1, len(H))), np.zeros(1), 1.0, 1.0)
    whiten = (vectors[:, keep] / np.sqrt(values[keep])).T  # (k, d), of the scaled columns
    shrink, turn = eigh((whiten * penalty) @ whiten.T)
    shrink = np.clip(shrink, 0.0, 1.0)
    k = int(keep.sum())
    return Metric(
        _shift(moments, centred),
        (turn.T @ whiten) * scale,
        shrink,
        float(k - shrink.sum()),
        float(1.0 - shrink.min()),
    )


def _shift(moments: Moments, centred: bool) -> np.ndarray:
    return moments.x_mean() if centred else np.zeros_like(moments.x)
