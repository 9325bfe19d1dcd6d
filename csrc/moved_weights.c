/* X^T u and X w of dense rows in one pass over X, for refinement of fits of fewer rows than columns.
 *
 * X is read in blocks of columns that fit in the second-level cache, where the second product finds
 * them. All is added up in float64, in which numbers of float32 are exact.
 * Cost: 4 flops per number of X and target. Memory: the weights of a block.
 *
 * This file is compiled once per instruction set, like kernels.c. */
#include "moved_weights.h"

#include <stdlib.h>
#include <string.h>

#include "double_vectors.inc"

/* Bytes of X in a block, and how many columns it has at least and at most: whole lines of cache, and
 * weights of a few targets that stay in the first-level cache. */
enum { BLOCK_BYTES = 1 << 19, LEAST_COLUMNS = 64, MOST_COLUMNS = 512 };
/* Targets and rows of a tile. A single target leaves registers for more rows. */
#if VBYTES == 64 || defined(__aarch64__)
enum { TARGETS = 4 };
#else
enum { TARGETS = 2 };
#endif
enum { ROWS = 4, MOST_ROWS = 8 };

typedef float narrow __attribute__((vector_size(VBYTES / 2), aligned(4), may_alias));

/* A block of columns, and the weights of its columns: (t, stride). */
typedef struct {
  const char *x;
  int64_t n, width, row_bytes;
  double *weights;
  int64_t t, stride;
} block;

ALWAYS_INLINE vec load(int is_f32, const char *row, int64_t j) {
  if (is_f32) return __builtin_convertvector(*(const narrow *)((const float *)row + j), vec);
  return *(const vec *)((const double *)row + j);
}

ALWAYS_INLINE double number(int is_f32, const char *row, int64_t j) {
  return is_f32 ? ((const float *)row)[j] : ((const double *)row)[j];
}

/* Adds rows times their u (rows, t) to the weights w of some targets. */
ALWAYS_INLINE void add_rows(int is_f32, int rows, int targets, const block *b, const char *x,
                            const double *u, double *w) {
  int64_t j = 0;
  for (; j + LANES <= b->width; j += LANES) {
    vec numbers[MOST_ROWS];
    UNROLL
    for (int r = 0; r < rows; ++r) numbers[r] = load(is_f32, x + r * b->row_bytes, j);
    UNROLL
    for (int a = 0; a < targets; ++a) {
      vec sum = *(vec *)(w + a * b->stride + j);
      UNROLL
      for (int r = 0; r < rows; ++r) sum += u[r * b->t + a] * numbers[r];
      *(vec *)(w + a * b->stride + j) = sum;
    }
  }
  for (; j < b->width; ++j) {
    for (int a = 0; a < targets; ++a) {
      for (int r = 0; r < rows; ++r)
        w[a * b->stride + j] += u[r * b->t + a] * number(is_f32, x + r * b->row_bytes, j);
    }
  }
}

/* Adds products of rows with the weights w of some targets to out (rows, t). */
ALWAYS_INLINE void multiply(int is_f32, int rows, int targets, const block *b, const char *x,
                            const double *w, double *out) {
  vec sums[MOST_ROWS][TARGETS];
  int64_t j = 0;
  UNROLL
  for (int r = 0; r < rows; ++r) {
    UNROLL
    for (int a = 0; a < targets; ++a) sums[r][a] = (vec){0.0};
  }
  for (; j + LANES <= b->width; j += LANES) {
    UNROLL
    for (int r = 0; r < rows; ++r) {
      const vec numbers = load(is_f32, x + r * b->row_bytes, j);
      UNROLL
      for (int a = 0; a < targets; ++a)
        sums[r][a] += numbers * *(const vec *)(w + a * b->stride + j);
    }
  }
  /* By way of memory: GCC 12 lost four numbers of one register in `sum_of` of so many. */
  double lanes[MOST_ROWS][TARGETS][LANES];
  for (int r = 0; r < rows; ++r) {
    for (int a = 0; a < targets; ++a) {
      double sum = 0.0;
      memcpy(lanes[r][a], &sums[r][a], sizeof(vec));
      for (int lane = 0; lane < LANES; ++lane) sum += lanes[r][a][lane];
      for (int64_t rest = j; rest < b->width; ++rest)
        sum += number(is_f32, x + r * b->row_bytes, rest) * w[a * b->stride + rest];
      out[r * b->t + a] += sum;
    }
  }
}

