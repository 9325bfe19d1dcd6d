"""The contract compiled by Numba: for machines where the C library could not be built.

One file per family of kernels, with the names of csrc/*.inc:

* `loss_gradient`, `predict`, `gram`, `segments`: each with its entry point and its kernels.
* `sgd_epoch`: the entry point of an epoch, which picks a kernel of `sgd_dense`, `sgd_sparse` or
  `sgd_optimizer`; `sgd` has what these share.
* `rows`: rows of X wherever they lie, and the two halves of a pass over them; `prefetch`.
* `compile`: options, declared types and the cache on disk; `threads`: the pool.

What to know before changing them:

* Each kernel is compiled once per dtype, with declared types: inputs are read-only and of any
  layout, so C, F, strided and read-only arrays all meet the same machine code.
* A diverging run must show: fastmath never holds nnan or ninf, and as ``max(0, NaN)`` is 0 in
  Numba, numbers are cut off by comparisons that NaN fails.
* The entry of a kernel takes its arguments one by one and packs them into tuples, whose fields
  LLVM keeps in registers; its helpers take those tuples.
"""

from __future__ import annotations

from .compile import isa
from .gram import gram
from .loss_gradient import loss_gradient
from .predict import predict
from .segments import MAKES_WINDOWS, fit_segments
from .sgd_epoch import sgd_epoch, sgd_epochs

__all__ = [
    "MAKES_WINDOWS",
    "SUMS_ARE_SPLIT",
    "fit_segments",
    "gram",
    "isa",
    "loss_gradient",
    "predict",
    "sgd_epoch",
    "sgd_epochs",
]

SUMS_ARE_SPLIT = False
