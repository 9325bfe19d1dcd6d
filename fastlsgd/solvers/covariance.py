"""Covariances of the weights, classical and robust against what the classical model assumes.

Each is a sandwich B M B of the bread B = (Z^T S Z)^-1, Z = [1, X], and the meat M, a sum of
products of the scores u_i = s_i r_i z_i (White 1980; MacKinnon and White 1985; Newey and West 1987;
Cameron, Gelbach and Miller 2011):

    HC0, HC1   sum_i u_i u_i^T
    HC2, HC3   the same of u_i / (1 - h_i)^(1/2) and u_i / (1 - h_i), h the leverages
    cluster    sum_g u_g u_g^T, u_g the sum of the scores of cluster g
    HAC        sum_l k_l (G_l + G_l^T) / 2^[l = 0], G_l = sum_i u_i u_{i-l}^T

Scores are those of the whitened rows q = R^-T (x - centre), which have unit moments: the meat is
then as accurate as the factor. Names and corrections for small samples are statsmodels'.
Cost: one pass over X, 2 n d^2 multiply-adds (d^2 more for each lag), and for clusters g d numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..kernels.contract import Matrix
from .factors import SingularFactor, TriangularFactor, solve_upper
from .inference import Evidence
from .rows import counted_rows, rows_on_host

HETEROSCEDASTIC = ("HC0", "HC1", "HC2", "HC3")
# The leverage of a row that a weight of its own fits is 1 but for rounding, and its residual 0.
LEVERAGE_ONE = 1.0 - 1e-12


class NotEstimable(ValueError):
    """Raised where columns depend on each other, so that their weights have no covariance."""


@dataclass(frozen=True)
class RobustOptions:
    """What kind of covariance, and its parameters."""

    cov_type: str
    clusters: tuple[np.ndarray, ...] = ()  # codes of each row: one or two ways
    maxlags: int = 0
    kernel: str = "bartlett"
    use_correction: bool = True
    frequency: bool = False  # whether a row of weight 2 is two rows


class FittedRows(NamedTuple):
    """The rows of a fit, as they were fitted."""

    X: Matrix
    y: np.ndarray  # (n, 1)
    sample_weight: np.ndarray | None


class WhitenedRows(NamedTuple):
    """Some rows in the coordinates of the fit."""

    rows: slice  # among the rows that count
    Q: np.ndarray  # (m, k)  whitened, with that of the intercept first
    residual: np.ndarray  # (m,)
    weight: np.ndarray  # (m,)

    @property
    def leverage(self) -> np.ndarray:
        """The diagonal of the hat matrix."""
        return self.weight * np.einsum("mk,mk->m", self.Q, self.Q)


def whitening(evidence: Evidence) -> np.ndarray:
    """Return T (k, k) with T T^T = (Z^T S Z)^-1, for weights with the intercept first.

    Columns that were left out have rows of zeros.

    Raises
    ------
    NotEstimable
        If columns depend on each other.
    """
    factor = evidence.factor
    if isinstance(factor, SingularFactor):
        raise NotEstimable(
            "X has columns that depend on each other, so that weights have no covariance: "
            "leave some of them out."
        )
    assert isinstance(factor, TriangularFactor)
    M = solve_upper(factor.upper, np.eye(len(factor.scale))) * factor.scale[:, None]
    if evidence.intercept is None:
        return M
    d = len(M)
    T = np.zeros((d + 1, d + 1))
    T[0, 0], T[1:, 1:] = 1.0 / np.sqrt(evidence.weight), M
    T[0, 1:] = -evidence.centre @ M
    return T


def classical_covariance(evidence: Evidence) -> np.ndarray:
    """Return sigma^2 (Z^T S Z)^-1, with the intercept first."""
    T = whitening(evidence)
    df = evidence.n_rows - int((np.abs(T).sum(axis=1) > 0.0).sum())
    scale = evidence.residual_norm / np.sqrt(df) if df > 0 else np.nan
    T = T * scale
    return T @ T.T


def whitened_chunks(evidence: Evidence, rows: FittedRows) -> Iterator[WhitenedRows]:
    """Yield the rows of positive weight, some at a time."""
    T = whitening(evidence)
    has_intercept = evidence.intercept is not None
    M = T[1:, 1:] if has_intercept else T
    X, y, s = rows
    start, unit = 0, -2 * evidence.sigma_exponent
    for A, b, weight in rows_on_host(X, y, s, counted_rows(s)):
        residual = b[:, 0] - A @ evidence.coef
        Q = np.empty((len(A), len(T)))
        if evidence.intercept is not None:
            residual -= evidence.intercept
            A -= evidence.centre
            Q[:, 0] = T[0, 0]
        np.matmul(A, M, out=Q[:, has_intercept:])
        yield WhitenedRows(slice(start, start + len(A)), Q, residual, np.ldexp(weight, unit))
        start += len(A)


def robust_covariance(evidence: Evidence, rows: FittedRows, options: RobustOptions) -> np.ndarray:
    """Return the covariance (k, k) of the weights, with the intercept first."""
    T, n = whitening(evidence), evidence.n_rows
    k = int((np.abs(T).sum(axis=1) > 0.0).sum())
    unit = np.ldexp(1.0, -evidence.sigma_exponent)
    scores = (_scores(chunk, options, unit) for chunk in whitened_chunks(evidence, rows))
    if options.cov_type == "cluster":
        meat = _meat_of_clusters(scores, len(T), n - k, n, options)
    elif options.cov_type == "HAC":
        meat = _meat_of_lags(scores, len(T), options)
        if options.use_correction:
            meat *= n / (n - k)
    else:
        meat = np.zeros((len(T), len(T)))
        for _, U in scores:
            meat += U.T @ U
        if options.cov_type == "HC1":
            meat *= n / (n - k)
    return T @ meat @ T.T


def _scores(chunk: WhitenedRows, options: RobustOptions, unit: float) -> tuple[slice, np.ndarray]:
    """Return s r q of the rows, with the correction of their leverages.

    Equal rows that stand for one of their number s have s^(1/2) r q each, together. `unit` is the
    root of that of the weights.
    """
    cov_type, apart = options.cov_type, options.frequency and options.cov_type != "cluster"
    factor = chunk.residual * (unit * np.sqrt(chunk.weight) if apart else chunk.weight)
    if cov_type in ("HC2", "HC3"):
        h = chunk.leverage
        if apart:
            h = h / chunk.weight * unit**2
        left = np.where(h < LEVERAGE_ONE, 1.0 - h, np.inf)
        factor /= np.sqrt(left) if cov_type == "HC2" else left
    return chunk.rows, factor[:, None] * chunk.Q


def _meat_of_clusters(scores, k: int, df: int, n: int, options: RobustOptions) -> np.ndarray:
    """Return the sum over clusters; for two ways the sum of both less that of their pairs."""
    ways = [np.unique(codes, return_inverse=True)[1].ravel() for codes in options.clusters]
    signs = [1.0]
    if len(ways) == 2:
        pairs = ways[0].astype(np.int64) * (int(ways[1].max()) + 1) + ways[1]
        ways.append(np.unique(pairs, return_inverse=True)[1].ravel())
        signs = [1.0, 1.0, -1.0]
    sums = [np.zeros((int(codes.max()) + 1, k)) for codes in ways]
    for rows, U in scores:
        for codes, total in zip(ways, sums, strict=True):
            _add_by_cluster(total, codes[rows], U)
    meat = np.zeros((k, k))
    for sign, total in zip(signs, sums, strict=True):
        g = len(total)
        correction = g / (g - 1) * (n - 1) / df if options.use_correction else 1.0
        meat += sign * correction * (total.T @ total)
    return meat


def _add_by_cluster(total: np.ndarray, codes: np.ndarray, U: np.ndarray) -> None:
    """Add the rows of U to the rows of `total` that their codes name."""
    if (codes[1:] < codes[:-1]).any():
        order = np.argsort(codes, kind="stable")
        codes, U = codes[order], U[order]
    first = np.flatnonzero(np.append(True, codes[1:] != codes[:-1]))
    total[codes[first]] += np.add.reduceat(U, first, axis=0)


def _meat_of_lags(scores, k: int, options: RobustOptions) -> np.ndarray:
    """Return the weighted sum over lags; each chunk is joined with the last scores before it."""
    lags = options.maxlags
    share = np.ones(lags + 1)
    if options.kernel == "bartlett":
        share -= np.arange(lags + 1) / (lags + 1.0)
    meat, before = np.zeros((k, k)), np.empty((0, k))
    for _, U in scores:
        own, joined = len(before), np.vstack([before, U])
        meat += U.T @ U
        for lag in range(1, lags + 1):
            first = max(own, lag)
            product = joined[first:].T @ joined[first - lag : len(joined) - lag]
            meat += share[lag] * (product + product.T)
        before = joined[max(0, len(joined) - lags) :] if lags else before
    return meat
