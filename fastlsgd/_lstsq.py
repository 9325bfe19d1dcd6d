"""`lstsq` solves the problem of numpy.linalg.lstsq to the same accuracy, by descent."""

from __future__ import annotations

import warnings
from typing import Literal, NamedTuple, overload

import numpy as np

from . import _validation as check
from .kernels import resolve_backend, resolve_threads
from .kernels.contract import working_dtype
from .kernels.device import handed_back, lives_on_device, ndim
from .solvers.least_squares import DIRECT_SOLVERS, Request, solve_least_squares
from .solvers.small import small_weights
from .solvers.small_batch import solve_small_batch
from .solvers.solution import Solution, weights_underflow
from .solvers.training import TrainingData

__all__ = ["LstsqInfo", "lstsq"]


# Conjugate gradients on sparse A end with a warning after this many passes.
MOST_PASSES = 10_000


class LstsqInfo(NamedTuple):
    """How :func:`lstsq` found its answer."""

    solver_: str
    n_iter_: int
    condition_: float
    residual_norm_: float | np.ndarray


@overload
def lstsq(
    A,
    b,
    *,
    alpha: float = ...,
    sample_weight=...,
    solver: str = ...,
    tol: float | None = ...,
    return_info: Literal[False] = ...,
    backend: str | None = ...,
) -> np.ndarray: ...
@overload
def lstsq(
    A,
    b,
    *,
    alpha: float = ...,
    sample_weight=...,
    solver: str = ...,
    tol: float | None = ...,
    return_info: Literal[True],
    backend: str | None = ...,
) -> tuple[np.ndarray, LstsqInfo]: ...


def lstsq(
    A,
    b,
    *,
    alpha: float = 0.0,
    sample_weight=None,
    solver: str = "auto",
    tol: float | None = None,
    return_info: bool = False,
    backend: str | None = None,
):
    """Solve a linear least-squares problem to rounding, for any shape, condition or rank.

    Minimises ``sum_i s_i (a_i . x - b_i)^2 + alpha |x|^2``. Where many x do, as for fewer rows
    than columns, the one of least norm is returned, as by :func:`numpy.linalg.lstsq`.

    Parameters
    ----------
    A : array-like or SciPy sparse of shape (n_samples, n_features)
        float32 and float64 are used as they are, in any memory order, without a copy.
    b : array-like of shape (n_samples,) or (n_samples, n_targets)
        All targets go through A together.
    alpha : float >= 0, default=0.0
        Ridge penalty, of the sum over rows: the `alpha` of :class:`sklearn.linear_model.Ridge`,
        and n_samples times that of :class:`LeastSquaresRegressor`.
    sample_weight : array-like of shape (n_samples,), optional
        Not negative and not all zero. Default: ones.
    solver : {"auto", "gram", "sketch", "cg", "qr"}, default="auto"
        "gram" and "sketch" descend in the metric of A^T A or of a random sketch of A, "cg" by
        conjugate gradients in the columns' own scales, or on sparse rows that are fewer than the
        columns, "qr" is LAPACK a block of rows at a time.
        "auto" takes the cheapest whose factor can be trusted; any other falls back on "qr".
    tol : float >= 0, optional
        End once the gradient, in the solver's metric, is this share of that at zero.
        Default: as far as rounding allows.
    return_info : bool, default=False
        Whether to return how the answer was found.
    backend : {"auto", "native", "numba", "reference", "cuda"}, optional

    Returns
    -------
    x : ndarray of shape (n_features,) or (n_features, n_targets), of A's dtype
    info : LstsqInfo
        With `return_info`: named tuple of ``solver_`` (what gave the answer), ``n_iter_`` (passes
        over A after the set-up), ``condition_`` (estimated, of the columns scaled to norm 1) and
        ``residual_norm_`` (square root of the weighted sum of squares; one per target).

    Raises
    ------
    ValueError
        If a shape, a dtype or a value is not allowed, NaN or infinity is found, or x overflows.
    ImportError
        If `backend` is not installed.

    Warns
    -----
    ConvergenceWarning
        scikit-learn's, if rounding or 10,000 passes end the descent short of `tol`.

    See Also
    --------
    LeastSquaresRegressor : With an intercept, L1 penalties, equalities and bounds, such as
        ``LeastSquaresRegressor(bounds=(0.0, 1.0), fit_intercept=False).fit(A, b).coef_``.

    Notes
    -----
    Sums are float64 whatever A's dtype. The sketch is seeded: the same call gives the same bits.
    For sparse A with more than 16,384 columns "cg" is the only solver; where columns depend on
    each other, its answer is of least norm in the units of the columns' norms.

    References
    ----------
    Epperly, Meier, Nakatsukasa (2024), "Fast randomized least-squares solvers can be just as
    accurate and stable as classical direct solvers", arXiv 2406.03468.

    Examples
    --------
    >>> import fastlsgd
    >>> A, b = [[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]], [3.0, 5.0, 7.0]
    >>> fastlsgd.lstsq(A, b).round(12).tolist()
    [1.0, 2.0]
    >>> x, info = fastlsgd.lstsq(A, b, solver="qr", return_info=True)
    >>> info.solver_
    'qr'
    """
    X = check.as_matrix(A, "A")
    y, s = check.as_targets_and_weights(X, b, sample_weight, "b")
    alpha = check.check_real(alpha, "alpha", 0.0)
    check.check_choice(solver, "solver", DIRECT_SOLVERS)
    tol = 0.0 if tol is None else check.check_real(tol, "tol", 0.0)
    return_info = check.check_flag(return_info, "return_info")
    check.check_same_place(X, b=y, sample_weight=s)
    kernels = resolve_backend(backend, X)
    request = Request(tol=tol, max_iter=MOST_PASSES, certify=False)
    x = None
    if not return_info and solver in ("auto", "gram"):
        x = small_weights(kernels, X, y, s, alpha, request.goal())
    if x is not None:
        return x[:, 0] if ndim(b) == 1 else x
    try:
        (found,) = solve_least_squares(
            TrainingData(kernels, X, y, s, resolve_threads()),
            [alpha],
            fit_intercept=False,
            solver=solver,
            request=request,
        )
    except np.linalg.LinAlgError as error:
        check.explain_non_finite(A=X, b=y)
        raise ValueError(f"A or b can't be solved in float64 ({error}): rescale them.") from error
    if not found.converged:
        _warn(found)
    one_target = ndim(b) == 1
    x = _answer(found.coef, X, y, s)
    x = x[:, 0] if one_target else x
    x = handed_back(np.ascontiguousarray(x), A) if lives_on_device(A) else x
    if not return_info:
        return x
    residual_norm = float(found.residual_norm[0]) if one_target else found.residual_norm
    return x, LstsqInfo(found.solver, found.n_iter, found.condition, residual_norm)


