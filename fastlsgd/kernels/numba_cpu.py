"""The contract compiled by Numba: for machines where the C library could not be built.

What to know before changing this file:

* Each kernel is compiled once for a dtype, with declared types: inputs are read-only and of any
  layout, so C, F, strided and read-only arrays all meet the same machine code.
* Rows that are contiguous are read where they lie. Others are copied a block at a time into a
  scratch of a few thousand numbers (`_locate`); nothing of the size of X is ever allocated.
* Threads are our own (`_in_chunks`), around kernels that release the GIL. Numba's layers are not
  used: its workqueue aborts the process when two threads call it at once (numba issue 10565).
  Chunks depend on the shape and n_threads alone and are added up in order, so that results are
  bit-identical for a fixed n_threads.
* Array offsets in hot loops are unsigned. Numba lets a signed index count from the end of an
  array; that test turns each load of ``A[i + j]`` into a gather.
* A diverging run must show: fastmath never holds nnan or ninf, and as ``max(0, NaN)`` is 0 in
  Numba, numbers are cut off by comparisons that NaN fails.
"""

from __future__ import annotations

import os
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import pairwise
from types import FunctionType
from typing import Any, Literal

import numba
import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic

from .._threads import call_all
from .contract import (
    CSR,
    Epoch,
    Gram,
    LossGradient,
    OptimizerRule,
    SGDState,
    rows_per_group,
)

__all__ = ["gram", "isa", "loss_gradient", "predict", "sgd_epoch"]

SERIAL_WORK = 200_000  # multiply-adds below which handing work to a thread costs more than it gains
MOST_CHUNKS = 1_024  # no machine has more threads to gain by, and each has sums of its own
BLOCK_BYTES = 16384  # rows that are read twice stay in half of a 32 KiB L1 cache in between
MAX_BLOCK_ROWS = 64
NARROW = 12  # features up to which rows are turned into columns: they are short for vectors
COLUMN_BLOCK_BYTES = 262_144  # of columns that are read twice: they stay in the L2 cache
MAX_COLUMN_ROWS = 2_048
MIN_PACKED_ROWS = 16  # of an F-ordered X: 16 float32 are a cache line

GRAM_ROWS = 32  # a panel of 32 rows and 64 columns of float64 is 16 KiB
GRAM_COLUMNS = 64

AHEAD = 16  # rows in random order to prefetch before their turn
AHEAD_BYTES = 32_768  # of rows in order: as much as is on its way from memory at a time
MAX_ENTRIES_AHEAD = 256  # of a CSR row
LINE_BYTES = 64
SAFE_SHRINKAGE = 0.5  # rate * alpha below which 4 factors 1 - rate * alpha may be divided by
TRAIL_LENGTH = 65_536  # CSR: updates after which every weight is brought up to date
TINY_SCALE = 1e-4  # a smaller common scale is multiplied into the weights
SUMS_ARE_SPLIT = False


def isa() -> str:
    """The processor that LLVM compiles for."""
    return f"llvm ({os.environ.get('NUMBA_CPU_NAME') or binding.get_host_cpu_name()})"


# ----------------------------------------------------------------------------------------------
# Compilation
# ----------------------------------------------------------------------------------------------

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
# Helpers are inlined: an array is seven words on the stack, and to copy them to and fro took 40 of
# the 87 ns that a row of SGD took. They allocate nothing and count no references, which in a loop
# is two atomic operations a call; so only kernels themselves, outside their loops, may allocate.
_HELPER = {"_nrt": False, "forceinline": True, **_OPTIONS}
_plain = numba.njit(**_HELPER)
_fast = numba.njit(fastmath={"contract", "reassoc", "arcp", "nsz"}, **_HELPER)
# Held to compile, and to start the pool of threads. To be taken before Numba's own lock.
_lock = threading.RLock()


def _in(dtype, ndim: int, layout: Literal["A", "C"] = "A"):
    """An input: read-only, so that writable arrays are accepted too; "A" accepts every layout."""
    return types.Array(dtype, ndim, layout, readonly=True)


def _out(dtype, ndim: int):
    return types.Array(dtype, ndim, "C")


def _dense_types(f):
    """X, flat, offset, stride: as `_dense` returns them."""
    return [_in(f, 2), _in(f, 1, "C"), types.intp, types.intp]


def _csr_types(f, i):
    return [_in(f, 1, "C"), _in(i, 1, "C"), _in(i, 1, "C")]


class _Kernel:
    """A function that is compiled, or found in Numba's cache, when a dtype first needs it.

    ``kernel[float32, float64]``, or ``kernel[float32, int32, float64]`` for CSR, is the compiled
    function for X of float32 (with such indices) and y of float64; `predict` has no y.
    """

    def __init__(self, function, signature):
        self.function = function
        self.signature = signature
        self.compiled = {}

    def __getitem__(self, dtypes):
        try:
            return self.compiled[dtypes]
        except KeyError:
            with _lock:
                if dtypes not in self.compiled:
                    self.compiled[dtypes] = self._compile(dtypes)
            return self.compiled[dtypes]

    def _compile(self, dtypes):
        arguments = dtypes if isinstance(dtypes, tuple) else (dtypes,)
        dispatcher = numba.njit(**_OPTIONS)(self._named_for(arguments))
        with suppress(RuntimeError):  # no folder that can be written to: compile in each process
            dispatcher.enable_caching()
        dispatcher.compile(tuple(self.signature(*map(numba.from_dtype, arguments))))
        dispatcher.disable_compile()
        return dispatcher

    def _named_for(self, dtypes):
        """A copy of the function whose name, and so whose cache file, is for one signature alone.

        Numba keeps the signatures of one function under one index, which processes that compile
        at the same time overwrite: an entry may then lead to another's code (numba issue 4807).
        """
        f = self.function
        copy = FunctionType(f.__code__, f.__globals__, f.__name__, f.__defaults__, f.__closure__)
        target = f"{isa()} {binding.get_host_cpu_features().flatten()}"
        dtypes = "_".join(dtype.name for dtype in dtypes)
        copy.__qualname__ = f"{f.__name__}_{dtypes}_{zlib.crc32(target.encode()):08x}"
        copy.__module__ = f.__module__
        return copy


def _kernel(signature):
    """Declare the types of a function's arguments, given the numba types of its dtypes."""
    return lambda function: _Kernel(function, signature)


# ----------------------------------------------------------------------------------------------
# Threads
# ----------------------------------------------------------------------------------------------

_pool: ThreadPoolExecutor | None = None


def _wait_for_compilers() -> None:
    """Before a fork: a compilation in another thread, ours or not, would never end in the child."""
    _lock.acquire()
    global_compiler_lock.acquire()


def _go_on() -> None:
    global_compiler_lock.release()
    _lock.release()


def _begin_anew() -> None:
    """In the child, where the pool's threads are not."""
    global _pool
    _pool = None
    _go_on()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_wait_for_compilers, after_in_parent=_go_on, after_in_child=_begin_anew
    )


def _executor() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="fastlsgd")
    return _pool


def _in_chunks(chunk, bounds) -> list:
    """[chunk(bounds[0], bounds[1]), chunk(bounds[1], bounds[2]), ...], the first in this thread."""
    if len(bounds) == 2:
        return [chunk(*bounds)]
    return call_all([partial(chunk, low, high) for low, high in pairwise(bounds)], _executor)


