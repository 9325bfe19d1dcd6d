"""The classifiers: scikit-learn's contract, scikit-learn's weights, and errors that help."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from fits import BACKENDS, close
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits, make_classification, make_multilabel_classification
from sklearn.exceptions import DataConversionWarning
from sklearn.linear_model import RidgeClassifier
from sklearn.linear_model import SGDClassifier as SklearnSGD
from sklearn.model_selection import train_test_split
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastlsgd import (
    LeastSquaresClassifier,
    LeastSquaresRegressor,
    SGDClassifier,
    SGDRegressor,
)

BOTH = [SGDClassifier, LeastSquaresClassifier]


def problem(n_classes=3, n=150, dtype=np.float64):
    X, y = make_classification(
        n, 6, n_informative=5, n_redundant=0, n_classes=n_classes, random_state=0
    )
    s = np.random.default_rng(0).uniform(0.5, 2.0, size=n)
    return (X / 4).astype(dtype), y, s


# ------------------------------------------------------------------- scikit-learn's contract


@parametrize_with_checks(
    [
        SGDClassifier(max_iter=20),
        SGDClassifier(max_iter=20, penalty="elasticnet", batch_size=4, tol=None),
        LeastSquaresClassifier(),
        LeastSquaresClassifier(alpha=0.01, l1_ratio=0.5, tol=1e-8),
    ],
)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("model", BOTH)
def test_attributes(model, n_classes, dtype):
    X, y, _ = problem(n_classes, dtype=dtype)
    names = np.array(["ant", "bee", "cat", "dog"])
    n_targets = 1 if n_classes == 2 else n_classes
    for rows in (X, sp.csr_array(X)):
        fitted = model().fit(rows, names[y])
        assert is_classifier(fitted)
        assert fitted.classes_.tolist() == names[:n_classes].tolist()
        assert fitted.coef_.shape == (n_targets, 6)
        assert fitted.intercept_.shape == (n_targets,)
        assert fitted.coef_.dtype == dtype
        scores = fitted.decision_function(rows)
        assert scores.shape == ((150,) if n_classes == 2 else (150, n_classes))
        assert scores.dtype == dtype
        best = (scores > 0).astype(int) if n_classes == 2 else scores.argmax(axis=1)
        assert (fitted.predict(rows) == names[best]).all()
        assert fitted.score(rows, names[y]) == np.mean(best == y)


@pytest.mark.parametrize("model", BOTH)
def test_pickle_and_clone(model):
    X, y, _ = problem()
    fitted = model(alpha=0.01, class_weight="balanced").fit(X, y)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert not hasattr(copy, "classes_")


def test_same_parameters_as_scikit_learn():
    theirs, ours = SklearnSGD().get_params(), SGDClassifier().get_params()
    assert set(ours) - set(theirs) == {
        "batch_size", "backend", "optimizer", "clip_norm", "restore_best_weights",
        "keep_interrupted",
    }  # fmt: skip
    assert set(theirs) <= set(ours)
    differ = {name for name in theirs if ours[name] != theirs[name]}
    assert differ == {"loss", "learning_rate", "eta0"}


# -------------------------------------------------------------------- scikit-learn's weights

SCHEDULES = {
    "constant": {"eta0": 0.02},
    "invscaling": {"eta0": 0.1},
    "optimal": {"alpha": 2.0},
    "adaptive": {"eta0": 0.05},
}
WEIGHTS = {"none": None, "balanced": "balanced", "dict": {0: 0.3, 1: 2.0}}


def parameters(schedule, **more):
    common = {"loss": "squared_error", "alpha": 0.01, "shuffle": False, "tol": None, "max_iter": 3}
    return {**common, "learning_rate": schedule, **SCHEDULES[schedule], **more}


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("penalty", ["l2", "elasticnet", None])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_weights_are_scikit_learns(n_classes, penalty, schedule, weights):
    for dtype, rtol in ((np.float64, 1e-9), (np.float32, 2e-4)):
        X, y, s = problem(n_classes, dtype=dtype)
        for average in (False, True, 40) if penalty != "elasticnet" else (False,):
            chosen = parameters(
                schedule, penalty=penalty, class_weight=WEIGHTS[weights], average=average
            )
            theirs = SklearnSGD(**chosen).fit(X, y, sample_weight=s)
            for rows in (X, sp.csr_array(X)):
                ours = SGDClassifier(**chosen).fit(rows, y, sample_weight=s)
                close(ours.coef_, theirs.coef_, rtol)
                close(ours.intercept_, theirs.intercept_, rtol)
                assert (ours.t_, ours.n_iter_) == (theirs.t_, theirs.n_iter_)


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("weights", ["none", "dict"])
def test_partial_fit_and_warm_start_are_scikit_learns(n_classes, schedule, weights):
    X, y, s = problem(n_classes)
    chosen = parameters(schedule, class_weight=WEIGHTS[weights], warm_start=True)
    ours, theirs = SGDClassifier(**chosen), SklearnSGD(**chosen)
    for rows in (slice(0, 40), slice(40, 43), slice(43, 150)):
        for model in (ours, theirs):
            model.partial_fit(X[rows], y[rows], classes=range(n_classes), sample_weight=s[rows])
        close(ours.coef_, theirs.coef_)
        close(ours.intercept_, theirs.intercept_)
        assert ours.t_ == theirs.t_
    for average in (False, True, True):
        for model in (ours, theirs):
            model.set_params(average=average).fit(X, y)
        close(ours.coef_, theirs.coef_)
        close(ours.intercept_, theirs.intercept_)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_two_classes_stop_where_scikit_learn_stops(early_stopping):
    X, y, s = problem(2)
    chosen = parameters(
        "constant",
        penalty=None,
        tol=1e-3,
        max_iter=500,
        early_stopping=early_stopping,
        random_state=3,
        class_weight={0: 1.5},
    )
    ours = SGDClassifier(**chosen).fit(X, y, sample_weight=s)
    theirs = SklearnSGD(**chosen).fit(X, y, sample_weight=s)
    assert 1 < ours.n_iter_ == theirs.n_iter_ < 500
    close(ours.coef_, theirs.coef_)


@pytest.mark.parametrize("learning_rate", ["auto", "constant"])
def test_early_stopping_watches_the_accuracy_on_a_stratified_share(learning_rate):
    X, y, s = problem(4)
    model = SGDClassifier(early_stopping=True, learning_rate=learning_rate, random_state=0)
    model.fit(X, y, sample_weight=s)
    assert len(model.validation_scores_) == model.n_iter_
    assert 0.3 < max(model.validation_scores_) <= 1.0
    with pytest.raises(ValueError, match="early_stopping can't split"):
        model.fit(X[:5], [0, 1, 2, 3, 3])


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_least_squares_is_ridge_classifier(kind, fit_intercept, weights, n_classes):
    X, y, s = problem(n_classes)
    chosen = {"fit_intercept": fit_intercept, "class_weight": WEIGHTS[weights]}
    theirs = RidgeClassifier(alpha=1e-9, solver="svd", **chosen).fit(X, y, sample_weight=s)
    ours = LeastSquaresClassifier(**chosen).fit(kind(X), y, sample_weight=s)
    # For two classes scikit-learn omits the axis of classes, contrary to its documentation.
    close(ours.coef_, np.atleast_2d(theirs.coef_), 1e-6)
    close(ours.intercept_, theirs.intercept_, 1e-6) if fit_intercept else None
    ridge = RidgeClassifier(alpha=3.0, solver="svd", fit_intercept=fit_intercept).fit(X, y)
    ours = LeastSquaresClassifier(alpha=3.0 / 150, fit_intercept=fit_intercept).fit(kind(X), y)
    close(ours.coef_, np.atleast_2d(ridge.coef_), 1e-6)
    np.testing.assert_array_equal(ours.predict(X), ridge.predict(X))


def test_multilabel():
    X, Y = make_multilabel_classification(200, 8, n_classes=4, random_state=0)
    theirs = RidgeClassifier(alpha=1e-9, solver="svd").fit(X, Y)
    for targets in (Y, sp.csr_array(Y)):
        ours = LeastSquaresClassifier().fit(X, targets)
        predicted = ours.predict(X)
        predicted = predicted.toarray() if sp.issparse(predicted) else predicted
        np.testing.assert_array_equal(predicted, theirs.predict(X))
    assert ours.coef_.shape == (4, 8)


# ------------------------------------------------------------------------- our own guarantees


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch_size", [1, 32])
def test_classes_are_targets_of_minus_one_and_one(backend, batch_size):
    X, y, s = problem(4)
    targets = np.where(y[:, None] == np.arange(4), 1.0, -1.0)
    chosen = {"random_state": 0, "batch_size": batch_size, "backend": backend}
    ours = SGDClassifier(**chosen).fit(X, y, sample_weight=s)
    regressor = SGDRegressor(**chosen).fit(X, targets, sample_weight=s)
    np.testing.assert_array_equal(ours.coef_, regressor.coef_)
    np.testing.assert_array_equal(ours.intercept_, regressor.intercept_)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("batch_size", [1, 32, 1024])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_default_is_as_good_as_exact_least_squares_on_digits(dtype, batch_size, weights):
    X, y = load_digits(return_X_y=True)
    X = X.astype(dtype)
    X, X_test, y, y_test = train_test_split(X, y, random_state=0)
    model = SGDClassifier(batch_size=batch_size, class_weight=WEIGHTS[weights], random_state=0)
    exact = LeastSquaresClassifier().fit(X, y).score(X_test, y_test)
    assert model.fit(X, y).score(X_test, y_test) >= exact - 0.01
    assert model.n_iter_ <= 50


def test_partial_fit_on_a_stream_with_class_weights():
    X, y, _ = problem(3, n=3000)
    model = SGDClassifier(class_weight={0: 3.0})
    for start in range(0, 3000, 100):
        rows = slice(start, start + 100)
        model.partial_fit(X[rows], y[rows], classes=[0, 1, 2])
    whole = SGDClassifier(class_weight={0: 3.0}, random_state=0).fit(X, y)
    assert model.score(X, y) >= whole.score(X, y) - 0.02
    # First a class is missing from a batch; then all classes get the same weight.
    model.partial_fit(X[y > 0][:50], y[y > 0][:50])
    model.set_params(class_weight=None).partial_fit(X, y)
    assert model.score(X, y) > 0.5


def test_weights_that_are_all_one_are_none():
    X, y, _ = problem(3)
    for weights in ({0: 1.0, 1: 1, 2: 1}, {}):
        ours = SGDClassifier(class_weight=weights, random_state=0).fit(X, y)
        np.testing.assert_array_equal(ours.coef_, SGDClassifier(random_state=0).fit(X, y).coef_)


def test_sparse_weights():
    X, y, _ = problem(3)
    for model, targets in ((SGDClassifier(), y), (SGDRegressor(), y.astype(float))):
        model.set_params(penalty="l1", alpha=0.05, random_state=0, warm_start=True)
        expected = model.fit(X, targets).predict(X)
        assert sp.issparse(model.sparsify().coef_)
        np.testing.assert_array_equal(model.predict(X), expected)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), expected)
        model.fit(X, targets)
        assert not sp.issparse(model.coef_)
        np.testing.assert_array_equal(model.sparsify().densify().predict(X), model.predict(X))


@pytest.mark.parametrize("model", BOTH)
def test_no_probabilities(model):
    X, y, _ = problem(3)
    calibrated = CalibratedClassifierCV(model(), cv=3).fit(X, y)
    assert calibrated.predict_proba(X).shape == (150, 3)
    model = model()
    for name in ("predict_proba", "predict_log_proba"):
        assert not hasattr(model, name)
        with pytest.raises(AttributeError, match=f"has no attribute '{name}'") as caught:
            getattr(model, name)
        assert "loss='squared_error'" in str(caught.value.__cause__)
    with pytest.raises(AttributeError, match="no attribute 'unheard_of'"):
        model.unheard_of  # noqa: B018


@pytest.mark.parametrize("model", BOTH)
def test_warm_start(model):
    X, y, _ = problem(3)
    fitted = model(warm_start=True).fit(X, y)
    fitted.fit(X, y)
    with pytest.raises(ValueError, match="weights so far are for"):
        fitted.fit(X[y > 0], y[y > 0])
    assert fitted.coef_.shape == (3, 6)
    assert fitted.classes_.tolist() == [0, 1, 2]
    assert fitted.set_params(warm_start=False).fit(X[y > 0], y[y > 0]).coef_.shape == (1, 6)


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_optimizers_keep_their_state(weights, average):
    """Two fits of one epoch with warm_start equal one of two: each class keeps its moments."""
    X, y, _ = problem(3)
    chosen = {"optimizer": "adam", "eta0": 0.01, "shuffle": False, "tol": None, "batch_size": 8}
    model = SGDClassifier(**chosen, class_weight=WEIGHTS[weights], average=average)
    whole = clone(model).set_params(max_iter=2).fit(X, y)
    model.set_params(max_iter=1, warm_start=True).fit(X, y).fit(X, y)
    if average:
        # A warm start begins at the mean of the weights, as in scikit-learn, and the final mean is
        # of the last epoch.
        assert np.abs(model.coef_ - whole.coef_).max() > 1e-6
        assert model.score(X, y) > 0.5
    else:
        close(model.coef_, whole.coef_)
    if WEIGHTS[weights] != "balanced":
        model = clone(model)
        for _ in range(2):
            model.partial_fit(X, y, classes=[0, 1, 2])
        close(model.coef_, whole.coef_)
        assert model.t_ == whole.t_


# --------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("loss", ["hinge", "log_loss", "modified_huber", "huber", "perceptron"])
def test_other_losses_are_elsewhere(loss):
    X, y, _ = problem(n=20)
    with pytest.raises(ValueError, match=r"sklearn\.linear_model\.SGDClassifier\) has that loss"):
        SGDClassifier(loss=loss).fit(X, y)
    with pytest.raises(ValueError, match="loss must be one of 'squared_error'"):
        SGDClassifier(loss="hinged").fit(X, y)


BAD_CLASS_WEIGHTS = [
    ("equal", "class_weight must be a dict, 'balanced' or None, got 'equal'"),
    ([1.0, 2.0, 3.0], "class_weight must be a dict"),
    ({0: -1.0}, r"class_weight\[0\] must be a number in \[0, inf\), got -1.0"),
    ({0: np.nan}, r"class_weight\[0\] must be a number"),
    ({0: "heavy"}, r"class_weight\[0\] must be a number"),
    ({7: 1.0}, "not in class_weight"),
]


@pytest.mark.parametrize(("weights", "message"), BAD_CLASS_WEIGHTS)
@pytest.mark.parametrize("model", BOTH)
def test_bad_class_weights(model, weights, message):
    X, y, _ = problem()
    estimator = model(class_weight=weights)
    with pytest.raises(ValueError, match=message):
        estimator.fit(X, y)
    assert not hasattr(estimator, "classes_")


def test_class_weights_that_leave_nothing():
    X, y, _ = problem(3)
    with pytest.raises(ValueError, match="zero together"):
        SGDClassifier(class_weight={0: 0.0}).fit(X, y, sample_weight=(y == 0).astype(float))
    with pytest.raises(ValueError, match=r"zero together|all zero"):
        SGDClassifier(class_weight={0: 0.0, 1: 0.0}).fit(X[y < 2], y[y < 2])


@pytest.mark.parametrize("model", BOTH)
def test_bad_targets(model):
    X, y, _ = problem(n=20)
    for targets, message in (
        (np.zeros(20, dtype=int), "y has one class, .*0.*: a classifier needs two"),
        (np.linspace(0, 1, 20), "Unknown label type"),
        (y[:-1], "inconsistent numbers of samples"),
        (np.where(y > 0, np.nan, 1.0), "NaN"),
        (None, "requires y to be passed"),
    ):
        estimator = model()
        with pytest.raises(ValueError, match=message):
            estimator.fit(X, targets)
        assert not hasattr(estimator, "classes_")
    with pytest.warns(DataConversionWarning):
        model().fit(X, y[:, None])


def test_bad_partial_fits():
    X, y, _ = problem(3)
    model = SGDClassifier()
    with pytest.raises(ValueError, match="classes must be given in the first call"):
        model.partial_fit(X, y)
    with pytest.raises(ValueError, match=r"not among the classes \[0, 1\]: \[2\]"):
        model.partial_fit(X, y, classes=[0, 1])
    assert not hasattr(model, "classes_")
    model.partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(
        ValueError, match=r"classes must stay as in the first call .*\[0, 1, 2, 3\]"
    ):
        model.partial_fit(X, y, classes=[0, 1, 2, 3])
    with pytest.raises(ValueError, match="compute_class_weight"):
        SGDClassifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="early_stopping must be False"):
        SGDClassifier(early_stopping=True).partial_fit(X, y, classes=[0, 1, 2])


def test_divergence_names_a_rate_that_holds():
    X, y, _ = problem(3)
    for weights in (None, {0: 50.0}):
        # Seeded: near the largest rate, one order of rows in twenty ends above its first loss.
        model = SGDClassifier(
            learning_rate="constant", eta0=3.0, class_weight=weights, random_state=0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(ValueError, match="rate that holds on these rows is") as caught:
                model.fit(X, y)
        rate = float(str(caught.value).split("eta0=")[-1].split(")")[0])
        model.set_params(eta0=rate, tol=None, max_iter=30).fit(X, y)
        assert model.loss_curve_[-1] <= model.loss_curve_[0]


@pytest.mark.parametrize("model", BOTH)
def test_failed_fit_leaves_no_trace(model):
    X, y, _ = problem(3)
    fitted = model().fit(X, y)
    before = pickle.dumps(fitted)
    late = np.where(np.arange(len(X))[:, None] == len(X) - 1, np.inf, X)
    for rows, targets in ((X[:, :3], np.zeros(150)), (late, y), (X, y[:-1])):
        with pytest.raises(ValueError):  # noqa: PT011
            fitted.fit(rows, targets)
        assert pickle.dumps(fitted) == before


def test_regressor_of_the_classifier_is_public():
    """LeastSquaresClassifier passes on all parameters of LeastSquaresRegressor."""
    assert set(LeastSquaresRegressor().get_params()) <= set(LeastSquaresClassifier().get_params())
