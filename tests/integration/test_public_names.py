"""What is reachable after ``import fastlsgd`` alone."""

import importlib.util
import inspect
import subprocess
import sys
from typing import get_overloads

import fastlsgd

AFTER_IMPORT = """
import sys, fastlsgd
loaded = [name for name in sys.modules if name.partition(".")[0] in ("numpy", "scipy", "sklearn")]
assert not loaded, loaded
assert "functional" not in vars(fastlsgd)
print(fastlsgd.functional.gram.__name__, fastlsgd.streaming.scan.__name__)
"""


def test_modules_are_attributes_from_the_start():
    finished = subprocess.run(
        [sys.executable, "-P", "-c", AFTER_IMPORT], capture_output=True, text=True
    )
    assert finished.stdout == "gram scan\n", finished.stderr


def test_dir_lists_what_can_be_used():
    listed = dir(fastlsgd)
    assert {*fastlsgd.__all__, "functional", "datasets"} <= set(listed)
    assert "importlib" not in listed
    for name in ("dask", "jax", "numba", "torch"):
        assert (name in listed) == (importlib.util.find_spec(name) is not None)
    assert not {"dask", "jax", "numba", "sklearn", "torch"} & set(fastlsgd.__all__)


def public_functions():
    """Yield the public functions, and the methods of public classes, that are this package's."""
    for module in (fastlsgd, fastlsgd.streaming, fastlsgd.plotting, fastlsgd.sklearn):
        for name in module.__all__:
            owner = getattr(module, name)
            members = [owner]
            if inspect.isclass(owner):
                members = [getattr(owner, own) for own in dir(owner) if own[0] != "_"]
                members += [owner.__init__]
            for member in members:
                function = inspect.unwrap(getattr(member, "__func__", member))
                if inspect.isfunction(function) and function.__module__.startswith("fastlsgd"):
                    yield function


def test_type_checkers_know_what_functions_return():
    """In a program that is checked by ``mypy --strict``, a call without types is an error."""
    functions = set(public_functions())
    assert len(functions) > 80
    untyped = [
        f"{function.__module__}.{function.__qualname__}"
        for function in functions
        if "return" not in function.__annotations__ and not get_overloads(function)
    ]
    assert untyped == []
