"""Any source of the same rows gives the same stream, and errors name the file, place and column."""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.datasets import dump_svmlight_file

from fastlsgd import LeastSquaresRegressor, SGDRegressor
from fastlsgd.streaming import StreamError, StreamProgress, scan

pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")
for _name in ("csv", "dataset", "feather", "parquet"):
    importlib.import_module(f"pyarrow.{_name}")

N = 500


def frame(n: int = N):
    rng = np.random.default_rng(0)
    found = pd.DataFrame(
        {
            "size": rng.normal(size=n),
            "rooms": rng.integers(0, 9, n).astype(np.int16),
            "colour": rng.choice(["red", "blue", "green"], n),
            "new": rng.random(n) > 0.5,
            "weight": rng.uniform(0.5, 1.0, n),
        }
    )
    found["price"] = 2.0 * found["size"] - found.rooms + (found.colour == "red") + found.new
    found["price"] += rng.normal(size=n)
    return found


COLUMNS = ["size", "rooms", "colour", "new"]


def as_table(table):
    return pa.Table.from_pandas(table, preserve_index=False)


def parquet(table, folder):
    pa.parquet.write_table(as_table(table), folder / "t.parquet", row_group_size=90)
    return folder / "t.parquet"


def csv(table, folder):
    pa.csv.write_csv(as_table(table), folder / "t.csv")
    return folder / "t.csv"


def feather(table, folder):
    pa.feather.write_feather(as_table(table), folder / "t.feather")
    return str(folder / "t.feather")


def partitions(table, folder):
    pa.dataset.write_dataset(
        as_table(table), folder / "parts", format="parquet",
        partitioning=["colour"], partitioning_flavor="hive",
    )  # fmt: skip
    return folder / "parts"


def two_files(table, folder):
    paths = [folder / "1.parquet", folder / "2.parquet"]
    for path, part in zip(paths, (table[:200], table[200:]), strict=True):
        pa.parquet.write_table(as_table(part), path)
    return paths


def views_of_strings(table, folder):
    found = as_table(table)
    return found.set_column(2, "colour", found.column("colour").cast(pa.string_view()))


def dictionary(table, folder):
    found = as_table(table)
    return found.set_column(2, "colour", found.column("colour").dictionary_encode())


def polars(table, folder):
    return pytest.importorskip("polars").from_pandas(table)


def lazy(table, folder):
    return pytest.importorskip("polars").scan_parquet(parquet(table, folder))


SOURCES = {
    "parquet": parquet, "csv": csv, "feather": feather, "partitions": partitions,
    "two_files": two_files, "table": lambda table, folder: as_table(table),
    "views_of_strings": views_of_strings, "dictionary": dictionary, "polars": polars, "lazy": lazy,
    "pandas": lambda table, folder: table,
    "record_batch": lambda table, folder: as_table(table).to_batches()[0],
    "dataset": lambda table, folder: pa.dataset.dataset(parquet(table, folder)),
}  # fmt: skip


def expected_rows(table):
    X = np.column_stack(
        [table["size"], table.rooms, table.colour == "green", table.colour == "red", table.new]
    )
    return X.astype(float), table.price.to_numpy(), table.weight.to_numpy()


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_gives_the_same_rows(kind, tmp_path):
    table = frame()
    stream = scan(
        SOURCES[kind](table, tmp_path), "price", columns=COLUMNS, weight="weight", batch_rows=70
    )
    assert stream.feature_names == ["size", "rooms", "colour=green", "colour=red", "new"]
    parts = list(stream)
    assert max(len(y) for _, y, _ in parts) <= 70
    X, y, s = zip(*parts, strict=True)
    found = np.column_stack([np.vstack(X), np.concatenate(y), np.concatenate(s)])
    expected = np.column_stack(expected_rows(table))
    if kind == "partitions":  # whose files are ordered by colour
        found, expected = (rows[np.lexsort(rows.T)] for rows in (found, expected))
    np.testing.assert_allclose(found, expected, rtol=1e-15)
    model = LeastSquaresRegressor().fit(*expected_rows(table))
    streamed = LeastSquaresRegressor().fit_stream(stream)
    np.testing.assert_allclose(streamed.coef_, model.coef_, rtol=1e-10)
    assert list(streamed.feature_names_in_) == stream.feature_names
    again = zip(pickle.loads(pickle.dumps(stream)), parts, strict=True)
    assert all(np.array_equal(a, b) for pair in again for a, b in zip(*pair, strict=True))


