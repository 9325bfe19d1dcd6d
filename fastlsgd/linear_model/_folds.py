"""Folds for the cross-validated estimators: checked row numbers from any splitter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any, ClassVar

import numpy as np
from sklearn import get_config
from sklearn.model_selection import check_cv
from sklearn.utils.metadata_routing import (
    UNUSED,
    MetadataRouter,
    MethodMapping,
    process_routing,
)

from .. import _validation as check
from ..kernels.device import is_device_array, lives_on_device


class RoutedSplitter:
    """A mixin that routes `groups` and other metadata to the splitter in the parameter `cv`."""

    # These belong to the splitter, not to the estimator.
    __metadata_request__fit: ClassVar = {"groups": UNUSED}

    cv: Any

    def get_metadata_routing(self) -> MetadataRouter:
        """Which metadata `fit` accepts, and where they go.

        Returns
        -------
        routing : MetadataRouter
        """
        router = MetadataRouter(owner=self).add_self_request(self)
        mapping = MethodMapping().add(caller="fit", callee="split")
        return router.add(splitter=check_cv(self.cv), method_mapping=mapping)

    def _split_params(self, groups, params: dict) -> dict:
        """The arguments of the splitter besides X and y."""
        given = {"groups": groups, **params}
        given = {name: value for name, value in given.items() if value is not None}
        if get_config()["enable_metadata_routing"]:
            return dict(process_routing(self, "fit", **given).splitter.split) if given else {}
        if params:
            raise ValueError(
                f"{type(self).__name__}.fit takes {sorted(params)} only with "
                f"sklearn.set_config(enable_metadata_routing=True)."
            )
        return given


def folds_of(cv, X, y, matrix, split_params: dict) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The numbers of the rows to fit and of those to score on, for each fold.

    Splitters get X and y as the user gave them, with lists as arrays, and y on the host. Instead of
    an X on a GPU, which they can't read, they get a column of zeros. `matrix` is the validated X.

    Raises
    ------
    ValueError
        If there is no fold, or a fold is empty or not made of row numbers.
    """
    n = matrix.shape[0]
    if lives_on_device(matrix):
        X = np.zeros((n, 1))
    elif not hasattr(X, "shape"):
        X = matrix
    y = check.on_host(y) if is_device_array(y) else y
    _check_kind(cv)
    if check.is_whole(cv) and cv > n:
        raise ValueError(f"cv={check.shown(cv)} folds need as many rows, but X has n_samples={n}.")
    if isinstance(cv, Iterable) and not isinstance(cv, str) and not hasattr(cv, "split"):
        cv = list(cv)
        for k, fold in enumerate(cv):
            if not isinstance(fold, Sized) or len(fold) != 2:
                raise ValueError(
                    f"cv: fold {k} must be a pair of rows to fit and rows to judge, got {fold!r}."
                )
    k = -1
    for k, (train, test) in enumerate(check_cv(cv).split(X, y, **split_params)):
        yield (
            as_row_numbers(train, n, f"the rows to fit of fold {k}"),
            as_row_numbers(test, n, f"the rows to judge of fold {k}"),
        )
    if k < 0:
        raise ValueError("cv must have at least one fold, got none.")


def _check_kind(cv) -> None:
    if cv is None or (hasattr(cv, "split") and not isinstance(cv, (str, bytes, bytearray))):
        return
    no_pairs = isinstance(cv, (str, bytes, bytearray, Mapping)) or getattr(cv, "shape", None) == ()
    if not check.is_whole(cv) and (no_pairs or not isinstance(cv, Iterable)):
        raise ValueError(
            f"cv must be None, a whole number, a splitter or an iterable of pairs of rows to fit "
            f"and rows to judge, got {check.shown(cv)}."
        )


def as_row_numbers(rows, n: int, name: str) -> np.ndarray:
    """Row numbers in [0, n) from row numbers, a mask or a slice as NumPy defines them.

    Raises
    ------
    ValueError
        If there are none, or they are not numbers of rows.
    """
    if isinstance(rows, slice):
        rows = np.arange(n)[rows]
    rows = np.array(check.on_host(rows))  # what is checked is what is followed, whoever writes
    if rows.ndim != 1:
        raise ValueError(f"cv: {name} must have one dimension, got shape {rows.shape}.")
    if rows.dtype.kind == "b":
        if len(rows) != n:
            raise ValueError(f"cv: {name} are a mask of {len(rows)} rows, but X has {n}.")
        rows = np.flatnonzero(rows)
    if len(rows) == 0:
        raise ValueError(f"cv: {name} are none at all.")
    if rows.dtype.kind not in "iu":
        raise ValueError(
            f"cv: {name} must be whole numbers or a mask, got an array of dtype {rows.dtype}."
        )
    low, high = int(rows.min()), int(rows.max())
    if low < -n or high >= n:
        raise ValueError(f"cv: {name} must lie in [0, {n}), got {low} to {high}.")
    rows = rows.astype(np.int64, copy=False)
    return np.where(rows < 0, rows + n, rows) if low < 0 else rows
