"""BLAS on one thread, for products too small to share.

NumPy's BLAS wakes a thread for every core, and these spin for a while after their work is done:
just when the sampling loop needs the cores.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# The limit is the process's, and only the thread that set it can lift it: one at a time.
_lock = threading.Lock()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS to one thread inside; callers in other threads wait.

    Without threadpoolctl, which the extras of the backends bring, nothing is changed: results are
    the same, only slower to come.
    """
    controller = _controller()
    if controller is None:
        yield
        return
    with _lock, controller.limit(limits=1, user_api="blas"):
        yield


@functools.cache
def _controller() -> Any:
    try:
        from threadpoolctl import ThreadpoolController
    except ModuleNotFoundError:
        return None
    return ThreadpoolController()
