"""``python -m fastlsgd.sklearn script.py [argument ...]`` runs a script with scikit-learn patched.

``-m module`` runs a module instead; ``--verbose`` before either logs which library did each fit.
"""

from __future__ import annotations

import argparse
import logging
import runpy
import sys
from pathlib import Path

from ._patch import patch_sklearn


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m fastlsgd.sklearn",
        description="Run a Python program with scikit-learn's linear models fitted by fastlsgd.",
    )
    parser.add_argument("--verbose", action="store_true", help="log which library did each fit")
    parser.add_argument("-m", action="store_true", dest="module", help="the program is a module")
    parser.add_argument("program", help="a script, or with -m a module")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="what the program gets")
    options = parser.parse_args(arguments)
    if options.verbose:
        logging.basicConfig(format="%(name)s: %(message)s")
        logging.getLogger("fastlsgd.sklearn").setLevel(logging.INFO)
    patch_sklearn()
    sys.argv = [options.program, *options.arguments]
    if options.module:
        runpy.run_module(options.program, run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(options.program).resolve().parent)
        runpy.run_path(options.program, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
