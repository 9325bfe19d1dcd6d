# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: freethreading_compatible=True
"""The contract over the C library in csrc/: arrays become pointers, and the GIL is released.

Nothing is computed here. The arrays are as `contract.py` describes them; what C needs to know of
them (shape, strides, dtype) is read, and nothing is changed or copied. `native.pyi` has the types.
"""

import os

import numpy as np

cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

from .contract import CSR, Epochs, Gram, TargetGradients, empty_fits, empty_small_lassos

cnp.import_array()

__all__ = ["MAKES_WINDOWS", "SUMS_ARE_SPLIT", "column_descent", "column_products", "coordinate_descent", "descend_rows", "fit_segments", "gram", "isa", "keys_below", "label_bounds", "loss_gradient", "move_weights", "permute", "predict", "row_dots", "row_squares", "row_sums", "sgd_epoch", "sgd_epochs", "small_lasso", "small_least_squares", "small_weights", "solve_small_batch", "solve_triangle", "sort_codes", "update_triangle", "walk_sets"]

MAKES_WINDOWS = True
SUMS_ARE_SPLIT = False


# ------------------------------------------------------------------------------------- C functions
# In native.pxd, `fastlsgd_loss_gradient` and others are functions of this module, which other Cython
# modules import at run time and need not be linked to. The library's own functions begin with c_.


cdef extern from "fastlsgd.h" nogil:
    int c_loss_gradient "fastlsgd_loss_gradient"(
        double *, double *, double *, const fastlsgd_matrix *, const fastlsgd_targets *,
        const double *, const double *, const void *, int)
    int c_predict "fastlsgd_predict"(
        void *, const fastlsgd_matrix *, const double *, const double *, int64_t, int)
    int c_gram "fastlsgd_gram"(double *, const fastlsgd_matrix *, const fastlsgd_targets *,
                               const void *, const double *, int)
    int c_sgd_epoch "fastlsgd_sgd_epoch"(
        double *, void *, double *, const fastlsgd_matrix *, const fastlsgd_targets *,
        const void *, const fastlsgd_epoch *, fastlsgd_state *, int)
    int c_sgd_epochs "fastlsgd_sgd_epochs"(
        double *, void *, double *, void *, double *, const fastlsgd_matrix *,
        const fastlsgd_targets *, const void *, const fastlsgd_epoch *, fastlsgd_state *, int64_t,
        int)
    int c_abi_version "fastlsgd_abi_version"()
    const char *c_status_text "fastlsgd_status_text"(int)
    const char *c_isa_name "fastlsgd_isa_name"(int)
    int c_isa_supported "fastlsgd_isa_supported"(int)
    int c_isa "fastlsgd_isa"()
    int c_set_isa "fastlsgd_set_isa"(int)
    const char *c_compiler "fastlsgd_compiler"()
    int c_has_openmp "fastlsgd_has_openmp"()
    int c_max_threads "fastlsgd_max_threads"()
    void c_set_max_threads "fastlsgd_set_max_threads"(int)
    void c_after_fork "fastlsgd_after_fork"()

cdef extern from "xla_ffi.h":
    enum: XLA_F64
    ctypedef struct xla_buffer:
        int dtype
        void *data
        int64_t rank
        int64_t *dims

cdef extern from "xla_handlers.h":
    ctypedef int fastlsgd_xla_solver(xla_buffer *, const xla_buffer *, const xla_buffer *, int, char *,
                                     size_t) noexcept
    void *fastlsgd_xla_loss_gradient(void *) nogil
    void *fastlsgd_xla_lstsq(void *) nogil
    void fastlsgd_xla_set_solver(fastlsgd_xla_solver *)

cdef extern from "coordinate_descent.h":
    ctypedef struct fastlsgd_quadratic:
        const double *H
        int64_t k, row_stride
        double l1, l2
        int positive

    int64_t fastlsgd_coordinate_descent(double *w, double *q, const fastlsgd_quadratic *problem,
                                        double tol, int64_t n_epochs) nogil
    ctypedef struct fastlsgd_columns:
        const float *A
        const double *offset
        int64_t k, n
        double weight, l1, l2
        int positive

    int64_t fastlsgd_column_descent(double *w, float *r, const fastlsgd_columns *problem,
                                    double tol, int64_t n_epochs) nogil

cdef extern from "active_walk.h":
    ctypedef struct fastlsgd_walk:
        double *w
        double *sign
        const double *c
        const double *unit
        const double *scale
        double *R
        int64_t *set "set"
        int64_t size, most

    int64_t fastlsgd_walk_sets(fastlsgd_walk *walk, const fastlsgd_quadratic *problem, double tol,
                               int64_t most_steps, int *status) nogil

cdef extern from "segments.h":
    ctypedef struct fastlsgd_segments:
        const int64_t *order
        int64_t n_positions
        const int64_t *start
        const int64_t *stop
        int64_t n_segments, min_rows
        int fit_intercept, skip_nan
        const double *penalty
        const double *decay
        const double *initial
        int robust

    ctypedef struct fastlsgd_segment_fits:
        double *coef
        double *intercept
        int64_t *n_rows
        double *weight
        double *residual
        double *total
        double *inverse
        double *robust
        signed char *status

    int fastlsgd_fit_segments(fastlsgd_segment_fits *, const fastlsgd_matrix *,
                              const fastlsgd_targets *, const void *, const fastlsgd_segments *,
                              int) nogil

cdef extern from "small_least_squares.h":
    ctypedef struct fastlsgd_ordinary:
        double least_square, most_square, far, noise

    ctypedef struct fastlsgd_small_goal:
        double most_condition, sharp, safety, rounding
        int64_t most_corrections
        double tol
        int certify

    ctypedef struct fastlsgd_small_fit:
        double *coef
        double *intercept
        double *residual
        double *upper
        double *scale
        double *centre
        double *losses
        double *condition
        double *ratio
        int64_t *n_iter

    int fastlsgd_small_least_squares(fastlsgd_small_fit *, const fastlsgd_matrix *,
                                     const fastlsgd_targets *, const void *, const double *,
                                     int64_t, int, const fastlsgd_ordinary *,
                                     const fastlsgd_small_goal *) nogil
    int fastlsgd_small_weights(void *, const fastlsgd_matrix *, const fastlsgd_targets *,
                               const void *, double, const fastlsgd_ordinary *,
                               const fastlsgd_small_goal *) nogil