def test_arrays_npy_and_memmaps(tmp_path):
    table = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    np.save(tmp_path / "t.npy", table)
    np.save(tmp_path / "y.npy", table[:, 0])
    for source, target in (
        (tmp_path / "t.npy", 0),
        (tmp_path / "t.npy", tmp_path / "y.npy"),
        (table, -4),
        (np.load(tmp_path / "t.npy", mmap_mode="r"), table[:, 0]),
    ):
        stream = scan(source, target, columns=[2, 3], weight=1, batch_rows=30)
        parts = list(stream)
        assert [len(y) for _, y, _ in parts] == [30, 30, 30, 10]
        np.testing.assert_array_equal(np.vstack([X for X, _, _ in parts]), table[:, 2:])
        np.testing.assert_array_equal(np.concatenate([y for _, y, _ in parts]), table[:, 0])
        np.testing.assert_array_equal(np.concatenate([s for _, _, s in parts]), table[:, 1])
        content = pickle.dumps(stream)  # where a file is, but not its numbers
        assert source is table or table.tobytes()[400:800] not in content
        again = np.vstack([X for X, _, _ in pickle.loads(content)])
        np.testing.assert_array_equal(again, table[:, 2:])
    assert scan(table, 3).n_features == 3


def batches_of_ones():
    yield np.ones((3, 2)), np.zeros(3)


def test_streams_of_batches_and_svmlight_are_pickled_where_their_source_is(tmp_path):
    path = tmp_path / "t.svm"
    dump_svmlight_file(np.eye(3), [1.0, 2.0, 3.0], str(path))
    for source in ([(np.ones((3, 2)), np.zeros(3))], batches_of_ones, path):
        stream = scan(source)
        ((X, y, _),) = pickle.loads(pickle.dumps(stream))
        ((expected, y_expected, _),) = stream
        assert X.shape == expected.shape
        np.testing.assert_array_equal(y, y_expected)
    with pytest.raises(StreamError, match=r"pickled only if its source can, but .*lambda.* files"):
        pickle.dumps(scan(lambda: batches_of_ones()))


def test_batches_can_be_gone_through_again():
    rng = np.random.default_rng(0)
    batches = [(rng.normal(size=(n, 3)), rng.normal(size=n)) for n in (4, 0, 5)]
    for source in (batches, lambda: iter(batches)):
        stream = scan(source)
        for _ in range(2):
            assert [len(y) for _, y, _ in stream] == [4, 5]
    with pytest.raises(ValueError, match="only once"):
        scan(iter(batches))
    with pytest.raises(ValueError, match="batch 1: a batch must be"):
        list(scan([batches[0], 3]))


def test_nulls_are_refused_by_name_or_imputed(tmp_path):
    table = frame()
    table.loc[95, "size"], table.loc[300, "colour"] = None, None
    table["rooms"] = table["rooms"].astype("Int16")
    table.loc[410, "rooms"] = None
    path = tmp_path / "t.parquet"
    pa.parquet.write_table(
        pa.Table.from_pandas(table, preserve_index=False), path, row_group_size=90
    )
    options = {"columns": COLUMNS, "weight": "weight"}
    with pytest.raises(StreamError, match=r"t.parquet, row group 1: column 'size' has 1 null:"):
        list(scan(path, "price", **options))
    with pytest.raises(StreamError, match=r"row group 3: column 'colour' has 1 null:"):
        list(scan(path, "price", impute={"size": 0.0}, **options))
    stream = scan(path, "price", impute={"size": 0.25, "colour": "none", "rooms": 2.5}, **options)
    X = np.vstack([X for X, _, _ in stream])
    names = stream.feature_names
    assert names == ["size", "rooms", "colour=green", "colour=none", "colour=red", "new"]
    assert (X[95, 0], X[410, 1], X[300, 3]) == (0.25, 2.5, 1.0)


def test_categories_are_given_or_found(tmp_path):
    path = parquet(frame(), tmp_path)
    stream = scan(
        path, "price", columns=["colour"], categories={"colour": ["red", "blue", "green"]}
    )
    assert stream.feature_names == ["colour=blue", "colour=green"]
    every = scan(path, "price", columns=["colour"], drop_first=False)
    assert every.feature_names == ["colour=blue", "colour=green", "colour=red"]
    with pytest.raises(StreamError, match=r"row group 0: column 'colour' has 'green'"):
        list(scan(path, "price", columns=["colour"], categories={"colour": ["red", "blue"]}))
    numbers = scan(path, "price", columns=["rooms"], categories={"rooms": range(9)})
    assert numbers.feature_names[:2] == ["rooms=1", "rooms=2"]
    assert (next(iter(numbers))[0].sum(axis=1) <= 1.0).all()


