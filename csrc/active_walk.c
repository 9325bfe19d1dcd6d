/* From active set to active set, to the minimum of 1/2 w^T H w - c^T w + l1 |w|_1 + l2/2 |w|^2.
 *
 * A step goes towards the minimum of the set, with the signs that its weights have. It ends where a
 * weight reaches zero, whose column leaves. At the minimum of a set, columns join that violate
 * optimality (Lee, Battle, Raina and Ng 2006, "Efficient sparse coding algorithms", NIPS). J falls on
 * the way. A column that depends on the set takes the place of one of its columns: weights move along
 * the dependence, which lowers the L1 penalty alone, until one is zero.
 *
 * The Cholesky factor of the set is updated: a column that joins costs p^2 / 2 multiply-adds for p in
 * the set, and one that leaves 2 p^2 at most, by Givens rotations (Golub and Van Loan 2013, section
 * 6.5.2). Beside that, a step has two triangular solves and, at the minimum of a set, k p for the
 * gradient. A new factor for each step, p^3 / 3, took 20 s for 437 x 1,830 columns of which neighbours
 * correlate by 0.95.
 *
 * This file is compiled once per instruction set. */
#include "active_walk.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "double_vectors.inc"

/* A column depends on the set if no more of its square is left, times the number of columns. */
static const double DEPENDENT = 2.3e-16;
/* The share of the largest violation from which others join too, and how many of the set's size. */
static const double NEARLY = 0.5, AT_ONCE = 0.1;

typedef struct {
  const fastlsgd_quadratic *p;
  fastlsgd_walk *at;
  double *h, *move; /* (most,), (most,) */
  double *q;        /* (k,): H w - c */
} Walk;

/* v = R^-T v */
static void solve_lower(const fastlsgd_walk *at, double *v) {
  for (int64_t a = 0; a < at->size; ++a) {
    const double *row = at->R + a * at->most;
    v[a] /= row[a];
    add(v + a + 1, -v[a], row + a + 1, at->size - a - 1);
  }
}

/* v = R^-1 v */
static void solve_upper(const fastlsgd_walk *at, double *v) {
  for (int64_t a = at->size - 1; a >= 0; --a) {
    const double *row = at->R + a * at->most;
    v[a] = (v[a] - dot(row + a + 1, v + a + 1, at->size - a - 1)) / row[a];
  }
}

/* Lets column j join; 0 if it depends on the set, where h is left as R^-T of its products. */
static int insert(const Walk *s, int64_t j, double sign) {
  fastlsgd_walk *at = s->at;
  const double *row = s->p->H + j * s->p->row_stride;
  const int64_t size = at->size;
  for (int64_t a = 0; a < size; ++a)
    s->h[a] = row[at->set[a]] * at->scale[at->set[a]] * at->scale[j];
  solve_lower(at, s->h);
  const double rest = 1.0 - dot(s->h, s->h, size);
  if (!(rest > DEPENDENT * (double)(size + 8)) || size == at->most) return 0;
  for (int64_t a = 0; a < size; ++a) at->R[a * at->most + size] = s->h[a];
  at->R[size * at->most + size] = sqrt(rest);
  at->set[size] = j, at->sign[j] = sign, at->size = size + 1;
  return 1;
}

/* Rotates x, which begins one place further on, and y, so that y begins with 0. */
static void rotate(double *x, double *y, int64_t n) {
  const double norm = sqrt(x[1] * x[1] + y[0] * y[0]);
  const double cosine = norm > 0.0 ? x[1] / norm : 1.0, sine = norm > 0.0 ? y[0] / norm : 0.0;
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    const vec above = *(const vec *)(x + i + 1), below = *(const vec *)(y + i);
    *(vec *)(x + i) = cosine * above + sine * below;
    *(vec *)(y + i) = cosine * below - sine * above;
  }
  for (; i < n; ++i) {
    const double above = x[i + 1], below = y[i];
    x[i] = cosine * above + sine * below;
    y[i] = cosine * below - sine * above;
  }
}

