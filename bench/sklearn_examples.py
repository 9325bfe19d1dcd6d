"""scikit-learn's documented examples, with and without the patch of `fastlsgd.sklearn`.

    python bench/sklearn_examples.py CHECKOUT                       all that mention the classes
    python bench/sklearn_examples.py CHECKOUT linear_model sgd.rst  those with such a name

CHECKOUT is scikit-learn's repository or unpacked source distribution, of the installed version. Its
programs (examples/**.py), pages (doc/**.rst) and the docstrings of the installed package are run,
each in a process of its own: twice as they are, once as `python -m fastlsgd.sklearn` runs them,
and once by scikit-learn with the parameters of EXACT, which end its descents at rounding and not
at `tol`. Compared are the fitted attributes of each call of `fit` of the patched classes, all
numbers that are printed or returned, and those that are drawn. A number that scikit-learn itself
does not repeat to TOLERANCE, as a time, counts for nothing.

Programs that fetch data from the web, or need packages that are not installed, are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import doctest
import functools
import importlib
import io
import os
import pickle
import pkgutil
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

import fastlsgd
from fastlsgd.sklearn import _patch
from fastlsgd.sklearn.__main__ import main as run_script

TOLERANCE = 1e-6
TIMEOUT = 900
MENTION = re.compile(rf"\b({'|'.join(_patch._OURS)})\b")
# What ends scikit-learn's descents at rounding.
EXACT = {"tol": 1e-12, "max_iter": 1_000_000}
DESCENTS = ("Lasso", "LassoCV", "ElasticNet", "ElasticNetCV")
# Attributes that count the work, or name the library that did it.
NOT_RESULTS = ("n_iter_", "solver_", "dual_gap_", "n_features_in_", "feature_names_in_")
# Of memory, and of temporary files.
ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+|\btmp[a-z0-9_]{8}\b")
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


# ---------------------------------------------------------------- in the process of an example


def record_fits(how: str, records: list) -> None:
    """Patch scikit-learn with classes whose `fit` appends its name and fitted attributes.

    These are fastlsgd's if `how` is "patched", and otherwise scikit-learn's, in the same places.
    """
    depth = 0

    def recorded(fit):
        @functools.wraps(fit)
        def wrapper(self, *args, **kwargs):
            nonlocal depth
            name = type(self).__name__
            if how == "exact" and name in DESCENTS:
                self.set_params(**EXACT)
            depth += 1
            try:
                return fit(self, *args, **kwargs)
            finally:
                depth -= 1
                if not depth and name in classes:
                    records.append((name, fitted(self)))

        return wrapper

    classes = _patch._OURS
    for name, ours in classes.items():
        if how != "patched":
            own = ours.__bases__[0]
            ours = type(name, (own,), {"__module__": own.__module__, "__doc__": own.__doc__})
            classes[name] = ours
        ours.fit = recorded(ours.fit)
    fastlsgd.patch_sklearn()


def fitted(estimator) -> list[tuple[str, np.ndarray]]:
    """The fitted attributes that are results; weights and intercept are one, with one scale."""
    if getattr(estimator, "shuffle", False) and estimator.random_state is None:
        return []  # the order of the rows is free
    found = {}
    for name, value in sorted(vars(estimator).items()):
        if name.endswith("_") and not name.startswith("_") and name not in NOT_RESULTS:
            value = value.toarray() if hasattr(value, "toarray") else np.asarray(value)
            if value.dtype.kind in "fiu":
                found[name] = value.astype(np.float64).ravel()
    if "coef_" in found:
        found["coef_"] = np.append(found["coef_"], found.pop("intercept_", []))
    return list(found.items())


def drawn() -> list[np.ndarray]:
    """The numbers of all lines, points and pictures of all figures."""
    if "matplotlib.pyplot" not in sys.modules:
        return []
    plt, found = sys.modules["matplotlib.pyplot"], []
    for figure in map(plt.figure, plt.get_fignums()):
        for axes in figure.axes:
            found += [np.asarray(line.get_xydata(), float).ravel() for line in axes.lines]
            for drawing in (*axes.collections, *axes.images):
                for get in ("get_offsets", "get_array"):
                    numbers = getattr(drawing, get, lambda: None)()
                    if numbers is not None and np.asarray(numbers).dtype.kind in "fiu":
                        found.append(np.ma.filled(np.asarray(numbers, float), 0.0).ravel())
    return found


def results_of(tests: list[doctest.DocTest]) -> list[str]:
    """Run the examples of these docstrings or pages, and return what each of them gives."""
    given: list[str] = []

    class Runner(doctest.DocTestRunner):
        def report_success(self, out, test, example, got):
            given.append(got)

        def report_failure(self, out, test, example, got):
            given.append(got)

        def report_unexpected_exception(self, out, test, example, exc_info):
            given.append(f"{test.name}: {exc_info[0].__name__}: {exc_info[1]}")

    np.set_printoptions(legacy="1.25", precision=17, linewidth=10_000)
    for test in tests:
        Runner(verbose=False).run(test, out=lambda text: None)
    return given


def doctests_of_page(path: str) -> list[doctest.DocTest]:
    text = Path(path).read_text(encoding="utf-8")
    return [doctest.DocTestParser().get_doctest(text, {}, Path(path).name, path, 0)]


def doctests_of_package() -> list[doctest.DocTest]:
    """Those of scikit-learn's docstrings that mention one of the classes."""
    import sklearn

    tests: dict[str, doctest.DocTest] = {}
    for module in pkgutil.walk_packages(sklearn.__path__, "sklearn."):
        if re.search(r"\.(tests|_build_utils|conftest|externals|experimental)\b", module.name):
            continue
        with contextlib.suppress(ImportError):
            for test in doctest.DocTestFinder().find(importlib.import_module(module.name)):
                if MENTION.search("".join(example.source for example in test.examples)):
                    tests[test.name] = test
    return list(tests.values())


