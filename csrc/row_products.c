/* X^T u and X z of CSR rows X, for a tile of w = 1, 2, 4 or 8 vectors u (t, n) or z.
 *
 * The numbers of z for a column of X lie together, at most a line of cache, so that a stored number
 * finds there what it is multiplied with. Tiles of 16 take up to a half longer: their two lines, and
 * what is left empty of them, have less room in the caches. Sums are float64 whatever the dtype of X,
 * which is read as it is.
 * Cost: 2 flops per stored number and vector, at random lines of z.
 *
 * This file is compiled once per instruction set, like kernels.c.
 */
#include "row_products.h"

#include <math.h>
#include <string.h>

#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)
#define INLINE static inline __attribute__((always_inline))

typedef double vec1;
typedef double vec2 __attribute__((vector_size(16)));
typedef double vec4 __attribute__((vector_size(32)));
typedef double vec8 __attribute__((vector_size(64)));

/* What the loops know of X: `bytes` of an index and `is_f32` are constants in each of them. */
INLINE int64_t index_at(int bytes, const void *indices, int64_t q) {
  return bytes == 4 ? ((const int32_t *)indices)[q] : ((const int64_t *)indices)[q];
}
INLINE double number_at(int is_f32, const void *data, int64_t q) {
  return is_f32 ? ((const float *)data)[q] : ((const double *)data)[q];
}

INLINE void sums_1(int bytes, int is_f32, double *z, const fastlsgd_matrix *X, const double *u,
                   int64_t count) {
  const void *data = X->data, *indices = X->indices;
  (void)count;
  int64_t q = index_at(bytes, X->indptr, 0);
  for (int64_t i = 0; i < X->n_rows; ++i) {
    const int64_t end = index_at(bytes, X->indptr, i + 1);
    const double ui = u[i];
    for (; q < end; ++q) z[index_at(bytes, indices, q)] += number_at(is_f32, data, q) * ui;
  }
}

/* In four sums, since each addition to a single one would wait for the last. */
INLINE void dots_1(int bytes, int is_f32, double *out, const fastlsgd_matrix *X, const double *z,
                   int64_t count) {
  const void *data = X->data, *indices = X->indices;
  (void)count;
  int64_t q = index_at(bytes, X->indptr, 0);
  for (int64_t i = 0; i < X->n_rows; ++i) {
    const int64_t end = index_at(bytes, X->indptr, i + 1);
    double sum[4] = {0};
    for (; q + 4 <= end; q += 4)
      for (int k = 0; k < 4; ++k)
        sum[k] += number_at(is_f32, data, q + k) * z[index_at(bytes, indices, q + k)];
    for (; q < end; ++q) sum[0] += number_at(is_f32, data, q) * z[index_at(bytes, indices, q)];
    out[i] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  }
}

INLINE void squares_1(int bytes, int is_f32, double *out, const fastlsgd_matrix *X) {
  const void *data = X->data;
  int64_t q = index_at(bytes, X->indptr, 0);
  for (int64_t i = 0; i < X->n_rows; ++i) {
    const int64_t end = index_at(bytes, X->indptr, i + 1);
    double sum[4] = {0};
    for (; q + 4 <= end; q += 4)
      for (int k = 0; k < 4; ++k)
        sum[k] += number_at(is_f32, data, q + k) * number_at(is_f32, data, q + k);
    for (; q < end; ++q) sum[0] += number_at(is_f32, data, q) * number_at(is_f32, data, q);
    out[i] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  }
}

