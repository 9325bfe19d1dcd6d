"""Least squares fitted to `Moments` in place of rows, and `partial_fit`, which collects them."""

from __future__ import annotations

import warnings
from typing import Self

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.metaestimators import available_if

from ..kernels import resolve_backend
from ..kernels.contract import Kernels
from ..moments import Moments
from ..solvers.factors import EPS, GRAM_CONDITION
from ..solvers.moments import Sums
from ..solvers.moments_regression import (
    Options,
    SurrogateRows,
    evidence_from,
    fit_rows,
    has_one_direction,
)
from ..solvers.serial_blas import serial_blas
from ..solvers.solution import Solution
from ._base import LinearRegressor, all_or_nothing, backend_name, overflow_explained
from ._constraints import constraints_for

# Relative errors that sums may cause in weights of float64 without a warning.
QUIET_ERROR = 2e-9


def _has_partial_fit(estimator) -> bool:
    return not hasattr(estimator, "cv")


class FromMoments(LinearRegressor):
    """`fit_moments` and `partial_fit` of least-squares estimators."""

    _moments: Moments  # of the rows that `partial_fit` has seen

    def fit_moments(self, moments: Moments) -> Self:
        """Fit the model to the moments of rows, with any of the estimator's penalties.

        Parameters
        ----------
        moments : Moments
            Of all rows. They are not changed.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            If a parameter is not allowed, there are no rows, or the moments have
            ``factor="gram"`` and the condition of the scaled columns that take part in the fit
            is above 3e6, so that the weights would consist of rounding.

        Notes
        -----
        The weights are those of `fit` to the rows: to 1e-10 where the columns are well-conditioned.
        For ``factor="gram"`` the relative error is some 1e-16 times the square of the condition,
        for "qr" times the condition, and a warning names it if it is above 2e-9.

        Examples
        --------
        >>> from fastlsgd import LeastSquaresRegressor, Moments
        >>> moments = Moments.from_data([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])
        >>> model = LeastSquaresRegressor().fit_moments(moments)
        >>> model.coef_.round(6).tolist(), round(model.intercept_, 6)
        ([2.0], 1.0)
        """
        with all_or_nothing(self), serial_blas():
            alphas = self._check_parameters()
            check_moments(moments, "moments")
            start = self._start(moments.n_features, moments.n_targets) if self._is_warm() else None
            self._take_columns(moments)
            self.__dict__.pop("_moments", None)
            return self._solve_moments(moments, alphas, start)

    @available_if(_has_partial_fit)
    def partial_fit(self, X, y, sample_weight=None) -> Self:
        """Add rows to those of the calls before, and fit the model to all of them.

        The rows are kept as :class:`fastlsgd.Moments`, so that it makes no difference how they are
        cut into calls. With ``solver="qr"`` these have ``factor="qr"``. `fit` and `fit_moments`
        begin anew.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
        sample_weight : array-like of shape (n_samples,), optional
            Not negative; if all are zero, nothing changes.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are not allowed.

        Notes
        -----
        As long as the columns depend on each other, as with fewer rows than columns, a
        ConvergenceWarning says so, and without a penalty the weights are those of least norm.

        Examples
        --------
        >>> from fastlsgd import LeastSquaresRegressor
        >>> model = LeastSquaresRegressor()
        >>> for x in (0.0, 2.0):
        ...     model = model.partial_fit([[x], [x + 1.0]], [2.0 * x + 1.0, 2.0 * x + 3.0])
        >>> model.coef_.round(6).tolist(), round(model.intercept_, 6)
        ([2.0], 1.0)
        """
        with all_or_nothing(self), serial_blas():
            alphas = self._check_parameters()
            before, first = dict(vars(self)), not hasattr(self, "_moments")
            X, y, s, one_target = self._validate(
                X, y, sample_weight, reset=first, some_weight=False
            )
            if not self._add_and_solve(X, y, s, alphas, one_target):
                self.__dict__ = before
        return self

    def _add_and_solve(self, X, y, s, alphas: list[float], one_target: bool) -> bool:
        """Add rows that validation has checked, and fit the model to all rows so far, if any."""
        kernels = resolve_backend(self.backend, X)
        factor = "qr" if self.solver == "qr" else "gram"
        moments = self._moments.copy() if hasattr(self, "_moments") else Moments(factor=factor)
        moments.add_rows(X, y, s, one_target, kernels, self._n_threads(X, y.shape[1]))
        if moments.n_samples == 0:
            return False
        self._moments = moments
        self._solve_moments(moments, alphas, None, refuse=False)
        self._take_to(X)
        return True

    def _is_warm(self) -> bool:
        return bool(self.warm_start) and hasattr(self, "coef_")

    def _take_columns(self, moments: Moments) -> None:
        """Take over what validation of rows would have found: columns, and y's dtype."""
        self.n_features_in_ = moments.n_features
        self.__dict__.pop("feature_names_in_", None)
        if hasattr(moments, "feature_names_in_"):
            self.feature_names_in_ = moments.feature_names_in_
        self._target_dtype = np.dtype(moments.target_dtype)
        self._origin = np.atleast_1d(moments.y_mean)

    def _solve_moments(self, moments: Moments, alphas, start, *, refuse: bool = True):
        kernels = resolve_backend(self.backend)
        rows = self._rows_of(moments.required_sums())
        solutions = self._fit_rows(kernels, rows, alphas, start, refuse=refuse)
        self._set_weights(solutions, moments.dtype, None, moments.has_one_target)
        self._set_certificates(solutions)
        self.backend_ = backend_name(kernels)
        self._evidence = None
        self._evidence_advice = "Collect Moments(factor='qr')"
        if rows.problem.is_smooth(alphas) and not any(alphas):
            self._evidence = evidence_from(rows, solutions[-1])
        self._warn_where_not_converged(solutions)
        return self

    def _rows_of(self, sums: Sums) -> SurrogateRows:
        d, names = sums.n_features, getattr(self, "feature_names_in_", None)
        return SurrogateRows.of(
            sums,
            float(self.l1_ratio),
            bool(self.positive),
            bool(self.fit_intercept),
            *constraints_for(self, d, len(sums.place.origin) - d, names),
        )

    def _fit_rows(
        self, kernels: Kernels, rows: SurrogateRows, alphas, start, *, refuse: bool = True
    ) -> list[Solution]:
        """Fit, and say so where the rounding of the sums shows in the weights."""
        options = Options(self.solver, float(self.tol), int(self.max_iter))
        with overflow_explained(rows.problem.X, rows.problem.y):
            solutions = fit_rows(kernels, rows, alphas, start, options)
            if not all(np.isfinite(found.coef).all() for found in solutions):
                raise np.linalg.LinAlgError("weights that are not finite")
        condition = max(found.condition for found in solutions)
        may_hide = bool(EPS * condition >= 1.0)
        if rows.sums.factor == "gram":
            _judge_condition(condition, refuse)
            # With L1 penalties, the condition is that of columns which a large row may have chosen.
            is_smooth = rows.problem.is_smooth(alphas)
            may_hide = bool(condition <= GRAM_CONDITION) and not is_smooth
        elif QUIET_ERROR < EPS * condition < 1.0:  # beyond, they depend: weights of least norm
            warnings.warn(
                f"The weights may be off by {EPS * condition:.0e} of their size, since the "
                f"condition of the columns is {condition:.2g}: penalise the weights (alpha), or "
                f"leave columns out.",
                ConvergenceWarning,
                stacklevel=5,
            )
        if may_hide and has_one_direction(rows.sums):
            warnings.warn(
                "Columns are multiples of each other as far as the sums can tell. Where one row is "
                "far larger or heavier than the others, this is since the sums hold nothing of "
                "these: fit the rows themselves, or leave that one out.",
                ConvergenceWarning,
                stacklevel=5,
            )
        return solutions


