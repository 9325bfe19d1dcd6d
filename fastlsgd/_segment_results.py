"""What `grouped_lstsq`, `rolling_lstsq` and their like return: the numbers of all regressions."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from . import _validation as check


@dataclass(frozen=True)
class SegmentLstsq:
    """The regressions of :func:`grouped_lstsq`, :func:`rolling_lstsq` and their like.

    There is one for each group, in the order of the keys, or one for each row of X. Where there is
    no fit, numbers are NaN. For an X on a GPU, all but the keys are arrays of X's library there.

    Attributes
    ----------
    coef : ndarray of shape (n_segments, n_features)
    intercept : ndarray of shape (n_segments,)
        0 where none is fitted.
    n_samples : ndarray of int of shape (n_segments,)
        Rows of positive weight, without those that were skipped.
    r2 : ndarray of shape (n_segments,)
        About the mean where an intercept is fitted, else about zero.
    residual_std : ndarray of shape (n_segments,)
        Estimated standard deviation of the errors, from the weighted sum of squared residuals and
        the rows less the weights; with `half_life`, these times the share of their weight that the
        rows still have. As in statsmodels' WLS, sample weights of c w give sqrt(c) times the
        deviation, and the same standard errors.
    standard_error, intercept_standard_error : ndarrays, or None
        Of `coef` and `intercept`, if `standard_errors` was asked for.
    fitted : ndarray of shape (n_rows,), or None
        The prediction of each row by its own group, or by the window that ends with it, if
        `predictions` were asked for.
    predicted : ndarray of shape (n_rows,), or None
        The prediction of each row by the window that ends with the row before it.
    n_short, n_singular : int
        Segments without a fit: they have fewer than `min_samples` rows, or columns that depend on
        each other. Beside a row of 1e30 times their weight, rows have a fit but no standard errors,
        and with `half_life` or `initial` none.
    keys : dict of str to ndarray of shape (n_segments,)
        The labels of the groups; empty if there are none.
    feature_names : list of str
        The columns of a frame, or "x0", "x1" and so on.
    """

    coef: np.ndarray
    intercept: np.ndarray
    n_samples: np.ndarray
    r2: np.ndarray
    residual_std: np.ndarray
    standard_error: np.ndarray | None
    intercept_standard_error: np.ndarray | None
    fitted: np.ndarray | None
    predicted: np.ndarray | None
    n_short: int
    n_singular: int
    keys: dict[str, np.ndarray]
    feature_names: list[str]
    _is_polars: bool = False  # X, and so the frame
    _index: Any = None  # of a pandas X

    def __repr__(self) -> str:
        n, d = self.coef.shape
        return (
            f"SegmentLstsq({n:,} regressions on {d} features, {self.n_short:,} too short and "
            f"{self.n_singular:,} singular)"
        )

    def frame(self) -> Any:
        """The numbers as a frame: polars if X was one, else pandas.

        Returns
        -------
        frame : DataFrame with a row for each segment
            The keys (in pandas the index, where there are groups), a column for each weight,
            "intercept", "n_samples", "r2", "residual_std", and what else was asked for. Rows of
            windows keep the index of a pandas X.

        Raises
        ------
        ValueError
            If two columns would have the same name.
        """
        columns = dict(zip(self.feature_names, check.on_host(self.coef).T, strict=True))
        taken = {field.name for field in fields(self)}
        if len(columns) < len(self.feature_names) or taken & columns.keys():
            twice = [name for name in self.feature_names if self.feature_names.count(name) > 1]
            name = (twice or sorted(taken & columns.keys()))[0]
            raise ValueError(f"The frame would have two columns {name!r}: rename that of X.")
        for field in fields(self):
            value = check.on_host(getattr(self, field.name))
            if field.name == "standard_error" and value is not None:
                names = (f"{name}_standard_error" for name in self.feature_names)
                columns |= dict(zip(names, value.T, strict=True))
            elif isinstance(value, np.ndarray) and value.shape == (len(self.coef),):
                columns[field.name] = value
        if self._is_polars:
            import polars

            return polars.DataFrame(self.keys | columns)
        import pandas

        if self.keys:
            index = pandas.MultiIndex.from_arrays(list(self.keys.values()), names=list(self.keys))
            index = index if len(self.keys) > 1 else index.get_level_values(0)
            return pandas.DataFrame(columns, index=index)
        return pandas.DataFrame(columns, index=self._index)
