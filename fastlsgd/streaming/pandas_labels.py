"""Frames of pandas whose columns are labelled by numbers or tuples: PyArrow knows names only."""

from __future__ import annotations

from typing import Any, NamedTuple

from .source import StreamError


class Chosen(NamedTuple):
    """What `scan` was told of the columns of a table."""

    target: Any
    columns: Any
    weight: Any
    categories: Any
    impute: Any


def has_text_labels(frame) -> bool:
    return all(isinstance(label, str) for label in frame.columns)


def with_text_labels(frame, chosen: Chosen) -> tuple[Any, Chosen]:
    """Return the frame with its labels as text, and what was chosen by these.

    Raises
    ------
    StreamError
        If two labels are the same text.
    """
    from pandas.api.types import is_hashable

    names = {label: str(label) for label in frame.columns}
    if len(set(names.values())) < len(frame.columns):
        texts = [str(label) for label in frame.columns]
        twice = next(text for text in texts if texts.count(text) > 1)
        raise StreamError(f"frame: two columns are named {twice!r}: rename one, or leave it out.")
    renamed = frame.set_axis(list(names.values()), axis=1)

    def named(label):
        if label is None or not is_hashable(label):
            return label
        return names.get(label, str(label))  # one that is not there is refused by its name

    def listed(labels):
        return [named(label) for label in labels] if isinstance(labels, (list, tuple)) else labels

    target, columns, weight, categories, impute = chosen
    is_list = isinstance(target, list) or (isinstance(target, tuple) and target not in names)
    return renamed, Chosen(
        listed(target) if is_list else named(target),
        listed(columns),
        named(weight),
        categories and {named(label): values for label, values in categories.items()},
        impute and {named(label): value for label, value in impute.items()},
    )
