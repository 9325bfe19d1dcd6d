"""Arrays on a device go to the CUDA backend and come back; host arrays are streamed to it.

On a GPU these tests use arrays of Numba, and of CuPy and PyTorch where they are installed; on the
PTX machine, arrays of Numba. On the simulator, arrays "on the device" are in host memory.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import SIMULATED
from sklearn.base import clone, is_classifier
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

import fastlsgd
from fastlsgd.kernels import load_backend
from fastlsgd.kernels.contract import CSR, Epoch, SGDState
from fastlsgd.kernels.device import DeviceArray, as_device_array, is_device_array
from fastlsgd.solvers import metric, rows
from fastlsgd.solvers.automatic import AutomaticDescent
from fastlsgd.solvers.least_squares import Request, solve_least_squares
from fastlsgd.solvers.training import Objective, TrainingData

try:
    cuda = load_backend("cuda")
except ImportError as error:
    pytest.skip(f"no GPU: {error}", allow_module_level=True)

pytestmark = pytest.mark.cuda


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


def to_host(value):
    return np.asarray(as_device_array(value)) if is_device_array(value) else value


@pytest.fixture(params=libraries())
def send(request):
    return libraries()[request.param]


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

    def sgd_epoch(self, X, y, w, b, s, epoch, state, n_threads):
        there = self.there(X), self.there(y), w, b, self.there(s)
        epoch = replace(epoch, order=self.there(epoch.order))
        return self.kernels.sgd_epoch(*there, epoch, state, n_threads)


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
    monkeypatch.setattr(cuda, "BLOCK_BYTES", 7 * 9 * 8)
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


@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@LAYOUTS
def test_rows_in_other_coordinates(send, monkeypatch, layout, dtype, full):
    """Rows come in chunks, and full transforms in ranges of chunks, as on the host."""
    host = make_problem(4, 53, 11, 3, dtype, layout, density=0.5, y_layout="F")
    device = on_device(host, send)
    monkeypatch.setattr(cuda, "CHUNK_BYTES", 8 * 20 * (11 + 3 + 1))
    monkeypatch.setattr(cuda, "GRAM_BYTES", 8 * 7 * 11)
    rng = np.random.default_rng(0)
    shift, transform = rng.normal(size=11), rng.normal(size=(9, 11) if full else 11)
    for order in (None, rng.permutation(53)[:41]):
        for weighted in (False, True):
            rest = order, 6, shift, transform, 1.7
            there = []
            for Z, y, s in cuda.transformed_rows(
                device.X, device.y, device.s if weighted else None, *rest
            ):
                assert all(isinstance(part, DeviceArray) for part in (Z, y, s or Z))
                there.append([None if p is None else np.asarray(p) for p in (Z, y, s)])
            assert len(there) > 1
            assert all(len(y) % 6 == 0 for _, y, _ in there[:-1])
            data = host.X, host.y, host.s if weighted else None
            here = rows.transformed_rows(load_backend("reference"), data, *rest)
            for wanted, actual in zip(
                zip(*here, strict=True), zip(*there, strict=True), strict=True
            ):
                if wanted[0] is None:
                    assert actual[0] is None
                    continue
                np.testing.assert_allclose(
                    np.concatenate(actual), np.concatenate(wanted), rtol=1e-13, atol=1e-13
                )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@LAYOUTS
def test_column_moments(send, monkeypatch, layout, dtype, weighted):
    host = make_problem(6, 45, 19, 1, dtype, layout, weighted, density=0.5)
    device = on_device(host, send)
    monkeypatch.setattr(cuda, "GRAM_BYTES", 8 * 17 * 19)
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


@pytest.mark.parametrize("wide", [False, True], ids=["Gram matrix", "column moments"])
@pytest.mark.parametrize(
    ("layout", "dtype", "targets", "weighted", "batch_size"),
    [
        ("C", np.float32, 1, False, 1),
        ("F", np.float64, 3, True, 16),
        ("backwards in steps", np.float64, 1, True, 16),
        (np.int32, np.float32, 2, False, 16),
        (np.int64, np.float64, 1, True, 5),
    ],
    ids=str,
)
def test_automatic_rates_leave_x_on_the_device(
    send, monkeypatch, copied, layout, dtype, targets, weighted, batch_size, wide
):
    """Only the 256 rows of X that give an origin come to the host."""
    n, d = 300, 6
    host = make_problem(8, n, d, targets, dtype, layout, weighted, density=0.6)
    device = on_device(host, send)
    monkeypatch.setattr(cuda, "CHUNK_BYTES", 8 * 70 * d)
    if wide:
        monkeypatch.setattr(metric, "FULL_METRIC_FEATURES", d - 1)
    order = np.random.default_rng(1).permutation(n)
    results = []
    for kernels, p in ((load_backend("reference"), host), (cuda, device)):
        descent = AutomaticDescent(
            TrainingData(kernels, p.X, p.y, p.s, n_threads=1),
            Objective(alpha=0.01, l1_ratio=0.2 * wide, fit_intercept=True),
            batch_size,
            np.zeros((targets, d)),
            np.zeros(targets),
        )
        losses = [descent.epoch(None), descent.epoch(order)]
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


# Validation of arrays by the user's library.


def problem(dtype=np.float32):
    p = make_problem(5, 40, 6, 1, dtype)
    return p.X, p.y[:, 0].copy(), p.w[0], np.abs(p.s) + dtype(0.1)


def test_functions_give_the_same_kind_of_array_back(send):
    X, y, coef, s = problem()
    Xd, yd, sd = send(X.copy()), send(y), send(s)
    wanted = fastlsgd.loss_gradient(X, y, coef, 0.5, sample_weight=s, alpha=0.1)
    actual = fastlsgd.loss_gradient(Xd, yd, coef, 0.5, sample_weight=sd, alpha=0.1)
    assert not isinstance(actual.coef, np.ndarray)
    assert actual.loss == pytest.approx(wanted.loss, rel=1e-6)
    np.testing.assert_allclose(to_host(actual.coef), wanted.coef, rtol=1e-5)
    moments = fastlsgd.gram(Xd, yd, sample_weight=sd)
    np.testing.assert_allclose(to_host(moments.xx), fastlsgd.gram(X, y, sample_weight=s).xx)
    step = fastlsgd.sgd_epoch(Xd, yd, coef, learning_rate=0.01, batch_size=4)
    wanted = fastlsgd.sgd_epoch(X, y, coef, learning_rate=0.01, batch_size=4)
    np.testing.assert_allclose(to_host(step.coef), wanted.coef, rtol=1e-4)


@pytest.mark.parametrize("solver", ["auto", "gram", "sketch", "cg", "qr"])
def test_lstsq_where_a_is_on_the_device(send, solver):
    p = make_problem(5, 60, 6, 2, np.float64)
    actual, info = fastlsgd.lstsq(
        send(p.X.copy()), send(p.y.copy()), sample_weight=send(np.abs(p.s) + 0.1), alpha=0.1,
        solver=solver, return_info=True,
    )  # fmt: skip
    wanted = fastlsgd.lstsq(p.X, p.y, sample_weight=np.abs(p.s) + 0.1, alpha=0.1)
    assert not isinstance(actual, np.ndarray)
    assert info.n_iter_ >= 0
    np.testing.assert_allclose(to_host(actual), wanted, rtol=1e-9, atol=1e-12)


def assert_beside(result, X):
    """Assert that a result is on the GPU, as an array of X's library (of Numba if X has none)."""
    assert is_device_array(result)
    assert SIMULATED or type(result) is type(X)


