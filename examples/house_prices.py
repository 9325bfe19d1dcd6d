"""
House prices, end to end
========================

Real sales from the look at the data to a server that answers: features, a split, training, tuning,
regularisation, early stopping, residuals, errors in dollars, intervals, importance, Shapley values,
and a saved model. The 25,357 sales of Lucas County, Ohio, come with the package.

Run: ``python examples/house_prices.py`` (half a minute; ``--small`` uses every tenth sale). It
prints its results, and leaves pictures and the model in the current folder. The model then
predicts from the command line: ``python examples/house_prices.py predict sale.json``.
"""

import json
import os
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import combinations
from math import factorial
from pathlib import Path

import joblib
import matplotlib.pyplot as plt
import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.inspection import permutation_importance
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, cross_validate, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastlsgd import LeastSquaresCV, LeastSquaresRegressor, SGDRegressor
from fastlsgd.datasets import house_sales_transformer, load_house_sales

SMALL = "--small" in sys.argv or os.environ.get("FASTLSGD_EXAMPLES") == "small"
MODEL = Path("house_prices.joblib")


def price_of(model, sale, names):
    """The price of one sale, given as a dictionary from column to value."""
    row = np.array([[sale[name] for name in names]], dtype=object)
    return float(model.predict(row)[0])


# %%
# From the command line
# ---------------------
# With the word ``predict`` the program only loads the model that an earlier run saved, and answers.
# A file of joblib can execute code when it is loaded: load only files of your own. For a table of
# sales no program is needed: ``fastlsgd fit`` and ``fastlsgd predict`` do it from the command line,
# with model files that execute nothing (:doc:`/command`).

if len(sys.argv) == 3 and sys.argv[1] == "predict":
    for path in (MODEL, Path(sys.argv[2])):
        if not path.exists():
            sys.exit(f"There is no {path} here: run the program without arguments first.")
    saved = joblib.load(MODEL)
    asked = json.loads(Path(sys.argv[2]).read_text("utf-8"))
    print(f"${price_of(saved['model'], asked, saved['names']):,.0f}")
    sys.exit()

# %%
# A look at the data
# ------------------
# Numbers, categories and a date. The prices are skewed; their logarithms are not, so that the
# models below fit log(price).

bunch = load_house_sales()
names, sales, price = bunch.feature_names, bunch.data, bunch.target
if SMALL:
    sales, price = sales[::10], price[::10]
print(f"{len(price):,} sales, {len(names)} columns; a median house cost ${np.median(price):,.0f}")
for name, column in zip(names, sales.T, strict=True):
    if isinstance(column[0], str):
        print(f"  {name:17} {len(set(column)):5} different values, such as {column[0]}")
    else:
        low, middle, high = np.quantile(column.astype(float), [0.0, 0.5, 1.0])
        print(f"  {name:17} {low:12.6g} {middle:12.6g} {high:12.6g}   least, median, largest")

figure, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
axes[0].hist(price / 1e3, bins=60, color="#1f6fb2")
axes[0].set(xlabel="price in thousand dollars", ylabel="sales", title="Prices are skewed,")
axes[1].hist(np.log(price), bins=60, color="#1f6fb2")
axes[1].set(xlabel="log(price)", title="their logarithms hardly")
area = sales[:, names.index("living_area_sqft")].astype(float)
axes[2].plot(area, np.log(price), ".", ms=2, alpha=0.2, color="#1f6fb2")
axes[2].set(xlabel="living area in square feet", ylabel="log(price)", title="Area explains much")
figure.savefig("house_prices_data.png", dpi=120)

# %%
# Features and split
# ------------------
# ``house_sales_transformer`` takes numbers as they are (years, feet, metres), and makes columns of
# zeros and ones from categories. The sales are sorted by place, so that the split is shuffled.

