"""Descent on the true residual in the metric of a factor, until the residual stops falling.

Each stage takes the gradient from the residuals of the weights as they are, and solves for a
correction in the factor's coordinates: one step where the factor is sharp (iterative refinement of
the seminormal equations, Bjorck 1987, Linear Algebra Appl. 88/89), conjugate gradients where it is
not. A first stage brings the weights near; a later one removes what rounding has left of them.
Two stages are what makes preconditioned iterations as stable as Householder QR (Epperly, Meier and
Nakatsukasa 2024, arXiv 2406.03468, whose inner iteration is heavy-ball descent with the rates that
conjugate gradients find by themselves).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

import numpy as np
from scipy.linalg import eigvalsh_tridiagonal

from .factors import EPS
from .system import System

# The relative gradient below which weights of X's dtype no longer change.
ROUNDING = {"float64": EPS, "float32": 1e-9}
# Of the gradient, by the conjugate gradients of one stage.
STAGE_REDUCTION = {"float64": 1e-8, "float32": 5e-10}
SHARP = 0.1  # a factor that reduces the gradient to this share needs no conjugate gradients
LOOK_BACK = 10  # iterations whose rate tells how many are still to come
# A step that is expected to end this far below what is asked is not checked by another pass.
SAFETY = 1e3


class Factor(Protocol):
    """Coordinates v = R w."""

    condition: float

    def whiten(self, gradient: np.ndarray) -> np.ndarray:
        """R^-T g."""

    def unwhiten(self, v: np.ndarray) -> np.ndarray:
        """R^-1 v."""


@dataclass
class Descent:
    """Where a descent stands."""

    coef: np.ndarray  # (t, d)
    intercept: np.ndarray  # (t,)
    squares: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (t,) sum s r^2
    relative_gradient: float = np.inf
    losses: list[float] = field(default_factory=list)  # the objective before each pass
    condition: float = np.nan  # in the factor's coordinates, as conjugate gradients saw it
    converged: bool = False
    has_stalled: bool = False  # whether a stage no longer halved the gradient: rounding
    is_slow: bool = False  # whether conjugate gradients gave up since they would take too long


def descend(
    system: System,
    factor: Factor,
    start: Descent,
    scale: np.ndarray | None,
    *,
    sharp: bool,
    tol: float,
    max_iter: int,
    certify: bool = True,
    budget: int | None = None,
) -> Descent:
    """Descend from `start` until the relative gradient is `tol` or stops falling.

    Parameters
    ----------
    system, factor
    start : Descent
        Its weights; where they come from the factor too, its `relative_gradient` is that at zero.
    scale : ndarray of shape (t,) or None
        Norm of the whitened gradient at zero: the unit of the relative gradient. None: that of
        the start, which is zero.
    sharp : bool
        Whether one step of the factor is expected to be enough at a time.
    tol : float
        0: as far as rounding allows.
    max_iter : int
        Most passes.
    certify : bool
        Whether the gradient is taken once more after a last step that is safe.
    budget : int or None
        Give up where more passes than this are to be expected.
    """
    coef, intercept = start.coef, start.intercept
    best, last, losses, condition = start, start.relative_gradient, list(start.losses), np.nan
    first, tol = system.passes, max(tol, ROUNDING[system.X.dtype.name])
    for stage in count():
        gradient = system.gradient(coef, intercept)
        z = factor.whiten(gradient.coef)
        if scale is None:
            scale = _norms(z)
        intercept = intercept - gradient.intercept
        losses.append(0.5 * float(gradient.squares.sum() + system.alpha * np.vdot(coef, coef)))
        ratio = _relative(z, scale)
        if stage == 0 or ratio < best.relative_gradient:
            squares = gradient.squares - system.weight * gradient.intercept**2
            best = Descent(coef, intercept, np.maximum(squares, 0.0), ratio)
        best.converged = best.relative_gradient <= tol
        left = max_iter - (system.passes - first)
        best.has_stalled = stage > 0 and not ratio <= 0.5 * last
        sharp = sharp and ((stage == 0 and last == np.inf) or ratio <= SHARP * last)
        done = best.converged or best.has_stalled or not np.isfinite(ratio)
        if done or left <= (0 if sharp else 1):  # a product and the gradient after it
            if sharp and best.coef is coef:  # a step for free
                best.coef, best.intercept = _step(system, factor, coef, intercept, z)
            break
        if sharp:
            # What is left shrinks as it just did; in weights it may count `condition` times.
            left_over = ratio * ratio / last * factor.condition
            step, safe = z, not certify and SAFETY * left_over <= tol
        else:
            reduction = max(STAGE_REDUCTION[system.X.dtype.name], 0.5 * tol / ratio)
            inner = conjugate_gradients(system, factor, z, reduction, left - 1, budget, losses[-1])
            step, safe, losses = inner.v, False, losses + inner.losses
            condition = inner.condition if stage == 0 else condition
            best.is_slow = inner.is_slow
        if best.is_slow:
            break
        coef, intercept = _step(system, factor, coef, intercept, step)
        if safe:
            squares = np.maximum(best.squares - (step * step).sum(axis=1), 0.0)
            best = Descent(coef, intercept, squares, ratio * ratio / last, converged=True)
            break
        last = ratio
    best.losses, best.condition = losses, condition
    return best


def _step(system: System, factor: Factor, coef, intercept, step):
    """Weights less a step, and the intercept that keeps the residuals' mean as it is."""
    move = factor.unwhiten(step)
    return coef - move, intercept + move @ system.centre


