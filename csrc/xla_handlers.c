/* The handlers of xla_handlers.h. Arrays are row-major and read in place. */
#include "xla_handlers.h"

#include <stdlib.h>

static void *failed(const xla_call_frame *frame, const char *message, int code) {
  xla_error_args args = {sizeof args, NULL, message, code};
  return frame->api->create_error(&args);
}

/* The version of the interface, which XLA asks for when the handler is registered. */
static int tells_metadata(const xla_call_frame *frame) {
  xla_extension *extension = frame->extension_start;
  if (!extension || extension->type != XLA_METADATA) return 0;
  xla_metadata *metadata = ((xla_metadata_extension *)extension)->metadata;
  metadata->api_version.major_version = XLA_MAJOR;
  metadata->api_version.minor_version = XLA_MINOR;
  metadata->traits = 0;
  return 1;
}

static int has_sizes(const xla_call_frame *frame, int64_t n_arguments, int64_t n_results) {
  return frame->stage == XLA_EXECUTE && frame->arguments.size == n_arguments &&
         frame->results.size == n_results && frame->attributes.size == 1;
}

static int has_shape(const xla_buffer *buffer, int dtype, int64_t rank, int64_t rows,
                     int64_t cols) {
  if (buffer->dtype != dtype || buffer->rank != rank || buffer->dims[0] != rows) return 0;
  return rank == 1 || buffer->dims[1] == cols;
}

static int is_float(const xla_buffer *buffer) {
  return buffer->dtype == XLA_F32 || buffer->dtype == XLA_F64;
}

/* Whether the buffers of a loss and its gradient have their shapes and dtypes. */
static int is_valid(xla_buffer **in, xla_buffer **out) {
  const xla_buffer *X = in[0], *y = in[1];
  if (X->rank != 2 || y->rank != 2 || !is_float(X) || !is_float(y)) return 0;
  const int64_t n = X->dims[0], d = X->dims[1], t = y->dims[1];
  return y->dims[0] == n && has_shape(in[2], X->dtype, 2, t, d) &&
         has_shape(in[3], X->dtype, 1, t, 0) &&
         (has_shape(in[4], y->dtype, 1, n, 0) || has_shape(in[4], y->dtype, 1, 0, 0)) &&
         has_shape(out[0], X->dtype, 1, t, 0) && has_shape(out[1], X->dtype, 2, t, d) &&
         has_shape(out[2], X->dtype, 1, t, 0);
}

static int dtype_of(const xla_buffer *buffer) {
  return buffer->dtype == XLA_F64 ? FASTLSGD_F64 : FASTLSGD_F32;
}

static fastlsgd_matrix matrix_of(const xla_buffer *X) {
  return (fastlsgd_matrix){.n_rows = X->dims[0],
                           .n_cols = X->dims[1],
                           .dtype = dtype_of(X),
                           .data = X->data,
                           .row_stride = X->dims[1],
                           .col_stride = 1};
}

static fastlsgd_targets targets_of(const xla_buffer *y) {
  return (fastlsgd_targets){.data = y->data,
                            .n_targets = y->dims[1],
                            .row_stride = y->dims[1],
                            .col_stride = 1,
                            .dtype = dtype_of(y)};
}

static int n_threads_of(const xla_call_frame *frame) {
  return (int)*(const int64_t *)frame->attributes.scalars[0]->value;
}

/* The call with weights and results of float64. */
static int call(xla_buffer **in, const double *w, const double *b, double *loss, double *dw,
                double *db, int n_threads) {
  const fastlsgd_matrix X = matrix_of(in[0]);
  const fastlsgd_targets y = targets_of(in[1]);
  const void *sample_weight = in[4]->dims[0] ? in[4]->data : NULL;
  return fastlsgd_loss_gradient(loss, dw, db, &X, &y, w, b, sample_weight, n_threads);
}

static int call_float32(xla_buffer **in, xla_buffer **out, int n_threads) {
  const int64_t d = in[0]->dims[1], t = in[1]->dims[1], n_weights = t * d;
  double *memory = malloc(sizeof(double) * (size_t)(2 * n_weights + 3 * t + 1));
  if (!memory) return FASTLSGD_NO_MEMORY;
  double *w = memory, *b = w + n_weights, *dw = b + t, *db = dw + n_weights, *loss = db + t;
  for (int64_t j = 0; j < n_weights; j++) w[j] = ((const float *)in[2]->data)[j];
  for (int64_t k = 0; k < t; k++) b[k] = ((const float *)in[3]->data)[k];
  const int status = call(in, w, b, loss, dw, db, n_threads);
  if (status == FASTLSGD_OK) {
    for (int64_t j = 0; j < n_weights; j++) ((float *)out[1]->data)[j] = (float)dw[j];
    for (int64_t k = 0; k < t; k++) {
      ((float *)out[0]->data)[k] = (float)loss[k];
      ((float *)out[2]->data)[k] = (float)db[k];
    }
  }
  free(memory);
  return status;
}

void *fastlsgd_xla_loss_gradient(void *call_frame) {
  const xla_call_frame *frame = call_frame;
  if (tells_metadata(frame)) return NULL;
  xla_buffer **in = frame->arguments.buffers, **out = frame->results.buffers;
  if (!has_sizes(frame, 5, 3) || !is_valid(in, out))
    return failed(frame, "fastlsgd: the arrays of loss_gradient do not fit", XLA_INVALID_ARGUMENT);
  const int n_threads = n_threads_of(frame);
  const int status = in[0]->dtype == XLA_F32 ? call_float32(in, out, n_threads)
                                             : call(in, in[2]->data, in[3]->data, out[0]->data,
                                                    out[1]->data, out[2]->data, n_threads);
  if (status == FASTLSGD_OK) return NULL;
  const int code = status == FASTLSGD_NO_MEMORY ? XLA_RESOURCE_EXHAUSTED : XLA_INVALID_ARGUMENT;
  return failed(frame, fastlsgd_status_text(status), code);
}

static fastlsgd_xla_solver *solver;

void fastlsgd_xla_set_solver(fastlsgd_xla_solver *chosen) { solver = chosen; }

/* Whether the buffers of problems have their shapes and one dtype. */
static int are_problems(const xla_buffer *x, const xla_buffer *A, const xla_buffer *b) {
  const int64_t rank = A->rank, k = rank - 2;
  if (rank < 2 || rank > 32 || b->rank != rank || x->rank != rank) return 0;
  if (!is_float(A) || b->dtype != A->dtype || x->dtype != A->dtype) return 0;
  for (int64_t j = 0; j < k; ++j)
    if ((A->dims[j] != 1 && A->dims[j] != x->dims[j]) ||
        (b->dims[j] != 1 && b->dims[j] != x->dims[j]))
      return 0;
  return b->dims[k] == A->dims[k] && x->dims[k] == A->dims[k + 1] &&
         x->dims[k + 1] == b->dims[k + 1];
}

void *fastlsgd_xla_lstsq(void *call_frame) {
  const xla_call_frame *frame = call_frame;
  if (tells_metadata(frame)) return NULL;
  xla_buffer **in = frame->arguments.buffers, **out = frame->results.buffers;
  if (!has_sizes(frame, 2, 1) || !are_problems(out[0], in[0], in[1]))
    return failed(frame, "fastlsgd: the arrays of lstsq do not fit", XLA_INVALID_ARGUMENT);
  char text[500] = "";
  if (!solver(out[0], in[0], in[1], n_threads_of(frame), text, sizeof text)) return NULL;
  return failed(frame, text, XLA_INVALID_ARGUMENT);
}
