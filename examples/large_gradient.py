"""
The gradient on a large matrix
==============================

One pass over X, where NumPy needs two.

Run: ``python examples/large_gradient.py [--rows 1000000] [--features 100]``
"""

import argparse
import time

import numpy as np

import fastlsgd


def numpy_gradient(X, y, coef):
    residual = X @ coef - y
    return X.T @ residual / len(X)


def seconds(function, *arguments, repeats=5):
    """The time of the fastest call, which other processes disturbed least."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function(*arguments)
        times.append(time.perf_counter() - start)
    return min(times), result


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the gradient of least squares.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=100)
    arguments, _ = parser.parse_known_args()

    rng = np.random.default_rng(0)
    X = rng.standard_normal((arguments.rows, arguments.features), dtype=np.float32)
    coef = rng.standard_normal(arguments.features, dtype=np.float32)
    y = rng.standard_normal(arguments.rows, dtype=np.float32)
    print(f"X: {X.shape[0]:,} x {X.shape[1]} {X.dtype}, {X.nbytes / 1e6:.0f} MB")

    two_passes, expected = seconds(numpy_gradient, X, y, coef)
    one_pass, result = seconds(fastlsgd.loss_gradient, X, y, coef)
    np.testing.assert_allclose(result.coef, expected, rtol=1e-3, atol=1e-3)

    for name, spent in (("NumPy, two passes", two_passes), ("fastlsgd, one pass", one_pass)):
        print(f"{name:<19} {1e3 * spent:8.2f} ms   X at {X.nbytes / spent / 1e9:6.1f} GB/s")


if __name__ == "__main__":
    main()
