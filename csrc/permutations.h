/* Rows in random order, as numpy.random.RandomState.permutation has them, and random samples of
 * rows. For this package alone. */
#ifndef FASTLSGD_PERMUTATIONS_H
#define FASTLSGD_PERMUTATIONS_H

#include <stdint.h>

/* Shuffles each of the n_orders orders (n_orders, n) of less than 2^32 rows in place, with random numbers from `generator`,
 * a bitgen_t of NumPy, whose lock the caller holds. */
void fastlsgd_permute(int64_t *orders, int64_t n_orders, int64_t n, void *generator);

/* Finds which of the rows start, ..., start + n - 1 have a key below limit, 0 <= limit <= 1: their
 * places (n,), counted from start, and keys (n,), of which only the first ones are written; returns
 * how many there are. The key of a row is a random number in [0, 1) that depends on its number alone
 * (splitmix64, Steele, Lea and Flood 2014), rounded to a double. */
int64_t fastlsgd_keys_below(int64_t *places, double *keys, double limit, uint64_t start, int64_t n);

#endif
