"""Measure `lstsq` and `LeastSquaresRegressor` next to their peers.

    python bench/solvers.py                     all rows, some five minutes; 4 GB of memory
    python bench/solvers.py tall wide           these
    python bench/solvers.py --rounds 5 narrow

The contenders of a row take turns on the same arrays, and the best time of each counts. Errors are
relative to a solution in extended precision: iterative refinement with residuals in long doubles.
Peers that are not installed are left out: pip install scikit-learn-intelex skglm. The script prints
a Markdown table per row.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import arrays
import numpy as np
import peers
import scipy.linalg
from sklearn.linear_model import Ridge, enet_path
from threadpoolctl import threadpool_limits
from timing import Call, interleave

import fastlsgd
from fastlsgd.kernels import resolve_threads

CHUNK_ROWS = 8192


class Bar(NamedTuple):
    """The required speed, as a multiple of a peer's."""

    peer: str
    at_least: float


class Case(NamedTuple):
    """Calls that return weights, beginning with fastlsgd's own."""

    title: str
    calls: dict[str, Call]
    bars: list[Bar]
    exact: np.ndarray | None = None  # weights in extended precision
    data: tuple[np.ndarray, np.ndarray] | None = None  # for backward errors


# ------------------------------------------------------------------------- extended precision


def extended_residual(A: np.ndarray, b: np.ndarray, x: np.ndarray) -> np.ndarray:
    """b - A x in long doubles, computed a few rows at a time."""
    x = x.astype(np.longdouble)
    return np.concatenate(
        [
            b[i : i + CHUNK_ROWS] - A[i : i + CHUNK_ROWS].astype(np.longdouble) @ x
            for i in range(0, len(b), CHUNK_ROWS)
        ]
    )


def extended_slope(A: np.ndarray, r: np.ndarray) -> np.ndarray:
    """A^T r in long doubles."""
    return sum(
        A[i : i + CHUNK_ROWS].astype(np.longdouble).T @ r[i : i + CHUNK_ROWS]
        for i in range(0, len(r), CHUNK_ROWS)
    )


def extended_solution(A: np.ndarray, b: np.ndarray, steps: int = 6) -> np.ndarray:
    """The solution to all digits: Bjorck's refinement of the augmented system (1967, BIT 7)."""
    A64 = A.astype(np.float64)
    Q, R = np.linalg.qr(A64)
    x, r = np.zeros(A.shape[1], np.longdouble), np.zeros(len(b), np.longdouble)
    for _ in range(steps):
        f = (extended_residual(A, b - r, x)).astype(np.float64)
        g = (-extended_slope(A, r)).astype(np.float64)
        h = scipy.linalg.solve_triangular(R, g, trans="T")
        x = x + scipy.linalg.solve_triangular(R, Q.T @ f - h)
        r = r + (f - Q @ (Q.T @ f) + Q @ h)
    return x.astype(np.float64)


def refined_solution(A: np.ndarray, b: np.ndarray, steps: int = 4) -> np.ndarray:
    """The solution where the condition is good, in less memory: steps of the normal equations."""
    factor = scipy.linalg.cho_factor(fastlsgd.gram(A).xx)
    x = np.zeros(A.shape[1], np.longdouble)
    for _ in range(steps):
        slope = extended_slope(A, extended_residual(A, b, x))
        x = x + scipy.linalg.cho_solve(factor, slope.astype(np.float64))
    return x.astype(np.float64)


def backward_error(A: np.ndarray, b: np.ndarray, x: np.ndarray) -> float:
    """Relative to A: Karlson and Walden's estimate (1997, BIT 37), within a factor of two."""
    r = extended_residual(A, b, x)
    slope = extended_slope(A, r).astype(np.float64)
    _, sigma, Vt = np.linalg.svd(np.linalg.qr(A, mode="r"))
    size = np.linalg.norm(x)
    mu = float(np.linalg.norm(r.astype(np.float64))) / size
    scaled = Vt @ slope / np.sqrt(sigma**2 + mu**2)
    return float(np.linalg.norm(scaled) / size / np.linalg.norm(sigma))


# ------------------------------------------------------------------------------------- peers


def numpy_lstsq(A, b) -> Call:
    return lambda: np.linalg.lstsq(A, b, rcond=None)[0]


def ridge_cholesky(A, b) -> Call:
    return lambda: Ridge(alpha=1e-10, solver="cholesky", fit_intercept=False).fit(A, b).coef_


def intelex(A, b) -> Call:
    try:
        from sklearnex.linear_model import LinearRegression
    except ImportError as error:
        raise peers.NotInstalled("pip install scikit-learn-intelex") from error
    return lambda: LinearRegression(fit_intercept=False).fit(A, b).coef_


def with_peers(A, b, own: Call, wanted: dict[str, Callable]) -> dict[str, Call]:
    calls = {"fastlsgd": own}
    for name, make in wanted.items():
        try:
            calls[name] = make(A, b)
        except peers.NotInstalled as missing:
            print(f"  {name} is left out: {missing}")
    return calls


# -------------------------------------------------------------------------------------- rows


def tall() -> Iterator[Case]:
    problem = arrays.dense(1_000_000, 100, "float64")
    A, b = problem.X, problem.y
    wanted = {"numpy": numpy_lstsq, "Ridge(cholesky)": ridge_cholesky, "intelex": intelex}
    bars = [Bar("numpy", 20), Bar("Ridge(cholesky)", 3), Bar("intelex", 1.3)]
    calls = with_peers(A, b, lambda: fastlsgd.lstsq(A, b), wanted)
    yield Case("1M x 100 float64", calls, bars, refined_solution(A, b))


