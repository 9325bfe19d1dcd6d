"""`LeastSquaresRegressor`: least squares to rounding, with any penalty of the solvers."""

from __future__ import annotations

import warnings
from functools import partial
from numbers import Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.exceptions import ConvergenceWarning

from .. import _validation as check
from ..kernels import resolve_backend
from ..kernels.contract import working_dtype
from ..kernels.device import lives_on_device, placed_beside
from ..solvers.inference import gather_evidence
from ..solvers.problem import Problem
from ..solvers.regression import (
    CONSTRAINED_SOLVERS,
    NONSMOOTH_SOLVERS,
    SOLVERS,
    fit_regression,
)
from ..solvers.serial_blas import serial_blas
from ..solvers.solution import MostRows, Solution
from ._base import (
    all_or_nothing,
    backend_name,
    cast_coef,
    overflow_explained,
    refuse_underflow,
)
from ._constraints import alphas_of, check_shapes, constraints_for, equalities_of, is_trivial
from ._from_streams import FromStreams
from ._inference import InferringRegressor


class LeastSquaresRegressor(FromStreams, InferringRegressor):
    """Linear least squares to rounding, with penalties, bounds and linear equalities.

    Minimises, over rows of weights s_i that sum to S::

        1/(2 S) sum_i s_i (x_i . coef + intercept - y_i)^2
            + alpha sum_j f_j (l1_ratio |coef_j| + (1 - l1_ratio)/2 coef_j^2)

    within the bounds and where ``A coef = b``, if these are given. f_j is 1 or `penalty_factor`.
    Ordinary least squares by default; ridge, lasso, elastic net, non-negative least squares,
    bounded least squares and synthetic controls by parameters. Columns need not be scaled.
    Convergence is measured, not assumed.

    Parameters
    ----------
    alpha : float >= 0, list of such, or array of shape (n_alphas, n_targets), default=0.0
        Strength of the penalty; the intercept is never penalised. A list is a path: each fit
        starts from the one before, so that strong penalties should come first. An array of two
        dimensions has a penalty for each target in a row; several rows are a path.
    l1_ratio : float in [0, 1], default=0.0
        Share of L1 in the penalty: 0 is ridge, 1 the lasso.
    positive : bool, default=False
        Whether weights may not be negative. The intercept may.
    bounds : pair (lower, upper) of float or array-like of shape (n_features,), optional
        Bounds of the weights, of all targets alike; infinite where there is none. A feature whose
        bounds are equal is fixed. The intercept is free.
    constraints : pair (A, b), optional
        Linear equalities ``A @ coef = b``, A of shape (n_constraints, n_features) and b of shape
        (n_constraints,), of all targets alike. Rows that follow from others are accepted.
    penalty_factor : array-like of shape (n_features,), optional
        Factor >= 0 of each feature's penalty; 0: not penalised. Used as given, as in glum; glmnet
        first multiplies it by ``n_features / penalty_factor.sum()``. Default: ones.
    fit_intercept : bool, default=True
        Whether to fit an intercept.
    solver : {"auto", "gram", "sketch", "cg", "qr", "nesterov"}, default="auto"
        As in :func:`lstsq`, and "nesterov": accelerated proximal descent. With L1 or `positive`
        "gram" (proximal Newton steps) or "nesterov"; "auto" picks. With `bounds`, `constraints`,
        `penalty_factor` or `alpha` per target "auto", "gram" or "qr".
    tol : float >= 0, default=1e-10
        The fit ends when the gradient, relative to that at zero weights and to the residuals, is
        at most this, or as small as rounding allows. Under L1 it is what optimality lacks.
    max_iter : int >= 1, default=1000
        Most passes over X after the set-up.
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
        Weights, of X's dtype; of a path, those of its last `alpha`.
    intercept_ : float or ndarray of shape (n_targets,)
        Intercept.
    coef_path_, intercept_path_ : ndarrays of shape (n_alphas, ...)
        Weights and intercepts for each `alpha`, if it is a list.
    dual_gap_ : float, or ndarray of shape (n_alphas,)
        How far the objective is from the optimum at most, summed over targets: with L1, and with
        bounds or penalties of all weights. Not set where no finite bound is known.
    relative_gradient_ : float, or ndarray of shape (n_alphas,)
        What the gradient came down to, in units of `tol`; with constraints, the largest violation
        of the optimality conditions.
    constraint_residual_ : float
        With `constraints`, the largest ``|A @ coef - b|``.
    constraint_multipliers_ : ndarray of shape (n_constraints,) or (n_targets, n_constraints)
        With `constraints`: by how much the least objective grows per unit of each number of b.
    solver_ : str
        Which solver gave the answer; "dual" is that of fewer rows than columns.
    n_iter_ : int
        Passes over X after the set-up; of a path with L1, guesses of the active set.
    condition_ : float
        Estimated condition number of the scaled, centred columns, of fewer rows than columns that
        of the rows; a bound of it for some elastic nets, and NaN where not known.
    residual_norm_ : float or ndarray of shape (n_targets,)
        Square root of the weighted sum of squared residuals.
    loss_curve_ : list of float
        The objective, penalty included, before each iteration; of a path with L1 or `positive`,
        at the end of each fit.
    backend_ : str
        Name of the backend that did the work.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns, where X has names that are all strings.

    See Also
    --------
    lstsq : The same without penalties on L1 and intercept, as a function.
    LeastSquaresCV : With `alpha` chosen by cross-validation.
    SGDRegressor : Stochastic descent, for a few passes over more data.

    Notes
    -----
    With ``alpha = a / n`` the ridge solution is that of :class:`sklearn.linear_model.Ridge`
    with ``alpha=a``, since the loss here is a mean. Where columns depend on each other and nothing
    is penalised or restricted, the weights of least norm are returned.

    Constraints that contradict each other are refused before the fit, by name. Those on weights in
    X's dtype hold to its rounding. Where columns depend on each other, several weights may be
    optimal, of which one is returned: that of least norm, if `bounds` are all that is asked and it
    is within them; with `positive`, L1 penalties or `constraints` any of them. A fit whose
    certificates are not met warns. `summary` is for weights without constraints, whose standard
    errors are not those of a bounded fit.

    An interrupted or failed fit leaves the estimator as it was.

    `partial_fit` and `fit_moments` fit the model to rows that are not all in memory, by their
    :class:`fastlsgd.Moments`; there `n_iter_` and `solver_` tell how the moments were solved.

    Examples
    --------
    >>> from fastlsgd import LeastSquaresRegressor
    >>> X, y = [[0.0, 1.0], [1.0, 1000.0], [2.0, 3000.0], [5.0, 0.0]], [1.0, 3.0, 5.0, 11.0]
    >>> model = LeastSquaresRegressor().fit(X, y)
    >>> abs(model.coef_.round(6)).tolist(), round(model.intercept_, 6)
    ([2.0, 0.0], 1.0)

    A path of lasso fits:

    >>> path = LeastSquaresRegressor(alpha=[10.0, 1.0], l1_ratio=1.0).fit(X, y)
    >>> path.coef_path_.shape
    (2, 2)

    Shares that are not negative and sum to one:

    >>> shares = LeastSquaresRegressor(bounds=(0.0, 1.0), constraints=([[1.0, 1.0]], [1.0]))
    >>> shares = shares.set_params(fit_intercept=False)
    >>> shares.fit([[1.0, 3.0], [2.0, 2.0], [4.0, 1.0]], [2.5, 2.0, 1.8]).coef_.round(3).tolist()
    [0.262, 0.738]
    """

    def __init__(
        self,
        *,
        alpha: float | ArrayLike = 0.0,
        l1_ratio: float = 0.0,
        positive: bool = False,
        bounds: Any = None,
        constraints: Any = None,
        penalty_factor: ArrayLike | None = None,
        fit_intercept: bool = True,
        solver: str = "auto",
        tol: float = 1e-10,
        max_iter: int = 1000,
        warm_start: bool = False,
        backend: str | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.positive = positive
        self.bounds = bounds
        self.constraints = constraints
        self.penalty_factor = penalty_factor
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.warm_start = warm_start
        self.backend = backend
        self.n_jobs = n_jobs

    def fit(self, X, y, sample_weight=None) -> Self:
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
        with all_or_nothing(self), serial_blas():
            return self._fit(X, y, sample_weight)

    def _fit(self, X, y, sample_weight):
        alphas = self._check_parameters()
        warm = self._is_warm()
        self.__dict__.pop("_moments", None)
        X, y, s, one_target = self._validate(X, y, sample_weight, reset=not warm)
        kernels = resolve_backend(self.backend, X)
        # Of few numbers, L1 penalties and signs are solved for by a call that looks at X itself.
        waits = float(self.l1_ratio) > 0.0 or self.positive
        look = partial(self._refuse_non_finite, kernels, X)
        start = self._start(X.shape[1], y.shape[1]) if warm else None
        problem = self._problem(X, y, s, None if waits else look(), look if waits else None)
        return self._solve(kernels, problem, alphas, start, one_target)

    def _problem(self, X, y, s, x_mean: np.ndarray | None = None, look=None) -> Problem:
        names = getattr(self, "feature_names_in_", None)
        n_targets = y.shape[1] if y.ndim == 2 else 1
        constraints, factor = constraints_for(self, X.shape[1], n_targets, names)
        return Problem(
            X,
            placed_beside(y, X),  # once: kernels would copy them from the host in each pass
            placed_beside(s, X),
            float(self.l1_ratio),
            bool(self.positive),
            bool(self.fit_intercept),
            constraints=constraints,
            penalty_factor=factor,
            x_mean=x_mean,
            look=look,
        )

    def _start(self, d: int, n_targets: int):
        coef, _ = check.as_coefficients(self.coef_, self.intercept_, d)
        if len(coef) != n_targets:
            raise ValueError(
                f"y has {n_targets} targets, but the weights so far are for {len(coef)}: "
                f"set warm_start=False."
            )
        return coef

    def _solve(self, kernels, problem: Problem, alphas: list[float], start, one_target: bool):
        n_threads = self._n_threads(problem.X, problem.y.shape[1])
        with overflow_explained(problem.X, problem.y):
            solutions = fit_regression(
                kernels,
                problem,
                alphas,
                start,
                solver=self.solver,
                tol=float(self.tol),
                max_iter=int(self.max_iter),
                n_threads=n_threads,
            )
            for found in solutions:
                if not (np.isfinite(found.coef).all() and np.isfinite(found.intercept).all()):
                    raise np.linalg.LinAlgError("weights that are not finite")
        return self._adopt(kernels, problem, alphas, solutions, one_target)

    def _adopt(self, kernels, problem: Problem, alphas, solutions: list[Solution], one_target):
        """Set the fitted attributes, and warn where a fit has not converged."""
        n_threads = self._n_threads(problem.X, problem.y.shape[1])
        refuse_underflow(solutions[-1].coef, problem.X, problem.y, problem.sample_weight)
        dtype, most_rows = working_dtype(problem.X), None
        is_rounded = self.fit_intercept and dtype != np.float64
        if is_rounded and not lives_on_device(problem.X):
            most_rows = MostRows(problem.X, problem.sample_weight)
        self._set_weights(solutions, dtype, most_rows, one_target)
        self._set_certificates(solutions)
        self.backend_ = backend_name(kernels)
        self._evidence, self._evidence_advice = None, "Fit with solver='qr'"
        if problem.is_smooth(alphas) and not any(alphas):
            with np.errstate(over="ignore", invalid="ignore"):
                self._evidence = gather_evidence(kernels, problem, solutions[-1], n_threads)
        self._take_to(problem.X)
        self._warn_where_not_converged(solutions)
        return self

    def _set_weights(
        self, solutions: list[Solution], dtype, most_rows: MostRows | None, one_target: bool
    ) -> None:
        coefs = [cast_coef(found.coef, dtype) for found in solutions]
        intercepts = [
            found.intercept_with(coef, most_rows) if self.fit_intercept else found.intercept
            for found, coef in zip(solutions, coefs, strict=True)
        ]
        last = solutions[-1]
        self.coef_ = coefs[-1][0] if one_target else coefs[-1]
        self.intercept_ = float(intercepts[-1][0]) if one_target else intercepts[-1]
        self.residual_norm_ = float(last.residual_norm[0]) if one_target else last.residual_norm
        if self._is_path():
            coef_path, intercept_path = np.array(coefs), np.array(intercepts)
            self.coef_path_ = coef_path[:, 0] if one_target else coef_path
            self.intercept_path_ = intercept_path[:, 0] if one_target else intercept_path
        else:
            self.__dict__.pop("coef_path_", None)
            self.__dict__.pop("intercept_path_", None)

    def _set_certificates(self, solutions: list[Solution]) -> None:
        last = solutions[-1]
        self.solver_, self.condition_ = last.solver, float(last.condition)
        self.n_iter_ = sum(found.n_iter for found in solutions)
        self.loss_curve_ = [loss for found in solutions for loss in found.losses]
        gradients = [found.relative_gradient for found in solutions]
        self.relative_gradient_ = np.array(gradients) if self._is_path() else gradients[0]
        self.__dict__.pop("dual_gap_", None)
        if all(found.dual_gap is not None for found in solutions):
            gaps = [found.dual_gap for found in solutions]
            self.dual_gap_ = np.array(gaps) if self._is_path() else gaps[0]
        self.__dict__.pop("constraint_residual_", None)
        self.__dict__.pop("constraint_multipliers_", None)
        if self.constraints is not None and last.multipliers is not None:
            A, b = equalities_of(self.constraints)
            self.constraint_residual_ = float(np.abs(last.coef @ A.T - b).max(initial=0.0))
            one_target = self._has_one_target()
            self.constraint_multipliers_ = last.multipliers[0] if one_target else last.multipliers

    def _warn_where_not_converged(self, solutions: list[Solution]) -> None:
        late = [found for found in solutions if not found.converged]
        if late:
            worst = max(late, key=lambda found: found.relative_gradient)
            warnings.warn(
                f"The relative gradient is {worst.relative_gradient:.2g} after {worst.n_iter} "
                f"iterations, not tol={self.tol:g}. {worst.why_not or self._why_not(worst)}",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _why_not(self, found: Solution) -> str:
        """Why a fit has not converged, and what helps."""
        if found.n_iter >= self.max_iter:
            return f"max_iter={self.max_iter} ended the fit: raise it, or tol."
        return (
            f"Rounding ended the fit, and more iterations would change nothing: the condition of "
            f"the scaled columns is {found.condition:.2g}."
        )

    def _is_path(self) -> bool:
        if isinstance(self.alpha, Real):
            return False
        return np.ndim(self.alpha) != 2 or np.shape(self.alpha)[0] > 1

    def _check_parameters(self) -> list[Any]:
        """The values of `alpha` as a list, after the checks of all parameters."""
        alphas = alphas_of(self.alpha)
        self._check_other_parameters(bool(np.any(alphas)))
        return alphas

    def _check_other_parameters(self, has_penalty: bool) -> None:
        check.check_real(self.l1_ratio, "l1_ratio", 0.0, 1.0)
        check.check_real(self.tol, "tol", 0.0)
        check.check_whole(self.max_iter, "max_iter", 1)
        for name in ("positive", "fit_intercept"):
            check.check_flag(getattr(self, name), name)
        if hasattr(self, "warm_start"):
            check.check_flag(self.warm_start, "warm_start")
        check.check_choice(self.solver, "solver", SOLVERS)
        check_shapes(self)
        if not is_trivial(self):
            if self.solver not in CONSTRAINED_SOLVERS:
                raise ValueError(
                    f"solver={self.solver!r} can't fit with bounds, constraints, penalty_factor or "
                    f"alpha per target: use one of {', '.join(map(repr, CONSTRAINED_SOLVERS))}."
                )
            return
        smooth = not self.positive and not (self.l1_ratio > 0.0 and has_penalty)
        if not smooth and self.solver not in NONSMOOTH_SOLVERS:
            raise ValueError(
                f"solver={self.solver!r} can't fit an L1 penalty or positive=True: use one of "
                f"{', '.join(map(repr, NONSMOOTH_SOLVERS))}."
            )
