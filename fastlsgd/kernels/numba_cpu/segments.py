"""Least squares of many segments of rows, from second moments in twice the precision.

The sums move from segment to segment as in csrc/segments.inc, by the rows that come in and those
that go out where that is less work than to make them anew, and are eliminated as in
csrc/segments_solve.inc. Cost: some 10 n m^2 flops for groups, 20 n m^2 for windows whatever their
length, and 3 m^3 per segment; m = d + 2. Unlike there, groups have no path of their own in double.
"""

from __future__ import annotations

import numpy as np
from numba import types

from ..contract import SegmentFits, Segments, SegmentStatus, empty_fits
from ..formulas import FLOAT32_NOISE, LEAST_LEFT, LEAST_SQUARE, MOST_SQUARE, PAIR_NOISE
from .compile import TABLE, helper, kernel, read
from .double_double import exact_sum, fused, less_product, normalised, quotient
from .rows import weights_or_none
from .threads import SERIAL_WORK, in_chunks

MAKES_WINDOWS = True

FITTED, SHORT, SINGULAR, OUT_OF_RANGE = map(int, SegmentStatus)
# csrc/segments.inc says what these mean.
WINDOWS = 16
SHRUNK = 2.0**-16
FORGOTTEN = 2.0**-200  # of a row's weight, at which robust variances leave it out
OWN_COST = 16  # of a segment, in rows


def fit_segments(X, y, sample_weight, segments: Segments, n_threads) -> SegmentFits:
    """The contract's `fit_segments`: each chunk of segments fills its own part of the results."""
    d = X.shape[1]
    out, m = empty_fits(segments, d), d + 2
    s = weights_or_none(sample_weight, y.dtype)
    nothing, no_table = np.empty(0), np.empty((0, 0))
    order = np.empty(0, np.int64) if segments.order is None else segments.order
    penalty = np.zeros(d) if segments.penalty is None else segments.penalty
    decay = nothing if segments.decay is None else segments.decay
    initial = np.zeros((m, m)) if segments.initial is None else segments.initial
    inverse = no_table if out.inverse is None else out.inverse
    robust = no_table if out.robust is None else out.robust
    numbers = np.column_stack([out.intercept, out.weight, out.residual, out.total])
    options = np.array(
        [segments.min_rows, segments.fit_intercept, segments.skip_nan, segments.robust], np.int64
    )
    compiled = segment_fits[X.dtype, y.dtype]

    def chunk(low, high):
        compiled(
            X, y, s, order, segments.start, segments.stop, decay, penalty, initial, options,
            low, high, out.coef, numbers, inverse, robust, out.n_rows, out.status,
        )  # fmt: skip

    in_chunks(chunk, _chunks_of_segments(segments, m, n_threads))
    return out._replace(
        intercept=numbers[:, 0].copy(), weight=numbers[:, 1].copy(),
        residual=numbers[:, 2].copy(), total=numbers[:, 3].copy(),
    )  # fmt: skip


