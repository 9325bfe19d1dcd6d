"""`to_c`: the predictions of a model as one file of C99, which needs no library.

A product of weights and features is summed up with the rounding errors of its steps (the algorithm
Dot2 of Ogita, Rump and Oishi 2005), so that the result is the exact one, rounded: within an ulp,
unless terms cancel to 1e-16 of their size. It costs some 25 operations per weight instead of two,
which are nanoseconds beside the microseconds of a call from Python. The rounding of `predict` is
that of its kernel, by the instruction set; the two differ by it.
"""

from __future__ import annotations

import os
import re
import string
from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from . import _validation as check
from ._checked_files import WrongFile
from ._version import __version__
from .model_files import read_record
from .model_files.record import class_name_of, estimator_of
from .model_files.table import Table, table_from_json
from .streaming.encoding import Column

CODE_COLUMNS = 90
C_KEYWORDS = frozenset(
    """auto break case char const continue default do double else enum extern float for goto if
    inline int long register restrict return short signed sizeof static struct switch typedef union
    unsigned void volatile while _Bool _Complex _Imaginary""".split()  # noqa: SIM905
)

DOT = """\
/* x = high + low, each of at most 26 bits, for which products are exact. */
static double $n_high(double x) {
  volatile double t = 134217729.0 * x; /* volatile: no part of it may be fused */
  const double rest = t - x;
  return t - rest;
}

/* b + w . x with the rounding errors of products and sums added up (Dot2). */
static double $n_dot(const double *w, const double *x, double b) {
  const double most = 1e290; /* beyond it, the parts of a number would overflow */
  double sum = b, error = 0.0;
  size_t j;
  for (j = 0; j < $N_N_FEATURES; ++j) {
    const double p = w[j] * x[j];
    const double s = sum + p, q = s - sum;
    if (w[j] < most && w[j] > -most && x[j] < most && x[j] > -most && s < most && s > -most) {
      const double wh = $n_high(w[j]), wl = w[j] - wh, xh = $n_high(x[j]), xl = x[j] - xh;
      error += ((wh * xh - p) + wh * xl + wl * xh) + wl * xl;
      error += (sum - (s - q)) + (p - q);
    }
    sum = s;
  }
  return sum + error;
}
"""

SCORES = """\
void $n_scores(const double *x, double *out) {
  size_t k;
  for (k = 0; k < $N_N_TARGETS; ++k) out[k] = $n_dot($n_coef[k], x, $n_intercept[k]);
}
"""

CLASS_OF_TWO = """\
size_t $n_class(const double *x) {
  double score;
  $n_scores(x, &score);
  return score > 0.0 ? 1 : 0;
}
"""

CLASS_OF_MANY = """\
size_t $n_class(const double *x) {
  size_t k, best = 0;
  double most = $n_dot($n_coef[0], x, $n_intercept[0]);
  for (k = 1; k < $N_N_TARGETS; ++k) {
    const double score = $n_dot($n_coef[k], x, $n_intercept[k]);
    if (score > most) {
      most = score;
      best = k;
    }
  }
  return best;
}
"""

LABELS_OF_MANY = """\
void $n_labels_of(const double *x, unsigned char *out) {
  size_t k;
  for (k = 0; k < $N_N_TARGETS; ++k) out[k] = $n_dot($n_coef[k], x, $n_intercept[k]) > 0.0;
}
"""

PREDICT = """\
void $n_predict(const double *x, double *out) {
  size_t k;
  for (k = 0; k < $N_N_TARGETS; ++k) out[k] = $n_dot($n_coef[k], x, $n_intercept[k]);
}
"""

FIND_TEXT = """\
/* The place of a text among some, or their number. */
static size_t $n_find_text(const char *text, const char *const *known, size_t count) {
  size_t k;
  for (k = 0; k < count; ++k) {
    const char *a = text, *b = known[k];
    while (*a && *a == *b) ++a, ++b;
    if (*a == *b) return k;
  }
  return count;
}
"""

FIND_NUMBER = """\
/* The place of a number among some, or how many they are. */
static size_t $n_find_number(double number, const double *known, size_t count) {
  size_t k;
  for (k = 0; k < count; ++k)
    if (number == known[k]) return k;
  return count;
}
"""


