"""Parameters of estimators as JSON has them.

Numbers, strings, None and lists of these stand for themselves, and so do lists in lists (of bounds
and constraints). An array of NumPy is ``{"array": [[...], ...], "dtype": "float64"}``, a dict (of
`class_weight`) ``{"dict": [[label, weight], ...]}``, and an optimizer or schedule
``{"object": "Adam", "parameters": {...}}``, with a name that this module knows. What JSON can't
have (functions, splitters, generators of random numbers) is not kept.
"""

from __future__ import annotations

import inspect
import math
from contextlib import suppress
from numbers import Integral, Real
from typing import Any

import numpy as np

from .. import optimizers
from .._checked_files import WrongFile
from .._validation import shown
from .container import SPECIAL, number_as_json
from .labels import NUMBER_DTYPES

OBJECTS: dict[str, type] = {
    kind.__name__: kind
    for kind in (*optimizers.OPTIMIZERS.values(), *optimizers.SCHEDULES.values())
}
# A pair of a matrix and a vector is a list of lists of lists.
DEEPEST = 3
KEYS = (str, int, float, bool)
ARRAY = {"array", "dtype"}


class NotKept(Exception):
    """A value that a file can't have."""


def parameters_as_json(estimator) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the parameters of an estimator, and those that are not kept, as text."""
    kept: dict[str, Any] = {}
    left: dict[str, str] = {}
    for name, value in estimator.get_params(deep=False).items():
        try:
            kept[name] = value_as_json(value)
        except NotKept:
            left[name] = shown(value)
    return kept, left


def value_as_json(value) -> Any:
    """Return a parameter as JSON has it.

    Raises
    ------
    NotKept
        If it can't have it.
    """
    if value is None or isinstance(value, (str, bool, np.bool_)):
        return bool(value) if isinstance(value, np.bool_) else value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return number_as_json(float(value))
    if isinstance(value, np.ndarray) and value.ndim <= 2 and value.dtype.kind in "biuf":
        items = value_as_json(value.tolist())
        if value.size == 0 or value.ndim == 0 or not NUMBER_DTYPES.fullmatch(value.dtype.name):
            return items
        return {"array": items, "dtype": value.dtype.name}
    if isinstance(value, (list, tuple)):
        items = [value_as_json(item) for item in value]
        if depth_of(items) > DEEPEST:
            raise NotKept
        return items
    if isinstance(value, dict):
        keys = [key.item() if isinstance(key, np.generic) else key for key in value]
        if not all(type(key) in KEYS for key in keys):
            raise NotKept
        weights = [value_as_json(weight) for weight in value.values()]
        return {"dict": [list(pair) for pair in zip(keys, weights, strict=True)]}
    name = type(value).__name__
    if OBJECTS.get(name) is type(value):
        own, left = parameters_as_json(value)
        if not left:
            return {"object": name, "parameters": own}
    raise NotKept


def depth_of(items) -> float:
    """Return how deep lists are nested; infinite if too deep, or if there is a dict among them.

    An array counts as a number.
    """
    depth, inner = 0, items
    while any(isinstance(item, (list, dict)) for item in inner):
        depth += 1
        if depth > DEEPEST or any(isinstance(i, dict) and set(i) != ARRAY for i in inner):
            return math.inf
        inner = [item for part in inner if isinstance(part, list) for item in part]
    return 1 + depth


def parameters_from_json(kind: type, told, where: str) -> dict[str, Any]:
    """Return the parameters of a class that a file has.

    Raises
    ------
    WrongFile
        If there are unknown ones, or values that no parameter has.
    """
    if not isinstance(told, dict):
        raise WrongFile(f"{where} must be an object.")
    known = set(inspect.signature(kind).parameters)
    for name in told:
        if name not in known:
            raise WrongFile(f"{where}: {kind.__name__} has no parameter {name!r:.60}.")
    return {name: value_from_json(value, f"{where}: {name}") for name, value in told.items()}


def value_from_json(value, where: str) -> Any:
    """Return the parameter that JSON has; its estimator checks it further."""
    if isinstance(value, str) and value in SPECIAL:
        return SPECIAL[value]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, list) and depth_of(value) <= DEEPEST:
        return [value_from_json(item, where) for item in value]
    if isinstance(value, dict) and set(value) == {"dict"} and isinstance(value["dict"], list):
        pairs = value["dict"]
        if all(
            isinstance(pair, list) and len(pair) == 2 and type(pair[0]) in KEYS for pair in pairs
        ):
            return {label: value_from_json(weight, where) for label, weight in pairs}
    if isinstance(value, dict) and set(value) == ARRAY:
        return _array_from_json(value, where)
    if isinstance(value, dict) and set(value) == {"object", "parameters"}:
        kind = OBJECTS.get(value["object"]) if isinstance(value["object"], str) else None
        if kind is not None:
            return kind(**parameters_from_json(kind, value["parameters"], where))
    raise WrongFile(f"{where} can't be {value!r:.60}.")


def _array_from_json(told: dict[str, Any], where: str) -> np.ndarray:
    """Return an array of one or two dimensions, whose numbers are those of its dtype."""
    items, dtype = told["array"], told["dtype"]
    if isinstance(dtype, str) and NUMBER_DTYPES.fullmatch(dtype) and isinstance(items, list):
        numbers = value_from_json(items, where)
        with suppress(ValueError, TypeError, OverflowError), np.errstate(over="ignore"):
            array = np.array(numbers, dtype=dtype)
            exact = np.array(numbers)
            if array.ndim in (1, 2) and array.size and np.array_equal(array, exact, equal_nan=True):
                return array
    raise WrongFile(f"{where} can't be an array of {told!r:.60}.")
