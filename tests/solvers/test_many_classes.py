"""Many classes: weights from sums by label, checked by combinations of the targets."""

import tracemalloc

import numpy as np
import pytest
from fits import close

from fastlsgd import LeastSquaresClassifier, LeastSquaresRegressor
from fastlsgd.solvers import many_classes

K = 20


def problem(n=900, d=12, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) + 2.0
    labels = np.concatenate([np.arange(K), rng.integers(0, K, n - K)])
    X[:, 0] += 0.3 * labels
    return X, labels, rng


def counted(monkeypatch):
    """A list that gets what each call of `solve_classes` returns."""
    found, solve = [], many_classes.solve_classes

    def call(*args, **kwargs):
        found.append(solve(*args, **kwargs))
        return found[-1]

    monkeypatch.setattr("fastlsgd.linear_model._least_squares_classifier.solve_classes", call)
    return found


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int8"])
def test_weights_are_those_of_dense_targets(monkeypatch, dtype, weighted, fit_intercept):
    X, labels, rng = problem()
    X, s = (3.0 * X).astype(dtype), None
    if weighted:
        s = rng.uniform(0.1, 3.0, len(X))
        s[5::7] = 0.0
    found = counted(monkeypatch)
    model = LeastSquaresClassifier(alpha=1e-3, fit_intercept=fit_intercept).fit(X, labels, s)
    assert found[0] is not None
    targets = np.where(labels[:, None] == np.arange(K), 1.0, -1.0)
    A = X.astype(np.float64)
    expected = LeastSquaresRegressor(alpha=1e-3, fit_intercept=fit_intercept).fit(A, targets, s)
    tolerance = 1e-6 if dtype == "float32" else 1e-12
    close(model.coef_, expected.coef_, tolerance)
    close(model.intercept_, expected.intercept_, tolerance)
    close(model.residual_norm_, expected.residual_norm_, 1e-10)
    assert model.solver_ == "gram"
    assert model.loss_curve_[-1] == pytest.approx(expected.loss_curve_[-1], rel=1e-10)
    assert np.mean(model.predict(X) == labels) == np.mean(
        (A @ expected.coef_.T + expected.intercept_).argmax(axis=1) == labels
    )


def test_labels_of_any_kind_and_weights_of_classes(monkeypatch):
    X, labels, _ = problem()
    names = np.array([f"class {label:02d}" for label in labels])
    found = counted(monkeypatch)
    model = LeastSquaresClassifier(class_weight="balanced").fit(X, names)
    assert found[0] is not None
    count = np.bincount(labels)
    targets = np.where(labels[:, None] == np.arange(K), 1.0, -1.0)
    s = len(X) / (K * count[labels])
    close(model.coef_, LeastSquaresRegressor().fit(X, targets, s).coef_, 1e-12)
    assert set(model.predict(X)) <= set(names)


def test_one_class_that_is_wrong_shows_in_the_combinations(monkeypatch):
    X, labels, _ = problem()
    sums = many_classes._class_sums
    expected = LeastSquaresClassifier().fit(X, labels).coef_

    def spoilt(system, targets):
        out = sums(system, targets)
        out[7] *= 1.0 + 1e-7
        return out

    monkeypatch.setattr(many_classes, "_class_sums", spoilt)
    found = counted(monkeypatch)
    model = LeastSquaresClassifier().fit(X, labels)
    assert found == [None]  # and dense targets took over
    close(model.coef_, expected, 1e-12)


def test_columns_that_nearly_depend_are_left_to_other_solvers(monkeypatch):
    X, labels, rng = problem()
    X[:, 1] = X[:, 0] + 1e-7 * rng.normal(size=len(X))
    found = counted(monkeypatch)
    model = LeastSquaresClassifier().fit(X, labels)
    assert found == [None]
    Q, _ = np.linalg.qr(np.column_stack([X, np.ones(len(X))]))
    targets = np.where(labels[:, None] == np.arange(K), 1.0, -1.0)
    fitted = X @ model.coef_.T + model.intercept_
    np.testing.assert_allclose(fitted, Q @ (Q.T @ targets), atol=1e-8)


def test_memory_is_that_of_the_weights():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 40))
    labels = rng.integers(0, 1500, 20_000)  # dense targets would take 240 MB
    tracemalloc.start()
    LeastSquaresClassifier().fit(X, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6


@pytest.mark.parametrize(("dtype", "count"), [("float32", 60), ("float64", 520)])
def test_scores_of_many_classes_are_those_of_the_kernel(dtype, count):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(700, 9)).astype(dtype)
    coef, intercept = rng.normal(size=(count, 9)), rng.normal(size=count)
    truth = X.astype(np.float64) @ coef.T + intercept
    for rows in (X, X[::-2], np.asfortranarray(X)):
        found = many_classes.scores_by_blas(rows, coef, intercept)
        assert found is not None
        assert found.dtype == dtype
    tol = 4e-6 if dtype == "float32" else 1e-14
    close(found, truth, tol)
    assert many_classes.scores_by_blas(X, coef[:40], intercept[:40]) is None


def test_scores_that_cancel_are_left_to_the_kernel():
    rng = np.random.default_rng(0)
    X, labels = rng.normal(size=(600, 3)).astype(np.float32), np.arange(600) % 60
    model = LeastSquaresClassifier().fit(X, labels)
    near = model.decision_function(X)
    far = model.intercept_ - 1e5 * model.coef_.sum(axis=1).astype(np.float64)
    assert many_classes.scores_by_blas(X + np.float32(1e5), model.coef_, far) is None
    close(near, X.astype(np.float64) @ model.coef_.T + model.intercept_, 1e-6)
    X[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        model.decision_function(X)