def to_c(model, *, name: str = "model") -> str:
    """Write the predictions of a model as one file of C99, without allocations or libraries.

    Parameters
    ----------
    model : estimator or path
        A fitted estimator of fastlsgd, or a file of :func:`save_model` or ``fastlsgd fit``.
    name : str, default="model"
        What names in C start with.

    Returns
    -------
    source : str
        With ``name="model"`` it has ``MODEL_N_FEATURES``, ``MODEL_N_TARGETS`` and
        ``model_feature_names``, and

        - of a regressor ``void model_predict(const double *x, double *out)``;
        - of a classifier ``void model_scores(const double *x, double *out)``, the
          `decision_function`, and ``size_t model_class(const double *x)``, the place of the
          predicted label in ``model_labels`` (for labels that don't exclude each other
          ``void model_labels_of(const double *x, unsigned char *out)``);
        - of a file of ``fastlsgd fit`` also ``model_row``, a struct with the columns of the table,
          and a function of it, which encodes categories: ``int model_predict_row(const model_row
          *row, double *out)``, or ``model_class_row``. They return 0, or the number of the first
          column, from 1, whose value is not allowed. With ``--loss-scale log`` the prediction is
          the exponential, for which alone the C library's ``exp`` is needed.

    Raises
    ------
    ValueError
        If the model is none of these, not fitted, damaged, or `name` is no identifier of C.

    See Also
    --------
    save_model : Files that other programs can read.

    Notes
    -----
    Results are the exact ones, rounded once, unless terms cancel to 1e-16 of their size: don't
    compile with ``-ffast-math``. `predict` of float64 rows differs by the rounding of its own
    sum, at most ``n_features * 1.1e-16`` times the sum of the sizes of the terms. Where x has NaN,
    so has the prediction, and the class is that of place 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlsgd import LeastSquaresRegressor, to_c
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> source = to_c(LeastSquaresRegressor().fit(X, X @ [1.0, 2.0, 3.0]), name="price")
    >>> "void price_predict(const double *x, double *out)" in source
    True
    """
    if not isinstance(name, str) or not re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,40}", name):
        raise ValueError(f"name must be an identifier of C, got {check.shown(name)}.")
    estimator, table = _model_of(model)
    coef = estimator.coef_
    coef = coef.toarray() if hasattr(coef, "toarray") else check.on_host(coef)
    w, b = check.as_coefficients(coef, estimator.intercept_, coef.shape[-1])
    check.explain_non_finite(coef_=w, intercept_=b)
    names = getattr(estimator, "feature_names_in_", None)
    parts = [
        _opening(estimator, table, w.shape),
        _weights(w, b, names),
        DOT,
        *_predictions(estimator),
    ]
    if table is not None and table.columns:
        parts += _row_functions(estimator, table)
    return "\n".join(parts).replace("$n", name).replace("$N", name.upper())


def _model_of(model) -> tuple[Any, Table | None]:
    """Return the estimator, and the columns of its table where there are any."""
    if isinstance(model, (str, os.PathLike)):
        record = read_record(model)
        try:
            estimator = estimator_of(record)
            told = record.header.get("table")
            return estimator, None if told is None else table_from_json(told, estimator)
        except WrongFile as error:
            raise ValueError(f"{os.fspath(model)}: {error}") from error
    class_name_of(model)  # for its error
    check_is_fitted(model)
    return model, None


# ---------------------------------------------------------------------------- parts of the file
#
# In templates, $n stands for the name, and $N for the same in capitals. C has no $, and `_text`
# escapes those of the user.


def _opening(estimator, table: Table | None, shape: tuple[int, ...]) -> str:
    headers = ["stddef.h"]
    if table is not None and table.columns and table.loss_scale == "log":
        headers.append("math.h")
    lines = [
        f"/* Predictions of a {type(estimator).__name__}, written by fastlsgd {__version__}.",
        " *",
        " * C99, without allocations. -ffast-math would remove the rounding errors that are added.",
        " */",
        *(f"#include <{header}>" for header in headers),
        "",
        f"#define $N_N_FEATURES {shape[1]}",
        f"#define $N_N_TARGETS {shape[0]}",
        "",
        *_prototypes(estimator, table),
    ]
    return "\n".join(lines) + "\n"


