"""Rows that are held out of a stochastic descent, to stop it early by their score."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..kernels.contract import Kernels, Matrix
from .interrupt import call_kernel


class Holdout(NamedTuple):
    """The rows that are held out."""

    X: Matrix
    y: np.ndarray  # (n, t)
    sample_weight: np.ndarray | None

    def r_squared(self, kernels: Kernels, coef, intercept, n_threads: int) -> float:
        """Return the R2 of the weights on these rows, as the mean over targets."""
        from sklearn.metrics import r2_score

        predicted = self._predict(kernels, coef, intercept, n_threads)
        if not np.isfinite(predicted).all():
            return -math.inf
        return float(r2_score(self.y, predicted, sample_weight=self.sample_weight))

    def accuracy(self, kernels: Kernels, coef, intercept, n_threads: int) -> float:
        """Return the share of rows whose class (its target is 1, not -1) has the highest score."""
        from sklearn.metrics import accuracy_score

        predicted = self._predict(kernels, coef, intercept, n_threads)
        if not np.isfinite(predicted).all():
            return -math.inf
        true, found = class_numbers(self.y), class_numbers(predicted)
        return float(accuracy_score(true, found, sample_weight=self.sample_weight))

    def _predict(self, kernels: Kernels, coef, intercept, n_threads: int) -> np.ndarray:
        w = np.ascontiguousarray(coef, dtype=np.float64)
        # Kernels round predictions to X's dtype. They are rounded as distances from the median of
        # the targets, since targets of float64 may be near 1e9 while X is float32.
        origin = np.median(np.asarray(self.y, dtype=np.float64), axis=0)
        away = call_kernel(kernels.predict, len(w), self.X, w, intercept - origin, n_threads)
        # scikit-learn's metrics need their arguments on the host.
        return np.asarray(away, dtype=np.float64) + origin


def class_numbers(scores):
    """Return the class of each row: the sign of a single score, else the number of the highest.

    The expression uses only methods that NumPy, PyTorch, CuPy and JAX have in common.
    """
    return 1 * (scores[:, 0] > 0) if scores.shape[1] == 1 else scores.argmax(1)
