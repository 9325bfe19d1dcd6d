"""Arrays and files of arrays, svmlight files, and batches that a caller makes."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from io import BytesIO
from mmap import mmap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from .._validation import as_array
from .source import StreamError, distinct
from .unchanged import Unchanged


class ArraySource:
    """Rows of an array, be it mapped from a file, of which y is a column or an array of its own."""

    def __init__(self, array: Any, y: Any, weight: Any, columns: np.ndarray, place: str) -> None:
        self.array, self.y, self.weight = array, y, weight
        self.columns, self.place = columns, place
        self.names: list[str] | None = None
        self.n_features: int | None = len(columns)
        self.rows = 1  # until `divided` says otherwise
        # That of `array`, where rows lie together: they are read from it, since pages of a map
        # would count as memory of this process for as long as it lives.
        self.file: Path | None = None
        self.files: list[Unchanged] = []  # of the caller's paths: those of a map are his own

    @property
    def is_ready(self) -> bool:
        """Whether blocks are views of arrays in memory."""
        parts = [part for part in (self.array, self.y, self.weight) if hasattr(part, "shape")]
        return isinstance(_as_slice(self.columns), slice) and not any(
            isinstance(part, np.memmap) for part in parts
        )

    def watch(self, *paths: Any) -> None:
        """Refuse to read on once one of these is another file; what is no path is left out."""
        own = [path for path in paths if isinstance(path, (str, os.PathLike))]
        self.files += [Unchanged(path) for path in own]

    def _check_files(self) -> None:
        for file in self.files:
            file.check()

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes for a pickle: of arrays that are mapped from files, the places."""
        own = {name: _unmapped(getattr(self, name)) for name in ("array", "y", "weight")}
        return self.__dict__ | own

    def __setstate__(self, state: dict[str, Any]) -> None:
        own = {name: _mapped(state[name]) for name in ("array", "y", "weight")}
        self.__dict__.update(state | own)

    def divided(self, rows: int) -> ArraySource:
        """Set how many rows a piece has."""
        self.rows = rows
        return self

    def pieces(self) -> Sequence[str]:
        starts = range(0, self.array.shape[0], self.rows)
        return [f"{self.place}, rows from {start}" for start in starts]

    def read(self, piece: int) -> Iterator[tuple[Any, Any, Any, str]]:
        self._check_files()  # before pages of a map are read: a shorter file would end the process
        rows = slice(piece * self.rows, (piece + 1) * self.rows)
        part = self.array[rows] if self.file is None else self._read_rows(rows)
        is_whole = len(self.columns) == self.array.shape[1]
        X = part if is_whole else part[:, _as_slice(self.columns)]
        if isinstance(part, np.memmap):
            X = np.array(X)  # so that reading the file is done here, ahead of the computation
        y, s = (_rows_of(own, part, rows) for own in (self.y, self.weight))
        self._check_files()
        yield X, y, s, f"{self.place}, rows from {rows.start}"

    def _read_rows(self, rows: slice) -> np.ndarray:
        """Return rows of the file."""
        assert self.file is not None
        n, d = self.array.shape
        count = (min(rows.stop, n) - rows.start) * d
        with open(self.file, "rb") as file:
            file.seek(self.array.offset + rows.start * d * self.array.itemsize)
            found = np.fromfile(file, self.array.dtype, count)
        if len(found) < count:
            self._check_files()
            raise StreamError(f"{self.place}, rows from {rows.start}: the file has become shorter.")
        return found.reshape(-1, d)

    def labels(self) -> np.ndarray:
        self._check_files()
        y = self.array[:, self.y] if isinstance(self.y, int) else self.y
        starts = range(0, self.array.shape[0], self.rows)
        return distinct(np.asarray(y[start : start + self.rows]) for start in starts)


class _MapOfFile(NamedTuple):
    """The arguments of `np.memmap` for the numbers of a file."""

    filename: str
    dtype: np.dtype
    mode: str
    offset: int
    shape: tuple[int, ...]
    order: str


