/* Least squares of many small problems in one call: in the extension module alone, not in the
 * library. */
#ifndef FASTLSGD_SMALL_BATCH_H
#define FASTLSGD_SMALL_BATCH_H

#include "small_least_squares.h"

/* Problem p is min |A x - b|^2 with A = X and b = y, both moved by p times their stride. */
typedef struct {
  fastlsgd_matrix X;  /* dense */
  fastlsgd_targets y; /* of X's dtype */
  int64_t X_stride, y_stride;
  int64_t n_problems;
} fastlsgd_batch;

/* x (n_problems, t, d) receives solutions, of least norm where n < d; those of problem p mean
 * something only where solved[p] is 1. 0 stands for a problem that is out of the ordinary.
 * Allocates for each thread 8 bytes x (n d + 4 m^2), m = min(n, d) + t + 1. -1 without memory,
 * else 0. */
int fastlsgd_solve_small_batch(double *x, signed char *solved, const fastlsgd_batch *batch,
                               const fastlsgd_ordinary *ordinary, const fastlsgd_small_goal *goal,
                               int n_threads);

#endif
