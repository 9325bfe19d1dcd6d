# The kernels for other Cython modules: `from fastlsgd.kernels.native cimport fastlsgd_matrix, ...`.
#
# The structures are those of fastlsgd.h, which has the documentation of all; compile with
# include_dirs=[fastlsgd.get_include()]. docs/embedding.md has an example.
from libc.stdint cimport int64_t

cdef extern from "fastlsgd.h" nogil:
    enum:
        FASTLSGD_ABI_VERSION
        FASTLSGD_OK
        FASTLSGD_NO_MEMORY
        FASTLSGD_INVALID

    ctypedef enum fastlsgd_dtype:
        FASTLSGD_F32
        FASTLSGD_F64

    ctypedef struct fastlsgd_matrix:
        int64_t n_rows, n_cols
        fastlsgd_dtype dtype
        const void *data
        int64_t row_stride, col_stride
        const void *indices
        const void *indptr
        int index_bytes

    ctypedef struct fastlsgd_targets:
        const void *data
        int64_t n_targets, row_stride, col_stride
        fastlsgd_dtype dtype

    ctypedef struct fastlsgd_epoch:
        const int64_t *order
        int64_t n_visits
        const double *rates
        int64_t batch_size
        double alpha, l1_ratio
        int fit_intercept, implicit
        const void *prox_soft
        const void *prox_shrink

    ctypedef enum fastlsgd_rule:
        FASTLSGD_SGD
        FASTLSGD_MOMENTUM
        FASTLSGD_NESTEROV
        FASTLSGD_RMSPROP
        FASTLSGD_ADAGRAD
        FASTLSGD_ADAM
        FASTLSGD_ADAMW

    ctypedef struct fastlsgd_optimizer:
        fastlsgd_rule rule
        double beta1, beta2, eps, max_norm
        int64_t steps
        double *coef_first
        double *coef_second
        double *intercept_first
        double *intercept_second

    ctypedef struct fastlsgd_state:
        double l1_due
        void *l1_paid
        int64_t average_after
        double *coef_sum
        double *intercept_sum
        int64_t n_summed
        fastlsgd_optimizer *optimizer


# Imported at run time, so that a module that cimports them is not linked to libfastlsgd.
cdef int fastlsgd_loss_gradient(
    double *loss, double *dw, double *db, const fastlsgd_matrix *X, const fastlsgd_targets *y,
    const double *w, const double *b, const void *sample_weight, int n_threads) noexcept nogil
cdef int fastlsgd_predict(
    void *out, const fastlsgd_matrix *X, const double *w, const double *b, int64_t n_targets,
    int n_threads) noexcept nogil
cdef int fastlsgd_gram(
    double *out, const fastlsgd_matrix *X, const fastlsgd_targets *y, const void *sample_weight,
    const double *shift, int n_threads) noexcept nogil
cdef int fastlsgd_sgd_epoch(
    double *loss, void *w, double *b, const fastlsgd_matrix *X, const fastlsgd_targets *y,
    const void *sample_weight, const fastlsgd_epoch *epoch, fastlsgd_state *state,
    int n_threads) noexcept nogil
cdef int fastlsgd_sgd_epochs(
    double *losses, void *coefs, double *intercepts, void *w, double *b, const fastlsgd_matrix *X,
    const fastlsgd_targets *y, const void *sample_weight, const fastlsgd_epoch *epoch,
    fastlsgd_state *state, int64_t n_epochs, int n_threads) noexcept nogil
cdef int fastlsgd_abi_version() noexcept nogil
cdef const char *fastlsgd_status_text(int status) noexcept nogil
cdef int fastlsgd_max_threads() noexcept nogil