cdef extern from "small_batch.h":
    ctypedef struct fastlsgd_batch:
        fastlsgd_matrix X
        fastlsgd_targets y
        int64_t X_stride, y_stride, n_problems

    int fastlsgd_solve_small_batch(double *, signed char *, const fastlsgd_batch *,
                                   const fastlsgd_ordinary *, const fastlsgd_small_goal *,
                                   int) nogil

cdef extern from "updated_triangle.h":
    enum:
        FASTLSGD_PADDING

    ctypedef struct fastlsgd_triangle:
        double *joint
        int64_t k, t, stride

    ctypedef struct fastlsgd_triangle_steps:
        const double *size
        double rest, tolerance
        int64_t most_steps
        int has_intercept

    void fastlsgd_update_triangle(fastlsgd_triangle *, double *, int64_t) nogil
    void fastlsgd_solve_triangle(double *, const fastlsgd_triangle *,
                                 const fastlsgd_triangle_steps *, double *) nogil

cdef extern from "small_lasso.h":
    ctypedef struct fastlsgd_small_penalties:
        const double *l1
        const double *l2
        int64_t k
        int positive
        double most_condition

    ctypedef struct fastlsgd_small_lasso_fit:
        double *coef
        double *intercept
        double *gradient
        double *squares
        double *condition
        int64_t *n_solves
        double *slope
        double *size
        double *centre
        double *y_centre
        double *variance
        double weight

    int fastlsgd_small_lasso(fastlsgd_small_lasso_fit *, const fastlsgd_matrix *,
                             const fastlsgd_targets *, const void *, int,
                             const fastlsgd_ordinary *, const fastlsgd_small_penalties *) nogil

cdef extern from "wide_lasso.h":
    int fastlsgd_wide_lasso(fastlsgd_small_lasso_fit *, const fastlsgd_matrix *,
                            const fastlsgd_targets *, const void *, int,
                            const fastlsgd_ordinary *, const fastlsgd_small_penalties *) nogil

cdef extern from "light_rows.h":
    ctypedef struct fastlsgd_row_sample:
        const int64_t *rows
        int64_t n_rows
        double share
        int64_t few

    int fastlsgd_hides_numbers(const fastlsgd_matrix *, const void *, fastlsgd_dtype,
                               const fastlsgd_row_sample *, const double *, double, int) nogil

cdef extern from "column_products.h":
    int fastlsgd_column_products(double *out, const fastlsgd_matrix *X, const double *s,
                                 const int64_t *place, int64_t k, int64_t first) nogil


cdef extern from "label_bounds.h" nogil:
    int64_t fastlsgd_label_bounds(int64_t *bounds, const void *labels, int64_t n, int n_bytes,
                                  int kind)
    void fastlsgd_sort_codes(int64_t *order, int64_t *starts, const int64_t *codes, int64_t n,
                             int64_t n_codes)


cdef extern from "permutations.h" nogil:
    void fastlsgd_permute(int64_t *orders, int64_t n_orders, int64_t n, void *generator)
    int64_t fastlsgd_keys_below(int64_t *places, double *keys, double limit, uint64_t start, int64_t n)

cdef extern from "moved_weights.h" nogil:
    ctypedef struct fastlsgd_move:
        const double *u
        const double *total
        const double *centre
        const int64_t *constant
        int64_t n_constant
        double *coef
        int64_t t, coef_stride
        double *out

    int fastlsgd_move_weights(const fastlsgd_matrix *X, const fastlsgd_move *move)

cdef extern from "row_products.h" nogil:
    void fastlsgd_row_sums(double *z, const fastlsgd_matrix *X, const double *u, int64_t t,
                           int64_t w)
    void fastlsgd_row_dots(double *out, const fastlsgd_matrix *X, const double *z, int64_t t,
                           int64_t w)
    enum: FASTLSGD_TOLD
    ctypedef struct fastlsgd_row_descent:
        double *v
        double *r
        double *p
        double *q
        double *z
        const double *y
        const double *before
        const double *scale
        const double *root
        const double *null
        const double *along_c
        const double *shift
        double alpha
        double *rho
        double *beta
        const double *least
        const double *target
        const double *y_squares
        const double *paid
        double share
        double floor
        double *told
    void fastlsgd_row_squares(double *out, const fastlsgd_matrix *X)
    int64_t fastlsgd_descend_rows(const fastlsgd_matrix *X, fastlsgd_row_descent *state, int64_t w,
                                  int64_t most)


cdef int fastlsgd_loss_gradient(
        double *loss, double *dw, double *db, const fastlsgd_matrix *X, const fastlsgd_targets *y,
        const double *w, const double *b, const void *sample_weight, int n_threads) noexcept nogil:
    return c_loss_gradient(loss, dw, db, X, y, w, b, sample_weight, n_threads)


cdef int fastlsgd_predict(void *out, const fastlsgd_matrix *X, const double *w, const double *b,
                          int64_t n_targets, int n_threads) noexcept nogil:
    return c_predict(out, X, w, b, n_targets, n_threads)


cdef int fastlsgd_gram(double *out, const fastlsgd_matrix *X, const fastlsgd_targets *y,
                       const void *sample_weight, const double *shift,
                       int n_threads) noexcept nogil:
    return c_gram(out, X, y, sample_weight, shift, n_threads)


cdef int fastlsgd_sgd_epoch(
        double *loss, void *w, double *b, const fastlsgd_matrix *X, const fastlsgd_targets *y,
        const void *sample_weight, const fastlsgd_epoch *epoch, fastlsgd_state *state,
        int n_threads) noexcept nogil:
    return c_sgd_epoch(loss, w, b, X, y, sample_weight, epoch, state, n_threads)


cdef int fastlsgd_sgd_epochs(
        double *losses, void *coefs, double *intercepts, void *w, double *b,
        const fastlsgd_matrix *X, const fastlsgd_targets *y, const void *sample_weight,
        const fastlsgd_epoch *epoch, fastlsgd_state *state, int64_t n_epochs,
        int n_threads) noexcept nogil:
    return c_sgd_epochs(losses, coefs, intercepts, w, b, X, y, sample_weight, epoch, state,
                        n_epochs, n_threads)


cdef int fastlsgd_abi_version() noexcept nogil:
    return c_abi_version()


