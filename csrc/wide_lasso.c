/* Lasso and elastic net of few numbers by working sets of columns: see wide_lasso.h.
 *
 * The rows about their mean, times the roots of their weights, are copied by columns, A (d, n). In
 * each round a product with the residual finds how far each column is from optimality, and epochs of
 * coordinate descent visit the columns that have weights and those that are farthest (Massias,
 * Gramfort and Salmon 2018, "Celer", ICML); a visit is two products of n numbers. Once the set holds
 * all columns that violate optimality, a Cholesky factor of those with weights gives their exact
 * weights, which are the solution if they keep their signs and no other column could lower J. If not,
 * the weights move towards them, and further rounds follow from there. Without that step, five guesses
 * were in vain where four suffice with it (50 x 500 columns that correlate by 0.3).
 *
 * Cost: n d per round, 2 n per visit, k^3 / 6 per guess of k weights, and n k^2 / 2 for the products
 * of all columns that were guessed. For 100 x 1,000 this takes 0.3 ms, and the same steps in NumPy and
 * BLAS (solvers/working_sets.py) 1.5. At 0.02 of the largest l1, 200 x 1,000 took 18 ms for the lasso
 * and 13 for the elastic net while each guess made all its products anew, each visit waited for the
 * residual of the one before, and the condition came from the inverse of the factor; it takes 10 and
 * 7.5 now.
 *
 * This file is compiled once per instruction set. */
#include "wide_lasso.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "double_vectors.inc"

/* After so many rounds or guesses, or with more weights than this, the products of BLAS are quicker.
 * On 200 x 1,000 numbers whose columns correlate by 0.3, 237 weights took 12 ms here and 29 there. On
 * 300 x 800 independent ones, at 0.02 of the largest l1, 16 were spent here and 12 there. Of no fewer
 * rows than columns, where more than TOO_MANY columns violate optimality, more than MOST stay. */
enum {
  ROUNDS = 32,
  SOLVES = 16,
  FIRST_EPOCHS = 8,
  LEAST_NEW = 32,
  MOST = 320,
  TOO_MANY = 480,
  TILE = 8,
  ROOM = 64
};
/* Multiply-adds of epochs with more weights than rows, which no guess can have without an L2 penalty:
 * on the way to a small l1 there are more than in the end. 190 weights of 200 rows took 13 ms within
 * this, and 27 where a third of it was allowed and BLAS took over. */
static const double MOST_SPENT = 24e6;
/* Multiply-adds of all epochs for a penalty, about 0.2 s, after which Ctrl-C is heeded. */
static const double MOST_WORK = 1e9;
/* Of the gradient at zero: by how much rounding may seem to violate optimality. */
static const double SLACK = 1e-13;

/* Products A^T A / S of the columns that weights were solved for, which serve the next guesses. */
typedef struct {
  double *H;        /* (room, room) */
  int64_t *members; /* (room,): columns, in the order of H */
  int64_t *from;    /* (room,) */
  int64_t *place;   /* (d,): where a column is among them, or -1 */
  int64_t k, room;
} Products;

typedef struct {
  int64_t n, d, most; /* at most so many weights are not zero */
  double weight, l1, l2;
  int positive;
  const double *A;      /* (d, n) */
  const double *square; /* (d,): mean squares of the columns */
  double *curve;        /* (d,): 1 / (square + l2) */
  double *r;            /* (n,): A^T w - y, by rows */
  double *g;            /* (d,): the gradient of the loss */
  double *slope;        /* (d,): minus the gradient at zero */
  double *y;            /* (n,) */
  double *guess;        /* (d,) */
  double *far;          /* (d,) */
  int64_t *set, *where; /* (d,), (d,) */
  double *among;        /* (d / 4 + 1, 4, 4): products among four columns of the set each */
  double *part, *R;     /* (most, most) */
  double *scale, *v;    /* (most,) */
  Products *kept;
} Wide;

