"""Damaged files and files that lie are refused by an error that names the file and the field."""

import json
import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlsgd import (
    LeastSquaresClassifier,
    LeastSquaresCV,
    LeastSquaresRegressor,
    SGDClassifier,
    SGDRegressor,
    SGDRegressorCV,
    load_model,
    save_model,
)
from fastlsgd.model_files.container import FORMAT, Record, decoded, encoded

SUFFIXES = (".json", ".safetensors")
rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3))
y = X @ [1.0, 2.0, 3.0] + 0.1 * rng.normal(size=60)
MODELS = {
    "exact": LeastSquaresRegressor().partial_fit(X, y),
    "path": LeastSquaresCV(alphas=[1.0, 0.1]).fit(X, np.column_stack([y, -y])),
    "classes": LeastSquaresClassifier().fit(X, np.digitize(X[:, 0], [-0.5, 0.5])),
    "sgd": SGDRegressor(optimizer="adam", random_state=0).fit(X.astype(np.float32), y),
    "sgd classes": SGDClassifier(class_weight={"a": 2.0}).fit(X, np.where(y > 0, "a", "b")),
    "sgd folds": SGDRegressorCV(SGDRegressor(), alphas=[1e-3]).fit(X, y),
}


@pytest.fixture(params=MODELS)
def record(request, tmp_path):
    save_model(MODELS[request.param], tmp_path / "saved.json")
    return decoded((tmp_path / "saved.json").read_bytes(), ".json")


def written(record, path):
    path.write_bytes(encoded(record, path.suffix))
    return path


def assert_refused(path, match=None):
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        load_model(path)
    if match is not None:
        assert re.search(match, str(caught.value)), caught.value
    assert len(str(caught.value)) < 800


# ------------------------------------------------------------------------------------ damage


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_damage_to_bytes_gets_through(suffix, record, tmp_path):
    path = written(record, tmp_path / f"m{suffix}")
    content = path.read_bytes()
    load_model(path)
    places = np.random.default_rng(1).integers(0, len(content), 15)
    for place in places:
        for change in (
            content[:place],  # truncated
            content[:place] + bytes([content[place] ^ 1 << (place % 8)]) + content[place + 1 :],
            content[:place] + b"0" + content[place:],
            content[:place] + content[place + 1 :],
        ):
            if change != content:
                path.write_bytes(change)
                assert_refused(path)
    for change in (b"", content + b" ", content + content, b"\x00" * 100, b"{" * 100_000):
        path.write_bytes(change)
        assert_refused(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_other_kinds_of_files(suffix, tmp_path):
    path = tmp_path / f"m{suffix}"
    for content in (
        pickle.dumps(MODELS["exact"]),
        b"[1, 2]",
        b'{"format": "other"}',
        b'{"a": 1, "a": 2}',
        b'{"a": NaN}',
        b"[" * 10_000 + b"]" * 10_000,
        "é".encode("latin-1"),
        b"9" * 5000,
    ):
        path.write_bytes(content)
        assert_refused(path)


def test_a_pickle_is_not_executed(tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "sprung"), "w")

    for suffix in SUFFIXES:
        (tmp_path / f"m{suffix}").write_bytes(pickle.dumps(Trap()))
        assert_refused(tmp_path / f"m{suffix}")
    assert not (tmp_path / "sprung").exists()


def test_moments_are_another_kind_of_file(tmp_path):
    from fastlsgd import Moments

    Moments.from_data(X, y).save(tmp_path / "m.safetensors")
    assert_refused(tmp_path / "m.safetensors", f"{FORMAT} is missing: this is another kind of file")


# -------------------------------------------------------------------------------------- lies

