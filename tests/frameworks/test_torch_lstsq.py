"""`fastlsgd.torch.lstsq`: PyTorch's own answers, and derivatives against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from optional import required

import fastlsgd

torch = required("torch")
from torch.autograd import gradcheck, gradgradcheck  # noqa: E402

from fastlsgd.torch import lstsq  # noqa: E402

SHAPES = {"tall": ((4, 2), ()), "wide": ((2, 3), ()), "square": ((2, 2), ()), "two": ((3, 2), (2,))}


def problem(n, d, *, t=(2,), batch=(), dtype=torch.float64, grad=True):
    rng = torch.Generator().manual_seed(n * 10 + d)
    A = torch.randn(*batch, n, d, generator=rng, dtype=dtype)
    b = torch.randn(*batch, n, *t, generator=rng, dtype=dtype)
    return A.requires_grad_(grad), b.requires_grad_(grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
@pytest.mark.parametrize("t", [(), (1,), (3,)])
def test_same_as_torch(dtype, batch, t):
    A, b = problem(40, 5, t=t, batch=batch, dtype=dtype, grad=False)
    before = A.clone()
    x = lstsq(A, b)
    columns = b if t else b[..., None]
    expected = torch.linalg.lstsq(A.double(), columns.double()).solution.reshape(x.shape)
    assert x.dtype == dtype
    assert x.shape == (*batch, 5, *t)
    torch.testing.assert_close(x.double(), expected, rtol=1e-5 if dtype.itemsize == 4 else 1e-12,
                               atol=1e-6 if dtype.itemsize == 4 else 1e-13)  # fmt: skip
    assert torch.equal(A, before)


def test_leading_dimensions_are_broadcast():
    A, b = problem(6, 2, batch=(3,))
    x = lstsq(A[0], b)
    assert x.shape == (3, 2, 2)
    torch.testing.assert_close(x[1], lstsq(A[0], b[1]))
    x.sum().backward()
    assert A.grad.shape == A.shape
    assert lstsq(A[:0], b[:0]).shape == (0, 2, 2)
    assert lstsq(A, b[0]).shape == (3, 2, 2)
    assert lstsq(A, b[0, :, 0]).shape == (3, 2)
    many = A.expand(4, 2, 3, 6, 2)
    torch.testing.assert_close(lstsq(many, b)[3, 1], lstsq(A, b), rtol=1e-12, atol=0.0)


def test_nothing_is_copied_on_the_way_to_the_kernels(monkeypatch):
    import fastlsgd.torch._autograd as module

    seen = []
    solve = module.lstsq_of_each
    monkeypatch.setattr(module, "lstsq_of_each", lambda A, b: seen.append((A, b)) or solve(A, b))
    A = torch.randn(2, 6).mT  # columns are contiguous
    lstsq(A, torch.randn(6, 1))
    assert seen[0][0].ctypes.data == A.data_ptr()
    assert seen[0][0].strides == (4, 24)


# -------------------------------------------------------------------------------- derivatives


@pytest.mark.parametrize(("shape", "batch"), SHAPES.values(), ids=SHAPES)
def test_derivatives(shape, batch):
    """Backward and forward mode, and second derivatives."""
    A, b = problem(*shape, batch=batch)
    assert gradcheck(lstsq, (A, b), check_forward_ad=True)
    assert gradgradcheck(lstsq, (A, b))


def test_derivatives_along_changes_that_keep_the_rank():
    """At a rank of 2 of 3 columns there are no others; all terms of the formula take part."""
    rng = torch.Generator().manual_seed(0)
    B, C, b = (
        torch.randn(*shape, generator=rng, dtype=torch.float64, requires_grad=True)
        for shape in ((5, 2), (2, 3), (5,))
    )

    def solution(B, C, b):
        return lstsq(B @ C, b)

    expected = np.linalg.pinv((B @ C).detach().numpy()) @ b.detach().numpy()
    np.testing.assert_allclose(solution(B, C, b).detach().numpy(), expected, atol=1e-13)
    assert gradcheck(solution, (B, C, b), check_forward_ad=True)
    assert gradgradcheck(solution, (B, C, b))


def test_only_what_needs_a_gradient_gets_one():
    A, b = problem(5, 2)
    lstsq(A.detach(), b).sum().backward()
    assert A.grad is None
    torch.testing.assert_close(b.grad, torch.linalg.pinv(A.detach()).mT @ torch.ones(2, 2).double())
    assert not lstsq(A.detach(), b.detach()).requires_grad
    lstsq(A, b.detach()).sum().backward()
    assert A.grad is not None


def test_gradients_of_ill_conditioned_columns():
    """Their error grows with the condition (1e6), not with its square."""
    A, b = problem(60, 4, t=())
    scaled = (A * torch.logspace(0, -6, 4, dtype=torch.float64)).detach().requires_grad_()
    lstsq(scaled, b).sum().backward()
    exact = np.linalg.pinv(scaled.detach().numpy()).T @ np.ones(4)
    assert np.abs(b.grad.numpy() - exact).max() < 1e-8 * np.abs(exact).max()
    assert torch.isfinite(scaled.grad).all()


def test_functional_transforms():
    A, b = problem(5, 2, t=(), grad=False)
    jacobian = torch.func.jacrev(lstsq)(A, b)
    torch.testing.assert_close(torch.func.jacfwd(lstsq)(A, b), jacobian)
    many = torch.randn(7, 5, dtype=torch.float64)
    one_matrix = torch.func.vmap(lstsq, in_dims=(None, 0))(A, many)
    torch.testing.assert_close(one_matrix, torch.stack([lstsq(A, each) for each in many]))
    assert torch.func.vmap(lstsq, in_dims=(2, None))(A[..., None].expand(5, 2, 3), b).shape == (
        3,
        2,
    )


# ------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("A", "b", "message"),
    [
        (np.ones((3, 2)), torch.ones(3), r"A must be a torch.Tensor, got type ndarray"),
        (torch.ones(3, 2), [1.0], r"b must be a torch.Tensor, got type list"),
        (torch.ones(3, 2).half(), torch.ones(3).half(), r"A must be float32 or float64, got torch"),
        (torch.ones(3, 2), torch.ones(3).cfloat(), r"b must be float32 or float64, got torch.co"),
        (torch.ones(3, 2).to_sparse(), torch.ones(3), r"A must be a dense tensor"),
        (torch.ones(3, 2), torch.ones(3).double(), r"one dtype and be on one device, got"),
        (torch.ones(3, 2, device="meta"), torch.ones(3), r"A must be on the CPU or a CUDA device"),
        (torch.ones(3), torch.ones(3), r"A must have shape \(..., rows, features\), got \(3,\)"),
        (torch.ones(3, 2), torch.ones(4), r"b must have shape \(..., 3\) or"),
        (torch.ones(3, 2), torch.ones(1, 1, 3), r"b must have shape"),
        (torch.ones(3, 2), torch.tensor(1.0), r"b must have shape"),
        (torch.ones(2, 3, 2), torch.ones(4, 3, 1), r"leading dimensions .* can't be broadcast"),
        (torch.ones(0, 2), torch.ones(0), r"at least one row"),
        (torch.full((3, 2), torch.nan), torch.ones(3), r"NaN|nan"),
    ],
)  # fmt: skip
def test_errors(A, b, message):
    with pytest.raises(ValueError, match=message):
        lstsq(A, b)


def test_an_attribute_of_the_package():
    assert fastlsgd.torch.lstsq is lstsq
