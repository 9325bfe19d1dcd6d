"""The public functions: results and refusals."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse as sp

import fastlsgd
from fastlsgd import _validation as check

N, D = 20, 4


def problem(dtype=np.float64, targets=None):
    rng = np.random.default_rng(0)
    shape = () if targets is None else (targets,)
    return (
        rng.normal(size=(N, D)).astype(dtype),
        rng.normal(size=(N, *shape)).astype(dtype),
        rng.normal(size=(*shape, D)),
        rng.uniform(0.5, 2.0, N),
    )


def spoilt(array, value, at=7):
    array = np.array(array)
    array.flat[at] = value
    return array


def with_index(value, kind=sp.csr_array):
    X = kind(problem()[0])
    X.indices[3] = value
    return X


def with_indptr(where, value):
    X = sp.csr_array(problem()[0])
    X.indptr[where] = value
    return X


CALLS = {
    "loss_gradient": lambda X, y, w, **more: fastlsgd.loss_gradient(X, y, w, **more),
    "sgd_epoch": lambda X, y, w, **more: fastlsgd.sgd_epoch(X, y, w, learning_rate=0.01, **more),
    "gram": lambda X, y, w, **more: fastlsgd.gram(X, y, **more),
    "predict": lambda X, y, w, **more: fastlsgd.predict(X, w, **more),
}
with_targets = pytest.mark.parametrize("name", ["loss_gradient", "sgd_epoch", "gram"])
with_weights = pytest.mark.parametrize("name", ["loss_gradient", "sgd_epoch", "predict"])
with_any = pytest.mark.parametrize("name", list(CALLS))


# ----------------------------------------------------------------------- results


def test_loss_gradient_is_the_formula():
    X, y, w, s = problem()
    r = X @ w + 0.3 - y
    loss, coef, intercept = fastlsgd.loss_gradient(
        X, y, w, 0.3, sample_weight=s, alpha=0.1, l1_ratio=0.25
    )
    l1, l2 = 0.025 * np.abs(w).sum(), 0.5 * 0.075 * (w @ w)
    np.testing.assert_allclose(loss, 0.5 * (s * r * r).sum() / s.sum() + l1 + l2)
    np.testing.assert_allclose(
        coef, X.T @ (s * r) / s.sum() + 0.025 * np.sign(w) + 0.075 * w, rtol=1e-12
    )
    np.testing.assert_allclose(intercept, (s * r).sum() / s.sum())


def test_sgd_epoch_is_the_loop():
    X, y, w, s = problem()
    order = np.array([3, 1, 4, 1, 5, 9, 2])
    coef, intercept, total = w.copy(), 0.3, 0.0
    for k, i in enumerate(order):
        r = X[i] @ coef + intercept - y[i]
        total += 0.5 * r * r
        rate = 0.1 / (k + 1)
        coef = (1 - rate * 0.2) * coef - rate * s[i] * r * X[i]
        intercept -= rate * s[i] * r
    result = fastlsgd.sgd_epoch(
        X,
        y,
        w,
        0.3,
        learning_rate=0.1 / np.arange(1, 8),
        order=order,
        sample_weight=s,
        alpha=0.2,
    )
    np.testing.assert_allclose(result.coef, coef, rtol=1e-12)
    np.testing.assert_allclose(result.intercept, intercept, rtol=1e-12)
    np.testing.assert_allclose(result.loss, total / 7, rtol=1e-12)


@pytest.mark.parametrize("order", [None, [3, 1, 4, 1, 5, 9, 2]])
def test_rows_of_zero_weight_are_not_in_the_mean_loss(order):
    X, y, w, _ = problem()
    s = np.arange(len(y)) % 3 > 0
    there = np.flatnonzero(s) if order is None else [i for i in order if s[i]]
    kept = fastlsgd.sgd_epoch(X, y, w, learning_rate=0.01, order=there)
    result = fastlsgd.sgd_epoch(X, y, w, learning_rate=0.01, order=order, sample_weight=s)
    np.testing.assert_allclose(result.loss, kept.loss, rtol=1e-12)
    losses = []
    for rows, weights in ((slice(None), s), (s, None)):
        model = fastlsgd.SGDRegressor(
            penalty=None, learning_rate="constant", eta0=0.01, max_iter=2, tol=None, shuffle=False
        )
        model.fit(X[rows], y[rows], sample_weight=weights, callback=lambda r: losses.append(r.loss))
    np.testing.assert_allclose(losses[:2], losses[2:], rtol=1e-12)


def test_gram_is_the_sums():
    X, y, _, s = problem()
    shift = X.mean(axis=0)
    moments = fastlsgd.gram(X, y, sample_weight=s, shift=shift)
    A = X - shift
    np.testing.assert_allclose(moments.xx, (A.T * s) @ A, atol=1e-12)
    np.testing.assert_allclose(moments.xy, (A.T * s) @ y, atol=1e-12)
    np.testing.assert_allclose(moments.x, s @ A, atol=1e-12)
    np.testing.assert_allclose([moments.y, moments.weight], [s @ y, s.sum()])
    alone = fastlsgd.gram(X)
    assert alone.xy is None
    assert alone.y is None
    np.testing.assert_allclose(alone.xx, X.T @ X, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shapes_and_dtypes(dtype):
    X, y, w, _ = problem(dtype)
    one = fastlsgd.loss_gradient(X, y, w)
    assert isinstance(one.loss, float)
    assert isinstance(one.intercept, float)
    assert (one.coef.shape, one.coef.dtype) == ((D,), dtype)
    assert fastlsgd.predict(X, w).shape == (N,)
    assert fastlsgd.predict(X, w).dtype == dtype
    epoch = fastlsgd.sgd_epoch(X, y, w, learning_rate=0.01)
    assert isinstance(epoch.intercept, float)
    assert (epoch.coef.shape, epoch.coef.dtype) == ((D,), dtype)
    X, Y, W, _ = problem(dtype, targets=3)
    many = fastlsgd.loss_gradient(X, Y, W, np.zeros(3))
    assert many.coef.shape == (3, D)
    assert many.intercept.shape == (3,)
    assert fastlsgd.predict(X, W).shape == (N, 3)
    assert fastlsgd.sgd_epoch(X, Y, W, learning_rate=0.01).coef.shape == (3, D)
    assert fastlsgd.gram(X, Y).xy.shape == (D, 3)
    # A single target in a matrix gives a matrix.
    assert fastlsgd.loss_gradient(X, Y[:, :1], W[:1]).coef.shape == (1, D)


@with_any
def test_arguments_are_left_as_they_are(name):
    X, y, w, s = problem()
    arrays = [X, y, w, s]
    for array in arrays:
        array.flags.writeable = False
    copies = [array.copy() for array in arrays]
    CALLS[name](X, y, w, **({"sample_weight": s} if name != "predict" else {}))
    for array, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def flat(result) -> np.ndarray:
    if isinstance(result, tuple):
        return np.concatenate([np.ravel(part) for part in result])
    return np.ravel(result)


def unaligned(array):
    raw = np.zeros(array.nbytes + 1, dtype=np.uint8)
    view = raw[1:].view(array.dtype).reshape(array.shape)
    view[:] = array
    assert not view.flags.aligned
    return view


def unsorted(X):
    csr = sp.csr_array(X)
    for i in range(N):
        span = slice(csr.indptr[i], csr.indptr[i + 1])
        csr.indices[span], csr.data[span] = csr.indices[span][::-1], csr.data[span][::-1]
    return sp.csr_array((csr.data, csr.indices, csr.indptr), csr.shape)


def with_duplicates(X):
    """A CSR matrix of the same values, in which each entry is stored as two halves."""
    csr = sp.csr_array(X)
    return sp.csr_array(
        (np.repeat(csr.data, 2) / 2, np.repeat(csr.indices, 2), 2 * csr.indptr), csr.shape
    )


def with_slack(X):
    """A CSR matrix with unused space after its last entry, as SciPy's eliminate_zeros leaves it."""
    csr = sp.csr_array(X)
    csr.data = np.append(csr.data, [np.nan] * 3)
    csr.indices = np.append(csr.indices, np.zeros(3, csr.indices.dtype))
    return csr


