"""Factors from orthogonal transformations: where a Gram matrix would square the condition.

`sketch_factor` mixes the rows into a few by a sparse-sign embedding and takes R from those
(Rokhlin and Tygert 2008, PNAS 105(36); Meng, Saunders and Mahoney 2014, SIAM J. Sci. Comput. 36(2);
the embedding: Epperly 2024, arXiv 2311.04362, section 2): no accuracy, but a good metric whatever
the condition. `solve_by_qr` is LAPACK's Householder QR, a block of rows at a time, and a singular
value decomposition where columns depend on each other: the answer that needs no refinement.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

from .eigen import svd
from .factors import EPS, NotTrustworthy, SingularFactor, TriangularFactor, column_scale
from .system import System

SKETCH_ROWS = 32  # for each column: the gradient shrinks to sqrt(1 / 32) an iteration
SIGNS = 4  # numbers in a column of the embedding
BLOCK_NUMBERS = 2**21  # of a block of rows: 16 MB


def rank_tolerance(d: int) -> float:
    """Singular values below this share of the largest are rounding.

    numpy.linalg.lstsq has the number of rows in place of 50: with 100,000 of them it would drop
    what QR still resolves.
    """
    return EPS * max(d, 50)


class Sketch(NamedTuple):
    """A factor, and the solution of the sketched problem in its coordinates."""

    factor: TriangularFactor
    start: np.ndarray  # (t, d)


def sketch_factor(system: System, seed: int) -> Sketch:
    """R from a QR decomposition of the sketch of [A, y], with the penalty's rows below.

    Cost: `SIGNS` additions for each number of X, and the QR of 32 d rows.

    Raises
    ------
    NotTrustworthy
        If columns depend on each other to rounding, or the sums are not finite.
    """
    d, m = system.d, SKETCH_ROWS * system.d
    mixed = _sketch(system, m, seed)
    if not _in_range(mixed):
        raise NotTrustworthy("squares overflow or underflow")
    scale = column_scale(np.einsum("ij,ij->j", mixed[:, :d], mixed[:, :d]) + system.alpha)
    mixed[:, :d] *= scale
    if system.alpha > 0.0:
        penalty = np.zeros((d, mixed.shape[1]))
        penalty[:, :d] = np.diag(np.sqrt(system.alpha) * scale)
        mixed = np.vstack([mixed, penalty])
    upper = _upper(mixed)
    R, start = upper[:d, :d].copy(order="F"), upper[:d, d:].T.copy()
    R[np.diag_indices(d)] += scale == 0.0
    factor = TriangularFactor(R, scale)
    if factor.condition * rank_tolerance(d) > 1.0:
        raise NotTrustworthy("columns depend on each other to rounding")
    return Sketch(factor, start)


def _sketch(system: System, m: int, seed: int) -> np.ndarray:
    """S [A, y] (m, d + t): each thread mixes its own rows, and their sums are added in order."""
    parts = np.linspace(0, system.n, system.n_threads + 1).astype(int)
    seeds = np.random.SeedSequence(seed).spawn(system.n_threads)
    with ThreadPoolExecutor(system.n_threads) as pool:
        jobs = [
            pool.submit(_sketch_rows, system, m, start, stop, np.random.default_rng(own))
            for start, stop, own in zip(parts[:-1], parts[1:], seeds, strict=True)
        ]
        return np.sum([job.result() for job in jobs], axis=0)


def _sketch_rows(system: System, m: int, start: int, stop: int, rng) -> np.ndarray:
    out = np.zeros((m, system.d + system.t))
    share = m // SIGNS  # one sign in each quarter of the rows of S, so that none coincide
    for _, _, A, y in system.chunks(start, stop, BLOCK_NUMBERS):
        n = len(A)
        where = rng.integers(0, share, (n, SIGNS), dtype=np.int32)
        where += share * np.arange(SIGNS, dtype=np.int32)
        signs = rng.integers(0, 2, n * SIGNS, dtype=np.int8) * (2.0 / SIGNS**0.5) - SIGNS**-0.5
        S = sparse.csr_array(
            (signs, where.ravel(), np.arange(0, n * SIGNS + 1, SIGNS, dtype=np.int32)), (n, m)
        )
        out += S.T @ np.hstack([A, y])
    return out


def _in_range(rows: np.ndarray) -> bool:
    """Whether the columns' squares are far from overflow and underflow."""
    largest = np.abs(rows).max(axis=0)
    return bool(np.all((largest == 0.0) | ((largest > 1e-120) & (largest < 1e120))))


def _upper(rows: np.ndarray) -> np.ndarray:
    """R of a QR decomposition, of as many rows as it has columns at most."""
    work, _ = lapack.dgeqrf_lwork(*rows.shape)
    packed, _, _, info = lapack.dgeqrf(rows, lwork=int(work), overwrite_a=1)
    if info != 0:
        raise NotTrustworthy("QR failed")
    return np.triu(packed[: min(rows.shape)])


