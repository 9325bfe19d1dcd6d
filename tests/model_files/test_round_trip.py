"""Saved and loaded estimators are the same to the bit, and files are written at once."""

import json
import os
import stat
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import make_multilabel_classification
from sklearn.model_selection import KFold

import fastlsgd
from fastlsgd import (
    LeastSquaresClassifier,
    LeastSquaresCV,
    LeastSquaresRegressor,
    SGDClassifier,
    SGDRegressor,
    SGDRegressorCV,
    load_model,
    optimizers,
    save_model,
)

SUFFIXES = (".json", ".safetensors")
# What a file does not keep, by docs/model_files.md; the binarizer is made anew for multilabel.
NOT_KEPT = ("_memory", "_y_exponents", "_seen", "_evidence", "_evidence_advice", "_label_binarizer")

rng = np.random.default_rng(0)
X = rng.normal(size=(120, 4)) * [1.0, 1e-3, 1e3, 1.0] + [0.0, 0.1, 5e3, -1.0]
y = X @ [1.0, 20.0, 3e-3, -2.0] + 7.0 + 0.1 * rng.normal(size=120)
Y = np.column_stack([y, -2.0 * y + X[:, 0]])
TWO = X[:, 0] > 0
THREE = np.array(["ash", "birch", "cherry"])[np.digitize(X[:, 0], [-0.5, 0.5])]
ADAM = optimizers.Adam(beta2=0.98)
SCHEDULE = optimizers.Cosine()

FITS = {
    "exact": (LeastSquaresRegressor(), X, y),
    "exact, float32": (LeastSquaresRegressor(), X.astype(np.float32), y.astype(np.float32)),
    "exact, no intercept": (LeastSquaresRegressor(fit_intercept=False), X, y),
    "exact, targets": (LeastSquaresRegressor(alpha=0.1), X, Y),
    "path": (LeastSquaresRegressor(alpha=[0.5, 0.1], l1_ratio=1.0), X, y),
    "paths": (LeastSquaresRegressor(alpha=np.array([0.5, 0.1])), X, Y),
    "constraints": (
        LeastSquaresRegressor(
            bounds=(-np.inf, [2.0, 30.0, 1.0, np.inf]),
            constraints=([[1.0, 0.0, 0.0, 1.0]], [-1.5]),
            penalty_factor=[0.0, 1.0, 1.0, 2.0],
            alpha=0.01,
        ),
        X,
        y,
    ),
    "constraints as arrays": (
        LeastSquaresRegressor(
            bounds=(np.array([-np.inf, 0.0, 1.0, 2.0], dtype=np.float32), np.full(4, np.inf)),
            constraints=(np.eye(1, 4, dtype=np.int16), np.array([-1.5])),
            penalty_factor=np.array([False, True, True, True]),
            alpha=0.01,
        ),
        X,
        y,
    ),
    "leave-one-out": (LeastSquaresCV(), X, y),
    "folds": (LeastSquaresCV(alphas=[1.0, 0.1], l1_ratio=0.5, cv=4), X, Y),
    "classes": (LeastSquaresClassifier(), X, THREE),
    "two classes": (LeastSquaresClassifier(class_weight={False: 2.0, True: 0.5}), X, TWO),
    "classes as objects": (LeastSquaresClassifier(), X, THREE.astype(object)),
    "whole classes": (SGDClassifier(), X, TWO.astype(np.int32)),
    "swapped classes": (SGDClassifier(), X, TWO.astype(">i4")),
    "swapped names": (LeastSquaresClassifier(), X, THREE.astype(">U6")),
    "multilabel": (
        LeastSquaresClassifier(),
        *make_multilabel_classification(50, 4, n_classes=3, random_state=0),
    ),
    "sgd": (SGDRegressor(), X, y),
    "sgd, float32": (SGDRegressor(penalty="l1"), X.astype(np.float32), y),
    "sgd, targets": (SGDRegressor(tol=None, max_iter=3), X, Y),
    "sgd, adam": (
        SGDRegressor(
            optimizer=ADAM, learning_rate=SCHEDULE, eta0=0.1, early_stopping=True, random_state=3
        ),
        X / X.std(axis=0),
        y,
    ),
    "sgd classes": (
        SGDClassifier(average=True, learning_rate="constant", eta0=0.01, random_state=0),
        X[:, :2],
        THREE,
    ),
    "sgd folds": (SGDRegressorCV(alphas=[1e-3, 1e-2]), X, y),
    "sgd folds of one": (
        SGDRegressorCV(SGDRegressor(optimizer="adam", random_state=0), alphas=[1e-3], cv=2),
        X[:, :2],
        y,
    ),
}


