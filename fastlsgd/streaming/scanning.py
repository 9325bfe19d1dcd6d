"""`scan`: any source of rows as a stream."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from .. import _validation as check
from .arrays import BatchSource, SvmlightSource, array_source, mapped_file
from .arrow import (
    Piece,
    TableSource,
    arrow,
    file_of,
    pieces_of_dataset,
    pieces_of_pandas,
    pieces_of_polars,
    pieces_of_table,
    reason,
    types_of_pandas,
    types_of_polars,
)
from .encoding import encoding_of, is_category, is_numeric, is_text, plain
from .pandas_labels import Chosen, has_text_labels, with_text_labels
from .source import Source, StreamError, rows_per_block
from .stream import DEFAULT_MEMORY, Stream

SVMLIGHT = (".svm", ".svmlight", ".libsvm")
FORMATS = {".parquet": "parquet", ".arrow": "ipc", ".feather": "feather", ".ipc": "ipc",
           ".csv": "csv", ".orc": "orc"}  # fmt: skip
ENDINGS = ", ".join([*list(FORMATS)[1:], ".npy", *SVMLIGHT])
# A value of a category with more values than this becomes no column.
MOST_CATEGORIES = 10_000
# By so many of its numbers a checkpoint knows an array of targets or weights again.
MOST_TOLD = 1_000
# By these rows of it, evenly spaced, a checkpoint knows X again; a list by so many of its batches.
TOLD_ROWS, TOLD_BATCHES = 64, 64


def scan(
    source,
    target=None,
    *,
    columns=None,
    weight=None,
    batch_rows: int | None = None,
    memory: int | None = None,
    filter=None,
    categories: Mapping[str, Sequence[Any]] | None = None,
    impute: Mapping[str, Any] | None = None,
    drop_first: bool = True,
) -> Stream:
    """Read rows a block at a time, from whatever holds them, for `fit_stream` and `Moments`.

    Nothing is read before it is needed, except the schema, and the values of categories that
    `categories` does not have.

    Parameters
    ----------
    source : path, list of paths, dataset, table, frame, array or iterable
        - Parquet, Arrow, Feather or CSV: a file, a list of files, or a folder, whose partitions
          (``year=2026/...``) are columns; a :class:`pyarrow.dataset.Dataset` or
          :class:`pyarrow.Table`; all by the package pyarrow (the extra `streams`).
        - a frame of pandas or polars, or a lazy frame of polars;
        - a `.npy` file, a memmap or an array of two dimensions;
        - a file of svmlight (`.svm`, `.svmlight`, `.libsvm`), whose columns count from 0;
        - an iterable of (X, y) or (X, y, sample_weight), which can be gone through again, or a
          function that returns an iterator of them.
    target : str, list of str, int or array-like
        Name of the column with the targets, several of them for many targets; of a pandas frame
        any label. For arrays the number of the column, or an array (or .npy file) of its own. Not
        for svmlight and batches, which have their targets.
    columns : list of str or int, optional
        Columns of X. Default: all but the target and the weight. For svmlight the number of
        columns, which takes a pass over the file if it is not given.
    weight : str, int or array-like, optional
        Column of sample weights, as `target`.
    batch_rows : int >= 1, optional
        Rows of a block. Default: by `memory`.
    memory : int >= 1, optional
        How many bytes the blocks may take that are in memory at a time; 256 MB by default.
    filter : pyarrow.dataset.Expression, optional
        Rows to read of files and datasets, such as ``pyarrow.dataset.field("year") > 2020``; it may
        use columns that X does not have. What the statistics of a file exclude is not read. Other
        sources refuse it.
    categories : dict of str to list, optional
        The values of columns of strings and dictionaries; each has a column of zeros and ones,
        named ``"color=red"``. Default: those that a first pass over these columns finds, sorted.
    impute : dict of str to value, optional
        What stands in place of nulls, by column. Nulls of other columns are refused.
    drop_first : bool, default=True
        Whether the first category of a column has no column of its own: with an intercept, the
        columns of all of them depend on each other.

    Returns
    -------
    stream : Stream

    Raises
    ------
    ValueError
        If an argument does not fit the source. Errors in the rows are raised when they are read,
        and name the file, the row group and the column.
    ImportError
        If a package that the source needs is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlsgd import LeastSquaresRegressor
    >>> from fastlsgd.streaming import scan
    >>> table = np.random.default_rng(0).normal(size=(1000, 4))
    >>> table[:, 3] = table[:, :3] @ [1.0, 2.0, 3.0] + 5.0
    >>> model = LeastSquaresRegressor().fit_stream(scan(table, target=3, batch_rows=100))
    >>> model.coef_.round(6).tolist(), round(model.intercept_, 6)
    ([1.0, 2.0, 3.0], 5.0)
    """
    if batch_rows is not None:
        batch_rows = check.check_whole(batch_rows, "batch_rows", 1)
    drop_first = check.check_flag(drop_first, "drop_first")
    memory = DEFAULT_MEMORY if memory is None else check.check_whole(memory, "memory", 1)
    _check_filter(filter, source)
    of_tables = {"categories": categories, "impute": impute}
    if isinstance(source, (str, os.PathLike)) and not _is_url(source):
        path = Path(source)
        if not path.exists():
            raise FileNotFoundError(f"There is no file or folder {path}.")
        if path.suffix == ".npy":
            _refuse_options("an array", of_tables)
            return _of_array(mapped_file(path), target, weight, columns, path, batch_rows, memory)
        if path.suffix in SVMLIGHT:
            _refuse_options("a file of svmlight", of_tables)
            _refuse_target(target, weight, "a file of svmlight")
            d = None if columns is None else check.check_whole(columns, "columns", 1)
            return Stream(SvmlightSource(path, d, max(memory // 12, 1)), memory=memory)
    if isinstance(source, np.ndarray):
        _refuse_options("an array", of_tables)
        return _of_array(source, target, weight, columns, "array", batch_rows, memory)
    is_renamed = _is_pandas(source) and not has_text_labels(source)
    if is_renamed:
        chosen_by = Chosen(target, columns, weight, categories, impute)
        source, (target, columns, weight, categories, impute) = with_text_labels(source, chosen_by)
    found = table_of(source, filter)
    if found is None:
        if not (callable(source) or isinstance(source, Iterable)):
            raise StreamError(f"source can't be a {type(source).__name__}.")
        _refuse_options("batches of (X, y)", of_tables | {"columns": columns})
        told = {"batches": partial(_told_of_batches, source)}
        return Stream(_of_batches(source, target, weight), told, memory)
    types, make_pieces = found
    chosen = _chosen(types, target, weight, columns)
    pieces = make_pieces()
    _check_imputed(types, chosen, impute or {})
    values = _categories(types, chosen, categories or {}, pieces, impute or {})
    encoding = encoding_of(types, chosen, values, impute or {}, drop_first)
    _check_names(encoding.names)
    size = (len(encoding.names) + 1) * encoding.dtype.itemsize
    rows = rows_per_block(batch_rows, memory, size)
    made = TableSource(pieces, encoding, _targets(target), weight, rows)
    if is_renamed and not values:
        made.names = None  # as estimators have it for such frames in memory
    own = {"filter": str(filter), "encoding": hashlib.sha256(repr(encoding).encode()).hexdigest()}
    frame = partial(_told_of_frame, source)
    return Stream(made, _selection(target, weight, frame=frame, **own), memory)


def _check_names(names: list[str]) -> None:
    """Refuse columns of X that are none, or of which two have a name."""
    if not names:
        raise StreamError("There are no columns for X beside the target.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise StreamError(f"X would have two columns {twice!r}: rename one, or leave it out.")


def _check_filter(filter, source) -> None:
    """Refuse what is no expression of PyArrow, and sources of which all rows are read."""
    if filter is None:
        return
    if type(filter).__module__.partition(".")[0] != "pyarrow":
        raise StreamError(
            f"filter must be an expression such as pyarrow.dataset.field('year') > 2020, got "
            f"{check.shown(filter)}."
        )
    is_path = isinstance(source, (str, os.PathLike))
    is_file = is_path and not str(source).endswith((".npy", *SVMLIGHT))
    if not (is_file or _are_paths(source) or hasattr(source, "get_fragments")):
        what = f"the file {source}" if is_path else f"a {type(source).__name__}"
        raise StreamError(
            f"filter is for files of tables and datasets of PyArrow, not for {what}: leave out its "
            f"rows before."
        )


def _refuse_options(what: str, options: Mapping[str, Any]) -> None:
    """Refuse options that another kind of source has."""
    for name, value in options.items():
        if value:
            raise StreamError(f"{name} is for columns of tables, not for {what}.")


def _is_pandas(source) -> bool:
    return type(source).__module__.partition(".")[0] == "pandas"


def _is_url(source) -> bool:
    return isinstance(source, str) and "://" in source


def _of_array(array, target, weight, columns, place, batch_rows, memory) -> Stream:
    source = array_source(array, target, weight, columns, str(place))
    if isinstance(place, Path):
        source.watch(place)
        if array.flags.c_contiguous:
            source.file = place
    size = len(source.columns) * array.dtype.itemsize
    own = {"columns": source.columns.tolist(), "array": partial(_told_of_rows, array)}
    rows = rows_per_block(batch_rows, memory, size)
    return Stream(source.divided(rows), _selection(target, weight, **own), memory)


def _selection(target, weight, **more) -> dict[str, Any]:
    """Return what was chosen from a source, for comparison with that of a checkpoint.

    What takes a look at rows is a function, for only a fit with a checkpoint asks for it.
    """
    return {"target": partial(_told, target), "weight": partial(_told, weight), **more}


def _told(value):
    """Return the name or number of a column; arrays are told by some of their numbers."""
    if value is None or isinstance(value, (str, os.PathLike, int, np.integer)):
        return str(value)
    array = np.asanyarray(value)
    some = np.asarray(array[:: max(len(array) // MOST_TOLD, 1)])
    return f"{array.shape} {hashlib.sha256(str(some.tolist()).encode()).hexdigest()}"


def _spread(n: int) -> np.ndarray:
    """Return the numbers of some of n rows, evenly spaced."""
    return np.unique(np.linspace(0, n - 1, min(n, TOLD_ROWS)).astype(int))


def _told_of_rows(array) -> str:
    """Return what tells an array in memory, or mapped from a file, from others of its shape."""
    n, d = array.shape
    rows = _spread(n)
    some = np.asarray(array[rows][:, :: 1 + d // MOST_TOLD])
    content = str(some.tolist()).encode() if some.dtype.hasobject else some.tobytes()
    return f"{array.shape} {array.dtype} {hashlib.sha256(content).hexdigest()}"


def _told_of_frame(source) -> str | None:
    """Return what tells a frame or table in memory from others; None for what is not in memory."""
    if hasattr(source, "collect") or not hasattr(source, "shape"):
        return None
    n = int(source.shape[0])
    rows = _spread(n)
    some: Any
    if hasattr(source, "iloc"):
        some = source.iloc[rows].astype(object).to_numpy().tolist()
    elif hasattr(source, "to_pylist"):  # `take` of PyArrow is not for views of strings
        some = [source.slice(row, 1).to_pylist()[0] for row in rows.tolist()]
    else:
        some = source[rows].rows()
    return f"{source.shape} {hashlib.sha256(str(some).encode()).hexdigest()}"


def _told_of_batches(source) -> list[str] | None:
    """Return what tells a list of batches from others; None for what makes them when asked."""
    if not isinstance(source, (list, tuple)):
        return None
    step = 1 + len(source) // TOLD_BATCHES
    dense = [batch[0] for batch in source[::step] if isinstance(batch, (list, tuple)) and batch]
    return [_told_of_rows(X) for X in dense if isinstance(X, np.ndarray) and X.ndim == 2]


def _refuse_target(target, weight, what: str) -> None:
    if target is not None or weight is not None:
        raise StreamError(f"target and weight are not for {what}, which has its own.")


def _of_batches(source, target, weight) -> Source:
    _refuse_target(target, weight, "batches of (X, y)")
    if callable(source):
        return BatchSource(source)
    if hasattr(source, "tocsr"):
        raise StreamError("A sparse matrix is a batch: scan([(X, y)]).")
    if iter(source) is source:
        raise StreamError(
            "source can be gone through only once: give a list of batches, or a function that "
            "returns an iterator of them."
        )
    return BatchSource(partial(iter, source), is_ready=isinstance(source, (list, tuple)))


def table_of(source, filters=None) -> tuple[dict[str, Any], Callable[[], list[Piece]]] | None:
    """Return the types of a table's columns, and a function that makes pieces; None for others."""
    module = type(source).__module__.partition(".")[0]
    if _is_pandas(source):
        return types_of_pandas(source), lambda: pieces_of_pandas(source)
    if module == "polars":
        return types_of_polars(source), lambda: pieces_of_polars(source)
    if module == "pyarrow" and type(source).__name__ == "RecordBatch":
        source = arrow().Table.from_batches([source])
    if module == "pyarrow" and hasattr(source, "to_batches") and hasattr(source, "select"):
        return _types(source.schema), lambda: pieces_of_table(source)
    is_dataset = hasattr(source, "get_fragments")
    if not (is_dataset or isinstance(source, (str, os.PathLike)) or _are_paths(source)):
        return None
    dataset = source if is_dataset else _dataset(source)
    return _types(dataset.schema), lambda: pieces_of_dataset(dataset, filters)


