"""Fixtures that all tests share, in particular one for every backend, and Hypothesis's settings.

The backend "cuda" is tested where there is a GPU (mark `cuda`; ``pytest -m cuda`` runs only these
tests). Without a GPU there are two ways to test it, and it alone: with FASTLSGD_TEST_PTX=1 it is
compiled as for a GPU and run by the PTX emulator in `ptx/`; with NUMBA_ENABLE_CUDASIM=1 it runs on
Numba's simulator, on small data.
"""

from __future__ import annotations

import os
import signal

# Several processes share the processors (test_cuda_without_gpu.py), so waiting threads must not
# spin. OpenMP reads this variable when it is loaded, that is, at the first import of a kernel.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from fastlsgd.kernels import BACKENDS, load_backend, usable_processors

# Each run has the same examples. There is no deadline: first calls compile, machines are shared.
settings.register_profile(
    "fastlsgd",
    deadline=None,
    derandomize=True,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("fastlsgd")

ON_PTX_MACHINE = os.environ.get("FASTLSGD_TEST_PTX") == "1"
SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
if ON_PTX_MACHINE:
    from ptx import machine

    machine.install()
if SIMULATED:
    import simulator

    simulator.install()
    settings.register_profile("simulated", settings.get_profile("fastlsgd"), max_examples=10)
    settings.load_profile("simulated")


# A shell that starts tests in the background has them ignore Ctrl-C, and all that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Run the whole suite in one process per processor; a part of it, or with -n, as asked."""
    options = config.option
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if "PYTEST_XDIST_WORKER" in os.environ or not whole or options.usepdb:
        return  # a worker above all must not start workers of its own
    if getattr(options, "numprocesses", 0) is None:
        options.numprocesses, options.dist = usable_processors(), "worksteal"


def pytest_configure(config):
    # A mark that scikit-learn's own tests use, which test_sklearn_own.py runs.
    config.addinivalue_line("markers", "no_check_spmatrix: of scikit-learn's own tests")


@pytest.fixture(autouse=True)
def seeded():
    """Seed the generator that estimators without a `random_state` use, so that runs are alike."""
    np.random.seed(0)  # noqa: NPY002


ALLOW_MISSING = os.environ.get("FASTLSGD_TEST_ALLOW_MISSING") == "1"


def _backends():
    """All backends; the native one once for each instruction set of this machine."""
    for name in ("cuda",) if SIMULATED or ON_PTX_MACHINE else BACKENDS:
        marks = pytest.mark.cuda if name == "cuda" else ()
        try:
            module = load_backend(name)
        except ImportError:
            yield pytest.param((name, None), id=name, marks=marks)
            continue
        if hasattr(module, "isas"):
            for isa in module.isas():
                yield pytest.param((name, isa), id=f"{name}[{isa}]")
        else:
            yield pytest.param((name, None), id=name, marks=marks)


@pytest.fixture(scope="module", params=_backends())
def backend(request):
    """Name and instruction set (or None) of a backend that is in use; skips if it is missing."""
    name, isa = request.param
    try:
        module = load_backend(name)
    except ImportError as error:
        pytest.skip(str(error))
    if isa is None:
        yield name, None
        if name == "cuda":
            module.free_workspace()
        return
    before = module.isa()
    module.set_isa(isa)
    yield name, isa
    module.set_isa(before)


@pytest.fixture(scope="module")
def kernels(backend):
    """The kernels of a backend."""
    return load_backend(backend[0])