train, test, price_train, price_test = train_test_split(sales, price, test_size=0.2, random_state=0)
transformer = house_sales_transformer()
X_train, X_test = transformer.fit_transform(train), transformer.transform(test)
y_train, y_test = np.log(price_train), np.log(price_test)
feature_names = [str(name) for name in transformer.get_feature_names_out(names)]
print(f"\n{len(X_train):,} sales to train, {len(X_test):,} to test, {X_train.shape[1]} features")

# %%
# Train
# -----
# The defaults need neither scaled columns nor a learning rate.

model = SGDRegressor(random_state=0).fit(X_train, y_train)
print(f"defaults: {model.n_iter_} epoch, R2 of log(price) {model.score(X_test, y_test):.4f}")

# %%
# Five folds of the whole, from raw columns to dollars:

whole = TransformedTargetRegressor(
    make_pipeline(house_sales_transformer(), SGDRegressor(random_state=0)),
    func=np.log,
    inverse_func=np.exp,
)
scores = cross_validate(
    whole,
    sales,
    price,
    cv=KFold(5, shuffle=True, random_state=0),
    scoring={"R2": "r2", "error": "neg_median_absolute_error"},
)
print(f"R2 of the price in each fold: {np.round(scores['test_R2'], 3)}")
print(f"median error of a price:      ${-scores['test_error'].mean():,.0f}")

# %%
# Tune rate and epochs
# --------------------
# Whoever chooses the steps has to search for them. The search below takes scaled columns, a
# constant rate, and validation rows that are part of the training rows. A cell without a number
# diverged.

scaled = StandardScaler().fit_transform(X_train)
X_fit, X_valid, y_fit, y_valid = train_test_split(scaled, y_train, random_state=0)
rates, epoch_counts = [1e-4, 1e-3, 1e-2, 1e-1, 3e-1], [1, 3, 10, 30]
heat = np.full((len(rates), len(epoch_counts)), np.nan)
for i, rate in enumerate(rates):
    for j, epochs in enumerate(epoch_counts):
        by_hand = SGDRegressor(
            learning_rate="constant",
            eta0=rate,
            max_iter=epochs,
            tol=None,
            batch_size=32,
            random_state=0,
        )
        try:
            heat[i, j] = by_hand.fit(X_fit, y_fit).score(X_valid, y_valid)
        except ValueError:  # the weights diverge
            continue
default = SGDRegressor().fit(X_fit, y_fit).score(X_valid, y_valid)
print(
    f"\nbest of the search: R2 {np.nanmax(heat):.4f}; the default, without a search: {default:.4f}"
)

figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
shown = ax.imshow(heat, vmin=0.0, vmax=0.75, cmap="cividis", aspect="auto")
for (i, j), value in np.ndenumerate(heat):
    text = "diverges" if np.isnan(value) else f"{value:.3f}" if value > -9 else "< -9"
    ax.text(j, i, text, ha="center", va="center", color="black" if value > 0.45 else "white",
            bbox={"color": "#777777"} if np.isnan(value) else None)  # fmt: skip
ax.set_xticks(range(len(epoch_counts)), epoch_counts)
ax.set_yticks(range(len(rates)), rates)
ax.set(xlabel="epochs", ylabel="learning rate", title=f"R2 on validation rows; auto: {default:.3f}")
figure.colorbar(shown, ax=ax, label="R2")
figure.savefig("house_prices_search.png", dpi=120)

# %%
# Regularise
# ----------
# Squares and products of the numeric columns make many features. ``LeastSquaresCV`` finds the ridge
# penalty by exact leave-one-out, at the cost of about one fit. An L1 penalty leaves features out:
# here is how many remain, and what that costs.

products = house_sales_transformer("products")
P_train, P_test = products.fit_transform(train), products.transform(test)
ridge = LeastSquaresCV().fit(P_train, y_train)
print(f"\n{P_train.shape[1]} features, ridge: alpha {ridge.alpha_:.2g}, ", end="")
print(f"R2 {ridge.score(P_test, y_test):.4f}")
# L1 compares weights, so that their columns must be of like scale.
scaler = StandardScaler().fit(P_train)
Z_train, Z_test = scaler.transform(P_train), scaler.transform(P_test)
alphas = [0.1, 0.03, 0.01, 0.003, 0.001]
path = LeastSquaresRegressor(alpha=alphas, l1_ratio=1.0).fit(Z_train, y_train)
for alpha, coef, intercept in zip(alphas, path.coef_path_, path.intercept_path_, strict=True):
    R2 = r2_score(y_test, Z_test @ coef + intercept)
    print(f"  L1, alpha {alpha:<6} {np.count_nonzero(coef):4} features remain, R2 {R2:.4f}")

