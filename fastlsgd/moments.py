"""`Moments`: what one pass over rows leaves for every least-squares fit to them."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np

from . import _validation as check
from ._moments_file import read_moments, write_moments
from ._sklearn_compat import check_feature_names
from .kernels import resolve
from .kernels.contract import Kernels, Matrix, working_dtype
from .kernels.device import lives_on_device, ndim
from .solvers.factors import TINY, NotTrustworthy
from .solvers.moments import Lost, Sums, plain_products, read, varying
from .solvers.training import TrainingData

FACTORS = ("gram", "qr")


class Moments:
    """Mean and products of rows, from which all least-squares fits to them can be made.

    They are collected a chunk of rows at a time, and added up over chunks, files and machines: the
    sum over any tree of parts is that of one pass, to rounding. Ridge for every alpha, lasso paths,
    cross-validation by folds and standard errors need nothing else; see
    :meth:`LeastSquaresRegressor.fit_moments` and :meth:`LeastSquaresCV.fit_moments`.

    Parameters
    ----------
    factor : {"gram", "qr"}, default="gram"
        "gram" keeps X^T S X about the mean. Weights from it have an error of some 1e-16 times the
        square of the condition of the scaled columns, and beyond a condition of 3e6 it says that
        it can't tell. "qr" keeps the factor R of a QR decomposition instead, whose error grows with
        the condition itself; it takes about ten times as long.

    Attributes
    ----------
    factor : str
    n_samples : int
        Number of rows of positive weight.
    n_features : int
        Number of columns of X; 0 as long as there were no rows.
    n_targets : int
    weight : float
        Sum of the sample weights.
    x_mean : ndarray of shape (n_features,)
        Weighted mean of the rows.
    y_mean : float or ndarray of shape (n_targets,)
    xx : ndarray of shape (n_features, n_features)
        Weighted products of the columns about their means.
    xy : ndarray of shape (n_features,) or (n_features, n_targets)
        Products of the columns and y.
    yy : float or ndarray of shape (n_targets,)
        Squares of y about its mean.
    dtype : dtype
        float32 if all X had float32 or narrower floats, else float64: that of fitted weights.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns, where X has names that are all strings.

    See Also
    --------
    gram : The sums of one call, about an origin of one's own.

    Notes
    -----
    Means are merged as in [1]_, and counted from an origin near the rows, so that columns may lie
    1e8 standard deviations from zero. Rows of weight zero are as if they were absent.

    References
    ----------
    .. [1] Chan, Golub, LeVeque (1983), "Algorithms for computing the sample variance", The American
       Statistician 37(3).

    Examples
    --------
    >>> import numpy as np
    >>> from fastlsgd import LeastSquaresRegressor, Moments
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(1000, 3))
    >>> y = X @ [1.0, 2.0, 3.0] + 5.0
    >>> monday, tuesday = Moments.from_data(X[:400], y[:400]), Moments.from_data(X[400:], y[400:])
    >>> both = monday + tuesday
    >>> both.n_samples, both.n_features
    (1000, 3)
    >>> model = LeastSquaresRegressor().fit_moments(both)
    >>> model.coef_.round(6).tolist(), round(model.intercept_, 6)
    ([1.0, 2.0, 3.0], 5.0)
    """

    feature_names_in_: np.ndarray

    def __init__(self, *, factor: str = "gram") -> None:
        self.factor = check.check_choice(factor, "factor", FACTORS)
        self.dtype = self.target_dtype = np.dtype(np.float32)  # the narrowest, until there are rows
        self.has_one_target = True
        self.sums: Sums | None = None

    @classmethod
    def from_data(
        cls, X, y, sample_weight=None, *, factor: str = "gram", backend: str | None = None
    ) -> Moments:
        """Return the moments of these rows.

        Parameters
        ----------
        X : array-like or SciPy sparse of shape (n_samples, n_features)
            Real numbers of any dtype, in any memory order, on the host or a GPU. Nothing of its
            size is copied.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
        sample_weight : array-like of shape (n_samples,), optional
            Not negative; a number is the weight of each row. Default: ones.
        factor : {"gram", "qr"}, default="gram"
        backend : {"auto", "native", "numba", "reference", "cuda"}, optional
            Default: as set by :func:`set_config`.

        Returns
        -------
        moments : Moments

        Raises
        ------
        ValueError
            If a shape, a dtype or a value is not allowed, NaN or infinity is found, or sums
            overflow.
        ImportError
            If `backend` is not installed.

        Examples
        --------
        >>> import fastlsgd
        >>> moments = fastlsgd.Moments.from_data([[1.0], [3.0]], [1.0, 5.0])
        >>> moments.x_mean.tolist(), moments.xx.tolist(), moments.xy.tolist()
        ([2.0], [[2.0]], [4.0])
        """
        return cls(factor=factor).update(X, y, sample_weight, backend=backend)

    def update(self, X, y, sample_weight=None, *, backend: str | None = None) -> Moments:
        """Add rows, and return the moments, which are changed only if that succeeds.

        Parameters
        ----------
        X, y, sample_weight, backend
            As in :meth:`from_data`. X may have no rows; all weights may be zero.

        Returns
        -------
        self : Moments

        Raises
        ------
        ValueError
            As in :meth:`from_data`, and if the columns, their names or the number of targets are
            others than before.

        Examples
        --------
        >>> import fastlsgd
        >>> moments = fastlsgd.Moments()
        >>> for start in (0.0, 2.0):
        ...     moments = moments.update([[start], [start + 1.0]], [start, start + 2.0])
        >>> moments.n_samples, moments.x_mean.tolist()
        (4, [1.5])
        """
        if len(getattr(X, "shape", ())) == 2 and X.shape[0] == 0:
            return self
        before = dict(vars(self))
        try:
            check.check_same_place(X, y=y, sample_weight=sample_weight)
            if not lives_on_device(X):
                check_feature_names(self, X, reset=self.sums is None)
            one_target = ndim(y) == 1
            X = check.as_matrix(X)
            targets, s = check.as_targets_and_weights(X, y, sample_weight, some_weight=False)
            if not lives_on_device(X):
                check.explain_non_finite(y=targets)
            self.add_rows(X, targets, s, one_target, *resolve(backend, X))
        except BaseException:
            self.__dict__ = before
            raise
        return self

    def add_rows(self, X: Matrix, y, s, one_target: bool, kernels: Kernels, n_threads: int) -> None:
        """Add rows that validation has checked, y of shape (n, t)."""
        self._check_shape(X.shape[1], y.shape[1], one_target)
        if s is not None and not float(np.asarray(s.sum(dtype=np.float64))) > 0.0:
            return
        data = TrainingData(kernels, X, y, s, n_threads)
        origin = None if self.sums is None else self.sums.place.plain_mean
        try:
            with np.errstate(over="ignore", invalid="ignore", under="ignore"):
                sums = self._read(data, origin)
        except (NotTrustworthy, np.linalg.LinAlgError) as error:
            check.explain_non_finite(X=X, y=y)
            raise ValueError(
                f"The sums of products are out of range ({error}): rescale X, y or sample_weight."
            ) from error
        self._take(sums, working_dtype(X), y.dtype, one_target)

    def _read(self, data: TrainingData, origin: np.ndarray | None) -> Sums:
        return read(self.factor, data, origin)

    def _take(self, sums: Sums, dtype, target_dtype, one_target: bool) -> None:
        """Add sums whose shape has been checked."""
        if self.sums is not None:
            if not np.isfinite(self.sums.place.weight + sums.place.weight):
                raise ValueError("The sum of sample_weight is out of range: rescale sample_weight.")
            sums = self.sums.joined(sums)  # type: ignore[arg-type]
        self.dtype = np.result_type(self.dtype, dtype)
        self.target_dtype = np.result_type(self.target_dtype, target_dtype)
        self.sums, self.has_one_target = sums, one_target

    def _check_shape(self, d: int, t: int, one_target: bool) -> None:
        if self.sums is None:
            return
        if d != self.n_features:
            raise ValueError(f"X has {d} features, but the moments so far have {self.n_features}.")
        if t != self.n_targets or one_target != self.has_one_target:
            ours, theirs = (
                "one target" if one else f"{count} targets in columns"
                for one, count in ((self.has_one_target, self.n_targets), (one_target, t))
            )
            raise ValueError(f"y has {theirs}, but the moments so far have {ours}.")

    # --------------------------------------------------------------------- merging

    def __add__(self, other: Moments) -> Moments:
        """Return the moments of the rows of both.

        Raises
        ------
        ValueError
            If they have other columns, names, numbers of targets or factors.
        """
        if not isinstance(other, Moments):
            return NotImplemented
        self._check_alike(other)
        if other.sums is None:
            return self.copy()
        both = self.copy()
        if hasattr(other, "feature_names_in_"):
            both.feature_names_in_ = other.feature_names_in_
        both._take(other.sums, other.dtype, other.target_dtype, other.has_one_target)
        return both

    def __radd__(self, other) -> Moments:
        """Return these moments for ``sum(parts)``, which begins with 0."""
        return self.copy() if isinstance(other, int) and other == 0 else NotImplemented

    def __sub__(self, other: Moments) -> Moments:
        """Return the moments without the rows of `other`, which must be among these.

        Raises
        ------
        ValueError
            If `other` has more rows, or if so little is left of a column that it would be rounding.
        """
        if not isinstance(other, Moments):
            return NotImplemented
        self._check_alike(other)
        if other.sums is None:
            return self.copy()
        if self.sums is None or other.n_samples > self.n_samples:
            raise ValueError(
                f"{other.n_samples} rows can't be taken out of {self.n_samples}: the moments to "
                f"subtract must be of rows that were added."
            )
        left = self.copy()
        if other.n_samples == self.n_samples:
            left.sums = None
            return left
        try:
            if not (self.weight - other.weight) * 1e6 > self.weight:
                raise NotTrustworthy("the weight that is left is rounding")
            left.sums = self.sums.without(other.sums)  # type: ignore[arg-type]
        except Lost as error:
            raise ValueError(
                f"Without these rows, too few digits are left of {self._named(error.columns)}: add "
                f"up the moments of the other rows instead."
            ) from error
        except NotTrustworthy as error:
            raise ValueError(
                f"Without these rows, too few digits are left ({error}): add up the moments of the "
                f"other rows instead."
            ) from error
        return left

    def _named(self, columns: np.ndarray, most: int = 5) -> str:
        """Say which columns of X and y these are."""
        names = [*self._names(), *(f"y[{k}]" for k in range(self.n_targets))]
        listed = ", ".join(names[j] for j in columns[:most])
        return f"{listed} and {len(columns) - most} more" if len(columns) > most else listed

    def _names(self) -> list[str]:
        names = getattr(self, "feature_names_in_", None)
        return [f"x{j}" for j in range(self.n_features)] if names is None else list(names)

    def _check_alike(self, other: Moments) -> None:
        if self.factor != other.factor:
            raise ValueError(
                f"Moments with factor={self.factor!r} and factor={other.factor!r} can't be merged."
            )
        if other.sums is None or self.sums is None:
            return
        ours, theirs = (getattr(part, "feature_names_in_", None) for part in (self, other))
        if ours is not None and theirs is not None:
            _check_names(ours, theirs)
        self._check_shape(other.n_features, other.n_targets, other.has_one_target)

    def copy(self) -> Moments:
        """Return moments that can be updated without a change of these."""
        other = self._empty()
        other.__dict__ = dict(vars(self))  # arrays are replaced, never changed
        return other

    def _empty(self) -> Moments:
        return Moments(factor=self.factor)

    def select(self, columns) -> Moments:
        """Return the moments of some columns of X.

        Parameters
        ----------
        columns : array-like of int, bool or str
            Numbers, a mask, or names; in the order in which they are wanted.

        Returns
        -------
        moments : Moments

        Raises
        ------
        ValueError
            If a column is not there, or comes twice.

        Examples
        --------
        >>> import fastlsgd
        >>> moments = fastlsgd.Moments.from_data([[1.0, 2.0], [3.0, 5.0]], [1.0, 5.0])
        >>> moments.select([1]).xx.tolist()
        [[4.5]]
        """
        sums = self.required_sums()
        chosen = self._numbers_of(columns)
        left = self.copy()
        left.sums = sums.selected(chosen)
        if hasattr(self, "feature_names_in_"):
            left.feature_names_in_ = self.feature_names_in_[chosen]
        return left

    def _numbers_of(self, columns) -> np.ndarray:
        given, d = np.asarray(columns), self.n_features
        if given.ndim != 1 or len(given) == 0:
            raise ValueError(f"columns must be a list of columns, got {check.shown(columns)}.")
        if given.dtype == bool:
            if given.shape != (d,) or not given.any():
                raise ValueError(f"A mask of columns must have shape ({d},) and choose some.")
            return np.flatnonzero(given)
        numbers = []
        names = {name: j for j, name in enumerate(getattr(self, "feature_names_in_", ()))}
        for column in given.tolist():
            j = names.get(column) if isinstance(column, str) else column
            if not check.is_whole(j) or not 0 <= int(j) < d:  # type: ignore[arg-type]
                raise ValueError(f"There is no column {column!r} among {d} columns.")
            numbers.append(int(j))  # type: ignore[arg-type]
        if len(set(numbers)) < len(numbers):
            raise ValueError("columns names a column twice.")
        return np.array(numbers)

    # ---------------------------------------------------------------------- reading

    def condition(self) -> float:
        """Return the condition number of the scaled, centred columns, as LAPACK estimates it.

        Columns that are constant are left out; infinite where the others depend on each other.

        Examples
        --------
        >>> import fastlsgd
        >>> moments = fastlsgd.Moments.from_data([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]],
        ...                                      [0.0, 1.0, 2.0, 3.0])
        >>> round(moments.condition(), 6)
        1.0
        """
        sums = self.required_sums()
        columns = varying(sums)
        return sums.condition(columns, np.zeros(len(columns))) if len(columns) else 1.0

    def required_sums(self) -> Sums:
        """The sums, where there are rows."""
        if self.sums is None:
            raise ValueError("The moments are empty: there were no rows of positive sample_weight.")
        return self.sums

    @property
    def n_samples(self) -> int:
        return 0 if self.sums is None else self.sums.place.n_rows

    @property
    def n_features(self) -> int:
        return 0 if self.sums is None else self.sums.n_features

    @property
    def n_targets(self) -> int:
        return 0 if self.sums is None else len(self.sums.place.origin) - self.n_features

    @property
    def weight(self) -> float:
        return 0.0 if self.sums is None else self.sums.place.weight

    @property
    def x_mean(self) -> np.ndarray:
        return self.required_sums().place.plain_mean[: self.n_features]

    @property
    def y_mean(self) -> Any:
        return self._of_targets(self.required_sums().place.plain_mean[self.n_features :])

    @property
    def xx(self) -> np.ndarray:
        return self._products("xx")

    @property
    def xy(self) -> np.ndarray:
        return self._of_targets(self._products("xy"))

    @property
    def yy(self) -> Any:
        return self._of_targets(self._products("yy"))

    def _products(self, name: str) -> np.ndarray:
        """Return a copy of these products, unless float64 cannot hold them."""
        place = ("xx", "xy", "yy").index(name)
        sums = self.required_sums()
        inside = sums.products()[place]
        if not sums.place.units.any():
            return inside.copy()
        found = plain_products(sums)[place]
        is_lost = ~np.isfinite(found) | ((np.abs(found) < TINY) & (inside != 0.0))
        if is_lost.any():
            raise ValueError(
                f"{name} is out of the range of float64, though fits to the moments are not: "
                f"rescale X, y or sample_weight to have it as an array."
            )
        return found

    def _of_targets(self, array: np.ndarray) -> Any:
        if not self.has_one_target:
            return array
        return float(array[0]) if array.ndim == 1 else array[:, 0]

    def __repr__(self) -> str:
        return (
            f"Moments(factor={self.factor!r}, n_samples={self.n_samples}, "
            f"n_features={self.n_features}, n_targets={self.n_targets})"
        )

    # ----------------------------------------------------------------------- files

    def save(self, path: str | PathLike) -> None:
        """Write the moments to a file of the format safetensors, at once or not at all.

        Parameters
        ----------
        path : str or path

        Raises
        ------
        ImportError
            If the package `safetensors` is not installed.
        OSError
            If the file can't be written; one that was there is then as it was.
        """
        write_moments(self, path)

    @classmethod
    def load(cls, path: str | PathLike) -> Moments:
        """Read moments that :meth:`save` wrote. Nothing in the file is executed.

        Parameters
        ----------
        path : str or path

        Returns
        -------
        moments : Moments

        Raises
        ------
        ImportError
            If the package `safetensors` is not installed.
        ValueError
            If the file is damaged, of another kind or a newer version, or contradicts itself; the
            message names what is wrong.
        """
        moments = cls()
        read_moments(moments, path)
        return moments


def _check_names(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Refuse moments of other columns, and say what has different categories the same columns."""
    if np.array_equal(ours, theirs):
        return
    place = next((j for j, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    if place is None:
        place = min(len(ours), len(theirs))
    left, right = (
        repr(names[place]) if place < len(names) else "missing" for names in (ours, theirs)
    )
    only = sorted(set(ours) ^ set(theirs))
    remedy = ""
    if only and all("=" in name for name in only):
        column = only[0].partition("=")[0]
        remedy = (
            f" Columns of categories are the same for all parts if scan is given them: "
            f"categories={{{column!r}: [...]}}."
        )
    raise ValueError(
        f"The feature names should match: column {place} is {left} on the left and {right} on the "
        f"right.{remedy}"
    )
