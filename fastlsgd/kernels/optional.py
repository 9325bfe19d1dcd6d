"""Kernels that a backend may have beside those of the contract, which solvers ask for by family.

A backend has all functions of a family or none. `native` has every family; elsewhere solvers take
another way, in NumPy, SciPy or LAPACK. Each protocol below has a function that tells whether
a backend has it, and by which type checkers know the signatures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeGuard

import numpy as np

from .contract import CSR, SmallLassos

Array = np.ndarray
Numbers = tuple[float, ...]
# X, y, sample_weight, alphas, fit_intercept, ordinary, limits, tol, max_iter and certify.
SmallLeastSquares = Callable[
    [Array, Array, Array | None, Sequence[float], bool, Numbers, Numbers, float, int, bool],
    list[tuple] | None,
]
# X, y, sample_weight, fit_intercept, ordinary, l1, l2, positive, most_condition, as_sums, sample
# and hidden.
SmallLasso = Callable[
    [
        Array,
        Array,
        Array | None,
        bool,
        Numbers,
        Array,
        Array,
        bool,
        float,
        bool,
        Array,
        tuple[float, int],
    ],
    SmallLassos | None,
]
# A, offset, w, r, weight, l1, l2, positive, tol and n_epochs.
ColumnDescent = Callable[
    [Array, Array | None, Array, Array, float, float, float, bool, float, int], int
]
# H, c, state, unit, scale, size, l1, l2, positive, tol and most_steps.
WalkSets = Callable[
    [Array, Array, tuple[Array, ...], Array, Array, int, float, float, bool, float, int],
    tuple[int, int, int],
]


class SmallKernels(Protocol):
    """Whole fits of few numbers in one call, for `solvers/small*.py`.

    `ordinary` and `limits` are `Ordinary` and `Limits` of `solvers/small.py`, as tuples. None, or
    False in `solved`, leaves a problem that is out of the ordinary to the general path.
    """

    @property
    def small_least_squares(self) -> SmallLeastSquares:
        """The parts of a `Solution` for each alpha, with an L2 penalty or none."""

    @property
    def small_lasso(self) -> SmallLasso:
        """Solutions for each pair of penalties, l1 (k,) and l2 (k,), by sums or by working sets.

        None, too, where sums over all rows hide numbers of the rows `sample`, of which `hidden` has
        `HIDDEN` and `FEW_HIDDEN` (`solvers/light_rows.py`).
        """

    def small_weights(
        self,
        X: Array,
        y: Array,
        sample_weight: Array | None,
        alpha: float,
        ordinary: Numbers,
        limits: Numbers,
        tol: float,
        max_iter: int,
    ) -> Array | None:
        """The weights alone, (d, t) of X's dtype, without an intercept."""

    def solve_small_batch(
        self,
        A: Array,
        b: Array,
        ordinary: Numbers,
        limits: Numbers,
        n_threads: int,
    ) -> tuple[Array, Array]:
        """Solutions (p, t, d) of p problems A (p, n, d) and b (p, n, t), and `solved` (p,)."""


class ColumnKernels(Protocol):
    """Descent on working sets of columns and walks from set to set, for `solvers/working_sets.py`.

    Both descents change w in place, end after an epoch in which no step changes its own gradient
    by more than `tol`, and return the number of epochs.
    """

    @property
    def column_descent(self) -> ColumnDescent:
        """Descent on columns, the rows of A (k, n), float32; r = w A - y (n,) changes with w.

        To their gradient, `offset` (k,) is added: with r = 0 and the gradient at w as offset, it is
        that of a correction of w, of which float32 has seven digits.
        """

    def coordinate_descent(
        self,
        H: Array,
        w: Array,
        q: Array,
        l1: float,
        l2: float,
        positive: bool,
        tol: float,
        n_epochs: int,
    ) -> int:
        """Descent on a Gram matrix H (k, k); q = H w - c changes with w (k,)."""

    @property
    def walk_sets(self) -> WalkSets:
        """Steps of a walk: how many, 1 if it is at its end or 2 if it fails, and the set's size.

        `state` has w (k,), the signs of the set's weights (k,), their factor R (k, k) and the
        columns of the set (k,), int64, the first `size` of which count; all are changed in place.
        """

    def column_products(self, X: CSR, s: Array | None, place: Array, k: int, first: int) -> Array:
        """Products (k - first, k) of columns from `first` on with all that have a place below k."""


