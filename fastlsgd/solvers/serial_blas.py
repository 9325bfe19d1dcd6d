"""BLAS and LAPACK on one thread in fits, and on as many as they like in long decompositions.

OpenBLAS divides even the eigenvectors of a 50 x 50 matrix among threads, which wait for one another
by spinning in each of many steps. On two processors with one busy process beside it, that takes
100 ms in place of 0.6; a lasso of 200 x 1,000 took 720 ms in place of 4, a ridge 1,260 in place of
3, and a default SGDRegressor of 1,000 x 300 410 in place of 6. They also spin after the last step,
for some 25 ms, and hold up the threads of the kernels. So BLAS has one thread in a fit. Large
products are divided among threads that sleep while they wait (`threaded_products.py`); only
decompositions of large matrices get the threads of BLAS back.

threadpoolctl finds the libraries, once. Its context managers take some 100 microseconds, which is
longer than a small fit; so the numbers of threads are set through its controllers here. Where they
belong to the whole process, as in OpenBLAS, BLAS calls that another Python thread makes meanwhile
have one thread too.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any
from weakref import ReferenceType, ref

from .._threads import FEW_LAPACK_PRODUCTS, is_small
from ..kernels.contract import Matrix

# Libraries, and how many threads they had before `serial_blas`. Threads that carry the context of
# the one that entered it know that too.
_found: ContextVar[tuple[tuple[Any, int], ...]] = ContextVar("_found", default=())


class _Outermost(threading.local):
    """The thread's `serial_blas` that is not within another one."""

    found: ReferenceType[serial_blas] | None = None


_outermost = _Outermost()


class serial_blas:
    """A context manager that may be within another one, of the same or of another thread.

    Whichever thread finds more than one sets them to one, and sets them back. So it does not matter
    whether a library counts for each thread (OpenMP) or for the process, nor how threads overlap.

    Ctrl-C may come while it is entered or left, even before the first line of `__exit__`. Python
    then lets go of the object, which sets the numbers back. A count of those entered stayed wrong
    after one in 20 interrupted small fits.
    """

    __slots__ = ("__weakref__", "before", "found")

    def __init__(self) -> None:
        self.found: list[tuple[Any, int]] = []
        self.before: tuple[tuple[Any, int], ...] = ()

    def __enter__(self) -> None:
        outermost = _outermost.found
        if outermost is not None and outermost() is not None:
            return
        _outermost.found, self.before = ref(self), _found.get()
        try:
            for library in _libraries():
                n_threads = library.get_num_threads()
                if n_threads is not None and n_threads > 1:
                    self.found.append((library, n_threads))
                    library.set_num_threads(1)
            if self.found:
                _found.set(tuple(self.found))
        except BaseException:
            self._leave()
            raise

    def __exit__(self, *error: object) -> None:
        outermost = _outermost.found
        if outermost is None or outermost() is not self:
            return
        try:
            self._leave()
        except BaseException:
            self._leave()
            raise

    def __del__(self) -> None:
        if self.found:
            self._set_back()

    def _leave(self) -> None:
        if self.found:
            self._set_back()
        _outermost.found = None

    def _set_back(self) -> None:
        for library, n_threads in self.found:
            library.set_num_threads(n_threads)
        # threadpoolctl (3.8) lets only one thread set OpenBLAS's numbers. It is let go of after the
        # last of them: before, another thread that found the rest at one kept them there.
        for library, _ in self.found:
            getattr(library, "clear_controlling_thread", _nothing)()
        _found.set(self.before)
        self.found = []


def _nothing() -> None:
    pass


@cache
def _libraries() -> list[Any]:
    """The controllers of the BLAS libraries that NumPy and SciPy have loaded."""
    import scipy.linalg  # noqa: F401 - loads SciPy's BLAS
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas").lib_controllers


def blas_for_decomposition(A: Matrix) -> AbstractContextManager[None]:
    """Return the context for QR and eigenvectors of A: BLAS has one thread where they are quick."""
    return serial_blas() if is_small(A.shape, 1, FEW_LAPACK_PRODUCTS) else _threads_of_before()


def blas_threads() -> int:
    """How many threads BLAS may have outside `serial_blas`: by its settings, or threadpoolctl's."""
    found = [n_threads for _, n_threads in _found.get()]
    return max(found or [library.get_num_threads() or 1 for library in _libraries()], default=1)


@contextmanager
def _threads_of_before() -> Iterator[None]:
    """Set the numbers of threads that `serial_blas` found, for the block."""
    found = _found.get()
    for library, n_threads in found:
        library.set_num_threads(n_threads)
    try:
        yield
    finally:
        for library, _ in found:
            library.set_num_threads(1)
