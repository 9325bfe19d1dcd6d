/* Chooses the instruction set when the library is loaded, checks what can be seen of the arguments of a
 * call without reading an array, and passes it to the kernels of that set. */

#include "isas.h"
#include "table.h"

#include <stddef.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#define DECLARE(isa) extern const fastlsgd_kernels fastlsgd_table_##isa[2][2];
FASTLSGD_FOR_EACH_ISA(DECLARE)

#if defined(FASTLSGD_AVX2) || defined(FASTLSGD_AVX512)
#if defined(_MSC_VER)
/* clang-cl does not link the table of __builtin_cpu_supports, which is in Clang's own library. */
#include <cpuid.h>

/* Whether the processor has FMA, the system saves the registers of this mask, and the features of
 * leaf 7 are there. */
static int supports(unsigned registers, unsigned leaf7) {
  enum { FMA = 1u << 12, OSXSAVE = 1u << 27 };
  unsigned eax, ebx, ecx, edx;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & FMA) || !(ecx & OSXSAVE)) return 0;
  __asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
  if ((eax & registers) != registers) return 0;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ebx & leaf7) == leaf7;
}
enum { AVX2 = 1u << 5, AVX512F = 1u << 16, AVX512DQ = 1u << 17, AVX512BW = 1u << 30 };
static const unsigned AVX512VL = 1u << 31;
static inline int has_avx2(void) { return supports(0x06, AVX2); }
static inline int has_avx512(void) {
  return supports(0xe6, AVX2 | AVX512F | AVX512DQ | AVX512BW | AVX512VL);
}
#else
/* __builtin_cpu_supports also checks that the operating system saves the registers. */
static inline int has_avx2(void) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
static inline int has_avx512(void) {
  __builtin_cpu_init();
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
}
#endif
#endif
static inline int has_baseline(void) { return 1; }

#if defined(__x86_64__)
#define NAME_baseline "sse2"
#elif defined(__aarch64__)
#define NAME_baseline "neon"
#else
#define NAME_baseline "baseline"
#endif
#define NAME_avx2 "avx2"
#define NAME_avx512 "avx512"

#define ENTRY(isa) {NAME_##isa, has_##isa, fastlsgd_table_##isa},
static const struct {
  const char *name;
  int (*supported)(void);
  const fastlsgd_kernels (*kernels)[2]; /* by the dtype of X, then that of y */
} isas[] = {FASTLSGD_FOR_EACH_ISA(ENTRY)};
enum { N_ISAS = sizeof isas / sizeof isas[0] };

static int current = 0;
int fastlsgd_forked = 0;

__attribute__((constructor)) static void choose_isa(void) {
  for (int k = 0; k < N_ISAS; ++k)
    if (isas[k].supported()) current = k;
}

const char *fastlsgd_isa_name(int k) { return k >= 0 && k < N_ISAS ? isas[k].name : NULL; }

int fastlsgd_isa_supported(int k) { return k >= 0 && k < N_ISAS && isas[k].supported(); }

int fastlsgd_isa(void) { return current; }

int fastlsgd_set_isa(int k) {
  if (!fastlsgd_isa_supported(k)) return 0;
  current = k;
  return 1;
}

const char *fastlsgd_compiler(void) {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "gcc " __VERSION__;
#endif
}

#ifdef _OPENMP
int fastlsgd_has_openmp(void) { return 1; }
int fastlsgd_max_threads(void) { return omp_get_max_threads(); }
void fastlsgd_set_max_threads(int n_threads) { omp_set_num_threads(n_threads); }
#else
int fastlsgd_has_openmp(void) { return 0; }
int fastlsgd_max_threads(void) { return 1; }
void fastlsgd_set_max_threads(int n_threads) { (void)n_threads; }
#endif

void fastlsgd_after_fork(void) { fastlsgd_forked = 1; }

/* ------------------------------------------------------------------ status and versions */

int fastlsgd_abi_version(void) { return FASTLSGD_ABI_VERSION; }

const char *fastlsgd_version(void) { return FASTLSGD_VERSION; }

const char *fastlsgd_status_text(int status) {
  switch (status) {
  case FASTLSGD_OK:
    return "success";
  case FASTLSGD_NO_MEMORY:
    return "not enough memory for the scratch of a kernel";
  case FASTLSGD_INVALID:
    return "invalid argument: a size that is negative or beyond any memory, a negative number of "
           "threads, an unknown dtype, NULL for an array with elements, a batch without rows, or "
           "more visits than rows";
  }
  return "unknown status";
}

