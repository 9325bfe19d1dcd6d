"""Threads: how many are useful, what they inherit, and how to do without new ones.

`interruptible` makes a long call in a thread, so that Ctrl-C need not wait for its end.
"""

from __future__ import annotations

import _thread
import contextvars
import math
import os
import queue
import sys
import threading
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

# A pass over so many numbers, and so many multiply-adds for a Gram matrix, take a thread well below
# half a millisecond, and one or two milliseconds. Beside a busy process, it takes some 10 to 30
# milliseconds until a second thread has done its part: a default SGDRegressor on 20,000 x 20 took
# 84 ms with two threads, and 2 with one.
FEW_NUMBERS, FEW_PRODUCTS = 2**16, 2**24
# A pass over so many numbers takes a third of a millisecond, where a fit's Gram matrix may take far
# longer.
FEW_PASS_NUMBERS = 2**20
# The passes of an exact solver over so many dense numbers take a millisecond each, and there may be
# tens of them. Threads that wait for one another in each took 27 to 250 ms of processor time beside
# busy processes for a lasso of 1,000 x 4,000 float32 numbers, and one thread took 7.
FEW_DENSE_NUMBERS = 2**22
# So many multiply-adds of a prediction take half a millisecond. Beside busy processes, those of
# 200 x 1,000 numbers took 20 ms with two threads, and 0.06 with one.
FEW_PREDICTIONS = 2**21
# A Gram matrix of so many multiply-adds takes one thread 3 milliseconds, and two threads wait for
# one another for as long: `lstsq` of 5,000 x 100 took 9 ms of processor time with two threads, and
# 3 with one.
FEW_GRAM_PRODUCTS = 2**26
# So many multiply-adds of a product of matrices take one thread 1 to 4 milliseconds.
FEW_THREADED_PRODUCTS = 2**26
# Decompositions make more and smaller calls, and gain less by threads: QR of 1,000 x 300 took
# 975 ms of processor time beside busy processes, and 9 with one thread.
FEW_LAPACK_PRODUCTS = 2**28
POLL_SECONDS = 0.1
START_SECONDS = 1.0  # after which a thread that has not begun its work is not waited for


# ----------------------------------------------------------------- how many can be used


