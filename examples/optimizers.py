"""
Optimizers, over-fitting and what helps
=======================================

Seven optimizers on well and on badly scaled columns, and the default that needs none of them. Then
over-fitting and four remedies: L2, L1, early stopping, and dropout and augmented data, which both
turn out to be L2.

Run: ``python examples/optimizers.py`` (seconds; ``--small`` searches fewer rates). It prints its
results, and leaves two pictures in the current folder.
"""

import os
import sys

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from fastlsgd import EpochReport, LeastSquaresRegressor, SGDRegressor
from fastlsgd.optimizers import Adam, OneCycle

SMALL = "--small" in sys.argv or os.environ.get("FASTLSGD_EXAMPLES") == "small"

# %%
# Seven optimizers, two scales
# ----------------------------
# Ten measurements of 442 patients, once of like scale, once in units that differ by a factor of
# 1,000. Each optimizer has the best of several rates. For steps that take no notice of scale, the
# largest column dictates the rate, and the smallest learns nothing; Adam, RMSprop and Adagrad
# divide by the size of each column's gradient, which helps. Nothing is as quick as the default,
# which takes its metric from the data: the dotted line is where its single epoch ends.

X, y = load_diabetes(return_X_y=True)
y = y / y.std()
well = StandardScaler().fit_transform(X)
badly = well * np.geomspace(1.0, 1e3, X.shape[1])

EPOCHS = 30
rates = [1e-2, 1e-4, 1e-6] if SMALL else [1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8]
names = ["sgd", "momentum", "nesterov", "rmsprop", "adagrad", "adam", "adamw"]
figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
for ax, data, title in ((axes[0], well, "columns of like scale"), (axes[1], badly, "raw units")):
    automatic = SGDRegressor(alpha=0.0).fit(data, y)
    least = 0.5 * np.mean((y - automatic.predict(data)) ** 2)
    print(f'{title}: "auto" ends at a loss of {least:.4f} after {automatic.n_iter_} epoch')
    for name in names:
        best, best_rate = np.array([np.inf]), None
        for rate in rates:
            model = SGDRegressor(
                optimizer=name,
                learning_rate="constant",
                eta0=rate,
                batch_size=32,
                max_iter=EPOCHS,
                tol=None,
                alpha=0.0,
                random_state=0,
            )
            try:
                curve = np.array(model.fit(data, y).loss_curve_)
            except ValueError:  # the weights diverge
                continue
            if curve[-1] < best[-1]:
                best, best_rate = curve, rate
        print(f"  {name:9} {best[-1]:8.4f} with the rate {best_rate}")
        dashes = "--" if name in ("nesterov", "adamw") else "-"  # nearly the lines before them
        ax.plot(np.arange(1, EPOCHS + 1), best, dashes, label=name)
    ax.axhline(least, color="black", ls=":", label='"auto", 1 epoch')
    ax.set(yscale="log", ylim=(0.2, 30.0), xlabel="epoch", title=title)
axes[0].set_ylabel("mean loss, residual$^2$ / 2")
axes[1].legend(ncols=2, fontsize=8)
figure.savefig("optimizers_curves.png", dpi=120)

# %%
# A schedule, clipping, and a callback
# ------------------------------------
# What else a training loop has is a parameter. The callback prints some epochs, and ends the fit
# once the held-out rows are explained well enough.

X_train, X_test, y_train, y_test = train_test_split(well, y, test_size=0.3, random_state=0)


def tell(report: EpochReport) -> bool:
    if report.epoch % 5 == 0:
        print(
            f"  epoch {report.epoch:3}: loss {report.loss:8.4f}, "
            f"R2 held out {report.validation_score:.3f}, rate {report.rate:.4f}"
        )
    return report.validation_score > 0.95


model = SGDRegressor(
    optimizer=Adam(beta2=0.99),
    learning_rate=OneCycle(pct_start=0.2),
    eta0=0.1,
    batch_size=8,
    clip_norm=10.0,
    max_iter=20,
    tol=None,
    early_stopping=True,
    validation_fraction=0.2,
    random_state=0,
)
print(f"{model.optimizer}, one cycle up to {model.eta0}")
model.fit(X_train, y_train, callback=tell)
exact = LinearRegression().fit(X_train, y_train).score(X_test, y_test)
print(f"  R2 of the test rows {model.score(X_test, y_test):.3f}; exact least squares {exact:.3f}")

# %%
# A progress bar
# --------------
# ``verbose=1`` follows the epochs: by a bar in terminals and notebooks, by lines in files.

watched = SGDRegressor(optimizer="adam", eta0=0.01, batch_size=32, max_iter=8, tol=None, verbose=1)
watched.fit(X_train, y_train)

# %%
# Over-fitting
# ------------
# Thirty noisy points of a wave, and a polynomial of degree 20. Exact least squares goes through the
# noise: its error on the training points is small, that on new points is not.

rng = np.random.default_rng(0)


def powers(t):
    """Legendre polynomials of t in [-1, 1] up to degree 20, as columns of like size."""
    return np.polynomial.legendre.legvander(t, 20)[:, 1:] * np.sqrt(2 * np.arange(1, 21) + 1)


