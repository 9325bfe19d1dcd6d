"""The least-squares problem in scaled columns, for `learning_rate="auto"` with wide or sparse rows.

    J(w) = 1/(2 S) sum_i s_i ((x_i - c) . w - (y_i - m))^2 + l2/2 |w|^2,   c, m the weighted means

Rows of X are not transformed, and CSR rows cost their stored numbers: centring is a correction of
the sums, by c . w before a pass and a rank-one term after it, and the metric of `metric.py` is
applied only to weights and gradients. c and m separate the intercept from w. A call reads X once.

Where a few rows are so large that sums in float64 hold nothing of the others, their weights are
capped, and the rest of their part of J is a term of its own (`heavy_rows.py`). With L1, for which
the metric has to be diagonal, the capped weights are the only ones.
"""

from __future__ import annotations

import numpy as np

from .._threads import pass_threads
from ..kernels.contract import TargetGradients, working_dtype
from ..kernels.device import repeated
from . import metric, streaming
from .factors import DiagonalFactor, TriangularFactor
from .heavy_rows import FARTHEST, HeavyRows, heaviest
from .interrupt import call_loss_gradient
from .metric import ColumnMoments, diagonal_metric, take_moments
from .ordinary_rows import (
    LARGEST_DISTANCE,
    capped_shares,
    ordinary_loss,
    ruled_by_few,
    shares_beside,
)
from .rows import as_dense, stored_numbers, take_rows
from .sampled_factor import LEAST_CURVATURE, sampled_factor
from .training import Objective, TrainingData
from .weights import equal_counts, normalised_weights, weights_of_visited

# Columns whose variances are within this factor of the median's are of like size.
LIKE_SIZE = 1e4
# Targets are processed a few at a time, so that this many weights stay in cache.
WEIGHTS_IN_CACHE = 2**15
# A stream goes on from the products of so few columns, if there are so few rows per column: they
# take about as long as the fit, 0.1 s of 1,000 x 1,000.
PRODUCT_FEATURES, PRODUCT_ROWS = 1024, 5


