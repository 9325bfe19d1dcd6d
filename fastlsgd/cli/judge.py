"""Errors of predictions, added up block by block."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._validation import as_sample_weight
from ..streaming import StreamError

# Rows of which the picture has points, drawn at random.
MOST_POINTS = 5_000


class RegressionErrors:
    """Sums over rows of the errors of a regression, in the units of its target."""

    def __init__(self, scale: str, target: object) -> None:
        self.scale, self.target = scale, target
        self.rows, self.weight = 0, 0.0
        self.absolute = self.squares = self.bias = 0.0
        self.log_squares = self.smearing = 0.0
        # Of targets about the first one, so that nothing cancels.
        self.spread, self.log_spread = TargetSpread(), TargetSpread()
        self.points = Points()

    def add(self, y: np.ndarray, fitted: np.ndarray, sample_weight, place: str) -> None:
        """Add rows, whose targets and fits are in the units of the target.

        Raises
        ------
        StreamError
            If there are targets that the scale does not allow.
        """
        y = np.asarray(y, dtype=np.float64)
        s = as_sample_weight(sample_weight, len(y), np.float64, some_weight=False)
        s = np.ones(len(y)) if s is None else s
        if not np.isfinite(y).all():
            raise StreamError(f"{place}: column {self.target!r} has NaN or infinity.")
        self.rows += int(np.count_nonzero(s))
        self.weight += float(s.sum())
        with np.errstate(over="ignore"):
            error = fitted - y
            self.absolute += float(s @ np.abs(error))
            self.squares += float(s @ np.square(error))
            self.bias += float(s @ error)
        self.spread.add(y, s)
        self.points.add(y, fitted)
        if self.scale == "log":
            with np.errstate(divide="ignore"):
                residual = logarithm(y, self.target, place) - np.log(fitted)
            self.log_squares += float(s @ np.square(residual))
            self.smearing += float(s @ np.exp(residual))
            self.log_spread.add(np.log(y), s)

    def as_json(self) -> dict[str, Any]:
        found = {
            "rows": self.rows,
            "rmse": _root(self.squares, self.weight),
            "mae": _share(self.absolute, self.weight),
            "bias": _share(self.bias, self.weight),
            "r2": self.spread.explained(self.squares),
        }
        if self.scale == "log":
            found["r2_log"] = self.log_spread.explained(self.log_squares)
            found["rmse_log"] = _root(self.log_squares, self.weight)
        return found


class ClassificationErrors:
    """Counts of rows by their class and the predicted one."""

    def __init__(self, classes: np.ndarray, target: object) -> None:
        self.classes, self.target = classes, target
        self.counts = np.zeros((len(classes), len(classes)))
        self.rows = 0

    def add(self, y: np.ndarray, predicted: np.ndarray, sample_weight, place: str) -> None:
        s = as_sample_weight(sample_weight, len(y), np.float64, some_weight=False)
        s = np.ones(len(y)) if s is None else s
        true, found = (self._numbers(labels, place) for labels in (y, predicted))
        np.add.at(self.counts, (true, found), s)
        self.rows += int(np.count_nonzero(s))

    def _numbers(self, labels: np.ndarray, place: str) -> np.ndarray:
        known = {label: number for number, label in enumerate(self.classes.tolist())}
        try:
            return np.array([known[label] for label in np.asarray(labels).tolist()], dtype=int)
        except KeyError as error:
            raise StreamError(
                f"{place}: column {self.target!r} has {error.args[0]!r}, which is none of the "
                f"classes."
            ) from error

    def as_json(self) -> dict[str, Any]:
        counts, right = self.counts, np.diag(self.counts)
        shares = zip(
            self.classes.tolist(), counts.sum(axis=1), counts.sum(axis=0), right, strict=True
        )
        return {
            "rows": self.rows,
            "accuracy": _share(float(right.sum()), float(counts.sum())),
            "classes": [
                {
                    "class": label,
                    "rows": float(own),
                    "recall": _share(float(hit), float(own)),
                    "precision": _share(float(hit), float(told)),
                }
                for label, own, told, hit in shares
            ],
            "confusion": counts.tolist(),
        }


def errors_for(estimator, scale: str, target: object) -> RegressionErrors | ClassificationErrors:
    if hasattr(estimator, "classes_"):
        return ClassificationErrors(estimator.classes_, target)
    return RegressionErrors(scale, target)


def logarithm(y: np.ndarray, target: object, place: str) -> np.ndarray:
    """Return log(y).

    Raises
    ------
    StreamError
        If y is not positive.
    """
    y = np.asarray(y, dtype=np.float64)
    wrong = np.flatnonzero(~(y > 0.0))
    if len(wrong):
        raise StreamError(
            f"{place}: column {target!r} is {y[wrong[0]]:g} in row {wrong[0]} of the block: "
            f"--loss-scale log needs targets above zero."
        )
    return np.log(y)


def predicted(estimator, X, scale: str) -> np.ndarray:
    """Return predictions in the units of the target, or labels."""
    out = estimator.predict(X)
    return np.exp(np.asarray(out, dtype=np.float64)) if scale == "log" else out


class TargetSpread:
    """The sum of squares of values about their mean."""

    def __init__(self) -> None:
        self.origin: float | None = None
        self.weight = self.first = self.second = 0.0

    def add(self, values: np.ndarray, s: np.ndarray) -> None:
        if self.origin is None and len(values):
            self.origin = float(values[0])
        away = values - (self.origin or 0.0)
        self.weight += float(s.sum())
        self.first += float(s @ away)
        self.second += float(s @ np.square(away))

    def explained(self, squares: float) -> float | None:
        """Return R2, by the sum of squares that is left; None for values that are all equal."""
        if not self.weight:
            return None
        total = self.second - self.first**2 / self.weight
        return 1.0 - squares / total if total > 0.0 else None


class Points:
    """Some of the pairs of numbers, each with the same chance."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.pairs, self.keys = np.empty((0, 2)), np.empty(0)

    def add(self, y: np.ndarray, fitted: np.ndarray) -> None:
        keys = np.concatenate([self.keys, self.rng.random(len(y))])
        pairs = np.concatenate([self.pairs, np.column_stack([y, fitted])])
        if len(keys) > MOST_POINTS:
            chosen = np.argpartition(keys, MOST_POINTS)[:MOST_POINTS]
            keys, pairs = keys[chosen], pairs[chosen]
        self.keys, self.pairs = keys, pairs


def _share(total: float, weight: float) -> float | None:
    return total / weight if weight > 0.0 and math.isfinite(total) else None


def _root(squares: float, weight: float) -> float | None:
    mean = _share(squares, weight)
    return None if mean is None else math.sqrt(mean)
