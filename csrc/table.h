/* What each instruction set offers to dispatch.c: one entry a dtype of X and of y. Not installed. */
#ifndef FASTLSGD_TABLE_H
#define FASTLSGD_TABLE_H

#include "fastlsgd.h"

/* Set in a child after fork, where no thread may be started: the parts of the work, and so the bits
 * of the result, stay those of the parent. */
extern int fastlsgd_forked __attribute__((visibility("hidden")));

/* Threads of a team for work in so many parts: fewer where no more can be started (threads.c). */
int fastlsgd_team(int parts) __attribute__((visibility("hidden")));

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
