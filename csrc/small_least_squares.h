/* Least squares of few numbers in one call: in the extension module alone, not in the library. */
#ifndef FASTLSGD_SMALL_LEAST_SQUARES_H
#define FASTLSGD_SMALL_LEAST_SQUARES_H

#include "small_moments.h"

/* How far to descend; solvers/small.py has the numbers. */
typedef struct {
  double most_condition, sharp, safety, rounding;
  int64_t most_corrections;
  double tol;
  int certify;
} fastlsgd_small_goal;

/* What is found for each of the k penalties; all arrays are C-contiguous. */
typedef struct {
  double *coef, *intercept, *residual; /* (k, t, d), (k, t), (k, t): sum s r^2 */
  double *upper, *scale;               /* (k, d, d), (k, d): R of the scaled columns */
  double *centre;                      /* (d,) */
  double *losses;                      /* (k, most_corrections) */
  double *condition, *ratio;           /* (k,) */
  int64_t *n_iter;                     /* (k,) */
} fastlsgd_small_fit;

/* 1 if all penalties alphas (k,) are solved, 0 if the problem is out of the ordinary and the results
 * mean nothing, -1 without memory. X is dense. Allocates X in float64 if it is float32, and
 * 8 bytes x 2 (d + t + 2)^2. */
int fastlsgd_small_least_squares(fastlsgd_small_fit *out, const fastlsgd_matrix *X,
                                 const fastlsgd_targets *y, const void *sample_weight,
                                 const double *alphas, int64_t k, int fit_intercept,
                                 const fastlsgd_ordinary *ordinary,
                                 const fastlsgd_small_goal *goal);

/* x (d, t) of X's dtype: the weights for one penalty and no intercept, as above. 0 also where one of
 * them is not finite, or less than the least normal number of that dtype. */
int fastlsgd_small_weights(void *x, const fastlsgd_matrix *X, const fastlsgd_targets *y,
                           const void *sample_weight, double alpha,
                           const fastlsgd_ordinary *ordinary, const fastlsgd_small_goal *goal);

#endif
