"""The PTX emulator: PTX that Numba compiles for compute capability 9.0, run on this processor.

`install` puts the driver of `driver.c` in place of libcuda.so.1, and makes Numba's linker pass it
PTX that `translate.py` has translated to C. Everything else is what runs on a GPU: the package's
kernels, with 32 lanes and 256 threads, shuffles, 16-byte loads and cooperative launches, and
Numba's dispatcher, arrays, streams and events. The PTX emulator cannot show speed, nor how the
memory of a GPU behaves in races that its checks do not detect.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from .translate import translate

HERE = Path(__file__).parent
COMPILER = os.environ.get("CC", "gcc")
_version = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(HERE.glob("*.[chp]*"))))
_folder = Path(tempfile.gettempdir()) / f"fastlsgd-ptx-{os.getuid()}-{_version.hexdigest()[:12]}"


def _compiled(source: str, name: str, *flags: str) -> Path:
    """A shared library compiled from this C source, cached for later processes."""
    digest = hashlib.sha256("\0".join((source, *flags)).encode()).hexdigest()[:24]
    library = _folder / digest / name
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_folder) as work:
            (Path(work) / "module.c").write_text(source)
            built = Path(work) / name
            subprocess.run(
                [COMPILER, "-O1", "-g1", "-w", "-ffp-contract=off", "-shared", "-fPIC", f"-I{HERE}",
                 "module.c", *flags, "-o", built, "-lm", "-ldl"],
                cwd=work, check=True,
            )  # fmt: skip
            os.replace(built, library)
    return library


def _complete(linker):
    """Replace `_Linker.complete`: a module is the path of a library that the driver opens."""
    from cuda.core import Linker, ObjectCode

    # libcudadevrt, which has the barrier of the grid, cannot be translated to PTX; translate.py
    # has its two functions. This checks that linking with it works.
    parts = [part for part in linker._object_codes if part.code_type != "library"]
    if len(parts) < len(linker._object_codes):
        Linker(*linker._object_codes, options=linker._get_linker_options(ptx=False)).link("cubin")
        linker._object_codes = parts
    ptx = linker.get_linked_ptx().decode().strip("\0")
    library = _compiled(translate(ptx), "module.so")
    return ObjectCode.from_cubin(str(library).encode() + b"\0")


@cache
def driver() -> ctypes.CDLL:
    """The library, loaded under the name of the CUDA driver."""
    name = "libcuda.so.1"
    path = _compiled((HERE / "driver.c").read_text(), name, f"-Wl,-soname,{name}")
    library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    library.ptx_failure.restype = ctypes.c_char_p
    return library


def failure() -> str:
    """The message of the last failed check, which is then forgotten."""
    return driver().ptx_failure().decode()


def install() -> None:
    """Install the emulator; to be called before anything imports `numba.cuda`."""
    if "numba.cuda.cudadrv.driver" in sys.modules:
        raise RuntimeError("numba.cuda is loaded already")
    driver()
    # Numba's cache names our files, so that both depend on this code and are kept together.
    os.environ.setdefault("NUMBA_CACHE_DIR", str(_folder / "numba"))
    from numba import cuda

    cuda.cudadrv.driver._Linker.complete = _complete