def test_categories_make_no_column_twice():
    table = pa.table({"k": ["a", "b", "a"], "k=b": [1.0, 2.0, 3.0], "y": [1.0, 2.0, 4.0]})
    for given in (["a", "b", "b"], "ab"):
        with pytest.raises(StreamError, match="those of 'k' must be a list of different values"):
            scan(table, "y", columns=["k"], categories={"k": given})
    with pytest.raises(StreamError, match="two columns 'k=b'"):
        scan(table, "y")


def test_filters_and_dtypes(tmp_path):
    table = frame()
    path = parquet(table, tmp_path)
    stream = scan(path, "price", columns=["rooms"], filter=pa.dataset.field("size") > 0.0)
    X = np.vstack([X for X, _, _ in stream])
    np.testing.assert_array_equal(X[:, 0], table.rooms[table["size"] > 0.0])
    assert X.dtype == np.float32
    assert next(iter(scan(path, "price", columns=["size"])))[0].dtype == np.float64
    two = next(iter(scan(path, ["price", "size"], columns=["rooms"])))
    assert two[1].shape[1] == 2


def broken_schema(folder):
    for k, names in enumerate((["a", "y"], ["b", "y"])):
        pa.parquet.write_table(
            pa.table({name: np.arange(9.0) for name in names}), folder / f"{k}.parquet"
        )
    return folder, r"1.parquet: column 'a' is missing"


def changed_type(folder):
    for k, values in enumerate((np.arange(3.0), ["u", "v", "w"])):
        pa.parquet.write_table(
            pa.table({"a": values, "y": [1.0, 2.0, 3.0]}), folder / f"{k}.parquet"
        )
    return folder, r"1.parquet, row group 0: column 'a' has type (large_)?string"


def strings_then_numbers(folder):
    for k, values in enumerate((["u", "v", "w"], np.arange(3))):
        pa.parquet.write_table(
            pa.table({"a": values, "y": [1.0, 2.0, 3.0]}), folder / f"{k}.parquet"
        )
    return folder, r"1.parquet, row group 0: column 'a' has type int64, but strings in files before"


def truncated(folder):
    path = folder / "0.parquet"
    pa.parquet.write_table(pa.table({"a": np.arange(999.0), "y": np.arange(999.0)}), path)
    path.write_bytes(path.read_bytes()[:-100])
    return path, r"0.parquet: this can't be read as parquet: Parquet magic bytes not found"


def damaged(folder):
    path = folder / "0.parquet"
    rng = np.random.default_rng(0)
    pa.parquet.write_table(
        pa.table({"a": rng.normal(size=999), "y": rng.normal(size=999)}), path,
        use_dictionary=False, compression="gzip",
    )  # fmt: skip
    content = bytearray(path.read_bytes())
    content[200:4000] = bytes(3800)
    path.write_bytes(bytes(content))
    return path, r"0.parquet, row group 0: the rows can't be read"


def not_a_number(folder):
    a = np.arange(999.0)
    a[700] = np.nan
    path = folder / "0.parquet"
    pa.parquet.write_table(pa.table({"a": a, "y": np.arange(999.0)}), path, row_group_size=300)
    return path, r"0.parquet, row group 2: X contains NaN: column 'a', row 100"


def text_in_csv(folder):
    path = folder / "0.csv"
    path.write_text("a,y\n" + "1,2\n" * 400_000 + "no,3\n")
    return path, r"0.csv: the rows can't be read: .*no"


def fewer_columns_in_a_row(folder):
    path = folder / "0.csv"
    path.write_text("a,y\n1,2\n3\n")
    return path, r"0.csv: this can't be read as csv: CSV parse error: Row #3: Expected 2 columns"


def no_values_in_a_second_file(folder):
    for k, values in enumerate((np.arange(3.0), pa.nulls(3))):
        table = pa.table({"a": values, "y": [1.0, 2.0, 3.0]})
        pa.parquet.write_table(table, folder / f"{k}.parquet")
    filled = scan(folder, "y", impute={"a": 1.0}).moments()
    assert (filled.n_samples, filled.x_mean[0]) == (6, 1.0)
    return folder, r"1.parquet, row group 0: column 'a' has 3 nulls: leave out their rows, or take"


