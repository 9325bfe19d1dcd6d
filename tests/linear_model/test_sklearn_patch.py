"""`fastlsgd.sklearn`: the same results as scikit-learn's classes, and the patch."""

from __future__ import annotations

import contextlib
import copy
import doctest
import io
import logging
import pickle
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import sklearn
import sklearn.linear_model as theirs_module
from scipy import sparse
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastlsgd
import fastlsgd.sklearn as ours_module
from fastlsgd.sklearn import _sgd

NAMES = [name for name in ours_module.__all__ if "sklearn" not in name]
TIGHT = {"tol": 1e-12, "max_iter": 100_000}
SMALL_RATES = {
    "loss": "squared_error",
    "learning_rate": "invscaling",
    "eta0": 0.01,
    "shuffle": False,
}

# Parameters and types of attributes have changed since 1.6: RidgeCV's `alpha_` was a NumPy number.
of_newest = pytest.mark.skipif(
    tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 9),
    reason="compares parameters and types with those of scikit-learn 1.9",
)


def rows(n=120, d=7, targets=None, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * np.logspace(-1, 1, d) + 3.0
    shape = d if targets is None else (d, targets)
    y = X @ (rng.normal(size=shape) * (rng.random(shape) < 0.7)) + 2.0
    return X, y + 0.5 * rng.normal(size=y.shape), rng.uniform(0.2, 3.0, n)


@pytest.fixture(autouse=True)
def few_rows_are_ours(monkeypatch):
    monkeypatch.setattr(_sgd, "LITTLE_WORK", 0)


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, logger="fastlsgd.sklearn")
    return caplog


def reason_of(log) -> str:
    """Return the last message, which tells who fitted the model."""
    return log.messages[-1]


def assert_same(ours, theirs, names=("coef_", "intercept_"), rtol=1e-6):
    for name in names:
        a, b = getattr(ours, name), getattr(theirs, name)
        assert np.shape(a) == np.shape(b), name
        assert type(a) is type(b), name
        assert getattr(a, "dtype", None) == getattr(b, "dtype", None), name
        scale = max(1.0, float(np.abs(b).max()))
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale, err_msg=name)


CASES = [
    ("LinearRegression", {}, ("rank_", "singular_")),
    ("LinearRegression", {"fit_intercept": False}, ("rank_", "singular_")),
    ("LinearRegression", {"positive": True}, ()),
    ("Ridge", {"alpha": 2.5}, ()),
    ("Ridge", {"alpha": np.array([0.3]), "fit_intercept": False}, ()),
    ("RidgeCV", {"alphas": (0.1, 30.0, 1.0)}, ("alpha_", "best_score_")),
    ("RidgeCV", {"alphas": 0.7, "fit_intercept": False}, ("alpha_", "best_score_")),
    ("Lasso", {"alpha": 0.2, **TIGHT}, ()),
    ("ElasticNet", {"alpha": 0.2, "l1_ratio": 0.7, "positive": True, **TIGHT}, ()),
    ("ElasticNet", {"alpha": 0.05, "fit_intercept": False, **TIGHT}, ()),
    ("LassoCV", {"cv": 3, "alphas": 20, **TIGHT}, ("alpha_", "alphas_", "mse_path_")),
    (
        "ElasticNetCV",
        {"l1_ratio": [0.9, 0.5], "alphas": [0.1, 0.5, 0.01], "fit_intercept": False, **TIGHT},
        ("alpha_", "alphas_", "l1_ratio_", "mse_path_"),
    ),
    (
        "LassoCV",
        {"positive": True, "alphas": 10, "eps": 0.01, **TIGHT},
        ("alpha_", "alphas_", "mse_path_"),
    ),
    ("SGDRegressor", {"alpha": 1e-3, **SMALL_RATES, "eta0": 1e-4}, ("n_iter_", "t_")),
    ("RidgeClassifier", {"alpha": 3.0, "class_weight": "balanced"}, ("classes_",)),
    ("RidgeClassifierCV", {}, ("alpha_", "best_score_", "classes_")),
    ("SGDClassifier", {**SMALL_RATES, "eta0": 1e-4}, ("n_iter_", "t_", "classes_")),
]


