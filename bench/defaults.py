"""Write docs/defaults.md: what the estimators' defaults reach on data that nobody has prepared.

python bench/defaults.py            # minutes; torch's rows only where torch is installed
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import sparse_defaults
from sklearn import datasets
from sklearn.linear_model import SGDClassifier as SklearnClassifier
from sklearn.linear_model import SGDRegressor as SklearnRegressor
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from fastlsgd import LeastSquaresClassifier, LeastSquaresRegressor, SGDClassifier, SGDRegressor
from fastlsgd.datasets import house_sales_transformer, load_house_sales

PAGE = Path(__file__).parents[1] / "docs" / "defaults.md"
HEAD = """# What the defaults reach

The table shows held-out R2 (for digits, accuracy) with every parameter at its default, except
`alpha=0` where the table says so. `bench/defaults.py` writes this page. A quarter of the rows is
held out, in one split with `random_state=0`. No column is scaled unless the row says so. *Exact* is
least squares to machine precision, which is the most that linear models of these features reach on
the rows that are fitted. In brackets are the epochs of fastlsgd. `< -10` stands for any value
below; *diverged* means that the weights overflowed.

torch: `torch.nn.Linear`, `MSELoss`, `torch.optim.SGD(lr=0.01)`, batches of 32, 50 epochs.

With an L1 penalty, rows count for less than their weights say where a few are so large that sums in
float64 would hold nothing of the others (a column's root mean square is more than 1e3 times its
spread in ordinary rows, or the mean weight more than 1e6 times the median): a row that is k > 10
spreads from the others counts with a share (10 / k)^2 of its weight. Without L1, rows count in full
up to 1e8 spreads, so that the documented objective is minimised.

Beyond 512 columns, no epoch shows the minimum itself. A fit ends where the objective can fall by
less than `tol` (times the loss of predicting the mean, of ordinary rows), which is bounded or
estimated. On normal, correlated, decaying, low-rank and badly scaled columns, with one row up to
1e10 times as large as the others or without, it ends at most 0.0005 of y's variance above the
minimum, and with L1 at most 0.001, apart from columns that share a few large factors, where 1,000
epochs may not be enough under L1 and a warning says so (tests/linear_model/test_sgd_many_columns.py
holds it to that).
"""


def problems() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    X, price = load_house_sales(return_X_y=True)
    raw = np.asarray(house_sales_transformer().fit_transform(X), dtype=np.float64)
    numeric = raw[:, [len(np.unique(column)) > 2 for column in raw.T]]
    products = PolynomialFeatures(2, include_bias=False)
    y = np.log(price)
    yield "house sales, raw", raw, y
    yield "house sales, raw, squares and products", products.fit_transform(numeric), y
    scaled = StandardScaler().fit_transform(numeric)
    yield "house sales, scaled, then squares and products", products.fit_transform(scaled), y
    yield "diabetes", *datasets.load_diabetes(return_X_y=True)
    yield "digits", *datasets.load_digits(return_X_y=True)
    yield "make_regression", *datasets.make_regression(2000, 50, noise=10.0, random_state=0)
    yield "make_friedman1", *datasets.make_friedman1(2000, noise=1.0, random_state=0)
    yield "make_friedman2", *datasets.make_friedman2(2000, noise=50.0, random_state=0)
    yield "make_friedman3", *datasets.make_friedman3(2000, noise=0.1, random_state=0)
    yield "make_sparse_uncorrelated", *datasets.make_sparse_uncorrelated(2000, random_state=0)
    low_rank = datasets.make_low_rank_matrix(2000, 50, effective_rank=10, random_state=0)
    rng = np.random.default_rng(0)
    target = low_rank @ rng.normal(size=50)
    yield "make_low_rank_matrix", low_rank, target + 0.1 * target.std() * rng.normal(size=2000)


def torch_score(X, y, X_test, y_test, n_classes: int | None) -> float | None:
    """R2 or accuracy of torch after 50 epochs; None where it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    torch.manual_seed(0)
    targets = y[:, None] if n_classes is None else 2.0 * np.eye(n_classes)[y] - 1.0
    A, b = torch.tensor(X), torch.tensor(targets.astype(X.dtype))
    model = torch.nn.Linear(X.shape[1], b.shape[1], dtype=A.dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(50):
        for rows in torch.randperm(len(A)).split(32):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(model(A[rows]), b[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        predicted = model(torch.tensor(X_test)).numpy()
    return score(predicted, y_test, n_classes)


def score(predicted: np.ndarray, y: np.ndarray, n_classes: int | None) -> float:
    if not np.isfinite(predicted).all():
        return float("nan")
    if n_classes is not None:
        return float(np.mean(predicted.argmax(axis=1) == y))
    residual = predicted.ravel().astype(np.float64) - y
    return 1.0 - float(np.mean(residual**2) / np.var(y, dtype=np.float64))


def reached(fit: Callable[[], float]) -> str:
    """The score of a fit, as text for the table."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            value = fit()
        except ValueError:
            return "diverged"
    if value is None:
        return "n/a"
    if not np.isfinite(value):
        return "diverged"
    return "< -10" if value < -10 else f"{value:.4f}"


def line(name: str, X, y, dtype) -> str:
    classify = y.dtype.kind == "i"
    n_classes = len(np.unique(y)) if classify else None
    X = X.astype(dtype)
    y = y if classify else y.astype(dtype)
    X, X_test, y, y_test = train_test_split(X, y, random_state=0)
    # A penalty acts on weights in units of the columns, and those of diabetes are about 0.05.
    chosen = {"alpha": 0.0} if name in ("diabetes", "make_low_rank_matrix") else {}
    exact = LeastSquaresClassifier() if classify else LeastSquaresRegressor()
    cells = [reached(lambda: exact.fit(X, y).score(X_test, y_test))]
    ours = (SGDClassifier if classify else SGDRegressor)(random_state=0, **chosen)
    value = reached(lambda: ours.fit(X, y).score(X_test, y_test))
    cells.append(f"{value} ({getattr(ours, 'n_iter_', '-')})")
    if classify:
        theirs = SklearnClassifier(loss="squared_error", random_state=0, **chosen)
    else:
        theirs = SklearnRegressor(random_state=0, **chosen)
    cells.append(reached(lambda: theirs.fit(X, y).score(X_test, y_test)))
    scaled = make_pipeline(StandardScaler(), theirs)
    cells.append(reached(lambda: scaled.fit(X, y).score(X_test, y_test)))
    cells.append(reached(lambda: torch_score(X, y, X_test, y_test, n_classes)))
    zero = ", alpha=0" if chosen else ""
    return f"| {name}{zero} | {np.dtype(dtype).name} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=PAGE)
    out = parser.parse_args().out
    lines = [
        "| data | dtype | exact | fastlsgd | scikit-learn | scikit-learn, scaled | torch |",
        "|" + " --- |" * 7,
    ]
    for name, X, y in problems():
        for dtype in (np.float32, np.float64):
            lines.append(line(name, X, y, dtype))
            print(lines[-1], flush=True)
    page = HEAD + "\n" + "\n".join(lines) + "\n\n" + sparse_defaults.HEAD
    out.write_text(page + "\n".join(sparse_defaults.lines()) + "\n")


if __name__ == "__main__":
    main()