def no_values(folder):
    path = folder / "0.csv"
    path.write_text("a,y\n")
    return path, "Column 'a' has no values: leave it out"


def no_files(folder):
    return folder, "there are no files in this folder"


def another_format(folder):
    np.savez(folder / "0.npz", np.ones(3))
    return folder / "0.npz", r"[^.]\. Names of other formats end with .arrow, .*\.npy"


def no_file(folder):
    os.mkfifo(folder / "fifo")
    return folder / "fifo", "fifo: this is neither a file nor a folder"


def column_of_a_filter(folder):
    parquet(frame().rename(columns={"size": "a", "price": "y"}), folder)
    stream = partial(scan, folder, "y", columns=["a"], filter=pa.dataset.field("zz") > 0)
    return stream, r"filter: No match for FieldRef.Name\(zz\) in [^\n]*; there are 'a', 'rooms'"


def damage_beside_an_intact_file(folder):
    parquet(frame(), folder)
    (folder / "z.parquet").write_bytes(b"cut")
    return [folder / "z.parquet", folder / "t.parquet"], "z.parquet: this can't be read as parquet"


def mixed_frame(folder):
    return pd.DataFrame({"a": [1.0, "x"], "y": [1.0, 2.0]}), r"Column 'a' has type object \(Could"


def lazy_frame_that_fails(folder):
    polars = pytest.importorskip("polars")
    lazy = polars.DataFrame({"a": ["1", "x"], "y": [1.0, 2.0]}).lazy()
    lazy = lazy.with_columns(polars.col("a").cast(polars.Float64))
    return lazy, "frame: the rows can't be read: conversion from `str` to `f64` failed"


def lazy_frame_without_a_column(folder):
    polars = pytest.importorskip("polars")
    lazy = polars.DataFrame({"y": [1.0, 2.0]}).lazy().with_columns(a=polars.col("b"))
    return lazy, 'frame: its columns can.t be read: unable to find column "b"'


@pytest.mark.parametrize(
    "make",
    [
        broken_schema, changed_type, truncated, damaged, not_a_number, text_in_csv, no_values,
        strings_then_numbers, no_values_in_a_second_file,
        fewer_columns_in_a_row, no_files, another_format, mixed_frame, lazy_frame_that_fails,
        no_file, column_of_a_filter, damage_beside_an_intact_file, lazy_frame_without_a_column,
    ],
)  # fmt: skip
def test_errors_name_the_place(make, tmp_path):
    source, message = make(tmp_path)
    model = LeastSquaresRegressor()
    make_stream = source if callable(source) else partial(scan, source, "y", columns=["a"])
    with pytest.raises(StreamError, match=message):
        model.fit_stream(make_stream())
    assert not hasattr(model, "coef_")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "EOF"),
        (b"junk" * 9, "magic string"),
        (None, "mmap length is greater"),
        ("objects", "Python objects"),
    ],
)
def test_a_damaged_array_file_is_named(content, message, tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.array([[1, "a"]], object) if content == "objects" else np.ones((9, 3)))
    if content != "objects":
        path.write_bytes(path.read_bytes()[:-8] if content is None else content)
    with pytest.raises(StreamError, match=f"x.npy: this is no intact .npy file: .*{message}"):
        scan(path, 0)


