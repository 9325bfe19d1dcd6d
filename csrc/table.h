/* The kernels of one instruction set for one dtype of X and one of y, as dispatch.c calls them, and
 * what the .c files share. Not installed. */
#ifndef FASTLSGD_TABLE_H
#define FASTLSGD_TABLE_H

#include "fastlsgd.h"

/* Set in a child after fork, where no thread may be started. The work is still divided into the
 * same parts, so that results have the same bits as in the parent. */
extern int fastlsgd_forked __attribute__((visibility("hidden")));

typedef struct {
  int (*loss_gradient)(double *, double *, double *, const fastlsgd_matrix *,
                       const fastlsgd_targets *, const double *, const double *, const void *, int);
  int (*predict)(void *, const fastlsgd_matrix *, const double *, const double *, int64_t, int);
  int (*gram)(double *, const fastlsgd_matrix *, const fastlsgd_targets *, const void *,
              const double *, int);
  int (*sgd_epoch)(double *, void *, double *, const fastlsgd_matrix *, const fastlsgd_targets *,
                   const void *, const fastlsgd_epoch *, fastlsgd_state *, int);
} fastlsgd_kernels;

#endif
