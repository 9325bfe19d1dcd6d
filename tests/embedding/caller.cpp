/* Calls the kernels through fastlsgd.hpp on the numbers of caller.c, and prints what they give. */

#include <cstdio>
#include <fastlsgd.hpp>
#include <utility>

static double number(std::int64_t k) { return static_cast<double>((7 * k + 3) % 31 - 15) / 8.0; }

template <class T> static void print(const char *name, const std::vector<T> &values) {
  std::printf("%s", name);
  for (T value : values) std::printf(" %.17g", static_cast<double>(value));
  std::printf("\n");
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

  fastlsgd::sgd<double> adam(d, t, {.average = true, .optimizer = FASTLSGD_ADAM});
  adam.epoch<double>(A, B, rates);
  std::printf("averages %zu\n", adam.average_coef().size());

  try {
    fastlsgd::loss_gradient<double, double>(A, fastlsgd::targets<double>(y, 3), w, b);
  } catch (const std::invalid_argument &error) {
    std::printf("refused %s\n", error.what());
  }
}
