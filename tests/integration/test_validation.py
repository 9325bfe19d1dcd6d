"""All functions and estimators refuse the same invalid X, y and sample_weight.

Valid ones of any dtype and layout give the results of float64.
"""

from __future__ import annotations

import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from entry_points import ENTRIES, MODELS, WITH_Y, numbers, problem

import fastlsgd
from fastlsgd import _validation as check
from fastlsgd import functional
from fastlsgd._sparse_structure import has_duplicates
from fastlsgd.kernels.contract import working_dtype
from fastlsgd.linear_model._folds import as_row_numbers
from fastlsgd.streaming import scan

X, Y, W = problem()
with_all = pytest.mark.parametrize("entry", ENTRIES)
with_y = pytest.mark.parametrize("entry", WITH_Y)


def call(entry, X=X, y=Y, s=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ENTRIES[entry](X, y, s)


# --------------------------------------------------------------------------- wrong structure


def damaged(form: str, attribute: str, position, value):
    """X in a sparse format, with one number of its structure changed."""
    matrix = getattr(sp, form)(sp.csr_array(np.where(np.abs(X) > 0.3, X, 0.0)))
    if position is None:
        setattr(matrix, attribute, value(getattr(matrix, attribute)))
    else:
        getattr(matrix, attribute)[position] = value
    return matrix


def damaged_dok(form: str, key, value):
    """X as a dictionary of keys, with one entry that SciPy's own methods would refuse."""
    matrix = getattr(sp, form)(X)
    if hasattr(matrix, "_dict"):
        matrix._dict[key] = value
    else:  # SciPy before 1.12
        dict.__setitem__(matrix, key, value)
    return matrix


DAMAGED = {
    "COO row beyond": ("coo_array", "row", 3, 50),
    "COO negative column": ("coo_matrix", "col", 3, -5),
    "COO fewer numbers": ("coo_matrix", "data", None, lambda data: data[:-2]),
    "BSR indptr": ("bsr_array", "indptr", 2, 10**6),
    "BSR indices": ("bsr_matrix", "indices", 2, 10**6),
    "BSR fewer blocks": ("bsr_matrix", "data", None, lambda data: data[:2]),
    "DIA offset beyond": ("dia_array", "offsets", 0, 100),
    "DIA offset before": ("dia_matrix", "offsets", 0, -100),
    "CSR data in a column": ("csr_array", "data", None, lambda data: data[:, None]),
    "CSR no data": ("csr_array", "data", None, lambda data: None),
    "CSR real indices": ("csr_array", "indices", None, lambda indices: indices.astype(float)),
    "CSR indices beyond": ("csr_matrix", "indices", 0, 4),
    "CSR fewer columns": ("csr_array", "_shape", None, lambda shape: (20, 2)),
    "CSR more rows": ("csr_array", "_shape", None, lambda shape: (30, 4)),
    "CSC indptr": ("csc_array", "indptr", 2, 10**6),
    "CSC indices": ("csc_matrix", "indices", 2, -(10**6)),
    "LIL column": ("lil_array", "rows", 2, [99, 1, 2]),
    "LIL more columns": ("lil_array", "rows", 2, [0, 1, 2, 3, 3]),
    "LIL no list": ("lil_matrix", "rows", 2, None),
    "LIL words": ("lil_matrix", "data", 2, ["a", 1.0, 2.0]),
    "DOK key": ("dok_array", (99, 99), 1.0),
    "DOK key of three": ("dok_array", (1, 1, 1), 1.0),
    "DOK words": ("dok_matrix", (0, 0), "a"),
}


@with_all
@pytest.mark.parametrize("case", DAMAGED)
def test_structure_that_lies_is_refused_before_anyone_follows_it(entry, case):
    name = "A" if entry == "lstsq" else "X"
    damage = damaged_dok if case.startswith("DOK") else damaged
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        call(entry, damage(*DAMAGED[case]))


def doubled(how: str):
    """A CSR matrix with duplicates whose flags deny them, and the same matrix dense."""
    base = sp.csr_array(np.where(np.abs(X) > 0.3, X, 0.0))
    data, indices = np.repeat(base.data, 2), np.repeat(base.indices, 2)
    data[::2] *= 3.0
    if how == "apart":  # duplicates are not adjacent
        for i in range(len(base.indptr) - 1):
            row = slice(2 * base.indptr[i], 2 * base.indptr[i + 1])
            turn = np.argsort(np.arange(row.stop - row.start) % 2, kind="stable")
            data[row], indices[row] = data[row][turn], indices[row][turn]
    matrix = sp.csr_array((data, indices, 2 * base.indptr), base.shape)
    dense = matrix.toarray()
    matrix.has_canonical_format = matrix.has_sorted_indices = True
    return matrix, dense


@with_all
@pytest.mark.parametrize("how", ["beside", "apart"])
def test_duplicates_are_looked_for_not_believed(entry, how):
    matrix, dense = doubled(how)
    before = matrix.data.copy(), matrix.indices.copy()
    found, expected = (
        numbers(call(entry, matrix)),
        numbers(call(entry, dense)),
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(matrix.data, before[0])
    np.testing.assert_array_equal(matrix.indices, before[1])


def test_has_duplicates_finds_each_one_in_chunks_of_any_kind():
    rng = np.random.default_rng(0)
    for trial in range(300):
        n, d = rng.integers(1, 40), rng.integers(1, 30)
        counts = rng.integers(0, d + 1, size=n)
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(rng.choice([np.int32, np.int64]))
        rows = [rng.choice(d, size=count, replace=False) for count in counts]
        if trial % 3 == 0:
            rows = [np.sort(row) for row in rows]
        if trial % 2 and len(rows[-1]) > 1:
            rows[-1][0] = rows[-1][-1]
        indices = np.concatenate(rows).astype(indptr.dtype)
        expected = any(len(set(row.tolist())) < len(row) for row in rows)
        assert has_duplicates(indices, indptr, int(d)) == expected
    # Chunks end in the middle of rows.
    indices = np.tile(np.arange(1000, dtype=np.int32), 200)
    indptr = np.arange(0, 200_001, 1000)
    assert not has_duplicates(indices, indptr, 1000)
    assert not has_duplicates(indices[::-1], indptr, 1000)
    for place in (65_536, 131_071, 199_999):
        spoilt = indices.copy()
        spoilt[place] = spoilt[place - 1]
        assert has_duplicates(spoilt, indptr, 1000)
        assert has_duplicates(spoilt[::-1], indptr, 1000)
    long = np.arange(200_000)[::-1]
    assert not has_duplicates(long, np.array([0, 200_000]), 200_000)
    assert has_duplicates(np.append(long[1:], 5), np.array([0, 200_000]), 200_000)


# ------------------------------------------------------------------------- values without a meaning


def frame(first):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame({"a": first(pandas), "b": Y, "c": Y, "d": Y})


def objects(item):
    array = X.astype(object)
    array[3, 1] = item
    return array


MEANINGLESS = {
    "masked": (lambda: np.ma.masked_array(X, X > 1), "masked"),
    "dates": (lambda: np.full((20, 4), np.datetime64("2020")), "fixed unit"),
    "durations": (lambda: np.full((20, 4), np.timedelta64(3, "s")), "fixed unit"),
    "frame of dates": (lambda: frame(lambda pd: pd.date_range("2020", periods=20)), "fixed unit"),
    "frame of durations": (lambda: frame(lambda pd: pd.to_timedelta(Y, "s")), "fixed unit"),
    "frame with NA": (
        lambda: frame(lambda pd: pd.array([1.0, None] * 10, dtype="Float64")),
        "missing value",
    ),
    "frame of words": (lambda: frame(lambda pd: ["1"] * 20), "real numbers"),
    "strings": (lambda: X.astype(str), "real numbers"),
    "bytes": (lambda: X.astype("S"), "real numbers"),
    "strings in objects": (lambda: X.astype(str).astype(object), "real numbers"),
    "None in objects": (lambda: objects(None), "missing value"),
    "10**400": (lambda: objects(10**400), "real numbers"),
    "complex in objects": (lambda: objects(1j), "real numbers"),
    "a dict in objects": (lambda: objects({}), "real numbers"),
    "NaN in objects": (lambda: objects(np.nan), "NaN"),
    "complex": (lambda: X + 1j, "Complex data not supported"),
    "float16 infinity": (lambda: np.where(X > 1, np.inf, X).astype(np.float16), "infinity"),
    "beyond float64": (lambda: X.astype(np.longdouble) * np.longdouble("1e4000"), "infinity"),
    "structured": (lambda: np.zeros((20, 4), dtype=[("a", float)]), "real numbers"),
    "a set": (lambda: {1, 2}, "real numbers"),
    "None": (lambda: None, "real numbers"),
}


@with_all
@pytest.mark.parametrize("case", MEANINGLESS)
def test_what_means_nothing_is_no_X(entry, case):
    if case == "beyond float64" and np.finfo(np.longdouble).maxexp <= 1024:
        pytest.skip("long double is float64 here")
    make, message = MEANINGLESS[case]
    with pytest.raises(ValueError, match=message) as caught:
        call(entry, make())
    assert ("A " if entry == "lstsq" else "X ") in str(caught.value)


@with_y
@pytest.mark.parametrize(
    ("case", "message"),
    {
        "masked": "masked",
        "None": "missing",
        "dates": "fixed unit",
        "strings": "real numbers|label|inconsistent|kind|mix",
        "sideways": "shape|1d|inconsistent|dim|Unknown label",
    }.items(),
)
def test_what_means_nothing_is_no_y(entry, case, message):
    if case in ("dates", "strings") and "Classifier" in entry:
        pytest.skip("these are labels")
    y = {
        "masked": np.ma.masked_array(Y, Y > 1),
        "None": np.where(Y > 1, None, Y.astype(object)),
        "dates": np.full(20, np.datetime64("2020")),
        "strings": Y.astype(str),
        "sideways": Y[None],
    }[case]
    if "score" in entry and case == "sideways":
        message = ".*"
    with pytest.raises((ValueError, TypeError), match=message):
        call(entry, y=y)


def test_a_mask_that_hides_nothing_passes():
    for entry in ("lstsq", "LeastSquaresRegressor.fit"):
        found = call(entry, np.ma.masked_array(X, np.zeros_like(X, dtype=bool)), np.ma.array(Y))
        np.testing.assert_array_equal(numbers(found), numbers(call(entry)))


@pytest.mark.parametrize("name", ["SGDClassifier", "LeastSquaresClassifier"])
def test_labels_that_are_none(name):
    model, half = MODELS[name](), Y > 0
    for labels, message in (
        (np.where(half, "a", None), "missing labels"),
        (np.where(half, "a", np.array(np.nan, object)), r"missing labels \(NaN\)"),
        (np.where(half, np.datetime64("2026-01-01"), np.datetime64("NaT")), "missing labels"),
        (np.array(["a", 1] * 10, dtype=object), "labels of one kind|Unknown label"),
        (Y, "[Uu]nknown label type|continuous"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(X, labels)
    if name == "SGDClassifier":
        for classes, message in (
            ([], "classes is empty"),
            ([None, 1], "missing"),
            ([1], "one class"),
        ):
            with pytest.raises(ValueError, match=message):
                model.partial_fit(X, half, classes=classes)
        with pytest.raises(ValueError, match="labels"):
            model.partial_fit(X, np.array(["a", "b"] * 10, dtype=object), classes=[0, 1])


# ------------------------------------------------------------------------------ any dtype, no copy


def dtypes():
    names = ["float16", "longdouble", "bool", "int8", "uint8", "int16", "int32", "uint64", ">f4"]
    kinds = {name: np.dtype(name) for name in [*names, ">f8", ">i4", "object"]}
    try:
        import ml_dtypes
    except ImportError:
        return kinds
    return {**kinds, "bfloat16": np.dtype(ml_dtypes.bfloat16)}


@with_all
@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("dtype", dtypes())
def test_any_dtype_gives_what_float64_gives(entry, dtype, kind):
    dtype = dtypes()[dtype]
    whole = np.abs(np.round(2 * X)) > 0 if dtype.kind == "b" else np.abs(np.round(2 * X))
    given = whole.astype(dtype)
    exact = given.astype(working_dtype(dtype))
    if kind == "csr":
        exact, rows = sp.csr_array(exact), sp.csr_array(whole.astype(float))
        rows.data = given[np.nonzero(whole)]
        given = rows
    found, expected = (
        numbers(call(entry, given)),
        numbers(call(entry, exact)),
    )
    tol = 1e-4 if working_dtype(dtype) == np.float32 else 1e-7
    np.testing.assert_allclose(found, expected, rtol=tol, atol=tol)


def test_validation_copies_nothing():
    for dtype in dtypes().values():
        dense = (np.abs(X) > 0.5).astype(dtype)
        assert check.as_matrix(dense) is dense
        rows = sp.csr_array(np.abs(X) > 0.5)
        rows.data = rows.data.astype(dtype)
        assert np.shares_memory(check.as_matrix(rows).data, rows.data)
    rows = sp.csr_array(X)
    for i in range(20):  # the last column comes first
        span = slice(rows.indptr[i], rows.indptr[i + 1])
        rows.indices[span], rows.data[span] = rows.indices[span][::-1], rows.data[span][::-1]
    found = check.as_matrix(rows)
    assert np.shares_memory(found.data, rows.data)
    assert np.shares_memory(found.indices, rows.indices)
    assert check.as_matrix(objects(Fraction(1, 3))).dtype == object
    assert check.as_matrix(objects(Decimal("0.5")).tolist()).dtype == np.float64


def test_indices_that_a_callback_changes_are_looked_at_again():
    rows = sp.csr_array(X)

    def spoil(report):
        rows.indices[5] = 10**6

    model = fastlsgd.SGDRegressor(max_iter=3, tol=None, random_state=0)
    with pytest.raises(ValueError, match="changed by callback"):
        model.fit(rows, Y, callback=spoil)
    assert not hasattr(model, "coef_")


def test_what_has_one_number_per_row_is_copied_before_it_is_checked():
    """Another thread that writes to it during a call would lead a kernel out of its arrays."""
    rows, order = sp.csr_array(X), np.arange(len(X))
    assert not np.shares_memory(check.as_matrix(rows).indptr, rows.indptr)
    assert not np.shares_memory(functional._order(order, len(X)), order)
    assert not np.shares_memory(as_row_numbers(order, len(X), "fold"), order)


# ---------------------------------------------------------------------------------------- scalars


@with_y
def test_a_number_as_sample_weight_is_that_weight_in_each_row(entry):
    found, expected = call(entry, s=2.0), call(entry, s=np.full(20, 2.0))
    np.testing.assert_allclose(numbers(found), numbers(expected))
    for bad in (0.0, -1.0, np.nan, np.inf, "1", [[1.0]]):
        if bad == 0.0 and "partial_fit" in entry:  # there is nothing to do, as in scikit-learn
            continue
        with pytest.raises((ValueError, TypeError), match=r"(?i)sample.?weight"):
            call(entry, s=bad)


HUGE = (10**39, 10**400, -(10**400), Fraction(10**400), 2**63, np.uint64(2**64 - 1), 10**11)


@pytest.mark.parametrize(
    ("model", "argument"),
    [
        *((fastlsgd.SGDRegressor, name) for name in ("alpha", "n_iter_no_change", "verbose")),
        *((fastlsgd.SGDRegressor, name) for name in ("tol", "eta0", "average", "n_jobs")),
        *((fastlsgd.SGDRegressor, name) for name in ("l1_ratio", "power_t", "batch_size")),
        *((fastlsgd.LeastSquaresRegressor, name) for name in ("alpha", "tol", "max_iter")),
        *((fastlsgd.LeastSquaresRegressor, name) for name in ("l1_ratio", "n_jobs")),
    ],
)
def test_numbers_at_the_end_of_their_range_work_or_are_named(model, argument):
    more = {"max_iter": 2} if model is fastlsgd.SGDRegressor else {}
    for value in HUGE:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            refused = None
            try:
                model(**{**more, argument: value}).fit(X, Y)
            except ValueError as error:
                refused = str(error)
        assert refused is None or argument in refused


def test_batches_beyond_all_rows_are_all_rows():
    for batch_size in (10**30, np.uint64(2**64 - 1), 20):
        epoch = fastlsgd.sgd_epoch(X, Y, W, learning_rate=0.01, batch_size=batch_size)
        one = fastlsgd.SGDRegressor(batch_size=batch_size, max_iter=3, eta0=0.01, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            one.fit(X, Y)
        assert one.t_ == 4
        if batch_size == 10**30:
            first = epoch.coef, one.coef_
        np.testing.assert_array_equal(epoch.coef, first[0])
        np.testing.assert_array_equal(one.coef_, first[1])


def test_a_long_double_as_parameter_is_its_number():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for parameters in (
            {"penalty": "elasticnet", "l1_ratio": 0.5},
            {"learning_rate": "invscaling", "power_t": 0.5},
        ):
            models = []
            for kind in (float, np.longdouble):
                given = {
                    k: kind(v) if k in ("l1_ratio", "power_t") else v for k, v in parameters.items()
                }
                models.append(fastlsgd.SGDRegressor(max_iter=3, random_state=0, **given).fit(X, Y))
            np.testing.assert_allclose(models[0].coef_, models[1].coef_, rtol=1e-12)


@with_all
@pytest.mark.parametrize("make", [sp.csc_matrix, sp.bsr_matrix, sp.coo_matrix, sp.csr_matrix])
def test_sparse_data_that_is_a_list_is_refused(entry, make):
    damaged = make(X)
    damaged.data = list(np.ravel(damaged.data))
    with pytest.raises(ValueError, match=r"^[XA]: "):
        call(entry, damaged)


@pytest.mark.parametrize("make", [sp.csc_matrix, sp.bsr_matrix, sp.csr_matrix])
def test_masked_numbers_and_lists_of_rows_are_refused_in_sparse_formats(make):
    masked, listed = make(X), make(X)
    masked.data = np.ma.masked_array(masked.data, masked.data > 1.0)
    with pytest.raises(ValueError, match="X has masked elements"):
        call("LeastSquaresRegressor.fit", masked)
    listed.indptr = listed.indptr.tolist()
    with pytest.raises(ValueError, match="arrays of integers"):
        call("LeastSquaresRegressor.fit", listed)


def test_coo_without_coordinates_is_refused():
    damaged = sp.coo_matrix(X)
    if not hasattr(damaged, "coords"):
        pytest.skip("this SciPy has no coords")
    damaged.coords = None
    with pytest.raises(ValueError, match="X: COO coords"):
        call("LeastSquaresRegressor.fit", damaged)


HOUR = np.timedelta64(1, "h")
WRONG = {
    "max_iter": (fastlsgd.SGDRegressor, HOUR),
    "tol": (fastlsgd.SGDRegressor, HOUR),
    "alpha": (fastlsgd.LeastSquaresRegressor, HOUR),
    "l1_ratio": (fastlsgd.LeastSquaresRegressor, HOUR),
    "n_jobs": (fastlsgd.LeastSquaresRegressor, HOUR),
    "loss": (fastlsgd.SGDRegressor, np.array(["squared_error", "hinge"])),
    "penalty": (fastlsgd.SGDClassifier, np.array(["l1", "l2"])),
    "solver": (fastlsgd.LeastSquaresRegressor, np.array(["qr", "auto"])),
    "random_state": (fastlsgd.SGDRegressor, "zero"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_parameter_of_the_wrong_kind_is_named(name):
    make, value = WRONG[name]
    y = Y if make is not fastlsgd.SGDClassifier else np.median(Y) < Y
    with pytest.raises(ValueError, match=f"^{name} must be"):
        make(**{name: value}).fit(X, y)


CVS = [b"x", "x", {}, np.array("x"), np.array(1.0), np.ma.masked, HOUR, 2.0]


@pytest.mark.parametrize("cv", CVS, ids=repr)
def test_cv_of_the_wrong_kind_is_refused(cv):
    sgd = fastlsgd.SGDRegressor(max_iter=3, tol=None, random_state=0)
    for model in (
        fastlsgd.LeastSquaresCV(alphas=[0.1], cv=cv),
        fastlsgd.SGDRegressorCV(sgd, alphas=[0.1], cv=cv),
    ):
        with pytest.raises(ValueError, match=r"^cv must be"):
            model.fit(X, Y)


def test_numpy_strings_are_strings():
    fastlsgd.LeastSquaresRegressor(solver=np.str_("auto")).fit(X, Y)
    call("lstsq")
    model = fastlsgd.SGDRegressor(
        loss=np.str_("squared_error"), penalty=np.str_("l1"), max_iter=3, tol=None, random_state=0
    )
    assert model.fit(X, Y).coef_.shape == W.shape


@pytest.mark.parametrize("kind", ["bfloat16", "float8_e4m3fn", "int4"])
def test_labels_of_ml_dtypes(kind):
    dtype = getattr(pytest.importorskip("ml_dtypes"), kind)
    y = (np.median(Y) < Y).astype(dtype)
    for make in (fastlsgd.SGDClassifier, fastlsgd.LeastSquaresClassifier):
        assert make().fit(X, y).classes_.tolist() == [0, 1]


def test_the_loss_is_a_mean_whatever_the_scale_of_the_weights():
    expected = numbers(fastlsgd.loss_gradient(X, Y, W))
    for s in (np.full(len(Y), 1e308), 1e308, 5e-324):
        found = numbers(fastlsgd.loss_gradient(X, Y, W, sample_weight=s))
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_what_overflows_is_named():
    with pytest.raises(ValueError, match="rescale X or sample_weight"):
        fastlsgd.gram(X, sample_weight=np.full(len(Y), 1e308))
    for change in ({"intercept": 1e308}, {"coef": np.full(W.shape, 1e200)}):
        with pytest.raises(ValueError, match="rescale X, y, coef or intercept"):
            fastlsgd.sgd_epoch(X, Y, **{"coef": W, "learning_rate": 0.01} | change)
    with pytest.raises(ValueError, match="learning_rate or sample_weight"):
        fastlsgd.sgd_epoch(X, Y, W, learning_rate=0.01, sample_weight=np.full(len(Y), 1e300))
    with pytest.raises(ValueError, match="l1_ratio"):
        fastlsgd.LeastSquaresCV(l1_ratio=5e-324).fit(X, Y)


class _Broken:
    """An array whose conversion fails, as that of PyTorch's sparse tensors does."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no array")


GROUPS = np.repeat([0, 1], len(Y) // 2)
ARGUMENTS = {
    "order": lambda: fastlsgd.sgd_epoch(X, Y, W, learning_rate=0.1, order=_Broken()),
    "groups": lambda: fastlsgd.grouped_lstsq(X, Y, _Broken()),
    "groups, void": lambda: fastlsgd.grouped_lstsq(X, Y, np.zeros(len(Y), "V8")),
    "times": lambda: fastlsgd.rolling_lstsq(X, Y, "3s", times=_Broken()),
    "target": lambda: scan(X, _Broken()),
    "target, masked": lambda: scan(X, np.ma.masked_array(Y, Y > 1.0)),
    "target, sparse": lambda: scan(X, sp.csr_array(Y[:, None])),
    "y": lambda: fastlsgd.LeastSquaresClassifier().fit(X, _Broken()),
    "y, void": lambda: fastlsgd.LeastSquaresClassifier().fit(X, np.zeros(len(Y), "f8,f8")),
    "y, number": lambda: fastlsgd.SGDClassifier().fit(X, 3.0),
    "y, bytes": lambda: fastlsgd.SGDClassifier().fit(X, (Y > 1.0).astype("S")),
    "score": lambda: fastlsgd.LeastSquaresRegressor().fit(X, Y).score(X, 3.0),
    "bounds": lambda: fastlsgd.LeastSquaresRegressor(bounds=np.array(1.0)).fit(X, Y),
    "return_info": lambda: fastlsgd.lstsq(X, Y, return_info="no"),
    "fit_intercept": lambda: fastlsgd.grouped_lstsq(X, Y, GROUPS, fit_intercept="no"),
    "intercept": lambda: fastlsgd.sgd_epoch(X, Y, W, learning_rate=0.1, fit_intercept=np.nan),
    "drop_first": lambda: scan(X, Y, drop_first=None),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_every_argument_goes_by_the_same_rules(case):
    with pytest.raises(ValueError, match=r"must|masked|bytes|dtype|should be"):
        ARGUMENTS[case]()


def test_strings_of_any_length_are_labels():
    y = np.where(np.median(Y) < Y, "yes", "no")
    dtypes = pytest.importorskip("numpy.dtypes")
    if not hasattr(dtypes, "StringDType"):
        pytest.skip("NumPy before 2.0 has no such strings")
    model = fastlsgd.LeastSquaresClassifier().fit(X, y.astype(dtypes.StringDType()))
    assert model.classes_.tolist() == ["no", "yes"]
    assert (model.predict(X) == fastlsgd.LeastSquaresClassifier().fit(X, y).predict(X)).all()


def test_scores_whatever_the_scale_of_the_weights():
    s = np.random.default_rng(0).uniform(0.5, 2.0, len(Y))
    for name in ("LeastSquaresRegressor", "LeastSquaresClassifier", "SGDRegressorCV"):
        y = np.median(Y) < Y if name.endswith("Classifier") else Y
        with np.errstate(over="ignore"):  # partial_fit would need their sum, which is kept
            model = MODELS[name]().fit(X, y, sample_weight=s * 2.0**1022)
        score = model.score(X, y, sample_weight=s * 2.0**1022)
        np.testing.assert_allclose(score, model.score(X, y, sample_weight=s), rtol=1e-12)
