/* fastlsgd.h for C++20: views made of spans, results that own their memory, exceptions.
 *
 * Only this header is needed, and the library. Sizes are checked; a std::invalid_argument names the
 * array that is too short. Where there is no memory, std::bad_alloc is thrown.
 */
#ifndef FASTLSGD_HPP
#define FASTLSGD_HPP

#include "fastlsgd.h"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace fastlsgd {

template <class T>
concept real = std::same_as<T, float> || std::same_as<T, double>;

template <real T>
inline constexpr fastlsgd_dtype dtype_of = sizeof(T) == 4 ? FASTLSGD_F32 : FASTLSGD_F64;

namespace detail {

/* Throws what a status stands for. */
inline void check(int status) {
  if (status == FASTLSGD_NO_MEMORY) throw std::bad_alloc();
  if (status != FASTLSGD_OK) throw std::invalid_argument(fastlsgd_status_text(status));
}

/* The product of sizes; throws if one is negative, or if no array is so large. */
inline std::size_t product(const char *name, std::initializer_list<std::int64_t> sizes) {
  std::size_t number = 1;
  for (const std::int64_t size : sizes) {
    if (size < 0) throw std::invalid_argument(std::string(name) + " has a negative size");
    const auto factor = static_cast<std::size_t>(size);
    if (factor && number > static_cast<std::size_t>(PTRDIFF_MAX) / factor)
      throw std::invalid_argument(std::string(name) + " is larger than any array");
    number *= factor;
  }
  return number;
}

/* Throws if an array has fewer elements than the product of these sizes. */
inline void check_size(const char *name, std::size_t has,
                       std::initializer_list<std::int64_t> sizes) {
  const std::size_t needs = product(name, sizes);
  if (has < needs)
    throw std::invalid_argument(std::string(name) + " has " + std::to_string(has) +
                                " elements, and needs " + std::to_string(needs));
}

} // namespace detail

/* A view of X (n, d); the numbers stay where they are and must outlive it. */
template <real T> class matrix {
public:
  /* Rows one after the other. */
  matrix(std::span<const T> data, std::int64_t n, std::int64_t d)
      : view_{n, d, dtype_of<T>, data.data(), d, 1, nullptr, nullptr, 0} {
    detail::check_size("X", data.size(), {n, d});
  }

  /* Any strides, in elements. */
  static matrix strided(const T *data, std::int64_t n, std::int64_t d, std::int64_t row_stride,
                        std::int64_t col_stride) {
    return matrix({n, d, dtype_of<T>, data, row_stride, col_stride, nullptr, nullptr, 0});
  }

  /* CSR. */
  template <class Index>
    requires std::same_as<Index, std::int32_t> || std::same_as<Index, std::int64_t>
  static matrix csr(std::span<const T> data, std::span<const Index> indices,
                    std::span<const Index> indptr, std::int64_t d) {
    detail::check_size("indptr", indptr.size(), {1});
    detail::check_size("data", data.size(), {indptr.back()});
    detail::check_size("indices", indices.size(), {indptr.back()});
    detail::product("X", {d});
    return matrix({static_cast<std::int64_t>(indptr.size()) - 1, d, dtype_of<T>, data.data(), 0, 0,
                   indices.data(), indptr.data(), sizeof(Index)});
  }

  std::int64_t n_rows() const { return view_.n_rows; }
  std::int64_t n_cols() const { return view_.n_cols; }
  const fastlsgd_matrix *get() const { return &view_; }

private:
  explicit matrix(const fastlsgd_matrix &view) : view_(view) {}
  fastlsgd_matrix view_;
};

/* A view of y (n, t), rows one after the other. */
template <real T> class targets {
public:
  explicit targets(std::span<const T> data, std::int64_t n_targets = 1)
      : view_{data.data(), n_targets, n_targets, 1, dtype_of<T>}, size_(data.size()) {}

  std::int64_t n_targets() const { return view_.n_targets; }
  std::size_t size() const { return size_; }
  const fastlsgd_targets *get() const { return &view_; }

private:
  fastlsgd_targets view_;
  std::size_t size_;
};

namespace detail {

/* Checks y and the weights of rows; returns the latter as C takes them, NULL for ones. */
template <real T, real U>
const void *check_rows(const matrix<T> &X, const targets<U> &y, std::span<const U> sample_weight) {
  check_size("y", y.size(), {X.n_rows(), y.n_targets()});
  if (sample_weight.empty()) return nullptr;
  check_size("sample_weight", sample_weight.size(), {X.n_rows()});
  return sample_weight.data();
}

} // namespace detail

