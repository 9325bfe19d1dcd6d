"""The estimators, which fulfil scikit-learn's contract by calling the solvers.

This package has validation, parameters and fitted attributes, and no numerics.
"""

from ._least_squares import LeastSquaresRegressor
from ._least_squares_classifier import LeastSquaresClassifier
from ._least_squares_cv import LeastSquaresCV
from ._sgd import SGDRegressor
from ._sgd_classifier import SGDClassifier
from ._sgd_cv import SGDRegressorCV

__all__ = [
    "LeastSquaresCV",
    "LeastSquaresClassifier",
    "LeastSquaresRegressor",
    "SGDClassifier",
    "SGDRegressor",
    "SGDRegressorCV",
]
