/* Numbers that sums over rows hide beside others: in the extension module alone, not in the library. */
#ifndef FASTLSGD_LIGHT_ROWS_H
#define FASTLSGD_LIGHT_ROWS_H

#include "fastlsgd.h"

/* A sample of the rows, and what counts as hidden in it; solvers/light_rows.py has the numbers. */
typedef struct {
  const int64_t *rows; /* (n_rows,) */
  int64_t n_rows;
  double share; /* of a column's root mean square: smaller numbers are hidden by it */
  int64_t few;  /* of so many numbers, one may be hidden */
} fastlsgd_row_sample;

/* Whether sums hide more than a few numbers of a column in the sample, where `size` (d,) has the root
 * mean squares of the columns and `weight` is the sum of the weights. Numbers are those of the rows
 * or, where sums are centred, by how much successive rows of the sample differ. X is dense. */
int fastlsgd_hides_numbers(const fastlsgd_matrix *X, const void *sample_weight,
                           fastlsgd_dtype weight_dtype, const fastlsgd_row_sample *sample,
                           const double *size, double weight, int centred);

typedef int (*fastlsgd_hides_function)(const fastlsgd_matrix *, const void *, fastlsgd_dtype,
                                       const fastlsgd_row_sample *, const double *, double, int);

#endif
