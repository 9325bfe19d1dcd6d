"""Least squares for fewer rows than columns: weights A^T u, from the n x n matrix K = A A^T.

    (K + alpha I) u = y,   w = A^T u

gives the ridge solution, and for alpha = 0 the one of least norm, in n^2 d operations, where A^T A
would take n d^2. The Cholesky factor of K, with rows scaled to norm 1, is only a metric: u is
corrected by the residuals y - A w - alpha u of the actual weights (iterative refinement of the
seminormal equations; Demmel and Higham 1993, BIT 33), so that float32 products are good enough for
float32 data. Where the condition number of K, which is the square of A's, spoils the factor, R
comes from a QR decomposition of A^T, and its singular values give the rank.

With an intercept, rows are centred by their mean, and the roots q of the weights are a null vector
of K; a multiple of q q^T is added to K, to which no y - mean has a component.

Cost: K, n^3 / 3, and two or three passes over X. Memory: n^2, and a block of columns of X.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.linalg import blas

from ..kernels.contract import CSR, working_dtype
from ..kernels.device import lives_on_device
from .conjugate import FLOOR_EPS, ROUNDING
from .eigen import svd
from .factors import (
    TINY,
    NotTrustworthy,
    SingularFactor,
    TriangularFactor,
    column_scale,
    upper_of,
)
from .graded import GRADED
from .interrupt import call_kernel
from .moved_weights import move_dense
from .orthogonal import rank_tolerance, upper_of_both
from .row_products import RowProducts, has_row_products
from .rows import as_dense, as_scipy, row_slice, take_rows
from .solution import Solution
from .system import CANCELLATION, NAME_OF, System
from .threaded_products import add_square, square

COLUMN_BLOCK_NUMBERS = 2**20  # of a block of columns: 8 MB
CACHED_NUMBERS = 2**15  # of a block that is read and written several times
# K, its factor and intermediate results, of n^2 numbers each, must fit in memory.
MOST_DUAL_ROWS = 16384
# Up to these condition numbers of A, K is a good metric if its products are float32 or float64.
CONDITION = {"float32": 300.0, "float64": 3e6}
# Squares of rows in this range neither overflow nor underflow in sums.
RANGE = {"float32": (1e-18, 1e30), "float64": (1e-200, 1e200)}
# Rows whose squares differ by less than this factor are of similar size, as in `graded.py`.
ALIKE_ROWS = GRADED**2
REFINEMENTS = 2  # for singular values, which are accurate to eps times the condition number
# If weights differ by more, the rounding error of the mean becomes large.
WEIGHT_RANGE = 1e8
# Up to this many numbers of X, a fit keeps what standard errors need.
EVIDENCE_NUMBERS = 2**17
# Squares of rows about zero may be so many times those about the mean.
NEAR_ZERO = 4.0
# The rounding error of products of float32 rows in the kernels.
ROUGH = 1e-6
# Up to this many multiply-adds or stored numbers, a sparse K is quick and fits in memory.
SPARSE_NUMBERS = 2**22


class WideRows:
    """A = S^(1/2) (X - 1 c^T), rows of weight zero left out, as a matrix of few rows.

    Attributes
    ----------
    root : ndarray of shape (n, 1)
        Roots of the weights.
    null : ndarray of shape (n,) or None
        q: the unit vector that is orthogonal to all columns of A, with an intercept.
    constant : ndarray of shape (k,)
        Numbers of the columns that vary only by rounding; their weights are zero.
    """

    def __init__(self, system: System) -> None:
        if lives_on_device(system.X):
            raise NotTrustworthy("X is not where BLAS is")
        self.system, self.rows = system, None
        s = system.host_weights
        self.n, self.root = system.n, np.ones((system.n, 1))
        if s is not None:
            kept = np.flatnonzero(s)
            self.rows = kept if len(kept) < system.n else None
            self.n, self.root = len(kept), np.sqrt(s[kept].astype(np.float64))[:, None]
        self.is_weighted = bool((self.root != 1.0).any())
        if system.fit_intercept and self.root.max() > WEIGHT_RANGE**0.5 * self.root.min():
            raise NotTrustworthy("rows differ too much in weight")
        system.find_centre()
        if not np.isfinite(system.centre).all():
            raise NotTrustworthy("means overflow")
        self.null = None
        if system.fit_intercept:
            self.null = self.root[:, 0] / np.sqrt(system.weight)
        self.constant = self._constant_columns() if system.fit_intercept else np.zeros(0, int)

    def targets(self) -> np.ndarray:
        """S^(1/2) (y - mean), (n, t)."""
        y = np.asarray(self.system.y if self.rows is None else self.system.y[self.rows])
        out = y.astype(np.float64) - self.system.y_centre
        out *= self.root
        return self.without_null(out)

    def _constant_columns(self) -> np.ndarray:
        """The columns that vary only by rounding, among those that hardly vary in a sample."""
        system = self.system
        sample, centre = system.few_rows, system.centre
        columns = np.arange(system.d)
        if isinstance(sample, CSR):
            # A zero is far from any mean but zero, and a column of zeros has a product of zero.
            counts = np.bincount(sample.indices, minlength=system.d)
            columns = np.flatnonzero(counts == sample.shape[0])
            if len(columns) == 0:
                return columns
            values = as_scipy(sample)[:, columns].toarray()
            low, high = values.min(axis=0), values.max(axis=0)
        else:
            low, high = system.few_extremes
        apart = np.maximum(high - centre[columns], centre[columns] - low)
        doubtful = columns[apart <= 2.0**20 * system.eps * np.abs(centre[columns])]
        if len(doubtful) == 0:
            return doubtful
        norms = np.full(system.d, np.inf)
        norms[doubtful] = np.sqrt(system.squares_of(doubtful))
        constant, hidden = system.constant_columns(norms)
        if len(hidden):
            raise NotTrustworthy("rows differ too much in weight")
        return constant

    # ------------------------------------------------------------------------------- passes

    def gram(self, dtype: str) -> np.ndarray:
        """The upper triangle of K, from products of this dtype, with the multiple of q q^T added.

        Raises
        ------
        NotTrustworthy
            If squares overflow or underflow, or K is too large.
        """
        if self.n > MOST_DUAL_ROWS:
            raise NotTrustworthy("A A^T would not fit in memory")
        K = self._sparse_gram(dtype) if isinstance(self.system.X, CSR) else self._gram(dtype)
        squares = K.diagonal()
        refuse_range(squares, dtype)
        if self.null is not None:
            filled = (np.sqrt(squares.mean(dtype=np.float64)) * self.null).astype(dtype)
            syr = blas.ssyr if dtype == "float32" else blas.dsyr
            K = syr(1.0, filled, a=K, overwrite_a=1)
        return K

    def _gram(self, dtype: str) -> np.ndarray:
        if self.is_near_zero and self.system.X.dtype == dtype:
            K = self._gram_about_zero()
            if K is not None:
                return K
        K, root = np.zeros((self.n, self.n), dtype, order="F"), self.root.astype(dtype)
        for _, B in self.centred_blocks(dtype, root):
            add_square(K, B.T, self.system.n_threads)
        return K

    @cached_property
    def is_near_zero(self) -> bool:
        """Whether products of the rows as they are will do for those about their mean.

        A few rows show it, of a dense X without weights.
        """
        X, c = self.system.X, self.system.centre
        if isinstance(X, CSR) or self.is_weighted or self.rows is not None:
            return False
        if self.null is None:
            return True
        sample = as_dense(self.system.few_rows)
        squares = np.sort(np.einsum("ij,ij->i", sample, sample))
        return bool((c @ c) <= 0.5 * squares[len(squares) // 2])

    def _gram_about_zero(self) -> np.ndarray | None:
        """K from X X^T, less the means of its rows and columns: no block of X is copied.

        None where these means are most of a row's square, and would leave it rounded more coarsely.
        """
        X = self.system.X
        assert not isinstance(X, CSR)
        K = square(X, self.system.n_threads)
        if self.null is None:
            return K.T  # in the order of LAPACK
        raw = K.diagonal().copy()
        mean = np.add.reduce(K, axis=0) / K.dtype.type(self.n)
        mean -= 0.5 * mean.mean()
        for part in slices(0, self.n, max(1, CACHED_NUMBERS // self.n)):  # a block stays in cache
            block = K[part]
            block -= mean
            block -= mean[part, None]
        return K.T if (raw <= NEAR_ZERO * K.diagonal()).all() else None

    def triangle(self) -> np.ndarray:
        """R of a QR decomposition of A^T without its component along q; 2 n^2 d flops."""
        if self.n > MOST_DUAL_ROWS:
            raise NotTrustworthy("R would not fit in memory")
        upper = np.zeros((0, self.n))
        for _, B in self.centred_blocks("float64", self.root, 2 * self.n):
            upper = upper_of_both(upper, B.T)
        return self.without_null(upper.T).T

    def centred_blocks(
        self, dtype: str, root: np.ndarray, least: int = 8
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """Blocks of at least `least` columns of A, each valid until the next one is requested."""
        centre = self.system.centre.astype(dtype)
        step = max(least, self._step)
        buffer = np.empty(self.n * min(step, self.system.d), dtype)
        for columns in slices(0, self.system.d, step):
            width = columns.stop - columns.start
            B = buffer[: self.n * width].reshape(self.n, width)
            if self.system.fit_intercept and B.dtype == working_dtype(self.system.X):
                np.subtract(self._part(columns), centre[columns], out=B)
            else:
                B[:] = self._part(columns)
                B -= centre[columns]
            if self.is_weighted:
                B *= root
            B[:, self._constant_in(columns)] = 0.0
            yield columns, B

    @property
    def _step(self) -> int:
        return max(8, COLUMN_BLOCK_NUMBERS // self.n)

    def _constant_in(self, columns: slice) -> np.ndarray:
        """Where the constant columns are in this block."""
        first, last = np.searchsorted(self.constant, (columns.start, columns.stop))
        return self.constant[first:last] - columns.start

    def _part(self, columns: slice) -> np.ndarray:
        X = self.system.X
        if isinstance(X, CSR):
            return self._sparse[:, columns].toarray()
        return X[:, columns] if self.rows is None else X[self.rows, columns]

    @cached_property
    def _sparse(self) -> sparse.csr_array:
        return as_scipy(self.sparse_rows(0, self.n), working_dtype(self.system.X))

    def without_null(self, columns: np.ndarray) -> np.ndarray:
        """Remove from columns (n, k), in place, their component along q: the mean, or its rounding.

        The mean of float32 rows may be no better than float32.
        """
        if self.null is not None:
            columns -= self.null[:, None] * (self.null @ columns)
        return columns

    def move(self, coef: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Add A^T u to coef (t, d); return A coef^T, (n, t), up to multiples of q.

        It takes one pass over dense X, and two over sparse X.
        """
        u = u * self.root
        if isinstance(self.system.X, CSR):
            out = self._sparse_move(coef, u)
        else:
            system = self.system
            assert not isinstance(system.X, CSR)
            kept = system.centre, self.constant
            out = move_dense(system.X, self.rows, coef, u, *kept, system.kernels, system.n_threads)
        out -= coef @ self.system.centre
        out *= self.root
        return out

    def move_a_little(self, coef: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Add A^T u to coef; return A (A^T u)^T, (n, t), up to multiples of q.

        Both are products of the kernels, which are partly float32 ones for float32 data. That takes
        half the time, and is good enough for a correction that is small beside the weights.
        """
        system = self.system
        u = u * self.root
        zero = np.zeros_like(coef)
        part = system._call(system.X, -u, zero, np.zeros(system.t), None).coef
        part *= self.n
        part -= np.outer(u.sum(axis=0), system.centre)
        part[:, self.constant] = 0.0
        coef += part
        b = -(part @ system.centre)
        per_number, n_threads = system.t, system.pass_threads
        out = call_kernel(system.kernels.predict, per_number, system.X, part, b, n_threads)
        return np.asarray(out, np.float64) * self.root

    def fitted(self, coef: np.ndarray, out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return A coef^T, (n, t), from what is so up to multiples of q, and the intercept."""
        intercept = self.system.intercept_for(coef)
        if self.null is not None:
            intercept -= (self.null @ out) / np.sqrt(self.system.weight)
        return self.without_null(out.copy()), intercept

    def evidence(self) -> SingularFactor | None:
        """What standard errors need, for a fit whose A is small enough to be kept."""
        system = self.system
        small = self.n * system.d <= EVIDENCE_NUMBERS
        if not small or system.alpha > 0.0 or system.t > 1:
            return None
        A = np.empty((self.n, system.d))
        for columns, B in self.centred_blocks("float64", self.root):
            A[:, columns] = B
        scale = column_scale(np.einsum("ij,ij->j", A, A))
        return SingularFactor(A * scale, scale)

    # ------------------------------------------------------------------------------- sparse

    @cached_property
    def sparse_products(self) -> RowProducts | None:
        """Compiled products of the sparse rows that count, unless they need much memory."""
        X, kernels = self.system.X, self.system.kernels
        if not isinstance(X, CSR) or not has_row_products(kernels, X):
            return None
        if self.rows is not None and self.system.stored > SPARSE_NUMBERS:
            return None
        return RowProducts(kernels, self.sparse_rows(0, self.n), self.system.t)

    def _sparse_move(self, coef: np.ndarray, u: np.ndarray) -> np.ndarray:
        products = self.sparse_products
        if products is not None:
            coef += products.sums(u.T)
            coef -= np.outer(u.sum(axis=0), self.system.centre)
            coef[:, self.constant] = 0.0
            return products.dots(coef).T
        out = np.empty(u.shape)
        for rows, A in self.sparse_chunks():
            coef += (A.T @ u[rows]).T
        coef -= np.outer(u.sum(axis=0), self.system.centre)
        coef[:, self.constant] = 0.0
        for rows, A in self.sparse_chunks():
            out[rows] = A @ coef.T
        return out

    def sparse_chunks(self) -> Iterator[tuple[slice, sparse.csr_array]]:
        """The rows of X that count, in float64, a few at a time."""
        step = max(1, SPARSE_NUMBERS * self.n // (4 * max(self.system.stored, 1)))
        for start in range(0, self.n, step):
            stop = min(start + step, self.n)
            yield slice(start, stop), as_scipy(self.sparse_rows(start, stop))

    def sparse_rows(self, start: int, stop: int) -> CSR:
        if self.rows is None:
            rows = row_slice(self.system.X, start, stop)
        else:
            rows = take_rows(self.system.X, self.rows[start:stop])
        assert isinstance(rows, CSR)
        return rows

    def _sparse_gram(self, dtype: str) -> np.ndarray:
        X = self.system.X
        assert isinstance(X, CSR)
        if self.system.stored > SPARSE_NUMBERS + self.n**2 // 4:
            raise NotTrustworthy("a copy of X would take much memory")
        if _sparse_work(X) > SPARSE_NUMBERS * 2.0**8:
            raise NotTrustworthy("A A^T costs more than passes over X")
        A = as_scipy(self.sparse_rows(0, self.n), dtype)
        A_T, K = A.T.tocsr(), np.empty((self.n, self.n), dtype, order="F")
        step = max(1, SPARSE_NUMBERS // self.n)
        for start in range(0, self.n, step):
            K[:, start : start + step] = (A[start : start + step] @ A_T).toarray().T
        if self.null is not None:
            c = self.system.centre
            raw = K.diagonal().astype(np.float64)
            shift = (A @ c.astype(dtype))[:, None] - np.asarray(0.5 * (c @ c), dtype)
            K -= shift
            K -= shift.T
            if (raw > CANCELLATION * K.diagonal()).any():
                raise NotTrustworthy("the mean of the rows outweighs them")
        root = self.root.astype(dtype)
        K *= root
        K *= root.T
        return K


def slices(start: int, stop: int, step: int) -> Iterator[slice]:
    for first in range(start, stop, step):
        yield slice(first, min(first + step, stop))


def refuse_range(squares: np.ndarray, dtype: str) -> None:
    low, high = RANGE[dtype]
    if not ((squares > low) & (squares < high)).all():
        raise NotTrustworthy("squares of rows overflow or underflow, or a row is zero")


def _sparse_work(X: CSR) -> float:
    """Multiply-adds of X X^T: the squares of the numbers of each column."""
    ends = np.asarray(X.indptr)
    indices = np.asarray(X.indices[int(ends[0]) : int(ends[-1])])
    counts = np.bincount(indices, minlength=X.shape[1]).astype(np.float64)
    return float(counts @ counts)


def wide_rows(system: System) -> WideRows:
    """The `WideRows` of this system, made once for all its penalties."""
    if system.wide is None:
        system.wide = WideRows(system)
    return system.wide


# ---------------------------------------------------------------------------------- the dual


class RowMetric:
    """(K + alpha I)^-1, as far as `refined` needs it.

    Attributes
    ----------
    squares : ndarray of shape (n,)
        The squares of the rows of A.
    scale : ndarray of shape (n, 1)
        The reciprocals of the norms of the rows of [A, sqrt(alpha) I].
    condition : float
        An estimate of the condition number of these rows, scaled.
    hidden : float
        By how much a residual may be smaller than what the weights still lack.
    """

    squares: np.ndarray
    scale: np.ndarray
    condition: float

    @property
    def hidden(self) -> float:
        return 1.0

    def solve(self, e: np.ndarray, losses: list[float]) -> np.ndarray:
        """Return a correction of u; add the objective before each pass that this takes."""
        raise NotImplementedError

    def aim(self, share: float, left: int) -> None:
        """Prepare the next `solve`: the share to which e has to shrink, and the passes left."""


class RowFactor(RowMetric):
    """(K + alpha I)^-1, for a metric, from R with R^T R = D (K + alpha I) D, rows of norm 1."""

    def __init__(self, upper: np.ndarray, squares: np.ndarray, scale: np.ndarray) -> None:
        self._factor = TriangularFactor(upper, scale)
        self.squares, self.condition, self.scale = squares, self._factor.condition, scale[:, None]

    def solve(self, e: np.ndarray, losses: list[float]) -> np.ndarray:
        return self._factor.unwhiten(self._factor.whiten(e.T)).T


class CholeskyFactor(RowFactor):
    def __init__(self, K: np.ndarray, alpha: float) -> None:
        squares = K.diagonal().astype(np.float64)
        scale = 1.0 / np.sqrt(squares + alpha)
        own = scale.astype(K.dtype)
        M, step = np.empty_like(K), max(1, CACHED_NUMBERS // len(K))  # in the order of LAPACK
        for part in slices(0, len(K), step):
            np.multiply(K[:, part], own[part], out=M[:, part])
            M[:, part] *= own[:, None]
        M.flat[:: len(M) + 1] = 1.0
        upper = upper_of(M.T)
        if upper is None:
            raise NotTrustworthy("A A^T is not positive definite")
        super().__init__(upper.astype(np.float64, order="F", copy=False), squares, scale)
        if self.condition > CONDITION[NAME_OF[K.dtype]]:
            raise NotTrustworthy("the condition's square exceeds what rounding leaves")


def solve_dual(system: System, *, tol: float, max_iter: int) -> Solution:
    """Solve by the Cholesky factor of K, which is tried in float32 first where X is float32.

    Raises
    ------
    NotTrustworthy
        If K is singular to rounding, or refinement does not reach the rounding of residuals.
    """
    rows = wide_rows(system)
    for dtype in dict.fromkeys((NAME_OF[working_dtype(system.X)], "float64")):
        try:
            factor = CholeskyFactor(row_gram(rows, dtype), system.alpha)
            return refined("dual", rows, factor, tol, max_iter)
        except NotTrustworthy as error:
            refused = error
    raise refused


def row_gram(rows: WideRows, dtype: str) -> np.ndarray:
    """The upper triangle of K, computed once; one in float64 is also used for float32."""
    kept = rows.system.row_grams
    if "float64" in kept:
        return kept["float64"]
    if dtype not in kept:
        kept[dtype] = rows.gram(dtype)
    return kept[dtype]


def refined(name: str, rows: WideRows, factor: RowMetric, tol: float, max_iter: int) -> Solution:
    """Correct u by the actual residuals, until they are rounding, or as small as requested.

    The residual of each row is judged by the size of that row, so that large rows do not hide
    others. Their sum is judged as in `conjugate.py`: A^T e in the metric of A^T A + alpha I, which
    is e in that of K / (K + alpha), by its size at zero weights and by the residuals.
    """
    system, alpha = rows.system, rows.system.alpha
    rounding = ROUNDING[NAME_OF[working_dtype(system.X)]]
    y, last = rows.targets(), np.inf
    u, coef, e, out = np.zeros_like(y), np.zeros((system.t, system.d)), y, np.zeros_like(y)
    largest = factor.squares.sum()
    scaled_y = np.sqrt(_squares(y * factor.scale))
    visible = float(np.sqrt(largest / (largest + alpha)))
    losses: list[float] = []
    before, unit, passes = system.passes, None, 0
    factor.aim(max(tol, rounding), max_iter)
    while True:
        move = rows.without_null(factor.solve(e, losses))
        u += move
        if last * ROUGH <= 0.1 * rounding and rows.is_near_zero:
            out += rows.move_a_little(coef, move)
        else:
            out = rows.move(coef, move)
        fitted, intercept = rows.fitted(coef, out)
        system.passes += 1
        r = y - fitted
        e = r - alpha * u
        squares, penalty = _squares(r), alpha * (coef * coef).sum(axis=1)
        losses.append(0.5 * system.total(squares + penalty))
        if unit is None:
            unit = np.sqrt(_squares(fitted) + penalty)
        ratio = _largest(np.sqrt(_squares(e * factor.scale)), scaled_y)
        relative = _largest(visible * np.sqrt(_squares(e)), unit)
        if not np.isfinite(ratio):
            raise NotTrustworthy("sums overflow")
        share = _least(np.sqrt(squares + penalty), unit)
        asked = max(tol, rounding) / factor.hidden
        allowed = max(asked * share, rounding)
        asked = max(asked, rounding)
        converged = relative <= allowed and ratio <= asked
        has_stalled = not ratio <= 0.5 * last
        passes = system.passes - before
        if converged or has_stalled or passes >= max_iter:
            break
        last = ratio
        factor.aim(min(allowed / max(relative, TINY), asked / max(ratio, TINY)), max_iter - passes)
    if has_stalled and not converged:
        converged = _is_rounding(rows, factor, e, coef, u, y)
        if not converged:
            raise NotTrustworthy("the refinement does not get there")
    return Solution(
        coef,
        intercept,
        name,
        passes,
        factor.condition,
        np.sqrt(squares),
        losses,
        relative,
        converged,
        centre=system.centre,
        rank=rows.n - (rows.null is not None),
        singular=rows.evidence(),
    )


def _is_rounding(rows: WideRows, factor: RowMetric, e, coef, u, y) -> bool:
    """Whether each residual is due to rounding of y, b, c . w, x . w and alpha u in its row."""
    system = rows.system
    shift = np.abs(system.y_centre) + 2.0 * np.abs(coef) @ np.abs(system.centre)
    terms = np.outer(np.sqrt(factor.squares), np.sqrt((coef * coef).sum(axis=1)))
    size = np.abs(y) + rows.root * shift + terms + system.alpha * np.abs(u)
    left, floor = np.sqrt(_squares(e * factor.scale)), np.sqrt(_squares(size * factor.scale))
    return bool((left <= FLOOR_EPS["float64"] * floor).all())


def _squares(columns: np.ndarray) -> np.ndarray:
    if columns.shape[1] == 1:  # in a quarter of the time
        column = columns[:, 0]
        return np.array([column @ column])
    return np.einsum("it,it->t", columns, columns)


def _largest(part: np.ndarray, unit: np.ndarray) -> float:
    """The largest part / unit, or part where the unit is zero."""
    return float((part / np.where(unit > 0.0, unit, 1.0)).max())


def _least(part: np.ndarray, unit: np.ndarray) -> float:
    """The least part / unit, but at most 1."""
    return float(np.where(unit > 0.0, part / np.where(unit > 0.0, unit, 1.0), 1.0).min(initial=1.0))


# -------------------------------------------------------------------------------------- by QR


def solve_rows_by_qr(system: System, *, tol: float, max_iter: int) -> Solution:
    """Solve by R of a QR decomposition of A^T, or its singular values where rows are dependent.

    Cost: 2 n^2 d flops; memory for a block of columns and for R.

    Raises
    ------
    NotTrustworthy
        If squares overflow or underflow, or dependent rows differ much in size.
    """
    rows = wide_rows(system)
    upper = rows.triangle()
    squares = np.einsum("ij,ij->j", upper, upper)
    refuse_range(squares, "float64")
    try:
        return refined("qr", rows, _TriangularRows(rows, upper, squares), tol, max_iter)
    except NotTrustworthy:
        if squares.max() > ALIKE_ROWS * squares.min():
            raise
    return _of_singular_values(rows, upper)


class _TriangularRows(RowFactor):
    """A metric from R of A^T, with the rows of the penalty and the null vector below it."""

    def __init__(self, rows: WideRows, upper: np.ndarray, squares: np.ndarray) -> None:
        alpha = rows.system.alpha
        scale = 1.0 / np.sqrt(squares + alpha)
        below = [np.zeros((0, rows.n))]
        if rows.null is not None:
            below.append((np.sqrt(squares.mean()) * rows.null)[None])
        if alpha > 0.0:
            below.append(np.sqrt(alpha) * np.eye(rows.n))
        upper = upper_of_both(upper, np.vstack(below)) * scale
        if len(upper) < rows.n:
            raise NotTrustworthy("fewer columns than rows")
        super().__init__(np.asfortranarray(upper), squares, scale)
        if self.condition * rank_tolerance(rows.system.d) > 1.0:
            raise NotTrustworthy("rows depend on each other to rounding")


def _of_singular_values(rows: WideRows, upper: np.ndarray) -> Solution:
    """The solution of least norm, in the directions of A that exceed rounding, corrected once more
    by the actual residuals."""
    system, alpha = rows.system, rows.system.alpha
    _, sigma, Vt = svd(upper)
    keep = sigma > rank_tolerance(system.d) * sigma.max(initial=0.0)
    sigma, V = sigma[keep], Vt[keep].T
    y, coef = rows.targets(), np.zeros((system.t, system.d))
    u, e, losses = np.zeros_like(y), y, []
    inner, seen = 1.0 / (sigma * sigma + alpha), sigma / np.sqrt(sigma * sigma + alpha)
    for _ in range(REFINEMENTS):
        move = V @ (inner[:, None] * (V.T @ e))
        u += move
        fitted, intercept = rows.fitted(coef, rows.move(coef, move))
        r = y - fitted
        e = r - alpha * u
        system.passes += 1
        losses.append(0.5 * system.total(_squares(r) + alpha * (coef * coef).sum(axis=1)))
    if not np.isfinite(coef).all():
        raise NotTrustworthy("sums overflow")
    left, unit = (np.sqrt(_squares(seen[:, None] * (V.T @ part))) for part in (e, y))
    return Solution(
        coef,
        intercept,
        "qr",
        REFINEMENTS,
        float(sigma[0] / sigma[-1]) if len(sigma) else 1.0,
        np.sqrt(_squares(r)),
        losses,
        _largest(left, unit),
        True,
        centre=system.centre,
        rank=len(sigma),
        singular=rows.evidence(),
    )
