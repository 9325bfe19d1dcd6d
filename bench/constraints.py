"""Measure bounds and linear equalities of `LeastSquaresRegressor` next to their peers.

    python bench/constraints.py                    all rows, some two minutes; 1 GB of memory
    python bench/constraints.py bounds simplex     these
    python bench/constraints.py sweep --problems 5000

Each row first compares the objectives. A call begins with the rows. Peers for quadratic programs
are given them in two ways: with the residuals as variables, which is how cvxpy states
``sum_squares(X @ w - y)``, and as the quadratic form of X^T X, whose products are made in the call;
and both through cvxpy itself.
SciPy's solvers and the first of these ways are timed once, all others three times, of which the
best counts. Peers that are not installed are left out:
pip install osqp clarabel cvxpy. `sweep` has no times: it compares the objectives of random
problems, of conditions up to 1e14, with those of SciPy's `lsq_linear` and `nnls` in extended
precision.
"""

from __future__ import annotations

import argparse
import importlib.util
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.optimize import lsq_linear, nnls
from timing import best_of

from fastlsgd import LeastSquaresRegressor
from fastlsgd.kernels import resolve_threads

ROUNDS = 3
TOLERANCE = 1e-9
EPS = float(np.finfo(np.float64).eps)


class Peer(NamedTuple):
    name: str
    call: Callable[[], np.ndarray]  # of the weights
    rounds: int
    at_least: float | None  # the required speed, as a multiple of the peer's


