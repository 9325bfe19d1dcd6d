/* Calls every kernel of fastlsgd.h and prints what it gives, for test_c_interface.py to compare.
 * With a number as its argument, it times so many rounds of calls on tiny data instead. */

#include <fastlsgd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { N = 37, D = 5, T = 2 };

static void print(const char *name, const double *values, int count) {
  printf("%s", name);
  for (int k = 0; k < count; ++k) printf(" %.17g", values[k]);
  printf("\n");
}

/* Numbers that Python computes too; all are exact in float32. */
static double number(int64_t k) { return (double)((7 * k + 3) % 31 - 15) / 8.0; }

static double X[N * D], y[N * T], s[N], w[T * D], b[T] = {0.5, -0.25};

static void fill(void) {
  for (int k = 0; k < N * D; ++k) X[k] = number(k);
  for (int k = 0; k < N * T; ++k) y[k] = number(5 * k + 1);
  for (int k = 0; k < N; ++k) s[k] = k % 4;
  for (int k = 0; k < T * D; ++k) w[k] = number(3 * k + 2);
}

static void check(int status) {
  if (status == FASTLSGD_OK) return;
  printf("%s\n", fastlsgd_status_text(status));
  exit(1);
}

static void compare(void) {
  const fastlsgd_matrix A = {
      .n_rows = N, .n_cols = D, .dtype = FASTLSGD_F64, .data = X, .row_stride = D, .col_stride = 1};
  const fastlsgd_targets B = {y, T, T, 1, FASTLSGD_F64};
  double loss[T], dw[T * D], db[T], out[N * T], gram[(D + T + 1) * (D + T + 1)], rates[N];
  check(fastlsgd_loss_gradient(loss, dw, db, &A, &B, w, b, s, 1));
  print("loss", loss, T), print("coef", dw, T * D), print("intercept", db, T);
  check(fastlsgd_predict(out, &A, w, b, T, 1));
  print("predict", out, N * T);
  check(fastlsgd_gram(gram, &A, &B, s, NULL, 1));
  print("gram", gram, (D + T + 1) * (D + T + 1));
  for (int k = 0; k < N; ++k) rates[k] = 0.0625;
  fastlsgd_epoch epoch = {.n_visits = N, .rates = rates, .batch_size = 4, .fit_intercept = 1};
  fastlsgd_state state = {.average_after = -1};
  double total;
  check(fastlsgd_sgd_epoch(&total, w, b, &A, &B, s, &epoch, &state, 1));
  print("sgd", w, T * D), print("total", &total, 1);
}

/* Memory for `count` numbers, or NULL for none. */
static void *numbers(int64_t count) { return count ? calloc((size_t)count, sizeof(double)) : NULL; }

/* All kernels on X (n, d) and y (n, t) of zeros; returns how many calls failed. */
static int call_all(fastlsgd_matrix A, fastlsgd_targets B) {
  const int64_t n = A.n_rows, d = A.n_cols, t = B.n_targets, m = d + t + 1;
  double *weights = numbers(t * d), *intercept = numbers(t), *loss = numbers(t);
  double *dw = numbers(t * d), *db = numbers(t), *out = numbers(n * t), *gram = numbers(m * m);
  double *rates = numbers(n), *paid = numbers(t * d), total;
  int failed = fastlsgd_loss_gradient(loss, dw, db, &A, &B, weights, intercept, NULL, 0) != 0;
  failed += fastlsgd_predict(out, &A, weights, intercept, t, 0) != 0;
  failed += fastlsgd_gram(gram, &A, &B, NULL, NULL, 0) != 0;
  for (int batch = 1; batch < 9; batch += 7)
    for (int l1 = 0; l1 < 2; ++l1) {
      fastlsgd_epoch epoch = {.n_visits = n,
                              .rates = rates,
                              .batch_size = batch,
                              .alpha = 0.1,
                              .l1_ratio = l1,
                              .fit_intercept = 1};
      fastlsgd_optimizer momentum = {.rule = FASTLSGD_MOMENTUM,
                                     .beta1 = 0.5,
                                     .max_norm = 1.0,
                                     .coef_first = dw,
                                     .intercept_first = db};
      fastlsgd_state state = {.l1_paid = paid, .average_after = -1};
      failed +=
          fastlsgd_sgd_epoch(&total, weights, intercept, &A, &B, NULL, &epoch, &state, 0) != 0;
      state.optimizer = &momentum;
      failed +=
          fastlsgd_sgd_epoch(&total, weights, intercept, &A, &B, NULL, &epoch, &state, 0) != 0;
    }
  free(weights), free(intercept), free(loss), free(dw), free(db);
  free(out), free(gram), free(rates), free(paid);
  return failed;
}