cdef const char *fastlsgd_status_text(int status) noexcept nogil:
    return c_status_text(status)


cdef int fastlsgd_max_threads() noexcept nogil:
    return c_max_threads()


# ------------------------------------------------ the structures of fastlsgd.h, from the contract's


cdef int _matrix(object X, fastlsgd_matrix *out) except -1:
    cdef cnp.ndarray data, indices, indptr
    cdef int64_t size
    if isinstance(X, CSR):
        data, indices, indptr = X.data, X.indices, X.indptr
        out.n_rows, out.n_cols = X.shape
        out.indices = cnp.PyArray_DATA(indices)
        out.indptr = cnp.PyArray_DATA(indptr)
        out.index_bytes = cnp.PyArray_ITEMSIZE(indices)
        out.row_stride = out.col_stride = 0
    else:
        data = X
        size = cnp.PyArray_ITEMSIZE(data)
        out.n_rows, out.n_cols = cnp.PyArray_DIM(data, 0), cnp.PyArray_DIM(data, 1)
        out.row_stride = cnp.PyArray_STRIDE(data, 0) // size
        out.col_stride = cnp.PyArray_STRIDE(data, 1) // size
        out.indices = out.indptr = NULL
        out.index_bytes = 0
    out.data = cnp.PyArray_DATA(data)
    out.dtype = FASTLSGD_F32 if cnp.PyArray_ITEMSIZE(data) == 4 else FASTLSGD_F64
    return 0


cdef void _targets(cnp.ndarray y, fastlsgd_targets *out) noexcept:
    cdef int64_t size = cnp.PyArray_ITEMSIZE(y)
    out.data = cnp.PyArray_DATA(y)
    out.n_targets = cnp.PyArray_DIM(y, 1)
    out.row_stride = cnp.PyArray_STRIDE(y, 0) // size
    out.col_stride = cnp.PyArray_STRIDE(y, 1) // size
    out.dtype = FASTLSGD_F32 if size == 4 else FASTLSGD_F64


cdef inline void *_data(cnp.ndarray array) noexcept:
    return NULL if array is None else cnp.PyArray_DATA(array)


cdef inline cnp.ndarray _empty(int64_t rows, int64_t columns, int typenum):
    cdef cnp.npy_intp shape[2]
    shape[0], shape[1] = rows, columns
    return cnp.PyArray_EMPTY(2 if columns >= 0 else 1, shape, typenum, 0)


cdef int _epoch(object epoch, int64_t n_rows, fastlsgd_epoch *out) except -1:
    cdef cnp.ndarray order = epoch.order
    cdef object prox = epoch.prox
    out.order = <const int64_t *>_data(order)
    out.n_visits = n_rows if order is None else cnp.PyArray_DIM(order, cnp.PyArray_NDIM(order) - 1)
    out.rates = <const double *>_data(epoch.rates)
    out.batch_size = epoch.batch_size
    out.alpha, out.l1_ratio = epoch.alpha, epoch.l1_ratio
    out.fit_intercept, out.implicit = epoch.fit_intercept, epoch.implicit
    out.prox_soft = NULL if prox is None else _data(prox.soft)
    out.prox_shrink = NULL if prox is None else _data(prox.shrink)
    return 0


cdef int _optimizer(object state, fastlsgd_optimizer *out) except -1:
    out.rule = <fastlsgd_rule><int>state.rule
    out.beta1, out.beta2, out.eps, out.max_norm = (state.beta1, state.beta2, state.eps,
                                                   state.max_norm)
    out.steps = state.steps
    out.coef_first = <double *>_data(state.coef_first)
    out.coef_second = <double *>_data(state.coef_second)
    out.intercept_first = <double *>_data(state.intercept_first)
    out.intercept_second = <double *>_data(state.intercept_second)
    return 0


cdef int _state(object state, fastlsgd_state *out, fastlsgd_optimizer *optimizer) except -1:
    out.l1_due = state.l1_due
    out.l1_paid = _data(state.l1_paid)
    out.average_after = -1 if state.average_after is None else state.average_after
    out.coef_sum = <double *>_data(state.coef_sum)
    out.intercept_sum = <double *>_data(state.intercept_sum)
    out.n_summed = state.n_summed
    out.optimizer = NULL
    if state.optimizer is not None:
        _optimizer(state.optimizer, optimizer)
        out.optimizer = optimizer
    return 0


cdef int _update_state(object state, const fastlsgd_state *carried) except -1:
    """The numbers of `carried`; its arrays are those of `state`, where C has changed them."""
    state.l1_due = carried.l1_due
    state.average_after = None if carried.average_after < 0 else carried.average_after
    state.n_summed = carried.n_summed
    if carried.optimizer is not NULL:
        state.optimizer.steps = carried.optimizer.steps
    return 0


cdef int _fail(int status, str memory) except -1:
    """Raise what a status stands for; `memory` says what there was none for."""
    if status == FASTLSGD_NO_MEMORY:
        raise MemoryError(memory)
    raise ValueError(c_status_text(status).decode())


# ------------------------------------------------------------------------------------ kernels


def loss_gradient(X, cnp.ndarray y, cnp.ndarray w, cnp.ndarray b, cnp.ndarray sample_weight,
                  int n_threads):
    cdef fastlsgd_matrix matrix
    cdef fastlsgd_targets targets
    _matrix(X, &matrix)
    _targets(y, &targets)
    cdef cnp.ndarray loss = _empty(targets.n_targets, -1, cnp.NPY_FLOAT64)
    cdef cnp.ndarray dw = _empty(targets.n_targets, matrix.n_cols, cnp.NPY_FLOAT64)
    cdef cnp.ndarray db = _empty(targets.n_targets, -1, cnp.NPY_FLOAT64)
    cdef double *loss_p = <double *>_data(loss)
    cdef double *dw_p = <double *>_data(dw)
    cdef double *db_p = <double *>_data(db)
    cdef const double *w_p = <const double *>_data(w)
    cdef const double *b_p = <const double *>_data(b)
    cdef const void *s_p = _data(sample_weight)
    cdef int status
    with nogil:
        status = c_loss_gradient(loss_p, dw_p, db_p, &matrix, &targets, w_p, b_p, s_p, n_threads)
    if status != FASTLSGD_OK:
        _fail(status, "loss_gradient: no memory for the partial sums of the gradient.")
    return TargetGradients(loss, dw, db)