@of_newest
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("name", "parameters", "attributes"), CASES)
def test_results_are_those_of_scikit_learn(name, parameters, attributes, weighted, log):
    X, y, s = rows()
    targets = [y]
    if "Classifier" in name:
        targets = [y > np.median(y), np.digitize(y, np.quantile(y, [0.3, 0.6]))]
    if name == "SGDClassifier":
        del targets[1]  # each of several classes stops by itself
    for target in targets:
        args = (X, target, s) if weighted else (X, target)
        if weighted and name.startswith("SGD"):
            args = (X, target, None, None, s)
        ours = getattr(ours_module, name)(**parameters).fit(*args)
        assert reason_of(log) == f"{name}.fit: by fastlsgd"
        theirs = getattr(theirs_module, name)(**parameters).fit(*args)
        assert isinstance(ours, type(theirs))
        assert_same(ours, theirs, ("coef_", "intercept_", *attributes))
        fitted = {key for key in vars(theirs) if key.endswith("_") and key[0] != "_"}
        assert fitted <= set(vars(ours))
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "parameters", "columns"),
    [
        *((name, {}, t) for name in ("LinearRegression", "Ridge", "RidgeCV") for t in (1, 3)),
        ("Ridge", {"alpha": [2.0, 2.0, 2.0]}, 3),
        ("Ridge", {"alpha": np.array([0.3, 7.0, 0.0])}, 3),
        ("Ridge", {"alpha": [0.3, 7.0], "fit_intercept": False}, 2),
    ],
)
def test_many_targets(name, parameters, columns, log):
    X, y, s = rows(targets=columns)
    ours = getattr(ours_module, name)(**parameters).fit(X, y, s)
    assert reason_of(log) == f"{name}.fit: by fastlsgd"
    assert_same(ours, getattr(theirs_module, name)(**parameters).fit(X, y, s))


@of_newest
@pytest.mark.parametrize("name", ["LinearRegression", "Ridge", "RidgeCV", "Lasso", "ElasticNet"])
def test_float32_stays_float32(name, log):
    X, y, _ = rows()
    X = X.astype(np.float32)
    ours = getattr(ours_module, name)().fit(X, y)
    assert reason_of(log) == f"{name}.fit: by fastlsgd"
    assert_same(ours, getattr(theirs_module, name)().fit(X, y), rtol=2e-3)
    assert ours.predict(X).dtype == np.float32


@of_newest
@pytest.mark.parametrize("name", ["LinearRegression", "Ridge", "RidgeCV", "Lasso", "LassoCV"])
@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix])
def test_sparse(name, kind, log):
    X, y, _ = rows()
    X[np.random.default_rng(1).random(X.shape) < 0.6] = 0.0
    ours = getattr(ours_module, name)().fit(kind(X), y)
    assert reason_of(log) == f"{name}.fit: by fastlsgd"
    parameters = {"Lasso": TIGHT, "LassoCV": TIGHT}.get(name, {})
    theirs = getattr(theirs_module, name)(**parameters).fit(X, y)
    assert_same(ours, theirs)


def test_wide_ridge(log):
    X, y, s = rows(n=20, d=50)
    for name in ("Ridge", "RidgeCV"):
        ours = getattr(ours_module, name)().fit(X, y, s)
        assert reason_of(log) == f"{name}.fit: by fastlsgd"
        assert_same(ours, getattr(theirs_module, name)().fit(X, y, s))


@pytest.mark.parametrize("weighted", [False, True])
def test_ridge_cv_equals_refits_where_formulas_fail(weighted, log):
    """With columns of scales 1e-3 to 1e3, scikit-learn's score is wrong by up to a factor of 1e6.

    Rows left out are of weight zero in a refit, which keeps the penalty on the sum over the rows.
    """
    X, y, s = rows(n=40, d=6)
    X[:, 5] = np.arange(40) == 7  # a column that one row alone determines
    X *= np.logspace(-3, 3, 6)
    s = s if weighted else np.ones(40)
    for alpha in (1e-10, 1e-3, 10.0):
        errors = []
        for i in range(40):
            without = s * (np.arange(40) != i)
            refit = ours_module.Ridge(alpha=alpha).fit(X, y, without)
            errors.append(s[i] * (y[i] - refit.predict(X[[i]])[0]) ** 2)
        found = ours_module.RidgeCV(alphas=[alpha]).fit(X, y, s)
        assert reason_of(log) == "RidgeCV.fit: by fastlsgd"
        np.testing.assert_allclose(found.best_score_, -np.mean(errors), rtol=1e-8)


