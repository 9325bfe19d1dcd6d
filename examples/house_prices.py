"""Fit house prices from raw columns, in a scikit-learn pipeline, with cross-validation.

Run: python examples/house_prices.py
"""

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import KFold, cross_validate
from sklearn.pipeline import make_pipeline

from fastlsgd import SGDRegressor
from fastlsgd.datasets import house_sales_transformer, load_house_sales


def main() -> None:
    sales, price = load_house_sales(return_X_y=True)

    # Years, square feet and metres are used as they are: the default learning rate adapts to them.
    model = TransformedTargetRegressor(
        make_pipeline(house_sales_transformer(), SGDRegressor(random_state=0)),
        func=np.log,
        inverse_func=np.exp,
    )
    # The sales are sorted by place, so the folds are shuffled.
    scores = cross_validate(
        model,
        sales,
        price,
        cv=KFold(5, shuffle=True, random_state=0),
        scoring={"R2": "r2", "error": "neg_median_absolute_error"},
    )
    print(f"R2 of the price in each fold: {np.round(scores['test_R2'], 3)}")
    print(f"median error of a price:      ${-scores['test_error'].mean():,.0f}")
    print(f"seconds to fit a fold:        {np.median(scores['fit_time']):.2f}, features included")


if __name__ == "__main__":
    main()
