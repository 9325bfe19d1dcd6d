"""A least-squares problem as the direct solvers see it: the gradient, and products with A^T A.

    minimise  1/2 sum_i s_i (x_i . w + b - y_i)^2 + alpha/2 |w|^2

Here `alpha` belongs to the sum over rows, not to their mean. With an intercept, the rows are
counted from their mean c: A = S^(1/2) (X - 1 c^T), whose columns are orthogonal to that of the
intercept, so that w and b can be found separately. c is subtracted from the sums, never from X. One
call is one pass over X.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..kernels.contract import CSR, Gram, Kernels, Matrix, TargetGradients, working_dtype
from ..kernels.device import DeviceArray, extremes, lives_on_device, placed_beside, repeated
from .factors import EPS, NotTrustworthy, column_scale
from .gradient_parts import part_gradients
from .interrupt import call_gram, call_kernel, call_loss_gradient
from .moments_by_blas import blas_dtype, gram_by_blas
from .rows import (
    as_dense,
    in_float64,
    random_rows,
    row_slice,
    stored_by_chunks,
    stored_numbers,
    take_rows,
    useful_threads,
)

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
EPS_OF = {dtype: float(np.finfo(dtype).eps) for dtype in (_FLOAT32, _FLOAT64)}
NAME_OF = {_FLOAT32: "float32", _FLOAT64: "float64"}  # `name` takes two microseconds
DENSE_NUMBERS = 2**19  # of rows made dense at a time: 4 MB
MEAN_ROWS = 256  # rows of A^T A that are centred at a time
TARGET_ROWS = 2**15  # rows of y that are read at a time
ORIGIN_ROWS = 256  # rows whose mean is near enough to that of all rows
# Up to this number of targets, NumPy is quicker column by column than along short rows.
FEW_TARGETS = 16
# A sum of squares that shrinks by more than this when its mean is subtracted has lost digits.
CANCELLATION = 1e4
# A column whose spread is at most this many eps of its mean may be constant, but for rounding.
DOUBT_EPS = 2.0**14
# Kernels compute with rows about zero. A column whose spread is less than its mean times eps over
# this is read in float64 about its mean: float32 steps of 1 at 4e6 gave slopes 10 percent off, rows
# 5,500 spreads from zero 1e-4, and in float64, whose weights are to be right to rounding, 1e8
# spreads from zero left errors of 3e-9.
FAR_SHARE = {_FLOAT32: 1e-4, _FLOAT64: 1e-11}
# Sparse columns of more spreads from zero than this are left to QR, which reads dense rows about
# their mean: weights of the kernels' sums were up to 4e-8 off at 1e7 spreads, 4e-5 at 1e10.
SPARSE_FAR = 1e7
# Weights that differ by less than this leave the mean among the rows.
LIKE_WEIGHTS = 1e3
# A row whose share of the weight is below this may be lost in the rounding of a mean.
LEAST_WEIGHT = 1e-16
# A mean of more standard deviations than this is first subtracted from y.
FAR = 1e3
LEAST_SAMPLE = 16  # rows, however many columns there are
PROBES = 4  # random directions that show how large rows are
GRADIENT_PARTS = 64  # the error falls with the square root of the number of parts
GRADIENT_PART_NUMBERS = 2**18  # for a smaller part, the call would take longer than the work


def hides_spread(spreads: float, dtype: np.dtype) -> bool:
    """Return whether kernels' rounding hides the spread of a column so many spreads from zero."""
    return FAR_SHARE[dtype] < EPS_OF[dtype] * spreads


