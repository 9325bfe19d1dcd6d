"""The functions in C that compiled programs call, and their registration with JAX.

`lstsq` is a loop over kernels in Python, for which its function takes the interpreter's lock.
``jax.pure_callback`` was tried in its place: it copies A, and a call took 0.9 milliseconds more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import numpy as np

from .._config import config_context
from .._lstsq import lstsq as solve
from .._lstsq import lstsq_of_each
from ..kernels import resolve_threads
from ..kernels.native import xla_handlers


def _solve(A: np.ndarray, b: np.ndarray, n_threads: int) -> np.ndarray:
    """x (..., d, t) for A (..., n, d) and b (..., n, t), as `jax.vmap` stacks problems.

    Where a leading dimension of A is 1, the problems along it share A: they are so many targets of
    one problem.
    """
    k = A.ndim - 2
    each = [axis for axis in range(k) if A.shape[axis] != 1]
    shared = [axis for axis in range(k) if A.shape[axis] == 1]
    order = [*each, k, *shared, k + 1]
    A, b = A.squeeze(tuple(shared)), b.transpose(order)
    targets = b.shape[len(each) + 1 :]
    b = b.reshape(*b.shape[: len(each) + 1], math.prod(targets))
    with config_context(n_threads=n_threads):
        if each:
            x = lstsq_of_each(A, np.broadcast_to(b, (*A.shape[:-1], b.shape[-1])))
        else:
            x = solve(A, b)
    return x.reshape(*x.shape[:-1], *targets).transpose(np.argsort(order))


# How `jax.vmap` calls them: for one problem after the other, or once for all of them.
VMAP_METHODS = {"loss_gradient": "sequential", "lstsq": "expand_dims"}

for _name, _handler in xla_handlers(_solve).items():
    jax.ffi.register_ffi_target(f"fastlsgd_{_name}", _handler, platform="cpu")


def call(name: str, shapes: Sequence[tuple[int, ...]], *arrays):
    """Results of these shapes and of the dtype of the first array, from a function in C."""
    results = [jax.ShapeDtypeStruct(shape, arrays[0].dtype) for shape in shapes]
    function = jax.ffi.ffi_call(f"fastlsgd_{name}", results, vmap_method=VMAP_METHODS[name])
    return function(*arrays, n_threads=np.int64(resolve_threads()))
