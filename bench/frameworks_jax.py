"""fastlsgd.jax beside JAX, on the CPU: `python bench/frameworks_jax.py [--rows 1000000]`.

Each call is compiled, and checked against its peer's result first. Times are the best of rounds in
which the calls take turns; those of small problems show what a call costs.
"""

from __future__ import annotations

import argparse
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from timing import interleave, per_call

import fastlsgd
from fastlsgd.jax import loss_gradient, lstsq


def xla_loss(w, X, y):
    r = X @ w - y
    return 0.5 * (r * r).mean()


xla_gradient = jax.jit(jax.value_and_grad(xla_loss))
compiled_gradient, compiled_lstsq = jax.jit(loss_gradient), jax.jit(lstsq)


def problem(n: int, d: int):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d), np.float32)
    return jnp.asarray(X), jnp.asarray(X.sum(1) + rng.standard_normal(n, np.float32))


def calls(n: int, d: int) -> dict:
    """Return the calls by name, after a check that gradients and solutions are the peers'."""
    X, y = problem(n, d)
    w = jnp.ones(d)
    ours, theirs = compiled_gradient(X, y, w), xla_gradient(w, X, y)
    np.testing.assert_allclose(ours.loss, theirs[0], rtol=1e-4)
    np.testing.assert_allclose(ours.coef, theirs[1], rtol=1e-2, atol=1e-5)
    host = np.asarray(X), np.asarray(y), np.asarray(w)
    np.testing.assert_allclose(compiled_lstsq(X, y), fastlsgd.lstsq(*host[:2]), rtol=1e-5)
    done = jax.block_until_ready
    return {
        "fastlsgd.jax.loss_gradient": lambda: done(compiled_gradient(X, y, w)),
        "XLA's value_and_grad": lambda: done(xla_gradient(w, X, y)),
        "fastlsgd.loss_gradient": partial(fastlsgd.loss_gradient, *host),
        "fastlsgd.jax.lstsq": lambda: done(compiled_lstsq(X, y)),
        "fastlsgd.lstsq": partial(fastlsgd.lstsq, *host[:2]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    large = interleave(calls(options.rows, options.features), options.rounds)
    print(f"{options.rows} x {options.features} float32, milliseconds:")
    for name, timing in large.items():
        print(f"  {name}: {1e3 * timing.best:.2f}")
    print("20 x 3 float32, microseconds:")
    for name, call in calls(20, 3).items():
        print(f"  {name}: {1e6 * per_call(call, repeats=5, loops=200).best:.1f}")


if __name__ == "__main__":
    main()
