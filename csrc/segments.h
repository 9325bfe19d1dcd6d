/* Least squares of many segments of rows: in the extension module alone, not in the library.
 *
 * Arguments are trusted, as contract.py describes them: dense X, and one target. */
#ifndef FASTLSGD_SEGMENTS_H
#define FASTLSGD_SEGMENTS_H

#include "fastlsgd.h"

/* Ranges of rows, each of which has a regression of its own; contract.py defines each field. */
typedef struct {
  const int64_t *order; /* (n_positions,) row numbers, or NULL for 0, 1, ... */
  int64_t n_positions;
  const int64_t *start, *stop; /* (n_segments,) positions, neither ever decreasing */
  int64_t n_segments, min_rows;
  int fit_intercept, skip_nan;
  const double *penalty; /* (d,) or NULL for zeros */
  const double *decay;   /* (n_positions,) or NULL for ones */
  const double *initial; /* (d + 2, d + 2) or NULL for zeros */
  int robust;            /* of fastlsgd_segment_errors */
} fastlsgd_segments;

typedef enum {
  FASTLSGD_SEGMENT_CLASSICAL,
  FASTLSGD_SEGMENT_HC0,
  FASTLSGD_SEGMENT_HC2,
  FASTLSGD_SEGMENT_HC3
} fastlsgd_segment_errors;

typedef enum {
  FASTLSGD_SEGMENT_FITTED,
  FASTLSGD_SEGMENT_SHORT,
  FASTLSGD_SEGMENT_SINGULAR,
  FASTLSGD_SEGMENT_OUT_OF_RANGE
} fastlsgd_segment_status;

/* What is known of each segment; NaN where it has no fit. */
typedef struct {
  double *coef;                      /* (n_segments, d) */
  double *intercept;                 /* (n_segments,) */
  int64_t *n_rows;                   /* (n_segments,) */
  double *weight, *residual, *total; /* (n_segments,) */
  double *inverse; /* (n_segments, d + 1), the intercept's last; or NULL if it isn't asked for */
  double *robust;  /* the same, NULL for classical errors */
  signed char *status; /* (n_segments,) of fastlsgd_segment_status */
} fastlsgd_segment_fits;

/* Allocates for each thread a block of 128 KB, or 16 rows, and 8 bytes x m^2 x 3 lanes, m = d + 2.
 */
int fastlsgd_fit_segments(fastlsgd_segment_fits *out, const fastlsgd_matrix *X,
                          const fastlsgd_targets *y, const void *sample_weight,
                          const fastlsgd_segments *segments, int n_threads);

typedef int (*fastlsgd_fit_of_segments)(fastlsgd_segment_fits *, const fastlsgd_matrix *,
                                        const fastlsgd_targets *, const void *,
                                        const fastlsgd_segments *, int);

/* By the dtypes of X and y. */
typedef fastlsgd_fit_of_segments fastlsgd_segments_table[2][2];

#endif
