"""Decompositions for which LAPACK's fast driver (divide and conquer, as in NumPy) gives up."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from fastlsgd import LeastSquaresCV, LeastSquaresRegressor, SGDRegressor
from fastlsgd.solvers import eigen


def gives_up(*args, **kwargs):
    raise np.linalg.LinAlgError("Eigenvalues did not converge")


@pytest.fixture
def quick_drivers_give_up(monkeypatch):
    quick = scipy.linalg.svd

    def svd(A, *args, lapack_driver="gesdd", **kwargs):
        if lapack_driver == "gesdd":
            gives_up()
        return quick(A, *args, lapack_driver=lapack_driver, **kwargs)

    for name in ("eigh", "eigvalsh", "svd", "lstsq"):
        monkeypatch.setattr(np.linalg, name, gives_up)
    monkeypatch.setattr(eigen.scipy.linalg, "svd", svd)


def test_another_driver_takes_over(quick_drivers_give_up):
    A = np.random.default_rng(0).normal(size=(9, 5))
    H = A.T @ A
    values, vectors = eigen.eigh(H)
    np.testing.assert_allclose((vectors * values) @ vectors.T, H, atol=1e-12)
    np.testing.assert_allclose(eigen.eigvalsh(H), values, rtol=1e-12)
    U, s, Vt = eigen.svd(A)
    np.testing.assert_allclose((U * s) @ Vt, A, atol=1e-12)
    x = eigen.minimum_norm(A[:3], np.ones((3, 2)))
    np.testing.assert_allclose(x, np.linalg.pinv(A[:3]) @ np.ones((3, 2)), atol=1e-12)


@pytest.mark.parametrize(
    "model",
    [
        LeastSquaresCV(),
        LeastSquaresCV(alphas=[0.0, 1.0], cv=3),
        LeastSquaresRegressor(),
        SGDRegressor(random_state=0, max_iter=3, tol=None),
    ],
    ids=repr,
)
def test_estimators_are_as_they_were(model, monkeypatch, request):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 30))
    y, s = X[:, 0] + rng.normal(size=20), rng.uniform(1.0, 2.0, 20)
    expected = model.fit(X, y, sample_weight=s).coef_.copy()
    request.getfixturevalue("quick_drivers_give_up")
    np.testing.assert_allclose(model.fit(X, y, sample_weight=s).coef_, expected, atol=1e-8)


def test_the_message_tells_the_truth(monkeypatch):
    monkeypatch.setattr(np.linalg, "eigh", gives_up)
    monkeypatch.setattr(eigen.scipy.linalg, "eigh", gives_up)
    X = np.random.default_rng(0).normal(size=(30, 3))[:, [0, 1, 2, 0]]
    with pytest.raises(ValueError, match="no driver of LAPACK finds the eigenvalues"):
        SGDRegressor(alpha=0.0).fit(X, X[:, 0])
    with pytest.raises(np.linalg.LinAlgError, match="not finite"):
        eigen.eigh(np.full((2, 2), np.nan))
