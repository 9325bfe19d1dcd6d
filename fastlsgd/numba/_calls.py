"""Calls of libfastlsgd in LLVM's intermediate language, as Numba's intrinsics.

The structures of fastlsgd.h are built on the stack of the compiled function; arrays are passed as
pointers. Each intrinsic takes the arrays themselves, so that they live until the call is over.
"""

from __future__ import annotations

import ctypes

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic

from ..kernels.contract import CSR

__all__ = ["call_gram", "call_loss_gradient", "call_predict", "call_sgd_epoch", "is_matrix"]

_I32, _I64, _F64 = ir.IntType(32), ir.IntType(64), ir.DoubleType()
_POINTER = ir.IntType(8).as_pointer()
_INT = ir.IntType(ctypes.sizeof(ctypes.c_int) * 8)

# The fields of the structures, in C's alignment, which that of LLVM's unpacked structures is.
_MATRIX = (_I64, _I64, _INT, _POINTER, _I64, _I64, _POINTER, _POINTER, _INT)
_TARGETS = (_POINTER, _I64, _I64, _I64, _INT)
_EPOCH = (_POINTER, _I64, _POINTER, _I64, _F64, _F64, _INT, _INT, _POINTER, _POINTER)
_STATE = (_F64, _POINTER, _I64, _POINTER, _POINTER, _I64, _POINTER)

_KERNELS = ("loss_gradient", "predict", "gram", "sgd_epoch")


def _symbol(kernel: str) -> str:
    """The name by which compiled code, also in Numba's cache, knows a kernel.

    It has the version of the binary interface, so that code from a cache is never linked to a
    library with other structures.
    """
    abi = get_cython_function_address("fastlsgd.kernels.native", "fastlsgd_abi_version")
    return f"fastlsgd_abi{ctypes.CFUNCTYPE(ctypes.c_int)(abi)()}_{kernel}"


_SYMBOLS = {kernel: _symbol(kernel) for kernel in _KERNELS}


def add_symbols() -> None:
    """Tell LLVM where the kernels are."""
    for kernel, symbol in _SYMBOLS.items():
        address = get_cython_function_address("fastlsgd.kernels.native", f"fastlsgd_{kernel}")
        binding.add_symbol(symbol, address)


def is_matrix(kind) -> bool:
    """Whether a Numba type is that of an X."""
    if isinstance(kind, types.NamedTuple) and kind.instance_class is CSR:
        data, indices, indptr = kind.types[:3]
        return (
            is_array(data, 1)
            and indices.dtype == indptr.dtype
            and indices.dtype in (types.int32, types.int64)
            and all(array.layout == "C" for array in (data, indices, indptr))
        )
    return is_array(kind, 2)


def is_array(kind, *ndims: int) -> bool:
    """Whether a Numba type is that of an array of float32 or float64 with so many dimensions."""
    return (
        isinstance(kind, types.Array)
        and kind.ndim in ndims
        and kind.dtype in (types.float32, types.float64)
        and kind.aligned
    )


# ------------------------------------------------------------------------------ building calls


