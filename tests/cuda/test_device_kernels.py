"""The CUDA backend's kernels on arrays that are on a device, and on host rows that stream there."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import SIMULATED
from device_arrays import (
    Sent,
    cuda,
    each_library,
    module_of,
    on_device,
)
from test_kernels import (
    LAYOUTS as ALL_LAYOUTS,
)
from test_kernels import (
    check_epochs,
    check_gram,
    check_loss_gradient,
    check_predict,
    make_epoch,
    make_problem,
)

from fastlsgd.kernels import load_backend
from fastlsgd.kernels.compiled_sources import checksum
from fastlsgd.kernels.contract import CSR, Epoch, SGDState
from fastlsgd.kernels.device import DeviceArray, as_device_array
from fastlsgd.solvers import metric, newton_epochs, rows
from fastlsgd.solvers.automatic_choice import automatic_descent
from fastlsgd.solvers.training import Objective, TrainingData

pytestmark = pytest.mark.cuda
send = each_library


@pytest.mark.parametrize("layout", [*ALL_LAYOUTS, np.int32, np.int64], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_conformance_of_rows_that_lie_on_the_device(send, layout, dtype):
    there = Sent(cuda, send)
    y_layout = layout if layout in ALL_LAYOUTS else "transposed"
    host = make_problem(4, 37, 12, 2, dtype, layout, density=0.7, y_layout=y_layout)
    for problem in (host, host._replace(y=host.y[:, :1], w=host.w[:1], b=host.b[:1], s=None)):
        check_loss_gradient(there, problem, 1)
        check_predict(there, problem, 1)
        check_gram(there, problem, problem.w[0].copy(), 1)
        for batch_size, options in ((1, {}), (8, {"alpha": 0.3, "l1_ratio": 0.4, "prox": True})):
            epochs = [make_epoch(problem, batch_size, k > 0, seed=k, **options) for k in range(2)]
            check_epochs(there, problem, epochs)


def test_the_names_of_cached_kernels_tell_their_sources(tmp_path):
    """Numba checks the file of a kernel, but not those of the device functions that it calls."""
    files = tmp_path / "kernel.py", tmp_path / "device_function.py"
    for file in files:
        file.write_text("x = 1")
    before = checksum(*files)
    assert before == checksum(*reversed(files))
    files[1].write_text("x = 2")
    assert before != checksum(*files)


def test_build_info_needs_no_call_before():
    assert SIMULATED or int(cuda.build_info()["processors"]) > 0


@pytest.mark.parametrize("layout", ["C", "F", "row steps"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kernels_on_device_arrays(send, layout, dtype):
    host = make_problem(2, 37, 10, 2, dtype, layout)
    device = on_device(host, send)
    expected = cuda.loss_gradient(*host, 1)
    for actual, wanted in zip(cuda.loss_gradient(*device, 1), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-12)
    out = cuda.predict(device.X, host.w, host.b, 1)
    assert isinstance(out, DeviceArray)
    expected = cuda.predict(host.X, host.w, host.b, 1)
    np.testing.assert_allclose(
        np.asarray(out), expected, rtol=1e-5 if dtype == np.float32 else 1e-12
    )
    moments = cuda.gram(device.X, device.y, device.s, None, 1)
    np.testing.assert_allclose(moments.xx, cuda.gram(host.X, host.y, host.s, None, 1).xx)
    for shuffled in (False, True):
        epoch = make_epoch(host, 3, shuffled, alpha=0.1)
        results = []
        for problem in (host, device):
            w, b = host.w.astype(dtype), host.b.copy()
            cuda.sgd_epoch(problem.X, problem.y, w, b, problem.s, epoch.epoch, SGDState(), 1)
            results.append(w)
        np.testing.assert_allclose(*results, rtol=1e-6)


def test_csr_on_the_device(send):
    host = make_problem(2, 30, 8, 2, np.float64, np.int32, density=0.4)
    X = CSR(*(as_device_array(send(part.copy())) for part in host.X[:3]), host.X.shape)
    y = as_device_array(send(host.y.copy()))
    expected = cuda.loss_gradient(host.X, host.y, host.w, host.b, None, 1)
    actual = cuda.loss_gradient(X, y, host.w, host.b, None, 1)
    np.testing.assert_allclose(actual.coef, expected.coef, rtol=1e-12)
    order = np.random.default_rng(0).permutation(30)
    results = []
    for A, t in ((host.X, host.y), (X, y)):
        w, b = host.w.copy(), host.b.copy()
        cuda.sgd_epoch(A, t, w, b, None, Epoch(order, np.full(30, 0.01), 1), SGDState(), 1)
        results.append(w)
    np.testing.assert_allclose(*results, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["C", "F", "rows backwards", np.int32], ids=str)
def test_host_rows_stream_in_blocks(monkeypatch, layout, dtype):
    """They do so as an X larger than the device's memory would: in many blocks, by two buffers."""
    monkeypatch.setattr(cuda.gather, "TRANSFER_BYTES", 7 * 9 * 8)
    cuda.free_workspace()
    problem = make_problem(1, 61, 9, 2, dtype, layout, density=0.5)
    check_loss_gradient(cuda, problem, 1)
    check_predict(cuda, problem, 1)
    check_gram(cuda, problem, problem.w[0].copy(), 1)
    for batch_size in (1, 2, 5):
        for options in ({}, {"alpha": 0.3, "l1_ratio": 0.4, "average_after": 7, "prox": True}):
            epochs = [make_epoch(problem, batch_size, k > 0, seed=k, **options) for k in range(2)]
            check_epochs(cuda, problem, epochs)


