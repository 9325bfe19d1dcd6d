"""
On a GPU
========

Arrays of CuPy, PyTorch, JAX and Numba that are on a GPU are fitted there. This program looks for a
GPU one step at a time, says at which step there is none and what to do about that, and fits on it
if there is one.

Run: ``python examples/on_a_gpu.py`` (seconds; ``--rows`` and ``--features`` choose the size,
``--small`` a small one). It prints its results.
"""

import argparse
import importlib
import os
import time

import numpy as np

import fastlsgd
from fastlsgd import LeastSquaresRegressor, SGDRegressor

parser = argparse.ArgumentParser(description="Fit least squares to data on a GPU.")
parser.add_argument("--rows", type=int, default=1_000_000)
parser.add_argument("--features", type=int, default=256)
parser.add_argument("--small", action="store_true")
arguments, _ = parser.parse_known_args()
if arguments.small or os.environ.get("FASTLSGD_EXAMPLES") == "small":
    arguments.rows, arguments.features = 20_000, 32

# %%
# Is it found?
# ------------
# ``available_backends`` says of each backend that it is available, or why it is not. For "cuda"
# there are three reasons: the package is missing (``pip install "fastlsgd[cuda]"``), the driver is
# missing or too old (``nvidia-smi`` must list the GPU and its driver), or there is no GPU.

status = fastlsgd.available_backends()["cuda"]
print(f"the backend cuda: {status}")
found = status == "available"

# %%
# Are the data on it?
# -------------------
# Data on the host are used on the host. What decides is where X is: a ``torch`` tensor must have
# been moved by ``.cuda()``, an array made by ``cupy.asarray``.


def gpu_arrays(rows, features):
    """X and y on the GPU, by the first library that can make them; None if none can."""
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


data = gpu_arrays(arguments.rows, arguments.features) if found else None
if data is None:
    print("No arrays on a GPU: that needs the backend, and CuPy or PyTorch built for CUDA.")

# %%
# Is it used?
# -----------
# A fitted estimator says which backend did the work, and its arrays are of the kind that X was. The
# first fit compiles kernels, for some seconds; the second shows the speed.

if data is not None:
    X, y = data
    model = LeastSquaresRegressor().fit(X, y)
    start = time.perf_counter()
    model.fit(X, y)
    spent = time.perf_counter() - start
    print(f"{model.n_iter_} iterations in {1e3 * spent:.1f} ms on the backend {model.backend_}")
    print(f"coef_ is a {type(model.coef_).__module__} array; its first number is {model.coef_[0]}")
else:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((min(arguments.rows, 20_000), arguments.features), dtype=np.float32)
    model = LeastSquaresRegressor().fit(X, X @ np.ones(arguments.features, np.float32))
    print(f"the same on the host, on the backend {model.backend_}")

# %%
# Asked for by name, a backend that is not there is an error with the reason. It is never replaced
# by another in silence.

if not found:
    try:
        SGDRegressor(backend="cuda").fit([[0.0], [1.0]], [0.0, 1.0])
    except ImportError as error:
        print(f"backend='cuda' on this computer: {' '.join(str(error).split())}")

# %%
# Is it kept busy?
# ----------------
# Data on the host go to the device in blocks with ``backend="cuda"``, even more than its memory
# holds. Then the bus between them sets the pace: a pass over 10 GB takes about half a second over
# PCIe 4, but 5 milliseconds in the memory of a Hopper GPU. So keep data on the device that are used
# more than once, as float32. Small data do not fill a GPU: below some megabytes of X, the host is
# quicker. See :doc:`/cuda` for measurements.

if found:
    rng = np.random.default_rng(0)
    host = rng.standard_normal((arguments.rows, arguments.features), dtype=np.float32)
    target = host @ np.ones(arguments.features, np.float32)
    for place in ("native", "cuda"):
        start = time.perf_counter()
        fastlsgd.loss_gradient(host, target, np.zeros(arguments.features), backend=place)
        print(f"a gradient of data on the host, by {place}: {time.perf_counter() - start:.3f} s")
print("done; a GPU was " + ("used" if data is not None else "not used"))