def test_multilabel_classifier(log):
    X, y, _ = rows(targets=3)
    labels = (y > np.median(y, axis=0)).astype(int)
    for name in ("RidgeClassifier", "RidgeClassifierCV"):
        ours = getattr(ours_module, name)().fit(X, labels)
        assert reason_of(log) == f"{name}.fit: by fastlsgd"
        theirs = getattr(theirs_module, name)().fit(X, labels)
        assert_same(ours, theirs)
        np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


FALLBACKS = [
    ("LinearRegression", {}, {"n": 5}, "more rows than columns"),
    ("LinearRegression", {"tol": 0.5}, {}, "dependent"),
    ("Ridge", {"solver": "sag", "random_state": 0}, {}, "solver='sag'"),
    ("Ridge", {"solver": "svd"}, {}, "solver='svd'"),
    ("Ridge", {"alpha": [1.0, -2.0]}, {"targets": 2}, "alpha must be numbers >= 0"),
    ("RidgeCV", {"cv": 3}, {}, "cv is given"),
    ("RidgeCV", {"scoring": "r2"}, {}, "scoring"),
    ("RidgeCV", {"store_cv_results": True}, {}, "store_cv_results"),
    ("RidgeCV", {"alpha_per_target": True}, {"targets": 2}, "alpha_per_target"),
    ("Lasso", {"max_iter": 100}, {}, "max_iter"),
    ("Lasso", {"warm_start": True}, {}, "warm_start"),
    ("Lasso", {}, {"targets": 2}, "several targets"),
    ("ElasticNet", {"l1_ratio": 0.0, "alpha": 10.0}, {}, "l1_ratio"),
    ("LassoCV", {"verbose": 1, "alphas": 3, "tol": 0.1}, {}, "verbose"),
    ("SGDRegressor", {"random_state": 0, "eta0": 1e-4}, {}, "random_state"),
    ("SGDRegressor", {"loss": "huber", "eta0": 1e-4}, {}, "loss='huber'"),
    ("SGDRegressor", {"average": True, "eta0": 1e-4}, {}, "average"),
]


@of_newest
@pytest.mark.parametrize(("name", "parameters", "shape", "reason"), FALLBACKS)
@pytest.mark.filterwarnings("ignore")
def test_what_is_not_supported_is_scikit_learns_to_the_bit(name, parameters, shape, reason, log):
    X, y, _ = rows(**shape)
    ours = getattr(ours_module, name)(**parameters).fit(X, y)
    assert reason_of(log).startswith(f"{name}.fit: by scikit-learn, since ")
    assert reason in reason_of(log)
    if name == "SGDRegressor" and "random_state" not in parameters:
        return
    theirs = getattr(theirs_module, name)(**parameters).fit(X, y)
    np.testing.assert_array_equal(ours.coef_, theirs.coef_)


def test_sgd_of_few_rows_is_scikit_learns(monkeypatch, log):
    X, y, _ = rows()
    monkeypatch.setattr(_sgd, "LITTLE_WORK", X.shape[0] * (64 + X.shape[1]))
    for name, target in (("SGDRegressor", y), ("SGDClassifier", y > 0.0)):
        parameters = {**SMALL_RATES, "eta0": 1e-4, "random_state": 0}
        ours = getattr(ours_module, name)(**parameters).fit(X, target)
        assert "quicker" in reason_of(log)
        theirs = getattr(theirs_module, name)(**parameters).fit(X, target)
        np.testing.assert_array_equal(ours.coef_, theirs.coef_)
        getattr(ours_module, name)(**parameters).fit(np.vstack([X, X]), np.append(target, target))
        assert reason_of(log) == f"{name}.fit: by fastlsgd"


