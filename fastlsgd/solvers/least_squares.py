"""Least squares with an L2 penalty, to rounding: which solver, and what to do where it fails.

"auto" goes down this list until a factor can be trusted:

1. `cg`, for many columns or sparse rows: conjugate gradients in the columns' own scales, as long as
   their rate of convergence promises an end before a Gram matrix would be ready;
2. `gram`: one pass for A^T A, whose Cholesky factor is the metric of a descent on the true
   residual, which most often takes two passes; good for conditions up to some 1e6. Where columns
   of many rows depend on each other beyond doubt, its eigenvectors are (`row_space.py`);
3. `sketch`: descent by conjugate gradients, with R of a random sketch as the metric, for any
   condition short of rank deficiency;
4. `qr`: LAPACK's QR, for other dependent columns and units whose squares overflow.

For fewer rows than columns it takes the dual and QR of wide.py; of sparse rows, `cg` first where
that is cheaper. For few numbers, `small.py` does what `gram` does in fewer calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .._threads import is_small
from ..kernels.contract import CSR, working_dtype
from ..kernels.device import lives_on_device
from .conjugate import CG_CONDITION, Goal, Iterate, descend
from .conjugate_rows import solve_by_rows
from .factors import (
    GRAM_CONDITION,
    DiagonalFactor,
    NotTrustworthy,
    TriangularFactor,
    cholesky_factor,
)
from .graded import GRADED, is_graded, is_rounding, solve_graded
from .orthogonal import SKETCH_ROWS, sketch_factor, solve_by_qr
from .row_grades import grade_of, hidden_grade, refuse_graded
from .row_space import RowSpaceFactor, row_space
from .rows import as_dense, random_rows, sparse_gram_passes, take_rows
from .serial_blas import serial_blas
from .small import solve_small
from .solution import Solution
from .system import DENSE_NUMBERS, FAR, ORIGIN_ROWS, System, hides_spread
from .training import TrainingData
from .weights import normalised_weights
from .wide import MOST_DUAL_ROWS, solve_dual, solve_rows_by_qr

DIRECT_SOLVERS = ("auto", "gram", "sketch", "cg", "qr")

# As `GRAM_CONDITION`, of float32 products. The estimate is in the 1-norm, which may exceed that in
# the 2-norm by some times the root of d: 1,680 for 5.8 on 5,000 x 2,500 normal rows.
ROUGH_CONDITION = 300.0
# A pass is bound by memory and a Gram matrix by arithmetic: it costs this many passes per column,
GRAM_PASSES = 0.045
# fewer where a pass has many targets: each adds this much to it, since a pass of one waits for X;
PASS_PER_TARGET = 0.3
# and of CSR its factor takes so long for each of d^3, of a stored number.
FACTOR_SHARE = 0.0055
# The factor of A A^T for sparse rows costs this many passes, times n^3 over the stored numbers, and
# the product so many for each stored number of a column.
DUAL_PASSES, SPARSE_DUAL_PASSES = 0.007, 3.0
# Where a Gram matrix costs more passes than this, conjugate gradients are tried first.
PATIENCE = 45.0
# Where conjugate gradients on the rows need more passes, those on scaled columns may need fewer.
SLOW_PASSES = 300
# The d^2 numbers of a factor must fit in memory: 2 GB.
FACTOR_FEATURES = 16384
# Sparse columns far from zero are left to QR up to this number, for which it takes some seconds.
FAR_FEATURES = 4096
# Squared norms of columns that differ by less count as equal: those of a sample are noisy.
ALIKE_SQUARES = 16.0
# How many numbers of a dense X are sampled for the norms of its columns.
NORM_SAMPLE_NUMBERS = 2**22
# Up to this condition, the rounding of float32 products leaves weights that are right to 1e-5. With
# 3e3, weights of 4,000 x 15 noisy rows of condition 2e3 were 3e-4 off. Estimates in the 1-norm grow
# with the columns: this many times the root of their number is as much, if it is more.
COARSE_CONDITION, COARSE_PER_ROOT = 300.0, 75.0
# Beside a row of so many times their weight, QR about the mean leaves others 12 digits.
HEAVIEST = 1e40
# Rows further from zero than this, in weighted spreads, are left to QR about one of them. The mean
# of others is known well enough to read them about it in float64.
HIDDEN_SPREADS = 1e8
# The share of rows that may be small without harm, as in sparse data.
LIGHT_SHARE = 0.01
SEED = 0


@dataclass(frozen=True)
class Request:
    """What the caller asks of a solution."""

    tol: float = 0.0  # the relative gradient to reach; 0: as far as rounding allows
    max_iter: int = 1000
    certify: bool = True  # whether a last pass measures the gradient
    seed: int = SEED
    start: np.ndarray | None = None  # (t, d)
    row_grams: dict[str, np.ndarray] | None = None  # of the same X and weights, as `System` has it
    x_mean: np.ndarray | None = None  # as `System` has it

    def goal(self, budget: int | None = None, grade: float = 1.0) -> Goal:
        return Goal(self.tol, self.max_iter, self.certify, budget, grade)


def solve_least_squares(
    data: TrainingData,
    alphas: Sequence[float],
    *,
    fit_intercept: bool,
    solver: str,
    request: Request,
) -> list[Solution]:
    """Minimise 1/2 sum_i s_i (x_i . w + b - y_i)^2 + alpha/2 |w|^2 for each alpha.

    A `solver` other than "auto" is tried first, and then QR if its factor cannot be trusted. What
    does not depend on alpha is computed once, and conjugate gradients start from the solution for
    the previous alpha.

    Raises
    ------
    numpy.linalg.LinAlgError
        If sums overflow, or X or y hold NaN or infinity.
    """
    if solver in ("auto", "gram"):
        found = solve_small(data, alphas, request.goal(), fit_intercept=fit_intercept)
        if found is not None:
            return found
    n_targets = data.y.shape[1]
    if is_small(data.X.shape, n_targets):
        data = data._replace(n_threads=1)
    with serial_blas():
        return _solved(data, alphas, fit_intercept, solver, request)


def _solved(
    data: TrainingData, alphas: Sequence[float], fit_intercept: bool, solver: str, request: Request
) -> list[Solution]:
    """Solve as `solve_least_squares` does, problems of any size."""
    kernels, X, y, sample_weight, n_threads = data
    sample_weight, weight_exponent = normalised_weights(sample_weight, X, max(alphas))
    if weight_exponent:
        alphas = np.ldexp(np.asarray(alphas, np.float64), -weight_exponent).tolist()

    row_grams = None if weight_exponent else request.row_grams

    def system_of(targets) -> System:
        made = System(
            kernels,
            X,
            targets,
            sample_weight,
            fit_intercept=fit_intercept,
            n_threads=n_threads,
            row_grams=row_grams,
        )
        made.x_mean = request.x_mean
        return made

    system = system_of(y)
    shift, exponents = _shift_of_targets(system), _targets_exponents(system)
    if exponents.any() or shift.any():
        system = system_of(np.ldexp(np.asarray(y) - shift, -exponents))
        system.loss_exponents = 2 * (exponents - exponents.max())
    if request.start is not None:
        request = replace(request, start=np.ldexp(request.start, -exponents[:, None]))
    solutions = []
    for alpha in alphas:
        system.alpha = alpha
        solution = _first_to_be_trusted(system, request, solver)
        if solution is None and system.n < system.d:  # QR of rows does not scale y
            solution = _by_qr(system, request)
        if solution is None:
            plain = system_of(y)
            plain.alpha = alpha
            solutions.append(_by_qr(plain, request))
        else:
            if len(alphas) > 1:
                request = replace(request, start=solution.coef)
            solution = _times_powers_of_two(solution, exponents)
            solution.intercept = solution.intercept + shift
            solutions.append(solution)
    return [weights_undone(found, weight_exponent, weight_exponent) for found in solutions]


def _shift_of_targets(system: System) -> np.ndarray:
    """Return what to subtract from each target, so that its residuals are not rounded coarsely.

    That is the mean of a few rows where it is far larger than the target's spread, and 0 elsewhere.
    """
    shift = np.zeros(system.t)
    if not system.fit_intercept or system.y.dtype != np.float64:
        return shift
    rows = random_rows(system.n, ORIGIN_ROWS, system.host_weights)
    sample = np.asarray(system.y[rows], np.float64)
    if (sample.min(axis=0) <= 0.0).all() and (sample.max(axis=0) >= 0.0).all():
        return shift  # the mean of so few numbers is then at most 23 times their spread
    with np.errstate(over="ignore", invalid="ignore"):
        mean, spread = sample.mean(axis=0), sample.std(axis=0)
        far = np.isfinite(spread) & (np.abs(mean) > FAR * spread)
    return np.where(far, mean, shift)


def weights_undone(solution: Solution, exponent: int, loss_exponent: int) -> Solution:
    """Return a solution in the unit of the original weights, which were scaled by 2^-exponent."""
    if exponent == 0:
        return solution
    with np.errstate(over="ignore", under="ignore"):
        near = solution.residual_norm if solution.near_norm is None else solution.near_norm
        return replace(
            solution,
            near_norm=near,
            residual_norm=np.ldexp(solution.residual_norm, exponent // 2),
            losses=np.ldexp(solution.losses, loss_exponent).tolist(),
        )


def _times_powers_of_two(solution: Solution, exponents: np.ndarray) -> Solution:
    if not exponents.any():
        return solution
    with np.errstate(over="ignore", under="ignore"):
        return replace(
            solution,
            coef=np.ldexp(solution.coef, exponents[:, None]),
            intercept=np.ldexp(solution.intercept, exponents),
            residual_norm=np.ldexp(solution.residual_norm, exponents),
            losses=np.ldexp(solution.losses, 2 * int(exponents.max())).tolist(),
        )


def _targets_exponents(system: System) -> np.ndarray:
    """Return the power of two of each target whose squares could overflow or underflow, else 0."""
    exponents = np.zeros(system.t, dtype=int)
    if system.y.dtype == np.float32:  # whose squares are float64
        return exponents
    largest = system.largest_targets()
    known = np.isfinite(largest) & (largest > 0.0)
    far = known & ~((largest > 1e-100) & (largest < 1e100))
    exponents[far] = np.frexp(largest[far])[1]
    return exponents


def _first_to_be_trusted(system: System, request: Request, solver: str) -> Solution | None:
    is_warm = request.start is not None
    if system.d <= min(system.n, FAR_FEATURES) and (
        system.has_far_sparse_columns or _only_qr_sees_light_rows(system)
    ):
        return None
    for attempt in _named(system, solver, is_warm) if solver != "auto" else _plan(system, is_warm):
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                return attempt(system, request)
        except NotTrustworthy:
            continue
    return None


def _only_qr_sees_light_rows(system: System) -> bool:
    """Return whether heavy rows hide how the others differ from all solvers but QR.

    Where they only hide it from kernels, gradients read the rows about their mean.
    """
    spreads = system.weighted_spreads
    if not hides_spread(spreads, working_dtype(system.X)):
        return False
    system.precision = "float64"
    return isinstance(system.X, CSR) or spreads > HIDDEN_SPREADS


def _plan(system: System, is_warm: bool) -> list[Callable[[System, Request], Solution]]:
    """Return the solvers that "auto" tries, in order; QR comes after them."""
    n, d = system.n, system.d
    if n < d and not lives_on_device(system.X):
        return _wide_plan(system, is_warm)
    if d > FACTOR_FEATURES:
        return [_by_cg]
    if n < d and system.alpha == 0.0:
        return []
    ways: list[Callable[[System, Request], Solution]] = [_by_gram]
    if n >= SKETCH_ROWS * d:
        ways.append(_by_sketch)
    return [_by_quick_cg, *ways] if _gram_passes(system) > PATIENCE else ways


def _named(
    system: System, solver: str, is_warm: bool
) -> list[Callable[[System, Request], Solution]]:
    """What a solver's name stands for: "cg" is on the rows where these are few and sparse."""
    is_wide = system.n < system.d and isinstance(system.X, CSR)
    if solver == "cg" and is_wide and not is_warm and not lives_on_device(system.X):
        return [_by_rows, _by_cg]
    return [_ATTEMPTS[solver]]


