"""Bad parameters, bad data, divergence, interrupts: errors that help, fits that leave no trace."""

from __future__ import annotations

import pickle
import re
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
from fits import BOTH, close, problem, quiet
from sklearn.base import clone
from sklearn.linear_model import SGDRegressor as SklearnSGD

from fastlsgd import LeastSquaresRegressor, SGDRegressor
from fastlsgd.kernels import load_backend
from fastlsgd.linear_model import _base
from fastlsgd.solvers import divergence, plain_descent

# --------------------------------------------------------------------------------- bad input

BAD_PARAMETERS = [
    *(("alpha", value, "alpha must be a number") for value in (-1e-9, np.nan, np.inf, "1", None)),
    *(("l1_ratio", value, "l1_ratio must be a number") for value in (-0.1, 1.1, "half")),
    *(("max_iter", value, "max_iter must be a whole number") for value in (0, 1.5, True, "1")),
    *(("tol", value, "tol must be a number") for value in (-1e-3, np.nan, "small")),
    *(("fit_intercept", value, "fit_intercept must be True or") for value in (1, None, "yes")),
    *(("warm_start", value, "warm_start must be True or False") for value in (1, None, "yes")),
    ("backend", "fortran", "backend must be one of 'auto', 'native'"),
    ("backend", 3, "backend must be one of"),
    ("n_jobs", 0, "n_jobs must be"),
]
BAD_SGD_PARAMETERS = [
    ("loss", "huber", "scikit-learn's SGDRegressor"),
    ("loss", "epsilon_insensitive", "scikit-learn's SGDRegressor"),
    ("loss", "squared", "loss must be one of 'squared_error'"),
    *(("penalty", value, "penalty must be one of 'l2'") for value in ("l3", "none", 2, True)),
    *(("learning_rate", value, "learning_rate must be one of") for value in ("pa1", None, 0.1)),
    *(("eta0", value, "eta0 must be a number in") for value in (0.0, -1.0, np.inf, "big")),
    ("power_t", -0.5, "power_t must be a number"),
    *(("batch_size", value, "batch_size must be a whole") for value in (0, -1, 2.0, None, True)),
    *(("n_iter_no_change", value, "n_iter_no_change must be a whole") for value in (0, 1.5)),
    *(("average", value, "average must be a whole") for value in (0, -1, 1.5, None)),
    *(("verbose", value, "verbose must be a whole") for value in (-1, 0.5)),
    *((name, "no", f"{name} must be True or False") for name in ("shuffle", "early_stopping")),
    ("random_state", "seed", "seed"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD_PARAMETERS)
@pytest.mark.parametrize("model", BOTH)
def test_bad_parameters(model, name, value, message):
    X, y, _ = problem(n=10)
    if model is SGDRegressor and name == "l1_ratio":
        estimator = SGDRegressor(penalty="elasticnet")
    else:
        estimator = model()
    with pytest.raises(ValueError, match=message):
        estimator.set_params(**{name: value}).fit(X, y)
    assert not hasattr(estimator, "coef_")
    assert not hasattr(estimator, "n_features_in_")


@pytest.mark.parametrize(("name", "value", "message"), BAD_SGD_PARAMETERS)
def test_bad_sgd_parameters(name, value, message):
    X, y, _ = problem(n=10)
    for call in ("fit", "partial_fit"):
        if name == "early_stopping" and call == "partial_fit":
            continue
        with pytest.raises(ValueError, match=message):
            getattr(SGDRegressor(**{name: value}), call)(X, y)


def test_parameters_that_do_not_go_together():
    X, y, _ = problem(n=10)
    with pytest.raises(ValueError, match="alpha must be > 0 for learning_rate='optimal'"):
        SGDRegressor(learning_rate="optimal", alpha=0.0).fit(X, y)
    with pytest.raises(ValueError, match="l1_ratio must be a number"):
        SGDRegressor(penalty="elasticnet", l1_ratio=None).fit(X, y)
    SGDRegressor(l1_ratio=None).fit(X, y)
    with pytest.raises(ValueError, match="early_stopping must be False for partial_fit"):
        SGDRegressor(early_stopping=True).partial_fit(X, y)
    for share in (0.0, 1.0, 1.5, "some"):
        with pytest.raises(ValueError, match="validation_fraction must be"):
            SGDRegressor(early_stopping=True, validation_fraction=share).fit(X, y)
    with pytest.raises(ValueError, match="two held-out rows"):
        SGDRegressor(early_stopping=True).fit(X, y)
    with pytest.raises(ValueError, match="can't split 1 rows"):
        SGDRegressor(early_stopping=True).fit(X[:1], y[:1])
    # Rows of zero weight are neither held out nor fitted to.
    stopping = SGDRegressor(early_stopping=True, validation_fraction=0.2, random_state=0)
    with pytest.raises(ValueError, match="of 2 rows of positive weight is 1"):
        stopping.fit(X, y, sample_weight=np.isin(np.arange(10), [0, 1]).astype(float))


def spoilt(array, value):
    array = array.copy()
    array.flat[7] = value
    return array


def with_text_in_a_cell(X):
    X = X.astype(object)
    X[2, 3] = "red"
    return X


def outside(kind, index):
    """A matrix of 20 x 4 with one index too large."""
    X = kind(problem(n=20)[0])
    X.indices[3] = index
    return X


def bad_data():
    X, y, _ = problem(n=20)
    return {
        "nan in X": (spoilt(X, np.nan), y, r"X contains NaN .* in row 1, column 3\. Leave"),
        "inf in X": (spoilt(X, np.inf), y, "X contains infinity"),
        "nan in sparse X": (sp.csr_array(spoilt(X, np.nan)), y, "NaN .* row 1, column 3"),
        "nan in y": (X, spoilt(y, np.nan), r"y contains NaN .* in row 7\. Leave"),
        "inf in y": (X, spoilt(y, -np.inf), "y contains infinity"),
        "strings in X": ([["a"] * 4] * 20, y, "could not convert|unable to convert"),
        "text as objects": (
            with_text_in_a_cell(X),
            y,
            r"'red' is a str\. .*OneHotEncoder.* It is in row 2, column 3\.",
        ),
        "strings in y": (X, ["many"] * 20, "y must hold real numbers.*, or a classifier"),
        "complex X": (X + 1j, y, "Complex data"),
        "X flat": (X.ravel(), y, "2D array"),
        "X deep": (X[None], y, "dim 3"),
        "y too short": (X, y[:-1], "inconsistent numbers of samples"),
        "y deep": (X, np.zeros((20, 1, 2)), "y must have shape|dim 3"),
        "no rows": (X[:0], y[:0], "0 sample"),
        "no columns": (X[:, :0], y, "0 feature"),
        "no targets": (X, np.zeros((20, 0)), "0 feature|at least one target"),
        "no y": (X, None, "requires y to be passed"),
        "index outside": (outside(sp.csr_array, 4), y, r"indices must lie in \[0, 4\)"),
        "negative index": (outside(sp.csr_array, -1), y, r"indices must lie in \[0, 4\)"),
        "CSC index outside": (outside(sp.csc_array, 20), y, "CSC indices or indptr are not valid"),
    }


@pytest.mark.parametrize("name", bad_data())
@pytest.mark.parametrize("model", BOTH)
def test_bad_data(model, name):
    X, y, message = bad_data()[name]
    estimator = model()
    with pytest.raises(ValueError, match=message):
        estimator.fit(X, y)
    assert not hasattr(estimator, "n_features_in_")


@pytest.mark.parametrize("model", BOTH)
def test_sparse_targets(model):
    X, y, _ = problem(n=20)
    with pytest.raises((TypeError, ValueError), match="dense"):
        model().fit(X, sp.csr_array(y[:, None]))


BAD_WEIGHTS = {
    "negative": (np.full(20, -1.0), "must not be negative"),
    "one negative": (spoilt(np.ones(20), -1e-9), "must not be negative"),
    "all zero": (np.zeros(20), "all zero"),
    "nan": (spoilt(np.ones(20), np.nan), "sample_weight contains NaN or infinity"),
    "too short": (np.ones(19), r"sample_weight must have shape \(20,\)"),
    "deep": (np.ones((20, 1)), r"sample_weight must have shape \(20,\)"),
    "strings": (["heavy"] * 20, "sample_weight must hold real numbers"),
}


@pytest.mark.parametrize("name", BAD_WEIGHTS)
@pytest.mark.parametrize("model", BOTH)
def test_bad_weights(model, name):
    X, y, _ = problem(n=20)
    weights, message = BAD_WEIGHTS[name]
    with pytest.raises(ValueError, match=message):
        model().fit(X, y, sample_weight=weights)


@pytest.mark.parametrize("model", BOTH)
def test_bad_data_to_predict(model):
    X, y, _ = problem(n=20)
    fitted = model().fit(X, y)
    for rows, message in (
        (X[:, :3], "3 features, but .* is expecting 4"),
        (spoilt(X, np.nan), "NaN"),
        (outside(sp.csr_array, 4), "indices must lie in"),
        (outside(sp.csc_array, 20), "not valid"),
    ):
        with pytest.raises(ValueError, match=message):
            fitted.predict(rows)


def test_bad_starts():
    X, y, _ = problem(n=20)
    for start, message in (
        ({"coef_init": np.zeros(3)}, r"coef_init must have shape \(1, 4\), got shape \(3,\)"),
        ({"coef_init": np.full(4, np.nan)}, "coef_init contains NaN"),
        ({"intercept_init": np.zeros(2)}, r"intercept_init must have shape \(1,\)"),
        ({"intercept_init": np.inf}, "intercept_init is inf"),
    ):
        with pytest.raises(ValueError, match=message):
            SGDRegressor().fit(X, y, **start)
    model = SGDRegressor().fit(X, y)
    with pytest.raises(ValueError, match="2 targets, but the weights so far are for 1"):
        model.partial_fit(X, np.column_stack([y, y]))
    with pytest.raises(ValueError, match="3 features"):
        model.partial_fit(X[:, :3], y)


@pytest.mark.parametrize("model", BOTH)
def test_the_culprit_is_named_where_nobody_looked_for_it(model):
    """With assume_finite, scikit-learn does not check X for NaN, but the result shows it."""
    X, y, _ = problem()
    plain = {"learning_rate": "constant"} if model is SGDRegressor else {}
    with sklearn.config_context(assume_finite=True):
        for chosen in ({}, plain):
            for rows, targets, message in (
                (spoilt(X, np.nan), y, "X contains NaN"),
                (spoilt(X, np.inf), y, "X contains infinity"),
                (sp.csr_array(spoilt(X, np.inf)), y, "X contains infinity"),
                (X, spoilt(y, np.nan), "y contains NaN"),
            ):
                with pytest.raises(ValueError, match=message):
                    model(**chosen).fit(rows, targets)
        with pytest.raises(ValueError, match="X contains NaN"):
            model().fit(X, y).predict(spoilt(X, np.nan))


@pytest.mark.parametrize("model", BOTH)
def test_numbers_whose_squares_overflow(model):
    X, y, _ = problem()
    for factor in (1e200, 1e300):
        # Both fit nevertheless.
        if model is LeastSquaresRegressor:
            close(model().fit(factor * X, y).coef_ * factor, model().fit(X, y).coef_)
        else:
            fitted = model(alpha=0.0, random_state=0)
            plain = clone(fitted).fit(X, y)
            assert fitted.fit(factor * X, y).score(factor * X, y) > plain.score(X, y) - 1e-3
    with pytest.raises(ValueError, match=r"[Rr]escale"):
        SGDRegressor(learning_rate="constant").fit(1e200 * X, y)


# -------------------------------------------------------------------------------- divergence


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"learning_rate": "constant", "eta0": 0.05}, "learning_rate='constant', eta0=0.05"),
        ({"learning_rate": "invscaling", "eta0": 2.0}, "learning_rate='invscaling', eta0=2"),
        ({"eta0": 3.0}, "learning_rate='invscaling', eta0=3"),
        ({"learning_rate": "adaptive", "eta0": 0.1}, "learning_rate='adaptive', eta0=0.1"),
        ({"learning_rate": "optimal"}, "learning_rate='optimal', alpha=0.0001"),
        ({"learning_rate": "constant", "eta0": 1.0, "batch_size": 8}, "eta0=1"),
        ({"learning_rate": "constant", "eta0": 1.0, "average": True}, "eta0=1"),
    ],
)
def test_divergence_names_epoch_loss_and_a_rate_that_holds(chosen, words, kind, dtype):
    X, y, s = problem(n=200, dtype=dtype)
    X = kind((X * 20).astype(dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no warnings of overflow before it
        with pytest.raises(ValueError, match="diverges") as caught:
            SGDRegressor(**chosen, max_iter=200, random_state=0).fit(X, y, sample_weight=s)
    message = str(caught.value)
    assert words in message
    assert re.search(r"the mean loss (reached \d\S*|overflowed) in epoch \d+\.", message), message
    rate = float(re.search(r"rate that holds on these rows is (\S+) or less", message).group(1))
    assert 0.0 < rate < 1.0
    if isinstance(X, np.ndarray) and dtype is np.float64:
        same = SGDRegressor(**chosen, max_iter=200, random_state=0)
        with pytest.raises(ValueError, match=re.escape(message[-80:])):
            same.fit(X.astype(object), y, sample_weight=s)
    held = {**chosen, "learning_rate": "constant", "eta0": rate, "max_iter": 50, "random_state": 0}
    model = quiet(SGDRegressor(**held), X, y, sample_weight=s)
    assert model.loss_curve_[-1] <= model.loss_curve_[0]


def test_divergence_that_has_not_overflowed_yet():
    X, y, _ = problem(n=40)
    chosen = {"learning_rate": "constant", "eta0": 1.0, "shuffle": False, "max_iter": 6}
    assert quiet(SklearnSGD(**chosen), X, y).score(X, y) < -1e6  # finite, but useless
    with pytest.raises(ValueError, match=r"the mean loss reached .* in epoch 6"):
        SGDRegressor(**chosen, tol=None).fit(X, y)


@pytest.mark.parametrize(("dtype", "unit"), [(np.float64, 1e155), (np.float32, 1e60)])
def test_divergence_by_the_scale_of_y(dtype, unit):
    X, y, s = problem(n=200)
    X, y = X.astype(dtype), y * unit
    for weights in (None, s):
        model = SGDRegressor(learning_rate="constant", eta0=0.01)
        with pytest.raises(ValueError, match=r"diverges .* scale it, .* y / np\.abs\(y\)\.max"):
            model.fit(X, y, sample_weight=weights)
        model.fit(X, y / np.abs(y).max(), sample_weight=weights)
    # A row of weight 0 is not the reason.
    s[:5], y = np.r_[0.0, np.ones(4)], y / unit
    y[0] *= unit
    assert divergence.targets_overflow(X, y[:, None], None)
    assert not divergence.targets_overflow(X, y[:, None], s)


def test_rate_that_holds():
    X, _, s = problem()
    limit = 1.0 / ((X**2).sum(axis=1) + 1.0).max()
    for rows in (X, plain_descent.CSR(*_csr_parts(X))):
        rate = divergence.rate_that_holds(rows, None, True)
        assert 0.9 * limit < rate <= limit
        assert divergence.rate_that_holds(rows, s, True) == pytest.approx(
            1.0 / (s * ((X**2).sum(axis=1) + 1.0)).max(), rel=0.1
        )
        assert divergence.rate_that_holds(rows, None, False) >= rate


def _csr_parts(X):
    csr = sp.csr_array(X)
    return csr.data, csr.indices, csr.indptr, csr.shape


# ------------------------------------------------------------------- failed calls change nothing


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize(
    "model",
    [
        SGDRegressor(learning_rate="constant", warm_start=True),
        SGDRegressor(learning_rate="constant", average=True, warm_start=True),
        SGDRegressor(warm_start=True),
        LeastSquaresRegressor(alpha=0.01, l1_ratio=0.5, warm_start=True),
        LeastSquaresRegressor(alpha=0.01, l1_ratio=0.5, warm_start=True, solver="nesterov"),
        LeastSquaresRegressor(warm_start=True),
    ],
    ids=str,
)
def test_interrupted_fit_leaves_no_trace(monkeypatch, model, error):
    X, y, _ = problem(n=200)
    model = quiet(clone(model).set_params(backend="reference"), X[:, :3], y)
    kernels, calls = load_backend("reference"), []

    def interrupted(kernel):
        def call(*arguments):
            result = kernel(*arguments)
            calls.append(kernel)
            if len(calls) >= 2:
                raise error
            return result

        return call

    for name in ("sgd_epoch", "loss_gradient", "gram"):
        monkeypatch.setattr(kernels, name, interrupted(getattr(kernels, name)))
    monkeypatch.setattr(plain_descent, "CALL_NUMBERS", 100)
    monkeypatch.setattr(_base, "FEW_LOOKED_AT", 0)  # few numbers are not left to kernels
    steps = [("fit", X[:, :3], True), ("fit", X, False)]
    if isinstance(model, SGDRegressor):
        steps.append(("partial_fit", X[:, :3], True))
    for step, rows, warm_start in steps:
        model.set_params(warm_start=warm_start)
        before = pickle.dumps(model)
        # The chunks of "auto" are larger, so that its epoch is one call.
        calls[:] = ["a call"] if step == "partial_fit" and model.learning_rate == "auto" else []
        with pytest.raises(error):
            getattr(model, step)(rows, y)
        assert pickle.dumps(model) == before


def test_failed_fit_leaves_no_trace():
    X, y, _ = problem()
    model = SGDRegressor(random_state=0).fit(X[:, :3], y)
    before = pickle.dumps(model)
    for call in (
        lambda: model.fit(X, y[:-1]),
        lambda: model.fit(X, y, sample_weight=-np.ones(60)),
        lambda: model.partial_fit(X, y),
        lambda: model.fit(np.where(X > 0.1, np.inf, X), y),
    ):
        with pytest.raises(ValueError):  # noqa: PT011
            call()
        assert pickle.dumps(model) == before
