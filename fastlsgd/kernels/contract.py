"""The kernel contract: what every backend computes, and the arrays that it takes.

A backend is a module with the functions of :class:`Kernels`. `tests/kernels/test_kernels*.py`
compares each backend with `reference.py`. Kernels trust their input, which `fastlsgd.functional`
and the estimators have validated.

Notation: n rows, d features, t targets, m rows visited, S = sum of sample weights.

==================  ==========  =============================================================
array               shape       dtype and layout
==================  ==========  =============================================================
X                   (n, d)      float32 or float64; ndarray of any strides, or `CSR`
y                   (n, t)      float32 or float64, whatever X's dtype; any strides
sample_weight       (n,)        y's dtype; contiguous, or None for all ones
w (loss_gradient,   (t, d)      float64; C-contiguous: one target's weights lie together
predict)
w (sgd_epoch)       (t, d)      X's dtype; C-contiguous; updated in place
b                   (t,)        float64
order               (m,)        int64 row numbers in the order of the visit, or None for 0..n-1
rates               (k,)        float64, one learning rate per update, k = ceil(m / batch_size)
==================  ==========  =============================================================

Arithmetic: `loss_gradient`, `predict` and `gram` add up in float64 whatever X's dtype, so that a
float32 X gives what float64 arithmetic gives on the same numbers. `sgd_epoch` computes in X's
dtype, with the scalars of an update (residual, rate, intercept) in float64.

A row of weight 0 adds nothing to any sum and has no loss, whatever finite numbers it holds, even
where their squares are infinite. It still counts as a row of its mini-batch. y is never rounded to
X's dtype.

An X of any other real dtype, byte order or alignment goes through `blocks.py`, which converts a
block of rows at a time to `working_dtype(X)`; "X's dtype" in the table then stands for that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple, Protocol

import numpy as np

# In `sgd_epoch`, a `Prox` acts at the end of each group of this many rows, or of each mini-batch
# where that is larger. The number is part of the contract, since the result depends on it.
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


def stored_in_rows(starts: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the numbers of selected rows of a `CSR` are stored, and the `indptr` of a copy of them.

    The rows are given by where each begins and how many numbers it has, in one dtype, which is that
    of the new `indptr` too.
    """
    indptr = np.zeros(len(counts) + 1, counts.dtype)
    np.cumsum(counts, out=indptr[1:])
    return np.repeat(starts - indptr[:-1], counts) + np.arange(indptr[-1]), indptr


_KERNELS_OWN = (np.dtype(np.float64), np.dtype(np.float32))


def working_dtype(X) -> np.dtype:
    """The dtype that kernels compute with, for an X (array, CSR or dtype) as the user gave it.

    It is float32 for floats of at most 32 bits (float16 and bfloat16 too) and float64 for all else.
    Weights, predictions and tolerances of rounding depend on it, never on ``X.dtype`` itself.
    """
    dtype = X if isinstance(X, np.dtype) else X.dtype
    if dtype in _KERNELS_OWN:  # the usual case
        return dtype
    is_float = dtype.kind == "f" or dtype.name == "bfloat16"
    return np.dtype(np.float32 if is_float and dtype.itemsize <= 4 else np.float64)


class TargetGradients(NamedTuple):
    """Objective without penalty, of each target, and its gradient; all float64."""

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
    """A separable penalty with a weight of its own for each coordinate.

    At the end of a group whose rates sum to h:
    ``w_j <- soft(w_j, h * soft_j) / (1 + h * shrink_j)``, which is the proximal step of
    ``sum_j soft_j |w_j| + shrink_j / 2 w_j^2``.
    """

    soft: np.ndarray  # (d,)  X's dtype, >= 0
    shrink: np.ndarray  # (d,)  X's dtype, >= 0