@dataclass
class Orthogonal:
    """What `solve_by_qr` found."""

    coef: np.ndarray  # (t, d)
    intercept: np.ndarray  # (t,)
    residual_norm: np.ndarray  # (t,)
    condition: float
    rank: int
    factor: TriangularFactor | None  # None where columns depend on each other
    scale: np.ndarray  # (d,)  of the columns
    slope: np.ndarray  # (t, d)  D A^T y: the gradient at zero, of scaled columns
    singular: SingularFactor | None = None  # where columns depend on each other

    def relative(self, gradient: np.ndarray) -> float:
        """Norm of a gradient of scaled columns over that at zero; NaN where it overflows."""
        norms = np.linalg.norm(gradient * self.scale, axis=1)
        zero = np.linalg.norm(self.slope, axis=1)
        return float((norms / np.where(zero > 0.0, zero, 1.0)).max())


def solve_by_qr(system: System) -> Orthogonal:
    """The minimum-norm solution, from R of [A, y] and, if need be, the singular values of R.

    Where squares could overflow or underflow, each column and target is brought near 1 by a power
    of two first.

    Cost: 2 n d^2 flops; memory for a block of rows and for R.
    """
    upper, exponents = triangle(system)
    with np.errstate(over="ignore", invalid="ignore"):
        return _solve_triangle(system, upper, exponents)


def triangle(system: System) -> tuple[np.ndarray, np.ndarray]:
    """R of [A, y], of at most d + t rows, and the powers of two its columns were divided by."""
    exponents = np.zeros(system.d + system.t, dtype=int)
    with np.errstate(over="ignore", invalid="ignore"):
        upper = _triangle(system, exponents)
        if not _in_range(upper):
            exponents = _exponents(system)
            upper = _triangle(system, exponents)
    if not np.isfinite(upper).all():
        raise np.linalg.LinAlgError("numbers that are not finite")
    return upper, exponents


def _triangle(system: System, exponents: np.ndarray) -> np.ndarray:
    """R of [A, y], each column without its power of two."""
    d, t = system.d, system.t
    upper = np.zeros((0, d + t))
    for _, _, A, y in system.chunks(numbers=max(2 * d * (d + t), BLOCK_NUMBERS)):
        rows = np.hstack([A, y])
        if exponents.any():
            rows = np.ldexp(rows, -exponents)
        upper = _upper(np.vstack([upper, rows]))
    return upper


def _with_penalty(system: System, upper: np.ndarray, units: np.ndarray) -> np.ndarray:
    """R of the same rows and sqrt(alpha) I below them."""
    if system.alpha == 0.0:
        return upper
    penalty = np.zeros((system.d, upper.shape[1]))
    penalty[:, : system.d] = np.diag(np.ldexp(np.sqrt(system.alpha), -units))
    return _upper(np.vstack([upper, penalty]))


def _solve_triangle(system: System, data: np.ndarray, exponents: np.ndarray) -> Orthogonal:
    d, units, y_units = system.d, exponents[: system.d], exponents[system.d :, None]
    upper = _with_penalty(system, data, units)
    R, c = upper[:d, :d], upper[:d, d:]
    scale = column_scale(np.einsum("ij,ij->j", R, R))
    slope = ((R * scale).T @ c).T
    factor = _trusted(R * scale, scale)
    common, singular = units, None
    if factor is not None:
        v, rank, condition = factor.unwhiten(c.T), int((scale > 0.0).sum()), factor.condition
    else:  # of least norm in the columns' own units
        singular = SingularFactor(R * scale, np.ldexp(scale, -units))
        common = np.full(d, units[scale > 0.0].max(initial=0))
        R = np.ldexp(R, np.maximum(units - common, -(2**12)))
        U, sigma, Vt = svd(R)
        keep = sigma > rank_tolerance(d) * sigma.max(initial=0.0)
        v, rank = (Vt[keep].T @ ((U[:, keep].T @ c) / sigma[keep, None])).T, int(keep.sum())
        condition = float(sigma[0] / sigma[keep][-1]) if rank else 1.0
    coef = np.ldexp(v, y_units - common)
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


def _trusted(scaled: np.ndarray, scale: np.ndarray) -> TriangularFactor | None:
    """R as a factor, unless rounding could have made it."""
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
    """The factor of X in its own units; None where those don't fit a number."""
    scale = np.ldexp(factor.scale, -exponents)
    return TriangularFactor(factor.upper, scale) if np.isfinite(scale).all() else None


def _exponents(system: System) -> np.ndarray:
    """Of the largest number of each column of [A, y]."""
    largest = np.zeros(system.d + system.t)
    for _, _, A, y in system.chunks():
        np.maximum(largest[: system.d], np.abs(A).max(axis=0), out=largest[: system.d])
        np.maximum(largest[system.d :], np.abs(y).max(axis=0), out=largest[system.d :])
    return np.frexp(largest)[1]
