"""A regression for each group of rows, each window, each row so far: all in one call."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np

from . import _time_windows as time_windows
from . import _validation as check
from ._group_labels import Groups, find_groups, one_group
from ._segment_results import SegmentLstsq
from .kernels import resolve, resolve_threads
from .kernels.contract import (
    CSR,
    SegmentErrors,
    SegmentFits,
    SegmentKernels,
    Segments,
    SegmentStatus,
)
from .kernels.device import handed_back, lives_on_device
from .solvers.segments import (
    SegmentRows,
    SegmentUnits,
    fit_rows_of_segments,
    mend_out_of_range,
    predict_rows,
)
from .solvers.weights import normalised_weights

__all__ = [
    "SegmentLstsq",
    "expanding_lstsq",
    "grouped_lstsq",
    "recursive_lstsq",
    "rolling_lstsq",
]

MOST_COLUMNS = 512
# HC1 is HC0 with a factor.
KINDS_OF_ERRORS = {
    "nonrobust": SegmentErrors.CLASSICAL,
    "HC0": SegmentErrors.HC0,
    "HC1": SegmentErrors.HC0,
    "HC2": SegmentErrors.HC2,
    "HC3": SegmentErrors.HC3,
}


# ------------------------------------------------------------------------------ public functions


def grouped_lstsq(
    X,
    y,
    groups,
    *,
    sample_weight=None,
    alpha: float = 0.0,
    fit_intercept: bool = True,
    min_samples: int | None = None,
    missing: str = "raise",
    standard_errors: bool = False,
    cov_type: str = "nonrobust",
    predictions: bool = False,
    backend: str | None = None,
    n_threads: int | None = None,
) -> SegmentLstsq:
    """A least-squares fit for each group of rows.

    Minimises ``sum_i s_i (x_i . w + b - y_i)^2 + alpha |w|^2`` over the rows of each group, as
    accurately as :func:`numpy.linalg.lstsq` would.

    Parameters
    ----------
    X : array-like or frame of shape (n_samples, n_features)
        Dense, on the host or on a GPU, with y and `sample_weight` beside it. float32 and float64
        arrays of any memory order are not copied.
    y : array-like of shape (n_samples,)
    groups : array-like of shape (n_samples,), or of several columns
        A label for each row, of any type, in any order; or a frame or array of several keys.
        Sorted labels are quickest. The order of pandas' categories is theirs. Labels on a GPU are
        copied to the host.
    sample_weight : array-like of shape (n_samples,), optional
        Rows of weight 0 are as if not there.
    alpha : float >= 0, default=0.0
        Ridge penalty of each group, on the sum over its rows, without the intercept.
    fit_intercept : bool, default=True
    min_samples : int >= 1, optional
        Groups with fewer rows have no fit. Default: as many as there are weights, or 1 with
        `alpha`.
    missing : {"raise", "skip"}, default="raise"
        What becomes of NaN in X or y and of missing labels: a ValueError, or their rows are left
        out, as in pandas. Infinite numbers are always refused.
    standard_errors : bool, default=False
        Whether to return standard errors, those of the classical linear model or of `cov_type`.
    cov_type : {"nonrobust", "HC0", "HC1", "HC2", "HC3"}, default="nonrobust"
        Of the standard errors, as in :meth:`LeastSquaresRegressor.summary`: classical, or robust
        against errors of different variance. Robust ones are returned whenever they are named.
    predictions : bool, default=False
        Whether to return the prediction of each row by its own group.
    backend : {"auto", "native", "numba", "reference", "cuda"}, optional
        "cuda" is for groups only, not for the windows of the other functions.
    n_threads : int >= 1, optional

    Returns
    -------
    result : SegmentLstsq
        One regression per group, in the order of the labels.

    Raises
    ------
    ValueError
        If a shape, a dtype or a value is not allowed, or NaN or infinity is found.

    See Also
    --------
    rolling_lstsq, expanding_lstsq, recursive_lstsq

    Examples
    --------
    >>> import fastlsgd
    >>> X, y = [[0.0], [1.0], [2.0], [0.0], [1.0], [2.0]], [1.0, 3.0, 5.0, 0.0, -1.0, -2.0]
    >>> result = fastlsgd.grouped_lstsq(X, y, ["a", "a", "a", "b", "b", "b"])
    >>> result.keys["group"].tolist(), result.coef.round(12).tolist()
    (['a', 'b'], [[2.0], [-1.0]])
    """
    task = _take(X, y, sample_weight, alpha, fit_intercept, missing, standard_errors, cov_type)
    found = find_groups(check.on_host(groups, "groups"), len(task.rows.y), task.skips)
    own = _min_samples(min_samples, task, None)
    segments = task.segments(found, found.bounds[:-1], found.bounds[1:], own)
    fits, units = task.fit(segments, backend, n_threads)
    fitted = None
    if check.check_flag(predictions, "predictions"):
        owner = np.repeat(np.arange(len(fits.status)), np.diff(found.bounds))
        at = predict_rows(task.rows.X, found.order, fits, owner)
        fitted = _scattered(at, found.order, len(task.rows.y))
    keys = dict(zip(found.names, found.keys, strict=True))
    return _result(task, (fits, units), keys, (fitted, None), X)


def rolling_lstsq(
    X,
    y,
    window,
    *,
    times=None,
    groups=None,
    sample_weight=None,
    alpha: float = 0.0,
    fit_intercept: bool = True,
    min_samples: int | None = None,
    missing: str = "raise",
    standard_errors: bool = False,
    cov_type: str = "nonrobust",
    predictions: bool = False,
    backend: str | None = None,
    n_threads: int | None = None,
) -> SegmentLstsq:
    """A least-squares fit for the window that ends with each row.

    The cost of a row does not depend on the length of the window. Sums are kept in twice the
    precision of float64 and are made anew at intervals, so that rounding does not grow with the
    number of rows, and each window is as accurate as :func:`numpy.linalg.lstsq` would be.

    Parameters
    ----------
    X : array-like or frame of shape (n_samples, n_features)
        Rows in the order of time. Dense, on the host.
    y : array-like of shape (n_samples,)
    window : int, or length of time
        Rows of a window, or how far back it reaches, such as "30D" or a timedelta; the latter needs
        `times`. The end that lies exactly so far back is left out, as in pandas.
    times : array-like of shape (n_samples,), optional
        The time of each row, which must not decrease (within a group): datetimes, of any time
        zone, or numbers together with a `window` in the same unit.
    groups : array-like of shape (n_samples,), or of several columns, optional
        Labels: a window has rows of one group only. Results keep the order of X's rows.
    sample_weight, alpha, fit_intercept, standard_errors, cov_type, backend, n_threads
        As in :func:`grouped_lstsq`. Robust errors read each window again: the cost of a row is then
        that of its window.
    min_samples : int >= 1, optional
        Windows with fewer rows have no fit. Default, as in pandas: `window`; for lengths of time as
        many as there are weights, or 1 with `alpha`.
    missing : {"raise", "skip"}, default="raise"
        What becomes of NaN: a ValueError, or their rows do not count, as in pandas.
    predictions : bool, default=False
        Whether to return the prediction of each row by the window that ends with it, and by the
        window that ends with the row before it.

    Returns
    -------
    result : SegmentLstsq
        One regression per row of X, and its numbers in the order of the rows.

    Raises
    ------
    ValueError
        If a shape, a dtype or a value is not allowed, times decrease, or the window is longer than
        the data.

    Examples
    --------
    >>> import fastlsgd
    >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [0.0, 1.0, 2.0, 5.0]
    >>> fastlsgd.rolling_lstsq(X, y, 2).coef[:, 0].round(12).tolist()
    [nan, 1.0, 1.0, 3.0]
    """
    task = _take(X, y, sample_weight, alpha, fit_intercept, missing, standard_errors, cov_type)
    n = len(task.rows.y)
    found = one_group(n) if groups is None else find_groups(groups, n, task.skips)
    begin = np.repeat(found.bounds[:-1], np.diff(found.bounds))
    stop = np.arange(1, len(begin) + 1)
    if times is None and not time_windows.is_length_of_time(window):
        window = check.check_whole(window, "window", 1)
        own = _min_samples(min_samples, task, window)
        if own > n:
            raise ValueError(
                f"window={window} is longer than the data ({n} rows): "
                f"give min_samples, or a shorter window."
            )
        start = np.maximum(begin, stop - window)
    else:
        stamps, length = time_windows.as_times(times, window, "window", n)
        own = _min_samples(min_samples, task, None)
        at = time_windows.check_sorted(stamps, found)
        start = time_windows.window_starts(at, length, found.bounds)
    segments = task.segments(found, start, stop, own)
    return _by_row(task, segments, found, (backend, n_threads), (predictions, X))


def expanding_lstsq(
    X,
    y,
    *,
    groups=None,
    sample_weight=None,
    alpha: float = 0.0,
    fit_intercept: bool = True,
    min_samples: int | None = None,
    missing: str = "raise",
    standard_errors: bool = False,
    cov_type: str = "nonrobust",
    predictions: bool = False,
    backend: str | None = None,
    n_threads: int | None = None,
) -> SegmentLstsq:
    """A least-squares fit, for each row, of all rows up to it.

    Parameters
    ----------
    X, y, groups, sample_weight, alpha, fit_intercept, missing, standard_errors, predictions
        As in :func:`rolling_lstsq`.
    min_samples : int >= 1, optional
        Rows without so many up to them have no fit. Default: as many as there are weights, or 1
        with `alpha`.
    cov_type, backend, n_threads
        As in :func:`grouped_lstsq`. Robust errors read all rows up to each again, since the
        residuals of all change with each row: a minute for 100,000 rows of 5 columns.

    Returns
    -------
    result : SegmentLstsq
        One regression per row of X, and its numbers in the order of the rows.

    Raises
    ------
    ValueError
        If a shape, a dtype or a value is not allowed.

    Examples
    --------
    >>> import fastlsgd
    >>> X, y = [[0.0], [1.0], [2.0]], [0.0, 1.0, 5.0]
    >>> fastlsgd.expanding_lstsq(X, y).coef[:, 0].round(12).tolist()
    [nan, 1.0, 2.5]
    """
    task = _take(X, y, sample_weight, alpha, fit_intercept, missing, standard_errors, cov_type)
    n = len(task.rows.y)
    found = one_group(n) if groups is None else find_groups(groups, n, task.skips)
    start = np.repeat(found.bounds[:-1], np.diff(found.bounds))
    own = _min_samples(min_samples, task, None)
    segments = task.segments(found, start, np.arange(1, len(start) + 1), own)
    return _by_row(task, segments, found, (backend, n_threads), (predictions, X))


def recursive_lstsq(
    X,
    y,
    *,
    half_life=None,
    initial=None,
    times=None,
    groups=None,
    sample_weight=None,
    fit_intercept: bool = True,
    missing: str = "raise",
    standard_errors: bool = False,
    cov_type: str = "nonrobust",
    backend: str | None = None,
    n_threads: int | None = None,
) -> SegmentLstsq:
    """Recursive least squares: weights that each row updates, with predictions made before.

    The rows so far are forgotten exponentially, and weights are those of weighted least squares of
    all rows up to each. ``predicted`` holds the prediction of each row before it was seen.

    Parameters
    ----------
    X, y, groups, sample_weight, fit_intercept, missing, standard_errors
        As in :func:`rolling_lstsq`.
    half_life : float > 0 or length of time, optional
        After so many rows, or so much time ("30D"; needs `times`), a row counts half. Default:
        nothing is forgotten.
    initial : tuple (coef, precision), optional
        What is known before the first row: weights (n_features,), with the intercept behind them
        where one is fitted, and how many squared errors a unit of deviation from them costs: a
        number, or one for each weight. It is forgotten as rows are. Default: nothing, so that the
        first weights come once the rows determine them.
    times : array-like of shape (n_samples,), optional
        As in :func:`rolling_lstsq`.
    cov_type : {"nonrobust", "HC0", "HC1", "HC2", "HC3"}, default="nonrobust"
        As in :func:`grouped_lstsq`, for the weights that rows have when they are partly forgotten;
        not with `initial`, whose errors are not known. Robust errors read the rows up to each
        again, back to those that are forgotten.
    backend, n_threads
        As in :func:`grouped_lstsq`.

    Returns
    -------
    result : SegmentLstsq
        The weights after each row of X, and predictions.

    Raises
    ------
    ValueError
        If a shape, a dtype or a value is not allowed, or times decrease.

    Examples
    --------
    >>> import fastlsgd
    >>> result = fastlsgd.recursive_lstsq(
    ...     [[1.0], [1.0], [1.0]], [0.0, 1.0, 1.0], half_life=1, fit_intercept=False)
    >>> result.coef[:, 0].round(6).tolist(), result.predicted.round(6).tolist()
    ([0.0, 0.666667, 0.857143], [nan, 0.0, 0.666667])
    """
    task = _take(X, y, sample_weight, 0.0, fit_intercept, missing, standard_errors, cov_type)
    n = len(task.rows.y)
    found = one_group(n) if groups is None else find_groups(groups, n, task.skips)
    start = np.repeat(found.bounds[:-1], np.diff(found.bounds))
    decay = _decay(half_life, times, found, n)
    moments = None if initial is None else _initial_moments(initial, task)
    if moments is not None and cov_type != "nonrobust":
        raise ValueError(
            f"cov_type={cov_type!r} needs the errors of all rows, and initial stands for rows "
            f"whose errors are not known: leave it out, or take cov_type='nonrobust'."
        )
    own = 0 if initial is not None else _min_samples(None, task, None)
    segments = task.segments(found, start, np.arange(1, len(start) + 1), own, decay, moments)
    return _by_row(task, segments, found, (backend, n_threads), (True, X))


# ----------------------------------------------------------------------------------- arguments


class _Task(NamedTuple):
    """Arguments that all functions share, checked."""

    rows: SegmentRows
    penalty: np.ndarray | None
    fit_intercept: bool
    skips: bool
    standard_errors: bool
    cov_type: str = "nonrobust"
    weight_exponent: int = 0  # a power of two, mostly 0, by which the weights were divided

    @property
    def n_weights(self) -> int:
        return self.rows.X.shape[1] + self.fit_intercept

    def segments(self, groups: Groups, start, stop, min_rows, decay=None, initial=None) -> Segments:
        return Segments(
            groups.order,
            np.ascontiguousarray(start, np.int64),
            np.ascontiguousarray(stop, np.int64),
            min_rows,
            self.fit_intercept,
            self.skips,
            self.penalty,
            decay,
            initial,
            self.standard_errors and self.cov_type == "nonrobust",
            KINDS_OF_ERRORS[self.cov_type],
        )

    def fit(
        self, segments: Segments, backend, n_threads, windows: bool = False
    ) -> tuple[SegmentFits, SegmentUnits]:
        """Call the kernel; refuse what isn't finite before anything is fitted again."""
        found, of_settings = resolve(backend, self.rows.X)
        kernels = cast(SegmentKernels, found)
        if windows and not kernels.MAKES_WINDOWS:
            raise ValueError(
                "The backend 'cuda' has regressions of groups only: for windows X must be on the "
                "host, and backend='auto'."
            )
        threads = of_settings if n_threads is None else resolve_threads(n_threads)
        fits = fit_rows_of_segments(kernels, self.rows, segments, threads)
        status = fits.status
        if (status == SegmentStatus.OUT_OF_RANGE).any() or (
            not self.skips and (status == SegmentStatus.SHORT).any()
        ):
            _refuse_non_finite(self)
        return fits, mend_out_of_range(kernels, self.rows, segments, fits)


