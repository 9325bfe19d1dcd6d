"""Sums over the blocks of Dask collections: computed where the rows are, added up by a tree.

A task reads one block with the kernels of fastlsgd and returns what adds up: moments, totals of
columns, a gradient. Blocks that one worker holds are added up there first, so that each worker
sends one such sum per step, however many blocks it has. Tasks have no state: where a worker is
lost, Dask computes its blocks anew elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import dask
import numpy as np

from .. import _validation as check
from .._column_totals import ColumnTotals, gradient_of_rows
from .._config import config_context, get_config
from .._threads import usable_processors
from ..moments import FACTORS, Moments
from ..solvers.column_sums import GradientRequest
from ..streaming.source import RowBlock, named
from ._blocks import DaskBlock, DaskBlocks, blocks_of

# Sums that a task of the tree adds up.
FAN_IN = 8


class WorkerSetting(NamedTuple):
    """What tasks take along of the configuration here."""

    backend: str
    n_threads: int
    n_features: int
    names: list[str] | None  # of the features


def setting_of(backend: str | None, n_jobs, blocks: DaskBlocks) -> WorkerSetting:
    """Return how workers are to compute: with one thread per task, unless `n_jobs` says more."""
    n_threads = check.check_n_jobs(n_jobs) or 1
    if n_threads < 0:
        n_threads = max(1, usable_processors() + 1 + n_threads)
    backend = backend or get_config()["backend"]
    return WorkerSetting(backend, n_threads, blocks.n_features, blocks.names)


def of_blocks(setting: WorkerSetting, rows: list, compute: Callable, args, of_each) -> Any:
    """Return the sum of what `compute` makes of some blocks (X, y, sample_weight, number)."""
    each = [()] * len(rows) if of_each is None else [(own,) for own in of_each]
    parts = zip(rows, each, strict=True)
    return added([of_block(setting, block, compute, *args, *own) for block, own in parts])


def of_block(setting: WorkerSetting, block, compute: Callable, *args) -> Any:
    """Return what `compute` makes of a block; errors name the block and the column.

    The metadata of a collection may be wrong about a block, whose columns are checked therefore.
    """
    X, y, s, number = block
    X = without_index(X)
    told = RowBlock(X, y, s, f"block {number} of X", number, number, 0)
    context = config_context(backend=setting.backend, n_threads=setting.n_threads)
    with context, named(told, setting.names):
        if X.ndim != 2 or X.shape[1] != setting.n_features:
            raise ValueError(
                f"the block has shape {X.shape}, but X has {setting.n_features} columns."
            )
        return compute(X, y, s, *args)


def without_index(X):
    """Return a frame as an array, unless its columns are sparse."""
    return X.to_numpy() if hasattr(X, "to_numpy") and not hasattr(X, "sparse") else X


def summed(
    blocks: DaskBlocks,
    setting: WorkerSetting,
    compute: Callable,
    *args: Any,
    of_each: Sequence[Any] | None = None,
    groups: list[list[int]] | None = None,
):
    """Return a delayed sum of `compute(X, y, sample_weight, *args)` over the blocks.

    Parameters
    ----------
    blocks : DaskBlocks
    setting : WorkerSetting
    compute : callable
        Returns something that `+` adds up, or None for a block without rows.
    *args
        The same for all blocks, be it delayed.
    of_each : sequence, optional
        A further argument, one for each block.
    groups : list of list of int, optional
        What `groups_of` has found, where several sums follow each other.
    """
    task = dask.delayed(of_blocks, pure=False)
    sums = []
    for numbers in groups or groups_of(blocks.parts):
        rows = [tuple(blocks.parts[number]) for number in numbers]
        own = None if of_each is None else [of_each[number] for number in numbers]
        sums.append(task(setting, rows, compute, args, own))
    return _tree(sums)


def _tree(parts: list[Any]) -> Any:
    """Return the delayed sum of delayed parts."""
    add = dask.delayed(added, pure=False)
    while len(parts) > 1:
        parts = [add(parts[k : k + FAN_IN]) for k in range(0, len(parts), FAN_IN)]
    return parts[0]


def added(parts: list[Any]) -> Any:
    """Return the sum of those parts that are there; None if none is."""
    total = None
    for part in parts:
        if part is not None:
            total = part if total is None else total + part
    return total


def groups_of(parts: list[DaskBlock]) -> list[list[int]]:
    """Return the numbers of the blocks of each task, in an order in which a tree adds them up.

    Of blocks in the memory of a worker there are as many groups as it has threads: a task costs the
    scheduler about as much as a block of 10,000 x 100 costs the worker. Others are on their own,
    so that few are in memory at a time.
    """
    by_worker: dict[Any, list[int]] = {}
    holders, threads = holders_of(parts), threads_of_workers()
    for part, worker in zip(parts, holders, strict=True):
        by_worker.setdefault(worker, []).append(part.number)
    groups = [[number] for number in by_worker.pop(None, [])]
    for worker, numbers in by_worker.items():
        count = min(threads.get(worker, 1), len(numbers))
        groups += [part.tolist() for part in np.array_split(numbers, count)]
    return groups


def holders_of(parts: list[DaskBlock]) -> list[str | None]:
    """Return the worker whose memory has the X of each block; None where none has it."""
    client = _client()
    if client is None:
        return [None] * len(parts)
    from distributed import futures_of

    held = futures_of([part.X for part in parts])
    holders = client.who_has(held) if held else {}
    return [next(iter(holders.get(part.X.key, ())), None) for part in parts]


def threads_of_workers() -> dict[str, int]:
    """Return how many threads each worker of a cluster has; nothing where there is no cluster."""
    client = _client()
    return {} if client is None else dict(client.nthreads())


def _client():
    """Return the client of a cluster, or None."""
    try:
        from distributed import get_client

        return get_client()
    except (ImportError, ValueError):
        return None


# ------------------------------------------------------------------- what is summed


class Folds(NamedTuple):
    """The moments of the rows of each fold, where a block has some."""

    parts: dict[int, Moments]

    def __add__(self, other) -> Folds:  # type: ignore[override]
        both = dict(self.parts)
        for k, part in other.parts.items():
            both[k] = both[k] + part if k in both else part
        return Folds(both)


def moments_of_block(X, y, s, factor: str, prepare: Callable | None) -> Moments | None:
    if X.shape[0] == 0:
        return None
    y, s = prepared(X, y, s, prepare)
    return Moments(factor=factor).update(X, y, s)


def totals_of_block(X, y, s, prepare: Callable | None) -> ColumnTotals | None:
    if X.shape[0] == 0:
        return None
    totals = ColumnTotals()
    totals.update(X, *prepared(X, y, s, prepare))
    return totals


def gradient_of_block(X, y, s, request: GradientRequest, prepare: Callable | None):
    if X.shape[0] == 0:
        return None
    y, s = prepared(X, y, s, prepare)
    found = gradient_of_rows(X, y, s, request, None)
    return None if found is None else Gradient(found)


class Gradient:
    """Sums for a gradient, with `+`."""

    def __init__(self, sums) -> None:
        self.sums = sums

    def __add__(self, other: Gradient) -> Gradient:
        return Gradient(self.sums.plus(other.sums))


def folds_of_block(X, y, s, factor: str, cuts: np.ndarray, start: int) -> Folds:
    """Return the moments of each fold's rows in a block, whose first row has this number."""
    found: dict[int, Moments] = {}
    n = X.shape[0]
    if n == 0:
        return Folds(found)
    y, s = prepared(X, y, s, None)
    # Checked as a whole, since errors are to tell rows of the block.
    X = check.as_matrix(X)
    targets, s = check.as_targets_and_weights(X, y, s, some_weight=False)
    check.explain_non_finite(y=targets)
    y = targets.reshape(np.shape(y))
    for k in range(len(cuts) - 1):
        rows = slice(max(int(cuts[k]) - start, 0), min(int(cuts[k + 1]) - start, n))
        if rows.stop > rows.start:
            own = None if s is None else s[rows]
            found[k] = Moments(factor=factor).update(X[rows], y[rows], own)
    return Folds(found)


