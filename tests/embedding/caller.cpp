/* Calls the kernels through fastlsgd.hpp on the numbers of caller.c, and prints what they give. */

#include <cstdio>
#include <fastlsgd.hpp>
#include <utility>

static double number(std::size_t k) { return (static_cast<double>((7 * k + 3) % 31) - 15.0) / 8.0; }

template <class T> static void print(const char *name, const std::vector<T> &values) {
  std::printf("%s", name);
  for (T value : values) std::printf(" %.17g", static_cast<double>(value));
  std::printf("\n");
}

/* Prints what the call says that it throws. */
template <class Call> static void refuse(Call call) {
  try {
    call();
  } catch (const std::invalid_argument &error) {
    std::printf("refused %s\n", error.what());
  }
}

int main() {
  constexpr std::int64_t n = 37, d = 5, t = 2;
  std::vector<double> X(n * d), y(n * t), s(n), w(t * d), b{0.5, -0.25};
  for (std::size_t k = 0; k < X.size(); ++k) X[k] = number(k);
  for (std::size_t k = 0; k < y.size(); ++k) y[k] = number(5 * k + 1);
  for (std::size_t k = 0; k < s.size(); ++k) s[k] = static_cast<double>(k % 4);
  for (std::size_t k = 0; k < w.size(); ++k) w[k] = number(3 * k + 2);

  const fastlsgd::matrix<double> A(X, n, d);
  const fastlsgd::targets<double> B(y, t);
  const auto result = fastlsgd::loss_gradient<double, double>(A, B, w, b, s, 1);
  print("loss", result.loss), print("coef", result.coef), print("intercept", result.intercept);
  print("predict", fastlsgd::predict<double>(A, w, b, 1));
  print("gram", fastlsgd::gram<double, double>(A, B, s, {}, 1));

  fastlsgd::sgd<double> plain(d, t, {.batch_size = 4});
  plain.coef = w;
  plain.intercept = b;
  fastlsgd::sgd<double> moved = std::move(plain);
  const std::vector<double> rates(n, 0.0625);
  const double total = moved.epoch<double>(A, B, rates, {}, s, 1);
  print("sgd", moved.coef), print("total", std::vector<double>{total});

  fastlsgd::sgd<double> each(d, t, {.batch_size = 4, .alpha = 0.5, .l1_ratio = 0.5});
  fastlsgd::sgd<double> at_once = each;
  std::vector<double> losses, coefs, intercepts, many_rates(3 * 10);
  std::vector<std::int64_t> order(3 * n);
  for (std::size_t k = 0; k < many_rates.size(); ++k) many_rates[k] = 1.0 / double(16 + k);
  for (std::size_t k = 0; k < order.size(); ++k) order[k] = std::int64_t(11 * k % n);
  for (std::size_t k = 0; k < 3; ++k) {
    const auto own = std::span<const std::int64_t>(order).subspan(k * n, n);
    const auto own_rates = std::span<const double>(many_rates).subspan(k * 10, 10);
    losses.push_back(each.epoch<double>(A, B, own_rates, own, s, 1));
    coefs.insert(coefs.end(), each.coef.begin(), each.coef.end());
    intercepts.insert(intercepts.end(), each.intercept.begin(), each.intercept.end());
  }
  const auto path = at_once.epochs<double>(A, B, 3, many_rates, order, s, 1);
  std::printf("epochs %d\n", path.loss == losses && path.coef == coefs &&
                                 path.intercept == intercepts && at_once.coef == each.coef);

  fastlsgd::sgd<double> adam(d, t, {.average = true, .optimizer = FASTLSGD_ADAM});
  adam.epoch<double>(A, B, rates);
  std::printf("averages %zu\n", adam.average_coef().size());

  refuse(
      [&] { fastlsgd::loss_gradient<double, double>(A, fastlsgd::targets<double>(y, 3), w, b); });
  refuse([&] { fastlsgd::matrix<double>(X, std::int64_t{1} << 62, 4); });
  refuse([&] { fastlsgd::matrix<double>(X, -1, -1); });
  refuse([&] { adam.epochs<double>(A, B, 2, rates); });
  refuse([&] { adam.epochs<double>(A, B, 2, rates, std::span(order).first(3)); });
  adam.coef.resize(20);
  refuse([&] { adam.epoch<double>(A, B, rates); });
}
