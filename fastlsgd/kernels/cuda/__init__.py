"""The contract on a GPU, compiled by Numba CUDA: for X in the device's memory, or streamed there.

One file per family of kernels, with the names of the CPU backend's: `loss_gradient`, `predict`,
`gram`, `segments` (with `double_double`), `sgd_dense`, `sgd_sparse`, `sgd_optimizer`; `sgd_epoch`
chooses among the last three. Only a GPU needs `sgd_blocks`, with `sgd_triangles` and `sgd_chain`
for its two kernels, `centred_rows` and `column_moments`. What they share is in `compile`, `context`
(device, streams), `memory`, `transfer`, `rows`, `gather`, `blocks`, `warp`, `lanes`, `products` and
`sgd`.

What to know before changing these files:

* X, y, weights and order may be arrays on the device (`device.DeviceArray`) or on the host. w, b
  and the state are small and always on the host; a call takes them there and back, and returns when
  the device is done.
* Sums are float64, also where X is float32. A Hopper multiprocessor converts 16 numbers and does
  64 float64 multiply-adds per cycle, while memory brings it about 4 float32, so that this costs
  nothing. On consumer cards, with 2 of each, float32 data come at about half of the memory's speed.
* Every reduction has one order, which depends on shapes and the launch alone: no floating-point
  atomics. The results of the same call on the same device are the same bits.
* A kernel takes flat arguments, and packs them into the tuples that device functions take on its
  first lines. These are inlined; the tuples cost nothing.
"""

from .centred_rows import centred_rows
from .column_moments import column_moments
from .context import build_info, isa
from .gather import copy_to_host, take
from .gram import gram
from .loss_gradient import SUMS_ARE_SPLIT, loss_gradient
from .memory import free_workspace
from .predict import predict
from .segments import MAKES_WINDOWS, fit_segments
from .sgd_epoch import sgd_epoch, sgd_epochs
from .transfer import copy_to_device, to_numba_array

__all__ = [
    "MAKES_WINDOWS",
    "SUMS_ARE_SPLIT",
    "build_info",
    "column_moments",
    "copy_to_device",
    "copy_to_host",
    "fit_segments",
    "free_workspace",
    "gram",
    "isa",
    "loss_gradient",
    "predict",
    "sgd_epoch",
    "sgd_epochs",
    "take",
    "to_numba_array",
    "centred_rows",
]
