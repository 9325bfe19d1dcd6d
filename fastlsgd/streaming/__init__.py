"""Rows that do not fit into memory: from files, folders, frames, arrays and batches.

:func:`scan` makes a stream of any of these, and `fit_stream` of the estimators fits it.
"""

from __future__ import annotations

from .scanning import scan
from .source import StreamError
from .stream import Stream, StreamProgress

__all__ = ["StreamProgress", "Stream", "StreamError", "scan"]
