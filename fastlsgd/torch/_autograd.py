"""`lstsq` for tensors: the solver's answer, with the derivatives of `_pseudo_inverse.py`.

Cost: one problem forwards; backwards two, as that module says, and in forward mode two more. Many
small problems are one call of C.
"""

from __future__ import annotations

import numpy as np
import torch

from .._lstsq import lstsq as solve
from .._lstsq import lstsq_of_each
from .._pseudo_inverse import gradients


def lstsq(A: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Solve least-squares problems to rounding, with derivatives of any order.

    Minimises ``|A x - b|^2``. Where many x do, as for fewer rows than columns, the one of least
    norm is returned.

    Parameters
    ----------
    A : Tensor of shape (..., n_samples, n_features)
        float32 or float64, with any strides. It is not copied.
    b : Tensor of shape (..., n_samples) or (..., n_samples, n_targets)
        Of A's dtype, on A's device. As in :func:`torch.linalg.solve`, these are vectors if b has
        one dimension or the shape of A without its last, and matrices otherwise. Leading dimensions
        are broadcast.

    Returns
    -------
    x : Tensor of shape (..., n_features) or (..., n_features, n_targets)
        Of A's dtype, on A's device.

    Raises
    ------
    ValueError
        If an argument is not a tensor, a shape, a dtype or a device is not allowed, NaN or infinity
        is found, or x overflows.

    Warns
    -----
    ConvergenceWarning
        scikit-learn's, if the solver ends short of what rounding allows.

    See Also
    --------
    fastlsgd.lstsq : The same for arrays, with sample weights, a ridge penalty and diagnostics.

    Notes
    -----
    Derivatives are those of the pseudo-inverse at constant rank [1]_. They are right for full
    column rank and for full row rank; where A has neither, x is not continuous, and they are right
    along changes of A that keep its rank. Forward mode, ``torch.func`` and second derivatives work.

    The numbers of A count as exact: as by :func:`numpy.linalg.lstsq`, float32 columns that depend
    on each other only to float32's rounding are of full rank, and x has large numbers of opposite
    signs. :func:`torch.linalg.lstsq` leaves out singular values below float32's rounding.

    The problems of a batch are solved in one call where they are small (20,000 numbers of A and 64
    rows or columns), and else one after the other. For a ridge penalty, append
    ``sqrt(alpha) * torch.eye(d)`` to the rows of A, and zeros to b.

    References
    ----------
    .. [1] Golub, Pereyra (1973), "The differentiation of pseudo-inverses and nonlinear least
       squares problems whose variables separate", SIAM Journal on Numerical Analysis 10(2).

    Examples
    --------
    >>> import torch
    >>> from fastlsgd.torch import lstsq
    >>> A = torch.tensor([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]], dtype=torch.float64)
    >>> b = torch.tensor([3.0, 5.0, 8.0], dtype=torch.float64, requires_grad=True)
    >>> x = lstsq(A, b)
    >>> x.detach().numpy().round(6).tolist()
    [0.333333, 2.5]
    >>> x[0].backward()
    >>> b.grad.numpy().round(6).tolist()
    [1.333333, 0.333333, -0.666667]
    """
    _check_tensor(A, "A")
    _check_tensor(b, "b")
    if A.ndim < 2:
        raise ValueError(f"A must have shape (..., rows, features), got {tuple(A.shape)}.")
    if b.dtype != A.dtype or b.device != A.device:
        raise ValueError(
            f"A and b must have one dtype and be on one device, got {A.dtype} on {A.device} and "
            f"{b.dtype} on {b.device}."
        )
    is_vector = b.ndim == 1 or b.shape == A.shape[:-1]
    if b.ndim == 0 or b.shape[-1 if is_vector else -2] != A.shape[-2]:
        raise ValueError(
            f"b must have shape (..., {A.shape[-2]}) or (..., {A.shape[-2]}, targets) for A of "
            f"shape {tuple(A.shape)}, got {tuple(b.shape)}."
        )
    if is_vector:
        b = b.unsqueeze(-1)
    try:
        batch = torch.broadcast_shapes(A.shape[:-2], b.shape[:-2])
    except RuntimeError as error:
        raise ValueError(
            f"The leading dimensions of A and b can't be broadcast: {tuple(A.shape[:-2])} and "
            f"{tuple(b.shape[:-2])}."
        ) from error
    x = LeastSquares.apply(A.expand(*batch, *A.shape[-2:]), b.expand(*batch, *b.shape[-2:]))
    return x.squeeze(-1) if is_vector else x


def _check_tensor(value, name: str) -> None:
    if not isinstance(value, torch.Tensor):
        raise ValueError(f"{name} must be a torch.Tensor, got type {type(value).__name__}.")
    if value.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"{name} must be float32 or float64, got {value.dtype}: convert it with {name}.float()."
        )
    if value.layout is not torch.strided:
        raise ValueError(f"{name} must be a dense tensor, got layout {value.layout}.")
    if value.device.type not in ("cpu", "cuda"):
        raise ValueError(f"{name} must be on the CPU or a CUDA device, got {value.device}.")


class LeastSquares(torch.autograd.Function):
    """x (..., d, t) for A (..., n, d) and b (..., n, t), which have the same leading dimensions."""

    @staticmethod
    def forward(A, b):
        return _solve_each(A.detach(), b.detach())

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs, output)
        ctx.save_for_forward(*inputs, output)

    @staticmethod
    def backward(ctx, g):
        A, b, x = ctx.saved_tensors
        if not ctx.needs_input_grad[0]:
            return None, LeastSquares.apply(A.mT, g)
        return gradients(LeastSquares.apply, torch, A, b, x, g)

    @staticmethod
    def jvp(ctx, dA, db):
        A, b, x = ctx.saved_tensors
        if dA is None:
            return LeastSquares.apply(A, db)
        both = torch.cat((dA.mT @ (b - A @ x), x), -1)
        v, z = LeastSquares.apply(A.mT, both).split(x.shape[-1], -1)
        q = dA.mT @ z
        change = v - dA @ x - A @ q
        return q + LeastSquares.apply(A, change if db is None else change + db)

    @staticmethod
    def vmap(info, in_dims, A, b):
        A, b = (
            value.expand(info.batch_size, *value.shape) if dim is None else value.movedim(dim, 0)
            for value, dim in zip((A, b), in_dims, strict=True)
        )
        return LeastSquares.apply(A, b), 0


def _solve_each(A: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """x (..., d, t): by NumPy views of tensors on the host, and on the device by its kernels."""
    if A.device.type == "cpu":
        return torch.from_numpy(lstsq_of_each(A.resolve_neg().numpy(), b.resolve_neg().numpy()))
    x = torch.empty((*A.shape[:-2], A.shape[-1], b.shape[-1]), dtype=A.dtype, device=A.device)
    for problem in np.ndindex(*A.shape[:-2]):
        x[problem] = solve(A[problem], b[problem])
    return x
