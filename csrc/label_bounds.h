/* Where the groups of sorted labels begin. For this package alone. */
#ifndef FASTLSGD_LABEL_BOUNDS_H
#define FASTLSGD_LABEL_BOUNDS_H

#include <stdint.h>

typedef enum {
  FASTLSGD_SIGNED,
  FASTLSGD_UNSIGNED,
  FASTLSGD_FLOATING,
  FASTLSGD_ANY_BITS
} fastlsgd_label_kind;

/* Writes into bounds (n + 1,) where each of the labels (n,) begins and, last, n; returns how many
 * labels there are, or -1 if they are not sorted, have a NaN, or are of another type than whole
 * numbers of 1 to 8 bytes, float and double. Of FASTLSGD_ANY_BITS, labels are equal where their bits
 * are, and have no order: they are as many as there are changes from row to row. */
int64_t fastlsgd_label_bounds(int64_t *bounds, const void *labels, int64_t n, int bytes,
                              fastlsgd_label_kind kind);

/* Sorts rows by their codes, 0 <= code < n_codes, those of one code in their order: order (n,), and
 * starts (n_codes + 1,), where each code begins. */
void fastlsgd_sort_codes(int64_t *order, int64_t *starts, const int64_t *codes, int64_t n,
                         int64_t n_codes);

#endif
