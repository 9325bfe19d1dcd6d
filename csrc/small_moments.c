/* Moments and factors of few numbers: see small_moments.h. The sums over rows are those of the
 * library's kernels, n (d + t)^2 / 2 multiply-adds. float32 rows are first converted, so that all
 * sums are as good as those of float64 rows.
 *
 * This file is compiled once per instruction set. */
#include "small_moments.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "double_vectors.inc"

static double number(const void *data, fastlsgd_dtype dtype, int64_t at) {
  return dtype == FASTLSGD_F32 ? (double)((const float *)data)[at] : ((const double *)data)[at];
}

static double weight_of(const fastlsgd_moments *p, int64_t i) {
  return p->s ? number(p->s, p->y->dtype, i) : 1.0;
}

static int is_between(double value, double low, double high) {
  return low < value && value < high; /* false for NaN */
}

/* ------------------------------------------------------------------------------- moments */

static void convert(fastlsgd_moments *p, const fastlsgd_matrix *X, double *rows) {
  const float *data = X->data;
  for (int64_t i = 0; i < p->n; ++i) {
    const float *x = data + i * X->row_stride;
    double *row = rows + i * p->d;
    if (X->col_stride == 1)
      for (int64_t j = 0; j < p->d; ++j) row[j] = x[j];
    else
      for (int64_t j = 0; j < p->d; ++j) row[j] = x[j * X->col_stride];
  }
  p->X.dtype = FASTLSGD_F64;
  p->X.data = rows;
  p->X.row_stride = p->d, p->X.col_stride = 1;
}

/* The sums of squares of the targets; 0 where one is out of the ordinary. */
static int square_targets(fastlsgd_moments *p, const fastlsgd_ordinary *ordinary) {
  for (int64_t i = 0; i < p->n; ++i) {
    const double s = weight_of(p, i);
    for (int64_t k = 0; k < p->t; ++k) {
      const double y = number(p->y->data, p->y->dtype, i * p->y->row_stride + k * p->y->col_stride);
      p->y_squares[k] += s * y * y;
    }
  }
  for (int64_t k = 0; k < p->t; ++k)
    if (!is_between(p->y_squares[k], ordinary->least_square, ordinary->most_square)) return 0;
  return 1;
}

static void find_means(fastlsgd_moments *p) {
  const double *data = p->X.data;
  double weight = 0.0;
  for (int64_t i = 0; i < p->n; ++i) {
    const double s = weight_of(p, i);
    const double *x = data + i * p->X.row_stride;
    weight += s;
    for (int64_t j = 0; j < p->d; ++j) p->centre[j] += s * x[j * p->X.col_stride];
  }
  for (int64_t j = 0; j < p->d; ++j) p->centre[j] /= weight;
}

/* Moves the moments from the origin `centre` to the mean, which becomes the centre. */
static void move_to_mean(fastlsgd_moments *p) {
  const int64_t d = p->d, m = p->m;
  double *G = p->gram;
  const double *last = G + (m - 1) * m; /* sums of x, of y, and of 1 */
  for (int64_t i = 0; i < d + p->t; ++i) {
    const double off = last[i] / p->weight;
    for (int64_t j = 0; j < d; ++j) G[i * m + j] -= off * last[j];
  }
  for (int64_t j = 0; j < d; ++j) p->centre[j] += last[j] / p->weight;
}

/* Whether the columns vary by more than rounding, and the targets' means are near them. */
static int varies(const fastlsgd_moments *p, const fastlsgd_ordinary *ordinary) {
  const double far = ordinary->far * ordinary->far;
  for (int64_t k = 0; k < p->t; ++k) {
    const double mean = p->y_centre[k];
    if (!((far + 1.0) * mean * mean < far / p->weight * p->y_squares[k])) return 0;
  }
  for (int64_t j = 0; j < p->d; ++j) {
    const double least = ordinary->noise * p->centre[j];
    if (!(p->gram[j * (p->m + 1)] > p->weight * least * least)) return 0;
  }
  return 1;
}

