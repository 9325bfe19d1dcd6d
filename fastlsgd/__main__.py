"""``python -m fastlsgd``: the same as the command ``fastlsgd``."""

import sys

from .cli import main

sys.exit(main())
