"""fastlsgd for PyTorch: least squares with autograd, and linear layers in place of estimators.

Tensors on the host are used where they are, without a copy, and tensors on a CUDA device stay on
it. docs/frameworks.md shows each function at work, and says what it costs.
"""

from importlib.util import find_spec

__all__ = ["estimator_from", "fit_head", "linear_from", "lstsq"]

if find_spec("torch") is None:
    raise ImportError("fastlsgd.torch needs PyTorch: pip install 'fastlsgd[torch]'")

from ._autograd import lstsq
from ._head import fit_head
from ._linear import estimator_from, linear_from
