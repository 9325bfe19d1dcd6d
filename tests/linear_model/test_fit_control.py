"""Callbacks, progress, early stopping with the best weights, and interrupted fits."""

from __future__ import annotations

import io
import pickle
import re
import sys
import threading

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from fastlsgd import (
    EpochReport,
    LeastSquaresClassifier,
    LeastSquaresCV,
    LeastSquaresRegressor,
    SGDClassifier,
    SGDRegressor,
)
from fastlsgd.linear_model import _listeners
from fastlsgd.solvers import plain_descent, stochastic


def problem(n=200, d=4, noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    return X, X @ np.arange(1.0, d + 1.0) + 0.5 + noise * rng.normal(size=n)


PLAIN = {"learning_rate": "constant", "eta0": 0.01, "shuffle": False, "tol": None}
MODELS = {
    "auto": SGDRegressor(max_iter=6, tol=None),
    "plain": SGDRegressor(max_iter=6, **PLAIN),
    "adam": SGDRegressor(max_iter=6, optimizer="adam", batch_size=8, tol=None),
    "classifier": SGDClassifier(max_iter=6, **PLAIN),
    "weighted classes": SGDClassifier(max_iter=6, class_weight={0: 2.0}, **PLAIN),
}


def fit(model, **how):
    X, y = problem()
    if isinstance(model, SGDClassifier):
        y = np.digitize(y, [-1.0, 2.0])
    return clone(model).fit(X, y, **how)


# ------------------------------------------------------------------------- our own callbacks


@pytest.mark.parametrize("name", MODELS)
def test_callback_hears_of_each_epoch(name):
    heard = []
    model = fit(MODELS[name], callback=heard.append)
    assert [report.epoch for report in heard] == [1, 2, 3, 4, 5, 6]
    assert [report.loss for report in heard] == model.loss_curve_
    assert all(isinstance(report, EpochReport) for report in heard)
    assert all(report.validation_score is None for report in heard)
    assert all(report.seconds > 0.0 and report.rate > 0.0 for report in heard)
    if name == "plain":
        assert {report.rate for report in heard} == {0.01}


def test_callback_hears_of_rates_and_scores():
    heard = []
    model = SGDRegressor(
        max_iter=8, learning_rate="step", eta0=0.01, early_stopping=True, tol=None, random_state=0
    )
    model.set_params(learning_rate=lambda epoch: 0.01 / (1 + epoch))
    fit(model, callback=heard.append)
    np.testing.assert_allclose([r.rate for r in heard], 0.01 / np.arange(1, 9))
    assert all(0.0 < report.validation_score <= 1.0 for report in heard)


@pytest.mark.parametrize("name", MODELS)
def test_callback_ends_the_fit(name):
    model = fit(MODELS[name], callback=lambda report: report.epoch == 3)
    assert model.n_iter_ == len(model.loss_curve_) == 3
    if name == "plain":
        three = fit(clone(MODELS[name]).set_params(max_iter=3))
        np.testing.assert_array_equal(model.coef_, three.coef_)


def test_error_in_a_callback_leaves_no_trace():
    model = fit(MODELS["plain"])
    before = pickle.dumps(model)

    def fails(report):
        raise RuntimeError("no more")

    X, y = problem()
    with pytest.raises(RuntimeError, match="no more"):
        model.fit(X[:, :2], y, callback=fails)
    assert pickle.dumps(model) == before
    with pytest.raises(ValueError, match="callback must be a callable"):
        model.fit(X, y, callback="print")


# ------------------------------------------------------------- scikit-learn's callbacks


@pytest.fixture
def callbacks():
    return pytest.importorskip("sklearn.callback", reason="scikit-learn before 1.9")


class Witness:
    """A callback that records its calls."""

    def __init__(self, stop_after=None):
        self.heard, self.stop_after = [], stop_after

    def setup(self, estimator, context):
        self.heard.append("setup")

    def teardown(self, estimator, context):
        self.heard.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None):
        self.heard.append(("begin", context.task_name))

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
        self.heard.append(("end", context.task_name, fitted_estimator.score(X, y)))
        return self.stop_after == context.task_id and context.task_name == "epoch"


@pytest.mark.parametrize("name", MODELS)
def test_scikit_learns_callbacks_see_the_fit_and_its_epochs(callbacks, name):
    witness = Witness()
    model = fit(clone(MODELS[name]).set_params(max_iter=2, tol=None).set_callbacks(witness))
    kinds = [event if isinstance(event, str) else event[:2] for event in witness.heard]
    epoch = [("begin", "epoch"), ("end", "epoch")]
    assert kinds == ["setup", ("begin", "fit"), *epoch, *epoch, ("end", "fit"), "teardown"]
    X, y = problem()
    if name == "plain":
        assert witness.heard[-2][2] == model.score(X, y) == witness.heard[-3][2]


def test_scikit_learns_callback_ends_the_fit(callbacks):
    model = fit(clone(MODELS["plain"]).set_callbacks(Witness(stop_after=2)))
    assert model.n_iter_ == 3


