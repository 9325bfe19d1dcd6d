"""`to_onnx`: estimators and pipelines that hold them as ONNX models, by skl2onnx's registry.

A linear model is a product and a sum, in the dtype of its input: `MatMul` and `Add`, and for labels
`ArgMax` of the scores and `Gather`. skl2onnx converts the other steps of a pipeline. Its own
converter of SGDClassifier takes the class of the highest probability, which is another one where
several probabilities are rounded or clipped to 1; so that class has its converter here, too.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted

from . import _validation as check
from . import linear_model, sklearn

__all__ = ["to_onnx"]

ALIAS = "FastlsgdLinearModel"  # of the converter, in skl2onnx's registry


def to_onnx(
    estimator, X=None, *, target_opset: int | None = None, options: dict | None = None
) -> Any:
    """Convert a fitted estimator, or a pipeline that holds one, to an ONNX model.

    Parameters
    ----------
    estimator : object
        Any estimator of this package, or whatever skl2onnx converts that holds some: a
        :class:`sklearn.pipeline.Pipeline`, a search over parameters, a stack of estimators.
    X : array-like or DataFrame of shape (n_samples, n_features), optional
        Some rows, which tell names and dtypes of the inputs; their numbers are not used. A data
        frame has an input of shape (n_samples, 1) per column, in whose name other characters than
        letters, digits and underscores are replaced by underscores. Default: one input of the name
        X with `n_features_in_` columns, of the dtype of `coef_` (of a pipeline's last step, and of
        a search's best estimator).
    target_opset : int, optional
        Version of ONNX's operators. Default: the newest that skl2onnx knows.
    options : dict, optional
        skl2onnx's options for the other steps.

    Returns
    -------
    model : onnx.ModelProto
        ``model.SerializeToString()`` is the content of a file. A regressor has the output
        "variable" of shape (n_samples, n_targets). A classifier has "label", of int64 or strings,
        and "scores" of shape (n_samples, n_classes): those of `decision_function`, or for two
        classes, where that is a single score f, -f and f. Where there is `predict_proba`, there are
        "probabilities" too. Outputs are float32 for float32 inputs, and otherwise float64.

    Raises
    ------
    ValueError
        If the estimator is not fitted, if its labels are neither whole numbers nor strings, or if X
        is not what it was fitted on, or is needed and not given.
    ImportError
        If skl2onnx is not installed.

    Notes
    -----
    Afterwards skl2onnx's own functions convert the estimators of this package too.

    A model adds in the dtype of its input, and the estimators in float64: for float32 inputs they
    differ by float32's rounding.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from fastlsgd import LeastSquaresClassifier, to_onnx
    >>> X, y = load_iris(return_X_y=True)
    >>> model = to_onnx(make_pipeline(StandardScaler(), LeastSquaresClassifier()).fit(X, y))
    >>> [output.name for output in model.graph.output]
    ['label', 'scores']
    """
    if find_spec("skl2onnx") is None:
        raise ImportError("fastlsgd.to_onnx needs skl2onnx: pip install 'fastlsgd[onnx]'")
    import skl2onnx

    if not hasattr(estimator, "fit"):
        raise ValueError(
            f"estimator must be an estimator or a pipeline, got type {type(estimator).__name__}."
        )
    check_is_fitted(estimator)
    _register()
    rows = _first_row(estimator) if X is None else _as_table(X, estimator)[:1]
    try:
        return skl2onnx.to_onnx(estimator, rows, target_opset=target_opset, options=options)
    except RuntimeError as error:
        if X is not None or not hasattr(estimator, "feature_names_in_"):
            raise
        raise ValueError(
            f"The {type(estimator).__name__} was fitted on a data frame, whose columns it takes by "
            f"name: give some of its rows as X."
        ) from error


def _first_row(estimator) -> np.ndarray:
    """A row that stands for those that the estimator was fitted on, where it tells."""
    if not hasattr(estimator, "n_features_in_"):
        raise ValueError(
            f"The {type(estimator).__name__} does not tell what it was fitted on: give some rows "
            f"as X."
        )
    return np.zeros((1, estimator.n_features_in_), _dtype_of(estimator))


def _as_table(X, estimator) -> Any:
    """X as skl2onnx takes it: an array, or a data frame whose columns have names."""
    if hasattr(X, "columns"):
        wrong = [name for name in X.columns if not isinstance(name, str)]
        if wrong:
            raise ValueError(
                f"Columns of X must have names that are strings, got {check.shown(wrong[0])}: "
                f"rename them, or give X as an array."
            )
        return X
    n_features = getattr(estimator, "n_features_in_", None)
    if n_features is None:  # texts, for example
        return X
    rows = X[:1].toarray() if issparse(X) else np.asarray(X)
    if rows.ndim != 2 or rows.shape[1] != n_features:
        raise ValueError(
            f"X must have shape (n_samples, {n_features}), as the {type(estimator).__name__} was "
            f"fitted on, got {rows.shape}."
        )
    return rows


def _dtype_of(estimator) -> np.dtype:
    """The dtype of the weights of a linear model, or of the last step of a pipeline."""
    last = estimator
    while hasattr(last, "steps") or hasattr(last, "best_estimator_"):
        last = last.steps[-1][1] if hasattr(last, "steps") else last.best_estimator_
    return np.dtype(check.on_host(getattr(last, "coef_", np.zeros(0, np.float32))).dtype)


@cache
def _register() -> None:
    """Make skl2onnx know the linear models of this package; a second call would change nothing."""
    from skl2onnx import update_registered_converter

    # Pipelines pass this one to all classifiers; arrays of scores and probabilities stay arrays.
    options = {"zipmap": [True, False]}
    ours = [getattr(linear_model, name) for name in linear_model.__all__]
    for kind in (*ours, *vars(sklearn).values()):
        if isinstance(kind, type):
            update_registered_converter(
                kind, ALIAS, _set_shapes, _convert, parser=_parse, options=options
            )


def _parse(scope, model, inputs, custom_parsers=None):
    """Declare the operator and its outputs; their types are set by `_set_shapes`."""
    from skl2onnx.common.data_types import DoubleTensorType, Int64TensorType

    operator = scope.declare_local_operator(ALIAS, model)
    operator.inputs.extend(inputs)
    names = ["variable"]
    if is_classifier(model):
        operator.outputs.append(scope.declare_local_variable("label", Int64TensorType()))
        names = ["scores", "probabilities"] if hasattr(model, "predict_proba") else ["scores"]
    for name in names:
        operator.outputs.append(scope.declare_local_variable(name, DoubleTensorType()))
    return operator.outputs


def _set_shapes(operator) -> None:
    from skl2onnx.common import data_types as types

    model, given = operator.raw_operator, operator.inputs[0].type
    n_rows = given.shape[0] if given.shape else None
    Numbers = types.FloatTensorType if _is_single(operator) else types.DoubleTensorType
    coef, _ = _weights(model)
    for output in operator.outputs:
        output.type = Numbers([n_rows, coef.shape[1]])
    if _is_multilabel(model):
        operator.outputs[0].type = types.Int64TensorType([n_rows, coef.shape[1]])
    elif is_classifier(model):
        is_text = _labels(model).dtype.kind == "U"
        operator.outputs[0].type = (types.StringTensorType if is_text else types.Int64TensorType)(
            [n_rows]
        )


class Nodes:
    """The nodes of one linear model, which are added to the container one after the other."""

    def __init__(self, scope, operator, container) -> None:
        from onnx import TensorProto

        self.scope, self.container = scope, container
        self.number = TensorProto.FLOAT if _is_single(operator) else TensorProto.DOUBLE

    def add(self, kind: str, *inputs: str, output: str | None = None, **attributes) -> str:
        """Add a node, and return the name of its output, a new one unless it is given."""
        output = output or self.scope.get_unique_variable_name(kind.lower())
        name = self.scope.get_unique_operator_name(kind)
        self.container.add_node(kind, list(inputs), output, name=name, **attributes)
        return output

    def constant(self, values, dtype: int | None = None) -> str:
        """Add numbers, of the dtype of the model's unless another is given; return their name."""
        values, dtype = np.asarray(values), self.number if dtype is None else dtype
        name = self.scope.get_unique_variable_name("constant")
        self.container.add_initializer(name, dtype, values.shape, values.ravel().tolist())
        return name


def _convert(scope, operator, container) -> None:
    """Write the nodes of one linear model."""
    from onnx import TensorProto

    model, nodes = operator.raw_operator, Nodes(scope, operator, container)
    names = [output.full_name for output in operator.outputs]
    coef, intercept = _weights(model)
    columns = [nodes.add("Cast", part.full_name, to=nodes.number) for part in operator.inputs]
    X = columns[0] if len(columns) == 1 else nodes.add("Concat", *columns, axis=1)
    products = nodes.add("MatMul", X, nodes.constant(coef))
    if not is_classifier(model):
        nodes.add("Add", products, nodes.constant(intercept), output=names[0])
        return
    scores = nodes.add("Add", products, nodes.constant(intercept), output=names[1])
    if _is_multilabel(model):
        positive = nodes.add("Greater", scores, nodes.constant([0.0]))
        nodes.add("Cast", positive, output=names[0], to=TensorProto.INT64)
        return
    labels = _labels(model)
    kind = TensorProto.STRING if labels.dtype.kind == "U" else TensorProto.INT64
    highest = nodes.add("ArgMax", scores, axis=1, keepdims=0)
    nodes.add("Gather", nodes.constant(labels, kind), highest, output=names[0], axis=0)
    if len(names) == 3:
        _add_probabilities(nodes, model.loss, scores, len(labels), names[2])


def _add_probabilities(nodes: Nodes, loss: str, scores: str, n_classes: int, name: str) -> None:
    """Add those of scikit-learn's SGDClassifier: one per class and score, scaled to a sum of 1."""
    if loss == "modified_huber":
        from_below = nodes.add("Max", scores, nodes.constant([-1.0]))
        clipped = nodes.add("Min", from_below, nodes.constant([1.0]))
        each = nodes.add("Add", clipped, nodes.constant([1.0]))
    else:
        # onnxruntime's Sigmoid of float32 has few digits where the probability is small.
        powers = nodes.add("Exp", nodes.add("Neg", scores))
        each = nodes.add("Reciprocal", nodes.add("Add", powers, nodes.constant([1.0])))
    total = nodes.add("MatMul", each, nodes.constant(np.ones((n_classes, 1))))
    is_zero = nodes.add("Equal", total, nodes.constant([0.0]))
    each = nodes.add("Where", is_zero, nodes.constant([1.0]), each)
    total = nodes.add("Where", is_zero, nodes.constant([float(n_classes)]), total)
    nodes.add("Div", each, total, output=name)


def _weights(model) -> tuple[np.ndarray, np.ndarray]:
    """Weights (d, t) and intercepts (t,), where two classes have two targets."""
    coef = np.atleast_2d(np.asarray(check.on_host(model.coef_), np.float64))
    intercept = np.asarray(check.on_host(model.intercept_), np.float64)
    intercept = np.broadcast_to(intercept, len(coef))
    if is_classifier(model) and len(coef) == 1 and not _is_multilabel(model):
        coef, intercept = np.vstack((-coef, coef)), np.append(-intercept, intercept)
    return coef.T, intercept


def _labels(model) -> np.ndarray:
    """The classes as strings, or as whole numbers of any dtype."""
    labels = np.asarray(check.on_host(model.classes_))
    if labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels):
        labels = labels.astype(str)
    if labels.dtype.kind == "f" and (labels == np.floor(labels)).all():
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "biuU":
        raise ValueError(
            f"ONNX has labels that are whole numbers or strings, but those of the "
            f"{type(model).__name__} are {check.shown(labels.tolist())}."
        )
    return labels


def _is_multilabel(model) -> bool:
    """Whether labels don't exclude each other, so that each is predicted by its own sign."""
    binarizer = getattr(model, "_label_binarizer", None)
    return binarizer is not None and binarizer.y_type_.startswith("multilabel")


def _is_single(operator) -> bool:
    """Whether all inputs have float32, or less; a data frame is an input per column."""
    kinds = {type(given.type).__name__ for given in operator.inputs}
    return kinds <= {"FloatTensorType", "Float16TensorType"}
