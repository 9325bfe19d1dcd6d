"""scikit-learn's linear models, fitted by fastlsgd where it gives the same result.

Each class is a subclass of scikit-learn's class of the same name. It has that class's parameters,
attributes, methods and meaning of `alpha`, and overrides `fit` alone. What fastlsgd does not
support is fitted by scikit-learn, and the logger "fastlsgd.sklearn" tells why, at level INFO.

`patch_sklearn` puts these classes in the place of scikit-learn's, so that programs need not be
changed, as scikit-learn-intelex does::

    import fastlsgd

    fastlsgd.patch_sklearn()
    from sklearn.linear_model import Ridge  # fastlsgd.sklearn.Ridge

``python -m fastlsgd.sklearn script.py`` does so for a script as it is. docs/sklearn_patch.md lists
what is supported, and how results differ.
"""

from __future__ import annotations

from ._lasso import ElasticNet, ElasticNetCV, Lasso, LassoCV
from ._patch import patch_sklearn, patched_sklearn, unpatch_sklearn
from ._ridge import LinearRegression, Ridge, RidgeClassifier, RidgeClassifierCV, RidgeCV
from ._sgd import SGDClassifier, SGDRegressor

__all__ = [
    "ElasticNet",
    "ElasticNetCV",
    "Lasso",
    "LassoCV",
    "LinearRegression",
    "Ridge",
    "RidgeCV",
    "RidgeClassifier",
    "RidgeClassifierCV",
    "SGDClassifier",
    "SGDRegressor",
    "patch_sklearn",
    "patched_sklearn",
    "unpatch_sklearn",
]