def _wide_plan(system: System, is_warm: bool) -> list[Callable[[System, Request], Solution]]:
    """Return the solvers that "auto" tries for fewer rows than columns, in order."""
    is_sparse = isinstance(system.X, CSR)
    ways: list[Callable[[System, Request], Solution]] = [_by_dual]
    if system.n > MOST_DUAL_ROWS:
        ways = [_by_gram] if system.alpha > 0.0 and system.d <= FACTOR_FEATURES else [_by_cg]
    elif is_sparse and _dual_passes(system) > PATIENCE:
        ways = [_by_quick_cg, _by_dual]
    if is_sparse and not is_warm and ways != [_by_dual]:
        ways = [_by_rows, *ways]
    return ways


def _by_rows(system: System, request: Request) -> Solution:
    """Solve by conjugate gradients on the rows, unless they need more passes than another way."""
    budget = SLOW_PASSES
    if system.n <= MOST_DUAL_ROWS:
        budget = int(_dual_passes(system))
    elif system.d <= FACTOR_FEATURES:
        budget = int(_gram_passes(system))
    return solve_by_rows(system, tol=request.tol, max_iter=request.max_iter, budget=budget)


def _dual_passes(system: System) -> float:
    """Return the least cost of A A^T for sparse rows and of its factor, in passes of a gradient.

    The product of 2,000 x 20,000 with 900 numbers per row takes 0.8 s, its factor 0.1 s, and 50
    iterations of conjugate gradients 0.15 s.
    """
    stored = max(system.stored, 1)
    factor = DUAL_PASSES * float(system.n) ** 3 / stored
    return factor + SPARSE_DUAL_PASSES * stored / system.d