def test_predictions_are_where_x_is(send):
    X, _, coef, _ = problem()
    out = fastlsgd.predict(send(X.copy()), coef)
    assert_beside(out, send(X.copy()))
    np.testing.assert_allclose(to_host(out), fastlsgd.predict(X, coef), rtol=1e-5)


def test_no_other_backend_takes_them(send):
    X, y, coef, _ = problem()
    with pytest.raises(ValueError, match="X is on a GPU, where backend='numba'"):
        fastlsgd.loss_gradient(send(X.copy()), send(y), coef, backend="numba")


def test_all_arrays_must_be_in_one_place(send):
    X, y, coef, s = problem()
    with pytest.raises(ValueError, match="X is on a GPU but y is on the host"):
        fastlsgd.loss_gradient(send(X.copy()), y, coef)
    with pytest.raises(ValueError, match="X is on the host but y is on a GPU"):
        fastlsgd.loss_gradient(X, send(y), coef)
    with pytest.raises(ValueError, match="sample_weight is on the host"):
        fastlsgd.loss_gradient(send(X.copy()), send(y), coef, sample_weight=s)


def test_what_is_not_finite_is_named(send):
    X, y, coef, _ = problem()
    X = X.copy()
    X[3, 2] = np.nan
    with pytest.raises(ValueError, match="X contains NaN"):
        fastlsgd.loss_gradient(send(X), send(y), coef)
    with pytest.raises(ValueError, match="sample_weight must not be negative"):
        fastlsgd.loss_gradient(send(X), send(y), coef, sample_weight=send(-(y**2)))


