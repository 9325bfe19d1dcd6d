/* Lasso, elastic net and signs on few numbers: see small_lasso.h.
 *
 * Epochs of coordinate descent on the Gram matrix H guess which weights are not zero. The Cholesky
 * factor of these columns then gives their weights, and the guess is right if they keep their signs
 * and no other column could lower J. Else the descent goes on, for twice as many epochs. In the end
 * one pass over the rows finds the gradient, by which solvers/small_lasso.py judges the weights.
 *
 * Cost: the moments of small_moments.c, k^2 per epoch and k^3 / 2 per guess for k weights that are
 * not zero, and a pass over the rows per penalty. */
#include "small_lasso.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "coordinate_descent.h"

/* A guess takes about as long as so many epochs; after the last of the rounds there were 1,000. */
enum { FIRST_EPOCHS = 4, ROUNDS = 8 };
/* Of the gradient at zero: by how much rounding may seem to violate optimality. */
static const double SLACK = 1e-13;

typedef struct {
  int64_t d;
  double *H;                  /* (d, d) */
  const double *c;            /* (d,): H w = c without a penalty */
  double *q;                  /* (d,): H w - c */
  double *part, *R, *T;       /* (k, k) of the weights that are not zero */
  double *scale, *v, *solved; /* (d,) */
  int64_t *where;             /* (d,) */
} Quadratic;

static double unit_of(const Quadratic *p, double l1) {
  double unit = l1;
  for (int64_t j = 0; j < p->d; ++j) unit = fabs(p->c[j]) > unit ? fabs(p->c[j]) : unit;
  return unit;
}

static void find_gradient(const Quadratic *p, const double *w) {
  for (int64_t j = 0; j < p->d; ++j) p->q[j] = -p->c[j];
  for (int64_t i = 0; i < p->d; ++i) {
    if (w[i] == 0.0) continue;
    for (int64_t j = 0; j < p->d; ++j) p->q[j] += w[i] * p->H[i * p->d + j];
  }
}

/* Fills `solved` with the weights of the k columns `where`; returns their condition, or infinity
 * where they depend on each other. */
static double solve_set(const Quadratic *p, const double *w, int64_t k, double l1, double l2) {
  for (int64_t a = 0; a < k; ++a)
    for (int64_t b = a; b < k; ++b) p->part[a * k + b] = p->H[p->where[a] * p->d + p->where[b]];
  if (!fastlsgd_factorise(p->part, k, k, l2, p->R, p->scale)) return INFINITY;
  fastlsgd_invert(p->R, k, p->T);
  memset(p->v, 0, (size_t)k * sizeof(double));
  for (int64_t a = 0; a < k; ++a) {
    const int64_t j = p->where[a];
    const double right = (p->c[j] - copysign(l1, w[j])) * p->scale[a];
    for (int64_t b = a; b < k; ++b) p->v[b] += right * p->T[a * k + b];
  }
  for (int64_t a = 0; a < k; ++a) {
    double sum = 0.0;
    for (int64_t b = a; b < k; ++b) sum += p->T[a * k + b] * p->v[b];
    p->solved[a] = sum * p->scale[a];
  }
  return fastlsgd_set_condition(p->part, p->scale, p->T, k, l2);
}

/* Whether no column outside of the set would lower J at w. */
static int is_optimal(const Quadratic *p, const double *w, double l1, int positive, double slack) {
  for (int64_t j = 0; j < p->d; ++j) {
    const double slope = positive ? -p->q[j] : fabs(p->q[j]);
    if (w[j] == 0.0 && !(slope <= l1 + slack)) return 0;
  }
  return 1;
}

/* Minimises over w from where it is; 0 where that fails. */
static int minimise(const Quadratic *p, double *w, double l1, double l2, int positive,
                    double *condition, int64_t *n_solves) {
  const fastlsgd_quadratic descent = {
      .H = p->H, .k = p->d, .row_stride = p->d, .l1 = l1, .l2 = l2, .positive = positive};
  const double slack = SLACK * unit_of(p, l1);
  for (int round = 0; round < ROUNDS; ++round) {
    find_gradient(p, w);
    const int64_t epochs = (int64_t)FIRST_EPOCHS << round;
    const int64_t done = fastlsgd_coordinate_descent(w, p->q, &descent, slack, epochs);
    int64_t k = 0, keeps = 1;
    for (int64_t j = 0; j < p->d; ++j)
      if (w[j] != 0.0) p->where[k++] = j;
    *condition = k ? solve_set(p, w, k, l1, l2) : 1.0;
    *n_solves += 1;
    for (int64_t a = 0; a < k; ++a) keeps &= p->solved[a] * w[p->where[a]] > 0.0; /* nor NaN */
    if (*condition < INFINITY && keeps) {
      double *guess = p->v; /* (d,) */
      memset(guess, 0, (size_t)p->d * sizeof(double));
      for (int64_t a = 0; a < k; ++a) guess[p->where[a]] = p->solved[a];
      find_gradient(p, guess);
      if (is_optimal(p, guess, l1, positive, slack)) {
        memcpy(w, guess, (size_t)p->d * sizeof(double));
        return 1;
      }
    }
    if (done < epochs) return 0;
  }
  return 0;
}

