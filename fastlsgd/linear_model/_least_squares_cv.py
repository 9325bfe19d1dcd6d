"""`LeastSquaresCV`: least squares whose penalty is chosen by cross-validation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from .. import _validation as check
from ..kernels import resolve_backend
from ..kernels.device import extremes, lives_on_device
from ..moments import Moments
from ..solvers.cross_validation import default_alphas, k_fold
from ..solvers.leave_one_out import leave_one_out
from ..solvers.moments import Sums
from ..solvers.moments_regression import all_but_one, mean_squared_errors, unit_of_errors
from ..solvers.refits import Task
from ..solvers.serial_blas import serial_blas
from ..solvers.target_scale import target_exponents
from ._base import all_or_nothing, overflow_explained
from ._constraints import check_alphas
from ._folds import RoutedSplitter, folds_of
from ._from_moments import check_moments
from ._least_squares import LeastSquaresRegressor

# The share of an error that may be rounding without a warning: of sums, whose estimate for "gram"
# is seldom reached to a tenth, and of predictions whose terms cancel, as they may in any fit.
MOST_ROUNDING = {"gram": 1e-7, "qr": 1e-3}
MOST_OF_PREDICTIONS = 1e-7


class LeastSquaresCV(RoutedSplitter, LeastSquaresRegressor):
    """Least squares with `alpha` chosen by cross-validation, at the cost of about one fit.

    One Gram matrix serves all penalties; leave-one-out errors are exact, from one pass more, and
    folds are fitted from sums. Where rounding would show in that (nearly dependent columns, rows
    of very large weight or leverage), folds or rows are fitted by themselves, which takes longer.

    Parameters
    ----------
    alphas : list of float >= 0 or None, default=None
        Penalties to try, strong ones first. None: a hundred, by the scale of the data.
    l1_ratio : float in [0, 1], default=0.0
        Share of L1 in the penalty: 0 is ridge, 1 the lasso.
    positive : bool, default=False
        Whether weights may not be negative.
    bounds, constraints, penalty_factor
        As in :class:`LeastSquaresRegressor`, in all folds.
    fit_intercept : bool, default=True
        Whether to fit an intercept.
    cv : int, splitter, iterable or None, default=None
        None: leave-one-out for ridge, 5 folds with L1, `positive`, `bounds`, `constraints` or
        `penalty_factor`. Else as in
        :func:`sklearn.model_selection.check_cv`. An iterable has pairs of rows to fit and rows to
        judge, as row numbers (which may come more than once), masks or slices.
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
    Errors are those of fits without the rows, by :class:`LeastSquaresRegressor` with the same
    `alpha`. With sample weights, each row's squared error counts by its weight, in leave-one-out
    and in folds alike. The Gram matrix must fit in memory: sparse X of very many columns is not
    for it.
    Errors are those of such fits to 1e-8, unless they are as small as the rounding of the
    predictions, or the columns so ill-conditioned that a fit itself has fewer digits. Where a lasso
    has several minimisers (fewer rows than columns, of whole numbers or with repeats), their
    objectives agree, but their errors on other rows may not.
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
        alphas: ArrayLike | None = None,
        l1_ratio: float = 0.0,
        positive: bool = False,
        bounds: Any = None,
        constraints: Any = None,
        penalty_factor: ArrayLike | None = None,
        fit_intercept: bool = True,
        cv: Any = None,
        solver: str = "auto",
        tol: float = 1e-10,
        max_iter: int = 1000,
        backend: str | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.alphas = alphas
        self.l1_ratio = l1_ratio
        self.positive = positive
        self.bounds = bounds
        self.constraints = constraints
        self.penalty_factor = penalty_factor
        self.fit_intercept = fit_intercept
        self.cv = cv
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.backend = backend
        self.n_jobs = n_jobs

    def fit(self, X, y, sample_weight=None, *, groups=None, **params) -> Self:
        """Find `alpha_`, and fit with it.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            float32 and float64 are used as they are, in any memory order, without a copy.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
        sample_weight : array-like of shape (n_samples,), optional
            Not negative, not all zero. Default: ones.
        groups : array-like of shape (n_samples,), optional
            For a splitter that keeps groups of rows together.
        **params : dict
            Metadata for the splitter, where scikit-learn's `enable_metadata_routing` is set.

        Returns
        -------
        self : LeastSquaresCV

        Raises
        ------
        ValueError
            If a parameter, the data or a fold are not allowed.
        ImportError
            If `backend` is not installed.
        """
        with all_or_nothing(self), serial_blas():
            return self._choose_and_fit(X, y, sample_weight, self._split_params(groups, params))

    def _choose_and_fit(self, X, y, sample_weight, split_params):
        alphas = None if self.alphas is None else check_alphas(self.alphas, "alphas")
        self._check_other_parameters(alphas is None or any(alphas))
        given = X, y
        X, targets, s, one_target = self._validate(X, y, sample_weight, reset=True)
        kernels = resolve_backend(self.backend, X)
        n_threads = self._n_threads(X, targets.shape[1])
        x_mean = self._refuse_non_finite(kernels, X)
        # The errors and the last fit share what they need of X.
        problem = replace(self._problem(X, targets, s, x_mean), row_grams={})
        # Squares of y may overflow or vanish; those of errors in units near 1 do not.
        exponent = int(target_exponents(targets, s).max())
        normalised, _ = problem.in_unit(exponent).normalised()
        with overflow_explained(X, targets):
            if alphas is None:
                alphas = default_alphas(kernels, normalised, n_threads).tolist()
            task = Task(kernels, normalised, float(self.tol), int(self.max_iter), n_threads)
            if self.cv is None and problem.is_smooth(alphas):
                errors = leave_one_out(task, alphas)
            else:
                cv = 5 if self.cv is None else self.cv
                errors = k_fold(task, alphas, folds_of(cv, *given, X, split_params))
        means = errors if errors.ndim == 1 else errors.mean(axis=1)
        _refuse_out_of_range(means, normalised.y)
        self._choose(alphas, errors, exponent)
        return self._solve(kernels, problem, [self.alpha_], None, one_target)

    def fit_moments(self, moments: Sequence[Moments]) -> Self:  # type: ignore[override]
        """Find `alpha_` by cross-validation over parts of the rows, and fit with it to all.

        Each part is a fold: it is judged by the fit to all others. `cv` is not used.

        Parameters
        ----------
        moments : list of Moments
            Two or more, each of the rows of a fold.

        Returns
        -------
        self : LeastSquaresCV

        Raises
        ------
        ValueError
            If a parameter is not allowed, the moments are of other columns or are empty, or, with
            ``factor="gram"``, a fit would consist of rounding: see
            :meth:`LeastSquaresRegressor.fit_moments`.

        Notes
        -----
        Leave-one-out errors need the rows themselves: `fit` has them. A UserWarning says so where
        the errors are so small that their rounding shows.

        Examples
        --------
        >>> import numpy as np
        >>> from fastlsgd import LeastSquaresCV, Moments
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(60, 3))
        >>> y = X @ [1.0, 2.0, 0.0] + rng.normal(size=60)
        >>> folds = [Moments.from_data(X[k::3], y[k::3]) for k in range(3)]
        >>> model = LeastSquaresCV(alphas=[10.0, 0.1, 0.001]).fit_moments(folds)
        >>> model.alpha_, model.mse_path_.shape
        (0.001, (3, 3))
        """
        with all_or_nothing(self), serial_blas():
            alphas = None if self.alphas is None else check_alphas(self.alphas, "alphas")
            self._check_other_parameters(alphas is None or any(alphas))
            whole = _whole(moments)
            self._take_columns(whole)
            kernels = resolve_backend(self.backend)
            if alphas is None:
                rows = self._rows_of(whole.required_sums())
                with overflow_explained(rows.problem.X, rows.problem.y):
                    alphas = rows.alphas(kernels)
            errors = np.empty((len(alphas), len(moments)))
            parts = [part.required_sums() for part in moments]
            unit = unit_of_errors(whole.required_sums())
            for k, (part, rest) in enumerate(zip(parts, all_but_one(parts), strict=True)):
                errors[:, k] = self._errors_of_fold(kernels, part, rest, alphas, unit)
            self._choose(alphas, errors, unit)
            return self._solve_moments(whole, [self.alpha_], None)

    def _n_folds_of_streams(self) -> int:
        cv = 5 if self.cv is None else self.cv
        if not check.is_whole(cv):
            raise ValueError(f"cv must be a number of folds for fit_stream, got {cv!r}.")
        return check.check_whole(cv, "cv", 2)

    def _errors_of_fold(self, kernels, judged: Sums, fitted: Sums, alphas, unit: int) -> np.ndarray:
        """The mean squared errors of y times 2^-unit on a fold of fits to the rest, per alpha."""
        solutions = self._fit_rows(kernels, self._rows_of(fitted), alphas, None)
        coefs = np.array([found.coef for found in solutions])
        intercepts = np.array([found.intercept for found in solutions])
        errors, of_sums, of_predictions = mean_squared_errors(judged, coefs, intercepts, unit)
        is_lost = (of_sums > MOST_ROUNDING[judged.factor] * errors).any()
        if is_lost or (of_predictions > MOST_OF_PREDICTIONS * errors).any():
            least = "predictions themselves are rounded"
            if is_lost and judged.factor == "gram":
                least = (
                    "they are told apart only down to about 1e-14 of the squares of y. "
                    "Moments(factor='qr') tell more"
                )
            warnings.warn(
                f"The errors of rows left out are so small that their rounding shows: {least}.",
                UserWarning,
                stacklevel=4,
            )
        return np.maximum(errors, 0.0)

    def _choose(self, alphas: list[float], errors: np.ndarray, y_exponent: int = 0) -> None:
        """Set `alpha_` to that of least mean error, by errors of y times 2^-y_exponent."""
        means = errors if errors.ndim == 1 else errors.mean(axis=1)
        best = int(np.argmin(means))
        if y_exponent:
            with np.errstate(over="ignore"):
                errors, means = (np.ldexp(part, 2 * y_exponent) for part in (errors, means))
        self.alphas_, self.mse_path_ = np.array(alphas), errors
        self.alpha_, self.best_score_ = float(alphas[best]), -float(means[best])

    def _is_path(self) -> bool:
        return False


def _whole(moments: Sequence[Moments]) -> Moments:
    """The sum of the folds, after a check that they are two or more."""
    if isinstance(moments, Moments):
        raise ValueError(
            "Cross-validation needs the moments of two folds or more, got those of all rows: "
            "leave-one-out errors can't be found from them."
        )
    if not isinstance(moments, (list, tuple)) or len(moments) < 2:
        raise ValueError(f"moments must be a list of two or more, got {check.shown(moments)}.")
    for k, part in enumerate(moments):
        check_moments(part, f"moments[{k}]")
    whole = moments[0]
    for part in moments[1:]:
        whole = whole + part
    return whole


def _refuse_out_of_range(errors: np.ndarray, targets) -> None:
    """Refuse y whose squares a double cannot hold, since they cannot rank penalties."""
    if not np.isfinite(errors).all():
        raise ValueError("The errors of rows left out are not finite: rescale X or y.")
    if errors.max() < 1e-280:
        low, high = (
            extremes(targets) if lives_on_device(targets) else (targets.min(), targets.max())
        )
        if 0.0 < max(abs(float(low)), abs(float(high))) < 1e-140:
            raise ValueError("The squared errors of rows left out underflow: rescale y.")
