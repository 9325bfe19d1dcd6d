/* Least squares of segments of rows, for one instruction set, both dtypes of X and both of y.
 *
 * This file is compiled once per instruction set, like kernels.c.
 */

#include "segments.h"

#include "per_isa.inc"
#include "syrk.inc"
#include "double_double.inc"
#include "segments_solve.inc"
#include "segments.inc"

/* SCALAR is the dtype of X, and TARGET that of y and the sample weights. */
#define SCALAR float
#define SIMD(x) PASTE(x, f32)
#define TARGET float
#define OF_TARGET(x) PASTE(x, f32)
#define NAME(x) PASTE(x, f32_f32)
#include "segments_rows.inc"
#undef TARGET
#undef OF_TARGET
#undef NAME
#define TARGET double
#define OF_TARGET(x) PASTE(x, f64)
#define NAME(x) PASTE(x, f32_f64)
#include "segments_rows.inc"
#undef TARGET
#undef OF_TARGET
#undef NAME
#undef SCALAR
#undef SIMD

#define SCALAR double
#define SIMD(x) PASTE(x, f64)
#define TARGET float
#define OF_TARGET(x) PASTE(x, f32)
#define NAME(x) PASTE(x, f64_f32)
#include "segments_rows.inc"
#undef TARGET
#undef OF_TARGET
#undef NAME
#define TARGET double
#define OF_TARGET(x) PASTE(x, f64)
#define NAME(x) PASTE(x, f64_f64)
#include "segments_rows.inc"
#undef TARGET
#undef OF_TARGET
#undef NAME
#undef SCALAR
#undef SIMD

extern const fastlsgd_segments_table PASTE(fastlsgd_segments_functions, ISA);
const fastlsgd_segments_table PASTE(fastlsgd_segments_functions, ISA) = {
    {PASTE(fit_segments, f32_f32), PASTE(fit_segments, f32_f64)},
    {PASTE(fit_segments, f64_f32), PASTE(fit_segments, f64_f64)},
};