def _take(
    X, y, sample_weight, alpha, fit_intercept, missing, standard_errors, cov_type="nonrobust"
) -> _Task:
    skips = check.check_choice(missing, "missing", ("raise", "skip")) == "skip"
    if hasattr(X, "tocsr"):
        raise ValueError("X must be dense for regressions of segments.")
    if skips and hasattr(X, "iloc"):  # pandas' nullable columns would become objects
        X = X.to_numpy(np.float64, na_value=np.nan)
    A = check.as_matrix(X)
    if isinstance(A, CSR):
        raise ValueError("X must be dense for regressions of segments.")
    if A.shape[1] > MOST_COLUMNS:
        raise ValueError(
            f"X must have at most {MOST_COLUMNS} features for regressions of segments, "
            f"got {A.shape[1]}: call lstsq for each."
        )
    if skips and hasattr(y, "to_numpy") and str(getattr(y, "dtype", "")) == "object":
        y = y.to_numpy(np.float64, na_value=np.nan)
    targets, s = check.as_targets_and_weights(A, y, sample_weight)
    check.check_same_place(A, y=targets, sample_weight=s)
    if targets.shape[1] != 1:
        raise ValueError(f"y must have one target, got {targets.shape[1]}: call once for each.")
    alpha = check.check_real(alpha, "alpha", 0.0)
    fit_intercept = check.check_flag(fit_intercept, "fit_intercept")
    check.check_choice(cov_type, "cov_type", tuple(KINDS_OF_ERRORS))
    wants_errors = check.check_flag(standard_errors, "standard_errors") or cov_type != "nonrobust"
    if wants_errors and alpha > 0.0:
        raise ValueError("standard_errors are those of least squares without a penalty: alpha=0.")
    s, exponent = normalised_weights(s, A, alpha)
    penalty = np.full(A.shape[1], np.ldexp(alpha, -exponent)) if alpha > 0.0 else None
    rows = SegmentRows(A, targets, s)
    return _Task(rows, penalty, fit_intercept, skips, wants_errors, cov_type, exponent)