def _norms(z: np.ndarray) -> np.ndarray:
    return np.sqrt((z * z).sum(axis=1))


def _relative(z: np.ndarray, scale: np.ndarray) -> float:
    """The largest norm of a target's gradient over its norm at zero weights."""
    norms = _norms(z)
    return float(np.where(scale > 0.0, norms / np.where(scale > 0.0, scale, 1.0), norms).max())


@dataclass
class _Inner:
    v: np.ndarray
    losses: list[float]
    condition: float
    is_slow: bool


def conjugate_gradients(
    system: System,
    factor: Factor,
    z: np.ndarray,
    reduction: float,
    max_iter: int,
    budget: int | None = None,
    objective: float = 0.0,
) -> _Inner:
    """Solve R^-T (A^T A + alpha I) R^-1 v = z (Hestenes and Stiefel 1952), all targets at once.

    Until the residual is `reduction` of z, at most `max_iter` products. With a `budget`, gives up
    once the rate of the last iterations says that full accuracy would take more than that.
    """
    v, r, p = np.zeros_like(z), z.copy(), z.copy()
    rho = (r * r).sum(axis=1)
    target, history, losses = reduction**2 * rho, [float(rho.max())], []
    diagonal, off_diagonal, last_a, last_beta = [], [], 0.0, 0.0
    is_slow = False
    for k in range(1, max_iter + 1):
        q = factor.whiten(system.apply(factor.unwhiten(p)))
        curvature = (p * q).sum(axis=1)
        a = np.where(curvature > 0.0, rho / np.where(curvature > 0.0, curvature, 1.0), 0.0)
        losses.append(objective)
        objective -= 0.5 * float((a * rho).sum())
        v += a[:, None] * p
        r -= a[:, None] * q
        new = (r * r).sum(axis=1)
        beta = np.where(rho > 0.0, new / np.where(rho > 0.0, rho, 1.0), 0.0)
        if a[0] > 0.0:  # the Lanczos matrix, whose eigenvalues are those of the problem
            diagonal.append(1.0 / a[0] + (last_beta / last_a if last_a else 0.0))
            off_diagonal.append(np.sqrt(beta[0]) / a[0])
            last_a, last_beta = a[0], beta[0]
        rho = new
        history.append(float(rho.max()))
        if np.all(new <= target) or not np.isfinite(history[-1]):
            break
        if budget is not None and k >= LOOK_BACK and _still_to_come(history) > budget - k:
            is_slow = True
            break
        p = r + beta[:, None] * p
    return _Inner(v, losses, _condition(diagonal, off_diagonal), is_slow)


def _still_to_come(history: list[float]) -> float:
    """Iterations until the first gradient is down to rounding, at the rate of the last ones."""
    rate = (np.log(history[-1]) - np.log(history[-1 - LOOK_BACK])) / LOOK_BACK
    left = np.log(EPS**2 * history[0]) - np.log(history[-1])
    return left / rate if rate < 0.0 else np.inf


def _condition(diagonal: list[float], off_diagonal: list[float]) -> float:
    """Of A in these coordinates: the square root of that of the Lanczos matrix."""
    if not diagonal:
        return np.nan
    values = eigvalsh_tridiagonal(np.array(diagonal), np.array(off_diagonal[:-1]))
    return float(np.sqrt(values[-1] / values[0])) if values[0] > 0.0 else np.inf
