"""Moments: any tree of merges is one pass, columns far from zero keep their digits, files are
checked."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from small_problems import few

from fastlsgd import Moments, config_context, gram

FACTORS = "gram", "qr"


def data(seed: int, n: int, d: int = 3, t: int = 1, far: float = 0.0, dtype=np.float64):
    """X, y (n, t) and positive weights, with columns `far` standard deviations from zero."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) @ (np.eye(d) + 0.3 * rng.normal(size=(d, d))) + far
    y = (X - far) @ rng.normal(size=(d, t)) + rng.normal(size=(n, t)) + far
    return X.astype(dtype), y.astype(dtype), rng.uniform(0.1, 3.0, size=n).astype(dtype)


def merged(parts: list[Moments], rng: np.random.Generator) -> Moments:
    """Merge parts in a random tree."""
    parts = list(parts)
    while len(parts) > 1:
        i, j = rng.choice(len(parts), 2, replace=False)
        both = parts[i] + parts[j]
        parts = [part for k, part in enumerate(parts) if k not in (i, j)] + [both]
    return parts[0]


def truth(X, y, s):
    """The mean and products in extended precision."""
    Z = np.column_stack([X, y]).astype(np.longdouble)
    s = np.ones(len(Z)) if s is None else s
    s = s.astype(np.longdouble)
    mean = (s @ Z) / s.sum()
    A = Z - mean
    return mean, (A.T * s) @ A


def off(moments: Moments, mean, products) -> float:
    """The largest error, relative to the norms of the columns."""
    d = moments.n_features
    norms = np.sqrt(np.diag(products)).astype(float)
    scale = np.outer(norms, norms)
    found = np.column_stack([moments.xx, moments.xy.reshape(d, -1)])
    errors = np.abs(found - products[:d].astype(float)) / scale[:d]
    squares = np.abs(np.ravel(moments.yy) - np.diag(products)[d:].astype(float)) / norms[d:] ** 2
    means = np.append(moments.x_mean, moments.y_mean) - mean
    allowed = norms / np.sqrt(moments.n_samples) + 1e4 * np.abs(mean)
    return max(errors.max(), squares.max(), float(np.abs(means / allowed).max()))


@pytest.mark.parametrize("factor", FACTORS)
@few(20)
@given(
    seed=st.integers(0, 2**20),
    n=st.integers(3, 300),
    parts=st.integers(1, 40),
    t=st.integers(1, 3),
    weighted=st.booleans(),
    far=st.sampled_from([0.0, 1e3, 1e8]),
    dtype=st.sampled_from([np.float64, np.float32]),
)
def test_any_tree_of_parts_is_one_pass(factor, seed, n, parts, t, weighted, far, dtype):
    far = min(far, 1e3) if dtype == np.float32 else far
    X, y, s = data(seed, n, t=t, far=far, dtype=dtype)
    s = s if weighted else None
    rng = np.random.default_rng(seed)
    cuts = np.sort(rng.integers(0, n + 1, size=parts - 1))
    pieces = [
        Moments.from_data(X[rows], y[rows], None if s is None else s[rows], factor=factor)
        for rows in np.split(np.arange(n), cuts)
        if len(rows)
    ]
    found = merged(pieces, rng)
    assert found.n_samples == n
    assert off(found, *truth(X, y, s)) < 1e-12
    assert off(Moments.from_data(X, y, s, factor=factor), *truth(X, y, s)) < 1e-12
    assert (found.dtype, found.target_dtype) == (dtype, dtype)