/* ------------------------------------------------------------------ arguments
 *
 * A kernel may add 0 to the pointer of an array without elements, or copy nothing from it, which C
 * forbids for NULL: such an array is taken to be here. */

static double nothing[1];

static void *or_nothing(const void *p) { return p ? (void *)p : nothing; }

/* No memory holds an array of more numbers. Up to here, the bytes of all threads' sums are far from
 * the ends of 64 bits, so that scratch that is too large is refused and not cut off. */
static const int64_t MOST_NUMBERS = (int64_t)1 << 48;

/* Whether an array of these sizes, none of them negative, may be at p. */
static int may_be(const void *p, int64_t rows, int64_t columns) {
  return rows >= 0 && columns >= 0 && rows <= MOST_NUMBERS && columns <= MOST_NUMBERS &&
         (!rows || columns <= MOST_NUMBERS / rows) && (p || !rows || !columns);
}

static int is_dtype(fastlsgd_dtype dtype) { return dtype == FASTLSGD_F32 || dtype == FASTLSGD_F64; }

/* How many numbers a CSR matrix stores, from the end of indptr. */
static int64_t n_stored(const fastlsgd_matrix *X) {
  return X->index_bytes == 4 ? ((const int32_t *)X->indptr)[X->n_rows]
                             : ((const int64_t *)X->indptr)[X->n_rows];
}

/* Copies X to `out`; returns whether it is valid. In a CSR matrix without elements, `indices` may be
 * NULL, by which the kernels would take it for a dense one. */
static int take_matrix(fastlsgd_matrix *out, const fastlsgd_matrix *X) {
  if (!X || !is_dtype(X->dtype)) return 0;
  *out = *X;
  out->data = or_nothing(X->data);
  if (!X->indices && !X->indptr) return may_be(X->data, X->n_rows, X->n_cols);
  if (!X->indices) out->indices = nothing;
  return may_be(X->indptr, X->n_rows, 1) && may_be(nothing, 1, X->n_cols) && X->indptr &&
         (X->index_bytes == 4 || X->index_bytes == 8) &&
         ((X->indices && X->data) || n_stored(X) == 0);
}

static int take_targets(fastlsgd_targets *out, const fastlsgd_targets *y, int64_t n) {
  if (!y || !is_dtype(y->dtype) || !may_be(y->data, n, y->n_targets)) return 0;
  *out = *y;
  out->data = or_nothing(y->data);
  return 1;
}

/* Without an order, each of the n rows is visited once at most; of no rows, none is visited. */
static int is_valid_epoch(const fastlsgd_epoch *e, int64_t n) {
  return e && e->n_visits >= 0 && e->n_visits <= (e->order && n ? MOST_NUMBERS : n) &&
         e->batch_size >= 1 && may_be(e->rates, e->n_visits, 1) && !e->prox_soft == !e->prox_shrink;
}

static int is_valid_optimizer(const fastlsgd_optimizer *o, int64_t t, int64_t d) {
  const int rule = (int)o->rule;
  const int has_first =
      rule != FASTLSGD_SGD && rule != FASTLSGD_RMSPROP && rule != FASTLSGD_ADAGRAD;
  const int has_second = rule >= FASTLSGD_RMSPROP;
  return rule >= FASTLSGD_SGD && rule <= FASTLSGD_ADAMW &&
         (!has_first || (may_be(o->coef_first, t, d) && may_be(o->intercept_first, t, 1))) &&
         (!has_second || (may_be(o->coef_second, t, d) && may_be(o->intercept_second, t, 1)));
}

static int is_valid_state(const fastlsgd_state *s, const fastlsgd_epoch *e, int64_t t, int64_t d) {
  return s && (!(e->alpha * e->l1_ratio > 0.0) || may_be(s->l1_paid, t, d)) &&
         (s->average_after < 0 || (may_be(s->coef_sum, t, d) && may_be(s->intercept_sum, t, 1))) &&
         (!s->optimizer ||
          (!e->prox_soft && !e->implicit && is_valid_optimizer(s->optimizer, t, d)));
}

static int limit_threads(int n_threads) {
  const int most = fastlsgd_max_threads();
  return n_threads && n_threads < most ? n_threads : most;
}

/* ------------------------------------------------------------------ kernels */