/* The column at place a of the set leaves, with a weight of zero. */
static void delete_place(fastlsgd_walk *at, int64_t a) {
  const int64_t size = --at->size;
  at->w[at->set[a]] = at->sign[at->set[a]] = 0.0;
  memmove(at->set + a, at->set + a + 1, (size_t)(size - a) * sizeof *at->set);
  for (int64_t i = 0; i < a; ++i) {
    double *row = at->R + i * at->most;
    memmove(row + a, row + a + 1, (size_t)(size - a) * sizeof *row);
  }
  for (int64_t i = a; i < size; ++i)
    rotate(at->R + i * (at->most + 1), at->R + (i + 1) * (at->most + 1), size - i);
}

/* The largest share of the move that no weight of the set crosses zero on, at most `most`. */
static double free_share(const Walk *s, double most) {
  const fastlsgd_walk *at = s->at;
  for (int64_t a = 0; a < at->size; ++a) {
    const double w = at->w[at->set[a]], move = s->move[a];
    if (move * at->sign[at->set[a]] < 0.0) most = fmin(most, fabs(w / move));
  }
  return most;
}

/* Moves the set's weights by a share; those that reach zero leave. */
static void advance(const Walk *s, double share) {
  fastlsgd_walk *at = s->at;
  for (int64_t a = at->size - 1; a >= 0; --a) { /* from the end, since places change beyond */
    const int64_t j = at->set[a];
    const double w = at->w[j], move = s->move[a];
    const int leaves = move * at->sign[j] < 0.0 && fabs(w / move) <= share;
    at->w[j] = w + share * move;
    if (leaves) delete_place(at, a);
  }
}

/* Lets column j join with its weight, or if that is zero with this sign. Where it depends on the set,
 * weights move until one is zero; 0 if j is left with none. */
static int take_in(const Walk *s, int64_t j, double sign) {
  fastlsgd_walk *at = s->at;
  while (!insert(s, j, sign)) {
    double slope = 1.0; /* of the L1 norm, if the weight of j grows in size by scale[j] */
    solve_upper(at, s->h);
    for (int64_t a = 0; a < at->size; ++a) {
      const int64_t i = at->set[a];
      s->move[a] = -sign * s->h[a] * at->scale[i] / at->scale[j];
      slope += at->sign[i] * s->move[a];
    }
    const double way = slope > 0.0 ? -1.0 : 1.0, own = fabs(at->w[j]);
    if (way < 0.0 && own == 0.0) return 0;
    for (int64_t a = 0; a < at->size; ++a) s->move[a] *= way;
    const double share = free_share(s, way < 0.0 ? own : INFINITY);
    if (!isfinite(share)) return 0;
    advance(s, share);
    at->w[j] = way < 0.0 && share >= own ? 0.0 : at->w[j] + way * sign * share;
    if (way < 0.0 && at->w[j] == 0.0) return 0;
  }
  return 1;
}

/* Takes in columns that have weights, at most so many; returns how many. */
static int64_t take_in_some(const Walk *s, int64_t most) {
  int64_t taken = 0;
  for (int64_t j = 0; j < s->p->k && taken < most; ++j) {
    const double w = s->at->w[j];
    if (w == 0.0 || s->at->sign[j] != 0.0) continue;
    if (s->at->scale[j] == 0.0 || !take_in(s, j, copysign(1.0, w))) s->at->w[j] = 0.0;
    ++taken;
  }
  return taken;
}

/* Finds the move to the minimum of the set; 0 if it is not finite. */
static int find_move(const Walk *s) {
  const fastlsgd_walk *at = s->at;
  for (int64_t a = 0; a < at->size; ++a) {
    const int64_t j = at->set[a];
    s->move[a] = (at->c[j] - s->p->l1 * at->sign[j]) * at->scale[j];
  }
  solve_lower(at, s->move);
  solve_upper(at, s->move);
  for (int64_t a = 0; a < at->size; ++a) {
    const int64_t j = at->set[a];
    s->move[a] = s->move[a] * at->scale[j] - at->w[j];
    if (!isfinite(s->move[a])) return 0;
  }
  return 1;
}

