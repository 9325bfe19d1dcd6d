"""The speed map: fastlsgd beside what it replaces, over the shapes that people have.

    python bench/map.py                        all parts, 1 thread and all; writes docs/speed_map.md
    python bench/map.py wide many-columns      these parts only, printed and not written
    python bench/map.py wide --threads 1 --rounds 5
    python bench/map.py --conditions           only the tables of conditions.py

A cell is one job on one array: fastlsgd's call, and those of the peers that do the same job. They
take turns (`timing.interleave`), and the cell's number is the best peer's median time over ours, so
that below 1 we are slower. Each answer of a cell is judged in the same run by the job's own
objective, in float64: fastlsgd's may exceed the best by 1e-6 of it at most, and a peer whose
objective exceeds the best by more is marked, since its time bought another answer.

To add rows: write a function that yields `Cell`s, and add it to `PARTS`.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import conditions
import numpy as np
import scipy.sparse as sp
import sklearn
import small_cells
import sparse_defaults
from sklearn.linear_model import (
    ElasticNet,
    LinearRegression,
    Ridge,
    RidgeClassifier,
    RidgeClassifierCV,
    RidgeCV,
)
from sklearn.linear_model import SGDClassifier as SklearnClassifier
from sklearn.linear_model import SGDRegressor as SklearnRegressor
from threadpoolctl import threadpool_limits
from timing import interleave

import fastlsgd
from fastlsgd import (
    LeastSquaresClassifier,
    LeastSquaresCV,
    LeastSquaresRegressor,
    SGDClassifier,
    SGDRegressor,
)
from fastlsgd.kernels import resolve_threads

PAGE = Path(__file__).resolve().parents[1] / "docs" / "speed_map.md"
QUALITY = 1e-6  # by which an objective may exceed the best
N_ALPHAS = 10

Fit = Callable[[], Any]


class Cell(NamedTuple):
    """A job on one array: calls that return an answer, and the objective of an answer.

    A call of fastlsgd or a peer does the job `loops` times.
    """

    job: str
    shape: str
    dtype: str
    ours: Fit
    peers: dict[str, Fit]
    objective: Callable[[Any], float]
    loops: int = 1


class Measured(NamedTuple):
    cell: Cell
    threads: int
    seconds: float
    peer: str
    ratio: float
    excess: float  # of our objective over the best
    other_answers: list[str]  # peers whose objective exceeds the best by more than `QUALITY`


# ----------------------------------------------------------------------------------------- data


def dense(n: int, d: int, dtype: str):
    """Normal rows, ten columns of which tell the target, with noise as large as the signal."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d), dtype=np.dtype(dtype))
    return X, (X[:, :10].sum(axis=1) + 3.0 * rng.standard_normal(n)).astype(dtype)


def text_like(n: int, d: int, dtype: str, per_row: int = 55):
    """CSR rows of about as many positive numbers each, in random columns."""
    rng = np.random.default_rng(0)
    X = sp.random_array((n, d), density=per_row / d, format="csr", dtype=np.dtype(dtype), rng=rng)
    y = X @ rng.standard_normal(d) + rng.standard_normal(n)
    return X, y.astype(dtype)


def classes_of(y: np.ndarray, count: int) -> np.ndarray:
    """As many labels of about equal frequency, by the size of y."""
    return np.searchsorted(np.quantile(y, np.linspace(0, 1, count + 1)[1:-1]), y)


def signs_of(labels: np.ndarray) -> np.ndarray:
    return np.where(labels[:, None] == np.arange(labels.max() + 1), 1.0, -1.0)


# ------------------------------------------------------------------------------------ objectives


def penalised(X, y: np.ndarray, alpha: float) -> Callable[[Any], float]:
    """|X w + b - y|^2 + alpha |w|^2 of a model, in float64."""
    y = y.astype(np.float64)

    def objective(model) -> float:
        w, b = np.asarray(model.coef_, np.float64), np.asarray(model.intercept_, np.float64)
        fitted = np.concatenate([part.astype(np.float64) @ w.T for part in _chunks(X)])
        r = fitted + b - y
        return float(np.vdot(r, r) + alpha * np.vdot(w, w))

    return objective


def least_norm(X, y: np.ndarray) -> Callable[[Any], float]:
    """|w| of a model that interpolates, and infinity of one that does not."""
    scale = float(np.linalg.norm(y - y.mean()))

    def objective(model) -> float:
        misfit = penalised(X, y, 0.0)(model) ** 0.5
        allowed = 1e-3 if X.dtype == np.float32 else 1e-6
        w = np.asarray(model.coef_, np.float64)
        return float(np.linalg.norm(w)) if misfit <= allowed * scale else np.inf

    return objective


