"""The dispatcher, which chooses a backend by the settings, the place of the data and what is there.

All backends are in the table `BACKENDS`: a new one needs a module and a line there.
"""

from __future__ import annotations

import importlib
import warnings
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from .._settings import check_backend_name, check_n_threads, settings_in_force
from .._threads import usable_processors
from ._installed_build import look_for_native
from .blocks import converting, takes
from .contract import Kernels, Matrix
from .device import Transfers, lives_on_device, provide_transfers

__all__ = [
    "BACKENDS",
    "available_backends",
    "load_backend",
    "resolve",
    "resolve_backend",
    "resolve_threads",
    "usable_processors",
]


_stale_build = look_for_native(__path__)


class Backend(NamedTuple):
    """A line of the table of backends."""

    module: str
    how_to_install: str


# "auto" tries them in this order.
BACKENDS = {
    "native": Backend(
        "fastlsgd.kernels.native",
        "reinstall fastlsgd where a C compiler (GCC or Clang) is found: "
        "pip install --force-reinstall fastlsgd, or in a clone: pip install .",
    ),
    "numba": Backend("fastlsgd.kernels.numba_cpu", "pip install numba"),
    "reference": Backend("fastlsgd.kernels.reference", "pip install --force-reinstall fastlsgd"),
    # After "reference", which always exists, so that "auto" takes it only for arrays on a GPU.
    "cuda": Backend(
        "fastlsgd.kernels.cuda",
        'pip install "fastlsgd[cuda]", on a machine with an NVIDIA GPU and its driver',
    ),
}

if TYPE_CHECKING:  # mypy checks each module against its protocol
    from . import cuda, native, numba_cpu, reference
    from .contract import DeviceKernels, SegmentKernels
    from .optional import (
        ColumnKernels,
        OrderKernels,
        RowKernels,
        SmallKernels,
        TriangleKernels,
    )

    _native: Kernels = native
    _numba: Kernels = numba_cpu
    _reference: Kernels = reference
    _cuda: DeviceKernels = cuda
    _native_segments: SegmentKernels = native
    _numba_segments: SegmentKernels = numba_cpu
    _reference_segments: SegmentKernels = reference
    _cuda_segments: SegmentKernels = cuda
    _native_small: SmallKernels = native
    _native_columns: ColumnKernels = native
    _native_rows: RowKernels = native
    _native_triangles: TriangleKernels = native
    _native_orders: OrderKernels = native


def load_backend(name: str) -> ModuleType:
    """The module of kernels with this name; "auto" takes the first that can be imported.

    Raises
    ------
    ImportError
        If it can't be imported; the message says what to install.
    ValueError
        If an environment variable that it reads has a value that is not allowed: "auto" then does
        not silently go on to a slower backend.
    """
    if name == "auto":
        for name in BACKENDS:
            if not isinstance(_import_backend(name), ImportError):
                break
        if name != "native":
            warnings.warn(
                f"fastlsgd uses its slower backend {name!r}: native is not available here "
                f"({_import_backend('native')}). To have it: {BACKENDS['native'].how_to_install}.",
                RuntimeWarning,
                stacklevel=2,
            )
    module = _import_backend(name)
    if isinstance(module, ModuleType):
        return module
    if isinstance(module, ValueError):
        raise ValueError(str(module)) from module
    raise ImportError(
        f"The backend {name!r} is not available here ({module}). "
        f"To have it: {BACKENDS[name].how_to_install}"
    ) from module


@cache
def _import_backend(name: str) -> ModuleType | ImportError | ValueError:
    """The module, or why there is none: it is missing, or environment variables prevent it."""
    try:
        return importlib.import_module(BACKENDS[name].module)
    except ModuleNotFoundError as error:
        return ImportError(_stale_build) if name == "native" and _stale_build else error
    except (ImportError, ValueError) as error:
        return error
    except OSError as error:  # llvmlite's, whose library cannot be loaded
        return ImportError(str(error))


provide_transfers(lambda: cast(Transfers, load_backend("cuda")))


def resolve_backend(backend: str | None = None, X: Matrix | None = None) -> Kernels:
    """The kernels to use: by the argument if there is one, else the config, else the environment.

    X is the matrix as validation returned it. If it is on a GPU, "auto" stands for "cuda", and no
    other backend is possible. If it is on the host and of a dtype that no backend takes, the
    kernels convert a block of rows at a time.
    """
    return _kernels_for(settings_in_force()[0], backend, X)


def resolve_threads(n_threads: int | None = None) -> int:
    """The upper limit on threads: by the argument, else the config, else the environment.

    It is never above the number of processors that the process may use, since further threads
    would only take memory. The native kernels obey OMP_NUM_THREADS and threadpoolctl too.
    """
    return _at_most_usable(check_n_threads(n_threads) or settings_in_force()[1])


def _at_most_usable(n_threads: int | None) -> int:
    usable = usable_processors()
    return usable if n_threads is None else min(n_threads, usable)


def resolve(backend: str | None = None, X: Matrix | None = None) -> tuple[Kernels, int]:
    """The results of `resolve_backend` and `resolve_threads`, from one look at the settings."""
    configured, n_threads = settings_in_force()
    return _kernels_for(configured, backend, X), _at_most_usable(n_threads)


def _kernels_for(configured: str, backend: str | None, X: Matrix | None) -> Kernels:
    name = configured if backend is None else check_backend_name(backend)
    on_device = type(X) is not np.ndarray and lives_on_device(X)
    if on_device:
        if name not in ("auto", "cuda"):
            raise ValueError(
                f"X is on a GPU, where backend={name!r} can't work: take 'auto' or 'cuda', or copy "
                f"X to the host."
            )
        name = "cuda"
    kernels = cast(Kernels, load_backend(name))
    if not on_device and X is not None and not takes(X):
        kernels = converting(kernels)
    return kernels


def available_backends() -> dict[str, str]:
    """Say which backends can be used here, and why the others cannot.

    Returns
    -------
    backends : dict of str to str
        For each backend by name "available", or the reason why it is not and what to install.

    Examples
    --------
    >>> import fastlsgd
    >>> fastlsgd.available_backends()["reference"]
    'available'
    """
    status = {}
    for name, backend in BACKENDS.items():
        module = _import_backend(name)
        if isinstance(module, ModuleType):
            status[name] = "available"
        elif isinstance(module, ValueError):
            status[name] = f"not available ({module})"
        else:
            status[name] = f"not available ({module}); to have it: {backend.how_to_install}"
    return status
