"""The kernels for functions that Numba compiles: call them inside your own ``@njit`` function.

::

    import numba
    import numpy as np
    from fastlsgd.numba import loss_gradient

    @numba.njit(parallel=True, cache=True)
    def losses(X, y, coef):  # many small problems, one per processor at a time
        out = np.empty(len(X))
        for k in numba.prange(len(X)):
            out[k] = loss_gradient(X[k], y[k], coef[k]).loss
        return out

The functions have the names and results of those in `fastlsgd`, but trust the numbers that they
get: only shapes and dtypes are checked. X is an array of float32 or float64 in any memory order, or
a `CSR`. A call costs about 0.2 microseconds more than its arithmetic, and runs on one thread unless
`n_threads` says more, since a loop over problems is better divided than each problem. Called from
Python they are the functions of `fastlsgd`.

The compiled code has the symbols of libfastlsgd by name, so that ``cache=True`` works across
processes. docs/embedding.md has more.
"""

from importlib.util import find_spec

from ..kernels import load_backend
from ..kernels.contract import CSR

__all__ = ["CSR", "gram", "loss_gradient", "predict", "sgd_epoch"]

if find_spec("numba") is None:
    raise ImportError("fastlsgd.numba needs Numba: pip install numba")
load_backend("native")  # raises an ImportError that says what to install

from ._functions import gram, loss_gradient, predict, sgd_epoch  # noqa: E402
from ._overloads import register_symbols  # noqa: E402

register_symbols()
