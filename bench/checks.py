"""Checks of a call's result against kernels/reference.py, before the call is timed."""

from __future__ import annotations

import numpy as np
from arrays import Problem
from peers import ALPHA, optimizer_epoch

# Largest error over largest value. fastlsgd sums in float64; a peer sums float32 in float32.
EXACT = {"float32": 1e-6, "float64": 1e-11}
ROUNDED = {"float32": 2e-3, "float64": 1e-9}

SGD_ROWS = 1_000  # the reference takes about 20 microseconds per row,
SGD_NUMBERS = 10_000_000  # and more where rows are wide, since it makes them dense


def assert_close(actual, expected: np.ndarray, tolerance: float, what: str) -> None:
    actual = np.asarray(actual, dtype=np.float64)
    error = np.abs(actual - expected).max() / np.abs(expected).max()
    assert error <= tolerance, f"{what} is off by {error:.1e} of its largest value"


def check_gradient(result, problem: Problem, *, exact: bool) -> None:
    """Check the loss and gradient of all rows."""
    tolerance = (EXACT if exact else ROUNDED)[problem.dtype]
    expected = problem.gradient
    coef = expected.coef.reshape(problem.coef.shape)
    assert_close(result.loss, expected.loss.sum(), tolerance, "the loss")
    assert_close(result.coef, coef, tolerance, "the gradient")


def check_epoch(epoch, problem: Problem, batch_size: int) -> None:
    """Check the weights after an epoch over the first rows; `epoch` makes a call from a problem.

    The call must visit the rows in order, from zero weights and without an intercept.
    """
    n_rows = min(SGD_ROWS * min(batch_size, 10), SGD_NUMBERS // problem.shape[1])
    head = problem.head(n_rows)
    expected = head.epoch(batch_size, ALPHA)
    assert_close(epoch(head)(), expected, ROUNDED[problem.dtype], "the weights")


def check_optimizer_epoch(epoch, rule: str, problem: Problem) -> None:
    """Check the weights after an epoch in batches of 32 over the first rows, from zero."""
    head = problem.head(10 * SGD_ROWS)
    expected = optimizer_epoch("reference", rule, head)()
    assert_close(epoch(head)(), expected, ROUNDED[problem.dtype], "the weights")


def check_predictions(result: np.ndarray, problem: Problem) -> None:
    assert_close(result, problem.predictions, EXACT[problem.dtype], "the prediction")


def check_moments(result, problem: Problem) -> None:
    assert_close(result.xx, problem.moments.xx, EXACT["float32"], "X^T X")
    assert_close(result.xy, problem.moments.xy[:, 0], EXACT["float32"], "X^T y")
