"""Least squares with an L2 penalty, to rounding: which solver, and what to do where it fails.

"auto" goes down this list until a factor can be trusted:

1. `cg` for many columns or sparse rows: conjugate gradients in the columns' own scales, if their
   rate promises an end before a Gram matrix would be ready;
2. `gram`: one pass for A^T A, its Cholesky factor as the metric, then descent on the true
   residual, most often two passes. Good for conditions up to some 1e6;
3. `sketch`: the same with R of a random sketch as the metric, for any condition short of rank
   deficiency, with conjugate gradients;
4. `qr`: LAPACK, for columns that depend on each other, fewer rows than columns, and units whose
   squares overflow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..kernels.contract import CSR, Kernels, Matrix
from .conjugate import Descent, descend
from .factors import (
    EPS,
    DiagonalFactor,
    NotTrustworthy,
    cholesky_factor,
)
from .orthogonal import SKETCH_ROWS, sketch_factor, solve_by_qr
from .rows import as_dense, sample_rows
from .solution import Solution
from .system import System

SOLVERS = ("auto", "gram", "sketch", "cg", "qr")

# The condition up to which a float64 Gram matrix is a good metric: its square, times eps, is small.
GRAM_CONDITION = 3e6
# A pass is bound by memory, a Gram matrix by arithmetic: it costs so many passes for each column.
GRAM_PASSES = 0.045
# The same for CSR, whose rows the Gram matrix makes dense: for each stored number of a row.
SPARSE_GRAM_PASSES = 0.015
# Where a Gram matrix costs more passes than this, conjugate gradients are tried before it.
PATIENCE = 45.0
# d^2 numbers of a factor must fit in memory: 2 GB.
FACTOR_FEATURES = 16384
# A descent that rounding ends with a relative gradient above this, or above so many eps times the
# condition, has not solved the problem.
SOLVED = 1e-6
SOLVED_EPS = 100.0
# Squares of columns that differ by less are taken for alike: those of a sample are noisy.
ALIKE = 16.0
SEED = 0


@dataclass(frozen=True)
class Request:
    """What the caller wants of a solution."""

    tol: float = 0.0  # of the relative gradient; 0: as far as rounding allows
    max_iter: int = 1000
    certify: bool = True  # whether a last pass measures the gradient
    seed: int = SEED
    start: np.ndarray | None = None  # (t, d)


def solve_least_squares(
    kernels: Kernels,
    X: Matrix,
    y: np.ndarray,
    *,
    sample_weight: np.ndarray | None,
    alphas: Sequence[float],
    fit_intercept: bool,
    solver: str,
    n_threads: int,
    request: Request,
) -> list[Solution]:
    """Minimise 1/2 sum_i s_i (x_i . w + b - y_i)^2 + alpha/2 |w|^2 for each alpha.

    A `solver` other than "auto" is tried first, and QR if its factor can't be trusted. What does
    not depend on alpha is done once, and conjugate gradients go on from the alpha before.

    Raises
    ------
    numpy.linalg.LinAlgError
        If sums overflow, or X or y hold NaN or infinity.
    """

    def system_of(targets) -> System:
        return System(
            kernels, X, targets, sample_weight, fit_intercept=fit_intercept, n_threads=n_threads
        )

    system = system_of(y)
    exponent = _targets_exponent(system)
    if exponent:
        system = system_of(np.ldexp(np.asarray(y), -exponent))
    if request.start is not None:
        request = replace(request, start=np.ldexp(request.start, -exponent))
    solutions = []
    for alpha in alphas:
        system.alpha = alpha
        solution = _first_to_be_trusted(system, request, solver)
        if solution is None:
            plain = system_of(y)
            plain.alpha = alpha
            solutions.append(_by_qr(plain, request))
        else:
            solutions.append(_times_power_of_two(solution, exponent))
            request = replace(request, start=solution.coef)
    return solutions


def _times_power_of_two(solution: Solution, exponent: int) -> Solution:
    with np.errstate(over="ignore"):
        return replace(
            solution,
            coef=np.ldexp(solution.coef, exponent),
            intercept=np.ldexp(solution.intercept, exponent),
            residual_norm=np.ldexp(solution.residual_norm, exponent),
            losses=np.ldexp(solution.losses, 2 * exponent).tolist(),
        )


def _targets_exponent(system: System) -> int:
    """The power of two of y where its squares could overflow or underflow; else 0."""
    if system.X.dtype == np.float32:  # whose squares are float64
        return 0
    largest = system.largest_target()
    if not (np.isfinite(largest) and largest > 0.0) or 1e-100 < largest < 1e100:
        return 0
    return int(np.frexp(largest)[1])


def _first_to_be_trusted(system: System, request: Request, solver: str) -> Solution | None:
    for attempt in [_ATTEMPTS[solver]] if solver != "auto" else _plan(system):
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                return attempt(system, request)
        except NotTrustworthy:
            continue
    return None


def _plan(system: System) -> list[Callable[[System, Request], Solution]]:
    """The solvers that "auto" tries, in order; QR comes after them."""
    n, d = system.n, system.d
    if d > FACTOR_FEATURES:
        return [_by_cg]
    if n < d and system.alpha == 0.0:
        return []
    ways: list[Callable[[System, Request], Solution]] = [_by_gram]
    if n >= SKETCH_ROWS * d:
        ways.append(_by_sketch)
    return [_by_quick_cg, *ways] if _gram_passes(system) > PATIENCE else ways


def _gram_passes(system: System) -> float:
    """What a Gram matrix costs, in passes of a gradient."""
    if isinstance(system.X, CSR):
        per_row = max(system.stored, 1) / system.n
        return SPARSE_GRAM_PASSES * system.d**2 / per_row
    return GRAM_PASSES * system.d


def _by_gram(system: System, request: Request) -> Solution:
    xx, xy = system.centred_gram()
    squares = np.diag(xx)
    scale = system.columns_scale(squares)
    _refuse_underflow(system, squares)
    scale = np.where(scale > 0.0, 1.0 / np.sqrt(squares + system.alpha + (scale == 0.0)), 0.0)
    factor = cholesky_factor(xx, system.alpha, scale)
    if factor.condition > GRAM_CONDITION:
        raise NotTrustworthy("the condition's square exceeds what rounding leaves")
    z = factor.whiten(xy.T)
    coef = factor.unwhiten(z)
    start = Descent(coef, system.intercept_for(coef), relative_gradient=1.0)
    unit = np.sqrt((z * z).sum(axis=1))
    return _descended("gram", system, factor, start, unit, request, sharp=True)


def _refuse_underflow(system: System, squares: np.ndarray) -> None:
    """Squares, or float32's products with a residual, may have lost what counts."""
    limit = 1e-250
    if system.X.dtype == np.float32:
        largest = max(system.largest_target(), 1e-37)
        limit = system.weight * (1e-30 / largest) ** 2
    small = np.flatnonzero(squares < limit)
    if len(small) == 0:
        return
    for _, _, A, _ in system.chunks():
        if (np.abs(A[:, small]) > 4.0 * EPS * np.abs(system.centre[small])).any():
            raise NotTrustworthy("squares underflow")


