"""L1 penalties on many columns: active sets on the Gram matrix of those columns that matter.

    J(w) = 1/(2 S) |A w - y|^2 + l1 |w|_1 + l2/2 |w|^2,     w >= 0 where `positive`

Most weights of a solution are zero, so that H = A^T A / S is needed only for a working set of
columns. J is minimised over their weights by the active sets of `proximal_newton.py`; then one pass
over X gives the gradient of all columns, and those that violate optimality most join the set. It
doubles at most, and ends after a few passes (Massias, Gramfort and Salmon 2018, "Celer", ICML;
Bertrand et al. 2022, "Beyond L1", NeurIPS). Along a path, the columns that the sequential strong
rule keeps join at once (Tibshirani et al. 2012, JRSS B 74(2)), so that an alpha takes about one
pass. The gradient of the data replaces that of H, whose rounding is thereby corrected.

As long as the set grows, its weights are found roughly, by coordinate descent: on H, or where there
are about as many columns as rows, on float32 copies of them, so that H is made once, in the end.
1,000 x 4,000 float64 numbers at 0.02 of the largest penalty (lasso: 843 weights) took 270 ms with H
alone, and take 140.

Cost: a pass over X per round, and n k^2 + k^3 operations for sets of k columns. Memory: k^2
numbers, and a block of rows of these columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..kernels.blocks import takes
from ..kernels.contract import CSR
from ..kernels.device import lives_on_device
from ..kernels.optional import has_column_kernels
from .coordinate_descent import DescentQuadratic, in_short_calls
from .factors import EPS, NotTrustworthy
from .least_squares import GRAM_CONDITION, column_squares
from .problem import Penalty
from .proximal_newton import (
    GRAM_FEATURES,
    Optimality,
    hidden_columns,
    is_cheap,
    is_ill_conditioned,
    judged,
    objective_of,
    optimality_of,
    refuse_target_range,
    solve_all,
)
from .rows import as_dense, as_scipy, random_rows, row_slice, stored_numbers, take_rows
from .solution import Solution
from .system import CANCELLATION, DENSE_NUMBERS, System
from .threaded_products import product

# Sets of fewer columns than this save nothing.
LEAST_COLUMNS = 32
SAMPLED_ROWS = 16  # in these, most columns that are not constant vary
# With this many times as many rows as columns, all columns that violate optimality join at once.
TALL = 4
INNER_TOL = 1e-12
# Of 3,000 x 1,000 independent numbers, sums of all columns took 76 to 100 ms. Sets took 8 where 69
# columns have weights, and where 637 have, 59 in float32 and 98 in float64.
DENSE_SHARE, MANY_COLUMNS = 0.5, 768
# In multiply-adds: what a round costs whatever the shape, and a number of X in a pass.
ROUND_COST, READ_COST = 2e6, 5.0
FEWEST_NEW = 32
ALL = slice(None)
# A rough solution violates optimality by this share of what the set's did before, or ends here.
ROUGH, ROUGH_EPOCHS = 0.03, 200
# The last of them goes on, to this share, where it is still far from optimal or the exact one costs
# more: a guess of 930 weights takes as long as 100 epochs. Columns whose slope is nearly l1 stay:
# to this share of l1, or so many times what others violate optimality by.
CLOSE, CLOSE_EPOCHS, CLOSE_ROUNDS, CLOSE_COST = 1e-3, 100, 3, 24.0
NEAR_L1, NEAR_OFF = 0.02, 4.0
# Visits of a set before its first guess, which is near: 32 took as long as half of a guess.
FEW_EPOCHS = 8
# Corrections by descent, the share of a violation that each leaves, its epochs, and what it has to
# reach. Slower ones cost more than a factor.
CORRECTIONS, CORRECTED, CORRECTION_EPOCHS, CORRECTED_AT_LEAST = 8, 1e-4, 64, 0.1
NEAR_EXACT = 0.1  # the share of the tolerance at which they end, where rounding lets them
# More epochs of the rough descent before show that they would be slow: independent columns took
# 13 to 30, and neighbours that correlate by 0.95 took 69. With at most 24, and as many in each
# correction, elastic nets of 1,000 x 4,000 and 2,000 x 3,000 float32 numbers at 0.02 of the largest
# penalty, took 100 and 130 ms, since they ended by a factor; they take 60 and 90. With 48 and 96,
# neighbours that correlate by 0.97 took 109 ms in place of 93.
MOST_ROUGH_EPOCHS = 32
# When no larger share of the set is new, the next solution is exact.
ALMOST = 0.005
# Descent reads float32 columns in place of their products from so many members per row on.
COLUMNS_PER_ROW = 0.33
# Columns of A are kept in this space, as long as it is enough for all members.
KEPT_BYTES = 2**25
# Stored numbers of sparse rows in one call, and multiply-adds.
PART_NUMBERS, PART_WORK = 2**21, 2e8
# Products of float32 columns of these sizes are float32, unless the condition number is larger.
QUICK_RANGE, QUICK_CONDITION = (1e-12, 1e12), 300.0
# Descent on float32 columns is for targets between these: weights for 1e-100 were zero beside them,
# and 500 x 1,000 took 7 s in place of 9 ms.
QUICK_TARGETS = (1e-24, 1e24)
# The rounding of means up to so many spreads from zero is as small as that of the numbers.
NEAR = 4.0
# Where the triangle of the rows is cheap, it is more accurate from this condition number on.
SET_SUMS_CONDITION = 300.0
# Penalties on the way to a small one: how they shrink, down to which share of the largest, and how
# exact their solutions are.
TENTH, LEAST_STAGE, STAGE_TOL = 0.1, 1e-5, 1e-4
# A violation outside of the set that exceeds the set's own so many times is not rounding.
BEYOND_ROUNDING = 10.0


def fit_working_sets(
    system: System,
    penalties: list[Penalty],
    start: np.ndarray | None,
    *,
    tol: float,
    max_iter: int,
) -> tuple[list[Solution], np.ndarray]:
    """Return the solutions for these penalties, each started from the one before.

    Every penalty must have an L1 part. The list ends before the first penalty whose solution needs
    another method: sets of too many columns, or too ill-conditioned, or sums out of range. The
    second value has the weights (t, d) from which that method should start.
    """
    coef = np.zeros((system.t, system.d)) if start is None else start.astype(np.float64)
    points: list[Solution] = []
    with np.errstate(over="ignore", invalid="ignore"):
        try:
            path = _Path(system, coef)
        except NotTrustworthy:
            return points, coef
        try:
            if path.is_dear(penalties[0]):
                return points, coef
            path.approach(penalties[0], max_iter)
            for penalty in penalties:
                points.append(path.solution(penalty, tol, max_iter, len(penalties) > 1))
        except NotTrustworthy:
            pass
    return points, path.coef if np.isfinite(path.coef).all() else coef


class _Path:
    """Weights, their gradient, and H for the columns that have joined so far.

    Attributes
    ----------
    members : ndarray of shape (k,)
        Those columns. `H` (m, m) has the products of the first m <= k.
    is_rough : bool
        Whether descent finds the weights of the members, and not solutions of their sets.
    c : ndarray of shape (t, d)
        Minus the gradient at zero.
    size : ndarray of shape (d,)
        Root mean square of each column of A: exact where H has it, else from a sample of the rows.
    scale : ndarray of shape (d,)
        0 for columns that vary only by rounding, and 1 for the others.
    """

    def __init__(self, system: System, coef: np.ndarray) -> None:
        if lives_on_device(system.X):
            raise NotTrustworthy("X is not where BLAS is")
        self.system = system
        refuse_target_range(system)
        low, high = QUICK_TARGETS
        self.has_quick_targets = low < system.largest_target() < high
        system.find_centre()
        if not np.isfinite(system.centre).all():
            raise NotTrustworthy("means overflow")
        self.size, self.scale = self._columns()
        self.is_rough, self.n_epochs = True, 0
        self._start_over(self._quick_dtype())
        self.variance = system.target_squares() / system.weight
        self.c = -self._gradient(np.zeros_like(coef))
        self.coef, self.gradient = coef, -self.c
        if coef.any():
            self.gradient = self._gradient(coef)
        self.last_l1: float | None = None

    # ------------------------------------------------------------------------------- columns

    def _columns(self) -> tuple[np.ndarray, np.ndarray]:
        """Return `size` and `scale`; columns that hardly vary in a sample are read whole."""
        system = self.system
        if isinstance(system.X, CSR):
            squares = column_squares(system, system.n)
            doubtful = np.arange(system.d)
        else:
            rows = random_rows(system.n, SAMPLED_ROWS, system.host_weights)
            apart = as_dense(take_rows(system.X, rows)) - system.centre
            squares = np.einsum("ij,ij->j", apart, apart) * (system.weight / len(rows))
            low = 1e-12 if system.eps > 1e-10 else 1e-100
            far = 2.0**20 * system.eps * np.abs(system.centre)
            doubtful = np.flatnonzero(np.sqrt(squares / system.weight) <= np.maximum(far, low))
            if len(doubtful):
                squares[doubtful] = system.squares_of(doubtful)
        scale = np.ones(system.d)
        if len(doubtful):
            known = np.full(system.d, np.inf)
            known[doubtful] = squares[doubtful]
            system.refuse_underflow(known)
            known[~np.isfinite(known)] = 1e300
            scale[doubtful] = np.where(system.columns_scale(known)[doubtful] > 0.0, 1.0, 0.0)
        return np.sqrt(squares / system.weight) * scale, scale

    def _quick_dtype(self) -> str:
        """Return the dtype of products that are quick: H is corrected by the data's gradient."""
        low, high = QUICK_RANGE
        seen = self.size[self.scale > 0.0]
        is_plain = self.system.host_weights is None and not isinstance(self.system.X, CSR)
        is_plain = is_plain and (self._is_float32 or has_column_kernels(self.system.kernels))
        return "float32" if is_plain and bool(((seen > low) & (seen < high)).all()) else "float64"

    @property
    def _is_float32(self) -> bool:
        return bool(self.system.eps > EPS)

    def _start_over(self, dtype: str) -> None:
        """Begin with no members, and products in this dtype."""
        system = self.system
        self.dtype = np.dtype(dtype)
        most = 0
        if not isinstance(system.X, CSR):
            most = min(KEPT_BYTES // (system.n * self.dtype.itemsize), system.d)
        self.kept, self.n_kept = np.empty((most, system.n), self.dtype), 0
        self.members = np.zeros(0, dtype=int)
        self.is_member = np.zeros(system.d, dtype=bool)
        self._space = np.zeros((0, 0))
        self.H = self._space  # the corner of the space that is in use

    def _join(self, columns: np.ndarray) -> int:
        """Take these columns into the set, and return how many of them are new.

        Raises
        ------
        NotTrustworthy
            If the set has too many columns, or their squares leave the range of float64.
        """
        new = np.sort(columns[(self.scale[columns] > 0.0) & ~self.is_member[columns]])
        if len(new) == 0:
            return 0
        k, members = len(self.members), np.append(self.members, new)
        if len(members) > GRAM_FEATURES:
            raise NotTrustworthy("the working set has too many columns")
        self.members, self.is_member[new] = members, True
        if k == self.n_kept and len(members) <= len(self.kept):
            self.kept[k : len(members)] = self._rows(slice(0, self.system.n), new).T
            self.n_kept = len(members)
        if not self._descends_on_columns:
            self._find_products()
        return len(new)

    @property
    def _descends_on_columns(self) -> bool:
        """Return whether descent reads the members' columns, so that their products can wait.

        An epoch reads n numbers of each member, or k of its products, which cost n k before. With
        1,000 rows and 1,150 members it takes 0.15 ms on float32 columns and 0.34 on products.
        """
        are_many = len(self.members) > COLUMNS_PER_ROW * self.system.n
        return are_many and self._may_descend_on_columns

    @property
    def _may_descend_on_columns(self) -> bool:
        is_kept = self.n_kept == len(self.members) and self.dtype == np.float32
        compiled = has_column_kernels(self.system.kernels)
        is_quick = compiled and self.has_quick_targets
        return self.is_rough and is_kept and is_quick and len(self.kept) > 0

    def _find_products(self) -> None:
        """Complete H, for all members."""
        k, members = len(self.H), self.members
        if k == len(members):
            return
        products = self._products(members, k)
        self._enlarge(len(members))
        self.H = self._space[: len(members), : len(members)]
        np.multiply(products, 1.0 / self.system.weight, out=self.H[:, k:], dtype=np.float64)
        squares = np.diagonal(self.H)[k:]  # no other product is larger than two of these
        if not np.isfinite(squares).all():
            raise NotTrustworthy("the Gram matrix overflows")
        if (squares * self.system.weight < self.system.underflow).any():
            raise NotTrustworthy("squares underflow")
        self.H[k:, :k] = self.H[:k, k:].T
        self.size[members[k:]] = np.sqrt(squares)

    def _enlarge(self, k: int) -> None:
        """Make space for H of k columns, and for half as many again while the set grows."""
        if k > len(self._space):
            space = np.empty((k + (k // 2 if self.is_rough else FEWEST_NEW),) * 2)
            space[: len(self.H), : len(self.H)] = self.H
            self._space = space

    def _products(self, members: np.ndarray, k: int) -> np.ndarray:
        """Return A^T A of all members with those from the k-th on, in float32 or float64."""
        system = self.system
        if isinstance(system.X, CSR):
            return self._sparse_products(system.X, members, k)
        if self.n_kept == len(members):
            kept = self.kept[: self.n_kept]
            return product(kept, kept[k:].T, system.n_threads)
        out = np.zeros((len(members), len(members) - k))
        step = max(1, DENSE_NUMBERS // len(members))
        for start in range(0, system.n, step):
            A = self._rows(slice(start, start + step), members)
            out += product(A.T, A[:, k:], system.n_threads)
        return out

    def _rows(self, rows: slice, columns: np.ndarray) -> np.ndarray:
        """Return these rows and columns of A, in the dtype of products."""
        A, centre = np.take(self.system.X[rows], columns, axis=1), self.system.centre[columns]
        is_near = (np.abs(centre) <= NEAR * self.size[columns]).all()
        if A.dtype == self.dtype == np.float32 and is_near:
            A -= centre.astype(np.float32)
            return A
        A = A.astype(np.float64, copy=False)
        A -= centre
        s = self.system.host_weights
        if s is not None:
            A *= np.sqrt(s[rows].astype(np.float64))[:, None]
        return A.astype(self.dtype, copy=False)

    def _sparse_products(self, X: CSR, members: np.ndarray, k: int) -> np.ndarray:
        system, out = self.system, np.zeros((len(members) - k, len(members)))
        place = np.full(system.d, -1, dtype=np.int64)
        place[members] = np.arange(len(members))
        products, kernels = column_products, system.kernels
        if has_column_kernels(kernels) and takes(X):
            products = kernels.column_products
        for start, stop in _parts(X):
            s = system.host_weights
            s = None if s is None else s[start:stop].astype(np.float64)
            rows = row_slice(X, start, stop)
            assert isinstance(rows, CSR)
            out += products(rows, s, place, len(members), k)
        centre = system.centre[members]
        raw = np.diagonal(out, k).copy()
        out -= np.outer(system.weight * centre[k:], centre)
        if (raw > CANCELLATION * np.diagonal(out, k)).any():
            raise NotTrustworthy("the means of columns outweigh them")
        return out.T

    # ------------------------------------------------------------------------------- solutions

    def _gradient(self, coef: np.ndarray) -> np.ndarray:
        found = self.system.gradient(coef, self.system.intercept_for(coef))
        return self._checked(found.coef)

    def _checked(self, slope: np.ndarray) -> np.ndarray:
        if not np.isfinite(slope).all():
            raise NotTrustworthy("squares overflow")
        return slope / self.system.weight * self.scale

    def solution(self, penalty: Penalty, tol: float, max_iter: int, is_path: bool) -> Solution:
        """Return the certified solution for this penalty, found from that of the one before.

        As long as columns join, their weights are found roughly, by coordinate descent.

        Raises
        ------
        NotTrustworthy
            If it needs another method.
        """
        self.is_rough = True
        self._begin(penalty)
        losses: list[float] = []
        guesses, least, condition = 0, np.inf, np.nan
        while True:
            if self.is_rough:
                self._descend(penalty)
            else:
                more, condition = self._minimise(penalty, min(tol, INNER_TOL))
                guesses += more
            squares, shift = self._pass(self.is_rough)
            losses.append(objective_of(self.system.weight, penalty, self.coef, squares))
            falls = True
            if not self.is_rough:
                point, optimality = self._certified(penalty, tol, squares, shift)
                if optimality.holds and not self._is_exceeded(penalty, optimality):
                    break
                falls = point.relative_gradient <= 0.5 * least
                least = min(least, point.relative_gradient)
            if len(losses) >= max_iter:
                raise NotTrustworthy("the sets take too many passes")
            n_new = self._grow(penalty)
            stalls = n_new == 0 and not falls
            if self.dtype == np.float32 and (stalls or condition > QUICK_CONDITION):
                members = self.members
                self._start_over("float64")
                self._join(members)
                least = np.inf
            elif stalls:
                raise NotTrustworthy("rounding stalls the corrections")
            if self.is_rough and n_new <= ALMOST * len(self.members):
                corrected = self._corrected(penalty, tol, max_iter, losses)
                if corrected is not None:
                    point, condition = corrected, corrected.condition
                    break
                self._end_descent(penalty)
        if not self.is_rough and (
            condition > self._most_condition or self._hides_more(penalty, optimality)
        ):
            raise NotTrustworthy("the columns are too ill-conditioned")
        self.last_l1, point.condition = penalty.l1, condition
        point.losses = losses[-1:] if is_path else losses
        point.n_iter = guesses if is_path else len(losses)
        return point

    @property
    def _most_condition(self) -> float:
        return SET_SUMS_CONDITION if is_cheap(self.system) else GRAM_CONDITION

    def _corrected(
        self, penalty: Penalty, tol: float, max_iter: int, losses: list[float]
    ) -> Solution | None:
        """Return the solution by descent on columns and the gradients of the data, or None.

        Each descent starts from the gradient, so that its float32 products are those of a
        correction. That is quicker than H and its factor where it converges at once; that the
        columns are well-conditioned is known from an L2 penalty, without a factor.
        """
        is_slow = self.n_epochs > MOST_ROUGH_EPOCHS * self.system.t
        if not self._descends_on_columns or is_slow or penalty.l2 == 0.0:
            return None
        needed = self._needed(penalty)
        if len(needed) > COLUMNS_PER_ROW * self.system.n:  # or descent would need their products
            self._retain(needed)
        A = self.kept[: self.n_kept]
        self.size[self.members] = np.sqrt(np.einsum("ij,ij->i", A, A) / self.system.weight)
        largest = float(self.size[self.members].max()) ** 2 + penalty.l2
        condition = float(np.sqrt(len(self.members) * largest / penalty.l2))
        if not condition <= self._most_condition:
            return None
        least = float(self._violation(penalty).max(initial=0.0))
        for _ in range(CORRECTIONS):
            if not self._descends_on_columns or len(losses) >= max_iter:
                return None
            self._descend(penalty, CORRECTED, CORRECTION_EPOCHS)
            squares, shift = self._pass(is_rough=False)
            losses.append(objective_of(self.system.weight, penalty, self.coef, squares))
            point, optimality = self._certified(penalty, tol, squares, shift)
            left = float(self._violation(penalty).max(initial=0.0))
            falls = left <= CORRECTED_AT_LEAST * least
            is_rounding = optimality.holds and not self._is_exceeded(penalty, optimality)
            is_rounding = is_rounding and optimality.relative <= self.system.eps
            is_exact = optimality.is_tight and (
                optimality.relative <= NEAR_EXACT * tol or not falls
            )
            if is_exact or is_rounding:
                point.condition = condition
                return point
            if not falls:
                return None
            least = left
            self._grow(penalty)
        return None

    def is_dear(self, penalty: Penalty) -> bool:
        """Return whether sums of all columns, if there is space for them, are the quicker way.

        That is where most columns violate optimality at zero weights, as far as there are more
        rows than columns; products of float32 columns are cheap if there are many.
        """
        system = self.system
        if system.n < system.d or isinstance(system.X, CSR) or system.d > GRAM_FEATURES:
            return False
        if self._is_float32 and system.d >= MANY_COLUMNS:
            return False
        c = (self.c if penalty.positive else np.abs(self.c)).max(axis=0)
        return np.count_nonzero(c > penalty.l1) > DENSE_SHARE * system.d

    def approach(self, penalty: Penalty, max_iter: int) -> None:
        """Go from zero weights towards a small penalty by larger ones, a tenth at a time.

        Of fewer rows than columns, descent for a small penalty gives weights to far more columns
        than there are rows, each of which then leaves by a step of its own. For 20 x 4,000 and a
        millionth of the largest alpha, that took 320 steps and 150 ms; so it takes 22.
        """
        steepest = float(np.abs(self.c).max(initial=0.0))
        level, coef = TENTH * steepest, self.coef
        if coef.any() or self.system.n >= self.system.d:
            return
        while level > max(penalty.l1 / TENTH, LEAST_STAGE * steepest):
            try:
                self.solution(replace(penalty, l1=level), STAGE_TOL, max_iter, False)
            except NotTrustworthy:  # maybe while columns joined, whose products are then missing
                self._start_over(self._quick_dtype())
                self.coef, self.gradient, self.last_l1 = np.zeros_like(coef), -self.c, None
                return
            level *= TENTH

    def _is_exceeded(self, penalty: Penalty, optimality: Optimality) -> bool:
        """Return whether a column outside of the set violates optimality by more than rounding."""
        if optimality.is_tight:
            return False
        violation = self._violation(penalty)
        inside = float(violation[self.members].max(initial=0.0))
        return float(violation[~self.is_member].max(initial=0.0)) > BEYOND_ROUNDING * inside

    def _begin(self, penalty: Penalty) -> None:
        """Let the columns join that are likely to have weights."""
        self._join(np.flatnonzero(self.coef.any(axis=0)))
        if self.last_l1 is None:
            self._grow(penalty)
            return
        slope = self._slope(penalty)
        kept = np.flatnonzero(slope >= 2.0 * penalty.l1 - self.last_l1)
        most = self._most_new()
        self._join(kept[np.argsort(-slope[kept], kind="stable")[:most]])

    def _slope(self, penalty: Penalty) -> np.ndarray:
        """Return how fast the loss falls along each column, (d,), for its steepest target."""
        slope = -(self.gradient + penalty.l2 * self.coef)
        return (slope if penalty.positive else np.abs(slope)).max(axis=0)

    def _most_new(self) -> int:
        """Return how many columns may join at once: as many as cost about as much as a pass.

        Where descent may read columns, so many may join that it does.
        """
        system, active = self.system, int(np.count_nonzero(self.coef.any(axis=0)))
        if system.n >= TALL * system.d:
            return system.d
        k, work = len(self.members), (ROUND_COST + READ_COST * system.stored) / system.n
        affordable = 0.5 * (np.sqrt(k * k + 4.0 * work) - k)  # m with m (k + m) = work
        on_columns = 1.0 + COLUMNS_PER_ROW * system.n if self._may_descend_on_columns else 0.0
        return int(max(affordable, on_columns, active // 2, FEWEST_NEW))

    def _grow(self, penalty: Penalty) -> int:
        """Let the columns join that violate optimality most; return how many there are."""
        violation = np.where(self.is_member, 0.0, self._violation(penalty))
        order = np.argsort(-violation, kind="stable")[: self._most_new()]
        return self._join(order[violation[order] > 0.0])

    def _violation(self, penalty: Penalty, columns: slice | np.ndarray = ALL) -> np.ndarray:
        """Return how far each of these columns is from optimality, for its worst target."""
        w, gradient = self.coef[:, columns], self.gradient[:, columns]
        return penalty.violation(w, gradient + penalty.l2 * w).max(axis=0)

    def _quadratics(self) -> tuple[list[DescentQuadratic], np.ndarray]:
        """Return the problems of the targets on the members, and the weights there."""
        w = self.coef[:, self.members]
        c = w @ self.H - self.gradient[:, self.members]
        kernels = self.system.kernels
        return [DescentQuadratic(self.H, row, kernels, FEW_EPOCHS) for row in c], w

    def _descend(self, penalty: Penalty, share: float = ROUGH, epochs: int = ROUGH_EPOCHS) -> None:
        """Move the weights of the members towards their minimum."""
        tol = share * float(self._violation(penalty, self.members).max(initial=0.0))
        self.n_epochs = 0
        w = np.ascontiguousarray(self.coef[:, self.members])
        for t, row in enumerate(w):
            if self._descends_on_columns:
                self._descend_on_columns(penalty, t, row, tol, epochs)
                continue
            q = self.gradient[t, self.members]
            problem = DescentQuadratic(self.H, self.c[t, self.members], self.system.kernels)
            problem.descend(penalty, row, tol, epochs, q)
        self._set_weights(w)

    def _descend_on_columns(self, penalty: Penalty, t: int, w, tol: float, epochs: int) -> None:
        """Move the weights w of the members for target t, in place, in float32 products.

        Their changes have float32's digits, since the gradient at w is known, and r begins at zero.
        """
        system, A, kernels = self.system, self.kept[: self.n_kept], self.system.kernels
        assert has_column_kernels(kernels)
        offset, r = self.gradient[t, self.members], np.zeros(system.n, np.float32)
        asked = penalty.l1, penalty.l2, penalty.positive, tol

        def visit(most: int) -> int:
            done = kernels.column_descent(A, offset, w, r, system.weight, *asked, most)
            self.n_epochs += done
            return done

        in_short_calls(visit, 2.0 * A.size, epochs)

    def _end_descent(self, penalty: Penalty) -> None:
        """Prepare for exact solutions: complete H, of members that have weights or should have."""
        size = np.count_nonzero(self.coef.any(axis=0))
        is_dear = float(size) ** 3 > CLOSE_COST * self.system.stored
        is_far = self._violation(penalty, self.members).max(initial=0.0) > ROUGH * penalty.l1
        is_closer = (is_dear or is_far) and self._descends_on_columns
        for _ in range(CLOSE_ROUNDS if is_closer else 0):
            self._descend(penalty, CLOSE, CLOSE_EPOCHS)
            self._pass(is_rough=False)
            if self._grow(penalty) == 0 or not self._descends_on_columns:
                break
        self.is_rough = False
        needed = self._needed(penalty)
        if self.dtype == np.float32 and not self._is_float32:
            columns = self.members[needed]
            self._start_over("float64")
            self._join(columns)
        elif len(self.H) < len(self.members):
            self._retain(needed)
            self._find_products()

    def _needed(self, penalty: Penalty) -> np.ndarray:
        """Return which members have weights, or slopes so near l1 that they may get some."""
        has_weight = self.coef[:, self.members].any(axis=0)
        off = float(self._violation(penalty, self.members).max(initial=0.0))
        least = penalty.l1 - max(NEAR_L1 * penalty.l1, NEAR_OFF * off)
        return np.flatnonzero(has_weight | (self._slope(penalty)[self.members] >= least))

    def _retain(self, which: np.ndarray) -> None:
        """Leave out all members but these, by their places in order."""
        known = which[which < len(self.H)]
        k, H = len(known), self.H[np.ix_(known, known)]
        self._space[:k, :k] = H
        self.H = self._space[:k, :k]
        self.kept[: len(which)] = self.kept[which]
        self.members, self.n_kept = self.members[which], len(which)
        self.is_member[:] = False
        self.is_member[self.members] = True

    def _minimise(self, penalty: Penalty, tol: float) -> tuple[int, float]:
        """Minimise over the weights of the members; return the number of guesses and condition."""
        problems, w = self._quadratics()
        found, guesses, condition = solve_all(problems, penalty, w, tol)
        self._set_weights(found)
        return guesses, condition

    def _set_weights(self, weights: np.ndarray) -> None:
        self.coef = np.zeros_like(self.coef)
        self.coef[:, self.members] = weights

    def _pass(self, is_rough: bool) -> tuple[np.ndarray, np.ndarray]:
        """Find the gradient by a pass over X; return mean squares and means of the residuals."""
        system = self.system
        found = system.gradient(self.coef, system.intercept_for(self.coef), is_rough)
        self.gradient = self._checked(found.coef)
        return np.maximum(found.squares / system.weight - found.intercept**2, 0.0), found.intercept

    def _certified(self, penalty: Penalty, tol, squares, shift) -> tuple[Solution, Optimality]:
        """Return the solution as it stands after a pass, and whether it is optimal."""
        point = judged(self.system, penalty, self.coef, self.gradient, squares, self.c)
        point.intercept = point.intercept - shift
        return point, optimality_of(self, penalty, point, self.gradient, squares, tol)

    def _hides_more(self, penalty: Penalty, optimality: Optimality) -> bool:
        """Return whether rounding can hide columns that would still lower J."""
        if optimality.is_tight or optimality.has_no_residual:
            return False
        near = hidden_columns(penalty, optimality, self.c, self.coef, self.gradient)
        if near is None:
            return False  # the set's own condition is known
        self._join(near)
        is_near = np.zeros(self.system.d, dtype=bool)
        is_near[near] = True
        which = np.flatnonzero(is_near[self.members])
        return is_ill_conditioned(self.H[np.ix_(which, which)], penalty)


def _parts(X: CSR) -> Iterator[tuple[int, int]]:
    """Yield ranges of rows, with products for which Ctrl-C may wait."""
    n, per_row = X.shape[0], max(stored_numbers(X) / X.shape[0], 1.0)
    step = max(1, int(min(PART_NUMBERS / per_row, PART_WORK / per_row**2)))
    for start in range(0, n, step):
        yield start, min(start + step, n)


def column_products(X: CSR, s: np.ndarray | None, place: np.ndarray, k: int, first: int):
    """Return sum_i s_i x_ib x_ia for columns of places a < k and first <= b < k, in SciPy.

    It is what compiled kernels do, with their arguments: `place` (d,) is -1 for other columns.
    """
    columns = np.zeros(k, dtype=int)
    columns[place[place >= 0]] = np.flatnonzero(place >= 0)
    A = as_scipy(X)[:, columns]
    right = A[:, first:]
    if s is not None:
        right = right.multiply(s[:, None]).tocsr()
    return (right.T @ A).toarray()