def _by_dual(system: System, request: Request) -> Solution:
    return solve_dual(system, tol=request.tol, max_iter=request.max_iter)


def _gram_passes(system: System) -> float:
    """Return the cost of a Gram matrix, in passes of the gradients of all targets."""
    if isinstance(system.X, CSR):
        factor = FACTOR_SHARE * float(system.d) ** 3 / max(system.stored, 1)
        passes = sparse_gram_passes(system.X) + factor
        return passes / (1.0 + PASS_PER_TARGET * (system.t - 1))
    return GRAM_PASSES * system.d / (1.0 + PASS_PER_TARGET * (system.t - 1))


def _by_gram(system: System, request: Request) -> Solution:
    """Products in float32 first, where these are quicker and the condition allows them."""
    if system.has_rough_gram:
        most = ROUGH_CONDITION
        if system.alpha > 0.0 or system.t > 1:  # the factor serves no standard errors
            most *= np.sqrt(system.d)
        try:
            return from_gram(system, request, *system.centred_gram(rough=True), most)
        except NotTrustworthy:
            pass
    xx, xy = system.centred_gram()
    try:
        return from_gram(system, request, xx, xy, GRAM_CONDITION)
    except NotTrustworthy:
        if not _may_take_row_space(system):
            raise
    return _by_row_space(system, request, xx, xy)