def fitted(name):
    model, data, target = FITS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return clone(model).fit(data, target), data


def assert_same(first, second, where=""):
    assert type(first) is type(second), (where, first, second)
    if isinstance(first, np.ndarray):
        assert (first.dtype, first.shape) == (second.dtype, second.shape), where
        if first.dtype == object:
            assert first.tolist() == second.tolist(), where
        else:
            assert first.tobytes() == second.tobytes(), where
    elif sparse.issparse(first):
        assert_same(first.toarray(), second.toarray(), where)
    elif isinstance(first, list) and all(isinstance(value, float) for value in first):
        assert_same(np.array(first), np.array(second), where)
    elif isinstance(first, list) and any(isinstance(value, np.ndarray) for value in first):
        for own, other in zip(first, second, strict=True):
            assert_same(own, other, where)
    elif hasattr(first, "get_params"):
        names = set(vars(first)) - set(NOT_KEPT)
        assert names == set(vars(second)) - set(NOT_KEPT), where
        for name in names:
            parameter = name in first.get_params(deep=False)
            own, other = getattr(first, name), getattr(second, name)
            if parameter and isinstance(own, tuple):
                own = list(own)  # JSON has lists
            assert_same(own, other, f"{where}.{name}")
    else:
        assert first == second or (first != first and second != second), where


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", FITS)
def test_the_same_bits_come_back(name, suffix, tmp_path):
    model, data = fitted(name)
    path = tmp_path / f"model{suffix}"
    save_model(model, path)
    loaded = load_model(path)
    assert_same(model, loaded)
    assert_same(model.predict(data), loaded.predict(data))
    assert_same(model.predict(data[:3].astype(np.float32)), loaded.predict(data[:3].astype("f4")))
    if hasattr(model, "decision_function"):
        assert_same(model.decision_function(data), loaded.decision_function(data))
    again = tmp_path / f"again{suffix}"
    save_model(loaded, again)
    assert again.read_bytes() == path.read_bytes()
    assert sorted(os.listdir(tmp_path)) == sorted([path.name, again.name])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_names_of_columns(suffix, tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=["a", "b", "größe", "d\n"])
    model = LeastSquaresRegressor().fit(frame, y)
    save_model(model, tmp_path / f"m{suffix}")
    loaded = load_model(tmp_path / f"m{suffix}")
    assert_same(model.feature_names_in_, loaded.feature_names_in_)
    with pytest.raises(ValueError, match="feature names"):
        loaded.predict(frame[["b", "a", "größe", "d\n"]])


def test_fits_of_a_cluster_are_those_of_one_machine(tmp_path):
    da = pytest.importorskip("dask.array")
    from fastlsgd import dask

    parts = (da.from_array(X, chunks=(60, 4)), da.from_array(y, chunks=60))
    model = dask.LeastSquaresRegressor(alpha=0.1).fit(*parts)
    save_model(model, tmp_path / "m.json")
    loaded = load_model(tmp_path / "m.json")
    assert type(loaded) is LeastSquaresRegressor
    assert_same(model.coef_, loaded.coef_)
    np.testing.assert_allclose(loaded.predict(X), model.predict(parts[0]).compute(), rtol=1e-12)


def test_sparse_weights(tmp_path):
    model = SGDRegressor(penalty="l1", alpha=0.5).fit(X, y).sparsify()
    save_model(model, tmp_path / "m.json")
    loaded = load_model(tmp_path / "m.json")
    assert sparse.issparse(loaded.coef_)
    assert_same(model.predict(X), loaded.predict(X))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_partial_fit_of_exact_estimators_goes_on(suffix, tmp_path):
    model = LeastSquaresRegressor().partial_fit(X[:60], y[:60])
    labels = LeastSquaresClassifier().partial_fit(X[:60], THREE[:60], classes=np.unique(THREE))
    for first, target in ((model, y), (labels, THREE)):
        save_model(first, tmp_path / f"m{suffix}")
        loaded = load_model(tmp_path / f"m{suffix}")
        for each in (first, loaded):
            each.partial_fit(X[60:], target[60:])
        assert_same(first.coef_, loaded.coef_)
        assert loaded._moments.n_samples == 120


