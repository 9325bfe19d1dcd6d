"""Columns of a table as numbers: casts, one column per category, and nulls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .source import StreamError

# Numbers of these types are float32 without rounding, or were rounded before.
FLOAT32_TYPES = ("bool", "int8", "int16", "uint8", "uint16", "halffloat", "float")
FLOAT64_TYPES = ("int32", "int64", "uint32", "uint64", "double")


@dataclass(frozen=True)
class Column:
    """A column of a table, and what it becomes."""

    name: str
    categories: tuple[Any, ...] | None = None  # those with a column of their own; None: a number
    others: tuple[Any, ...] = ()  # those without
    fill: Any = None  # in place of nulls; None refuses them

    @property
    def names(self) -> list[str]:
        if self.categories is None:
            return [self.name]
        return [f"{self.name}={category}" for category in self.categories]

    @property
    def advice(self) -> str:
        """What a user can do about nulls."""
        return f"leave out their rows, or take impute={{{self.name!r}: value}}"


@dataclass(frozen=True)
class Encoding:
    """How batches of a table become rows of X."""

    columns: tuple[Column, ...]
    dtype: np.dtype

    @property
    def names(self) -> list[str]:
        return [name for column in self.columns for name in column.names]

    def encoded(self, batch, place: str) -> np.ndarray:
        """Return the rows of a batch, with contiguous columns."""
        X = np.empty((batch.num_rows, len(self.names)), self.dtype, order="F")
        j = 0
        for column in self.columns:
            values = batch.column(column.name)
            if column.categories is None:
                X[:, j] = numbers_of(values, column.name, place, column.fill, column.advice)
                j += 1
                continue
            codes, n_columns = _codes(values, column, place), len(column.categories)
            X[:, j : j + n_columns] = 0.0
            rows = np.flatnonzero((codes >= 0) & (codes < n_columns))
            X[rows, j + codes[rows]] = 1.0
            j += n_columns
        return X


def has_nulls(values, name: str, place: str) -> str:
    count = values.null_count
    return f"{place}: column {name!r} has {count} {'null' if count == 1 else 'nulls'}"


def numbers_of(
    values, name: str, place: str, fill: Any = None, advice: str = "leave out their rows"
) -> np.ndarray:
    """Return a column as numbers of its own type.

    Errors about nulls end with `advice`.

    Raises
    ------
    StreamError
        If there are nulls and nothing to put in their place, or the values are no numbers.
    """
    if str(values.type) == "null":  # as of a file in which this column has no values
        values = values.cast("double")
    if not is_numeric(values.type):
        raise StreamError(f"{place}: column {name!r} has type {values.type}, which is no number.")
    if values.null_count:
        if fill is None:
            raise StreamError(f"{has_nulls(values, name, place)}: {advice}.")
        values = values.cast("double") if isinstance(fill, float) else values
        values = values.fill_null(fill)
    if str(values.type).startswith("decimal"):
        values = values.cast("double")
    return values.to_numpy(zero_copy_only=False)


def is_numeric(kind) -> bool:
    text = str(kind)
    return text in FLOAT32_TYPES or text in FLOAT64_TYPES or text.startswith("decimal")


def is_category(kind) -> bool:
    """Return whether columns of this type are encoded: strings, and dictionaries of anything."""
    return str(kind).startswith("dictionary") or is_text(kind)


def is_text(kind) -> bool:
    return str(kind) in ("string", "large_string", "string_view")


def plain(values):
    """Return a column of a dictionary as its values, and views of strings as strings."""
    kind = values.type
    if str(kind).startswith("dictionary"):
        values = values.cast(kind.value_type)
    return values.cast("large_string") if str(values.type) == "string_view" else values


def _codes(values, column: Column, place: str) -> np.ndarray:
    """Return the number of each value among the categories; those without a column come last."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values = plain(values)
    if values.null_count:
        if column.fill is None:
            raise StreamError(f"{has_nulls(values, column.name, place)}: {column.advice}.")
        if str(values.type) == "null":
            values = values.cast(pa.scalar(column.fill).type)
        values = values.fill_null(column.fill)
    known = pa.array([*(column.categories or ()), *column.others], type=values.type)
    codes = pc.index_in(values, value_set=known)
    if codes.null_count:
        unknown = values.filter(codes.is_null())[0].as_py()
        raise StreamError(
            f"{place}: column {column.name!r} has {unknown!r}, which is none of its categories."
        )
    return codes.to_numpy(zero_copy_only=False)


def encoding_of(
    types: Mapping[str, Any],
    columns: Sequence[str],
    found: Mapping[str, Sequence[Any]],
    impute: Mapping[str, Any],
    drop_first: bool,
) -> Encoding:
    """Return how these columns of a table are encoded.

    Parameters
    ----------
    types : dict of name to type of PyArrow
    columns : list of str
        Those that X has, in this order.
    found : dict of name to list
        The categories of columns that have them.
    impute : dict of name to value
        What stands in place of nulls.
    drop_first : bool
        Whether the first category has no column.
    """
    made = []
    is_narrow = True
    for name in columns:
        fill = impute.get(name)
        if name in found:
            first = int(drop_first)
            values = tuple(found[name])
            made.append(Column(name, values[first:], values[:first], fill))
        elif is_numeric(types[name]):
            made.append(Column(name, fill=None if fill is None else float(fill)))
            is_narrow = is_narrow and str(types[name]) in FLOAT32_TYPES
        elif str(types[name]) == "null":
            raise StreamError(f"Column {name!r} has no values: leave it out by columns=.")
        else:
            raise StreamError(
                f"Column {name!r} has type {types[name]}, which is neither a number nor a category:"
                f" leave it out by columns=, or make it a number."
            )
    return Encoding(tuple(made), np.dtype(np.float32 if is_narrow else np.float64))