@dataclass(frozen=True, slots=True)
class Epoch:
    """The options of one call of `sgd_epoch`, as `fastlsgd_epoch` has them in C.

    Attributes
    ----------
    order : int64 ndarray of shape (m,) or None
        Row numbers in the order of the visit; None is 0, ..., n - 1.
    rates : float64 ndarray of shape (k,)
        One learning rate per update, k = ceil(m / batch_size).
    batch_size : int
        Rows per update; the last mini-batch may be shorter.
    alpha, l1_ratio : float
        The penalty alpha (l1_ratio |w|_1 + (1 - l1_ratio)/2 |w|_2^2).
    fit_intercept : bool
        Whether b is updated.
    prox : Prox or None
        A further penalty, with a weight of its own for each coordinate.
    implicit : bool
        Whether updates take the residual after the step instead of before it.
    """

    order: np.ndarray | None
    rates: np.ndarray
    batch_size: int
    alpha: float = 0.0
    l1_ratio: float = 0.0
    fit_intercept: bool = True
    prox: Prox | None = None
    implicit: bool = False

    @property
    def l1(self) -> float:
        """Weight of |w|_1 in the objective."""
        return self.alpha * self.l1_ratio

    @property
    def l2(self) -> float:
        """Weight of |w|_2^2 / 2 in the objective."""
        return self.alpha * (1.0 - self.l1_ratio)


class Epochs(NamedTuple):
    """What `sgd_epochs` tells of each of k epochs."""

    losses: np.ndarray  # (k,)  what `sgd_epoch` returns
    coef: np.ndarray  # (k, t, d)  X's dtype, w after the epoch
    intercept: np.ndarray  # (k, t)  float64, b after the epoch


class OptimizerRule(IntEnum):
    """The rules of `OptimizerState`, with the values of `fastlsgd_rule` in csrc/fastlsgd.h."""

    SGD = 0
    MOMENTUM = 1
    NESTEROV = 2
    RMSPROP = 3
    ADAGRAD = 4
    ADAM = 5
    ADAMW = 6

    @property
    def has_first_moment(self) -> bool:
        """Whether the rule keeps u, a sum of gradients."""
        return self.name in ("MOMENTUM", "NESTEROV", "ADAM", "ADAMW")

    @property
    def has_second_moment(self) -> bool:
        """Whether the rule keeps v, a sum of squared gradients."""
        return self.name in ("RMSPROP", "ADAGRAD", "ADAM", "ADAMW")


@dataclass
class OptimizerState:
    """An optimizer: its rule, its parameters, and what it carries from update to update.

    For update number k, with rate h and per target, from the mini-batch's mean gradients
    ``g = 1/m sum_i s_i r_i x_i`` and ``g_b = 1/m sum_i s_i r_i`` (0 without `fit_intercept`)::

        clip     g, g_b <- (g, g_b) min(1, max_norm / (sqrt(|g|^2 + g_b^2) + 1e-6))
        decay    "sgd", "adamw":  w <- max(0, 1 - h l2) w,  l2 = alpha (1 - l1_ratio)
                 others:          g <- g + l2 w
        step     w <- w - h p / D,  b alike, from g_b

        rule         moments                                     p                 D
        "sgd"                                                    g                 1
        "momentum"   u <- beta1 u + g                            u                 1
        "nesterov"   u <- beta1 u + g                            g + beta1 u       1
        "rmsprop"    v <- beta2 v + (1 - beta2) g^2              g                 sqrt(v) + eps
        "adagrad"    v <- v + g^2                                g                 sqrt(v) + eps
        "adam",      u <- beta1 u + (1 - beta1) g                u/(1 - beta1^k)   sqrt(v/(1 -
        "adamw"      v <- beta2 v + (1 - beta2) g^2                                beta2^k)) + eps

        L1       "sgd": the cumulative penalty. Others: w_j <- soft(w_j, h alpha l1_ratio c / D_j),
                 where c is the sum of the rule's weights on all gradients so far: 1, but
                 (1 - beta1^k) / (1 - beta1) for "momentum", and for "nesterov" with k + 1

    These are torch.optim's steps (and `clip_grad_norm_`'s) for `weight_decay` = l2, one parameter
    group per target, and no decay of the intercept. The proximal step of L1 is taken in the metric
    D. It is as large as the step that a constant gradient of its size would have led to, so that
    it balances the gradient where the objective has its minimum (Duchi et al. 2011, section 4).

    All arithmetic is in float64; w is rounded to X's dtype once per update. Clipping is right for
    every finite gradient, whether or not its squares overflow.

    Attributes
    ----------
    rule : OptimizerRule
    beta1, beta2, eps : float
        0 <= beta < 1; eps > 0.
    max_norm : float
        inf: no clipping.
    steps : int
        Number of updates so far.
    coef_first, coef_second : float64 ndarrays of shape (t, d), C-contiguous, or None
        The moments u and v, if the rule has them.
    intercept_first, intercept_second : float64 ndarrays of shape (t,), or None
    """

    rule: OptimizerRule
    beta1: float = 0.0
    beta2: float = 0.0
    eps: float = 1e-8
    max_norm: float = math.inf
    steps: int = 0
    coef_first: np.ndarray | None = None
    coef_second: np.ndarray | None = None
    intercept_first: np.ndarray | None = None
    intercept_second: np.ndarray | None = None