def predict(X, cnp.ndarray w, cnp.ndarray b, int n_threads):
    cdef fastlsgd_matrix matrix
    _matrix(X, &matrix)
    cdef int64_t n_targets = cnp.PyArray_DIM(w, 0)
    cdef cnp.ndarray out = _empty(matrix.n_rows, n_targets, cnp.NPY_FLOAT32
                                  if matrix.dtype == FASTLSGD_F32 else cnp.NPY_FLOAT64)
    cdef void *out_p = _data(out)
    cdef const double *w_p = <const double *>_data(w)
    cdef const double *b_p = <const double *>_data(b)
    cdef int status
    with nogil:
        status = c_predict(out_p, &matrix, w_p, b_p, n_targets, n_threads)
    if status != FASTLSGD_OK:
        _fail(status, "predict: no memory for a block of rows.")
    return out


def gram(X, cnp.ndarray y, cnp.ndarray sample_weight, cnp.ndarray shift, int n_threads):
    cdef fastlsgd_matrix matrix
    cdef fastlsgd_targets targets
    _matrix(X, &matrix)
    _targets(y, &targets)
    cdef int64_t d = matrix.n_cols, t = targets.n_targets
    cdef cnp.ndarray out = _empty(d + t + 1, d + t + 1, cnp.NPY_FLOAT64)
    cdef double *out_p = <double *>_data(out)
    cdef const void *s_p = _data(sample_weight)
    cdef const double *shift_p = <const double *>_data(shift)
    cdef int status
    with nogil:
        status = c_gram(out_p, &matrix, &targets, s_p, shift_p, n_threads)
    if status != FASTLSGD_OK:
        _fail(status, f"gram: no memory for sums of {d + t + 1} x {d + t + 1} numbers.")
    return Gram(out[:d, :d], out[:d, d:d + t], out[:d, d + t], out[d:d + t, d + t],
                float(out[d + t, d + t]))


def sgd_epoch(X, cnp.ndarray y, cnp.ndarray w, cnp.ndarray b, cnp.ndarray sample_weight, epoch,
              state, int n_threads):
    cdef fastlsgd_matrix matrix
    cdef fastlsgd_targets targets
    cdef fastlsgd_epoch visit
    cdef fastlsgd_state carried
    cdef fastlsgd_optimizer optimizer
    _matrix(X, &matrix)
    _targets(y, &targets)
    _epoch(epoch, matrix.n_rows, &visit)
    _state(state, &carried, &optimizer)
    cdef void *w_p = _data(w)
    cdef double *b_p = <double *>_data(b)
    cdef const void *s_p = _data(sample_weight)
    cdef double loss = 0.0
    cdef int status
    with nogil:
        status = c_sgd_epoch(&loss, w_p, b_p, &matrix, &targets, s_p, &visit, &carried, n_threads)
    if status != FASTLSGD_OK:
        _fail(status, "sgd_epoch: no memory for a block of rows.")
    _update_state(state, &carried)
    return loss


def sgd_epochs(X, cnp.ndarray y, cnp.ndarray w, cnp.ndarray b, cnp.ndarray sample_weight, epoch,
               state, int n_threads):
    cdef fastlsgd_matrix matrix
    cdef fastlsgd_targets targets
    cdef fastlsgd_epoch visit
    cdef fastlsgd_state carried
    cdef fastlsgd_optimizer optimizer
    _matrix(X, &matrix)
    _targets(y, &targets)
    _epoch(epoch, matrix.n_rows, &visit)
    _state(state, &carried, &optimizer)
    cdef int64_t t = targets.n_targets, n_epochs = len(epoch.rates)
    cdef cnp.ndarray losses = _empty(n_epochs, -1, cnp.NPY_FLOAT64)
    cdef cnp.ndarray coefs = np.empty((n_epochs, t, matrix.n_cols), w.dtype)
    cdef cnp.ndarray intercepts = _empty(n_epochs, t, cnp.NPY_FLOAT64)
    cdef double *losses_p = <double *>_data(losses)
    cdef void *coefs_p = _data(coefs)
    cdef double *intercepts_p = <double *>_data(intercepts)
    cdef void *w_p = _data(w)
    cdef double *b_p = <double *>_data(b)
    cdef const void *s_p = _data(sample_weight)
    cdef int status
    with nogil:
        status = c_sgd_epochs(losses_p, coefs_p, intercepts_p, w_p, b_p, &matrix, &targets, s_p,
                              &visit, &carried, n_epochs, n_threads)
    if status != FASTLSGD_OK:
        _fail(status, "sgd_epochs: no memory for a block of rows.")
    _update_state(state, &carried)
    return Epochs(losses, coefs, intercepts)


def permute(bit_generator, cnp.ndarray orders):
    """Shuffle each of the orders (k, n), int64, as RandomState does with this bit generator."""
    cdef void *generator = PyCapsule_GetPointer(bit_generator.capsule, "BitGenerator")
    cdef int64_t k = cnp.PyArray_DIM(orders, 0), n = cnp.PyArray_DIM(orders, 1)
    cdef int64_t *orders_p = <int64_t *>_data(orders)
    with bit_generator.lock:
        with nogil:
            fastlsgd_permute(orders_p, k, n, generator)


def keys_below(double limit, uint64_t start, int64_t n):
    """Which of n rows have a random key below a limit, and their keys; `start` is the first's number.
    """
    cdef cnp.ndarray places = np.empty(n, np.int64), keys = np.empty(n)
    cdef int64_t *places_p = <int64_t *>_data(places)
    cdef double *keys_p = <double *>_data(keys)
    cdef int64_t count
    with nogil:
        count = fastlsgd_keys_below(places_p, keys_p, limit, start, n)
    return places[:count].copy(), keys[:count].copy()


def label_bounds(cnp.ndarray labels):
    """Where each of the sorted labels begins and the last one ends, or None if they are not sorted.

    Labels are contiguous. NaN is not sorted. Labels that aren't numbers of the machine's own types
    count as sorted: where their bits change, another label begins.
    """
    cdef int64_t n = cnp.PyArray_DIM(labels, 0), count
    cdef int n_bytes = cnp.PyArray_ITEMSIZE(labels), kind = 3
    if labels.dtype.char in "bhilqBHILQfd" and labels.dtype.isnative:
        kind = "iuf".index(labels.dtype.kind)
    cdef cnp.ndarray bounds = np.empty(n + 1, np.int64)
    cdef int64_t *bounds_p = <int64_t *>_data(bounds)
    cdef const void *labels_p = _data(labels)
    with nogil:
        count = fastlsgd_label_bounds(bounds_p, labels_p, n, n_bytes, kind)
    return None if count < 0 else bounds[:count + 1].copy()


