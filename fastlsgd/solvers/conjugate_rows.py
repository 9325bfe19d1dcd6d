"""Conjugate gradients on (A A^T + alpha I) u = y, for sparse rows that are fewer than the columns.

The weights are A^T u, as in wide.py, whose refinement judges them by the residuals of all rows.
Unlike on A^T A, whose vectors are as long as a row of X is wide, all vectors but one have a number
per row of X, so that an iteration costs little more than its two products with the stored numbers:
on 2,000 x 20,000 with 55 numbers per row, 0.2 ms in place of 0.5. Rows are scaled to norm 1.

The products are SciPy's, which are as quick as the kernels for one thread, and need no copy of the
weights in another layout: on that X, those of 10 targets take 0.9 ms in place of 3.6.
"""

from __future__ import annotations

import numpy as np

from ..kernels.contract import CSR, working_dtype
from .conjugate import (
    CG_CONDITION,
    LOOK_BACK,
    ROUND,
    STAGE_REDUCTION,
    condition_seen_at_random,
    conjugate_gradients,
)
from .factors import NotTrustworthy
from .solution import Solution
from .system import CANCELLATION, System
from .wide import SPARSE_NUMBERS, RowMetric, WideRows, refined, refuse_range, wide_rows

# Targets whose products are computed by one call, for which Ctrl-C has to wait.
TARGETS_AT_A_TIME = 64
# What a stage leaves to the next one: the bound of its own norm is not that of the answer.
SHARE_OF_GOAL = 0.3


def solve_by_rows(system: System, *, tol: float, max_iter: int, budget: int) -> Solution:
    """Solve for alpha > 0 by conjugate gradients on the rows.

    Raises
    ------
    NotTrustworthy
        If squares overflow or underflow, a copy of the rows would take much memory, the iteration
        would need many more passes than `budget`, or it does not reach the rounding of residuals.
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
        if not is_view and system.stored > SPARSE_NUMBERS:
            raise NotTrustworthy("a copy of X would take much memory")
        self.rows, self.alpha = rows, system.alpha
        self.budget: int | None = budget
        self.parts = [(part, A, A.T) for part, A in rows.sparse_chunks()]
        squares = self._squares()
        self.squares, self.condition = squares, np.nan
        self.scale = (1.0 / np.sqrt(squares + system.alpha))[:, None]
        self.y, self.u = rows.targets(), np.zeros((rows.n, system.t))
        self.reduction, self.left, self.most = 0.0, 0, 2 * budget

    def _squares(self) -> np.ndarray:
        """Return the squares of the rows of A."""
        squares, c = np.empty(self.rows.n), self.rows.system.centre
        self.shift = np.empty(self.rows.n)  # X c - |c|^2
        for part, A, _ in self.parts:
            own = A.copy()
            own.data **= 2
            raw = own @ np.ones(len(c))
            squares[part] = raw
            if self.rows.null is not None:
                self.shift[part] = A @ c - c @ c
                squares[part] -= c @ c + 2.0 * self.shift[part]
                if (raw > CANCELLATION * squares[part]).any():
                    raise NotTrustworthy("the mean of the rows outweighs them")
        squares *= self.rows.root[:, 0] ** 2
        refuse_range(squares[squares != 0.0], "float64")
        return squares

    @property
    def hidden(self) -> float:
        """By how much a residual may be smaller than what the weights still lack."""
        return max(1.0, self.condition / ROUND)

    def aim(self, share: float, left: int) -> None:
        least = STAGE_REDUCTION[working_dtype(self.rows.system.X).name]
        self.reduction = min(0.1, max(least, SHARE_OF_GOAL * share))
        self.left = left

    def solve(self, e: np.ndarray, losses: list[float]) -> np.ndarray:
        scale, alpha, total = self.scale[:, 0], self.alpha, self.rows.system.total
        before, y = self.u.T.copy(), self.y.T

        def note(v: np.ndarray, r: np.ndarray, _gained: np.ndarray) -> None:
            left, u = r / scale, before + v * scale  # K u is y - left - alpha u
            losses.append(0.5 * total((left * left + alpha * u * (left + y)).sum(axis=1)))

        allowed = max(1, min(self.left - 1, self.most))
        found = conjugate_gradients(
            self._product,
            np.ascontiguousarray(e.T) * scale,
            self.reduction,
            allowed,
            self.budget,
            note,
        )
        self.most -= found.n_iter
        if found.is_slow or (self.most <= 0 and allowed < self.left - 1):
            raise NotTrustworthy("conjugate gradients would take too long")
        if self.budget is not None:
            self.budget = None  # the first stage has shown the rate
            self.condition = found.condition
            if found.n_seen < LOOK_BACK:
                before_probe = self.rows.system.passes
                seen = condition_seen_at_random(self._product, self.rows.n)
                self.rows.system.passes = before_probe  # which counts those of the descent
                self.condition = float(np.fmax(self.condition, seen))
            if not self.condition <= CG_CONDITION:
                raise NotTrustworthy("the residuals say little where the condition is large")
        move = found.v.T * self.scale
        self.u += move
        return move

    def _product(self, p: np.ndarray) -> np.ndarray:
        """Return D (K + alpha I) D p for each row p of (t, n)."""
        self.rows.system.passes += 1
        out = np.empty_like(p)
        scale = self.scale[:, 0]
        for start in range(0, len(p), TARGETS_AT_A_TIME):
            block = slice(start, start + TARGETS_AT_A_TIME)
            out[block] = self._gram_times(p[block] * scale).T
        out += p * (self.alpha * scale)
        out *= scale
        return out

    def _gram_times(self, u: np.ndarray) -> np.ndarray:
        """Return K u^T, (n, t), for u (t, n) without sample weights."""
        rows = self.rows
        u = u.T * rows.root if rows.is_weighted else u.T
        flat = u.ravel() if u.shape[1] == 1 else np.ascontiguousarray(u)  # quicker for vectors
        z = sum(A_T @ flat[part] for part, _, A_T in self.parts)
        out = np.concatenate([A @ z for _, A, _ in self.parts])
        if rows.null is not None:  # (X - 1 c^T) (X^T u - c 1^T u), without another pass over z
            out -= rows.system.centre @ z
            out -= np.multiply.outer(self.shift, flat.sum(axis=0))
        out = out.reshape(u.shape)
        if rows.is_weighted:
            out *= rows.root
        return rows.without_null(out)
