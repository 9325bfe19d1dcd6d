"""Long calls of LAPACK and BLAS that Ctrl-C must not wait for."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.1


def interruptible(function: Callable[..., T], *args, **kwargs) -> T:
    """Call `function` in a thread of its own, so that KeyboardInterrupt is raised here at once.

    Python runs signal handlers between its own instructions, and one call of LAPACK on 4,096
    columns takes many seconds. After an interrupt that call goes on to its end in the background,
    where nobody sees its result: it must own, or only read, its arguments.

    In a thread that is not the main one no signal arrives, so `function` is called directly.
    """
    if threading.current_thread() is not threading.main_thread():
        return function(*args, **kwargs)
    outcome: list[Any] = []
    error: list[BaseException] = []
    context = contextvars.copy_context()

    def work() -> None:
        try:
            outcome.append(context.run(function, *args, **kwargs))
        except BaseException as raised:
            error.append(raised)

    worker = threading.Thread(target=work, name="fastlsgd-interruptible", daemon=True)
    try:
        worker.start()
    except RuntimeError:  # no thread can be started: better late than never
        return function(*args, **kwargs)
    while worker.is_alive():
        worker.join(POLL_SECONDS)
    if error:
        raise error[0]
    return outcome[0]
