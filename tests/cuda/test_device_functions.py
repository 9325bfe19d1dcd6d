"""Functions and regressors take arrays that are on a device, and give such arrays back."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from conftest import SIMULATED
from device_arrays import (
    OnDevice,
    assert_beside,
    cuda,
    each_library,
    module_of,
    problem,
    to_host,
)
from sklearn.base import clone
from test_kernels import (
    make_problem,
)

import fastlsgd
from fastlsgd.kernels.contract import CSR
from fastlsgd.kernels.device import as_device_array
from fastlsgd.solvers import rows
from fastlsgd.solvers.least_squares import Request, solve_least_squares
from fastlsgd.solvers.training import TrainingData

pytestmark = pytest.mark.cuda
send = each_library


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


def test_host_arrays_stream_when_asked():
    X, y, coef, _ = problem()
    actual = fastlsgd.loss_gradient(X, y, coef, backend="cuda")
    assert isinstance(actual.coef, np.ndarray)
    np.testing.assert_allclose(actual.coef, fastlsgd.loss_gradient(X, y, coef).coef, rtol=1e-5)


def test_device_array_views():
    values = np.arange(60.0).reshape(6, 10)
    array = as_device_array(cuda.to_numba_array(values, 0) if not SIMULATED else OnDevice(values))
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
        counted = self.counted(cuda.copy_to_host, 0)
        monkeypatch.setattr(cuda, "copy_to_host", counted)
        counted = self.counted(cuda.transfer.upload, 1)
        for name, module in list(sys.modules.items()):
            if name.startswith(cuda.__name__) and hasattr(module, "upload"):
                monkeypatch.setattr(module, "upload", counted)
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
    n, d = 1000, 5
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


def grouped_problem():
    """Groups of which two are longer than a tile, one too short, one dependent, one far too big."""
    rng = np.random.default_rng(11)
    lengths = [150, 3, 90, 40, 30]
    labels = np.repeat(np.array([1, 5, 2, 7, 3]), lengths)[rng.permutation(sum(lengths))]
    X = rng.standard_normal((len(labels), 4))
    y = X @ rng.standard_normal(4) + 1.0 + 0.1 * rng.standard_normal(len(labels))
    X[labels == 7, 1] = X[labels == 7, 0]
    X[labels == 3] *= 1e160
    return X, y, labels, rng.random(len(labels))


def assert_same_fits(actual, wanted):
    for name in ("coef", "intercept", "n_samples", "r2", "residual_std", "standard_error",
                 "intercept_standard_error", "fitted"):  # fmt: skip
        here, there = getattr(wanted, name), to_host(getattr(actual, name))
        assert (here is None) == (there is None)
        if here is not None:
            assert here.dtype == there.dtype
            np.testing.assert_allclose(there, here, rtol=1e-9, atol=1e-12, err_msg=name)
    assert (actual.n_short, actual.n_singular) == (wanted.n_short, wanted.n_singular) == (1, 1)


def test_groups_where_x_is_on_the_device(send):
    X, y, labels, s = grouped_problem()
    same = {"cov_type": "HC3", "predictions": True}
    wanted = fastlsgd.grouped_lstsq(X, y, labels, sample_weight=s, backend="reference", **same)
    Xd, sd = send(np.asfortranarray(X)), send(s)
    actual = fastlsgd.grouped_lstsq(Xd, send(y), send(labels), sample_weight=sd, **same)
    assert_same_fits(actual, wanted)
    for array in (actual.coef, actual.n_samples, actual.standard_error, actual.fitted):
        assert_beside(array, Xd)
    assert isinstance(actual.keys["group"], np.ndarray)
    assert "1 too short and 1 singular" in repr(actual)
    assert actual.frame().shape == wanted.frame().shape


@pytest.mark.parametrize("layout", ["C", "F"])
def test_groups_of_host_rows_go_to_the_device_in_blocks(monkeypatch, layout):
    monkeypatch.setattr(cuda.gather, "TRANSFER_BYTES", 60 * 4 * 8)
    monkeypatch.setattr(module_of("segments"), "TABLE_BYTES", 2 * 8 * 16)
    cuda.free_workspace()
    X, y, labels, _ = grouped_problem()
    X[4, 2] = y[9] = np.nan
    same = {"missing": "skip", "standard_errors": True, "predictions": True}
    X = np.asarray(X, order=layout)
    wanted = fastlsgd.grouped_lstsq(X, y, labels, backend="reference", **same)
    assert_same_fits(fastlsgd.grouped_lstsq(X, y, labels, backend="cuda", **same), wanted)
    whole = np.rint(100.0 * np.clip(X[:, :3], -1.0, 1.0))
    whole[np.isnan(whole)] = 0.0
    small = whole.astype(np.int8), np.nan_to_num(y), labels
    wanted = fastlsgd.grouped_lstsq(*small, alpha=1.0, backend="reference")
    actual = fastlsgd.grouped_lstsq(*small, alpha=1.0, backend="cuda")
    np.testing.assert_allclose(actual.coef, wanted.coef, rtol=1e-9)


def test_what_groups_on_the_device_refuse(send):
    X, y, labels, s = grouped_problem()
    Xd, yd = send(X.copy()), send(y.copy())
    with pytest.raises(ValueError, match="X is on a GPU but sample_weight is on the host"):
        fastlsgd.grouped_lstsq(Xd, yd, labels, sample_weight=s)
    for call in (
        lambda: fastlsgd.rolling_lstsq(Xd, yd, 20),
        lambda: fastlsgd.expanding_lstsq(X, y, backend="cuda"),
        lambda: fastlsgd.recursive_lstsq(X, y, half_life=9, backend="cuda"),
    ):
        with pytest.raises(ValueError, match="'cuda' has regressions of groups only"):
            call()
    X[4, 2] = np.nan
    with pytest.raises(ValueError, match="X contains NaN"):
        fastlsgd.grouped_lstsq(send(X), yd, labels)
