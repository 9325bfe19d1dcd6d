"""Stochastic descent with squared error, in an order of the rows that nobody has fixed."""

from __future__ import annotations

from typing import Self

import numpy as np
from scipy import sparse
from sklearn import linear_model

from .._sklearn_compat import fit_context
from ._dispatch import fit_or_fall_back, require, validated, weights_of_rows

# Those under which squared error does not diverge; both libraries do the same updates.
SCHEDULES = ("constant", "invscaling", "adaptive")
# scikit-learn's loop makes no call per epoch, and is quicker while n_samples (64 + n_features) is
# at most this: 0.4 ms for 20 x 3 where ours takes 0.7, and as long for 200 x 5.
LITTLE_WORK = 16_000
# Parameters that fastlsgd's estimators have too, with the same meaning.
SHARED = (
    "loss",
    "penalty",
    "alpha",
    "l1_ratio",
    "fit_intercept",
    "max_iter",
    "tol",
    "shuffle",
    "random_state",
    "learning_rate",
    "eta0",
    "power_t",
    "n_iter_no_change",
)


def _require_support(estimator, starts) -> None:
    require(estimator.loss == "squared_error", f"loss={estimator.loss!r}")
    require(estimator.learning_rate in SCHEDULES, f"learning_rate={estimator.learning_rate!r}")
    require(
        not estimator.shuffle or estimator.random_state is None,
        "random_state asks for scikit-learn's own order of the rows",
    )
    for name in ("early_stopping", "average", "warm_start", "verbose"):
        require(not getattr(estimator, name), f"{name} is on")
    require(all(start is None for start in starts), "weights to start from are given")


def _require_rows(estimator, X) -> None:
    """Raise Unsupported for rows, as validated, that scikit-learn treats otherwise or quicker."""
    require(
        not (sparse.issparse(X) and estimator.fit_intercept),
        "scikit-learn's intercept learns at a hundredth of the rate if X is sparse",
    )
    n, d = X.shape
    require(n * (64 + d) > LITTLE_WORK, "scikit-learn is quicker for so few numbers")


def _descend(estimator, kind, X, y, sample_weight):
    """Fit by fastlsgd's estimator of this kind, and return it."""
    shared = {name: getattr(estimator, name) for name in SHARED}
    found = kind(**shared).fit(X, y, sample_weight=sample_weight)
    estimator.coef_, estimator.intercept_ = found.coef_, found.intercept_.astype(found.coef_.dtype)
    estimator.t_, estimator.n_iter_ = found.t_, found.n_iter_
    return found


class SGDRegressor(linear_model.SGDRegressor):
    """scikit-learn's SGDRegressor, whose `fit` is fastlsgd's where it does the same updates.

    That is so for squared error, if the order of the rows is theirs (``shuffle=False``) or is free
    (``random_state=None``), and rows are not so few that scikit-learn is quicker. `partial_fit` is
    scikit-learn's.

    See Also
    --------
    sklearn.linear_model.SGDRegressor : Parameters, attributes and methods.
    fastlsgd.SGDRegressor : With rates that need not be tuned, batches and optimizers.

    Examples
    --------
    >>> from fastlsgd.sklearn import SGDRegressor
    >>> model = SGDRegressor(shuffle=False).fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])
    >>> model.coef_.shape, model.intercept_.shape
    ((1,), (1,))
    """

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, coef_init=None, intercept_init=None, sample_weight=None) -> Self:
        """Fit the model; as scikit-learn's method."""
        starts = coef_init, intercept_init
        return fit_or_fall_back(
            self,
            X,
            lambda: self._fit_by_fastlsgd(X, y, starts, sample_weight),
            lambda: super(SGDRegressor, self).fit(X, y, *starts, sample_weight),
        )

    def _fit_by_fastlsgd(self, X, y, starts, sample_weight):
        from ..linear_model import SGDRegressor as Descent

        _require_support(self, starts)
        X, y = validated(self, X, y)
        _require_rows(self, X)
        require(y.ndim == 1, "y has two dimensions")
        s, _ = weights_of_rows(sample_weight, X)
        _descend(self, Descent, X, y.astype(X.dtype, copy=False), s)


class SGDClassifier(linear_model.SGDClassifier):
    """scikit-learn's SGDClassifier, whose `fit` is fastlsgd's where it does the same updates.

    That is so for two classes and ``loss="squared_error"``, which is not the default, if the order
    of the rows is theirs (``shuffle=False``) or is free (``random_state=None``), and rows are not
    so few that scikit-learn is quicker. `partial_fit` is scikit-learn's.

    See Also
    --------
    sklearn.linear_model.SGDClassifier : Parameters, attributes and methods.
    fastlsgd.SGDClassifier : With rates that need not be tuned, batches and optimizers.

    Examples
    --------
    >>> from fastlsgd.sklearn import SGDClassifier
    >>> model = SGDClassifier(
    ...     loss="squared_error", learning_rate="invscaling", eta0=0.01, shuffle=False
    ... ).fit([[0.0], [1.0], [2.0]], ["a", "b", "b"])
    >>> model.coef_.shape, model.classes_.tolist()
    ((1, 1), ['a', 'b'])
    """

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, coef_init=None, intercept_init=None, sample_weight=None) -> Self:
        """Fit the model; as scikit-learn's method."""
        starts = coef_init, intercept_init
        return fit_or_fall_back(
            self,
            X,
            lambda: self._fit_by_fastlsgd(X, y, starts, sample_weight),
            lambda: super(SGDClassifier, self).fit(X, y, *starts, sample_weight),
        )

    def _fit_by_fastlsgd(self, X, y, starts, sample_weight):
        from ..linear_model import SGDClassifier as Descent

        _require_support(self, starts)
        require(self.class_weight is None, "class_weight is given")
        X, y = validated(self, X, y, y_numeric=False)
        _require_rows(self, X)
        require(len(np.unique(y)) == 2, "classes are not two, and each stops by itself")
        s, _ = weights_of_rows(sample_weight, X)
        self.classes_ = _descend(self, Descent, X, y, s).classes_
