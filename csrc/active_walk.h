/* From active set to active set on a small quadratic: in the extension module alone. */
#ifndef FASTLSGD_ACTIVE_WALK_H
#define FASTLSGD_ACTIVE_WALK_H

#include "coordinate_descent.h"

/* Where a walk is: weights, and the columns that may have weights with the factor of their products.
 * Others that have weights join first, a step each. */
typedef struct {
  double *w, *sign;    /* (k,), (k,): the signs of weights in the set, and 0 outside */
  const double *c;     /* (k,): H w = c without a penalty */
  const double *unit;  /* (k,): of a violation of optimality */
  const double *scale; /* (k,): D, which makes the diagonal of H + l2 one; 0: no weight */
  double *R;           /* (most, most): R^T R = D (H + l2) D of the set, the upper triangle */
  int64_t *set;        /* (most,): columns, in the order of R */
  int64_t size, most;
} fastlsgd_walk;

typedef enum {
  FASTLSGD_WALK_GOES_ON,
  FASTLSGD_WALK_IS_AT_END, /* no column violates optimality by more than `tol` units, or rounding */
  FASTLSGD_WALK_FAILS,     /* rounding keeps J from falling */
} fastlsgd_walk_status;

/* Makes at most so many steps, and returns how many; *status is -1 without memory. */
int64_t fastlsgd_walk_sets(fastlsgd_walk *walk, const fastlsgd_quadratic *problem, double tol,
                           int64_t most_steps, int *status);

typedef int64_t (*fastlsgd_walk_function)(fastlsgd_walk *, const fastlsgd_quadratic *, double,
                                          int64_t, int *);

#endif