def _types(schema) -> dict[str, Any]:
    return dict(zip(schema.names, schema.types, strict=True))


def _are_paths(source) -> bool:
    return (
        isinstance(source, (list, tuple))
        and bool(source)
        and all(isinstance(item, (str, os.PathLike)) for item in source)
    )


def _dataset(source):
    """Return the dataset of a file, some files or a folder, whose format the names tell."""
    pa = arrow()
    paths = source if isinstance(source, (list, tuple)) else [source]
    paths = [os.fspath(path) for path in paths]
    for path in paths:
        _check_path(path)
    first = paths[0]
    if os.path.isdir(first):
        inside = sorted(str(path) for path in Path(first).rglob("*") if path.is_file())
        if not inside:
            raise StreamError(f"{first}: there are no files in this folder.")
        first = next((path for path in inside if _format(path) is not None), first)
    try:
        return pa.dataset.dataset(
            paths if len(paths) > 1 else paths[0],
            format=_format(first) or "parquet",
            partitioning="hive" if len(paths) == 1 else None,
        )
    except (OSError, pa.ArrowException) as error:
        wrong = file_of(error) or first
        known = "" if _format(wrong) else f". Names of other formats end with {ENDINGS}."
        raise StreamError(
            f"{wrong}: this can't be read as {_format(first) or 'parquet'}: "
            f"{reason(error).removesuffix('.') if known else reason(error)}{known}"
        ) from error