def error_of(X, y: np.ndarray, model) -> float:
    """One minus the held-out R2 or accuracy."""
    return 1.0 - model.score(X, y)


def with_l1(X, y: np.ndarray, alpha: float, l1_ratio: float) -> Callable[[Any], float]:
    """The objective of the elastic net of a model, in float64."""

    def objective(model) -> float:
        w = np.asarray(model.coef_, np.float64)
        fit = 0.5 * penalised(X, y, 0.0)(model) / X.shape[0]
        return fit + alpha * float(l1_ratio * np.abs(w).sum() + 0.5 * (1.0 - l1_ratio) * (w @ w))

    return objective


def of_errors(model) -> float:
    """The least cross-validated error that a model has found."""
    return -float(model.best_score_)


def _chunks(X, rows: int = 2000):
    return (X[i : i + rows] for i in range(0, X.shape[0], rows))


# ----------------------------------------------------------------------------------------- parts


def ridge_cells(shape: tuple[int, int], dtype: str, make) -> Iterator[Cell]:
    """Ridge of one target and of ten classes, alpha = 1 in the sum over rows."""
    n, d = shape
    X, y = make(n, d, dtype)
    name, labels = f"{n:,} x {d:,}", classes_of(y, 10)
    yield Cell(
        "ridge",
        name,
        dtype,
        lambda: LeastSquaresRegressor(alpha=1.0 / n).fit(X, y),
        {"Ridge": lambda: Ridge(1.0).fit(X, y)},
        penalised(X, y, 1.0),
    )
    yield Cell(
        "ridge, 10 classes",
        name,
        dtype,
        lambda: LeastSquaresClassifier(alpha=1.0 / n).fit(X, labels),
        {"RidgeClassifier": lambda: RidgeClassifier(1.0).fit(X, labels)},
        penalised(X, signs_of(labels), 1.0),
    )


def wide_cells(shape: tuple[int, int], dtype: str) -> Iterator[Cell]:
    n, d = shape
    X, y = dense(n, d, dtype)
    name, alphas = f"{n:,} x {d:,}", np.geomspace(1e3, 1e-3, N_ALPHAS)
    yield Cell(
        "least norm",
        name,
        dtype,
        lambda: LeastSquaresRegressor().fit(X, y),
        {"LinearRegression": lambda: LinearRegression().fit(X, y)},
        least_norm(X, y),
    )
    yield Cell(
        f"leave-one-out, {N_ALPHAS} alphas",
        name,
        dtype,
        lambda: LeastSquaresCV(alphas=alphas / (n - 1)).fit(X, y),
        {"RidgeCV": lambda: RidgeCV(alphas).fit(X, y)},
        of_errors,
    )


def small() -> Iterator[Cell]:
    """Few numbers, where a call costs more than the arithmetic."""
    for n, d in small_cells.SHAPES:
        for dtype in ("float32", "float64"):
            X, y = small_cells.problem(n, d, dtype)
            for job, (ours, peers), objective in small_cells.fits(X, y):
                yield Cell(
                    job,
                    f"{n:,} x {d:,}",
                    dtype,
                    small_cells.looped(ours),
                    {name: small_cells.looped(call) for name, call in peers.items()},
                    objective,
                    small_cells.LOOPS,
                )


def streams() -> Iterator[Cell]:
    """`partial_fit` of 20 rows at a time."""
    for d in (20, 200):
        for dtype in ("float32", "float64"):
            for job, (ours, peers), objective in small_cells.streams(d, dtype):
                shape = f"calls of {small_cells.ROWS} x {d}"
                yield Cell(job, shape, dtype, ours, peers, objective, small_cells.CALLS)


def wide() -> Iterator[Cell]:
    for shape in ((100, 1_000), (200, 5_000), (1_000, 4_000), (500, 20_000)):
        for dtype in ("float32", "float64"):
            yield from ridge_cells(shape, dtype, dense)
            yield from wide_cells(shape, dtype)


def kernel_features() -> Iterator[Cell]:
    """Time series by random kernels (Dempster et al. 2021): RidgeClassifierCV on 10,000 columns."""
    for dtype in ("float32", "float64"):
        yield _classes_by_leave_one_out(1_000, 10_000, dtype)