static void call_all_sizes(void) {
  static const int64_t sizes[] = {0, 1, 9};
  int failed = 0, cases = 0;
  for (int isa = 0; fastlsgd_isa_name(isa); ++isa) {
    if (!fastlsgd_set_isa(isa)) continue;
    for (int i = 0; i < 27; ++i)
      for (int layout = 0; layout < 12; ++layout, ++cases) {
        const int64_t n = sizes[i % 3], d = sizes[i / 3 % 3], t = sizes[i / 9];
        const fastlsgd_dtype of_X = layout & 1 ? FASTLSGD_F32 : FASTLSGD_F64;
        const fastlsgd_dtype of_y = layout & 2 ? FASTLSGD_F32 : FASTLSGD_F64;
        double *data = numbers(n * d), *target = numbers(n * t);
        int32_t *indices = numbers(n * d), *indptr = numbers(n + 1);
        for (int64_t k = 0; k < n * d; ++k) indices[k] = (int32_t)(k % d);
        for (int64_t k = 0; k <= n; ++k) indptr[k] = (int32_t)(k * d);
        fastlsgd_matrix A = {.n_rows = n, .n_cols = d, .dtype = of_X, .data = data};
        A.row_stride = layout < 4 ? d : 1, A.col_stride = layout < 4 ? 1 : n;
        if (layout >= 8) A.indices = indices, A.indptr = indptr, A.index_bytes = 4;
        failed += call_all(A, (fastlsgd_targets){target, t, t, 1, of_y});
        free(data), free(target), free(indices), free(indptr);
      }
  }
  printf("cases %d\nfailed %d\n", cases, failed);
}

static void refuse(void) {
  fastlsgd_matrix A = {
      .n_rows = N, .n_cols = D, .dtype = FASTLSGD_F64, .data = X, .row_stride = D, .col_stride = 1};
  const fastlsgd_targets B = {y, T, T, 1, FASTLSGD_F64};
  double loss[T], dw[T * D], db[T];
  int invalid = fastlsgd_loss_gradient(loss, dw, db, &A, &B, w, b, NULL, -1) == FASTLSGD_INVALID;
  invalid += fastlsgd_loss_gradient(loss, NULL, db, &A, &B, w, b, NULL, 1) == FASTLSGD_INVALID;
  A.n_rows = -1;
  invalid += fastlsgd_loss_gradient(loss, dw, db, &A, &B, w, b, NULL, 1) == FASTLSGD_INVALID;
  A.n_rows = N, A.dtype = (fastlsgd_dtype)7;
  invalid += fastlsgd_gram(loss, &A, &B, NULL, NULL, 1) == FASTLSGD_INVALID;
  A.n_rows = 0, A.n_cols = (int64_t)1 << 61, A.dtype = FASTLSGD_F64; /* 8 d overflows */
  invalid += fastlsgd_loss_gradient(loss, dw, db, &A, &B, w, b, NULL, 1) == FASTLSGD_INVALID;
  A.n_cols = (int64_t)1 << 31; /* (d + t + 1)^2 */
  invalid += fastlsgd_gram(loss, &A, &B, NULL, NULL, 1) == FASTLSGD_INVALID;
  const int32_t indptr[] = {0, 1};
  A = (fastlsgd_matrix){.n_rows = 1,
                        .n_cols = D,
                        .dtype = FASTLSGD_F64,
                        .data = X,
                        .indptr = indptr,
                        .index_bytes = 4};
  invalid += fastlsgd_loss_gradient(loss, dw, db, &A, &B, w, b, NULL, 1) == FASTLSGD_INVALID;
  A = (fastlsgd_matrix){
      .n_rows = N, .n_cols = D, .dtype = FASTLSGD_F64, .data = X, .row_stride = D, .col_stride = 1};
  const double rates[2] = {0.125, 0.25};
  fastlsgd_epoch epoch = {.n_visits = N + 1, .rates = rates, .batch_size = INT64_MAX};
  fastlsgd_state state = {.average_after = -1};
  invalid += fastlsgd_sgd_epoch(loss, w, b, &A, &B, NULL, &epoch, &state, 1) == FASTLSGD_INVALID;
  const int64_t order[1] = {0};
  epoch.order = order, epoch.n_visits = 1, A.n_rows = 0; /* there is no row to visit */
  invalid += fastlsgd_sgd_epoch(loss, w, b, &A, &B, NULL, &epoch, &state, 1) == FASTLSGD_INVALID;
  printf("invalid %d\n", invalid);
}

