"""``fastlsgd predict``: a prediction for each row of a table, in its order."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from .._checked_files import file_in_place_of
from ..streaming import StreamError
from ..streaming.arrow import arrow
from ..streaming.encoding import plain
from ..streaming.prefetch import prefetched
from ..streaming.source import RowBlock, named
from ..streaming.stream import Meter
from .arguments import MEGABYTE, path_of
from .console import EXIT_USAGE, CommandError, ProgressLine
from .judge import predicted
from .tables import (
    TableModel,
    array_blocks,
    failures_explained,
    is_array_file,
    read_model,
    reading_of,
    source_of,
)

NAME = "prediction"


def run(arguments: argparse.Namespace) -> None:
    output, memory = path_of(arguments.output), arguments.memory * MEGABYTE
    with failures_explained(*arguments.source, arguments.model):
        model = read_model(arguments.model)
        source = source_of(arguments.source)
        factor = _factor(arguments, model)
        if arguments.backend is not None and "backend" in model.estimator.get_params(deep=False):
            model.estimator.set_params(backend=arguments.backend)
        scale = "identity" if model.table is None else model.table.loss_scale
        progress = ProgressLine("predict")
        meter = Meter(progress)
        with _writer(output) as write:
            for block, kept in _blocks(model, source, arguments.keep, memory):
                names = None if model.table is None else model.table.names or None
                with named(block, names):
                    out = predicted(model.estimator, block.X, scale)
                    out = out.toarray() if hasattr(out, "toarray") else out
                write({**kept, NAME: out if factor is None else out * factor})
                meter.count(block)
        progress.clear()


def _factor(arguments, model: TableModel) -> float | None:
    """Return by what the exponential of a fit is multiplied to estimate the mean."""
    if not arguments.mean:
        return None
    if model.table is None or model.table.smearing is None:
        raise ValueError(
            f"{model.path}: --mean needs a model that was fitted with --loss-scale log, and not "
            f"with --no-errors."
        )
    return model.table.smearing


def _blocks(
    model: TableModel, source, keep: list[str], memory: int
) -> Iterator[tuple[RowBlock, dict]]:
    """Yield the rows to predict, and the columns to copy; the next block is read meanwhile."""
    return prefetched(_read(model, source, keep, memory))


def _read(
    model: TableModel, source, keep: list[str], memory: int
) -> Iterator[tuple[RowBlock, dict]]:
    if is_array_file(source):
        if keep:
            raise CommandError("--keep is for tables", EXIT_USAGE)
        for number, (X, place) in enumerate(array_blocks(model, source, memory)):
            yield _block(X, place, number), {}
        return
    reading = reading_of(model, source, memory)
    for name in keep:
        if name not in reading.types:
            raise StreamError(f"{source}: --keep: there is no column {name!r}.")
        if name == NAME:
            raise StreamError(f"{source}: --keep: {NAME!r} is the column of the predictions.")
    own = [column.name for column in reading.encoding.columns]
    wanted = list(dict.fromkeys([*own, *keep]))
    for place, batches in reading.pieces:
        number = 0  # of the block in its piece, as errors name it
        for batch in batches(wanted, reading.rows):
            if batch.num_rows:
                X = reading.encoding.encoded(batch, place)
                yield _block(X, place, number), {name: batch.column(name) for name in keep}
                number += 1


def _block(X: np.ndarray, place: str, number: int) -> RowBlock:
    return RowBlock(X, np.empty(X.shape[0]), None, place, 0, number, X.nbytes)


# ---------------------------------------------------------------------------------- output


@contextmanager
def _writer(output: Path | None) -> Iterator[Any]:
    """Give a function that writes columns; the file is there once all are written."""
    if output is None:
        with _table_writer(sys.stdout.buffer, ".csv") as write:
            yield write
        return
    make = _array_writer if output.suffix == ".npy" else _table_writer
    with file_in_place_of(output) as file, make(file, output.suffix) as write:
        yield write


@contextmanager
def _array_writer(file, suffix: str) -> Iterator[Any]:
    parts: list[np.ndarray] = []
    yield lambda columns: parts.append(np.asarray(columns[NAME]))
    if parts and parts[0].dtype.kind == "O":
        parts = [part.astype(str) for part in parts]
    array = np.concatenate(parts) if parts else np.empty(0)
    # To a real file NumPy writes by itself, and its errors don't tell why, such as a full disk.
    np.save(SimpleNamespace(write=file.write), array, allow_pickle=False)  # type: ignore[arg-type]


@contextmanager
def _table_writer(file, suffix: str) -> Iterator[Any]:
    """Write tables by PyArrow, whose writer is made when the first columns tell their types.

    Columns of dictionaries are written as their values, since files of Arrow can have one
    dictionary for all rows only, and those of a folder may each have another.
    """
    pa = arrow()
    from pyarrow.csv import CSVWriter

    makers = {
        ".csv": CSVWriter,
        ".parquet": pa.parquet.ParquetWriter,
        ".arrow": pa.ipc.new_file,
        ".feather": pa.ipc.new_file,
    }
    writer = None

    def write(columns: dict[str, Any]) -> None:
        nonlocal writer
        out = np.asarray(columns[NAME])
        names = {f"{NAME}_{k}": column for k, column in enumerate(out.T)} if out.ndim > 1 else {}
        columns = {**columns, **names} if names else columns
        if names:
            del columns[NAME]
        batch = pa.RecordBatch.from_pydict(
            {name: _arrow_array(pa, values) for name, values in columns.items()}
        )
        if writer is None:
            writer = makers[suffix](file, batch.schema)
        writer.write_batch(batch)

    try:
        yield write
        if writer is None:
            writer = makers[suffix](file, pa.schema([(NAME, pa.float64())]))
    finally:
        if writer is not None:
            writer.close()


def _arrow_array(pa, values):
    """Return a column as PyArrow has it; strings of fixed length as strings."""
    if isinstance(values, np.ndarray):
        return pa.array(values.astype(object) if values.dtype.kind == "U" else values)
    return plain(values)
