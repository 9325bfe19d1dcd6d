/* Wide lassos by the instruction set that the library uses. */

#include "fastlsgd.h"
#include "isas.h"
#include "wide_lasso.h"

#define DECLARE(isa) extern const fastlsgd_wide_lasso_function fastlsgd_wide_lasso_##isa;
FASTLSGD_FOR_EACH_ISA(DECLARE)

#define ENTRY(isa) &fastlsgd_wide_lasso_##isa,
static const fastlsgd_wide_lasso_function *const functions[] = {FASTLSGD_FOR_EACH_ISA(ENTRY)};

int fastlsgd_wide_lasso(fastlsgd_small_lasso_fit *out, const fastlsgd_matrix *X,
                        const fastlsgd_targets *y, const void *sample_weight, int fit_intercept,
                        const fastlsgd_ordinary *ordinary,
                        const fastlsgd_small_penalties *penalties) {
  return (*functions[fastlsgd_isa()])(out, X, y, sample_weight, fit_intercept, ordinary, penalties);
}