def from_gram(
    system: System, request: Request, xx: np.ndarray, xy: np.ndarray, most: float
) -> Solution:
    factor = cholesky_factor(xx, system.alpha, _gram_scale(system, xx))
    if factor.condition > most:
        raise NotTrustworthy("the condition's square exceeds what rounding leaves")
    return _refined(system, factor, request, xy)


def _gram_scale(system: System, xx: np.ndarray) -> np.ndarray:
    """Return the reciprocals of the columns' norms, the penalty included, from A^T A."""
    squares = np.diag(xx).astype(np.float64)
    scale = system.columns_scale(squares)
    system.refuse_underflow(squares)
    return np.where(scale > 0.0, 1.0 / np.sqrt(squares + system.alpha + (scale == 0.0)), 0.0)


def _refined(
    system: System, factor: TriangularFactor | RowSpaceFactor, request: Request, xy: np.ndarray
) -> Solution:
    """Return the weights that a factor of A^T A gives, corrected by the residuals."""
    _read_in_float64(system, factor.condition)
    z = factor.whiten(xy.T)
    coef = factor.unwhiten(z)
    start = Iterate(coef, system.intercept_for(coef), relative_gradient=1.0)
    unit = np.sqrt((z * z).sum(axis=1))
    return _descended("gram", system, factor, start, unit, request.goal(), sharp=True)


