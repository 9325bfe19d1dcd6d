"""Estimators fitted to moments give what they give for the rows, or say that they cannot."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import PredefinedSplit
from small_problems import few

from fastlsgd import LeastSquaresClassifier, LeastSquaresCV, LeastSquaresRegressor, Moments

FACTORS = "gram", "qr"
PENALTIES = [
    {},
    {"alpha": 0.1},
    {"alpha": 0.1, "l1_ratio": 1.0},
    {"alpha": [1.0, 0.1, 0.01], "l1_ratio": 0.5},
    {"positive": True},
    {"alpha": [0.3, 0.1], "positive": True},
    {"fit_intercept": False},
    {"alpha": 0.05, "l1_ratio": 0.7, "fit_intercept": False},
    {"solver": "qr"},
    {"solver": "nesterov", "alpha": 0.1, "tol": 1e-13},
]


def data(seed: int = 0, n: int = 200, d: int = 5, t: int = 1, dtype=np.float64):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * 10.0 ** rng.integers(-3, 4, size=d) + rng.normal(size=d)
    y = X @ rng.normal(size=(d, t)) / np.abs(X).max() + rng.normal(size=(n, t))
    y = y[:, 0] if t == 1 else y
    return X.astype(dtype), y.astype(dtype), rng.integers(0, 3, size=n).astype(dtype)


def parts(X, y, s=None, *, factor="gram", pieces=3) -> list[Moments]:
    """The moments of some folds of the rows."""
    return [
        Moments.from_data(X[k::pieces], y[k::pieces], None if s is None else s[k::pieces],
                          factor=factor)
        for k in range(pieces)
    ]  # fmt: skip


def assert_alike(found, expected, X, rtol: float = 1e-10) -> None:
    """The weights agree, in units in which all columns have the same size."""
    size = np.abs(X).max(axis=0)
    unit = np.abs(expected.coef_ * size).max()
    np.testing.assert_allclose(found.coef_ * size, expected.coef_ * size, rtol=0, atol=rtol * unit)
    np.testing.assert_allclose(found.intercept_, expected.intercept_, rtol=rtol, atol=rtol * unit)
    np.testing.assert_allclose(found.residual_norm_, expected.residual_norm_, rtol=1e-9)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("options", PENALTIES, ids=str)
@pytest.mark.parametrize("t", [1, 3])
def test_weights_are_those_of_the_rows(factor, options, t):
    X, y, s = data(t=t)
    model = LeastSquaresRegressor(**options).fit(X, y, s)
    found = clone(model).fit_moments(sum(parts(X, y, s, factor=factor)))
    assert_alike(found, model, X)
    if "alpha" in options and np.ndim(options["alpha"]):
        np.testing.assert_allclose(found.coef_path_, model.coef_path_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.loss_curve_[-1], model.loss_curve_[-1], rtol=1e-9)
    np.testing.assert_allclose(found.predict(X), model.predict(X), rtol=1e-9, atol=1e-9)
    assert found.n_features_in_ == 5


@pytest.mark.parametrize("factor", FACTORS)
@few(25)
@given(
    seed=st.integers(0, 2**20),
    n=st.integers(12, 80),
    pieces=st.integers(1, 12),
    alpha=st.sampled_from([0.0, 1e-6, 0.1, 10.0]),
    l1_ratio=st.sampled_from([0.0, 0.5, 1.0]),
    fit_intercept=st.booleans(),
)
def test_random_problems(factor, seed, n, pieces, alpha, l1_ratio, fit_intercept):
    X, y, s = data(seed, n)
    s += 0.5
    model = LeastSquaresRegressor(alpha=alpha, l1_ratio=l1_ratio, fit_intercept=fit_intercept)
    whole = sum(parts(X, y, s, factor=factor, pieces=pieces))
    found = clone(model).fit_moments(whole)
    model.fit(X, y, s)
    # The rounding of the sums enters with the square of the condition.
    rounding = 1e-14 * (found.condition_ if factor == "qr" else found.condition_**2)
    assert_alike(found, model, X, 1e-10 + rounding)


@pytest.mark.parametrize("factor", FACTORS)
def test_columns_far_from_zero_have_the_weights_of_extended_precision(factor):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 4)) + 1e8
    y = rng.normal(size=1000) + (X - 1e8) @ np.arange(1.0, 5.0)
    A, b = X.astype(np.longdouble), y.astype(np.longdouble)
    A, b = A - A.mean(axis=0), b - b.mean()
    G, c = A.T @ A, A.T @ b
    w = np.linalg.solve(G.astype(float), c.astype(float)).astype(np.longdouble)
    for _ in range(3):  # refined in extended precision
        w += np.linalg.solve(G.astype(float), (c - G @ w).astype(float))
    for pieces in (1, 2, 37, 1000):
        tree = parts(X, y, factor=factor, pieces=pieces)
        order = np.random.default_rng(pieces)
        while len(tree) > 1:
            i, j = sorted(order.choice(len(tree), 2, replace=False))
            tree = [part for k, part in enumerate(tree) if k not in (i, j)] + [tree[i] + tree[j]]
        model = LeastSquaresRegressor().fit_moments(tree[0])
        assert float(np.abs(model.coef_ - w).max()) < 1e-9


def test_a_summary_is_that_of_the_rows():
    X, y, s = data()
    for factor in FACTORS:
        expected = LeastSquaresRegressor().fit(X, y, s).summary()
        found = LeastSquaresRegressor().fit_moments(sum(parts(X, y, s, factor=factor))).summary()
        for name in (
            "coef", "standard_error", "t", "confidence_interval", "sigma", "r_squared",
            "f_statistic", "log_likelihood", "aic", "bic", "n_samples", "df_residual",
        ):  # fmt: skip
            np.testing.assert_allclose(
                getattr(found, name), getattr(expected, name), rtol=1e-8, err_msg=name
            )


def test_what_a_gram_matrix_cannot_tell_is_refused():
    X, y, _ = data(d=3)
    y = X[:, 0] + 0.1 * y
    near = np.column_stack([X, X[:, 0] * (1.0 + 1e-9 * np.arange(200.0))])
    moments = Moments.from_data(near, y)
    with pytest.raises(ValueError, match="depend on each other as far as X\\^T X can tell"):
        LeastSquaresRegressor().fit_moments(moments)
    by_rows = LeastSquaresRegressor(solver="qr").fit(near, y)
    by_factor = LeastSquaresRegressor().fit_moments(Moments.from_data(near, y, factor="qr"))
    np.testing.assert_allclose(by_factor.predict(near), by_rows.predict(near), rtol=1e-6)
    np.testing.assert_allclose(by_factor.coef_, by_rows.coef_, rtol=1e-5)
    model = LeastSquaresRegressor(alpha=0.1 * np.square(X).mean())
    np.testing.assert_allclose(
        model.fit_moments(moments).coef_, clone(model).fit(near, y).coef_, rtol=1e-9
    )
    rng = np.random.default_rng(0)
    some = np.column_stack([X, X[:, 0] + 1e-5 * X[:, 0].std() * rng.normal(size=200)])
    with pytest.warns(ConvergenceWarning, match="may be off by"):
        LeastSquaresRegressor().fit_moments(Moments.from_data(some, y))
    nearer = np.column_stack([X, X[:, 0] * (1.0 + 1e-12 * np.arange(200.0))])
    with pytest.warns(ConvergenceWarning, match=r"may be off by [^:]*: penalise the weights"):
        LeastSquaresRegressor().fit_moments(Moments.from_data(nearer, y, factor="qr"))


def test_dependent_columns_have_least_norm_by_qr():
    X, y, _ = data(d=3)
    twice = np.column_stack([X, X[:, 0]])
    for t in (y, np.column_stack([y, 2 * y])):
        found = LeastSquaresRegressor().fit_moments(Moments.from_data(twice, t, factor="qr"))
        expected = LeastSquaresRegressor(solver="qr").fit(twice, t)
        np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-8)


def test_constant_columns_have_no_weight():
    X, y, _ = data(d=3)
    X = np.column_stack([X, np.full(200, 0.1)])
    for factor in FACTORS:
        model = LeastSquaresRegressor().fit_moments(sum(parts(X, y, factor=factor)))
        assert model.coef_[3] == 0.0
        np.testing.assert_allclose(model.coef_[:3], LeastSquaresRegressor().fit(X, y).coef_[:3])


def test_names_and_dtypes_are_those_of_the_rows():
    pandas = pytest.importorskip("pandas")
    X, y, _ = data(dtype=np.float32)
    frame = pandas.DataFrame(X, columns=list("abcde"))
    model = LeastSquaresRegressor().fit_moments(Moments.from_data(frame, y))
    assert list(model.feature_names_in_) == list("abcde")
    expected = LeastSquaresRegressor().fit(frame, y)
    assert model.coef_.dtype == np.float32
    np.testing.assert_allclose(model.predict(frame), expected.predict(frame), atol=1e-5)
    assert model.predict(frame).dtype == np.float32


def test_bad_arguments_leave_the_estimator_as_it_was():
    X, y, _ = data()
    model = LeastSquaresRegressor().fit(X, y)
    before = dict(vars(model))
    for moments, message in (
        (X, "must be Moments"),
        (Moments(), "are empty"),
        (Moments.from_data(X, y).select([0]) - Moments(), None),
    ):
        if message is None:
            continue
        with pytest.raises(ValueError, match=message):
            model.fit_moments(moments)
    with pytest.raises(ValueError, match="alpha must be"):
        LeastSquaresRegressor(alpha=-1).fit_moments(Moments.from_data(X, y))
    assert {name: id(value) for name, value in vars(model).items()} == {
        name: id(value) for name, value in before.items()
    }


# --------------------------------------------------------------------------- cross-validation


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("options", [{}, {"l1_ratio": 0.5}, {"positive": True},
                                     {"fit_intercept": False}], ids=str)  # fmt: skip
@pytest.mark.parametrize("t", [1, 2])
def test_folds_of_moments_are_those_of_rows(factor, options, t):
    X, y, s = data(n=120, t=t)
    s += 0.5
    folds = PredefinedSplit(np.arange(120) % 4)
    alphas = [10.0, 0.1, 0.001]
    model = LeastSquaresCV(alphas=alphas, cv=folds, **options).fit(X, y, s)
    found = LeastSquaresCV(alphas=alphas, **options).fit_moments(
        parts(X, y, s, factor=factor, pieces=4)
    )
    np.testing.assert_allclose(found.mse_path_, model.mse_path_, rtol=1e-8)
    assert found.alpha_ == model.alpha_
    assert_alike(found, model, X)
    for default in (LeastSquaresCV(cv=folds, **options),):
        default.fit(X, y, s)
        found = LeastSquaresCV(**options).fit_moments(parts(X, y, s, factor=factor, pieces=4))
        np.testing.assert_allclose(found.alphas_, default.alphas_, rtol=1e-9)


def test_folds_of_which_one_is_far_from_the_others():
    """Sums of all other folds are added up: subtraction would leave rounding."""
    X, y, _ = data(n=90, d=2)
    X[::3] = 1e7 * X[::3] + 1e9
    folds = PredefinedSplit(np.arange(90) % 3)
    model = LeastSquaresCV(alphas=[1.0, 0.01], cv=folds).fit(X, y)
    found = LeastSquaresCV(alphas=[1.0, 0.01]).fit_moments(parts(X, y))
    np.testing.assert_allclose(found.mse_path_, model.mse_path_, rtol=1e-6)


def test_small_errors_of_folds_are_told_by_qr_only():
    X, _, _ = data(n=90)
    y = X @ np.arange(1.0, 6.0) + 1e-9 * np.random.default_rng(0).normal(size=90)
    alphas = [1e-20, 1e-22]
    with pytest.warns(UserWarning, match="their rounding shows"):
        LeastSquaresCV(alphas=alphas).fit_moments(parts(X, y))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = LeastSquaresCV(alphas=alphas).fit_moments(parts(X, y, factor="qr"))
    assert 1e-19 < model.mse_path_.max() < 1e-16


def test_errors_of_folds_that_cancelling_terms_of_predictions_hide_are_told():
    X, _, _ = data(n=90)
    X = (X - X.mean(axis=0)) / X.std(axis=0) + 1e7
    y = (X - 1e7) @ np.arange(1.0, 6.0) + 1e-3 * np.random.default_rng(0).normal(size=90)
    for factor in ("gram", "qr"):
        with pytest.warns(UserWarning, match="predictions themselves are rounded|told apart only"):
            LeastSquaresCV(alphas=[1e-9]).fit_moments(parts(X, y, factor=factor))


def test_a_lasso_without_an_intercept_sees_how_columns_far_from_zero_vary():
    """A Gram matrix about zero would hold 2 digits of that, and choose one column for all."""
    X, _, _ = data(n=90)
    X = (X - X.mean(axis=0)) / X.std(axis=0) + 1e7
    y = (X - 1e7) @ [2.0, -1.0, 3.0, -3.0, -1.0]
    model = LeastSquaresRegressor(alpha=0.01, l1_ratio=0.5, fit_intercept=False)
    with pytest.raises(ValueError, match="depend on each other as far as"):
        model.fit_moments(Moments.from_data(X, y))
    with pytest.warns(ConvergenceWarning, match="may be off"):
        model.fit_moments(Moments.from_data(X, y, factor="qr"))
    assert np.abs(model.predict(X) - y).max() < 0.2


@pytest.mark.parametrize(
    ("factor", "size", "options"),
    [("qr", 1e18, {}), ("gram", 1e10, {"alpha": 1.0, "l1_ratio": 1.0})],
)
def test_a_row_that_hides_the_others_is_told(factor, size, options):
    X, y, _ = data(n=90)
    model = LeastSquaresRegressor(**options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit_moments(Moments.from_data(X, y, factor=factor))
    X[7] *= size
    with pytest.warns(ConvergenceWarning, match="multiples of each other as far as"):
        model.fit_moments(Moments.from_data(X, y, factor=factor))


def test_what_needs_rows_says_so():
    X, y, _ = data()
    moments = Moments.from_data(X, y)
    for folds, message in (
        (moments, "leave-one-out errors can't be found"),
        ([moments], "two or more"),
        ([moments, X], r"moments\[1\] must be Moments"),
        ([moments, Moments.from_data(X[:, :2], y)], "2 features"),
    ):
        with pytest.raises(ValueError, match=message):
            LeastSquaresCV().fit_moments(folds)
    assert not hasattr(LeastSquaresCV(), "partial_fit")


# -------------------------------------------------------------------------------- partial_fit


@pytest.mark.parametrize("solver", ["auto", "qr"])
def test_partial_fit_is_fit_however_rows_are_cut(solver):
    X, y, s = data(n=120, t=2)
    model = LeastSquaresRegressor(alpha=0.1, solver=solver)
    expected = clone(model).fit(X, y, s)
    for cuts in ([60], [3, 4, 90], range(1, 120, 7)):
        part = clone(model)
        for rows in np.split(np.arange(120), cuts):
            part.partial_fit(X[rows], y[rows], s[rows])
            part = pickle.loads(pickle.dumps(part))
        assert_alike(part, expected, X)
    assert part._moments.factor == ("qr" if solver == "qr" else "gram")
    assert_alike(part.fit(X[:60], y[:60]), clone(model).fit(X[:60], y[:60]), X)
    part.partial_fit(X, y, s)  # anew after a fit
    assert_alike(part, expected, X)


def test_partial_fit_of_few_rows_has_least_norm():
    X, y, _ = data(n=40)
    model = LeastSquaresRegressor()
    with pytest.warns(ConvergenceWarning, match="least norm"):
        model.partial_fit(X[:4], y[:4])
    np.testing.assert_allclose(model.predict(X[:4]), y[:4], atol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.partial_fit(X[4:], y[4:])
    assert_alike(model, LeastSquaresRegressor().fit(X, y), X)


def test_partial_fit_without_weight_changes_nothing():
    X, y, _ = data(n=40)
    model = LeastSquaresRegressor().partial_fit(X, y, np.zeros(40))
    with pytest.raises(NotFittedError):
        model.predict(X)
    model.partial_fit(X, y)
    coef = model.coef_
    np.testing.assert_array_equal(model.partial_fit(X + 1, y, np.zeros(40)).coef_, coef)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("class_weight", [None, {0: 2.0, 1: 0.5, 2: 1.0}])
def test_a_classifier_in_parts(classes, class_weight):
    X, y, s = data(n=90)
    labels = np.digitize(y, np.quantile(y, np.arange(1, classes) / classes))
    labels = np.sort(labels)  # a part does not have all classes
    s += 0.5
    if class_weight is not None:
        class_weight = {label: class_weight[label] for label in range(classes)}
    whole = LeastSquaresClassifier(class_weight=class_weight).fit(X, labels, s)
    model = LeastSquaresClassifier(class_weight=class_weight)
    for rows in np.split(np.arange(90), [40, 50]):
        model.partial_fit(X[rows], labels[rows], classes=range(classes), sample_weight=s[rows])
    assert_alike(model, whole, X)
    np.testing.assert_array_equal(model.predict(X), whole.predict(X))
    np.testing.assert_array_equal(model.classes_, range(classes))


def test_a_classifier_refuses_what_parts_cannot_serve():
    X, y, _ = data(n=40)
    labels = (y > 0).astype(int)
    for call, message in (
        (lambda: LeastSquaresClassifier().partial_fit(X, labels), "classes must be given"),
        (lambda: LeastSquaresClassifier(class_weight="balanced").partial_fit(X, labels, [0, 1]),
         "'balanced' is not for partial_fit"),
        (lambda: LeastSquaresClassifier().partial_fit(X, labels + 1, [0, 1]), "not among"),
        (lambda: LeastSquaresClassifier().partial_fit(X, labels, [0, 1]).partial_fit(
            X, labels, [0, 2]), "must stay as in the first call"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            call()
