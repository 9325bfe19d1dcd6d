"""The public functions: their documentation, and what they do outside of compiled code."""

from __future__ import annotations

from scipy.sparse import csr_array

from .. import functional
from .._config import config_context
from ..functional import GramResult, LossGradient, SGDEpoch
from ..kernels.contract import CSR

__all__ = ["gram", "loss_gradient", "predict", "sgd_epoch"]


def _public(X):
    """X as the functions of `fastlsgd` take it."""
    return csr_array((X.data, X.indices, X.indptr), shape=X.shape) if isinstance(X, CSR) else X


def loss_gradient(X, y, coef, intercept=0.0, sample_weight=None, n_threads=1) -> LossGradient:
    """Least-squares objective and its gradient, as :func:`fastlsgd.loss_gradient` without penalty.

    Parameters
    ----------
    X : array of shape (n_samples, n_features) or CSR
        float32 or float64.
    y : array of shape (n_samples,) or (n_samples, n_targets)
        float32 or float64.
    coef : array of shape (n_features,) or (n_targets, n_features)
    intercept : float or array of shape (n_targets,), default=0.0
        For more than one target an array, or left out.
    sample_weight : array of shape (n_samples,), optional
    n_threads : int, default=1

    Returns
    -------
    result : LossGradient
        Named tuple of ``loss`` (float, summed over targets), ``coef`` (the gradient, of X's dtype)
        and ``intercept`` (float, or one per target).

    Raises
    ------
    ValueError
        If shapes do not fit together.
    MemoryError
        If there is no memory for the sums.

    Examples
    --------
    >>> import numba, numpy as np
    >>> from fastlsgd.numba import loss_gradient
    >>> @numba.njit
    ... def descend(X, y, coef, rate, n_steps):
    ...     for _ in range(n_steps):
    ...         coef = coef - rate * loss_gradient(X, y, coef).coef
    ...     return coef
    >>> X = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> descend(X, X @ np.array([2.0, -1.0]), np.zeros(2), 0.5, 200).round(6).tolist()
    [2.0, -1.0]
    """
    with config_context(n_threads=n_threads):
        return functional.loss_gradient(_public(X), y, coef, intercept, sample_weight=sample_weight)


def predict(X, coef, intercept=0.0, n_threads=1):
    """X coef + intercept, as :func:`fastlsgd.predict`.

    Parameters
    ----------
    X : array of shape (n_samples, n_features) or CSR
        float32 or float64.
    coef : array of shape (n_features,) or (n_targets, n_features)
    intercept : float or array of shape (n_targets,), default=0.0
    n_threads : int, default=1

    Returns
    -------
    y : array of shape (n_samples,) or (n_samples, n_targets), of X's dtype

    Raises
    ------
    ValueError
        If shapes do not fit together.
    MemoryError
        If there is no memory for a block of rows.

    Examples
    --------
    >>> import numba, numpy as np
    >>> from fastlsgd.numba import predict
    >>> numba.njit(lambda X, coef: predict(X, coef, 0.5))(np.ones((1, 2)), np.ones(2)).tolist()
    [2.5]
    """
    with config_context(n_threads=n_threads):
        return functional.predict(_public(X), coef, intercept)


def gram(X, y, sample_weight=None, shift=None, n_threads=1) -> GramResult:
    """Weighted sums of products of the columns of X, and with y, as :func:`fastlsgd.gram`.

    Parameters
    ----------
    X : array of shape (n_samples, n_features) or CSR
        float32 or float64.
    y : array of shape (n_samples,) or (n_samples, n_targets)
        float32 or float64.
    sample_weight : array of shape (n_samples,), optional
    shift : array of shape (n_features,), optional
        Origin that is taken from each row first.
    n_threads : int, default=1

    Returns
    -------
    moments : GramResult
        Named tuple of ``xx``, ``xy``, ``x``, ``y`` and ``weight``, all float64.

    Raises
    ------
    ValueError
        If shapes do not fit together.
    MemoryError
        If there is no memory for the sums.

    Examples
    --------
    >>> import numba, numpy as np
    >>> from fastlsgd.numba import gram
    >>> numba.njit(lambda X, y: gram(X, y).xx)(np.eye(2), np.ones(2)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    with config_context(n_threads=n_threads):
        return functional.gram(_public(X), y, sample_weight=sample_weight, shift=shift)


def sgd_epoch(
    X,
    y,
    coef,
    intercept=0.0,
    learning_rate=0.01,
    batch_size=1,
    order=None,
    sample_weight=None,
    alpha=0.0,
    l1_ratio=0.0,
    fit_intercept=True,
    n_threads=1,
) -> SGDEpoch:
    """One epoch of stochastic gradient descent, as :func:`fastlsgd.sgd_epoch`.

    Parameters
    ----------
    X : array of shape (n_samples, n_features) or CSR
        float32 or float64.
    y : array of shape (n_samples,) or (n_samples, n_targets)
        float32 or float64.
    coef : array of shape (n_features,) or (n_targets, n_features)
        Weights to start from; left as they are.
    intercept : float or array of shape (n_targets,), default=0.0
    learning_rate : float or array of shape (n_updates,), default=0.01
    batch_size : int >= 1, default=1
    order : int64 array of shape (n_visits,), optional
        Rows in the order of the visit, each in [0, n_samples), which is not checked.
    sample_weight : array of shape (n_samples,), optional
    alpha, l1_ratio : float, default=0.0
    fit_intercept : bool, default=True
    n_threads : int, default=1

    Returns
    -------
    result : SGDEpoch
        Named tuple of ``coef``, ``intercept`` and ``loss``. They are not finite where the weights
        diverge.

    Raises
    ------
    ValueError
        If shapes do not fit together.
    MemoryError
        If there is no memory for a block of rows.

    Examples
    --------
    >>> import numba, numpy as np
    >>> from fastlsgd.numba import sgd_epoch
    >>> epoch = numba.njit(lambda X, y: sgd_epoch(X, y, np.zeros(1), learning_rate=0.1))
    >>> epoch(np.array([[1.0], [2.0]]), np.array([1.0, 2.0])).coef.round(4).tolist()
    [0.44]
    """
    with config_context(n_threads=n_threads):
        return functional.sgd_epoch(
            _public(X),
            y,
            coef,
            intercept,
            learning_rate=learning_rate,
            batch_size=batch_size,
            order=order,
            sample_weight=sample_weight,
            alpha=alpha,
            l1_ratio=l1_ratio,
            fit_intercept=fit_intercept,
        )
