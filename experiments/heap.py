"""The C library's heap, tuned for programs that allocate the same large blocks at every step."""

import ctypes
import sys

# Names and numbers of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Keeps freed memory in the process instead of giving it back to the kernel.

    XLA's CPU backend allocates the temporaries of a step as one block and frees it afterwards; the
    kernel then maps and zeroes every page of it again in the next step. Call it before jax starts
    its threads.

    Returns:
      Whether it took effect: only with glibc, that is on most Linux systems.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    # Threads past the main one have small arenas and would map large blocks after all.
    return all(
        libc.mallopt(parameter, value) == 1
        for parameter, value in ((M_ARENA_MAX, 1), (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1))
    )