t_train, t_test = rng.uniform(-1, 1, 30), np.linspace(-0.98, 0.98, 400)
wave = np.sin(3 * t_train) + 0.3 * rng.normal(size=30)
truth = np.sin(3 * t_test)
A, B = powers(t_train), powers(t_test)


def errors(model):
    inner = np.sqrt(np.mean((model.predict(A) - wave) ** 2))
    return inner, np.sqrt(np.mean((model.predict(B) - truth) ** 2))


overfitted = LeastSquaresRegressor().fit(A, wave)
inner, outer = errors(overfitted)
print(f"\nno penalty: error {inner:.3f} on the training points, {outer:.3f} on the true curve")

# %%
# Penalties and early stopping
# ----------------------------
# L2 makes all weights smaller; L1 makes most of them exactly 0; early stopping ends a slow descent
# before it has reached the noise. Each has one number to choose.

alphas = np.geomspace(1e-4, 1.0, 25)
by_l2 = [errors(LeastSquaresRegressor(alpha=alpha).fit(A, wave)) for alpha in alphas]
lasso = [LeastSquaresRegressor(alpha=alpha, l1_ratio=1.0).fit(A, wave) for alpha in alphas]
by_l1 = [errors(model) for model in lasso]
slow = SGDRegressor(learning_rate="constant", eta0=2e-3, alpha=0.0, tol=None, max_iter=1)
slow.set_params(warm_start=True, random_state=0)
counts, by_epochs = np.arange(1, 201), []
for _ in counts:
    slow.fit(A, wave)
    by_epochs.append(errors(slow))
for name, table, at in (
    ("L2", by_l2, alphas),
    ("L1", by_l1, alphas),
    ("early stopping", by_epochs, counts),
):
    best = int(np.argmin([outer for _, outer in table]))
    print(f"{name:15} error {table[best][0]:.3f} and {table[best][1]:.3f} at {at[best]:.3g}")
kept = [np.count_nonzero(model.coef_) for model in lasso]
print(f"L1 keeps {kept[0]} weights at alpha {alphas[0]:.1g}, {kept[-1]} at {alphas[-1]:.1g}")

figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained", sharey=True)
for ax, table, at, label in (
    (axes[0], by_l2, alphas, "alpha, L2"),
    (axes[1], by_l1, alphas, "alpha, L1"),
    (axes[2], by_epochs, counts, "epochs of a slow descent"),
):
    ax.plot(at, [inner for inner, _ in table], label="training points")
    ax.plot(at, [outer for _, outer in table], label="true curve")
    ax.axhline(errors(overfitted)[1], color="black", ls="--", lw=1, label="no remedy, true curve")
    ax.set(xscale="log", xlabel=label, ylim=(0, 1.2))
axes[0].set_ylabel("root mean square error")
axes[0].legend(fontsize=8)
figure.savefig("optimizers_overfitting.png", dpi=120)

# %%
# Dropout is ridge
# ----------------
# Dropout sets each number of X to 0 with probability q, and divides the others by 1 - q. Averaged
# over all masks, the squared error of a linear model is
#
# .. math::
#
#    & \mathbb E\, \Bigl(\sum_j \tfrac{m_j}{1 - q} x_j w_j - y\Bigr)^2 \\
#    &= (x \cdot w - y)^2 + \frac{q}{1 - q} \sum_j x_j^2 w_j^2 ,
#
# which is an L2 penalty. On standardised columns it is ``alpha = q / (1 - q)``. Thousands of masks,
# fitted without a penalty, approach the ridge fit without masks.

n_copies = 500 if SMALL else 4000
q = 0.3
many = np.tile(well, (n_copies, 1))
targets = np.tile(y, n_copies)
masks = rng.random(many.shape, dtype=np.float32) >= q
dropped = LeastSquaresRegressor().fit(many * masks / (1 - q), targets)
as_ridge = LeastSquaresRegressor(alpha=q / (1 - q)).fit(well, y)
plain = LeastSquaresRegressor().fit(well, y)


def distance(model, other):
    return np.linalg.norm(model.coef_ - other.coef_) / np.linalg.norm(other.coef_)


off = distance(dropped, as_ridge)
print(f"\ndropout of {q:.0%}, {n_copies:,} masks per row: {off:.1%} from ridge")
print(f"  (without dropout the weights are {distance(plain, as_ridge):.0%} from it)")

# %%
# Augmented data is ridge
# -----------------------
# Copies of the rows with noise of standard deviation s add :math:`s^2 |w|^2` to the expected
# squared error, by the same reasoning: that is ``alpha = s ** 2``.

s = 0.6
noisy = LeastSquaresRegressor().fit(many + s * rng.normal(size=many.shape), targets)
as_ridge = LeastSquaresRegressor(alpha=s**2).fit(well, y)
print(f"noise of {s}, {n_copies:,} copies per row: {distance(noisy, as_ridge):.1%} from ridge")
print(f"  (without noise the weights are {distance(plain, as_ridge):.0%} from it)")
