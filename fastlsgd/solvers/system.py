"""A least-squares problem as the direct solvers see it: the gradient, and products with A^T A.

    minimise  1/2 sum_i s_i (x_i . w + b - y_i)^2 + alpha/2 |w|^2

`alpha` goes with the sum over rows here, not with their mean. With an intercept the rows count from
their mean c: A = S^(1/2) (X - 1 c^T), whose columns are orthogonal to the intercept's, so that w
and b part. c is subtracted from the sums, never from X. One call is one pass over X.
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..kernels.contract import CSR, Kernels, LossGradient, Matrix
from ..kernels.device import DeviceArray, extremes, repeated
from .factors import NotTrustworthy, column_scale
from .rows import as_dense, row_slice, stored_numbers

CHUNK_NUMBERS = 2**19  # of rows made dense at a time: 4 MB
GRADIENT_PARTS = 64  # the error falls with the square root of their number,
PART_NUMBERS = 2**18  # and a part of fewer numbers would take longer to call than to do


class Gradient(NamedTuple):
    """What one pass says about the weights it was taken at."""

    squares: np.ndarray  # (t,)  sum_i s_i r_i^2
    coef: np.ndarray  # (t, d)  A^T r + alpha w
    intercept: np.ndarray  # (t,)  weighted mean of r: what b is too large by


class System:
    """The data of a problem, its penalty, and the passes it has cost so far.

    Parameters
    ----------
    kernels : Kernels
    X, y, sample_weight
        As in the kernel contract.
    alpha : float
    fit_intercept : bool
    n_threads : int

    Attributes
    ----------
    weight : float
        Sum of the sample weights.
    centre : ndarray of shape (d,)
        Mean of the rows, or zero without an intercept; `centre_at` sets it.
    y_centre : ndarray of shape (t,)
        Likewise of y.
    passes : int
        Calls of a kernel so far.
    """

    def __init__(
        self,
        kernels: Kernels,
        X: Matrix,
        y: np.ndarray,
        sample_weight: np.ndarray | None,
        *,
        alpha: float = 0.0,
        fit_intercept: bool,
        n_threads: int,
    ) -> None:
        self.kernels, self.n_threads = kernels, n_threads
        self.X, self.y, self.sample_weight = X, y, sample_weight
        self.alpha, self.fit_intercept = alpha, fit_intercept
        self.n, self.d, self.t = X.shape[0], X.shape[1], y.shape[1]
        if sample_weight is None:
            self.weight = float(self.n)
        else:
            self.weight = float(sample_weight.sum(dtype=np.float64))
        self.centre, self.y_centre = np.zeros(self.d), np.zeros(self.t)
        self.is_centred = not fit_intercept
        self.passes = 0
        self._gram: tuple[np.ndarray, np.ndarray] | None = None

    def centre_at(self, x_mean: np.ndarray, y_mean: np.ndarray) -> None:
        """Count the rows from their mean, if there is an intercept."""
        if self.fit_intercept:
            self.centre, self.y_centre, self.is_centred = x_mean, y_mean, True

    def find_centre(self) -> None:
        """The same from a pass: with w = b = 0, the gradient at targets of -1 is the mean of X."""
        if self.is_centred:
            return
        targets = repeated(-1.0, (self.n, 1), self._values)
        _, mean, _ = self._pass(targets, np.zeros((1, self.d)), np.zeros(1))
        self.centre_at(mean[0], self._target_mean())

    def _target_mean(self) -> np.ndarray:
        if isinstance(self.y, DeviceArray):
            return -self._at_zero_weights(np.zeros(self.t)).intercept
        return np.average(self.y.astype(np.float64), axis=0, weights=self.sample_weight)

    def centred_gram(self) -> tuple[np.ndarray, np.ndarray]:
        """A^T A and A^T y, from one pass that is done once; the rows count from their mean then.

        Raises
        ------
        NotTrustworthy
            If the sums overflow.
        """
        if self._gram is None:
            self._gram = self._make_gram()
        return self._gram

    def _make_gram(self) -> tuple[np.ndarray, np.ndarray]:
        origin = None
        if self.fit_intercept:
            origin = as_dense(row_slice(self.X, 0, min(self.n, 256))).mean(axis=0)
        xx, xy, x, y, weight = self.kernels.gram(
            self.X, self.y, self.sample_weight, origin, self.n_threads
        )
        if not (np.isfinite(xx).all() and np.isfinite(xy).all()):
            raise NotTrustworthy("the Gram matrix overflows")
        if origin is None:
            return xx, xy
        self.centre_at(origin + x / weight, y / weight)
        return xx - np.outer(x, x / weight), xy - np.outer(x, y / weight)

    def columns_scale(self, squares: np.ndarray) -> np.ndarray:
        """One over the norms of the columns of A; 0 for those that vary by rounding alone."""
        eps = float(np.finfo(self.X.dtype).eps)
        return column_scale(squares, self.weight * (4.0 * eps * self.centre) ** 2)

    def target_squares(self) -> np.ndarray:
        """sum_i s_i (y_i - mean)^2 of each target."""
        if isinstance(self.y, DeviceArray):
            return 2.0 * self.weight * self._at_zero_weights(self.y_centre).loss
        y = self.y.astype(np.float64) - self.y_centre
        s = np.ones(self.n) if self.sample_weight is None else self.sample_weight
        return np.einsum("it,it,i->t", y, y, s)

    def largest_target(self) -> float:
        """The largest of all |y|; of y on a GPU, the root mean square of a target at most."""
        if isinstance(self.y, DeviceArray):
            size = float(np.sqrt(2.0 * self._at_zero_weights(np.zeros(self.t)).loss.max()))
            if 1e-100 < size < 1e100:  # no square has overflown or vanished
                return size
            low, high = extremes(self.y)
            return max(high, -low)
        return max(float(self.y.max()), -float(self.y.min()))

    def _at_zero_weights(self, intercept: np.ndarray) -> LossGradient:
        """A pass whose residuals are those of the intercept: y stays on its GPU."""
        return self._pass(self.y, np.zeros((self.t, self.d)), intercept)

    def intercept_for(self, coef: np.ndarray) -> np.ndarray:
        return self.y_centre - coef @ self.centre

    def gradient(self, coef: np.ndarray, intercept: np.ndarray) -> Gradient:
        """At these weights, from their own residuals.

        Near the solution the sums end at nothing, and what rounding leaves of them on the way is
        the error of the weights. It grows with the length of a sum: so `GRADIENT_PARTS` short
        ones, which are then added up, where the kernel does not do so itself.
        """
        self.passes += 1
        parts = 1
        if not self.kernels.SUMS_ARE_SPLIT:
            parts = min(GRADIENT_PARTS, max(1, self.stored // PART_NUMBERS))
        squares, slope, sums = np.zeros(self.t), np.zeros((self.t, self.d)), np.zeros(self.t)
        for start, stop in pairwise(np.linspace(0, self.n, parts + 1).astype(int).tolist()):
            s = None if self.sample_weight is None else self.sample_weight[start:stop]
            weight = self.weight
            if parts > 1:
                weight = float(stop - start if s is None else s.sum(dtype=np.float64))
            if weight == 0.0:
                continue
            loss, dw, db = self.kernels.loss_gradient(
                row_slice(self.X, start, stop),
                self.y[start:stop],
                np.ascontiguousarray(coef),
                intercept,
                s,
                self.n_threads,
            )
            squares += 2.0 * weight * loss
            slope += weight * dw
            sums += weight * db
        mean = sums / self.weight if self.fit_intercept else np.zeros(self.t)
        slope -= np.outer(self.weight * mean, self.centre)
        return Gradient(squares, slope + self.alpha * coef, mean)

    def apply(self, coef: np.ndarray) -> np.ndarray:
        """(A^T A + alpha I) w for each row w of `coef`."""
        coef = np.ascontiguousarray(coef)
        _, dw, db = self._pass(self._no_targets, coef, -(coef @ self.centre))
        return self.weight * (dw - np.outer(db, self.centre)) + self.alpha * coef

    def _pass(self, y, coef, intercept):
        self.passes += 1
        coef = np.ascontiguousarray(coef)
        return self.kernels.loss_gradient(
            self.X, y, coef, intercept, self.sample_weight, self.n_threads
        )

    def chunks(self, first: int = 0, end: int | None = None, numbers: int = CHUNK_NUMBERS):
        """(start, stop, rows of A, rows of S^(1/2) (y - mean)), float64, a few rows at a time."""
        step, end = max(1, numbers // self.d), self.n if end is None else end
        for start in range(first, end, step):
            stop = min(start + step, end)
            A = as_dense(row_slice(self.X, start, stop)) - self.centre
            y = self.y[start:stop].astype(np.float64) - self.y_centre
            if self.sample_weight is not None:
                root = np.sqrt(self.sample_weight[start:stop].astype(np.float64))[:, None]
                A *= root
                y *= root
            yield start, stop, A, y

    @cached_property
    def _no_targets(self) -> np.ndarray:
        return repeated(0.0, (self.n, self.t), self._values)

    @property
    def _values(self) -> np.ndarray:
        return self.X.data if isinstance(self.X, CSR) else self.X

    @property
    def stored(self) -> int:
        """Numbers that X holds."""
        return stored_numbers(self.X)
