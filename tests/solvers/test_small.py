"""Small problems: the short path answers as the general one does, or leaves the problem to it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest

from fastlsgd import LeastSquaresRegressor, SGDRegressor, _threads, lstsq
from fastlsgd.kernels import load_backend
from fastlsgd.solvers import serial_blas as serial_blas_module
from fastlsgd.solvers import small
from fastlsgd.solvers.conjugate import Goal
from fastlsgd.solvers.factors import solve_upper
from fastlsgd.solvers.serial_blas import _libraries, blas_for_decomposition, serial_blas
from fastlsgd.solvers.serial_blas import blas_threads as allowed_threads
from fastlsgd.solvers.training import TrainingData

GOAL = Goal(0.0, 1000, certify=False)


def data_of(n=60, d=5, t=2, dtype="float64", weighted=False, seed=0):
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(n, d)) * np.geomspace(0.1, 10.0, d) + 1.0).astype(dtype)
    y = (X @ rng.normal(size=(d, t)) + rng.normal(size=(n, t))).astype(dtype)
    s = rng.integers(0, 4, size=n).astype(dtype) if weighted else None
    return X, y, s


def short(X, y, s=None, alphas=(0.0,), fit_intercept=True, backend="auto"):
    data = TrainingData(load_backend(backend), X, y, s, 1)
    return small.solve_small(data, alphas, GOAL, fit_intercept=fit_intercept)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 0.1])
@pytest.mark.parametrize("t", [1, 3])
def test_answers_are_those_of_the_general_path(
    dtype, weighted, fit_intercept, alpha, t, monkeypatch
):
    X, y, s = data_of(t=t, dtype=dtype, weighted=weighted)
    assert short(X, y, s, [alpha], fit_intercept) is not None
    model = LeastSquaresRegressor(alpha=alpha, fit_intercept=fit_intercept)
    quick = vars(model.fit(X, y, s)).copy()
    monkeypatch.setattr(small, "SMALL_NUMBERS", 0)
    general = vars(model.fit(X.astype(np.float64), y, s))  # float32 rows are computed with so
    for name in ("solver_", "n_iter_"):
        assert quick[name] == general[name]
    assert quick["condition_"] == pytest.approx(general["condition_"])
    rtol = 1e-12 if dtype == "float64" else 1e-6
    for name in ("coef_", "intercept_", "residual_norm_", "loss_curve_"):
        np.testing.assert_allclose(quick[name], general[name], rtol=rtol, err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_compiled_fits_are_those_in_numpy(dtype, weighted, fit_intercept):
    if not hasattr(load_backend("auto"), "small_least_squares"):
        pytest.skip("no compiled one")
    X, y, s = data_of(dtype=dtype, weighted=weighted)
    alphas = [3.0, 0.0]
    compiled = short(X, y, s, alphas, fit_intercept)
    expected = short(X, y, s, alphas, fit_intercept, "reference")
    for one, other in zip(compiled, expected, strict=True):
        assert (one.n_iter, one.solver, one.converged) == (other.n_iter, "gram", True)
        assert one.condition == pytest.approx(other.condition)
        for name in ("coef", "intercept", "residual_norm", "losses", "centre"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-11)
        for name in ("upper", "scale"):
            values = getattr(one.factor, name), getattr(other.factor, name)
            np.testing.assert_allclose(*values, rtol=1e-11, atol=1e-12)


def test_rows_in_any_order_of_memory():
    X, y, _ = data_of()
    (expected,) = short(X, y)
    for A in (np.asfortranarray(X), np.repeat(X, 2, axis=0)[::2], X[::-1].copy()[::-1]):
        for dtype in ("float32", "float64"):
            (found,) = short(A.astype(dtype, order="K"), y)
            np.testing.assert_allclose(found.coef, expected.coef, rtol=1e-5)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(short(X + X**2, y)[0].coef, expected.coef, rtol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 2.0])
def test_lstsq_is_the_closed_form(weighted, alpha):
    X, y, s = data_of(weighted=weighted)
    root = np.ones(len(X)) if s is None else np.sqrt(s)
    A = np.vstack([root[:, None] * X, np.sqrt(alpha) * np.eye(X.shape[1])])
    b = np.vstack([root[:, None] * y, np.zeros((X.shape[1], y.shape[1]))])
    x, info = lstsq(X, y, alpha=alpha, sample_weight=s, return_info=True)
    np.testing.assert_allclose(x, np.linalg.lstsq(A, b)[0], rtol=1e-10)
    residual = np.linalg.norm(root[:, None] * (X @ x - y), axis=0)
    np.testing.assert_allclose(info.residual_norm_, residual, rtol=1e-10)
    for dtype in ("float64", "float32"):  # weights alone come from one compiled call, to the bit
        A, given = X.astype(dtype), {"alpha": alpha, "sample_weight": s}
        alone, (beside, _) = lstsq(A, y, **given), lstsq(A, y, **given, return_info=True)
        assert alone.dtype == dtype
        assert np.array_equal(alone, beside)
        assert np.array_equal(lstsq(A, y[:, 0], **given), lstsq(A, y[:, :1], **given)[:, 0])


def test_weights_of_zero_and_beyond_float32():
    A = np.eye(4, 2, dtype=np.float32)
    assert lstsq(A, [2.0, 0.0, 0.0, 1.0]).tolist() == [2.0, 0.0]
    for size, why in ((1e300, "overflows"), (1e-60, "underflows")):
        with pytest.raises(ValueError, match=why):
            lstsq(A, size * np.array([2.0, 1.0, 0.0, 1.0]))


def test_a_path_is_solved_at_each_penalty():
    X, y, _ = data_of()
    alphas = [10.0, 1.0, 0.0]
    found = short(X, y, None, alphas)
    for alpha, solution in zip(alphas, found, strict=True):
        alone = short(X, y, None, [alpha])[0]
        assert np.array_equal(solution.coef, alone.coef)


def spoilt(change):
    X, y, _ = data_of()
    change(X, y)
    return X, y


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda X, y: X.__setitem__((3, 1), np.nan), id="NaN in X"),
        pytest.param(lambda X, y: y.__setitem__((3, 1), np.inf), id="infinity in y"),
        pytest.param(lambda X, y: X.__setitem__((..., 0), 7.0), id="constant column"),
        pytest.param(lambda X, y: X.__setitem__((..., 0), 7.0 + 1e-13 * X[:, 0]), id="nearly so"),
        pytest.param(lambda X, y: X.__setitem__((..., 1), X[:, 2]), id="dependent columns"),
        pytest.param(lambda X, y: X.__imul__(1e200), id="huge"),
        pytest.param(lambda X, y: y.__imul__(1e-200), id="tiny"),
        pytest.param(lambda X, y: y.__imul__(1e200), id="huge targets"),
        pytest.param(lambda X, y: y.__imul__(0.0), id="zero"),
        pytest.param(lambda X, y: y.__iadd__(1e12), id="far from zero"),
    ],
)
def test_out_of_the_ordinary_is_left_to_the_general_path(change):
    X, y = spoilt(change)
    with np.errstate(all="raise", under="ignore"):
        assert short(X, y) is None
        assert short(X, y[:, 1:]) is None


def test_few_rows_and_many_columns_are_left_to_the_general_path():
    rng = np.random.default_rng(0)
    for n, d in ((3, 5), (1000, 30), (200, 65)):
        assert short(rng.normal(size=(n, d)), rng.normal(size=(n, 1))) is None


@pytest.mark.parametrize("trans", ["N", "T"])
@pytest.mark.parametrize("t", [1, 5])
def test_triangular_solves(trans, t):
    rng = np.random.default_rng(0)
    R = np.triu(rng.normal(size=(6, 6))) + 5.0 * np.eye(6)
    B = rng.normal(size=(6, t))
    product = (R.T if trans == "T" else R) @ solve_upper(R, B, trans)
    np.testing.assert_allclose(product, B, atol=1e-14)


# ----------------------------------------------------------------------------------- threads


def blas_threads():
    return [library.get_num_threads() for library in _libraries()]


def test_blas_gets_its_threads_back():
    before = blas_threads()
    with serial_blas():
        with serial_blas():
            assert set(blas_threads()) <= {1, None}
        assert set(blas_threads()) <= {1, None}
    assert blas_threads() == before
    with pytest.raises(np.linalg.LinAlgError), serial_blas():
        np.linalg.inv(np.zeros((2, 2)))
    assert blas_threads() == before


class Library:
    """A controller of threadpoolctl, of which a call may be interrupted by Ctrl-C."""

    n_threads, interrupted, counts = 2, -1, []

    def get_num_threads(self):
        return self.n_threads

    def set_num_threads(self, n_threads):
        Library.interrupted -= 1
        if Library.interrupted == -1:
            raise KeyboardInterrupt
        self.n_threads = n_threads

    def clear_controlling_thread(self):
        self.counts.append([library.n_threads for library in _libraries()])


@pytest.mark.parametrize("interrupted", range(4))  # of two libraries, set twice
def test_blas_gets_its_threads_back_after_ctrl_c(interrupted, monkeypatch):
    libraries = [Library(), Library()]
    monkeypatch.setattr(serial_blas_module, "_libraries", lambda: libraries)
    monkeypatch.setitem(globals(), "_libraries", lambda: libraries)
    monkeypatch.setattr(Library, "interrupted", interrupted)
    monkeypatch.setattr(Library, "counts", [])
    with suppress(KeyboardInterrupt), serial_blas():
        pass
    for _ in range(2):
        assert blas_threads() == [2, 2]
        with serial_blas():
            assert blas_threads() == [1, 1]
    # Another thread that may set them from here on has to find all of them as they were.
    assert all(counts == [2, 2] for counts in Library.counts)


def test_blas_gets_its_threads_back_from_threads_that_overlap():
    before, both = blas_threads(), threading.Barrier(2, timeout=30.0)
    after = []

    def work(first_to_leave):
        with serial_blas():
            both.wait()
            if not first_to_leave:
                other.join()
        after.append(blas_threads())

    for _ in range(3):
        other = threading.Thread(target=work, args=(True,))
        other.start()
        work(False)
    assert after[1::2] == [before] * 3
    assert blas_threads() == before


def test_long_decompositions_get_the_threads_of_blas_back():
    n = 2 + int(_threads.FEW_LAPACK_PRODUCTS ** (1.0 / 3.0))
    before = blas_threads()
    with serial_blas():
        with blas_for_decomposition(np.empty((n, n))):
            assert blas_threads() == before
        assert set(blas_threads()) <= {1, None}
        with blas_for_decomposition(np.empty((n - 4, n - 4))):
            assert set(blas_threads()) <= {1, None}
        # So they do in threads that carry the context of this one.
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(_threads.carried(allowed_threads)).result() == max(before)
    assert blas_threads() == before


def test_small_fits_use_one_thread(monkeypatch):
    kernels, seen = load_backend("reference"), set()

    def spied(kernel):
        def spy(*arguments):
            seen.add(arguments[-1])
            return kernel(*arguments)

        return spy

    for name in ("loss_gradient", "gram", "predict", "sgd_epoch"):
        monkeypatch.setattr(kernels, name, spied(getattr(kernels, name)))
    X, y, _ = data_of()
    for model in (LeastSquaresRegressor(), LeastSquaresRegressor(l1_ratio=1.0, alpha=0.1)):
        model.set_params(backend="reference", n_jobs=2).fit(X, y).predict(X)
    SGDRegressor(backend="reference", n_jobs=2).fit(X, y[:, 0]).predict(X)
    assert seen == {1}
