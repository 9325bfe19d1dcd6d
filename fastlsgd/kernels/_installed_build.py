"""The compiled module of the installed package, for a Python that is started in a clone.

There, `import fastlsgd` imports the directory of sources, which hides the installed package and
its compiled module `native`. So the package `fastlsgd.kernels` also searches the directory of the
installed one, provided that it was built from the same C and Cython sources as the clone has:
CMakeLists.txt stores their digest next to the module. A build from other sources is not loaded, and
the error says so.

An editable install needs none of this: its importer finds the module itself.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

_KERNELS = Path(__file__).resolve().parent
_ROOT = _KERNELS.parents[1]


def look_for_native(path: list[str]) -> str | None:
    """Append to the search path of `fastlsgd.kernels` the folder where `native` is installed.

    Returns
    -------
    reason : str or None
        Why an installed build was not taken; None where one was, or where there is none.
    """
    in_clone = (_ROOT / "csrc").is_dir()
    if not in_clone or find_spec("fastlsgd.kernels.native") is not None:
        return None
    from importlib import metadata  # slow to import, like hashlib

    reason = None
    for distribution in metadata.distributions(name="fastlsgd"):
        folder = Path(str(distribution.locate_file("fastlsgd/kernels")))
        try:
            built_from = (folder / "native.sources").read_text("ascii").strip()
        except OSError:  # installed without a C compiler
            continue
        if built_from == _digest_of_sources():
            path.append(str(folder))
            return None
        reason = f"the build in {folder} was made from other sources than those in {_ROOT}"
    return reason


def _digest_of_sources() -> str:
    """The digest of the sources, as CMakeLists.txt computes it."""
    import hashlib

    csrc = _ROOT / "csrc"
    sources = [file for suffix in ("c", "h", "inc") for file in csrc.glob(f"*.{suffix}")]
    sources += (_ROOT / "cmake").glob("*.cmake")
    sources += [_ROOT / "CMakeLists.txt", _KERNELS / "native.pyx", _KERNELS / "native.pxd"]
    hashes = sorted(hashlib.sha256(source.read_bytes()).hexdigest() for source in sources)
    return hashlib.sha256(";".join(hashes).encode()).hexdigest()
