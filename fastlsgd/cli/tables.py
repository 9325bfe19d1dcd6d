"""Sources and models of the commands: their arguments, checked, as streams and estimators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from .._checked_files import WrongFile
from ..model_files import read_record
from ..model_files.record import estimator_of
from ..model_files.table import Table, table_from_json, table_of_names
from ..streaming import Stream, StreamError, scan
from ..streaming.arrow import Piece, TableSource
from ..streaming.encoding import Column, Encoding, encoding_of, is_category, is_numeric
from ..streaming.scanning import table_of
from ..streaming.source import rows_per_block
from .console import EXIT_FAILED, EXIT_USAGE, CommandError, in_options


class TableModel(NamedTuple):
    """A model and what it knows of the columns of tables."""

    path: str
    estimator: Any
    table: Table | None  # None: its columns have no names
    header: dict[str, Any]

    @property
    def is_classifier(self) -> bool:
        return hasattr(self.estimator, "classes_")


class Reading(NamedTuple):
    """The columns of a source as a model reads them."""

    pieces: list[Piece]
    encoding: Encoding
    types: dict[str, Any]
    rows: int  # of a block


@contextmanager
def failures_explained(*paths: str) -> Iterator[None]:
    """Have what data, models and missing packages raise end the command with one line.

    It names one of these files, the first if the error names none.
    """
    try:
        yield
    except Exception as error:
        is_arrows = type(error).__module__.partition(".")[0] == "pyarrow"
        if not (is_arrows or isinstance(error, (ValueError, ImportError, MemoryError))):
            raise
        message = in_options(error) or type(error).__name__
        if is_arrows:  # the lines that follow tell of its own source
            message = message.splitlines()[0]
        if paths and isinstance(error, ValueError) and not any(path in message for path in paths):
            message = f"{paths[0]}: {message}"
        raise CommandError(message, EXIT_FAILED) from error


def source_of(paths: Sequence[str]) -> Any:
    """Return the source that the arguments name: a path, or a list of paths."""
    return paths[0] if len(paths) == 1 else list(paths)


def is_array_file(source: Any) -> bool:
    return isinstance(source, str) and source.endswith(".npy")


def mapped(path: str) -> np.ndarray:
    """Return the array of a .npy file, mapped.

    Raises
    ------
    StreamError
        If it is no such file; the message names it.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise StreamError(f"{path}: this is no intact .npy file of numbers: {error}") from error


def types_of(source) -> dict[str, Any]:
    """Return the types of a table's columns."""
    found = table_of(source)
    assert found is not None  # a path is always taken for a table
    if not found[0]:
        raise StreamError(f"{source}: there are no files with columns.")
    return found[0]


def number_of_column(text: str, option: str) -> int:
    """Return the number of a column of a .npy file."""
    try:
        return int(text)
    except ValueError as error:
        raise CommandError(
            f"{option} of a .npy file must be the number of a column, got {text!r}", EXIT_USAGE
        ) from error


# ------------------------------------------------------------------------------- models


def read_model(path: str) -> TableModel:
    record = read_record(path)
    try:
        estimator = estimator_of(record)
        told = record.header.get("table")
        names = getattr(estimator, "feature_names_in_", None)
        table = None
        if told is not None:
            table = table_from_json(told, estimator)
        elif names is not None:
            table = table_of_names(list(names))
    except WrongFile as error:
        raise ValueError(f"{path}: {error}") from error
    # Columns are found by their names here; predict gets arrays, and would miss the names.
    estimator.__dict__.pop("feature_names_in_", None)
    return TableModel(path, estimator, table, record.header)


def refuse_many_targets(model: TableModel) -> None:
    """Raise ValueError for models whose errors are not those of one column."""
    binarizer = getattr(model.estimator, "_label_binarizer", None)
    n_targets = np.atleast_1d(model.estimator.intercept_).size
    if binarizer is not None or (n_targets > 1 and not model.is_classifier):
        what = "labels that don't exclude each other" if binarizer else f"{n_targets} targets"
        raise ValueError(f"{model.path}: the model predicts {what}: evaluate is for one column.")