class Gradient(NamedTuple):
    """The result of one pass at given weights."""

    squares: np.ndarray  # (t,)  sum_i s_i r_i^2
    coef: np.ndarray  # (t, d)  A^T r + alpha w
    intercept: np.ndarray  # (t,)  weighted mean of r, by which b is too large


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
    row_grams : dict of dtype to ndarray, optional
        A A^T, where another system of the same X and weights has found it; `wide.row_gram` adds
        to it.

    Attributes
    ----------
    weight : float
        Sum of the sample weights.
    centre : ndarray of shape (d,)
        Mean of the rows, or zero without an intercept; `centre_at` sets it.
    centre_rest : ndarray of shape (d,) or None
        What the rounding of `centre` has left of the mean; `refine_centre` finds it for `chunks`.
    y_centre : ndarray of shape (t,)
        Mean of y, or zero without an intercept.
    x_mean : ndarray of shape (d,) or None
        The mean of the rows, each of weight 1, where another pass has found it before.
    passes : int
        Number of calls of a kernel so far.
    precision : str
        The dtype whose rounding gradients have.
    loss_exponents : ndarray of shape (t,)
        Powers of two by which the targets' losses are multiplied before they are summed.
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
        row_grams: dict[str, np.ndarray] | None = None,
    ) -> None:
        self.kernels, self.n_threads = kernels, n_threads
        self.X, self.y, self.sample_weight = X, y, sample_weight
        self.alpha, self.fit_intercept = alpha, fit_intercept
        self.n, self.d, self.t = X.shape[0], X.shape[1], y.shape[1]
        self.pass_threads = useful_threads(X, self.t, n_threads)
        if sample_weight is None:
            self.weight = float(self.n)
        else:
            self.weight = float(sample_weight.sum(dtype=np.float64))
        self.centre, self.y_centre = np.zeros(self.d), np.zeros(self.t)
        self.centre_rest: np.ndarray | None = None
        self.is_centred = not fit_intercept
        self.passes, self.precision = 0, NAME_OF[working_dtype(X)]
        self.loss_exponents = np.zeros(self.t, dtype=int)
        self._gram: tuple[np.ndarray, np.ndarray] | None = None
        self._rough_gram: tuple[np.ndarray, np.ndarray] | None = None
        # What wide.py keeps from one penalty to the next: its view of A, and A A^T by dtype.
        self.wide: Any = None
        self.row_grams = {} if row_grams is None else row_grams
        self.x_mean: np.ndarray | None = None

    def centre_at(self, x_mean: np.ndarray, y_mean: np.ndarray) -> None:
        """Count the rows from their mean, if there is an intercept."""
        if self.fit_intercept:
            self.centre, self.y_centre, self.is_centred = x_mean, y_mean, True
            self.centre_rest = None

    def find_centre(self) -> None:
        """Find the mean of the rows, by a pass unless it is known, and count them from it.

        With w = b = 0 and targets of -1, the gradient is the mean of X.
        """
        if self.is_centred:
            return
        targets, zero = repeated(-1.0, (self.n, 1), self.y), (np.zeros((1, self.d)), np.zeros(1))
        if self.is_far:
            mean = self._mean_in_float64()
        elif self.x_mean is not None and self.sample_weight is None:
            mean = self.x_mean
        else:
            mean = self._pass(targets, *zero).coef[0]
        self.centre_at(mean, self._target_mean())

    def _mean_in_float64(self) -> np.ndarray:
        origin, zero = self._sampled_mean(), (np.zeros((1, self.d)), np.zeros(1))
        return origin + self._about(origin, repeated(-1.0, (self.n, 1), self.y), *zero).coef[0]

    def refine_centre(self) -> None:
        """Have `chunks` count the rows from their mean to the rounding of their differences.

        The mean itself is rounded to eps times its size. About it, the columns of at most d + 1
        rows seem independent where the mean is large, and weights of 3 times the least norm fit.
        """
        if not self.fit_intercept or self.centre_rest is not None:
            return
        total, s = np.zeros(self.d), self.host_weights
        for start, stop, A, _ in self.chunks():
            total += A.sum(axis=0) if s is None else np.sqrt(s[start:stop].astype(np.float64)) @ A
        self.centre_rest = total / self.weight

    def _target_mean(self) -> np.ndarray:
        if isinstance(self.y, DeviceArray):
            return -self._at_zero_weights(np.zeros(self.t)).intercept
        total = np.zeros(self.t)
        for y, s in self._target_chunks():
            total += y.sum(axis=0) if s is None else s @ y
        return total / self.weight

    def _target_chunks(self):
        """Yield (y, s) in float64, a few rows at a time; s is None without weights."""
        for start in range(0, self.n, TARGET_ROWS):
            rows, s = slice(start, start + TARGET_ROWS), None
            if self.sample_weight is not None:
                s = np.asarray(self.sample_weight[rows], np.float64)
            yield self.y[rows].astype(np.float64), s

    @cached_property
    def host_weights(self) -> np.ndarray | None:
        """The sample weights on the host."""
        return None if self.sample_weight is None else np.asarray(self.sample_weight)

    def centred_gram(self, *, rough: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Return A^T A and A^T y, from one pass that is done once; this finds the centre too.

        Parameters
        ----------
        rough : bool
            Whether float32 products will do for float32 data. They are taken where `has_rough_gram`
            says that this is quicker.

        Raises
        ------
        NotTrustworthy
            If the sums overflow.
        """
        if rough and self._gram is None and self.has_rough_gram:
            if self._rough_gram is None:
                self._rough_gram = self._make_gram(rough=True)
            return self._rough_gram
        if self._gram is None:
            self._gram = self._make_gram()
        return self._gram

    @property
    def has_rough_gram(self) -> bool:
        return blas_dtype(self.X, rough=True) == "float32"

    def _make_gram(self, rough: bool = False) -> tuple[np.ndarray, np.ndarray]:
        if not self.fit_intercept:
            sums = self._gram_about(None, rough)
            return sums.xx, sums.xy
        origin, sums = self.sums_about_mean(self._sampled_mean(), rough=rough)
        xx, xy, x, y, weight = sums
        self.centre_at(origin + x / weight, y / weight)
        for start in range(0, self.d, MEAN_ROWS):  # in place: xx may be large
            part = slice(start, start + MEAN_ROWS)
            xx[part] -= np.outer(x[part], x / weight)
        return xx, xy - np.outer(x, y / weight)

    def sums_about_mean(
        self, origin: np.ndarray, most: float = CANCELLATION, *, rough: bool = False
    ) -> tuple[np.ndarray, Gram]:
        """Return sums about an origin at which no column loses more than `most` to its mean.

        `origin` is tried first. A row that outweighs all others may be missing from the sample that
        it comes from; the mean found about it then takes its place.
        """
        sums = self._gram_about(origin, rough)
        lost = sums.x * (sums.x / sums.weight)
        noise = sums.weight * (64.0 * self.eps * origin) ** 2
        if np.any((lost > noise) & (lost > most * (sums.xx.diagonal() - lost))):
            origin = origin + sums.x / sums.weight
            sums = self._gram_about(origin, rough)
        return origin, sums

    def sampled_means(self) -> np.ndarray:
        """Return the means of X and of y over a few rows, (d + t,)."""
        rows = random_rows(self.n, ORIGIN_ROWS, self.host_weights)
        mean = np.asarray(self.y[rows], np.float64).mean(axis=0)
        return np.append(self._sampled_mean(), mean)

    def _gram_about(self, origin: np.ndarray | None, rough: bool) -> Gram:
        X, y, s = self.X, self.y, self.sample_weight
        dtype = blas_dtype(X, rough)
        if dtype is None or isinstance(X, CSR):
            sums = call_gram(self.kernels, X, y, s, origin, self.n_threads)
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                sums = gram_by_blas(X, y, s, origin, dtype, self.n_threads)
        if not (np.isfinite(sums.xx).all() and np.isfinite(sums.xy).all()):
            raise NotTrustworthy("the Gram matrix overflows")
        return sums

    def _sampled_mean(self) -> np.ndarray:
        rows = random_rows(self.n, ORIGIN_ROWS, self.host_weights)
        A, s = as_dense(take_rows(self.X, rows)), self.host_weights
        if s is None:
            return A.mean(axis=0)
        shares = s[rows].astype(np.float64)
        return np.average(A, axis=0, weights=shares / shares.max())

    def columns_scale(self, squares: np.ndarray) -> np.ndarray:
        """Return the reciprocals of the norms of A's columns; 0 where only rounding varies.

        Raises
        ------
        NotTrustworthy
            If a column varies only in rows whose weight is lost in rounding.
        """
        scale = column_scale(squares)
        if not self.fit_intercept:
            return scale
        constant, hidden = self.constant_columns(np.sqrt(np.maximum(squares, 0.0)))
        if len(hidden):
            raise NotTrustworthy("rows differ too much in weight")
        scale[constant] = 0.0
        return scale

    def constant_columns(self, norms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the columns that vary by rounding alone, and those that only seem to.

        The latter vary in rows of very small weight. `norms` are those of the columns of A.
        """
        size = np.sqrt(self.weight) * np.abs(self.centre)
        constant = norms == 0.0
        limit = max(4.0 * self.eps, DOUBT_EPS * EPS)
        doubtful = np.flatnonzero(~constant & (norms <= limit * size))
        if len(doubtful):
            constant[self._constant(doubtful)] = True
        found = np.flatnonzero(constant)
        s = self.host_weights
        if len(found) == 0 or s is None or s[s > 0.0].min() > LEAST_WEIGHT * self.weight:
            return found, found[:0]
        true = self._constant(found)
        return true, np.setdiff1d(found, true)

    def _constant(self, columns: np.ndarray) -> np.ndarray:
        """Return those of these columns of X that are constant in the rows of positive weight.

        The numbers of X are exact, and so are differences of near ones: only what float64 rounds
        counts as rounding.
        """
        first, step = None, max(1, DENSE_NUMBERS // self.d)
        same = np.ones(len(columns), dtype=bool)
        for start in range(0, self.n, step):
            chunk = self._some_columns(start, min(start + step, self.n), columns)
            if self.host_weights is not None:
                chunk = chunk[self.host_weights[start : start + step] > 0.0]
            if len(chunk) == 0:
                continue
            first = chunk[0] if first is None else first
            same &= (np.abs(chunk - first) <= 4.0 * EPS * np.abs(first)).all(axis=0)
            if not same.any():
                break
        return columns[same]

    def _some_columns(self, start: int, stop: int, columns: np.ndarray) -> np.ndarray:
        """Return these columns of rows `start` to `stop`, in float64."""
        return self._rows_of_columns(row_slice(self.X, start, stop), columns)

    @staticmethod
    def _rows_of_columns(rows: Matrix, columns: np.ndarray) -> np.ndarray:
        if isinstance(rows, np.ndarray):
            return as_dense(rows[:, columns])
        return as_dense(rows)[:, columns]

    def column_chunks(self, columns: np.ndarray) -> Iterator[np.ndarray]:
        """Yield these columns of A, a few rows at a time."""
        step = max(1, DENSE_NUMBERS // self.d)
        for start in range(0, self.n, step):
            A = self._some_columns(start, min(start + step, self.n), columns)
            A -= self.centre[columns]
            if self.host_weights is not None:
                A *= np.sqrt(self.host_weights[start : start + step].astype(np.float64))[:, None]
            yield A

    def varies(self, columns: np.ndarray, eps: float) -> bool:
        """Return whether any of these columns varies by more than the rounding of its mean."""
        noise, s = 4.0 * eps * np.abs(self.centre[columns]), self.host_weights
        step = max(1, DENSE_NUMBERS // self.d)
        for start in range(0, self.n, step):
            A = self._some_columns(start, min(start + step, self.n), columns)
            A = A if s is None else A[s[start : start + step] > 0.0]
            if (np.abs(A - self.centre[columns]) > noise).any():
                return True
        return False

    def squares_of(self, columns: np.ndarray) -> np.ndarray:
        """Return the squares of these columns of A."""
        if isinstance(self.X, CSR) and not lives_on_device(self.X):
            return self._squares_of_stored(self.X, columns)
        total = np.zeros(len(columns))
        for A in self.column_chunks(columns):
            total += np.einsum("ij,ij->j", A, A)
        return total

    def _squares_of_stored(self, X: CSR, columns: np.ndarray) -> np.ndarray:
        """Return the squares of these columns of A, at the cost of the numbers that are stored."""
        ends = np.asarray(X.indptr[:: max(self.n, 1)]).tolist()
        if not np.bincount(X.indices[ends[0] : ends[-1]], minlength=self.d)[columns].any():
            return self.weight * self.centre[columns] ** 2
        place, k = np.full(self.d, len(columns)), len(columns) + 1  # the last is for all others
        place[columns] = np.arange(k - 1)
        total, stored, centre = np.zeros(k), np.zeros(k), self.centre[columns]
        for rows, where, values in stored_by_chunks(X):
            at = place[where]
            own = np.ones(len(rows)) if self.host_weights is None else self.host_weights[rows]
            apart = values - np.append(centre, 0.0)[at]
            total += np.bincount(at, own * apart * apart, minlength=k)
            stored += np.bincount(at, own, minlength=k)
        rest = self.weight - stored[:-1]
        rest[rest <= 1e-12 * self.weight] = 0.0  # what rounding leaves of the weights
        return total[:-1] + rest * centre**2

    @cached_property
    def is_far(self) -> bool:
        """Whether a column is so far from zero that the kernels' rounding hides how it varies.

        The rows are then read in float64 about their centre, which takes longer. A sample shows the
        columns' spread; those that are constant in it are read as a whole. Weights count too.
        """
        X = self.X
        if not self.fit_intercept or isinstance(X, CSR) or lives_on_device(X):
            return False
        if hides_spread(self.weighted_spreads, working_dtype(X)):
            return True
        if not self._may_be_far():
            return False
        count = max(LEAST_SAMPLE, min(ORIGIN_ROWS, DENSE_NUMBERS // self.d))
        A = as_dense(take_rows(X, random_rows(self.n, count, self.host_weights)))
        with np.errstate(over="ignore", invalid="ignore"):
            size, spread = np.abs(A.mean(axis=0)), A.std(axis=0)
            far = np.flatnonzero(self._far_share * spread < self.eps * size)
            varies = (A[:, far] != A[0, far]).any(axis=0)
            if varies.any():
                return True
            squares, step = np.zeros(len(far)), max(1, DENSE_NUMBERS // self.d)
            for start in range(0, self.n if len(far) else 0, step):
                apart = self._some_columns(start, min(start + step, self.n), far) - A[0, far]
                squares += np.einsum("ij,ij->j", apart, apart)
            spread = np.sqrt(squares / self.n)
        return bool(((spread > 0.0) & (self._far_share * spread < self.eps * size[far])).any())

    @cached_property
    def weighted_spreads(self) -> float:
        """How many weighted spreads a column is from zero, at most; 0 where weights are alike.

        The mean is that of the heaviest rows. Kernels round the residuals of these to eps of their
        size: with a weight of 1e20 that is more than all that the other rows say. Of 75 problems
        with such a weight, 14 to 20 had weights up to 50 times too large in float32, 13 to 30 were
        off by up to 1 percent in float64.
        """
        s = self.host_weights
        if s is None or not self.fit_intercept or lives_on_device(self.X):
            return 0.0
        if not s.max() > LIKE_WEIGHTS * s[s > 0.0].min():
            return 0.0
        centre = self._mean_in_float64()
        rows = random_rows(self.n, max(LEAST_SAMPLE, DENSE_NUMBERS // self.d), s)
        A = as_dense(take_rows(self.X, rows)) - centre
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.einsum("i,ij,ij->j", s[rows].astype(np.float64), A, A)
            squares *= self.n / len(rows)
            size = np.sqrt(self.weight) * np.abs(centre[squares > 0.0])
            return float((size / np.sqrt(squares[squares > 0.0])).max(initial=0.0))

    @cached_property
    def has_far_sparse_columns(self) -> bool:
        """Whether a sample of sparse rows has a column so far from zero that its spread is lost.

        Such a column is stored in every row. A kernel adds up its numbers as they are.
        """
        X = self.X
        if not self.fit_intercept or not isinstance(X, CSR) or lives_on_device(X):
            return False
        few = self.few_rows
        assert isinstance(few, CSR)
        stored = np.bincount(few.indices, minlength=self.d) if len(few.indices) else np.zeros(0)
        full = np.flatnonzero(stored == few.shape[0])
        if len(full) == 0:
            return False
        sample = take_rows(X, random_rows(self.n, ORIGIN_ROWS, self.host_weights))
        A = as_dense(few)[:, full]
        size = np.abs(A).max(axis=0)
        maybe = np.flatnonzero(SPARSE_FAR * np.ptp(A, axis=0) < LEAST_SAMPLE * size)
        A = self._rows_of_columns(sample, full[maybe])
        spread = A.std(axis=0)
        return bool(((np.ptp(A, axis=0) > 0.0) & (SPARSE_FAR * spread < size[maybe])).any())

    @cached_property
    def few_rows(self) -> Matrix:
        """`LEAST_SAMPLE` random rows, in which most columns vary that are not constant."""
        return take_rows(self.X, random_rows(self.n, LEAST_SAMPLE, self.host_weights))

    @cached_property
    def few_extremes(self) -> tuple[np.ndarray, np.ndarray]:
        """The least and the largest number of each column in `few_rows` of dense X, in float64."""
        few = as_dense(self.few_rows)
        return few.min(axis=0), few.max(axis=0)

    def _may_be_far(self) -> bool:
        """Return whether a column might be far from zero, by a few rows."""
        low, high = self.few_extremes
        size = np.maximum(np.abs(low), np.abs(high))
        with np.errstate(over="ignore"):  # so many numbers spread by a sixteenth of their range
            spread = self._far_share / LEAST_SAMPLE * (high - low)
        return not bool((spread >= self.eps * size).all())

    @cached_property
    def underflow(self) -> float:
        """The square of a column below which its product with a residual may underflow."""
        target = self.largest_target() if working_dtype(self.X) == np.float32 else 0.0
        if target == 0.0:  # no product with a residual, or none in float32
            return 1e-250
        return self.weight * (1e-30 / max(target, 1e-37)) ** 2

    def refuse_underflow(self, squares: np.ndarray) -> None:
        """Raise NotTrustworthy where a column varies though its square, or float32's product of it
        with a residual, has underflowed. `squares` are those of the columns of A."""
        small = np.flatnonzero(squares < self.underflow)
        if len(small) and self.varies(small, self.eps):
            raise NotTrustworthy("squares underflow")

    def row_sizes(self, scale: np.ndarray) -> np.ndarray:
        """Estimate the norm of each row of A times D, (n,), from a few random directions."""
        V = np.random.default_rng(0).normal(size=(PROBES, self.d)) * scale
        sizes, step = np.empty(self.n), max(TARGET_ROWS, DENSE_NUMBERS // self.d)
        for start in range(0, self.n, step):
            stop = min(start + step, self.n)
            rows = row_slice(self.X, start, stop)
            b = -(V @ self.centre)
            seen = call_kernel(self.kernels.predict, PROBES, rows, V, b, self.pass_threads)
            sizes[start:stop] = np.linalg.norm(np.asarray(seen, np.float64), axis=1)
        if self.host_weights is not None:
            sizes *= np.sqrt(self.host_weights.astype(np.float64))
        return sizes

    def target_squares(self) -> np.ndarray:
        """Return sum_i s_i (y_i - mean)^2 of each target."""
        if isinstance(self.y, DeviceArray):
            return 2.0 * self.weight * self._at_zero_weights(self.y_centre).loss
        total = np.zeros(self.t)
        for y, s in self._target_chunks():
            y -= self.y_centre
            y *= y
            total += y.sum(axis=0) if s is None else s @ y
        return total

    def total(self, losses: np.ndarray) -> float:
        """Return the sum of the targets' losses in their common unit."""
        return float(np.ldexp(losses, self.loss_exponents).sum())

    def largest_target(self) -> float:
        """Return the largest |y|; for y on a GPU, the largest root mean square of a target."""
        return float(self.largest_targets().max())

    def largest_targets(self) -> np.ndarray:
        """Return the largest |y| of each target, (t,); on a GPU, its root mean square."""
        if isinstance(self.y, DeviceArray):
            sizes = np.sqrt(2.0 * self._at_zero_weights(np.zeros(self.t)).loss)
            if ((sizes > 1e-100) & (sizes < 1e100)).all():  # no square has overflown or vanished
                return sizes
            if self.t == 1:
                low, high = extremes(self.y)
                return np.array([max(high, -low)])
            return np.abs(np.asarray(self.y)).max(axis=0).astype(np.float64)
        if self.sample_weight is None:
            if self.t > FEW_TARGETS:
                return np.maximum(self.y.max(axis=0), -self.y.min(axis=0)).astype(np.float64)
            return np.array([max(float(y.max()), -float(y.min())) for y in self.y.T])
        parts = [np.abs(y[s > 0.0]).max(axis=0, initial=0.0) for y, s in self._target_chunks()]
        return np.max(parts, axis=0)

    def _at_zero_weights(self, intercept: np.ndarray) -> TargetGradients:
        """Make a pass at zero weights and this intercept, for which y stays on its GPU."""
        return self._pass(self.y, np.zeros((self.t, self.d)), intercept)

    def intercept_for(self, coef: np.ndarray) -> np.ndarray:
        return self.y_centre - coef @ self.centre

    def gradient(self, coef: np.ndarray, intercept: np.ndarray, is_rough: bool = False) -> Gradient:
        """Return the gradient at these weights, from their actual residuals.

        Near the solution the terms of each sum cancel, and the rounding of the partial sums becomes
        the error of the weights. It grows with the length of a sum. So `GRADIENT_PARTS` short sums
        are added up, where the kernel does not do so itself. A rough one takes half the time of
        1,000 x 4,000 float32 numbers (0.6 ms of 1.3).
        """
        if self.is_far:
            there = intercept + coef @ self.centre
            loss, slope, mean = self._about(self.centre, self.y, coef, there)
            mean = mean if self.fit_intercept else np.zeros(self.t)
            return Gradient(2.0 * self.weight * loss, self.weight * slope + self.alpha * coef, mean)
        self.passes += 1
        parts = 1
        if not self.kernels.SUMS_ARE_SPLIT and not is_rough:
            parts = min(GRADIENT_PARTS, max(1, self.stored // GRADIENT_PART_NUMBERS))
        squares, slope, sums = np.zeros(self.t), np.zeros((self.t, self.d)), np.zeros(self.t)
        given = self.X, self.y, self.sample_weight, coef, intercept
        found = part_gradients(self.kernels, *given, parts, self.pass_threads)
        for weight, (loss, dw, db) in found:
            squares += 2.0 * weight * loss
            slope += weight * dw
            sums += weight * db
        mean = sums / self.weight if self.fit_intercept else np.zeros(self.t)
        slope -= np.outer(self.weight * mean, self.centre)
        return Gradient(squares, slope + self.alpha * coef, mean)

    def apply(self, coef: np.ndarray, *, is_exact: bool = False) -> np.ndarray:
        """Return (A^T A + alpha I) w for each row w of `coef`, of which there may be any number.

        Where it is to be exact, the rows are read in float64 about their mean.
        """
        zeros = repeated(0.0, (self.n, len(coef)), self.y)
        if self.is_far or is_exact:
            out = self._about(self.centre, zeros, coef, np.zeros(len(coef))).coef
            out *= self.weight
        else:
            _, out, db = self._pass(zeros, coef, -(coef @ self.centre))
            if self.fit_intercept:
                out -= np.outer(db, self.centre)
            out *= self.weight
        if self.alpha > 0.0:
            out += self.alpha * coef
        return out

    def random_image(self) -> np.ndarray:
        """Return A^T u (1, d) for random signs u, seeded, at the cost of a pass."""
        rng, image, total = np.random.default_rng(0), np.zeros((1, self.d)), np.zeros(1)
        zero = np.zeros((1, self.d)), np.zeros(1)
        for start in range(0, self.n, TARGET_ROWS):
            rows = slice(start, min(start + TARGET_ROWS, self.n))
            s = None if self.sample_weight is None else self.sample_weight[rows]
            weight = float(rows.stop - start if s is None else s.sum(dtype=np.float64))
            if weight == 0.0:
                continue
            signs = rng.choice([-1.0, 1.0], size=(rows.stop - start, 1))
            u = placed_beside(signs.astype(self.y.dtype), self.X)
            found = self._call(row_slice(self.X, start, rows.stop), u, *zero, s)
            image += weight * found.coef
            total += weight * found.intercept
        return image - np.outer(total, self.centre)

    def _pass(self, y, coef, intercept) -> TargetGradients:
        self.passes += 1
        return self._call(self.X, y, coef, intercept, self.sample_weight)

    def _call(self, X: Matrix, y, coef, intercept, s) -> TargetGradients:
        return call_loss_gradient(self.kernels, X, y, coef, intercept, s, self.pass_threads)

    def _about(self, origin: np.ndarray, y, coef: np.ndarray, intercept) -> TargetGradients:
        """Make a pass over the rows less `origin`, in float64; `intercept` is that at `origin`.

        Sparse rows stay sparse: what the origin adds is subtracted from their sums.
        """
        self.passes += 1
        sparse = isinstance(self.X, CSR)
        per_row = max(1, self.stored // self.n) if sparse else self.d
        t, step = len(coef), max(1, DENSE_NUMBERS // per_row)
        loss, dw, db = np.zeros(t), np.zeros((t, self.d)), np.zeros(t)
        coef = np.ascontiguousarray(coef)
        intercept = intercept - coef @ origin if sparse else intercept
        for start in range(0, self.n, step):
            stop = min(start + step, self.n)
            s = None if self.sample_weight is None else self.sample_weight[start:stop]
            weight = float(stop - start if s is None else s.sum(dtype=np.float64))
            if weight == 0.0:
                continue
            rows = row_slice(self.X, start, stop)
            A = in_float64(rows) if isinstance(rows, CSR) else as_dense(rows) - origin
            part = self._call(A, y[start:stop], coef, intercept, s)
            share = weight / self.weight
            loss += share * part.loss
            dw += share * part.coef
            db += share * part.intercept
        return TargetGradients(loss, dw - np.outer(db, origin) if sparse else dw, db)

    def chunks(self, first: int = 0, end: int | None = None, numbers: int | None = None):
        """Yield (start, stop, rows of A, rows of S^(1/2) (y - mean)), a few rows at a time."""
        step = max(1, (numbers or DENSE_NUMBERS) // self.d)
        end = self.n if end is None else end
        for start in range(first, end, step):
            stop = min(start + step, end)
            A = as_dense(row_slice(self.X, start, stop)) - self.centre
            if self.centre_rest is not None:
                A -= self.centre_rest
            y = self.y[start:stop].astype(np.float64) - self.y_centre
            if self.sample_weight is not None:
                root = np.sqrt(self.sample_weight[start:stop].astype(np.float64))[:, None]
                A *= root
                y *= root
            yield start, stop, A, y

    @property
    def _far_share(self) -> float:
        return FAR_SHARE[working_dtype(self.X)]

    @property
    def eps(self) -> float:
        """The relative rounding of X's numbers."""
        return EPS_OF[working_dtype(self.X)]

    @property
    def stored(self) -> int:
        """How many numbers X stores."""
        return stored_numbers(self.X)
