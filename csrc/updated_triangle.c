/* Rows added to a triangular factor by Householder reflections, and its solutions.
 *
 * Reflection j makes column j of the rows zero (Golub and Van Loan 2013, section 6.5, as LAPACK's
 * dtpqrt does): with v the column over R_jj - beta, each later column c loses tau v (R_jc + v . c).
 * 2 m (k - j) multiply-adds for m rows, of which the numbers stay in the first-level cache: columns
 * are taken in blocks of some registers. Four reflections are made at a time, so that a number of
 * the rows is loaded and stored once for all of them, which halves the time: the products of their
 * v say what each would have seen after those before it.
 *
 * This file is compiled once per instruction set, like kernels.c; the compiler vectorises the loops
 * over columns. */
#include "updated_triangle.h"

#include <math.h>
#include <string.h>

#include "double_vectors.inc"

/* Reflections that are made at a time. */
enum { PANEL = 4 };
/* Vectors in a block of columns, whose sums for all reflections stay in registers. Panels of 6 or 8
 * columns and blocks of 4 vectors were no quicker. */
enum { VECTORS = 2, BLOCK = VECTORS * LANES };
/* Rows of a triangle that a solution takes at a time: whole cache lines, and whole registers. */
enum { SOLVED = 8 };
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

/* Reflections, each of a row of R and of the rows C below. */
typedef struct {
  double v[PANEL][FASTLSGD_ROWS];       /* padded with zeros */
  double by_row[FASTLSGD_ROWS * PANEL]; /* the same, for each row those of all reflections */
  double products[PANEL][PANEL];        /* v_a . v_b for b < a */
  double tau[PANEL];
  double R[PANEL][PANEL]; /* the part of R in the columns that become zero */
} panel;

/* Applies reflections to some vectors of columns of their rows of R and of the rows C. */
ALWAYS_INLINE void reflect(double *r, double *C, int64_t stride, const panel *p, int64_t m,
                           int count, int vectors) {
  vec w[PANEL][VECTORS];
  UNROLL
  for (int a = 0; a < count; ++a) {
    UNROLL
    for (int k = 0; k < vectors; ++k) w[a][k] = *(const vec *)(r + a * stride + k * LANES);
  }
  for (int64_t i = 0; i < m; ++i) {
    UNROLL
    for (int k = 0; k < vectors; ++k) {
      const vec c = *(const vec *)(C + i * stride + k * LANES);
      UNROLL
      for (int a = 0; a < count; ++a) w[a][k] += p->by_row[i * PANEL + a] * c;
    }
  }
  UNROLL
  for (int a = 0; a < count; ++a) {
    UNROLL
    for (int k = 0; k < vectors; ++k) {
      UNROLL
      for (int b = 0; b < a; ++b) w[a][k] -= p->products[a][b] * w[b][k];
      w[a][k] *= p->tau[a];
      *(vec *)(r + a * stride + k * LANES) -= w[a][k];
    }
  }
  for (int64_t i = 0; i < m; ++i) {
    UNROLL
    for (int k = 0; k < vectors; ++k) {
      vec c = *(const vec *)(C + i * stride + k * LANES);
      UNROLL
      for (int a = 0; a < count; ++a) c -= p->by_row[i * PANEL + a] * w[a][k];
      *(vec *)(C + i * stride + k * LANES) = c;
    }
  }
}

/* Applies reflections to all columns from `first` on, a multiple of LANES. */
ALWAYS_INLINE void reflect_all(const fastlsgd_triangle *t, double *r, double *C, const panel *p,
                               int64_t m, int count, int64_t first) {
  const int64_t stride = t->stride, end = (t->k + t->t + LANES - 1) / LANES * LANES;
  int64_t c = first;
  for (; c + BLOCK <= end; c += BLOCK) reflect(r + c, C + c, stride, p, m, count, VECTORS);
  for (; c < end; c += LANES) reflect(r + c, C + c, stride, p, m, count, 1);
}

/* Finds reflection a of a panel, whose column has gone through those before it, and applies it to
 * the panel's other columns. `padded` is m, up to a multiple of LANES. */
static void find(panel *p, int a, int count, int64_t m, int64_t padded) {
  double *v = p->v[a], largest = 0.0;
  for (int64_t i = 0; i < m; ++i) {
    if (!(fabs(v[i]) <= largest)) largest = fabs(v[i]); /* NaN stays */
  }
  p->tau[a] = 0.0;
  if (largest != 0.0) {
    const double first = p->R[a][a], norm = norm_of(first, v, m, dot(v, v, padded));
    const double beta = first > 0.0 ? -norm : norm, unit = first - beta;
    p->tau[a] = (beta - first) / beta;
    p->R[a][a] = beta;
    for (int64_t i = 0; i < m; ++i) v[i] /= unit;
    for (int b = a + 1; b < count; ++b) {
      const double w = p->tau[a] * (p->R[a][b] + dot(v, p->v[b], padded));
      p->R[a][b] -= w;
      add(p->v[b], -w, v, padded);
    }
  }
  for (int b = 0; b < a; ++b) p->products[a][b] = dot(v, p->v[b], padded);
  for (int64_t i = 0; i < m; ++i) p->by_row[i * PANEL + a] = v[i];
}