class _Call:
    """A call that is being written: what it needs of its compiled function."""

    def __init__(self, context, builder):
        self.context, self.builder = context, builder

    def array(self, kind, value):
        return self.context.make_array(kind)(self.context, self.builder, value)

    def pointer(self, kind, value):
        """The address of an array's first element, or NULL for None."""
        if isinstance(kind, types.NoneType):
            return ir.Constant(_POINTER, None)
        return self.builder.bitcast(self.array(kind, value).data, _POINTER)

    def pointers(self, kind, value):
        """The addresses of a tuple of arrays."""
        parts = cgutils.unpack_tuple(self.builder, value)
        return [self.pointer(part, array) for part, array in zip(kind.types, parts, strict=True)]

    def structure(self, fields, values):
        """A structure on the stack; returns its address."""
        kind = ir.LiteralStructType(fields)
        place = cgutils.alloca_once(self.builder, kind)
        for k, value in enumerate(values):
            self.builder.store(value, cgutils.gep_inbounds(self.builder, place, 0, k))
        return self.builder.bitcast(place, _POINTER)

    def strides(self, kind, array):
        """In elements."""
        size = ir.Constant(_I64, kind.dtype.bitwidth // 8)
        strides = cgutils.unpack_tuple(self.builder, array.strides)
        return [self.builder.sdiv(stride, size) for stride in strides]

    def dtype(self, kind):
        return ir.Constant(_INT, int(kind.dtype == types.float64))

    def matrix(self, kind, value):
        null, zero = ir.Constant(_POINTER, None), ir.Constant(_I64, 0)
        if isinstance(kind, types.NamedTuple):
            data, indices, indptr, shape = cgutils.unpack_tuple(self.builder, value)
            of_data, of_indices, of_indptr, of_shape = kind.types
            n, d = (
                self.context.cast(self.builder, size, of_size, types.int64)
                for size, of_size in zip(
                    cgutils.unpack_tuple(self.builder, shape), of_shape.types, strict=True
                )
            )
            index_bytes = ir.Constant(_INT, of_indices.dtype.bitwidth // 8)
            pointers = self.pointer(of_indices, indices), self.pointer(of_indptr, indptr)
            fields = [n, d, self.dtype(of_data), self.pointer(of_data, data), zero, zero]
            return self.structure(_MATRIX, [*fields, *pointers, index_bytes])
        array = self.array(kind, value)
        n, d = cgutils.unpack_tuple(self.builder, array.shape)
        fields = [n, d, self.dtype(kind), self.pointer(kind, value), *self.strides(kind, array)]
        return self.structure(_MATRIX, [*fields, null, null, ir.Constant(_INT, 0)])

    def targets(self, kind, value):
        array, one = self.array(kind, value), ir.Constant(_I64, 1)
        strides = self.strides(kind, array)
        t = one if kind.ndim == 1 else cgutils.unpack_tuple(self.builder, array.shape)[1]
        strides = strides if kind.ndim == 2 else [strides[0], one]
        fields = [self.pointer(kind, value), t, *strides, self.dtype(kind)]
        return self.structure(_TARGETS, fields)

    def number(self, value, like):
        """A signed integer as another C type."""
        return (
            self.builder.sext(value, like)
            if like.width > value.type.width
            else (self.builder.trunc(value, like) if like.width < value.type.width else value)
        )

    def kernel(self, name, arguments):
        signature = ir.FunctionType(_INT, [argument.type for argument in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, signature, _SYMBOLS[name])
        return self.number(self.builder.call(function, arguments), _I32)


# ------------------------------------------------------------------------------------ intrinsics
# Each returns the status of its kernel. `n_threads` and other numbers are int64 or float64.


@intrinsic
def call_loss_gradient(typing, results, X, y, w, b, sample_weight, n_threads):
    """`results` are loss (t,), coef (t, d) and intercept (t,)."""

    def codegen(context, builder, signature, values):
        call, kinds = _Call(context, builder), signature.args
        out = call.pointers(kinds[0], values[0])
        pointers = [call.pointer(kinds[k], values[k]) for k in (3, 4, 5)]
        matrix, targets = call.matrix(kinds[1], values[1]), call.targets(kinds[2], values[2])
        threads = call.number(values[6], _INT)
        return call.kernel("loss_gradient", [*out, matrix, targets, *pointers, threads])

    return types.int32(results, X, y, w, b, sample_weight, types.int64), codegen


@intrinsic
def call_predict(typing, out, X, w, b, n_targets, n_threads):
    def codegen(context, builder, signature, values):
        call, kinds = _Call(context, builder), signature.args
        out, w, b = (call.pointer(kinds[k], values[k]) for k in (0, 2, 3))
        matrix, threads = call.matrix(kinds[1], values[1]), call.number(values[5], _INT)
        return call.kernel("predict", [out, matrix, w, b, values[4], threads])

    return types.int32(out, X, w, b, types.int64, types.int64), codegen


@intrinsic
def call_gram(typing, out, X, y, sample_weight, shift, n_threads):
    def codegen(context, builder, signature, values):
        call, kinds = _Call(context, builder), signature.args
        out, s, shift = (call.pointer(kinds[k], values[k]) for k in (0, 3, 4))
        matrix, targets = call.matrix(kinds[1], values[1]), call.targets(kinds[2], values[2])
        return call.kernel("gram", [out, matrix, targets, s, shift, call.number(values[5], _INT)])

    return types.int32(out, X, y, sample_weight, shift, types.int64), codegen


@intrinsic
def call_sgd_epoch(typing, changed, X, y, sample_weight, visit, penalty, n_threads):
    """`changed` are the loss (1,), w, b and l1_paid.

    `visit` is (order, n_visits, rates, batch_size), and `penalty` (alpha, l1_ratio, fit_intercept).
    """

    def codegen(context, builder, signature, values):
        call, kinds = _Call(context, builder), signature.args
        null = ir.Constant(_POINTER, None)
        loss, w, b, paid = call.pointers(kinds[0], values[0])
        order, n_visits, rates, batch_size = cgutils.unpack_tuple(builder, values[4])
        alpha, l1_ratio, fit_intercept = cgutils.unpack_tuple(builder, values[5])
        of_order, _, of_rates, _ = kinds[4].types
        fields = [call.pointer(of_order, order), n_visits, call.pointer(of_rates, rates)]
        fields += [batch_size, alpha, l1_ratio, call.number(fit_intercept, _INT)]
        epoch = call.structure(_EPOCH, [*fields, ir.Constant(_INT, 0), null, null])
        never, zero = ir.Constant(_I64, -1), ir.Constant(_I64, 0)
        fields = [ir.Constant(_F64, 0.0), paid, never, null, null, zero, null]
        state = call.structure(_STATE, fields)
        pointers = [loss, w, b, call.matrix(kinds[1], values[1])]
        pointers += [call.targets(kinds[2], values[2]), call.pointer(kinds[3], values[3])]
        threads = call.number(values[6], _INT)
        return call.kernel("sgd_epoch", [*pointers, epoch, state, threads])

    return types.int32(changed, X, y, sample_weight, visit, penalty, types.int64), codegen
