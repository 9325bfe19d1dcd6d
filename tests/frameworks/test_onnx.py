"""`to_onnx`: onnxruntime gives what `predict` and `decision_function` give."""

from __future__ import annotations

import numpy as np
import pytest
from optional import required
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.ensemble import StackingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler

import fastlsgd
from fastlsgd import (
    LeastSquaresClassifier,
    LeastSquaresCV,
    LeastSquaresRegressor,
    SGDClassifier,
    SGDRegressor,
    SGDRegressorCV,
    to_onnx,
)
from fastlsgd import sklearn as by_name

required("skl2onnx")
onnxruntime = required("onnxruntime")

REGRESSORS = [
    LeastSquaresRegressor(),
    LeastSquaresRegressor(alpha=0.05, l1_ratio=1.0, fit_intercept=False),
    LeastSquaresCV(),
    SGDRegressor(random_state=0),
    SGDRegressorCV(),
    by_name.LinearRegression(),
    by_name.Ridge(),
    by_name.RidgeCV(),
    by_name.Lasso(alpha=0.01),
    by_name.LassoCV(),
    by_name.ElasticNet(alpha=0.01),
    by_name.ElasticNetCV(),
    by_name.SGDRegressor(random_state=0),
]
CLASSIFIERS = [
    LeastSquaresClassifier(),
    SGDClassifier(random_state=0),
    by_name.RidgeClassifier(),
    by_name.RidgeClassifierCV(),
]
LABELS = {
    "integers": np.array([-3, 7, 9]),
    "strings": np.array(["a", "b", "c"]),
    "two strings": np.array(["no", "yes"], dtype=object),
    "booleans": np.array([False, True]),
}
TOLERANCE = {np.float32: 5e-6, np.float64: 1e-13}


def data(dtype=np.float64):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 4)) + 1.0
    scores = X @ rng.normal(size=(4, 3)) + 0.3 * rng.normal(size=(120, 3)) + 2.0
    return X.astype(dtype), scores