/* The gradient and the mean squares at w, where the intercept becomes the best one. */
static int look(const fastlsgd_moments *m, fastlsgd_small_lasso_fit *out, int64_t at, double *loss,
                double *db) {
  const int64_t d = m->d, t = m->t;
  const double *w = out->coef + at * t * d;
  double *b = out->intercept + at * t, *gradient = out->gradient + at * t * d;
  for (int64_t k = 0; k < t; ++k) {
    b[k] = m->y_centre[k];
    for (int64_t j = 0; j < d && m->centred; ++j) b[k] -= w[k * d + j] * m->centre[j];
  }
  if (fastlsgd_loss_gradient(loss, gradient, db, &m->X, m->y, w, b, m->s, 1)) return -1;
  for (int64_t k = 0; k < t; ++k) {
    const double off = m->centred ? db[k] : 0.0;
    for (int64_t j = 0; j < d; ++j) gradient[k * d + j] -= off * m->centre[j];
    b[k] -= off;
    out->squares[at * t + k] = fmax(2.0 * loss[k] - off * off, 0.0);
  }
  return 1;
}

/* Fills what does not depend on the penalty. */
static void describe(const fastlsgd_moments *m, fastlsgd_small_lasso_fit *out, double *H) {
  const int64_t d = m->d;
  out->weight = m->weight;
  memcpy(out->centre, m->centre, (size_t)d * sizeof(double));
  memcpy(out->y_centre, m->y_centre, (size_t)m->t * sizeof(double));
  for (int64_t i = 0; i < d; ++i) {
    for (int64_t j = 0; j < d; ++j) H[i * d + j] = m->gram[i * m->m + j] / m->weight;
    out->size[i] = sqrt(H[i * (d + 1)]);
  }
  for (int64_t k = 0; k < m->t; ++k) {
    const double mean = m->y_centre[k];
    out->variance[k] = fmax(m->y_squares[k] / m->weight - mean * mean, 0.0);
    for (int64_t j = 0; j < d; ++j) out->slope[k * d + j] = m->gram[(d + k) * m->m + j] / m->weight;
  }
}

static int solve_all(const fastlsgd_moments *m, fastlsgd_small_lasso_fit *out,
                     const fastlsgd_small_penalties *penalties, Quadratic *p, double *loss) {
  const int64_t size = m->t * m->d;
  for (int64_t at = 0; at < penalties->k; ++at) {
    double *w = out->coef + at * size, worst = 1.0;
    if (at) memcpy(w, w - size, (size_t)size * sizeof(double));
    out->n_solves[at] = 0;
    for (int64_t k = 0; k < m->t; ++k) {
      double condition;
      int64_t n_solves = 0;
      p->c = out->slope + k * m->d;
      if (!minimise(p, w + k * m->d, penalties->l1[at], penalties->l2[at], penalties->positive,
                    &condition, &n_solves))
        return 0;
      worst = condition > worst ? condition : worst;
      out->n_solves[at] = n_solves > out->n_solves[at] ? n_solves : out->n_solves[at];
    }
    out->condition[at] = worst;
    if (!(worst <= penalties->most_condition)) return 0;
    const int status = look(m, out, at, loss, loss + m->t);
    if (status != 1) return status;
  }
  return 1;
}

int fastlsgd_small_lasso(fastlsgd_small_lasso_fit *out, const fastlsgd_matrix *X,
                         const fastlsgd_targets *y, const void *sample_weight, int fit_intercept,
                         const fastlsgd_ordinary *ordinary,
                         const fastlsgd_small_penalties *penalties) {
  const int64_t d = X->n_cols, t = y->n_targets, n_work = 4 * d * d + 5 * d + 2 * t;
  fastlsgd_moments m;
  int status = fastlsgd_take_moments(&m, X, y, sample_weight, fit_intercept, n_work, ordinary);
  if (status == 1) {
    double *next = m.work;
    Quadratic p = {.d = d, .H = next};
    p.part = next += d * d, p.R = next += d * d, p.T = next += d * d, p.q = next += d * d;
    p.scale = next += d, p.v = next += d, p.solved = next += d;
    p.where = (int64_t *)(next += d);
    memset(out->coef, 0, (size_t)(t * d) * sizeof(double));
    describe(&m, out, p.H);
    status = solve_all(&m, out, penalties, &p, next + d);
  }
  free(m.memory);
  return status;
}