@dataclass
class SGDState:
    """What one epoch passes on to the next; `sgd_epoch` updates it in place.

    Attributes
    ----------
    l1_due : float
        The L1 penalty that each weight should have received so far: u in Tsuruoka et al. (2009).
    l1_paid : ndarray of shape (t, d), X's dtype, or None
        The penalty that each weight has received, with its sign: q in the same paper.
    average_after : int or None
        How many more updates pass before the average takes in the weights; None keeps no average.
    coef_sum, intercept_sum : float64 ndarrays of shape (t, d) and (t,), or None
        Sums of the weights after each of the averaged updates.
    n_summed : int
        How many updates these sums hold.
    optimizer : OptimizerState or None
        None stands for plain descent.
    """

    l1_due: float = 0.0
    l1_paid: np.ndarray | None = None
    average_after: int | None = None
    coef_sum: np.ndarray | None = None
    intercept_sum: np.ndarray | None = None
    n_summed: int = 0
    optimizer: OptimizerState | None = None


@dataclass(frozen=True, slots=True)
class Segments:
    """Ranges of positions, each of which has a regression of its own; `fastlsgd_segments` in C.

    Attributes
    ----------
    order : int64 ndarray of shape (p,) or None
        The row at each position; None is 0, ..., n - 1.
    start, stop : int64 ndarrays of shape (k,)
        Segment i has the positions start[i], ..., stop[i] - 1. Neither ever decreases.
    min_rows : int
        Segments with fewer rows of positive weight have no fit.
    fit_intercept : bool
    skip_nan : bool
        Whether rows with NaN in X or y are as if not there.
    penalty : float64 ndarray of shape (d,) or None
        The weight of each w_j^2 beside the sum of squared residuals.
    decay : float64 ndarray of shape (p,) or None
        What the sums of the rows before a position are multiplied by when it is added; then all
        segments that overlap start at the same position.
    initial : float64 ndarray of shape (d + 2, d + 2) or None
        Moments of [x, y, 1] that each segment starts with; only the upper triangle is read.
    inverse : bool
        Whether the diagonal of the inverse is wanted.
    robust : int
        Of `SegmentErrors`: the variances of the weights that are wanted beside it.
    """

    order: np.ndarray | None
    start: np.ndarray
    stop: np.ndarray
    min_rows: int
    fit_intercept: bool = True
    skip_nan: bool = False
    penalty: np.ndarray | None = None
    decay: np.ndarray | None = None
    initial: np.ndarray | None = None
    inverse: bool = False
    robust: int = 0


class SegmentErrors(IntEnum):
    """Robust variances, with the values of `fastlsgd_segment_errors`."""

    CLASSICAL = 0
    HC0 = 1
    HC2 = 2
    HC3 = 3


class SegmentStatus(IntEnum):
    """Why a segment has no fit, with the values of `fastlsgd_segment_status`."""

    FITTED = 0
    SHORT = 1
    SINGULAR = 2
    OUT_OF_RANGE = 3  # squares overflow or underflow, or X or y is not finite


class SegmentFits(NamedTuple):
    """What is known of each of k segments; NaN where it has no fit."""

    coef: np.ndarray  # (k, d)  float64
    intercept: np.ndarray  # (k,)  0 without `fit_intercept`
    n_rows: np.ndarray  # (k,)  int64, rows of positive weight
    weight: np.ndarray  # (k,)  the sum of the weights
    residual: np.ndarray  # (k,)  sum_i s_i r_i^2
    total: np.ndarray  # (k,)  sum_i s_i (y_i - mean)^2; about zero without `fit_intercept`
    inverse: np.ndarray | None  # (k, d + 1)  diagonal of (Z^T S Z)^-1, the intercept's last
    robust: np.ndarray | None  # (k, d + 1)  variances of the weights, the intercept's last
    status: np.ndarray  # (k,)  int8, of `SegmentStatus`


