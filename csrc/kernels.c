/* The kernels of one instruction set, for both dtypes.
 *
 * Compiled once an instruction set, with its compiler flags and
 *   ISA     its name, which ends the name of the table
 *   VBYTES  bytes of a vector register: 16, 32 or 64
 */

#include "table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)

#define ALWAYS_INLINE static inline __attribute__((always_inline))

#include "simd.inc"
#include "syrk.inc"

#define SCALAR float
#define NAME(x) PASTE(x, f32)
#include "kernels.inc"
#undef SCALAR
#undef NAME

#define SCALAR double
#define SCALAR_IS_DOUBLE
#define NAME(x) PASTE(x, f64)
#include "kernels.inc"
#undef SCALAR
#undef NAME

const fastlsgd_kernels PASTE(fastlsgd_table, ISA)[2] = {
    {loss_gradient_f32, predict_f32, gram_f32, sgd_epoch_f32},
    {loss_gradient_f64, predict_f64, gram_f64, sgd_epoch_f64},
};
