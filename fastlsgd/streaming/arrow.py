"""Tables by PyArrow: Parquet, Arrow and CSV files, folders of them, tables and frames in memory.

Pieces are functions of this module with some of their arguments, so that streams can be pickled.
Parquet is read a row group at a time, and decoded a batch at a time, so that memory does not depend
on the size of row groups; other formats are read a file at a time by PyArrow's scanner.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .encoding import Encoding, has_nulls, is_text, numbers_of, plain
from .source import StreamError, distinct
from .unchanged import Unchanged

# Of each column, this much of a Parquet file is read at a time.
BUFFER_BYTES = 2**18
MOST_REASON = 200  # characters of an error of another library


def arrow() -> Any:
    """Return the module pyarrow with what is used of it, or say how to install it."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.dataset
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            'Streams of tables need the package pyarrow: pip install "fastlsgd[streams]".'
        ) from error
    return pyarrow


def reason(error: Exception) -> str:
    """Return what is wrong in one line, without the names of the file and of PyArrow's readers."""
    own = re.sub(r"^.*input source '.*?': (Invalid: )?", "", str(error).strip(), flags=re.DOTALL)
    return (own.splitlines() or [type(error).__name__])[0][:MOST_REASON]


def file_of(error: Exception) -> str | None:
    """Return the file that an error of PyArrow names, if it names one."""
    found = re.search(r"input source '(.*?)': ", str(error), flags=re.DOTALL)
    return None if found is None else found[1]


class Piece(NamedTuple):
    """A part of a table, by its place and how to read some of its columns."""

    place: str
    batches: Callable[[list[str], int], Iterator[Any]]


class TableSource:
    """Columns of a table as X, y and weights.

    Parameters
    ----------
    pieces : list of Piece
    encoding : Encoding
    target : str or list of str
    weight : str or None
    rows : int
        Of a block, at most.
    """

    is_ready = False

    def __init__(
        self,
        pieces: list[Piece],
        encoding: Encoding,
        target: str | list[str],
        weight: str | None,
        rows: int,
    ) -> None:
        self._pieces, self.encoding, self.rows = pieces, encoding, rows
        self.target, self.weight = target, weight
        self.names: list[str] | None = encoding.names
        self.n_features: int | None = len(encoding.names)
        self.targets = [target] if isinstance(target, str) else list(target)
        own = [column.name for column in encoding.columns]
        extra = [weight] if weight is not None else []
        self.read_columns = list(dict.fromkeys([*own, *self.targets, *extra]))

    def pieces(self) -> Sequence[str]:
        return [piece.place for piece in self._pieces]

    def read(self, piece: int) -> Iterator[tuple[Any, Any, Any, str]]:
        place, batches = self._pieces[piece]
        for batch in batches(self.read_columns, self.rows):
            if batch.num_rows:
                yield *self._converted(batch, place), place

    def _converted(self, batch, place: str):
        X = self.encoding.encoded(batch, place)
        parts = [self._target(batch.column(name), name, place) for name in self.targets]
        y = parts[0] if isinstance(self.target, str) else np.column_stack(parts)
        s = None
        if self.weight is not None:
            s = numbers_of(batch.column(self.weight), self.weight, place)
        return X, y, s

    def _target(self, column, name: str, place: str) -> np.ndarray:
        """Return numbers, or labels where the column has none."""
        types = arrow().types
        kind = column.type.value_type if types.is_dictionary(column.type) else column.type
        if is_text(kind) or types.is_boolean(kind):
            if column.null_count:
                raise StreamError(f"{has_nulls(column, name, place)}: leave out their rows.")
            labels = plain(column)
            values = labels.to_numpy(zero_copy_only=False)
            return values if types.is_boolean(kind) else np.asarray(values, dtype=object)
        return numbers_of(column, name, place)

    def labels(self) -> np.ndarray:
        def values():
            for place, batches in self._pieces:
                for batch in batches([self.targets[0]], 2**20):
                    yield self._target(batch.column(0), self.targets[0], place)

        return distinct(values())


# --------------------------------------------------------------------- pieces of sources


def pieces_of_dataset(dataset, filters) -> list[Piece]:
    """Return the row groups of Parquet files, and the files of other formats."""
    found: list[Piece] = []
    try:
        fragments = list(dataset.get_fragments(filters))
    except arrow().ArrowException as error:
        columns = ", ".join(map(repr, dataset.schema.names[:20]))
        raise StreamError(f"filter: {reason(error)}; there are {columns}.") from error
    for fragment in fragments:
        if isinstance(fragment, arrow().dataset.ParquetFileFragment):
            found += _row_groups(dataset, fragment, filters)
        else:
            found.append(_whole_fragment(dataset, fragment, filters))
    return found


def _place(fragment) -> str:
    path = getattr(fragment, "path", None)
    return "table" if path is None else os.fspath(path)


def _row_groups(dataset, fragment, filters) -> list[Piece]:
    place = _place(fragment)
    try:
        parts = fragment.split_by_row_group(filters, schema=dataset.schema)
        stored = set(fragment.physical_schema.names)
    except (OSError, arrow().ArrowException) as error:
        raise StreamError(f"{place}: this is no intact Parquet file: {reason(error)}") from error
    keys = arrow().dataset.get_partition_keys(fragment.partition_expression)
    file = Unchanged(getattr(fragment, "path", None))

    def piece(part) -> Piece:
        name = f"{place}, row group {part.row_groups[0].id}"
        batches = partial(_row_group, dataset, part, filters, keys, stored, place)
        return Piece(name, _explained(batches, name, file=file))

    return [piece(part) for part in parts if part.row_groups]


