/* What problems of few numbers share: moments about the mean, and small triangular factors. In the
 * extension module alone, not in the library. */
#ifndef FASTLSGD_SMALL_MOMENTS_H
#define FASTLSGD_SMALL_MOMENTS_H

#include <stdint.h>

#include "fastlsgd.h"

/* What counts as ordinary; solvers/small.py has the numbers. */
typedef struct {
  double least_square, most_square; /* of columns and targets */
  double far;                       /* the mean of a target, in its standard deviations */
  double noise;                     /* the least deviation of a column, relative to its mean */
} fastlsgd_ordinary;

/* A problem, of which X is float64, and its moments about the mean (or zero). */
typedef struct {
  fastlsgd_matrix X;
  const fastlsgd_targets *y;
  const void *s; /* sample weights of y's dtype, or NULL */
  int64_t n, d, t, m;
  int centred;
  double weight;
  double *gram;      /* (m, m) of [x, y, 1]; its last row and column are about the first origin */
  double *centre;    /* (d,) */
  double *y_centre;  /* (t,) */
  double *y_squares; /* (t,), about zero */
  double *work;      /* as many numbers as were asked for */
  double *memory;    /* all of the above, and X in float64 if it is not */
} fastlsgd_moments;

/* Fills p; the caller frees p->memory in any case. 1 if all is well, 0 if a column or a target is
 * out of the ordinary, -1 without memory. */
int fastlsgd_take_moments(fastlsgd_moments *p, const fastlsgd_matrix *X, const fastlsgd_targets *y,
                          const void *sample_weight, int fit_intercept, int64_t n_work,
                          const fastlsgd_ordinary *ordinary);

/* R (d, d) with R^T R = D (G + alpha I) D, where D, in `scale`, makes the diagonal 1. G has rows of
 * this stride, of which the upper triangle is read. Returns 0 if that is not definite. */
int fastlsgd_factorise(const double *G, int64_t stride, int64_t d, double alpha, double *R,
                       double *scale);

/* T = R^-1; zeros below the diagonal. */
void fastlsgd_invert(const double *R, int64_t d, double *T);

/* The condition of R in the 1-norm, as LAPACK estimates it, from T = R^-1; work is (2, d). */
double fastlsgd_condition(const double *R, const double *T, int64_t d, double *work);

/* The root of the condition of D (G + alpha I) D in the 1-norm, which is near that of the columns
 * whose products G (d, d) has in its upper triangle; T is the inverse of its factor. */
double fastlsgd_set_condition(const double *G, const double *scale, const double *T, int64_t d,
                              double alpha);

/* These functions for one instruction set. */
typedef struct {
  int (*take_moments)(fastlsgd_moments *, const fastlsgd_matrix *, const fastlsgd_targets *,
                      const void *, int, int64_t, const fastlsgd_ordinary *);
  int (*factorise)(const double *, int64_t, int64_t, double, double *, double *);
  void (*invert)(const double *, int64_t, double *);
  double (*condition)(const double *, const double *, int64_t, double *);
  double (*set_condition)(const double *, const double *, const double *, int64_t, double);
} fastlsgd_moments_table;

#endif