def empty_fits(segments: Segments, d: int) -> SegmentFits:
    """Arrays for the results of a call."""
    k = len(segments.start)
    inverse, robust = (
        np.empty((k, d + 1)) if wanted else None for wanted in (segments.inverse, segments.robust)
    )
    one = [np.empty(k) for _ in range(4)]
    n_rows, status = np.empty(k, np.int64), np.empty(k, np.int8)
    intercept, weight, residual, total = one
    coef = np.empty((k, d))
    return SegmentFits(coef, intercept, n_rows, weight, residual, total, inverse, robust, status)


def runs_of_segments(segments: Segments, rows: int) -> Iterator[tuple[int, int]]:
    """Cut the segments into runs whose positions span at most `rows`.

    A run may span twice the length of its first segment, so that segments which grow by a row each
    are copied twice on average.
    """
    start, stop, first = segments.start, segments.stop, 0
    while first < len(start):
        most = max(rows, 2 * int(stop[first] - start[first]))
        last = int(np.searchsorted(stop, start[first] + most, side="right"))
        yield first, (last := max(last, first + 1))
        first = last


class SmallLassos(NamedTuple):
    """What `small_lasso`, which a backend may have, finds for k penalties, t targets, d columns.

    All are float64 but for `n_solves`. A are the rows of X about their mean, where an intercept is
    fitted.
    """

    coef: np.ndarray  # (k, t, d)
    intercept: np.ndarray  # (k, t)
    gradient: np.ndarray  # (k, t, d)  A^T (A w - y) / S
    squares: np.ndarray  # (k, t)  mean of r^2
    condition: np.ndarray  # (k,)  of the scaled columns whose weights are not zero
    n_solves: np.ndarray  # (k,)  int64, guesses of which weights those are
    slope: np.ndarray  # (t, d)  A^T y / S
    size: np.ndarray  # (d,)  root mean square of each column of A
    centre: np.ndarray  # (d,)
    y_centre: np.ndarray  # (t,)
    variance: np.ndarray  # (t,)  of y
    weight: float


def empty_small_lassos(k: int, t: int, d: int) -> SmallLassos:
    """Arrays for the results of a call."""
    return SmallLassos(
        np.empty((k, t, d)),
        np.empty((k, t)),
        np.empty((k, t, d)),
        np.empty((k, t)),
        np.empty(k),
        np.empty(k, np.int64),
        np.empty((t, d)),
        np.empty(d),
        np.empty(d),
        np.empty(t),
        np.empty(t),
        0.0,
    )