def int64(X):
    csr = sp.csr_array(X)
    csr.indices, csr.indptr = csr.indices.astype(np.int64), csr.indptr.astype(np.int64)
    return csr


def mixed(X):
    csr = sp.csr_array(X)
    csr.indptr = csr.indptr.astype(np.int64)
    return csr


LAYOUTS = {
    "list": lambda X: X.tolist(),
    "F": np.asfortranarray,
    "strided": lambda X: np.repeat(np.repeat(X, 2, 0), 3, 1)[::2, ::3],
    "reversed": lambda X: np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1],
    "transposed": lambda X: np.ascontiguousarray(X.T).T,
    "broadcast": lambda X: np.broadcast_to(X[:, None, :], (N, 1, D))[:, 0],
    "unaligned": unaligned,
    "big-endian": lambda X: X.astype(">f8"),
    "long double": lambda X: X.astype(np.longdouble),
    "objects": lambda X: X.astype(object),
    "integers": lambda X: X.astype(np.int16),
    "csr_array": sp.csr_array,
    "csr_matrix": sp.csr_matrix,
    "csc": sp.csc_array,
    "coo": sp.coo_array,
    "lil": sp.lil_array,
    "bsr": sp.bsr_array,
    "dok": sp.dok_array,
    "unsorted": unsorted,
    "duplicates": with_duplicates,
    "slack": with_slack,
    "int64": int64,
    "int64 indptr": mixed,
    "integer csr": lambda X: sp.csr_array(X.astype(np.int64)),
}


