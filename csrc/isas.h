/* The instruction sets that are compiled (FASTLSGD_ISAS of CMakeLists.txt), from the plainest on. A
 * table with an entry for each, in this order, takes fastlsgd_isa() as its index. */
#ifndef FASTLSGD_ISAS_H
#define FASTLSGD_ISAS_H

#ifdef FASTLSGD_AVX2
#define FASTLSGD_IF_AVX2(DO) DO(avx2)
#else
#define FASTLSGD_IF_AVX2(DO)
#endif
#ifdef FASTLSGD_AVX512
#define FASTLSGD_IF_AVX512(DO) DO(avx512)
#else
#define FASTLSGD_IF_AVX512(DO)
#endif

#define FASTLSGD_FOR_EACH_ISA(DO) DO(baseline) FASTLSGD_IF_AVX2(DO) FASTLSGD_IF_AVX512(DO)

#endif