def _check_path(path: str) -> None:
    """Refuse what is neither a file nor a folder: of a pipe, rows could be read only once."""
    if _is_url(path):
        return
    if not os.path.exists(path):
        raise FileNotFoundError(f"There is no file or folder {path}.")
    if not (os.path.isfile(path) or os.path.isdir(path)):
        raise StreamError(f"{path}: this is neither a file nor a folder.")


def _format(path: str) -> str | None:
    parts = [suffix for suffix in Path(path).suffixes if suffix not in (".gz", ".bz2", ".zst")]
    return FORMATS.get(parts[-1]) if parts else None


def _targets(target):
    return target if isinstance(target, str) else list(target)


def _chosen(types, target, weight, columns) -> list[str]:
    """Return the columns of X, after checks of all names."""
    names = [target] if isinstance(target, str) else target
    if (
        not isinstance(names, (list, tuple))
        or not names
        or not all(isinstance(name, str) for name in names)
    ):
        raise StreamError(
            f"target must be the name of a column, or a list of names, got {check.shown(target)}."
        )
    own = [*names, *([weight] if weight is not None else [])]
    _refuse_unknown(own, types, "target or weight")
    if columns is None:
        return [name for name in types if name not in own]
    if isinstance(columns, str) or not all(isinstance(name, str) for name in columns):
        raise StreamError(f"columns must be a list of names, got {check.shown(columns)}.")
    columns = list(columns)
    _refuse_unknown(columns, types, "columns")
    if len(set(columns)) < len(columns):
        raise StreamError("columns names a column twice.")
    return columns


