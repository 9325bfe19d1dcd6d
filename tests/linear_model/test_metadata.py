"""Metadata of estimators: feature names, routing, pickles, tags, repr; nested parallel jobs."""

from __future__ import annotations

import pickle
import warnings

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.datasets import make_classification
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

from fastlsgd import LeastSquaresClassifier, LeastSquaresRegressor, SGDClassifier, SGDRegressor

REGRESSORS = [SGDRegressor, LeastSquaresRegressor]
CLASSIFIERS = [SGDClassifier, LeastSquaresClassifier]
ALL = REGRESSORS + CLASSIFIERS
sklearn_version = tuple(int(part) for part in sklearn.__version__.split(".")[:2])
NAMES = ["area", "rooms", "year", "lot"]


@pytest.fixture(scope="module")
def data():
    X, y = make_classification(120, 4, n_informative=3, n_redundant=0, random_state=0)
    return X, y, np.random.default_rng(0).uniform(0.5, 2.0, 120)


def small(model, **chosen):
    if "random_state" in model().get_params():
        chosen["random_state"] = 0
    return model(**chosen)


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("model", ALL)
def test_names_of_a_frame(model, library, data):
    frames = pytest.importorskip(library)
    X, y, _ = data
    frame = frames.DataFrame({name: X[:, j] for j, name in enumerate(NAMES)})
    fitted = small(model).fit(frame, frames.Series(y))
    assert fitted.feature_names_in_.tolist() == NAMES
    np.testing.assert_allclose(fitted.predict(frame), small(model).fit(X, y).predict(X))
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(frame[NAMES[::-1]])
    with pytest.warns(UserWarning, match="feature names"):
        fitted.predict(X)


@pytest.mark.parametrize("model", ALL)
def test_names_that_a_pipeline_makes(model, data):
    pytest.importorskip("pandas")
    X, y, _ = data
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), small(model))
    pipeline.fit(X, y)
    assert pipeline[-1].feature_names_in_.tolist() == ["x0", "x1", "x2", "x3"]
    assert pipeline.score(X, y) > 0.1


@pytest.mark.parametrize("model", ALL)
def test_weights_are_routed(model, data):
    X, y, s = data
    # scikit-learn 1.6 can't route weights to the `score` of a pipeline's last step.
    scoring = {"scoring": "r2"} if sklearn_version < (1, 7) else {}
    with sklearn.config_context(enable_metadata_routing=True):
        asking = small(model).set_fit_request(sample_weight=True)
        asking.set_score_request(sample_weight=True)
        search = GridSearchCV(make_pipeline(asking), {}, cv=3, **scoring)
        search.fit(X, y, sample_weight=s)
        direct = small(model).fit(X, y, sample_weight=s)
        found = search.best_estimator_[-1]
        np.testing.assert_allclose(found.coef_, direct.coef_)
        silent = small(model).set_fit_request(sample_weight=False)
        silent.set_score_request(sample_weight=False)
        with pytest.raises(TypeError, match="sample_weight"):
            GridSearchCV(make_pipeline(silent), {}, cv=3, **scoring).fit(X, y, sample_weight=s)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_nested_jobs(n_jobs, data):
    """Nested searches over processes and threads give the results of one, with no more threads."""
    X, y, _ = data
    expected = None
    for backend in ("loky", "threading") if n_jobs > 1 else ("loky",):
        with joblib.parallel_backend(backend):
            search = GridSearchCV(SGDClassifier(random_state=0), {"alpha": [1e-4, 1.0]}, cv=2,
                                  n_jobs=n_jobs).fit(X, y)  # fmt: skip
        scores = search.cv_results_["mean_test_score"]
        expected = scores if expected is None else expected
        np.testing.assert_array_equal(scores, expected)


def test_cross_validate_scores(data):
    X, y, _ = data
    for model in ALL:
        scores = cross_validate(small(model), X, y, cv=3, error_score="raise")["test_score"]
        assert np.isfinite(scores).all()


@pytest.mark.parametrize("model", ALL)
def test_tags_and_repr(model):
    tags = get_tags(model())
    assert tags.input_tags.sparse
    assert tags.estimator_type == ("regressor" if model in REGRESSORS else "classifier")
    assert tags.target_tags.multi_output == (model in REGRESSORS)
    html = model(alpha=0.25)._repr_html_()
    assert model.__name__ in html
    # scikit-learn has no page about these, and no link is better than a broken one.
    assert f"generated/sklearn.linear_model.{model.__name__}" not in html
    assert "generated/fastlsgd.linear_model" not in html
    assert repr(model(alpha=0.25)) == f"{model.__name__}(alpha=0.25)"


@pytest.mark.parametrize("dump", [pickle, joblib])
@pytest.mark.parametrize("model", ALL)
def test_pickles_of_this_version(model, dump, data, tmp_path):
    X, y, _ = data
    fitted = small(model).fit(X, y)
    with open(tmp_path / "model", "wb") as file:
        dump.dump(fitted, file)
    with open(tmp_path / "model", "rb") as file, warnings.catch_warnings():
        warnings.simplefilter("error")
        again = dump.load(file)
    assert vars(again).keys() == vars(fitted).keys()
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))


@pytest.mark.parametrize("origin", ["0.0.1", None])
@pytest.mark.parametrize("model", ALL)
def test_pickles_of_another_version(model, origin, data):
    X, y, _ = data
    fitted = small(model).fit(X, y)
    state = fitted.__getstate__()
    assert state["_fastlsgd_version"]
    # A version that lacked a parameter, and may not have marked its pickles yet.
    del state["backend"], state["_fastlsgd_version"]
    if origin is not None:
        state["_fastlsgd_version"] = origin
    again = model.__new__(model)
    with pytest.warns(InconsistentVersionWarning, match=f"fastlsgd {origin or 'unknown'}"):
        again.__setstate__(state)
    assert again.backend is None
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    if hasattr(model, "partial_fit"):
        again.partial_fit(X, y)
        assert again.score(X, y) > 0.1
