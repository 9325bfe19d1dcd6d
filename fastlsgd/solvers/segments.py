"""Least squares of segments: calls of the kernel, segments beyond float64's range, predictions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np

from ..kernels.contract import (
    Kernels,
    SegmentErrors,
    SegmentFits,
    SegmentKernels,
    Segments,
    SegmentStatus,
    working_dtype,
)
from .covariance import FittedRows, robust_covariances
from .inference import gather_evidence, infer, weighted_norm
from .interrupt import call_kernel
from .least_squares import Request, solve_least_squares
from .meats import RobustOptions
from .problem import Problem
from .solution import Solution
from .training import TrainingData

# Rows whose predictions are made at a time.
PREDICTED_ROWS = 2**15
# Squares of standard errors beyond this or its inverse have lost digits.
LEAST_ERROR_SQUARE = 1e-280
# Sums still show 13 digits of rows beside others of so many times their weight.
HEAVIER = 1e20


class SegmentRows(NamedTuple):
    """The rows that segments refer to."""

    X: np.ndarray  # (n, d)
    y: np.ndarray  # (n, 1)
    sample_weight: np.ndarray | None


class _FitsAgain(NamedTuple):
    """What a segment is fitted again from, and where its results go."""

    kernels: SegmentKernels
    rows: SegmentRows
    segments: Segments
    fits: SegmentFits
    units: SegmentUnits


def fit_rows_of_segments(
    kernels: SegmentKernels, rows: SegmentRows, segments: Segments, n_threads: int
) -> SegmentFits:
    """Return the fit of each segment; some may have squares out of range (`mend_out_of_range`)."""
    X, y, s = rows
    work = 2 * (X.shape[1] + 2)
    return call_kernel(kernels.fit_segments, work, X, y, s, segments, n_threads)


class SegmentUnits(NamedTuple):
    """Powers of two that the squares in `SegmentFits` were divided by, so that none overflows."""

    deviation: np.ndarray  # (k,)  of the roots of `residual` and `total`
    error: np.ndarray  # (k, d + 1)  of standard errors, from `residual` and `inverse`, or `robust`

    @classmethod
    def none(cls, k: int, d: int) -> SegmentUnits:
        return cls(np.zeros(k, dtype=int), np.zeros((k, d + 1), dtype=int))


def mend_out_of_range(
    kernels: SegmentKernels, rows: SegmentRows, segments: Segments, fits: SegmentFits
) -> SegmentUnits:
    """Fit segments out of range again, in other units, and write their results.

    Segments with infinite numbers, or NaN that is not skipped, stay out of range. Those in which
    some rows are hidden by the weights of others are fitted from their rows.
    """
    units = SegmentUnits.none(*fits.coef.shape)
    beyond = np.flatnonzero((fits.status == SegmentStatus.OUT_OF_RANGE) | _has_lost_errors(fits))
    if segments.decay is not None or segments.initial is not None:
        if len(beyond):
            _fit_all_in_other_units(kernels, rows, segments, fits, units)
        return units
    again = _FitsAgain(kernels, rows, segments, fits, units)
    for k in beyond:
        _fit_in_other_units(again, int(k))
    for k in np.flatnonzero(_is_heavy(rows, segments) & (fits.status != SegmentStatus.SHORT)):
        _fit_beside_heavy_rows(again, int(k))
    return units


def _is_heavy(rows: SegmentRows, segments: Segments) -> np.ndarray:
    """Return which segments have weights so different that sums would lose the lighter rows."""
    found, s = np.zeros(len(segments.start), dtype=bool), rows.sample_weight
    if s is None or not len(found):
        return found
    s = np.asarray(s, np.float64)
    if not s.max() > HEAVIER * s.min(initial=np.inf, where=s > 0.0):
        return found
    heaviest = s if segments.order is None else s[segments.order]
    lightest = np.where(heaviest > 0.0, heaviest, np.inf)
    lengths, span = segments.stop - segments.start, 1
    while True:  # the extremes of every `span` positions; two of them make a segment
        own = np.flatnonzero((lengths >= span) & (lengths < 2 * span))
        first, last = segments.start[own], segments.stop[own] - span
        most = np.maximum(heaviest[first], heaviest[last])
        found[own] = most > HEAVIER * np.minimum(lightest[first], lightest[last])
        if not (lengths >= 2 * span).any():
            return found
        heaviest = np.maximum(heaviest[:-span], heaviest[span:])
        lightest = np.minimum(lightest[:-span], lightest[span:])
        span *= 2


def _has_lost_errors(fits: SegmentFits) -> np.ndarray:
    """Return for which segments squares of robust standard errors overflow or underflow."""
    if fits.robust is None:
        return np.zeros(len(fits.status), dtype=bool)
    own = fits.robust[:, :-1]
    with np.errstate(invalid="ignore"):
        far = ~((own >= LEAST_ERROR_SQUARE) & (own <= 1.0 / LEAST_ERROR_SQUARE)).all(axis=1)
        return far & (fits.status == SegmentStatus.FITTED) & (fits.residual > 0.0)


def _fit_all_in_other_units(
    kernels: SegmentKernels,
    rows: SegmentRows,
    segments: Segments,
    fits: SegmentFits,
    units: SegmentUnits,
) -> None:
    """Fit segments that share sums again, in common units, and write their results."""
    X, y, s = rows
    of_columns, of_target = _exponents(X), _exponents(y)
    if of_columns is None or of_target is None:
        return
    of_weights = 0 if s is None else _even_exponent(s)
    s = None if s is None else np.ldexp(s.astype(np.float64), -of_weights)
    penalty, initial = segments.penalty, segments.initial
    if penalty is not None:
        penalty = np.ldexp(penalty, -2 * of_columns - of_weights)
    if initial is not None:  # moments of [x, y, 1]
        own_units = np.concatenate([of_columns, of_target, [0]])
        initial = np.ldexp(initial, -(own_units[:, None] + own_units) - of_weights)
    own = replace(segments, penalty=penalty, initial=initial)
    A = np.ldexp(X.astype(np.float64), -of_columns).astype(working_dtype(X))
    b = np.ldexp(y.astype(np.float64), -of_target)
    found = call_kernel(kernels.fit_segments, 2 * (X.shape[1] + 2), A, b, s, own, 1)
    exponents: dict[str, Any] = {
        "coef": of_target[0] - of_columns,
        "intercept": of_target[0],
        "weight": of_weights,
    }
    with np.errstate(over="ignore", under="ignore"):
        for name, part in found._asdict().items():
            if part is not None:
                getattr(fits, name)[:] = (
                    np.ldexp(part, exponents[name]) if name in exponents else part
                )
    units.deviation[:] = of_target[0] + of_weights // 2
    units.error[:] = of_target - np.append(of_columns, 0)


def _even_exponent(s: np.ndarray) -> int:
    exponent = int(np.frexp(s.max(initial=0.0))[1])
    return exponent + exponent % 2


def _rows_of(rows: SegmentRows, segments: Segments, k: int) -> SegmentRows:
    """Return the rows of segment k that count, but for NaN, in float64."""
    X, y, s = rows
    at = np.arange(segments.start[k], segments.stop[k])
    at = at if segments.order is None else segments.order[at]
    s = None if s is None else np.asarray(s[at], np.float64)
    if s is not None:
        at, s = at[s > 0.0], s[s > 0.0]
    return SegmentRows(np.asarray(X[at], np.float64), np.asarray(y[at], np.float64), s)


def _fit_in_other_units(again: _FitsAgain, k: int) -> None:
    """Fit segment k again, columns and weights divided by powers of two, and write its results."""
    kernels, rows, segments, fits, units = again
    A, b, s = _rows_of(rows, segments, k)
    of_columns, of_target = _exponents(A), _exponents(b)
    if of_columns is None or of_target is None:
        return
    A, b = np.ldexp(A, -of_columns), np.ldexp(b, -of_target)
    of_weights = 0 if s is None else _even_exponent(s)
    s = None if s is None else np.ldexp(s, -of_weights)
    dtype = working_dtype(rows.X)
    penalty = segments.penalty
    own = replace(
        segments,
        order=None,
        start=np.array([0]),
        stop=np.array([len(A)]),
        penalty=None if penalty is None else np.ldexp(penalty, -2 * of_columns - of_weights),
    )
    found = kernels.fit_segments(A.astype(dtype), b, s, own, 1)
    with np.errstate(over="ignore"):
        coef = np.ldexp(found.coef[0], of_target[0] - of_columns)
        if not np.isfinite(coef).all() and found.status[0] == SegmentStatus.FITTED:
            return
        fits.coef[k], fits.status[k] = coef, found.status[0]
        fits.intercept[k] = np.ldexp(found.intercept[0], of_target[0])
        for name in ("residual", "total", "inverse", "robust"):
            part = getattr(found, name)
            if part is not None:
                getattr(fits, name)[k] = part[0]
    units.deviation[k] = of_target[0] + of_weights // 2
    units.error[k] = of_target - np.append(of_columns, 0)


def _fit_beside_heavy_rows(again: _FitsAgain, k: int) -> None:
    """Fit segment k by QR of its rows, and write the result; errors may be NaN beside 1e40.

    Beside a row of 1e30 times their weight, sums leave the others 3 digits.
    """
    kernels, rows, segments, fits, units = again
    X, y, s = _rows_of(rows, segments, k)
    assert s is not None
    known = np.isfinite(X).all(axis=1) & np.isfinite(y[:, 0])
    X, y, s = X[known], y[known], s[known]
    if len(s) <= X.shape[1]:
        return
    data = TrainingData(cast(Kernels, kernels), X, y, s, 1)
    alpha = 0.0 if segments.penalty is None else float(segments.penalty[0])
    try:
        (found,) = solve_least_squares(
            data, [alpha], fit_intercept=segments.fit_intercept, solver="qr", request=Request()
        )
    except np.linalg.LinAlgError:
        return
    if found.rank != X.shape[1] or not np.isfinite(found.coef).all():
        fits.status[k] = SegmentStatus.SINGULAR
        for part in (fits.coef, fits.intercept, fits.residual, fits.total):
            part[k] = np.nan
    else:
        fits.coef[k], fits.intercept[k] = found.coef[0], found.intercept[0]
        fits.status[k] = SegmentStatus.FITTED
        total = weighted_norm(y[:, 0].copy(), s, segments.fit_intercept)
        unit = units.deviation[k] = np.frexp(found.residual_norm[0])[1]
        fits.residual[k] = np.ldexp(found.residual_norm[0], -unit) ** 2
        with np.errstate(over="ignore"):
            fits.total[k] = np.ldexp(total, -unit) ** 2
    _write_errors(data, segments, found, (fits, units), k)


def _write_errors(data: TrainingData, segments: Segments, found: Solution, to, k: int) -> None:
    """Write the squares of the standard errors of a fit of segment k from its rows, or NaN."""
    fits, units = to
    part = fits.inverse if fits.robust is None else fits.robust
    if part is None:
        return
    part[k], units.error[k] = np.nan, 0
    kernels, X, y, s, _ = data
    problem = Problem(X, y, s, 0.0, False, segments.fit_intercept)
    evidences = gather_evidence(kernels, problem, found, 1)
    if fits.status[k] != SegmentStatus.FITTED or evidences is None:
        return
    if fits.robust is None:
        errors = infer(evidences[0]).standard_error
    else:
        options = RobustOptions(SegmentErrors(segments.robust).name)
        rows = [FittedRows(X, y, s)]
        errors = robust_covariances(evidences, rows, options).covariances[0].roots()
    errors = np.append(errors[-X.shape[1] :], errors[0] if segments.fit_intercept else np.nan)
    units.error[k] = np.frexp(errors)[1]
    squares = np.ldexp(errors, -units.error[k]) ** 2
    if fits.robust is None:  # which is multiplied by the deviation of the errors
        deviation = fits.residual[k] / max(len(y) - X.shape[1] - segments.fit_intercept, 1)
        squares = squares / deviation
    part[k] = squares


def _exponents(A: np.ndarray) -> np.ndarray | None:
    """Return powers of two that bring each column near 1, but for NaN; None if one is infinite."""
    with np.errstate(invalid="ignore"):
        largest = np.fmax.reduce(np.abs(A), axis=0, initial=0.0)
    return None if np.isinf(largest).any() else np.frexp(largest)[1]


def predict_rows(
    X: np.ndarray, rows: np.ndarray | None, fits: SegmentFits, segment: np.ndarray
) -> np.ndarray:
    """Return x_i w + b of the rows, each with the weights of its segment; NaN for segment -1."""
    out = np.empty(len(segment))
    for start in range(0, len(out), PREDICTED_ROWS):
        span = slice(start, start + PREDICTED_ROWS)
        A = X[span] if rows is None else X[rows[span]]
        own = segment[span]
        out[span] = np.einsum("nd,nd->n", np.asarray(A, np.float64), fits.coef[own])
        out[span] += fits.intercept[own]
        out[span][own < 0] = np.nan
    return out
