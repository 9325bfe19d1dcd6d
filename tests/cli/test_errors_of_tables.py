"""What is wrong with data, models and arguments ends a command with one line and its exit code."""

import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest

from fastlsgd.cli import main

resource = pytest.importorskip("resource")
pa = pytest.importorskip("pyarrow")
csv = pytest.importorskip("pyarrow.csv")
parquet = pytest.importorskip("pyarrow.parquet")

rng = np.random.default_rng(0)
N = 300
COLUMNS = {
    "id": np.arange(N),
    "size": rng.normal(size=N),
    "kind": np.array(["flat", "house", "villa"])[rng.integers(0, 3, N)],
    "price": rng.uniform(1.0, 2.0, N),
}


def written(path, **change):
    """Write the table with some columns changed, or left out where they are None."""
    columns = {name: value for name, value in (COLUMNS | change).items() if value is not None}
    parquet.write_table(pa.table(columns), path, row_group_size=100)
    return str(path)


def changed(name, row, value):
    values = COLUMNS[name].tolist()
    values[row] = value
    return {name: values}


@pytest.fixture
def table(tmp_path):
    return written(tmp_path / "t.parquet")


@pytest.fixture
def model(tmp_path, table, capsys):
    path = str(tmp_path / "model.json")
    assert main(["fit", table, "--target", "price", "--output", path]) == 0
    capsys.readouterr()
    return path


def assert_fails(capsys, code, *fragments, arguments):
    """The command tells its error in one line, and leaves no file that was not there."""
    output = arguments[arguments.index("--output") + 1] if "--output" in arguments else ""
    before = os.path.exists(output)
    assert main(list(arguments)) == code
    told = capsys.readouterr()
    assert told.err.startswith("fastlsgd: error: ")
    assert told.err.count("\n") == 1, told.err
    for fragment in fragments:
        assert fragment in told.err
    assert os.path.exists(output) is before


def fails_to_fit(capsys, source, *fragments, more=(), code=1, target="price", folder):
    arguments = ["fit", source, "--target", target, "--output", f"{folder}/out.json", *more]
    assert_fails(capsys, code, *fragments, arguments=arguments)


def fails_to_predict(capsys, model, source, *fragments, more=()):
    output = f"{os.path.dirname(model)}/out.csv"
    arguments = ["predict", model, source, "--output", output, *more]
    assert_fails(capsys, 1, *fragments, arguments=arguments)


def test_rows_that_no_fit_takes(tmp_path, capsys):
    for change, more, fragments in (
        (changed("size", 250, None), (), ("row group 2", "column 'size' has 1 null:")),
        (changed("size", 150, np.nan), (), ("row group 1", "NaN", "column 'size'")),
        (changed("size", 150, np.inf), (), ("row group 1", "infinity", "column 'size'")),
        (changed("kind", 150, None), (), ("row group 1", "column 'kind' has 1 null:")),
        (changed("price", 150, None), (), ("row group 1", "column 'price' has 1 null:")),
        ({}, ("--classify",), ("bad.parquet", "Unknown label type: continuous")),
        (changed("price", 150, np.nan), (), ("row group 1", "NaN")),
        (
            changed("price", 150, -2.0),
            ("--loss-scale", "log"),
            ("row group 1", "column 'price' is -2 in row 50"),
        ),
    ):
        source = written(tmp_path / "bad.parquet", **change)
        fails_to_fit(capsys, source, "bad.parquet", *fragments, more=more, folder=tmp_path)
    assert os.listdir(tmp_path) == ["bad.parquet"]


