"""Without Numba, which a new Python may have to wait for: all but the backends that it compiles."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import fastlsgd

TESTS = Path(__file__).resolve().parents[1]
BLOCK = "import sys\nsys.modules['numba'] = None\n"
SAMPLE = (
    "kernels/test_kernels_rows.py",
    "linear_model/test_edges_targets.py",
    "linear_model/test_metadata.py",
)


def run(code: str, *arguments: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-P", "-c", BLOCK + code, *arguments], capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stdout[-5000:] + finished.stderr[-2000:]
    return finished.stdout


@pytest.mark.skipif(
    fastlsgd.available_backends()["native"] != "available", reason="native was not built"
)
def test_auto_takes_native_and_numba_says_what_to_install():
    printed = run("""
import warnings
warnings.simplefilter("error")
import fastlsgd
print(fastlsgd.SGDRegressor().fit([[0.0], [1.0], [2.0]], [1.0, 2.0, 3.0]).backend_)
print(fastlsgd.LeastSquaresRegressor().fit([[0.0], [1.0], [2.0]], [1.0, 2.0, 3.0]).backend_)
status = fastlsgd.available_backends()
print(status["native"], status["reference"])
print(status["numba"])
print(status["cuda"])
try:
    fastlsgd.predict([[1.0]], [1.0], backend="numba")
except ImportError as error:
    print(error)
fastlsgd.show_versions()
""")
    *backends, available, numba, cuda, error = printed.splitlines()[:6]
    assert backends == ["native", "native"]
    assert available == "available available"
    assert numba.endswith("to have it: pip install numba")
    assert 'to have it: pip install "fastlsgd[cuda]"' in cuda
    assert error.endswith("To have it: pip install numba")


def test_a_numba_that_may_not_compile(monkeypatch):
    numba = pytest.importorskip("numba")
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    monkeypatch.delitem(sys.modules, "fastlsgd.kernels.numba_cpu.compile", raising=False)
    with pytest.raises(ValueError, match="NUMBA_DISABLE_JIT is set"):
        importlib.import_module("fastlsgd.kernels.numba_cpu.compile")


def test_a_library_that_cannot_be_loaded_is_a_missing_backend(monkeypatch):
    def failing(name):
        raise OSError("Could not find/load shared object file 'libllvmlite.so'")

    monkeypatch.setattr(fastlsgd.kernels.importlib, "import_module", failing)
    assert isinstance(fastlsgd.kernels._import_backend.__wrapped__("numba"), ImportError)


def test_a_sample_of_the_suite():
    printed = run(
        "import pytest\nsys.exit(pytest.main(sys.argv[1:]))",
        *("-q", "-n0", "-p", "no:cacheprovider", "-rs", "--deselect", __file__),
        *(str(TESTS / file) for file in SAMPLE),
    )
    assert " passed" in printed
    assert "to have it: pip install numba" in printed.lower()  # why tests of its backend skip