def prepared(X, y, s, prepare: Callable | None):
    """Return y and the weights as arrays, after `prepare`, which makes targets of labels."""
    for values, name in ((y, "y"), (s, "sample_weight")):
        if values is not None and len(values) != X.shape[0]:
            raise ValueError(f"{name} has {len(values)} rows, but X has {X.shape[0]}.")
    y = np.asarray(y) if hasattr(y, "iloc") else y
    s = np.asarray(s) if hasattr(s, "iloc") else s
    return (y, s) if prepare is None else prepare(X, y, s)


def moments(X, y, sample_weight=None, *, factor: str = "gram", backend: str | None = None):
    """Return the moments of the rows of Dask collections, as a delayed object.

    Parameters
    ----------
    X : dask.array.Array of shape (n_samples, n_features), or dask.dataframe.DataFrame
        In blocks of whole rows, dense or SciPy sparse.
    y : dask array, series or dataframe of shape (n_samples,) or (n_samples, n_targets)
        In blocks of the same rows.
    sample_weight : dask array or series of shape (n_samples,), optional
        Not negative. Default: ones.
    factor : {"gram", "qr"}, default="gram"
        As of :class:`fastlsgd.Moments`.
    backend : {"auto", "native", "numba", "reference"}, optional
        Default: as set by :func:`fastlsgd.set_config` here.

    Returns
    -------
    moments : dask.delayed.Delayed
        Whose ``compute()`` is :class:`fastlsgd.Moments`.

    Raises
    ------
    ValueError
        If blocks don't fit together; when computed, if rows are not allowed, by the number of the
        block and the column.

    Examples
    --------
    >>> import dask.array as da
    >>> from fastlsgd.dask import moments
    >>> X = da.arange(10, chunks=3).astype(float)[:, None]
    >>> moments(X, X[:, 0]).compute().x_mean.tolist()
    [4.5]
    """
    check.check_choice(factor, "factor", FACTORS)
    blocks = blocks_of(X, y, sample_weight)
    setting = setting_of(backend, None, blocks)
    return summed(blocks, setting, moments_of_block, factor, None)