class WideKernels(Protocol):
    """Both products of a refinement of few, long rows at once, for `solvers/moved_weights.py`."""

    def move_weights(
        self,
        X: Array,
        coef: Array,
        u: Array,
        total: Array,
        centre: Array,
        constant: Array,
        out: Array,
    ) -> None:
        """coef (t, d) += (X - 1 centre^T)^T u for u (n, t); then out (n, t) += X coef^T.

        `total` (t,) has the sums of u. The weights of the columns `constant`, ascending, become 0.
        """


class RowKernels(Protocol):
    """Products of sparse rows with w vectors at once, and a descent made of them.

    They serve `solvers/row_products.py` and `solvers/row_descent.py`; w is 1, 2, 4 or 8.
    """

    def row_sums(self, X: CSR, u: Array, z: Array) -> None:
        """z (d, w) = X^T u^T for u (t, n), t <= w."""

    def row_dots(self, X: CSR, z: Array, out: Array) -> None:
        """out (t, n) = (X z)^T for z (d, w)."""

    def row_squares(self, X: CSR) -> Array:
        """The sum of squares of each row, (n,)."""

    def descend_rows(
        self,
        X: CSR,
        vectors: tuple[Array | None, ...],
        per_row: tuple[Array | None, ...],
        scalars: tuple[Array, ...],
        ends: tuple[Array, ...],
        alpha: float,
        limits: tuple[float, float],
        most: int,
    ) -> Array:
        """At most so many iterations of conjugate gradients, and what each of them tells."""


class TriangleKernels(Protocol):
    """Rows added to a triangular factor, for `solvers/updated_factor.py`."""

    def update_triangle(self, joint: Array, rows: Array) -> Array:
        """[R, Q^T Y] (k, k + t), brought up to date with rows [C, Y] (m, k + t)."""

    def solve_triangle(
        self,
        joint: Array,
        size: Array,
        rest: float,
        has_intercept: bool,
        tolerance: float,
        most_steps: int,
    ) -> Array:
        """The weights (t, k) of such a factor; steps account for a penalty that is not in R."""


class OrderKernels(Protocol):
    """Orders of rows: shuffled for epochs of SGD, or by the labels of groups; samples of rows."""

    def permute(self, bit_generator: np.random.BitGenerator, orders: Array) -> None:
        """Shuffle each of the orders (k, n), int64, as RandomState does with this generator."""

    def keys_below(self, limit: float, start: int, n: int) -> tuple[Array, Array]:
        """Which of n rows have a key below `limit`, and these keys (`solvers/seen_rows.py`)."""

    def label_bounds(self, labels: Array) -> Array | None:
        """Where each of the sorted labels begins and the last ends; None if they aren't sorted."""

    def sort_codes(self, codes: Array, n_codes: int) -> tuple[Array, Array]:
        """The rows in the order of their codes (n,), int64, and where each of these begins."""


def has_small_kernels(kernels: object) -> TypeGuard[SmallKernels]:
    return hasattr(kernels, "small_least_squares")


def has_column_kernels(kernels: object) -> TypeGuard[ColumnKernels]:
    return hasattr(kernels, "coordinate_descent")


def has_wide_kernels(kernels: object) -> TypeGuard[WideKernels]:
    return hasattr(kernels, "move_weights")


def has_row_kernels(kernels: object) -> TypeGuard[RowKernels]:
    return hasattr(kernels, "row_sums")


def has_triangle_kernels(kernels: object) -> TypeGuard[TriangleKernels]:
    return hasattr(kernels, "update_triangle")


def has_order_kernels(kernels: object) -> TypeGuard[OrderKernels]:
    return hasattr(kernels, "permute")