def _chunks_of_segments(segments: Segments, m: int, n_threads: int) -> list[int]:
    """Where to cut the segments: by rows where they have none in common, else by their number."""
    start, stop, n = segments.start, segments.stop, len(segments.start)
    if n == 0:
        return [0, 0]
    rows = int(stop[-1] - start[0]) + n
    parts = max(1, min(n_threads, n, rows * m * m * 10 // SERIAL_WORK))
    if n > 1 and (start[1:] < stop[:-1]).any():
        return [n * k // parts for k in range(parts + 1)]
    cost = start - start[0] + OWN_COST * np.arange(n)
    all_cost = int(stop[-1] - start[0]) + OWN_COST * n
    cuts = np.searchsorted(cost, [all_cost * k // parts for k in range(1, parts)])
    return [0, *cuts.tolist(), n]


@kernel(
    lambda f, g: [
        read(f, 2), read(g, 2), read(g, 1, "C"),
        read(types.int64, 1, "C"), read(types.int64, 1, "C"), read(types.int64, 1, "C"),
        read(types.float64, 1, "C"), read(types.float64, 1, "C"), read(types.float64, 2, "C"),
        read(types.int64, 1, "C"), types.intp, types.intp,
        TABLE, TABLE, TABLE, TABLE, types.Array(types.int64, 1, "C"),
        types.Array(types.int8, 1, "C"),
    ]
)  # fmt: skip
def segment_fits(
    X, y, s, order, start, stop, decay, penalty, initial, options, low, high,
    coef, numbers, inverse, robust, n_rows, status,
):  # fmt: skip
    """The segments low <= k < high; numbers (k, 4): intercept, weight, residual, total."""
    m, one = X.shape[1] + 2, X.shape[1] + 1
    data, choice = (X, y, s, order, decay), (options[0], options[1] != 0, options[2] != 0)
    hi, lo, peak, z = np.zeros((m, m)), np.zeros((m, m)), np.zeros(m), np.zeros(m)
    A, B, w, v = np.zeros((m, m)), np.zeros((m, m)), np.zeros((m, 2)), np.zeros((m, 2))
    noise = FLOAT32_NOISE if X.itemsize == 4 and not penalty.any() else 0.0
    first = last = count = removed = 0
    for k in range(low, high):
        begin, end = start[k], stop[k]
        more, less = end - last, begin - first
        moves = (
            more >= 0 and less >= 0 and begin < last and more + less <= end - begin
            and removed + less <= WINDOWS * (end - begin) and (decay.size == 0 or less == 0)
        )  # fmt: skip
        # Rows come in, rows go out, or all are added anew: one call, since it is inlined.
        for step in range(3):
            if (step < 2 and not moves) or (
                step == 2 and moves and _are_sharp(hi, peak, decay, removed)
            ):
                continue
            between, sign = (last, end), 1.0
            if step == 1:
                between, sign = (first, begin), -1.0
                removed += less
                for j in range(m):
                    peak[j] = max(peak[j], hi[j, j])
            elif step == 2:
                between = begin, end
                _start_sums(initial, hi, lo, peak)
                count = removed = 0
            count += _add_rows(data, choice, between, sign, (hi, lo), z)
        first, last = begin, end
        n_rows[k], numbers[k, 1] = count, hi[one, one]
        if count < choice[0]:
            status[k] = SHORT
        elif not _are_in_range(data, choice, (begin, end), hi, z):
            status[k] = OUT_OF_RANGE
        else:
            tol = max(noise, PAIR_NOISE * count)
            status[k] = _solve((hi, lo), (A, B, w, v), penalty, choice[1], tol)
        _write(k, status[k], (A, w, v), penalty, choice[1], (coef, numbers, inverse))
        if robust.size > 0:
            rows = data, choice, options[3]
            _write_variances(k, status[k], rows, (begin, end), (A, w, B, z, v), robust)


@helper
def _start_sums(initial, hi, lo, peak):
    for i in range(hi.shape[0]):
        peak[i] = 0.0
        for j in range(i, hi.shape[0]):
            hi[i, j], lo[i, j] = initial[i, j], 0.0


@helper
def _take_row(data, choice, p, z):
    """z = sqrt(s) [x, y, 1] of position p; returns whether the row counts."""
    X, y, s, order, _ = data
    d = X.shape[1]
    i = order[p] if order.size > 0 else p
    weight = np.float64(s[i]) if s.size > 0 else 1.0
    if weight == 0.0:
        return False
    z[d], z[d + 1] = y[i, 0], 1.0
    is_nan = z[d] != z[d]
    for j in range(d):
        z[j] = X[i, j]
        is_nan |= z[j] != z[j]
    if is_nan and choice[2]:
        return False
    if s.size > 0:
        root = np.sqrt(weight)
        for j in range(d + 2):
            z[j] *= root
    return True


@helper
def _add_rows(data, choice, between, sign, sums, z):
    """sums += sign z z^T, upper triangle, for a range of positions.

    Returns how many rows count, with the sign.
    """
    hi, lo = sums
    count, decay = 0, data[4]
    for p in range(between[0], between[1]):
        if decay.size > 0:
            _decay(hi, lo, decay[p])
        if not _take_row(data, choice, p, z):
            continue
        count += 1 if sign > 0.0 else -1
        for i in range(z.size):
            a = sign * z[i]
            for j in range(i, z.size):
                product = a * z[j]
                s, lost = exact_sum(hi[i, j], product)
                lo[i, j] += lost + fused(a, z[j], -product)
                hi[i, j] = s
    return count


@helper
def _decay(hi, lo, factor):
    for i in range(hi.shape[0]):
        for j in range(i, hi.shape[0]):
            product = hi[i, j] * factor
            lo[i, j] = lo[i, j] * factor + fused(hi[i, j], factor, -product)
            hi[i, j] = product


@helper
def _are_sharp(hi, peak, decay, removed):
    """Whether the sums are as good as new ones: no column has become much smaller than it was."""
    sharp = True
    if decay.size > 0 or removed == 0:
        return sharp
    for j in range(peak.size):
        sharp &= hi[j, j] <= MOST_SQUARE and hi[j, j] >= SHRUNK * peak[j]
    return sharp


@helper
def _are_in_range(data, choice, between, hi, z):
    """Whether squares are far from the ends of float64's range."""
    for j in range(hi.shape[0]):
        if not hi[j, j] <= MOST_SQUARE:
            return False
        if hi[j, j] < LEAST_SQUARE:
            for p in range(between[0], between[1]):
                if _take_row(data, choice, p, z) and z[j] != 0.0:
                    return False
    return True


@helper
def _solve(sums, work, penalty, has_intercept, tol):
    """L and D of [1, x, y] in A + B, the weights in w, and the squares of y in v[-1]."""
    (hi, lo), (A, B, w, v) = sums, work
    d = penalty.size
    m = d + 2 if has_intercept else d + 1
    for i in range(m):
        for j in range(i, m):
            a, b = i, j
            if has_intercept:
                a, b = (d + 1 if i == 0 else i - 1), (d + 1 if j == 0 else j - 1)
            a, b = min(a, b), max(a, b)
            A[i, j], B[i, j] = normalised(hi[a, b], lo[a, b])
        j = i - 1 if has_intercept else i
        if j >= 0 and j < d and penalty[j] > 0.0:
            s, lost = exact_sum(A[i, i], penalty[j])
            A[i, i], B[i, i] = normalised(s, lost + B[i, i])
        v[i, 0] = A[i, i]
    v[m - 1, 1] = A[m - 1, m - 1]
    for j in range(m - 1):
        if A[j, j] <= tol * v[j, 0]:
            return SINGULAR
        for k in range(j + 1, m):
            A[k, j], B[k, j] = quotient((A[j, k], B[j, k]), (A[j, j], B[j, j]))
        for i in range(j + 1, m):
            factor = A[i, j], B[i, j]
            for k in range(i, m):
                A[i, k], B[i, k] = less_product((A[i, k], B[i, k]), factor, (A[j, k], B[j, k]))
        if j == 0 and has_intercept:
            v[m - 1, 1] = A[m - 1, m - 1]
    for j in range(m - 2, -1, -1):
        value = A[m - 1, j], B[m - 1, j]
        for k in range(j + 1, m - 1):
            value = less_product(value, (A[k, j], B[k, j]), (w[k, 0], w[k, 1]))
        w[j, 0], w[j, 1] = value
    return FITTED


@helper
def _write(k, status, work, penalty, has_intercept, out):
    """Results of segment k: NaN where it has no fit."""
    (A, w, v), (coef, numbers, inverse) = work, out
    d, one = penalty.size, 1 if has_intercept else 0
    m = d + 1 + one
    if status != FITTED:
        for j in range(d):
            coef[k, j] = np.nan
        numbers[k, 0] = numbers[k, 2] = numbers[k, 3] = np.nan
        for j in range(inverse.shape[1]):
            inverse[k, j] = np.nan
        return
    residual = A[m - 1, m - 1]
    for j in range(d):
        coef[k, j] = w[j + one, 0] + w[j + one, 1]
        residual -= penalty[j] * coef[k, j] * coef[k, j]
    numbers[k, 0] = w[0, 0] + w[0, 1] if has_intercept else 0.0
    numbers[k, 2] = residual if residual > 0.0 else 0.0
    total = v[m - 1, 1]
    numbers[k, 3] = total if total > 0.0 else 0.0
    if inverse.size > 0:
        inverse[k, d] = np.nan
        for j in range(m - 1):
            inverse[k, j - one if j >= one else d] = _diagonal_of_inverse(A, j, m, v)


@helper
def _write_variances(k, status, rows, between, work, robust):
    """Robust variances of segment k, as csrc/segments_robust.inc has them.

    The rows of D^-1/2 L^-1 take the place of B, which holds what the factor's numbers lack.
    """
    (data, choice, kind), (A, w, W, z, q) = rows, work
    d, one = robust.shape[1] - 1, 1 if choice[1] else 0
    m = d + 1 + one
    for j in range(d + 1):
        robust[k, j] = 0.0 if status == FITTED and (j < d or one == 1) else np.nan
    if status != FITTED:
        return
    _whitening(A, m, W)
    decay, weight = data[4], 1.0  # of the row, the product of the later factors
    for p in range(between[1] - 1, between[0] - 1, -1):
        if weight <= FORGOTTEN:
            break
        root = np.sqrt(weight)
        weight *= decay[p] if decay.size else 1.0
        if not _take_row(data, choice, p, z):
            continue
        for j in range(d + 2):
            z[j] *= root
        r, left = -z[d], 1.0
        for i in range(m - 1):
            q[i, 0] = 0.0
            for j in range(i + 1):
                q[i, 0] += W[i, j] * z[d + 1 if j < one else j - one]
            left -= q[i, 0] * q[i, 0]
            r += (w[i, 0] + w[i, 1]) * z[d + 1 if i < one else i - one]
        factor = r * r
        if kind > 1:
            part = 1.0 / left if left > LEAST_LEFT else 0.0
            factor *= part if kind == 2 else part * part
        for j in range(m - 1):
            v = 0.0
            for i in range(j, m - 1):
                v += W[i, j] * q[i, 0]
            robust[k, d if j < one else j - one] += factor * v * v


@helper
def _whitening(A, m, W):
    """The rows of D^-1/2 L^-1, in the order of the elimination."""
    for i in range(m - 1):
        for j in range(i):
            W[i, j] = 0.0
        W[i, i] = 1.0
        for j in range(i):
            for k in range(j + 1):
                W[i, k] -= A[i, j] * W[j, k]
    for i in range(m - 1):
        for j in range(i + 1):
            W[i, j] /= np.sqrt(A[i, i])


@helper
def _diagonal_of_inverse(A, j, m, v):
    """Entry j of the diagonal of (L D L^T)^-1; v[:, 0] is scratch for a column of L^-1."""
    total = 1.0 / A[j, j]
    for k in range(j + 1, m - 1):
        v[k, 0] = -A[k, j]
        for i in range(j + 1, k):
            v[k, 0] -= A[k, i] * v[i, 0]
        total += v[k, 0] * v[k, 0] / A[k, k]
    return total
