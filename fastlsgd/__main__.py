"""``python -m fastlsgd`` runs the command ``fastlsgd``."""

import sys

from .cli import main

sys.exit(main())