def _min_samples(min_samples, task: _Task, window: int | None) -> int:
    least = 1 if task.penalty is not None else task.n_weights
    if min_samples is not None:
        own = check.check_whole(min_samples, "min_samples", 1)
        if window is not None and own > window:
            raise ValueError(f"min_samples={own} is more than window={window}.")
    else:
        own = least if window is None else window
    if window is not None and window < least:
        raise ValueError(
            f"window={window} is shorter than the {least} weights of a regression: "
            f"take a longer one, or alpha > 0."
        )
    return own


def _decay(half_life, times, groups: Groups, n: int) -> np.ndarray | None:
    """What the sums before each position are multiplied by when it is added."""
    if half_life is None:
        return None
    if times is None and not time_windows.is_length_of_time(half_life):
        rate = check.check_real(half_life, "half_life", 0.0, open_low=True)
        decay = np.full(int(groups.bounds[-1]), 0.5 ** (1.0 / rate))
    else:
        stamps, length = time_windows.as_times(times, half_life, "half_life", n)
        at = time_windows.check_sorted(stamps, groups)
        decay = 0.5 ** (np.diff(at, prepend=at[:1]) / length)
    decay[groups.bounds[:-1][np.diff(groups.bounds) > 0]] = 1.0
    return decay


def _initial_moments(initial, task: _Task) -> np.ndarray:
    """Moments of [x, y, 1] of rows that would have said the same."""
    if not isinstance(initial, tuple) or len(initial) != 2:
        raise ValueError(f"initial must be (coef, precision), got {check.shown(initial)}.")
    k, d = task.n_weights, task.rows.X.shape[1]
    coef = check.as_float_array(initial[0], "initial's coef", np.float64)
    precision = check.as_float_array(initial[1], "initial's precision", np.float64)
    if coef.shape != (k,) or precision.shape not in ((), (k,)):
        raise ValueError(
            f"initial must have {k} weights, and one precision or as many, got shapes "
            f"{coef.shape} and {precision.shape}."
        )
    if not (np.isfinite(coef).all() and np.isfinite(precision).all() and (precision > 0).all()):
        raise ValueError("initial must be finite, and its precision positive.")
    own = np.broadcast_to(precision, (k,))
    places = [*range(d), d + 1][:k]
    out = np.zeros((d + 2, d + 2))
    out[places, places] = own
    out[places, d] = out[d, places] = own * coef
    out[d, d] = float(own @ coef**2)
    return np.ldexp(out, -task.weight_exponent)