@pytest.mark.parametrize("dtype", [np.int64, np.complex64])
def test_other_numbers_are_refused(send, dtype):
    X, y, coef, _ = problem()
    if not SIMULATED and dtype is np.int64:
        pytest.skip("CuPy and PyTorch convert them")
    with pytest.raises(ValueError, match=r"X .*(must|real)"):
        fastlsgd.loss_gradient(send(X.astype(dtype)), send(y), coef)


ESTIMATORS = {
    "rate of one's own": fastlsgd.SGDRegressor(
        learning_rate="constant", eta0=0.01, max_iter=2, tol=None, random_state=0, batch_size=4
    ),
    "auto": fastlsgd.SGDRegressor(max_iter=2, tol=None, random_state=0),
    "early stopping": fastlsgd.SGDRegressor(
        learning_rate="constant", max_iter=2, early_stopping=True, tol=None, random_state=0
    ),
    "full batch": fastlsgd.LeastSquaresRegressor(),
}


@pytest.mark.parametrize("model", ESTIMATORS.values(), ids=ESTIMATORS)
def test_estimators_take_arrays_on_the_device(send, model):
    X, y, _, s = problem(np.float64)
    on_host = type(model)(**model.get_params()).fit(X, y, sample_weight=s)
    there = type(model)(**model.get_params()).fit(send(X.copy()), send(y), sample_weight=send(s))
    assert there.backend_ == "cuda"
    assert there.n_features_in_ == 6
    assert_beside(there.coef_, send(X.copy()))
    np.testing.assert_allclose(to_host(there.coef_), on_host.coef_, rtol=1e-6, atol=1e-8)
    predicted = there.predict(send(X.copy()))
    assert_beside(predicted, send(X.copy()))
    np.testing.assert_allclose(to_host(predicted), on_host.predict(X), rtol=1e-6, atol=1e-8)
    score = there.score(send(X.copy()), send(y), sample_weight=send(s))
    assert score == pytest.approx(on_host.score(X, y, sample_weight=s), abs=1e-6)


def test_a_start_on_the_device(send):
    X, y, coef, _ = problem(np.float64)
    model = fastlsgd.SGDRegressor(
        learning_rate="constant", max_iter=2, tol=None, random_state=0, warm_start=True
    )
    wanted = clone(model).fit(X, y, coef_init=coef, intercept_init=[0.5]).fit(X, y).coef_
    start = send(coef), send(np.array([0.5]))
    model.fit(send(X.copy()), send(y), coef_init=start[0], intercept_init=start[1])
    np.testing.assert_allclose(to_host(model.fit(send(X.copy()), send(y)).coef_), wanted, rtol=1e-9)


