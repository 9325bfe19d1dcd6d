"""Ctrl-C while the command imports its modules, which takes a second: a quiet end.

Python would print a traceback of whatever it imports, and loses the interrupt where it arrives in a
callback of the import system. Nothing has been read or written then, so that the process can end.
"""

from __future__ import annotations

import os
import signal

__all__ = ["EXIT_INTERRUPTED", "end_quietly", "raise_again"]

EXIT_INTERRUPTED = 130


def end_quietly() -> None:
    """Have Ctrl-C end the process from now on; where it is ignored, as under nohup, it stays so."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def raise_again() -> None:
    """Have Ctrl-C raise KeyboardInterrupt again, if `end_quietly` has changed that."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number, frame) -> None:
    os.write(2, b"\nfastlsgd: interrupted\n")
    os._exit(EXIT_INTERRUPTED)
