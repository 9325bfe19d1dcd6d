"""The house sales in the package, and the features that the demo makes from them."""

from __future__ import annotations

import csv
import gzip
from importlib import resources
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    PolynomialFeatures,
    StandardScaler,
)
from sklearn.utils import Bunch

from ._validation import check_choice

__all__ = ["house_sales_transformer", "load_house_sales"]

_FILE = "lucas_county_house_sales.csv.gz"
_FEATURES = [
    "year_built",
    "stories",
    "living_area_sqft",
    "wall",
    "beds",
    "baths",
    "half_baths",
    "frontage_ft",
    "depth_ft",
    "garage",
    "garage_sqft",
    "rooms",
    "lot_sqft",
    "sale_date",
    "easting_m",
    "northing_m",
]
_CATEGORIES = ["stories", "wall", "garage"]
_DATES = ["sale_date"]
_LOT_SIDES = ["frontage_ft", "depth_ft"]
_FRACTIONAL = ["easting_m", "northing_m"]


def load_house_sales(*, as_frame: bool = False, return_X_y: bool = False) -> Any:
    """Load 25,357 sales of single-family houses in Lucas County, Ohio, 1993 to 1998.

    The sales are sorted by place, from south to north: shuffle before splitting.

    Parameters
    ----------
    as_frame : bool, default=False
        Return a pandas DataFrame and Series, with integers, categories and dates as such.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    sales : Bunch
        A dictionary whose entries are attributes too:

        - ``data``: ndarray of shape (25357, 16), dtype object, or DataFrame. Numbers as float,
          categories as str, dates as str in ISO 8601. Objects, since the columns differ in kind;
          a ColumnTransformer takes them apart by number.
        - ``target``: ndarray of shape (25357,) or Series; sale price in US dollars.
        - ``feature_names``, ``target_names``: lists of str
        - ``frame``: DataFrame or None; features and price together, with ``as_frame=True``.
        - ``DESCR``: str; source, license, meaning of each column and codes.

    (data, target) : tuple
        With ``return_X_y=True``.

    Raises
    ------
    ImportError
        With ``as_frame=True`` where pandas is not installed.

    See Also
    --------
    house_sales_transformer : Makes numeric features of these columns.

    Examples
    --------
    >>> from fastlsgd.datasets import load_house_sales
    >>> sales = load_house_sales()
    >>> sales.data.shape, sales.target[:2].tolist()
    ((25357, 16), [303000.0, 92000.0])
    >>> sales.feature_names[1], sales.data[0, 1]
    ('stories', 'one+half')
    """
    columns = _read_columns()
    price = columns.pop("price")
    frame = None
    if as_frame:
        frame = _frame({**columns, "price": price})
        data, target = frame[_FEATURES], frame["price"]
    else:
        data = np.empty((len(price), len(columns)), dtype=object)
        for j, values in enumerate(columns.values()):
            data[:, j] = values
        target = np.array(price)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        frame=frame,
        feature_names=list(_FEATURES),
        target_names=["price"],
        DESCR=_data_file("README.md").read_text(encoding="utf-8"),
    )


def house_sales_transformer(kind: str = "raw") -> ColumnTransformer:
    """Make the features of the demo from the columns of :func:`load_house_sales`.

    Parameters
    ----------
    kind : {"raw", "products"}, default="raw"
        "raw": numbers in their own units, nothing scaled: years near 1950, metres near
        500,000, counts near 1. The sale date is a year with a fraction.
        "products": the same numbers standardised, with all their squares and products of pairs.

    Returns
    -------
    transformer : ColumnTransformer
        Not fitted; takes the object array as well as the DataFrame. It returns a dense
        float64 array: use ``.astype("float32")`` on it for float32.

    Raises
    ------
    ValueError
        If `kind` is not one of the two.

    Notes
    -----
    A side of the lot that is not recorded (0) becomes the mean of those that are, and a column
    of 0 and 1 tells the linear model where. The first category of each column is
    dropped: with all of them the columns add up to the intercept, so that the coefficients
    of least squares would not be unique. Categories seen fewer than 10 times ("three" and
    "two+half" stories, two sales each) share one column, as do those never seen in training.

    Examples
    --------
    >>> from fastlsgd.datasets import house_sales_transformer, load_house_sales
    >>> sales = load_house_sales()
    >>> transformer = house_sales_transformer().fit(sales.data)
    >>> transformer.transform(sales.data).shape
    (25357, 30)
    >>> transformer.get_feature_names_out(sales.feature_names)[[0, 12, 15]].tolist()
    ['year_built', 'sale_date', 'stories_multilvl']
    """
    check_choice(kind, "kind", ("raw", "products"))
    special = [*_CATEGORIES, *_DATES, *_LOT_SIDES]
    numbers = ColumnTransformer(
        [
            ("as_is", _function(_as_float), _positions(set(_FEATURES) - set(special))),
            ("lot_sides", SimpleImputer(missing_values=0), _positions(_LOT_SIDES)),
            ("years", _function(_as_years), _positions(_DATES)),
        ],
        verbose_feature_names_out=False,
    )
    if kind == "products":
        numbers = make_pipeline(
            numbers, StandardScaler(), PolynomialFeatures(2, include_bias=False)
        )
    unrecorded = MissingIndicator(missing_values=0, features="all")
    one_hot = OneHotEncoder(
        drop="first", min_frequency=10, handle_unknown="infrequent_if_exist", sparse_output=False
    )
    return ColumnTransformer(
        [
            ("numbers", numbers, _positions(_FEATURES)),
            ("unrecorded", unrecorded, _positions(_LOT_SIDES)),
            ("categories", one_hot, _positions(_CATEGORIES)),
        ],
        verbose_feature_names_out=False,
    )


def _data_file(name: str):
    return resources.files("fastlsgd").joinpath("data", name)


def _read_columns() -> dict[str, list]:
    """The columns by name; those that are neither categories nor dates are floats."""
    with _data_file(_FILE).open("rb") as packed, gzip.open(packed, "rt", encoding="ascii") as text:
        header, *rows = csv.reader(text)
    as_text = {*_CATEGORIES, *_DATES}
    return {
        name: list(values) if name in as_text else [float(value) for value in values]
        for name, values in zip(header, zip(*rows, strict=True), strict=True)
    }


def _frame(columns: dict[str, list]):
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("as_frame=True needs pandas: pip install pandas") from error
    dtypes = dict.fromkeys(columns, "int64")
    dtypes |= dict.fromkeys(_FRACTIONAL, "float64") | dict.fromkeys(_CATEGORIES, "category")
    dtypes |= dict.fromkeys(_DATES, "datetime64[s]")
    return pd.DataFrame(columns).astype(dtypes)


def _positions(names) -> list[int]:
    """Column numbers in the order of the data, which are valid for arrays and DataFrames."""
    return [j for j, name in enumerate(_FEATURES) if name in names]


def _function(function) -> FunctionTransformer:
    return FunctionTransformer(function, feature_names_out="one-to-one")


def _as_float(X) -> np.ndarray:
    return np.asarray(X, dtype=np.float64)


def _as_years(X) -> np.ndarray:
    """ISO strings or datetimes as years with a fraction, such as 1996.31."""
    days = np.asarray(X).astype("datetime64[D]").astype(np.int64)
    return 1970.0 + days / 365.2425