def _refuse_non_finite(task: _Task) -> None:
    X, y, _ = task.rows
    if lives_on_device(X) and check.all_finite(X) and check.all_finite(y):
        return  # as the array's own library sees, without a copy of X
    if not task.skips:
        check.explain_non_finite(X=X, y=y)
        return
    for name, array in (("X", X), ("y", y)):
        for start in range(0, len(array), 2**15):
            if np.isinf(np.asarray(array[start : start + 2**15], np.float64)).any():
                raise ValueError(f"{name} contains infinity (dtype {array.dtype}).")


# ------------------------------------------------------------------------------------- results


def _scattered(values: np.ndarray, order: np.ndarray | None, n: int) -> np.ndarray:
    """Values of positions in the order of the rows; 0 or NaN for rows without a position."""
    if order is None:
        return values
    fill = np.nan if values.dtype.kind == "f" else 0
    out = np.full((n, *values.shape[1:]), fill, values.dtype)
    out[order] = values
    return out


def _by_row(task: _Task, segments: Segments, groups: Groups, how, wanted) -> SegmentLstsq:
    """The result of one segment per position, in the order of the rows."""
    (backend, n_threads), (predictions, X) = how, wanted
    fits, units = task.fit(segments, backend, n_threads, True)
    n, order = len(task.rows.y), groups.order
    made: tuple[np.ndarray | None, np.ndarray | None] = (None, None)
    if check.check_flag(predictions, "predictions"):
        own = np.arange(len(fits.status))
        before = own - 1
        before[groups.bounds[:-1][np.diff(groups.bounds) > 0]] = -1
        fitted, ahead = (predict_rows(task.rows.X, order, fits, k) for k in (own, before))
        made = _scattered(fitted, order, n), _scattered(ahead, order, n)
    parts = (None if part is None else _scattered(part, order, n) for part in fits)
    every = SegmentFits(*cast(Any, parts)), SegmentUnits(*(_scattered(u, order, n) for u in units))
    kept = None
    if segments.decay is not None:
        kept = _scattered(_remembered(task, fits, groups), order, n)
    return _result(task, every, {}, made, X, kept)


