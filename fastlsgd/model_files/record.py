"""Estimators as records, and back: which attributes a file has, and what they must be.

What `predict` needs is required, and its shapes must agree. What tells of the fit may be missing.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.validation import check_is_fitted

from .. import _validation as check
from .._checked_files import WrongFile
from .._moments_file import described, fill
from .._settings import check_backend_name
from .._version import __version__
from ..linear_model import (
    LeastSquaresClassifier,
    LeastSquaresCV,
    LeastSquaresRegressor,
    SGDClassifier,
    SGDRegressor,
    SGDRegressorCV,
)
from ..linear_model._constraints import check_alphas
from ..moments import Moments
from .container import FORMAT, VERSION, Record, number_as_json, number_from_json
from .labels import labels_as_json, labels_from_json
from .parameters import parameters_as_json, parameters_from_json

CLASSES: dict[str, type[BaseEstimator]] = {
    kind.__name__: kind
    for kind in (
        LeastSquaresClassifier,
        LeastSquaresCV,
        LeastSquaresRegressor,
        SGDClassifier,
        SGDRegressor,
        SGDRegressorCV,
    )
}


LAZY = "fastlsgd.dask."


class Attribute(NamedTuple):
    """What an attribute that tells of a fit may be."""

    kinds: str  # of "number", "whole", "text", "numbers", separated by spaces
    ndims: tuple[int, ...] = ()  # of arrays


DESCENT = {
    "n_iter_": Attribute("whole"),
    "loss_curve_": Attribute("numbers"),
    "backend_": Attribute("text"),
}
EXACT = {
    **DESCENT,
    "relative_gradient_": Attribute("number", (1,)),
    "residual_norm_": Attribute("number", (1,)),
    "condition_": Attribute("number"),
    "solver_": Attribute("text"),
}
REGRESSOR = {
    **EXACT,
    "dual_gap_": Attribute("number", (1,)),
    "constraint_residual_": Attribute("number"),
    "constraint_multipliers_": Attribute("", (1, 2)),
    "coef_path_": Attribute("", (2, 3)),
    "intercept_path_": Attribute("", (1, 2)),
}
CHOICE = {
    "alpha_": Attribute("number"),
    "alphas_": Attribute("", (1,)),
    "mse_path_": Attribute("", (1, 2)),
    "best_score_": Attribute("number"),
}
STOCHASTIC = {
    **DESCENT,
    "t_": Attribute("number"),
    "validation_scores_": Attribute("numbers"),
}
ATTRIBUTES: dict[str, dict[str, Attribute]] = {
    "LeastSquaresRegressor": REGRESSOR,
    "LeastSquaresCV": REGRESSOR | CHOICE,
    "LeastSquaresClassifier": EXACT,
    "SGDRegressor": STOCHASTIC,
    "SGDClassifier": STOCHASTIC,
    "SGDRegressorCV": DESCENT | CHOICE | {"scores_": Attribute("", (2,))},
}
# What `predict` works with, as arrays.
PREDICTING = ("coef_", "intercept_", "origin")
FIELDS = (
    "format",
    "version",
    "library_version",
    "class",
    "parameters",
    "parameters_not_kept",
    "n_features",
    "feature_names",
    "target_dtype",
    "sparse_coef",
    "classes",
    "multilabel",
    "attributes",
    "moments",
    "estimator",
    "best_estimator",
    "table",
)
OPTIONAL = (
    "library_version",
    "parameters_not_kept",
    "moments",
    "estimator",
    "best_estimator",
    "table",
)


# ------------------------------------------------------------------------------------- writing


def class_name_of(estimator) -> str:
    """Return the class under which a file has an estimator.

    Those of `fastlsgd.dask` differ from those of the same name only in where rows are.

    Raises
    ------
    ValueError
        If it is none that a file can have.
    """
    own = type(estimator)
    kind = CLASSES.get(own.__name__)
    is_lazy = kind is not None and issubclass(own, kind) and own.__module__.startswith(LAZY)
    if own is kind or is_lazy:
        return own.__name__
    raise ValueError(
        f"A model file can have {', '.join(CLASSES)}, not a {own.__module__}.{own.__name__}."
    )


def record_of(estimator) -> Record:
    """Return the record of a fitted estimator.

    Raises
    ------
    ValueError
        If it is no estimator that a file can have, or has changed since it was fitted.
    """
    name = class_name_of(estimator)
    check_is_fitted(estimator)
    check_parameters(estimator)
    coef, intercept = _weights_of(estimator)
    arrays = {"coef_": coef, "intercept_": intercept}
    header: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "library_version": __version__,
        "class": name,
    }
    header["parameters"], left = parameters_as_json(estimator)
    if isinstance(estimator, SGDRegressorCV):
        left.pop("estimator", None)
    if left:
        header["parameters_not_kept"] = left
        _warn(left)
    names = getattr(estimator, "feature_names_in_", None)
    header |= {
        "n_features": coef.shape[-1],
        "feature_names": None if names is None else [str(feature) for feature in names],
        "target_dtype": None,
        "sparse_coef": hasattr(estimator.coef_, "toarray"),
        "classes": None,
        "multilabel": None,
    }
    if hasattr(estimator, "classes_"):
        header["classes"] = labels_as_json(check.on_host(estimator.classes_))
        header["multilabel"] = _multilabel(estimator)
    else:
        header["target_dtype"] = np.dtype(estimator._target_dtype).name
        arrays["origin"] = np.atleast_1d(np.asarray(estimator._origin, dtype=np.float64))
    header["attributes"] = _attributes_as_json(estimator, arrays)
    if isinstance(estimator, SGDRegressorCV):
        _add_nested(header, arrays, estimator)
    if getattr(estimator, "_moments", None) is not None:
        header["moments"], own = described(estimator._moments)
        arrays |= {f"moments.{key}": array for key, array in own.items()}
    return Record(header, arrays)


def _warn(left: dict[str, str]) -> None:
    listed = ", ".join(f"{name}={value}" for name, value in left.items())
    warnings.warn(
        f"The model file does not keep parameters that JSON can't have: {listed}. The loaded "
        f"estimator has their defaults, which matters only for another fit.",
        UserWarning,
        stacklevel=4,
    )


def _weights_of(estimator) -> tuple[np.ndarray, np.ndarray]:
    """Return coef_ as it is, but on the host and dense, and intercept_ with one dimension."""
    coef = estimator.coef_
    coef = coef.toarray() if hasattr(coef, "toarray") else check.on_host(coef)
    if not isinstance(coef, np.ndarray) or coef.ndim not in (1, 2):
        raise ValueError(f"coef_ must be an array, got type {type(coef).__name__}.")
    if coef.dtype not in (np.float32, np.float64):
        raise ValueError(f"coef_ must be float32 or float64, got {coef.dtype}.")
    coef = coef.astype(coef.dtype.newbyteorder("="), copy=False)
    _, intercept = check.as_coefficients(coef, estimator.intercept_, coef.shape[-1])
    check.explain_non_finite(coef_=coef, intercept_=intercept)
    return coef, intercept


def _multilabel(estimator) -> dict[str, bool] | None:
    binarizer = getattr(estimator, "_label_binarizer", None)
    if binarizer is None or not binarizer.y_type_.startswith("multilabel"):
        return None
    return {"sparse": bool(binarizer.sparse_input_)}


def _attributes_as_json(estimator, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the attributes that tell of the fit; those that are arrays go to the arrays."""
    found: dict[str, Any] = {}
    for name in ATTRIBUTES[type(estimator).__name__]:
        value: Any = getattr(estimator, name, None)
        if isinstance(value, np.ndarray) and value.ndim:
            arrays[name] = value
        elif isinstance(value, str):
            found[name] = value
        elif isinstance(value, list):
            found[name] = [number_as_json(float(number)) for number in value]
        elif check.is_whole(value):
            found[name] = int(value)
        elif value is not None:
            found[name] = number_as_json(float(value))
    return found


