"""``python -m fastlsgd`` and the command ``fastlsgd`` start here, where little is imported."""

from __future__ import annotations

from typing import NoReturn

from ._interrupted_imports import end_quietly


def run() -> NoReturn:
    """Run the command line of the process."""
    end_quietly()
    from .cli import command

    command()


if __name__ == "__main__":
    run()
