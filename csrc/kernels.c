/* The kernels of one instruction set, for both dtypes of X and both of y.
 *
 * This file is compiled once per instruction set, with the compiler flags of that set and
 *   ISA     its name, with which the name of the table ends
 *   VBYTES  the bytes of a vector register: 16, 32 or 64
 */

#include "table.h"

#include "per_isa.inc"
#include "syrk.inc"

/* SCALAR is the dtype of X, and TARGET that of y and the sample weights. */
#define SCALAR float
#define SIMD(x) PASTE(x, f32)
#define TARGET float
#define TSIMD(x) PASTE(x, f32)
#define NAME(x) PASTE(x, f32_f32)
#include "kernels.inc"
#undef TARGET
#undef TSIMD
#undef NAME
#define TARGET double
#define TSIMD(x) PASTE(x, f64)
#define NAME(x) PASTE(x, f32_f64)
#include "kernels.inc"
#undef TARGET
#undef TSIMD
#undef NAME
#undef SCALAR
#undef SIMD

#define SCALAR double
#define SCALAR_IS_DOUBLE
#define SIMD(x) PASTE(x, f64)
#define TARGET float
#define TSIMD(x) PASTE(x, f32)
#define NAME(x) PASTE(x, f64_f32)
#include "kernels.inc"
#undef TARGET
#undef TSIMD
#undef NAME
#define TARGET double
#define TSIMD(x) PASTE(x, f64)
#define NAME(x) PASTE(x, f64_f64)
#include "kernels.inc"
#undef TARGET
#undef TSIMD
#undef NAME
#undef SCALAR
#undef SIMD

#define KERNELS_OF(dtypes) \
  PASTE(loss_gradient, dtypes), PASTE(predict, dtypes), PASTE(gram, dtypes), \
      PASTE(sgd_epoch, dtypes)

const fastlsgd_kernels PASTE(fastlsgd_table, ISA)[2][2] = {
    {{KERNELS_OF(f32_f32)}, {KERNELS_OF(f32_f64)}},
    {{KERNELS_OF(f64_f32)}, {KERNELS_OF(f64_f64)}},
};