def sort_codes(cnp.ndarray codes, int64_t n_codes):
    """The rows in the order of their codes (n,), int64, and where each of these begins."""
    cdef int64_t n = cnp.PyArray_DIM(codes, 0)
    cdef cnp.ndarray order = np.empty(n, np.int64), starts = np.empty(n_codes + 1, np.int64)
    cdef int64_t *order_p = <int64_t *>_data(order)
    cdef int64_t *starts_p = <int64_t *>_data(starts)
    cdef const int64_t *codes_p = <const int64_t *>_data(codes)
    with nogil:
        fastlsgd_sort_codes(order_p, starts_p, codes_p, n, n_codes)
    return order, starts


cdef int _segments(object segments, int64_t n_rows, fastlsgd_segments *out) except -1:
    cdef cnp.ndarray order = segments.order
    cdef cnp.ndarray start = segments.start
    out.order = <const int64_t *>_data(order)
    out.n_positions = n_rows if order is None else cnp.PyArray_DIM(order, 0)
    out.start = <const int64_t *>_data(start)
    out.stop = <const int64_t *>_data(segments.stop)
    out.n_segments, out.min_rows = cnp.PyArray_DIM(start, 0), segments.min_rows
    out.fit_intercept, out.skip_nan = segments.fit_intercept, segments.skip_nan
    out.penalty = <const double *>_data(segments.penalty)
    out.decay = <const double *>_data(segments.decay)
    out.initial = <const double *>_data(segments.initial)
    out.robust = segments.robust
    return 0


def fit_segments(X, cnp.ndarray y, cnp.ndarray sample_weight, segments, int n_threads):
    cdef fastlsgd_matrix matrix
    cdef fastlsgd_targets targets
    cdef fastlsgd_segments ranges
    cdef fastlsgd_segment_fits out
    _matrix(X, &matrix)
    _targets(y, &targets)
    _segments(segments, matrix.n_rows, &ranges)
    fits = empty_fits(segments, matrix.n_cols)
    out.coef = <double *>_data(fits.coef)
    out.intercept = <double *>_data(fits.intercept)
    out.n_rows = <int64_t *>_data(fits.n_rows)
    out.weight = <double *>_data(fits.weight)
    out.residual = <double *>_data(fits.residual)
    out.total = <double *>_data(fits.total)
    out.inverse = <double *>_data(fits.inverse)
    out.robust = <double *>_data(fits.robust)
    out.status = <signed char *>_data(fits.status)
    cdef const void *s_p = _data(sample_weight)
    cdef int status
    with nogil:
        status = fastlsgd_fit_segments(&out, &matrix, &targets, s_p, &ranges, n_threads)
    if status != FASTLSGD_OK:
        _fail(status, "fit_segments: no memory for the sums of a segment.")
    return fits


def coordinate_descent(cnp.ndarray H, cnp.ndarray w, cnp.ndarray q, double l1, double l2,
                       bint positive, double tol, int64_t n_epochs):
    cdef fastlsgd_quadratic problem
    problem.H = <const double *>_data(H)
    problem.k = cnp.PyArray_DIM(w, 0)
    problem.row_stride = cnp.PyArray_STRIDE(H, 0) // 8
    problem.l1, problem.l2, problem.positive = l1, l2, positive
    cdef double *w_p = <double *>_data(w)
    cdef double *q_p = <double *>_data(q)
    cdef int64_t done
    with nogil:
        done = fastlsgd_coordinate_descent(w_p, q_p, &problem, tol, n_epochs)
    return done


def column_descent(cnp.ndarray A, cnp.ndarray offset, cnp.ndarray w, cnp.ndarray r, double weight,
                   double l1, double l2, bint positive, double tol, int64_t n_epochs):
    cdef fastlsgd_columns problem
    problem.A, problem.offset = <const float *>_data(A), <const double *>_data(offset)
    problem.k, problem.n = cnp.PyArray_DIM(A, 0), cnp.PyArray_DIM(A, 1)
    problem.weight, problem.l1, problem.l2, problem.positive = weight, l1, l2, positive
    cdef double *w_p = <double *>_data(w)
    cdef float *r_p = <float *>_data(r)
    cdef int64_t done
    with nogil:
        done = fastlsgd_column_descent(w_p, r_p, &problem, tol, n_epochs)
    if done < 0:
        raise MemoryError("column_descent: no memory for products of columns.")
    return done


def walk_sets(cnp.ndarray H, cnp.ndarray c, state, cnp.ndarray unit, cnp.ndarray scale, int64_t size,
              double l1, double l2, bint positive, double tol, int64_t most_steps):
    w, sign, R, members = state
    cdef fastlsgd_quadratic problem
    problem.H = <const double *>_data(H)
    problem.k = cnp.PyArray_DIM(c, 0)
    problem.row_stride = cnp.PyArray_STRIDE(H, 0) // 8
    problem.l1, problem.l2, problem.positive = l1, l2, positive
    cdef fastlsgd_walk walk
    walk.c, walk.unit = <const double *>_data(c), <const double *>_data(unit)
    walk.scale = <const double *>_data(scale)
    walk.w, walk.sign = <double *>_data(w), <double *>_data(sign)
    walk.R, walk.set = <double *>_data(R), <int64_t *>_data(members)
    walk.size, walk.most = size, cnp.PyArray_DIM(R, 0)
    cdef int status
    cdef int64_t done
    with nogil:
        done = fastlsgd_walk_sets(&walk, &problem, tol, most_steps, &status)
    if status < 0:
        raise MemoryError("walk_sets: no memory for a few numbers per column.")
    return done, status, walk.size


