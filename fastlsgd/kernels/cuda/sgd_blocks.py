"""Epochs over dense rows in small mini-batches, exactly, a block of rows at a time.

For a block A of B rows, with updates u that shrink w by f_u and rows' steps g_i r_i, the residuals
as the updates meet them satisfy

    r_k = P_k a_k . w0 + b0 - y_k - sum over rows j of earlier updates of L_kj r_j
    L_kj = g_j (a_k . a_j prod_{u_j < u < u_k} f_u + 1)          the 1 where there is an intercept

with P_k the product of f_u for u < u_k. So r = T q, where T = (1 + L)^-1 and q is the first half of
the first line, and ``w = P_B w0 - sum_k g_k r_k a_k prod_{u > u_k} f_u``. The sum of the weights
after each update, for their average, is such a sum too, with other numbers beside w0 and a_k.

T does not depend on w: all multiprocessors make the T of all blocks (`sgd_triangles`). One of them
then goes from block to block with three products each (`sgd_chain`), which is the only part where
each step waits for the last.
"""

from __future__ import annotations

from .compile import launch
from .context import multiprocessors
from .gather import rows_of_block as rows_in_flight
from .lanes import LanePlan
from .memory import native, reserve
from .products import SIDE
from .rows import Block
from .sgd import EpochOnDevice
from .sgd_chain import (
    CHAIN_PER_LANE,
    CHAIN_THREADS,
    CHAIN_WEIGHTS,
    solve_wide_blocks,
    solving_blocks,
)
from .sgd_triangles import OF_BLOCK, TRIANGLE, triangles
from .warp import THREADS, WARP


def suits(descent: EpochOnDevice, updates: int, d: int, t: int) -> bool:
    """Whether dense rows go by blocks; with averages or a prox while registers hold the rows."""
    if descent.l1 > 0.0 or descent.batch > TRIANGLE:
        return False
    plain = descent.group == 0 and descent.skipped == updates
    return plain or (d <= CHAIN_PER_LANE * WARP and t * (d + 1) <= CHAIN_WEIGHTS)


def rows_of_block(descent: EpochOnDevice) -> int:
    """B: whole mini-batches, or a group between two proximal steps."""
    return descent.group or TRIANGLE // descent.batch * descent.batch


def run(block: Block, descent: EpochOnDevice, first_update: int, t: int, optimizer=None) -> None:
    """All updates along these rows, so many at a time that the T in flight stay small."""
    n, d = block.X.shape
    dtype = block.dense.flat.dtype
    per_block = rows_of_block(descent)
    most = rows_in_flight(TRIANGLE * TRIANGLE, dtype.itemsize)
    solve, threads, more = _solver(block, descent, t)
    for base in range(0, -(-n // per_block), most):
        first = base * per_block
        rows = min(most * per_block, n - first)
        count = -(-rows // per_block)
        T = native(reserve("sgd triangles", count * TRIANGLE * TRIANGLE, dtype))
        scales = native(reserve("sgd scales", count * OF_BLOCK))
        X = (*block.X.arguments, first, rows, d)
        update = first_update + first // descent.batch
        launch(triangles, min(count, 8 * multiprocessors()), SIDE * SIDE, block.stream)(
            *X, *block.weights, native(descent.rates), update, descent.batch, per_block,
            descent.l2, descent.fit_intercept, descent.implicit, descent.skipped, T, scales,
        )  # fmt: skip
        launch(solve, 1, threads, block.stream)(
            *X, *block.targets.arguments, native(descent.w), native(descent.b), t, per_block,
            descent.fit_intercept, T, scales, native(descent.scalars), *more,
        )  # fmt: skip


def _solver(block: Block, descent: EpochOnDevice, t: int):
    """The kernel that goes from block to block, its threads, and what else it takes."""
    X = block.dense
    plan, d = LanePlan.of(X), X.shape[1]
    if plan is None or plan.per_lane > CHAIN_PER_LANE or t * (d + 1) > CHAIN_WEIGHTS:
        return solve_wide_blocks, THREADS, ()
    plan = plan._replace(lanes=max(plan.lanes, CHAIN_THREADS // TRIANGLE))
    averages = descent.skipped < descent.rates.size
    kernel = solving_blocks(X.scalar, block.targets.scalar, plan, averages)
    more = (descent.coef_sum, descent.intercept_sum, descent.soft, descent.shrink)
    return kernel, CHAIN_THREADS, (*map(native, more), int(descent.group > 0))
