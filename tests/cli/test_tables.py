"""`fastlsgd fit`, `predict`, `evaluate` and `info` give what the same calls in Python give."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib import resources

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, mean_absolute_error, r2_score, root_mean_squared_error

from fastlsgd import LeastSquaresClassifier, LeastSquaresRegressor, load_model, save_model
from fastlsgd.cli import console, main
from fastlsgd.streaming import scan

pa = pytest.importorskip("pyarrow")
csv = pytest.importorskip("pyarrow.csv")
parquet = pytest.importorskip("pyarrow.parquet")
feather = pytest.importorskip("pyarrow.feather")
pytest.importorskip("safetensors")

HOUSES = str(resources.files("fastlsgd").joinpath("data", "lucas_county_house_sales.csv.gz"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The house sales in each format, and models of them."""
    path = tmp_path_factory.mktemp("houses")
    table = csv.read_csv(HOUSES).drop(["sale_date"])
    shuffled = table.take(np.random.default_rng(0).permutation(table.num_rows)[:4000])
    parquet.write_table(shuffled, path / "sales.parquet", row_group_size=1000)
    feather.write_feather(shuffled, path / "sales.feather")
    csv.write_csv(shuffled, path / "sales.csv")
    return path


def numbers_of(folder):
    table = parquet.read_table(folder / "sales.parquet")
    return table, table["price"].to_numpy().astype(float)


def run(capsys, *arguments, code=0):
    found = main([str(argument) for argument in arguments])
    told = capsys.readouterr()
    assert found == code, told.err
    return told


def predictions(path):
    return np.load(path, allow_pickle=False)


@pytest.mark.parametrize("name", ["sales.parquet", "sales.feather", "sales.csv"])
@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_a_fit_is_that_of_fit_stream(name, suffix, folder, tmp_path, capsys):
    model, out = tmp_path / f"m{suffix}", tmp_path / "p.npy"
    report = run(capsys, "fit", folder / name, "--target", "price", "--output", model)
    stream = scan(folder / name, target="price")
    own = LeastSquaresRegressor().fit_stream(stream)
    loaded = load_model(model)
    assert loaded.coef_.tobytes() == own.coef_.tobytes()
    assert loaded.feature_names_in_.tolist() == stream.feature_names
    assert run(capsys, "predict", model, folder / name, "--output", out).out == ""
    X = np.concatenate([X for X, _, _ in stream])
    del own.feature_names_in_
    assert predictions(out).tobytes() == own.predict(X).tobytes()
    _, price = numbers_of(folder)
    rmse = root_mean_squared_error(price, own.predict(X))
    assert f"RMSE      {rmse:,.6g}" in report.out
    summary = LeastSquaresRegressor().fit_stream(stream).summary()
    line = re.search(r"^living_area_sqft +(\S+) +(\S+)", report.out, re.M)
    place = summary.names.index("living_area_sqft")
    assert float(line[1]) == pytest.approx(summary.coef[place], rel=1e-5)
    assert float(line[2]) == pytest.approx(summary.standard_error[place], rel=1e-3)
    assert report.err == ""


def test_formats_agree(folder, tmp_path, capsys):
    model = tmp_path / "m.json"
    run(capsys, "fit", folder / "sales.parquet", "--target", "price", "--output", model)
    outs = []
    for source in ("sales.parquet", "sales.feather", "sales.csv"):
        for suffix in (".csv", ".parquet", ".arrow", ".feather"):
            out = tmp_path / f"p{suffix}"
            run(capsys, "predict", model, folder / source, "--output", out, "--keep", "wall")
            table = {
                ".csv": csv.read_csv,
                ".parquet": parquet.read_table,
                ".arrow": feather.read_table,
                ".feather": feather.read_table,
            }[suffix](out)
            assert table.column_names == ["wall", "prediction"]
            outs.append(table["prediction"].to_numpy())
    assert len({out.tobytes() for out in outs}) == 1
    told = run(capsys, "predict", model, folder / "sales.csv").out
    assert np.loadtxt(io.StringIO(told), skiprows=1).tolist() == outs[0].tolist()