RATE = {"learning_rate": "constant", "max_iter": 2, "tol": None, "random_state": 0}
CLASSIFIERS = {
    "rate of one's own": fastlsgd.SGDClassifier(**RATE, batch_size=4),
    "auto": fastlsgd.SGDClassifier(max_iter=2, tol=None, random_state=0),
    "early stopping": fastlsgd.SGDClassifier(**RATE, early_stopping=True),
    "balanced": fastlsgd.SGDClassifier(**RATE, class_weight="balanced"),
    "full batch": fastlsgd.LeastSquaresClassifier(),
    "full batch, a weight a class": fastlsgd.LeastSquaresClassifier(class_weight={0: 3.0}),
    "full batch, warm": fastlsgd.LeastSquaresClassifier(alpha=0.1, warm_start=True),
}


def labelled(n_classes, dtype=np.int64, n=40):
    p = make_problem(5, n, 6, 1, np.float64)
    cuts = np.quantile(p.y, np.arange(1, n_classes) / n_classes)
    return p.X, np.searchsorted(cuts, p.y[:, 0]).astype(dtype), np.abs(p.s) + 0.1


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("model", CLASSIFIERS.values(), ids=CLASSIFIERS)
def test_classifiers_take_arrays_on_the_device(send, model, n_classes):
    X, y, s = labelled(n_classes)
    Xd, yd, sd = send(X.copy()), send(y), send(s)
    on_host = clone(model).fit(X, y, sample_weight=s).fit(X, y, sample_weight=s)
    there = clone(model).fit(Xd, yd, sample_weight=sd).fit(Xd, yd, sample_weight=sd)
    assert there.backend_ == "cuda"
    for name in ("coef_", "intercept_", "classes_"):
        assert_beside(getattr(there, name), Xd)
        wanted = getattr(on_host, name)
        np.testing.assert_allclose(to_host(getattr(there, name)), wanted, rtol=1e-6, atol=1e-8)
    scores, predicted = there.decision_function(Xd), there.predict(Xd)
    assert_beside(scores, Xd)
    assert_beside(predicted, Xd)
    wanted = on_host.decision_function(X)
    np.testing.assert_allclose(to_host(scores), wanted, rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(to_host(predicted), on_host.predict(X))
    assert there.score(Xd, yd, sample_weight=sd) == on_host.score(X, y, sample_weight=s)
    np.testing.assert_array_equal(there.predict(X), on_host.predict(X))  # with X on the host again


# learning_rate="auto" takes its rows through the host.
@pytest.mark.parametrize("name", [name for name in CLASSIFIERS if name != "auto"])
def test_rows_stay_on_the_device(send, name, monkeypatch):
    X, y, s = labelled(3, n=300)
    shapes, copy = [], cuda.copy_to_host
    monkeypatch.setattr(cuda, "copy_to_host", lambda a: shapes.append(a.shape) or copy(a))
    Xd, yd = send(X.copy()), send(y)
    model = clone(CLASSIFIERS[name]).fit(Xd, yd, sample_weight=send(s))
    model.score(Xd, yd)
    assert (300,) in shapes  # the labels
    # Besides (3, 6) weights, at most the 256 rows from which a Gram matrix takes its origin.
    assert sum(shape[0] for shape in shapes if shape[1:] == (6,) and shape[0] > 3) <= 256


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32, np.float32])
@pytest.mark.parametrize("model", [fastlsgd.SGDClassifier, fastlsgd.LeastSquaresClassifier])
def test_kinds_of_labels(send, model, dtype):
    X, y, _ = labelled(2, dtype)
    fitted = model(max_iter=20).fit(send(X.copy()), send(y))
    predicted = fitted.predict(send(X.copy()))
    for labels in (fitted.classes_, predicted):
        assert to_host(labels).dtype == dtype
    np.testing.assert_array_equal(to_host(predicted), model(max_iter=20).fit(X, y).predict(X))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("model", [fastlsgd.SGDClassifier, fastlsgd.LeastSquaresClassifier])
