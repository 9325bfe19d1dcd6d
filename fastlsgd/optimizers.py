"""Optimizers and schedules of learning rates, which users pass to estimators as parameters.

This module computes nothing over rows. The rule of an optimizer runs in the kernels, which get its
parameters as the `OptimizerState` of `kernels/contract.py`, which has the rules as formulas.
A schedule gives the rates of a range of updates, as an array for one call of a kernel.

``optimizer="adam"`` is short for ``optimizer=Adam()``, and ``learning_rate="cosine"`` for
``learning_rate=Cosine()``. As parameters of an estimator they can be cloned, pickled, compared,
and searched over: ``GridSearchCV(model, {"optimizer__beta1": [0.8, 0.9]})``.

>>> import numpy as np
>>> from fastlsgd import SGDRegressor
>>> from fastlsgd.optimizers import Adam, OneCycle
>>> X = np.random.default_rng(0).normal(size=(200, 3))
>>> model = SGDRegressor(
...     optimizer=Adam(beta2=0.99), learning_rate=OneCycle(), eta0=0.2, batch_size=8,
...     max_iter=20, tol=None, random_state=0)
>>> model.fit(X, X @ [1.0, -2.0, 0.5]).coef_.round(2).tolist()
[1.0, -2.0, 0.5]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator

from . import _validation as check
from .kernels.contract import OptimizerRule, OptimizerState

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adaptive",
    "Constant",
    "Cosine",
    "InvScaling",
    "Momentum",
    "Nesterov",
    "OneCycle",
    "Optimal",
    "Optimizer",
    "RMSprop",
    "Schedule",
    "StepDecay",
]

# ----------------------------------------------------------------------------- optimizers


class Optimizer(BaseEstimator):
    """What all optimizers share.

    Attributes
    ----------
    rule : str
        Name of the rule in the kernel contract, and in the table of names.
    default_rate : float
        What eta0=None stands for; torch.optim's default.
    """

    rule: ClassVar[str]
    default_rate: ClassVar[float]

    def check(self) -> None:
        """Raise ValueError for a parameter that is not allowed."""

    def state(self, n_targets: int, n_features: int, clip_norm: float | None) -> OptimizerState:
        """The state that the kernels update, as it is before the first update."""
        rule = OptimizerRule[self.rule.upper()]
        state = OptimizerState(rule, max_norm=math.inf if clip_norm is None else clip_norm)
        self._fill(state)
        shape = n_targets, n_features
        if rule.has_first_moment:
            state.coef_first, state.intercept_first = np.zeros(shape), np.zeros(n_targets)
        if rule.has_second_moment:
            state.coef_second, state.intercept_second = np.zeros(shape), np.zeros(n_targets)
        return state

    def _fill(self, state: OptimizerState) -> None:
        """Write this optimizer's parameters into the state."""


@dataclass
class SGD(Optimizer):
    """Stochastic gradient descent as it is: w <- w - rate g. Its default rate is scikit-learn's."""

    rule = "sgd"
    default_rate = 0.01


@dataclass
class Momentum(Optimizer):
    """Momentum: u <- momentum u + g, w <- w - rate u.

    Parameters
    ----------
    momentum : float in [0, 1), default=0.9
        Share of the last step that the next one takes over.

    References
    ----------
    Polyak (1964), "Some methods of speeding up the convergence of iteration methods".
    ``torch.optim.SGD(momentum=0.9)`` takes the same steps.
    """

    momentum: float = 0.9

    rule = "momentum"
    default_rate = 1e-3

    def check(self) -> None:
        _check_share(self.momentum, "momentum")

    def _fill(self, state: OptimizerState) -> None:
        state.beta1 = float(self.momentum)


@dataclass
class Nesterov(Momentum):
    """Nesterov's momentum: u <- momentum u + g, w <- w - rate (g + momentum u).

    Parameters
    ----------
    momentum : float in [0, 1), default=0.9

    References
    ----------
    Sutskever et al. (2013), "On the importance of initialization and momentum in deep learning".
    ``torch.optim.SGD(momentum=0.9, nesterov=True)`` takes the same steps.
    """

    rule = "nesterov"