def column_products(X, cnp.ndarray s, cnp.ndarray place, int64_t k, int64_t first):
    cdef fastlsgd_matrix matrix
    _matrix(X, &matrix)
    cdef cnp.ndarray out = np.zeros((k - first, k))
    cdef double *out_p = <double *>_data(out)
    cdef const double *s_p = <const double *>_data(s)
    cdef const int64_t *place_p = <const int64_t *>_data(place)
    cdef int status
    with nogil:
        status = fastlsgd_column_products(out_p, &matrix, s_p, place_p, k, first)
    if status != FASTLSGD_OK:
        _fail(status, "column_products: no memory for a row.")
    return out


def move_weights(X, cnp.ndarray coef, cnp.ndarray u, cnp.ndarray total, cnp.ndarray centre,
                 cnp.ndarray constant, cnp.ndarray out):
    cdef fastlsgd_matrix matrix
    cdef fastlsgd_move move
    cdef int failed
    _matrix(X, &matrix)
    move.u, move.total, move.centre = <double *>_data(u), <double *>_data(total), <double *>_data(centre)
    move.constant, move.n_constant = <int64_t *>_data(constant), cnp.PyArray_DIM(constant, 0)
    move.coef, move.t = <double *>_data(coef), cnp.PyArray_DIM(coef, 0)
    move.coef_stride, move.out = cnp.PyArray_STRIDE(coef, 0) // 8, <double *>_data(out)
    with nogil:
        failed = fastlsgd_move_weights(&matrix, &move)
    if failed:
        raise MemoryError("move_weights: no memory for a block of weights.")


def row_sums(X, cnp.ndarray u, cnp.ndarray z):
    cdef fastlsgd_matrix matrix
    _matrix(X, &matrix)
    cdef int64_t t = cnp.PyArray_DIM(u, 0), w = cnp.PyArray_DIM(z, 1)
    cdef const double *u_p = <const double *>_data(u)
    cdef double *z_p = <double *>_data(z)
    with nogil:
        fastlsgd_row_sums(z_p, &matrix, u_p, t, w)


def row_dots(X, cnp.ndarray z, cnp.ndarray out):
    cdef fastlsgd_matrix matrix
    _matrix(X, &matrix)
    cdef int64_t t = cnp.PyArray_DIM(out, 0), w = cnp.PyArray_DIM(z, 1)
    cdef double *out_p = <double *>_data(out)
    cdef const double *z_p = <const double *>_data(z)
    with nogil:
        fastlsgd_row_dots(out_p, &matrix, z_p, t, w)


def row_squares(X):
    cdef fastlsgd_matrix matrix
    _matrix(X, &matrix)
    cdef cnp.ndarray out = _empty(matrix.n_rows, -1, cnp.NPY_FLOAT64)
    cdef double *out_p = <double *>_data(out)
    with nogil:
        fastlsgd_row_squares(out_p, &matrix)
    return out


def descend_rows(X, vectors, per_row, scalars, ends, double alpha, limits, int64_t most):
    cdef fastlsgd_matrix matrix
    cdef fastlsgd_row_descent state
    _matrix(X, &matrix)
    v, r, p, q, z, y, before = vectors
    scale, root, null, along_c, shift = per_row
    rho, beta = scalars
    least, target, y_squares, paid = ends
    state.v, state.r, state.p = <double *>_data(v), <double *>_data(r), <double *>_data(p)
    state.q, state.z = <double *>_data(q), <double *>_data(z)
    state.y, state.before = <double *>_data(y), <double *>_data(before)
    state.scale, state.root = <double *>_data(scale), <double *>_data(root)
    state.null, state.along_c = <double *>_data(null), <double *>_data(along_c)
    state.shift, state.alpha = <double *>_data(shift), alpha
    state.rho, state.beta = <double *>_data(rho), <double *>_data(beta)
    state.least, state.target = <double *>_data(least), <double *>_data(target)
    state.y_squares, state.paid = <double *>_data(y_squares), <double *>_data(paid)
    state.share, state.floor = limits
    cdef int64_t w = cnp.PyArray_DIM(z, 1), made
    cdef cnp.ndarray told = np.empty((most, FASTLSGD_TOLD, w))
    state.told = <double *>_data(told)
    with nogil:
        made = fastlsgd_descend_rows(&matrix, &state, w, most)
    return told[:made]


def small_least_squares(X, cnp.ndarray y, cnp.ndarray sample_weight, alphas, bint fit_intercept,
                        ordinary, limits, double tol, int64_t max_iter, bint certify):
    cdef fastlsgd_matrix matrix
    cdef fastlsgd_targets targets
    cdef fastlsgd_ordinary usual
    cdef fastlsgd_small_goal goal
    cdef fastlsgd_small_fit out
    _matrix(X, &matrix)
    _targets(y, &targets)
    usual.least_square, usual.most_square, usual.far, usual.noise = ordinary
    (goal.most_condition, goal.sharp, goal.safety, goal.rounding, goal.most_corrections) = limits
    goal.tol, goal.certify = tol, certify
    goal.most_corrections = min(goal.most_corrections, max_iter)
    cdef int64_t k = len(alphas), d = matrix.n_cols, t = targets.n_targets, i
    cdef cnp.ndarray penalties = np.array(alphas, dtype=np.float64)
    cdef cnp.ndarray coef = np.empty((k, t, d)), intercept = _empty(k, t, cnp.NPY_FLOAT64)
    cdef cnp.ndarray residual = _empty(k, t, cnp.NPY_FLOAT64), upper = np.empty((k, d, d))
    cdef cnp.ndarray scale = _empty(k, d, cnp.NPY_FLOAT64), centre = _empty(d, -1, cnp.NPY_FLOAT64)
    cdef cnp.ndarray losses = _empty(k, goal.most_corrections, cnp.NPY_FLOAT64)
    cdef cnp.ndarray condition = _empty(k, -1, cnp.NPY_FLOAT64)
    cdef cnp.ndarray ratio = _empty(k, -1, cnp.NPY_FLOAT64)
    cdef cnp.ndarray n_iter = _empty(k, -1, cnp.NPY_INT64)
    out.coef, out.intercept = <double *>_data(coef), <double *>_data(intercept)
    out.residual, out.upper = <double *>_data(residual), <double *>_data(upper)
    out.scale, out.centre = <double *>_data(scale), <double *>_data(centre)
    out.losses, out.condition = <double *>_data(losses), <double *>_data(condition)
    out.ratio, out.n_iter = <double *>_data(ratio), <int64_t *>_data(n_iter)
    cdef const double *penalties_p = <const double *>_data(penalties)
    cdef const void *s_p = _data(sample_weight)
    cdef int status
    with nogil:
        status = fastlsgd_small_least_squares(&out, &matrix, &targets, s_p, penalties_p, k,
                                              fit_intercept, &usual, &goal)
    if status < 0:
        _fail(FASTLSGD_NO_MEMORY, "small_least_squares: no memory for sums.")
    if status == 0:
        return None
    return [
        (coef[i], intercept[i], residual[i], upper[i], scale[i], centre,
         losses[i, :out.n_iter[i]].tolist(), out.condition[i], out.ratio[i], out.n_iter[i])
        for i in range(k)
    ]