def test_dependent_columns_give_scikit_learns_solution():
    X, y, _ = rows()
    X = np.hstack([X, X[:, :2]])
    ours, theirs = ours_module.LinearRegression(), theirs_module.LinearRegression()
    assert_same(ours.fit(X, y), theirs.fit(X, y), ("coef_", "intercept_", "rank_", "singular_"))


@pytest.mark.parametrize("name", NAMES)
def test_errors_are_those_of_scikit_learn(name):
    X, y, _ = rows()
    y = y > 0 if "Classifier" in name else y
    bad = X.copy()
    bad[3, 2] = np.nan
    for args in [(bad, y), (X[:, 0], y), (X, y[:-1]), (X, None)]:
        messages = []
        for module in (ours_module, theirs_module):
            with pytest.raises(ValueError, match=r".") as caught:
                getattr(module, name)().fit(*args)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]


def test_linear_regression_takes_no_strings_as_scikit_learns():
    for X in (np.array([["1"], ["2"], ["4"]]), [["1"], ["2"], ["4"]]):
        for module in (ours_module, theirs_module):
            with pytest.raises(ValueError, match="strings"):
                module.LinearRegression().fit(X, [1.0, 2.0, 3.0])
    X = np.array([[1], [2], [4]], np.int8)
    assert ours_module.LinearRegression().fit(X, [1.0, 2.0, 3.0]).coef_.dtype == np.float64


@pytest.mark.parametrize("name", NAMES)
def test_parameters_clone_and_pickle(name):
    ours, theirs = getattr(ours_module, name)(), getattr(theirs_module, name)()
    assert ours.get_params() == theirs.get_params()
    assert repr(ours) == repr(theirs)
    X, y, _ = rows()
    y = y > np.median(y) if "Classifier" in name else y
    fitted = clone(ours).fit(StandardScaler().fit_transform(X), y)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.coef_, fitted.coef_)
    with pytest.raises(ValueError, match="fit_intercept"):
        ours.set_params(fit_intercept="perhaps").fit(X, y)


def test_partial_fit_goes_on_from_fit():
    X, y, _ = rows()
    X = StandardScaler().fit_transform(X)
    found = []
    for module in (ours_module, theirs_module):
        model = module.SGDRegressor(shuffle=False, random_state=0).fit(X, y)
        found.append(model.partial_fit(X, y))
    assert_same(*found, ("coef_", "intercept_", "t_"))


def test_inside_pipelines_and_searches():
    X, y, _ = rows()
    with ours_module.patched_sklearn():
        model = make_pipeline(StandardScaler(), theirs_module.Ridge())
        search = GridSearchCV(model, {"ridge__alpha": [0.1, 1.0]}).fit(X, y)
    assert type(search.best_estimator_[-1]) is ours_module.Ridge


# ----------------------------------------------------------------------------------- the patch


def test_patch_and_back():
    own = {name: getattr(theirs_module, name) for name in NAMES}
    try:
        fastlsgd.patch_sklearn("Ridge")
        assert theirs_module.Ridge is ours_module.Ridge
        assert theirs_module.Lasso is own["Lasso"]
        with ours_module.patched_sklearn(["Lasso"]):
            assert theirs_module.Lasso is ours_module.Lasso
        assert theirs_module.Lasso is own["Lasso"]
        assert theirs_module.Ridge is ours_module.Ridge
        fastlsgd.patch_sklearn()
        fastlsgd.patch_sklearn()
        for name in NAMES:
            assert getattr(theirs_module, name) is getattr(ours_module, name)
            assert getattr(sys.modules[own[name].__module__], name) is getattr(ours_module, name)
    finally:
        fastlsgd.unpatch_sklearn()
    for name in NAMES:
        assert getattr(theirs_module, name) is own[name]
        assert getattr(sys.modules[own[name].__module__], name) is own[name]


def test_blocks_that_overlap_in_threads_leave_no_patch():
    own, block = theirs_module.Ridge, ours_module.patched_sklearn
    first, second = block("Ridge"), block("Ridge")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert theirs_module.Ridge is ours_module.Ridge
    second.__exit__(None, None, None)
    assert theirs_module.Ridge is own


