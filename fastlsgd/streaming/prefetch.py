"""The next block is made in a thread of its own, while the last one is computed with."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TypeVar

from .._threads import Job, carried, start_thread

T = TypeVar("T")

_END = object()


def prefetched(items: Iterator[T]) -> Iterator[T]:
    """Yield the items, of which one is made ahead; where no thread can be started, none is.

    When the caller leaves early, nothing runs any more: an item that has begun is awaited.
    """
    make = carried(partial(next, items, _END))
    job = Job(make)
    start_thread(job)
    try:
        while True:
            job.make_here()
            item = job.result()
            if item is _END:
                return
            job = Job(make)
            start_thread(job)
            yield item
            del item  # or the block would stay in memory until the next one has been made
    finally:
        job.cancel()