/* The products of x with four rows, which share what is loaded of x. */
static void dot_four(double *out, const double *x, const double *const *rows, int64_t n) {
  vec sums[8] = {{0.0}};
  int64_t i = 0;
  for (; i + 2 * LANES <= n; i += 2 * LANES) {
    const vec first = *(const vec *)(x + i), second = *(const vec *)(x + i + LANES);
    UNROLL
    for (int k = 0; k < 4; ++k) {
      sums[2 * k] += first * *(const vec *)(rows[k] + i);
      sums[2 * k + 1] += second * *(const vec *)(rows[k] + i + LANES);
    }
  }
  for (; i + LANES <= n; i += LANES) {
    const vec first = *(const vec *)(x + i);
    UNROLL
    for (int k = 0; k < 4; ++k) sums[2 * k] += first * *(const vec *)(rows[k] + i);
  }
  UNROLL
  for (int k = 0; k < 4; ++k) out[k] = sum_of(sums[2 * k] + sums[2 * k + 1]);
  for (; i < n; ++i)
    for (int k = 0; k < 4; ++k) out[k] += x[i] * rows[k][i];
}

/* Four columns of the list (or of all, without one) from number a of k on; the last is repeated where
 * there are fewer. */
static void columns_of(const Wide *p, const int64_t *list, int64_t a, int64_t k,
                       const double **columns) {
  for (int64_t c = 0; c < 4; ++c) {
    const int64_t at = a + c < k ? a + c : k - 1;
    columns[c] = p->A + (list ? list[at] : at) * p->n;
  }
}

static void find_residual(const Wide *p, const double *w) {
  const double *columns[4];
  double factors[4];
  int64_t k = 0;
  for (int64_t i = 0; i < p->n; ++i) p->r[i] = -p->y[i];
  for (int64_t j = 0; j < p->d; ++j) {
    if (w[j] == 0.0) continue;
    columns[k] = p->A + j * p->n, factors[k++] = w[j];
    if (k == 4) add_four(p->r, factors, columns, p->n), k = 0;
  }
  while (k--) add(p->r, factors[k], columns[k], p->n);
}

static void find_gradient(const Wide *p) {
  const double *columns[4];
  double found[4];
  for (int64_t j = 0; j < p->d; j += 4) {
    columns_of(p, NULL, j, p->d, columns);
    dot_four(found, p->r, columns, p->n);
    for (int64_t c = 0; c < 4 && j + c < p->d; ++c) p->g[j + c] = found[c] / p->weight;
  }
}

/* How far column j is from optimality. */
static double violation(const Wide *p, const double *w, int64_t j) {
  const double slope = p->g[j] + p->l2 * w[j];
  if (w[j] != 0.0) return fabs(slope + copysign(p->l1, w[j]));
  return fmax((p->positive ? -slope : fabs(slope)) - p->l1, 0.0);
}

/* The value so that `count` of the first n numbers are at least as large, which are reordered. */
static double largest(double *values, int64_t n, int64_t count) {
  int64_t low = 0, high = n - 1, at = count - 1;
  while (low < high) {
    const double pivot = values[(low + high) / 2];
    int64_t i = low, j = high;
    while (i <= j) {
      while (values[i] > pivot) ++i;
      while (values[j] < pivot) --j;
      if (i <= j) {
        const double swapped = values[i];
        values[i++] = values[j], values[j--] = swapped;
      }
    }
    if (at <= j)
      high = j;
    else if (at >= i)
      low = i;
    else
      break;
  }
  return values[at];
}

static int64_t active_of(const Wide *p, const double *w) {
  int64_t active = 0;
  for (int64_t j = 0; j < p->d; ++j) active += w[j] != 0.0;
  return active;
}

/* Fills `set` with the columns that have weights and those farthest from optimality, and returns
 * their number; *rest is how many others violate it. */
static int64_t choose(const Wide *p, const double *w, double slack, int64_t *rest) {
  int64_t k = 0, violating = 0;
  for (int64_t j = 0; j < p->d; ++j) {
    const double far = w[j] == 0.0 ? violation(p, w, j) : 0.0;
    if (far > slack) p->far[violating++] = far;
  }
  const int64_t active = active_of(p, w), most = active > LEAST_NEW ? active : LEAST_NEW;
  const double least = violating > most ? largest(p->far, violating, most) : slack;
  *rest = violating > most ? violating - most : 0;
  for (int64_t j = 0; j < p->d; ++j) {
    const double far = w[j] == 0.0 ? violation(p, w, j) : 0.0;
    if (w[j] != 0.0 || (far >= least && far > slack)) p->set[k++] = j;
  }
  return k;
}

