"""Eigenvalues and singular values, also where LAPACK's quickest driver fails to converge.

Divide and conquer, which NumPy calls, fails on some matrices with repeated eigenvalues (in one fit
of tens of thousands). The other drivers are slower, and converge.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from .factors import LONG
from .interrupt import interruptible
from .serial_blas import blas_for_decomposition


class NoEigenvalues(np.linalg.LinAlgError):
    """Raised where no driver of LAPACK converges."""


def eigh(H: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rising eigenvalues and the eigenvectors of a symmetric matrix.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the matrix holds NaN or infinity.
    NoEigenvalues
        If no driver of LAPACK converges.
    """
    _refuse_non_finite(H)
    drivers = (
        np.linalg.eigh,
        lambda H: scipy.linalg.eigh(H, driver="evr", check_finite=False),
        lambda H: scipy.linalg.eigh(H, driver="ev", check_finite=False),
    )
    return _first_that_converges(drivers, H)


def eigvalsh(H: np.ndarray) -> np.ndarray:
    """Return the rising eigenvalues of a symmetric matrix; raises what `eigh` raises."""
    _refuse_non_finite(H)
    drivers = (
        np.linalg.eigvalsh,
        lambda H: scipy.linalg.eigh(H, eigvals_only=True, driver="evr", check_finite=False),
        lambda H: scipy.linalg.eigh(H, eigvals_only=True, driver="ev", check_finite=False),
    )
    return _first_that_converges(drivers, H)


def svd(A: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return U, s and V^T of the thin A = U diag(s) V^T; raises what `eigh` raises."""
    _refuse_non_finite(A)
    drivers = (
        lambda A: tuple(np.linalg.svd(A, full_matrices=False)),
        lambda A: scipy.linalg.svd(
            A, full_matrices=False, check_finite=False, lapack_driver="gesvd"
        ),
    )
    return _first_that_converges(drivers, A)


def minimum_norm(A: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the x of least norm that minimises |A x - b|; b may have shape (n, k)."""
    U, values, Vt = svd(A)
    keep = values > np.finfo(np.float64).eps * max(A.shape) * values.max(initial=0.0)
    projected = (U[:, keep].T @ b).T / values[keep]
    return (projected @ Vt[keep]).T


def _refuse_non_finite(A: np.ndarray) -> None:
    # LAPACK may loop for ever on them.
    if not np.isfinite(A).all():
        raise np.linalg.LinAlgError("numbers that are not finite")


def _first_that_converges(drivers, A: np.ndarray):
    for driver in drivers:
        try:
            with blas_for_decomposition(A):
                return interruptible(driver, A) if max(A.shape) >= LONG else driver(A)
        except np.linalg.LinAlgError as error:
            last = error
    raise NoEigenvalues(
        f"no driver of LAPACK finds the eigenvalues of a matrix of shape {A.shape}"
    ) from last
