"""Active sets on a small Gram matrix that coordinate descent has found.

    1/2 w^T H w - c^T w + l1 |w|_1 + l2/2 |w|^2,     w >= 0 where `positive`

Where columns are correlated, by chance if there are more of them than rows, guesses of the active
set from afar cycle. Some epochs of coordinate descent, at k^2 operations each, bring the set close
to that of the solution. Then two or three guesses end at the minimum to rounding, where descent
alone would need hundreds of epochs more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import lapack, solve_triangular

from ..kernels.contract import Kernels
from ..kernels.optional import has_column_kernels
from .factors import EPS, TINY
from .problem import Penalty
from .quadratic import Quadratic, condition_of_factor, scaled_factor

FIRST_EPOCHS = 32  # before the first guess; they double from round to round
ROUNDS = 10
GUESSES = 3  # of the active set, in each round
WALKS_AFTER = 2  # rounds, the set changes by single columns
WALK_WORK = 6e9  # multiply-adds of a walk with a factor per step, about a second
STEPS_PER_WEIGHT = 20  # of a walk with one factor
FEW_STEPS = 16  # more than one per weight, of the walk from one penalty of a path to the next
# Multiply-adds of a call, which takes so long that Ctrl-C must not wait for several.
LONG_CALL = 1e8


@dataclass(frozen=True)
class _Walked:
    """Where a walk is: what kernels change in place, and what belongs to it."""

    w: np.ndarray  # (k,)
    sign: np.ndarray  # (k,)  of the weights in the set, and 0 outside
    R: np.ndarray  # (k, k)  the factor of the set's scaled columns
    members: np.ndarray  # (k,)  the set, in the order of R
    scale: np.ndarray  # (k,)
    size: int
    l2: float


class DescentQuadratic(Quadratic):
    """The quadratic of a working set, with kernels that may have a compiled coordinate descent."""

    def __init__(
        self,
        H: np.ndarray,
        c: np.ndarray,
        kernels: Kernels,
        first_epochs: int = FIRST_EPOCHS,
        *,
        is_path: bool = False,
    ) -> None:
        # Kernels read rows, which are the columns of a symmetric matrix in Fortran's order.
        super().__init__(H if H.strides[1] == H.itemsize else H.T, c)
        self.kernels, self.first_epochs, self.is_path = kernels, first_epochs, is_path
        self.last: _Walked | None = None

    def minimise(self, penalty: Penalty, start: np.ndarray, tol: float) -> tuple[np.ndarray, int]:
        """Minimise as `Quadratic` does; along a path, where few columns change, by a walk first."""
        if penalty.l1 == 0.0:  # signs alone: descent has no thresholds that would hold zeros
            return super().minimise(penalty, start, tol)
        if self.is_path and has_column_kernels(self.kernels):
            few = FEW_STEPS + int(np.count_nonzero(start))
            found, done, steps = self._compiled_walk(penalty, start, tol, few)
            if done:
                return found, steps
            start = found
        w, n_solves, epochs = start.copy(), 0, self.first_epochs
        least = tol * float(self.units(penalty).min(initial=np.inf))
        for k in range(ROUNDS):
            is_at_end = self.descend(penalty, w, least, epochs)
            found, done, more = self._active_sets(penalty, w, tol, GUESSES)
            n_solves += more
            if done and more == 0:  # the set's condition is not known yet
                done = self._solve(penalty, np.sign(found)) is not None
            if not done and (is_at_end or k >= WALKS_AFTER):
                found, done, more = self._walk(penalty, w, tol)
                n_solves += more
            if done:
                return found, n_solves
            if is_at_end:
                self.condition = np.inf
                return w, n_solves
            w, epochs = found.copy(), 2 * epochs
        found, more = super().minimise(penalty, w, tol)
        return found, n_solves + more

    def _walk(self, penalty: Penalty, w: np.ndarray, tol: float) -> tuple[np.ndarray, bool, int]:
        """Go from set to set, by single columns, to the minimum; J falls on the way.

        Returns the weights, whether the end was reached, and the number of steps. Compiled kernels
        update the factor of the set. Here each set has a factor of its own, which for 437 x 1,830
        columns of correlation 0.95 took 20 s.
        """
        if has_column_kernels(self.kernels):
            return self._compiled_walk(penalty, w, tol, STEPS_PER_WEIGHT * len(w) + 100)
        size = max(int(np.count_nonzero(w)), 1)
        most = int(np.clip(WALK_WORK / size**3, 10, 2 * size + 100))
        return self._plain_walk(penalty, w, tol, most)

    def _compiled_walk(
        self, penalty: Penalty, w: np.ndarray, tol: float, most: int
    ) -> tuple[np.ndarray, bool, int]:
        """Walk by one factor, which LAPACK makes where the first set is not singular.

        That of the last walk goes on along the path of a lasso, where each starts at the last end.
        """
        kernels, k, steps, status = self.kernels, len(w), 0, 0
        assert has_column_kernels(kernels)
        last = self.last
        if last is None or last.l2 != penalty.l2 or not np.array_equal(last.w, w):
            last = self._started(penalty, w)
        self.last = None
        state, asked = (last.w, last.sign, last.R, last.members), (penalty.positive, tol)
        units, size = self.units(penalty), last.size
        while status == 0 and steps < most:
            few = int(LONG_CALL / (4.0 * k * (np.count_nonzero(last.w) + 1.0))) + 1
            few = min(few, most - steps)
            more, status, size = kernels.walk_sets(
                self.H, self.c, state, units, last.scale, size, penalty.l1, penalty.l2, *asked, few
            )
            steps += more
        used = last.members[:size]
        self.condition = condition_of_factor(
            self.H, used, penalty.l2, last.scale[used], last.R[:size, :size]
        )
        if status == 1 and np.isfinite(self.condition):
            self.last = replace(last, size=size)
        return last.w.copy(), self.last is not None, steps

    def _started(self, penalty: Penalty, w: np.ndarray) -> _Walked:
        """Return the beginning of a walk: with a factor of all weights, or of none."""
        k, curvature, where = len(w), self.diagonal + penalty.l2, np.flatnonzero(w)
        scale = np.where(self.diagonal > 0.0, 1.0 / np.sqrt(np.maximum(curvature, TINY)), 0.0)
        begun = _Walked(
            w.copy(), np.zeros(k), np.empty((k, k)), np.empty(k, np.int64), scale, 0, penalty.l2
        )
        factor = scaled_factor(self.H, where, penalty.l2) if len(where) else None
        if factor is None:
            return begun
        begun.R[: len(where), : len(where)], begun.members[: len(where)] = factor[0], where
        begun.sign[where] = np.sign(w[where])
        return replace(begun, size=len(where))

    def _plain_walk(
        self, penalty: Penalty, w: np.ndarray, tol: float, most: int
    ) -> tuple[np.ndarray, bool, int]:
        """Walk by a new factor per set.

        A step towards the minimum of a set ends where a weight reaches zero, whose column leaves;
        at the minimum, the column joins that violates optimality most (Lee, Battle, Raina and Ng
        2006, "Efficient sparse coding algorithms", NIPS). Where columns depend on each other,
        weights move along the dependence, which lowers the L1 penalty alone, until one is zero.
        """
        w, signs, units = w.copy(), np.sign(w), self.units(penalty)
        for step in range(most):
            solved = self._solve(penalty, signs)
            if solved is None:
                move = self._dependence(penalty, signs)
                if move is None or not _until_zero(w, signs, move, np.inf):
                    return w, False, step
                continue
            if _until_zero(w, signs, solved - w, 1.0):
                continue
            w = solved
            gradient = self.gradient(w) + penalty.l2 * w
            violation = penalty.violation(w, gradient) / units
            outside = np.where(signs == 0.0, violation, 0.0)
            j = int(np.argmax(outside))
            if outside[j] <= max(tol, violation[signs != 0.0].max(initial=0.0)):
                return w, True, step + 1  # what is left is rounding
            signs[j] = -np.sign(gradient[j])
        return w, False, most

    def _dependence(self, penalty: Penalty, signs: np.ndarray) -> np.ndarray | None:
        """Return a move of weights that changes no product and lowers the L1 penalty.

        It is found by a Cholesky decomposition with pivoting; None if its columns are independent.
        """
        where = np.flatnonzero(signs)
        part = self.H[np.ix_(where, where)] + penalty.l2 * np.eye(len(where))
        scale = 1.0 / np.sqrt(np.maximum(np.diag(part), TINY))
        R, pivots, rank, _ = lapack.dpstrf(part * scale * scale[:, None], tol=EPS * len(where))
        if rank == len(where):
            return None
        first, last = where[pivots[:rank] - 1], where[pivots[rank] - 1]
        move = np.zeros(len(signs))
        move[first] = -solve_triangular(R[:rank, :rank], R[:rank, rank]) * scale[pivots[:rank] - 1]
        move[last] = scale[pivots[rank] - 1]
        return -move if signs @ move > 0.0 else move

    def descend(
        self, penalty: Penalty, w: np.ndarray, tol: float, epochs: int, q: np.ndarray | None = None
    ) -> bool:
        """Visit all weights so many times; return whether a visit changed nothing of size `tol`.

        `q` is the gradient at w, where it is known; both are changed in place.
        """
        q = self.gradient(w) if q is None else q
        kernels, visit = self.kernels, coordinate_descent
        if has_column_kernels(kernels):
            visit = kernels.coordinate_descent
        asked = penalty.l1, penalty.l2, penalty.positive, tol
        return in_short_calls(
            lambda most: visit(self.H, w, q, *asked, most), float(len(w)) ** 2, epochs
        )


def in_short_calls(call: Callable[[int], int], work: float, epochs: int) -> bool:
    """Make so many epochs of so many multiply-adds, by calls between which Ctrl-C is heeded.

    `call` makes at most as many epochs as it is given, and returns how many. Returns whether one
    has ended before.
    """
    each = max(1, int(LONG_CALL / max(work, 1.0)))
    while epochs > 0:
        most = min(each, epochs)
        if call(most) < most:
            return True
        epochs -= most
    return False


def _until_zero(w: np.ndarray, signs: np.ndarray, move: np.ndarray, most: float) -> bool:
    """Move the weights, in place, until the first reach zero; False if none does within `most`.

    Those leave the set. Where none does, nothing is changed.
    """
    falls = np.flatnonzero(move * signs < 0.0)
    shares = np.abs(w[falls] / move[falls])
    share = float(shares.min(initial=np.inf))
    if not share < most:
        return False
    w += share * move
    out = falls[shares <= share]
    w[out] = signs[out] = 0.0
    return True


def coordinate_descent(H, w, q, l1, l2, positive, tol, n_epochs) -> int:
    """Return the number of epochs, in NumPy: what compiled kernels do, with their arguments.

    w (k,) and q = H w - c are changed in place. Each step minimises over one weight; an epoch in
    which no step changes its own gradient by more than `tol` is the last.
    """
    diagonal = np.diag(H)
    counts = np.flatnonzero(diagonal > 0.0).tolist()
    for epoch in range(1, n_epochs + 1):
        largest = 0.0
        for j in counts:
            u = w[j] * diagonal[j] - q[j]
            size = abs(u) - l1
            new = 0.0
            if size > 0.0 and not (positive and u < 0.0):
                new = np.copysign(size / (diagonal[j] + l2), u)
            step = new - w[j]
            if step == 0.0:
                continue
            w[j] = new
            q += step * H[j]
            largest = max(largest, abs(step) * (diagonal[j] + l2))
        if largest <= tol:
            return epoch
    return n_epochs