/* loss (t,), coef (t, d), intercept (t,): 1/(2 S) sum s r^2, and its gradient. */
struct gradient {
  std::vector<double> loss, coef, intercept;
};

/* Overwrites `out`, whose memory is used again. */
template <real T, real U>
void loss_gradient(gradient &out, const matrix<T> &X, const targets<U> &y,
                   std::span<const double> coef, std::span<const double> intercept,
                   std::span<const U> sample_weight = {}, int n_threads = 0) {
  const std::int64_t t = y.n_targets();
  const void *s = detail::check_rows(X, y, sample_weight);
  detail::check_size("coef", coef.size(), {t, X.n_cols()});
  detail::check_size("intercept", intercept.size(), {t});
  out.loss.resize(detail::product("loss", {t}));
  out.coef.resize(detail::product("coef", {t, X.n_cols()}));
  out.intercept.resize(detail::product("intercept", {t}));
  detail::check(fastlsgd_loss_gradient(out.loss.data(), out.coef.data(), out.intercept.data(),
                                       X.get(), y.get(), coef.data(), intercept.data(), s,
                                       n_threads));
}

template <real T, real U>
gradient loss_gradient(const matrix<T> &X, const targets<U> &y, std::span<const double> coef,
                       std::span<const double> intercept, std::span<const U> sample_weight = {},
                       int n_threads = 0) {
  gradient out;
  loss_gradient(out, X, y, coef, intercept, sample_weight, n_threads);
  return out;
}

/* X w + b (n, t), of X's dtype. */
template <real T>
std::vector<T> predict(const matrix<T> &X, std::span<const double> coef,
                       std::span<const double> intercept, int n_threads = 0) {
  const auto t = static_cast<std::int64_t>(intercept.size());
  detail::check_size("coef", coef.size(), {t, X.n_cols()});
  std::vector<T> out(detail::product("the result", {X.n_rows(), t}));
  detail::check(fastlsgd_predict(out.data(), X.get(), coef.data(), intercept.data(), t, n_threads));
  return out;
}

/* (m, m), m = d + t + 1: sum_i s_i z_i z_i^T of z_i = [x_i - shift, y_i, 1]. */
template <real T, real U>
std::vector<double> gram(const matrix<T> &X, const targets<U> &y,
                         std::span<const U> sample_weight = {}, std::span<const double> shift = {},
                         int n_threads = 0) {
  const void *s = detail::check_rows(X, y, sample_weight);
  if (!shift.empty()) detail::check_size("shift", shift.size(), {X.n_cols()});
  if (y.n_targets() > PTRDIFF_MAX - 1 - X.n_cols())
    throw std::invalid_argument("the result is larger than any array");
  const std::int64_t m = X.n_cols() + y.n_targets() + 1;
  std::vector<double> out(detail::product("the result", {m, m}));
  detail::check(fastlsgd_gram(out.data(), X.get(), y.get(), s,
                              shift.empty() ? nullptr : shift.data(), n_threads));
  return out;
}

