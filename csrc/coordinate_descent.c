/* Coordinate descent on 1/2 w^T H w - c^T w + l1 |w|_1 + l2/2 |w|^2, and w >= 0 where `positive`.
 *
 * A step minimises over one weight exactly (Friedman, Hastie and Tibshirani 2010, J. Stat. Softw.
 * 33(1)), and adds its row of H to the gradient q = H w - c: 2 k flops where the weight moves, and
 * a few where it stays at zero.
 *
 * This file is compiled once per instruction set, like kernels.c; the compiler vectorises the loop
 * over k.
 */
#include "coordinate_descent.h"

#include <math.h>

#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)

/* The w_j that minimises for gradient q_j of the loss at w_j = w. */
static double minimum(const fastlsgd_quadratic *p, double w, double q, double diagonal) {
  const double u = w * diagonal - q, size = fabs(u) - p->l1;
  if (size <= 0.0 || (p->positive && u < 0.0)) return 0.0;
  return copysign(size / (diagonal + p->l2), u);
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
      const double step = minimum(p, w[j], q[j], diagonal) - w[j];
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

extern const fastlsgd_descent PASTE(fastlsgd_descent_functions, ISA);
const fastlsgd_descent PASTE(fastlsgd_descent_functions, ISA) = descend;