def _chunk_bounds(X, work_per_element: int, n_threads: int) -> list[int]:
    """Where to cut the rows, by shape and n_threads alone; CSR rows by their number of entries."""
    n, d = X.shape
    sparse = isinstance(X, CSR)
    elements = int(X.indptr[-1] - X.indptr[0]) if sparse else n * d
    # Each chunk has sums of its own, of d numbers for each target: few entries are no match for it.
    chunks = min(n_threads, elements // d, elements * work_per_element // SERIAL_WORK, MOST_CHUNKS)
    if chunks <= 1:
        return [0, n]
    cuts = [k * elements // chunks for k in range(1, chunks)]
    if not sparse:
        return [0, *(cut // d for cut in cuts), n]
    first = int(X.indptr[0])
    return [0, *np.searchsorted(X.indptr, [first + cut for cut in cuts]).tolist(), n]


# ----------------------------------------------------------------------------------------------
# Rows of a dense X, wherever they lie
# ----------------------------------------------------------------------------------------------


def _dense(X: np.ndarray):
    """X, flat, offset, stride: row i is flat[offset + i stride:][:d], or flat is empty.

    Empty where the numbers of a row do not lie together; `_locate` packs such rows.
    """
    n, d = X.shape
    if X.flags.c_contiguous:
        return X, X.reshape(-1), 0, d
    size = X.itemsize
    stride, rest = divmod(X.strides[0], size)
    if rest or (d > 1 and X.strides[1] != size):
        return X, np.empty(0, X.dtype), 0, 0
    span = (n - 1) * abs(stride) + d
    lowest = X if stride >= 0 else X[::-1]
    flat = np.lib.stride_tricks.as_strided(lowest, (span,), (size,), writeable=False)
    return X, flat, (0 if stride >= 0 else (1 - n) * stride), stride


@_plain
def _block_rows(X, flat):
    """Rows in a block: what `BLOCK_BYTES` holds, a multiple of 4."""
    fit = BLOCK_BYTES // (X.shape[1] * X.itemsize) // 4 * 4
    return max(4 if flat.size > 0 else MIN_PACKED_ROWS, min(MAX_BLOCK_ROWS, fit))


@intrinsic
def _prefetch(typing_context, array, index):
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


@_plain
def _rows_ahead(A, d, stride):
    """How many rows on AHEAD_BYTES reach; none where rows are packed."""
    return max(4, min(128, AHEAD_BYTES // (d * A.itemsize))) if stride != 0 else 0


@_plain
def _prefetch_row(A, start, d):
    j = np.uintp(0)
    while j < np.uintp(d):  # a range with a step would divide
        _prefetch(A, start + j)
        j += np.uintp(LINE_BYTES // A.itemsize)


@_plain
def _prefetch_target(y, row):
    _prefetch(y, np.uintp(row * (y.strides[0] // y.itemsize)))


@_plain
def _visit(order, i):
    """The row number of visit i; an empty order is 0, 1, 2, ..."""
    return order[i] if order.size > 0 else i


@_plain
def _locate(X, flat, offset, stride, order, first, rows, scratch, at):
    """Find the rows of visits `first` and on: at[i] is where row i starts, in flat or in scratch.

    Where `at` has room for more than these rows and there is an order, it says where the rows
    after them start, for `_project` to prefetch.
    """
    if flat.size == 0:
        _pack(X, order, first, rows, scratch, at)
        return
    for i in range(rows):
        at[i] = np.uintp(offset + _visit(order, first + i) * stride)
    for i in range(rows, at.size if order.size > 0 else 0):
        at[i] = np.uintp(offset + order[min(first + i, order.size - 1)] * stride)


@_plain
def _pack(X, order, first, rows, scratch, at):
    """Copy rows into the scratch, along the smaller of their strides."""
    d = np.uintp(X.shape[1])
    for i in range(rows):
        at[i] = np.uintp(_visit(order, first + i))
    if abs(X.strides[0]) < abs(X.strides[1]):
        for j in range(d):
            for i in range(np.uintp(rows)):
                scratch[i * d + j] = X[at[i], j]
    else:
        for i in range(np.uintp(rows)):
            for j in range(d):
                scratch[i * d + j] = X[at[i], j]
    for i in range(np.uintp(rows)):
        at[i] = i * d
    at[rows:] = 0


@_plain
def _fetch_targets(y, s, order, first, rows, Y, S):
    """Targets and weights of a block of visits, in float64: Y (rows, t) and S (rows,)."""
    for i in range(np.uintp(rows)):
        row = np.uintp(_visit(order, first + i))
        S[i] = s[row] if s.size > 0 else 1.0
        Y[i, np.uintp(0)] = y[row, np.uintp(0)]  # one target is the common case: no loop
    for i in range(np.uintp(rows if Y.shape[1] > 1 else 0)):
        row = np.uintp(_visit(order, first + i))
        for c in range(np.uintp(1), np.uintp(Y.shape[1])):
            Y[i, c] = y[row, c]


# The two halves of a pass: residuals of a block, then its share of X^T r. Four rows at a time,
# so that each weight, and each entry of the gradient, is loaded once for four rows.


@_fast
def _dot(A, start, w, c):
    """x . w_c in the arithmetic of w."""
    total = w.dtype.type(0)
    for j in range(np.uintp(w.shape[1])):
        total += A[start + j] * w[c, j]
    return total


@_fast
def _dot4(A, p0, p1, p2, p3, w, c):
    zero = w.dtype.type(0)
    r0, r1, r2, r3 = zero, zero, zero, zero
    for j in range(np.uintp(w.shape[1])):
        wj = w[c, j]
        r0 += A[p0 + j] * wj
        r1 += A[p1 + j] * wj
        r2 += A[p2 + j] * wj
        r3 += A[p3 + j] * wj
    return r0, r1, r2, r3


@_plain
def _project(A, at, first, rows, w, scale, b, P, ahead):
    """P[i, c] = scale x_i . w_c + b_c for `rows` rows from `first` on. 2 flops a number and target.

    Meanwhile asks for what lies `ahead` numbers further on, unless that is 0: four rows side by
    side came from memory at 8 to 15 GB/s without.
    """
    quads = first + rows // 4 * 4
    for c in range(np.uintp(w.shape[0])):
        _project_by_four(A, at, first, quads, w, c, scale, b[c], P, ahead if c == 0 else 0)
        for i in range(np.uintp(quads), np.uintp(first + rows)):
            P[i, c] = scale * _dot(A, at[i], w, c) + b[c]


@_plain
def _project_by_four(A, at, first, end, w, c, scale, bc, P, ahead):
    one, two, three = np.uintp(1), np.uintp(2), np.uintp(3)
    i = np.uintp(first)
    while i < np.uintp(end):
        p0, p1, p2, p3 = at[i], at[i + one], at[i + two], at[i + three]
        if ahead != 0:
            _prefetch_row(A, p0 + np.uintp(ahead), w.shape[1])
            _prefetch_row(A, p1 + np.uintp(ahead), w.shape[1])
            _prefetch_row(A, p2 + np.uintp(ahead), w.shape[1])
            _prefetch_row(A, p3 + np.uintp(ahead), w.shape[1])
        dots = _dot4(A, p0, p1, p2, p3, w, c)
        P[i, c] = scale * dots[0] + bc
        P[i + one, c] = scale * dots[1] + bc
        P[i + two, c] = scale * dots[2] + bc
        P[i + three, c] = scale * dots[3] + bc
        i += np.uintp(4)


@_fast
def _add4(A, p0, p1, p2, p3, r0, r1, r2, r3, G, c):
    for j in range(np.uintp(G.shape[1])):
        G[c, j] += r0 * A[p0 + j] + r1 * A[p1 + j] + r2 * A[p2 + j] + r3 * A[p3 + j]


@_fast
def _add(A, start, r, G, c):
    for j in range(np.uintp(G.shape[1])):
        G[c, j] += r * A[start + j]


@_plain
def _spread(A, at, first, rows, R, G):
    """G[c] += sum_i R[i, c] x_i for `rows` rows from `first` on. 2 flops a number and target."""
    quads = first + rows // 4 * 4
    for c in range(np.uintp(G.shape[0])):
        _spread_by_four(A, at, first, quads, R, c, G)
        for i in range(np.uintp(quads), np.uintp(first + rows)):
            _add(A, at[i], R[i, c], G, c)


@_plain
def _spread_by_four(A, at, first, end, R, c, G):
    one, two, three = np.uintp(1), np.uintp(2), np.uintp(3)
    i = np.uintp(first)
    while i < np.uintp(end):
        _add4(
            A, at[i], at[i + one], at[i + two], at[i + three],
            R[i, c], R[i + one, c], R[i + two, c], R[i + three, c], G, c,
        )  # fmt: skip
        i += np.uintp(4)


# ----------------------------------------------------------------------------------------------
# loss_gradient
# ----------------------------------------------------------------------------------------------


def loss_gradient(X, y, w, b, sample_weight, n_threads) -> LossGradient:
    """The contract's `loss_gradient`: chunks of rows, their sums added up in order."""
    t, s = w.shape[0], _weights(sample_weight, y.dtype)
    if isinstance(X, CSR):
        kernel = _csr_loss_gradient[X.dtype, X.indices.dtype, y.dtype]
        matrix, w = (X.data, X.indices, X.indptr), np.ascontiguousarray(w.T)
    else:
        kernel, matrix = _dense_loss_gradient[X.dtype, y.dtype], _dense(X)
        if matrix[1].size == 0 or X.shape[1] <= NARROW:
            kernel, matrix = _column_loss_gradient[X.dtype, y.dtype], _dense(X.T)

    def chunk(low, high):
        loss, coef, intercept = _sums(t), _sums(w.size).reshape(w.shape), _sums(t)
        total = kernel(*matrix, y, w, b, s, low, high, loss, coef, intercept)
        return loss, coef, intercept, total

    parts = _in_chunks(chunk, _chunk_bounds(X, t, n_threads))
    loss, coef, intercept, total = parts[0]
    for part in parts[1:]:
        loss += part[0]
        coef += part[1]
        intercept += part[2]
        total += part[3]
    coef = coef.T if isinstance(X, CSR) else coef
    return LossGradient(loss / total, np.ascontiguousarray(coef / total), intercept / total)


@_kernel(
    lambda f, g: [
        *_dense_types(f), _in(g, 2), _in(types.float64, 2, "C"), _in(types.float64, 1, "C"),
        _in(g, 1, "C"), types.intp, types.intp,
        _out(types.float64, 1), _out(types.float64, 2), _out(types.float64, 1),
    ]
)  # fmt: skip
def _dense_loss_gradient(X, flat, offset, stride, y, w, b, s, low, high, loss, coef, intercept):
    """r = X w + b - y, then loss += s r^2/2, coef += (s r)^T X, intercept += s r; returns sum s.

    One pass: a block of rows is still in the L1 cache when its share of coef is added.
    Reads d numbers a row, 4 d t flops.
    """
    block, t = _block_rows(X, flat), w.shape[0]
    scratch = np.empty(0 if flat.size > 0 else block * X.shape[1], X.dtype)
    A = flat if flat.size > 0 else scratch
    at, every_row = np.empty(block, np.uintp), np.empty(0, np.int64)
    ahead = _rows_ahead(A, X.shape[1], stride) * stride
    R, Y, S = np.empty((block, t)), np.empty((block, t)), np.empty(block)
    total = 0.0
    for first in range(low, high, block):
        rows = min(block, high - first)
        _locate(X, flat, offset, stride, every_row, first, rows, scratch, at)
        _fetch_targets(y, s, every_row, first, rows, Y, S)
        _project(A, at, 0, rows, w, 1.0, b, R, ahead)
        total += _residuals(R, Y, S, rows, loss, intercept)
        _spread(A, at, 0, rows, R, coef)
    return total


@_kernel(
    lambda f, g: [
        *_dense_types(f), _in(g, 2), _in(types.float64, 2, "C"), _in(types.float64, 1, "C"),
        _in(g, 1, "C"), types.intp, types.intp,
        _out(types.float64, 1), _out(types.float64, 2), _out(types.float64, 1),
    ]
)  # fmt: skip
def _column_loss_gradient(Xt, flat, offset, stride, y, w, b, s, low, high, loss, coef, intercept):
    """As `_dense_loss_gradient` from columns: Xt is X's transpose, with what `_dense` says of it.

    All loops run along the rows of a block. Columns that lie together are read where they lie;
    others, for rows too short for vectors of their own, are copied into a scratch.
    """
    d, t = Xt.shape[0], w.shape[0]
    block = min(MAX_COLUMN_ROWS, max(MAX_BLOCK_ROWS, COLUMN_BLOCK_BYTES // (d * Xt.itemsize)))
    block = block // 16 * 16 if flat.size > 0 else MAX_BLOCK_ROWS
    scratch = np.empty(0 if flat.size > 0 else block * d, Xt.dtype)
    A, at = flat if flat.size > 0 else scratch, np.empty(d, np.uintp)
    R, S = np.empty((t, block)), np.empty(block)
    total = 0.0
    for first in range(low, high, block):
        rows = min(block, high - first)
        if flat.size == 0:
            _pack_columns(Xt, first, rows, block, scratch)
        for j in range(d):
            start = offset + j * stride + first if flat.size > 0 else j * block
            at[j] = np.uintp(start)
        for i in range(np.uintp(rows)):
            S[i] = s[np.uintp(first) + i] if s.size > 0 else 1.0
        for c in range(t):
            _negate_targets(y, first, rows, b[c], c, R)
            _project_columns(A, at, rows, w, c, R)
            part, shift = _column_residuals(R, S, rows, c)
            loss[c] += part
            intercept[c] += shift
            _spread_columns(A, at, rows, R, c, coef)
        for i in range(np.uintp(rows)):
            total += S[i]
    return total


@_plain
def _pack_columns(Xt, first, rows, block, scratch):
    """scratch[j block + i] = x_ij for the rows i from `first` on."""
    d = np.uintp(Xt.shape[0])
    for i in range(np.uintp(rows)):
        for j in range(d):
            scratch[j * np.uintp(block) + i] = Xt[j, np.uintp(first) + i]


@_plain
def _negate_targets(y, first, rows, bc, c, R):
    """R_c = b - y."""
    for i in range(np.uintp(rows)):
        R[c, i] = bc - y[np.uintp(first) + i, np.uintp(c)]


@_plain
def _project_columns(A, at, rows, w, c, R):
    """R_c += X w_c, four columns at a time."""
    quads = at.size // 4 * 4
    for j in range(0, quads, 4):
        p0, p1, p2, p3 = at[j], at[j + 1], at[j + 2], at[j + 3]
        w0, w1, w2, w3 = w[c, j], w[c, j + 1], w[c, j + 2], w[c, j + 3]
        for i in range(np.uintp(rows)):
            R[c, i] += (w0 * A[p0 + i] + w1 * A[p1 + i]) + (w2 * A[p2 + i] + w3 * A[p3 + i])
    for j in range(quads, at.size):
        p0, w0 = at[j], w[c, j]
        for i in range(np.uintp(rows)):
            R[c, i] += w0 * A[p0 + i]


@_fast
def _column_residuals(R, S, rows, c):
    """From residuals r to s r in their place; the sums of s r^2 / 2 and of s r."""
    loss, shift = 0.0, 0.0
    for i in range(np.uintp(rows)):
        r = R[c, i] if S[i] != 0.0 else 0.0  # else it may be infinite
        R[c, i] = S[i] * r
        loss += 0.5 * S[i] * r * r
        shift += S[i] * r
    return loss, shift


@_plain
def _spread_columns(A, at, rows, R, c, G):
    """G_c += R_c X, four columns at a time."""
    quads = at.size // 4 * 4
    for j in range(0, quads, 4):
        g0, g1, g2, g3 = _dot_columns(A, at[j], at[j + 1], at[j + 2], at[j + 3], rows, R, c)
        G[c, j] += g0
        G[c, j + 1] += g1
        G[c, j + 2] += g2
        G[c, j + 3] += g3
    for j in range(quads, at.size):
        G[c, j] += _dot_columns(A, at[j], at[j], at[j], at[j], rows, R, c)[0]


@_fast
def _dot_columns(A, p0, p1, p2, p3, rows, R, c):
    g0, g1, g2, g3 = 0.0, 0.0, 0.0, 0.0
    for i in range(np.uintp(rows)):
        r = R[c, i]
        g0 += r * A[p0 + i]
        g1 += r * A[p1 + i]
        g2 += r * A[p2 + i]
        g3 += r * A[p3 + i]
    return g0, g1, g2, g3


@_plain
def _residuals(R, Y, S, rows, loss, intercept):
    """From predictions R to weighted residuals s r in their place; returns the sum of s."""
    for c in range(np.uintp(R.shape[1])):
        squares, steps = 0.0, 0.0
        for i in range(np.uintp(rows)):
            r = R[i, c] - Y[i, c] if S[i] != 0.0 else 0.0  # else it may be infinite
            R[i, c] = S[i] * r
            squares += 0.5 * S[i] * r * r
            steps += S[i] * r
        loss[c] += squares
        intercept[c] += steps
    total = 0.0
    for i in range(np.uintp(rows)):
        total += S[i]
    return total


@_kernel(
    lambda f, i, g: [
        *_csr_types(f, i), _in(g, 2), _in(types.float64, 2, "C"), _in(types.float64, 1, "C"),
        _in(g, 1, "C"), types.intp, types.intp,
        _out(types.float64, 1), _out(types.float64, 2), _out(types.float64, 1),
    ]
)  # fmt: skip
def _csr_loss_gradient(data, indices, indptr, y, w, b, s, low, high, loss, coef, intercept):
    """As `_dense_loss_gradient`; w and coef are (d, t), so that an entry meets all targets at once.

    Reads a number and an index for each entry, 4 t flops.
    """
    R, Y, S = np.empty((1, w.shape[1])), np.empty((1, w.shape[1])), np.empty(1)
    every_row = np.empty(0, np.int64)
    total = 0.0
    for i in range(low, high):
        _sparse_project(data, indices, indptr[i], indptr[i + 1], w, b, R)
        _fetch_targets(y, s, every_row, i, 1, Y, S)
        total += _residuals(R, Y, S, 1, loss, intercept)
        _sparse_spread(data, indices, indptr[i], indptr[i + 1], R, coef)
    return total


@_fast
def _sparse_project(data, indices, begin, end, w, b, P):
    """P[0] = x w + b for the entries [begin, end) and w of shape (d, t)."""
    if w.shape[1] == 1:
        total = 0.0
        for k in range(np.uintp(begin), np.uintp(end)):
            total += data[k] * w[np.uintp(indices[k]), 0]
        P[0, 0] = total + b[0]
        return
    for c in range(b.size):
        P[0, c] = b[c]
    for k in range(np.uintp(begin), np.uintp(end)):
        x, j = np.float64(data[k]), np.uintp(indices[k])
        for c in range(np.uintp(b.size)):
            P[0, c] += x * w[j, c]


@_fast
def _sparse_spread(data, indices, begin, end, R, G):
    """G += x^T R[0] for the entries [begin, end) and G of shape (d, t)."""
    if G.shape[1] == 1:
        r = R[0, 0]
        for k in range(np.uintp(begin), np.uintp(end)):
            G[np.uintp(indices[k]), 0] += data[k] * r
        return
    for k in range(np.uintp(begin), np.uintp(end)):
        x, j = np.float64(data[k]), np.uintp(indices[k])
        for c in range(np.uintp(G.shape[1])):
            G[j, c] += x * R[0, c]


def _sums(count: int) -> np.ndarray:
    """Zeros on cache lines of their own: shared with another thread's they halved both speeds."""
    return np.zeros(count + 16)[8:-8]


def _weights(sample_weight, dtype) -> np.ndarray:
    """Sample weights; empty for all ones."""
    return np.empty(0, dtype) if sample_weight is None else sample_weight


# ----------------------------------------------------------------------------------------------
# predict
# ----------------------------------------------------------------------------------------------


def predict(X, w, b, n_threads) -> np.ndarray:
    """The contract's `predict`: each chunk of rows fills its own part of the result."""
    t = w.shape[0]
    out = np.empty((X.shape[0], t), X.dtype)
    if isinstance(X, CSR):
        kernel = _csr_predict[X.dtype, X.indices.dtype]
        matrix, w = (X.data, X.indices, X.indptr), np.ascontiguousarray(w.T)
    else:
        kernel, matrix = _dense_predict[X.dtype], _dense(X)
    _in_chunks(
        lambda low, high: kernel(*matrix, w, b, low, high, out), _chunk_bounds(X, t, n_threads)
    )
    return out


@_kernel(
    lambda f: [
        *_dense_types(f), _in(types.float64, 2, "C"), _in(types.float64, 1, "C"),
        types.intp, types.intp, _out(f, 2),
    ]
)  # fmt: skip
def _dense_predict(X, flat, offset, stride, w, b, low, high, out):
    """out = X w + b. Reads d numbers a row, 2 d t flops."""
    block = _block_rows(X, flat)
    scratch = np.empty(0 if flat.size > 0 else block * X.shape[1], X.dtype)
    A = flat if flat.size > 0 else scratch
    at, every_row = np.empty(block, np.uintp), np.empty(0, np.int64)
    ahead = _rows_ahead(A, X.shape[1], stride) * stride
    P = np.empty((block, w.shape[0]))
    for first in range(low, high, block):
        rows = min(block, high - first)
        _locate(X, flat, offset, stride, every_row, first, rows, scratch, at)
        _project(A, at, 0, rows, w, 1.0, b, P, ahead)
        _round_rows(P, rows, first, out)


@_plain
def _round_rows(P, rows, first, out):
    """out[first + i] = P[i], in out's dtype."""
    for i in range(rows):
        for c in range(P.shape[1]):
            out[first + i, c] = P[i, c]


@_kernel(
    lambda f, i: [
        *_csr_types(f, i), _in(types.float64, 2, "C"), _in(types.float64, 1, "C"),
        types.intp, types.intp, _out(f, 2),
    ]
)  # fmt: skip
def _csr_predict(data, indices, indptr, w, b, low, high, out):
    """out = X w + b with w of shape (d, t). Reads a number and an index an entry, 2 t flops."""
    P = np.empty((1, w.shape[1]))
    for i in range(low, high):
        _sparse_project(data, indices, indptr[i], indptr[i + 1], w, b, P)
        _round_rows(P, 1, i, out)


# ----------------------------------------------------------------------------------------------
# gram
# ----------------------------------------------------------------------------------------------


def gram(X, y, sample_weight, shift, n_threads) -> Gram:
    """The contract's `gram`: the upper triangle by chunks of rows, mirrored at the end."""
    (n, d), t = X.shape, y.shape[1]
    s = _weights(sample_weight, y.dtype)
    c = np.zeros(d) if shift is None else shift
    if isinstance(X, CSR):
        # Products of entries alone where they are few and c = 0. Taking c off afterwards, as
        # in xx - x c^T - c x^T + S c c^T, would cancel the digits that a shift is there to save.
        entries = int(X.indptr[-1] - X.indptr[0])
        sparse = shift is None and entries < n * d // 4
        kernel = (_csr_gram if sparse else _csr_dense_gram)[X.dtype, X.indices.dtype, y.dtype]
        matrix, work = (X.data, X.indices, X.indptr), entries // n if sparse else d
    else:
        kernel, matrix, work = _dense_gram[X.dtype, y.dtype], _dense(X), d

    def chunk(low, high):
        xx, sides, sums = np.zeros((d, d)), np.zeros((t + 1, d)), np.zeros(t + 1)
        kernel(*matrix, y, s, c, low, high, xx, sides, sums)
        return xx, sides, sums

    n_threads = min(n_threads, n // GRAM_ROWS)  # each has d^2 sums of its own
    xx, sides, sums = _add_up(_in_chunks(chunk, _chunk_bounds(X, max(1, work), n_threads)))
    xx += np.triu(xx, 1).T
    return Gram(xx, np.ascontiguousarray(sides[:t].T), sides[t], sums[:t], float(sums[t]))


def _add_up(parts):
    """Sum of the chunks' arrays, in order, into those of the first."""
    for part in parts[1:]:
        for total, summand in zip(parts[0], part, strict=True):
            total += summand
    return parts[0]


_GRAM_OUT = [
    types.intp, types.intp,
    _out(types.float64, 2), _out(types.float64, 2), _out(types.float64, 1),
]  # fmt: skip


@_kernel(
    lambda f, g: [
        *_dense_types(f), _in(g, 2), _in(g, 1, "C"), _in(types.float64, 1), *_GRAM_OUT,
    ]
)  # fmt: skip
def _dense_gram(X, flat, offset, stride, y, s, shift, low, high, xx, sides, sums):
    """xx += sum_i s_i (x_i - c)(x_i - c)^T, upper triangle; sides = (xy^T, x), sums = (y, S).

    A block of rows becomes panels of float64 (`_panels`), of which `_add_panels` takes all
    pairs. Reads d numbers a row, d^2 flops for xx and 2 d (t + 1) for the sides.
    """
    scratch = np.empty(0 if flat.size > 0 else GRAM_ROWS * X.shape[1], X.dtype)
    A = flat if flat.size > 0 else scratch
    at, every_row = np.empty(GRAM_ROWS, np.uintp), np.empty(0, np.int64)
    panels, K = np.zeros(_panels_shape(X.shape[1])), np.zeros((GRAM_ROWS, sums.size))
    tile = np.empty((4, GRAM_COLUMNS))
    for first in range(low, high, GRAM_ROWS):
        rows = min(GRAM_ROWS, high - first)
        _locate(X, flat, offset, stride, every_row, first, rows, scratch, at)
        _fill_panels(A, at, rows, shift, panels)
        _gram_factors(y, s, first, rows, K, sums)
        _clear_rows_without_weight(panels, K)
        _add_panels(panels, K, rows, tile, xx, sides)


@_plain
def _fill_panels(A, at, rows, shift, panels):
    """panels = x_i - c."""
    for i in range(rows):
        for p in range(panels.shape[0]):
            first = p * GRAM_COLUMNS
            for j in range(min(GRAM_COLUMNS, shift.size - first)):
                panels[p, i, j] = A[at[i] + np.uintp(first + j)] - shift[first + j]


@_kernel(
    lambda f, i, g: [
        *_csr_types(f, i), _in(g, 2), _in(g, 1, "C"), _in(types.float64, 1), *_GRAM_OUT,
    ]
)  # fmt: skip
def _csr_dense_gram(data, indices, indptr, y, s, shift, low, high, xx, sides, sums):
    """As `_dense_gram`, from CSR rows made dense a block at a time: x_i - c has no zeros."""
    panels, K = np.zeros(_panels_shape(shift.size)), np.zeros((GRAM_ROWS, sums.size))
    tile = np.empty((4, GRAM_COLUMNS))
    for first in range(low, high, GRAM_ROWS):
        rows = min(GRAM_ROWS, high - first)
        _fill_panels_sparse(data, indices, indptr, first, rows, shift, panels)
        _gram_factors(y, s, first, rows, K, sums)
        _clear_rows_without_weight(panels, K)
        _add_panels(panels, K, rows, tile, xx, sides)


@_plain
def _fill_panels_sparse(data, indices, indptr, first, rows, shift, panels):
    """As `_fill_panels`, for rows `first` and on of a CSR matrix."""
    for i in range(rows):
        for j in range(shift.size):
            panels[j // GRAM_COLUMNS, i, j % GRAM_COLUMNS] = -shift[j]
        for k in range(indptr[first + i], indptr[first + i + 1]):
            j = indices[k]
            panels[j // GRAM_COLUMNS, i, j % GRAM_COLUMNS] += data[k]


@_kernel(
    lambda f, i, g: [
        *_csr_types(f, i), _in(g, 2), _in(g, 1, "C"), _in(types.float64, 1), *_GRAM_OUT,
    ]
)  # fmt: skip
def _csr_gram(data, indices, indptr, y, s, shift, low, high, xx, sides, sums):
    """As `_dense_gram` for c = 0: products of entries alone, nnz^2 flops a row."""
    K = np.zeros((1, sums.size))
    for i in range(low, high):
        _gram_factors(y, s, i, 1, K, sums)
        _add_products(data, indices, indptr[i], indptr[i + 1], K, xx, sides)


@_plain
def _add_products(data, indices, begin, end, K, xx, sides):
    """xx += s x x^T, upper triangle, and sides += K[0] x^T for one row."""
    for k in range(begin, end):
        x, j = np.float64(data[k]), indices[k]
        for c in range(sides.shape[0]):
            sides[c, j] += K[0, c] * x
        x *= K[0, sides.shape[0] - 1]
        for other in range(k, end):  # in any order: rows need not be sorted
            j2 = indices[other]
            xx[min(j, j2), max(j, j2)] += x * data[other]


@_plain
def _panels_shape(d):
    """Panels [p, i, j] of GRAM_COLUMNS columns: rows at a constant distance, as LLVM wants it."""
    return (d + GRAM_COLUMNS - 1) // GRAM_COLUMNS, GRAM_ROWS, GRAM_COLUMNS


@_plain
def _gram_factors(y, s, start, rows, K, sums):
    """K[i] = (s_i y_i, s_i), zero for rows beyond the last; sums += K[i]."""
    t = y.shape[1]
    for i in range(K.shape[0]):
        si = 0.0
        if i < rows:
            si = np.float64(s[start + i]) if s.size > 0 else 1.0
        for c in range(t):
            K[i, c] = si * y[start + i, c] if i < rows else 0.0
            sums[c] += K[i, c]
        K[i, t] = si
        sums[t] += si


@_plain
def _clear_rows_without_weight(panels, K):
    """Zeros in place of rows of weight 0: what they hold less the shift may be infinite."""
    for i in range(K.shape[0]):
        if K[i, K.shape[1] - 1] == 0.0:
            for p in range(panels.shape[0]):
                for j in range(GRAM_COLUMNS):
                    panels[p, i, j] = 0.0


@_plain
def _add_panels(panels, K, rows, tile, xx, sides):
    """All pairs of panels p <= q into xx, and each panel into the sides.

    Rows beyond the last are left from an earlier block; their weights in K are 0.
    """
    d = xx.shape[0]
    for q in range(panels.shape[0]):
        width = min(GRAM_COLUMNS, d - q * GRAM_COLUMNS)
        for c in range(sides.shape[0]):
            for i in range(rows):
                for j in range(width):
                    sides[c, q * GRAM_COLUMNS + j] += K[i, c] * panels[q, i, j]
        for first in range(0, min(d, (q + 1) * GRAM_COLUMNS), 4):
            left = panels[first // GRAM_COLUMNS]
            _gram_tile(left, first % GRAM_COLUMNS, panels[q], K, width, tile)
            for i in range(first, min(d, first + 4)):
                for j in range(max(0, i - q * GRAM_COLUMNS), width):
                    xx[i, q * GRAM_COLUMNS + j] += tile[i - first, j]


@_fast
def _gram_tile(left, column, right, K, width, tile):
    """tile[a, j] = sum_i s_i left[i, column + a] right[i, j], for 4 columns and 4 rows at a time.

    16 multiply-adds for 4 loads of rows and 4 loads and stores of the tile.
    """
    tile[:, :] = 0.0
    for i in range(0, GRAM_ROWS, 4):
        a = _weighted(left, K, i, column)
        b = _weighted(left, K, i, column + 1)
        c = _weighted(left, K, i, column + 2)
        d = _weighted(left, K, i, column + 3)
        for j in range(np.uintp(width)):
            x0, x1, x2, x3 = right[i, j], right[i + 1, j], right[i + 2, j], right[i + 3, j]
            tile[0, j] += a[0] * x0 + a[1] * x1 + a[2] * x2 + a[3] * x3
            tile[1, j] += b[0] * x0 + b[1] * x1 + b[2] * x2 + b[3] * x3
            tile[2, j] += c[0] * x0 + c[1] * x1 + c[2] * x2 + c[3] * x3
            tile[3, j] += d[0] * x0 + d[1] * x1 + d[2] * x2 + d[3] * x3


@_fast
def _weighted(left, K, i, column):
    """s left[:, column] for 4 rows from i on; the weights s are K's last column."""
    s = K.shape[1] - 1
    return (
        K[i, s] * left[i, column],
        K[i + 1, s] * left[i + 1, column],
        K[i + 2, s] * left[i + 2, column],
        K[i + 3, s] * left[i + 3, column],
    )


# ----------------------------------------------------------------------------------------------
# sgd_epoch
# ----------------------------------------------------------------------------------------------
#
# Weights are kept as ``w = scale v``, v in w's own memory: L2 shrinkage then costs one product
# an update, and is not lost to float32's rounding where rate * alpha is below 1e-8.


def sgd_epoch(X, y, w, b, sample_weight, epoch: Epoch, state: SGDState, n_threads) -> float:
    """The contract's `sgd_epoch`, in the calling thread: each update needs the one before."""
    t, optimizer = w.shape[0], state.optimizer
    order, rates, prox = epoch.order, epoch.rates, epoch.prox
    if isinstance(X, CSR):
        kernel = _csr_sgd if optimizer is None else _csr_optimizer
        kernel = kernel[X.dtype, X.indices.dtype, y.dtype]
        matrix = X.data, X.indices, X.indptr
    else:
        kernel = (_dense_sgd if optimizer is None else _dense_optimizer)[X.dtype, y.dtype]
        matrix = _dense(X)
    nothing, no_sum = np.empty(0, w.dtype), np.empty((0, 0))
    averages = state.average_after is not None
    skipped = min(state.average_after, len(rates)) if averages else len(rates)
    summed = skipped < len(rates)
    loss, state.l1_due = kernel(
        *matrix,
        y,
        w,
        b,
        np.empty(0, np.int64) if order is None else order,
        X.shape[0] if order is None else len(order),
        rates,
        epoch.batch_size,
        _weights(sample_weight, y.dtype),
        epoch.l2,
        epoch.l1,
        epoch.fit_intercept,
        *(
            (
                epoch.implicit,
                nothing if prox is None else prox.soft,
                nothing if prox is None else prox.shrink,
                rows_per_group(epoch.batch_size),
            )
            if optimizer is None
            else _optimizer_arguments(optimizer, t)
        ),
        state.l1_due,
        state.l1_paid if epoch.l1 > 0.0 else np.empty((0, 0), w.dtype),
        skipped,
        state.coef_sum if summed else no_sum,
        state.intercept_sum if summed else np.empty(t),
    )
    if averages:
        state.average_after -= skipped
        state.n_summed += len(rates) - skipped
    if optimizer is not None:
        optimizer.steps += len(rates)
    return loss


def _sgd_types(f, g, *, optimizes=False):
    """The arguments after the matrix, as `sgd_epoch` passes them."""
    prox = [types.boolean, _in(f, 1), _in(f, 1), types.intp]  # implicit, prox
    return [
        _in(g, 2), _out(f, 2), _out(types.float64, 1),  # y, w, b
        _in(types.int64, 1), types.intp, _in(types.float64, 1), types.intp,  # order to batch_size
        _in(g, 1, "C"), types.float64, types.float64, types.boolean,
        *(_OPTIMIZER_TYPES if optimizes else prox),
        types.float64, _out(f, 2), types.intp, _out(types.float64, 2), _out(types.float64, 1),
    ]  # fmt: skip


@_kernel(lambda f, g: [*_dense_types(f), *_sgd_types(f, g)])
def _dense_sgd(
    X, flat, offset, stride,
    y, w, b, order, visits, rates, batch_size, s, l2, l1, fit_intercept, implicit,
    soft, shrink, group, due, paid, skipped, coef_sum, intercept_sum,
):  # fmt: skip
    """The updates of an epoch, mini-batch by mini-batch; returns the loss and the L1 due.

    Reads d numbers a row, from cache the second time; 4 d t flops a row. For each update more:
    2 d t numbers of w; with averages, L1 or a mini-batch above 1, t d numbers of each of those.
    """
    block, t = _block_rows(X, flat), w.shape[0]
    scratch = np.empty(0 if flat.size > 0 else block * X.shape[1], X.dtype)
    A = flat if flat.size > 0 else scratch
    at = np.empty(block + (AHEAD if order.size > 0 else 0), np.uintp)
    R, Y, S = np.empty((block, t)), np.empty((block, t)), np.empty(block)
    G, db = np.zeros(w.shape if batch_size > 1 else (0, 0)), np.zeros(t)
    return _dense_updates(
        X, flat, offset, stride, A, scratch, at, R, Y, S, G, db,
        y, w, b, order, visits, rates, batch_size, s, l2, l1, fit_intercept, implicit,
        soft, shrink, group, due, paid, skipped, coef_sum, intercept_sum,
    )  # fmt: skip


@_plain
def _dense_updates(
    X, flat, offset, stride, A, scratch, at, R, Y, S, G, db,
    y, w, b, order, visits, rates, batch_size, s, l2, l1, fit_intercept, implicit,
    soft, shrink, group, due, paid, skipped, coef_sum, intercept_sum,
):  # fmt: skip
    """`_dense_sgd` with its work space: A holds the rows; a block has R.shape[0] of them."""
    block, in_order, d = R.shape[0], order.size == 0, w.shape[1]
    ahead = _rows_ahead(A, d, stride) if in_order else at.size - block
    loss, scale, pending, grouped = 0.0, 1.0, 0.0, 0
    quads = batch_size == 1 and l1 == 0.0 and soft.size == 0 and skipped >= rates.size
    k, size, left = 0, min(batch_size, visits), min(batch_size, visits)  # left of mini-batch k
    for first in range(0, visits, block):
        rows = min(block, visits - first)
        _locate(X, flat, offset, stride, order, first, rows, scratch, at)
        _fetch_targets(y, s, order, first, rows, Y, S)
        for i in range(first + rows, min(first + rows + block, order.size)):
            _prefetch_target(y, order[i])
        i = 0
        while i < rows:
            safe = quads and i + 4 <= rows and _shrinks_safely(rates, np.uintp(k), l2)
            if safe and (s.size == 0 or _all_count(S, np.uintp(i))):
                _ask_for_rows(A, at, i, 4, d, stride, ahead, in_order)
                part, scale = _quad(
                    A, at, np.uintp(i), w, scale, b, Y, S, rates, np.uintp(k), l2,
                    fit_intercept, implicit,
                )  # fmt: skip
                loss += part
                i += 4
                k += 4
                continue
            piece = min(left, rows - i)
            _ask_for_rows(A, at, i, piece, d, stride, ahead, in_order)
            _project(A, at, i, piece, w, scale, b, R, 0)
            if implicit:
                _dampen(A, at, i, piece, w.shape[1], rates[k] / size, fit_intercept, S)
            loss += _steps(R, Y, S, i, piece, rates[k] / size, db)
            if size > 1:
                _spread(A, at, i, piece, R, G)
            left -= piece
            i += piece
            if left > 0:
                continue
            scale = _shrunk(w, scale, rates[k] * l2)
            if size > 1:
                _descend(w, G, scale)
            else:
                _descend_along(A, at[i - 1], w, R, i - 1, scale)
            _shift_intercept(b, db, fit_intercept)
            pending += rates[k]
            grouped += size
            at_group_end = soft.size > 0 and (grouped >= group or first + i == visits)
            if l1 > 0.0 or k >= skipped or at_group_end:
                scale = _unscale(w, scale)
            if k >= skipped:
                _add_coefficients(w, coef_sum)
                _add_intercepts(b, intercept_sum)
            if l1 > 0.0:
                due += rates[k] * l1
                _pay_l1(w, paid, due)
            if at_group_end:
                _proximal_step(w, soft, shrink, pending, coef_sum, k >= skipped)
                pending, grouped = 0.0, 0
            k += 1
            size = left = min(batch_size, visits - first - i)
    _unscale(w, scale)
    return loss, due


# Four updates of one row each as a triangular solve (csrc/sgd_dense.inc has the maths): the sums
# over a row no longer wait for the update before.


@_plain
def _shrinks_safely(rates, k, l2):
    """Whether updates k to k + 3 leave weights that may be divided by their L2 factors."""
    one, three = np.uintp(1), np.uintp(3)
    highest = max(rates[k], rates[k + one], rates[k + one + one], rates[k + three])
    return highest * l2 < SAFE_SHRINKAGE


@_plain
def _all_count(S, i):
    """Whether rows i to i + 3 have a weight: the products of others may be infinite."""
    one, three = np.uintp(1), np.uintp(3)
    return S[i] != 0.0 and S[i + one] != 0.0 and S[i + one + one] != 0.0 and S[i + three] != 0.0


@_plain
def _ask_for_rows(A, at, first, rows, d, stride, ahead, in_order):
    """Prefetch the rows that come `ahead` rows later: those that `at` names, if not `in_order`."""
    for i in range(np.uintp(first), np.uintp(first + rows if ahead > 0 else first)):
        start = at[i] + np.uintp(ahead * stride) if in_order else at[i + np.uintp(ahead)]
        _prefetch_row(A, start, d)


@_plain
def _quad(A, at, i, w, scale, b, Y, S, rates, k, l2, fit_intercept, implicit):
    """Updates k to k + 3 along rows i to i + 3; returns their r^2 / 2, and the new scale.

    With P_m the scale before update m: r_m = P_m x_m . v + b - y_m - sum_{j < m} M_mj r_j, where
    M_mj = g_j (P_m / P_{j+1} x_m . x_j + 1), and v -= sum_m g_m r_m / P_{m+1} x_m.
    """
    i1, i2, i3 = i + np.uintp(1), i + np.uintp(2), i + np.uintp(3)
    k1, k2, k3 = k + np.uintp(1), k + np.uintp(2), k + np.uintp(3)
    p0, p1, p2, p3 = at[i], at[i1], at[i2], at[i3]
    dots, pairs = _dots_and_pairs(A, p0, p1, p2, p3, w)
    if implicit:
        for m in range(np.uintp(4)):
            _dampen(A, at, i + m, 1, w.shape[1], rates[k + m], fit_intercept, S)
    g0, g1, g2, g3 = rates[k] * S[i], rates[k1] * S[i1], rates[k2] * S[i2], rates[k3] * S[i3]
    P1 = scale * (1.0 - rates[k] * l2)
    P2 = P1 * (1.0 - rates[k1] * l2)
    P3 = P2 * (1.0 - rates[k2] * l2)
    P4 = P3 * (1.0 - rates[k3] * l2)
    u1, u2, u3, u4 = 1.0 / P1, 1.0 / P2, 1.0 / P3, 1.0 / P4
    one = 1.0 if fit_intercept else 0.0
    M10 = g0 * (pairs[0] + one)
    M20, M21 = g0 * (P2 * u1 * pairs[1] + one), g1 * (pairs[2] + one)
    M30, M31 = g0 * (P3 * u1 * pairs[3] + one), g1 * (P3 * u2 * pairs[4] + one)
    M32 = g2 * (pairs[5] + one)
    loss = 0.0
    for c in range(np.uintp(w.shape[0])):
        if c > 0:
            dots = _dot4(A, p0, p1, p2, p3, w, c)
        r0 = scale * dots[0] + (b[c] - Y[i, c])
        r1 = P1 * dots[1] + (b[c] - Y[i1, c]) - M10 * r0
        r2 = P2 * dots[2] + (b[c] - Y[i2, c]) - M20 * r0 - M21 * r1
        r3 = P3 * dots[3] + (b[c] - Y[i3, c]) - M30 * r0 - M31 * r1 - M32 * r2
        loss += 0.5 * (r0 * r0 + r1 * r1 + r2 * r2 + r3 * r3)
        b[c] -= one * (g0 * r0 + g1 * r1 + g2 * r2 + g3 * r3)
        _descend_along_four(
            A, p0, p1, p2, p3, g0 * r0 * u1, g1 * r1 * u2, g2 * r2 * u3, g3 * r3 * u4, w, c
        )
    return loss, P4 if P4 >= TINY_SCALE else _unscale(w, P4)


@_fast
def _dots_and_pairs(A, p0, p1, p2, p3, w):
    """The four x_m . v of the first target, and the six x_m . x_j, in the arithmetic of w."""
    zero = w.dtype.type(0)
    r0, r1, r2, r3 = zero, zero, zero, zero
    x10, x20, x21, x30, x31, x32 = zero, zero, zero, zero, zero, zero
    for j in range(np.uintp(w.shape[1])):
        a0, a1, a2, a3, v = A[p0 + j], A[p1 + j], A[p2 + j], A[p3 + j], w[0, j]
        r0 += a0 * v
        r1 += a1 * v
        r2 += a2 * v
        r3 += a3 * v
        x10 += a1 * a0
        x20 += a2 * a0
        x21 += a2 * a1
        x30 += a3 * a0
        x31 += a3 * a1
        x32 += a3 * a2
    return (r0, r1, r2, r3), (x10, x20, x21, x30, x31, x32)


@_fast
def _descend_along_four(A, p0, p1, p2, p3, q0, q1, q2, q3, w, c):
    """v_c -= q_0 x_0 + ... + q_3 x_3, in w's arithmetic."""
    kind = w.dtype.type
    s0, s1, s2, s3 = kind(q0), kind(q1), kind(q2), kind(q3)
    for j in range(np.uintp(w.shape[1])):
        w[c, j] -= (s0 * A[p0 + j] + s1 * A[p1 + j]) + (s2 * A[p2 + j] + s3 * A[p3 + j])


@_plain
def _dampen(A, at, first, rows, d, rate, fit_intercept, S):
    """Weights of an implicit update: s / (1 + g (|x|^2 + 1)) with g = rate s."""
    for i in range(first, first + rows):
        if S[i] == 0.0:  # then the norm may be infinite
            continue
        S[i] /= 1.0 + rate * S[i] * (_squared_norm(A, at[i], d) + fit_intercept)


@_plain
def _steps(R, Y, S, first, rows, rate, db):
    """From predictions R to steps rate s r along the rows; db takes their sum in.

    Returns the sum of r^2 / 2 over rows that count.
    """
    loss = 0.0
    for i in range(np.uintp(first), np.uintp(first + rows)):
        for c in range(np.uintp(R.shape[1])):
            r = R[i, c] - Y[i, c] if S[i] != 0.0 else 0.0  # else it may be infinite
            loss += 0.5 * r * r
            R[i, c] = rate * S[i] * r
            db[c] += R[i, c]
    return loss


@_fast
def _squared_norm(A, start, d):
    total = 0.0
    for j in range(np.uintp(d)):
        total += np.float64(A[start + j]) * np.float64(A[start + j])
    return total


@_plain
def _shrunk(w, scale, h):
    """The scale after one more factor 1 - h; into the weights with it before it is too small."""
    scale *= max(0.0, 1.0 - h)
    return scale if scale >= TINY_SCALE else _unscale(w, scale)


@_plain
def _unscale(w, scale):
    """Multiply the scale into the weights; 1, the new one. Scale 0 is zero weights."""
    if scale != 1.0:
        for c in range(w.shape[0]):
            for j in range(np.uintp(w.shape[1])):
                w[c, j] *= scale
    return 1.0


@_fast
def _descend(w, G, scale):
    """v -= G / scale, and G is zero again."""
    factor = 1.0 / scale
    for c in range(w.shape[0]):
        for j in range(np.uintp(w.shape[1])):
            w[c, j] -= factor * G[c, j]
            G[c, j] = 0.0


@_fast
def _descend_along(A, start, w, R, i, scale):
    """v_c -= R[i, c] / scale x, in w's arithmetic."""
    for c in range(w.shape[0]):
        step = w.dtype.type(R[i, c] * (1.0 / scale))
        for j in range(np.uintp(w.shape[1])):
            w[c, j] -= step * A[start + j]


@_plain
def _shift_intercept(b, db, fit_intercept):
    for c in range(b.size):
        if fit_intercept:
            b[c] -= db[c]
        db[c] = 0.0


@_plain
def _add_intercepts(b, intercept_sum):
    for c in range(b.size):
        intercept_sum[c] += b[c]


@_plain
def _add_coefficients(w, coef_sum):
    for c in range(w.shape[0]):
        for j in range(np.uintp(w.shape[1])):
            coef_sum[c, j] += w[c, j]


@_plain
def _pay_l1(w, paid, due):
    """Tsuruoka et al. (2009), section 3.2: each weight pays up to `due`, but not beyond zero."""
    for c in range(w.shape[0]):
        for j in range(np.uintp(w.shape[1])):
            before, q = np.float64(w[c, j]), np.float64(paid[c, j])
            after = before
            if before > 0.0:
                after = before - (due + q)
                after = 0.0 if after < 0.0 else after
            elif before < 0.0:
                after = before + (due - q)
                after = 0.0 if after > 0.0 else after
            w[c, j] = after
            paid[c, j] = q + (after - before)


@_plain
def _proximal_step(w, soft, shrink, h, coef_sum, averaged):
    """w_j <- soft(w_j, h soft_j) / (1 + h shrink_j); the sums of weights take the change in."""
    for c in range(w.shape[0]):
        for j in range(np.uintp(w.shape[1])):
            before = np.float64(w[c, j])
            size = abs(before) - h * soft[j]
            size = 0.0 if size < 0.0 else size / (1.0 + h * shrink[j])
            w[c, j] = size if before > 0.0 else -size
            if averaged:
                coef_sum[c, j] += w[c, j] - before


# CSR: an update touches the entries of its rows alone. What the penalties and the averages do to
# the other weights is made up for when such a weight is next touched, and every TRAIL_LENGTH
# updates. In the scaled space ``v = w / P`` a weight that no row touches moves by L1 alone, and
# all that is needed stands in the trail, of which line k is after update k since the last flush:
#
#     P_k = prod_{i<=k} (1 - h_i l2)                 scale
#     U_k = u_0 + sum_{i<=k} h_i l1                  L1 due in all
#     D_k = sum_{i<=k} h_i l1 / P_i                  L1 due in the scaled space
#     S_k = sum_{i<=k} a_i P_i                       a_i = 1 where update i counts in the average
#     E_k = sum_{i<=k} a_i P_i D_{i-1}

_P, _U, _D, _S, _E = range(5)


@_kernel(lambda f, i, g: [*_csr_types(f, i), *_sgd_types(f, g)])
def _csr_sgd(
    data, indices, indptr,
    y, w, b, order, visits, rates, batch_size, s, l2, l1, fit_intercept, implicit,
    soft, shrink, group, due, paid, skipped, coef_sum, intercept_sum,
):  # fmt: skip
    """As `_dense_sgd`, at the cost of a row's entries: 4 t flops each, and what is overdue.

    A `Prox` has its own shrinkage for each weight, which has no such trail: it touches every
    weight at the end of each group, t d numbers as for a dense X.
    """
    t, d = w.shape
    lazy, batch = l1 > 0.0 or skipped < rates.size, batch_size > 1
    trail = np.zeros((min(rates.size, TRAIL_LENGTH) + 1, 5))
    seen = np.zeros(d if lazy else 0, np.int64)
    G, touched = np.zeros((d, t) if batch else (0, 0)), np.empty(d if batch else 0, np.int64)
    in_batch, at = np.full(d if batch else 0, -1), np.empty(1, np.uintp)
    R, Y, S, db = np.empty((1, t)), np.empty((1, t)), np.empty(1), np.zeros(t)
    return _csr_updates(
        data, indices, indptr, trail, seen, G, touched, in_batch, at, R, Y, S, db,
        y, w, b, order, visits, rates, batch_size, s, l2, l1, fit_intercept, implicit,
        soft, shrink, group, due, paid, skipped, coef_sum, intercept_sum,
    )  # fmt: skip


@_plain
def _csr_updates(
    data, indices, indptr, trail, seen, G, touched, in_batch, at, R, Y, S, db,
    y, w, b, order, visits, rates, batch_size, s, l2, l1, fit_intercept, implicit,
    soft, shrink, group, due, paid, skipped, coef_sum, intercept_sum,
):  # fmt: skip
    """`_csr_sgd` with its work space.

    seen[j] is the line of the trail that weight j has reached (empty: nothing is ever overdue),
    in_batch[j] the last update to touch it, `touched` those of this update.
    """
    trail[0, _P], trail[0, _U] = 1.0, due
    loss, pending, grouped, now = 0.0, 0.0, 0, 0
    for k in range(rates.size):
        first = k * batch_size
        size, n_touched, begin, end = min(batch_size, visits - first), 0, 0, 0
        for visit in range(first, first + size):
            row = _visit(order, visit)
            begin, end = indptr[row], indptr[row + 1]
            _ask_for_entries(data, indices, indptr, y, order, visit)
            if seen.size > 0:
                _catch_up_row(indices, begin, end, w, paid, coef_sum, seen, trail, now)
            _sparse_predict(data, indices, begin, end, w, trail[now, _P], b, R)
            _fetch_targets(y, s, order, visit, 1, Y, S)
            if implicit:
                at[0] = begin
                _dampen(data, at, 0, 1, end - begin, rates[k] / size, fit_intercept, S)
            loss += _steps(R, Y, S, 0, 1, rates[k] / size, db)
            if batch_size > 1:
                _sparse_spread(data, indices, begin, end, R, G)
                n_touched = _note_touched(indices, begin, end, k, in_batch, touched, n_touched)
        now = _next_line(w, paid, coef_sum, seen, trail, now, rates[k], l2, l1, k >= skipped)
        if batch_size > 1:
            _sparse_descend(w, G, touched, n_touched, trail[now, _P])
        else:
            _sparse_descend_along(data, indices, begin, end, w, R, trail[now, _P])
        _shift_intercept(b, db, fit_intercept)
        if k >= skipped:
            _add_intercepts(b, intercept_sum)
        pending += rates[k]
        grouped += size
        if soft.size > 0 and (grouped >= group or first + size == visits):
            _flush(w, paid, coef_sum, seen, trail, now, 1.0)
            _proximal_step(w, soft, shrink, pending, coef_sum, k >= skipped)
            pending, grouped, now = 0.0, 0, 0
    due = trail[now, _U]
    _flush(w, paid, coef_sum, seen, trail, now, 1.0)
    return loss, due


@_plain
def _ask_for_entries(data, indices, indptr, y, order, visit):
    """Prefetch what rows to come in random order hold; rows in order come by themselves."""
    if visit + AHEAD < order.size:
        _prefetch(indptr, np.uintp(order[visit + AHEAD]))
        _prefetch_target(y, order[visit + AHEAD])
    if visit + AHEAD // 2 < order.size:
        row = np.uintp(order[visit + AHEAD // 2])
        begin, count = np.uintp(indptr[row]), indptr[row + np.uintp(1)] - indptr[row]
        count = min(count, MAX_ENTRIES_AHEAD)
        _prefetch_row(data, begin, count + LINE_BYTES // data.itemsize)
        _prefetch_row(indices, begin, count + LINE_BYTES // indices.itemsize)


@_fast
def _sparse_predict(data, indices, begin, end, w, scale, b, P):
    """P[0] = scale x v + b for w of shape (t, d)."""
    for c in range(b.size):
        total = 0.0
        for k in range(np.uintp(begin), np.uintp(end)):
            total += np.float64(data[k]) * w[c, np.uintp(indices[k])]
        P[0, c] = scale * total + b[c]


@_plain
def _note_touched(indices, begin, end, update, in_batch, touched, n_touched):
    """List the weights that this row is the first of its mini-batch to touch."""
    for k in range(begin, end):
        j = indices[k]
        if in_batch[j] != update:
            in_batch[j] = update
            touched[n_touched] = j
            n_touched += 1
    return n_touched


@_plain
def _sparse_descend(w, G, touched, n_touched, scale):
    """v -= G / scale for the touched weights, whose G is zero again."""
    for i in range(n_touched):
        j = np.uintp(touched[i])
        for c in range(w.shape[0]):
            w[c, j] -= G[j, c] / scale
            G[j, c] = 0.0


@_plain
def _sparse_descend_along(data, indices, begin, end, w, R, scale):
    """v_c -= R[0, c] / scale x."""
    for c in range(w.shape[0]):
        step = R[0, c] / scale
        for k in range(np.uintp(begin), np.uintp(end)):
            w[c, np.uintp(indices[k])] -= step * data[k]


@_plain
def _next_line(w, paid, coef_sum, seen, trail, now, h, l2, l1, averaged):
    """Write the trail's line of an update of rate h; flush first where there is no going on."""
    factor = max(0.0, 1.0 - h * l2)
    if now + 1 == trail.shape[0] or trail[now, _P] * factor < TINY_SCALE:
        _flush(w, paid, coef_sum, seen, trail, now, factor)
        now, factor = 0, 1.0
    before, line = trail[now], trail[now + 1]
    a = 1.0 if averaged else 0.0
    line[_P] = before[_P] * factor
    line[_U] = before[_U] + h * l1
    line[_D] = before[_D] + h * l1 / line[_P]
    line[_S] = before[_S] + a * line[_P]
    line[_E] = before[_E] + a * line[_P] * before[_D]
    return now + 1


@_plain
def _flush(w, paid, coef_sum, seen, trail, now, factor):
    """Bring every weight to line `now`, then multiply it by P and `factor`: the trail is at 0."""
    for j in range(seen.size):
        _catch_up(w, paid, coef_sum, j, seen[j], trail, now)
        seen[j] = 0
    _unscale(w, trail[now, _P] * factor)
    due = trail[now, _U]
    trail[0] = 0.0
    trail[0, _P], trail[0, _U] = 1.0, due


@_plain
def _catch_up_row(indices, begin, end, w, paid, coef_sum, seen, trail, now):
    """Bring the weights of a row's entries to line `now`."""
    for k in range(begin, end):
        j = indices[k]
        if seen[j] != now:
            _catch_up(w, paid, coef_sum, j, seen[j], trail, now)
            seen[j] = now


@_plain
def _catch_up(w, paid, coef_sum, j, then, trail, now):
    """Give the weights of feature j what updates then + 1 to now, which had no entry, did to them.

    Such a v of sign z has moved towards 0 by ``taken_i = e + D_i - D_then`` after update i > then,
    where e, scaled, is what it owed before: the first payment settles all that is due.
    It stops at the first i with taken_i >= |v|, which is found by bisection.
    The average took in ``P_i (|v| - taken_{i-1})`` at each i until then.
    """
    if now == then:
        return
    for c in range(w.shape[0]):
        v = np.float64(w[c, j])
        if v == 0.0:
            continue
        last = now
        if paid.size == 0:
            coef_sum[c, j] += v * (trail[last, _S] - trail[then, _S])
            continue
        z = 1.0 if v > 0.0 else -1.0
        size, q = abs(v), np.float64(paid[c, j])
        offset = (trail[then, _U] + z * q) / trail[then + 1, _P] - trail[then, _D]
        if not offset + trail[now, _D] >= size:  # or it is NaN, and stays so
            w[c, j] = z * (size - (offset + trail[now, _D]))
            paid[c, j] = -z * trail[now, _U]
        else:
            last = _reaches_zero(trail, offset, size, then, now)
            if last > then + 1:
                q = -z * trail[last - 1, _U]
                rest = size - (offset + trail[last - 1, _D])
            else:
                rest = size
            w[c, j] = 0.0
            paid[c, j] = q - z * rest * trail[last, _P]
        if coef_sum.size > 0:
            total = size * (trail[last, _S] - trail[then, _S])
            total -= offset * (trail[last, _S] - trail[then + 1, _S])
            total -= trail[last, _E] - trail[then + 1, _E]
            coef_sum[c, j] += z * total


@_plain
def _reaches_zero(trail, offset, size, then, now):
    """The first line i in (then, now] with offset + D_i >= size; `now` is known to be one."""
    low, high = then + 1, now
    while low < high:
        middle = (low + high) // 2
        if offset + trail[middle, _D] >= size:
            high = middle
        else:
            low = middle + 1
    return low


# ----------------------------------------------------------------------------------------------
# sgd_epoch with an optimizer
# ----------------------------------------------------------------------------------------------
#
# The rules of `OptimizerState`, as four loops over the features: "momentum" and "nesterov" differ
# in two factors, "rmsprop" and "adagrad" too, "adam" and "adamw" in where the decay goes.

_SGD, _MOMENTUM, _NESTEROV, _RMSPROP, _ADAGRAD, _ADAM, _ADAMW = map(int, OptimizerRule)
_OPTIMIZER_TYPES = [
    types.intp, *[types.float64] * 4, types.int64,
    _out(types.float64, 2), _out(types.float64, 2), _out(types.float64, 1), _out(types.float64, 1),
]  # fmt: skip


def _optimizer_arguments(o, t: int) -> tuple:
    no_coef, no_intercept = np.empty((t, 0)), np.empty(0)
    return (
        int(o.rule),
        o.beta1,
        o.beta2,
        o.eps,
        o.max_norm,
        o.steps,
        no_coef if o.coef_first is None else o.coef_first,
        no_coef if o.coef_second is None else o.coef_second,
        no_intercept if o.intercept_first is None else o.intercept_first,
        no_intercept if o.intercept_second is None else o.intercept_second,
    )


@_kernel(lambda f, g: [*_dense_types(f), *_sgd_types(f, g, optimizes=True)])
def _dense_optimizer(
    X, flat, offset, stride,
    y, w, b, order, visits, rates, batch_size, s, l2, l1, fit_intercept,
    rule, beta1, beta2, eps, max_norm, steps, u, v, ub, vb,
    due, paid, skipped, coef_sum, intercept_sum,
):  # fmt: skip
    """The updates of an epoch by a rule; returns the loss and the L1 due.

    Reads d numbers a row, from cache the second time; 4 d t flops a row. For each update some
    6 arrays of (t, d) float64 are read or written.
    """
    block, t = _block_rows(X, flat), w.shape[0]
    scratch = np.empty(0 if flat.size > 0 else block * X.shape[1], X.dtype)
    A = flat if flat.size > 0 else scratch
    at = np.empty(block + (AHEAD if order.size > 0 else 0), np.uintp)
    R, Y, S = np.empty((block, t)), np.empty((block, t)), np.empty(block)
    G, db, w64 = np.zeros(w.shape), np.zeros(t), w.astype(np.float64)
    return _dense_optimizer_updates(
        X, flat, offset, stride, A, scratch, at, R, Y, S, G, db, w64,
        y, w, b, order, visits, rates, batch_size, s, l2, l1, fit_intercept,
        rule, beta1, beta2, eps, max_norm, steps, u, v, ub, vb,
        due, paid, skipped, coef_sum, intercept_sum,
    )  # fmt: skip


@_plain
def _dense_optimizer_updates(
    X, flat, offset, stride, A, scratch, at, R, Y, S, G, db, w64,
    y, w, b, order, visits, rates, batch_size, s, l2, l1, fit_intercept,
    rule, beta1, beta2, eps, max_norm, steps, u, v, ub, vb,
    due, paid, skipped, coef_sum, intercept_sum,
):  # fmt: skip
    """`_dense_optimizer` with its work space: A holds the rows; a block has R.shape[0] of them."""
    block, in_order, d = R.shape[0], order.size == 0, w.shape[1]
    ahead = _rows_ahead(A, d, stride) if in_order else at.size - block
    loss, k = 0.0, 0
    size, left = min(batch_size, visits), min(batch_size, visits)  # left of mini-batch k
    for first in range(0, visits, block):
        rows = min(block, visits - first)
        _locate(X, flat, offset, stride, order, first, rows, scratch, at)
        _fetch_targets(y, s, order, first, rows, Y, S)
        i = 0
        while i < rows:
            piece = min(left, rows - i)
            _ask_for_rows(A, at, i, piece, d, stride, ahead, in_order)
            _project(A, at, i, piece, w64, 1.0, b, R, 0)
            loss += _steps(R, Y, S, i, piece, 1.0 / size, db)
            _spread(A, at, i, piece, R, G)
            left -= piece
            i += piece
            if left > 0:
                continue
            due = _optimizer_update(
                w, w64, b, G, db, rates[k], l2, l1, fit_intercept,
                rule, beta1, beta2, eps, max_norm, steps + k + 1, u, v, ub, vb,
                due, paid, k >= skipped, coef_sum, intercept_sum,
            )  # fmt: skip
            k += 1
            size = left = min(batch_size, visits - first - i)
    return loss, due


@_kernel(lambda f, i, g: [*_csr_types(f, i), *_sgd_types(f, g, optimizes=True)])
def _csr_optimizer(
    data, indices, indptr,
    y, w, b, order, visits, rates, batch_size, s, l2, l1, fit_intercept,
    rule, beta1, beta2, eps, max_norm, steps, u, v, ub, vb,
    due, paid, skipped, coef_sum, intercept_sum,
):  # fmt: skip
    """As `_dense_optimizer`: a row costs its entries, an update all (t, d) weights."""
    t = w.shape[0]
    R, Y, S = np.empty((1, t)), np.empty((1, t)), np.empty(1)
    G, db, w64 = np.zeros(w.shape), np.zeros(t), w.astype(np.float64)
    loss = 0.0
    for k in range(rates.size):
        first = k * batch_size
        size = min(batch_size, visits - first)
        for visit in range(first, first + size):
            row = _visit(order, visit)
            begin, end = indptr[row], indptr[row + 1]
            _sparse_predict(data, indices, begin, end, w64, 1.0, b, R)
            _fetch_targets(y, s, order, visit, 1, Y, S)
            loss += _steps(R, Y, S, 0, 1, 1.0 / size, db)
            _sparse_add(data, indices, begin, end, R, G)
        due = _optimizer_update(
            w, w64, b, G, db, rates[k], l2, l1, fit_intercept,
            rule, beta1, beta2, eps, max_norm, steps + k + 1, u, v, ub, vb,
            due, paid, k >= skipped, coef_sum, intercept_sum,
        )  # fmt: skip
    return loss, due


@_plain
def _sparse_add(data, indices, begin, end, R, G):
    """G[c] += R[0, c] x, for G of shape (t, d)."""
    for c in range(G.shape[0]):
        for k in range(np.uintp(begin), np.uintp(end)):
            G[c, np.uintp(indices[k])] += R[0, c] * data[k]


@_plain
def _optimizer_update(
    w, w64, b, G, db, h, l2, l1, fit_intercept,
    rule, beta1, beta2, eps, max_norm, k, u, v, ub, vb,
    due, paid, averaged, coef_sum, intercept_sum,
):  # fmt: skip
    """Update number k of rate h from the gradients G and db, which are zero again; the L1 due."""
    cut = 0.0 if rule == _SGD else h * l1 * _gain(rule, beta1, k)
    for c in range(w.shape[0]):
        gb = db[c] if fit_intercept else 0.0
        clip = _clip_factor(G, c, gb, max_norm)
        _step(w[c], w64[c], G[c], u[c], v[c], clip, h, l2, cut, rule, beta1, beta2, eps, k)
        if fit_intercept:
            one = slice(c, c + 1)
            _step(
                b[one], b[one], db[one], ub[one], vb[one], clip, h, 0.0, 0.0,
                rule, beta1, beta2, eps, k,
            )  # fmt: skip
        db[c] = 0.0
    if averaged:
        _add_coefficients(w, coef_sum)
        _add_intercepts(b, intercept_sum)
    if rule == _SGD and l1 > 0.0:
        due += h * l1
        _pay_l1(w, paid, due)
        for c in range(w.shape[0]):
            for j in range(np.uintp(w.shape[1])):
                w64[c, j] = w[c, j]
    return due


@_plain
def _gain(rule, beta1, k):
    """The sum of the rule's weights on all gradients so far."""
    if rule == _MOMENTUM:
        return (1.0 - beta1**k) / (1.0 - beta1)
    if rule == _NESTEROV:
        return (1.0 - beta1 ** (k + 1)) / (1.0 - beta1)
    return 1.0


@_fast
def _clip_factor(G, c, gb, max_norm):
    if max_norm == np.inf:
        return 1.0
    total = gb * gb
    for j in range(np.uintp(G.shape[1])):
        total += G[c, j] * G[c, j]
    factor = max_norm / (np.sqrt(total) + 1e-6)
    return factor if factor < 1.0 else 1.0


@_plain
def _step(w, w64, g, u, v, clip, h, l2, cut, rule, beta1, beta2, eps, k):
    """The weights of one target (or one intercept) by one update; g is zero again."""
    keep = max(0.0, 1.0 - h * l2) if rule in (_SGD, _ADAMW) else 1.0
    l2 = 0.0 if rule in (_SGD, _ADAMW) else l2
    if rule == _SGD:
        _step_plain(w, w64, g, clip, h, keep)
    elif rule == _MOMENTUM:
        _step_momentum(w, w64, g, u, clip, h, l2, cut, beta1, 0.0, 1.0)
    elif rule == _NESTEROV:
        _step_momentum(w, w64, g, u, clip, h, l2, cut, beta1, 1.0, beta1)
    elif rule == _RMSPROP:
        _step_squares(w, w64, g, v, clip, h, l2, cut, beta2, 1.0 - beta2, eps)
    elif rule == _ADAGRAD:
        _step_squares(w, w64, g, v, clip, h, l2, cut, 1.0, 1.0, eps)
    else:
        h = h / (1.0 - beta1**k)
        root = 1.0 / np.sqrt(1.0 - beta2**k)
        _step_adam(w, w64, g, u, v, clip, h, keep, l2, cut, beta1, beta2, eps, root)


@_fast
def _step_plain(w, w64, g, clip, h, keep):
    for j in range(np.uintp(w.size)):
        w[j] = keep * w64[j] - h * (clip * g[j])
        w64[j] = w[j]
        g[j] = 0.0


@_fast
def _step_momentum(w, w64, g, u, clip, h, l2, cut, beta1, of_gradient, of_moment):
    """u <- beta1 u + g, w <- w - h (of_gradient g + of_moment u)."""
    for j in range(np.uintp(w.size)):
        gj = clip * g[j] + l2 * w64[j]
        u[j] = beta1 * u[j] + gj
        w[j] = _soft(w64[j] - h * (of_gradient * gj + of_moment * u[j]), cut)
        w64[j] = w[j]
        g[j] = 0.0


@_fast
def _step_squares(w, w64, g, v, clip, h, l2, cut, old, new, eps):
    """v <- old v + new g^2, w <- w - h g / (sqrt(v) + eps)."""
    for j in range(np.uintp(w.size)):
        gj = clip * g[j] + l2 * w64[j]
        v[j] = old * v[j] + new * (gj * gj)
        D = np.sqrt(v[j]) + eps
        w[j] = _soft(w64[j] - h * gj / D, cut / D)
        w64[j] = w[j]
        g[j] = 0.0


@_fast
def _step_adam(w, w64, g, u, v, clip, h, keep, l2, cut, beta1, beta2, eps, root):
    """h and root have the corrections of the moments' start at zero."""
    for j in range(np.uintp(w.size)):
        gj = clip * g[j] + l2 * w64[j]
        u[j] = beta1 * u[j] + (1.0 - beta1) * gj
        v[j] = beta2 * v[j] + (1.0 - beta2) * (gj * gj)
        D = np.sqrt(v[j]) * root + eps
        w[j] = _soft(keep * w64[j] - h * u[j] / D, cut / D)
        w64[j] = w[j]
        g[j] = 0.0


@_plain
def _soft(z, cut):
    """z less its part within +-cut: a NaN stays one."""
    low = z if z > -cut else -cut
    return z - (low if low < cut else cut)
