"""The parameters `bounds`, `constraints`, `penalty_factor` and `alpha` per target, checked."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

from .. import _validation as check
from ..solvers.constraints import Constraints
from ..solvers.least_squares import FACTOR_FEATURES


def bounds_of(value) -> tuple[np.ndarray, np.ndarray]:
    """The lower and upper bounds, each of shape () or (d,)."""
    is_sequence = isinstance(value, (tuple, list, np.ndarray)) and getattr(value, "ndim", 1) > 0
    if not is_sequence or len(value) != 2:
        raise ValueError(
            f"bounds must be a pair (lower, upper) of numbers or arrays, got {check.shown(value)}. "
            f"A pair for each feature, as SciPy has them, becomes one by tuple(zip(*bounds))."
        )
    lower, upper = (_numbers(part, f"bounds[{k}]", 1) for k, part in enumerate(value))
    for name, part, wrong in (("lower", lower, np.inf), ("upper", upper, -np.inf)):
        if np.isnan(part).any() or (part == wrong).any():
            raise ValueError(
                f"The {name} bounds must be numbers or {-wrong:g}, got {check.shown(part)}."
            )
    return lower, upper


def equalities_of(value) -> tuple[np.ndarray, np.ndarray]:
    """A (m, d) and b (m,) of A coef = b."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"constraints must be a pair (A, b), got {check.shown(value)}.")
    given = value[0].toarray() if hasattr(value[0], "toarray") else value[0]
    A, b = _numbers(given, "A of constraints", 2), _numbers(value[1], "b of constraints", 1)
    A, b = np.atleast_2d(A), np.atleast_1d(b)
    if not (np.isfinite(A).all() and np.isfinite(b).all()):
        raise ValueError("constraints must be finite, got NaN or infinity.")
    if len(A) != len(b):
        raise ValueError(
            f"constraints must have one number of b for each row of A, got shapes {A.shape} and "
            f"{b.shape}."
        )
    return A, b


def factors_of(value) -> np.ndarray:
    """The penalty factors, of shape (d,)."""
    factor = _numbers(value, "penalty_factor", 1)
    if factor.ndim != 1 or not (np.isfinite(factor).all() and (factor >= 0.0).all()):
        raise ValueError(
            f"penalty_factor must be an array of numbers >= 0, one per feature, got "
            f"{check.shown(value)}. Bounds of zero leave a feature out."
        )
    return factor


def _numbers(value, name: str, most_dimensions: int) -> np.ndarray:
    if value is None:
        raise ValueError(f"{name} must be numbers, got None.")
    array = np.asarray(check.as_real_array(check.on_host(value, name), name), np.float64)
    if array.ndim > most_dimensions:
        raise ValueError(
            f"{name} must have at most {most_dimensions} dimension"
            f"{'s' if most_dimensions > 1 else ''}, got shape {array.shape}."
        )
    return array


def alphas_of(value, name: str = "alpha") -> list[Any]:
    """The penalties along a path, each a number or, from an array of two dimensions, (t,)."""
    if isinstance(value, Real):
        return [check.check_real(value, name, 0.0)]
    if np.ndim(value) != 2 or np.shape(value)[1] < 2:
        return list(check_alphas(value, name))
    array = _numbers(value, name, 2)
    if not array.size or not (np.isfinite(array).all() and (array >= 0.0).all()):
        raise ValueError(f"{name} must be numbers >= 0, got {check.shown(value)}.")
    return list(array)


def check_alphas(value, name: str) -> list[float]:
    """The values of alpha along a path, checked."""
    if not isinstance(value, (list, tuple, np.ndarray)) or np.ndim(value) != 1 or not len(value):
        raise ValueError(f"{name} must be a number or a list of numbers, got {value!r}.")
    return [check.check_real(number, name, 0.0) for number in value]


def is_trivial(estimator) -> bool:
    """Whether no parameter asks for more than `positive` and one penalty for all weights."""
    asked = (estimator.bounds, estimator.constraints, estimator.penalty_factor)
    return all(value is None for value in asked) and np.ndim(getattr(estimator, "alpha", 0.0)) < 2


def constraints_for(
    estimator, d: int, n_targets: int, names: Sequence[str] | None
) -> tuple[Constraints | None, np.ndarray | None]:
    """What the estimator's parameters ask of the weights of d features, and the penalty factors.

    Both are None where they ask for nothing that other solvers do not offer.

    Raises
    ------
    ValueError
        If they contradict each other or the number of features or targets.
    """
    if is_trivial(estimator):
        return None, None
    lower, upper = np.full(d, -np.inf), np.full(d, np.inf)
    if estimator.bounds is not None:
        lower, upper = (
            _per_feature(part, f"bounds[{k}]", d)
            for k, part in enumerate(bounds_of(estimator.bounds))
        )
    A, b = np.zeros((0, d)), np.zeros(0)
    if estimator.constraints is not None:
        A, b = equalities_of(estimator.constraints)
        if A.shape[1] != d:
            raise ValueError(f"constraints are for {A.shape[1]} features, but X has {d}.")
    factor = None
    if estimator.penalty_factor is not None:
        factor = _per_feature(factors_of(estimator.penalty_factor), "penalty_factor", d)
        factor = None if (factor == 1.0).all() else factor
    alpha = getattr(estimator, "alpha", 1.0)  # of cross-validation, as yet unknown
    factor = factor if np.any(alpha) else None
    if np.ndim(alpha) == 2 and np.shape(alpha)[1] != n_targets:
        raise ValueError(
            f"alpha has {np.shape(alpha)[1]} columns, but y has {n_targets} targets: an array of "
            f"two dimensions has a row for each fit and a column for each target."
        )
    is_bounded = np.isfinite(lower).any() or np.isfinite(upper).any() or len(b) > 0
    if not is_bounded and factor is None and np.ndim(alpha) < 2:
        return None, None
    if d > FACTOR_FEATURES:
        raise ValueError(
            f"bounds, constraints, penalty_factor and alpha per target are for at most "
            f"{FACTOR_FEATURES} features, got {d}."
        )
    lower = np.maximum(lower, 0.0) if estimator.positive else lower
    named = [f"feature {j}" for j in range(d)] if names is None else [repr(str(n)) for n in names]
    return Constraints.of(lower, upper, A, b, named), factor


def _per_feature(array: np.ndarray, name: str, d: int) -> np.ndarray:
    if array.ndim == 1 and len(array) != d:
        raise ValueError(f"{name} has {len(array)} numbers, but X has {d} features.")
    return np.ascontiguousarray(np.broadcast_to(array, d))


def check_shapes(estimator) -> None:
    """Raise ValueError for parameters that are wrong whatever X is."""
    if estimator.bounds is not None:
        lower, upper = bounds_of(estimator.bounds)
        if lower.ndim == upper.ndim == 0 and lower > upper:
            raise ValueError(f"bounds contradict each other: lower {lower:g} > upper {upper:g}.")
    if estimator.constraints is not None:
        equalities_of(estimator.constraints)
    if estimator.penalty_factor is not None:
        factors_of(estimator.penalty_factor)
