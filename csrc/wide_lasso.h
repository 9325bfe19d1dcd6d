/* Lasso and elastic net of few numbers by working sets: in the extension module alone. */
#ifndef FASTLSGD_WIDE_LASSO_H
#define FASTLSGD_WIDE_LASSO_H

#include "small_lasso.h"

/* What fastlsgd_small_lasso does, by working sets of columns. Allocates X in float64, and 8 bytes x
 * (2 r^2 + (r + 64)^2 + 3 n + 14 d) for r = 320, or if that is less d, or n without an L2 penalty. */
int fastlsgd_wide_lasso(fastlsgd_small_lasso_fit *out, const fastlsgd_matrix *X,
                        const fastlsgd_targets *y, const void *sample_weight, int fit_intercept,
                        const fastlsgd_ordinary *ordinary,
                        const fastlsgd_small_penalties *penalties);

typedef int (*fastlsgd_wide_lasso_function)(fastlsgd_small_lasso_fit *, const fastlsgd_matrix *,
                                            const fastlsgd_targets *, const void *, int,
                                            const fastlsgd_ordinary *,
                                            const fastlsgd_small_penalties *);

#endif