def usable_processors() -> int:
    """Processors that this process may use, by its affinity and the quota of its control group."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(count or 1, _quota()))


def is_small(shape: tuple[int, ...], n_targets: int = 1, few: int = FEW_PRODUCTS) -> bool:
    """Whether threads would only hold up a fit of an X of this shape.

    `few` is a number of multiply-adds: FEW_PRODUCTS for kernels, others for what they are named
    after.
    """
    numbers = shape[0] * shape[1]
    per_number = min(shape) + 4 * n_targets  # half of it in a Gram matrix, the rest in passes
    return numbers * n_targets <= FEW_NUMBERS or numbers * per_number <= few


def pass_threads(numbers: int, n_threads: int, few: int = FEW_PASS_NUMBERS) -> int:
    """How many of these threads are useful in a pass over so many numbers, times targets."""
    return 1 if numbers <= few else n_threads


@cache
def _quota() -> int:
    """How many processors' time a container allows, rounded up; many if there is no limit."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return sys.maxsize
    root, limits = Path("/sys/fs/cgroup"), [sys.maxsize]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2: the limits of the enclosing groups apply too
            own = root / path.lstrip("/")
            limits += [_share(group / "cpu.max") for group in (own, *own.parents)]
        elif "cpu" in controllers.split(","):
            for group in (root / "cpu" / path.lstrip("/"), root / "cpu"):
                limits.append(_share(group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us"))
    return min(limits)


def _share(*files: Path) -> int:
    """Quota divided by period, from these files; no limit where they say so or do not exist."""
    try:
        quota, period = " ".join(file.read_text() for file in files).split()
        return max(1, math.ceil(int(quota) / int(period))) if int(quota) > 0 else sys.maxsize
    except (OSError, ValueError, ZeroDivisionError):  # "max" is not a number
        return sys.maxsize


# ------------------------------------------------------------------- what they inherit


def carried(function: Callable[..., T]) -> Callable[..., T]:
    """`function` for another thread, in which it runs as it would run here and now.

    It carries fastlsgd's settings and all other context variables, NumPy's handling of
    floating-point errors, scikit-learn's configuration, and the limit on OpenMP's threads.
    """
    context, errors, sklearn_config = contextvars.copy_context(), np.geterr(), _sklearn_config()
    native = sys.modules.get("fastlsgd.kernels.native")
    most = native.max_threads() if native is not None else None

    def elsewhere(*args, **kwargs) -> T:
        if native is not None:
            native.set_max_threads(most)
        with np.errstate(**errors), sklearn_config():
            return function(*args, **kwargs)

    # Only one thread at a time can enter a context.
    return lambda *args, **kwargs: context.copy().run(elsewhere, *args, **kwargs)


def _sklearn_config() -> Callable[[], Any]:
    """A context manager that sets scikit-learn's present configuration, if it is loaded."""
    from contextlib import nullcontext

    sklearn = sys.modules.get("sklearn")
    if sklearn is None or not hasattr(sklearn, "config_context"):
        return nullcontext
    config = sklearn.get_config()
    return lambda: sklearn.config_context(**config)


# ------------------------------------------------------------------- calls in other threads


def start_thread(function: Callable[[], object]) -> bool:
    """Call `function` in a new daemon thread, or return False where none can be started.

    True does not promise that the thread will run: one that finds no memory for its first step
    dies, and threading.Thread.start then waits for it forever
    (https://github.com/python/cpython/issues/140746). This function does not wait. So whoever calls
    it must be able to go on without the thread, as `Job` does.
    """
    try:
        _thread.start_new_thread(function, ())
    except (RuntimeError, MemoryError):
        return False
    return True


class Job:
    """A call that is made once, by another thread or by the caller, whichever is first."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call: Callable[[], Any] | None = call
        self._claimed = threading.Lock()
        self._running = threading.Lock()  # released when the call has ended: that needs no memory
        self._running.acquire()
        self._outcome: Any = None
        self._error: BaseException | None = None

    def __call__(self) -> None:
        if not self._claimed.acquire(False):
            return
        call, self._call = self._call, None  # so that its arrays are released
        try:
            self._outcome = call() if call is not None else None
        except BaseException as error:
            self._error = error
        finally:
            self._running.release()

    def make_here(self) -> None:
        """Make the call in this thread unless another has begun it; errors are raised at once."""
        self()
        if self._error is not None:
            raise self._error

    def cancel(self) -> None:
        """Prevent the call if it has not begun, and wait for its end if it has."""
        if self._claimed.acquire(False):
            self._call = None
            self._running.release()
        else:
            self.has_ended()

    def has_ended(self, seconds: float = -1.0) -> bool:
        """Wait for the end of the call, for so many seconds at most unless they are negative."""
        ended = self._running.acquire(timeout=seconds)
        if ended:
            self._running.release()
        return ended

    def result(self) -> Any:
        """What the call has returned, once: the job may stay in a queue, its result need not."""
        self.has_ended()
        if self._error is not None:
            raise self._error
        outcome, self._outcome = self._outcome, None
        return outcome


def interruptible(function: Callable[..., T], *args, **kwargs) -> T:
    """Call `function` in a thread of its own, so that KeyboardInterrupt is raised here at once.

    After an interrupt the call runs to its end in the background, and its result is dropped. So it
    must own its arguments or only read them, and it must release the GIL. The new thread inherits
    this thread's settings.

    Signals reach the main thread only; in any other thread, `function` is called directly. So it is
    where no thread can be started, or where one does not begin within `START_SECONDS`: then Ctrl-C
    is answered late.
    """
    if threading.current_thread() is not threading.main_thread():
        return function(*args, **kwargs)
    job = Job(partial(carried(function), *args, **kwargs))
    if not (start_thread(job) and job.has_ended(START_SECONDS)):
        job.make_here()
    while not job.has_ended(POLL_SECONDS):
        pass
    return job.result()


class _Pool:
    """Daemon threads that make calls from a queue, for callers that can make them themselves."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._counting = threading.Lock()
        self._running, self._most = 0, os.cpu_count() or 1

    def submit(self, call: Callable[[], object]) -> None:
        self._calls.put(call)
        if not self._idle.acquire(blocking=False) and self._running < self._most:
            start_thread(self._work)

    def _work(self) -> None:
        with self._counting:
            if self._running >= self._most:
                return
            self._running += 1
        try:
            while True:
                self._next()()
        finally:
            with self._counting:
                self._running -= 1

    def _next(self) -> Callable[[], object]:
        try:
            return self._calls.get_nowait()
        except queue.Empty:
            self._idle.release()
            return self._calls.get()


_pool = _Pool()


def _forget_pool() -> None:
    """After a fork, in the child, which has none of the pool's threads."""
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def begin(jobs: Sequence[Job]) -> None:
    """Have a pool's threads make the jobs, as far as there are threads before the caller does."""
    for job in jobs:
        _pool.submit(job)


def call_all(calls: Sequence[Callable[[], T]], stop: threading.Event | None = None) -> list[T]:
    """The results of the calls; this thread makes the first one, and a pool's threads the others.

    Where there are no more threads, this thread makes the remaining calls. Where a call raises
    (KeyboardInterrupt, too), this function waits for the others, so that nothing is read or written
    after it has returned. It first sets `stop`, for calls that check it.
    """
    jobs = [Job(call) for call in calls]
    try:
        begin(jobs[1:])
        for job in jobs:
            job.make_here()
        return [job.result() for job in jobs]
    except BaseException:
        if stop is not None:
            stop.set()
        for job in jobs:
            job.cancel()
        raise