def _prototypes(estimator, table: Table | None) -> list[str]:
    """Return the declarations of the functions, which another file can copy."""
    if not hasattr(estimator, "classes_"):
        found = ["void $n_predict(const double *x, double *out);"]
    else:
        found = ["void $n_scores(const double *x, double *out);"]
        if _is_multilabel(estimator):
            found.append("void $n_labels_of(const double *x, unsigned char *out);")
        else:
            found.append("size_t $n_class(const double *x);")
    if table is None or not table.columns:
        return found
    fields = [
        f"  {_type_of(column)}{field};"
        for column, field in zip(table.columns, _fields(table.columns), strict=True)
    ]
    return [
        *found,
        "",
        "/* A row of the table. Numbers that are missing are NaN, and texts NULL. */",
        "typedef struct {",
        *fields,
        "} $n_row;",
        "",
        "/* Returns 0, or the number of the first column, from 1, whose value is not allowed. */",
        f"{_signature_of_row(estimator)};",
    ]


def _signature_of_row(estimator) -> str:
    if hasattr(estimator, "classes_"):
        return "int $n_class_row(const $n_row *row, size_t *out)"
    return "int $n_predict_row(const $n_row *row, double *out)"


def _weights(w: np.ndarray, b: np.ndarray, names) -> str:
    rows = ",\n".join(f"  {{{_lines(map(_number, row))}}}" for row in w)
    parts = [
        f"static const double $n_coef[$N_N_TARGETS][$N_N_FEATURES] = {{\n{rows}}};",
        f"static const double $n_intercept[$N_N_TARGETS] = {{{_lines(map(_number, b))}}};",
    ]
    if names is not None:
        parts.append(_array("const char *const $n_feature_names", map(_text, names)))
    return "\n\n".join(parts) + "\n"


def _predictions(estimator) -> list[str]:
    if not hasattr(estimator, "classes_"):
        return [PREDICT]
    scores = PREDICT.replace("$n_predict", "$n_scores")
    if _is_multilabel(estimator):
        return [scores, LABELS_OF_MANY]
    labels = check.on_host(estimator.classes_).tolist()
    if all(isinstance(label, str) for label in labels):
        kind, texts = "const char *const", [_text(label) for label in labels]
    elif all(map(_is_long_long, labels)):
        kind, texts = "const long long", [f"{int(label)}LL" for label in labels]
    elif all(isinstance(label, float) for label in labels):
        kind, texts = "const double", [_number(label) for label in labels]
    else:
        wrong = next(label for label in labels if not _is_long_long(label))
        raise ValueError(f"C has no labels such as {check.shown(wrong)}.")
    two = len(labels) == 2
    return [
        _array(f"{kind} $n_labels", texts) + "\n",
        scores,
        CLASS_OF_TWO if two else CLASS_OF_MANY,
    ]


def _row_functions(estimator, table: Table) -> list[str]:
    """Return the function of a row of the table, and what it needs."""
    known = [
        _array(f"static const {_type_of_known(column)}$n_known_{k}", _known(column)) + "\n"
        for k, column in enumerate(table.columns, 1)
        if column.categories is not None
    ]
    kinds = {_is_text(column) for column in table.columns if column.categories is not None}
    body, place = [], 0
    for k, (column, field) in enumerate(zip(table.columns, _fields(table.columns), strict=True), 1):
        body += _encoded(column, field, k, place)
        place += len(column.names)
    if hasattr(estimator, "classes_"):
        ending = ["  *out = $n_class(x);"]
    else:
        ending = ["  $n_predict(x, out);"]
        if table.loss_scale == "log":
            ending.append("  *out = exp(*out);")
    function = [
        _signature_of_row(estimator) + " {",
        "  double x[$N_N_FEATURES];",
        *(["  size_t k;"] if kinds else []),
        *body,
        *ending,
        "  return 0;",
        "}",
    ]
    finders = [FIND_TEXT] if True in kinds else []
    finders += [FIND_NUMBER] if False in kinds else []
    return [*known, *finders, "\n".join(function) + "\n"]


