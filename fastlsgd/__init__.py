"""fastlsgd: least squares by gradient descent, at the speed of the memory bus.

The public names are loaded when they are first used, so that ``import fastlsgd`` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from ._config import config_context, get_config, set_config
from ._version import __version__

if TYPE_CHECKING:
    from ._lstsq import LstsqInfo, lstsq
    from ._show_versions import show_versions
    from .functional import gram, loss_gradient, predict, sgd_epoch
    from .kernels import available_backends
    from .linear_model import LeastSquaresCV, LeastSquaresRegressor, SGDRegressor

_LAZY = {
    "LeastSquaresCV": "linear_model",
    "LeastSquaresRegressor": "linear_model",
    "LstsqInfo": "_lstsq",
    "SGDRegressor": "linear_model",
    "available_backends": "kernels",
    "gram": "functional",
    "loss_gradient": "functional",
    "lstsq": "_lstsq",
    "predict": "functional",
    "sgd_epoch": "functional",
    "show_versions": "_show_versions",
}

__all__ = [
    "LeastSquaresCV",
    "LeastSquaresRegressor",
    "LstsqInfo",
    "SGDRegressor",
    "__version__",
    "available_backends",
    "config_context",
    "get_config",
    "gram",
    "loss_gradient",
    "lstsq",
    "predict",
    "set_config",
    "sgd_epoch",
    "show_versions",
]


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f"module 'fastlsgd' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
