"""Covariances of the weights, classical and robust against what the classical model assumes.

Each is a sandwich B M B of the bread B = (Z^T S Z)^-1, Z = [1, X], and the meat M, a sum of
products of the scores u_i = s_i r_i z_i, which `meats.py` adds up.

Scores are those of the whitened rows q = R^-T (x - centre), which have unit moments: the meat is
then as accurate as the factor. Names and corrections for small samples are statsmodels'.
Cost: one pass over X for all targets, n d^2 multiply-adds and as many for each target.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..kernels.contract import Matrix
from .factors import SingularFactor, TriangularFactor, solve_upper
from .inference import Covariance, Evidence
from .meats import RobustOptions, WhitenedRows, meat_for
from .rows import counted_rows, rows_on_host
from .serial_blas import serial_blas
from .target_scale import far_exponents


class NotEstimable(ValueError):
    """Raised where columns depend on each other, so that their weights have no covariance."""


class FittedRows(NamedTuple):
    """Rows of a fit, as they were fitted."""

    X: Matrix
    y: np.ndarray  # (n, t)
    sample_weight: np.ndarray | None
    clusters: tuple[np.ndarray, ...] = ()  # (n,)  of each way of clustering, and of their pairs


class RobustCovariances(NamedTuple):
    """What a pass over the rows of a fit found."""

    covariances: list[Covariance]  # for each target, with the intercept first
    fewest_clusters: int  # of the ways of clustering
    n_exact: int  # rows of leverage 1, where the kind looks at leverages


class OtherRows(ValueError):
    """Raised where rows that should be those of a fit are others."""


class ResidualsOfFit:
    """Whether rows are those of a fit, by the sums of their squared residuals.

    The least squares of other targets, and the same weights of other rows, leave another sum. The
    sum of a fit from moments has half the digits where the fit is nearly perfect. With a relative
    slack of 1e-6 one of 1,500 fits (columns of 1e-6 to 1e6, far from zero, in float32) was refused
    with its own rows, and with 1e-4 none.
    """

    RELATIVE, OF_TARGET, OF_TERMS = 1e-4, 1e-7, 1e-10

    def __init__(self, evidences: Sequence[Evidence]) -> None:
        self.expected = np.array([evidence.residual_norm for evidence in evidences])
        self.exponents = np.frexp(self.expected)[1]
        self.slack = np.array([self._slack(evidence) for evidence in evidences])
        self.squares = np.zeros(len(evidences))  # in units of the squares expected

    def _slack(self, evidence: Evidence) -> float:
        with np.errstate(over="ignore"):
            terms = np.abs(evidence.centre) @ np.abs(evidence.coef) + abs(evidence.intercept or 0.0)
        return (
            self.RELATIVE * evidence.residual_norm
            + self.OF_TARGET * evidence.target_norm
            + self.OF_TERMS * float(terms) * float(np.sqrt(evidence.weight))
        )

    def add(self, chunk: WhitenedRows) -> None:
        with np.errstate(over="ignore"):
            self.squares += chunk.weight @ np.ldexp(chunk.residual, -self.exponents) ** 2

    def refuse_others(self) -> None:
        """Raise OtherRows unless all rows were those of the fit."""
        found = np.ldexp(np.sqrt(self.squares), self.exponents)
        for norm, expected, slack in zip(found, self.expected, self.slack, strict=True):
            if not abs(norm - expected) <= slack:
                raise OtherRows(
                    f"X, y or sample_weight is not that of the fit: the root of the sum of squared "
                    f"residuals is {norm:.6g}, where that of the fit was {expected:.6g}."
                )


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


def classical_covariance(evidence: Evidence) -> Covariance:
    """Return sigma^2 (Z^T S Z)^-1, with the intercept first."""
    T, exponents = _near_one(whitening(evidence))
    df = evidence.n_rows - int((np.abs(T).sum(axis=1) > 0.0).sum())
    unit = int(far_exponents(np.array([evidence.residual_norm]))[0])
    T = T * (np.ldexp(evidence.residual_norm, -unit) / np.sqrt(df) if df > 0 else np.nan)
    return Covariance(T @ T.T, exponents + unit)


def _near_one(T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a whitening whose rows are brought near 1 by powers of two, and these."""
    exponents = far_exponents(np.abs(T).max(axis=1, initial=0.0))
    return np.ldexp(T, -exponents[:, None]), exponents


def whitened_chunks(
    evidences: Sequence[Evidence], T: np.ndarray, blocks: Iterable[FittedRows]
) -> Iterator[WhitenedRows]:
    """Yield the rows of positive weight, some at a time, with the residuals of all targets.

    T is the `whitening` of the evidence.
    """
    first = evidences[0]
    has_intercept = first.intercept is not None
    M = T[1:, 1:] if has_intercept else T
    coef = np.array([evidence.coef for evidence in evidences])
    intercept = np.array([evidence.intercept or 0.0 for evidence in evidences])
    start, unit = 0, -2 * first.sigma_exponent
    for X, y, s, clusters in blocks:
        counted, at = counted_rows(s), 0
        clusters = tuple(codes if counted is None else codes[counted] for codes in clusters)
        for A, b, weight in rows_on_host(X, y, s, counted):
            own = slice(at, at + len(A))
            with serial_blas():
                residual = b - A @ coef.T - intercept
            if not np.isfinite(residual).all():
                row = start + int(np.flatnonzero(~np.isfinite(residual).all(axis=1))[0])
                raise ValueError(
                    f"X or y contains NaN or infinity, first in row {row} of positive weight, "
                    f"where the rows of the fit have none."
                )
            Q = np.empty((len(A), len(T)))
            if has_intercept:
                A -= first.centre
                Q[:, 0] = T[0, 0]
            with serial_blas():
                np.matmul(A, M, out=Q[:, has_intercept:])
            rows, codes = slice(start, start + len(A)), tuple(part[own] for part in clusters)
            yield WhitenedRows(rows, Q, residual, np.ldexp(weight, unit), codes)
            start, at = rows.stop, own.stop


def robust_covariances(
    evidences: Sequence[Evidence], blocks: Iterable[FittedRows], options: RobustOptions
) -> RobustCovariances:
    """Return the covariances of the weights of each target, from one pass over the rows.

    Raises
    ------
    OtherRows
        If the rows are not those of the fit.
    """
    first = evidences[0]
    T = whitening(first)
    k = int((np.abs(T).sum(axis=1) > 0.0).sum())
    unit = np.ldexp(1.0, -first.sigma_exponent)
    meat, residuals = meat_for(options, len(T), len(evidences), unit), ResidualsOfFit(evidences)
    near, exponents = _near_one(T)
    units = far_exponents(residuals.expected)
    # HC3 of 200,000 x 100 took 5 s of a busy machine's processors with two threads of OpenBLAS, and
    # 0.24 with one.
    with serial_blas():
        for chunk in whitened_chunks(evidences, T, blocks):
            residuals.add(chunk)
            if units.any():  # squares of the scores would leave float64
                chunk = chunk._replace(residual=np.ldexp(chunk.residual, -units))
            meat.add(chunk)
    residuals.refuse_others()
    total = meat.total(first.n_rows, first.n_rows - k)
    found = [
        Covariance(near @ own @ near.T, exponents + unit)
        for own, unit in zip(total, units, strict=True)
    ]
    return RobustCovariances(found, meat.fewest_clusters, meat.n_exact)
