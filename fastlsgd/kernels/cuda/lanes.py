"""Rows laid over the lanes of a warp, in registers.

Loops over ``cuda.local.array`` have constant bounds, so that they are unrolled and the array
becomes registers: ``bench/gpu_check.py --compile`` looks for spills without a GPU.
"""

from __future__ import annotations

from typing import NamedTuple

from .compile import device_function
from .rows import Rows
from .warp import WARP, load_16_bytes

MOST_PER_LANE = 16  # numbers of a row that a lane holds in registers
IN_FLIGHT = 32  # numbers that a lane has requested at a time, of several rows


def lanes_for(loads: int) -> int:
    """Threads that share a row of so many loads: a power of 2, up to a warp."""
    lanes = 1
    while lanes < min(WARP, loads):
        lanes *= 2
    return lanes


class LanePlan(NamedTuple):
    """How a row is laid over the lanes of a warp: a constant of the kernels that use it."""

    vector: int  # numbers in a load
    chunks: int  # loads per lane
    lanes: int  # that share a row
    rows: int  # that a lane requests at a time

    @property
    def per_lane(self) -> int:
        return self.vector * self.chunks

    @classmethod
    def of(cls, X: Rows) -> LanePlan | None:
        """The plan for rows without gaps that are not too long for registers; else None."""
        if not X.contiguous_rows:
            return None
        vector = X.vector()
        loads = -(-X.shape[1] // vector)
        lanes = lanes_for(loads)
        chunks = -(-loads // lanes)
        if vector * chunks > MOST_PER_LANE:
            return None
        return cls(vector, chunks, lanes, min(8, max(2, IN_FLIGHT // (vector * chunks))))


@device_function
def column_of(e, lane, plan):
    """The column of a lane's e-th number, where `load_row` has laid out a row."""
    return (e // plan.vector * plan.lanes + lane) * plan.vector + e % plan.vector


@device_function
def load_row(flat, at, lane, d, inside, x, base, plan):
    """x[base:] = this lane's numbers of the row at `at`, 0 where it or they do not exist."""
    for k in range(plan.chunks):
        j = (k * plan.lanes + lane) * plan.vector
        if inside and j < d:
            if plan.vector > 1:
                numbers = load_16_bytes(flat, at + j)
                for e in range(plan.vector):
                    x[base + k * plan.vector + e] = numbers[e]
            else:
                x[base + k] = flat[at + j]
        else:
            for e in range(plan.vector):
                x[base + k * plan.vector + e] = 0.0
