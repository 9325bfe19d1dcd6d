/* Coordinate descent by the instruction set that the library uses. */

#include "coordinate_descent.h"
#include "fastlsgd.h"
#include "isas.h"

#define DECLARE(isa) extern const fastlsgd_descent fastlsgd_descent_##isa;
FASTLSGD_FOR_EACH_ISA(DECLARE)

#define ENTRY(isa) &fastlsgd_descent_##isa,
static const fastlsgd_descent *const descents[] = {FASTLSGD_FOR_EACH_ISA(ENTRY)};

int64_t fastlsgd_coordinate_descent(double *w, double *q, const fastlsgd_quadratic *problem,
                                    double tol, int64_t n_epochs) {
  return (*descents[fastlsgd_isa()])(w, q, problem, tol, n_epochs);
}
