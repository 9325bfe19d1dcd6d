"""Reports of the commands: as text for people, as JSON for programs, and as a picture."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from .. import _validation as check
from ..model_files.table import Table
from .console import CommandError, in_line, save_figure, say
from .judge import RegressionErrors

# A table of more coefficients is cut off in text, but not in JSON.
MOST_LINES = 60


def print_report(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        say(json.dumps(_plain(report), indent=2, allow_nan=False))
        return
    for line in report_lines(report):
        say(line)


def report_lines(report: dict[str, Any]) -> list[str]:
    """Return the report of a fit as text."""
    scale = report["loss_scale"]
    target = f"log({report['target']})" if scale == "log" else str(report["target"])
    lines = [f"{report['class']} of {target}", ""]
    errors = report["errors"]
    rows = "" if errors is None else f"{errors['rows']:,} rows, "
    if report["held_out"] is not None:
        rows += f"{report['held_out']['rows']:,} held out, "
    columns, features = (_count(report[name], name[:-1]) for name in ("columns", "features"))
    made = "makes" if report["columns"] == 1 else "make"
    lines.append(f"data      {rows}{columns}, which {made} {features}")
    speed = f"{report['seconds']:.2f} s, {report['gigabytes_per_second']:.2f} GB/s"
    own = [f"solver {report['solver']}"] if "solver" in report else []
    if "condition" in report and math.isfinite(report["condition"]):
        own.append(f"condition {report['condition']:.3g}")
    if "alpha" in report:
        own.append(f"alpha {report['alpha']:.4g} by cross-validation")
    if report["standardize"]:
        own.append("columns standardized")
    lines += [f"fit       {', '.join([*own, report['backend'], speed])}", ""]
    for title, found in (("rows of the fit", errors), ("rows held out", report["held_out"])):
        if found is not None:
            lines += error_lines(found, title)
    if report["smearing"] is not None:
        lines += [
            f"Predictions are exp(fit), as of the median; times {report['smearing']:.4f} (predict "
            f"--mean) they are of the mean.",
            "",
        ]
    lines += coefficient_lines(report["coefficients"])
    return [*lines, "", f"wrote     {report['model']}"]


def error_lines(found: dict[str, Any], title: str) -> list[str]:
    """Return the errors on some rows as text."""
    lines = [f"errors on the {found['rows']:,} {title}"]
    if "accuracy" in found:
        lines += [f"  accuracy  {_share(found['accuracy'])}", ""]
        lines.append(f"  {'class':<24} {'rows':>12} {'recall':>8} {'precision':>10}")
        for own in found["classes"]:
            shares = f"{_share(own['recall']):>8} {_share(own['precision']):>10}"
            lines.append(f"  {in_line(own['class']):<24.24} {own['rows']:>12,.6g} {shares}")
        return [*lines, ""]
    lines.append(f"  RMSE      {_number(found['rmse'])}")
    lines.append(f"  MAE       {_number(found['mae'])}")
    lines.append(f"  mean      {_number(found['bias'])} (predicted less actual)")
    of_log = f" ({_share(found['r2_log'])} of the logarithm)" if "r2_log" in found else ""
    return [*lines, f"  R2        {_share(found['r2'])}{of_log}", ""]


def coefficients(estimator, table: Table | None) -> list[dict[str, Any]]:
    """Return the coefficients of each target or class, with standard errors where there are any."""
    coef = estimator.coef_
    rows = np.atleast_2d(coef.toarray() if hasattr(coef, "toarray") else check.on_host(coef))
    intercept = np.atleast_1d(estimator.intercept_)
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        places = table.positions if table is not None else ()
        names = [f"column {j}" for j in places or range(rows.shape[1])]
    labels: list[Any] = [None] if len(rows) == 1 else list(range(len(rows)))
    kind = "class" if hasattr(estimator, "classes_") else "target"
    if hasattr(estimator, "classes_"):
        labels = np.asarray(estimator.classes_).tolist()
        labels = labels[1:] if len(rows) == 1 else labels
    found = [
        {"name": name, "estimate": float(value)} | ({} if label is None else {kind: label})
        for label, row, b in zip(labels, rows, intercept, strict=True)
        for name, value in [("intercept", b), *zip(names, row, strict=True)]
    ]
    if getattr(estimator, "_evidence", None) is not None:
        summaries = estimator.summary()
        several = summaries if isinstance(summaries, list) else [summaries]
        size, first = len(names) + 1, 0 if estimator.fit_intercept else 1
        for k, summary in enumerate(several):
            _add_errors(found[k * size + first : (k + 1) * size], summary)
    return found


def _add_errors(lines: list[dict[str, Any]], summary) -> None:
    """Add standard errors, tests and intervals to coefficients in the summary's order."""
    low, high = summary.confidence_interval.T
    found = {"standard_error": summary.standard_error, "t": summary.t, "p": summary.p_value}
    found |= {"low": low, "high": high}
    for k, line in enumerate(lines):
        line.update({name: float(values[k]) for name, values in found.items()})
        if summary.remarks[k]:
            line["remark"] = summary.remarks[k]


