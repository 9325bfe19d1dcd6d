"""What the estimators need of scikit-learn that is private, or missing in some of its versions.

It is imported from here alone, so that a new version of scikit-learn can break no other module.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from sklearn.base import _fit_context as fit_context
from sklearn.linear_model._base import SparseCoefMixin
from sklearn.utils import _safe_indexing as safe_indexing
from sklearn.utils.validation import _check_feature_names as check_feature_names
from sklearn.utils.validation import _check_n_features as check_n_features
from sklearn.utils.validation import _check_y as check_y

try:
    from sklearn.callback import CallbackSupportMixin
    from sklearn.callback import with_callbacks as _with_callbacks
except ImportError:  # scikit-learn before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """A stand-in for versions of scikit-learn without callbacks."""

    def _with_callbacks(method):
        @functools.wraps(method)
        def as_deep_in_the_stack(estimator, *args, **kwargs):
            return method(estimator, *args, **kwargs)

        return as_deep_in_the_stack


Fit = TypeVar("Fit", bound=Callable[..., Any])

__all__ = [
    "CallbackSupportMixin",
    "SparseCoefMixin",
    "callback_context",
    "check_feature_names",
    "check_n_features",
    "check_y",
    "fit_context",
    "has_callbacks",
    "safe_indexing",
    "with_callbacks",
]


def with_callbacks(fit: Fit) -> Fit:
    """Decorate `fit` as scikit-learn's callbacks need it; for type checkers it stays what it is."""
    return _with_callbacks(fit)


def has_callbacks(estimator) -> bool:
    """Whether scikit-learn's callbacks were set on the estimator or on one around it (SLEP 23)."""
    return hasattr(estimator, "_skl_callbacks") or hasattr(estimator, "_parent_callback_ctx")


def callback_context(estimator, max_subtasks: int):
    """The task that an estimator's fit is for scikit-learn's callbacks."""
    return estimator._init_callback_context(max_subtasks=max_subtasks)
