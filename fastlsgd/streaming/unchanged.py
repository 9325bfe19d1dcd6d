"""Files that must stay as they were when their stream was made.

The footer of a Parquet file and the header of a .npy file are read once. If another file takes
their place, its bytes would be read at places where other numbers stood, mostly without an error.
"""

from __future__ import annotations

import os

from .source import StreamError


class Unchanged:
    """Knows a file again by its size and the time of its last change.

    Parameters
    ----------
    path : path or None
        None, and what is no file of this machine, is not watched.
    """

    def __init__(self, path: str | os.PathLike | None) -> None:
        self.path = path
        self.stamp = None if path is None else _stamp(path)

    def check(self) -> None:
        """Raise StreamError if the file is another one now, or is gone."""
        if self.stamp is None or self.path is None:
            return
        now = _stamp(self.path)
        if now != self.stamp:
            what = "is gone" if now is None else "has changed since the stream was made"
            raise StreamError(f"{os.fspath(self.path)}: the file {what}: scan it again.")


def _stamp(path: str | os.PathLike) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns
