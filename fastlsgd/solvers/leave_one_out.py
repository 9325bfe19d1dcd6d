"""Leave-one-out errors of least squares with an L2 penalty, exact and without a refit.

The residual of row i, were it left out, is r_i / (1 - h_i), with h_i = a_i^T (A^T A + lambda I)^-1
a_i its leverage (Allen 1974, Technometrics 16(1); Golub, Heath and Wahba 1979, Technometrics
21(2)). The rows are a_i = sqrt(s_i) (x_i - mean), and the intercept adds s_i / S to h_i. Both are
taken at the penalty of the fit without the row: alpha belongs to the mean over rows, so that lambda
is alpha (S - s_i).

In a basis U with U^T A^T A U = I and U^T U diagonal, all penalties together cost one pass over X. U
comes from the Gram matrix where that is accurate enough, else from a QR decomposition. Rows for
which neither is accurate enough are left out by a refit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from .eigen import LONG, eigh, svd
from .factors import EPS, NotTrustworthy, cholesky_factor
from .interrupt import interruptible
from .orthogonal import QR_BLOCK_NUMBERS
from .refits import ACCURACY, Task, penalties_without, penalty_series, refit_errors, restricted
from .regression import make_system
from .serial_blas import blas_for_decomposition
from .system import DENSE_NUMBERS
from .threaded_products import product
from .wide_cross_validation import is_wide, wide_leave_one_out

# Up to the first of these conditions of the scaled columns, a Gram matrix keeps `ACCURACY`. Up to
# the second, a QR decomposition determines the rank. Singular values below the third, relative to
# the largest, are zero.
FORMULA_CONDITION = 1e3
CLEAR_CONDITION = 1e7
NULL = 1e-14
# `eigh`, whose small eigenvalues have the rounding of the largest, is used where the squares of the
# columns' scales differ by less than the first. Singular values, which are the roots, are accurate
# enough for the range of the second.
EIGH_RANGE = 1e4
SHRINK_RANGE = 1e8
# The formulas for tall rows are used for at most this many columns of wide ones.
MOST_WIDE_COLUMNS = 4096


@dataclass
class Basis:
    """Coordinates z = U^T a in which a penalty is diagonal.

    U^T (A^T A + base I) U = I and U^T U = diag(shrink), so that A^T A + lambda I becomes
    1 + (lambda - base) shrink.
    """

    U: np.ndarray  # (d, k)
    shrink: np.ndarray  # (k,)
    slopes: np.ndarray  # (k, t)  U^T A^T y
    base: float
    noise: float  # what rounding may have added to a coordinate of norm 1
    tells_rank: bool = False  # whether U leaves out only the null space, and base is zero

    def serves(self, penalties: np.ndarray) -> np.ndarray:
        """Return for which penalties the rounding of the small numbers in `shrink` is harmless."""
        largest = self.shrink.max(initial=0.0)
        if largest <= SHRINK_RANGE * self.shrink.min(initial=np.inf):
            return np.ones(len(penalties), dtype=bool)
        return (penalties - self.base) * largest <= SHRINK_RANGE

    def factors(self, penalties: np.ndarray) -> np.ndarray:
        """Return 1 / (1 + (lambda - base) shrink), with one column per penalty."""
        return 1.0 / (1.0 + np.multiply.outer(self.shrink, penalties - self.base))


def leave_one_out(task: Task, alphas: Sequence[float]) -> np.ndarray:
    """Return the mean squared error of each row's prediction without it, (n_alphas,).

    It is the mean over targets too. The cost is a Gram matrix, its eigenvalues, and one pass of
    2 n d^2 flops for all alphas.
    """
    counted = int(np.count_nonzero(task.weights))
    if counted < 2:
        raise ValueError(
            f"n_samples={counted} of positive weight: leave-one-out needs two or more."
        )
    if counted < len(task.weights):
        task = replace(task, problem=restricted(task.problem, np.ones(len(task.weights))))
    penalties = np.asarray(alphas, dtype=np.float64)
    errors = np.full(len(penalties), np.nan)
    if is_wide(task):
        errors = wide_leave_one_out(task, penalties) / (task.total_weight * task.problem.y.shape[1])
    open_alphas = np.isnan(errors)
    if open_alphas.any():
        errors[open_alphas] = _LeaveOneOut(task).errors(penalties[open_alphas])
    return errors


# ------------------------------------------------------------------------------------- the basis


def in_range(squares: np.ndarray) -> bool:
    """Return whether squares of columns and their products are far from over- and underflow."""
    return bool(((squares == 0.0) | ((squares > 1e-140) & (squares < 1e140))).all())


def is_trusted(xx: np.ndarray, squares: np.ndarray, penalty: float) -> bool:
    """Return whether a Gram matrix with this penalty keeps `ACCURACY`."""
    counts = squares > 0.0
    scale = np.where(counts, 1.0 / np.sqrt(squares + penalty + ~counts), 0.0)
    try:
        return cholesky_factor(xx, penalty, scale).condition <= FORMULA_CONDITION
    except NotTrustworthy:
        return False


def _answering_interrupts(function, xx: np.ndarray, *args):
    """Call the function, with `interruptible` where the columns are so many that it takes long."""
    with blas_for_decomposition(xx):
        return interruptible(function, xx, *args) if len(xx) >= LONG else function(xx, *args)


def _n_trusted(xx: np.ndarray, squares: np.ndarray, penalties: np.ndarray) -> int:
    """Return for how many of these falling penalties a Gram matrix is accurate enough."""
    low, high = 0, len(penalties)
    if high and _answering_interrupts(is_trusted, xx, squares, float(penalties[-1])):
        return high
    while low < high:
        middle = (low + high) // 2
        if _answering_interrupts(is_trusted, xx, squares, float(penalties[middle])):
            low = middle + 1
        else:
            high = middle
    return low


def gram_bases(
    xx: np.ndarray, xy: np.ndarray, squares: np.ndarray, penalties: np.ndarray
) -> Iterator[tuple[slice, Basis]]:
    """Yield bases from A^T A and A^T y, and for which of these falling penalties each is good.

    `squares`, those of the columns, are 0 for columns that are left out. One basis is good for all
    penalties, unless columns differ much in scale. For penalties that are too small for a Gram
    matrix there is none.
    """
    stop = _n_trusted(xx, squares, penalties)
    while stop > 0:
        base = float(penalties[stop - 1])
        basis = _answering_interrupts(_basis_of_gram, xx, xy, squares, base)
        start = int(np.argmax(basis.serves(penalties[:stop])))
        yield slice(start, stop), basis
        stop = start


def _basis_of_gram(xx: np.ndarray, xy: np.ndarray, squares: np.ndarray, base: float) -> Basis:
    counts = squares > 0.0
    all_count = bool(counts.all())
    scale = 1.0 / np.sqrt(squares[counts] + base)
    H = (xx if all_count else xx[np.ix_(counts, counts)]) * scale * scale[:, None]
    H.flat[:: len(H) + 1] = 1.0
    values, vectors = eigh(H)
    whiten = scale[:, None] * (vectors / np.sqrt(values))
    if scale.max(initial=0.0) ** 2 <= EIGH_RANGE * scale.min(initial=np.inf) ** 2:
        shrink, turn = eigh(product(whiten.T, whiten))
    else:  # the small eigenvalues would be lost in the rounding of the largest
        _, roots, turned = svd(whiten)
        shrink, turn = roots**2, turned.T
    U = product(whiten, turn)
    if not all_count:
        kept, U = U, np.zeros((len(squares), len(scale)))
        U[counts] = kept
    condition = float(values[-1] / values[0]) if len(values) else 1.0
    return Basis(U, np.maximum(shrink, 0.0), U.T @ xy, base, EPS * condition)


def _turned(W, triangle: _RowsFactor, base: float, noise: float, *, tells_rank=False) -> Basis:
    """Return the basis W, turned such that W^T W is diagonal too."""
    _, roots, turn = svd(W)
    U, units = product(W, turn.T), triangle.units[:, None]
    slopes = product(triangle.R, np.ldexp(U, units)).T @ triangle.c
    return Basis(U, roots**2, slopes, base, noise, tells_rank)


class _RowsFactor(NamedTuple):
    """R of [A, y], without the columns of y, whose part of R is c."""

    R: np.ndarray  # (k, d)  of the columns times 2^-units
    c: np.ndarray  # (k, t)
    units: np.ndarray  # (d,) of int, 0 unless squares of columns leave float64's range

    def norms(self) -> np.ndarray:
        """Return the norms of the columns of A."""
        return np.ldexp(np.linalg.norm(self.R, axis=0), self.units)

    def times(self, scale: np.ndarray) -> np.ndarray:
        """Return R of the columns times these scales."""
        return self.R * np.ldexp(scale, self.units)


def _upper(rows: np.ndarray) -> np.ndarray:
    with blas_for_decomposition(rows):
        if rows.shape[1] >= LONG:
            return np.asarray(interruptible(np.linalg.qr, rows, mode="r"))
        return np.asarray(np.linalg.qr(rows, mode="r"))


# ------------------------------------------------------------------------------------ the errors


class _LeaveOneOut:
    """The errors, from a Gram matrix, QR or fits, whichever is the first to be accurate."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.system = make_system(task.kernels, task.problem, task.n_threads)

    def errors(self, alphas: np.ndarray) -> np.ndarray:
        """Return the means over rows and targets, one per alpha."""
        task, system = self.task, self.system
        sums = np.full(len(alphas), np.nan)
        ways = (self._from_gram, self._from_qr, self._from_penalised_qr)
        # What is left of wide rows has no formula, and all three take much memory for it.
        for way in ways if system.d <= MOST_WIDE_COLUMNS or system.n >= system.d else ():
            while np.isnan(sums).any():
                still = np.flatnonzero(np.isnan(sums))
                still = still[np.argsort(-alphas[still], kind="stable")]
                found = way(alphas[still])
                if found is None:
                    break
                which, basis = found
                which = still[which]
                sums[which] = self._sums(basis, alphas[which], by_gram=way == self._from_gram)
                if np.isnan(sums[which]).any():
                    break
        still = np.flatnonzero(np.isnan(sums))
        if len(still):
            rows = np.flatnonzero(task.weights).tolist()
            refitted = np.zeros(len(still))
            for row in rows:
                refitted += self._refit_row(row, alphas[still])
            sums[still] = refitted
        return sums / (system.weight * system.t)

    def _refit_row(self, row: int, alphas: np.ndarray) -> np.ndarray:
        counts = np.ones(self.system.n)
        counts[row] = 0.0
        return refit_errors(self.task, counts, np.array([row]), alphas)

    def _least_penalties(self, alphas: np.ndarray) -> np.ndarray:
        return penalties_without(self.task, alphas, float(self.task.weights.max()))

    def _from_gram(self, alphas: np.ndarray) -> tuple[slice, Basis] | None:
        """Return for which of these falling alphas the Gram matrix is good, and their basis."""
        system = self.system
        try:
            xx, xy = system.centred_gram()
        except NotTrustworthy:
            return None
        squares = xx.diagonal().copy()
        if not in_range(squares):
            return None
        squares[system.columns_scale(squares) == 0.0] = 0.0
        least = np.count_nonzero(squares) + system.fit_intercept
        if np.count_nonzero(self.task.weights) <= least:
            return None
        return next(gram_bases(xx, xy, squares, self._least_penalties(alphas)), None)

    @cached_property
    def _triangle(self) -> _RowsFactor | None:
        """R of [A, y], by blocks of rows; None where numbers are not finite."""
        d = self.system.d
        self.system.find_centre()
        units = np.zeros(d, dtype=int)
        upper = self._upper_in(units)
        squares = np.einsum("ij,ij->j", upper, upper)
        if not (np.isfinite(upper).all() and in_range(squares[:d])):
            largest = np.zeros(d)
            for _, _, A, _ in self.system.chunks():
                np.maximum(largest, np.abs(A).max(axis=0), out=largest)
            units = np.frexp(largest)[1]
            upper = self._upper_in(units)
        return _RowsFactor(upper[:, :d], upper[:, d:], units) if np.isfinite(upper).all() else None

    def _upper_in(self, units: np.ndarray) -> np.ndarray:
        """Return R of [A, y], the columns of A times 2^-units."""
        system = self.system
        width = system.d + system.t
        upper = np.zeros((0, width))
        for _, _, A, y in system.chunks(numbers=max(2 * system.d * width, QR_BLOCK_NUMBERS)):
            A = np.ldexp(A, -units) if units.any() else A
            upper = _upper(np.vstack([upper, np.hstack([A, y])]))
        return upper

    def _reciprocals(self, norms: np.ndarray, beside: float = 0.0) -> np.ndarray:
        """Return the reciprocals of the columns' norms, with a penalty's root beside them.

        They are 0 where only rounding varies.
        """
        counts = norms > 0.0
        if self.system.fit_intercept:
            constant, hidden = self.system.constant_columns(norms)
            if len(hidden):
                raise NotTrustworthy("rows differ too much in weight")
            counts[constant] = False
        return np.where(counts, 1.0 / np.hypot(np.where(counts, norms, 1.0), beside), 0.0)

    def _from_qr(self, alphas: np.ndarray) -> tuple[np.ndarray, Basis] | None:
        """Return a basis from R alone, if R determines the rank of the columns."""
        triangle, d = self._triangle, self.system.d
        if triangle is None:
            return None
        scale = self._reciprocals(triangle.norms())
        if np.count_nonzero(self.task.weights) <= d:
            scale = (scale > 0.0) * 1.0  # for the least norm in the columns' own units
        _, values, Vt = svd(triangle.times(scale))
        keep = values > NULL * max(d, 50) * values.max(initial=0.0)
        if keep.any() and values[keep][-1] * CLEAR_CONDITION < values[0]:
            return None
        condition = float(values[0] / values[keep][-1]) if keep.any() else 1.0
        W = scale[:, None] * (Vt[keep].T / values[keep])
        if not keep.all() and len(values) == d:
            # The weights of least norm have no component in the null space of A.
            null, _ = np.linalg.qr(scale[:, None] * Vt[~keep].T)
            W -= null @ (null.T @ W)
        basis = _turned(W, triangle, 0.0, EPS * condition, tells_rank=True)
        which = np.flatnonzero(basis.serves(self._least_penalties(alphas)))
        return (which, basis) if len(which) else None

    def _from_penalised_qr(self, alphas: np.ndarray) -> tuple[np.ndarray, Basis] | None:
        """Return a basis from R above the rows of the least penalty, if that is large enough."""
        triangle, d = self._triangle, self.system.d
        penalties = self._least_penalties(alphas)
        base = float(penalties[-1])
        if triangle is None or base == 0.0:
            return None
        scale = self._reciprocals(triangle.norms(), np.sqrt(base))
        rows = np.vstack([triangle.times(scale), np.sqrt(base) * np.diag(scale)])
        _, values, Vt = svd(rows)
        keep = values > NULL * max(d, 50) * values.max(initial=0.0)
        if not keep.any() or values[keep][-1] * CLEAR_CONDITION < values[0]:
            return None
        condition = float(values[0] / values[keep][-1])
        W = scale[:, None] * (Vt[keep].T / values[keep])
        basis = _turned(W, triangle, base, EPS * condition)
        return np.flatnonzero(basis.serves(penalties)), basis

    def _sums(self, basis: Basis, alphas: np.ndarray, *, by_gram: bool) -> np.ndarray:
        """Return the sum of squared errors for each alpha; NaN where QR is needed instead.

        Rows for which a basis from QR is not accurate enough are left out by a refit.
        """
        task, system = self.task, self.system
        total, refused = np.zeros(len(alphas)), np.zeros(len(alphas), dtype=bool)
        squares, y_squares = np.zeros(system.d), 0.0
        per_row = system.d + len(alphas) * (system.t + 2)
        for start, stop, A, y in system.chunks(numbers=max(1, DENSE_NUMBERS // per_row) * system.d):
            weights = task.weights[start:stop]
            left_out, told = _left_out(task, basis, alphas, A @ basis.U, y, weights)
            told |= weights[:, None] == 0.0
            all_told = bool(told.all())
            if not all_told:
                left_out[~told] = 0.0
            total += np.einsum("iat,iat->a", left_out, left_out)
            squares += np.einsum("ij,ij->j", A, A)
            y_squares += float((y * y).sum())
            if all_told:
                continue
            refused |= ~told.all(axis=0)
            if by_gram:
                continue
            for i in np.flatnonzero(~told.all(axis=1)):
                which = np.flatnonzero(~told[i])
                total[which] += self._refit_row(start + int(i), alphas[which])
        if by_gram:
            # Leave to QR what depends on sums that have cancelled, or is small compared with y.
            xx, kept = system.centred_gram()[0].diagonal(), basis.U.any(axis=1)
            refused |= (np.abs(squares - xx)[kept] > 1e-2 * ACCURACY * xx[kept]).any()
            refused |= total < (basis.noise / ACCURACY) ** 2 * y_squares
            total[refused] = np.nan
        return total


def _left_out(task: Task, basis: Basis, alphas, Z, y, weights):
    """Return residuals of rows left out (rows, n_alphas, t), and which of them are accurate.

    Where a direction has a single row, r_i and 1 - h_i are both sums over the penalty times
    G = shrink / (1 + penalty shrink), and the penalty, which may be zero, cancels from their ratio.
    """
    own = weights / task.total_weight if task.problem.fit_intercept else np.zeros(len(Z))
    squared, noise = Z * Z, basis.noise
    fitted, leverage = _at_penalties(task, basis, alphas, Z, squared, weights)
    numerator, rest = y[:, None, :] - fitted, 1.0 - own[:, None] - leverage
    told = rest >= min(max(noise / ACCURACY, 1e-8), 1e-2)
    beyond = 1.0 - own - squared.sum(axis=1)  # the row's part outside the space of the columns
    if basis.tells_rank:
        for i in np.flatnonzero(beyond < max(100.0 * noise, 1e-13)):
            penalties = penalties_without(task, alphas, weights[i])
            G = basis.factors(penalties) * basis.shrink[:, None]  # (k, n_alphas)
            numerator[i] = (Z[i, :, None] * G).T @ basis.slopes
            rest[i] = squared[i] @ G
            told[i] = rest[i] > 1e-6 * G.max(axis=0, initial=0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return numerator / rest[:, :, None], told


def _at_penalties(task: Task, basis: Basis, alphas, Z, squared, weights):
    """Return fitted values (rows, n_alphas, t) and leverages (rows, n_alphas), row by row.

    Each row has a penalty of its own. They differ little where no weight is much of the sum, and
    1 / (1 + (penalty - base) shrink) is then a short power series about that of the middle weight,
    with one product of matrices per term. Else it is formed for each row.
    """
    rows, t = len(Z), basis.slopes.shape[1]
    series = penalty_series(task, weights)
    fitted, leverage = np.zeros((rows, len(alphas), t)), np.zeros((rows, len(alphas)))
    if series.is_short:
        penalties = penalties_without(task, alphas, series.middle)
        F = basis.factors(penalties)  # (k, n_alphas)
        step, power = -np.multiply.outer(basis.shrink, penalties) * F, np.ones((rows, 1))
        for _ in range(series.n_terms):
            turned = (F[:, :, None] * basis.slopes[:, None, :]).reshape(len(F), len(alphas) * t)
            fitted += ((Z @ turned) * power).reshape(fitted.shape)
            leverage += (squared @ F) * power
            F, power = F * step, power * series.shift[:, None]
        return fitted, leverage
    for k, alpha in enumerate(alphas):
        F = basis.factors(penalties_without(task, alpha, weights)).T  # (rows, k)
        leverage[:, k] = np.einsum("ik,ik->i", squared, F)
        F *= Z
        fitted[:, k] = F @ basis.slopes
    return fitted, leverage
