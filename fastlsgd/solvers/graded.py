"""QR for rows of very different sizes, such as a few of weight 1e20 among ordinary ones.

Householder QR is accurate for each row relative to its own size if the rows are sorted by size and
columns are pivoted (Cox and Higham 1998, BIT 38(2)). Otherwise its errors are relative to the
largest rows and hide the small ones. Here the rows are taken from the largest to the smallest, in
blocks of similar size. Where a row depends on earlier ones, its remainder is dropped if it is
rounding, so that it cannot outweigh the smaller rows still to come.

The intercept has a column of its own: the mean of rows of weight 1e20 is known to 1e-16 only, an
error that their weight would turn into a large number.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.linalg import lapack, qr, solve_triangular

from .factors import reciprocal_condition
from .interrupt import interruptible
from .orthogonal import QR_BLOCK_NUMBERS, Orthogonal, rank_tolerance
from .rows import as_dense, random_rows, take_rows
from .system import ORIGIN_ROWS, System

# Rows whose sizes differ by less count as similar: in any order, QR loses at most as many eps.
GRADED = 1e3
# Weights so many times as large as those of QR in the rows' own order are looked at twice.
EXPLODED = 1e6
# No number of a column in its unit is beyond this power of two.
UNIT_EXPONENT = 900


def is_graded(system: System, found: Orthogonal) -> bool:
    """Return whether rows, in the columns' scales, differ so much in size that QR may be wrong."""
    sizes = GradedRows(system, found.scale > 0.0).sizes
    return float(sizes.max(initial=0.0)) > GRADED * float(sizes[sizes > 0.0].min(initial=np.inf))


def solve_graded(system: System, found: Orthogonal) -> Orthogonal:
    """Return the solution of least norm, accurate for each row relative to its own size.

    `found` is the result of QR with the rows in their own order; the columns that it found constant
    are left out here too.
    """
    rows = GradedRows(system, found.scale > 0.0)
    triangle = GradedTriangle(rows.width, system.t)
    for block in rows.blocks():
        triangle.append(*rows.take(block))
    v, condition = triangle.solve(_shifts(rows.units), system.fit_intercept)
    residual_norm = triangle.residual_norm(v, system.alpha, rows.units)
    coef = np.zeros((system.t, system.d))
    coef[:, rows.columns] = np.ldexp(v[: len(rows.columns)].T, rows.y_units[:, None] - rows.units)
    intercept, rank = np.zeros(system.t), len(triangle.upper)
    if system.fit_intercept:
        shift = np.ldexp(v[-1] * rows.one, rows.y_units)
        intercept = rows.y_origin + shift - coef[:, rows.columns] @ rows.origin
        rank -= 1
    return replace(
        found,
        coef=coef,
        intercept=intercept,
        residual_norm=np.ldexp(residual_norm, rows.y_units),
        condition=condition,
        rank=rank,
    )


def is_rounding(system: System, graded: Orthogonal, found: Orthogonal) -> bool:
    """Return whether a direction that `graded` sees, and `found` does not, is rounding.

    In rows far smaller than others, the rounding of dependent columns may exceed the row. Weights
    of 1e15 then leave more of y than the moderate ones of QR in the rows' own order do.
    """
    known = found.scale > 0.0
    if graded.rank <= found.rank or not known.any():
        return False
    sizes = [np.abs(one.coef[:, known] / found.scale[known]).max(axis=1) for one in (graded, found)]
    if not (sizes[0] > EXPLODED * sizes[1]).any():
        return False
    left = np.zeros((2, system.t))
    for start, stop, A, y in system.chunks():
        s = system.host_weights
        root = 1.0 if s is None else np.sqrt(s[start:stop].astype(np.float64))[:, None]
        for own, one in zip(left, (graded, found), strict=True):
            off = one.intercept + one.coef @ system.centre - system.y_centre
            own += ((A @ one.coef.T + off * root - y) ** 2).sum(axis=0)
    return bool((left[1] <= left[0]).all())


