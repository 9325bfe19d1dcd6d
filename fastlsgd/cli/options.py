"""The command line: commands, arguments and options, and what they call."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import NoReturn

from .._interrupted_imports import raise_again
from .._settings import BACKEND_NAMES
from .._version import __version__
from .arguments import check_evaluate, check_fit, check_model, check_predict, check_to_c
from .console import EXIT_USAGE, CommandError

SOLVER_NAMES = ("auto", "gram", "sketch", "cg", "qr", "nesterov")
EXIT_CODES = (
    "exit codes: 0 done; 1 data, a model, a file or a backend failed; 2 wrong arguments; "
    "130 interrupted"
)


class _Parser(argparse.ArgumentParser):
    _given: Sequence[str] = ()

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[override]
        self._given = sys.argv[1:] if args is None else args
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        if "are required" in message:  # perhaps since their names are misspelt
            names = [word.split("=")[0] for word in self._given if word.startswith("--")]
            known = tuple(self._option_string_actions)
            unknown = [name for name in names if not any(own.startswith(name) for own in known)]
            message += f"; unknown: {', '.join(unknown)}" if unknown else ""
        raise CommandError(f"{message} (see {self.prog} --help)", EXIT_USAGE)


def parser() -> argparse.ArgumentParser:
    main = _Parser(
        prog="fastlsgd", description="Least squares by fast gradient descent.", epilog=EXIT_CODES
    )
    main.add_argument("--version", action="version", version=f"fastlsgd {__version__}")
    main.set_defaults(run_quietly=False)
    commands = main.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_fit(commands)
    _add_predict(commands)
    _add_evaluate(commands)
    _add_info(commands)
    _add_to_c(commands)
    _add_demo(commands)
    versions = commands.add_parser("show-versions", help="print what a bug report needs")
    versions.set_defaults(run=_show_versions)
    return main


# ------------------------------------------------------------------------------- commands


def _run(
    module: str,
    arguments: argparse.Namespace,
    check: Callable[[argparse.Namespace], None] | None = None,
) -> None:
    """Check the arguments, import the module of a command, which takes long, and run it."""
    if check is not None:
        check(arguments)
    command = import_module(f".{module}", __package__)
    raise_again()  # what the command has begun to write has to be removed
    command.run(arguments)


def _show_versions(arguments: argparse.Namespace) -> None:
    from .._show_versions import show_versions

    show_versions()


# -------------------------------------------------------------------------------- options


def _add_fit(commands) -> None:
    fit = commands.add_parser(
        "fit",
        help="fit a table, and write the model to a file",
        description="Fit a column of a table by the others, in one pass over Parquet, Arrow, CSV "
        "or .npy files of any size, and write the model to a file.",
        epilog=EXIT_CODES,
    )
    _add_source(fit)
    fit.add_argument(
        "--target",
        required=True,
        metavar="COLUMN",
        help="what is to be predicted: the name of a column (its number, for .npy)",
    )
    fit.add_argument(
        "--output",
        required=True,
        metavar="MODEL",
        help="file of the model: .json or .safetensors; overwritten if it is there",
    )
    columns = fit.add_argument_group("columns")
    chosen = columns.add_mutually_exclusive_group()
    chosen.add_argument("--columns", nargs="+", metavar="COLUMN", help="columns to predict by")
    chosen.add_argument(
        "--exclude", nargs="+", metavar="COLUMN", help="columns not to predict by (default: none)"
    )
    columns.add_argument("--weight", metavar="COLUMN", help="column of sample weights")
    columns.add_argument(
        "--impute",
        nargs="+",
        metavar="COLUMN=VALUE",
        default=[],
        help="what stands in place of nulls; nulls of other columns are refused",
    )
    _add_model(fit.add_argument_group("model"))
    reading = fit.add_argument_group("reading")
    reading.add_argument(
        "--checkpoint", metavar="FILE", help="go on from this file after a crash (see docs)"
    )
    reading.add_argument(
        "--no-errors",
        action="store_true",
        help="leave out the pass over the data that finds the errors for the report",
    )
    _add_memory(reading)
    _add_report(fit)
    fit.set_defaults(run=partial(_run, "fit", check=check_fit), run_quietly=True)


def _add_model(group) -> None:
    group.add_argument(
        "--classify", action="store_true", help="the target has labels of classes, not numbers"
    )
    group.add_argument(
        "--loss-scale",
        choices=("identity", "log"),
        default="identity",
        help="log: fit the logarithm of the target, and predict its exponential",
    )
    group.add_argument(
        "--estimator",
        choices=("least-squares", "sgd"),
        default="least-squares",
        help="least-squares (default) is exact, sgd stochastic",
    )
    group.add_argument(
        "--alpha",
        nargs="+",
        type=float,
        metavar="A",
        help="strength of the penalty (default: 0; sgd: 0.0001), or those for --cv to try",
    )
    group.add_argument(
        "--l1-ratio", type=float, default=0.0, metavar="R", help="0: ridge (default), 1: lasso"
    )
    group.add_argument(
        "--standardize",
        action="store_true",
        help="penalise columns as if each had a standard deviation of 1",
    )
    group.add_argument(
        "--positive", action="store_true", help="no negative coefficients (least-squares)"
    )
    group.add_argument("--no-intercept", action="store_true", help="fit no intercept")
    group.add_argument(
        "--cv", type=int, metavar="K", help="choose alpha by cross-validation in K folds"
    )
    group.add_argument(
        "--solver", choices=SOLVER_NAMES, default="auto", help="qr for columns that nearly depend"
    )
    group.add_argument(
        "--holdout",
        type=float,
        metavar="SHARE",
        help="rows, drawn at random, that are not fitted but judged by, such as 0.2",
    )
    group.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of --holdout and of sgd (default: 0)"
    )


def _add_predict(commands) -> None:
    predict = commands.add_parser(
        "predict",
        help="predict the rows of a table by a model",
        description="Predict the rows of a table, in its order, by a model of `fastlsgd fit` or "
        "fastlsgd.save_model.",
        epilog=EXIT_CODES,
    )
    _add_model_file(predict)
    _add_source(predict)
    predict.add_argument(
        "--output",
        metavar="FILE",
        help="predictions: .csv, .parquet, .arrow, .feather or .npy (default: CSV to stdout)",
    )
    predict.add_argument(
        "--keep", nargs="+", metavar="COLUMN", default=[], help="columns to copy to the output"
    )
    predict.add_argument(
        "--mean",
        action="store_true",
        help="with --loss-scale log: estimates of the mean, not of the median",
    )
    _add_memory(predict)
    predict.set_defaults(run=partial(_run, "predict", check=check_predict), run_quietly=True)


def _add_evaluate(commands) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="errors of a model on the rows of a table",
        description="Report the errors of a model on the rows of a table.",
        epilog=EXIT_CODES,
    )
    _add_model_file(evaluate)
    _add_source(evaluate)
    evaluate.add_argument("--target", metavar="COLUMN", help="default: that of the fit")
    evaluate.add_argument("--weight", metavar="COLUMN", help="default: that of the fit")
    _add_memory(evaluate)
    _add_report(evaluate)
    evaluate.set_defaults(run=partial(_run, "evaluate", check=check_evaluate), run_quietly=True)


def _add_info(commands) -> None:
    info = commands.add_parser(
        "info", help="what is in the file of a model", description="Print what a model file has."
    )
    _add_model_file(info)
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(run=partial(_run, "info", check=check_model), run_quietly=True)


def _add_to_c(commands) -> None:
    to_c = commands.add_parser(
        "to-c",
        help="write a model as one file of C",
        description="Write the predictions of a model as one file of C99, without libraries.",
    )
    _add_model_file(to_c)
    to_c.add_argument("--output", metavar="FILE", help="default: stdout")
    to_c.add_argument("--name", default="model", help="what names in C start with (default: model)")
    to_c.set_defaults(run=partial(_run, "to_c", check=check_to_c), run_quietly=True)


def _add_demo(commands) -> None:
    demo = commands.add_parser(
        "demo",
        help="fit real house prices, report, draw two pictures",
        description="Fit log(price) of 25,357 house sales by gradient descent on raw columns, "
        "compare with exact least squares, and draw the loss curve and the predictions.",
    )
    demo.add_argument(
        "--output-dir",
        metavar="DIR",
        help="folder for the pictures, made if missing (default: the current folder); "
        'they need Matplotlib: pip install "fastlsgd[demo]"',
    )
    _add_backend(demo)
    demo.set_defaults(run=partial(_run, "demo"))


def _add_source(command) -> None:
    command.add_argument(
        "source",
        nargs="+",
        metavar="SOURCE",
        help="Parquet, Arrow, Feather or CSV: a file, several, or a folder; or a .npy file",
    )


def _add_model_file(command) -> None:
    command.add_argument("model", metavar="MODEL", help="file of a model: .json or .safetensors")


def _add_memory(group) -> None:
    group.add_argument(
        "--memory",
        type=int,
        metavar="MB",
        default=256,
        help="how much of the data may be in memory at a time (default: 256)",
    )
    _add_backend(group)


def _add_backend(group) -> None:
    group.add_argument(
        "--backend",
        metavar="NAME",
        choices=BACKEND_NAMES,
        help=f"kernels to use: {', '.join(BACKEND_NAMES)} (default: FASTLSGD_BACKEND, else auto)",
    )


def _add_report(command) -> None:
    report = command.add_argument_group("report")
    report.add_argument("--json", action="store_true", help="print the report as JSON")
    report.add_argument(
        "--plot",
        metavar="FILE",
        help="draw predictions against the target: .png, .pdf or .svg (needs Matplotlib)",
    )
