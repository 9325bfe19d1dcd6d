"""Factors from orthogonal transformations: where a Gram matrix would square the condition.

`sketch_factor` mixes the rows into a few by a sparse-sign embedding and takes R from these (Rokhlin
and Tygert 2008, PNAS 105(36); Meng, Saunders and Mahoney 2014, SIAM J. Sci. Comput. 36(2); the
embedding: Epperly 2024, arXiv 2311.04362, section 2). Such an R is not accurate, but it is a good
metric whatever the condition. `solve_by_qr` is LAPACK's Householder QR, a block of rows at a time,
followed by a singular value decomposition where columns are linearly dependent. Its answer needs no
refinement.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

from .._threads import call_all, carried
from .eigen import LONG, svd
from .factors import EPS, NotTrustworthy, SingularFactor, TriangularFactor, column_scale
from .interrupt import interruptible
from .serial_blas import blas_for_decomposition
from .system import System

SKETCH_ROWS = 32  # per column: the gradient shrinks by sqrt(1 / 32) per iteration
SIGNS = 4  # nonzeros per column of the embedding
QR_BLOCK_NUMBERS = 2**21  # numbers in a block of rows: 16 MB
LARGEST_EXPONENT = 500  # the power of two of a number whose square must not overflow
FILLED_COLUMNS = 256  # columns of a block that are written at a time
MIXED_NUMBERS = 2**18  # numbers in a block of rows to be mixed: 2 MB, which stay in cache
# Up to this many rows per row of the sketch, QR of the rows themselves is as quick.
FEW_ROWS = 2


def rank_tolerance(d: int) -> float:
    """Return the share of the largest singular value below which others are rounding.

    numpy.linalg.lstsq has the number of rows in place of 50. With 100,000 rows it would drop
    singular values that QR still resolves.
    """
    return EPS * max(d, 50)


class Sketch(NamedTuple):
    """A factor, and the solution of the sketched problem in its coordinates."""

    factor: TriangularFactor
    start: np.ndarray  # (t, d)


def sketch_factor(system: System, seed: int) -> Sketch:
    """Return R of the sketch of [A, y], with the penalty's rows below.

    The cost is `SIGNS` additions per number of X and the QR of 32 d rows, which are held in memory
    once. If there are hardly more rows than that, they are not mixed: their own R takes less time,
    and memory for d^2 numbers.

    Raises
    ------
    NotTrustworthy
        If columns depend on each other to rounding, or the sums are not finite.
    """
    d = system.d
    if system.n <= FEW_ROWS * SKETCH_ROWS * d:
        upper = _triangle(system, np.zeros(d + system.t, dtype=int))
    else:
        upper = _mixed_triangle(system, seed)
    if not _in_range(upper):
        raise NotTrustworthy("squares overflow or underflow")
    squares = np.einsum("ij,ij->j", upper[:, :d], upper[:, :d])
    if EPS * system.alpha > squares.max():
        raise NotTrustworthy("Q^T y of the penalty's rows is rounding")
    scale = column_scale(np.where(system.columns_scale(squares) > 0.0, squares + system.alpha, 0.0))
    upper[:, :d] *= scale
    if system.alpha > 0.0:
        penalty = np.zeros((d, upper.shape[1]))
        penalty[:, :d] = np.diag(np.sqrt(system.alpha) * scale)
        upper = upper_of_both(upper, penalty)
    if len(upper) < d:
        raise NotTrustworthy("fewer rows than columns")
    if not scale.all():
        counts = np.append(scale > 0.0, np.ones(system.t, dtype=bool))
        upper = _upper_of(upper, np.flatnonzero(counts))
    R, start = upper[:d, :d].copy(order="F"), upper[:d, d:].T.copy()
    R[np.diag_indices(d)] += scale == 0.0
    factor = TriangularFactor(R, scale)
    # The rounding of the mean is as large beside a column as the mean is: QR removes it.
    away = float(np.sqrt(system.weight) * (np.abs(system.centre) * scale).max(initial=0.0))
    if factor.condition * rank_tolerance(d) * max(away, 1.0) > 1.0:
        raise NotTrustworthy("columns depend on each other to rounding")
    return Sketch(factor, start)


def _mixed_triangle(system: System, seed: int) -> np.ndarray:
    """Return R of S [A, y], where S is a sum of `SIGNS` parts with one nonzero per column each.

    Each thread passes over the rows for its own parts, so that neither the memory nor the bits of
    the result depend on the number of threads.
    """
    shape = SKETCH_ROWS * system.d // SIGNS, system.d + system.t
    parts = [np.zeros(shape) for _ in range(SIGNS)]
    seeds = [np.random.default_rng(own) for own in np.random.SeedSequence(seed).spawn(SIGNS)]
    n_threads, stop = min(system.n_threads, SIGNS), threading.Event()
    calls = [
        carried(partial(_mix, system, parts[k::n_threads], seeds[k::n_threads], stop))
        for k in range(n_threads)
    ]
    call_all(calls, stop)
    upper = np.zeros((0, shape[1]))
    while parts:
        upper = upper_of_both(upper, parts.pop(0))
    return upper


def _mix(system: System, parts: list[np.ndarray], rngs: list, stop: threading.Event) -> None:
    """Add each row, with a random sign, to a random row of each part."""
    for _, _, A, y in system.chunks(numbers=MIXED_NUMBERS):
        if stop.is_set():
            return
        for out, rng in zip(parts, rngs, strict=True):
            _add_mixed(out, A, y, rng)


def _add_mixed(out: np.ndarray, A: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> None:
    (n, d), m = A.shape, len(out)
    signs = rng.integers(0, 2, n, dtype=np.int8) * (2.0 / SIGNS**0.5) - SIGNS**-0.5
    if n <= m:  # the block's rows go to different rows, which collide no more than random ones
        apart = rng.choice(m, n, replace=False)
        out[apart, :d] += signs[:, None] * A
        out[apart, d:] += signs[:, None] * y
        return
    where = rng.integers(0, m, n, dtype=np.int32)
    S = sparse.csc_array((signs, where, np.arange(n + 1, dtype=np.int32)), (m, n))
    out[:, :d] += S @ A
    out[:, d:] += S @ y


def _in_range(rows: np.ndarray) -> bool:
    """Return whether the columns' squares are far from overflow and underflow."""
    largest = np.abs(rows).max(axis=0)
    return bool(np.all((largest == 0.0) | ((largest > 1e-120) & (largest < 1e120))))