def _classes_by_leave_one_out(n: int, d: int, dtype: str) -> Cell:
    X, y = dense(n, d, dtype)
    labels, alphas = classes_of(y, 5), np.geomspace(1e3, 1e-3, N_ALPHAS)
    return Cell(
        f"leave-one-out, {N_ALPHAS} alphas, 5 classes",
        f"{n:,} x {d:,}",
        dtype,
        lambda: LeastSquaresCV(alphas=alphas / (n - 1)).fit(X, signs_of(labels)),
        {"RidgeClassifierCV": lambda: RidgeClassifierCV(alphas).fit(X, labels)},
        of_errors,
    )


def many_columns() -> Iterator[Cell]:
    for shape in ((10_000, 1_000), (5_000, 2_500)):
        for dtype in ("float32", "float64"):
            yield from ridge_cells(shape, dtype, dense)


def many_classes() -> Iterator[Cell]:
    """Labels that the rows tell little of, as many classes have them."""
    for count in (100, 1_000):
        for dtype in ("float32", "float64"):
            X, y = dense(20_000, 512, dtype)
            labels = classes_of(y, count)
            yield Cell(
                f"ridge, {count:,} classes",
                "20,000 x 512",
                dtype,
                partial(LeastSquaresClassifier(alpha=1.0 / len(X)).fit, X, labels),
                {"RidgeClassifier": partial(RidgeClassifier(1.0).fit, X, labels)},
                penalised(X, signs_of(labels), 1.0),
            )
            yield _scores_cell(count, X, labels)


def _scores_cell(count: int, X: np.ndarray, labels: np.ndarray) -> Cell:
    ours = LeastSquaresClassifier(alpha=1.0 / len(X)).fit(X, labels)
    theirs = RidgeClassifier(1.0).fit(X, labels)
    truth = X.astype(np.float64) @ ours.coef_.T.astype(np.float64) + ours.intercept_

    def objective(scores: np.ndarray) -> float:
        return 1.0 + float(np.abs(scores - truth).max() / np.abs(truth).max())

    return Cell(
        f"scores of {count:,} classes",
        "20,000 x 512",
        X.dtype.name,
        partial(ours.decision_function, X),
        {"RidgeClassifier": partial(theirs.decision_function, X)},
        objective,
    )


def sparse() -> Iterator[Cell]:
    """Sparse ridge as it is by default, and with tolerances at which both libraries are as exact.

    By default, ours is 1e-10 and that of Ridge 1e-4, which takes it to 1e-7 of the objective.
    """
    for shape in ((2_000, 20_000), (20_000, 50_000)):
        for dtype in ("float32", "float64"):
            yield from ridge_cells(shape, dtype, text_like)
            X, y = text_like(*shape, dtype)
            labels = classes_of(y, 10)
            for job, ours, theirs, target, fitted in (
                ("ridge", LeastSquaresRegressor, Ridge, y, y),
                (
                    "ridge, 10 classes",
                    LeastSquaresClassifier,
                    RidgeClassifier,
                    labels,
                    signs_of(labels),
                ),
            ):
                models = ours(alpha=1.0 / shape[0]), theirs(1.0)
                yield _equally_exact(job, models, X, target, penalised(X, fitted, 1.0))


def _equally_exact(job: str, models, X, y: np.ndarray, objective) -> Cell:
    """A job with the loosest powers of ten as tolerances that come within 1e-6 of the objective."""
    best = objective(models[0].fit(X, y))
    for model in models:
        model.set_params(tol=1e-2)
        while objective(model.fit(X, y)) > best * (1.0 + QUALITY) and model.tol > 1e-10:
            model.set_params(tol=0.1 * model.tol)
    ours, theirs = models
    return Cell(
        f"{job}, equally exact",
        f"{X.shape[0]:,} x {X.shape[1]:,}",
        X.dtype.name,
        partial(ours.fit, X, y),
        {f"{type(theirs).__name__}, tol={theirs.tol:.0e}": partial(theirs.fit, X, y)},
        objective,
    )


def lasso() -> Iterator[Cell]:
    """Lasso and elastic net where few, some and many weights are not zero."""
    for shape in ((100, 1_000), (200, 1_000), (1_000, 4_000)):
        for dtype in ("float32", "float64"):
            yield from lasso_cells(f"{shape[0]:,} x {shape[1]:,}", *dense(*shape, dtype))
    for dtype in ("float32", "float64"):
        yield from lasso_cells("100,000 x 1,000, sparse", *text_like(100_000, 1_000, dtype, 20))