def _unmapped(array: Any) -> Any:
    """Return where an array is mapped from, and other arrays, and parts of maps, as they are."""
    if not isinstance(array, np.memmap) or not isinstance(array.base, mmap):
        return array
    order = "C" if array.flags.c_contiguous else "F"
    path = os.path.abspath(array.filename)
    return _MapOfFile(path, array.dtype, "r", array.offset, array.shape, order)


def _mapped(place: Any) -> Any:
    return np.memmap(**place._asdict()) if isinstance(place, _MapOfFile) else place


def _rows_of(own: Any, part: np.ndarray, rows: slice) -> np.ndarray | None:
    """Return targets or weights: none, a column of these rows, or rows of an array of their own."""
    if own is None:
        return None
    found = part[:, own] if isinstance(own, int) else own[rows]
    return np.array(found) if isinstance(found, np.memmap) else np.asarray(found)


def _as_slice(columns: np.ndarray) -> slice | np.ndarray:
    """Return the columns as a slice where they are contiguous, so that they are not copied."""
    first, last = int(columns[0]), int(columns[-1])
    is_run = last - first + 1 == len(columns) and (np.diff(columns) == 1).all()
    return slice(first, last + 1) if is_run else columns


def mapped_file(path: str | os.PathLike) -> np.memmap:
    """Return the array of a .npy file, mapped; it may have no objects, whose bytes are a program.

    Raises
    ------
    StreamError
        If it is no such file, or has fewer numbers than it says.
    """
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError) as error:
        why = str(error).rstrip(".")
        raise StreamError(f"{os.fspath(path)}: this is no intact .npy file: {why}.") from error


def array_source(array: Any, target: Any, weight: Any, columns: Any, place: str) -> ArraySource:
    """Return the source of an array of two dimensions, after checks of its arguments."""
    if array.ndim != 2:
        raise StreamError(f"{place} must have two dimensions, got shape {array.shape}.")
    n, d = array.shape
    y, s = (
        _column_or_array(value, n, d, name, place)
        for value, name in ((target, "target"), (weight, "weight"))
    )
    taken = {own for own in (y, s) if isinstance(own, int)}
    if columns is None:
        chosen = np.array([j for j in range(d) if j not in taken], dtype=int)
    else:
        chosen = np.asarray(columns)
        if chosen.ndim != 1 or chosen.dtype.kind not in "iu" or not len(chosen):
            raise StreamError("columns of an array must be numbers of columns.")
        if chosen.min() < 0 or chosen.max() >= d:
            raise StreamError(
                f"columns must lie in [0, {d}), got {chosen.min()} to {chosen.max()}."
            )
    if len(chosen) == 0:
        raise StreamError(f"{place} has no columns beside the target.")
    source = ArraySource(array, y, s, chosen, place)
    source.watch(target, weight)
    return source


def _column_or_array(value, n: int, d: int, name: str, place: str):
    if value is None:
        if name == "target":
            raise StreamError("target must be the number of a column, or an array of targets.")
        return None
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        if not -d <= value < d:
            raise StreamError(f"{name}={value} is no column of {place}, which has {d}.")
        return int(value) % d
    if isinstance(value, str) and not value.endswith(".npy"):
        raise StreamError(
            f"{name}={value!r} is the name of a column, but {place} has no names: give the number "
            f"of the column, from 0 to {d - 1}, or the {name}s as an array or a .npy file."
        )
    if isinstance(value, (str, os.PathLike)) and not os.path.exists(value):
        raise FileNotFoundError(f"{name}: there is no file {os.fspath(value)}.")
    array = mapped_file(value) if isinstance(value, (str, os.PathLike)) else value
    if not isinstance(array, np.memmap):
        array = as_array(array, name)
    if array.shape[:1] != (n,):
        raise StreamError(f"{name} must have {n} rows as {place} has, got shape {array.shape}.")
    return array


