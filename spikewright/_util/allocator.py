"""What the C library does with memory that was freed."""

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def reuse_freed_memory() -> bool:
    """Let this process keep freed memory for its next tensors, instead of handing it back to the operating system.

    A training step on the CPU frees and asks for the same large blocks over and over; faulting their pages in anew each
    time can take longer than computing on them.  The process then holds the largest amount it ever needed.  For the
    whole process, and for glibc only.

    Returns:
        Whether it took effect.
    """
    import ctypes
    import platform

    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    # No block gets a mapping of its own, which would be undone when it is freed, and the heap never shrinks.
    return bool(libc.mallopt(_MMAP_MAX, 0) and libc.mallopt(_TRIM_THRESHOLD, _NEVER))
