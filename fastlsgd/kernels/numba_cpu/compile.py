"""How the functions of this backend are compiled: options, declared types, the cache on disk."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FunctionType
from typing import Any, Literal

import numba
import numpy as np
from llvmlite import binding
from numba import types

from ..._threads import interruptible
from ..compiled_sources import checksum_of_backend

if numba.config.DISABLE_JIT:
    raise ValueError(
        "The environment variable NUMBA_DISABLE_JIT is set, but the kernels of the backend 'numba' "
        "must be compiled: unset it, or take backend='native' or 'reference'."
    )

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
# Helpers are inlined: an array is seven words on the stack, and to copy them back and forth took 40
# of the 87 ns that a row of SGD took. They allocate nothing and count no references, which in a
# loop is two atomic operations per call; so only kernels themselves, outside their loops, may
# allocate. An array that a kernel takes out of a tuple is counted too: it does so before its loops.
_HELPER = {"_nrt": False, "forceinline": True, **OPTIONS}
helper = numba.njit(**_HELPER)
fast_helper = numba.njit(fastmath={"contract", "reassoc", "arcp", "nsz"}, **_HELPER)
# Held while a kernel is compiled and while the pool of threads is started. It is always taken
# before Numba's own lock.
lock = threading.RLock()

_SOURCES = checksum_of_backend(Path(__file__).parent)


def isa() -> str:
    """The processor that LLVM compiles for."""
    return f"llvm ({os.environ.get('NUMBA_CPU_NAME') or binding.get_host_cpu_name()})"


# ------------------------------------------------------------------------- declared types

SUMS = types.Array(types.float64, 1, "C")
TABLE = types.Array(types.float64, 2, "C")


def read(dtype, ndim: int, layout: Literal["A", "C"] = "A"):
    """An input: read-only, so that writable arrays are accepted too; "A" accepts every layout."""
    return types.Array(dtype, ndim, layout, readonly=True)


def written(dtype, ndim: int):
    """An output."""
    return types.Array(dtype, ndim, "C")


def dense_types(f):
    """X, flat, offset, stride: as `rows.dense` returns them."""
    return [read(f, 2), read(f, 1, "C"), types.intp, types.intp]


def csr_types(f, i):
    """data, indices, indptr."""
    return [read(f, 1, "C"), read(i, 1, "C"), read(i, 1, "C")]


# -------------------------------------------------------------------------------- kernels


class Kernel:
    """A function that is compiled, or found in Numba's cache, when a dtype first needs it.

    ``kernel[float32, float64]``, or ``kernel[float32, int32, float64]`` for CSR, is the compiled
    function for X of float32 (with such indices) and y of float64; `predict` has no y.
    """

    def __init__(self, function: Any, signature: Callable[..., list]) -> None:
        self.function = function
        self.signature = signature
        self.compiled: dict[Any, Callable] = {}

    def __getitem__(self, dtypes: np.dtype | tuple[np.dtype, ...]) -> Callable:
        try:
            return self.compiled[dtypes]
        except KeyError:
            # A single call of LLVM takes up to 3 s, in which it releases the GIL.
            return interruptible(self._compiled_once, dtypes)

    def _compiled_once(self, dtypes: np.dtype | tuple[np.dtype, ...]) -> Callable:
        with lock:
            if dtypes not in self.compiled:
                self.compiled[dtypes] = self._compile(dtypes)
        return self.compiled[dtypes]

    def _compile(self, dtypes: np.dtype | tuple[np.dtype, ...]) -> Callable:
        arguments = dtypes if isinstance(dtypes, tuple) else (dtypes,)
        dispatcher = numba.njit(**OPTIONS)(self._named_for(arguments))
        with suppress(RuntimeError):  # no folder that can be written to: compile in each process
            dispatcher.enable_caching()
        dispatcher.compile(tuple(self.signature(*map(numba.from_dtype, arguments))))
        dispatcher.disable_compile()
        return dispatcher

    def _named_for(self, dtypes: tuple[np.dtype, ...]) -> FunctionType:
        """A copy of the function whose name, and so whose cache file, is its own.

        It is for one signature alone: Numba keeps the signatures of one function under one index,
        which processes that compile at the same time overwrite, so that an entry may lead to
        another's code (numba issue 4807). And it is for one state of the sources
        (`compiled_sources.py`).
        """
        f = self.function
        copy = FunctionType(f.__code__, f.__globals__, f.__name__, f.__defaults__, f.__closure__)
        target = f"{isa()} {binding.get_host_cpu_features().flatten()}"
        names = "_".join(dtype.name for dtype in dtypes)
        made_of = zlib.crc32(target.encode(), _SOURCES)
        copy.__qualname__ = f"{f.__name__}_{names}_{made_of:08x}"
        copy.__module__ = f.__module__
        return copy


def kernel(signature: Callable[..., list]) -> Callable[[Callable], Kernel]:
    """Declare the types of a function's arguments, given the Numba types of its dtypes."""
    return lambda function: Kernel(function, signature)
