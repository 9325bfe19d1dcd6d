/* Handlers of XLA's foreign function interface on the CPU, which programs compiled by JAX call: for
 * fastlsgd.jax. `call_frame` is an XLA_FFI_CallFrame, and a result an XLA_FFI_Error or NULL. */
#ifndef FASTLSGD_XLA_HANDLERS_H
#define FASTLSGD_XLA_HANDLERS_H

#include <stddef.h>

#include "fastlsgd.h"
#include "xla_ffi.h"

/* Arguments: X (n, d), y (n, t), w (t, d), b (t,), sample_weight (n,) or (0,) for none. y and
 * sample_weight have one dtype, and all others that of X. Results: loss (t,), dw (t, d), db (t,), of
 * X's dtype. The attribute n_threads is an int64. For float32 X the float64 weights and results of
 * the kernel, 16 bytes x t (d + 1), are allocated. */
void *fastlsgd_xla_loss_gradient(void *call_frame);

/* Arguments: A (..., n, d), b (..., n, t). Result: x (..., d, t). All have one dtype and as many
 * leading dimensions, at most 30; one of A or b is 1 where all problems along it share A or b. The
 * attribute n_threads is an int64. The solver that was set does the work. */
void *fastlsgd_xla_lstsq(void *call_frame);

/* Writes x, C-contiguous, and returns 0; or writes what went wrong to the text, of `size` bytes. */
typedef int fastlsgd_xla_solver(xla_buffer *x, const xla_buffer *A, const xla_buffer *b,
                                int n_threads, char *text, size_t size);
void fastlsgd_xla_set_solver(fastlsgd_xla_solver *solver);

#endif