def test_estimators_from_before_the_patch_can_be_pickled():
    X, y, _ = rows()
    model = theirs_module.Ridge().fit(X, y)
    plain = pickle.dumps(model)
    with ours_module.patched_sklearn("Ridge"):
        data = pickle.dumps(model)
        assert type(copy.deepcopy(model)) is type(model)
    again = pickle.loads(data)
    assert type(again) is type(model)
    np.testing.assert_array_equal(again.coef_, model.coef_)
    assert pickle.dumps(model) == plain  # no trace of the patch is left


def test_unknown_names():
    with pytest.raises(ValueError, match="got 'Huber'"):
        fastlsgd.patch_sklearn(["Ridge", "Huber"])
    assert theirs_module.Ridge is not ours_module.Ridge


def test_folds_of_ridge_cv_are_fitted_by_fastlsgd(log):
    X, y, _ = rows()
    theirs = theirs_module.RidgeCV(cv=3).fit(X, y)
    with ours_module.patched_sklearn():
        ours = theirs_module.RidgeCV(cv=3).fit(X, y)
    assert log.messages.count("Ridge.fit: by fastlsgd") == 3 * 3 + 1
    assert ours.alpha_ == theirs.alpha_
    np.testing.assert_allclose(ours.best_score_, theirs.best_score_, rtol=1e-9)


@pytest.mark.parametrize("as_module", [False, True])
def test_command_runs_a_script(tmp_path, as_module):
    program = """
        import sys
        import neighbour
        from sklearn.linear_model import Ridge
        print(__name__, sys.argv[1:], Ridge.__module__)
        Ridge().fit([[0.0], [1.0]], [0.0, 1.0])
    """
    (tmp_path / "program.py").write_text(textwrap.dedent(program))
    (tmp_path / "neighbour.py").write_text("")
    chosen = ["-m", "program"] if as_module else [str(tmp_path / "program.py")]
    done = subprocess.run(
        [sys.executable, "-m", "fastlsgd.sklearn", "--verbose", *chosen, "a", "--b"],
        capture_output=True,
        text=True,
        cwd=tmp_path if as_module else None,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(" ", 1)[0] == "__main__"
    assert "['a', '--b'] fastlsgd.sklearn._ridge" in done.stdout
    assert "Ridge.fit: by fastlsgd" in done.stderr


def test_the_patch_imports_no_solver():
    code = (
        "import sys, sklearn.linear_model, fastlsgd; fastlsgd.patch_sklearn();"
        "print([m for m in sys.modules if m.startswith(('fastlsgd.solvers', 'numba'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def printed_by_examples(text: str) -> str:
    """Run the examples of a docstring, and return all that they print."""
    printed, names = io.StringIO(), {}
    with contextlib.redirect_stdout(printed):
        for example in doctest.DocTestParser().get_examples(text):
            exec(compile(example.source, "<example>", "single"), names)
    return printed.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_documented_examples_of_scikit_learn_print_the_same(name):
    text = getattr(theirs_module, name).__doc__
    if "Lasso" in name or "Elastic" in name:  # whose own results end at their tol of 1e-4
        text = re.sub(rf"\b{name}\(", f"{name}(tol=1e-12, max_iter=100000, ", text)
    before = printed_by_examples(text)
    with ours_module.patched_sklearn():
        after = printed_by_examples(text)
    number = r"-?\d+(?:\.\d*)?(?:e[-+]?\d+)?"
    words = [re.sub(r"\s+", "", re.sub(number, "#", out)) for out in (after, before)]
    assert words[0] == words[1] != ""
    a, b = (np.array(re.findall(number, out), float) for out in (after, before))
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_metadata_routing_falls_back(log):
    X, y, _ = rows()
    with sklearn.config_context(enable_metadata_routing=True):
        ours_module.RidgeCV().fit(X, y)
    assert "metadata" in reason_of(log)


@pytest.mark.parametrize("name", NAMES)
def test_a_sparse_structure_that_lies_is_refused_not_handed_on(name):
    """scikit-learn's code follows the indices, and ended the process."""
    X = sparse.csr_array(np.random.default_rng(0).normal(size=(20, 3)))
    X.indices[0] = 10**9
    with pytest.raises(ValueError, match="CSR column indices must lie in"):
        getattr(ours_module, name)().fit(X, np.arange(20) % 2)
