"""fastlsgd for JAX: least squares and its gradient inside compiled and differentiated functions.

`loss_gradient` is the C kernel, which compiled programs call on the CPU without Python. `lstsq`
calls back to Python. docs/frameworks.md says what each costs.
"""

from importlib.util import find_spec

from ..kernels import load_backend

__all__ = ["loss_gradient", "lstsq"]

if find_spec("jax") is None:
    raise ImportError("fastlsgd.jax needs JAX: pip install 'fastlsgd[jax]'")
load_backend("native")  # raises an ImportError that says what to install

from ._loss_gradient import loss_gradient  # noqa: E402
from ._solution import lstsq  # noqa: E402
