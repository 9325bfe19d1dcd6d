"""The C that `to_c` writes compiles without warnings, and predicts what the estimators predict.

A prediction of C is the exact sum of the float64 products, rounded, within an ulp. That of
`predict` has the rounding of its kernel's sum, at most (d + 1) * 2^-53 times the sum of the sizes
of its terms; so the two are compared to that, and to the bit where every sum is exact.
"""

import ctypes
import math
import shutil
import subprocess
from fractions import Fraction

import numpy as np
import pytest
from sklearn.datasets import make_multilabel_classification

from fastlsgd import (
    LeastSquaresClassifier,
    LeastSquaresCV,
    LeastSquaresRegressor,
    SGDClassifier,
    SGDRegressor,
    SGDRegressorCV,
    save_model,
    to_c,
)

COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler")
STRICT = ["-Wall", "-Wextra", "-Werror", "-std=c99", "-pedantic", "-Wmissing-prototypes"]

rng = np.random.default_rng(0)
X = rng.normal(size=(200, 6)) * [1e-4, 1.0, 1e4, 1.0, 1.0, 1.0] + 3.0
y = X @ [1e4, 1.0, 1e-4, -2.0, 0.0, 1.0] + rng.normal(size=200)
z = (y - y.mean()) / y.std()


def compiled(source, folder, *options, compiler=COMPILERS[0] if COMPILERS else ""):
    (folder / "model.c").write_text(source, "ascii")
    library = folder / f"{compiler}{len(list(folder.iterdir()))}.so"
    command = [compiler, *STRICT, *options, "-shared", "-fPIC", "-o", library, "model.c", "-lm"]
    subprocess.run(list(map(str, command)), cwd=folder, check=True)
    return ctypes.CDLL(str(library))


def called(function, rows, n_out):
    """Call a function of (const double *x, double *out) for each row."""
    function.restype = None
    out = np.empty((len(rows), n_out))
    for row, own in zip(np.ascontiguousarray(rows, np.float64), out, strict=True):
        function(row.ctypes.data_as(ctypes.c_void_p), own.ctypes.data_as(ctypes.c_void_p))
    return out


def class_of(function, rows):
    function.restype = ctypes.c_size_t
    rows = np.ascontiguousarray(rows, np.float64)
    return np.array([function(row.ctypes.data_as(ctypes.c_void_p)) for row in rows])


def exact(w, b, x):
    return sum((Fraction(a) * Fraction(c) for a, c in zip(w, x, strict=True)), Fraction(b))


def assert_right(found, model, rows):
    """Each number is within an ulp of the exact one, and of `predict` within its rounding."""
    w = np.atleast_2d(model.coef_).astype(float)
    b = np.atleast_1d(model.intercept_)
    for row, own in zip(rows.tolist(), found.tolist(), strict=True):
        for k, value in enumerate(own):
            true = exact(w[k].tolist(), float(b[k]), row)
            assert abs(Fraction(value) - true) <= Fraction(math.ulp(float(true)))
    decide = getattr(model, "decision_function", model.predict)
    terms = np.abs(rows) @ np.abs(w).T + np.abs(b)
    difference = np.abs(found - decide(rows).reshape(found.shape))
    assert (difference <= (rows.shape[1] + 1) * 2.0**-53 * terms).all()


REGRESSORS = {
    "exact": (LeastSquaresRegressor(), X, y),
    "targets": (LeastSquaresRegressor(alpha=0.01), X, np.column_stack([y, -y, X[:, 0]])),
    "float32": (LeastSquaresCV(alphas=[1.0, 0.1]), X.astype(np.float32), y),
    "sgd": (SGDRegressor(fit_intercept=False), X, y),
    "cv": (SGDRegressorCV(alphas=[1e-3]), X, y),
}


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors(name, tmp_path):
    model, data, target = REGRESSORS[name]
    model.fit(data, target)
    library = compiled(to_c(model), tmp_path)
    found = called(library.model_predict, X, np.atleast_1d(model.intercept_).size)
    assert_right(found, model, X)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("options", [["-O0"], ["-O3", "-march=native", "-ffp-contract=fast"]])
