/* The instruction sets that are compiled (FASTLSGD_ISAS of CMakeLists.txt), from the plainest on. A
 * table with an entry for each, in this order, takes fastlsgd_isa() as its index. */
#ifndef FASTLSGD_ISAS_H
#define FASTLSGD_ISAS_H

#ifdef FASTLSGD_AVX2
#define FASTLSGD_IF_AVX2(...) __VA_ARGS__
#else
#define FASTLSGD_IF_AVX2(...)
#endif
#ifdef FASTLSGD_AVX512
#define FASTLSGD_IF_AVX512(...) __VA_ARGS__
#else
#define FASTLSGD_IF_AVX512(...)
#endif

#define FASTLSGD_FOR_EACH_ISA(DO) \
  DO(baseline) FASTLSGD_IF_AVX2(DO(avx2)) FASTLSGD_IF_AVX512(DO(avx512))

#endif