/* Makes reflections j to j + count - 1. */
ALWAYS_INLINE void reflect_panel(fastlsgd_triangle *t, double *C, int64_t m, int64_t j, int count) {
  const int64_t stride = t->stride, padded = (m + LANES - 1) / LANES * LANES;
  double *rows = t->joint + j * stride;
  panel p;
  for (int a = 0; a < count; ++a) {
    for (int64_t i = m; i < padded; ++i) p.v[a][i] = 0.0;
    for (int64_t i = 0; i < m; ++i) {
      p.v[a][i] = C[i * stride + j + a];
      C[i * stride + j + a] = 0.0;
    }
    /* Up to the last of these columns all is zero, so that whole registers may be read and written. */
    for (int b = 0; b < count; ++b) {
      p.R[a][b] = rows[a * stride + j + b];
      rows[a * stride + j + b] = 0.0;
    }
  }
  for (int a = 0; a < count; ++a) find(&p, a, count, m, padded);
  reflect_all(t, rows, C, &p, m, count, (j + count) / LANES * LANES);
  for (int a = 0; a < count; ++a) {
    for (int b = a; b < count; ++b) rows[a * stride + j + b] = p.R[a][b];
  }
}

static void update(fastlsgd_triangle *t, double *C, int64_t m) {
  int64_t j = 0;
  for (; j + PANEL <= t->k; j += PANEL) reflect_panel(t, C, m, j, PANEL);
  for (; j < t->k; ++j) reflect_panel(t, C, m, j, 1);
}

/* x = R^-1 x. */
static void solve(const fastlsgd_triangle *p, double *x) {
  const int64_t k = p->k, stride = p->stride, whole = k / SOLVED * SOLVED;
  for (int64_t i = k - 1; i >= whole; --i) {
    const double *row = p->joint + i * stride;
    for (int64_t j = i + 1; j < k; ++j) x[i] -= row[j] * x[j];
    x[i] /= row[i];
  }
  for (int64_t first = whole - SOLVED; first >= 0; first -= SOLVED) {
    const double *rows = p->joint + first * stride;
    vec sums[SOLVED] = {{0.0}};
    for (int64_t j = first + SOLVED; j < whole; j += LANES) {
      const vec known = *(const vec *)(x + j);
      UNROLL
      for (int a = 0; a < SOLVED; ++a) sums[a] += *(const vec *)(rows + a * stride + j) * known;
    }
    for (int a = SOLVED - 1; a >= 0; --a) {
      const double *row = rows + a * stride;
      double left = x[first + a] - sum_of(sums[a]);
      for (int64_t j = whole; j < k; ++j) left -= row[j] * x[j];
      for (int64_t j = first + a + 1; j < first + SOLVED; ++j) left -= row[j] * x[j];
      x[first + a] = left / row[first + a];
    }
  }
}

/* x = R^-T x. */
static void solve_transposed(const fastlsgd_triangle *p, double *restrict x) {
  const int64_t k = p->k, stride = p->stride, whole = k / SOLVED * SOLVED;
  for (int64_t first = 0; first < whole; first += SOLVED) {
    const double *restrict rows = p->joint + first * stride;
    double own[SOLVED];
    for (int a = 0; a < SOLVED; ++a) {
      double left = x[first + a];
      for (int b = 0; b < a; ++b) left -= rows[b * stride + first + a] * own[b];
      x[first + a] = own[a] = left / rows[a * stride + first + a];
    }
    for (int64_t j = first + SOLVED; j < whole; j += LANES) {
      vec left = *(const vec *)(x + j);
      UNROLL
      for (int a = 0; a < SOLVED; ++a) left -= own[a] * *(const vec *)(rows + a * stride + j);
      *(vec *)(x + j) = left;
    }
    for (int64_t j = whole; j < k; ++j) {
      for (int a = 0; a < SOLVED; ++a) x[j] -= rows[a * stride + j] * own[a];
    }
  }
  for (int64_t i = whole; i < k; ++i) {
    x[i] /= p->joint[i * stride + i];
    for (int64_t j = i + 1; j < k; ++j) x[j] -= p->joint[i * stride + j] * x[i];
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
