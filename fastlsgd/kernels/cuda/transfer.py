"""Copies between the host and the device.

Each verb has one meaning:

==================  ================================================================================
`upload`            small host numbers into the workspace, on the stream of the call
`upload_if_host`    the same for targets or weights that may already be on the device
`stage`             many host rows into the workspace by way of pinned memory, while kernels run
`download`          small numbers of the workspace to the host, which waits for them
`copy_beside`       host numbers into memory of their own, beside an array on the device
`to_numba_array`    a host array as Numba's own kind of device array, for users and libraries
`copy_to_device`    a host array as a `DeviceArray` of its own, for solvers
==================  ================================================================================

`gather.copy_to_host`, the inverse of the last two, has to pack arrays with gaps first.
"""

from __future__ import annotations

import numpy as np

from ..device import DeviceArray
from .compile import SIMULATED, cuda
from .memory import (
    allocate_beside,
    as_owned_array,
    in_flight,
    native,
    reserve,
    reserve_pinned,
)


def upload(purpose: str, values: np.ndarray, stream, dtype=np.float64) -> DeviceArray:
    """Small numbers from the host, flat, in the workspace of this purpose."""
    values = np.ascontiguousarray(values, dtype).reshape(-1)
    there = reserve(purpose, max(1, values.size), dtype)
    if values.size:
        # Kept until the next upload of its purpose, when the call is over: where host and device
        # share page tables, the device may read from `values` after the copy has returned.
        in_flight[purpose, there.dtype] = values
        native(there).copy_to_device(values, stream=stream)
    return there


def upload_if_host(name: str, part, stream):
    """Targets or weights on the device: uploaded if they are on the host; None stays None."""
    if part is None or isinstance(part, DeviceArray):
        return part
    return upload(f"{name} beside", part, stream, part.dtype)[: part.size].reshape(*part.shape)


def upload_order(order, stream):
    """The order of the visits, on the device; None where it is that of the rows."""
    if order is None or isinstance(order, DeviceArray):
        return order
    return upload("order", order, stream, np.int64)


def download(array: DeviceArray, stream) -> np.ndarray:
    """Numbers of the workspace, on the host, once the stream has made them."""
    out = np.empty(array.shape, array.dtype)
    native(array).copy_to_host(out, stream=stream)
    stream.synchronize()
    return out


def stage(part: np.ndarray, rows, purpose: str, copies) -> DeviceArray:
    """These rows of a host array, in C order on the device, once the stream `copies` is done."""
    shape = part[rows].shape if isinstance(rows, slice) else (len(rows), *part.shape[1:])
    size = int(np.prod(shape))
    there = reserve(purpose, max(1, size), part.dtype)
    if size:
        staged = reserve_pinned(purpose, size, part.dtype)
        if isinstance(rows, slice):
            np.copyto(staged.reshape(shape), part[rows])
        else:
            np.take(part, rows, axis=0, out=staged.reshape(shape), mode="clip")
        native(there[:size]).copy_to_device(staged, stream=copies)
    return there[:size].reshape(*shape)


def copy_beside(values, like: DeviceArray, stream) -> DeviceArray:
    """Host numbers in memory of their own beside `like`; those on the device stay as they are."""
    if isinstance(values, DeviceArray):
        return values
    array = allocate_beside(values.shape, values.dtype, like)
    if array.size:  # flat: Numba takes an axis of stride 0 for one that repeats numbers
        flat = np.ascontiguousarray(values).reshape(-1)
        native(array.reshape(array.size)).copy_to_device(flat, stream=stream)
    return array


def to_numba_array(array: np.ndarray, device: int):
    """A host array on the device, as Numba's own kind of array."""
    if SIMULATED:
        return cuda.to_device(array)
    with cuda.gpus[device]:
        return cuda.to_device(array)


def copy_to_device(array: np.ndarray, device: int) -> DeviceArray:
    """A host array on the device, as solvers and kernels take it."""
    return as_owned_array(to_numba_array(array, device), device)
