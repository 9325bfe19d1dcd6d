"""What is wrong with the arguments of a command, found before its modules are imported.

Those import scikit-learn, which takes a second or more. All that can be checked without them is
checked here, so that a misspelt name of a file or a column is told at once. Of a file nothing but
its schema is read, where PyArrow can read that by itself.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from .._checked_files import model_suffix, safetensors_package, suffix_of_model_that_exists
from .console import (
    EXIT_FAILED,
    EXIT_USAGE,
    CommandError,
    check_output,
    check_picture,
    refuse_overwriting,
)

PREDICTION_SUFFIXES = (".csv", ".parquet", ".arrow", ".feather", ".npy")
MEGABYTE = 2**20


def path_of(argument: str | None) -> Path | None:
    """Return the path that an optional argument names."""
    return None if argument is None else Path(argument)


def check_fit(arguments: argparse.Namespace) -> None:
    _refuse_contradictions(arguments)
    check_output(arguments.output, "--output")
    try:
        if model_suffix(arguments.output) == ".safetensors":
            safetensors_package("Model files that end in .safetensors")
    except ValueError as error:
        raise CommandError(error, EXIT_USAGE) from error
    except ImportError as error:
        raise CommandError(error, EXIT_FAILED) from error
    check_picture(arguments.plot)
    refuse_overwriting([arguments.output, arguments.plot], arguments.source)
    _check_memory(arguments.memory)
    _check_sources(arguments.source)
    names = _names_in(arguments.source)
    if names is not None:
        refuse_missing([arguments.target, arguments.weight], names, arguments.source[0])


def check_predict(arguments: argparse.Namespace) -> None:
    if arguments.output is not None:
        check_output(arguments.output, "--output")
        suffix = Path(arguments.output).suffix
        if suffix not in PREDICTION_SUFFIXES:
            listed = ", ".join(PREDICTION_SUFFIXES)
            raise CommandError(f"--output must end in {listed}", EXIT_USAGE)
        if suffix == ".npy" and arguments.keep:
            raise CommandError("--keep is not for an --output in .npy", EXIT_USAGE)
    refuse_overwriting([arguments.output], [arguments.model, *arguments.source])
    _check_memory(arguments.memory)
    check_model(arguments)
    _check_sources(arguments.source)


def check_evaluate(arguments: argparse.Namespace) -> None:
    check_picture(arguments.plot)
    refuse_overwriting([arguments.plot], [arguments.model, *arguments.source])
    _check_memory(arguments.memory)
    check_model(arguments)
    _check_sources(arguments.source)


def check_to_c(arguments: argparse.Namespace) -> None:
    if arguments.output is not None:
        check_output(arguments.output, "--output")
        refuse_overwriting([arguments.output], [arguments.model])
    check_model(arguments)


def check_model(arguments: argparse.Namespace) -> None:
    """Check that the model to read is there, and has the name of one."""
    try:
        suffix_of_model_that_exists(arguments.model)
    except ValueError as error:
        raise CommandError(error, EXIT_FAILED) from error


def _refuse_contradictions(arguments: argparse.Namespace) -> None:
    is_sgd = arguments.estimator == "sgd"
    numbers = arguments.alpha or []
    wrong = {
        "--cv is not for --classify": arguments.classify and arguments.cv is not None,
        "--loss-scale log is not for --classify": arguments.classify
        and arguments.loss_scale == "log",
        "--positive is not for --estimator sgd": is_sgd and arguments.positive,
        "--solver is not for --estimator sgd": is_sgd and arguments.solver != "auto",
        "several values of --alpha need --cv": len(numbers) > 1 and arguments.cv is None,
        "--alpha must be 0 or more": not all(0.0 <= alpha < math.inf for alpha in numbers),
        "--l1-ratio must lie in [0, 1]": not 0.0 <= arguments.l1_ratio <= 1.0,
        "--cv must be 2 or more": arguments.cv is not None and arguments.cv < 2,
        "--holdout must lie between 0 and 1": arguments.holdout is not None
        and not 0.0 < arguments.holdout < 1.0,
        "--seed must lie in [0, 2**32)": not 0 <= arguments.seed < 2**32,
        "--target is among --columns": arguments.target in (arguments.columns or ()),
        "--no-errors leaves nothing for --plot": arguments.no_errors and arguments.plot is not None,
        "--no-errors leaves nothing for --holdout": arguments.no_errors
        and arguments.holdout is not None,
    }
    for message, holds in wrong.items():
        if holds:
            raise CommandError(f"{message} (see fastlsgd fit --help)", EXIT_USAGE)


def _check_memory(megabytes: int) -> None:
    if not 1 <= megabytes < 2**40:
        raise CommandError(f"--memory must be 1 or more, got {megabytes}", EXIT_USAGE)


def _check_sources(paths: Sequence[str]) -> None:
    for path in paths:
        if "://" not in path and not (path and Path(path).exists()):
            raise CommandError(f"there is no file or folder {path!r}", EXIT_FAILED)
    if len(paths) > 1 and any(path.endswith(".npy") for path in paths):
        raise CommandError("only one .npy file can be read at a time", EXIT_USAGE)


def refuse_missing(columns: Sequence[str | None], names: Sequence[str], source: str) -> None:
    """Raise CommandError where a column that an option names is not in the table."""
    for column in columns:
        if column is not None and column not in names:
            listed = ", ".join(map(repr, list(names)[:20]))
            raise CommandError(
                f"{source}: there is no column {column!r} among {listed}.", EXIT_FAILED
            )


def _names_in(sources: Sequence[str]) -> list[str] | None:
    """Return the names of the columns of one file; None where it takes more to know them.

    What is wrong with the file is told when it is read.
    """
    path = Path(sources[0])
    if len(sources) > 1 or not path.is_file():
        return None
    try:
        if path.suffix == ".parquet":
            from pyarrow.parquet import read_schema

            return list(read_schema(path).names)
        if path.suffix == ".csv":
            from pyarrow.csv import open_csv

            with open_csv(path) as rows:
                return list(rows.schema.names)
    except (ImportError, OSError, ValueError, KeyError, NotImplementedError):
        pass
    return None
