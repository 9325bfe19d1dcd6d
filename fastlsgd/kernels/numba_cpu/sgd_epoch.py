"""The entry points of epochs: which kernel makes it, and the state before and after."""

from __future__ import annotations

import numpy as np

from ..contract import CSR, Epoch, Epochs, Matrix, SGDState, epochs_by_calls
from .rows import dense
from .sgd import proximal_arguments, sgd_arguments
from .sgd_dense import dense_sgd
from .sgd_optimizer import csr_optimizer, dense_optimizer, optimizer_arguments
from .sgd_sparse import csr_sgd


def sgd_epoch(
    X: Matrix,
    y: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    sample_weight: np.ndarray | None,
    epoch: Epoch,
    state: SGDState,
    n_threads: int,
) -> float:
    """The contract's `sgd_epoch`, in the calling thread: each update needs the one before."""
    optimizer, n_updates = state.optimizer, len(epoch.rates)
    matrix: tuple
    if isinstance(X, CSR):
        kernel = csr_sgd if optimizer is None else csr_optimizer
        compiled = kernel[X.dtype, X.indices.dtype, y.dtype]
        matrix = X.data, X.indices, X.indptr
    else:
        kernel = dense_sgd if optimizer is None else dense_optimizer
        compiled, matrix = kernel[X.dtype, y.dtype], dense(X)
    own: tuple
    if optimizer is None:
        own = proximal_arguments(epoch, w.dtype)
    else:
        own = optimizer_arguments(optimizer, len(b))
    arguments = sgd_arguments(X, y, w, b, sample_weight, epoch, state)
    loss, state.l1_due = compiled(*matrix, *arguments, *own)
    if state.average_after is not None:
        skipped = min(state.average_after, n_updates)
        state.average_after -= skipped
        state.n_summed += n_updates - skipped
    if optimizer is not None:
        optimizer.steps += n_updates
    return loss


def sgd_epochs(X, y, w, b, sample_weight, epoch: Epoch, state, n_threads) -> Epochs:
    """The contract's `sgd_epochs`."""
    data = X, y, w, b, sample_weight
    return epochs_by_calls(sgd_epoch, data, epoch, state, n_threads)