def run_one(what: str, how: str, output: str) -> None:
    """Run an example and write its records; `how` is "plain", "again", "patched" or "exact"."""
    records: list = []
    is_program, is_page = what.endswith(".py"), what.endswith(".rst")
    tests = [] if is_program else doctests_of_page(what) if is_page else doctests_of_package()
    record_fits(how, records)
    printed, given, error = io.StringIO(), [], ""
    with contextlib.redirect_stdout(printed):
        try:
            if is_program:
                run_script([what])
            else:
                given = results_of(tests)
        except Exception as exception:  # the example's own: it is compared like a result
            error = f"{type(exception).__name__}: {exception}"
    text = ADDRESS.sub("", printed.getvalue() + "".join(given)).splitlines()
    Path(output).write_bytes(pickle.dumps((records, text, drawn(), error)))


# ---------------------------------------------------------------------------- the comparison


class Run(NamedTuple):
    """What an example has fitted, printed and drawn, as named arrays of numbers, and its words."""

    numbers: list[tuple[str, np.ndarray]]
    words: list[str]
    n_fits: int
    error: str


def start(what: str, how: str) -> Run:
    """Run an example in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "records")
        done = subprocess.run(
            [sys.executable, "-W", "ignore", __file__, "--one", what, how, output],
            env={**os.environ, "MPLBACKEND": "Agg"},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        if done.returncode:
            return Run([], [], 0, done.stderr.strip().rpartition("\n")[2])
        records, text, pictures, error = pickle.loads(Path(output).read_bytes())
    numbers = [
        (f"{name}.{attribute}", array) for name, found in records for attribute, array in found
    ]
    for line in text:
        found = np.array([float(number) for number in NUMBER.findall(line)])
        numbers.append(("text", found))
    numbers += [("picture", array) for array in pictures]
    return Run(
        numbers, [NUMBER.sub("#", line).replace(" ", "") for line in text], len(records), error
    )


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference relative to the largest number."""
    if a.shape != b.shape:
        return np.inf
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return 0.0
    scale = max(np.abs(a[np.isfinite(a)]).max(initial=0.0), np.finfo(float).tiny)
    return float(np.nan_to_num(np.abs(a - b)[~same] / scale, nan=np.inf).max())


def compare(what: str, title: str) -> bool:
    """Print the row of an example; False if it differs from scikit-learn to the end."""
    plain = start(what, "plain")
    if plain.error:
        print(f"| {title} | not run: {plain.error[:90]} | | | | | |", flush=True)
        return True
    again, patched, exact = (start(what, how) for how in ("again", "patched", "exact"))
    worst, worst_exact, unrepeated, notes = 0.0, 0.0, 0, set()
    if patched.error or patched.words != plain.words:
        pairs = zip(plain.words, patched.words, strict=False)
        first = next((f"{one!r} is {two!r}" for one, two in pairs if one != two), "length of text")
        notes.add(patched.error or first)
    runs = (plain.numbers, again.numbers, patched.numbers, exact.numbers)
    for (name, one), (_, two), (_, ours), (_, end) in zip(*runs, strict=False):
        if difference(one, two) > TOLERANCE:
            unrepeated += 1
            continue
        apart = difference(one, ours)
        least = min(apart, difference(end, ours))
        worst, worst_exact = max(worst, apart), max(worst_exact, least)
        if least > TOLERANCE:
            notes.add(f"{name} {least:.0e}")
    print(
        f"| {title} | {plain.n_fits} | {len(plain.numbers) - unrepeated} | {unrepeated} | "
        f"{worst:.0e} | {worst_exact:.0e} | {', '.join(sorted(notes))} |",
        flush=True,
    )
    return not notes


def examples(checkout: Path, names: list[str]) -> list[tuple[str, str]]:
    """The programs and pages that mention a class, and the docstrings, as (what to run, title)."""
    found = [("docstrings", "docstrings of the package")]
    for folder, pattern in (("examples", "*.py"), ("doc", "*.rst")):
        for path in sorted((checkout / folder).rglob(pattern)):
            text = path.read_text(encoding="utf-8")
            if MENTION.search(text) and (pattern == "*.py" or ">>>" in text):
                found.append((str(path), path.relative_to(checkout).as_posix()))
    return [pair for pair in found if not names or any(name in pair[1] for name in names)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, help="scikit-learn's repository")
    parser.add_argument("names", nargs="*", help="parts of paths, or docstrings")
    options = parser.parse_args()
    print("| example | fits | numbers | not repeatable | apart | apart from exact | differs in |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    equal = [compare(*pair) for pair in examples(options.checkout.resolve(), options.names)]
    sys.exit(0 if all(equal) else 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        run_one(*sys.argv[2:])
    else:
        main()
