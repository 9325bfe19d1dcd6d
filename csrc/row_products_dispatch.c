/* Products of CSR rows by the instruction set that the library uses. */

#include "isas.h"
#include "row_products.h"

#define DECLARE(isa) extern const fastlsgd_row_kernels fastlsgd_row_kernels_##isa;
FASTLSGD_FOR_EACH_ISA(DECLARE)

#define ENTRY(isa) &fastlsgd_row_kernels_##isa,
static const fastlsgd_row_kernels *const kernels[] = {FASTLSGD_FOR_EACH_ISA(ENTRY)};

void fastlsgd_row_sums(double *z, const fastlsgd_matrix *X, const double *u, int64_t t, int64_t w) {
  kernels[fastlsgd_isa()]->sums(z, X, u, t, w);
}

void fastlsgd_row_dots(double *out, const fastlsgd_matrix *X, const double *z, int64_t t,
                       int64_t w) {
  kernels[fastlsgd_isa()]->dots(out, X, z, t, w);
}