/* Fills `among` with the products of each column of the set with those before it in its four. */
static void find_among(const Wide *p, int64_t k) {
  const double *x[4];
  for (int64_t a = 0; a < k; a += 4) {
    columns_of(p, p->set, a, k, x);
    for (int64_t c = 1; c < 4 && a + c < k; ++c) {
      dot_four(p->among + 4 * (a + c), x[c], x, p->n);
      for (int64_t e = 0; e < c; ++e) p->among[4 * (a + c) + e] /= p->weight;
    }
  }
}

/* Visits the k columns of the set so many times; returns 1 if a last visit changes little.
 *
 * Products with the residual are made of four columns at once, as if none of them moved, and the
 * products among these correct those of the later ones: the steps are the same as one by one, but
 * none waits for the residual to be summed up anew. */
static int descend(const Wide *p, double *w, int64_t k, double tol, int64_t epochs) {
  const double per_weight = 1.0 / p->weight;
  const double *x[4];
  find_among(p, k);
  for (int64_t epoch = 0; epoch < epochs; ++epoch) {
    double changed = 0.0;
    for (int64_t a = 0; a < k; a += 4) {
      double q[4], steps[4] = {0.0};
      int moves = 0;
      columns_of(p, p->set, a, k, x);
      dot_four(q, p->r, x, p->n);
      for (int64_t c = 0; c < 4 && a + c < k; ++c) {
        const int64_t j = p->set[a + c];
        double u = w[j] * p->square[j] - q[c] * per_weight;
        for (int64_t e = 0; e < c; ++e) u -= steps[e] * p->among[4 * (a + c) + e];
        const double size = fabs(u) - p->l1;
        const double to =
            size <= 0.0 || (p->positive && u < 0.0) ? 0.0 : copysign(size * p->curve[j], u);
        if (to == w[j]) continue;
        steps[c] = to - w[j], moves = 1, w[j] = to;
        const double change = fabs(steps[c]) * (p->square[j] + p->l2);
        changed = change > changed ? change : changed;
      }
      if (moves) add_four(p->r, steps, x, p->n);
    }
    if (changed <= tol) return 1;
  }
  return 0;
}

/* ------------------------------------------------------------------------------- products */

/* The products of four columns with each of two others, which share what is loaded. */
static void dot_tile(double (*out)[4], const double *const *columns, const double *const *others,
                     int64_t n) {
  vec sums[2][4] = {{{0.0}}};
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    const vec first = *(const vec *)(others[0] + i), second = *(const vec *)(others[1] + i);
    UNROLL
    for (int k = 0; k < 4; ++k) {
      const vec x = *(const vec *)(columns[k] + i);
      sums[0][k] += x * first;
      sums[1][k] += x * second;
    }
  }
  UNROLL
  for (int k = 0; k < 4; ++k) out[0][k] = sum_of(sums[0][k]), out[1][k] = sum_of(sums[1][k]);
  for (; i < n; ++i)
    for (int k = 0; k < 4; ++k) {
      out[0][k] += columns[k][i] * others[0][i];
      out[1][k] += columns[k][i] * others[1][i];
    }
}

/* Leaves out the members without weights. */
static void drop_members(Products *kept, const double *w) {
  const int64_t room = kept->room;
  int64_t k = 0;
  for (int64_t a = 0; a < kept->k; ++a) {
    const int64_t j = kept->members[a];
    kept->place[j] = -1;
    if (w[j] == 0.0) continue;
    kept->members[k] = j, kept->place[j] = k, kept->from[k] = a;
    for (int64_t b = 0; b <= k; ++b) kept->H[k * room + b] = kept->H[a * room + kept->from[b]];
    ++k;
  }
  kept->k = k;
}

