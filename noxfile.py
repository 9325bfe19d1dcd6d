"""Environments that CI and developers share: `nox -s oldest`, `nox -s newest`, `nox -s lint`.

Each session installs the package as a user would, not in editable form. `nox -P 3.13 -s newest`
takes another Python.
"""

from pathlib import Path

import nox

nox.needs_version = ">=2024.4"
nox.options.sessions = ["lint", "newest"]
nox.options.reuse_existing_virtualenvs = True


@nox.session(python="3.11")
def oldest(session: nox.Session) -> None:
    """The suite with the oldest versions that pyproject.toml allows: those of tests/oldest.txt."""
    session.install(".[test]", "--constraint", "tests/oldest.txt")
    run_suite(session)


@nox.session
def newest(session: nox.Session) -> None:
    """The suite with the newest versions that the registry has."""
    session.install(".[test]", "--upgrade", "--upgrade-strategy", "eager")
    run_suite(session)


def run_suite(session: nox.Session) -> None:
    session.run("pip", "list")
    session.run("pytest", *session.posargs)


@nox.session
def cuda(session: nox.Session) -> None:
    """The CUDA backend without a GPU, in the PTX emulator and on Numba's simulator."""
    session.install(".[test-cuda]")
    session.run(
        *("pytest", "-n", "auto", "--dist", "worksteal", "tests/cuda"),
        *session.posargs,
        env={"FASTLSGD_TEST_CUDA": "1"},
    )


@nox.session
def frameworks(session: nox.Session) -> None:
    """PyTorch, JAX, ONNX and FastAPI: adapters, pages and examples; PyTorch without CUDA."""
    packages = ".[test,torch,jax,onnx]", "onnxruntime", "fastapi", "uvicorn"
    session.install(*packages, "--extra-index-url", "https://download.pytorch.org/whl/cpu")
    session.run(
        "pytest",
        "tests/frameworks",
        "tests/integration/test_docs.py",
        "tests/integration/test_examples.py",
        *session.posargs,
        env={"FASTLSGD_TEST_FRAMEWORKS": "1"},
    )


@nox.session
def lint(session: nox.Session) -> None:
    """ruff, mypy, clang-format and zizmor, which checks the workflows."""
    session.install(".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    suffixes = (".c", ".h", ".hpp", ".inc")
    sources = [str(path) for path in Path("csrc").iterdir() if path.suffix in suffixes]
    session.run("clang-format", "--dry-run", "-Werror", *sources)
    session.run("zizmor", "--offline", "--quiet", ".github")


@nox.session
def sanitize(session: nox.Session) -> None:
    """The native kernels under AddressSanitizer and UndefinedBehaviorSanitizer."""
    session.install(".[dev]")
    session.run(".ci/sanitize", *session.posargs, external=True)
