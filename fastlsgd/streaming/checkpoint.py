"""Checkpoints: how far a pass over a stream has come, so that it can go on after a crash.

A checkpoint is written after each block, at once or not at all. It has the position of the next
block, and all that the blocks before have left, bit for bit, so that a pass that goes on ends with
the same bits as one without interruption. It belongs to one stream and one kind of fit, which it
describes; others refuse it.
"""

from __future__ import annotations

import hashlib
import json
import os
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from .._checked_files import WrongFile, replace_file, safetensors_package, unfinished_files
from .._moments_file import content, described, fill
from ..moments import Moments
from .source import StreamError
from .state import decoded, encoded
from .stream import Stream

FORMAT, VERSION = "fastlsgd.checkpoint", 1
STATE_FORMAT = "fastlsgd.checkpoint.state"

Position = tuple[int, int]


def description(stream: Stream, **fit: Any) -> dict[str, Any]:
    """Return what makes a stream and a fit, as JSON has it, for comparison with a checkpoint's."""
    pieces = stream.source.pieces()
    told = {
        "pieces": hashlib.sha256("\n".join(pieces).encode()).hexdigest(),
        "rows": getattr(stream.source, "rows", None),
        "columns": stream.feature_names,
        **stream.told(),
        **fit,
    }
    return json.loads(json.dumps(told, default=str))


class MomentsCheckpoint:
    """Moments of the rows before a position, in a file of the format safetensors."""

    def __init__(self, path: str | PathLike, told: dict[str, Any]) -> None:
        self.path, self.told = Path(path), told

    def save(self, position: Position, parts: list[Moments]) -> None:
        headers: list[dict | None] = []
        arrays: dict[str, np.ndarray] = {}
        for k, part in enumerate(parts):
            header = None
            if part.n_samples:
                header, own = described(part)
                arrays |= {f"{k}.{name}": array for name, array in own.items()}
            headers.append(header)
        header = {
            "version": VERSION,
            "told": self.told,
            "position": list(position),
            "parts": headers,
        }
        text = json.dumps(header)
        header_of = {FORMAT: json.dumps({"text": text, "sha256": _digest(text)})}
        package = safetensors_package("Checkpoints")
        replace_file(self.path, package.numpy.save(arrays, header_of))

    def load(self, factor: str, count: int) -> tuple[Position, list[Moments]]:
        """Return the position to go on from and the moments so far: none without a file.

        Raises
        ------
        StreamError
            If the file is damaged, or is of another stream or fit.
        """
        parts = [Moments(factor=factor) for _ in range(count)]
        if not self.path.exists():
            return (0, 0), parts
        try:
            outer, arrays = content(self.path, FORMAT)
            text = outer.get("text")
            if not isinstance(text, str) or outer.get("sha256") != _digest(text):
                raise WrongFile("the checksum of the header does not match.")
            header = json.loads(text)
            self._check(header, count)
            for k, (part, own) in enumerate(zip(parts, header["parts"], strict=True)):
                prefix = f"{k}."
                named = {
                    name.removeprefix(prefix): array
                    for name, array in arrays.items()
                    if name.startswith(prefix)
                }
                if own is not None:
                    fill(part, own, named)
        except WrongFile as error:
            raise StreamError(f"checkpoint {self.path}: {error}") from error
        return tuple(header["position"]), parts

    def _check(self, header: dict, count: int) -> None:
        if header.get("version") != VERSION:
            raise WrongFile(f"version {header.get('version')!r:.40} can't be read.")
        compare(header["told"], self.told)
        if len(header["parts"]) != count:
            raise WrongFile("it has another number of folds.")

    def remove(self) -> None:
        _remove(self.path)


class StateCheckpoint:
    """The state of a fit that is more than sums, in a file of the format safetensors.

    Nothing in the file is executed: `state.py` says what it may hold.
    """

    def __init__(self, path: str | PathLike, told: dict[str, Any]) -> None:
        self.path, self.told = Path(path), told

    def save(self, state: dict[str, Any]) -> None:
        """Write the state.

        Raises
        ------
        StreamError
            If it has parts that no file can hold, such as functions.
        """
        try:
            tree, arrays = encoded(state)
        except TypeError as error:
            raise StreamError(f"checkpoint {self.path}: {error}.") from error
        header = {"version": VERSION, "told": self.told, "state": tree}
        text = json.dumps(header)
        outer = {"text": text, "sha256": _digest_of_state(text, arrays)}
        metadata = {STATE_FORMAT: json.dumps(outer)}
        replace_file(self.path, safetensors_package("Checkpoints").numpy.save(arrays, metadata))

    def load(self) -> dict[str, Any] | None:
        """Return the state, or None without a file.

        Raises
        ------
        StreamError
            If the file is damaged, or is of another stream or fit.
        """
        if not self.path.exists():
            return None
        try:
            outer, arrays = content(self.path, STATE_FORMAT)
            text = outer.get("text")
            if not isinstance(text, str) or outer.get("sha256") != _digest_of_state(text, arrays):
                raise WrongFile("the checksum does not match: the file is damaged or was changed.")
            header = json.loads(text)
            if header.get("version") != VERSION:
                raise WrongFile(f"version {header.get('version')!r:.40} can't be read.")
            compare(header["told"], self.told)
            return decoded(header["state"], arrays)
        except WrongFile as error:
            raise StreamError(f"checkpoint {self.path}: {error}") from error

    def remove(self) -> None:
        _remove(self.path)


def _remove(path: Path) -> None:
    """Remove a checkpoint, and the unfinished files beside it that killed processes have left."""
    path.unlink(missing_ok=True)
    for left in unfinished_files(path):
        left.unlink(missing_ok=True)


def compare(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Refuse a checkpoint of another stream or fit."""
    for name, value in expected.items():
        if found.get(name) != value:
            before, now = _where_they_differ(found.get(name), value)
            raise WrongFile(
                f"it belongs to another fit: {name} was {before}, and is {now}. "
                "Remove the file to begin anew."
            )


def _where_they_differ(before: Any, now: Any) -> tuple[str, str]:
    """Return both as text in one line, of long ones what stands about the first difference."""
    texts = [" ".join((x if isinstance(x, str) else repr(x)).split()) for x in (before, now)]
    pairs = enumerate(zip(*texts, strict=False))
    same = next((k for k, (a, b) in pairs if a != b), min(map(len, texts)))
    start = max(same - 40, 0) if max(map(len, texts)) > 80 else 0
    parts = [f"{'...' if start else ''}{x[start : start + 80]}" for x in texts]
    cut = [part + "..." * (start + 80 < len(x)) for part, x in zip(parts, texts, strict=True)]
    return cut[0], cut[1]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _digest_of_state(text: str, arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def check_path(checkpoint) -> None:
    """Refuse a path to which nothing can be written, before any work."""
    if checkpoint is None:
        return
    if not isinstance(checkpoint, (str, os.PathLike)):
        raise StreamError(f"checkpoint must be a path, got type {type(checkpoint).__name__}.")
    if Path(checkpoint).is_dir():
        raise IsADirectoryError(f"checkpoint: {checkpoint} is a folder.")
    folder = Path(checkpoint).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"checkpoint: there is no folder {folder}.")