def test_scikit_learns_callbacks_are_torn_down_after_an_error(callbacks):
    witness = Witness()
    X, y = problem()
    model = SGDRegressor(learning_rate="constant", eta0=1e3).set_callbacks(witness)
    before = dict(vars(model))
    with pytest.raises(ValueError, match="diverges"):
        model.fit(X, y)
    assert witness.heard[-1] == "teardown"
    assert vars(model) == before
    with pytest.raises(ValueError, match="max_iter must be"):
        model.set_params(max_iter="many").fit(X, y)


def test_scikit_learns_own_monitor(callbacks):
    monitor = callbacks.ScoringMonitor(scoring="r2")
    model = fit(clone(MODELS["adam"]).set_callbacks(monitor))
    scores = [row["r2"] for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len(scores) == 6
    assert scores[-1] == model.score(*problem())


def test_scikit_learns_callbacks_of_a_pipeline_reach_the_fit(callbacks):
    from sklearn.pipeline import make_pipeline

    witness = Witness()
    X, y = problem()
    pipeline = make_pipeline(clone(MODELS["plain"]).set_callbacks(witness))
    pipeline.fit(X, y)
    assert sum(event[0] == "end" for event in witness.heard) == 7


# ------------------------------------------------------------------------------- progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_lines_in_pipes_and_a_bar_in_terminals(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    fit(clone(MODELS["plain"]).set_params(verbose=1))
    assert len(re.findall(r"^epoch \d: mean loss [\d.]+$", out.getvalue(), re.M)) == 6

    monkeypatch.setattr(_listeners, "REDRAW_SECONDS", 0.0)
    monkeypatch.setenv("COLUMNS", "70")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    fit(clone(MODELS["plain"]).set_params(verbose=1))
    text = terminal.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert "\r[####################] 6/6, " in text
    assert max(map(len, text.split("\r"))) <= 70

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    fit(clone(MODELS["plain"]).set_params(verbose=2))
    assert terminal.getvalue().count("\n") == 6


def test_the_bar_leaves_its_line_after_an_error(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    with pytest.raises(ZeroDivisionError):
        fit(clone(MODELS["plain"]).set_params(verbose=1), callback=lambda report: 1 / 0)
    assert terminal.getvalue().endswith("\n")


# -------------------------------------------------------------------------- early stopping


def best_of(model, X, y):
    """The best score on the held-out rows, over fits of every length."""
    scores, coefs = [], []
    for epochs in range(1, model.max_iter + 1):
        part = clone(model).set_params(max_iter=epochs, restore_best_weights=False).fit(X, y)
        scores, coefs = part.validation_scores_, [*coefs, part.coef_]
    return scores, coefs[int(np.argmax(scores))]


@pytest.mark.parametrize("model", [SGDRegressor, SGDClassifier])
@pytest.mark.parametrize("chosen", [{"optimizer": "adam", "eta0": 0.3}, {"eta0": 0.15}])
def test_best_weights_are_restored(model, chosen):
    X, y = problem(n=60, noise=3.0, d=6)
    if model is SGDClassifier:
        y, chosen = y > 0.0, {"learning_rate": "constant", **chosen}
    model = model(
        **chosen, max_iter=8, tol=None, early_stopping=True, random_state=1,
        validation_fraction=0.3, restore_best_weights=True,
    )  # fmt: skip
    scores, best = best_of(model, X, y)
    fitted = clone(model).fit(X, y)
    assert np.argmax(scores) < 7  # so that earlier weights are restored
    np.testing.assert_array_equal(fitted.coef_, best)
    assert fitted.validation_scores_ == scores
    fitted.set_params(early_stopping=False).partial_fit(X, y)
    assert np.isfinite(fitted.coef_).all()


def test_best_weights_are_restored_by_default_where_scikit_learn_has_no_say():
    X, y = problem(n=60, noise=3.0, d=6)
    common = {"max_iter": 8, "tol": None, "early_stopping": True, "random_state": 1}
    for chosen, restores in (
        ({}, True),
        ({"optimizer": "adam", "eta0": 0.3}, True),
        ({"learning_rate": "cosine", "eta0": 0.15}, True),
        ({"learning_rate": "constant", "eta0": 0.15}, False),
        ({"eta0": 0.15}, False),
    ):
        model = SGDRegressor(**chosen, **common).fit(X, y)
        asked = clone(model).set_params(restore_best_weights=restores).fit(X, y)
        np.testing.assert_array_equal(model.coef_, asked.coef_)


# --------------------------------------------------------------------------------- Ctrl-C


def interrupts_at(epoch):
    def callback(report):
        if report.epoch == epoch:
            raise KeyboardInterrupt

    return callback


@pytest.mark.parametrize("name", MODELS)
def test_interrupted_fit_keeps_the_last_complete_epoch_on_request(monkeypatch, name):
    """The interrupt comes in the middle of epoch 4, after some of its chunks of rows."""
    model = clone(MODELS[name]).set_params(keep_interrupted=True, random_state=0)
    three = fit(clone(model).set_params(max_iter=3))
    monkeypatch.setattr(plain_descent, "CALL_NUMBERS", 200)
    monkeypatch.setattr(plain_descent, "EPOCHS_VISITS", 0)
    epochs, once = [], stochastic._Fit.epoch

    def interrupted(self, order):
        epochs.append(once(self, order))
        if len(epochs) == 4:
            self.descent.epoch(order)  # the weights now belong to no epoch
            self.curve.pop()
            raise KeyboardInterrupt

    monkeypatch.setattr(stochastic._Fit, "epoch", interrupted)
    with pytest.warns(ConvergenceWarning, match="interrupted; kept are .* 3 complete epochs"):
        model = fit(model)
    np.testing.assert_allclose(model.coef_, three.coef_, rtol=1e-12)
    assert model.n_iter_ == len(model.loss_curve_) == 3
    assert model.t_ == three.t_
    monkeypatch.undo()
    X, y = problem()
    if isinstance(model, SGDRegressor):
        model.partial_fit(X, y)


def test_interrupted_fit_keeps_the_last_complete_call_of_several_epochs(monkeypatch):
    two = fit(clone(MODELS["plain"]).set_params(max_iter=2))
    monkeypatch.setattr(plain_descent, "EPOCHS_VISITS", 400)  # 200 rows: two epochs
    calls, once = [], plain_descent.PlainDescent.epochs

    def interrupted(self, *arguments):
        calls.append(once(self, *arguments))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return calls[-1]

    monkeypatch.setattr(plain_descent.PlainDescent, "epochs", interrupted)
    with pytest.warns(ConvergenceWarning, match="interrupted; kept are .* 2 complete epochs"):
        model = fit(clone(MODELS["plain"]).set_params(keep_interrupted=True))
    np.testing.assert_array_equal(model.coef_, two.coef_)
    assert model.loss_curve_ == two.loss_curve_


def test_interrupt_without_request_or_without_an_epoch(monkeypatch):
    X, y = problem()
    model = fit(MODELS["plain"])
    before = pickle.dumps(model)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y, callback=interrupts_at(3))
    assert pickle.dumps(model) == before
    model.set_params(keep_interrupted=True)
    with pytest.warns(ConvergenceWarning, match="3 complete epochs"):
        model.fit(X, y, callback=interrupts_at(3))

    def interrupted(*arguments):
        raise KeyboardInterrupt

    before = pickle.dumps(model)
    monkeypatch.setattr(plain_descent.PlainDescent, "epochs", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert pickle.dumps(model) == before


def test_bad_parameters():
    X, y = problem()
    for name in ("keep_interrupted", "restore_best_weights"):
        with pytest.raises(ValueError, match=f"{name} must be True or False"):
            SGDRegressor(**{name: "yes"}).fit(X, y)


TWO_TARGETS = [np.arange(40.0), np.column_stack([np.arange(40.0)] * 2)]
TWO_LABELS = [np.arange(40) % 2, np.array(list("abc"))[np.arange(40) % 3]]


@pytest.mark.parametrize("of_moments", [False, True])
@pytest.mark.parametrize(
    ("kind", "options", "problems"),
    [
        (LeastSquaresRegressor, {}, TWO_TARGETS),
        (LeastSquaresCV, {"alphas": [1.0, 0.1]}, TWO_TARGETS),
        (SGDRegressor, {"random_state": 0}, TWO_TARGETS),
        (LeastSquaresClassifier, {}, TWO_LABELS),
        (SGDClassifier, {"random_state": 0}, TWO_LABELS),
    ],
)
def test_another_thread_predicts_by_the_fit_before(kind, options, problems, of_moments):
    """Labels of one fit were read beside weights of another: IndexError, or wrong shapes."""
    X = np.random.default_rng(0).normal(size=(40, 3))
    seen = []

    class Watched(kind):
        watcher = None

        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            if Watched.watcher is not None:
                thread = threading.Thread(target=Watched.watcher, args=(self,))
                thread.start()
                thread.join()

    def watch(model):
        try:
            found = model.predict(X)
        except NotFittedError:
            found = None
        seen.append(found)

    Watched.__name__ = kind.__name__
    model, before = Watched(**options), None
    fit = model.fit if not of_moments else getattr(model, "partial_fit", model.fit)
    for y in problems[: 1 if of_moments else 2]:
        Watched.watcher = watch
        fit(X, y, **({"classes": np.unique(y)} if of_moments and y.dtype.kind == "i" else {}))
        Watched.watcher = None
        assert seen
        for found in seen:
            assert found is before or np.array_equal(found, before)
        seen.clear()
        before = model.predict(X)
        assert "_draft" not in vars(model)


def test_callbacks_see_the_fit_so_far_and_may_copy_it():
    X = np.random.default_rng(0).normal(size=(40, 3))
    copies = []

    def told(report):
        copies.append(pickle.loads(pickle.dumps(model)))

    model = SGDRegressor(random_state=0, max_iter=2, tol=None, learning_rate="constant")
    model.fit(X, X[:, 0], callback=told)
    assert len(copies) == 2
    assert all("_draft" not in vars(copy) for copy in copies)