def test_compilers_and_their_options(compiler, options, tmp_path):
    """Cancellation by 1e8 leaves all digits, whatever is fused."""
    model = LeastSquaresRegressor().fit(X, y)
    model.coef_ = np.array([1e8 / 3.0, -1e8 / 3.0, 0.1, 1e-9, 1e300, 5e-324])
    library = compiled(to_c(model), tmp_path, *options, compiler=compiler)
    rows = np.column_stack([X[:, 0], X[:, 0] * (1 + 1e-8), X[:, 2:4], 0 * X[:, :2]])
    found = called(library.model_predict, rows, 1)
    for row, value in zip(rows.tolist(), found[:, 0].tolist(), strict=True):
        true = exact(model.coef_.tolist(), model.intercept_, row)
        assert abs(Fraction(value) - true) <= Fraction(math.ulp(float(true)))


def test_sums_that_are_exact_have_the_same_bits(tmp_path):
    model = LeastSquaresRegressor().fit(X, y)
    model.coef_, model.intercept_ = np.array([3.0, -1.5, 0.25, 8.0, 0.0, -0.0]), -2.5
    rows = rng.integers(-1000, 1000, (100, 6)).astype(float)
    library = compiled(to_c(model), tmp_path)
    assert called(library.model_predict, rows, 1)[:, 0].tolist() == model.predict(rows).tolist()


def test_numbers_that_are_not_finite(tmp_path):
    model = LeastSquaresRegressor().fit(X, y)
    library = compiled(to_c(model), tmp_path)
    rows = X[:4].copy()
    rows[0, 0], rows[1, 0], rows[2, 0], rows[3, 0] = np.nan, np.inf, 1e308, -1e295
    with np.errstate(all="ignore"):
        expected = rows @ model.coef_ + model.intercept_
    np.testing.assert_allclose(called(library.model_predict, rows, 1)[:, 0], expected, rtol=1e-14)


CLASSES = {
    "two texts": (LeastSquaresClassifier(), np.where(z > 0, "ja", "nein \"ä\"\n%$n /* ??/")),
    "three texts": (SGDClassifier(), np.array(["a", "b", "c"])[np.digitize(z, [-0.5, 0.5])]),
    "numbers": (LeastSquaresClassifier(), np.digitize(z, [-0.5, 0.5]) * 10 - 5),
    "floats": (LeastSquaresClassifier(), np.digitize(z, [0.0]) * 1.0),
    "flags": (SGDClassifier(), z > 0),
}  # fmt: skip


@pytest.mark.parametrize("name", CLASSES)
def test_classifiers(name, tmp_path):
    model, labels = CLASSES[name]
    model.fit(X, labels)
    library = compiled(to_c(model, name="own"), tmp_path)
    scores = called(library.own_scores, X, len(model.intercept_))
    assert_right(scores, model, X)
    places = class_of(library.own_class, X)
    assert model.classes_[places].tolist() == model.predict(X).tolist()
    n = len(model.classes_)
    if isinstance(model.classes_[0], str):
        told = (ctypes.c_char_p * n).in_dll(library, "own_labels")
        assert [label.decode() for label in told] == model.classes_.tolist()
    else:
        kind = ctypes.c_double if name == "floats" else ctypes.c_longlong
        assert list((kind * n).in_dll(library, "own_labels")) == model.classes_.tolist()


def test_multilabel(tmp_path):
    data, labels = make_multilabel_classification(80, 6, n_classes=4, random_state=0)
    model = LeastSquaresClassifier().fit(data, labels)
    library = compiled(to_c(model), tmp_path)
    library.model_labels_of.restype = None
    out = np.empty((len(data), 4), np.uint8)
    for row, own in zip(data, out, strict=True):
        library.model_labels_of(
            row.ctypes.data_as(ctypes.c_void_p), own.ctypes.data_as(ctypes.c_void_p)
        )
    assert out.tolist() == model.predict(data).tolist()


# -------------------------------------------------------------------- models of tables