def narrow() -> Iterator[Case]:
    problem = arrays.dense(4_000_000, 10, "float64")
    A, b = problem.X, problem.y
    calls = with_peers(A, b, lambda: fastlsgd.lstsq(A, b), {"numpy": numpy_lstsq})
    yield Case("4M x 10 float64", calls, [Bar("numpy", 8)], refined_solution(A, b))


def wide() -> Iterator[Case]:
    """20,000 x 4,096 with independent columns, where conjugate gradients need no Gram matrix."""
    for dtype in ("float32", "float64"):
        problem = arrays.dense(20_000, 4096, dtype)
        A, b = problem.X, problem.y
        wanted = {"numpy": numpy_lstsq, "Ridge(cholesky)": ridge_cholesky}
        calls = with_peers(A, b, lambda A=A, b=b: fastlsgd.lstsq(A, b), wanted)
        bars = [Bar("numpy", 10), Bar("Ridge(cholesky)", 3)]
        yield Case(f"20,000 x 4,096 {dtype}", calls, bars)


def condition() -> Iterator[Case]:
    n, d = 100_000, 200
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((n, d)))[0]
    V = np.linalg.qr(rng.standard_normal((d, d)))[0]
    for number in (1.0, 1e4, 1e8, 1e12):
        A = (Q * np.geomspace(1.0, 1.0 / number, d)) @ V.T
        b = A @ rng.standard_normal(d) + 1e-3 * rng.standard_normal(n) / np.sqrt(n)
        calls = {
            "fastlsgd": lambda A=A, b=b: fastlsgd.lstsq(A, b),
            "gelsy": lambda A=A, b=b: scipy.linalg.lstsq(
                A, b, lapack_driver="gelsy", cond=np.finfo(float).eps, check_finite=False
            )[0],
            "gelsd": lambda A=A, b=b: scipy.linalg.lstsq(
                A, b, lapack_driver="gelsd", cond=np.finfo(float).eps, check_finite=False
            )[0],
        }
        title = f"condition {number:.0e}, 100,000 x 200 float64"
        bars = [Bar("gelsy", 1), Bar("gelsd", 1)]
        yield Case(title, calls, bars, extended_solution(A, b), (A, b))


def sparse() -> Iterator[Case]:
    problem = arrays.csr(*arrays.CSR_SHAPE, "float64")
    A, b = problem.X, problem.y

    def ridge() -> np.ndarray:
        model = Ridge(alpha=1.0, solver="sparse_cg", tol=1e-6, fit_intercept=False)
        return model.fit(A, b).coef_

    calls = {"fastlsgd": lambda: fastlsgd.lstsq(A, b, alpha=1.0, tol=1e-6), "sparse_cg": ridge}
    exact = fastlsgd.lstsq(A, b, alpha=1.0)
    yield Case("CSR 500,000 x 100,000, ridge", calls, [Bar("sparse_cg", 10)], exact)


def path() -> Iterator[Case]:
    n, d = 100_000, 500
    rng = np.random.default_rng(0)
    X = np.asfortranarray(rng.standard_normal((n, d)))
    y = X[:, :50] @ rng.standard_normal(50) + rng.standard_normal(n)
    alphas = np.abs(X.T @ y).max() / n / 0.5 * np.geomspace(1.0, 1e-3, 100)
    model = fastlsgd.LeastSquaresRegressor(alpha=alphas, l1_ratio=0.5, fit_intercept=False)
    calls = {
        "fastlsgd": lambda: model.fit(X, y).coef_path_,
        "enet_path": lambda: enet_path(X, y, l1_ratio=0.5, alphas=alphas)[1].T,
    }
    try:
        calls["skglm"] = skglm_path(X, y, alphas)
    except ImportError:
        print("  skglm is left out: pip install skglm")
    exact = enet_path(X, y, l1_ratio=0.5, alphas=alphas, tol=1e-13, max_iter=100_000)[1].T
    bars = [Bar("enet_path", 2), Bar("skglm", 2)]
    yield Case("elastic net, 100 alphas, 100,000 x 500", calls, bars, exact)


def skglm_path(X, y, alphas) -> Call:
    from skglm.datafits import Quadratic
    from skglm.penalties import L1_plus_L2
    from skglm.solvers import AndersonCD
    from skglm.utils.jit_compilation import compiled_clone

    def call() -> np.ndarray:
        solver = AndersonCD(tol=1e-4, fit_intercept=False)
        datafit, penalty = compiled_clone(Quadratic()), compiled_clone(L1_plus_L2(1.0, 0.5))
        return solver.path(X, y, datafit, penalty, alphas)[1].T

    return call


ROWS = {row.__name__: row for row in (tall, narrow, wide, condition, sparse, path)}


def report(case: Case, rounds: int) -> None:
    times = interleave(case.calls, rounds)
    own = times["fastlsgd"].best
    bars = {bar.peer: bar.at_least for bar in case.bars}
    print(f"\n{case.title}\n\n| | ms | fastlsgd is | bar | forward error | backward error |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, time in times.items():
        x = np.asarray(case.calls[name](), dtype=np.float64).reshape(-1)
        cells = [name, f"{1e3 * time.best:.0f}", "", "", "", ""]
        if name in bars:
            cells[2:4] = f"{time.best / own:.1f} x", f"{bars[name]:g} x"
        if case.exact is not None:
            exact = case.exact.reshape(-1)
            cells[4] = f"{np.linalg.norm(x - exact) / np.linalg.norm(exact):.1e}"
        if case.data is not None:
            cells[5] = f"{backward_error(*case.data, x):.1e}"
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of the peers, about their convergence
    with threadpool_limits(resolve_threads()):
        for name in options.rows or ROWS:
            for case in ROWS[name]():
                report(case, options.rounds)


if __name__ == "__main__":
    main()
