/* fastlsgd: least-squares kernels in C, for callers in C, C++, Cython, Numba and others.
 *
 * n rows, d features, t targets; S is the sum of the sample weights. Any of n, d and t may be 0, and
 * arrays without elements may be NULL. Strides are in elements, and may be zero or negative. A row
 * of weight 0 adds nothing, whatever finite numbers it holds. Sums over rows are float64 whatever
 * the dtype of X. fastlsgd/kernels/contract.py has the exact definitions.
 *
 * Status   Every kernel returns FASTLSGD_OK; FASTLSGD_INVALID, with nothing written; or
 *          FASTLSGD_NO_MEMORY, after which results may be incomplete. Sizes, dtypes and pointers are
 *          checked for what can be seen without reading an array; otherwise arguments are trusted:
 *          that arrays are as large as stated and aligned as their type is, that indices are in
 *          range, that numbers are finite.
 * Threads  `n_threads` >= 0 is the most that a call may use; 0 is as many as OpenMP would start.
 *          Small calls use one. Kernels may be called from many threads at once. For a fixed number
 *          of threads results have the same bits each time; between numbers they differ by rounding.
 * Memory   Each kernel states what it allocates beside its results; all of it is freed on return.
 *          Nothing of the size of X is allocated, and nothing is changed but the results.
 * ABI      Within one FASTLSGD_ABI_VERSION no structure, value or signature below changes; functions
 *          may be added. The version is also that of the library's file name.
 */
#ifndef FASTLSGD_H
#define FASTLSGD_H

#include <stdint.h>

#define FASTLSGD_ABI_VERSION 1

#if defined(_WIN32) && defined(FASTLSGD_BUILDING)
#define FASTLSGD_API __declspec(dllexport)
#elif defined(_WIN32)
#define FASTLSGD_API __declspec(dllimport)
#else
#define FASTLSGD_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The FASTLSGD_ABI_VERSION that the library was built with; a caller may compare it with its own. */
FASTLSGD_API int fastlsgd_abi_version(void);
/* The version of the package, such as "0.1.0". */
FASTLSGD_API const char *fastlsgd_version(void);

enum { FASTLSGD_OK = 0, FASTLSGD_NO_MEMORY = 1, FASTLSGD_INVALID = 2 };

/* What a status means, in English. */
FASTLSGD_API const char *fastlsgd_status_text(int status);

typedef enum { FASTLSGD_F32 = 0, FASTLSGD_F64 = 1 } fastlsgd_dtype;

/* X (n, d): dense where `indices` and `indptr` are NULL, and CSR otherwise. */
typedef struct {
  int64_t n_rows, n_cols;
  fastlsgd_dtype dtype;
  const void *data;
  int64_t row_stride, col_stride; /* dense */
  const void *indices;            /* CSR: (nnz,), each in [0, n_cols), unique within a row */
  const void *indptr;             /* CSR: (n_rows + 1,); need not start at 0 */
  int index_bytes;                /* CSR: 4 or 8, of both indices and indptr */
} fastlsgd_matrix;

/* y (n, t). Its dtype may differ from that of X, and is that of the sample weights too. */
typedef struct {
  const void *data;
  int64_t n_targets, row_stride, col_stride;
  fastlsgd_dtype dtype;
} fastlsgd_targets;

/* loss (t,), dw (t, d), db (t,): 1/(2 S) sum s r^2 of r = X w + b - y, and its gradient at w (t, d),
 * b (t,). sample_weight (n,) of y's dtype, or NULL for ones. All are NaN where S is 0.
 * Allocates 8 bytes x t (d + 2), rounded up to whole registers, for the weights and for the sums of
 * each thread; where rows are not contiguous or t > 1, a block per thread too, of at most 256 KB, or
 * of 8 rows where that is more. */
FASTLSGD_API int fastlsgd_loss_gradient(double *loss, double *dw, double *db,
                                        const fastlsgd_matrix *X, const fastlsgd_targets *y,
                                        const double *w, const double *b, const void *sample_weight,
                                        int n_threads);

/* out (n, t), C-contiguous, of X's dtype: X w + b.
 * Allocates 8 bytes x t (d + 1), and a block of rows per thread, as above. */
FASTLSGD_API int fastlsgd_predict(void *out, const fastlsgd_matrix *X, const double *w,
                                  const double *b, int64_t n_targets, int n_threads);

/* out (m, m), m = d + t + 1: sum_i s_i z_i z_i^T of z_i = [x_i - shift, y_i, 1].
 * shift (d,) or NULL for zero. Allocates 8 bytes x m^2 for the sums, of each thread where m <= 512
 * and once otherwise, and two blocks of rows per thread, as above. Where CSR rows have few numbers,
 * each thread has such sums if those of all take at most 32 MB, and there are no blocks. */
FASTLSGD_API int fastlsgd_gram(double *out, const fastlsgd_matrix *X, const fastlsgd_targets *y,
                               const void *sample_weight, const double *shift, int n_threads);