def coefficient_lines(found: list[dict[str, Any]]) -> list[str]:
    """Return the table of coefficients as text."""
    with_errors = any("standard_error" in line for line in found)
    width = min(max([len(in_line(line["name"])) for line in found] + [11]), 40)
    title = f"{'coefficient':<{width}} {'estimate':>13}"
    if with_errors:
        title += f" {'std. error':>12} {'t':>9} {'p':>8} {'95 % interval':>27}"
    lines, label = [title], ("", None)
    for line in found[:MOST_LINES]:
        own = [(kind, line[kind]) for kind in ("class", "target") if kind in line]
        if own and own[0] != label:
            label = own[0]
            lines.append(f"{label[0]} {in_line(label[1])}")
        text = f"{in_line(line['name']):<{width}.{width}} {line['estimate']:>13.6g}"
        if "remark" in line:
            text += f"   {line['remark']}"
        elif "standard_error" in line:
            text += (
                f" {line['standard_error']:>12.4g} {line['t']:>9.2f} {line['p']:>8.2g} "
                f"{line['low']:>13.5g} {line['high']:>13.5g}"
            )
        lines.append(text)
    if len(found) > MOST_LINES:
        lines.append(f"... {len(found) - MOST_LINES} more: --json has all")
    return lines


def draw(errors, picture: Path, table: Table, as_json: bool) -> None:
    """Draw predictions against the target, or for classes how often each is taken for another."""
    figure = (
        _predictions(errors, table)
        if isinstance(errors, RegressionErrors)
        else _confusion(errors, table)
    )
    save_figure(figure, picture)
    if not as_json:
        say(f"wrote     {picture}")


def _predictions(errors: RegressionErrors, table: Table):
    from ..plotting import plot_predictions

    y, fitted = errors.points.pairs.T
    if not np.isfinite(errors.points.pairs).all():
        raise CommandError("--plot: there are predictions beyond float64", 1)
    ax = plot_predictions(y, fitted)
    shown = "" if errors.rows == len(y) else f", {len(y):,} of them shown"
    ax.set_title(f"{table.target}: {errors.rows:,} rows{shown}")
    return ax.figure


def _confusion(errors, table: Table):
    from matplotlib.figure import Figure

    names = [str(label) for label in errors.classes.tolist()]
    size = min(3.5 + 0.35 * len(names), 12.0)
    figure = Figure(figsize=(size, size), layout="constrained")
    ax = figure.add_subplot()
    shares = errors.counts / np.maximum(errors.counts.sum(axis=1, keepdims=True), 1e-300)
    ax.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    for (i, j), share in np.ndenumerate(shares):
        if len(names) <= 20:
            color = "white" if share > 0.5 else "black"
            ax.text(j, i, f"{share:.0%}", ha="center", va="center", color=color, fontsize=8)
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right")
    ax.set_yticks(range(len(names)), names)
    ax.set(
        xlabel="predicted", ylabel="actual", title=f"{table.target}: shares of each class's rows"
    )
    return figure


def _plain(value) -> Any:
    """Return a report as JSON has it: what is not finite is null."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:,.6g}"


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
