"""Why a stochastic fit has diverged, and which learning rate would not have."""

from __future__ import annotations

import math

import numpy as np

from ..kernels.contract import CSR, Matrix, working_dtype
from .interrupt import call_loss_gradient
from .rows import row_slice
from .training import TrainingData
from .weights import normalised_weights

# Sample weights are named as the reason where they make the rate that holds this much smaller.
WEIGHTS_RULE = 1e3
ROWS_AT_A_TIME = 4096
# The squared residuals of a fit that converges may for a while exceed the squares of y by this.
RESIDUAL_SQUARES = 16.0


class Diverged(ArithmeticError):
    """The loss, a weight or a moment is no longer finite, or the fit ended far above its start.

    Attributes
    ----------
    epoch : int
        The epoch that showed it, from 1.
    loss : float
        The mean loss of that epoch.
    """

    def __init__(self, epoch: int, loss: float) -> None:
        self.epoch, self.loss = epoch, loss
        reached = f"reached {loss:.3g}" if math.isfinite(loss) else "overflowed"
        super().__init__(f"the mean loss {reached} in epoch {epoch}")


def weighted_excess(
    data: TrainingData, visited: np.ndarray | None, coef: np.ndarray, intercept: np.ndarray
) -> float:
    """Return the weighted loss of these weights, divided by that of predicting zero.

    Both are sums over targets and over the visited rows (None: all), whose weights may be (n, t).
    """
    s = np.asarray(data.sample_weight)
    if visited is not None:
        counts = np.zeros(len(s), dtype=bool)
        counts[visited] = True
        s = np.where(counts if s.ndim == 1 else counts[:, None], s, s.dtype.type(0.0))
    s, _ = normalised_weights(s, data.X)
    w, b = coef.astype(np.float64), intercept.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        reached = _weighted_loss(data, s, w, b)
        return float(np.divide(reached, _weighted_loss(data, s, 0.0 * w, 0.0 * b)))


def _weighted_loss(data: TrainingData, s: np.ndarray, w: np.ndarray, b: np.ndarray) -> float:
    """Return the sum of s r^2 / 2 over rows and targets, with weights (n,) or (n, t)."""
    total = 0.0
    targets = [slice(None)] if s.ndim == 1 else [slice(t, t + 1) for t in range(len(w))]
    for part in targets:
        own = s if s.ndim == 1 else np.ascontiguousarray(s[:, part.start])
        y = np.ascontiguousarray(data.y[:, part])
        found = call_loss_gradient(data.kernels, data.X, y, w[part], b[part], own, data.n_threads)
        total += float(own.sum(dtype=np.float64)) * float(found.loss.sum())
    return total


def divergence_explained(
    diverged: Diverged,
    X: Matrix,
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    fit_intercept: bool,
    rates: str | None,
) -> ValueError:
    """Return the error to raise for a fit whose data are finite.

    Parameters
    ----------
    diverged : Diverged
    X, y, sample_weight, fit_intercept
        As in the kernel contract.
    rates : str or None
        The user's learning rates, as an error message names them. None: learning_rate='auto'.
    """
    if rates is None:
        return ValueError(
            f"The fit diverges with learning_rate='auto': {diverged}. X, y or sample_weight holds "
            f"numbers whose squares overflow, or nearly: rescale them."
        )
    if targets_overflow(X, y, sample_weight):
        return ValueError(
            f"The fit diverges with {rates}: {diverged}. y holds numbers so large that they or "
            f"their squares overflow: scale it, for example by y / np.abs(y).max()."
        )
    rate = rate_that_holds(X, sample_weight, fit_intercept)
    unweighted = rate if sample_weight is None else rate_that_holds(X, None, fit_intercept)
    if sample_weight is not None and unweighted > WEIGHTS_RULE * rate:
        largest = float(np.max(sample_weight))
        return ValueError(
            f"The fit diverges with {rates}: {diverged}. The reason is sample_weight, by which the "
            f"rate is multiplied, as in scikit-learn, and whose largest is {largest:.3g}: divide "
            f"it by its mean."
        )
    if rate == 0.0:
        return ValueError(
            f"The fit diverges: {diverged}. X holds numbers whose squares overflow: rescale its "
            f"columns."
        )
    return ValueError(
        f"The fit diverges with {rates}: {diverged}. "
        f"A rate that holds on these rows is {rate:.2g} or less (optimizer='sgd', "
        f"learning_rate='constant', eta0={rate:.2g}). Larger ones hold once the columns of X are "
        f"scaled, which learning_rate='auto' does by itself."
    )


def targets_overflow(X: Matrix, y: np.ndarray, sample_weight: np.ndarray | None) -> bool:
    """Whether y is too large for weights of X's dtype, or its squares (nearly) for float64.

    No rate holds then. Only rows of positive weight count.
    """
    counted = y if sample_weight is None else y[np.asarray(sample_weight) > 0.0]
    with np.errstate(over="ignore"):
        squares = RESIDUAL_SQUARES * np.einsum("nt,nt->", counted, counted, dtype=np.float64)
    largest = float(np.abs(counted).max(initial=0.0))
    return largest > float(np.finfo(working_dtype(X)).max) or not math.isfinite(squares)


def rate_that_holds(X: Matrix, sample_weight: np.ndarray | None, fit_intercept: bool) -> float:
    """Return 1 / max_i s_i (|x_i|^2 + 1), below which no update of any batch size can grow.

    An update multiplies the error of the weights by I - h s_i x_i x_i^T (or the mean of such
    matrices), whose eigenvalues lie in [0, 1] for these h. The rate is rounded down to two digits.
    """
    largest = 0.0
    for start in range(0, X.shape[0], ROWS_AT_A_TIME):
        stop = min(start + ROWS_AT_A_TIME, X.shape[0])
        squares = _squared_norms(row_slice(X, start, stop)) + float(fit_intercept)
        if sample_weight is not None:
            s = np.asarray(sample_weight[start:stop], dtype=np.float64)
            squares = squares[s > 0.0] * s[s > 0.0]
        largest = max(largest, float(squares.max(initial=0.0)))
    if largest == 0.0 or not math.isfinite(largest):
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(1.0 / largest)) - 1)
    return math.floor(1.0 / largest / unit) * unit if unit > 0.0 else 0.0


def _squared_norms(X: Matrix) -> np.ndarray:
    with np.errstate(over="ignore"):
        if not isinstance(X, CSR):
            X = X.astype(np.float64, copy=False)  # objects and wider floats, too
            return np.einsum("nd,nd->n", X, X)
        ends = np.asarray(X.indptr)
        span = slice(int(ends[0]), int(ends[-1]))
        row = np.repeat(np.arange(X.shape[0]), np.diff(ends))
        squares = X.data[span].astype(np.float64) ** 2
        return np.bincount(row, weights=squares, minlength=X.shape[0])
