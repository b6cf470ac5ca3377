"""How the C library treats freed memory: a choice of the program, never of a library at import."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's malloc.h


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory for the next tensor instead of returning it at once.

    A network frees and allocates tensors of the same sizes over and over. Left alone, glibc maps
    every tensor above 32 MiB anew and trims its heap in between, and the system clears each page
    again: 1.7 million page faults and a quarter of the CPU time of one SEM-Net pass at 256x256. In
    return the process holds its peak until it ends. Meant for the entry points of programs.

    Returns:
        Whether it worked; False where the C library is not glibc (macOS, Windows, musl).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