def test_labels_on_the_host(send, model):
    """Strings can only be on the host, and a pipeline may move X to the device, but not y."""
    X, y, s = labelled(3)
    names = np.array(["ant", "bee", "cat"])[y]
    Xd, balanced = send(X.copy()), {"max_iter": 5, "class_weight": "balanced"}
    fitted = model(**balanced).fit(Xd, names, sample_weight=send(s))
    assert_beside(fitted.coef_, Xd)
    wanted = model(**balanced).fit(X, names, sample_weight=s)
    assert fitted.classes_.tolist() == ["ant", "bee", "cat"]
    assert fitted.predict(Xd).tolist() == wanted.predict(X).tolist()
    assert fitted.score(Xd, names) == wanted.score(X, names)
    fitted = model(**balanced).fit(Xd, y.tolist(), sample_weight=send(s))
    assert isinstance(fitted.classes_, np.ndarray)
    assert_beside(fitted.predict(Xd), Xd)
    assert fitted.score(Xd, y) == fitted.score(Xd, send(y)) == wanted.score(X, names)


@pytest.mark.parametrize("known", ["list", "device"])
@pytest.mark.parametrize("weights", [None, {0: 2.0, 2: 0.5}])
def test_partial_fit_on_the_device(send, weights, known):
    X, y, s = labelled(3)
    parts = [slice(0, 15), slice(15, 40)]
    model = fastlsgd.SGDClassifier(
        learning_rate="constant", optimizer="momentum", shuffle=False, class_weight=weights
    )
    there, classes = clone(model), [0, 1, 2]
    if known == "device":
        classes = send(np.array(classes))
    for part in parts:
        model.partial_fit(X[part], y[part], [0, 1, 2], s[part])
        rows = send(X[part].copy()), send(y[part].copy())
        there.partial_fit(*rows, classes, sample_weight=send(s[part].copy()))
    np.testing.assert_allclose(to_host(there.coef_), model.coef_, rtol=1e-9)
    assert is_device_array(there.classes_) == (known == "device")
    assert_beside(there.predict(send(X.copy())), rows[0])
    with pytest.raises(ValueError, match=r"classes must stay as .* \[0, 1, 2\], got \[0, 1\]"):
        there.partial_fit(*rows, send(np.array([0, 1])))
    with pytest.raises(ValueError, match=r"labels that are not among the classes .*: \[7\]"):
        there.partial_fit(rows[0], send(np.full(25, 7)))


def test_many_labels_a_row(send):
    X, y, _ = labelled(3)
    many = np.column_stack([y > 0, y > 1]).astype(np.int64)
    fitted = fastlsgd.LeastSquaresClassifier().fit(send(X.copy()), send(many))
    wanted = fastlsgd.LeastSquaresClassifier().fit(X, many)
    predicted = fitted.predict(send(X.copy()))
    assert_beside(predicted, send(X.copy()))
    np.testing.assert_array_equal(to_host(predicted), wanted.predict(X))
    assert fitted.score(send(X.copy()), send(many)) == wanted.score(X, many)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.linspace(0.0, 1.0, 40), "Unknown label type"),
        (np.where(np.arange(40) == 3, np.nan, 1.0), "contains NaN"),
        (np.zeros(40, int), "one class"),
        (np.arange(39) % 2, "inconsistent numbers of samples"),
        (np.ones(40, np.complex64), "Complex|real numbers"),
    ],
    ids=["numbers", "NaN", "one class", "too few", "complex"],
)
@pytest.mark.parametrize("model", [fastlsgd.SGDClassifier, fastlsgd.LeastSquaresClassifier])
def test_labels_that_are_none(send, model, labels, message):
    X, _, _ = labelled(2)
    with pytest.raises(ValueError, match=message):
        model().fit(send(X.copy()), send(labels))


def test_sparse_labels_on_the_device_are_refused(send):
    X, y, _ = labelled(2)
    y = SimpleNamespace(tocsr=None, data=send(y))
    with pytest.raises(ValueError, match="y on a GPU must be a dense array, got a SimpleNamespace"):
        fastlsgd.LeastSquaresClassifier().fit(send(X.copy()), y)