def test_columns_that_no_fit_takes(tmp_path, table, capsys):
    def fails(*fragments, more=(), **how):
        fails_to_fit(capsys, table, "t.parquet", *fragments, more=more, folder=tmp_path, **how)

    fails("there is no column 'cost' among 'id', 'size'", target="cost")
    fails("column 'kind' has type string", "--classify", target="kind")
    fails("--exclude: there is no column 'x'", more=("--exclude", "x"))
    fails("there is no column 'w'", more=("--weight", "w"))
    dates = written(tmp_path / "d.parquet", day=np.array(["2020-01-01"] * N, "M8[D]"))
    fails_to_fit(capsys, dates, "column 'day' has type", "--exclude day", folder=tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["d.parquet", "t.parquet"]


def test_files_that_are_damaged(tmp_path, table, model, capsys):
    content, of_model = (Path(path).read_bytes() for path in (table, model))
    for name, damaged in (
        ("cut.parquet", content[: len(content) // 2]),
        ("empty.parquet", b""),
        ("cut.npy", b"\x93NUMPY"),
        ("text.arrow", b"a,b\n1,2\n"),
    ):
        path = tmp_path / name
        path.write_bytes(damaged)
        target = "0" if name.endswith(".npy") else "price"
        fails_to_fit(capsys, str(path), name, target=target, folder=tmp_path)
    (tmp_path / "ragged.csv").write_text("size,kind,price,id\n1,flat,2,3\n1,2\n")
    fails_to_fit(capsys, str(tmp_path / "ragged.csv"), "ragged.csv", folder=tmp_path)
    np.save(tmp_path / "o.npy", np.array([[1, "x"]], dtype=object), allow_pickle=True)
    fails_to_fit(capsys, str(tmp_path / "o.npy"), "o.npy", target="0", folder=tmp_path)
    (tmp_path / "folder").mkdir()
    fails_to_fit(capsys, str(tmp_path / "folder"), "folder: there are no files", folder=tmp_path)
    fails_to_fit(capsys, str(tmp_path / "no.csv"), "no file or folder", "no.csv", folder=tmp_path)
    fails_to_fit(capsys, "", "no file or folder ''", folder=tmp_path)
    for content in (b"", b"{}", of_model[:-5]):
        (tmp_path / "bad.json").write_bytes(content)
        for command in (["predict", str(tmp_path / "bad.json"), table],
                        ["info", str(tmp_path / "bad.json")]):  # fmt: skip
            assert_fails(capsys, 1, "bad.json", arguments=command)
    assert_fails(capsys, 1, "no file", "m.json", arguments=["info", str(tmp_path / "m.json")])
    assert_fails(capsys, 1, "must end in", arguments=["info", table])


def test_tables_that_are_not_those_of_the_fit(tmp_path, model, capsys):
    for change, fragments in (
        ({"size": None}, ("column 'size' is missing, which the model needs",)),
        ({"size": ["big"] * N}, ("column 'size' has type string; the model was fitted to num",)),
        ({"kind": np.arange(N)}, ("column 'kind' has type int64; the model was fitted to str",)),
        (changed("kind", 120, "castle"), ("row group 1", "'kind' has 'castle', which is none")),
        (changed("kind", 120, None), ("row group 1", "column 'kind' has 1 null:")),
        (changed("size", 220, None), ("row group 2", "column 'size' has 1 null:")),
        (changed("size", 220, np.nan), ("row group 2", "NaN: column 'size'")),
    ):
        source = written(tmp_path / "other.parquet", **change)
        before = sorted(os.listdir(tmp_path))
        fails_to_predict(capsys, model, source, "other.parquet", *fragments)
        assert sorted(os.listdir(tmp_path)) == before
    numbers = written(tmp_path / "other.parquet", size=rng.integers(0, 9, N).astype(np.int32))
    assert main(["predict", model, numbers, "--output", str(tmp_path / "out.csv")]) == 0
    fails = ["evaluate", model, written(tmp_path / "other.parquet", price=None)]
    assert_fails(capsys, 1, "'price' of the target is missing", arguments=fails)
    fails = ["evaluate", model, numbers, "--target", "kind"]
    message = "column 'kind' has type string, but the model predicts numbers"
    assert_fails(capsys, 1, message, arguments=fails)
    keep = ["predict", model, numbers, "--keep", "colour"]
    assert_fails(capsys, 1, "--keep: there is no column 'colour'", arguments=keep)
    mean = ["predict", model, numbers, "--mean"]
    assert_fails(capsys, 1, "--mean needs a model that was fitted with", arguments=mean)


def test_sources_without_rows(tmp_path, table, model, capsys):
    empty = str(tmp_path / "empty.parquet")
    parquet.write_table(parquet.read_table(table).slice(0, 0), empty)
    fails_to_fit(capsys, empty, "empty.parquet", "no rows", folder=tmp_path)
    assert_fails(capsys, 1, "empty.parquet", "no rows", arguments=["evaluate", model, empty])
    assert main(["predict", model, empty]) == 0
    assert capsys.readouterr().out == '"prediction"\n'


def test_many_targets_are_predicted_but_not_evaluated(tmp_path, table, capsys):
    pd = pytest.importorskip("pandas")
    from fastlsgd import LeastSquaresRegressor, save_model

    frame = pd.DataFrame({"size": COLUMNS["size"]})
    y = np.column_stack([COLUMNS["price"], COLUMNS["id"]])
    own, out = LeastSquaresRegressor().fit(frame, y), tmp_path / "p.parquet"
    save_model(own, tmp_path / "two.json")
    assert main(["predict", str(tmp_path / "two.json"), table, "--output", str(out)]) == 0
    found = parquet.read_table(out)
    assert found.column_names == ["prediction_0", "prediction_1"]
    np.testing.assert_allclose(found["prediction_1"].to_numpy(), own.predict(frame)[:, 1])
    fails = ["evaluate", str(tmp_path / "two.json"), table, "--target", "price"]
    assert_fails(capsys, 1, "two.json: the model predicts 2 targets", arguments=fails)
    assert main(["info", str(tmp_path / "two.json")]) == 0
    assert "\ntarget 1\nintercept " in capsys.readouterr().out


def test_names_that_would_break_lines(tmp_path, capsys):
    names = {"né\nw": COLUMNS["size"], "y": COLUMNS["price"], "k": ["a\n", "b"] * (N // 2)}
    parquet.write_table(pa.table(names), tmp_path / "t.parquet")
    model = str(tmp_path / "m.json")
    assert main(["fit", str(tmp_path / "t.parquet"), "--target", "y", "--output", model]) == 0
    assert main(["info", model]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("né\\nw ")]) == 2
    assert any(line.startswith("  k: one of b (without a\\n)") for line in lines)
    rows = b"a,y\n1,2\n\x1b[31mred\x07,3," + b"9" * 5000 + b"\n"
    (tmp_path / "t.csv").write_bytes(rows)
    assert main(["fit", str(tmp_path / "t.csv"), "--target", "y", "--output", model]) == 1
    told = capsys.readouterr().err
    assert "\\x1b" in told
    assert "\x1b" not in told
    assert len(told) < 1200


def test_constant_columns_are_named(tmp_path, capsys):
    names = {"a": COLUMNS["size"], "b": np.full(N, 7.0), "y": COLUMNS["price"]}
    parquet.write_table(pa.table(names), tmp_path / "t.parquet")
    command = ["fit", str(tmp_path / "t.parquet"), "--target", "y", "--output"]
    assert main([*command, str(tmp_path / "m.json")]) == 0
    assert re.search(r"^b +0   constant: not estimable$", capsys.readouterr().out, re.M)
    assert main([*command, str(tmp_path / "m.json"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["coefficients"]
    assert [line.get("remark") for line in found] == [None, None, "constant: not estimable"]


def test_dictionaries_of_other_values(tmp_path, model, capsys):
    kinds = pa.array(COLUMNS["kind"].tolist())
    encoded = pa.table({**COLUMNS, "kind": kinds.dictionary_encode()})
    (tmp_path / "d").mkdir()
    parquet.write_table(encoded, tmp_path / "d" / "1.parquet")
    other = encoded[:7].set_column(
        encoded.schema.get_field_index("kind"), "kind", kinds[:7][::-1].dictionary_encode()
    )
    parquet.write_table(other, tmp_path / "d" / "2.parquet")
    out = str(tmp_path / "out.arrow")
    assert main(["predict", model, str(tmp_path / "d"), "--keep", "kind", "--output", out]) == 0
    kept = pa.ipc.open_file(out).read_all()["kind"].to_pylist()
    assert kept == [*kinds.to_pylist(), *kinds[:7][::-1].to_pylist()]


def test_tables_in_model_files_that_lie(tmp_path, model, capsys):
    from fastlsgd.model_files import read_record, write_record

    record = read_record(model)
    table = record.header["table"]
    columns = table["columns"]
    for change in (
        {"columns": columns[:-1]},
        {"columns": columns[::-1]},
        {"columns": [{**columns[0], "kind": "pickle"}, *columns[1:]]},
        {"columns": [{**columns[0], "fill": "x"}, *columns[1:]]},
        {"columns": 3},
        {"columns": [3]},
        {"target": None},
        {"target": ["price"]},
        {"loss_scale": "exp"},
        {"smearing": -1.0},
        {"other": 1},
    ):
        told = {**table, **change}
        write_record(record._replace(header={**record.header, "table": told}), model)
        assert_fails(capsys, 1, model, "table: ", arguments=["info", model])
    kind = next(column for column in columns if column["kind"] == "category")
    for wrong in ({"categories": ["flat", "flat"]}, {"categories": [["x"]]}, {"fill": "castle"}):
        told = {**table, "columns": [{**kind, **wrong} if c is kind else c for c in columns]}
        write_record(record._replace(header={**record.header, "table": told}), model)
        assert_fails(capsys, 1, model, "table: ", arguments=["info", model])


@pytest.mark.parametrize(
    ("more", "fragment"),
    [
        (["--cv", "1"], "--cv must be 2 or more"),
        (["--cv", "5", "--classify"], "--cv is not for --classify"),
        (["--loss-scale", "log", "--classify"], "--loss-scale log is not for --classify"),
        (["--loss-scale", "sqrt"], "invalid choice: 'sqrt'"),
        (["--alpha", "1", "2"], "need --cv"),
        (["--alpha", "-1"], "--alpha must be 0 or more"),
        (["--alpha", "nan"], "--alpha must be 0 or more"),
        (["--alpha", "x"], "invalid float value"),
        (["--l1-ratio", "2"], "--l1-ratio must lie in [0, 1]"),
        (["--holdout", "1"], "--holdout must lie between 0 and 1"),
        (["--estimator", "sgd", "--positive"], "--positive is not for --estimator sgd"),
        (["--estimator", "sgd", "--solver", "qr"], "--solver is not for --estimator sgd"),
        (["--no-errors", "--holdout", "0.5"], "--no-errors"),
        (["--memory", "0"], "--memory must be 1 or more"),
        (["--seed", "-1"], "--seed"),
        (["--columns", "size", "--exclude", "kind"], "not allowed with argument"),
        (["--columns", "size", "price"], "--target is among --columns"),
        (["--impute", "size"], "--impute must be COLUMN=VALUE"),
        (["--impute", "size=big"], "'big' is no number"),
        (["--output", "m.pkl"], "must end in .json or .safetensors"),
        (["--output", ""], "is no name of a file"),
        (["--output", "/no/such/folder/m.json"], "/no/such/folder"),
        (["--plot", "/no/such/folder/m.png"], "/no/such/folder"),
        (["--backend", "abacus"], "abacus"),
    ],
)
def test_wrong_arguments(more, fragment, table, tmp_path, capsys):
    if "--output" not in more:
        more = ["--output", str(tmp_path / "m.json"), *more]
    assert_fails(capsys, 2, fragment, arguments=["fit", table, "--target", "price", *more])
    assert os.listdir(tmp_path) == ["t.parquet"]


def test_nothing_that_is_read_is_overwritten(tmp_path, model, table, capsys):
    arguments = ["predict", model, table, "--output", table]
    assert_fails(capsys, 2, "would overwrite", "t.parquet", arguments=arguments)
    arguments = ["fit", table, "--target", "price", "--output", model, "--plot", model]
    assert_fails(capsys, 2, "would overwrite", arguments=arguments)
    arguments = ["predict", model, table, "--output", str(tmp_path / "p.xlsx")]
    assert_fails(capsys, 2, "--output must end in .csv", arguments=arguments)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
def test_a_full_disk_is_told_with_its_file(suffix, tmp_path, model, capsys):
    n = 200_000
    long = {name: np.resize(values, n) for name, values in COLUMNS.items()}
    long["size"] = np.random.default_rng(0).normal(size=n)
    source = written(tmp_path / "long.parquet", **long)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
        output = str(tmp_path / f"p{suffix}")
        arguments = ["predict", model, source, "--output", output]
        assert_fails(capsys, 1, "File too large", f"p{suffix}", arguments=arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert not [name for name in os.listdir(tmp_path) if name.startswith("p")]


def test_warnings_are_one_line_each(tmp_path, capsys):
    for distance, code in ((1e-5, 0), (0.0, 1)):
        double = 2.0 * COLUMNS["size"] + distance * rng.normal(size=N)
        source = written(tmp_path / "t.parquet", double=double)
        arguments = ["fit", source, "--target", "price", "--output", str(tmp_path / "m.json")]
        assert main([*arguments, "--json"]) == code
        told = capsys.readouterr()
        kind = f"error: {re.escape(source)}" if code else "warning"
        assert re.fullmatch(rf"fastlsgd: {kind}: The [^\n]+ take --solver qr\.\n", told.err), told
        if not code:
            assert json.loads(told.out)["errors"]["rows"] == N
    assert main([*arguments, "--solver", "qr"]) == 0


def test_a_misspelt_option_that_is_required_is_named(table, capsys):
    fit = ["fit", table, "--target", "price", "--outptu", "m.json"]
    assert_fails(capsys, 2, "are required: --output; unknown: --outptu (see", arguments=fit)
