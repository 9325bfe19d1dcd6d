/* Weights moved along the rows of X: in the extension module alone, not in the library. */
#ifndef FASTLSGD_MOVED_WEIGHTS_H
#define FASTLSGD_MOVED_WEIGHTS_H

#include "fastlsgd.h"

/* coef (t, d) += (X - 1 c^T)^T u, and then out (n, t) += X coef^T, where the numbers of X in a row lie
 * together. The weights of constant columns become zero. */
typedef struct {
  const double *u;      /* (n, t) */
  const double *total;  /* (t,): the sums of u */
  const double *centre; /* (d,): c */
  const int64_t *constant;
  int64_t n_constant; /* columns, in ascending order */
  double *coef;
  int64_t t, coef_stride; /* from the weights of one target to those of the next */
  double *out;
} fastlsgd_move;

/* 0, or -1 without memory. */
int fastlsgd_move_weights(const fastlsgd_matrix *X, const fastlsgd_move *move);

typedef int (*fastlsgd_move_function)(const fastlsgd_matrix *, const fastlsgd_move *);

#endif
