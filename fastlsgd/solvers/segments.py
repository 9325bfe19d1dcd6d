"""Least squares of segments: calls of the kernel, segments beyond float64's range, predictions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..kernels.contract import SegmentFits, SegmentKernels, Segments, SegmentStatus, working_dtype
from .interrupt import call_kernel

# Rows whose predictions are made at a time.
PREDICTED_ROWS = 2**15


class SegmentRows(NamedTuple):
    """The rows that segments refer to."""

    X: np.ndarray  # (n, d)
    y: np.ndarray  # (n, 1)
    sample_weight: np.ndarray | None


def fit_rows_of_segments(
    kernels: SegmentKernels, rows: SegmentRows, segments: Segments, n_threads: int
) -> SegmentFits:
    """Return the fit of each segment; some may have squares out of range (`mend_out_of_range`)."""
    X, y, s = rows
    work = 2 * (X.shape[1] + 2)
    return call_kernel(kernels.fit_segments, work, X, y, s, segments, n_threads)


def mend_out_of_range(
    kernels: SegmentKernels, rows: SegmentRows, segments: Segments, fits: SegmentFits
) -> None:
    """Fit segments out of range again, in other units, and write their results.

    Segments with infinite numbers, or NaN that is not skipped, stay out of range.
    """
    beyond = np.flatnonzero(fits.status == SegmentStatus.OUT_OF_RANGE)
    if segments.decay is None and segments.initial is None:
        for k in beyond:
            _fit_in_other_units(kernels, rows, segments, int(k), fits)
    elif len(beyond):
        _fit_all_in_other_units(kernels, rows, segments, fits)


def _fit_all_in_other_units(
    kernels: SegmentKernels, rows: SegmentRows, segments: Segments, fits: SegmentFits
) -> None:
    """Fit segments that share sums again, in common units, and write their results."""
    X, y, s = rows
    of_columns, of_target = _exponents(X), _exponents(y)
    if of_columns is None or of_target is None:
        return
    of_weights = 0 if s is None else int(np.frexp(s.max(initial=0.0))[1])
    s = None if s is None else np.ldexp(s.astype(np.float64), -of_weights)
    penalty, initial = segments.penalty, segments.initial
    if penalty is not None:
        penalty = np.ldexp(penalty, -2 * of_columns - of_weights)
    if initial is not None:  # moments of [x, y, 1]
        units = np.concatenate([of_columns, of_target, [0]])
        initial = np.ldexp(initial, -(units[:, None] + units) - of_weights)
    own = replace(segments, penalty=penalty, initial=initial)
    A = np.ldexp(X.astype(np.float64), -of_columns).astype(working_dtype(X))
    b = np.ldexp(y.astype(np.float64), -of_target)
    found = call_kernel(kernels.fit_segments, 2 * (X.shape[1] + 2), A, b, s, own, 1)
    squares = 2 * of_target[0] + of_weights
    exponents: dict[str, Any] = {
        "coef": of_target[0] - of_columns,
        "intercept": of_target[0],
        "residual": squares,
        "total": squares,
        "weight": of_weights,
        "inverse": np.append(-2 * of_columns, 0) - of_weights,
        "robust": 2 * (of_target - np.append(of_columns, 0)),
    }
    with np.errstate(over="ignore", under="ignore"):
        for name, part in found._asdict().items():
            if part is not None:
                getattr(fits, name)[:] = (
                    np.ldexp(part, exponents[name]) if name in exponents else part
                )


def _fit_in_other_units(
    kernels: SegmentKernels, rows: SegmentRows, segments: Segments, k: int, fits: SegmentFits
) -> None:
    """Fit segment k again, columns and weights divided by powers of two, and write its results."""
    X, y, s = rows
    at = np.arange(segments.start[k], segments.stop[k])
    at = at if segments.order is None else segments.order[at]
    s = None if s is None else np.asarray(s[at])
    if s is not None:
        at, s = at[s > 0.0], s[s > 0.0]
    A, b = X[at].astype(np.float64), y[at].astype(np.float64)
    of_columns, of_target = _exponents(A), _exponents(b)
    if of_columns is None or of_target is None:
        return
    A, b = np.ldexp(A, -of_columns), np.ldexp(b, -of_target)
    of_weights = 0 if s is None else int(np.frexp(s.max(initial=0.0))[1])
    s = None if s is None else np.ldexp(s.astype(np.float64), -of_weights)
    dtype = working_dtype(X)
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
        fits.residual[k] = np.ldexp(found.residual[0], 2 * of_target[0] + of_weights)
        fits.total[k] = np.ldexp(found.total[0], 2 * of_target[0] + of_weights)
        if fits.inverse is not None and found.inverse is not None:
            fits.inverse[k] = np.ldexp(found.inverse[0], np.append(-2 * of_columns, 0) - of_weights)
        if fits.robust is not None and found.robust is not None:
            fits.robust[k] = np.ldexp(found.robust[0], 2 * (of_target - np.append(of_columns, 0)))


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
