"""Asking for cache lines before their turn comes."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .compile import helper

AHEAD = 16  # rows in random order to prefetch before their turn
AHEAD_BYTES = 32_768  # of rows in order: as much as is on its way from memory at a time
LINE_BYTES = 64


@intrinsic
def prefetch(typing_context, array, index):
    """Ask for the cache line of array[index]; a hint, which LLVM's own `prefetch` emits."""

    def emit(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        byte = ir.IntType(8).as_pointer()
        place = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        i32 = ir.IntType(32)
        types_of_hint = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
        hint = builder.module.declare_intrinsic("llvm.prefetch", (byte,), types_of_hint)
        builder.call(hint, [place, i32(0), i32(2), i32(1)])  # to read, into L2, data
        return context.get_dummy_value()

    return types.void(array, types.uintp), emit


@helper
def prefetch_row(A, start, d):
    """Ask for d numbers from A[start] on."""
    j = np.uintp(0)
    while j < np.uintp(d):  # a range with a step would divide
        prefetch(A, start + j)
        j += np.uintp(LINE_BYTES // A.itemsize)


@helper
def prefetch_target(y, row):
    """Ask for the first target of a row."""
    prefetch(y, np.uintp(row * (y.strides[0] // y.itemsize)))
