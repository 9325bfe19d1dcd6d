"""Timing of a call, alone or in turns with others."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

Call = Callable[[], object]

# Idle threads of OpenBLAS and OpenMP spin for about 10 ms, on a core that the next call needs.
PAUSE = 0.05
BURST_SECONDS = 0.1  # the approximate length of a contender's turn
MAX_BURST = 5


class Timing(NamedTuple):
    """Seconds of one call."""

    best: float
    median: float


def seconds_of(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def best_of(call: Call, repeats: int) -> float:
    return min(seconds_of(call) for _ in range(repeats))


def per_call(call: Call, repeats: int = 15, loops: int = 1000) -> Timing:
    """Time a call that takes microseconds, `loops` calls at a time."""

    def many() -> None:
        for _ in range(loops):
            call()

    many()
    spans = [seconds_of(many) / loops for _ in range(repeats)]
    return Timing(min(spans), float(np.median(spans)))


def interleave(calls: Mapping[str, Call], rounds: int) -> dict[str, Timing]:
    """Time all calls in turns, so that drift of the machine affects all of them alike.

    A turn is a pause and then a burst of calls, as in a user's loop, of which the first wakes the
    threads of the library. One call of each, before the first turn, is not timed: it compiles code
    and maps memory.
    """
    bursts = {}
    for name, call in calls.items():
        call()
        bursts[name] = int(np.clip(BURST_SECONDS / seconds_of(call), 1, MAX_BURST))
    spans: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(PAUSE)
            spans[name] += [seconds_of(call) for _ in range(bursts[name])]
    return {name: Timing(min(s), float(np.median(s))) for name, s in spans.items()}
