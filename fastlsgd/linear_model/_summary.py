"""`LeastSquaresRegressor.summary()`: the table of coefficients as text and as HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

import numpy as np
from scipy import stats

from .. import _validation as check
from ..solvers.factors import TINY
from ..solvers.inference import Covariance, Inference, wald_statistic

BEYOND_EXPONENTS = 2**14  # beyond those of all numbers and their products


class WaldTest(NamedTuple):
    """A test of linear hypotheses on the weights."""

    statistic: float
    p_value: float
    df_hypothesis: int
    df_residual: int | None  # None for the chi-squared distribution


@dataclass(frozen=True)
class Influence:
    """How much each row moves a fit; arrays of shape (n_samples,).

    Attributes
    ----------
    leverage : ndarray
        Diagonal of the hat matrix: how far a prediction moves with its own target.
    studentized_residual : ndarray
        Residuals divided by their standard deviation (internally studentised).
    external_residual : ndarray
        The same with the standard deviation of the fit without the row.
    cooks_distance : ndarray
        How far all predictions move without the row, in units of their uncertainty.
    dffits : ndarray
        How far the row's own prediction moves, in units of its standard deviation.
    """

    leverage: np.ndarray
    studentized_residual: np.ndarray
    external_residual: np.ndarray
    cooks_distance: np.ndarray
    dffits: np.ndarray


class Summary:
    """Standard errors, tests and intervals of a least-squares fit; prints as a table.

    Attributes
    ----------
    names : list of str
        Of the rows: ``"intercept"`` where one is fitted, then the columns of X.
    coef, standard_error, t, p_value : ndarrays of shape (n_names,)
        Estimates, their standard errors, t statistics and two-sided p-values.
    confidence_interval : ndarray of shape (n_names, 2)
        At `confidence_level`.
    confidence_level : float
    n_samples, df_model, df_residual : int
        Rows of positive weight, weights without the intercept, rows less all weights.
    sigma : float
        Standard deviation of the errors, estimated.
    r_squared, adjusted_r_squared : float
        About the mean where an intercept is fitted, else about zero.
    f_statistic, f_p_value : float
        Of all weights being zero.
    cov_type : str
        Of the standard errors: "nonrobust", or the kind of a robust covariance.
    variance_inflation : ndarray of shape (n_features,)
        By how much the dependence on other columns inflates the variance of each weight.
    log_likelihood, aic, bic : float
        Of normal errors; the criteria count the weights, not sigma, as statsmodels does.
    remarks : list of str
        For each of `names` why it has no estimate, such as ``"constant: not estimable"``, or "".
    notes : list of str
        What to know about the numbers, printed under the table: columns that depend on others,
        a constant target, a perfect fit, rows of leverage 1.

    Notes
    -----
    What is not defined is NaN. Where columns depend on each other, weights that differ between
    solutions have no estimate, and are NaN; degrees of freedom go by the rank.
    """

    def __init__(
        self,
        inference: Inference,
        names: list[str],
        confidence_level: float,
        covariance: Callable[[], Covariance],
        cov_type: str = "nonrobust",
        notes: Sequence[str] = (),
    ) -> None:
        self.names, self.confidence_level = names, confidence_level
        self.cov_type, self._inference, self._find_covariance = cov_type, inference, covariance
        self.variance_inflation = inference.variance_inflation
        self.coef, self.standard_error = inference.estimate, inference.standard_error
        self.t, self.p_value = inference.t, inference.p
        self.confidence_interval = inference.interval(confidence_level)
        self.n_samples, self.df_model = inference.n_rows, inference.df_model
        self.df_residual, self.sigma = inference.df_residual, inference.sigma
        self.r_squared = inference.r_squared
        self.adjusted_r_squared = inference.adjusted_r_squared
        self.f_statistic, self.f_p_value = inference.f, inference.f_p
        self.log_likelihood = inference.log_likelihood
        self.aic, self.bic = inference.aic, inference.bic
        self.remarks = _remarks(inference, names)
        self.notes = [*_notes(inference, names), *notes]

    @property
    def covariance(self) -> np.ndarray:
        """Covariance of the estimates, (n_names, n_names); NaN for columns that are left out."""
        found, gone = self._find_covariance(), np.isnan(self.coef)
        covariance = found.plain().copy()
        own = covariance.diagonal()
        if (np.isinf(own) | ((own < TINY) & (found.core.diagonal() != 0.0))).any():
            raise ValueError(
                "The covariance has numbers out of the range of float64, though the standard "
                "errors and tests are in range: rescale X or y."
            )
        covariance[gone] = covariance[:, gone] = np.nan
        return covariance

    def wald_test(self, R, q=0.0, *, use_f: bool | None = None) -> WaldTest:
        """Test the linear hypotheses R w = q.

        Parameters
        ----------
        R : array-like of shape (n_hypotheses, n_names) or (n_names,), or list of str
            A row per hypothesis, for weights in the order of `names`; or names of weights, each of
            which is then compared with q.
        q : float or array-like of shape (n_hypotheses,), default=0.0
        use_f : bool, optional
            Whether to compare with F rather than chi-squared. Default: where tests are by t.

        Returns
        -------
        test : WaldTest
            ``statistic``, ``p_value``, ``df_hypothesis``, ``df_residual``. F is chi-squared
            divided by the rank of the hypotheses.

        Raises
        ------
        ValueError
            If a shape or a name is not allowed, or a weight that takes part has no estimate.
        """
        use_f = self._inference.use_t if use_f is None else check.check_flag(use_f, "use_f")
        R = self._hypotheses(R)
        q = check.as_float_array(q, "q", np.float64)
        if q.shape not in ((), (len(R),)) or not np.isfinite(q).all():
            raise ValueError(
                f"q must be one finite number, or one for each of the {len(R)} hypotheses."
            )
        found, part = self._find_covariance(), (R != 0.0).any(axis=0)
        core, units = found.core[np.ix_(part, part)], found.exponents[part]
        if np.isnan(self.coef[part]).any() or np.isnan(core).any():
            raise ValueError("R has a weight that has no estimate.")
        R = R[:, part]
        # Powers of two bring each hypothesis near 1, so that its square stays in range.
        largest = np.where(R != 0.0, np.frexp(R)[1] + units, -BEYOND_EXPONENTS)
        exponents = largest.max(axis=1)
        R = np.ldexp(R, units - exponents[:, None])
        value = R @ np.ldexp(self.coef[part], -units) - np.ldexp(q, -exponents)
        f, rank = wald_statistic(value, R @ core @ R.T)
        if use_f:
            df = self._inference.degrees
            return WaldTest(f, float(stats.f.sf(f, rank, df)), rank, df)
        return WaldTest(rank * f, float(stats.chi2.sf(rank * f, rank)), rank, None)

    def f_test(self, R, q=0.0) -> WaldTest:
        """Test the linear hypotheses R w = q by F; see :meth:`wald_test`."""
        return self.wald_test(R, q, use_f=True)

    def _hypotheses(self, R) -> np.ndarray:
        k = len(self.names)
        if isinstance(R, (list, tuple)) and R and all(isinstance(name, str) for name in R):
            unknown = [name for name in R if name not in self.names]
            if unknown:
                raise ValueError(f"R has {unknown[0]!r}, which is not the name of a weight.")
            return np.eye(k)[[self.names.index(name) for name in R]]
        R = np.atleast_2d(check.as_float_array(R, "R", np.float64))
        if R.ndim != 2 or R.shape[1] != k or not len(R):
            raise ValueError(f"R must have shape (n_hypotheses, {k}), got shape {R.shape}.")
        if not np.isfinite(R).all():
            raise ValueError("R contains NaN or infinity.")
        if not R.any(axis=1).all():
            raise ValueError("R has a row of zeros, which is no hypothesis about the weights.")
        return R

    def _figures(self) -> list[tuple[str, str]]:
        return [
            ("rows", f"{self.n_samples:,}"),
            ("residual degrees of freedom", f"{self.df_residual:,}"),
            ("R2", f"{self.r_squared:.6g}"),
            ("adjusted R2", f"{self.adjusted_r_squared:.6g}"),
            ("sigma", f"{self.sigma:.6g}"),
            (f"F({self.df_model}, {self._inference.degrees})", f"{self.f_statistic:.6g}"),
            ("p of F", f"{self.f_p_value:.3g}"),
            *([] if self.cov_type == "nonrobust" else [("covariance", self.cov_type)]),
            ("log-likelihood", f"{self.log_likelihood:.8g}"),
            ("AIC", f"{self.aic:.8g}"),
            ("BIC", f"{self.bic:.8g}"),
        ]

    def _table(self) -> list[list[str]]:
        """Return the cells of each line; a weight without an estimate has its remark instead."""
        low, high = 50 * (1 - self.confidence_level), 50 * (1 + self.confidence_level)
        statistic = "t" if self._inference.use_t else "z"
        head = ["", "coef", "std err", statistic, "p", f"{low:g}%", f"{high:g}%"]
        columns = (
            self.coef,
            self.standard_error,
            self.t,
            self.p_value,
            *self.confidence_interval.T,
        )
        numbers = np.column_stack(columns)
        rows = [
            [name, remark] if remark else
            [name, *(f"{value:.6g}" for value in row[:2]), f"{row[2]:.4g}", f"{row[3]:.3g}",
             *(f"{value:.6g}" for value in row[4:])]
            for name, row, remark in zip(self.names, numbers, self.remarks, strict=True)
        ]  # fmt: skip
        return [head, *rows]

    def __repr__(self) -> str:
        figures, table = self._figures(), self._table()
        left = max(len(name) for name, _ in figures)
        full = [row for row in table if len(row) > 2]
        widths = [max(len(row[j]) for row in full) for j in range(len(full[0]))]
        first = max(len(row[0]) for row in table)
        lines = [f"{name:<{left}}  {value}" for name, value in figures] + [""]
        for row in table:
            cells = [f"{row[0]:<{first}}"]
            has_remark = len(row) == 2
            cells += row[1:] if has_remark else map(str.rjust, row[1:], widths[1:])
            lines.append("  ".join(cells))
        if self.notes:
            lines += ["", *self.notes]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        figures = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
            for name, value in self._figures()
        )
        head, *rows = self._table()
        table = "".join(f"<th>{escape(cell)}</th>" for cell in head)
        span = {len(head): "", 2: f' colspan="{len(head) - 1}"'}
        body = "".join(
            f"<tr><th>{escape(row[0])}</th>"
            + "".join(f"<td{span[len(row)]}>{escape(cell)}</td>" for cell in row[1:])
            + "</tr>"
            for row in rows
        )
        return (
            f"<table>{figures}</table>"
            f"<table><thead><tr>{table}</tr></thead><tbody>{body}</tbody></table>"
            + "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        )


def _remarks(inference: Inference, names: list[str]) -> list[str]:
    """Return for each weight why it has no estimate, or an empty text."""
    has_intercept = len(names) > len(inference.constant)
    kind = "constant" if has_intercept else "zero"
    remarks = [""] * has_intercept
    if has_intercept and np.isnan(inference.estimate[0]):
        remarks = ["depends on columns: not estimable"]
    for is_constant, is_dependent in zip(inference.constant, inference.dependent, strict=True):
        reason = "depends on other columns" if is_dependent else kind
        remarks.append(f"{reason}: not estimable" if is_constant or is_dependent else "")
    return remarks


def _notes(inference: Inference, names: list[str]) -> list[str]:
    columns = names[len(names) - len(inference.constant) :]
    notes = []
    if inference.constant.any():
        what = "zero" if len(names) == len(columns) else "constant"
        notes.append(f"Left out, since they are {what}: {_listed(columns, inference.constant)}.")
    if inference.dependent.any():
        which = _listed(columns, inference.dependent)
        notes.append(f"Not estimable, since they depend on each other: {which}.")
    if len(names) > len(columns) and np.isnan(inference.estimate[0]):
        notes.append("The intercept is not estimable either: it depends on these columns.")
    if inference.df_residual == 0:
        notes.append("No residual degrees of freedom: there are as many weights as rows.")
    if inference.is_constant:
        notes.append("The target is constant: there is nothing to explain.")
    if inference.is_perfect:
        notes.append("The fit is perfect but for rounding: standard errors and tests are noise.")
    return notes


def _listed(names: list[str], which: np.ndarray, most: int = 20) -> str:
    chosen = [names[j] for j in np.flatnonzero(which)]
    more = f" and {len(chosen) - most} more" if len(chosen) > most else ""
    return ", ".join(chosen[:most]) + more
