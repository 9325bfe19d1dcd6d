/* Chooses the instruction set when the library is loaded, and passes each call to its kernels. */

#include "coordinate_descent.h"
#include "table.h"

#include <stddef.h>
#ifdef _OPENMP
#include <omp.h>
#endif

extern const fastlsgd_kernels fastlsgd_table_baseline[2][2];
extern const fastlsgd_descent fastlsgd_descent_baseline;
#ifdef FASTLSGD_X86
extern const fastlsgd_kernels fastlsgd_table_avx2[2][2];
extern const fastlsgd_kernels fastlsgd_table_avx512[2][2];
extern const fastlsgd_descent fastlsgd_descent_avx2, fastlsgd_descent_avx512;
#endif

#if defined(FASTLSGD_X86) && defined(_MSC_VER)
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
static int has_avx2(void) { return supports(0x06, AVX2); }
static int has_avx512(void) {
  return supports(0xe6, AVX2 | AVX512F | AVX512DQ | AVX512BW | AVX512VL);
}
#elif defined(FASTLSGD_X86)
/* __builtin_cpu_supports also checks that the operating system saves the registers. */
static int has_avx2(void) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
static int has_avx512(void) {
  __builtin_cpu_init();
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
}
#endif
static int always(void) { return 1; }

static const struct {
  const char *name;
  int (*supported)(void);
  const fastlsgd_kernels (*kernels)[2]; /* by the dtype of X, then that of y */
  const fastlsgd_descent *descent;
} isas[] = {
#ifdef FASTLSGD_X86
    {"sse2", always, fastlsgd_table_baseline, &fastlsgd_descent_baseline},
    {"avx2", has_avx2, fastlsgd_table_avx2, &fastlsgd_descent_avx2},
    {"avx512", has_avx512, fastlsgd_table_avx512, &fastlsgd_descent_avx512},
#elif defined(__aarch64__)
    {"neon", always, fastlsgd_table_baseline, &fastlsgd_descent_baseline},
#else
    {"baseline", always, fastlsgd_table_baseline, &fastlsgd_descent_baseline},
#endif
};
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

static int limit_threads(int n_threads) {
  int most = fastlsgd_max_threads();
  return n_threads < most ? n_threads : most;
}

int fastlsgd_loss_gradient(double *loss, double *dw, double *db, const fastlsgd_matrix *X,
                           const fastlsgd_targets *y, const double *w, const double *b,
                           const void *sample_weight, int n_threads) {
  return isas[current].kernels[X->dtype][y->dtype].loss_gradient(
      loss, dw, db, X, y, w, b, sample_weight, limit_threads(n_threads));
}

int fastlsgd_predict(void *out, const fastlsgd_matrix *X, const double *w, const double *b,
                     int64_t n_targets, int n_threads) {
  return isas[current].kernels[X->dtype][X->dtype].predict(out, X, w, b, n_targets,
                                                           limit_threads(n_threads));
}

int fastlsgd_gram(double *out, const fastlsgd_matrix *X, const fastlsgd_targets *y,
                  const void *sample_weight, const double *shift, int n_threads) {
  return isas[current].kernels[X->dtype][y->dtype].gram(out, X, y, sample_weight, shift,
                                                        limit_threads(n_threads));
}

int fastlsgd_sgd_epoch(double *loss, void *w, double *b, const fastlsgd_matrix *X,
                       const fastlsgd_targets *y, const void *sample_weight,
                       const fastlsgd_epoch *epoch, fastlsgd_state *state, int n_threads) {
  return isas[current].kernels[X->dtype][y->dtype].sgd_epoch(loss, w, b, X, y, sample_weight, epoch,
                                                             state, limit_threads(n_threads));
}

int64_t fastlsgd_coordinate_descent(double *w, double *q, const fastlsgd_quadratic *problem,
                                    double tol, int64_t n_epochs) {
  return (*isas[current].descent)(w, q, problem, tol, n_epochs);
}
