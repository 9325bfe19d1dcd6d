"""fastlsgd: least squares by gradient descent, at the speed of the memory bus.

Estimators with scikit-learn's interface: `SGDRegressor`, `SGDClassifier`, `SGDRegressorCV`,
`LeastSquaresRegressor`, `LeastSquaresCV`, `LeastSquaresClassifier`. Functions: `lstsq`,
`grouped_lstsq`, `rolling_lstsq`, `expanding_lstsq`, `recursive_lstsq`, and the kernels
`loss_gradient`, `sgd_epoch`, `gram` and `predict`. Sums over rows that can be merged: `Moments`;
rows that do not fit into memory: `fastlsgd.streaming.scan`. Files: `save_model`, `load_model`.

The public names are imported when they are first used, so that ``import fastlsgd`` is quick.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
    from . import (
        datasets,
        functional,
        kernels,
        linear_model,
        model_files,
        moments,
        optimizers,
        plotting,
        segments,
        streaming,
    )
    from . import (
        sklearn as sklearn,
    )
    from ._c_code import to_c
    from ._config import config_context, get_config, set_config
    from ._embedding import get_include, get_library_dir
    from ._lstsq import LstsqInfo, lstsq
    from ._onnx import to_onnx
    from ._show_versions import show_versions
    from .functional import gram, loss_gradient, predict, sgd_epoch
    from .kernels import available_backends
    from .linear_model import (
        LeastSquaresClassifier,
        LeastSquaresCV,
        LeastSquaresRegressor,
        SGDClassifier,
        SGDRegressor,
        SGDRegressorCV,
    )
    from .model_files import load_model, save_model
    from .moments import Moments
    from .segments import (
        SegmentLstsq,
        expanding_lstsq,
        grouped_lstsq,
        recursive_lstsq,
        rolling_lstsq,
    )
    from .sklearn import patch_sklearn, unpatch_sklearn
    from .solvers.stochastic import EpochReport

_LAZY = {
    "EpochReport": "solvers.stochastic",
    "LeastSquaresCV": "linear_model",
    "LeastSquaresClassifier": "linear_model",
    "LeastSquaresRegressor": "linear_model",
    "LstsqInfo": "_lstsq",
    "Moments": "moments",
    "SGDClassifier": "linear_model",
    "SGDRegressor": "linear_model",
    "SGDRegressorCV": "linear_model",
    "SegmentLstsq": "segments",
    "available_backends": "kernels",
    "config_context": "_config",
    "expanding_lstsq": "segments",
    "get_config": "_config",
    "get_include": "_embedding",
    "get_library_dir": "_embedding",
    "gram": "functional",
    "grouped_lstsq": "segments",
    "load_model": "model_files",
    "loss_gradient": "functional",
    "lstsq": "_lstsq",
    "patch_sklearn": "sklearn",
    "predict": "functional",
    "recursive_lstsq": "segments",
    "rolling_lstsq": "segments",
    "save_model": "model_files",
    "set_config": "_config",
    "sgd_epoch": "functional",
    "show_versions": "_show_versions",
    "to_c": "_c_code",
    "to_onnx": "_onnx",
    "unpatch_sklearn": "sklearn",
}

# Modules that are attributes of the package too, and those that need the package of their name.
_MODULES = (
    "datasets",
    "functional",
    "kernels",
    "linear_model",
    "model_files",
    "moments",
    "optimizers",
    "plotting",
    "segments",
    "streaming",
)
# They are not in `__all__`: a star import would hide those packages.
_ADAPTERS = ("dask", "jax", "numba", "sklearn", "torch")

__all__ = [
    "EpochReport",
    "LeastSquaresCV",
    "LeastSquaresClassifier",
    "LeastSquaresRegressor",
    "LstsqInfo",
    "Moments",
    "SGDClassifier",
    "SGDRegressor",
    "SGDRegressorCV",
    "SegmentLstsq",
    "__version__",
    "available_backends",
    "config_context",
    "datasets",
    "expanding_lstsq",
    "functional",
    "get_config",
    "get_include",
    "get_library_dir",
    "gram",
    "grouped_lstsq",
    "kernels",
    "linear_model",
    "load_model",
    "loss_gradient",
    "lstsq",
    "model_files",
    "moments",
    "optimizers",
    "patch_sklearn",
    "plotting",
    "predict",
    "recursive_lstsq",
    "rolling_lstsq",
    "save_model",
    "segments",
    "set_config",
    "sgd_epoch",
    "show_versions",
    "streaming",
    "to_c",
    "to_onnx",
    "unpatch_sklearn",
]


def __getattr__(name: str):
    if name in _MODULES or name in _ADAPTERS:
        return importlib.import_module(f".{name}", __name__)
    if name not in _LAZY:
        raise AttributeError(f"module 'fastlsgd' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    # What is listed can be imported: help() and completion of names look at all of it.
    adapters = [name for name in _ADAPTERS if importlib.util.find_spec(name) is not None]
    own = {*globals()} - {"TYPE_CHECKING", "annotations", "importlib"}
    return sorted({*own, *__all__, *adapters})
