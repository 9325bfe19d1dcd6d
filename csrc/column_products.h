/* Products of some columns of CSR rows: in the extension module alone, not in the library. */
#ifndef FASTLSGD_COLUMN_PRODUCTS_H
#define FASTLSGD_COLUMN_PRODUCTS_H

#include "fastlsgd.h"

/* Adds sum_i s_i x_ib x_ia to out (k - first, k) for columns of places a < k and first <= b < k.
 * X is CSR; place (d,) is -1 for columns that are left out; s (n,) is NULL for ones. */
int fastlsgd_column_products(double *out, const fastlsgd_matrix *X, const double *s,
                             const int64_t *place, int64_t k, int64_t first);

#endif