def _may_take_row_space(system: System) -> bool:
    """Return whether there may be a row space to find, in less time than QR takes."""
    is_tall = system.n >= SKETCH_ROWS * system.d
    return is_tall and system.alpha == 0.0 and not lives_on_device(system.X)


def _by_row_space(system: System, request: Request, xx: np.ndarray, xy: np.ndarray) -> Solution:
    """Solve where columns depend on each other, for the weights of least norm."""
    found = row_space(system, xx, _gram_scale(system, xx))
    refuse_graded(system, found.factor.scale)
    if system.precision == "float32":  # in columns of unlike units, weights were up to 5e-6 off
        system.is_far, system.precision = True, "float64"
    solution = _refined(system, found.factor, request, xy)
    return replace(solution, rank=found.rank, singular=found.singular)


def _read_in_float64(system: System, condition: float) -> None:
    """Have gradients read float32 rows in float64 where their rounding would show in the weights.

    Errors of the gradient are magnified by the condition. With columns of correlation 1 - 1e-10,
    weights of 5,000 x 20 numbers were 0.1 off.
    """
    if _is_coarse(system, condition):
        system.is_far, system.precision = True, "float64"


def _is_coarse(system: System, condition: float) -> bool:
    """Return whether gradients have the rounding of float32, and this condition magnifies it."""
    is_rounded = system.precision == "float32" and not lives_on_device(system.X)
    return is_rounded and condition > max(COARSE_CONDITION, COARSE_PER_ROOT * np.sqrt(system.d))


def _by_sketch(system: System, request: Request) -> Solution:
    system.find_centre()
    sketch = sketch_factor(system, request.seed)
    is_small = system.n <= SKETCH_ROWS * system.d
    if is_small and sketch.factor.condition > GRAM_CONDITION:
        raise NotTrustworthy("QR of so few rows costs no more than its sketch, and rounds less")
    is_ill = sketch.factor.condition > GRADED
    scale = sketch.factor.scale
    if is_ill and max(grade_of(system.row_sizes(scale), 0.0), hidden_grade(system, scale)) > GRADED:
        raise NotTrustworthy("rows differ too much in size")
    _read_in_float64(system, sketch.factor.condition)
    coef = sketch.factor.unwhiten(sketch.start)
    start = Iterate(coef, system.intercept_for(coef), relative_gradient=1.0)
    unit = np.sqrt((sketch.start * sketch.start).sum(axis=1))
    solution = _descended("sketch", system, sketch.factor, start, unit, request.goal(), sharp=False)
    solution.factor = None  # it is good enough for a metric, but not for standard errors
    return solution


def _by_quick_cg(system: System, request: Request) -> Solution:
    """Solve by conjugate gradients, unless they need more passes than a Gram matrix costs."""
    wide = system.n < system.d
    budget = int(_dual_passes(system) if wide else _gram_passes(system))
    solution = _by_cg(system, request, budget)
    if not solution.converged and budget <= request.max_iter:
        raise NotTrustworthy("the first stage promised more than the next ones could hold")
    return solution


def _by_cg(system: System, request: Request, budget: int | None = None) -> Solution:
    system.find_centre()
    factor = DiagonalFactor(_sampled_scale(system))
    grade = grade_of(system.row_sizes(factor.scale), LIGHT_SHARE)
    grade = max(grade, hidden_grade(system, factor.scale))
    if grade > GRADED and _has_factor(system):
        raise NotTrustworthy("rows differ too much in size")
    coef = np.zeros((system.t, system.d)) if request.start is None else request.start
    start = Iterate(coef, system.intercept_for(coef))
    unit = None if request.start is None else _unit_at_zero(system, factor)
    goal = request.goal(budget, grade)
    solution = _descended("cg", system, factor, start, unit, goal, sharp=False)
    if not _is_coarse(system, solution.condition):
        return solution
    _read_in_float64(system, solution.condition)
    start = Iterate(solution.coef, solution.intercept)
    unit = _unit_at_zero(system, factor)
    exact = _descended("cg", system, factor, start, unit, goal, sharp=False)
    return replace(exact, condition=float(np.fmax(exact.condition, solution.condition)))


