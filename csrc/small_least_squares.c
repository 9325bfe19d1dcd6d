/* min over w, b of 1/2 sum_i s_i (x_i . w + b - y_i)^2 + alpha/2 |w|^2 for few numbers.
 *
 * The moments about the mean, the Cholesky factor R of the scaled columns with its condition, and
 * one or two steps of refinement on the true residual, in one call: for 20 rows of 3 columns this
 * takes 3 microseconds, and the calls of NumPy and LAPACK that do the same some 40. Beside the
 * moments, it costs d^3 / 2 multiply-adds per penalty.
 *
 * solvers/small.py has the same in Python, for backends without this function, and says when it is
 * used. What is out of the ordinary is not solved here, but found. */
#include "small_least_squares.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  const fastlsgd_moments *moments;
  const fastlsgd_ordinary *ordinary;
  const fastlsgd_small_goal *goal;
  double *T;                         /* (d, d): D R^-1 */
  double *units, *moved, *loss, *db; /* (t,) */
  double *dw, *z;                    /* (t, d) */
  double *work;                      /* (2, d) */
} Fit;

/* z = T^T g, and the return value |z|^2. */
static double whiten(const Fit *p, const double *g, double *z) {
  const fastlsgd_moments *m = p->moments;
  double square = 0.0;
  memset(z, 0, (size_t)m->d * sizeof(double));
  for (int64_t i = 0; i < m->d; ++i)
    for (int64_t j = i; j < m->d; ++j) z[j] += g[i] * p->T[i * m->d + j];
  for (int64_t j = 0; j < m->d; ++j) square += z[j] * z[j];
  return square;
}

/* w += sign T z; returns the change of w . centre. */
static double unwhiten(const Fit *p, const double *z, double sign, double *w) {
  const fastlsgd_moments *m = p->moments;
  double moved = 0.0;
  for (int64_t i = 0; i < m->d; ++i) {
    double sum = 0.0;
    for (int64_t j = i; j < m->d; ++j) sum += p->T[i * m->d + j] * z[j];
    w[i] += sign * sum;
    if (m->centred) moved += sign * sum * m->centre[i];
  }
  return moved;
}

/* Fills units with the squared gradients at zero, w and b with the weights of the factor. */
static int start(Fit *p, double *w, double *b) {
  const fastlsgd_moments *m = p->moments;
  memset(w, 0, (size_t)(m->t * m->d) * sizeof(double));
  for (int64_t k = 0; k < m->t; ++k) {
    double *z = p->z + k * m->d;
    p->units[k] = whiten(p, m->gram + (m->d + k) * m->m, z);
    if (!(p->units[k] > 0.0)) return 0;
    b[k] = m->y_centre[k] - unwhiten(p, z, 1.0, w + k * m->d);
  }
  return 1;
}

/* The gradient at w, b in z, and |z|^2 of each target in `moved`; residual receives sum s r^2 after
 * the intercept, which becomes the best one. Returns the objective, and in *share the least |r|
 * relative to the gradient at zero. */
static double look(Fit *p, double alpha, const double *w, double *b, double *residual,
                   double *share) {
  const fastlsgd_moments *m = p->moments;
  double objective = 0.0, least = INFINITY;
  for (int64_t k = 0; k < m->t; ++k) {
    const double *own = w + k * m->d;
    double *slope = p->dw + k * m->d, penalty = 0.0;
    for (int64_t j = 0; j < m->d; ++j) {
      slope[j] = m->weight * p->dw[k * m->d + j] + alpha * own[j];
      penalty += alpha * own[j] * own[j];
    }
    residual[k] = 2.0 * m->weight * p->loss[k];
    objective += 0.5 * (residual[k] + penalty);
    if (m->centred) {
      const double pull = m->weight * p->db[k];
      for (int64_t j = 0; j < m->d; ++j) slope[j] -= pull * m->centre[j];
      residual[k] -= pull * p->db[k];
      b[k] -= p->db[k];
    }
    p->moved[k] = whiten(p, slope, p->z + k * m->d);
    const double total = (residual[k] + penalty) / p->units[k];
    least = total < least ? total : least;
  }
  *share = sqrt(least > 0.0 ? least : 0.0);
  return objective;
}

