"""The public functions in compiled code: they check shapes, allocate results and call kernels.

For the compiler, one target (y and coef of one dimension) and many are different functions.
X and y are read in place; of the other arrays, which are small, those that C cannot read as they
are (`coef` of float32, say) are copied first.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.extending import overload, register_jitable

from ..functional import GramResult, LossGradient, SGDEpoch
from . import _functions
from ._calls import add_symbols as register_symbols
from ._calls import (
    call_gram,
    call_loss_gradient,
    call_predict,
    call_sgd_epoch,
    is_array,
    is_matrix,
)

__all__ = ["register_symbols"]


# ------------------------------------------------------------------------------ types of arguments


def _check_X(X) -> None:
    """Refuse, while compiling, types that no kernel takes, here and in the functions below."""
    if not is_matrix(X):
        raise TypingError(
            "X must be an array of float32 or float64 with 2 dimensions, or a fastlsgd.numba.CSR "
            f"of contiguous arrays with indices of one dtype, got {X}."
        )


def _dtype_of(X):
    """The dtype of the numbers of an array or a CSR."""
    numbers = X if isinstance(X, types.Array) else X.types[0]
    return np.float32 if numbers.dtype == types.float32 else np.float64


def _check_y(y) -> None:
    if not is_array(y, 1, 2):
        raise TypingError(f"y must be an array of float32 or float64, got {y}.")


def _check_coef(coef, intercept, *ndims: int) -> None:
    if not is_array(coef, *ndims):
        listed = " or ".join(map(str, ndims))
        raise TypingError(f"coef must be an array of floats of {listed} dimensions, got {coef}.")
    if isinstance(intercept, types.Array) and (coef.ndim, intercept.ndim) != (2, 1):
        raise TypingError(
            "intercept must be a number, or where coef has 2 dimensions an array of 1 dimension, "
            f"got {intercept}."
        )


def _check_vector(value, name: str, kind, of_what: str) -> None:
    """Refuse arrays that are no vectors of such numbers; other values have other checks."""
    if isinstance(value, types.Array) and not (value.ndim == 1 and isinstance(value.dtype, kind)):
        raise TypingError(f"{name} must be an array of {of_what} of 1 dimension, got {value}.")


def _check_weights(sample_weight) -> None:
    real = types.Float, types.Integer, types.Boolean
    _check_vector(sample_weight, "sample_weight", real, "real numbers")


# ------------------------------------------------- in compiled code: arguments as kernels take them


def shape_of(X):
    """The shape of an array or a CSR."""


def length_or(array, n):
    """The length of an array; n for None."""


def contiguous(array, dtype):
    """The array itself if it is contiguous and of this dtype, otherwise a copy; None for None."""


def filled(value, n):
    """n numbers as float64: a copy of an array that has as many, or a number n times."""


def in_dtype_of(array, X):
    """An array in the dtype of X."""


def rows_that_count(sample_weight, order, n_visits):
    """How many of the visited rows have a positive weight, at least 1."""


@register_jitable
def shape_of_csr(X):
    """The shape of a CSR, whose arrays have the sizes that it needs."""
    data, indices, indptr, shape = X
    if indptr.size != shape[0] + 1 or indices.size != data.size:
        raise ValueError("a CSR needs n_rows + 1 numbers in indptr, and an index for each number")
    if indptr[0] < 0 or indptr[-1] > data.size:
        raise ValueError("indptr of a CSR must lie between 0 and the size of data")
    return shape


@overload(shape_of)
def _shape_of(X):
    return (lambda X: X.shape) if isinstance(X, types.Array) else shape_of_csr


@overload(length_or, inline="always")
def _length_or(array, n):
    if isinstance(array, types.Array):
        return lambda array, n: array.size
    return lambda array, n: n


@overload(contiguous, inline="always")
def _contiguous(array, dtype):
    if isinstance(array, types.NoneType):
        return lambda array, dtype: None
    if array.dtype == dtype.dtype and array.layout == "C":
        return lambda array, dtype: array
    return lambda array, dtype: np.ascontiguousarray(array).astype(dtype)


@overload(filled)
def _filled(value, n):
    if not isinstance(value, types.Array):
        return lambda value, n: np.full(n, float(value))

    def copied(value, n):
        if value.size != n:
            raise ValueError("intercept needs a number per target, learning_rate one per update")
        return value.astype(np.float64)

    return copied


@overload(in_dtype_of, inline="always")
def _in_dtype_of(array, X):
    if _dtype_of(X) is np.float64:
        return lambda array, X: array
    return lambda array, X: array.astype(np.float32)


@overload(rows_that_count)
def _rows_that_count(sample_weight, order, n_visits):
    if isinstance(sample_weight, types.NoneType):
        return lambda sample_weight, order, n_visits: max(1, n_visits)
    if isinstance(order, types.NoneType):
        return lambda sample_weight, order, n_visits: max(1, np.count_nonzero(sample_weight))

    def counted(sample_weight, order, n_visits):
        count = 0
        for row in order:
            count += sample_weight[row] != 0
        return max(1, count)

    return counted


@register_jitable
def check_status(status):
    if status == 1:
        raise MemoryError("no memory for the scratch of a kernel of fastlsgd")
    if status != 0:
        raise ValueError("a size or a thread count is negative, or batch_size is less than 1")


@register_jitable
def check_rows(n, n_targets, n_weights):
    if n_targets != n or n_weights != n:
        raise ValueError("X, y and sample_weight must have the same number of rows")


@register_jitable
def check_coef(shape, n_targets, n_features):
    if shape != (n_targets, n_features):
        raise ValueError("coef must have a weight for each column of X, and a row for each target")


# ---------------------------------------------------------------------------------------- overloads


@overload(_functions.loss_gradient)
def loss_gradient(X, y, coef, intercept=0.0, sample_weight=None, n_threads=1):
    _check_X(X)
    _check_y(y)
    _check_coef(coef, intercept, y.ndim)
    _check_weights(sample_weight)

    def one(X, y, coef, intercept=0.0, sample_weight=None, n_threads=1):
        n, d = shape_of(X)
        check_rows(n, y.size, length_or(sample_weight, n))
        check_coef((1, coef.size), 1, d)
        w, s = contiguous(coef, np.float64), contiguous(sample_weight, y.dtype)
        out = np.empty(d + 3)  # the gradient, the loss, the intercept's gradient, the intercept
        out[d + 2] = intercept
        results = out[d:], out, out[d + 1 :]
        check_status(call_loss_gradient(results, X, y, w, out[d + 2 :], s, n_threads))
        return LossGradient(out[d], in_dtype_of(out[:d], X), out[d + 1])

    def many(X, y, coef, intercept=0.0, sample_weight=None, n_threads=1):
        n, d = shape_of(X)
        t = y.shape[1]
        check_rows(n, y.shape[0], length_or(sample_weight, n))
        check_coef(coef.shape, t, d)
        w, s = contiguous(coef, np.float64), contiguous(sample_weight, y.dtype)
        loss, dw, db = np.empty(t), np.empty((t, d)), np.empty(t)
        b = filled(intercept, t)
        check_status(call_loss_gradient((loss, dw, db), X, y, w, b, s, n_threads))
        return LossGradient(loss.sum(), in_dtype_of(dw, X), db)

    return one if y.ndim == 1 else many


@overload(_functions.predict)
def predict(X, coef, intercept=0.0, n_threads=1):
    _check_X(X)
    _check_coef(coef, intercept, 1, 2)
    kind = _dtype_of(X)

    def one(X, coef, intercept=0.0, n_threads=1):
        n, d = shape_of(X)
        check_coef((1, coef.size), 1, d)
        out, b = np.empty(n, kind), filled(intercept, 1)
        check_status(call_predict(out, X, contiguous(coef, np.float64), b, 1, n_threads))
        return out

    def many(X, coef, intercept=0.0, n_threads=1):
        n, d = shape_of(X)
        t = coef.shape[0]
        check_coef(coef.shape, t, d)
        out, b = np.empty((n, t), kind), filled(intercept, t)
        check_status(call_predict(out, X, contiguous(coef, np.float64), b, t, n_threads))
        return out

    return one if coef.ndim == 1 else many


@overload(_functions.gram)
def gram(X, y, sample_weight=None, shift=None, n_threads=1):
    _check_X(X)
    _check_y(y)
    _check_weights(sample_weight)
    _check_vector(shift, "shift", (types.Float, types.Integer), "real numbers")

    @register_jitable
    def moments(X, y, t, sample_weight, shift, n_threads):
        n, d = shape_of(X)
        check_rows(n, y.shape[0], length_or(sample_weight, n))
        if length_or(shift, d) != d:
            raise ValueError("shift must have a number for each column of X")
        out = np.empty((d + t + 1, d + t + 1))
        c, s = contiguous(shift, np.float64), contiguous(sample_weight, y.dtype)
        check_status(call_gram(out, X, y, s, c, n_threads))
        return d, out

    def one(X, y, sample_weight=None, shift=None, n_threads=1):
        d, out = moments(X, y, 1, sample_weight, shift, n_threads)
        xx, xy, x = out[:d, :d].copy(), out[:d, d].copy(), out[:d, d + 1].copy()
        return GramResult(xx, xy, x, out[d, d + 1], out[d + 1, d + 1])

    def many(X, y, sample_weight=None, shift=None, n_threads=1):
        t = y.shape[1]
        d, out = moments(X, y, t, sample_weight, shift, n_threads)
        m = d + t
        xx, xy, x = out[:d, :d].copy(), out[:d, d:m].copy(), out[:d, m].copy()
        return GramResult(xx, xy, x, out[d:m, m].copy(), out[m, m])

    return one if y.ndim == 1 else many


@register_jitable
def _visit(n, order, batch_size, learning_rate):
    """How many rows an epoch visits, in what order, and the rates of its updates."""
    n_visits = length_or(order, n)
    if batch_size < 1:
        raise ValueError("batch_size must be at least 1")
    rates = filled(learning_rate, -(-n_visits // batch_size))
    return contiguous(order, np.int64), n_visits, rates, np.int64(batch_size)


@overload(_functions.sgd_epoch)
def sgd_epoch(
    X, y, coef, intercept=0.0, learning_rate=0.01, batch_size=1, order=None, sample_weight=None,
    alpha=0.0, l1_ratio=0.0, fit_intercept=True, n_threads=1,
):  # fmt: skip
    _check_X(X)
    _check_y(y)
    _check_coef(coef, intercept, y.ndim)
    _check_weights(sample_weight)
    _check_vector(order, "order", types.Integer, "integers")
    _check_vector(learning_rate, "learning_rate", (types.Float, types.Integer), "real numbers")
    kind = _dtype_of(X)

    @register_jitable
    def epoch(X, y, w, b, s, visit, penalty, n_threads):
        """The mean of the losses; w and b are changed."""
        loss = np.zeros(1)
        changed = loss, w, b, np.zeros(w.size, kind)
        check_rows(shape_of(X)[0], y.shape[0], length_or(s, y.shape[0]))
        check_status(call_sgd_epoch(changed, X, y, s, visit, penalty, n_threads))
        return loss[0] / rows_that_count(s, visit[0], visit[1])

    if y.ndim == 1:

        def sgd_epoch(
            X, y, coef, intercept=0.0, learning_rate=0.01, batch_size=1, order=None,
            sample_weight=None, alpha=0.0, l1_ratio=0.0, fit_intercept=True, n_threads=1,
        ):  # fmt: skip
            n, d = shape_of(X)
            check_coef((1, coef.size), 1, d)
            w, b, s = coef.astype(kind), filled(intercept, 1), contiguous(sample_weight, y.dtype)
            visit = _visit(n, order, batch_size, learning_rate)
            penalty = float(alpha), float(l1_ratio), int(fit_intercept)
            loss = epoch(X, y, w, b, s, visit, penalty, n_threads)
            return SGDEpoch(w, b[0], loss)

    else:

        def sgd_epoch(
            X, y, coef, intercept=0.0, learning_rate=0.01, batch_size=1, order=None,
            sample_weight=None, alpha=0.0, l1_ratio=0.0, fit_intercept=True, n_threads=1,
        ):  # fmt: skip
            n, d = shape_of(X)
            check_coef(coef.shape, y.shape[1], d)
            w = np.ascontiguousarray(coef).astype(kind)
            b, s = filled(intercept, y.shape[1]), contiguous(sample_weight, y.dtype)
            visit = _visit(n, order, batch_size, learning_rate)
            penalty = float(alpha), float(l1_ratio), int(fit_intercept)
            loss = epoch(X, y, w, b, s, visit, penalty, n_threads)
            return SGDEpoch(w, b, loss)

    return sgd_epoch
