"""Checks of what is known while JAX traces a function: shapes and dtypes, but no numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def as_numbers(value, name: str) -> jax.Array:
    """`value` as an array of real numbers of any dtype."""
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of numbers: {error}") from error
    if jnp.iscomplexobj(array):
        raise ValueError(f"{name} must have real numbers, got {array.dtype}.")
    return array


def as_floats(value, name: str) -> jax.Array:
    """`value` as an array of float32 or float64."""
    array = as_numbers(value, name)
    if array.dtype not in (jnp.float32, jnp.float64):
        raise ValueError(
            f"{name} must be float32 or float64, got {array.dtype}: convert it with "
            f"{name}.astype(jnp.float32)."
        )
    return array


def as_matrix(value, name: str) -> jax.Array:
    """`value` as floats of shape (n, d), with a row and a column at least."""
    array = as_floats(value, name)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(
            f"{name} must have shape (rows, features), none of them 0, got {array.shape}: for a "
            f"batch of problems use jax.vmap."
        )
    return array


def as_columns(value, name: str, n_rows: int) -> tuple[jax.Array, bool]:
    """`value` as floats of shape (n, t), and whether it was a vector."""
    array = as_floats(value, name)
    if array.ndim not in (1, 2) or array.shape[0] != n_rows:
        raise ValueError(
            f"{name} must have shape ({n_rows},) or ({n_rows}, targets), got {array.shape}."
        )
    return (array[:, None], True) if array.ndim == 1 else (array, False)