@with_any
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_X(name, layout):
    X, y, w, _ = problem()
    X = np.round(3 * X)
    given = LAYOUTS[layout](X)
    before = given.copy() if hasattr(given, "copy") else list(given)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = CALLS[name](given, y, w)
    np.testing.assert_allclose(flat(result), flat(CALLS[name](X, y, w)), rtol=1e-9, atol=1e-9)
    if sp.issparse(given) and given.format == "csr":
        np.testing.assert_array_equal(given.indices[: before.nnz], before.indices)
        np.testing.assert_array_equal(given.data[: before.nnz], before.data)


@pytest.mark.parametrize("targets", [1, 3, 20])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
def test_all_backends_predict_from_columns_that_come_twice(dtype, targets):
    """Validation leaves them to the kernels, which add up the terms of each column."""
    X = np.round(3 * problem()[0]).astype(dtype)
    X = (2 * X).astype(dtype)  # halves of whole numbers are whole
    given, w = with_duplicates(X), np.random.default_rng(0).normal(size=(targets, D))
    given.data = given.data.astype(dtype)
    for backend, state in fastlsgd.available_backends().items():
        if state == "available" and backend != "cuda":
            found = fastlsgd.predict(given, w, np.zeros(targets), backend=backend)
            np.testing.assert_allclose(found, X @ w.T, rtol=1e-5, atol=1e-5)


def test_small_floats_become_float32():
    X, _, w, _ = problem()
    for dtype in (np.float16, ">f4"):
        assert fastlsgd.predict(X.astype(dtype), w).dtype == np.float32


@with_any
def test_frames_and_series(name):
    pandas = pytest.importorskip("pandas")
    X, y, w, _ = problem()
    given = CALLS[name](pandas.DataFrame(X), pandas.Series(y), pandas.Series(w))
    np.testing.assert_allclose(flat(given), flat(CALLS[name](X, y, w)))


