"""``fastlsgd info``: what the file of a model has."""

from __future__ import annotations

import argparse
from typing import Any

from .console import say
from .report import coefficient_lines, coefficients, in_line, print_report
from .tables import TableModel, failures_explained, read_model


def run(arguments: argparse.Namespace) -> None:
    with failures_explained(arguments.model):
        model = read_model(arguments.model)
        names = model.header["feature_names"]
        if names is not None:
            model.estimator.feature_names_in_ = names
        if arguments.json:
            told = {**model.header, "coefficients": coefficients(model.estimator, model.table)}
            print_report(told, True)
            return
        for line in _lines(model):
            say(line)


def _lines(model: TableModel) -> list[str]:
    header, table = model.header, model.table
    lines = [
        f"{header['class']}, written by fastlsgd {header.get('library_version', 'unknown')}",
        f"features    {header['n_features']:,}",
    ]
    if model.is_classifier:
        lines.append(f"classes     {', '.join(map(str, header['classes']['values']))}")
    told: dict[str, Any] = {**header["parameters"], **header.get("parameters_not_kept", {})}
    lines.append("parameters  " + ", ".join(f"{name}={value}" for name, value in told.items()))
    kept = [
        f"{name}={value}"
        for name, value in header["attributes"].items()
        if not isinstance(value, list)
    ]
    lines.append("fit         " + ", ".join(kept))
    if table is not None and table.target is not None:
        lines.append(f"target      {table.target}, weight {table.weight}, {table.loss_scale} scale")
    if table is not None:
        for column in table.columns:
            if column.categories is not None:
                dropped = "".join(f" (without {value})" for value in column.others)
                values = ", ".join(map(str, column.categories))
                lines.append(f"  {column.name}: one of {values:.200}{dropped}")
            elif column.fill is not None:
                lines.append(f"  {column.name}: nulls are {column.fill:g}")
    lines = [in_line(line) for line in lines]
    return [*lines, "", *coefficient_lines(coefficients(model.estimator, model.table))]
