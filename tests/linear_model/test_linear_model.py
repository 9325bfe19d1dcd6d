"""The estimators: scikit-learn's contract, the default learning rate, exact least squares."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from fits import BACKENDS, BOTH, close, problem
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import ElasticNet, LinearRegression, Ridge
from sklearn.linear_model import SGDRegressor as SklearnSGD
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastlsgd import LeastSquaresRegressor, SGDRegressor, config_context

# ------------------------------------------------------------------- scikit-learn's contract


@parametrize_with_checks(
    [
        SGDRegressor(max_iter=20),
        SGDRegressor(max_iter=20, penalty="elasticnet", batch_size=4, tol=None),
        LeastSquaresRegressor(),
        LeastSquaresRegressor(alpha=0.01, l1_ratio=0.5, tol=1e-8),
    ],
)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("model", BOTH)
def test_attributes(model, backend):
    X, y, _ = problem()
    fitted = model(backend=backend).fit(X, y)
    assert fitted.coef_.shape == (4,)
    assert fitted.backend_ == backend
    assert fitted.n_features_in_ == 4
    assert len(fitted.loss_curve_) == fitted.n_iter_
    assert fitted.predict(X).shape == (60,)
    close(fitted.predict(X), X @ fitted.coef_ + fitted.intercept_)
    assert fitted.score(X, y) > 0.95
    several = model(backend=backend).fit(X, np.column_stack([y, -y, y]))
    assert several.coef_.shape == (3, 4)
    assert np.shape(several.intercept_) == (3,)
    assert several.predict(X).shape == (60, 3)


def test_intercept_has_the_peers_shape():
    X, y, _ = problem()
    assert SGDRegressor().fit(X, y).intercept_.shape == (1,)
    assert isinstance(LeastSquaresRegressor().fit(X, y).intercept_, float)


@pytest.mark.parametrize("model", BOTH)
def test_names_of_columns(model):
    pandas = pytest.importorskip("pandas")
    X, y, _ = problem()
    frame = pandas.DataFrame(X, columns=["one", "two", "three", "four"])
    fitted = model().fit(frame, pandas.Series(y))
    assert fitted.feature_names_in_.tolist() == list(frame.columns)
    close(fitted.coef_, model().fit(X, y).coef_) if model is LeastSquaresRegressor else None
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(frame[["two", "one", "three", "four"]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("model", BOTH)
def test_dtype_of_X_is_kept(model, dtype):
    X, y, _ = problem(dtype=dtype)
    for rows in (X, sp.csr_array(X)):
        fitted = model().fit(rows, y)
        assert fitted.coef_.dtype == dtype
        assert fitted.predict(rows).dtype == dtype


@pytest.mark.parametrize("model", BOTH)
def test_any_layout_gives_the_same(model):
    """Layouts: F-ordered, strided, reversed, read-only, big-endian, integers, 64-bit indices."""
    X, y, s = problem()
    X, y = np.round(4 * X), np.round(8 * y)  # so that integers can represent them
    if model is SGDRegressor:
        model = lambda: SGDRegressor(random_state=0)  # noqa: E731
    expected = model().fit(X, y, sample_weight=s).coef_
    read_only = X.copy()
    read_only.flags.writeable = False
    wide = np.zeros((120, 8))
    wide[::2, ::2] = X
    csr = sp.csr_array(X)
    long = sp.csr_array(X)
    long.indices, long.indptr = long.indices.astype(np.int64), long.indptr.astype(np.int64)
    layouts = {
        "F": np.asfortranarray(X),
        "strided": wide[::2, ::2],
        "reversed": np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1],
        "read-only": read_only,
        "big-endian": X.astype(">f8"),
        "integers": X.astype(np.int32),
        "list": X.tolist(),
        "csr": csr,
        "csc": csr.tocsc(),
        "coo": csr.tocoo(),
        "int64": long,
        "matrix": sp.csr_matrix(X),
    }
    for name, rows in layouts.items():
        fitted = model().fit(rows, y, sample_weight=s)
        np.testing.assert_allclose(fitted.coef_, expected, rtol=1e-6, err_msg=name)
    for targets in (np.asfortranarray(np.column_stack([y, y]))[:, 0], y.astype(int), list(y)):
        np.testing.assert_allclose(model().fit(X, targets, sample_weight=s).coef_, expected, 1e-6)


@pytest.mark.parametrize("model", BOTH)
def test_X_is_not_copied_nor_changed(model):
    X, y, s = problem()
    X, copies = np.asfortranarray(X), (X.copy(), y.copy(), s.copy())
    model().fit(X, y, sample_weight=s)
    for array, copy in zip((X, y, s), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("model", BOTH)
def test_pickle_and_clone(model):
    X, y, _ = problem()
    fitted = model(alpha=0.01).fit(X, y)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    if model is SGDRegressor:
        again.partial_fit(X, y)
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert not hasattr(copy, "coef_")
    with pytest.raises(NotFittedError):
        copy.predict(X)


def test_same_parameters_as_scikit_learn():
    theirs, ours = SklearnSGD().get_params(), SGDRegressor().get_params()
    assert set(ours) - set(theirs) == {
        "batch_size", "optimizer", "clip_norm", "backend", "n_jobs", "restore_best_weights",
        "keep_interrupted",
    }  # fmt: skip
    assert set(theirs) <= set(ours)
    differ = {name for name in theirs if ours[name] != theirs[name]}
    assert differ == {"learning_rate", "eta0"}


# ---------------------------------------------------------------------- learning_rate="auto"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
def test_auto_converges_on_columns_that_nobody_scaled(dtype, kind):
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(2000, 4))
    X = (Z * [1.0, 1e-3, 1e4, 300.0] + [0.0, 5.0, 1e5, 1990.0]).astype(dtype)
    y = (Z @ [1.0, -2.0, 3.0, 0.5] + 7.0 + rng.normal(size=2000)).astype(dtype)
    model = SGDRegressor(random_state=0).fit(kind(X), y)
    # The penalty shrinks the weight of the second column, which is large, to a hundredth.
    exact = Ridge(alpha=model.alpha * len(y)).fit(X.astype(np.float64), y)
    assert model.score(kind(X), y) > exact.score(X, y) - 0.005
    assert model.n_iter_ < 100


def test_auto_goes_on_with_partial_fit_and_warm_start():
    X, Y, s = problem(n=600, targets=2)
    model = SGDRegressor(random_state=0)
    for start in range(0, 600, 100):
        rows = slice(start, start + 100)
        model.partial_fit(X[rows], Y[rows], sample_weight=s[rows])
    assert model.t_ == 601
    assert len(model.loss_curve_) == 6
    assert model.score(X, Y) > 0.97
    model.set_params(warm_start=True).fit(X, Y)
    assert model.score(X, Y) > 0.98


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_auto_with_early_stopping(share):
    X, y, s = problem(n=200)
    model = SGDRegressor(random_state=0, early_stopping=True, validation_fraction=share)
    model.fit(X, y, sample_weight=s)
    assert len(model.validation_scores_) == model.n_iter_
    assert model.score(X, y) > 0.97
    # The loss curve is a mean over the visited rows.
    assert model.loss_curve_[-1] == pytest.approx(0.5 * np.mean((model.predict(X) - y) ** 2), 0.5)


def test_switching_between_auto_and_plain_rates():
    X, y, _ = problem(n=200)
    model = SGDRegressor(random_state=0)
    for chosen in (
        {},
        {"learning_rate": "constant", "average": True},
        {"learning_rate": "constant", "average": False},
        {"learning_rate": "constant", "average": 3},
        {"learning_rate": "auto"},
    ):
        for _ in range(2):
            model.set_params(**chosen).partial_fit(X, y)
            assert np.isfinite(model.coef_).all()
    assert model.score(X, y) > 0.97


@pytest.mark.parametrize("model", BOTH)
def test_columns_and_targets_that_do_not_vary(model):
    X, y, _ = problem()
    X[:, 1], X[:, 2] = 0.0, 3.0
    fitted = model().fit(X, y)
    assert np.isfinite(fitted.coef_).all()
    close(model().fit(X, np.full(60, 3.5)).predict(X), np.full(60, 3.5), 1e-3)
    close(model().fit(X, np.zeros(60)).predict(X), np.zeros(60))
    one_row = model().fit(X[:1], y[:1])
    assert np.isfinite(one_row.predict(X)).all()


# --------------------------------------------------------------------- LeastSquaresRegressor


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", [np.asarray, np.asfortranarray, sp.csr_array])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_least_squares_is_exact(backend, kind, fit_intercept):
    X, Y, s = problem(targets=2)
    exact = LinearRegression(fit_intercept=fit_intercept).fit(X, Y, sample_weight=s)
    scale = np.array([1.0, 1e-4, 1e3, 10.0])
    X = X * scale + (np.array([0.0, 1.0, 0.0, 2000.0]) if fit_intercept else 0.0)
    model = LeastSquaresRegressor(fit_intercept=fit_intercept, backend=backend)
    model.fit(kind(X), Y, sample_weight=s)
    close(model.coef_ * scale, exact.coef_, 1e-7)
    assert model.relative_gradient_ <= 1e-10
    assert model.n_iter_ < 30


def test_penalties_are_scikit_learns():
    X, y, _ = problem()
    close(
        LeastSquaresRegressor(alpha=0.3).fit(X, y).coef_,
        Ridge(alpha=0.3 * 60, solver="svd").fit(X, y).coef_,
        1e-7,
    )
    chosen = {"alpha": 0.05, "l1_ratio": 0.7}
    close(
        LeastSquaresRegressor(**chosen).fit(X, y).coef_,
        ElasticNet(**chosen, tol=1e-14, max_iter=100000).fit(X, y).coef_,
        1e-6,
    )


def test_least_squares_warm_start_and_warning():
    X, y, _ = problem()
    lasso = {"alpha": 0.05, "l1_ratio": 0.7, "solver": "nesterov"}
    model = LeastSquaresRegressor(**lasso).fit(X, y)
    cold = model.n_iter_
    assert model.set_params(warm_start=True).fit(X, y).n_iter_ < cold
    with pytest.warns(ConvergenceWarning, match=r"relative gradient is .* after 1 iterations"):
        LeastSquaresRegressor(**lasso, max_iter=1).fit(X, y)
    with pytest.raises(ValueError, match="2 targets, but the weights so far are for 1"):
        model.fit(X, np.column_stack([y, y]))


# ---------------------------------------------------------------------------- the dispatcher


@pytest.mark.parametrize("model", BOTH)
def test_backend_of_argument_config_and_environment(model, monkeypatch):
    X, y, _ = problem()
    monkeypatch.setenv("FASTLSGD_BACKEND", "reference")
    assert model().fit(X, y).backend_ == "reference"
    other = BACKENDS[0]
    with config_context(backend=other):
        assert model().fit(X, y).backend_ == other
        assert model(backend="reference").fit(X, y).backend_ == "reference"
    monkeypatch.setenv("FASTLSGD_BACKEND", "abacus")
    with pytest.raises(ValueError, match="FASTLSGD_BACKEND must be one of"):
        model().fit(X, y)