def small_weights(X, cnp.ndarray y, cnp.ndarray sample_weight, double alpha, tuple ordinary,
                  tuple limits, double tol, int64_t max_iter):
    cdef fastlsgd_matrix matrix
    cdef fastlsgd_targets targets
    cdef fastlsgd_ordinary usual
    cdef fastlsgd_small_goal goal
    _matrix(X, &matrix)
    _targets(y, &targets)
    usual.least_square, usual.most_square, usual.far, usual.noise = ordinary
    goal.most_condition, goal.sharp, goal.safety, goal.rounding, goal.most_corrections = limits
    goal.tol, goal.certify = tol, False
    goal.most_corrections = min(goal.most_corrections, max_iter)
    cdef cnp.ndarray x = _empty(matrix.n_cols, targets.n_targets,
                                cnp.NPY_FLOAT32 if matrix.dtype == FASTLSGD_F32 else cnp.NPY_FLOAT64)
    cdef void *x_p = _data(x)
    cdef const void *s_p = _data(sample_weight)
    cdef int status
    with nogil:
        status = fastlsgd_small_weights(x_p, &matrix, &targets, s_p, alpha, &usual, &goal)
    if status < 0:
        _fail(FASTLSGD_NO_MEMORY, "small_weights: no memory for sums.")
    return x if status else None


def solve_small_batch(cnp.ndarray A, cnp.ndarray b, ordinary, limits, int n_threads):
    cdef fastlsgd_batch batch
    cdef fastlsgd_ordinary usual
    cdef fastlsgd_small_goal goal
    cdef int64_t n_problems = cnp.PyArray_DIM(A, 0), size = cnp.PyArray_ITEMSIZE(A)
    cdef cnp.ndarray x = np.empty((n_problems, b.shape[2], A.shape[2]))
    cdef cnp.ndarray solved = _empty(n_problems, -1, cnp.NPY_BOOL)
    if n_problems == 0:
        return x, solved
    _matrix(A[0], &batch.X)
    _targets(b[0], &batch.y)
    batch.X_stride = cnp.PyArray_STRIDE(A, 0) // size
    batch.y_stride = cnp.PyArray_STRIDE(b, 0) // size
    batch.n_problems = n_problems
    usual.least_square, usual.most_square, usual.far, usual.noise = ordinary
    (goal.most_condition, goal.sharp, goal.safety, goal.rounding, goal.most_corrections) = limits
    goal.tol, goal.certify = 0.0, False
    cdef double *x_p = <double *>_data(x)
    cdef signed char *solved_p = <signed char *>_data(solved)
    cdef int status
    with nogil:
        status = fastlsgd_solve_small_batch(x_p, solved_p, &batch, &usual, &goal, n_threads)
    if status < 0:
        _fail(FASTLSGD_NO_MEMORY, "solve_small_batch: no memory for the sums of a problem.")
    return x, solved


def small_lasso(X, cnp.ndarray y, cnp.ndarray sample_weight, bint fit_intercept, ordinary,
                cnp.ndarray l1, cnp.ndarray l2, bint positive, double most_condition,
                bint as_sums, cnp.ndarray sample, hidden):
    cdef fastlsgd_matrix matrix
    cdef fastlsgd_targets targets
    cdef fastlsgd_ordinary usual
    cdef fastlsgd_small_penalties penalties
    cdef fastlsgd_small_lasso_fit out
    cdef fastlsgd_row_sample some
    _matrix(X, &matrix)
    _targets(y, &targets)
    some.rows, some.n_rows = <const int64_t *>_data(sample), cnp.PyArray_DIM(sample, 0)
    some.share, some.few = hidden
    usual.least_square, usual.most_square, usual.far, usual.noise = ordinary
    cdef int64_t k = cnp.PyArray_DIM(l1, 0), d = matrix.n_cols, t = targets.n_targets
    penalties.l1, penalties.l2 = <const double *>_data(l1), <const double *>_data(l2)
    penalties.k, penalties.positive, penalties.most_condition = k, positive, most_condition
    fits = empty_small_lassos(k, t, d)
    out.coef, out.intercept = <double *>_data(fits.coef), <double *>_data(fits.intercept)
    out.gradient, out.squares = <double *>_data(fits.gradient), <double *>_data(fits.squares)
    out.condition, out.n_solves = <double *>_data(fits.condition), <int64_t *>_data(fits.n_solves)
    out.slope, out.size = <double *>_data(fits.slope), <double *>_data(fits.size)
    out.centre, out.y_centre = <double *>_data(fits.centre), <double *>_data(fits.y_centre)
    out.variance = <double *>_data(fits.variance)
    cdef const void *s_p = _data(sample_weight)
    cdef int status
    with nogil:
        if as_sums:
            status = fastlsgd_small_lasso(&out, &matrix, &targets, s_p, fit_intercept, &usual,
                                          &penalties)
        else:
            status = fastlsgd_wide_lasso(&out, &matrix, &targets, s_p, fit_intercept, &usual,
                                         &penalties)
        if status > 0 and fastlsgd_hides_numbers(&matrix, s_p, targets.dtype, &some, out.size,
                                                 out.weight, fit_intercept):
            status = 0
    if status < 0:
        _fail(FASTLSGD_NO_MEMORY, "small_lasso: no memory for sums.")
    return fits._replace(weight=out.weight) if status else None


cdef inline int64_t _width(int64_t columns) noexcept:
    return (columns + FASTLSGD_PADDING - 1) // FASTLSGD_PADDING * FASTLSGD_PADDING


