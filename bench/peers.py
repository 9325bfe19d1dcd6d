"""What a user would choose instead of fastlsgd, on the same arrays.

Each function takes a `Problem` and returns a call that does the work once. Where a library is not
installed, it raises `NotInstalled`, which says how to get it. All use as many threads as fastlsgd
does, except JAX, which has no setting for that and uses every core that the process may run on.

The gradients of peers read X twice: once for the residuals, and once for X^T r. None of them checks
X for NaN.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import numpy as np
from arrays import Problem

import fastlsgd
from fastlsgd.kernels import resolve_threads
from fastlsgd.kernels.contract import Epoch, SGDState

HOW_TO_INSTALL = {
    "numpy": "pip install numpy",
    "sklearn": "pip install scikit-learn",
    "torch": "pip install torch --index-url https://download.pytorch.org/whl/cpu",
    "jax": "pip install jax",
}
ALPHA = 1e-4  # scikit-learn's default L2 penalty


class NotInstalled(ImportError):
    """The peer is not installed, so that there is no comparison with it."""


class Gradient(NamedTuple):
    """A gradient as arrays of the peer's own kind."""

    loss: object
    coef: object
    intercept: object


def load(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise NotInstalled(f"{name} is not installed: {HOW_TO_INSTALL[name]}") from error


def load_torch() -> ModuleType:
    torch = load("torch")
    torch.set_num_threads(resolve_threads())
    return torch


def load_jax() -> ModuleType:
    jax = load("jax")
    jax.config.update("jax_enable_x64", True)  # otherwise float64 arrays become float32
    jax.config.update("jax_platforms", "cpu")
    return jax


# --------------------------------------------------------------------------- full-batch gradients


def fastlsgd_gradient(problem: Problem, backend: str) -> Callable[[], Gradient]:
    """The public function of fastlsgd, with its checks."""
    X, y, w, b = problem.X, problem.y, problem.coef, problem.intercept
    return lambda: fastlsgd.loss_gradient(X, y, w, b, backend=backend)


def numpy_gradient(problem: Problem) -> Callable[[], Gradient]:
    X, y, w, b = problem.X, problem.y, problem.coef, problem.X.dtype.type(problem.intercept)
    n = len(y)

    def call() -> Gradient:
        r = X @ w.T
        r += b
        r -= y
        return Gradient(0.5 * np.vdot(r, r) / n, r.T @ X / n, r.mean(axis=0))

    return call


def torch_gradient(problem: Problem) -> Callable[[], Gradient]:
    """The formula on tensors: autograd computes the same two products, and is no faster."""
    torch = load_torch()
    X, y, w = (torch.from_numpy(a) for a in (problem.X, problem.y, problem.coef))
    b, n = problem.intercept, len(y)

    def call() -> Gradient:
        r = X @ w.T if w.ndim == 2 else X @ w
        r += b
        r -= y
        dw = r.T @ X if w.ndim == 2 else r @ X
        return Gradient(0.5 * (r * r).sum() / n, dw / n, r.mean(dim=0))

    return call


def jax_gradient(problem: Problem) -> Callable[[], Gradient]:
    jax = load_jax()
    X, y, w, b = (jax.numpy.asarray(a) for a in (problem.X, problem.y, problem.coef, _b(problem)))

    def objective(w, b, X, y):
        r = X @ w.T + b - y
        return 0.5 * (r * r).sum() / len(y)

    step = jax.jit(jax.value_and_grad(objective, argnums=(0, 1)))

    def call() -> Gradient:
        loss, (dw, db) = jax.block_until_ready(step(w, b, X, y))
        return Gradient(loss, dw, db)

    return call


def _b(problem: Problem) -> np.ndarray:
    return np.full(problem.y.shape[1:], problem.intercept, problem.dtype)


GRADIENTS: dict[str, Callable[[Problem], Callable[[], Gradient]]] = {
    "numpy": numpy_gradient,
    "torch": torch_gradient,
    "jax": jax_gradient,
}


def gradient(library: str, problem: Problem) -> Callable[[], Gradient]:
    """The gradient by the library of this name: one of fastlsgd's backends, or a peer."""
    if library in GRADIENTS:
        return GRADIENTS[library](problem)
    return fastlsgd_gradient(problem, library)


# -------------------------------------------------------------------------- stochastic descent


def sgd_fit(
    library: str,
    problem: Problem,
    *,
    shuffle: bool,
    batch_size: int = 1,
    fit_intercept: bool = True,
    n_jobs: int | None = None,
) -> Callable[[int], np.ndarray]:
    """A function that fits a given number of epochs and returns the weights.

    scikit-learn and fastlsgd have the same parameters: an L2 penalty and a constant rate.
    """
    common = {
        "alpha": ALPHA,
        "fit_intercept": fit_intercept,
        "tol": None,
        "shuffle": shuffle,
        "random_state": 0,
        "learning_rate": "constant",
        "eta0": problem.rate,
    }
    if library == "scikit-learn":
        assert batch_size == 1, "scikit-learn's SGDRegressor has no mini-batches"
        estimator = load("sklearn").linear_model.SGDRegressor(**common)
    else:
        own = {"batch_size": batch_size, "backend": library, "n_jobs": n_jobs}
        estimator = fastlsgd.SGDRegressor(**common, **own)
    X, y = problem.X, problem.y

    def fit(n_epochs: int) -> np.ndarray:
        return estimator.set_params(max_iter=n_epochs).fit(X, y).coef_

    return fit


def sklearn_epoch(
    problem: Problem, *, shuffle: bool, fit_intercept: bool = True
) -> Callable[[], np.ndarray]:
    """An epoch of scikit-learn without the rest of a fit, in particular its check of X for NaN."""
    sklearn = load("sklearn")
    fit = sgd_fit("scikit-learn", problem, shuffle=shuffle, fit_intercept=fit_intercept)

    def call() -> np.ndarray:
        with sklearn.config_context(assume_finite=True):
            return fit(1)

    return call


def torch_epoch(
    problem: Problem, *, shuffle: bool, batch_size: int = 32, fit_intercept: bool = True
) -> Callable[[], np.ndarray]:
    """An epoch from zero of a Linear layer by torch.optim.SGD, in batches sliced from tensors.

    A DataLoader would take several times as long. The mean squared error of torch is twice our
    loss, so that its rate is half of ours; its weight decay is the L2 penalty.
    """
    torch = load_torch()
    X, y = torch.from_numpy(problem.X), torch.from_numpy(problem.y)[:, None]
    layer = torch.nn.Linear(X.shape[1], 1, bias=fit_intercept, dtype=X.dtype)
    optimizer = torch.optim.SGD(layer.parameters(), lr=problem.rate / 2, weight_decay=2 * ALPHA)

    def call() -> np.ndarray:
        for parameter in layer.parameters():
            torch.nn.init.zeros_(parameter)
        order = torch.randperm(len(X)) if shuffle else slice(None)
        for rows, targets in zip(
            X[order].split(batch_size), y[order].split(batch_size), strict=True
        ):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(layer(rows), targets).backward()
            optimizer.step()
        return layer.weight.detach().numpy()[0]

    return call


# -------------------------------------------------------------------------------- optimizers

# By our names: the optimizers of torch.optim, with their parameters.
OPTIMIZERS = {
    "sgd": ("SGD", {}),
    "momentum": ("SGD", {"momentum": 0.9}),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "rmsprop": ("RMSprop", {}),
    "adagrad": ("Adagrad", {}),
    "adam": ("Adam", {}),
    "adamw": ("AdamW", {}),
}
OPTIMIZER_RATE, OPTIMIZER_BATCH = 1e-3, 32


def optimizer_epoch(library: str, rule: str, problem: Problem) -> Callable[[], np.ndarray]:
    """An epoch of an optimizer from zero, in batches of 32 in order: by our kernel, or by torch."""
    if library == "torch":
        return _torch_optimizer_epoch(rule, problem)
    kernels = fastlsgd.kernels.load_backend(library)
    optimizer = fastlsgd.optimizers.as_optimizer(rule)
    X, y, d = problem.X, problem.y[:, None], problem.X.shape[1]
    rates = np.full(-(-len(X) // OPTIMIZER_BATCH), OPTIMIZER_RATE)

    def call() -> np.ndarray:
        w, b = np.zeros((1, d), X.dtype), np.zeros(1)
        state = SGDState(optimizer=None if rule == "sgd" else optimizer.state(1, d, None))
        epoch = Epoch(None, rates, OPTIMIZER_BATCH, ALPHA)
        kernels.sgd_epoch(X, y, w, b, None, epoch, state, 1)
        return w[0]

    return call


def _torch_optimizer_epoch(rule: str, problem: Problem) -> Callable[[], np.ndarray]:
    torch = load_torch()
    X, y = torch.from_numpy(problem.X), torch.from_numpy(problem.y)
    name, parameters = OPTIMIZERS[rule]

    def call() -> np.ndarray:
        w = torch.zeros(X.shape[1], dtype=X.dtype, requires_grad=True)
        b = torch.zeros(1, dtype=X.dtype, requires_grad=True)
        groups = [{"params": [w], "weight_decay": ALPHA}, {"params": [b], "weight_decay": 0.0}]
        optimizer = getattr(torch.optim, name)(groups, lr=OPTIMIZER_RATE, **parameters)
        for rows, targets in zip(X.split(OPTIMIZER_BATCH), y.split(OPTIMIZER_BATCH), strict=True):
            r = rows @ w + b - targets
            optimizer.zero_grad()
            (0.5 * r * r).mean().backward()
            optimizer.step()
        return w.detach().numpy()

    return call
