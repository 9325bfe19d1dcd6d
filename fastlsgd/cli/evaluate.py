"""``fastlsgd evaluate``: the errors of a model on the rows of a table, in one pass."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from ..model_files.table import Table
from ..streaming import StreamError
from ..streaming.source import named
from ..streaming.stream import Meter
from .arguments import MEGABYTE, path_of
from .console import ProgressLine, say
from .judge import errors_for, predicted
from .report import draw, error_lines, print_report
from .tables import (
    failures_explained,
    read_model,
    refuse_many_targets,
    source_of,
    stream_for,
)


def run(arguments: argparse.Namespace) -> None:
    picture, memory = path_of(arguments.plot), arguments.memory * MEGABYTE
    with failures_explained(*arguments.source, arguments.model):
        model = read_model(arguments.model)
        refuse_many_targets(model)
        source = source_of(arguments.source)
        stream = stream_for(model, source, memory, arguments.target, arguments.weight)
        if arguments.backend is not None and "backend" in model.estimator.get_params(deep=False):
            model.estimator.set_params(backend=arguments.backend)
        scale = "identity" if model.table is None else model.table.loss_scale
        target = arguments.target
        if target is None:
            assert model.table is not None
            target = model.table.target
        errors = errors_for(model.estimator, scale, target)
        progress = ProgressLine("evaluate")
        meter = Meter(progress)
        for block in stream.blocks():
            with named(block, stream.feature_names):
                fitted = predicted(model.estimator, block.X, scale)
                errors.add(block.y, fitted, block.sample_weight, block.place)
            meter.count(block)
        progress.clear()
        if not errors.rows:
            raise StreamError("The source has no rows of positive weight.")
        found: dict[str, Any] = {
            "model": model.path,
            "class": type(model.estimator).__name__,
            "source": [str(path) for path in arguments.source],
            "target": target,
            "loss_scale": scale,
            "errors": errors.as_json(),
        }
        if arguments.json:
            print_report(found, True)
        else:
            say(f"{found['class']} in {model.path}, target {target}")
            for line in error_lines(found["errors"], "rows"):
                say(line)
        if picture is not None:
            table = replace(model.table or Table(None), target=target)
            draw(errors, picture, table, arguments.json)