/* 1 if the weights for this penalty are certain, 0 if not, -1 without memory. */
static int solve(Fit *p, double alpha, fastlsgd_small_fit *out, int64_t at) {
  const fastlsgd_moments *m = p->moments;
  const fastlsgd_small_goal *goal = p->goal;
  const int64_t d = m->d, t = m->t;
  double *w = out->coef + at * t * d, *b = out->intercept + at * t;
  double *residual = out->residual + at * t, *R = out->upper + at * d * d;
  double *scale = out->scale + at * d;
  if (!fastlsgd_factorise(m->gram, m->m, d, alpha, R, scale)) return 0;
  fastlsgd_invert(R, d, p->T);
  const double condition = out->condition[at] = fastlsgd_condition(R, p->T, d, p->work);
  for (int64_t i = 0; i < d; ++i)
    for (int64_t j = i; j < d; ++j) p->T[i * d + j] *= scale[i];
  if (!(condition <= goal->most_condition) || !start(p, w, b)) return 0;
  double last = 1.0;
  for (int64_t step = 0; step < goal->most_corrections; ++step) {
    if (fastlsgd_loss_gradient(p->loss, p->dw, p->db, &m->X, m->y, w, b, m->s, 1)) return -1;
    double share, largest = 0.0, most = 0.0;
    out->losses[at * goal->most_corrections + step] = look(p, alpha, w, b, residual, &share);
    for (int64_t k = 0; k < t; ++k) {
      const double square = p->moved[k] / p->units[k];
      if (!(square <= goal->sharp * goal->sharp * last * last)) return 0; /* or NaN */
      largest = square > largest ? square : largest;
      most = residual[k] > most ? residual[k] : most;
    }
    const double ratio = sqrt(largest), ahead = ratio * ratio / last;
    const double wanted =
        (goal->tol > goal->rounding ? goal->tol : goal->rounding) * fmin(share, 1.0);
    const double asked = wanted > goal->rounding ? wanted : goal->rounding;
    for (int64_t k = 0; k < t; ++k) b[k] -= unwhiten(p, p->z + k * d, -1.0, w + k * d);
    /* A step that is expected to end far below the goal is not checked by another pass. */
    const int is_safe = !goal->certify && goal->safety * ahead * condition <= asked;
    if (ratio <= asked || is_safe) {
      if (!(most < p->ordinary->most_square)) return 0;
      for (int64_t k = 0; k < t && ratio > asked; ++k) residual[k] -= p->moved[k];
      for (int64_t k = 0; k < t; ++k) residual[k] = residual[k] > 0.0 ? residual[k] : 0.0;
      out->ratio[at] = ratio > asked ? ahead : ratio;
      out->n_iter[at] = step + 1;
      return 1;
    }
    last = ratio;
  }
  return 0;
}

int fastlsgd_small_least_squares(fastlsgd_small_fit *out, const fastlsgd_matrix *X,
                                 const fastlsgd_targets *y, const void *sample_weight,
                                 const double *alphas, int64_t k, int fit_intercept,
                                 const fastlsgd_ordinary *ordinary,
                                 const fastlsgd_small_goal *goal) {
  const int64_t d = X->n_cols, t = y->n_targets, n_work = d * d + 4 * t + 2 * t * d + 2 * d;
  fastlsgd_moments moments;
  int status =
      fastlsgd_take_moments(&moments, X, y, sample_weight, fit_intercept, n_work, ordinary);
  if (status == 1) {
    double *next = moments.work;
    Fit fit = {.moments = &moments, .ordinary = ordinary, .goal = goal, .T = next};
    fit.units = next += d * d, fit.moved = next += t, fit.loss = next += t, fit.db = next += t;
    fit.dw = next += t, fit.z = next += t * d, fit.work = next + t * d;
    memcpy(out->centre, moments.centre, (size_t)d * sizeof(double));
    for (int64_t at = 0; at < k && status == 1; ++at) status = solve(&fit, alphas[at], out, at);
  }
  free(moments.memory);
  return status;
}

/* x (d, t) = w (t, d)^T in this dtype; 0 where a number overflows it or is not normal. */
static int transposed(void *x, fastlsgd_dtype dtype, const double *w, int64_t t, int64_t d) {
  const double least = dtype == FASTLSGD_F32 ? (double)FLT_MIN : DBL_MIN;
  for (int64_t k = 0; k < t; ++k)
    for (int64_t j = 0; j < d; ++j) {
      const double value = w[k * d + j];
      if (!(fabs(value) >= least)) return 0;
      if (dtype == FASTLSGD_F32) {
        const float rounded = ((float *)x)[j * t + k] = (float)value;
        if (isinf(rounded)) return 0;
      } else {
        ((double *)x)[j * t + k] = value;
        if (isinf(value)) return 0;
      }
    }
  return 1;
}

int fastlsgd_small_weights(void *x, const fastlsgd_matrix *X, const fastlsgd_targets *y,
                           const void *sample_weight, double alpha,
                           const fastlsgd_ordinary *ordinary, const fastlsgd_small_goal *goal) {
  const int64_t d = X->n_cols, t = y->n_targets, steps = goal->most_corrections;
  int64_t n_iter;
  double condition, ratio;
  fastlsgd_small_fit fit = {.condition = &condition, .ratio = &ratio, .n_iter = &n_iter};
  double *memory = malloc((size_t)(t * d + 2 * t + d * d + 2 * d + steps) * sizeof *memory);
  if (!memory) return -1;
  fit.coef = memory, fit.intercept = fit.coef + t * d, fit.residual = fit.intercept + t;
  fit.upper = fit.residual + t, fit.scale = fit.upper + d * d, fit.centre = fit.scale + d;
  fit.losses = fit.centre + d;
  int status =
      fastlsgd_small_least_squares(&fit, X, y, sample_weight, &alpha, 1, 0, ordinary, goal);
  if (status == 1) status = transposed(x, X->dtype, fit.coef, t, d);
  free(memory);
  return status;
}