def _refuse_unknown(names, known, what: str) -> None:
    for name in names:
        if name not in known:
            listed = ", ".join(map(repr, list(known)[:20]))
            raise StreamError(f"{what}: there is no column {name!r} among {listed}.")


def _check_imputed(types, chosen: list[str], impute: Mapping[str, Any]) -> None:
    """Refuse values of another kind than those of their column."""
    _refuse_unknown(impute, chosen, "impute")
    for name, value in impute.items():
        kind = getattr(types[name], "value_type", types[name])
        wanted = "a string" if is_text(kind) else "a number" if is_numeric(kind) else None
        expected = str if is_text(kind) else (Real, Decimal, np.number, np.bool_)
        if wanted is not None and not isinstance(value, expected):
            raise StreamError(
                f"impute: column {name!r} has type {types[name]} and takes {wanted}, got "
                f"{check.shown(value)}."
            )


def _categories(types, chosen, given, pieces: list[Piece], impute) -> dict[str, list[Any]]:
    """Return the categories of columns that have them, by a pass over those that are not given."""
    _refuse_unknown(given, chosen, "categories")
    for name, values in given.items():
        if isinstance(values, (str, bytes)) or len(set(values)) < len(list(values)):
            raise StreamError(
                f"categories: those of {name!r} must be a list of different values, "
                f"got {check.shown(values)}."
            )
    found: dict[str, set] = {
        name: set(given.get(name, ()))
        for name in chosen
        if name in given or is_category(types[name])
    }
    open_names = [name for name in found if name not in given]
    for place, batches in pieces if open_names else ():
        for batch in batches(open_names, 2**20):
            for name in open_names:
                column = plain(batch.column(name).unique())
                values = column.to_pylist()
                if any(value != value for value in values):
                    raise StreamError(f"{place}: column {name!r} has NaN, which is no category.")
                new = {value for value in values if value is not None}
                one_of_each = [next(iter(group)) for group in (found[name], new) if group]
                if len({isinstance(value, str) for value in one_of_each}) > 1:
                    before = "strings" if isinstance(one_of_each[0], str) else "numbers"
                    raise StreamError(
                        f"{place}: column {name!r} has type {column.type}, "
                        f"but {before} in files before it."
                    )
                found[name] |= new
                if len(found[name]) > MOST_CATEGORIES:
                    raise StreamError(
                        f"{place}: column {name!r} has more than {MOST_CATEGORIES} categories."
                    )
    for name in open_names:
        if name in impute:
            found[name].add(impute[name])
    return {
        name: list(given[name]) if name in given else sorted(values)
        for name, values in found.items()
    }
