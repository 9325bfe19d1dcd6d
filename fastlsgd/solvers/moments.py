"""Sums over rows that can be merged: the mean, and the products of rows about it.

Two sets of rows with weights W_a, W_b and means m_a, m_b have together the products

    M = M_a + M_b + W_a W_b / (W_a + W_b) (m_b - m_a)(m_b - m_a)^T

(Chan, Golub and LeVeque 1983, Am. Stat. 37(3)), in which nothing cancels. A mean is stored as an
origin and an offset from it, so that the difference of two means, whose square matters, keeps its
digits where columns lie 1e8 standard deviations from zero.

`GramSums` has M itself, from one pass of the `gram` kernel; the relative error of weights from it
is eps times the square of the columns' condition. `TriangularSums` has R with R^T R = M, by QR a
chunk of rows at a time (TSQR: Demmel, Grigori, Hoemmen and Langou 2012, SIAM J. Sci. Comput.
34(1)), whose error is eps times the condition, at about ten times the cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ..kernels.device import placed_beside
from .eigen import eigh, svd
from .factors import (
    EPS,
    GRAM_CONDITION,
    NotTrustworthy,
    cholesky_factor,
    column_scale,
    reciprocal_condition,
    solve_upper,
    upper_of,
)
from .interrupt import LONG_WORK, interruptible
from .orthogonal import rank_tolerance
from .rows import as_dense, row_slice, stored_numbers, take_rows
from .serial_blas import blas_for_decomposition
from .system import System
from .target_scale import far_exponents
from .threaded_products import product
from .training import TrainingData
from .weights import normalised_weights

# Rows of a block: its targets are copied, and its sums merged with those before it.
BLOCK_NUMBERS, LEAST_ROWS, MOST_ROWS = 2**24, 2**14, 2**20
# Numbers of a block that is decomposed by QR: 8 MB.
QR_NUMBERS = 2**20
PART_NUMBERS = 2**16  # of a d x d array, in one operation of NumPy: half a megabyte, in cache
# Numbers that are copied before Ctrl-C is looked for.
NUMBERS_AT_ONCE = 2**22
# A column that loses more than this to the square of its mean is summed again about its mean.
MEAN_CANCELLATION = 30.0
# What is left of a column by a subtraction has lost as many digits as this number has.
MOST_LOST = 1e5
# The squares of a column below this have underflown, unless it is constant.
LEAST_SQUARE = 1e-250
# Sums of squares above this get other units before more is added.
MOST_SQUARE = 1e290


class Lost(NotTrustworthy):
    """Columns, with targets after those of X, of which a subtraction leaves only rounding."""

    def __init__(self, columns: np.ndarray) -> None:
        super().__init__("what is left of columns is rounding")
        self.columns = columns


@dataclass(frozen=True)
class Place:
    """How many rows there are, what they weigh, and where their mean is.

    What is said of a column here and in sums is said of the column times 2^-unit.
    """

    n_rows: int  # of positive weight
    weight: float
    log_weights: float  # sum of the logarithms of the weights
    origin: np.ndarray  # (d + t,)  near the mean of X and of y
    offset: np.ndarray  # (d + t,)  of the mean from there
    units: np.ndarray  # (d + t,) of int, mostly 0

    @property
    def mean(self) -> np.ndarray:
        """The mean of the columns in their units."""
        return self.origin + self.offset

    @property
    def plain_mean(self) -> np.ndarray:
        """The mean of the columns as they are."""
        return np.ldexp(self.mean, self.units)

    def in_units(self, units: np.ndarray) -> Place:
        by = self.units - units
        return replace(
            self, origin=np.ldexp(self.origin, by), offset=np.ldexp(self.offset, by), units=units
        )

    def to(self, other: Place) -> np.ndarray:
        """Return the other mean less this one."""
        return (other.origin - self.origin) + (other.offset - self.offset)

    def joined(self, other: Place) -> Place:
        """Return the place of both, counted from the origin of the heavier one."""
        here, there = (self, other) if self.weight >= other.weight else (other, self)
        weight = self.weight + other.weight
        return Place(
            self.n_rows + other.n_rows,
            weight,
            self.log_weights + other.log_weights,
            here.origin,
            here.offset + here.to(there) * (there.weight / weight),
            here.units,
        )

    def without(self, other: Place) -> Place:
        weight = self.weight - other.weight
        return Place(
            self.n_rows - other.n_rows,
            weight,
            self.log_weights - other.log_weights,
            self.origin,
            self.offset - self.to(other) * (other.weight / weight),
            self.units,
        )

    def step(self, other: Place) -> np.ndarray:
        """Return the row whose square is what the distance of the two means adds to products."""
        share = other.weight / (self.weight + other.weight)
        return np.sqrt(self.weight * share) * self.to(other)

    def is_constant(self, squares: np.ndarray, first: int = 0) -> np.ndarray:
        """Return which columns vary by rounding alone, from their squares about the mean."""
        mean = self.mean[first : first + len(squares)]
        return squares <= self.weight * (4.0 * EPS * mean) ** 2

    def refuse_lost(self, left: np.ndarray, before: np.ndarray, first: int = 0) -> None:
        """Raise `Lost` if a subtraction leaves too few digits of these columns' squares."""
        is_lost = ~(left * MOST_LOST >= before) & ~self.is_constant(before, first)
        if is_lost.any():
            raise Lost(first + np.flatnonzero(is_lost))

    def selected(self, columns: np.ndarray) -> Place:
        return Place(
            self.n_rows,
            self.weight,
            self.log_weights,
            self.origin[columns],
            self.offset[columns],
            self.units[columns],
        )


