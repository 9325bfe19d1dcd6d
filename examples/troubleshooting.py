"""
When something goes wrong
=========================

It does not converge, it predicts badly, it takes too long, a backend is missing: the questions of
newcomers, each with a few lines that show the cause and the remedy.

Run: ``python examples/troubleshooting.py`` (seconds; ``--small`` uses fewer rows). It prints its
results.
"""

import os
import sys
import time
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

import fastlsgd
from fastlsgd import LeastSquaresCV, LeastSquaresRegressor, SGDRegressor

SMALL = "--small" in sys.argv or os.environ.get("FASTLSGD_EXAMPLES") == "small"

rng = np.random.default_rng(0)
n = 2_000 if SMALL else 20_000
X = rng.normal(size=(n, 3)) * [1.0, 30.0, 1000.0] + [0.0, 20.0, 2000.0]
y = X @ [3.0, 0.1, 0.002] + 5.0 + rng.normal(size=n)

# %%
# It does not converge: the rate is too large
# -------------------------------------------
# The error names a rate that holds. It is small here, since the third column is large.

by_hand = {"learning_rate": "constant", "tol": None, "max_iter": 20, "random_state": 0}
try:
    SGDRegressor(eta0=0.01, **by_hand).fit(X, y)
except ValueError as error:
    print(f"eta0=0.01: {error}")

# %%
# It does not converge: the rate is too small
# -------------------------------------------
# With the rate that the largest column bears, the other columns learn nothing: the loss falls ever
# more slowly. ``loss_curve_`` shows it, and with a ``tol`` a warning says so.

model = SGDRegressor(eta0=1e-8, **by_hand).fit(X, y)
print(f"eta0=1e-8: R2 {model.score(X, y):.3f}, losses {np.round(model.loss_curve_[::5], 2)}")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", ConvergenceWarning)
    SGDRegressor(learning_rate="constant", eta0=1e-8, max_iter=5, tol=1e-6, random_state=0).fit(
        X, y
    )
print(f"the warning: {caught[0].message}" if caught else "no warning")

# %%
# The remedy: scale the columns, or leave the rate to the data. The default needs no scaling.

scaled = make_pipeline(StandardScaler(), SGDRegressor(eta0=0.01, **by_hand)).fit(X, y)
automatic = SGDRegressor().fit(X, y)
print(f"scaled, eta0=0.01: R2 {scaled.score(X, y):.3f}")
print(f'learning_rate="auto": R2 {automatic.score(X, y):.3f} in {automatic.n_iter_} epoch')

# %%
# The data have NaN or infinity
# -----------------------------
# The error says in which array. ``numpy.argwhere`` finds the places, and ``SimpleImputer`` of
# scikit-learn fills gaps. Errors in streams name the column, and ``scan(..., impute=...)`` fills.

damaged = X.copy()
damaged[7, 1] = np.nan
try:
    SGDRegressor().fit(damaged, y)
except ValueError as error:
    print(f"NaN: {error} At: {np.argwhere(np.isnan(damaged)).tolist()}")

# %%
# It predicts badly, even the rows that it was fitted on
# ------------------------------------------------------
# The score on the training rows is low, too: the features do not explain the target in a linear
# way. More or other features help; a longer fit does not. Here the target is a square.

bend = rng.uniform(-2.0, 2.0, (n, 1))
target = bend[:, 0] ** 2 + 0.1 * rng.normal(size=n)
straight = SGDRegressor().fit(bend, target)
curved = make_pipeline(PolynomialFeatures(2), SGDRegressor()).fit(bend, target)
print(
    f"a line: R2 {straight.score(bend, target):.3f}; with squares: {curved.score(bend, target):.3f}"
)

# %%
# It predicts the training rows well, and new ones badly
# ------------------------------------------------------
# That is over-fitting: too many features for the rows. A penalty helps, whose strength
# cross-validation finds.

wide = rng.normal(size=(160, 100))
noisy = wide[:, 0] - wide[:, 1] + rng.normal(size=160)
A, B, a, b = train_test_split(wide, noisy, test_size=0.25, random_state=0)
plain, ridge = LeastSquaresRegressor().fit(A, a), LeastSquaresCV().fit(A, a)
print(f"no penalty: R2 {plain.score(A, a):.2f} on training rows, {plain.score(B, b):.2f} on others")
print(f"alpha {ridge.alpha_:.2g}: R2 {ridge.score(A, a):.2f} and {ridge.score(B, b):.2f}")

# %%
# It predicts worse than in the test
# ----------------------------------
# Rows that are sorted (by place, by time, by target) must be shuffled before they are split, or the
# test rows are of another kind. ``train_test_split`` shuffles; ``X[:1000]`` does not. If rows are
# ordered in time and the model is to predict the future, split by time all the same: that is the
# test.

order = np.argsort(y)
first, last = order[: n * 3 // 4], order[n * 3 // 4 :]
on_sorted = SGDRegressor().fit(X[first], y[first]).score(X[last], y[last])
A, B, a, b = train_test_split(X, y, random_state=0)
on_shuffled = SGDRegressor().fit(A, a).score(B, b)
print(f"split of sorted rows: R2 {on_sorted:.2f}; shuffled: {on_shuffled:.2f}")

# %%
# A few rows spoil it
# -------------------
# Squares of large errors outweigh all the rest. ``influence`` ranks the rows by how far they move
# the weights (Cook's distance); whether they are errors is for you to say.

spoiled = y.copy()
spoiled[13] += 1e5
fit = LeastSquaresRegressor().fit(X, spoiled)
influence = fit.influence(X, spoiled)
print(f"with one wrong target: R2 {fit.score(X, y):.3f} on the right ones; ", end="")
print(f"the row of largest influence is {int(np.argmax(influence.cooks_distance))}")

# %%
# It takes too long
# -----------------
# Four questions. Is the default used? It needs an epoch or a few. Is the batch large enough, with
# an optimizer? Is the compiled backend in use? Are the rows float32? They take half the memory, and
# half the time where reading them is what takes it, as in a gradient of many rows; the default,
# which sums products of columns in float64, gains less. Absolute times are those of this computer.


def milliseconds(model, X, y):
    times = []
    for _ in range(3):
        start = time.perf_counter()
        model.fit(X, y)
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


large = rng.standard_normal((n, 50))
answer = large @ rng.normal(size=50)
adam = {"optimizer": "adam", "max_iter": 5, "tol": None, "random_state": 0}
for name, model, dtype in (
    ("float64, the default", SGDRegressor(), np.float64),
    ("float32, the default", SGDRegressor(), np.float32),
    ("Adam, 5 epochs, batches of 1", SGDRegressor(**adam, batch_size=1), np.float32),
    ("Adam, 5 epochs, batches of 64", SGDRegressor(**adam, batch_size=64), np.float32),
    (
        "the same, by NumPy alone",
        SGDRegressor(**adam, batch_size=64, backend="reference"),
        np.float32,
    ),
):
    data, targets = large.astype(dtype), answer.astype(dtype)
    print(f"{name:31} {milliseconds(model, data, targets):8.1f} ms")

# %%
# A backend is not found
# ----------------------
# Which backends there are, and why one is missing; ``fastlsgd show-versions`` prints more.

for name, status in fastlsgd.available_backends().items():
    print(f"{name:10} {' '.join(status.split())}")
print(f"in use: {SGDRegressor().fit(X, y).backend_}")