def test_the_logarithm_is_fitted_and_errors_are_in_the_target_s_units(folder, tmp_path, capsys):
    model, out = tmp_path / "m.json", tmp_path / "p.npy"
    options = ["--target", "price", "--loss-scale", "log", "--output", model, "--json"]
    told = json.loads(run(capsys, "fit", folder / "sales.parquet", *options).out)
    _, price = numbers_of(folder)
    rows = [X for X, _, _ in scan(folder / "sales.parquet", target="price")]
    own = LeastSquaresRegressor().fit(np.concatenate(rows), np.log(price))
    fitted = own.predict(np.concatenate(rows))
    run(capsys, "predict", model, folder / "sales.parquet", "--output", out)
    np.testing.assert_allclose(predictions(out), np.exp(fitted), rtol=1e-9)
    assert told["errors"] == {
        "rows": 4000,
        "rmse": pytest.approx(root_mean_squared_error(price, np.exp(fitted)), rel=1e-8),
        "mae": pytest.approx(mean_absolute_error(price, np.exp(fitted)), rel=1e-8),
        "bias": pytest.approx(np.mean(np.exp(fitted) - price), rel=1e-6),
        "r2": pytest.approx(r2_score(price, np.exp(fitted)), rel=1e-8),
        "r2_log": pytest.approx(r2_score(np.log(price), fitted), rel=1e-8),
        "rmse_log": pytest.approx(root_mean_squared_error(np.log(price), fitted), rel=1e-8),
    }
    smearing = np.mean(np.exp(np.log(price) - fitted))
    assert told["smearing"] == pytest.approx(smearing, rel=1e-8)
    median = predictions(out)
    run(capsys, "predict", model, folder / "sales.parquet", "--output", out, "--mean")
    np.testing.assert_allclose(predictions(out), told["smearing"] * median, rtol=1e-14)
    again = json.loads(run(capsys, "evaluate", model, folder / "sales.csv", "--json").out)
    assert again["errors"] == {name: pytest.approx(v) for name, v in told["errors"].items()}
    assert (
        f"exp(fit), as of the median; times {smearing:.4f}"
        in run(capsys, "fit", folder / "sales.parquet", *options[:-1]).out
    )


def test_held_out_rows_are_not_fitted(folder, tmp_path, capsys):
    model = tmp_path / "m.json"
    options = ["--target", "price", "--holdout", "0.25", "--json", "--seed", "3"]
    told = json.loads(run(capsys, "fit", folder / "sales.parquet", *options, "--output", model).out)
    rest, held = told["errors"], told["held_out"]
    assert rest["rows"] + held["rows"] == 4000
    assert 800 < held["rows"] < 1200
    whole = json.loads(run(capsys, "evaluate", model, folder / "sales.parquet", "--json").out)
    squares = rest["rows"] * rest["rmse"] ** 2 + held["rows"] * held["rmse"] ** 2
    assert whole["errors"]["rmse"] == pytest.approx((squares / 4000) ** 0.5)
    own = LeastSquaresRegressor().fit_stream(scan(folder / "sales.parquet", target="price"))
    assert np.abs(load_model(model).coef_ - own.coef_).max() > 0.0


def test_classes(folder, tmp_path, capsys):
    model, out = tmp_path / "m.json", tmp_path / "p.csv"
    options = ["--target", "garage", "--classify", "--output", model, "--json"]
    told = json.loads(run(capsys, "fit", folder / "sales.parquet", *options).out)
    stream = scan(folder / "sales.parquet", target="garage")
    own = LeastSquaresClassifier().fit_stream(stream)
    assert load_model(model).coef_.tobytes() == own.coef_.tobytes()
    run(capsys, "predict", model, folder / "sales.csv", "--output", out, "--keep", "garage")
    table = csv.read_csv(out)
    garage, found = (np.array(table[name].to_pylist()) for name in ("garage", "prediction"))
    assert told["errors"]["accuracy"] == pytest.approx(accuracy_score(garage, found))
    assert told["classes"] == sorted(set(garage.tolist()))
    text = run(capsys, "evaluate", model, folder / "sales.csv").out
    assert f"accuracy  {accuracy_score(garage, found):.4f}" in text
    assert re.search(r"^  no garage +[\d,]+ +0\.\d+ +0\.\d+$", text, re.M)
    assert "classes     attached, basement" in run(capsys, "info", model).out


