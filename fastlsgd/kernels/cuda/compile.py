"""How kernels are compiled, cached and launched.

This is the only module that chooses the compiler: numba-cuda, which installs itself behind
``from numba import cuda``. numba-cuda-mlir 0.6, its successor, has no simulator, and it compiles a
shuffle of a float64 to a shuffle of a float32: sums would silently lose half of their digits.
docs/cuda.md compares the two.

Importing this module raises ImportError, with the reason, where there is no GPU to use.
"""

from __future__ import annotations

import warnings
import zlib
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import FunctionType
from typing import Any

from numba import cuda
from numba.core import config

from ..compiled_sources import checksum_of_backend

__all__ = ["SIMULATED", "Kernel", "cuda", "device_function", "launch"]

SIMULATED = bool(getattr(config, "ENABLE_CUDASIM", 0))
OLDEST = (7, 0)  # compute capability


def _check_device() -> None:
    """Raise ImportError with the reason why there is no GPU to use."""
    if SIMULATED:
        return
    if getattr(cuda, "implementation", "") == "Built-in":
        raise ImportError("numba-cuda is not installed")
    try:
        devices = len(cuda.gpus)
    except Exception as error:  # whatever the driver or its loader raises
        reason = " ".join(str(error).split()).rstrip(". :") or type(error).__name__
        raise ImportError(f"no CUDA driver that works: {reason}") from error
    if devices == 0:
        raise ImportError("no CUDA device is visible to this process")
    device = cuda.gpus[0]  # asking for the current device would create a context
    if tuple(device.compute_capability) < OLDEST:
        major, minor = device.compute_capability
        raise ImportError(
            f"the GPU is too old: compute capability {major}.{minor}, below {OLDEST[0]}.{OLDEST[1]}"
        )


_check_device()


_SOURCES = checksum_of_backend(Path(__file__).parent)


class Kernel:
    """A kernel that is compiled, or found in Numba's cache, when arguments of new dtypes come.

    Two properties of Numba's cache decide how its entries are named:

    * Numba keeps all forms of one function in one index file, which processes that compile at the
      same time overwrite, so that an entry may lead to another form's code (numba issue 4807).
      Hence each form has a name, and a file, of its own.
    * Numba checks only whether a kernel's own file has changed. Hence the name includes a checksum
      of all sources (`compiled_sources.py`).

    The variables that a kernel closes over must be numbers, types or named tuples of numbers:
    Numba takes a function there for a different one in each process, and would never find the
    cached code.
    """

    def __init__(self, function, **options) -> None:
        self.function, self.options = function, options
        self.forms: dict[tuple, Any] = {}

    def form(self, arguments: tuple):
        """The compiled form for arrays of these dtypes; scalars always have the same types."""
        if SIMULATED:
            dtypes: tuple = ()
        else:
            dtypes = tuple(part.dtype.char for part in arguments if hasattr(part, "dtype"))
        if dtypes not in self.forms:
            self.forms[dtypes] = self._compiled(dtypes)
        return self.forms[dtypes]

    def _compiled(self, dtypes: tuple):
        if SIMULATED:
            return cuda.jit(self.function)
        f = self.function
        copy = FunctionType(f.__code__, f.__globals__, f.__name__, f.__defaults__, f.__closure__)
        constants = [cell.cell_contents for cell in f.__closure__ or ()]
        what = f"{constants} {cuda.get_current_device().compute_capability} {_SOURCES}"
        copy.__qualname__ = f"{f.__name__}_{''.join(dtypes)}_{zlib.crc32(what.encode()):08x}"
        copy.__module__, copy.__doc__ = f.__module__, f.__doc__
        dispatcher = cuda.jit(**self.options)(copy)
        with suppress(RuntimeError):  # no folder that can be written to: compile in each process
            dispatcher.enable_caching()
        return dispatcher


# A device function is inlined into the kernel that calls it, so that numbers that the kernel hands
# over as constants (its plan, its number of targets) are constants there too.
device_function = cuda.jit(device=True)


def launch(kernel: Kernel, grid, threads, stream):
    """A function that runs the kernel on this grid with the arguments that it is given."""

    def call(*arguments):
        form = kernel.form(arguments)
        if SIMULATED:  # there the kernel object itself stores its grid
            form[grid, threads, stream](*arguments)
        else:
            _configured(form, grid, threads, stream)(*arguments)

    return call


@lru_cache(maxsize=1024)
def _configured(form, grid, threads, stream):
    """The form with its grid, without Numba's warning that a small grid is small."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Grid size")
        return form[grid, threads, stream]