static int sum_up(fastlsgd_moments *p, const fastlsgd_ordinary *ordinary) {
  if (!square_targets(p, ordinary)) return 0;
  if (p->centred) find_means(p);
  const double *origin = p->centred ? p->centre : NULL;
  if (fastlsgd_gram(p->gram, &p->X, p->y, p->s, origin, 1)) return -1;
  p->weight = p->gram[p->m * p->m - 1];
  for (int64_t k = 0; k < p->t; ++k)
    p->y_centre[k] = p->centred ? p->gram[(p->m - 1) * p->m + p->d + k] / p->weight : 0.0;
  if (p->centred) move_to_mean(p);
  for (int64_t j = 0; j < p->d; ++j)
    if (!is_between(p->gram[j * (p->m + 1)], ordinary->least_square, ordinary->most_square))
      return 0;
  return !p->centred || varies(p, ordinary);
}

static int take_moments(fastlsgd_moments *p, const fastlsgd_matrix *X, const fastlsgd_targets *y,
                        const void *sample_weight, int fit_intercept, int64_t n_work,
                        const fastlsgd_ordinary *ordinary) {
  const int64_t n = X->n_rows, d = X->n_cols, t = y->n_targets, m = d + t + 1;
  const int64_t copied = X->dtype == FASTLSGD_F32 ? n * d : 0;
  *p = (fastlsgd_moments){.X = *X,
                          .y = y,
                          .s = sample_weight,
                          .n = n,
                          .d = d,
                          .t = t,
                          .m = m,
                          .centred = fit_intercept};
  p->memory = calloc((size_t)(m * m + d + 2 * t + n_work + copied), sizeof *p->memory);
  if (!p->memory) return -1;
  p->gram = p->memory, p->centre = p->gram + m * m, p->y_centre = p->centre + d;
  p->y_squares = p->y_centre + t, p->work = p->y_squares + t;
  if (copied) convert(p, X, p->work + n_work);
  return sum_up(p, ordinary);
}

/* ------------------------------------------------------------------------------- factors */

/* y -= x_0 x for the next four rows x, `stride` apart, which share what is loaded of y. */
static void subtract_four(double *restrict y, const double *restrict x, int64_t stride, int64_t n) {
  const double *a = x, *b = a + stride, *c = b + stride, *e = c + stride;
  const double of_a = *a, of_b = *b, of_c = *c, of_e = *e;
  int64_t j = 0;
  for (; j + LANES <= n; j += LANES)
    *(vec *)(y + j) -= (of_a * *(const vec *)(a + j) + of_b * *(const vec *)(b + j)) +
                       (of_c * *(const vec *)(c + j) + of_e * *(const vec *)(e + j));
  for (; j < n; ++j) y[j] -= (of_a * a[j] + of_b * b[j]) + (of_c * c[j] + of_e * e[j]);
}

static int factorise(const double *G, int64_t stride, int64_t d, double alpha, double *R,
                     double *scale) {
  for (int64_t j = 0; j < d; ++j) scale[j] = 1.0 / sqrt(G[j * (stride + 1)] + alpha);
  memset(R, 0, (size_t)(d * d) * sizeof(double));
  for (int64_t i = 0; i < d; ++i) {
    double *row = R + i * d;
    for (int64_t j = i; j < d; ++j) row[j] = G[i * stride + j] * scale[i] * scale[j];
    if (alpha > 0.0) row[i] = 1.0;
    int64_t k = 0;
    for (; k + 4 <= i; k += 4) subtract_four(row + i, R + k * d + i, d, d - i);
    for (; k < i; ++k) add(row + i, -R[k * d + i], R + k * d + i, d - i);
    if (!(row[i] > 0.0)) return 0;
    const double root = sqrt(row[i]), inverse = 1.0 / root;
    row[i] = root;
    for (int64_t j = i + 1; j < d; ++j) row[j] *= inverse;
  }
  return 1;
}

static void invert(const double *R, int64_t d, double *T) {
  memset(T, 0, (size_t)(d * d) * sizeof(double));
  for (int64_t i = d - 1; i >= 0; --i) {
    double *row = T + i * d;
    const double inverse = 1.0 / R[i * d + i];
    for (int64_t k = i + 1; k < d; ++k) {
      add(row + k, -R[i * d + k] * inverse, T + k * d + k, d - k);
    }
    row[i] = inverse;
  }
}