/* Makes the k columns `where`, those with weights, members. */
static void join(const Wide *p, const double *w, int64_t k) {
  Products *kept = p->kept;
  const double *columns[4], *others[4];
  double found[2][4];
  int64_t n_new = 0;
  for (int64_t a = 0; a < k; ++a) n_new += kept->place[p->where[a]] < 0;
  if (kept->k + n_new > kept->room) drop_members(kept, w);
  const int64_t first = kept->k;
  for (int64_t a = 0; a < k; ++a) {
    const int64_t j = p->where[a];
    if (kept->place[j] < 0) kept->members[kept->k] = j, kept->place[j] = kept->k++;
  }
  for (int64_t b = first; b < kept->k; b += 2) { /* rows b and b + 1 of the lower triangle */
    columns_of(p, kept->members, b, kept->k, others);
    for (int64_t a = 0; a < kept->k && a < b + 2; a += 4) {
      columns_of(p, kept->members, a, kept->k, columns);
      dot_tile(found, columns, others, p->n);
      for (int64_t e = 0; e < 2 && b + e < kept->k; ++e)
        for (int64_t c = 0; c < 4 && a + c <= b + e; ++c)
          kept->H[(b + e) * kept->room + a + c] = found[e][c] / p->weight;
    }
  }
}

/* Fills the upper triangle of `part` with the products of the k columns `where`. */
static void find_products(const Wide *p, const double *w, int64_t k) {
  const Products *kept = p->kept;
  join(p, w, k);
  for (int64_t a = 0; a < k; ++a) {
    const int64_t row = kept->place[p->where[a]];
    for (int64_t b = a; b < k; ++b) {
      const int64_t other = kept->place[p->where[b]];
      p->part[a * k + b] =
          row < other ? kept->H[other * kept->room + row] : kept->H[row * kept->room + other];
    }
  }
}

/* v = (R^T R)^-1 v */
static void solve_triangles(const double *R, int64_t k, double *v) {
  for (int64_t a = 0; a < k; ++a) {
    v[a] /= R[a * (k + 1)];
    add(v + a + 1, -v[a], R + a * (k + 1) + 1, k - a - 1);
  }
  for (int64_t a = k - 1; a >= 0; --a)
    v[a] = (v[a] - dot(R + a * (k + 1) + 1, v + a + 1, k - a - 1)) / R[a * (k + 1)];
}

static double absolute_sum(const double *v, int64_t k) {
  double sum = 0.0;
  for (int64_t a = 0; a < k; ++a) sum += fabs(v[a]);
  return sum;
}

/* The 1-norm of (R^T R)^-1 as LAPACK estimates it (Higham 1988, ACM Trans. Math. Softw. 14(4)), in
 * k^2 operations per step; v and x are (k,). */
static double inverse_norm(const double *R, int64_t k, double *v, double *x) {
  double estimate = 0.0;
  for (int64_t a = 0; a < k; ++a) x[a] = 1.0 / (double)k;
  for (int step = 0; step < 5; ++step) {
    memcpy(v, x, (size_t)k * sizeof(double));
    solve_triangles(R, k, v);
    const double sum = absolute_sum(v, k);
    if (!(sum > estimate)) break;
    estimate = sum;
    for (int64_t a = 0; a < k; ++a) v[a] = copysign(1.0, v[a]);
    solve_triangles(R, k, v);
    int64_t at = 0;
    for (int64_t a = 1; a < k; ++a) at = fabs(v[a]) > fabs(v[at]) ? a : at;
    if (!(fabs(v[at]) > dot(v, x, k))) break;
    memset(x, 0, (size_t)k * sizeof(double));
    x[at] = 1.0;
  }
  for (int64_t a = 0; a < k; ++a)
    v[a] = (a % 2 ? -1.0 : 1.0) * (1.0 + (k > 1 ? (double)a / (double)(k - 1) : 0.0));
  solve_triangles(R, k, v);
  return fmax(estimate, 2.0 * absolute_sum(v, k) / (3.0 * (double)k));
}

/* The root of the condition in the 1-norm of the products that were factorised, with their diagonal
 * scaled to 1, which is near that of the columns. The exact norm of the inverse would take as long
 * as two factors. */