def _unit_at_zero(system: System, factor: DiagonalFactor) -> np.ndarray:
    """Return the norm (t,) of the whitened gradient at zero weights."""
    zero = np.zeros((system.t, system.d))
    z = factor.whiten(system.gradient(zero, system.intercept_for(zero)).coef)
    return np.sqrt((z * z).sum(axis=1))


def _descended(
    name: str,
    system: System,
    factor: TriangularFactor | DiagonalFactor | RowSpaceFactor,
    start: Iterate,
    unit: np.ndarray | None,
    goal: Goal,
    *,
    sharp: bool,
) -> Solution:
    """Return where `descend` ends, if that is to be trusted."""
    before, grade = system.passes, goal.grade
    end = descend(system, factor, start, unit, goal, sharp=sharp)
    finite = np.isfinite(end.relative_gradient) and np.isfinite(end.coef).all()
    # Beyond GRADED, the rounding of the largest rows hides the others.
    at_floor = end.at_floor and grade <= GRADED
    stuck = end.has_stalled and not (end.converged or at_floor)
    # In the metric of the columns' norms, |z| says little where the condition is large.
    stuck = stuck or (name == "cg" and end.condition > CG_CONDITION)
    if not finite or end.is_slow or (stuck and _has_factor(system)):
        raise NotTrustworthy("the descent does not get there")
    return Solution(
        end.coef,
        end.intercept,
        name,
        system.passes - before,
        end.condition if name == "cg" else factor.condition,
        np.sqrt(end.squares),
        end.losses,
        end.relative_gradient,
        not stuck and (end.converged or (end.has_stalled and at_floor)),
        factor if isinstance(factor, TriangularFactor) else None,
        system.centre,
    )


def _has_factor(system: System) -> bool:
    """Return whether a factor of A^T A or of A A^T would fit in memory."""
    return min(system.n, system.d) <= FACTOR_FEATURES


def is_ruled_by_few_rows(system: System) -> bool:
    """Return whether a few rows are so large that the gradient tells nothing of the others."""
    return grade_of(system.row_sizes(_sampled_scale(system)), LIGHT_SHARE) > GRADED


def _sampled_scale(system: System) -> np.ndarray:
    """Return the reciprocals of the columns' norms, estimated from a sample of the rows.

    They are all equal where the norms differ by chance alone, or where a minimum-norm solution is
    wanted: in the columns' own units, conjugate gradients from zero end at the one of least norm.
    """
    common = np.full(system.d, 1.0 / np.sqrt(system.weight))
    if system.n < system.d and system.alpha == 0.0:
        return common
    share = system.n // 16 if isinstance(system.X, CSR) else NORM_SAMPLE_NUMBERS // system.d
    squares = column_squares(system, max(share, 1))
    _refuse_range(system, squares)
    low, middle, high = np.quantile(squares, [0.01, 0.5, 0.99])
    alike = high <= ALIKE_SQUARES * low and squares.max() <= ALIKE_SQUARES * middle
    if alike and np.all(system.columns_scale(squares) > 0.0):
        return np.full(system.d, 1.0 / np.sqrt(squares.mean() + system.alpha))
    if share < system.n:
        squares = column_squares(system, system.n)
        _refuse_range(system, squares)
    _refuse_vanished(system, squares)
    counts = system.columns_scale(squares) > 0.0
    return np.where(counts, 1.0 / np.sqrt(squares + system.alpha + ~counts), 0.0)


def _refuse_range(system: System, squares: np.ndarray) -> None:
    """Raise NotTrustworthy for squares near the ends of float64's range, or underflowed to 0."""
    values = system.X.data if isinstance(system.X, CSR) else system.X
    if not np.all((squares == 0.0) | ((squares > 1e-240) & (squares < 1e240))):
        raise NotTrustworthy("squares overflow or underflow")
    if not squares.any() and values.any():
        raise NotTrustworthy("squares underflow")


