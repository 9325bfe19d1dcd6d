"""Moments in a file: arrays in the format safetensors, whose metadata have a JSON header.

The header says what the arrays must be, and has a checksum of them and of itself. Nothing in the
file is executed, and no array is used before its name, dtype, shape and values have been checked.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ._checked_files import (
    WrongFile,
    replace_file,
    safetensors_explained,
    safetensors_package,
)
from .solvers.moments import GramSums, Place, Sums, TriangularSums

WHAT = "Files of moments"
FORMAT = "fastlsgd.moments"
# Version 2 has units, of columns whose squares leave the range of float64; others need none.
PLAIN, WITH_UNITS = 1, 2
LARGEST_UNIT = 4096
KINDS: dict[str, type[GramSums] | type[TriangularSums]] = {
    "gram": GramSums,
    "qr": TriangularSums,
}
DTYPES = ("float32", "float64")


def write_moments(moments, path: str | PathLike) -> None:
    """Write moments by way of a file beside `path`, which then takes its place."""
    header, arrays = described(moments)
    content = safetensors_package(WHAT).numpy.save(arrays, {FORMAT: json.dumps(header)})
    replace_file(path, content)


def described(moments) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and the arrays of moments that have rows."""
    sums: Sums = moments.required_sums()
    place = sums.place
    arrays = {"origin": place.origin, "offset": place.offset, **sums.arrays()}
    has_units = bool(place.units.any())
    if has_units:
        arrays["units"] = place.units.astype(np.float64)
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    names = getattr(moments, "feature_names_in_", None)
    header = {
        "format": FORMAT,
        "version": WITH_UNITS if has_units else PLAIN,
        "factor": moments.factor,
        "n_samples": place.n_rows,
        "n_features": moments.n_features,
        "n_targets": moments.n_targets,
        "has_one_target": moments.has_one_target,
        "weight": place.weight.hex(),
        "log_weights": place.log_weights.hex(),
        "dtype": np.dtype(moments.dtype).name,
        "target_dtype": np.dtype(moments.target_dtype).name,
        "feature_names": None if names is None else [str(name) for name in names],
    }
    header["sha256"] = _checksum(header, arrays)
    return header, arrays


def read_moments(moments, path: str | PathLike) -> None:
    """Fill empty moments with what a file has.

    Raises
    ------
    ValueError
        If anything in the file is not as it must be.
    """
    try:
        fill(moments, *content(path, FORMAT))
    except WrongFile as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error


def fill(moments, header: dict, arrays: dict[str, np.ndarray]) -> None:
    """Fill empty moments with what `described` has returned, after checks of all of it.

    Raises
    ------
    WrongFile
        If anything is not as it must be.
    """
    sums = _checked(header, arrays)
    moments.factor, moments.has_one_target = header["factor"], header["has_one_target"]
    moments.dtype = np.dtype(header["dtype"])
    moments.target_dtype = np.dtype(header["target_dtype"])
    if header["feature_names"] is not None:
        moments.feature_names_in_ = np.array(header["feature_names"], dtype=object)
    moments.sums = sums


def content(path, kind: str) -> tuple[dict, dict[str, np.ndarray]]:
    """Return the header of this kind and all arrays of a file, whatever they are."""
    safetensors = safetensors_package(WHAT)
    if not Path(path).exists():
        raise FileNotFoundError(f"There is no file {os.fspath(path)}.")
    with (
        safetensors_explained(safetensors),
        safetensors.safe_open(os.fspath(path), framework="numpy") as file,
    ):
        metadata = file.metadata() or {}
        if kind not in metadata:
            raise WrongFile(f"the header {kind} is missing: this is another kind of file.")
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    try:
        header = json.loads(metadata[kind])
    except ValueError as error:
        raise WrongFile(f"the header is no JSON ({error}).") from error
    if not isinstance(header, dict):
        raise WrongFile("the header is no JSON object.")
    return header, arrays


