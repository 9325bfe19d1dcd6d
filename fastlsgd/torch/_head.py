"""`fit_head`: the last layer of a frozen network, fitted by least squares in one pass.

The inputs of the layer are its features. They are added to `Moments` a batch at a time, and never
kept: memory is that of one batch and of (features + outputs)^2 numbers, time is that of one
forward pass over the data and n (features + outputs)^2 multiply-adds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from .. import _validation as check
from ..linear_model import LeastSquaresClassifier, LeastSquaresRegressor
from ..linear_model._least_squares_classifier import REGRESSOR_ATTRIBUTES
from ..moments import FACTORS, Moments
from ._linear import write_weights

TASKS = ("auto", "regression", "classification")


class Batch(NamedTuple):
    """What a loader yields."""

    inputs: Any
    targets: torch.Tensor
    sample_weight: torch.Tensor | None


def fit_head(
    model: nn.Module,
    loader: Iterable,
    *,
    head: nn.Linear | str | None = None,
    task: str = "auto",
    alpha: float = 0.0,
    factor: str = "gram",
) -> LeastSquaresRegressor | LeastSquaresClassifier:
    """Fit the last linear layer of a network to data, exactly and in one pass; the rest is frozen.

    The layer gets the least-squares weights for its inputs: in regression those of the targets, in
    classification those of a target of 1 for each row's class and -1 for the others.

    Parameters
    ----------
    model : torch.nn.Module
        Any network that calls the layer once per forward pass.
    loader : iterable of (inputs, targets) or (inputs, targets, sample_weight)
        Such as a ``torch.utils.data.DataLoader``. Inputs are a tensor, or a tuple or dict of
        arguments of `model`, and are moved to its device. Targets of shape (batch,) are numbers or
        the numbers of classes, and of shape (batch, n_outputs) numbers; where the layer's inputs
        have shape (batch, ..., n_features), targets and weights have these dimensions too. Sample
        weights are not negative, and a row of weight 0 is as if it were absent.
    head : torch.nn.Linear or str, optional
        The layer, or its name in ``model.named_modules()``. Default: the last linear layer.
    task : {"auto", "regression", "classification"}, default="auto"
        "auto" is classification if the targets are integers or booleans.
    alpha : float >= 0, default=0.0
        Ridge penalty, as of :class:`fastlsgd.LeastSquaresRegressor`.
    factor : {"gram", "qr"}, default="gram"
        As of :class:`fastlsgd.Moments`: "qr" is for features that nearly depend on each other.

    Returns
    -------
    estimator : LeastSquaresRegressor or LeastSquaresClassifier
        The fit, of which the layer has got the weights. The labels of a classifier are the numbers
        of the outputs; the layer has one output per class, of which the largest decides, or a
        single output for the classes 0 and 1, whose sign does.

    Raises
    ------
    ValueError
        If an argument is not allowed, a batch does not fit the layer, NaN or infinity is found,
        there are no rows, the features depend on each other without a penalty (see
        :meth:`fastlsgd.LeastSquaresRegressor.fit_moments`), or weights overflow the layer's dtype.

    Notes
    -----
    The network runs in evaluation mode and without gradients. Afterwards, after an exception too,
    each module has the mode that it had; only the layer's weights have changed, in place, and
    after an exception not even these. Features of float16 and bfloat16 are added up as float32.

    Examples
    --------
    >>> import torch
    >>> from fastlsgd.torch import fit_head
    >>> X = torch.linspace(-1.0, 1.0, 100)[:, None]
    >>> model = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    >>> estimator = fit_head(model, zip(X.split(25), torch.sin(X).split(25)), alpha=1e-9)
    >>> bool((model(X) - torch.sin(X)).abs().max() < 0.05)
    True
    """
    alpha = check.check_real(alpha, "alpha", 0.0)
    check.check_choice(task, "task", TASKS)
    check.check_choice(factor, "factor", FACTORS)
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module, got type {type(model).__name__}.")
    layer = _layer_of(model, head)
    moments, is_classification = _moments_of(model, layer, loader, task, Moments(factor=factor))
    options: dict[str, Any] = {"alpha": alpha, "fit_intercept": layer.bias is not None}
    regressor = LeastSquaresRegressor(**options).fit_moments(moments)
    coef, intercept = np.atleast_2d(regressor.coef_), np.atleast_1d(regressor.intercept_)
    if not is_classification:
        write_weights(layer, coef, intercept)
        return regressor
    classifier = LeastSquaresClassifier(**options)
    for name in REGRESSOR_ATTRIBUTES:
        setattr(classifier, name, getattr(regressor, name))
    classifier.classes_ = np.arange(max(2, layer.out_features))
    classifier.n_features_in_ = layer.in_features
    if layer.out_features == 2:
        coef, intercept = np.vstack((-coef, coef)), np.append(-intercept, intercept)
    write_weights(layer, coef, intercept)
    return classifier


def _layer_of(model: nn.Module, head) -> nn.Linear:
    """The layer that is to be fitted."""
    if head is None:
        layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
        if not layers:
            raise ValueError(f"{type(model).__name__} has no torch.nn.Linear to be fitted.")
        return layers[-1]
    if isinstance(head, str):
        named = dict(model.named_modules())
        if head not in named:
            raise ValueError(f"head={head!r} is no module of the {type(model).__name__}.")
        head = named[head]
    elif all(module is not head for module in model.modules()):
        raise ValueError(f"head must be a module of model, got another {type(head).__name__}.")
    if not isinstance(head, nn.Linear):
        raise ValueError(f"head must be a torch.nn.Linear, got type {type(head).__name__}.")
    return head


def _moments_of(model, layer: nn.Linear, loader, task: str, moments: Moments):
    """The moments of all batches, and whether the targets are classes."""
    is_classification = {"regression": False, "classification": True}.get(task)
    device = next(iter(model.parameters())).device
    with _frozen(model, layer) as seen:
        for number, given in enumerate(loader):
            batch = _as_batch(given)
            if is_classification is None:
                kind = batch.targets.dtype
                is_classification = not (kind.is_floating_point or kind.is_complex)
            features = _features(model, _moved(batch.inputs, device), seen)
            try:
                X, y, s = _rows(features, batch, layer.out_features, is_classification)
                moments.update(X, y, s)
            except ValueError as error:
                raise ValueError(f"Batch {number} of loader: {error}") from error
    if moments.n_samples == 0:
        raise ValueError("loader has no rows of positive sample_weight.")
    return moments, is_classification


@contextmanager
def _frozen(model: nn.Module, layer: nn.Linear) -> Iterator[list]:
    """Evaluation mode, with a list to which each call of the layer appends its input."""
    modes = [(module, module.training) for module in model.modules()]
    seen: list[torch.Tensor] = []

    def note(module, args, kwargs):
        seen.append(args[0] if args else kwargs["input"])

    handle = layer.register_forward_pre_hook(note, with_kwargs=True)
    try:
        model.eval()
        yield seen
    finally:
        handle.remove()
        for module, mode in modes:
            module.training = mode


def _as_batch(given) -> Batch:
    if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
        raise ValueError(
            f"loader must yield (inputs, targets) or (inputs, targets, sample_weight), got a "
            f"{type(given).__name__}."
        )
    inputs, targets, weight = (*given, None)[:3]
    for name, value in (("targets", targets), ("sample_weight", weight)):
        if not isinstance(value, torch.Tensor) and not (name == "sample_weight" and value is None):
            raise ValueError(f"{name} must be tensors, got type {type(value).__name__}.")
    return Batch(inputs, targets, weight)


def _moved(inputs, device: torch.device):
    """Inputs with all tensors on the device of the network."""
    if isinstance(inputs, torch.Tensor):
        return inputs.to(device)
    if isinstance(inputs, Mapping):
        return {name: _moved(value, device) for name, value in inputs.items()}
    if isinstance(inputs, (tuple, list)):
        return tuple(_moved(value, device) for value in inputs)
    return inputs


def _features(model: nn.Module, inputs, seen: list) -> torch.Tensor:
    """What the network passes to the layer for these inputs."""
    seen.clear()
    with torch.no_grad():
        if isinstance(inputs, Mapping):
            model(**inputs)
        elif isinstance(inputs, tuple):
            model(*inputs)
        else:
            model(inputs)
    if len(seen) != 1:
        raise ValueError(f"model must call the head once per forward pass, not {len(seen)} times.")
    return seen.pop()


def _rows(features: torch.Tensor, batch: Batch, n_outputs: int, is_classification: bool):
    """Features, targets and sample weights of a batch as `Moments` takes them, one line per row."""
    shape, targets, s = features.shape[:-1], batch.targets, batch.sample_weight
    if s is not None:
        if s.shape != shape:
            raise ValueError(f"sample_weight must have shape {tuple(shape)}, got {tuple(s.shape)}.")
        s = s.to(features.device).reshape(-1)
    targets = targets.to(features.device)
    if is_classification:
        if targets.shape != shape:
            raise ValueError(
                f"targets must be class numbers of shape {tuple(shape)}, got shape "
                f"{tuple(targets.shape)}."
            )
        y = _signed(targets.reshape(-1), s, n_outputs, features.dtype)
    elif n_outputs == 1 and targets.shape in (shape, (*shape, 1)):
        y = targets.reshape(-1)
    elif targets.shape == (*shape, n_outputs):
        y = targets.reshape(-1, n_outputs)
    else:
        raise ValueError(
            f"targets must have shape {(*shape, n_outputs)}, got {tuple(targets.shape)}."
        )
    X = features.reshape(-1, features.shape[-1])
    return _as_array(X), _as_array(y), None if s is None else _as_array(s)


def _signed(labels: torch.Tensor, s, n_outputs: int, dtype: torch.dtype) -> torch.Tensor:
    """Class numbers as targets of -1 and 1, of which two classes have only one."""
    if labels.dtype.is_floating_point or labels.dtype.is_complex:
        raise ValueError(f"targets must be class numbers of an integer dtype, got {labels.dtype}.")
    labels, n_classes = labels.long(), max(2, n_outputs)
    outside = (labels < 0) | (labels >= n_classes)
    if s is not None:
        outside &= s != 0
    if outside.any():
        raise ValueError(
            f"targets must be class numbers from 0 to {n_classes - 1}, got {labels[outside][0]}."
        )
    labels = labels.clamp(0, n_classes - 1)
    if n_classes == 2:
        return (2 * labels - 1).to(dtype)[:, None]
    y = torch.full((len(labels), n_classes), -1.0, dtype=dtype, device=labels.device)
    return y.scatter_(1, labels[:, None], 1.0)


def _as_array(value: torch.Tensor):
    """A view for NumPy, or a tensor on a CUDA device; half precision becomes float32."""
    value = value.detach()
    if value.dtype in (torch.float16, torch.bfloat16):
        value = value.float()
    return value if value.device.type == "cuda" else value.cpu().numpy()