def _upper(rows: np.ndarray) -> np.ndarray:
    """Return R, with at most as many rows as columns. `rows` may be overwritten."""
    work, _ = lapack.dgeqrf_lwork(*rows.shape)
    factorise = partial(lapack.dgeqrf, rows, lwork=int(work), overwrite_a=1)
    with blas_for_decomposition(rows):
        packed, _, _, info = factorise() if rows.shape[1] < LONG else interruptible(factorise)
    if info != 0:
        raise NotTrustworthy("QR failed")
    return np.tril(packed[: min(rows.shape)].T).T  # keeps the columns contiguous


def upper_of_both(upper: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return R of a triangle and further rows below it."""
    both = np.empty((len(upper) + len(rows), rows.shape[1]), order="F")
    _fill(both[: len(upper)], upper)
    _fill(both[len(upper) :], rows)
    return _upper(both)


def _fill(target: np.ndarray, source: np.ndarray) -> None:
    """Copy to contiguous columns, a few at a time, so that Ctrl-C is handled in between.

    The first rows of a fresh block touch all of its pages, which the system has to clear first.
    That took 1.7 s for 400 MB on a machine under load.
    """
    for start in range(0, source.shape[1], FILLED_COLUMNS):
        columns = slice(start, start + FILLED_COLUMNS)
        target[:, columns] = source[:, columns]


@dataclass
class Orthogonal:
    """The solution of `solve_by_qr`."""

    coef: np.ndarray  # (t, d)
    intercept: np.ndarray  # (t,)
    residual_norm: np.ndarray  # (t,)
    condition: float
    rank: int
    factor: TriangularFactor | None  # None where columns are linearly dependent
    scale: np.ndarray  # (d,)  of the columns
    slope: np.ndarray  # (t, d)  D A^T y: minus the gradient at zero, of scaled columns
    singular: SingularFactor | None = None  # where columns are linearly dependent

    def relative(self, gradient: np.ndarray) -> float:
        """Return the norm of a gradient of scaled columns over that at zero; NaN on overflow."""
        norms = np.linalg.norm(gradient * self.scale, axis=1)
        zero = np.linalg.norm(self.slope, axis=1)
        return float((norms / np.where(zero > 0.0, zero, 1.0)).max())


def solve_by_qr(system: System) -> Orthogonal:
    """Return the minimum-norm solution, from R of [A, y] and, if needed, R's singular values.

    Where squares could overflow or underflow, each column and target is first scaled near 1 by a
    power of two. The cost is 2 n d^2 flops, and memory for a block of rows and for R.
    """
    upper, exponents = triangle(system)
    with np.errstate(over="ignore", invalid="ignore"):
        return solve_triangle_of_rows(system, upper, exponents)


def triangle(system: System) -> tuple[np.ndarray, np.ndarray]:
    """Return R of [A, y], of at most d + t rows, and the powers of two taken from its columns."""
    exponents = np.zeros(system.d + system.t, dtype=int)
    with np.errstate(over="ignore", invalid="ignore"):
        system.refine_centre()
        upper = _triangle(system, exponents)
        if not _in_range(upper):
            exponents = _exponents(system)
            if system.alpha > 0.0:  # in a column's unit, the penalty must not overflow
                least = int(np.frexp(np.sqrt(system.alpha))[1]) - LARGEST_EXPONENT
                exponents[: system.d] = np.maximum(exponents[: system.d], least)
            upper = _triangle(system, exponents)
    if not np.isfinite(upper).all():
        raise np.linalg.LinAlgError("numbers that are not finite")
    return _without_constants(system, upper, exponents), exponents


def _triangle(system: System, exponents: np.ndarray) -> np.ndarray:
    """Return R of [A, y], each column divided by its power of two.

    The rows are copied, some at a time, to blocks whose columns are contiguous, as LAPACK wants.
    """
    n, d, width = system.n, system.d, system.d + system.t
    upper, step = np.zeros((0, width)), max(2 * width, QR_BLOCK_NUMBERS // d)
    for first in range(0, n, step):
        last, above = min(first + step, n), len(upper)
        both = np.empty((above + last - first, width), order="F")
        _fill(both[:above], upper)
        for start, stop, A, y in system.chunks(first, last):
            rows = both[above + start - first : above + stop - first]
            _fill(rows[:, :d], A)
            rows[:, d:] = y
            if exponents.any():
                np.ldexp(rows, -exponents, out=rows)
        upper = _upper(both)
    return upper


def _without_constants(system: System, upper: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    """Return R with zeros in the columns that vary by rounding alone, and in their rows.

    If such a column were only zeroed, its row would belong to the columns after it, and solving the
    triangle without that row would lose information.
    """
    d = system.d
    norms = np.ldexp(np.linalg.norm(upper[:, :d], axis=0), exponents[:d])
    counts = np.append(norms > 0.0, np.ones(upper.shape[1] - d, dtype=bool))
    if system.fit_intercept:
        counts[system.constant_columns(norms)[0]] = False
    return upper if counts.all() else _upper_of(upper, np.flatnonzero(counts))


def _upper_of(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return R of these columns, each in its own place, with zeros for the others."""
    width = rows.shape[1]
    packed = _upper(rows[:, columns])
    upper = np.zeros((width, width))
    upper[np.ix_(columns[: len(packed)], columns)] = packed
    return upper


def _with_penalty(system: System, upper: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Return R of the rows with sqrt(alpha) I below them."""
    if system.alpha == 0.0:
        return upper
    penalty = np.zeros((system.d, upper.shape[1]))
    penalty[:, : system.d] = np.diag(np.ldexp(np.sqrt(system.alpha), -units))
    return upper_of_both(upper, penalty)


def solve_triangle_of_rows(system: System, data: np.ndarray, exponents: np.ndarray) -> Orthogonal:
    d, units, y_units = system.d, exponents[: system.d], exponents[system.d :, None]
    upper = _with_penalty(system, data, units)
    R, c = upper[:d, :d], upper[:d, d:]
    scale = column_scale(np.einsum("ij,ij->j", R, R))
    slope = ((R * scale).T @ c).T
    factor = _trusted(R * scale, scale)
    common, singular = units, None
    if factor is not None:
        z = c.T
        if _penalty_rules(system, data[:, :d], units):  # few digits of Q^T y are the data's
            z = factor.whiten((data[:, :d].T @ data[:, d:]).T)
        v, rank, condition = factor.unwhiten(z), int((scale > 0.0).sum()), factor.condition
    else:  # the solution of least norm in the columns' own units
        singular = SingularFactor(R * scale, np.ldexp(scale, -units))
        common = np.full(d, units[scale > 0.0].max(initial=0))
        R = np.ldexp(R, np.maximum(units - common, -(2**12)))
        U, sigma, Vt = svd(R)
        keep = sigma > rank_tolerance(d) * sigma.max(initial=0.0)
        v, rank = (Vt[keep].T @ ((U[:, keep].T @ c) / sigma[keep, None])).T, int(keep.sum())
        condition = float(sigma[0] / sigma[keep][-1]) if rank else 1.0
    coef = np.ldexp(np.where(scale > 0.0, v, 0.0), y_units - common)
    residual = np.ldexp(data[:, :d], np.maximum(units - common, -(2**12))) @ v.T - data[:, d:]
    return Orthogonal(
        coef,
        system.intercept_for(coef),
        np.ldexp(np.linalg.norm(residual, axis=0), y_units[:, 0]),
        condition,
        rank,
        None if factor is None else _in_units(factor, units),
        np.ldexp(scale, -units),
        np.ldexp(slope, y_units),
        singular,
    )


def _penalty_rules(system: System, R: np.ndarray, units: np.ndarray) -> bool:
    """Return whether alpha is so large that A^T A + alpha I is well-conditioned whatever A is."""
    norms = np.ldexp(np.linalg.norm(R, axis=0), units)
    return bool(np.sqrt(system.alpha) >= norms.max(initial=0.0)) and system.alpha > 0.0


def _trusted(scaled: np.ndarray, scale: np.ndarray) -> TriangularFactor | None:
    """Return R as a factor, or None where its condition is so large that it may be rounding."""
    d = len(scale)
    if len(scaled) < d:
        return None
    R = np.asfortranarray(scaled)
    R[np.diag_indices(d)] += scale == 0.0
    try:
        factor = TriangularFactor(R, scale)
    except NotTrustworthy:
        return None
    return factor if factor.condition * rank_tolerance(d) < 1.0 else None


def _in_units(factor: TriangularFactor, exponents: np.ndarray) -> TriangularFactor | None:
    """Return the factor of X in X's own units; None where the scales leave float64's range."""
    scale = np.ldexp(factor.scale, -exponents)
    return TriangularFactor(factor.upper, scale) if np.isfinite(scale).all() else None


def _exponents(system: System) -> np.ndarray:
    """Return the power of two of the largest number in each column of [A, y]."""
    largest = np.zeros(system.d + system.t)
    for _, _, A, y in system.chunks():
        np.maximum(largest[: system.d], np.abs(A).max(axis=0), out=largest[: system.d])
        np.maximum(largest[system.d :], np.abs(y).max(axis=0), out=largest[system.d :])
    return np.frexp(largest)[1]
