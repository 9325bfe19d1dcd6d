"""What all tests share: every backend as a fixture, and Hypothesis without surprises.

The backend "cuda" takes part where there is a GPU (mark `cuda`: ``pytest -m cuda`` runs its tests
alone). Without one it takes part, alone, with FASTLSGD_TEST_PTX=1: compiled as for a GPU and run by
the machine in `ptx/`; or with NUMBA_ENABLE_CUDASIM=1 on Numba's simulator, on small data.
"""

from __future__ import annotations

import os

# Several processes share the processors (test_cuda_without_gpu.py): a thread that waits shall not
# spin meanwhile. OpenMP reads it when it is loaded, hence before the first import of a kernel.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
from hypothesis import HealthCheck, settings

from fastlsgd.kernels import BACKENDS, load_backend

# The same examples in each run, and no deadline: a first call compiles, and machines are shared.
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


def pytest_configure(config):
    # A mark of scikit-learn's own tests, which test_sklearn_own.py runs.
    config.addinivalue_line("markers", "no_check_spmatrix: of scikit-learn's own tests")


# test_cuda_without_gpu.py waits for processes of its own: they run beside all other tests.


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: hasattr(item.module, "begin"))


def pytest_collection_finish(session):
    if not session.config.option.collectonly:
        for module in {item.module for item in session.items if hasattr(item.module, "begin")}:
            module.begin(session)


def pytest_sessionfinish(session):
    for module in {item.module for item in session.items if hasattr(item.module, "end")}:
        module.end()


ALLOW_MISSING = os.environ.get("FASTLSGD_TEST_ALLOW_MISSING") == "1"


def _backends():
    """Every backend, and the native one once for each instruction set of this machine."""
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
    """(name, instruction set or None) of a backend, set up so; skips where it is missing."""
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
    """A backend's module of kernels."""
    return load_backend(backend[0])