/* The same for a tile of K vectors, of which `count` are there. */
#define TILE(K) \
  INLINE void sums_##K(int bytes, int is_f32, double *z, const fastlsgd_matrix *X, \
                       const double *u, int64_t count) { \
    const void *data = X->data, *indices = X->indices; \
    const int64_t n = X->n_rows; \
    int64_t q = index_at(bytes, X->indptr, 0); \
    for (int64_t i = 0; i < n; ++i) { \
      const int64_t end = index_at(bytes, X->indptr, i + 1); \
      double own[K] = {0}; \
      vec##K ui, zj; \
      for (int64_t k = 0; k < count; ++k) own[k] = u[k * n + i]; \
      memcpy(&ui, own, sizeof ui); \
      for (; q < end; ++q) { \
        double *to = z + index_at(bytes, indices, q) * K; \
        memcpy(&zj, to, sizeof zj); \
        zj += number_at(is_f32, data, q) * ui; \
        memcpy(to, &zj, sizeof zj); \
      } \
    } \
  } \
  INLINE void dots_##K(int bytes, int is_f32, double *out, const fastlsgd_matrix *X, \
                       const double *z, int64_t count) { \
    const void *data = X->data, *indices = X->indices; \
    const int64_t n = X->n_rows; \
    int64_t q = index_at(bytes, X->indptr, 0); \
    for (int64_t i = 0; i < n; ++i) { \
      const int64_t end = index_at(bytes, X->indptr, i + 1); \
      vec##K even = {0}, odd = {0}, zj; \
      for (; q + 2 <= end; q += 2) { \
        memcpy(&zj, z + index_at(bytes, indices, q) * K, sizeof zj); \
        even += number_at(is_f32, data, q) * zj; \
        memcpy(&zj, z + index_at(bytes, indices, q + 1) * K, sizeof zj); \
        odd += number_at(is_f32, data, q + 1) * zj; \
      } \
      if (q < end) { \
        memcpy(&zj, z + index_at(bytes, indices, q) * K, sizeof zj); \
        even += number_at(is_f32, data, q) * zj; \
        ++q; \
      } \
      double own[K]; \
      even += odd; \
      memcpy(own, &even, sizeof even); \
      for (int64_t k = 0; k < count; ++k) out[k * n + i] = own[k]; \
    } \
  }

TILE(2)
TILE(4)
TILE(8)

/* Rows whose sums are added up first, and stored numbers of a row that are taken together. */
enum { BLOCK = 128, TOGETHER = 4 };

#define W 1
#define VEC vec1
#include "row_descent.inc"
#define W 2
#define VEC vec2
#include "row_descent.inc"
#define W 4
#define VEC vec4
#include "row_descent.inc"
#define W 8
#define VEC vec8
#include "row_descent.inc"

#define FOR_X(KERNEL, ...) \
  do { \
    if (X->dtype == FASTLSGD_F32) \
      X->index_bytes == 4 ? KERNEL(4, 1, __VA_ARGS__) : KERNEL(8, 1, __VA_ARGS__); \
    else \
      X->index_bytes == 4 ? KERNEL(4, 0, __VA_ARGS__) : KERNEL(8, 0, __VA_ARGS__); \
  } while (0)

#define FOR_WIDTH(NAME, ...) \
  do { \
    if (w == 1) \
      FOR_X(NAME##_1, __VA_ARGS__); \
    else if (w == 2) \
      FOR_X(NAME##_2, __VA_ARGS__); \
    else if (w == 4) \
      FOR_X(NAME##_4, __VA_ARGS__); \
    else \
      FOR_X(NAME##_8, __VA_ARGS__); \
  } while (0)

static void sums(double *z, const fastlsgd_matrix *X, const double *u, int64_t t, int64_t w) {
  memset(z, 0, (size_t)(X->n_cols * w) * sizeof *z);
  FOR_WIDTH(sums, z, X, u, t);
}

static void dots(double *out, const fastlsgd_matrix *X, const double *z, int64_t t, int64_t w) {
  FOR_WIDTH(dots, out, X, z, t);
}

static void squares(double *out, const fastlsgd_matrix *X) { FOR_X(squares_1, out, X); }

static int64_t descend(const fastlsgd_matrix *X, fastlsgd_row_descent *state, int64_t w,
                       int64_t most) {
  int64_t made = 0;
  FOR_WIDTH(descend, &made, X, state, most);
  return made;
}

extern const fastlsgd_row_kernels PASTE(fastlsgd_row_functions, ISA);
const fastlsgd_row_kernels PASTE(fastlsgd_row_functions, ISA) = {sums, dots, squares, descend};