def test_dense_matrices_pass_without_a_copy():
    X, y, _, s = problem(np.float32)
    for layout in (X, np.asfortranarray(X), X[::2, ::-1]):
        assert check.as_matrix(layout) is layout
    assert np.shares_memory(check.as_targets(y, N, np.float32), y)
    csr = sp.csr_array(X)
    assert np.shares_memory(check.as_matrix(csr).data, csr.data)
    assert np.shares_memory(check.as_matrix(csr).indices, csr.indices)
    s = s.astype(np.float32)
    assert check.as_sample_weight(s, N, np.float32) is s


# --------------------------------------------------------------------------- bad input


def bad_matrices():
    X = problem()[0]
    wrong_length = sp.csr_array(X)
    wrong_length.indices = wrong_length.indices[:-1]
    return {
        "flat": (X.ravel(), "X must have 2 dimensions .* reshape"),
        "deep": (X[None], r"X must have 2 dimensions .*\(1, 20, 4\)"),
        "a number": (3.0, r"X must have 2 dimensions .* got shape \(\)"),
        "None": (None, "X must hold real numbers|X must have 2 dimensions"),
        "no rows": (X[:0], r"at least one row and one feature, got shape \(0, 4\)"),
        "no columns": (X[:, :0], r"at least one row and one feature, got shape \(20, 0\)"),
        "no rows, sparse": (sp.csr_array((0, D)), "at least one row and one feature"),
        "no columns, sparse": (sp.csr_array((N, 0)), "at least one row and one feature"),
        "strings": (X.astype(str), "X must hold real numbers, got dtype <U"),
        "words": ([["a"] * D] * N, "X must hold real numbers"),
        "words in objects": (np.full((N, D), "a", dtype=object), "real numbers, got objects"),
        "ragged": ([[1.0, 2.0], [3.0]], "X must be an array of numbers"),
        "complex": (X + 1j, "X must hold real numbers, got dtype complex128"),
        "dates": (X.astype("datetime64[s]"), "X must hold real numbers, got dtype datetime64"),
        "complex, sparse": (sp.csr_array(X + 1j), "X must hold real numbers, got dtype complex"),
        "one-dimensional, sparse": (sp.coo_array(X[0]), "X must have 2 dimensions"),
        "nan": (spoilt(X, np.nan), r"X contains NaN \(dtype float64\)"),
        "inf": (spoilt(X, np.inf), "X contains infinity"),
        "-inf": (spoilt(X, -np.inf), "X contains infinity"),
        "nan, float32": (spoilt(X, np.nan).astype(np.float32), r"X contains NaN \(dtype float32\)"),
        "nan, F": (np.asfortranarray(spoilt(X, np.nan)), "X contains NaN"),
        "nan, sparse": (sp.csr_array(spoilt(X, np.nan)), "X contains NaN"),
        "inf, sparse": (sp.csr_array(spoilt(X, np.inf)), "X contains infinity"),
        "index too large": (with_index(D), r"column indices must lie in \[0, 4\), got 0 to 4"),
        "index far off": (with_index(2**31 - 1), "column indices must lie in"),
        "negative index": (with_index(-1), r"column indices must lie in \[0, 4\), got -1 to 3"),
        "CSC index too large": (with_index(N, sp.csc_array), "CSC indices or indptr are not valid"),
        "CSC negative index": (with_index(-1, sp.csc_array), "CSC indices or indptr are not valid"),
        "indptr does not start at 0": (with_indptr(0, 1), "CSR indptr must"),
        "indptr falls": (with_indptr(5, 60), "never decrease"),
        "negative indptr": (with_indptr(5, -3), "never decrease"),
        "indptr ends outside": (with_indptr(-1, 1000), "indptr ends at 1000, beyond the 80"),
        "fewer indices than data": (wrong_length, "indptr ends at 80, beyond the 79"),
    }


