/* Coordinate descent on a small quadratic: in the extension module alone, not in the library. */
#ifndef FASTLSGD_COORDINATE_DESCENT_H
#define FASTLSGD_COORDINATE_DESCENT_H

#include <stdint.h>

/* 1/2 w^T H w - c^T w + l1 |w|_1 + l2/2 |w|^2, and w >= 0 where `positive`. */
typedef struct {
  const double *H; /* (k, k), symmetric */
  int64_t k, row_stride;
  double l1, l2;
  int positive;
} fastlsgd_quadratic;

/* Visits all coordinates in turn, at most `n_epochs` times, until no step of an epoch changes its
 * own gradient by more than `tol`. w (k,) and q (k,) = H w - c are updated in place. Returns the
 * number of epochs. */
int64_t fastlsgd_coordinate_descent(double *w, double *q, const fastlsgd_quadratic *problem,
                                    double tol, int64_t n_epochs);

/* 1/(2 S) |A w - y|^2 + offset^T w + l1 |w|_1 + l2/2 |w|^2, and w >= 0 where `positive`. */
typedef struct {
  const float *A;       /* (k, n): columns */
  const double *offset; /* (k,), or NULL for zeros */
  int64_t k, n;
  double weight, l1, l2; /* S */
  int positive;
} fastlsgd_columns;

/* The same from the columns, in products of floats. w (k,) and r (n,) = A w - y are updated in place.
 * Returns -1 without memory for 4 k numbers. */
int64_t fastlsgd_column_descent(double *w, float *r, const fastlsgd_columns *problem, double tol,
                                int64_t n_epochs);

/* These functions for one instruction set. */
typedef struct {
  int64_t (*on_products)(double *, double *, const fastlsgd_quadratic *, double, int64_t);
  int64_t (*on_columns)(double *, float *, const fastlsgd_columns *, double, int64_t);
} fastlsgd_descents;

#endif
