"""Memory on the device, and pinned memory of the host: allocated once per purpose, and kept.

An allocation stops the device and takes longer than most launches. Callers hold `context.lock`,
and a call returns only when the device has finished what it launched, so that the next call may
use the same memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..device import DeviceArray, as_device_array
from .compile import SIMULATED, cuda
from .context import current_device, lock

workspace: dict[tuple, Any] = {}
_views: dict[tuple, DeviceArray] = {}  # the part that was last asked for, per purpose
in_flight: dict[tuple, np.ndarray] = {}  # host arrays from which the device may still copy


def reserve(purpose: str, size: int, dtype=np.float64) -> DeviceArray:
    """`size` numbers on the device; the same memory at the next call for this purpose."""
    device = current_device()
    key = purpose, device, np.dtype(dtype)
    array = workspace.get(key)
    if array is None or array.size < size:
        workspace.pop(key, None)
        _views.pop(key, None)
        memory = cuda.device_array(max(1, size), dtype)
        workspace[key] = array = as_owned_array(memory, device)
    view = _views.get(key)
    if view is None or view.size != size:
        _views[key] = view = array[:size]
    return view


def reserve_pinned(purpose: str, size: int, dtype) -> np.ndarray:
    """`size` numbers of host memory that the device reads by itself, kept as `reserve` keeps."""
    key = purpose, "pinned", np.dtype(dtype)
    array = workspace.get(key)
    if array is None or array.size < size:
        workspace[key] = array = cuda.pinned_array(max(1, size), dtype)
    return array[:size]


def reserve_stream(purpose: str):
    """The backend's own stream for this purpose, created once per device."""
    key = purpose, "stream", current_device()
    if key not in workspace:
        workspace[key] = cuda.stream()
    return workspace[key]


def free_workspace() -> None:
    """Give the workspace back to the device."""
    with lock:
        _views.clear()
        in_flight.clear()
        workspace.clear()
        if not SIMULATED:  # Numba delays freeing until more has accumulated
            cuda.current_context().memory_manager.deallocations.clear()


def allocate(shape: tuple[int, ...], dtype) -> DeviceArray:
    """A new array that belongs to whoever holds it, for results."""
    return as_owned_array(cuda.device_array(shape, dtype), current_device())


def allocate_beside(shape: tuple[int, ...], dtype, like: DeviceArray) -> DeviceArray:
    """A new array that is filled and read on the stream of `like`."""
    array = allocate(shape, dtype)
    array.stream = like.stream
    return array


def as_owned_array(memory, device: int) -> DeviceArray:
    """Numba's own array as a `DeviceArray` that keeps it alive."""
    if SIMULATED:
        address = memory._ary.__array_interface__["data"][0]
        return DeviceArray(address, memory._ary.shape, memory._ary.dtype, owner=memory)
    array = as_device_array(memory)
    array.device = device
    return array


def native(array: DeviceArray):
    """A `DeviceArray` as Numba's kernels take it; making it takes 10 microseconds, once."""
    if array.native is None:
        # Its owner is the owner of `array`: an array that owned itself would keep the user's
        # memory alive until Python's garbage collector looks for cycles.
        array.native = (
            _simulated(array)
            if SIMULATED
            else cuda.from_cuda_array_interface(
                array.__cuda_array_interface__, owner=array.owner, sync=False
            )
        )
    return array.native


def _simulated(array: DeviceArray):
    import ctypes

    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

    low, start = array.span()
    memory = (ctypes.c_byte * low.nbytes).from_address(low.address)
    flat: Any = np.frombuffer(memory, array.dtype)  # type: ignore[call-overload]
    return FakeCUDAArray(np.lib.stride_tricks.as_strided(flat[start:], array.shape, array.strides))
