"""What is reachable after ``import fastlsgd`` alone."""

import importlib.util
import subprocess
import sys

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
