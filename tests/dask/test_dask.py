"""Estimators over Dask collections: what the rows in memory give, for any blocks."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.utils.class_weight import compute_class_weight
from small_problems import random_csr

import fastlsgd
from fastlsgd.streaming import scan

pytest.importorskip("dask")
import dask
import dask.array as da
import dask.dataframe as dd

import fastlsgd.dask as lazy

pd = pytest.importorskip("pandas")

N, D = 240, 5
CLASSIFIERS = lazy.SGDClassifier, fastlsgd.SGDClassifier


@pytest.fixture(autouse=True)
def one_thread():
    """Tasks are run one after another, except where a test wants more."""
    with dask.config.set(scheduler="synchronous"):
        yield


def data(targets: int = 1):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, D)) * [0.1, 1.0, 5.0, 1.0, 2.0] + 3.0
    y = X @ rng.normal(size=(D, targets)) + rng.normal(size=(N, targets))
    s = rng.uniform(0.5, 1.0, N) * (np.arange(N) % 7 > 0)
    return X, y[:, 0] if targets == 1 else y, s


def chunked(array, cuts):
    """Return an array in blocks that end at these rows."""
    sizes = tuple(np.diff([0, *cuts, len(array)]).tolist())
    return da.from_array(array, chunks=(sizes, *array.shape[1:]))


def unknown(array):
    """Return an array whose blocks have lengths that are not known."""
    return array.map_blocks(lambda part: part, chunks=((np.nan,) * array.numblocks[0],
                                                       *array.chunks[1:]))  # fmt: skip


cuts_of_rows = st.lists(st.integers(0, N), max_size=6).map(sorted)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"solver": "qr"},
        {"alpha": 0.1, "fit_intercept": False},
        {"alpha": [0.1, 0.01], "l1_ratio": 0.5},
        {"positive": True},
        {"solver": "cg", "tol": 1e-14},
        {"solver": "nesterov", "alpha": 0.1, "l1_ratio": 1.0, "tol": 1e-14},
    ],
    ids=str,
)
@settings(max_examples=4)
@given(cuts=cuts_of_rows, is_weighted=st.booleans(), targets=st.integers(1, 2))
def test_regressors_are_those_of_the_rows(options, cuts, is_weighted, targets):
    X, y, s = data(targets)
    whole = fastlsgd.LeastSquaresRegressor(**options).fit(X, y, s if is_weighted else None)
    dX, dy, ds = (chunked(part, cuts) for part in (X, y, s))
    model = lazy.LeastSquaresRegressor(**options).fit(dX, dy, ds if is_weighted else None)
    size = np.abs(whole.coef_).max()
    np.testing.assert_allclose(model.coef_, whole.coef_, rtol=0.0, atol=1e-10 * size)
    np.testing.assert_allclose(model.intercept_, whole.intercept_, rtol=1e-9, atol=1e-9)
    predictions = model.predict(dX)
    assert predictions.chunks[0] == dX.chunks[0]
    assert predictions.shape == y.shape
    np.testing.assert_allclose(predictions.compute(), whole.predict(X), rtol=1e-9)
    for weights in ((None, None), (ds, s)):
        score = model.score(dX, dy, weights[0])
        assert isinstance(score, da.Array)
        np.testing.assert_allclose(float(score), whole.score(X, y, weights[1]), rtol=1e-10)


@settings(max_examples=4)
@given(cuts=cuts_of_rows, classes=st.integers(2, 3), balanced=st.booleans())
def test_classifiers_are_those_of_the_rows(cuts, classes, balanced):
    X, y, s = data()
    labels = np.array(["a", "b", "c"])[np.digitize(y, np.quantile(y, [0.4, 0.8][: classes - 1]))]
    dX, dl, ds = (chunked(part, cuts) for part in (X, labels, s))
    for options in ({}, {"solver": "cg", "tol": 1e-14}):
        options["class_weight"] = "balanced" if balanced else None
        whole = fastlsgd.LeastSquaresClassifier(**options).fit(X, labels, s)
        model = lazy.LeastSquaresClassifier(**options).fit(dX, dl, ds)
        np.testing.assert_allclose(model.coef_, whole.coef_, rtol=0.0, atol=1e-10)
        np.testing.assert_array_equal(model.classes_, whole.classes_)
        np.testing.assert_array_equal(model.predict(dX).compute(), whole.predict(X))
        scores = model.decision_function(dX)
        np.testing.assert_allclose(scores.compute(), whole.decision_function(X), atol=1e-10)
        np.testing.assert_allclose(float(model.score(dX, dl, ds)), whole.score(X, labels, s))


@settings(max_examples=4)
@given(cuts=cuts_of_rows, are_known=st.booleans())
def test_folds_do_not_depend_on_the_blocks(cuts, are_known):
    X, y, s = data()
    whole = fastlsgd.LeastSquaresCV(alphas=[1.0, 0.01], cv=3).fit(X, y, s)
    blocks = [chunked(part, cuts) for part in (X, y, s)]
    blocks = blocks if are_known else [unknown(part) for part in blocks]
    model = lazy.LeastSquaresCV(alphas=[1.0, 0.01], cv=3).fit(*blocks)
    np.testing.assert_allclose(model.mse_path_, whole.mse_path_, rtol=1e-9)
    np.testing.assert_allclose(model.coef_, whole.coef_, atol=1e-10)


@pytest.mark.parametrize("solver", ["auto", "cg"])
def test_frames_have_names(solver):
    X, y, s = data()
    frame = pd.DataFrame(X, columns=list("abcde")).assign(e=np.arange(N) % 5, y=y, s=s)
    whole = fastlsgd.LeastSquaresRegressor().fit(frame[list("abcde")], y, s)
    lazy_frame = dd.from_pandas(frame, npartitions=4)
    dX = lazy_frame[list("abcde")]
    model = lazy.LeastSquaresRegressor(solver=solver, tol=1e-14)
    model.fit(dX, lazy_frame["y"], lazy_frame["s"])
    assert model.feature_names_in_.tolist() == list("abcde")
    np.testing.assert_allclose(model.coef_, whole.coef_, atol=1e-10)
    predictions = model.predict(dX)
    assert isinstance(predictions, da.Array)
    np.testing.assert_allclose(predictions.compute(), whole.predict(frame[list("abcde")]))
    np.testing.assert_allclose(
        float(model.score(dX, lazy_frame["y"])), whole.score(frame[list("abcde")], y)
    )
    with pytest.raises(ValueError, match=r"names should match .* column 0 is 'b' in place of 'a'"):
        model.predict(lazy_frame[list("bacde")])
    assert model.in_memory().feature_names_in_.tolist() == list("abcde")


@pytest.mark.parametrize("solver", ["auto", "cg"])
def test_sparse_blocks(solver):
    X, y, s = data()
    X = np.where(X > 3.0, X, 0.0)
    dX = chunked(X, [100]).map_blocks(sp.csr_matrix)
    whole = fastlsgd.LeastSquaresRegressor().fit(sp.csr_matrix(X), y, s)
    model = lazy.LeastSquaresRegressor(solver=solver, tol=1e-14)
    model.fit(dX, chunked(y, [100]), chunked(s, [100]))
    np.testing.assert_allclose(model.coef_, whole.coef_, atol=1e-10)
    np.testing.assert_allclose(model.predict(dX).compute(), whole.predict(X))


def test_wide_data_are_fitted_by_passes():
    rng = np.random.default_rng(0)
    X = random_csr((400, 6000), 0.01, 0)
    y = X @ rng.normal(size=6000)
    rows = [da.from_delayed(dask.delayed(X[a : a + 100]), (100, 6000), meta=sp.csr_matrix((0, 0)))
            for a in range(0, 400, 100)]  # fmt: skip
    model = lazy.LeastSquaresRegressor(alpha=1e-3).fit(da.concatenate(rows), y)
    assert model.solver_ == "cg"
    whole = fastlsgd.LeastSquaresRegressor(alpha=1e-3).fit(X, y)
    np.testing.assert_allclose(model.coef_, whole.coef_, atol=1e-8)


def test_rows_are_added_by_partial_fit():
    X, y, s = data()
    model = lazy.LeastSquaresRegressor()
    for rows in (slice(0, 100), slice(100, N)):
        model.partial_fit(*(chunked(part[rows], [30]) for part in (X, y, s)))
    whole = fastlsgd.LeastSquaresRegressor().fit(X, y, s)
    np.testing.assert_allclose(model.coef_, whole.coef_, atol=1e-10)
    assert model.summary() is not None
    with pytest.raises(ValueError, match="X has 3 features, but the moments so far have 5"):
        model.partial_fit(chunked(X[:, :3], [30]), chunked(y, [30]))
    with pytest.raises(ValueError, match="fit takes Dask collections"):
        lazy.LeastSquaresClassifier().partial_fit(chunked(X, [30]), y > 0)


@pytest.mark.parametrize(
    "options",
    [
        {"eta0": 1e-3, "batch_size": 8, "tol": 1e-2, "max_iter": 6},
        {"optimizer": "adam", "shuffle": False, "max_iter": 2},
        {"average": True, "power_t": 0.25, "learning_rate": "invscaling", "max_iter": 3},
    ],
    ids=str,
)
def test_stochastic_descents_are_those_of_a_stream(options):
    """The blocks are visited in the same order, and the rows within them."""
    X, y, s = data(targets=2)
    options = {"learning_rate": "constant", "random_state": 0, "alpha": 1e-3, **options}
    dX, dy, ds = (chunked(part, range(50, N, 50)) for part in (X, y, s))
    model = lazy.SGDRegressor(**options).fit(dX, dy, ds)
    stream = scan(X, y, weight=s, batch_rows=50)
    streamed = fastlsgd.SGDRegressor(**options).fit_stream(stream)
    np.testing.assert_array_equal(model.coef_, streamed.coef_)
    np.testing.assert_array_equal(model.intercept_, streamed.intercept_)
    assert (model.n_iter_, model.t_) == (streamed.n_iter_, streamed.t_)
    assert model.loss_curve_ == streamed.loss_curve_
    assert float(model.score(dX, dy)) == pytest.approx(streamed.score(X, y))
    assert model.predict(dX).chunks == (dX.chunks[0], (2,))
    np.testing.assert_array_equal(model.predict(dX).compute(), streamed.predict(X))

    labels = np.where(y[:, 0] > y[:, 0].mean(), "b", "a")
    names = np.array(["a", "b"])
    factors = compute_class_weight("balanced", classes=names, y=labels)
    balanced = dict(zip(names.tolist(), factors.tolist(), strict=True))
    classifier = lazy.SGDClassifier(class_weight="balanced", **options)
    classifier.fit(dX, chunked(labels, [50, 100, 150, 200]), ds)
    streamed = fastlsgd.SGDClassifier(class_weight=balanced, **options)
    streamed.fit_stream(scan(X, labels, weight=s, batch_rows=50))
    np.testing.assert_array_equal(classifier.coef_, streamed.coef_)
    np.testing.assert_array_equal(classifier.predict(dX).compute(), streamed.predict(X))
    assert not hasattr(classifier, "_moments")


@pytest.mark.parametrize("cuts", [[], [0, 7, 7, 100]], ids=str)
def test_rates_from_the_data_lead_to_the_minimum(cuts):
    X, y, s = data()
    dX, dy, ds = (chunked(part, cuts) for part in (X, y, s))
    model = lazy.SGDRegressor(alpha=1e-3).fit(dX, dy, ds)
    exact = fastlsgd.LeastSquaresRegressor(alpha=1e-3).fit(X, y, s)
    np.testing.assert_allclose(model.coef_, exact.coef_, atol=1e-9)
    labels = np.digitize(y, np.quantile(y, [0.4, 0.8]))
    classifier = lazy.SGDClassifier(alpha=1e-3).fit(dX, chunked(labels, cuts), ds)
    exact = fastlsgd.LeastSquaresClassifier(alpha=1e-3).fit(X, labels, s)
    np.testing.assert_allclose(classifier.coef_, exact.coef_, atol=1e-9)
    np.testing.assert_array_equal(classifier.classes_, exact.classes_)


@pytest.mark.parametrize("rate", ["auto", "constant"])
def test_epochs_over_blocks_are_those_over_their_rows(rate):
    X, y, s = data()
    options = {"learning_rate": rate, "eta0": None if rate == "auto" else 1e-3}
    cuts, edges = [100, 100, 180], [0, 100, 180, N]
    model = lazy.SGDRegressor(random_state=0, **options)
    whole = fastlsgd.SGDRegressor(random_state=0, **options)
    classifier, other = (SGD(random_state=0, **options) for SGD in CLASSIFIERS)
    labels = y > y.mean()
    for _ in range(2):
        model.partial_fit(*(chunked(part, cuts) for part in (X, y, s)))
        classifier.partial_fit(chunked(X, cuts), chunked(labels, cuts), classes=[False, True])
        for start, stop in itertools.pairwise(edges):
            rows = slice(start, stop)
            whole.partial_fit(X[rows], y[rows], s[rows])
            other.partial_fit(X[rows], labels[rows], classes=[False, True])
    np.testing.assert_array_equal(model.coef_, whole.coef_)
    np.testing.assert_array_equal(classifier.coef_, other.coef_)
    assert isinstance(model.partial_fit(X, y).predict(X), np.ndarray)
    if rate == "constant":  # the mean loss is over rows of positive weight
        once = {"max_iter": 1, "tol": None, "shuffle": False, **options}
        blocks = (chunked(part, cuts) for part in (X, y, s))
        losses = lazy.SGDRegressor(**once).fit(*blocks).loss_curve_
        assert losses == pytest.approx(
            whole.set_params(**once).fit(X, y, sample_weight=s).loss_curve_
        )


def test_what_stochastic_descents_refuse():
    X, y, _ = data()
    dX, dy = chunked(X, [100]), chunked(y, [100])
    options = {"learning_rate": "constant", "eta0": 1e-3}
    with pytest.raises(ValueError, match="early_stopping must be False"):
        lazy.SGDRegressor(early_stopping=True).fit(dX, dy)
    with pytest.raises(ValueError, match="balanced"):
        lazy.SGDClassifier(class_weight="balanced").partial_fit(dX, dy > 0, classes=[0, 1])
    with pytest.raises(ValueError, match="X has no rows"):
        lazy.SGDRegressor(**options).fit(dX[:0], dy[:0])
    with pytest.raises(ValueError, match="X has no rows of positive sample_weight"):
        lazy.SGDRegressor(**options).fit(dX, dy, da.zeros(N, chunks=60))
    with pytest.raises(ValueError, match="stream has no rows of positive weight"):
        fastlsgd.SGDRegressor(**options).fit_stream(scan(X, y, weight=np.zeros(N)))
    grown = chunked(np.where(np.arange(N)[:, None] < 100, X, 1e9 * X), [100])
    with pytest.raises(ValueError, match="block 1 of X: The fit diverges"):
        lazy.SGDRegressor(shuffle=False, **options).fit(grown, dy)
    X[151, 3] = np.nan
    for model in (lazy.SGDRegressor(), lazy.SGDRegressor(**options)):
        with pytest.raises(ValueError, match="block 1 of X: X contains NaN: column 3, row 51"):
            model.fit(chunked(X, [100]), dy)
        assert not hasattr(model, "coef_")


def test_moments_are_lazy_and_those_of_the_rows():
    X, y, s = data()
    found = lazy.moments(chunked(X, [50]), chunked(y, [50]), chunked(s, [50]))
    expected = fastlsgd.Moments.from_data(X, y, s)
    np.testing.assert_allclose(found.compute().xx, expected.xx, rtol=1e-12)


def test_rows_in_memory_are_predicted_at_once():
    X, y, _ = data()
    model = lazy.LeastSquaresRegressor().fit(chunked(X, [50]), chunked(y, [50]))
    assert isinstance(model.predict(X), np.ndarray)
    assert isinstance(model.score(X, y), float)
    assert clone(model).get_params() == model.get_params()


# --------------------------------------------------------------------------------- bad input


def test_blocks_that_do_not_fit_are_refused_before_any_work():
    X, y, s = data()
    dX, dy = chunked(X, [100]), chunked(y, [100])
    model = lazy.LeastSquaresRegressor()

    def refused(match, *args):
        with pytest.raises(ValueError, match=match):
            model.fit(*args)
        assert not hasattr(model, "coef_")

    refused(r"2 blocks of columns.*X\.rechunk\(\{1: -1\}\)", dX.rechunk({1: (2, 3)}), dy)
    refused("y has 200 rows, but X has 240", dX, dy[:200])
    refused("X must have at least one feature", dX[:, :0], dy)
    refused("requires y to be passed, but the target y is None", dX, None)
    refused("y is in memory, but the blocks of X have unknown lengths", unknown(dX), y)
    refused("X has 2 blocks of rows and y has 3", unknown(dX), chunked(y, [10, 20]))
    refused("X must be a dask array or dataframe, got type ndarray", X, y)
    refused("X must have 2 dimensions", dy, dy)
    refused("X must hold real numbers, got dtype complex128", dX.astype(complex), dy)
    refused("n_jobs must be None, a whole", *(dX, dy)) if model.set_params(n_jobs=0) else None
    model.set_params(n_jobs=None)
    frame = pd.DataFrame(X, columns=list("abcde")).assign(city="x", y=y)
    refused("column 'city' has dtype", dd.from_pandas(frame, npartitions=2), dy)
    ddf = dd.from_pandas(frame, npartitions=3)
    other = dd.from_pandas(frame.iloc[::-1].reset_index(drop=True)[:200], npartitions=3)
    refused("X and y have other divisions", ddf[["a"]], other["y"])
    in_columns = chunked(np.c_[y, y] > 0, [100]).rechunk({1: 1})
    for classifier in (lazy.LeastSquaresClassifier(), lazy.SGDClassifier()):
        with pytest.raises(ValueError, match="y is divided into 2 blocks of columns"):
            classifier.fit(dX, in_columns)
    with pytest.raises(ValueError, match="cv must be a number of folds"):
        lazy.LeastSquaresCV(cv=[([0], [1])]).fit(dX, dy)
    model.fit(dX, dy, chunked(s, [40, 80]))
    with pytest.raises(ValueError, match=r"X has 3 features, but .* is expecting 5 features"):
        model.predict(dX[:, :3])


@pytest.mark.parametrize("solver", ["auto", "qr", "cg"])
def test_bad_rows_name_their_block(solver):
    X, y, s = data()
    X[151, 3] = np.nan
    dX, dy = chunked(X, [50, 100, 150]), chunked(y, [50, 100, 150])
    model = lazy.LeastSquaresRegressor(solver=solver)
    with pytest.raises(ValueError, match="block 3 of X: X contains NaN: column 3, row 1 of block"):
        model.fit(dX, dy)
    frame = pd.DataFrame(X, columns=list("abcde"))
    frame = dd.from_pandas(frame.assign(y=y), npartitions=4)
    with pytest.raises(ValueError, match="block 2 of X: X contains NaN: column 'd'"):
        model.fit(frame[list("abcde")], frame["y"])
    good = chunked(np.nan_to_num(X), [50, 100, 150])
    with pytest.raises(ValueError, match="block 1 of X: sample_weight"):
        model.fit(good, dy, chunked(np.where(np.arange(N) == 60, -1.0, s), [50, 100, 150]))
    with pytest.raises(ValueError, match="no rows of positive sample_weight"):
        model.fit(good, dy, da.zeros(N, chunks=60))
    with pytest.raises(ValueError, match=r"block [01] of X: y has \d0 rows, but X has 50"):
        model.fit(unknown(good), unknown(chunked(y, [40, 100, 150])))
    lies = da.concatenate([good[:200], da.from_delayed(dask.delayed(X[:40, :3]), (40, 5), float)])
    with pytest.raises(
        ValueError, match=r"block 4 of X: the block has shape \(40, 3\), but X has 5"
    ):
        model.fit(lies, y)
    with pytest.raises(ValueError, match="block 3 of X: X contains NaN: column 3, row 1 of block"):
        model.fit(good, dy).predict(dX).compute()
    with pytest.raises(ValueError, match="block 2 of X: X contains NaN: column 'd'"):
        model.predict(frame[list("abcde")]).compute()


def test_bad_targets_are_told_by_their_place_in_the_block():
    """Whatever folds cut, and whatever else the classes are compared with."""
    X, y, _ = data()
    dX, missing = chunked(X, [100]), chunked(np.where(np.arange(N) == 151, np.nan, y), [100])
    with pytest.raises(ValueError, match=r"block 1 of X: y contains NaN .* first in row 51"):
        lazy.LeastSquaresCV(cv=5).fit(dX, missing)
    for classifier in (lazy.LeastSquaresClassifier(), lazy.SGDClassifier()):
        with pytest.raises(ValueError, match=r"block 1 of X: y contains NaN .* first in row 51"):
            classifier.fit(dX, missing)
    first = chunked(np.where(np.arange(N) < 90, 0.0, 1.0), [100])
    with pytest.raises(ValueError, match=r"all zero in a fold .* to be judged of fold 0"):
        lazy.LeastSquaresCV(cv=5).fit(dX, chunked(y, [100]), first)


def test_labels_of_one_column_are_scored():
    X, y, _ = data()
    labels = (y > y.mean()).astype(int)
    dX, column = chunked(X, [100]), chunked(labels[:, None], [100])
    model = lazy.LeastSquaresClassifier().fit(dX, column)
    assert float(model.score(dX, column)) == model.in_memory().score(X, labels)


def test_workers_compute_as_configured_here(monkeypatch):
    X, y, _ = data()
    seen = []
    record = lambda *args: seen.append(fastlsgd.get_config())  # noqa: E731
    monkeypatch.setattr("fastlsgd.dask._sums.gradient_of_rows", lambda *a: record())
    model = lazy.LeastSquaresRegressor(solver="cg", n_jobs=2)
    with (
        dask.config.set(scheduler="threads"),
        fastlsgd.config_context(backend="reference"),
        warnings.catch_warnings(),
        pytest.raises(AttributeError),
    ):
        model.fit(chunked(X, [50]), chunked(y, [50]))
    assert seen == [{"backend": "reference", "n_threads": 2}] * 2