@pytest.mark.parametrize("case", bad_matrices())
@with_any
def test_bad_X(name, case):
    X, message = bad_matrices()[case]
    if case == "one-dimensional, sparse" and X.ndim == 2:
        pytest.skip("SciPy before 1.13 has no sparse arrays of one dimension")
    _, y, w, _ = problem()
    with pytest.raises(ValueError, match=f"(?i){message}"):
        CALLS[name](X, y, w)


def bad_targets():
    y = problem()[1]
    return {
        "too short": (y[:-1], r"y must have shape \(20,\) or \(20, n_targets\) .* got shape \(19,"),
        "too long": (np.append(y, 1.0), "y must have shape"),
        "a number": (1.0, r"y must have shape .* got shape \(\)"),
        "deep": (np.zeros((N, 1, 1)), "y must have shape"),
        "sideways": (y[None], "y must have shape"),
        "no targets": (np.zeros((N, 0)), "y must have at least one target"),
        "words": (["a"] * N, "y must hold real numbers"),
        "complex": (y + 1j, "y must hold real numbers"),
        "sparse": (sp.csr_array(y[:, None]), "y must be a dense array, got a sparse csr_array"),
        "nan": (spoilt(y, np.nan), "y contains NaN"),
        "inf": (spoilt(y, np.inf), "y contains infinity"),
    }


@pytest.mark.parametrize("case", bad_targets())
@with_targets
def test_bad_y(name, case):
    X, _, w, _ = problem()
    y, message = bad_targets()[case]
    with pytest.raises(ValueError, match=message):
        CALLS[name](X, y, w)


def bad_coefficients():
    w = problem()[2]
    return {
        "too short": (w[:-1], r"coef must have shape \(4,\) or \(n_targets, 4\)"),
        "a number": (1.0, "coef must have"),
        "column": (w[:, None], "coef must have shape"),
        "deep": (w[None, None], "coef must have"),
        "empty": (np.zeros((0, D)), "coef must have shape"),
        "words": (["a"] * D, "coef must hold real numbers"),
        "None": (None, "coef must"),
        "nan": (spoilt(w, np.nan, 2), "coef contains NaN"),
        "inf": (spoilt(w, np.inf, 2), "coef contains infinity"),
    }


@pytest.mark.parametrize("case", bad_coefficients())
@with_weights
def test_bad_coef(name, case):
    X, y, _, _ = problem()
    w, message = bad_coefficients()[case]
    with pytest.raises(ValueError, match=message):
        CALLS[name](X, y, w)


@with_weights
def test_bad_intercept(name):
    X, y, w, _ = problem()
    for b, message in (
        (np.zeros(2), r"intercept must be a number or have shape \(1,\)"),
        ("a", "intercept must hold real numbers"),
        (None, "intercept must hold real numbers"),
        (np.nan, "intercept contains NaN"),
        (np.inf, "intercept contains infinity"),
    ):
        with pytest.raises(ValueError, match=message):
            CALLS[name](X, y, w, intercept=b)


def test_targets_and_coefficients_that_do_not_go_together():
    X, Y, W, _ = problem(targets=3)
    for name in ("loss_gradient", "sgd_epoch"):
        with pytest.raises(ValueError, match="coef is for 2 targets but y has 3"):
            CALLS[name](X, Y, W[:2])
        with pytest.raises(ValueError, match="coef is for 1 targets but y has 3"):
            CALLS[name](X, Y, W[0])


BAD_WEIGHTS = {
    "negative": (-np.ones(N), "sample_weight must not be negative, got -1"),
    "one negative": (spoilt(np.ones(N), -1e-9), "sample_weight must not be negative"),
    "all zero": (np.zeros(N), "sample_weight is all zero"),
    "nan": (spoilt(np.ones(N), np.nan), "sample_weight contains NaN or infinity"),
    "inf": (spoilt(np.ones(N), np.inf), "sample_weight contains NaN or infinity"),
    "too short": (np.ones(N - 1), r"sample_weight must have shape \(20,\), got shape \(19,\)"),
    "column": (np.ones((N, 1)), "sample_weight must have shape"),
    "words": (["a"] * N, "sample_weight must hold real numbers"),
}


