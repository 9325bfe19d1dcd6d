"""``fastlsgd to-c``: a model as one file of C."""

from __future__ import annotations

import argparse

from .._c_code import to_c
from .._checked_files import replace_file
from .arguments import path_of
from .console import say
from .tables import failures_explained


def run(arguments: argparse.Namespace) -> None:
    output = path_of(arguments.output)
    with failures_explained(arguments.model):
        source = to_c(arguments.model, name=arguments.name)
        if output is None:
            say(source)
        else:
            replace_file(output, source.encode("ascii"))
