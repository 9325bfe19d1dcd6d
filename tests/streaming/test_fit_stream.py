"""Estimators fitted to streams: what they give for rows in memory, after any interruption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from scipy.sparse import csr_array, issparse
from sklearn.base import clone

from fastlsgd import (
    LeastSquaresClassifier,
    LeastSquaresCV,
    LeastSquaresRegressor,
    SGDClassifier,
    SGDRegressor,
)
from fastlsgd.streaming import StreamError, scan

pytest.importorskip("safetensors")


def data(n: int = 300, d: int = 4):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d)) + 2.0
    return X, X @ np.arange(1.0, d + 1.0) + rng.normal(size=n), rng.uniform(0.5, 1.0, n)


def labels_of(y, classes: int):
    return np.array(["low", "middle", "high"][:classes])[
        np.digitize(y, np.quantile(y, np.arange(1, classes) / classes))
    ]


@pytest.mark.parametrize(
    "model",
    [
        LeastSquaresRegressor(),
        LeastSquaresRegressor(solver="qr"),
        LeastSquaresRegressor(alpha=[0.1, 0.01], l1_ratio=0.5),
        LeastSquaresRegressor(positive=True, fit_intercept=False),
        SGDRegressor(alpha=0.0),
        SGDRegressor(alpha=0.01),
    ],
    ids=str,
)
@pytest.mark.parametrize("t", [1, 2])
def test_regressors_are_those_of_the_rows(model, t):
    X, y, s = data()
    y = y if t == 1 else np.column_stack([y, X[:, 0] - y])
    streamed = clone(model).fit_stream(scan(X, y, weight=s, batch_rows=70))
    if isinstance(model, SGDRegressor):  # whose auto weights are those of least squares
        model = LeastSquaresRegressor(alpha=model.alpha)
    whole = clone(model).fit(X, y, s)
    np.testing.assert_allclose(streamed.coef_, whole.coef_, rtol=1e-8)
    np.testing.assert_allclose(streamed.intercept_, whole.intercept_, rtol=1e-7)
    np.testing.assert_allclose(streamed.predict(X), whole.predict(X), rtol=1e-7)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("given", [True, False])
def test_classifiers_are_those_of_the_rows(classes, given):
    X, y, s = data()
    y = labels_of(y, classes)
    stream = scan(X, y, weight=s, batch_rows=70)
    more = {"classes": np.unique(y)} if given else {}
    whole = LeastSquaresClassifier().fit(X, y, s)
    for model in (LeastSquaresClassifier(), SGDClassifier(alpha=0.0)):
        model.fit_stream(stream, **more)
        np.testing.assert_allclose(model.coef_, whole.coef_, rtol=1e-8)
        np.testing.assert_array_equal(model.predict(X), whole.predict(X))
        np.testing.assert_array_equal(model.classes_, np.unique(y))
    factors = {label: 1.0 + (label == "low") for label in np.unique(y)}
    weighted = LeastSquaresClassifier(class_weight=factors)
    np.testing.assert_allclose(
        clone(weighted).fit_stream(stream).coef_, weighted.fit(X, y, s).coef_, rtol=1e-8
    )
    with pytest.raises(StreamError, match="rows from 0: y holds labels that are not among"):
        LeastSquaresClassifier().fit_stream(stream, classes=["low", "other"])


def test_cross_validation_deals_rows_to_folds():
    X, y, s = data()
    model = LeastSquaresCV(alphas=[1.0, 0.01]).fit_stream(scan(X, y, weight=s, batch_rows=100))
    fold = np.tile(np.arange(5).repeat(20), 3)
    folds = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(5)]
    whole = LeastSquaresCV(alphas=[1.0, 0.01], cv=folds).fit(X, y, s)
    np.testing.assert_allclose(model.mse_path_, whole.mse_path_, rtol=1e-8)
    np.testing.assert_allclose(model.coef_, whole.coef_, rtol=1e-8)
    with pytest.raises(ValueError, match="cv must be a number of folds"):
        LeastSquaresCV(cv=folds).fit_stream(scan(X, y))


def test_sgd_makes_several_passes_in_random_order():
    X, y, _ = data(2000)
    options = {"learning_rate": "invscaling", "random_state": 0, "alpha": 0.0}
    stream = scan(X, y, batch_rows=100)
    model = SGDRegressor(**options).fit_stream(stream)
    assert 5 < model.n_iter_ < 100
    assert len(model.loss_curve_) == model.n_iter_
    assert model.t_ == 1 + 2000 * model.n_iter_
    np.testing.assert_allclose(model.coef_, np.arange(1.0, 5.0), atol=0.2)
    again = SGDRegressor(**options).fit_stream(stream)
    np.testing.assert_array_equal(model.coef_, again.coef_)
    other = SGDRegressor(**{**options, "random_state": 1}).fit_stream(stream)
    assert not np.array_equal(model.coef_, other.coef_)
    assert model.random_state == 0
    one = SGDRegressor(**options, max_iter=1).fit_stream(stream)
    assert one.n_iter_ == 1
    one.fit_stream(stream)  # anew, from zero
    assert one.t_ == 2001


@pytest.mark.parametrize(
    "options",
    [
        {"learning_rate": "constant", "eta0": 0.01},
        {"learning_rate": "invscaling", "penalty": "l1", "alpha": 0.01, "average": 150},
        {"optimizer": "adam", "batch_size": 64, "clip_norm": 1.0},
        {"learning_rate": "constant", "eta0": 0.01, "kind": SGDClassifier},
    ],
)
def test_blocks_go_on_as_calls_of_partial_fit_do(options):
    X, y, s = data(500)
    options = dict(options)
    kind = options.pop("kind", SGDRegressor)
    more = {}
    if kind is SGDClassifier:
        y = labels_of(y, 3)
        more = {"classes": np.unique(y)}
    s[200:300] = 0.0
    blocks = [(X[k : k + 100], y[k : k + 100], s[k : k + 100]) for k in range(0, 500, 100)]
    blocks[1] = blocks[1][0].astype(np.float32), *blocks[1][1:]  # read as it is
    blocks[3] = csr_array(blocks[3][0]), *blocks[3][1:]
    blocks[4] = blocks[4][0].astype(np.float16), *blocks[4][1:]  # converted: by partial_fit
    streamed = kind(**options, random_state=0, max_iter=1)
    streamed.fit_stream(scan(blocks + blocks[:1]), **more)
    rng = np.random.RandomState(0)
    rng.permutation(1)  # a list of batches is one piece
    called = kind(**options, random_state=rng)
    for block in blocks + blocks[:1]:
        called.partial_fit(block[0], block[1], sample_weight=block[2], **more)
    for name in ("coef_", "intercept_", "t_", "backend_", "n_features_in_"):
        np.testing.assert_array_equal(getattr(streamed, name), getattr(called, name))
    assert streamed.coef_.dtype == called.coef_.dtype
    for part, expected in zip(streamed._seen, called._seen, strict=True):
        dense = [a.toarray() if issparse(a) else a for a in (part, expected)]
        np.testing.assert_array_equal(*dense)
    for model in (streamed, called):  # both have left the same to go on from
        model.set_params(random_state=1).partial_fit(X[:100], y[:100])
    np.testing.assert_array_equal(streamed.coef_, called.coef_)


# -------------------------------------------------------------------------------- checkpoints


def interrupted(model, stream, checkpoint, after: int, **more):
    """Fit until some blocks have been counted, and raise."""

    def stop(told, counted=[0]):  # noqa: B006
        counted[0] += 1
        if counted[0] == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit_stream(stream, checkpoint=checkpoint, progress=stop, **more)


@pytest.mark.parametrize(
    ("model", "after"),
    [
        (LeastSquaresRegressor(), 3),
        (LeastSquaresRegressor(solver="qr"), 2),
        (LeastSquaresCV(alphas=[0.1, 0.01]), 4),
        (LeastSquaresClassifier(), 3),
        (SGDRegressor(), 3),
        (SGDRegressor(learning_rate="constant", eta0=0.01, random_state=0, max_iter=7), 12),
        (SGDRegressor(learning_rate="constant", optimizer="adam", random_state=0, max_iter=7), 12),
        (SGDClassifier(learning_rate="constant", eta0=0.01, random_state=0, max_iter=7), 9),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore")
def test_going_on_gives_the_same_bits(model, after, tmp_path):
    X, y, s = data()
    if "Classifier" in type(model).__name__:
        y = labels_of(y, 3)
    stream, path = scan(X, y, weight=s, batch_rows=61), tmp_path / "checkpoint"
    expected = clone(model).fit_stream(stream)
    begun = clone(model)
    interrupted(begun, stream, path, after)
    assert not hasattr(begun, "coef_")
    rows: list[int] = []
    found = clone(model).fit_stream(
        stream, checkpoint=path, progress=lambda told: rows.append(told.rows)
    )
    np.testing.assert_array_equal(found.coef_, expected.coef_)
    np.testing.assert_array_equal(found.intercept_, expected.intercept_)
    assert rows[0] < 300
    assert rows[-1] % 300 != 0  # what was read before was not read again
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_knows_the_choice_from_a_table(tmp_path):
    ds = pytest.importorskip("pyarrow.dataset")
    pd = pytest.importorskip("pandas")
    X, y, _ = data()
    frame = pd.DataFrame(X, columns=list("abcd")).assign(y=y, z=-y, k=np.where(y > 0, "p", "q"))
    path, file = tmp_path / "checkpoint", tmp_path / "rows.parquet"
    frame.to_parquet(file)
    chosen = {"target": "y", "columns": ["a", "b", "k"], "batch_rows": 50}
    model = LeastSquaresRegressor()
    interrupted(model, scan(file, **chosen), path, 2)
    for other, what in (
        ({"target": "z"}, "target"),
        ({"weight": "d"}, "weight"),
        ({"filter": ds.field("c") > 0.0}, "filter"),
        ({"impute": {"a": 1.0}}, "encoding"),
    ):
        with pytest.raises(StreamError, match=f"belongs to another fit: {what} was"):
            model.fit_stream(scan(file, **chosen | other), checkpoint=path)
    found = model.fit_stream(scan(file, **chosen), checkpoint=path)
    expected = LeastSquaresRegressor().fit_stream(scan(file, **chosen))
    np.testing.assert_array_equal(found.coef_, expected.coef_)


def test_a_checkpoint_of_another_fit_says_where_they_differ(tmp_path):
    X, y, _ = data()
    stream, path = scan(X, y, batch_rows=50), tmp_path / "checkpoint"
    own = {"learning_rate": "constant", "eta0": 1e-4, "max_iter": 300, "tol": None}
    interrupted(SGDRegressor(**own, random_state=0), stream, path, 2)
    with pytest.raises(StreamError, match=r"was \.\.\..*random_state=0, .* is .*random_state=1, "):
        SGDRegressor(**own, random_state=1).fit_stream(stream, checkpoint=path)


@pytest.mark.parametrize("model", [LeastSquaresRegressor(), SGDRegressor()], ids=str)
def test_a_checkpoint_of_another_fit_is_refused(model, tmp_path):
    X, y, _ = data()
    path = tmp_path / "checkpoint"
    interrupted(model, scan(X, y, batch_rows=50), path, 2)
    before = path.read_bytes()
    with pytest.raises(StreamError, match="belongs to another fit: pieces was"):
        model.fit_stream(scan(X, y, batch_rows=60), checkpoint=path)
    for other, what in (
        (scan(X, y + 1.0, batch_rows=50), "target"),
        (scan(X, y, weight=np.ones(len(y)), batch_rows=50), "weight"),
        (scan(X, y, columns=[0, 1], batch_rows=50), "columns"),
    ):
        with pytest.raises(StreamError, match=f"belongs to another fit: {what} was"):
            model.fit_stream(other, checkpoint=path)
    for content in (before[:-9], b"", before[:100] + b"0" + before[101:]):
        path.write_bytes(content)
        with pytest.raises(StreamError, match=r"checkpoint .*checkpoint: "):
            model.fit_stream(scan(X, y, batch_rows=50), checkpoint=path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        model.fit_stream(scan(X, y), checkpoint=tmp_path / "none" / "checkpoint")
    with pytest.raises(ValueError, match="must be a path"):
        model.fit_stream(scan(X, y), checkpoint=3)
    with pytest.raises(IsADirectoryError, match="is a folder"):
        model.fit_stream(scan(X, y), checkpoint=tmp_path)


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    X, y, _ = data()
    stream, path = scan(X, y, batch_rows=50), tmp_path / "checkpoint"
    expected = LeastSquaresRegressor().fit_stream(stream)
    interrupted(LeastSquaresRegressor(), stream, path, 2)
    with monkeypatch.context() as patched:

        def full(*args):
            raise OSError(28, "No space left on device")

        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space") as raised:
            LeastSquaresRegressor().fit_stream(stream, checkpoint=path)
        assert raised.value.filename == str(path)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]
    found = LeastSquaresRegressor().fit_stream(stream, checkpoint=path)
    np.testing.assert_array_equal(found.coef_, expected.coef_)


KILLED = """
import sys, time
import numpy as np
from fastlsgd import LeastSquaresRegressor
from fastlsgd.streaming import scan
X = np.random.default_rng(0).normal(size=(4000, 5))
stream = scan(X, X @ np.arange(5.0), batch_rows=10)
LeastSquaresRegressor(alpha=0.1).fit_stream(
    stream, checkpoint=sys.argv[1], progress=lambda told: time.sleep(0.01))
"""


def test_a_process_that_is_killed_goes_on(tmp_path):
    """kill -9 at any moment leaves a whole checkpoint."""
    path = tmp_path / "checkpoint"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)])
    while not path.exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert path.exists()
    (tmp_path / ".checkpoint.0123456789abcdef").touch()  # as by a kill while it is written
    X = np.random.default_rng(0).normal(size=(4000, 5))
    stream, model = scan(X, X @ np.arange(5.0), batch_rows=10), LeastSquaresRegressor(alpha=0.1)
    rows: list[int] = []
    found = clone(model).fit_stream(
        stream, checkpoint=path, progress=lambda told: rows.append(told.rows)
    )
    np.testing.assert_array_equal(found.coef_, model.fit_stream(stream).coef_)
    assert rows[-1] < 4000
    assert not list(tmp_path.iterdir())