@dataclass(frozen=True)
class GramSums:
    """Products of rows about their mean."""

    factor: ClassVar[str] = "gram"

    place: Place
    xx: np.ndarray  # (d, d)
    xy: np.ndarray  # (d, t)
    yy: np.ndarray  # (t,)  squares of each target

    @property
    def n_features(self) -> int:
        return len(self.xx)

    def squares(self) -> np.ndarray:
        """Return the squares of the columns and targets about their means, (d + t,)."""
        return np.append(np.diag(self.xx), self.yy)

    def most(self) -> float:
        """Return the largest of these squares."""
        return max(float(self.xx.diagonal().max()), float(self.yy.max()))

    def in_units(self, units: np.ndarray) -> GramSums:
        if np.array_equal(units, self.place.units):
            return self
        by, d = self.place.units - units, len(self.xx)
        return GramSums(
            self.place.in_units(units),
            np.ldexp(np.ldexp(self.xx, by[:d]), by[:d, None]),
            np.ldexp(np.ldexp(self.xy, by[d:]), by[:d, None]),
            np.ldexp(self.yy, 2 * by[d:]),
        )

    def joined(self, other: GramSums) -> GramSums:
        self, other = alike(self, other)
        xx = _by_rows(len(self.xx), lambda part: self.xx[part] + other.xx[part])
        xy, yy = self.xy + other.xy, self.yy + other.yy
        both = GramSums(self.place.joined(other.place), xx, xy, yy)
        return both.with_row(self.place.step(other.place))

    def with_row(self, row: np.ndarray) -> GramSums:
        """Return the sums with the products of one row more, at the same place."""
        d = len(self.xx)
        xx = _by_rows(d, lambda part: self.xx[part] + np.outer(row[:d][part], row[:d]))
        xy, yy = self.xy + np.outer(row[:d], row[d:]), self.yy + row[d:] ** 2
        return GramSums(self.place, xx, xy, yy)

    def without(self, other: GramSums) -> GramSums:
        """Take rows out again.

        Raises
        ------
        NotTrustworthy
            If so little of a column is left that it would be rounding.
        """
        other = other.in_units(self.place.units)
        d, place = len(self.xx), self.place.without(other.place)
        step = other.place.step(place)
        x, y = step[:d], step[d:]
        xx = _by_rows(d, lambda part: self.xx[part] - other.xx[part] - np.outer(x[part], x))
        xy = self.xy - other.xy - np.outer(x, y)
        yy = self.yy - other.yy - y**2
        left, before = np.append(np.diag(xx), yy), np.append(np.diag(self.xx), self.yy)
        self.place.refuse_lost(left, before)
        return GramSums(place, xx, xy, yy)

    def selected(self, columns: np.ndarray) -> GramSums:
        d = len(self.xx)
        every = np.append(columns, np.arange(d, len(self.place.origin)))
        return GramSums(
            self.place.selected(every), self.xx[np.ix_(columns, columns)], self.xy[columns], self.yy
        )

    def arrays(self) -> dict[str, np.ndarray]:
        return {"xx": self.xx, "xy": self.xy, "yy": self.yy}

    def products(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return M for the columns of X, for X and y, and the squares of y."""
        return self.xx, self.xy, self.yy

    def root(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return R with R^T R = M, R^-T X^T y, and the squares of what is left of y.

        Where the columns depend on each other to rounding, R comes from the eigenvalues above it.
        """
        scale = column_scale(np.diag(self.xx))
        try:
            found = cholesky_factor(self.xx, 0.0, scale)
        except NotTrustworthy:
            found = None
        if found is not None and found.condition <= GRAM_CONDITION:
            norms = np.where(scale > 0.0, 1.0 / np.where(scale > 0.0, scale, 1.0), 0.0)
            R, q = found.upper * norms, found.whiten(self.xy.T).T
            q[scale == 0.0] = 0.0
        else:
            values, vectors = eigh(scale[:, None] * self.xx * scale)
            keep = values > 4.0 * EPS * len(values) * max(float(values[-1]), 1e-300)
            size, V = np.sqrt(values[keep]), vectors[:, keep]
            norms = np.sqrt(np.maximum(np.diag(self.xx), 0.0)) * (scale > 0.0)
            R = size[:, None] * V.T * norms
            q = product(V.T, self.xy * scale[:, None]) / size[:, None]
        return R, q, np.maximum(self.yy - (q * q).sum(axis=0), 0.0)

    def condition(self, columns: np.ndarray, penalty: np.ndarray) -> float:
        """Return the condition of these scaled columns; infinite where they depend.

        `penalty` has the penalty of each in its unit.
        """
        xx = self.xx[np.ix_(columns, columns)]
        try:
            scale = column_scale(np.diag(xx) + penalty)
            return cholesky_factor(xx, penalty, scale).condition
        except NotTrustworthy:
            return np.inf


@dataclass(frozen=True)
class TriangularSums:
    """The factor R of rows about their mean, their targets in its coordinates, and the rest."""

    factor: ClassVar[str] = "qr"

    place: Place
    upper: np.ndarray  # (k, d)
    slopes: np.ndarray  # (k, t)
    rest: np.ndarray  # (t,)  squares of what no combination of columns has

    @property
    def n_features(self) -> int:
        return self.upper.shape[1]

    def squares(self) -> np.ndarray:
        """Return the squares of the columns and targets about their means, (d + t,)."""
        squares = np.einsum("ij,ij->j", self.upper, self.upper)
        return np.append(squares, self.rest + (self.slopes**2).sum(axis=0))

    def most(self) -> float:
        """Return the largest of these squares."""
        return float(self.squares().max())

    def in_units(self, units: np.ndarray) -> TriangularSums:
        if np.array_equal(units, self.place.units):
            return self
        by, d = self.place.units - units, self.upper.shape[1]
        return TriangularSums(
            self.place.in_units(units),
            np.ldexp(self.upper, by[:d]),
            np.ldexp(self.slopes, by[d:]),
            np.ldexp(self.rest, 2 * by[d:]),
        )

    def joined(self, other: TriangularSums) -> TriangularSums:
        self, other = alike(self, other)
        A = np.concatenate([self.upper, other.upper])
        y = np.concatenate([self.slopes, other.slopes])
        both = TriangularSums(self.place.joined(other.place), A, y, self.rest + other.rest)
        return both.with_row(self.place.step(other.place))

    def with_row(self, row: np.ndarray) -> TriangularSums:
        """Return the factor with one row more, at the same place."""
        d = self.upper.shape[1]
        A, y = np.vstack([self.upper, row[:d]]), np.vstack([self.slopes, row[d:]])
        upper, slopes, rest = decomposed(A, y)
        return TriangularSums(self.place, upper, slopes, self.rest + rest)

    def without(self, other: TriangularSums) -> TriangularSums:
        """Take rows out again, as the Cholesky factor K of I - V^T V with V = E R^-1.

        E has the factor of the other rows and the step between the means, so that K R is the
        factor of what is left.

        Raises
        ------
        NotTrustworthy
            If so little of the rows is left that it would be rounding.
        """
        other = other.in_units(self.place.units)
        d, place = self.upper.shape[1], self.place.without(other.place)
        step = other.place.step(place)[None]
        E = np.concatenate([other.upper, step[:, :d]])
        e = np.concatenate([other.slopes, step[:, d:]])
        if len(self.upper) < d or not np.diag(self.upper).all():
            raise NotTrustworthy("the columns depend on each other")
        V = solve_upper(self.upper, E.T, trans="T").T
        K = upper_of(np.eye(d) - product(V.T, V))
        if K is None or float(np.diag(K).min()) ** 2 * MOST_LOST < 1.0:
            raise NotTrustworthy("what is left of the columns is rounding")
        slopes = solve_upper(K, self.slopes - product(V.T, e), trans="T")
        before = self.rest + (self.slopes**2).sum(axis=0)
        left = before - other.rest - (e * e).sum(axis=0)
        self.place.refuse_lost(left, before, first=d)
        rest = np.maximum(left - (slopes * slopes).sum(axis=0), 0.0)
        return TriangularSums(place, product(K, self.upper), slopes, rest)

    def selected(self, columns: np.ndarray) -> TriangularSums:
        every = np.append(columns, np.arange(self.upper.shape[1], len(self.place.origin)))
        upper, slopes, rest = decomposed(self.upper[:, columns], self.slopes)
        return TriangularSums(self.place.selected(every), upper, slopes, self.rest + rest)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"upper": self.upper, "slopes": self.slopes, "rest": self.rest}

    def products(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return M for the columns of X, for X and y, and the squares of y."""
        squares = self.rest + (self.slopes**2).sum(axis=0)
        R = self.upper
        return product(R.T, R), product(R.T, self.slopes), squares

    def root(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return R, Q^T y, and the squares of what is left of y.

        Where the columns depend on each other to rounding, R is cut down to its rank: solvers would
        take its last rows, however small, for exact.
        """
        scale = column_scale(np.einsum("ij,ij->j", self.upper, self.upper))
        scaled, tolerance = self.upper * scale, rank_tolerance(len(scale))
        is_square = len(scaled) == len(scale)
        if is_square and reciprocal_condition(np.asfortranarray(scaled)) > 1e3 * tolerance:
            return self.upper, self.slopes, self.rest
        U, sizes, Vt = svd(scaled)
        keep = sizes > tolerance * sizes.max(initial=0.0)
        norms = np.where(scale > 0.0, 1.0 / np.where(scale > 0.0, scale, 1.0), 0.0)
        turned = product(U.T, self.slopes)
        rest = self.rest + (turned[~keep] ** 2).sum(axis=0)
        return sizes[keep, None] * Vt[keep] * norms, turned[keep], rest

    def condition(self, columns: np.ndarray, penalty: np.ndarray) -> float:
        """Return the condition of these scaled columns; infinite where they depend.

        `penalty` has the penalty of each in its unit.
        """
        A = self.upper[:, columns]
        if penalty.any():
            A = np.concatenate([A, np.diag(np.sqrt(penalty))])
        scale = column_scale(np.einsum("ij,ij->j", A, A))
        if A.shape[0] < A.shape[1] or not scale.all():
            return np.inf
        A = A * scale
        is_long = float(A.shape[0]) * A.shape[1] ** 2 >= LONG_WORK
        R = interruptible(np.linalg.qr, A, mode="r") if is_long else np.linalg.qr(A, mode="r")
        reciprocal = reciprocal_condition(np.asarray(R))
        return 1.0 / reciprocal if reciprocal > 0.0 else np.inf


Sums = GramSums | TriangularSums


def alike(one: Sums, other: Sums) -> tuple[Any, Any]:
    """Return both in units in which each column can be added, of the larger of the two."""
    places = one.place, other.place
    same = bool((places[0].units == places[1].units).all())
    if same and max(one.most(), other.most()) <= MOST_SQUARE:
        return one, other
    known = [(part.squares() > 0.0) | (part.place.mean != 0.0) for part in (one, other)]
    least = min(int(place.units.min()) for place in places)
    units = np.max(
        [np.where(has, place.units, least) for has, place in zip(known, places, strict=True)],
        axis=0,
    )
    units = np.where(known[0] | known[1], units, 0)
    squares = np.maximum(one.in_units(units).squares(), other.in_units(units).squares())
    units = units + np.where(squares > MOST_SQUARE, np.frexp(np.sqrt(squares))[1], 0)
    return one.in_units(units), other.in_units(units)


def plain_products(sums: Sums) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the products of the columns as they are, which may leave the range of float64."""
    d, units = sums.n_features, sums.place.units
    xx, xy, yy = sums.products()
    with np.errstate(over="ignore", under="ignore"):
        return (
            np.ldexp(xx, units[:d] + units[:d, None]),
            np.ldexp(xy, units[d:] + units[:d, None]),
            np.ldexp(yy, 2 * units[d:]),
        )


def decomposed(A: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return R of A, Q^T y, and the squares of y - Q Q^T y."""
    is_long = float(A.shape[0]) * A.shape[1] ** 2 >= LONG_WORK
    with blas_for_decomposition(A):
        Q, R = interruptible(np.linalg.qr, A) if is_long else np.linalg.qr(A)
    slopes = product(Q.T, y)
    rest = y - product(Q, slopes)
    return R, slopes, np.einsum("ij,ij->j", rest, rest)


def about_zero(sums: Sums) -> Sums:
    """Return the sums about zero in place of the mean."""
    place = sums.place
    zero = np.zeros_like(place.origin)
    moved = replace(sums, place=replace(place, origin=zero, offset=zero))
    return moved.with_row(np.sqrt(place.weight) * place.mean)


def varying(sums: Sums) -> np.ndarray:
    """Return the columns of X that do not vary by rounding alone."""
    squares = np.diag(sums.products()[0])
    return np.flatnonzero(~sums.place.is_constant(squares))


def read(factor: str, data: TrainingData, origin: np.ndarray | None) -> Sums:
    """Return the sums over these rows, of which at least one has weight.

    `origin` (d + t,) is a mean of other rows; None takes one of these. Columns whose squares leave
    the range of float64 get units near their largest numbers.

    Raises
    ------
    NotTrustworthy
        If sums overflow or underflow nevertheless.
    """
    n, d = data.X.shape
    if origin is None:
        origin = sampled_mean(data)
    found: Sums | None = None
    if factor == "qr":
        step = max(4 * (d + 1), min(MOST_ROWS, QR_NUMBERS // d))
    else:
        # Products of sparse rows take the time of their stored numbers; merging takes d^2.
        stored = max(1, stored_numbers(data.X) // n)
        step = max(LEAST_ROWS, min(MOST_ROWS, BLOCK_NUMBERS // stored))
    take: Callable[[System, Place], Sums] = _triangle if factor == "qr" else _gram
    for start in range(0, n, step):
        part = _read_block(take, _some_rows(data, start, min(start + step, n)), origin)
        if part is not None:
            found = part if found is None else found.joined(part)  # type: ignore[arg-type]
    assert found is not None
    return found


def sampled_mean(data: TrainingData) -> np.ndarray:
    """Return the mean of a few rows and of their targets, from which the others are counted."""
    return _system(data).sampled_means()


def _system(data: TrainingData) -> System:
    kernels, X, y, s, n_threads = data
    return System(kernels, X, y, s, fit_intercept=True, n_threads=n_threads)


def _some_rows(data: TrainingData, start: int, stop: int) -> TrainingData:
    kernels, X, y, s, n_threads = data
    own = None if s is None else s[start:stop]
    return TrainingData(kernels, row_slice(X, start, stop), y[start:stop], own, n_threads)


def _read_block(take, data: TrainingData, origin: np.ndarray) -> Sums | None:
    """Return the sums of one block, or None if its rows have no weight."""
    place = _counted(data, origin)
    if place.n_rows == 0:
        return None
    targets = np.asarray(data.y, np.float64) - origin[data.X.shape[1] :]
    s = data.sample_weight
    s = None if s is None else np.asarray(s, np.float64)
    try:
        return take(_system(data._replace(y=targets, sample_weight=s)), place)
    except NotTrustworthy:
        found = _read_in_units(take, data, place)
        if found is None:
            raise
        return found


def _counted(data: TrainingData, origin: np.ndarray) -> Place:
    """Return the place of rows counted from an origin, as far as it is known before their sums."""
    s, n_rows, log_weights = data.sample_weight, len(data.y), 0.0
    if s is not None:
        weights = np.asarray(s, np.float64)
        counted = weights[weights > 0.0]
        n_rows, log_weights = len(counted), float(np.log(counted).sum())
    units = np.zeros(len(origin), dtype=int)
    return Place(n_rows, 0.0, log_weights, origin, np.zeros_like(origin), units)


def _read_in_units(take, data: TrainingData, place: Place) -> Sums | None:
    """Return the sums of columns, targets and weights that are brought near 1 by powers of two.

    None where they are near 1 already, or not finite. The rows are copied, a chunk at a time.
    """
    kernels, X, y, s, n_threads = data
    d, step = X.shape[1], max(1, QR_NUMBERS // X.shape[1])
    s, exponent = normalised_weights(None if s is None else np.asarray(s, np.float64), y)
    rows = np.arange(len(y)) if s is None else np.flatnonzero(s)
    chunks = [rows[start : start + step] for start in range(0, len(rows), step)]

    def taken(some: np.ndarray) -> np.ndarray:
        return np.hstack([as_dense(take_rows(X, some)), np.asarray(y[some], np.float64)])

    largest = np.max([np.abs(taken(some)).max(axis=0) for some in chunks], axis=0)
    if not np.isfinite(largest).all():
        return None
    units = far_exponents(largest)
    if not (units.any() or exponent):
        return None
    origin = np.ldexp(place.origin, -units)
    found: Any = None
    for some in chunks:
        A = np.ldexp(taken(some), -units)
        own = None if s is None else s[some]
        A, targets = placed_beside(A[:, :d].copy(), X), A[:, d:] - origin[d:]
        near = TrainingData(kernels, A, targets, own, n_threads)
        here = replace(_counted(near, origin), units=units)
        part = take(_system(near), here)
        found = part if found is None else found.joined(part)
    whole = found.place.in_units(units + exponent // 2)
    weight = float(np.ldexp(whole.weight, exponent))
    if not 0.0 < weight < np.inf:
        return None
    n_rows, log_weights = place.n_rows, place.log_weights
    whole = replace(whole, weight=weight, n_rows=n_rows, log_weights=log_weights)
    return replace(found, place=whole)


def _gram(system: System, place: Place) -> GramSums:
    d = system.d
    origin, sums = system.sums_about_mean(place.origin[:d], MEAN_CANCELLATION)
    x, y = sums.x / sums.weight, sums.y / sums.weight
    system.centre_at(origin + x, y)
    xx, xy = sums.xx, sums.xy - np.outer(sums.x, y)
    root = sums.x / np.sqrt(sums.weight)
    _by_rows(d, lambda part: xx[part] - np.outer(root[part], root), xx)
    # Weighted products by BLAS are symmetric but for rounding, and files are checked.
    _make_symmetric(xx)
    yy = system.target_squares()
    _refuse_range(system, np.diag(xx), yy, place.origin[d:])
    origin, offset = np.append(origin, place.origin[d:]), np.append(x, y)
    placed = replace(place, weight=sums.weight, origin=origin, offset=offset)
    return GramSums(placed, xx, xy, yy)


def _parts(d: int) -> Iterator[slice]:
    """Ranges of the rows of a d x d array.

    Ctrl-C waits for NumPy's current operation. One on all of 4,096 x 4,096 sums was seen to take
    4 s on a loaded machine, since it writes to 128 MB that are new.
    """
    step = max(1, PART_NUMBERS // max(1, d))
    return (slice(start, min(start + step, d)) for start in range(0, d, step))


def _by_rows(
    d: int, rows: Callable[[slice], np.ndarray], out: np.ndarray | None = None
) -> np.ndarray:
    """Return the d x d array of these rows."""
    if out is None:
        if d * d <= PART_NUMBERS:
            return rows(slice(d))
        out = np.empty((d, d))
    for part in _parts(d):
        out[part] = rows(part)
    return out


def _make_symmetric(A: np.ndarray) -> None:
    """Replace A by the mean of A and its transpose."""
    for part in _parts(len(A)):
        mean = 0.5 * A[part, part.start :] + 0.5 * A[part.start :, part].T
        A[part, part.start :], A[part.start :, part] = mean, mean.T


def _refuse_range(system: System, squares, y_squares, y_origin) -> None:
    """Raise NotTrustworthy where squares overflow, or underflow in columns that vary."""
    if not (np.isfinite(squares).all() and np.isfinite(y_squares).all()):
        raise NotTrustworthy("overflow")
    small = np.flatnonzero(squares < LEAST_SQUARE)
    if len(small) and system.varies(small, EPS):
        raise NotTrustworthy("underflow")
    small = np.flatnonzero(y_squares < LEAST_SQUARE)
    if len(small):
        apart = np.abs(system.y[:, small] - system.y_centre[small])
        if system.sample_weight is not None:
            apart = apart[system.sample_weight > 0.0]
        if (apart > 4.0 * EPS * np.abs(y_origin[small] + system.y_centre[small])).any():
            raise NotTrustworthy("underflow")


def _triangle(system: System, place: Place, moved: bool = False) -> TriangularSums:
    """Decompose the rows with a first column of ones, whose row of R has the mean.

    Where the mean is so far from the origin that it hides how the columns vary, it becomes the
    origin.
    """
    d = system.d
    A, y = _with_ones(system, place.origin[:d])
    if not np.isfinite(A).all():
        raise NotTrustworthy("overflow")
    R, slopes, rest = decomposed(A, y)
    offset = np.append(R[0, 1:], slopes[0]) / R[0, 0]
    squares = np.einsum("ij,ij->j", R[1:, 1:], R[1:, 1:])
    if not moved and np.any(R[0, 1:] ** 2 > MEAN_CANCELLATION * squares):
        origin = place.origin + np.append(offset[:d], np.zeros(system.t))
        return _triangle(system, replace(place, origin=origin), moved=True)
    system.centre_at(place.origin[:d] + offset[:d], offset[d:])
    y_squares = rest + (slopes[1:] ** 2).sum(axis=0)
    _refuse_range(system, squares, y_squares, place.origin[d:])
    placed = replace(place, weight=float(R[0, 0]) ** 2, offset=offset)
    return TriangularSums(placed, R[1:, 1:], slopes[1:], rest)


def _with_ones(system: System, origin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows about an origin after a column of ones, and y, both times weights' roots.

    They are copied some at a time, so that Ctrl-C is handled in between: the pages of a fresh
    block of 500 MB take seconds to clear on a machine under load.
    """
    n, s = system.n, system.sample_weight
    counted = np.arange(n) if s is None else np.flatnonzero(s > 0.0)
    A, step = np.empty((len(counted), system.d + 1)), max(1, NUMBERS_AT_ONCE // (system.d + 1))
    for start in range(0, len(counted), step):
        part = slice(start, start + step)
        rows = row_slice(system.X, start, min(start + step, n)) if s is None else None
        rows = take_rows(system.X, counted[part]) if rows is None else rows
        A[part, 0] = 1.0
        A[part, 1:] = as_dense(rows) - origin
        if s is not None:
            A[part] *= np.sqrt(s[counted[part]])[:, None]
    y = system.y if s is None else system.y[counted] * np.sqrt(s[counted])[:, None]
    return A, y