def _add_nested(header: dict[str, Any], arrays: dict[str, np.ndarray], estimator) -> None:
    """Add the estimators that SGDRegressorCV has as a parameter and as its result."""
    header["parameters"].pop("estimator", None)
    if estimator.estimator is not None:
        own, left = parameters_as_json(estimator.estimator)
        header["estimator"] = {"parameters": own}
        if left:
            _warn(left)
    best = record_of(estimator.best_estimator_)
    header["best_estimator"] = best.header
    arrays |= {f"best_estimator.{name}": array for name, array in best.arrays.items()}


# ------------------------------------------------------------------------------------- reading


def estimator_of(record: Record) -> Any:
    """Return the fitted estimator of a record, after checks of all of it.

    Raises
    ------
    WrongFile
        If anything is not as it must be.
    """
    header, arrays = record.header, dict(record.arrays)
    _check_header(header)
    name = header["class"]
    kind = CLASSES[name]
    parameters = parameters_from_json(kind, header["parameters"], "parameters")
    if kind is SGDRegressorCV:
        parameters["estimator"] = _nested_parameter(header)
    estimator: Any = kind(**parameters)
    try:
        check_parameters(estimator)
    except (ValueError, TypeError) as error:
        raise WrongFile(f"parameters: {error}") from error
    moments = _taken(arrays, "moments.")
    best = _taken(arrays, "best_estimator.")
    _set_weights(estimator, header, arrays)
    _set_attributes(estimator, header["attributes"], arrays)
    _check_paths(estimator)
    if arrays:
        raise WrongFile(f"arrays: {name} has no array {next(iter(arrays))!r:.60}.")
    if moments or header.get("moments") is not None:
        _set_moments(estimator, header.get("moments"), moments)
    if kind is SGDRegressorCV:
        _set_best(estimator, header.get("best_estimator"), best)
    elif best or "best_estimator" in header or "estimator" in header:
        raise WrongFile(f"best_estimator and estimator are not for a {name}.")
    return estimator