def test_arguments_are_checked(tmp_path):
    table = frame()
    labelled = pd.DataFrame(np.ones((3, 2)))
    sparse_column = table.assign(s=pd.arrays.SparseArray(np.zeros(N)))
    nan_category = pa.table({"a": pa.array([1.0, np.nan]).dictionary_encode(), "y": [1.0, 2.0]})
    for call, message in (
        (lambda: scan(table), "target must be the name of a column"),
        (lambda: scan(table, "cost"), "no column 'cost' among 'size'"),
        (lambda: scan(table, "price", columns="size"), "columns must be a list"),
        (lambda: scan(table, "price", columns=["size", "size"]), "twice"),
        (lambda: scan(table, "price", columns=["x"]), "no column 'x'"),
        (lambda: scan(table, "price", columns=[]), "no columns for X"),
        (lambda: scan(table, "price", weight="w"), "no column 'w'"),
        (lambda: scan(table, "price", impute={"w": 1}), "no column 'w'"),
        (lambda: scan(table, "price", impute={"size": "u"}), "'size' .*takes a number, got 'u'"),
        (lambda: scan(table, "price", impute={"colour": 7}), "'colour' .*takes a string, got 7"),
        (lambda: scan(table, "price", filter="a > 0"), "filter must be an expression"),
        (lambda: scan(table, "price", filter=pa.dataset.field("a") > 0), "filter .* a DataFrame"),
        (lambda: scan(np.ones((3, 2)), 0, impute={"a": 1}), "impute is for columns of tables"),
        (lambda: scan([], columns=["a"]), "columns is for columns of tables, not for batches"),
        (lambda: scan(np.ones((3, 2)), np.ma.masked_equal([1.0, 2.0, 3.0], 2.0)), "target .*mask"),
        (lambda: scan(sp.eye_array(3).tocsr()), "sparse matrix is a batch"),
        (lambda: scan(table, "price", batch_rows=0), "batch_rows must be"),
        (lambda: scan(table, "price", memory=0.5), "memory must be"),
        (lambda: scan(table.assign(t=pd.Timestamp(0)), "price"), "'t' has type timestamp"),
        (lambda: scan(sparse_column, "price"), "'s' has type Sparse"),
        (lambda: scan(nan_category, "y"), "table: column 'a' has NaN, which is no category"),
        (lambda: scan(np.ones(3), 0), "two dimensions"),
        (lambda: scan(np.ones((3, 2))), "target must be the number"),
        (lambda: scan(np.ones((3, 2)), 2), "target=2 is no column"),
        (lambda: scan(np.ones((3, 2)), "y"), "array has no names: give the number of the column"),
        (lambda: scan(labelled, 9), "there is no column '9' among '0', '1'"),
        (lambda: scan(table.set_axis([0, "0", *range(6)[2:]], axis=1), 5), "two columns .* '0'"),
        (lambda: scan(np.ones((3, 2)), np.ones(2)), "target must have 3 rows"),
        (lambda: scan(np.ones((3, 2)), 0, columns=[5]), "columns must lie in"),
        (lambda: scan([], "y"), "not for batches"),
        (lambda: next(iter(scan(lambda: None))), "must return an iterator of batches"),
        (lambda: next(iter(scan([([[1.0], [2.0, 3.0]], [1.0])]))), "batch 0: .*inhomogeneous"),
        (lambda: next(iter(scan([(None, [1.0])]))), "batch 0: X must be a matrix, got NoneType"),
        (lambda: next(iter(scan([(np.ones(3), np.ones(3))]))), r"matrix, got shape \(3,\)"),
        (lambda: scan(3), "source can't be a int"),
        (lambda: LeastSquaresRegressor().fit_stream(table), "stream must be a Stream"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(FileNotFoundError):
        scan(tmp_path / "none.parquet", "y")
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*none.parquet"):
        scan([parquet(table, tmp_path), tmp_path / "none.parquet"], "price")
    with pytest.raises(FileNotFoundError, match=r"target: there is no file none.npy"):
        scan(np.ones((3, 2)), "none.npy")
    lists = scan([([], []), ([[1.0], [2.0]], [3.0, 5.0])])
    assert LeastSquaresRegressor().fit_stream(lists).coef_[0] == pytest.approx(2.0)


@pytest.mark.parametrize("kind", ["parquet", "csv", "npy", "columns.npy", "target.npy", "svm"])
def test_files_that_change_between_passes_are_refused(kind, tmp_path):
    path = tmp_path / f"t.{kind}"

    def write(seed: int):
        table = np.random.default_rng(seed).normal(size=(60 + 20 * seed, 3))
        frame = pd.DataFrame(table, columns=["a", "b", "y"])
        if kind == "target.npy":
            np.save(path, table[:60, 2])
        elif kind.endswith("npy"):
            np.save(path, table if kind == "npy" else np.asfortranarray(table))
        elif kind == "svm":
            dump_svmlight_file(table[:, :2], table[:, 2], str(path))
        elif kind == "csv":
            frame.to_csv(path, index=False)
        else:
            frame.to_parquet(path)

    write(0)
    source, target = path, {"target": 2 if kind.endswith("npy") else "y"}
    if kind == "target.npy":
        source, target = np.random.default_rng(0).normal(size=(60, 2)), {"target": path}
    stream = scan(source, batch_rows=20, **target) if kind != "svm" else scan(path)
    model = SGDRegressor(learning_rate="constant", eta0=1e-3, max_iter=3)
    model.fit_stream(stream)
    before = model.coef_
    with pytest.raises(StreamError, match=rf"t.{kind}: the file has changed .*: scan it again"):
        model.fit_stream(stream, progress=lambda _: write(1))
    np.testing.assert_array_equal(model.coef_, before)
    path.unlink()
    with pytest.raises(StreamError, match=rf"t.{kind}: the file is gone: scan it again"):
        model.fit_stream(stream)


def test_frames_may_have_labels_that_are_no_text():
    """They have no names then, as for estimators; columns that were encoded have some."""
    X = np.random.default_rng(0).normal(size=(60, 3))
    labelled = pd.DataFrame(X).assign(y=X @ [1.0, 2.0, 3.0], w=1.0 + X[:, 0] ** 2)
    stream = scan(labelled, "y", columns=[0, np.int64(1), 2], weight="w")
    model = LeastSquaresRegressor().fit_stream(stream)
    assert not hasattr(model, "feature_names_in_")
    own = LeastSquaresRegressor().fit(labelled[[0, 1, 2]], labelled["y"], labelled["w"])
    np.testing.assert_allclose(model.coef_, own.coef_, rtol=1e-10)
    pairs = pd.DataFrame(X, columns=pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)]))
    assert scan(pairs, ("b", 1)).moments().n_features == 2
    assert scan(pairs, [("a", 1), ("b", 1)]).moments().n_targets == 2
    strings = pd.DataFrame({0: ["x", "y", "y"], 1: [1.0, None, 2.0], 2: [1.0, 2.0, 3.0]})
    assert scan(strings, 2, impute={1: 0.0}).feature_names == ["0=y", "1"]