def test_cross_validation_penalties_and_sgd(folder, tmp_path, capsys):
    source, model = folder / "sales.parquet", tmp_path / "m.json"
    base = ["fit", source, "--target", "price", "--output", model, "--json"]
    lasso = ["--cv", "4", "--alpha", "100", "1", "0.01", "--l1-ratio", "1"]
    assert json.loads(run(capsys, *base, *lasso).out)["alpha"] in (100.0, 1.0, 0.01)
    assert type(load_model(model)).__name__ == "LeastSquaresCV"
    sgd = json.loads(run(capsys, *base, "--estimator", "sgd").out)
    exact = json.loads(run(capsys, *base, "--alpha", "0.0001").out)
    assert sgd["errors"]["rmse"] == pytest.approx(exact["errors"]["rmse"], rel=1e-4)
    positive = ["--columns", "beds", "living_area_sqft", "--positive", "--no-intercept"]
    told = json.loads(run(capsys, *base, *positive, "--no-errors").out)
    assert [line["name"] for line in told["coefficients"]] == [
        "intercept", "beds", "living_area_sqft",
    ]  # fmt: skip
    assert told["errors"] is None
    assert told["coefficients"][0]["estimate"] == 0.0


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": "1000", "l1_ratio": "1"},
        {"alpha": "0.1", "weight": "beds", "holdout": "0.3"},
        {"cv": "3", "alpha": "1 1e-3"},
        {"estimator": "sgd", "alpha": "0.5", "cv": "3"},
        {"classify": None, "alpha": "0.2", "target": "stories"},
    ],
    ids=str,
)
def test_penalties_of_standardized_columns(options, folder, tmp_path, capsys):
    """Other units of a column leave predictions as they are, and divide its coefficient."""
    table = parquet.read_table(folder / "sales.parquet")
    others = table.set_column(
        table.column_names.index("lot_sqft"), "lot_sqft", pa.compute.divide(table["lot_sqft"], 4e3)
    )
    parquet.write_table(others, tmp_path / "acres.parquet", row_group_size=1000)
    chosen = ["--columns", "lot_sqft", "living_area_sqft", "wall"]
    told = []
    for source in (folder / "sales.parquet", tmp_path / "acres.parquet"):
        arguments = ["fit", source, *chosen, "--output", tmp_path / "m.json", "--json"]
        for name, value in {"target": "price", **options}.items():
            own = [] if value is None else value.split()
            arguments += [f"--{name.replace('_', '-')}", *own]
        told.append(json.loads(run(capsys, *arguments, "--standardize").out))
        run(capsys, "info", tmp_path / "m.json")
    first, second = ([c["estimate"] for c in report["coefficients"]] for report in told)
    factors = [4e3 if c["name"] == "lot_sqft" else 1.0 for c in told[0]["coefficients"]]
    np.testing.assert_allclose(second, np.multiply(first, factors), rtol=1e-5)
    assert told[0]["standardize"]
    if "l1_ratio" in options:  # as scikit-learn's pipeline has it
        stream = scan(folder / "sales.parquet", "price", columns=chosen[1:])
        X = np.concatenate([X for X, _, _ in stream])
        spread, y = X.astype(float).std(axis=0), table["price"].to_numpy()
        own = LeastSquaresRegressor(alpha=1000.0, l1_ratio=1.0).fit(X / spread, y)
        np.testing.assert_allclose(first[1:], own.coef_ / spread, rtol=1e-5, atol=1e-9)


def test_arrays(tmp_path, capsys):
    rng = np.random.default_rng(0)
    array = rng.normal(size=(500, 4)).astype(np.float32)
    array[:, 2] = array[:, 0] - 2.0 * array[:, 3] + 1.0
    np.save(tmp_path / "a.npy", array)
    np.save(tmp_path / "x.npy", array[:, [0, 3]])
    model, out = tmp_path / "m.safetensors", tmp_path / "p.npy"
    options = ["--target", "2", "--exclude", "1", "--output", model]
    told = run(capsys, "fit", tmp_path / "a.npy", *options).out
    assert "2 columns" in told
    assert re.search(r"^column 3 +-2 ", told, re.M)
    np.testing.assert_allclose(load_model(model).coef_, [1.0, -2.0], rtol=1e-6)
    for name in ("a.npy", "x.npy"):
        run(capsys, "predict", model, tmp_path / name, "--output", out)
        np.testing.assert_allclose(predictions(out), array[:, 2], atol=1e-5)
    told = run(capsys, "evaluate", model, tmp_path / "a.npy").out
    assert "R2        1.0000" in told


def test_models_of_save_model_work_too(folder, tmp_path, capsys):
    table, price = numbers_of(folder)
    columns = ["beds", "rooms", "easting_m"]
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({name: table[name].to_numpy() for name in columns})
    model = LeastSquaresRegressor().fit(frame, price)
    save_model(model, tmp_path / "m.json")
    out = tmp_path / "p.npy"
    run(capsys, "predict", tmp_path / "m.json", folder / "sales.parquet", "--output", out)
    np.testing.assert_allclose(predictions(out), model.predict(frame), rtol=1e-12)
    told = run(capsys, "evaluate", tmp_path / "m.json", folder / "sales.csv", "--target", "price")
    assert f"{model.score(frame, price):.4f}" in told.out
    assert (
        "--target is needed"
        in run(capsys, "evaluate", tmp_path / "m.json", folder / "sales.csv", code=2).err
    )


