/* Rows added to a triangular factor by Householder reflections, and its solutions.
 *
 * Reflection j makes column j of the rows zero (Golub and Van Loan 2013, section 6.5, as LAPACK's
 * dtpqrt does): with v the column over R_jj - beta, each later column c loses tau v (R_jc + v . c).
 * 2 m (k - j) multiply-adds for m rows, of which the numbers stay in the first-level cache: columns
 * are taken in blocks of 4 registers.
 *
 * This file is compiled once per instruction set, like kernels.c; the compiler vectorises the loops
 * over columns. */
#include "updated_triangle.h"

#include <math.h>
#include <string.h>

#include "double_vectors.inc"

/* Vectors in a block of columns, whose sums stay in registers. */
enum { VECTORS = 4, BLOCK = VECTORS * LANES };
/* Squares of numbers between these neither overflow nor lose digits. */
static const double LEAST = 1e-140, MOST = 1e140;

/* The norm of (first, v), of which `square` is the sum of the squares of v. */
static double norm_of(double first, const double *v, int64_t m, double square) {
  const double norm = sqrt(first * first + square);
  if (norm > LEAST && norm < MOST) return norm;
  double largest = fabs(first), sum = 0.0;
  for (int64_t i = 0; i < m; ++i) largest = fabs(v[i]) > largest ? fabs(v[i]) : largest;
  if (!(largest > 0.0) || !isfinite(largest)) return norm;
  sum = (first / largest) * (first / largest);
  for (int64_t i = 0; i < m; ++i) sum += (v[i] / largest) * (v[i] / largest);
  return largest * sqrt(sum);
}

/* Applies a reflection to some vectors of columns of a row of R and of the rows C, `stride` apart. */
ALWAYS_INLINE void reflect(double *r, double *C, int64_t stride, const double *v, int64_t m,
                           double tau, int vectors) {
  vec w[VECTORS];
  UNROLL
  for (int k = 0; k < vectors; ++k) {
    w[k] = *(const vec *)(r + k * LANES);
  }
  for (int64_t i = 0; i < m; ++i) {
    UNROLL
    for (int k = 0; k < vectors; ++k) {
      w[k] += v[i] * *(const vec *)(C + i * stride + k * LANES);
    }
  }
  UNROLL
  for (int k = 0; k < vectors; ++k) {
    w[k] *= tau;
    *(vec *)(r + k * LANES) -= w[k];
  }
  for (int64_t i = 0; i < m; ++i) {
    UNROLL
    for (int k = 0; k < vectors; ++k) {
      *(vec *)(C + i * stride + k * LANES) -= v[i] * w[k];
    }
  }
}

/* Applies a reflection to all columns from `first` on, a multiple of LANES. */
static void reflect_all(const fastlsgd_triangle *p, double *r, double *C, const double *v,
                        int64_t m, double tau, int64_t first) {
  const int64_t stride = p->stride, end = (p->k + p->t + LANES - 1) / LANES * LANES;
  int64_t c = first;
  for (; c + BLOCK <= end; c += BLOCK) reflect(r + c, C + c, stride, v, m, tau, VECTORS);
  switch ((end - c) / LANES) {
  case 3:
    reflect(r + c, C + c, stride, v, m, tau, 3);
    break;
  case 2:
    reflect(r + c, C + c, stride, v, m, tau, 2);
    break;
  case 1:
    reflect(r + c, C + c, stride, v, m, tau, 1);
    break;
  default:
    break;
  }
}

static void update(fastlsgd_triangle *p, double *C, int64_t m, double *v) {
  for (int64_t j = 0; j < p->k; ++j) {
    double *row = p->joint + j * p->stride;
    double square = 0.0, largest = 0.0;
    for (int64_t i = 0; i < m; ++i) {
      v[i] = C[i * p->stride + j];
      C[i * p->stride + j] = 0.0;
      square += v[i] * v[i];
      if (!(fabs(v[i]) <= largest)) largest = fabs(v[i]); /* NaN stays */
    }
    if (largest == 0.0) continue;
    const double first = row[j], norm = norm_of(first, v, m, square);
    const double beta = first > 0.0 ? -norm : norm, tau = (beta - first) / beta;
    for (int64_t i = 0; i < m; ++i) v[i] /= first - beta;
    /* Up to column j all is zero, so that whole registers may be read and written. */
    row[j] = 0.0;
    reflect_all(p, row, C, v, m, tau, (j + 1) / LANES * LANES);
    row[j] = beta;
  }
}

/* x = R^-1 x. */
static void solve(const fastlsgd_triangle *p, double *x) {
  for (int64_t i = p->k - 1; i >= 0; --i) {
    const double *row = p->joint + i * p->stride;
    vec sums[VECTORS] = {{0.0}};
    double sum = x[i];
    int64_t j = i + 1;
    for (; j + BLOCK <= p->k; j += BLOCK) {
      UNROLL
      for (int k = 0; k < VECTORS; ++k) {
        sums[k] += *(const vec *)(row + j + k * LANES) * *(const vec *)(x + j + k * LANES);
      }
    }
    for (; j + LANES <= p->k; j += LANES)
      sums[0] += *(const vec *)(row + j) * *(const vec *)(x + j);
    for (; j < p->k; ++j) sum -= row[j] * x[j];
    const vec all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    for (int lane = 0; lane < LANES; ++lane) sum -= all[lane];
    x[i] = sum / row[i];
  }
}

/* x = R^-T x. */
static void solve_transposed(const fastlsgd_triangle *p, double *restrict x) {
  for (int64_t i = 0; i < p->k; ++i) {
    const double *restrict row = p->joint + i * p->stride;
    const double own = x[i] /= row[i];
    for (int64_t j = i + 1; j < p->k; ++j) x[j] -= row[j] * own;
  }
}

static void solutions(double *u, const fastlsgd_triangle *p, const fastlsgd_triangle_steps *steps,
                      double *work) {
  const int64_t k = p->k, t = p->t, size = t * k;
  double *start = work, last = 0.0;
  for (int64_t a = 0; a < t; ++a) {
    for (int64_t j = 0; j < k; ++j) start[a * k + j] = p->joint[j * p->stride + k + a];
    solve(p, start + a * k);
  }
  memcpy(u, start, (size_t)size * sizeof *u);
  for (int64_t step = 0; step < steps->most_steps && steps->rest > 0.0; ++step) {
    double moved = 0.0, largest = 0.0;
    for (int64_t a = 0; a < t; ++a) {
      double *x = work + size, *own = u + a * k;
      for (int64_t j = 0; j < k; ++j) x[j] = steps->rest * own[j];
      if (steps->has_intercept) x[0] = 0.0;
      solve_transposed(p, x);
      solve(p, x);
      for (int64_t j = 0; j < k; ++j) {
        const double after = start[a * k + j] - x[j];
        const double change = steps->size[j] * fabs(after - own[j]);
        const double now = steps->size[j] * fabs(after);
        moved = change > moved ? change : moved;
        largest = now > largest ? now : largest;
        own[j] = after;
      }
    }
    /* Steps shrink at least as fast from here on as they did so far. */
    const double following = last > 0.0 ? moved * fmin(moved / last, 1.0) : moved;
    if (following <= steps->tolerance * largest) break;
    last = moved;
  }
}

extern const fastlsgd_triangle_table PASTE(fastlsgd_triangle_functions, ISA);
const fastlsgd_triangle_table PASTE(fastlsgd_triangle_functions, ISA) = {update, solutions};