/* The largest sum of a column's absolute values. */
static double norm_of(const double *R, int64_t d) {
  double largest = 0.0;
  for (int64_t j = 0; j < d; ++j) {
    double sum = 0.0;
    for (int64_t i = 0; i <= j; ++i) sum += fabs(R[i * d + j]);
    if (!(sum <= largest)) largest = sum; /* NaN stays */
  }
  return largest;
}

/* v = T x for upper triangular T; returns the sum of |v|. */
static double multiply(const double *T, int64_t d, const double *x, double *v) {
  double sum = 0.0;
  for (int64_t i = 0; i < d; ++i) {
    v[i] = 0.0;
    for (int64_t j = i; j < d; ++j) v[i] += T[i * d + j] * x[j];
    sum += fabs(v[i]);
  }
  return sum;
}

/* Replaces x by T^T x for the signs x of v; returns where |x| is largest. */
static int64_t steepest(const double *T, int64_t d, const double *v, double *x) {
  int64_t at = 0;
  memset(x, 0, (size_t)d * sizeof(double));
  for (int64_t i = 0; i < d; ++i)
    for (int64_t j = i; j < d; ++j) x[j] += v[i] < 0.0 ? -T[i * d + j] : T[i * d + j];
  for (int64_t j = 1; j < d; ++j) at = fabs(x[j]) > fabs(x[at]) ? j : at;
  return at;
}

/* LAPACK's estimate of the 1-norm of T (Higham 1988, ACM Trans. Math. Softw. 14(4)), which reports
 * of the general path have too, where its columns are not known; x and v are (d,). */
static double estimated_norm(const double *T, int64_t d, double *x, double *v) {
  for (int64_t j = 0; j < d; ++j) x[j] = 1.0 / (double)d;
  double estimate = multiply(T, d, x, v);
  if (d == 1) return estimate;
  int64_t at = steepest(T, d, v, x);
  for (int step = 0; step < 4; ++step) {
    double sum = 0.0;
    int turned = 0;
    for (int64_t i = 0; i < d; ++i) {
      const double entry = i <= at ? T[i * d + at] : 0.0;
      turned |= (entry < 0.0) != (v[i] < 0.0);
      v[i] = entry;
      sum += fabs(entry);
    }
    const double before = estimate;
    estimate = sum;
    if (!turned || !(sum > before)) break;
    const int64_t last = at;
    at = steepest(T, d, v, x);
    if (x[last] == fabs(x[at])) break;
  }
  for (int64_t j = 0; j < d; ++j) x[j] = (j % 2 ? -1.0 : 1.0) * (1.0 + (double)j / (double)(d - 1));
  const double other = 2.0 * multiply(T, d, x, v) / (3.0 * (double)d);
  return other > estimate ? other : estimate;
}

static double condition(const double *R, const double *T, int64_t d, double *work) {
  return norm_of(R, d) * estimated_norm(T, d, work, work + d);
}

static double set_condition(const double *G, const double *scale, const double *T, int64_t d,
                            double alpha) {
  double norm = 0.0, inverse = 0.0;
  for (int64_t a = 0; a < d; ++a) {
    double own = 0.0, other = 0.0;
    for (int64_t b = 0; b < d; ++b) {
      const double entry = G[a < b ? a * d + b : b * d + a] + (a == b ? alpha : 0.0);
      const int64_t from = a > b ? a : b;
      own += fabs(entry) * scale[a] * scale[b];
      other += fabs(dot(T + a * d + from, T + b * d + from, d - from));
    }
    norm = own > norm ? own : norm;
    inverse = other > inverse ? other : inverse;
  }
  return sqrt(norm * inverse);
}

extern const fastlsgd_moments_table PASTE(fastlsgd_moments_functions, ISA);
const fastlsgd_moments_table PASTE(fastlsgd_moments_functions, ISA) = {
    take_moments, factorise, invert, condition, set_condition};