HEADER_LIES = [
    ("format", "fastlsgd.moments", "format must be"),
    ("version", 2, "version 2 can't be read: this fastlsgd knows 1"),
    ("version", True, "version"),
    ("class", "Pipeline", "class in the header"),
    ("class", ["SGDRegressor"], "class in the header"),
    ("n_features", 4, "."),
    ("n_features", 2**60, "n_features"),
    ("n_features", -3, "n_features"),
    ("n_features", 3.0, "n_features"),
    ("feature_names", ["a", "b"], "feature_names"),
    ("feature_names", ["a", "b", 3], "feature_names"),
    ("feature_names", "abc", "feature_names"),
    ("parameters", {"alfa": 1.0}, "has no parameter 'alfa'"),
    ("parameters", [1], "parameters must be an object"),
    ("parameters", {"n_jobs": {"array": [[1], [2, 3]], "dtype": "int64"}}, "can't be an array"),
    ("parameters", {"n_jobs": {"array": [1.5], "dtype": "int64"}}, "can't be an array"),
    ("parameters", {"n_jobs": {"array": ["a"], "dtype": "object"}}, "can't be an array"),
    ("parameters", {"backend": {"object": "os.system", "parameters": {}}}, "."),
    ("attributes", {"predict": 1.0}, "has no 'predict'"),
    ("attributes", {"loss_curve_": [1, "x"]}, "loss_curve_ must be a number"),
    ("attributes", {"n_iter_": 1.5}, "n_iter_ is not allowed"),
    ("attributes", 3, "attributes in the header"),
    ("classes", {"dtype": "int64", "values": [1]}, "classes"),
    ("sparse_coef", 1, "sparse_coef"),
    ("multilabel", {"sparse": 0}, "multilabel"),
    ("table", "columns", "table"),
    ("moments", 3, "moments"),
    ("best_estimator", {"class": "Pipeline"}, "best_estimator"),
    ("unknown", 0, "unknown field 'unknown'"),
]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("field", "value", "match"), HEADER_LIES)
def test_headers_that_lie(field, value, match, suffix, record, tmp_path):
    header = {**record.header, field: value}
    assert_refused(written(Record(header, record.arrays), tmp_path / f"m{suffix}"), match)


def test_missing_fields(record, tmp_path):
    for name in record.header:
        if name in ("library_version", "parameters_not_kept", "estimator"):
            continue
        header = {key: value for key, value in record.header.items() if key != name}
        assert_refused(written(Record(header, record.arrays), tmp_path / "m.json"), name)


@pytest.mark.parametrize(
    ("name", "value"),
    [("alpha", -1.0), ("alpha", "x"), ("fit_intercept", 1), ("tol", None), ("max_iter", 0),
     ("solver", "pickle"), ("optimizer", {"object": "Adam", "parameters": {"beta1": 2.0}}),
     ("alphas", [[1.0]]), ("class_weight", {"dict": [["a"]]})],
)  # fmt: skip
def test_parameters_that_no_estimator_takes(name, value, record, tmp_path):
    if name not in record.header["parameters"] or (name, value) == ("tol", None):
        return
    parameters = {**record.header["parameters"], name: value}
    header = {**record.header, "parameters": parameters}
    assert_refused(written(Record(header, record.arrays), tmp_path / "m.json"), "parameters")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_arrays_that_lie(suffix, record, tmp_path):
    path = tmp_path / f"m{suffix}"

    def refused(name, array, match):
        assert_refused(written(Record(record.header, record.arrays | {name: array}), path), match)

    coef, intercept = record.arrays["coef_"], record.arrays["intercept_"]
    for name, array in (("coef_", coef), ("intercept_", intercept)):
        for bad in (np.nan, np.inf):
            wrong = array.copy()
            wrong.flat[-1] = bad
            refused(name, wrong, f"{name} has NaN or infinity")
        refused(name, array[..., :-1], name)
        refused(name, np.concatenate([array, array], axis=-1), name)
        refused(name, array.reshape(1, 1, -1), name)
    refused("intercept_", intercept.astype(np.float32), "intercept_")
    refused("other", intercept, "has no array 'other'")
    for name in record.arrays:
        if name in ("coef_", "intercept_", "origin") or name.startswith(("moments.", "best_")):
            left = {key: array for key, array in record.arrays.items() if key != name}
            assert_refused(written(Record(record.header, left), path), name.split(".")[0])


