"""Record the steps of torch.optim on a small problem, with which `test_optimizers.py` compares.

It needs torch: python tests/records/record_torch_trajectories.py
It writes torch_trajectories.npz next to itself: the problem; for each case of `CASES` the weights,
followed by the intercept, after each update of `RECORDED`; for each of `SCHEDULES` all rates.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FILE = Path(__file__).with_name("torch_trajectories.npz")

UPDATES, BATCH_SIZE = 100, 4
RECORDED = (1, 2, 3, 10, 50, 100)


class Case(NamedTuple):
    """An optimizer with our name and parameters, and with torch's."""

    ours: tuple[str, dict[str, float]]
    torchs: tuple[str, dict[str, Any]]
    rate: float
    decay: float = 0.0
    clip_norm: float | None = None


_KINDS: dict[str, tuple] = {
    "sgd": (("SGD", {}), ("SGD", {}), 0.05),
    "momentum": (("Momentum", {}), ("SGD", {"momentum": 0.9}), 0.01),
    "nesterov": (
        ("Nesterov", {"momentum": 0.8}),
        ("SGD", {"momentum": 0.8, "nesterov": True}),
        0.02,
    ),
    "rmsprop": (("RMSprop", {}), ("RMSprop", {}), 0.01),
    "rmsprop-quick": (("RMSprop", {"rho": 0.9}), ("RMSprop", {"alpha": 0.9}), 0.01),
    "adagrad": (("Adagrad", {}), ("Adagrad", {}), 0.3),
    "adam": (("Adam", {}), ("Adam", {}), 0.05),
    "adam-quick": (
        ("Adam", {"beta1": 0.7, "beta2": 0.9, "eps": 1e-3}),
        ("Adam", {"betas": (0.7, 0.9), "eps": 1e-3}),
        0.05,
    ),
    "adamw": (("AdamW", {}), ("AdamW", {}), 0.05),
}
_VARIANTS: dict[str, dict[str, float]] = {
    "": {},
    ", decay": {"decay": 0.3},
    ", clipped": {"clip_norm": 0.7},
    ", decay, clipped": {"decay": 0.3, "clip_norm": 0.7},
}
CASES = {
    name + variant: Case(*kind, **options)
    for name, kind in _KINDS.items()
    for variant, options in _VARIANTS.items()
}

# By our names: torch's schedules with their parameters, for 8 epochs of 10 updates, eta0 = 0.4.
EPOCHS, PER_EPOCH, ETA0 = 8, 10, 0.4
SCHEDULES = {
    "step": ("StepLR", {"step_size": 3 * PER_EPOCH, "gamma": 0.5}),
    "cosine": ("CosineAnnealingLR", {"T_max": EPOCHS * PER_EPOCH, "eta_min": 0.01}),
    "one_cycle": ("OneCycleLR", {"max_lr": ETA0, "total_steps": EPOCHS * PER_EPOCH}),
}


def make_problem() -> dict[str, np.ndarray]:
    """Rows, targets and sample weights; some columns are mostly zero."""
    rng = np.random.default_rng(7)
    X = np.round(rng.standard_normal((24, 5)), 3) * (rng.random((24, 5)) < [1, 1, 0.8, 0.4, 0.2])
    y = np.round(X @ [1.0, -2.0, 0.5, 3.0, -1.0] + 0.7 + 0.1 * rng.standard_normal(24), 3)
    return {"X": X, "y": y, "s": np.round(rng.uniform(0.5, 2.0, 24), 3)}


def batch(k: int) -> np.ndarray:
    """The rows of update k = 0, 1, ..."""
    return (np.arange(BATCH_SIZE) + k * BATCH_SIZE) % 24


def torch_trajectory(case: Case, X, y, s) -> np.ndarray:
    """Weights and intercept after each update, of shape (UPDATES, 6)."""
    import torch

    X, y, s = (torch.from_numpy(np.asarray(part)) for part in (X, y, s))
    w = torch.zeros(X.shape[1], dtype=torch.float64, requires_grad=True)
    b = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    name, parameters = case.torchs
    groups = [
        {"params": [w], "weight_decay": case.decay},
        {"params": [b], "weight_decay": 0.0},
    ]
    optimizer = getattr(torch.optim, name)(groups, lr=case.rate, **parameters)
    path = np.empty((UPDATES, X.shape[1] + 1))
    for k in range(UPDATES):
        rows = torch.from_numpy(batch(k))
        r = X[rows] @ w + b - y[rows]
        optimizer.zero_grad()
        (0.5 * s[rows] * r * r).mean().backward()
        if case.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_([w, b], case.clip_norm)
        optimizer.step()
        path[k, :-1], path[k, -1] = w.detach().numpy(), b.item()
    return path


def torch_rates(name: str) -> np.ndarray:
    """The rate of each update of a schedule."""
    import torch

    kind, parameters = SCHEDULES[name]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=ETA0)
    schedule = getattr(torch.optim.lr_scheduler, kind)(optimizer, **parameters)
    rates = []
    for _ in range(EPOCHS * PER_EPOCH):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return np.array(rates)


def main() -> None:
    problem = make_problem()
    record = {**problem}
    for name, case in CASES.items():
        record[name] = torch_trajectory(case, **problem)[np.array(RECORDED) - 1]
    for name in SCHEDULES:
        record[f"schedule {name}"] = torch_rates(name)
    np.savez_compressed(FILE, **record)


if __name__ == "__main__":
    main()
