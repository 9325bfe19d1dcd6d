"""Fit least squares to data on a GPU, with CuPy or PyTorch.

Run: python examples/on_a_gpu.py [--rows 1000000] [--features 256]
"""

import argparse
import importlib
import time

import fastlsgd


def gpu_arrays(rows, features):
    """X and y on the GPU, or None where there is none."""
    try:
        cupy = importlib.import_module("cupy")
        X = cupy.random.default_rng(0).standard_normal((rows, features), dtype=cupy.float32)
        return X, X @ cupy.ones(features, dtype=cupy.float32)
    except Exception:  # not installed, or no device
        pass
    try:
        torch = importlib.import_module("torch")
        X = torch.randn(rows, features, device="cuda")
        return X, X @ torch.ones(features, device="cuda")
    except Exception:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=256)
    arguments = parser.parse_args()

    status = fastlsgd.available_backends()["cuda"]
    data = gpu_arrays(arguments.rows, arguments.features) if status == "available" else None
    if data is None:
        print(f"Nothing to do without a GPU, and CuPy or PyTorch for it. The backend: {status}")
        return

    X, y = data
    model = fastlsgd.LeastSquaresRegressor().fit(X, y)
    start = time.perf_counter()
    model.fit(X, y)
    spent = time.perf_counter() - start
    print(f"{model.n_iter_} iterations in {1e3 * spent:.1f} ms on the backend {model.backend_}")
    print(f"coef_ is a {type(model.coef_).__module__} array; its first number is {model.coef_[0]}")


if __name__ == "__main__":
    main()