class ScaledProblem:
    """J, its gradient, products with its curvature, and the scale of each column.

    Parameters
    ----------
    rows : TrainingData
    objective : Objective
    visited : ndarray of int64, optional
        Numbers of the rows that count; the others have no effect. Default: all.

    Attributes
    ----------
    moments : ColumnMoments
        The moments of each column.
    weight_unit : float
        A power of two by which the sample weights are divided.
    squared_scale : ndarray of shape (d,)
        One over the curvature of each column with the penalty; 0 for a constant column. Rows count
        for it as much as their capped weights say.
    loss_scale : float
        The loss of predicting the mean of y. A few rows that would dominate it do not count.
    """

    def __init__(
        self, rows: TrainingData, objective: Objective, visited: np.ndarray | None
    ) -> None:
        self.objective, self.X = objective, rows.X
        self.kernels, self.y = rows.kernels, rows.y
        # Every call of a kernel is a pass.
        numbers = stored_numbers(rows.X) * rows.y.shape[1]
        self.n_threads = pass_threads(numbers, rows.n_threads)
        s, exponent = normalised_weights(
            weights_of_visited(rows.sample_weight, visited, rows.y), self.X
        )
        self.weight_unit = 2.0**exponent
        self.moments = take_moments(self.kernels, self.X, self.y, s, self.n_threads, full=False)
        self.loss_scale = ordinary_loss(self.y, s, self.moments.y_variance())
        self._counts, self.own_share = equal_counts(s, self.y), 1.0
        self.heavy: HeavyRows | None = None
        self.sample_weight, excess = s, None
        if ruled_by_few(self.moments, s):
            excess = self._cap(s)
        centred = objective.fit_intercept
        eps = float(np.finfo(working_dtype(self.X)).eps)
        scales = diagonal_metric(self.moments, objective.l2 / self.own_share, centred, eps)
        self.centre, self.squared_scale = scales.shift, scales.transform**2 / self.own_share
        if self.moments.rows <= self.X.shape[1]:
            self.squared_scale = _of_like_size(self.squared_scale)
        self.metric: DiagonalFactor | TriangularFactor = DiagonalFactor(np.sqrt(self.squared_scale))
        self.y_mean = np.zeros(self.y.shape[1])
        if centred:
            self.y_mean = self.moments.y_mean()
        if excess is not None:
            self.heavy = self._heavy(*excess)

    def take_full_metric(self) -> bool:
        """Take a metric in which columns are not correlated; return False where there is none."""
        factor = sampled_factor(
            self.X,
            self.sample_weight,
            self.centre,
            self.metric.scale,
            self.own_share * self.moments.curvature(self.objective.fit_intercept),
            self.objective.l2,
        )
        if factor is None:
            return False
        self.metric = factor
        if self.heavy is not None:
            self.heavy.take_metric(factor)
        return True

    @property
    def least_curvature(self) -> float:
        """A lower bound of the curvature in the metric; 0 without a penalty in scaled columns."""
        if isinstance(self.metric, TriangularFactor):
            return LEAST_CURVATURE
        known = self.squared_scale[self.squared_scale > 0.0]
        return self.objective.l2 * float(known.min()) if len(known) else 1.0

    def remembered_moments(self) -> ColumnMoments:
        """Return what a stream goes on from: the columns' products too, where it takes them in.

        Of few rows, correlations from a sample are far off: 600 rows after 600 x 600 normal ones
        left R2 0.28 below that of a fit, and 0.81 with five common factors.
        """
        n, d = self.X.shape
        if d > metric.FULL_METRIC_FEATURES:
            if self.heavy is not None or d > PRODUCT_FEATURES or n > PRODUCT_ROWS * d:
                return self.moments
            return metric.take_moments(
                self.kernels, self.X, self.y, self.sample_weight, self.n_threads, full=True
            )
        return metric.with_products(self.moments, self.X, self.y, self.sample_weight)

    def correlated_rows(self) -> np.ndarray | None:
        """Return rows that show correlations, where a stream would go on from variances alone."""
        if not metric.FULL_METRIC_FEATURES < self.X.shape[1] <= streaming.MOMENT_FEATURES:
            return None
        return metric.correlated_rows(self.X, self.sample_weight, self.moments)

    def intercept(self, coef: np.ndarray) -> np.ndarray:
        own = self.y_mean - self._at_centre(coef)
        return own if self.heavy is None else own + self.heavy.intercept(coef)

    def gradient(self, coef: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """J of each target, (t,), and its gradient, (t, d)."""
        own = self.y_mean - self._at_centre(coef)
        loss, dw, db = self._pass(self.y, coef, own, self.sample_weight)
        if self.objective.fit_intercept:
            # The mean residual, which is not zero because of rounding.
            self.y_mean = self.y_mean - db
            loss = loss - 0.5 * db * db
        heavy = None
        if self.heavy is not None:
            heavy = self.heavy.residual(coef)
            loss = self.own_share * loss + 0.5 * np.einsum("tm,tm->t", heavy, heavy)
        self._complete(dw, db, coef, heavy)
        penalty = 0.5 * self.objective.l2 * np.einsum("td,td->t", coef, coef)
        return loss + penalty, dw

    def product(self, p: np.ndarray) -> np.ndarray:
        """The products of the curvature of J with each row of p (t, d)."""
        nothing = repeated(0.0, (self.X.shape[0], len(p)), self.y)
        _, dw, db = self._pass(nothing, p, -self._at_centre(p), self.sample_weight)
        self._complete(dw, db, p, None if self.heavy is None else self.heavy.product(p))
        return dw

    def precondition(self, gradient: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Write the gradient (t, d), times the inverse of the metric, to `out`."""
        if isinstance(self.metric, DiagonalFactor):
            np.multiply(gradient, self.squared_scale, out=out)
        else:
            out[:] = self.metric.unwhiten(self.metric.whiten(gradient))
        if self.heavy is not None:
            self.heavy.precondition(out)
        return out

    def unweighted_loss(self, coef: np.ndarray, weighted: float) -> float:
        """The mean of r^2 / 2 over the rows that count, summed over targets.

        `weighted` is the weighted mean, which is the same where all weights are equal.
        """
        if self._counts is None:
            return weighted
        loss, _, _ = self._pass(self.y, coef, self.intercept(coef), self._counts)
        return float(loss.sum())

    def blocks(self):
        """Slices of a few targets each."""
        step = max(1, WEIGHTS_IN_CACHE // self.X.shape[1])
        return [slice(start, start + step) for start in range(0, self.y.shape[1], step)]

    def _at_centre(self, coef: np.ndarray) -> np.ndarray:
        # BLAS is not used: synchronising its threads would take longer than the product.
        return np.einsum("td,d->t", coef, self.centre)

    def _pass(self, y, coef: np.ndarray, intercept: np.ndarray, sample_weight) -> TargetGradients:
        return call_loss_gradient(
            self.kernels, self.X, y, coef, intercept, sample_weight, self.n_threads
        )

    def _complete(self, dw, db, coef: np.ndarray, heavy: np.ndarray | None) -> None:
        """Centre the sums of a pass, and add the parts of heavy rows and the penalty, in place."""
        for part in self.blocks():
            if self.objective.fit_intercept:
                dw[part] -= db[part, None] * self.centre
            if self.heavy is not None and heavy is not None:
                dw[part] *= self.own_share
                dw[part] += self.heavy.gradient(heavy[part])
            if self.objective.l2 > 0.0:
                dw[part] += self.objective.l2 * coef[part]

    def _cap(self, s: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, float] | None:
        """Cap the weights of large rows; return their numbers, what they lost, and all weight.

        None with L1, where the weights stay capped.
        """
        share, total = capped_shares(self.X, self.moments), self.moments.weight
        given = np.ones(len(share)) if s is None else np.asarray(s, dtype=np.float64)
        numbers = None
        if self.objective.l1 == 0.0:
            numbers = heaviest(share, s, self.X.shape[1])
            spread = self.moments.spread
            share[:] = 1.0
            share[numbers] = 0.0
            self._weigh(share * given)
            if self.moments.weight > 0.0:
                rows = as_dense(take_rows(self.X, numbers))
                share[numbers] = shares_beside(rows, self.moments, spread)
        self._weigh(share * given)
        self.moments.refuse_extreme_squares()
        if numbers is None:
            self._counts = None
            self.loss_scale = 0.5 * float(self.moments.y_variance().sum())
            return None
        self.own_share = self.moments.weight / total
        capped = self.own_share * 0.5 * float(self.moments.y_variance().sum())
        self.loss_scale = min(self.loss_scale, capped)
        # Of the weight of a row at 10 / sqrt(share) spreads, what is left to it at `FARTHEST`.
        part = np.minimum(share[numbers] * (FARTHEST / LARGEST_DISTANCE) ** 2, 1.0)
        lost = given[numbers] * part - self.sample_weight[numbers]
        return numbers, np.maximum(lost, 0.0), total

    def _weigh(self, sample_weight: np.ndarray) -> None:
        """Take the moments with these weights."""
        self.sample_weight = sample_weight.astype(self.y.dtype)
        self.moments = take_moments(
            self.kernels, self.X, self.y, self.sample_weight, self.n_threads, full=False
        )

    def _heavy(self, numbers: np.ndarray, lost: np.ndarray, total: float) -> HeavyRows:
        targets = np.asarray(self.y[numbers], dtype=np.float64) - self.y_mean
        return HeavyRows(
            as_dense(take_rows(self.X, numbers)) - self.centre,
            targets,
            lost,
            self.moments.weight,
            total,
            centred=self.objective.fit_intercept,
            metric=self.metric,
        )


def _of_like_size(squared_scale: np.ndarray) -> np.ndarray:
    """One scale for all columns that vary, where their own are near enough to each other.

    Of all weights that fit fewer rows than columns, descent from zero ends at those of least norm
    in its metric. J asks for the least norm in the columns' own units: in scaled ones, held-out
    R2 was 0.21 where that of J's minimum is 0.46 (1,000 x 4,000, columns of sizes 1 to 0.07).
    """
    known = squared_scale[squared_scale > 0.0]
    if len(known) == 0 or known.max() > LIKE_SIZE * np.median(known):
        return squared_scale
    if np.median(known) > LIKE_SIZE * known.min():
        return squared_scale
    return np.where(squared_scale > 0.0, len(known) / float((1.0 / known).sum()), 0.0)