def _by_sketch(system: System, request: Request) -> Solution:
    system.find_centre()
    sketch = sketch_factor(system, request.seed)
    coef = sketch.factor.unwhiten(sketch.start)
    start = Descent(coef, system.intercept_for(coef), relative_gradient=1.0)
    unit = np.sqrt((sketch.start * sketch.start).sum(axis=1))
    solution = _descended("sketch", system, sketch.factor, start, unit, request, sharp=False)
    solution.factor = None  # good for a metric, not for standard errors
    return solution


def _by_quick_cg(system: System, request: Request) -> Solution:
    """If that takes fewer passes than a Gram matrix costs."""
    return _by_cg(system, request, budget=int(_gram_passes(system)))


def _by_cg(system: System, request: Request, budget: int | None = None) -> Solution:
    system.find_centre()
    factor = DiagonalFactor(_sampled_scale(system))
    coef = np.zeros((system.t, system.d)) if request.start is None else request.start
    start = Descent(coef, system.intercept_for(coef))
    unit = None
    if request.start is not None:
        zero = np.zeros_like(coef)
        z = factor.whiten(system.gradient(zero, system.intercept_for(zero)).coef)
        unit = np.sqrt((z * z).sum(axis=1))
    return _descended("cg", system, factor, start, unit, request, sharp=False, budget=budget)