def lasso_cells(shape: str, X, y: np.ndarray) -> Iterator[Cell]:
    steepest = float(np.abs(X.T @ (y - y.mean())).max()) / X.shape[0]
    for share in (0.3, 0.1, 0.02):
        for l1_ratio in (1.0, 0.5):
            alpha = share * steepest / l1_ratio
            ours = LeastSquaresRegressor(alpha=alpha, l1_ratio=l1_ratio)
            theirs = ElasticNet(alpha=alpha, l1_ratio=l1_ratio, max_iter=100_000)
            objective = with_l1(X, y, alpha, l1_ratio)
            best = objective(ours.fit(X, y))
            while objective(theirs.fit(X, y)) > best * (1.0 + QUALITY) and theirs.tol > 1e-9:
                theirs.set_params(tol=0.1 * theirs.tol)
            peers = {f"ElasticNet, tol={theirs.tol:.0e}": partial(theirs.fit, X, y)}
            for name, model in other_lassos(alpha, l1_ratio):
                peers[name] = partial(model.fit, X, y)
            yield Cell(
                f"{'lasso' if l1_ratio == 1.0 else 'elastic net'}, {share:g} of the largest alpha",
                shape,
                X.dtype.name,
                partial(ours.fit, X, y),
                peers,
                objective,
            )


def other_lassos(alpha: float, l1_ratio: float) -> Iterator[tuple[str, Any]]:
    """Yield the estimators of celer and skglm, where they are installed."""
    for library, options in (("celer", {"tol": 1e-6}), ("skglm", {"tol": 1e-6})):
        try:
            module = importlib.import_module(library)
        except ImportError:
            continue
        if l1_ratio == 1.0:
            yield library, module.Lasso(alpha=alpha, **options)
        else:
            yield library, module.ElasticNet(alpha=alpha, l1_ratio=l1_ratio, **options)


def sgd_on_dense_rows() -> Iterator[Cell]:
    """Default stochastic estimators on small and on tall data.

    Regressors are judged by the objective that both minimise, classifiers by held-out errors, since
    each has its library's own loss.
    """
    for n, d in ((20, 3), (200, 5), (1_000, 20), (100_000, 20), (100_000, 100), (1_000_000, 20)):
        for dtype in ("float32", "float64"):
            X, y = dense(n + 1_000, d, dtype)
            for n_classes in (None, 2):
                target = y if n_classes is None else classes_of(y, n_classes)
                ours, theirs = SGDClassifier(random_state=0), SklearnClassifier(random_state=0)
                objective = partial(error_of, X[n:], target[n:])
                if n_classes is None:
                    ours, theirs = SGDRegressor(random_state=0), SklearnRegressor(random_state=0)
                    objective = with_l1(X[:n], y[:n], ours.alpha, 0.0)
                yield Cell(
                    f"default SGD, {'1 target' if n_classes is None else f'{n_classes} classes'}",
                    f"{n:,} x {d:,}",
                    dtype,
                    partial(ours.fit, X[:n], target[:n]),
                    {"scikit-learn": partial(theirs.fit, X[:n], target[:n])},
                    objective,
                )


def sgd_on_sparse_rows() -> Iterator[Cell]:
    """Default stochastic estimators, each with its library's own loss, by held-out errors.

    scikit-learn's regressor takes seconds and more on the larger ones: sparse_defaults.py has it.
    """
    for name, X, n in sparse_defaults.problems():
        for n_classes in (None, 2, 20):
            is_slow = X.shape[0] > 20_000 and n_classes != 2
            y = sparse_defaults.targets(X, n_classes)
            for dtype in () if is_slow else ("float32", "float64"):
                A = X.astype(dtype)
                ours, theirs = SGDClassifier(random_state=0), SklearnClassifier(random_state=0)
                if n_classes is None:
                    ours, theirs = SGDRegressor(random_state=0), SklearnRegressor(random_state=0)
                yield Cell(
                    f"default SGD, {'1 target' if n_classes is None else f'{n_classes} classes'}",
                    name,
                    dtype,
                    partial(ours.fit, A[:n], y[:n]),
                    {"scikit-learn": partial(theirs.fit, A[:n], y[:n])},
                    partial(error_of, A[n:], y[n:]),
                )


PARTS: dict[str, Callable[[], Iterator[Cell]]] = {
    "small": small,
    "streams": streams,
    "wide": wide,
    "kernel-features": kernel_features,
    "lasso": lasso,
    "many-columns": many_columns,
    "many-classes": many_classes,
    "sparse": sparse,
    "sgd-dense": sgd_on_dense_rows,
    "sgd-sparse": sgd_on_sparse_rows,
}


# ------------------------------------------------------------------------------------- measuring


