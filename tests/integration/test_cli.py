"""The command line, run as users run it."""

import io
import os
import re
import signal
import subprocess
import sys
from importlib.util import find_spec

import pytest

import fastlsgd
from fastlsgd.cli import main

# -P: not the sources of the folder that the tests are run from, but what is installed.
COMMAND = [sys.executable, "-P", "-m", "fastlsgd"]
PICTURES = ["fastlsgd_loss_curve.png", "fastlsgd_predictions.png"]


def run(*arguments, cwd=None, **environment):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def assert_one_line_error(finished, exit_code, *fragments):
    assert finished.returncode == exit_code, finished.stderr
    assert finished.stderr.count("\n") == 1, finished.stderr
    assert finished.stderr.startswith("fastlsgd: error: ")
    for fragment in fragments:
        assert fragment in finished.stderr


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "made" / "by the demo"
    return run("demo", "--output-dir", folder), folder


def test_demo_reports(demo):
    finished, folder = demo
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    out = finished.stdout
    assert "20,285 sales to train, 5,072 held out" in out
    assert "15 raw numeric columns, 15 one-hot columns" in out
    assert re.search(r"backend +\w+, instruction set \w+, at most \d+ threads", out)
    assert re.search(r"fit +\d+ epochs? in \d+\.\d+ s, \d+\.\d+ GB/s", out)
    for name in PICTURES:
        assert str(folder / name) in out


def test_demo_is_as_good_as_exact_least_squares(demo):
    rows = re.findall(r"^(SGDRegressor|exact .*?) +(\d\.\d+) +\$([\d,]+)$", demo[0].stdout, re.M)
    (_, r2, rmse), (_, exact_r2, exact_rmse) = rows
    assert abs(float(r2) - float(exact_r2)) < 0.005
    rmse, exact_rmse = (float(text.replace(",", "")) for text in (rmse, exact_rmse))
    assert rmse < 1.05 * exact_rmse


def test_demo_draws(demo):
    for name in PICTURES:
        picture = (demo[1] / name).read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) > 20_000


