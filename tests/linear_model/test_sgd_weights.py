"""SGDRegressor's weights: scikit-learn's, where it has the same options, and what holds beyond."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
from fits import BACKENDS, BOTH, TIGHT, close, problem, quiet
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning
from sklearn.linear_model import LinearRegression
from sklearn.linear_model import SGDRegressor as SklearnSGD

from fastlsgd import LeastSquaresRegressor, SGDRegressor
from fastlsgd.solvers import plain_descent, seen_rows

# -------------------------------------------------------------------- scikit-learn's weights

SCHEDULES = {
    "constant": {"eta0": 0.02},
    "invscaling": {"eta0": 0.1, "power_t": 0.25},
    "invscaling-half": {"learning_rate": "invscaling", "eta0": 0.2, "power_t": 0.5},
    "optimal": {"alpha": 0.5},
    "adaptive": {"eta0": 0.05},
}
# Averages are compared only without L1: scikit-learn takes its average before the L1 step, by a
# recurrence that ignores that step.
PENALTIES = {
    "none": {"penalty": None},
    "l2": {"penalty": "l2"},
    "l1": {"penalty": "l1"},
    "elasticnet": {"penalty": "elasticnet", "l1_ratio": 0.4},
    "none-averaged": {"penalty": None, "average": True},
    "l2-averaged": {"penalty": "l2", "average": True},
    "l2-averaged-late": {"penalty": "l2", "average": 73},
}


def parameters(schedule, penalty, **more):
    common = {"learning_rate": schedule, "alpha": 0.01, "shuffle": False, "tol": None}
    return {**common, **PENALTIES[penalty], **SCHEDULES[schedule], **more}


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_weights_are_scikit_learns(schedule, penalty):
    """For dense and sparse X, both dtypes, with and without weights and intercept, 1 and 3 epochs.

    Sparse fits are compared with scikit-learn's fit of dense rows: for sparse rows it multiplies
    the steps of the intercept by 0.01, so that its own two fits differ (its issues 11178, 25198).
    """
    for dtype, rtol in TIGHT.items():
        X, y, s = problem(dtype=dtype)
        for weights in (None, s):
            for more in ({"max_iter": 1}, {"max_iter": 3}, {"max_iter": 2, "fit_intercept": False}):
                chosen = parameters(schedule, penalty, **more)
                theirs = SklearnSGD(**chosen).fit(X, y, sample_weight=weights)
                for rows in (X, sp.csr_array(X)):
                    ours = SGDRegressor(**chosen).fit(rows, y, sample_weight=weights)
                    close(ours.coef_, theirs.coef_, rtol)
                    close(ours.intercept_, theirs.intercept_, rtol)
                    assert ours.t_ == theirs.t_
                    assert ours.n_iter_ == theirs.n_iter_


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("penalty", ["elasticnet", "l2-averaged-late"])
def test_weights_are_scikit_learns_with_each_backend(backend, penalty):
    X, y, s = problem()
    chosen = parameters("invscaling", penalty, max_iter=3)
    theirs = SklearnSGD(**chosen).fit(X, y, sample_weight=s)
    for rows in (X, sp.csr_array(X)):
        ours = SGDRegressor(**chosen, backend=backend).fit(rows, y, sample_weight=s)
        close(ours.coef_, theirs.coef_)
        close(ours.intercept_, theirs.intercept_)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_partial_fit_is_scikit_learns(schedule, penalty):
    X, y, s = problem()
    chosen = parameters(schedule, penalty)
    ours, theirs = SGDRegressor(**chosen), SklearnSGD(**chosen)
    for part in (slice(0, 25), slice(25, 27), slice(27, 60), slice(0, 25)):
        for model in (ours, theirs):
            model.partial_fit(X[part], y[part], sample_weight=s[part])
        close(ours.coef_, theirs.coef_)
        close(ours.intercept_, theirs.intercept_)
        assert ours.t_ == theirs.t_
    assert len(ours.loss_curve_) == 4


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_partial_fit_after_fit_and_warm_start_are_scikit_learns(schedule):
    X, y, _ = problem()
    chosen = parameters(schedule, "elasticnet", max_iter=2, warm_start=True)
    ours, theirs = SGDRegressor(**chosen), SklearnSGD(**chosen)
    for step in ("fit", "fit", "partial_fit", "fit"):
        for model in (ours, theirs):
            getattr(model, step)(X, y)
        close(ours.coef_, theirs.coef_)
        close(ours.intercept_, theirs.intercept_)
        assert ours.t_ == theirs.t_


def test_start_that_was_given():
    X, y, _ = problem()
    chosen = parameters("constant", "l2", max_iter=2)
    start = {"coef_init": [1.0, -1.0, 0.5, 0.0], "intercept_init": [2.0]}
    ours, theirs = (
        SGDRegressor(**chosen).fit(X, y, **start),
        SklearnSGD(**chosen).fit(X, y, **start),
    )
    close(ours.coef_, theirs.coef_)
    close(ours.intercept_, theirs.intercept_)


@pytest.mark.parametrize("tol", [1e-3, 1e-5])
@pytest.mark.parametrize("n_iter_no_change", [1, 5])
@pytest.mark.parametrize("schedule", ["constant", "invscaling", "adaptive"])
@pytest.mark.parametrize("penalty", ["none", "l2", "elasticnet"])
def test_stops_where_scikit_learn_stops(schedule, tol, n_iter_no_change, penalty):
    if penalty != "none" and sklearn.__version__ < "1.9":
        pytest.skip("scikit-learn watched the loss without the penalty before 1.9")
    X, y, _ = problem()
    chosen = parameters(
        schedule, penalty, alpha=1e-3, tol=tol, n_iter_no_change=n_iter_no_change, max_iter=400
    )
    theirs = quiet(SklearnSGD(**chosen), X, y)
    ours = quiet(SGDRegressor(**chosen), X, y)
    assert 1 < ours.n_iter_ < 400
    assert ours.n_iter_ == theirs.n_iter_
    close(ours.coef_, theirs.coef_)


@pytest.mark.parametrize("schedule", ["constant", "adaptive"])
def test_early_stopping_is_scikit_learns(schedule):
    # There is no penalty: with one, scikit-learn 1.9 scores weights before it has scaled them.
    X, y, s = problem(n=100)
    chosen = parameters(
        schedule, "none", tol=1e-3, early_stopping=True, validation_fraction=0.2, random_state=3
    )
    ours = SGDRegressor(**chosen).fit(X, y, sample_weight=s)
    theirs = SklearnSGD(**chosen).fit(X, y, sample_weight=s)
    assert ours.n_iter_ == theirs.n_iter_ == len(ours.validation_scores_)
    close(ours.coef_, theirs.coef_)
    assert 0.9 < ours.validation_scores_[-1] < 1.0
    assert ours.t_ == 1 + 80 * ours.n_iter_
    assert not hasattr(ours.set_params(early_stopping=False).fit(X, y), "validation_scores_")


# ------------------------------------------------------------------------- our own guarantees


def minibatch_descent(X, y, s, *, epochs, batch, alpha, eta0, power_t):
    """Mini-batch descent with L2, written in NumPy as a user would."""
    w, b, t = np.zeros(X.shape[1]), 0.0, 0
    losses = []
    for _ in range(epochs):
        loss = 0.0
        for start in range(0, len(X), batch):
            A, r = X[start : start + batch], X[start : start + batch] @ w + b
            r = r - y[start : start + batch]
            loss += 0.5 * (r @ r)
            t += 1
            rate = eta0 / t**power_t
            sr = s[start : start + batch] * r / len(A)
            w = (1 - rate * alpha) * w - rate * (A.T @ sr)
            b = b - rate * sr.sum()
        losses.append(loss / len(X))
    return w, b, losses, t


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch", [2, 7, 16, 60, 1000])
def test_mini_batches(batch, backend):
    X, y, s = problem()
    rates = {"alpha": 0.01, "eta0": 0.2, "power_t": 0.3}
    w, b, losses, t = minibatch_descent(X, y, s, epochs=3, batch=batch, **rates)
    chosen = {"learning_rate": "invscaling", "shuffle": False, "tol": None, "max_iter": 3, **rates}
    for rows in (X, np.asfortranarray(X), sp.csr_array(X)):
        model = SGDRegressor(**chosen, batch_size=batch, backend=backend)
        model.fit(rows, y, sample_weight=s)
        close(model.coef_, w)
        close(model.intercept_, b)
        close(model.loss_curve_, losses)
        assert model.t_ == 1 + t


@pytest.mark.parametrize("penalty", ["elasticnet", "l2-averaged-late"])
@pytest.mark.parametrize("batch", [1, 3, 8, 20])
@pytest.mark.parametrize("shuffle", [False, True])
def test_weights_do_not_depend_on_how_epochs_are_cut(monkeypatch, penalty, batch, shuffle):
    X, y, s = problem(n=100)
    chosen = parameters(
        "invscaling", penalty, max_iter=2, batch_size=batch, shuffle=shuffle, random_state=5
    )
    for rows in (X, sp.csr_array(X)):
        monkeypatch.undo()
        whole = SGDRegressor(**chosen).fit(rows, y, sample_weight=s)
        monkeypatch.setattr(plain_descent, "CALL_NUMBERS", 100)
        cut = SGDRegressor(**chosen).fit(rows, y, sample_weight=s)
        close(cut.coef_, whole.coef_)
        close(cut.loss_curve_, whole.loss_curve_)


@pytest.mark.parametrize("random_state", [0, np.random.RandomState, np.random.PCG64])
@pytest.mark.parametrize(
    "options",
    [
        {"tol": None},
        {"tol": 1e-4, "n_iter_no_change": 3, "penalty": "elasticnet", "alpha": 0.05},
        {"tol": 1e-3, "learning_rate": "adaptive"},
        {"tol": 1e-3, "optimizer": "adam", "batch_size": 7, "backend": "reference"},
        {"tol": None, "average": True, "shuffle": False},
    ],
    ids=repr,
)
def test_several_epochs_per_call_are_those_of_a_fit_that_is_heard_one_by_one(options, random_state):
    """A callback is called after each epoch, so that each is a call of its own."""
    X, y = np.random.default_rng(0).normal(size=(60, 3)), np.random.default_rng(1).normal(size=60)
    fitted, states = [], []
    for callback in (None, lambda report: None):
        state = random_state
        if random_state is np.random.RandomState:
            state = np.random.RandomState(5)
        elif random_state is np.random.PCG64:
            state = np.random.RandomState(np.random.PCG64(5))
        model = SGDRegressor(**{"learning_rate": "constant", "max_iter": 70} | options)
        model.set_params(random_state=state, eta0=0.01)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted.append(model.fit(X, y, callback=callback))
        states.append(0 if state == 0 else state.randint(2**31))
    one, other = fitted
    assert one.loss_curve_ == other.loss_curve_
    assert (one.coef_ == other.coef_).all()
    assert (one.intercept_ == other.intercept_).all()
    assert (one.n_iter_, one.t_) == (other.n_iter_, other.t_)
    assert states[0] == states[1]


@pytest.mark.parametrize("n", [1, 2, 3, 1000, 1024, 1025])
def test_shuffles_of_the_native_backend_are_numpys(n):
    native = pytest.importorskip("fastlsgd.kernels.native")
    for kind in (np.random.MT19937, np.random.PCG64):
        generator, expected = kind(3), np.random.RandomState(kind(3))
        orders = np.tile(np.arange(n), (4, 1))
        native.permute(generator, orders)
        assert (orders == [expected.permutation(n) for _ in range(4)]).all()
        assert np.random.RandomState(generator).randint(2**31) == expected.randint(2**31)


def test_the_native_backend_keeps_the_same_rows(monkeypatch):
    native = pytest.importorskip("fastlsgd.kernels.native")
    monkeypatch.setattr(seen_rows, "ROWS_PER_CALL", 999)
    for limit in (1.0, np.nextafter(1.0, 0.0), 0.3, 1e-3, 1e-15):
        for start in (0, 12345, 2**40 + 1, 2**62):
            found = seen_rows._random_numbers_below(native, limit, start, 20_000)
            expected = seen_rows._made_below(limit, start, 20_000)
            for ours, numpys in zip(found, expected, strict=True):
                np.testing.assert_array_equal(ours, numpys)


def test_chunks_cover_each_row_once_on_borders_of_groups(monkeypatch):
    X, y, _ = problem(n=101)
    for limit in ("CALL_UPDATES", "CALL_NUMBERS"):
        monkeypatch.setattr(plain_descent, limit, 40)
        for batch in (1, 3, 8, 50, 500):
            parts = list(plain_descent.chunks(X, y[:, None], None, None, batch))
            np.testing.assert_array_equal(np.concatenate([part.X for part in parts]), X)
            group = plain_descent.rows_per_group(batch)
            assert all(part.n_rows % group == 0 for part in parts[:-1])
        monkeypatch.undo()


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("model", ["plain", "full-batch"])
def test_many_targets_are_many_fits(model, average):
    X, Y, s = problem(targets=3)
    if model == "plain":
        chosen = parameters("invscaling", "l2", max_iter=3, average=average, batch_size=2)
        model = SGDRegressor(**chosen)
    else:
        model = LeastSquaresRegressor(alpha=0.01 * average)
    together = clone(model).fit(X, Y, sample_weight=s)
    for t in range(3):
        alone = clone(model).fit(X, Y[:, t], sample_weight=s)
        close(together.coef_[t], alone.coef_, 1e-8)
        close(together.intercept_[t], np.ravel(alone.intercept_)[0], 1e-8)
    assert together.score(X, Y) > 0.5


def test_shuffling_follows_random_state():
    X, y, _ = problem()
    chosen = {"learning_rate": "constant", "eta0": 0.05, "max_iter": 3, "tol": None}
    fits = [SGDRegressor(**chosen, random_state=seed).fit(X, y).coef_ for seed in (0, 0, 1)]
    np.testing.assert_array_equal(fits[0], fits[1])
    assert np.abs(fits[0] - fits[2]).max() > 1e-6
    generator = np.random.RandomState(0)
    again = [SGDRegressor(**chosen, random_state=generator).fit(X, y).coef_ for _ in range(2)]
    np.testing.assert_array_equal(again[0], fits[0])
    assert np.abs(again[0] - again[1]).max() > 1e-6


def test_eta0_alone_means_invscaling():
    X, y, _ = problem()
    chosen = {"eta0": 0.05, "max_iter": 3, "shuffle": False, "tol": None}
    ours = SGDRegressor(**chosen).fit(X, y)
    close(ours.coef_, SklearnSGD(**chosen).fit(X, y).coef_)


@pytest.mark.parametrize("schedule", ["constant", "invscaling", "adaptive"])
def test_schedule_alone_means_scikit_learns_eta0(schedule):
    X, y, _ = problem()
    chosen = {"learning_rate": schedule, "max_iter": 3, "shuffle": False, "tol": None}
    ours, theirs = SGDRegressor(**chosen).fit(X, y), SklearnSGD(**chosen).fit(X, y)
    close(ours.coef_, theirs.coef_)


def test_column_vector_of_targets():
    X, y, _ = problem()
    with pytest.warns(DataConversionWarning):
        model = SGDRegressor(random_state=0).fit(X, y[:, None])
    assert model.predict(X).shape == (60,)
    # As in LinearRegression, y of two dimensions gives predictions of two dimensions.
    model = LeastSquaresRegressor().fit(X, y[:, None])
    assert model.coef_.shape == LinearRegression().fit(X, y[:, None]).coef_.shape == (1, 4)
    assert model.predict(X).shape == (60, 1)


def test_verbose_prints_a_line_an_epoch(capsys):
    X, y, _ = problem()
    SGDRegressor(max_iter=3, tol=None, verbose=1).fit(X, y)
    assert re.findall(r"^epoch (\d): mean loss", capsys.readouterr().out, re.M) == ["1", "2", "3"]


def test_too_few_epochs_warn():
    X, y, _ = problem()
    for parameters in ({"early_stopping": True}, {"learning_rate": "invscaling"}):
        with pytest.warns(ConvergenceWarning, match="max_iter=2"):
            SGDRegressor(max_iter=2, **parameters).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SGDRegressor(max_iter=2, tol=None).fit(X, y)
        SGDRegressor(max_iter=2).partial_fit(X, y)


def test_n_jobs():
    X, y, _ = problem()
    for n_jobs in (None, 1, 2, -1, -100):
        for model in BOTH:
            model(n_jobs=n_jobs).fit(X, y).predict(X)
    for n_jobs in (0, 1.5, "all", True):
        with pytest.raises(ValueError, match="n_jobs must be"):
            SGDRegressor(n_jobs=n_jobs).fit(X, y)