def lstsq_of_each(A: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return `lstsq` (..., d, t) of each A (..., n, d) and b (..., n, t) of one dtype.

    For frameworks. Small problems are solved in one call, and what that leaves one after the other.
    """
    x, solved = solve_small_batch(resolve_backend(None), A, b, resolve_threads())
    # Of x that leaves float32's range the general path says what is wrong.
    limits, sizes = np.finfo(A.dtype), np.abs(x[solved])
    lost = (sizes > limits.max) | ((sizes < limits.tiny) & (sizes > 0.0))
    solved[solved] = ~lost.any(axis=(-2, -1))
    with np.errstate(over="ignore", invalid="ignore"):
        x = x.astype(A.dtype, copy=False)
    for k in np.argwhere(~solved):
        x[*k] = lstsq(A[*k], b[*k])
    return x


def _warn(found: Solution) -> None:
    from sklearn.exceptions import ConvergenceWarning  # slow to import

    warnings.warn(
        f"solver {found.solver!r} ended with a relative gradient of "
        f"{found.relative_gradient:.2g} after {found.n_iter} passes over A. Raise tol, or alpha, "
        f"or scale the columns of A.",
        ConvergenceWarning,
        stacklevel=3,
    )


def _answer(coef: np.ndarray, X, y: np.ndarray, s) -> np.ndarray:
    """Weights (t, d) as x (d, t) with the dtype of A."""
    if weights_underflow(coef, X, y, s):
        raise ValueError(f"x underflows {working_dtype(X)}: rescale A or b, or give A as float64.")
    x = np.ascontiguousarray(coef.T)
    if working_dtype(X) != x.dtype:
        with np.errstate(over="ignore"):
            x = x.astype(working_dtype(X))
    if not np.isfinite(x).all():
        check.explain_non_finite(A=X, b=y)
        raise ValueError(f"x overflows {x.dtype}: rescale A or b.")
    return x
