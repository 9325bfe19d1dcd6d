"""The field `table` of a model file: how the columns of a table become X and y.

``fastlsgd fit`` writes it, so that ``fastlsgd predict`` encodes categories, fills nulls and scales
the target as the fit did.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .._checked_files import WrongFile
from ..streaming.encoding import Column

LOSS_SCALES = ("identity", "log")
NAMES = (str, int)


@dataclass(frozen=True)
class Table:
    """How the columns of a table, or of an array, become X and y.

    Parameters
    ----------
    target, weight : str or int or None
        Name of a column, or of an array its number.
    loss_scale : {"identity", "log"}
        What was fitted: the target, or its logarithm.
    smearing : float or None
        Of a logarithm: the mean of exp(residual), by which exp(prediction) is multiplied to be an
        estimate of the mean (Duan 1983).
    columns : tuple of Column
        Of a table.
    positions : tuple of int
        Of an array.
    """

    target: str | int | None
    weight: str | int | None = None
    loss_scale: str = "identity"
    smearing: float | None = None
    columns: tuple[Column, ...] = ()
    positions: tuple[int, ...] = ()

    @property
    def names(self) -> list[str]:
        """Names of the columns of X; none for an array."""
        return [name for column in self.columns for name in column.names]

    def as_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"target": self.target, "weight": self.weight}
        told |= {"loss_scale": self.loss_scale, "smearing": self.smearing}
        if self.positions:
            return {**told, "positions": list(self.positions)}
        return {**told, "columns": [_column_as_json(column) for column in self.columns]}


def table_of_names(names: list[str]) -> Table:
    """Return the table of a model that was fitted to numbers in columns of these names."""
    return Table(None, columns=tuple(Column(name) for name in names))


def table_from_json(told: dict[str, Any], estimator) -> Table:
    """Return the table of a file, which must have the columns that the estimator was fitted to.

    Raises
    ------
    WrongFile
        If anything is not as it must be.
    """
    known = {"target", "weight", "loss_scale", "smearing"}
    if set(told) not in (known | {"columns"}, known | {"positions"}):
        raise WrongFile(f"table: the fields are not allowed: {sorted(told)!r:.200}.")
    smearing, scale = told["smearing"], told["loss_scale"]
    is_right = {
        "target": type(told["target"]) in NAMES,
        "weight": told["weight"] is None or type(told["weight"]) in NAMES,
        "loss_scale": isinstance(scale, str) and scale in LOSS_SCALES,
        "smearing": smearing is None
        or (type(smearing) is float and math.isfinite(smearing) and smearing > 0.0),
        "columns": isinstance(told.get("columns", []), list),
        "positions": isinstance(told.get("positions", []), list)
        and all(type(place) is int and 0 <= place < 2**53 for place in told.get("positions", [])),
    }
    for name, holds in is_right.items():
        if not holds:
            raise WrongFile(f"table: {name} is not allowed: {told.get(name)!r:.60}.")
    columns = tuple(map(_column_from_json, told.get("columns", [])))
    positions = tuple(told.get("positions", ()))
    table = Table(told["target"], told["weight"], scale, smearing, columns, positions)
    names = getattr(estimator, "feature_names_in_", None)
    agrees = len(positions) == estimator.n_features_in_
    if not positions:
        agrees = names is not None and table.names == list(names)
    if not agrees:
        raise WrongFile("table: its columns are not those that feature_names and n_features tell.")
    if scale == "log" and hasattr(estimator, "classes_"):
        raise WrongFile("table: loss_scale 'log' is not for a classifier.")
    return table


def _column_as_json(column: Column) -> dict[str, Any]:
    if column.categories is None:
        return {"name": column.name, "kind": "number", "fill": column.fill}
    return {
        "name": column.name,
        "kind": "category",
        "dropped": list(column.others),
        "categories": list(column.categories),
        "fill": column.fill,
    }


def _column_from_json(told: Any) -> Column:
    if not isinstance(told, dict) or not isinstance(told.get("name"), str):
        raise WrongFile(f"table: columns must be objects with a name, found {told!r:.60}.")
    where = f"table: column {told['name']!r:.60}"
    if told.get("kind") == "number" and set(told) == {"name", "kind", "fill"}:
        fill = told["fill"]
        if fill is None or (type(fill) in (int, float) and math.isfinite(fill)):
            return Column(told["name"], fill=None if fill is None else float(fill))
        raise WrongFile(f"{where}: fill {fill!r:.60} is no number.")
    fields = {"name", "kind", "dropped", "categories", "fill"}
    if told.get("kind") != "category" or set(told) != fields:
        raise WrongFile(f"{where} must be a number or a category, with its fields.")
    values = [told["dropped"], told["categories"]]
    if not all(isinstance(part, list) for part in values):
        raise WrongFile(f"{where}: categories must be lists.")
    known = [*values[0], *values[1]]
    kinds = {type(value) for value in known}
    if len(kinds) != 1 or not kinds <= {str, int, float, bool} or len(set(known)) < len(known):
        raise WrongFile(f"{where}: categories must be different values of one kind.")
    fill = told["fill"]
    if fill is not None and fill not in known:
        raise WrongFile(f"{where}: fill {fill!r:.60} is none of its categories.")
    return Column(told["name"], tuple(values[1]), tuple(values[0]), fill)
