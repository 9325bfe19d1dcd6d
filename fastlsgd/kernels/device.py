"""Arrays on a GPU, whichever library made them: CuPy, PyTorch, JAX or Numba.

`DeviceArray` is how validation, solvers and kernels see such an array: its address, shape, strides
and dtype, and views of its rows. The numbers stay on the device. NumPy functions take a
`DeviceArray` by copying it to the host (`__array__`), so that solvers, which pass only targets and
chunks of rows to NumPy, need not ask where their data are.

This module can be imported without a GPU, and without any package that needs one. What has to be
done on the device is left to the CUDA backend, which the dispatcher makes known
(`provide_transfers`).
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

CUDA_MEMORY = (2, 13)  # kDLCUDA and kDLCUDAManaged; pinned host memory (3) counts as host memory


class Transfers(Protocol):
    """What a `DeviceArray` needs of the backend whose device it is on."""

    def copy_to_host(self, array: DeviceArray) -> np.ndarray:
        """The numbers, in C order, on the host."""

    def copy_to_device(self, array: np.ndarray, device: int) -> DeviceArray:
        """A copy of a host array."""

    def to_numba_array(self, array: np.ndarray, device: int) -> Any:
        """A copy of a host array, as the array that users of Numba have."""

    def take(self, array: DeviceArray, rows: np.ndarray) -> DeviceArray:
        """These rows, in this order, as a new array."""


_load_transfers: Callable[[], Transfers] | None = None


def provide_transfers(load: Callable[[], Transfers]) -> None:
    """Set where transfers come from: `load` is called at each, and may raise ImportError."""
    global _load_transfers
    _load_transfers = load


def _transfers() -> Transfers:
    assert _load_transfers is not None, "the dispatcher provides them when it is imported"
    return _load_transfers()


# `np.ndarray | list` would be put together anew in each call, which takes as long as the rest.
ON_HOST = (np.ndarray, list, tuple, float, int)


def is_device_array(value: object) -> bool:
    """Whether `value` is an array in the memory of a CUDA device."""
    if isinstance(value, DeviceArray):
        return True
    if isinstance(value, ON_HOST):
        return False
    if _safe_attribute(value, "__cuda_array_interface__") is not None:
        return True
    where = _safe_attribute(value, "__dlpack_device__")
    return where is not None and int(where()[0]) in CUDA_MEMORY


def is_device_sparse(value: object) -> bool:
    """Whether `value` is a sparse matrix with parts on a CUDA device, like CuPy's."""
    return hasattr(value, "tocsr") and is_device_array(getattr(value, "data", None))


def lives_on_device(X: object) -> bool:
    """Whether X, dense or sparse, is on a CUDA device; the contract's `CSR` too."""
    if type(X) is np.ndarray:
        return False
    if isinstance(X, tuple):
        return isinstance(getattr(X, "data", None), DeviceArray)
    return is_device_array(X) or is_device_sparse(X)


def ndim(value: Any) -> int:
    """np.ndim, also for arrays on a GPU."""
    return as_device_array(value).ndim if is_device_array(value) else np.ndim(value)


def has_functions(value: object) -> bool:
    """Whether the array's own library can compute with it; Numba's arrays only hold numbers."""
    return kind_of(value) in ("torch", "cupy", "jax") and not isinstance(value, DeviceArray)


def _safe_attribute(value: object, name: str):
    """The attribute, or None: PyTorch raises for tensors on the host or with a gradient."""
    try:
        return getattr(value, name, None)
    except (AttributeError, RuntimeError, TypeError):
        return None


class _Memory:
    """An array interface over an address, from which NumPy derives views; it is never read."""

    def __init__(self, address: int, shape, strides, dtype: np.dtype) -> None:
        self.__array_interface__ = {
            "version": 3,
            "data": (address, True),
            "shape": tuple(shape),
            "strides": tuple(strides),
            "typestr": dtype.str,
        }


