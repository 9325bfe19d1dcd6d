"""The functions in C that compiled programs call, and their registration with JAX.

`lstsq` is a loop over kernels in Python, for which its function takes the interpreter's lock.
``jax.pure_callback`` was tried in its place: it copies A, and a call took 0.9 milliseconds more.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from .._config import config_context
from .._lstsq import lstsq as solve
from ..kernels import resolve_threads
from ..kernels.native import xla_handlers


def _solve(A: np.ndarray, b: np.ndarray, n_threads: int) -> np.ndarray:
    with config_context(n_threads=n_threads):
        return solve(A, b)


for _name, _handler in xla_handlers(_solve).items():
    jax.ffi.register_ffi_target(f"fastlsgd_{_name}", _handler, platform="cpu")


def call(name: str, shapes: Sequence[tuple[int, ...]], *arrays):
    """Results of these shapes and of the dtype of the first array, from a function in C."""
    results = [jax.ShapeDtypeStruct(shape, arrays[0].dtype) for shape in shapes]
    function = jax.ffi.ffi_call(f"fastlsgd_{name}", results, vmap_method="sequential")
    return function(*arrays, n_threads=np.int64(resolve_threads()))