/* Batches of more rows than there are are all of them; returns whether that holds in two epochs. */
static int take_all_rows(int64_t columns, int64_t t) {
  const double rates[2] = {0.125, 0.25};
  double weights[2][T * D] = {{0}}, intercept[2][T] = {{0}}, losses[2][2];
  for (int k = 0; k < 2; ++k) {
    const fastlsgd_matrix A = {.n_rows = N,
                               .n_cols = columns,
                               .dtype = FASTLSGD_F64,
                               .data = X,
                               .row_stride = D,
                               .col_stride = 1};
    const fastlsgd_targets B = {y, t, T, 1, FASTLSGD_F64};
    const fastlsgd_epoch epoch = {.n_visits = N, .rates = rates, .batch_size = k ? INT64_MAX : N};
    fastlsgd_state state = {.average_after = -1};
    check(fastlsgd_sgd_epochs(losses[k], NULL, NULL, weights[k], intercept[k], &A, &B, NULL, &epoch,
                              &state, 2, 1));
  }
  return memcmp(weights[0], weights[1], sizeof weights[0]) == 0 &&
         memcmp(losses[0], losses[1], sizeof losses[0]) == 0;
}

static double now(void) {
  struct timespec time;
  timespec_get(&time, TIME_UTC);
  return 1e9 * (double)time.tv_sec + (double)time.tv_nsec;
}

/* Nanoseconds per call of loss_gradient on 4 x 3, in the best of `rounds` rounds. */
static void measure(int rounds) {
  const fastlsgd_matrix A = {
      .n_rows = 4, .n_cols = 3, .dtype = FASTLSGD_F64, .data = X, .row_stride = 3, .col_stride = 1};
  const fastlsgd_targets B = {y, 1, 1, 1, FASTLSGD_F64};
  double loss, dw[3], db, best = 1e30;
  for (int round = 0; round < rounds; ++round) {
    const double begun = now();
    for (int k = 0; k < 1000; ++k)
      check(fastlsgd_loss_gradient(&loss, dw, &db, &A, &B, w, b, NULL, 1));
    const double taken = (now() - begun) / 1000.0;
    best = taken < best ? taken : best;
  }
  printf("ns %.0f\n", best);
}

int main(int argc, char **argv) {
  printf("abi %d %d\nversion %s\n", FASTLSGD_ABI_VERSION, fastlsgd_abi_version(),
         fastlsgd_version());
  printf("isa %s\n", fastlsgd_isa_name(fastlsgd_isa()));
  fill();
  if (argc > 1) {
    measure(atoi(argv[1]));
    return 0;
  }
  compare();
  call_all_sizes();
  refuse();
  printf("whole %d\n", take_all_rows(D, T) + take_all_rows(D, 1) + take_all_rows(1, 1));
  return 0;
}