def _row_group(
    dataset, part, filters, keys: dict[str, Any], stored, place: str, columns: list[str], rows: int
):
    """Yield the batches of a row group, where all its columns are there."""
    _refuse_missing(columns, stored | keys.keys(), place)
    if filters is not None:
        return _scanned(dataset, part, filters, columns, rows)
    return _decoded(part, part.row_groups[0].id, keys, columns, rows)


def _decoded(part, number: int, keys: dict[str, Any], columns: list[str], rows: int):
    """Yield a row group's batches, each decoded when it is asked for."""
    pa = arrow()
    file = pa.parquet.ParquetFile(
        part.path,
        filesystem=part.filesystem,
        metadata=part.metadata,
        buffer_size=BUFFER_BYTES,
        pre_buffer=False,
    )
    stored = [name for name in columns if name not in keys]
    with file:
        for batch in file.iter_batches(rows, row_groups=[number], columns=stored):
            for name in columns:
                if name in keys:  # of a partition, which stands in the path of the file
                    batch = batch.append_column(name, pa.repeat(keys[name], batch.num_rows))
            yield batch


def _whole_fragment(dataset, fragment, filters) -> Piece:
    place, file = _place(fragment), Unchanged(getattr(fragment, "path", None))
    batches = partial(_fragment_batches, dataset, fragment, filters, place)
    return Piece(place, _explained(batches, place, file=file))


def _fragment_batches(dataset, fragment, filters, place: str, columns: list[str], rows: int):
    keys = arrow().dataset.get_partition_keys(fragment.partition_expression)
    try:
        stored = set(fragment.physical_schema.names)
    except (OSError, arrow().ArrowException) as error:
        raise StreamError(f"{place}: {reason(error)}") from error
    _refuse_missing(columns, stored | keys.keys(), place)
    return _scanned(dataset, fragment, filters, columns, rows)


def _scanned(dataset, fragment, filters, columns: list[str], rows: int):
    return fragment.to_batches(
        schema=dataset.schema,
        columns=columns,
        filter=filters,
        batch_size=rows,
        batch_readahead=1,
        fragment_readahead=1,
    )


def _explained(
    batches: Callable[[list[str], int], Iterator[Any]],
    place: str,
    *errors: type[Exception],
    file: Unchanged | None = None,
):
    """Have errors of reading name the place; `errors` are those of another library."""
    return partial(_checked_batches, batches, place, errors, file)


def _checked_batches(batches, place: str, errors, file, columns: list[str], rows: int):
    try:
        if file is not None:
            file.check()
        yield from batches(columns, rows)
        if file is not None:
            file.check()
    except (OSError, arrow().ArrowException, *errors) as error:
        raise StreamError(f"{place}: the rows can't be read: {reason(error)}") from error


def _refuse_missing(columns: list[str], stored, place: str) -> None:
    missing = [name for name in columns if name not in stored]
    if missing:
        raise StreamError(f"{place}: column {missing[0]!r} is missing.")


def pieces_of_table(table) -> list[Piece]:
    """Return a table in memory as one piece."""
    return [Piece("table", partial(_table_batches, table))]


def _table_batches(table, columns: list[str], rows: int):
    yield from table.select(columns).to_batches(max_chunksize=rows)


def types_of_pandas(frame) -> dict[str, Any]:
    """Return the types of a frame's columns; for those that PyArrow can't convert, why not."""
    pa = arrow()

    def types(columns) -> dict[str, Any]:
        schema = pa.Schema.from_pandas(columns, preserve_index=False)
        return dict(zip(schema.names, schema.types, strict=True))

    try:
        return types(frame)
    except (pa.ArrowException, TypeError):  # TypeError: of sparse columns
        found: dict[str, Any] = {}
    for name in frame.columns:
        try:
            found |= types(frame[[name]])
        except (pa.ArrowException, TypeError) as error:
            found[name] = f"{frame[name].dtype} ({reason(error)})"
    return found


def pieces_of_pandas(frame) -> list[Piece]:
    """Return a pandas frame as one piece, of which some rows are converted at a time."""
    return [Piece("frame", _explained(partial(_pandas_batches, frame), "frame"))]


def _pandas_batches(frame, columns: list[str], rows: int):
    pa, part = arrow(), frame[columns]
    for start in range(0, len(frame), rows):
        chunk = part.iloc[start : start + rows]
        yield pa.RecordBatch.from_pandas(chunk, preserve_index=False)


def types_of_polars(frame) -> dict[str, Any]:
    """Return the types of the columns of a frame of polars, or a lazy one."""
    from polars.exceptions import PolarsError

    try:
        schema = frame.head(0).lazy().collect().to_arrow().schema
    except (PolarsError, arrow().ArrowException) as error:
        raise StreamError(f"frame: its columns can't be read: {reason(error)}.") from error
    return dict(zip(schema.names, schema.types, strict=True))


def pieces_of_polars(frame) -> list[Piece]:
    """Return a polars frame, or a lazy one, as one piece."""
    from polars.exceptions import PolarsError

    return [Piece("frame", _explained(partial(_polars_batches, frame), "frame", PolarsError))]


def _polars_batches(frame, columns: list[str], rows: int):
    part = frame.select(columns)
    if hasattr(part, "collect_batches"):
        chunks = part.collect_batches(chunk_size=rows, maintain_order=True)
    else:
        part = part.collect() if hasattr(part, "collect") else part
        chunks = part.iter_slices(rows)
    for chunk in chunks:
        yield from chunk.to_arrow().to_batches(max_chunksize=rows)
