/* A triangular factor that rows are added to: in the extension module alone, not in the library. */
#ifndef FASTLSGD_UPDATED_TRIANGLE_H
#define FASTLSGD_UPDATED_TRIANGLE_H

#include <stdint.h>

/* [R, Q^T Y]: R (k, k) upper triangular with zeros below, beside it Q^T Y (k, t). `stride` is a
 * multiple of FASTLSGD_PADDING, and what is beyond k + t is zero. */
typedef struct {
  double *joint; /* (k, stride) */
  int64_t k, t, stride;
} fastlsgd_triangle;

enum { FASTLSGD_PADDING = 8 };

/* The solution u of min |R u - q|^2 + rest |w|^2, where w is u, without its first number if that is
 * an intercept, by steps from that of R alone. */
typedef struct {
  const double *size; /* (k,): norms of the columns of R */
  double rest, tolerance;
  int64_t most_steps;
  int has_intercept;
} fastlsgd_triangle_steps;

/* Brings R and Q^T Y up to date with m rows [C, Y] (m, stride), which are overwritten. Rows are added
 * FASTLSGD_ROWS at a time. */
void fastlsgd_update_triangle(fastlsgd_triangle *triangle, double *rows, int64_t m);

enum { FASTLSGD_ROWS = 48 };

/* Fills u (t, k); work is (t + 1, k). */
void fastlsgd_solve_triangle(double *u, const fastlsgd_triangle *triangle,
                             const fastlsgd_triangle_steps *steps, double *work);

typedef struct {
  void (*update)(fastlsgd_triangle *, double *, int64_t);
  void (*solve)(double *, const fastlsgd_triangle *, const fastlsgd_triangle_steps *, double *);
} fastlsgd_triangle_table;

#endif