def measure(cell: Cell, threads: int, rounds: int) -> Measured:
    with threadpool_limits(threads), fastlsgd.config_context(n_threads=threads):
        calls = {"fastlsgd": cell.ours, **cell.peers}
        values = {name: cell.objective(call()) for name, call in calls.items()}
        times = interleave(calls, rounds)
    best = min(values.values())
    excess = {name: value / best - 1.0 for name, value in values.items()}
    equal = [name for name in cell.peers if excess[name] <= QUALITY] or list(cell.peers)
    peer = min(equal, key=lambda name: times[name].median)
    return Measured(
        cell,
        threads,
        times["fastlsgd"].median / cell.loops,
        peer,
        times[peer].median / times["fastlsgd"].median,
        excess["fastlsgd"],
        [name for name in cell.peers if excess[name] > QUALITY],
    )


def line_of(m: Measured) -> str:
    notes = [f"{name} has another answer" for name in m.other_answers]
    if m.excess > QUALITY:
        notes.append(f"**ours exceeds the best objective by {m.excess:.1e}**")
    cells = [
        m.cell.job,
        m.cell.shape,
        m.cell.dtype,
        str(m.threads),
        f"{1e3 * m.seconds:.1f}" if m.seconds >= 1e-3 else f"{1e3 * m.seconds:.3f}",
        m.peer,
        f"{m.ratio:.2f}" if m.ratio >= 1.0 else f"**{m.ratio:.2f}**",
        "; ".join(notes),
    ]
    return f"| {' | '.join(cells)} |"


def grid(part: str, measured: list[Measured], threads: int) -> list[str]:
    """Return the heat map of a part: a row per array, a column per job, a colour per ratio."""
    jobs = list(dict.fromkeys(m.cell.job for m in measured))
    arrays = list(dict.fromkeys((m.cell.shape, m.cell.dtype) for m in measured))
    found = {
        (m.cell.shape, m.cell.dtype, m.cell.job): m.ratio for m in measured if m.threads == threads
    }
    counted = f"{threads} thread" + ("s" if threads > 1 else "")
    lines = [f"| {part}, {counted} | {' | '.join(jobs)} |", "| --- |" + " --- |" * len(jobs)]
    for shape, dtype in arrays:
        row = (_mark(found.get((shape, dtype, job))) for job in jobs)
        lines.append(f"| {shape}, {dtype} | {' | '.join(row)} |")
    return lines


def _mark(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f"{'🟥' if ratio < 1.0 else '🟨' if ratio < 2.0 else '🟩'} {ratio:.2g}"


TABLE = [
    "| job | shape | dtype | threads | fastlsgd, ms | fastest peer | times as fast | notes |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
]


def page(parts: dict[str, list[Measured]], conditions_found: list[str]) -> str:
    measured = [m for part in parts.values() for m in part]
    slow = [m for m in measured if m.ratio < 1.0]
    lines = [
        "# The speed map",
        "",
        "Written by `python bench/map.py`: a peer's median time over fastlsgd's, taking turns in"
        " one run, at equal objectives (to 1e-6, checked in that run). Red is below 1, where"
        " fastlsgd is slower; green is 2 or more.",
        "",
        f"{platform.machine()}, NumPy {np.__version__}, scikit-learn {sklearn.__version__}; the"
        f" median cell is {np.median([m.ratio for m in measured]):.2f}.",
        "",
    ]
    for part, cells in parts.items():
        for threads in sorted({m.threads for m in cells}):
            lines += [*grid(part, cells, threads), ""]
    lines += [*conditions_found, "## Below 1", ""]
    lines += [*TABLE, *map(line_of, slow)] if slow else ["No cell."]
    lines += ["", "## All cells", "", *TABLE, *map(line_of, measured), ""]
    return "\n".join(lines)


def conditions_tables() -> list[str]:
    """Return the tables of conditions.py."""
    crowded = conditions.crowded_lines(conditions.beside_busy_processes())
    with threadpool_limits(1), fastlsgd.config_context(n_threads=1):
        return [*crowded, *conditions.slope_lines(list(conditions.slopes()))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all")
    parser.add_argument("--threads", type=int, nargs="+", help="default: 1 and all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--conditions", action="store_true", help="only those tables, printed")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.conditions:
        print(*conditions_tables(), sep="\n")
        return
    threads = arguments.threads or sorted({1, resolve_threads()})
    measured: dict[str, list[Measured]] = {}
    print(*TABLE, sep="\n", flush=True)
    for part in arguments.parts or PARTS:
        for cell in PARTS[part]():
            for count in threads:
                found = measure(cell, count, arguments.rounds)
                measured.setdefault(part, []).append(found)
                print(line_of(found), flush=True)
    if not arguments.parts:
        PAGE.write_text(page(measured, conditions_tables()), encoding="utf-8")


if __name__ == "__main__":
    main()