def check_moments(moments, name: str) -> None:
    if not isinstance(moments, Moments):
        raise ValueError(f"{name} must be Moments, got type {type(moments).__name__}.")
    if moments.n_samples == 0:
        raise ValueError(f"{name} are empty: there were no rows of positive sample_weight.")


def _judge_condition(condition: float, refuse: bool) -> None:
    """Refuse weights that are rounding, and warn of those that have lost digits to it."""
    if condition > GRAM_CONDITION:
        message = (
            f"The columns depend on each other as far as X^T X can tell (condition "
            f"{condition:.2g}, above 3e6)"
        )
        advice = "penalise the weights (alpha), leave columns out"
        if refuse:
            raise ValueError(
                f"{message}, so that weights from it would be rounding: {advice}, or collect "
                f"Moments(factor='qr')."
            )
        warnings.warn(
            f"{message}: the weights are those of least norm in the directions that it tells "
            f"apart. More rows may help; else {advice}, or take solver='qr'.",
            ConvergenceWarning,
            stacklevel=6,
        )
    elif EPS * condition**2 > QUIET_ERROR:
        warnings.warn(
            f"The weights may be off by {EPS * condition**2:.0e} of their size, since the "
            f"condition of the columns is {condition:.2g} and X^T X has its square: collect "
            f"Moments(factor='qr').",
            ConvergenceWarning,
            stacklevel=6,
        )
