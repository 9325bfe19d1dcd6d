"""The checksum of what a backend compiles, which is part of the names of its cached kernels.

Numba asks only whether the file of a kernel itself has changed, not those of the functions that it
calls. With the checksum in its name, a kernel is compiled anew after a change of any of them.
"""

from __future__ import annotations

import zlib
from pathlib import Path

_KERNELS = Path(__file__).parent


def checksum_of_backend(folder: Path) -> int:
    """The checksum of a backend's folder and of the formulas and constants that it compiles too."""
    return checksum(*folder.glob("*.py"), _KERNELS / "formulas.py", _KERNELS / "contract.py")


def checksum(*files: Path) -> int:
    """One checksum of the names and the contents of these files, in any order.

    It is 0 where they cannot be read: nobody changes what is installed in a zip file or without
    sources.
    """
    total = 0
    try:
        for file in sorted(files):
            total = zlib.crc32(file.read_bytes(), zlib.crc32(file.name.encode(), total))
    except OSError:
        return 0
    return total
