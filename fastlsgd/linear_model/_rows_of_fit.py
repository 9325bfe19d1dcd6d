"""The rows of a fit, given once more: of arrays or of a stream, with the labels of clusters."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .. import _validation as check
from .._group_labels import RunningClusters, clusters_of
from ..kernels.contract import Matrix
from ..kernels.device import lives_on_device
from ..solvers.covariance import FittedRows
from ..solvers.inference import Evidence
from ..solvers.rows import counted_rows
from ..streaming.source import named
from ..streaming.stream import Stream


def host_matrix(estimator, X, name: str) -> Matrix:
    A = estimator._matrix(X, reset=False)
    if lives_on_device(A):
        raise ValueError(f"{name} needs X on the host: copy it there.")
    return A


def rows_of_arrays(
    estimator, data: tuple, groups, evidences: list[Evidence], name: str
) -> FittedRows:
    """The rows of X, y and sample_weight, if they can be those of the fit.

    `groups` are labels of clusters, or None.
    """
    X, y, sample_weight = data
    if X is None or y is None:
        raise ValueError(f"{name} needs the rows of the fit: give X, y and sample_weight.")
    A = host_matrix(estimator, X, name)
    targets, s = check.as_targets_and_weights(A, y, sample_weight)
    counted, t = counted_rows(s), len(evidences)
    n, expected = len(targets) if counted is None else len(counted), evidences[0].n_rows
    if targets.shape[1] != t or n != expected:
        some = "one target" if t == 1 else f"{t} targets"
        raise ValueError(
            f"{name} needs the rows of the fit, {expected} of positive weight and {some}, "
            f"got {n} and {targets.shape[1]}."
        )
    check.explain_non_finite(y=targets)
    clusters = () if groups is None else clusters_of(groups, len(targets))
    return FittedRows(A, targets, s, clusters)


def rows_of_stream(
    estimator, stream: Stream, groups, evidences: list[Evidence], name: str
) -> Iterator[FittedRows]:
    """The blocks of a stream, if they can be the rows of the fit.

    `groups` are labels of clusters, of all rows or as the targets of a stream; or None.
    """
    d, t, expected = estimator.n_features_in_, len(evidences), evidences[0].n_rows
    names, own = stream.feature_names, getattr(estimator, "feature_names_in_", None)
    if names is not None and own is not None and list(own) != list(names):
        raise ValueError(f"{name}: the stream has other columns than the fit, or in another order.")
    labels = None if groups is None else _labels_of(groups)
    n = 0
    for block in stream.blocks():
        with named(block, names):
            X = check.as_matrix(block.X)
            y, s = check.as_targets_and_weights(X, block.y, block.sample_weight, some_weight=False)
            if X.shape[1] != d or y.shape[1] != t:
                raise ValueError(
                    f"{X.shape[1]} features and {y.shape[1]} targets, where the fit had {d} and "
                    f"{t}."
                )
            check.explain_non_finite(y=y)
        counted = counted_rows(s)
        n += len(y) if counted is None else len(counted)
        yield FittedRows(X, y, s, () if labels is None else labels.of_next(len(y)))
    if n != expected:
        raise ValueError(
            f"{name} needs the rows of the fit, {expected} of positive weight, and the stream has "
            f"{n}."
        )
    if labels is not None:
        labels.refuse_more()


class _LabelsOfArray:
    """Labels of all rows in memory."""

    def __init__(self, groups) -> None:
        if not hasattr(groups, "__len__"):
            raise ValueError(
                f"groups must be an array of labels or a Stream, got {check.shown(groups)}."
            )
        self.n, self.at = len(groups), 0
        self.clusters = clusters_of(groups, self.n)

    def of_next(self, count: int) -> tuple[np.ndarray, ...]:
        rows = slice(self.at, self.at + count)
        self.at += count
        if self.at > self.n:
            raise ValueError(f"groups has {self.n} labels, and the stream has more rows.")
        return tuple(codes[rows] for codes in self.clusters)

    def refuse_more(self) -> None:
        if self.at < self.n:
            raise ValueError(f"groups has {self.n} labels, and the stream has {self.at} rows.")


class _LabelsOfStream:
    """Labels that are the targets of a stream, whose blocks may be cut elsewhere."""

    def __init__(self, stream: Stream) -> None:
        self.blocks, self.running = stream.blocks(), RunningClusters()
        self.left: tuple[np.ndarray, ...] = ()

    def of_next(self, count: int) -> tuple[np.ndarray, ...]:
        while not self.left or len(self.left[0]) < count:
            block = next(self.blocks, None)
            if block is None:
                raise ValueError("The stream of groups has fewer rows than that of the fit.")
            own = self.running.of(block.y, len(block.y))
            parts = zip(self.left, own, strict=True) if self.left else ((part,) for part in own)
            self.left = tuple(np.concatenate(part) for part in parts)
        found = tuple(codes[:count] for codes in self.left)
        self.left = tuple(codes[count:] for codes in self.left)
        return found

    def refuse_more(self) -> None:
        if any(len(codes) for codes in self.left) or next(self.blocks, None) is not None:
            raise ValueError("The stream of groups has more rows than that of the fit.")


def _labels_of(groups) -> _LabelsOfArray | _LabelsOfStream:
    return _LabelsOfStream(groups) if isinstance(groups, Stream) else _LabelsOfArray(groups)