@pytest.mark.parametrize(
    "model",
    [
        fastlsgd.SGDRegressor(),
        fastlsgd.LeastSquaresRegressor(),
        fastlsgd.SGDClassifier(),
        fastlsgd.LeastSquaresClassifier(),
        fastlsgd.SGDRegressorCV(),
        fastlsgd.LeastSquaresCV(),
    ],
    ids=lambda model: type(model).__name__,
)
def test_estimators_want_numbers_in_one_place(send, model):
    X, y, s = labelled(2)
    with pytest.raises(ValueError, match="X is on the host but y is on a GPU"):
        model.fit(X, send(y))
    with pytest.raises(ValueError, match="X is on the host but sample_weight is on a GPU"):
        model.fit(X, y, sample_weight=send(s))
    with pytest.raises(ValueError, match="X is on a GPU but sample_weight is on the host"):
        model.fit(send(X.copy()), send(y), sample_weight=s)
    if is_classifier(model):
        return
    with pytest.raises(ValueError, match="X is on a GPU but y is on the host"):
        model.fit(send(X.copy()), y)


ALPHAS = [1.0, 0.1, 0.001]
CROSS_VALIDATED = {
    "leave one out": fastlsgd.LeastSquaresCV(),
    "folds": fastlsgd.LeastSquaresCV(alphas=ALPHAS, cv=3),
    "folds with L1": fastlsgd.LeastSquaresCV(l1_ratio=0.5),
    "stochastic": fastlsgd.SGDRegressorCV(fastlsgd.SGDRegressor(**RATE), alphas=ALPHAS, cv=3),
    "a score by name": fastlsgd.SGDRegressorCV(
        fastlsgd.SGDRegressor(**RATE), alphas=ALPHAS, cv=3, scoring="neg_median_absolute_error"
    ),
    "a score of one's own": fastlsgd.SGDRegressorCV(
        fastlsgd.SGDRegressor(**RATE), alphas=ALPHAS, cv=3,
        scoring=lambda model, X, y: model.score(X, y) - abs(model.predict(X) - y).max(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("n_targets", [1, 2])
@pytest.mark.parametrize("name", CROSS_VALIDATED)
def test_cross_validation_on_the_device(send, name, n_targets):
    p, model = make_problem(5, 40, 6, n_targets, np.float64), CROSS_VALIDATED[name]
    X, y, s = p.X, p.y[:, 0].copy() if n_targets == 1 else p.y, np.abs(p.s) + 0.1
    Xd, yd = send(X.copy()), send(y.copy())
    on_host, there = clone(model).fit(X, y, s), clone(model).fit(Xd, yd, send(s))
    assert there.backend_ == "cuda"
    assert there.alpha_ == pytest.approx(on_host.alpha_)
    kept = "scores_" if hasattr(there, "scores_") else "mse_path_"
    np.testing.assert_allclose(getattr(there, kept), getattr(on_host, kept), rtol=1e-6)
    assert_beside(there.coef_, Xd)
    np.testing.assert_allclose(to_host(there.coef_), on_host.coef_, rtol=1e-6, atol=1e-8)
    assert_beside(there.predict(Xd), Xd)
    assert there.score(Xd, yd) == pytest.approx(on_host.score(X, y), abs=1e-6)


def test_host_arrays_stream_when_asked():
    X, y, coef, _ = problem()
    actual = fastlsgd.loss_gradient(X, y, coef, backend="cuda")
    assert isinstance(actual.coef, np.ndarray)
    np.testing.assert_allclose(actual.coef, fastlsgd.loss_gradient(X, y, coef).coef, rtol=1e-5)


def test_device_array_views():
    values = np.arange(60.0).reshape(6, 10)
    array = as_device_array(cuda.send(values, 0) if not SIMULATED else OnDevice(values))
    for key in (np.s_[1:4], np.s_[::-2, 1:], np.s_[:, ::3], (slice(None), None)):
        np.testing.assert_array_equal(np.asarray(array[key]), values[key])
    np.testing.assert_array_equal(np.asarray(array[np.array([4, 0, 4])]), values[[4, 0, 4]])
    with pytest.raises(TypeError, match="slices"):
        array[2]
    with pytest.raises(ValueError, match="C order"):
        array[:, 1:3].reshape(12)


class Traffic:
    """The numbers that a call copies to and from the device, the largest copy, passes over X."""

    def __init__(self, monkeypatch):
        self.largest, self.passes = 0, 0
        for name, which in (("copy_to_host", 0), ("_put", 1)):
            monkeypatch.setattr(cuda, name, self.counted(getattr(cuda, name), which))
        monkeypatch.setattr(cuda, "loss_gradient", self.passing(cuda.loss_gradient))

    def counted(self, function, which):
        def call(*args, **options):
            self.largest = max(self.largest, args[which].size)
            return function(*args, **options)

        return call

    def passing(self, function):
        def call(*args):
            self.passes += 1
            return function(*args)

        return call


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "chosen", [{}, {"alpha": [0.1, 0.01]}, {"alpha": 0.01, "l1_ratio": 0.5}], ids=str
)
def test_least_squares_leaves_rows_where_they_are(send, monkeypatch, dtype, chosen):
    n, d = 3000, 5
    monkeypatch.setattr(
        "fastlsgd.solvers.system.GRADIENT_PART_NUMBERS", 100
    )  # on a CPU a pass takes 64 calls
    p = make_problem(3, n, d, 1, dtype, weighted=False)
    y = p.X @ np.arange(d, dtype=dtype) + p.y[:, 0] + 3
    model = fastlsgd.LeastSquaresRegressor(**chosen)
    wanted = model.fit(p.X, y, sample_weight=p.s)
    expected = wanted.coef_, wanted.intercept_, wanted.n_iter_, wanted._evidence
    traffic = Traffic(monkeypatch)
    there = model.fit(send(p.X.copy()), send(y))
    assert traffic.largest <= 256 * d  # the first rows, whose mean is the origin
    assert traffic.passes <= expected[2] + 3  # the range of y, its squares, a first gradient
    np.testing.assert_allclose(to_host(there.coef_), expected[0], rtol=1e-5, atol=1e-7)
    assert there.intercept_ == pytest.approx(expected[1], rel=1e-5)
    assert (there._evidence is None) == (expected[3] is None)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_summary_of_a_fit_on_the_device(send, weighted, fit_intercept):
    p = make_problem(3, 60, 4, 1, np.float64, weighted=weighted)
    y, s = p.y[:, 0] + 100.0, p.s
    model = fastlsgd.LeastSquaresRegressor(fit_intercept=fit_intercept)
    expected = model.fit(p.X, y, sample_weight=s).summary()
    s = None if s is None else send(s.copy())
    actual = model.fit(send(p.X.copy()), send(y), sample_weight=s).summary()
    for name in ("n_samples", "r_squared", "standard_error", "f_statistic", "log_likelihood"):
        np.testing.assert_allclose(getattr(actual, name), getattr(expected, name), rtol=1e-9)


@pytest.mark.parametrize("size", [1e-180, 1e180])
def test_targets_whose_squares_are_no_numbers(send, size):
    p = make_problem(3, 60, 4, 1, np.float64)
    y = size * p.y
    actual = fastlsgd.lstsq(send(p.X.copy()), send(y))
    np.testing.assert_allclose(to_host(actual), fastlsgd.lstsq(p.X, y), rtol=1e-12)


@pytest.mark.parametrize("solver", ["auto", "cg", "qr"])
def test_least_squares_of_csr_on_the_device(send, solver):
    host = make_problem(2, 60, 5, 1, np.float64, np.int32, density=0.6)
    X = CSR(*(as_device_array(send(part.copy())) for part in host.X[:3]), host.X.shape)
    assert rows.stored_numbers(X) == rows.stored_numbers(host.X)
    fits = [
        solve_least_squares(
            TrainingData(cuda, A, y, None, n_threads=1),
            [0.1],
            fit_intercept=True,
            solver=solver,
            request=Request(),
        )[0].coef
        for A, y in ((host.X, host.y), (X, as_device_array(send(host.y.copy()))))
    ]  # fmt: skip
    np.testing.assert_allclose(*fits, rtol=1e-9)
