"""Full-batch least squares behind scikit-learn's contract: parameters and fitted attributes."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from .. import _validation as check
from ..kernels import resolve_backend
from ..solvers.full_batch import fit_full_batch
from ._base import (
    LinearRegressor,
    all_or_nothing,
    backend_name,
    cast_coef,
    check_flag,
    overflow_explained,
)


class LeastSquaresRegressor(LinearRegressor):
    """Linear least squares by full-batch descent, to a tolerance that is checked.

    Minimises, over rows of weights s_i that sum to S::

        1/(2 S) sum_i s_i (x_i . coef + intercept - y_i)^2
            + alpha (l1_ratio |coef|_1 + (1 - l1_ratio)/2 |coef|_2^2)

    One pass over X takes its moments, which give coordinates in which the problem is round;
    each iteration after that is one pass too, and a few of them reach rounding, whatever the
    units, offsets and correlations of the columns. Columns need not be scaled.

    Parameters
    ----------
    alpha : float >= 0, default=0.0
        Strength of the penalty. The intercept is never penalised.
    l1_ratio : float in [0, 1], default=0.0
        Share of L1 in the penalty: 0 is ridge, 1 the lasso.
    fit_intercept : bool, default=True
        Whether to fit an intercept.
    tol : float >= 0, default=1e-10
        The fit ends when the norm of the gradient, relative to that at zero weights, is at
        most this.
    max_iter : int >= 1, default=1000
        Most iterations.
    warm_start : bool, default=False
        Whether `fit` begins from the weights of the fit before.
    backend : {"auto", "native", "numba", "reference", "cuda"} or None, default=None
        Kernels to use. None: as set by :func:`fastlsgd.set_config`.
    n_jobs : int or None, default=None
        Most threads of a kernel; -1 for all processors. None: as set by
        :func:`fastlsgd.set_config`.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
        Weights, of X's dtype.
    intercept_ : float or ndarray of shape (n_targets,)
        Intercept.
    n_iter_ : int
        Iterations.
    loss_curve_ : list of float
        The objective, penalty included, before each iteration.
    relative_gradient_ : float
        What the norm of the gradient came down to, in units of `tol`.
    backend_ : str
        Name of the backend that did the work.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where X has names that are all strings.

    See Also
    --------
    SGDRegressor : Stochastic descent, for a few passes over more data.

    Notes
    -----
    With ``alpha = a / n`` the ridge solution is that of :class:`sklearn.linear_model.Ridge`
    with ``alpha=a``, since the loss here is a mean. Where columns depend on each other and
    nothing is penalised, many weights give the same predictions; one of them is returned.

    An interrupted or failed fit leaves the estimator as it was.

    Examples
    --------
    >>> from fastlsgd import LeastSquaresRegressor
    >>> X, y = [[0.0, 1.0], [1.0, 1000.0], [2.0, 3000.0], [5.0, 0.0]], [1.0, 3.0, 5.0, 11.0]
    >>> model = LeastSquaresRegressor().fit(X, y)
    >>> abs(model.coef_.round(6)).tolist(), round(model.intercept_, 6)
    ([2.0, 0.0], 1.0)
    """

    def __init__(
        self,
        *,
        alpha=0.0,
        l1_ratio=0.0,
        fit_intercept=True,
        tol=1e-10,
        max_iter=1000,
        warm_start=False,
        backend=None,
        n_jobs=None,
    ):
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter
        self.warm_start = warm_start
        self.backend = backend
        self.n_jobs = n_jobs

    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            float32 and float64 are used as they are, in any memory order, without a copy.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
        sample_weight : array-like of shape (n_samples,), optional
            Not negative, not all zero. Default: ones.

        Returns
        -------
        self : LeastSquaresRegressor

        Raises
        ------
        ValueError
            If a parameter or the data are not allowed.
        ImportError
            If `backend` is not installed.
        """
        with all_or_nothing(self):
            return self._fit(X, y, sample_weight)

    def _fit(self, X, y, sample_weight):
        self._check_parameters()
        kernels, n_threads = resolve_backend(self.backend, X), self._n_threads()
        warm = self.warm_start and hasattr(self, "coef_")
        X, y, s, one_target = self._validate(X, y, sample_weight, reset=not warm)
        coef = intercept = None
        if warm:
            coef, intercept = check.as_coefficients(self.coef_, self.intercept_, X.shape[1])
            if len(coef) != y.shape[1]:
                raise ValueError(
                    f"y has {y.shape[1]} targets, but the weights so far are for {len(coef)}."
                )
        with overflow_explained(X, y):
            result = fit_full_batch(
                kernels,
                X,
                y,
                coef,
                intercept,
                sample_weight=s,
                alpha=float(self.alpha),
                l1_ratio=float(self.l1_ratio),
                fit_intercept=bool(self.fit_intercept),
                tol=float(self.tol),
                max_iter=int(self.max_iter),
                n_threads=n_threads,
            )
            if not (np.isfinite(result.coef).all() and np.isfinite(result.intercept).all()):
                raise np.linalg.LinAlgError("weights that are not finite")
        coef = cast_coef(result.coef, X.dtype)
        self.coef_ = coef[0] if one_target else coef
        self.intercept_ = float(result.intercept[0]) if one_target else result.intercept
        self.n_iter_ = result.n_iter
        self.loss_curve_ = result.loss_curve
        self.relative_gradient_ = result.relative_gradient
        self.backend_ = backend_name(kernels)
        self._take_to(X)
        if not result.converged:
            warnings.warn(
                f"The relative gradient is {result.relative_gradient:.2g} after {result.n_iter} "
                f"iterations, not tol={self.tol:g}. Raise max_iter, or tol.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self

    def _check_parameters(self) -> None:
        check.check_real(self.alpha, "alpha", 0.0)
        check.check_real(self.l1_ratio, "l1_ratio", 0.0, 1.0)
        check.check_real(self.tol, "tol", 0.0)
        check.check_whole(self.max_iter, "max_iter", 1)
        for name in ("fit_intercept", "warm_start"):
            check_flag(getattr(self, name), name)
