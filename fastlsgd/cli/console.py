"""What all commands share: errors in one line, exit codes, and lines of a report."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

EXIT_FAILED, EXIT_USAGE = 1, 2
# A message of other software, such as a row of a file that it could not read, is cut off here.
LONGEST = 1000


class CommandError(Exception):
    """An error that the user can correct; it is printed in one line, without a traceback."""

    def __init__(self, message: object, exit_code: int):
        super().__init__(" ".join(str(message).split()))
        self.exit_code = exit_code


def say(line: str) -> None:
    """Print at once, even if stdout's encoding lacks a character, as of a directory's name."""
    encoding = sys.stdout.encoding or "utf-8"
    print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def complain(kind: str, message: object) -> None:
    """Print an error or a warning to stderr, in one line."""
    ProgressLine.clear()
    text = in_line(" ".join(str(message).split()))
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
    line = f"fastlsgd: {kind}: {text}"
    encoding = sys.stderr.encoding or "utf-8"
    print(line.encode(encoding, "backslashreplace").decode(encoding), file=sys.stderr, flush=True)


def in_line(name: object) -> str:
    """Return a text without characters that would break its line, or control the terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(name))


def in_options(message: object) -> str:
    """Return a message of the library with the option of the command that it advises."""
    text = re.sub(r"take impute=\{'(.*)': value\}", r"take --impute '\1=VALUE'", str(message))
    return text.replace("collect Moments(factor='qr')", "take --solver qr").replace(
        "take solver='qr'", "take --solver qr"
    )


def save_figure(figure, path: Path) -> None:
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:  # ValueError: a format that Matplotlib does not know
        reason = getattr(error, "strerror", None) or error
        raise CommandError(f"can't write {str(path)!r}: {reason}", EXIT_FAILED) from error


def check_output(path: str, option: str) -> None:
    """Check that a file can be written; it is not touched.

    Raises
    ------
    CommandError
        If it can't.
    """
    target = Path(path)
    if not path or target.is_dir():
        raise CommandError(f"{option} {path!r} is no name of a file", EXIT_USAGE)
    check_folder(target.resolve().parent, f"{option} {path!r}")
    if target.exists() and not os.access(target, os.W_OK):
        raise CommandError(f"{option}: can't overwrite {path!r}", EXIT_USAGE)


def refuse_overwriting(outputs: Sequence[str | None], inputs: Sequence[str]) -> None:
    """Raise CommandError where a file to write is one to read, or two are the same."""
    taken = {os.path.realpath(path): path for path in inputs}
    for output in outputs:
        if output is not None:
            real = os.path.realpath(output)
            if real in taken:
                raise CommandError(f"{output!r} would overwrite {taken[real]!r}", EXIT_USAGE)
            taken[real] = output


def check_folder(folder: Path, what: str) -> None:
    """Raise CommandError unless files can be created in a folder.

    Permission bits do not show read-only disks or full quotas, but creating a file does.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CommandError(f"can't write to {what}: {reason}", EXIT_USAGE) from error


def check_picture(path: str | None) -> None:
    """Check that a picture, if one is asked for, can be drawn and written."""
    if path is None:
        return
    check_output(path, "--plot")
    if find_spec("matplotlib") is None:
        raise CommandError('--plot needs Matplotlib: pip install "fastlsgd[plot]"', EXIT_FAILED)


class ProgressLine:
    """How far a long pass has come, in one line of a terminal; nothing where stderr is none."""

    shown = False  # whether the line is there

    def __init__(self, what: str) -> None:
        self.what, self.begun, self.last = what, time.monotonic(), 0.0
        self.is_seen = sys.stderr.isatty()

    def __call__(self, progress: object) -> None:
        now = time.monotonic()
        if self.is_seen and now - self.begun > 1.0 and now - self.last > 0.2:
            self.last, ProgressLine.shown = now, True
            print(f"\r\x1b[K{self.what}: {progress}", end="", file=sys.stderr, flush=True)

    @staticmethod
    def clear() -> None:
        if ProgressLine.shown:
            ProgressLine.shown = False
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