def rows_per_group(batch_size: int) -> int:
    """Rows between two proximal steps: the whole mini-batches in `GROUP_ROWS`, at least one."""
    return max(1, GROUP_ROWS // batch_size) * batch_size


class Kernels(Protocol):
    """The hot loops. `n_threads` is an upper limit; a backend may use fewer.

    Attributes
    ----------
    SUMS_ARE_SPLIT : bool
        Whether `loss_gradient` adds up the rows in hundreds of short sums. Its rounding error then
        does not grow with n, and a caller gains nothing by calling it for parts of the rows.
    """

    SUMS_ARE_SPLIT: bool

    def loss_gradient(
        self,
        X: Matrix,
        y: np.ndarray,
        w: np.ndarray,
        b: np.ndarray,
        sample_weight: np.ndarray | None,
        n_threads: int,
    ) -> TargetGradients:
        """One pass over X: r = X w + b - y, the loss, and the gradient."""

    def sgd_epoch(
        self,
        X: Matrix,
        y: np.ndarray,
        w: np.ndarray,
        b: np.ndarray,
        sample_weight: np.ndarray | None,
        epoch: Epoch,
        state: SGDState,
        n_threads: int,
    ) -> float:
        """All updates of one visit of the rows in `epoch.order`; w, b and state change in place.

        For update k with rate h over a mini-batch of m rows (the last may be shorter), with
        w and b as they were before it::

            r_i  = x_i . w + b - y_i
            g_i  = (h / m) s_i                       divided by 1 + g_i (|x_i|^2 + fit_intercept)
                                                     where `implicit`
            w   <- max(0, 1 - h alpha (1 - l1_ratio)) w - sum_i g_i r_i x_i
            b   <- b - sum_i g_i r_i                 where `fit_intercept`
            coef_sum += w, intercept_sum += b        once `average_after` updates are over
            L1: u += h alpha l1_ratio, then the cumulative penalty of Tsuruoka et al. (2009)
            `prox` at the end of each group of `rows_per_group(batch_size)` rows; coef_sum takes
            in what it does to w, as part of the group's last update, so that the mean of the
            weights is where gradient and penalty balance

        With ``state.optimizer`` the update is that of `OptimizerState` instead; `prox` is then
        None and `implicit` False, and the average takes in w after its L1 step except for "sgd".
        Such an update costs O(t d) on CSR rows too, since with moments or a penalty every weight
        moves each time; a backend may leave out the weights that do not.

        CSR and dense rows of the same numbers give the same weights. Returns the sum of r^2 / 2,
        without weights, over the targets and the visited rows of positive weight, each taken
        before its update.
        """

    def sgd_epochs(
        self,
        X: Matrix,
        y: np.ndarray,
        w: np.ndarray,
        b: np.ndarray,
        sample_weight: np.ndarray | None,
        epoch: Epoch,
        state: SGDState,
        n_threads: int,
    ) -> Epochs:
        """What several calls of `sgd_epoch` do, one after the other.

        `epoch.rates` is (n_epochs, k), and `epoch.order` (n_epochs, m) or None; C-contiguous.
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
        """X w + b, of shape (n, t) and X's dtype.

        Here alone, a row of CSR may list a column twice: both terms count.
        """


def epochs_by_calls(
    sgd_epoch: Callable[..., float],
    data: tuple[Matrix, np.ndarray, np.ndarray, np.ndarray, np.ndarray | None],
    epoch: Epoch,
    state: SGDState,
    n_threads: int,
) -> Epochs:
    """Return the result of `Kernels.sgd_epochs` from calls of `sgd_epoch`.

    `data` are X, y, w, b and the sample weights.
    """
    (X, y, w, b, sample_weight), n = data, len(epoch.rates)
    out = Epochs(np.empty(n), np.empty((n, *w.shape), w.dtype), np.empty((n, *b.shape)))
    for k in range(n):
        order = None if epoch.order is None else epoch.order[k]
        own = replace(epoch, order=order, rates=epoch.rates[k])
        out.losses[k] = sgd_epoch(X, y, w, b, sample_weight, own, state, n_threads)
        out.coef[k], out.intercept[k] = w, b
    return out


class SegmentKernels(Protocol):
    """A further function of each backend: many small regressions in one call.

    Attributes
    ----------
    MAKES_WINDOWS : bool
        Whether segments may have rows in common, decay and initial moments.
    """

    MAKES_WINDOWS: bool

    def fit_segments(
        self,
        X: np.ndarray,
        y: np.ndarray,
        sample_weight: np.ndarray | None,
        segments: Segments,
        n_threads: int,
    ) -> SegmentFits:
        """The least-squares fit of each segment, for dense X and one target.

        Each is as accurate as a QR factorisation of its rows in float64, for a condition of up to
        1e10 and beyond. It is SINGULAR where a column's squared distance from those before it (the
        intercept's first) is at most 2^-102 of its square per row, or 2^-42 for float32 X
        without a penalty.
        """


class DeviceKernels(Kernels, Protocol):
    """Two more functions of a backend for an X on its device, so that solvers can leave it there.

    `solvers/rows.py` does in NumPy what they do, for an X on the host.
    """

    def centred_rows(
        self, X: Matrix, y: np.ndarray, sample_weight: np.ndarray | None, shift: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
        """Chunks of x - shift, y and weights, all float64, valid until the next is requested."""

    def column_moments(
        self, X: Matrix, sample_weight: np.ndarray | None, shift: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """sum_i s_i (x_i - c) and sum_i s_i (x_i - c)^2, (d,) each; c is 0 for CSR."""
