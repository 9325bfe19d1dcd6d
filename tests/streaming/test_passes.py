"""Streams fitted by gradients in several passes: what the rows in memory give, after any crash."""

from __future__ import annotations

import importlib
import json

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from small_problems import random_csr

from fastlsgd import (
    LeastSquaresClassifier,
    LeastSquaresCV,
    LeastSquaresRegressor,
    SGDRegressor,
    SGDRegressorCV,
)
from fastlsgd._checked_files import WrongFile
from fastlsgd.linear_model._from_passes import needs_passes
from fastlsgd.streaming import StreamError, scan
from fastlsgd.streaming import state as states

pytest.importorskip("safetensors")


def data(n: int = 400, d: int = 6):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d)) * np.logspace(-1, 1, d) + 2.0
    y = X @ np.arange(1.0, d + 1.0) + rng.normal(size=n)
    return X, y, rng.uniform(0.5, 1.0, n) * (np.arange(n) % 9 > 0)


@pytest.mark.parametrize(
    "model",
    [
        LeastSquaresRegressor(solver="cg"),
        LeastSquaresRegressor(solver="nesterov", alpha=0.1, fit_intercept=False),
        LeastSquaresRegressor(solver="nesterov", alpha=[0.1, 0.01], l1_ratio=0.5),
        LeastSquaresRegressor(solver="nesterov", positive=True),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["dense", "far", "sparse"])
def test_passes_end_at_the_fit_to_the_rows(model, kind):
    X, y, s = data()
    if kind == "sparse":
        X = sp.csr_array(np.where(X > 2.0, X, 0.0))
    if kind == "far":
        X, model = X + 1e3, clone(model).set_params(fit_intercept=True)
    y = np.column_stack([y, -y + X[:, [0]].sum(axis=1)])
    batches = [(X[a : a + 90], y[a : a + 90], s[a : a + 90]) for a in range(0, 400, 90)]
    model = clone(model).set_params(tol=1e-13)
    streamed = clone(model).fit_stream(scan(batches))
    whole = clone(model).fit(X, y, s)
    scale = np.abs(whole.coef_).max()
    np.testing.assert_allclose(streamed.coef_, whole.coef_, atol=1e-9 * scale)
    np.testing.assert_allclose(streamed.predict(X), whole.predict(X), rtol=1e-8)
    np.testing.assert_allclose(streamed.residual_norm_, whole.residual_norm_, rtol=1e-8)
    assert streamed.solver_ == model.solver
    assert streamed.n_iter_ > 3
    if model.l1_ratio:
        assert (streamed.dual_gap_ < 1e-8).all()


def test_many_sparse_columns_need_no_matrix():
    rng = np.random.default_rng(0)
    X = random_csr((600, 5000), 0.01, 0)
    y = X @ rng.normal(size=5000)
    model = LeastSquaresRegressor(alpha=1e-3)
    streamed = clone(model).fit_stream(scan([(X[:250], y[:250]), (X[250:], y[250:])]))
    assert streamed.solver_ == "cg"
    np.testing.assert_allclose(streamed.coef_, model.fit(X, y).coef_, atol=1e-8)
    labels = np.where(y > 0, "up", "down")
    streamed = LeastSquaresClassifier(alpha=1e-3).fit_stream(
        scan([(X[:250], labels[:250]), (X[250:], labels[250:])])
    )
    whole = LeastSquaresClassifier(alpha=1e-3).fit(X, labels)
    np.testing.assert_allclose(streamed.coef_, whole.coef_, atol=1e-8)
    np.testing.assert_array_equal(streamed.predict(X), whole.predict(X))


def test_the_budget_decides_where_the_solver_does_not():
    assert not needs_passes("auto", 512, 1)
    assert needs_passes("auto", 513, 1)
    assert not needs_passes("auto", 2000, 2**28)
    assert needs_passes("auto", 3000, 2**28)
    assert not needs_passes("qr", 3000, 2**28)
    assert needs_passes("cg", 3, 2**28)


def test_errors_name_the_block():
    X, y, _ = data()
    X[300, 2] = np.nan
    with pytest.raises(StreamError, match=r"rows from 300: X contains NaN: column 2, row 0"):
        LeastSquaresRegressor(solver="cg").fit_stream(scan(X, y, batch_rows=100))
    with pytest.raises(StreamError, match="no rows of positive weight"):
        LeastSquaresRegressor(solver="cg").fit_stream(scan(X, y, weight=np.zeros(400)))


# ------------------------------------------------------------------------------- checkpoints


def stopped(model, stream, checkpoint, after: int) -> None:
    def stop(told, counted=[0]):  # noqa: B006
        counted[0] += 1
        if counted[0] == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit_stream(stream, checkpoint=checkpoint, progress=stop)


@pytest.mark.parametrize("after", [3, 22])
@pytest.mark.parametrize(
    "model",
    [
        LeastSquaresRegressor(solver="cg"),
        LeastSquaresRegressor(solver="nesterov", alpha=[0.1, 0.01], l1_ratio=0.5),
        LeastSquaresClassifier(solver="cg"),
        SGDRegressorCV(alphas=[0.1, 0.01]),
    ],
    ids=str,
)
def test_going_on_gives_the_same_bits(model, after, tmp_path):
    X, y, s = data()
    if isinstance(model, LeastSquaresClassifier):
        y = np.where(y > y.mean(), "up", "down")
    stream, path = scan(X, y, weight=s, batch_rows=100), tmp_path / "checkpoint"
    expected = clone(model).fit_stream(stream)
    after = 2 if isinstance(model, SGDRegressorCV) else after
    stopped(clone(model), stream, path, after)
    told: list[int] = []
    found = clone(model).fit_stream(
        stream, checkpoint=path, progress=lambda now: told.append(now.rows)
    )
    np.testing.assert_array_equal(found.coef_, expected.coef_)
    np.testing.assert_array_equal(found.intercept_, expected.intercept_)
    if not isinstance(model, SGDRegressorCV):
        assert told[-1] == 400 * (1 + expected.n_iter_) - 100 * after
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_sparse_rows_takes_a_few_numbers_per_column(tmp_path):
    """Beyond 1,024 columns, the state of a descent has some of the rows it began with."""
    d, path, sizes = 5_000, tmp_path / "checkpoint", []
    X = sp.random(300, d, density=2e-3, format="csr", random_state=0)
    y = np.random.default_rng(0).normal(size=300)
    stream = scan([(X[k : k + 100], y[k : k + 100]) for k in (0, 100, 200)])
    model = SGDRegressor(max_iter=2, random_state=0)
    stopped(clone(model), stream, path, 2)
    found = clone(model).fit_stream(
        stream, checkpoint=path, progress=lambda _: sizes.append(path.stat().st_size)
    )
    np.testing.assert_array_equal(found.coef_, clone(model).fit_stream(stream).coef_)
    assert max(sizes) < 16 * 8 * d


@pytest.mark.parametrize(
    ("part", "change"),
    [
        (0, lambda data: data[:-1]),
        (1, lambda indices: indices + 10**6),
        (1, lambda indices: indices - 9),
        (1, lambda indices: indices.astype(float)),
        (2, lambda indptr: indptr[::-1].copy()),
    ],
)
def test_sparse_rows_of_a_state_are_checked(part, change):
    X = sp.csr_array(sp.random(20, 9, density=0.3, format="csr", random_state=0))
    tree, arrays = states.encoded({"X": X})
    assert (states.decoded(tree, arrays)["X"] != X).nnz == 0
    name = tree["dict"][0][1]["parts"][part]
    with pytest.raises(WrongFile, match="can't be read"):
        states.decoded(tree, {**arrays, name: change(arrays[name])})


def constant_sgd():
    return SGDRegressor(learning_rate="constant", eta0=1e-3, random_state=0, max_iter=3, tol=None)


@pytest.mark.parametrize("model", [LeastSquaresRegressor(), constant_sgd()], ids=str)
def test_a_checkpoint_knows_other_rows_of_the_same_shape(model, tmp_path):
    X, y, _ = data()
    pd = pytest.importorskip("pandas")
    path = tmp_path / "checkpoint"
    other = X.copy()
    other[-1, 1] += 1.0
    as_frame = lambda X: pd.DataFrame(X, columns=list("abcdef")).assign(y=y)  # noqa: E731
    for make, what in (
        (lambda X: scan(X, y, batch_rows=50), "array"),
        (lambda X: scan(as_frame(X), "y", batch_rows=50), "frame"),
        (lambda X: scan([(X[:200], y[:200]), (X[200:], y[200:])]), "batches"),
    ):
        stopped(clone(model), make(X), path, 1)
        with pytest.raises(StreamError, match=f"belongs to another fit: {what} was"):
            clone(model).fit_stream(make(other), checkpoint=path)
        path.unlink()


def test_nothing_in_a_checkpoint_is_executed(tmp_path):
    """A file may name only classes that a state has, whatever its checksum says."""
    safetensors = pytest.importorskip("safetensors.numpy")
    from fastlsgd.streaming import checkpoint as module

    X, y, _ = data()
    path, stream = tmp_path / "checkpoint", scan(X, y, batch_rows=100)
    stopped(constant_sgd(), stream, path, 2)
    outer, arrays = module.content(path, module.STATE_FORMAT)
    state = json.loads(outer["text"])
    for name in ("cli:main", "__main__:main", "os:system", "solvers.stochastic:np"):
        state["state"] = {"object": name, "has": {"dict": []}}
        text = json.dumps(state)
        told = {"text": text, "sha256": module._digest_of_state(text, arrays)}
        path.write_bytes(safetensors.save(arrays, {module.STATE_FORMAT: json.dumps(told)}))
        with pytest.raises(StreamError, match="the state in it can't be read"):
            constant_sgd().fit_stream(stream, checkpoint=path)


# ------------------------------------------------------------------------- cross-validation


def test_cross_validated_sgd_is_that_of_the_folds():
    X, y, s = data()
    stream = scan(X, y, weight=s, batch_rows=100)
    model = SGDRegressorCV(alphas=[1.0, 1e-3], cv=4).fit_stream(stream)
    exact = LeastSquaresCV(alphas=[1.0, 1e-3], cv=4).fit_stream(stream)
    np.testing.assert_allclose(model.mse_path_, exact.mse_path_, rtol=1e-9)
    assert model.alpha_ == exact.alpha_
    np.testing.assert_allclose(model.coef_, exact.coef_, rtol=1e-9)
    np.testing.assert_allclose(model.predict(X), exact.predict(X), rtol=1e-9)
    steps = SGDRegressorCV(constant_sgd(), alphas=[10.0, 1e-3], cv=2).fit_stream(stream)
    fold = np.tile(np.arange(2).repeat(50), 4)
    for k in range(2):
        rest = scan(X[fold != k], y[fold != k], weight=s[fold != k], batch_rows=50)
        fitted = constant_sgd().set_params(alpha=1e-3).fit_stream(rest)
        error = np.square(fitted.predict(X) - y)[fold == k]
        expected = np.average(error, weights=s[fold == k])
        np.testing.assert_allclose(steps.mse_path_[1, k], expected, rtol=1e-9)
    assert steps.alpha_ == 1e-3
    with pytest.raises(ValueError, match="cv must be a number of folds"):
        SGDRegressorCV(cv=[([0], [1])]).fit_stream(stream)
    with pytest.raises(ValueError, match="scoring must be None"):
        SGDRegressorCV(scoring="r2").fit_stream(stream)
    with pytest.raises(ValueError, match="checkpoint is for fits by moments"):
        SGDRegressorCV(constant_sgd()).fit_stream(stream, checkpoint="there")


# --------------------------------------------------------------------------------- scanning


def test_labels_are_found_without_a_look_at_x():
    class Rows(np.ndarray):
        def __getitem__(self, key):
            assert not isinstance(key, slice), "X was read"
            return super().__getitem__(key)

    X, y, _ = data()
    labels = np.where(y > 0, "up", "down")
    source = scan(X, labels, batch_rows=50).source
    source.array = X.view(Rows)
    assert source.labels().tolist() == ["down", "up"]


def test_files_are_listed_once(tmp_path, monkeypatch):
    pa = pytest.importorskip("pyarrow")
    importlib.import_module("pyarrow.parquet")
    arrow = importlib.import_module("fastlsgd.streaming.arrow")
    pa.parquet.write_table(pa.table({"a": ["p", "q"], "y": [1.0, 2.0]}), tmp_path / "t.parquet")
    counted = []
    listed = arrow._row_groups
    monkeypatch.setattr(arrow, "_row_groups", lambda *args: counted.append(1) or listed(*args))
    stream = scan(tmp_path / "t.parquet", "y")
    assert [len(y) for _, y, _ in stream] == [2]
    assert len(counted) == 1
