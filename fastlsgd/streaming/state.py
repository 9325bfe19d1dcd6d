"""The state of a fit as JSON and arrays, from which nothing can be executed.

Checkpoints of fits that are more than sums hold objects: a descent, an optimizer's state, a random
generator. They are written as a tree of plain values, in which arrays are named, and objects are
given by their class and attributes. Only classes of the modules below can be named: an object is
made without its constructor, and gets its attributes. Values that stand in several places are one
value again, since a descent may change an array in place.
"""

from __future__ import annotations

import dataclasses
import importlib
from enum import Enum
from typing import Any

import numpy as np
from scipy import sparse

from .._checked_files import WrongFile

PACKAGE = __name__.partition(".")[0]
MODULES = ("_column_totals", "kernels.contract", "moments", "optimizers", "solvers")
PLAIN = (bool, int, float, str, type(None))


def encoded(value: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """Return a value as a tree for JSON, and the arrays that the tree names.

    Raises
    ------
    TypeError
        If the value has parts of another kind, such as functions.
    """
    encoder = _Encoder()
    return encoder.tree(value), encoder.arrays


def decoded(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Return the value that `encoded` was given.

    Raises
    ------
    WrongFile
        If the tree is not one that `encoded` makes.
    """
    try:
        return _Decoder(arrays).value(tree)
    except (LookupError, TypeError, ValueError, AttributeError, ImportError) as error:
        raise WrongFile(f"the state in it can't be read ({error!r:.100}).") from error


class _Encoder:
    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.seen: dict[int, int] = {}
        self.kept: list[Any] = []  # so that no other object gets the identity of one seen

    def tree(self, value: Any) -> Any:
        if isinstance(value, PLAIN) and type(value) in PLAIN:
            return value
        if isinstance(value, Enum):
            return {"enum": _name(type(value)), "of": value.value}
        if isinstance(value, np.dtype):
            return {"dtype": value.str}
        if isinstance(value, np.generic):
            return {"scalar": self._array(np.asarray(value).reshape(1))}
        if isinstance(value, tuple):
            kind = {} if type(value) is tuple else {"class": _name(type(value))}
            return {"tuple": [self.tree(item) for item in value], **kind}
        if id(value) in self.seen:
            return {"again": self.seen[id(value)]}
        self.seen[id(value)] = len(self.kept)
        self.kept.append(value)
        return self._new(value)

    def _new(self, value: Any) -> dict[str, Any]:
        """Return a value that may stand in several places, when it is met first."""
        if isinstance(value, np.ndarray):
            if value.dtype.kind in "OUS":
                items = [self.tree(item) for item in value.ravel().tolist()]
                kind = "O" if value.dtype.kind == "O" else value.dtype.str
                return {"items": items, "shape": list(value.shape), "dtype": kind}
            is_fortran = value.flags.f_contiguous and not value.flags.c_contiguous
            return {"array": self._array(value.T if is_fortran else value), "T": is_fortran}
        if isinstance(value, sparse.csr_array):
            parts = (value.data, value.indices, value.indptr)
            return {"csr": list(value.shape), "parts": [self._array(part) for part in parts]}
        if isinstance(value, list):
            return {"list": [self.tree(item) for item in value]}
        if isinstance(value, dict):
            return {"dict": [[self.tree(key), self.tree(item)] for key, item in value.items()]}
        if isinstance(value, np.random.RandomState):
            return {"random": self.tree(value.get_state(legacy=False))}
        if isinstance(value, np.random.Generator):
            return {"generator": self.tree(value.bit_generator.state)}
        return {"object": _name(type(value)), "has": self.tree(_attributes(value))}

    def _array(self, array: np.ndarray) -> str:
        name = str(len(self.arrays))
        self.arrays[name] = np.ascontiguousarray(array)
        return name


class _Decoder:
    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays
        self.made: list[Any] = []

    def value(self, tree: Any) -> Any:
        if isinstance(tree, PLAIN):
            return tree
        if "enum" in tree:
            return _class(tree["enum"], Enum)(tree["of"])
        if "dtype" in tree and "items" not in tree:
            return np.dtype(tree["dtype"])
        if "scalar" in tree:
            return self.arrays[tree["scalar"]][0]
        if "tuple" in tree:
            items = [self.value(item) for item in tree["tuple"]]
            return _class(tree["class"], tuple)(*items) if "class" in tree else tuple(items)
        if "again" in tree:
            return self.made[tree["again"]]
        place = len(self.made)
        self.made.append(None)
        return self._new(tree, place)

    def _new(self, tree: dict[str, Any], place: int) -> Any:
        """Return a value that may stand in several places, and keep it at its own."""
        made: Any
        if "list" in tree:
            made = self.made[place] = []
            made.extend(self.value(item) for item in tree["list"])
        elif "dict" in tree:
            made = self.made[place] = {}
            made.update((self.value(key), self.value(item)) for key, item in tree["dict"])
        elif "object" in tree:
            kind = _class(tree["object"], object)
            made = self.made[place] = object.__new__(kind)
            for name, item in self.value(tree["has"]).items():
                object.__setattr__(made, name, item)
        elif "array" in tree:
            found = self.arrays[tree["array"]].copy()
            made = self.made[place] = found.T if tree["T"] else found
        elif "csr" in tree:
            parts = tuple(self.arrays[name].copy() for name in tree["parts"])
            if any(part.dtype.kind != "i" for part in parts[1:]):
                raise ValueError("indices must be whole numbers")
            made = self.made[place] = sparse.csr_array(parts, shape=tuple(tree["csr"]))
            made.check_format(full_check=True)
        elif "items" in tree:
            made = self.made[place] = np.empty(len(tree["items"]), tree["dtype"])
            made[:] = [self.value(item) for item in tree["items"]]
            made = self.made[place] = made.reshape(tree["shape"])
        elif "random" in tree:
            made = self.made[place] = np.random.RandomState()
            made.set_state(self.value(tree["random"]))
        else:
            state = self.value(tree["generator"])
            kind = {"PCG64": np.random.PCG64, "MT19937": np.random.MT19937}[state["bit_generator"]]
            made = self.made[place] = np.random.Generator(kind())
            made.bit_generator.state = state
        return made


def _attributes(value: Any) -> dict[str, Any]:
    if hasattr(value, "__dict__"):
        return dict(vars(value))
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(f"a {type(value).__name__} can't be written to a checkpoint")


def _name(kind: type) -> str:
    """Return the name of a class by which `_class` finds it."""
    module = kind.__module__.removeprefix(f"{PACKAGE}.")
    if module == kind.__module__ or not _is_known(module):
        raise TypeError(f"a {kind.__module__}.{kind.__qualname__} can't be written to a checkpoint")
    return f"{module}:{kind.__qualname__}"


def _class(name: str, base: type) -> Any:
    module, _, own = name.partition(":")
    if not _is_known(module):
        raise ValueError(f"{name} is not allowed")
    kind = getattr(importlib.import_module(f".{module}", PACKAGE), own)
    is_own = isinstance(kind, type) and kind.__module__ == f"{PACKAGE}.{module}"
    if not is_own or not issubclass(kind, base):
        raise ValueError(f"{name} is not allowed")
    return kind


def _is_known(module: str) -> bool:
    return any(module == known or module.startswith(f"{known}.") for known in MODULES)
