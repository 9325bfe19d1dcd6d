/* Rows in random order, as numpy.random.RandomState.permutation has them. For this package alone. */
#ifndef FASTLSGD_PERMUTATIONS_H
#define FASTLSGD_PERMUTATIONS_H

#include <stdint.h>

/* Shuffles each of the n_orders orders (n_orders, n) of less than 2^32 rows in place, with random numbers from `generator`,
 * a bitgen_t of NumPy, whose lock the caller holds. */
void fastlsgd_permute(int64_t *orders, int64_t n_orders, int64_t n, void *generator);

#endif