# What learning_rate="auto" needs of the backend so that X can stay on the device.

LAYOUTS = pytest.mark.parametrize("layout", ["C", "F", "backwards in steps", np.int64], ids=str)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@LAYOUTS
def test_centred_rows(send, monkeypatch, layout, dtype):
    """Rows come in chunks, with the numbers that they have on the host."""
    host = make_problem(4, 53, 11, 3, dtype, layout, density=0.5, y_layout="F")
    device = on_device(host, send)
    monkeypatch.setattr(module_of("centred_rows"), "CHUNK_BYTES", 8 * 20 * (11 + 3 + 1))
    shift = np.random.default_rng(0).normal(size=11)
    for weighted in (False, True):
        there = []
        weights = device.s if weighted else None
        for Z, y, s in cuda.centred_rows(device.X, device.y, weights, shift):
            assert all(isinstance(part, DeviceArray) for part in (Z, y, s or Z))
            there.append([None if p is None else np.asarray(p) for p in (Z, y, s)])
        assert len(there) > 1
        weights = host.s if weighted else None
        here = rows.centred_rows(load_backend("reference"), host.X, host.y, weights, shift)
        for wanted, actual in zip(zip(*here, strict=True), zip(*there, strict=True), strict=True):
            if wanted[0] is None:
                assert actual[0] is None
                continue
            np.testing.assert_array_equal(np.concatenate(actual), np.concatenate(wanted))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@LAYOUTS
def test_column_moments(send, monkeypatch, layout, dtype, weighted):
    host = make_problem(6, 45, 19, 1, dtype, layout, weighted, density=0.5)
    device = on_device(host, send)
    monkeypatch.setattr(cuda.rows, "STRETCH_BYTES", 8 * 17 * 19)
    shift = np.random.default_rng(0).normal(size=19)
    wanted = np.zeros(19), np.zeros(19)
    rows.add_column_moments(load_backend("reference"), host.X, host.s, shift, *wanted)
    actual = cuda.column_moments(device.X, device.s, shift)
    np.testing.assert_allclose(actual, wanted, rtol=1e-12, atol=1e-12)


@pytest.fixture
def copied(monkeypatch):
    """The arrays that are copied to the host."""
    arrays, copy_to_host, inside = [], cuda.copy_to_host, []

    def noted(array):
        if not inside:  # otherwise it is a packed part of the array that is being copied
            arrays.append(array)
        inside.append(array)
        try:
            return copy_to_host(array)
        finally:
            inside.pop()

    monkeypatch.setattr(cuda, "copy_to_host", noted)
    return arrays


@pytest.mark.parametrize(
    ("layout", "dtype", "targets", "weighted", "l1_ratio", "how"),
    [
        ("C", np.float32, 1, False, 0.0, "Newton"),
        ("C", np.float32, 1, False, 0.2, "column moments"),
        ("F", np.float64, 3, True, 0.2, "Newton"),
        ("F", np.float64, 3, True, 0.0, "column moments"),
        ("backwards in steps", np.float64, 1, True, 0.0, "centred rows"),
        ("backwards in steps", np.float64, 1, True, 0.0, "column moments"),
        (np.int32, np.float32, 2, False, 0.2, "centred rows"),
        (np.int32, np.float32, 2, False, 0.2, "column moments"),
        (np.int64, np.float64, 1, True, 0.0, "Newton"),
        (np.int64, np.float64, 1, True, 0.0, "column moments"),
    ],
    ids=str,
)
def test_automatic_rates_leave_x_on_the_device(
    send, monkeypatch, copied, layout, dtype, targets, weighted, l1_ratio, how
):
    """Only the 256 rows of X that give an origin come to the host."""
    n, d = 300, 6
    host = make_problem(8, n, d, targets, dtype, layout, weighted, density=0.6)
    device = on_device(host, send)
    monkeypatch.setattr(module_of("centred_rows"), "CHUNK_BYTES", 8 * 70 * d)
    if how == "centred rows":
        monkeypatch.setattr(newton_epochs, "hides_spread", lambda spreads, dtype: True)
    if how == "column moments":
        monkeypatch.setattr(metric, "FULL_METRIC_FEATURES", d - 1)
    results = []
    for kernels, p in ((load_backend("reference"), host), (cuda, device)):
        descent = automatic_descent(
            TrainingData(kernels, p.X, p.y, p.s, n_threads=1),
            Objective(alpha=0.01, l1_ratio=l1_ratio, fit_intercept=True),
            None,
            np.zeros((targets, d)),
            np.zeros(targets),
        )
        losses = [descent.epoch(None), descent.epoch(None)]
        results.append((*descent.weights(), losses))
    for wanted, actual in zip(*results, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-7, atol=1e-10)
    memory, _ = (device.X.data if isinstance(device.X, CSR) else device.X).span()
    seen = [
        array.size
        for array in copied
        if 0 <= array.address - memory.address < memory.nbytes or array.shape[1:] == (d,)
    ]
    assert sum(seen) <= 256 * d
