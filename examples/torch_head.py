"""
Least squares inside PyTorch
============================

The last layer of a network, and derivatives of a solution.

Run: ``python examples/torch_head.py`` (needs PyTorch: ``pip install "fastlsgd[torch]"``)
"""

import sys

from sklearn.datasets import load_digits

try:
    import torch
    from torch import nn
except ModuleNotFoundError:
    sys.exit('This program needs PyTorch: pip install "fastlsgd[torch]"')

from fastlsgd.torch import fit_head, lstsq


def main() -> None:
    torch.manual_seed(0)
    images, digits = load_digits(return_X_y=True)
    X, y = torch.tensor(images, dtype=torch.float32) / 16.0, torch.tensor(digits)
    train, test = slice(0, 1200), slice(1200, None)

    # The body stands for a pretrained network: it stays as it is.
    model = nn.Sequential(nn.Linear(64, 500), nn.ReLU(), nn.Linear(500, 10))
    loader = zip(X[train].split(100), y[train].split(100), strict=True)
    estimator = fit_head(model, loader, alpha=1e-3)
    with torch.no_grad():
        accuracy = (model(X[test]).argmax(1) == y[test]).float().mean()
    print(f"{type(estimator).__name__} in the network: accuracy {accuracy:.3f}")

    # Derivatives pass through a solution: a ridge penalty, improved by those of the test error.
    A, b = X.double(), y.double()
    log_alpha = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([log_alpha], lr=0.5)
    for step in range(20):
        penalty = (0.5 * log_alpha).exp() * torch.eye(64, dtype=torch.float64)
        weights = lstsq(torch.cat((A[train], penalty)), torch.cat((b[train], b.new_zeros(64))))
        error = (A[test] @ weights - b[test]).square().mean()
        if step % 19 == 0:
            print(f"alpha {log_alpha.exp().item():.3g}: mean squared error {error.item():.4f}")
        optimizer.zero_grad()
        error.backward()
        optimizer.step()


if __name__ == "__main__":
    main()
