# The C interface of csrc/fastlsgd.h, as native.pyx sees it.
from libc.stdint cimport int64_t

cdef extern from "fastlsgd.h" nogil:
    enum: FASTLSGD_OK

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

    ctypedef enum fastlsgd_rule:  # OptimizerRule of contract.py has the values
        pass

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

    int fastlsgd_loss_gradient(double *, double *, double *, const fastlsgd_matrix *,
                               const fastlsgd_targets *, const double *, const double *,
                               const void *, int)
    int fastlsgd_predict(void *, const fastlsgd_matrix *, const double *, const double *,
                         int64_t, int)
    int fastlsgd_gram(double *, const fastlsgd_matrix *, const fastlsgd_targets *, const void *,
                      const double *, int)
    int fastlsgd_sgd_epoch(double *, void *, double *, const fastlsgd_matrix *,
                           const fastlsgd_targets *, const void *, const fastlsgd_epoch *,
                           fastlsgd_state *, int)
    const char *fastlsgd_isa_name(int)
    int fastlsgd_isa_supported(int)
    int fastlsgd_isa()
    int fastlsgd_set_isa(int)
    const char *fastlsgd_compiler()
    int fastlsgd_has_openmp()
    int fastlsgd_max_threads()
    void fastlsgd_set_max_threads(int)
    void fastlsgd_after_fork()


cdef extern from "coordinate_descent.h":
    ctypedef struct fastlsgd_quadratic:
        const double *H
        int64_t k, row_stride
        double l1, l2
        int positive

    int64_t fastlsgd_coordinate_descent(double *w, double *q, const fastlsgd_quadratic *problem,
                                        double tol, int64_t n_epochs) nogil


cdef extern from "column_products.h":
    int fastlsgd_column_products(double *out, const fastlsgd_matrix *X, const double *s,
                                 const int64_t *place, int64_t k, int64_t first) nogil
