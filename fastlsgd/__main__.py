"""``python -m fastlsgd`` runs the command ``fastlsgd``."""

from .cli import command

command()
