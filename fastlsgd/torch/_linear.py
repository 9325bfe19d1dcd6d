"""Linear layers from fitted estimators, and estimators from linear layers."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted
from torch import nn

from .. import _validation as check
from ..linear_model import LeastSquaresClassifier, LeastSquaresRegressor
from ..linear_model._base import LinearModel, check_classes, check_labels


def linear_from(
    estimator, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> nn.Linear:
    """Return a linear layer that computes what a fitted estimator predicts.

    Parameters
    ----------
    estimator : object
        A fitted linear model of this package or of scikit-learn, with `coef_` and `intercept_`.
    dtype : torch.dtype, optional
        Default: that of `coef_`, float32 or float64.
    device : torch.device or str, optional
        Default: PyTorch's own default.

    Returns
    -------
    linear : torch.nn.Linear
        Its parameters are copies, which can be trained further. For a regressor it has one output
        per target, one if y was a vector. For a classifier it has one output per class, in the
        order of `classes_`, and the largest is that of the predicted class: with two classes,
        whose estimator has a single score f, they are -f and f. For labels that don't exclude each
        other it has one per label, positive where the label is predicted. There is no bias where
        the estimator has ``fit_intercept=False``.

    Raises
    ------
    ValueError
        If the estimator is not a fitted linear model, or its weights overflow `dtype`.

    Notes
    -----
    Estimators add in float64, and the layer in its own dtype, so that predictions differ by its
    rounding.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> from fastlsgd import LeastSquaresClassifier
    >>> from fastlsgd.torch import linear_from
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LeastSquaresClassifier().fit(X, y)
    >>> linear = linear_from(model)
    >>> linear
    Linear(in_features=4, out_features=3, bias=True)
    >>> bool((linear(torch.from_numpy(X)).argmax(1).numpy() == model.predict(X)).all())
    True
    """
    coef, intercept = fitted_weights(estimator)
    if is_classifier(estimator) and len(coef) == 1:
        coef, intercept = np.vstack((-coef, coef)), np.append(-intercept, intercept)
    if dtype is None:
        dtype = torch.float32 if coef.dtype == np.float32 else torch.float64
    n_outputs, n_inputs = coef.shape
    linear = nn.utils.skip_init(  # an initialisation would draw from PyTorch's random numbers
        nn.Linear,
        n_inputs,
        n_outputs,
        bias=bool(getattr(estimator, "fit_intercept", True)),
        dtype=dtype,
        device=torch.get_default_device() if device is None else device,
    )
    write_weights(linear, coef, intercept)
    return linear


def fitted_weights(estimator) -> tuple[np.ndarray, np.ndarray]:
    """The weights (t, d) of a fitted linear model and its intercepts (t,), on the host."""
    if not hasattr(estimator, "fit"):
        raise ValueError(f"estimator must be a linear model, got type {type(estimator).__name__}.")
    check_is_fitted(estimator)
    if not (hasattr(estimator, "coef_") and hasattr(estimator, "intercept_")):
        raise ValueError(
            f"{type(estimator).__name__} has no coef_ and intercept_: give a linear model, such as "
            f"the last step of a pipeline."
        )
    coef = np.atleast_2d(check.as_float_array(check.on_host(estimator.coef_), "coef_"))
    intercept = np.asarray(check.on_host(estimator.intercept_), np.float64)
    return coef, np.broadcast_to(intercept, len(coef))


def write_weights(linear: nn.Linear, coef: np.ndarray, intercept: np.ndarray) -> None:
    """Write weights into the layer's own parameters, if all of them are finite in its dtype."""
    parameters = [linear.weight] if linear.bias is None else [linear.weight, linear.bias]
    numbers = [
        torch.tensor(values).to(parameter)
        for parameter, values in zip(parameters, (coef, intercept), strict=False)
    ]
    if not all(torch.isfinite(new).all() for new in numbers):
        raise ValueError(
            f"The weights overflow {linear.weight.dtype}: give the layer a wider dtype, or rescale "
            f"the features."
        )
    with torch.no_grad():
        for parameter, new in zip(parameters, numbers, strict=True):
            parameter.copy_(new)


def estimator_from(linear: nn.Linear, *, classes=None):
    """Return a fitted estimator that predicts what a linear layer computes.

    Parameters
    ----------
    linear : torch.nn.Linear
        Of any floating dtype, on any device.
    classes : array-like of shape (n_classes,), optional
        Labels of the outputs, in ascending order as in `classes_`. With two labels there may be
        two outputs, of which the larger decides, or one, whose sign does. Default: the outputs are
        numbers.

    Returns
    -------
    estimator : LeastSquaresRegressor or LeastSquaresClassifier
        The latter if there are `classes`. Its weights are copies, float64 if the layer is and
        float32 otherwise. It has default parameters, but for ``fit_intercept``; what a fit finds
        out beside weights (`n_iter_`, `summary()`) is not there.

    Raises
    ------
    ValueError
        If `linear` is not a linear layer, its weights are not finite, or `classes` don't fit its
        outputs.

    Examples
    --------
    >>> import torch
    >>> from fastlsgd.torch import estimator_from
    >>> linear = torch.nn.Linear(4, 3)
    >>> model = estimator_from(linear, classes=["a", "b", "c"])
    >>> model.coef_.shape, model.predict([[0.0, 1.0, 2.0, 3.0]]).shape
    ((3, 4), (1,))
    """
    if not isinstance(linear, nn.Linear):
        raise ValueError(f"linear must be a torch.nn.Linear, got type {type(linear).__name__}.")
    coef = _as_array(linear.weight)
    has_bias = linear.bias is not None
    intercept = np.zeros(len(coef))
    if has_bias:
        intercept = _as_array(linear.bias).astype(np.float64)
    if not (np.isfinite(coef).all() and np.isfinite(intercept).all()):
        raise ValueError("linear has weights that are not finite.")
    estimator: LinearModel
    if classes is None:
        estimator = LeastSquaresRegressor(fit_intercept=has_bias)
        one_target = len(coef) == 1
        estimator.coef_ = coef[0] if one_target else coef
        estimator.intercept_ = float(intercept[0]) if one_target else intercept
    else:
        labels = _checked_classes(classes, len(coef))
        estimator = LeastSquaresClassifier(fit_intercept=has_bias)
        if len(coef) == len(labels) == 2:
            coef = (coef[1:] - coef[:1]) / 2.0
            intercept = (intercept[1:] - intercept[:1]) / 2.0
        estimator.coef_, estimator.intercept_, estimator.classes_ = coef, intercept, labels
    estimator.n_features_in_ = coef.shape[1]
    return estimator


def _as_array(parameter: torch.Tensor) -> np.ndarray:
    """A copy of a parameter's numbers on the host, float64 if they are and float32 otherwise."""
    dtype = torch.float64 if parameter.dtype == torch.float64 else torch.float32
    return parameter.detach().to("cpu", dtype, copy=True).numpy()


def _checked_classes(classes, n_outputs: int) -> np.ndarray:
    labels = np.asarray(check.on_host(classes, "classes"))
    check_labels(labels, "classes")
    if labels.ndim != 1 or not np.array_equal(np.unique(labels), labels):
        raise ValueError("classes must be a list of labels in ascending order, none of them twice.")
    check_classes(labels)
    if n_outputs != len(labels) and not (n_outputs == 1 and len(labels) == 2):
        raise ValueError(f"linear has {n_outputs} outputs, but there are {len(labels)} classes.")
    return labels
