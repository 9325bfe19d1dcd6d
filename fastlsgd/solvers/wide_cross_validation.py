"""Cross-validation of ridge for fewer rows than columns: all penalties from one n x n matrix.

Let K = A A^T of the centred rows and p a penalty. Then C = (K + p I)^-1, on the complement of the
intercept's direction, is all that is needed to leave rows out: the residuals of the rows T, as
predicted by a fit to the others, are

    e_T = C_TT^-1 (C y)_T                                   y_i - prediction, by sqrt(s_i)

(for one row, [C y]_i / C_ii: Allen 1974, Technometrics 16(1); Golub, Heath and Wahba 1979,
Technometrics 21(2)). p is the penalty of the fit to the others, alpha (S - S_T). Nothing cancels
when p tends to zero, unlike in r / (1 - h), where both r and 1 - h tend to zero. One
eigendecomposition K = V diag(values) V^T serves all penalties. Where the condition number of K
would affect the errors, V and the roots of the values are the singular vectors and values of R,
where A^T = Q R.

A fit to rows that repeat, or that are not all the others, has its own matrix: the rows and columns
of K about the mean of those rows.

Cost: K, its eigenvectors, and for each penalty n^2 (leave-one-out) or n m^2 for folds of m rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..kernels.device import lives_on_device
from .eigen import eigh, svd
from .factors import EPS, TINY, NotTrustworthy
from .refits import ACCURACY, Task, is_division, penalties_without, penalty_series
from .regression import make_system
from .threaded_products import product
from .wide import MOST_DUAL_ROWS, WideRows, row_gram, wide_rows

# The error due to a condition number of K + p I, or of R; it must be below `ACCURACY`.
ROW_GRAM_CONDITION = 1e6
TRIANGLE_CONDITION = 4e6


def is_wide(task: Task) -> bool:
    """Whether the n x n matrix is smaller than the d x d one, and fits in memory."""
    n, d = task.problem.X.shape
    return n < d and n <= MOST_DUAL_ROWS and not lives_on_device(task.problem.X)


class Spectrum:
    """C = V diag(1 / (values + p)) V^T, and its rounding error.

    Attributes
    ----------
    values : ndarray of shape (k,)
        Eigenvalues of K on the complement of the intercept's direction; not negative.
    V : ndarray of shape (n, k)
    slopes : ndarray of shape (k, t)
        V^T y.
    """

    def __init__(self, values: np.ndarray, V: np.ndarray, y: np.ndarray, squared: bool) -> None:
        self.values, self.V, self.squared = np.maximum(values, 0.0), V, squared
        self.slopes = product(V.T, y)

    def noise(self, penalties: np.ndarray) -> np.ndarray:
        """The relative error of C for each penalty; infinite where its rank is not clear."""
        high, low = self.values.max(initial=0.0), self.values.min(initial=np.inf)
        with np.errstate(divide="ignore"):
            ratio = (high + penalties) / np.maximum(low + penalties, 0.0)
        limit = ROW_GRAM_CONDITION if self.squared else TRIANGLE_CONDITION**2
        condition = ratio if self.squared else np.sqrt(ratio)
        return np.where(ratio <= limit, EPS * condition, np.inf)


class WideValidation:
    """The errors of rows that are left out, for many penalties."""

    def __init__(self, task: Task) -> None:
        self.task, self.system = task, make_system(task.kernels, task.problem, task.n_threads)
        self.rows: WideRows = wide_rows(self.system)
        self.y = self.rows.targets()
        counted = np.flatnonzero(task.weights)
        self.weights = task.weights[counted]
        self.place = np.full(self.system.n, -1)
        self.place[counted] = np.arange(len(counted))
        self.gram = self._centred_gram()

    def _centred_gram(self) -> np.ndarray:
        K = row_gram(self.rows, "float64")
        K = np.triu(K) + np.triu(K, 1).T
        return _without(K, self.rows.null)

    def _spectra(self) -> Iterator[Spectrum]:
        """Spectra from K, and then from R, which is accurate for larger condition numbers."""
        yield Spectrum(*_spectrum_without(self.gram, self.rows.null), self.y, squared=True)
        R, null = self.rows.triangle(), self.rows.null
        if null is None:
            _, sigma, Vt = svd(R)
        else:  # as in `_spectrum_without`
            _, sigma, Vt = svd(np.vstack([R, _beyond(R) * null]))
            sigma, Vt = sigma[1:], Vt[1:]
        yield Spectrum(sigma**2, Vt.T, self.y, squared=False)

    def leave_one_out(self, alphas: np.ndarray) -> np.ndarray:
        """Sums of squared errors over rows and targets, (n_alphas,); NaN where formulas fail."""
        total = np.full(len(alphas), np.nan)
        for spectrum in self._spectra():
            still = np.flatnonzero(np.isnan(total))
            noise = spectrum.noise(penalties_without(self.task, alphas[still], self.weights.max()))
            served = still[noise < ACCURACY]
            if len(served):
                total[served] = self._one_out(spectrum, alphas[served], noise[noise < ACCURACY])
            if not np.isnan(total).any():
                break
        return total

    def _one_out(self, spectrum: Spectrum, alphas: np.ndarray, noise: np.ndarray) -> np.ndarray:
        cy, diagonal = self._at_penalties(spectrum, alphas)
        with np.errstate(divide="ignore", invalid="ignore"):
            errors = cy / diagonal[:, :, None]
            spread = diagonal.max(axis=0) / diagonal.min(axis=0)
        total = np.einsum("iat,iat->a", errors, errors)
        return np.where(noise * spread <= ACCURACY, total, np.nan)

    def _at_penalties(self, spectrum: Spectrum, alphas: np.ndarray):
        """C y (n, n_alphas, t) and the diagonal of C (n, n_alphas), with a penalty for each row.

        As in leave_one_out.py, it is a power series where weights are small compared with their
        sum.
        """
        n, t = self.y.shape
        series = penalty_series(self.task, self.weights)
        cy, diagonal = np.zeros((n, len(alphas), t)), np.zeros((n, len(alphas)))
        squared = spectrum.V**2
        if series.is_short:
            penalties = penalties_without(self.task, alphas, series.middle)
            F = 1.0 / np.add.outer(spectrum.values, penalties)
            step, power = -F * penalties, np.ones((n, 1))
            for _ in range(series.n_terms):
                turned = (F[:, :, None] * spectrum.slopes[:, None, :]).reshape(len(F), -1)
                cy += (product(spectrum.V, turned) * power).reshape(cy.shape)
                diagonal += product(squared, F) * power
                F, power = F * step, power * series.shift[:, None]
            return cy, diagonal
        for k, alpha in enumerate(alphas):
            F = 1.0 / np.add.outer(
                penalties_without(self.task, alpha, self.weights), spectrum.values
            )
            diagonal[:, k] = np.einsum("ik,ik->i", squared, F)
            F *= spectrum.V
            cy[:, k] = F @ spectrum.slopes
        return cy, diagonal

    # ----------------------------------------------------------------------------------- folds

    def folds(self, alphas: np.ndarray, folds) -> Iterator[np.ndarray]:
        """Sums of squared errors on the rows to judge, (n_alphas,), of each fold; NaN likewise."""
        spectrum = None
        for train, test in folds:
            if is_division(self.system.n, train, test):
                if spectrum is None:
                    spectrum = next(self._spectra())
                yield self._fold_out(spectrum, alphas, test)
            else:
                yield self._apart(alphas, train, test)

    def _fold_out(self, spectrum: Spectrum, alphas: np.ndarray, test: np.ndarray) -> np.ndarray:
        """The errors of a fold whose fit uses all other rows."""
        T = self.place[test]
        T = T[T >= 0]
        V, total = spectrum.V[T], np.full(len(alphas), np.nan)
        penalties = penalties_without(self.task, alphas, self.weights[T].sum())
        for k, noise in enumerate(spectrum.noise(penalties)):
            if not noise < ACCURACY:
                continue
            F = 1.0 / (spectrum.values + penalties[k])
            C, cy = product(V * F, V.T), V @ (F[:, None] * spectrum.slopes)
            squares = C.diagonal()
            if noise * squares.max() > ACCURACY * squares.min():
                continue
            errors = np.linalg.solve(C, cy)
            total[k] = float(np.vdot(errors, errors))
        return total

    def _apart(self, alphas: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
        """The errors of a fold whose fit uses any rows, which may repeat."""
        counts = np.bincount(self.place[train][self.place[train] >= 0], minlength=len(self.weights))
        R, T = np.flatnonzero(counts), self.place[test]
        T = T[T >= 0]
        repeats, own = np.sqrt(counts[R])[:, None], self.rows.root
        K, null = repeats * self.gram[np.ix_(R, R)] * repeats.T, None
        y, judged = repeats * self.y[R], self.y[T].copy()
        cross = self.gram[np.ix_(T, R)] * repeats.T
        before = max(K.diagonal().max(initial=0.0), self.gram.diagonal()[T].max(initial=0.0))
        if self.rows.null is not None:
            root = repeats[:, 0] * own[R, 0]
            null = root / np.linalg.norm(root)
            # Centre the rows to score on, their targets, and K by the mean of these rows.
            cross -= np.outer(own[T, 0], (null @ K) / np.linalg.norm(root))
            judged -= np.outer(own[T, 0], (null @ y) / np.linalg.norm(root))
            K, y = _without(K, null), y - np.outer(null, null @ y)
            cross -= np.outer(cross @ null, null)
        spectrum = Spectrum(*_spectrum_without(K, null), y, squared=True)
        weight = float(self.weights @ counts)
        penalties = penalties_without(self.task, alphas, self.task.total_weight - weight)
        # Centring by the mean of the fitted rows leaves the rounding of what they were before.
        grown = max(1.0, before / max(spectrum.values.max(initial=0.0), TINY))
        noise, turned = grown * spectrum.noise(penalties), product(cross, spectrum.V)
        total = np.full(len(alphas), np.nan)
        size = max(float(np.vdot(judged, judged)), float(np.vdot(y, y)))
        for k in np.flatnonzero(noise < ACCURACY):
            fitted = turned @ (spectrum.slopes / (spectrum.values + penalties[k])[:, None])
            errors = judged - fitted
            squares = float(np.vdot(errors, errors))
            if squares >= (noise[k] / ACCURACY) ** 2 * size:
                total[k] = squares
        return total


def _without(K: np.ndarray, null: np.ndarray | None) -> np.ndarray:
    """H K H of a symmetric K, in place, with H = I - q q^T."""
    if null is None:
        return K
    moved = K @ null
    K -= np.outer(null, moved)
    K -= np.outer(moved - (null @ moved) * null, null)
    return K


def _spectrum_without(K: np.ndarray, null: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and eigenvectors of a symmetric K on the complement of a null vector of K.

    The null vector gets the largest eigenvalue, which is left out. With its own, which is zero, it
    would be mixed with the vectors of other eigenvalues as small as rounding.
    """
    if null is None:
        return eigh(K)
    values, V = eigh(K + _beyond(K) * np.outer(null, null))
    return values[:-1], V[:, :-1]


def _beyond(A: np.ndarray) -> float:
    """A number beyond the largest singular value of A, and not much larger."""
    return 1.5 * float(np.linalg.norm(A)) or 1.0


def wide_leave_one_out(task: Task, alphas: np.ndarray) -> np.ndarray:
    """`WideValidation.leave_one_out`, or NaN for all penalties where K can't be computed."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            return WideValidation(task).leave_one_out(alphas)
    except NotTrustworthy:
        return np.full(len(alphas), np.nan)


def wide_folds(task: Task, alphas: np.ndarray, folds: list) -> Iterator[np.ndarray]:
    """`WideValidation.folds`, or NaN for all penalties where K can't be computed."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            yield from WideValidation(task).folds(alphas, folds)
    except NotTrustworthy:
        yield from (np.full(len(alphas), np.nan) for _ in folds)