/* Fills q, and returns J less its value at zero. */
static double look(const Walk *s) {
  const fastlsgd_walk *at = s->at;
  const double *rows[4];
  double factors[4], value = 0.0;
  int64_t m = 0;
  for (int64_t i = 0; i < s->p->k; ++i) s->q[i] = -at->c[i];
  for (int64_t a = 0; a < at->size; ++a) {
    rows[m] = s->p->H + at->set[a] * s->p->row_stride, factors[m++] = at->w[at->set[a]];
    if (m == 4) add_four(s->q, factors, rows, s->p->k), m = 0;
  }
  while (m--) add(s->q, factors[m], rows[m], s->p->k);
  for (int64_t a = 0; a < at->size; ++a) {
    const int64_t j = at->set[a];
    const double w = at->w[j];
    value += 0.5 * w * (s->q[j] - at->c[j]) + fabs(w) * (s->p->l1 + 0.5 * s->p->l2 * fabs(w));
  }
  return value;
}

/* How far column j is from optimality, in its unit. */
static double violation(const Walk *s, int64_t j) {
  const fastlsgd_walk *at = s->at;
  if (at->scale[j] == 0.0) return 0.0;
  const double slope = s->q[j] + s->p->l2 * at->w[j];
  if (at->sign[j] != 0.0) return fabs(slope + s->p->l1 * at->sign[j]) / at->unit[j];
  return fmax((s->p->positive ? -slope : fabs(slope)) - s->p->l1, 0.0) / at->unit[j];
}

/* Lets the column join that violates optimality most, and others that do nearly as much, up to `most`
 * of them. Returns 1 if none does by more than `tol` or than those of the set, -1 if none can join. */
static int join(const Walk *s, double tol, int64_t most) {
  double inside = tol, outside = 0.0;
  int64_t first = -1, n_new = 0;
  for (int64_t j = 0; j < s->p->k; ++j) {
    const double far = violation(s, j);
    if (s->at->sign[j] != 0.0)
      inside = fmax(inside, far);
    else if (far > outside)
      outside = far, first = j;
  }
  if (!(outside > inside)) return 1;
  const double least = fmax(NEARLY * outside, inside);
  for (int64_t i = -1; i < s->p->k && n_new < most; ++i) {
    const int64_t j = i < 0 ? first : i;
    if (s->at->sign[j] == 0.0 && violation(s, j) > least)
      n_new += take_in(s, j, -copysign(1.0, s->q[j]));
  }
  return n_new ? 0 : -1;
}

static int64_t walk_sets(fastlsgd_walk *at, const fastlsgd_quadratic *p, double tol,
                         int64_t most_steps, int *status) {
  Walk s = {.p = p, .at = at};
  double *const memory = malloc((size_t)(2 * at->most + p->k) * sizeof *memory);
  *status = memory ? FASTLSGD_WALK_GOES_ON : -1;
  if (!memory) return 0;
  s.h = memory, s.move = memory + at->most, s.q = memory + 2 * at->most;
  double least = INFINITY;
  int64_t step = take_in_some(&s, most_steps), together = 1;
  for (; step < most_steps && *status == FASTLSGD_WALK_GOES_ON; ++step) {
    if (!find_move(&s)) {
      *status = FASTLSGD_WALK_FAILS;
      continue;
    }
    const double share = free_share(&s, 1.0);
    advance(&s, share);
    if (share < 1.0) continue;
    const double value = look(&s);
    const int falls = value < least;
    if (!falls && !together) *status = FASTLSGD_WALK_FAILS;
    together = falls, least = fmin(least, value);
    const int found = join(&s, tol, together ? 1 + (int64_t)(AT_ONCE * (double)at->size) : 1);
    if (found) *status = found > 0 ? FASTLSGD_WALK_IS_AT_END : FASTLSGD_WALK_FAILS;
  }
  free(memory);
  return step;
}

extern const fastlsgd_walk_function PASTE(fastlsgd_walk_functions, ISA);
const fastlsgd_walk_function PASTE(fastlsgd_walk_functions, ISA) = walk_sets;
