"""The classes of `fastlsgd.sklearn` in the place of scikit-learn's, and back.

A class is replaced in `sklearn.linear_model` and in the module that defines it, from which
scikit-learn's own cross-validation takes it. Modules that have imported it before keep theirs.
"""

from __future__ import annotations

import copyreg
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from sklearn import linear_model

from . import _lasso, _ridge, _sgd

_OURS = {
    ours.__name__: ours
    for ours in (
        _lasso.ElasticNet,
        _lasso.ElasticNetCV,
        _lasso.Lasso,
        _lasso.LassoCV,
        _ridge.LinearRegression,
        _ridge.Ridge,
        _ridge.RidgeCV,
        _ridge.RidgeClassifier,
        _ridge.RidgeClassifierCV,
        _sgd.SGDClassifier,
        _sgd.SGDRegressor,
    )
}


# How many blocks of `patched_sklearn` each class is in, in any thread, and what was there before.
_blocks: dict[str, tuple[int, type]] = {}
_lock = threading.Lock()


def patch_sklearn(names: str | Iterable[str] | None = None) -> None:
    """Put the classes of :mod:`fastlsgd.sklearn` in the place of scikit-learn's.

    Call it before a program imports them from `sklearn.linear_model`: what has been imported
    stays scikit-learn's.

    Parameters
    ----------
    names : str or iterable of str, optional
        Which classes to replace, such as "Ridge". Default: all.

    Raises
    ------
    ValueError
        If fastlsgd has no class of such a name.

    See Also
    --------
    unpatch_sklearn : The way back.
    fastlsgd.sklearn.patched_sklearn : Both, around a block of code.

    Notes
    -----
    The logger "fastlsgd.sklearn" tells at level INFO for each fit which library did it, and why
    where it was scikit-learn. The idea is that of scikit-learn-intelex.

    Examples
    --------
    >>> import fastlsgd
    >>> fastlsgd.patch_sklearn()
    >>> from sklearn.linear_model import Ridge
    >>> Ridge.__module__.split(".")[0]
    'fastlsgd'
    >>> fastlsgd.unpatch_sklearn()
    """
    for name in _checked(names):
        _put(name, _OURS[name])


def unpatch_sklearn(names: str | Iterable[str] | None = None) -> None:
    """Put scikit-learn's own classes back.

    Parameters
    ----------
    names : str or iterable of str, optional
        Which classes. Default: all.

    Raises
    ------
    ValueError
        If fastlsgd has no class of such a name.

    Examples
    --------
    >>> import fastlsgd
    >>> fastlsgd.unpatch_sklearn("Ridge")
    >>> from sklearn.linear_model import Ridge
    >>> Ridge.__module__.split(".")[0]
    'sklearn'
    """
    for name in _checked(names):
        _put(name, _original(name))


@contextmanager
def patched_sklearn(names: str | Iterable[str] | None = None) -> Iterator[None]:
    """Patch scikit-learn for a block of code, and restore what was there before.

    The patch holds for all threads, until the last of the blocks that overlap has ended.

    Parameters
    ----------
    names : str or iterable of str, optional
        Which classes. Default: all.

    Raises
    ------
    ValueError
        If fastlsgd has no class of such a name.

    Examples
    --------
    >>> import sklearn.linear_model
    >>> from fastlsgd.sklearn import patched_sklearn
    >>> with patched_sklearn():
    ...     model = sklearn.linear_model.Ridge()
    >>> type(model).__module__.split(".")[0]
    'fastlsgd'
    """
    chosen = _checked(names)
    with _lock:
        for name in chosen:
            depth, before = _blocks.get(name, (0, getattr(linear_model, name)))
            _blocks[name] = depth + 1, before
            _put(name, _OURS[name])
    try:
        yield
    finally:
        with _lock:
            for name in chosen:
                depth, before = _blocks.pop(name)
                if depth > 1:
                    _blocks[name] = depth - 1, before
                else:
                    _put(name, before)


def _checked(names: str | Iterable[str] | None) -> list[str]:
    chosen = list(_OURS) if names is None else [names] if isinstance(names, str) else list(names)
    for name in chosen:
        if name not in _OURS:
            raise ValueError(f"names must be among {', '.join(_OURS)}, got {name!r}.")
    return chosen


def _original(name: str) -> type:
    return _OURS[name].__bases__[0]


def _put(name: str, value: type) -> None:
    own = _original(name)
    for module in (linear_model, sys.modules[own.__module__]):
        setattr(module, name, value)
    # pickle finds a class by its name, by which there is another one now.
    if value is own:
        copyreg.dispatch_table.pop(own, None)
    else:
        copyreg.pickle(own, cast(Any, _reduced))


def _reduced(estimator) -> tuple:
    """Tell pickle how to make an estimator of scikit-learn's own class."""
    return _new, (type(estimator).__name__,), estimator.__getstate__()


def _new(name: str):
    own: Any = _original(name)
    return own.__new__(own)
