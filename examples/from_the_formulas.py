"""
From the formulas
=================

Gradient descent for linear regression, as textbooks write it: ten lines of NumPy. Pseudo-code on
the subject often has one of four mistakes. Each is named here, and found out by finite differences.
Then the same descent is left to compiled code, with the same weights to 12 digits.

Run: ``python examples/from_the_formulas.py`` (a second; ``--small`` for fewer rows). It prints its
results, and leaves one picture in the current folder.
"""

# %%
# The problem
# -----------
# For :math:`m` rows :math:`x_i` with targets :math:`y_i`, weights :math:`w` and an intercept
# :math:`b`:
#
# .. math::
#
#    r_i &= x_i \cdot w + b - y_i \\
#    J(w, b) &= \frac{1}{2m} \sum_i r_i^2 \\
#    \frac{\partial J}{\partial w} &= \frac{1}{m} \sum_i r_i x_i \\
#    \frac{\partial J}{\partial b} &= \frac{1}{m} \sum_i r_i
#
# A step of gradient descent goes against the gradient: :math:`w \leftarrow w - \eta\, \partial J /
# \partial w`, and likewise for :math:`b`. The learning rate is :math:`\eta`.

import os
import sys

import matplotlib.pyplot as plt
import numpy as np

import fastlsgd
from fastlsgd import SGDRegressor

SMALL = "--small" in sys.argv or os.environ.get("FASTLSGD_EXAMPLES") == "small"

m, epochs, eta = (100 if SMALL else 500), 200, 0.1
rng = np.random.default_rng(0)
X = rng.normal(size=(m, 2)) * [1.0, 0.6]
y = X @ [2.0, -1.0] + 0.5 + 0.1 * rng.normal(size=m)

# %%
# Ten lines of NumPy
# ------------------
# These are the formulas, word by word.


def loss(w, b):
    return 0.5 * np.mean((X @ w + b - y) ** 2)


def gradient(w, b):
    r = X @ w + b - y
    return X.T @ r / m, r.sum() / m


w, b = np.zeros(2), 0.0
path = [w]
for _ in range(epochs):
    dw, db = gradient(w, b)
    w, b = w - eta * dw, b - eta * db
    path.append(w)

print(f"by hand:      w = {w.round(4)}, b = {b:.4f}, J = {loss(w, b):.6f}")

# %%
# Four mistakes, found by finite differences
# ------------------------------------------
# The derivative of J is nearly :math:`(J(w + h) - J(w - h)) / 2h`; for a quadratic J even exactly,
# but for rounding. This needs no formula for the gradient, so that it can check one. The mistakes:
#
# 1. **The sign.** A gradient of :math:`y - x \cdot w - b` instead of :math:`x \cdot w + b - y`,
#    subtracted all the same, walks uphill. (Adding it is right.)
# 2. **The sum over rows is missing in db.** Then db is a vector of m numbers, and so becomes b.
#    NumPy does not object, since it broadcasts.
# 3. **1/2 in the loss, 1/m in the gradient.** With the loss :math:`\frac12 \sum_i r_i^2`, the
#    gradient has no 1/m. Together they contradict each other by the factor m.
# 4. **The factor 2 of Keras.** Its ``mse`` is :math:`\frac1m \sum_i r_i^2`, with the gradient
#    :math:`\frac2m \sum_i r_i x_i`. That is not wrong, but the same descent needs half the rate
#    there.


def by_finite_differences(J, w, b, h=1e-5):
    units = np.eye(len(w))
    dw = [(J(w + h * unit, b) - J(w - h * unit, b)) / (2 * h) for unit in units]
    return np.array(dw), (J(w, b + h) - J(w, b - h)) / (2 * h)


def wrong_sign(w, b):
    r = y - (X @ w + b)
    return X.T @ r / m, r.sum() / m


def no_sum(w, b):
    r = X @ w + b - y
    return X.T @ r / m, r / m


def no_division_in_the_loss(w, b):
    return 0.5 * np.sum((X @ w + b - y) ** 2)


def mse(w, b):
    return np.mean((X @ w + b - y) ** 2)


def gradient_of_mse(w, b):
    dw, db = gradient(w, b)
    return 2 * dw, 2 * db


at = np.array([0.3, -0.2]), 0.1
for name, formula, J in (
    ("right", gradient, loss),
    ("1. wrong sign", wrong_sign, loss),
    ("2. no sum in db", no_sum, loss),
    ("3. loss without 1/m", gradient, no_division_in_the_loss),
    ("4. gradient of mse, loss of ours", gradient_of_mse, loss),
    ("   gradient of mse, loss of mse", gradient_of_mse, mse),
):
    dw, db = formula(*at)
    true_dw, true_db = by_finite_differences(J, *at)
    if np.shape(db) != np.shape(true_db):
        verdict = f"db has shape {np.shape(db)}, but must be a number"
    else:
        given, true = np.append(dw, db), np.append(true_dw, true_db)
        ratio = float(given @ true / (true @ true))
        off = np.abs(given - true).max() / np.abs(true).max()
        verdict = "agrees" if off < 1e-7 else f"is {ratio:.4g} times the true gradient"
    print(f"{name:34} {verdict}")