class DeviceArray:
    """A view of numbers on a CUDA device.

    Parameters
    ----------
    address : int
        Of the first number, on the device.
    shape, strides : tuple of int
        Strides in bytes; None is C order.
    dtype : numpy dtype
    owner : object
        What keeps the memory alive.
    device : int
        Number of the device.
    stream : int
        Handle of the CUDA stream on which the array is made; 0 is the default stream.
    kind : str
        Name of the library whose array this was.
    """

    __slots__ = ("_view", "device", "kind", "native", "owner", "rows", "stream")

    def __init__(
        self, address, shape, dtype, *, strides=None, owner=None, device=0, stream=0, kind="numba"
    ):
        dtype = np.dtype(dtype)
        shape = tuple(int(size) for size in shape)
        if strides is None:
            strides = np.cumprod([dtype.itemsize, *shape[:0:-1]])[::-1][: len(shape)].tolist()
        # NumPy refuses address 0 only for arrays that are not empty.
        self._view = np.asarray(_Memory(int(address), shape, strides, dtype))
        self.owner, self.device, self.stream, self.kind = owner, device, stream, kind
        # The views of this memory that the backend's kernels take, as an array and as a matrix:
        # they are cached, since making them takes a while.
        self.native: Any = None
        self.rows: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self._view.shape

    @property
    def strides(self) -> tuple[int, ...]:
        return self._view.strides

    @property
    def dtype(self) -> np.dtype:
        return self._view.dtype

    @property
    def ndim(self) -> int:
        return self._view.ndim

    @property
    def size(self) -> int:
        return self._view.size

    @property
    def itemsize(self) -> int:
        return self._view.itemsize

    @property
    def nbytes(self) -> int:
        return self._view.nbytes

    @property
    def address(self) -> int:
        return self._view.__array_interface__["data"][0]

    @property
    def c_contiguous(self) -> bool:
        return bool(self._view.flags.c_contiguous)

    def __len__(self) -> int:
        return len(self._view)

    def __repr__(self) -> str:
        return f"DeviceArray({self.kind}, shape={self.shape}, dtype={self.dtype})"

    def __getitem__(self, key) -> DeviceArray:
        """A view, for slices and new axes; a new array, for row numbers."""
        if isinstance(key, np.ndarray):
            return _transfers().take(self, key)
        keys = key if isinstance(key, tuple) else (key,)
        if not all(isinstance(part, slice) or part is None for part in keys):
            raise TypeError("a DeviceArray takes slices, or an array of row numbers")
        return self._of(self._view[key])

    def reshape(self, *shape: int) -> DeviceArray:
        """A view of this shape; the numbers must be in C order."""
        if not self.c_contiguous:
            raise ValueError("only numbers in C order can be reshaped without a copy")
        return self._of(self._view.reshape(shape))

    def span(self) -> tuple[DeviceArray, int]:
        """All memory from the lowest to the highest number as one flat view, and our start in it.

        The rows must be contiguous: row i starts at ``start + i * stride``.
        """
        low = high = 0
        for size, stride in zip(self.shape, self.strides, strict=True):
            reach = max(0, size - 1) * stride
            low, high = low + min(0, reach), high + max(0, reach)
        flat = DeviceArray(
            self.address + low, ((high - low) // self.itemsize + 1,), self.dtype,
            owner=self.owner, device=self.device, stream=self.stream, kind=self.kind,
        )  # fmt: skip
        return flat, -low // self.itemsize

    def _of(self, view: np.ndarray) -> DeviceArray:
        return DeviceArray(
            view.__array_interface__["data"][0], view.shape, view.dtype, strides=view.strides,
            owner=self.owner, device=self.device, stream=self.stream, kind=self.kind,
        )  # fmt: skip

    # Operations of solvers on targets, weights and chunks of rows are done on the host.

    def astype(self, dtype) -> np.ndarray:
        """A converted copy on the host."""
        return np.asarray(self).astype(dtype)

    # NumPy's functions of these names call the methods, with `out` and other arguments of theirs.

    def any(self, axis=None, out=None, **options):
        return np.asarray(self).any(axis=axis, out=out, **options)

    def mean(self, axis=None, dtype=None, out=None, **options):
        return np.asarray(self).mean(axis=axis, dtype=dtype, out=out, **options)

    def sum(self, axis=None, dtype=None, out=None, **options):
        return np.asarray(self).sum(axis=axis, dtype=dtype, out=out, **options)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        # "stream" is None: our kernels are launched on the array's own stream, and need not wait.
        return {
            "version": 3,
            "shape": self.shape,
            "strides": None if self.c_contiguous else self.strides,
            "typestr": self.dtype.str,
            "data": (self.address if self.size else 0, False),
            "stream": None,
        }

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        """A copy of the numbers on the host."""
        if copy is False:
            raise ValueError("numbers on a GPU can't be seen from the host without a copy")
        array = _transfers().copy_to_host(self)
        return array if dtype is None else array.astype(dtype, copy=False)


def as_device_array(value: Any, name: str = "array") -> DeviceArray:
    """`value`, an array on a CUDA device, as a `DeviceArray` of the same memory.

    Raises
    ------
    ValueError
        If it can't be read as numbers in the machine's own byte order.
    """
    if isinstance(value, DeviceArray):
        return value
    kind = kind_of(value)
    if kind == "torch":
        value = value.detach()
    where = _safe_attribute(value, "__dlpack_device__")
    device = int(where()[1]) if where is not None else 0
    interface = _safe_attribute(value, "__cuda_array_interface__")
    if interface is None:
        return _from_dlpack(value, device, kind, name)
    dtype = np.dtype(interface["typestr"])
    if not dtype.isnative:
        raise ValueError(f"{name} on a GPU must have native byte order, got {dtype}.")
    stream = _current_stream(kind, device)
    return DeviceArray(
        interface["data"][0] or 0,
        interface["shape"],
        dtype,
        strides=interface.get("strides"),
        owner=value,
        device=device,
        stream=interface.get("stream") or 0 if stream is None else stream,
        kind=kind,
    )


def kind_of(value: object) -> str:
    """The library of an array, by the module of its type."""
    if isinstance(value, DeviceArray):
        return value.kind
    name = type(value).__module__.partition(".")[0]
    return {"jaxlib": "jax", "cupyx": "cupy", "numba_cuda": "numba"}.get(name, name)


def _current_stream(kind: str, device: int) -> int | None:
    """Handle of the library's current stream, or None if the library has none."""
    library: Any = sys.modules.get(kind)
    if kind == "torch":
        return int(library.cuda.current_stream(device).cuda_stream)
    if kind == "cupy":
        with library.cuda.Device(device):
            return int(library.cuda.get_current_stream().ptr)
    return None


def handed_back(array: np.ndarray | DeviceArray, like: object) -> Any:
    """A result as an array of the same kind as `like`, on its device.

    A `DeviceArray` whose owner is of that kind (as `empty_like` makes them) is returned without a
    copy; numbers on the host are copied to the device.
    """
    if isinstance(array, DeviceArray):
        if array.kind == kind_of(like) and array.owner is not None:
            return array.owner
        array = np.asarray(array)
    kind, device = kind_of(like), as_device_array(like).device
    library: Any = sys.modules.get(kind)
    if kind == "torch":
        return library.from_numpy(np.ascontiguousarray(array)).to(f"cuda:{device}")
    if kind == "cupy":
        with library.cuda.Device(device):
            return library.asarray(array)
    if kind == "jax":
        owner: Any = like.owner if isinstance(like, DeviceArray) else like
        return library.device_put(array, next(iter(owner.devices())))
    return _transfers().to_numba_array(array, device)


def placed_beside(array: Any, X: Any) -> Any:
    """`array`, or a copy on X's device if X is on one and the array is on the host."""
    matrix = getattr(X, "data", None) if isinstance(X, tuple) else X
    if array is None or isinstance(array, DeviceArray) or not isinstance(matrix, DeviceArray):
        return array
    return _transfers().copy_to_device(array, matrix.device)


def converted(value: Any, name: str, dtype) -> DeviceArray:
    """`value` as a contiguous array of this dtype on its device, converted by its own library."""
    array = as_device_array(value, name)
    if array.dtype == dtype and array.c_contiguous:
        return array
    kind, library = array.kind, sys.modules.get(array.kind)
    if kind == "torch":
        return as_device_array(value.to(getattr(library, np.dtype(dtype).name)).contiguous(), name)
    if kind == "cupy":
        return as_device_array(library.ascontiguousarray(value, dtype=dtype), name)  # type: ignore[union-attr]
    if kind == "jax":
        return as_device_array(value.astype(dtype), name)
    raise ValueError(
        f"{name} on the GPU must be contiguous {np.dtype(dtype)}, got {array.dtype} with strides "
        f"{array.strides}: convert it there."
    )


def extremes(value: Any) -> tuple[float, float]:
    """The least and the largest number, or NaN if there is one, by the array's own library."""
    if isinstance(value, DeviceArray):
        owner = value.owner  # it may have the same numbers in another shape
        shape = getattr(owner, "shape", None)
        value = owner if shape is not None and math.prod(shape) == value.size else value
    if has_functions(value):
        return float(value.min()), float(value.max())
    numbers = np.asarray(as_device_array(value))
    return float(numbers.min()), float(numbers.max())


def repeated(value: float, shape: tuple[int, ...], like: np.ndarray | DeviceArray) -> Any:
    """`value` repeated by a stride of 0, in the dtype of `like` and on its device; read-only."""
    strides, number = (0,) * len(shape), np.full(1, value, like.dtype)
    if not isinstance(like, DeviceArray):
        return np.lib.stride_tricks.as_strided(number, shape, strides)
    there = _transfers().copy_to_device(number, like.device)
    return DeviceArray(
        there.address, shape, there.dtype, strides=strides,
        owner=there.owner, device=like.device, stream=like.stream,
    )  # fmt: skip


def empty_like(shape: tuple[int, ...], dtype, like: DeviceArray) -> DeviceArray | None:
    """A new, uninitialised array of the library of `like`; None where that is not possible.

    The arrays of JAX must not be written to by others, so that its results go through the host.
    """
    library: Any = sys.modules.get(like.kind)
    if like.kind == "torch":
        torch_dtype = getattr(library, np.dtype(dtype).name)
        return as_device_array(
            library.empty(shape, dtype=torch_dtype, device=f"cuda:{like.device}")
        )
    if like.kind == "cupy":
        with library.cuda.Device(like.device):
            return as_device_array(library.empty(shape, dtype))
    return None


# ----------------------------------------------------------------------------------------------
# DLPack, for libraries that offer nothing else (dmlc/dlpack, dlpack.h, version 0.8)
# ----------------------------------------------------------------------------------------------


class _DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_DLPACK_KINDS = {0: "i", 1: "u", 2: "f", 6: "b"}


def _from_dlpack(value: Any, device: int, kind: str, name: str) -> DeviceArray:
    """The memory that a DLPack capsule describes; the capsule and `value` are kept alive with it.

    A capsule that is not consumed frees its own record at its end, and `value` owns the numbers.
    So the capsule is only read, never renamed.
    """
    try:
        capsule = value.__dlpack__(stream=1)  # ready on the default stream, on which we then work
    except TypeError:
        capsule = value.__dlpack__()
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    tensor = ctypes.cast(get(capsule, b"dltensor"), ctypes.POINTER(_DLTensor)).contents
    code = _DLPACK_KINDS.get(tensor.code)
    if code is None or tensor.lanes != 1:
        raise ValueError(f"{name} must hold real numbers, got DLPack type code {tensor.code}.")
    dtype = np.dtype(f"{code}{tensor.bits // 8}")
    shape = tuple(tensor.shape[: tensor.ndim])
    strides = None
    if tensor.strides:
        strides = tuple(stride * dtype.itemsize for stride in tensor.strides[: tensor.ndim])
    return DeviceArray(
        (tensor.data or 0) + tensor.byte_offset, shape, dtype, strides=strides,
        owner=(value, capsule), device=device, stream=0, kind=kind,
    )  # fmt: skip
