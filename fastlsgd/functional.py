"""The kernels as public functions: each validates its arguments, picks a backend and calls it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from . import _validation as check
from .kernels import contract, resolve
from .kernels.device import DeviceArray, extremes, handed_back, lives_on_device, ndim
from .solvers.interrupt import call_gram, call_kernel
from .solvers.weights import normalised_weights, rows_that_count

__all__ = [
    "GramResult",
    "LossGradient",
    "SGDEpoch",
    "gram",
    "loss_gradient",
    "predict",
    "sgd_epoch",
]


# If a sum of squares is below this, every number is finite in float32 too.
_NO_DOUBT = 1e70
_OVERFLOW = "The loss or its gradient overflows: rescale X, y, coef or intercept."


class LossGradient(NamedTuple):
    """The objective and its gradient: :func:`loss_gradient` sums the loss over targets."""

    loss: float
    coef: np.ndarray
    intercept: float | np.ndarray


class GramResult(NamedTuple):
    """Weighted sums of products, as :func:`gram` returns them."""

    xx: np.ndarray
    xy: np.ndarray | None
    x: np.ndarray
    y: float | np.ndarray | None
    weight: float


class SGDEpoch(NamedTuple):
    """The weights after an epoch, and the mean loss seen on the way."""

    coef: np.ndarray
    intercept: float | np.ndarray
    loss: float


def loss_gradient(
    X,
    y,
    coef,
    intercept=0.0,
    *,
    sample_weight=None,
    alpha: float = 0.0,
    l1_ratio: float = 0.0,
    backend: str | None = None,
) -> LossGradient:
    """Least-squares objective and its gradient, in one pass over X.

    With r_i = x_i . coef + intercept - y_i, weights s_i and S = sum s_i::

        loss      = 1/(2 S) sum_i s_i r_i^2
                    + alpha (l1_ratio |coef|_1 + (1 - l1_ratio)/2 |coef|_2^2)
        coef      = 1/S sum_i s_i r_i x_i   + alpha (l1_ratio sign(coef) + (1 - l1_ratio) coef)
        intercept = 1/S sum_i s_i r_i

    This is scikit-learn's convention; Keras and PyTorch "MSE" is twice this loss.

    Parameters
    ----------
    X : array-like or SciPy sparse of shape (n_samples, n_features)
        Real numbers of any dtype, in any memory order; CSR with its indices in any order. Nothing
        is copied: what is not native float32 or float64 is converted a block of rows at a time.
        Sparse formats other than CSR are converted. Neither the indices nor anything else may be
        changed by another thread during the call.
    y : array-like of shape (n_samples,) or (n_samples, n_targets)
    coef : array-like of shape (n_features,) or (n_targets, n_features)
    intercept : float or array-like of shape (n_targets,), default=0.0
    sample_weight : array-like of shape (n_samples,), optional
        Not negative and not all zero; a number is the weight of each row. Default: ones.
    alpha : float >= 0, default=0.0
        Strength of the penalty. The intercept is never penalised.
    l1_ratio : float in [0, 1], default=0.0
        Share of L1 in the penalty. At a weight of zero the subgradient 0 is taken.
    backend : {"auto", "native", "numba", "reference", "cuda"}, optional
        Default: as set by :func:`set_config`.

    Returns
    -------
    result : LossGradient
        Named tuple of ``loss`` (float, summed over targets), ``coef`` (the gradient, of the
        shape of `coef` and the dtype of X) and ``intercept`` (float, or one per target).

    Raises
    ------
    ValueError
        If a shape, a dtype or a value is not allowed, or NaN or infinity is found.
    ImportError
        If `backend` is not installed.

    Notes
    -----
    For each block of rows the residuals are made and the block's share of X^T r is added
    while the block is in cache, so that X is read from memory once, not twice.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlsgd
    >>> X, y = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 2.0])
    >>> loss, coef, intercept = fastlsgd.loss_gradient(X, y, np.zeros(2))
    >>> loss, coef.tolist(), intercept
    (1.25, [-3.5, -5.0], -1.5)
    """
    like = X
    X, y, w, b, s, one_target = _problem(X, y, coef, intercept, sample_weight)
    alpha = check.check_real(alpha, "alpha", 0.0)
    l1_ratio = check.check_real(l1_ratio, "l1_ratio", 0.0, 1.0)
    if s is not None:
        s, _ = normalised_weights(s, X)  # the scale of weights does not change a weighted mean
    kernels, n_threads = resolve(backend, X)
    losses, dw, db = call_kernel(kernels.loss_gradient, 2 * len(w), X, y, w, b, s, n_threads)
    loss = float(losses[0] if one_target else losses.sum())
    if not math.isfinite(loss):
        check.explain_non_finite(X=X, y=y, coef=w, intercept=b)
        raise ValueError(_OVERFLOW)
    if alpha > 0.0:
        l1, l2 = alpha * l1_ratio, alpha * (1.0 - l1_ratio)
        loss += l1 * float(np.abs(w).sum()) + 0.5 * l2 * float((w * w).sum())
        dw = dw + (l1 * np.sign(w) + l2 * w)
    square = float(np.vdot(dw, dw))
    dtype = contract.working_dtype(X)
    if not (math.isfinite(loss) and square < _NO_DOUBT) and not _fits(loss, dw, dtype):
        raise ValueError(_OVERFLOW)
    if dtype != np.float64:
        dw = dw.astype(dtype)
    if one_target:
        return LossGradient(loss, _back(dw[0], like), float(db[0]))
    return LossGradient(loss, _back(dw, like), _back(db, like))


def predict(X, coef, intercept=0.0, *, backend: str | None = None) -> np.ndarray:
    """X coef + intercept.

    Parameters
    ----------
    X : array-like or SciPy sparse of shape (n_samples, n_features)
    coef : array-like of shape (n_features,) or (n_targets, n_features)
    intercept : float or array-like of shape (n_targets,), default=0.0
    backend : {"auto", "native", "numba", "reference", "cuda"}, optional

    Returns
    -------
    y : ndarray of shape (n_samples,) or (n_samples, n_targets), of X's dtype

    Raises
    ------
    ValueError
        If a shape, a dtype or a value is not allowed, or NaN or infinity is found.

    Examples
    --------
    >>> import fastlsgd
    >>> fastlsgd.predict([[1.0, 2.0]], [3.0, 4.0], 0.5).tolist()
    [11.5]
    """
    like, X = X, check.as_matrix(X, for_predictions=True)
    one_target = ndim(coef) == 1
    w, b = check.as_coefficients(coef, intercept, X.shape[1])
    kernels, n_threads = resolve(backend, X)
    out = _back(call_kernel(kernels.predict, len(w), X, w, b, n_threads), like)
    if not check.all_finite(out):
        check.explain_non_finite(X=X, coef=w, intercept=b)
        raise ValueError(f"The prediction overflows {out.dtype}.")
    return out[:, 0] if one_target else out


def gram(X, y=None, *, sample_weight=None, shift=None, backend: str | None = None) -> GramResult:
    """Weighted sums of products of the columns of X, and with y, in one pass over X.

    Parameters
    ----------
    X : array-like or SciPy sparse of shape (n_samples, n_features)
    y : array-like of shape (n_samples,) or (n_samples, n_targets), optional
    sample_weight : array-like of shape (n_samples,), optional
    shift : array-like of shape (n_features,), optional
        Origin c that is taken from each row first. With c near the mean, columns far from
        zero lose no digits. Default: zero.
    backend : {"auto", "native", "numba", "reference", "cuda"}, optional

    Returns
    -------
    moments : GramResult
        Named tuple of ``xx`` = sum_i s_i (x_i - c)(x_i - c)^T, ``xy`` = sum_i s_i (x_i - c) y_i,
        ``x`` = sum_i s_i (x_i - c), ``y`` = sum_i s_i y_i and ``weight`` = sum_i s_i,
        all float64; ``xy`` and ``y`` are None without `y`.

    Raises
    ------
    ValueError
        If a shape, a dtype or a value is not allowed, or NaN or infinity is found.

    Examples
    --------
    >>> import fastlsgd
    >>> fastlsgd.gram([[1.0, 2.0], [3.0, 4.0]]).xx.tolist()
    [[10.0, 14.0], [14.0, 20.0]]
    """
    like, X = X, check.as_matrix(X)
    n, d = X.shape
    if y is None:
        s = check.as_sample_weight(sample_weight, n)
        targets = np.empty((n, 0), np.float64 if s is None else s.dtype)
    else:
        targets, s = check.as_targets_and_weights(X, y, sample_weight)
    check.check_same_place(X, y=None if y is None else targets, sample_weight=s)
    if shift is not None:
        shift = check.as_float_array(check.on_host(shift), "shift", np.float64)
        if shift.shape != (d,):
            raise ValueError(f"shift must have shape ({d},), got shape {shift.shape}.")
        shift = np.ascontiguousarray(shift)
    kernels, n_threads = resolve(backend, X)
    xx, xy, x_sum, y_sum, weight = call_gram(kernels, X, targets, s, shift, n_threads)
    if not (np.isfinite(xx).all() and np.isfinite(xy).all()):
        check.explain_non_finite(X=X, y=targets, shift=shift)
        given = {"X": X, "y": y, "sample_weight": s, "shift": shift}
        listed = " or ".join(name for name, value in given.items() if value is not None)
        raise ValueError(f"The sums of products overflow: rescale {listed}.")
    xx, x_sum = _back(xx, like), _back(x_sum, like)
    if y is None:
        return GramResult(xx, None, x_sum, None, weight)
    if ndim(y) == 1:
        return GramResult(xx, _back(xy[:, 0], like), x_sum, float(y_sum[0]), weight)
    return GramResult(xx, _back(xy, like), x_sum, _back(y_sum, like), weight)


def sgd_epoch(
    X,
    y,
    coef,
    intercept=0.0,
    *,
    learning_rate,
    batch_size: int = 1,
    order=None,
    sample_weight=None,
    alpha: float = 0.0,
    l1_ratio: float = 0.0,
    fit_intercept: bool = True,
    backend: str | None = None,
) -> SGDEpoch:
    """One epoch of stochastic gradient descent, row by row or in mini-batches.

    Parameters
    ----------
    X : array-like or SciPy sparse of shape (n_samples, n_features)
    y : array-like of shape (n_samples,) or (n_samples, n_targets)
    coef : array-like of shape (n_features,) or (n_targets, n_features)
        Weights to start from; left as they are.
    intercept : float or array-like of shape (n_targets,), default=0.0
    learning_rate : float >= 0 or array-like of shape (n_updates,)
        Rate of each update, n_updates = ceil(rows / batch_size).
    batch_size : int >= 1, default=1
        Rows of an update; their gradients are averaged. The last batch may be smaller.
    order : array-like of int of shape (n_visits,), optional
        Rows in the order of the visit; a row may come more than once, or never. Copied.
        Default: 0, 1, ..., n_samples - 1.
    sample_weight : array-like of shape (n_samples,), optional
        Factor of each row's gradient.
    alpha, l1_ratio : float, default=0.0
        Penalty, as in :func:`loss_gradient`. L1 is the cumulative penalty of [1]_.
    fit_intercept : bool, default=True
        Whether the intercept is updated too.
    backend : {"auto", "native", "numba", "reference", "cuda"}, optional

    Returns
    -------
    result : SGDEpoch
        Named tuple of ``coef`` and ``intercept`` after the epoch and ``loss``, the mean over
        the visited rows of positive weight of r^2/2 before each update, summed over targets.

    Raises
    ------
    ValueError
        If a shape, a dtype or a value is not allowed, NaN or infinity is found, or the rate is
        too large and the weights diverge.

    References
    ----------
    .. [1] Tsuruoka, Tsujii, Ananiadou (2009), "Stochastic gradient descent training for
       L1-regularized log-linear models with cumulative penalty", ACL.

    Examples
    --------
    >>> import fastlsgd
    >>> coef, intercept, loss = fastlsgd.sgd_epoch(
    ...     [[1.0], [2.0]], [1.0, 2.0], [0.0], learning_rate=0.1)
    >>> coef.round(4).tolist(), round(loss, 4)
    ([0.44], 0.9725)
    """
    if ndim(coef) not in (1, 2):
        raise ValueError(f"coef must have 1 or 2 dimensions, got {ndim(coef)}.")
    like = X
    X, y, start_w, start_b, s, one_target = _problem(X, y, coef, intercept, sample_weight)
    w, b = start_w.astype(contract.working_dtype(X)), start_b.copy()
    visit = _order(order, X.shape[0])
    n_rows = X.shape[0] if visit is None else len(visit)
    # More rows than there are means all of them.
    batch_size = min(check.check_whole(batch_size, "batch_size", 1, high=None), n_rows)
    rates = _rates(learning_rate, -(-n_rows // batch_size))
    alpha = check.check_real(alpha, "alpha", 0.0)
    l1_ratio = check.check_real(l1_ratio, "l1_ratio", 0.0, 1.0)
    fit_intercept = check.check_flag(fit_intercept, "fit_intercept")
    state = contract.SGDState(l1_paid=np.zeros_like(w) if alpha * l1_ratio > 0 else None)
    kernels, n_threads = resolve(backend, X)
    total = call_kernel(
        kernels.sgd_epoch,
        2 * len(w),
        X,
        y,
        w,
        b,
        s,
        contract.Epoch(visit, rates, batch_size, alpha, l1_ratio, fit_intercept),
        state,
        n_threads,
    )
    if not (np.isfinite(total) and np.isfinite(w).all() and np.isfinite(b).all()):
        check.explain_non_finite(X=X, y=y, coef=start_w, intercept=start_b)
        start = call_kernel(
            kernels.loss_gradient, 2 * len(w), X, y, start_w, start_b, None, n_threads
        )
        if not np.isfinite(start[0]).all():
            raise ValueError(
                "The squares of the first residuals overflow: rescale X, y, coef or intercept."
            )
        if s is not None and float(extremes(s)[1] if isinstance(s, DeviceArray) else s.max()) > 1e9:
            raise ValueError("The weights diverge: learning_rate or sample_weight is too large.")
        raise ValueError(f"learning_rate={rates.max():.3g} is too large: the weights diverge.")
    loss = total / rows_that_count(s, visit, n_rows)
    if one_target:
        return SGDEpoch(_back(w[0], like), float(b[0]), loss)
    return SGDEpoch(_back(w, like), _back(b, like), loss)


def _back(array, like):
    """A result as the kind of array that X was, if X is on a GPU."""
    if type(like) is np.ndarray or not lives_on_device(like):  # the first saves half a microsecond
        return array
    return handed_back(array, like)


def _fits(loss: float, dw: np.ndarray, dtype) -> bool:
    return math.isfinite(loss) and float(np.abs(dw).max()) <= float(np.finfo(dtype).max)


def _problem(X, y, coef, intercept, sample_weight):
    X = check.as_matrix(X)
    d = X.shape[1]
    targets, s = check.as_targets_and_weights(X, y, sample_weight)
    w, b = check.as_coefficients(coef, intercept, d)
    if targets.shape[1] != w.shape[0]:
        raise ValueError(
            f"coef is for {w.shape[0]} targets but y has {targets.shape[1]}: "
            f"coef must have shape ({targets.shape[1]}, {d})."
        )
    if type(X) is not np.ndarray or type(targets) is not np.ndarray:
        check.check_same_place(X, y=targets, sample_weight=s)
    return X, targets, w, b, s, getattr(coef, "ndim", 0) == 1 or ndim(coef) == 1


def _order(order, n: int) -> np.ndarray | None:
    if order is None:
        return None
    # A copy, and checked as such: another thread may change the caller's array meanwhile.
    rows = np.array(check.as_array(check.on_host(order, "order"), "order"))
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or len(rows) == 0:
        raise ValueError(
            f"order must be whole row numbers of shape (n_visits,), got dtype {rows.dtype} "
            f"and shape {rows.shape}."
        )
    if rows.min() < 0 or rows.max() >= n:
        raise ValueError(
            f"order must hold row numbers in [0, {n}), got {rows.min()} to {rows.max()}."
        )
    return rows.astype(np.int64, copy=False)


def _rates(learning_rate, n_updates: int) -> np.ndarray:
    rates = check.as_float_array(check.on_host(learning_rate), "learning_rate", np.float64)
    if rates.shape not in ((), (n_updates,)):
        raise ValueError(
            f"learning_rate must be a number or have shape ({n_updates},), one rate an update, "
            f"got shape {rates.shape}."
        )
    if not np.isfinite(rates).all() or rates.min() < 0:
        wrong = rates[~(np.isfinite(rates) & (rates >= 0))].ravel()[0]
        raise ValueError(f"learning_rate must be finite and not negative, got {wrong}.")
    return np.ascontiguousarray(np.broadcast_to(rates, (n_updates,)))