int fastlsgd_loss_gradient(double *loss, double *dw, double *db, const fastlsgd_matrix *X,
                           const fastlsgd_targets *y, const double *w, const double *b,
                           const void *sample_weight, int n_threads) {
  fastlsgd_matrix x;
  fastlsgd_targets z;
  if (n_threads < 0 || !take_matrix(&x, X) || !take_targets(&z, y, x.n_rows))
    return FASTLSGD_INVALID;
  const int64_t t = z.n_targets, d = x.n_cols;
  if (!may_be(loss, t, 1) || !may_be(dw, t, d) || !may_be(db, t, 1) || !may_be(w, t, d) ||
      !may_be(b, t, 1))
    return FASTLSGD_INVALID;
  if (t == 0) return FASTLSGD_OK;
  return isas[current].kernels[x.dtype][z.dtype].loss_gradient(
      or_nothing(loss), or_nothing(dw), or_nothing(db), &x, &z, or_nothing(w), or_nothing(b),
      sample_weight, limit_threads(n_threads));
}

int fastlsgd_predict(void *out, const fastlsgd_matrix *X, const double *w, const double *b,
                     int64_t n_targets, int n_threads) {
  fastlsgd_matrix x;
  if (n_threads < 0 || !take_matrix(&x, X) || !may_be(out, x.n_rows, n_targets) ||
      !may_be(w, n_targets, x.n_cols) || !may_be(b, n_targets, 1))
    return FASTLSGD_INVALID;
  if (n_targets == 0) return FASTLSGD_OK;
  return isas[current].kernels[x.dtype][x.dtype].predict(
      or_nothing(out), &x, or_nothing(w), or_nothing(b), n_targets, limit_threads(n_threads));
}

int fastlsgd_gram(double *out, const fastlsgd_matrix *X, const fastlsgd_targets *y,
                  const void *sample_weight, const double *shift, int n_threads) {
  fastlsgd_matrix x;
  fastlsgd_targets z;
  if (n_threads < 0 || !take_matrix(&x, X) || !take_targets(&z, y, x.n_rows))
    return FASTLSGD_INVALID;
  const int64_t m = x.n_cols + z.n_targets + 1;
  if (!may_be(out, m, m)) return FASTLSGD_INVALID;
  return isas[current].kernels[x.dtype][z.dtype].gram(out, &x, &z, sample_weight, shift,
                                                      limit_threads(n_threads));
}

int fastlsgd_sgd_epoch(double *loss, void *w, double *b, const fastlsgd_matrix *X,
                       const fastlsgd_targets *y, const void *sample_weight,
                       const fastlsgd_epoch *epoch, fastlsgd_state *state, int n_threads) {
  return fastlsgd_sgd_epochs(loss, NULL, NULL, w, b, X, y, sample_weight, epoch, state, 1,
                             n_threads);
}

int fastlsgd_sgd_epochs(double *losses, void *coefs, double *intercepts, void *w, double *b,
                        const fastlsgd_matrix *X, const fastlsgd_targets *y,
                        const void *sample_weight, const fastlsgd_epoch *epoch,
                        fastlsgd_state *state, int64_t n_epochs, int n_threads) {
  fastlsgd_matrix x;
  fastlsgd_targets z;
  if (n_threads < 0 || !may_be(losses, n_epochs, 1) || !take_matrix(&x, X) ||
      !take_targets(&z, y, x.n_rows))
    return FASTLSGD_INVALID;
  const int64_t t = z.n_targets, d = x.n_cols;
  if (!may_be(w, t, d) || !may_be(b, t, 1) || !is_valid_epoch(epoch, x.n_rows) ||
      !is_valid_state(state, epoch, t, d))
    return FASTLSGD_INVALID;
  fastlsgd_epoch e = *epoch;
  if (e.batch_size > MOST_NUMBERS) e.batch_size = MOST_NUMBERS; /* sums with it don't overflow */
  const size_t coef_bytes = (size_t)(t * d) * (x.dtype == FASTLSGD_F32 ? 4 : 8);
  const size_t intercept_bytes = (size_t)t * sizeof *b;
  for (int64_t k = 0; k < n_epochs; ++k) {
    losses[k] = 0.0;
    if (t == 0) continue;
    const int status = isas[current].kernels[x.dtype][z.dtype].sgd_epoch(
        losses + k, or_nothing(w), or_nothing(b), &x, &z, sample_weight, &e, state,
        limit_threads(n_threads));
    if (status != FASTLSGD_OK) return status;
    if (coefs && coef_bytes) memcpy((char *)coefs + k * coef_bytes, w, coef_bytes);
    if (intercepts) memcpy(intercepts + k * t, b, intercept_bytes);
    e.rates += (e.n_visits + e.batch_size - 1) / e.batch_size;
    if (e.order) e.order += e.n_visits;
  }
  return FASTLSGD_OK;
}