@dataclass
class RMSprop(Optimizer):
    """RMSprop: v <- rho v + (1 - rho) g^2, w <- w - rate g / (sqrt(v) + eps).

    Parameters
    ----------
    rho : float in [0, 1), default=0.99
        How slowly the mean of the squared gradients forgets; torch calls it alpha.
    eps : float > 0, default=1e-8

    References
    ----------
    Tieleman and Hinton (2012), lecture 6.5 of "Neural networks for machine learning".
    """

    rho: float = 0.99
    eps: float = 1e-8

    rule = "rmsprop"
    default_rate = 0.01

    def check(self) -> None:
        _check_share(self.rho, "rho")
        _check_eps(self.eps)

    def _fill(self, state: OptimizerState) -> None:
        state.beta2, state.eps = float(self.rho), float(self.eps)


@dataclass
class Adagrad(Optimizer):
    """Adagrad: v <- v + g^2, w <- w - rate g / (sqrt(v) + eps).

    Parameters
    ----------
    eps : float > 0, default=1e-10

    References
    ----------
    Duchi, Hazan and Singer (2011), "Adaptive subgradient methods", JMLR 12.
    """

    eps: float = 1e-10

    rule = "adagrad"
    default_rate = 0.01

    def check(self) -> None:
        _check_eps(self.eps)

    def _fill(self, state: OptimizerState) -> None:
        state.eps = float(self.eps)


