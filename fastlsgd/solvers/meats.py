"""The meats of robust covariances: sums of products of scores, over rows a few at a time.

The score of row i is u_i = s_i r_i q_i, with q_i the whitened row (White 1980; MacKinnon and White
1985; Newey and West 1987; Cameron, Gelbach and Miller 2011):

    HC0, HC1   sum_i u_i u_i^T
    HC2, HC3   the same of u_i / (1 - h_i)^(1/2) and u_i / (1 - h_i), h the leverages
    cluster    sum_g u_g u_g^T, u_g the sum of the scores of cluster g
    HAC        sum_l k_l (G_l + G_l^T) / 2^[l = 0], G_l = sum_i u_i u_{i-l}^T

A meat takes chunks of rows in their order, and keeps nothing of them but its sums, so that rows may
come from a stream. Cost: n k^2 multiply-adds for each target (k^2 more for each lag), and for
clusters g t k numbers.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

HETEROSCEDASTIC = ("HC0", "HC1", "HC2", "HC3")
# The leverage of a row that a weight of its own fits is 1 but for rounding, and its residual 0.
LEVERAGE_ONE = 1.0 - 1e-12


@dataclass(frozen=True)
class RobustOptions:
    """What kind of covariance, and its parameters."""

    cov_type: str
    maxlags: int = 0
    kernel: str = "bartlett"
    use_correction: bool = True
    frequency: bool = False  # whether a row of weight 2 is two rows


class WhitenedRows(NamedTuple):
    """Some rows in the coordinates of the fit."""

    rows: slice  # among the rows that count
    Q: np.ndarray  # (m, k)  whitened, with that of the intercept first
    residual: np.ndarray  # (m, t)
    weight: np.ndarray  # (m,)
    clusters: tuple[np.ndarray, ...] = ()  # (m,)  of each way, and of the pairs of two ways

    @property
    def leverage(self) -> np.ndarray:
        """The diagonal of the hat matrix."""
        return self.weight * np.einsum("mk,mk->m", self.Q, self.Q)


class Meat(Protocol):
    """The sum of some kind, for each target."""

    fewest_clusters: int
    n_exact: int

    def add(self, chunk: WhitenedRows) -> None: ...

    def total(self, n: int, df: int) -> np.ndarray:
        """Return the sums (t, k, k) over n rows, with df of them beyond the weights."""
        ...


def meat_for(options: RobustOptions, k: int, n_targets: int, unit: float) -> Meat:
    """Return an empty meat; `unit` is the root of that of the weights."""
    kinds = {"cluster": ClusterMeat, "HAC": LagMeat}
    return kinds.get(options.cov_type, RowMeat)(options, k, n_targets, unit)


class RowMeat:
    """Errors of different variance: HC0 to HC3.

    Rows of leverage 1 have residuals of 0 whatever their errors are, and so no share in the sums;
    `n_exact` counts them where the kind divides by 1 less the leverage.
    """

    fewest_clusters = 0
    n_exact = 0

    def __init__(self, options: RobustOptions, k: int, n_targets: int, unit: float) -> None:
        self.options, self.unit = options, unit
        self.sums = np.zeros((n_targets, k, k))

    def add(self, chunk: WhitenedRows) -> None:
        for own, factor in zip(self.sums, self.factors(chunk).T, strict=True):
            U = factor[:, None] * chunk.Q
            own += U.T @ U

    def factors(self, chunk: WhitenedRows) -> np.ndarray:
        """Return what whitened rows are multiplied by to become scores, (m, t).

        That is s r, with the correction of their leverages. Equal rows that stand for one of their
        number s have s^(1/2) r each, together.
        """
        cov_type, weight = self.options.cov_type, chunk.weight
        apart = self.options.frequency and cov_type != "cluster"
        size = self.unit * np.sqrt(weight) if apart else weight
        if cov_type in ("HC2", "HC3"):
            h = chunk.leverage
            if apart:
                h = h / weight * self.unit**2
            left = np.where(h < LEVERAGE_ONE, 1.0 - h, np.inf)
            self.n_exact += int(np.isinf(left).sum())
            size = size / (np.sqrt(left) if cov_type == "HC2" else left)
        return size[:, None] * chunk.residual

    def total(self, n: int, df: int) -> np.ndarray:
        return self.sums * (n / df) if self.options.cov_type == "HC1" else self.sums


class LagMeat(RowMeat):
    """Errors that are correlated along the rows: each chunk is joined with the scores before it."""

    def __init__(self, options: RobustOptions, k: int, n_targets: int, unit: float) -> None:
        super().__init__(options, k, n_targets, unit)
        lags = options.maxlags
        self.share = np.ones(lags + 1)
        if options.kernel == "bartlett":
            self.share -= np.arange(lags + 1) / (lags + 1.0)
        self.before = [np.empty((0, k))] * n_targets

    def add(self, chunk: WhitenedRows) -> None:
        for target, factor in enumerate(self.factors(chunk).T):
            self._add_scores(target, factor[:, None] * chunk.Q)

    def _add_scores(self, target: int, U: np.ndarray) -> None:
        own, lags, meat = len(self.before[target]), self.options.maxlags, self.sums[target]
        joined = np.vstack([self.before[target], U])
        meat += U.T @ U
        for lag in range(1, min(lags + 1, len(joined))):
            first = max(own, lag)
            product = joined[first:].T @ joined[first - lag : len(joined) - lag]
            meat += self.share[lag] * (product + product.T)
        if lags:
            self.before[target] = joined[max(0, len(joined) - lags) :]

    def total(self, n: int, df: int) -> np.ndarray:
        return self.sums * (n / df) if self.options.use_correction else self.sums


class ClusterMeat(RowMeat):
    """Errors that are correlated within clusters; for two ways, the sum less that of the pairs."""

    def __init__(self, options: RobustOptions, k: int, n_targets: int, unit: float) -> None:
        super().__init__(options, k, n_targets, unit)
        self.tables: list[_ClusterSums] = []

    def add(self, chunk: WhitenedRows) -> None:
        U = (self.factors(chunk)[:, :, None] * chunk.Q[:, None, :]).reshape(len(chunk.Q), -1)
        self.tables = self.tables or [_ClusterSums(U.shape[1]) for _ in chunk.clusters]
        for table, codes in zip(self.tables, chunk.clusters, strict=True):
            table.add(codes, U)

    def total(self, n: int, df: int) -> np.ndarray:
        counts = [int(table.seen.sum()) for table in self.tables]
        self.fewest_clusters = min(counts[:2], default=0)
        if self.fewest_clusters < 2:
            raise TooFewClusters("groups must have at least two clusters.")
        for sign, g, table in zip((1.0, 1.0, -1.0), counts, self.tables, strict=False):
            correction = g / (g - 1) * (n - 1) / df if self.options.use_correction else 1.0
            scores = table.sums.reshape(len(table.sums), *self.sums.shape[:2])
            for target, own in enumerate(self.sums):
                own += sign * correction * (scores[:, target].T @ scores[:, target])
        return self.sums


class TooFewClusters(ValueError):
    """Raised where all rows are in one cluster, of whose sum the scores leave nothing."""


class _ClusterSums:
    """The sum of the scores of each cluster, by its number."""

    def __init__(self, size: int) -> None:
        self.sums, self.seen = np.zeros((0, size)), np.zeros(0, bool)

    def add(self, codes: np.ndarray, U: np.ndarray) -> None:
        self._make_room(int(codes.max()) + 1)
        self.seen[codes] = True
        loops = sys.modules.get("scipy.sparse._sparsetools")
        scatter = getattr(loops, "csc_matvecs", None)
        if scatter is not None:
            # The product of a matrix with a 1 in each column is added to the sums: without it, to
            # sort and sum a chunk took three times as long. It is not public.
            m, k = U.shape
            columns, codes = np.arange(m + 1), codes.astype(np.int64, copy=False)
            table = (len(self.sums), m, k, columns, codes, np.ones(m), U.ravel())
            scatter(*table, self.sums.reshape(-1))
            return
        if (codes[1:] < codes[:-1]).any():
            order = np.argsort(codes, kind="stable")
            codes, U = codes[order], U[order]
        first = np.flatnonzero(np.append(True, codes[1:] != codes[:-1]))
        self.sums[codes[first]] += np.add.reduceat(U, first, axis=0)

    def _make_room(self, count: int) -> None:
        missing = count - len(self.sums)
        if missing > 0:
            more = max(missing, len(self.sums))
            self.sums = np.vstack([self.sums, np.zeros((more, self.sums.shape[1]))])
            self.seen = np.append(self.seen, np.zeros(more, bool))
