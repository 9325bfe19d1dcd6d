"""Bounds of weights and linear equalities between them, as solvers take them.

    lower_j <= w_j <= upper_j,     A w = b

What the user gave is checked for contradictions here, once, and each error names the features or
the rows of A that contradict each other. Rows of A that follow from others are left out, and the
rest is replaced by orthonormal rows E with E w = e over the features whose bounds differ. Whether
these can hold within the bounds shows the least |E w - e|^2 within them (phase 1): if it is not
zero, its residual combines rows to an equality that no weights within the bounds satisfy (Farkas).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import qr, solve_triangular

from . import active_set
from .active_set import Lasso
from .factors import EPS, column_scale

# A row of A depends on others if its part outside of their span is at most this share of it.
REDUNDANT = 1e-11
# What two sides of an equality may differ by, relative to their terms.
EQUAL = 1e-9
# Numbers of b this much smaller than the largest are taken for rounding.
NEGLIGIBLE = 1e-6
# A row takes part in a contradiction if its factor is at least this share of the largest.
TAKES_PART = 1e-6
# So many rows or features are named in a message.
MOST_NAMED = 5


@dataclass(frozen=True)
class Constraints:
    """The bounds, and equalities without redundant rows."""

    lower: np.ndarray  # (d,)
    upper: np.ndarray  # (d,)
    E: np.ndarray  # (r, d)  orthonormal rows; zero for features whose bounds are equal
    e: np.ndarray  # (r,)
    A: np.ndarray  # (m, d)  as given
    b: np.ndarray  # (m,)
    back: np.ndarray  # (m, r)  from multipliers of E w = e to those of A w = b
    start: np.ndarray  # (d,)  weights that satisfy all of them
    rounding: float  # of e, beside the rounding of its own size

    @classmethod
    def of(
        cls,
        lower: np.ndarray,
        upper: np.ndarray,
        A: np.ndarray,
        b: np.ndarray,
        names: Sequence[str],
    ) -> Constraints:
        """Return the constraints as solvers take them.

        Raises
        ------
        ValueError
            If they contradict each other; the message says which do.
        """
        _refuse_empty_ranges(lower, upper, names)
        _refuse_out_of_reach(lower, upper, A, b)
        fixed = lower == upper
        known = np.where(fixed, lower, 0.0)
        terms = np.abs(b) + np.abs(A) @ np.abs(known)
        E, e, back = _independent(np.where(fixed, 0.0, A), b - A @ known, terms)
        start = np.clip(0.0, lower, upper)
        rounding = EPS * float((np.abs(back).T @ terms).max(initial=0.0))
        made = cls(lower, upper, E, e, A, b, back, start, rounding)
        return replace(made, start=_feasible(made)) if len(e) else made

    def in_unit(self, exponent: int) -> Constraints:
        """Return the constraints of weights that are divided by 2^exponent."""
        with np.errstate(over="ignore", under="ignore"):
            return replace(
                self,
                lower=_bounds_in_unit(self.lower, exponent),
                upper=_bounds_in_unit(self.upper, exponent),
                e=np.ldexp(self.e, -exponent),
                b=np.ldexp(self.b, -exponent),
                start=_bounds_in_unit(self.start, exponent),
                rounding=float(np.ldexp(self.rounding, -exponent)),
            )

    @property
    def has_equalities(self) -> bool:
        return len(self.e) > 0

    def residual(self, w: np.ndarray) -> float:
        """Return the largest |A w - b| of weights (t, d)."""
        return float(np.abs(w @ self.A.T - self.b).max(initial=0.0))

    def allowed(self, w: np.ndarray, typical: np.ndarray) -> float:
        """Return what each |E w - e| may be by rounding, for weights of which some size is typical.

        The latter matters where all weights are zero, but for rounding.
        """
        size = np.abs(self.e) + np.abs(self.E) @ np.maximum(np.abs(w), NEGLIGIBLE * typical)
        return 16.0 * len(w) ** 0.5 * (EPS * float(size.max(initial=0.0)) + self.rounding)


def _bounds_in_unit(bounds: np.ndarray, exponent: int) -> np.ndarray:
    """Return bounds divided by 2^exponent; finite ones stay finite."""
    most = np.finfo(np.float64).max
    return np.where(np.isfinite(bounds), np.clip(np.ldexp(bounds, -exponent), -most, most), bounds)


def _refuse_empty_ranges(lower: np.ndarray, upper: np.ndarray, names: Sequence[str]) -> None:
    wrong = np.flatnonzero(lower > upper)
    if len(wrong):
        listed = "; ".join(
            f"{names[j]}: lower {lower[j]:g} > upper {upper[j]:g}" for j in wrong[:MOST_NAMED]
        )
        more = f"; and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else ""
        raise ValueError(f"bounds contradict each other for {listed}{more}.")


def _refuse_out_of_reach(lower, upper, A: np.ndarray, b: np.ndarray) -> None:
    """Refuse each row of A w = b that no weights within the bounds satisfy."""
    with np.errstate(invalid="ignore", over="ignore"):
        ends = np.where(A != 0.0, np.stack([A * lower, A * upper]), 0.0)
        least, most = ends.min(axis=0).sum(axis=1), ends.max(axis=0).sum(axis=1)
        size = np.where(np.isfinite(ends), np.abs(ends), 0.0).max(axis=0).sum(axis=1)
    slack = EQUAL * (np.abs(b) + size)
    wrong = np.flatnonzero((b < least - slack) | (b > most + slack))
    if len(wrong):
        i = int(wrong[0])
        raise ValueError(
            f"constraints can't be satisfied: row {i} of A coef = b asks for {b[i]:g}, but within "
            f"the bounds A coef is from {least[i]:g} to {most[i]:g}."
        )


def _independent(
    A: np.ndarray, left: np.ndarray, terms: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return orthonormal E and e with the solutions of A w = left, and the way back from E to A.

    `terms` (m,) has the sizes of what `left` is the difference of.

    Raises
    ------
    ValueError
        If rows of A w = left contradict each other.
    """
    m, d = A.shape
    largest = np.abs(A).max(axis=1, initial=0.0)
    some = np.flatnonzero(largest > 0.0)
    if len(some) == 0:
        return np.zeros((0, d)), np.zeros(0), np.zeros((m, 0))
    rows, largest = A[some] / largest[some, None], largest[some]  # whose squares are in range
    norms = np.linalg.norm(rows, axis=1)
    rows, right = rows / norms[:, None], left[some] / largest / norms
    Q, T, order = qr(rows.T, mode="economic", pivoting=True)
    rank = int((np.abs(np.diag(T)) > REDUNDANT).sum())
    T, Q, first, rest = T[:rank], Q[:, :rank], order[:rank], order[rank:]
    e = solve_triangular(T[:, :rank], right[first], trans="T")
    combined = T[:, rank:].T @ e
    shares = solve_triangular(T[:, :rank], T[:, rank:])  # (rank, others)
    terms = terms[some] / largest / norms
    size = terms[rest] + np.abs(shares).T @ terms[first]
    wrong = np.flatnonzero(
        np.abs(combined - right[rest]) > EQUAL * (size + NEGLIGIBLE * terms.max())
    )
    if len(wrong):
        k = int(wrong[0])
        i, others = int(some[rest[k]]), some[first[_large(shares[:, k])]]
        unit = largest[rest[k]] * norms[rest[k]]
        less = "" if terms[rest[k]] == abs(right[rest[k]]) else " less fixed features"
        raise ValueError(
            f"constraints contradict each other: row {i} of A is a combination of {_rows(others)}, "
            f"from which A coef = {combined[k] * unit:g} there, but b is "
            f"{right[rest[k]] * unit:g}{less}."
        )
    Q[~A.any(axis=0)] = 0.0  # no rounding where A has no numbers
    back = np.zeros((m, rank))
    inverse = solve_triangular(T[:, :rank], np.eye(rank))
    back[some[first]] = inverse / norms[first, None] / largest[first, None]
    return np.ascontiguousarray(Q.T), e, back


