"""Labels of classes as JSON has them: ``{"dtype": "<U6", "values": ["ash", "birch"]}``."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from .._checked_files import WrongFile

NUMBER_DTYPES = re.compile("bool|u?int(8|16|32|64)|float(16|32|64)")
# Numbers in the other byte order than usual keep it, as text does.
SWAPPED_DTYPES = re.compile(">([iu][248]|f[248])")
STRING_DTYPES = re.compile("[<>]U[1-9][0-9]{0,8}")


def labels_as_json(labels: np.ndarray) -> dict[str, Any]:
    """Return the sorted labels of a classifier.

    Raises
    ------
    ValueError
        If JSON can't have them.
    """
    dtype = labels.dtype.str
    if not STRING_DTYPES.fullmatch(dtype) and not SWAPPED_DTYPES.fullmatch(dtype):
        dtype = labels.dtype.name
    values = labels.tolist()
    kinds = (str, int, float, bool)
    if not _is_allowed(dtype) or not all(type(value) in kinds for value in values):
        raise ValueError(
            f"A model file can have classes that are numbers or strings, not {labels.dtype} "
            f"such as {values[0]!r:.60}."
        )
    return {"dtype": dtype, "values": values}


def _is_allowed(dtype: str) -> bool:
    kinds = (NUMBER_DTYPES, SWAPPED_DTYPES, STRING_DTYPES)
    return dtype == "object" or any(kind.fullmatch(dtype) for kind in kinds)


def labels_from_json(told: dict[str, Any]) -> np.ndarray:
    """Return the labels of a file, two or more, sorted and different.

    Raises
    ------
    WrongFile
        If they are something else.
    """
    dtype, values = told.get("dtype"), told.get("values")
    if set(told) != {"dtype", "values"} or not isinstance(dtype, str) or not _is_allowed(dtype):
        raise WrongFile(f"classes must have a dtype of labels, and values, found {dtype!r:.40}.")
    if not isinstance(values, list) or len(values) < 2:
        raise WrongFile("classes: values must be a list of two labels or more.")
    kinds = {type(value) for value in values}
    if len(kinds) > 1 or not kinds <= {str, int, float, bool}:
        raise WrongFile("classes: values must be labels of one kind.")
    try:
        if dtype == "object":
            labels = np.empty(len(values), dtype=object)
            labels[:] = values
        else:
            labels = np.array(values, dtype=dtype)
        is_exact = labels.tolist() == values and type(labels.tolist()[0]) in kinds
        is_sorted = bool(np.all(labels[1:] > labels[:-1]))
    except (TypeError, ValueError, OverflowError) as error:
        raise WrongFile(f"classes: values are not of dtype {dtype} ({error}).") from error
    if not is_exact:
        raise WrongFile(f"classes: values are not of dtype {dtype}.")
    if not is_sorted:
        raise WrongFile("classes: values must be sorted and different.")
    return labels
