/* min |A x - b|^2 for each of many small A (n, d) and b (n, t), divided among threads.
 *
 * Tall problems are those of small_least_squares.c. Wide ones (n < d) have many solutions, and the
 * one of least norm is x = A^T T T^T b, where T is D R^-1 and R the Cholesky factor of the rows'
 * products, scaled by D. It is corrected from its residual b - A x, which restores the digits that
 * the products have lost (Bjorck 1987, Linear Algebra Appl. 88/89), and T^T (b - A x), whose norm is
 * that of the correction, says how far x is from the solution: no rounding brings it below eps
 * times the condition, as no method does that sees A only to rounding.
 *
 * Cost of a wide problem: n^2 d / 2 multiply-adds for the products, and per target 2 n d for the
 * solution and 4 n d for each of one or two corrections. */
#include "small_batch.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A solution counts as found at this many times float64's eps times the condition. */
static const double ROUNDINGS = 4.0;
/* How many multiply-adds are worth a thread. */
static const double PRODUCTS_PER_THREAD = 2e5;

typedef struct {
  const fastlsgd_ordinary *ordinary;
  const fastlsgd_small_goal *goal;
  int64_t n, d, t;
  double *memory; /* what follows */
  fastlsgd_small_fit fit;
  double *T;         /* (n, n) */
  double *b, *z, *u; /* (n,) */
  double *work;      /* (2, n) */
} Work;

/* ------------------------------------------------------------------------- wide problems */

/* z = T^T g; returns |z|^2. */
static double whiten(const double *T, int64_t n, const double *g, double *z) {
  double square = 0.0;
  memset(z, 0, (size_t)n * sizeof(double));
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = i; j < n; ++j) z[j] += g[i] * T[i * n + j];
  for (int64_t j = 0; j < n; ++j) square += z[j] * z[j];
  return square;
}

/* x += A^T T z, where `columns` (d, n) is A^T. */
static void add(const Work *w, const fastlsgd_matrix *columns, double *x) {
  const double *data = columns->data;
  for (int64_t i = 0; i < w->n; ++i) {
    w->u[i] = 0.0;
    for (int64_t j = i; j < w->n; ++j) w->u[i] += w->T[i * w->n + j] * w->z[j];
  }
  for (int64_t i = 0; i < w->n; ++i) {
    const double *row = data + i * columns->col_stride, u = w->u[i];
    for (int64_t j = 0; j < w->d; ++j) x[j] += row[j * columns->row_stride] * u;
  }
}

/* b -= A x */
static void subtract(const Work *w, const fastlsgd_matrix *columns, const double *x, double *b) {
  const double *data = columns->data;
  for (int64_t i = 0; i < w->n; ++i) {
    const double *row = data + i * columns->col_stride;
    double sum = 0.0;
    for (int64_t j = 0; j < w->d; ++j) sum += row[j * columns->row_stride] * x[j];
    b[i] -= sum;
  }
}

static double entry(const fastlsgd_targets *y, int64_t i, int64_t k) {
  const int64_t at = i * y->row_stride + k * y->col_stride;
  return y->dtype == FASTLSGD_F32 ? ((const float *)y->data)[at] : ((const double *)y->data)[at];
}

/* Target k of the solution in x (d,); 0 if it is not certain. */
static int solve_target(const Work *w, const fastlsgd_matrix *columns, const fastlsgd_targets *y,
                        int64_t k, double condition, double *x) {
  const fastlsgd_ordinary *usual = w->ordinary;
  const double floor = fmax(w->goal->rounding, ROUNDINGS * DBL_EPSILON * condition);
  double last = 1.0, square = 0.0;
  int is_zero = 1;
  memset(x, 0, (size_t)w->d * sizeof(double));
  for (int64_t i = 0; i < w->n; ++i) {
    w->b[i] = entry(y, i, k);
    square += w->b[i] * w->b[i];
    is_zero &= w->b[i] == 0.0;
  }
  if (is_zero) return 1;
  const double unit = whiten(w->T, w->n, w->b, w->z);
  if (!(usual->least_square < square && square < usual->most_square)) return 0; /* or NaN */
  if (!(usual->least_square < unit && unit < usual->most_square)) return 0;
  add(w, columns, x);
  for (int64_t step = 0; step < w->goal->most_corrections; ++step) {
    for (int64_t i = 0; i < w->n; ++i) w->b[i] = entry(y, i, k);
    subtract(w, columns, x, w->b);
    const double ratio = sqrt(whiten(w->T, w->n, w->b, w->z) / unit);
    if (!(ratio <= w->goal->sharp * last)) return ratio <= floor;
    add(w, columns, x);
    if (ratio <= floor || w->goal->safety * ratio * ratio <= last * floor) return 1;
    last = ratio;
  }
  return 0;
}