def _refuse_vanished(system: System, squares: np.ndarray) -> None:
    """Raise NotTrustworthy where the square of a column is zero though the column varies."""
    gone = np.flatnonzero(squares == 0.0)
    if len(gone) and isinstance(system.X, CSR):  # a column without a number needs no look at it
        stored = np.asarray(system.X.indices)[np.asarray(system.X.data) != 0.0]
        gone = gone[np.bincount(stored, minlength=system.d)[gone] > 0]
    if len(gone) and system.varies(gone, system.eps):
        raise NotTrustworthy("squares underflow")


def column_squares(system: System, count: int) -> np.ndarray:
    """Return the squared norms of A's columns, from about `count` rows of positive weight.

    The rows are drawn at random, and the sums are scaled up to all rows.
    """
    s, X = system.host_weights, system.X
    rows = random_rows(system.n, count, s)
    weights = np.ones(len(rows)) if s is None else s[rows].astype(np.float64)
    part = float(weights.sum())
    if not part > 0.0:
        raise NotTrustworthy("the sample has no weight")
    total = np.zeros(system.d)
    stored, step = np.zeros(system.d), max(1, _chunk_rows(system))
    for start in range(0, len(rows), step):
        chunk, own = take_rows(X, rows[start : start + step]), weights[start : start + step]
        if isinstance(chunk, CSR):
            where = np.asarray(chunk.indices)
            A = np.asarray(chunk.data).astype(np.float64) - system.centre[where]
            own = np.repeat(own, np.diff(np.asarray(chunk.indptr)))
            total += np.bincount(where, own * A * A, minlength=system.d)
            stored += np.bincount(where, own, minlength=system.d)
        else:
            A = as_dense(chunk) - system.centre
            total += np.einsum("ij,ij,i->j", A, A, own)
    if isinstance(X, CSR):  # the rest of the weight is that of zeros, unless it is rounding
        rest = np.where(part - stored > 1e-12 * part, part - stored, 0.0)
        total += rest * system.centre**2
    return total * (system.weight / part)


def _chunk_rows(system: System) -> int:
    """Return how many rows hold about `DENSE_NUMBERS` numbers, and some times the sums' own."""
    if isinstance(system.X, CSR):
        per_row = max(1, system.stored // system.n)
        return max(DENSE_NUMBERS, 4 * system.d) // per_row
    return DENSE_NUMBERS // system.d


def _hides_in_mean(system: System) -> bool:
    """Return whether a row is so heavy that the rounding of the mean, eps^2, outweighs the others.

    Beside a weight of 1e60, weights about the mean were off by 1e-4, beside 1e100 by 1e16 times
    their size, though the condition of the columns seemed to be 1.
    """
    s = system.host_weights
    if s is None or not system.fit_intercept:
        return False
    least = s.max() / HEAVIEST
    is_beside = bool((s[s > 0.0] < least).any())
    return is_beside and int(np.count_nonzero(s >= least)) <= system.d  # more decide by themselves


def _by_qr(system: System, request: Request) -> Solution:
    if system.n < system.d:
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                return solve_rows_by_qr(system, tol=request.tol, max_iter=request.max_iter)
        except NotTrustworthy:
            pass
    if system.d > FACTOR_FEATURES:
        raise np.linalg.LinAlgError(f"QR of {system.d} columns would not fit in memory")
    system.find_centre()
    found = solve_by_qr(system)
    hides = _hides_in_mean(system)
    if (hides or found.condition > GRADED or found.rank < system.d) and is_graded(system, found):
        graded = solve_graded(system, found)
        found = found if is_rounding(system, graded, found) else graded
        if hides:
            found = replace(found, factor=None, singular=None)
    relative, losses = 0.0, []
    if request.certify:
        with np.errstate(over="ignore", invalid="ignore"):
            relative = found.relative(system.gradient(found.coef, found.intercept).coef)
            penalty = system.alpha * (found.coef * found.coef).sum(axis=1)
            losses = [0.5 * system.total(found.residual_norm**2 + penalty)]
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