# %%
# Stop early
# ----------
# With steps of one's own, early stopping holds out a tenth of the rows, and ends with the weights
# of the epoch that predicts them best.

early = SGDRegressor(
    optimizer="adam",
    eta0=0.001,
    batch_size=32,
    early_stopping=True,
    max_iter=300,
    random_state=0,
).fit(Z_train, y_train)
print(f"Adam with early stopping: {early.n_iter_} epochs, R2 {early.score(Z_test, y_test):.4f}")

# %%
# Residuals
# ---------
# What a model cannot explain: residuals against predictions (a fan would mean that errors grow with
# the price), their distribution, and their means by decade of building. Very old and new houses
# cost less than predicted, those of 1920 to 1960 more: a straight line in the year is too simple,
# and squares and products are closer.

prediction = model.predict(X_test)
residual = y_test - prediction
decade = 10 * (X_test[:, feature_names.index("year_built")] // 10)
decades = [d for d in np.unique(decade) if np.sum(decade == d) >= 10]
figure, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
axes[0].plot(prediction, residual, ".", ms=2, alpha=0.3, color="#1f6fb2")
axes[0].axhline(0.0, color="black", lw=0.8)
axes[0].set(xlabel="predicted log(price)", ylabel="residual", ylim=(-2, 2))
axes[1].hist(residual, bins=np.linspace(-1.5, 1.5, 61), color="#1f6fb2")
axes[1].set(xlabel="residual", ylabel="sales")
for name, values, marker in (
    ("30 features", residual, "o"),
    ("with products", y_test - ridge.predict(P_test), "s"),
):
    means = [values[decade == d].mean() for d in decades]
    axes[2].plot(decades, means, marker=marker, ms=4, label=name)
axes[2].axhline(0.0, color="black", lw=0.8)
axes[2].set(xlabel="decade of building", ylabel="mean residual")
axes[2].legend()
figure.savefig("house_prices_residuals.png", dpi=120)

# %%
# Errors in dollars
# -----------------
# An error of 0.1 in log(price) is about 10 percent of the price. By quarters of the price:

error = np.abs(np.exp(prediction) - price_test)
quarter = np.searchsorted(np.quantile(price_test, [0.25, 0.5, 0.75]), price_test)
print("\nquarter of the prices     median error   9 of 10 below   share of the price")
for q, name in enumerate(("cheapest", "second", "third", "dearest")):
    these = quarter == q
    middle, most = np.quantile(error[these], [0.5, 0.9])
    share = np.median(error[these] / price_test[these])
    print(f"  {name:22} ${middle:12,.0f}   ${most:12,.0f}   {share:18.0%}")

# %%
# Coefficients with intervals
# ---------------------------
# Exact least squares has standard errors. Residuals differ in variance from house to house, so that
# robust ones (HC3) are asked for. A coefficient of 0.1 is a tenth more in price, per unit.

exact = LeastSquaresRegressor().fit(X_train, y_train)
table = exact.summary(cov_type="HC3", X=X_train, y=y_train)
estimates, intervals = table.coef[1:], table.confidence_interval[1:]
per_deviation = X_train.std(axis=0)
order = np.argsort(-np.abs(estimates * per_deviation))[:12]
print()
for j in order[:5]:
    low, high = intervals[j]
    print(f"  {feature_names[j]:20} {estimates[j]:10.4g}   95 percent: {low:.4g} to {high:.4g}")
figure, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
middle = (estimates * per_deviation)[order]
reach = np.abs((intervals - estimates[:, None]) * per_deviation[:, None])[order].T
ax.errorbar(middle, range(len(order)), xerr=reach, fmt="o", color="#1f6fb2", capsize=3)
ax.axvline(0.0, color="black", lw=0.8)
ax.set_yticks(range(len(order)), [feature_names[j] for j in order])
ax.invert_yaxis()
ax.set(xlabel="change of log(price) per standard deviation", title="95 percent intervals, HC3")
figure.savefig("house_prices_coefficients.png", dpi=120)

# %%
# Permutation importance
# ----------------------
# How much R2 falls when one column of the test rows is shuffled. This works for any model, and asks
# about raw columns, categories included.

whole.fit(train, price_train)
importance = permutation_importance(
    whole, test, price_test, n_repeats=2 if SMALL else 5, random_state=0
)
print()
for j in np.argsort(-importance.importances_mean)[:5]:
    print(f"  {names[j]:17} R2 falls by {importance.importances_mean[j]:.3f}")

# %%
# Shapley values, exactly
# -----------------------
# A Shapley value is a feature's share in one prediction: its contribution, averaged over all orders
# in which features may join. For a linear model, where a missing feature stands for its mean, the
# average over the :math:`2^d` coalitions collapses to :math:`w_j (x_j - \bar x_j)`. Four features
# are few enough to check this against the definition.

four = [feature_names.index(name) for name in ("living_area_sqft", "baths", "year_built", "beds")]
small_model = LeastSquaresRegressor().fit(X_train[:, four], y_train)
means, house = X_train[:, four].mean(axis=0), X_test[0, four]


def value_of(present):
    row = means.copy()
    row[list(present)] = house[list(present)]
    return small_model.predict(row[None])[0]


by_definition = np.zeros(4)
for j in range(4):
    others = [k for k in range(4) if k != j]
    for size in range(4):
        weight = factorial(size) * factorial(3 - size) / factorial(4)
        for present in combinations(others, size):
            gain = value_of((*present, j)) - value_of(present)
            by_definition[j] += weight * gain
by_formula = small_model.coef_ * (house - means)
assert np.allclose(by_definition, by_formula, atol=1e-10)

shares = exact.coef_ * (X_test[0] - X_train.mean(axis=0))
mean_prediction = exact.predict(X_train).mean()
assert np.isclose(mean_prediction + shares.sum(), exact.predict(X_test[:1])[0])
print(f"\none house: ${np.exp(mean_prediction):,.0f} for a mean house, then")
for j in np.argsort(-np.abs(shares))[:4]:
    print(f"  {feature_names[j]:20} times {np.exp(shares[j]):.2f}")
print(f"  and so on, to ${np.exp(exact.predict(X_test[:1])[0]):,.0f}")

# %%
# Save
# ----
# The whole pipeline, from raw columns to dollars, in one file.

joblib.dump({"model": whole, "names": names}, MODEL)
print(f"\nwrote {MODEL}, {MODEL.stat().st_size / 1e3:.0f} kB, and four pictures")

# %%
# Serve over HTTP
# ---------------
# A server of Python's own library is enough to try it. Here it listens on this machine only,
# answers one question, and ends. The answer is that of the model, to the last digit.


class Prices(BaseHTTPRequestHandler):
    saved = joblib.load(MODEL)

    def do_POST(self):
        sale = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps({"price": price_of(self.saved["model"], sale, self.saved["names"])})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *arguments):  # by default each request is printed
        pass


sale = dict(zip(names, test[0].tolist(), strict=True))
Path("sale.json").write_text(json.dumps(sale, indent=2), "utf-8")
with HTTPServer(("127.0.0.1", 0), Prices) as server:
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/"
    request = urllib.request.Request(url, json.dumps(sale).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=30) as response:
        answer = json.load(response)
    thread.join()
print(f"asked over HTTP: ${answer['price']:,.0f}; paid: ${price_test[0]:,.0f}")
assert answer["price"] == whole.predict(test[:1])[0]