/* The order, the rates and the penalty of an epoch of SGD; contract.py defines each field. */
typedef struct {
  const int64_t *order; /* (n_visits,), each in [0, n), or NULL for 0..n_visits-1 */
  int64_t n_visits;
  const double *rates; /* (ceil(n_visits / batch_size),) */
  int64_t batch_size;  /* at least 1 */
  double alpha, l1_ratio;
  int fit_intercept, implicit;
  const void *prox_soft, *prox_shrink; /* (d,) of X's dtype, or both NULL */
} fastlsgd_epoch;

/* The rules of OptimizerState in contract.py. */
typedef enum {
  FASTLSGD_SGD,
  FASTLSGD_MOMENTUM,
  FASTLSGD_NESTEROV,
  FASTLSGD_RMSPROP,
  FASTLSGD_ADAGRAD,
  FASTLSGD_ADAM,
  FASTLSGD_ADAMW
} fastlsgd_rule;

/* An optimizer and its moments. `steps` and the moments are updated in place. */
typedef struct {
  fastlsgd_rule rule;
  double beta1, beta2, eps, max_norm;         /* 0 <= beta < 1, eps > 0, max_norm may be infinite */
  int64_t steps;                              /* updates so far */
  double *coef_first, *coef_second;           /* (t, d), where the rule has them; else NULL */
  double *intercept_first, *intercept_second; /* (t,), alike */
} fastlsgd_optimizer;

/* What one epoch passes on to the next; updated in place. */
typedef struct {
  double l1_due;
  void *l1_paid;         /* (t, d) of X's dtype; needed where alpha * l1_ratio > 0 */
  int64_t average_after; /* -1: no average is kept */
  double *coef_sum;      /* (t, d), where an average is kept */
  double *intercept_sum; /* (t,), where an average is kept */
  int64_t n_summed;
  fastlsgd_optimizer *optimizer; /* NULL: plain descent; else no prox and no implicit steps */
} fastlsgd_state;

/* w (t, d) of X's dtype, b (t,) and state are updated in place; *loss receives the sum of r^2 / 2
 * over the visited rows whose weight is not 0. Allocates at most 5 copies of w (of float64), where
 * batches have more than 4 rows another per thread, 8 rows of X per thread, 16 bytes x d; for CSR
 * rows 8 bytes per row of a batch and target, and with L1 1.5 MB. */
FASTLSGD_API int fastlsgd_sgd_epoch(double *loss, void *w, double *b, const fastlsgd_matrix *X,
                                    const fastlsgd_targets *y, const void *sample_weight,
                                    const fastlsgd_epoch *epoch, fastlsgd_state *state,
                                    int n_threads);

/* n_epochs epochs one after the other, with the results of as many calls of fastlsgd_sgd_epoch: for
 * small data, where what surrounds a call takes as long as an epoch. epoch->order is (n_epochs,
 * n_visits) or NULL, epoch->rates (n_epochs, ceil(n_visits / batch_size)). losses (n_epochs,), and
 * where they are not NULL coefs (n_epochs, t, d) of X's dtype and intercepts (n_epochs, t) receive
 * the loss of each epoch and the weights after it. Allocates what one epoch does. */
FASTLSGD_API int fastlsgd_sgd_epochs(double *losses, void *coefs, double *intercepts, void *w,
                                     double *b, const fastlsgd_matrix *X, const fastlsgd_targets *y,
                                     const void *sample_weight, const fastlsgd_epoch *epoch,
                                     fastlsgd_state *state, int64_t n_epochs, int n_threads);

/* The name of instruction set k, from the plainest to the best; NULL beyond the last. */
FASTLSGD_API const char *fastlsgd_isa_name(int k);
/* Whether this machine (processor and operating system) supports it. */
FASTLSGD_API int fastlsgd_isa_supported(int k);
/* The instruction set in use: at load, the best that is supported. */
FASTLSGD_API int fastlsgd_isa(void);
/* Chooses another; returns 0 and changes nothing if it is not supported. Must not be called while
 * a kernel runs. */
FASTLSGD_API int fastlsgd_set_isa(int k);

/* The compiler that the library was built with, and its version. */
FASTLSGD_API const char *fastlsgd_compiler(void);
FASTLSGD_API int fastlsgd_has_openmp(void);
/* How many threads OpenMP would start now (OMP_NUM_THREADS, threadpoolctl); 1 without OpenMP. */
FASTLSGD_API int fastlsgd_max_threads(void);
/* Sets that number for the calling thread: each thread has its own limit in OpenMP. */
FASTLSGD_API void fastlsgd_set_max_threads(int n_threads);
/* How many threads to give to OpenMP for `parts` parts of work: fewer than that where the system
 * starts no more, since OpenMP would then abort the process; one after fastlsgd_after_fork(). */
FASTLSGD_API int fastlsgd_team(int parts);
/* To be called in a child after fork, which OpenMP's threads do not survive: kernels then use one
 * thread. The Python package does so itself. */
FASTLSGD_API void fastlsgd_after_fork(void);

#ifdef __cplusplus
}
#endif

#endif