/* Stochastic gradient descent: owns the weights, and what one epoch passes on to the next. */
template <real T> class sgd {
public:
  struct options {
    std::int64_t batch_size = 1;
    double alpha = 0.0, l1_ratio = 0.0;
    bool fit_intercept = true, average = false;
    std::optional<fastlsgd_rule> optimizer = {};
    double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  };

  /* What `epochs` tells of each of k epochs: losses (k,), coef (k, t, d) and intercept (k, t). */
  struct path {
    std::vector<double> loss;
    std::vector<T> coef;
    std::vector<double> intercept;
  };

  sgd(std::int64_t n_features, std::int64_t n_targets, const options &chosen)
      : coef(detail::product("coef", {n_targets, n_features})),
        intercept(detail::product("intercept", {n_targets})), options_(chosen),
        l1_paid_(coef.size()), coef_sum_(chosen.average ? coef.size() : 0),
        intercept_sum_(chosen.average ? intercept.size() : 0), n_targets_(intercept.size()) {
    if (chosen.batch_size < 1) throw std::invalid_argument("batch_size must be at least 1");
    state_.average_after = chosen.average ? 0 : -1;
    if (chosen.optimizer) {
      optimizer_.rule = *chosen.optimizer;
      optimizer_.beta1 = chosen.beta1;
      optimizer_.beta2 = chosen.beta2;
      optimizer_.eps = chosen.eps;
      optimizer_.max_norm = std::numeric_limits<double>::infinity();
      moments_.resize(2 * (coef.size() + intercept.size()));
    }
  }

  /* Visits the rows of `order` (all, in turn, where it is empty), with a rate for each batch; returns
   * the sum of r^2 / 2 before each update. */
  template <real U>
  double epoch(const matrix<T> &X, const targets<U> &y, std::span<const double> rates,
               std::span<const std::int64_t> order = {}, std::span<const U> sample_weight = {},
               int n_threads = 0) {
    const void *s = detail::check_rows(X, y, sample_weight);
    const auto n_visits = order.empty() ? X.n_rows() : static_cast<std::int64_t>(order.size());
    const fastlsgd_epoch e = checked_epoch(X, y.n_targets(), n_visits, 1, rates, order);
    double loss = 0.0;
    detail::check(fastlsgd_sgd_epoch(&loss, coef.data(), intercept.data(), X.get(), y.get(), s, &e,
                                     &state_, n_threads));
    return loss;
  }

  /* n_epochs calls of `epoch` in one, for small data: `rates` has a row for each epoch, and so has
   * `order`, unless it is empty. */
  template <real U>
  path epochs(const matrix<T> &X, const targets<U> &y, std::int64_t n_epochs,
              std::span<const double> rates, std::span<const std::int64_t> order = {},
              std::span<const U> sample_weight = {}, int n_threads = 0) {
    const void *s = detail::check_rows(X, y, sample_weight);
    const std::size_t k = detail::product("n_epochs", {n_epochs});
    if (!order.empty() && (k == 0 || order.size() % k))
      throw std::invalid_argument("order must have as many visits for each epoch");
    const auto n_visits = order.empty() ? X.n_rows() : static_cast<std::int64_t>(order.size() / k);
    const fastlsgd_epoch e = checked_epoch(X, y.n_targets(), n_visits, n_epochs, rates, order);
    path after;
    after.loss.resize(k);
    after.coef.resize(detail::product("coef", {n_epochs, y.n_targets(), X.n_cols()}));
    after.intercept.resize(detail::product("intercept", {n_epochs, y.n_targets()}));
    detail::check(fastlsgd_sgd_epochs(after.loss.data(), after.coef.data(), after.intercept.data(),
                                      coef.data(), intercept.data(), X.get(), y.get(), s, &e,
                                      &state_, n_epochs, n_threads));
    return after;
  }

  /* The mean of the weights after each update, where an average is kept. */
  std::vector<double> average_coef() const {
    std::vector<double> mean(coef_sum_);
    for (double &m : mean) m /= static_cast<double>(state_.n_summed);
    return mean;
  }

  std::vector<T> coef;           /* (t, d) */
  std::vector<double> intercept; /* (t,) */

private:
  /* What C gets to know of the epochs, once all arrays are found to be long enough. */
  fastlsgd_epoch checked_epoch(const matrix<T> &X, std::int64_t n_targets, std::int64_t n_visits,
                               std::int64_t n_epochs, std::span<const double> rates,
                               std::span<const std::int64_t> order) {
    if (coef.size() != l1_paid_.size() || intercept.size() != n_targets_)
      throw std::invalid_argument(
          "coef and intercept must keep the sizes that they were made with");
    detail::check_size("coef", coef.size(), {n_targets, X.n_cols()});
    detail::check_size("intercept", intercept.size(), {n_targets});
    fastlsgd_epoch e{};
    e.order = order.empty() ? nullptr : order.data();
    e.n_visits = n_visits;
    e.rates = rates.data();
    e.batch_size = options_.batch_size;
    e.alpha = options_.alpha;
    e.l1_ratio = options_.l1_ratio;
    e.fit_intercept = options_.fit_intercept;
    const std::int64_t n_updates = n_visits / e.batch_size + (n_visits % e.batch_size != 0);
    detail::check_size("rates", rates.size(), {n_epochs, n_updates});
    point_at_arrays();
    return e;
  }

  /* At each call, so that objects can be copied and moved. */
  void point_at_arrays() {
    state_.l1_paid = l1_paid_.data();
    state_.coef_sum = coef_sum_.data();
    state_.intercept_sum = intercept_sum_.data();
    if (!options_.optimizer) return;
    double *p = moments_.data();
    optimizer_.coef_first = p;
    optimizer_.coef_second = p + coef.size();
    optimizer_.intercept_first = p + 2 * coef.size();
    optimizer_.intercept_second = p + 2 * coef.size() + intercept.size();
    state_.optimizer = &optimizer_;
  }

  options options_;
  std::vector<T> l1_paid_;
  std::vector<double> coef_sum_, intercept_sum_, moments_;
  std::size_t n_targets_;
  fastlsgd_optimizer optimizer_{};
  fastlsgd_state state_{};
};

} // namespace fastlsgd

#endif