/* Both products of all rows of a block, for some targets from the first of them on. */
ALWAYS_INLINE void add_all(int is_f32, int targets, const block *b, const double *u,
                           int64_t first) {
  const int rows = targets == 1 ? MOST_ROWS : ROWS;
  int64_t i = 0;
  for (; i + rows <= b->n; i += rows)
    add_rows(is_f32, rows, targets, b, b->x + i * b->row_bytes, u + i * b->t + first,
             b->weights + first * b->stride);
  for (; i < b->n; ++i)
    add_rows(is_f32, 1, targets, b, b->x + i * b->row_bytes, u + i * b->t + first,
             b->weights + first * b->stride);
}

ALWAYS_INLINE void multiply_all(int is_f32, int targets, const block *b, double *out,
                                int64_t first) {
  const int rows = targets == 1 ? MOST_ROWS : ROWS;
  int64_t i = 0;
  for (; i + rows <= b->n; i += rows)
    multiply(is_f32, rows, targets, b, b->x + i * b->row_bytes, b->weights + first * b->stride,
             out + i * b->t + first);
  for (; i < b->n; ++i)
    multiply(is_f32, 1, targets, b, b->x + i * b->row_bytes, b->weights + first * b->stride,
             out + i * b->t + first);
}

ALWAYS_INLINE void add_block(int is_f32, const block *b, const double *u) {
  int64_t k = 0;
  for (; k + TARGETS <= b->t; k += TARGETS) add_all(is_f32, TARGETS, b, u, k);
  for (; k + 2 <= b->t; k += 2) add_all(is_f32, 2, b, u, k);
  for (; k < b->t; ++k) add_all(is_f32, 1, b, u, k);
}

ALWAYS_INLINE void multiply_block(int is_f32, const block *b, double *out) {
  int64_t k = 0;
  for (; k + TARGETS <= b->t; k += TARGETS) multiply_all(is_f32, TARGETS, b, out, k);
  for (; k + 2 <= b->t; k += 2) multiply_all(is_f32, 2, b, out, k);
  for (; k < b->t; ++k) multiply_all(is_f32, 1, b, out, k);
}

static int64_t columns_of(int64_t n, int64_t size) {
  const int64_t most = BLOCK_BYTES / (n * size) / LEAST_COLUMNS * LEAST_COLUMNS;
  return most < LEAST_COLUMNS ? LEAST_COLUMNS : most > MOST_COLUMNS ? MOST_COLUMNS : most;
}

static int move_weights(const fastlsgd_matrix *X, const fastlsgd_move *m) {
  const int is_f32 = X->dtype == FASTLSGD_F32;
  const int64_t size = is_f32 ? 4 : 8, d = X->n_cols, step = columns_of(X->n_rows, size);
  block b = {.n = X->n_rows, .row_bytes = X->row_stride * size, .t = m->t, .stride = step};
  int64_t constant = 0;
  b.weights = malloc((size_t)(m->t * step) * sizeof(double));
  if (!b.weights) return -1;
  for (int64_t first = 0; first < d; first += step) {
    b.width = d - first < step ? d - first : step;
    b.x = (const char *)X->data + first * size;
    for (int64_t a = 0; a < m->t; ++a) {
      for (int64_t j = 0; j < b.width; ++j)
        b.weights[a * step + j] =
            m->coef[a * m->coef_stride + first + j] - m->total[a] * m->centre[first + j];
    }
    if (is_f32)
      add_block(1, &b, m->u);
    else
      add_block(0, &b, m->u);
    for (; constant < m->n_constant && m->constant[constant] < first + b.width; ++constant) {
      for (int64_t a = 0; a < m->t; ++a) b.weights[a * step + m->constant[constant] - first] = 0.0;
    }
    for (int64_t a = 0; a < m->t; ++a)
      memcpy(m->coef + a * m->coef_stride + first, b.weights + a * step,
             (size_t)b.width * sizeof(double));
    if (is_f32)
      multiply_block(1, &b, m->out);
    else
      multiply_block(0, &b, m->out);
  }
  free(b.weights);
  return 0;
}

extern const fastlsgd_move_function PASTE(fastlsgd_move_functions, ISA);
const fastlsgd_move_function PASTE(fastlsgd_move_functions, ISA) = move_weights;
