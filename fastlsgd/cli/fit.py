"""``fastlsgd fit``: a model of a column of a table, in one pass, and a pass for its errors."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..linear_model import (
    LeastSquaresClassifier,
    LeastSquaresCV,
    LeastSquaresRegressor,
    SGDClassifier,
    SGDRegressor,
    SGDRegressorCV,
)
from ..model_files import write_record
from ..model_files.record import record_of
from ..model_files.table import Table
from ..streaming import Stream, StreamError, scan
from ..streaming.encoding import is_category, is_numeric
from ..streaming.source import named
from ..streaming.stream import Meter
from ..streaming.views import held_out_rows, view_of, without_held_out
from .arguments import MEGABYTE, path_of, refuse_missing
from .console import EXIT_USAGE, CommandError, ProgressLine
from .judge import errors_for, logarithm, predicted
from .report import coefficients, draw, print_report
from .standardize import spreads_of, standardized, take_own_units
from .tables import (
    failures_explained,
    is_array_file,
    mapped,
    number_of_column,
    source_of,
    types_of,
)


def run(arguments: argparse.Namespace) -> None:
    estimator = _estimator(arguments)
    output, picture = Path(arguments.output), path_of(arguments.plot)
    with failures_explained(*arguments.source):
        source = source_of(arguments.source)
        stream, table = _scanned(arguments, source)
        begun = time.perf_counter()
        n_bytes = _fit(arguments, estimator, stream)
        seconds = time.perf_counter() - begun
        rest, held = _errors(arguments, estimator, stream)
        if arguments.loss_scale == "log" and rest is not None and rest.weight:
            table = replace(table, smearing=rest.smearing / rest.weight)
        record = record_of(estimator)
        record.header["table"] = table.as_json()
        write_record(record, output)
        report = {
            "source": [str(path) for path in arguments.source],
            "target": table.target,
            "loss_scale": table.loss_scale,
            "model": str(output),
            "class": type(estimator).__name__,
            "columns": len(table.columns) or len(table.positions),
            "features": int(estimator.n_features_in_),
            "standardize": arguments.standardize,
            "seconds": seconds,
            "gigabytes_per_second": n_bytes / max(seconds, 1e-9) / 1e9,
            **_told_of(estimator),
            "errors": None if rest is None else rest.as_json(),
            "held_out": None if held is None else held.as_json(),
            "smearing": table.smearing,
            "coefficients": coefficients(estimator, table),
        }
        print_report(report, arguments.json)
        if picture is not None:
            draw(held or rest, picture, table, arguments.json)


# ------------------------------------------------------------------------------ arguments


def _estimator(arguments: argparse.Namespace) -> Any:
    """Return the estimator that the options name, not fitted."""
    alphas = arguments.alpha
    common = {"fit_intercept": not arguments.no_intercept, "backend": arguments.backend}
    if arguments.estimator == "sgd":
        penalty = "elasticnet" if arguments.l1_ratio else "l2"
        common |= {"penalty": penalty, "l1_ratio": arguments.l1_ratio}
        common["random_state"] = arguments.seed
        if alphas is not None and arguments.cv is None:
            common["alpha"] = alphas[0]
        if arguments.classify:
            return SGDClassifier(**common)
        if arguments.cv is None:
            return SGDRegressor(**common)
        choice = {} if alphas is None else {"alphas": alphas}
        return SGDRegressorCV(SGDRegressor(**common), cv=arguments.cv, **choice)
    common |= {"l1_ratio": arguments.l1_ratio, "positive": arguments.positive}
    common["solver"] = arguments.solver
    if arguments.cv is not None:
        return LeastSquaresCV(alphas=alphas, cv=arguments.cv, **common)
    common["alpha"] = 0.0 if alphas is None else alphas[0]
    return (
        LeastSquaresClassifier(**common) if arguments.classify else LeastSquaresRegressor(**common)
    )


def _scanned(arguments: argparse.Namespace, source) -> tuple[Stream, Table]:
    """Return the stream of all rows, with targets as they are, and what its columns become."""
    memory = arguments.memory * MEGABYTE
    if is_array_file(source):
        return _scanned_array(arguments, source, memory)
    types = types_of(source)
    refuse_missing([arguments.target, arguments.weight], list(types), _shown(source))
    kind = types[arguments.target]
    if str(kind) == "null":
        raise StreamError(f"{_shown(source)}: column {arguments.target!r} has no values.")
    if not arguments.classify and not is_numeric(kind):
        raise StreamError(
            f"{_shown(source)}: column {arguments.target!r} has type {kind}, which is no number: "
            f"take --classify if it has labels."
        )
    columns = arguments.columns
    if columns is None:
        excluded = [arguments.target, arguments.weight, *(arguments.exclude or ())]
        for name in arguments.exclude or ():
            if name not in types:
                raise StreamError(f"{_shown(source)}: --exclude: there is no column {name!r}.")
        columns = [name for name in types if name not in excluded]
    for name in columns:
        if name in types and not (is_numeric(types[name]) or is_category(types[name])):
            raise StreamError(
                f"{_shown(source)}: column {name!r} has type {types[name]}, which is neither a "
                f"number nor a category: --exclude {name}, or make it a number."
            )
    stream = scan(
        source,
        arguments.target,
        columns=columns,
        weight=arguments.weight,
        memory=memory,
        impute=_imputed(arguments, types),
    )
    own: Any = stream.source
    scale = arguments.loss_scale
    return stream, Table(arguments.target, arguments.weight, scale, columns=own.encoding.columns)


def _scanned_array(arguments, source: str, memory: int) -> tuple[Stream, Table]:
    target = number_of_column(arguments.target, "--target")
    weight = columns = None
    if arguments.weight is not None:
        weight = number_of_column(arguments.weight, "--weight")
    if arguments.impute:
        raise CommandError("--impute is for tables", EXIT_USAGE)
    mapped(source)  # for its errors, which name the file
    if arguments.columns is not None:
        columns = [number_of_column(name, "--columns") for name in arguments.columns]
    stream = scan(source, target, columns=columns, weight=weight, memory=memory)
    own: Any = stream.source
    positions = own.columns
    if arguments.exclude:
        excluded = [number_of_column(name, "--exclude") for name in arguments.exclude]
        positions = [j for j in positions.tolist() if j not in excluded]
        stream = scan(source, target, columns=positions, weight=weight, memory=memory)
    positions = tuple(int(place) for place in positions)
    return stream, Table(own.y, own.weight, arguments.loss_scale, positions=positions)


def _imputed(arguments, types: dict[str, Any]) -> dict[str, Any]:
    """Return what stands in place of nulls, as a number where the column has numbers."""
    found: dict[str, Any] = {}
    for pair in arguments.impute:
        name, is_there, value = pair.partition("=")
        if not is_there:
            raise CommandError(f"--impute must be COLUMN=VALUE, got {pair!r}", EXIT_USAGE)
        if name in (arguments.target, arguments.weight):
            raise CommandError(
                f"--impute {name}: targets and weights can't be imputed: leave out the rows of "
                f"their nulls",
                EXIT_USAGE,
            )
        found[name] = value
        if name in types and is_numeric(types[name]):
            try:
                found[name] = float(value)
            except ValueError as error:
                raise CommandError(
                    f"--impute {name}: {value!r} is no number", EXIT_USAGE
                ) from error
    return found


def _shown(source) -> str:
    return source if isinstance(source, str) else str(source[0])


# ------------------------------------------------------------------------------------ work


def _fit(arguments, estimator, stream: Stream) -> int:
    """Fit the estimator to the rows that are not held out; return the bytes of X that were read."""
    if arguments.holdout is not None:
        stream = without_held_out(stream, arguments.seed, arguments.holdout)
    if arguments.loss_scale == "log":

        def log_of_target(piece: int, number: int, parts):
            X, y, s, place = parts
            return X, logarithm(y, arguments.target, place), s, place

        stream = view_of(stream, log_of_target, loss_scale="log")
    spreads = None
    if arguments.standardize and _is_penalised(arguments):
        spreads = spreads_of(stream, arguments.backend)
        stream = standardized(stream, spreads)
    progress = ProgressLine("fit")
    read = 0

    def listen(told) -> None:
        nonlocal read
        read = told.n_bytes
        progress(told)

    estimator.fit_stream(stream, checkpoint=arguments.checkpoint, progress=listen)
    progress.clear()
    if spreads is not None:
        take_own_units(estimator, spreads)
    return read


def _is_penalised(arguments) -> bool:
    """Return whether there is a penalty, without which the units of columns make no difference."""
    if arguments.alpha is not None:
        return any(arguments.alpha)
    return arguments.estimator == "sgd" or arguments.cv is not None


def _errors(arguments, estimator, stream: Stream):
    """Return the errors on the rows of the fit, and on those held out, from one more pass."""
    if arguments.no_errors:
        return None, None
    rest, held = (errors_for(estimator, arguments.loss_scale, arguments.target) for _ in range(2))
    progress = ProgressLine("errors")
    meter = Meter(progress)
    names = estimator.__dict__.pop("feature_names_in_", None)  # X has no names here
    try:
        for block in stream.blocks():
            with named(block, stream.feature_names):
                n, share = len(block.y), arguments.holdout or 0.0
                out = held_out_rows(arguments.seed, share, block.position, block.number, n)
                fitted = predicted(estimator, block.X, arguments.loss_scale)
                for errors, rows in ((rest, ~out), (held, out)):
                    if not rows.any():
                        continue
                    s = block.sample_weight
                    own = None if s is None else s[rows]
                    errors.add(block.y[rows], fitted[rows], own, block.place)
            meter.count(block)
    finally:
        if names is not None:
            estimator.feature_names_in_ = names
        progress.clear()
    if arguments.holdout is not None and not held.rows:
        raise StreamError("--holdout has drawn no rows.")
    return rest, held if arguments.holdout is not None else None


def _told_of(estimator) -> dict[str, Any]:
    """Return what an estimator tells of its fit, as far as it does."""
    names = ("solver_", "condition_", "alpha_", "n_iter_", "backend_", "best_score_")
    found = {name: getattr(estimator, name, None) for name in names}
    told = {name.rstrip("_"): value for name, value in found.items() if value is not None}
    if hasattr(estimator, "classes_"):
        told["classes"] = np.asarray(estimator.classes_).tolist()
    return told