def test_nulls_are_imputed_alike_in_fits_and_predictions(folder, tmp_path, capsys):
    table = pa.table({"a": [1.0, None, 3.0, 4.0], "b": ["x", "y", None, "x"], "y": [1, 2, 3, 4]})
    parquet.write_table(table, tmp_path / "t.parquet")
    model, out = tmp_path / "m.json", tmp_path / "p.npy"
    base = ["fit", tmp_path / "t.parquet", "--target", "y", "--output", model, "--alpha", "0.1"]
    assert (
        "row group 0: column 'b' has 1 null:" in run(capsys, *base, "--impute", "a=2", code=1).err
    )
    run(capsys, *base, "--impute", "a=2", "b=y")
    run(capsys, "predict", model, tmp_path / "t.parquet", "--output", out)
    full = pa.table({"a": [1.0, 2.0, 3.0, 4.0], "b": ["x", "y", "y", "x"]})
    parquet.write_table(full, tmp_path / "full.parquet")
    first = predictions(out)
    run(capsys, "predict", model, tmp_path / "full.parquet", "--output", out)
    assert first.tolist() == predictions(out).tolist()


def test_weights(folder, tmp_path, capsys):
    model = tmp_path / "m.json"
    base = ["--target", "price", "--columns", "beds", "rooms", "--output", model, "--json"]
    told = json.loads(
        run(capsys, "fit", folder / "sales.parquet", *base, "--weight", "living_area_sqft").out
    )
    table, price = numbers_of(folder)
    X = np.column_stack([table[name].to_numpy() for name in ("beds", "rooms")]).astype(float)
    s = table["living_area_sqft"].to_numpy().astype(float)
    own = LeastSquaresRegressor().fit(X, price, s)
    np.testing.assert_allclose(load_model(model).coef_, own.coef_, rtol=1e-9)
    assert told["errors"]["r2"] == pytest.approx(own.score(X, price, s))


def test_pictures(folder, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    base = ["fit", folder / "sales.parquet", "--output", tmp_path / "m.json"]
    told = run(capsys, *base, "--target", "price", "--plot", tmp_path / "p.png").out
    assert f"wrote     {tmp_path / 'p.png'}" in told
    run(capsys, *base, "--target", "wall", "--classify", "--plot", tmp_path / "c.png")
    for name in ("p.png", "c.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    run(capsys, *base, "--target", "price", "--plot", tmp_path / "p.nothing", code=1)


def test_info(folder, tmp_path, capsys):
    model = tmp_path / "m.json"
    run(capsys, "fit", folder / "sales.csv", "--target", "price", "--output", model)
    text = run(capsys, "info", model).out
    assert "LeastSquaresRegressor, written by fastlsgd" in text
    assert "wall: one of ccbtile" in text
    assert "(without brick)" in text
    told = json.loads(run(capsys, "info", model, "--json").out)
    assert told["table"]["target"] == "price"
    assert told["n_features"] == len(told["coefficients"]) - 1


# ------------------------------------------------------------------------ progress, Ctrl-C


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_only_for_terminals(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)) * 2.0)
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        progress = console.ProgressLine("fit")
        progress("10 rows")
        assert ("fit: 10 rows" in stream.getvalue()) is shown
        progress.clear()
        assert stream.getvalue().endswith("\r\x1b[K") is shown


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("command", ["fit", "predict"])
def test_ctrl_c_ends_within_a_second_and_leaves_no_output(command, folder, tmp_path, capsys):
    model, out = tmp_path / "m.json", tmp_path / "out.parquet"
    many = [str(folder / "sales.parquet")] * 1000
    run(capsys, "fit", many[0], "--target", "price", "--output", model)
    model.rename(tmp_path / "before.json")
    arguments = {
        "fit": ["fit", *many, "--target", "price", "--output", str(model)],
        "predict": ["predict", str(tmp_path / "before.json"), *many, "--output", str(out)],
    }[command]
    # The parent of a background job may have it ignore the signal.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "import fastlsgd.cli.fit, fastlsgd.cli.predict; from fastlsgd.streaming import arrow; "
        "arrow.arrow(); print('ready', flush=True); from fastlsgd.cli import command; command()"
    )
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code, *arguments], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    sent = time.perf_counter()
    _, told = process.communicate(timeout=300)
    assert process.returncode == 130, told
    assert time.perf_counter() - sent < 10.0  # a second where nothing else keeps the machine busy
    assert told.endswith("fastlsgd: interrupted\n")
    assert "Traceback" not in told
    assert os.listdir(tmp_path) == ["before.json"]
