"""Listeners that are told of each epoch: progress, the user's callable, scikit-learn's callbacks.

The fit ends early if one of them asks for it. scikit-learn's callbacks are set by `set_callbacks`,
where the installed version has them (SLEP 23).
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

from .._sklearn_compat import callback_context
from ..solvers.stochastic import EpochReport

__all__ = ["Progress", "ScikitLearnCallbacks"]

REDRAW_SECONDS = 0.05


class Progress:
    """Shows epochs as they end, in a bar that is redrawn, or in lines where that is not possible.

    Parameters
    ----------
    max_iter : int
    verbose : int
        1: a bar in terminals and notebooks, lines in files and pipes. 2 or more: always lines.
    """

    def __init__(self, max_iter: int, verbose: int) -> None:
        self.max_iter, self.out = max_iter, sys.stdout
        self.redraws = verbose == 1 and _redraws(self.out)
        self.start, self.drawn, self.text, self.epoch = time.monotonic(), 0.0, "", 0

    def __call__(self, report: EpochReport) -> None:
        self.text, self.epoch = _in_words(report), report.epoch
        if not self.redraws:
            print(self.text, file=self.out, flush=True)
        elif time.monotonic() - self.drawn > REDRAW_SECONDS:
            self._draw()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error) -> None:
        """End the line of the bar, so that its last state stays."""
        if self.redraws and self.text:
            self._draw()
            print(file=self.out, flush=True)

    def _draw(self) -> None:
        self.drawn = time.monotonic()
        done = round(20 * self.epoch / self.max_iter)
        bar = "#" * done + "." * (20 - done)
        line = f"[{bar}] {self.epoch}/{self.max_iter}, {self.drawn - self.start:.1f} s, {self.text}"
        width = shutil.get_terminal_size().columns - 1
        print("\r" + line[:width].ljust(width), end="", file=self.out, flush=True)


def _redraws(out: TextIO) -> bool:
    """Whether a carriage return goes back to the start of the line, as in terminals and Jupyter."""
    return out.isatty() or type(out).__module__.startswith("ipykernel")


def _in_words(report: EpochReport) -> str:
    score = report.validation_score
    held_out = "" if score is None else f", score on held-out rows {score:.6g}"
    return f"epoch {report.epoch}: mean loss {report.loss:.6g}{held_out}"


class ScikitLearnCallbacks:
    """The tasks of a fit that scikit-learn's callbacks see: the fit, and each epoch within it.

    Parameters
    ----------
    estimator : estimator with `set_callbacks`
    X, y, sample_weight
        As the user gave them to `fit`.
    """

    def __init__(self, estimator, X, y, sample_weight) -> None:
        self.estimator = estimator
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self.data = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self.fit = callback_context(estimator, max_subtasks=estimator.max_iter)
        self.fit.call_on_fit_task_begin(**self.data)

    def begin_epoch(self) -> None:
        self.task = self.fit.subcontext(task_name="epoch")
        self.task.call_on_fit_task_begin(**self.data)

    def end_epoch(self, fitted: Callable[[], object]) -> bool:
        """Whether a callback ends the fit; `fitted` gives the estimator as if it ended now."""
        return self.task.call_on_fit_task_end(
            **self.data, reconstruction_attributes=lambda: _attributes(fitted())
        )

    def end(self) -> None:
        self.fit.call_on_fit_task_end(
            **self.data, reconstruction_attributes=lambda: _attributes(self.estimator)
        )


def _attributes(estimator) -> dict[str, object]:
    """The fitted attributes of an estimator, by scikit-learn's naming convention."""
    names = vars(estimator).items()
    return {name: value for name, value in names if name.endswith("_") and name[0] != "_"}
