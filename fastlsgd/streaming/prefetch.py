"""The next block is made in a thread of its own, while the last one is computed with."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

from .._threads import carried

T = TypeVar("T")

_END = object()


def prefetched(items: Iterator[T]) -> Iterator[T]:
    """Yield the items, of which one is made ahead; where no thread can be started, none is.

    The thread ends with the iterator, also where the caller leaves it early.
    """
    ready: queue.Queue[Any] = queue.Queue(maxsize=1)
    ended = threading.Event()

    def offer(item: Any) -> bool:
        while not ended.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not offer((item, None)):
                    return
            offer((_END, None))
        except BaseException as error:
            offer((None, error))

    worker = threading.Thread(target=carried(work), name="fastlsgd-stream", daemon=True)
    try:
        worker.start()
    except RuntimeError:
        yield from items
        return
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
            del item  # or the block would stay in memory until the next one has been made
    finally:
        ended.set()
        worker.join()