def has(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def half_squares(X, y, w) -> float:
    """The objective of these weights, in extended precision."""
    r = X.astype(np.longdouble) @ np.asarray(w, np.longdouble) - y
    return 0.5 * float(r @ r)


def report(title: str, X, y, ours: Callable[[], LeastSquaresRegressor], peers: list[Peer]) -> None:
    model = ours()
    mine, own = best_of(ours, ROUNDS), 0.5 * float(((X @ model.coef_ - y) ** 2).sum())
    print(f"\n{title}, {resolve_threads()} threads\n")
    print("| | seconds | times ours | objective over ours, less 1 | required |")
    print("| --- | --- | --- | --- | --- |")
    print(f"| fastlsgd ({model.solver_}, {model.n_iter_} passes) | {mine:.3f} | 1.0 | | |")
    for peer in peers:
        w = peer.call()
        theirs = best_of(peer.call, peer.rounds)
        excess = 0.5 * float(((X @ w - y) ** 2).sum()) / own - 1.0
        least = "" if peer.at_least is None else f"{peer.at_least:g}"
        print(f"| {peer.name} | {theirs:.3f} | {theirs / mine:.1f} | {excess:.1e} | {least} |")
    certificates = f"relative_gradient_ {model.relative_gradient_:.1e}"
    if hasattr(model, "dual_gap_"):
        certificates += f", dual_gap_ {model.dual_gap_:.1e}"
    print(f"\n{certificates}; {(np.abs(model.coef_) > 0).sum()} weights are not zero")


# ------------------------------------------------------------------------------------- rows


def bounds(n: int = 100_000, d: int = 200) -> None:
    """Box constraints of which about half hold."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d))
    y = X @ rng.normal(size=d) + rng.normal(size=n)
    model = LeastSquaresRegressor(bounds=(-0.5, 0.7), fit_intercept=False)
    box = np.full(d, -0.5), np.full(d, 0.7)
    peers = [
        Peer(f"lsq_linear, {name}", lambda name=name: lsq_linear(X, y, box, name).x, 1, 3.0)
        for name in ("trf", "bvls")
    ]
    report(f"Bounds, {n:,} x {d}", X, y, lambda: model.fit(X, y), peers)


def signs(n: int = 100_000, d: int = 200) -> None:
    """Weights that may not be negative."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d)) + rng.normal(size=(n, 1))
    y = X @ np.maximum(rng.normal(size=d), 0.0) + rng.normal(size=n)
    model = LeastSquaresRegressor(bounds=(0.0, np.inf), fit_intercept=False)
    peers = [Peer("scipy nnls", lambda: nnls(X, y)[0], 1, None)]
    report(f"Signs, {n:,} x {d}", X, y, lambda: model.fit(X, y), peers)


def simplex(n: int = 10_000, d: int = 500) -> None:
    """Shares that are not negative and sum to one, of columns with and without a common factor."""
    for common in (0.0, 0.9):
        rng = np.random.default_rng(0)
        X = np.sqrt(1.0 - common) * rng.normal(size=(n, d))
        X += np.sqrt(common) * rng.normal(size=(n, 1))
        y = X @ rng.dirichlet(np.full(d, 0.1)) + 0.5 * rng.normal(size=n)
        model = LeastSquaresRegressor(
            bounds=(0.0, 1.0), constraints=(np.ones((1, d)), [1.0]), fit_intercept=False
        )
        peers = [
            Peer(
                f"{name}, 1e-9, {'X^T X' if products else 'residuals'}",
                lambda X=X, y=y, call=call, products=products: call(*program(X, y, products)),
                ROUNDS if products else 1,
                None if products else 5.0,
            )
            for name, call in (("Clarabel", by_clarabel), ("OSQP", by_osqp))
            if has(name.lower())
            for products in (False, True)
        ]
        peers += [
            Peer(
                f"cvxpy, {solver}, 1e-9, {'quad_form of X^T X' if products else 'sum_squares'}",
                lambda X=X, y=y, s=solver, products=products: by_cvxpy(X, y, s, products),
                ROUNDS if products else 1,
                5.0,
            )
            for solver, products in (("CLARABEL", False), ("CLARABEL", True), ("OSQP", True))
            if has("cvxpy") and has(solver.lower())
        ]
        title = f"Simplex, {n:,} x {d}, correlation {common:g}"
        report(title, X, y, lambda model=model, X=X, y=y: model.fit(X, y), peers)


def program(X: np.ndarray, y: np.ndarray, products: bool):
    """The upper triangle of P and q of v^T P v / 2 + q^T v, and the equalities that v satisfies.

    v begins with the weights. With `products`, it has nothing else; else the residuals follow.
    """
    n, d = X.shape
    if products:
        return sparse.csc_matrix(np.triu(X.T @ X)), -(X.T @ y), np.ones((1, d)), np.ones(1), d
    P = sparse.block_diag([sparse.csc_matrix((d, d)), sparse.eye(n)], "csc")
    share = sparse.hstack([np.ones((1, d)), sparse.csc_matrix((1, n))])
    rows = sparse.vstack([share, sparse.hstack([sparse.csc_matrix(X), -sparse.eye(n)])])
    return P, np.zeros(d + n), rows, np.append(1.0, y), d


def by_clarabel(P, q, rows, right, d: int) -> np.ndarray:
    import clarabel

    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = TOLERANCE
    signs = sparse.eye(d, len(q))
    all_rows = sparse.vstack([rows, -signs]).tocsc()
    cones = [clarabel.ZeroConeT(len(right)), clarabel.NonnegativeConeT(d)]
    ends = np.append(right, np.zeros(d))
    return np.array(clarabel.DefaultSolver(P, q, all_rows, ends, cones, settings).solve().x)[:d]


def by_osqp(P, q, rows, right, d: int) -> np.ndarray:
    import osqp

    solver = osqp.OSQP()
    solver.setup(
        P,
        q,
        sparse.vstack([rows, sparse.eye(d, len(q))]).tocsc(),
        np.append(right, np.zeros(d)),
        np.append(right, np.full(d, np.inf)),
        verbose=False,
        eps_abs=TOLERANCE,
        eps_rel=TOLERANCE,
        max_iter=100_000,
        polishing=True,
    )
    return np.array(solver.solve().x)[:d]


def by_cvxpy(X: np.ndarray, y: np.ndarray, solver: str, products: bool) -> np.ndarray:
    """The shares as a user of cvxpy writes them; with OSQP, `sum_squares` takes minutes."""
    import cvxpy

    w = cvxpy.Variable(X.shape[1])
    loss = 0.5 * cvxpy.sum_squares(X @ w - y)
    if products:
        loss = 0.5 * cvxpy.quad_form(w, cvxpy.psd_wrap(X.T @ X)) - (X.T @ y) @ w
    names = {"CLARABEL": ("tol_gap_abs", "tol_gap_rel", "tol_feas"), "OSQP": ("eps_abs", "eps_rel")}
    options = dict.fromkeys(names[solver], TOLERANCE)
    most = {"max_iter": 100_000} if solver == "OSQP" else {}
    problem = cvxpy.Problem(cvxpy.Minimize(loss), [w >= 0, cvxpy.sum(w) == 1])
    problem.solve(solver=solver, **options, **most)
    return w.value


# ------------------------------------------------------------------------------------ sweep


def hard_problem(rng: np.random.Generator, kind: int):
    """A problem with rows, targets and bounds, of one of five kinds."""
    n, d = int(rng.integers(1, 60)), int(rng.integers(1, 20))
    X, y = rng.normal(size=(n, d)), rng.normal(size=n)
    if kind in (1, 2) and n >= d:
        U, s, V = np.linalg.svd(X, full_matrices=False)
        X = (U * np.logspace(0.0, -rng.uniform(0.0, 14.0), len(s))) @ V
    if kind == 2:
        y = X @ rng.normal(size=d) + 1e-3 * y
    elif kind == 3:  # a column that is another's, and units that differ
        X[:, rng.integers(d)] = X[:, rng.integers(d)]
        X *= 10.0 ** rng.integers(-5, 5, size=d)
    elif kind == 4:
        X = np.vander(np.linspace(0.0, 1.0, n), d)
    lower = rng.normal(size=d) - 1.0
    upper = lower + 2.0 * rng.exponential(size=d)
    lower[rng.random(d) < 0.2], upper[rng.random(d) < 0.2] = -np.inf, np.inf
    if rng.random() < 0.15:
        lower, upper = np.zeros(d), np.full(d, np.inf)
    return X, y, lower, upper


def least_of_scipy(X, y, lower, upper) -> float:
    """The least objective that a solver of SciPy's reaches."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for method in ("bvls", "trf"):
            found.append(lsq_linear(X, y, (lower, upper), method, tol=1e-14).x)
        if (lower == 0.0).all() and np.isinf(upper).all():
            found.append(nnls(X, y)[0])
    return min(half_squares(X, y, w) for w in found)


def sweep(problems: int = 1000) -> None:
    """Objectives beside SciPy's; what the rounding of the weights themselves adds is named."""
    rng, above, rounded, warned, most = np.random.default_rng(0), 0, 0, 0, 0.0
    for k in range(problems):
        X, y, lower, upper = hard_problem(rng, k % 5)
        model = LeastSquaresRegressor(bounds=(lower, upper), fit_intercept=False)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            w = model.fit(X, y).coef_
        warned += bool(caught)
        assert (w >= lower).all()
        assert (w <= upper).all()
        least, mine = least_of_scipy(X, y, lower, upper), half_squares(X, y, w)
        noise = EPS * (np.abs(X) @ np.abs(w))
        floor = 0.5 * len(w) * float(noise @ noise)
        rounded += mine > least * (1.0 + 1e-10)
        above += mine > least * (1.0 + 1e-10) + floor
        most = max(most, (mine - least - floor) / max(least, 1e-300))
    print(f"\nObjectives of {problems:,} problems beside the least of SciPy's\n")
    print(f"above it by more than 1e-10 and the rounding of the weights: {above}")
    print(f"above it by more than 1e-10: {rounded}; with a warning: {warned}")
    print(f"largest excess beyond the rounding of the weights: {most:.1e}")


ROWS: dict[str, Callable] = {"bounds": bounds, "signs": signs, "simplex": simplex, "sweep": sweep}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", help="default: all")
    parser.add_argument("--problems", type=int, default=1000, help="of the sweep")
    options = parser.parse_args()
    for name in options.rows or ROWS:
        ROWS[name](options.problems) if name == "sweep" else ROWS[name]()


if __name__ == "__main__":
    main()