def _encoded(column: Column, field: str, k: int, place: int) -> list[str]:
    """Return the lines that write column k of a row to x, from this place on."""
    value = f"row->{field}"
    if column.categories is None:
        lines = [f"  x[{place}] = {value};"]
        if column.fill is not None:
            lines.append(f"  if (x[{place}] != x[{place}]) x[{place}] = {_number(column.fill)};")
        return [*lines, f"  if (x[{place}] - x[{place}] != 0.0) return {k};"]
    n, total = len(column.categories), len(column.categories) + len(column.others)
    finder, missing, literal = "number", f"{value} != {value}", _number
    if _is_text(column):
        finder, missing, literal = "text", f"!{value}", _text
    lines = []
    if column.fill is not None:
        value = f"({missing} ? {literal(column.fill)} : {value})"
    elif _is_text(column):
        lines.append(f"  if ({missing}) return {k};")
    return [
        *lines,
        f"  k = $n_find_{finder}({value}, $n_known_{k}, {total});",
        f"  if (k == {total}) return {k};",
        *([f"  for (size_t j = 0; j < {n}; ++j) x[{place} + j] = j == k;"] if n else []),
    ]


def _is_long_long(label) -> bool:
    """Whether C has a constant of this number; -2^63 is none, but minus a constant."""
    return isinstance(label, int) and -(2**63) < label < 2**63


def _is_multilabel(estimator) -> bool:
    binarizer = getattr(estimator, "_label_binarizer", None)
    return binarizer is not None and binarizer.y_type_.startswith("multilabel")


def _is_text(column: Column) -> bool:
    return isinstance([*(column.categories or ()), *column.others][0], str)


def _type_of(column: Column) -> str:
    return "const char *" if column.categories is not None and _is_text(column) else "double "


def _type_of_known(column: Column) -> str:
    return "char *const " if _is_text(column) else "double "


def _known(column: Column) -> list[str]:
    values = [*(column.categories or ()), *column.others]
    return [_text(value) if isinstance(value, str) else _number(value) for value in values]


def _fields(columns: tuple[Column, ...]) -> list[str]:
    """Return a name in C for each column."""
    found: list[str] = []
    for column in columns:
        plain = re.sub("[^A-Za-z0-9_]", "_", column.name)
        if not re.match("[A-Za-z]", plain) or plain in C_KEYWORDS:
            plain = f"column_{plain}"
        name, count = plain, 1
        while name in found:
            count += 1
            name = f"{plain}_{count}"
        found.append(name)
    return found


# --------------------------------------------------------------------------------- C as text


def _array(declaration: str, texts: Iterable[str]) -> str:
    parts = list(texts)
    return f"{declaration}[{len(parts)}] = {{\n    {_lines(parts)}}};"


def _lines(texts: Iterable[str]) -> str:
    """Return a list of constants, in lines of some length."""
    lines = [""]
    for text in texts:
        if lines[-1] and len(lines[-1]) + len(text) > CODE_COLUMNS:
            lines.append("")
        lines[-1] += f"{text}, "
    return "\n    ".join(line.rstrip() for line in lines).rstrip(",")


def _number(value) -> str:
    """Return a float as a constant of C, which compilers read as the same number."""
    if isinstance(value, int) and abs(value) > 2**53:
        raise ValueError(f"C's double has no number {check.shown(value)}.")
    return repr(float(value))


def _text(value: str) -> str:
    """Return a constant of C in ASCII, as UTF-8."""
    if "\0" in value:
        raise ValueError(f"A text of C ends at its first NUL, but {check.shown(value)} has one.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"UTF-8 has no text {check.shown(value)}.") from error
    plain = set(string.ascii_letters + string.digits + " _-+=.,:;()[]<>/*&|!^~'#%{}")
    return '"' + "".join(
        character if character in plain else "".join(f"\\{byte:03o}" for byte in character.encode())
        for character in value
    ) + '"'  # fmt: skip
