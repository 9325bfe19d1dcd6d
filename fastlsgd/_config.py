"""The public functions that read and change the settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ._settings import check_backend_name, check_n_threads, own_settings, settings_in_force
from .kernels import load_backend

_UNSET: Any = object()


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
    settings = dict(own_settings.get() or {})
    if backend is not _UNSET and backend is not None:
        load_backend(check_backend_name(backend))
    if n_threads is not _UNSET:
        n_threads = check_n_threads(n_threads)
    for name, value in (("backend", backend), ("n_threads", n_threads)):
        if value is None:
            settings.pop(name, None)
        elif value is not _UNSET:
            settings[name] = value
    own_settings.set(settings)


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
    before = own_settings.get()
    set_config(backend=backend, n_threads=n_threads)
    try:
        yield
    finally:
        # Not reset(token): a generator-based context may be closed in another context.
        own_settings.set(before)
