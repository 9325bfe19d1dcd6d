/* Products of CSR rows with a few vectors: in the extension module alone, not in the library. */
#ifndef FASTLSGD_ROW_PRODUCTS_H
#define FASTLSGD_ROW_PRODUCTS_H

#include "fastlsgd.h"

/* z (d, w) = X^T u^T for t <= w vectors u (t, n), of CSR rows X (n, d). w is 1, 2, 4 or 8; what is
 * beyond t is zero. */
void fastlsgd_row_sums(double *z, const fastlsgd_matrix *X, const double *u, int64_t t, int64_t w);

/* out (t, n) = (X z)^T, for the same z. */
void fastlsgd_row_dots(double *out, const fastlsgd_matrix *X, const double *z, int64_t t,
                       int64_t w);

typedef struct {
  void (*sums)(double *, const fastlsgd_matrix *, const double *, int64_t, int64_t);
  void (*dots)(double *, const fastlsgd_matrix *, const double *, int64_t, int64_t);
} fastlsgd_row_kernels;

#endif
