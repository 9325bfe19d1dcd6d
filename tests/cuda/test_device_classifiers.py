"""Classifiers and cross-validation take arrays that are on a device, with labels anywhere."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from device_arrays import (
    RATE,
    assert_beside,
    cuda,
    each_library,
    labelled,
    to_host,
)
from sklearn.base import clone, is_classifier
from test_kernels import (
    make_problem,
)

import fastlsgd
from fastlsgd.kernels.device import is_device_array

pytestmark = pytest.mark.cuda
send = each_library


CLASSIFIERS = {
    "rate of one's own": fastlsgd.SGDClassifier(**RATE, batch_size=4),
    "auto": fastlsgd.SGDClassifier(max_iter=2, tol=None, random_state=0),
    "early stopping": fastlsgd.SGDClassifier(**RATE, early_stopping=True),
    "balanced": fastlsgd.SGDClassifier(**RATE, class_weight="balanced"),
    "full batch": fastlsgd.LeastSquaresClassifier(),
    "full batch, a weight a class": fastlsgd.LeastSquaresClassifier(class_weight={0: 3.0}),
    "full batch, warm": fastlsgd.LeastSquaresClassifier(alpha=0.1, warm_start=True),
}


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
    with pytest.raises(
        ValueError, match="y on a GPU must be a dense array, got type SimpleNamespace"
    ):
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