def _remembered(task: _Task, fits: SegmentFits, groups: Groups) -> np.ndarray:
    """Return the share of their weight that the rows up to each position still have.

    A common factor of the weights has no effect on it, nor on standard errors.
    """
    s = task.rows.sample_weight
    mean = np.ones(len(fits.n_rows))
    if s is not None and len(mean):
        s = s if groups.order is None else s[groups.order]
        unit = float(s.max()) or 1.0
        own, lengths = s.astype(np.float64) / unit, np.diff(groups.bounds)
        sums = np.cumsum([own, own > 0.0], axis=1)
        before = np.hstack([np.zeros((2, 1)), sums])[:, groups.bounds[:-1]]
        weight, count = sums - np.repeat(before, lengths, axis=1)
        mean = unit * np.divide(weight, count, out=mean, where=count > 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return fits.weight / mean / fits.n_rows


def _result(
    task: _Task, found, keys, made, like, remembered: np.ndarray | None = None
) -> SegmentLstsq:
    """Return what is found, fits and their units, as users see it."""
    fits, units = found
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        left = (fits.n_rows - task.n_weights).astype(np.float64)
        if remembered is not None:
            left *= remembered
        r2 = 1.0 - fits.residual / fits.total
        std = np.sqrt(fits.residual / np.where(left > 0, left, np.nan))
        errors = _standard_errors(task, fits, std)
        errors = None if errors is None else np.ldexp(errors, units.error)
        std = np.ldexp(std, units.deviation + task.weight_exponent // 2)
    status = fits.status
    own = getattr(like, "columns", None)
    names = [f"x{j}" for j in range(fits.coef.shape[1])] if own is None else list(map(str, own))
    of_weights, of_intercept = (None, None) if errors is None else (errors[:, :-1], errors[:, -1])
    return SegmentLstsq(
        _beside(fits.coef, like),
        _beside(fits.intercept, like),
        _beside(fits.n_rows, like),
        _beside(r2, like),
        _beside(std, like),
        _beside(of_weights, like),
        _beside(of_intercept, like),
        _beside(made[0], like),
        _beside(made[1], like),
        int((status == SegmentStatus.SHORT).sum()),
        int((status > SegmentStatus.SHORT).sum()),
        keys,
        names,
        hasattr(like, "get_columns"),
        getattr(like, "index", None) if own is not None else None,
    )


def _beside(array: np.ndarray | None, X) -> Any:
    """A result where X is."""
    if array is None or not lives_on_device(X):
        return array
    return handed_back(np.ascontiguousarray(array), X)


def _standard_errors(task: _Task, fits: SegmentFits, std) -> np.ndarray | None:
    """Those of the weights, the intercept's last; NaN without residual degrees of freedom."""
    if fits.inverse is not None:
        return std[:, None] * np.sqrt(fits.inverse)
    if fits.robust is None:
        return None
    free = fits.n_rows - task.n_weights
    factor = fits.n_rows / free if task.cov_type == "HC1" else 1.0
    return np.sqrt(np.where(free > 0, factor, np.nan)[:, None] * fits.robust)