def test_partial_fit_of_sgd_begins_anew_from_the_weights(tmp_path):
    model = SGDRegressor(learning_rate="constant", eta0=1e-9).partial_fit(X, y)
    save_model(model, tmp_path / "m.json")
    loaded = load_model(tmp_path / "m.json")
    assert loaded.t_ == 121.0
    assert_same(loaded.partial_fit(X, y).coef_.shape, (4,))


def test_what_is_not_kept_comes_with_a_warning(tmp_path):
    model = LeastSquaresCV(alphas=[1.0, 0.1], cv=KFold(3)).fit(X, y)
    with pytest.warns(UserWarning, match=r"cv=KFold\(n_splits=3"):
        save_model(model, tmp_path / "m.json")
    loaded = load_model(tmp_path / "m.json")
    assert loaded.cv is None
    assert_same(model.predict(X), loaded.predict(X))
    with pytest.raises(ValueError, match="model file does not keep it: fit again"):
        load_after(LeastSquaresRegressor().fit(X, y), tmp_path).summary()


def load_after(model, folder):
    save_model(model, folder / "after.json")
    return load_model(folder / "after.json")


def test_special_numbers(tmp_path):
    model = LeastSquaresRegressor().fit(X, y)
    model.condition_, model.loss_curve_ = np.inf, [np.nan, -0.0, 5e-324, -np.inf]
    model.coef_[:] = [-0.0, 5e-324, np.finfo(float).max, 0.1]
    assert_same(model, load_after(model, tmp_path))


def test_json_is_readable(tmp_path):
    save_model(LeastSquaresRegressor().fit(X, y), tmp_path / "m.json")
    text = (tmp_path / "m.json").read_text("ascii")
    told = json.loads(text)
    assert told["class"] == "LeastSquaresRegressor"
    assert told["library_version"] == fastlsgd.__version__
    assert told["arrays"]["coef_"]["data"] == load_model(tmp_path / "m.json").coef_.tolist()
    assert max(map(len, text.splitlines())) < 300
    assert list(told)[:4] == ["format", "version", "library_version", "class"]


# ------------------------------------------------------------------------- what is refused


def test_what_no_file_can_have(tmp_path):
    from sklearn.exceptions import NotFittedError
    from sklearn.linear_model import LinearRegression

    class Mine(LeastSquaresRegressor):
        pass

    path = tmp_path / "m.json"
    for other in (LinearRegression().fit(X, y), Mine().fit(X, y), None):
        with pytest.raises(ValueError, match=rf"not a [\w.]+\.{type(other).__name__}"):
            save_model(other, path)
    with pytest.raises(NotFittedError):
        save_model(SGDRegressor(), path)
    broken = LeastSquaresRegressor().fit(X, y)
    broken.coef_[1] = np.nan
    with pytest.raises(ValueError, match="coef_"):
        save_model(broken, path)
    with pytest.raises(ValueError, match="alpha"):
        save_model(LeastSquaresRegressor().fit(X, y).set_params(alpha=-1.0), path)
    odd = SGDClassifier().fit(X, TWO)
    odd.classes_ = np.array([b"no", b"yes"])
    with pytest.raises(ValueError, match="classes that are numbers or strings"):
        save_model(odd, path)
    with pytest.raises(ValueError, match=r"must end in \.json or \.safetensors"):
        save_model(LeastSquaresRegressor().fit(X, y), tmp_path / "m.pkl")
    assert os.listdir(tmp_path) == []


def test_a_file_is_replaced_at_once_or_not_at_all(tmp_path, monkeypatch):
    model = LeastSquaresRegressor().fit(X, y)
    path = tmp_path / "m.json"
    save_model(model, path)
    before = path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            save_model(LeastSquaresRegressor(alpha=1.0).fit(X, y), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m.json"]
    with pytest.raises(FileNotFoundError, match=r"missing.m\.json"):
        save_model(model, tmp_path / "missing" / "m.json")
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_model(tmp_path / "other.json")


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_others_may_read_the_file_as_any_new_one(tmp_path):
    save_model(LeastSquaresRegressor().fit(X, y), tmp_path / "m.json")
    (tmp_path / "plain").touch()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("m.json", "plain")}
    assert len(modes) == 1
    (tmp_path / "link.json").symlink_to(tmp_path / "m.json")
    save_model(LeastSquaresRegressor().fit(X, 2 * y), tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()


def test_without_safetensors(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    model = LeastSquaresRegressor().fit(X, y)
    assert_same(model.coef_, load_after(model, tmp_path).coef_)
    with pytest.raises(ImportError, match=r"pip install .fastlsgd\[streams\]"):
        save_model(model, tmp_path / "m.safetensors")
