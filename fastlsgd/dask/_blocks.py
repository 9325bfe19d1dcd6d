"""Dask collections as blocks of rows, after all checks that need no data."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import dask
import dask.array as da
import numpy as np

from .. import _validation as check

REAL_KINDS = "biuf"


class DaskBlock(NamedTuple):
    """Rows that lie together, each part a `dask.delayed` object or None."""

    X: Any
    y: Any
    sample_weight: Any
    number: int


class DaskBlocks(NamedTuple):
    """The rows of collections."""

    parts: list[DaskBlock]
    lengths: list[int] | None  # of the blocks, where they are known
    n_features: int
    names: list[str] | None
    dtype: np.dtype  # of X


def is_lazy(X) -> bool:
    return dask.is_dask_collection(X)


def is_array(X) -> bool:
    return isinstance(X, da.Array)


def check_x(X) -> None:
    """Refuse what is no matrix, or whose blocks are not whole rows of numbers.

    Raises
    ------
    ValueError
        With what is wrong, and how to mend it.
    """
    if is_array(X):
        _check_array(X, "X")
        if X.ndim != 2:
            raise ValueError(f"X must have 2 dimensions (rows, features), got shape {X.shape}.")
        if not math.isfinite(X.shape[1]):
            raise ValueError("X has an unknown number of columns: call X.compute_chunk_sizes().")
    elif _is_frame(X):
        _check_columns(X, "X")
    else:
        raise ValueError(
            f"X must be a dask array or dataframe, got type {type(X).__name__}: the estimators of "
            f"fastlsgd itself fit rows in memory."
        )
    if X.shape[1] == 0:
        raise ValueError("X must have at least one feature, but it has no columns.")


def _check_array(X, name: str) -> None:
    if X.dtype.kind not in REAL_KINDS:
        raise ValueError(f"{name} must hold real numbers, got dtype {X.dtype}.")
    _check_chunks(X, name)


def _check_chunks(X, name: str) -> None:
    if X.ndim > 1 and len(X.chunks[1]) > 1:
        raise ValueError(
            f"{name} is divided into {len(X.chunks[1])} blocks of columns, but each block must "
            f"have whole rows: join them by {name}.rechunk({{1: -1}})."
        )


def _is_frame(X) -> bool:
    return is_lazy(X) and hasattr(X, "npartitions") and getattr(X, "ndim", 0) == 2


def _check_columns(X, name: str) -> None:
    for column, dtype in X.dtypes.items():
        if getattr(dtype, "kind", "O") not in REAL_KINDS:
            raise ValueError(
                f"{name}: column {column!r} has dtype {dtype}, which is no number: encode it, or "
                f"leave it out."
            )


def blocks_of(X, y, sample_weight=None, *, labels: bool = False) -> DaskBlocks:
    """Return the blocks of X, with the rows of y and the weights that belong to them.

    `labels`: y may hold anything.

    Raises
    ------
    ValueError
        If y is None, or if the collections have other blocks, and it can't be known how to match
        them.
    """
    if y is None:
        raise ValueError("The estimator requires y to be passed, but the target y is None.")
    return _joined(X, y, sample_weight, labels)


def blocks_of_x(X) -> DaskBlocks:
    """Return the blocks of rows that have no target."""
    return _joined(X, None, None, False)


def _joined(X, y, sample_weight, labels: bool) -> DaskBlocks:
    check_x(X)
    lengths = _lengths(X)
    others = []
    for given, name in ((y, "y"), (sample_weight, "sample_weight")):
        matched = None if given is None else _matched(given, name, X, lengths)
        if matched is not None:
            _check_values(matched, name, labels and name == "y")
        others.append([None] * len(lengths) if matched is None else _delayed(matched))
    columns = zip(_delayed(X), *others, strict=True)
    parts = [DaskBlock(x, own_y, s, k) for k, (x, own_y, s) in enumerate(columns)]
    known = None if any(math.isnan(n) for n in lengths) else [int(n) for n in lengths]
    return DaskBlocks(parts, known, int(X.shape[1]), _names(X), _dtype(X))


def _check_values(collection, name: str, are_labels: bool) -> None:
    """Refuse y or weights that are not whole rows, or no numbers where these are not labels."""
    if is_array(collection):
        (_check_chunks if are_labels else _check_array)(collection, name)
    elif _is_frame(collection) and not are_labels:
        _check_columns(collection, name)


def _lengths(X) -> list[float]:
    """Return how many rows each block has; NaN where that is not known."""
    return list(X.chunks[0]) if is_array(X) else [math.nan] * X.npartitions


def _names(X) -> list[str] | None:
    names = None if is_array(X) else list(X.columns)
    is_text = names is not None and all(isinstance(name, str) for name in names)
    return names if is_text else None


def _dtype(X) -> np.dtype:
    if is_array(X):
        return np.dtype(X.dtype)
    kinds = [np.dtype(getattr(dtype, "numpy_dtype", dtype)) for dtype in X.dtypes]
    return np.dtype(np.result_type(*kinds))


def _matched(given, name: str, X, lengths: list[float]):
    """Return y or weights in the blocks of X."""
    is_known = not any(math.isnan(n) for n in lengths)
    if not is_lazy(given):
        array = np.asarray(given)
        if not is_known:
            raise ValueError(
                f"{name} is in memory, but the blocks of X have unknown lengths: make {name} a "
                f"dask collection, or call X.compute_chunk_sizes() on an array."
            )
        _check_rows(len(array) if array.ndim else 0, name, lengths)
        return da.from_array(array, chunks=(tuple(lengths), *array.shape[1:]))
    own = _lengths(given)
    if is_known and not any(math.isnan(n) for n in own):
        _check_rows(sum(own), name, lengths)
        return given if own == lengths else given.rechunk({0: tuple(lengths)})
    if len(own) != len(lengths):
        raise ValueError(
            f"X has {len(lengths)} blocks of rows and {name} has {len(own)}, and not all of their "
            f"lengths are known: call compute_chunk_sizes() on arrays, or repartition frames alike."
        )
    divisions, others = (getattr(part, "divisions", (None,)) for part in (X, given))
    if None not in (*divisions, *others) and tuple(divisions) != tuple(others):
        raise ValueError(f"X and {name} have other divisions: repartition them alike.")
    return given


def _check_rows(n: float, name: str, lengths: list[float]) -> None:
    if n != sum(lengths):
        raise ValueError(f"{name} has {n} rows, but X has {int(sum(lengths))}.")


def _delayed(collection) -> list[Any]:
    if is_array(collection):  # graphs that X and y share are not to be computed twice
        return list(collection.to_delayed(optimize_graph=False).ravel())
    return list(collection.to_delayed())


def fitted_columns(estimator, X) -> None:
    """Refuse an X of other columns than the estimator was fitted to.

    Raises
    ------
    ValueError
        As scikit-learn does.
    """
    check_x(X)
    d, fitted = int(X.shape[1]), estimator.n_features_in_
    if d != fitted:
        raise ValueError(
            f"X has {d} features, but {type(estimator).__name__} is expecting {fitted} features "
            f"as input."
        )
    names, own = _names(X), getattr(estimator, "feature_names_in_", None)
    if names is not None and own is not None and names != list(own):
        j = next(j for j, pair in enumerate(zip(names, own, strict=True)) if pair[0] != pair[1])
        raise ValueError(
            f"The feature names should match those that were passed during fit: column {j} is "
            f"{check.shown(names[j])} in place of {check.shown(own[j])}."
        )
