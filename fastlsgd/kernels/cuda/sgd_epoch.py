"""The contract's `sgd_epoch`: which kernels make an epoch, and the state before and after.

One launch does all updates of a block of rows. There are three ways:

==============================================  ====================================================
dense, no L1 and no optimizer, small batches    `sgd_blocks`: one multiprocessor goes from block to
                                                block of rows, with matrices that all others prepare
dense, the rest                                 `sgd_dense`: many blocks of threads that meet twice
                                                per update, or one where an update is small
CSR                                             `sgd_sparse`: one block of threads
==============================================  ====================================================

With an optimizer, the last two take their kernels from `sgd_optimizer`.
"""

from __future__ import annotations

from ..contract import CSR, Epoch, Epochs, SGDState, epochs_by_calls, rows_per_group
from . import sgd_blocks, sgd_dense, sgd_sparse
from .blocks import blocks
from .context import lock, on_device_of
from .rows import matrix_of, stream_for
from .sgd import EpochOnDevice
from .sgd_optimizer import OptimizerArrays


def sgd_epoch(X, y, w, b, sample_weight, epoch: Epoch, state: SGDState, n_threads) -> float:
    """The contract's `sgd_epoch`."""
    with lock, on_device_of(matrix_of(X)):
        stream = stream_for(X, y, sample_weight, epoch.order)
        descent = EpochOnDevice.begin(w, b, epoch, state, stream)
        optimizer = None
        if state.optimizer is not None:
            optimizer = OptimizerArrays.begin(state.optimizer, w.shape[0], w.shape[1], stream)
        run, multiple = _way(X, descent, len(epoch.rates), w.shape, optimizer)
        for block in blocks(X, y, sample_weight, stream, epoch.order, multiple, packed=True):
            run(block, descent, block.first // epoch.batch_size, len(b), optimizer)
        if state.optimizer is not None and optimizer is not None:
            optimizer.end(state.optimizer, len(epoch.rates), stream)
        return descent.end(w, b, epoch, state, stream)


def sgd_epochs(X, y, w, b, sample_weight, epoch: Epoch, state, n_threads) -> Epochs:
    """The contract's `sgd_epochs`."""
    data = X, y, w, b, sample_weight
    return epochs_by_calls(sgd_epoch, data, epoch, state, n_threads)


def _way(X, descent: EpochOnDevice, updates: int, shape, optimizer):
    """The function that updates along a block of rows, and what its number of rows is to divide."""
    t, d = shape
    if isinstance(X, CSR):
        return sgd_sparse.run, rows_per_group(descent.batch)
    if optimizer is None and sgd_blocks.suits(descent, updates, d, t):
        return sgd_blocks.run, sgd_blocks.rows_of_block(descent)
    return sgd_dense.run, rows_per_group(descent.batch)