@pytest.mark.parametrize("factor", FACTORS)
def test_a_thousand_parts_far_from_zero(factor):
    X, y, s = data(0, 4000, far=1e8)
    pieces = [
        Moments.from_data(X[i : i + 4], y[i : i + 4, 0], s[i : i + 4], factor=factor)
        for i in range(0, 4000, 4)
    ]
    mean, products = truth(X, y, s)
    assert off(merged(pieces, np.random.default_rng(0)), mean, products) < 1e-12
    assert off(sum(pieces), mean, products) < 1e-12
    one_by_one = Moments(factor=factor)
    for i in range(0, 4000, 4):
        one_by_one.update(X[i : i + 4], y[i : i + 4, 0], s[i : i + 4])
    assert off(one_by_one, mean, products) < 1e-12


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("kind", [np.float32, np.int16, ">f8", "csr", "fortran"])
def test_dtypes_and_formats(factor, kind):
    X, y, s = data(1, 60)
    X = np.round(X * 4) * (np.abs(X) > 0.5)
    given_X = {"csr": sp.csr_array, "fortran": np.asfortranarray}.get(
        kind, lambda A: A.astype(kind)
    )
    found = Moments.from_data(given_X(X), y[:, 0], s, factor=factor)
    assert off(found, *truth(X, y, s)) < 1e-12


def test_all_backends(backend):
    X, y, s = data(2, 60, t=2, far=5.0)
    with config_context(backend=backend[0]):
        moments = Moments.from_data(X, y, s)
        assert off(moments, *truth(X, y, s)) < 1e-12
        np.testing.assert_array_equal(moments.xx, moments.xx.T)  # as files are checked
        assert off(Moments.from_data(X, y, s, factor="qr"), *truth(X, y, s)) < 1e-12


def test_blocks_are_merged(monkeypatch):
    """A chunk of more rows than a block is divided."""
    monkeypatch.setattr("fastlsgd.solvers.moments.LEAST_ROWS", 7)
    monkeypatch.setattr("fastlsgd.solvers.moments.BLOCK_NUMBERS", 21)
    X, y, s = data(3, 60)
    s[8:20] = 0.0
    X[8:20] = 1e200
    found = Moments.from_data(X, y, s)
    counted = s > 0.0
    assert off(found, *truth(X[counted], y[counted], s[counted])) < 1e-12
    assert found.n_samples == 48


def test_large_sums_are_made_a_few_rows_at_a_time(monkeypatch):
    """Ctrl-C waits for one operation of NumPy; the sums have the same bits however it is cut."""
    X = np.random.default_rng(0).normal(size=(90, 7)) + 3.0
    y = X @ np.arange(7.0)

    def sums():
        part = Moments().update(X[:50], y[:50], np.linspace(0.5, 2.0, 50))
        whole = part + Moments().update(X[50:], y[50:])
        return whole.required_sums().xx, (whole - part).required_sums().xx

    expected = sums()
    monkeypatch.setattr("fastlsgd.solvers.moments.PART_NUMBERS", 2 * 7)
    for found, one in zip(sums(), expected, strict=True):
        assert np.array_equal(found, one)
        assert np.array_equal(found, found.T)


@pytest.mark.parametrize("factor", FACTORS)
def test_a_part_is_taken_out_again(factor):
    X, y, s = data(4, 200, t=2, far=1e6)
    whole, part = (
        Moments.from_data(X[rows], y[rows], s[rows], factor=factor)
        for rows in (slice(None), slice(50))
    )
    assert off(whole - part, *truth(X[50:], y[50:], s[50:])) < 1e-9
    assert (whole - part).n_samples == 150
    assert (whole - whole).n_samples == 0
    with pytest.raises(ValueError, match="200 rows can't be taken out of 50"):
        part - whole


@pytest.mark.parametrize("factor", FACTORS)
def test_a_subtraction_that_leaves_rounding_is_refused(factor):
    X, y, _ = data(5, 100)
    X[:50, 1] *= 1e9
    whole, part = (
        Moments.from_data(X[rows], y[rows], factor=factor) for rows in (slice(None), slice(50))
    )
    with pytest.raises(ValueError, match="x1" if factor == "gram" else "too few digits are left"):
        whole - part