def test_rows_of_tables(tmp_path, capsys):
    """Categories, nulls, the logarithm and names that C does not allow."""
    pa = pytest.importorskip("pyarrow")
    feather = pytest.importorskip("pyarrow.feather")
    from fastlsgd.cli import main

    n = len(X)
    kinds = np.array(["flat", 'a "house"', "größe"])[rng.integers(0, 3, n)]
    codes = pa.array(rng.integers(5, 8, n)).dictionary_encode()
    columns = {
        "int": X[:, 0], "a b": kinds, "a-b": codes, "3rd": X[:, 1], "price": np.exp(X[:, 1]),
    }  # fmt: skip
    table, model, out = tmp_path / "t.feather", str(tmp_path / "m.json"), tmp_path / "p.npy"
    feather.write_feather(pa.table(columns), table)
    options = ["--target", "price", "--loss-scale", "log", "--impute", "int=2.5", "a b=flat"]
    assert main(["fit", str(table), *options, "--output", model]) == 0
    assert main(["predict", model, str(table), "--output", str(out)]) == 0
    assert main(["to-c", model, "--output", str(tmp_path / "model.c"), "--name", "house"]) == 0
    source = (tmp_path / "model.c").read_text()
    assert source == to_c(model, name="house")
    capsys.readouterr()
    assert main(["to-c", model, "--name", "house"]) == 0
    assert capsys.readouterr().out.strip() == source.strip()
    library = compiled(source, tmp_path)

    class Row(ctypes.Structure):
        _fields_ = (
            ("column_int", ctypes.c_double),
            ("a_b", ctypes.c_char_p),
            ("a_b_2", ctypes.c_double),
            ("column_3rd", ctypes.c_double),
        )

    def predicted(*values):
        result = ctypes.c_double()
        status = library.house_predict_row(ctypes.byref(Row(*values)), ctypes.byref(result))
        return status or result.value

    rows = list(zip(X[:, 0], [k.encode() for k in kinds], codes.to_pylist(), X[:, 1], strict=True))
    found = [predicted(*row) for row in rows]
    np.testing.assert_allclose(found, np.load(out), rtol=1e-13)
    first = rows[0]
    assert predicted(math.nan, None, *first[2:]) == predicted(2.5, b"flat", *first[2:])
    assert predicted(first[0], b"castle", *first[2:]) == 2
    assert predicted(*first[:2], 9.0, first[3]) == 3
    assert predicted(*first[:2], math.nan, first[3]) == 3
    assert predicted(*first[:3], math.nan) == 4
    assert predicted(*first[:3], math.inf) == 4


def test_model_files_without_tables(tmp_path):
    model = SGDClassifier().fit(X, z > 0)
    save_model(model, tmp_path / "m.json")
    assert to_c(tmp_path / "m.json") == to_c(model)


def test_what_is_refused(tmp_path):
    from sklearn.exceptions import NotFittedError
    from sklearn.linear_model import LinearRegression

    model = LeastSquaresRegressor().fit(X, y)
    for name in ("", "3d", "a b", "x;", 3, "a" * 50):
        with pytest.raises(ValueError, match="name must be an identifier of C"):
            to_c(model, name=name)
    with pytest.raises(ValueError, match=r"not a sklearn\.[\w.]+\.LinearRegression"):
        to_c(LinearRegression().fit(X, y))
    with pytest.raises(NotFittedError):
        to_c(SGDRegressor())
    (tmp_path / "m.json").write_text("{}")
    with pytest.raises(ValueError, match=r"m\.json"):
        to_c(tmp_path / "m.json")
    for wrong, message in (
        ("a\0b", "ends at its first NUL"),
        ("\ud800", r"UTF-8 has no text '\\ud800'"),
        (2**64 - 1, "no labels such as 18446744073709551615"),
    ):
        other = np.uint64(5) if isinstance(wrong, int) else "c"
        labels = np.array([wrong, other], object if isinstance(wrong, str) else np.uint64)
        classifier = LeastSquaresClassifier().fit(X, labels[(y > y.mean()).astype(int)])
        with pytest.raises(ValueError, match=message):
            to_c(classifier)