def named_table(model: TableModel, source) -> Table:
    """Return what the model knows of the columns of tables, if it does."""
    table = model.table
    if table is None or (table.positions and not is_array_file(source)):
        raise CommandError(
            f"{model.path}: the model knows no names of columns: give a .npy file", EXIT_FAILED
        )
    return table


def reading_of(model: TableModel, source, memory: int) -> Reading:
    """Return how a table is read for a model, after a check that its columns are those of the fit.

    Raises
    ------
    StreamError
        If a column is missing, or has become another kind of value.
    """
    table = named_table(model, source)
    found = table_of(source)
    assert found is not None
    types, make_pieces = found
    for column in table.columns:
        _check_column(column, types, source)
    # Numbers keep the precision that they have in this table.
    plain = [column.name for column in table.columns if column.categories is None]
    narrow = encoding_of(types, plain, {}, {}, True).dtype if plain else np.dtype(np.float32)
    encoding = Encoding(table.columns, narrow)
    size = (len(encoding.names) + 1) * encoding.dtype.itemsize
    return Reading(make_pieces(), encoding, types, rows_per_block(None, memory, size))


def _check_column(column: Column, types: dict[str, Any], source) -> None:
    if column.name not in types:
        raise StreamError(f"{source}: column {column.name!r} is missing, which the model needs.")
    kind = types[column.name]
    if column.categories is None:
        if not is_numeric(kind):
            raise StreamError(
                f"{source}: column {column.name!r} has type {kind}; the model was fitted to "
                f"numbers in it."
            )
        return
    known = [*column.categories, *column.others]
    value = getattr(kind, "value_type", kind)
    holds_text = str(value) in ("string", "large_string", "string_view")
    if isinstance(known[0], str) != holds_text or not (is_category(kind) or is_numeric(kind)):
        what = "strings" if isinstance(known[0], str) else "categories that are numbers"
        raise StreamError(
            f"{source}: column {column.name!r} has type {kind}; the model was fitted to {what} "
            f"in it."
        )


def stream_for(model: TableModel, source, memory: int, target=None, weight=None) -> Stream:
    """Return the rows of a source as the model reads them, with their targets and weights."""
    table = model.table
    target = target if target is not None else table.target if table is not None else None
    weight = weight if weight is not None else table.weight if table is not None else None
    if target is None:
        raise CommandError("--target is needed: the model does not know it", EXIT_USAGE)
    if is_array_file(source):
        array = mapped(source)
        target = number_of_column(str(target), "--target")
        weight = None if weight is None else number_of_column(str(weight), "--weight")
        columns = _positions(model, array, source, [target, weight])
        return scan(source, target, columns=columns, weight=weight, memory=memory)
    reading = reading_of(model, source, memory)
    for name, option in ((target, "target"), (weight, "weight")):
        if name is not None and name not in reading.types:
            raise StreamError(f"{source}: the column {name!r} of the {option} is missing.")
    kind = reading.types[target]
    if not (model.is_classifier or is_numeric(kind)):
        raise StreamError(
            f"{source}: column {target!r} has type {kind}, but the model predicts numbers."
        )
    made = TableSource(reading.pieces, reading.encoding, target, weight, reading.rows)
    return Stream(made, memory=memory)


def _positions(model: TableModel, array, source: str, others: list[int | None]) -> list[int]:
    """Return which columns of an array a model predicts by."""
    d = model.estimator.n_features_in_
    n_columns = array.shape[1] if array.ndim == 2 else 0
    if n_columns == d and not any(other is not None for other in others):
        return list(range(d))
    if model.table is not None and model.table.positions:
        positions = list(model.table.positions)
    else:
        taken = {other % n_columns for other in others if other is not None and n_columns}
        positions = [j for j in range(n_columns) if j not in taken]
    if len(positions) != d or max(positions) >= n_columns:
        raise StreamError(
            f"{source}: the model needs {d} columns, and the array has shape {array.shape}."
        )
    return positions


def array_blocks(model: TableModel, source: str, memory: int) -> Iterator[tuple[np.ndarray, str]]:
    """Yield the rows of a .npy file that a model predicts by, and their place."""
    array = mapped(source)
    positions = _positions(model, array, source, [])
    step = rows_per_block(None, memory, 8 * (len(positions) + 1))
    for start in range(0, array.shape[0], step):
        yield np.array(array[start : start + step, positions]), f"{source}, rows from {start}"
