"""Files that are written at once or not at all, and read without trusting them.

What is common to files of moments, checkpoints and models. Nothing in a file is ever executed.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any


class WrongFile(Exception):
    """What is wrong with a file."""


def replace_file(path: str | PathLike, content: bytes) -> None:
    """Write a file at once or not at all: whoever reads it sees all of the old or of the new.

    Its permissions are those of any new file, which `tempfile` would keep from all other users.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


_BINARY = getattr(os, "O_BINARY", 0)  # of Windows


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
