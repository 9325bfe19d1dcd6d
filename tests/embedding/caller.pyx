# cython: language_level=3
"""A Cython module of another package: the gradient of rows that it never passes to Python."""

from fastlsgd.kernels.native cimport (
    FASTLSGD_ABI_VERSION, FASTLSGD_F64, FASTLSGD_OK, fastlsgd_abi_version, fastlsgd_loss_gradient,
    fastlsgd_matrix, fastlsgd_status_text, fastlsgd_targets)


def gradient(const double[:, :] X, const double[:] y, const double[::1] w, double[::1] dw):
    cdef fastlsgd_matrix A
    cdef fastlsgd_targets B
    cdef double loss, db, b = 0.0
    cdef int status
    if fastlsgd_abi_version() != FASTLSGD_ABI_VERSION:
        raise ImportError("fastlsgd has another binary interface than this module was built with")
    with nogil:
        A.n_rows, A.n_cols, A.dtype = X.shape[0], X.shape[1], FASTLSGD_F64
        A.data = &X[0, 0]
        A.row_stride, A.col_stride = X.strides[0] // 8, X.strides[1] // 8
        A.indices = A.indptr = NULL
        A.index_bytes = 0
        B.data, B.n_targets, B.dtype = &y[0], 1, FASTLSGD_F64
        B.row_stride, B.col_stride = y.strides[0] // 8, 1
        status = fastlsgd_loss_gradient(&loss, &dw[0], &db, &A, &B, &w[0], &b, NULL, 1)
    if status != FASTLSGD_OK:
        raise RuntimeError(fastlsgd_status_text(status).decode())
    return loss, db
