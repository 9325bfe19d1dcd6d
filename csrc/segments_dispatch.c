/* Segments by the instruction set that the library uses. */

#include "segments.h"

extern const fastlsgd_fit_of_segments fastlsgd_segments_baseline[2][2];
#ifdef FASTLSGD_AVX2
extern const fastlsgd_fit_of_segments fastlsgd_segments_avx2[2][2];
#endif
#ifdef FASTLSGD_AVX512
extern const fastlsgd_fit_of_segments fastlsgd_segments_avx512[2][2];
#endif

/* In the order of `isas` in dispatch.c, so that fastlsgd_isa() is an index of both. */
static const fastlsgd_fit_of_segments (*const tables[])[2] = {
    fastlsgd_segments_baseline,
#ifdef FASTLSGD_AVX2
    fastlsgd_segments_avx2,
#endif
#ifdef FASTLSGD_AVX512
    fastlsgd_segments_avx512,
#endif
};

int fastlsgd_fit_segments(fastlsgd_segment_fits *out, const fastlsgd_matrix *X,
                          const fastlsgd_targets *y, const void *sample_weight,
                          const fastlsgd_segments *segments, int n_threads) {
  const int most = fastlsgd_max_threads();
  return tables[fastlsgd_isa()][X->dtype][y->dtype](out, X, y, sample_weight, segments,
                                                    n_threads < most ? n_threads : most);
}