class BatchSource:
    """(X, y) or (X, y, sample_weight), from an iterable that can be gone through again."""

    names: list[str] | None = None
    n_features: int | None = None

    def __init__(self, batches: Callable[[], Iterator[Any]], is_ready: bool = False) -> None:
        self.batches, self.is_ready = batches, is_ready

    def __getstate__(self) -> dict[str, Any]:
        try:
            if not isinstance(self.batches, partial):  # which has batches, perhaps very many
                pickle.dumps(self.batches)
        except Exception as error:
            raise StreamError(
                f"A stream of batches can be pickled only if its source can, but {error}: give a "
                f"list of arrays, files, or a function that can be imported by its name."
            ) from error
        return self.__dict__

    def pieces(self) -> Sequence[str]:
        return ["batches"]

    def read(self, piece: int) -> Iterator[tuple[Any, Any, Any, str]]:
        batches = self.batches()
        if not hasattr(batches, "__iter__"):
            raise StreamError(
                f"source must return an iterator of batches, got a {type(batches).__name__}."
            )
        for number, batch in enumerate(batches):
            if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
                raise StreamError(
                    f"batch {number}: a batch must be (X, y) or (X, y, sample_weight), got a "
                    f"{type(batch).__name__}."
                )
            X, y, *rest = (_as_array(part, number) for part in batch)
            if not hasattr(X, "shape"):
                raise StreamError(f"batch {number}: X must be a matrix, got {type(X).__name__}.")
            if len(X.shape) != 2 and X.shape != (0,):
                raise StreamError(f"batch {number}: X must be a matrix, got shape {X.shape}.")
            if X.shape[:1] == (0,):
                continue
            yield X, y, rest[0] if rest else None, f"batch {number}"

    def labels(self) -> np.ndarray:
        return distinct(np.asarray(y) for _, y, _, _ in self.read(0))


def _as_array(part: Any, number: int) -> Any:
    """Return X, y or weights of a batch; lists become arrays."""
    if part is None or np.isscalar(part) or hasattr(part, "shape"):
        return part
    try:
        return np.asarray(part)
    except ValueError as error:
        raise StreamError(f"batch {number}: {error}") from error


MOST = 2**31 - 1  # columns of a file whose number of columns is not known yet


class SvmlightSource:
    """A text file of sparse rows, read some bytes at a time by scikit-learn."""

    names: list[str] | None = None
    is_ready = False

    def __init__(self, path: Path, n_features: int | None, n_bytes: int) -> None:
        self.path, self.n_bytes = path, n_bytes
        self.size, self.state = path.stat().st_size, Unchanged(path)
        self.n_features: int | None = n_features
        if n_features is None:
            parts = (part for k in range(len(self.pieces())) for part in self._parts(k, MOST))
            self.n_features = 1 + max((int(X.indices.max()) for X, *_ in parts if X.nnz), default=0)

    def pieces(self) -> Sequence[str]:
        return [f"{self.path}, bytes from {at}" for at in range(0, self.size, self.n_bytes)]

    def read(self, piece: int) -> Iterator[tuple[Any, Any, Any, str]]:
        yield from self._parts(piece, self.n_features)

    def _parts(self, piece: int, n_features: int | None):
        from sklearn.datasets import load_svmlight_file

        start = piece * self.n_bytes
        place = f"{self.path}, bytes from {start}"
        self.state.check()
        try:
            X, y = load_svmlight_file(
                str(self.path), n_features=n_features, offset=start, length=self.n_bytes
            )
        except (ValueError, OverflowError) as error:
            if "no samples" in str(error).lower():
                return
            raise StreamError(f"{self._wrong_line(start, n_features)}: {error}") from error
        if X.shape[0]:
            yield sparse.csr_array(X), y, None, place

    def _wrong_line(self, start: int, n_features: int | None) -> str:
        """Return the place of the first line of a piece that can't be read, found by halving."""
        from sklearn.datasets import load_svmlight_file

        with open(self.path, "rb") as file:
            file.seek(start)
            at = start + (len(file.readline()) if start else 0)  # the piece before has this line
            file.seek(at)
            lines = file.readlines(max(1, start + self.n_bytes - at))
        while len(lines) > 1:
            first = lines[: len(lines) // 2]
            try:
                load_svmlight_file(BytesIO(b"".join(first)), n_features=n_features)
            except (ValueError, OverflowError) as error:
                if "no samples" not in str(error).lower():
                    lines = first
                    continue
            at += sum(map(len, first))
            lines = lines[len(first) :]
        return f"{self.path}, line at byte {at}"

    def labels(self) -> np.ndarray:
        return distinct(y for k in range(len(self.pieces())) for _, y, _, _ in self.read(k))
