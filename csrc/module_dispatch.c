/* What is in the extension module alone and is compiled once per instruction set, by the set that the
 * library uses. */

#include "active_walk.h"
#include "coordinate_descent.h"
#include "fastlsgd.h"
#include "isas.h"
#include "light_rows.h"
#include "moved_weights.h"
#include "row_products.h"
#include "segments.h"
#include "small_moments.h"
#include "updated_triangle.h"
#include "wide_lasso.h"

/* Defines NAME(), which returns the functions `NAME_ISA` of that set; they are of this type. */
#define DISPATCH(type, name) \
  extern const type name##_baseline; \
  FASTLSGD_IF_AVX2(extern const type name##_avx2;) \
  FASTLSGD_IF_AVX512(extern const type name##_avx512;) \
  static const type *name(void) { \
    static const type *const of_isas[] = { \
        &name##_baseline, FASTLSGD_IF_AVX2(&name##_avx2, ) FASTLSGD_IF_AVX512(&name##_avx512, )}; \
    return of_isas[fastlsgd_isa()]; \
  }

DISPATCH(fastlsgd_descents, fastlsgd_descent_functions)
DISPATCH(fastlsgd_hides_function, fastlsgd_hides_functions)
DISPATCH(fastlsgd_move_function, fastlsgd_move_functions)
DISPATCH(fastlsgd_walk_function, fastlsgd_walk_functions)
DISPATCH(fastlsgd_row_kernels, fastlsgd_row_functions)
DISPATCH(fastlsgd_segments_table, fastlsgd_segments_functions)
DISPATCH(fastlsgd_moments_table, fastlsgd_moments_functions)
DISPATCH(fastlsgd_triangle_table, fastlsgd_triangle_functions)
DISPATCH(fastlsgd_wide_lasso_function, fastlsgd_wide_lasso_functions)

int64_t fastlsgd_coordinate_descent(double *w, double *q, const fastlsgd_quadratic *problem,
                                    double tol, int64_t n_epochs) {
  return fastlsgd_descent_functions()->on_products(w, q, problem, tol, n_epochs);
}

int64_t fastlsgd_column_descent(double *w, float *r, const fastlsgd_columns *problem, double tol,
                                int64_t n_epochs) {
  return fastlsgd_descent_functions()->on_columns(w, r, problem, tol, n_epochs);
}

int64_t fastlsgd_walk_sets(fastlsgd_walk *walk, const fastlsgd_quadratic *problem, double tol,
                           int64_t most_steps, int *status) {
  return (*fastlsgd_walk_functions())(walk, problem, tol, most_steps, status);
}

int fastlsgd_move_weights(const fastlsgd_matrix *X, const fastlsgd_move *move) {
  return (*fastlsgd_move_functions())(X, move);
}

void fastlsgd_row_sums(double *z, const fastlsgd_matrix *X, const double *u, int64_t t, int64_t w) {
  fastlsgd_row_functions()->sums(z, X, u, t, w);
}

void fastlsgd_row_dots(double *out, const fastlsgd_matrix *X, const double *z, int64_t t,
                       int64_t w) {
  fastlsgd_row_functions()->dots(out, X, z, t, w);
}

void fastlsgd_row_squares(double *out, const fastlsgd_matrix *X) {
  fastlsgd_row_functions()->squares(out, X);
}

int64_t fastlsgd_descend_rows(const fastlsgd_matrix *X, fastlsgd_row_descent *state, int64_t w,
                              int64_t most) {
  return fastlsgd_row_functions()->descend(X, state, w, most);
}

int fastlsgd_fit_segments(fastlsgd_segment_fits *out, const fastlsgd_matrix *X,
                          const fastlsgd_targets *y, const void *sample_weight,
                          const fastlsgd_segments *segments, int n_threads) {
  const int most = fastlsgd_max_threads();
  return (*fastlsgd_segments_functions())[X->dtype][y->dtype](out, X, y, sample_weight, segments,
                                                              n_threads < most ? n_threads : most);
}

int fastlsgd_take_moments(fastlsgd_moments *p, const fastlsgd_matrix *X, const fastlsgd_targets *y,
                          const void *sample_weight, int fit_intercept, int64_t n_work,
                          const fastlsgd_ordinary *ordinary) {
  return fastlsgd_moments_functions()->take_moments(p, X, y, sample_weight, fit_intercept, n_work,
                                                    ordinary);
}

int fastlsgd_factorise(const double *G, int64_t stride, int64_t d, double alpha, double *R,
                       double *scale) {
  return fastlsgd_moments_functions()->factorise(G, stride, d, alpha, R, scale);
}

void fastlsgd_invert(const double *R, int64_t d, double *T) {
  fastlsgd_moments_functions()->invert(R, d, T);
}

double fastlsgd_condition(const double *R, const double *T, int64_t d, double *work) {
  return fastlsgd_moments_functions()->condition(R, T, d, work);
}

double fastlsgd_set_condition(const double *G, const double *scale, const double *T, int64_t d,
                              double alpha) {
  return fastlsgd_moments_functions()->set_condition(G, scale, T, d, alpha);
}

void fastlsgd_update_triangle(fastlsgd_triangle *triangle, double *rows, int64_t m) {
  for (int64_t i = 0; i < m; i += FASTLSGD_ROWS) {
    const int64_t some = m - i < FASTLSGD_ROWS ? m - i : FASTLSGD_ROWS;
    fastlsgd_triangle_functions()->update(triangle, rows + i * triangle->stride, some);
  }
}

void fastlsgd_solve_triangle(double *u, const fastlsgd_triangle *triangle,
                             const fastlsgd_triangle_steps *steps, double *work) {
  fastlsgd_triangle_functions()->solve(u, triangle, steps, work);
}

int fastlsgd_wide_lasso(fastlsgd_small_lasso_fit *out, const fastlsgd_matrix *X,
                        const fastlsgd_targets *y, const void *sample_weight, int fit_intercept,
                        const fastlsgd_ordinary *ordinary,
                        const fastlsgd_small_penalties *penalties) {
  return (*fastlsgd_wide_lasso_functions())(out, X, y, sample_weight, fit_intercept, ordinary,
                                            penalties);
}

int fastlsgd_hides_numbers(const fastlsgd_matrix *X, const void *sample_weight,
                           fastlsgd_dtype weight_dtype, const fastlsgd_row_sample *sample,
                           const double *size, double weight, int centred) {
  return (*fastlsgd_hides_functions())(X, sample_weight, weight_dtype, sample, size, weight,
                                       centred);
}