class GradedRows:
    """[A, S^(1/2)] and y, with columns scaled near 1 by powers of two, above the penalty's rows.

    Attributes
    ----------
    columns : ndarray
        Numbers of the columns that are not constant.
    units, y_units : ndarrays of int
        The powers of two by which these columns, and the targets, were divided: those of a column's
        ordinary numbers, and of a target's largest.
    one : float
        What the column of the intercept holds, times S^(1/2): 1 as in ordinary rows of the others.
    sizes : ndarray of shape (n + d,)
        The largest number of each row.
    """

    def __init__(self, system: System, counts: np.ndarray) -> None:
        self.system, self.columns = system, np.flatnonzero(counts)
        self.width = len(self.columns) + system.fit_intercept
        self.origin, self.y_origin = self._heaviest()
        largest, y_largest = np.zeros(len(self.columns)), np.zeros(system.t)
        for _, A, y, root in self._chunks():
            np.maximum(largest, (np.abs(A) * root).max(axis=0), out=largest)
            np.maximum(y_largest, (np.abs(y) * root).max(axis=0), out=y_largest)
        self.units, self.y_units = self._units(largest), np.frexp(y_largest)[1]
        penalty = np.zeros(0)
        if system.alpha > 0.0:
            penalty = np.ldexp(np.sqrt(system.alpha), -self.units)
        sizes, roots = np.zeros(system.n), np.ones(system.n)
        for rows, A, _, root in self._chunks():
            sizes[rows] = np.abs(np.ldexp(A, -self.units)).max(axis=1, initial=0.0)
            roots[rows] = root[:, 0]
        self.one = float(system.fit_intercept)
        sizes = np.maximum(sizes, self.one) * roots
        self.sizes = np.concatenate([sizes, penalty])

    def _heaviest(self) -> tuple[np.ndarray, np.ndarray]:
        """Return a row of about the largest weight as the origin of all: it becomes exact zeros.

        Of several, it is one of ordinary size: about a row of 1e16, the others would be alike.
        """
        system, s = self.system, self.system.host_weights
        if not system.fit_intercept:
            return np.zeros(len(self.columns)), np.zeros(system.t)
        heaviest = np.arange(system.n) if s is None else np.flatnonzero(s >= s.max() / GRADED**2)
        most = max(1, min(ORIGIN_ROWS, QR_BLOCK_NUMBERS // system.d))
        few = heaviest[random_rows(len(heaviest), most, None)]
        A = as_dense(take_rows(system.X, few))[:, self.columns]
        away = np.abs(A - np.median(A, axis=0))
        typical = np.median(away, axis=0)
        away = np.divide(away, typical, out=away, where=typical > 0.0)
        nearest = int(np.argmin(away.max(axis=1, initial=0.0)))
        return A[nearest], np.asarray(system.y[few[[nearest]]], np.float64)[0]

    def _units(self, largest: np.ndarray) -> np.ndarray:
        """Return powers of two that bring ordinary numbers of each column near 1.

        In units of the largest number, a column of ones is as large in all rows, beside which those
        of 1e14 do not show: weights were wrong in 245 of 300 such problems.
        """
        system = self.system
        most = max(1, min(ORIGIN_ROWS, QR_BLOCK_NUMBERS // system.d))
        rows = random_rows(system.n, most, system.host_weights)
        return ordinary_units(np.abs(self._counted(rows)[0]), np.frexp(largest)[1])

    def _chunks(self):
        step = max(1, QR_BLOCK_NUMBERS // self.system.d)
        for start in range(0, self.system.n, step):
            rows = np.arange(start, min(start + step, self.system.n))
            yield rows, *self._counted(rows)

    def _counted(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return X and y relative to the origin, and the roots of the weights, (rows, 1)."""
        system, s = self.system, self.system.host_weights
        root = np.ones(len(rows)) if s is None else np.sqrt(s[rows].astype(np.float64))
        A = as_dense(take_rows(system.X, rows))[:, self.columns] - self.origin
        return A, np.asarray(system.y[rows], np.float64) - self.y_origin, root[:, None]

    def blocks(self):
        """Yield the numbers of the rows, largest rows first, in blocks of similar size."""
        n, s = self.system.n, self.system.host_weights
        counts = self.sizes > 0.0
        counts[:n] |= s is None or s > 0.0  # rows of zeros have residuals, too
        order = np.argsort(-self.sizes, kind="stable")
        order = order[counts[order]]
        sizes, most = self.sizes[order], max(4 * self.width, QR_BLOCK_NUMBERS // self.width)
        start = 0
        while start < len(order):
            alike = int(np.searchsorted(-sizes, -sizes[start] / GRADED, side="right"))
            stop = min(alike, start + most)
            yield order[start:stop]
            start = stop

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n, d = self.system.n, len(self.columns)
        out, right = np.zeros((len(rows), self.width)), np.zeros((len(rows), self.system.t))
        is_data = rows < n
        A, y, root = self._counted(rows[is_data])
        out[is_data, :d] = np.ldexp(A, -self.units) * root
        if self.system.fit_intercept:
            out[is_data, -1] = root[:, 0] * self.one
        right[is_data] = np.ldexp(y, -self.y_units) * root
        below = rows[~is_data]
        out[np.flatnonzero(~is_data), below - n] = self.sizes[below]
        return out, right


def ordinary_units(A: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    """Return the powers of two near ordinary numbers of each column, as a sample |A| shows them.

    `exponents` are those of the columns' largest numbers.
    """
    stored = np.count_nonzero(A, axis=0)
    inner = np.sort(np.where(A > 0.0, A, np.inf), axis=0)
    ordinary = inner[np.maximum(stored - 1, 0) // 4, np.arange(A.shape[1])]
    known = 4 * stored > len(A)
    units = np.where(known, np.frexp(np.where(known, ordinary, 1.0))[1], exponents)
    units = np.maximum(units, exponents - UNIT_EXPONENT)
    # A column that is zero but in huge rows is as large as these are: beside their other columns it
    # would be rounding.
    sizes = np.ldexp(A[:, known], -units[known]).max(axis=1, initial=1.0)
    beside = np.frexp((A / sizes[:, None]).max(axis=0, initial=0.0))[1]
    units = np.where(known, np.minimum(units, beside), np.where(stored > 0, beside, units))
    return np.maximum(units, exponents - UNIT_EXPONENT)


class GradedTriangle:
    """R of the rows so far, whose own rows are sorted from the largest to the smallest."""

    def __init__(self, width: int, targets: int) -> None:
        self.upper, self.right = np.zeros((0, width)), np.zeros((0, targets))
        self.dropped = np.zeros(targets)  # norms of the part of y that no weights can explain

    def append(self, rows: np.ndarray, right: np.ndarray) -> None:
        """Add these rows by QR; rows of the result that are rounding are dropped."""
        rows, right = np.vstack([self.upper, rows]), np.vstack([self.right, right])
        sizes = np.abs(rows).max(axis=1)
        order = np.argsort(-sizes, kind="stable")
        rows, right, sizes = rows[order], right[order], sizes[order]
        upper, pivots, right = interruptible(pivoted, rows, right)
        k = len(upper)
        noise = rank_tolerance(rows.shape[1]) * np.sqrt(len(rows)) * sizes[:k]
        keep = norms_of(upper.T) > noise
        self.upper = np.zeros((int(keep.sum()), rows.shape[1]))
        self.upper[:, pivots] = upper[keep]
        self.right = right[:k][keep]
        rest = np.vstack([right[:k][~keep], right[k:]])
        self.dropped = np.hypot(self.dropped, norms_of(rest))

    def with_rows(self, rows: np.ndarray, right: np.ndarray) -> GradedTriangle:
        """Return the triangle with these rows added, of any size, whatever the sizes so far.

        What two equal rows of 1e16 leave of each other is rounding of 1. So the rows so far take
        part once more, from the largest on, and it is dropped before the small ones come.
        """
        out = GradedTriangle(rows.shape[1], right.shape[1])
        out.dropped = self.dropped
        rows, right = np.vstack([self.upper, rows]), np.vstack([self.right, right])
        sizes = np.abs(rows).max(axis=1, initial=0.0)
        order = np.argsort(-sizes, kind="stable")
        start, sizes = 0, sizes[order]
        while start < len(order):
            stop = int(np.searchsorted(-sizes, -sizes[start] / GRADED, side="right"))
            alike = order[start:stop]
            out.append(rows[alike], right[alike])
            start = stop
        return out

    def residual_norm(self, v: np.ndarray, alpha: float, units: np.ndarray) -> np.ndarray:
        """Return sqrt(sum s r^2) of each target: what was dropped, without the penalty's rows."""
        penalty = np.sqrt(alpha) * norms_of(np.ldexp(v[: len(units)], -units[:, None]))
        less = np.maximum(self.dropped - penalty, 0.0)
        return np.sqrt(less) * np.sqrt(self.dropped + penalty)

    def solve(self, shifts: np.ndarray, fit_intercept: bool) -> tuple[np.ndarray, float]:
        """Return v (width, t), and an estimate of the condition of columns scaled to norm 1.

        Where columns depend on each other, 2^shifts v are the weights whose norm is least. The last
        column is the intercept's, if there is one.
        """
        if len(self.upper) < self.upper.shape[1]:
            sizes = norms_of(self.upper.T)[:, None]
            upper, right = self.upper / sizes, self.right / sizes
            return _least_norm(upper, right, shifts, fit_intercept), np.inf
        R, pivots, c = interruptible(pivoted, self.upper, self.right)
        v = np.zeros_like(c)
        v[pivots] = solve_triangular(R, c, check_finite=False)
        reciprocal = reciprocal_condition(np.asfortranarray(R / norms_of(R)))
        return v, 1.0 / reciprocal if reciprocal > 0.0 else np.inf


def norms_of(rows: np.ndarray) -> np.ndarray:
    """Return the norms of columns, also where squares of their numbers are out of range."""
    largest = np.abs(rows).max(axis=0, initial=0.0)
    unit = np.where(largest > 0.0, largest, 1.0)
    return largest * np.linalg.norm(rows / unit, axis=0)


def pivoted(rows: np.ndarray, right: np.ndarray):
    """Return R (k, width), the order of the columns in it, and Q^T right."""
    if rows.shape[1] == 0:
        return np.zeros((0, 0)), np.zeros(0, dtype=int), right
    packed, pivots, tau, _, info = lapack.dgeqp3(rows)
    if info != 0:
        raise np.linalg.LinAlgError("QR failed")
    turned, _, info = lapack.dormqr(
        "L", "T", packed[:, : len(tau)], tau, right, 64 * right.shape[1]
    )
    if info != 0:
        raise np.linalg.LinAlgError("QR failed")
    return np.triu(packed[: len(tau)]), pivots - 1, turned


def _shifts(units: np.ndarray) -> np.ndarray:
    """Return the exponents by which 2^units are smaller than the largest of them."""
    return np.maximum(units - units.max(initial=0), -(2**12))


def _least_norm(
    upper: np.ndarray, right: np.ndarray, shifts: np.ndarray, fit_intercept: bool
) -> np.ndarray:
    """Return the weights of least norm, in their own units; the intercept does not count in it."""
    d = len(shifts)
    own, c, b = np.ldexp(upper[:, :d], shifts), right, None
    if fit_intercept:
        Q, beta = qr(upper[:, d:], check_finite=False)
        own, c = Q.T @ own, Q.T @ c
        first, first_c, own, c = own[0], c[0], own[1:], c[1:]
    if len(own):
        Q, R = qr(own.T, mode="economic", check_finite=False)
        w = Q @ solve_triangular(R, c, trans="T", check_finite=False)
    else:
        w = np.zeros((d, right.shape[1]))
    if fit_intercept:
        b = (first_c - first @ w) / beta[0, 0]
    v = np.ldexp(w, shifts[:, None])
    return v if b is None else np.vstack([v, b])
