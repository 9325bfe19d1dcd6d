"""Conjugate gradients on (A A^T + alpha I) u = y, for sparse rows that are fewer than the columns.

Without a penalty, the weights are those of least norm that interpolate, where the rows are
independent: 11,000 x 100,000 with 95 numbers per row take 0.2 s, and minutes by the Cholesky factor
of A A^T.

The weights are A^T u, as in wide.py, whose refinement judges them by the residuals of all rows.
Unlike on A^T A, whose vectors are as long as a row of X is wide, all vectors but one have a number
per row of X, so that an iteration costs little more than its two products with the stored numbers:
on 2,000 x 20,000 with 55 numbers per row, 0.15 ms in place of 0.5 (`row_products.py`). The native
backend has the whole iteration as a compiled loop (`row_descent.py`). Rows are scaled to norm 1.
"""

from __future__ import annotations

import numpy as np

from ..kernels.contract import CSR, working_dtype
from ..kernels.optional import RowKernels, has_row_kernels
from .conjugate import (
    CG_CONDITION,
    LOOK_BACK,
    ROUND,
    ROUNDING,
    UNSEEN,
    Inner,
    condition_seen_at_random,
    conjugate_gradients,
    dots,
)
from .factors import NotTrustworthy
from .row_descent import RowGoal, RowMatrix, descend_rows
from .row_products import RowProducts, ScipyProducts, row_products
from .solution import Solution
from .system import CANCELLATION, System
from .wide import SPARSE_NUMBERS, RowMetric, WideRows, refined, refuse_range, wide_rows

# The largest eigenvalue may be so many times the one that the iterations have seen.
LARGEST_SEEN = 4.0
# What a stage leaves to the next one: the bound of its own norm is not that of the answer.
SHARE_OF_GOAL = 0.1
# The share of the budget before which the rate does not count: on 1,000 x 3,000 with alpha = 0.001,
# residuals rise until the 30th of 110 iterations, of a budget of 263.
ROWS_SPENT_SHARE = 0.25
# A stage reduces the residuals to this share at most. Of vectors as short as these, it loses little
# to rounding, and a second stage would begin without the directions of the first.
LEAST_REDUCTION = {"float64": 1e-11, "float32": 5e-10}


def solve_by_rows(system: System, *, tol: float, max_iter: int, budget: int) -> Solution:
    """Solve by conjugate gradients on the rows, which must be independent where alpha is 0.

    Raises
    ------
    NotTrustworthy
        If squares overflow or underflow, a copy of the rows would take much memory, the iteration
        would need many more passes than `budget`, or it does not reach the rounding of residuals;
        for alpha = 0, too, if rows may depend on each other.
    """
    rows = wide_rows(system)
    return refined("cg", rows, _Iterated(rows, budget), tol, max_iter)


