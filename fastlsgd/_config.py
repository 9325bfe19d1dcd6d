"""Settings: a `backend=` argument wins over `set_config`, which wins over environment variables."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral
from typing import Any

import numpy as np

BACKEND_NAMES = ("auto", "native", "numba", "reference", "cuda")

_UNSET: Any = object()


def _environment() -> dict[str, Any]:
    """The settings of the environment, read each time, since tests and notebooks change them."""
    backend = os.environ.get("FASTLSGD_BACKEND", "") or "auto"
    threads = os.environ.get("FASTLSGD_NUM_THREADS", "")
    if threads and not (threads.isdecimal() and int(threads) >= 1):
        given = threads if threads.isdecimal() else repr(threads)
        raise ValueError(
            f"The environment variable FASTLSGD_NUM_THREADS must be a whole number >= 1, "
            f"got {given}."
        )
    return {"backend": backend, "n_threads": int(threads) if threads else None}


def settings_in_force() -> tuple[str, int | None]:
    """Backend and number of threads as in `get_config`; every call of a kernel needs them."""
    settings = _settings.get()
    if settings is None or len(settings) < 2:
        settings = _environment() | (settings or {})
        check_backend_name(settings["backend"], "The environment variable FASTLSGD_BACKEND")
    return settings["backend"], settings["n_threads"]


# A context variable, so that a setting holds only for its own thread and asyncio task.
_settings: ContextVar[dict[str, Any] | None] = ContextVar("fastlsgd_config", default=None)


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
    whole = isinstance(n_threads, Integral) and not isinstance(n_threads, (bool, np.timedelta64))
    if whole and int(n_threads) >= 1:
        return int(n_threads)
    raise ValueError(f"n_threads must be None or a whole number >= 1, got {n_threads!r}.")


def get_config() -> dict[str, Any]:
    """Return the settings in force in this thread and task.

    Returns
    -------
    config : dict
        ``backend`` (str) and ``n_threads`` (int or None, None being all that are there).

    Raises
    ------
    ValueError
        If an environment variable holds something that is not allowed.

    Examples
    --------
    >>> import fastlsgd
    >>> sorted(fastlsgd.get_config())
    ['backend', 'n_threads']
    """
    backend, n_threads = settings_in_force()
    return {"backend": backend, "n_threads": n_threads}


def set_config(*, backend: str | None = _UNSET, n_threads: int | None = _UNSET) -> None:
    """Change the settings of this thread and task.

    Parameters
    ----------
    backend : {"auto", "native", "numba", "reference", "cuda"}, optional
        Which kernels to use. "auto" takes native, else numba, else reference, for arrays on the
        host, and cuda for those on a GPU.
        None takes back an earlier setting, so that the environment decides again.
    n_threads : int >= 1 or None, optional
        Upper limit on the threads of a kernel; None takes back an earlier setting.

    Raises
    ------
    ValueError
        If a value is not allowed; nothing is changed then.
    ImportError
        If the backend is known but not installed; nothing is changed then.

    Examples
    --------
    >>> import fastlsgd
    >>> fastlsgd.set_config(backend="reference")
    >>> fastlsgd.get_config()["backend"]
    'reference'
    >>> fastlsgd.set_config(backend=None)
    """
    from .kernels import load_backend

    settings = dict(_settings.get() or {})
    if backend is not _UNSET and backend is not None:
        load_backend(check_backend_name(backend))
    if n_threads is not _UNSET:
        n_threads = check_n_threads(n_threads)
    for name, value in (("backend", backend), ("n_threads", n_threads)):
        if value is None:
            settings.pop(name, None)
        elif value is not _UNSET:
            settings[name] = value
    _settings.set(settings)


@contextmanager
def config_context(
    *, backend: str | None = _UNSET, n_threads: int | None = _UNSET
) -> Iterator[None]:
    """Change the settings within a ``with`` block; see :func:`set_config`.

    Parameters
    ----------
    backend, n_threads
        As for :func:`set_config`.

    Examples
    --------
    >>> import fastlsgd
    >>> with fastlsgd.config_context(backend="reference", n_threads=1):
    ...     fastlsgd.get_config()["n_threads"]
    1
    """
    before = _settings.get()
    set_config(backend=backend, n_threads=n_threads)
    try:
        yield
    finally:
        # Not reset(token): a generator-based context may be closed in another context.
        _settings.set(before)
