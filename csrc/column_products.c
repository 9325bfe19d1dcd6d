/* sum_i s_i x_ib x_ia of CSR rows, for columns a of a set and those columns b that are new in it.
 *
 * Rows are read in order, and each adds the products of its numbers to the rows of `out` that they
 * belong to. Cost: for a row with m numbers in the set, of which m' are new, m m' additions, which
 * find one row of `out` at a time in cache. SciPy's sparse product reads X by columns instead,
 * whose rows are then everywhere in memory, and takes five times as long.
 */
#include "column_products.h"

#include <stdlib.h>

static inline int64_t index_of(const void *indices, int bytes, int64_t q) {
  return bytes == 4 ? ((const int32_t *)indices)[q] : ((const int64_t *)indices)[q];
}

static inline double number_of(const fastlsgd_matrix *X, int64_t q) {
  return X->dtype == FASTLSGD_F32 ? ((const float *)X->data)[q] : ((const double *)X->data)[q];
}

int fastlsgd_column_products(double *out, const fastlsgd_matrix *X, const double *s,
                             const int64_t *place, int64_t k, int64_t first) {
  /* One more, since each number is written before it is known whether it counts. */
  int64_t *where = malloc((size_t)(k + 1) * sizeof *where);
  double *value = malloc((size_t)(k + 1) * sizeof *value);
  const int failed = !where || !value;
  for (int64_t i = 0; i < X->n_rows && !failed; ++i) {
    const int64_t end = index_of(X->indptr, X->index_bytes, i + 1);
    int64_t m = 0;
    for (int64_t q = index_of(X->indptr, X->index_bytes, i); q < end; ++q) {
      const int64_t at = place[index_of(X->indices, X->index_bytes, q)];
      where[m] = at;
      value[m] = number_of(X, q);
      m += at >= 0;
    }
    for (int64_t b = 0; b < m; ++b) {
      if (where[b] < first) continue;
      double *row = out + (where[b] - first) * k;
      const double scaled = s ? s[i] * value[b] : value[b];
      for (int64_t a = 0; a < m; ++a) row[where[a]] += scaled * value[a];
    }
  }
  free(where);
  free(value);
  return failed ? FASTLSGD_NO_MEMORY : FASTLSGD_OK;
}