# %%
# The first mistake shows at once when it runs: the loss grows from epoch to epoch.

w_uphill, b_uphill = np.zeros(2), 0.0
for _ in range(20):
    dw, db = wrong_sign(w_uphill, b_uphill)
    w_uphill, b_uphill = w_uphill - eta * dw, b_uphill - eta * db
print(f"wrong sign, 20 epochs: J grew from {loss(np.zeros(2), 0.0):.3f} to ", end="")
print(f"{loss(w_uphill, b_uphill):.1f}")

# %%
# The same by compiled code
# -------------------------
# :func:`fastlsgd.loss_gradient` is ``gradient`` above, but reads X from memory once, where NumPy
# reads it twice.

w1, b1 = np.zeros(2), 0.0
for _ in range(epochs):
    _, dw, db = fastlsgd.loss_gradient(X, y, w1, b1)
    w1, b1 = w1 - eta * dw, b1 - eta * db

# %%
# :func:`fastlsgd.sgd_epoch` does all updates of an epoch. With one batch of all rows there is one.

w2, b2 = np.zeros(2), 0.0
for _ in range(epochs):
    w2, b2, _ = fastlsgd.sgd_epoch(X, y, w2, b2, learning_rate=eta, batch_size=m)

# %%
# :class:`fastlsgd.SGDRegressor` does the epochs, too. Here it is told to do what the loop did: a
# constant rate, all rows in a batch, no penalty, and no stopping before the last epoch.

by_hand = {"learning_rate": "constant", "eta0": eta, "max_iter": epochs, "tol": None, "alpha": 0.0}
model = SGDRegressor(**by_hand, batch_size=m, shuffle=False).fit(X, y)
w3, b3 = model.coef_, model.intercept_[0]

for name, other_w, other_b in (
    ("loss_gradient", w1, b1),
    ("sgd_epoch", w2, b2),
    ("SGDRegressor", w3, b3),
):
    off = max(np.abs(other_w - w).max(), abs(other_b - b))
    print(f"{name:14} w = {other_w.round(4)}, largest difference from NumPy {off:.0e}")
    assert off < 1e-12

# %%
# One row at a time
# -----------------
# Stochastic gradient descent updates after each row. A loop in Python shows what that means;
# ``sgd_epoch`` with its default ``batch_size=1`` gives the same weights.

w_sgd, b_sgd = np.zeros(2), 0.0
steps = [w_sgd]
for x_i, y_i in zip(X, y, strict=True):
    r = x_i @ w_sgd + b_sgd - y_i
    w_sgd, b_sgd = w_sgd - eta * r * x_i, b_sgd - eta * r
    steps.append(w_sgd)

coef, intercept, _ = fastlsgd.sgd_epoch(X, y, np.zeros(2), learning_rate=eta)
off = max(np.abs(coef - w_sgd).max(), abs(intercept - b_sgd))
print(f"one epoch, row by row: w = {coef.round(4)}, difference from the loop {off:.0e}")
assert off < 1e-12

# %%
# No rate at all
# --------------
# The default, ``learning_rate="auto"``, takes its steps from the data. For so few columns its first
# epoch is a step of Newton's, which ends at the minimum.

automatic = SGDRegressor(alpha=0.0).fit(X, y)
print(f'"auto", {automatic.n_iter_} epoch:    w = {automatic.coef_.round(4)}')

# %%
# The descent on the loss surface
# -------------------------------
# All paths begin at (0, 0). That of full-batch descent crosses the contours at right angles; that
# of single rows wanders, and gets close within a small part of its first epoch; that of "auto" is
# one step.

figure, ax = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
grid_0, grid_1 = np.meshgrid(np.linspace(-0.5, 3.0, 120), np.linspace(-2.0, 0.6, 120))
centred = X - X.mean(axis=0)  # the best b for each w is in closed form
residuals = centred @ np.stack([grid_0.ravel(), grid_1.ravel()]) - (y - y.mean())[:, None]
surface = 0.5 * np.mean(residuals**2, axis=0).reshape(grid_0.shape)
drawn = ax.contourf(grid_0, grid_1, surface, levels=np.geomspace(0.004, 6.0, 22), cmap="Blues_r")
figure.colorbar(drawn, ax=ax, label="J", format="%.2g")
for name, points, style in (
    ("full batch, 200 epochs", np.array(path), {"color": "#b23a00", "marker": ".", "ms": 5}),
    ("row by row, first epoch", np.array(steps), {"color": "#1a7f37", "lw": 0.8}),
    ('"auto", 1 epoch', np.array([[0, 0], automatic.coef_]), {"color": "black", "ls": "--"}),
):
    ax.plot(*points.T, label=name, **style)
ax.plot(*automatic.coef_, "*", color="gold", markeredgecolor="black", ms=14, label="minimum")
ax.set(xlabel="first weight", ylabel="second weight", title="Three ways down one surface")
ax.legend(loc="lower left")
figure.savefig("from_the_formulas.png", dpi=120)
print("wrote from_the_formulas.png")
