"""Gives memory back that was needed for a moment only."""

import contextlib
import ctypes
import gc


def settle() -> None:
    """To be called when a configuration has been taken: what it took to read it is garbage now, and what it left stays.

    The collector need not look again and again through what stays. Reading a baseline takes megabytes for a moment,
    which glibc would keep for good, being in the midst of what is in use; other libraries give back by themselves.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