@dataclass
class Adam(Optimizer):
    """Adam: means of the gradients and of their squares, both freed of their start at zero.

    ``u <- beta1 u + (1 - beta1) g``, ``v <- beta2 v + (1 - beta2) g^2``, and after k updates
    ``w <- w - rate u / (1 - beta1^k) / (sqrt(v / (1 - beta2^k)) + eps)``.

    Parameters
    ----------
    beta1, beta2 : float in [0, 1), default=0.9 and 0.999
    eps : float > 0, default=1e-8

    References
    ----------
    Kingma and Ba (2015), "Adam: a method for stochastic optimization", algorithm 1.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    rule = "adam"
    default_rate = 1e-3

    def check(self) -> None:
        _check_share(self.beta1, "beta1")
        _check_share(self.beta2, "beta2")
        _check_eps(self.eps)

    def _fill(self, state: OptimizerState) -> None:
        state.beta1, state.beta2 = float(self.beta1), float(self.beta2)
        state.eps = float(self.eps)


@dataclass
class AdamW(Adam):
    """Adam with decoupled decay: L2 does not enter the gradient, w shrinks by 1 - rate alpha.

    The decay is the estimator's L2 penalty (torch's `weight_decay`, whose default of 0.01 is
    ``alpha=0.01`` here). What it tends to is not the minimum of the penalised objective.

    Parameters
    ----------
    beta1, beta2 : float in [0, 1), default=0.9 and 0.999
    eps : float > 0, default=1e-8

    References
    ----------
    Loshchilov and Hutter (2019), "Decoupled weight decay regularization", algorithm 2.
    """

    rule = "adamw"


OPTIMIZERS: dict[str, type[Optimizer]] = {
    kind.rule: kind for kind in (SGD, Momentum, Nesterov, RMSprop, Adagrad, Adam, AdamW)
}


def as_optimizer(value) -> Optimizer:
    """The optimizer that a name or an instance denotes, checked."""
    if isinstance(value, str) and value in OPTIMIZERS:
        return OPTIMIZERS[value]()
    if isinstance(value, Optimizer) and hasattr(value, "rule"):
        value.check()
        return value
    names = ", ".join(repr(name) for name in OPTIMIZERS)
    raise ValueError(
        f"optimizer must be one of {names}, or an instance from fastlsgd.optimizers, got {value!r}."
    )


def _check_share(value, name: str) -> None:
    if check.check_real(value, name, 0.0, 1.0) == 1.0:
        raise ValueError(f"{name} must be below 1, or nothing would ever be forgotten, got 1.")


def _check_eps(value) -> None:
    check.check_real(value, "eps", 0.0, open_low=True)


# ------------------------------------------------------------------------------ schedules


class Course(NamedTuple):
    """What a schedule may depend on, besides the number of the update."""

    eta0: float
    alpha: float  # of the penalty
    max_iter: int  # epochs that the fit may have
    updates_per_epoch: int = 1

    @property
    def n_updates(self) -> int:
        """The number of updates in a fit of `max_iter` epochs."""
        return self.updates_per_epoch * self.max_iter

    def epochs(self, t: np.ndarray) -> np.ndarray:
        """The epoch, from 0, of each of the updates with numbers t = 1, 2, ..."""
        return (t - 1.0) // self.updates_per_epoch


class Schedule(BaseEstimator):
    """Learning rates of the updates t = 1, 2, ..., counted on through `partial_fit`.

    A subclass has `rates`; this class itself is no schedule.
    """

    name: ClassVar[str] = "own"

    def check(self) -> None:
        """Raise ValueError for a parameter that is not allowed."""

    def rates(self, t: np.ndarray, course: Course) -> np.ndarray:
        """The rates of the updates with numbers `t`, as float64."""
        raise NotImplementedError

    def lowered(self, eta0: float) -> float | None:
        """The eta0 to continue with once the loss has stopped falling; None: there is none."""
        return None


@dataclass
class Constant(Schedule):
    """eta0."""

    name = "constant"

    def rates(self, t: np.ndarray, course: Course) -> np.ndarray:
        return np.full(len(t), course.eta0)


@dataclass
class InvScaling(Schedule):
    """eta0 / t^power_t.

    Parameters
    ----------
    power_t : float >= 0, default=0.25
    """

    power_t: float = 0.25

    name = "invscaling"

    def check(self) -> None:
        check.check_real(self.power_t, "power_t", 0.0)

    def rates(self, t: np.ndarray, course: Course) -> np.ndarray:
        return course.eta0 / t**self.power_t


@dataclass
class Optimal(Schedule):
    """1 / (alpha (t0 + t - 1)), with t0 such that the first rate is alpha^(-1/4).

    References
    ----------
    Bottou (2012), "Stochastic gradient descent tricks", section 5.2.
    """

    name = "optimal"

    def rates(self, t: np.ndarray, course: Course) -> np.ndarray:
        first = math.sqrt(1.0 / math.sqrt(course.alpha))
        t0 = 1.0 / (first * course.alpha)
        return 1.0 / (course.alpha * (t0 + t - 1.0))


@dataclass
class Adaptive(Constant):
    """eta0, divided by 5 whenever the stopping rule would end the fit, until it is below 1e-6."""

    name = "adaptive"

    def lowered(self, eta0: float) -> float | None:
        return eta0 / 5 if eta0 > 1e-6 else None


@dataclass
class StepDecay(Schedule):
    """eta0 gamma^k after k times `step_size` epochs; torch's StepLR.

    Parameters
    ----------
    step_size : int >= 1, default=10
        Epochs between two drops.
    gamma : float in (0, 1], default=0.1
    """

    step_size: int = 10
    gamma: float = 0.1

    name = "step"

    def check(self) -> None:
        check.check_whole(self.step_size, "step_size", 1)
        check.check_real(self.gamma, "gamma", 0.0, 1.0, open_low=True)

    def rates(self, t: np.ndarray, course: Course) -> np.ndarray:
        return course.eta0 * self.gamma ** (course.epochs(t) // self.step_size)


@dataclass
class Cosine(Schedule):
    """Half a cosine from eta0 to eta_min over all updates of ``max_iter`` epochs.

    Parameters
    ----------
    eta_min : float >= 0, default=0.0

    References
    ----------
    Loshchilov and Hutter (2017), "SGDR: stochastic gradient descent with warm restarts",
    equation 5, without restarts.
    """

    eta_min: float = 0.0

    name = "cosine"

    def check(self) -> None:
        check.check_real(self.eta_min, "eta_min", 0.0)

    def rates(self, t: np.ndarray, course: Course) -> np.ndarray:
        return _half_cosine(course.eta0, self.eta_min, (t - 1.0) / course.n_updates)


@dataclass
class OneCycle(Schedule):
    """A cosine up from eta0 / div_factor to eta0, then one down, over ``max_iter`` epochs.

    torch's OneCycleLR for the same number of updates, but for its change of the momentum.

    Parameters
    ----------
    pct_start : float in [0, 1], default=0.3
        Share of the updates that warm up.
    div_factor : float >= 1, default=25.0
        The first rate is eta0 over this.
    final_div_factor : float >= 1, default=1e4
        The last rate is the first over this.

    References
    ----------
    Smith and Topin (2019), "Super-convergence: very fast training of neural networks using
    large learning rates".
    """

    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    name = "one_cycle"

    def check(self) -> None:
        check.check_real(self.pct_start, "pct_start", 0.0, 1.0)
        check.check_real(self.div_factor, "div_factor", 1.0)
        check.check_real(self.final_div_factor, "final_div_factor", 1.0)

    def rates(self, t: np.ndarray, course: Course) -> np.ndarray:
        first = course.eta0 / self.div_factor
        last = first / self.final_div_factor
        end = course.n_updates - 1.0
        top = min(max(self.pct_start * course.n_updates - 1.0, 0.0), end)
        k = t - 1.0
        up = _half_cosine(first, course.eta0, k / top if top > 0.0 else np.ones(len(t)))
        down = _half_cosine(course.eta0, last, (k - top) / max(end - top, 1.0))
        return np.where(k <= top, up, down)


def _half_cosine(start: float, end: float, share: np.ndarray) -> np.ndarray:
    """Half a period of a cosine, from start (share 0) to end (share 1 and above)."""
    return end + (start - end) / 2.0 * (1.0 + np.cos(np.pi * np.minimum(share, 1.0)))


class PerEpoch(Schedule):
    """The rate that a user's function returns for each epoch 0, 1, ...; eta0 is not used."""

    name = "per epoch"

    def __init__(self, function: Callable[[int], float]):
        self.function = function

    def rates(self, t: np.ndarray, course: Course) -> np.ndarray:
        epochs, where = np.unique(course.epochs(t), return_inverse=True)
        return np.array([self._rate(int(epoch)) for epoch in epochs])[where]

    def _rate(self, epoch: int) -> float:
        rate = self.function(epoch)
        try:
            return check.check_real(rate, f"learning_rate({epoch})", 0.0)
        except ValueError as error:
            raise ValueError(
                f"A callable learning_rate gives the rate of an epoch: {error}"
            ) from None


SCHEDULES: dict[str, type[Schedule]] = {
    kind.name: kind
    for kind in (Constant, InvScaling, Optimal, Adaptive, StepDecay, Cosine, OneCycle)
}


def as_schedule(value, power_t: float = 0.25) -> Schedule:
    """The schedule that a name, an instance or a callable denotes, checked."""
    if isinstance(value, Schedule) and type(value).rates is not Schedule.rates:
        value.check()
        return value
    if isinstance(value, str) and value in SCHEDULES:
        return InvScaling(power_t) if value == "invscaling" else SCHEDULES[value]()
    if callable(value) and not isinstance(value, type):
        return PerEpoch(value)
    names = ", ".join(repr(name) for name in ("auto", *SCHEDULES))
    raise ValueError(
        f"learning_rate must be one of {names}, an instance from fastlsgd.optimizers, or a "
        f"callable that gives the rate of epoch 0, 1, ..., got {value!r}."
    )