def test_demo_draws_into_the_current_folder_with_the_backend_asked_for(tmp_path):
    finished = run("demo", "--backend", "reference", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert "backend   reference, instruction set numpy" in finished.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == PICTURES


WITHOUT_MATPLOTLIB = """
import sys
sys.modules["matplotlib"] = None
from fastlsgd.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("named", [False, True])
def test_demo_without_matplotlib(named, tmp_path):
    """The report comes without pictures; a folder for them is refused before the work begins."""
    arguments = ["--output-dir", str(tmp_path / "pictures")] if named else []
    finished = subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT_MATPLOTLIB, "demo", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    how = 'pip install "fastlsgd[demo]"'
    if named:
        assert_one_line_error(finished, 1, "Matplotlib", how)
        assert finished.stdout == ""
    else:
        assert (finished.returncode, finished.stderr) == (0, "")
        assert "exact least squares" in finished.stdout
        assert f"pictures  none, since they need Matplotlib: {how}\n" in finished.stdout
    assert list(tmp_path.iterdir()) == []


def test_unknown_backend(tmp_path):
    finished = run("demo", "--backend", "abacus", cwd=tmp_path)
    assert_one_line_error(finished, 2, "'abacus'", "'native'", "'numba'", "'reference'")


def test_missing_backend_says_what_to_install(monkeypatch, capsys, tmp_path):
    from fastlsgd import kernels

    monkeypatch.setitem(
        kernels.BACKENDS, "numba", kernels.Backend("fastlsgd.kernels.absent", "pip install numba")
    )
    kernels._import_backend.cache_clear()
    try:
        assert main(["demo", "--backend", "numba", "--output-dir", str(tmp_path)]) == 1
    finally:
        kernels._import_backend.cache_clear()
    assert "pip install numba" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variable", "value"), [("FASTLSGD_BACKEND", "abacus"), ("FASTLSGD_NUM_THREADS", "many")]
)
def test_bad_environment(variable, value, tmp_path):
    finished = run("demo", cwd=tmp_path, **{variable: value})
    assert_one_line_error(finished, 2, variable, value)


def test_output_dir_is_a_file(tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("keep me")
    finished = run("demo", "--output-dir", taken)
    assert_one_line_error(finished, 2, str(taken), "it is a file")
    assert finished.stdout == ""  # the error came before any work
    assert_one_line_error(run("demo", "--output-dir", taken / "below"), 2, str(taken))
    assert taken.read_text() == "keep me"


def test_output_dir_is_empty(tmp_path):
    assert_one_line_error(run("demo", "--output-dir", "", cwd=tmp_path), 2, "empty")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
def test_output_dir_is_not_writable(tmp_path):
    tmp_path.chmod(0o500)
    finished = run("demo", "--output-dir", tmp_path)
    tmp_path.chmod(0o700)
    assert_one_line_error(finished, 2, str(tmp_path), "Permission denied")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that root can't write")
def test_output_dir_takes_no_files():
    assert_one_line_error(run("demo", "--output-dir", "/proc/self"), 2, "/proc/self")


def test_a_folder_is_where_a_picture_goes(tmp_path):
    (tmp_path / PICTURES[1]).mkdir()
    finished = run("demo", "--output-dir", tmp_path)
    assert_one_line_error(finished, 2, "can't overwrite", PICTURES[1])


@pytest.mark.parametrize("arguments", [[], ["fit"], ["demo", "--colour"], ["demo", "extra"]])
def test_wrong_arguments(arguments):
    finished = run(*arguments)
    assert_one_line_error(finished, 2, "--help")


WITHOUT_SKLEARN = """
import sys
sys.modules["sklearn"] = sys.modules["scipy"] = None  # to import them is an error

from fastlsgd.cli import main
for line in sys.stdin:
    print(main(line.split()), file=sys.stderr)
"""


def test_wrong_names_of_files_are_told_before_scikit_learn_is_imported(tmp_path):
    (tmp_path / "t.csv").write_text("x,y\n1,2\n")
    (tmp_path / "m.json").write_text("{}")
    expected = {
        "fit no.csv --target y --output o.json": (1, "there is no file or folder 'no.csv'"),
        "fit t.csv --target y --output o.pkl": (2, "o.pkl: the name of a model file must end in"),
        "fit t.csv --target y --output t.csv": (2, "must end in .json"),
        "fit t.csv --target y --output o.json --cv 1": (2, "--cv must be 2 or more"),
        "predict no.json t.csv": (1, "There is no file no.json."),
        "predict m.json no.csv": (1, "there is no file or folder 'no.csv'"),
        "predict m.json t.csv --output o.txt": (2, "--output must end in .csv, .parquet"),
        "evaluate m.json t.csv --memory 0": (2, "--memory must be 1 or more, got 0"),
        "info m.txt": (1, "m.txt: the name of a model file must end in"),
        "to-c no.json": (1, "There is no file no.json."),
    }
    if find_spec("pyarrow") is not None:
        missing = "t.csv: there is no column 'z' among 'x', 'y'"
        expected["fit t.csv --target z --output o.json"] = (1, missing)
    finished = subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT_SKLEARN],
        input="\n".join(expected),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    lines = finished.stderr.splitlines()
    assert len(lines) == 2 * len(expected), finished.stderr
    for (code, fragment), told, ended in zip(
        expected.values(), lines[::2], lines[1::2], strict=True
    ):
        assert told.startswith("fastlsgd: error: ")
        assert fragment in told
        assert ended == str(code), told


def test_version_and_help():
    finished = run("--version")
    assert (finished.returncode, finished.stdout) == (0, f"fastlsgd {fastlsgd.__version__}\n")
    finished = run("demo", "--help")
    assert finished.returncode == 0
    assert "--output-dir" in finished.stdout


def test_show_versions():
    finished = run("show-versions")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.startswith(f"fastlsgd {fastlsgd.__version__}\n")
    for name in (*fastlsgd.available_backends(), "python", "cpu", "numpy", "scikit-learn", "torch"):
        assert re.search(rf"^  {name} +\S", finished.stdout, re.M), name


def test_show_versions_tells_of_a_bad_environment(monkeypatch):
    monkeypatch.setenv("FASTLSGD_BACKEND", "abacus")
    report = io.StringIO()
    fastlsgd.show_versions(report)
    assert "in use        error" in report.getvalue()


def test_main_returns_exit_codes(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fastlsgd {fastlsgd.__version__}\n"
    assert main(["demo", "--backend", "abacus"]) == 2


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_interrupt(tmp_path):
    process = subprocess.Popen(
        [*COMMAND, "demo"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert errors.strip() == "fastlsgd: interrupted"


WHILE_IMPORTING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job may ignore it

class Finder:
    def find_spec(name, path, target=None):
        if name == "fastlsgd.cli.demo":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder)
from fastlsgd.__main__ import run
run()
"""


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_interrupt_of_imports(tmp_path):
    finished = subprocess.run(
        [sys.executable, "-P", "-c", WHILE_IMPORTING, "demo"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (finished.returncode, finished.stdout) == (130, "")
    assert finished.stderr.strip() == "fastlsgd: interrupted"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full device")
def test_full_disk():
    with open("/dev/full", "w") as full:
        finished = subprocess.run(
            [*COMMAND, "show-versions"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert_one_line_error(finished, 1, "No space left")


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
def test_reader_that_leaves_early():
    process = subprocess.Popen(
        [*COMMAND, "show-versions"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=300) == 1
    assert errors == b""


@pytest.mark.skipif(os.name != "posix", reason="names of files in bytes")
def test_names_that_stdout_cannot_encode(tmp_path):
    finished = run("demo", "--output-dir", tmp_path / "é", PYTHONIOENCODING="ascii")
    assert finished.returncode == 0, finished.stderr
    assert r"\xe9" in finished.stdout
    assert (tmp_path / "é" / PICTURES[0]).exists()
