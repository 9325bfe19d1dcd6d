"""One update by a mini-batch that is read in parts: what `sgd_epoch` does with a whole one."""

from __future__ import annotations

import numpy as np

from ..kernels.contract import Kernels, Prox, SGDState


class Batch:
    """The sum of the implicit steps of the rows of a mini-batch.

    Parameters
    ----------
    v, b : ndarrays of shape (t, k) and (t,)
        The weights before the update.
    step : float
        The rate divided by the number of rows.
    fit_intercept : bool
    """

    def __init__(self, v: np.ndarray, b: np.ndarray, step: float, fit_intercept: bool) -> None:
        self.v, self.b, self.length = v.copy(), b.copy(), step
        self.fit_intercept = fit_intercept
        self.dv, self.db = np.zeros_like(v), np.zeros_like(b)

    def add(self, kernels: Kernels, Z, y, s, n_threads: int) -> float:
        """Add rows of the batch; return the sum of r^2 / 2 over them."""
        g = np.full(len(y), self.length) if s is None else self.length * s
        g /= 1.0 + g * (np.einsum("ij,ij->i", Z, Z) + float(self.fit_intercept))
        r = kernels.predict(Z, self.v, self.b, n_threads) - y
        gr = g[:, None] * r
        self.dv += gr.T @ Z
        self.db += gr.sum(axis=0)
        return 0.5 * float(np.vdot(r, r))

    def step(
        self, v: np.ndarray, b: np.ndarray, rate: float, prox: Prox | None, state: SGDState
    ) -> None:
        """Update v, b and the state in place, at the end of the batch."""
        v -= self.dv
        if self.fit_intercept:
            b -= self.db
        if prox is not None:
            v[:] = np.sign(v) * np.maximum(np.abs(v) - rate * prox.soft, 0.0)
            v /= 1.0 + rate * prox.shrink
        if state.average_after is None or state.coef_sum is None or state.intercept_sum is None:
            return
        if state.average_after > 0:
            state.average_after -= 1
            return
        state.coef_sum += v
        state.intercept_sum += b
        state.n_summed += 1
