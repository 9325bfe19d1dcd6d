"""`LeastSquaresRegressor.summary()`: the table of coefficients as text and as HTML."""

from __future__ import annotations

from html import escape

import numpy as np

from ..solvers.inference import Inference


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
    log_likelihood, aic, bic : float
        Of normal errors; the criteria count the weights, not sigma, as statsmodels does.
    notes : list of str
        What to know about the numbers, printed under the table: columns that depend on others,
        a constant target, a perfect fit.

    Notes
    -----
    What is not defined is NaN. Where columns depend on each other, weights that differ between
    solutions have no estimate, and are NaN; degrees of freedom go by the rank.
    """

    def __init__(self, inference: Inference, names: list[str], confidence_level: float) -> None:
        self.names, self.confidence_level = names, confidence_level
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
        self.notes = _notes(inference, names)

    def _figures(self) -> list[tuple[str, str]]:
        return [
            ("rows", f"{self.n_samples:,}"),
            ("residual degrees of freedom", f"{self.df_residual:,}"),
            ("R2", f"{self.r_squared:.6g}"),
            ("adjusted R2", f"{self.adjusted_r_squared:.6g}"),
            ("sigma", f"{self.sigma:.6g}"),
            (f"F({self.df_model}, {self.df_residual})", f"{self.f_statistic:.6g}"),
            ("p of F", f"{self.f_p_value:.3g}"),
            ("log-likelihood", f"{self.log_likelihood:.8g}"),
            ("AIC", f"{self.aic:.8g}"),
            ("BIC", f"{self.bic:.8g}"),
        ]

    def _table(self) -> list[list[str]]:
        low, high = 50 * (1 - self.confidence_level), 50 * (1 + self.confidence_level)
        head = ["", "coef", "std err", "t", "p", f"{low:g}%", f"{high:g}%"]
        columns = (
            self.coef,
            self.standard_error,
            self.t,
            self.p_value,
            *self.confidence_interval.T,
        )
        numbers = np.column_stack(columns)
        rows = [
            [name, *(f"{value:.6g}" for value in row[:2]), f"{row[2]:.4g}", f"{row[3]:.3g}",
             *(f"{value:.6g}" for value in row[4:])]
            for name, row in zip(self.names, numbers, strict=True)
        ]  # fmt: skip
        return [head, *rows]

    def __repr__(self) -> str:
        figures, table = self._figures(), self._table()
        left = max(len(name) for name, _ in figures)
        widths = [max(len(row[j]) for row in table) for j in range(len(table[0]))]
        lines = [f"{name:<{left}}  {value}" for name, value in figures] + [""]
        for row in table:
            cells = [f"{row[0]:<{widths[0]}}"]
            cells += [f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)]
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
        body = "".join(
            f"<tr><th>{escape(row[0])}</th>"
            + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
            + "</tr>"
            for row in rows
        )
        return (
            f"<table>{figures}</table>"
            f"<table><thead><tr>{table}</tr></thead><tbody>{body}</tbody></table>"
            + "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        )


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