@pytest.mark.parametrize("factor", FACTORS)
def test_columns_are_selected_by_number_mask_and_name(factor):
    pandas = pytest.importorskip("pandas")
    X, y, s = data(6, 50, d=4)
    whole = Moments.from_data(pandas.DataFrame(X, columns=list("abcd")), y, s, factor=factor)
    for columns in (["c", "a"], [2, 0]):
        some = whole.select(columns)
        assert list(some.feature_names_in_) == ["c", "a"]
        assert off(some, *truth(X[:, [2, 0]], y, s)) < 1e-12
    assert off(whole.select(np.arange(4) > 1), *truth(X[:, 2:], y, s)) < 1e-12
    for columns, message in (
        (["e"], "no column 'e'"), ([4], "no column 4"), ([0, 0], "twice"), ([], "list of columns"),
        ([0.5], "no column 0.5"), ([True], "mask"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            whole.select(columns)


def test_condition_is_that_of_scaled_centred_columns():
    X, y, _ = data(7, 500, d=4)
    X[:, 1] = 1e6 * (X[:, 0] + 1e-4 * X[:, 1])
    A = X - X.mean(axis=0)
    expected = np.linalg.cond(A / np.linalg.norm(A, axis=0), 2)
    for factor in FACTORS:
        moments = Moments.from_data(X, y, factor=factor)
        assert 0.2 < moments.condition() / expected < 5.0
        constant = Moments.from_data(np.column_stack([X, np.full(500, 0.1)]), y, factor=factor)
        np.testing.assert_allclose(constant.condition(), moments.condition(), rtol=1e-6)
        twice = Moments.from_data(np.column_stack([X, X[:, 0]]), y, factor=factor)
        assert twice.condition() > 3e6


def test_parts_that_do_not_fit_together_are_refused():
    pandas = pytest.importorskip("pandas")
    X, y, _ = data(8, 20)
    moments = Moments.from_data(X, y[:, 0])
    before = dict(vars(moments))
    named = Moments.from_data(pandas.DataFrame(X, columns=list("abc")), y[:, 0])
    other = Moments.from_data(pandas.DataFrame(X, columns=list("abd")), y[:, 0])
    for call, message in (
        (lambda: moments + Moments.from_data(X[:, :2], y[:, 0]), "2 features, but .* have 3"),
        (lambda: moments + Moments.from_data(X, y), "1 targets in columns, but .* one target"),
        (lambda: moments + Moments.from_data(X, y[:, 0], factor="qr"), "can't be merged"),
        (lambda: named + other, "column 2 is 'c' on the left and 'd' on the right"),
        (lambda: moments.update(X[:, :2], y[:, 0]), "2 features"),
        (lambda: moments.update(X * np.nan, y[:, 0]), "X contains NaN"),
        (lambda: moments.update(X, y[:, 0], np.full(20, 1e308)), "out of range"),
        (lambda: Moments.from_data(X * 1e200, y[:, 0]).xx, "xx is out of the range of float64"),
        (lambda: Moments.from_data(X, y[:, 0] * 1e-200).yy, "yy is out of the range of float64"),
        (lambda: moments.update(X, y[:5, 0]), "y must have shape"),
        (lambda: named.update(pandas.DataFrame(X, columns=list("abd")), y[:, 0]), "feature names"),
        (lambda: Moments(factor="lu"), "factor must be one of"),
        (lambda: Moments().select([0]), "empty"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert vars(moments) == before
    assert list((moments + named).feature_names_in_) == ["a", "b", "c"]
    with pytest.raises(TypeError):
        moments + 1


def test_nothing_is_added_by_no_rows_and_zero_weights():
    X, y, _ = data(9, 20)
    moments = Moments.from_data(X, y[:, 0])
    for part in (Moments(), Moments().update(X[:0], y[:0, 0]), Moments().update(X, y[:, 0], 0.0)):
        assert part.n_samples == 0
        np.testing.assert_array_equal((part + moments).xx, moments.xx)
        np.testing.assert_array_equal((moments - part).xx, moments.xx)
    assert repr(moments) == "Moments(factor='gram', n_samples=20, n_features=3, n_targets=1)"


def test_the_kernel_gives_the_same_sums():
    X, y, s = data(10, 50)
    sums = gram(X, y[:, 0], sample_weight=s, shift=np.average(X, axis=0, weights=s))
    moments = Moments.from_data(X, y[:, 0], s)
    np.testing.assert_allclose(moments.xx, sums.xx, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(moments.weight, sums.weight)


# -------------------------------------------------------------------------------------- files


@pytest.fixture
def saved(tmp_path, request):
    pytest.importorskip("safetensors")
    X, y, s = data(11, 30)
    path = tmp_path / "moments.safetensors"
    Moments.from_data(X, y[:, 0], s).save(path)
    return path


@pytest.mark.parametrize("factor", FACTORS)
def test_a_file_gives_the_same_moments(factor, tmp_path):
    pytest.importorskip("safetensors")
    pandas = pytest.importorskip("pandas")
    X, y, s = data(12, 30, t=2, dtype=np.float32)
    moments = Moments.from_data(pandas.DataFrame(X, columns=list("abc")), y, s, factor=factor)
    moments.save(tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    again = Moments.load(tmp_path / "m")
    for name in ("xx", "xy", "yy", "x_mean", "y_mean", "weight", "n_samples", "dtype", "factor"):
        np.testing.assert_array_equal(getattr(again, name), getattr(moments, name))
    assert list(again.feature_names_in_) == ["a", "b", "c"]
    np.testing.assert_array_equal((again + moments).xx, (moments + moments).xx)


def rewritten(path, change) -> None:
    """Write the file anew, with a header and arrays that were changed."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["fastlsgd.moments"])
        arrays = {name: file.get_tensor(name) for name in ("origin", "offset", "xx", "xy", "yy")}
    change(header, arrays)
    save_file(arrays, path, {"fastlsgd.moments": json.dumps(header)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, a: h.update(n_features=2), "must have shape .* by the header"),
        (lambda h, a: h.update(n_targets=2, has_one_target=False), "by the header"),
        (lambda h, a: a.update(xx=a["xx"][:2, :2].copy()), r"xx must have shape \(3, 3\)"),
        (lambda h, a: a.update(yy=a["yy"].astype(np.float32)), "yy .* dtype float32"),
        (lambda h, a: a.pop("yy"), "the arrays must be"),
        (lambda h, a: a.update(more=np.zeros(3)), "the arrays must be"),
        (lambda h, a: a.update(xx=a["xx"] * np.nan), "xx has NaN"),
        (lambda h, a: a.update(xx=2.0 * a["xx"]), "checksum"),
        (lambda h, a: h.update(n_samples=31), "checksum"),
        (lambda h, a: h.update(n_samples=-1), "n_samples in the header"),
        (lambda h, a: h.update(n_features=True), "n_features in the header"),
        (lambda h, a: h.update(weight="nan"), "weight in the header"),
        (lambda h, a: h.update(weight=3.0), "weight in the header"),
        (lambda h, a: h.update(version=3), "version 3 can't be read"),
        (lambda h, a: h.update(version=2), "the arrays must be .*'units'"),
        (lambda h, a: h.update(format="model"), "format must be"),
        (lambda h, a: h.update(factor="qr"), "the arrays must be"),
        (lambda h, a: h.update(factor=["gram"]), "factor in the header"),
        (lambda h, a: h.update(feature_names=["a"]), "feature_names in the header"),
        (lambda h, a: h.update(dtype="object"), "dtype in the header"),
        (lambda h, a: h.pop("sha256"), "sha256 in the header"),
    ],
)
def test_a_file_that_lies_is_refused(saved, change, message):
    rewritten(saved, change)
    with pytest.raises(ValueError, match=message) as caught:
        Moments.load(saved)
    assert str(saved) in str(caught.value)


def test_damaged_files_are_refused(saved):
    content = saved.read_bytes()
    for damaged in (content[:-8], content[:20], b"", b"no", content + b"more"):
        saved.write_bytes(damaged)
        with pytest.raises(ValueError, match="no intact safetensors file"):
            Moments.load(saved)
    with pytest.raises(FileNotFoundError):
        Moments.load(saved.with_name("none"))
    with pytest.raises(ValueError, match="empty"):
        Moments().save(saved)


def test_a_failed_write_leaves_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def full(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        Moments.load(saved).save(saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
