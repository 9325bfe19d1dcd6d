/* Segments by the instruction set that the library uses. */

#include "isas.h"
#include "segments.h"

#define DECLARE(isa) extern const fastlsgd_fit_of_segments fastlsgd_segments_##isa[2][2];
FASTLSGD_FOR_EACH_ISA(DECLARE)

#define ENTRY(isa) fastlsgd_segments_##isa,
static const fastlsgd_fit_of_segments (*const tables[])[2] = {FASTLSGD_FOR_EACH_ISA(ENTRY)};

int fastlsgd_fit_segments(fastlsgd_segment_fits *out, const fastlsgd_matrix *X,
                          const fastlsgd_targets *y, const void *sample_weight,
                          const fastlsgd_segments *segments, int n_threads) {
  const int most = fastlsgd_max_threads();
  return tables[fastlsgd_isa()][X->dtype][y->dtype](out, X, y, sample_weight, segments,
                                                    n_threads < most ? n_threads : most);
}
