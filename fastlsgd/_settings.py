"""The settings in force: what `set_config` has set wins over environment variables.

Only the dispatcher and the functions of `_config.py`, which change the settings, look at this
module: it knows the backends by name, and nothing of what they are.
"""

from __future__ import annotations

import os
from contextvars import ContextVar
from functools import lru_cache
from numbers import Integral
from typing import Any

import numpy as np

BACKEND_NAMES = ("auto", "native", "numba", "reference", "cuda")

# A context variable, so that a setting holds only for its own thread and asyncio task.
own_settings: ContextVar[dict[str, Any] | None] = ContextVar("fastlsgd_config", default=None)


def _environment() -> tuple[str, int | None]:
    """The settings of the environment, read each time, since tests and notebooks change them."""
    return _parsed(
        os.environ.get("FASTLSGD_BACKEND", ""), os.environ.get("FASTLSGD_NUM_THREADS", "")
    )


@lru_cache(maxsize=16)
def _parsed(backend: str, threads: str) -> tuple[str, int | None]:
    if threads and not (threads.isdecimal() and int(threads) >= 1):
        given = threads if threads.isdecimal() else repr(threads)
        raise ValueError(
            f"The environment variable FASTLSGD_NUM_THREADS must be a whole number >= 1, "
            f"got {given}."
        )
    return backend or "auto", int(threads) if threads else None


def settings_in_force() -> tuple[str, int | None]:
    """Backend and number of threads as in `get_config`; every call of a kernel needs them."""
    settings = own_settings.get() or {}
    if len(settings) == 2:
        return settings["backend"], settings["n_threads"]
    backend, n_threads = _environment()
    backend = settings.get("backend", backend)
    check_backend_name(backend, "The environment variable FASTLSGD_BACKEND")
    return backend, settings.get("n_threads", n_threads)


def check_backend_name(name: object, origin: str = "backend") -> str:
    """Return `name` if it is the name of a backend, else raise ValueError."""
    if isinstance(name, str) and name in BACKEND_NAMES:
        return name
    allowed = ", ".join(repr(known) for known in BACKEND_NAMES)
    raise ValueError(f"{origin} must be one of {allowed}, got {name!r}.")


def check_n_threads(n_threads: object) -> int | None:
    """Return `n_threads` as an int (None: as many as there are), else raise ValueError."""
    if n_threads is None:
        return None
    if isinstance(n_threads, Integral) and not isinstance(n_threads, (bool, np.timedelta64)):
        whole = int(n_threads)
        if whole >= 1:
            return whole
    raise ValueError(f"n_threads must be None or a whole number >= 1, got {n_threads!r}.")
