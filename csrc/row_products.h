/* Products of CSR rows with a few vectors: in the extension module alone, not in the library. */
#ifndef FASTLSGD_ROW_PRODUCTS_H
#define FASTLSGD_ROW_PRODUCTS_H

#include "fastlsgd.h"

/* z (d, w) = X^T u^T for t <= w vectors u (t, n), of CSR rows X (n, d). w is 1, 2, 4 or 8; what is
 * beyond t is zero. */
void fastlsgd_row_sums(double *z, const fastlsgd_matrix *X, const double *u, int64_t t, int64_t w);

/* out (t, n) = (X z)^T, for the same z. */
void fastlsgd_row_dots(double *out, const fastlsgd_matrix *X, const double *z, int64_t t,
                       int64_t w);

/* Conjugate gradients on D (A A^T + alpha I) D v = r, for w vectors side by side, where A is the
 * rows of X about their mean c, times `root`: along_c = X c, shift = X c - c . c. Pointers may be
 * NULL where there is no mean, no weights, or nothing before. */
typedef struct {
  double *v, *r, *p, *q;         /* (n, w) */
  double *z;                     /* (d, w) */
  const double *y, *before;      /* (n, w): targets, and what earlier stages have found of u */
  const double *scale, *root;    /* (n,): D, and roots of weights */
  const double *null;            /* (n,): the unit vector to which A's columns are orthogonal */
  const double *along_c, *shift; /* (n,) */
  double alpha;
  double *rho, *beta;           /* (w,): r . r, and the share of p that the next direction keeps */
  const double *least, *target; /* (w,): r . r at which an iteration ends anyway, or may end */
  const double *y_squares, *paid; /* (w,): y . y, and before . y */
  double share, floor; /* squares of what |e| may be, relative to the residuals and to the fit */
  double *told;        /* (most, FASTLSGD_TOLD, w) */
} fastlsgd_row_descent;

/* What is told of an iteration, of each vector: the step, r . r after it, and for the objective
 * |e|^2, before . e + v . r, and v . (D y), where e = r / D. */
enum { FASTLSGD_TOLD = 5 };

/* Makes up to `most` iterations; returns how many were made before all vectors have reached
 *
 *   r . r <= target and |e|^2 <= max(share min(|fit|^2, objective), floor |fit|^2), or r . r <= least,
 *
 * or one is not finite. |fit|^2 is that of [A, sqrt(alpha) I] u, which is y . y - alpha u . y at the
 * solution. */
int64_t fastlsgd_descend_rows(const fastlsgd_matrix *X, fastlsgd_row_descent *state, int64_t w,
                              int64_t most);

/* out (n,) = the squares of the rows. */
void fastlsgd_row_squares(double *out, const fastlsgd_matrix *X);

typedef struct {
  void (*sums)(double *, const fastlsgd_matrix *, const double *, int64_t, int64_t);
  void (*dots)(double *, const fastlsgd_matrix *, const double *, int64_t, int64_t);
  void (*squares)(double *, const fastlsgd_matrix *);
  int64_t (*descend)(const fastlsgd_matrix *, fastlsgd_row_descent *, int64_t, int64_t);
} fastlsgd_row_kernels;

#endif
