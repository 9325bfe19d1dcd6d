"""Arrays on a device, as the tests of the CUDA backend make them.

On a GPU these are arrays of Numba, and of CuPy and PyTorch where they are installed; on the PTX
emulator, arrays of Numba. On the simulator, arrays "on the device" are in host memory.
"""

from __future__ import annotations

import importlib
from dataclasses import replace

import numpy as np
import pytest
from conftest import SIMULATED
from test_kernels import (
    make_problem,
)

from fastlsgd.kernels import load_backend
from fastlsgd.kernels.contract import CSR
from fastlsgd.kernels.device import DeviceArray, as_device_array, is_device_array

try:
    cuda = load_backend("cuda")
except ImportError as error:
    pytest.skip(f"no GPU: {error}", allow_module_level=True)


def module_of(name: str):
    """A module of the backend; the attribute of its name may be the entry point of that name."""
    return importlib.import_module(f"{cuda.__name__}.{name}")


class OnDevice:
    """An array with nothing but ``__cuda_array_interface__``, as a small library may have it."""

    def __init__(self, values):
        self.values = values
        self.shape, self.dtype = values.shape, values.dtype

    @property
    def __cuda_array_interface__(self):
        interface = dict(self.values.__array_interface__)
        interface["strides"] = self.values.strides
        return interface | {"version": 3, "stream": None}


class OnDevicePacked:
    """An array that can be passed on only by DLPack."""

    def __init__(self, values):
        self.values = values

    def __dlpack__(self, stream=None):
        return self.values.__dlpack__()

    def __dlpack_device__(self):
        return 2, 0


def libraries():
    if SIMULATED:
        return {"interface": OnDevice, "DLPack": OnDevicePacked}
    from numba import cuda as numba_cuda

    found = {"numba": numba_cuda.to_device}
    for name in ("cupy", "torch"):
        try:
            library = importlib.import_module(name)
        except ImportError:
            continue
        send = library.asarray if name == "cupy" else lambda a, t=library: t.as_tensor(a).cuda()
        found[name] = send
    return found


@pytest.fixture(params=libraries())
def each_library(request):
    """The function that copies a host array to the device, of one library after another."""
    return libraries()[request.param]


def to_host(value):
    return np.asarray(as_device_array(value)) if is_device_array(value) else value


def on_device(problem, send):
    """The problem with X, y and weights as `DeviceArray`s, where X keeps its layout."""

    def sent(part):
        if part is None:
            return None
        if isinstance(part, CSR):
            return CSR(*(sent(array) for array in part[:3]), part.shape)
        if part.flags.c_contiguous or part.flags.f_contiguous:
            return as_device_array(send(part.copy(order="K")))
        wide = np.zeros([3 * size for size in part.shape], part.dtype)
        wide[::3, ::3] = part[::-1, ::-1]
        return as_device_array(send(wide))[::3, ::3][::-1, ::-1]

    return problem._replace(X=sent(problem.X), y=sent(problem.y), s=sent(problem.s))


def as_it_lies(array, send):
    """A host array copied to the device with its strides and the memory around it."""
    if array is None:
        return None
    memory = array
    while isinstance(memory.base, np.ndarray):
        memory = memory.base
    all_of_it = as_device_array(send(memory.ravel(order="K").copy()))
    start = array.__array_interface__["data"][0] - memory.__array_interface__["data"][0]
    return DeviceArray(
        all_of_it.address + start, array.shape, array.dtype, strides=array.strides,
        owner=all_of_it.owner, device=all_of_it.device, stream=all_of_it.stream,
        kind=all_of_it.kind,
    )  # fmt: skip


class Sent:
    """The backend as the conformance suite calls it; the rows are sent to the device first."""

    def __init__(self, kernels, send):
        self.kernels, self.send = kernels, send

    def there(self, part):
        if isinstance(part, CSR):
            return CSR(*(as_it_lies(array, self.send) for array in part[:3]), part.shape)
        return as_it_lies(part, self.send)

    def loss_gradient(self, X, y, w, b, s, n_threads):
        there = self.there(X), self.there(y), w, b, self.there(s)
        return self.kernels.loss_gradient(*there, n_threads)

    def predict(self, X, w, b, n_threads):
        return np.asarray(self.kernels.predict(self.there(X), w, b, n_threads))

    def gram(self, X, y, s, shift, n_threads):
        return self.kernels.gram(self.there(X), self.there(y), self.there(s), shift, n_threads)

    def fit_segments(self, X, y, s, segments, n_threads):
        there = self.there(X), self.there(y), self.there(s)
        return self.kernels.fit_segments(*there, segments, n_threads)

    def sgd_epoch(self, X, y, w, b, s, epoch, state, n_threads):
        there = self.there(X), self.there(y), w, b, self.there(s)
        epoch = replace(epoch, order=self.there(epoch.order))
        return self.kernels.sgd_epoch(*there, epoch, state, n_threads)


def problem(dtype=np.float32):
    p = make_problem(5, 40, 6, 1, dtype)
    return p.X, p.y[:, 0].copy(), p.w[0], np.abs(p.s) + dtype(0.1)


def assert_beside(result, X):
    """Assert that a result is on the GPU, as an array of X's library (of Numba if X has none)."""
    assert is_device_array(result)
    assert SIMULATED or type(result) is type(X)


RATE = {"learning_rate": "constant", "max_iter": 2, "tol": None, "random_state": 0}


def labelled(n_classes, dtype=np.int64, n=40):
    p = make_problem(5, n, 6, 1, np.float64)
    cuts = np.quantile(p.y, np.arange(1, n_classes) / n_classes)
    return p.X, np.searchsorted(cuts, p.y[:, 0]).astype(dtype), np.abs(p.s) + 0.1