def test_paths_that_lie(tmp_path):
    path = tmp_path / "m.json"
    models = (
        LeastSquaresRegressor(alpha=[1.0, 0.1, 0.01]).fit(X, y),
        LeastSquaresRegressor(alpha=[1.0, 0.1, 0.01]).fit(X, np.column_stack([y, -y])),
        LeastSquaresCV(alphas=[1.0, 0.1, 0.01], cv=3).fit(X, y),
        SGDRegressorCV(alphas=[1e-3, 1e-2]).fit(X, y),
    )
    for model in models:
        save_model(model, path)
        record = decoded(path.read_bytes(), ".json")
        for name in ("coef_path_", "intercept_path_", "alphas_", "mse_path_", "scores_"):
            if name in record.arrays:
                array = record.arrays[name]
                wrong = [array[1:], array[None]]
                wrong += [array[:, 1:]] if "path" in name and array.ndim > 1 else []
                for change in wrong[: 2 if name in ("mse_path_", "scores_") else None]:
                    arrays = record.arrays | {name: change}
                    assert_refused(written(Record(record.header, arrays), path), name)


def test_shapes_and_dtypes_of_json(record, tmp_path):
    path = written(record, tmp_path / "m.json")
    told = json.loads(path.read_text())

    def resealed(**change):
        own = json.loads(json.dumps(told))
        own["arrays"]["coef_"].update(change)
        arrays = own.pop("arrays")
        del own["sha256"]
        path.write_bytes(sealed({**own, "arrays": arrays}))
        return path

    data = told["arrays"]["coef_"]["data"]
    assert_refused(resealed(shape=[2**40, 2**40]), "coef_ must have")
    assert_refused(resealed(shape=[-1]), "coef_: shape")
    assert_refused(resealed(shape=[0, 2**52, 2**52], data=[]), "coef_: shape")
    assert_refused(resealed(shape=[]), "coef_: shape")
    assert_refused(resealed(shape=[3.0]), "coef_: shape")
    assert_refused(resealed(dtype="object"), "coef_: dtype")
    assert_refused(resealed(dtype=["float64"]), "coef_: dtype")
    assert_refused(resealed(data=data[:-1]), "coef_ must have")
    assert_refused(resealed(data=[*data[:-1], "1"]), "coef_ must be a number")
    assert_refused(resealed(data=[*data[:-1], True]), "coef_ must be a number")
    assert_refused(resealed(data=[*data[:-1], int("9" * 400)]), "coef_ must be a number")
    assert_refused(resealed(data=[*data[:-1], [1.0]]), "coef_ must be a number")
    assert_refused(resealed(data={"0": 1.0}), "coef_ must have")
    assert_refused(resealed(dtype="float32", data=[0.1] * len(data)), "not of its dtype, float32")


def sealed(document):
    """Return a JSON file with the checksum that docs/model_files.md describes."""
    import hashlib

    text = json.dumps({**document, "sha256": "0" * 64}).encode()
    digest = hashlib.sha256(text).hexdigest().encode()
    return text.replace(b"0" * 64, digest)


def test_files_of_other_programs(tmp_path):
    """What docs/model_files.md requires, in any order and with whole numbers, is enough."""
    document = {
        "arrays": {
            "coef_": {"dtype": "float32", "shape": [2], "data": [1, -0.5]},
            "intercept_": {"data": [3], "dtype": "float64", "shape": [1]},
            "origin": {"dtype": "float64", "shape": [1], "data": [0]},
        },
        "class": "SGDRegressor",
        "parameters": {},
        "n_features": 2,
        "feature_names": None,
        "target_dtype": "float64",
        "sparse_coef": False,
        "classes": None,
        "multilabel": None,
        "attributes": {},
        "format": "fastlsgd.model",
        "version": 1,
    }
    (tmp_path / "m.json").write_bytes(sealed(document))
    assert load_model(tmp_path / "m.json").predict([[1.0, 2.0]]).tolist() == [3.0]


# -------------------------------------------------------------------------------------- fuzz

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_value_anywhere_loads_or_is_refused(name, tmp_path_factory, data):
    """A file with a value replaced and a right checksum raises ValueError, or is a sound model."""
    path = tmp_path_factory.mktemp("fuzz") / "m.json"
    save_model(MODELS[name], path)
    document = json.loads(path.read_text())
    del document["sha256"]
    place, key = document, data.draw(st.sampled_from(sorted(document)))
    while isinstance(place[key], (dict, list)) and place[key] and data.draw(st.booleans()):
        place = place[key]
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(keys))
    place[key] = data.draw(JSON)
    path.write_bytes(sealed(document))
    try:
        loaded = load_model(path)
    except ValueError:
        assert_refused(path)
        return
    assert len(loaded.predict(X)) == len(X)
    repr(loaded)
