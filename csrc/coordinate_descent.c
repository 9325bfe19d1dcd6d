/* Coordinate descent on 1/2 w^T H w - c^T w + l1 |w|_1 + l2/2 |w|^2, and w >= 0 where `positive`.
 *
 * A step minimises over one weight exactly (Friedman, Hastie and Tibshirani 2010, J. Stat. Softw.
 * 33(1)), and adds its row of H to the gradient q = H w - c: 2 k flops where the weight moves, and
 * a few where it stays at zero.
 *
 * With as many columns as rows, H = A^T A / S costs more than all steps. On the columns of A
 * themselves, a step takes 4 n flops: a product with the residual r = A w - y, and its update. These
 * products are made of four columns at once, as if none of them moved, and the products among the
 * four correct those of the later ones: the same steps, but none waits for the residual.
 *
 * This file is compiled once per instruction set, like kernels.c; the compiler vectorises the loop
 * over k.
 */
#include "coordinate_descent.h"

#include <math.h>
#include <stdlib.h>

#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

/* A register of floats, anywhere in memory. */
typedef float vec __attribute__((vector_size(VBYTES), aligned(4), may_alias));
enum { LANES = VBYTES / 4 };

/* The w that minimises l1 |w| + (diagonal + l2) / 2 w^2 - u w. */
static double threshold(double u, double l1, double curvature, int positive) {
  const double size = fabs(u) - l1;
  if (size <= 0.0 || (positive && u < 0.0)) return 0.0;
  return copysign(size / curvature, u);
}

static int64_t descend(double *restrict w, double *restrict q, const fastlsgd_quadratic *p,
                       double tol, int64_t n_epochs) {
  const int64_t k = p->k;
  for (int64_t epoch = 1; epoch <= n_epochs; ++epoch) {
    double largest = 0.0;
    for (int64_t j = 0; j < k; ++j) {
      const double *restrict row = p->H + j * p->row_stride;
      const double diagonal = row[j];
      if (!(diagonal > 0.0)) continue;
      const double u = w[j] * diagonal - q[j];
      const double step = threshold(u, p->l1, diagonal + p->l2, p->positive) - w[j];
      if (step == 0.0) continue;
      w[j] += step;
      for (int64_t i = 0; i < k; ++i) q[i] += step * row[i];
      const double change = fabs(step) * (diagonal + p->l2);
      largest = change > largest ? change : largest;
    }
    if (largest <= tol) return epoch;
  }
  return n_epochs;
}

/* ------------------------------------------------------------------------------- on columns */

/* The products of x with four columns, which share what is loaded of x. */
static void dot_four(double *out, const float *x, const float *const *columns, int64_t n) {
  vec sums[4][2] = {{{0.0f}}};
  int64_t i = 0;
  for (; i + 2 * LANES <= n; i += 2 * LANES) {
    const vec first = *(const vec *)(x + i), second = *(const vec *)(x + i + LANES);
    UNROLL
    for (int c = 0; c < 4; ++c) {
      sums[c][0] += first * *(const vec *)(columns[c] + i);
      sums[c][1] += second * *(const vec *)(columns[c] + i + LANES);
    }
  }
  for (int c = 0; c < 4; ++c) {
    const vec both = sums[c][0] + sums[c][1];
    float part[LANES];
    for (int lane = 0; lane < LANES; ++lane) part[lane] = both[lane];
    for (int half = LANES / 2; half; half /= 2)
      for (int lane = 0; lane < half; ++lane) part[lane] += part[lane + half];
    out[c] = part[0];
    for (int64_t k = i; k < n; ++k) out[c] += x[k] * columns[c][k];
  }
}

/* r += the sum of four columns times their steps. */
static void add_four(float *restrict r, const double *steps, const float *const *columns,
                     int64_t n) {
  const float *a = columns[0], *b = columns[1], *c = columns[2], *e = columns[3];
  const float of_a = (float)steps[0], of_b = (float)steps[1], of_c = (float)steps[2],
              of_e = (float)steps[3];
  for (int64_t i = 0; i < n; ++i) r[i] += (of_a * a[i] + of_b * b[i]) + (of_c * c[i] + of_e * e[i]);
}

/* Four columns from number j on; the last is repeated where there are fewer. */
static void columns_of(const fastlsgd_columns *p, int64_t j, const float **columns) {
  for (int64_t c = 0; c < 4; ++c) columns[c] = p->A + (j + c < p->k ? j + c : p->k - 1) * p->n;
}

/* A visit of columns j to j + 3, whose products among each other are H (4, 4). Returns by how much
 * a step changes its own gradient at most. */
static double visit_four(const fastlsgd_columns *p, double *w, float *r, int64_t j,
                         const double *H) {
  const float *x[4];
  double q[4], steps[4] = {0.0}, largest = 0.0;
  columns_of(p, j, x);
  dot_four(q, r, x, p->n);
  for (int64_t c = 0; c < 4 && j + c < p->k; ++c) {
    const double diagonal = H[5 * c];
    if (!(diagonal > 0.0)) continue;
    double u = w[j + c] * diagonal - q[c] / p->weight - (p->offset ? p->offset[j + c] : 0.0);
    for (int64_t e = 0; e < c; ++e) u -= steps[e] * H[4 * c + e];
    const double to = threshold(u, p->l1, diagonal + p->l2, p->positive);
    steps[c] = to - w[j + c], w[j + c] = to;
    const double change = fabs(steps[c]) * (diagonal + p->l2);
    largest = change > largest ? change : largest;
  }
  if (largest > 0.0) add_four(r, steps, x, p->n);
  return largest;
}

static int64_t descend_columns(double *w, float *r, const fastlsgd_columns *p, double tol,
                               int64_t n_epochs) {
  const int64_t k = p->k;
  double *const H = malloc((size_t)(k + 4) * 4 * sizeof *H); /* (k, 4) */
  if (!H) return -1;
  for (int64_t j = 0; j < k; j += 4) {
    const float *x[4];
    columns_of(p, j, x);
    for (int c = 0; c < 4; ++c) dot_four(H + 4 * (j + c), x[c], x, p->n);
    for (int c = 0; c < 16; ++c) H[4 * j + c] /= p->weight;
  }
  int64_t epoch = 0;
  double largest = INFINITY;
  while (epoch < n_epochs && largest > tol) {
    ++epoch, largest = 0.0;
    for (int64_t j = 0; j < k; j += 4) largest = fmax(largest, visit_four(p, w, r, j, H + 4 * j));
  }
  free(H);
  return epoch;
}

extern const fastlsgd_descents PASTE(fastlsgd_descent_functions, ISA);
const fastlsgd_descents PASTE(fastlsgd_descent_functions, ISA) = {descend, descend_columns};
