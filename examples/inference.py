"""
What explains the price of a house
==================================

A fit, its table of standard errors, and a penalty by cross-validation.

Run: ``python examples/inference.py``
"""

import numpy as np

from fastlsgd import LeastSquaresCV, LeastSquaresRegressor
from fastlsgd.datasets import house_sales_transformer, load_house_sales

N_NUMBERS = 15  # numeric columns come before those of categories


def main() -> None:
    bunch = load_house_sales()
    transformer, price = house_sales_transformer(), bunch.target
    numbers = transformer.fit_transform(bunch.data)[:, :N_NUMBERS]
    names = transformer.get_feature_names_out(bunch.feature_names)[:N_NUMBERS]

    model = LeastSquaresRegressor().fit(numbers, np.log(price))
    print(f"solver {model.solver_}, n_iter_ {model.n_iter_}, condition {model.condition_:.2g}\n")
    summary = model.summary()
    summary.names = ["intercept", *names]  # an array has none; a data frame brings its own
    print(summary)

    ridge = LeastSquaresCV().fit(numbers, np.log(price))
    error = np.sqrt(-ridge.best_score_)
    print(f"\nridge by leave-one-out: alpha {ridge.alpha_:.3g}, error of log(price) {error:.3f}")


if __name__ == "__main__":
    main()