def _descended(name, system, factor, start, unit, request, *, sharp, budget=None) -> Solution:
    """`descend`, and whether to trust where it ends."""
    before = system.passes
    end = descend(
        system,
        factor,
        start,
        unit,
        sharp=sharp,
        tol=request.tol,
        max_iter=request.max_iter,
        certify=request.certify,
        budget=budget,
    )
    finite = np.isfinite(end.relative_gradient) and np.isfinite(end.coef).all()
    condition = end.condition if name == "cg" else factor.condition
    condition = condition if np.isfinite(condition) else 1.0
    solved = max(SOLVED, SOLVED_EPS * EPS * condition)
    stuck = end.has_stalled and end.relative_gradient > solved
    if not finite or end.is_slow or (stuck and system.d <= FACTOR_FEATURES):
        raise NotTrustworthy("the descent does not get there")
    rounding = SOLVED_EPS * EPS if system.X.dtype == np.float64 else np.finfo(np.float32).eps
    allowed = max(request.tol, float(rounding) * condition)
    return Solution(
        end.coef,
        end.intercept,
        name,
        system.passes - before,
        end.condition if name == "cg" else factor.condition,
        np.sqrt(end.squares),
        end.losses,
        end.relative_gradient,
        end.converged or (end.has_stalled and end.relative_gradient <= allowed),
        None if name == "cg" else factor,
        system.centre,
    )


def _sampled_scale(system: System) -> np.ndarray:
    """One over the columns' norms, as a sample of the rows has them.

    Where the norms differ by chance alone, or a minimum-norm solution is wanted, all are 1: in
    the columns' own units, conjugate gradients from zero end at the solution of least norm.
    """
    common = np.full(system.d, 1.0 / np.sqrt(system.weight))
    if system.n < system.d and system.alpha == 0.0:
        return common
    squares = _column_squares(system, every=16 if isinstance(system.X, CSR) else None)
    _refuse_range(system, squares)
    low, middle, high = np.quantile(squares, [0.01, 0.5, 0.99])
    if squares.any() and high <= ALIKE * low and squares.max() <= ALIKE * middle:
        return np.full(system.d, 1.0 / np.sqrt(squares.mean() + system.alpha))
    if isinstance(system.X, CSR) or squares.min() == 0.0:
        squares = _column_squares(system, every=1)
        _refuse_range(system, squares)
    counts = system.columns_scale(squares) > 0.0
    return np.where(counts, 1.0 / np.sqrt(squares + system.alpha + ~counts), 0.0)


def _refuse_range(system: System, squares: np.ndarray) -> None:
    """Squares near the ends of what a double holds, or that have underflowed to nothing."""
    values = system.X.data if isinstance(system.X, CSR) else system.X
    if not np.all((squares == 0.0) | ((squares > 1e-240) & (squares < 1e240))):
        raise NotTrustworthy("squares overflow or underflow")
    if not squares.any() and values.any():
        raise NotTrustworthy("squares underflow")


def _column_squares(system: System, every: int | None) -> np.ndarray:
    """Of the columns of A, from each `every`-th row; None: of 4 million numbers."""
    X, s = system.X, system.sample_weight
    every = every or max(1, system.n * system.d // 2**22)
    rows = sample_rows(X, every)
    weights = np.ones(rows.shape[0]) if s is None else s[::every].astype(np.float64)
    part = float(weights.sum())
    if not part > 0.0:
        raise NotTrustworthy("the sample has no weight")
    if isinstance(rows, CSR):
        ends = np.asarray(rows.indptr)
        span = slice(int(ends[0]), int(ends[-1]))
        values = rows.data[span].astype(np.float64)
        values *= values * np.repeat(weights, np.diff(ends))
        sums = np.bincount(np.asarray(rows.indices[span]), values, minlength=system.d)
        return np.maximum(sums * (system.weight / part) - system.weight * system.centre**2, 0.0)
    total, step = np.zeros(system.d), max(1, 2**19 // system.d)
    for start in range(0, len(rows), step):
        A = as_dense(rows[start : start + step]) - system.centre
        total += np.einsum("ij,ij,i->j", A, A, weights[start : start + step])
    return total * (system.weight / part)


def _by_qr(system: System, request: Request) -> Solution:
    if system.d > FACTOR_FEATURES:
        raise np.linalg.LinAlgError(f"QR of {system.d} columns would not fit in memory")
    system.find_centre()
    found = solve_by_qr(system)
    relative, losses = 0.0, []
    if request.certify:
        with np.errstate(over="ignore", invalid="ignore"):
            relative = found.relative(system.gradient(found.coef, found.intercept).coef)
        penalty = system.alpha * float(np.vdot(found.coef, found.coef))
        losses = [0.5 * (float((found.residual_norm**2).sum()) + penalty)]
    return Solution(
        found.coef,
        found.intercept,
        "qr",
        len(losses),
        found.condition,
        found.residual_norm,
        losses,
        relative,
        True,
        found.factor,
        system.centre,
        found.rank,
        found.singular,
    )


_ATTEMPTS: dict[str, Callable[[System, Request], Solution]] = {
    "gram": _by_gram,
    "sketch": _by_sketch,
    "cg": _by_cg,
    "qr": _by_qr,
}