/* x (t, d) of a problem with fewer rows than columns; 1, 0 or -1 like small_least_squares. */
static int solve_wide(const Work *w, const fastlsgd_matrix *A, const fastlsgd_targets *y,
                      double *x) {
  const fastlsgd_matrix columns = {.n_rows = w->d,
                                   .n_cols = w->n,
                                   .dtype = A->dtype,
                                   .data = A->data,
                                   .row_stride = A->col_stride,
                                   .col_stride = A->row_stride};
  const fastlsgd_targets none = {.dtype = A->dtype};
  const int64_t n = w->n;
  double *R = w->fit.upper, *scale = w->fit.scale;
  fastlsgd_moments moments;
  int status = fastlsgd_take_moments(&moments, &columns, &none, NULL, 0, 0, w->ordinary);
  if (status == 1) status = fastlsgd_factorise(moments.gram, moments.m, n, 0.0, R, scale);
  if (status == 1) {
    fastlsgd_invert(R, n, w->T);
    const double condition = fastlsgd_condition(R, w->T, n, w->work);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = i; j < n; ++j) w->T[i * n + j] *= scale[i];
    status = condition <= w->goal->most_condition;
    for (int64_t k = 0; k < w->t && status == 1; ++k)
      status = solve_target(w, &moments.X, y, k, condition, x + k * w->d);
  }
  free(moments.memory);
  return status;
}

/* -------------------------------------------------------------------------------- batches */

static int allocate(Work *w, const fastlsgd_batch *batch) {
  const int64_t n = batch->X.n_rows, d = batch->X.n_cols, t = batch->y.n_targets;
  const int64_t least = n < d ? n : d, corrections = w->goal->most_corrections;
  const int64_t size = 2 * t + 2 * least * least + 7 * least + corrections + 2;
  w->n = n, w->d = d, w->t = t;
  w->memory = malloc((size_t)size * sizeof(double) + sizeof(int64_t));
  if (!w->memory) return 0;
  double *next = w->memory;
  w->fit.n_iter = (int64_t *)next, next += 1;
  w->fit.intercept = next, next += t;
  w->fit.residual = next, next += t;
  w->fit.upper = next, next += least * least;
  w->T = next, next += least * least;
  w->fit.scale = next, next += least;
  w->fit.centre = next, next += least;
  w->b = next, next += least;
  w->z = next, next += least;
  w->u = next, next += least;
  w->work = next, next += 2 * least;
  w->fit.losses = next, next += corrections;
  w->fit.condition = next, w->fit.ratio = next + 1;
  return 1;
}

static int solve_one(Work *w, const fastlsgd_batch *batch, int64_t p, double *x) {
  const double no_penalty = 0.0;
  fastlsgd_matrix A = batch->X;
  fastlsgd_targets b = batch->y;
  const int64_t size = A.dtype == FASTLSGD_F32 ? 4 : 8;
  A.data = (const char *)A.data + p * batch->X_stride * size;
  b.data = (const char *)b.data + p * batch->y_stride * size;
  if (w->n < w->d) return solve_wide(w, &A, &b, x);
  w->fit.coef = x;
  return fastlsgd_small_least_squares(&w->fit, &A, &b, NULL, &no_penalty, 1, 0, w->ordinary,
                                      w->goal);
}

/* The problems of one part of the work; the number of those for which there was no memory. */
static int solve_part(double *x, signed char *solved, const fastlsgd_batch *batch,
                      const fastlsgd_ordinary *ordinary, const fastlsgd_small_goal *goal,
                      int64_t first, int64_t last) {
  const int64_t size = batch->y.n_targets * batch->X.n_cols;
  Work work = {.ordinary = ordinary, .goal = goal};
  int failed = !allocate(&work, batch);
  for (int64_t p = first; p < last && !failed; ++p) {
    const int status = solve_one(&work, batch, p, x + p * size);
    solved[p] = status == 1;
    failed = status < 0;
  }
  free(work.memory);
  return failed;
}

int fastlsgd_solve_small_batch(double *x, signed char *solved, const fastlsgd_batch *batch,
                               const fastlsgd_ordinary *ordinary, const fastlsgd_small_goal *goal,
                               int n_threads) {
  const int64_t n = batch->X.n_rows, d = batch->X.n_cols, p = batch->n_problems;
  const double least = (double)(n < d ? n : d) + (double)batch->y.n_targets;
  const double most = (double)p * (double)(n < d ? d : n) * least * least / PRODUCTS_PER_THREAD;
  const int limit = fastlsgd_max_threads();
  int parts = n_threads < limit ? n_threads : limit, failed = 0;
  parts = most < parts ? (int)most : parts;
  parts = parts < 1 ? 1 : parts > p ? (int)p : parts;
#ifdef _OPENMP
#pragma omp parallel for schedule(static, 1) num_threads(fastlsgd_team(parts)) reduction(+ : failed)
#endif
  for (int k = 0; k < parts; ++k)
    failed += solve_part(x, solved, batch, ordinary, goal, p * k / parts, p * (k + 1) / parts);
  return failed ? -1 : 0;
}
