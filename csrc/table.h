/* What each instruction set offers to dispatch.c: one entry a dtype. Not installed. */
#ifndef FASTLSGD_TABLE_H
#define FASTLSGD_TABLE_H

#include "fastlsgd.h"

typedef struct {
  int (*loss_gradient)(double *, double *, double *, const fastlsgd_matrix *,
                       const fastlsgd_targets *, const double *, const double *, const void *, int);
  int (*predict)(void *, const fastlsgd_matrix *, const double *, const double *, int64_t, int);
  int (*gram)(double *, const fastlsgd_matrix *, const fastlsgd_targets *, const void *,
              const double *, int);
  int (*sgd_epoch)(double *, void *, double *, const fastlsgd_matrix *, const fastlsgd_targets *,
                   const void *, const fastlsgd_epoch *, fastlsgd_state *);
} fastlsgd_kernels;

#endif
