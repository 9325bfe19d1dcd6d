/* Coordinate descent by the instruction set that the library uses. */

#include "coordinate_descent.h"
#include "fastlsgd.h"

extern const fastlsgd_descent fastlsgd_descent_baseline;
#ifdef FASTLSGD_AVX2
extern const fastlsgd_descent fastlsgd_descent_avx2;
#endif
#ifdef FASTLSGD_AVX512
extern const fastlsgd_descent fastlsgd_descent_avx512;
#endif

/* In the order of `isas` in dispatch.c, so that fastlsgd_isa() is an index of both. */
static const fastlsgd_descent *const descents[] = {
    &fastlsgd_descent_baseline,
#ifdef FASTLSGD_AVX2
    &fastlsgd_descent_avx2,
#endif
#ifdef FASTLSGD_AVX512
    &fastlsgd_descent_avx512,
#endif
};

int64_t fastlsgd_coordinate_descent(double *w, double *q, const fastlsgd_quadratic *problem,
                                    double tol, int64_t n_epochs) {
  return (*descents[fastlsgd_isa()])(w, q, problem, tol, n_epochs);
}