def _checked(header: dict, arrays: dict[str, np.ndarray]) -> Sums:
    """Return the sums of a file, after all checks."""
    _check_header(header)
    kind, d, t = KINDS[header["factor"]], header["n_features"], header["n_targets"]
    k = len(arrays["upper"]) if "upper" in arrays and arrays["upper"].ndim else 0
    shapes: dict[str, tuple[int, ...]] = {"origin": (d + t,), "offset": (d + t,)}
    if kind is GramSums:
        shapes |= {"xx": (d, d), "xy": (d, t), "yy": (t,)}
    else:
        shapes |= {"upper": (k, d), "slopes": (k, t), "rest": (t,)}
    if header["version"] == WITH_UNITS:
        shapes["units"] = (d + t,)
    if set(arrays) != set(shapes):
        raise WrongFile(f"the arrays must be {sorted(shapes)}, found {sorted(arrays)}.")
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != shape or array.dtype != np.float64:
            raise WrongFile(
                f"{name} must have shape {shape} and dtype float64 by the header, found shape "
                f"{array.shape} and dtype {array.dtype}."
            )
        if not np.isfinite(array).all():
            raise WrongFile(f"{name} has NaN or infinity.")
    if header["sha256"] != _checksum(header, arrays):
        raise WrongFile("the checksum does not match: the file is damaged or was changed.")
    _check_squares(arrays)
    weight, log_weights = (float.fromhex(header[name]) for name in ("weight", "log_weights"))
    units = arrays.pop("units", np.zeros(d + t))
    if (np.abs(units) > LARGEST_UNIT).any() or (units != np.rint(units)).any():
        raise WrongFile("units has numbers that are no powers of two of float64.")
    origin, offset = arrays.pop("origin"), arrays.pop("offset")
    place = Place(header["n_samples"], weight, log_weights, origin, offset, units.astype(int))
    return kind(place, **arrays)


def _check_header(header: dict) -> None:
    if header.get("format") != FORMAT:
        raise WrongFile(f"format must be {FORMAT!r}, found {header.get('format')!r:.40}.")
    version = header.get("version")
    if version not in (PLAIN, WITH_UNITS):
        raise WrongFile(
            f"version {version!r:.40} can't be read: this fastlsgd knows {PLAIN} and {WITH_UNITS}."
        )
    d, t, names = (header.get(name) for name in ("n_features", "n_targets", "feature_names"))
    is_right = {
        "factor": isinstance(header.get("factor"), str) and header["factor"] in KINDS,
        **{
            name: type(header.get(name)) is int and 1 <= header[name] < 2**53
            for name in ("n_samples", "n_features", "n_targets")
        },
        "has_one_target": type(header.get("has_one_target")) is bool
        and (t == 1 or not header["has_one_target"]),
        "weight": _number(header.get("weight")) > 0.0,
        "log_weights": math.isfinite(_number(header.get("log_weights"))),
        "dtype": header.get("dtype") in DTYPES,
        "target_dtype": header.get("target_dtype") in DTYPES,
        "feature_names": names is None
        or (
            isinstance(names, list)
            and len(names) == d
            and all(isinstance(name, str) for name in names)
        ),
        "sha256": isinstance(header.get("sha256"), str),
    }
    for name, holds in is_right.items():
        if not holds:
            raise WrongFile(f"{name} in the header is not allowed: {header.get(name)!r:.60}.")


def _number(text: object) -> float:
    """Return a hexadecimal float of the header; NaN if it is none, or infinite."""
    try:
        number = float.fromhex(text)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def _check_squares(arrays: dict[str, np.ndarray]) -> None:
    """Refuse sums of squares that no rows have."""
    if "xx" in arrays and not np.array_equal(arrays["xx"], arrays["xx"].T):
        raise WrongFile("xx is not symmetric.")
    squares = {"yy": arrays.get("yy"), "rest": arrays.get("rest")}
    if "xx" in arrays:
        squares["xx"] = np.diag(arrays["xx"])
    for name, values in squares.items():
        if values is not None and (values < 0.0).any():
            raise WrongFile(f"{name} has negative squares.")


def _checksum(header: dict, arrays: dict[str, np.ndarray]) -> str:
    told = {name: value for name, value in header.items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