cdef inline bint _is_padded(cnp.ndarray joint) noexcept:
    """Whether these rows lie in memory as `_padded` makes them, so that they need no copy."""
    return (cnp.PyArray_STRIDE(joint, 0) == 8 * _width(cnp.PyArray_DIM(joint, 1))
            and cnp.PyArray_STRIDE(joint, 1) == 8 and <size_t>_data(joint) % 64 == 0)


cdef cnp.ndarray _padded(cnp.ndarray joint):
    """[joint, 0] in a new array, as `fastlsgd_triangle` has it."""
    cdef int64_t rows = cnp.PyArray_DIM(joint, 0), used = cnp.PyArray_DIM(joint, 1)
    cdef int64_t width = _width(used)
    cdef cnp.ndarray memory = _empty(rows * width + FASTLSGD_PADDING, -1, cnp.NPY_FLOAT64)
    # Registers that cross cache lines would take twice the time.
    cdef int64_t start = (-(<int64_t><size_t>_data(memory)) % 64) // 8
    cdef cnp.ndarray out = memory[start:start + rows * width].reshape(rows, width)
    if _is_padded(joint):
        memcpy(_data(out), _data(joint), <size_t>(8 * rows * width))
        return out
    out[:, :used] = joint
    out[:, used:] = 0.0
    return out


def update_triangle(cnp.ndarray joint, cnp.ndarray rows):
    cdef fastlsgd_triangle triangle
    cdef cnp.ndarray out = _padded(joint), scratch = _padded(rows)
    cdef int64_t used = cnp.PyArray_DIM(joint, 1), m = cnp.PyArray_DIM(rows, 0)
    cdef double *rows_p = <double *>_data(scratch)
    triangle.joint, triangle.k = <double *>_data(out), cnp.PyArray_DIM(joint, 0)
    triangle.t, triangle.stride = used - triangle.k, cnp.PyArray_DIM(out, 1)
    with nogil:
        fastlsgd_update_triangle(&triangle, rows_p, m)
    return out[:, :used]


def solve_triangle(cnp.ndarray joint, cnp.ndarray size, double rest, bint has_intercept,
                   double tolerance, int64_t most_steps):
    cdef fastlsgd_triangle triangle
    cdef fastlsgd_triangle_steps steps
    cdef cnp.ndarray padded = joint if _is_padded(joint) else _padded(joint)
    triangle.joint, triangle.k = <double *>_data(padded), cnp.PyArray_DIM(joint, 0)
    triangle.t = cnp.PyArray_DIM(joint, 1) - triangle.k
    triangle.stride = _width(cnp.PyArray_DIM(joint, 1))
    steps.size, steps.rest, steps.has_intercept = <double *>_data(size), rest, has_intercept
    steps.tolerance, steps.most_steps = tolerance, most_steps
    cdef cnp.ndarray u = _empty(triangle.t, triangle.k, cnp.NPY_FLOAT64)
    cdef cnp.ndarray work = _empty(triangle.t + 1, triangle.k, cnp.NPY_FLOAT64)
    cdef double *u_p = <double *>_data(u)
    cdef double *work_p = <double *>_data(work)
    with nogil:
        fastlsgd_solve_triangle(u_p, &triangle, &steps, work_p)
    return u


# ---------------------------------------------------------------- instruction sets and threads


# -------------------------------------------------------------------- handlers of XLA, for fastlsgd.jax

_xla_solve = None
cdef const char *XLA_TARGET = "xla._CUSTOM_CALL_TARGET"


cdef object _view(const xla_buffer *buffer):
    """An array over row-major memory that is not its own."""
    cdef cnp.npy_intp shape[32]
    cdef int k
    for k in range(buffer.rank):
        shape[k] = buffer.dims[k]
    return cnp.PyArray_SimpleNewFromData(
        buffer.rank, shape, cnp.NPY_FLOAT64 if buffer.dtype == XLA_F64 else cnp.NPY_FLOAT32,
        buffer.data)


cdef int _xla_solver(xla_buffer *x, const xla_buffer *A, const xla_buffer *b, int n_threads,
                     char *text, size_t size) noexcept with gil:
    try:
        _view(x)[...] = _xla_solve(_view(A), _view(b), n_threads)
        return 0
    except BaseException as error:
        message = f"{type(error).__name__}: {error}".encode()[:size - 1]
        memcpy(text, <const char *>message, len(message))
        text[len(message)] = 0
        return 1


def xla_handlers(solve):
    """`loss_gradient` and `lstsq` as functions that programs of XLA call, in capsules as JAX wants.

    The latter calls ``solve(A, b, n_threads)``, whose arguments are views of XLA's memory.
    """
    global _xla_solve
    _xla_solve = solve
    fastlsgd_xla_set_solver(_xla_solver)
    return {
        "loss_gradient": PyCapsule_New(<void *>fastlsgd_xla_loss_gradient, XLA_TARGET, NULL),
        "lstsq": PyCapsule_New(<void *>fastlsgd_xla_lstsq, XLA_TARGET, NULL),
    }


def isas():
    """Names of the instruction sets that this machine runs, from the plainest."""
    names, k = [], 0
    while c_isa_name(k) is not NULL:
        if c_isa_supported(k):
            names.append(c_isa_name(k).decode())
        k += 1
    return names


def isa():
    """Name of the instruction set in use."""
    return c_isa_name(c_isa()).decode()


def set_isa(name):
    """Use this instruction set; ValueError if it was not built or this machine lacks it."""
    k = 0
    while c_isa_name(k) is not NULL:
        if c_isa_name(k).decode() == name and c_set_isa(k):
            return
        k += 1
    allowed = ", ".join(repr(known) for known in isas())
    raise ValueError(f"The instruction set (FASTLSGD_ISA) must be one of {allowed} "
                     f"on this machine, got {name!r}.")


def max_threads():
    """How many threads OpenMP would start now, as OMP_NUM_THREADS or threadpoolctl have it."""
    return c_max_threads()


def set_max_threads(int n_threads):
    """Set how many threads OpenMP may start from the calling thread, which has its own limit."""
    c_set_max_threads(n_threads)


def build_info():
    """How the C library was built: compiler, OpenMP, instruction sets."""
    return {"compiler": c_compiler().decode(),
            "openmp": "yes" if c_has_openmp() else "no",
            "isas": ", ".join(isas())}


def _after_fork():
    c_after_fork()


if os.environ.get("FASTLSGD_ISA"):
    set_isa(os.environ["FASTLSGD_ISA"])
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
