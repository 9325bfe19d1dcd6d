"""Fitted estimators in files: `save_model` and `load_model`.

The format is described in docs/model_files.md. Nothing in a file is executed, no pickle is read,
and nothing of a file is used before it has been checked.
"""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path
from typing import Any

from .._checked_files import (
    WrongFile,
    model_suffix,
    replace_file,
    suffix_of_model_that_exists,
)
from .container import Record, decoded, encoded
from .record import estimator_of, record_of

__all__ = ["load_model", "read_record", "save_model", "write_record"]


def save_model(estimator, path: str | PathLike) -> None:
    """Write a fitted estimator to a file that other versions and other languages can read.

    The file is written at once or not at all. :func:`load_model` reads it.

    Parameters
    ----------
    estimator : estimator of fastlsgd
        Fitted: LeastSquaresRegressor, LeastSquaresCV, LeastSquaresClassifier, SGDRegressor,
        SGDRegressorCV or SGDClassifier.
    path : str or path
        Ends in ".json" (readable; for small models) or ".safetensors" (compact; needs the package
        safetensors).

    Raises
    ------
    ValueError
        If the estimator is none of these, or `path` has another ending.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    ImportError
        If the package safetensors is needed and not installed.
    OSError
        If the file can't be written; one that was there is then as it was.

    Warns
    -----
    UserWarning
        If a parameter is not kept, since it is a function, a splitter or the like.

    See Also
    --------
    load_model : Reads the file.

    Notes
    -----
    Kept are parameters, weights, names, classes, what tells of the fit (`loss_curve_`,
    `condition_`, ...), and the rows that `partial_fit` of the exact estimators has seen. Not kept
    are what `summary()` and `prediction_interval` need, and what `partial_fit` of the SGD
    estimators keeps between calls: after loading it begins anew from the weights. Weights on a GPU
    come to the host. docs/model_files.md describes the format.

    Examples
    --------
    >>> import numpy as np, tempfile, os
    >>> from fastlsgd import LeastSquaresRegressor, load_model, save_model
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> model = LeastSquaresRegressor().fit(X, X @ [1.0, 2.0, 3.0])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(model, os.path.join(folder, "model.json"))
    ...     loaded = load_model(os.path.join(folder, "model.json"))
    >>> bool((loaded.predict(X) == model.predict(X)).all())
    True
    """
    model_suffix(path)
    write_record(record_of(estimator), path)


def load_model(path: str | PathLike) -> Any:
    """Read an estimator that :func:`save_model` or ``fastlsgd fit`` wrote. Nothing is executed.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    estimator : estimator of fastlsgd
        Fitted; it predicts with the same bits as the one that was saved.

    Raises
    ------
    ValueError
        If the file is damaged, of another kind or a newer version, or contradicts itself; the
        message names the file and the field.
    FileNotFoundError
        If there is no such file.
    ImportError
        If the package safetensors is needed and not installed.

    See Also
    --------
    save_model : Writes the file, with an example.

    Notes
    -----
    Of a file that ``fastlsgd fit`` wrote, this is the estimator alone: its columns are the encoded
    ones, as `feature_names_in_` names them, and with ``--loss-scale log`` it predicts the
    logarithm of the target.
    """
    record = read_record(path)
    try:
        return estimator_of(record)
    except WrongFile as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error


def write_record(record: Record, path: str | PathLike) -> None:
    """Write a record by way of a file beside `path`, which then takes its place."""
    replace_file(path, encoded(record, model_suffix(path)))


def read_record(path: str | PathLike) -> Record:
    """Return what a file says, with its checksum and arrays checked, but not what they mean.

    Raises
    ------
    ValueError
        If the file is damaged, or no model file.
    """
    suffix = suffix_of_model_that_exists(path)
    try:
        return decoded(Path(path).read_bytes(), suffix)
    except WrongFile as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error