static double condition_of(const Wide *p, int64_t k) {
  double *sums = p->guess, norm = 0.0;
  memset(sums, 0, (size_t)k * sizeof(double));
  for (int64_t a = 0; a < k; ++a) {
    const double *row = p->part + a * k;
    sums[a] += 1.0; /* with its penalty, each scaled square is 1 */
    for (int64_t b = a + 1; b < k; ++b) {
      const double entry = fabs(row[b]) * p->scale[a] * p->scale[b];
      sums[a] += entry, sums[b] += entry;
    }
  }
  for (int64_t a = 0; a < k; ++a) norm = fmax(norm, sums[a]);
  return sqrt(norm * inverse_norm(p->R, k, p->v, p->far));
}

/* J at w, of which the residual is left. */
static double objective(const Wide *p, const double *w) {
  double penalty = 0.0;
  find_residual(p, w);
  for (int64_t j = 0; j < p->d; ++j) penalty += fabs(w[j]) * (p->l1 + 0.5 * p->l2 * fabs(w[j]));
  return dot(p->r, p->r, p->n) / (2.0 * p->weight) + penalty;
}

/* Moves w to the guess where all weights keep their signs, and returns 1. Else w moves to the guess
 * without those weights that do not, or if J is not less there, towards the guess, as far as all keep
 * their signs. */
static int approach(const Wide *p, double *w) {
  double part = 1.0;
  int keeps = 1;
  for (int64_t j = 0; j < p->d; ++j) {
    if (!isfinite(p->guess[j])) return 0;
    const int flips = w[j] != 0.0 && !(p->guess[j] * w[j] > 0.0);
    keeps &= !flips;
    p->far[j] = flips ? 0.0 : p->guess[j];
    if (flips) part = fmin(part, w[j] / (w[j] - p->guess[j]));
  }
  if (!keeps && !(objective(p, p->far) < objective(p, w)))
    for (int64_t j = 0; j < p->d; ++j) {
      const double to = w[j] + part * (p->guess[j] - w[j]);
      p->far[j] = to * w[j] > 0.0 ? to : 0.0;
    }
  memcpy(w, p->far, (size_t)p->d * sizeof(double));
  return keeps;
}

/* Moves w to the weights that minimise J where w is not zero; 0 where those change signs, are too
 * many, or where another column could lower J. Leaves the residual and gradient of w if 1. */
static int solve_set(const Wide *p, double *w, double slack, double *condition) {
  int64_t k = 0;
  for (int64_t j = 0; j < p->d; ++j) {
    if (w[j] == 0.0) continue;
    if (k == p->most) return 0;
    p->where[k++] = j;
  }
  memset(p->guess, 0, (size_t)p->d * sizeof(double));
  *condition = 1.0;
  find_products(p, w, k);
  if (k && !fastlsgd_factorise(p->part, k, k, p->l2, p->R, p->scale)) return 0;
  for (int64_t a = 0; a < k; ++a) {
    const int64_t j = p->where[a];
    p->v[a] = (p->slope[j] - copysign(p->l1, w[j])) * p->scale[a];
  }
  solve_triangles(p->R, k, p->v);
  for (int64_t a = 0; a < k; ++a) p->guess[p->where[a]] = p->v[a] * p->scale[a];
  if (!approach(p, w)) return 0;
  find_residual(p, w);
  find_gradient(p);
  for (int64_t j = 0; j < p->d; ++j)
    if (w[j] == 0.0 && violation(p, w, j) > slack) return 0;
  if (k) *condition = condition_of(p, k);
  return 1;
}

