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
    sales, price = load_house_sales(return_X_y=True)
    numbers = house_sales_transformer().fit_transform(sales)[:, :N_NUMBERS]

    model = LeastSquaresRegressor().fit(numbers, np.log(price))
    print(f"solver {model.solver_}, {model.n_iter_} passes, condition {model.condition_:.2g}\n")
    print(model.summary())

    ridge = LeastSquaresCV().fit(numbers, np.log(price))
    error = np.sqrt(-ridge.best_score_)
    print(f"\nridge by leave-one-out: alpha {ridge.alpha_:.3g}, error of log(price) {error:.3f}")


if __name__ == "__main__":
    main()
