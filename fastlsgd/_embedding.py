"""Where the C library and its headers are installed, for those who compile against them.

docs/embedding.md describes the library.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

__all__ = ["get_include", "get_library_dir"]


def get_include() -> str:
    """Return the folder of the C and C++ headers, `fastlsgd.h` and `fastlsgd.hpp`.

    Returns
    -------
    folder : str
        An absolute path, for ``include_dirs`` of an extension module or ``-I`` of a compiler.

    Raises
    ------
    RuntimeError
        If the package was installed without its native kernels.

    Examples
    --------
    >>> import fastlsgd
    >>> from pathlib import Path
    >>> Path(fastlsgd.get_include(), "fastlsgd.h").exists()
    True
    """
    return str(_prefix() / "include")


def get_library_dir() -> str:
    """Return the folder of the C library, to link a program to it.

    An extension module that cimports `fastlsgd.kernels.native` does not need it.

    Returns
    -------
    folder : str
        An absolute path, for ``-L`` of a linker. Its subfolder ``cmake/fastlsgd`` is the package of
        CMake's ``find_package(fastlsgd CONFIG)``, and ``pkgconfig`` that of pkg-config.

    Raises
    ------
    RuntimeError
        If the package was installed without its native kernels.

    Examples
    --------
    >>> import fastlsgd
    >>> from pathlib import Path
    >>> Path(fastlsgd.get_library_dir(), "pkgconfig", "fastlsgd.pc").exists()
    True
    """
    return str(_prefix() / "lib")


def _prefix() -> Path:
    """The installed package, which in an editable install is not where the Python files are."""
    spec = find_spec("fastlsgd.kernels.native")
    if spec is None or spec.origin is None:
        raise RuntimeError(
            "fastlsgd is installed without its native kernels, and so without the C library: "
            "reinstall it where a C compiler (GCC or Clang) is found."
        )
    return Path(spec.origin).resolve().parents[1]