/* Minimises over w from where it is; 0 where that fails. */
static int minimise(const Wide *p, double *w, double *condition, int64_t *n_solves) {
  double unit = p->l1;
  for (int64_t j = 0; j < p->d; ++j) unit = fmax(unit, fabs(p->slope[j]));
  const double slack = SLACK * unit;
  double spent = 0.0, work = 0.0;
  int64_t epochs = FIRST_EPOCHS, rest;
  for (int round = 0; round < ROUNDS; ++round) {
    find_residual(p, w);
    find_gradient(p);
    const int64_t k = choose(p, w, slack, &rest);
    if (active_of(p, w) > MOST || (p->n >= p->d && k + rest > TOO_MANY)) return 0;
    double worst = 0.0;
    for (int64_t a = 0; a < k; ++a) worst = fmax(worst, violation(p, w, p->set[a]));
    work += 2.0 * (double)(epochs * k * p->n);
    if (work > MOST_WORK) return 0;
    descend(p, w, k, rest ? 0.03 * worst : slack, epochs);
    if (rest) continue;
    if (active_of(p, w) > p->most) { /* no guess has so many */
      spent += 2.0 * (double)(epochs * k * p->n);
      if (spent > MOST_SPENT) return 0;
      epochs *= 2;
      continue;
    }
    *n_solves += 1;
    if (solve_set(p, w, slack, condition)) return 1;
    if (*n_solves == SOLVES) return 0;
    epochs += FIRST_EPOCHS / 2;
  }
  return 0;
}

/* ------------------------------------------------------------------------------- columns */

static double number(const void *data, fastlsgd_dtype dtype, int64_t at) {
  return dtype == FASTLSGD_F32 ? (double)((const float *)data)[at] : ((const double *)data)[at];
}

static int is_between(double value, double low, double high) {
  return low < value && value < high; /* false for NaN */
}

/* Fills A with the columns of X about their means, times `root` (n,), of which p->r has the
 * squares; 0 if one is out of the ordinary. */
static int copy_columns(const Wide *p, const fastlsgd_matrix *X, const double *root, int centred,
                        const fastlsgd_ordinary *ordinary, double *A, double *centre,
                        double *square) {
  const int64_t n = p->n, d = p->d;
  const double *s = p->r, weight = p->weight;
  for (int64_t first = 0; first < n; first += TILE) { /* a cache line of each column */
    const int64_t end = first + TILE < n ? first + TILE : n;
    for (int64_t j = 0; j < d; ++j)
      for (int64_t i = first; i < end; ++i)
        A[j * n + i] = number(X->data, X->dtype, i * X->row_stride + j * X->col_stride);
  }
  for (int64_t j = 0; j < d; ++j) {
    double *x = A + j * n;
    const double mean = centred ? dot(s, x, n) / weight : 0.0;
    for (int64_t i = 0; i < n; ++i) x[i] -= mean;
    const double off = centred ? dot(s, x, n) / weight : 0.0; /* the rounding of the mean */
    for (int64_t i = 0; i < n; ++i) x[i] = root[i] * (x[i] - off);
    centre[j] = mean + off;
    const double sum = dot(x, x, n), noise = ordinary->noise * centre[j];
    if (!is_between(sum, ordinary->least_square, ordinary->most_square)) return 0;
    if (centred && !(sum > weight * noise * noise)) return 0;
    square[j] = sum / weight;
  }
  return 1;
}

/* Fills y with a target about its mean, times `root`; 0 if it is out of the ordinary. */
static int copy_target(const fastlsgd_targets *given, int64_t k, const double *root, int64_t n,
                       double weight, int centred, const fastlsgd_ordinary *ordinary, double *y,
                       double *y_centre, double *variance) {
  double mean = 0.0, squares = 0.0;
  for (int64_t i = 0; i < n; ++i) {
    y[i] = number(given->data, given->dtype, i * given->row_stride + k * given->col_stride);
    mean += root[i] * root[i] * y[i];
    squares += root[i] * root[i] * y[i] * y[i];
  }
  mean = centred ? mean / weight : 0.0;
  for (int64_t i = 0; i < n; ++i) y[i] = root[i] * (y[i] - mean);
  *y_centre = mean;
  *variance = dot(y, y, n) / weight;
  const double far = ordinary->far * ordinary->far;
  return is_between(squares, ordinary->least_square, ordinary->most_square) &&
         (!centred || (far + 1.0) * mean * mean < far / weight * squares);
}