@pytest.mark.parametrize("case", BAD_WEIGHTS)
@with_targets
def test_bad_sample_weight(name, case):
    X, y, w, _ = problem()
    weights, message = BAD_WEIGHTS[case]
    with pytest.raises(ValueError, match=message):
        CALLS[name](X, y, w, sample_weight=weights)


@pytest.mark.parametrize("name", ["loss_gradient", "sgd_epoch"])
def test_bad_penalties(name):
    X, y, w, _ = problem()
    for value in (-1e-9, np.nan, np.inf, "1", None, True, 1j):
        with pytest.raises(ValueError, match=r"alpha must be a number in \[0, inf\)"):
            CALLS[name](X, y, w, alpha=value)
    for value in (-0.1, 1.1, np.nan, "half"):
        with pytest.raises(ValueError, match=r"l1_ratio must be a number in \[0, 1\]"):
            CALLS[name](X, y, w, l1_ratio=value)


def test_bad_settings_of_an_epoch():
    X, y, w, _ = problem()

    def refused(message, **more):
        with pytest.raises(ValueError, match=message):
            fastlsgd.sgd_epoch(X, y, w, **{"learning_rate": 0.01, **more})

    for value in (0, -1, 1.5, "1", None, True):
        refused("batch_size must be a whole number >= 1", batch_size=value)
    for value in (-0.1, np.nan, np.inf, [0.1] * (N - 1) + [-1e-9]):
        refused("learning_rate must be finite and not negative", learning_rate=value)
    refused(r"learning_rate must be a number or have shape \(20,\)", learning_rate=[0.1] * 19)
    refused(r"have shape \(7,\)", learning_rate=[0.1] * N, batch_size=3)
    refused(r"have shape \(2,\)", learning_rate=[0.1] * 3, order=[0, 1])
    refused("learning_rate must hold real numbers", learning_rate="fast")
    for rows in ([0.0, 1.0], [[0, 1]], [], ["a"], 3, [True]):
        refused("order must be whole row numbers", order=rows)
    refused(r"order must hold row numbers in \[0, 20\), got -1 to 3", order=[3, -1])
    refused("order must hold row numbers", order=[N])
    refused("order must hold row numbers", order=np.array([2**63], dtype=np.uint64))


def test_rates_that_diverge():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(3000, D)), np.ones(3000)
    for dtype in (np.float32, np.float64):
        with pytest.raises(ValueError, match="learning_rate=2 is too large: the weights diverge"):
            fastlsgd.sgd_epoch(X.astype(dtype), y, np.zeros(D), learning_rate=2.0)


def test_sums_that_overflow():
    X, y, w, _ = problem()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # from the NumPy backend
        with pytest.raises(ValueError, match="overflows"):
            fastlsgd.loss_gradient(1e200 * X, y, w)
        with pytest.raises(ValueError, match="overflow"):
            fastlsgd.gram(1e200 * X)
        with pytest.raises(ValueError, match="prediction overflows float32"):
            fastlsgd.predict(X.astype(np.float32), 1e39 * w)
        # The sums fit into float64, but the gradient does not fit into float32.
        with pytest.raises(ValueError, match="gradient overflows"):
            fastlsgd.loss_gradient((1e25 * X).astype(np.float32), y, w)


def test_bad_shift():
    X = problem()[0]
    with pytest.raises(ValueError, match=r"shift must have shape \(4,\)"):
        fastlsgd.gram(X, shift=np.zeros(3))
    with pytest.raises(ValueError, match="shift contains NaN"):
        fastlsgd.gram(X, shift=np.full(D, np.nan))


@with_any
def test_bad_backend(name):
    X, y, w, _ = problem()
    for value in ("fortran", "", 1, b"native", ["native"]):
        with pytest.raises(ValueError, match="backend must be one of 'auto', 'native'"):
            CALLS[name](X, y, w, backend=value)
