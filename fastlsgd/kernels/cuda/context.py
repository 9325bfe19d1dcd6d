"""The device and the streams that a call uses.

Calls in one process take turns (`lock`): they share a workspace, and the simulator runs one kernel
at a time.
"""

from __future__ import annotations

import threading
from functools import cache, lru_cache

from ..device import DeviceArray
from .compile import SIMULATED, cuda

lock = threading.RLock()
_in_use: list[int] = []  # the devices of the calls that are running


def isa() -> str:
    """The GPU in use."""
    if SIMULATED:
        return "Numba's CUDA simulator"
    device = cuda.get_current_device()
    name = device.name.decode() if isinstance(device.name, bytes) else device.name
    major, minor = device.compute_capability
    return f"{name}, compute capability {major}.{minor}"


def build_info() -> dict[str, str]:
    """What a bug report should say about the device."""
    if SIMULATED:
        return {}
    free, total = cuda.current_context().get_memory_info()
    driver = ".".join(map(str, getattr(cuda.cudadrv.driver, "driver").get_version()))  # noqa: B009
    with on_device_of(None):
        processors = multiprocessors()
    return {
        "devices": str(len(cuda.gpus)),
        "processors": str(processors),
        "memory": f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free",
        "driver": f"CUDA {driver}",
    }


class on_device_of:
    """A context in which the device of an array is the current one."""

    def __init__(self, array) -> None:
        parts = array if isinstance(array, tuple) else (array,)
        where = next((part for part in parts if isinstance(part, DeviceArray)), None)
        self.context = None if SIMULATED or where is None else cuda.gpus[where.device]

    def __enter__(self):
        if self.context is not None:
            self.context.__enter__()
        _in_use.append(0 if SIMULATED else cuda.get_current_device().id)

    def __exit__(self, *error):
        _in_use.pop()
        if self.context is not None:
            self.context.__exit__(*error)


def current_device() -> int:
    """The number of the device in use, which `on_device_of` asked for once per call."""
    return _in_use[-1]


def multiprocessors() -> int:
    """How many multiprocessors the device in use has."""
    return _multiprocessors_of(current_device())


@cache
def _multiprocessors_of(device: int) -> int:
    return 2 if SIMULATED else int(cuda.gpus[device].MULTIPROCESSOR_COUNT)


def stream_of(handle: int):
    """The stream with this handle, as Numba launches on it; the same object each time."""
    return _stream_on(current_device(), handle)


@lru_cache(maxsize=64)
def _stream_on(device: int, handle: int):
    if SIMULATED:
        return cuda.stream()
    if handle in (0, 1):
        return cuda.default_stream()
    if handle == 2:
        return cuda.per_thread_default_stream()
    return cuda.external_stream(handle)
