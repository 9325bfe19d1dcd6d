"""The command ``fastlsgd``: fits of tables from the shell, a demo, and a report of versions.

Only what parses the command line is imported here, so that ``fastlsgd --version`` is quick.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from .._interrupted_imports import EXIT_INTERRUPTED
from .console import EXIT_FAILED, CommandError, complain, in_options
from .options import parser

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after the command's name. Default: those of the process.

    Returns
    -------
    exit_code : int
        0: done; 1: data, a model, a file or a backend failed; 2: wrong arguments; 130: interrupted.

    Examples
    --------
    >>> from fastlsgd.cli import main
    >>> main(["demo", "--backend", "abacus"])
    2
    """
    try:
        with warnings.catch_warnings():
            arguments = parser().parse_args(argv)
            if arguments.run_quietly:
                warnings.showwarning = _warned
            arguments.run(arguments)
        sys.stdout.flush()
        return 0
    except SystemExit as stop:  # argparse, after --help and --version
        return int(stop.code or 0)
    except CommandError as error:
        complain("error", error)
        return error.exit_code
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # the reader, such as `head`, has ended
            complain("error", error)
        _give_up_stdout()
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("\nfastlsgd: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def command() -> NoReturn:
    """Run the command line of the process, and end it with the exit code."""
    code = main()
    if code == EXIT_INTERRUPTED:
        # Python would end all threads and modules first, which takes a second of a busy machine.
        with suppress(OSError):
            sys.stdout.flush()
        os._exit(code)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done but the interpreter's own end
    sys.exit(code)


def _warned(message, category, filename, lineno, file=None, line=None) -> None:
    complain("warning", in_options(message))


def _give_up_stdout() -> None:
    """Make the flush of stdout at exit succeed, so that Python keeps our exit code."""
    with suppress(OSError):  # it may be no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