def outputs(model, inputs) -> dict:
    """What onnxruntime computes, by name, from an array or from the columns of a frame."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    if isinstance(inputs, np.ndarray):
        inputs = {"X": inputs}
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


def name_of(estimator) -> str:
    return f"{type(estimator).__module__.split('.')[1]}.{type(estimator).__name__}"


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("estimator", REGRESSORS, ids=name_of)
def test_regressors(estimator, dtype):
    X, y = data(dtype)
    model = estimator.fit(X, y[:, 0])
    found = outputs(to_onnx(model), X)["variable"]
    assert found.dtype == dtype
    np.testing.assert_allclose(
        found[:, 0], model.predict(X), rtol=TOLERANCE[dtype], atol=10 * TOLERANCE[dtype]
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=name_of)
def test_classifiers(estimator, labels, dtype):
    X, scores = data(dtype)
    model = estimator.fit(X, labels[scores[:, : len(labels)].argmax(1)])
    found = outputs(to_onnx(model), X)
    np.testing.assert_array_equal(found["label"], model.predict(X))
    decision = model.decision_function(X)
    expected = np.stack((-decision, decision), 1) if decision.ndim == 1 else decision
    assert found["scores"].dtype == dtype
    np.testing.assert_allclose(
        found["scores"], expected, rtol=TOLERANCE[dtype], atol=10 * TOLERANCE[dtype]
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("loss", ["log_loss", "modified_huber", "hinge"])
def test_the_classifier_of_scikit_learn_that_has_probabilities(loss, dtype):
    X, scores = data(dtype)
    for n_classes in (2, 3):
        y = scores[:, :n_classes].argmax(1)
        model = by_name.SGDClassifier(loss=loss, random_state=0).fit(X, y)
        found = outputs(to_onnx(model), X)
        np.testing.assert_array_equal(found["label"], model.predict(X))
        if loss != "hinge":
            np.testing.assert_allclose(
                found["probabilities"], model.predict_proba(X), rtol=1e-4, atol=1e-5
            )


def test_many_targets_and_labels_that_do_not_exclude_each_other():
    X, y = data()
    model = LeastSquaresRegressor().fit(X, y)
    np.testing.assert_allclose(outputs(to_onnx(model), X)["variable"], model.predict(X))
    for labels in ((y > 2).astype(int), (y[:, :1] > 2).astype(int)):
        model = LeastSquaresClassifier().fit(X, np.hstack((labels, 1 - labels)))
        found = outputs(to_onnx(model), X)
        np.testing.assert_array_equal(found["label"], model.predict(X))
        np.testing.assert_allclose(found["scores"], model.decision_function(X))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_pipelines(dtype):
    X, y = data(dtype)
    steps = StandardScaler(), PolynomialFeatures(2, include_bias=False)
    regressor = make_pipeline(*steps, LeastSquaresRegressor()).fit(X, y[:, 0])
    found = outputs(to_onnx(regressor, X), X)["variable"][:, 0]
    np.testing.assert_allclose(
        found, regressor.predict(X), rtol=1e-4 if dtype == np.float32 else 1e-12
    )
    labels = LABELS["strings"][y.argmax(1)]
    classifier = make_pipeline(*steps, LeastSquaresClassifier()).fit(X, labels)
    found = outputs(to_onnx(classifier), X)
    np.testing.assert_array_equal(found["label"], classifier.predict(X))


def test_frames_have_an_input_per_column():
    pd = pytest.importorskip("pandas")
    X, y = data(np.float32)
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = LeastSquaresRegressor().fit(frame, y[:, 0])
    columns = {name: frame[[name]].to_numpy() for name in frame}
    found = outputs(to_onnx(model, frame), columns)["variable"][:, 0]
    np.testing.assert_allclose(found, model.predict(frame), rtol=1e-5, atol=1e-5)

    frame["kind"] = np.array(["u", "v"])[np.arange(len(X)) % 2]
    columns["kind"] = frame[["kind"]].to_numpy().astype(object)
    prepare = make_column_transformer(
        (StandardScaler(), list("abcd")), (OneHotEncoder(sparse_output=False), ["kind"])
    )
    model = make_pipeline(prepare, LeastSquaresRegressor(alpha=0.1)).fit(frame, y[:, 0])
    found = outputs(to_onnx(model, frame), columns)["variable"][:, 0]
    np.testing.assert_allclose(found, model.predict(frame), rtol=1e-5, atol=1e-5)


def test_integers_are_numbers_of_float64():
    X, y = data()
    whole = np.round(1000 * X).astype(np.int64)
    model = LeastSquaresRegressor().fit(whole, y[:, 0])
    found = outputs(to_onnx(model, whole), whole)["variable"]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found[:, 0], model.predict(whole), rtol=1e-12)


def test_estimators_inside_others():
    X, y = data()
    search = GridSearchCV(LeastSquaresRegressor(), {"alpha": [0.1, 1.0]}).fit(X, y[:, 0])
    found = outputs(to_onnx(search), X)["variable"][:, 0]
    np.testing.assert_allclose(found, search.predict(X), rtol=1e-12)
    stack = StackingRegressor([("a", LeastSquaresRegressor())], by_name.Ridge()).fit(X, y[:, 0])
    found = outputs(to_onnx(stack, X), X)["variable"][:, 0]
    np.testing.assert_allclose(found, stack.predict(X), rtol=1e-12)


def test_errors():
    X, y = data()
    with pytest.raises(ValueError, match="fit"):
        to_onnx(LeastSquaresRegressor())
    with pytest.raises(ValueError, match="must be an estimator or a pipeline, got type list"):
        to_onnx([1.0])
    model = LeastSquaresClassifier().fit(X, (y[:, 0] > 2).astype(float))
    assert outputs(to_onnx(model), X)["label"].dtype == np.int64
    model.classes_ = np.array([0.5, 1.5])
    with pytest.raises(ValueError, match="whole numbers or strings, but those of the LeastSquares"):
        to_onnx(model)


def test_errors_of_X():
    X, y = data()
    model = LeastSquaresRegressor().fit(X, y[:, 0])
    for rows in (X.tolist(), sparse.csr_array(X)):
        found = outputs(to_onnx(model, rows), X)["variable"][:, 0]
        np.testing.assert_allclose(found, model.predict(X), rtol=1e-12)
    for wrong in (X[0], X[:, :3], "text"):
        with pytest.raises(ValueError, match=r"X must have shape \(n_samples, 4\), as the Least"):
            to_onnx(model, wrong)
    texts = make_pipeline(TfidfVectorizer(), LeastSquaresRegressor(alpha=0.1))
    with pytest.raises(ValueError, match="does not tell what it was fitted on: give some rows"):
        to_onnx(texts.fit(["one", "two", "three"], [1.0, 2.0, 3.0]))
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcd"))
    prepare = make_column_transformer((StandardScaler(), ["a", "b"]))
    with pytest.raises(ValueError, match=r"fitted on a data frame, .* give some of its rows as X"):
        to_onnx(make_pipeline(prepare, LeastSquaresRegressor()).fit(frame, y[:, 0]))
    with pytest.raises(ValueError, match="names that are strings, got 0"):
        to_onnx(model, pd.DataFrame(X))


def test_every_linear_model_is_tested():
    tested = {type(estimator) for estimator in (*REGRESSORS, *CLASSIFIERS)}
    tested.add(by_name.SGDClassifier)
    public = {getattr(by_name, name) for name in by_name.__all__}
    public |= {getattr(fastlsgd.linear_model, name) for name in fastlsgd.linear_model.__all__}
    assert {kind for kind in public if isinstance(kind, type)} <= tested
