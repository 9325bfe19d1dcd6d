"""Files that are written at once or not at all, and read without trusting them.

What is common to files of moments, checkpoints and models. Nothing in a file is ever executed.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

MODEL_SUFFIXES = (".json", ".safetensors")


class WrongFile(Exception):
    """What is wrong with a file."""


@contextmanager
def file_in_place_of(path: str | PathLike) -> Iterator[BinaryIO]:
    """Give a new file that takes the place of `path` once it is complete, or not at all.

    Whoever reads `path` sees all of the old file or of the new. Permissions are those of any new
    file, which `tempfile` would keep from all other users.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        file = open(temporary, "xb")  # noqa: SIM115
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and not error.filename:  # a full disk
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise


def unfinished_files(path: str | PathLike) -> list[Path]:
    """Return the new files for `path` that processes which were killed have left."""
    target = Path(os.path.realpath(path))
    name = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{16}}")
    try:
        return [file for file in target.parent.iterdir() if name.fullmatch(file.name)]
    except OSError:  # a folder that may be written to, but not listed
        return []


def replace_file(path: str | PathLike, content: bytes) -> None:
    """Write a file at once or not at all."""
    with file_in_place_of(path) as file:
        file.write(content)


def model_suffix(path: str | PathLike) -> str:
    """Return the suffix of the name of a model file, which tells its form.

    Raises
    ------
    ValueError
        If there is none that is known.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in MODEL_SUFFIXES:
        raise ValueError(
            f"{os.fspath(path)}: the name of a model file must end in "
            f"{' or '.join(MODEL_SUFFIXES)}, which tells its form."
        )
    return suffix


def suffix_of_model_that_exists(path: str | PathLike) -> str:
    """Return the suffix of a model file that is to be read.

    Raises
    ------
    ValueError
        If there is none that is known.
    FileNotFoundError
        If there is no such file.
    """
    suffix = model_suffix(path)
    if not Path(path).exists():
        raise FileNotFoundError(f"There is no file {os.fspath(path)}.")
    return suffix


def safetensors_package(what: str) -> Any:
    """Return the package, or say how to install it for files of this kind."""
    try:
        import safetensors.numpy

        return safetensors
    except ImportError as error:
        raise ImportError(
            f'{what} need the package safetensors: pip install "fastlsgd[streams]".'
        ) from error


@contextmanager
def safetensors_explained(package) -> Iterator[None]:
    """Have errors of the package say that the file is damaged."""
    try:
        yield
    except (package.SafetensorError, TypeError, KeyError, ValueError) as error:
        raise WrongFile(f"this is no intact safetensors file ({error}).") from error