def test_moments_of_other_categories_say_what_makes_them_alike():
    monday, tuesday = (
        pd.DataFrame({"colour": colours, "size": [1.0, 2.0, 4.0], "y": [1.0, 2.0, 3.0]})
        for colours in (["red", "blue", "red"], ["red", "green", "pink"])
    )
    parts = [scan(day, "y").moments() for day in (monday, tuesday)]
    message = (
        r"column 0 is 'colour=red' on the left and 'colour=pink' on the right\. .*'colour': \["
    )
    with pytest.raises(ValueError, match=message):
        parts[0] + parts[1]
    colours = {"colour": ["red", "blue", "green", "pink"]}
    both = sum(scan(day, "y", categories=colours).moments() for day in (monday, tuesday))
    assert both.n_samples == 6


def test_progress_counts_rows():
    table = np.ones((100, 3)) * np.arange(100.0)[:, None]
    seen: list[StreamProgress] = []
    LeastSquaresRegressor(alpha=1.0).fit_stream(scan(table, 0, batch_rows=40), progress=seen.append)
    assert [told.rows for told in seen] == [40, 80, 100]
    assert seen[-1].n_bytes == 100 * 2 * 8
    assert "100 rows" in str(seen[-1])


def test_reading_ends_with_the_iterator():
    """Where a caller leaves early, or an error ends the fit, no thread is left behind."""
    import threading

    before = threading.active_count()
    blocks = scan(np.ones((1000, 2)), 0, batch_rows=1).blocks()
    next(blocks)
    blocks.close()
    table = np.ones((20, 2))
    table[15] = np.nan
    with pytest.raises(StreamError, match="rows from 10: X contains NaN"):
        LeastSquaresRegressor().fit_stream(scan(table, np.ones(20), batch_rows=10))
    assert threading.active_count() == before


PEAK = """
import re, sys
import numpy as np
from fastlsgd import Moments
from fastlsgd.streaming import scan
if sys.argv[1].endswith("parquet"):
    import pyarrow.parquet
for _ in scan(sys.argv[1], sys.argv[2] if sys.argv[1].endswith("parquet") else 0, batch_rows=10):
    break
Moments().update(np.ones((10, 3)), np.ones(10))
def peak():  # since the process began; what getrusage tells includes its parent
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
before = peak()
stream = scan(sys.argv[1], sys.argv[2] if sys.argv[1].endswith("parquet") else 0, memory=2**24)
assert stream.moments().n_samples == 100_000
print(peak() - before)
"""


def test_memory_of_one_row_group_stays_under_the_budget(tmp_path):
    """80 MB in one row group, with a budget of 16 MB; pyarrow keeps some 40 MB of its own."""
    rng = np.random.default_rng(0)
    columns = {f"c{j}": rng.normal(size=100_000) for j in range(100)}
    pa.parquet.write_table(pa.table(columns), tmp_path / "t.parquet", row_group_size=100_000)
    command = [sys.executable, "-c", PEAK, str(tmp_path / "t.parquet"), "c0"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout) < 72.0
