"""A Cython module of another package cimports the kernels and calls them without the GIL."""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig

import numpy as np
import pytest
from installed import HERE, needs_native, run, tool

import fastlsgd

pytestmark = [
    needs_native,
    pytest.mark.skipif(sys.platform == "win32", reason="calls compilers as Unix has them"),
]


@pytest.fixture(scope="module")
def caller(tmp_path_factory):
    """The compiled caller.pyx; no library is linked."""
    build = pytest.importorskip("Cython.Build.Dependencies")
    source = tmp_path_factory.mktemp("cython") / "caller.pyx"
    source.write_text((HERE / "caller.pyx").read_text("utf-8"))
    build.cythonize(str(source), quiet=True)
    module = source.with_name("caller" + sysconfig.get_config_var("EXT_SUFFIX"))
    compiler = tool(os.environ.get("CC", "cc"), "gcc", "clang")
    folders = (sysconfig.get_path("include"), fastlsgd.get_include())
    shared = ("-shared", "-undefined", "dynamic_lookup")[: 3 if sys.platform == "darwin" else 1]
    run(compiler, "-O1", "-fPIC", *shared, *(f"-I{folder}" for folder in folders),
        source.with_suffix(".c"), "-o", module)  # fmt: skip
    spec = importlib.util.spec_from_file_location("caller", module)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_gradient_is_that_of_the_package(caller, order):
    rng = np.random.default_rng(0)
    X, y = np.asarray(rng.normal(size=(50, 4)), order=order), rng.normal(size=50)
    w, dw = rng.normal(size=4), np.empty(4)
    loss, intercept = caller.gradient(X, y, w, dw)
    wanted = fastlsgd.loss_gradient(X, y, w, backend="native")
    assert (loss, intercept) == (wanted.loss, wanted.intercept)
    np.testing.assert_array_equal(dw, wanted.coef)
