/* L1 penalties and signs on few numbers in one call: in the extension module alone. */
#ifndef FASTLSGD_SMALL_LASSO_H
#define FASTLSGD_SMALL_LASSO_H

#include "small_moments.h"

typedef struct {
  const double *l1, *l2; /* (k,): of J, the mean over rows */
  int64_t k;
  int positive;
  double most_condition; /* of the scaled columns whose weights are not zero */
} fastlsgd_small_penalties;

/* What is found for each of the k penalties; all arrays are C-contiguous. */
typedef struct {
  double *coef, *intercept; /* (k, t, d), (k, t) */
  double *gradient;         /* (k, t, d) of the loss about the mean */
  double *squares;          /* (k, t): the mean of r^2 */
  double *condition;        /* (k,) */
  int64_t *n_solves;        /* (k,) */
  double *slope, *size; /* (t, d), (d,): minus the gradient at zero, root mean squares of columns */
  double *centre, *y_centre; /* (d,), (t,) */
  double *variance;          /* (t,) */
  double weight;
} fastlsgd_small_lasso_fit;

/* Minimises J = 1/(2 S) |A w - y|^2 + l1 |w|_1 + l2/2 |w|^2, A the rows about their mean, for each
 * penalty. 1 if all are solved, 0 if the problem is out of the ordinary, -1 without memory. X is
 * dense. Allocates X in float64 if it is float32, and 8 bytes x 5 (d + t + 2)^2. */
int fastlsgd_small_lasso(fastlsgd_small_lasso_fit *out, const fastlsgd_matrix *X,
                         const fastlsgd_targets *y, const void *sample_weight, int fit_intercept,
                         const fastlsgd_ordinary *ordinary,
                         const fastlsgd_small_penalties *penalties);

#endif
