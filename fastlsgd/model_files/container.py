"""The bytes of a model file: a header and arrays, as JSON or in the format safetensors.

Both forms have the same header. In JSON the numbers of an array stand in the header, in row-major
order; in safetensors the header is a text of JSON in the metadata, and the numbers follow it as
they are in memory. A file ends what it says with its SHA-256, for which one rule serves both forms:
it is that of all bytes, with 64 zeros in place of its own 64 digits.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any, NamedTuple

import numpy as np

from .._checked_files import WrongFile, safetensors_explained, safetensors_package

FORMAT, VERSION = "fastlsgd.model", 1
DTYPES = ("float32", "float64")
# What JSON has no numbers for.
SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_NO_DIGEST = "0" * 64
_DIGEST = re.compile("[0-9a-f]{64}")


class Record(NamedTuple):
    """What a file says."""

    header: dict[str, Any]  # without `arrays` and `sha256`
    arrays: dict[str, np.ndarray]  # float32 or float64


def encoded(record: Record, suffix: str) -> bytes:
    """Return the bytes of a file."""
    arrays = {name: np.ascontiguousarray(array) for name, array in record.arrays.items()}
    told: dict[str, dict[str, Any]] = {
        name: {"dtype": array.dtype.name, "shape": list(array.shape)}
        for name, array in arrays.items()
    }
    if suffix == ".json":
        for name, array in arrays.items():
            told[name]["data"] = [number_as_json(number) for number in array.ravel().tolist()]
    text = json_text({**record.header, "arrays": told, "sha256": _NO_DIGEST})
    if suffix == ".json":
        content = text.encode()
    else:
        package = safetensors_package("Model files that end in .safetensors")
        content = package.numpy.save(arrays, {FORMAT: text})
    # The last zeros of the header: a name of a feature may have as many.
    end = len(content) if suffix == ".json" else _header_end(content)
    before, _, after = content[:end].rpartition(_NO_DIGEST.encode())
    return before + hashlib.sha256(content).hexdigest().encode() + after + content[end:]


def decoded(content: bytes, suffix: str) -> Record:
    """Return what a file says, after checks of its checksum and of its arrays.

    Raises
    ------
    WrongFile
        If anything is not as it must be.
    """
    if suffix == ".json":
        header, arrays = _parsed(content), None
    else:
        text, arrays = _parts_of_safetensors(content)
        header = _parsed(text.encode())
    if header.get("format") != FORMAT:
        raise WrongFile(f"format must be {FORMAT!r}, found {header.get('format')!r:.40}.")
    version = header.get("version")
    if type(version) is not int or version != VERSION:
        raise WrongFile(f"version {version!r:.40} can't be read: this fastlsgd knows {VERSION}.")
    _check_digest(header.pop("sha256", None), content)
    told = header.pop("arrays", None)
    if not isinstance(told, dict):
        raise WrongFile("arrays must be an object.")
    if arrays is None:
        arrays = {name: _array_of_json(name, value) for name, value in told.items()}
    else:
        _compare(told, arrays)
    return Record(header, arrays)


def _check_digest(digest, content: bytes) -> None:
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise WrongFile("sha256 must be 64 hexadecimal digits.")
    blank = content.replace(digest.encode(), _NO_DIGEST.encode())
    if hashlib.sha256(blank).hexdigest() != digest:
        raise WrongFile("the checksum sha256 does not match: the file is damaged or was changed.")


# --------------------------------------------------------------------------------------- JSON


def json_text(document: dict[str, Any]) -> str:
    """Return JSON with a line for each entry of the document, and of those that are objects."""
    lines = []
    for name, value in document.items():
        if isinstance(value, dict) and value:
            inner = [f"    {_compact(key)}: {_compact(entry)}" for key, entry in value.items()]
            text = "{\n" + ",\n".join(inner) + "\n  }"
        else:
            text = _compact(value)
        lines.append(f"  {_compact(name)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _compact(value) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=True)


def number_as_json(number: float) -> float | str:
    """Return a float as JSON has it; float64 is written so that it is read without rounding."""
    if math.isfinite(number):
        return float(number)
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def number_from_json(value, where: str, *, finite: bool = False) -> float:
    """Return the float that JSON has.

    Raises
    ------
    WrongFile
        If it has something else there.
    """
    if isinstance(value, str) and value in SPECIAL and not finite:
        return SPECIAL[value]
    if type(value) in (int, float):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    what = "a finite number" if finite else "a number"
    raise WrongFile(f"{where} must be {what}, found {value!r:.60}.")


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(
            content.decode("utf-8"), object_pairs_hook=_pairs, parse_constant=_refused
        )
    except (ValueError, RecursionError) as error:
        raise WrongFile(f"this is no intact JSON ({error}).") from error
    if not isinstance(document, dict):
        raise WrongFile("this is JSON, but no object.")
    return document


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has the same name twice")
    return found


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _array_of_json(name: str, value) -> np.ndarray:
    where = f"arrays: {name}"
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data"}:
        raise WrongFile(f"{where} must have dtype, shape and data.")
    dtype, shape = _told(name, value)
    data = value["data"]
    if not isinstance(data, list) or len(data) != math.prod(shape):
        count = len(data) if isinstance(data, list) else "no list of"
        raise WrongFile(f"{where} must have {math.prod(shape)} numbers by its shape, has {count}.")
    numbers = np.array([number_from_json(number, where) for number in data], dtype=np.float64)
    with np.errstate(over="ignore"):
        array = numbers.astype(dtype)
    try:
        array = array.reshape(shape)
    except ValueError as error:  # beside a length of 0 there may be one that no array has
        raise WrongFile(f"{where}: shape {shape} is not allowed.") from error
    if not np.array_equal(array.ravel(), numbers, equal_nan=True):
        raise WrongFile(f"{where} has numbers that are not of its dtype, {dtype}.")
    return array


def _told(name: str, value: dict[str, Any]) -> tuple[np.dtype, tuple[int, ...]]:
    """Return the dtype and shape that a header has for an array."""
    dtype, shape = value.get("dtype"), value.get("shape")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise WrongFile(f"arrays: {name}: dtype must be one of {DTYPES}, found {dtype!r:.40}.")
    is_shape = (
        isinstance(shape, list)
        and 1 <= len(shape) <= 3
        and all(type(length) is int and 0 <= length < 2**53 for length in shape)
    )
    if not is_shape:
        raise WrongFile(f"arrays: {name}: shape {shape!r:.60} is not allowed.")
    assert isinstance(shape, list)
    return np.dtype(dtype), tuple(shape)


# -------------------------------------------------------------------------------- safetensors


def _header_end(content: bytes) -> int:
    return 8 + int.from_bytes(content[:8], "little")


def _parts_of_safetensors(content: bytes) -> tuple[str, dict[str, np.ndarray]]:
    """Return the text of the header, and all arrays, whatever they are."""
    package = safetensors_package("Model files that end in .safetensors")
    with safetensors_explained(package):
        arrays = package.numpy.load(content)
        metadata = json.loads(content[8 : _header_end(content)]).get("__metadata__") or {}
    if FORMAT not in metadata:
        raise WrongFile(f"the header {FORMAT} is missing: this is another kind of file.")
    return metadata[FORMAT], arrays


def _compare(told: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    if set(told) != set(arrays):
        raise WrongFile(f"the arrays must be {sorted(told)}, found {sorted(arrays)}.")
    for name, value in told.items():
        if not isinstance(value, dict) or set(value) != {"dtype", "shape"}:
            raise WrongFile(f"arrays: {name} must have dtype and shape.")
        dtype, shape = _told(name, value)
        array = arrays[name]
        if array.dtype != dtype or array.shape != shape:
            raise WrongFile(
                f"arrays: {name} must have dtype {dtype} and shape {shape} by the header, found "
                f"{array.dtype} and {array.shape}."
            )
