/* The kernels of one instruction set, for both dtypes of X and both of y.
 *
 * This file is compiled once per instruction set, with the compiler flags of that set and
 *   ISA     its name, with which the name of the table ends
 *   VBYTES  the bytes of a vector register: 16, 32 or 64
 */

#include "table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(_WIN32)
/* The C library of Windows lacks aligned_alloc, and releases such memory by a function of its own.
 * All memory of the kernels is aligned (`scratch`). */
#include <malloc.h>
#define aligned_alloc(alignment, bytes) _aligned_malloc(bytes, alignment)
#define free(memory) _aligned_free(memory)
#endif

#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)

#define ALWAYS_INLINE static inline __attribute__((always_inline))

#include "simd.inc"
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