def _taken(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Take the arrays of this prefix out of all arrays."""
    names = [name for name in arrays if name.startswith(prefix)]
    return {name.removeprefix(prefix): arrays.pop(name) for name in names}


def _check_header(header: dict[str, Any]) -> None:
    for name in header:
        if name not in FIELDS:
            raise WrongFile(f"the header has an unknown field {name!r:.60}.")
    for name in FIELDS:
        if name not in header and name not in OPTIONAL:
            raise WrongFile(f"the header has no field {name!r}.")
    names, d = header["feature_names"], header["n_features"]
    is_classifier = isinstance(header["classes"], dict)
    multilabel = header["multilabel"]
    is_right = {
        "library_version": isinstance(header.get("library_version", ""), str),
        "class": isinstance(header["class"], str) and header["class"] in CLASSES,
        "parameters_not_kept": isinstance(header.get("parameters_not_kept", {}), dict),
        "n_features": type(d) is int and 1 <= d < 2**53,
        "feature_names": names is None
        or (
            isinstance(names, list)
            and len(names) == d
            and all(isinstance(feature, str) for feature in names)
        ),
        "target_dtype": header["target_dtype"] in (None, "float32", "float64"),
        "sparse_coef": type(header["sparse_coef"]) is bool,
        "classes": header["classes"] is None or is_classifier,
        "multilabel": multilabel is None
        or (
            header["class"] == "LeastSquaresClassifier"
            and isinstance(multilabel, dict)
            and set(multilabel) == {"sparse"}
            and type(multilabel["sparse"]) is bool
        ),
        "attributes": isinstance(header["attributes"], dict),
        "table": header.get("table") is None or isinstance(header["table"], dict),
    }
    for name, holds in is_right.items():
        if not holds:
            raise WrongFile(f"{name} in the header is not allowed: {header.get(name)!r:.60}.")
    if header["class"].endswith("Classifier") != is_classifier:
        raise WrongFile(f"classes do not go with class {header['class']}.")


def check_parameters(estimator) -> None:
    """Check the parameters of an estimator as its `fit` does; raise ValueError."""
    check.check_n_jobs(estimator.n_jobs)
    if estimator.backend is not None:
        check_backend_name(estimator.backend)
    if isinstance(estimator, LeastSquaresCV):
        if estimator.alphas is not None:
            check_alphas(estimator.alphas, "alphas")
        estimator._check_other_parameters(
            estimator.alphas is None or bool(np.any(estimator.alphas))
        )
    elif isinstance(estimator, LeastSquaresClassifier):
        estimator._regressor()
    elif isinstance(estimator, SGDRegressorCV):
        estimator._falling_alphas()
    else:
        estimator._check_parameters()


def _nested_parameter(header: dict[str, Any]) -> SGDRegressor | None:
    told = header.get("estimator")
    if told is None:
        return None
    if not isinstance(told, dict) or set(told) != {"parameters"}:
        raise WrongFile("estimator must have parameters and nothing else.")
    where = "estimator: parameters"
    nested = SGDRegressor(**parameters_from_json(SGDRegressor, told["parameters"], where))
    try:
        nested._check_parameters()
    except (ValueError, TypeError) as error:
        raise WrongFile(f"{where}: {error}") from error
    return nested


def _set_weights(estimator, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Set what `predict` needs, taken out of the arrays."""
    d = header["n_features"]
    estimator.n_features_in_ = d
    if header["feature_names"] is not None:
        estimator.feature_names_in_ = np.array(header["feature_names"], dtype=object)
    is_classifier = header["classes"] is not None
    for name in PREDICTING[:2] if is_classifier else PREDICTING:
        if name not in arrays:
            raise WrongFile(f"arrays: {name} is missing.")
        if not np.isfinite(arrays[name]).all():
            raise WrongFile(f"arrays: {name} has NaN or infinity.")
    coef, intercept = arrays.pop("coef_"), arrays.pop("intercept_")
    if coef.ndim not in ((2,) if is_classifier else (1, 2)) or coef.shape[-1] != d:
        raise WrongFile(
            f"arrays: coef_ has shape {coef.shape}, which does not go with {d} features."
        )
    t = len(coef) if coef.ndim == 2 else 1
    if t == 0:
        raise WrongFile("arrays: coef_ has no rows.")
    origin = intercept if is_classifier else arrays.pop("origin")
    for name, array in (("intercept_", intercept), ("origin", origin)):
        if array.shape != (t,) or array.dtype != np.float64:
            raise WrongFile(
                f"arrays: {name} must have shape {(t,)} and dtype float64, found {array.shape} "
                f"and {array.dtype}."
            )
    _set_labels(estimator, header, t)
    estimator.coef_, estimator.intercept_ = coef, intercept
    if isinstance(estimator, LeastSquaresRegressor):
        if coef.ndim == 1:
            estimator.intercept_ = float(intercept[0])
        estimator._evidence = None
        estimator._evidence_advice = "A model file does not keep it: fit again"
    if not is_classifier:
        estimator._origin = origin
    if header["sparse_coef"]:
        if not hasattr(estimator, "sparsify"):
            raise WrongFile(f"sparse_coef is not for a {header['class']}.")
        estimator.sparsify()


def _set_labels(estimator, header: dict[str, Any], t: int) -> None:
    """Set the classes of a classifier of t scores, or the dtype of a regressor's targets."""
    if header["classes"] is None:
        if header["target_dtype"] is None:
            raise WrongFile("target_dtype in the header is missing.")
        estimator._target_dtype = np.dtype(header["target_dtype"])
        return
    labels = labels_from_json(header["classes"])
    estimator.classes_ = labels
    if header["multilabel"] is not None:
        if not np.array_equal(labels, np.arange(t)):
            raise WrongFile(f"classes of multilabel must be 0 to {t - 1}.")
        binarizer = LabelBinarizer(neg_label=-1, pos_label=1)
        binarizer.y_type_ = "multilabel-indicator"
        binarizer.sparse_input_ = header["multilabel"]["sparse"]
        binarizer.classes_ = labels
        estimator._label_binarizer = binarizer
    elif t != (1 if len(labels) == 2 else len(labels)):
        raise WrongFile(f"classes has {len(labels)} labels, but coef_ is for {t} scores.")


def _set_attributes(estimator, told: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Set what tells of the fit, taken out of the arrays."""
    known = ATTRIBUTES[type(estimator).__name__]
    for name, value in told.items():
        if name not in known:
            raise WrongFile(f"attributes: {type(estimator).__name__} has no {name!r:.60}.")
        setattr(estimator, name, _attribute(value, known[name].kinds, f"attributes: {name}"))
    for name in [name for name in arrays if name in known]:
        array = arrays.pop(name)
        if name in told or array.ndim not in known[name].ndims:
            raise WrongFile(f"arrays: {name} can't have {array.ndim} dimensions.")
        setattr(estimator, name, array)


def _check_paths(estimator) -> None:
    """Check that what has an entry per strength of the penalty has as many, of the right shape."""
    shapes: dict[str, tuple[int, ...]] = {
        "coef_path_": np.shape(estimator.coef_),
        "intercept_path_": np.shape(estimator.intercept_),
    }
    for group in (("coef_path_", "intercept_path_"), ("alphas_", "mse_path_", "scores_")):
        found = {name: getattr(estimator, name) for name in group if hasattr(estimator, name)}
        for name, array in found.items():
            if name in shapes and array.shape[1:] != shapes[name]:
                raise WrongFile(f"arrays: {name} has shape {array.shape}, unlike the weights.")
            if name in shapes and not np.isfinite(array).all():
                raise WrongFile(f"arrays: {name} has NaN or infinity.")
        if len({len(array) for array in found.values()}) > 1:
            raise WrongFile(f"arrays: {' and '.join(found)} have different numbers of entries.")


def _attribute(value, kinds: str, where: str) -> Any:
    if kinds == "text" and isinstance(value, str):
        return value
    if kinds == "whole" and type(value) is int and 0 <= value < 2**63:
        return value
    if kinds == "number":
        return number_from_json(value, where)
    if kinds == "numbers" and isinstance(value, list):
        return [number_from_json(number, where) for number in value]
    raise WrongFile(f"{where} is not allowed: {value!r:.60}.")


def _set_moments(estimator, header, arrays: dict[str, np.ndarray]) -> None:
    """Set the rows that `partial_fit` has seen."""
    kinds = (LeastSquaresRegressor, LeastSquaresClassifier)
    if not isinstance(estimator, kinds) or isinstance(estimator, LeastSquaresCV):
        raise WrongFile(f"moments are not for a {type(estimator).__name__}.")
    if not isinstance(header, dict):
        raise WrongFile("moments must be an object.")
    moments = Moments()
    try:
        fill(moments, header, arrays)
    except WrongFile as error:
        raise WrongFile(f"moments: {error}") from error
    t = len(np.atleast_1d(estimator.intercept_))
    if (moments.n_features, moments.n_targets) != (estimator.n_features_in_, t):
        raise WrongFile(
            f"moments are of {moments.n_features} features and {moments.n_targets} targets, "
            f"coef_ is of {estimator.n_features_in_} and {t}."
        )
    estimator._moments = moments


def _set_best(estimator, header, arrays: dict[str, np.ndarray]) -> None:
    if not isinstance(header, dict) or header.get("class") != "SGDRegressor":
        raise WrongFile("best_estimator must be a record of an SGDRegressor.")
    try:
        best = estimator_of(Record(header, arrays))
    except WrongFile as error:
        raise WrongFile(f"best_estimator: {error}") from error
    if best.n_features_in_ != estimator.n_features_in_:
        raise WrongFile("best_estimator has another number of features.")
    estimator.best_estimator_ = best
