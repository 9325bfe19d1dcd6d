"""Least squares whose penalty is chosen by cross-validation, behind scikit-learn's contract."""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import check_cv

from ..kernels import resolve_backend
from ..solvers.cross_validation import default_alphas, k_fold, leave_one_out
from ._base import overflow_explained
from ._least_squares import LeastSquaresRegressor, check_alphas


class LeastSquaresCV(LeastSquaresRegressor):
    """Least squares with `alpha` chosen by cross-validation, at the cost of about one fit.

    One Gram matrix serves all penalties; leave-one-out errors are exact, from one pass more, and
    folds are fitted from sums, never from their rows again.

    Parameters
    ----------
    alphas : list of float >= 0 or None, default=None
        Penalties to try, strong ones first. None: a hundred, by the scale of the data.
    l1_ratio : float in [0, 1], default=0.0
        Share of L1 in the penalty: 0 is ridge, 1 the lasso.
    positive : bool, default=False
        Whether weights may not be negative.
    fit_intercept : bool, default=True
        Whether to fit an intercept.
    cv : int, splitter, iterable or None, default=None
        None: leave-one-out for ridge, 5 folds with L1 or `positive`. Else as in
        :func:`sklearn.model_selection.check_cv`.
    solver, tol, max_iter, backend, n_jobs
        As in :class:`LeastSquaresRegressor`.

    Attributes
    ----------
    alpha_ : float
        The penalty of least mean squared error.
    alphas_ : ndarray of shape (n_alphas,)
        Those that were tried.
    mse_path_ : ndarray of shape (n_alphas,) or (n_alphas, n_folds)
        Mean squared errors of rows left out, mean over targets.
    best_score_ : float
        Minus the least mean squared error.
    coef_, intercept_, ...
        Of the fit to all rows with `alpha_`, as in :class:`LeastSquaresRegressor`.

    See Also
    --------
    LeastSquaresRegressor : With a penalty of one's own.

    Notes
    -----
    With sample weights, each row's squared error counts by its weight, in leave-one-out and in
    folds alike. The Gram matrix must fit in memory: sparse X of very many columns is not for it.
    If X is on a GPU, leave-one-out has its rows come to the host, a chunk at a time; with folds
    they stay there.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlsgd import LeastSquaresCV
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(50, 3))
    >>> y = X @ [1.0, 2.0, 0.0] + rng.normal(size=50)
    >>> model = LeastSquaresCV(alphas=[10.0, 0.1, 0.001]).fit(X, y)
    >>> model.alpha_, model.mse_path_.shape
    (0.001, (3,))
    """

    def __init__(
        self,
        *,
        alphas=None,
        l1_ratio=0.0,
        positive=False,
        fit_intercept=True,
        cv=None,
        solver="auto",
        tol=1e-10,
        max_iter=1000,
        backend=None,
        n_jobs=None,
    ):
        self.alphas = alphas
        self.l1_ratio = l1_ratio
        self.positive = positive
        self.fit_intercept = fit_intercept
        self.cv = cv
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.backend = backend
        self.n_jobs = n_jobs

    def _fit(self, X, y, sample_weight):
        alphas = None if self.alphas is None else check_alphas(self.alphas, "alphas")
        self._check_other_parameters(alphas is None or any(alphas))
        X, targets, s, one_target = self._validate(X, y, sample_weight, reset=True)
        problem = self._problem(X, targets, s)
        kernels, n_threads = resolve_backend(self.backend, X), self._n_threads()
        with overflow_explained(X, targets):
            if alphas is None:
                alphas = default_alphas(kernels, problem, n_threads).tolist()
            if self.cv is None and problem.is_smooth(alphas):
                errors = leave_one_out(kernels, problem, alphas, n_threads)
            else:
                folds = check_cv(5 if self.cv is None else self.cv).split(
                    np.empty((len(targets), 1))
                )
                errors = k_fold(
                    kernels, problem, alphas, folds, tol=float(self.tol), n_threads=n_threads
                )
        means = errors if errors.ndim == 1 else errors.mean(axis=1)
        if not np.isfinite(means).all():
            raise ValueError("The errors of rows left out are not finite: rescale X or y.")
        best = int(np.argmin(means))
        self.alphas_, self.mse_path_ = np.array(alphas), errors
        self.alpha_, self.best_score_ = float(alphas[best]), -float(means[best])
        return self._solve(problem, [self.alpha_], (None, None), one_target)

    def _is_path(self) -> bool:
        return False