def _large(shares: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.abs(shares) > TAKES_PART * np.abs(shares).max(initial=0.0))


def _rows(numbers: np.ndarray) -> str:
    listed = sorted(int(i) for i in numbers)
    shown = ", ".join(map(str, listed[:MOST_NAMED]))
    more = f" and {len(listed) - MOST_NAMED} more" if len(listed) > MOST_NAMED else ""
    return f"{'rows' if len(listed) > 1 else 'row'} {shown}{more}"


def _feasible(constraints: Constraints) -> np.ndarray:
    """Return weights within the bounds that satisfy the equalities.

    Raises
    ------
    ValueError
        If there are none.
    """
    E, e, lower, upper = constraints.E, constraints.e, constraints.lower, constraints.upper
    is_free = upper > lower
    scale = column_scale(np.einsum("ij,ij->j", E, E) * is_free)
    unit = np.where(scale > 0.0, scale, 1.0)
    lasso = Lasso(E * scale, e, np.zeros(len(unit)), lower=lower / unit, upper=upper / unit)
    found = active_set.minimise(lasso, constraints.start / unit)
    w = np.clip(found.u * unit, lower, upper)
    w = np.where(found.u == lasso.least, lower, np.where(found.u == lasso.most, upper, w))
    w = np.where(scale > 0.0, w, constraints.start)
    r = e - E @ w
    size = float(np.linalg.norm(e)) + float(np.linalg.norm(E * w))
    if float(np.linalg.norm(r)) > EQUAL * size + 1e3 * constraints.rounding:
        shares = constraints.back @ r
        rows = _large(shares)
        raise ValueError(
            f"constraints can't be satisfied within the bounds: {_rows(rows)} of A coef = b "
            f"contradict{'s' if len(rows) == 1 else ''} them."
        )
    return w
