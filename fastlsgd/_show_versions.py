"""The contents of a bug report: versions, machine, kernels."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TextIO

from ._version import __version__
from .kernels import BACKENDS, available_backends, load_backend, resolve_backend, resolve_threads

__all__ = ["show_versions"]

_PACKAGES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "numba",
    "numba-cuda",
    "cuda-core",
    "threadpoolctl",
    "joblib",
    "matplotlib",
    "cython",
    "pandas",
    "torch",
    "jax",
)


def show_versions(file: TextIO | None = None) -> None:
    """Print the versions of fastlsgd, its kernels, the machine and the packages around it.

    Nothing here raises where something is missing: it says so instead. Packages other than
    the backends are looked up, not imported.

    Parameters
    ----------
    file : text file, optional
        Where to print. Default: standard output.

    Examples
    --------
    >>> import io
    >>> import fastlsgd
    >>> report = io.StringIO()
    >>> fastlsgd.show_versions(report)
    >>> report.getvalue().startswith("fastlsgd")
    True
    """
    print(f"fastlsgd {__version__}", file=file)
    for title, entries in (
        ("Machine", _machine()),
        ("Kernels", _kernels()),
        ("Packages", _packages()),
    ):
        print(f"\n{title}", file=file)
        for name, value in entries:
            print(f"  {name:<13} {value}", file=file)


def _machine() -> Iterator[tuple[str, str]]:
    yield "python", f"{platform.python_version()} ({sys.executable})"
    yield "platform", platform.platform()
    yield "cpu", _cpu_model()
    cores = f"{os.cpu_count()}"
    if hasattr(os, "sched_getaffinity"):
        cores += f", {len(os.sched_getaffinity(0))} of them usable by this process"
    yield "cores", cores


def _kernels() -> Iterator[tuple[str, str]]:
    # An invalid environment variable is among the things that this report should show.
    try:
        in_use = resolve_backend()
        yield "in use", next(name for name in BACKENDS if _load_or_none(name) is in_use)
        yield "n_threads", f"at most {resolve_threads()}"
    except (ValueError, ImportError) as error:
        yield "in use", f"error: {error}"
    for name, status in available_backends().items():
        module = _load_or_none(name)
        isa = f", instruction set {module.isa()}" if hasattr(module, "isa") else ""
        yield name, status + isa
        if hasattr(module, "build_info"):
            for key, value in module.build_info().items():
                yield f"  {key}", value


def _load_or_none(name: str):
    """The module of a backend, or None where it can't be loaded."""
    try:
        return load_backend(name)
    except (ImportError, ValueError):
        return None


def _packages() -> Iterator[tuple[str, str]]:
    for name in _PACKAGES:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            yield name, "not installed"


def _cpu_model() -> str:
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        try:
            return subprocess.run(command, capture_output=True, text=True).stdout.strip()
        except OSError:
            return platform.processor()
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    except OSError:
        pass  # not Linux, or a container that hides it
    return platform.processor() or platform.machine()