static int solve_target(Wide *p, fastlsgd_small_lasso_fit *out, int64_t k, int64_t t,
                        const fastlsgd_small_penalties *penalties) {
  const int64_t d = p->d, size = t * d;
  for (int64_t at = 0; at < penalties->k; ++at) {
    double *w = out->coef + at * size + k * d, condition = 1.0;
    int64_t n_solves = 0;
    if (at)
      memcpy(w, w - size, (size_t)d * sizeof(double));
    else
      memset(w, 0, (size_t)d * sizeof(double));
    p->l1 = penalties->l1[at], p->l2 = penalties->l2[at];
    for (int64_t j = 0; j < d; ++j) p->curve[j] = 1.0 / (p->square[j] + p->l2);
    if (!minimise(p, w, &condition, &n_solves) || !(condition <= penalties->most_condition))
      return 0;
    out->condition[at] = k ? fmax(condition, out->condition[at]) : condition;
    out->n_solves[at] = k && out->n_solves[at] > n_solves ? out->n_solves[at] : n_solves;
    out->squares[at * t + k] = dot(p->r, p->r, p->n) / p->weight;
    memcpy(out->gradient + at * size + k * d, p->g, (size_t)d * sizeof(double));
    out->intercept[at * t + k] = out->y_centre[k] - dot(w, out->centre, d);
  }
  return 1;
}

static int solve_all(Wide *p, fastlsgd_small_lasso_fit *out, const fastlsgd_targets *y,
                     const double *root, int centred, const fastlsgd_ordinary *ordinary,
                     const fastlsgd_small_penalties *penalties) {
  for (int64_t k = 0; k < y->n_targets; ++k) {
    if (!copy_target(y, k, root, p->n, p->weight, centred, ordinary, p->y, out->y_centre + k,
                     out->variance + k))
      return 0;
    p->slope = out->slope + k * p->d;
    for (int64_t j = 0; j < p->d; ++j) p->slope[j] = dot(p->A + j * p->n, p->y, p->n) / p->weight;
    if (!solve_target(p, out, k, y->n_targets, penalties)) return 0;
  }
  return 1;
}

static int wide_lasso(fastlsgd_small_lasso_fit *out, const fastlsgd_matrix *X,
                      const fastlsgd_targets *y, const void *sample_weight, int fit_intercept,
                      const fastlsgd_ordinary *ordinary,
                      const fastlsgd_small_penalties *penalties) {
  const int64_t n = X->n_rows, d = X->n_cols;
  const int64_t independent = n < d && penalties->l2[0] == 0.0 ? n : d;
  const int64_t most = independent < MOST ? independent : MOST;
  const int64_t room = most + ROOM < d ? most + ROOM : d, list = d + 4;
  const int64_t n_numbers = n * d + room * room + 2 * most * most + 2 * most + 3 * n + 14 * list;
  double *const memory = malloc((size_t)n_numbers * sizeof *memory);
  if (!memory) return -1;
  double *A = memory, *next = A + n * d;
  Products kept = {.H = next, .room = room};
  Wide p = {.n = n, .d = d, .most = most, .positive = penalties->positive, .A = A, .kept = &kept};
  p.part = next += room * room, p.R = next += most * most, p.scale = next += most * most;
  p.v = next += most, p.r = next += most, p.y = next += n;
  double *root = next += n, *square = next += n;
  p.g = next += list, p.guess = next += list, p.far = next += list, p.curve = next += list;
  p.square = square, p.among = next += list;
  p.set = (int64_t *)(next += 4 * list), p.where = (int64_t *)(next += list);
  kept.place = (int64_t *)(next += list), kept.members = (int64_t *)(next += list);
  kept.from = kept.members + room;
  memset(kept.place, -1, (size_t)d * sizeof *kept.place);
  for (int64_t i = 0; i < n; ++i) {
    const double s = sample_weight ? number(sample_weight, y->dtype, i) : 1.0;
    root[i] = sqrt(s), p.r[i] = s;
    p.weight += s;
  }
  out->weight = p.weight;
  int status = copy_columns(&p, X, root, fit_intercept, ordinary, A, out->centre, square) &&
               solve_all(&p, out, y, root, fit_intercept, ordinary, penalties);
  for (int64_t j = 0; j < d && status == 1; ++j) out->size[j] = sqrt(square[j]);
  free(memory);
  return status;
}

extern const fastlsgd_wide_lasso_function PASTE(fastlsgd_wide_lasso_functions, ISA);
const fastlsgd_wide_lasso_function PASTE(fastlsgd_wide_lasso_functions, ISA) = wide_lasso;
