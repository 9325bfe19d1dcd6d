"""The kernel contract: what every backend computes, in which shapes, to the letter.

A backend is a module with the four functions of :class:`Kernels`. All of them are
held to `reference.py` by `tests/test_kernels.py`. Kernels trust their input: the
public door (`fastlsgd.functional` and the estimators) has validated it.

Notation: n rows, d features, t targets, m rows visited, S = sum of sample weights.

==================  ==========  =============================================================
array               shape       dtype and layout
==================  ==========  =============================================================
X                   (n, d)      float32 or float64; ndarray of any strides, or `CSR`
y                   (n, t)      X's dtype; any strides
sample_weight       (n,)        X's dtype; contiguous, or None for all ones
w (loss_gradient,   (t, d)      float64; C-contiguous: one target's weights lie together
predict)
w (sgd_epoch)       (t, d)      X's dtype; C-contiguous; updated in place
b                   (t,)        float64
order               (m,)        int64 row numbers in the order of the visit, or None for 0..n-1
rates               (k,)        float64, one learning rate an update, k = ceil(m / batch_size)
==================  ==========  =============================================================

Arithmetic: `loss_gradient`, `predict` and `gram` add up in float64 whatever X's dtype, so
that a float32 X gives what float64 arithmetic gives on the same numbers. `sgd_epoch` works
in X's dtype, with the scalars of an update (residual, rate, intercept) in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

# In `sgd_epoch`, a `Prox` acts once a group: so many rows, or one mini-batch where that is
# larger. It is part of the contract, since the result depends on it.
GROUP_ROWS = 8


class CSR(NamedTuple):
    """A compressed sparse row matrix whose indices have been checked.

    `indptr` need not start at 0, so that a range of rows is a view:
    row i is ``data[indptr[i]:indptr[i + 1]]``.
    """

    data: np.ndarray  # (nnz,)  float32 or float64
    indices: np.ndarray  # (nnz,)  int32 or int64, each in [0, d), no duplicates within a row
    indptr: np.ndarray  # (n + 1,)  same dtype as indices, non-decreasing
    shape: tuple[int, int]

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype


Matrix = np.ndarray | CSR


class LossGradient(NamedTuple):
    """Objective without penalty, and its gradient; all float64."""

    loss: np.ndarray  # (t,)    1/(2 S) sum_i s_i r_i^2
    coef: np.ndarray  # (t, d)  1/S sum_i s_i r_i x_i
    intercept: np.ndarray  # (t,)    1/S sum_i s_i r_i


class Gram(NamedTuple):
    """Second moments about an origin c (`shift`); all float64."""

    xx: np.ndarray  # (d, d)  sum_i s_i (x_i - c)(x_i - c)^T
    xy: np.ndarray  # (d, t)  sum_i s_i (x_i - c) y_i^T
    x: np.ndarray  # (d,)    sum_i s_i (x_i - c)
    y: np.ndarray  # (t,)    sum_i s_i y_i
    weight: float  # S


class Prox(NamedTuple):
    """A separable penalty with its own weight for each coordinate.

    At the end of a group whose rates sum to h:
    ``w_j <- soft(w_j, h * soft_j) / (1 + h * shrink_j)``, which is the proximal step of
    ``sum_j soft_j |w_j| + shrink_j / 2 w_j^2``.
    """

    soft: np.ndarray  # (d,)  X's dtype, >= 0
    shrink: np.ndarray  # (d,)  X's dtype, >= 0


@dataclass
class SGDState:
    """What an epoch hands to the next one; updated in place by `sgd_epoch`.

    Attributes
    ----------
    l1_due : float
        L1 penalty that each weight should have received so far, u in Tsuruoka et al. (2009).
    l1_paid : ndarray of shape (t, d), X's dtype, or None
        Penalty that each weight has received, with its sign; q in the same paper.
    average_after : int or None
        Number of updates still to come before the average takes in the weights.
        None: no average is kept.
    coef_sum, intercept_sum : float64 ndarrays of shape (t, d) and (t,), or None
        Sums of the weights after each averaged update.
    n_summed : int
        Number of updates in these sums.
    """

    l1_due: float = 0.0
    l1_paid: np.ndarray | None = None
    average_after: int | None = None
    coef_sum: np.ndarray | None = None
    intercept_sum: np.ndarray | None = None
    n_summed: int = 0


def rows_per_group(batch_size: int) -> int:
    """Rows between two proximal steps: whole mini-batches, `GROUP_ROWS` at most if they fit."""
    return max(1, GROUP_ROWS // batch_size) * batch_size


class Kernels(Protocol):
    """The four hot loops. ``n_threads`` is an upper limit; a backend may use fewer."""

    def loss_gradient(
        self,
        X: Matrix,
        y: np.ndarray,
        w: np.ndarray,
        b: np.ndarray,
        sample_weight: np.ndarray | None,
        n_threads: int,
    ) -> LossGradient:
        """One pass over X: r = X w + b - y, the loss, and the gradient."""

    def sgd_epoch(
        self,
        X: Matrix,
        y: np.ndarray,
        w: np.ndarray,
        b: np.ndarray,
        order: np.ndarray | None,
        rates: np.ndarray,
        batch_size: int,
        sample_weight: np.ndarray | None,
        alpha: float,
        l1_ratio: float,
        fit_intercept: bool,
        prox: Prox | None,
        implicit: bool,
        state: SGDState,
        n_threads: int,
    ) -> float:
        """All updates of one visit of the rows in `order`; w, b and state change in place.

        For update k with rate h over a mini-batch of m rows (the last may be shorter), with
        w and b as they were before it::

            r_i  = x_i . w + b - y_i
            g_i  = (h / m) s_i                       divided by 1 + g_i (|x_i|^2 + fit_intercept)
                                                     where `implicit`
            w   <- max(0, 1 - h alpha (1 - l1_ratio)) w - sum_i g_i r_i x_i
            b   <- b - sum_i g_i r_i                 where `fit_intercept`
            coef_sum += w, intercept_sum += b        once `average_after` updates are over
            L1: u += h alpha l1_ratio, then the cumulative penalty of Tsuruoka et al. (2009)
            `prox` at the end of each group of `rows_per_group(batch_size)` rows; what it does
            to w counts for coef_sum too, as part of the group's last update: so that the mean
            of the weights is where gradient and penalty balance

        CSR and dense rows of the same numbers give the same weights. Returns the sum over
        the visited rows and targets of r^2 / 2, each taken before its update.
        """

    def gram(
        self,
        X: Matrix,
        y: np.ndarray,
        sample_weight: np.ndarray | None,
        shift: np.ndarray | None,
        n_threads: int,
    ) -> Gram:
        """Second moments of X about `shift` (float64, (d,); None is 0) in one pass."""

    def predict(self, X: Matrix, w: np.ndarray, b: np.ndarray, n_threads: int) -> np.ndarray:
        """X w + b, of shape (n, t) and X's dtype."""