class _Iterated(RowMetric):
    """(K + alpha I)^-1 by conjugate gradients, to a part of what is still asked.

    Attributes
    ----------
    squares, scale, condition
        As of `RowMetric`; the condition is what the iterations have seen.
    """

    def __init__(self, rows: WideRows, budget: int) -> None:
        system = rows.system
        X = system.X
        assert isinstance(X, CSR)
        is_view = working_dtype(X) == X.data.dtype == np.float64 and rows.rows is None
        products = rows.sparse_products
        if products is None and not is_view and system.stored > SPARSE_NUMBERS:
            raise NotTrustworthy("a copy of X would take much memory")
        self.rows, self.alpha, self.kernels = rows, system.alpha, system.kernels
        self.budget: int | None = budget
        self.X = rows.sparse_rows(0, rows.n) if products is None else products.X
        self.products = ScipyProducts(self.X) if products is None else products
        squares = self._squares()
        self.squares, self.condition = squares, np.nan
        self.scale = (1.0 / np.sqrt(squares + system.alpha))[:, None]
        self.y, self.u = rows.targets(), np.zeros((rows.n, system.t))
        self.reduction, self.left, self.most = 0.0, 0, 2 * budget
        self.goal, self.rounding = np.nan, ROUNDING[working_dtype(X).name]

    def _squares(self) -> np.ndarray:
        """Return the squares of the rows of A, and find what centres a product."""
        c = self.rows.system.centre
        squares = self.products.squares()
        if self.rows.null is not None:
            raw = squares
            self.along_c = self._products_of(1).dots(c[None])[0]  # X c
            self.shift = self.along_c - c @ c
            squares = raw - (c @ c + 2.0 * self.shift)
            if (raw > CANCELLATION * squares).any():
                raise NotTrustworthy("the mean of the rows outweighs them")
        squares = squares * self.rows.root[:, 0] ** 2
        refuse_range(squares[squares != 0.0] if self.alpha > 0.0 else squares, "float64")
        return squares

    def _products_of(self, count: int) -> RowProducts:
        """Return the products of X for so many vectors."""
        if count == self.rows.system.t:
            return self.products
        return row_products(self.rows.system.kernels, self.X, count)

    @property
    def hidden(self) -> float:
        """By how much a residual may be smaller than what the weights still lack."""
        return max(1.0, self.condition / ROUND)

    def aim(self, share: float, left: int) -> None:
        least = LEAST_REDUCTION[working_dtype(self.rows.system.X).name]
        self.reduction = min(0.1, max(least, SHARE_OF_GOAL * share))
        self.goal = share if np.isnan(self.goal) else self.goal  # the first is that of the fit
        self.left = left

    def solve(self, e: np.ndarray, losses: list[float]) -> np.ndarray:
        allowed = max(1, min(self.left - 1, self.most))
        least = LEAST_REDUCTION[working_dtype(self.rows.system.X).name]
        goal = max(self.goal / self.hidden, self.rounding)
        limits = RowGoal(goal, self.rounding, least, allowed, self.budget, ROWS_SPENT_SHARE)
        total = self.rows.system.total

        def note(objective: np.ndarray) -> None:
            losses.append(0.5 * total(objective))

        kernels = self.kernels
        if isinstance(self.products, ScipyProducts) or not has_row_kernels(kernels):
            found = self._by_products(e, limits, note)
        else:
            found = descend_rows(self._matrix(kernels), e, self.y, self.u, limits, note)
            self.rows.system.passes += found.n_iter
        self.most -= found.n_iter
        if found.is_slow or (self.most <= 0 and allowed < self.left - 1):
            raise NotTrustworthy("conjugate gradients would take too long")
        if self.budget is not None:
            self.budget = None  # the first stage has shown the rate
            self.condition = self._condition(found)
            if not self.condition <= CG_CONDITION:
                raise NotTrustworthy("the residuals say little where the condition is large")
        move = found.v.T * self.scale
        self.u += move
        return move

    def _condition(self, found: Inner) -> float:
        """Return the condition as the iterations have seen it, or a random direction does.

        Raises
        ------
        NotTrustworthy
            If alpha is 0 and the random direction shows no end of small eigenvalues.
        """
        system = self.rows.system
        random, before = np.random.default_rng(0).normal(size=(1, self.rows.n)), system.passes
        if self.alpha > 0.0:
            bound = LARGEST_SEEN * found.largest / (self.alpha * float(self.scale.min()) ** 2)
            if found.n_seen >= LOOK_BACK or bound <= ROUND**2:
                return found.condition
            least = UNSEEN / ROUND**2  # alpha bounds what a smaller component could lack
            seen = condition_seen_at_random(self._product, self._product(random), least, LOOK_BACK)
        else:
            # The random vector has a part in every direction, and what remains of it is less than a
            # typical one: no eigenvalue has gone unseen.
            if self.rows.null is not None:
                null = self.rows.null / self.scale[:, 0]
                random -= (random @ null)[:, None] * (null / (null @ null))
            most, reduction = max(LOOK_BACK, 2 * found.n_iter), UNSEEN / np.sqrt(self.rows.n)
            at_random = conjugate_gradients(self._product, random, reduction, most)
            if at_random.n_iter >= most:
                raise NotTrustworthy("rows may depend on each other")
            seen = at_random.condition
        system.passes = before  # which counts those of the descent
        return float(np.fmax(found.condition, seen))

    def _by_products(self, e: np.ndarray, limits: RowGoal, note) -> Inner:
        """Solve by one call of products per iteration, for backends without the compiled loop."""
        scale, alpha = self.scale[:, 0], self.alpha
        before, y = self.u.T.copy(), self.y.T
        per_scale, scaled_y = before / scale, y * scale
        paid = dots(before, y)

        def told(v: np.ndarray, r: np.ndarray, _gained: np.ndarray) -> None:
            """Tell |e|^2 + alpha u^T (e + y), with e = r / scale = y - K u - alpha u."""
            e = r / scale
            products = dots(per_scale, r) + dots(v, r) + paid + dots(v, scaled_y)
            note(dots(e, e) + alpha * products)

        r = np.ascontiguousarray(e.T) * scale
        return conjugate_gradients(
            self._product, r, self.reduction, limits.max_iter, limits.budget, told, limits.spent
        )

    def _matrix(self, kernels: RowKernels) -> RowMatrix:
        rows = self.rows
        is_centred = rows.null is not None
        return RowMatrix(
            kernels,
            self.X,
            self.alpha,
            np.ascontiguousarray(self.scale[:, 0]),
            np.ascontiguousarray(rows.root[:, 0]) if rows.is_weighted else None,
            rows.null,
            self.along_c if is_centred else None,
            self.shift if is_centred else None,
        )

    def _product(self, p: np.ndarray) -> np.ndarray:
        """Return D (K + alpha I) D p for each row p of (t, n)."""
        rows, scale = self.rows, self.scale[:, 0]
        rows.system.passes += 1
        root = rows.root[:, 0] if rows.is_weighted else None
        u = p * scale
        if root is not None:
            u *= root
        out = self._products_of(len(p)).both(u)
        if rows.null is not None:  # (X - 1 c^T) (X^T u - c 1^T u)
            out -= (u @ self.along_c)[:, None]
            out -= np.outer(u.sum(axis=1), self.shift)
        if root is not None:
            out *= root
        if rows.null is not None:
            out -= np.outer(out @ rows.null, rows.null)
        out += p * (self.alpha * scale)
        out *= scale
        return out
